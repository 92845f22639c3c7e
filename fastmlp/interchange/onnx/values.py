"""What the nodes of a model may compute of its rows, and how it is recognized as a layer of a network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from fastmlp.activations import ACTIVATIONS, Floats, logistic

__all__ = [
    "FINAL",
    "HIDDEN",
    "Both",
    "Found",
    "Label",
    "Rows",
    "Softmax",
    "Sums",
    "Value",
    "are_both",
    "computed",
    "recognized",
]

_LARGEST_FUNCTION = 64  # nodes of one function; a gelu has nine
_TOLERANCE = 1e-6  # constants in float32 are off by 1e-8

_SIDE = np.concatenate([np.geomspace(1e-3, 1, 16), np.linspace(1.25, 8, 28), [12, 20, 30]])
_GRID = np.concatenate([-_SIDE[::-1], _SIDE])[:, None]  # (94, 1), where functions are compared


class Sums(NamedTuple):
    """A layer's inputs times its weights; a bias is a shift of them. Without weights, the input of the model."""

    before: Rows | None
    weights: Floats | None


@dataclass(eq=False)
class Rows:
    """Numbers of each row, (n, ...), computed element by element from the sums of one layer."""

    sums: Sums
    shape: tuple[int, ...]
    """Of a row; -1 is unknown."""
    text: str = ""
    """How a message names the function."""
    function: Callable[..., Floats] | None = None
    arguments: tuple[Rows | Floats, ...] = ()
    root: Rows | None = None
    """Rows of which these are scale * root + shift; None if they are no such thing, but their own root."""
    scale: Floats = field(default_factory=partial(np.ones, ()))
    shift: Floats = field(default_factory=partial(np.zeros, ()))
    size: int = 1

    @property
    def nbytes(self) -> int:
        """Of the arrays that came with these rows."""
        return sum(a.nbytes for a in (self.scale, self.shift, *self.arguments) if not isinstance(a, Rows))

    def values(self, z: Floats, known: dict[int, Floats] | None = None) -> Floats:
        """Return the numbers for the sums `z` (n, O) or (n, 1)."""
        known = {} if known is None else known
        if self.function is None:
            return z
        if id(self) not in known:
            arguments = [a.values(z, known) if isinstance(a, Rows) else a for a in self.arguments]
            known[id(self)] = np.asarray(self.function(*arguments), np.float64)
        return known[id(self)]

    def described(self) -> str:
        """Return the function in words."""
        texts = [rows.text for rows in self.ancestors() if (rows.root or rows).function is not None]
        return " of ".join(dict.fromkeys(texts))

    def ancestors(self) -> Iterable[Rows]:
        """Return these rows and all that they are computed from, the last first."""
        found, waiting = [], [self]
        while waiting:
            rows = waiting.pop(0)
            if rows not in found:
                found.append(rows)
                waiting += [a for a in rows.arguments if isinstance(a, Rows)]
        return found


class Softmax(NamedTuple):
    """The softmax of the sums, or its logarithm."""

    rows: Rows


class Both(NamedTuple):
    """1 - p and p, (n, 2), of one logistic output."""

    rows: Rows


class Label(NamedTuple):
    """The index of the largest number in each row, or whether the only one is above a threshold; or its name."""

    of: Rows | Softmax | Both
    classes: npt.NDArray[Any] | None = None


Value: TypeAlias = Rows | Softmax | Both | Label | npt.NDArray[Any]


def computed(text: str, function: Callable[..., Floats], arguments: list[Rows | Floats]) -> Rows:
    """Return the rows that a function computes element by element; some arguments are constants.

    Raises
    ------
    ValueError
        If it combines numbers of different layers or places.
    """
    rows = [argument for argument in arguments if isinstance(argument, Rows)]
    first = rows[0]
    if any(other.sums is not first.sums or other.shape != first.shape for other in rows):
        raise ValueError("combines numbers of different layers, which no layer of a multilayer perceptron does")
    size = 1 + sum(other.size for other in rows)
    if size > _LARGEST_FUNCTION:
        raise ValueError("belongs to a function of too many nodes for an activation")
    checked = [a if isinstance(a, Rows) else _for_each_unit(a, first.shape) for a in arguments]
    result = Rows(first.sums, first.shape, text, function, tuple(checked), size=size)
    if len(rows) == 1:
        _note_scale(result, checked)
    return result


def _for_each_unit(constant: Floats, shape: tuple[int, ...]) -> Floats:
    """Return a constant as one number, or one for each unit, (O,)."""
    array = np.asarray(constant, np.float64)
    if array.size == 1:
        return array.reshape(())
    if len(shape) != 1 or array.size != array.shape[-1] or shape[0] not in (-1, array.size):
        raise ValueError(f"has a constant of shape {array.shape} beside rows of shape {shape}")
    return array.reshape(-1)


def _note_scale(result: Rows, arguments: list[Any]) -> None:
    """Note that the result is a scaled and shifted root, if it is."""
    place = [isinstance(argument, Rows) for argument in arguments].index(True)
    rows: Rows = arguments[place]
    root, scale, shift = rows.root or rows, rows.scale, rows.shift
    constant = arguments[1 - place] if len(arguments) == 2 else None
    with np.errstate(all="ignore"):
        match result.function, place:
            case np.add, _:
                shift = shift + constant
            case np.subtract, 0:
                shift = shift - constant
            case np.subtract, 1:
                scale, shift = -scale, constant - shift
            case np.multiply, _:
                scale, shift = scale * constant, shift * constant
            case np.divide, 0:
                scale, shift = scale / constant, shift / constant
            case np.negative, _:
                scale, shift = -scale, -shift
            case _:
                return
    result.root, result.scale, result.shift = root, scale, shift


class Found(NamedTuple):
    """Rows that are factor * function(scale * sums + shift) + offset."""

    function: str
    scale: Floats
    shift: Floats
    factor: Floats = np.ones(())
    offset: Floats = np.zeros(())


HIDDEN: Mapping[str, Callable[[Floats], Floats]] = {name: a.value for name, a in ACTIVATIONS.items()}
"""What follows the sums of a hidden layer."""

FINAL: Mapping[str, Callable[[Floats], Floats]] = {
    "logistic": logistic,
    "exp": np.exp,
    "positive": lambda z: (z > 0).astype(np.float64),
}
"""What follows the sums of the last layer; "positive" is the label of a logistic output."""


def recognized(rows: Rows, functions: Mapping[str, Callable[[Floats], Floats]]) -> Found | None:
    """Return which of the functions these rows are, or identity; None if they are none of them.

    Exporters write one function in many ways, so its numbers are compared.
    """
    root = rows.root or rows
    if root.function is None:
        return Found("identity", rows.scale, rows.shift)
    for inner in rows.ancestors():
        if (inner.root or inner).function is not None:
            continue
        with np.errstate(all="ignore"):
            z = _sums_for_grid(inner.scale, inner.shift)
            got, p = rows.values(z), inner.scale * z + inner.shift
            for name, function in functions.items():
                if _same_numbers(got, function(p)):
                    return Found(name, inner.scale, inner.shift)
    if root is rows or (found := recognized(root, functions)) is None:
        return None
    return found._replace(factor=rows.scale, offset=rows.shift)


def are_both(other: Rows, own: Rows) -> bool:
    """Return whether these are 1 - p and p of one logistic output."""
    found = recognized(own, FINAL) if own.sums is other.sums else None
    if found is None or found.function != "logistic":
        return False
    with np.errstate(all="ignore"):
        z = _sums_for_grid(found.scale, found.shift)
        return _same_numbers(other.values(z), 1 - own.values(z))


def _sums_for_grid(scale: Floats, shift: Floats) -> Floats:
    """Return sums for which scale * sums + shift is the grid; those of a scale of 0 do not matter."""
    return np.where(scale == 0, _GRID, (_GRID - shift) / scale)


def _same_numbers(got: Floats, expected: Floats) -> bool:
    return bool((abs(got - expected) <= _TOLERANCE * np.maximum(1, abs(expected))).all())
