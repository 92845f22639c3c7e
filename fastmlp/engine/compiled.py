"""The engine of `fastmlp.MLP`: compiled kernels, and the threads that run them."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmlp.activations import Floats
from fastmlp.engine.base import NO_CLIPPING, Clipping, Engine, EpochTotals, Settings, StepPlan
from fastmlp.engine.layout import Layout, aligned_zeros, as_kernel_input
from fastmlp.engine.rows import Rows, rows_in_place, rows_to_train
from fastmlp.engine.threads import available_threads, run_apart, run_together
from fastmlp.engine.workspace import Workspace
from fastmlp.kernels import epoch, tables
from fastmlp.kernels.optimizers import coefficient_table
from fastmlp.losses import LOSSES, Targets
from fastmlp.optimizers import SGD, Optimizer
from fastmlp.random import keep_threshold
from fastmlp.validation.inputs import check_finite

__all__ = ["CompiledEngine"]

_CHUNK = 512  # rows that go through the network together: their activations stay in the cache
_SHARED_FLOPS = 4e6  # a step of fewer is not divided: meeting would cost as much as it saves
_CROWDED = 0.2  # part of their time that threads wait long for each other, from which one alone is faster
_ALONE_CALLS = 8  # that one thread runs at most before the team is tried again: 1 at first, then twice as many
_CALL_SECONDS = 0.1  # calls that are surely shorter need nobody who listens for Ctrl-C meanwhile
_MANY_EPOCHS_SECONDS = 20.0  # short epochs are run together in calls that are surely shorter
_MANY_EPOCHS_BYTES, _ROW_BYTES, _STEP_BYTES = 2**24, 8, 160  # and note no more than that beforehand, about
_SECONDS_PER_STEP, _SECONDS_PER_FLOP = 1e-6, 1e-10  # for that: more than it takes
_INFER_CHUNK = 128

_NO_LABELS, _NO_LOSSES, _NO_HITS = np.zeros(0, np.int64), np.zeros(0), np.zeros(0, np.bool_)  # that a mode does not use

_NO_NUMBERS = {name: np.zeros(0, name) for name in ("float32", "float64")}

_compiled: set[tuple[Any, str]] = set()  # entries and dtypes that this process has ready


class _State(list[list[Floats]]):
    """An optimizer's memory: for each parameter a list of views into `flat`, slots that lie as the parameters do."""

    def __init__(self, layout: Layout, slots: int) -> None:
        self.flat = aligned_zeros(slots * layout.size, layout.dtype)
        views = [layout.weights(slot) + layout.biases(slot) for slot in self.flat.reshape(slots, layout.size)]
        super().__init__([list(of_parameter) for of_parameter in zip(*views, strict=True)])

    def __reduce__(self) -> tuple[type[list[Any]], tuple[list[Any]]]:
        """Let copies be plain lists, which become a memory in the network that they come to."""
        return list, (list(self),)


class CompiledEngine(Engine):
    """Runs the kernels of `fastmlp.kernels`."""

    checks_finite = True

    def __init__(self, settings: Settings, n_threads: int | None) -> None:
        super().__init__(settings, n_threads)
        self._layout = Layout(settings.layers, settings.dtype)
        plain = set(settings.activations) <= {"relu", "identity"}
        self._hidden = "plain" if plain else "sloped"  # as `fastmlp.kernels.layers` names it, to predict and to train
        self._hidden_in_training = "plain" if plain and not any(settings.dropout_rates[1:]) else "sloped"
        self._output = next(name for name, loss in LOSSES.items() if type(settings.loss) is loss)
        self._kernel_head = "smoothed softmax" if settings.loss.label_smoothing else self._output
        self._params = aligned_zeros(self._layout.size, settings.dtype)
        self.weights, self.biases = self._layout.weights(self._params), self._layout.biases(self._params)
        self._alone = self._crowded = 0
        self._idle: dict[tuple[Any, ...], list[Workspace]] = {}
        self._no_targets = np.zeros(0, self._target_dtype)
        self._plain_settings = self._kernel_settings()

    def new_state(self, slots: int) -> list[list[Floats]]:
        """Return zeros in one flat buffer, laid out as the parameters are."""
        return _State(self._layout, slots) if slots else super().new_state(0)

    @contextmanager
    def _workspace(self, *needs: Any) -> Iterator[Workspace]:
        """Lend what `_borrow` returns."""
        space, idle = self._borrow(*needs)
        yield space
        idle.append(space)

    def _borrow(
        self,
        n_rows: int,
        n_threads: int,
        accumulate: bool,
        kind: str,
        n_links: int = 0,
        slots: int | None = None,
        whole: bool = False,
    ) -> tuple[Workspace, list[Workspace]]:
        """Return a workspace that nobody uses, of an earlier call or made now, and the list to put it back to.

        It is for a power of two of rows, and of numbers in CSR rows: batches of many sizes share a few.
        """
        dropout = any(self.settings.dropout_rates[1:])
        sizes = (min(_CHUNK, _power_of_two(n_rows)), n_threads, accumulate, kind, _power_of_two(n_links))
        key = (*sizes, dropout, slots, whole)
        idle = self._idle.setdefault(key, [])
        try:
            space = idle.pop()
        except IndexError:
            space = Workspace(self._layout, self.settings.activations, *key)
        return space, idle

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
        """Return how long an epoch takes at most."""
        return n_batches * _SECONDS_PER_STEP + self._flops(n_rows) * _SECONDS_PER_FLOP

    def epochs_per_call(self, X: Rows, n_batches: int) -> int:
        """Return how many epochs surely take less than `_MANY_EPOCHS_SECONDS`."""
        seconds = self._seconds(X.n_rows, n_batches)
        if X.kind == "csr":  # the first layer takes the numbers, or a pass through all weights, at most like four rows
            part = min(1.0, max(len(X.x) / math.prod(X.shape), 4 * n_batches / X.n_rows))
            seconds -= (
                (1 - part) * 6.0 * X.n_rows * self.settings.layers[0] * self._layout.pitches[0] * _SECONDS_PER_FLOP
            )
        n_bytes = _ROW_BYTES * X.n_rows + _STEP_BYTES * n_batches
        return max(1, min(int(_MANY_EPOCHS_SECONDS / seconds), _MANY_EPOCHS_BYTES // n_bytes))

    def prepare(self, X: Any, optimizer: Optimizer, clipping: Clipping, first_layer: str | None = None) -> Rows:
        """Look at X once, leave out its zeros where they are many, and compile or load the kernels."""
        if type(optimizer).update.__module__ != SGD.update.__module__:
            name = type(optimizer).__name__
            raise TypeError(f"fastmlp.MLP has no kernel for the optimizer {name}; fastmlp.reference.MLP takes any")
        first_layer = first_layer or self.settings.first_layer
        if self.settings.input_noise:
            first_layer = "dense"  # zeros do not stay zero
        size = 1 if math.prod(X.shape) < _SHARED_FLOPS else self.n_threads or available_threads()
        rows = rows_to_train(X, first_layer, self._layout.widths[0], size)
        self._compile_training(rows, self._disturbed(rows.kind), self._by_blocks(optimizer, clipping))
        return rows

    def _disturbed(self, kind: str) -> str:
        """Return the kind that rows become by dropout and noise of the inputs."""
        if self.settings.input_noise or (self.settings.dropout_rates[0] and kind not in ("packed", "csr")):
            return f"disturbed {kind}"
        return f"dropped {kind}" if self.settings.dropout_rates[0] else kind

    def _compile_training(self, rows: Rows, kind: str, optimizer: Optimizer | None) -> None:
        def train_nothing() -> None:
            slots = None if optimizer is None else optimizer.slots
            with self._workspace(1, 1, False, kind, 0, slots) as space:
                totals, order, y = EpochTotals.zeros(0), np.zeros((0, 1), np.int64), self._no_targets
                plan, settings = _no_plan(0), self._plain_settings
                self._call(space, totals, rows, y, order, 1, 0, optimizer, plan, settings)(0, 1, 0)

        self._compile(self._train_loop(kind, optimizer), train_nothing)

    @property
    def _target_dtype(self) -> str:
        return "int32" if self._output == "softmax" else self.settings.dtype

    def _by_blocks(self, optimizer: Optimizer, clipping: Clipping) -> Optimizer | None:
        """Return the optimizer, or None where it is plain SGD, which needs no block of gradients."""
        plain = optimizer.is_plain_sgd and clipping == NO_CLIPPING and not self.settings.l2
        return None if plain else optimizer

    def _train_loop(self, kind: str, optimizer: Optimizer | None) -> Callable[..., None]:
        formula = None if optimizer is None else optimizer.formula
        loop: Callable[..., None] = epoch.train_loop(kind, self._hidden_in_training, self._kernel_head, formula)
        return loop

    def _coefficients(self, plan: StepPlan) -> npt.NDArray[np.float64]:
        """Return a row for each step: penalty and bounds of the gradient, and what the optimizer's formula takes."""
        bounds = [math.inf if bound is None else bound for bound in (plan.clipping.value, plan.clipping.norm)]
        l2 = self.settings.l2 if plan.l2 is None else plan.l2
        table: npt.NDArray[np.float64] = coefficient_table(plan.optimizer.formula, plan.coefficients, l2, *bounds)
        return table

    def _kernel_settings(self, plan: StepPlan | None = None) -> npt.NDArray[np.float64]:
        """Return the numbers that kernels look up in `settings`."""
        rates = [0.0] * len(self.settings.layers) if plan is None else [*self.settings.dropout_rates, 0.0]
        pairs = [(keep_threshold(rate), 1 / (1 - rate)) for rate in rates]
        noise = 0.0 if plan is None else self.settings.input_noise
        seed, epoch = (0, 0) if plan is None else (plan.seed, plan.epoch % 2**32)
        numbers = [self.settings.loss.label_smoothing, noise, seed, epoch, *np.ravel(pairs)]
        return np.array(numbers, np.float64)

    def prepare_inference(self, X: Any) -> Rows:
        """Return the rows, and compile or load the kernels."""
        rows = rows_to_train(X, self.settings.first_layer, self._layout.widths[0], self._team_size(X.shape[0]))
        self._infer(rows, tables.LABELS, predicted=np.empty(self.settings.layers[-1], np.int64), n_rows=1)
        return rows

    def _compile(self, entry: Callable[..., None], call: Callable[[], object]) -> None:
        """Run a call that compiles a kernel, or loads it, unless this process has done so."""
        if (entry, self.settings.dtype) not in _compiled:
            run_apart(lambda: _without_collector(call))
            _compiled.add((entry, self.settings.dtype))

    def train(
        self,
        totals: EpochTotals,
        rows: Rows,
        y: Targets,
        order: npt.NDArray[np.int64],
        batch_size: int,
        plan: StepPlan,
        on_step: Callable[[int], bool] | None = None,
    ) -> None:
        """Run the training kernel in a team of threads."""
        optimizer, long = self._by_blocks(plan.optimizer, plan.clipping), batch_size > _CHUNK
        whole = long or plan.clipping.norm is not None
        if optimizer is None:
            mode, slots, whole = tables.ACCUMULATE | tables.COMMIT if long else 0, None, False
        else:
            mode, slots, long = 0, optimizer.slots, False
        size = 1 if on_step is None else self._training_size(batch_size)
        n_links = rows.most_numbers(min(batch_size, _CHUNK))
        with self._workspace(batch_size, size, long, self._disturbed(rows.kind), n_links, slots, whole) as space:
            settings = self._kernel_settings(plan)
            call = self._call(space, totals, rows, y, order, batch_size, mode, optimizer, plan, settings)
            space.reset()
            control = space.control
            n_batches = -(-rows.n_rows // batch_size)
            brief = size == 1 and len(order) * self._seconds(rows.n_rows, n_batches) < _CALL_SECONDS
            try:
                with space.own_weights(self._params, _flat(plan.state, self.settings.dtype)) as show:

                    def go_on() -> bool:
                        if on_step is None:
                            return True
                        show()  # a callback may look at the network
                        return on_step(int(control[tables.STEPS]))

                    if brief:  # over before anybody could look or press Ctrl-C
                        call(0, size, len(order))
                    else:
                        run_together(
                            size,
                            lambda rank: call(rank, size, len(order)),
                            go_on=go_on,
                            stop=space.stop,
                            release=space.release,
                        )
            finally:
                totals.steps = int(control[tables.STEPS])
            if size > 1:
                self._crowded = self._crowded + 1 if space.waited > _CROWDED else 0
                self._alone = min(2**self._crowded // 2, _ALONE_CALLS)
            if control[tables.RESULT] == tables.NOT_FINITE:
                bad = totals.steps // n_batches
                totals.bad_loss = float(totals.losses[bad] + totals.penalties[bad])

    def _call(
        self,
        space: Workspace,
        totals: EpochTotals,
        rows: Rows,
        y: Targets,
        order: npt.NDArray[np.int64],
        batch_size: int,
        mode: int,
        optimizer: Optimizer | None,
        plan: StepPlan,
        settings: npt.NDArray[np.float64],
    ) -> Callable[[int, int, int], None]:
        """Return the call (rank, size, n_epochs) that trains."""
        train, coefficients = self._train_loop(space.kind, optimizer), self._coefficients(plan)
        memory = _flat(plan.state, self.settings.dtype)
        weights = self._params[:0] if plan.row_weights is None else plan.row_weights
        outputs = (totals.losses, totals.correct, totals.penalties, space.row_loss, space.row_hit)
        data = (rows.x, rows.starts, rows.index, as_kernel_input(y), weights, order.reshape(-1), coefficients)

        def call(rank: int, size: int, n_epochs: int) -> None:
            own = (space.notes[rank], space.marks[rank], space.links[rank], space.taken[rank], space.features[rank])
            sizes = (rows.n_rows, batch_size, space.chunk, n_epochs, self.settings.input_scale)
            train(
                self._params, space.gradient, memory, space.work, *own, space.sums, *outputs, space.control,
                space.meetings, *data, space.plans[rank], settings, *sizes, mode, rank, size,
            )  # fmt: skip

        return call

    def gradients(self, X: Any, y: Targets, row_weights: Floats | None) -> tuple[float, list[Floats], list[Floats]]:
        """Return loss and gradients, from one pass over all rows."""
        rows = rows_in_place(X, "dense", self._layout.widths[0])
        self._compile_training(rows, rows.kind, None)
        with self._workspace(rows.n_rows, 1, True, rows.kind, rows.most_numbers(_CHUNK)) as space:
            space.reset()
            totals, order = EpochTotals.zeros(1), np.arange(rows.n_rows)[None, :]
            plan, settings = _no_plan(1, row_weights), self._plain_settings
            call = self._call(space, totals, rows, y, order, rows.n_rows, tables.ACCUMULATE, None, plan, settings)
            if self._seconds(rows.n_rows, 1) < _CALL_SECONDS:
                call(0, 1, 1)
            else:
                run_together(1, lambda rank: call(rank, 1, 1), stop=space.stop)
            gradients = (self._layout.weights(space.gradient), self._layout.biases(space.gradient))
            dw, db = ([g.copy() for g in part] for part in gradients)
        if self.settings.l2:
            squares = sum(float(np.square(w, dtype=np.float64).sum()) for w in self.weights)
            totals.penalties[0] = self.settings.l2 / 2 * squares
            dw = [g + self.settings.l2 * w for g, w in zip(dw, self.weights, strict=True)]
        return float(totals.mean_losses(y, row_weights, 1)[0]), dw, db

    def losses(self, X: Any, y: Targets) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
        """Return the loss of each row, and whether it is predicted right."""
        losses, hits = np.empty(X.shape[0]), np.empty(X.shape[0], np.bool_)
        self._infer(X, tables.LOSSES, targets=as_kernel_input(y), losses=losses, hits=hits)
        return losses, hits

    def predict_proba(self, X: Any) -> Floats:
        """Return probabilities."""
        return self._numbers(X, self.settings.loss.n_classes or self.settings.layers[-1])

    def predict(self, X: Any) -> npt.NDArray[Any]:
        """Return predictions in the form of y."""
        if not self.settings.loss.classifies:
            return self.settings.loss.decode(self._numbers(X, self.settings.layers[-1]))
        if self._output == "softmax":
            predicted = np.empty(X.shape[0], np.int64)
        else:
            predicted = np.empty((X.shape[0], self.settings.layers[-1]), np.int64)
        self._infer(X, tables.LABELS, predicted=predicted.reshape(-1))
        return self.settings.loss.decode(predicted)

    def _numbers(self, X: Any, n_columns: int) -> Floats:
        numbers = np.empty((X.shape[0], n_columns), self.settings.dtype)
        self._infer(X, tables.NUMBERS, numbers=numbers.reshape(-1))
        return numbers

    def _infer(
        self,
        X: Any,
        mode: int,
        *,
        numbers: Floats | None = None,
        predicted: npt.NDArray[np.int64] = _NO_LABELS,
        losses: npt.NDArray[np.float64] = _NO_LOSSES,
        hits: npt.NDArray[np.bool_] = _NO_HITS,
        targets: Targets | None = None,
        n_rows: int | None = None,
    ) -> None:
        """Run the network on the first `n_rows`, on all by default; refuse numbers that are not finite.

        Each thread has a part of them, in calls between which Ctrl-C is heard.
        """
        rows = X if isinstance(X, Rows) else rows_in_place(X, self.settings.first_layer, self._layout.widths[0])
        kind = "sparse" if rows.kind == "packed" else rows.kind  # one loop takes both
        infer, n_rows = epoch.infer_loop(kind, self._hidden, self._kernel_head), n_rows or rows.n_rows
        none, bad_row = self._params[:0], np.full(1, -1)
        if targets is None:
            targets = self._no_targets
        outputs = (none if numbers is None else numbers, predicted, losses, hits, bad_row)
        inputs = (rows.x, rows.starts, rows.index, targets, none, np.arange(rows.n_rows), self._params)
        chunk = min(n_rows, _INFER_CHUNK)

        def call(first: int, last: int) -> None:
            space, idle = self._borrow(chunk, 1, False, rows.kind)
            infer(
                *outputs, space.work, space.notes[0], space.marks[0], *inputs, space.plans[0], self._plain_settings,
                space.meetings, first, last, space.chunk, self.settings.input_scale, mode,
            )  # fmt: skip
            idle.append(space)

        self._compile(infer, lambda: call(0, 1))
        if n_rows == chunk:
            call(0, n_rows)
        else:
            size = min(self._team_size(n_rows), -(-n_rows // chunk))
            at_once = chunk * max(1, int(_CALL_SECONDS / self._seconds(chunk, 1)))
            stopped = Event()

            def share(rank: int) -> None:
                last = n_rows * (rank + 1) // size
                for first in range(n_rows * rank // size, last, at_once):
                    if not stopped.is_set():
                        call(first, min(first + at_once, last))

            if size == 1 and n_rows <= at_once:
                call(0, n_rows)
            else:
                run_together(size, share, stop=stopped.set)
        if bad_row[0] >= 0:
            check_finite(X, X, "X")


def _no_plan(n_steps: int, row_weights: Floats | None = None) -> StepPlan:
    """Return what changes nothing."""
    rates = np.zeros(n_steps)
    return StepPlan(SGD(), [], rates, SGD().coefficients(np.arange(n_steps) + 1, rates), row_weights)


def _flat(memory: list[list[Floats]], dtype: str) -> npt.NDArray[Any]:
    return memory.flat if isinstance(memory, _State) else _NO_NUMBERS[dtype]


def _without_collector(call: Callable[[], object]) -> None:
    """Run `call` while Python's collector of garbage is off: the compiler makes millions of objects and no garbage."""
    collects = gc.isenabled()
    gc.disable()
    try:
        call()
    finally:
        if collects:
            gc.enable()


def _power_of_two(n: int) -> int:
    """Return the smallest power of two that is at least n."""
    return 1 << (n - 1).bit_length() if n > 1 else 1
