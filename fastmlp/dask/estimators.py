"""`MLPClassifier` and `MLPRegressor` for Dask collections, with the interface of scikit-learn.

Fitted attributes are those of `fastmlp.MLPClassifier` and `fastmlp.MLPRegressor`, in this process.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Literal, Self

import numpy as np
from dask.base import is_dask_collection
from dask.delayed import delayed
from distributed import Client
from sklearn.base import is_classifier
from sklearn.metrics import accuracy_score, r2_score

from fastmlp import estimators
from fastmlp.activations import Floats
from fastmlp.dask.averaging import Spread
from fastmlp.dask.clients import current_client
from fastmlp.dask.partitions import gathered, is_divided
from fastmlp.dask.spread import SpreadRows
from fastmlp.engine.base import NO_CLIPPING, EpochTotals, StepPlan
from fastmlp.estimators.base import BaseMLP
from fastmlp.estimators.solvers import StochasticTrainer
from fastmlp.interrupts import finish
from fastmlp.names import Names
from fastmlp.network import Network
from fastmlp.training import Trainer

__all__ = ["MLPClassifier", "MLPRegressor"]


@dataclass(kw_only=True)
class _Trainer(Spread, StochasticTrainer):
    """Trains as scikit-learn does, on rows that are spread over workers."""

    def _step_plan(self, order: Any, rates: Floats) -> StepPlan:
        """Divide the penalty by the rows of each batch; with sample weights, by what these weigh in the mean."""
        plan = Trainer._step_plan(self, order, rates)
        if self.estimator.alpha:
            totals = self._batch_rows * (self._total_weight / self.n_rows)
            self._l2 = self.estimator.alpha / self.scale.gradient / totals  # the same in each epoch
            plan = replace(plan, l2=np.tile(self._l2, len(rates) // len(totals)))
        return plan

    def _mean_losses(self, totals: EpochTotals, n_epochs: int) -> list[np.float64]:
        scaled = replace(totals, losses=totals.losses * (self.n_rows / self._total_weight))
        return super()._mean_losses(scaled, n_epochs)


class _OnCluster(BaseMLP):
    """What both estimators do with Dask collections."""

    _local: ClassVar[type[Any]]

    @property
    def client(self) -> Client:
        """The client of the cluster; by default the current one. It may be assigned, and is not copied."""
        client = vars(self).get("_client")
        return current_client() if client is None else client

    @client.setter
    def client(self, client: Client | None) -> None:
        self._client = client

    def __getstate__(self) -> dict[str, Any]:
        """Return the attributes but the client."""
        state = super().__getstate__()
        state.pop("_client", None)
        return state

    def to_local(self) -> Any:
        """Return a copy as an estimator of `fastmlp`, which needs no cluster.

        Returns
        -------
        fastmlp.MLPClassifier or fastmlp.MLPRegressor
            An estimator with the same parameters and fitted attributes.
        """
        twin: Any = object.__new__(self._local)
        twin.__setstate__(copy.deepcopy(self.__getstate__()))
        return twin

    # --- training -----------------------------------------------------------------------------------------------------

    def fit(  # type: ignore[override]  # y is needed: Dask's collections hold no targets
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
        average_every: Literal["epoch", "step"] | int = "epoch",
        n_shards: int | None = None,
    ) -> Self:
        """Fit the model to X and y, whose rows stay on the workers.

        Parameters
        ----------
        X : Dask array or dataframe of shape (n_samples, n_features), or as for `fastmlp.dask.fit`
            The input data.
        y : Dask array, series or dataframe of shape (n_samples,) or (n_samples, n_outputs)
            The target values: class labels, or real numbers.
        sample_weight : Dask array or series of shape (n_samples,), default=None
            Sample weights.
        X_val, y_val, sample_weight_val : like X, y and sample_weight, default=None
            Validation data, scored by the client after each epoch. `early_stopping` needs it.
        average_every : 'epoch', int or 'step', default='epoch'
            See `fastmlp.dask.fit`.
        n_shards : int, default=None
            See `fastmlp.dask.fit`.

        Returns
        -------
        self : object
            The fitted model.
        """
        if not self._stochastic:
            raise ValueError(f"solver={self.solver!r} needs all rows in one process; use 'sgd', 'adam' or an optimizer")
        if self.n_networks != 1:
            raise ValueError("n_networks must be 1 here; fastmlp.dask.fit_many trains several networks on a cluster")
        if self.early_stopping and X_val is None:
            raise ValueError("early_stopping needs validation data here; give X_val and y_val")
        client = self.client
        spread = SpreadRows(client, X, y, sample_weight, average_every, n_shards)
        validation = {"X_val": X_val, "y_val": y_val, "sample_weight_val": sample_weight_val}

        def fit() -> None:
            self._spread = spread
            some = spread.look(is_classifier(self))
            super(_OnCluster, self).fit(*_few_rows(*some), **{k: gathered(client, v) for k, v in validation.items()})

        def leave() -> None:
            self.__dict__.pop("_spread", None)
            spread.close()

        finish(fit, leave)
        return self

    def _trainer(self, net: Network, *args: Any) -> StochasticTrainer:
        """Return a trainer that asks the workers, in place of one for a few rows."""
        trainer = super()._trainer(net, *args)
        spread: SpreadRows | None = vars(self).get("_spread")
        if spread is None:  # partial_fit, on rows of this process
            return trainer
        columns = vars(self).get("feature_names_in_")
        names = Names(None if columns is None else tuple(columns), self._classes_of_rows())
        spread.prepare(net, names, trainer.state.optimizer, NO_CLIPPING, self._weigh_classes)
        net._random.generator = np.random.default_rng(self._random_state.randint(np.iinfo(np.int32).max))
        given = {field.name: getattr(trainer, field.name) for field in fields(trainer) if field.init}
        given["batch_size"] = 200 if isinstance(self.batch_size, str) else int(self.batch_size)
        return _Trainer(**given | spread.for_trainer(net, self.shuffle))

    def _batch_size(self, n_rows: int) -> int:
        spread: SpreadRows | None = vars(self).get("_spread")
        return super()._batch_size(n_rows if spread is None else spread.n_rows)

    # --- predictions --------------------------------------------------------------------------------------------------

    def _of_blocks(self, method: str, X: Any) -> Any:
        """Return what a method of the local estimator returns for the blocks of a Dask collection, lazily."""
        local = self.to_local()
        if hasattr(X, "columns"):
            meta = _call(_one_row(X), method, local)[:0]
            return X.map_partitions(_call, method=method, model=delayed(local), meta=meta)
        if len(X.chunks[1]) > 1:
            X = X.rechunk({1: -1})
        one = _call(_one_row(X), method, local)
        chunks = (X.chunks[0], *((n,) for n in one.shape[1:]))
        return X.map_blocks(
            _call,
            method=method,
            model=delayed(local),
            drop_axis=1 if one.ndim == 1 else None,
            chunks=chunks,
            meta=one[:0],
        )

    def predict(self, X: Any) -> Any:
        """Predict the target of each row, as the local estimator does.

        Parameters
        ----------
        X : Dask array or dataframe of shape (n_samples, n_features), or array_like
            The input data.

        Returns
        -------
        lazy Dask array, series or dataframe, or ndarray
            Predictions of shape (n_samples,) or (n_samples, n_outputs).
        """
        return self._of_blocks("predict", X) if is_dask_collection(X) else super().predict(X)

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Return the accuracy, or R² for regression. Predictions are computed on the workers.

        Parameters
        ----------
        X, y, sample_weight : Dask collections or array_like
            Rows, targets and sample weights, as for `fit`.

        Returns
        -------
        float
            Accuracy or R².
        """
        y_pred = self.predict(X)
        y_pred, y_true, weights = (
            gathered(self.client, data) if is_divided(data, 1) else data for data in (y_pred, y, sample_weight)
        )
        measure = accuracy_score if is_classifier(self) else r2_score
        return float(measure(y_true, y_pred, sample_weight=weights))


class MLPClassifier(_OnCluster, estimators.MLPClassifier):  # noqa: D101 - set below
    _local = estimators.MLPClassifier

    def predict_proba(self, X: Any) -> Any:
        """Return the probability of each class or label.

        Parameters
        ----------
        X : Dask array or dataframe of shape (n_samples, n_features), or array_like
            The input data.

        Returns
        -------
        lazy Dask array or dataframe, or ndarray, of shape (n_samples, n_classes)
            Probabilities in the order of `classes_`.
        """
        return self._of_blocks("predict_proba", X) if is_dask_collection(X) else super().predict_proba(X)

    def predict_log_proba(self, X: Any) -> Any:
        """Return the log-probability of each class or label.

        Parameters
        ----------
        X : Dask array or dataframe of shape (n_samples, n_features), or array_like
            The input data.

        Returns
        -------
        lazy Dask array or dataframe, or ndarray, of shape (n_samples, n_classes)
            Logarithms of `predict_proba`.
        """
        return self._of_blocks("predict_log_proba", X) if is_dask_collection(X) else super().predict_log_proba(X)


class MLPRegressor(_OnCluster, estimators.MLPRegressor):  # noqa: D101 - set below
    _local = estimators.MLPRegressor


for _estimator in (MLPClassifier, MLPRegressor):
    _parameters = (_estimator._local.__doc__ or "").partition("    Examples\n")[0].rstrip()
    _estimator.__doc__ = f"""`fastmlp.{_estimator.__name__}` for Dask collections.

    `fit` trains where the rows are, on the workers; see `fastmlp.dask.fit`. Predictions for Dask collections are lazy.
    Fitted attributes are arrays in this process, and `to_local` returns an estimator of `fastmlp`. The client is the
    current one, unless another is assigned to the attribute `client`.

    {_parameters.partition(chr(10) * 2)[2].lstrip()}
    """


def _few_rows(X: Any, y: Any) -> tuple[Any, Any]:
    """Return rows that have all columns and all classes, for the checks of scikit-learn.

    It suspects a regression if there are not several rows of each class.
    """
    y = np.tile(y, 3) if np.ndim(y) == 1 else y
    places = np.zeros(len(y), np.int64)
    return (X.iloc[places] if hasattr(X, "iloc") else X[places]), y


def _one_row(data: Any) -> Any:
    """Return a row of zeros, which looks like those of `data`."""
    if not hasattr(data, "columns"):
        return np.zeros((1, data.shape[1]), data.dtype)
    import pandas as pd

    return pd.DataFrame(0.0, index=[0], columns=data.columns)


def _call(block: Any, method: str, model: Any) -> Any:
    """Return what a method of an estimator returns for some rows, perhaps none; of a table, with its index."""
    returned = getattr(model, method)(block if len(block) else _one_row(block))[: len(block)]
    if not hasattr(block, "columns"):
        return returned
    import pandas as pd

    if returned.ndim == 1:
        return pd.Series(returned, index=block.index)
    return pd.DataFrame(returned, index=block.index)
