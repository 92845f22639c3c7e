"""The checks of ``fastmlp doctor``: each takes facts, and yields what is wrong with them and what to do."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import NamedTuple

from fastmlp.cli.doctor_facts import NUMBA_FILE, Facts

__all__ = ["CHECKS", "OLDEST", "Finding", "findings"]

OLDEST = {"numba": "0.63", "numpy": "2.0"}
"""The oldest versions that work; a test compares them with pyproject.toml."""

_GIGABYTE = 2**30
_LEAST_FREE_MEMORY = _GIGABYTE  # the compiler, and MNIST with its packed copy, take about this much
_LEAST_FREE_DISK = 50 * 2**20  # for some dozens of kernels
_SHORT, _LONG = 0.02, 0.5  # seconds of spinning; as NumPy is installed, it ends after a tenth


class Finding(NamedTuple):
    """What is wrong, slow, or worth a note, and the remedy."""

    kind: str
    problem: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.kind:6}{self.problem}: {self.remedy}"


def findings(facts: Facts) -> list[Finding]:
    """Return what all checks find, the worst first."""
    found = [finding for check in CHECKS for finding in check(facts)]
    return sorted(found, key=lambda finding: ("wrong", "slow", "note").index(finding.kind))


def check_import(facts: Facts) -> Iterator[Finding]:
    """Find kernels that cannot be imported, and why if the environment says it."""
    if _is_on(facts, "NUMBA_DISABLE_JIT"):
        problem = "NUMBA_DISABLE_JIT switches off the compiler, without which there are no kernels"
        yield Finding("wrong", problem, _unset(facts, "NUMBA_DISABLE_JIT"))
    elif facts.broken is not None:
        remedy = "pip install --force-reinstall fastmlp numba llvmlite; if it stays, open an issue"
        suspects = [name for name in sorted(facts.environ) if name.startswith("NUMBA_") and name != "NUMBA_CACHE_DIR"]
        if NUMBA_FILE in facts.broken:
            remedy = f"mend {NUMBA_FILE} in this folder, or remove it"
        elif suspects:
            remedy = f"try it without {', '.join(suspects)}; or {remedy}"
        yield Finding("wrong", f"the kernels cannot be imported ({facts.broken})", remedy)


def check_versions(facts: Facts) -> Iterator[Finding]:
    """Find libraries that are too old."""
    for name, oldest in OLDEST.items():
        version = facts.versions.get(name)
        if version is not None and _numbers(version) < _numbers(oldest):
            yield Finding("wrong", f"{name} {version} is older than {oldest}", f"pip install --upgrade {name}")


def check_cache(facts: Facts) -> Iterator[Finding]:
    """Find folders of compiled kernels that cannot be used."""
    cache = facts.cache
    if cache is None:
        return
    for folder in cache.unsafe:
        yield Finding(
            "slow", f"other users can write to {folder}, so compiled kernels in it do not count", f"chmod go-w {folder}"
        )
    if cache.used is None and cache.unsafe:
        return
    if cache.used is None:
        problem = "no folder for compiled kernels can be written, so each process compiles its own for 5 to 10 s"
        yield Finding("slow", problem, "name a folder that only you can write to: NUMBA_CACHE_DIR=FOLDER")
        return
    if cache.used != cache.preferred and cache.preferred not in cache.unsafe:
        remedy = f"make {cache.preferred} writable, or set NUMBA_CACHE_DIR"
        yield Finding(
            "note", f"{cache.preferred} cannot be written, so compiled kernels are kept in {cache.used}", remedy
        )
    if cache.free < _LEAST_FREE_DISK:
        problem = f"only {cache.free / 2**20:.0f} MB are free in {cache.used}, where compiled kernels are kept"
        yield Finding("slow", problem, "free some, or set NUMBA_CACHE_DIR")


def check_kernels(facts: Facts) -> Iterator[Finding]:
    """Find that kernels are not compiled yet."""
    cache = facts.cache
    if cache is not None and cache.missing:
        problem = f"kernels of {cache.missing} of {cache.usual} usual kinds of networks are not compiled yet"
        yield Finding("note", problem, "the first fit takes 5 to 10 s longer; fastmlp compile does it beforehand")


def check_affinity(facts: Facts) -> Iterator[Finding]:
    """Find a process that is bound to few cores."""
    if facts.cores == 1:
        yield Finding("note", "this machine has one core", "fastmlp trains in one thread; more cores train faster")
    elif facts.allowed < facts.cores:
        kind = "slow" if facts.allowed == 1 else "note"
        problem = f"this process may use only {facts.allowed} of {facts.cores} cores (CPU affinity)"
        yield Finding(
            kind, problem, "start it without taskset or numactl; ask a scheduler for more (Slurm: --cpus-per-task)"
        )


def check_quota(facts: Facts) -> Iterator[Finding]:
    """Find a container that may use fewer cores than there are."""
    if facts.quota is not None and facts.quota < facts.allowed:
        problem = f"the container may use {facts.quota:g} of {facts.allowed} cores (CPU quota)"
        remedy = f"raise it: docker run --cpus={facts.allowed}, or resources.limits.cpu in Kubernetes"
        yield Finding("slow", problem, remedy)


def check_omp_threads(facts: Facts) -> Iterator[Finding]:
    """Find OMP_NUM_THREADS, which fastmlp obeys."""
    asked = facts.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    if asked.isdecimal() and 0 < int(asked) < facts.allowed:
        problem = f"OMP_NUM_THREADS={asked} lets fastmlp use {asked} of {facts.allowed} cores"
        yield Finding("slow", problem, f"unset it, or pass n_threads={facts.allowed} (--threads {facts.allowed})")


def check_memory(facts: Facts) -> Iterator[Finding]:
    """Find that memory is short, or limited."""
    limit = "" if facts.memory_limit is None else f" of the {facts.memory_limit / _GIGABYTE:.1f} GB that limits allow"
    if facts.memory_free is not None and facts.memory_free < _LEAST_FREE_MEMORY:
        problem = f"only {facts.memory_free / _GIGABYTE:.1f} GB of memory are free{limit}"
        remedy = "close programs, raise the limit (docker run --memory, ulimit -v), or read rows from files in blocks"
        yield Finding("slow", problem, f"{remedy} (docs/out-of-core.md)")
    elif facts.memory_limit is not None:
        problem = f"limits allow this process {facts.memory_limit / _GIGABYTE:.1f} GB of memory"
        yield Finding("note", problem, "rows that do not fit can be read from files in blocks (docs/out-of-core.md)")


def check_spinning(facts: Facts) -> Iterator[Finding]:
    """Find threads of other libraries that keep cores busy while they wait."""
    environ = facts.environ
    problem = "{} lets threads of OpenMP libraries keep cores busy while they wait"
    if environ.get("OMP_WAIT_POLICY", "").lower() == "active":
        yield Finding("slow", problem.format("OMP_WAIT_POLICY=active"), "set OMP_WAIT_POLICY=passive")
    for name in ("KMP_BLOCKTIME", "GOMP_SPINCOUNT"):
        value = environ.get(name, "").lower()
        if value.startswith("infinit") or _first_number(value) > 0:
            yield Finding("slow", problem.format(f"{name}={environ[name]}"), f"set {name}=0")
    if facts.spinning is not None and facts.spinning > _SHORT:
        which = f" ({', '.join(facts.pools)})" if facts.pools else ""
        kind = "slow" if facts.spinning >= _LONG else "note"
        problem = (
            f"threads of NumPy's BLAS{which} keep cores busy for {facts.spinning:.2f} s after a product of matrices"
        )
        remedy = "set OPENBLAS_NUM_THREADS=1 or KMP_BLOCKTIME=0 (MKL) if a program multiplies in NumPy between fits"
        yield Finding(kind, problem, remedy)


def check_processor(facts: Facts) -> Iterator[Finding]:
    """Find a processor without wide vectors or fused multiply-adds."""
    if facts.machine.lower() not in ("x86_64", "amd64"):
        return
    remedy = "in a virtual machine, choose the CPU type host; on a Mac with an M processor, install Python for arm64"
    if facts.vector_bits is not None and facts.vector_bits < 256:
        yield Finding(
            "slow", f"this processor reports no AVX2, so vectors have {facts.vector_bits} bits and not 256", remedy
        )
    if facts.has_fma is False:
        yield Finding("slow", "this processor reports no FMA, so a multiply-add takes two instructions", remedy)


def check_numba_settings(facts: Facts) -> Iterator[Finding]:
    """Find settings of Numba that change the compiled kernels."""
    environ = facts.environ
    level = environ.get("NUMBA_OPT", "")
    if level in ("0", "1", "2"):  # Numba ignores what it does not know, and says so
        problem = f"NUMBA_OPT={level} compiles kernels with less optimization"
        yield Finding("slow", problem, _unset(facts, "NUMBA_OPT"))
    for name in ("NUMBA_DEBUG", "NUMBA_DEBUGINFO", "NUMBA_BOUNDSCHECK"):
        if _is_on(facts, name):
            problem = f"{name}={environ[name]} compiles kernels for debugging"
            yield Finding("slow", problem, _unset(facts, name))
    for name in ("NUMBA_LOOP_VECTORIZE", "NUMBA_ENABLE_AVX"):
        if environ.get(name, "").strip() == "0":
            problem = f"{name}=0 compiles kernels without some vector instructions"
            yield Finding("slow", problem, _unset(facts, name))
    for name in ("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES"):
        if environ.get(name):
            problem = f"{name}={environ[name]} compiles kernels for that, and not for this processor"
            remedy = f"{_unset(facts, name)}, unless different machines share the compiled kernels"
            yield Finding("slow", problem, remedy)


def check_builds(facts: Facts) -> Iterator[Finding]:
    """Find a build of the kernels that is for their tests."""
    for name, what in (("FASTMLP_CHECKED", "tests every access to memory"), ("FASTMLP_PROFILED", "counts cycles")):
        if _is_set(facts, name):
            yield Finding("slow", f"{name}={facts.environ[name]} runs a build of the kernels that {what}", "unset it")


def check_others(facts: Facts) -> Iterator[Finding]:
    """Find that other programs use the cores now."""
    from fastmlp.bench.load import others_are_in_the_way

    if others_are_in_the_way(facts.others, facts.allowed, facts.cores):
        problem = f"other programs use {facts.others:.1f} of {facts.cores} cores now"
        yield Finding("slow", problem, "close them, or wait; top shows which they are")


CHECKS: tuple[Callable[[Facts], Iterator[Finding]], ...] = (
    check_import, check_versions, check_cache, check_kernels, check_affinity, check_quota, check_omp_threads,
    check_memory, check_spinning, check_processor, check_numba_settings, check_builds, check_others,
)  # fmt: skip


def _is_set(facts: Facts, name: str) -> bool:
    return facts.environ.get(name, "").strip() not in ("", "0")


def _is_on(facts: Facts, name: str) -> bool:
    """Return whether a setting of Numba is a number but 0; it ignores all others."""
    with suppress(ValueError):
        return int(facts.environ.get(name, "")) != 0
    return False


def _unset(facts: Facts, name: str) -> str:
    return f"take it out of {NUMBA_FILE} in this folder" if name in facts.in_file else "unset it"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)[:2]))


def _first_number(text: str) -> int:
    found = re.match(r"\d+", text)
    return int(found[0]) if found else 0
