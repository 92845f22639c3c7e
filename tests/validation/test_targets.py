"""Labels in every form that is taken, and the errors of wrong ones."""

import numpy as np
import pytest
import scipy.sparse
from support.nets import refused

from fastmlp.validation.inputs import check_X
from fastmlp.validation.targets import check_y

X = np.random.default_rng(0).random((100, 4))
Y = np.arange(100) % 3


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
