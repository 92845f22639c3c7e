"""Other ways to train the same network on a CPU, each written as an experienced user of the library would."""

from __future__ import annotations

import contextlib
import functools
import os
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

import fastmlp
from fastmlp.bench.notebooks import NotebookNumPy, NumPy
from fastmlp.bench.task import SEED, Array, Arrays, Peer, Predict, Task, Train
from fastmlp.engine.cores import available_threads

__all__ = [
    "JAX", "PEERS", "CompiledPyTorch", "FastMLP", "NotebookNumPy", "NumPy", "Peer", "PyTorch", "ScikitLearn", "Task",
    "available", "bound_blas", "unbound",
]  # fmt: skip


class FastMLP:
    """`fastmlp.MLP.fit`, which includes checking the data and packing the rows."""

    version = fastmlp.__version__

    def __init__(self, n_threads: int | None = None, name: str | None = None) -> None:
        self.name = name or ("fastmlp" if n_threads is None else f"fastmlp, n_threads={n_threads}")
        self.n_threads = n_threads

    def prepare(self, X: Any, y: Array, task: Task, weights: Arrays, biases: Arrays) -> Train:
        """Return a function that trains."""
        net = self._network(task, weights, biases)

        def train() -> tuple[Arrays, Arrays]:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # about Ctrl-C
                history = net.fit(
                    X,
                    y,
                    epochs=task.epochs,
                    batch_size=task.batch_size,
                    optimizer=task.optimizer,
                    learning_rate=task.rate,
                    shuffle=task.shuffle,
                )
            if history.interrupted:  # `fit` returns then, but a time cut short must not count
                raise KeyboardInterrupt
            return net.weights, net.biases

        return train

    def prepare_inference(self, X: Any, task: Task, weights: Arrays, biases: Arrays) -> Predict:
        """Return a function that predicts."""
        net = self._network(task, weights, biases)
        return lambda: net.predict_proba(X)

    def _network(self, task: Task, weights: Arrays, biases: Arrays) -> fastmlp.MLP:
        net = fastmlp.MLP(task.layers, activation=task.activation, seed=SEED, n_threads=self.n_threads)
        for own, given in zip([*net.weights, *net.biases], [*weights, *biases], strict=True):
            own[...] = given
        return net


class PyTorch:
    """Eager PyTorch: `nn.Sequential`, a fused optimizer, rows gathered once an epoch, no DataLoader."""

    name = "PyTorch"

    def __init__(self, n_threads: int | None = None) -> None:
        import torch

        torch.set_num_threads(n_threads or available_threads())
        self.torch = torch
        self.version = torch.__version__

    def prepare(self, X: Any, y: Array, task: Task, weights: Arrays, biases: Arrays) -> Train:
        """Return a function that trains."""
        torch = self.torch
        model = self._model(task, weights, biases)
        kind = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[task.optimizer]
        optimizer = kind(model.parameters(), lr=task.rate, fused=True)
        rows, labels = torch.from_numpy(X), torch.from_numpy(y)
        loss = self._loss(rows, labels, model, task)

        def train() -> tuple[Arrays, Arrays]:
            X_epoch, y_epoch = rows, labels
            for order in map(torch.from_numpy, task.orders(len(rows))):
                if task.shuffle:
                    X_epoch, y_epoch = rows[order], labels[order]
                for x, t in zip(X_epoch.split(task.batch_size), y_epoch.split(task.batch_size), strict=True):
                    optimizer.zero_grad()
                    loss(model, x, t).backward()
                    optimizer.step()
            linear = [part for part in model if isinstance(part, torch.nn.Linear)]
            return [part.weight.detach().numpy().T for part in linear], [part.bias.detach().numpy() for part in linear]

        return train

    def prepare_inference(self, X: Any, task: Task, weights: Arrays, biases: Arrays) -> Predict:
        """Return a function that predicts."""
        torch = self.torch
        model = self._model(task, weights, biases).eval()
        X = torch.from_numpy(X)

        def predict() -> Any:
            with torch.inference_mode():
                return model(X).softmax(dim=1)

        return predict

    def _loss(self, X: Any, y: Any, model: Any, task: Task) -> Any:
        """Return a function (model, x, labels) that computes the mean loss of batches of these rows."""
        cross_entropy = self.torch.nn.functional.cross_entropy
        return lambda model, x, labels: cross_entropy(model(x), labels)

    def _model(self, task: Task, weights: Arrays, biases: Arrays) -> Any:
        torch = self.torch
        parts = []
        for w, b in zip(weights, biases, strict=True):
            linear = torch.nn.Linear(*w.shape)
            with torch.no_grad():
                linear.weight.copy_(torch.from_numpy(w.T))
                linear.bias.copy_(torch.from_numpy(b))
            parts += [linear, torch.nn.ReLU() if task.activation == "relu" else torch.nn.Sigmoid()]
        return torch.nn.Sequential(*parts[:-1])


class CompiledPyTorch(PyTorch):
    """PyTorch with `torch.compile` for the loss and its gradient, and one call of fused SGD for the step."""

    name = "PyTorch compiled"

    def __init__(self, n_threads: int | None = None) -> None:
        super().__init__(n_threads)
        self.torch._dynamo.config.recompile_limit = 64  # one for each network and batch size

    def _loss(self, X: Any, y: Any, model: Any, task: Task) -> Any:
        loss = self._compiled(task.layers, task.activation)
        for n_rows in {min(task.batch_size, len(X)), len(X) % task.batch_size or task.batch_size}:
            loss(model, X[:n_rows], y[:n_rows]).backward()  # compiles
        return loss

    @functools.cache  # noqa: B019 - compiled functions live as long as the process
    def _compiled(self, layers: tuple[int, ...], activation: str) -> Any:
        """Return a function (model, x, labels) for the mean loss, compiled for the shapes of the parameters."""
        torch = self.torch
        act = torch.relu if activation == "relu" else torch.sigmoid

        def loss(parameters: Any, x: Any, labels: Any) -> Any:
            *hidden, last = zip(parameters[::2], parameters[1::2], strict=True)
            for w, b in hidden:
                x = act(torch.nn.functional.linear(x, w, b))
            return torch.nn.functional.cross_entropy(torch.nn.functional.linear(x, *last), labels)

        compiled = torch.compile(loss, dynamic=False)
        return lambda model, x, labels: compiled(list(model.parameters()), x, labels)


class JAX:
    """JAX: an epoch is one jitted `lax.scan`, which gathers its batches, with donated parameters.

    Training on full batches is one jitted loop over the epochs.
    """

    name = "JAX"

    def __init__(self, n_threads: int | None = None) -> None:
        import jax

        jax.config.update("jax_platforms", "cpu")
        with _environment(NPROC=str(n_threads or available_threads())):
            jax.devices()  # starts the threads, once in a process
        self.jax = jax
        self.version = jax.__version__

    def prepare(self, X: Any, y: Array, task: Task, weights: Arrays, biases: Arrays) -> Train:
        """Return a function that trains."""
        jnp = self.jax.numpy
        epoch, full_batches = self._functions(task.layers, task.activation, task.batch_size, task.rate)
        params = self._params(weights, biases)
        X, y = jnp.array(X), jnp.array(y.astype(np.int32))

        def train() -> tuple[Arrays, Arrays]:
            nonlocal params
            if task.batch_size >= len(X):
                params = full_batches(params, X, y, task.epochs)
            else:
                for order in task.orders(len(X)):
                    params = epoch(params, X, y, order.astype(np.int32))
            return [np.asarray(w) for w, _ in params], [np.asarray(b) for _, b in params]

        return train

    def prepare_inference(self, X: Any, task: Task, weights: Arrays, biases: Arrays) -> Predict:
        """Return a function that predicts."""
        jax = self.jax
        params, X = self._params(weights, biases), jax.numpy.array(X)
        predict = jax.jit(lambda params, X: jax.nn.softmax(self._logits(task.activation, params, X)))
        return lambda: predict(params, X).block_until_ready()

    def _params(self, weights: Arrays, biases: Arrays) -> Any:
        array = self.jax.numpy.array  # copies, because JAX overwrites donated arrays
        return [(array(w), array(b)) for w, b in zip(weights, biases, strict=True)]

    def _logits(self, activation: str, params: Any, x: Any) -> Any:
        act = self.jax.nn.relu if activation == "relu" else self.jax.nn.sigmoid
        for w, b in params[:-1]:
            x = act(x @ w + b)
        w, b = params[-1]
        return x @ w + b

    @functools.cache  # noqa: B019 - compiled functions live as long as the process
    def _functions(self, layers: tuple[int, ...], activation: str, batch_size: int, rate: float) -> tuple[Any, Any]:
        """Return the jitted functions that train for one epoch, and for some epochs on full batches."""
        jax = self.jax

        def loss(params: Any, x: Any, y: Any) -> Any:
            log_p = jax.nn.log_softmax(self._logits(activation, params, x))
            return -jax.numpy.take_along_axis(log_p, y[:, None], axis=1).mean()

        def step(params: Any, x: Any, y: Any) -> Any:
            return jax.tree.map(lambda p, g: p - rate * g, params, jax.grad(loss)(params, x, y))

        def gathered_step(params: Any, X: Any, y: Any, rows: Any) -> Any:
            x = X.at[rows].get(mode="promise_in_bounds", unique_indices=True)
            return step(params, x, y[rows])

        @functools.partial(jax.jit, donate_argnums=0)
        def epoch(params: Any, X: Any, y: Any, order: Any) -> Any:
            whole = len(order) // batch_size * batch_size
            batches = order[:whole].reshape(-1, batch_size)
            params, _ = jax.lax.scan(lambda params, rows: (gathered_step(params, X, y, rows), None), params, batches)
            return gathered_step(params, X, y, order[whole:]) if whole < len(order) else params

        @functools.partial(jax.jit, donate_argnums=0)
        def full_batches(params: Any, X: Any, y: Any, epochs: int) -> Any:
            return jax.lax.fori_loop(0, epochs, lambda _, params: step(params, X, y), params)

        return epoch, full_batches


class ScikitLearn:
    """`MLPClassifier` with plain SGD or Adam, without early stopping.

    For two classes it has a single logistic output. That is the same model, but its steps differ.
    """

    name = "scikit-learn"

    def __init__(self, n_threads: int | None = None) -> None:
        import sklearn

        self.version = sklearn.__version__

    def prepare(self, X: Any, y: Array, task: Task, weights: Arrays, biases: Arrays) -> Train:
        """Return a function that trains."""
        model = self._model(X, y, task, weights, biases)

        def train() -> tuple[Arrays, Arrays]:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # it warns that it has not converged
                model.fit(X, y)
            return self._two_classes(model.coefs_), self._two_classes(model.intercepts_)

        return train

    def prepare_inference(self, X: Any, task: Task, weights: Arrays, biases: Arrays) -> Predict:
        """Return a function that predicts."""
        n_classes = task.layers[-1]
        model = self._model(X[:1].repeat(n_classes, axis=0), np.arange(n_classes), task, weights, biases)
        return lambda: model.predict_proba(X)

    def _model(self, X: Any, y: Array, task: Task, weights: Arrays, biases: Arrays) -> Any:
        """Return a model that starts from these parameters; they can be set only after a first short fit."""
        from sklearn.neural_network import MLPClassifier

        settings = {"alpha": 0.0, "momentum": 0.0, "nesterovs_momentum": False, "tol": 0.0, "n_iter_no_change": 10**9}
        model = MLPClassifier(
            task.layers[1:-1],
            activation=task.activation,
            solver=task.optimizer,
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
        model.coefs_, model.intercepts_ = self._as_sklearn(weights), self._as_sklearn(biases)
        return model.set_params(max_iter=task.epochs, random_state=_Orders(task))

    @staticmethod
    def _as_sklearn(parameters: Arrays) -> list[Array]:
        last = parameters[-1]
        last = last[..., 1:] - last[..., :1] if last.shape[-1] == 2 else last
        return [p.copy() for p in (*parameters[:-1], last)]

    @staticmethod
    def _two_classes(parameters: Arrays) -> list[Array]:
        last = parameters[-1]
        return [*parameters[:-1], np.concatenate([np.zeros_like(last), last], axis=-1) if last.shape[-1] == 1 else last]


class _Orders(np.random.RandomState):
    """Draws the orders of a task where scikit-learn would draw its own."""

    def __init__(self, task: Task) -> None:
        super().__init__(0)
        self._task = task
        self._orders: Iterator[Array] | None = None

    def shuffle(self, x: Any) -> None:
        """Fill `x`, which is 0, 1, 2, ...: scikit-learn takes the rows of the last epoch in this order."""
        if self._orders is None:
            self._orders, self._last = self._task.orders(len(x)), np.arange(len(x))
        order, place = next(self._orders), np.empty_like(self._last)
        place[self._last] = np.arange(len(x))
        x[:], self._last = place[order], order


PEERS: tuple[type[Peer], ...] = (NumPy, NotebookNumPy, PyTorch, CompiledPyTorch, JAX, ScikitLearn)
"""All peers except fastmlp itself."""


def available(kinds: Iterable[type[Peer]], n_threads: int | None = None) -> tuple[list[Peer], dict[str, str]]:
    """Return the peers that are installed, and for each of the others why it cannot be imported."""
    peers, missing = [], {}
    for kind in kinds:
        try:
            peers.append(kind(n_threads))
        except ImportError as error:
            missing[kind.name] = str(error)
    return peers, missing


def bound_blas(n_threads: int) -> contextlib.AbstractContextManager[object]:
    """Return a context in which NumPy and scikit-learn use so many threads."""
    from threadpoolctl import threadpool_limits

    limits: contextlib.AbstractContextManager[object] = threadpool_limits(n_threads, user_api="blas")
    return limits


def unbound(n_threads: int) -> list[str]:
    """Return the names of the peers that do not keep to this number of threads inside `bound_blas`."""
    from threadpoolctl import threadpool_info

    pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    if pools and all(pool["num_threads"] <= n_threads for pool in pools):
        return []
    return [NumPy.name, NotebookNumPy.name, ScikitLearn.name]


@contextlib.contextmanager
def _environment(**variables: str) -> Iterator[None]:
    """Set environment variables for a while."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
