"""The common parameters and attributes of `MLPClassifier` and `MLPRegressor`: documentation and constraints."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils._param_validation import Interval, Options, StrOptions

from fastmlp.activations import ACTIVATIONS
from fastmlp.optimizers import Optimizer
from fastmlp.schedules import Schedule

__all__ = ["CONSTRAINTS", "documented"]

CONSTRAINTS: dict[str, list[Any]] = {
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
    "dtype": [
        StrOptions({"float32", "float64"}),
        Options(type, {np.float32, np.float64, float}),
        Options(np.dtype, {np.dtype("float32"), np.dtype("float64")}),
        None,
    ],
    "n_networks": [Interval(Integral, 1, None, closed="left")],
}

_PARAMETERS = """hidden_layer_sizes : array_like of shape (n_layers - 2,), default=(100,)
        Units of each hidden layer.
    activation : str or list of str, default='relu'
        Of all hidden layers, or of each: 'identity', 'logistic', 'tanh', 'relu', or another name of
        `fastmlp.activations.ACTIVATIONS`.
    solver : {'lbfgs', 'sgd', 'adam'} or Optimizer, default='adam'
        'lbfgs' is a quasi-Newton method on all rows at once, often best for small data. 'sgd' is stochastic gradient
        descent with momentum. 'adam' is that of Kingma and Ba (2015). An object of `fastmlp.optimizers` uses its own
        settings.
    alpha : float, default=0.0001
        Strength of the L2 penalty, ``alpha / 2 * sum(W**2)`` divided by the rows of the batch.
    batch_size : int or 'auto', default='auto'
        Rows per step; 'auto' is ``min(200, n_samples)``. 'lbfgs' uses all rows.
    learning_rate : {'constant', 'invscaling', 'adaptive'}, Schedule or callable, default='constant'
        How the learning rate changes. Only for 'sgd': 'invscaling' divides it by ``(t_ + 1) ** power_t`` after each
        epoch; 'adaptive' divides it by 5 when epochs do not improve, until it is below 1e-6. For every solver but
        'lbfgs': an object of `fastmlp.schedules`, or a function that returns the factor of each step.
    learning_rate_init : float, default=0.001
        The learning rate of 'sgd' and 'adam'.
    power_t : float, default=0.5
        Exponent of 'invscaling'.
    max_iter : int, default=200
        Maximum of epochs, or of iterations of 'lbfgs'.
    shuffle : bool, default=True
        Whether to shuffle the rows in each epoch.
    random_state : int, RandomState instance or None, default=None
        Draws the first parameters, the validation rows and the order of the rows, as scikit-learn does.
    tol : float, default=1e-4
        Training stops after `n_iter_no_change` epochs without an improvement of loss or score by `tol`. 'lbfgs' stops
        when the largest gradient is below it.
    verbose : bool, default=False
        Whether to report epochs on stdout. In a terminal or notebook ``verbose=1`` shows a bar and 2 prints lines.
    warm_start : bool, default=False
        Whether `fit` continues from the last solution, with the state of the optimizer.
    momentum : float in [0, 1), default=0.9
        Of 'sgd'.
    nesterovs_momentum : bool, default=True
        Whether 'sgd' uses Nesterov's momentum.
    early_stopping : bool, default=False
        Whether to stop when the score of validation data, not the training loss, stops improving, and to keep the
        parameters of the best epoch.
    validation_fraction : float, default=0.1
        Fraction of the rows for early stopping, unless `fit` gets validation data. Stratified for two classes.
    beta_1, beta_2, epsilon : float, default=0.9, 0.999, 1e-8
        Of 'adam'.
    n_iter_no_change : int or inf, default=10
        See `tol`.
    max_fun : int, default=15000
        Maximum of loss evaluations by 'lbfgs'.
    dropout : float in [0, 1) or list of float, default=0.0
        Fraction of the units of all hidden layers, or of each, that each step drops at random. Not for 'lbfgs'.
    scoring : str, callable or None, default=None
        Score of validation data: the name of a scorer of scikit-learn, a function (estimator, X, y) that may take
        sample_weight as well, 'loss', or None for {score}.
    callbacks : list or None, default=None
        Objects with methods such as `on_epoch_end`, see `fastmlp.callbacks`. Not for 'lbfgs'.
    n_threads : int or None, default=None
        Threads. None uses the available cores, which fits that run at the same time share. Results are
        bit-identical for any number.
    dtype : {'float32', 'float64'} or None, default=None
        Of parameters and computation. None follows X: float64 for float64 and integers, float32 for float32, float16
        and uint8.
    n_networks : int, default=1
        More than one trains as many networks at the same time, which differ by their random states, and averages their
        probabilities or predictions. Early stopping holds out the same rows for all; each has its own copy of
        fastmlp's callbacks. `n_threads` is for all networks together."""

_ATTRIBUTES = """loss_ : float
        The last loss.
    best_loss_ : float or None
        The smallest loss; None with `early_stopping`. 'lbfgs' sets neither this nor the next five.
    loss_curve_ : list of float
        Loss of each epoch.
    validation_scores_, validation_loss_curve_ : list of float or None
        Score and loss of the validation data after each epoch; None without such data.
    best_validation_score_ : float or None
        The best score, with `early_stopping`.
    t_ : int
        Rows seen.
    coefs_, intercepts_ : list of arrays
        Weights (n_in, n_out) and biases (n_out,) of each layer. Writing into them changes the model, and so does
        assigning other arrays, of any shapes that fit each other.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Column names of X, if it has any.
    n_iter_ : int
        Epochs or iterations of the last fit.
    n_layers_, n_outputs_ : int
    out_activation_ : str
        {out_activations}. Predictions also use any other name of an activation that you assign.
    estimators_ : list of {kind}
        The networks, if `n_networks` is more than one. Only they have `coefs_`, `loss_` and what else belongs to one
        network, then; `n_iter_` is the largest of theirs."""


def documented(cls: Any) -> Any:
    """Insert the common documentation into the docstring of an estimator."""
    classifies = issubclass(cls, ClassifierMixin)
    cls.__doc__ = cls.__doc__.replace(
        "{parameters}", _PARAMETERS.replace("{score}", "the accuracy" if classifies else "R²")
    ).replace(
        "{attributes}",
        _ATTRIBUTES.replace(
            "{out_activations}",
            "'softmax' or 'logistic'" if classifies else "'identity', or 'exp' for loss='poisson'",
        ).replace("{kind}", cls.__name__),
    )
    return cls
