"""What the page shows: its numbers, learning curves, training and images."""

import warnings

import numpy as np
import pytest
from sklearn import metrics
from sklearn.datasets import load_iris
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from support.nets import filled, refused
from support.pages import classifier, noisy, page

import fastmlp
from fastmlp import History, reference
from fastmlp.page.images import find_images
from fastmlp.page.rows import choose_rows
from fastmlp.plots.subject import Predictions

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


# --- its numbers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_classes", [2, 3, 30])
def test_scores_of_classes_are_those_of_scikit_learn(n_classes, tmp_path):
    net, rows, y = noisy(n_classes)
    guess, labels = net.predict(rows), np.arange(n_classes)
    content = page(tmp_path, net, rows, y)
    assert content["matrix"]["counts"] == metrics.confusion_matrix(y, guess, labels=labels).tolist()
    expected = metrics.precision_recall_fscore_support(y, guess, labels=labels, zero_division=0)
    names = ("precision", "recall", "f1", "n_true")
    assert [[of[name] for of in content["per_class"]] for name in names] == [e.tolist() for e in expected]
    assert [of["n_predicted"] for of in content["per_class"]] == np.bincount(guess, minlength=n_classes).tolist()
    assert content["n_wrong"] == (guess != y).sum()
    most = content["confusions"][0]
    counts = metrics.confusion_matrix(y, guess, labels=labels)
    np.fill_diagonal(counts, 0)
    assert most["n"] == counts.max() == counts[most["true"], most["guess"]]


def test_scores_of_labels_are_those_of_scikit_learn(tmp_path):
    net, rows, _ = noisy(3, output="logistic")
    y = np.random.default_rng(1).integers(0, 2, (len(rows), 3))
    content = page(tmp_path, net, rows, y)
    expected = metrics.precision_recall_fscore_support(y, net.predict(rows), zero_division=0)
    names = ("precision", "recall", "f1", "n_true")
    assert [[of[name] for of in content["per_class"]] for name in names] == [e.tolist() for e in expected]
    assert "matrix" not in content
    row = content["shown"]["row"][0]
    assert content["shown"]["guess"][0] == np.flatnonzero(net.predict(rows)[row]).tolist()


def test_scores_of_numbers_are_those_of_scikit_learn(tmp_path):
    net, rows, _ = noisy(2, output="identity")
    y = np.random.default_rng(1).standard_normal((len(rows), 2))
    content = page(tmp_path, net, rows, y)
    guess = net.predict(rows)
    for k, output in enumerate(content["numbers"]["outputs"]):
        assert output["r2"] == pytest.approx(metrics.r2_score(y[:, k], guess[:, k]), rel=1e-5)
        assert output["mae"] == pytest.approx(metrics.mean_absolute_error(y[:, k], guess[:, k]), rel=1e-5)
        assert output["rmse"] == pytest.approx(metrics.root_mean_squared_error(y[:, k], guess[:, k]), rel=1e-5)
    away = np.square(guess - y).sum(axis=1)
    assert content["shown"]["row"][:24] == np.argsort(-away, kind="stable")[:24].tolist()


def test_wrong_guesses_come_first_the_most_confident_first(tmp_path):
    net, rows, y = noisy(3)
    shown = page(tmp_path, net, rows, y)["shown"]
    p = net.predict_proba(rows)
    wrong = np.flatnonzero(net.predict(rows) != y)
    assert shown["row"][:24] == wrong[np.argsort(-p[wrong].max(axis=1), kind="stable")][:24].tolist()
    assert shown["true"] == y[shown["row"]].tolist()
    assert shown["guess"] == net.predict(rows)[shown["row"]].tolist()
    assert len(set(shown["row"])) == len(shown["row"])
    np.testing.assert_allclose(shown["p"], p.max(axis=1)[shown["row"]], rtol=1e-5)


def test_each_cell_of_the_matrix_has_rows_to_show(tmp_path):
    net, rows, y = noisy(10, n=5000)
    content = page(tmp_path, net, rows, y)
    shown, counts = content["shown"], np.array(content["matrix"]["counts"])
    found = np.zeros_like(counts)
    np.add.at(found, (shown["true"], shown["guess"]), 1)
    assert (found >= np.minimum(counts, 10)).all()
    assert len(shown["row"]) <= 2000


def test_of_many_classes_the_matrix_shows_those_with_the_most_errors(tmp_path):
    net, rows, y = noisy(150, n=1000)
    matrix = page(tmp_path, net, rows, y)["matrix"]
    wrong = net.predict(rows) != y
    errors = np.bincount(y[wrong], minlength=150) + np.bincount(net.predict(rows)[wrong], minlength=150)
    assert len(matrix["classes"]) == 60
    assert min(errors[matrix["classes"]]) >= max(np.delete(errors, matrix["classes"]))


def test_odd_numbers_of_rows_and_classes(tmp_path):
    net, rows, y = noisy(3)
    one = page(tmp_path, net, rows[:1], y[:1])
    assert one["n_rows"] == 1
    right = page(tmp_path, net, rows, net.predict(rows))
    assert (right["n_wrong"], right["confusions"]) == (0, [])
    assert right["scores"][0]["value"] == "100%"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        constant = page(tmp_path, filled([1, 2, 1], output="identity"), np.ones((5, 1)), np.ones(5))
    assert constant["numbers"]["outputs"][0]["r2"] is None


def test_errors_without_end_come_first():
    predicted = np.arange(100.0)
    predicted[[7, 50]] = np.nan, np.inf
    shown = choose_rows(Predictions("numbers", np.zeros(0), [], np.zeros(100), predicted, None))
    assert shown["row"][:3] == [7, 50, 99]


# --- learning curves and training -------------------------------------------------------------------------------------


def lines(content, title):
    (panel,) = [panel for panel in content["curves"]["panels"] if panel["title"] == title]
    return {line["kind"]: line["values"] for line in panel["lines"]}


def test_curves_are_those_of_the_history(tmp_path):
    net, rows, y = noisy(3)
    history = net.fit(rows, y, epochs=5, validation_data=(rows, y), metrics=["f1_macro"])
    content = page(tmp_path, net, rows, y)
    assert content["curves"]["epochs"] == [1, 2, 3, 4, 5]
    for title, measured in (("loss", "loss"), ("accuracy", "accuracy"), ("f1 macro", "metrics")):
        values = lines(content, title)["validation"]
        expected = history.metrics["val_f1_macro"] if measured == "metrics" else history[f"val_{measured}"]
        np.testing.assert_allclose(values, expected, rtol=1e-5)
    np.testing.assert_allclose(lines(content, "loss")["training"], history.loss, rtol=1e-5)
    assert "learning rate" not in [panel["title"] for panel in content["curves"]["panels"]]  # it never changes


def test_a_history_may_be_given_instead(tmp_path):
    net, rows, y = noisy(3)
    given = [History(loss=[3.0, 2.0, 1.0]), History(loss=[5.0, float("nan")])]
    content = page(tmp_path, net, rows, y, history=given)
    assert lines(content, "loss")["training"] == [4, 2, 1]
    assert page(tmp_path, net, rows, y)["curves"]["panels"] == []  # it was never fitted


def test_long_curves_are_thinned(tmp_path):
    net, rows, y = noisy(3)
    content = page(tmp_path, net, rows, y, history=History(loss=np.linspace(9, 1, 50_000).tolist()))
    epochs = content["curves"]["epochs"]
    assert (len(epochs), epochs[0], epochs[-1]) == (1000, 1, 50_000)
    assert lines(content, "loss")["training"][-1] == 1


def test_the_program_makes_such_a_network_again(tmp_path):
    _, rows, y = noisy(3)
    net = reference.MLP([4, 9, 3], activation="tanh", seed=7)
    net.fit(rows, y, epochs=4, batch_size=16, optimizer="adam", learning_rate=0.02)
    content = page(tmp_path, net, rows, y)
    names = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fastmlp, "MLP", reference.MLP, raising=False)
        exec(content["trained"]["command"], names | {"X_train": rows, "y_train": y}, names)
    assert repr(names["net"]) == repr(net)
    np.testing.assert_allclose(names["net"].history.loss, net.history.loss, rtol=1e-5)
    facts = dict(content["trained"]["facts"])
    assert facts["optimizer"] == "Adam(learning_rate=0.02)"
    assert {"seed", "machine", "Python", "fastmlp", "numpy", "numba"} <= facts.keys()
    assert page(tmp_path, net, rows, y, command="make net")["trained"]["command"] == "make net"


def test_the_program_of_a_pipeline_imports_what_it_needs(tmp_path):
    X, Y = load_iris(return_X_y=True)
    model = make_pipeline(StandardScaler(), "passthrough", classifier(random_state=3)).fit(X, Y)
    names = {}
    exec(page(tmp_path, model, X, Y)["trained"]["command"], {"X_train": X, "y_train": Y}, names)
    np.testing.assert_array_equal(names["model"].predict_proba(X), model.predict_proba(X))


# --- images -----------------------------------------------------------------------------------------------------------


def pictures(n=50, side=12):
    """Images with a square of ink of six pixels."""
    rows = np.zeros((n, side, side), np.float32)
    rows[:, 3:9, 4:10] = 0.8
    return rows.reshape(n, -1)


def test_images_say_what_is_ink_and_where_it_goes():
    image = find_images(pictures(), 144, None, None)
    assert (image.low, image.fit, image.centre) == (0, 6, (7, 6))
    assert image.high == pytest.approx(0.8)
    dark = find_images(1 - pictures(), 144, None, None)
    assert (dark.low, dark.fit) == (1, 6)  # ink is what differs from the border
    np.testing.assert_array_equal(dark.levels(1 - pictures()), image.levels(pictures()))


def test_what_is_no_image():
    normal = np.random.default_rng(0).standard_normal((50, 144))
    assert find_images(normal, 144, None, None) is None
    assert find_images(normal, 144, (12, 12), None).size == (12, 12)
    assert find_images(pictures(), 144, None, [f"a{i % 2}b" for i in range(144)]) is not None
    assert find_images(pictures(), 144, None, ["height", "width", *map(str, range(142))]) is None
    assert find_images(None, 144, None, None) is None
    with refused(ValueError, "shape (5, 5) has 25 numbers, but X has 144 features"):
        find_images(pictures(), 144, (5, 5), None)


def test_images_with_colours_are_shown_but_not_drawn(tmp_path):
    net = filled([75, 4, 2])
    content = page(tmp_path, net, np.random.default_rng(0).random((9, 75)), np.zeros(9, int), shape=(5, 5, 3))
    assert content["image"]["channels"] == 3
    assert "colours" in content["network"]["why"]
    assert "pixels" in content["shown"]
