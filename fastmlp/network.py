"""What a network is, however it computes: settings, checks, the course of a fit, predictions, files."""

from __future__ import annotations

import copy
import math
import os
import threading
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from fastmlp import storage
from fastmlp.callbacks import FitState, call_hooks, gather_callbacks
from fastmlp.history import History
from fastmlp.random import INITS, batch_generator, epoch_orders, initial_parameters
from fastmlp.threads import CtrlC
from fastmlp.validation import (
    check_choice,
    check_dtype,
    check_input_scale,
    check_layers,
    check_learning_rate,
    check_n_threads,
    check_positive_int,
    check_seed,
    check_validation_data,
    check_X,
    check_y,
)

__all__ = ["Network", "Outcome"]

Floats: TypeAlias = npt.NDArray[Any]  # float32 or float64
Labels: TypeAlias = npt.NDArray[np.int32]

ACTIVATIONS = ("relu", "logistic")
FIRST_LAYERS = ("auto", "dense", "sparse")
DTYPES = ("float32", "float64")

_FIXED = frozenset(
    {"layers", "activation", "init", "seed", "dtype", "first_layer", "input_scale"}
)  # kernels trust them


@dataclass
class Outcome:
    """How training on some epochs went.

    Attributes
    ----------
    losses, hits : (n_epochs,) arrays
        Sums over the rows of each epoch.
    steps : int
        Finished steps, of all these epochs.
    bad_loss : float or None
        The loss that was not finite and ended it.
    """

    losses: npt.NDArray[np.float64]
    hits: npt.NDArray[np.int64]
    steps: int = 0
    bad_loss: float | None = None

    @classmethod
    def of(cls, n_epochs: int) -> Self:
        """Return the outcome of epochs that are still to come."""
        return cls(np.zeros(n_epochs), np.zeros(n_epochs, np.int64))


class Views(list[Floats]):
    """A list of views into a network's parameters: assigning to an item writes into the network."""

    def __setitem__(self, i: Any, values: Any) -> None:
        """Write `values` into the view, as ``views[i][...] = values`` does."""
        self[i][...] = values


class Network(ABC):
    """Multilayer perceptron for classification: softmax outputs, cross-entropy, plain minibatch SGD.

    Arrays have the dimensions `n` rows, `I` inputs of a layer, `O` its outputs, `C` classes.

    Parameters
    ----------
    layers : sequence of int
        Sizes of the layers, inputs first, classes last, e.g. ``[784, 128, 10]``.
    activation : {"relu", "logistic"}
        Of the hidden layers; the output is a softmax, and the loss is cross-entropy.
    init : {"he", "xavier", "normal"}
        First weights are normal with standard deviation sqrt(2 / I), sqrt(2 / (I + O)) or 0.01; biases are zero.
    seed : int or None
        Fixes first weights and the order of the rows; None draws fresh ones.
    n_threads : int or None
        Threads that train and predict; None takes the cores that this process may use, and one where a step is too
        small to share. The result is the same, to the bit, for any number.
    dtype : {"float32", "float64"}
        Of parameters and all computation.
    first_layer : {"auto", "dense", "sparse"}
        Whether products with zeros in X are left out; "auto" looks at X. The result is the same to the bit. Of a CSR
        matrix they always are.
    input_scale : float
        X is multiplied by it, e.g. ``1 / 255`` for pixels from 0 to 255. Bytes are scaled as they are read.

    Attributes
    ----------
    layers, activation, init, seed, dtype, first_layer, input_scale
        As given; they cannot be changed.
    n_threads : int or None
        As given; may be changed.
    weights, biases : list of (I, O) arrays, list of (O,) arrays
        Views, one a layer: writing into them changes the network.
    history : History
        Of the last fit.

    Examples
    --------
    >>> from fastmlp import MLP, datasets
    >>> X_train, y_train, X_test, y_test = datasets.load_mnist()
    >>> net = MLP([784, 128, 10], seed=0)
    >>> history = net.fit(X_train, y_train, epochs=10, batch_size=64, learning_rate=0.1)
    >>> net.score(X_test, y_test)
    0.9779

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind or out of range.
    """

    def __init__(
        self,
        layers: Sequence[int],
        *,
        activation: str = "relu",
        init: str = "he",
        seed: int | None = 0,
        n_threads: int | None = None,
        dtype: npt.DTypeLike = "float32",
        first_layer: str = "auto",
        input_scale: float = 1.0,
    ) -> None:
        self.layers: Final = check_layers(layers)
        self.activation: Final = check_choice("activation", activation, ACTIVATIONS, {"sigmoid": "logistic"})
        self.init: Final = check_choice("init", init, INITS, {"glorot": "xavier", "kaiming": "he"})
        self.seed: Final = check_seed(seed)
        self.n_threads = n_threads
        self.dtype: Final = check_dtype(dtype, DTYPES)
        self.first_layer: Final = check_choice("first_layer", first_layer, FIRST_LAYERS)
        self.input_scale: Final = check_input_scale(input_scale, self.dtype)
        self.history = History()
        self._generator = batch_generator(self.seed)
        self._make(*initial_parameters(self.layers, self.init, self.seed))

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _FIXED and "_weights" in vars(self):
            raise AttributeError(f"{name} cannot be changed; make a new network")
        super().__setattr__(name, check_n_threads(value) if name == "n_threads" else value)

    def __repr__(self) -> str:
        return (
            f"MLP({list(self.layers)}, activation={self.activation!r}, init={self.init!r}, "
            f"seed={self.seed}, dtype={self.dtype!r})"
        )

    def _make(self, weights: Sequence[Floats], biases: Sequence[Floats]) -> None:
        """Make all that belongs to this very object, and no copy of it takes along."""
        lasting = set(vars(self))
        self._lock = threading.Lock()  # held by who trains
        self._weights, self._biases = self._allocate()
        self._own = set(vars(self)) - lasting | {"_own"}
        self._fill(weights, biases)

    def _fill(self, weights: Sequence[Floats], biases: Sequence[Floats]) -> None:
        for own, given in zip(self._weights + self._biases, [*weights, *biases], strict=True):
            own[...] = given

    # --- what each kind of network computes in its own way ------------------------------------------------------------

    @abstractmethod
    def _allocate(self) -> tuple[list[Floats], list[Floats]]:
        """Return arrays for the weights (I, O) and biases (O,) of each layer.

        A copy calls it anew, and takes along no attribute that it sets.
        """

    @abstractmethod
    def _train(
        self,
        outcome: Outcome,
        data: Any,
        y: Labels,
        orders: npt.NDArray[np.int64],
        batch_size: int,
        learning_rate: float,
        on_step: Callable[[int], bool] | None = None,
    ) -> None:
        """Train on the rows of what `_prepare` has returned, in each of the `orders` (n_epochs, n).

        `outcome` says how far it came, also where something is raised. Now and then ``on_step(finished steps)`` is
        asked whether to go on.
        """

    @abstractmethod
    def _gradients(self, X: Any, y: Labels) -> tuple[float, list[Floats], list[Floats]]:
        """Return the mean loss and the gradients of weights and biases."""

    @abstractmethod
    def _losses(self, X: Any, y: Labels) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
        """Return the loss of each row, and whether it is classified right."""

    @abstractmethod
    def _probabilities(self, X: Any) -> Floats:
        """Return the probabilities (n, C)."""

    @abstractmethod
    def _predicted(self, X: Any) -> npt.NDArray[np.int64]:
        """Return the most probable class of each row."""

    def _prepare(self, X: Any, first_layer: str) -> Any:
        """Return X as `_train` takes it."""
        return X

    def _prepare_inference(self, X: Any) -> None:  # noqa: B027 - a network may have nothing to do
        """Do what takes long the first time that the network predicts."""

    def _epochs_at_once(self, n_rows: int, n_batches: int) -> int:
        """Return how many epochs may go into one call of `_train` when nobody looks in between."""
        return 1

    # --- the face -----------------------------------------------------------------------------------------------------

    @property
    def weights(self) -> list[Floats]:
        """Weights (I, O) of each layer; writing into them changes the network."""
        return Views(self._weights)

    @property
    def biases(self) -> list[Floats]:
        """Biases (O,) of each layer; writing into them changes the network."""
        return Views(self._biases)

    def fit(
        self,
        X: Any,
        y: npt.ArrayLike,
        *,
        epochs: int = 10,
        batch_size: int = 64,
        learning_rate: float = 0.1,
        validation_data: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
        shuffle: bool = True,
        progress: bool = False,
        callbacks: Iterable[object] = (),
    ) -> History:
        """Train from the present parameters.

        Parameters
        ----------
        X : (n, I) array_like or sparse matrix of SciPy
            Finite numbers. Numbers of the network's dtype, bytes (uint8) and CSR matrices are read in place; others are
            converted once. Zeros make it faster; where they are many, a copy without them is made.
        y : (n,) or (n, C) array_like
            Classes from 0 on, or one-hot rows.
        epochs : int
            Passes over the rows.
        batch_size : int
            Rows a step; the last batch of an epoch may be smaller.
        learning_rate : float
            Each step subtracts `learning_rate` times the gradient of the mean loss of the batch.
        validation_data : pair (X, y) or None
            Evaluated after each epoch.
        shuffle : bool
            Draw a new order of the rows for each epoch.
        progress : bool
            Show a progress bar.
        callbacks : iterable of objects
            See `fastmlp.callbacks`.

        Returns
        -------
        History
            Loss and accuracy of each epoch. Ctrl-C warns and returns the finished epochs; the steps of the unfinished
            epoch stay in the parameters. Before training begins, while kernels are compiled, it is a KeyboardInterrupt
            as everywhere, and the network is as before.

        Raises
        ------
        TypeError, ValueError
            If an argument does not fit; the network is as before.
        FloatingPointError
            If a loss is nan or infinite; that step is not taken.
        RuntimeError
            If the network is being trained already, by another thread or by the fit that calls this callback.
        """
        X_, y_ = self._check_data(X, y)
        batch_size = min(check_positive_int("batch_size", batch_size), len(y_))
        learning_rate = check_learning_rate(learning_rate)
        validation = check_validation_data(
            validation_data, self.layers[0], self.layers[-1], self.dtype, self.input_scale
        )
        hooks = gather_callbacks(callbacks, progress)
        fit = FitState(check_positive_int("epochs", epochs), n_batches=math.ceil(len(y_) / batch_size))
        if not isinstance(shuffle, (bool, np.bool_)):
            raise TypeError(f"shuffle must be True or False, not {shuffle!r}")
        shuffle = bool(shuffle) and fit.n_batches > 1  # the order within a single batch changes nothing
        with self._training():
            data = self._prepare(X_, self.first_layer)
            if validation is not None:
                self._prepare_inference(validation[0])
            self.history = fit.history
            self._run(fit, hooks, data, y_, batch_size, learning_rate, shuffle, validation)
        if fit.history.interrupted:
            where = f"after epoch {fit.epoch} of {epochs}"
            if fit.step:
                where = f"in epoch {fit.epoch + 1} of {epochs}, after step {fit.step} of {fit.n_batches}"
            warnings.warn(
                f"Ctrl-C stopped training {where}; the network keeps the parameters of then", UserWarning, stacklevel=2
            )
        return fit.history

    @contextmanager
    def _training(self) -> Iterator[None]:
        """Keep everybody else from training this network meanwhile."""
        if not self._lock.acquire(blocking=False):
            raise RuntimeError("this network is being trained already")
        try:
            yield
        finally:
            self._lock.release()

    def _run(
        self,
        fit: FitState,
        hooks: Sequence[object],
        data: Any,
        y: Labels,
        batch_size: int,
        learning_rate: float,
        shuffle: bool,
        validation: tuple[Floats, Labels] | None,
    ) -> None:
        """Train epoch by epoch, until all are done, a callback says so, or Ctrl-C."""
        ctrl_c = CtrlC()

        def on_step(steps: int) -> bool:
            fit.step = (steps - 1) % fit.n_batches + 1 if steps else 0
            call_hooks(hooks, "on_step", self, fit)
            return not ctrl_c.pressed

        try:
            call_hooks(hooks, "on_fit_begin", self, fit)
            while fit.epoch < fit.epochs and not fit.stop and not fit.history.interrupted:
                start = time.perf_counter()
                looked_at = hooks or validation is not None
                at_once = 1 if looked_at else self._epochs_at_once(len(y), fit.n_batches)
                orders = epoch_orders(self._generator, min(at_once, fit.epochs - fit.epoch), len(y), shuffle)
                outcome = Outcome.of(len(orders))
                with ctrl_c:
                    try:
                        self._train(outcome, data, y, orders, batch_size, learning_rate, on_step)
                    finally:
                        self._record(fit, outcome, time.perf_counter() - start, len(y), validation)
                fit.history.interrupted = ctrl_c.pressed
                if fit.step == 0 and outcome.steps:
                    call_hooks(hooks, "on_epoch_end", self, fit)
        except KeyboardInterrupt:  # in a callback or in between
            fit.history.interrupted = True
        finally:
            call_hooks(hooks, "on_fit_end", self, fit)

    def _record(
        self, fit: FitState, outcome: Outcome, seconds: float, n_rows: int, validation: tuple[Floats, Labels] | None
    ) -> None:
        """Enter finished epochs into the history; complain about a loss that is not finite."""
        finished, fit.step = divmod(outcome.steps, fit.n_batches)
        fit.history.steps += outcome.steps
        for loss, hits in zip(outcome.losses[:finished], outcome.hits[:finished], strict=True):
            measured = {} if validation is None else self._mean_losses(*validation)
            fit.history.append(
                loss=float(loss) / n_rows,
                accuracy=float(hits) / n_rows,
                seconds=seconds * fit.n_batches / outcome.steps,
                **{f"val_{name}": value for name, value in measured.items()},
            )
            fit.epoch += 1
        if outcome.bad_loss is not None:
            where = f"epoch {fit.epoch + 1}, step {fit.step + 1}"
            raise FloatingPointError(f"loss is {outcome.bad_loss} at {where}; lower learning_rate")

    def train_batch(self, X: Any, y: npt.ArrayLike, learning_rate: float = 0.1) -> float:
        """Take one step on these rows, in their order, and return their mean loss before it.

        Raises
        ------
        TypeError, ValueError
            If an argument does not fit; the network is as before.
        FloatingPointError
            If the loss is nan or infinite; the step is not taken.
        RuntimeError
            If the network is being trained already.
        """
        X_, y_ = self._check_data(X, y)
        learning_rate = check_learning_rate(learning_rate)
        outcome, order = Outcome.of(1), np.arange(len(y_))[None, :]
        with self._training():
            self._train(outcome, self._prepare(X_, "dense"), y_, order, len(y_), learning_rate)
        if outcome.bad_loss is not None:
            raise FloatingPointError(f"loss is {outcome.bad_loss}; lower learning_rate")
        return float(outcome.losses[0]) / len(y_)

    def gradients(self, X: Any, y: npt.ArrayLike) -> tuple[float, list[Floats], list[Floats]]:
        """Return the mean loss of these rows and its gradients, dW (I, O) and db (O,) for each layer."""
        return self._gradients(*self._check_data(X, y))

    def predict_proba(self, X: Any) -> Floats:
        """Return the probability of each class for each row, (n, C)."""
        return self._probabilities(self._check_X(X))

    def predict(self, X: Any) -> npt.NDArray[np.int64]:
        """Return the most probable class of each row, (n,); of equal ones the first."""
        return self._predicted(self._check_X(X))

    def score(self, X: Any, y: npt.ArrayLike) -> float:
        """Return the accuracy: the part of the rows that is classified right."""
        return self.evaluate(X, y)["accuracy"]

    def evaluate(self, X: Any, y: npt.ArrayLike) -> dict[str, float]:
        """Return the mean loss and the accuracy: ``{"loss": ..., "accuracy": ...}``."""
        return self._mean_losses(*self._check_data(X, y))

    def _mean_losses(self, X: Any, y: Labels) -> dict[str, float]:
        losses, hits = self._losses(X, y)
        return {"loss": float(losses.mean(dtype=np.float64)), "accuracy": float(hits.mean())}

    def _check_X(self, X: Any) -> Any:
        return check_X(X, self.layers[0], self.dtype, self.input_scale)

    def _check_data(self, X: Any, y: npt.ArrayLike) -> tuple[Any, Labels]:
        X_ = self._check_X(X)
        numbers = X_ if isinstance(X_, np.ndarray) else X_.data
        if any(np.may_share_memory(numbers, own) for own in self._weights + self._biases):
            X_ = X_.copy()  # the network's own parameters would change while they are read
        return X_, check_y(y, X_.shape[0], self.layers[-1])

    # --- copies and files ---------------------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        """Return what makes the network, also what a user has added; copies share none of its own parts."""
        state = {name: value for name, value in vars(self).items() if name not in self._own}
        apart = copy.deepcopy({"history": self.history, "_generator": self._generator})
        parameters = {"weights": [w.copy() for w in self._weights], "biases": [b.copy() for b in self._biases]}
        return state | apart | parameters

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Make the network again."""
        parameters = {"weights", "biases"}
        vars(self).update({"input_scale": 1.0, "first_layer": "auto"})  # of older versions, which had none
        vars(self).update({name: value for name, value in state.items() if name not in parameters})
        self._make(state["weights"], state["biases"])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write settings and parameters to `path` (.npz); an older file is replaced whole or not at all.

        History, number of threads and the state of the order of rows are not kept; pickle keeps all.
        """
        names = ("layers", "activation", "init", "seed", "dtype", "input_scale")
        storage.save_network(path, {name: getattr(self, name) for name in names}, self._weights, self._biases)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Return the network that `save` has written to `path`.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If the file holds no network, or a damaged one.
        """
        arguments, weights, biases = storage.load_network(path)
        try:
            net = cls(**arguments)
        except ValueError as error:
            raise ValueError(f"{os.fspath(path)} is damaged: {error}") from error
        net._fill(weights, biases)
        return net
