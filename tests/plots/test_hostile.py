"""Wrong arguments of plots get an error in the user's words, before anything is drawn."""

import sys

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from support.looks import digits, look
from support.nets import refused

from fastmlp import MLP, MLPClassifier, MLPRegressor, plots, reference
from fastmlp.data import Blocks

X, Y = digits()[2:]


@pytest.mark.parametrize("plot", [plots.confusion_matrix, plots.wrong_guesses, plots.calibration])
def test_what_needs_classes_refuses_numbers(plot):
    for kind in ("number", "regressor"):
        with refused(TypeError, "this model predicts numbers"):
            plot(*look(kind), ax=False)


def test_rows_must_be_in_memory_and_have_y():
    net = look("MLP")[0]
    for plot in (plots.confusion_matrix, plots.wrong_guesses, plots.calibration):
        with refused(TypeError, "y is missing"):
            plot(net, X, None, ax=False)
        with refused(TypeError, "X is Blocks; pictures and reports need rows in memory"):
            plot(net, Blocks(X, Y), None, ax=False)
    with refused(TypeError, "y is missing"):
        plots.decision_boundary(net, X, None, (0, 1), ax=False)


def test_a_confusion_matrix_needs_one_class_each():
    with refused(TypeError, "confusion_matrix needs rows of one class each; this model predicts labels"):
        plots.confusion_matrix(*look("labels"), ax=False)


@pytest.mark.parametrize(
    ("net", "error", "message"),
    [
        (
            "net.npz",
            TypeError,
            "net must be an MLP, an Ensemble, an estimator, or a pipeline that ends in one, not str",
        ),
        (MLP, TypeError, "not the class MLP"),
        (None, TypeError, "not NoneType"),
        (MLPClassifier(), NotFittedError, "not fitted yet"),
        (make_pipeline(StandardScaler()).fit(X), TypeError, "net is a Pipeline that does not predict"),
    ],
    ids=["path", "class", "None", "unfitted", "scaler"],
)
def test_wrong_models(net, error, message):
    for plot in (plots.confusion_matrix, plots.wrong_guesses, plots.calibration, plots.decision_boundary):
        with refused(error, message):
            plot(net, X, Y, ax=False)
    with refused(error, message):
        plots.weights(net, ax=False)


@pytest.mark.parametrize("kind", ["MLP", "names", "ensemble", "pipeline"])
def test_wrong_rows(kind):
    net, _, y = look(kind)
    bad = X.copy()
    bad[3, 5] = np.nan
    for rows, labels in ((X[:9], y[:8]), (X[:, :9], y), (bad, y),
                                (X, y[:, None, None])):  # fmt: skip
        for plot in (plots.confusion_matrix, plots.wrong_guesses, plots.calibration):
            with pytest.raises((TypeError, ValueError)):
                plot(net, rows, labels, ax=False)
    unknown = np.array(y, "U9" if y.dtype.kind == "U" else int)
    unknown[7] = "1234"
    with refused(ValueError, "1234"):
        plots.confusion_matrix(net, X, unknown, ax=False)


NET, PLANE = reference.MLP([64, 6, 10]), reference.MLP([2, 3, 2])
POINTS, SIDES = np.eye(2).repeat(5, axis=0), np.arange(2).repeat(5)
brief = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def pipeline():
    return make_pipeline(PCA(25), MLPClassifier((4,), max_iter=2, random_state=0)).fit(X, Y)


@brief
@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: plots.confusion_matrix(NET, X, Y, "rows"),
            ValueError,
            "normalize must be one of 'true', 'pred', 'all'",
        ),
        (lambda: plots.confusion_matrix(NET, X, Y, top=-1), ValueError, "top must be at least 0"),
        (lambda: plots.confusion_matrix(NET, X, Y, display_labels="abc"), ValueError, "a list of 10 names"),
        (lambda: plots.confusion_matrix(NET, X, Y, display_labels=["a"]), ValueError, "a list of 10 names"),
        (lambda: plots.confusion_matrix(NET, X, Y, display_labels=10), ValueError, "a list of 10 names"),
        (
            lambda: plots.confusion_matrix(NET, X, Y, display_labels=iter("abcdefghij")),
            ValueError,
            "a list of 10 names",
        ),
        (lambda: plots.confusion_matrix(NET, X, Y, display_labels=set("abcdefghij")), ValueError, "a list of 10 names"),
        (
            lambda: plots.decision_boundary(NET, X, Y, (0, 1), fixed={2: "a"}),
            ValueError,
            "fixed must give a number to 'feature 2', not 'a'",
        ),
        (
            lambda: plots.decision_boundary(NET, X, Y, (0, 1), fixed={2: float("nan")}),
            ValueError,
            "fixed must give a number to 'feature 2', not nan",
        ),
        (lambda: plots.calibration(NET, X, Y, pos_label=np.ones(10)), ValueError, "pos_label must be one of 0, 1, 2"),
        (lambda: plots.confusion_matrix(NET, X, Y, ax=3), TypeError, "ax must be an Axes of matplotlib, not int"),
        (lambda: plots.confusion_matrix(NET, X), TypeError, "confusion_matrix needs y"),
        (lambda: plots.confusion_matrix(NET, X, target=Y), TypeError, "did you mean 'y'?"),
        (lambda: plots.wrong_guesses(NET, X, Y, n=0), ValueError, "n must be at least 1"),
        (lambda: plots.wrong_guesses(NET, X, Y, shape=(8, 9)), ValueError, "shape (8, 9) has 72 numbers, but X has 64"),
        (lambda: plots.wrong_guesses(NET, X, Y, shape=64), TypeError, "shape must be (height, width)"),
        (lambda: plots.wrong_guesses(NET, X, Y, shape=(8.0, 8)), TypeError, "shape[0] must be an integer"),
        (
            lambda: plots.wrong_guesses(PLANE, POINTS, SIDES),
            ValueError,
            "X has 2 features, not a square image",
        ),
        (lambda: plots.samples(POINTS, SIDES), ValueError, "if its rows are images, give shape=(height, width)"),
        (lambda: plots.samples(X, Y[:5]), ValueError, "y must hold a class for each of the 200 rows of X"),
        (lambda: plots.samples(X[:0]), ValueError, "X is empty"),
        (lambda: plots.samples(X[0]), ValueError, "X must have two dimensions"),
        (lambda: plots.samples(X.astype(str)), TypeError, "not numbers; images need pixels"),
        (lambda: plots.samples(np.zeros((3, 5, 5, 2))), ValueError, "channels"),
        (lambda: plots.weights(NET, layer=2), ValueError, "layer is 2, but there are 2 layers of weights"),
        (lambda: plots.weights(NET, member=1), ValueError, "member is 1, but there are 1 networks"),
        (lambda: plots.weights(PLANE), ValueError, 'give shape=(height, width), or shape="matrix"'),
        (lambda: plots.weights(NET, shape="image"), TypeError, "shape must be (height, width)"),
        (lambda: plots.weights(pipeline()), ValueError, "the pipeline makes 25 inputs of 64 features"),
        (lambda: plots.weights(LogisticRegression().fit(POINTS, SIDES)), TypeError, "not LogisticRegression"),
        (lambda: plots.decision_boundary(NET, X, Y), ValueError, "X has 64 features; choose two of them"),
        (lambda: plots.decision_boundary(NET, X, Y, (1,)), TypeError, "features must be two integers"),
        (lambda: plots.decision_boundary(NET, X, Y, (1, 1)), ValueError, "two different ones"),
        (lambda: plots.decision_boundary(NET, X, Y, (1, 64)), ValueError, "a feature is 64, but there are 64 features"),
        (lambda: plots.decision_boundary(NET, X, Y, (1, "a")), ValueError, "there is no feature 'a'"),
        (lambda: plots.decision_boundary(NET, X, Y, (1, 2), fixed=[3]), TypeError, "fixed must map features to values"),
        (lambda: plots.decision_boundary(NET, X, Y, (1, 2), fixed={1: 0}), ValueError, "feature 1, which is to vary"),
        (lambda: plots.decision_boundary(PLANE, POINTS, SIDES, grid_resolution=1), ValueError, "grid_resolution"),
        (lambda: plots.decision_boundary(PLANE, POINTS[0], SIDES), ValueError, "X must have two dimensions"),
        (lambda: plots.calibration(NET, X, Y, pos_label=11), ValueError, "pos_label must be one of 0, 1, 2"),
        (lambda: plots.calibration(NET, X, Y, strategy="wide"), ValueError, "strategy must be one of"),
        (lambda: plots.calibration(RidgeClassifier().fit(POINTS, SIDES), POINTS, SIDES), TypeError, "no predict_proba"),
        (lambda: plots.learning_curves([]), ValueError, "there is no history; train first"),
        (lambda: plots.learning_curves(reference.MLP([2, 2])), ValueError, "there is no history; train first"),
        (lambda: plots.learning_curves([[1.0, 0.5]]), TypeError, "histories must be a History"),
        (lambda: plots.learning_curves(3), TypeError, "histories must be a History"),
        (lambda: plots.learning_curves(reference.MLP), TypeError, "histories must be a History"),
    ],
)
def test_wrong_arguments(call, error, message):
    with refused(error, message):
        call()


def test_a_picture_of_too_many_pixels():
    pytest.importorskip("matplotlib")
    with refused(ValueError, "dpi 1e+09 makes a picture of more than 65,535 pixels"):
        plots.calibration(NET, X, Y, ax=False).save("a.png", dpi=1e9)


def test_a_table_is_no_image():
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame(np.ones((30, 25)), columns=[f"{letter}" for letter in "abcdefghijklmnopqrstuvwxy"])
    with refused(ValueError, "X is a table with the columns 'a', 'b', 'c', ..., not images"):
        plots.samples(table)
    net = reference.MLP([25, 2])
    net.fit(table, np.arange(30) % 2, epochs=1)
    for call in (lambda: plots.weights(net), lambda: plots.wrong_guesses(net, table, np.arange(30) % 2)):
        with refused(ValueError, "is a table with the columns 'a', 'b', 'c', ..., not images"):
            call()
    assert plots.weights(net, shape=(5, 5), ax=False).images.shape == (2, 5, 5)


@brief
def test_several_numbers_have_no_boundary():
    regressor = MLPRegressor(hidden_layer_sizes=(3,), max_iter=2, random_state=0)
    regressor.fit(POINTS, np.stack([SIDES, SIDES], axis=1))
    with refused(TypeError, "decision_boundary shows one number; this model predicts 2"):
        plots.decision_boundary(regressor, POINTS, np.stack([SIDES, SIDES], axis=1), ax=False)


def test_several_labels_of_other_estimators():
    Y2 = np.stack([SIDES, 1 - SIDES], axis=1)
    forest = RandomForestClassifier(2, random_state=0).fit(POINTS, Y2)
    for plot in (plots.confusion_matrix, plots.calibration, plots.decision_boundary):
        with refused(TypeError, "net is a RandomForestClassifier of several targets with classes of their own"):
            plot(forest, POINTS, Y2, ax=False)
    rest = OneVsRestClassifier(LogisticRegression()).fit(POINTS, Y2)
    assert plots.calibration(rest, POINTS, Y2, ax=False).counts.sum() == Y2.size
    with refused(TypeError, "this model predicts labels"):
        plots.confusion_matrix(rest, POINTS, Y2, ax=False)


def test_one_number_that_is_lost_takes_no_colours_from_the_others():
    net = reference.MLP([25, 3, 1], output="identity")
    net.weights[0][...] = np.linspace(-2, 1, 75).reshape(25, 3)
    net.weights[0][0, 0] = np.nan
    assert plots.weights(net, ax=False).limit == pytest.approx(2, rel=0.1)
    colours = np.random.default_rng(0).random((4, 75))
    colours[2, 7] = np.nan
    figure = pytest.importorskip("matplotlib.figure").Figure()
    display = plots.samples(colours, shape=(5, 5, 3), ax=figure.subplots())
    assert display.im_.get_array().max() > 0.9
    display = plots.decision_boundary(PLANE, POINTS, SIDES, grid_resolution=5, ax=False)
    display.response, display.display_labels = np.full((5, 5), 3.0), []
    display.response[0, 0] = np.nan
    assert display.plot(figure.subplots()).surface_.get_clim() == (0, 3)


def test_matplotlib_is_missing(monkeypatch, tmp_path):
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("matplotlib", "matplotlib.pyplot", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    display = plots.confusion_matrix(NET, X, Y, ax=False)
    for use in (display.plot, lambda: display.save(tmp_path / "a.png"), lambda: plots.samples(X)):
        with refused(ImportError, "plots need matplotlib: pip install 'fastmlp[plot]'"):
            use()
