"""How a layer is divided between threads."""

import itertools

import numpy as np
import pytest
import scipy.sparse

from fastmlp.engine.layout import Layout
from fastmlp.engine.rows import rows_to_train
from fastmlp.engine.workspace import Needs, Workspace, divide_first, grid
from fastmlp.kernels.formats import FORMATS


def needs_of(row_format, n_threads, chunk=64):
    kernels = FORMATS[row_format].train
    return Needs(kernels, kernels.staged, chunk, n_threads, ())


def zeros_left_of(border, n_rows=500, n_features=256):
    X = np.ones((n_rows, n_features), np.float32)
    X[:, :border] = 0
    return X


@pytest.mark.parametrize("n_threads", [1, 2, 3, 7, 16])
def test_each_weight_and_output_belongs_to_one_thread(n_threads):
    layout = Layout([70, 200, 17, 3, 90], "float32")
    plans = Workspace(layout, ["relu"] * 3, needs_of("dense", n_threads)).layers
    for i, (n_in, _) in enumerate(layout.shapes):
        weights = np.zeros((n_in, layout.widths[i]), int)
        outputs = np.zeros((64, layout.widths[i]), int)
        for plan in plans:
            layer = plan[i]
            columns = slice(layer["column"], layer["end_column"])
            weights[layer["row"] : layer["end_row"], columns] += 1
            first, end = (64 * part // layer["parts"] for part in (layer["part"], layer["part"] + 1))
            outputs[first:end, columns] += 1
        assert np.all(weights == 1)
        assert np.all(outputs == 1)


def test_all_threads_agree_where_they_wait():
    for n_threads, hidden in itertools.product((2, 3, 5, 8, 16), ([8], [128], [128, 8], [8, 128], [40, 8, 8, 100])):
        layout = Layout([50, *hidden, 3], "float32")
        plans = Workspace(layout, ["relu"] * len(hidden), needs_of("packed", n_threads)).layers
        for name in ("barrier", "barrier_back", "turn"):
            for plan in plans[1:]:
                np.testing.assert_array_equal(plan[name] != 0, plans[0][name] != 0)


@pytest.mark.parametrize("width", [1, 2, 7, 19, 64])
@pytest.mark.parametrize("n_rows", [1, 64, 512])
def test_a_grid_has_no_more_parts_than_threads(width, n_rows):
    for n_threads in range(1, 33):
        n_columns, parts = grid(width, n_threads, n_rows, float)
        assert 1 <= n_columns <= min(width, n_threads)
        assert n_threads - n_columns < n_columns * parts <= n_threads


def test_small_batches_divide_columns_and_large_ones_rows():
    assert grid(8, 8, 16, float) == (8, 1)
    assert grid(8, 8, 4096, lambda vectors: 1.0 + vectors)[1] > 1


@pytest.mark.parametrize("row_format", ["packed", "csr", "packed bytes"])
def test_features_are_divided_by_their_nonzeros(row_format):
    X = zeros_left_of(128)
    forms = {"csr": scipy.sparse.csr_matrix, "packed bytes": lambda X: X.astype(np.uint8)}
    rows = rows_to_train(forms.get(row_format, np.asarray)(X), "sparse", 1, 1)
    assert rows.format == row_format
    np.testing.assert_allclose(rows.density, X[0], atol=0.01)
    layout = Layout([256, 10], "float32")
    needs = divide_first(needs_of(row_format, 4, chunk=512), layout, rows.density)
    assert needs.first_grid == (1, 4)
    ends = layout.lanes * np.array(needs.first_ends)
    np.testing.assert_allclose(
        ends, [160, 192, 224, 256], atol=layout.lanes
    )  # the first 128 features cost next to nothing


def test_features_without_zeros_are_divided_equally():
    layout = Layout([256, 10], "float32")
    assert divide_first(needs_of("dense", 4), layout, None).first_ends == ()
