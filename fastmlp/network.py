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
    """Multilayer perceptron for classification and regression, trained by minibatch gradient descent.

    In shapes, `n` is the number of rows, `I` and `O` are the inputs and outputs of a layer, and `C` is the number of
    outputs of the last layer.

    Parameters
    ----------
    layers : sequence of int
        Layer sizes from inputs to outputs, e.g. ``[784, 128, 10]``.
    activation : str or sequence of str, default="relu"
        Activation of the hidden layers: one name for all layers, or one for each. Names are the keys of
        `fastmlp.activations.ACTIVATIONS`, such as "relu", "gelu" and "tanh".
    output : {"softmax", "logistic", "identity", "exp"}, default="softmax"
        Activation of the last layer. It determines the loss:

        - "softmax", for C classes: cross-entropy;
        - "logistic", for two classes in one output or for multilabel targets: binary cross-entropy;
        - "identity", for regression: squared error;
        - "exp", for regression of counts: half the Poisson deviance.

        The loss is the mean over rows and, except for softmax, over outputs.
    init : {"he", "xavier", "normal"}, default="he"
        Initial weights are normal, with the standard deviation sqrt(2 / I) for "he", sqrt(2 / (I + O)) for "xavier" and
        0.01 for "normal". Biases start at zero.
    seed : int or None, default=0
        Seed of everything random: initial weights, order of the rows, dropout, noise, and the choice of validation
        rows. With None each network is different.
    n_threads : int or None, default=None
        Number of threads for training and prediction. None uses the cores available to this process, or one thread if a
        step is too small to share. Results are bit-identical for any number.
    dtype : {"float32", "float64"}, default="float32"
        Data type of the parameters and of all computation.
    first_layer : {"auto", "dense", "sparse"}, default="auto"
        Whether to skip multiplications by zeros in X; "auto" decides from X. Results are bit-identical. Zeros of a CSR
        matrix are always skipped.
    input_scale : float, default=1.0
        Factor by which X is multiplied, e.g. ``1 / 255`` for pixels from 0 to 255. A uint8 X is not converted first.
    label_smoothing : float in [0, 1), default=0.0
        With softmax, the one-hot targets t become ``(1 - label_smoothing) * t + label_smoothing / C``.
    l2 : float, default=0.0
        Strength of the L2 penalty: ``l2 / 2 * sum(W**2)`` over all weights, without biases, is added to the training
        loss.
    dropout : float in [0, 1) or sequence of float, default=0.0
        Fraction of the hidden units to drop at random in each training step: one number for all layers, or one for
        each. The remaining units are multiplied by ``1 / (1 - dropout)``.
    input_dropout : float in [0, 1), default=0.0
        Fraction of the inputs to drop at random in each training step.
    input_noise : float, default=0.0
        Standard deviation of the normal noise that is added to the inputs in each training step, after `input_scale`.

    Attributes
    ----------
    layers, activation, output, init, seed, dtype, first_layer, input_scale, label_smoothing, l2, dropout, \
input_dropout, input_noise
        The parameters above; read-only.
    n_threads : int or None
        The parameter above; it may be changed.
    activations : tuple of str
        Activation of each hidden layer.
    dropout_rates : tuple of float
        Dropout rate of the inputs of each layer.
    weights, biases : list of (I, O) arrays, list of (O,) arrays
        Parameters of each layer. The arrays are views: writing into them changes the network.
    n_parameters : int
        Number of weights and biases.
    feature_names : list of str or None
        Column names of the table that trained the network.
    classes : (C,) array or None
        Class names in the order of the outputs, if y had names.
    history : History
        Measurements of the last fit.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type or is out of range.

    See Also
    --------
    MLPClassifier, MLPRegressor : The same networks with the interface of scikit-learn.

    References
    ----------
    Kaiming He, Xiangyu Zhang, Shaoqing Ren and Jian Sun, "Delving deep into rectifiers", ICCV 2015 (init "he").

    X. Glorot and Y. Bengio, "Understanding the difficulty of training deep feedforward neural networks", AISTATS 2010
    (init "xavier").

    Examples
    --------
    >>> from fastmlp import MLP, datasets
    >>> X_train, y_train, X_test, y_test = datasets.load_mnist()
    >>> net = MLP([784, 128, 10], seed=0)
    >>> history = net.fit(X_train, y_train, epochs=10, batch_size=64, learning_rate=0.1)
    >>> net.score(X_test, y_test)
    0.9779
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
        """Train the network, starting from its current parameters.

        Parameters
        ----------
        X : (n, I) array_like, pandas or polars table, SciPy sparse matrix, or fastmlp.data.Blocks
            Training rows; all numbers must be finite. Arrays of the network's dtype or of uint8 are not copied, and of
            CSR matrices only the indices are. Other data are converted once. If X has many zeros, training makes a
            faster copy without them. The network remembers the column names of a table as `feature_names`; later tables
            must have the same columns in the same order.
        y : (n,) or (n, C) array_like, or None if X is Blocks, default=None
            Targets. For classes: integers from 0, strings, or one-hot rows. For logistic outputs: 0 and 1. For
            regression: numbers. Strings, and the column names of a one-hot table, are remembered as `classes`, and
            `predict` returns them.
        epochs : int, default=10
            Number of passes over the rows.
        batch_size : int, default=64
            Rows per step; the last batch of an epoch may be smaller.
        learning_rate : float or None, default=None
            Learning rate of an optimizer that is given by name. None is the optimizer's default: 0.1 for "sgd".
        optimizer : str, Optimizer or None, default=None
            An object of `fastmlp.optimizers`, or a key of `fastmlp.optimizers.OPTIMIZERS`, such as "sgd", "momentum" or
            "adam". None is "sgd". For CSR matrices, plain SGD updates only the weights of features that occur in the
            batch; other optimizers, weight decay, `l2` and clipping update all weights in every step.
        schedule : str, Schedule, callable or None, default=None
            How the learning rate changes; see `fastmlp.schedules`. A callable gets the number of the step, from 0, and
            returns a factor for the learning rate.
        sample_weight : (n,) array_like or None, default=None
            Weight of each row's loss, 0 or more. The loss of a batch is divided by the sum of its weights. A batch in
            which all weights are 0 is skipped.
        class_weight : "balanced", mapping, (C,) array_like or None, default=None
            Weight of each class, by which sample weights are multiplied. "balanced" gives all classes the same total
            weight.
        clip_norm, clip_value : float or None, default=None
            Gradient clipping. `clip_value` limits the absolute value of each element; then `clip_norm` limits the
            2-norm of the whole gradient.
        validation_data : (X, y), (X, y, sample_weight), Blocks or None, default=None
            Data to evaluate after each epoch.
        validation_fraction : float or None, default=None
            Fraction of the rows of each class to hold out as validation data. Every fit of this network to the same y
            holds out the same rows. The training rows are copied. Validation rows are not weighted by `sample_weight`.
            With Blocks, whole blocks are held out.
        metrics : iterable of str or callables, default=()
            Further metrics of the validation data; see `fastmlp.metrics`.
        shuffle : bool, default=True
            Whether to shuffle the rows before each epoch.
        progress : bool, default=False
            Whether to show a progress bar.
        callbacks : iterable of objects, default=()
            Objects whose methods are called during the fit; see `fastmlp.callbacks`.
        resume : bool, default=False
            Whether to continue the last fit, up to `epochs` in total, with the state of its optimizer and schedule;
            pass the same schedule again. If the other arguments are the same too, the result is bit-identical to one
            long fit. A fit of Blocks that stopped within an epoch continues at the next step of that epoch.

        Returns
        -------
        History
            Loss and accuracy of each epoch.

        Raises
        ------
        TypeError, ValueError
            If an argument is wrong. The network is unchanged.
        FloatingPointError
            If a loss is nan or infinite. That step is not applied.
        RuntimeError
            If the network is already being trained, by another thread or by the fit that called a callback.
        KeyboardInterrupt
            If Ctrl-C is pressed while kernels compile, before the first step. The network is unchanged.

        Warns
        -----
        ConvergenceWarning
            If the network has learned nothing; the message names likely reasons.
        UserWarning
            If Ctrl-C stops training. The steps taken so far are kept, and the finished epochs are returned.
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
        """Take one training step on a batch.

        The state of the optimizer carries over from the last step, whether of `fit` or `train_batch`, if that used the
        same kind of optimizer.

        Parameters
        ----------
        X, y : array_like
            Rows and targets of the batch, as for `fit`. They are not shuffled.
        learning_rate, optimizer, sample_weight, clip_norm, clip_value : optional
            As for `fit`.

        Returns
        -------
        float
            Mean loss of the batch before the step.

        Raises
        ------
        TypeError, ValueError
            If an argument is wrong. The network is unchanged.
        FloatingPointError
            If the loss is nan or infinite. The step is not applied.
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
        """Return the training loss of some rows and its gradients.

        The loss includes the L2 penalty. Dropout and noise are not applied.

        Parameters
        ----------
        X, y : array_like
            Rows and targets, as for `fit`.
        sample_weight : (n,) array_like or None, default=None
            Weight of each row's loss.

        Returns
        -------
        loss : float
            Mean loss of the rows, plus the penalty.
        dW : list of (I, O) arrays
            Gradient with respect to the weights of each layer.
        db : list of (O,) arrays
            Gradient with respect to the biases of each layer.

        Raises
        ------
        TypeError, ValueError
            If an argument is wrong.
        """
        X_, y_ = check_data(self, X, y)
        weights = row_weights(check_sample_weight(sample_weight, len(y_)), None, y_, self._loss, self.dtype)
        return self._engine.gradients(X_, y_, weights)

    # --- prediction ---------------------------------------------------------------------------------------------------

    def predict_proba(self, X: Any, *, out: StrPath | Floats | None = None) -> Floats:
        """Return the probability of each class or label.

        Parameters
        ----------
        X : (n, I) array_like, table, sparse matrix or Blocks
            Rows, as for `fit`.
        out : path, array or None, default=None
            Array to write into, or name of a .npy file to write, for Blocks with many rows. The file is replaced as a
            whole or not at all.

        Returns
        -------
        (n, C) array
            Probabilities; (n, 2), of both classes, for a single logistic output. If `out` is a path, a memory map of
            the file.

        Raises
        ------
        TypeError
            If the network does regression.
        TypeError, ValueError
            If X does not hold finite real numbers, or its columns are not those of training.
        """
        if not self._loss.classifies:
            raise TypeError(f"a network with output={self.output!r} has no probabilities; use predict")
        return self._predicted(self._engine.predict_proba, X, out)

    def predict(self, X: Any, *, out: StrPath | npt.NDArray[Any] | None = None) -> npt.NDArray[Any]:
        """Return the prediction for each row, in the form of y.

        Parameters
        ----------
        X : (n, I) array_like, table, sparse matrix or Blocks
            Rows, as for `fit`.
        out : path, array or None, default=None
            Where to write, as for `predict_proba`.

        Returns
        -------
        (n,) or (n, C) array
            With softmax, the most probable class (n,), or the first of equally probable ones. With logistic outputs, 0
            or 1 for each label, and for regression numbers: (n, C), or (n,) for a single output. If the classes have
            names, see `classes`, the names are returned.

        Raises
        ------
        TypeError, ValueError
            If X does not hold finite real numbers, or its columns are not those of training.
        """
        return self._predicted(lambda rows: self._names.decoded(self._engine.predict(rows)), X, out)

    def _predicted(self, predict: Callable[[Any], npt.NDArray[Any]], X: Any, out: Any) -> npt.NDArray[Any]:
        """Return predictions for an X that has not been checked yet."""
        if isinstance(X, Blocks):
            return collected(each_block(X, lambda rows: predict(self._check_X(rows)), out), X.n_rows, out)
        predictions = predict(self._check_X(X))
        return predictions if out is None else collected([predictions], len(predictions), out)

    def hidden_activations(self, X: Any) -> list[Floats]:
        """Return the outputs of the hidden layers, for example as features for another model.

        Parameters
        ----------
        X : (n, I) array_like, table or sparse matrix
            Rows, as for `predict`.

        Returns
        -------
        list of (n, O) arrays
            Outputs of each hidden layer after its activation, without dropout, in the network's dtype. NumPy computes
            them, so the last bits may differ from those of the kernels.

        Raises
        ------
        TypeError, ValueError
            If X does not hold finite real numbers, or its columns are not those of training.
        """
        return self._engine.hidden_activations(self._check_X(X, finite=True))

    def score(self, X: Any, y: npt.ArrayLike | None = None, *, sample_weight: npt.ArrayLike | None = None) -> float:
        """Return the accuracy, or R² for regression.

        Parameters
        ----------
        X : (n, I) array_like, table, sparse matrix or Blocks
            Rows, as for `fit`.
        y : (n,) or (n, C) array_like, or None if X is Blocks, default=None
            Targets, as for `fit`.
        sample_weight : (n,) array_like or None, default=None
            Weight of each row.

        Returns
        -------
        float
            Accuracy or R². With several labels, a row counts as correct only if all its labels are.

        Raises
        ------
        TypeError, ValueError
            If an argument is wrong.
        """
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
        """Return the mean loss, the accuracy and further metrics.

        Parameters
        ----------
        X : (n, I) array_like, table, sparse matrix or Blocks
            Rows, as for `fit`.
        y : (n,) or (n, C) array_like, or None if X is Blocks, default=None
            Targets, as for `fit`.
        sample_weight : (n,) array_like or None, default=None
            Weight of each row.
        metrics : iterable of str or callables, default=()
            Further metrics; see `fastmlp.metrics`.

        Returns
        -------
        dict of str to float
            Values by name, e.g. ``{"loss": 0.07, "accuracy": 0.98}``. For regression there is no accuracy.

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
        """Return the pairs of classes that the network confuses most often.

        Parameters
        ----------
        X, y : array_like
            Rows and their classes, as for `fit`.
        n : int, default=5
            Maximum number of pairs.

        Returns
        -------
        list of (true, predicted, n_rows)
            Named tuples, the most frequent confusion first: `n_rows` rows of class `true` are predicted as class
            `predicted`.

        Raises
        ------
        TypeError
            If the network predicts labels or numbers.
        TypeError, ValueError
            If an argument is wrong.
        """
        if not self._loss.n_classes:
            raise TypeError("most_confused needs rows of one class each; this network predicts labels or numbers")
        n = check_int("n", n, 1)
        names, (X_, y_) = self._names.learned(X, y, self._loss), check_data(self, X, y)
        labels = self._engine.predict(X_)
        return confusions(names.decoded(self._loss.decode(y_)), names.decoded(labels), n)

    def wrong(self, X: Any, y: npt.ArrayLike, n: int = 10) -> list[Mistake]:
        """Return the wrongly predicted rows with the largest losses.

        Parameters
        ----------
        X, y : array_like
            Rows and their classes or labels, as for `fit`.
        n : int, default=10
            Maximum number of rows.

        Returns
        -------
        list of (row, true, predicted, probability)
            Named tuples, the largest loss first. `probability` is the probability of the wrong prediction.

        Raises
        ------
        TypeError
            If the network does regression.
        TypeError, ValueError
            If an argument is wrong.
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
