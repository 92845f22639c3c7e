"""`BaseMLP`, the common part of `MLPClassifier` and `MLPRegressor`. `solvers.py` and `lbfgs.py` train."""

from __future__ import annotations

import copy
from abc import ABCMeta
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from numbers import Integral
from typing import Any, ClassVar, Self, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
from sklearn import config_context, get_config
from sklearn.base import _fit_context
from sklearn.utils import check_random_state

from fastmlp.activations import ACTIVATIONS, Floats, per_layer
from fastmlp.bars import shows_bars
from fastmlp.callbacks import gather_callbacks
from fastmlp.data.blocks import Blocks, check_alone
from fastmlp.estimators.blocks import few_rows, in_blocks
from fastmlp.estimators.data import CheckedMLP, check_weights
from fastmlp.estimators.lbfgs import check_lbfgs, fit_lbfgs
from fastmlp.estimators.parameters import CONSTRAINTS
from fastmlp.estimators.several import fit_several
from fastmlp.estimators.solvers import (
    NOT_FINITE,
    EstimatorFit,
    StochasticTrainer,
    changes_momentum,
    initial_parameters,
    rescale_momentum,
    scale_of,
)
from fastmlp.estimators.tasks import SupportsCallbacks, Tasks, with_callbacks
from fastmlp.history import History
from fastmlp.interrupts import finish
from fastmlp.network import Network
from fastmlp.once import Sharing, each_time
from fastmlp.optimizers import SGD, Adam, Optimizer
from fastmlp.schedules import Constant, Schedule, get_schedule
from fastmlp.training_state import TrainingState
from fastmlp.validation.calls import warn
from fastmlp.validation.rows import row_weights
from fastmlp.validation.settings import check_activation, check_dropout, check_float

__all__ = ["BaseMLP"]

Validation: TypeAlias = tuple[Any, Any, Any]
"""X, y and weights of rows to score, or None for the weights."""


Fit = TypeVar("Fit", bound=Callable[..., Any])


def _checked(fit: Fit) -> Fit:
    """Check the parameters before a fit, as scikit-learn does; type checkers still know what it returns."""
    checked: Fit = _fit_context(prefer_skip_nested_validation=True)(fit)
    return checked


class BaseMLP(SupportsCallbacks, CheckedMLP, metaclass=ABCMeta):
    """Base class of the estimators."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = CONSTRAINTS

    def _keep(self, parameters: dict[str, Any]) -> None:
        """Set the parameters of `__init__`, its ``locals()``, as attributes."""
        self.__dict__.update((name, value) for name, value in parameters.items() if name != "self")

    # --- implemented by each estimator --------------------------------------------------------------------------------

    def _learn_classes(self, y: Any, incremental: bool) -> None:
        """Find the classes of y, or check that they are the same as before."""

    def _weigh(self, y: Any, weights: Floats | None, incremental: bool) -> Floats | None:
        """Return the weight of each row including that of its class, or None if all are 1."""
        return weights

    # --- training -----------------------------------------------------------------------------------------------------

    @_checked
    def fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
    ) -> Self:
        """Fit the model to data matrix X and target(s) y.

        Parameters
        ----------
        X : array_like or sparse matrix of shape (n_samples, n_features), or fastmlp.data.Blocks
            The training data. float32 trains about twice as fast as float64.
        y : array_like of shape (n_samples,) or (n_samples, n_outputs), or None if X is Blocks, default=None
            The target values: class labels, or real numbers.
        sample_weight : array_like of shape (n_samples,), default=None
            Sample weights.
        X_val, y_val : like X and y, default=None
            Validation data, scored after each epoch. With `early_stopping`, it replaces the held-out part of X. Not for
            'lbfgs'.
        sample_weight_val : array_like of shape (n_val_samples,), default=None
            Sample weights of the validation data.

        Returns
        -------
        self : object
            The fitted model.
        """
        if (X_val is None) != (y_val is None):
            raise ValueError("X_val and y_val belong together; give both or none")
        if X_val is None and sample_weight_val is not None:
            raise ValueError("sample_weight_val belongs to X_val and y_val; give all of them")
        validation = None if X_val is None else (X_val, y_val, sample_weight_val)
        if isinstance(X, Blocks):
            check_alone(y=y, sample_weight=sample_weight)
            return self._fit_blocks(X, validation)
        return self._fit(X, y, sample_weight, validation)

    def _fit_blocks(self, blocks: Blocks, validation: Validation | None) -> Self:
        if not self._stochastic:
            raise ValueError(f"solver={self.solver!r} needs all rows in memory; use 'sgd', 'adam' or an optimizer")
        if self.n_networks != 1:
            raise ValueError("n_networks must be 1 for Blocks")
        if self.early_stopping and validation is None:
            raise ValueError("early_stopping needs validation data for Blocks; give X_val and y_val")

        def fit() -> None:
            self._blocks = blocks
            self._fit(*few_rows(self, blocks), None, validation)

        finish(fit, lambda: self.__dict__.pop("_blocks", None))
        return self

    def _classes_of_rows(self) -> npt.NDArray[Any] | None:
        """Return the classes in the order of their numbers, if each row has one."""
        return None

    def _weigh_classes(self, counts: npt.NDArray[np.int64]) -> Floats | None:
        """Return the weight of each class, of which there are so many rows."""
        return None

    @with_callbacks
    def _partial_fit(self, X: Any, y: Any, sample_weight: Any) -> Self:
        """Train for one epoch. Unlike those of scikit-learn, later calls check parameters that have changed."""
        given = [vars(self).get(name) for name in self._parameter_constraints]
        before = vars(self).get("_checked_parameters", ())
        same = len(before) == len(given) and all(a is b for a, b in zip(before, given, strict=True))
        if not (same or get_config()["skip_parameter_validation"]):
            self._validate_params()
            self._checked_parameters = given
        with config_context(skip_parameter_validation=True):  # of a scaler or scorer, as in every fit of scikit-learn
            return self._fit(X, y, sample_weight, incremental=True)

    def _check_solver(self) -> bool:
        if not self._stochastic:
            raise AttributeError(
                f"partial_fit is only available for stochastic optimizers. {self.solver} is not stochastic."
            )
        return True

    @property
    def _stochastic(self) -> bool:
        return isinstance(self.solver, Optimizer) or self.solver in ("sgd", "adam")

    def _fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        validation: Validation | None = None,
        incremental: bool = False,
    ) -> Self:
        sizes = self.hidden_layer_sizes
        sizes = list(sizes) if hasattr(sizes, "__iter__") and getattr(sizes, "shape", None) != () else [sizes]
        if not all(isinstance(size, Integral) and not isinstance(size, bool) for size in sizes):
            raise TypeError(f"hidden_layer_sizes must hold integers, got {sizes}.")
        if any(size <= 0 for size in sizes):
            raise ValueError(f"hidden_layer_sizes must be > 0, got {sizes}.")
        check_activation(self.activation, len(sizes), tuple(ACTIVATIONS))
        check_dropout(self.dropout, len(sizes))
        if not self._stochastic:
            check_lbfgs(self, validation)
        continues = incremental or self.warm_start
        if continues and self._n_fitted not in (0, self.n_networks):
            raise ValueError(
                f"n_networks is {self.n_networks}, but the model has {self._n_fitted}, whose training would continue"
            )
        if self.n_networks > 1:
            fit_several(self, X, y, sample_weight, validation, sizes, incremental)
            return self
        tasks = self._tasks(incremental)
        before, history = self.__dict__.copy(), History()
        try:
            data = self._check_training_data(X, y, sample_weight, validation, incremental)
            fit = self._prepare(*data, sizes, incremental, history, tasks)
            if tasks is not None:
                tasks.begin(X, y, sample_weight)
            if isinstance(fit, EstimatorFit):
                fit.run()
                for message, category in fit.warnings():
                    warn(message, category)
            else:
                fit()
        except BaseException:
            if not history.steps:  # nothing has been learned: keep the earlier fit
                self.__dict__ = before
            raise
        self._check_learned()
        if tasks is not None:
            tasks.end()
        return self

    def _tasks(self, incremental: bool) -> Tasks | None:
        """Return the tasks of a fit of one network, for callbacks of scikit-learn."""
        return Tasks.of(self, 1 if incremental else self.max_iter + (not self._stochastic))

    def _check_learned(self) -> None:
        if not all(np.isfinite(parameter).all() for parameter in self.coefs_ + self.intercepts_):
            raise ValueError(NOT_FINITE)

    def _check_training_data(
        self, X: Any, y: Any, sample_weight: Any, validation: Validation | None, incremental: bool
    ) -> tuple[Any, Any, npt.NDArray[Any], Floats | None, Validation | None]:
        """Return X, y, targets, the weights of rows and validation data. Learn what does not depend on a network."""
        first_pass = not (self._n_fitted and (self.warm_start or incremental))
        X, y = self._check_X_y(X, y, first_pass)
        self._learn_classes(y, incremental)
        if first_pass:
            self.out_activation_ = self._output()
        targets = self._encode(y)
        weights = self._weigh(y, check_weights(sample_weight, X), incremental)
        if incremental and self.early_stopping:
            raise ValueError("partial_fit does not support early_stopping=True")
        self.n_outputs_ = len(self.classes_) if self._output() == "softmax" else targets.shape[1]
        if validation is not None:
            X_val, y_val = self._check_X_y(*validation[:2], reset=False)
            validation = X_val, y_val, check_weights(validation[2], X_val)
        return X, y, targets, weights, validation

    def _prepare(
        self,
        X: Any,
        y: Any,
        targets: npt.NDArray[Any],
        weights: Floats | None,
        validation: Validation | None,
        sizes: list[int],
        incremental: bool,
        history: History,
        tasks: Tasks | None,
        once: Sharing = each_time,
    ) -> EstimatorFit | Callable[[], None]:
        """Draw first parameters, and return what trains one network, or does so by 'lbfgs'; `history` counts steps."""
        self._random_state = check_random_state(self.random_state)
        if "coefs_" not in vars(self) or not (self.warm_start or incremental):
            self._initialize([X.shape[1], *sizes, self.n_outputs_], self._dtype_of(X))
        net = self._network(train=True)
        if net.output != self.out_activation_:
            raise ValueError(
                f"out_activation_ is {self.out_activation_!r}, which only predictions can use; assign "
                f"{self._output()!r} before training"
            )
        if not self._stochastic:
            return partial(fit_lbfgs, self, net, *self._check_data(net, X, targets, once=once), weights, tasks)
        self._begin_curves()
        trainer = self._trainer(net, X, y, targets, weights, validation, incremental, history, once)
        if tasks is not None:
            trainer.callbacks = [*trainer.callbacks, tasks]
            tasks.follow(trainer.parameters_to_keep)
        return EstimatorFit(net, trainer, net._names)

    def _initialize(self, layers: list[int], dtype: str) -> None:
        """Draw the first parameters, and forget earlier fits."""
        self._forget()
        self.n_iter_ = 0
        self.t_ = 0
        self.n_layers_ = self._n_fitted_layers = len(layers)
        hidden = per_layer(self.activation, len(layers) - 2)
        activations = hidden + (hidden[-1:] or (self.activation,))
        self.coefs_, self.intercepts_ = initial_parameters(layers, activations, self._random_state, dtype)
        self._seed = int(self._random_state.randint(np.iinfo(np.int32).max)) if np.any(self.dropout) else 0

    def _begin_curves(self) -> None:
        """Start the curves, or continue them. The best value is reset if `early_stopping` has changed."""
        if not hasattr(self, "loss_curve_"):
            self.loss_curve_ = []
            self.validation_scores_ = None
            self.validation_loss_curve_ = None
        if not hasattr(self, "best_loss_") or (self.best_loss_ is None) != self.early_stopping:
            self.best_loss_ = None if self.early_stopping else np.inf
            self.best_validation_score_ = -np.inf if self.early_stopping else None
            self._no_improvement_count = 0

    def _trainer(
        self,
        net: Network,
        X: Any,
        y: Any,
        targets: Any,
        weights: Floats | None,
        validation: Validation | None,
        incremental: bool,
        history: History,
        once: Sharing,
    ) -> StochasticTrainer:
        has_bar = self.verbose == 1 and shows_bars() and not incremental
        callbacks, schedule = gather_callbacks(self.callbacks or (), has_bar), self._schedule()
        scale = scale_of(net.output, net.layers[-1])
        optimizer = self._optimizer().rescaled(scale.gradient)
        if validation is not None:
            X_val, y_val, weights_val = validation
        elif self.early_stopping:
            self._check_data(net, X, targets)  # an error names rows as the user knows them
            X, targets, weights, X_val, y_val, weights_val = self._split(X, y, targets, weights)
        else:
            X_val = y_val = weights_val = None
        X, y_ = self._check_data(net, X, targets, once=once)
        validation_data = metrics = monitor = None
        if X_val is not None:
            validation_data = self._check_data(net, X_val, self._encode(y_val), "validation ", once)
            monitor, metrics = self._monitor(X_val, y_val, weights_val)
        state = self._training_state(net, optimizer, schedule, incremental)
        trainer = StochasticTrainer(
            engine=net._engine,
            net=net,
            callbacks=callbacks,
            schedule=schedule,
            state=state,
            random=net._random,
            X=X,
            y=y_,
            row_weights=row_weights(weights, None, y_, net._loss, net.dtype),
            epochs=max(self.max_iter, state.epochs + 1),
            batch_size=self._batch_size(len(y_)),
            shuffle=self.shuffle,
            validation=validation_data,
            metrics=metrics or {},
            history=history,
            estimator=self,
            random_state=self._random_state,
            scale=scale,
            monitor=monitor,
            incremental=incremental,
            prints=bool(self.verbose) and not has_bar,
            validation_weights=weights_val,
        )
        self.n_iter_ = 0
        if monitor is not None and self.validation_scores_ is None:
            self.validation_scores_, self.validation_loss_curve_ = [], []
        blocks: Blocks | None = vars(self).get("_blocks")
        return trainer if blocks is None else in_blocks(self, trainer, net, blocks)

    def _print(self, text: str) -> None:
        print(vars(self).get("_label", "") + text)

    def _batch_size(self, n_rows: int) -> int:
        if isinstance(self.batch_size, str):
            return 200
        if self.batch_size > n_rows:
            warn("Got `batch_size` less than 1 or larger than sample size. It is going to be clipped")
        return int(self.batch_size)

    def _optimizer(self) -> Optimizer:
        if isinstance(self.solver, str):
            check_float("learning_rate_init", self.learning_rate_init, zero=False)
            check_float("epsilon", self.epsilon, zero=False)
        if self.solver == "sgd":
            nesterov = self.nesterovs_momentum and self.momentum > 0
            return SGD(learning_rate=self.learning_rate_init, momentum=self.momentum, nesterov=nesterov)
        if self.solver == "adam":
            betas = (self.beta_1, self.beta_2)
            return Adam(learning_rate=self.learning_rate_init, betas=betas, eps=self.epsilon, eps_hat=True)
        optimizer: Optimizer = self.solver
        return optimizer

    def _schedule(self) -> Schedule:
        if isinstance(self.learning_rate, str):  # StochasticTrainer changes it between epochs
            return Constant()
        return copy.deepcopy(get_schedule(self.learning_rate))

    def _training_state(
        self, net: Network, optimizer: Optimizer, schedule: Schedule, incremental: bool
    ) -> TrainingState:
        """Return where to start: where the last fit stopped, if the optimizer can use its state."""
        kind, before = type(schedule).__name__, self._state_in(net)
        if before is None or not before.fits(optimizer):
            return TrainingState.new(optimizer, net._engine, kind)
        factor = before.learning_rate_factor if incremental else 1.0
        if self.solver == "sgd" and changes_momentum(before, optimizer, factor):
            before = before.copied_into(net._engine)  # the one before stays as it is if training is refused
            rescale_momentum(before, optimizer, factor)
        if not (incremental and before.schedule == kind):
            return replace(
                before, optimizer=optimizer, epochs=0, schedule=kind, schedule_state={}, learning_rate_factor=factor
            )
        return replace(before, optimizer=optimizer)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags
