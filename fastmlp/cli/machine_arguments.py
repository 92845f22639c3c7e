"""The arguments of the commands about this machine: ``fastmlp bench`` and ``doctor``."""

from __future__ import annotations

from typing import Any

from fastmlp.cli.shared_arguments import add_data_options, add_layers, add_threads
from fastmlp.cli.values import number, whole_number

__all__ = ["BENCH", "DOCTOR", "PEERS", "add_bench", "add_doctor"]

PEERS = {  # name on the command line -> class of fastmlp.bench.peers
    "numpy": "NumPy",
    "numpy64": "NotebookNumPy",
    "pytorch": "PyTorch",
    "pytorch-compiled": "CompiledPyTorch",
    "jax": "JAX",
    "sklearn": "ScikitLearn",
}
_PEER_ACTIVATIONS = ("relu", "logistic")  # that all peers have

_BENCH_DESCRIPTION = """\
examples:
  fastmlp bench
  fastmlp bench --layers 256 128 --batch-size 128 --json bench.json
  fastmlp bench --data mine.npz --peers numpy pytorch --chart bench.png

Measure this machine's peak rates of multiply-adds and memory reads, then the
time of an epoch with fastmlp and with NumPy in float32 and float64, PyTorch
eager and compiled, JAX and scikit-learn, if they are installed.

All train in turns, A B C A B C, from the same first weights and with the rows
in the same order, so all must come to the loss of fastmlp, within 2 %: after
an untimed first epoch, and after each turn. One that does not is listed with
an error in place of a time.
"""

_BENCH_DETAILS = """\
The table has a row for each: the best and the median time of an epoch (mean
over the epochs of a turn); the spread of the turns, relative to the median; its
time relative to fastmlp's in the same turn, median and range; and its best time
relative to the machine's peak, counting the zeros of the rows or not.

Close other programs first. If they were busy meanwhile, or if turns differ by
more than half, a warning says not to quote the ratios. --json keeps all
measurements, with the load of the machine.

--data is as for `fastmlp train`; test rows are not used.
Ctrl-C ends it early; the turns that have finished are reported.

exit status: 0 done, 1 a peer has not done the same work, 2 wrong usage,
130 stopped by Ctrl-C
"""
_DOCTOR_TEXT = """\
examples:
  fastmlp doctor
  fastmlp doctor --measure

Look for what makes fastmlp slow or wrong on this machine, and say what to do.

Checks the cache of compiled kernels, the cores and the memory that this
process may use, threads that keep cores busy while they wait, the processor,
environment variables, versions, and what other programs use at the moment. It
takes a few seconds.
"""

_DOCTOR_DETAILS = """\
Each line of the result begins with
  wrong       it does not work like this
  slow        it works, but slower than it could
  note        what you may want to know
and ends with what to do. --measure adds the peak rates of multiply-adds and
memory reads, for which it compiles two kernels.

exit status: 0 nothing is wrong or slow, 1 something is, 2 wrong usage
"""

BENCH = ("[OPTION ...]", _BENCH_DESCRIPTION, _BENCH_DETAILS)
DOCTOR = ("[--measure]", _DOCTOR_TEXT, _DOCTOR_DETAILS)
"""Usage, description and details of each command."""


def add_bench(bench: Any) -> None:
    """Add the options of ``fastmlp bench``."""
    work = bench.add_argument_group("work")
    add_data_options(work)
    add_layers(work)
    add = work.add_argument
    add(
        "--activation",
        default="relu",
        choices=_PEER_ACTIVATIONS,
        metavar="NAME",
        help=f"activation of the hidden layers: {' or '.join(_PEER_ACTIVATIONS)} (default: %(default)s)",
    )
    add("--epochs", default=2, type=whole_number(1), metavar="N", help="passes over the rows in one turn (default: 2)")
    add("--batch-size", default=64, type=whole_number(1), metavar="N", help="rows per step (default: %(default)s)")
    add(
        "--learning-rate",
        default=0.1,
        type=number(zero=False),
        metavar="RATE",
        help="learning rate of SGD (default: %(default)s)",
    )
    measure = bench.add_argument_group("measurement")
    add = measure.add_argument
    add("--runs", default=5, type=whole_number(1), metavar="N", help="number of turns (default: %(default)s)")
    add(
        "--peers",
        default=list(PEERS),
        nargs="*",
        choices=list(PEERS),
        metavar="NAME",
        help=f"libraries to compare with: {', '.join(PEERS)} (default: all that are installed)",
    )
    add_threads(measure, "number of threads of fastmlp and of all others (default: one per core)")
    results = bench.add_argument_group("results")
    results.add_argument("--json", metavar="FILE", help="write all measurements to this file")
    chart_help = "plot the times into this file; needs matplotlib"
    results.add_argument("--chart", metavar="FILE.png|FILE.svg", help=chart_help)


def add_doctor(doctor: Any) -> None:
    """Add the option of ``fastmlp doctor``."""
    doctor.add_argument("--measure", action="store_true", help="also measure what the cores and the memory can do")
