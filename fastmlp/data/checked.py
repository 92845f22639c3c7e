"""`CheckedBlocks`: the rows of `Blocks` as a network takes them."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from functools import partial
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from fastmlp.activations import Floats
from fastmlp.data.blocks import Blocks
from fastmlp.data.sources.base import Block, Source
from fastmlp.losses import Loss, Targets
from fastmlp.model import Model
from fastmlp.names import Names, strings
from fastmlp.validation.inputs import check_finite, check_X
from fastmlp.validation.rows import check_sample_weight, check_total, weigh

__all__ = ["FEW_ROWS", "CheckedBlocks", "Piece", "learned", "located", "part_of", "stacked", "targets_of"]

T = TypeVar("T")

FEW_ROWS = 512
"""Rows that tell which kernels to compile, and what may be wrong with a fit."""

_LEAST_ROWS, _FEW_BYTES = 8, 1 << 22  # but they are kept, so there must not be too many wide ones


class Piece(NamedTuple):
    """Checked rows, their targets, their weights or None, and how many rows of all blocks are before them."""

    X: Any
    y: Targets
    weights: Floats | None
    first_row: int = 0


class CheckedBlocks:
    """The rows of blocks, which are checked and converted as they are read. All of y is checked at the beginning.

    Attributes
    ----------
    blocks : Blocks
    counts : (C,) int64 array
        Rows of each class, if each has one.
    weight : float
        Sum of the weights of all rows.

    Parameters
    ----------
    net : Model
    blocks : Blocks
    names : Names
        Of features and classes.
    what : str
        Comes before the names of X and y in messages.
    weights_dtype : dtype or None
        Of the weights of rows; None is the network's.
    class_weight : function or None
        Returns the weight of each class (C,), of which there are so many rows, or None.

    Raises
    ------
    TypeError, ValueError
        If there is no y, it does not fit the network, or X has another number of features.
    """

    def __init__(
        self,
        net: Model,
        blocks: Blocks,
        names: Names,
        what: str = "",
        weights_dtype: npt.DTypeLike | None = None,
        class_weight: Callable[[npt.NDArray[np.int64]], Floats | None] | None = None,
    ) -> None:
        self.blocks, self._net, self._names, self._what = blocks, net, names, what
        self._weights_dtype = net.dtype if weights_dtype is None else weights_dtype
        source = blocks._source
        if not source.has_y:
            raise ValueError(f"{what}X is Blocks without y; give Blocks(X, y)")
        if source.n_features != net.layers[0]:
            raise ValueError(f"{what}X has {source.n_features} features, but the network has {net.layers[0]} inputs")
        self._first_rows = np.concatenate([[0], np.cumsum(source.lengths)])
        n_classes = net._loss.n_classes
        self.counts, of_each = np.zeros(n_classes, np.int64), np.zeros(max(1, n_classes))
        for number, block in enumerate(source.targets()):
            y, weights = self._checked(block, number)
            classes = self._loss.decode(y) if n_classes else np.zeros(len(y), np.int64)
            if weights is not None:
                with np.errstate(over="ignore", under="ignore"):
                    weights = weights.astype(self._weights_dtype)
            of_each += np.bincount(classes, weights, len(of_each))
            self.counts += np.bincount(classes, minlength=n_classes)[:n_classes]
        self._of_classes = None if class_weight is None else class_weight(self.counts)
        self.weight = float((of_each if self._of_classes is None else of_each * self._of_classes).sum())
        check_total(self.weight)

    @property
    def _loss(self) -> Loss:
        return self._net._loss

    @property
    def weighs(self) -> bool:
        """Whether rows have weights."""
        return self.blocks._source.has_weights or self._of_classes is not None

    @property
    def n_few(self) -> int:
        """How many rows may be kept as a sample."""
        return max(_LEAST_ROWS, min(FEW_ROWS, _FEW_BYTES // self.blocks._row_bytes()))

    def __iter__(self) -> Iterator[tuple[Any, Targets, Floats | None]]:
        return (piece[:3] for piece in self.read())

    def all_weights(self) -> Floats | None:
        """Return the weight (n,) of each row, or None if all are 1."""
        if not self.weighs:
            return None
        checked = (self._checked(block, number) for number, block in enumerate(self.blocks._source.targets()))
        return np.concatenate([weigh(w, self._of_classes, y, self._loss, self._weights_dtype) for y, w in checked])

    def read(self, order: Sequence[int] | None = None, *, finite: bool = True) -> Generator[Piece]:
        """Yield the rows of these blocks, in this order; None is all blocks in their own order.

        With ``finite=False``, arrays that need no conversion may hold numbers that are not finite, see `check_finite`.

        Raises
        ------
        TypeError, ValueError
            If a block is not what the network can take.
        """
        order = range(len(self._first_rows) - 1) if order is None else order
        for number, block in zip(order, self.blocks._source.read(order), strict=True):
            y, weights = self._checked(block, number)
            X = located(self.blocks._source, int(self._first_rows[number]), partial(self._rows, block.X, finite))
            if self.weighs:
                weights = weigh(weights, self._of_classes, y, self._loss, self._weights_dtype)
            yield Piece(X, y, weights, int(self._first_rows[number]))

    def _rows(self, X: Any, finite: bool) -> Any:
        net = self._net
        self._names.check_features(X, f"{self._what}X")
        return check_X(X, net.layers[0], net.dtype, net.input_scale, f"{self._what}X", finite=finite)

    def first_rows(self) -> Piece:
        """Return some of the first rows."""
        pieces, left = list[Piece](), self.n_few
        with closing(self.read()) as blocks:
            for piece in blocks:
                pieces.append(part_of(piece, 0, min(left, len(piece.y))))
                left -= len(pieces[-1].y)
                if not left:
                    break
        return Piece(stacked([piece.X for piece in pieces]), *targets_of(pieces))

    def check_finite(self, piece: Piece) -> None:
        """Refuse a piece that has numbers which are not finite."""
        if isinstance(piece.X, np.ndarray):
            located(self.blocks._source, piece.first_row, lambda: check_finite(piece.X, piece.X, f"{self._what}X"))

    def _checked(self, block: Block, number: int) -> tuple[Targets, Floats | None]:
        """Return the targets and the weights of a block."""
        source, n_rows, name = self.blocks._source, int(self.blocks._source.lengths[number]), f"{self._what}y"

        def check_y() -> Targets:
            return self._loss.check_y(self._names.encoded(block.y, name), n_rows, self._net.dtype, name)

        first_row, check_weights = (
            int(self._first_rows[number]),
            partial(check_sample_weight, block.sample_weight, n_rows),
        )
        y = located(source, first_row, check_y, "y")
        return y, located(source, first_row, check_weights, "sample_weight")


def learned(names: Names, blocks: Blocks, loss: Loss) -> Names:
    """Return these names of features and classes, and those that blocks add to them.

    Raises
    ------
    ValueError
        If y has more classes than the network, or fewer, or columns have other names.
    """
    source = blocks._source
    first = next(source.read([0]))
    labels = y = first.y
    if loss.n_classes and names.classes is None and y is not None and strings(y, "y") is not None:
        found: set[str] = set()
        for block in source.targets():
            some = strings(block.y, "y")
            found.update(() if some is None else some.tolist())
        labels = np.array(sorted(found))
    names.check_features(first.X, "X")
    return names.learned(first.X, labels, loss)


def located(source: Source, first_row: int, check: Callable[[], T], part: str = "X") -> T:
    """Call a check of the rows of a block; its errors say where the row is among all rows of X, y or sample_weight."""
    try:
        return check()
    except (TypeError, ValueError) as error:
        message = str(error.args[0]) if error.args else ""
        placed = re.sub(r"\brow (\d+)", lambda row: source.place(int(row[1]) + first_row, part), message)
        raise type(error)(placed) from error


def part_of(piece: Piece, first: int, end: int) -> Piece:
    """Return some rows of a piece."""
    if first == 0 and end == len(piece.y):
        return piece
    weights = None if piece.weights is None else piece.weights[first:end]
    return Piece(piece.X[first:end], piece.y[first:end], weights, piece.first_row + first)


def targets_of(pieces: list[Piece]) -> tuple[Targets, Floats | None]:
    """Return the targets and the weights of pieces."""
    weights = [piece.weights for piece in pieces if piece.weights is not None]
    return np.concatenate([piece.y for piece in pieces]), np.concatenate(weights) if weights else None


def stacked(parts: list[Any]) -> Any:
    """Return rows that come in parts, arrays or CSR matrices, as one."""
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts)
    from scipy import sparse

    return sparse.csr_array(sparse.vstack(parts, format="csr"))
