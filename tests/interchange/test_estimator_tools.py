"""Tools that know scikit-learn's estimators: files without pickles, and converters. See also `test_fitted.py`."""

import copy
import json
import shutil
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from support.fitted import DIGITS, IRIS, brief, compiled, fitted, network, one_thread, ours, same_bits

from fastmlp import MLP, MLPClassifier, MLPRegressor, reference
from fastmlp.activations import ACTIVATIONS
from fastmlp.optimizers import AdamW
from fastmlp.schedules import Cosine

__all__ = ["network", "one_thread"]  # fixtures

pytestmark = pytest.mark.loops("torch")
X, Y = IRIS
SOLVERS = {"adam": {}, "momentum": {"solver": "sgd"}, "plain": {"solver": "sgd", "momentum": 0}}
each_solver = pytest.mark.parametrize("settings", SOLVERS.values(), ids=SOLVERS)


# --- skops ------------------------------------------------------------------------------------------------------------


@brief
@pytest.mark.parametrize("begun", ["fit", "partial_fit", "warm_start"])
def test_skops_trusts_little(begun):
    """Everything but the estimator itself is data; objects of this library that were given are named as well."""
    skops = pytest.importorskip("skops.io")
    given = {"solver": AdamW(), "learning_rate": Cosine()}
    for settings, more in [({}, []), (given, ["fastmlp.optimizers.AdamW", "fastmlp.schedules.known.Cosine"])]:
        estimator = MLPClassifier((5,), max_iter=3, random_state=0, warm_start=begun == "warm_start", **settings)
        if begun == "partial_fit":
            estimator.partial_fit(X, Y, classes=[0, 1, 2])
        else:
            estimator.fit(X, Y)
        written = skops.dumps(estimator)
        untrusted = skops.get_untrusted_types(data=written)
        assert untrusted == ["fastmlp.estimators.classifier.MLPClassifier", *more]
        loaded = skops.loads(written, trusted=untrusted)
        for each in (estimator, loaded):
            each.fit(X, Y) if begun == "warm_start" else each.partial_fit(X, Y)
        assert same_bits(loaded, estimator)


@pytest.mark.parametrize("kind", [MLP, reference.MLP])
def test_skops_and_networks(kind):
    skops = pytest.importorskip("skops.io")
    net = kind([4, 5, 3], seed=1)
    if kind is reference.MLP:
        net.fit(X, Y, epochs=2, optimizer="adam")
    written = skops.dumps(net)
    loaded = skops.loads(written, trusted=skops.get_untrusted_types(data=written))
    np.testing.assert_equal(loaded.state_dict(), net.state_dict())


# --- pymilo -----------------------------------------------------------------------------------------------------------


def through_pymilo(estimator, folder):
    pymilo = pytest.importorskip("pymilo")
    pymilo.Export(estimator).save(str(folder / "model.json"))
    json.loads((folder / "model.json").read_text())
    return pymilo.Import(str(folder / "model.json")).to_model()


@brief
@ours
@each_solver
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_pymilo(kind, settings, dtype, tmp_path):
    """It reads our estimators as scikit-learn's, with all attributes: even the optimizer continues to the bit."""
    rows = X.astype(dtype)
    estimator = kind(hidden_layer_sizes=(5,), max_iter=3, random_state=0, **settings).fit(rows, Y).partial_fit(rows, Y)
    theirs = through_pymilo(estimator, tmp_path)
    np.testing.assert_allclose(theirs.predict(rows), estimator.predict(rows), rtol=1e-6)
    own = kind.from_sklearn(theirs)
    np.testing.assert_array_equal(own.predict(rows), estimator.predict(rows))
    for _ in range(2):
        own.partial_fit(rows, Y)
        estimator.partial_fit(rows, Y)
    assert same_bits(own, estimator)


@ours
@pytest.mark.parametrize("settings", [{"solver": "lbfgs"}, {"activation": ["tanh"]}, {"early_stopping": True}])
def test_pymilo_of_what_was_converted(kind, settings, tmp_path):
    estimator = fitted(kind, **settings)
    theirs = through_pymilo(estimator.to_sklearn(), tmp_path)
    np.testing.assert_allclose(theirs.predict(X), estimator.predict(X), rtol=1e-13)


# --- converters -------------------------------------------------------------------------------------------------------

BOTH = [(MLPClassifier, IRIS), (MLPClassifier, (X[:100], Y[:100])), (MLPRegressor, IRIS)]
each_kind = pytest.mark.parametrize(("kind", "data"), BOTH, ids=["classes", "two classes", "number"])


@pytest.mark.filterwarnings("ignore")
@each_kind
def test_hummingbird(kind, data):
    hummingbird = pytest.importorskip("hummingbird.ml")
    estimator = fitted(kind, data, max_iter=30)
    converted = hummingbird.convert(estimator.to_sklearn(), "torch")
    np.testing.assert_allclose(converted.predict(data[0]), estimator.predict(data[0]), rtol=1e-5, atol=1e-6)
    if kind is MLPClassifier:
        np.testing.assert_allclose(converted.predict_proba(data[0]), estimator.predict_proba(data[0]), atol=1e-6)


@pytest.mark.filterwarnings("ignore")
@compiled
def test_hummingbird_of_the_compiled_network():
    hummingbird = pytest.importorskip("hummingbird.ml")
    rows = DIGITS[0].astype("f4"), DIGITS[1]
    estimator = fitted(MLPClassifier, rows, max_iter=2)
    converted = hummingbird.convert(estimator.to_sklearn(), "torch")
    np.testing.assert_array_equal(converted.predict(rows[0]), estimator.predict(rows[0]))
    np.testing.assert_allclose(converted.predict_proba(rows[0]), estimator.predict_proba(rows[0]), atol=2e-6)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("kind", "data"), [pytest.param(*each, marks=[pytest.mark.slow] * (i > 0)) for i, each in enumerate(BOTH)]
)
def test_sklearn2pmml(kind, data, tmp_path, monkeypatch):
    pmml = pytest.importorskip("sklearn2pmml")
    if shutil.which("java") is None:
        pytest.skip("sklearn2pmml needs Java")
    monkeypatch.setattr(
        "sklearn.base.__version__", "1.6.1"
    )  # the converter refuses versions that are newer than itself
    estimator = fitted(kind, data, max_iter=30, activation="tanh", hidden_layer_sizes=(7, 5))
    names = ["a", "b", "c", "d"]
    pipeline = pmml.make_pmml_pipeline(estimator.to_sklearn(), active_fields=names, target_fields=["y"])
    pmml.sklearn2pmml(pipeline, str(tmp_path / "model.pmml"))
    expected = estimator.predict_proba(X)[:, 1:] if kind is MLPClassifier else estimator.predict(X)[:, None]
    outputs = evaluated(tmp_path / "model.pmml", X)[:, -expected.shape[1] :]
    np.testing.assert_allclose(outputs, expected, rtol=1e-12, atol=1e-15)


def evaluated(path, X):
    """Return the outputs of the neurons of a PMML file."""
    root = ElementTree.parse(path).getroot()
    mark = root.tag.partition("}")[0] + "}"
    (net,) = root.iter(f"{mark}NeuralNetwork")
    values = {node.get("id"): X[:, i] for i, node in enumerate(net.iter(f"{mark}NeuralInput"))}
    outputs = None
    for layer in net.iter(f"{mark}NeuralLayer"):
        sums = np.stack([
            float(neuron.get("bias", 0)) + sum(float(c.get("weight")) * values[c.get("from")] for c in neuron)
            for neuron in layer
        ], axis=1)  # fmt: skip
        function = layer.get("activationFunction", net.get("activationFunction"))
        outputs = ACTIVATIONS[function].value(sums)
        if layer.get("normalizationMethod") == "softmax":
            outputs = np.exp(outputs - outputs.max(axis=1, keepdims=True))
            outputs /= outputs.sum(axis=1, keepdims=True)
        values |= {neuron.get("id"): outputs[:, i] for i, neuron in enumerate(layer)}
    return outputs


# --- copies -----------------------------------------------------------------------------------------------------------


@brief
@ours
def test_conversions_do_not_change_what_partial_fit_does_next(kind):
    estimator = fitted(kind)
    alone = copy.deepcopy(estimator)
    for _ in range(3):
        estimator.to_sklearn().partial_fit(X, Y)
        estimator.network_.weights[0][:] = 0
        estimator.hidden_activations(X)
        kind.from_sklearn(estimator.to_sklearn()).partial_fit(X, Y)
        assert same_bits(estimator.partial_fit(X, Y), alone.partial_fit(X, Y))
