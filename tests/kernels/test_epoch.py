"""Whole epochs in one call, against the textbook's step in `fastmlp.reference`."""

import math
import threading

import numpy as np
import pytest
from scipy import sparse
from support.rows import kind_of_rows

from fastmlp import reference
from fastmlp.engine.layout import Layout, aligned_zeros
from fastmlp.engine.rows import rows_in_place, rows_to_train
from fastmlp.engine.workspace import Workspace
from fastmlp.kernels import epoch, first_layer, tables
from fastmlp.kernels.optimizers import RATE

pytestmark = pytest.mark.loops("every kind of rows")

FUSED, ACCUMULATED = 0, tables.ACCUMULATE | tables.COMMIT
SCALE = 1 / 255  # of bytes
PLAIN_KINDS = ("dense", "bytes", "packed", "sparse bytes", "csr")
SETTINGS = np.array([0.0, 0, 0, 0, *[0, 1] * 12])  # nothing is smoothed, nothing disturbed
DROPPED, NOISY = (np.array([0.0, noise, 5, 2**32 - 2, 2**30, 4 / 3, *[0, 1] * 12]) for noise in (0.0, 0.2))
NETS = ([1, 1], [1, 2], [3, 1, 2], [7, 13, 3], [17, 33, 10], [8, 16, 16], [13, 7, 65, 17, 3], [65, 64, 1, 33, 7])


class Run:
    """A network's buffers and its data: rows of x in a larger array, taken in a shuffled order with gaps."""

    def __init__(
        self, rng, dtype, layers, activation="relu", n_rows=29, chunk=512, accumulate=False, size=1, kind="dense"
    ):
        self.layout, self.activation, self.size = Layout(layers, str(dtype)), activation, size
        self.hidden, activations = "plain" if activation == "relu" else "sloped", [activation] * len(layers)
        self.params = aligned_zeros(self.layout.size, dtype)
        for w in self.layout.weights(self.params):
            w[:] = rng.normal(scale=math.sqrt(2 / len(w)), size=w.shape)
        for b in self.layout.biases(self.params):
            b[:] = rng.normal(scale=0.1, size=b.shape)
        self.x = rng.standard_normal((n_rows + 5, layers[0])).astype(dtype)
        if kind != "dense":
            self.x[rng.random(self.x.shape) < 0.7] = 0
        self.kind, self.settings = kind, SETTINGS
        self.keep(kind.removeprefix("disturbed ").removeprefix("dropped "))
        self.space = Workspace(self.layout, activations, chunk, size, accumulate, kind, self.rows.most_numbers(chunk))
        self.labels = rng.integers(0, layers[-1], n_rows + 5).astype(np.int32)
        self.orders = np.array([rng.permutation(n_rows + 5)[:n_rows] for _ in range(3)])

    def keep(self, kind):
        """Keep x in another form, and see it as the numbers that this form can hold."""
        X = self.x
        if "bytes" in kind:
            X = (100 * np.abs(self.x)).astype(np.uint8)
            self.x = X.astype(self.x.dtype) * self.x.dtype.type(SCALE)
        elif kind == "csr":
            X = sparse.csr_array(self.x)
        self.rows = rows_to_train(X, "sparse" if kind in ("packed", "sparse bytes") else "dense", 8, self.size)
        assert self.rows.kind == kind

    @property
    def parameters(self):
        return self.layout.weights(self.params) + self.layout.biases(self.params)

    def padding(self, flat):
        """Which numbers of a flat buffer belong to no parameter."""
        marks = np.ones_like(flat)
        for part in self.layout.weights(marks) + self.layout.biases(marks):
            part[:] = 0
        return flat[marks == 1]

    def train(self, batch_size=8, rate=0.2, mode=FUSED, n_epochs=3):
        """Train in `size` threads; give the sums of losses and hits of each epoch."""
        space, n_rows = self.space, self.orders.shape[1]
        losses, hits, penalties = np.zeros(n_epochs), np.zeros(n_epochs, np.int64), np.zeros(n_epochs)
        coefficients = np.zeros((n_epochs * -(-n_rows // batch_size), RATE + 1))
        coefficients[:, RATE] = rate

        def call(rank, epochs):
            epoch.train_loop(self.kind, self.hidden, "softmax", None)(
                self.params, space.gradient, self.params[:0], space.work, space.notes[rank], space.marks[rank],
                space.links[rank], space.taken[rank], space.features[rank], space.sums,
                losses, hits, penalties, space.row_loss, space.row_hit, space.control, space.meetings,
                self.rows.x, self.rows.starts, self.rows.index, self.labels, self.params[:0], self.orders.reshape(-1),
                coefficients, space.plans[rank], self.settings,
                n_rows, batch_size, space.chunk, epochs, SCALE, mode, rank, self.size,
            )  # fmt: skip

        call(0, 0)  # compiles
        threads = [threading.Thread(target=call, args=(rank, n_epochs)) for rank in range(1, self.size)]
        with space.own_weights(self.params):
            for thread in threads:
                thread.start()
            call(0, n_epochs)
            for thread in threads:
                thread.join()
        return losses, hits

    def infer(self, mode, *, first=0, last=None, numbers=None, predicted=None, losses=None, hits=None):
        space, none = self.space, np.zeros(0)
        epoch.infer_loop(self.rows.kind, self.hidden, "softmax")(
            np.zeros(0, self.params.dtype) if numbers is None else numbers.reshape(-1),
            none.astype(np.int64) if predicted is None else predicted,
            none if losses is None else losses,
            none.astype(np.bool_) if hits is None else hits,
            np.full(1, -1),
            space.work, space.notes[0], space.marks[0], self.rows.x, self.rows.starts, self.rows.index, self.labels,
            self.params[:0], np.arange(len(self.x)), self.params, space.plans[0], SETTINGS, space.meetings,
            first, len(self.x) if last is None else last, space.chunk, SCALE, mode,
        )  # fmt: skip

    def textbook(self, batch_size=8, rate=0.2, n_epochs=3):
        """The same training by `fastmlp.reference`, in float64: parameters, sums of losses and hits."""
        n_layers = len(self.layout.shapes)
        parameters = [p.astype(float) for p in self.parameters]
        losses, hits = np.zeros(n_epochs), np.zeros(n_epochs, int)
        for e, order in enumerate(self.orders[:n_epochs]):
            for start in range(0, len(order), batch_size):
                rows = order[start : start + batch_size]
                y, weights, biases = self.labels[rows], parameters[:n_layers], parameters[n_layers:]
                outputs = reference.forward(self.x[rows].astype(float), weights, biases, self.activation)
                losses[e] += reference.cross_entropy(outputs[-1], y).sum()
                hits[e] += np.count_nonzero(outputs[-1].argmax(axis=1) == y)
                dw, db = reference.backward(outputs, y, weights, self.activation)
                for p, g in zip(parameters, dw + db, strict=True):
                    p -= rate * g
        return parameters, losses, hits


def assert_close(got, expected, dtype):
    tolerance = {"float32": 1e-4, "float64": 1e-11}[str(dtype)]
    for g, e in zip(got, expected, strict=True):
        np.testing.assert_allclose(g, e, rtol=tolerance, atol=tolerance * max(1, np.abs(e).max()))


@pytest.mark.parametrize("layers", NETS, ids=str)
@pytest.mark.parametrize("batch_size", [1, 7, 8, 29])
@pytest.mark.parametrize(
    ("kind", "activation"), [*(kind_of_rows(kind, "relu") for kind in first_layer.TRAIN_ROWS), ("dense", "logistic")]
)
def test_epochs_are_those_of_the_textbook(rng, dtype, activation, layers, batch_size, kind):
    run = Run(rng, dtype, layers, activation, kind=kind)
    parameters, losses, hits = run.textbook(batch_size)
    got_losses, got_hits = run.train(batch_size)
    assert_close(run.parameters, parameters, dtype)
    assert_close([got_losses], [losses], dtype)
    np.testing.assert_array_equal(got_hits, hits)
    assert not run.padding(run.params).any()  # what is added to rows stays zero
    assert run.space.control[tables.STEPS] == 3 * -(-29 // batch_size)
    assert run.space.control[tables.RESULT] == tables.FINISHED


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
    parameters, losses, hits = run.textbook(batch_size)
    got_losses, got_hits = run.train(batch_size, mode=ACCUMULATED)
    assert_close(run.parameters, parameters, dtype)
    assert_close([got_losses], [losses], dtype)
    np.testing.assert_array_equal(got_hits, hits)
    assert run.space.control[tables.STEPS] == 3 * -(-29 // batch_size)


@pytest.mark.parametrize("chunk", [5, 29])
def test_gradient_alone_changes_no_parameter(rng, dtype, chunk):
    run = Run(rng, dtype, [7, 13, 3], chunk=chunk, accumulate=True)
    before = run.params.copy()
    stepped, _, _ = run.textbook(29, rate=1, n_epochs=1)
    run.train(29, rate=1, mode=tables.ACCUMULATE, n_epochs=1)
    np.testing.assert_array_equal(run.params, before)
    gradient = run.layout.weights(run.space.gradient) + run.layout.biases(run.space.gradient)
    assert_close(gradient, [p - s for p, s in zip(run.parameters, stepped, strict=True)], dtype)
    assert not run.padding(run.space.gradient).any()


@pytest.mark.parametrize("mode", [FUSED, ACCUMULATED])
@pytest.mark.parametrize("size", [1, 2])
def test_a_wish_to_stop_is_met_before_the_next_step(rng, dtype, mode, size):
    run = Run(rng, dtype, [7, 13, 3], accumulate=mode == ACCUMULATED, size=size)
    before = run.params.copy()
    run.space.stop()
    run.train(mode=mode)
    np.testing.assert_array_equal(run.params, before)
    assert run.space.control[tables.RESULT] == tables.STOPPED
    assert run.space.control[tables.STEPS] == 0


@pytest.mark.parametrize(("mode", "chunk"), [(FUSED, 8), (ACCUMULATED, 8), (ACCUMULATED, 3)])
@pytest.mark.parametrize("size", [1, 2])
def test_a_bad_loss_ends_training_before_its_step(rng, dtype, mode, chunk, size):
    accumulate = mode == ACCUMULATED
    run = Run(np.random.default_rng(2), dtype, [7, 13, 3], chunk=chunk, accumulate=accumulate, size=size)
    good = Run(np.random.default_rng(2), dtype, [7, 13, 3], chunk=chunk, accumulate=accumulate, size=size)
    bad_row = run.orders[0, 23]  # in the third batch of eight, its last row
    run.x[bad_row, 2] = np.nan  # dense rows are read in place
    good.orders = good.orders[:, :16].copy()  # only the two batches before it
    losses, _ = run.train(mode=mode, n_epochs=2)
    good_losses, _ = good.train(mode=mode, n_epochs=1)
    np.testing.assert_array_equal(run.params, good.params)
    assert run.space.control[tables.RESULT] == tables.NOT_FINITE
    assert run.space.control[tables.STEPS] == 2
    assert math.isnan(losses[0])
    assert math.isfinite(good_losses[0])


@pytest.mark.parametrize("size", [2, 3, 4])
@pytest.mark.parametrize(("mode", "chunk"), [(FUSED, 8), (ACCUMULATED, 5)])
@pytest.mark.parametrize("layers", [[3, 1, 2], [17, 33, 10], [40, 200, 3, 130]], ids=str)
@pytest.mark.parametrize("kind", [kind_of_rows(kind) for kind in first_layer.TRAIN_ROWS])
def test_a_team_gives_the_bits_of_one_thread(dtype, layers, mode, chunk, size, kind):
    settings = {"chunk": chunk, "accumulate": mode == ACCUMULATED, "kind": kind}
    alone, team = (Run(np.random.default_rng(3), dtype, layers, size=s, **settings) for s in (1, size))
    # What is brought, and leaves out zeros, has the bits of what is read in place.
    alone.rows, alone.kind = rows_to_train(alone.x, "dense", 8, 1), "dense"
    if kind not in PLAIN_KINDS:
        alone.kind = "disturbed dense"
        alone.settings = team.settings = DROPPED if kind.startswith("dropped") else NOISY
    alone.space = Workspace(alone.layout, ["relu"] * len(layers), chunk, 1, mode == ACCUMULATED, alone.kind)
    results = alone.train(mode=mode), team.train(mode=mode)
    np.testing.assert_array_equal(team.params, alone.params)
    np.testing.assert_array_equal(results[1], results[0])
    assert team.space.control[tables.STEPS] == 12


# --- inference --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layers", NETS, ids=str)
@pytest.mark.parametrize("chunk", [1, 7, 64])
@pytest.mark.parametrize(
    ("kind", "activation"), [*(kind_of_rows(kind, "relu") for kind in first_layer.INFER_ROWS), ("dense", "logistic")]
)
def test_inference(rng, dtype, activation, layers, chunk, kind):
    run = Run(rng, dtype, layers, activation, chunk=chunk, kind="packed" if kind == "sparse" else kind)
    if kind == "sparse":
        run.rows = rows_in_place(run.x, "sparse", 8)
        run.space = Workspace(run.layout, [activation] * len(layers), chunk, 1, False, "sparse")
    n_layers = len(layers) - 1
    parameters = [p.astype(float) for p in run.parameters]
    logits = reference.forward(run.x.astype(float), parameters[:n_layers], parameters[n_layers:], activation)[-1]
    n, before = len(run.x), run.params.copy()
    proba, predicted = np.zeros((n, layers[-1]), dtype), np.zeros(n, np.int64)
    losses, hits = np.zeros(n), np.zeros(n, np.bool_)
    run.infer(tables.NUMBERS, numbers=proba)
    run.infer(tables.LABELS, predicted=predicted)
    run.infer(tables.LOSSES, losses=losses, hits=hits)
    assert_close([proba, losses], [reference.softmax(logits), reference.cross_entropy(logits, run.labels)], dtype)
    np.testing.assert_array_equal(predicted, logits.argmax(axis=1))
    np.testing.assert_array_equal(hits, predicted == run.labels)
    np.testing.assert_array_equal(run.params, before)


@pytest.mark.parametrize(("first", "last"), [(0, 1), (5, 20), (33, 34), (9, 9)])
def test_inference_of_some_rows_leaves_the_others(rng, dtype, first, last):
    run, whole = (Run(np.random.default_rng(4), dtype, [7, 13, 3], chunk=chunk) for chunk in (4, 64))
    outputs = {}
    for name, r, rows in (("whole", whole, {}), ("part", run, {"first": first, "last": last})):
        proba, predicted = np.full((34, 3), -5, dtype), np.full(34, -5)
        losses, hits = np.full(34, -5.0), np.zeros(34, np.bool_)
        r.infer(tables.NUMBERS, numbers=proba, **rows)
        r.infer(tables.LABELS, predicted=predicted, **rows)
        r.infer(tables.LOSSES, losses=losses, hits=hits, **rows)
        outputs[name] = proba, predicted, losses, hits
    for got, full in zip(outputs["part"], outputs["whole"], strict=True):
        np.testing.assert_array_equal(got[first:last], full[first:last])
        others = np.delete(got, slice(first, last), axis=0)
        assert np.all(others == (0 if got.dtype == np.bool_ else -5))
