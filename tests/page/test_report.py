"""What `fastmlp.report` writes: its numbers, which models it takes, what it leaves out, and what it refuses."""

import base64
import hashlib
import html
import json
import re
import warnings
import zlib

import numpy as np
import pytest
from sklearn import metrics
from sklearn.compose import TransformedTargetRegressor
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler
from support.fitted import network  # noqa: F401
from support.nets import filled, refused

import fastmlp
from fastmlp import Ensemble, History, MLPClassifier, MLPRegressor, reference
from fastmlp.page import report
from fastmlp.page.images import find_images
from fastmlp.page.network import network_in_page
from fastmlp.page.rows import choose_rows
from fastmlp.plots.subject import Predictions, Subject

X, Y = load_iris(return_X_y=True)
NUMBERS = X[:, :3], X[:, 3]

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def read(path):
    """The content of a page."""
    return json.loads(re.search(r'<script type="application/json" id="content">(.*?)</script>', path.read_text())[1])


def page(tmp_path, *arguments, **options):
    path = tmp_path / "page.html"
    report(*arguments, path, **options)
    return read(path)


def noisy(n_classes, n_features=4, n=200, **settings):
    """A network, which is mostly wrong, rows and labels."""
    generator = np.random.default_rng(0)
    rows = generator.standard_normal((n, n_features))
    return filled([n_features, 9, n_classes], **settings), rows, generator.integers(0, n_classes, n)


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
    net, rows, y = noisy(3, activation="tanh", seed=7)
    net.fit(rows, y, epochs=4, batch_size=16, optimizer="adam", learning_rate=0.02)
    content = page(tmp_path, net, rows, y)
    names = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fastmlp, "MLP", reference.MLP, raising=False)
        exec(content["trained"]["command"], names | {"X_train": rows, "y_train": y}, names)
    assert repr(names["net"]) == repr(net)
    np.testing.assert_allclose(names["net"].history.loss[0], reference_loss(rows, y), rtol=1e-6)
    facts = dict(content["trained"]["facts"])
    assert facts["optimizer"] == "Adam(learning_rate=0.02)"
    assert {"seed", "machine", "Python", "fastmlp", "numpy", "numba"} <= facts.keys()
    assert page(tmp_path, net, rows, y, command="make net")["trained"]["command"] == "make net"


def test_the_program_of_a_pipeline_imports_what_it_needs(tmp_path):
    model = make_pipeline(StandardScaler(), "passthrough", classifier(random_state=3)).fit(X, Y)
    names = {}
    exec(page(tmp_path, model, X, Y)["trained"]["command"], {"X_train": X, "y_train": Y}, names)
    np.testing.assert_array_equal(names["model"].predict_proba(X), model.predict_proba(X))


def reference_loss(rows, y):
    net = reference.MLP([4, 9, 3], activation="tanh", seed=7)
    return net.fit(rows, y, epochs=1, batch_size=16, optimizer="adam", learning_rate=0.02).loss[0]


# --- which models -----------------------------------------------------------------------------------------------------


def classifier(**settings):
    return MLPClassifier(**{"hidden_layer_sizes": (5,), "max_iter": 3, "random_state": 0} | settings)


def regressor(**settings):
    return MLPRegressor(**{"hidden_layer_sizes": (5,), "max_iter": 3, "random_state": 0} | settings)


def ensemble():
    made = Ensemble(reference.MLP([4, 5, 3]), n=3)
    made.fit(X, Y, epochs=1)
    return made


RUN_IN_THE_PAGE = {
    "estimator": lambda: classifier().fit(X, Y),
    "two classes": lambda: classifier().fit(X, Y == 1),
    "several networks": lambda: classifier(n_networks=2).fit(X, Y),
    "ensemble": ensemble,
    "float64": lambda: filled([4, 5, 3], dtype="float64", activation="gelu"),
    "input scale": lambda: filled([4, 5, 3], input_scale=0.1, activation=["silu"]),
    "StandardScaler": lambda: make_pipeline(StandardScaler(), classifier()).fit(X, Y),
    "without mean": lambda: make_pipeline(StandardScaler(with_mean=False), classifier()).fit(X, Y),
    "without scale": lambda: make_pipeline(StandardScaler(with_std=False), classifier()).fit(X, Y),
    "MinMaxScaler": lambda: make_pipeline(MinMaxScaler((-1, 2), clip=True), classifier()).fit(X[:60], Y[:60] // 1),
    "other scalers": lambda: make_pipeline(MaxAbsScaler(), RobustScaler(), "passthrough", classifier()).fit(X, Y),
    "nested": lambda: make_pipeline(StandardScaler(), make_pipeline(MinMaxScaler(), classifier())).fit(X, Y),
    "search": lambda: GridSearchCV(make_pipeline(StandardScaler(), classifier()), {}, cv=2).fit(X, Y),
}


def bits_of(held):
    """How many bits a parameter of the page has, counted from the top."""
    planes = np.frombuffer(zlib.decompress(base64.b64decode(held["parameters"])), np.uint8).reshape(4, -1)
    used = np.bitwise_or.reduce(planes, axis=1) @ 256 ** np.arange(4)
    return next(32 - low for low in range(32) if used >> low & 1)


@pytest.mark.parametrize("kind", RUN_IN_THE_PAGE)
def test_the_network_of_this_model_runs_in_the_page(kind, tmp_path):
    model = RUN_IN_THE_PAGE[kind]()
    y = Y == 1 if kind == "two classes" else Y % 2 if kind == "MinMaxScaler" else Y
    content = page(tmp_path, model, X, y)
    assert bits_of(content["network"]) == 32, content["network"]
    assert content["n_wrong"] == (model.predict(X) != y).sum()


def test_regression_runs_in_the_page(tmp_path):
    for model in (regressor().fit(*NUMBERS), regressor(loss="poisson", n_networks=2).fit(*NUMBERS)):
        content = page(tmp_path, model, *NUMBERS)
        assert content["kind"] == "numbers"
        assert "parameters" in content["network"]


LEFT_OUT = {
    "the step PCA": lambda: make_pipeline(PCA(2), classifier()).fit(X, Y),
    "not a network of fastmlp": lambda: RandomForestClassifier(2, random_state=0).fit(X, Y),
}


@pytest.mark.parametrize("why", LEFT_OUT)
def test_the_page_says_why_a_network_does_not_run_in_it(why, tmp_path):
    content = page(tmp_path, LEFT_OUT[why](), X, Y)
    assert why in content["network"]["why"]
    assert content["matrix"]["counts"]


def test_changed_answers_are_left_out(tmp_path):
    model = TransformedTargetRegressor(regressor(), func=np.log1p, inverse_func=np.expm1).fit(*NUMBERS)
    assert "changes its answers" in page(tmp_path, model, *NUMBERS)["network"]["why"]
    changed = classifier().fit(X, Y)
    changed.out_activation_ = "tanh"
    assert "differs from Python" in page(tmp_path, changed, X, Y)["network"]["why"]


def test_rows_that_are_no_numbers_are_shown_as_text(tmp_path):
    words = ["red apple", "green apple", "red <b>", "blue sky"] * 5
    model = make_pipeline(CountVectorizer(), classifier()).fit(words, [0, 1, 0, 1] * 5)
    content = page(tmp_path, model, words, [0, 1, 0, 1] * 5)
    assert "CountVectorizer" in content["network"]["why"]
    assert content["shown"]["cells"][0] == [words[content["shown"]["row"][0]]]


def test_tables_and_sparse_rows(tmp_path):
    pandas, sparse = pytest.importorskip("pandas"), pytest.importorskip("scipy.sparse")
    names = ["a", "b<i>", "c", "d"]
    table = pandas.DataFrame(X, columns=names)
    net = reference.MLP([4, 5, 3])
    net.fit(table, np.array(["x", "y", "z"])[Y], epochs=1)
    content = page(tmp_path, net, table, np.array(["x", "y", "z"])[Y])
    assert [field["name"] for field in content["form"]["fields"]] == names
    assert content["classes"] == ["x", "y", "z"]
    assert [field["median"] for field in content["form"]["fields"]] == pytest.approx(np.median(X, axis=0))
    plain = filled([4, 5, 3])
    assert page(tmp_path, plain, sparse.csr_array(X), Y)["shown"] == page(tmp_path, plain, X, Y)["shown"]


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


# --- the file ---------------------------------------------------------------------------------------------------------

HOSTILE = [
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(1)>",
    "\"'`${x}&amp;\u202e\u2028",
    "שלום ✓\ud800",
]


def test_names_are_data_whatever_they_hold(tmp_path):
    net, rows, y = noisy(4)
    content = page(tmp_path, net, rows, y, display_labels=HOSTILE, command="</script><!--")
    assert content["classes"] == HOSTILE
    text = (tmp_path / "page.html").read_text()
    assert text.count("<script") == text.count("</script>") == 2
    assert "onerror=alert(1)>" not in text
    assert "<!--" not in text


def test_only_the_code_of_the_page_may_run(tmp_path):
    net, rows, y = noisy(3)
    page(tmp_path, net, rows, y)
    text = (tmp_path / "page.html").read_text()
    policy = html.unescape(re.search(r'Content-Security-Policy" content="([^"]+)"', text)[1])
    for tag, directive in (("script", "script-src"), ("style", "style-src")):
        (code,) = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert (
        re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?(?!#)""", re.sub(r"<script.*?</script>", "", text, flags=re.S))
        == []
    )
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", text)


@pytest.mark.parametrize(("units", "what"), [(120, 32), (500, 28), (600, 24), (700, "")])
def test_a_page_is_smaller_than_2_megabytes(units, what, tmp_path):
    generator = np.random.default_rng(0)
    net = filled([784, units, 10])
    rows = generator.integers(0, 256, (3000, 784)).astype(np.float32) / 255  # nothing to compress
    rows[:, :200] = 0
    content = page(tmp_path, net, rows, generator.integers(0, 10, 3000))
    assert (tmp_path / "page.html").stat().st_size < 2_000_000
    if isinstance(what, int):
        assert bits_of(content["network"]) == what
    else:
        assert "its 556,510 parameters take 2." in content["network"]["why"]
    assert len(content["shown"]["row"]) >= 100


CURVES = [
    History(loss=[1 / (i + j + 3) for i in range(1000)], metrics={f"val_{k}": [0.123456] * 1000 for k in range(9)})
    for j in range(20)
]
LARGE = {  # layers, output, rows, and options
    "long names of classes": (
        [4, 3, 1000],
        "softmax",
        3000,
        {"display_labels": ["é" * 300 + str(i) for i in range(1000)]},
    ),
    "many classes": ([4, 3, 2500], "softmax", 3000, {}),
    "labels": ([4, 3, 1000], "logistic", 800, {}),
    "outputs": ([4, 3, 2000], "identity", 300, {}),
    "features": ([200_000, 2], "softmax", 20, {}),
    "curves": ([4, 3, 3], "softmax", 200, {"history": CURVES}),
}


@pytest.mark.parametrize("kind", LARGE)
def test_whatever_is_large_leaves_the_page_small(kind, tmp_path):
    layers, output, n, options = LARGE[kind]
    generator, net = np.random.default_rng(0), filled(layers, output=output)
    rows = generator.standard_normal((n, layers[0]), dtype=np.float32)
    y = generator.integers(0, 2, (n, layers[-1])) if output != "softmax" else generator.integers(0, layers[-1], n)
    content = page(tmp_path, net, rows, y, **options)
    assert (tmp_path / "page.html").stat().st_size < 2_000_000
    assert len(content["shown"]["row"]) > 10
    if kind != "features":
        assert "parameters" in content["network"]
    if kind == "many classes":
        listed = content["per_class"]
        assert len(listed) == 1000
        guess = net.predict(rows)
        _, recall, _, n_true = metrics.precision_recall_fscore_support(
            y, guess, labels=np.arange(2500), zero_division=0
        )
        assert [of["n_true"] for of in listed] == n_true[[of["class"] for of in listed]].tolist()
        assert [of["recall"] for of in listed] == recall[[of["class"] for of in listed]].tolist()


def test_errors_without_end_come_first():
    predicted = np.arange(100.0)
    predicted[[7, 50]] = np.nan, np.inf
    shown = choose_rows(Predictions("numbers", np.zeros(0), [], np.zeros(100), predicted, None))
    assert shown["row"][:3] == [7, 50, 99]


def test_a_network_that_python_does_not_agree_with_is_left_out():
    net, rows, y = noisy(3)
    subject = Subject.of(net)
    predictions = subject.predictions(rows, y)
    assert "parameters" in network_in_page(subject, rows, predictions, None, 10**6)
    predictions.probabilities[7, 1] += 2e-5
    assert "2.0e-05" in network_in_page(subject, rows, predictions, None, 10**6)["why"]


def test_bad_arguments_are_refused_and_the_old_page_is_kept(tmp_path):
    net, rows, y = noisy(3)
    path = tmp_path / "page.html"
    path.write_text("old")
    for error, message, arguments, options in (
        (TypeError, "net must be an MLP", (3, rows, y), {}),
        (TypeError, "history must be a History", (net, rows, y), {"history": [1.0]}),
        (TypeError, "history must be a History", (net, rows, y), {"history": 3}),
        (TypeError, "command must be a string", (net, rows, y), {"command": 3}),
        (ValueError, "X has 5 features", (net, np.ones((3, 5)), y[:3]), {}),
        (ValueError, "y has label 7", (net, rows, np.full(200, 7)), {}),
        (ValueError, "display_labels must be a list of 3 names", (net, rows, y), {"display_labels": ["a"]}),
        (ValueError, "shape (2, 3) has 6 numbers", (net, rows, y), {"shape": (2, 3)}),
    ):
        with pytest.raises(error, match=re.escape(message)):
            report(*arguments, path, **options)
        assert path.read_text() == "old"
    with pytest.raises(NotFittedError):
        report(MLPClassifier(), rows, y, path)
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        report(net, rows, y, tmp_path / "none" / "page.html")
    with pytest.raises(IsADirectoryError):
        report(net, rows, y, tmp_path)
    assert [each.name for each in tmp_path.iterdir()] == ["page.html"]


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
