"""The arguments of ``fastmlp compile``."""

from __future__ import annotations

from typing import Any

__all__ = ["ALL_OPTIMIZERS", "COMPILE", "DTYPES", "OUTPUTS", "ROWS", "add_compile"]

OUTPUTS = ("softmax", "logistic", "identity", "exp")
DTYPES = ("float32", "float64")
ROWS = {  # name on the command line -> in `fastmlp.warm_up`
    "dense": "dense",
    "sparse": "sparse",
    "uint8": "uint8",
    "sparse-uint8": "sparse uint8",
    "csr": "csr",
}
ALL_OPTIMIZERS = (
    "sgd", "momentum", "nesterov", "adam", "adamw", "rmsprop", "rmsprop-momentum", "rmsprop-centered",
    "rmsprop-centered-momentum", "adagrad",
)  # fmt: skip

_TEXT = """\
examples:
  fastmlp compile
  fastmlp compile --optimizer adam --activation gelu --dropout
  fastmlp compile --rows csr --output logistic --l2
  fastmlp compile --all --dtype float32 --rows dense sparse

Compile kernels ahead of time, for container images and CI, so that the first
fit starts at once.

Kernels do not depend on the sizes of layers and batches. Each of the first
five options takes one name or several; kernels are compiled for all their
combinations. Those that are there already stay as they are.
"""

_DETAILS = """\
--all compiles everything that a network can need: 2,522 kernels, hours on a
few cores, and almost a gigabyte. Options that are given narrow it down.

Kernels are for the processor of this machine, for this version of fastmlp,
Numba and Python, and for the environment variables NUMBA_... as they are. They
are written to the folder that NUMBA_CACHE_DIR names, else to
~/.cache/fastmlp. Another user needs the permission to read it:
  RUN fastmlp compile && chmod -R a+rX "$NUMBA_CACHE_DIR"

Several processes may compile at once, and with the same folder; each kernel is
compiled by one of them.

exit status: 0 done, 1 kernels could not be written, 2 wrong usage,
130 stopped by Ctrl-C; what was compiled until then is kept
"""

COMPILE = ("[OPTION ...]", _TEXT, _DETAILS)
"""Usage, description and details of the command."""


def add_compile(parser: Any, activations: tuple[str, ...], jobs: Any) -> None:
    """Add the options. None means that one was not given, so that --all stands for every value of it."""
    add = parser.add_argument_group("networks").add_argument
    several = {"action": "extend", "nargs": "+", "metavar": "NAME"}
    add(
        "--optimizer",
        choices=ALL_OPTIMIZERS,
        **several,
        help=f"optimizers: {', '.join(ALL_OPTIMIZERS)} (default: sgd adam)",
    )
    add("--activation", choices=activations, **several, help="activations of the hidden layers (default: relu)")
    add("--output", choices=OUTPUTS, **several, help=f"outputs: {', '.join(OUTPUTS)} (default: softmax identity)")
    add("--dtype", choices=DTYPES, **several, help="data types: float32, float64 (default: float32)")
    add(
        "--rows",
        choices=list(ROWS),
        **several,
        help="kinds of X: arrays with few zeros (dense) or many (sparse), the same as bytes (uint8, sparse-uint8), and "
        "SciPy's CSR matrices (csr). Predictions for fewer than 6 rows use sparse (default: dense sparse)",
    )
    add("--l2", action="store_true", help="with an L2 penalty; only plain SGD has other kernels then")
    add("--clipping", action="store_true", help="with gradient clipping; only plain SGD has other kernels then")
    add("--dropout", action="store_true", help="with dropout of hidden units")
    add("--input-dropout", action="store_true", help="with dropout of inputs")
    add("--input-noise", action="store_true", help="with noise on the inputs")
    add("--label-smoothing", action="store_true", help="with label smoothing, where the output is softmax")
    add("--all", action="store_true", help="all kernels that the given options allow")
    work = parser.add_argument_group("work")
    work.add_argument("--jobs", type=jobs, metavar="N", help="number of processes (default: one per core)")
