"""Named tuples that kernels hand to one another."""

from typing import Any, NamedTuple

from numba.core import ir_utils


class Matrix(NamedTuple):
    """Rows in a flat buffer, `pitch` numbers apart."""

    buffer: Any
    at: Any
    pitch: Any


class Block(NamedTuple):
    """A part of a matrix: some rows, and some columns counted in whole vectors."""

    row: Any
    end_row: Any
    column: Any
    end_column: Any


class Slots(NamedTuple):
    """State of an optimizer: arrays `distance` numbers apart, each of them laid out as its parameters are."""

    buffer: Any
    at: Any
    distance: Any


class RowLosses(NamedTuple):
    """Of each row of a chunk: its loss times its weight, and whether it is predicted right."""

    loss: Any
    correct: Any


def _alias_fields(made, fields, alias_map, arg_aliases):
    for field in fields:
        ir_utils._add_alias(made, field.name, alias_map, arg_aliases)


# Numba does not see that a tuple made in a function shares its arrays with the caller. Its dead code elimination would
# delete what is written into them.
for _kind in [kind for kind in globals().values() if isinstance(kind, type) and issubclass(kind, tuple)]:
    ir_utils.alias_func_extensions[_kind.__name__, _kind.__module__] = _alias_fields
