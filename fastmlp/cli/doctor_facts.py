"""The facts that ``fastmlp doctor`` gathers about this machine."""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

from fastmlp.cli.version import installed

__all__ = ["NUMBA_FILE", "Cache", "Facts", "observe"]

NUMBA_FILE = ".numba_config.yaml"
"""What Numba reads in the working directory, if PyYAML is there; variables of the environment override it."""

_PAUSE = 0.5  # in which other programs show what they use
_SLICE, _LONGEST = 0.05, 1.0  # seconds in which threads show that they spin
_SPINS = 0.25  # cores that they use
_PRODUCT = 768  # rows of a matrix product that a BLAS shares among its threads


@dataclass(frozen=True)
class Cache:
    """The folders of compiled kernels.

    Attributes
    ----------
    preferred, used : Path
        None is used if no folder can be written.
    unsafe : tuple of Path
        Those that others can write to.
    free : int
        Bytes that the disk of the used one has left.
    missing, usual : int
        Of the kinds of networks that ``fastmlp compile`` compiles, those whose kernels are not there, and all.
    """

    preferred: Path
    used: Path | None
    unsafe: tuple[Path, ...]
    free: int
    missing: int
    usual: int


@dataclass(frozen=True)
class Facts:
    """What has been observed. None is unknown, and says nothing.

    Attributes
    ----------
    environ : mapping
        The environment variables, and those that Numba reads from its file.
    in_file : frozenset of str
        Names of the latter.
    cores, allowed : int
        Of the machine, and those that the affinity of this process allows.
    quota : float or None
        Cores that the container may use at a time.
    memory_free, memory_limit : int or None
        Bytes that this process can still take, and the limit of its container or its own.
    versions : mapping
        Of the libraries that are installed.
    broken : str or None
        Why the kernels cannot be imported.
    machine : str
        The architecture, such as x86_64.
    vector_bits, has_fma
        Of the processor, as the compiler sees it.
    cache : Cache or None
    spinning : float or None
        Seconds, up to 1, for which threads of this process kept a core busy after a product of matrices in NumPy, while
        they waited for the next one.
    pools : tuple of str
        The libraries with threads of their own that NumPy has loaded, if threadpoolctl is there to find them.
    others : float or None
        Cores that other programs used while this process slept.
    """

    environ: Mapping[str, str] = field(default_factory=dict)
    in_file: frozenset[str] = frozenset()
    cores: int = 1
    allowed: int = 1
    quota: float | None = None
    memory_free: int | None = None
    memory_limit: int | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    broken: str | None = None
    machine: str = ""
    vector_bits: int | None = None
    has_fma: bool | None = None
    cache: Cache | None = None
    spinning: float | None = None
    pools: tuple[str, ...] = ()
    others: float | None = None


def observe() -> Facts:
    """Look at this machine."""
    from fastmlp.engine.containers import cores_granted
    from fastmlp.engine.cores import affinity
    from fastmlp.engine.free_memory import free_memory, memory_limit

    cores, free, of_file = os.cpu_count() or 1, free_memory(), _of_file()
    found = {name: installed(name) for name in ("numba", "numpy")}
    broken, vector_bits, has_fma, cache, others = None, None, None, None, None
    try:
        from fastmlp.bench.load import Others
        from fastmlp.engine.kernel_files import FMA, VECTOR_BYTES

        vector_bits, has_fma, cache = 8 * VECTOR_BYTES, FMA, _cache()
        clock = Others()
        time.sleep(_PAUSE)
        others = clock.cores()
    except Exception as error:  # a broken installation raises anything
        broken = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return Facts(
        environ=of_file | dict(os.environ),
        in_file=frozenset(of_file.keys() - os.environ.keys()),
        cores=cores,
        allowed=len(affinity()) or cores,
        quota=cores_granted(),
        memory_free=free if free < 1 << 62 else None,
        memory_limit=memory_limit(),
        versions={name: version for name, version in found.items() if version},
        broken=broken,
        machine=platform.machine(),
        vector_bits=vector_bits,
        has_fma=has_fma,
        cache=cache,
        spinning=_spinning(),
        pools=_pools(),
        others=others,
    )


def _of_file() -> dict[str, str]:
    """Return what Numba reads from its file, by the names of the variables that say the same."""
    with suppress(Exception):  # there is none, or nobody can read it; importing Numba says why
        with open(NUMBA_FILE) as file:
            settings = importlib.import_module("yaml").safe_load(file)
        numbers = {name: int(value) if isinstance(value, bool) else value for name, value in settings.items()}
        return {f"NUMBA_{name.upper()}": str(value) for name, value in numbers.items()}
    return {}


def _cache() -> Cache:
    from fastmlp.engine.kernel_files import folder, preferred_folder, unsafe_folders

    with _quiet():
        used, unsafe = folder(), tuple(unsafe_folders())
        missing, usual = _kernels() if used is not None else (0, 0)
    return Cache(preferred_folder(), used, unsafe, shutil.disk_usage(used).free if used else 0, missing, usual)


def _kernels() -> tuple[int, int]:
    """Return for how many of the usual kinds of networks kernels are missing, and how many there are."""
    import fastmlp
    from fastmlp.cli.compile import kinds_of
    from fastmlp.cli.compile_worker import settings_of
    from fastmlp.engine.kernel_files import are_compiled

    names = ("dtype", "output", "activation", "optimizer", "rows")
    flags = ("all", "l2", "clipping", "dropout", "label_smoothing", "input_dropout", "input_noise")
    kinds = kinds_of(argparse.Namespace(**dict.fromkeys(names), **dict.fromkeys(flags, False)))
    calls = [partial(fastmlp.warm_up, [16, 16, 2], **settings_of(asdict(kind))) for kind in kinds]
    return sum(not are_compiled(call) for call in calls), len(kinds)


@contextmanager
def _quiet() -> Iterator[None]:
    """Let the cache say nothing: the checks say more."""
    before = os.environ.get("FASTMLP_QUIET")
    os.environ["FASTMLP_QUIET"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["FASTMLP_QUIET"]
        else:
            os.environ["FASTMLP_QUIET"] = before


def _spinning() -> float:
    """Return for how many seconds threads keep a core busy after a product of matrices."""
    import numpy as np

    matrix = np.ones((_PRODUCT, _PRODUCT), np.float32)
    np.dot(matrix, matrix)
    spun = 0.0
    while spun < _LONGEST:
        start, before = time.perf_counter(), time.process_time()
        time.sleep(_SLICE)
        seconds = time.perf_counter() - start
        if time.process_time() - before < _SPINS * seconds:
            break
        spun += seconds
    return min(spun, _LONGEST)


def _pools() -> tuple[str, ...]:
    with suppress(ImportError):
        from threadpoolctl import threadpool_info

        return tuple(str(pool["internal_api"]) for pool in threadpool_info() if pool["num_threads"] > 1)
    return ()
