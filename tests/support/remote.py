"""Callbacks for networks that train in other processes, which import them from here."""

import os
import signal
import threading
import time
from pathlib import Path

from fastmlp import reference

SECONDS = 120  # for what surely happens, on a machine however busy


def wait_for(happened):
    """Wait until a function returns something true, and return that."""
    end = time.monotonic() + SECONDS
    while not (found := happened()):
        assert time.monotonic() < end
        time.sleep(0.01)
    return found


class InTheMiddle:
    """Calls `act` in the middle of the second epoch."""

    def on_fit_begin(self, net, fit):
        reference._SECONDS_PER_HOOK = 0  # the plain network calls on_step after each step

    def on_step(self, net, fit):
        if (fit.epoch, fit.step) == (1, 2):
            self.act()


class Hold(InTheMiddle):
    """Holds its network until the test goes on.

    Parameters
    ----------
    folder : Path
        There it writes its process id into the file "held.PID", and waits for the file "go on".
    """

    def __init__(self, folder):
        self.folder = Path(folder)

    def act(self):
        (self.folder / f"held.{os.getpid()}").touch()
        wait_for((self.folder / "go on").exists)


class Note:
    """Notes in the folder which process trains a network, and waits until there are so many."""

    def __init__(self, folder, n_processes=1):
        self.folder, self.n_processes = Path(folder), n_processes

    def on_epoch_end(self, net, fit):
        (self.folder / f"process.{os.getpid()}").touch()
        wait_for(lambda: len(list(self.folder.glob("process.*"))) >= self.n_processes)


class Kill(InTheMiddle):
    """Kills its process, the first `times` times."""

    def __init__(self, folder, times=1):
        self.folder, self.times = Path(folder), times

    def act(self):
        n = len(list(self.folder.glob("killed.*")))
        if n < self.times:
            (self.folder / f"killed.{n}").touch()
            os.kill(os.getpid(), signal.SIGKILL)


class Raise:
    """Raises an error in the second epoch, which can be pickled or not."""

    def __init__(self, plain=True):
        self.plain = plain

    def on_epoch_end(self, net, fit):
        if fit.epoch == 2:
            if self.plain:
                raise ZeroDivisionError("broken")
            error = OSError("broken, too")
            error.lock = threading.Lock()
            raise error


class Nested:
    """Trains a network in the cluster, in a callback."""

    def __init__(self, other):
        self.other = other

    def on_epoch_end(self, net, fit):
        import fastmlp.dask

        fastmlp.dask.fit_many(None, [self.other], [[1.0]], [0])


def fit_in_a_task(nets, X, y, **fit):
    """Train networks from within a task, and return them."""
    import fastmlp.dask

    fastmlp.dask.fit_many(None, nets, X, y, **fit)
    return nets


def count_calls(folder):
    """Let this process note each time that X arrives or is packed."""
    from fastmlp.dask import tasks
    from fastmlp.engine import rows

    def counted(function, name):
        def call(*given):
            (Path(folder) / f"{name}.{os.getpid()}.{time.monotonic_ns()}").touch()
            return function(*given)

        return call

    tasks.Shared.__init__ = counted(tasks.Shared.__init__, "arrived")
    rows._packed = counted(rows._packed, "packed")
