"""Settings that are checked, and the errors of wrong ones."""

import numpy as np
import pytest
from support.nets import refused

from fastmlp.validation.settings import (
    check_choice,
    check_dtype,
    check_float,
    check_int,
    check_layers,
    check_n_threads,
    check_seed,
)


@pytest.mark.parametrize("layers", [[4, 3], (4, 3), np.array([4, 3]), [np.int8(4), np.uint64(3)]], ids=repr)
def test_layers(layers):
    checked = check_layers(layers)
    assert checked == (4, 3)
    assert all(type(size) is int for size in checked)


@pytest.mark.parametrize(
    ("layers", "error", "message"),
    [
        ([784], ValueError, "layers must name at least two sizes"),
        ([784, 0, 10], ValueError, "layers[1] must be at least 1, not 0"),
        ([784, -3], ValueError, "layers[1] must be at least 1, not -3"),
        ([784, 10.0], TypeError, "layers[1] must be an integer, not 10.0"),
        ([True, 10], TypeError, "layers[0] must be an integer, not True"),
        (["784", 10], TypeError, "layers[0] must be an integer, not '784'"),
        ("784", TypeError, "layers must be a list of layer sizes, e.g. [784, 128, 10], not '784'"),
        (784, TypeError, "layers must be a list of layer sizes"),
        (None, TypeError, "layers must be a list of layer sizes"),
        (np.array(784), TypeError, "layers must be a list of layer sizes"),
    ],
)
def test_wrong_layers(layers, error, message):
    with refused(error, message):
        check_layers(layers)


def test_choice():
    assert check_choice("activation", "relu", ("relu", "logistic")) == "relu"
    with refused(ValueError, "activation must be one of 'relu', 'logistic', not 'ReLU'; did you mean 'relu'?"):
        check_choice("activation", "ReLU", ("relu", "logistic"))
    with pytest.raises(ValueError, match="not 'tanh'$"):
        check_choice("activation", "tanh", ("relu", "logistic"))
    with refused(TypeError, "activation must be one of 'relu', 'logistic', not None"):
        check_choice("activation", None, ("relu", "logistic"))


@pytest.mark.parametrize("dtype", ["float32", np.float32, np.dtype("float32")])
def test_dtype(dtype):
    assert check_dtype(dtype, ("float32", "float64")) == "float32"


@pytest.mark.parametrize(
    ("dtype", "error"), [("int8", ValueError), (int, ValueError), (None, TypeError), (3, TypeError)]
)
def test_wrong_dtype(dtype, error):
    with refused(error, "dtype must be one of 'float32', 'float64', not"):
        check_dtype(dtype, ("float32", "float64"))


def test_integers():
    assert check_int("epochs", np.int32(3), 1) == 3
    assert check_seed(None) is None
    assert check_seed(0) == 0
    assert check_seed(10**40) == 10**40
    assert check_n_threads(None) is None
    assert check_n_threads(2) == 2


@pytest.mark.parametrize(
    ("check", "value", "error", "message"),
    [
        (lambda v: check_int("epochs", v, 1), 0, ValueError, "epochs must be at least 1, not 0"),
        (lambda v: check_int("epochs", v, 1), 1.0, TypeError, "epochs must be an integer, not 1.0"),
        (lambda v: check_int("epochs", v, 1), True, TypeError, "epochs must be an integer, not True"),
        (check_seed, -1, ValueError, "seed must be at least 0, not -1"),
        (check_seed, 1.5, TypeError, "seed must be an integer or None, not 1.5"),
        (check_seed, "0", TypeError, "seed must be an integer or None, not '0'"),
        (check_n_threads, 0, ValueError, "n_threads must be at least 1, not 0"),
        (check_n_threads, 2.0, TypeError, "n_threads must be an integer or None, not 2.0"),
    ],
)
def test_wrong_integers(check, value, error, message):
    with refused(error, message):
        check(value)


@pytest.mark.parametrize("value", [0.1, 1, np.float32(0.5), np.int64(2), 1e-45, 3e38])
def test_learning_rate(value):
    rate = check_float("learning_rate", value, zero=False)
    assert type(rate) is float
    assert rate == value


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (0, ValueError, "learning_rate must be more than 0 and finite, not 0"),
        (-0.1, ValueError, "learning_rate must be more than 0 and finite, not -0.1"),
        (np.nan, ValueError, "learning_rate must be more than 0 and finite, not nan"),
        (np.inf, ValueError, "learning_rate must be more than 0 and finite, not inf"),
        (10**400, ValueError, "learning_rate must be more than 0 and finite, not 1000"),
        (1e-60, ValueError, "learning_rate 1e-60 is too small: float32 makes it 0.0"),
        (1e60, ValueError, "learning_rate 1e+60 is too large: float32 makes it inf"),
        (True, TypeError, "learning_rate must be a number, not True"),
        ("0.1", TypeError, "learning_rate must be a number, not '0.1'"),
        ([0.1], TypeError, "learning_rate must be a number, not [0.1]"),
        (0.1j, TypeError, "learning_rate must be a number, not 0.1j"),
    ],
)
def test_wrong_learning_rate(value, error, message):
    with refused(error, message):
        check_float("learning_rate", value, zero=False)
