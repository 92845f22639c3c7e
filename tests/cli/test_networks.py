"""``fastmlp export`` and ``fastmlp predict``: what they read and write, and what they refuse."""

import csv
import gzip
import io
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from support.command_line import error_line, posix
from support.nets import data

import fastmlp
from fastmlp import datasets, reference
from fastmlp.cli import main
from fastmlp.cli.network_arguments import FORMS
from fastmlp.interchange.c import test_program as c_test_program

X, Y = data(20)


@pytest.fixture(autouse=True)
def plain(monkeypatch, tmp_path):
    """The network in NumPy, which compiles nothing; files lie in the working directory."""
    monkeypatch.setattr(fastmlp, "MLP", reference.MLP, raising=False)
    monkeypatch.chdir(tmp_path)


def saved(output="softmax", labels=None, columns=None, layers=(4, 5, 3), **settings):
    net = reference.MLP(layers, output=output, **settings)
    if columns is not None or labels is not None:
        pandas = pytest.importorskip("pandas")
        net.fit(pandas.DataFrame(X, columns=columns) if columns else X, np.array(labels)[Y], epochs=1)
    net.save("net.npz")
    return net


def predicted(capsys, *arguments):
    """What `fastmlp predict` prints, as the names of the columns and rows of text."""
    assert main(["predict", "net.npz", "--data", *map(str, arguments)]) == 0
    names, *rows = csv.reader(io.StringIO(capsys.readouterr().out))
    return names, rows


def assert_predicts(capsys, net, data, X):
    names, rows = predicted(capsys, data)
    assert names == ["label", *(f"probability_{i}" for i in range(net.layers[-1]))]
    assert [row[0] for row in rows] == [str(label) for label in net.predict(X)]
    np.testing.assert_array_equal(np.array([row[1:] for row in rows], "f4"), net.predict_proba(X))


# --- predict: what it reads -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("header", ["", "a b c d", '"w, x" b c d'])
def test_tables_of_text(header, separator, capsys):
    net = saved()
    lines = [separator.join(map(repr, row)) for row in X.tolist()]
    if header:
        quoted = header.startswith('"')
        names = ['"w, x"', "b", "c", "d"] if quoted else header.split()
        lines.insert(0, separator.join(names))
    with open("rows.csv", "w", encoding="utf-8-sig") as file:
        file.write("\r\n".join(lines) + "\n\n")
    assert_predicts(capsys, net, "rows.csv", X)
    with gzip.open("rows.csv.gz", "wt") as file:
        file.write("\n".join(lines))
    assert_predicts(capsys, net, "rows.csv.gz", X)


def test_columns_are_found_by_name(capsys):
    net = saved(labels=["a", "b", "c"], columns=["one", "two", "three", "fo ur"])
    with open("rows.csv", "w") as file:
        file.write("id,fo ur,name,three,two,one\n")
        file.writelines(f"7,{d!r},some body,{c!r},{b!r},{a!r}\n" for a, b, c, d in X.tolist())
    names, rows = predicted(capsys, "rows.csv")
    assert names == ["label", "probability_a", "probability_b", "probability_c"]
    assert [row[0] for row in rows] == net.predict(X).tolist()
    with open("rows.csv", "w") as file:
        file.write("one,two,three\n1,2,3\n")
    expected = "rows.csv has no columns 'fo ur'"
    assert expected in error_line(["predict", "net.npz", "--data", "rows.csv"], capsys)


@pytest.mark.parametrize("dtype", ["f4", "f8", ">f8", "i2", "?"])
def test_arrays(dtype, capsys):
    net, rows = saved(), (X * 3).astype(dtype)
    np.save("rows.npy", rows)
    assert_predicts(capsys, net, "rows.npy", rows)
    np.save("rows.npy", np.asfortranarray(rows.reshape(20, 2, 2)))
    assert_predicts(capsys, net, "rows.npy", rows)
    for name in ("X", "x", "X_test", "anything"):
        np.savez("rows.npz", **{name: rows})
        assert_predicts(capsys, net, "rows.npz", rows)


@pytest.mark.parametrize("input_scale", [1.0, 1 / 255])
def test_images_are_scaled_once(input_scale, capsys):
    net, images = saved(input_scale=input_scale), np.random.default_rng(0).integers(0, 256, (20, 2, 2), np.uint8)
    rows = images.reshape(20, 4) if input_scale != 1 else images.reshape(20, 4) / np.float32(255)
    np.save("images.npy", images)
    idx = struct.pack(">4B3I", 0, 0, 8, 3, 20, 2, 2) + images.tobytes()
    for name, content in (("t10k-images-idx3-ubyte", idx), ("some.gz", gzip.compress(idx))):
        with open(name, "wb") as file:
            file.write(content)
        assert_predicts(capsys, net, name, rows)
    assert_predicts(capsys, net, "images.npy", rows)


@pytest.mark.parametrize("shape", [(4,), (2, 2), (1, 4), (1, 2, 2), (2, 2, 1)])
def test_a_single_row_or_image(shape, capsys):
    net = saved()
    np.save("rows.npy", X[0].reshape(shape))
    assert_predicts(capsys, net, "rows.npy", X[:1])


def test_single_inputs(capsys):
    net = saved(layers=[1, 2])
    np.save("rows.npy", X[:, 0])
    assert_predicts(capsys, net, "rows.npy", X[:, :1])


def test_test_rows_of_data_sets(capsys):
    net = saved(layers=[64, 10])
    assert_predicts(capsys, net, "digits", datasets.load_digits()[2])


# --- predict: what it writes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({"output": "logistic", "layers": [4, 1]}, ["label", "probability_0", "probability_1"]),
        ({"output": "logistic", "layers": [4, 2]}, ["label_0", "label_1", "probability_0", "probability_1"]),
        ({"output": "identity", "layers": [4, 1]}, ["prediction"]),
        ({"output": "exp", "layers": [4, 2], "dtype": "float64"}, ["prediction_0", "prediction_1"]),
    ],
)
def test_every_output(settings, names, capsys):
    net = saved(**settings)
    np.save("rows.npy", X)
    found, rows = predicted(capsys, "rows.npy")
    assert found == names
    values = np.array(rows, net.dtype)
    n = sum(not name.startswith("probability") for name in names)
    np.testing.assert_array_equal(values[:, :n].reshape(net.predict(X).shape), net.predict(X))
    if n < len(names):
        np.testing.assert_array_equal(values[:, n:], net.predict_proba(X))


def test_files_of_predictions(capsys):
    net = saved(labels=["é, x", "b", "c"])
    np.save("rows.npy", X)
    for name in ("out.csv", "out.NPZ"):
        assert main(["predict", "net.npz", "--data", "rows.npy", "-o", name, "--threads", "1"]) == 0
        assert capsys.readouterr() == ("", f"saved {name}\n")
    with np.load("out.NPZ") as arrays:
        np.testing.assert_array_equal(arrays["label"], net.predict(X))
        np.testing.assert_array_equal(arrays["probability"], net.predict_proba(X))
    with open("out.csv", encoding="utf-8", newline="") as file:
        names, *rows = csv.reader(file)
    assert "probability_é, x" in names
    assert [row[0] for row in rows] == net.predict(X).tolist()


# --- predict: what it refuses -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("rows.csv", "a,b,c,d\n1,2,3,x\n", "rows.csv has the text 'x' in column 'd', row 0, and not a number"),
        ("rows.csv", "a,b,c,d\n1,2,,4\n", "rows.csv has 1 missing value in column 'c', the first in row 0"),
        ("rows.csv", "a,b,c,d\n1,2,3,4\n1,2,3\n", "rows.csv cannot be read: the first line has 4 columns, but line 3"),
        ("rows.csv", "1,2,3,4\n1,2,nan,4\n", "error: rows.csv has 1 missing value in column '2', the first in row 1"),
        ("rows.csv", "1,2,3,some\n", "rows.csv has the text 'some' in column '3', row 0, and not a number"),
        ("rows.csv", "1,2,3\n4,5,6", "rows.csv has 3 columns, but the network has 4 inputs"),
        ("rows.csv", "a,b,c,d\n", "rows.csv has no rows"),
        ("rows.csv", "", "rows.csv has no rows"),
        ("rows.csv", b"\xff\xfe\0\0", "rows.csv is not encoded in UTF-8"),
        ("rows.csv.gz", b"\x1f\x8b\0\0", "rows.csv.gz cannot be read"),
        ("rows.csv.gz", gzip.compress(b"1,2,3,4\n" * 99, mtime=0)[:-20], "rows.csv.gz cannot be read"),
        ("rows.npy", b"", "rows.npy cannot be read"),
        ("rows.npy", b"\x93NUMPY\1\0v\0", "rows.npy cannot be read"),
        ("rows.npz", b"PK", "rows.npz is not a whole .npz file"),
        ("rows.pt", b"PK\3\4", "rows.pt is not an idx file"),
    ],
)
def test_wrong_rows(name, content, words, capsys):
    saved()
    with open(name, "wb") as file:
        file.write(content if isinstance(content, bytes) else content.encode())
    assert words in error_line(["predict", "net.npz", "--data", name], capsys)


def test_a_broken_parquet_file(capsys):
    pytest.importorskip("pyarrow")
    saved()
    Path("rows.parquet").write_bytes(b"PAR1")
    assert "rows.parquet " in error_line(["predict", "net.npz", "--data", "rows.parquet"], capsys)


def test_arrays_that_claim_terabytes(capsys):
    saved()
    with open("rows.npy", "wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (10**12, 4)})
        file.write(b"0000")
    assert "rows.npy cannot be read" in error_line(["predict", "net.npz", "--data", "rows.npy"], capsys)


@pytest.mark.parametrize("array", [np.array([None]), np.array(["a"]), np.zeros((4, 4), complex), np.zeros((0, 4))])
def test_arrays_that_are_no_rows(array, capsys):
    saved()
    np.save("rows.npy", array)
    assert "rows.npy " in error_line(["predict", "net.npz", "--data", "rows.npy"], capsys)


def test_wrong_calls_of_predict(capsys):
    saved()
    np.save("rows.npy", X)
    np.savez("two.npz", a=X, b=X)
    for arguments, words in [
        (["net.npz"], "--data"),
        (["none.npz", "--data", "rows.npy"], "cannot read the network 'none.npz': No such file"),
        (["two.npz", "--data", "rows.npy"], "two.npz holds no network saved by fastmlp"),
        (["net.npz", "--data", "none.npy"], "cannot read --data 'none.npy': No such file"),
        (["net.npz", "--data", "two.npz"], "two.npz has no X and no X_test; it holds a, b"),
        (["net.npz", "--data", "rows.npy", "-o", "out.txt"], "--output 'out.txt' must end in .csv or .npz"),
        (["net.npz", "--data", "rows.npy", "-o", "net.npz"], "--output 'net.npz' would overwrite 'net.npz'"),
        (["net.npz", "--data", "two.npz", "-o", "two.npz"], "--output 'two.npz' would overwrite 'two.npz'"),
        (["net.npz", "--data", "rows.npy", "-o", "no/out.csv"], "there is no folder no"),
        (["net.npz", "--data", "rows.npy", "--threads", "0"], "--threads"),
    ]:
        assert words in error_line(["predict", *arguments], capsys)


# --- export -----------------------------------------------------------------------------------------------------------


def test_safetensors_and_back(capsys, tmp_path):
    pytest.importorskip("safetensors")
    net = saved(labels=["a", "b", "c"])
    assert main(["export", "net.npz", "--to", "safetensors", "-o", "net.safetensors"]) == 0
    size = (tmp_path / "net.safetensors").stat().st_size
    assert capsys.readouterr() == ("", f"saved net.safetensors ({size:,} bytes)\n")
    assert main(["export", "net.safetensors", "-o", "again.npz"]) == 0
    again, before = (reference.MLP.load(name).state_dict() for name in ("again.npz", "net.npz"))
    np.testing.assert_equal(again, before)
    assert net.classes.tolist() == again["classes"].tolist()


@pytest.mark.parametrize(("form", "method"), [("onnx", "to_onnx"), ("c", "to_c")])
def test_forms_that_methods_write(form, method, capsys, tmp_path, monkeypatch):
    def write(self, path):
        for each in {path, c_test_program(path)} if form == "c" else {path}:
            (tmp_path / each).write_text(repr(self))

    monkeypatch.setattr(reference.MLP, method, write, raising=False)
    net = saved()
    for arguments in (["--to", form, "-o", "net.x"], ["-o", f"net{FORMS[form][0].upper()}"]):
        assert main(["export", "net.npz", *arguments]) == 0
        assert capsys.readouterr().err.startswith(f"saved {arguments[-1]} (")
        assert (tmp_path / arguments[-1]).read_text() == repr(net)


def test_other_programs_predict_the_same(capsys, tmp_path):
    onnx, torch = pytest.importorskip("onnx"), pytest.importorskip("torch")
    net = saved(activation="tanh")
    for name in ("net.onnx", "net.pt", "net.c"):
        assert main(["export", "net.npz", "-o", name]) == 0
    state_dict = torch.load("net.pt", weights_only=True)
    read = reference.MLP.from_onnx("net.onnx"), reference.MLP.from_torch(state_dict, activation="tanh")
    for each in read:
        np.testing.assert_allclose(each.predict_proba(X), net.predict_proba(X), rtol=1e-6)
    onnx.checker.check_model(str(tmp_path / "net.onnx"))
    assert "float" in (tmp_path / "net.c").read_text()
    assert "saved net_test.c (" in capsys.readouterr().err


def test_wrong_calls_of_export(capsys, tmp_path, monkeypatch):
    saved()

    def without_onnx(self, path):
        raise ImportError("ONNX files need onnx")

    monkeypatch.setattr(reference.MLP, "to_onnx", without_onnx, raising=False)
    before = (tmp_path / "net.npz").read_bytes()
    for arguments, words in [
        (["net.npz"], "-o"),
        (["net.npz", "-o", "net"], "--output 'net' does not determine the format; give --to, one of onnx, "),
        (["net.npz", "--to", "onyx", "-o", "net"], "did you mean onnx?"),
        (["net.npz", "--to", "pytorch", "-o", "net"], "did you mean torch?"),
        (["net.npz", "--format", "onnx", "-o", "net"], "did you mean --to?"),
        (["net.npz", "--to", "npz", "-o", "net.npz"], "--output 'net.npz' would overwrite 'net.npz'"),
        (["net.npz", "--to", "npz", "-o", "net.safetensors"], "--output 'net.safetensors' must end in .npz"),
        (["net.npz", "--to", "keras", "-o", "net.h5"], "--output 'net.h5' must end in .keras"),
        (["net.npz", "--to", "onnx", "-o", "net.c"], "--output 'net.c' must end in .onnx"),
        (["net.npz", "--to", "torch", "-o", "net.onnx"], "--output 'net.onnx' must end in .pt or .pth"),
        (["none.npz", "-o", "net.onnx"], "cannot read the network 'none.npz': No such file"),
        (["net.npz", "-o", "no/net.onnx"], "there is no folder no"),
        (["net.npz", "-o", "net.onnx"], "ONNX files need onnx"),
    ]:
        assert words in error_line(["export", *arguments], capsys)
    assert [path.name for path in tmp_path.iterdir()] == ["net.npz"]
    assert (tmp_path / "net.npz").read_bytes() == before


@posix
@pytest.mark.filterwarnings("ignore:__array__ implementation")  # of Keras with PyTorch
@pytest.mark.parametrize(("name", "library"), [("out.npz", "numpy"), ("out.pt", "torch"), ("out.keras", "keras")])
def test_a_full_disk(capsys, tmp_path, monkeypatch, name, library):
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    pytest.importorskip("torch" if library == "keras" else library)
    pytest.importorskip(library)
    saved()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    assert f"{name}: No space left on device" in error_line(["export", "net.npz", "-o", name], capsys)
    assert [path.name for path in tmp_path.iterdir()] == ["net.npz"]


# --- train ------------------------------------------------------------------------------------------------------------


def test_train_saves_safetensors(capsys, monkeypatch):
    pytest.importorskip("safetensors")
    line = ["train", "--data", "xor", "--layers", "4", "--epochs", "20", "--save", "net.safetensors"]
    assert main(line) == 0
    assert "saved net.safetensors\n" in capsys.readouterr().err
    assert main(["predict", "net.safetensors", "--data", "xor"]) == 0
    assert capsys.readouterr().out.startswith("label,probability_0,probability_1\n")
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    line[-1] = "other.safetensors"
    assert ".safetensors files need safetensors: pip install" in error_line(line, capsys)
