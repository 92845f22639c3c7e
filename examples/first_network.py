# %% [markdown]
# # A first network
# A network with two hidden layers learns to read handwritten digits from 5,000 images, in about a second.

# %%
import matplotlib.pyplot as plt
import numpy as np

from fastmlp import MLP, datasets, plots

# %% [markdown]
# ## The data
# MNIST has 60,000 images for training and 10,000 for tests. An image of 28 x 28 pixels is a row of 784 numbers from 0
# (paper) to 1 (ink), and `y` has its digit. A random sample of 5,000 images is enough for a start.

# %%
X, y, X_test, y_test = datasets.load_mnist()
sample = np.random.default_rng(0).choice(len(X), size=5_000, replace=False)
X, y = X[sample], y[sample]
print(X.shape, X.dtype, y[:10])
plots.samples(X, y, n=20)

# %% [markdown]
# ## The network
# 784 inputs, hidden layers of 128 and 64 units, and one output for each digit. Each unit has a weight for every unit
# of the layer before, and a bias.

# %%
net = MLP([784, 128, 64, 10], activation="relu", init="he", seed=0)
net.summary()

# %% [markdown]
# ## Training
# An epoch is one pass over all images. After every 32 of them the weights move a small step (0.1 times the gradient)
# in the direction that lowers the loss. The test images only measure: the network never learns from them.

# %%
history = net.fit(X, y, epochs=20, batch_size=32, learning_rate=0.1, validation_data=(X_test, y_test), progress=True)

# %%
plots.learning_curves(history)

# %% [markdown]
# The training loss falls towards zero, while that of the test images soon stops to improve: from then on the network
# learns its 5,000 images by heart.

# %% [markdown]
# ## Overfitting on purpose
# With fewer images and more epochs this is extreme. Of 2,000 images, 1,600 train and 400 do not. The network memorizes
# the 1,600, every one of them. On the other 400 its loss is more than ten times as large, since the mistakes it still
# makes are made with great confidence.

# %%
memorizer = MLP([784, 128, 64, 10], activation="relu", init="he", seed=0)
overfit = memorizer.fit(
    X[:1_600], y[:1_600], epochs=100, batch_size=32, learning_rate=0.1,
    validation_data=(X[1_600:2_000], y[1_600:2_000]), progress=True,
)  # fmt: skip
train, held_out = memorizer.evaluate(X[:1_600], y[:1_600]), memorizer.evaluate(X[1_600:2_000], y[1_600:2_000])
print(f"{'':16}{'loss':>8}{'accuracy':>10}")
print(f"{'trained on':16}{train['loss']:8.4f}{train['accuracy']:10.4f}")
print(f"{'held out':16}{held_out['loss']:8.4f}{held_out['accuracy']:10.4f}")
plots.learning_curves(overfit)

# %% [markdown]
# ## Predictions
# The outputs are probabilities, one for each digit. The largest is the guess, and says how sure the network is.

# %%
test_accuracy = net.score(X_test, y_test)
print(f"right in {test_accuracy:.1%} of the test images")
rows = np.arange(20)
probabilities = net.predict_proba(X_test[rows])
guesses, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
for row in rows:
    mark = "" if guesses[row] == y_test[row] else f"   wrong, it is a {y_test[row]}"
    print(f"image {row:2}: {guesses[row]}, {confidence[row]:7.2%} sure{mark}")
said = [f"{guesses[row]}" if guesses[row] == y_test[row] else f"{guesses[row]} not {y_test[row]}" for row in rows]
plots.samples(X_test[rows], [f"{said[row]}: {confidence[row]:.0%}" for row in rows], n=len(rows))
plt.show()
