"""What users may hand in, and what they are told otherwise."""

import numpy as np
import pytest
import scipy.sparse
from support.nets import refused

from fastmlp.validation.inputs import check_X
from fastmlp.validation.settings import (
    check_choice,
    check_dtype,
    check_layers,
    check_learning_rate,
    check_n_threads,
    check_positive_int,
    check_seed,
)
from fastmlp.validation.targets import check_y

X = np.random.default_rng(0).random((100, 4))
Y = np.arange(100) % 3


def with_value(value, row, column, dtype=np.float64):
    changed = X.astype(dtype)
    changed[row, column] = value
    return changed


# --- settings ---------------------------------------------------------------------------------------------------------


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
    assert check_positive_int("epochs", np.int32(3)) == 3
    assert check_seed(None) is None
    assert check_seed(0) == 0
    assert check_seed(10**40) == 10**40
    assert check_n_threads(None) is None
    assert check_n_threads(2) == 2


@pytest.mark.parametrize(
    ("check", "value", "error", "message"),
    [
        (lambda v: check_positive_int("epochs", v), 0, ValueError, "epochs must be at least 1, not 0"),
        (lambda v: check_positive_int("epochs", v), 1.0, TypeError, "epochs must be an integer, not 1.0"),
        (lambda v: check_positive_int("epochs", v), True, TypeError, "epochs must be an integer, not True"),
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
    rate = check_learning_rate(value)
    assert type(rate) is float
    assert rate == value


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (0, ValueError, "learning_rate must be positive and finite, not 0"),
        (-0.1, ValueError, "learning_rate must be positive and finite, not -0.1"),
        (np.nan, ValueError, "learning_rate must be positive and finite, not nan"),
        (np.inf, ValueError, "learning_rate must be positive and finite, not inf"),
        (10**400, ValueError, "learning_rate must be positive and finite, not 1000"),
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
        check_learning_rate(value)


# --- X ----------------------------------------------------------------------------------------------------------------


def read_only(array):
    array.flags.writeable = False
    return array


@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
@pytest.mark.parametrize("make", [np.array, read_only, np.asmatrix, np.ma.array], ids=lambda make: make.__name__)
def test_fitting_X_is_not_copied(make):
    given = make(X.astype(np.float32))
    checked = check_X(given, 4, "float32")
    assert type(checked) is np.ndarray
    assert np.shares_memory(checked, np.asarray(given))


def test_memory_map_is_not_copied(tmp_path):
    np.save(tmp_path / "x.npy", X.astype(np.float32))
    given = np.load(tmp_path / "x.npy", mmap_mode="r")
    checked = check_X(given, 4, "float32")
    assert type(checked) is np.ndarray
    assert np.shares_memory(checked, given)


def unaligned(array):
    return np.frombuffer(b"\0" + array.astype(np.float32).tobytes(), np.float32, offset=1).reshape(array.shape)


class Frame:
    """Stands for a pandas.DataFrame, which gives its values through __array__."""

    def __init__(self, values):
        self.values = values

    def __array__(self, dtype=None, copy=None):
        return np.array(self.values, dtype=dtype)


@pytest.mark.parametrize(
    "given",
    [
        X,
        X.tolist(),
        Frame(X),
        X.astype(">f4"),
        X.astype(np.longdouble),
        np.asfortranarray(X.astype(np.float32)),
        np.repeat(X.astype(np.float32), 2, axis=0)[::2],
        unaligned(X),
        X.astype(np.float16),
        (X * 1000).astype(np.int64) - 500,
        X > 0.5,
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_other_X_is_converted(given, dtype):
    checked = check_X(given, 4, dtype)
    assert checked.dtype == np.dtype(dtype)
    assert checked.dtype.isnative
    assert checked.flags.c_contiguous
    assert checked.flags.aligned
    np.testing.assert_array_equal(checked, np.asarray(given).astype(dtype))


def test_largest_numbers_pass_though_their_sum_does_not():
    given = np.full((3, 4), 3e38, np.float32)
    assert check_X(given, 4, "float32") is given


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (np.zeros((5, 785)), ValueError, "X has 785 features, but the network has 4 inputs"),
        (X[0], ValueError, "X must have two dimensions (rows, features), not one; use X.reshape(1, -1)"),
        (X.reshape(-1, 2, 2), ValueError, "its shape is (100, 2, 2); use X.reshape(len(X), -1)"),
        (5.0, ValueError, "X must have two dimensions (rows, features), but its shape is ()"),
        (X[:0], ValueError, "X is empty: its shape is (0, 4)"),
        ([], ValueError, "X is empty: its shape is (0,)"),
        ([[1, 2], [3]], ValueError, "X cannot be made an array: its rows differ in length or kind"),
        (X.astype(object), TypeError, "X holds object values (dtype object), not numbers; convert it first"),
        (None, TypeError, "X holds object values"),
        (X.astype(str), TypeError, "X holds string values"),
        (X.astype(bytes), TypeError, "X holds string values"),
        (X.astype(complex), TypeError, "X holds complex values (dtype complex128)"),
        (X.astype("datetime64[s]"), TypeError, "X holds date values"),
        (np.ma.masked_less(X, X[5, 2]), ValueError, "masked values; fill them first: X.filled(value)"),
        (with_value(np.nan, 77, 2), ValueError, "X has nan in row 77, column 2"),
        (with_value(np.inf, 99, 3), ValueError, "X has inf in row 99, column 3"),
        (with_value(-np.inf, 0, 0, np.float32), ValueError, "X has -inf in row 0, column 0"),
        (with_value(1e300, 5, 1), ValueError, "X has 1e+300, too large for float32, in row 5, column 1"),
    ],
)
def test_wrong_X(given, error, message):
    with refused(error, message):
        check_X(given, 4, "float32")


def test_single_feature_in_one_dimension():
    with refused(ValueError, "use X.reshape(-1, 1) for one feature"):
        check_X([1.0, 2.0], 1, "float32")


def test_first_bad_value_of_a_large_array():
    given = np.zeros((3000, 300), np.float32)  # more than one block of rows
    given[2000, 250] = given[2000, 299] = given[2500, 0] = np.nan
    with refused(ValueError, "X has nan in row 2000, column 250"):
        check_X(given, 300, "float32")


# --- y ----------------------------------------------------------------------------------------------------------------

ONE_HOT = np.eye(3)[Y]
GOOD_LABELS = [Y, Y.tolist(), Y.astype(np.uint8), Y.astype(">i4"), Y.astype(np.float32), np.repeat(Y, 2)[::2]]
GOOD_ONE_HOT = [ONE_HOT, ONE_HOT.astype(bool), ONE_HOT.astype(np.int8), ONE_HOT.tolist(), np.asfortranarray(ONE_HOT)]


@pytest.mark.parametrize("given", [*GOOD_LABELS, *GOOD_ONE_HOT])
def test_y(given):
    checked = check_y(given, 100, 3)
    assert checked.dtype == np.int32
    assert checked.flags.c_contiguous
    np.testing.assert_array_equal(checked, Y)


def test_y_of_two_classes_and_of_one():
    np.testing.assert_array_equal(check_y(Y > 0, 100, 2), Y > 0)
    np.testing.assert_array_equal(check_y([[1, 0], [0, 1]], 2, 2), [0, 1])
    np.testing.assert_array_equal(check_y([[1], [1]], 2, 1), [0, 0])


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (np.where(Y > 1, 12, Y), ValueError, "y has label 12, but the network has 3 outputs (labels 0 to 2)"),
        (Y.astype(np.uint64) + 2**63, ValueError, f"y has label {2**63 + 2}, but the network has 3 outputs"),
        (Y - 1, ValueError, "y has label -1, but class labels are 0 to 2"),
        (Y + 0.5, ValueError, "y has 0.5 in row 0, but class labels are integers"),
        (np.where(Y > 1, np.nan, Y), ValueError, "y has nan in row 2, but class labels are integers"),
        (np.where(Y > 1, np.inf, Y), ValueError, "y has inf in row 2, but class labels are integers"),
        (Y[:99], ValueError, "X has 100 rows, but y has 99"),
        (ONE_HOT[:99], ValueError, "X has 100 rows, but y has 99"),
        (Y[:, None], ValueError, "y is a column of shape (100, 1); use y.ravel()"),
        (ONE_HOT[:, :2], ValueError, "y has 2 one-hot columns, but the network has 3 outputs"),
        (np.where(Y[:, None] > 1, 0, ONE_HOT), ValueError, "but row 2 is not"),
        (ONE_HOT * 0.9 + 0.03, ValueError, "y must be one-hot, a single 1 and zeros in each row, but row 0 is not"),
        (np.where(Y[:, None] > 1, [1, 0.5, 0], ONE_HOT), ValueError, "but row 2 is not"),
        (ONE_HOT[:, :, None], ValueError, "y must be class labels (n,) or one-hot (n, C), but its shape is"),
        (3, ValueError, "y must be class labels (n,) or one-hot (n, C), but its shape is ()"),
        (Y.astype(str), TypeError, "number the classes first: classes, y = np.unique(y, return_inverse=True)"),
        (Y.astype(object), TypeError, "y holds object values (dtype object), not numbers"),
        (scipy.sparse.csr_array(ONE_HOT), TypeError, "y is sparse; make it dense first: y.toarray()"),
    ],
)
def test_wrong_y(given, error, message):
    with refused(error, message):
        check_y(given, 100, 3)


def test_bytes_stay_bytes():
    small = (X * 255).astype(np.uint8)
    assert check_X(small, 4, "float32") is small
    turned = np.asfortranarray(small)
    np.testing.assert_array_equal(check_X(turned, 4, "float64", 1 / 255), small)
    assert check_X(turned, 4, "float64", 1 / 255).flags.c_contiguous


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_other_numbers_are_scaled(dtype):
    plain = X.astype(dtype)
    for given in (X, X.tolist(), plain):
        np.testing.assert_array_equal(check_X(given, 4, dtype, 0.1), plain * np.dtype(dtype).type(0.1))
