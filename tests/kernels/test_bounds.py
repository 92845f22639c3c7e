"""No kernel reaches beyond its arrays: the checked build says so, and so do pages that may not be touched."""

import ctypes
import mmap
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import sparse

from fastmlp.engine.layout import Layout
from fastmlp.engine.rows import rows_in_place, rows_to_train
from fastmlp.engine.workspace import Workspace
from fastmlp.kernels import activations, dense, epoch, first_layer, losses, simd, tables, tile
from fastmlp.kernels.jit import CHECKED, kernel
from fastmlp.kernels.structs import Block, Matrix

checked_build = pytest.mark.skipif(not CHECKED, reason="the normal build tests no bounds; run with FASTMLP_CHECKED=1")
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks the C library of Linux for mprotect")


# --- the checked build ------------------------------------------------------------------------------------------------


@kernel
def load_and_store(out, at, x, x_at):
    simd.store(out, at, simd.load(x, x_at))


@kernel
def load_first_and_store(out, x, at, count):
    simd.store(out, 0, simd.first_lanes(simd.load(x, at), count, 0.0))


@kernel
def transpose(out, out_at, out_pitch, x, x_at, x_pitch):
    simd.transpose_square(out, out_at, out_pitch, x, x_at, x_pitch)


@kernel
def peek(x, at):
    return simd.peek(x, at)


def beyond():
    return pytest.raises(IndexError, match="a kernel reached beyond an array")


@checked_build
def test_load_and_store_beyond(dtype, lanes):
    x, out = np.zeros(3 * lanes, dtype), np.zeros(2 * lanes, dtype)
    load_and_store(out, lanes, x, 2 * lanes)
    for at, x_at in ((0, -1), (0, 2 * lanes + 1), (0, 3 * lanes), (-1, 0), (lanes + 1, 0), (10**12, 0), (0, -(10**12))):
        with beyond():
            load_and_store(out, at, x, x_at)
    load_first_and_store(out, x, 2 * lanes, 1)
    with beyond():  # also lanes that are not taken are loaded
        load_first_and_store(out, x, 2 * lanes + 1, 1)
    with beyond():
        load_first_and_store(out, x, -1, 1)


@checked_build
def test_transpose_and_peek_beyond(dtype, lanes):
    square = np.zeros(lanes * lanes, dtype)
    transpose(square.copy(), 0, lanes, square, 0, lanes)
    for out_at, out_pitch, at, pitch in (
        (1, lanes, 0, lanes),
        (0, lanes + 1, 0, lanes),
        (0, lanes, -1, lanes),
        (0, lanes, 0, -1),
    ):
        with beyond():
            transpose(square.copy(), out_at, out_pitch, square, at, pitch)
    numbers = np.zeros(3, np.int64)
    assert peek(numbers, 2) == 0
    for at in (-1, 3):
        with beyond():
            peek(numbers, at)


def forward_arguments(dtype, lanes):
    """Arguments of a forward pass of 13 rows, 5 inputs and 3 vectors, each array just long enough."""
    return {
        "out": np.zeros(13 * 3 * lanes, dtype), "x": np.ones(13 * 5, dtype), "starts": np.arange(13) * 5,
        "w": np.zeros(5 * 3 * lanes, dtype), "b": np.zeros(3 * lanes, dtype), "n_in": 5, "pitch": 3 * lanes,
        "rows": (0, 13), "columns": (0, 3),
    }  # fmt: skip


def update_arguments(dtype, lanes):
    return {
        "w": np.zeros(5 * 3 * lanes, dtype), "x": np.ones(13 * 5, dtype), "starts": np.arange(13) * 5,
        "delta": np.zeros(13 * 3 * lanes, dtype), "zeros": np.zeros(tile.VECTORS * lanes, dtype), "n_rows": 13,
        "pitch": 3 * lanes, "inputs": (0, 5), "columns": (0, 3), "rate": -0.1,
    }  # fmt: skip


def loss_arguments(dtype, lanes):
    """Arguments of a loss of 5 rows and a class more than fit into one vector."""
    n_rows = lanes + 5
    return {
        "row_loss": np.zeros(n_rows), "correct": np.zeros(n_rows, np.bool_), "z": np.zeros(n_rows * 2 * lanes, dtype),
        "pitch": 2 * lanes, "targets": np.full(n_rows, lanes), "n_out": lanes + 1, "rows": (0, n_rows),
    }  # fmt: skip


@checked_build
@pytest.mark.parametrize("name", ["out", "x", "starts", "w", "b"])
def test_forward_beyond(dtype, lanes, call, name):
    arguments = forward_arguments(dtype, lanes)
    call.forward(**arguments)
    with beyond():
        call.forward(**arguments | {name: arguments[name][:-1].copy()})


@checked_build
@pytest.mark.parametrize(
    "change",
    [{"rows": (-1, 3)}, {"rows": (12, 14)}, {"columns": (0, 4)}, {"columns": (-40, -39)}, {"n_in": 6}],
    ids=str,
)
def test_forward_of_rows_columns_and_sums_beyond(dtype, lanes, call, change):
    with beyond():
        call.forward(**forward_arguments(dtype, lanes) | change)


@checked_build
@pytest.mark.parametrize("name", ["w", "x", "starts", "delta"])
def test_update_beyond(dtype, lanes, call, name):
    arguments = update_arguments(dtype, lanes)
    call.update(**arguments)
    with beyond():
        call.update(**arguments | {name: arguments[name][:-1].copy()})


@checked_build
@pytest.mark.parametrize(
    "change",
    [{"inputs": (-1, 3)}, {"inputs": (4, 6)}, {"columns": (0, 4)}, {"columns": (-9, -8)}, {"n_rows": 14}],
    ids=str,
)
def test_update_of_rows_columns_and_sums_beyond(dtype, lanes, call, change):
    with beyond():
        call.update(**update_arguments(dtype, lanes) | change)


@checked_build
@pytest.mark.parametrize("name", ["targets", "z"])
def test_loss_beyond(dtype, lanes, call, name):
    arguments = loss_arguments(dtype, lanes)
    call.loss(**arguments)
    with pytest.raises(IndexError):  # Numba's own words where a plain index is too large
        call.loss(**arguments | {name: arguments[name][:-1].copy()})
    with pytest.raises(IndexError):
        call.loss(**arguments | {"targets": np.full(5, 10 * lanes)})
    numbers = arguments | {"targets": np.zeros((lanes + 5) * (lanes + 1), dtype)}
    for loss in ("logistic", "identity", "exp"):
        call.loss(**numbers, loss=loss)
        with pytest.raises(IndexError):
            call.loss(**numbers | {name: numbers[name][:-1].copy()}, loss=loss)


# --- pages that may not be touched ------------------------------------------------------------------------------------

_kept = []  # a mapping lives as long as the process: its protected pages are not given back


def at_the_edge(array, end):
    """A copy of the array that ends (or starts) where a page begins (or ends) that nobody may touch."""
    page = mmap.PAGESIZE
    n_pages = -(-array.nbytes // page)
    mapping = mmap.mmap(-1, (n_pages + 2) * page)
    _kept.append(mapping)
    start = ctypes.addressof(ctypes.c_char.from_buffer(mapping))
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    for guard in (start, start + (n_pages + 1) * page):
        assert protect(guard, page, 0) == 0
    offset = (n_pages + 1) * page - array.nbytes if end else page
    copy = np.frombuffer(mapping, array.dtype, array.size, offset)
    copy[:] = array
    return copy


@pytest.fixture(params=[True, False], ids=["end", "start"])
def guarded(request):
    """Arguments with every array at a protected page."""

    def guard(arguments):
        return {
            name: at_the_edge(value, request.param) if isinstance(value, np.ndarray) else value
            for name, value in arguments.items()
        }

    return guard


@linux
def test_forward_update_and_loss_stay_inside(dtype, lanes, call, guarded):
    numbers = loss_arguments(dtype, lanes) | {"targets": np.zeros((lanes + 5) * (lanes + 1), dtype)}
    for function, arguments, outputs in (
        (call.forward, forward_arguments(dtype, lanes), ["out"]),
        (call.update, update_arguments(dtype, lanes), ["w"]),
        (call.loss, loss_arguments(dtype, lanes), ["row_loss", "correct", "z"]),
        (call.loss, loss_arguments(dtype, lanes) | {"loss": "smoothed softmax", "smoothing": 0.1}, ["z"]),
        (call.loss, numbers | {"loss": "logistic"}, ["z"]),
        (call.loss, numbers | {"loss": "identity"}, ["z"]),
        (call.loss, numbers | {"loss": "exp"}, ["z"]),
    ):
        inside = guarded(arguments)
        function(**inside)
        function(**arguments)
        for name in outputs:
            np.testing.assert_array_equal(inside[name], arguments[name])


@linux
@pytest.mark.parametrize("n_vectors", [1, 2, 3, 4, 5, 9])
@pytest.mark.parametrize("n_rows", [1, 2, 3, 5, 7, 13])
def test_tails_stay_inside(dtype, lanes, call, guarded, n_rows, n_vectors):
    n_out = n_vectors * lanes
    forward = {
        "out": np.zeros(n_rows * n_out, dtype), "x": np.ones(n_rows * 3, dtype), "starts": np.arange(n_rows)[::-1] * 3,
        "w": np.zeros(3 * n_out, dtype), "b": np.zeros(n_out, dtype), "n_in": 3, "pitch": n_out, "rows": (0, n_rows),
        "columns": (0, n_vectors),
    }  # fmt: skip
    update = {
        "w": np.zeros(n_rows * n_out, dtype), "x": np.ones(3 * n_rows, dtype), "starts": np.arange(3)[::-1] * n_rows,
        "delta": np.ones(3 * n_out, dtype), "zeros": np.zeros(tile.VECTORS * lanes, dtype), "n_rows": 3, "pitch": n_out,
        "inputs": (0, n_rows), "columns": (0, n_vectors), "rate": 1,
    }  # fmt: skip
    call.forward(**guarded(forward))
    update = guarded(update)
    call.update(**update)
    assert np.all(update["w"] == 3)


@linux
def test_the_other_parts_stay_inside(dtype, lanes, guarded, call):
    arrays = guarded({
        "both": np.full(2 * 3 * 2 * lanes, 0.5, dtype), "rows": np.arange(3),
        "h": np.full(3 * 2 * lanes, 0.5, dtype), "delta": np.full(3 * 2 * lanes, 1, dtype),
        "b": np.zeros(2 * lanes, dtype), "zeros": np.zeros(lanes, dtype), "row": np.zeros(2 * lanes, dtype),
        "w": np.ones(lanes * 2 * lanes, dtype), "t": np.zeros(lanes * 2 * lanes, dtype),
    })  # fmt: skip
    pitch = 2 * lanes
    h, delta, block = Matrix(arrays["h"], 0, pitch), Matrix(arrays["delta"], 0, pitch), Block(0, 3, 0, 2)
    for code in activations.CODES.values():
        if code != activations.RELU:
            both = Matrix(arrays["both"], 0, pitch)
            activations.activate(both, 6 * lanes, block, code, arrays["rows"], 5, 6, 7, 0, 1.0)
    activations.activate(h, 0, block, activations.RELU, arrays["rows"], 5, 6, 7, 2**30, 1.25)
    assert set(arrays["h"]) == {0, 0.625}
    arrays["h"][:] = 0.5
    activations.relu_gradient_rows(delta, h, block, 1.0)
    activations.multiply_rows(delta, h, block)
    assert set(arrays["delta"]) == {0.5}
    arrays["delta"][:] = 1
    call.update_bias(
        b=arrays["b"], delta=arrays["delta"], zeros=arrays["zeros"], n_rows=3, pitch=pitch, columns=(0, 2), rate=1
    )
    assert np.all(arrays["b"] == 3)
    dense.transpose(arrays["t"], 0, lanes, arrays["w"], 0, pitch, 0, lanes, 0, 2)
    assert np.all(arrays["t"] == 1)
    dense.axpy(arrays["w"], arrays["t"], 0, len(arrays["w"]), 2.0)
    assert np.all(arrays["w"] == 3)
    for n_out in (1, lanes, lanes + 1, 2 * lanes):
        row = arrays["row"][: -(-n_out // lanes) * lanes] if n_out <= lanes else arrays["row"]
        losses.LOSSES["softmax"].numbers(np.zeros(n_out, dtype), 0, row, 0, n_out)
        assert losses.argmax(row, 0, n_out) == 0


@linux
@pytest.mark.parametrize("layers", [[1, 1], [5, 3], [3, 17, 2], [7, 33, 40, 17]], ids=str)
@pytest.mark.parametrize(
    ("chunk", "mode", "norm"), [(7, 0, np.inf), (7, 0, 0.1), (3, tables.ACCUMULATE | tables.COMMIT, np.inf)]
)
@pytest.mark.parametrize(
    ("kind", "hidden", "head", "optimizer"),
    [
        *((kind, "plain", "softmax", None) for kind in first_layer.TRAIN_ROWS),
        ("dense", "sloped", "logistic", None),
        *((kind, "plain", "softmax", "adam") for kind in ("dense", "packed", "csr")),
    ],
)
def test_training_and_inference_stay_inside(
    rng, dtype, guarded, hidden, head, optimizer, layers, chunk, mode, norm, kind
):
    n_rows, batch_size, n_layers = 13, 7, len(layers) - 1
    activations = ["relu"] * n_layers if hidden == "plain" else ["identity", "gelu", "relu"]
    X = rng.standard_normal((n_rows, layers[0])).astype(dtype)
    X[rng.random(X.shape) < 0.5] = 0
    plain = kind.removeprefix("disturbed ").removeprefix("dropped ")
    X = sparse.csr_array(X) if plain == "csr" else (100 * np.abs(X)).astype(np.uint8) if "bytes" in kind else X
    rows = rows_to_train(X, "sparse" if plain in ("packed", "sparse bytes") else "dense", 8, 1)
    assert rows.kind == plain
    layout = Layout(layers, str(dtype))
    slots, whole, mode = (None, False, mode) if optimizer is None else (2, mode != 0 or norm < np.inf, 0)
    space = Workspace(
        layout, activations, chunk, 1, mode != 0, kind, rows.most_numbers(chunk), hidden == "sloped", slots, whole
    )
    outputs = guarded({"losses": np.zeros(2), "hits": np.zeros(2, np.int64), "penalties": np.zeros(2)})
    a = SimpleNamespace(**guarded({
        "params": rng.standard_normal(layout.size).astype(dtype), "gradient": space.gradient, "work": space.work,
        "notes": space.notes[0], "row_loss": space.row_loss, "row_hit": space.row_hit, "control": space.control,
        "meetings": space.meetings, "x": rows.x, "starts": rows.starts, "index": rows.index,
        "targets": rng.integers(0, layers[-1], n_rows).astype(np.int32), "marks": space.marks[0],
        "row_weights": np.ones(n_rows, dtype), "settings": np.array([0.1, 0.2, 5, 6, *[2**30, 4 / 3] * n_layers, 0, 1]),
        "links": space.links[0], "taken": space.taken[0], "features": space.features[0],
        "orders": np.concatenate([rng.permutation(n_rows) for _ in range(2)]),
        "plan": space.plans[0].ravel(), "memory": np.zeros(layout.size * (slots or 0), dtype), "sums": space.sums,
        "coefficients": np.tile([0.1, 0.5, norm, 0.1, 1e-8, 0.01, 0.9, 0.1, 0.99, 0.01], 4),
    }))  # fmt: skip
    if head == "logistic":
        a.targets = guarded({"targets": rng.integers(0, 2, n_rows * layers[-1]).astype(dtype)})["targets"]
    plan = a.plan.reshape(space.plans[0].shape)
    epoch.train_loop(kind, hidden, head, optimizer)(
        a.params, a.gradient, a.memory, a.work, a.notes, a.marks, a.links, a.taken, a.features, a.sums,
        *outputs.values(), a.row_loss, a.row_hit, a.control, a.meetings,
        a.x, a.starts, a.index, a.targets, a.row_weights, a.orders, a.coefficients.reshape(4, -1), plan, a.settings,
        n_rows, batch_size, chunk, 2, 0.01, mode, 0, 1,
    )  # fmt: skip
    assert a.control[tables.STEPS] == 4
    n_columns, n_labels = (max(2, layers[-1]), layers[-1]) if head == "logistic" else (layers[-1], 1)
    answers = guarded({
        "numbers": np.zeros(n_rows * n_columns, dtype), "predicted": np.zeros(n_rows * n_labels, np.int64),
        "losses": np.zeros(n_rows), "hits": np.zeros(n_rows, np.bool_), "bad_row": np.full(1, -1),
    })  # fmt: skip
    if kind != plain:  # what is predicted is not disturbed
        kind, space = plain, Workspace(layout, activations, chunk, 1, False, plain)
        vars(a).update(guarded({"work": space.work, "notes": space.notes[0], "plan": space.plans[0].ravel()}))
        plan = a.plan.reshape(space.plans[0].shape)
    forms = [rows]
    if kind == "packed":  # one loop predicts from packed rows and from those that it packs
        kind, forms = "sparse", [rows, rows_in_place(X, "sparse", 8)]
    for form in forms:
        if form.kind == "sparse":
            space = Workspace(layout, activations, chunk, 1, False, "sparse")
            arrays = {"x": form.x, "starts": form.starts, "index": form.index, "plan": space.plans[0].ravel()}
            vars(a).update(guarded(arrays | {"work": space.work, "notes": space.notes[0]}))
            plan = a.plan.reshape(space.plans[0].shape)
        for inference in (tables.NUMBERS, tables.LABELS, tables.LOSSES):
            epoch.infer_loop(kind, hidden, head)(
                *answers.values(), a.work, a.notes, a.marks, a.x, a.starts, a.index, a.targets, a.row_weights, a.orders,
                a.params, plan, a.settings, a.meetings, 0, n_rows, chunk, 0.01, inference,
            )  # fmt: skip
    sums = answers["numbers"].reshape(n_rows, -1).sum(axis=1)
    if n_columns != n_labels:
        np.testing.assert_allclose(sums, 1, rtol=50 * np.finfo(dtype).eps)


@pytest.mark.skipif(CHECKED, reason="this is the checked build")
def test_the_normal_build_pays_for_no_test(dtype, lanes):
    assert CHECKED is False
    out = np.zeros(2 * lanes, dtype)
    load_and_store(out[:lanes], lanes, out, 0)  # beyond the view, inside its memory: nobody objects
