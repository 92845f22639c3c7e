"""Training on a cluster of Dask: `fit_many`, `fit`, `MLPClassifier` and `MLPRegressor`."""

try:
    import distributed as _distributed
except ImportError as error:
    raise ImportError('fastmlp.dask needs Dask: pip install "fastmlp[dask]"') from error

del _distributed

from fastmlp.dask.many import fit_many  # noqa: E402 - after the hint

__all__ = ["fit_many"]
