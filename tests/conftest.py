"""What all tests share."""

import pytest
from hypothesis import settings

# The first call of a kernel compiles it, so the time of one example says nothing.
settings.register_profile("fastmlp", deadline=None)
settings.load_profile("fastmlp")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Leave to the slow tests what would compile one more loop, some seconds each, of a source that others test."""
    for item in items:
        if hasattr(item, "callspec") and _in_the_other_dtype(item.originalname, item.callspec.params):
            item.add_marker(pytest.mark.slow)


def _in_the_other_dtype(name, parameters):
    """Tell tests of special loops in a second dtype: the kernels' own are in float32, the networks' in float64."""
    dtype, kind = str(parameters.get("dtype")), str(parameters.get("kind"))
    special = kind.startswith(("disturbed", "dropped")) or parameters.get("optimizer") is not None
    if dtype == "float64":
        return special and kind != "None"
    return dtype == "float32" and name == "test_disturbed_inputs"
