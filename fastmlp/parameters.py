"""Weights and biases as users see them, with checks of what is written into them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NoReturn

import numpy as np

from fastmlp.activations import Floats
from fastmlp.validation.inputs import as_numbers
from fastmlp.validation.settings import is_list

__all__ = ["Views"]


class Views(list[Floats]):
    """A list of views into a network's parameters: assigning to an item or a slice writes into the network.

    Values are checked before anything is written. Only the numbers are shared: the shape, dtype and flags of a view are
    its own.
    """

    def __init__(self, name: str, arrays: Iterable[Floats]) -> None:
        super().__init__(array.view() for array in arrays)
        self._name = name

    def __setitem__(self, i: Any, values: Any) -> None:
        """Write arrays of the same shapes, or single numbers, into the network.

        Raises
        ------
        IndexError, TypeError
            If there is no such layer.
        TypeError, ValueError
            If a value is not a finite number, or a shape or the number of arrays differs. Nothing is written.
        """
        try:
            layers = range(len(self))[i]
        except IndexError:
            raise IndexError(f"there are {self._name} of layers 0 to {len(self) - 1}, but none of layer {i}") from None
        except TypeError:
            raise TypeError(f"{self._name} are assigned by the number of a layer or a slice, not by {i!r}") from None
        if not isinstance(layers, range):
            self[layers][...] = self._checked(layers, values)
            return
        if not is_list(values) or len(values) != len(layers):
            raise ValueError(f"{self._name}[{_text(i)}] must be a list of {len(layers)} arrays, one for each layer")
        checked = [self._checked(layer, value) for layer, value in zip(layers, values, strict=True)]
        for layer, value in zip(layers, checked, strict=True):
            self[layer][...] = value

    def _checked(self, layer: int, values: Any) -> Floats:
        """Return a copy of what is to be written."""
        own, name = self[layer], f"{self._name}[{layer}]"
        given = as_numbers(values, name, "give an array of numbers")
        if given.shape not in ((), own.shape):
            raise ValueError(f"{name} has the shape {own.shape}, but the shape of what is assigned is {given.shape}")
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            checked: Floats = np.array(given, own.dtype)
        bad = np.argwhere(~np.isfinite(checked))
        if len(bad):
            raise ValueError(f"{name} must be finite numbers of {own.dtype}, not {given[tuple(bad[0])]}")
        return checked

    def _keeps_its_length(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse what would change this list, but not the network.

        Raises
        ------
        TypeError
            Always.
        """
        raise TypeError(f"{self._name} has one array for each layer, in order; write into them, or make a new network")

    append = extend = insert = pop = remove = clear = sort = reverse = _keeps_its_length
    __delitem__ = __iadd__ = __imul__ = _keeps_its_length

    def __reduce__(self) -> tuple[type[list[Any]], tuple[list[Any]]]:
        """Copy and pickle as a plain list of arrays."""
        return list, (list(self),)


def _text(i: slice) -> str:
    return ":".join("" if part is None else str(part) for part in (i.start, i.stop))
