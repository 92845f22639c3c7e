"""Of the processes that share a cache, one compiles a kernel; owners of a lock may die, sleep or be on another host."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from fastmlp.kernels import cache, jit, lock, notices

ROOT = Path(__file__).resolve().parents[2]
posix = pytest.mark.skipif(os.name == "nt", reason="needs the signals and processes of POSIX")
UNTIL = 120  # seconds that a busy machine may take

TAKE = """
import contextlib, sys, time
from pathlib import Path
from fastmlp.kernels import lock

lock.POLL, lock.DEAD = 0.01, 1e9  # so nothing here depends on how busy the machine is
folder, held, until = Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
done, log = folder.parent / "done", folder.parent / "log"
if lock.take(folder / "a.kernel.lock", lambda: until == "once" and done.exists(), contextlib.nullcontext()):
    with open(log, "a") as file:
        file.write("begin\\n")
    print("taken", flush=True)
    time.sleep(held)
    with open(log, "a") as file:
        file.write("end\\n")
    done.touch()
    lock.release_own()
"""


def process(program, *arguments, **environment):
    """Start a process."""
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def output(process):
    """What a process prints on both streams until it ends well."""
    out, err = process.communicate(timeout=UNTIL)
    assert process.returncode == 0, err
    return out, err


@pytest.fixture
def folder(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(folder))
    monkeypatch.setattr(lock, "POLL", 0.01)
    yield folder
    lock.release_all()


@pytest.fixture
def path(folder):
    return folder / "a.kernel.lock"


def names(folder):
    return sorted(file.name for file in folder.iterdir())


def take(path, is_done=lambda: False):
    return lock.take(path, is_done, contextlib.nullcontext())


# --- the lock itself --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dead", [False, True])
@pytest.mark.parametrize(("until", "n_taken"), [("once", 1), ("each", 5)])
def test_one_at_a_time(folder, path, until, n_taken, dead):
    if dead:
        gone = process("")
        output(gone)
        path.write_text(f"{lock.place()} {gone.pid} a\n")
        path.with_name(f"{path.name}1").write_text(f"{lock.place()} {gone.pid} b\n")  # died while it took over
    for each in [process(TAKE, folder, 0.05, until) for _ in range(5)]:
        output(each)
    assert (folder.parent / "log").read_text().split() == ["begin", "end"] * n_taken
    assert names(folder) == []


@posix
def test_an_owner_that_was_killed_is_noticed_at_once(folder, path, monkeypatch):
    monkeypatch.setattr(lock, "DEAD", 1e9)
    owner = process(TAKE, folder, UNTIL, "each")
    assert owner.stdout.readline() == "taken\n"
    owner.kill()
    owner.communicate()
    assert names(folder) == [path.name]
    assert take(path)
    assert names(folder) == [path.name, f"{path.name}1"]
    lock.release_own()
    assert names(folder) == []


@posix
def test_an_owner_that_was_stopped_for_long_does_no_harm(folder, path, monkeypatch):
    monkeypatch.setattr(lock, "DEAD", 0.3)
    owner = process(TAKE, folder, 0.1, "each")
    assert owner.stdout.readline() == "taken\n"
    owner.send_signal(signal.SIGSTOP)
    try:
        assert take(path)
        lock.release_own()
        assert names(folder) == []
        assert take(path)
    finally:
        owner.send_signal(signal.SIGCONT)
    output(owner)
    assert names(folder) == [path.name]  # this is another process's by now
    lock.release_own()
    assert names(folder) == []


def test_an_owner_on_another_host_is_alive_while_it_says_so(path, monkeypatch):
    monkeypatch.setattr(lock, "DEAD", 1.0)
    monkeypatch.setattr(lock, "LONGEST", 2.0)
    path.write_text(f"elsewhere {os.getpid()} a\n")
    seconds, stop = [1e9], threading.Event()

    def live():
        while not stop.wait(0.05):
            seconds[0] += 1  # its clock has nothing to do with ours
            os.utime(path, (seconds[0], seconds[0]))

    alive = threading.Thread(target=live)
    alive.start()
    try:
        assert not take(path)  # it has waited for as long as it may
    finally:
        stop.set()
        alive.join()


@pytest.mark.parametrize(
    "content", ["", "x", "elsewhere 1 a\n", f"{lock.place()} x y\n", f"{lock.place()} {10**30} y\n"]
)
def test_any_content_counts_as_an_owner(path, monkeypatch, content):
    monkeypatch.setattr(lock, "DEAD", 0.1)
    path.write_text(content, "latin-1")
    assert take(path)
    lock.release_own()
    assert not path.exists()


def test_a_waiter_that_was_late_does_not_follow_an_owner_that_has_gone(path, monkeypatch):
    """Between its look at a dead lock and its own file, another one has taken over, finished, and a third has begun."""
    monkeypatch.setattr(lock, "DEAD", 0.1)
    path.write_text("elsewhere 1 a\n")
    create, alive, late = lock._create, "elsewhere 2 b\n", []

    def create_late(last):
        if last != path and not late:
            late.append(last)
            path.write_text(alive)
            monkeypatch.setattr(lock, "DEAD", 1e9)
        return create(last)

    monkeypatch.setattr(lock, "_create", create_late)
    monkeypatch.setattr(lock, "LONGEST", 0.5)
    assert not take(path)
    assert late
    assert (names(path.parent), path.read_text()) == ([path.name], alive)


def test_no_lock_is_needed_for_what_is_done(path):
    assert not take(path, lambda: True)
    done = iter([False, True, True])
    assert not take(path, lambda: next(done))  # done between the look and the lock
    assert names(path.parent) == []


def test_the_owner_refreshes_its_file(path, monkeypatch):
    monkeypatch.setattr(lock, "BEAT", 0.02)
    assert take(path)
    os.utime(path, (1, 1))
    deadline = time.monotonic() + UNTIL
    while path.stat().st_mtime == 1 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert path.stat().st_mtime > 1


def test_what_killed_processes_have_left_long_ago_is_removed(path):
    folder = path.parent
    old = ("b.kernel.lock", "b.kernel.lock1", "c.kernel.0123abcd")
    kept = ("b.kernel", "something", "d.kernel.lock")
    for name in (*old, *kept):
        (folder / name).touch()
        if name != "d.kernel.lock":
            os.utime(folder / name, (1, 1))
    assert take(path)
    lock.release_own()
    assert names(folder) == sorted(kept)


@pytest.mark.parametrize("make", ["mkdir", "mkfifo"])
def test_something_else_in_place_of_the_lock(path, monkeypatch, make):
    monkeypatch.setattr(lock, "DEAD", 0.1)
    getattr(pytest.importorskip("posix"), make)(path)
    if make == "mkfifo":
        assert take(path)
    else:
        with pytest.raises(IsADirectoryError):
            take(path)


def test_a_process_that_ends_leaves_no_lock(folder):
    program = f"import threading, os\nthreading.Thread(target=os._exit, args=(3,))\n{TAKE}".replace(
        "time.sleep(held)", "sys.exit(0)"
    )
    assert output(process(program, folder, 0, "each"))[0] == "taken\n"
    assert names(folder) == []


# --- kernels ----------------------------------------------------------------------------------------------------------


def twice(x):
    return 2 * x


def hits(kernel):
    return sum(kernel.stats.cache_hits.values())


SLOW = """
import sys, time
from fastmlp.kernels import cache, jit, notices

notices.Notices.patience = 0.0
save = cache.KernelCache.save_overload

def slowly(*arguments):
    time.sleep(float(sys.argv[1]))
    save(*arguments)

cache.KernelCache.save_overload = slowly
def twice(x):
    return 2 * x

kernel = jit.entry(twice)
"""


def test_processes_that_start_together_compile_once(folder):
    program = f"""{SLOW}
print("started", flush=True)
sys.stdin.readline()
print(kernel(3), *(each.is_new for each in cache.ready), cache.ready[0].path)
"""
    processes = [process(program, 1, FASTMLP_QUIET="") for _ in range(3)]
    for each in processes:
        assert each.stdout.readline() == "started\n"
    for each in processes:
        each.stdin.write("\n")
        each.stdin.flush()
    printed, told = zip(*map(output, processes), strict=True)
    (kernel,) = folder.iterdir()
    assert sorted(printed) == [f"6 False {kernel}\n"] * 2 + [f"6 True {kernel}\n"]
    for out, err in zip(printed, told, strict=True):
        assert err.startswith(f"fastmlp: {notices.COMPILING if 'True' in out else notices.WAITING}\n"), told


@posix
def test_a_fork_while_a_thread_compiles(folder):
    program = f"""{SLOW}
import os, threading, warnings
warnings.simplefilter("ignore")
from fastmlp.kernels import lock
begun = threading.Event()
create = lock._create
lock._create = lambda path: (create(path), begun.set())[0]
thread = threading.Thread(target=kernel, args=(3,))
thread.start()
begun.wait()
child = os.fork()
value = kernel(1.5)
if child == 0:
    print(value, len(lock._held), flush=True)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
thread.join()  # until then it may hold its own lock
print(value, len(lock._held), flush=True)
"""
    out, _ = output(process(program, 0.5))
    assert out.splitlines() == ["3.0 0"] * 2
    assert all(name.endswith(".kernel") for name in names(folder))


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_error_releases_the_lock(folder, monkeypatch, error):
    kernel = jit.entry(twice)

    def fail(*arguments):
        assert len(names(folder)) == 1
        raise error

    monkeypatch.setattr(kernel._compiler, "compile", fail)
    with pytest.raises(error):
        kernel(3)
    assert names(folder) == []
    assert not lock._held


def test_a_handler_that_raises_at_any_line_of_the_release(folder, monkeypatch):
    remove, calls = lock._remove, iter([True])

    def interrupted(path):
        if next(calls, False):
            raise KeyboardInterrupt
        remove(path)

    monkeypatch.setattr(lock, "_remove", interrupted)
    with pytest.raises(KeyboardInterrupt):
        jit.entry(twice)(3)
    assert [name.partition(".")[2] for name in names(folder)] == ["kernel"]


def test_a_folder_that_takes_no_lock(folder, monkeypatch):
    def refuse(path, flags, *more):
        if flags & os.O_CREAT:
            raise PermissionError(13, "Permission denied")
        return os_open(path, flags, *more)

    os_open = os.open
    monkeypatch.setattr(lock.os, "open", refuse)
    kernel = jit.entry(twice)
    assert (kernel(3), hits(kernel), names(folder)) == (6, 0, [])


def test_a_full_disk_takes_no_lock(folder, path, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(lock.os, "write", full)
    with pytest.raises(OSError, match="space"):
        take(path)
    assert names(folder) == []
    assert not lock._held


@posix
def test_a_folder_that_others_can_write_to_gets_no_lock(folder, monkeypatch):
    folder.chmod(0o777)
    monkeypatch.setattr(lock, "Lock", None)
    assert jit.entry(twice)(3) == 6
    assert names(folder) == []


def test_the_wait_ends_when_the_kernel_is_there(folder):
    """Though its owner has not released the lock."""
    kernel = jit.entry(twice)
    kernel(3)
    (file,) = folder.iterdir()
    whole = file.read_bytes()
    file.unlink()
    (folder / f"{file.name}.lock").write_text("elsewhere 1 a\n")
    again = jit.entry(twice)
    waiter = threading.Thread(target=again, args=(3,))
    waiter.start()
    time.sleep(0.1)
    assert again.overloads == {}
    cache._write_whole(file, whole)
    waiter.join(UNTIL)
    assert hits(again) == 1


def test_threads_that_wait_do_not_hold_up_others(folder):
    kernel = jit.entry(twice)
    kernel(3)
    (file,) = folder.iterdir()
    file.unlink()
    held = folder / f"{file.name}.lock"
    held.write_text("elsewhere 1 a\n")
    other = jit.entry(twice)
    waiters = [threading.Thread(target=other, args=(3,)) for _ in range(2)]
    for waiter in waiters:
        waiter.start()
    assert other(1.5) == 3.0  # meanwhile
    held.unlink()
    for waiter in waiters:
        waiter.join(UNTIL)
    assert len(other.overloads) == 2
    assert all(name.endswith(".kernel") for name in names(folder))
