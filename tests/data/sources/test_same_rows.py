"""Whatever rows come from, and however they are cut into blocks, they are those of the whole."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from fastmlp.data.sources import open_source

N, WIDTH = 97, 5
RANDOM = np.random.default_rng(0)
X = RANDOM.integers(0, 200, (N, WIDTH)).astype(np.float64) / 8
Y = RANDOM.integers(0, 3, N)
W = RANDOM.integers(1, 9, N) / 4
NAMES = [f"c{i}" for i in range(WIDTH)]


def numbers(part):
    """Return a part of a block as an array."""
    if hasattr(part, "toarray"):
        return part.toarray()
    return part.to_numpy() if hasattr(part, "columns") else np.asarray(part)


def whole(source, blocks=None):
    """Return X, y and the weights of some blocks, in their order."""
    order = range(len(source.lengths)) if blocks is None else blocks
    read = list(source.read(order))
    assert [len(numbers(block.X)) for block in read] == source.lengths[list(order)].tolist()
    return [
        None if parts[0] is None else np.concatenate([numbers(p) for p in parts]) for parts in zip(*read, strict=True)
    ]


def assert_same(source, has_weights=False, has_y=True, x=X, dtype=None):
    """Check all that is said of a source whose rows are X and Y."""
    assert (source.n_rows, source.n_features, source.lengths.sum()) == (N, WIDTH, N)
    assert source.lengths.min() > 0
    assert (source.has_y, source.has_weights) == (has_y, has_weights)
    assert dtype is None or source.dtype == dtype
    backwards = range(len(source.lengths))[::-1]
    rows = np.arange(N)
    starts = np.cumsum(source.lengths) - source.lengths
    shuffled = np.concatenate([rows[starts[i] : starts[i] + source.lengths[i]] for i in backwards])
    for order, expected in ((None, rows), (backwards, shuffled)):
        if order is not None and not source.any_order:
            continue
        found, y, weights = whole(source, order)
        assert (found == x[expected]).all()
        assert found.dtype == source.dtype.newbyteorder("=")
        assert (y is not None) == has_y
        assert not has_y or (y == Y[expected]).all()
        assert (weights is not None) == has_weights
        assert not has_weights or (weights == W[expected]).all()
    if has_y:
        targets = list(source.targets())
        assert np.concatenate([block.y for block in targets]).tolist() == Y.tolist()
        assert not has_weights or np.concatenate([block.sample_weight for block in targets]).tolist() == W.tolist()


def npy(folder, name, array):
    np.save(folder / name, array)
    return str(folder / name)


# --- .npy, arrays and maps --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["u1", "f4", ">f4", "f8", ">i2", "f2", "?"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npy(tmp_path, dtype, order):
    x = np.array(X.astype(dtype), order=order)
    source = open_source(npy(tmp_path, "x.npy", x), npy(tmp_path, "y.npy", Y), rows=7)
    assert_same(source, x=x, dtype=dtype)
    assert source.lengths.tolist() == [7] * 13 + [6]


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_npy_versions(tmp_path, version):
    with open(tmp_path / "x.npy", "wb") as file:
        np.lib.format.write_array(file, X, version=version)
    assert_same(open_source(tmp_path / "x.npy", Y, rows=10))


@given(st.data())
def test_any_cut_of_any_files(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("cut")

    def files(name, array):
        ends = sorted(data.draw(st.lists(st.integers(0, N), max_size=4)))
        parts = np.split(array, ends)
        return [npy(folder, f"{name}{i}.npy", part) for i, part in enumerate(parts)]

    x, y, w = files("x", X), files("y", Y), files("w", W)
    none = [[npy(folder, f"none{part.dtype}.npy", part[:0])] for part in (Y, W)]
    y, w = y + none[0] * (len(x) == len(y)), w + none[1] * (len(x) == len(w))  # as many files must be as long in pairs
    rows = data.draw(st.none() | st.integers(1, N + 3))
    source = open_source(x, y, sample_weight=w, rows=rows)
    assert_same(source, has_weights=True)
    one = open_source(X, Y, rows=rows)
    assert source.lengths.tolist() == one.lengths.tolist()
    blocks = data.draw(st.lists(st.integers(0, len(source.lengths) - 1), min_size=1))
    assert (whole(source, blocks)[0] == whole(one, blocks)[0]).all()


def test_images_are_flattened(tmp_path):
    x = RANDOM.random((N, 2, 3))
    for array in (x, np.asfortranarray(x)):
        (block,) = open_source(npy(tmp_path, "x.npy", array)).read([0])
        assert (x.reshape(N, 6) == block.X).all()


@pytest.mark.parametrize("mode", ["r", "r+", "c"])
def test_memory_maps(tmp_path, mode):
    path = npy(tmp_path, "x.npy", np.concatenate([np.zeros((3, WIDTH)), X]))
    mapped = np.load(path, mmap_mode=mode)[3:]
    for array in (mapped, np.asarray(mapped), mapped.T.T):
        source = open_source(array, Y, rows=9)
        assert_same(source)
        assert (source.place(0) == "row 0 of X") == (mode == "c")  # whose changes are not in the file


def test_a_map_whose_file_is_cut_is_no_bus_error(tmp_path):
    mapped = np.load(npy(tmp_path, "x.npy", RANDOM.random((4096, 100))), mmap_mode="r")
    source = open_source(mapped)
    with open(tmp_path / "x.npy", "r+b") as file:
        file.truncate(8192)
    with pytest.raises(ValueError, match="x.npy has changed since it was opened: it had .* bytes, and has 8,192 now"):
        next(source.read([3]))


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_array, sparse.coo_array, np.asfortranarray])
def test_in_memory(form):
    source = open_source(form(X), Y, sample_weight=W.tolist(), rows=8)
    assert_same(source, has_weights=True)
    assert source.is_sparse == hasattr(form(X), "tocsr")


def test_lists_of_arrays():
    assert_same(open_source([X[:40], X[40:]], [Y[:90], Y[90:93], Y[93:]], rows=8))
    assert_same(open_source([sparse.csr_array(X[:40]), sparse.csr_array(X[40:])], Y, rows=8))


def test_labels_of_strings():
    (block,) = open_source(X, np.array(["a", "b", "c"])[Y].tolist()).read([0])
    assert block.y.tolist() == np.array(["a", "b", "c"])[Y].tolist()


# --- tables -----------------------------------------------------------------------------------------------------------


def table():
    pa = pytest.importorskip("pyarrow")
    return pa.table({"y": Y, **dict(zip(NAMES, X.T, strict=True)), "w": W})


def write_parquet(folder, table, name="t.parquet", **how):
    pq = pytest.importorskip("pyarrow.parquet")
    pq.write_table(table, folder / name, **how)
    return folder / name


def write_arrow(folder, table, name="t.arrow", size=30):
    pa = pytest.importorskip("pyarrow")
    with pa.ipc.new_file(str(folder / name), table.schema) as writer:
        writer.write_table(table, max_chunksize=size)
    return folder / name


def write_csv(folder, table, name="t.csv"):
    csv = pytest.importorskip("pyarrow.csv")
    csv.write_csv(table, folder / name)
    return folder / name


WRITERS = {"parquet": write_parquet, "arrow": write_arrow, "csv": write_csv}


@pytest.mark.parametrize("rows", [None, 1, 7, 30, 45, 1000])
@pytest.mark.parametrize("kind", WRITERS)
def test_table_files(tmp_path, monkeypatch, kind, rows):
    monkeypatch.setattr("fastmlp.data.sources.text.PIECE_BYTES", 256)
    path = WRITERS[kind](tmp_path, table(), **({"row_group_size": 30} if kind == "parquet" else {}))
    source = open_source(path, target="y", sample_weight="w", rows=rows)
    assert source.feature_names == tuple(NAMES)
    assert source.lengths.max() <= (rows or N)
    assert_same(source, has_weights=True, dtype=np.float64)
    assert_same(pickle.loads(pickle.dumps(source)), has_weights=True)
    source = open_source(path, target="y", sample_weight="w", features=NAMES[::-1], rows=rows)
    assert_same(source, has_weights=True, x=X[:, ::-1])


@pytest.mark.parametrize("kind", WRITERS)
def test_lists_of_table_files_may_have_their_columns_in_another_order(tmp_path, kind):
    whole_table = table()
    names = whole_table.column_names
    paths = [
        WRITERS[kind](tmp_path, whole_table.slice(0, 50), f"a.{kind}"),
        WRITERS[kind](tmp_path, whole_table.slice(50).select(names[::-1]), f"b.{kind}"),
    ]
    for rows in (None, 20):
        assert_same(open_source(paths, target="y", sample_weight="w", rows=rows), has_weights=True)
    paths.append(WRITERS[kind](tmp_path, whole_table.drop_columns(["c0"]), f"c.{kind}"))
    with pytest.raises(ValueError, match=f"c.{kind} has other columns than .*a.{kind}: only one of them has 'c0'"):
        open_source(paths, target="y", sample_weight="w")


def test_folders_of_parquet_files(tmp_path):
    (tmp_path / "below").mkdir()
    write_parquet(tmp_path, table().slice(0, 50), "a.parquet")
    write_parquet(tmp_path, table().slice(50), "below/b.parquet")
    write_parquet(tmp_path, table(), "_ignored.parquet")
    assert_same(open_source(tmp_path, target="y", features=NAMES))


def test_tables_in_memory():
    whole_table = table()
    for data in (whole_table, whole_table.to_batches(max_chunksize=20), whole_table.to_pandas()):
        for rows in (None, 9):
            assert_same(open_source(data, target="y", sample_weight="w", rows=rows), has_weights=True)
    polars = pytest.importorskip("polars").from_arrow(whole_table)
    assert_same(open_source(polars, target="y", sample_weight="w", rows=9), has_weights=True)


@pytest.mark.parametrize("rows", [None, 9, 30])
def test_datasets(tmp_path, rows):
    ds = pytest.importorskip("pyarrow.dataset")
    write_parquet(tmp_path, table().slice(0, 50), "a.parquet", row_group_size=20)
    write_parquet(tmp_path, table().slice(50), "b.parquet")
    dataset = ds.dataset(str(tmp_path))
    assert_same(open_source(dataset, target="y", sample_weight="w", rows=rows), has_weights=True)
    with pytest.raises(ValueError, match="filter"):
        open_source(dataset.filter(ds.field("y") > 0), target="y")


def test_datasets_divided_by_a_column(tmp_path):
    ds = pytest.importorskip("pyarrow.dataset")
    ds.write_dataset(table(), tmp_path / "d", format="parquet", partitioning=["y"], partitioning_flavor="hive")
    with pytest.raises(ValueError, match="pyarrow.dataset.dataset"):
        open_source(tmp_path / "d", target="y")
    source = open_source(ds.dataset(str(tmp_path / "d"), partitioning="hive"), target="y", features=NAMES)
    x, y, _ = whole(source)
    order = np.argsort(Y, kind="stable")
    assert (x == X[order]).all()
    assert (y == Y[order]).all()


def test_columns_of_lists(tmp_path):
    pa = pytest.importorskip("pyarrow")
    fixed = pa.FixedSizeListArray.from_arrays(X[:, :2].ravel(), 2)
    data = pa.table({"a": fixed, "b": X[:, 2:4].tolist(), "c": X[:, 4], "y": np.eye(3)[Y].tolist()})
    for path in (write_parquet(tmp_path, data, row_group_size=30), write_arrow(tmp_path, data)):
        for rows in (None, 7):
            source = open_source(path, target="y", rows=rows)
            assert source.feature_names is None
            x, y, _ = whole(source)
            assert (x == X).all()
            assert (y == np.eye(3)[Y]).all()


def test_several_targets_and_labels_from_another_table(tmp_path):
    path = write_parquet(tmp_path, table())
    _, y, _ = whole(open_source(path, target=["c1", "w"], features=["c0"]))
    assert (y == np.stack([X[:, 1], W], axis=1)).all()
    words = np.array(["cat", "dog", "cow"])[Y]
    labels = write_csv(tmp_path, table().select([]).append_column("y", [words.tolist()]), "labels.csv")
    _, y, _ = whole(open_source(npy(tmp_path, "x.npy", X), labels, rows=8))
    assert y.tolist() == words.tolist()


# --- CSV --------------------------------------------------------------------------------------------------------------


def csv_source(tmp_path, text, **columns):
    pytest.importorskip("pyarrow")
    path = tmp_path / "t.csv"
    path.write_bytes(text.encode())
    return open_source(path, **columns)


def test_csv_without_names(tmp_path):
    source = csv_source(tmp_path, "1,2.5,3\n4,5,6\n", target=0)
    x, y, _ = whole(source)
    assert x.tolist() == [[2.5, 3], [5, 6]]
    assert y.tolist() == [1, 4]
    assert y.dtype == np.int64
    assert source.feature_names is None
    x, y, _ = whole(csv_source(tmp_path, "5.1,Iris-setosa\n4.9,Iris-virginica", target=-1))
    assert x.tolist() == [[5.1], [4.9]]
    assert y.tolist() == ["Iris-setosa", "Iris-virginica"]


@pytest.mark.parametrize("header", ["0,1,2", "label,0,1", "a,b,c", '"a",b,"c"', '"a\nb",b,c'])
def test_csv_headers(tmp_path, header):
    x, _, _ = whole(csv_source(tmp_path, f"{header}\n0,1,2\n3,4,5\n"))
    assert x.tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("piece", [1, 8, 64, 1000])
def test_csv_lines(tmp_path, monkeypatch, end, separator, piece):
    monkeypatch.setattr("fastmlp.data.sources.text.PIECE_BYTES", piece)
    rows = [f'{i},"a ""{i}""{end}b",{i / 4}' for i in range(9)]
    text = end.join(["\ufeffn,s,x", "", *rows[:4], "", "", *rows[4:], ""]).replace(",", separator)
    source = csv_source(tmp_path, text, features=["n", "x"], target="s", rows=2)
    x, y, _ = whole(source)
    assert x.tolist() == [[i, i / 4] for i in range(9)]
    assert [word.replace("\r", "") for word in y.tolist()] == [f'a "{i}"\nb' for i in range(9)]
    assert source.place(5) == f"line {3 + 4 * 2 + 2 + 2} of {tmp_path / 't.csv'}"


def test_the_kind_of_a_target_is_what_fits_the_end_of_the_file_too(tmp_path, monkeypatch):
    monkeypatch.setattr("fastmlp.data.sources.text.PIECE_BYTES", 16)
    _, y, _ = whole(csv_source(tmp_path, "x,y\n" + "1,1\n" * 50 + "1,2.5\n", target="y"))
    assert y.dtype == np.float64
    _, y, _ = whole(csv_source(tmp_path, "x,y\n" + "1,1\n" * 50 + "1,one\n", target="y"))
    assert set(y.tolist()) == {"1", "one"}


# --- SVMlight ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zero_based", [True, False])
@pytest.mark.parametrize("piece", [1, 100, 10_000])
def test_svmlight(tmp_path, monkeypatch, zero_based, piece):
    from sklearn.datasets import dump_svmlight_file

    monkeypatch.setattr("fastmlp.data.sources.text.PIECE_BYTES", piece)
    path = tmp_path / "t.svm"
    dump_svmlight_file(X, Y, str(path), zero_based=zero_based, comment="hello: 9:9", query_id=np.arange(N) + 100)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:9], "", "  # nothing 99:1", " " + lines[9] + " # but 99:1", *lines[10:]]))
    source = open_source(path, rows=10)
    assert source.is_sparse
    assert_same(source)
    assert_same(pickle.loads(pickle.dumps(source)))
    assert source.place(9) == f"line {len(lines) - N + 12} of {path}"


def test_svmlight_files_have_the_same_features(tmp_path):
    (tmp_path / "a.svm").write_text("1 0:1 2:3\n")
    (tmp_path / "b.svm").write_text("0 1:4\n-1 4:5\n")
    source = open_source([tmp_path / "a.svm", tmp_path / "b.svm"])
    x, y, _ = whole(source)
    assert x.tolist() == [[1, 0, 3, 0, 0], [0, 4, 0, 0, 0], [0, 0, 0, 0, 5]]
    assert y.tolist() == [1, 0, -1]
    assert open_source(tmp_path / "b.svm", features=9).n_features == 9
    with pytest.raises(ValueError, match="features=3, but .*b.svm has the feature 4"):
        open_source(tmp_path / "b.svm", features=3)


# --- HDF5, zarr and Dask ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunks", [None, (10, 2), (30, 5)])
@pytest.mark.parametrize("rows", [None, 7, 20])
def test_hdf5(tmp_path, chunks, rows):
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "t.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=X, chunks=chunks)
        file.create_dataset("more/y", data=Y)
        file.create_dataset("w", data=W)
    source = open_source(path, features="x", target="more/y", sample_weight="w", rows=rows)
    assert_same(source, has_weights=True)
    assert_same(pickle.loads(pickle.dumps(source)), has_weights=True)
    with h5py.File(path, "r") as file:
        source = open_source(file["x"], file["more/y"], rows=rows)
        assert_same(source)
    with pytest.raises(ValueError, match="closed"):
        next(source.read([0]))


@pytest.mark.parametrize("rows", [None, 7, 20])
def test_zarr(tmp_path, rows):
    zarr = pytest.importorskip("zarr")
    group = zarr.open_group(str(tmp_path / "t.zarr"), mode="w")
    for name, array in (("x", X), ("y", Y)):
        group.create_array(name, data=array, chunks=(10, 2)[: array.ndim])
    assert_same(open_source(group["x"], group["y"], rows=rows))
    source = open_source(tmp_path / "t.zarr", features="x", target="y", rows=rows)
    assert_same(source)
    assert_same(pickle.loads(pickle.dumps(source)))
    assert_same(open_source(tmp_path / "t.zarr" / "x", tmp_path / "t.zarr" / "y", rows=rows))


@pytest.mark.parametrize("rows", [None, 7, 40])
def test_dask(rows):
    da = pytest.importorskip("dask.array")
    x, y = da.from_array(X, chunks=(30, 2)), da.from_array(Y, chunks=25)
    assert_same(open_source(x, y, rows=rows))
    with pytest.raises(ValueError, match="compute_chunk_sizes"):
        open_source(x[x[:, 0] > 1], y)


# --- objects that yield blocks ----------------------------------------------------------------------------------------


class Iterable:
    def __iter__(self):
        for start in range(0, N, 10):
            yield X[start : start + 10], Y[start : start + 10], W[start : start + 10]


class Sequence:
    def __len__(self):
        return 10

    def __getitem__(self, i):
        if i == 3:
            return X[:0], Y[:0], W[:0]
        i -= i > 3
        return X[i * 11 : i * 11 + 11], Y[i * 11 : i * 11 + 11], W[i * 11 : i * 11 + 11]


def generator():
    yield from Iterable()


@pytest.mark.parametrize("data", [Iterable(), Sequence(), generator, list(generator()), tuple(generator())])
def test_blocks_of_the_user(data):
    source = open_source(data)
    assert source.any_order == hasattr(data, "__getitem__")
    assert_same(source, has_weights=True)
    last = len(source.lengths) - 1
    assert (whole(source, [2, last])[0][-source.lengths[-1] :] == X[-source.lengths[-1] :]).all()
    assert (whole(source, [2, last])[0] == whole(source, [2, last])[0]).all()


def test_blocks_of_X_alone_with_y_from_elsewhere(tmp_path):
    blocks = [(X[:50],), (X[50:],)]
    assert_same(open_source(blocks), has_y=False)
    assert_same(open_source(blocks, npy(tmp_path, "y.npy", Y)))
    assert_same(open_source([[X[:50], Y[:50]], [X[50:], Y[50:]]]))  # as PyTorch's loaders make them


def test_blocks_of_sparse_matrices_and_tables():
    pandas = pytest.importorskip("pandas")
    assert_same(open_source([(sparse.csr_array(X[:50]), Y[:50]), (sparse.csr_array(X[50:]), Y[50:])]))
    frame = pandas.DataFrame(X, columns=NAMES)
    source = open_source([(frame[:50], Y[:50]), (frame[50:], Y[50:])])
    assert_same(source)
    assert source.feature_names == tuple(NAMES)
