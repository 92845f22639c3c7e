"""Estimators that train on `fastmlp.data.Blocks`, and predict their rows."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import is_classifier
from sklearn.utils.validation import check_is_fitted

from fastmlp.data.blocks import Blocks, check_alone
from fastmlp.data.checked import CheckedBlocks, learned
from fastmlp.data.predictions import collected, each_block
from fastmlp.data.sources.reader import NamedColumns
from fastmlp.data.training import InBlocks
from fastmlp.engine.base import EpochTotals, StepPlan
from fastmlp.estimators.solvers import StochasticTrainer
from fastmlp.names import Names
from fastmlp.network import Network
from fastmlp.training import Trainer

__all__ = ["few_rows", "for_blocks_too", "in_blocks", "targets_of"]

Prediction = Callable[[Any, Any], npt.NDArray[Any]]


@dataclass(kw_only=True)
class _Trainer(InBlocks, StochasticTrainer):
    """Trains as scikit-learn does, on blocks."""

    def _step_plan(self, order: npt.NDArray[np.int64], rates: npt.NDArray[np.float64]) -> StepPlan:
        """Divide the penalty by the rows of each batch; with sample weights, by what these weigh in the mean."""
        plan = Trainer._step_plan(self, order, rates)
        if self.estimator.alpha:
            per_row = self.estimator.alpha / self.scale.gradient * self.n_rows / self._total_weight
            self._l2 = per_row / self._batch_rows
            plan = replace(plan, l2=per_row / self._rows_of_batches(order.shape[1]))
        return plan

    def _mean_losses(self, totals: EpochTotals, n_epochs: int) -> list[np.float64]:
        scaled = replace(totals, losses=totals.losses * (self.n_rows / self._total_weight))
        return super()._mean_losses(scaled, n_epochs)


def few_rows(estimator: Any, blocks: Blocks) -> tuple[Any, Any]:
    """Return rows that have all columns and all classes, for the checks of scikit-learn."""
    source = blocks._source
    if not source.has_y:
        raise ValueError("X is Blocks without y; give Blocks(X, y)")
    first = next(source.read([0]))
    y = np.asarray(first.y)
    if is_classifier(estimator) and y.ndim == 1:
        y = np.unique(np.concatenate([np.unique(np.asarray(block.y)) for block in source.targets()]))
    y = np.tile(y, 3) if y.ndim == 1 else y  # it suspects a regression if there are not several rows of each class
    places = np.zeros(len(y), np.int64)
    X = _as_table(first.X)
    return (X.iloc[places] if hasattr(X, "iloc") else X[places]), y


def in_blocks(estimator: Any, trainer: StochasticTrainer, net: Network, blocks: Blocks) -> StochasticTrainer:
    """Return a trainer on blocks in place of one for a few rows."""
    columns = vars(estimator).get("feature_names_in_")
    names = Names(None if columns is None else tuple(columns), estimator._classes_of_rows())
    checked = CheckedBlocks(net, blocks, learned(names, blocks, net._loss), class_weight=estimator._weigh_classes)
    net._random.generator = np.random.default_rng(estimator._random_state.randint(np.iinfo(np.int32).max))
    given = {field.name: getattr(trainer, field.name) for field in fields(trainer) if field.init}
    given["batch_size"] = estimator._batch_size(blocks.n_rows)
    some = checked.first_rows()
    return _Trainer(**given | {"X": some.X, "y": some.y, "row_weights": some.weights, "checked": checked})


def for_blocks_too(predict: Prediction) -> Prediction:
    """Make a method that predicts rows predict those of Blocks, too, block by block into one array."""

    @functools.wraps(predict)
    def either(self: Any, X: Any) -> npt.NDArray[Any]:
        if not isinstance(X, Blocks):
            return predict(self, X)
        check_is_fitted(self)
        return collected(each_block(X, lambda rows: predict(self, _as_table(rows)), None), X.n_rows, None)

    return either


def targets_of(X: Any, y: Any, sample_weight: Any) -> tuple[Any, Any]:
    """Return y and the weights of the rows to be scored; those of Blocks are their own."""
    if not isinstance(X, Blocks):
        if y is None:
            raise TypeError("y is missing: one target for each row of X")
        return y, sample_weight
    check_alone(y=y, sample_weight=sample_weight)
    if not X._source.has_y:
        raise ValueError("X is Blocks without y; give Blocks(X, y)")
    blocks = [(block.y, block.sample_weight) for block in X._source.targets()]
    y = np.concatenate([np.asarray(y) for y, _ in blocks])
    return y, np.concatenate([w for _, w in blocks]) if X._source.has_weights else None


def _as_table(X: Any) -> Any:
    """Return rows whose columns have names as a table of pandas, for the checks of scikit-learn."""
    if not isinstance(X, NamedColumns):
        return X
    try:
        import pandas as pd
    except ImportError:  # then there are no names at any time
        return X.array
    return pd.DataFrame(X.array, columns=list(X.columns), copy=False)
