"""SVMlight files as CSR rows, parsed by scikit-learn a piece at a time."""

from __future__ import annotations

import io
import os
import re
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmlp.data.sources.base import Block
from fastmlp.data.sources.reader import stacked
from fastmlp.data.sources.text import Text

__all__ = ["Svmlight"]

_COMMENT = re.compile(rb"#[^\n]*")
_DIGITS = 18


class Svmlight(Text):
    """A file of rows "label index:value index:value ...", with its labels as y.

    Indices begin with 1, unless there is a 0 in the file. Comments and qid are ignored.

    Attributes
    ----------
    least, most : int
        Of the indices in the file.
    """

    is_sparse = True
    has_y = True
    dtype = np.dtype(np.float64)

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(path)
        self.least, self.most, self._entries = 1, 0, 0
        self._index(0, 1)
        if not self._entries:
            raise ValueError(f"{self.name} has no features, only labels")
        self.set_columns(self.least == 0, self.most + (self.least == 0))

    def set_columns(self, zero_based: bool, n_features: int) -> None:
        """Read the file as one of several, which may have 0 as an index, and more features."""
        self._zero_based, self.shape = zero_based, (n_features,)

    @property
    def row_bytes(self) -> int:
        """What a row takes in memory, on average."""
        return 16 * (self._entries // self.n_rows + 1)

    def _count(self, text: bytes, is_last: bool, line: int) -> tuple[int, int]:
        """Count the lines with rows, and see which is the largest and the least index."""
        used = len(text) if is_last else text.rfind(b"\n") + 1
        text = text[:used]
        if b"#" in text:
            text = _COMMENT.sub(b"", text)
        if not text.endswith(b"\n"):
            text += b"\n"
        array = np.frombuffer(text, np.uint8)
        ends = np.flatnonzero(array == 10)
        starts = np.concatenate([[0], ends[:-1] + 1])
        blank = array[starts] <= 32
        for i in np.flatnonzero(blank):
            blank[i] = not text[starts[i] : ends[i]].strip()
        self._note_indices(array, starts[~blank], ends[~blank], line)
        return int(np.count_nonzero(~blank)), used

    def _note_indices(self, array: npt.NDArray[Any], starts: Any, ends: Any, line: int) -> None:
        """Note the first and the last index of each row; between them, they grow."""
        colons = np.flatnonzero(array == 58)
        first, last = np.searchsorted(colons, starts), np.searchsorted(colons, ends)
        some = first < last
        is_qid = np.zeros(len(first), bool)
        is_qid[some] = array[colons[first[some]] - 1] == ord("d")  # qid:3
        first = first + is_qid
        some = first < last
        if not some.any():
            return
        self.least = min(self.least, int(_numbers(array, colons[first[some]]).min()))
        self.most = max(self.most, int(_numbers(array, colons[last[some] - 1]).max()))
        self._entries += int((last - first)[some].sum())

    def read(self, start: int, stop: int, *, X: bool = True) -> Block:
        """Return rows."""
        blocks = []
        for piece, first, last in self._pieces(start, stop):
            rows, y = self._parsed(piece, self._parse, lambda parsed: len(parsed[1]))
            blocks.append(Block(rows[first:last], y[first:last]))
        return stacked(blocks)

    def _parse(self, text: bytes) -> tuple[Any, npt.NDArray[Any]]:
        from sklearn.datasets import load_svmlight_file

        try:
            rows, y = load_svmlight_file(io.BytesIO(text), n_features=self.shape[0], zero_based=self._zero_based)
        except (ValueError, OverflowError) as error:
            several = re.search(r"b'[^']*,", str(error))
            advice = "; a row can have one label only, not several labels" if several else ""
            raise ValueError(f"{error}{advice}") from error
        return rows, y

    def nbytes_of_parts(self, ends: npt.NDArray[np.int64]) -> int:
        """Return the memory of what is parsed: the numbers of a piece may be many more than on average."""
        return super().nbytes_of_parts(ends) + 12 * int(np.diff(self._offsets).max(initial=0))


def _numbers(array: npt.NDArray[Any], ends: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the integers that stand before some places of a text."""
    total, power = np.zeros(len(ends), np.int64), 1
    going = np.ones(len(ends), bool)
    for back in range(1, _DIGITS + 1):
        digits = array[np.maximum(ends - back, 0)].astype(np.int64) - 48
        going &= (digits >= 0) & (digits <= 9) & (ends >= back)
        if not going.any():
            break
        total += np.where(going, digits * power, 0)
        power *= 10
    return total
