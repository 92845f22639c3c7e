"""Training on a Dask cluster: `fit_many`, `fit`, `MLPClassifier` and `MLPRegressor`."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

try:
    import distributed as _distributed
except ImportError as error:
    raise ImportError('fastmlp.dask needs Dask: pip install "fastmlp[dask]"') from error

del _distributed

from fastmlp.dask.many import fit_many  # noqa: E402 - after the hint
from fastmlp.dask.training import fit  # noqa: E402

if TYPE_CHECKING:
    from fastmlp.dask.estimators import MLPClassifier, MLPRegressor

__all__ = ["MLPClassifier", "MLPRegressor", "fit", "fit_many"]


def _import_estimator(name: str) -> Any:
    """Import an estimator when it is asked for: workers that only train need no scikit-learn."""
    if name not in __all__:
        raise AttributeError(f"module 'fastmlp.dask' has no attribute {name!r}")
    return getattr(import_module("fastmlp.dask.estimators"), name)


if not TYPE_CHECKING:  # with it, type checkers would take any name for an attribute
    __getattr__ = _import_estimator
