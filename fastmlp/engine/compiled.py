"""`CompiledEngine`, the engine of `fastmlp.MLP`: it trains with kernels, and predicts as an `InferenceEngine`."""

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
from fastmlp.engine.cores import at_work
from fastmlp.engine.formulas import check_formula, n_slots, no_steps, step_table
from fastmlp.engine.inference import BRIEF_SECONDS, SECONDS_PER_FLOP, SECONDS_PER_THREAD, TRAIN_CHUNK, InferenceEngine
from fastmlp.engine.layout import Layout, aligned_zeros, as_kernel_input
from fastmlp.engine.rows import Rows, rows_in_place
from fastmlp.engine.team_size import ALONE, TeamSize
from fastmlp.engine.threads import run_brief_team, run_team
from fastmlp.engine.workspace import Needs, Workspace, divide_first
from fastmlp.interrupts import finish
from fastmlp.kernels import epoch, structs
from fastmlp.kernels.formats import FORMATS
from fastmlp.kernels.formats import Rows as RowKernels
from fastmlp.losses import Targets
from fastmlp.once import Sharing, each_time
from fastmlp.optimizers import SGD, Optimizer

__all__ = ["CompiledEngine"]

LONG_SECONDS, LONG_BYTES = 20.0, 2**24
"""Epochs with nothing to do in between share a call that must be shorter, and whose permutations and coefficients must
take less memory. An epoch of XOR then takes 1.3 us in place of 144."""


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


class CompiledEngine(InferenceEngine):  # noqa: D101
    __doc__ = Engine.__doc__

    def __init__(self, settings: Settings, n_threads: int | None) -> None:
        super().__init__(settings, n_threads)
        self._hidden_in_training = "sloped" if any(settings.dropout_rates[1:]) else self._hidden

    @cached_property
    def _padding(self) -> list[Floats]:
        """All numbers that are neither weights nor biases."""
        return self._layout.padding(self._params)

    def check_optimizer(self, optimizer: Optimizer) -> None:
        """Raise TypeError or ValueError for an optimizer that has no kernel, or does not fit it."""
        check_formula(optimizer)

    def new_state(self, slots: int) -> list[list[Floats]]:
        """Return zeros for an optimizer's state, in one flat buffer."""
        return _State(self._layout, slots) if slots else super().new_state(0)

    # --- preparation --------------------------------------------------------------------------------------------------

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

    # --- steps --------------------------------------------------------------------------------------------------------

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

    # --- gradients ----------------------------------------------------------------------------------------------------

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

    # --- calls of a training loop -------------------------------------------------------------------------------------

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

    def _flat(self, state: list[list[Floats]], formula: str | None) -> npt.NDArray[Any]:
        """Return the slots of an optimizer's state, which must be those that its formula reads."""
        flat = state.flat if isinstance(state, _State) else self._params[:0]
        if flat.size != n_slots(formula or "sgd") * self._layout.size or flat.dtype != self._params.dtype:
            raise ValueError("the optimizer's state does not fit the network")
        return flat

    @contextmanager
    def _workspace(self, needs: Needs) -> Iterator[Workspace]:
        """Lend what `_borrow` returns."""
        space, idle = self._borrow(needs)
        yield space
        idle.append(space)
