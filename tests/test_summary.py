"""The tables of networks, ensembles and histories: as text, and in a notebook."""

import math
from html.parser import HTMLParser

import numpy as np
import pytest
from support.nets import X, Y

from fastmlp import Ensemble, History, reference

EVIL = '<script>alert(1)</script>"&'


class Reader(HTMLParser):
    """Reads cells and attributes, and refuses what does not close."""

    def __init__(self, text):
        super().__init__()
        self.cells, self.tags, self._open = [], [], []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self._open.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, text):
        if {"td", "th"} & set(self._open):
            self.cells[-1] += text

    @property
    def curves(self):
        return [attributes["d"] for tag, attributes in self.tags if tag == "path"]


def lines(thing):
    """Return the lines of a summary."""
    said = []
    thing.summary(write=said.append)
    return said


def history_of(**lists):
    history = History()
    history.extend(**lists)
    return history


@pytest.fixture
def net():
    net = reference.MLP([4, 5, 3], dropout=0.25, l2=0.5)
    net.fit(X, Y, epochs=3, validation_data=(X, Y))
    return net


def test_layers_of_a_network(capsys):
    assert reference.MLP([784, 128, 64, 10], activation=["relu", "tanh"]).summary() is None
    assert capsys.readouterr().out.splitlines() == [
        "MLP 784-128-64-10",
        "layer     units  activation  parameters",
        "inputs      784",
        "hidden 1    128  relu           100,480",
        "hidden 2     64  tanh             8,256",
        "output       10  softmax            650",
        "109,386 parameters, 427.3 KB in float32",
        "init he, seed 0",
    ]


def test_a_trained_network_says_what_was_measured(net):
    said, history = lines(net), net.history
    assert said[2:5] == [
        "inputs        4",
        "hidden 1      5  relu        0.25             25",
        "output        3  softmax                      18",
    ]
    assert said[6] == "init he, seed 0, l2 0.5"
    (row,) = (line.split() for line in said if line.startswith("val_loss"))
    best = history.best_epoch("val_loss")
    assert row == ["val_loss", f"{history.val_loss[-1]:.4f}", f"{min(history.val_loss):.4f}", str(best)]


def test_a_notebook_shows_the_same_as_text(net):
    text, cells = " ".join(lines(net)).split(), " ".join(Reader(net._repr_html_()).cells).split()
    assert set(cells) <= {*text, "curve"}


def test_an_ensemble_shows_each_member():
    ensemble = Ensemble(reference.MLP([4, 5, 3]), n=3)
    assert lines(ensemble)[-2] == f"3 members, {3 * 43} parameters, {3 * 43 * 4} bytes in float32"
    histories = ensemble.fit(X, Y, epochs=2)
    assert [line.split()[2] for line in lines(ensemble)[-3:]] == [f"{history.loss[-1]:.4f}" for history in histories]
    assert len(Reader(ensemble._repr_html_()).curves) == 3


@pytest.mark.parametrize("size", [1, 31, 32, 33, 1000])
def test_a_curve_has_its_ends_at_the_edges(size):
    (curve,) = Reader(history_of(loss=list(np.linspace(2, 1, size)))._repr_html_()).curves
    points = curve.replace("h0", "").removeprefix("M").split("L")
    assert len(points) == min(size, 32)
    assert points[0].startswith("2 ")
    if size > 1:
        assert points[-1].startswith("118 ")
        heights = [float(point.split()[1]) for point in points]
        assert heights == sorted(heights)


def test_training_and_validation_have_one_scale():
    low, high = Reader(history_of(loss=[3.0, 1.0], val_loss=[2.0, 2.0])._repr_html_()).curves
    assert low == "M2 2.0h0L118 18.0"
    assert high == "M2 10.0h0L118 10.0"


def test_numbers_that_are_not_finite_are_gaps():
    nan, inf = math.nan, math.inf
    html = history_of(loss=[nan, 1.0, inf, 2.0, 3.0, -inf], val_loss=[nan] * 6)._repr_html_()
    curve, nothing = Reader(html).curves
    assert curve == "M25 18.0h0M72 10.0h0L95 2.0"
    assert nothing == ""
    assert "best" in html
    (curve,) = Reader(history_of(loss=[1e308, -1e308])._repr_html_()).curves  # whose difference is infinite
    assert curve == "M2 2.0h0L118 18.0"


def test_names_are_shown_and_not_run():
    pd = pytest.importorskip("pandas")
    names = np.array([EVIL, "שלום", "a\nb"])[Y]
    net = reference.MLP([4, 5, 3])
    frame = pd.DataFrame(X, columns=[EVIL, "é", 'x"y', "z" * 500])

    def metric(y, p):
        return 0.5

    metric.__name__ = EVIL
    net.fit(frame, names, epochs=2, validation_data=(frame, names), metrics=[metric])
    for html in (net._repr_html_(), net.history._repr_html_()):
        assert {tag for tag, _ in Reader(html).tags} <= {"div", "b", "table", "thead", "tbody", "tr", "th", "td", "svg",
                                                         "path", "bdi"}  # fmt: skip
        assert "&lt;script&gt;" in html
    said = "\n".join(lines(net))
    assert '4 features: <script>alert(1)</scr..., é, x"y, zzz' in said
    assert "a b" in said


def test_any_network_is_below_10_kb():
    long = {f"val_{'&' * 100}{i}": list(np.linspace(1, 2, 5000)) for i in range(50)}
    net = reference.MLP([3, *[2] * 300, 2], dropout=0.1)
    ensemble = Ensemble(net, n=20)
    for each in (net, *ensemble):
        each.history = history_of(loss=list(np.random.default_rng(0).random(1000)), **long)
    for shown in (net, ensemble, net.history):
        assert 5_000 < len(shown._repr_html_().encode()) < 10_000
    assert len(lines(net)) > 300  # but text has all


def test_no_history():
    assert "History of 0 epochs" in History()._repr_html_()
    assert Reader(History()._repr_html_()).cells == []
