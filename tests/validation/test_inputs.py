"""X in every form that is taken, and the errors of wrong ones."""

import numpy as np
import pytest
from support.nets import refused

from fastmlp.validation.inputs import check_X

X = np.random.default_rng(0).random((100, 4))


def with_value(value, row, column, dtype=np.float64):
    changed = X.astype(dtype)
    changed[row, column] = value
    return changed


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
