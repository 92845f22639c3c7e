"""Overfitting on purpose: a network memorizes 1,600 images, and 400 others show how little that helps.

784-128-64-10 on 2,000 images of MNIST, split 80/20, batches of 32, SGD 0.1, 100 epochs. Training accuracy is 100 %.
"""

import numpy as np

from fastmlp import MLP, datasets


def main() -> dict[str, float]:
    """Train, print and return the accuracy and loss of both parts."""
    images, labels, _, _ = datasets.load_mnist()
    sample = np.random.default_rng(0).choice(len(images), size=2_000, replace=False)
    train, held_out = sample[:1_600], sample[1_600:]

    net = MLP([784, 128, 64, 10], activation="relu", init="he", seed=0)
    net.fit(images[train], labels[train], epochs=100, batch_size=32, learning_rate=0.1)

    figures = {}
    for part, rows in (("train", train), ("held_out", held_out)):
        for name, value in net.evaluate(images[rows], labels[rows]).items():
            figures[f"{part}_{name}"] = value
            print(f"{part.replace('_', ' ')} {name}: {value:.4f}")
    return figures


if __name__ == "__main__":
    main()
