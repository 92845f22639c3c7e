"""ONNX models of the estimators: their own, and those of skl2onnx."""

import subprocess
import sys

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.neural_network import MLPClassifier as TheirClassifier
from sklearn.neural_network import MLPRegressor as TheirRegressor
from support.fitted import IRIS, brief, fitted, network, one_thread  # noqa: F401
from support.nets import ROOT, refused

from fastmlp import MLPClassifier, MLPRegressor, reference
from fastmlp.interchange.onnx import pipelines

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

pytestmark = brief

X64 = np.random.default_rng(0).normal(size=(300, 4))
X = X64.astype(np.float32)
CODES = (X64[:, 0] > -0.5).astype(int) + (X64[:, 1] > 0.3)
TWO = (X64[:, 0] > 0).astype(int)
LABELS = (X64[:, :3] > 0).astype(int)
TARGETS = {
    "classes": CODES + 5,
    "negative": CODES - 7,
    "two": TWO,
    "strings": np.array(["é", "bb", "c"])[CODES],
    "objects": np.array(["é", "bb", "c"], object)[CODES],
    "two strings": np.array(["no", "yes"])[TWO],
    "bools": TWO == 1,
    "floats": CODES + 1.0,
    "one class": np.full(300, 3),
    "labels": LABELS,
}


def run(model, rows):
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {"X": rows}), strict=True))


@pytest.mark.parametrize("target", TARGETS)
def test_labels_and_probabilities_of_a_classifier(target):
    for rows, tolerance in ((X, 2e-6), (X64, 1e-13)):
        classifier = fitted(data=(rows, TARGETS[target]), activation=["gelu", "elu"], hidden_layer_sizes=(7, 5))
        model = classifier.to_onnx()
        onnx.checker.check_model(model, full_check=True)
        got = run(model, rows)
        np.testing.assert_array_equal(got["label"], classifier.predict(rows))
        np.testing.assert_allclose(got["probabilities"], classifier.predict_proba(rows), rtol=0, atol=tolerance)


def test_numbers_of_a_regressor():
    for y, loss in ((X64[:, 0], "squared_error"), (X64[:, :2], "squared_error"), (abs(X64[:, 0]), "poisson")):
        regressor = fitted(MLPRegressor, (X64, y), loss=loss)
        expected, got = regressor.predict(X64), run(regressor.to_onnx(), X64)["variable"]
        assert got.shape == expected.shape
        np.testing.assert_allclose(got, expected, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("function", ["identity", "relu", "tanh", "exp", "softmax", "logistic"])
def test_attributes_that_were_assigned(function):
    for y in (CODES, TWO, LABELS):
        classifier = fitted(data=(X, y))
        classifier.out_activation_ = function
        classifier.coefs_ = [coef * 2 for coef in classifier.coefs_]
        if function == "softmax" and y is TWO:
            continue  # always 1
        got = run(classifier.to_onnx(), X)
        np.testing.assert_array_equal(got["label"], classifier.predict(X))
        np.testing.assert_allclose(got["probabilities"], classifier.predict_proba(X), rtol=2e-6, atol=2e-6)


def test_files_and_errors(tmp_path):
    classifier = fitted(data=(X, CODES))
    assert classifier.to_onnx(tmp_path / "model.onnx") == onnx.load(tmp_path / "model.onnx")
    net = reference.MLP.from_onnx(tmp_path / "model.onnx")
    np.testing.assert_allclose(net.predict_proba(X), classifier.predict_proba(X), atol=1e-7)
    with pytest.raises(NotFittedError):
        MLPClassifier().to_onnx()
    pd = pytest.importorskip("pandas")
    table = pd.DataFrame(X, columns=list("abcd"))
    assert reference.MLP.from_onnx(fitted(data=(table, CODES)).to_onnx()).feature_names == list("abcd")


# --- skl2onnx ---------------------------------------------------------------------------------------------------------


def converted(model, rows, **settings):
    skl2onnx = pytest.importorskip("skl2onnx")
    return run(skl2onnx.to_onnx(model, rows[:1], **settings), rows)


@pytest.mark.parametrize("target", [name for name in TARGETS if name != "one class"])
def test_skl2onnx_finds_the_classifier(target):
    classifier = fitted(data=(X, TARGETS[target]), activation="silu")
    got = converted(classifier, X, options={"zipmap": False})
    np.testing.assert_array_equal(got["label"], classifier.predict(X))
    np.testing.assert_allclose(got["probabilities"], classifier.predict_proba(X), rtol=0, atol=2e-6)


def test_skl2onnx_finds_the_regressor():
    for y in (X64[:, 0], X64[:, :2]):
        regressor = fitted(MLPRegressor, (X64, y), activation="elu")
        got = converted(regressor, X64)["variable"]
        np.testing.assert_allclose(got, regressor.predict(X64).reshape(300, -1), rtol=1e-13, atol=1e-13)


def test_skl2onnx_converts_pipelines_and_other_estimators_around_ours():
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.model_selection import GridSearchCV
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    names = TARGETS["strings"]
    own = MLPClassifier((5,), "gelu", max_iter=5, random_state=0)
    for model in (
        make_pipeline(StandardScaler(), own),
        GridSearchCV(own, {"alpha": [0.1, 1.0]}, cv=2),
        CalibratedClassifierCV(own, cv=2),
        OneVsRestClassifier(own),
    ):
        y = names if not isinstance(model, OneVsRestClassifier) else CODES
        got = converted(model.fit(X, y), X, options={"zipmap": False})
        np.testing.assert_array_equal(got["label"], model.predict(X))
        np.testing.assert_allclose(got["probabilities"], model.predict_proba(X), rtol=0, atol=2e-6)


def test_options_of_skl2onnx():
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    classifier = fitted(data=(X, TARGETS["strings"]))
    dicts = converted(classifier, X)["output_probability"]
    assert [*dicts[0]] == ["bb", "c", "é"]
    dicts = converted(make_pipeline(StandardScaler(), classifier).fit(X, TARGETS["strings"]), X)["output_probability"]
    assert [*dicts[0]] == ["bb", "c", "é"]
    assert {"sbb", "sc", "sé"} <= converted(classifier, X, options={"zipmap": "columns"}).keys()
    numbered = converted(classifier, X, options={"zipmap": False, "nocl": True})["label"]
    np.testing.assert_array_equal(classifier.classes_[numbered], classifier.predict(X))
    for opset in (9, 12, 13, 18):
        got = converted(classifier, X, options={"zipmap": False}, target_opset=opset)
        np.testing.assert_array_equal(got["label"], classifier.predict(X))


def test_dtypes_of_skl2onnx():
    for trained, given in ((X64, X), (X, X64)):
        classifier = fitted(data=(trained, CODES))
        got = converted(classifier, given, options={"zipmap": False})
        assert got["probabilities"].dtype == given.dtype
        np.testing.assert_allclose(got["probabilities"], classifier.predict_proba(given), rtol=0, atol=2e-6)


def test_the_order_of_imports_does_not_matter(monkeypatch):
    _supported = pytest.importorskip("skl2onnx._supported_operators")
    program = (
        "import sys\nfrom fastmlp import MLPClassifier\nassert not {'onnx', 'skl2onnx'} & set(sys.modules)\n"
        "from skl2onnx.common import utils\nfrom skl2onnx._supported_operators import sklearn_operator_name_map\n"
        "assert sklearn_operator_name_map[MLPClassifier] == 'FastmlpMLPClassifier'\n"
        "assert not [finder for finder in sys.meta_path if getattr(finder, 'name', '') == 'skl2onnx']\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True, cwd=ROOT)
    with monkeypatch.context() as patch:
        patch.delattr("skl2onnx.update_registered_converter")  # of a version to come
        with pytest.warns(UserWarning, match="skl2onnx will not know the estimators"):
            pipelines.register(MLPClassifier, MLPRegressor)
    del _supported.sklearn_operator_name_map[MLPClassifier]
    pipelines.register(MLPClassifier, MLPRegressor)  # as `import fastmlp.estimators` does after skl2onnx
    assert MLPClassifier in _supported.sklearn_operator_name_map


# --- files of skl2onnx ------------------------------------------------------------------------------------------------


def test_networks_from_scikit_learns_files():
    skl2onnx = pytest.importorskip("skl2onnx")
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    settings = {"hidden_layer_sizes": (6, 5), "max_iter": 5, "activation": "tanh", "random_state": 0}
    for rows, target in ((X, "classes"), (X, "two"), (X, "two strings"), (X64, "strings"), (X, "labels")):
        theirs = TheirClassifier(**settings).fit(rows, TARGETS[target])
        for options in ({"zipmap": False}, None):
            net = reference.MLP.from_onnx(skl2onnx.to_onnx(theirs, rows[:1], options=options))
            assert net.dtype == rows.dtype
            np.testing.assert_array_equal(net.predict(rows), theirs.predict(rows))
            np.testing.assert_allclose(net.predict_proba(rows), theirs.predict_proba(rows), rtol=0, atol=2e-6)
    for y in (X64[:, 0], X64[:, :2]):
        theirs = TheirRegressor(**settings).fit(X64, y)
        net = reference.MLP.from_onnx(skl2onnx.to_onnx(theirs, X64[:1]))
        np.testing.assert_allclose(net.predict(X64), theirs.predict(X64), rtol=1e-13, atol=1e-13)
    pipeline = make_pipeline(StandardScaler(), TheirClassifier(**settings)).fit(*IRIS)
    net = reference.MLP.from_onnx(skl2onnx.to_onnx(pipeline, IRIS[0][:1].astype(np.float32)))
    np.testing.assert_allclose(net.predict_proba(IRIS[0]), pipeline.predict_proba(IRIS[0]), rtol=0, atol=1e-5)


def test_mistakes_are_named():
    from sklearn.tree import DecisionTreeClassifier

    skl2onnx = pytest.importorskip("skl2onnx")
    tree = skl2onnx.to_onnx(DecisionTreeClassifier().fit(X, CODES), X[:1])
    with refused(ValueError, "(TreeEnsembleClassifier) computes what no multilayer perceptron does"):
        reference.MLP.from_onnx(tree)
