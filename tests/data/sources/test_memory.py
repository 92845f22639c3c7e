"""No more than one block is held, and `nbytes` says how much that is."""

import tracemalloc

import numpy as np
import pytest

from fastmlp.data.sources import open_source

MARGIN = 100_000  # what Python and NumPy need besides


def peak(work):
    """Return the most bytes that Python and NumPy hold at a time, beyond those of before."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def read(source):
    for _ in source.read(range(len(source.lengths))):
        pass


@pytest.mark.parametrize("order", ["C", "F"])
def test_npy(tmp_path, order):
    np.save(tmp_path / "x.npy", np.zeros((40_000, 100), order=order))
    np.save(tmp_path / "y.npy", np.zeros(40_000))
    source = open_source(tmp_path / "x.npy", tmp_path / "y.npy")
    assert source.nbytes < 1_100_000
    read(source)
    assert (
        source.nbytes <= peak(lambda: read(source)) <= 2 * source.nbytes + MARGIN
    )  # the last one until the next is there


def test_the_index_of_text_is_small(tmp_path, monkeypatch):
    pytest.importorskip("pyarrow")
    monkeypatch.setattr("fastmlp.data.sources.text.PIECE_BYTES", 1 << 16)
    (tmp_path / "x.csv").write_text("a,b\n" + "1,2\n" * 500_000)
    (tmp_path / "x.svm").write_text("1 1:1 2:1\n" * 100_000)
    open_source(tmp_path / "x.csv")
    sources = []
    assert (
        peak(lambda: sources.append(open_source(tmp_path / "x.csv"))) < 6_000_000
    )  # far less than an object for each row
    assert peak(lambda: sources.append(open_source(tmp_path / "x.svm"))) < 4_000_000
    for source in sources:
        read(source)
        assert peak(lambda source=source: read(source)) <= 2 * source.nbytes + MARGIN


def test_sources_of_many_files_have_one_open(tmp_path):
    pytest.importorskip("pyarrow")
    from pathlib import Path

    import pyarrow as pa
    from pyarrow import parquet

    if not Path("/proc/self/fd").exists():
        pytest.skip("counts what is open in /proc")
    for i in range(20):
        parquet.write_table(pa.table({"a": [float(i)]}), tmp_path / f"{i:02}.parquet")
    source = open_source(tmp_path, rows=1)
    assert [block.X.array.tolist() for block in source.read(range(20))] == [[[i]] for i in range(20)]
    opened = [link for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    names = [str(link.readlink()) for link in opened if link.is_symlink()]
    assert sum(str(tmp_path) in name for name in names) <= 1
