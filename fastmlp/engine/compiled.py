"""The engine of `fastmlp.MLP`: it runs the kernels, in as many threads as a call is worth."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastmlp.activations import Floats
from fastmlp.engine.base import Clipping, Engine, EpochTotals, Settings, StepPlan, total_weight
from fastmlp.engine.cores import at_work, available_threads, share
from fastmlp.engine.formulas import check_formula, n_slots, no_steps, step_table
from fastmlp.engine.layout import LINE, Layout, aligned_zeros, as_kernel_input
from fastmlp.engine.rows import Rows, rows_in_place, rows_to_train
from fastmlp.engine.team_size import ALONE, TeamSize
from fastmlp.engine.threads import run_brief_team, run_in_thread, run_team
from fastmlp.engine.workspace import Needs, Workspace, divide_first
from fastmlp.interrupts import finish
from fastmlp.kernels import epoch, structs
from fastmlp.kernels.formats import FORMATS
from fastmlp.kernels.formats import Rows as RowKernels
from fastmlp.kernels.team import TAKEN
from fastmlp.losses import Targets
from fastmlp.once import Sharing, each_time
from fastmlp.optimizers import SGD, Optimizer
from fastmlp.random import keep_threshold
from fastmlp.validation.inputs import check_finite

__all__ = ["CompiledEngine"]

# The constants that decide what a call is worth; the measurements are from two cores of an Intel Xeon with AVX-512.
TRAIN_CHUNK = 512
"""Rows that go through the network together, so that their activations stay in the second cache."""
INFER_CHUNK = 128
"""The same for predictions, which need no more."""
SHARED_FLOPS = 4e6
"""A step of fewer operations begins in one thread: the barriers may cost what a second thread gains."""
SINGLE_FLOPS = 2e5
"""A step of fewer operations, some microseconds, always runs in one thread."""
TYPICAL_FLOPS_PER_SECOND, SECONDS_PER_THREAD = 5e10, 5e-4
"""Of one core, until the steps have been measured. Work for which one thread needs less than SECONDS_PER_THREAD is not
worth a second one."""
BRIEF_SECONDS = 0.1
"""Calls that must be shorter run in the calling thread, which does not hear Ctrl-C meanwhile. That saves 70 us."""
LONG_SECONDS, LONG_BYTES = 20.0, 2**24
"""Epochs with nothing to do in between share a call that must be shorter, and whose permutations and coefficients must
take less memory. An epoch of XOR then takes 1.3 us in place of 144."""
SECONDS_PER_STEP, SECONDS_PER_FLOP = 1e-6, 1e-10
"""Upper bounds, from which these times follow: XOR needs half of the first, dense MNIST a tenth of the second."""

PACKED_BY_ONE = 2**20
"""Numbers that one thread packs about as fast as another one starts."""

_NO_LABELS, _NO_LOSSES, _NO_CORRECT = np.zeros(0, np.int64), np.zeros(0), np.zeros(0, np.bool_)
_NO_BAD_ROW, _NONE_TAKEN = np.full(1, -1), np.zeros(LINE // 8, np.int64)  # copies are made faster than such arrays
_FIRST_ROWS = np.arange(INFER_CHUNK)

_compiled: set[tuple[Any, str]] = set()  # entries and dtypes that this process has ready


class _Prepared(NamedTuple):
    """What `CompiledEngine.prepare` returns: X, and how the first layer and the loop read it."""

    rows: Rows
    kernels: RowKernels
    loop: Callable[..., None]
    formula: str | None  # None is plain SGD, which does not update block by block


class _State(list[list[Floats]]):
    """An optimizer's state: for each parameter a list of views of `flat`, whose slots have the layout of parameters."""

    def __init__(self, layout: Layout, slots: int) -> None:
        self.flat = aligned_zeros(slots * layout.size, layout.dtype)
        views = [layout.weights(slot) + layout.biases(slot) for slot in self.flat.reshape(slots, layout.size)]
        super().__init__([list(of_parameter) for of_parameter in zip(*views, strict=True)])

    def __reduce__(self) -> tuple[type[list[Any]], tuple[list[Any]]]:
        """Copy and pickle as a plain list. The engine that gets it makes a new state of it."""
        return list, (list(self),)


class CompiledEngine(Engine):  # noqa: D101
    __doc__ = Engine.__doc__

    checks_finite = True

    def __init__(self, settings: Settings, n_threads: int | None) -> None:
        super().__init__(settings, n_threads)
        self._layout = Layout(settings.layers, settings.dtype)
        self._params = aligned_zeros(self._layout.size, settings.dtype)
        self.weights, self.biases = self._layout.weights(self._params), self._layout.biases(self._params)
        self._hidden = "plain" if set(settings.activations) <= {"relu", "identity"} else "sloped"
        self._hidden_in_training = "sloped" if any(settings.dropout_rates[1:]) else self._hidden
        self._no_targets = np.zeros(0, "int32" if settings.loss.name == "softmax" else settings.dtype)
        self._idle: dict[Needs, list[Workspace]] = {}  # workspaces that nobody uses
        self._inferences: dict[tuple[str, bool, int], tuple[Callable[..., None], Needs]] = {}

    @cached_property
    def _padding(self) -> list[Floats]:
        """All numbers that are neither weights nor biases."""
        return self._layout.padding(self._params)

    def shares_memory(self, array: npt.NDArray[Any]) -> bool:
        """Return whether an array may overlap a parameter."""
        return np.may_share_memory(array, self._params)

    def check_optimizer(self, optimizer: Optimizer) -> None:
        """Raise TypeError or ValueError for an optimizer that has no kernel, or does not fit it."""
        check_formula(optimizer)

    def new_state(self, slots: int) -> list[list[Floats]]:
        """Return zeros for an optimizer's state, in one flat buffer."""
        return _State(self._layout, slots) if slots else super().new_state(0)

    # --- what a call is worth -----------------------------------------------------------------------------------------

    def _flops(self, n_rows: int) -> float:
        """Return about how many operations a step on `n_rows` takes."""
        return 6.0 * n_rows * self._layout.size

    def _seconds(self, n_rows: int, n_batches: int) -> float:
        """Return an upper bound of the time of an epoch."""
        return n_batches * SECONDS_PER_STEP + self._flops(n_rows) * SECONDS_PER_FLOP

    def epochs_per_call(self, prepared: _Prepared, n_rows: int, n_batches: int) -> int:
        """Return how many epochs, of `n_rows`, one call of `train` may take if nobody needs to look in between."""
        rows = prepared.rows
        seconds = self._seconds(n_rows, n_batches)
        if rows.format == "csr":  # the first layer costs its nonzeros, but at least four dense rows for each batch
            part = min(1.0, max(len(rows.x) / math.prod(rows.shape), 4 * n_batches / n_rows))
            first_flops = 6.0 * n_rows * rows.n_features * self._layout.pitches[0]
            seconds -= (1 - part) * first_flops * SECONDS_PER_FLOP
        n_bytes = 8 * n_rows + 160 * n_batches
        return max(1, min(int(LONG_SECONDS / seconds), LONG_BYTES // n_bytes))

    def _team_size(self, kind: tuple[Any, ...], n_rows: int, n_steps: int, **options: Any) -> TeamSize:
        """Return who says how many threads take some steps, each on `n_rows`: the user, or what has been measured.

        The time of a step depends on the layers, the number of rows, and what `kind` names.
        """
        if self.n_threads is not None:
            return TeamSize(None, self.n_threads, 0.0, is_fixed=True)
        flops = self._flops(n_rows)
        seconds = SECONDS_PER_STEP + flops / TYPICAL_FLOPS_PER_SECOND
        if flops < SINGLE_FLOPS or n_steps * seconds < SECONDS_PER_THREAD or available_threads() == 1:
            return ALONE
        size = 1 if flops < SHARED_FLOPS else 1 + int(n_steps * seconds / SECONDS_PER_THREAD)
        settings = self.settings
        key = (settings.layers, settings.activations, settings.dtype, settings.loss.kernel, n_rows, *kind)
        return TeamSize(key, size, seconds, **options)

    # --- training -----------------------------------------------------------------------------------------------------

    def prepare(
        self,
        X: Any,
        optimizer: Optimizer,
        clipping: Clipping,
        first_layer: str | None = None,
        once: Sharing = each_time,
    ) -> _Prepared:
        """Check X, pack it if it has many zeros, and compile or load the kernels."""
        formula = check_formula(optimizer)
        if self.settings.input_noise:
            first_layer = "dense"  # noise leaves no zeros
        rows = self._packed(X, first_layer or self.settings.first_layer, once)
        row_format = FORMATS[rows.format]
        kernels = row_format.train
        if self.settings.input_noise and row_format.noise is not None:
            kernels = row_format.noise
        elif self.settings.dropout_rates[0]:
            kernels = row_format.dropout
        plain = type(optimizer) is SGD and optimizer.is_plain_sgd and clipping == Clipping() and not self.settings.l2
        return self._prepared(rows, kernels, None if plain else formula)

    def is_copy(self, prepared: _Prepared) -> bool:
        """Return whether the rows have been packed."""
        return prepared.rows.is_packed

    def _packed(self, X: Any, first_layer: str, once: Sharing) -> Rows:
        """Return the rows of X, packed if that is worth it, by as many threads as they are worth."""
        width, most = self._layout.widths[0], 1 + math.prod(X.shape) // PACKED_BY_ONE
        if most == 1:
            return rows_to_train(X, first_layer, width, 1, once)

        def pack() -> Rows:
            return rows_to_train(X, first_layer, width, self.n_threads or min(most, share()), once)

        return at_work(pack, self.n_threads or most)

    def _prepared(self, rows: Rows, kernels: RowKernels, formula: str | None) -> _Prepared:
        """Compile or load the training loop of a formula that updates block by block, or of plain SGD."""
        loop = epoch.train_loop(kernels, self._hidden_in_training, self.settings.loss.kernel, formula)
        prepared = _Prepared(rows, kernels, loop, formula)

        def train_nothing() -> None:
            slots = None if formula is None else n_slots(formula)
            with self._workspace(self._needs(kernels, 1, slots=slots)) as space:
                order, plan = np.zeros((0, 1), np.int64), no_steps(0, formula, self.new_state(slots or 0))
                call = self._call(prepared, EpochTotals.zeros(0), self._no_targets, order, 1, structs.FUSED, plan)
                call(space, 0, 0, 0, 1)

        self._compile(loop, train_nothing)
        return prepared

    def train(
        self,
        totals: EpochTotals,
        rows: _Prepared,
        y: Targets,
        order: npt.NDArray[np.int64],
        batch_size: int,
        plan: StepPlan,
        on_step: Callable[[int], bool] | None = None,
    ) -> None:
        """Train on what `prepare` has returned, epoch after epoch."""
        n_rows, in_chunks = order.shape[1], batch_size > TRAIN_CHUNK
        n_batches, mode = -(-n_rows // batch_size), structs.FUSED
        if self.settings.l2 or plan.clipping.norm is not None:  # sums of squares read the padding, too
            for zeros in self._padding:  # where a fit that diverged may have left nan
                zeros[...] = 0
        n_nonzeros = rows.rows.most_nonzeros(min(batch_size, TRAIN_CHUNK), order[0])
        needs = self._needs(rows.kernels, batch_size, n_nonzeros, self.settings.dropout_rates[1:])
        if rows.formula is not None:
            whole = in_chunks or plan.clipping.norm is not None
            needs = needs._replace(slots=n_slots(rows.formula), whole_gradient=whole)
        elif in_chunks:
            needs, mode = needs._replace(accumulate=True), structs.ACCUMULATE | structs.COMMIT
        call = self._call(rows, totals, y, order, batch_size, mode, plan)
        n_steps, seconds = len(order) * n_batches, self._seconds(n_rows, n_batches) / n_batches
        kind = ("train", needs, rows.formula)
        team = ALONE if on_step is None else self._team_size(kind, batch_size, n_steps)

        def take_all() -> int:
            result = structs.FINISHED
            while totals.steps < n_steps and result == structs.FINISHED:
                left = n_steps - totals.steps
                result = self._take_steps(call, needs, rows, totals, plan, team, left, seconds, on_step)
                if totals.steps < n_steps and on_step is not None and not on_step(totals.steps):
                    break
            return result

        brief = n_steps * seconds < SECONDS_PER_THREAD  # over before others could make use of it
        result = take_all() if brief else at_work(take_all, team.most)
        if result == structs.NOT_FINITE:
            bad = totals.steps // n_batches
            totals.bad_loss = float(totals.losses[bad] + totals.penalties[bad])

    def _take_steps(
        self,
        call: Callable[[Workspace, int, int, int, int], None],
        needs: Needs,
        prepared: _Prepared,
        totals: EpochTotals,
        plan: StepPlan,
        team: TeamSize,
        n_left: int,
        seconds: float,
        on_step: Callable[[int], bool] | None,
    ) -> int:
        """Take steps with one team, which may end before the last of the `n_left`; return how it has ended."""
        first, segment = totals.steps, team.next(n_left)
        end, size = first + segment.n_steps, segment.size
        if size > 1:
            needs = divide_first(needs._replace(n_threads=size), self._layout, prepared.rows.density)
        space, idle = self._borrow(needs)
        space.draw_from(plan.seed, plan.epoch)
        space.reset(first)
        publish = space.private_weights(self._params, self._flat(plan.state, prepared.formula))

        def run(rank: int) -> None:
            team.enter(rank)
            call(space, first, end, rank, size)

        def go_on() -> bool:
            done = int(space.control[structs.STEPS])
            if team.is_to_end(done - first):
                space.pause()
            if on_step is None:
                return True
            publish()  # a callback may look at the network
            return on_step(done)

        def settle() -> None:
            publish()
            totals.steps = int(space.control[structs.STEPS])

        finish(lambda: self._run(run, space, size, segment.n_steps * seconds, go_on), settle)
        team.end(totals.steps - first)
        if not team.lost():
            idle.append(space)
        return int(space.control[structs.RESULT])

    def gradients(self, X: Any, y: Targets, row_weights: Floats | None) -> tuple[float, list[Floats], list[Floats]]:
        """Return the mean loss plus penalty, and its gradients; nothing is dropped or perturbed."""
        rows = rows_in_place(X, "dense", self._layout.widths[0])
        prepared, totals = self._prepared(rows, FORMATS[rows.format].train, None), EpochTotals.zeros(1)
        plan = replace(no_steps(1), row_weights=row_weights)
        dw, db = self._mean_gradients(totals, prepared, y, np.arange(rows.n_rows), plan)
        l2 = self.settings.l2
        if l2:
            totals.penalties[0] = l2 / 2 * sum(float(np.square(w, dtype=np.float64).sum()) for w in self.weights)
            dw = [g + l2 * w for g, w in zip(dw, self.weights, strict=True)]
        return float(totals.mean_losses(total_weight(len(y), row_weights), 1)[0]), dw, db

    def batch_gradients(
        self, totals: EpochTotals, prepared: _Prepared, y: Targets, batch: npt.NDArray[np.int64], plan: StepPlan
    ) -> tuple[list[Floats], list[Floats]]:
        """Return the gradients of the mean loss of some rows, with dropout and noise, and add their losses to `totals`.

        `prepared` is for plain SGD. There is no penalty, and the plan needs no rates.
        """
        if not len(batch):
            return [np.zeros_like(w) for w in self.weights], [np.zeros_like(b) for b in self.biases]
        plan = replace(no_steps(1), row_weights=plan.row_weights, seed=plan.seed, epoch=plan.epoch)
        return self._mean_gradients(totals, prepared, y, batch, plan, self.settings.dropout_rates[1:])

    def _mean_gradients(
        self,
        totals: EpochTotals,
        prepared: _Prepared,
        y: Targets,
        batch: npt.NDArray[np.int64],
        plan: StepPlan,
        dropout_rates: tuple[float, ...] = (),
    ) -> tuple[list[Floats], list[Floats]]:
        n_rows = len(batch)
        needs = self._needs(prepared.kernels, n_rows, prepared.rows.most_nonzeros(TRAIN_CHUNK, batch), dropout_rates)
        call = self._call(prepared, totals, y, batch[None, :], n_rows, structs.ACCUMULATE, plan)
        with self._workspace(needs._replace(accumulate=True)) as space:
            space.draw_from(plan.seed, plan.epoch)
            space.reset()
            self._run(lambda rank: call(space, 0, 1, rank, 1), space, 1, self._seconds(n_rows, 1))
            dw = [g.copy() for g in self._layout.weights(space.gradient)]
            db = [g.copy() for g in self._layout.biases(space.gradient)]
        return dw, db

    def _call(
        self,
        prepared: _Prepared,
        totals: EpochTotals,
        y: Targets,
        order: npt.NDArray[np.int64],
        batch_size: int,
        mode: int,
        plan: StepPlan,
    ) -> Callable[[Workspace, int, int, int, int], None]:
        """Return the call of a training loop in a workspace, for some steps, a rank and the size of the team."""
        rows, loop = prepared.rows, prepared.loop
        row_weights = self._params[:0] if plan.row_weights is None else plan.row_weights
        l2 = self.settings.l2 if plan.l2 is None else plan.l2
        n_rows = order.shape[1]
        n_steps = len(order) * -(-n_rows // batch_size)
        schedule = step_table(prepared.formula or "sgd", plan, n_steps, l2, plan.clipping)
        state, sums = self._flat(plan.state, prepared.formula), (totals.losses, totals.correct, totals.penalties)
        data = (rows.x, rows.indptr, rows.indices, as_kernel_input(y), row_weights, order.reshape(-1), schedule)

        def call(space: Workspace, first_step: int, end_step: int, rank: int, size: int) -> None:
            loop(
                self._params, space.gradient, state, space.work, *space.private[rank], space.sums, *sums,
                space.row_loss, space.row_correct, space.sync, space.control, *data, space.layers[rank],
                space.settings, n_rows, batch_size, first_step, end_step, mode, rank, size,
            )  # fmt: skip

        return call

    def _run(
        self,
        call: Callable[[int], None],
        space: Workspace,
        size: int,
        seconds: float,
        go_on: Callable[[], bool] = lambda: True,
    ) -> None:
        """Run the call of each rank, which takes `seconds` at most; threads listen for Ctrl-C unless that is brief."""
        if seconds < BRIEF_SECONDS:
            run_brief_team(size, call, stop=space.stop, release=space.release)
        else:
            run_team(size, call, go_on=go_on, stop=space.stop, release=space.release)

    # --- predictions --------------------------------------------------------------------------------------------------

    def prepare_inference(self, X: Any, once: Sharing = each_time) -> Rows:
        """Return X packed if it has many zeros, and compile or load the kernels."""
        rows = self._packed(X, self.settings.first_layer, once)
        self._infer(rows, structs.LABELS, labels=np.empty(self.settings.layers[-1], np.int64), n_rows=1)
        return rows

    def losses(self, X: Any, y: Targets) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
        """Return the loss of each row, and whether it is predicted right."""
        losses, correct = np.empty(X.shape[0]), np.empty(X.shape[0], np.bool_)
        self._infer(X, structs.ROW_LOSSES, targets=as_kernel_input(y), losses=losses, correct=correct)
        return losses, correct

    def predict_proba(self, X: Any) -> Floats:
        """Return probabilities."""
        return self._numbers(X, self.settings.loss.n_classes or self.settings.layers[-1])

    def predict(self, X: Any) -> npt.NDArray[Any]:
        """Return predictions in the form in which users pass y."""
        loss, n_outputs = self.settings.loss, self.settings.layers[-1]
        if not loss.classifies:
            return loss.decode(self._numbers(X, n_outputs))
        labels = np.empty(X.shape[0] if loss.name == "softmax" else (X.shape[0], n_outputs), np.int64)
        self._infer(X, structs.LABELS, labels=labels.reshape(-1))
        return loss.decode(labels)

    def _numbers(self, X: Any, n_columns: int) -> Floats:
        numbers = np.empty((X.shape[0], n_columns), self._params.dtype)
        self._infer(X, structs.NUMBERS, numbers=numbers.reshape(-1))
        return numbers

    def _infer(
        self,
        X: Any,
        mode: int,
        *,
        numbers: Floats | None = None,
        labels: npt.NDArray[np.int64] = _NO_LABELS,
        losses: npt.NDArray[np.float64] = _NO_LOSSES,
        correct: npt.NDArray[np.bool_] = _NO_CORRECT,
        targets: Targets | None = None,
        n_rows: int | None = None,
    ) -> None:
        """Run the network on the first `n_rows`, by default on all; refuse numbers that are not finite."""
        rows = X if isinstance(X, Rows) else rows_in_place(X, self.settings.first_layer, self._layout.widths[0])
        n_rows = n_rows or rows.n_rows
        none, bad_row, chunk = self._params[:0], _NO_BAD_ROW.copy(), min(n_rows, INFER_CHUNK)
        loop, needs = self._inference(rows, chunk)
        outputs = (none if numbers is None else numbers, labels, losses, correct, bad_row)
        data = (rows.x, rows.indptr, rows.indices, self._no_targets if targets is None else targets, none)
        order = _FIRST_ROWS[: rows.n_rows] if rows.n_rows <= INFER_CHUNK else np.arange(rows.n_rows)
        taken = _NONE_TAKEN.copy()

        def call(rank: int, end: int = n_rows, taken: npt.NDArray[np.int64] = taken) -> None:
            space, idle = self._borrow(needs)
            loop(
                *outputs, space.work, *space.private[0][:6], taken, *data, order, self._params, space.layers[0],
                space.settings, 0, end, mode,
            )  # fmt: skip
            idle.append(space)

        self._compile(loop, lambda: call(0, 0, taken.copy()))
        if n_rows == chunk:
            call(0)
        else:
            self._infer_by_team(call, needs, n_rows, taken)
        if bad_row[0] >= 0:
            check_finite(X, X, "X")

    def _inference(self, rows: Rows, chunk: int) -> tuple[Callable[..., None], Needs]:
        """Return the loop that predicts these rows, and what its workspace needs."""
        key = (rows.format, len(rows.indptr) > 0, chunk)
        try:
            return self._inferences[key]
        except KeyError:
            row_format = FORMATS[rows.format]
            loop = epoch.infer_loop(row_format, self._hidden, self.settings.loss.kernel)
            staged = row_format.infer.staged and not rows.is_packed
            self._inferences[key] = loop, self._needs(row_format.infer, chunk)._replace(staged=staged)
            return self._inferences[key]

    def _infer_by_team(
        self, call: Callable[[int], None], needs: Needs, n_rows: int, taken: npt.NDArray[np.int64]
    ) -> None:
        """Have the rows predicted by threads that take chunk after chunk of them."""
        kind = "predict", needs

        def stop() -> None:
            taken[TAKEN] = n_rows  # so that nothing is left

        team = self._team_size(kind, _power_of_two(n_rows), 1, trial_steps=1, start_seconds=0.0)

        def predict() -> None:
            size = team.next(1).size
            team.begin()
            seconds = self._seconds(n_rows, 1) / (3 * size)  # a third of the operations of a training step
            if min(seconds, team.late()) < BRIEF_SECONDS:
                run_brief_team(size, call, stop)
            else:
                run_team(size, call, stop=stop)
            team.end(1)

        at_work(predict, team.most)

    # --- workspaces and kernels ---------------------------------------------------------------------------------------

    def _needs(
        self,
        kernels: RowKernels,
        n_rows: int,
        n_nonzeros: int = 0,
        dropout_rates: tuple[float, ...] = (),
        slots: int | None = None,
    ) -> Needs:
        """Return what one thread needs for batches of `n_rows`.

        Sizes are powers of two, so that batches of many sizes share workspaces.
        """
        chunk = min(TRAIN_CHUNK, _power_of_two(n_rows))
        most = _power_of_two(n_nonzeros)
        return Needs(kernels, kernels.staged, chunk, 1, dropout_rates, most, slots=slots, first_grid=(1, 1))

    def _borrow(self, needs: Needs) -> tuple[Workspace, list[Workspace]]:
        """Return a workspace that nobody uses, of an earlier call or made now, and the list to put it back to."""
        idle = self._idle.setdefault(needs, [])
        try:
            return idle.pop(), idle
        except IndexError:
            space = Workspace(self._layout, self.settings.activations, needs)
            self._configure(space)
            return space, idle

    @contextmanager
    def _workspace(self, needs: Needs) -> Iterator[Workspace]:
        """Lend what `_borrow` returns."""
        space, idle = self._borrow(needs)
        yield space
        idle.append(space)

    def _configure(self, space: Workspace) -> None:
        """Write the settings that are the same in all calls. Kernels decide whether inputs are dropped or noisy."""
        settings, rate = space.settings[0], self.settings.dropout_rates[0]
        settings["input_scale"] = self.settings.input_scale
        settings["label_smoothing"] = self.settings.loss.label_smoothing
        settings["drop_below"], settings["scale_kept"] = keep_threshold(rate), 1 / (1 - rate)
        settings["noise"] = self.settings.input_noise

    def _flat(self, state: list[list[Floats]], formula: str | None) -> npt.NDArray[Any]:
        """Return the slots of an optimizer's state, which must be those that its formula reads."""
        flat = state.flat if isinstance(state, _State) else self._params[:0]
        if flat.size != n_slots(formula or "sgd") * self._layout.size or flat.dtype != self._params.dtype:
            raise ValueError("the optimizer's state does not fit the network")
        return flat

    def _compile(self, entry: Callable[..., None], call: Callable[[], object]) -> None:
        """Run a call that compiles a kernel, or loads it, unless this process has done so."""
        if (entry, self.settings.dtype) not in _compiled:
            run_in_thread(call)
            _compiled.add((entry, self.settings.dtype))


def _power_of_two(n: int) -> int:
    """Return the smallest power of two that is at least n."""
    return 1 << (n - 1).bit_length() if n > 1 else 1
