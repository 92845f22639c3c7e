""".safetensors files: what is written is read again to the bit, and damaged or foreign files are refused."""

import contextlib
import errno
import json
import pickle
import struct
import sys

import numpy as np
import pytest
from support.files import assert_refused, flipped
from support.nets import DTYPES, assert_bits, data, parameters, refused, snapshot

from fastmlp import MLP, callbacks, reference, storage
from fastmlp.losses import LOSSES

safetensors = pytest.importorskip("safetensors")
numpy_files = pytest.importorskip("safetensors.numpy")
pytestmark = pytest.mark.loops("plain SGD")

WIDTHS = (1, 2, 3, 5, 7, 8, 13, 16, 17, 33, 64, 65, 127, 130)


def shuffled(net, seed=0):
    """Give all parameters, biases too, numbers of their own."""
    generator = np.random.default_rng(seed)
    for parameter in parameters(net):
        parameter[...] = generator.standard_normal(parameter.shape)
    return net


# --- what is written is read ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["safetensors", "npz"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", WIDTHS)
def test_every_width_is_bit_equal(tmp_path, width, dtype, suffix):
    """Weights of the compiled network are views with padding between their rows at most of these widths."""
    net, path = shuffled(MLP([width, width, 130, 3], dtype=dtype), width), tmp_path / f"net.{suffix}"
    net.save(path)
    for kind in (MLP, reference.MLP):
        loaded = kind.load(str(path))
        assert repr(loaded) == repr(net)
        assert_bits(loaded, parameters(net))
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_other_programs_read_the_same_numbers(tmp_path):
    net, path = shuffled(MLP([4, 5, 3])), tmp_path / "net.safetensors"
    assert not net.weights[0].flags.c_contiguous
    net.save(path)
    tensors = numpy_files.load_file(path)
    assert sorted(tensors) == ["biases_0", "biases_1", "weights_0", "weights_1"]
    np.testing.assert_array_equal(tensors["weights_0"], net.weights[0])
    with safetensors.safe_open(path, "np") as file:
        metadata = file.metadata()
    assert sorted(metadata) == ["format", "settings", "sha256"]
    assert json.loads(metadata["settings"])["layers"] == [4, 5, 3]


@pytest.mark.parametrize("output", LOSSES)
def test_settings_and_names_are_kept(tmp_path, output):
    settings = {
        "activation": ["relu", "gelu"], "dropout": (0.25, 0.1), "input_scale": 1 / 255, "seed": 10**30, "l2": 1e-5,
        "init": "xavier", "input_dropout": 0.1, "input_noise": 0.3, "first_layer": "dense",
    }  # fmt: skip
    net = reference.MLP([3, 5, 4, 2], output=output, label_smoothing=0.1 * (output == "softmax"), **settings)
    net.save(tmp_path / "net.SafeTensors")
    assert repr(reference.MLP.load(tmp_path / "net.SafeTensors")) == repr(net)


@pytest.mark.parametrize("labels", [["é", "yes", "\ud800"], [5, 2, 9]])
def test_names_of_a_table_are_kept(tmp_path, labels):
    pandas = pytest.importorskip("pandas")
    X = pandas.DataFrame(data(30)[0], columns=["a", "b", "c", "\u2603"])
    y = np.array(labels * 10) if isinstance(labels[0], str) else pandas.get_dummies(labels * 10)
    net = reference.MLP([4, 3])
    net.fit(X, y, epochs=1)
    net.save(tmp_path / "net.safetensors")
    loaded = reference.MLP.load(tmp_path / "net.safetensors")
    assert loaded.feature_names == [*X.columns]
    assert loaded.classes.dtype == net.classes.dtype
    np.testing.assert_array_equal(loaded.predict(X), net.predict(X))


@pytest.mark.parametrize("seed", [3, None])
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "rmsprop"])
def test_training_resumes_to_the_bit(tmp_path, optimizer, seed):
    X, y = data(50)
    settings = {"optimizer": optimizer, "schedule": "adaptive", "batch_size": 16}
    net, path = reference.MLP([4, 7, 3], dropout=0.25, input_noise=0.1, seed=seed), tmp_path / "net.safetensors"
    net.fit(X, y, epochs=2, **settings)
    net.save(path, training=True)
    loaded = reference.MLP.load(path)
    np.testing.assert_equal(loaded.state_dict(), net.state_dict())
    for each in (net, loaded):
        each.fit(X, y, epochs=4, resume=True, **settings)
    assert_bits(loaded, parameters(net))
    assert loaded.history.loss == net.history.loss


def test_checkpoints(tmp_path):
    X, y = data(50)
    net = reference.MLP([4, 3])
    net.fit(X, y, epochs=2, callbacks=[callbacks.Checkpoint(tmp_path / "net-{epoch}.safetensors")])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net-1.safetensors", "net-2.safetensors"]
    assert_bits(reference.MLP.load(tmp_path / "net-2.safetensors"), parameters(net))


def test_both_forms_hold_the_same(tmp_path):
    net = reference.MLP([4, 7, 3])
    net.fit(*data(50), epochs=2, optimizer="adam")
    for name in ("one.safetensors", "two.npz"):
        net.save(tmp_path / name, training=True)
    one, two = (reference.MLP.load(path) for path in sorted(tmp_path.iterdir()))
    np.testing.assert_equal(one.state_dict(), two.state_dict())


# --- what cannot be written -------------------------------------------------------------------------------------------


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    net, path = reference.MLP([4, 3]), tmp_path / "net.safetensors"
    net.save(path)
    old = path.read_bytes()

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", full)
        with pytest.raises(OSError, match="No space left on device: '.*net.safetensors'$"):
            shuffled(net).save(path)
    net.weights[0][1, 2] = np.inf
    with refused(ValueError, "the network cannot be saved: its parameters are not all finite numbers of float32"):
        net.save(path)
    with refused(FileNotFoundError, "there is no folder"):
        reference.MLP([4, 3]).save(tmp_path / "missing" / "net.safetensors")
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]


def test_without_safetensors(tmp_path, monkeypatch):
    path = tmp_path / "net.safetensors"
    reference.MLP([4, 3]).save(path)
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    message = ".safetensors files need safetensors: pip install 'fastmlp[safetensors]'"
    with refused(ImportError, message):
        reference.MLP([4, 3]).save(tmp_path / "other.safetensors")
    with refused(ImportError, message):
        reference.MLP.load(path)
    net = reference.MLP([4, 3])
    with refused(ImportError, message):
        net.fit(*data(50), epochs=2, callbacks=[callbacks.Checkpoint(tmp_path / "third.safetensors")])
    assert net.history.steps == 0
    assert list(tmp_path.iterdir()) == [path]


# --- damaged and foreign files ----------------------------------------------------------------------------------------


@pytest.fixture(params=[False, True], ids=["parameters", "training"])
def written(request, tmp_path):
    """A small network and the bytes of its file."""
    net, path = reference.MLP([2, 1, 2], l2=0.25, seed=7, dropout=0.25), tmp_path / "net.safetensors"
    net.fit([[1.0, 2.0], [3.0, 4.0]], [0, 1], epochs=1, optimizer="momentum", schedule="adaptive")
    net.save(path, training=request.param)
    return net, path.read_bytes()


@pytest.mark.parametrize("step", [97, pytest.param(1, marks=pytest.mark.slow)])
def test_every_wrong_bit_is_refused(written, step, tmp_path):
    whole = written[1]
    for bit in range(0, 8 * len(whole), step):
        assert_refused(flipped(whole, bit), tmp_path / "net.safetensors")


@pytest.mark.parametrize("step", [19, pytest.param(1, marks=pytest.mark.slow)])
def test_every_truncation_is_refused(written, step, tmp_path):
    whole = written[1]
    for end in range(0, len(whole), step):
        assert_refused(whole[:end], tmp_path / "net.safetensors")
    assert_refused(whole + b"\0", tmp_path / "net.safetensors")


def with_header(header, rest=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + rest


def tensor(shape, start, end, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def ours(tensors, rest=b"", **settings):
    """A file with a right checksum, of settings that may be wrong, and of tensors that are read if they are there."""
    net = reference.MLP([2, 2])
    text = json.dumps({name: np.asarray(value).tolist() for name, value in net._parameters_dict().items()
                       if name not in ("weights_0", "biases_0")} | settings)  # fmt: skip
    arrays = {"settings": np.frombuffer(text.encode(), np.uint8)}
    for name, (array, _) in tensors.items():
        arrays[name] = array
    metadata = {"format": "fastmlp 2", "settings": text, "sha256": storage.checksum(arrays)}
    return with_header({"__metadata__": metadata, **{name: claim for name, (_, claim) in tensors.items()}}, rest)


TERA = 10**12
W, B = np.zeros((2, 2), "f4"), np.zeros(2, "f4")
RIGHT = {"weights_0": (W, tensor([2, 2], 0, 16)), "biases_0": (B, tensor([2], 16, 24))}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read"),
        (b"\0" * 200, "cannot be read"),
        (struct.pack("<Q", 2**63), "cannot be read"),
        (struct.pack("<Q", TERA) + b"{}", "cannot be read"),
        (with_header({"w": tensor([TERA], 0, 4 * TERA)}), "cannot be read"),
        (with_header({"w": tensor([TERA, TERA], 0, 4)}, b"\0" * 4), "cannot be read"),
        (with_header({"w": tensor([2**63, 2**63], 0, 0)}), "cannot be read"),
        (with_header(b"[" * 100_000), "cannot be read"),
        (with_header({"w": tensor([1], 0, 4)}, b"\0" * 4), "holds no network saved by fastmlp; for weights of PyTorch"),
        (with_header({"__metadata__": {"format": "pt"}}), "holds no network saved by fastmlp"),
        (pickle.dumps({"weights": [1]}), "cannot be read"),
        (ours({}), "is incomplete: it has no 'weights_0'"),
        (ours(RIGHT, b"\0" * 24, layers=[TERA, TERA]), "is damaged: its parameters do not fit its layers"),
        (ours({**RIGHT, "weights_0": (W, tensor([4], 0, 16))}, b"\0" * 24), "is damaged: its checksum"),
        (ours(RIGHT, b"\0" * 24, activation="tan"), "is damaged: activation must be one of"),
        (ours(RIGHT, b"\0" * 24, layers={"a": 1}), "is damaged: "),
        (ours(RIGHT, b"\0" * 24, seed=[[[]]]), "is damaged: its seed is"),
        (ours(RIGHT, b"\0" * 24, biases_0=[0, 0]), "is damaged: its settings do not fit its tensors"),
        (ours(RIGHT, b"\0" * 24, format="fastmlp 1"), "is damaged: its settings do not fit its tensors"),
        (ours(RIGHT, b"\0" * 20 + b"\0\0\xc0\x7f"), "is damaged: its checksum"),
    ],
)  # fmt: skip
def test_hostile_files_are_refused(content, message, tmp_path):
    path = tmp_path / "net.safetensors"
    path.write_bytes(content)
    with refused(ValueError, f"{path} {message}"):
        reference.MLP.load(path)


def test_a_right_file_is_read(tmp_path):
    """So that the files above are refused for what is wrong with them."""
    path = tmp_path / "net.safetensors"
    path.write_bytes(ours(RIGHT, b"\0" * 24))
    assert reference.MLP.load(path).layers == (2, 2)


def test_pickles_in_tensors_are_only_bytes(tmp_path):
    evil = pickle.dumps(contextlib.suppress)
    array = np.frombuffer(evil, np.uint8)
    path = tmp_path / "net.safetensors"
    path.write_bytes(ours({"weights_0": (array, tensor([len(evil)], 0, len(evil), "U8"))}, evil))
    with refused(ValueError, f"{path} is incomplete"):
        reference.MLP.load(path)


def test_files_of_the_wrong_name(tmp_path):
    net = reference.MLP([4, 3])
    net.save(tmp_path / "net.safetensors")
    net.save(tmp_path / "net.npz")
    (tmp_path / "net.npz").rename(tmp_path / "other.safetensors")
    (tmp_path / "net.safetensors").rename(tmp_path / "other.npz")
    for name, message in (("other.safetensors", "cannot be read"), ("other.npz", "is not a whole .npz file")):
        with refused(ValueError, message):
            reference.MLP.load(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        reference.MLP.load(tmp_path / "none.safetensors")


def test_a_loaded_network_shares_nothing_with_its_file(tmp_path):
    net, path = shuffled(reference.MLP([4, 3])), tmp_path / "net.safetensors"
    net.save(path)
    loaded = reference.MLP.load(path)
    before = snapshot(loaded)
    path.write_bytes(b"")
    assert_bits(loaded, before)
    loaded.weights[0][:] = 1
