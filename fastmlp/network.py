"""`Network`, the base class of `fastmlp.MLP` and `fastmlp.reference.MLP`, which add an engine."""

from __future__ import annotations

import copy
import os
import warnings
from abc import ABC
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from types import EllipsisType
from typing import Any, ClassVar, Final, Literal, Self, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from fastmlp import checkpoint, storage
from fastmlp.activations import ACTIVATIONS, Floats, per_layer
from fastmlp.callbacks import gather_callbacks
from fastmlp.checkpoint import DEFAULTS, MAIN
from fastmlp.diagnosis import ConvergenceWarning
from fastmlp.engine.base import Engine, Settings
from fastmlp.history import History
from fastmlp.interrupts import complete, finish
from fastmlp.losses import LOSSES, Targets
from fastmlp.metrics import Metric, check_metrics, measure, r2
from fastmlp.mistakes import Confusion, Mistake, confusions, worst
from fastmlp.names import Names
from fastmlp.optimizers import Optimizer, get_optimizer
from fastmlp.options import Activation, Dtype, FirstLayer, Init, OptimizerName, Output, ScheduleName
from fastmlp.parameters import Views
from fastmlp.random import INITS, RandomStreams, initial_parameters
from fastmlp.schedules import Schedule, get_schedule
from fastmlp.training import Trainer, TrainingState, check_clipping, train_batch
from fastmlp.validation.calls import advised_methods
from fastmlp.validation.inputs import check_X
from fastmlp.validation.rows import check_sample_weight, row_weights, validation_rows
from fastmlp.validation.settings import (
    check_activation,
    check_bool,
    check_choice,
    check_dropout,
    check_dtype,
    check_float,
    check_int,
    check_layers,
    check_n_threads,
    check_number,
    check_path,
    check_seed,
)

__all__ = ["Network"]

FIRST_LAYERS = ("auto", "dense", "sparse")
DTYPES = ("float32", "float64")

Evaluation: TypeAlias = tuple[Any, Targets, Floats | None]
"""Checked rows, targets and their weights."""

_FIXED = frozenset(  # read-only: the engine relies on them
    {*MAIN, *DEFAULTS, "activations", "dropout_rates", "n_parameters", "feature_names", "classes"}
)
_NOT_COPIED = ("_engine", "_loss", "_trained_by")  # `_make_engine` makes them

T = TypeVar("T")


@advised_methods
class Network(ABC):
    """Multilayer perceptron for classes, labels or numbers, trained by minibatch gradient descent.

    Shapes: `n` rows, `I` inputs and `O` outputs of a layer, `C` outputs of the last layer.

    Parameters
    ----------
    layers : sequence of int
        Layer sizes, inputs first, e.g. ``[784, 128, 10]``.
    activation : str or sequence of str
        Of all hidden layers, or of each: a name of `fastmlp.activations.ACTIVATIONS`, such as "relu", "gelu" or "tanh".
    output : {"softmax", "logistic", "identity", "exp"}
        "softmax": one of C classes, cross-entropy. "logistic": two classes in one output, or multilabel, binary
        cross-entropy. "identity": regression, squared error. "exp": means of counts, half the Poisson deviance. The
        loss is the mean over rows and, except for softmax, over outputs.
    init : {"he", "xavier", "normal"}
        Standard deviation of the normal first weights: sqrt(2 / I), sqrt(2 / (I + O)) or 0.01. Biases start at zero.
    seed : int or None
        Seeds everything random: first weights, order of the rows, dropout, noise, validation rows. None is random.
    n_threads : int or None
        Threads for training and prediction. None uses the cores available to this process, or one thread if a step is
        too small to share. Results are bit-identical for any number.
    dtype : {"float32", "float64"}
        Of parameters and all computation.
    first_layer : {"auto", "dense", "sparse"}
        Whether to skip multiplications by zeros in X; "auto" decides from X. Results are bit-identical. Zeros of a CSR
        matrix are always skipped.
    input_scale : float
        Factor of X, e.g. ``1 / 255`` for pixels from 0 to 255. A uint8 X is not converted first.
    label_smoothing : float in [0, 1)
        For a softmax: the target becomes (1 - s) one-hot + s / C.
    l2 : float
        Adds ``l2 / 2 * sum(W**2)`` over all weights, but not biases, to the training loss.
    dropout : float in [0, 1) or sequence of float
        Fraction of hidden units to drop at random in each step, the same for all layers or one for each; the others are
        multiplied by 1 / (1 - dropout). Only `fit` and `train_batch` use this setting and the next two.
    input_dropout : float in [0, 1)
        The same for the inputs.
    input_noise : float
        Standard deviation of normal noise added to every input, after `input_scale`.

    Attributes
    ----------
    layers, activation, output, init, seed, dtype, first_layer, input_scale, label_smoothing, l2, dropout, \
input_dropout, input_noise
        As given; read-only.
    activations : tuple of str
        Of each hidden layer.
    dropout_rates : tuple of float
        Of the inputs of each layer.
    n_threads : int or None
        As given; may be changed.
    weights, biases : list of (I, O) arrays, list of (O,) arrays
        Views, one per layer: writing into them changes the network.
    feature_names : list of str or None
        Columns of the table that trained the network.
    classes : (C,) array or None
        Names of the classes, if y had names.
    n_parameters : int
        Number of weights and biases.
    history : History
        Of the last fit.

    Examples
    --------
    >>> from fastmlp import MLP, datasets
    >>> X_train, y_train, X_test, y_test = datasets.load_mnist()
    >>> net = MLP([784, 128, 10], seed=0)
    >>> history = net.fit(X_train, y_train, epochs=10, batch_size=64, learning_rate=0.1)
    >>> net.score(X_test, y_test)
    0.9779

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type or is out of range.
    """

    _engine_class: ClassVar[type[Engine]]

    def __init__(
        self,
        layers: Sequence[int],
        *,
        activation: Activation | Sequence[Activation] = "relu",
        output: Output = "softmax",
        init: Init = "he",
        seed: int | None = 0,
        n_threads: int | None = None,
        dtype: Dtype = "float32",
        first_layer: FirstLayer = "auto",
        input_scale: float = 1.0,
        label_smoothing: float = 0.0,
        l2: float = 0.0,
        dropout: float | Sequence[float] = 0.0,
        input_dropout: float = 0.0,
        input_noise: float = 0.0,
    ) -> None:
        self.layers: Final = check_layers(layers)
        n_hidden = len(self.layers) - 2
        self.activation: Final = check_activation(activation, n_hidden, tuple(ACTIVATIONS))
        self.output: Final = check_choice(
            "output", output, tuple(LOSSES), {"sigmoid": "logistic", "linear": "identity"}
        )
        if self.output == "softmax" and self.layers[-1] == 1:
            raise ValueError(
                "a softmax over one output is always 1; for two classes use output='logistic', or two outputs; "
                "for numbers use output='identity'"
            )
        self.init: Final = check_choice("init", init, tuple(INITS), {"glorot": "xavier", "kaiming": "he"})
        self.seed: Final = check_seed(seed)
        n_threads = check_n_threads(n_threads)
        self.dtype: Final = check_dtype(dtype, DTYPES)
        self.first_layer: Final = check_choice("first_layer", first_layer, FIRST_LAYERS)
        scale = check_float("input_scale", input_scale, self.dtype, zero=False)
        self.input_scale: Final = float(np.dtype(self.dtype).type(scale))
        self.label_smoothing: Final = check_number("label_smoothing", label_smoothing, below=1)
        if self.label_smoothing and self.output != "softmax":
            raise ValueError(f"label_smoothing is for output='softmax', not {self.output!r}")
        self.l2: Final = check_float("l2", l2)
        self.dropout: Final = check_dropout(dropout, n_hidden)
        self.input_dropout: Final = check_number("input_dropout", input_dropout, below=1)
        self.input_noise: Final = check_float("input_noise", input_noise)
        self._forget()
        given = vars(self).pop("_given", None)
        self._make_engine(n_threads)
        self._fill(*(given or initial_parameters(self.layers, self.init, self.seed)))

    def _forget(self) -> None:
        """Forget all training, and draw from the seed anew."""
        self.history = History()
        self._random = RandomStreams.from_seed(self.seed)
        self._training_state: TrainingState | None = None
        self._names = Names()

    def initialize(self, *, seed: int | EllipsisType | None = ...) -> None:
        """Start afresh: as a new network, with the first parameters of the seed and without history.

        Parameters
        ----------
        seed : int or None
            The new seed; without it the network keeps its own. None is random.

        Raises
        ------
        TypeError, ValueError
            If the seed is wrong. The network is unchanged.
        RuntimeError
            If the network is being trained.
        """
        chosen = self.seed if seed is ... else check_seed(seed)
        weights, biases = initial_parameters(self.layers, self.init, chosen)

        def start_afresh() -> None:
            vars(self)["seed"] = chosen
            self._forget()
            self._fill(weights, biases)

        self._alone(partial(complete, start_afresh))

    @classmethod
    def _with_parameters(cls, weights: Sequence[Floats], biases: Sequence[Floats], **settings: Any) -> Self:
        """Return a network with copies of these parameters; nothing is drawn, which is slow for a large network."""
        net = cls.__new__(cls)
        vars(net)["_given"] = weights, biases
        cls.__init__(net, **settings)
        return net

    def _make_engine(self, n_threads: int | None) -> None:
        """Make the engine, the loss and the lock: at the start, and in a copy."""
        n_hidden = len(self.layers) - 2
        dropout = self.dropout if isinstance(self.dropout, tuple) else (self.dropout,) * n_hidden
        self._trained_by: dict[str, object] = {}  # "call": which one trains; a dict is set and tested in one step
        self._loss = LOSSES[self.output](self.layers[-1], self.label_smoothing)
        settings = Settings(
            layers=self.layers,
            activations=per_layer(self.activation, n_hidden),
            loss=self._loss,
            dtype=self.dtype,
            first_layer=self.first_layer,
            input_scale=self.input_scale,
            l2=self.l2,
            dropout_rates=(self.input_dropout, *dropout),
            input_noise=self.input_noise,
        )
        self._engine = self._engine_class(settings, n_threads)

    def _fill(self, weights: Sequence[Floats], biases: Sequence[Floats]) -> None:
        for own, given in zip(self._engine.parameters, [*weights, *biases], strict=True):
            own[...] = given

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _FIXED and "_engine" in vars(self):
            raise AttributeError(f"{name} cannot be changed; make a new network")
        if name == "history" and not isinstance(value, History):
            raise TypeError(f"history must be a History, which fit returns, not {value!r}")
        super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        if name in _FIXED or name in _NOT_COPIED or name in ("history", "weights", "biases", "n_threads"):
            raise AttributeError(f"{name} cannot be deleted")
        super().__delattr__(name)

    def __repr__(self) -> str:
        settings = self._settings()
        changed = {name: settings[name] for name, value in DEFAULTS.items() if settings[name] != value}
        shown = {name: settings[name] for name in MAIN[1:]} | changed
        return f"MLP({list(self.layers)}, {', '.join(f'{name}={value!r}' for name, value in shown.items())})"

    def _settings(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in (*MAIN, *DEFAULTS)}

    @property
    def activations(self) -> tuple[str, ...]:
        """Activation of each hidden layer."""
        return self._engine.settings.activations

    @property
    def dropout_rates(self) -> tuple[float, ...]:
        """Dropout of the inputs of each layer."""
        return self._engine.settings.dropout_rates

    @property
    def n_threads(self) -> int | None:
        """Threads for training and prediction; None chooses."""
        return self._engine.n_threads

    @n_threads.setter
    def n_threads(self, n_threads: int | None) -> None:
        self._engine.n_threads = check_n_threads(n_threads)

    @property
    def weights(self) -> list[Floats]:
        """Weights (I, O) of each layer; writing into them changes the network."""
        return Views("weights", self._engine.weights)

    @weights.setter
    def weights(self, weights: Sequence[npt.ArrayLike]) -> None:
        self.weights[:] = weights  # type: ignore[assignment]

    @property
    def biases(self) -> list[Floats]:
        """Biases (O,) of each layer; writing into them changes the network."""
        return Views("biases", self._engine.biases)

    @biases.setter
    def biases(self, biases: Sequence[npt.ArrayLike]) -> None:
        self.biases[:] = biases  # type: ignore[assignment]

    @property
    def n_parameters(self) -> int:
        """Number of weights and biases."""
        return sum(parameter.size for parameter in self._engine.parameters)

    @property
    def feature_names(self) -> list[str] | None:
        """Names of the columns of the first table X that trained the network; tables must have the same columns."""
        return None if self._names.features is None else list(self._names.features)

    @property
    def classes(self) -> npt.NDArray[Any] | None:
        """Classes (C,) in the order of the outputs, if y had strings, or one-hot rows with names; else None."""
        return None if self._names.classes is None else self._names.classes.copy()

    # --- training -----------------------------------------------------------------------------------------------------

    def fit(
        self,
        X: Any,
        y: npt.ArrayLike,
        *,
        epochs: int = 10,
        batch_size: int = 64,
        learning_rate: float | None = None,
        optimizer: OptimizerName | Optimizer | None = None,
        schedule: ScheduleName | Schedule | Callable[[int], float] | None = None,
        sample_weight: npt.ArrayLike | None = None,
        class_weight: Literal["balanced"] | Mapping[Any, float] | npt.ArrayLike | None = None,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        validation_data: tuple[Any, ...] | None = None,
        validation_fraction: float | None = None,
        metrics: Iterable[str | Metric] = (),
        shuffle: bool = True,
        progress: bool = False,
        callbacks: Iterable[object] = (),
        resume: bool = False,
    ) -> History:
        """Train, from the current parameters on.

        Parameters
        ----------
        X : (n, I) array_like, table of pandas or polars, or sparse matrix of SciPy
            Finite numbers. Arrays of the network's dtype or uint8 and CSR matrices are read in place; others are
            converted once. If X has many zeros, training makes a faster copy without them. The network remembers the
            names of a table's columns, see `feature_names`; later tables must have the same, in this order.
        y : (n,) or (n, C) array_like
            Classes from 0 on, strings, or one-hot rows; 0 and 1 for logistic outputs; numbers. Strings, and the
            columns of a one-hot table, are remembered as `classes`, and `predict` returns them.
        epochs : int
            Passes over the rows.
        batch_size : int
            Rows per step; the last batch of an epoch may be smaller.
        learning_rate : float or None
            For an optimizer given by name; None is its default, 0.1 for "sgd".
        optimizer : str, Optimizer or None
            A name of `fastmlp.optimizers.OPTIMIZERS`, such as "sgd" (the default), "momentum" or "adam", or an object
            of `fastmlp.optimizers`. For a CSR matrix, plain SGD updates only the weights of features that occur in the
            batch. Other optimizers, weight decay, `l2` and clipping update all weights in every step.
        schedule : str, Schedule, callable or None
            How the learning rate changes, see `fastmlp.schedules`. A callable maps the step, counted from 0, to a
            factor.
        sample_weight : (n,) array_like or None
            Weight of each row's loss, 0 or more. The loss of a batch is divided by the sum of its weights. A batch
            whose weights are all 0 changes nothing.
        class_weight : "balanced", mapping, (C,) array_like or None
            Weight of each class; multiplies the sample weights. "balanced" gives all classes the same total weight.
        clip_norm, clip_value : float or None
            Maximum of the 2-norm of the whole gradient, and of each of its numbers, which is applied first.
        validation_data : (X, y), (X, y, sample_weight) or None
            Evaluated after each epoch.
        validation_fraction : float or None
            Fraction of the rows of each class to hold out as validation data. Every fit of this network to the same y
            holds out the same rows. The rows for training are copied. `sample_weight` does not weigh the others.
        metrics : iterable of str or callables
            Measured on the validation data, see `fastmlp.metrics`.
        shuffle : bool
            Whether to draw a new order of the rows for each epoch.
        progress : bool
            Whether to show a progress bar.
        callbacks : iterable of objects
            See `fastmlp.callbacks`.
        resume : bool
            Whether to continue where the last fit stopped, up to `epochs` in total, with the state of the optimizer and
            the schedule; pass the same schedule again. If the other arguments are the same, the result is bit-identical
            to one long fit.

        Returns
        -------
        History
            Loss and accuracy of each epoch. Ctrl-C stops training with a warning and returns the finished epochs; the
            steps of the unfinished epoch are kept. A fit that has learned nothing ends in a ConvergenceWarning of
            `fastmlp.diagnosis` with likely reasons. While kernels compile, before the first step, Ctrl-C raises
            KeyboardInterrupt and leaves the network unchanged.

        Raises
        ------
        TypeError, ValueError
            If an argument is wrong. The network is unchanged.
        FloatingPointError
            If a loss is nan or infinite. That step is not taken.
        RuntimeError
            If the network is already being trained, by another thread or by the fit that called a callback.
        """
        epochs, batch_size = check_int("epochs", epochs, 1), check_int("batch_size", batch_size, 1)
        shuffle, resume = check_bool("shuffle", shuffle), check_bool("resume", resume)
        clipping = check_clipping(clip_norm, clip_value)
        callbacks = gather_callbacks(callbacks, check_bool("progress", progress))
        schedule = get_schedule(schedule)
        finite = validation_fraction is not None or not self._engine.checks_finite  # before rows get other numbers
        names = self._names.learned(X, y, self._loss)
        X_, y_ = self._check_data(X, y, finite=finite, names=names)
        weights = check_sample_weight(sample_weight, len(y_))
        validation: Evaluation | None = None
        if validation_data is not None:
            if not isinstance(validation_data, (tuple, list)) or len(validation_data) not in (2, 3):
                raise TypeError("validation_data must be a pair (X, y), or (X, y, sample_weight)")
            X_val, y_val, *others = validation_data
            validation = self._check_evaluation(X_val, y_val, *others, what="validation ", names=names)
        if validation_fraction is not None:
            if validation is not None:
                raise ValueError("give validation_data or validation_fraction, not both")
            mask = validation_rows(y_, self._loss, validation_fraction, self._random.seed)
            validation = X_[mask], y_[mask], None
            X_, y_, weights = X_[~mask], y_[~mask], None if weights is None else weights[~mask]
        row_weights_ = row_weights(weights, names.class_weight(class_weight), y_, self._loss, self.dtype)
        metrics_ = check_metrics(metrics, self._loss, validation[2] if validation else None, names.classes)
        if metrics_ and validation is None:
            raise ValueError("metrics need validation data; give validation_data or validation_fraction")
        if not resume:
            state = TrainingState.new(get_optimizer(optimizer, learning_rate), self._engine, type(schedule).__name__)
            history = History()
        elif self._training_state is None:
            raise ValueError(
                "resume=True needs an earlier fit, but this network has not been trained, or was saved without its "
                "training state; net.save(path, training=True) and callbacks.Checkpoint keep it"
            )
        else:
            state = self._training_state.resumed(optimizer, learning_rate, schedule)
            history = replace(copy.deepcopy(self.history), interrupted=False)
        trainer = Trainer(
            engine=self._engine,
            net=self,
            callbacks=callbacks,
            schedule=schedule,
            state=state,
            random=self._random,
            X=X_,
            y=y_,
            row_weights=row_weights_,
            clipping=clipping,
            epochs=epochs,
            batch_size=batch_size,
            shuffle=shuffle,
            validation=validation,
            metrics=metrics_,
            history=history,
        )
        self._run(trainer, names)
        if history.interrupted:
            fit = trainer.fit
            where = f"after epoch {fit.epoch} of {epochs}"
            if fit.step:
                where = f"in epoch {fit.epoch + 1} of {epochs}, after step {fit.step} of {fit.n_batches}"
            warnings.warn(f"Ctrl-C stopped training {where}; steps taken so far are kept", UserWarning, stacklevel=3)
        elif trainer.nothing_left:
            what = f"{state.epochs} epochs are done, and epochs={epochs} is the total, not the number of further ones"
            warnings.warn(f"resume=True has trained nothing: {what}", UserWarning, stacklevel=3)
        elif trouble := trainer.what_went_wrong():
            warnings.warn(trouble, ConvergenceWarning, stacklevel=3)
        return history

    def train_batch(
        self,
        X: Any,
        y: npt.ArrayLike,
        learning_rate: float | None = None,
        *,
        optimizer: OptimizerName | Optimizer | None = None,
        sample_weight: npt.ArrayLike | None = None,
        clip_norm: float | None = None,
        clip_value: float | None = None,
    ) -> float:
        """Take one step on these rows, in their order, and return their mean loss before it.

        The arguments are those of `fit`. If the last step, by `fit` or `train_batch`, used the same kind of optimizer,
        its state is used.

        Raises
        ------
        TypeError, ValueError
            If an argument is wrong. The network is unchanged.
        FloatingPointError
            If the loss is nan or infinite. The step is not taken.
        RuntimeError
            If the network is already being trained.
        """
        names = self._names.learned(X, y, self._loss)
        X_, y_ = self._check_data(X, y, names=names)
        weights = row_weights(check_sample_weight(sample_weight, len(y_)), None, y_, self._loss, self.dtype)
        clipping, chosen = check_clipping(clip_norm, clip_value), get_optimizer(optimizer, learning_rate)

        def adopt(state: TrainingState) -> None:
            self._adopt(self.history, state, names)

        return self._alone(
            lambda: train_batch(
                self._engine, self._training_state, self._random, chosen, X_, y_, weights, clipping, adopt
            )
        )

    def gradients(
        self, X: Any, y: npt.ArrayLike, *, sample_weight: npt.ArrayLike | None = None
    ) -> tuple[float, list[Floats], list[Floats]]:
        """Return the mean loss plus the l2 penalty, and its gradients dW (I, O) and db (O,); no dropout, no noise."""
        X_, y_ = self._check_data(X, y)
        weights = row_weights(check_sample_weight(sample_weight, len(y_)), None, y_, self._loss, self.dtype)
        return self._engine.gradients(X_, y_, weights)

    def _alone(self, work: Callable[[], T]) -> T:
        """Call `work` and return what it returns, or raise RuntimeError while another call trains this network."""
        this_call = object()

        def begin_and_work() -> T:
            if self._trained_by.setdefault("call", this_call) is not this_call:
                raise RuntimeError("this network is being trained already")
            return work()

        def leave() -> None:
            if self._trained_by.get("call") is this_call:
                self._trained_by.clear()

        return finish(begin_and_work, leave)

    def _run(self, trainer: Trainer, names: Names | None = None) -> None:
        """Train. Callbacks already see the new history, training state and names."""

        def train() -> None:
            trainer.prepare()
            trainer.refused = partial(self._adopt, self.history, self._training_state, self._names)
            self._adopt(trainer.history, trainer.state, names or self._names)
            trainer.run()

        self._alone(train)

    def _adopt(self, history: History, state: TrainingState | None, names: Names) -> None:
        """Set all at once: no signal handler comes in between."""
        vars(self).update(history=history, _training_state=state, _names=names)

    # --- prediction ---------------------------------------------------------------------------------------------------

    def predict_proba(self, X: Any) -> Floats:
        """Return the probability of each class or label, (n, C), or of both classes of one logistic output, (n, 2).

        Raises
        ------
        TypeError
            If the network does regression, or X does not hold real numbers.
        """
        if not self._loss.classifies:
            raise TypeError(f"a network with output={self.output!r} has no probabilities; use predict")
        return self._engine.predict_proba(self._check_X(X))

    def predict(self, X: Any) -> npt.NDArray[Any]:
        """Return a prediction for each row, in the form of y.

        Softmax: the most probable class (n,), the first one of a tie. Logistic: 0 or 1, and regression: numbers, both
        (n, C), or (n,) for one output.
        """
        return self._names.decoded(self._engine.predict(self._check_X(X)))

    def score(self, X: Any, y: npt.ArrayLike, *, sample_weight: npt.ArrayLike | None = None) -> float:
        """Return the accuracy, for multilabel outputs that of whole rows; R² for regression."""
        X_, y_, weights = self._check_evaluation(X, y, sample_weight)
        if self._loss.classifies:
            return measure(self._engine, X_, y_, weights)["accuracy"]
        return r2(self._loss.decode(y_), self._engine.predict(X_), sample_weight=weights)

    def evaluate(
        self,
        X: Any,
        y: npt.ArrayLike,
        *,
        sample_weight: npt.ArrayLike | None = None,
        metrics: Iterable[str | Metric] = (),
    ) -> dict[str, float]:
        """Return the mean loss, except for regression the accuracy, and `metrics`, each under its name.

        Parameters
        ----------
        X, y
            As for `fit`.
        sample_weight : (n,) array_like or None
            Weight of each row in these means.
        metrics : iterable of str or callables
            See `fastmlp.metrics`.

        Returns
        -------
        dict of str to float
            ``{"loss": ..., "accuracy": ...}``.

        Raises
        ------
        TypeError, ValueError
            If an argument is wrong.
        """
        names = self._names.learned(X, y, self._loss)
        X_, y_, weights = self._check_evaluation(X, y, sample_weight, names=names)
        chosen = check_metrics(metrics, self._loss, weights, names.classes)
        return measure(self._engine, X_, y_, weights, metrics=chosen)

    def most_confused(self, X: Any, y: npt.ArrayLike, n: int = 5) -> list[Confusion]:
        """Return the `n` pairs of classes that the network confuses most often in these rows.

        Returns
        -------
        list of (true, predicted, n_rows)
            Named tuples, the most frequent first; `n_rows` rows of class `true` are predicted as `predicted`.

        Raises
        ------
        TypeError
            If rows have several labels, or numbers.
        """
        if not self._loss.n_classes:
            raise TypeError("most_confused needs rows of one class each; this network predicts labels or numbers")
        n = check_int("n", n, 1)
        names, (X_, y_, _) = self._names.learned(X, y, self._loss), self._check_evaluation(X, y)
        labels = self._engine.predict(X_)
        return confusions(names.decoded(self._loss.decode(y_)), names.decoded(labels), n)

    def wrong(self, X: Any, y: npt.ArrayLike, n: int = 10) -> list[Mistake]:
        """Return the `n` rows that the network predicts wrong with the largest losses.

        Returns
        -------
        list of (row, true, predicted, probability)
            Named tuples, the largest loss first; `probability` is that of the prediction.

        Raises
        ------
        TypeError
            If the network does regression.
        """
        if not self._loss.classifies:
            raise TypeError(f"a network with output={self.output!r} predicts numbers, which are not right or wrong")
        n = check_int("n", n, 1)
        names, (X_, y_, _) = self._names.learned(X, y, self._loss), self._check_evaluation(X, y)
        labels, p = self._engine.predict(X_), self._engine.predict_proba(X_)
        chosen = p.max(axis=1) if self._loss.n_classes else np.maximum(p, 1 - p)
        true = names.decoded(self._loss.decode(y_))
        return worst(true, names.decoded(labels), chosen, self._engine.losses(X_, y_)[0], n)

    def _check_X(self, X: Any) -> Any:
        self._names.check_features(X, "X")
        finite = not self._engine.checks_finite
        return check_X(X, self.layers[0], self.dtype, self.input_scale, finite=finite)

    def _check_data(
        self, X: Any, y: npt.ArrayLike, what: str = "", *, finite: bool = True, names: Names | None = None
    ) -> tuple[Any, Targets]:
        """Return rows and targets; `what` comes before their names in messages."""
        names = names or self._names.learned(X, y, self._loss)
        names.check_features(X, f"{what}X")
        X_ = check_X(X, self.layers[0], self.dtype, self.input_scale, f"{what}X", finite=finite)
        numbers = X_ if isinstance(X_, np.ndarray) else X_.data
        if any(np.may_share_memory(numbers, parameter) for parameter in self._engine.parameters):
            X_ = X_.copy()  # or training would write to its own input
        return X_, self._loss.check_y(names.encoded(y, f"{what}y"), X_.shape[0], self.dtype, f"{what}y")

    def _check_evaluation(
        self, X: Any, y: npt.ArrayLike, sample_weight: object = None, *, what: str = "", names: Names | None = None
    ) -> Evaluation:
        """Return rows, targets and weights that are to be measured."""
        finite = not self._engine.checks_finite or bool(what)
        X_, y_ = self._check_data(X, y, what, finite=finite, names=names)
        weights = check_sample_weight(sample_weight, len(y_))
        return X_, y_, row_weights(weights, None, y_, self._loss, np.float64)

    # --- copies and files ---------------------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        """Return all attributes, including those that a user has set, with copies of arrays and training state."""
        state = {name: value for name, value in vars(self).items() if name not in _NOT_COPIED}
        for name in ("history", "_random", "_training_state"):
            state[name] = copy.deepcopy(state[name])
        weights, biases = ([parameter.copy() for parameter in of_all] for of_all in (self.weights, self.biases))
        return state | {"n_threads": self.n_threads, "weights": weights, "biases": biases}

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = checkpoint.upgraded(state)
        n_threads, weights, biases = (state.pop(name) for name in ("n_threads", "weights", "biases"))
        vars(self).update(state)
        self._make_engine(n_threads)
        self._fill(weights, biases)
        if self._training_state is not None:
            self._training_state = self._training_state.copied_into(self._engine)

    def state_dict(self) -> dict[str, Any]:
        """Return settings, parameters and training state as arrays, numbers and strings, all of them copies.

        The training state is the optimizer with its state, the states of schedule and random generator, and the
        history. After `load_state_dict`, ``fit(..., resume=True)`` continues bit-identically, also in another process.
        """
        return self._parameters_dict() | checkpoint.training_dict(self.history, self._random, self._training_state)

    def _parameters_dict(self) -> dict[str, Any]:
        parameters = checkpoint.parameters_dict(self._settings(), self._engine.weights, self._engine.biases)
        return parameters | self._names.to_dict()

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned.

        Raises
        ------
        TypeError, ValueError
            If it is no such dict, is damaged, or belongs to a network with other settings. The network is unchanged.
        RuntimeError
            If the network is being trained.
        """
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"state_dict must be what state_dict() returns, not {type(state_dict).__name__}")

        def restore() -> None:
            saved = checkpoint.read(state_dict, "the state")
            checkpoint.check_same_settings(saved, self._settings(), "the state")
            self._restore(saved)

        self._alone(restore)

    def save(self, path: str | os.PathLike[str], *, training: bool = False) -> None:
        """Write settings and parameters to `path` (.npz); an older file is replaced as a whole or not at all.

        With ``training=True`` the whole `state_dict` is written. The number of threads is never saved.

        Raises
        ------
        TypeError
            If `path` is not the name of a file, or `training` not True or False.
        ValueError
            If parameters are not finite, since a fit has diverged; `load` would refuse the file.
        """
        check_path(path)
        state = self.state_dict() if check_bool("training", training) else self._parameters_dict()
        checkpoint.check_savable(state)
        storage.save_npz(path, **state)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Return the network that `save` wrote to `path`, with its training state if that was saved.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If the file is damaged or does not hold a network.
        """
        source = check_path(path)
        saved = checkpoint.read(storage.load_npz(path), source)
        try:
            net = cls._with_parameters(saved.weights, saved.biases, **saved.settings)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{source} is damaged: {error}") from error
        net._restore(saved)
        return net

    def _restore(self, saved: checkpoint.Saved) -> None:
        state = saved.training_state
        adopted = None if state is None else state.copied_into(self._engine)

        def restore() -> None:
            self._fill(saved.weights, saved.biases)
            self._adopt(saved.history, adopted, saved.names)
            if saved.random is not None:
                self._random = saved.random

        complete(restore)
