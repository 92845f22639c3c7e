"""`MLP`: the network that is computed by compiled kernels; `warm_up` compiles them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmlp.engine.compiled import CompiledEngine
from fastmlp.network import Network
from fastmlp.optimizers import Optimizer, get_optimizer
from fastmlp.training import check_clipping
from fastmlp.validation.calls import advised, advised_constructor
from fastmlp.validation.settings import check_choice, check_layers

__all__ = ["MLP", "warm_up"]

_N_ROWS, _MOST_UNITS = 16, 16
_ROWS = {
    "dense": (1, "float"),
    "sparse": (0, "float"),
    "uint8": (1, "uint8"),
    "sparse uint8": (0, "uint8"),
    "csr": (0, "csr"),
}
"""The kinds of X: one of its numbers, and what it is."""


@advised_constructor
class MLP(Network):  # noqa: D101
    __doc__ = Network.__doc__
    _engine_class = CompiledEngine


@advised
def warm_up(
    layers: Sequence[int],
    *,
    optimizer: str | Optimizer = "sgd",
    rows: Iterable[str] = ("dense", "sparse"),
    clip_norm: float | None = None,
    clip_value: float | None = None,
    **settings: Any,
) -> None:
    """Compile the kernels for training and predictions, or load them, so that the first fit starts at once.

    Kernels are compiled once for each combination of activations, output, dtype, optimizer and kind of X, whatever the
    layer sizes, and cached on disk. Call this when a server starts, or when the image of a container is built.

    Parameters
    ----------
    layers : sequence of int
        Layer sizes, as for `MLP`.
    optimizer : str or Optimizer, default="sgd"
        Optimizer, as for `MLP.fit`.
    rows : iterable of {"dense", "sparse", "uint8", "sparse uint8", "csr"}, default=("dense", "sparse")
        Kinds of X to prepare for: arrays with few zeros ("dense") or many ("sparse"), the same as bytes ("uint8",
        "sparse uint8"), and SciPy's CSR matrices ("csr"). Predictions for fewer than 6 rows use "sparse".
    clip_norm, clip_value : float or None, default=None
        Gradient clipping, as for `MLP.fit`. Any number compiles the same kernels.
    **settings
        Further parameters of `MLP`, such as ``dtype="float64"`` or ``output="identity"``.

    Raises
    ------
    TypeError, ValueError
        If an argument is wrong.

    Examples
    --------
    >>> import fastmlp
    >>> fastmlp.warm_up([784, 128, 10], optimizer="adam")
    """
    kinds = [check_choice("rows", kind, tuple(_ROWS)) for kind in ([rows] if isinstance(rows, str) else rows)]
    small = MLP([min(n_units, _MOST_UNITS) for n_units in check_layers(layers)], **settings)
    chosen, clipping = get_optimizer(optimizer, None), check_clipping(clip_norm, clip_value)
    for kind in kinds:
        X = _sample(kind, small)
        small._engine.prepare(X, chosen, clipping)
        small._engine.prepare_inference(X)


def _sample(kind: str, net: MLP) -> Any:
    """Return an X of a kind that the network takes."""
    number, form = _ROWS[kind]
    X: npt.NDArray[Any] = np.full((_N_ROWS, net.layers[0]), number, np.uint8 if form == "uint8" else net.dtype)
    if form != "csr":
        return X
    from scipy.sparse import csr_array

    return csr_array(X)
