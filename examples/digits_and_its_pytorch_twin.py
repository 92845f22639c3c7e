# %% [markdown]
# # Digits, and its twin in PyTorch
# A small network learns 1,797 digits of 8 x 8 pixels. A twin in PyTorch starts with the same weights, makes the same
# steps, and ends with the same answers.
#
# The images come with scikit-learn. The parts with PyTorch are skipped where it is missing (`pip install torch`).

# %%
import time

import matplotlib.pyplot as plt

from fastmlp import MLP, History, datasets, plots

try:
    import torch
except ImportError:
    torch = None

# %% [markdown]
# ## The data
# 80 % of the images train, 20 % test. A pixel is a number from 0 to 1.

# %%
X_train, y_train, X_test, y_test = datasets.load_digits()
print(X_train.shape, X_test.shape)
plots.samples(X_train, y_train, n=20)

# %% [markdown]
# ## Two networks with the same first weights
# `to_torch` returns an `nn.Sequential` with copies of the parameters.

# %%
net = MLP([64, 32, 10], activation="relu", init="he", seed=0)
net.summary()
if torch is not None:
    twin = net.to_torch()
    print(twin)

# %% [markdown]
# ## Training
# Each step uses all images (full batch), so there is no order of rows in which the two could differ.

# %%
EPOCHS, RATE = 1_000, 0.1
start = time.perf_counter()
history = net.fit(X_train, y_train, epochs=EPOCHS, batch_size=len(X_train), learning_rate=RATE, progress=True)
print(f"fastmlp: {time.perf_counter() - start:.2f} s; in the first run this includes compilation")

# %% [markdown]
# In PyTorch we write the loop ourselves: outputs, loss, gradients, step.

# %%
histories = {"fastmlp": history}
if torch is not None:
    images, labels = torch.from_numpy(X_train), torch.from_numpy(y_train)
    optimizer, histories["PyTorch"] = torch.optim.SGD(twin.parameters(), lr=RATE), History()
    twin.train()
    torch.set_num_threads(1)  # so little work is slower in several threads
    start = time.perf_counter()
    for _ in range(EPOCHS):
        outputs = twin(images)
        loss = torch.nn.functional.cross_entropy(outputs, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        accuracy = (outputs.argmax(dim=1) == labels).float().mean()
        histories["PyTorch"].append(loss=loss.item(), accuracy=accuracy.item())
    print(f"PyTorch: {time.perf_counter() - start:.2f} s")

# %% [markdown]
# The curves lie on one another.

# %%
plots.learning_curves(histories)

# %% [markdown]
# ## How well they do
# The twins differ by rounding errors alone: each adds the same float32 numbers in an order of its own.

# %%
train_accuracy, test_accuracy = net.score(X_train, y_train), net.score(X_test, y_test)
print(f"accuracy {train_accuracy:.4f} in training, {test_accuracy:.4f} in the test")
if torch is not None:
    twin.eval()
    with torch.no_grad():
        p = twin(torch.from_numpy(X_test)).softmax(dim=1).numpy()
    difference = abs(p - net.predict_proba(X_test)).max()
    print(f"same guesses: {(p.argmax(axis=1) == net.predict(X_test)).mean():.2%}; ", end="")
    print(f"probabilities differ by at most {difference:.0e}")

# %%
plots.confusion_matrix(net, X_test, y_test)

# %% [markdown]
# The wrong guesses, the surest first; and of all guesses, whether the network is right as often as it believes.

# %%
plots.wrong_guesses(net, X_test, y_test)
plots.calibration(net, X_test, y_test)

# %% [markdown]
# ## What the hidden units look for
# The weights of one hidden unit form an image, too. Ink where it is red switches the unit on, where it is blue off.

# %%
plots.weights(net)
plt.show()
