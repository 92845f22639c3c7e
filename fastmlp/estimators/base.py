"""`BaseMLP`, the common part of `MLPClassifier` and `MLPRegressor`. Training is in `fastmlp.estimators.solvers`."""

from __future__ import annotations

import copy
import inspect
import math
import sys
from abc import ABCMeta, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from numbers import Integral
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
from sklearn import config_context, get_config
from sklearn.base import _fit_context, is_classifier
from sklearn.metrics import accuracy_score, check_scoring, r2_score
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state, column_or_1d
from sklearn.utils.optimize import _check_optimize_result
from sklearn.utils.validation import _check_sample_weight, validate_data

from fastmlp.activations import ACTIVATIONS, Floats, per_layer
from fastmlp.callbacks import gather_callbacks
from fastmlp.estimators.fitted import FittedMLP
from fastmlp.estimators.parameters import CONSTRAINTS
from fastmlp.estimators.solvers import (
    NOT_FINITE,
    StochasticTrainer,
    changes_momentum,
    initial_parameters,
    minimize,
    rescale_momentum,
    scale_of,
)
from fastmlp.estimators.tasks import SupportsCallbacks, Tasks, with_callbacks
from fastmlp.fitting import train_alone
from fastmlp.history import History
from fastmlp.losses import Targets
from fastmlp.network import Network
from fastmlp.optimizers import SGD, Adam, Optimizer
from fastmlp.schedules import Constant, Schedule, get_schedule
from fastmlp.training import TrainingState
from fastmlp.validation.calls import warn
from fastmlp.validation.rows import check_sample_weight, row_weights
from fastmlp.validation.settings import check_activation, check_dropout, check_float
from fastmlp.validation.targets import check_numbers

__all__ = ["BaseMLP"]

_OF_EPOCHS = ("loss_curve_", "validation_scores_", "validation_loss_curve_", "best_loss_", "best_validation_score_")
_SMALL = ("uint8", "float16")  # exactly representable in float32


class BaseMLP(SupportsCallbacks, FittedMLP, metaclass=ABCMeta):
    """Base class of the estimators."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = CONSTRAINTS

    def _keep(self, parameters: dict[str, Any]) -> None:
        """Set the parameters of `__init__`, its ``locals()``, as attributes."""
        self.__dict__.update((name, value) for name, value in parameters.items() if name != "self")

    # --- implemented by each estimator --------------------------------------------------------------------------------

    @abstractmethod
    def _encode(self, y: Any) -> npt.NDArray[Any]:
        """Return y as targets of the network."""

    def _learn_classes(self, y: Any, incremental: bool) -> None:
        """Find the classes of y, or check that they are the same as before."""

    def _weigh(self, y: Any, weights: Floats | None, incremental: bool) -> Floats | None:
        """Return the weight of each row including that of its class, or None if all are 1."""
        return weights

    # --- training -----------------------------------------------------------------------------------------------------

    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
    ) -> Self:
        """Fit the model to data matrix X and target(s) y.

        Parameters
        ----------
        X : array_like or sparse matrix of shape (n_samples, n_features)
            The input data. float32 trains twice as fast as float64.
        y : array_like of shape (n_samples,) or (n_samples, n_outputs)
            The target values: class labels, or real numbers.
        sample_weight : array_like of shape (n_samples,), default=None
            Sample weights.
        X_val, y_val : like X and y, default=None
            Validation data, scored after each epoch. `early_stopping` uses it in place of a part of X. Not for 'lbfgs'.
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
        return self._fit(X, y, sample_weight, validation)

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
        validation: tuple[Any, Any, Any] | None = None,
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
            self._check_lbfgs(validation)
        tasks = Tasks.of(self, 1 if incremental else self.max_iter + (not self._stochastic))
        before, history = self.__dict__.copy(), History()
        try:
            train = self._prepare(X, y, sample_weight, validation, sizes, incremental, history, tasks)
            if tasks is not None:
                tasks.begin(X, y, sample_weight)
            train()
        except BaseException:
            if not history.steps:  # nothing has been learned: keep the earlier fit
                self.__dict__ = before
            raise
        if not all(np.isfinite(parameter).all() for parameter in self.coefs_ + self.intercepts_):
            raise ValueError(NOT_FINITE)
        if tasks is not None:
            tasks.end()
        return self

    def _prepare(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        validation: tuple[Any, Any, Any] | None,
        sizes: list[int],
        incremental: bool,
        history: History,
        tasks: Tasks | None,
    ) -> Callable[[], None]:
        """Check all arguments, draw first parameters, and return a function that trains; `history` counts steps."""
        first_pass = not hasattr(self, "coefs_") or not (self.warm_start or incremental)
        X, y = self._check_X_y(X, y, first_pass)
        self._learn_classes(y, incremental)
        if first_pass:
            self.out_activation_ = self._output()
        targets = self._encode(y)
        weights = self._weigh(y, _check_weights(sample_weight, X), incremental)
        if incremental and self.early_stopping:
            raise ValueError("partial_fit does not support early_stopping=True")
        self.n_outputs_ = len(self.classes_) if self._output() == "softmax" else targets.shape[1]
        self._random_state = check_random_state(self.random_state)
        if first_pass:
            self._initialize([X.shape[1], *sizes, self.n_outputs_], self._dtype_of(X))
        net = self._network(train=True)
        if net.output != self.out_activation_:
            raise ValueError(
                f"out_activation_ is {self.out_activation_!r}, which only predictions can use; assign "
                f"{self._output()!r} before training"
            )
        if not self._stochastic:
            return partial(self._fit_lbfgs, net, *self._check_data(net, X, targets), weights, tasks)
        self._begin_curves()
        trainer = self._trainer(net, X, y, targets, weights, validation, incremental, history)
        if tasks is not None:
            trainer.callbacks = [*trainer.callbacks, tasks]
            tasks.follow(trainer.parameters_to_keep)
        return partial(train_alone, net, trainer)

    def _check_lbfgs(self, validation: Any) -> None:
        """Refuse arguments that need epochs, which 'lbfgs' does not have, except those that scikit-learn ignores."""
        given = {
            "dropout": np.any(self.dropout),
            "callbacks": self.callbacks,
            "a schedule as learning_rate": not isinstance(self.learning_rate, str),
            "X_val": validation is not None,
        }
        for what, is_given in given.items():
            if is_given:
                raise ValueError(f"{what} is for solver='sgd', 'adam' or an optimizer, not 'lbfgs'")

    def _initialize(self, layers: list[int], dtype: str) -> None:
        """Draw the first parameters, and forget earlier fits."""
        for name in ("_link", "_loaded", "_training", "_optimizer_state", *_OF_EPOCHS):
            self.__dict__.pop(name, None)
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
            self.loss_curve_: list[float] = []
            self.validation_scores_: list[float] | None = None
            self.validation_loss_curve_: list[float] | None = None
        if not hasattr(self, "best_loss_") or (self.best_loss_ is None) != self.early_stopping:
            self.best_loss_: float | None = None if self.early_stopping else np.inf
            self.best_validation_score_ = -np.inf if self.early_stopping else None
            self._no_improvement_count = 0

    def _fit_lbfgs(self, net: Network, X: Any, y: Targets, weights: Floats | None, tasks: Tasks | None) -> None:
        l2 = float(self.alpha / (len(y) if weights is None else weights.sum()))
        scale = scale_of(net.output, net.layers[-1])

        def report(iteration: int, loss: float) -> bool:
            if self.verbose:
                _print_iteration(iteration, loss)
            stop = tasks is not None and tasks.end_subtask()
            if tasks is not None and not stop:
                tasks.begin_subtask("lbfgs-iter")
            return stop

        if tasks is not None:
            tasks.follow(net._engine.parameters)
            tasks.begin_subtask("lbfgs-iter")
        result = net._alone(
            lambda: minimize(
                net._engine,
                X,
                y,
                row_weights(weights, None, y, net._loss, net.dtype),
                scale=scale.gradient,
                l2=l2,
                options={"maxfun": self.max_fun, "maxiter": self.max_iter, "gtol": self.tol},
                report=report if self.verbose or tasks is not None else None,
            )
        )
        if tasks is not None:
            tasks.drop_subtask()
        self.n_iter_ = _check_optimize_result("lbfgs", result, self.max_iter)
        penalty = l2 / 2 * sum(float(np.square(coef, dtype=np.float64).sum()) for coef in self.coefs_)
        self.loss_ = np.float64((result.fun - penalty) * scale.loss / scale.gradient + penalty)

    def _trainer(
        self,
        net: Network,
        X: Any,
        y: Any,
        targets: Any,
        weights: Floats | None,
        validation: tuple[Any, Any, Any] | None,
        incremental: bool,
        history: History,
    ) -> StochasticTrainer:
        has_bar = self.verbose == 1 and sys.stderr is not None and sys.stderr.isatty()
        callbacks, schedule = gather_callbacks(self.callbacks or (), has_bar), self._schedule()
        scale = scale_of(net.output, net.layers[-1])
        optimizer = self._optimizer().rescaled(scale.gradient)
        if validation is not None:
            X_val, y_val = self._check_X_y(*validation[:2], reset=False)
            weights_val = _check_weights(validation[2], X_val)
        elif self.early_stopping:
            self._check_data(net, X, targets)  # an error names rows as the user knows them
            X, targets, weights, X_val, y_val, weights_val = self._split(X, y, targets, weights)
        else:
            X_val = y_val = weights_val = None
        X, y_ = self._check_data(net, X, targets)
        validation_data = metrics = monitor = None
        if X_val is not None:
            validation_data = self._check_data(net, X_val, self._encode(y_val), "validation ")
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
        return trainer

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

    # --- data ---------------------------------------------------------------------------------------------------------

    def _check_X_y(self, X: Any, y: Any, reset: bool) -> tuple[Any, Any]:
        X, y = validate_data(
            self,
            X,
            y,
            accept_sparse=["csr", "csc"],
            multi_output=True,
            y_numeric=not is_classifier(self),
            dtype=self._dtypes(X),
            reset=reset,
        )
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        return X, y

    def _dtypes(self, X: Any) -> list[Any]:
        """Return the accepted dtypes of X; others are converted to the first."""
        if _is_small(X):
            return [np.float32 if self.dtype is None else np.dtype(self.dtype), np.uint8]
        return [np.float64, np.float32] if self.dtype is None else [np.dtype(self.dtype)]

    def _dtype_of(self, X: Any) -> str:
        return np.dtype(X.dtype if self.dtype is None and X.dtype != np.uint8 else self.dtype or np.float32).name

    def _check_data(self, net: Network, X: Any, targets: Any, what: str = "") -> tuple[Any, Targets]:
        """Return rows and targets for the network; scikit-learn has checked that all numbers are finite."""
        if net.output == self._output():
            X, y = net._check_data(X, targets, what, finite=False)
        else:  # of an `out_activation_` that was assigned: any numbers
            X, _ = net._check_data(X, np.zeros((len(targets), net.layers[-1])), what, finite=False)
            y = check_numbers(targets, len(targets), net.layers[-1], net.dtype, f"{what}y")
        if y.dtype == net.dtype:
            largest = np.abs(y).max()
            if largest > math.sqrt(np.finfo(net.dtype).max) / 2:
                raise ValueError(
                    f"{what}y has {largest:g}, whose square is too large for {net.dtype}; scale y first, for example "
                    "with sklearn.compose.TransformedTargetRegressor"
                )
        return X, y

    def _split(
        self, X: Any, y: Any, targets: Any, weights: Floats | None
    ) -> tuple[Any, Any, Floats | None, Any, Any, Floats | None]:
        """Return X, targets and weights for training, then X, y and weights for validation."""
        two_classes = is_classifier(self) and self.n_outputs_ == 1
        train, val = train_test_split(
            np.arange(X.shape[0]),
            random_state=self._random_state,
            test_size=self.validation_fraction,
            stratify=targets.astype(bool) if two_classes else None,
        )
        if len(val) < 2:
            raise ValueError(
                "The validation set is too small. Increase 'validation_fraction' or the size of your dataset."
            )
        weights_train, weights_val = (None, None) if weights is None else (weights[train], weights[val])
        return X[train], targets[train], weights_train, X[val], y[val], weights_val

    def _monitor(self, X: Any, y: Any, weights: Floats | None) -> tuple[str, dict[str, Callable[[Any, Any], float]]]:
        """Return the name of the measurement that scores the validation data, and the metrics to measure for it."""
        if isinstance(self.scoring, str) and self.scoring == "loss":
            return "val_loss", {}
        own = self.out_activation_ == self._output()
        always_right = is_classifier(self) and len(self.classes_) == 1  # the network may still predict the other class
        if self.scoring is None and own and not always_right:
            if is_classifier(self) and weights is None:
                return "val_accuracy", {}
            if is_classifier(self):
                return "val_score", {"score": _where_finite(partial(accuracy_score, sample_weight=weights))}
            return "val_score", {"score": _where_finite(lambda _, y_pred: _r2(y, y_pred, weights))}
        scorer = check_scoring(self, self.scoring)
        nameless = object.__new__(type(self))  # it has no feature names, as X has none here
        weighs = weights is not None and "sample_weight" in inspect.signature(scorer).parameters
        settings = {"sample_weight": weights} if weighs else {}

        def score(*_: Any) -> float:
            nameless.__dict__ = {name: value for name, value in vars(self).items() if name != "feature_names_in_"}
            value = float(scorer(nameless, X, y, **settings))
            if self.early_stopping and np.isnan(value):
                raise ValueError("scoring gives nan for the validation data; early_stopping needs numbers to compare")
            return value

        return "val_score", {"score": score}

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


def _is_small(X: Any) -> bool:
    """Return whether all of X is of a type that float32 represents exactly."""
    dtypes = X.dtypes if hasattr(X, "dtypes") else [getattr(X, "dtype", None)]
    return all(str(dtype).lower() in _SMALL for dtype in dtypes)


def _check_weights(sample_weight: Any, X: Any) -> Floats | None:
    """Return the weight of each row, or None if all are 1."""
    if sample_weight is None:
        return None
    weights = check_sample_weight(_check_sample_weight(sample_weight, X, dtype=np.float64), X.shape[0])
    if weights is not None and not 0 < weights.sum() < np.inf:
        raise ValueError(f"sample_weight adds up to {weights.sum()}; some weights must be more than zero")
    return weights


def _where_finite(measure: Callable[[Any, Any], float]) -> Callable[[Any, Any], float]:
    """Return a metric that is nan if a prediction is not finite."""

    def measured(y_true: Any, y_pred: Any) -> float:
        return float(measure(y_true, y_pred)) if np.isfinite(y_pred).all() else math.nan

    return measured


def _r2(y: Any, y_pred: Floats, weights: Floats | None) -> float:
    """Return R² in float64: beside a large y, float32 hides small steps."""
    return float(r2_score(np.asarray(y, np.float64), y_pred.astype(np.float64), sample_weight=weights))


def _print_iteration(iteration: int, loss: float) -> None:
    print(f"Iteration {iteration}, loss = {loss:.8f}")
