"""Whole epochs in one call, against the textbook's step in `fastmlp.reference`."""

import math
import threading

import numpy as np
import pytest
from support.rows import BYTE_SCALE, PLAIN_ROWS, TRAIN_ROWS, in_format, row_param, train_rows

from fastmlp import reference
from fastmlp.engine.layout import Layout, aligned_zeros
from fastmlp.engine.rows import rows_in_place, rows_to_train
from fastmlp.engine.workspace import Needs, Workspace
from fastmlp.kernels import epoch, structs
from fastmlp.kernels.formats import FORMATS
from fastmlp.kernels.optimizers import RATE
from fastmlp.kernels.team import TAKEN

pytestmark = pytest.mark.loops("every row format")

FUSED, ACCUMULATED = 0, structs.ACCUMULATE | structs.COMMIT
DROPOUT = {"seed": 5, "epoch": 2**32 - 2, "drop_below": 2**30, "scale_kept": 4 / 3}
NOISE = DROPOUT | {"noise": 0.2}
NETS = ([1, 1], [1, 2], [3, 1, 2], [7, 13, 3], [17, 33, 10], [8, 16, 16], [13, 7, 65, 17, 3], [65, 64, 1, 33, 7])


class Run:
    """A network's buffers and its data: rows of a larger x, in a shuffled order with gaps."""

    def __init__(
        self, rng, dtype, layers, activation="relu", n_rows=29, chunk=512, accumulate=False, size=1, rows="dense"
    ):  # fmt: skip
        self.layout, self.activation, self.size = Layout(layers, str(dtype)), activation, size
        self.hidden, self.chunk, self.accumulate = "plain" if activation == "relu" else "sloped", chunk, accumulate
        self.params = aligned_zeros(self.layout.size, dtype)
        for w in self.layout.weights(self.params):
            w[:] = rng.normal(scale=math.sqrt(2 / len(w)), size=w.shape)
        for b in self.layout.biases(self.params):
            b[:] = rng.normal(scale=0.1, size=b.shape)
        x = rng.standard_normal((n_rows + 5, layers[0])).astype(dtype)
        if rows != "dense":
            x[rng.random(x.shape) < 0.7] = 0
        row_format, self.kernels = TRAIN_ROWS[rows]
        X, self.x = in_format(x, row_format)
        self.rows = train_rows(X, row_format, size)
        self.settings = {}
        self.new_workspace(self.kernels)
        self.labels = rng.integers(0, layers[-1], n_rows + 5).astype(np.int32)
        self.order = np.array([rng.permutation(n_rows + 5)[:n_rows] for _ in range(3)])

    def new_workspace(self, kernels, staged=None):
        """Make a workspace for rows that are read in this way."""
        self.kernels, n_hidden = kernels, len(self.layout.shapes) - 1
        needs = Needs(
            kernels, kernels.staged if staged is None else staged, self.chunk, self.size, (),
            self.rows.most_nonzeros(self.chunk), accumulate=self.accumulate,
        )  # fmt: skip
        self.space = Workspace(self.layout, [self.activation] * n_hidden, needs)
        self.space.settings["input_scale"], self.space.settings["scale_kept"] = BYTE_SCALE, 1
        for name, value in self.settings.items():
            self.space.settings[name] = value

    @property
    def parameters(self):
        return self.layout.weights(self.params) + self.layout.biases(self.params)

    def padding(self, flat):
        """Return the numbers of a flat buffer that belong to no parameter."""
        outside = np.ones_like(flat)
        for part in self.layout.weights(outside) + self.layout.biases(outside):
            part[:] = 0
        return flat[outside == 1]

    def train(self, batch_size=8, rate=0.2, mode=FUSED, n_epochs=3):
        """Train in `size` threads; return the sums of losses and of correct rows of each epoch."""
        space, rows, n_rows = self.space, self.rows, self.order.shape[1]
        losses, correct, penalties = np.zeros(n_epochs), np.zeros(n_epochs, np.int64), np.zeros(n_epochs)
        n_steps = n_epochs * -(-n_rows // batch_size)
        schedule = np.zeros((n_steps, RATE + 1))
        schedule[:, RATE] = rate

        def call(rank, end_step):
            epoch.train_loop(self.kernels, self.hidden, "softmax", None)(
                self.params, space.gradient, self.params[:0], space.work, *space.private[rank], space.sums,
                losses, correct, penalties, space.row_loss, space.row_correct, space.sync, space.control,
                rows.x, rows.indptr, rows.indices, self.labels, self.params[:0], self.order.reshape(-1), schedule,
                space.layers[rank], space.settings, n_rows, batch_size, 0, end_step, mode, rank, self.size,
            )  # fmt: skip

        call(0, 0)  # compiles
        threads = [threading.Thread(target=call, args=(rank, n_steps)) for rank in range(1, self.size)]
        publish = space.private_weights(self.params)
        for thread in threads:
            thread.start()
        call(0, n_steps)
        for thread in threads:
            thread.join()
        publish()
        return losses, correct

    def infer(
        self, mode, *, first=0, end=None, numbers=None, labels=None, losses=None, correct=None, space=None, sync=None
    ):  # fmt: skip
        space, rows, none = space or self.space, self.rows, np.zeros(0)
        epoch.infer_loop(FORMATS[rows.format], self.hidden, "softmax")(
            np.zeros(0, self.params.dtype) if numbers is None else numbers.reshape(-1),
            none.astype(np.int64) if labels is None else labels,
            none if losses is None else losses,
            none.astype(np.bool_) if correct is None else correct,
            np.full(1, -1),
            space.work, *space.private[0][:6], np.zeros_like(space.sync) if sync is None else sync,
            rows.x, rows.indptr, rows.indices, self.labels,
            self.params[:0], np.arange(len(self.x)), self.params, space.layers[0], space.settings,
            first, len(self.x) if end is None else end, mode,
        )  # fmt: skip

    def textbook(self, batch_size=8, rate=0.2, n_epochs=3):
        """Train by `fastmlp.reference`, in float64; return parameters, sums of losses and of correct rows."""
        n_layers = len(self.layout.shapes)
        parameters = [p.astype(float) for p in self.parameters]
        losses, correct = np.zeros(n_epochs), np.zeros(n_epochs, int)
        for e, order in enumerate(self.order[:n_epochs]):
            for start in range(0, len(order), batch_size):
                rows = order[start : start + batch_size]
                y, weights, biases = self.labels[rows], parameters[:n_layers], parameters[n_layers:]
                outputs = reference.forward(self.x[rows].astype(float), weights, biases, self.activation)
                losses[e] += reference.cross_entropy(outputs[-1], y).sum()
                correct[e] += np.count_nonzero(outputs[-1].argmax(axis=1) == y)
                dw, db = reference.backward(outputs, y, weights, self.activation)
                for p, g in zip(parameters, dw + db, strict=True):
                    p -= rate * g
        return parameters, losses, correct


def assert_close(got, expected, dtype):
    tolerance = {"float32": 1e-4, "float64": 1e-11}[str(dtype)]
    for g, e in zip(got, expected, strict=True):
        np.testing.assert_allclose(g, e, rtol=tolerance, atol=tolerance * max(1, np.abs(e).max()))


@pytest.mark.parametrize("layers", NETS, ids=str)
@pytest.mark.parametrize("batch_size", [1, 7, 8, 29])
@pytest.mark.parametrize(
    ("rows", "activation"), [*(row_param(name, "relu") for name in TRAIN_ROWS), ("dense", "logistic")]
)
def test_epochs_are_those_of_the_textbook(rng, dtype, activation, layers, batch_size, rows):
    run = Run(rng, dtype, layers, activation, rows=rows)
    parameters, losses, correct = run.textbook(batch_size)
    got_losses, got_correct = run.train(batch_size)
    assert_close(run.parameters, parameters, dtype)
    assert_close([got_losses], [losses], dtype)
    np.testing.assert_array_equal(got_correct, correct)
    assert not run.padding(run.params).any()  # padding stays zero
    assert run.space.control[structs.STEPS] == 3 * -(-29 // batch_size)
    assert run.space.control[structs.RESULT] == structs.FINISHED


@pytest.mark.parametrize("layers", NETS, ids=str)
def test_accumulated_gradient_gives_the_bits_of_the_fused_step(rng, dtype, layers):
    fused = Run(np.random.default_rng(1), dtype, layers)
    accumulated = Run(np.random.default_rng(1), dtype, layers, accumulate=True)
    results = fused.train(mode=FUSED), accumulated.train(mode=ACCUMULATED)
    np.testing.assert_array_equal(accumulated.params, fused.params)
    np.testing.assert_array_equal(results[0], results[1])
    assert not accumulated.space.gradient.any()  # ready for the next batch


@pytest.mark.parametrize("chunk", [1, 3, 4, 13, 28])
@pytest.mark.parametrize("batch_size", [13, 29])
def test_chunks_of_a_batch_make_one_step(rng, dtype, chunk, batch_size):
    run = Run(rng, dtype, [7, 13, 3], chunk=min(chunk, batch_size), accumulate=True)
    parameters, losses, correct = run.textbook(batch_size)
    got_losses, got_correct = run.train(batch_size, mode=ACCUMULATED)
    assert_close(run.parameters, parameters, dtype)
    assert_close([got_losses], [losses], dtype)
    np.testing.assert_array_equal(got_correct, correct)
    assert run.space.control[structs.STEPS] == 3 * -(-29 // batch_size)


@pytest.mark.parametrize("chunk", [5, 29])
def test_gradient_alone_changes_no_parameter(rng, dtype, chunk):
    run = Run(rng, dtype, [7, 13, 3], chunk=chunk, accumulate=True)
    before = run.params.copy()
    stepped, _, _ = run.textbook(29, rate=1, n_epochs=1)
    run.train(29, rate=1, mode=structs.ACCUMULATE, n_epochs=1)
    np.testing.assert_array_equal(run.params, before)
    gradient = run.layout.weights(run.space.gradient) + run.layout.biases(run.space.gradient)
    assert_close(gradient, [p - s for p, s in zip(run.parameters, stepped, strict=True)], dtype)
    assert not run.padding(run.space.gradient).any()


@pytest.mark.parametrize("mode", [FUSED, ACCUMULATED])
@pytest.mark.parametrize("size", [1, 2])
def test_training_stops_before_the_next_step(rng, dtype, mode, size):
    run = Run(rng, dtype, [7, 13, 3], accumulate=mode == ACCUMULATED, size=size)
    before = run.params.copy()
    run.space.stop()
    run.train(mode=mode)
    np.testing.assert_array_equal(run.params, before)
    assert run.space.control[structs.RESULT] == structs.STOPPED
    assert run.space.control[structs.STEPS] == 0


@pytest.mark.parametrize(("mode", "chunk"), [(FUSED, 8), (ACCUMULATED, 8), (ACCUMULATED, 3)])
@pytest.mark.parametrize("size", [1, 2])
def test_a_bad_loss_ends_training_before_its_step(rng, dtype, mode, chunk, size):
    accumulate = mode == ACCUMULATED
    run = Run(np.random.default_rng(2), dtype, [7, 13, 3], chunk=chunk, accumulate=accumulate, size=size)
    good = Run(np.random.default_rng(2), dtype, [7, 13, 3], chunk=chunk, accumulate=accumulate, size=size)
    bad_row = run.order[0, 23]  # in the third batch of eight, its last row
    run.x[bad_row, 2] = np.nan  # dense rows are read in place
    good.order = good.order[:, :16].copy()  # only the two batches before it
    losses, _ = run.train(mode=mode, n_epochs=2)
    good_losses, _ = good.train(mode=mode, n_epochs=1)
    np.testing.assert_array_equal(run.params, good.params)
    assert run.space.control[structs.RESULT] == structs.NOT_FINITE
    assert run.space.control[structs.STEPS] == 2
    assert math.isnan(losses[0])
    assert math.isfinite(good_losses[0])


@pytest.mark.parametrize("size", [2, 3, 16, *(pytest.param(size, marks=pytest.mark.slow) for size in (4, 7))])
@pytest.mark.parametrize(("mode", "chunk"), [(FUSED, 8), (ACCUMULATED, 5)])
@pytest.mark.parametrize("layers", [[3, 1, 2], [17, 33, 10], [40, 200, 3, 130]], ids=str)
@pytest.mark.parametrize("rows", [row_param(name) for name in TRAIN_ROWS])
def test_a_team_gives_the_bits_of_one_thread(dtype, layers, mode, chunk, size, rows):
    options = {"chunk": chunk, "accumulate": mode == ACCUMULATED, "rows": rows}
    alone, team = (Run(np.random.default_rng(3), dtype, layers, size=s, **options) for s in (1, size))
    # Rows of every format give the bits of dense rows.
    alone.rows, kernels = rows_to_train(alone.x, "dense", 8, 1), FORMATS["dense"].train
    if rows not in PLAIN_ROWS:
        kernels = FORMATS["dense"].noise
        alone.settings = team.settings = DROPOUT if rows.endswith("_dropout") else NOISE
    alone.new_workspace(kernels)
    team.new_workspace(team.kernels)
    results = alone.train(mode=mode), team.train(mode=mode)
    np.testing.assert_array_equal(team.params, alone.params)
    np.testing.assert_array_equal(results[1], results[0])
    assert team.space.control[structs.STEPS] == 12


# --- inference --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layers", NETS, ids=str)
@pytest.mark.parametrize("chunk", [1, 7, 64])
@pytest.mark.parametrize(
    ("row_format", "activation", "is_packed"),
    [
        *(row_param(name, "relu", name == "packed") for name in FORMATS),
        ("packed", "relu", False),
        ("dense", "logistic", False),
    ],
)
def test_inference(rng, dtype, activation, layers, chunk, row_format, is_packed):
    run = Run(rng, dtype, layers, activation, chunk=chunk, rows=FORMATS[row_format].train.name)
    if row_format == "packed" and not is_packed:  # rows are packed batch by batch
        run.rows = rows_in_place(run.x, "sparse", 8)
    assert (run.rows.format, run.rows.is_packed) == (row_format, is_packed)
    kernels = FORMATS[row_format].infer
    run.new_workspace(kernels, staged=kernels.staged and not is_packed)
    n_layers = len(layers) - 1
    parameters = [p.astype(float) for p in run.parameters]
    logits = reference.forward(run.x.astype(float), parameters[:n_layers], parameters[n_layers:], activation)[-1]
    n, before = len(run.x), run.params.copy()
    proba, labels = np.zeros((n, layers[-1]), dtype), np.zeros(n, np.int64)
    losses, correct = np.zeros(n), np.zeros(n, np.bool_)
    run.infer(structs.NUMBERS, numbers=proba)
    run.infer(structs.LABELS, labels=labels)
    run.infer(structs.ROW_LOSSES, losses=losses, correct=correct)
    assert_close([proba, losses], [reference.softmax(logits), reference.cross_entropy(logits, run.labels)], dtype)
    np.testing.assert_array_equal(labels, logits.argmax(axis=1))
    np.testing.assert_array_equal(correct, labels == run.labels)
    np.testing.assert_array_equal(run.params, before)


@pytest.mark.parametrize(("first", "end"), [(0, 1), (5, 20), (33, 34), (9, 9)])
def test_inference_of_some_rows_leaves_the_others(rng, dtype, first, end):
    run, whole = (Run(np.random.default_rng(4), dtype, [7, 13, 3], chunk=chunk) for chunk in (4, 64))
    outputs = {}
    for name, r, rows in (("whole", whole, {}), ("part", run, {"first": first, "end": end})):
        proba, labels = np.full((34, 3), -5, dtype), np.full(34, -5)
        losses, correct = np.full(34, -5.0), np.zeros(34, np.bool_)
        r.infer(structs.NUMBERS, numbers=proba, **rows)
        r.infer(structs.LABELS, labels=labels, **rows)
        r.infer(structs.ROW_LOSSES, losses=losses, correct=correct, **rows)
        outputs[name] = proba, labels, losses, correct
    for got, full in zip(outputs["part"], outputs["whole"], strict=True):
        np.testing.assert_array_equal(got[first:end], full[first:end])
        others = np.delete(got, slice(first, end), axis=0)
        assert np.all(others == (0 if got.dtype == np.bool_ else -5))


@pytest.mark.parametrize("n_threads", [2, 5])
def test_threads_share_the_rows_that_they_predict(n_threads):
    run = Run(np.random.default_rng(4), "float32", [7, 13, 3], chunk=1)
    expected = np.zeros((34, 3), np.float32)
    run.infer(structs.NUMBERS, numbers=expected)
    proba, sync = np.full((34, 3), -5, np.float32), np.zeros_like(run.space.sync)
    spaces = [Workspace(run.layout, ["relu"], run.space.needs) for _ in range(n_threads)]
    threads = [
        threading.Thread(target=run.infer, args=(structs.NUMBERS,), kwargs={"numbers": proba, "space": s, "sync": sync})
        for s in spaces
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_array_equal(proba, expected)
    assert sync[TAKEN] == 34 + n_threads
