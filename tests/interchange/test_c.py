"""Networks as C: compiled by gcc and clang, and compared with what the network predicts."""

import ctypes
import os
import re
from itertools import product

import numpy as np
import pytest
from scipy import sparse
from support.docs import examples
from support.in_c import (
    HEADS,
    STRICT,
    STRICTER,
    InC,
    _pointer,
    compile_c,
    each_bits,
    each_compiler,
    net_of,
    rows_for,
    runs,
)

from fastmlp import MLP as CompiledMLP
from fastmlp import datasets
from fastmlp.activations import ACTIVATIONS
from fastmlp.reference import MLP

# --- what C computes --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def every_net(tmp_path_factory):
    """Give a folder with all.c, which includes every activation with every head in both widths, and the networks."""
    folder = tmp_path_factory.mktemp("every")
    nets = {}
    for bits, head, activation in product((32, 8), HEADS, ACTIVATIONS):
        name = f"{activation}_{head.replace(' ', '_')}_{bits}"
        nets[name] = net_of(head, activation)
        nets[name].to_c(folder / f"{name}.c", name, bits, X=rows_for(nets[name]))
    (folder / "all.c").write_text("".join(f'#include "{name}.c"\n' for name in nets))
    return folder, nets


@each_compiler
def test_every_activation_and_head_agrees_with_the_network(every_net, compiler):
    folder, nets = every_net
    compile_c(compiler, *STRICT, "-shared", "-fPIC", "all.c", "-lm", "-o", f"{compiler}.so", folder=folder)
    library = ctypes.CDLL(str(folder / f"{compiler}.so"))
    for name, net in nets.items():
        X, in_c = rows_for(net, seed=3), InC(library, name, net)
        p, status = in_c.outputs(X)
        own = (net.predict_proba(X) if in_c.classifies else net.predict(X)).reshape(len(X), -1)
        assert not status.any(), name
        eight = name.endswith("_8")
        np.testing.assert_allclose(p, own, rtol=0, atol=(0.04 if eight else 2e-6) * max(1, own.max()), err_msg=name)
        equal = in_c.predict(X).reshape(len(X), -1) == net.predict(X).reshape(len(X), -1)
        assert not in_c.classifies or equal.mean() >= (0.97 if eight else 1), name


@each_bits
@pytest.mark.parametrize(
    ("layers", "settings"),
    [
        ([1, 2], {}),
        ([13, 3], {"output": "identity"}),  # no hidden layer
        ([7, 1, 1], {"output": "logistic"}),
        ([130, 1, 13, 130, 7, 2], {"activation": ["relu", "tanh", "identity", "gelu"], "dropout": 0.5}),
        ([6, 7, 3], {"input_scale": 1 / 255}),
        ([6, 7, 3], {"input_scale": 300.0, "activation": "elu"}),
        ([6, 9, 2], {"dtype": "float64", "output": "exp", "activation": "silu"}),
    ],
)
def test_shapes_and_settings(layers, settings, bits, tmp_path):
    net = MLP(layers, seed=1, **settings)
    X = rows_for(net)
    in_c = InC.compiled(net, tmp_path, X=X, bits=bits)
    p, status = in_c.outputs(X)
    own = (net.predict_proba(X) if in_c.classifies else net.predict(X)).reshape(len(X), -1)
    assert not status.any()
    np.testing.assert_allclose(p, own, rtol=0, atol=(0.03 if bits == 8 else 2e-6) * np.abs(own).max())
    compile_c("gcc", *STRICT, "lib_test.c", "-lm", "-o", "test", folder=tmp_path)
    status, said = runs("test", tmp_path)
    assert (status, said[:18]) == (0, "0 of 60 rows are w"), said


def trained_on_digits(**settings):
    X_train, y_train, X_test, y_test = datasets.load_digits()
    net = MLP([64, 16, 10], seed=0, **settings)
    net.fit(X_train, y_train, epochs=8, learning_rate=0.3, batch_size=32)
    return net, X_test, y_test


def test_measured_accuracy_is_that_of_the_compiled_network(tmp_path, capsys):
    net, X, y = trained_on_digits()
    in_c = InC.compiled(net, tmp_path, "-O2", X=X, y=y, bits=8)
    measured, (said, _) = net.to_c(tmp_path / "net.c", bits=8, X=X, y=y), capsys.readouterr()
    labels = in_c.predict(X)
    assert net.score(X, y) > 0.9
    assert measured == {
        "n_rows": len(X),
        "equal": np.mean(labels == net.predict(X)),
        "accuracy": net.score(X, y),
        "accuracy_in_c": np.mean(labels == y),
    }
    assert abs(measured["accuracy_in_c"] - measured["accuracy"]) <= 0.006
    line = said.splitlines()[-1]
    assert re.fullmatch(
        r"8-bit weights: accuracy 0\.\d{4} -> 0\.\d{4} \([+-]0\.00\d\d\), \d+ predictions differ on 360 rows", line
    )
    assert f" * {line}.\n" in (tmp_path / "net.c").read_text()


def test_regression_is_measured_by_r2_and_the_largest_difference(tmp_path):
    net = net_of("identity", "tanh")
    X = rows_for(net)
    y = net.predict(X) + 1
    measured = net.to_c(tmp_path / "net.c", bits=8, X=X, y=y)
    assert measured.keys() == {"n_rows", "largest_difference", "r2", "r2_in_c"}
    assert 0 < measured["largest_difference"] < 0.1
    assert measured["r2"] == net.score(X, y)
    assert 0 < abs(measured["r2_in_c"] - measured["r2"]) < 0.1
    assert net.to_c(tmp_path / "net.c") == {}


def test_8_bits_of_inputs_of_very_different_sizes(tmp_path):
    net = net_of("softmax", hidden=(30,), n_inputs=4)
    size = np.array([1e-4, 1, 3e3, 1e5], np.float32)
    X = rows_for(net) * size
    net.weights[0] /= size[:, None]
    X[:, 1] = 0  # as if its size were not known
    in_c = InC.compiled(net, tmp_path, X=X, bits=8)
    code = (tmp_path / "lib.c").read_text()
    assert f"stack {4 * (4 + 30 + 30 + 3)} bytes" in code
    X = rows_for(net) * size
    np.testing.assert_allclose(in_c.outputs(X)[0], net.predict_proba(X), rtol=0, atol=0.03)
    net.weights[0] *= size[:, None]
    net.to_c(tmp_path / "lib.c", X=X / size, bits=8)
    assert "factor" in code
    assert "factor" not in (tmp_path / "lib.c").read_text()


@each_compiler
@pytest.mark.slow
def test_mnist(compiler, tmp_path):
    X_train, y_train, X, y = datasets.load_mnist()
    net = CompiledMLP([784, 128, 10], seed=0)
    net.fit(X_train, y_train, epochs=5)
    labels = InC.compiled(net, tmp_path, "-O2", compiler=compiler).predict(X)
    assert len(X) == 10_000
    np.testing.assert_array_equal(labels, net.predict(X))
    in_8_bits = InC.compiled(net, tmp_path, "-O2", compiler=compiler, bits=8, X=X, y=y).predict(X)
    assert abs(np.mean(in_8_bits == y) - np.mean(labels == y)) <= 0.002


def test_the_example_of_the_docs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("fastmlp.MLP", MLP)
    exec(examples("C"), {})
    c = examples("C", "c")
    (tmp_path / "main.c").write_text(c.replace("int read", "int read_digit(const float pixels[64]);\nint read"))
    compile_c("gcc", *STRICT, *STRICTER, "-shared", "-fPIC", "main.c", "digits.c", "-lm", "-o", "d.so", folder=tmp_path)
    x = np.full(64, 0.5, np.float32)
    assert 0 <= ctypes.CDLL(str(tmp_path / "d.so")).read_digit(_pointer(x)) < 10


# --- X in all its forms -----------------------------------------------------------------------------------------------


def test_bytes_sparse_and_strided_rows(tmp_path):
    net = net_of("softmax", n_inputs=6, input_scale=1 / 255)
    pixels = np.random.default_rng(0).integers(0, 256, (150, 6), np.uint8)
    files = []
    for X in (pixels, sparse.csr_array(pixels.astype(np.float32)), pixels.astype(np.float64)[:, ::-1][:, ::-1]):
        assert net.to_c(tmp_path / "net.c", X=X)["equal"] == 1
        files.append((tmp_path / "net_test.c").read_text())
    assert files[0] == files[1] == files[2]
    assert "net_rows[600]" in files[0]  # a hundred rows of six
    compile_c("gcc", *STRICT, "net_test.c", "-lm", "-o", "test", folder=tmp_path)
    assert runs("test", tmp_path)[0] == 0


def test_names_of_features_and_classes(tmp_path):
    pd = pytest.importorskip("pandas")
    columns = ["ordinary", "ends */ a comment", "/* begins one", 'quote " and \\', "ü\nline", "net_ ??/"]
    classes = ['quote " \\', "100% ??/ net_", "grün\n7"]
    X = pd.DataFrame(np.random.default_rng(0).standard_normal((30, 6)).astype(np.float32), columns=columns)
    y = np.array(classes)[np.arange(30) % 3]
    net = MLP([6, 3], seed=0)
    net.fit(X, y, epochs=1)
    assert net.to_c(tmp_path / "net.c", "flower", X=X, y=y)["equal"] == 1
    main = '#define FLOWER_DECLARATIONS\n#include "net.c"\n#include <stdio.h>\nint main(void) {\n'
    main += "for (int i = 0; i < FLOWER_OUTPUTS; i++) printf(\"%s%c\", flower_classes[i], '|');\nreturn 0; }\n"
    (tmp_path / "main.c").write_text(main)
    compile_c("gcc", *STRICT, *STRICTER, "main.c", "net.c", "-lm", "-o", "main", folder=tmp_path)
    assert runs("main", tmp_path) == (0, "".join(f"{label}|" for label in net.classes))
    with pytest.raises(ValueError, match="X has the unknown columns"):
        net.to_c(tmp_path / "net.c", X=X.rename(columns={"ordinary": "other"}))


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"name": "a b"}, ValueError, "name must be a name in C"),
        ({"name": "9net"}, ValueError, "name must be a name in C"),
        ({"name": "né"}, ValueError, "name must be a name in C"),
        ({"name": "net\n"}, ValueError, "name must be a name in C"),
        ({"name": 3}, TypeError, "name must be a string"),
        ({"bits": 16}, ValueError, "bits must be 8 or 32"),
        ({"bits": True}, ValueError, "bits must be 8 or 32"),
        ({"bits": 8}, ValueError, "pass X"),
        ({"y": [0]}, ValueError, "y needs X"),
        ({"X": np.ones((3, 4), np.float32)}, ValueError, "X has 4 features"),
        ({"X": np.ones((3, 5)), "y": [0, 1]}, ValueError, "y has"),
        ({"X": np.full((3, 5), np.nan)}, ValueError, "X has nan in row 0"),
        ({"path": 3}, TypeError, "path must be the name of a file"),
        ({"path": 'a"b.c'}, ValueError, "without quotes"),
        ({"path": "missing/net.c"}, FileNotFoundError, "there is no folder"),
    ],
)
def test_wrong_arguments_are_refused_and_nothing_is_written(arguments, error, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    net = net_of("softmax")
    with pytest.raises(error, match=message):
        net.to_c(**{"path": "net.c"} | arguments)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("value", "message"),
    [(np.nan, "layer 1 are not finite, since a fit has diverged"), (1e39, "layer 1 are too large for float32")],
)
def test_parameters_that_float32_cannot_hold_are_refused(value, message, tmp_path):
    net = net_of("identity", dtype="float64")
    net.biases[1][3] = value
    with pytest.raises(ValueError, match=message):
        net.to_c(tmp_path / "net.c")
    assert list(tmp_path.iterdir()) == []


def test_a_test_program_of_somebody_else_is_not_replaced(tmp_path):
    net = net_of("identity")
    (tmp_path / "net_test.c").write_text("int main(void) { return 0; }\n")
    with pytest.raises(FileExistsError, match="choose another path"):
        net.to_c(tmp_path / "net.c")
    assert [file.name for file in tmp_path.iterdir()] == ["net_test.c"]
    (tmp_path / "net_test.c").unlink()
    net.to_c(tmp_path / "net.c")
    net.to_c(tmp_path / "net.c", "other")  # replaces both
    assert "other_predict" in (tmp_path / "net_test.c").read_text()


def test_a_failure_leaves_the_older_files(tmp_path, monkeypatch):
    net = net_of("identity")
    net.to_c(tmp_path / "net.c")
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device"):
        net.to_c(tmp_path / "net.c", "other")
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_outputs_that_are_never_finite_are_refused(tmp_path):
    net = net_of("exp")
    net.biases[-1][:] = 1000
    with pytest.raises(ValueError, match="outputs are not finite"):
        net.to_c(tmp_path / "net.c")
    assert list(tmp_path.iterdir()) == []
