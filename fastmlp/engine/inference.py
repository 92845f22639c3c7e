"""`InferenceEngine` predicts. `compiled.py` trains, with its parameters, workspaces and choice of threads."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmlp.activations import Floats
from fastmlp.engine.base import Engine, Settings
from fastmlp.engine.cores import at_work, available_threads, share
from fastmlp.engine.layout import LINE, Layout, aligned_zeros, as_kernel_input
from fastmlp.engine.rows import Rows, rows_in_place, rows_to_train
from fastmlp.engine.team_size import ALONE, TeamSize
from fastmlp.engine.threads import run_brief_team, run_in_thread, run_team
from fastmlp.engine.workspace import Needs, Workspace
from fastmlp.kernels import epoch, structs
from fastmlp.kernels.formats import FORMATS
from fastmlp.kernels.formats import Rows as RowKernels
from fastmlp.kernels.team import TAKEN
from fastmlp.losses import Targets
from fastmlp.once import Sharing, each_time
from fastmlp.random import keep_threshold
from fastmlp.validation.inputs import check_finite

__all__ = ["BRIEF_SECONDS", "SECONDS_PER_FLOP", "SECONDS_PER_THREAD", "TRAIN_CHUNK", "InferenceEngine"]

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
SECONDS_PER_STEP, SECONDS_PER_FLOP = 1e-6, 1e-10
"""Upper bounds, from which these times follow: XOR needs half of the first, dense MNIST a tenth of the second."""

PACKED_BY_ONE = 2**20
"""Numbers that one thread packs about as fast as another one starts."""

_NO_LABELS, _NO_LOSSES, _NO_CORRECT = np.zeros(0, np.int64), np.zeros(0), np.zeros(0, np.bool_)
_NO_BAD_ROW, _NONE_TAKEN = np.full(1, -1), np.zeros(LINE // 8, np.int64)  # copies are made faster than such arrays
_FIRST_ROWS = np.arange(INFER_CHUNK)

_compiled: set[tuple[Any, str]] = set()  # entries and dtypes that this process has ready


class InferenceEngine(Engine):
    """An engine whose kernels predict, in as many threads as a call is worth."""

    checks_finite = True

    def __init__(self, settings: Settings, n_threads: int | None) -> None:
        super().__init__(settings, n_threads)
        self._layout = Layout(settings.layers, settings.dtype)
        self._params = aligned_zeros(self._layout.size, settings.dtype)
        self.weights, self.biases = self._layout.weights(self._params), self._layout.biases(self._params)
        self._hidden = "plain" if set(settings.activations) <= {"relu", "identity"} else "sloped"
        self._no_targets = np.zeros(0, "int32" if settings.loss.name == "softmax" else settings.dtype)
        self._idle: dict[Needs, list[Workspace]] = {}  # workspaces that nobody uses
        self._inferences: dict[tuple[str, bool, int], tuple[Callable[..., None], Needs]] = {}

    def shares_memory(self, array: npt.NDArray[Any]) -> bool:
        """Return whether an array may overlap a parameter."""
        return np.may_share_memory(array, self._params)

    # --- what a call is worth -----------------------------------------------------------------------------------------

    def _flops(self, n_rows: int) -> float:
        """Return about how many operations a step on `n_rows` takes."""
        return 6.0 * n_rows * self._layout.size

    def _seconds(self, n_rows: int, n_batches: int) -> float:
        """Return an upper bound of the time of an epoch."""
        return n_batches * SECONDS_PER_STEP + self._flops(n_rows) * SECONDS_PER_FLOP

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

    # --- rows, workspaces and kernels ---------------------------------------------------------------------------------

    def _packed(self, X: Any, first_layer: str, once: Sharing) -> Rows:
        """Return the rows of X, packed if that is worth it, by as many threads as they are worth."""
        width, most = self._layout.widths[0], 1 + math.prod(X.shape) // PACKED_BY_ONE
        if most == 1:
            return rows_to_train(X, first_layer, width, 1, once)

        def pack() -> Rows:
            return rows_to_train(X, first_layer, width, self.n_threads or min(most, share()), once)

        return at_work(pack, self.n_threads or most)

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

    def _configure(self, space: Workspace) -> None:
        """Write the settings that are the same in all calls. Kernels decide whether inputs are dropped or noisy."""
        settings, rate = space.settings[0], self.settings.dropout_rates[0]
        settings["input_scale"] = self.settings.input_scale
        settings["label_smoothing"] = self.settings.loss.label_smoothing
        settings["drop_below"], settings["scale_kept"] = keep_threshold(rate), 1 / (1 - rate)
        settings["noise"] = self.settings.input_noise

    def _compile(self, entry: Callable[..., None], call: Callable[[], object]) -> None:
        """Run a call that compiles a kernel, or loads it, unless this process has done so."""
        if (entry, self.settings.dtype) not in _compiled:
            run_in_thread(call)
            _compiled.add((entry, self.settings.dtype))


def _power_of_two(n: int) -> int:
    """Return the smallest power of two that is at least n."""
    return 1 << (n - 1).bit_length() if n > 1 else 1
