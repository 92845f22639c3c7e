"""States that do not fit a network, or are damaged, are refused and change nothing."""

import json

import numpy as np
import pytest
from support.losses import network
from support.nets import assert_bits, refused, snapshot
from support.resuming import OPTIMIZERS, REGULARIZED, SCHEDULES, fit

from fastmlp import storage
from fastmlp.reference import MLP

PLATEAU = '{"now": %s, "best": -Infinity, "waited": 0, "cooling": 0}'
GENERATOR = '{"bit_generator": "PCG64", "state": {"state": %s, "inc": %s}, "has_uint32": 0, "uinteger": 0}'


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers": np.array([4, 5])}, "the state is damaged: its parameters do not fit its layers [4, 5]"),
        ({"format": "fastmlp 99"}, "the state holds no network saved by fastmlp"),
        ({"weights_1": None}, "the state is incomplete: it has no 'weights_1'"),
        ({"activation": "tanh"}, "the state is of a network with activation='tanh', but this one has 'gelu'"),
        ({"dropout": 0.5}, "the state is of a network with dropout=0.5, but this one has 0.3"),
        ({"l2": None}, "the state is of a network with l2=0.0, but this one has 0.01"),
        ({"output": "logistic"}, "the state is of a network with output='logistic', but this one has 'softmax'"),
        ({"biases_0": np.full(7, np.nan)}, "the state is damaged: its parameters are not all finite"),
        ({"history": None}, "the state is incomplete: it has no 'history'"),
        ({"history": "x"}, "the state is damaged"),
        ({"history": '{"losses": []}'}, "the state is damaged"),
        ({"generator": "{}"}, "the state is damaged"),
        ({"generator": "[]"}, "the state is damaged"),
        ({"passes": -1}, "the state is damaged: its passes is -1"),
        ({"steps": 1.5}, "the state is damaged: its steps is 1.5"),
        ({"epochs": "x"}, "the state is damaged: its epochs is 'x'"),
        ({"learning_rate_factor": "x"}, "the state is damaged"),
        ({"optimizer": "Adem"}, "the state is damaged: its optimizer must be one of"),
        ({"optimizer": "get_optimizer"}, "the state is damaged"),
        ({"optimizer": "Optimizer"}, "the state is damaged"),
        ({"optimizer_settings": '{"learning_rate": -1}'}, "the state is damaged: learning_rate must be more than 0"),
        ({"optimizer_settings": '{"rate": 1}'}, "the state is damaged"),
        ({"optimizer_settings": "[1]"}, "the state is damaged"),
        ({"memory_3_1": None}, "the state is incomplete: it has no 'memory_3_1'"),
        ({"memory_0_0": np.zeros(3)}, "the state is damaged: its optimizer's state does not fit its layers"),
        ({"memory_0_1": np.full((4, 7), np.inf)}, "the state is damaged: its optimizer's numbers are not all finite"),
        ({"schedule_state": "["}, "the state is damaged"),
        (
            {"schedule_state": "[1]"},
            "the state of its schedule must be a dict of numbers, not [1]",
        ),
        (
            {"schedule_state": '{"a": null}'},
            "the state of its schedule must be a dict of numbers",
        ),
        ({"schedule": "Adaptive", "schedule_state": "{}"}, None),  # before the first epoch has ended
        ({"schedule": "Adaptive", "schedule_state": '{"now": 1}'}, "the state of its schedule has no 'best'"),
        (
            {"schedule": "Adaptive", "schedule_state": PLATEAU % '"x"'},
            "now in the state of its schedule must be a number",
        ),
        (
            {"schedule": "ReduceOnPlateau", "schedule_state": PLATEAU % "NaN"},
            "now in the state of its schedule must be 0",
        ),
        (
            {"schedule": "Warmup", "schedule_state": PLATEAU % "-1"},
            "now in the state of its schedule must be 0 or more",
        ),
        ({"schedule": 3}, "the state is damaged: its schedule is 3"),
        ({"passes": 2**70}, "the state is damaged: its passes is 1180591620717411303424"),
        ({"steps": 2**63}, "the state is damaged: its steps is 9223372036854775808"),
        ({"epochs": 2**53}, "the state is damaged: its epochs is 9007199254740992"),
        ({"regularization_seed": 2**32}, "the state is damaged: its regularization_seed is 4294967296"),
        ({"learning_rate_factor": np.nan}, "the state is damaged: its learning_rate_factor must be 0 or more"),
        ({"history": '{"loss": 3}'}, "the state is damaged: loss in its history is not a list of numbers"),
        ({"history": '{"loss": ["a"]}'}, "the state is damaged: loss in its history is not a list of numbers"),
        ({"history": '{"loss": [null]}'}, "the state is damaged: loss in its history is not a list of numbers"),
        ({"history": '{"metrics": []}'}, "the state is damaged: the metrics of its history are []"),
        (
            {"history": '{"metrics": {"f1": [true]}}'},
            "f1 in its history is not a list of numbers",
        ),
        ({"history": '{"steps": -1}'}, "the state is damaged: steps in its history must be at least 0"),
        ({"history": '{"interrupted": 1}'}, "the state is damaged: interrupted in its history must be True or False"),
        ({"history": "[" * 10**5}, "the state is damaged"),
        ({"generator": GENERATOR % ("1", "2**200")}, "the state is damaged"),
        ({"generator": GENERATOR % (10**60, "1")}, "the state is damaged"),
        ({"generator": GENERATOR % ("1", '"x"')}, "the state is damaged"),
        ({"memory_0_1": np.full((4, 7), -1.0)}, "the state is damaged: its optimizer's means of squares are negative"),
    ],
)
def test_states_that_do_not_fit(change, message):
    net = network(**REGULARIZED)
    fit(net, 1, optimizer="adam")
    good = net.state_dict()
    bad = {name: value for name, value in (good | change).items() if value is not None}
    fit(net, 2, resume=True)
    before = net.state_dict()
    if message is not None:
        with refused(ValueError, message):
            net.load_state_dict(bad)
        for name, value in net.state_dict().items():
            np.testing.assert_array_equal(value, before[name])
    net.load_state_dict(good if message else bad)


def test_what_is_no_state():
    with refused(TypeError, "state_dict must be what state_dict() returns, not NoneType"):
        network().load_state_dict(None)


def test_a_file_that_training_did_not_write(tmp_path):
    net = network()
    fit(net, 1, optimizer="adam")
    path = tmp_path / "net.npz"
    storage.save_npz(path, **(net.state_dict() | {"steps": -3}))
    with refused(ValueError, f"{path} is damaged: its steps is -3"):
        MLP.load(path)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", range(300))
def test_a_changed_state_is_refused_or_can_be_saved_and_trained_from(seed, tmp_path):
    r = np.random.default_rng(seed)
    net, schedule = network(**REGULARIZED), list(SCHEDULES)[seed % len(SCHEDULES)]
    fit(net, 2, schedule, optimizer=list(OPTIMIZERS.values())[seed % len(OPTIMIZERS)])
    state = net.state_dict()
    values = [
        -1, 0, 1, 2**31, 2**53, 2**64, 2**70, -0.5, 1e300, np.nan, np.inf, None, "", "x", "{}", "[]", "null", "NaN", [],
        True, [1], b"x", np.zeros(3), np.array(None), np.float16(1), {}, '{"loss": [1e999]}', '{"now": NaN}', object(),
    ]  # fmt: skip
    for name in r.choice(list(state), r.integers(1, 3), replace=False):
        value = state[name]
        if isinstance(value, str) and value.startswith("{") and r.integers(0, 2):
            parts = json.loads(value)
            key = r.choice(list(parts)) if parts else "x"
            choice = values[r.integers(0, len(values))]
            value = json.dumps(parts | {key: choice}, default=str)
        elif isinstance(value, np.ndarray) and value.dtype.kind == "f" and r.integers(0, 2):
            value[r.integers(0, len(value))] = r.choice([-1, 0, 1e300, np.nan, np.inf])
        else:
            value = values[r.integers(0, len(values))]
        state[name] = value
    before = net.state_dict()
    try:
        net.load_state_dict(state)
    except ValueError:
        np.testing.assert_equal(net.state_dict(), before)
        return
    net.save(tmp_path / "net.npz", training=True)
    again = MLP.load(tmp_path / "net.npz")
    np.testing.assert_equal(again.state_dict(), net.state_dict())
    try:
        for each in (net, again):
            fit(each, 4, schedule, resume=True)
    except FloatingPointError:  # numbers may be as large as they like
        return
    except ValueError as error:
        assert "resume=True continues with" in str(error)  # noqa: PT017 - the name of the schedule was changed
        return
    assert_bits(net, snapshot(again))
