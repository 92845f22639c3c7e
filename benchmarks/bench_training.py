"""Training epochs on all 60,000 rows of MNIST, with the kernels and with plain NumPy."""

import numpy as np

from .suite import IMPLEMENTATIONS, Benchmark, OnMnist, best_epoch, check_accuracy, only, part, warm_up, without_zeros
from .text import bag_of_words


class Epoch(OnMnist):
    """Seconds of the fastest of some epochs. Checking and packing the rows, which comes first, is not counted."""

    unit = "seconds"
    layers, network, settings = (784, 128, 10), {}, {"batch_size": 64, "learning_rate": 0.1}

    def measure(self, data, implementation):
        X, y, *_ = data
        make = IMPLEMENTATIONS[implementation]
        warm_up(lambda: make(self.layers, **self.network), X, y, **self.settings)
        epochs = 4 if implementation == "fastmlp" else 2
        return best_epoch(make(self.layers, **self.network), X, y, epochs, **self.settings)


class BatchSize(Epoch):
    param_names = ["implementation", "batch size"]
    params = [list(IMPLEMENTATIONS), [16, 64, 256, 1024]]

    def track_epoch(self, data, implementation, batch_size):
        self.settings = {"batch_size": batch_size, "learning_rate": 0.1 if batch_size < 1024 else 0.5}
        return self.measure(data, implementation)


class Width(Epoch):
    param_names = ["implementation", "hidden units"]
    params = [list(IMPLEMENTATIONS), [32, 128, 512]]

    def track_epoch(self, data, implementation, n_hidden):
        self.layers = (784, n_hidden, 10)
        return self.measure(data, implementation)


class Depth(Epoch):
    param_names = ["implementation", "hidden layers"]
    params = [list(IMPLEMENTATIONS), [1, 2, 4]]

    def track_epoch(self, data, implementation, n_hidden):
        self.layers = (784, *[128] * n_hidden, 10)
        return self.measure(data, implementation)


class Threads(Epoch):
    param_names = ["threads"]
    params = [[1, 2, 4, 8]]

    def setup(self, data, n_threads):
        only(n_threads <= part("engine.cores", "engine.threads", "threads").available_threads())
        self.network = {"n_threads": n_threads}

    def track_epoch(self, data, n_threads):
        return self.measure(data, "fastmlp")


class Activation(Epoch):
    param_names = ["activation"]
    params = [["relu", "logistic", "gelu"]]

    def track_epoch(self, data, activation):
        self.network = {"activation": activation, "init": "xavier" if activation == "logistic" else "he"}
        return self.measure(data, "fastmlp")


class Rows(Epoch):
    """The same images in every format of rows. A fifth of their pixels is not zero."""

    param_names = ["implementation", "rows"]
    params = [list(IMPLEMENTATIONS), ["float32", "float32 without zeros", "float64", "uint8", "csr"]]

    def setup(self, data, implementation, rows):
        only(implementation == "fastmlp" or rows in ("float32", "float64"))
        self.network = {"dtype": "float64" if rows == "float64" else "float32"}
        if rows == "uint8":
            self.network["input_scale"] = 1 / 255

    def track_epoch(self, data, implementation, rows):
        X, *others = data
        if rows == "uint8":
            X = np.rint(255 * X).astype(np.uint8)
        elif rows == "csr":
            import scipy.sparse

            X = scipy.sparse.csr_matrix(X)
        elif rows == "float64":
            X = X.astype(np.float64)
        elif rows != "float32":
            X = without_zeros(X)
        return self.measure((X, *others), implementation)


class FirstLayer(Epoch):
    """What skipping zeros saves, on the same rows."""

    param_names = ["first_layer"]
    params = [["dense", "sparse"]]

    def track_epoch(self, data, first_layer):
        self.network = {"first_layer": first_layer}
        return self.measure(data, "fastmlp")


class Optimizer(Epoch):
    param_names = ["optimizer"]
    params = [["sgd", "momentum", "adam", "adamw", "rmsprop", "adagrad"]]  # nesterov costs what momentum costs
    _rates = {"sgd": 0.1, "momentum": 0.01, "adagrad": 0.01}

    def setup(self, data, optimizer):
        part("optimizers")
        self.settings = {"batch_size": 64, "optimizer": optimizer, "learning_rate": self._rates.get(optimizer, 1e-3)}

    def track_epoch(self, data, optimizer):
        return self.measure(data, "fastmlp")


class Fit(OnMnist):
    """A whole call of `fit` with one epoch, including the checks and the packing of rows."""

    param_names = ["rows"]
    params = [["with zeros", "without zeros"]]
    rounds, number, repeat, warmup_time = 1, 1, (1, 7, 10.0), 0

    def setup(self, data, rows):
        X, self.y, *_ = data
        self.X = without_zeros(X) if rows == "without zeros" else X
        self.net = IMPLEMENTATIONS["fastmlp"]((784, 128, 10))
        warm_up(lambda: self.net, self.X, self.y)

    def time_fit(self, data, rows):
        self.net.fit(self.X, self.y, epochs=1)

    def teardown(self, data, rows):
        check_accuracy(self.net.score(self.X, self.y), 0.9)


class Small(Benchmark):
    """Many short epochs, which show the overhead of a step and of a call."""

    rounds, number, repeat, warmup_time = 1, 1, (1, 10, 5.0), 0

    def setup(self):
        from fastmlp import datasets

        self.X, self.y, *_ = datasets.load_digits()
        self.net = IMPLEMENTATIONS["fastmlp"]((64, 32, 10))
        warm_up(lambda: self.net, self.X, self.y)

    def time_fit_of_100_epochs(self):
        self.net.fit(self.X, self.y, epochs=100, batch_size=32, learning_rate=0.1)

    def teardown(self):
        check_accuracy(self.net.score(self.X, self.y), 0.99)


class Text(Benchmark):
    """CSR rows like those of text: 20,000 rows, 50,000 features, 0.1 % nonzeros."""

    unit = "seconds"

    def setup_cache(self):
        return bag_of_words()

    def track_epoch(self, data):
        X, y = data
        make = lambda: IMPLEMENTATIONS["fastmlp"]((50_000, 128, 20))  # noqa: E731
        warm_up(make, X, y)
        return best_epoch(make(), X, y, 4, least_accuracy=0.2, learning_rate=0.5)  # the most frequent class has 0.05
