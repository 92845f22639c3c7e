"""Everything that is drawn from the seed: first parameters and the order of the rows.

Both networks, `fastmlp.MLP` and `fastmlp.reference.MLP`, draw here, so that the same seed gives them the same start
and the same batches.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["INITS", "batch_generator", "epoch_orders", "initial_parameters"]

INITS = ("he", "xavier", "normal")

# The second word of the seed keeps the two streams apart: more layers do not change the order of the rows.
_PARAMETERS, _BATCHES = 0, 1


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
