"""What a network is, however it computes: settings, parameters, predictions, copies and files."""

from __future__ import annotations

import copy
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from fastmlp import storage
from fastmlp.activations import ACTIVATIONS, Floats, per_layer
from fastmlp.checkpoint import DEFAULTS, MAIN, into_network, make_network, of_network, of_parameters
from fastmlp.history import History
from fastmlp.losses import LOSSES, Targets
from fastmlp.metrics import r2
from fastmlp.random import INITS, batch_generator, initial_parameters, regularization_seed
from fastmlp.training import Progress
from fastmlp.validation.settings import (
    check_activation,
    check_choice,
    check_dropout,
    check_dtype,
    check_float32,
    check_input_scale,
    check_layers,
    check_n_threads,
    check_number,
    check_seed,
    check_X,
)

__all__ = ["Model"]

FIRST_LAYERS = ("auto", "dense", "sparse")
DTYPES = ("float32", "float64")

_FIXED = frozenset({*MAIN, *DEFAULTS, "activations", "dropout_rates"})  # kernels trust them


class Views(list[Floats]):
    """A list of views into a network's parameters: assigning to an item writes into the network."""

    def __setitem__(self, i: Any, values: Any) -> None:
        """Write `values` into the view, as ``views[i][...] = values`` does."""
        self[i][...] = values


class Model(ABC):
    """Multilayer perceptron for classes, labels or numbers, trained by minibatch gradient descent.

    Arrays have the dimensions `n` rows, `I` inputs of a layer, `O` its outputs, `C` classes or outputs of the last.

    Parameters
    ----------
    layers : sequence of int
        Sizes of the layers, inputs first, outputs last, e.g. ``[784, 128, 10]``.
    activation : str or sequence of str
        Of all hidden layers, or of each: a name of `fastmlp.activations.ACTIVATIONS`, such as "relu", "gelu" or "tanh".
    output : str
        A name of `fastmlp.losses.LOSSES`: "softmax", "logistic", "identity" or "exp", which mean, in this order:
        Classes, with cross-entropy; yes or no for each output, with binary cross-entropy (two classes in one output, or
        labels that do not exclude each other); numbers, with squared error; means of counts, with half the Poisson
        deviance. The loss is the mean over rows and, of all but classes, outputs.
    init : {"he", "xavier", "normal"}
        First weights are normal with standard deviation sqrt(2 / I), sqrt(2 / (I + O)) or 0.01; biases are zero.
    seed : int or None
        Fixes everything that is drawn: first weights, order of the rows, dropout, noise, rows set aside for validation;
        None draws afresh.
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
    label_smoothing : float in [0, 1)
        Of a softmax: this part s of the target is shared by all classes, (1 - s) one-hot + s / C.
    l2 : float
        ``l2 / 2 * sum(W**2)`` over all weights is added to the loss that is trained on; not so biases.
    dropout : float in [0, 1) or sequence of float
        Part of the units of all hidden layers, or of each, that a step leaves out at random; the others are multiplied
        by 1 / (1 - dropout). It is active in `fit` and `train_batch` alone, as are the following two.
    input_dropout : float in [0, 1)
        The same for the inputs.
    input_noise : float
        Standard deviation of normal numbers that are added to every input, after `input_scale`.

    Attributes
    ----------
    layers, activation, output, init, seed, dtype, first_layer, input_scale, label_smoothing, l2, dropout, \
input_dropout, input_noise
        As given; they cannot be changed.
    activations : tuple of str
        Of each hidden layer.
    dropout_rates : tuple of float
        Of the inputs of each layer.
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
        activation: str | Sequence[str] = "relu",
        output: str = "softmax",
        init: str = "he",
        seed: int | None = 0,
        n_threads: int | None = None,
        dtype: npt.DTypeLike = "float32",
        first_layer: str = "auto",
        input_scale: float = 1.0,
        label_smoothing: float = 0.0,
        l2: float = 0.0,
        dropout: float | Sequence[float] = 0.0,
        input_dropout: float = 0.0,
        input_noise: float = 0.0,
    ) -> None:
        self.layers: Final = check_layers(layers)
        n_hidden = len(self.layers) - 2
        self.activation: Final = check_activation(activation, n_hidden, tuple(ACTIVATIONS))
        self.output: Final = check_choice(
            "output", output, tuple(LOSSES), {"sigmoid": "logistic", "linear": "identity"}
        )
        self.init: Final = check_choice("init", init, INITS, {"glorot": "xavier", "kaiming": "he"})
        self.seed: Final = check_seed(seed)
        self.n_threads = n_threads
        self.dtype: Final = check_dtype(dtype, DTYPES)
        self.first_layer: Final = check_choice("first_layer", first_layer, FIRST_LAYERS)
        self.input_scale: Final = check_input_scale(input_scale, self.dtype)
        self.label_smoothing: Final = check_number("label_smoothing", label_smoothing, below=1)
        if self.label_smoothing and self.output != "softmax":
            raise ValueError(f"label_smoothing is for output='softmax', not {self.output!r}")
        self.l2: Final = check_float32("l2", l2)
        self.dropout: Final = check_dropout(dropout, n_hidden)
        self.input_dropout: Final = check_number("input_dropout", input_dropout, below=1)
        self.input_noise: Final = check_float32("input_noise", input_noise)
        self.history = History()
        self._generator = batch_generator(self.seed)
        self._regularization_seed = regularization_seed(self.seed)
        self._passes = 0  # over any rows, by fit and train_batch
        self._progress: Progress | None = None
        given = self.__dict__.pop("_given", None)
        self._make(*(given or initial_parameters(self.layers, self.init, self.seed)))

    @classmethod
    def _of(cls, weights: Sequence[Floats], biases: Sequence[Floats], **settings: Any) -> Self:
        """Return a network with copies of these parameters: of a large one the first draw would take a while."""
        net = cls.__new__(cls)
        net.__dict__["_given"] = weights, biases
        cls.__init__(net, **settings)
        return net

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _FIXED and "_weights" in vars(self):
            raise AttributeError(f"{name} cannot be changed; make a new network")
        super().__setattr__(name, check_n_threads(value) if name == "n_threads" else value)

    def __repr__(self) -> str:
        settings = self._settings()
        changed = {name: settings[name] for name, value in DEFAULTS.items() if settings[name] != value}
        shown = {name: settings[name] for name in MAIN[1:]} | changed
        return f"MLP({list(self.layers)}, {', '.join(f'{name}={value!r}' for name, value in shown.items())})"

    def _settings(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in (*MAIN, *DEFAULTS)}

    def _make(self, weights: Sequence[Floats], biases: Sequence[Floats]) -> None:
        """Make all that belongs to this very object, and no copy of it takes along."""
        lasting = set(vars(self))
        n_hidden = len(self.layers) - 2
        self.activations = per_layer(self.activation, n_hidden)
        hidden = self.dropout if isinstance(self.dropout, tuple) else (self.dropout,) * n_hidden
        self.dropout_rates = (self.input_dropout, *hidden)
        self._head = LOSSES[self.output](self.layers[-1], self.label_smoothing)
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
    def _losses(self, X: Any, y: Targets) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
        """Return the loss of each row, and whether it is predicted right."""

    @abstractmethod
    def _probabilities(self, X: Any) -> Floats:
        """Return what `predict_proba` does."""

    @abstractmethod
    def _predicted(self, X: Any) -> npt.NDArray[Any]:
        """Return what `predict` does."""

    @contextmanager
    def _training(self) -> Iterator[None]:
        """Keep everybody else from training this network meanwhile."""
        if not self._lock.acquire(blocking=False):
            raise RuntimeError("this network is being trained already")
        try:
            yield
        finally:
            self._lock.release()

    def _memory(self, slots: int) -> list[list[Floats]]:
        """Return arrays for an optimizer's memory: `slots` of the shape of each parameter, weights first."""
        return [[np.zeros_like(parameter) for _ in range(slots)] for parameter in self._weights + self._biases]

    _looks_itself = False
    """Whether training and predictions refuse numbers that are not finite, so that nobody needs to look before."""

    # --- the face -----------------------------------------------------------------------------------------------------

    @property
    def weights(self) -> list[Floats]:
        """Weights (I, O) of each layer; writing into them changes the network."""
        return Views(self._weights)

    @property
    def biases(self) -> list[Floats]:
        """Biases (O,) of each layer; writing into them changes the network."""
        return Views(self._biases)

    def predict_proba(self, X: Any) -> Floats:
        """Return the probability of each class or label for each row, (n, C); of one output, no and yes (n, 2).

        Raises
        ------
        TypeError
            If the outputs are numbers, or X does not hold real numbers.
        """
        if not self._head.classifies:
            raise TypeError(f"a network with output={self.output!r} has no probabilities; use predict")
        return self._probabilities(self._check_X(X, finite=not self._looks_itself))

    def predict(self, X: Any) -> npt.NDArray[Any]:
        """Return what y holds for each row.

        The most probable class (n,), of equal ones the first; 0 or 1 for each label (n, C), of one output (n,); numbers
        (n, C), of one output (n,).
        """
        return self._predicted(self._check_X(X, finite=not self._looks_itself))

    def score(self, X: Any, y: npt.ArrayLike) -> float:
        """Return the part of the rows that is predicted right, with all their labels; for numbers R²."""
        X_, y_ = self._check_data(X, y, finite=not self._looks_itself)
        if self._head.classifies:
            return self._mean_losses(X_, y_)["accuracy"]
        return r2(self._head.decode(y_), self._predicted(X_))

    def evaluate(self, X: Any, y: npt.ArrayLike) -> dict[str, float]:
        """Return the mean loss, and the accuracy where outputs are no numbers: ``{"loss": ..., "accuracy": ...}``."""
        return self._mean_losses(*self._check_data(X, y, finite=not self._looks_itself))

    def _mean_losses(self, X: Any, y: Targets) -> dict[str, float]:
        losses, hits = self._losses(X, y)
        loss = {"loss": float(losses.mean(dtype=np.float64))}
        return loss | {"accuracy": float(hits.mean())} if self._head.classifies else loss

    def _measured(self, X: Any, y: Targets, metrics: Mapping[str, Callable[[Any, Any], float]]) -> dict[str, float]:
        if not metrics:
            return {}
        y_true, y_pred = self._head.decode(y), self._predicted(X)
        return {name: metric(y_true, y_pred) for name, metric in metrics.items()}

    def _check_X(self, X: Any, name: str = "X", *, finite: bool = True) -> Any:
        return check_X(X, self.layers[0], self.dtype, self.input_scale, name, finite=finite)

    def _check_data(self, X: Any, y: npt.ArrayLike, what: str = "", *, finite: bool = True) -> tuple[Any, Targets]:
        """Return rows and targets; `what` they are stands in messages."""
        X_ = self._check_X(X, f"{what}X", finite=finite)
        numbers = X_ if isinstance(X_, np.ndarray) else X_.data
        if any(np.may_share_memory(numbers, own) for own in self._weights + self._biases):
            X_ = X_.copy()  # the network's own parameters would change while they are read
        return X_, self._head.check_y(y, X_.shape[0], self.dtype, f"{what}y")

    # --- copies and files ---------------------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        """Return what makes the network, also what a user has added; copies share none of its own parts."""
        kept = {name: value for name, value in vars(self).items() if name not in self._own}
        apart = {name: copy.deepcopy(kept[name]) for name in ("history", "_generator", "_progress")}
        parameters = {"weights": [w.copy() for w in self._weights], "biases": [b.copy() for b in self._biases]}
        return kept | apart | parameters

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Make the network again."""
        parameters = {"weights", "biases"}
        vars(self).update(DEFAULTS)  # of older versions, which had none
        vars(self).update({"_regularization_seed": regularization_seed(state["seed"]), "_passes": 0, "_progress": None})
        vars(self).update({name: value for name, value in state.items() if name not in parameters})
        self._make(state["weights"], state["biases"])
        if self._progress is not None:
            self._progress.memory = self._remembered(self._progress.memory)

    def _remembered(self, memory: Sequence[Sequence[Floats]]) -> list[list[Floats]]:
        """Return an optimizer's memory in arrays of this network."""
        own = self._memory(len(memory[0]))
        for slots, given in zip(own, memory, strict=True):
            for slot, values in zip(slots, given, strict=True):
                slot[...] = values
        return own

    def state_dict(self) -> dict[str, Any]:
        """Return all that the network is and remembers: arrays, numbers and strings, none of them shared with it.

        Settings, parameters, the optimizer with its memory, the state of the schedule and of everything that is drawn,
        the history. ``load_state_dict`` takes it, in another process or later, and ``fit(..., resume=True)`` goes on as
        if nothing had happened, to the bit.
        """
        return of_network(self)

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Become what `state_dict` has described.

        Raises
        ------
        TypeError, ValueError
            If it is none, of a network with other settings, or damaged; the network is as before.
        RuntimeError
            If the network is being trained.
        """
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"state_dict must be what state_dict() returns, not {type(state_dict).__name__}")
        with self._training():
            into_network(self, state_dict, "the state")

    def save(self, path: str | os.PathLike[str], *, training: bool = False) -> None:
        """Write settings and parameters to `path` (.npz); an older file is replaced whole or not at all.

        With ``training=True`` the whole `state_dict` is written: history, optimizer, random state. The number of
        threads is never kept.
        """
        storage.save_npz(path, **(self.state_dict() if training else of_parameters(self)))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Return the network that `save` has written to `path`, with what it remembers if that is there.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If the file holds no network, or a damaged one.
        """
        return make_network(cls, storage.load_npz(path), os.fspath(path))
