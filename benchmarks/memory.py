"""How much memory `fit` takes on float32 MNIST, beyond the data: the peak of the process, from the system.

python -m benchmarks.memory
"""

import resource
import sys

from fastmlp import MLP, datasets


def peak_megabytes():
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def main():
    X, y, X_test, y_test = datasets.load_mnist()
    MLP([784, 128, 10]).fit(X[:64], y[:64], epochs=1)  # compiles
    before = peak_megabytes()
    net = MLP([784, 128, 10])
    net.fit(X, y, epochs=1, validation_data=(X_test, y_test))
    print(f"X {X.nbytes / 1e6:.0f} MB; peak before fit {before:.0f} MB, after {peak_megabytes():.0f} MB")


if __name__ == "__main__":
    main()
