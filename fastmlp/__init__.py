"""fastmlp: fast, exact training of multilayer perceptrons on a CPU."""

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastmlp import callbacks, data, datasets, metrics, optimizers, plots, presets, reference, schedules
    from fastmlp import dask as dask  # written twice, it is public for type checkers without being in __all__
    from fastmlp.estimators import MLPClassifier, MLPRegressor
    from fastmlp.gradients import check_gradients
    from fastmlp.history import History
    from fastmlp.many.ensemble import Ensemble
    from fastmlp.many.fit import fit_many
    from fastmlp.many.search import search
    from fastmlp.mlp import MLP, warm_up
    from fastmlp.page.report import report

__all__ = [
    "MLP",
    "Ensemble",
    "History",
    "MLPClassifier",
    "MLPRegressor",
    "callbacks",
    "check_gradients",
    "data",
    "datasets",
    "fit_many",
    "metrics",
    "optimizers",
    "plots",
    "presets",
    "reference",
    "report",
    "schedules",
    "search",
    "warm_up",
]

__version__ = "0.1.0"

_MEMBERS = {
    "MLP": "fastmlp.mlp",
    "warm_up": "fastmlp.mlp",
    "Ensemble": "fastmlp.many.ensemble",
    "History": "fastmlp.history",
    "fit_many": "fastmlp.many.fit",
    "search": "fastmlp.many.search",
    "MLPClassifier": "fastmlp.estimators",
    "MLPRegressor": "fastmlp.estimators",
    "check_gradients": "fastmlp.gradients",
    "report": "fastmlp.page.report",
}
_OPTIONAL = {"dask": "distributed"}  # not in __all__: `from fastmlp import *` works without the packages that they need


def _import_public(name: str) -> Any:
    """Import what is asked for, when it is asked for: the compiler alone takes a third of a second."""
    if name not in __all__ and name not in _OPTIONAL:
        import difflib  # only now: it takes a tenth of the time of this package

        close = difflib.get_close_matches(name, __all__, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise AttributeError(f"module 'fastmlp' has no attribute {name!r}{hint}")
    try:
        module = import_module(_MEMBERS.get(name, f"fastmlp.{name}"))
    except AttributeError as error:  # Python would take it for a name that is not there, and hide it
        disabled = os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0")
        why = "its kernels need Numba's compiler; unset NUMBA_DISABLE_JIT" if disabled else str(error)
        if not disabled and getattr(sys.modules.get("numba.core.config"), "DISABLE_JIT", False):
            why = "its kernels need Numba's compiler; take disable_jit out of .numba_config.yaml in this folder"
        raise ImportError(f"cannot import fastmlp.{name}: {why}") from error
    return getattr(module, name) if name in _MEMBERS else module


if not TYPE_CHECKING:  # with it, type checkers would take any name for an attribute
    __getattr__ = _import_public


def __dir__() -> list[str]:
    from importlib.util import find_spec

    return sorted([*__all__, *(name for name, package in _OPTIONAL.items() if find_spec(package))])
