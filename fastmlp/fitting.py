"""`Fitting`: a fit whose arguments have been checked, from the call of `fit` to its warnings."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from fastmlp.activations import Floats
from fastmlp.callbacks import gather_callbacks
from fastmlp.data.blocks import Blocks, check_alone, refuse_blocks
from fastmlp.data.checked import CheckedBlocks
from fastmlp.data.checked import learned as learned_in_blocks
from fastmlp.data.maps import warn_of_large_map
from fastmlp.data.training import InBlocks
from fastmlp.diagnosis import ConvergenceWarning
from fastmlp.history import History
from fastmlp.losses import Targets
from fastmlp.metrics import check_metrics
from fastmlp.model import Model
from fastmlp.names import Names
from fastmlp.once import Sharing, each_time
from fastmlp.optimizers import get_optimizer
from fastmlp.schedules import Schedule, get_schedule
from fastmlp.training import Trainer, TrainingState, check_clipping
from fastmlp.validation.inputs import as_numbers, check_X
from fastmlp.validation.rows import balanced, check_class_weight, check_sample_weight, row_weights, validation_rows
from fastmlp.validation.settings import check_bool, check_int, check_number

__all__ = [
    "Evaluation", "Fitting", "beginning", "check_arrays", "check_data", "check_evaluation", "learned", "train_alone",
    "weights_of",
]  # fmt: skip

Evaluation: TypeAlias = tuple[Any, Targets, Floats | None] | tuple[CheckedBlocks]
"""Checked rows, targets and their weights; or blocks of them."""


@dataclass
class Fitting:
    """A fit that may begin.

    Attributes
    ----------
    net : Model
    trainer : Trainer
    names : Names
        What the network will know of features and classes.
    """

    net: Model
    trainer: Trainer
    names: Names

    @property
    def history(self) -> History:
        """What the fit measures."""
        return self.trainer.history

    @classmethod
    def of(cls, net: Model, X: Any, y: Any, *, rows: object = None, once: Sharing = each_time, **fit: Any) -> Self:
        """Check the arguments of `fit`; the network is not changed yet.

        Parameters
        ----------
        net : Model
        X, y
            As for `fit`.
        rows : (k,) array_like of int or bool, or None
            Which rows of X to train on, as in ``X[rows]``.
        once : Sharing
            Makes what networks have in common.
        **fit
            All other arguments of `fit`.

        Raises
        ------
        TypeError, ValueError
            If an argument is wrong.
        """
        if once is not each_time:
            refuse_blocks(X)
        if y is None and not isinstance(X, Blocks):
            raise TypeError("fit needs y, one target for each row of X")
        names = learned(net, X, y, once)
        return cls(net, _trainer(net, X, y, names, rows, once, **fit), names)

    def run(self) -> None:
        """Train. Callbacks already see the new history, training state and names."""
        train_alone(self.net, self.trainer, self.names)

    def warnings(self) -> Iterator[tuple[str, type[Warning]]]:
        """Yield the words and the kind of each warning that is due after the fit."""
        trainer, fit = self.trainer, self.trainer.fit
        if self.history.interrupted:
            where = f"after epoch {fit.epoch} of {fit.epochs}"
            if fit.step:
                where = f"in epoch {fit.epoch + 1} of {fit.epochs}, after step {fit.step} of {fit.n_batches}"
            yield f"Ctrl-C stopped training {where}; steps taken so far are kept", UserWarning
        elif trainer.nothing_left:
            n = trainer.state.epochs
            what = f"{n} epochs are done, and epochs={fit.epochs} is the total, not the number of further ones"
            yield f"resume=True has trained nothing: {what}", UserWarning
        elif trouble := trainer.what_went_wrong():
            yield trouble, ConvergenceWarning


def _trainer(
    net: Model,
    X: Any,
    y: Any,
    names: Names,
    rows: object,
    once: Sharing,
    *,
    epochs: object,
    batch_size: object,
    learning_rate: Any,
    optimizer: Any,
    schedule: Any,
    sample_weight: object,
    class_weight: object,
    clip_norm: object,
    clip_value: object,
    validation_data: Any,
    validation_fraction: object,
    metrics: Any,
    shuffle: object,
    progress: object,
    callbacks: Any,
    resume: object,
) -> Trainer:
    n_epochs, n_batch = check_int("epochs", epochs, 1), check_int("batch_size", batch_size, 1)
    shuffle, resume = check_bool("shuffle", shuffle), check_bool("resume", resume)
    clipping = check_clipping(clip_norm, clip_value)
    callbacks = gather_callbacks(callbacks, check_bool("progress", progress))
    schedule = get_schedule(schedule)
    common: dict[str, Any] = {
        "engine": net._engine, "net": net, "callbacks": callbacks, "schedule": schedule, "random": net._random,
        "clipping": clipping, "epochs": n_epochs, "batch_size": n_batch, "shuffle": shuffle,
    }  # fmt: skip
    kind: type[Trainer]
    if isinstance(X, Blocks):
        kind = InBlocks
        weights = {"sample_weight": sample_weight, "class_weight": class_weight}
        data = _blocks(net, X, y, names, rows, validation_data, validation_fraction, **weights)
    else:
        kind = Trainer
        data = _arrays(net, X, y, names, rows, once, sample_weight, class_weight, validation_data, validation_fraction)
    validation = data["validation"]
    metrics_ = check_metrics(metrics, net._loss, weights_of(validation), names.classes)
    if metrics_ and validation is None and data.get("held_out") is None:
        raise ValueError("metrics need validation data; give validation_data or validation_fraction")
    state, history = beginning(net, optimizer, learning_rate, schedule, resume)
    return kind(state=state, metrics=metrics_, history=history, **common, **data)


def _arrays(
    net: Model,
    X: Any,
    y: Any,
    names: Names,
    rows: object,
    once: Sharing,
    sample_weight: object,
    class_weight: object,
    validation_data: Any,
    validation_fraction: object,
) -> dict[str, Any]:
    """Return the arguments of a trainer that are about the rows."""
    loss, engine = net._loss, net._engine
    warn_of_large_map(X)
    copies = (rows is not None or validation_fraction is not None) and engine.settings.is_random
    X_, y_ = check_data(net, X, y, finite=copies or not engine.checks_finite, names=names, once=once)
    weights = check_sample_weight(sample_weight, len(y_))
    chosen, held_out = _check_rows(rows, len(y_)), None
    validation = _check_validation(net, validation_data, names, once)
    if validation_fraction is not None:
        if validation is not None:
            raise ValueError("give validation_data or validation_fraction, not both")
        mask = validation_rows(_of(chosen, y_), loss, validation_fraction, net._random.seed)
        among = np.arange(len(y_)) if chosen is None else chosen
        chosen, held_out = among[~mask], among[mask]
    of_rows = row_weights(_of(chosen, weights), names.class_weight(class_weight), _of(chosen, y_), loss, net.dtype)
    if of_rows is not None and chosen is not None:
        of_chosen, of_rows = of_rows, np.zeros(len(y_), of_rows.dtype)
        of_rows[chosen] = of_chosen
    return {
        "X": X_, "y": y_, "row_weights": of_rows, "rows": chosen, "held_out": held_out, "validation": validation,
    }  # fmt: skip


def _blocks(
    net: Model,
    blocks: Blocks,
    y: object,
    names: Names,
    rows: object,
    validation_data: Any,
    validation_fraction: object,
    *,
    sample_weight: object,
    class_weight: object,
) -> dict[str, Any]:
    """Return the same arguments for rows that come in blocks."""
    if rows is not None:
        raise TypeError("rows cannot be chosen from Blocks; make Blocks of these rows")
    check_alone(y=y, sample_weight=sample_weight)
    if validation_fraction is not None:
        if validation_data is not None:
            raise ValueError("give validation_data or validation_fraction, not both")
        fraction = check_number("validation_fraction", validation_fraction, below=1, zero=False)
        blocks, validation_data = blocks.split(fraction, net._random.seed)

    def of_classes(counts: npt.NDArray[np.int64]) -> Floats | None:
        balances = isinstance(class_weight, str) and class_weight == "balanced" and net._loss.n_classes
        if balances:
            return balanced(counts)
        return check_class_weight(names.class_weight(class_weight), np.zeros(0, np.int64), net._loss.n_classes)

    checked = CheckedBlocks(net, blocks, names, class_weight=of_classes)
    some = checked.first_rows()
    return {
        "X": some.X, "y": some.y, "row_weights": some.weights, "checked": checked,
        "validation": _check_validation(net, validation_data, names, each_time),
    }  # fmt: skip


def beginning(
    net: Model, optimizer: Any, learning_rate: Any, schedule: Schedule, resume: bool
) -> tuple[TrainingState, History]:
    """Return where training starts: afresh, or where the last fit stopped."""
    if not resume:
        chosen = get_optimizer(optimizer, learning_rate)
        return TrainingState.new(chosen, net._engine, type(schedule).__name__), History()
    if net._training_state is None:
        raise ValueError(
            "resume=True needs an earlier fit, but this network has not been trained, or was saved without its "
            "training state; net.save(path, training=True) and callbacks.Checkpoint keep it"
        )
    state = net._training_state.resumed(optimizer, learning_rate, schedule)
    return state, replace(copy.deepcopy(net.history), interrupted=False)


def _of(rows: npt.NDArray[np.int64] | None, array: Any) -> Any:
    """Return some rows of an array, if there is one."""
    return array if rows is None or array is None else array[rows]


def _check_rows(rows: object, n_rows: int) -> npt.NDArray[np.int64] | None:
    """Return the indices (k,) of the rows to train on, or None for all."""
    if rows is None:
        return None
    given = as_numbers(rows, "rows", "give indices of rows, or a mask")
    if given.ndim != 1 or len(given) == 0:
        raise ValueError(f"rows must be a list of indices, or a mask, but its shape is {given.shape}")
    if given.dtype == np.bool_:
        if len(given) != n_rows:
            raise ValueError(f"rows is a mask of {len(given)} rows, but X has {n_rows}")
        if not given.any():
            raise ValueError("rows is a mask that selects no row of X")
        return np.flatnonzero(given)
    if given.dtype.kind not in "iu":
        raise TypeError(f"rows must be integers or bools, but its dtype is {given.dtype}")
    bad = np.flatnonzero((given < -n_rows) | (given >= n_rows))
    if len(bad):
        raise ValueError(f"rows[{bad[0]}] is {given[bad[0]]}, but X has {n_rows} rows")
    indices = given.astype(np.int64)
    return np.where(indices < 0, indices + n_rows, indices)


def _check_validation(net: Model, data: Any, names: Names, once: Sharing) -> Evaluation | None:
    if data is None:
        return None
    if isinstance(data, Blocks):
        return (CheckedBlocks(net, data, names, "validation ", weights_dtype=np.float64),)
    if not isinstance(data, (tuple, list)) or len(data) not in (2, 3):
        raise TypeError("validation_data must be a pair (X, y), or (X, y, sample_weight), or Blocks")
    return check_evaluation(net, *data, what="validation ", names=names, once=once)


def learned(net: Model, X: Any, y: Any, once: Sharing = each_time) -> Names:
    """Return the names that a network knows, and those that it learns from X and y."""
    own = net._names
    if isinstance(X, Blocks):
        return learned_in_blocks(own, X, net._loss)
    known = None if own.classes is None else tuple(own.classes.tolist())
    key = (id(X), own.features, known, net.output, net.layers[-1])
    return once(lambda: own.learned(X, y, net._loss), y, "names", *key)


def check_data(
    net: Model,
    X: Any,
    y: Any,
    what: str = "",
    *,
    finite: bool = True,
    names: Names | None = None,
    once: Sharing = each_time,
) -> tuple[Any, Targets]:
    """Return rows and targets; `what` comes before their names in messages."""
    refuse_blocks(X, what)
    if y is None:
        raise TypeError(f"{what}y is missing: one target for each row of X")
    names = names or learned(net, X, y, once)
    names.check_features(X, f"{what}X")
    X_ = once(
        lambda: check_X(X, net.layers[0], net.dtype, net.input_scale, f"{what}X", finite=finite),
        X, "X", net.layers[0], net.dtype, net.input_scale, finite,
    )  # fmt: skip
    if net._engine.shares_memory(X_ if isinstance(X_, np.ndarray) else X_.data):
        X_ = X_.copy()  # or training would write to its own input
    y_ = once(
        lambda: net._loss.check_y(names.encoded(y, f"{what}y"), X_.shape[0], net.dtype, f"{what}y"),
        y, "y", id(names), net.output, net.layers[-1], net.dtype, X_.shape[0],
    )  # fmt: skip
    return X_, y_


def weights_of(evaluation: Evaluation | None) -> Floats | None:
    """Return the weights of the rows to be measured."""
    match evaluation:
        case (_, _, weights):
            return weights
        case (checked,):
            return checked.all_weights()
    return None


def check_evaluation(
    net: Model,
    X: Any,
    y: Any,
    sample_weight: object = None,
    *,
    what: str = "",
    names: Names | None = None,
    once: Sharing = each_time,
) -> Evaluation:
    """Return rows, targets and weights that are to be measured."""
    if isinstance(X, Blocks):
        check_alone(y=y, sample_weight=sample_weight)
        return (CheckedBlocks(net, X, names or learned(net, X, y), what, np.float64),)
    return check_arrays(net, X, y, sample_weight, what=what, names=names, once=once)


def check_arrays(
    net: Model,
    X: Any,
    y: Any,
    sample_weight: object = None,
    *,
    what: str = "",
    names: Names | None = None,
    once: Sharing = each_time,
) -> tuple[Any, Targets, Floats | None]:
    """Return the same for rows that do not come in blocks."""
    finite = not net._engine.checks_finite or bool(what)
    X_, y_ = check_data(net, X, y, what, finite=finite, names=names, once=once)
    weights = check_sample_weight(sample_weight, len(y_))
    return X_, y_, row_weights(weights, None, y_, net._loss, np.float64)


def train_alone(net: Model, trainer: Trainer, names: Names | None = None) -> None:
    """Train a network that nobody else trains; it has the new history, training state and names from the start."""

    def train() -> None:
        trainer.prepare()
        trainer.refused = partial(net._adopt, net.history, net._training_state, net._names)
        net._adopt(trainer.history, trainer.state, names or net._names)
        trainer.run()

    net._alone(train)
