"""Data sets: shapes and types of all, published checksums, and clear errors for broken files."""

import gzip
import hashlib
import struct
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from fastmlp import datasets

FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")  # where Debian's package dataset-fashion-mnist puts it

MNIST_MD5 = {  # of the published files
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}


def check(dataset, n_train, n_test, n_features):
    x_train, y_train, x_test, y_test = dataset
    for rows, labels, n in ((x_train, y_train, n_train), (x_test, y_test, n_test)):
        assert rows.shape == (n, n_features)
        assert rows.dtype == np.float32
        assert labels.shape == (n,)
        assert labels.dtype == np.int64
        assert rows.flags.c_contiguous
        assert labels.flags.c_contiguous
        assert rows.min() >= 0
        assert rows.max() <= 1


def idx_bytes(array):
    """Write uint8 in the idx format."""
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return header + np.ascontiguousarray(array, dtype=np.uint8).tobytes()


def images(n, shape=(4, 3), seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, *shape), dtype=np.uint8)


ARRAYS = {
    "train-images-idx3-ubyte": images(6),
    "train-labels-idx1-ubyte": np.arange(6),
    "t10k-images-idx3-ubyte": images(2, seed=1),
    "t10k-labels-idx1-ubyte": np.arange(2),
}


def write_idx(folder, rename=lambda name: name, arrays=ARRAYS):
    for name, array in arrays.items():
        path = folder / rename(name)
        data = idx_bytes(array)
        path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return folder


# What comes with the package and with scikit-learn


def test_mnist_is_the_published_one():
    dataset = datasets.load_mnist()
    check(dataset, 60_000, 10_000, 784)
    x_train, y_train, x_test, y_test = dataset
    published = (
        np.rint(x_train * 255).reshape(-1, 28, 28),
        y_train,
        np.rint(x_test * 255).reshape(-1, 28, 28),
        y_test,
    )
    for (name, md5), array in zip(MNIST_MD5.items(), published, strict=True):
        assert hashlib.md5(idx_bytes(array), usedforsecurity=False).hexdigest() == md5, name
    assert x_train.max() == 1


def test_digits():
    dataset = datasets.load_digits()
    check(dataset, 1437, 360, 64)
    assert dataset[0].max() == 1
    np.testing.assert_array_equal(dataset[3], datasets.load_digits()[3])
    np.testing.assert_array_equal(dataset[3][:5], [6, 9, 3, 7, 2])  # the split of random_state=42


def test_xor():
    dataset = datasets.load_xor()
    check(dataset, 4, 4, 2)
    x_train, y_train, x_test, y_test = dataset
    np.testing.assert_array_equal(y_train, x_train[:, 0] != x_train[:, 1])
    np.testing.assert_array_equal(x_test, x_train)
    np.testing.assert_array_equal(y_test, y_train)
    assert not np.shares_memory(x_train, x_test)


def test_import_leaves_scikit_learn_alone():
    code = "import sys, fastmlp.datasets; fastmlp.datasets.load_xor(); sys.exit('sklearn' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


# idx


@pytest.mark.parametrize(
    "rename",
    [
        lambda name: name,
        lambda name: name + ".gz",
        lambda name: name.replace("-idx", ".idx"),
        lambda name: name.replace("t10k", "test"),
        lambda name: f"emnist-letters-{name.replace('t10k', 'test')}.gz",
        lambda name: name + (".gz" if "train" in name else ""),
    ],
    ids=["plain", "gz", "dot", "test", "emnist", "mixed"],
)
def test_idx_names(tmp_path, rename):
    dataset = datasets.load_idx(str(write_idx(tmp_path, rename)))
    check(dataset, 6, 2, 12)
    np.testing.assert_array_equal(dataset[0], ARRAYS["train-images-idx3-ubyte"].reshape(6, 12) / np.float32(255))
    np.testing.assert_array_equal(dataset[1], np.arange(6))
    np.testing.assert_array_equal(dataset[3], np.arange(2))


def test_idx_gunzipped_without_renaming(tmp_path):
    write_idx(tmp_path)
    for path in list(tmp_path.iterdir()):
        path.rename(path.with_name(path.name + ".gz"))
    check(datasets.load_idx(tmp_path), 6, 2, 12)


def test_idx_prefers_the_unpacked_file_and_ignores_folders(tmp_path):
    write_idx(tmp_path)
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(b"half a download")
    (tmp_path / "train-images.idx3-ubyte").mkdir()
    (tmp_path / "README.txt").write_text("images of clothes")
    check(datasets.load_idx(tmp_path), 6, 2, 12)


def test_idx_keeps_labels(tmp_path):
    write_idx(tmp_path, arrays={**ARRAYS, "train-labels-idx1-ubyte": np.arange(21, 27)})
    np.testing.assert_array_equal(datasets.load_idx(tmp_path)[1], np.arange(21, 27))


def test_idx_several_splits(tmp_path):
    write_idx(tmp_path, lambda name: f"emnist-letters-{name}.gz")
    write_idx(tmp_path, lambda name: f"emnist-digits-{name}", {**ARRAYS, "t10k-labels-idx1-ubyte": np.array([7, 7])})
    write_idx(tmp_path, arrays={**ARRAYS, "t10k-labels-idx1-ubyte": np.array([8, 8])})
    with pytest.raises(
        ValueError, match=r"holds several data sets: say which by split=, one of '', 'digits', 'letters'"
    ):
        datasets.load_idx(tmp_path)
    with pytest.raises(ValueError, match=r"no data set 'balanced', but '', 'digits', 'letters'"):
        datasets.load_idx(tmp_path, split="balanced")
    for split, labels in (("letters", [0, 1]), ("emnist-letters", [0, 1]), ("digits", [7, 7]), ("", [8, 8])):
        np.testing.assert_array_equal(datasets.load_idx(tmp_path, split=split)[3], labels)


def test_idx_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere is not a folder"):
        datasets.load_idx(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="holds no idx files"):
        datasets.load_idx(tmp_path)
    write_idx(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(FileNotFoundError, match=r"has no test labels.*t10k-labels-idx1-ubyte\.gz"):
        datasets.load_idx(tmp_path)


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("train-images-idx3-ubyte", lambda data: data[:-1], "is corrupt or truncated: .* 72 bytes .* 71 follow"),
        ("train-images-idx3-ubyte", lambda data: data + b"0", "is corrupt or truncated"),
        ("train-images-idx3-ubyte", lambda data: data[:10], "is truncated: its header has 10 bytes, not 16"),
        ("train-images-idx3-ubyte", lambda data: b"", "is not an idx file of 3-dimensional uint8"),
        ("train-images-idx3-ubyte", lambda data: data[:4] + b"\xff" * 12 + data[16:], "is corrupt or truncated"),
        ("train-images-idx3-ubyte", lambda data: b"\x00\x00\x0d\x03" + data[4:], "starts with 0x00000d03, not .*0803"),
        ("t10k-labels-idx1-ubyte", lambda data: b"<html>not found</html>", "is not an idx file of 1-dimensional uint8"),
        ("t10k-labels-idx1-ubyte", lambda data: gzip.compress(data)[:-3], "is corrupt or truncated"),
        ("t10k-labels-idx1-ubyte", lambda data: gzip.compress(data)[:-8] + b"\0" * 8, "is corrupt or truncated: CRC"),
        ("t10k-labels-idx1-ubyte", lambda data: b"\x1f\x8bnonsense", "is corrupt or truncated"),
        ("t10k-labels-idx1-ubyte", lambda data: idx_bytes(np.arange(0)), "is empty"),
        ("t10k-labels-idx1-ubyte", lambda data: idx_bytes(np.arange(5)), "2 images, but .*labels.* holds 5 labels"),
        ("t10k-images-idx3-ubyte", lambda data: idx_bytes(images(2, (5, 5))), "12 pixels, but .* images of 25"),
    ],
)
def test_idx_damaged(tmp_path, name, damage, message):
    path = write_idx(tmp_path) / name
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=message) as caught:
        datasets.load_idx(tmp_path)
    assert str(path) in str(caught.value)


@pytest.mark.skipif(not FASHION_MNIST.is_dir(), reason="Debian's package dataset-fashion-mnist is not installed")
def test_idx_fashion_mnist():
    dataset = datasets.load_idx(FASHION_MNIST)
    check(dataset, 60_000, 10_000, 784)
    np.testing.assert_array_equal(np.bincount(dataset[1]), np.full(10, 6_000))
    np.testing.assert_array_equal(np.bincount(dataset[3]), np.full(10, 1_000))
    assert dataset[0].max() == 1


# npz


def npz_arrays():
    return {"X_train": images(6), "y_train": np.arange(6), "X_test": images(2, seed=1), "y_test": np.arange(2)}


def test_npz_images(tmp_path):
    arrays = npz_arrays()
    np.savez(tmp_path / "a.npz", **arrays)
    dataset = datasets.load_npz(str(tmp_path / "a.npz"))
    check(dataset, 6, 2, 12)
    np.testing.assert_array_equal(dataset[2], arrays["X_test"].reshape(2, 12) / np.float32(255))


def test_npz_keras_names_and_colour(tmp_path):
    colour = images(6, (4, 3, 3))
    labels = np.arange(6, dtype=np.uint8)[:, None]
    np.savez_compressed(tmp_path / "a.npz", x_train=colour, y_train=labels, x_test=colour, y_test=labels)
    check(datasets.load_npz(tmp_path / "a.npz"), 6, 6, 36)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_npz_keeps_floats(tmp_path, dtype):
    rows = np.asfortranarray(np.linspace(-3, 3, 12).reshape(4, 3).astype(dtype))
    np.savez(tmp_path / "a.npz", X_train=rows, y_train=np.arange(4), X_test=rows, y_test=np.arange(4))
    x_train = datasets.load_npz(tmp_path / "a.npz")[0]
    np.testing.assert_array_equal(x_train, rows.astype(np.float32))
    assert x_train.flags.c_contiguous


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y_test": None}, "has no y_test; it holds X_train, y_train, X_test"),
        ({"X_train": None, "y_train": None}, "has no X_train and no y_train; it holds X_test, y_test"),
        ({"y_test": np.arange(3)}, "X_test has 2 rows, but y_test has 3 labels"),
        ({"X_test": images(2, (5, 5))}, "X_train has 12 features, but X_test has 25"),
        ({"X_test": np.ones((2, 12), dtype=np.int32)}, "X_test is int32, not uint8"),
        ({"X_train": np.ones(6)}, r"X_train has the shape \(6,\)"),
        ({"X_train": np.ones((0, 12))}, r"X_train has the shape \(0, 12\)"),
        ({"y_train": np.ones(6) / 2}, "y_train has 0.5 in row 0, but labels are integers"),
        ({"y_train": np.full(6, np.nan)}, "y_train has nan in row 0, but labels are integers"),
        (
            {"y_train": np.full(6, 2**63, np.uint64)},
            "y_train has 9223372036854775808 in row 0",
        ),
        ({"y_train": np.array(list("abcdef"))}, "y_train is <U1, not integers"),
        ({"y_train": np.ones((6, 6), int)}, r"y_train has the shape \(6, 6\), not \(n,\)"),
        ({"X_train": np.full((6, 12), 1e300)}, r"X_train has 1e\+300, too large for float32, in row 0, column 0"),
        ({"X_test": np.full((2, 12), np.nan)}, "X_test has nan in row 0, column 0"),
        ({"y_train": np.array([{}] * 6)}, "holds Python objects"),
    ],
)
def test_npz_unfit_arrays(tmp_path, change, message):
    arrays = {name: array for name, array in (npz_arrays() | change).items() if array is not None}
    path = tmp_path / "a.npz"
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match=message) as caught:
        datasets.load_npz(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_damaged(tmp_path, save):
    path = tmp_path / "a.npz"
    save(path, **npz_arrays())
    data = bytearray(path.read_bytes())
    flipped = data.copy()
    flipped[160] ^= 0xFF  # inside the first array
    for damaged in (data[:-30], data[:200], b"", b"no archive", flipped):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"a\.npz (cannot be read|is not a whole)"):
            datasets.load_npz(path)


def test_npz_not_an_archive(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.npz"):
        datasets.load_npz(tmp_path / "nowhere.npz")
    np.save(tmp_path / "a.npy", np.ones(3))
    with pytest.raises(ValueError, match="is not a whole .npz file"):
        datasets.load_npz(tmp_path / "a.npy")


# OpenML


@pytest.fixture
def openml(monkeypatch):
    """Make fetch_openml return what a test gives; no network."""

    def give(data, target, *, categories=None):
        names = [f"f{i}" for i in range(data.shape[1])]
        bunch = SimpleNamespace(data=data, target=target, feature_names=names, categories=categories)

        def fetch_openml(name, *, version, as_frame, parser):
            assert as_frame is False
            assert parser in ("auto", "liac-arff")
            return bunch

        monkeypatch.setattr("sklearn.datasets.fetch_openml", fetch_openml)

    return give


def test_openml_pixels_and_string_labels(openml):
    pixels = images(50, (8,)).astype(float)
    pixels[0, :2] = 0, 255
    letters = np.array(list("zacab") * 10, dtype=object)
    openml(pixels, letters)
    dataset = datasets.load_openml("letters")
    check(dataset, 40, 10, 8)
    labels = {tuple(row): label for row, label in zip((pixels / 255).astype(np.float32), letters, strict=True)}
    for row, code in zip(dataset[2], dataset[3], strict=True):
        assert "abcz"[code] == labels[tuple(row)]


def test_openml_mnist_is_split_as_published(openml):
    pixels = np.zeros((70_000, 784), dtype=np.uint8)
    pixels[:, 0] = np.arange(70_000) % 256
    openml(pixels, (np.arange(70_000) % 10).astype(str).astype(object))
    dataset = datasets.load_openml("mnist_784")
    check(dataset, 60_000, 10_000, 784)
    np.testing.assert_array_equal(dataset[3], np.arange(60_000, 70_000) % 10)
    # as the uint8 images of the other loaders
    np.testing.assert_array_equal(dataset[2][:, 0], pixels[60_000:, 0] / np.float32(255))


def test_openml_scales_by_minimum_and_maximum(openml):
    rows = np.array([[-2.0, 0.0], [2.0, 1.0], [0.0, 0.0], [1.0, -1.0], [0.5, 0.25]])
    openml(rows, np.array([3, 5, 3, 5, 3]))
    x_train, y_train, x_test, y_test = datasets.load_openml("small")
    assert {*np.concatenate([x_train, x_test]).ravel()} == {*((rows + 2) / 4).ravel()}
    assert {*y_train, *y_test} == {0, 1}


def test_openml_leaves_unit_range_and_takes_sparse(openml):
    sparse = pytest.importorskip("scipy.sparse")
    rows = np.array([[0.0, 0.25], [0.5, 0.0], [0.0, 0.0], [0.5, 0.5], [0.0, 0.5]])
    openml(sparse.csr_matrix(rows), np.array([0.0, 1.0, 0.0, 1.0, 1.0]))
    x_train, _, x_test, _ = dataset = datasets.load_openml("sparse")
    check(dataset, 4, 1, 2)
    assert np.concatenate([x_train, x_test]).max() == 0.5


@pytest.mark.parametrize(
    ("data", "target", "categories", "message"),
    [
        (np.ones((3, 2)), np.arange(3), {"f1": ["red", "blue"], "class": ["x"]}, "not all numbers: f1$"),
        (np.array([["red", 1.0]] * 3, dtype=object), np.arange(3), None, "not all numbers: .*'red'"),
        (np.array([[np.nan, 1.0]] * 3), np.arange(3), None, "3 of its feature values are missing"),
        (np.eye(3), np.array([0.5, 1.0, 2.0]), None, "not a class"),
        (np.eye(3), np.array([0.0, np.nan, 2.0]), None, "not a class"),
        (np.eye(3), np.array(["a", None, "b"], dtype=object), None, "labels are missing"),
        (np.eye(3), np.array(["a", np.nan, "b"], dtype=object), None, "labels are missing"),
        (np.eye(3), None, None, "no single target"),
        (np.eye(3), np.eye(3), None, "no single target"),
        (np.eye(3), np.arange(2), None, "3 rows, but 2 labels"),
        (np.full((3, 2), 7.0), np.arange(3), None, "all its feature values are 7"),
    ],
)
def test_openml_unfit(openml, data, target, categories, message):
    openml(data, target, categories=categories)
    with pytest.raises(ValueError, match=message) as caught:
        datasets.load_openml("odd one")
    assert "'odd one'" in str(caught.value)


def test_openml_text_columns(monkeypatch):
    def fetch_openml(name, **options):
        raise ValueError("STRING attributes are not supported for array representation. Try as_frame=True")

    monkeypatch.setattr("sklearn.datasets.fetch_openml", fetch_openml)
    with pytest.raises(ValueError, match=r"'titanic': it has columns of text$"):
        datasets.load_openml("titanic")


FORMS = {
    "floats": lambda y: y.astype(np.float64),
    "column": lambda y: y[:, None],
    "one-hot": lambda y: np.eye(3)[y],
    "one-hot bool": lambda y: np.eye(3, dtype=bool)[y],
}


@pytest.mark.parametrize("form", FORMS)
def test_npz_labels_may_be_whole_numbers_or_one_hot(tmp_path, form):
    y = np.arange(6) % 3
    np.savez(tmp_path / "a.npz", **npz_arrays() | {"y_train": FORMS[form](y)})
    labels = datasets.load_npz(tmp_path / "a.npz")[1]
    assert labels.dtype == np.int64
    np.testing.assert_array_equal(labels, y)


def test_a_part_of_mnist():
    X, y, X_test, y_test = datasets.load_mnist()
    part = datasets.load_mnist(n_samples=500, seed=3)
    assert [array.shape for array in part] == [(500, 784), (500,), X_test.shape, y_test.shape]
    assert part[0].flags.c_contiguous
    again, other = datasets.load_mnist(n_samples=500, seed=3), datasets.load_mnist(n_samples=500)
    np.testing.assert_array_equal(part[0], again[0])
    assert not np.array_equal(part[1], other[1])
    rows = np.random.default_rng(3).permutation(60_000)[:500]
    np.testing.assert_array_equal(part[0], X[rows])
    np.testing.assert_array_equal(part[1], y[rows])
    assert len(np.unique(part[1])) == 10
    for wrong, error in ((0, ValueError), (60_001, ValueError), (0.5, TypeError), (True, TypeError)):
        with pytest.raises(error, match="n_samples must be"):
            datasets.load_mnist(n_samples=wrong)
