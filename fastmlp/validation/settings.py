"""Checks of what users hand in; both networks call them before anything changes.

Every check returns the value in the form that the networks use, or raises ValueError or TypeError in the user's words.
"""

from __future__ import annotations

import contextlib
import difflib
import math
import numbers
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

import numpy as np
import numpy.typing as npt

from fastmlp.engine.threads import available_threads, run_together
from fastmlp.validation.sparse import as_csr, is_sparse

__all__ = [
    "as_numbers",
    "check_X",
    "check_activation",
    "check_bool",
    "check_choice",
    "check_dropout",
    "check_dtype",
    "check_finite",
    "check_float32",
    "check_input_scale",
    "check_int",
    "check_layers",
    "check_learning_rate",
    "check_n_threads",
    "check_number",
    "check_positive_int",
    "check_seed",
    "is_list",
]

_BLOCK_BYTES = 1 << 20  # of rows looked at together, to find a value that is not finite

_MOST_THREADS = 1024

_NOTHING: Mapping[str, str] = {}

_KINDS = {"O": "object", "U": "string", "S": "string", "T": "string", "c": "complex", "M": "date", "m": "time"}


# --- settings ---------------------------------------------------------------------------------------------------------


def check_int(name: str, value: object, least: int, expected: str = "an integer") -> int:
    """Return `value` as an int, if it is an integer of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name} must be {expected}, not {value!r}")
    if int(value) < least:
        raise ValueError(f"{name} must be at least {least}, not {value}")
    return int(value)


def is_list(value: object) -> TypeGuard[Sequence[Any] | npt.NDArray[Any]]:
    """Return whether `value` is a list, a tuple or an array with at least one dimension; a string is none."""
    if isinstance(value, np.ndarray):
        return value.ndim > 0
    return isinstance(value, Sequence) and not isinstance(value, str)


def check_layers(layers: object) -> tuple[int, ...]:
    """Return the layer sizes as a tuple: at least two integers, each 1 or more."""
    if not is_list(layers):
        raise TypeError(f"layers must be a list of layer sizes, e.g. [784, 128, 10], not {layers!r}")
    if len(layers) < 2:
        raise ValueError(f"layers must name at least two sizes, inputs and outputs, e.g. [784, 10], not {layers!r}")
    return tuple(check_positive_int(f"layers[{i}]", size) for i, size in enumerate(layers))


def check_choice(name: str, value: object, choices: Sequence[str], also_called: Mapping[str, str] = _NOTHING) -> str:
    """Return `value` if it is one of `choices`; if not, say which exist and which may be meant."""
    if isinstance(value, str) and value in choices:
        return str(value)  # NumPy's strings are others
    word = value.lower() if isinstance(value, str) else ""
    close = [also_called[word]] if word in also_called else difflib.get_close_matches(word, choices, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    kind = ValueError if isinstance(value, str) else TypeError
    raise kind(f"{name} must be one of {', '.join(map(repr, choices))}, not {value!r}{hint}")


def check_dtype(value: object, choices: Sequence[str]) -> str:
    """Return the name of a dtype, given as a name or as NumPy's own (np.float32), if it is one of `choices`."""
    if value is not None and not isinstance(value, str):
        with contextlib.suppress(TypeError):  # check_choice refuses it
            value = np.dtype(value).name  # type: ignore[call-overload]
    return check_choice("dtype", value, choices)


def check_positive_int(name: str, value: object) -> int:
    """Return `value` as an int, if it is an integer of 1 or more."""
    return check_int(name, value, 1)


def _real(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a number, not {value!r}")
    try:
        return float(value)
    except OverflowError:  # an int or a fraction beyond every float
        return math.inf


def check_number(name: str, value: object, below: float = math.inf, zero: bool = True) -> float:
    """Return `value` as a float, if it is a number from 0 (itself only if `zero`) to `below`, itself not."""
    number = _real(name, value)
    if not (0 < number < below or (zero and number == 0)):
        low, high = "0 or more" if zero else "more than 0", "finite" if below == math.inf else f"below {below:g}"
        raise ValueError(f"{name} must be {low} and {high}, not {value}")
    return number


def _as_float32(number: float) -> np.float32:
    with np.errstate(over="ignore", under="ignore"):
        return np.float32(number)


def check_float32(name: str, value: object) -> float:
    """Return `value` as a float, if it is a number of 0 or more, and finite also as float32."""
    number = check_number(name, value)
    if _as_float32(number) == np.inf:
        raise ValueError(f"{name} {value} is too large: float32 makes it inf")
    return number


def check_learning_rate(value: object) -> float:
    """Return the learning rate as a float, if it is positive and finite, also as float32."""
    rate = _real("learning_rate", value)
    if not 0 < rate < math.inf:
        raise ValueError(f"learning_rate must be positive and finite, not {value}")
    rate32 = _as_float32(rate)
    if not 0 < rate32 < np.inf:
        raise ValueError(f"learning_rate {value} is too {'small' if rate < 1 else 'large'}: float32 makes it {rate32}")
    return rate


def check_input_scale(value: object, dtype: str) -> float:
    """Return the factor of the input as a float, if it is positive and finite, also in `dtype`."""
    with np.errstate(over="ignore", under="ignore"):
        scale = float(np.dtype(dtype).type(_real("input_scale", value)))
    if not 0 < scale < math.inf:
        raise ValueError(f"input_scale must be positive and finite, not {value}")
    return scale


def check_bool(name: str, value: object) -> bool:
    """Return `value` as a bool, if it is True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False, not {value!r}")
    return bool(value)


def _one_each(name: str, value: object, n_hidden: int) -> list[tuple[str, object]]:
    """Return (name, value) of each hidden layer; `value` is one for all, or a sequence of one for each."""
    if not is_list(value):
        return [(name, value)] * n_hidden
    if len(value) != n_hidden:
        raise ValueError(f"{name} has {len(value)} entries, but the network has {n_hidden} hidden layers")
    return [(f"{name}[{i}]", each) for i, each in enumerate(value)]


def check_activation(activation: object, n_hidden: int, choices: Sequence[str]) -> str | tuple[str, ...]:
    """Return the name of an activation, or one name for each hidden layer as a tuple."""
    also_called = {"sigmoid": "logistic", "swish": "silu", "linear": "identity", "lrelu": "leaky_relu"}
    if not is_list(activation):
        return check_choice("activation", activation, choices, also_called)
    names = _one_each("activation", activation, n_hidden)
    return tuple(check_choice(name, each, choices, also_called) for name, each in names)


def check_dropout(dropout: object, n_hidden: int) -> float | tuple[float, ...]:
    """Return a rate of at least 0 and below 1, or one for each hidden layer as a tuple."""
    if not is_list(dropout):
        return check_number("dropout", dropout, below=1)
    return tuple(check_number(name, each, below=1) for name, each in _one_each("dropout", dropout, n_hidden))


def check_seed(seed: object) -> int | None:
    """Return the seed as an int of 0 or more, or None."""
    return None if seed is None else check_int("seed", seed, 0, "an integer or None")


def check_n_threads(value: object) -> int | None:
    """Return the number of threads as an int from 1 to 1024, or None."""
    n_threads = None if value is None else check_int("n_threads", value, 1, "an integer or None")
    if n_threads is not None and n_threads > _MOST_THREADS:
        raise ValueError(f"n_threads must be at most {_MOST_THREADS}, not {n_threads}")
    return n_threads


# --- data -------------------------------------------------------------------------------------------------------------


def as_numbers(data: object, name: str, advice: str) -> npt.NDArray[Any]:
    """Return `data` as a plain array of real numbers (float, integer or bool), without a copy where it can be."""
    if is_sparse(data):
        raise TypeError(f"{name} is sparse; make it dense first: {name.split()[-1]}.toarray()")
    if isinstance(data, np.ma.MaskedArray) and np.ma.is_masked(data):
        count = np.count_nonzero(np.ma.getmaskarray(data))
        raise ValueError(f"{name} has {count} masked values; fill them first: {name.split()[-1]}.filled(value)")
    try:
        array: npt.NDArray[Any] = np.asarray(data)
    except ValueError as error:
        raise ValueError(f"{name} cannot be made an array: its rows differ in length or kind ({error})") from error
    if array.dtype.kind not in "fiub":
        kind = _KINDS.get(array.dtype.kind, "unknown")
        raise TypeError(f"{name} holds {kind} values (dtype {array.dtype}), not numbers; {advice}")
    return array


def _check_shape(array: npt.NDArray[Any], n_features: int, name: str) -> None:
    word = name.split()[-1]
    if array.size == 0:
        raise ValueError(f"{name} is empty: its shape is {array.shape}")
    if array.ndim == 1:
        advice = "reshape(-1, 1) for one feature" if n_features == 1 else "reshape(1, -1) for a single row"
        raise ValueError(f"{name} must have two dimensions (rows, features), not one; use {word}.{advice}")
    if array.ndim != 2:
        advice = f"; use {word}.reshape(len({word}), -1)" if array.ndim > 2 else ""
        raise ValueError(f"{name} must have two dimensions (rows, features), but its shape is {array.shape}{advice}")
    if array.shape[1] != n_features:
        raise ValueError(f"{name} has {array.shape[1]} features, but the network has {n_features} inputs")


def _all_finite(array: npt.NDArray[Any]) -> bool:
    if array.nbytes < _BLOCK_BYTES:
        return bool(np.isfinite(array).all())
    n_threads = available_threads() if array.nbytes > 16 * _BLOCK_BYTES else 1
    sums = [0.0] * n_threads

    def add(rank: int) -> None:  # one quick pass without a temporary: NaN and infinity stay in a sum
        first, last = (len(array) * r // n_threads for r in (rank, rank + 1))
        with np.errstate(over="ignore", invalid="ignore"):
            sums[rank] = float(array[first:last].sum())

    if n_threads == 1:
        add(0)
    else:
        run_together(n_threads, add)
    return all(map(math.isfinite, sums))


def check_finite(array: npt.NDArray[Any], source: npt.NDArray[Any], name: str) -> None:
    """Refuse `array` (n, I), made from `source`, if a value is not finite; name the first such place."""
    if _all_finite(array):
        return
    n_rows = max(1, _BLOCK_BYTES // array[0].nbytes)
    for start in range(0, len(array), n_rows):
        bad = np.argwhere(~np.isfinite(array[start : start + n_rows]))
        if len(bad):
            row, column = bad[0] + (start, 0)
            value = source[row, column]
            what = f"{value}, too large for {array.dtype}," if np.isfinite(value) else f"{value}"
            raise ValueError(f"{name} has {what} in row {row}, column {column}")


def check_X(
    X: object, n_features: int, dtype: npt.DTypeLike, scale: float = 1.0, name: str = "X", *, finite: bool = True
) -> Any:
    """Return `X` as a (n, n_features) array of `dtype`, times `scale`, or of bytes, or as a CSR array.

    Arrays are C-contiguous, aligned and of native byte order; all values are finite. Bytes (uint8) are neither copied
    nor scaled. The numbers of a row of a CSR array are in order, one for a feature. What already is so is not copied,
    and without `finite` nobody looks here whether its values are finite: who reads them anyway can tell.

    Raises
    ------
    TypeError
        If `X` does not hold real numbers.
    ValueError
        If its shape does not fit, it has masked, missing or infinite values, or its indices are broken.
    """
    if (
        not finite and type(X) is np.ndarray and X.ndim == 2 and X.size and X.shape[1] == n_features
        and _is_ready(X, dtype, scale)
    ):  # fmt: skip
        return X
    if is_sparse(X):
        return _check_csr(X, n_features, dtype, scale, name)
    source = as_numbers(X, name, f"convert it first, e.g. {name.split()[-1]}.astype(np.float32)")
    _check_shape(source, n_features, name)
    if source.dtype == np.uint8 and 255 * scale < float(np.finfo(dtype).max):
        return np.require(source, np.uint8, ["C"])
    return source if not finite and _is_ready(source, dtype, scale) else _as_finite(source, dtype, scale, name)


def _is_ready(source: npt.NDArray[Any], dtype: npt.DTypeLike, scale: float) -> bool:
    return source.dtype == dtype and scale == 1 and source.flags.c_contiguous and source.flags.aligned


def _as_finite(source: npt.NDArray[Any], dtype: npt.DTypeLike, scale: float, name: str) -> npt.NDArray[Any]:
    array = source
    if not _is_ready(source, dtype, scale):
        with np.errstate(over="ignore", under="ignore"):  # check_finite says what overflowed, and where
            array = np.require(source, dtype, ["C", "A"])
            if scale != 1:
                array = array * array.dtype.type(scale)
    check_finite(array, source, name)
    return array


def _check_csr(X: Any, n_features: int, dtype: npt.DTypeLike, scale: float, name: str) -> Any:
    """Return a sparse matrix as `check_X` does."""
    from scipy import sparse

    if X.ndim != 2:
        raise ValueError(f"{name} must have two dimensions (rows, features), but its shape is {X.shape}")
    if X.shape[0] == 0:
        raise ValueError(f"{name} is empty: its shape is {X.shape}")
    if X.shape[1] != n_features:
        raise ValueError(f"{name} has {X.shape[1]} features, but the network has {n_features} inputs")
    if X.dtype.kind not in "fiub":
        raise TypeError(f"{name} holds {_KINDS.get(X.dtype.kind, 'unknown')} values (dtype {X.dtype}), not numbers")
    csr = as_csr(X, name)
    data = _as_finite(csr.data[: csr.indptr[-1], None], dtype, scale, f"the numbers of {name}")[:, 0]
    return sparse.csr_array((np.ascontiguousarray(data), csr.indices[: csr.indptr[-1]], csr.indptr), shape=csr.shape)
