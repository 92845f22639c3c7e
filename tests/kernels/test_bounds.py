"""No kernel reaches beyond its arrays: the checked build raises an error, and protected pages end the process."""

import ctypes
import mmap
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from support.rows import TRAIN_ROWS, in_format, row_param, train_rows

from fastmlp.engine.layout import Layout
from fastmlp.engine.rows import rows_in_place
from fastmlp.engine.workspace import Needs, Workspace
from fastmlp.kernels import activations, epoch, losses, matmul, structs, tile, vector_ops
from fastmlp.kernels.formats import FORMATS
from fastmlp.kernels.jit import CHECKED, kernel
from fastmlp.kernels.structs import Block, Matrix

pytestmark = pytest.mark.loops("every row format")

checked_build = pytest.mark.skipif(not CHECKED, reason="the normal build checks no bounds; run with FASTMLP_CHECKED=1")
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="calls mprotect of Linux")


# --- the checked build ------------------------------------------------------------------------------------------------


@kernel
def load_and_store(out, at, x, x_at):
    vector_ops.store(out, at, vector_ops.load(x, x_at))


@kernel
def load_first_and_store(out, x, at, count):
    vector_ops.store(out, 0, vector_ops.first_lanes(vector_ops.load(x, at), count, 0.0))


@kernel
def transpose(out, out_at, out_pitch, x, x_at, x_pitch):
    vector_ops.transpose_square(Matrix(out, out_at, out_pitch), Matrix(x, x_at, x_pitch))


@kernel
def peek(x, at):
    return vector_ops.peek(x, at)


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
    with beyond():  # lanes that are not used are loaded too
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
    """Return arguments of a forward pass of 13 rows, 5 inputs and 3 vectors; each array is just long enough."""
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
    """Return arguments of a loss with one class and 5 rows more than a vector has lanes."""
    n_rows = lanes + 5
    return {
        "row_loss": np.zeros(n_rows), "correct": np.zeros(n_rows, np.bool_), "z": np.zeros(n_rows * 2 * lanes, dtype),
        "pitch": 2 * lanes, "targets": np.full(n_rows, lanes), "n_out": lanes + 1, "rows": (0, n_rows),
    }  # fmt: skip


@checked_build
@pytest.mark.parametrize("name", ["out", "x", "starts", "w", "b"])
def test_forward_beyond(dtype, lanes, call, name):
    arguments = forward_arguments(dtype, lanes)
    for prefetched in (None, np.arange(13)):
        call.forward(**arguments, prefetched=prefetched)
        with beyond():
            call.forward(**arguments | {name: arguments[name][:-1].copy()}, prefetched=prefetched)


@checked_build
@pytest.mark.parametrize(
    "change",
    [{"rows": (-1, 3)}, {"rows": (12, 14)}, {"columns": (0, 4)}, {"columns": (-40, -39)}, {"n_in": 6}],
    ids=str,
)
def test_forward_of_rows_columns_and_sums_beyond(dtype, lanes, call, change):
    for prefetched in (None, np.arange(13)):
        with beyond():
            call.forward(**forward_arguments(dtype, lanes) | change, prefetched=prefetched)


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
    with pytest.raises(IndexError):  # with Numba's message where a plain index is too large
        call.loss(**arguments | {name: arguments[name][:-1].copy()})
    with pytest.raises(IndexError):
        call.loss(**arguments | {"targets": np.full(5, 10 * lanes)})
    numbers = arguments | {"targets": np.zeros((lanes + 5) * (lanes + 1), dtype)}
    for loss in ("logistic", "identity", "exp"):
        call.loss(**numbers, loss=loss)
        with pytest.raises(IndexError):
            call.loss(**numbers | {name: numbers[name][:-1].copy()}, loss=loss)


# --- pages that may not be touched ------------------------------------------------------------------------------------


def at_the_edge(array, end):
    """Return a copy of the array that ends where a protected page begins, or starts where one ends."""
    page = mmap.PAGESIZE
    n_pages = -(-array.nbytes // page)
    mapping = mmap.mmap(-1, (n_pages + 2) * page)
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
    """Return a function that moves every array among some arguments to a protected page."""

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
        (call.forward, forward_arguments(dtype, lanes) | {"prefetched": np.arange(13)}, ["out"]),
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
    call.forward(**guarded(forward | {"prefetched": np.arange(n_rows)}))
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
    matmul.transpose(Matrix(arrays["t"], 0, lanes), Matrix(arrays["w"], 0, pitch), Block(0, lanes, 0, 2))
    assert np.all(arrays["t"] == 1)
    matmul.add_and_clear(arrays["w"], arrays["t"], 0, len(arrays["w"]), 2.0)
    assert np.all(arrays["w"] == 3)
    for n_out in (1, lanes, lanes + 1, 2 * lanes):
        row = arrays["row"][: -(-n_out // lanes) * lanes] if n_out <= lanes else arrays["row"]
        losses.LOSSES["softmax"].numbers(np.zeros(n_out, dtype), 0, row, 0, n_out)
        assert losses.argmax(row, 0, n_out) == 0


class Buffers(SimpleNamespace):
    """The arrays of a workspace, each at a protected page."""

    def __init__(self, guarded, space, settings):
        for name, value in settings.items():
            space.settings[name] = value
        names = ("work", "gradient", "sums", "row_loss", "row_correct", "control", "sync", "settings")
        shared = {name: getattr(space, name) for name in names}
        private = dict(zip(structs.Workspace._fields[1:], space.private[0], strict=False))
        super().__init__(**guarded(shared | {"layers": space.layers[0]}), private=list(guarded(private).values()))


@linux
@pytest.mark.parametrize("layers", [[1, 1], [5, 3], [3, 17, 2], [7, 33, 40, 17]], ids=str)
@pytest.mark.parametrize(
    ("chunk", "mode", "norm"), [(7, 0, np.inf), (7, 0, 0.1), (3, structs.ACCUMULATE | structs.COMMIT, np.inf)]
)
@pytest.mark.parametrize(
    ("row_kernels", "hidden", "head", "optimizer"),
    [
        *(row_param(name, "plain", "softmax", None) for name in TRAIN_ROWS),
        row_param("dense", "sloped", "softmax", None, dtype="float32"),
        row_param("dense", "plain", "logistic", None, dtype="float64"),
        row_param("dense", "plain", "softmax", "adam", dtype="float64"),
        *(row_param(name, "plain", "softmax", "adam", dtype="float32") for name in ("packed", "csr")),
    ],
)
def test_training_and_inference_stay_inside(
    rng, dtype, guarded, hidden, head, optimizer, layers, chunk, mode, norm, row_kernels
):
    n_rows, batch_size, n_hidden = 13, 7, len(layers) - 2
    activations = ["relu"] * n_hidden if hidden == "plain" else ["identity", "gelu"][:n_hidden]
    x = rng.standard_normal((n_rows, layers[0])).astype(dtype)
    x[rng.random(x.shape) < 0.5] = 0
    row_format, kernels = TRAIN_ROWS[row_kernels]
    X, _ = in_format(x, row_format)
    rows = train_rows(X, row_format)
    layout, n_nonzeros = Layout(layers, str(dtype)), rows.most_nonzeros(chunk)
    slots, whole, mode = (None, False, mode) if optimizer is None else (2, mode != 0 or norm < np.inf, 0)
    dropout_rates = (0.25,) * n_hidden if hidden == "sloped" else ()
    needs = Needs(kernels, kernels.staged, chunk, 1, dropout_rates, n_nonzeros, mode != 0, slots, whole)
    settings = {
        "seed": 5, "epoch": 6, "drop_below": 2**30, "scale_kept": 4 / 3, "noise": 0.2, "input_scale": 0.01,
        "label_smoothing": 0.1,
    }  # fmt: skip
    b = Buffers(guarded, Workspace(layout, activations, needs), settings)
    targets = rng.integers(0, layers[-1], n_rows).astype(np.int32)
    if head == "logistic":
        targets = rng.integers(0, 2, n_rows * layers[-1]).astype(dtype)
    totals = guarded({"loss": np.zeros(2), "correct": np.zeros(2, np.int64), "penalty": np.zeros(2)})
    a = SimpleNamespace(**guarded({
        "params": rng.standard_normal(layout.size).astype(dtype), "state": np.zeros(layout.size * (slots or 0), dtype),
        "x": rows.x, "indptr": rows.indptr, "indices": rows.indices, "targets": targets,
        "row_weights": np.ones(n_rows, dtype), "order": np.concatenate([rng.permutation(n_rows) for _ in range(2)]),
        "schedule": np.tile([0.1, 0.5, norm, 0.1, 1e-8, 0.01, 0.9, 0.1, 0.99, 0.01], 4),
    }))  # fmt: skip
    epoch.train_loop(kernels, hidden, head, optimizer)(
        a.params, b.gradient, a.state, b.work, *b.private, b.sums, *totals.values(), b.row_loss, b.row_correct,
        b.sync, b.control, a.x, a.indptr, a.indices, a.targets, a.row_weights, a.order, a.schedule.reshape(4, -1),
        b.layers, b.settings, n_rows, batch_size, 0, 4, mode, 0, 1,
    )  # fmt: skip
    assert b.control[structs.STEPS] == 4
    n_columns, n_labels = (max(2, layers[-1]), layers[-1]) if head == "logistic" else (layers[-1], 1)
    answers = guarded({
        "numbers": np.zeros(n_rows * n_columns, dtype), "labels": np.zeros(n_rows * n_labels, np.int64),
        "losses": np.zeros(n_rows), "correct": np.zeros(n_rows, np.bool_), "bad_row": np.full(1, -1),
    })  # fmt: skip
    forms, to_infer = [rows], FORMATS[row_format].infer
    if row_kernels == "packed":  # one loop predicts from packed rows and from those that it packs
        forms.append(rows_in_place(X, "sparse", 8))
    for form in forms:
        needs = Needs(to_infer, to_infer.staged and not form.is_packed, chunk, 1, ())
        b = Buffers(guarded, Workspace(layout, activations, needs), settings)
        vars(a).update(guarded({"x": form.x, "indptr": form.indptr, "indices": form.indices}))
        for inference in (structs.NUMBERS, structs.LABELS, structs.ROW_LOSSES):
            b.sync[:] = 0
            epoch.infer_loop(FORMATS[row_format], hidden, head)(
                *answers.values(), b.work, *b.private[:6], b.sync, a.x, a.indptr, a.indices, a.targets, a.row_weights,
                a.order, a.params, b.layers, b.settings, 0, n_rows, inference,
            )  # fmt: skip
    sums = answers["numbers"].reshape(n_rows, -1).sum(axis=1)
    if n_columns != n_labels:
        np.testing.assert_allclose(sums, 1, rtol=50 * np.finfo(dtype).eps)


@pytest.mark.skipif(CHECKED, reason="this is the checked build")
def test_the_normal_build_checks_nothing(dtype, lanes):
    assert CHECKED is False
    out = np.zeros(2 * lanes, dtype)
    load_and_store(out[:lanes], lanes, out, 0)  # beyond the view, but inside its memory
