"""Cores are counted once: what each call gets while others are at work, in this process and in others."""

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.nets import ROOT
from support.scripts import printed

from fastmlp.engine import cores, processes
from fastmlp.engine.containers import NO_QUOTA, Quota, container_quota
from fastmlp.engine.cores import UNLIMITED, Group, at_work, available_threads, fair_share, share
from fastmlp.engine.processes import Processes

needs_shared_memory = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="this system does not say whose a file is")


@pytest.fixture
def sixteen(monkeypatch, tmp_path):
    """A machine of sixteen cores with nothing at work."""
    machine = cores._Machine()
    machine.processes = Processes(str(tmp_path / "cores"))
    monkeypatch.setattr(cores, "_machine", machine)
    monkeypatch.setattr(cores, "_plain", cores._Plain(machine))
    monkeypatch.setattr(cores, "affinity", lambda: list(range(16)))
    monkeypatch.setattr(cores, "container_quota", lambda: NO_QUOTA)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    return machine


def beside(*sizes, work=share):
    """Call `work` while calls of some sizes are at work; 0 is a call that takes what it gets."""
    if not sizes:
        return work()
    return at_work(lambda: beside(*sizes[1:], work=work), sizes[0] or UNLIMITED)


# --- how many there are -----------------------------------------------------------------------------------------------

WITHIN = """
import json, os
from fastmlp.engine.cores import available_threads
cores = sorted(os.sched_getaffinity(0))
seen = []
for n in range(1, len(cores) + 1):
    os.sched_setaffinity(0, cores[:n])
    seen.append(available_threads())
print(json.dumps(seen))
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")
def test_the_cores_of_the_affinity():
    expected = [min(n, container_quota().n_cores) for n in range(1, len(os.sched_getaffinity(0)) + 1)]
    assert printed("-c", WITHIN, OMP_NUM_THREADS=None) == expected


@pytest.mark.parametrize(
    ("asked", "expected"),
    [("1", 1), ("3", 3), ("3,2", 3), ("99", 16), ("", 16), ("0", 16), ("-2", 16), ("many", 16), (",2", 16), ("²", 16)],
)
def test_omp_num_threads(sixteen, monkeypatch, asked, expected):
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert available_threads() == share() == expected


@pytest.mark.parametrize(("granted", "expected"), [(1, 1), (3, 3), (99, 16)])
def test_the_cores_of_a_container(sixteen, monkeypatch, granted, expected):
    monkeypatch.setattr(cores, "container_quota", lambda: Quota(granted, (5, 7)))
    assert available_threads() == share() == expected


def test_a_system_without_affinity(sixteen, monkeypatch):
    monkeypatch.setattr(cores, "affinity", list)
    assert beside(0, 0) == (os.cpu_count() + 1) // 2


# --- calls of one process ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ((), 16), ((0,), 16), ((0, 0), 8), ((0, 0, 0), 5), ((0,) * 17, 1), ((0,) * 40, 1),
        ((1, 0), 15), ((1, 1, 0, 0), 7), ((12, 0), 8), ((3, 12, 0), 6), ((64, 0), 8), ((1,) * 30 + (0,), 1),
    ],
)  # fmt: skip
def test_calls_at_the_same_time_share_the_cores(sixteen, sizes, expected):
    """A call that cannot use its share leaves the rest to the others."""
    assert beside(*sizes) == expected
    assert (share(), sixteen.parts, cores._plain._parts) == (16, {}, {})


def test_omp_num_threads_is_for_all_calls_of_the_process(sixteen, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "6")
    assert [beside(*[0] * n) for n in range(1, 5)] == [6, 3, 2, 1]


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_a_call_that_fails_is_no_longer_at_work(sixteen, error):
    def fail():
        raise error

    with pytest.raises(error):
        beside(0, 0, work=fail)
    assert beside(0) == 16


@given(
    n_cores=st.integers(1, 300),
    demands=st.lists(st.integers(1, 40).flatmap(lambda n: st.tuples(st.just(n), st.integers(n, 400))), min_size=1),
)
def test_fair_shares(n_cores, demands):
    """All cores are used if the calls can use them, and nobody gets fewer than one who gets more could give."""
    each = fair_share(n_cores, demands)
    used = [min(n_threads, n_calls * each) for n_calls, n_threads in demands]
    wanted = sum(n_threads for _, n_threads in demands)
    assert np.isclose(sum(used), min(n_cores, wanted))
    assert wanted <= n_cores or any(n_threads >= n_calls * each for n_calls, n_threads in demands)


def test_calls_that_come_and_go_in_many_threads(sixteen):
    """Nothing is left of them, and whoever is counted last is counted right."""
    inner = Group(3)

    def come_and_go(seed):
        generator = np.random.default_rng(seed)
        for _ in range(300):
            sizes = generator.integers(0, 4, generator.integers(1, 4)).tolist()
            assert 1 <= (inner.run(lambda s=sizes: beside(*s)) if seed % 2 else beside(*sizes)) <= 16

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(come_and_go, range(8)))
    assert (share(), sixteen.parts, cores._plain._parts, inner._parts) == (16, {}, {}, {})
    assert told(sixteen) == []


def told(machine):
    """What another process sees of this one."""
    return Processes(machine.processes._path).others(machine._place)


# --- groups -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("omp", [None, "1"])
def test_calls_of_a_group_share_its_cores(sixteen, monkeypatch, omp):
    """Whatever OMP_NUM_THREADS says: their number is what the user has asked for."""
    if omp:
        monkeypatch.setenv("OMP_NUM_THREADS", omp)
    group = Group(6)
    assert [group.run(lambda n=n: beside(*[0] * n)) for n in range(1, 8)] == [6, 3, 2, 1, 1, 1, 1]
    assert group.run(lambda: beside(1, 1, 0)) == 4
    assert (group.run(available_threads), available_threads()) == (6, 1 if omp else 16)


def test_a_group_has_no_more_cores_than_there_are(sixteen):
    group = Group(100)
    assert group.run(lambda: (available_threads(), beside(0), beside(0, 0))) == (16, 16, 8)


def test_a_group_beside_other_calls(sixteen):
    """Calls are equal, wherever they are, and what a group may not use is for the others."""
    group = Group(4)
    assert beside(0, 0, work=lambda: group.run(lambda: beside(0))) == 4
    assert beside(*[0] * 7, work=lambda: group.run(lambda: beside(0))) == 2
    assert group.run(lambda: at_work(lambda: in_thread(lambda: beside(0)))) == 12
    wide = Group(12)
    assert wide.run(lambda: beside(0, 0, 0, work=lambda: in_thread(lambda: beside(0)))) == 4


def test_a_group_in_a_group(sixteen):
    outer = Group(8)
    inner = outer.run(lambda: Group(3))
    wide = outer.run(lambda: Group(100))
    assert inner.run(lambda: (available_threads(), beside(0), beside(0, 0))) == (3, 3, 1)
    assert wide.run(lambda: (available_threads(), beside(0))) == (8, 8)
    assert outer.run(lambda: beside(0, work=lambda: inner.run(lambda: beside(0)))) == 3
    assert inner.run(lambda: beside(0, work=lambda: outer.run(lambda: beside(0)))) == 5
    assert sixteen.parts == {}


def test_a_group_is_left_again(sixteen):
    group = Group(2)
    with pytest.raises(ZeroDivisionError):
        group.run(lambda: 1 / 0)
    assert share() == 16
    assert group.run(lambda: in_thread(share)) == 16  # it is of the thread that has entered it


def in_thread(work):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result(60)


# --- beside other processes -------------------------------------------------------------------------------------------


@needs_shared_memory
def test_what_other_processes_leave(sixteen):
    other = Processes(sixteen.processes._path)
    assert share() == 16
    other.tell(sixteen._place, 1, UNLIMITED)
    assert [beside(*[0] * n) for n in (1, 2, 3)] == [8, 5, 4]
    other.tell(sixteen._place, 4, 4)
    assert beside(0) == 12
    other.tell(sixteen._place + 1, 4, 4)
    assert beside(0) == 16


@needs_shared_memory
def test_what_other_processes_are_told(sixteen, monkeypatch):
    group = Group(3)
    assert beside(0, 1, work=lambda: told(sixteen)) == [(2, UNLIMITED)]
    assert beside(0, 1, work=lambda: group.run(lambda: beside(0, 0, work=lambda: told(sixteen)))) == [
        (4, UNLIMITED + 3)
    ]
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert [beside(*sizes, work=lambda: told(sixteen)) for sizes in ((0,), (1,), (1, 1, 1))] == [
        [(1, 2)], [(1, 1)], [(3, 3)],
    ]  # fmt: skip
    assert told(sixteen) == []


@needs_shared_memory
def test_processes_on_other_cores_do_not_count(sixteen, monkeypatch):
    """A quota of one group is shared by its processes, whatever their affinity."""
    other = cores._Machine()
    other.processes = Processes(sixteen.processes._path)
    here = [list(range(16)), NO_QUOTA]
    monkeypatch.setattr(cores, "affinity", lambda: here[0])
    monkeypatch.setattr(cores, "container_quota", lambda: here[1])

    def seen(affinity, quota):
        other.parts = {None: (1, UNLIMITED)}
        here[:] = affinity, quota
        other.limit()
        here[:] = list(range(16)), NO_QUOTA
        other.tell()
        return beside(0)

    assert seen(list(range(16)), NO_QUOTA) == 8
    assert seen(list(range(8)), NO_QUOTA) == 16
    assert seen(list(range(16)), Quota(4, (1, 2))) == 16
    here[1] = Quota(4, (1, 2))
    other.tell()
    assert beside(0) == 2


# --- real processes ---------------------------------------------------------------------------------------------------

HOLD = """
import sys, time
from fastmlp.engine import cores, threads

cores._machine.processes._path = sys.argv[1]

def hold(rank):
    print("at work", flush=True)
    sys.stdin.readline()

cores.at_work(lambda: threads.run_team(1, hold))
print("ended", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def holder(tmp_path):
    """Start a process that is at work until it is sent a line."""
    started = []

    def start():
        held = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(tmp_path / "cores")],
            env=os.environ | {"PYTHONPATH": str(ROOT)}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        started.append(held)
        assert held.stdout.readline() == "at work\n"
        return held

    yield start
    for held in started:
        with held:
            held.kill()


def becomes(expected):
    """Wait until this is the share of a call."""
    end = time.monotonic() + 60
    while (seen := beside(0)) != expected and time.monotonic() < end:
        time.sleep(0.005)
    return seen == expected


@pytest.fixture
def here(monkeypatch, tmp_path):
    """The cores of this machine, taken as sixteen times as many, and the processes of this test alone."""
    machine = cores._Machine()
    machine.processes = Processes(str(tmp_path / "cores"))
    machine.limit()
    place, n_cores = machine._place, 16
    monkeypatch.setattr(machine, "limit", lambda: n_cores)
    assert machine._place == place
    monkeypatch.setattr(cores, "_machine", machine)
    monkeypatch.setattr(cores, "_plain", cores._Plain(machine))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    return machine


@needs_shared_memory
def test_a_process_counts_while_it_works(here, holder):
    first, second = holder(), holder()
    assert becomes(5)
    time.sleep(1.2 * processes.LEASE / 1e9)  # it says again and again that it is at work
    assert becomes(5)
    first.stdin.write("\n")
    first.stdin.flush()
    assert first.stdout.readline() == "ended\n"
    assert beside(0) == 8
    second.kill()
    assert becomes(16)


@needs_shared_memory
@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="this system stops no process")
def test_a_process_that_is_stopped_does_not_count(here, holder):
    held = holder()
    assert becomes(8)
    held.send_signal(signal.SIGSTOP)
    assert becomes(16)
    held.send_signal(signal.SIGCONT)
    assert becomes(8)


@needs_shared_memory
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_fork_counts_by_itself(here):
    """It has none of its parent's calls at work, but sees them as those of another process."""

    def fork():
        out, into = os.pipe()
        child = os.fork()
        if child == 0:
            signal.alarm(60)
            try:
                answers = beside(0), beside(0, 0), group.run(lambda: beside(0))
                os.write(into, repr(answers).encode())
            finally:
                os._exit(0)
        os.close(into)
        said = os.read(out, 100).decode()
        os.close(out)
        os.waitpid(child, 0)
        return said, share()

    group = Group(3)
    assert beside(0, work=fork) == ("(8, 5, 3)", 16)
    assert beside(0, 0, work=fork) == ("(5, 4, 3)", 8)


def test_a_program_without_shared_memory(sixteen, monkeypatch):
    """It counts its own calls."""
    monkeypatch.setattr(sixteen.processes, "_path", os.path.join(os.devnull, "cores"))
    assert [beside(*[0] * n) for n in range(3)] == [16, 16, 8]


def test_a_handler_may_be_at_work_too(sixteen):
    """There is no lock that it could wait for."""
    seen = []

    def trace(frame, event, _):
        if event == "line" and frame.f_code.co_filename == cores.__file__ and not seen:
            sys.settrace(None)
            seen.append(beside(0))
            sys.settrace(trace)
        return trace

    before = threading.gettrace()
    sys.settrace(trace)
    try:
        at_work(lambda: None)
    finally:
        sys.settrace(before)
    assert seen == [16]
    assert sixteen.parts == {}
