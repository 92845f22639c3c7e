"""Everything drawn from the seed: initial parameters, order of the rows, validation and bootstrap rows, dropout, noise.

`fastmlp.MLP` and `fastmlp.reference.MLP` both draw here, so the same seed gives them the same start and the same
batches.

Dropout and noise come from a counter-based generator: each number is a hash of seed, epoch, row, layer and unit. It
does not depend on the thread that computes it, nor on the order. All arithmetic is uint32.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = [
    "INITS",
    "RandomStreams",
    "batch_generator",
    "bootstrap_rows",
    "initial_parameters",
    "keep_threshold",
    "kept",
    "member_seeds",
    "mix_seed",
    "normal_noise",
    "permutations",
    "random_bits",
    "regularization_seed",
    "row_keys",
    "validation_mask",
]

INITS: dict[str, Callable[[int, int], float]] = {
    "he": lambda fan_in, fan_out: math.sqrt(2 / fan_in),  # He et al. 2015, equation 10
    "xavier": lambda fan_in, fan_out: math.sqrt(2 / (fan_in + fan_out)),  # Glorot and Bengio 2010, (12), but normal
    "normal": lambda fan_in, fan_out: 0.01,
}
"""Standard deviation of the first weights (fan_in, fan_out) of a layer."""

# Second word of the seed: it makes the streams independent. More layers do not change the order of the rows.
_PARAMETERS, _BATCHES, _REGULARIZATION, _VALIDATION, _MEMBERS, _BOOTSTRAP = range(6)

_GOLDEN = np.uint32(0x9E3779B9)  # 2**32 / golden ratio: its multiples are spread evenly
NOISE_LAYER = 1_000_000

Words: TypeAlias = npt.NDArray[np.uint32]


@dataclass
class RandomStreams:
    """What a network draws from while it trains. It lasts from fit to fit.

    Attributes
    ----------
    generator : Generator
        Draws the order of the rows.
    seed : int
        32 bits. Dropout and noise are keyed by it; it also selects the validation rows.
    epoch : int
        Number of passes so far, over any rows, by `fit` and `train_batch`. Dropout and noise are keyed by it, too.
    """

    generator: np.random.Generator
    seed: int
    epoch: int = 0

    @classmethod
    def from_seed(cls, seed: int | None) -> Self:
        """Return the streams of a new network."""
        return cls(batch_generator(seed), regularization_seed(seed))


def _generator(seed: int | None, stream: int) -> np.random.Generator:
    return np.random.default_rng(None if seed is None else [seed, stream])


def initial_parameters(
    layers: Sequence[int], init: str, seed: int | None
) -> tuple[list[npt.NDArray[np.float64]], list[npt.NDArray[np.float64]]]:
    """Draw the first weights from a normal distribution with mean 0; biases are 0.

    Parameters
    ----------
    layers : sequence of int
        Sizes, inputs first.
    init : {"he", "xavier", "normal"}
        Selects the standard deviation, see `INITS`.
    seed : int or None
        None draws fresh numbers.

    Returns
    -------
    weights : list of (I, O) float64 arrays
    biases : list of (O,) float64 arrays
    """
    generator = _generator(seed, _PARAMETERS)
    shapes = list(itertools.pairwise(layers))
    weights = [INITS[init](*shape) * generator.standard_normal(shape) for shape in shapes]
    biases = [np.zeros(fan_out) for _, fan_out in shapes]
    return weights, biases


def batch_generator(seed: int | None) -> np.random.Generator:
    """Return the generator that draws the order of the rows."""
    return _generator(seed, _BATCHES)


def permutations(generator: np.random.Generator, n_epochs: int, n_rows: int, shuffle: bool) -> npt.NDArray[np.int64]:
    """Return the order of the rows in each epoch.

    Two calls for one epoch each draw the same as one call for two epochs. Without `shuffle` nothing is drawn.

    Returns
    -------
    (n_epochs, n_rows) int64 array
        Each line is a permutation of 0 to n_rows - 1.
    """
    order = np.empty((n_epochs, n_rows), dtype=np.int64)
    order[:] = np.arange(n_rows)
    if shuffle:
        for permutation in order:
            generator.shuffle(permutation)
    return order


def validation_mask(groups: npt.NDArray[np.int32], fraction: float, seed: int) -> npt.NDArray[np.bool_]:
    """Return which rows are for validation: `fraction` of each group, that is of the rows with equal `groups`.

    A group of two or more rows keeps at least one row on each side. The same seed selects the same rows.
    """
    generator = _generator(seed, _VALIDATION)
    mask = np.zeros(len(groups), np.bool_)
    for group in np.unique(groups):
        rows = generator.permutation(np.flatnonzero(groups == group))
        mask[rows[: min(max(1, round(fraction * len(rows))), len(rows) - 1)]] = True
    return mask


def member_seeds(seed: int | None, n: int) -> list[int]:
    """Return the seeds of the members of an ensemble. More members do not change the first ones."""
    seeds: list[int] = np.random.SeedSequence(None if seed is None else [seed, _MEMBERS]).generate_state(n).tolist()
    return seeds


def bootstrap_rows(seed: int | None, n_rows: int) -> npt.NDArray[np.int64]:
    """Return as many rows as there are, drawn with replacement."""
    return _generator(seed, _BOOTSTRAP).integers(n_rows, size=n_rows)


# --- dropout and noise ------------------------------------------------------------------------------------------------


def regularization_seed(seed: int | None) -> int:
    """Return the 32-bit key of a network's dropout and noise."""
    return int(np.random.SeedSequence(None if seed is None else [seed, _REGULARIZATION]).generate_state(1)[0])


def mix_seed(seed: int, mix: int) -> int:
    """Return the key of dropout and noise in one mix of an epoch: rows are known by their place in the mix alone."""
    return int(_mix(np.array([seed], np.uint32) + _GOLDEN * np.array([mix % 2**32], np.uint32))[0]) if mix else seed


def _mix(h: Words) -> Words:
    """Return a hash of each word: lowbias32 (Wellons 2018), where every bit depends on every bit of `h`."""
    h = h ^ (h >> np.uint32(16))
    h = h * np.uint32(0x7FEB352D)
    h = h ^ (h >> np.uint32(15))
    h = h * np.uint32(0x846CA68B)
    return h ^ (h >> np.uint32(16))


def row_keys(seed: int, epoch: int, rows: npt.NDArray[np.int64], layer: int) -> Words:
    """Return the key (B,) of each row in an epoch, for one layer: 0 is the inputs, l the l-th hidden layer."""
    key = _mix(np.array([seed], np.uint32)) ^ np.array([epoch % 2**32], np.uint32)
    keys = _mix(_mix(key) + rows.astype(np.uint32))
    return _mix(keys + _GOLDEN * np.array([layer + 1], np.uint32))


def random_bits(keys: Words, n_units: int) -> Words:
    """Return 32 random bits for each unit of each row, (B, n_units)."""
    keys = keys[:, None]
    return _mix(_mix(keys + _GOLDEN * np.arange(n_units, dtype=np.uint32)) ^ keys)


def keep_threshold(rate: float) -> int:
    """Return the smallest 32-bit word for which a unit is kept if it is dropped with probability `rate`."""
    return min(round(rate * 2**32), 2**32 - 1)


def kept(keys: Words, n_units: int, rate: float) -> npt.NDArray[np.bool_]:
    """Return the mask (B, n_units) of the units that dropout keeps."""
    return random_bits(keys, n_units) >= np.uint32(keep_threshold(rate))


def normal_noise(keys: Words, n_units: int) -> npt.NDArray[np.float64]:
    """Return standard normal numbers (B, n_units), each pair made from two words (Box and Muller 1958)."""
    uniform = (random_bits(keys, n_units + n_units % 2) + 0.5) / 2**32  # strictly between 0 and 1
    radius, angle = np.sqrt(-2 * np.log(uniform[:, 0::2])), 2 * np.pi * uniform[:, 1::2]
    noise = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=2)
    return noise.reshape(len(keys), -1)[:, :n_units]
