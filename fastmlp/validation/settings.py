"""Checks of settings.

Every check returns the value in the form that the package uses, or raises TypeError or ValueError.
"""

from __future__ import annotations

import contextlib
import difflib
import math
import numbers
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeGuard

import numpy as np
import numpy.typing as npt

__all__ = [
    "check_activation",
    "check_bool",
    "check_choice",
    "check_dropout",
    "check_dtype",
    "check_float",
    "check_index",
    "check_int",
    "check_layers",
    "check_n_threads",
    "check_number",
    "check_output",
    "check_path",
    "check_seed",
    "is_iterable",
    "is_list",
]

_MOST_THREADS = 1024

_NONE: Mapping[str, str] = {}


def check_int(name: str, value: object, least: int, expected: str = "an integer") -> int:
    """Return `value` as an int; it must be an integer of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name} must be {expected}, not {value!r}")
    number = int(value)
    if number < least:
        raise ValueError(f"{name} must be at least {least}, not {value}")
    return number


def check_index(name: str, value: object, n: int, what: str) -> int:
    """Return the index of one of `n` things; `value` may count from their end, as -1. `what` names them."""
    index = check_int(name, value, -n)
    if index >= n:
        raise ValueError(f"{name} is {index}, but there are {n} {what}")
    return index % n


def is_list(value: object) -> TypeGuard[Sequence[Any] | npt.NDArray[Any]]:
    """Return whether `value` is a list, a tuple or an array with at least one dimension. A string is not a list."""
    if isinstance(value, np.ndarray):
        return value.ndim > 0
    return isinstance(value, Sequence) and not isinstance(value, str)


def is_iterable(value: object) -> TypeGuard[Iterable[Any]]:
    """Return whether a ``for`` loop can go over `value`."""
    return isinstance(value, Iterable) and not (isinstance(value, np.ndarray) and value.ndim == 0)


def check_layers(layers: object) -> tuple[int, ...]:
    """Return the layer sizes as a tuple of at least two integers, each 1 or more."""
    if not is_list(layers):
        raise TypeError(f"layers must be a list of layer sizes, e.g. [784, 128, 10], not {layers!r}")
    sizes = tuple(check_int(f"layers[{i}]", size, 1) for i, size in enumerate(layers))
    if len(sizes) < 2:
        raise ValueError(f"layers must name at least two sizes, inputs and outputs, e.g. [784, 10], not {layers!r}")
    return sizes


def check_choice(
    name: str, value: object, choices: Sequence[str], also_called: Mapping[str, str] = _NONE, others: Sequence[str] = ()
) -> str:
    """Return `value`, which must be one of `choices`. The error names them and suggests the closest.

    `others` says what else the setting may be. The caller has found that `value` is none of it.
    """
    if isinstance(value, str) and value in choices:
        return str(value)  # as a plain str, not NumPy's
    word = value.lower() if isinstance(value, str) else ""
    close = [also_called[word]] if word in also_called else difflib.get_close_matches(word, choices, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    kind = ValueError if isinstance(value, str) else TypeError
    allowed = [*map(repr, choices), *others[:-1], *(f"or {last}" for last in others[-1:])]
    one_of = "one of " if len(choices) > 1 else ""
    raise kind(f"{name} must be {one_of}{', '.join(allowed)}, not {value!r}{hint}")


def check_dtype(value: object, choices: Sequence[str]) -> str:
    """Return the name of a dtype, given by name or as np.float32; it must be one of `choices`."""
    if value is not None and not isinstance(value, str):
        with contextlib.suppress(TypeError, ValueError):  # then check_choice raises
            value = np.dtype(value).name  # type: ignore[call-overload]
    return check_choice("dtype", value, choices)


def check_number(name: str, value: object, below: float = math.inf, zero: bool = True) -> float:
    """Return `value` as a float; it must be a number in [0, below), or in (0, below) if `zero` is False."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a number, not {value!r}")
    try:
        number = float(value)
    except OverflowError:  # an int or a fraction larger than every float
        number = math.inf
    if not (0 < number < below or (zero and number == 0)):
        low, high = "0 or more" if zero else "more than 0", "finite" if below == math.inf else f"below {below:g}"
        raise ValueError(f"{name} must be {low} and {high}, not {value}")
    return number


def check_float(name: str, value: object, dtype: str = "float32", zero: bool = True) -> float:
    """Return `value` as a float. It must be 0 or more and finite, and with ``zero=False`` not 0, also in `dtype`."""
    number = check_number(name, value, zero=zero)
    if number == 0 or 1e-30 < number < 1e30:  # in any dtype
        return number
    with np.errstate(over="ignore", under="ignore"):
        rounded = np.dtype(dtype).type(number)
    if rounded == np.inf or (rounded == 0 and not zero):
        raise ValueError(f"{name} {value} is too {'large' if rounded else 'small'}: {dtype} makes it {rounded}")
    return number


def check_bool(name: str, value: object) -> bool:
    """Return `value` as a bool; it must be True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False, not {value!r}")
    return bool(value)


def _one_each(name: str, value: object, n_hidden: int) -> list[tuple[str, object]]:
    """Return (name, value) for each hidden layer; `value` is for all of them, or a sequence with one for each."""
    if not is_list(value):
        return [(name, value)] * n_hidden
    each_of = list(value)
    if len(each_of) != n_hidden:
        raise ValueError(f"{name} has {len(each_of)} entries, but the network has {n_hidden} hidden layers")
    return [(f"{name}[{i}]", each) for i, each in enumerate(each_of)]


def check_activation(activation: object, n_hidden: int, choices: Sequence[str]) -> str | tuple[str, ...]:
    """Return the name of an activation, or a tuple with one for each hidden layer."""
    also_called = {"sigmoid": "logistic", "swish": "silu", "linear": "identity", "lrelu": "leaky_relu"}
    if not is_list(activation):
        return check_choice("activation", activation, choices, also_called, ["a list with one for each hidden layer"])
    names = _one_each("activation", activation, n_hidden)
    return tuple(check_choice(name, each, choices, also_called) for name, each in names)


def check_output(output: object, choices: Sequence[str]) -> str:
    """Return the name of what a network returns."""
    return check_choice("output", output, choices, {"sigmoid": "logistic", "linear": "identity"})


def check_dropout(dropout: object, n_hidden: int) -> float | tuple[float, ...]:
    """Return a rate in [0, 1), or a tuple with one for each hidden layer."""
    if not is_list(dropout):
        return check_number("dropout", dropout, below=1)
    return tuple(check_number(name, each, below=1) for name, each in _one_each("dropout", dropout, n_hidden))


def check_seed(seed: object) -> int | None:
    """Return the seed, an int of 0 or more or None."""
    return None if seed is None else check_int("seed", seed, 0, "an integer or None")


def check_n_threads(value: object) -> int | None:
    """Return the number of threads, an int from 1 to 1024 or None."""
    n_threads = None if value is None else check_int("n_threads", value, 1, "an integer or None")
    if n_threads is not None and n_threads > _MOST_THREADS:
        raise ValueError(f"n_threads must be at most {_MOST_THREADS}, not {n_threads}")
    return n_threads


def check_path(path: object) -> str:
    """Return the name of a file, given as a str or a path."""
    name = os.fspath(path) if isinstance(path, os.PathLike) else path
    if not isinstance(name, str):
        raise TypeError(f"path must be the name of a file, not {path!r}")
    if not name or "\0" in name:
        raise ValueError(f"path must be the name of a file, {'not ' + repr(name) if name else 'but it is empty'}")
    return name
