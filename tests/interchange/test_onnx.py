"""ONNX: models compute what predict does, and models of other exporters become networks."""

import itertools
import os

import numpy as np
import pytest
from support.nets import refused

from fastmlp import MLP, reference
from fastmlp.activations import ACTIVATIONS

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

pytestmark = pytest.mark.loops("torch")
KINDS = [
    ("softmax", 10),
    ("softmax", 2),
    ("logistic", 1),
    ("logistic", 5),
    ("identity", 1),
    ("identity", 3),
    ("exp", 2),
]
TOLERANCE = {"float32": 2e-6, "float64": 1e-13}


def network(layers=(20, 33, 13, 10), kind=reference.MLP, **settings):
    """A network with biases that are not zero."""
    net = kind(list(layers), **{"seed": 1, "init": "xavier"} | settings)
    generator = np.random.default_rng(7)
    for b in net.biases:
        b[:] = generator.normal(scale=0.3, size=b.shape)
    return net


def rows(net, n=2000, scale=1.0):
    return (np.random.default_rng(0).normal(size=(n, net.layers[0])) * scale).astype(net.dtype)


def run(model, X):
    """The outputs of a model or file, by name."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    content = model.SerializeToString() if isinstance(model, onnx.ModelProto) else os.fspath(model)
    session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {session.get_inputs()[0].name: X}), strict=True))


def same_parameters(one, other):
    parameters = zip(one.weights + one.biases, other.weights + other.biases, strict=True)
    return all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in parameters)


def model_of(*nodes, outputs=("y",), shape=("n", 4), opset=20, producer="", **constants):
    """A small model of nodes (kind, inputs, output, attributes)."""
    made = [
        onnx.helper.make_node(kind, inputs.split(), [output], name=f"to_{output}", **dict(*attributes))
        for kind, inputs, output, *attributes in nodes
    ]
    number = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        made,
        "graph",
        [onnx.helper.make_tensor_value_info("x", number, shape)],
        [onnx.helper.make_tensor_value_info(name, number, None) for name in outputs],
        [onnx.numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    imports = [onnx.helper.make_opsetid("", opset), onnx.helper.make_opsetid("ai.onnx.ml", 1)]
    return onnx.helper.make_model(graph, opset_imports=imports, ir_version=9, producer_name=producer)


W = np.random.default_rng(1).normal(size=(4, 3)).astype(np.float32)
B = np.array([0.5, -0.25, 0.125], np.float32)
V = np.random.default_rng(2).normal(size=(3, 2)).astype(np.float32)
SECOND = ("MatMul", "h V", "y")


# --- to_onnx ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_onnxruntime_predicts_what_the_network_does(activation, dtype):
    for output, n_outputs in KINDS:
        net = network([20, 33, 13, n_outputs], activation=activation, output=output, dtype=dtype)
        X, model = rows(net), net.to_onnx()
        onnx.checker.check_model(model, full_check=True)
        got = run(model, X)
        if net._loss.classifies:
            assert got["label"].dtype == np.int64
            np.testing.assert_array_equal(got["label"], net.predict(X))
            assert got["probabilities"].dtype == dtype
            np.testing.assert_allclose(got["probabilities"], net.predict_proba(X), rtol=0, atol=TOLERANCE[dtype])
        else:
            expected = net.predict(X)
            assert got["variable"].shape == expected.shape
            np.testing.assert_allclose(got["variable"], expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@pytest.mark.parametrize("layers", [[1, 2], [4, 3], [7, 1, 1, 3], [13, 130, 2], [3, 300, 2]], ids=str)
def test_compiled_networks_of_many_widths_with_scaled_bytes(layers, tmp_path):
    net = network(layers, MLP, input_scale=1 / 255)
    X = np.random.default_rng(0).integers(0, 256, (300, layers[0]), np.uint8)
    assert net.to_onnx(tmp_path / "net.onnx") == onnx.load(tmp_path / "net.onnx")
    got = run(tmp_path / "net.onnx", X.astype(np.float32))
    np.testing.assert_array_equal(got["label"], net.predict(X))
    np.testing.assert_allclose(got["probabilities"], net.predict_proba(X), rtol=0, atol=2e-6)
    back = MLP.from_onnx(tmp_path / "net.onnx")
    assert same_parameters(net, back)
    np.testing.assert_array_equal(back.predict_proba(X), net.predict_proba(X))


def test_large_sums_neither_overflow_nor_give_nan():
    for activation, output in itertools.product(ACTIVATIONS, ("softmax", "logistic")):
        net = network([4, 5, 3], activation=activation, output=output)
        X = rows(net, 50, 1e6)
        got = run(net.to_onnx(), X)
        np.testing.assert_array_equal(got["label"], net.predict(X))
        np.testing.assert_allclose(got["probabilities"], net.predict_proba(X), rtol=0, atol=2e-6)


def test_names_are_in_the_model():
    pd = pytest.importorskip("pandas")
    table = pd.DataFrame({"länge": [1.0, 2, 3, 4], "b": [0.0, 1, 0, 1]})
    for labels, layers, output in ((["é", "b", "c", "b"], [2, 3], "softmax"), (["no", "yes"] * 2, [2, 1], "logistic")):
        net = reference.MLP(layers, output=output)
        net.fit(table, labels, epochs=2)
        got = run(net.to_onnx(), table.to_numpy(np.float32))
        np.testing.assert_array_equal(got["label"], net.predict(table))
        back = reference.MLP.from_onnx(net.to_onnx())
        assert back.feature_names == ["länge", "b"]
        np.testing.assert_array_equal(back.classes, net.classes)
        np.testing.assert_array_equal(back.predict(table), net.predict(table))


def test_what_cannot_be_written_leaves_the_older_file(tmp_path):
    net, path = network([4, 3]), tmp_path / "net.onnx"
    path.write_text("older")
    net.weights[0][0, 0] = np.nan
    with refused(ValueError, "not all finite"):
        net.to_onnx(path)
    with refused(TypeError, "path must be the name of a file"):
        net.to_onnx(3)
    with refused(FileNotFoundError, "there is no folder"):
        network([4, 3]).to_onnx(tmp_path / "nowhere" / "net.onnx")
    assert path.read_text() == "older"
    assert [*tmp_path.iterdir()] == [path]


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    for call in (network([4, 3]).to_onnx, lambda: MLP.from_onnx("net.onnx")):
        with refused(ImportError, "needs onnx: pip install 'fastmlp[onnx]'"):
            call()


# --- from_onnx: models of to_onnx -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_network_comes_back_bit_identical(activation, dtype):
    for (output, n_outputs), layers in itertools.product(KINDS, ([20, 13, 7], [1, 1])):
        net = network([*layers, n_outputs], activation=activation, output=output, dtype=dtype, input_scale=1 / 3)
        back = reference.MLP.from_onnx(net.to_onnx())
        assert (back.layers, back.activations, back.output) == (net.layers, net.activations, net.output)
        assert (back.dtype, back.input_scale) == (net.dtype, net.input_scale)
        assert same_parameters(net, back)


def test_settings_for_further_training():
    net = network([4, 3])
    back = reference.MLP.from_onnx(net.to_onnx(), l2=0.5, seed=3)
    assert (back.l2, back.seed) == (0.5, 3)
    with refused(TypeError, "activation is read from the file; leave it out"):
        reference.MLP.from_onnx(net.to_onnx(), activation="relu")
    with refused(TypeError, "unknown argument 'epochs'"):
        reference.MLP.from_onnx(net.to_onnx(), epochs=3)


def test_the_meaning_of_sums():
    net = network([4, 3], output="identity")
    assert reference.MLP.from_onnx(net.to_onnx()).output == "identity"
    assert reference.MLP.from_onnx(net.to_onnx(), output="softmax").output == "softmax"
    with refused(ValueError, "its output is 'softmax', not 'identity'"):
        reference.MLP.from_onnx(network([4, 3]).to_onnx(), output="identity")
    with refused(ValueError, "did you mean 'logistic'?"):
        reference.MLP.from_onnx(net.to_onnx(), output="sigmoid")


# --- from_onnx: models of others --------------------------------------------------------------------------------------


def assert_reads(model, X, output=None, tolerance=2e-6):
    """The network of a model predicts what onnxruntime does; return it."""
    source = os.fspath(model) if not isinstance(model, onnx.ModelProto) else model
    net = reference.MLP.from_onnx(source, output=output)
    flat = X.reshape(len(X), -1)
    predicted, proba = net.predict(flat), net.predict_proba(flat) if net._loss.classifies else None
    for values in run(model, X).values():
        if isinstance(values, list):  # of ZipMap
            values = np.array([[*row.values()] for row in values])
        if values.dtype.kind in "Oi":
            np.testing.assert_array_equal(values, predicted)
            continue
        expected = predicted if proba is None else proba
        if expected.ndim == 2 and expected.shape[1] == 2 and values.size == len(X):
            expected = expected[:, 1:]
        np.testing.assert_allclose(values.reshape(expected.shape), expected, rtol=tolerance, atol=tolerance)
    return net


def torch_modules():
    torch = pytest.importorskip("torch")
    nn = torch.nn
    torch.manual_seed(0)

    class OwnForward(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(6, 5), nn.Linear(5, 1)

        def forward(self, x):
            return self.b(nn.functional.silu(self.a(x.view(x.size(0), -1)))).squeeze(-1)

    every = [nn.ReLU(), nn.LeakyReLU(), nn.ELU(), nn.GELU(approximate="tanh"), nn.SiLU(), nn.Tanh(), nn.Sigmoid()]
    hidden = [module for activation in every for module in (nn.Linear(6, 6), activation)]
    normed = [nn.Linear(6, 5, bias=False), nn.BatchNorm1d(5), nn.ReLU(), nn.BatchNorm1d(5), nn.Linear(5, 3)]
    for module in normed:
        if isinstance(module, nn.BatchNorm1d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return {
        "every activation": nn.Sequential(nn.Flatten(), *hidden, nn.Dropout(), nn.Linear(6, 3), nn.Softmax(-1)),
        "logistic": nn.Sequential(nn.Linear(6, 1), nn.Sigmoid()),
        "two linear layers": nn.Sequential(nn.Linear(6, 4), nn.Linear(4, 2)),
        "batch normalization": nn.Sequential(*normed),
        "own forward": OwnForward(),
        "float64": nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 2)).double(),
    }


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dynamo", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["torchscript", "dynamo"])
def test_files_of_pytorch(tmp_path, dynamo):
    torch = pytest.importorskip("torch")
    if dynamo:
        pytest.importorskip("onnxscript")
    for name, module in torch_modules().items():
        X = np.random.default_rng(0).normal(size=(9, 6)).astype("float64" if name == "float64" else "float32")
        path, batch = tmp_path / "net.onnx", {0: "n"}
        how = {"dynamic_shapes": (batch,)} if dynamo else {"dynamic_axes": {"x": batch}, "input_names": ["x"]}
        torch.onnx.export(module.eval(), (torch.tensor(X),), path, dynamo=dynamo, verbose=False, **how)
        tolerance = 1e-13 if name == "float64" else 2e-6
        net = assert_reads(path, X, tolerance=tolerance)
        with torch.no_grad():
            expected = module(torch.tensor(X)).numpy()
        if name == "own forward":
            np.testing.assert_allclose(net.predict(X), expected, atol=2e-6)
        if name == "every activation":
            assert net.activations == ("relu", "leaky_relu", "elu", "gelu", "silu", "tanh", "logistic")
            np.testing.assert_allclose(net.predict_proba(X), expected, atol=2e-6)


@pytest.mark.filterwarnings("ignore")
def test_images_and_logits_of_pytorch(tmp_path):
    torch = pytest.importorskip("torch")
    nn = torch.nn
    module = nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.ReLU(), nn.Linear(5, 3), nn.LogSoftmax(1))
    X = np.random.default_rng(0).normal(size=(9, 1, 3, 4)).astype(np.float32)
    torch.onnx.export(module, (torch.tensor(X),), tmp_path / "log.onnx", dynamo=False)
    net = reference.MLP.from_onnx(tmp_path / "log.onnx")
    assert net.layers == (12, 5, 3)
    with torch.no_grad():
        expected = module(torch.tensor(X)).exp().numpy()
        np.testing.assert_allclose(net.predict_proba(X.reshape(9, -1)), expected, atol=2e-6)
        torch.onnx.export(module[:-1], (torch.tensor(X),), tmp_path / "logits.onnx", dynamo=False)
    logits = reference.MLP.from_onnx(tmp_path / "logits.onnx", output="softmax")
    np.testing.assert_allclose(logits.predict_proba(X.reshape(9, -1)), expected, atol=2e-6)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("exact", [False, True], ids=["", "exact gelu"])
def test_files_of_keras(tmp_path, monkeypatch, exact):
    pytest.importorskip("torch")
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    keras = pytest.importorskip("keras")
    if keras.backend.backend() != "torch":
        pytest.skip("Keras is imported with another backend")
    dense, activation = keras.layers.Dense, "gelu" if exact else "silu"
    layers = [keras.layers.Rescaling(1 / 255), dense(5, "relu"), keras.layers.Dropout(0.2), dense(4, activation)]
    net = keras.Sequential([keras.Input((6,)), *layers, dense(4, "elu"), dense(3, "softmax")])
    X = (np.random.default_rng(0).random((9, 6)) * 255).astype(np.float32)
    expected, path = net.predict(X, verbose=0), tmp_path / "net.onnx"
    net.export(path, format="onnx", verbose=False)
    if exact:
        with refused(ValueError, "is the exact gelu, but gelu here is the formula with tanh"):
            reference.MLP.from_onnx(path)
        return
    read = assert_reads(path, X)
    assert read.input_scale == np.float32(1 / 255)
    np.testing.assert_allclose(read.predict_proba(X), expected, atol=2e-6)


def test_functions_and_scales_written_in_other_ways():
    X = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    first = [("MatMul", "x W", "m"), ("Add", "m B", "z")]
    one, half, tenth = np.float32(1), np.float32(0.5), np.float32(0.01)
    cases = {
        "silu": [("Neg", "z", "n"), ("Exp", "n", "e"), ("Add", "e one", "d"), ("Div", "z d", "h")],
        "elu": [("Elu", "z", "h")],
        "leaky_relu": [("PRelu", "z tenth", "h")],
        "relu": [("Max", "z zero", "h")],
        "logistic": [("Neg", "z", "n"), ("Exp", "n", "e"), ("Add", "e one", "d"), ("Reciprocal", "d", "h")],
        "tanh": [("Mul", "z two", "d"), ("Sigmoid", "d", "s"), ("Mul", "s two", "t"), ("Sub", "t one", "h")],
    }
    numbers = {"one": one, "half": half, "tenth": tenth, "zero": np.float32(0), "two": np.float32(2)}
    for name, nodes in cases.items():
        model = model_of(*first, *nodes, SECOND, W=W, B=B, V=V, **numbers)
        assert assert_reads(model, X).activations == (name,)
    clipped = model_of(*first, ("Clip", "z", "h", {"min": 0.0}), SECOND, W=W, B=B, V=V, opset=9)  # not an input yet
    assert assert_reads(clipped, X).activations == ("relu",)
    turned = [("Transpose", "T", "t"), ("Unsqueeze", "t zeroth", "u"), ("Squeeze", "u zeroth", "W")]
    turned += [("Cast", "D", "d", {"to": 1}), ("Reshape", "d three", "B")]
    shapes = {"zeroth": np.array([0]), "three": np.array([3]), "T": W.T, "D": B.astype("f8")[None], "V": V}
    assert same_parameters(
        assert_reads(model_of(*turned, *first, ("Relu", "z", "h"), SECOND, **shapes), X),
        reference.MLP.from_onnx(model_of(*first, ("Relu", "z", "h"), SECOND, W=W, B=B, V=V)),
    )
    scaled = [("Sub", "x mean", "c"), ("Div", "c std", "s"), ("Gemm", "s W", "m", {"alpha": 0.5}), ("Relu", "m", "r")]
    after = [("Mul", "r B", "t"), ("Add", "t one", "h"), SECOND]
    mean, std = np.array([[1, 2, 3, 4]], np.float32), np.array([1, 2, 4, 0.5], np.float32)
    net = assert_reads(model_of(*scaled, *after, W=W, B=B, V=V, mean=mean, std=std, one=one), X)
    assert net.input_scale == 1
    assert net.activations == ("relu",)


REFUSED = {
    "the node 'to_y' (Conv) computes what no multilayer perceptron does": [("Conv", "x W", "y")],
    "combines numbers of different layers": [
        ("MatMul", "x W", "z"), ("Relu", "z", "r"), ("MatMul", "r U", "u"), ("Add", "u r", "y"),
    ],
    "a hidden layer has LeakyRelu(alpha=0.3), which is none of relu": [
        ("MatMul", "x W", "z"), ("LeakyRelu", "z", "h", {"alpha": 0.3}), SECOND,
    ],
    "a hidden layer has Clip, which is none of relu": [("MatMul", "x W", "z"), ("Clip", "z low six", "h"), SECOND],
    "(Relu) has attributes that are not numbers": [("Relu", "x", "y", {"t": onnx.TensorProto()})],
    "(Unsqueeze) has 999 axes": [("Unsqueeze", "W row", "y")],
    "(Cast) makes something else than numbers of a constant": [("Cast", "W", "y", {"to": onnx.TensorProto.STRING})],
    "its output 'y' is Tanh, but a network ends in one of softmax": [("MatMul", "x W", "z"), ("Tanh", "z", "y")],
    "it computes Relu of its inputs, before the first layer": [("Relu", "x", "r"), ("MatMul", "r W", "y")],
    "(Gelu) is the exact gelu": [("MatMul", "x W", "z"), ("Gelu", "z", "h"), SECOND],
    "needs 'nothing', which no node before it computes": [("MatMul", "x nothing", "y")],
    "multiplies rows of shape (4,) by weights of shape (3, 2)": [("MatMul", "x V", "y")],
    "(Softmax) is not over the columns": [("MatMul", "x W", "z"), ("Softmax", "z", "y", {"axis": 0})],
    "(Transpose) does not keep rows as they are": [("Transpose", "x", "t"), ("MatMul", "t W", "y")],
    "(Reshape) makes the shape [2, -1] of rows": [("MatMul", "x W", "z"), ("Reshape", "z two", "y")],
    "makes a larger constant of smaller ones": [("Mul", "row column", "y")],
    "puts columns beside each other": [("MatMul", "x W", "z"), ("Concat", "z z", "y", {"axis": 1})],
    "its output 'y' is constant": [("Identity", "W", "y")],
    "follows the output of the network": [("MatMul", "x W", "z"), ("Softmax", "z", "s"), ("MatMul", "s V", "y")],
    "it has no layers": [("Identity", "x", "y")],
    "is in training mode": [("MatMul", "x W", "z"), ("BatchNormalization", "z B B B B", "y", {"training_mode": 1})],
    "belongs to a function of too many nodes": [
        ("MatMul", "x W", "z0"), *[("Mul", f"z{i} z{i}", f"z{i + 1}") for i in range(40)],
    ],
}  # fmt: skip


@pytest.mark.parametrize("message", REFUSED)
def test_what_a_network_cannot_compute_is_named(message):
    numbers = {
        "low": np.float32(0),
        "six": np.float32(6),
        "two": np.array([2, -1]),
        "row": np.ones((1, 999)),
        "column": np.ones((999, 1)),
        "U": W[:3],
    }
    model = model_of(*REFUSED[message], W=W, B=B, V=V, **numbers)
    with refused(ValueError, message):
        reference.MLP.from_onnx(model)
