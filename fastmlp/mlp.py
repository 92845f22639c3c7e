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
from fastmlp.heads import Targets
from fastmlp.kernels import epoch
from fastmlp.kernels.optimizers import CLIP_NORM, CLIP_VALUE, L2, RATE
from fastmlp.layout import Layout, aligned_zeros, as_kernel_input
from fastmlp.network import Network
from fastmlp.optimizers import SGD, Optimizer
from fastmlp.rows import Rows, rows_in_place, rows_to_train
from fastmlp.schedules import Schedule
from fastmlp.threads import available_threads, run_apart, run_together
from fastmlp.training import Clipping, Descent, Outcome
from fastmlp.workspace import Workspace

__all__ = ["MLP"]

_CHUNK = 512  # rows that go through the network together: their activations stay in the cache
_SHARED_FLOPS = 4e6  # a step of fewer is not divided: meeting would cost as much as it saves
_CROWDED = 0.2  # part of their time that threads wait long for each other, from which one alone is faster
_ALONE_CALLS = 8  # that one thread runs when the cores are crowded, before the team is tried again
_CALL_SECONDS = 0.02  # calls that are surely shorter need nobody who listens for Ctrl-C meanwhile
_MANY_EPOCHS_SECONDS = 0.14  # short epochs are run together in calls that are surely shorter
_SECONDS_PER_STEP, _SECONDS_PER_FLOP = 1e-6, 1e-10  # for that: more than it takes
_INFER_CHUNK = 256

_NO_LABELS, _NO_CLASSES = np.zeros(0, np.int64), np.zeros(0, np.int32)  # outputs and inputs that a mode does not use
_NO_LOSSES, _NO_HITS = np.zeros(0), np.zeros(0, np.bool_)

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
        _only(
            activation=set(self.activations) in ({"relu"}, {"logistic"}, set()),
            output=self.output == "softmax",
            label_smoothing=not self.label_smoothing,
            dropout=not any(self.dropout_rates),
            input_noise=not self.input_noise,
        )
        self._layout = Layout(self.layers, self.dtype)
        self._params = aligned_zeros(self._layout.size, self.dtype)
        self._alone = 0
        self._idle: dict[tuple[Any, ...], list[Workspace]] = {}
        return self._layout.weights(self._params), self._layout.biases(self._params)

    def _memory(self, slots: int) -> list[list[Floats]]:
        return _Memory(self._layout, slots) if slots else super()._memory(0)

    @contextmanager
    def _workspace(
        self,
        n_rows: int,
        n_threads: int,
        accumulate: bool,
        kind: str,
        n_links: int = 0,
        slots: int | None = None,
        whole: bool = False,
    ) -> Iterator[Workspace]:
        """Lend a workspace that nobody uses, of an earlier call or made now.

        It is for a power of two of rows, and of numbers in CSR rows: batches of many sizes share a few.
        """
        key = (min(_CHUNK, _power_of_two(n_rows)), n_threads, accumulate, kind, _power_of_two(n_links), slots, whole)
        idle = self._idle.setdefault(key, [])
        try:
            space = idle.pop()
        except IndexError:
            space = Workspace(self._layout, self.activations[0] if self.activations else "relu", *key)
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
        """Return how long an epoch takes at most."""
        return n_batches * _SECONDS_PER_STEP + self._flops(n_rows) * _SECONDS_PER_FLOP

    def _epochs_at_once(self, n_rows: int, n_batches: int) -> int:
        return max(1, int(_MANY_EPOCHS_SECONDS / self._seconds(n_rows, n_batches)))

    def _prepare(self, X: Any, first_layer: str, optimizer: Optimizer, clipping: Clipping) -> Rows:
        """Look at X once, leave out its zeros where they are many, and compile or load the kernels."""
        size = 1 if math.prod(X.shape) < _SHARED_FLOPS else self.n_threads or available_threads()
        rows = rows_to_train(X, first_layer, self._layout.widths[0], size)
        self._compile_training(rows, *self._loop(rows.kind, optimizer, clipping))
        return rows

    def _compile_training(self, rows: Rows, train: Callable[..., None], slots: int | None) -> None:
        with self._workspace(1, 1, False, rows.kind, slots=slots) as space:
            outcome, order, coefficients = Outcome.of(0), np.zeros((0, 1), np.int64), np.zeros((0, RATE + 1))
            memory = _NO_NUMBERS[self.dtype]
            call = self._call(train, space, outcome, rows, np.zeros(1, np.int32), order, 1, coefficients, memory, 0)
            self._compile(train, lambda: call(0, 1, 0))

    def _loop(self, kind: str, optimizer: Optimizer, clipping: Clipping) -> tuple[Callable[..., None], int | None]:
        """Return the compiled loop, and the slots of memory of an optimizer that changes the weights block by block."""
        plain = optimizer == SGD(learning_rate=optimizer.learning_rate)
        if plain and clipping == Clipping() and not self.l2:
            return epoch.TRAIN[kind], None
        return epoch.train_by(optimizer.formula, kind), optimizer.slots

    def _coefficients(self, descent: Descent) -> npt.NDArray[np.float64]:
        """Return a row for each step: penalty and bounds of the gradient, and what the optimizer's formula takes."""
        bounds = [math.inf if bound is None else bound for bound in (descent.clipping.value, descent.clipping.norm)]
        table = np.empty((len(descent.rates), RATE + descent.coefficients.shape[1]))
        table[:, L2], table[:, CLIP_VALUE], table[:, CLIP_NORM] = self.l2, *bounds
        table[:, RATE:] = descent.coefficients
        return table

    def _prepare_inference(self, X: Any) -> None:
        self._predicted(X[:1])

    def _compile(self, entry: Callable[..., None], call: Callable[[], object]) -> None:
        """Run a call that compiles a kernel, or loads it, unless this process has done so."""
        if (entry, self.dtype) not in _compiled:
            run_apart(lambda: _without_collector(call))
            _compiled.add((entry, self.dtype))

    def _refuse(self, optimizer: Optimizer, schedule: Schedule, row_weights: Floats | None, clipping: Clipping) -> None:
        _only(
            sample_weight=row_weights is None,
        )

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
        train, slots = self._loop(rows.kind, descent.optimizer, descent.clipping)
        long = batch_size > _CHUNK
        whole, long = slots is not None and (long or descent.clipping.norm is not None), slots is None and long
        mode = epoch.ACCUMULATE | epoch.COMMIT if long else 0
        size = 1 if on_step is None else self._training_size(batch_size)
        n_links = rows.most_numbers(min(batch_size, _CHUNK))
        memory = descent.memory.flat if isinstance(descent.memory, _Memory) else _NO_NUMBERS[self.dtype]
        with self._workspace(batch_size, size, long, rows.kind, n_links, slots, whole) as space:
            table = self._coefficients(descent)
            call = self._call(train, space, outcome, rows, y, orders, batch_size, table, memory, mode)
            space.reset()
            control = space.control
            n_batches = -(-rows.n_rows // batch_size)
            brief = size == 1 and len(orders) * self._seconds(rows.n_rows, n_batches) < _CALL_SECONDS
            try:
                with space.own_weights(self._params, memory) as show:

                    def go_on() -> bool:
                        if on_step is None:
                            return True
                        show()  # a callback may look at the network
                        return on_step(int(control[epoch.STEPS]))

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
                outcome.steps = int(control[epoch.STEPS])
            if space.waited > _CROWDED:
                self._alone = _ALONE_CALLS
            if control[epoch.RESULT] == epoch.NOT_FINITE:
                bad = outcome.steps // n_batches
                outcome.bad_loss = float(outcome.losses[bad] + outcome.penalties[bad])

    def _call(
        self,
        train: Callable[..., None],
        space: Workspace,
        outcome: Outcome,
        rows: Rows,
        y: Targets,
        orders: npt.NDArray[np.int64],
        batch_size: int,
        coefficients: npt.NDArray[np.float64],
        memory: npt.NDArray[Any],
        mode: int,
    ) -> Callable[[int, int, int], None]:
        """Return the call (rank, size, n_epochs) that trains."""
        sums = (outcome.losses, outcome.hits, outcome.penalties, space.row_loss, space.row_hit)
        data = (rows.x, rows.starts, rows.index, as_kernel_input(y), orders.reshape(-1), coefficients)

        def call(rank: int, size: int, n_epochs: int) -> None:
            own = (space.notes[rank], space.marks[rank], space.links[rank])
            sizes = (rows.n_rows, batch_size, space.chunk, n_epochs, self.input_scale)
            train(
                self._params, space.gradient, memory, space.work, *own, space.sums, *sums, space.control,
                space.meetings, *data, space.plans[rank], *sizes, mode, rank, size,
            )  # fmt: skip

        return call

    def _gradients(self, X: Any, y: Targets, row_weights: Floats | None) -> tuple[float, list[Floats], list[Floats]]:
        _only(sample_weight=row_weights is None)
        rows = rows_in_place(X, "dense", self._layout.widths[0])
        train = epoch.TRAIN[rows.kind]
        self._compile_training(rows, train, None)
        with self._workspace(rows.n_rows, 1, True, rows.kind, rows.most_numbers(_CHUNK)) as space:
            space.reset()
            outcome, order = Outcome.of(1), np.arange(rows.n_rows)[None, :]
            rates = np.zeros((1, RATE + 1))
            memory = _NO_NUMBERS[self.dtype]
            call = self._call(train, space, outcome, rows, y, order, rows.n_rows, rates, memory, epoch.ACCUMULATE)
            if self._seconds(rows.n_rows, 1) < _CALL_SECONDS:
                call(0, 1, 1)
            else:
                run_together(1, lambda rank: call(rank, 1, 1), stop=space.stop)
            gradients = (self._layout.weights(space.gradient), self._layout.biases(space.gradient))
            dw, db = ([g.copy() for g in part] for part in gradients)
        loss = float(outcome.losses[0]) / rows.n_rows
        if self.l2:
            loss += self.l2 / 2 * sum(float(np.vdot(w, w)) for w in self._weights)
            dw = [g + self.l2 * w for g, w in zip(dw, self._weights, strict=True)]
        return loss, dw, db

    def _losses(self, X: Any, y: Targets) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
        losses, hits = np.empty(X.shape[0]), np.empty(X.shape[0], np.bool_)
        self._infer(X, epoch.LOSSES, labels=as_kernel_input(y), losses=losses, hits=hits)
        return losses, hits

    def _probabilities(self, X: Any) -> Floats:
        probabilities = np.empty((X.shape[0], self.layers[-1]), self.dtype)
        self._infer(X, epoch.PROBABILITIES, probabilities=probabilities.reshape(-1))
        return probabilities

    def _predicted(self, X: Any) -> npt.NDArray[np.int64]:
        predicted = np.empty(X.shape[0], np.int64)
        self._infer(X, epoch.LABELS, predicted=predicted)
        return predicted

    def _infer(
        self,
        X: Any,
        mode: int,
        *,
        probabilities: Floats | None = None,
        predicted: npt.NDArray[np.int64] = _NO_LABELS,
        losses: npt.NDArray[np.float64] = _NO_LOSSES,
        hits: npt.NDArray[np.bool_] = _NO_HITS,
        labels: Targets = _NO_CLASSES,
    ) -> None:
        """Run the network on all rows, each thread on a part of them, in calls between which Ctrl-C is heard."""
        rows = rows_in_place(X, self.first_layer, self._layout.widths[0])
        infer, n_rows = epoch.INFER[rows.kind], rows.n_rows
        if probabilities is None:
            probabilities = self._params[:0]
        outputs = (probabilities, predicted, losses, hits)
        inputs = (rows.x, rows.starts, rows.index, labels, np.arange(n_rows), self._params)
        chunk = min(n_rows, _INFER_CHUNK)

        def call(first: int, last: int) -> None:
            with self._workspace(chunk, 1, False, rows.kind) as space:
                infer(
                    *outputs, space.work, space.notes[0], space.marks[0], *inputs, space.plans[0], space.meetings,
                    first, last, space.chunk, self.input_scale, mode,
                )  # fmt: skip

        self._compile(infer, lambda: call(0, 1))
        if n_rows == chunk:
            call(0, n_rows)
            return
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


def _only(**supported: bool) -> None:
    """Refuse what the kernels cannot do yet."""
    for name, yes in supported.items():
        if not yes:
            raise ValueError(f"this {name} is not supported yet by the compiled network; fastmlp.reference.MLP has it")


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
