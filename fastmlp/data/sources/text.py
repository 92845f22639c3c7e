"""Text files with a row on each line, read from any row with a sparse index of line positions."""

from __future__ import annotations

import os
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from fastmlp.data.sources.files import File, read_bytes
from fastmlp.data.sources.reader import Reader

__all__ = ["Text"]

T = TypeVar("T")

PIECE_BYTES = 1 << 19
_LARGEST_ROW = 1 << 28


class Text(Reader):
    """A text file that is divided into pieces of whole rows; the index has three numbers for each piece.

    A subclass knows where rows end (`_count`), and what they hold.
    """

    own: npt.NDArray[np.int64]

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._file = File(path)
        self.name = self._file.name

    def _index(self, offset: int, line: int) -> None:
        """Read the whole file once, from a byte and a line number on, and note where pieces begin."""
        offsets, lines, rows = [], [], []
        size = PIECE_BYTES
        with self._file.opened() as file:
            while offset < self._file.size:
                length = min(size, self._file.size - offset)
                text = read_bytes(file, offset, length, self.name)
                is_last = offset + length == self._file.size
                n_rows, used = self._count(text, is_last, line)
                if not used:
                    size *= 2
                    if size > _LARGEST_ROW or is_last:
                        raise ValueError(f"{self.name} has a row that does not end, from line {line} on")
                    continue
                size = PIECE_BYTES
                if n_rows:
                    offsets.append(offset)
                    lines.append(line)
                    rows.append(n_rows)
                offset += used
                line += text.count(b"\n", 0, used)
        if not rows:
            raise ValueError(f"{self.name} has no rows")
        self._offsets = np.array([*offsets, offset], np.int64)
        self._lines = np.array(lines, np.int64)
        self.own = np.array(rows, np.int64)
        self._ends = np.cumsum(self.own)
        self.n_rows = int(self.own.sum())

    def _count(self, text: bytes, is_last: bool, line: int) -> tuple[int, int]:
        """Return how many whole rows a text begins with, and the number of their bytes; it begins with a row."""
        raise NotImplementedError

    def _text(self, piece: int) -> bytes:
        start, stop = self._offsets[piece : piece + 2].tolist()
        with self._file.opened() as file:
            return read_bytes(file, start, stop - start, self.name)

    def _pieces(self, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
        """Yield each piece that has some of these rows, and which of its rows they are."""
        piece = bisect_right(self._ends, start)
        while start < stop:
            end = int(self._ends[piece])
            begin, last = end - int(self.own[piece]), min(stop, end)
            yield piece, start - begin, last - begin
            start, piece = last, piece + 1

    def _parsed(self, piece: int, parse: Callable[[bytes], T], length: Callable[[T], int]) -> T:
        """Return what `parse` makes of a piece.

        Raises
        ------
        ValueError
            If it raises one. The line is named.
        """
        text, n_rows, line = self._text(piece), int(self.own[piece]), int(self._lines[piece])
        try:
            parsed = parse(text)
        except ValueError as error:
            raise ValueError(f"{self.name}, {_located(text, line, parse)}: {error}") from error
        if length(parsed) != n_rows:
            raise ValueError(
                f"{self.name}, line {line} or after: there are {n_rows} rows by the ends of lines, but "
                f"{length(parsed)} by quotes and carriage returns; quotes must enclose whole values"
            )
        return parsed

    def place(self, row: int) -> str:
        """Return the line where a row begins."""
        piece = bisect_right(self._ends, row)
        before = row - int(self._ends[piece] - self.own[piece])
        lines = [line + b"\n" for line in self._text(piece).removesuffix(b"\n").split(b"\n")]

        def count(n_lines: int) -> int:
            return self._count(b"".join(lines[:n_lines]), False, 1)[0]

        first = bisect_left(range(len(lines)), before, key=count)
        while self._count(lines[first], False, 1) == (0, len(lines[first])):  # an empty one
            first += 1
        return f"line {self._lines[piece] + first} of {self.name}"

    def nbytes_of_parts(self, ends: npt.NDArray[np.int64]) -> int:
        """Return the memory of the text of a piece, of what a parser makes of it, and of the pieces of a block."""
        longest = int(np.diff(self._offsets).max(initial=0))
        return 4 * longest + int(np.diff(ends, prepend=0).max() + self.own.max()) * self.row_bytes


def _located(text: bytes, first_line: int, parse: Callable[[bytes], object]) -> str:
    """Return which is the first line that cannot be parsed."""
    ends = np.append(np.flatnonzero(np.frombuffer(text, np.uint8) == 10) + 1, len(text))

    def fails(n_lines: int) -> bool:
        try:
            parse(text[: ends[n_lines - 1]])
        except ValueError:
            return True
        return False

    return f"line {first_line + bisect_left(range(1, len(ends)), True, key=fails)}"
