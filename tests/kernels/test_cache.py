"""The cache of compiled kernels: no stale or damaged code is ever run, nor any that others can have written."""

import io
import os
import shutil
import stat
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from fastmlp.kernels import cache, jit, notices

COMPILING = f"fastmlp: {notices.COMPILING}\n"


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

    monkeypatch.setattr(cache, "_write_whole", full)
    for _ in range(2):
        kernel = new_kernel()
        assert (kernel(3), hits(kernel)) == (6, 0)
    assert list(folder.iterdir()) == []


def test_a_failed_write_leaves_nothing(folder, monkeypatch):
    def refuse(*arguments):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(cache.os, "replace", refuse)
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
    monkeypatch.setattr(cache, "_folders", lambda: [no_folder / "below", second, tmp_path / "third"])
    assert new_kernel()(3) == 6
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["second"]
    again = new_kernel()
    assert (again(3), hits(again)) == (6, 1)


def test_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    assert cache._folders() == [tmp_path]
    monkeypatch.delenv("NUMBA_CACHE_DIR")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    beside = Path(jit.__file__).parent / "__pycache__"
    assert cache._folders() == [tmp_path / ".cache" / "fastmlp", beside]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache._folders() == [tmp_path / "xdg" / "fastmlp", beside]
    for ignored in ("", "relative"):  # as the XDG specification says of both
        monkeypatch.setenv("XDG_CACHE_HOME", ignored)
        assert cache._folders()[-1] == beside
        assert all(folder.is_absolute() for folder in cache._folders())


def test_other_builds_have_other_files(folder, monkeypatch):
    new_kernel()(3)
    first = only_file(folder)
    monkeypatch.setattr(jit, "CHECKED", not jit.CHECKED)
    assert hits(checked := new_kernel()) == 0
    assert checked(3) == 6
    assert len(list(folder.iterdir())) == 2
    monkeypatch.setattr(jit, "CHECKED", not jit.CHECKED)
    monkeypatch.setattr(cache, "_sources", lambda: "other sources")
    changed = new_kernel()
    assert (changed(3), hits(changed)) == (6, 0)
    assert len(list(folder.iterdir())) == 3
    assert first.exists()


def test_any_kernel_source_counts(tmp_path, monkeypatch):
    folder = tmp_path / "kernels"
    shutil.copytree(Path(jit.__file__).parent, folder)
    monkeypatch.setattr(cache, "__file__", str(folder / "cache.py"))
    seen = {cache._sources.__wrapped__()}
    assert cache._sources.__wrapped__() in seen
    assert cache._sources() in seen
    paths = sorted(folder.rglob("*.py"))
    assert folder / "formats" / "packed.py" in paths
    for path in paths:
        path.write_bytes(path.read_bytes() + b"\n")
        assert cache._sources.__wrapped__() not in seen, path.name
        seen.add(cache._sources.__wrapped__())


# --- whom the cache trusts --------------------------------------------------------------------------------------------

posix = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="this system does not say who owns a file")


@pytest.fixture
def said(monkeypatch, capsys):
    """Return a function that returns what has been printed to stderr."""
    monkeypatch.setenv("FASTMLP_QUIET", "0")
    monkeypatch.setattr(notices.Notices, "patience", 60)
    notices.say_once.cache_clear()
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
    checked = cache._is_trusted
    as_seen = {"folder": [owner, 1000], "file": [1000, owner]}[what]

    def seen(status):
        is_file = stat.S_ISREG(status.st_mode)
        return checked(os.stat_result([*status[:4], as_seen[is_file], *status[5:]]))

    monkeypatch.setattr(cache.os, "geteuid", lambda: 1000)
    monkeypatch.setattr(cache, "_is_trusted", seen)
    kernel = new_kernel()
    assert (kernel(3), hits(kernel)) == (6, trusted)
    assert (said() == "") == (trusted or what == "file")


def test_where_the_system_does_not_say_who_owns_a_file(folder, monkeypatch):
    monkeypatch.delattr(cache.os, "geteuid", raising=False)
    new_kernel()(3)
    folder.chmod(0o777)
    kernel = new_kernel()
    assert (kernel(3), hits(kernel)) == (6, 1)


@posix
def test_every_folder_is_checked(tmp_path, said, monkeypatch):
    folders = [tmp_path / name for name in "abc"]
    monkeypatch.setattr(cache, "_folders", lambda: folders)
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

    monkeypatch.setattr(cache, "open", opened, raising=False)
    assert new_kernel()(3) == 6
    assert list(folder.iterdir()) == []
    assert said() == ""


# --- what users are told ----------------------------------------------------------------------------------------------


@pytest.fixture
def slow(monkeypatch):
    """Let each kernel take a moment more to compile, and be told of at once."""
    monkeypatch.setattr(cache, "notices", notices.Notices())
    monkeypatch.setattr(notices.Notices, "patience", 0)
    save = cache.KernelCache.save_overload

    def wait_and_save(*arguments):
        time.sleep(0.2)
        save(*arguments)

    monkeypatch.setattr(cache.KernelCache, "save_overload", wait_and_save)


def test_compiling_is_told_once(folder, slow, monkeypatch, capsys):
    monkeypatch.setenv("FASTMLP_QUIET", "")
    new_kernel()(3)
    new_kernel()(1.5)  # follows at once
    assert capsys.readouterr() == ("", COMPILING)
    new_kernel()(3)  # is loaded
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(notices.Notices, "gap", 0)
    new_kernel()(np.float32(1))
    assert capsys.readouterr() == ("", COMPILING)


@pytest.mark.parametrize(("quiet", "patience"), [("1", 0), ("", 60)])
def test_compiling_is_not_told(folder, slow, monkeypatch, capsys, quiet, patience):
    monkeypatch.setenv("FASTMLP_QUIET", quiet)
    monkeypatch.setattr(notices.Notices, "patience", patience)
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
