"""Arguments of `fit`: weights of rows and classes, optimizers, schedules, and the errors of wrong ones."""

import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight
from support.losses import HEADS, data_for, network
from support.nets import assert_bits, data, refused, snapshot

import fastmlp
from fastmlp import optimizers, schedules
from fastmlp.callbacks import EarlyStopping
from fastmlp.reference import MLP

RATE = {"learning_rate": 0.2, "batch_size": 1000}


def assert_close(net, other):
    for p, q in zip(net.weights + net.biases, other.weights + other.biases, strict=True):
        np.testing.assert_allclose(p, q, rtol=1e-11, atol=1e-13)


# --- weights ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("head", HEADS)
def test_a_weight_of_two_is_a_row_given_twice(head, optimizer):
    weighted, doubled = network(head, l2=0.1), network(head, l2=0.1)
    X, y = data_for(weighted)
    counts = np.arange(len(y)) % 3
    settings = {"epochs": 5, "batch_size": 1000, "optimizer": optimizer}
    first = weighted.fit(X, y, sample_weight=counts, **settings)
    second = doubled.fit(np.repeat(X, counts, axis=0), np.repeat(y, counts, axis=0), **settings)
    assert_close(weighted, doubled)
    np.testing.assert_allclose(first.loss, second.loss, rtol=1e-12)
    loss, dw, _ = weighted.gradients(X, y, sample_weight=counts)
    doubled_loss, doubled_dw, _ = doubled.gradients(np.repeat(X, counts, axis=0), np.repeat(y, counts, axis=0))
    assert loss == pytest.approx(doubled_loss, rel=1e-12)
    np.testing.assert_allclose(dw[0], doubled_dw[0], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_weights_of_one_change_nothing(dtype):
    plain, weighted = network(dtype=dtype), network(dtype=dtype)
    X, y = data_for(plain)
    plain.fit(X, y, epochs=3, batch_size=8)
    weighted.fit(X, y, epochs=3, batch_size=8, sample_weight=np.ones(len(y)))
    for p, q in zip(plain.weights, weighted.weights, strict=True):
        np.testing.assert_allclose(p, q, rtol=10 * np.finfo(dtype).eps, atol=np.finfo(dtype).eps)


def test_a_batch_without_weight_takes_no_step():
    net, other = network(l2=0.1), network(l2=0.1)
    X, y = data_for(net, 24)
    weights = np.where(np.arange(24) // 8 == 1, 0, 1)
    some = weights > 0
    for each, rows, w in ((net, slice(None), weights), (other, some, None)):
        each.fit(X[rows], y[rows], sample_weight=w, batch_size=8, epochs=2, shuffle=False, learning_rate=0.2)
    assert_close(net, other)
    assert net.history.steps == 6


def test_history_weighs_the_losses_of_all_batches():
    net = network()
    X, y = data_for(net)
    weights = np.random.default_rng(0).uniform(0, 2, len(y))
    history = net.fit(X, y, sample_weight=weights, epochs=1, batch_size=8, learning_rate=1e-9)
    assert history.loss[0] == pytest.approx(network().gradients(X, y, sample_weight=weights)[0], rel=1e-6)


def test_class_weights():
    net = network()
    X, y = data_for(net)
    of_classes = np.array([2.0, 0.5, 1.0])
    expected = network()
    expected.fit(X, y, epochs=2, sample_weight=of_classes[y], **RATE)
    for given in ({0: 2, 1: 0.5}, {0: 2, 1: 0.5, 2: 1}, of_classes, of_classes.tolist(), {np.int64(0): 2, 1: 0.5}):
        net = network()
        net.fit(X, y, epochs=2, class_weight=given, **RATE)
        assert_close(net, expected)
    own = np.random.default_rng(0).uniform(1, 2, len(y))
    both, product = network(), network()
    both.fit(X, y, epochs=2, class_weight=of_classes, sample_weight=own, **RATE)
    product.fit(X, y, epochs=2, sample_weight=own * of_classes[y], **RATE)
    assert_close(both, product)


@pytest.mark.parametrize("head", ["softmax", "two classes"])
def test_balanced_class_weights_are_those_of_scikit_learn(head):
    balanced, expected = network(head), network(head)
    X, y = data_for(balanced)
    y = np.where(np.arange(len(y)) < 15, 0, y)
    of_classes = compute_class_weight("balanced", classes=np.unique(y), y=y)
    balanced.fit(X, y, epochs=2, class_weight="balanced", **RATE)
    expected.fit(X, y, epochs=2, sample_weight=of_classes[np.searchsorted(np.unique(y), y)], **RATE)
    assert_close(balanced, expected)


# --- optimizers and schedules -----------------------------------------------------------------------------------------


def test_names_are_their_optimizers():
    pairs = {"momentum": optimizers.SGD(momentum=0.9), "adam": optimizers.Adam(), None: optimizers.SGD()}
    for name, optimizer in pairs.items():
        nets = [network(), network()]
        X, y = data_for(nets[0])
        nets[0].fit(X, y, epochs=2, optimizer=name)
        nets[1].fit(X, y, epochs=2, optimizer=optimizer)
        assert_bits(nets[0], snapshot(nets[1]))


@pytest.mark.parametrize("base", [optimizers.SGD, optimizers.Optimizer])
def test_kernels_refuse_an_optimizer_of_ones_own(base):
    class Sign(base):
        name = "sign"
        slots = 0

        def coefficients(self, steps, rates):
            return {"rate": rates}

        def update(self, parameter, gradient, state, coefficients):
            parameter -= coefficients["rate"] * np.sign(gradient)

    (X, y), own = data(10), Sign(learning_rate=0.1)
    net = fastmlp.MLP([4, 5, 3])
    before, state = snapshot(net), net.state_dict()
    for train in (lambda: net.fit(X, y, optimizer=own), lambda: net.train_batch(X, y, optimizer=own)):
        with refused(TypeError, "fastmlp.MLP has no kernel for the optimizer Sign; fastmlp.reference.MLP takes any"):
            train()
    assert_bits(net, before)
    np.testing.assert_equal(net.state_dict(), state)
    MLP([4, 5, 3]).fit(X, y, optimizer=own)


def test_a_new_fit_begins_with_an_empty_memory():
    once, twice = network(), network()
    X, y = data_for(once)
    twice.fit(X, y, epochs=2, optimizer="adam", batch_size=1000)
    for own, given in zip(twice.weights + twice.biases, snapshot(once), strict=True):
        own[:] = given
    once.fit(X, y, epochs=2, optimizer="adam", batch_size=1000)
    twice.fit(X, y, epochs=2, optimizer="adam", batch_size=1000)
    assert_bits(once, snapshot(twice))


@pytest.mark.parametrize("optimizer", ["momentum", "adam", "adagrad"])
def test_train_batch_goes_on_with_the_memory(optimizer):
    net, by_steps = network(), network()
    X, y = data_for(net)
    net.fit(X, y, epochs=4, batch_size=1000, optimizer=optimizer)
    losses = [by_steps.train_batch(X, y, optimizer=optimizer) for _ in range(4)]
    assert_bits(net, snapshot(by_steps))
    assert net.history.loss == losses


def test_learning_rates_of_a_schedule():
    net = network()
    X, y = data_for(net, 24)
    seen = []

    def schedule(step):
        seen.append(step)
        return 1 / (1 + step)

    history = net.fit(X, y, epochs=2, batch_size=8, learning_rate=0.5, schedule=schedule)
    assert history.learning_rate == [0.5 / 3, 0.5 / 6]
    assert sorted(set(seen)) == list(range(6))


def test_callbacks_change_the_learning_rate():
    class Halve:
        def on_epoch_end(self, net, fit):
            fit.learning_rate_factor *= 0.5

    net = network()
    X, y = data_for(net)
    assert net.fit(X, y, epochs=3, callbacks=[Halve()], learning_rate=0.4).learning_rate == [0.4, 0.2, 0.1]


# --- trouble ----------------------------------------------------------------------------------------------------------

N = 22
ONES = np.ones(N)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"sample_weight": ONES[:9]},
            ValueError,
            "sample_weight must have the shape (22,), a number for each row, not",
        ),
        ({"sample_weight": ONES[:, None]}, ValueError, "sample_weight must have the shape (22,)"),
        ({"sample_weight": -ONES}, ValueError, "sample_weight has -1.0 in row 0, but weights are finite and not neg"),
        ({"sample_weight": ONES * np.inf}, ValueError, "sample_weight has inf in row 0"),
        ({"sample_weight": ONES * np.nan}, ValueError, "sample_weight has nan in row 0"),
        ({"sample_weight": 0 * ONES}, ValueError, "the weights of all rows add up to 0.0; some must be more than 0"),
        ({"sample_weight": 1e308 * ONES}, ValueError, "the weights of all rows add up to inf; make them smaller"),
        ({"sample_weight": ONES.astype(str)}, TypeError, "sample_weight holds string values"),
        (
            {"class_weight": "balance"},
            ValueError,
            "class_weight must be 'balanced', a dict with weights of classes, a list with one for each class, or None, "
            "not 'balance'; did you mean 'balanced'?",
        ),
        ({"class_weight": {3: 1}}, ValueError, "class_weight has class 3, but classes are 0 to 2"),
        ({"class_weight": {0: -1}}, ValueError, "class_weight[0] must be 0 or more and finite, not -1"),
        ({"class_weight": {"a": 1}}, TypeError, "a class of class_weight must be an integer, not 'a'"),
        ({"class_weight": [1, 2]}, ValueError, "class_weight has the shape (2,), but there are 3 classes"),
        ({"class_weight": [1, 2, np.nan]}, ValueError, "class_weight[2] must be 0 or more and finite, not nan"),
        ({"class_weight": dict.fromkeys(range(3), 0)}, ValueError, "the weights of all rows add up to 0.0"),
        ({"clip_norm": 0}, ValueError, "clip_norm must be more than 0 and finite, not 0"),
        ({"clip_value": -1}, ValueError, "clip_value must be more than 0 and finite, not -1"),
        ({"clip_value": "1"}, TypeError, "clip_value must be a number, not '1'"),
        ({"validation_fraction": 1}, ValueError, "validation_fraction must be more than 0 and below 1, not 1"),
        ({"validation_fraction": 0}, ValueError, "validation_fraction must be more than 0 and below 1, not 0"),
        ({"validation_fraction": "0.1"}, TypeError, "validation_fraction must be a number, not '0.1'"),
        ({"validation_fraction": 0.1, "validation_data": ([[0] * 4], [0])}, ValueError, "not both"),
        ({"schedule": lambda step: "x"}, TypeError, "must give a number, not 'x', at step 0"),
        ({"schedule": len}, TypeError, "has no len()"),
        ({"metrics": ["f1_macro"]}, ValueError, "metrics need validation data; give validation_data or"),
        ({"metrics": "f1_macro"}, TypeError, "metrics must be a list of names or functions"),
        ({"metrics": ["f2"]}, ValueError, "metrics must be one of 'balanced_accuracy', 'f1', "),
        ({"metrics": ["f2"]}, ValueError, ", or a function of (y_true, y_pred), not 'f2'"),
        ({"metrics": ["r2"]}, ValueError, "metrics must be one of 'balanced_accuracy'"),
        ({"metrics": [3]}, TypeError, "metrics must be one of"),
        ({"metrics": ["f1_macro", "f1_macro"]}, ValueError, "metrics has two entries named 'f1_macro'"),
        ({"optimizer": "adm"}, ValueError, "did you mean 'adam'?"),
        ({"optimizer": optimizers.Adam(), "learning_rate": 0.1}, ValueError, "learning_rate=0.1 conflicts with the"),
        ({"learning_rate": -1}, ValueError, "learning_rate must be more than 0 and finite, not -1"),
        ({"schedule": "cosin"}, ValueError, "did you mean 'cosine'?"),
        (
            {"schedule": schedules.ReduceOnPlateau(monitor="val_loss")},
            ValueError,
            "monitor is 'val_loss', but this fit",
        ),
        ({"callbacks": [EarlyStopping()]}, ValueError, "monitor is 'val_loss', but this fit measures loss, accuracy"),
        ({"resume": 1}, TypeError, "resume must be True or False, not 1"),
        ({"shuffle": 1}, TypeError, "shuffle must be True or False, not 1"),
    ],
)
def test_wrong_arguments_change_nothing(arguments, error, message):
    net = network(dropout=0.5)
    X, y = data_for(net, N)
    net.fit(X, y, epochs=1, optimizer="adam")
    before = net.state_dict()
    with refused(error, message):
        net.fit(**({"X": X, "y": y} | arguments))
    after = net.state_dict()
    assert after.keys() == before.keys()
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value)


def test_classes_that_are_not_there():
    for head in ("labels", "number"):
        net = network(head)
        with refused(ValueError, "class_weight needs rows of one class each"):
            net.fit(*data_for(net), class_weight="balanced")
    net = network("labels")
    with refused(ValueError, "metrics must be one of 'f1', 'precision', "):
        net.fit(*data_for(net), validation_fraction=0.5, metrics=["balanced_accuracy"])
    with refused(ValueError, "validation_fraction=0.5 selects no row: y has one row of each class"):
        network().fit(np.ones((3, 4)), [0, 1, 2], validation_fraction=0.5)


def test_what_a_metric_returns():
    net = network()
    X, y = data_for(net)
    with pytest.raises(TypeError, match="must return a number, not None"):
        net.fit(X, y, validation_data=(X, y), metrics=[lambda y_true, y_pred: None])


def test_a_schedule_that_goes_wrong_says_where():
    net = network()
    X, y = data_for(net, 24)
    with refused(ValueError, "at step 4"):
        net.fit(X, y, epochs=2, batch_size=8, schedule=lambda step: -1 if step == 4 else 1)
    assert len(net.history.loss) == 1


@pytest.mark.parametrize(
    "arguments", [{"sample_weight": ONES[:3]}, {"clip_norm": -1}, {"optimizer": "x"}, {"learning_rate": 0}], ids=str
)
def test_wrong_arguments_of_train_batch_change_nothing(arguments):
    net = network()
    X, y = data_for(net)
    before = snapshot(net)
    with pytest.raises((TypeError, ValueError)):
        net.train_batch(X, y, **arguments)
    assert_bits(net, before)
    assert net._random.epoch == 0
