"""``fastmlp compile``."""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from fastmlp.cli.compile_arguments import ALL_OPTIMIZERS, DTYPES, OUTPUTS, ROWS
from fastmlp.cli.output import FAILED, INTERRUPTED, say, tell

__all__ = ["Kind", "compile_kernels", "kernels_of", "kinds_of"]

_SECONDS = {"train": 7.0, "infer": 3.0, "pack": 1.0}  # that a core needs for a kernel
_PER_WORKER = 40  # kinds until a process is replaced by a new one: compiled kernels stay in its memory
_POLL_SECONDS = 0.1
_NO_FOLDER = "no folder for kernels can be written by you alone; name one with NUMBA_CACHE_DIR"


class _Failed(Exception):
    pass


class _Kernel(NamedTuple):
    name: str
    dtype: str
    path: str | None
    is_new: bool


@dataclass(frozen=True)
class Kind:
    """A network, X and optimizer that need certain kernels."""

    rows: str
    optimizer: str
    activation: str = "relu"
    output: str = "softmax"
    dtype: str = "float32"
    l2: bool = False
    dropout: bool = False
    input_dropout: bool = False
    input_noise: bool = False
    label_smoothing: bool = False

    def kernels(self) -> list[tuple[str, ...]]:
        """Return what tells the kernels of a network apart: those of training, predictions and packing."""
        plain = self.activation in ("relu", "identity")
        head = f"{self.output}{' smoothed' * (self.label_smoothing and self.output == 'softmax')}"
        rows, how = self.rows, ""
        if self.input_noise and rows != "csr":
            rows, how = rows.replace("sparse uint8", "uint8").replace("sparse", "dense"), "perturbed"
        elif self.input_noise or self.input_dropout:
            how = "noise" if self.input_noise else "perturbed"
        step = f"{self.optimizer}{' blockwise' * (self.l2 and self.optimizer == 'sgd')}"
        hidden = "plain" if plain and not self.dropout else "sloped"
        found = [
            ("train", rows, how, hidden, head, step, self.dtype),
            ("infer", self.rows, "plain" if plain else "sloped", head, self.dtype),
        ]
        return found + [("pack", self.dtype)] * (rows == "sparse")


def compile_kernels(arguments: argparse.Namespace) -> int:
    """Compile what the arguments say and report it; return the exit status."""
    from fastmlp.engine.cores import available_threads
    from fastmlp.engine.kernel_files import folder, processor

    kinds = kinds_of(arguments)
    kernels = kernels_of(kinds)
    target = folder()
    if target is None:
        tell(f"fastmlp compile: error: {_NO_FOLDER}")
        return FAILED
    n_jobs = min(arguments.jobs or available_threads(), len(kinds))
    seconds = sum(_SECONDS[kernel[0]] for kernel in kernels) / n_jobs
    jobs = f"{n_jobs} process{'es' if n_jobs > 1 else ''}"
    say(f"{len(kernels):,} kernels for {processor()}, in {target}; {_duration(seconds)} with {jobs} if none is there")
    begin, status = time.monotonic(), 0
    new: dict[str, bool] = {}  # file -> whether it was compiled
    try:
        with closing(_compiled(kinds, n_jobs)) as results:
            for kernel in itertools.chain.from_iterable(results):
                if kernel.path is None:
                    raise _Failed(f"{kernel.name} cannot be written to {target}")
                is_first, new[kernel.path] = kernel.path not in new, new.get(kernel.path, False) or kernel.is_new
                if is_first or kernel.is_new:
                    what = "compiled" if kernel.is_new else "there already"
                    say(f"{kernel.name} {kernel.dtype}, {os.path.getsize(kernel.path) / 1e3:.0f} kB, {what}")
    except _Failed as error:
        tell(f"fastmlp compile: error: {error}")
        return FAILED
    except KeyboardInterrupt:
        tell("fastmlp compile: interrupted; the kernels so far are kept")
        status = INTERRUPTED
    n_new, n_bytes = sum(new.values()), sum(map(os.path.getsize, new))
    say(
        f"{n_new:,} compiled, {len(new) - n_new:,} there already, {n_bytes / 1e6:.1f} MB in {target}, "
        f"{time.monotonic() - begin:.0f} s"
    )
    return status


def kinds_of(arguments: argparse.Namespace) -> list[Kind]:
    """Return the kinds of networks that the arguments name, without those that need no other kernels."""
    everything = arguments.all

    def chosen(given: list[str] | None, usual: tuple[str, ...], every: Iterable[str]) -> list[str]:
        return list(dict.fromkeys(given or (every if everything else usual)))

    def also(given: bool) -> tuple[bool, ...]:
        return (True,) if given else (False, True) if everything else (False,)

    kinds = itertools.product(
        chosen(arguments.dtype, ("float32",), DTYPES),
        chosen(arguments.output, ("softmax", "identity"), OUTPUTS),
        chosen(arguments.activation, ("relu",), ("relu", "tanh")),
        chosen(arguments.optimizer, ("sgd", "adam"), ALL_OPTIMIZERS),
        also(arguments.l2 or arguments.clipping),
        also(arguments.dropout),
        also(arguments.label_smoothing),
        also(arguments.input_dropout),
        also(arguments.input_noise),
        chosen(arguments.rows, ("dense", "sparse"), ROWS),  # these last: neighbours share no kernel, so nobody waits
    )
    found: list[Kind] = []
    seen: set[tuple[str, ...]] = set()
    for dtype, output, activation, optimizer, l2, dropout, smoothing, input_dropout, noise, rows in kinds:
        kind = Kind(ROWS[rows], optimizer, activation, output, dtype, l2, dropout, input_dropout, noise, smoothing)
        if not seen.issuperset(kind.kernels()):
            seen.update(kind.kernels())
            found.append(kind)
    return found


def kernels_of(kinds: Iterable[Kind]) -> set[tuple[str, ...]]:
    """Return what tells the kernels of some kinds apart."""
    return {kernel for kind in kinds for kernel in kind.kernels()}


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"about {seconds:.0f} s"
    return f"about {seconds / 60:.0f} min" if seconds < 6000 else f"about {seconds / 3600:.1f} h"


# --- the processes ----------------------------------------------------------------------------------------------------

_NEW_GROUP = 0x200  # subprocess.CREATE_NEW_PROCESS_GROUP of Windows
_START = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from fastmlp.cli.compile_worker import work; work()"


class _Worker:
    """A process that compiles. It ends with its standard input, and hears no Ctrl-C of the terminal."""

    def __init__(self) -> None:
        apart: dict[str, Any] = {"process_group": 0} if os.name == "posix" else {"creationflags": _NEW_GROUP}
        self.n_kinds = 0
        self._process = subprocess.Popen(
            [sys.executable, "-c", _START, json.dumps(sys.path)],
            env=os.environ | {"FASTMLP_QUIET": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            **apart,
        )

    def compile(self, kind: Kind) -> list[_Kernel]:
        """Return the kernels that a network needs."""
        self.n_kinds += 1
        process = self._process
        try:
            print(json.dumps(asdict(kind)), file=process.stdin, flush=True)
            return [_Kernel(*kernel) for kernel in json.loads(process.stdout.readline() if process.stdout else "")]
        except (OSError, ValueError) as error:
            raise _Failed(f"a process that compiles has ended with status {process.wait()}") from error

    def end(self) -> None:
        """End the process, though it may be compiling."""
        self._process.terminate()

    def close(self) -> None:
        """Wait for its end."""
        self._process.communicate()


def _compiled(kinds: list[Kind], n_jobs: int) -> Generator[list[_Kernel]]:
    """Yield the kernels of each kind, as processes compile them."""
    workers: list[_Worker] = []
    ended, local = threading.Event(), threading.local()

    def compile(kind: Kind) -> list[_Kernel]:
        worker: _Worker | None = getattr(local, "worker", None)
        if worker is None or worker.n_kinds == _PER_WORKER:
            if worker is not None:
                worker.close()
            worker = local.worker = _Worker()
            workers.append(worker)
        if ended.is_set():
            worker.end()
        return worker.compile(kind)

    pool = ThreadPoolExecutor(n_jobs)
    try:
        pending = {pool.submit(compile, kind) for kind in kinds}
        while pending:
            done, pending = wait(pending, _POLL_SECONDS, FIRST_COMPLETED)
            for each in done:
                yield each.result()
    finally:
        ended.set()
        for worker in workers:
            worker.end()
        pool.shutdown(cancel_futures=True)
        for worker in workers:
            worker.close()
