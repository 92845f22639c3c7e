"""`MLP`: the network whose work is done by compiled kernels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmlp.kernels import epoch
from fastmlp.layout import Layout, Workspace, aligned_zeros, as_kernel_input
from fastmlp.network import Floats, Labels, Network, Outcome
from fastmlp.rows import NO_MARKS, Rows, mark_rows, worth_marking
from fastmlp.threads import available_threads, run_apart, run_together

__all__ = ["MLP"]

_CHUNK = 512  # rows that go through the network together: their activations stay in the cache
_SHARED_FLOPS = 4e6  # a step of fewer is not divided: meeting would cost as much as it saves
_CROWDED = 0.2  # part of their time that threads wait long for each other, from which one alone is faster
_ALONE_CALLS = 8  # that one thread runs when the cores are crowded, before the team is tried again
_CALL_SECONDS = 0.02  # short epochs are run together in calls of about this length
_SECONDS_PER_STEP, _SECONDS_PER_FLOP = 1e-6, 1e-10  # for that, roughly
_INFER_CHUNK = 256

_compiled: set[tuple[str, str]] = set()  # entries and dtypes that this process has ready


class MLP(Network):  # noqa: D101
    __doc__ = Network.__doc__

    def _allocate(self) -> tuple[list[Floats], list[Floats]]:
        self._layout = Layout(self.layers, self.dtype)
        self._params = aligned_zeros(self._layout.size, self.dtype)
        self._alone = 0
        self._idle: dict[tuple[Any, ...], list[Workspace]] = {}
        return self._layout.weights(self._params), self._layout.biases(self._params)

    @contextmanager
    def _workspace(self, n_rows: int, *rest: Any) -> Iterator[Workspace]:
        """Lend a workspace (n_rows, n_threads, accumulate, marked) that nobody uses, of an earlier call or made now.

        It is for a power of two of rows: batches of many sizes share a few.
        """
        key = (min(_CHUNK, 1 << (n_rows - 1).bit_length()), *rest)
        idle = self._idle.setdefault(key, [])
        try:
            space = idle.pop()
        except IndexError:
            space = Workspace(self._layout, self.activation, *key)
        space.reset()
        yield space
        idle.append(space)

    def _flops(self, n_rows: int) -> float:
        """Return about how many floating-point operations a step on `n_rows` takes."""
        return 6.0 * n_rows * self._layout.size

    def _team_size(self, n_rows: int) -> int:
        if self.n_threads is not None:
            return self.n_threads
        return 1 if self._flops(n_rows) < _SHARED_FLOPS else available_threads()

    def _training_size(self, n_rows: int) -> int:
        """Return the size of the next team: one thread for a while where the last team waited for its cores.

        Threads that meet some ten thousand times a second lose more than half of their speed when another program takes
        one of their cores now and then.
        """
        size = self._team_size(n_rows)
        if size == 1 or self.n_threads is not None or self._alone == 0:
            return size
        self._alone -= 1
        return 1

    def _seconds(self, n_rows: int, n_batches: int) -> float:
        """Return about how long an epoch takes."""
        return n_batches * _SECONDS_PER_STEP + self._flops(n_rows) * _SECONDS_PER_FLOP

    def _epochs_at_once(self, n_rows: int, n_batches: int) -> int:
        return max(1, int(_CALL_SECONDS / self._seconds(n_rows, n_batches)))

    def _prepare(self, X: Floats, first_layer: str) -> Rows:
        """Look at X once, mark its nonzero numbers where zeros are to be left out, and compile or load the kernels."""
        marked = first_layer == "sparse" or (first_layer == "auto" and worth_marking(X))
        rows = Rows(as_kernel_input(X), len(X), X.shape[1], NO_MARKS)
        with self._workspace(1, 1, False, marked) as space:
            outcome, order = Outcome.of(0), np.zeros((0, 1), np.int64)
            call = self._call(space, outcome, rows, np.zeros(1, np.int32), order, 1, 0.0, 0, marked)
            self._compile("train_sparse" if marked else "train_dense", lambda: call(0, 1, 0))
        if marked:
            size = 1 if X.size < _SHARED_FLOPS else self.n_threads or available_threads()
            rows.marks = mark_rows(rows, size)
        return rows

    def _prepare_inference(self) -> None:
        self._compile("infer", lambda: self._predicted(np.zeros((1, self.layers[0]), self.dtype)))

    def _compile(self, entry: str, call: Callable[[], object]) -> None:
        """Run a call that compiles a kernel, or loads it, unless this process has done so."""
        if (entry, self.dtype) not in _compiled:
            run_apart(call)
            _compiled.add((entry, self.dtype))

    def _train(
        self,
        outcome: Outcome,
        rows: Rows,
        y: Labels,
        orders: npt.NDArray[np.int64],
        batch_size: int,
        learning_rate: float,
        on_step: Callable[[int], bool] | None = None,
    ) -> None:
        long = batch_size > _CHUNK
        mode = epoch.ACCUMULATE | epoch.COMMIT if long else 0
        size = 1 if on_step is None else self._training_size(batch_size)
        marked = rows.marks is not NO_MARKS
        with self._workspace(min(batch_size, _CHUNK), size, long, marked) as space:
            call = self._call(space, outcome, rows, y, orders, batch_size, learning_rate, mode, marked)
            control = space.control
            n_batches = -(-rows.n_rows // batch_size)
            brief = size == 1 and len(orders) * self._seconds(rows.n_rows, n_batches) < _CALL_SECONDS
            try:
                if on_step is None or brief:  # over before anybody could look or press Ctrl-C
                    call(0, size, len(orders))
                else:
                    run_together(
                        size,
                        lambda rank: call(rank, size, len(orders)),
                        go_on=lambda: on_step(int(control[epoch.STEPS])),
                        stop=space.stop,
                        release=space.release,
                    )
            finally:
                outcome.steps = int(control[epoch.STEPS])
            if space.waited > _CROWDED:
                self._alone = _ALONE_CALLS
            if control[epoch.RESULT] == epoch.NOT_FINITE:
                outcome.bad_loss = float(outcome.losses[outcome.steps // n_batches])

    def _call(
        self,
        space: Workspace,
        outcome: Outcome,
        rows: Rows,
        y: Labels,
        orders: npt.NDArray[np.int64],
        batch_size: int,
        learning_rate: float,
        mode: int,
        marked: bool,
    ) -> Callable[[int, int, int], None]:
        """Return the call (rank, size, n_epochs) that trains."""
        train = epoch.train_sparse if marked else epoch.train_dense
        outputs = (outcome.losses, outcome.hits, space.row_loss, space.row_hit, space.control, space.meetings)
        data = (rows.x, rows.n_features, rows.marks, as_kernel_input(y), orders.reshape(-1))

        def call(rank: int, size: int, n_epochs: int) -> None:
            buffers = (self._params, space.gradient, space.work, space.notes[rank], space.by_feature[rank])
            sizes = (rows.n_rows, batch_size, space.chunk, n_epochs)
            train(*buffers, *outputs, *data, space.plans[rank], *sizes, learning_rate, mode, rank, size)

        return call

    def _gradients(self, X: Floats, y: Labels) -> tuple[float, list[Floats], list[Floats]]:
        with self._workspace(min(len(X), _CHUNK), 1, True, False) as space:
            outcome = Outcome.of(1)
            rows, order = Rows(as_kernel_input(X), len(X), X.shape[1], NO_MARKS), np.arange(len(X))[None, :]
            self._call(space, outcome, rows, y, order, len(X), 0.0, epoch.ACCUMULATE, False)(0, 1, 1)
            gradients = (self._layout.weights(space.gradient), self._layout.biases(space.gradient))
            dw, db = ([g.copy() for g in part] for part in gradients)
        return float(outcome.losses[0]) / len(X), dw, db

    def _losses(self, X: Floats, y: Labels) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
        losses, hits = np.empty(len(X)), np.empty(len(X), np.bool_)
        self._infer(X, epoch.LOSSES, labels=as_kernel_input(y), losses=losses, hits=hits)
        return losses, hits

    def _probabilities(self, X: Floats) -> Floats:
        probabilities = np.empty((len(X), self.layers[-1]), self.dtype)
        self._infer(X, epoch.PROBABILITIES, probabilities=probabilities.reshape(-1))
        return probabilities

    def _predicted(self, X: Floats) -> npt.NDArray[np.int64]:
        predicted = np.empty(len(X), np.int64)
        self._infer(X, epoch.LABELS, predicted=predicted)
        return predicted

    def _infer(
        self,
        X: Floats,
        mode: int,
        *,
        probabilities: Floats | None = None,
        predicted: npt.NDArray[np.int64] | None = None,
        losses: npt.NDArray[np.float64] | None = None,
        hits: npt.NDArray[np.bool_] | None = None,
        labels: Labels | None = None,
    ) -> None:
        """Run the network on all rows, each thread on a part of them."""
        x, n_rows = as_kernel_input(X), len(X)
        outputs = (
            np.zeros(0, self.dtype) if probabilities is None else probabilities,
            np.zeros(0, np.int64) if predicted is None else predicted,
            np.zeros(0) if losses is None else losses,
            np.zeros(0, np.bool_) if hits is None else hits,
        )
        labels = np.zeros(0, np.int32) if labels is None else labels
        chunk = min(n_rows, _INFER_CHUNK)

        def call(first: int, last: int) -> None:
            with self._workspace(chunk, 1, False, False) as space:
                inputs = (x, X.shape[1], labels, self._params, space.plans[0], space.meetings)
                epoch.infer(*outputs, space.work, space.notes[0], *inputs, first, last, space.chunk, mode)

        size = min(self._team_size(n_rows), -(-n_rows // chunk))
        if size == 1:
            call(0, n_rows)
        else:
            call(0, 0)  # compiles once
            run_together(size, lambda rank: call(n_rows * rank // size, n_rows * (rank + 1) // size))
