"""`MLP`: the network whose work is done by compiled kernels."""

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
from fastmlp.engine.layout import Layout, aligned_zeros, as_kernel_input
from fastmlp.engine.rows import Rows, rows_in_place, rows_to_train
from fastmlp.engine.threads import available_threads, run_apart, run_together
from fastmlp.engine.workspace import Workspace
from fastmlp.kernels import epoch, tables
from fastmlp.kernels.optimizers import coefficient_table
from fastmlp.losses import Targets
from fastmlp.network import Network
from fastmlp.optimizers import SGD, Optimizer
from fastmlp.random import keep_threshold
from fastmlp.training import Clipping, Descent, Outcome
from fastmlp.validation.settings import check_finite

__all__ = ["MLP"]

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


class _Memory(list[list[Floats]]):
    """An optimizer's memory: for each parameter a list of views into `flat`, slots that lie as the parameters do."""

    def __init__(self, layout: Layout, slots: int) -> None:
        self.flat = aligned_zeros(slots * layout.size, layout.dtype)
        views = [layout.weights(slot) + layout.biases(slot) for slot in self.flat.reshape(slots, layout.size)]
        super().__init__([list(of_parameter) for of_parameter in zip(*views, strict=True)])

    def __reduce__(self) -> tuple[type[list[Any]], tuple[list[Any]]]:
        """Let copies be plain lists, which become a memory in the network that they come to."""
        return list, (list(self),)


class MLP(Network):  # noqa: D101
    __doc__ = Network.__doc__

    def _allocate(self) -> tuple[list[Floats], list[Floats]]:
        self._layout = Layout(self.layers, self.dtype)
        plain = set(self.activations) <= {"relu", "identity"}
        self._hidden = "plain" if plain else "sloped"  # as `fastmlp.kernels.layers` names it, to predict and to train
        self._hidden_in_training = "plain" if plain and not any(self.dropout_rates[1:]) else "sloped"
        self._kernel_head = "smoothed softmax" if self.label_smoothing else self.output
        self._params = aligned_zeros(self._layout.size, self.dtype)
        self._alone = self._crowded = 0
        self._idle: dict[tuple[Any, ...], list[Workspace]] = {}
        self._no_targets = np.zeros(0, self._target_dtype)
        self._plain_settings = self._kernel_settings()
        return self._layout.weights(self._params), self._layout.biases(self._params)

    def _memory(self, slots: int) -> list[list[Floats]]:
        return _Memory(self._layout, slots) if slots else super()._memory(0)

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
        dropout = any(self.dropout_rates[1:])
        sizes = (min(_CHUNK, _power_of_two(n_rows)), n_threads, accumulate, kind, _power_of_two(n_links))
        key = (*sizes, dropout, slots, whole)
        idle = self._idle.setdefault(key, [])
        try:
            space = idle.pop()
        except IndexError:
            space = Workspace(self._layout, self.activations, *key)
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

    def _epochs_at_once(self, X: Rows, n_batches: int) -> int:
        seconds = self._seconds(X.n_rows, n_batches)
        if X.kind == "csr":  # the first layer takes the numbers, or a pass through all weights, at most like four rows
            part = min(1.0, max(len(X.x) / math.prod(X.shape), 4 * n_batches / X.n_rows))
            seconds -= (1 - part) * 6.0 * X.n_rows * self.layers[0] * self._layout.pitches[0] * _SECONDS_PER_FLOP
        n_bytes = _ROW_BYTES * X.n_rows + _STEP_BYTES * n_batches
        return max(1, min(int(_MANY_EPOCHS_SECONDS / seconds), _MANY_EPOCHS_BYTES // n_bytes))

    _looks_itself = True

    def _prepare(self, X: Any, first_layer: str, optimizer: Optimizer, clipping: Clipping) -> Rows:
        """Look at X once, leave out its zeros where they are many, and compile or load the kernels."""
        if type(optimizer).update.__module__ != SGD.update.__module__:
            name = type(optimizer).__name__
            raise TypeError(f"fastmlp.MLP has no kernel for the optimizer {name}; fastmlp.reference.MLP takes any")
        if self.input_noise:
            first_layer = "dense"  # zeros do not stay zero
        size = 1 if math.prod(X.shape) < _SHARED_FLOPS else self.n_threads or available_threads()
        rows = rows_to_train(X, first_layer, self._layout.widths[0], size)
        self._compile_training(rows, self._disturbed(rows.kind), self._by_blocks(optimizer, clipping))
        return rows

    def _disturbed(self, kind: str) -> str:
        """Return the kind that rows become by dropout and noise of the inputs."""
        if self.input_noise or (self.input_dropout and kind not in ("packed", "csr")):
            return f"disturbed {kind}"
        return f"dropped {kind}" if self.input_dropout else kind

    def _compile_training(self, rows: Rows, kind: str, optimizer: Optimizer | None) -> None:
        def train_nothing() -> None:
            slots = None if optimizer is None else optimizer.slots
            with self._workspace(1, 1, False, kind, 0, slots) as space:
                outcome, order, y = Outcome.of(0), np.zeros((0, 1), np.int64), self._no_targets
                descent, settings = _no_descent(0), self._plain_settings
                self._call(space, outcome, rows, y, order, 1, 0, optimizer, descent, settings)(0, 1, 0)

        self._compile(self._train_loop(kind, optimizer), train_nothing)

    @property
    def _target_dtype(self) -> str:
        return "int32" if self.output == "softmax" else self.dtype

    def _by_blocks(self, optimizer: Optimizer, clipping: Clipping) -> Optimizer | None:
        """Return the optimizer, or None where it is plain SGD, which needs no block of gradients."""
        plain = optimizer.is_plain_sgd and clipping == Clipping() and not self.l2
        return None if plain else optimizer

    def _train_loop(self, kind: str, optimizer: Optimizer | None) -> Callable[..., None]:
        formula = None if optimizer is None else optimizer.formula
        loop: Callable[..., None] = epoch.train_loop(kind, self._hidden_in_training, self._kernel_head, formula)
        return loop

    def _coefficients(self, descent: Descent) -> npt.NDArray[np.float64]:
        """Return a row for each step: penalty and bounds of the gradient, and what the optimizer's formula takes."""
        bounds = [math.inf if bound is None else bound for bound in (descent.clipping.value, descent.clipping.norm)]
        l2 = self.l2 if descent.l2 is None else descent.l2
        table: npt.NDArray[np.float64] = coefficient_table(descent.optimizer.formula, descent.coefficients, l2, *bounds)
        return table

    def _kernel_settings(self, drop: bool = False, first_epoch: int = 0) -> npt.NDArray[np.float64]:
        """Return the numbers that kernels look up in `settings`."""
        rates = [*self.dropout_rates, 0.0] if drop else [0.0] * len(self.layers)
        pairs = [(keep_threshold(rate), 1 / (1 - rate)) for rate in rates]
        noise = self.input_noise if drop else 0.0
        numbers = [self.label_smoothing, noise, self._regularization_seed, first_epoch % 2**32, *np.ravel(pairs)]
        return np.array(numbers, np.float64)

    def _prepare_inference(self, X: Any) -> Rows:
        rows = rows_to_train(X, self.first_layer, self._layout.widths[0], self._team_size(X.shape[0]))
        self._infer(rows, tables.LABELS, predicted=np.empty(self.layers[-1], np.int64), n_rows=1)
        return rows

    def _compile(self, entry: Callable[..., None], call: Callable[[], object]) -> None:
        """Run a call that compiles a kernel, or loads it, unless this process has done so."""
        if (entry, self.dtype) not in _compiled:
            run_apart(lambda: _without_collector(call))
            _compiled.add((entry, self.dtype))

    def _train(
        self,
        outcome: Outcome,
        rows: Rows,
        y: Targets,
        orders: npt.NDArray[np.int64],
        batch_size: int,
        descent: Descent,
        on_step: Callable[[int], bool] | None = None,
    ) -> None:
        optimizer, long = self._by_blocks(descent.optimizer, descent.clipping), batch_size > _CHUNK
        whole = long or descent.clipping.norm is not None
        if optimizer is None:
            mode, slots, whole = tables.ACCUMULATE | tables.COMMIT if long else 0, None, False
        else:
            mode, slots, long = 0, optimizer.slots, False
        size = 1 if on_step is None else self._training_size(batch_size)
        n_links = rows.most_numbers(min(batch_size, _CHUNK))
        with self._workspace(batch_size, size, long, self._disturbed(rows.kind), n_links, slots, whole) as space:
            settings = self._kernel_settings(True, descent.epoch)
            call = self._call(space, outcome, rows, y, orders, batch_size, mode, optimizer, descent, settings)
            space.reset()
            control = space.control
            n_batches = -(-rows.n_rows // batch_size)
            brief = size == 1 and len(orders) * self._seconds(rows.n_rows, n_batches) < _CALL_SECONDS
            try:
                with space.own_weights(self._params, _flat(descent.memory, self.dtype)) as show:

                    def go_on() -> bool:
                        if on_step is None:
                            return True
                        show()  # a callback may look at the network
                        return on_step(int(control[tables.STEPS]))

                    if brief:  # over before anybody could look or press Ctrl-C
                        call(0, size, len(orders))
                    else:
                        run_together(
                            size,
                            lambda rank: call(rank, size, len(orders)),
                            go_on=go_on,
                            stop=space.stop,
                            release=space.release,
                        )
            finally:
                outcome.steps = int(control[tables.STEPS])
            if size > 1:
                self._crowded = self._crowded + 1 if space.waited > _CROWDED else 0
                self._alone = min(2**self._crowded // 2, _ALONE_CALLS)
            if control[tables.RESULT] == tables.NOT_FINITE:
                bad = outcome.steps // n_batches
                outcome.bad_loss = float(outcome.losses[bad] + outcome.penalties[bad])

    def _call(
        self,
        space: Workspace,
        outcome: Outcome,
        rows: Rows,
        y: Targets,
        orders: npt.NDArray[np.int64],
        batch_size: int,
        mode: int,
        optimizer: Optimizer | None,
        descent: Descent,
        settings: npt.NDArray[np.float64],
    ) -> Callable[[int, int, int], None]:
        """Return the call (rank, size, n_epochs) that trains."""
        train, coefficients = self._train_loop(space.kind, optimizer), self._coefficients(descent)
        memory = _flat(descent.memory, self.dtype)
        weights = self._params[:0] if descent.row_weights is None else descent.row_weights
        outputs = (outcome.losses, outcome.hits, outcome.penalties, space.row_loss, space.row_hit)
        data = (rows.x, rows.starts, rows.index, as_kernel_input(y), weights, orders.reshape(-1), coefficients)

        def call(rank: int, size: int, n_epochs: int) -> None:
            own = (space.notes[rank], space.marks[rank], space.links[rank], space.taken[rank], space.features[rank])
            sizes = (rows.n_rows, batch_size, space.chunk, n_epochs, self.input_scale)
            train(
                self._params, space.gradient, memory, space.work, *own, space.sums, *outputs, space.control,
                space.meetings, *data, space.plans[rank], settings, *sizes, mode, rank, size,
            )  # fmt: skip

        return call

    def _gradients(self, X: Any, y: Targets, row_weights: Floats | None) -> tuple[float, list[Floats], list[Floats]]:
        rows = rows_in_place(X, "dense", self._layout.widths[0])
        self._compile_training(rows, rows.kind, None)
        with self._workspace(rows.n_rows, 1, True, rows.kind, rows.most_numbers(_CHUNK)) as space:
            space.reset()
            outcome, order = Outcome.of(1), np.arange(rows.n_rows)[None, :]
            descent, settings = _no_descent(1, row_weights), self._plain_settings
            call = self._call(space, outcome, rows, y, order, rows.n_rows, tables.ACCUMULATE, None, descent, settings)
            if self._seconds(rows.n_rows, 1) < _CALL_SECONDS:
                call(0, 1, 1)
            else:
                run_together(1, lambda rank: call(rank, 1, 1), stop=space.stop)
            gradients = (self._layout.weights(space.gradient), self._layout.biases(space.gradient))
            dw, db = ([g.copy() for g in part] for part in gradients)
        if self.l2:
            squares = sum(float(np.square(w, dtype=np.float64).sum()) for w in self._weights)
            outcome.penalties[0] = self.l2 / 2 * squares
            dw = [g + self.l2 * w for g, w in zip(dw, self._weights, strict=True)]
        return float(outcome.mean_losses(y, row_weights, 1)[0]), dw, db

    def _losses(self, X: Any, y: Targets) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
        losses, hits = np.empty(X.shape[0]), np.empty(X.shape[0], np.bool_)
        self._infer(X, tables.LOSSES, targets=as_kernel_input(y), losses=losses, hits=hits)
        return losses, hits

    def _probabilities(self, X: Any) -> Floats:
        return self._numbers(X, self._head.n_classes or self.layers[-1])

    def _predicted(self, X: Any) -> npt.NDArray[Any]:
        if not self._head.classifies:
            return self._head.decode(self._numbers(X, self.layers[-1]))
        if self.output == "softmax":
            predicted = np.empty(X.shape[0], np.int64)
        else:
            predicted = np.empty((X.shape[0], self.layers[-1]), np.int64)
        self._infer(X, tables.LABELS, predicted=predicted.reshape(-1))
        return self._head.decode(predicted)

    def _numbers(self, X: Any, n_columns: int) -> Floats:
        numbers = np.empty((X.shape[0], n_columns), self.dtype)
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
        rows = X if isinstance(X, Rows) else rows_in_place(X, self.first_layer, self._layout.widths[0])
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
                space.meetings, first, last, space.chunk, self.input_scale, mode,
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


def _no_descent(n_steps: int, row_weights: Floats | None = None) -> Descent:
    """Return what changes nothing."""
    rates = np.zeros(n_steps)
    return Descent(SGD(), [], rates, SGD().coefficients(np.arange(n_steps) + 1, rates), row_weights, Clipping(), 0)


def _flat(memory: list[list[Floats]], dtype: str) -> npt.NDArray[Any]:
    return memory.flat if isinstance(memory, _Memory) else _NO_NUMBERS[dtype]


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
