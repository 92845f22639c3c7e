"""`Network`, what a network does: it trains and predicts. `fastmlp.MLP` and `fastmlp.reference.MLP` add an engine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from fastmlp.activations import Floats
from fastmlp.data.blocks import Blocks
from fastmlp.data.predictions import collected, each_block
from fastmlp.fitting import Evaluation, Fitting, check_data, check_evaluation, learned, weights_of
from fastmlp.history import History
from fastmlp.interchange.networks import NetworkMethods
from fastmlp.losses import Targets
from fastmlp.metrics import Metric, check_metrics, measure
from fastmlp.mistakes import Confusion, Mistake, confusions, worst
from fastmlp.names import Names
from fastmlp.optimizers import Optimizer, get_optimizer
from fastmlp.options import OptimizerName, ScheduleName
from fastmlp.schedules import Schedule
from fastmlp.storage import StrPath
from fastmlp.training import TrainingState, check_clipping, train_batch
from fastmlp.validation.calls import advised_methods, warn
from fastmlp.validation.inputs import check_X
from fastmlp.validation.rows import check_sample_weight, row_weights
from fastmlp.validation.settings import check_int

__all__ = ["Network"]


@advised_methods
class Network(NetworkMethods):
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

    # --- training -----------------------------------------------------------------------------------------------------

    def fit(
        self,
        X: Any,
        y: npt.ArrayLike | None = None,
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
        validation_data: tuple[Any, ...] | Blocks | None = None,
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
        X : (n, I) array_like, table of pandas or polars, sparse matrix of SciPy, or fastmlp.data.Blocks
            Finite numbers. Arrays of the network's dtype or uint8 are read in place, and so are the numbers of a CSR
            matrix, whose indices are copied; others are converted once. If X has many zeros, training makes a faster
            copy without them. The network remembers the names of a table's columns, see `feature_names`; later tables
            must have the same, in this order.
        y : (n,) or (n, C) array_like, or None if X is Blocks
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
        validation_data : (X, y), (X, y, sample_weight), Blocks or None
            Evaluated after each epoch.
        validation_fraction : float or None
            Fraction of the rows of each class to hold out as validation data. Every fit of this network to the same y
            holds out the same rows. The rows for training are copied. `sample_weight` does not weigh the others. Of
            Blocks, whole blocks are held out.
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
            to one long fit. A fit of Blocks that stopped within an epoch continues at the next step of that epoch.

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
        fitting = Fitting.of(
            self,
            X,
            y,
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            optimizer=optimizer,
            schedule=schedule,
            sample_weight=sample_weight,
            class_weight=class_weight,
            clip_norm=clip_norm,
            clip_value=clip_value,
            validation_data=validation_data,
            validation_fraction=validation_fraction,
            metrics=metrics,
            shuffle=shuffle,
            progress=progress,
            callbacks=callbacks,
            resume=resume,
        )
        fitting.run()
        for message, category in fitting.warnings():
            warn(message, category)
        return fitting.history

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
        X_, y_ = check_data(self, X, y, names=names)
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
        X_, y_ = check_data(self, X, y)
        weights = row_weights(check_sample_weight(sample_weight, len(y_)), None, y_, self._loss, self.dtype)
        return self._engine.gradients(X_, y_, weights)

    # --- prediction ---------------------------------------------------------------------------------------------------

    def predict_proba(self, X: Any, *, out: StrPath | Floats | None = None) -> Floats:
        """Return the probability of each class or label, (n, C), or of both classes of one logistic output, (n, 2).

        Parameters
        ----------
        X : (n, I) array_like, table, sparse matrix, or Blocks
            As for `fit`.
        out : path of a .npy file, array or None
            Where to write them, for Blocks with many rows. A file is complete or absent, and is returned as a memory
            map.

        Raises
        ------
        TypeError, ValueError
            If the network does regression, or as in `predict`.
        """
        if not self._loss.classifies:
            raise TypeError(f"a network with output={self.output!r} has no probabilities; use predict")
        return self._predicted(self._engine.predict_proba, X, out)

    def predict(self, X: Any, *, out: StrPath | npt.NDArray[Any] | None = None) -> npt.NDArray[Any]:
        """Return a prediction for each row, in the form of y.

        Softmax: the most probable class (n,), the first one of a tie. Logistic: 0 or 1, and regression: numbers, both
        (n, C), or (n,) for one output. Classes that have names are returned by name, see `classes`.

        Parameters
        ----------
        X, out
            As for `predict_proba`.

        Raises
        ------
        TypeError, ValueError
            If X does not hold finite real numbers, or the columns of a table are not those of training.
        """
        return self._predicted(lambda rows: self._names.decoded(self._engine.predict(rows)), X, out)

    def _predicted(self, predict: Callable[[Any], npt.NDArray[Any]], X: Any, out: Any) -> npt.NDArray[Any]:
        """Return predictions for an X that has not been checked yet."""
        if isinstance(X, Blocks):
            return collected(each_block(X, lambda rows: predict(self._check_X(rows)), out), X.n_rows, out)
        predictions = predict(self._check_X(X))
        return predictions if out is None else collected([predictions], len(predictions), out)

    def hidden_activations(self, X: Any) -> list[Floats]:
        """Return the outputs of the hidden layers, for example as features of another model.

        Parameters
        ----------
        X : (n, I) array_like, table or sparse matrix
            As for `predict`.

        Returns
        -------
        list of (n, units) arrays
            One for each hidden layer, of the network's dtype, after the activation and without dropout. They are
            computed by NumPy, so their last bits may differ from those of the kernels.

        Raises
        ------
        TypeError, ValueError
            As in `predict`.
        """
        return self._engine.hidden_activations(self._check_X(X, finite=True))

    def score(self, X: Any, y: npt.ArrayLike | None = None, *, sample_weight: npt.ArrayLike | None = None) -> float:
        """Return the accuracy, for multilabel outputs that of whole rows; R² for regression."""
        data = self._check_evaluation(X, y, sample_weight)
        name = "accuracy" if self._loss.classifies else "r2"
        metrics = {} if self._loss.classifies else check_metrics(["r2"], self._loss, weights_of(data))
        return measure(self._engine, *data, metrics=metrics)[name]

    def evaluate(
        self,
        X: Any,
        y: npt.ArrayLike | None = None,
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
        names = learned(self, X, y)
        data = self._check_evaluation(X, y, sample_weight, names=names)
        chosen = check_metrics(metrics, self._loss, weights_of(data), names.classes)
        return measure(self._engine, *data, metrics=chosen)

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
        names, (X_, y_) = self._names.learned(X, y, self._loss), check_data(self, X, y)
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
        names, (X_, y_) = self._names.learned(X, y, self._loss), check_data(self, X, y)
        labels, p = self._engine.predict(X_), self._engine.predict_proba(X_)
        chosen = p.max(axis=1) if self._loss.n_classes else np.maximum(p, 1 - p)
        true = names.decoded(self._loss.decode(y_))
        return worst(true, names.decoded(labels), chosen, self._engine.losses(X_, y_)[0], n)

    def _check_X(self, X: Any, finite: bool = False) -> Any:
        if self._names.features is not None:
            self._names.check_features(X, "X")
        finite = finite or not self._engine.checks_finite
        return check_X(X, self.layers[0], self.dtype, self.input_scale, finite=finite)

    def _check_data(self, X: Any, y: npt.ArrayLike, what: str = "", *, finite: bool = True) -> tuple[Any, Targets]:
        return check_data(self, X, y, what, finite=finite)

    def _check_evaluation(
        self, X: Any, y: npt.ArrayLike | None, sample_weight: object = None, *, names: Names | None = None
    ) -> Evaluation:
        return check_evaluation(self, X, y, sample_weight, names=names)
