"""Everything that is drawn from the seed: first parameters, the order of the rows, dropout and noise.

Both networks, `fastmlp.MLP` and `fastmlp.reference.MLP`, draw here, so that the same seed gives them the same start
and the same batches.

Dropout and noise are counted, not drawn in turn: a number is a hash of the seed, the epoch, the row, the layer and the
unit that it is for. So it is the same whoever computes it, in whatever order. All arithmetic is that of uint32.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = [
    "INITS",
    "batch_generator",
    "epoch_orders",
    "held_out",
    "initial_parameters",
    "keep_threshold",
    "kept",
    "normal_noise",
    "random_bits",
    "regularization_seed",
    "row_keys",
]

INITS = ("he", "xavier", "normal")

# The second word of the seed keeps the two streams apart: more layers do not change the order of the rows.
_PARAMETERS, _BATCHES, _REGULARIZATION, _HELD_OUT = range(4)

_GOLDEN = np.uint32(0x9E3779B9)  # 2**32 over the golden ratio: its multiples lie far apart
NOISE_LAYER = 1_000_000

Words: TypeAlias = npt.NDArray[np.uint32]


def _generator(seed: int | None, stream: int) -> np.random.Generator:
    return np.random.default_rng(None if seed is None else [seed, stream])


def _init_std(init: str, fan_in: int, fan_out: int) -> float:
    """Return the standard deviation of the first weights of a layer of shape (fan_in, fan_out)."""
    match init:
        case "he":  # He et al. 2015, equation 10
            return math.sqrt(2 / fan_in)
        case "xavier":  # Glorot and Bengio 2010, equation 12, with a normal distribution of that variance
            return math.sqrt(2 / (fan_in + fan_out))
        case "normal":
            return 0.01
    raise ValueError(f"init must be one of {', '.join(INITS)}, not {init!r}")


def initial_parameters(
    layers: Sequence[int], init: str, seed: int | None
) -> tuple[list[npt.NDArray[np.float64]], list[npt.NDArray[np.float64]]]:
    """Draw the first weights, normal around zero; biases are zero.

    Parameters
    ----------
    layers : sequence of int
        Sizes of the layers, inputs first.
    init : {"he", "xavier", "normal"}
        Standard deviation: sqrt(2 / I), sqrt(2 / (I + O)) or 0.01.
    seed : int or None
        The same seed gives the same numbers; None draws fresh ones.

    Returns
    -------
    weights : list of (I, O) float64 arrays
    biases : list of (O,) float64 arrays
    """
    generator = _generator(seed, _PARAMETERS)
    shapes = list(itertools.pairwise(layers))
    weights = [_init_std(init, *shape) * generator.standard_normal(shape) for shape in shapes]
    biases = [np.zeros(fan_out) for _, fan_out in shapes]
    return weights, biases


def batch_generator(seed: int | None) -> np.random.Generator:
    """Return the generator of the order of the rows; a network keeps it, so that every fit draws new orders."""
    return _generator(seed, _BATCHES)


def epoch_orders(generator: np.random.Generator, n_epochs: int, n_rows: int, shuffle: bool) -> npt.NDArray[np.int64]:
    """Return the order of the rows in each epoch.

    Two calls for one epoch each draw what one call for two epochs draws. Without `shuffle` nothing is drawn.

    Returns
    -------
    orders : (n_epochs, n_rows) int64 array
        Every row is a permutation of 0 to n_rows - 1.
    """
    orders = np.empty((n_epochs, n_rows), dtype=np.int64)
    orders[:] = np.arange(n_rows)
    if shuffle:
        for order in orders:
            generator.shuffle(order)
    return orders


def held_out(groups: npt.NDArray[np.int32], fraction: float, seed: int) -> npt.NDArray[np.bool_]:
    """Return which rows are set aside: a fraction of each group of rows, those with the same number in `groups`.

    Of a group of two or more rows at least one is set aside and one is not. The same seed sets aside the same rows.
    """
    generator = _generator(seed, _HELD_OUT)
    aside = np.zeros(len(groups), np.bool_)
    for group in np.unique(groups):
        rows = generator.permutation(np.flatnonzero(groups == group))
        aside[rows[: min(max(1, round(fraction * len(rows))), len(rows) - 1)]] = True
    return aside


# --- dropout and noise ------------------------------------------------------------------------------------------------


def regularization_seed(seed: int | None) -> int:
    """Return the 32 bits that a network's dropout and noise are keyed by."""
    return int(np.random.SeedSequence(None if seed is None else [seed, _REGULARIZATION]).generate_state(1)[0])


def _mix(h: Words) -> Words:
    """Return a hash of each word: lowbias32, of which every bit depends on every bit of `h` (Wellons 2018)."""
    h = h ^ (h >> np.uint32(16))
    h = h * np.uint32(0x7FEB352D)
    h = h ^ (h >> np.uint32(15))
    h = h * np.uint32(0x846CA68B)
    return h ^ (h >> np.uint32(16))


def row_keys(seed: int, epoch: int, rows: npt.NDArray[np.int64], layer: int) -> Words:
    """Return the key (B,) of each row of X in an epoch, for a layer: 0 for the inputs, l for the l-th hidden layer."""
    key = _mix(np.array([seed], np.uint32)) ^ np.array([epoch % 2**32], np.uint32)
    keys = _mix(_mix(key) + rows.astype(np.uint32))
    return _mix(keys + _GOLDEN * np.array([layer + 1], np.uint32))


def random_bits(keys: Words, n_units: int) -> Words:
    """Return 32 random bits for each unit of each row, (B, n_units)."""
    keys = keys[:, None]
    return _mix(_mix(keys + _GOLDEN * np.arange(n_units, dtype=np.uint32)) ^ keys)


def keep_threshold(rate: float) -> int:
    """Return the word from which on a unit is kept, that is dropped with probability `rate`."""
    return min(round(rate * 2**32), 2**32 - 1)


def kept(keys: Words, n_units: int, rate: float) -> npt.NDArray[np.bool_]:
    """Return whether each unit of each row is kept, (B, n_units)."""
    return random_bits(keys, n_units) >= np.uint32(keep_threshold(rate))


def normal_noise(keys: Words, n_units: int) -> npt.NDArray[np.float64]:
    """Return standard normal numbers (B, n_units), two from each two words (Box and Muller 1958)."""
    uniform = (random_bits(keys, n_units + n_units % 2) + 0.5) / 2**32  # between 0 and 1, never either
    radius, angle = np.sqrt(-2 * np.log(uniform[:, 0::2])), 2 * np.pi * uniform[:, 1::2]
    noise = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=2)
    return noise.reshape(len(keys), -1)[:, :n_units]
