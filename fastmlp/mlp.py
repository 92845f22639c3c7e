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
from fastmlp.layout import Layout, aligned_zeros, as_kernel_input
from fastmlp.network import Network
from fastmlp.optimizers import Optimizer
from fastmlp.random import keep_threshold
from fastmlp.rows import Rows, rows_in_place, rows_to_train
from fastmlp.schedules import Constant, Schedule
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

_NO_LABELS, _NO_LOSSES, _NO_HITS = np.zeros(0, np.int64), np.zeros(0), np.zeros(0, np.bool_)  # that a mode does not use

_compiled: set[tuple[Any, str]] = set()  # entries and dtypes that this process has ready


class MLP(Network):  # noqa: D101
    __doc__ = Network.__doc__

    def _allocate(self) -> tuple[list[Floats], list[Floats]]:
        _only(
            l2=not self.l2,
        )
        self._layout = Layout(self.layers, self.dtype)
        plain = set(self.activations) <= {"relu", "identity"}
        self._hidden = "plain" if plain else "sloped"  # as `fastmlp.kernels.epoch` names it, to predict and to train
        self._hidden_in_training = "plain" if plain and not any(self.dropout_rates[1:]) else "sloped"
        self._kernel_head = "smoothed softmax" if self.label_smoothing else self.output
        self._params = aligned_zeros(self._layout.size, self.dtype)
        self._alone = 0
        self._idle: dict[tuple[Any, ...], list[Workspace]] = {}
        return self._layout.weights(self._params), self._layout.biases(self._params)

    @contextmanager
    def _workspace(
        self, n_rows: int, n_threads: int, accumulate: bool, kind: str, n_links: int = 0
    ) -> Iterator[Workspace]:
        """Lend a workspace that nobody uses, of an earlier call or made now.

        It is for a power of two of rows, and of numbers in CSR rows: batches of many sizes share a few.
        """
        key = (min(_CHUNK, _power_of_two(n_rows)), n_threads, accumulate, kind, _power_of_two(n_links))
        idle = self._idle.setdefault(key, [])
        try:
            space = idle.pop()
        except IndexError:
            space = Workspace(self._layout, self.activations, *key, dropout=any(self.dropout_rates[1:]))
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

    _prepare_looks = True

    def _prepare(self, X: Any, first_layer: str) -> Rows:
        """Look at X once, leave out its zeros where they are many, and compile or load the kernels."""
        if self.input_noise:
            first_layer = "dense"  # zeros do not stay zero
        size = 1 if math.prod(X.shape) < _SHARED_FLOPS else self.n_threads or available_threads()
        rows = rows_to_train(X, first_layer, self._layout.widths[0], size)
        self._compile_training(rows, self._disturbed(rows.kind))
        return rows

    def _disturbed(self, kind: str) -> str:
        """Return the kind that rows become by dropout and noise of the inputs."""
        if self.input_noise or (self.input_dropout and kind not in ("packed", "csr")):
            return f"disturbed {kind}"
        return f"dropped {kind}" if self.input_dropout else kind

    def _compile_training(self, rows: Rows, kind: str) -> None:
        with self._workspace(1, 1, False, kind) as space:
            outcome, order, y = Outcome.of(0), np.zeros((0, 1), np.int64), np.zeros(0, self._target_dtype)
            call = self._call(space, outcome, rows, y, None, order, 1, 0.0, 0, self._kernel_settings())
            self._compile(self._train_loop(kind), lambda: call(0, 1, 0))

    @property
    def _target_dtype(self) -> str:
        return "int32" if self.output == "softmax" else self.dtype

    def _train_loop(self, kind: str) -> Callable[..., None]:
        loop: Callable[..., None] = epoch.train_loop(kind, self._hidden_in_training, self._kernel_head)
        return loop

    def _kernel_settings(self, drop: bool = False, first_epoch: int = 0) -> npt.NDArray[np.float64]:
        """Return the numbers that kernels look up in `settings`."""
        rates = [*self.dropout_rates, 0.0] if drop else [0.0] * len(self.layers)
        pairs = [(keep_threshold(rate), 1 / (1 - rate)) for rate in rates]
        noise = self.input_noise if drop else 0.0
        numbers = [self.label_smoothing, noise, self._regularization_seed, first_epoch % 2**32, *np.ravel(pairs)]
        return np.array(numbers, np.float64)

    def _prepare_inference(self, X: Any) -> None:
        self._predicted(X[:1])

    def _compile(self, entry: Callable[..., None], call: Callable[[], object]) -> None:
        """Run a call that compiles a kernel, or loads it, unless this process has done so."""
        if (entry, self.dtype) not in _compiled:
            run_apart(lambda: _without_collector(call))
            _compiled.add((entry, self.dtype))

    def _refuse(self, optimizer: Optimizer, schedule: Schedule, row_weights: Floats | None, clipping: Clipping) -> None:
        _only(
            optimizer=optimizer.formula == "sgd" and not getattr(optimizer, "weight_decay", 0),
            schedule=isinstance(schedule, Constant),
            clip=clipping == Clipping(),
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
        long, learning_rate = batch_size > _CHUNK, descent.optimizer.learning_rate
        mode = epoch.ACCUMULATE | epoch.COMMIT if long else 0
        size = 1 if on_step is None else self._training_size(batch_size)
        n_links = rows.most_numbers(min(batch_size, _CHUNK))
        with self._workspace(batch_size, size, long, self._disturbed(rows.kind), n_links) as space:
            settings = self._kernel_settings(True, descent.epoch)
            call = self._call(
                space, outcome, rows, y, descent.row_weights, orders, batch_size, learning_rate, mode, settings
            )
            space.reset()
            control = space.control
            n_batches = -(-rows.n_rows // batch_size)
            brief = size == 1 and len(orders) * self._seconds(rows.n_rows, n_batches) < _CALL_SECONDS
            try:
                with space.own_weights(self._params) as show:

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
                outcome.bad_loss = float(outcome.losses[outcome.steps // n_batches])

    def _call(
        self,
        space: Workspace,
        outcome: Outcome,
        rows: Rows,
        y: Targets,
        row_weights: Floats | None,
        orders: npt.NDArray[np.int64],
        batch_size: int,
        learning_rate: float,
        mode: int,
        settings: npt.NDArray[np.float64],
    ) -> Callable[[int, int, int], None]:
        """Return the call (rank, size, n_epochs) that trains."""
        train = self._train_loop(space.kind)
        outputs = (outcome.losses, outcome.hits, space.row_loss, space.row_hit, space.control, space.meetings)
        weights = self._params[:0] if row_weights is None else row_weights
        data = (rows.x, rows.starts, rows.index, as_kernel_input(y), weights, orders.reshape(-1))

        def call(rank: int, size: int, n_epochs: int) -> None:
            own = (space.notes[rank], space.marks[rank], space.links[rank], space.taken[rank], space.features[rank])
            sizes = (rows.n_rows, batch_size, space.chunk, n_epochs, self.input_scale, learning_rate)
            train(
                self._params, space.gradient, space.work, *own, *outputs, *data, space.plans[rank], settings,
                *sizes, mode, rank, size,
            )  # fmt: skip

        return call

    def _gradients(self, X: Any, y: Targets, row_weights: Floats | None) -> tuple[float, list[Floats], list[Floats]]:
        rows = rows_in_place(X, "dense", self._layout.widths[0])
        self._compile_training(rows, rows.kind)
        with self._workspace(rows.n_rows, 1, True, rows.kind, rows.most_numbers(_CHUNK)) as space:
            space.reset()
            outcome, order = Outcome.of(1), np.arange(rows.n_rows)[None, :]
            call = self._call(
                space, outcome, rows, y, row_weights, order, rows.n_rows, 0.0, epoch.ACCUMULATE, self._kernel_settings()
            )
            if self._seconds(rows.n_rows, 1) < _CALL_SECONDS:
                call(0, 1, 1)
            else:
                run_together(1, lambda rank: call(rank, 1, 1), stop=space.stop)
            gradients = (self._layout.weights(space.gradient), self._layout.biases(space.gradient))
            dw, db = ([g.copy() for g in part] for part in gradients)
        return outcome.mean_loss(0, y, row_weights, 1), dw, db

    def _losses(self, X: Any, y: Targets) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
        losses, hits = np.empty(X.shape[0]), np.empty(X.shape[0], np.bool_)
        self._infer(X, epoch.LOSSES, targets=as_kernel_input(y), losses=losses, hits=hits)
        return losses, hits

    def _probabilities(self, X: Any) -> Floats:
        return self._numbers(X, self._head.n_classes or self.layers[-1])

    def _predicted(self, X: Any) -> npt.NDArray[Any]:
        if not self._head.classifies:
            return self._head.as_handed_in(self._numbers(X, self.layers[-1]))
        if self.output == "softmax":
            predicted = np.empty(X.shape[0], np.int64)
        else:
            predicted = np.empty((X.shape[0], self.layers[-1]), np.int64)
        self._infer(X, epoch.LABELS, predicted=predicted.reshape(-1))
        return self._head.as_handed_in(predicted)

    def _numbers(self, X: Any, n_columns: int) -> Floats:
        numbers = np.empty((X.shape[0], n_columns), self.dtype)
        self._infer(X, epoch.NUMBERS, numbers=numbers.reshape(-1))
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
    ) -> None:
        """Run the network on all rows, each thread on a part of them, in calls between which Ctrl-C is heard."""
        rows = rows_in_place(X, self.first_layer, self._layout.widths[0])
        infer, n_rows = epoch.infer_loop(rows.kind, self._hidden, self._kernel_head), rows.n_rows
        none, settings = self._params[:0], self._kernel_settings()
        if targets is None:
            targets = np.zeros(0, self._target_dtype)
        outputs = (none if numbers is None else numbers, predicted, losses, hits)
        inputs = (rows.x, rows.starts, rows.index, targets, none, np.arange(n_rows), self._params)
        chunk = min(n_rows, _INFER_CHUNK)

        def call(first: int, last: int) -> None:
            with self._workspace(chunk, 1, False, rows.kind) as space:
                infer(
                    *outputs, space.work, space.notes[0], space.marks[0], *inputs, space.plans[0], settings,
                    space.meetings, first, last, space.chunk, self.input_scale, mode,
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
