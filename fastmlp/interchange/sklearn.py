"""Estimators as those of scikit-learn, and back; the network of a fitted estimator.

Both sides have the same attributes, so the conversion copies them. What scikit-learn cannot predict is refused; what it
cannot train is left out with a warning.
"""

from __future__ import annotations

import copy
import inspect
from typing import Any

import numpy as np

from fastmlp.activations import Floats, per_layer
from fastmlp.names import Names
from fastmlp.network import Network
from fastmlp.optimizers import Optimizer
from fastmlp.validation.calls import warn

__all__ = ["from_sklearn", "network_from", "network_of", "to_sklearn"]

_PRIVATE = ("_label_binarizer", "_no_improvement_count", "_random_state")
"""Private attributes that both sides have, with the same meaning."""
_ONLY_OURS = ("dropout", "class_weight", "scoring", "callbacks")
"""Settings of training that scikit-learn does not have; their defaults are zero, None or empty."""


# --- networks ---------------------------------------------------------------------------------------------------------


def network_from(kind: type[Any], estimator: Any) -> Any:
    """Return a network of class `kind` with the parameters of a fitted estimator of scikit-learn or fastmlp.

    Raises
    ------
    TypeError
        If `estimator` is something else.
    """
    from sklearn import neural_network

    import fastmlp
    from fastmlp.estimators.fitted import FittedMLP

    if isinstance(estimator, FittedMLP):
        return network_of(estimator, kind)
    for name in ("MLPClassifier", "MLPRegressor"):
        if isinstance(estimator, getattr(neural_network, name)):
            return network_of(from_sklearn(getattr(fastmlp, name), estimator), kind)
    raise TypeError(_wrong_class("MLPClassifier or MLPRegressor of scikit-learn or fastmlp", estimator))


def network_of(estimator: Any, kind: type[Network] | None = None) -> Network:
    """Return a new network, of class `kind`, with parameters and names of one of our fitted estimators.

    Raises
    ------
    ValueError
        If no network has its output.
    """
    from sklearn.utils.validation import check_is_fitted

    check_is_fitted(estimator)
    output = estimator.out_activation_
    if estimator._head() != output:
        raise ValueError(
            f"out_activation_ is {output!r}, which no network has as its output; assign {estimator._output()!r} first"
        )
    own = estimator._network()
    net: Network = (kind or type(own))._with_parameters(
        own.weights,
        own.biases,
        layers=own.layers,
        activation=own.activation,
        output=output,
        dtype=own.dtype,
        n_threads=estimator.n_threads,
    )
    net._adopt(copy.deepcopy(own.history), None, _names(estimator, net._loss.n_classes))
    return net


def _names(estimator: Any, n_classes: int) -> Names:
    """Return the names of columns and classes. Classes 0, 1, 2, ... have none."""
    features, classes = getattr(estimator, "feature_names_in_", None), getattr(estimator, "classes_", None)
    if classes is not None and classes.dtype.kind == "O" and all(isinstance(label, str) for label in classes):
        classes = classes.astype(str)
    if classes is not None and classes.dtype.kind == "f" and (classes == np.rint(classes)).all():
        classes = classes.astype(np.int64)
    if classes is None or len(classes) != n_classes or np.array_equal(classes, np.arange(n_classes)):
        classes = None
    return Names(None if features is None else tuple(map(str, features)), classes)


# --- estimators -------------------------------------------------------------------------------------------------------


def to_sklearn(estimator: Any) -> Any:
    """Return the estimator of scikit-learn; see `EstimatorMethods.to_sklearn`."""
    from sklearn import neural_network
    from sklearn.base import is_classifier
    from sklearn.utils.validation import check_is_fitted

    check_is_fitted(estimator)
    kind = neural_network.MLPClassifier if is_classifier(estimator) else neural_network.MLPRegressor
    weights, biases = _parameters(estimator)
    parameters = _sklearn_parameters(estimator, kind, len(weights) - 1)
    twin = kind(**parameters)
    vars(twin).update(_attributes(estimator))
    twin.coefs_, twin.intercepts_, twin.n_layers_ = weights, biases, len(weights) + 1
    if estimator.early_stopping:
        twin._best_coefs, twin._best_intercepts = copy.deepcopy((weights, biases))
    optimizer = _sklearn_optimizer(estimator, twin)
    if optimizer is not None:
        twin._optimizer = optimizer
    return twin


def from_sklearn(kind: type[Any], estimator: Any) -> Any:
    """Return an estimator of class `kind`; see `EstimatorMethods.from_sklearn`."""
    from sklearn import neural_network
    from sklearn.base import ClassifierMixin
    from sklearn.utils.validation import check_is_fitted

    name = "MLPClassifier" if issubclass(kind, ClassifierMixin) else "MLPRegressor"
    if not isinstance(estimator, getattr(neural_network, name)):
        raise TypeError(_wrong_class(f"{name} of scikit-learn", estimator))
    check_is_fitted(estimator)
    names = kind._get_param_names()
    given = {name: value for name, value in estimator.get_params(deep=False).items() if name in names}
    own = kind(**copy.deepcopy(given))
    attributes = _attributes(estimator)
    scores = attributes.setdefault("validation_scores_", None)
    attributes.setdefault("validation_loss_curve_", None if scores is None else [np.nan] * len(scores))
    if "loss_curve_" not in attributes:  # of 'lbfgs'
        del attributes["validation_scores_"], attributes["validation_loss_curve_"]
    own.__setstate__(vars(own) | attributes | {"_n_fitted_layers": len(estimator.coefs_) + 1})
    _parameters(own)
    own._head()
    vars(own).update(_our_memory(estimator, own))
    return own


def _wrong_class(expected: str, estimator: Any) -> str:
    hint = "; pass its last step" if hasattr(estimator, "steps") else ""
    kind, module = type(estimator), type(estimator).__module__.partition(".")[0]
    name = kind.__name__ if module == "builtins" else f"{module}'s {kind.__name__}"
    return f"estimator must be a fitted {expected}, not {name}{hint}"


def _attributes(estimator: Any) -> dict[str, Any]:
    """Return copies of the fitted attributes."""
    return copy.deepcopy(
        {
            name: value
            for name, value in vars(estimator).items()
            if name in _PRIVATE or (name.endswith("_") and not name.startswith("_"))
        }
    )


def _parameters(estimator: Any) -> tuple[list[Floats], list[Floats]]:
    """Return copies of the weights and biases with which the estimator predicts."""
    from fastmlp.estimators.fitted import _checked_parameters

    weights, biases = _checked_parameters(*estimator._layers())
    return [np.array(w, order="C") for w in weights], [np.array(b) for b in biases]


def _sklearn_parameters(estimator: Any, kind: type[Any], n_hidden: int) -> dict[str, Any]:
    """Return the arguments of scikit-learn's estimator."""
    from sklearn.neural_network._base import ACTIVATIONS

    names = inspect.signature(kind).parameters
    own = estimator.get_params(deep=False)
    given = {name: copy.deepcopy(value) for name, value in own.items() if name in names}
    functions = [name for name in ACTIVATIONS if name not in ("softmax", "exp")]
    hidden = dict.fromkeys(per_layer(own["activation"], n_hidden))
    for activation in hidden:
        if activation not in functions:
            raise ValueError(f"scikit-learn has no activation {activation!r}, but {', '.join(functions)}")
    if len(hidden) > 1:
        raise ValueError(
            f"scikit-learn has one activation for all hidden layers, not {' and '.join(map(repr, hidden))}"
        )
    given["activation"] = next(iter(hidden), "identity")
    if estimator.out_activation_ not in ACTIVATIONS or (own.get("loss") == "poisson" and "loss" not in names):
        raise ValueError(f"this version of scikit-learn has no out_activation_ {estimator.out_activation_!r}")
    left_out = [f"{name}={own[name]!r}" for name in _ONLY_OURS if np.any(own.get(name))]
    if isinstance(own["solver"], Optimizer):
        left_out.append(f"solver={own['solver']!r}")
        given["solver"] = "adam"
    if not isinstance(own["learning_rate"], str):
        left_out.append("a schedule as learning_rate")
        given["learning_rate"] = "constant"
    if left_out:
        warn(f"scikit-learn cannot train with {', '.join(left_out)}; predictions do not depend on it")
    return given


# --- state of the optimizer -------------------------------------------------------------------------------------------


def _sklearn_optimizer(estimator: Any, twin: Any) -> Any:
    """Return the optimizer of scikit-learn, from which ``twin.partial_fit`` continues, or None if there is none."""
    from sklearn.neural_network._stochastic_optimizers import AdamOptimizer, SGDOptimizer

    from fastmlp.estimators.solvers import scale_of

    memory, parameters = estimator._memory(), twin.coefs_ + twin.intercepts_
    training, arrays = memory.get("_training"), memory.get("_optimizer_state", [])
    name = None if training is None else training["optimizer"]
    name = name["name"] if isinstance(name, dict) else None
    n_slots = {"Adam": 2, "SGD": 1}.get(name or "", 0)
    if estimator.solver not in ("adam", "sgd") or [a.shape for a in arrays] != [
        p.shape for p in parameters for _ in range(n_slots)
    ]:
        return None
    scale = scale_of(estimator.out_activation_, twin.n_outputs_).gradient
    if (name, twin.solver) == ("Adam", "adam"):
        adam = AdamOptimizer(parameters, twin.learning_rate_init, twin.beta_1, twin.beta_2, twin.epsilon)
        adam.t = training["steps"]
        adam.ms, adam.vs = [m * scale for m in arrays[::2]], [v * scale**2 for v in arrays[1::2]]
        return adam
    if (name, twin.solver) == ("SGD", "sgd"):
        rate, factor = training["optimizer"]["learning_rate"], training["learning_rate_factor"]
        sgd = SGDOptimizer(
            parameters,
            twin.learning_rate_init,
            twin.learning_rate,
            twin.momentum,
            twin.nesterovs_momentum,
            twin.power_t,
        )
        sgd.learning_rate = twin.learning_rate_init * factor
        if arrays:
            sgd.velocities = [v * (-rate * factor) for v in arrays]
        return sgd
    return None


def _our_memory(estimator: Any, own: Any) -> dict[str, Any]:
    """Return the state of scikit-learn's optimizer as `FittedMLP._memory` does, or nothing if there is none."""
    from sklearn.neural_network._stochastic_optimizers import AdamOptimizer, SGDOptimizer

    from fastmlp.estimators.solvers import scale_of

    ours = {name: vars(estimator).get(name) for name in ("_training", "_optimizer_state")}
    if (
        "_optimizer" not in vars(estimator) and None not in ours.values()
    ):  # pymilo reads our estimators as scikit-learn's
        return copy.deepcopy(ours)
    state = vars(estimator).get("_optimizer")
    if not isinstance(state, {"adam": AdamOptimizer, "sgd": SGDOptimizer}.get(own.solver, ())):
        return {}
    scale = scale_of(own.out_activation_, own.n_outputs_).gradient
    optimizer, factor = own._optimizer().rescaled(scale), 1.0
    if own.solver == "adam":
        arrays = [slot for m, v in zip(state.ms, state.vs, strict=True) for slot in (m / scale, v / scale**2)]
    else:
        factor = state.learning_rate / own.learning_rate_init
        rate = optimizer.learning_rate * factor
        arrays = [v / -rate for v in state.velocities] if optimizer.slots else []
    training = {
        "optimizer": {"name": type(optimizer).__name__, **vars(optimizer)},
        "steps": getattr(state, "t", 0),
        "epochs": estimator.n_iter_,
        "schedule": "Constant",
        "schedule_state": {},
        "learning_rate_factor": factor,
        "passes": estimator.n_iter_,
        "output": own.out_activation_,
    }
    return {"_training": training, "_optimizer_state": [np.array(a, dtype=own.coefs_[0].dtype) for a in arrays]}
