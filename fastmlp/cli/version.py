"""``fastmlp --version``: what people paste into issues."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from importlib import metadata

import fastmlp

__all__ = ["installed", "version_text"]

_LIBRARIES = {"Numba": "numba", "llvmlite": "llvmlite", "NumPy": "numpy", "scikit-learn": "scikit-learn"}


def version_text() -> str:
    """Return a table of versions and of what this machine is. It works where the compiler does not."""
    lines = {
        "processor": _known(_processor),
        "cores": f"{os.cpu_count() or 'unknown'}, of which this process may use {_known(_threads)}",
        "vectors": _known(_vectors),
        **{name: installed(package) or "not installed" for name, package in _LIBRARIES.items()},
        "Python": f"{platform.python_version()} ({platform.python_implementation()})",
        "platform": platform.platform(),
    }
    return "\n".join([f"fastmlp {fastmlp.__version__}", *(f"{name:14}{value}" for name, value in lines.items())])


def installed(package: str) -> str | None:
    """Return the version of a package, which is not imported; None if it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _known(look: Callable[[], str]) -> str:
    """Return what is found, or why it is unknown: a broken installation is a reason to open an issue."""
    try:
        return look()
    except Exception as error:
        return f"unknown ({type(error).__name__}: {' '.join(str(error).split())})"


def _processor() -> str:
    from fastmlp.engine.host import processor_model

    return processor_model()


def _threads() -> str:
    from fastmlp.engine.cores import available_threads

    return str(available_threads())


def _vectors() -> str:
    from fastmlp.engine.kernel_files import FMA, VECTOR_BYTES, processor

    return f"{8 * VECTOR_BYTES} bits{'' if FMA else ' without fused multiply-adds'}, kernels for {processor()}"
