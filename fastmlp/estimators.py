"""scikit-learn's multilayer perceptrons, many times as fast: `MLPClassifier` and `MLPRegressor`.

Parameters, attributes, methods, warnings and messages are those of scikit-learn 1.9; `docs/scikit-learn.md` says what
is otherwise on purpose. How they learn is in `fastmlp.solvers`.
"""

from __future__ import annotations

import copy
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, _fit_context, is_classifier
from sklearn.metrics import accuracy_score, check_scoring, r2_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils import check_consistent_length, check_random_state, column_or_1d
from sklearn.utils._param_validation import Interval, Options, StrOptions
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import _check_partial_fit_first_call, type_of_target, unique_labels
from sklearn.utils.optimize import _check_optimize_result
from sklearn.utils.validation import _check_sample_weight, check_array, check_is_fitted, validate_data

from fastmlp.activations import ACTIVATIONS, Floats
from fastmlp.callbacks import FitState, gather_callbacks
from fastmlp.history import check_monitor
from fastmlp.network import Network
from fastmlp.optimizers import SGD, Adam, Optimizer
from fastmlp.schedules import Constant, Schedule, get_schedule
from fastmlp.solvers import (
    NOT_FINITE,
    StochasticFit,
    change_rate,
    initial_parameters,
    minimize,
    of_scale,
    scale_of,
)
from fastmlp.targets import check_sample_weight
from fastmlp.training import Clipping, Progress

__all__ = ["MLPClassifier", "MLPRegressor"]

_SMALL = ("uint8", "float16")  # numbers that float32 holds as they are

_BASE_PARAMETERS = """hidden_layer_sizes : array_like of shape (n_layers - 2,), default=(100,)
        Units of each hidden layer.
    activation : str or list of str, default='relu'
        Of all hidden layers, or of each: 'identity', 'logistic', 'tanh', 'relu', and of this package 'leaky_relu',
        'elu', 'gelu', 'silu'.
    solver : {'lbfgs', 'sgd', 'adam'} or Optimizer, default='adam'
        'lbfgs' is a quasi-Newton method for all rows at once, often best for small data; 'sgd' is stochastic gradient
        descent with momentum; 'adam' that of Kingma and Ba (2015). Any object of `fastmlp.optimizers` will do; then its
        own settings count.
    alpha : float, default=0.0001
        Strength of the L2 penalty, ``alpha / 2 * sum(W**2)`` divided by the rows of the batch.
    batch_size : int or 'auto', default='auto'
        Rows of a step; 'auto' is ``min(200, n_samples)``. 'lbfgs' takes all rows.
    learning_rate : {'constant', 'invscaling', 'adaptive'}, Schedule or callable, default='constant'
        How the learning rate changes. With 'sgd' alone: 'invscaling' divides it by ``(t_ + 1) ** power_t`` after each
        epoch, 'adaptive' by 5 when epochs do not improve, until it is below 1e-6. Any object of `fastmlp.schedules`, or
        a function that gives the factor of each step, is for every solver but 'lbfgs'.
    learning_rate_init : float, default=0.001
        The learning rate of 'sgd' and 'adam'.
    power_t : float, default=0.5
        Exponent of 'invscaling'.
    max_iter : int, default=200
        Most epochs, or iterations of 'lbfgs'.
    shuffle : bool, default=True
        Whether the rows are shuffled for each epoch.
    random_state : int, RandomState instance or None, default=None
        Draws the first parameters, the rows set aside, and the order of the rows, all as scikit-learn does.
    tol : float, default=1e-4
        When loss or score have not improved by this for `n_iter_no_change` epochs, the fit ends. For 'lbfgs' the
        largest gradient at which it does.
    verbose : bool, default=False
        Whether epochs are reported on stdout. On a terminal ``verbose=1`` shows a bar, 2 lines there, too.
    warm_start : bool, default=False
        Whether `fit` goes on from the last solution, with the memory of the optimizer.
    momentum : float in [0, 1), default=0.9
        Of 'sgd'.
    nesterovs_momentum : bool, default=True
        Whether 'sgd' has Nesterov's momentum.
    early_stopping : bool, default=False
        Whether the fit ends by the score of validation data, with the parameters of the best epoch, and not by the
        training loss.
    validation_fraction : float, default=0.1
        Part of the rows that is set aside then, unless `fit` is given validation data. Of two classes it is stratified.
    beta_1, beta_2, epsilon : float, default=0.9, 0.999, 1e-8
        Of 'adam'.
    n_iter_no_change : int or inf, default=10
        See `tol`.
    max_fun : int, default=15000
        Most evaluations of the loss by 'lbfgs'.
    dropout : float in [0, 1) or list of float, default=0.0
        Part of the units of all hidden layers, or of each, that each step leaves out at random. Not for 'lbfgs'.
    scoring : str, callable or None, default=None
        What scores validation data: the name of a scorer of scikit-learn, a function (estimator, X, y), 'loss', or None
        for {score}.
    callbacks : list or None, default=None
        Objects with methods `on_epoch_end` and others, see `fastmlp.callbacks`. Not for 'lbfgs'.
    n_threads : int or None, default=None
        Threads; None takes the cores that the process may use, in a worker of joblib its share. The result is the same.
    dtype : {'float32', 'float64'} or None, default=None
        Of parameters and computation. None is that of X: float64 for float64 and integers, float32 for float32,
        float16 and uint8."""

_BASE_ATTRIBUTES = """loss_ : float
        The last loss.
    best_loss_ : float or None
        The least loss; None with `early_stopping`. Not of 'lbfgs', nor are the next five.
    loss_curve_ : list of float
        Loss of each epoch.
    validation_scores_, validation_loss_curve_ : list of float or None
        Score and loss of the validation data after each epoch; None without such data.
    best_validation_score_ : float or None
        The best score, with `early_stopping`.
    t_ : int
        Rows seen.
    coefs_, intercepts_ : list of arrays
        Weights (n_in, n_out) and biases (n_out,) of each layer. Writing into them, or putting others in their place,
        changes the model.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns of X, where it has some.
    n_iter_ : int
        Epochs or iterations of the last fit.
    n_layers_, n_outputs_ : int
    out_activation_ : str
        {out_activations}."""


def _documented(cls: Any) -> Any:
    """Fill in what the docstrings of both classes have in common."""
    classifies = issubclass(cls, ClassifierMixin)
    cls.__doc__ = cls.__doc__.replace(
        "{parameters}", _BASE_PARAMETERS.replace("{score}", "the accuracy" if classifies else "R²")
    ).replace(
        "{attributes}",
        _BASE_ATTRIBUTES.replace(
            "{out_activations}", "'softmax' or 'logistic'" if classifies else "'identity', or 'exp' of the Poisson loss"
        ),
    )
    return cls


class _MLP(BaseEstimator):  # type: ignore[misc]
    """What both have in common."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
        "activation": [StrOptions(set(ACTIVATIONS)), "array-like"],
        "solver": [StrOptions({"lbfgs", "sgd", "adam"}), Optimizer],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "learning_rate": [StrOptions({"constant", "invscaling", "adaptive"}), Schedule, callable],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
        "power_t": [Interval(Real, 0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "shuffle": ["boolean"],
        "random_state": ["random_state"],
        "tol": [Interval(Real, 0, None, closed="left")],
        "verbose": ["verbose"],
        "warm_start": ["boolean"],
        "momentum": [Interval(Real, 0, 1, closed="both")],
        "nesterovs_momentum": ["boolean"],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="left")],
        "beta_1": [Interval(Real, 0, 1, closed="left")],
        "beta_2": [Interval(Real, 0, 1, closed="left")],
        "epsilon": [Interval(Real, 0, None, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left"), Options(Real, {np.inf})],
        "max_fun": [Interval(Integral, 1, None, closed="left")],
        "dropout": [Interval(Real, 0, 1, closed="left"), "array-like"],
        "scoring": [str, callable, None],
        "callbacks": [list, tuple, None],
        "n_threads": [Interval(Integral, 1, None, closed="left"), None],
        "dtype": [StrOptions({"float32", "float64"}), type, np.dtype, None],
    }

    _network_class: type[Network] | None = None  # None is fastmlp.MLP, which takes a while to import

    # --- learning -----------------------------------------------------------------------------------------------------

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
            The input data. Pass float32: it is computed as such, twice as fast as float64.
        y : array_like of shape (n_samples,) or (n_samples, n_outputs)
            The target values: class labels, or real numbers.
        sample_weight : array_like of shape (n_samples,), default=None
            Sample weights.
        X_val, y_val : like X and y, default=None
            Validation data, scored after each epoch. With `early_stopping` nothing else is set aside.
        sample_weight_val : array_like of shape (n_val_samples,), default=None
            Sample weights of the validation data.

        Returns
        -------
        self : object
            The fitted model.
        """
        if (X_val is None) != (y_val is None):
            raise ValueError("X_val and y_val belong together; give both or none")
        validation = None if X_val is None else (X_val, y_val, sample_weight_val)
        return self._fit(X, y, sample_weight, validation)

    def _check_solver(self) -> bool:
        if not self._stochastic:
            raise AttributeError(
                f"partial_fit is only available for stochastic optimizers. {self.solver} is not stochastic."
            )
        return True

    @property
    def _stochastic(self) -> bool:
        return not (isinstance(self.solver, str) and self.solver == "lbfgs")

    def _fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        validation: tuple[Any, Any, Any] | None = None,
        incremental: bool = False,
    ) -> Self:
        sizes = self.hidden_layer_sizes if hasattr(self.hidden_layer_sizes, "__iter__") else [self.hidden_layer_sizes]
        sizes = list(sizes)
        if np.any(np.array(sizes) <= 0):
            raise ValueError(f"hidden_layer_sizes must be > 0, got {sizes}.")
        if incremental and self.early_stopping:
            raise ValueError("partial_fit does not support early_stopping=True")
        first_pass = not hasattr(self, "coefs_") or not (self.warm_start or incremental)
        X, y = self._check_X_y(X, y, first_pass)
        self._learn_classes(y, incremental)
        targets = self._encode(y)
        weights = self._weigh(X, y, sample_weight, incremental)
        self.n_outputs_ = len(self.classes_) if self._output() == "softmax" else targets.shape[1]
        self._random_state = check_random_state(self.random_state)
        if first_pass:
            self._initialize([X.shape[1], *sizes, self.n_outputs_], self._dtype_of(X))
        self._goes_on = incremental or self.warm_start
        if self._stochastic:
            self._fit_stochastic(X, y, targets, weights, validation, incremental)
        else:
            self._fit_lbfgs(X, targets, weights)
        if not all(np.isfinite(parameter).all() for parameter in self.coefs_ + self.intercepts_):
            raise ValueError(NOT_FINITE)
        return self

    def _initialize(self, layers: list[int], dtype: str) -> None:
        """Draw the first parameters, and forget what was learned before."""
        for name in ("_net", "_memory"):
            self.__dict__.pop(name, None)
        self.n_iter_ = 0
        self.t_ = 0
        self.n_layers_ = len(layers)
        self.out_activation_ = self._output()
        n_hidden = len(layers) - 2
        hidden = [self.activation] * n_hidden if isinstance(self.activation, str) else list(self.activation)
        activations = hidden + (hidden[-1:] or [self.activation])
        self.coefs_, self.intercepts_ = initial_parameters(layers, activations, self._random_state, dtype)
        self._seed = int(self._random_state.randint(np.iinfo(np.int32).max)) if np.any(self.dropout) else 0
        if self._stochastic:
            self.loss_curve_: list[float] = []
            self.validation_loss_curve_: list[float] | None = None
            self._no_improvement_count = 0
            self.best_loss_ = None if self.early_stopping else np.inf
            self.validation_scores_: list[float] | None = None
            self.best_validation_score_ = -np.inf if self.early_stopping else None

    def _fit_lbfgs(self, X: Any, targets: Any, weights: Floats | None) -> None:
        for name in ("dropout", "callbacks"):
            if np.any(getattr(self, name)):
                raise ValueError(f"{name} is for solver='sgd', 'adam' or an optimizer, not 'lbfgs'")
        net = self._network()
        X, y = net._check_data(X, targets, finite=False)
        l2 = float(self.alpha / (len(y) if weights is None else weights.sum()))
        scale = scale_of(self.out_activation_, self.n_outputs_)
        result = minimize(
            net,
            X,
            y,
            net._row_weights(y, weights, None),
            scale=scale.gradient,
            l2=l2,
            options={"maxfun": self.max_fun, "maxiter": self.max_iter, "gtol": self.tol},
            say=_print_iteration if self.verbose else None,
        )
        self.n_iter_ = _check_optimize_result("lbfgs", result, self.max_iter)
        penalty = l2 / 2 * sum(float(np.square(coef, dtype=np.float64).sum()) for coef in self.coefs_)
        self.loss_ = float((result.fun - penalty) * scale.loss / scale.gradient + penalty)

    def _fit_stochastic(
        self,
        X: Any,
        y: Any,
        targets: Any,
        weights: Floats | None,
        validation: tuple[Any, Any, Any] | None,
        incremental: bool,
    ) -> None:
        has_bar = self.verbose == 1 and sys.stderr is not None and sys.stderr.isatty()
        hooks, schedule = gather_callbacks(self.callbacks or (), has_bar), self._schedule()
        scale = scale_of(self.out_activation_, self.n_outputs_)
        optimizer = of_scale(self._descends_by(), scale.gradient)
        if validation is not None:
            X_val, y_val, weights_val = self._check_validation(*validation)
        elif self.early_stopping:
            X, targets, weights, X_val, y_val, weights_val = self._set_aside(X, y, targets, weights)
        else:
            X_val = y_val = weights_val = None
        net = self._network()
        X, y_ = net._check_data(X, targets, finite=False)  # scikit-learn has looked
        row_weights = net._row_weights(y_, weights, None)
        batch_size = self._batch_size(len(y_))
        checked = metrics = monitor = None
        if X_val is not None:
            checked = net._check_data(X_val, self._encode(y_val), "validation ", finite=False)
            monitor, metrics = self._monitor(X_val, y_val, weights_val)
        progress = self._progress(net, optimizer, schedule, incremental)
        state = FitState(
            max(self.max_iter, progress.epochs + 1),
            -(-len(y_) // batch_size),
            epoch=progress.epochs,
            measures=net._measures(X_val is not None, metrics or ()),
            learning_rate_factor=progress.learning_rate_factor,
        )
        check_monitor(schedule.monitor, state.measures)
        self.n_iter_ = 0
        if monitor is not None and self.validation_scores_ is None:
            self.validation_scores_, self.validation_loss_curve_ = [], []
        with net._training():
            data = net._prepare(X, net.first_layer, optimizer, Clipping())
            if checked is not None:
                net._prepare_inference(checked[0])
            StochasticFit(
                net=net,
                state=state,
                hooks=hooks,
                progress=progress,
                schedule=schedule,
                data=data,
                y=y_,
                row_weights=row_weights,
                clipping=Clipping(),
                batch_size=batch_size,
                shuffle=self.shuffle,
                validation=checked,
                metrics=metrics or {},
                estimator=self,
                random=self._random_state,
                scale=scale,
                monitor=monitor,
                incremental=incremental,
                prints=bool(self.verbose) and not has_bar,
                validation_weights=weights_val,
            ).run()

    def _batch_size(self, n_rows: int) -> int:
        if isinstance(self.batch_size, str):
            return min(200, n_rows)
        if self.batch_size > n_rows:
            warnings.warn(
                "Got `batch_size` less than 1 or larger than sample size. It is going to be clipped", stacklevel=5
            )
        return int(min(self.batch_size, n_rows))

    def _descends_by(self) -> Optimizer:
        if self.solver == "sgd":
            nesterov = self.nesterovs_momentum and self.momentum > 0
            return SGD(learning_rate=self.learning_rate_init, momentum=self.momentum, nesterov=nesterov)
        if self.solver == "adam":
            betas = (self.beta_1, self.beta_2)
            return Adam(learning_rate=self.learning_rate_init, betas=betas, eps=self.epsilon, eps_hat=True)
        optimizer: Optimizer = self.solver
        return optimizer

    def _schedule(self) -> Schedule:
        if isinstance(self.learning_rate, str):  # these are changes of the rate between epochs
            return Constant()
        return copy.deepcopy(get_schedule(self.learning_rate))

    def _progress(self, net: Network, optimizer: Optimizer, schedule: Schedule, incremental: bool) -> Progress:
        """Return the progress to begin with: where the last fit stopped, if the optimizer can go on with its memory."""
        kind, before = type(schedule).__name__, net._progress
        schedule.start()
        if before is None or not before.fits(optimizer):
            return Progress.begin(optimizer, net._memory(optimizer.slots), kind)
        factor = before.learning_rate_factor if incremental else 1.0
        if self.solver == "sgd":
            change_rate(before, optimizer, factor)
        if not (incremental and before.schedule == kind):
            return replace(
                before, optimizer=optimizer, epochs=0, schedule=kind, schedule_state={}, learning_rate_factor=factor
            )
        if before.schedule_state:
            schedule.load_state(before.schedule_state)
        return replace(before, optimizer=optimizer)

    # --- data ---------------------------------------------------------------------------------------------------------

    _numeric_y: ClassVar[bool]

    def _check_X_y(self, X: Any, y: Any, reset: bool) -> tuple[Any, Any]:
        X, y = validate_data(
            self,
            X,
            y,
            accept_sparse=["csr", "csc"],
            multi_output=True,
            y_numeric=self._numeric_y,
            dtype=self._dtypes(X),
            reset=reset,
        )
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        return X, y

    def _dtypes(self, X: Any) -> list[Any]:
        """Return the dtypes in which X is taken; from others it is converted to the first."""
        if _is_small(X):
            return [np.float32 if self.dtype is None else np.dtype(self.dtype), np.uint8]
        return [np.float64, np.float32] if self.dtype is None else [np.dtype(self.dtype)]

    def _dtype_of(self, X: Any) -> str:
        return np.dtype(X.dtype if self.dtype is None and X.dtype != np.uint8 else self.dtype or np.float32).name

    def _weigh(self, X: Any, y: Any, sample_weight: Any, incremental: bool) -> Floats | None:
        """Return the weight of each row, or None where all are 1."""
        if sample_weight is None:
            return None
        weights = check_sample_weight(_check_sample_weight(sample_weight, X, dtype=np.float64), X.shape[0])
        if weights is not None and not 0 < weights.sum() < np.inf:
            raise ValueError(f"sample_weight adds up to {weights.sum()}; some weights must be more than zero")
        return weights

    def _check_validation(self, X: Any, y: Any, sample_weight: Any) -> tuple[Any, Any, Floats | None]:
        X = validate_data(self, X, accept_sparse=["csr", "csc"], dtype=self._dtypes(X), reset=False)
        y = check_array(y, ensure_2d=False, dtype="numeric" if self._numeric_y else None, accept_sparse="csr")
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        check_consistent_length(X, y)
        weights = None if sample_weight is None else _check_sample_weight(sample_weight, X, dtype=np.float64)
        return X, y, weights

    def _set_aside(
        self, X: Any, y: Any, targets: Any, weights: Floats | None
    ) -> tuple[Any, Any, Floats | None, Any, Any, Floats | None]:
        """Return X, targets and weights to train on; X, y and weights to validate with."""
        two_classes = is_classifier(self) and self.n_outputs_ == 1
        train, aside = train_test_split(
            np.arange(X.shape[0]),
            random_state=self._random_state,
            test_size=self.validation_fraction,
            stratify=targets.astype(bool) if two_classes else None,
        )
        if len(aside) < 2:
            raise ValueError(
                "The validation set is too small. Increase 'validation_fraction' or the size of your dataset."
            )
        weights_train, weights_val = (None, None) if weights is None else (weights[train], weights[aside])
        return X[train], targets[train], weights_train, X[aside], y[aside], weights_val

    def _monitor(self, X: Any, y: Any, weights: Floats | None) -> tuple[str, dict[str, Callable[[Any, Any], float]]]:
        """Return the name in the history of what scores the validation data, and the metrics that are needed for it."""
        if isinstance(self.scoring, str) and self.scoring == "loss":
            return "val_loss", {}
        if self.scoring is None:
            if self._classifies and weights is None:
                return "val_accuracy", {}
            measure = accuracy_score if self._classifies else r2_score
            return "val_score", {"score": _where_finite(measure, weights)}
        scorer = check_scoring(self, self.scoring)
        nameless = object.__new__(type(self))  # X has no names any more
        settings = {} if weights is None else {"sample_weight": weights}

        def score(*_: Any) -> float:
            nameless.__dict__ = {name: value for name, value in vars(self).items() if name != "feature_names_in_"}
            return float(scorer(nameless, X, y, **settings))

        return "val_score", {"score": score}

    # --- the network --------------------------------------------------------------------------------------------------

    _classifies: ClassVar[bool]

    def _network(self) -> Network:
        """Return the network whose parameters `coefs_` and `intercepts_` are, or become, views of."""
        settings = self._settings()
        net: Network | None
        made_of, net = vars(self).get("_net", (None, None))
        if net is None or made_of != settings:
            net = self._new_network(settings, net)
            self._net = settings, net
            self.coefs_, self.intercepts_ = list(net._weights), list(net._biases)
        net.n_threads = self.n_threads
        own, given = net._weights + net._biases, [*self.coefs_, *self.intercepts_]
        if any(a is not b for a, b in zip(own, given, strict=True)):  # a user has put others in their place
            net._fill(self.coefs_, self.intercepts_)
            self.coefs_, self.intercepts_ = list(net._weights), list(net._biases)
        return net

    def _settings(self) -> dict[str, Any]:
        shapes = [np.shape(coef) for coef in self.coefs_]
        dtype = getattr(self.coefs_[0], "dtype", None)
        return {
            "layers": [shapes[0][0], *(shape[1] for shape in shapes)],
            "activation": self.activation if isinstance(self.activation, str) else list(self.activation),
            "output": self.out_activation_,
            "dropout": self.dropout if isinstance(self.dropout, Real) else list(self.dropout),
            "l2": float(self.alpha) if self._stochastic else 0.0,  # a step divides it by its rows
            "dtype": "float32" if dtype == np.float32 else "float64",
            "seed": vars(self).get("_seed", 0),
        }

    def _new_network(self, settings: dict[str, Any], before: Network | None) -> Network:
        """Return a network that goes on with what another one, or a pickle, remembers."""
        net = self._kind_of_network()._of(self.coefs_, self.intercepts_, **settings)
        passes, progress = self.__dict__.pop("_memory", (0, None))
        if before is not None:
            passes, progress = before._passes, before._progress
        net._passes = passes
        if progress is not None:
            net._progress = replace(progress, memory=net._remembered(progress.memory))
        return net

    def _kind_of_network(self) -> type[Network]:
        if self._network_class is not None:
            return self._network_class
        if self.out_activation_ == "exp":  # which no kernel has
            from fastmlp import reference

            return reference.MLP
        from fastmlp.mlp import MLP

        return MLP

    def __getstate__(self) -> dict[str, Any]:
        """Return what lasts: parameters, and the optimizer's memory where training is to go on; no buffers."""
        state = dict(super().__getstate__())
        _, net = state.pop("_net", (None, None))
        if net is not None and net._progress is not None and self._goes_on:
            state["_memory"] = net._passes, net._progress
        return state

    def _check_X(self, X: Any) -> Any:
        check_is_fitted(self)
        return validate_data(self, X, accept_sparse=["csr", "csc"], reset=False)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


@_documented
class MLPClassifier(ClassifierMixin, _MLP):  # type: ignore[misc]
    """Multilayer perceptron for classes and labels, with the face of scikit-learn's.

    Minimizes the cross-entropy. Of two classes, or of labels that do not exclude each other (y (n_samples, n_labels) of
    0 and 1), each output is logistic; of more classes they are a softmax.

    Parameters
    ----------
    {parameters}
    class_weight : dict, 'balanced' or None, default=None
        Weights of the classes, times those of the samples; 'balanced' gives all classes the same sum.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels.
    {attributes}

    Examples
    --------
    >>> from fastmlp import MLPClassifier
    >>> from sklearn.datasets import make_classification
    >>> from sklearn.model_selection import train_test_split
    >>> X, y = make_classification(n_samples=100, random_state=1)
    >>> X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=1)
    >>> clf = MLPClassifier(random_state=1, max_iter=300).fit(X_train, y_train)
    >>> clf.score(X_test, y_test)
    0.88
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **_MLP._parameter_constraints,
        "class_weight": [StrOptions({"balanced"}), dict, list, None],
    }
    _classifies = True
    _numeric_y = False
    loss = "log_loss"

    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        activation: Any = "relu",
        *,
        solver: Any = "adam",
        alpha: float = 0.0001,
        batch_size: Any = "auto",
        learning_rate: Any = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: Any = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        dropout: Any = 0.0,
        class_weight: Any = None,
        scoring: Any = None,
        callbacks: Any = None,
        n_threads: int | None = None,
        dtype: Any = None,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.power_t = power_t
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.n_iter_no_change = n_iter_no_change
        self.max_fun = max_fun
        self.dropout = dropout
        self.class_weight = class_weight
        self.scoring = scoring
        self.callbacks = callbacks
        self.n_threads = n_threads
        self.dtype = dtype

    @available_if(lambda estimator: estimator._check_solver())  # type: ignore[untyped-decorator]
    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> Self:
        """Update the model with a single iteration over the given data.

        Parameters
        ----------
        X : array_like or sparse matrix of shape (n_samples, n_features)
            The input data.
        y : array_like of shape (n_samples,) or (n_samples, n_labels)
            The target values.
        sample_weight : array_like of shape (n_samples,), default=None
            Sample weights.
        classes : array_like of shape (n_classes,), default=None
            All classes that will ever come; the first call needs them.

        Returns
        -------
        self : object
            The trained model.
        """
        if _check_partial_fit_first_call(self, classes):
            labels = y if type_of_target(y).startswith("multilabel") else classes
            self._label_binarizer = LabelBinarizer().fit(labels)
        return self._fit(X, y, sample_weight, incremental=True)

    def predict(self, X: Any) -> npt.NDArray[Any]:
        """Return the class of each row, or its labels.

        Parameters
        ----------
        X : array_like or sparse matrix of shape (n_samples, n_features)
            The input data.

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_labels)
        """
        X = self._check_X(X)
        predicted: npt.NDArray[Any] = self._network().predict(X)
        if self.out_activation_ == "softmax":
            return np.asarray(self.classes_[predicted])
        labels: npt.NDArray[Any] = self._label_binarizer.inverse_transform(predicted)
        return labels

    def predict_proba(self, X: Any) -> Floats:
        """Return the probability of each class, or label, for each row.

        Parameters
        ----------
        X : array_like or sparse matrix of shape (n_samples, n_features)
            The input data.

        Returns
        -------
        y_prob : ndarray of shape (n_samples, n_classes)
            Classes are in the order of `classes_`.
        """
        X = self._check_X(X)
        probabilities = self._network().predict_proba(X)
        if self.out_activation_ == "logistic":  # which is never certain, but for rounding
            least, most = np.finfo(probabilities.dtype).tiny, np.nextafter(1, 0, dtype=probabilities.dtype)
            np.clip(probabilities, least, most, out=probabilities)
        return probabilities

    def predict_log_proba(self, X: Any) -> Floats:
        """Return the logarithms of `predict_proba`.

        Parameters
        ----------
        X : array_like or sparse matrix of shape (n_samples, n_features)
            The input data.

        Returns
        -------
        log_y_prob : ndarray of shape (n_samples, n_classes)
        """
        probabilities = self.predict_proba(X)
        return np.asarray(np.log(probabilities, out=probabilities))

    def _output(self) -> str:
        return "softmax" if self._label_binarizer.y_type_ == "multiclass" else "logistic"

    def _learn_classes(self, y: Any, incremental: bool) -> None:
        """Find the classes of y, or see that they are those of before."""
        if not hasattr(self, "classes_") or not (self.warm_start or incremental):
            self._label_binarizer = LabelBinarizer().fit(y)
            self.classes_ = self._label_binarizer.classes_
        elif self.warm_start:
            classes = unique_labels(y)
            if set(classes) != set(self.classes_):
                raise ValueError(
                    "warm_start can only be used where `y` has the same classes as in the previous call to fit. "
                    f"Previously got {self.classes_}, `y` has {classes}"
                )

    def _encode(self, y: Any) -> npt.NDArray[Any]:
        """Return indices of classes (n,) for a softmax; 0 and 1 (n, n_outputs) for logistic outputs."""
        classes = unique_labels(y)
        if len(np.setdiff1d(classes, self.classes_, assume_unique=True)):
            raise ValueError(
                f"`y` has classes not in `self.classes_`. `self.classes_` has {self.classes_}. 'y' has {classes}."
            )
        if self._output() == "softmax" and y.ndim == 1:
            return np.asarray(np.searchsorted(self.classes_, y))
        encoded: npt.NDArray[Any] = self._label_binarizer.transform(y)
        return encoded

    def _weigh(self, X: Any, y: Any, sample_weight: Any, incremental: bool) -> Floats | None:
        weights = super()._weigh(X, y, sample_weight, incremental)
        if self.class_weight is None:
            return weights
        if incremental and self.class_weight == "balanced":
            raise ValueError(
                "class_weight='balanced' needs all rows at once, which partial_fit does not have; give a dict, e.g. of "
                "sklearn.utils.class_weight.compute_class_weight('balanced', classes=classes, y=y)"
            )
        of_classes: Floats = compute_sample_weight(self.class_weight, y)
        return of_classes if weights is None else weights * of_classes

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


@_documented
class MLPRegressor(RegressorMixin, _MLP):  # type: ignore[misc]
    """Multilayer perceptron for numbers, with the face of scikit-learn's.

    Parameters
    ----------
    loss : {'squared_error', 'poisson'}, default='squared_error'
        Half the squared error; or half the Poisson deviance of counts y >= 0, whose means are the exponentials of the
        outputs. Poisson networks are computed by NumPy.
    {parameters}

    Attributes
    ----------
    {attributes}

    Examples
    --------
    >>> from fastmlp import MLPRegressor
    >>> from sklearn.datasets import make_regression
    >>> from sklearn.model_selection import train_test_split
    >>> X, y = make_regression(n_samples=200, n_features=20, random_state=1)
    >>> X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=1)
    >>> regr = MLPRegressor(random_state=1, max_iter=2000, tol=0.1).fit(X_train, y_train)
    >>> regr.score(X_test, y_test)
    0.98
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **_MLP._parameter_constraints,
        "loss": [StrOptions({"squared_error", "poisson"})],
    }
    _classifies = False
    _numeric_y = True

    def __init__(
        self,
        loss: str = "squared_error",
        hidden_layer_sizes: Any = (100,),
        activation: Any = "relu",
        *,
        solver: Any = "adam",
        alpha: float = 0.0001,
        batch_size: Any = "auto",
        learning_rate: Any = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: Any = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        dropout: Any = 0.0,
        scoring: Any = None,
        callbacks: Any = None,
        n_threads: int | None = None,
        dtype: Any = None,
    ) -> None:
        self.loss = loss
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.power_t = power_t
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.n_iter_no_change = n_iter_no_change
        self.max_fun = max_fun
        self.dropout = dropout
        self.scoring = scoring
        self.callbacks = callbacks
        self.n_threads = n_threads
        self.dtype = dtype

    @available_if(lambda estimator: estimator._check_solver())  # type: ignore[untyped-decorator]
    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Update the model with a single iteration over the given data.

        Parameters
        ----------
        X : array_like or sparse matrix of shape (n_samples, n_features)
            The input data.
        y : array_like of shape (n_samples,) or (n_samples, n_outputs)
            The target values.
        sample_weight : array_like of shape (n_samples,), default=None
            Sample weights.

        Returns
        -------
        self : object
            The trained model.
        """
        return self._fit(X, y, sample_weight, incremental=True)

    def predict(self, X: Any) -> Floats:
        """Return the numbers of each row.

        Parameters
        ----------
        X : array_like or sparse matrix of shape (n_samples, n_features)
            The input data.

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_outputs)
        """
        X = self._check_X(X)
        return self._network().predict(X)

    def _output(self) -> str:
        return "exp" if self.loss == "poisson" else "identity"

    def _learn_classes(self, y: Any, incremental: bool) -> None:
        """Numbers have none."""

    def _encode(self, y: Any) -> npt.NDArray[Any]:
        """Return the numbers (n, n_outputs)."""
        return np.asarray(y).reshape(len(y), -1)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.positive_only = self.loss == "poisson"
        return tags


def _is_small(X: Any) -> bool:
    """Return whether X holds numbers that are computed in float32, though they are others."""
    dtypes = X.dtypes if hasattr(X, "dtypes") else [getattr(X, "dtype", None)]
    return all(str(dtype).lower() in _SMALL for dtype in dtypes)


def _where_finite(measure: Callable[..., float], weights: Floats | None) -> Callable[[Any, Any], float]:
    """Return a measure of what is true and what is predicted that is nan where a prediction is not finite."""

    def measured(y_true: Any, y_pred: Any) -> float:
        if not np.isfinite(y_pred).all():
            return float("nan")
        return float(measure(y_true, y_pred, sample_weight=weights))

    return measured


def _print_iteration(iteration: int, loss: float) -> None:
    print(f"Iteration {iteration}, loss = {loss:.8f}")
