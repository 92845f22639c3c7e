"""Digits of scikit-learn: 64-32-10, full batch, SGD 0.1, 1,000 epochs. Test accuracy is above 95.5 %.

1,797 images of 8x8 pixels, split 80/20 with ``random_state=42``. Needs scikit-learn for the images.
"""

from fastmlp import MLP, datasets


def main() -> dict[str, float]:
    """Train, print and return the training and test accuracy."""
    x_train, y_train, x_test, y_test = datasets.load_digits()
    net = MLP([64, 32, 10], activation="relu", init="he", seed=0)
    net.fit(x_train, y_train, epochs=1_000, batch_size=len(x_train), learning_rate=0.1)

    figures = {"train_accuracy": net.score(x_train, y_train), "test_accuracy": net.score(x_test, y_test)}
    for name, value in figures.items():
        print(f"{name.replace('_', ' ')}: {value:.4f}")
    return figures


if __name__ == "__main__":
    main()
