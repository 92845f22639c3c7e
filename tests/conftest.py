"""What all tests share."""

import functools
import gc
import os
import re
import signal
import threading

import pytest
from hypothesis import settings

# The first call of a kernel compiles it, so the time of one example says nothing.
settings.register_profile("fastmlp", deadline=None)
settings.load_profile("fastmlp")

os.environ.setdefault("FASTMLP_QUIET", "1")  # the processes that tests start print nothing when they compile

# Ctrl-C is ignored in background jobs of a shell, under nohup and in cron jobs, and in the processes that those start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN and threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def every_step(monkeypatch):
    """Let the plain network call on_step after each step, not only every 0.05 s."""
    monkeypatch.setattr("fastmlp.reference._SECONDS_PER_HOOK", 0)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Mark a test as slow in every dtype but its main one."""
    for item in items:
        main = item.get_closest_marker("main_dtype")
        if main and str(item.callspec.params["dtype"]) not in main.args:
            item.add_marker(pytest.mark.slow)


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Leave the thousands of collected tests out of garbage collections: each took half a second longer with them."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.collect()
        gc.freeze()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Run each file in one process, and all files with the same `loops` marker too, so that no loop compiles twice.

    This replaces `--dist=loadgroup`. Under pytest 9.2, xdist 3.8 does not see its groups: it sets an attribute which
    pytest no longer uses in the id of a test. The scheduler knows only the ids, so it looks for the marker in the file.
    """
    from xdist.scheduler import LoadFileScheduling

    @functools.cache
    def group(file):
        text = (config.rootpath / file).read_text(encoding="utf-8")
        loops = re.search(r'^pytestmark = .*\bpytest\.mark\.loops\("([^"]+)"\)', text, re.MULTILINE)
        return loops[1] if loops else file

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid):
            return group(super()._split_scope(nodeid))

    return Scheduling(config, log)
