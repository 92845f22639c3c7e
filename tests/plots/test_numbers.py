"""The numbers behind the plots are those of scikit-learn and of the model."""

import collections

import numpy as np
import pytest
from sklearn import metrics
from sklearn.calibration import calibration_curve
from sklearn.exceptions import ConvergenceWarning
from sklearn.inspection import DecisionBoundaryDisplay
from support.looks import CLASSIFIERS, NAMES, digits, labels_of, look

from fastmlp import History, MLPClassifier, plots, reference
from fastmlp.plots.subject import Subject

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
classifiers = pytest.mark.parametrize("kind", CLASSIFIERS)


# --- confusion_matrix -------------------------------------------------------------------------------------------------


@classifiers
def test_confusion_matrix_is_that_of_scikit_learn(kind):
    net, X, y = look(kind)
    classes = Subject.of(net).predictions(X, y).classes
    for normalize in (None, "true", "pred", "all"):
        display = plots.confusion_matrix(net, X, y, normalize, ax=False)
        expected = metrics.confusion_matrix(y, net.predict(X), labels=classes, normalize=normalize)
        np.testing.assert_array_equal(display.confusion_matrix, expected)
    assert display.display_labels == [str(label) for label in classes]
    assert display.accuracy == pytest.approx(net.score(X, y))


@classifiers
def test_the_most_common_confusions(kind):
    net, X, y = look(kind)
    display = plots.confusion_matrix(net, X, y, top=4, ax=False)
    pairs = zip(y.tolist(), net.predict(X).tolist(), strict=True)
    counts = collections.Counter(pair for pair in pairs if pair[0] != pair[1])
    assert [c.n_rows for c in display.top] == sorted(counts.values(), reverse=True)[:4]
    assert all(counts[c.true, c.predicted] == c.n_rows for c in display.top)
    if hasattr(net, "most_confused"):
        assert collections.Counter(display.top) == collections.Counter(net.most_confused(X, y, 4)) or (
            display.top[-1].n_rows == net.most_confused(X, y, 5)[-1].n_rows
        )
    assert plots.confusion_matrix(net, X, y, top=0, ax=False).words == []


def test_confusions_in_words():
    net, X, _ = look("MLP")
    y = net.predict(X)
    y[: np.flatnonzero(y != 3)[0] + 1] = y[0]
    right = net.predict(X)
    wrong = right.copy()
    wrong[np.flatnonzero(right == 4)[:2]] = 9
    display = plots.confusion_matrix(net, X, wrong, ax=False)
    n = np.count_nonzero(wrong == 9)
    assert display.words == [f"9 taken for 4: 2 of {n} ({2 / n:.1%})"]
    named = plots.confusion_matrix(net, X, wrong, display_labels=NAMES, ax=False)
    assert named.words[0].startswith("n ine taken for _four: 2 of")
    assert named.top == display.top == [(9, 4, 2)]


def test_a_class_without_rows_has_zeros():
    net, X, y = look("MLP")
    display = plots.confusion_matrix(net, X[y != 5], y[y != 5], "true", ax=False)
    assert (display.confusion_matrix[5] == 0).all()


def test_one_hot_rows_count_as_classes():
    net, X, y = look("MLP")
    display = plots.confusion_matrix(net, X, np.eye(10)[y], ax=False)
    np.testing.assert_array_equal(
        display.confusion_matrix, plots.confusion_matrix(net, X, y, ax=False).confusion_matrix
    )


# --- calibration ------------------------------------------------------------------------------------------------------


@classifiers
@pytest.mark.parametrize("strategy", ["uniform", "quantile"])
def test_calibration_is_that_of_scikit_learn(kind, strategy, ax):
    net, X, y = look(kind)
    display = plots.calibration(net, X, y, strategy=strategy, ax=False)
    p = net.predict_proba(X)
    if p.shape[1] == 2:
        true, p = y, p[:, 1]
    else:
        true, p = net.predict(X) == y, p.max(axis=1)
    expected = calibration_curve(true, p, n_bins=10, strategy=strategy)
    np.testing.assert_allclose(display.prob_true, expected[0], atol=1e-12)
    np.testing.assert_allclose(display.prob_pred, expected[1], atol=1e-6)
    assert display.counts.sum() == len(y)
    error = sum(display.counts * np.abs(display.prob_true - display.prob_pred)) / len(y)
    assert display.expected_calibration_error == pytest.approx(error)
    bars = display.plot(ax).bars_
    np.testing.assert_allclose([bar.get_height() for bar in bars], display.counts / len(y))


def test_calibration_of_one_class_and_of_labels():
    net, X, y = look("names")
    display = plots.calibration(net, X, y, pos_label="two", n_bins=5, ax=False)
    expected = calibration_curve(y == "two", net.predict_proba(X)[:, list(net.classes).index("two")], n_bins=5)
    np.testing.assert_allclose([display.prob_true, display.prob_pred], expected, atol=1e-6)
    assert display.what == "probability of class two"
    net, X, y = look("labels")
    display = plots.calibration(net, X, y, ax=False)
    expected = calibration_curve(y.ravel(), net.predict_proba(X).ravel(), n_bins=10)
    np.testing.assert_allclose([display.prob_true, display.prob_pred], expected, atol=1e-6)
    display = plots.calibration(net, X, y, pos_label=2, ax=False)
    expected = calibration_curve(y[:, 2], net.predict_proba(X)[:, 2], n_bins=10)
    np.testing.assert_allclose([display.prob_true, display.prob_pred], expected, atol=1e-6)


# --- wrong_guesses ----------------------------------------------------------------------------------------------------


@classifiers
def test_wrong_guesses_are_the_most_probable(kind):
    net, X, y = look(kind)
    display = plots.wrong_guesses(net, X, y, n=7, ax=False)
    predicted, p = net.predict(X), net.predict_proba(X).max(axis=1)
    wrong = np.flatnonzero(predicted != y)
    rows = [mistake.row for mistake in display.mistakes]
    np.testing.assert_array_equal(rows, wrong[np.argsort(-p[wrong], kind="stable")][:7])
    np.testing.assert_array_equal(display.probabilities, p[rows])
    assert [mistake.true for mistake in display.mistakes] == y[rows].tolist()
    assert [mistake.predicted for mistake in display.mistakes] == predicted[rows].tolist()
    assert display.guesses == [str(label) for label in predicted[rows]]
    np.testing.assert_array_equal(display.images, X[rows].reshape(-1, 8, 8))
    assert (display.n_wrong, display.n_rows) == (len(wrong), len(y))


def test_wrong_guesses_of_labels():
    net, X, y = look("labels")
    display = plots.wrong_guesses(net, X, y, n=1000, display_labels=["big", "odd", "small"], ax=False)
    wrong = (net.predict(X) != y).any(axis=1)
    assert sorted(mistake.row for mistake in display.mistakes) == np.flatnonzero(wrong).tolist()
    said = {", ".join(np.array(["big", "odd", "small"])[row == 1]) or "none" for row in y}
    assert set(display.labels) <= said
    assert (np.diff(display.probabilities) <= 0).all()


# --- images -----------------------------------------------------------------------------------------------------------


def test_samples_show_every_class():
    X, y, _, _ = digits()
    display = plots.samples(X, y, 20, ax=False)
    assert display.labels == [*range(10), *range(10)]
    firsts = [np.flatnonzero(y == label)[:2] for label in range(10)]
    np.testing.assert_array_equal(display.rows, np.array(firsts).T.ravel())
    np.testing.assert_array_equal(display.images, X[display.rows].reshape(-1, 8, 8))
    assert plots.samples(X, np.eye(10)[y], ax=False).labels == list(range(10))
    assert plots.samples(X, NAMES[y], ax=False).labels == sorted(NAMES)
    assert sorted(plots.samples(X[:5], y[:5], n=10, ax=False).rows) == [0, 1, 2, 3, 4]
    assert plots.samples(X, n=3, ax=False).rows.tolist() == [0, 1, 2]
    assert plots.samples(X, y + 0.5, n=3, ax=False).labels == (y[:3] + 0.5).tolist()


def test_samples_of_every_form_of_images():
    generator = np.random.default_rng(0)
    colours = generator.random((6, 8, 5, 3))
    for X, shape in ((colours, None), (colours.reshape(6, -1), (8, 5, 3)),
                     (colours.transpose(0, 3, 1, 2).reshape(6, -1), (3, 8, 5))):  # fmt: skip
        np.testing.assert_array_equal(plots.samples(X, range(6), n=6, shape=shape, ax=False).images, colours)
    grey = generator.integers(0, 255, (6, 35), dtype=np.uint8)
    for X in (grey, grey.tolist(), grey.reshape(6, 7, 5), grey.reshape(6, 7, 5, 1)):
        shape = (7, 5) if np.ndim(X) == 2 else None
        np.testing.assert_array_equal(plots.samples(X, n=6, shape=shape, ax=False).images, grey.reshape(6, 7, 5))


@pytest.mark.parametrize("form", ["pandas", "polars", "csr", "memmap"])
def test_rows_of_every_form(form, tmp_path):
    net, X, y = look("MLP")
    expected = plots.wrong_guesses(net, X, y, ax=False)
    if form in ("pandas", "polars"):
        rows = pytest.importorskip(form).DataFrame({f"pixel{i}": X[:, i] for i in range(64)})
    elif form == "csr":
        rows = pytest.importorskip("scipy.sparse").csr_matrix(X)
    else:
        np.save(tmp_path / "X.npy", X)
        rows = np.load(tmp_path / "X.npy", mmap_mode="r")
    np.testing.assert_array_equal(plots.wrong_guesses(net, rows, y, ax=False).images, expected.images)
    np.testing.assert_array_equal(plots.samples(rows, y, ax=False).images, plots.samples(X, y, ax=False).images)


@pytest.mark.parametrize("kind", ["MLP", "ensemble", "networks", "search", "regressor"])
def test_weights_are_those_of_the_network(kind, ax):
    net = look(kind)[0]
    network = Subject.of(net).networks[-1]
    display = plots.weights(net, member=-1, ax=ax)
    np.testing.assert_array_equal(display.weights, network.weights[0])
    np.testing.assert_array_equal(display.images, network.weights[0].T.reshape(16, 8, 8))
    page = display.im_.get_array()
    assert np.count_nonzero(~np.ma.getmaskarray(page) & ~np.isnan(page.data)) == 16 * 64
    layer = plots.weights(net, layer=-1, n=1, member=-1, ax=False)
    np.testing.assert_array_equal(layer.weights, network.weights[1][:, :1])
    assert (layer.images, layer.layer) == (None, 1)


# --- decision_boundary ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def moons():
    generator = np.random.default_rng(0)
    angle, side = generator.uniform(0, np.pi, 120), generator.integers(0, 3, 120)
    X = np.c_[np.cos(angle) + side, np.sin(angle) * (1 - side)]
    return X, np.array(["left", "middle", "right"])[side]


def test_decision_boundary_is_that_of_scikit_learn(moons):
    X, y = moons
    clf = MLPClassifier((8,), random_state=0, max_iter=50).fit(X, y)
    ours = plots.decision_boundary(clf, X, y, grid_resolution=30, eps=1.0, ax=False)
    pytest.importorskip("matplotlib").use("Agg")
    theirs = DecisionBoundaryDisplay.from_estimator(
        clf, X, response_method="predict_proba", grid_resolution=30, eps=1.0
    )
    for name in ("xx0", "xx1"):
        np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), atol=1e-12)
    np.testing.assert_array_equal(ours.response, theirs.response.argmax(axis=2))
    np.testing.assert_allclose(ours.probability, theirs.response.max(axis=2), atol=1e-12)
    np.testing.assert_array_equal(ours.points, X)
    assert np.array(ours.display_labels)[ours.targets].tolist() == y.tolist()
    from matplotlib import pyplot

    pyplot.close("all")


def test_other_features_are_held_fixed():
    net, X, y = look("MLP")
    display = plots.decision_boundary(net, X, y, (20, -3), fixed={5: 0.25}, grid_resolution=7, ax=False)
    rows = np.tile(np.median(X, axis=0), (49, 1))
    rows[:, 5], rows[:, 20], rows[:, 61] = 0.25, display.xx0.ravel(), display.xx1.ravel()
    np.testing.assert_array_equal(display.response.ravel(), net.predict(rows))
    np.testing.assert_allclose(display.probability.ravel(), net.predict_proba(rows).max(axis=1), rtol=1e-6)
    assert display.feature_names == ("feature 20", "feature 61")
    assert display.xx0.max() == pytest.approx(X[:, 20].max() + 0.08 * np.ptp(X[:, 20]))


def test_decision_boundary_of_a_table_with_words(moons):
    pandas = pytest.importorskip("pandas")
    from sklearn.compose import make_column_transformer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    X = pandas.DataFrame({"wind": moons[0][:, 0], "place": ["here", "there", "here"] * 40, "rain": moons[0][:, 1]})
    encode = make_column_transformer((OneHotEncoder(), ["place"]), remainder="passthrough")
    pipeline = make_pipeline(encode, MLPClassifier((4,), random_state=0, max_iter=5)).fit(X, moons[1])
    display = plots.decision_boundary(pipeline, X, moons[1], ("rain", "wind"), grid_resolution=5, ax=False)
    frame = pandas.DataFrame({"wind": display.xx1.ravel(), "place": "here", "rain": display.xx0.ravel()})
    predicted = np.array(display.display_labels)[display.response.ravel()]
    assert predicted.tolist() == pipeline.predict(frame).tolist()
    assert display.feature_names == ("rain", "wind")


def test_decision_boundary_of_numbers_and_of_labels():
    net, X, y = look("regressor")
    display = plots.decision_boundary(net, X, y, (20, 21), grid_resolution=4, ax=False)
    assert (display.display_labels, display.probability) == ([], None)
    np.testing.assert_array_equal(display.targets, y)
    net, X, y = look("labels")
    display = plots.decision_boundary(net, X, y, (20, 21), grid_resolution=4, ax=False)
    expected = [", ".join(np.array(["0", "1", "2"])[row == 1]) or "none" for row in labels_of(digits()[3])]
    assert [display.display_labels[code] for code in display.targets] == expected


# --- learning_curves --------------------------------------------------------------------------------------------------


def test_learning_curves_of_everything():
    history = History(loss=[3.0, 2.0, 1.0], accuracy=[0.1, 0.2, 0.3], val_loss=[3.5, 2.5, 2.0], seconds=[1.0] * 3)
    one = plots.learning_curves(history, ax=False)
    assert (one.histories, one.panels) == ([history], ["loss", "accuracy"])
    named = plots.learning_curves({"a": history, "b": History(loss=[1.0])}, ax=False)
    assert named.names == ["a", "b"]
    ensemble = look("ensemble")[0]
    assert plots.learning_curves(ensemble, ax=False).histories == ensemble.histories
    assert plots.learning_curves(ensemble.histories, ax=False).names == ["network 0", "network 1", "network 2"]
    clf = look("pipeline")[0]
    assert plots.learning_curves(clf, ax=False).histories[0].loss == clf[-1].loss_curve_
    assert len(plots.learning_curves(look("networks")[0], ax=False).histories) == 2


def test_learning_curves_of_an_estimator_with_validation():
    X, y, _, _ = digits()
    clf = MLPClassifier((4,), max_iter=3, early_stopping=True, random_state=0)
    with pytest.warns(ConvergenceWarning):
        clf.fit(X, y)
    (history,) = plots.learning_curves(clf, ax=False).histories
    assert history.val_accuracy == clf.validation_scores_
    assert history.val_loss == clf.validation_loss_curve_


def test_curves_of_equal_names_are_apart(ax):
    curves = [History(loss=[float(i)], val_loss=[1.0]) for i in range(5)]
    given = dict(zip([1, "1", "1 (2)", "training", "validation"], curves, strict=True))
    display = plots.learning_curves(given, ax=ax)
    names = ["1", "1 (2)", "1 (2) (2)", "training", "validation"]
    assert display.names == names
    assert [display.lines_["loss", name].get_ydata().tolist() for name in names] == [[i] for i in range(5)]
    legend = [text.get_text() for text in ax.get_legend().get_texts()]
    assert legend == [*names, "training", "validation"]


def test_lines_hold_the_measurements(ax):
    history = History(loss=[3.0, 2.0, 1.0], val_loss=[3.5, 2.5, 2.0])
    display = plots.learning_curves([history, History(loss=[4.0])], ax=ax)
    assert display.lines_.keys() == {("loss", "network 0"), ("val_loss", "network 0"), ("loss", "network 1")}
    np.testing.assert_array_equal(display.lines_["val_loss", "network 0"].get_xydata(), [(1, 3.5), (2, 2.5), (3, 2)])


def test_an_untrained_network_learns_names_from_y():
    X, y, _, _ = digits()
    display = plots.confusion_matrix(reference.MLP([64, 10]), X, NAMES[y], ax=False)
    assert display.display_labels == sorted(NAMES)
