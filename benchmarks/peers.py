"""Other ways to train the same network on a CPU, each as its own users would write it well.

A peer is a class with a `name`, a `version`, and two methods, neither of which is timed:

- ``prepare(X, y, task, weights, biases)`` puts the data where the peer wants it, and returns a function without
  arguments, to be called once, that trains from these parameters and returns (weights, biases): that is timed, whole;
- ``prepare_inference(X, task, weights, biases)`` returns a function that gives the probabilities (n, C) of the rows.

Making the first of them raises ImportError where the library is not installed.
"""

import functools
import warnings
from dataclasses import dataclass

import numpy as np

import fastmlp


@dataclass(frozen=True)
class Task:
    """What to train: the network, and how.

    Attributes
    ----------
    layers : tuple of int
    activation : {"relu", "logistic"}
    batch_size, epochs : int
    rate : float
        Learning rate of plain SGD on the mean loss of a batch.
    shuffle : bool
        A new order of the rows for each epoch.
    """

    layers: tuple[int, ...]
    batch_size: int
    rate: float = 0.1
    epochs: int = 5
    activation: str = "relu"
    shuffle: bool = True


class FastMLP:
    """`fastmlp.MLP.fit`, with its checks of the data and its look at the zeros."""

    version = fastmlp.__version__

    def __init__(self, n_threads=None):
        self.name = "fastmlp" if n_threads is None else f"fastmlp, n_threads={n_threads}"
        self.n_threads = n_threads

    def prepare(self, X, y, task, weights, biases):
        net = self._network(task, weights, biases)

        def train():
            net.fit(X, y, epochs=task.epochs, batch_size=task.batch_size, learning_rate=task.rate, shuffle=task.shuffle)
            return net.weights, net.biases

        return train

    def prepare_inference(self, X, task, weights, biases):
        net = self._network(task, weights, biases)
        return lambda: net.predict_proba(X)

    def _network(self, task, weights, biases):
        net = fastmlp.MLP(task.layers, activation=task.activation, n_threads=self.n_threads)
        for own, given in zip([*net.weights, *net.biases], [*weights, *biases], strict=True):
            own[...] = given
        return net


class NumPy:
    """The notebooks' network in float32: rows are gathered once an epoch, arrays are changed in place."""

    name = "NumPy"
    version = np.__version__

    def prepare(self, X, y, task, weights, biases):
        weights, biases = [w.copy() for w in weights], [b.copy() for b in biases]

        def train():
            generator = np.random.default_rng()
            dw, db = [np.empty_like(w) for w in weights], [np.empty_like(b) for b in biases]
            X_epoch, y_epoch = (np.empty_like(X), np.empty_like(y)) if task.shuffle else (X, y)
            for _ in range(task.epochs):
                if task.shuffle:
                    order = generator.permutation(len(X))
                    np.take(X, order, axis=0, out=X_epoch, mode="clip")  # "clip" spares a copy of the copy
                    np.take(y, order, out=y_epoch, mode="clip")
                for start in range(0, len(X), task.batch_size):
                    batch = slice(start, start + task.batch_size)
                    self._step(X_epoch[batch], y_epoch[batch], task, weights, biases, dw, db)
            return weights, biases

        return train

    def prepare_inference(self, X, task, weights, biases):
        return lambda: self._forward(X, task, weights, biases)[-1]

    def _step(self, x, y, task, weights, biases, dw, db):
        outputs = self._forward(x, task, weights, biases)
        delta = outputs[-1]
        delta[np.arange(len(y)), y] -= 1
        delta *= np.float32(task.rate / len(y))  # the steps come out scaled
        for layer in reversed(range(len(weights))):
            np.matmul(outputs[layer].T, delta, out=dw[layer])
            delta.sum(axis=0, out=db[layer])
            if layer > 0:
                a = outputs[layer]
                delta = delta @ weights[layer].T
                delta *= a > 0 if task.activation == "relu" else a * (1 - a)
            weights[layer] -= dw[layer]
            biases[layer] -= db[layer]

    def _forward(self, x, task, weights, biases):
        """Return the input, the activations of each hidden layer, and the probabilities."""
        outputs = [x]
        for w, b in zip(weights, biases, strict=True):
            z = outputs[-1] @ w
            z += b
            outputs.append(z)
            if len(outputs) > len(weights):
                self._softmax(z)
            elif task.activation == "relu":
                np.maximum(z, 0, out=z)
            else:
                self._logistic(z)
        return outputs

    @staticmethod
    def _logistic(z):
        np.negative(z, out=z)
        np.exp(z, out=z)
        z += 1
        np.reciprocal(z, out=z)

    @staticmethod
    def _softmax(z):
        z -= z.max(axis=1, keepdims=True)
        np.exp(z, out=z)
        z /= z.sum(axis=1, keepdims=True)


class PyTorch:
    """Eager PyTorch: `nn.Sequential`, the fused SGD, all rows in memory and gathered once an epoch, no DataLoader."""

    name = "PyTorch"

    def __init__(self):
        import torch

        torch.set_num_threads(fastmlp.threads.available_threads())
        self.torch = torch
        self.version = torch.__version__

    def prepare(self, X, y, task, weights, biases):
        torch = self.torch
        model = self._model(task, weights, biases)
        optimizer = torch.optim.SGD(model.parameters(), lr=task.rate, fused=True)
        X, y = torch.from_numpy(X), torch.from_numpy(y)

        def train():
            X_epoch, y_epoch = X, y
            for _ in range(task.epochs):
                if task.shuffle:
                    order = torch.randperm(len(X))
                    X_epoch, y_epoch = X[order], y[order]
                for x, labels in zip(X_epoch.split(task.batch_size), y_epoch.split(task.batch_size), strict=True):
                    optimizer.zero_grad()
                    torch.nn.functional.cross_entropy(model(x), labels).backward()
                    optimizer.step()
            linear = [part for part in model if isinstance(part, torch.nn.Linear)]
            return [part.weight.detach().numpy().T for part in linear], [part.bias.detach().numpy() for part in linear]

        return train

    def prepare_inference(self, X, task, weights, biases):
        torch = self.torch
        model = self._model(task, weights, biases).eval()
        X = torch.from_numpy(X)

        @torch.inference_mode()
        def predict():
            return model(X).softmax(dim=1)

        return predict

    def _model(self, task, weights, biases):
        torch = self.torch
        parts = []
        for w, b in zip(weights, biases, strict=True):
            linear = torch.nn.Linear(*w.shape)
            with torch.no_grad():
                linear.weight.copy_(torch.from_numpy(w.T))
                linear.bias.copy_(torch.from_numpy(b))
            parts += [linear, torch.nn.ReLU() if task.activation == "relu" else torch.nn.Sigmoid()]
        return torch.nn.Sequential(*parts[:-1])


class JAX:
    """JAX: an epoch is one jitted `lax.scan` over batches that are gathered within, with donated parameters.

    Training on full batches is one jitted loop over the epochs.
    """

    name = "JAX"

    def __init__(self):
        import jax

        jax.config.update("jax_platforms", "cpu")
        self.jax = jax
        self.version = jax.__version__

    def prepare(self, X, y, task, weights, biases):
        jnp = self.jax.numpy
        epoch, full_batches = self._functions(task.layers, task.activation, task.batch_size, task.rate)
        params = self._params(weights, biases)
        X, y = jnp.array(X), jnp.array(y.astype(np.int32))

        def train():
            nonlocal params
            generator = np.random.default_rng()
            if task.batch_size >= len(X):
                params = full_batches(params, X, y, task.epochs)
            else:
                for _ in range(task.epochs):
                    order = generator.permutation(len(X)) if task.shuffle else np.arange(len(X))
                    params = epoch(params, X, y, order.astype(np.int32))
            return [np.asarray(w) for w, _ in params], [np.asarray(b) for _, b in params]

        return train

    def prepare_inference(self, X, task, weights, biases):
        jax = self.jax
        params, X = self._params(weights, biases), jax.numpy.array(X)
        predict = jax.jit(lambda params, X: jax.nn.softmax(self._logits(task.activation, params, X)))
        return lambda: predict(params, X).block_until_ready()

    def _params(self, weights, biases):
        array = self.jax.numpy.array  # copies: what is donated must not be the caller's
        return [(array(w), array(b)) for w, b in zip(weights, biases, strict=True)]

    def _logits(self, activation, params, x):
        act = self.jax.nn.relu if activation == "relu" else self.jax.nn.sigmoid
        for w, b in params[:-1]:
            x = act(x @ w + b)
        w, b = params[-1]
        return x @ w + b

    @functools.cache  # noqa: B019 - compiled functions are for the process
    def _functions(self, layers, activation, batch_size, rate):
        """Return the jitted functions that train for an epoch, and for epochs on full batches."""
        jax = self.jax

        def loss(params, x, y):
            log_p = jax.nn.log_softmax(self._logits(activation, params, x))
            return -jax.numpy.take_along_axis(log_p, y[:, None], axis=1).mean()

        def step(params, x, y):
            return jax.tree.map(lambda p, g: p - rate * g, params, jax.grad(loss)(params, x, y))

        def gathered_step(params, X, y, rows):
            x = X.at[rows].get(mode="promise_in_bounds", unique_indices=True)
            return step(params, x, y[rows])

        @functools.partial(jax.jit, donate_argnums=0)
        def epoch(params, X, y, order):
            whole = len(order) // batch_size * batch_size
            batches = order[:whole].reshape(-1, batch_size)
            params, _ = jax.lax.scan(lambda params, rows: (gathered_step(params, X, y, rows), None), params, batches)
            return gathered_step(params, X, y, order[whole:]) if whole < len(order) else params

        @functools.partial(jax.jit, donate_argnums=0)
        def full_batches(params, X, y, epochs):
            return jax.lax.fori_loop(0, epochs, lambda _, params: step(params, X, y), params)

        return epoch, full_batches


class ScikitLearn:
    """`MLPClassifier` with plain SGD, and nothing that ends it early.

    For two classes it has a single logistic output: the same model, but not the same steps.
    """

    name = "scikit-learn"

    def __init__(self):
        import sklearn

        self.version = sklearn.__version__

    def prepare(self, X, y, task, weights, biases):
        model = self._model(X, y, task, weights, biases)

        def train():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that it has not converged
                model.fit(X, y)
            return self._two_classes(model.coefs_), self._two_classes(model.intercepts_)

        return train

    def prepare_inference(self, X, task, weights, biases):
        n_classes = task.layers[-1]
        model = self._model(X[:1].repeat(n_classes, axis=0), np.arange(n_classes), task, weights, biases)
        return lambda: model.predict_proba(X)

    def _model(self, X, y, task, weights, biases):
        """Return a model that goes on from these parameters, which it takes only after a first short fit."""
        from sklearn.neural_network import MLPClassifier

        settings = {"alpha": 0.0, "momentum": 0.0, "nesterovs_momentum": False, "tol": 0.0, "n_iter_no_change": 10**9}
        model = MLPClassifier(
            task.layers[1:-1],
            activation=task.activation,
            solver="sgd",
            batch_size=task.batch_size,
            learning_rate_init=task.rate,
            shuffle=task.shuffle,
            max_iter=1,
            warm_start=True,
            **settings,
        )
        _, one_of_each = np.unique(y, return_index=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(X[one_of_each], y[one_of_each])
        binary = task.layers[-1] == 2
        model.coefs_ = [w.copy() for w in weights[:-1]] + [
            self._one_output(weights[-1]) if binary else weights[-1].copy()
        ]
        model.intercepts_ = [b.copy() for b in biases[:-1]] + [
            self._one_output(biases[-1]) if binary else biases[-1].copy()
        ]
        return model.set_params(max_iter=task.epochs)

    @staticmethod
    def _one_output(parameter):
        return np.ascontiguousarray(parameter[..., 1:] - parameter[..., :1])

    @staticmethod
    def _two_classes(parameters):
        last = parameters[-1]
        return [*parameters[:-1], np.concatenate([np.zeros_like(last), last], axis=-1) if last.shape[-1] == 1 else last]


def available(*kinds):
    """Return the peers of these classes that are installed; name the others."""
    peers = []
    for kind in kinds:
        try:
            peers.append(kind())
        except ImportError as error:
            print(f"{kind.name} left out: {error}")
    return peers
