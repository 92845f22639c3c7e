# %% [markdown]
# # MNIST from scratch
# One hidden layer of 128 units reads handwritten digits: more than 97.5 % of the test images are right after 15 epochs.
# Then we look at what it has learned and where it fails, check its gradients, and do all exercises: wider, deeper,
# other activations, penalties, dropout, schedules.

# %%
import time

import matplotlib.pyplot as plt
import numpy as np

from fastmlp import MLP, check_gradients, datasets, fit_many, plots, reference

# %% [markdown]
# ## The data

# %%
X_train, y_train, X_test, y_test = datasets.load_mnist()
print(f"{len(X_train):,} images for training, {len(X_test):,} for tests, {X_train.shape[1]} pixels each")
plots.samples(X_train, y_train, n=30)

# %% [markdown]
# ## Training
# Minibatches of 64 images, plain gradient descent with a learning rate of 0.1.

# %%
net = MLP([784, 128, 10], activation="relu", init="he", seed=0)
start = time.perf_counter()
history = net.fit(
    X_train, y_train, epochs=15, batch_size=64, learning_rate=0.1, validation_data=(X_test, y_test), progress=True
)
seconds = time.perf_counter() - start
test_accuracy = net.score(X_test, y_test)
print(f"test accuracy {test_accuracy:.4f} after {seconds:.2f} s; in the first run this includes compilation")

# %%
net

# %%
plots.learning_curves(history)

# %% [markdown]
# ## Where it fails
# Each row of the matrix is a digit, each column a guess. Beside it are the most common confusions.

# %%
plots.confusion_matrix(net, X_test, y_test)

# %% [markdown]
# The wrong guesses of which the network is surest. Some would puzzle a human, too.

# %%
plots.wrong_guesses(net, X_test, y_test)

# %% [markdown]
# ## What it has learned
# The weights from the pixels to each of the 128 hidden units. Ink where it is red switches the unit on, where it is
# blue off. Most units look for strokes and their ends. The corners are noise: no ink, so nothing to learn.

# %%
plots.weights(net)

# %% [markdown]
# ## Are the gradients right?
# Backpropagation for one hidden layer is a few lines of NumPy. With the outputs $p$ of a softmax and one-hot targets
# $t$, the gradient at the outputs is $p - t$, and the chain rule does the rest. We compare it with the compiled one.

# %%
X, y = X_train[:64].astype(np.float64), y_train[:64]
(W1, W2), (b1, b2) = ([p.astype(np.float64) for p in of_all] for of_all in (net.weights, net.biases))
hidden = np.maximum(X @ W1 + b1, 0)
z = hidden @ W2 + b2
p = np.exp(z - z.max(axis=1, keepdims=True))
p /= p.sum(axis=1, keepdims=True)
d2 = (p - np.eye(10)[y]) / len(y)
d1 = (d2 @ W2.T) * (hidden > 0)
_, (dW1, dW2), (db1, db2) = net.gradients(X.astype(np.float32), y)
pairs = ((X.T @ d1, dW1), (hidden.T @ d2, dW2), (d1.sum(axis=0), db1), (d2.sum(axis=0), db2))
kernel_difference = max(abs(by_hand - compiled).max() / abs(by_hand).max() for by_hand, compiled in pairs)
print(f"by hand in float64 against compiled in float32: {kernel_difference:.0e} of the largest entry")

# %% [markdown]
# A formula may be wrong in both. The difference quotient $(L(w + h) - L(w - h)) / 2h$ knows no formula: it only
# evaluates the loss. `check_gradients` compares 20 parameters of each array in float64. This takes a network with a
# smooth activation, since ReLU has a kink at 0, where there is no derivative.

# %%
smooth = reference.MLP([784, 32, 10], activation="tanh", seed=0)
quotient_difference = check_gradients(smooth, X_train[:64], y_train[:64])
print(f"against difference quotients: {quotient_difference:.0e}")

# %% [markdown]
# ## The exercises
# Each changes one thing. `fit_many` trains all of them at the same time, 5 epochs each.

# %%
base = {"layers": [784, 128, 10], "seed": 0}
exercises = {  # what is different in the network, and in its fit
    "as above": ({}, {}),
    "wider: 256 units": ({"layers": [784, 256, 10]}, {}),
    "deeper: 128 and 64 units": ({"layers": [784, 128, 64, 10]}, {}),
    "tanh": ({"activation": "tanh", "init": "xavier"}, {}),
    "sigmoid": ({"activation": "logistic", "init": "xavier"}, {}),
    "L2 penalty 1e-4": ({"l2": 1e-4}, {}),
    "dropout 0.2": ({"dropout": 0.2}, {}),
    "momentum 0.9, rate 0.03": ({}, {"optimizer": "momentum", "learning_rate": 0.03}),
    "Adam, rate 0.001": ({}, {"optimizer": "adam", "learning_rate": 0.001}),
    "cosine from 0.3": ({}, {"schedule": "cosine", "learning_rate": 0.3}),
    "one-cycle to 0.5": ({}, {"schedule": "one_cycle", "learning_rate": 0.5}),
}
nets = [MLP(**base | network) for network, _ in exercises.values()]
fits = [{"learning_rate": 0.1} | fit for _, fit in exercises.values()]
histories = fit_many(
    nets, X_train, y_train, fits=fits, epochs=5, batch_size=64, validation_data=(X_test, y_test), progress=True
)

# %%
print(f"{'':28}{'parameters':>11}{'train loss':>12}{'test loss':>11}{'test accuracy':>15}{'seconds':>9}")
table = {}
for name, tried, curve in zip(exercises, nets, histories, strict=True):
    table[name] = curve.val_accuracy[-1]
    print(
        f"{name:28}{tried.n_parameters:11,}{curve.loss[-1]:12.4f}{curve.val_loss[-1]:11.4f}{table[name]:15.4f}"
        f"{sum(curve.seconds):9.2f}"
    )

# %%
curves = dict(zip(exercises, histories, strict=True))
chosen = ("as above", "sigmoid", "dropout 0.2", "Adam, rate 0.001", "one-cycle to 0.5")
plots.learning_curves({name: curves[name] for name in chosen})
plt.show()
