"""What all tests share."""

from pathlib import Path

import pytest
from hypothesis import settings

# The first call of a kernel compiles it, so the time of one example says nothing.
settings.register_profile("fastmlp", deadline=None)
settings.load_profile("fastmlp")


@pytest.fixture
def every_step(monkeypatch):
    """Let the plain network call on_step after each step, not only every 0.05 s."""
    monkeypatch.setattr("fastmlp.reference._SECONDS_PER_HOOK", 0)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Let one process run the files that need the same loops, or else two would compile them at once."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid):
            file = Path(super()._split_scope(nodeid)).stem
            return _SAME_LOOPS.get(file, file)

    return Scheduling(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Leave to the slow tests what would compile one more loop, some seconds each, of a source that others test."""
    for item in items:
        if hasattr(item, "callspec") and _in_the_other_dtype(item.originalname, item.callspec.params):
            item.add_marker(pytest.mark.slow)


def _in_the_other_dtype(name, parameters):
    """Tell tests of special loops in a second dtype: bytes and CSR are tested in float32, all others in float64."""
    dtype, kind = str(parameters.get("dtype")), str(parameters.get("kind"))
    special = "kind" in parameters and parameters.get("optimizer") is not None
    if special or kind.startswith(("disturbed", "dropped")) or name in _IN_FLOAT64:
        return dtype == "float32"
    return dtype == "float64" and kind in ("bytes", "sparse bytes", "csr")


_IN_FLOAT64 = (
    "test_heads", "test_disturbed_inputs", "test_steps_are_those_of_the_plain_network", "test_weights_of_rows",
)  # fmt: skip
_SAME_LOOPS = {
    "test_bounds": "loops", "test_epoch": "loops", "test_twins": "steps", "test_steps": "steps",
    "test_mlp": "plain SGD", "test_copies": "plain SGD", "test_files": "plain SGD",
    "test_cli": "command line", "test_cli_terminal": "command line",
}  # fmt: skip
