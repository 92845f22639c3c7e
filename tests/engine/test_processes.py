"""The file in which the processes of a user say what they have at work."""

import os
import subprocess
import sys

import numpy as np
import pytest

from fastmlp.engine import processes
from fastmlp.engine.processes import Processes

pytestmark = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="this system does not say whose a file is")


@pytest.fixture
def slots(monkeypatch, tmp_path):
    """Return three processes that share a file, and their clock."""
    now = [10**12]
    monkeypatch.setattr(processes.time, "monotonic_ns", lambda: now[0])
    return [Processes(str(tmp_path / "cores")) for _ in range(3)], now


def test_processes_see_one_another(slots):
    (a, b, c), _ = slots
    a.tell(1, 2, 5)
    b.tell(1, 1, 1)
    c.tell(2, 4, 4)
    assert (a.others(1), b.others(1), sorted(c.others(1))) == ([(1, 1)], [(2, 5)], [(1, 1), (2, 5)])
    assert (a.others(2), c.others(2)) == ([(4, 4)], [])
    a.tell(1, 0, 0)
    assert b.others(1) == []


def test_a_process_that_says_nothing_more_does_not_count(slots):
    """It was killed, or is stopped. If it continues, it counts again."""
    (a, b, c), now = slots
    a.tell(1, 2, 5)
    now[0] += processes.LEASE - 1
    assert b.others(1) == [(2, 5)]
    now[0] += 1
    assert b.others(1) == []
    c._slot, c._owner = a._slot, a._owner + processes.N_SLOTS
    for process in (c, b, a):
        process.tell(1, 1, 1)
    assert [process.others(1) for process in (a, b, c)] == [[(1, 1)] * 2] * 3


def test_a_call_that_ends_while_another_process_looks_does_not_count(slots):
    """The slot is found at work, and read when it is not any more; its share would be that of no calls."""
    (a, b, _), _ = slots
    a.tell(1, 2, 5)
    assert b.others(1) == [(2, 5)]
    b._calls = b._calls.copy()  # what it saw before
    a.tell(1, 0, 0)
    assert b.others(1) == []


def test_slots_that_change_all_the_time(slots):
    """Another process begins and ends calls while this one looks at all slots."""
    program = (
        "import mmap, sys\n"
        "file = open(sys.argv[1], 'r+b')\n"
        "words = memoryview(mmap.mmap(file.fileno(), 0)).cast('q')\n"
        "print('ready', flush=True)\n"
        "while True:\n"
        "    for calls in (1, 0):\n"
        f"        for at in range({processes.CALLS}, len(words), {processes.WIDTH}): words[at] = calls\n"
    )
    (a, _, _), _ = slots
    a.tell(1, 2, 5)
    with subprocess.Popen([sys.executable, "-c", program, a._path], stdout=subprocess.PIPE) as other:
        try:
            assert other.stdout.readline() == b"ready\n"
            for _ in range(20_000):
                assert a.others(1) == []  # nobody owns these slots
        finally:
            other.kill()


def test_slots_of_the_time_before_a_restart_do_not_count(slots):
    (a, b, _), now = slots
    a.tell(1, 2, 5)
    now[0] = 5
    assert b.others(1) == []
    b.tell(1, 1, 1)
    assert a.others(1) == [(1, 1)]


def test_more_processes_than_slots(slots, tmp_path, monkeypatch):
    (a, *_), _ = slots
    many = [Processes(str(tmp_path / "cores")) for _ in range(20)]
    a.tell(1, 1, 1)
    table = np.asarray(a._words).reshape(processes.N_SLOTS, processes.WIDTH)
    table[:] = table[a._slot]
    table[:, processes.OWNER] = 1 + np.arange(processes.N_SLOTS)
    for process in many:
        process.tell(1, 1, 1)
        assert len(process.others(1)) == processes.N_SLOTS - 1


def test_a_file_full_of_anything(slots):
    (a, b, _), _ = slots
    a.tell(1, 1, 1)
    words = np.asarray(a._words)
    for seed in range(20):
        words[:] = np.random.default_rng(seed).integers(-(2**63), 2**63 - 1, len(words))
        b.others(1)
        b.tell(1, 1, 1)
        a.tell(1, 2, 5)
        assert (1, 1) in a.others(1)


def test_the_file_is_of_this_user_alone(slots, tmp_path):
    (a, *_), _ = slots
    a.tell(1, 1, 1)
    assert (tmp_path / "cores").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "cores").stat().st_blocks * 512 >= 8 * processes.WIDTH * processes.N_SLOTS  # it has no holes


@pytest.mark.parametrize("what", ["link", "second name", "others may read", "folder", "pipe", "no folder", "read-only"])
def test_another_file_in_its_place_is_left_alone(tmp_path, what):
    path, other = tmp_path / "cores", tmp_path / "other"
    other.write_bytes(b"precious")
    other.chmod(0o600)
    make = {
        "link": lambda: path.symlink_to(other),
        "second name": lambda: path.hardlink_to(other),
        "others may read": lambda: (path.write_bytes(b"precious"), path.chmod(0o644)),
        "folder": path.mkdir,
        "pipe": lambda: os.mkfifo(path, 0o600),
        "no folder": lambda: None,
        "read-only": lambda: (path.write_bytes(b"precious"), path.chmod(0o400)),
    }
    make[what]()
    if what == "read-only" and os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    process = Processes(str(path / "deeper" if what == "no folder" else path))
    process.tell(1, 1, 1)
    assert process.others(1) == []
    assert other.read_bytes() == b"precious"
    if path.is_file():
        assert path.read_bytes() == b"precious"


def test_a_file_that_has_been_replaced(slots, tmp_path):
    """As when a user has logged out, and everything of theirs in shared memory is removed."""
    (a, b, _), now = slots
    a.tell(1, 1, 1)
    (tmp_path / "cores").unlink()
    b.tell(1, 2, 2)
    assert (a.others(1), b.others(1)) == ([], [])
    now[0] += processes.LEASE // 2
    b.tell(1, 2, 2)
    now[0] += processes.LEASE // 2
    a.tell(1, 1, 1)
    assert (a.others(1), b.others(1)) == ([(2, 2)], [(1, 1)])
    (tmp_path / "cores").write_bytes(b"")  # a file that somebody has begun
    (tmp_path / "cores").unlink()
    (tmp_path / "cores").touch(0o600)
    now[0] += processes.LEASE
    for process in (a, b):
        process.tell(1, 1, 1)
    assert (a.others(1), b.others(1)) == ([(1, 1)], [(1, 1)])
