"""ONNX files that are damaged or made to do harm: clear errors, quickly and without memory; no other folder is read."""

import os
import pickle
import time
import tracemalloc

import numpy as np
import pytest
from support.nets import refused

from fastmlp import reference

onnx = pytest.importorskip("onnx")

NET = reference.MLP([4, 3, 3], seed=1)


def saved(path):
    NET.to_onnx(path)
    return path.read_bytes()


def foreign():
    """The same model as another program would have written it, without a checksum."""
    model = NET.to_onnx()
    model.producer_name = "other"
    return model


def same(net):
    own = (net.layers, net.output, net.activations) == (NET.layers, NET.output, NET.activations)
    return own and all(map(np.array_equal, net.weights + net.biases, NET.weights + NET.biases))


def read_or_refuse(path, content):
    """Return the network in a file, or None if it is refused with a ValueError that names the file."""
    path.write_bytes(content)
    try:
        return reference.MLP.from_onnx(path)
    except ValueError as error:
        message = str(error)
    assert str(path) in message
    return None


def flipped(content, bit):
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


@pytest.mark.parametrize("step", [13, pytest.param(1, marks=pytest.mark.slow)])
def test_every_bit_flip_is_refused_or_changes_nothing(tmp_path, step):
    path = tmp_path / "net.onnx"
    content = saved(path)
    refused_flips = 0
    for bit in range(0, 8 * len(content), step):
        net = read_or_refuse(path, flipped(content, bit))
        refused_flips += net is None
        assert net is None or same(net), bit
    assert refused_flips > 0.9 * 8 * len(content) / step


@pytest.mark.parametrize("step", [29, pytest.param(1, marks=pytest.mark.slow)])
def test_bit_flips_of_other_exporters_give_no_other_error(tmp_path, step):
    content = foreign().SerializeToString()
    for bit in range(0, 8 * len(content), step):
        read_or_refuse(tmp_path / "net.onnx", flipped(content, bit))


def test_a_cut_file_is_refused(tmp_path):
    path = tmp_path / "net.onnx"
    content = saved(path)
    assert [n for n in range(0, len(content), 3) if read_or_refuse(path, content[:n]) is not None] == []


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "net.onnx"
    for content in (b"", pickle.dumps(NET), b"\x80\x04K\x01.", b"\x93NUMPY", b"PK\x03\x04", os.urandom(999)):
        assert read_or_refuse(path, content) is None
    with refused(FileNotFoundError, f"there is no file {tmp_path / 'nothing'}"):
        reference.MLP.from_onnx(tmp_path / "nothing")
    with refused(ValueError, f"{tmp_path} is not a file"):
        reference.MLP.from_onnx(tmp_path)
    with refused(TypeError, "path must be the name of a file"):
        reference.MLP.from_onnx(3)
    if os.path.exists("/dev/zero"):
        with refused(ValueError, "/dev/zero is not a file"):
            reference.MLP.from_onnx("/dev/zero")


def test_a_huge_file_is_not_read(tmp_path):
    path = tmp_path / "net.onnx"
    with open(path, "wb") as file:
        file.truncate(2**42)  # no disk is used
    with refused(ValueError, "has 4096.0 GiB, but an ONNX file has at most 2"):
        reference.MLP.from_onnx(path)


# --- claims -----------------------------------------------------------------------------------------------------------


def of_tensors(change):
    """A model whose first tensor is changed."""
    model = foreign()
    change(model.graph.initializer[0])
    return model


def dims(*sizes):
    return lambda tensor: tensor.dims.__setitem__(slice(None), sizes)


def no_bytes(tensor):
    dims(10**6, 10**6)(tensor)
    tensor.ClearField("raw_data")


def shared_weights():
    """Thousands of layers with one tensor, a million times its bytes."""
    w = np.zeros((200, 200), np.float32)
    nodes = [onnx.helper.make_node("MatMul", [f"x{i}", "w"], [f"x{i + 1}"]) for i in range(5000)]
    value = onnx.helper.make_tensor_value_info
    ends = [value("x0", 1, ["n", 200])], [value("x5000", 1, ["n", 200])]
    return onnx.helper.make_model(
        onnx.helper.make_graph(nodes, "deep", *ends, [onnx.numpy_helper.from_array(w, "w")]),
    )


def doubling():
    """A constant that doubles with each node."""
    nodes = [onnx.helper.make_node("Concat", [f"c{i}"] * 2, [f"c{i + 1}"], axis=0) for i in range(60)]
    value = onnx.helper.make_tensor_value_info
    ends = [value("x", 1, ["n", 2])], [value("c60", 1, None)]
    return onnx.helper.make_model(
        onnx.helper.make_graph(nodes, "large", *ends, [onnx.numpy_helper.from_array(np.ones(2), "c0")]),
    )


def test_millions_of_empty_messages_are_not_parsed(tmp_path):
    nodes = b"\x0a\x00" * 2_000_000
    size = bytes(
        [0x80 | len(nodes) & 127, 0x80 | len(nodes) >> 7 & 127, 0x80 | len(nodes) >> 14 & 127, len(nodes) >> 21]
    )
    (tmp_path / "net.onnx").write_bytes(b"\x3a" + size + nodes)
    with refused(ValueError, "has more than 1,000,000 fields"):
        reference.MLP.from_onnx(tmp_path / "net.onnx")


def many_nodes():
    model = foreign()
    for _ in range(30_000):
        model.graph.node.add().op_type = "Relu"
    return model


def beside_the_network(kind, inputs, **attributes):
    """Thousands of nodes that make constants or wide rows, which no layer uses, of a network."""
    model = foreign()
    more = {"large": np.ones(2**20, np.int8), "wide": np.ones((4, 2**18), np.float32), "b": np.ones(2**18, np.float32)}
    model.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in more.items())
    first = model.graph.input[0].name
    model.graph.node.insert(0, onnx.helper.make_node("MatMul", [first, "wide"], ["rows"]))
    for i in range(3000):
        names = [first if name == "x" else name for name in inputs]
        model.graph.node.insert(1, onnx.helper.make_node(kind, names, [f"unused{i}"], **attributes))
    return model


def many_axes():
    model = foreign()
    axes = onnx.numpy_helper.from_array(np.arange(10**6), "axes")
    model.graph.initializer.append(axes)
    model.graph.node.insert(0, onnx.helper.make_node("Unsqueeze", ["axes", "axes"], ["unused"]))
    return model


def many_outputs():
    model = foreign()
    for i in range(1000):
        model.graph.output.add().name = f"y{i}"
    return model


HUGE = {
    "(Cast) uses the": lambda: beside_the_network("Cast", ["large"], to=onnx.TensorProto.DOUBLE),
    "(Max) uses the": lambda: beside_the_network("Max", ["large"] * 40),
    "(Gemm) uses the": lambda: beside_the_network("Gemm", ["x", "wide"], alpha=2.0),
    "(Add) uses the": lambda: beside_the_network("Add", ["rows", "b"]),
    "has 1,000,000 axes": many_axes,
    "the tensor 'weights_0' has 100,000 axes": lambda: of_tensors(dims(*[2] * 100_000)),
    "it has 1,002 outputs": many_outputs,
    "the tensor 'weights_0' of shape [1000000, 1000000] cannot be read": lambda: of_tensors(no_bytes),
    "the tensor 'weights_0' of shape [1000000, 1000000] cannot be read: it has 48": lambda: of_tensors(
        dims(10**6, 10**6)
    ),
    "[4, -3]": lambda: of_tensors(dims(4, -3)),
    "of shape [9223372036854775807, 2] cannot be read": lambda: of_tensors(dims(2**63 - 1, 2)),
    "again and again": shared_weights,
    "puts columns beside each other": doubling,
    "30,005 nodes, too many": many_nodes,
}


@pytest.mark.parametrize("message", HUGE)
def test_claims_cost_nothing(message):
    model = HUGE[message]()
    tracemalloc.start()
    start = time.perf_counter()
    with refused(ValueError, message):
        reference.MLP.from_onnx(model)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert time.perf_counter() - start < 10
    assert most < 2**27


def test_weights_that_are_not_finite_are_refused():
    def spoil(tensor):
        tensor.raw_data = np.full(12, np.inf, np.float32).tobytes()

    with refused(ValueError, "weights and biases are not all finite numbers"):
        reference.MLP.from_onnx(of_tensors(spoil))


# --- numbers in other files -------------------------------------------------------------------------------------------


@pytest.fixture
def beside(tmp_path):
    """A model that has its numbers in another file of its folder, numbers.bin."""
    folder = tmp_path / "model"
    folder.mkdir()
    onnx.save_model(
        foreign(),
        folder / "net.onnx",
        save_as_external_data=True,
        all_tensors_to_one_file=True,
        location="numbers.bin",
        size_threshold=0,
    )
    return folder


def with_entry(folder, key, value):
    """Change an entry of the first tensor."""
    model = onnx.load(folder / "net.onnx", load_external_data=False)
    for entry in model.graph.initializer[0].external_data:
        if entry.key == key:
            entry.value = value
    (folder / "net.onnx").write_bytes(model.SerializeToString())
    return folder / "net.onnx"


def test_numbers_in_a_file_beside_it(beside, monkeypatch):
    assert same(reference.MLP.from_onnx(beside / "net.onnx"))
    monkeypatch.chdir(beside)
    assert same(reference.MLP.from_onnx("net.onnx"))
    with refused(ValueError, "its numbers are in another file; pass the path of the model instead"):
        reference.MLP.from_onnx(onnx.load("net.onnx", load_external_data=False))


@pytest.mark.parametrize(
    "location", ["../numbers.bin", "/etc/passwd", "a/../../numbers.bin", "..\\numbers.bin", "C:\\x", "", ".", "n\0"]
)
def test_no_other_folder_is_read(beside, location):
    (beside.parent / "numbers.bin").write_bytes((beside / "numbers.bin").read_bytes())
    with refused(ValueError, "its numbers are in" if location != "." else "is not a file"):
        reference.MLP.from_onnx(with_entry(beside, "location", location))


@pytest.mark.skipif(os.name == "nt", reason="links need rights")
def test_links_do_not_leave_the_folder(beside):
    (beside / "numbers.bin").rename(beside.parent / "secret")
    (beside / "numbers.bin").symlink_to(beside.parent / "secret")
    with refused(ValueError, "a link that leaves the folder of the model"):
        reference.MLP.from_onnx(beside / "net.onnx")
    (beside / "net.onnx").rename(beside.parent / "blob")
    (beside / "net.onnx").symlink_to(beside.parent / "blob")  # as caches of downloads do, with both files
    assert same(reference.MLP.from_onnx(beside / "net.onnx"))


@pytest.mark.parametrize(
    ("key", "value"), [("length", str(10**12)), ("offset", str(10**12)), ("offset", "-8"), ("length", "x")]
)
def test_numbers_must_be_in_the_file(beside, key, value):
    with refused(ValueError, "the tensor 'weights_0' of shape [4, 3] cannot be read"):
        reference.MLP.from_onnx(with_entry(beside, key, value))


def test_a_missing_file_is_named(beside):
    (beside / "numbers.bin").unlink()
    with refused(FileNotFoundError, "numbers.bin"):
        reference.MLP.from_onnx(beside / "net.onnx")


# --- changed files ----------------------------------------------------------------------------------------------------


def test_a_model_that_was_changed_says_how_to_read_it():
    model = NET.to_onnx()
    model.graph.initializer[0].raw_data = np.ones((4, 3), np.float32).tobytes()
    with refused(ValueError, "its checksum is that of another content. If it was changed on purpose, set its producer"):
        reference.MLP.from_onnx(model)
    model.producer_name = "me"
    assert (reference.MLP.from_onnx(model).weights[0] == 1).all()


def test_what_tools_of_onnx_do_to_a_model_is_no_damage(tmp_path):
    """MLflow moves the weights to a second file, and gives them back in a form of their own."""
    path = tmp_path / "net.onnx"
    onnx.save(NET.to_onnx(), path, save_as_external_data=True, location="net.data", size_threshold=0)
    for model in (path, onnx.load(path), onnx.shape_inference.infer_shapes(NET.to_onnx())):
        assert same(reference.MLP.from_onnx(model))
    numbers = bytearray((tmp_path / "net.data").read_bytes())
    numbers[0] ^= 1
    (tmp_path / "net.data").write_bytes(numbers)
    with refused(ValueError, "its checksum is that of another content"):
        reference.MLP.from_onnx(path)


def test_notes_in_a_model_are_no_damage():
    model = NET.to_onnx()
    model.doc_string = "of Monday"
    entry = model.metadata_props.add()
    entry.key, entry.value = "author", "me"
    assert same(reference.MLP.from_onnx(model))
