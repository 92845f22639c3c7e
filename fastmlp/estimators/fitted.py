"""`FittedMLP`: what an estimator has learned, the network that computes with it, and its copies and pickles."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Sequence
from dataclasses import asdict
from numbers import Real
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted, validate_data

from fastmlp import optimizers
from fastmlp.activations import ACTIVATIONS, Floats
from fastmlp.interchange.estimators import EstimatorMethods
from fastmlp.losses import softmax
from fastmlp.many.mean import mean_of
from fastmlp.network import Network
from fastmlp.training import TrainingState

__all__ = ["FittedMLP"]

_HEADS = ("identity", "logistic", "exp")
"""Outputs for which any targets can be trained: the gradient is the output minus the target."""

_APPLIED: dict[str, Callable[[Floats], Floats]] = {
    "softmax": softmax,
    "exp": np.exp,
    **{name: activation.value for name, activation in ACTIVATIONS.items()},
}
"""What `out_activation_` may be, as functions of the sums (n, n_outputs) of the last layer."""


_LARGEST = float(np.finfo(np.float32).max)

_MEMORY = ("_training", "_optimizer_state")
_OF_FIT = ("_callback_fit_ctx", "_skl_callbacks_to_teardown")  # of scikit-learn's callbacks, while a fit runs
_OF_ONE_NETWORK = (
    "coefs_", "intercepts_", "n_layers_", "loss_", "t_", "loss_curve_", "best_loss_", "validation_scores_",
    "validation_loss_curve_", "best_validation_score_",
)  # fmt: skip
_NOT_COPIED = ("_link", "_loaded", "_checked_parameters", *_OF_FIT)


class _Link(NamedTuple):
    """A network, and the settings it was made with."""

    net: Network
    settings: dict[str, Any]

    def holds(self, arrays: Sequence[Any]) -> bool:
        """Return whether these arrays are the network's own."""
        own = self.net._engine.parameters
        return len(own) == len(arrays) and all(a is b for a, b in zip(own, arrays, strict=True))

    def has(self, settings: dict[str, Any]) -> bool:
        """Return whether it was made with these settings, and perhaps others."""
        return settings.items() <= self.settings.items()

    def fits(self, settings: dict[str, Any], layers: list[int], dtype: str) -> bool:
        """Return whether it can compute with parameters of these layers and this dtype."""
        return self.has(settings) and [*self.net.layers] == layers and self.net.dtype == dtype

    def lends(self, arrays: Sequence[Any]) -> bool:
        """Return whether some arrays are other views of its parameters, which filling it would change."""
        own = self.net._engine.parameters
        return any(
            isinstance(array, np.ndarray) and array is not own[i] and np.may_share_memory(array, parameter)
            for i, array in enumerate(arrays)
            for parameter in own
        )


class _OneNetworkOnly(ValueError, AttributeError):
    """An attribute or a method of one network, asked of several; an error of both kinds, as NotFittedError is."""

    def __init__(self, what: str, estimator: Any) -> None:
        n = len(estimator.estimators_)
        super().__init__(
            f"this model has {n} networks, each with its own {what}: estimators_[0] to estimators_[{n - 1}]"
        )


class FittedMLP(EstimatorMethods, BaseEstimator):  # type: ignore[misc]
    """The fitted attributes of an estimator.

    Whatever users assign to `coefs_`, `intercepts_`, `n_layers_` and `out_activation_` counts, as in scikit-learn. The
    network only computes: each call compares its parameters with these attributes, and copies arrays that are not its
    own. Arrays of a fit, a copy or a pickle are replaced by views of the network's.
    """

    _network_class: ClassVar[type[Network] | None] = None  # None is fastmlp.MLP, slow to import; tests set it

    coefs_: list[Any]
    intercepts_: list[Any]
    loss_: float
    t_: int
    loss_curve_: list[float]
    best_loss_: float | None
    validation_scores_: list[float] | None
    validation_loss_curve_: list[float] | None
    best_validation_score_: float | None
    out_activation_: str
    n_outputs_: int
    estimators_: list[Any]

    def _output(self) -> str:
        """Return the kind of output that belongs to the loss."""
        raise TypeError("an estimator must define the output of its loss")

    # --- attributes ---------------------------------------------------------------------------------------------------

    @property
    def n_layers_(self) -> int:
        """Number of layers, inputs included. If a smaller number is assigned, only the first layers are used."""
        try:
            n_layers, n_fitted = self.__dict__["n_layers_"], self.__dict__["_n_fitted_layers"]
        except KeyError:
            raise AttributeError(f"{type(self).__name__} has no n_layers_ before it is fitted") from None
        return len(self.coefs_) + 1 if n_layers == n_fitted else int(n_layers)

    @n_layers_.setter
    def n_layers_(self, n_layers: int) -> None:
        self.__dict__["n_layers_"] = n_layers

    def _layers(self) -> tuple[list[Any], list[Any]]:
        """Return weights and biases of the layers that count."""
        if "estimators_" in vars(self):
            raise _OneNetworkOnly("network", self)
        n = self.n_layers_ - 1
        if not 1 <= n <= min(len(self.coefs_), len(self.intercepts_)):
            raise ValueError(
                f"n_layers_ is {self.n_layers_}, but there are {len(self.coefs_)} arrays in coefs_ and "
                f"{len(self.intercepts_)} in intercepts_; each layer but the first needs one of both"
            )
        return list(self.coefs_[:n]), list(self.intercepts_[:n])

    if not TYPE_CHECKING:  # or mypy would accept any attribute

        def __getattr__(self, name: str) -> Any:
            """Say where an attribute is that only one network has; raise the usual error for others."""
            if name in _OF_ONE_NETWORK and "estimators_" in vars(self):
                raise _OneNetworkOnly(name, self)
            return self.__getattribute__(name)

    def _forget(self) -> None:
        """Forget what earlier fits have learned, of one network or of several."""
        for name in (*_OF_ONE_NETWORK, "estimators_", "_link", "_loaded", *_MEMORY):
            self.__dict__.pop(name, None)

    def _head(self) -> str:
        """Return the output of the network, to which `_outputs` applies the rest of `out_activation_`."""
        name = self.out_activation_
        if name not in _APPLIED:
            raise ValueError(f"out_activation_ is {name!r}, but must be one of {', '.join(map(repr, _APPLIED))}")
        return name if name == self._output() or name in _HEADS else "identity"

    @property
    def _n_fitted(self) -> int:
        """How many networks have been trained, or have begun to be."""
        return len(self.estimators_) if "estimators_" in vars(self) else int("coefs_" in vars(self))

    # --- the network --------------------------------------------------------------------------------------------------

    def _network(self, train: bool = False) -> Network:
        """Return the network with the current parameters. To be trained, `coefs_` and `intercepts_` become its own."""
        coefs, intercepts = self._layers()
        given, settings = [*coefs, *intercepts], self._settings(train)
        link: _Link | None = vars(self).get("_link")
        if link is not None and link.has(settings) and link.holds(given):
            net = link.net
        else:
            weights, biases = _checked_parameters(coefs, intercepts)
            layers = [len(weights[0]), *(w.shape[1] for w in weights)]
            dtype = weights[0].dtype.name
            if link is not None and link.fits(settings, layers, dtype) and not link.lends(given):
                net = link.net
                net._fill(weights, biases)
            else:
                net = self._new_network(weights, biases, {"layers": layers, "dtype": dtype, **settings})
                self._link = _Link(net, settings)
            loaded = vars(self).get("_loaded", ())
            if train or (len(loaded) == len(given) and all(a is b for a, b in zip(loaded, given, strict=True))):
                self.coefs_ = [*net._engine.weights, *self.coefs_[len(coefs) :]]
                self.intercepts_ = [*net._engine.biases, *self.intercepts_[len(coefs) :]]
                self.__dict__.pop("_loaded", None)
        net.n_threads = self.n_threads
        return net

    def _settings(self, train: bool) -> dict[str, Any]:
        """Return the settings of the network that do not follow from its parameters."""
        of_predictions = {
            "activation": self.activation if isinstance(self.activation, str) else list(self.activation),
            "output": self._head(),
        }
        if not train:
            return of_predictions
        return of_predictions | {
            "dropout": self.dropout if isinstance(self.dropout, Real) else list(self.dropout),
            "l2": min(float(self.alpha), _LARGEST) if self.solver != "lbfgs" else 0.0,  # steps divide it by their rows
            "seed": vars(self).get("_seed", 0),
        }

    def _new_network(self, weights: list[Floats], biases: list[Floats], settings: dict[str, Any]) -> Network:
        network_class = self._network_class or _default_network()
        memory = self._memory()  # of the network before
        net: Network = network_class._with_parameters(weights, biases, **settings)
        if memory:
            self.__dict__.update(memory)
            net._random.epoch = self._training["passes"]
        return net

    def _outputs(self, X: Any) -> Floats:
        """Return the outputs (n, n_outputs) of the last layer, after `out_activation_`."""
        if "estimators_" in vars(self):
            return self._mean_of("_outputs", X)
        net, name = self._network(), self.out_activation_
        X = net._check_X(X)
        if net.output in ("softmax", "logistic"):
            probabilities = net._engine.predict_proba(X)
            return probabilities[:, 1:] if (net.output, net.layers[-1]) == ("logistic", 1) else probabilities
        numbers: Floats = net._engine.predict(X).reshape(X.shape[0], -1)
        if name != net.output:
            with np.errstate(over="ignore"):
                numbers = _APPLIED[name](numbers)
        return numbers

    def _mean_of(self, method: str, X: Any) -> Floats:
        """Return the mean of what a method of each network's estimator returns, in their order."""
        if self.out_activation_ != self._output():
            raise ValueError(f"out_activation_ is {self.out_activation_!r}; assign it to each of estimators_ instead")
        X = self.estimators_[0]._network()._check_X(X)  # converted once
        for estimator in self.estimators_:
            estimator.n_threads = self.n_threads
        return mean_of(getattr(estimator, method)(X) for estimator in self.estimators_)

    def hidden_activations(self, X: Any) -> list[Floats]:
        """Return the outputs of the hidden layers, for example as features for another model.

        Parameters
        ----------
        X : array_like or sparse matrix of shape (n_samples, n_features)
            The input data.

        Returns
        -------
        list of ndarrays of shape (n_samples, n_units)
            Outputs of each hidden layer after its activation, without dropout.
        """
        X = self._check_X(X)
        return self._network().hidden_activations(X)

    def _check_X(self, X: Any) -> Any:
        check_is_fitted(self)
        return validate_data(self, X, accept_sparse=["csr", "csc"], reset=False)

    # --- the training state -------------------------------------------------------------------------------------------

    def _memory(self) -> dict[str, Any]:
        """Return the state of the last training as attributes: plain data, which any format can hold, and arrays."""
        link: _Link | None = vars(self).get("_link")
        state = None if link is None else link.net._training_state
        if link is None or state is None:
            return {name: vars(self)[name] for name in _MEMORY if name in vars(self)}
        training, optimizer = dict(vars(state)), state.optimizer
        arrays = [slot for slots in training.pop("optimizer_state") for slot in slots]
        training |= {"passes": link.net._random.epoch, "output": link.net.output}
        if vars(optimizers).get(type(optimizer).__name__) is type(optimizer):
            training["optimizer"] = {"name": type(optimizer).__name__, **asdict(optimizer)}
        return {"_training": training, "_optimizer_state": arrays}

    def _state_in(self, net: Network) -> TrainingState | None:
        """Return the state of the last training, in arrays of the network, or None if it does not fit them."""
        if net._training_state is not None or "_training" not in vars(self):
            return net._training_state
        training, arrays = dict(self.__dict__.pop("_training")), self.__dict__.pop("_optimizer_state")
        training.pop("passes")
        if isinstance(training["optimizer"], dict):
            settings = dict(training["optimizer"])
            training["optimizer"] = getattr(optimizers, settings.pop("name"))(**settings)
        shapes = [parameter.shape for parameter in net._engine.parameters for _ in range(training["optimizer"].slots)]
        if training.pop("output") != net.output or [array.shape for array in arrays] != shapes:
            return None
        slot = iter(arrays)
        slots = [[next(slot) for _ in range(training["optimizer"].slots)] for _ in net._engine.parameters]
        return TrainingState(**training, optimizer_state=slots).copied_into(net._engine)

    def __getstate__(self) -> dict[str, Any]:
        """Return the attributes, with the training state in place of the network."""
        state = super().__getstate__() | self._memory()
        return {name: value for name, value in state.items() if name not in _NOT_COPIED}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore what `__getstate__` has returned, also in earlier versions."""
        state = dict(state)
        state.setdefault("n_networks", 1)
        if "n_layers_" in state:
            state.setdefault("_n_fitted_layers", state["n_layers_"])
        earlier = [state.pop(name, None) for name in ("_resume", "_memory", "_resumable", "_goes_on")]
        for passes, training in filter(None, earlier[:2]):
            arrays = [slot for slots in training.optimizer_state for slot in slots]
            training = vars(training) | {"passes": passes, "output": state["out_activation_"]}
            del training["optimizer_state"]
            state |= {"_training": training, "_optimizer_state": arrays}
        coefs, intercepts = state.get("coefs_"), state.get("intercepts_")
        if isinstance(coefs, list) and isinstance(intercepts, list):
            state["_loaded"] = coefs + intercepts
        super().__setstate__(state)

    def __copy__(self) -> Self:
        """Return a copy that shares the parameters of `__init__`, but nothing that training changes."""
        given = {*self.get_params(deep=False), "_skl_callbacks"}
        state = self.__getstate__()
        state.pop("_parent_callback_ctx", None)  # of the meta-estimator that fits this one
        learned = copy.deepcopy({name: value for name, value in state.items() if name not in given})
        twin = type(self).__new__(type(self))
        twin.__setstate__(state | learned)
        return twin


def _default_network() -> type[Network]:
    from fastmlp.mlp import MLP

    return MLP


def _checked_parameters(coefs: Sequence[Any], intercepts: Sequence[Any]) -> tuple[list[Floats], list[Floats]]:
    """Return weights (I, O) and biases (O,) as arrays of one dtype, float32 or float64."""
    weights, biases = [_as_numbers("coefs_", coefs, i) for i in range(len(coefs))], []
    for i, w in enumerate(weights):
        if w.ndim != 2 or 0 in w.shape:
            raise ValueError(f"coefs_[{i}] must have a row for each input and a column for each output, not {w.shape}")
    for i, (before, after) in enumerate(itertools.pairwise(weights), 1):
        if len(after) != before.shape[1]:
            raise ValueError(
                f"coefs_[{i}] has the shape {after.shape}, but coefs_[{i - 1}] has the shape {before.shape}: "
                f"{before.shape[1]} outputs need {before.shape[1]} rows"
            )
    for i, w in enumerate(weights):
        b = _as_numbers("intercepts_", intercepts, i)
        try:
            biases.append(np.broadcast_to(b, w.shape[1:]))
        except ValueError:
            raise ValueError(
                f"intercepts_[{i}] has the shape {b.shape}, but coefs_[{i}] has {w.shape[1]} outputs"
            ) from None
    dtype = np.result_type(np.float32 if weights[0].dtype.kind == "f" else np.float64, *weights, *biases)
    dtype = np.dtype("float32" if dtype.itemsize <= 4 else "float64")
    return [w.astype(dtype, copy=False) for w in weights], [b.astype(dtype, copy=False) for b in biases]


def _as_numbers(name: str, arrays: Sequence[Any], i: int) -> Floats:
    array = arrays[i]
    array = np.asarray(array.toarray() if hasattr(array, "toarray") else array)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name}[{i}] does not hold numbers, but {array.dtype} values")
    return array
