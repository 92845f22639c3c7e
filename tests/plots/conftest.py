"""Plots are drawn without a window, and by the network in NumPy, which needs no compiler."""

import pytest

from fastmlp import reference


@pytest.fixture(autouse=True)
def plain(request, monkeypatch):
    if "compiled" not in request.keywords:
        monkeypatch.setattr("fastmlp.estimators.base.BaseMLP._network_class", reference.MLP)


@pytest.fixture
def ax():
    """Axes of a figure that pyplot does not know."""
    figure = pytest.importorskip("matplotlib.figure")
    return figure.Figure(layout="constrained").subplots()
