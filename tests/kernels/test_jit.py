"""How kernels are compiled and cached: one signature per dtype, and no stale or damaged code is ever run."""

import io
import json
import os
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from fastmlp.kernels import jit

ROOT = Path(__file__).resolve().parents[2]

COMPILING = "fastmlp: compiling kernels for this machine (once, about 8 s) ...\n"
BOTH, FLOAT32 = ["float32", "float64"], ["float32"]
ENTRIES = {
    "infer_dense": BOTH, "infer_packed": BOTH, "pack_rows": FLOAT32, "train_dense": FLOAT32, "train_packed": FLOAT32,
}  # fmt: skip
"""The entries that the program below compiles, and the dtypes."""

FITS = """
import json, sys, tempfile
import numpy as np
from fastmlp import MLP
from fastmlp.kernels import epoch, matmul
from fastmlp.kernels.formats import FORMATS, packed

def fits(dtype):
    X = np.random.default_rng(0).random((40, 5)).astype(dtype)
    y = np.arange(40) % 3
    read_only = X.copy()
    read_only.flags.writeable = False
    labels = y.astype(np.int32)
    labels.flags.writeable = False
    with tempfile.TemporaryFile() as file:
        mapped = np.memmap(file, dtype, "w+", shape=X.shape)
        mapped[:] = X
        net = MLP([5, 7, 3], dtype=dtype, n_threads=2)
        if dtype == "float32":  # training takes long to compile
            net.fit(X, y, epochs=1, batch_size=8, learning_rate=1)
            net.fit(read_only, labels, epochs=1, learning_rate=np.float32(0.5))
            net.fit(mapped, np.eye(3)[y], epochs=2, batch_size=7, validation_data=(mapped, y), shuffle=False)
            net.fit(X.tolist(), y.tolist(), epochs=1, batch_size=np.int32(8))
            net.fit(np.tile(X, (20, 1)), np.tile(y, 20), epochs=1, batch_size=700)
            net.train_batch(read_only[::-1], y, learning_rate=1)
            net.gradients(np.asfortranarray(X), y)
            MLP([5, 7, 3], dtype=dtype, first_layer="sparse").fit(mapped, y, epochs=1)
        for some in (X, read_only, mapped, X[:1], np.tile(X, (20, 1))):
            net.predict(some), net.predict_proba(some), net.score(some, np.resize(y, len(some)))

def dtype_of(kind):
    return str(getattr(kind, "types", [kind])[0].dtype)  # of an array, or of a matrix by that of its buffer

for dtype in sys.argv[1:]:
    fits(dtype)
kernels = {
    "train_dense": epoch.train_loop(FORMATS["dense"].train, "plain", "softmax", None),
    "train_packed": epoch.train_loop(FORMATS["packed"].train, "plain", "softmax", None),
    "infer_dense": epoch.infer_loop(FORMATS["dense"], "plain", "softmax"),
    "infer_packed": epoch.infer_loop(FORMATS["packed"], "plain", "softmax"),
    "pack_rows": packed.pack_rows, "forward": matmul.forward, "update": matmul.update,
}
print(json.dumps({
    name: {
        "dtypes": sorted(dtype_of(signature[0]) for signature in kernel.signatures),
        "hits": sum(kernel.stats.cache_hits.values()),
    }
    for name, kernel in kernels.items()
}))
"""


def fits_in_a_new_process(folder, *dtypes):
    """Return what it prints, and what it says about compiling."""
    environment = os.environ | {"NUMBA_CACHE_DIR": str(folder), "PYTHONPATH": str(ROOT), "FASTMLP_QUIET": ""}
    ran = subprocess.run(
        [sys.executable, "-c", FITS, *dtypes], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout), ran.stderr.splitlines(keepends=True)


@pytest.fixture(scope="module")
def cold(tmp_path_factory):
    """Return what a process that compiles everything prints, and the folder of its cache."""
    folder = tmp_path_factory.mktemp("cache") / "not" / "yet"
    said, lines = fits_in_a_new_process(folder, "float32", "float64")
    assert set(lines) == {COMPILING}
    assert len(lines) < 4  # one, unless the machine is so busy that seconds pass between two kernels
    return said, folder


def test_one_signature_per_dtype(cold):
    said, _ = cold
    for name, dtypes in ENTRIES.items():
        assert said[name]["hits"] == 0
        assert said[name]["dtypes"] == dtypes
    assert said["forward"]["dtypes"] == BOTH
    assert said["update"]["dtypes"] == FLOAT32


def test_a_second_process_loads(cold):
    _, folder = cold
    files = sorted(folder.iterdir())
    assert [file.name.partition("-")[0] for file in files] == sorted(
        name for name, dtypes in ENTRIES.items() for _ in dtypes
    )
    assert all(file.suffix == ".kernel" for file in files)
    before = [file.stat().st_mtime_ns for file in files]
    said, lines = fits_in_a_new_process(folder, "float32")
    assert lines == []
    for name in ENTRIES:
        assert len(said[name]["dtypes"]) == said[name]["hits"] == 1
    assert said["forward"]["dtypes"] == said["update"]["dtypes"] == []  # nothing was compiled
    assert sorted(folder.iterdir()) == files
    assert [file.stat().st_mtime_ns for file in files] == before


def test_no_two_processes_give_a_kernel_the_same_name(tmp_path):
    """The linker takes two kernels of one name for the same, even from two cache files of two processes."""
    program = """
import numpy as np
from fastmlp.kernels.jit import entry

@entry
def twice(x):
    x[0] *= 2

twice(np.ones(1))
print(*(compiled.fndesc.mangled_name for compiled in twice.overloads.values()))
"""
    names = [
        subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / folder)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for folder in "ab"
    ]
    assert "twice" in names[0]
    assert names[0] != names[1]


def test_the_normal_build_is_unchecked():
    assert (os.environ.get("FASTMLP_CHECKED", "") not in ("", "0")) == jit.CHECKED


# --- the cache, on a small kernel -------------------------------------------------------------------------------------


def twice(x):
    return 2 * x


def new_kernel():
    """Return the kernel as a new process has it: nothing is compiled."""
    return jit.entry(twice)


def hits(kernel):
    return sum(kernel.stats.cache_hits.values())


@pytest.fixture
def folder(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(folder))
    return folder


def only_file(folder):
    (file,) = folder.iterdir()
    return file


def test_a_file_for_each_signature(folder):
    kernel = new_kernel()
    assert (kernel(3), kernel(1.5)) == (6, 3.0)
    assert len(list(folder.iterdir())) == 2
    again = new_kernel()
    assert (again(4), again(2.5), hits(again)) == (8, 5.0, 2)
    assert (hits(kernel), len(list(folder.iterdir()))) == (0, 2)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:20],
        lambda data: data[:32],
        lambda data: data[: len(data) // 2],
        lambda data: data[:-1],
        lambda data: data + b"\0",
        lambda data: bytes([data[0] ^ 1]) + data[1:],
        lambda data: data[:500] + bytes([data[500] ^ 1]) + data[501:],
        lambda data: b"something else",
    ],
    ids=["empty", "half a checksum", "checksum alone", "half", "one byte less", "one more", "checksum", "bit", "other"],
)
def test_a_damaged_file_is_ignored_and_replaced(folder, damage):
    new_kernel()(3)
    file = only_file(folder)
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    kernel = new_kernel()
    assert (kernel(3), hits(kernel)) == (6, 0)
    assert only_file(folder) == file
    healed = new_kernel()
    assert (healed(3), hits(healed)) == (6, 1)


def test_kernels_that_cannot_be_written_are_compiled_again(folder, monkeypatch):
    def full(path, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(jit, "_write_whole", full)
    for _ in range(2):
        kernel = new_kernel()
        assert (kernel(3), hits(kernel)) == (6, 0)
    assert list(folder.iterdir()) == []


def test_a_failed_write_leaves_nothing(folder, monkeypatch):
    def refuse(*arguments):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(jit.os, "replace", refuse)
    assert new_kernel()(3) == 6
    assert list(folder.iterdir()) == []


def test_a_file_in_place_of_the_folder_does_no_harm(folder):
    folder.write_text("not a folder")
    assert new_kernel()(3) == 6
    assert folder.read_text() == "not a folder"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may write everywhere")
def test_a_read_only_folder_does_no_harm(folder):
    folder.mkdir()
    folder.chmod(0o500)
    assert new_kernel()(3) == 6
    assert list(folder.iterdir()) == []


def test_the_first_writable_folder_is_used(tmp_path, monkeypatch):
    no_folder = tmp_path / "file"
    no_folder.write_text("")
    second = tmp_path / "second"
    monkeypatch.setattr(jit, "_folders", lambda: [no_folder / "below", second, tmp_path / "third"])
    assert new_kernel()(3) == 6
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["second"]
    again = new_kernel()
    assert (again(3), hits(again)) == (6, 1)


def test_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    assert jit._folders() == [tmp_path]
    monkeypatch.delenv("NUMBA_CACHE_DIR")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    beside = Path(jit.__file__).parent / "__pycache__"
    assert jit._folders() == [tmp_path / ".cache" / "fastmlp", beside]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert jit._folders() == [tmp_path / "xdg" / "fastmlp", beside]
    for ignored in ("", "relative"):  # as the XDG specification says of both
        monkeypatch.setenv("XDG_CACHE_HOME", ignored)
        assert jit._folders()[-1] == beside
        assert all(folder.is_absolute() for folder in jit._folders())


def test_other_builds_have_other_files(folder, monkeypatch):
    new_kernel()(3)
    first = only_file(folder)
    monkeypatch.setattr(jit, "CHECKED", not jit.CHECKED)
    assert hits(checked := new_kernel()) == 0
    assert checked(3) == 6
    assert len(list(folder.iterdir())) == 2
    monkeypatch.setattr(jit, "CHECKED", not jit.CHECKED)
    monkeypatch.setattr(jit, "_sources", lambda: "other sources")
    changed = new_kernel()
    assert (changed(3), hits(changed)) == (6, 0)
    assert len(list(folder.iterdir())) == 3
    assert first.exists()


def test_any_kernel_source_counts(tmp_path, monkeypatch):
    folder = tmp_path / "kernels"
    shutil.copytree(Path(jit.__file__).parent, folder)
    monkeypatch.setattr(jit, "__file__", str(folder / "jit.py"))
    seen = {jit._sources.__wrapped__()}
    assert jit._sources.__wrapped__() in seen
    assert jit._sources() in seen
    paths = sorted(folder.rglob("*.py"))
    assert folder / "formats" / "packed.py" in paths
    for path in paths:
        path.write_bytes(path.read_bytes() + b"\n")
        assert jit._sources.__wrapped__() not in seen, path.name
        seen.add(jit._sources.__wrapped__())


# --- the decorators ---------------------------------------------------------------------------------------------------


def test_constants_make_no_new_signature():
    inner = jit.kernel(lambda a, n: a[0] * n)
    outer = jit.kernel(lambda a: inner(a, 1) + inner(a, 2) + inner(a, len(a)))
    assert outer(np.ones(3)) == 6
    assert len(inner.signatures) == 1


def test_kernels_release_the_gil_and_keep_the_order_of_sums():
    options = jit.kernel(twice).targetoptions
    assert options["nogil"] is True
    assert options["fastmath"] is False
    assert options["error_model"] == "numpy"
    assert options["boundscheck"] is jit.CHECKED


# --- whom the cache trusts --------------------------------------------------------------------------------------------

posix = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="this system does not say who owns a file")


@pytest.fixture
def said(monkeypatch, capsys):
    """Return a function that returns what has been printed to stderr."""
    monkeypatch.setenv("FASTMLP_QUIET", "0")
    monkeypatch.setattr(jit._Compiling, "patience", 60)
    jit._say_once.cache_clear()
    return lambda: capsys.readouterr().err


@posix
def test_what_is_written_is_for_this_user_alone(folder):
    before = os.umask(0)
    try:
        new_kernel()(3)
    finally:
        os.umask(before)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert only_file(folder).stat().st_mode & 0o777 == 0o600


@posix
@pytest.mark.parametrize("mode", [0o720, 0o702, 0o1777])
def test_a_folder_that_others_can_write_to_is_not_used(folder, said, mode):
    new_kernel()(3)
    whole = only_file(folder).read_bytes()
    folder.chmod(mode)
    for _ in range(2):
        kernel = new_kernel()
        assert (kernel(3), hits(kernel)) == (6, 0)
    new_kernel()(1.5)  # is not written, either
    assert only_file(folder).read_bytes() == whole
    assert said() == (
        f"fastmlp: compiled kernels are not kept in {folder}, because other users can write there (chmod go-w)\n"
    )


@posix
@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_can_write_to_is_not_read(folder, said, mode):
    new_kernel()(3)
    only_file(folder).chmod(mode)
    kernel = new_kernel()
    assert (kernel(3), hits(kernel)) == (6, 0)
    assert only_file(folder).stat().st_mode & 0o777 == 0o600  # replaced
    healed = new_kernel()
    assert (healed(3), hits(healed)) == (6, 1)
    assert said() == ""


@posix
@pytest.mark.parametrize(("owner", "trusted"), [(0, True), (1000, True), (1001, False)])
@pytest.mark.parametrize("what", ["folder", "file"])
def test_whose_files_are_read(folder, said, monkeypatch, what, owner, trusted):
    """Those of root and of the user, who has the number 1000 here."""
    new_kernel()(3)
    only_file(folder)
    checked = jit._is_trusted
    as_seen = {"folder": [owner, 1000], "file": [1000, owner]}[what]

    def seen(status):
        is_file = stat.S_ISREG(status.st_mode)
        return checked(os.stat_result([*status[:4], as_seen[is_file], *status[5:]]))

    monkeypatch.setattr(jit.os, "geteuid", lambda: 1000)
    monkeypatch.setattr(jit, "_is_trusted", seen)
    kernel = new_kernel()
    assert (kernel(3), hits(kernel)) == (6, trusted)
    assert (said() == "") == (trusted or what == "file")


def test_where_the_system_does_not_say_who_owns_a_file(folder, monkeypatch):
    monkeypatch.delattr(jit.os, "geteuid", raising=False)
    new_kernel()(3)
    folder.chmod(0o777)
    kernel = new_kernel()
    assert (kernel(3), hits(kernel)) == (6, 1)


@posix
def test_every_folder_is_checked(tmp_path, said, monkeypatch):
    folders = [tmp_path / name for name in "abc"]
    monkeypatch.setattr(jit, "_folders", lambda: folders)
    for folder in folders[:2]:
        folder.mkdir()
        folder.chmod(0o777)
    for n_hits in (0, 1):
        kernel = new_kernel()
        assert (kernel(3), hits(kernel)) == (6, n_hits)
    assert [len(list(folder.iterdir())) for folder in folders] == [0, 0, 1]
    assert said().count("\n") == 1  # of the preferred one


def test_a_kernel_under_another_name_is_not_run(folder):
    new_kernel()(3)
    integer = only_file(folder)
    new_kernel()(1.5)
    (real,) = set(folder.iterdir()) - {integer}
    real.replace(integer)
    kernel = new_kernel()
    assert (kernel(3), hits(kernel)) == (6, 0)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_in_place_of_a_kernel_does_no_harm(folder):
    new_kernel()(3)
    file = only_file(folder)
    file.unlink()
    os.mkfifo(file, 0o600)
    assert new_kernel()(3) == 6


@pytest.mark.parametrize("fails", ["write", "open"])
def test_a_full_disk_is_no_error(folder, said, monkeypatch, fails):
    class Full(io.BytesIO):
        def write(self, data):
            raise OSError(28, "No space left on device")

    def opened(path, mode, **more):
        if fails == "open":
            raise OSError(28, "No space left on device")
        path.touch()
        return Full()

    monkeypatch.setattr(jit, "open", opened, raising=False)
    assert new_kernel()(3) == 6
    assert list(folder.iterdir()) == []
    assert said() == ""


# --- what users are told ----------------------------------------------------------------------------------------------


@pytest.fixture
def slow(monkeypatch):
    """Let each kernel take a moment more to compile, and be told of at once. Return a function that waits."""
    monkeypatch.setattr(jit, "_compiling", jit._Compiling())
    monkeypatch.setattr(jit._Compiling, "patience", 0)
    end = jit._Compiling.end

    def wait_and_end(compiling):
        time.sleep(0.2)
        end(compiling)

    monkeypatch.setattr(jit._Compiling, "end", wait_and_end)


def test_compiling_is_told_once(folder, slow, monkeypatch, capsys):
    monkeypatch.setenv("FASTMLP_QUIET", "")
    new_kernel()(3)
    new_kernel()(1.5)  # follows at once
    assert capsys.readouterr() == ("", COMPILING)
    new_kernel()(3)  # is loaded
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(jit._Compiling, "gap", 0)
    new_kernel()(np.float32(1))
    assert capsys.readouterr() == ("", COMPILING)


@pytest.mark.parametrize(("quiet", "patience"), [("1", 0), ("", 60)])
def test_compiling_is_not_told(folder, slow, monkeypatch, capsys, quiet, patience):
    monkeypatch.setenv("FASTMLP_QUIET", quiet)
    monkeypatch.setattr(jit._Compiling, "patience", patience)
    new_kernel()(3)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("stream", [None, "closed"])
def test_compiling_without_a_place_to_tell(folder, slow, monkeypatch, stream):
    monkeypatch.setenv("FASTMLP_QUIET", "")
    if stream:
        stream = io.StringIO()
        stream.close()
    monkeypatch.setattr(sys, "stderr", stream)
    assert new_kernel()(3) == 6
    monkeypatch.undo()
