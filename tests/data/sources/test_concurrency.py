"""Files, arrays and buffers that change while they are read, and threads that share a source."""

import os
import pickle
import threading

import numpy as np
import pytest
from support.sources import X, Y, npy, read_fails, refused

from fastmlp.data.sources import open_source


@pytest.mark.parametrize("how", ["longer", "shorter", "written", "replaced", "gone"])
def test_files_that_change(tmp_path, how):
    path = npy(tmp_path, X)
    source = open_source(path, Y, rows=5)
    stream = source.read(range(4))
    next(stream)
    if how == "replaced":
        os.replace(npy(tmp_path, X, "new.npy"), path)
    elif how == "gone":
        os.unlink(path)
    else:
        with open(path, "r+b") as file:
            if how == "longer":
                file.seek(0, os.SEEK_END)
            if how == "shorter":
                file.truncate(200)
            file.write(b"x")
        os.utime(path, ns=(1, 1))  # two changes within a tick of the clock have the same time
    with pytest.raises(FileNotFoundError if how == "gone" else ValueError, match="x.npy") as error:
        next(stream)
    assert error.value.__notes__ == [f"in block 1: rows 5 to 9 of {path}"]
    assert how == "gone" or "x.npy has changed since it was opened" in str(error.value)


@pytest.mark.parametrize("kind", ["parquet", "arrow", "csv", "svm", "h5", "zarr"])
def test_other_files_that_change(tmp_path, kind):
    path = tmp_path / f"t.{kind}"
    if kind == "svm":
        path.write_text("1 1:2\n")
    elif kind == "h5":
        with pytest.importorskip("h5py").File(path, "w") as file:
            file["x"] = X
    elif kind == "zarr":
        pytest.importorskip("zarr").create_array(str(path), data=X)
    else:
        pa = pytest.importorskip("pyarrow")
        from pyarrow import csv, feather, parquet

        write = {"parquet": parquet.write_table, "arrow": feather.write_feather, "csv": csv.write_csv}[kind]
        write(pa.table({"a": X[:, 0], "b": X[:, 1]}), path)
    source = open_source(path)
    assert sum(len(block.X if kind != "svm" else block.y) for block in source.read([0])) == source.n_rows
    os.utime(path / "zarr.json" if kind == "zarr" else path, ns=(1, 1))
    read_fails(ValueError, "has changed since it was opened", source)


def test_other_rows_the_second_time():
    random = np.random.default_rng(0)
    error = refused(
        ValueError, "block 0 of X has other rows than before", lambda: iter([(random.random((9, 3)), Y[:9])])
    )
    assert "a fixed seed" in str(error)

    class Augmented:
        def __len__(self):
            return 2

        def __getitem__(self, i):
            return X[i * 10 : i * 10 + 10] + random.random(), Y[:10]

    error = read_fails(ValueError, "block 1 of X has other rows than before", open_source(Augmented()))
    assert error.__notes__ == ["in block 1: rows 10 to 19 of X"]
    passes = iter([[X, X], [X], [X[:9]], [X, X, X]])
    source = open_source(lambda: iter(next(passes)))
    read_fails(ValueError, "block 0 of X has 9 rows, but had 20 before", source, 0)
    changing = [X, X]
    source = open_source(lambda: iter(changing))
    changing.pop()
    read_fails(ValueError, "X has ended after 1 blocks, but had 2 before", source)


@pytest.mark.parametrize("name", ["indptr", "indices"])
@pytest.mark.parametrize("value", [-5, 10**6])
def test_sparse_rows_that_break_while_they_are_read(name, value):
    sparse = pytest.importorskip("scipy.sparse")
    csr = sparse.csr_array(X)
    source = open_source(csr, rows=5)
    getattr(csr, name)[10] = value
    read_fails(ValueError, "X is broken: its ind", source, 1 if name == "indptr" else 0)
    csr = sparse.csr_array(X)
    source = open_source(csr, rows=5)
    csr.indptr = csr.indptr[:3]
    read_fails(ValueError, "X is broken: its indptr must have", source, 0)


def test_blocks_in_a_buffer_that_is_used_again():
    sparse = pytest.importorskip("scipy.sparse")
    buffer = sparse.csr_array(np.ones((5, 3)))

    class Reused:
        def __len__(self):
            return 4

        def __getitem__(self, i):
            buffer.data[:] = X[5 * i : 5 * i + 5].ravel()
            return buffer, Y[5 * i : 5 * i + 5]

    rows = [block.X.toarray() for block in list(open_source(Reused()).read(range(4)))]
    np.testing.assert_array_equal(np.concatenate(rows), X)


def test_threads_share_a_source_of_many_files(tmp_path):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    for i in range(8):
        parquet.write_table(pa.table({"a": [float(i)]}), tmp_path / f"{i}.parquet")
    source = open_source(tmp_path, rows=1)
    wrong = []

    def read(first):
        for _ in range(20):
            wrong.extend(
                (i, block.X.array) for i, block in zip(range(first, 8), source.read(range(first, 8)), strict=True)
                if block.X.array != i
            )  # fmt: skip

    threads = [threading.Thread(target=read, args=(i,)) for i in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    copied = pickle.loads(pickle.dumps(source))
    assert [block.X.array.tolist() for block in copied.read([7])] == [[[7.0]]]
