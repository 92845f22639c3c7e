"""Networks in files: what is written is read again, and what is no network is refused."""

import errno
import io
import os
import pickle
import re
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
from support.command_line import posix
from support.files import assert_refused, flipped
from support.nets import DTYPES, X, assert_bits, both_kinds, parameters, refused

from fastmlp import MLP, reference, storage

pytestmark = pytest.mark.loops("plain SGD")


@both_kinds
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", [None, 3, 10**30])
def test_save_and_load(tmp_path, dtype, seed, kind):
    net, path = kind([4, 8, 3], activation="logistic", init="xavier", seed=seed, dtype=dtype), tmp_path / "net.npz"
    for parameter in parameters(net):
        parameter += 0.1
    net.save(path)
    for other in (MLP, reference.MLP):
        loaded = other.load(str(path))
        assert type(loaded) is other
        assert repr(loaded) == repr(net)
        assert_bits(loaded, parameters(net))
    np.testing.assert_array_equal(kind.load(path).predict_proba(X), net.predict_proba(X))
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.name != "posix", reason="needs symbolic links")
def test_save_through_a_link_keeps_the_link(tmp_path):
    folder, link = tmp_path / "there", tmp_path / "link.npz"
    folder.mkdir()
    link.symlink_to("there/net.npz")
    net = MLP([4, 3])
    for _ in range(2):
        net.weights[0] += 1
        net.save(link)
        assert link.is_symlink()
        assert_bits(MLP.load(folder / "net.npz"), parameters(net))
    assert [path.name for path in folder.iterdir()] == ["net.npz"]


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    net, path = reference.MLP([4, 3]), tmp_path / "net.npz"
    net.save(path)
    old = path.read_bytes()

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    net.weights[0][:] = 0
    with pytest.raises(OSError, match="No space left on device: '.*net.npz'$"):
        net.save(path)
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]


def test_save_to_no_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        reference.MLP([4, 3]).save(tmp_path / "missing" / "net.npz")
    with pytest.raises(IsADirectoryError, match="it is a folder"):
        reference.MLP([4, 3]).save(tmp_path)


@posix
def test_an_error_names_the_file_that_was_meant(tmp_path):
    path = tmp_path / ("x" * 246 + ".npz")  # the name that it is written under is longer
    with pytest.raises(OSError, match="File name too long: '.*/x+[.]npz'$"):
        reference.MLP([4, 3]).save(path)
    assert not list(tmp_path.iterdir())


def test_load_of_a_wrong_file(tmp_path):
    path = tmp_path / "net.npz"
    with pytest.raises(FileNotFoundError):
        reference.MLP.load(path)
    path.write_text("weights")
    with pytest.raises(ValueError, match="is not a whole .npz file"):
        reference.MLP.load(path)
    np.savez(path, x=X)
    with pytest.raises(ValueError, match="holds no network saved by fastmlp"):
        reference.MLP.load(path)
    np.savez(path, x=np.array([None]))
    with pytest.raises(ValueError, match="cannot be read"):
        reference.MLP.load(path)


def test_load_of_a_damaged_file(tmp_path):
    path = tmp_path / "net.npz"
    reference.MLP([40, 30]).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    with pytest.raises(ValueError, match="is not a whole .npz file"):
        reference.MLP.load(path)
    place = len(whole) // 2
    path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    with refused(ValueError, f"{path} is damaged: its checksum is that of another content"):
        reference.MLP.load(path)


@both_kinds
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights_0": None}, "is incomplete: it has no 'weights_0'"),
        ({"layers": None}, "is incomplete: it has no 'layers'"),
        ({"layers": np.array([4, 5])}, "is damaged: its parameters do not fit its layers [4, 5]"),
        ({"format": np.array("fastmlp 99")}, "holds no network saved by fastmlp"),
        ({"activation": np.array("tan")}, "is damaged: activation must be one of"),
        ({"layers": np.array([4.0, 3.0])}, "is damaged: its layers are [4.0, 3.0]"),
        ({"layers": np.array([True, True]), "weights_0": np.zeros((1, 1), "f4")}, "is damaged: its layers are [True, "),
        ({"layers": np.array(4)}, "is damaged: its layers are 4"),
        ({"layers": np.array([4])}, "is damaged: layers must name at least two sizes"),
        ({"layers": np.array([[4], [3]])}, "is damaged: its layers are [[4], [3]]"),
        ({"seed": np.array("1.5")}, "is damaged: its seed is '1.5'"),
        ({"seed": np.array("-1")}, "is damaged: its seed is '-1'"),
        ({"seed": np.array([1, 2])}, "is damaged: its seed is '[1 2]'"),
        ({"init": np.array("zeros")}, "is damaged: init must be one of"),
        ({"dtype": np.array("float16")}, "is damaged: its parameters are not all finite numbers of float16"),
        (
            {"weights_0": np.full((4, 3), np.nan, "f4")},
            "is damaged: its parameters are not all finite numbers of float32",
        ),
        ({"biases_0": np.full(3, -np.inf, "f4")}, "is damaged: its parameters are not all finite"),
        ({"biases_0": np.full(3, 1e300)}, "is damaged: its parameters are not all finite numbers of float32"),
        ({"biases_0": np.full(3, "x")}, "is damaged: its parameters are not all finite"),
    ],
)
def test_load_of_a_file_that_no_network_has_written(tmp_path, change, message, kind):
    path = tmp_path / "net.npz"
    kind([4, 3]).save(path)
    arrays = storage.load_npz(path) | change
    storage.save_npz(path, **{name: array for name, array in arrays.items() if array is not None})
    with refused(ValueError, f"{path} {message}"):
        kind.load(path)


# --- damaged files ----------------------------------------------------------------------------------------------------


@pytest.fixture
def trained(tmp_path):
    """A small network with training state, and the bytes of its file."""
    net, path = reference.MLP([2, 1, 2], l2=0.25, seed=7, dropout=0.25), tmp_path / "net.npz"
    net.fit([[1.0, 2.0], [3.0, 4.0]], [0, 1], epochs=1, optimizer="momentum", schedule="adaptive")
    net.save(path, training=True)
    return net, path.read_bytes()


def directory_bits(whole):
    """The bits of the lengths in the directory of a zip file: one wrong length hides the entries that follow."""
    starts = [match.start() for match in re.finditer(rb"PK\x01\x02", whole)]
    bits = [8 * (start + 28) + bit for start in starts for bit in range(48)]  # of name, extra field and comment
    end = 8 * whole.rindex(b"PK\x05\x06")
    return bits + list(range(end, end + 8 * 22))


def test_the_checksum_covers_what_the_directory_hides(trained, tmp_path):
    """For example `l2`: a file may lack it, since those of the first version do."""
    arrays = storage.load_npz(tmp_path / "net.npz")
    without = {name: array for name, array in arrays.items() if name != "l2"}
    np.savez(tmp_path / "other.npz", **without)
    assert reference.MLP.load(tmp_path / "other.npz").l2 == 0  # nothing says that it was there
    with zipfile.ZipFile(tmp_path / "net.npz") as file:
        comments = file.comment, b"fastmlp sha256 " + storage.checksum(arrays).encode()
    for comment in comments:
        with zipfile.ZipFile(tmp_path / "other.npz", "a") as other:
            other.comment = comment
        with refused(ValueError, "other.npz is damaged: its checksum is that of another content"):
            reference.MLP.load(tmp_path / "other.npz")


def test_checksums_of_earlier_versions(trained, tmp_path):
    """They are over the arrays, not over the bytes of the file."""
    net, path = trained[0], tmp_path / "old.npz"
    arrays = storage.load_npz(tmp_path / "net.npz")
    np.savez(path, **arrays)
    with zipfile.ZipFile(path, "a") as file:
        file.comment = b"fastmlp sha256 " + storage.checksum(arrays).encode()
    np.testing.assert_equal(reference.MLP.load(path).state_dict(), net.state_dict())


def entry(name, header, content=b"", version=(1, 0), **claims):
    """A file of one array whose header and whose entry in the directory may claim anything."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", claims.pop("compression", zipfile.ZIP_STORED)) as archive:
        text = header.encode() + b"\n"
        length = struct.pack("<H" if version == (1, 0) else "<I", len(text))
        archive.writestr(name, b"\x93NUMPY" + bytes(version) + length + text + content)
        for attribute, value in claims.items():
            setattr(archive.infolist()[0], attribute, value)
    return file.getvalue()


def header(shape, descr="<f4"):
    return f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}}}"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (entry("w.npy", header((10**12,)), b"0000"), "w.npy claims 4,000,000,000,000 bytes, but has 4"),
        (entry("w", header((10**7, 10**6), "<f8")), "w claims 80,000,000,000,000 bytes, but has 0"),
        (entry("w.npy", header((9999,), "<U99999999"), version=(2, 0)), "bytes, but has 0"),
        (entry("w.npy", header((10**10,)), version=(3, 0)), "bytes, but has 0"),
        (
            entry("w.npy", header((1,)), b"0000", file_size=10**13),
            "it expands to 10,000,000,000,000 bytes, more than any network would",
        ),
        (entry("w.npy", header((-1,)), b"0000"), "w.npy claims -4 bytes, but has 4"),
        (entry("w.npy", header("(" * 5000), b"0000"), ""),
        (
            entry("w.npy", header((10**7,)), bytes(4 * 10**7), compression=zipfile.ZIP_DEFLATED),
            "it expands to 40,000,073 bytes, more than any network would",
        ),
        (entry("w.npy", header((1,), "|O"), pickle.dumps([None])), "it holds Python objects, not numbers"),
    ],
)
def test_arrays_that_claim_more_than_they_have(content, message, tmp_path):
    """NumPy would allocate terabytes before it reads."""
    path = tmp_path / "net.npz"
    path.write_bytes(content)
    tracemalloc.start()
    with refused(ValueError, f"{path} cannot be read: ") as caught:
        reference.MLP.load(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert message in str(caught.value)
    assert peak < 1e7


def test_wrong_bits_in_the_directory(trained, tmp_path):
    whole = trained[1]
    bits = directory_bits(whole)
    for bit in [*bits[::7], *np.random.default_rng(0).integers(0, 8 * len(whole), 200)]:
        assert_refused(flipped(whole, bit), tmp_path / "net.npz")


@pytest.mark.slow
@pytest.mark.parametrize("part", range(16))
def test_every_wrong_bit(trained, part, tmp_path):
    whole = trained[1]
    for bit in range(part, 8 * len(whole), 16):
        assert_refused(flipped(whole, bit), tmp_path / "net.npz")


@pytest.mark.parametrize("step", [61, pytest.param(1, marks=pytest.mark.slow)])
def test_every_truncation(trained, step, tmp_path):
    whole = trained[1]
    for end in [*range(0, len(whole), step), *range(len(whole) - 100, len(whole))]:
        assert_refused(whole[:end], tmp_path / "net.npz")
    assert_refused(whole + b"\0", tmp_path / "net.npz")


def test_compressed_files_are_read(tmp_path):
    """NumPy can write them, also of weights that are mostly zeros."""
    net, path = reference.MLP([300, 200, 3]), tmp_path / "net.npz"
    net.weights[0][:, 20:] = 0
    net.save(path)
    np.savez_compressed(path, **storage.load_npz(path))
    assert_bits(reference.MLP.load(path), parameters(net))


@pytest.mark.parametrize(("suffix", "method"), [("onnx", "to_onnx"), ("PT", "to_torch"), ("keras", "to_keras")])
def test_save_leaves_other_forms_to_their_methods(suffix, method, tmp_path):
    with refused(ValueError, f"net.{suffix}'; for that there is {method}"):
        reference.MLP([2, 2]).save(tmp_path / f"net.{suffix}")
    assert not list(tmp_path.iterdir())


def test_what_load_would_refuse_is_not_written(tmp_path):
    net, path = reference.MLP([4, 3]), tmp_path / "net.npz"
    net.save(path)
    old = path.read_bytes()
    net.weights[0][1, 2] = np.inf
    for training in (False, True):
        with refused(ValueError, "the network cannot be saved: its parameters are not all finite numbers of float32"):
            net.save(path, training=training)
    with refused(TypeError, "cannot save a: it holds Python objects, not numbers"):
        storage.save_npz(path, a=2**70)
    assert path.read_bytes() == old
