"""`Ensemble`: its members, its mean, its spread, its files."""

import copy
import pickle

import numpy as np
import pytest
from scipy import sparse
from sklearn.metrics import accuracy_score, log_loss, r2_score
from support.files import flipped
from support.names import same_everywhere
from support.nets import assert_bits, both_kinds, data, parameters, refused, snapshot

from fastmlp import MLP, Ensemble, MLPClassifier, callbacks, datasets, reference
from fastmlp.random import bootstrap_rows, member_seeds

pytestmark = pytest.mark.loops("plain SGD")

X, Y = data(60, seed=3)
OUTPUTS = {
    "softmax": Y,
    "logistic": (Y[:, None] == np.arange(3)).astype(int),
    "identity": X[:, :3] * 3 + 1,
    "exp": np.abs(X[:, :3]).round(),
}
each_output = pytest.mark.parametrize("output", OUTPUTS)


def fitted(output="softmax", n=3, kind=reference.MLP, layers=(4, 6, 3), y=None, **settings):
    ensemble = Ensemble(kind(layers, output=output), n, **settings)
    ensemble.fit(X, OUTPUTS[output] if y is None else y, epochs=3, batch_size=8, learning_rate=0.02)
    return ensemble


# --- members ----------------------------------------------------------------------------------------------------------


@both_kinds
def test_members_have_the_settings_and_seeds_of_their_own(kind):
    net = kind([4, 6, 3], input_scale=0.5, n_threads=2, seed=9)
    before = snapshot(net)
    ensemble = Ensemble(net, n=4)
    assert len(ensemble) == len(list(ensemble)) == len(ensemble.members) == 4
    assert ensemble[0] is ensemble.members[0]
    assert ensemble[1:3] == ensemble.members[1:3]
    assert ensemble[-1] in ensemble
    assert len({member.seed for member in ensemble}) == 4
    for member in ensemble:
        assert type(member) is kind
        assert repr(member).replace(str(member.seed), "9") == repr(net)
        assert member.n_threads == 2
        assert_bits(member, parameters(kind([4, 6, 3], seed=member.seed)))
    ensemble.fit(X, Y, epochs=1)
    assert_bits(net, before)
    with pytest.raises(AttributeError):
        ensemble.members = ()


def test_a_member_is_the_same_in_a_larger_ensemble():
    assert member_seeds(5, 3) == member_seeds(5, 30)[:3]
    assert member_seeds(5, 3) != member_seeds(6, 3)
    small, large = fitted(n=2, seed=5, bootstrap=True), fitted(n=3, seed=5, bootstrap=True)
    for one, other in zip(small, large, strict=False):
        assert_bits(one, parameters(other))
    assert len(set(member_seeds(None, 9) + member_seeds(None, 9))) == 18


def test_a_trained_network_gives_its_settings_and_no_more():
    net = reference.MLP([4, 6, 3])
    net.fit(X, np.array(list("abc"))[Y], epochs=1)
    net.note = "kept"
    ensemble = Ensemble(net)
    assert ensemble.classes is None
    assert all(member.history.loss == [] and member.note == "kept" for member in ensemble)
    assert_bits(ensemble[0], parameters(reference.MLP([4, 6, 3], seed=ensemble[0].seed)))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"net": MLP}, TypeError, "net must be a network, e.g. MLP([784, 128, 10]), not the class MLP"),
        ({"net": [4, 3]}, TypeError, "not list"),
        ({"net": MLPClassifier()}, TypeError, "not MLPClassifier; estimators have n_networks instead"),
        ({"n": 0}, ValueError, "n must be at least 1, not 0"),
        ({"n": 2.0}, TypeError, "n must be an integer"),
        ({"bootstrap": 1}, TypeError, "bootstrap must be True or False"),
        ({"seed": -1}, ValueError, "seed must be at least 0"),
        ({"n_members": 3}, TypeError, "unknown argument 'n_members'"),
    ],
    ids=same_everywhere,
)
def test_wrong_arguments(arguments, error, message):
    with refused(error, message):
        Ensemble(**{"net": reference.MLP([4, 3])} | arguments)


# --- training ---------------------------------------------------------------------------------------------------------


def test_fit_is_that_of_each_member():
    ensemble = Ensemble(reference.MLP([4, 6, 3]), 3)
    histories = ensemble.fit(X, Y, epochs=3, batch_size=8, learning_rate=0.02)
    assert histories == ensemble.histories
    for member in ensemble:
        alone = reference.MLP([4, 6, 3], seed=member.seed)
        assert alone.fit(X, Y, epochs=3, batch_size=8, learning_rate=0.02).loss == member.history.loss
        assert_bits(member, parameters(alone))


@pytest.mark.parametrize("bootstrap", [False, True])
def test_a_fit_that_is_resumed_is_one_long_fit(bootstrap):
    one, other = fitted(bootstrap=bootstrap), fitted(bootstrap=bootstrap)
    for ensemble, epochs in ((one, [5]), (copy.copy(other), [4, 5])):
        for n in epochs:
            ensemble.fit(X, Y, epochs=n, batch_size=8, resume=True)
        for member, first in zip(ensemble, one, strict=True):
            assert len(member.history.loss) == 5
            assert_bits(member, parameters(first))
    assert len(other[0].history.loss) == 3


def test_bootstrap_rows_are_drawn_from_the_members_seed():
    ensemble = fitted(bootstrap=True)
    for member in ensemble:
        rows = bootstrap_rows(member.seed, len(X))
        assert 0.5 < len(set(rows.tolist())) / len(X) < 0.75  # 1 - 1/e
        alone = reference.MLP([4, 6, 3], seed=member.seed)
        alone.fit(X[rows], Y[rows], epochs=3, batch_size=8, learning_rate=0.02)
        assert_bits(member, parameters(alone))


def test_each_member_has_its_own_callbacks():
    early, ensemble = callbacks.EarlyStopping("loss", patience=1), Ensemble(reference.MLP([4, 6, 3]), 3)
    ensemble.fit(X, Y, epochs=9, learning_rate=0.9, callbacks=[early])
    assert early.best_epoch == 0
    stops = [callbacks.EarlyStopping("loss", patience=1) for _ in range(3)]
    twin = Ensemble(reference.MLP([4, 6, 3]), 3)
    twin.fit(X, Y, epochs=9, learning_rate=0.9, fits=({"callbacks": [stop]} for stop in stops), callbacks=[early])
    assert [len(history.loss) for history in twin.histories] == [len(history.loss) for history in ensemble.histories]
    assert all(stop.best_epoch for stop in stops)
    assert early.best_epoch == 0


@pytest.mark.parametrize(
    ("settings", "arguments", "error", "message"),
    [
        ({}, {"lr": 0.1}, TypeError, "unknown argument 'lr'; did you mean 'learning_rate'?"),
        ({}, {"fits": [{}]}, ValueError, "fits has 1 dicts for 3 networks"),
        ({}, {"callbacks": [callbacks.CSVLog("x.csv")]}, ValueError, "CSVLog writes, and networks that train at the"),
        ({"bootstrap": True}, {"validation_fraction": 0.1}, ValueError, "validation_fraction does not go with"),
        ({"bootstrap": True}, {"fits": [{"rows": [0]}] * 3}, ValueError, "bootstrap=True draws the rows"),
        ({"bootstrap": True}, {"fits": [1, 2, 3]}, TypeError, "fits[0] must be a dict"),
        ({"bootstrap": True}, {"y": []}, ValueError, "X has 60 rows, but y has 0"),
        ({"bootstrap": True}, {"y": Y[:9]}, ValueError, "X has 60 rows, but y has 9"),
        ({"bootstrap": True}, {"y": sparse.csr_array(np.eye(3)[Y])}, TypeError, "y is sparse; make it dense first"),
    ],
    ids=same_everywhere,
)
def test_a_wrong_fit_changes_nothing(settings, arguments, error, message):
    ensemble = Ensemble(reference.MLP([4, 6, 3]), 3, **settings)
    with refused(error, message):
        ensemble.fit(**{"X": X, "y": Y, "epochs": 1} | arguments)
    assert all(member.history.steps == 0 for member in ensemble)


# --- prediction -------------------------------------------------------------------------------------------------------


@both_kinds
@pytest.mark.parametrize("n", [1, 3])
def test_probabilities_are_the_mean_in_the_order_of_the_members(kind, n):
    ensemble = fitted(kind=kind, n=n)
    total = np.zeros((len(X), 3))
    for member in ensemble:
        total += member.predict_proba(X)
    expected = (total / n).astype("float32")
    for threads in (1, 2):
        for member in ensemble:
            member.n_threads = threads
        assert ensemble.predict_proba(X).tobytes() == expected.tobytes()
    np.testing.assert_array_equal(ensemble.predict(X), expected.argmax(axis=1))
    assert ensemble.score(X, Y) == accuracy_score(Y, expected.argmax(axis=1))


@each_output
def test_predictions_have_the_form_of_y(output):
    ensemble, y = fitted(output), OUTPUTS[output]
    predicted = ensemble.predict(X)
    assert (predicted.shape, predicted.dtype) == (y.shape, ensemble[0].predict(X).dtype)
    if output in ("identity", "exp"):
        np.testing.assert_allclose(predicted, np.mean([member.predict(X) for member in ensemble], axis=0), rtol=1e-6)
        assert ensemble.score(X, y) == pytest.approx(r2_score(y, predicted))
        with refused(TypeError, "have no probabilities"):
            ensemble.predict_proba(X)
    else:
        assert ensemble.score(X, y) == accuracy_score(y, predicted)
    if output == "logistic":
        np.testing.assert_array_equal(predicted, ensemble.predict_proba(X) > 0.5)


def test_two_classes_in_one_output():
    ensemble = fitted("logistic", layers=(4, 6, 1), y=Y > 0)
    p = ensemble.predict_proba(X)
    assert p.shape == (60, 2)
    np.testing.assert_array_equal(ensemble.predict(X), p[:, 1] > 0.5)
    assert ensemble.evaluate(X, Y > 0)["loss"] == pytest.approx(log_loss(Y > 0, p[:, 1]), rel=1e-5)
    assert ensemble.spread(X).shape == (60,)


def test_the_names_of_classes_and_columns_are_known():
    pandas = pytest.importorskip("pandas")
    table, names = pandas.DataFrame(X, columns=list("abcd")), np.array(["red", "green", "blue"])[Y]
    ensemble = Ensemble(reference.MLP([4, 6, 3]), 2)
    ensemble.fit(table.to_numpy(), names, epochs=1)
    ensemble[1].fit(table, names, epochs=1)
    assert ensemble.classes.tolist() == ["blue", "green", "red"]
    assert set(ensemble.predict(X)) <= {"red", "green", "blue"}
    assert ensemble.evaluate(X, names, metrics=["f1"]).keys() == {"loss", "accuracy", "f1"}
    ensemble[0].initialize()
    assert ensemble.feature_names == list("abcd")
    assert ensemble.classes.tolist() == ["blue", "green", "red"]
    with refused(ValueError, "another order than in training"):
        ensemble.predict(table[list("badc")])
    ensemble[0].fit(X, np.array(["x", "y", "z"])[Y], epochs=1)
    with refused(ValueError, "members have learned different classes"):
        ensemble.predict(X)


def test_untrained_members_predict_as_a_network_does():
    ensemble = Ensemble(reference.MLP([4, 3]), 2)
    np.testing.assert_allclose(
        ensemble.predict_proba(X), (ensemble[0].predict_proba(X) + ensemble[1].predict_proba(X)) / 2
    )


@each_output
def test_one_member_measures_what_the_network_does(output):
    ensemble, y = fitted(output, n=1), OUTPUTS[output]
    expected = ensemble[0].evaluate(X, y, sample_weight=np.arange(60))
    measured = ensemble.evaluate(X, y, sample_weight=np.arange(60))
    assert measured == pytest.approx(expected, rel=1e-5)
    assert ensemble.score(X, y) == ensemble[0].score(X, y)


def test_smoothed_labels_are_measured_as_a_network_does():
    ensemble = Ensemble(reference.MLP([4, 3], label_smoothing=0.1), 1)
    assert ensemble.evaluate(X, Y) == pytest.approx(ensemble[0].evaluate(X, Y), rel=1e-5)


@pytest.mark.parametrize("output", ["softmax", "logistic"])
def test_the_loss_of_a_certain_mistake_is_finite(output):
    ensemble = Ensemble(reference.MLP([1, 2], output=output), 2)
    for member in ensemble:
        member.weights[0][:] = [[1000, -1000]]
    y = np.array([1]) if output == "softmax" else np.array([[0, 1]])
    assert 17 < ensemble.evaluate([[1.0]], y)["loss"] < 100


# --- spread -----------------------------------------------------------------------------------------------------------


def divergence(probabilities):
    """The mean of KL(p_m || mean), by its definition."""
    p = np.array(probabilities, np.float64)
    return np.mean((p * np.log(p / p.mean(axis=0))).sum(axis=-1), axis=0)


def test_spread_is_the_jensen_shannon_divergence():
    ensemble = fitted(n=4)
    expected = divergence([member.predict_proba(X) for member in ensemble])
    np.testing.assert_allclose(ensemble.spread(X), expected, rtol=1e-3, atol=1e-7)
    labels = fitted("logistic", n=4)
    both = [np.stack([p := member.predict_proba(X).astype(float), 1 - p], axis=-1) for member in labels]
    np.testing.assert_allclose(labels.spread(X), divergence(both), rtol=1e-6)


def test_spread_is_zero_where_all_agree_and_bounded_where_none_does():
    ensemble = Ensemble(reference.MLP([1, 3]), 3)
    for i, member in enumerate(ensemble):
        member.weights[0][:] = 1000 * (np.arange(3) == i)
    np.testing.assert_allclose(ensemble.spread([[1.0], [0.0]]), [np.log(3), 0], atol=1e-15)


@pytest.mark.parametrize("output", ["identity", "exp"])
def test_the_standard_deviation_of_regression(output):
    ensemble = fitted(output, n=4)
    expected = np.std([member.predict(X).astype(float) for member in ensemble], axis=0)
    np.testing.assert_allclose(ensemble.predict_std(X), expected, rtol=1e-10)
    np.testing.assert_array_equal(ensemble.spread(X), ensemble.predict_std(X))
    assert not Ensemble(ensemble[0], 1).predict_std(X).any()
    with refused(TypeError, "predict_std is for regression, not for output='softmax'; use spread"):
        fitted().predict_std(X)


def test_a_large_mean_hides_no_spread():
    ensemble = Ensemble(reference.MLP([1, 1], output="identity", dtype="float64"), 2)
    for i, member in enumerate(ensemble):
        member.weights[0][:] = 0
        member.biases[0][:] = 1e9 + i
    np.testing.assert_array_equal(ensemble.predict_std([[1.0]]), [0.5])


# --- copies and files -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_copies_share_nothing(copied):
    ensemble = fitted()
    ensemble.note = "kept"
    twin = copied(ensemble)
    assert (type(twin), twin.note, repr(twin)) == (Ensemble, "kept", repr(ensemble))
    before = [snapshot(member) for member in ensemble]
    twin.fit(X, Y, epochs=4, resume=True)
    for member, parameters_before, other in zip(ensemble, before, twin, strict=True):
        assert_bits(member, parameters_before)
        assert len(other.history.loss) == 4


def test_repr_makes_the_same_ensemble():
    ensemble = Ensemble(MLP([4, 3], activation="tanh", seed=8), 3, bootstrap=True, seed=None)
    assert repr(ensemble).endswith("n=3, bootstrap=True, seed=None)")
    ensemble = Ensemble(MLP([4, 3], activation="tanh", seed=8), 3, seed=7)
    twin = eval(repr(ensemble), {"MLP": MLP, "Ensemble": Ensemble})
    for one, other in zip(ensemble, twin, strict=True):
        assert_bits(one, parameters(other))


@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("seed", [None, 10**30])
def test_save_and_load(tmp_path, suffix, training, seed):
    if suffix == "safetensors":
        pytest.importorskip("safetensors")
    path, ensemble = tmp_path / f"nets.{suffix}", Ensemble(reference.MLP([4, 6, 3]), 12, bootstrap=True, seed=seed)
    ensemble.fit(X, np.array(["a", "b", "c"])[Y], epochs=2)
    ensemble.save(path, training=training)
    loaded = Ensemble.load(str(path))
    assert repr(loaded) == repr(ensemble)
    assert all(type(member) is MLP for member in loaded)
    for one, other in zip(ensemble, loaded, strict=True):
        assert_bits(other, parameters(one))
        assert other.classes.tolist() == ["a", "b", "c"]
    if training:
        assert loaded.histories == ensemble.histories
        assert loaded[11].state_dict().keys() == ensemble[11].state_dict().keys()
    else:
        assert loaded[0].history.loss == []
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_files_of_networks_and_ensembles_are_told_apart(tmp_path):
    ensemble, path = Ensemble(reference.MLP([4, 3])), tmp_path / "nets.npz"
    ensemble.save(path)
    with refused(ValueError, "holds an ensemble of networks; read it with fastmlp.Ensemble.load"):
        MLP.load(path)
    ensemble[0].save(path)
    with refused(ValueError, "holds no ensemble saved by fastmlp; MLP.load reads one network"):
        Ensemble.load(path)
    np.savez(path, x=X)
    with pytest.raises(ValueError, match="holds no ensemble saved by fastmlp$"):
        Ensemble.load(path)


def test_a_network_that_cannot_be_saved_leaves_the_old_file(tmp_path):
    ensemble, path = Ensemble(reference.MLP([4, 3]), 2), tmp_path / "nets.npz"
    ensemble.save(path)
    old = path.read_bytes()
    ensemble[1].weights[0][0, 0] = np.nan
    with refused(ValueError, "the network cannot be saved"):
        ensemble.save(path)
    assert path.read_bytes() == old
    with refused(ValueError, "save writes .npz and .safetensors files"):
        ensemble.save(tmp_path / "nets.onnx")
    with refused(TypeError, "training must be True or False"):
        ensemble.save(path, training="yes")


def test_a_file_with_a_wrong_bit_is_refused(tmp_path):
    path = tmp_path / "nets.npz"
    Ensemble(reference.MLP([4, 3]), 2).save(path)
    whole = path.read_bytes()
    for bit in range(0, 8 * len(whole), 8 * len(whole) // 50):
        path.write_bytes(flipped(whole, bit))
        with refused(ValueError, str(path)):
            Ensemble.load(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n": 3}, "member 2, holds no network"),
        ({"n": 0}, "its number of members must be at least 1"),
        ({"n": "x"}, "its number of members must be an integer"),
        ({"seed": "-1"}, "seed must be at least 0"),
        ({"seed": "x"}, "is damaged: invalid literal"),
        ({"bootstrap": 2}, "its bootstrap must be True or False"),
        ({"members.1.activation": "tanh"}, "members 0 and 1 have different settings"),
        ({"members.1.weights_0": np.zeros((3, 3), "f4")}, "member 1, is damaged: its parameters do not fit"),
        ({"n": None}, "is damaged: 'n'"),
    ],
    ids=same_everywhere,
)
def test_a_file_that_someone_has_changed_is_refused(tmp_path, change, message):
    path = tmp_path / "nets.npz"
    Ensemble(reference.MLP([4, 3]), 2).save(path)
    with np.load(path) as file:
        arrays = {name: value for name, value in (dict(file) | change).items() if value is not None}
    np.savez(path, **arrays)
    with refused(ValueError, message):
        Ensemble.load(path)


# --- on real data -----------------------------------------------------------------------------------------------------


def test_five_networks_are_better_than_one():
    X_train, y_train, X_test, y_test = datasets.load_digits()
    ensemble = Ensemble(MLP([64, 16, 10]), 5)
    ensemble.fit(X_train, y_train, epochs=20, learning_rate=0.1)
    scores = [member.score(X_test, y_test) for member in ensemble]
    assert ensemble.score(X_test, y_test) > np.mean(scores) + 0.003
    wrong = ensemble.predict(X_test) != y_test
    assert np.median(ensemble.spread(X_test)[wrong]) > 3 * np.median(ensemble.spread(X_test)[~wrong])
