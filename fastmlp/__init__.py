"""fastmlp: fast, exact training of multilayer perceptrons on a CPU."""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastmlp import callbacks, datasets, optimizers, reference, schedules
    from fastmlp.estimators import MLPClassifier, MLPRegressor
    from fastmlp.history import History
    from fastmlp.mlp import MLP, warm_up

__all__ = [
    "MLP",
    "History",
    "MLPClassifier",
    "MLPRegressor",
    "callbacks",
    "datasets",
    "optimizers",
    "reference",
    "schedules",
    "warm_up",
]

__version__ = "0.1.0"

_CLASSES = {
    "MLP": "fastmlp.mlp",
    "warm_up": "fastmlp.mlp",
    "History": "fastmlp.history",
    "MLPClassifier": "fastmlp.estimators",
    "MLPRegressor": "fastmlp.estimators",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for, when it is asked for: the compiler alone takes a third of a second."""
    if name not in __all__:
        raise AttributeError(f"module 'fastmlp' has no attribute {name!r}")
    try:
        module = import_module(_CLASSES.get(name, f"fastmlp.{name}"))
    except AttributeError as error:  # Python would take it for a name that is not there, and hide it
        disabled = os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0")
        why = "its kernels need Numba's compiler; unset NUMBA_DISABLE_JIT" if disabled else str(error)
        raise ImportError(f"cannot import fastmlp.{name}: {why}") from error
    return getattr(module, name) if name in _CLASSES else module


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
