"""`Model`, what a network is: its settings and parameters, copies and files."""

from __future__ import annotations

import copy
import os
from abc import ABC
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import EllipsisType
from typing import Any, ClassVar, Final, Self, TypeVar

import numpy as np
import numpy.typing as npt

from fastmlp import checkpoint, storage, summary
from fastmlp.activations import ACTIVATIONS, Floats, per_layer
from fastmlp.checkpoint import DEFAULTS, MAIN
from fastmlp.engine.base import Engine, Settings
from fastmlp.history import History
from fastmlp.interchange.safetensors import check_suffix, is_safetensors, load_safetensors, save_safetensors
from fastmlp.interrupts import complete, finish
from fastmlp.losses import LOSSES
from fastmlp.names import Names
from fastmlp.options import Activation, Dtype, FirstLayer, Init, Output
from fastmlp.parameters import Views
from fastmlp.random import INITS, RandomStreams, initial_parameters
from fastmlp.training_state import TrainingState
from fastmlp.validation.calls import advised_methods
from fastmlp.validation.settings import (
    check_activation,
    check_bool,
    check_choice,
    check_dropout,
    check_dtype,
    check_float,
    check_layers,
    check_n_threads,
    check_number,
    check_output,
    check_path,
    check_seed,
)

__all__ = ["Model", "read_file", "saver"]

FIRST_LAYERS = ("auto", "dense", "sparse")
DTYPES = ("float32", "float64")
_EXPANSION = 100  # of a compressed file: weights hardly shrink, but a megabyte of zeros could fill a gigabyte

_FIXED = frozenset(  # read-only: the engine relies on them
    {*MAIN, *DEFAULTS, "activations", "dropout_rates", "n_parameters", "feature_names", "classes"}
)
_NOT_COPIED = ("_engine", "_loss", "_trained_by")  # `_make_engine` makes them

T = TypeVar("T")


@advised_methods
class Model(ABC):
    """Settings, parameters and names of a network, its copies and files. `Network` trains it and predicts with it."""

    _engine_class: ClassVar[type[Engine]]

    def __init__(
        self,
        layers: Sequence[int],
        *,
        activation: Activation | Sequence[Activation] = "relu",
        output: Output = "softmax",
        init: Init = "he",
        seed: int | None = 0,
        n_threads: int | None = None,
        dtype: Dtype = "float32",
        first_layer: FirstLayer = "auto",
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
        self.output: Final = check_output(output, tuple(LOSSES))
        if self.output == "softmax" and self.layers[-1] == 1:
            raise ValueError(
                "a softmax over one output is always 1; for two classes use output='logistic', or two outputs; "
                "for numbers use output='identity'"
            )
        self.init: Final = check_choice("init", init, tuple(INITS), {"glorot": "xavier", "kaiming": "he"})
        self.seed: Final = check_seed(seed)
        n_threads = check_n_threads(n_threads)
        self.dtype: Final = check_dtype(dtype, DTYPES)
        self.first_layer: Final = check_choice("first_layer", first_layer, FIRST_LAYERS)
        scale = check_float("input_scale", input_scale, self.dtype, zero=False)
        self.input_scale: Final = float(np.dtype(self.dtype).type(scale))
        self.label_smoothing: Final = check_number("label_smoothing", label_smoothing, below=1)
        if self.label_smoothing and self.output != "softmax":
            raise ValueError(f"label_smoothing is for output='softmax', not {self.output!r}")
        self.l2: Final = check_float("l2", l2)
        self.dropout: Final = check_dropout(dropout, n_hidden)
        self.input_dropout: Final = check_number("input_dropout", input_dropout, below=1)
        self.input_noise: Final = check_float("input_noise", input_noise)
        self._forget()
        given = vars(self).pop("_given", None)
        self._make_engine(n_threads)
        self._fill(*(given or initial_parameters(self.layers, self.init, self.seed)))

    def _forget(self) -> None:
        """Forget all training, and draw from the seed anew."""
        self.history = History()
        self._random = RandomStreams.from_seed(self.seed)
        self._training_state: TrainingState | None = None
        self._names = Names()

    def initialize(self, *, seed: int | EllipsisType | None = ...) -> None:
        """Reset the network to its initial parameters and forget all training.

        Parameters
        ----------
        seed : int or None, optional
            A new seed, as for `MLP`. By default the network keeps its seed.

        Raises
        ------
        TypeError, ValueError
            If the seed is wrong. The network is unchanged.
        RuntimeError
            If the network is being trained.
        """
        chosen = self.seed if seed is ... else check_seed(seed)
        weights, biases = initial_parameters(self.layers, self.init, chosen)

        def start_afresh() -> None:
            vars(self)["seed"] = chosen
            self._forget()
            self._fill(weights, biases)

        self._alone(partial(complete, start_afresh))

    @classmethod
    def _with_parameters(cls, weights: Sequence[Floats], biases: Sequence[Floats], **settings: Any) -> Self:
        """Return a network with copies of these parameters; nothing is drawn, which is slow for a large network."""
        net = cls.__new__(cls)
        vars(net)["_given"] = weights, biases
        cls.__init__(net, **settings)
        return net

    def _make_engine(self, n_threads: int | None) -> None:
        """Make the engine, the loss and the lock: at the start, and in a copy."""
        n_hidden = len(self.layers) - 2
        dropout = self.dropout if isinstance(self.dropout, tuple) else (self.dropout,) * n_hidden
        self._trained_by: dict[str, object] = {}  # "call": which one trains; a dict is set and tested in one step
        self._loss = LOSSES[self.output](self.layers[-1], self.label_smoothing)
        settings = Settings(
            layers=self.layers,
            activations=per_layer(self.activation, n_hidden),
            loss=self._loss,
            dtype=self.dtype,
            first_layer=self.first_layer,
            input_scale=self.input_scale,
            l2=self.l2,
            dropout_rates=(self.input_dropout, *dropout),
            input_noise=self.input_noise,
        )
        self._engine = self._engine_class(settings, n_threads)

    def _fill(self, weights: Sequence[Floats], biases: Sequence[Floats]) -> None:
        for own, given in zip(self._engine.parameters, [*weights, *biases], strict=True):
            own[...] = given

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _FIXED and "_engine" in vars(self):
            raise AttributeError(f"{name} cannot be changed; make a new network")
        if name == "history" and not isinstance(value, History):
            raise TypeError(f"history must be a History, which fit returns, not {value!r}")
        super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        if name in _FIXED or name in _NOT_COPIED or name in ("history", "weights", "biases", "n_threads"):
            raise AttributeError(f"{name} cannot be deleted")
        super().__delattr__(name)

    def __repr__(self) -> str:
        settings = self._settings()
        changed = {name: settings[name] for name, value in DEFAULTS.items() if settings[name] != value}
        shown = {name: settings[name] for name in MAIN[1:]} | changed
        return f"MLP({list(self.layers)}, {', '.join(f'{name}={value!r}' for name, value in shown.items())})"

    def _repr_html_(self) -> str:
        """Return what a notebook shows."""
        return summary.as_html(summary.of_network(self))

    def summary(self, write: Callable[[str], object] | None = None) -> None:
        """Print a table of the layers and their numbers of parameters, and the results of the last fit.

        Parameters
        ----------
        write : callable or None, default=None
            Function that is called with each line. None is `print`.

        Examples
        --------
        >>> from fastmlp import MLP
        >>> MLP([784, 128, 10]).summary()
        MLP 784-128-10
        layer     units  activation  parameters
        inputs      784
        hidden 1    128  relu           100,480
        output       10  softmax          1,290
        101,770 parameters, 397.5 KB in float32
        init he, seed 0
        """
        summary.write_text(summary.of_network(self), write)

    def _settings(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in (*MAIN, *DEFAULTS)}

    @property
    def activations(self) -> tuple[str, ...]:
        """Activation of each hidden layer."""
        return self._engine.settings.activations

    @property
    def dropout_rates(self) -> tuple[float, ...]:
        """Dropout rate of the inputs of each layer."""
        return self._engine.settings.dropout_rates

    @property
    def n_threads(self) -> int | None:
        """Number of threads for training and prediction; None chooses it."""
        return self._engine.n_threads

    @n_threads.setter
    def n_threads(self, n_threads: int | None) -> None:
        self._engine.n_threads = check_n_threads(n_threads)

    @property
    def weights(self) -> list[Floats]:
        """Weights of each layer, (I, O) arrays; writing into them changes the network."""
        return Views("weights", self._engine.weights)

    @weights.setter
    def weights(self, weights: Sequence[npt.ArrayLike]) -> None:
        self.weights[:] = weights  # type: ignore[assignment]

    @property
    def biases(self) -> list[Floats]:
        """Biases of each layer, (O,) arrays; writing into them changes the network."""
        return Views("biases", self._engine.biases)

    @biases.setter
    def biases(self, biases: Sequence[npt.ArrayLike]) -> None:
        self.biases[:] = biases  # type: ignore[assignment]

    @property
    def n_parameters(self) -> int:
        """Number of weights and biases."""
        return sum(parameter.size for parameter in self._engine.parameters)

    @property
    def feature_names(self) -> list[str] | None:
        """Column names of the first table that trained the network; later tables must have the same columns."""
        return None if self._names.features is None else list(self._names.features)

    @property
    def classes(self) -> npt.NDArray[Any] | None:
        """Class names in the order of the outputs, if y had strings or was a one-hot table; else None."""
        return None if self._names.classes is None else self._names.classes.copy()

    def _alone(self, work: Callable[[], T]) -> T:
        """Call `work` and return what it returns, or raise RuntimeError while another call trains this network."""
        this_call = object()

        def begin_and_work() -> T:
            if self._trained_by.setdefault("call", this_call) is not this_call:
                raise RuntimeError("this network is being trained already")
            return work()

        def leave() -> None:
            if self._trained_by.get("call") is this_call:
                self._trained_by.clear()

        return finish(begin_and_work, leave)

    def _adopt(self, history: History, state: TrainingState | None, names: Names) -> None:
        """Set all at once: no signal handler comes in between."""
        vars(self).update(history=history, _training_state=state, _names=names)

    # --- copies and files ---------------------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        """Return all attributes, including those that a user has set, with copies of arrays and training state."""
        state = {name: value for name, value in vars(self).items() if name not in _NOT_COPIED}
        for name in ("history", "_random", "_training_state"):
            state[name] = copy.deepcopy(state[name])
        weights, biases = ([parameter.copy() for parameter in of_all] for of_all in (self.weights, self.biases))
        return state | {"n_threads": self.n_threads, "weights": weights, "biases": biases}

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = checkpoint.upgraded(state)
        n_threads, weights, biases = (state.pop(name) for name in ("n_threads", "weights", "biases"))
        vars(self).update(state)
        self._make_engine(n_threads)
        self._fill(weights, biases)
        if self._training_state is not None:
            self._training_state = self._training_state.copied_into(self._engine)

    def state_dict(self) -> dict[str, Any]:
        """Return copies of the settings, the parameters and the training state.

        The training state holds the optimizer, the schedule, the random generator and the history. After
        `load_state_dict`, ``fit(..., resume=True)`` continues bit-identically, in another process too.

        Returns
        -------
        dict of str to array, number or str
            What `load_state_dict` restores.
        """
        return self._parameters_dict() | checkpoint.training_dict(self.history, self._random, self._training_state)

    def _parameters_dict(self) -> dict[str, Any]:
        parameters = checkpoint.parameters_dict(self._settings(), self._engine.weights, self._engine.biases)
        return parameters | self._names.to_dict()

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore parameters and training state.

        Parameters
        ----------
        state_dict : mapping
            What `state_dict` returned, of a network with the same settings.

        Raises
        ------
        TypeError, ValueError
            If `state_dict` is damaged or comes from a network with other settings. The network is unchanged.
        RuntimeError
            If the network is being trained.
        """
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"state_dict must be what state_dict() returns, not {type(state_dict).__name__}")

        def restore() -> None:
            saved = checkpoint.read(state_dict, "the state")
            checkpoint.check_same_settings(saved, self._settings(), "the state")
            self._restore(saved)

        self._alone(restore)

    def save(self, path: str | os.PathLike[str], *, training: bool = False) -> None:
        """Save the network to a file, which `load` reads.

        `n_threads` is not saved. An existing file is replaced as a whole or not at all. The file has a checksum.

        Parameters
        ----------
        path : str or path
            Name of the file. If it ends in .safetensors, the format is safetensors; otherwise it is .npz.
        training : bool, default=False
            Whether to save the training state too, so that ``fit(..., resume=True)`` can continue.

        Raises
        ------
        TypeError
            If an argument has the wrong type.
        ValueError
            If parameters are not finite because a fit has diverged, or `path` has the suffix of another format, such as
            .onnx.
        ImportError
            If a .safetensors file is asked for and safetensors is not installed.
        OSError
            If the file cannot be written.
        """
        save = saver(path)
        save(path, **self._savable(check_bool("training", training)))

    def _savable(self, training: bool) -> dict[str, Any]:
        """Return what `save` writes."""
        state = self.state_dict() if training else self._parameters_dict()
        checkpoint.check_savable(state)
        return state

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Load a network that `save` has written.

        Parameters
        ----------
        path : str or path
            Name of the .npz or .safetensors file.

        Returns
        -------
        MLP
            The network, with its training state if that was saved.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If the file is damaged or does not hold a network.
        ImportError
            If it is a .safetensors file and safetensors is not installed.
        """
        return cls._from_state(read_file(path), check_path(path))

    @classmethod
    def _from_state(cls, state: Mapping[str, Any], source: str) -> Self:
        """Return the network that `_savable` has written; `source` names it in messages."""
        saved = checkpoint.read(state, source)
        try:
            net = cls._with_parameters(saved.weights, saved.biases, **saved.settings)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{source} is damaged: {error}") from error
        net._restore(saved)
        return net

    def _restore(self, saved: checkpoint.Saved) -> None:
        state = saved.training_state
        adopted = None if state is None else state.copied_into(self._engine)

        def restore() -> None:
            self._fill(saved.weights, saved.biases)
            self._adopt(saved.history, adopted, saved.names)
            if saved.random is not None:
                self._random = saved.random

        complete(restore)


def saver(path: str | os.PathLike[str]) -> Callable[..., None]:
    """Return the function that writes a state to a file of this name."""
    return save_safetensors if is_safetensors(check_suffix(check_path(path))) else storage.save_npz


def read_file(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the state that the function of `saver` has written."""
    return load_safetensors(path) if is_safetensors(check_path(path)) else storage.load_npz(path, expansion=_EXPANSION)
