"""Rows are announced to the system before they are read."""

import os

import numpy as np
import pytest

from fastmlp.data import Blocks
from fastmlp.data.sources.base import Block
from fastmlp.data.sources.npy import Npy
from fastmlp.data.sources.reader import _AHEAD, Reader, Several


class Notes(Reader):
    """A reader of numbers that notes what is asked of it."""

    shape, dtype = (), np.dtype(np.int64)

    def __init__(self, first, n_rows):
        self.name, self.n_rows, self.first, self.notes = "numbers", n_rows, first, []

    def read(self, start, stop, *, X=True):
        self.notes.append(("read", start, stop))
        return Block(np.arange(self.first + start, self.first + stop))

    def announce(self, start, stop):
        self.notes.append(("announce", start, stop))


@pytest.mark.parametrize("n_ranges", [0, 1, _AHEAD, _AHEAD + 1, 3 * _AHEAD])
def test_each_range_is_announced_some_reads_before(n_ranges):
    reader = Notes(0, 1_000)
    ranges = [(7 * i % 100, 7 * i % 100 + 1 + i) for i in range(n_ranges)]
    rows = [block.X.tolist() for block in reader.stream(iter(ranges))]
    assert rows == [list(range(*each)) for each in ranges]
    for kind in ("read", "announce"):
        assert [tuple(rest) for what, *rest in reader.notes if what == kind] == ranges
    for i, each in enumerate(ranges):
        at = reader.notes.index(("read", *each))
        assert reader.notes[:at].count(("announce", *each)) == 1
        assert sum(what == "announce" for what, *_ in reader.notes[:at]) == min(i + 1 + _AHEAD, n_ranges)


def test_without_X_nothing_is_announced():
    reader = Notes(0, 10)
    assert len(list(reader.stream([(0, 3), (3, 10)], X=False))) == 2
    assert all(what == "read" for what, *_ in reader.notes)


def test_of_several_parts_each_announces_its_own():
    parts = [Notes(0, 4), Notes(4, 3), Notes(7, 5)]
    several = Several(parts, "all")
    several.announce(2, 9)
    assert [part.notes for part in parts] == [[("announce", 2, 4)], [("announce", 0, 3)], [("announce", 0, 2)]]
    assert several.read(2, 9).X.tolist() == list(range(2, 9))


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="needs posix_fadvise")
def test_the_bytes_that_are_announced_are_those_that_are_read(tmp_path, monkeypatch):
    X = np.arange(600, dtype=np.int16).reshape(200, 3)
    np.save(tmp_path / "x.npy", X)
    asked = []
    monkeypatch.setattr(os, "posix_fadvise", lambda file, offset, size, advice: asked.append((offset, size, advice)))
    for block in Blocks(tmp_path / "x.npy", rows=64):
        del block
    header = (tmp_path / "x.npy").stat().st_size - X.nbytes
    sizes = [64 * 6, 64 * 6, 64 * 6, 8 * 6]
    assert asked == [(header + 64 * 6 * i, size, os.POSIX_FADV_WILLNEED) for i, size in enumerate(sizes)]


def test_a_file_that_is_gone_is_an_error_when_it_is_read(tmp_path):
    np.save(tmp_path / "x.npy", np.ones((5, 2)))
    reader = Npy.of_path(tmp_path / "x.npy")
    (tmp_path / "x.npy").unlink()
    reader.announce(0, 5)
    with pytest.raises(FileNotFoundError):
        reader.read(0, 5)
