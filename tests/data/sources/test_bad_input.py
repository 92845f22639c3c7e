"""What cannot be read in blocks is refused in the user's words, with the file and the row."""

import os
import sys

import numpy as np
import pytest
from support.sources import X, Y, npy, read_fails, refused

from fastmlp.data.sources import open_source

# --- files ------------------------------------------------------------------------------------------------------------


def test_missing_and_empty_files(tmp_path):
    for package in ("pyarrow", "h5py", "zarr"):
        pytest.importorskip(package)
    for name in ("x.npy", "x.csv", "x.parquet", "x.arrow", "x.svm", "x.h5", "x.zarr", "x"):
        refused(FileNotFoundError, name, tmp_path / name)
        if name not in ("x.zarr", "x"):
            (tmp_path / name).touch()
            refused(ValueError, f"{name} is empty", tmp_path / name)
    (tmp_path / "folder").mkdir()
    refused(ValueError, "the folder .* has no Parquet files", tmp_path / "folder")
    refused(ValueError, "is an empty list", [])


def test_kinds_of_files(tmp_path):
    (tmp_path / "x.dat").write_text("1 2 3")
    refused(ValueError, "x.dat is of an unknown format: its name must end in .npy, ", tmp_path / "x.dat")
    for ending in ("csv.gz", "npz"):
        (tmp_path / f"x.{ending}").write_text("1 2 3")
        refused(ValueError, f"x.{ending} is compressed", tmp_path / f"x.{ending}")
    os.rename(npy(tmp_path, X), tmp_path / "no-ending")
    assert open_source(tmp_path / "no-ending").n_rows == 20
    (tmp_path / "a.csv").write_text("a\n1\n")
    refused(ValueError, "several kinds: csv, npy", [npy(tmp_path, X), tmp_path / "a.csv"])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "x.npy")
    refused(ValueError, "x.npy is not a plain file", tmp_path / "x.npy")


def test_npy_content(tmp_path):
    refused(ValueError, "holds Python objects", npy(tmp_path, np.array([{}, 1], object)))
    refused(TypeError, r"x.npy holds string values \(dtype <U1\)", npy(tmp_path, np.array([["a"]])))
    refused(TypeError, "x.npy holds structured values", npy(tmp_path, np.zeros((2, 2), "f4,f4")))
    refused(TypeError, "x.npy holds complex values", npy(tmp_path, np.zeros((2, 2), complex)))
    refused(ValueError, "x.npy must have two dimensions", npy(tmp_path, np.zeros(3)))
    refused(ValueError, "x.npy holds a single number", npy(tmp_path, np.zeros(())))
    refused(ValueError, r"x.npy is empty: its shape is \(0, 3\)", npy(tmp_path, np.zeros((0, 3))))
    refused(ValueError, r"x.npy is empty: its shape is \(3, 0\)", npy(tmp_path, np.zeros((3, 0))))
    path = npy(tmp_path, X)
    whole = (tmp_path / "x.npy").read_bytes()
    for damaged in (b"\x93NUMPY\x09\x00" + whole[8:], whole[:40], b"\x93NUMPY\x01\x00\x04\x00((((", b"hello"):
        with open(path, "wb") as file:
            file.write(damaged)
        refused(ValueError, "x.npy cannot be read: ", path)


@pytest.mark.parametrize("missing", [1, 8, 400])
@pytest.mark.parametrize("order", ["C", "F"])
def test_truncated_npy(tmp_path, missing, order):
    path = npy(tmp_path, np.array(X, order=order))
    os.truncate(path, os.path.getsize(path) - missing)
    refused(ValueError, f"x.npy is truncated: it should hold 20 rows, 480 bytes, but has {480 - missing}", path)


def test_lengths_widths_and_dtypes(tmp_path):
    x, short = npy(tmp_path, X), npy(tmp_path, Y[:19], "y.npy")
    refused(ValueError, "x.npy has 20 rows, but .*y.npy has 19", x, short)
    refused(ValueError, "X has 20 rows, but sample_weight has 3", X, Y, sample_weight=[1, 2, 3])
    wide, other = npy(tmp_path, np.zeros((2, 4)), "wide.npy"), npy(tmp_path, X.astype("f4"), "other.npy")
    refused(ValueError, "wide.npy has rows of 4 columns, but those of .*x.npy have 3 columns", [x, wide])
    refused(ValueError, "other.npy holds float32, but .*x.npy holds float64", [x, other])
    a, b = npy(tmp_path, Y[:15], "a.npy"), npy(tmp_path, np.r_[Y, Y[:5]], "b.npy")
    refused(ValueError, "x.npy has 20 rows, but .*a.npy has 15", [x, x], [a, b])  # in all, they have as many


@pytest.mark.parametrize("kind", ["parquet", "arrow", "h5"])
def test_damaged_files(tmp_path, kind):
    path = tmp_path / f"t.{kind}"
    path.write_bytes({"parquet": b"PAR1", "arrow": b"ARROW1", "h5": b"\x89HDF\r\n"}[kind] + bytes(100))
    pytest.importorskip({"h5": "h5py"}.get(kind, "pyarrow"))
    refused(ValueError, f"t.{kind} cannot be read: ", path)


@pytest.mark.parametrize(("name", "package"), [("a.csv", "pyarrow"), ("a.parquet", "pyarrow"), ("a.h5", "h5py")])
def test_missing_packages(tmp_path, monkeypatch, name, package):
    monkeypatch.setitem(sys.modules, package, None)
    (tmp_path / name).write_text("a\n1\n")
    refused(ImportError, f"needs {package}, which is not installed: pip install 'fastmlp.data.'", tmp_path / name)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    refused(ValueError, "pipe is not a plain file", tmp_path / "pipe")
    source = open_source(npy(tmp_path, X))
    os.remove(tmp_path / "x.npy")
    os.mkfifo(tmp_path / "x.npy")
    read_fails(ValueError, "x.npy has changed", source)


@pytest.mark.parametrize("shape", [(-3, 3), (2, -3), (2, 2**32, 2**32), (2**62, 4)])
def test_headers_that_lie(tmp_path, shape):
    with open(tmp_path / "x.npy", "wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_2_0(file, header)
        file.write(bytes(100))
    refused(ValueError, "x.npy (is truncated|cannot be read)", tmp_path / "x.npy")


# --- tables -----------------------------------------------------------------------------------------------------------


def test_columns():
    pa = pytest.importorskip("pyarrow")
    table = pa.table({"a": [1, 2], "b": [3.0, None], "s": ["x", "y"], "l": [[1, 2], [3]]})
    refused(ValueError, "X has no column 'q'; its columns are 'a', 'b', 's', 'l'", table, target="q")
    refused(ValueError, "so none with the number 4", table, target=4)
    refused(ValueError, "column 'a' of X is named twice", table, features=["a"], target="a")
    refused(TypeError, r"a column that is not numbers: 's' \(string\); name those to train on", table, target="a")
    refused(TypeError, "not by 1.5", table, features=[1.5])
    refused(ValueError, "no columns that could be features", table.select(["a"]), target="a")
    refused(ValueError, "2 columns named 'a'", pa.table([[1], [2], [3]], ["a", "a", "b"]), target="a")
    refused(ValueError, "give y or target, not both", table, [1, 2], target="a")
    read_fails(ValueError, "'b' has a missing value in row 1 of X", open_source(table, features="b"))
    read_fails(ValueError, "'b' has a missing value in row 1 of X", open_source(table, features="a", target="b"))
    read_fails(ValueError, "'l' has 1 numbers in row 1 of X, but 2 before", open_source(table, features="l"))
    refused(TypeError, "can be read only once", table.to_reader())
    for word in ("features", "target", "sample_weight"):
        refused(ValueError, f"{word}='a'.*X has no columns with names", X, **{word: "a"})


def whole(source):
    """Read all blocks."""
    return list(source.read(range(len(source.lengths))))


def csv(folder, text):
    pytest.importorskip("pyarrow")
    path = folder / "t.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize("piece", [8, 1 << 17])
@pytest.mark.parametrize("row", [17, 90])
def test_lines_of_csv_that_cannot_be_read(tmp_path, monkeypatch, piece, row):
    monkeypatch.setattr("fastmlp.data.sources.text.PIECE_BYTES", piece)
    monkeypatch.setattr("fastmlp.data.sources.csv._SAMPLES", 2)
    lines = ["a,b,y"] + ["1,2,3"] * 99

    def fails(line, match):
        path = csv(tmp_path, "\n".join([*lines[: row + 1], line, *lines[row + 2 :]]))
        with pytest.raises(ValueError, match=match) as error:
            whole(open_source(path, target="y"))
        assert f"line {row + 2}" in str(error.value)

    fails("1,2", "Expected 3 columns, got 2")
    fails("1,2,3,4", "Expected 3 columns, got 4")
    fails("1,,3", "column 'b' has a missing value in line")
    if piece == 8:
        fails("1,two,3", "column 'b'.*'two'")
        fails("1,2,3.5", "column 'y'.*'3.5'")


def test_csv_files(tmp_path):
    refused(ValueError, "no rows", csv(tmp_path, "a,b\n"))
    refused(ValueError, "no rows", csv(tmp_path, "\n\n\n"))
    refused(TypeError, "has columns that are not numbers: 'b'; name those", csv(tmp_path, "a,b\n1,x\n2,y\n"))
    refused(TypeError, "has columns that are not numbers: 'b'", csv(tmp_path, "a,b\n1,2024-01-01\n"))
    refused(ValueError, "a quote that is not closed, in line 2 or after", csv(tmp_path, 'a,b\n1,"2\n3,4\n'))
    refused(ValueError, "column 0 of .*t.csv has no name", csv(tmp_path, ",a\n0,1\n1,2\n"))
    refused(ValueError, "not encoded in UTF-8", csv(tmp_path, "a,b\n1,ä\n".encode("utf-16")))
    refused(ValueError, "quotes must enclose whole values", csv(tmp_path, 'a,b\n1,5" pipe\n2,3" pipe\n'), features="a")


def test_svmlight_files(tmp_path):
    path = tmp_path / "t.svm"
    for text, match in [
        ("1 1:1\n0 2:x\n", "line 2: could not convert"),
        ("1 1:1\n\n# no\n0 2:1 1:1\n", "line 4: .*sorted"),
        ("1,2 1:1\n", "line 1: .*several labels"),
        ("1 1:1\nhello\n", "line 2: "),
    ]:
        path.write_text(text)
        read_fails(ValueError, f"t.svm, {match}", open_source(path))
    path.write_text("1\n0\n")
    refused(ValueError, "no features", path)


def test_datasets_of_hdf5(tmp_path):
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "t.h5"
    with h5py.File(path, "w") as file:
        file["a"], file["b"] = X, Y
    refused(ValueError, "t.h5 has 'a', 'b'; say which is X and which is y", path)
    refused(ValueError, "t.h5 has 'a', 'b', but no 'c', which is the target", path, features="a", target="c")
    with h5py.File(path, "r+") as file:
        source = open_source(file.create_dataset("c", data=X, maxshape=(None, 3)))
        file["c"].resize(21, 0)
        read_fails(ValueError, r"has changed: it is float64 \(21, 3\) now", source)


# --- objects that yield blocks ----------------------------------------------------------------------------------------


def blocks():
    yield X[:10], Y[:10]
    yield X[10:], Y[10:]


class Once:
    """Returns the same iterator each time."""

    def __init__(self):
        self.iterator = blocks()

    def __iter__(self):
        return self.iterator


def test_what_can_be_read_only_once():
    refused(TypeError, "is a generator, which can be read only once.*not Blocks\\(make_blocks\\(\\)\\)", blocks())
    refused(TypeError, "is a zip, which can be read only once", zip([X], [Y], strict=True))
    iterator = blocks()
    for data in (Once(), lambda: iterator):
        refused(ValueError, "ended after 0 blocks, but had 2 before: it can be read only once", data)


def test_blocks_that_are_not_alike():
    for second, match in [
        ((X[:, :2], Y), r"block 1 of X has rows of shape \(2,\), but the first block \(3,\)"),
        ((X, Y[:3]), "block 1 of X has 20 rows in X, but 3 in y"),
        (X, "block 1 of X does not have the same parts as the first"),
        ((X.astype("f4"), Y), "block 1 of X holds float32, but the first block float64"),
        ((X[0], Y[:3]), "X of block 1 of X must have two dimensions"),
        ((X, Y, Y, Y), "must be X, \\(X, y\\) or"),
    ]:
        refused(ValueError, match, lambda second=second: iter([(X, Y), second]))
    refused(TypeError, "block 0 of X is a dict", lambda: iter([{"x": X}]))
    refused(TypeError, "must return blocks, but it has returned an int", lambda: 5)
    refused(ValueError, "yields no rows", lambda: iter([]))
    refused(ValueError, "rows is for files", blocks, rows=3)
    refused(TypeError, "X is a list of list; .* numpy.array\\(X\\)", X.tolist())
    for data in (5, {"a": X}, b"x.npy"):
        refused(TypeError, f"not {type(data).__name__}", data)
    refused(TypeError, "let X yield pairs", X, blocks)


def test_a_reader_that_raises_is_passed_on():
    calls = []

    def read():
        yield X, Y
        calls.append(1)
        if len(calls) > 1:
            raise RuntimeError("the disk is on fire")
        yield X, Y

    source = open_source(read)
    error = read_fails(RuntimeError, "the disk is on fire", source)
    assert error.__notes__ == ["in block 1: rows 20 to 39 of X"]
    stream = source.read([0, 1])
    next(stream)
    stream.close()


def test_a_closed_stream_closes_the_users_generator():
    closed = []

    def read():
        try:
            yield from blocks()
        finally:
            closed.append(1)

    source = open_source(read)
    stream, before = source.read([0, 1]), len(closed)
    next(stream)
    stream.close()
    assert len(closed) == before + 1


@pytest.mark.parametrize("rows", [0, -1, 1.5, True, "many"])
def test_rows(rows):
    refused((TypeError, ValueError), "rows must be", X, rows=rows)


def test_two_arguments_in_one():
    for data in ((X, Y), [X, Y]):
        refused(ValueError, r"X and y are two arguments: Blocks\(X, y\)", data)


def test_tables_that_are_not_computed_yet():
    polars = pytest.importorskip("polars")
    refused(TypeError, r"X is a LazyFrame that is not computed yet; use X.collect\(\)", polars.LazyFrame(X))
    dask = pytest.importorskip("dask.dataframe")
    frame = dask.from_pandas(pytest.importorskip("pandas").DataFrame(X), npartitions=2)
    refused(TypeError, "X is a DataFrame that is not computed yet; use X.to_dask_array", frame)
    refused(TypeError, "y is a Series that is not computed yet", X, frame[0])


def test_a_map_that_is_not_read_through_its_file_is_checked_too(tmp_path):
    path = npy(tmp_path, np.zeros((4096, 100)))
    for part in (np.load(path, mmap_mode="r")[::2], np.load(path, mmap_mode="c")):
        source = open_source(part)
        with open(path, "r+b") as file:
            file.truncate(8192)
        read_fails(ValueError, "x.npy has changed since it was opened", source)
        npy(tmp_path, np.zeros((4096, 100)))


def test_blocks_that_are_much_smaller_than_row_groups_warn(tmp_path):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pa.table({"a": np.zeros(300_000)}), tmp_path / "t.parquet")
    with pytest.warns(UserWarning, match="t.parquet has parts .* of 300000 rows, and each block of 10 rows") as caught:
        source = open_source(tmp_path / "t.parquet", rows=10)
    assert caught[0].filename == __file__
    assert source.lengths.max() == 10


def test_blocks_in_their_own_order():
    with pytest.raises(ValueError, match="in their own order only"):
        open_source(blocks).read([1, 0])


@pytest.mark.parametrize("where", ["array", "items"])
@pytest.mark.parametrize("kind", ["csr", "csc", "coo"])
def test_broken_sparse_rows_never_reach_scipy(where, kind):
    sparse = pytest.importorskip("scipy.sparse")
    broken = sparse.coo_array(X).asformat(kind)
    name = "row" if kind == "coo" else "indptr"
    wrong = getattr(broken, name).copy()
    wrong[-1] = 10**6
    setattr(broken, name, wrong)  # also a matrix of memory maps may be like this
    match = "X.* is broken: its ind"
    refused(ValueError, match, broken if where == "array" else [(broken, Y)])
