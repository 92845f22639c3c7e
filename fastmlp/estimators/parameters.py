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
        Number of units in each hidden layer.
    activation : str or list of str, default='relu'
        Activation of the hidden layers: one name for all layers, or one for each. Names are 'identity', 'logistic',
        'tanh', 'relu' and the other keys of `fastmlp.activations.ACTIVATIONS`.
    solver : {'lbfgs', 'sgd', 'adam'} or Optimizer, default='adam'
        Algorithm that trains the network:

        - 'lbfgs', a quasi-Newton method on all rows at once, often best for small data;
        - 'sgd', stochastic gradient descent with momentum;
        - 'adam', the optimizer of Kingma and Ba (2015);
        - an object of `fastmlp.optimizers`, with its own settings.
    alpha : float, default=0.0001
        Strength of the L2 penalty: ``alpha / 2 * sum(W**2)``, divided by the number of rows in the batch.
    batch_size : int or 'auto', default='auto'
        Rows per step; 'auto' is ``min(200, n_samples)``. 'lbfgs' uses all rows.
    learning_rate : {'constant', 'invscaling', 'adaptive'}, Schedule or callable, default='constant'
        How the learning rate changes. With 'sgd', 'invscaling' divides `learning_rate_init` by ``(t_ + 1) ** power_t``
        after each epoch, and 'adaptive' divides the learning rate by 5 when epochs stop improving, until it is below
        1e-6. All solvers but 'lbfgs' also take an object of `fastmlp.schedules`, or a function that gets the number of
        the step, from 0, and returns a factor.
    learning_rate_init : float, default=0.001
        Initial learning rate of 'sgd' and 'adam'.
    power_t : float, default=0.5
        Exponent of 'invscaling'.
    max_iter : int, default=200
        Maximum number of epochs, or of iterations for 'lbfgs'.
    shuffle : bool, default=True
        Whether to shuffle the rows in each epoch.
    random_state : int, RandomState instance or None, default=None
        Determines the initial parameters, the validation rows and the order of the rows, as in scikit-learn.
    tol : float, default=1e-4
        Training stops when loss or score has not improved by `tol` for `n_iter_no_change` epochs. 'lbfgs' stops when
        the largest element of the gradient is below `tol`.
    verbose : bool or int, default=False
        Whether to report progress. True or 1 shows a progress bar in a terminal or notebook, and elsewhere prints the
        loss of each epoch; 2 always prints.
    warm_start : bool, default=False
        Whether `fit` continues from the last solution, with the state of the optimizer.
    momentum : float in [0, 1], default=0.9
        Momentum of 'sgd'.
    nesterovs_momentum : bool, default=True
        Whether 'sgd' uses Nesterov's momentum.
    early_stopping : bool, default=False
        Whether to stop when the validation score, rather than the training loss, stops improving, and to restore the
        parameters of the best epoch.
    validation_fraction : float, default=0.1
        Fraction of the rows to hold out for early stopping, unless `fit` gets validation data. Stratified for two
        classes.
    beta_1, beta_2 : float in [0, 1), default=0.9, 0.999
        Decay rates of the moment estimates of 'adam'.
    epsilon : float, default=1e-8
        Numerical stability term of 'adam'.
    n_iter_no_change : int or inf, default=10
        Maximum number of epochs in a row without an improvement by `tol`.
    max_fun : int, default=15000
        Maximum number of loss evaluations by 'lbfgs'.
    dropout : float in [0, 1) or list of float, default=0.0
        Fraction of the hidden units to drop at random in each step: one number for all layers, or one for each. Not
        for 'lbfgs'.
    {class_weight}scoring : str, callable or None, default=None
        Validation score: the name of a scikit-learn scorer, 'loss', a function of (estimator, X, y) and optionally
        sample_weight, or None for {score}.
    callbacks : list or None, default=None
        Objects whose methods are called during the fit; see `fastmlp.callbacks`. Not for 'lbfgs'.
    n_threads : int or None, default=None
        Number of threads. None uses the available cores; fits that run at the same time share them. Results are
        bit-identical for any number.
    dtype : {'float32', 'float64'} or None, default=None
        Data type of the parameters and of all computation. None chooses float64 if X is float64 or integers, and
        float32 if X is float32, float16 or uint8.
    n_networks : int, default=1
        Number of networks to train at the same time with different random states; their probabilities or predictions
        are averaged. Early stopping holds out the same rows for all. Each network has its own copy of fastmlp's
        callbacks. All share `n_threads`."""

_CLASS_WEIGHT = """class_weight : dict, 'balanced' or None, default=None
        Weight of each class, by which sample weights are multiplied. 'balanced' gives all classes the same total
        weight.
    """

_ATTRIBUTES = """loss_ : float
        Current loss.
    best_loss_ : float or None
        Minimum loss; None with `early_stopping`. 'lbfgs' sets neither this nor the next five attributes.
    loss_curve_ : list of float
        Loss of each epoch.
    validation_scores_, validation_loss_curve_ : list of float or None
        Validation score and loss after each epoch; None without validation data.
    best_validation_score_ : float or None
        Best validation score, with `early_stopping`.
    t_ : int
        Number of rows seen during the fit.
    coefs_, intercepts_ : list of ndarrays
        Weights (n_in, n_out) and biases (n_out,) of each layer. Writing into them changes the model. So does assigning
        other arrays, whose shapes only need to fit each other.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Column names of X, if it has any.
    n_iter_ : int
        Number of epochs, or of iterations for 'lbfgs', of the last fit.
    n_layers_, n_outputs_ : int
        Number of layers, inputs included, and number of outputs.
    out_activation_ : str
        Output activation: {out_activations}. Another one may be assigned; predictions then use it.
    estimators_ : list of {kind}
        The networks, if `n_networks` is more than one. In that case only they have attributes of a single network, such
        as `coefs_` and `loss_`; `n_iter_` is the largest of theirs."""


def documented(cls: Any) -> Any:
    """Insert the common documentation into the docstring of an estimator."""
    classifies = issubclass(cls, ClassifierMixin)
    cls.__doc__ = cls.__doc__.replace(
        "{parameters}",
        _PARAMETERS.replace("{score}", "the accuracy" if classifies else "R²").replace(
            "{class_weight}", _CLASS_WEIGHT if classifies else ""
        ),
    ).replace(
        "{attributes}",
        _ATTRIBUTES.replace(
            "{out_activations}",
            "'softmax' or 'logistic'" if classifies else "'identity', or 'exp' for loss='poisson'",
        ).replace("{kind}", cls.__name__),
    )
    return cls
