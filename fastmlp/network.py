"""`Network`: what a network does to learn, however it computes."""

from __future__ import annotations

import copy
import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmlp.activations import Floats
from fastmlp.callbacks import gather_callbacks
from fastmlp.history import History
from fastmlp.losses import Targets
from fastmlp.metrics import Metric, check_metrics
from fastmlp.model import Model
from fastmlp.optimizers import Optimizer, get_optimizer
from fastmlp.random import held_out
from fastmlp.schedules import Schedule, get_schedule
from fastmlp.training import Clipping, Descent, Fit, Outcome, Progress
from fastmlp.validation.settings import check_bool, check_number, check_positive_int
from fastmlp.validation.targets import check_class_weight, check_sample_weight

__all__ = ["Network"]


class Network(Model):  # noqa: D101
    __doc__ = Model.__doc__

    # --- what each kind of network computes in its own way ------------------------------------------------------------

    @abstractmethod
    def _train(
        self,
        outcome: Outcome,
        data: Any,
        y: Targets,
        orders: npt.NDArray[np.int64],
        batch_size: int,
        descent: Descent,
        on_step: Callable[[int], bool] | None = None,
    ) -> None:
        """Train on the rows of what `_prepare` has returned, in each of the `orders` (n_epochs, n).

        `outcome` says how far it came, also where something is raised. Now and then ``on_step(finished steps)`` is
        asked whether to go on.
        """

    @abstractmethod
    def _gradients(self, X: Any, y: Targets, row_weights: Floats | None) -> tuple[float, list[Floats], list[Floats]]:
        """Return the mean loss with the penalty, and the gradients of weights and biases."""

    def _prepare(self, X: Any, first_layer: str, optimizer: Optimizer, clipping: Clipping) -> Any:
        """Return X as `_train` takes it, for steps of this kind."""
        return X

    def _prepare_inference(self, X: Any) -> Any:
        """Return a checked X as it is best looked at many times, and do what takes long the first time."""
        return X

    def _epochs_at_once(self, X: Any, n_batches: int) -> int:
        """Return how many epochs may go into one call of `_train` when nobody looks in between; X is as it takes it."""
        return 1

    # --- the face -----------------------------------------------------------------------------------------------------

    def fit(
        self,
        X: Any,
        y: npt.ArrayLike,
        *,
        epochs: int = 10,
        batch_size: int = 64,
        learning_rate: float | None = None,
        optimizer: str | Optimizer | None = None,
        schedule: str | Schedule | Callable[[int], float] | None = None,
        sample_weight: npt.ArrayLike | None = None,
        class_weight: str | Mapping[int, float] | npt.ArrayLike | None = None,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        validation_data: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
        validation_fraction: float | None = None,
        metrics: Iterable[str | Metric] = (),
        shuffle: bool = True,
        progress: bool = False,
        callbacks: Iterable[object] = (),
        resume: bool = False,
    ) -> History:
        """Train from the present parameters.

        Parameters
        ----------
        X : (n, I) array_like or sparse matrix of SciPy
            Finite numbers. Numbers of the network's dtype, bytes (uint8) and CSR matrices are read in place; others are
            converted once. Zeros make it faster; where they are many, a copy without them is made.
        y : (n,) or (n, C) array_like
            Classes from 0 on, or one-hot rows; of logistic outputs 0 and 1; numbers.
        epochs : int
            Passes over the rows.
        batch_size : int
            Rows a step; the last batch of an epoch may be smaller.
        learning_rate : float or None
            That of the optimizer, where it is given by name; None is its default, for "sgd" 0.1.
        optimizer : str, Optimizer or None
            What a step makes of the gradient: a name of `fastmlp.optimizers.OPTIMIZERS`, such as "sgd" (which None
            is), "momentum" or "adam", or an object of `fastmlp.optimizers`. Plain SGD touches those weights alone whose
            features a batch of a CSR matrix has; every other one, weight decay, `l2` and the clips pass through all
            weights and their memory in each step.
        schedule : str, Schedule, callable or None
            How the learning rate changes from step to step, see `fastmlp.schedules`; a callable is given the step,
            counted from 0, and returns a factor.
        sample_weight : (n,) array_like or None
            Weight of each row's loss, 0 or more. The loss of a batch is divided by the sum of its weights; a batch
            whose weights are all 0 takes no step.
        class_weight : "balanced", mapping, (C,) array_like or None
            Weight of each class, times the sample's; "balanced" makes the sums of all classes equal.
        clip_norm, clip_value : float or None
            Bound of the 2-norm of the gradient of all parameters together; bound of each of its numbers, which is
            applied first.
        validation_data : pair (X, y) or None
            Evaluated after each epoch.
        validation_fraction : float or None
            Part of the rows, of each class alike, that is set aside as validation data: the same rows by each fit of
            this network to rows of these classes. The others are copied.
        metrics : iterable of str or callables
            What else is measured on the validation data, see `fastmlp.metrics`.
        shuffle : bool
            Draw a new order of the rows for each epoch.
        progress : bool
            Show a progress bar.
        callbacks : iterable of objects
            See `fastmlp.callbacks`.
        resume : bool
            Go on where the last fit stopped, up to `epochs` in all: with the optimizer's memory, and at the place of
            the schedule, which is to be passed again. If the other arguments are the same, so are the bits of a fit
            that was never stopped.

        Returns
        -------
        History
            Loss and accuracy of each epoch. Ctrl-C warns and returns the finished epochs; the steps of the unfinished
            epoch stay in the parameters. Before training begins, while kernels are compiled, it is a KeyboardInterrupt
            as everywhere, and the network is as before.

        Raises
        ------
        TypeError, ValueError
            If an argument does not fit; the network is as before.
        FloatingPointError
            If a loss is nan or infinite; that step is not taken.
        RuntimeError
            If the network is being trained already, by another thread or by the fit that calls this callback.
        """
        epochs, batch_size = check_positive_int("epochs", epochs), check_positive_int("batch_size", batch_size)
        shuffle, resume = check_bool("shuffle", shuffle), check_bool("resume", resume)
        clipping, measures = _check_clipping(clip_norm, clip_value), check_metrics(metrics, self._head)
        hooks = gather_callbacks(callbacks, progress)
        plan = get_schedule(schedule)
        X_, y_ = self._check_data(X, y, finite=validation_fraction is not None or not self._looks_itself)
        weights = check_sample_weight(sample_weight, len(y_))
        validation = self._check_validation(validation_data)
        if validation_fraction is not None:
            if validation is not None:
                raise ValueError("give validation_data or validation_fraction, not both")
            X_, y_, weights, validation = self._set_aside(X_, y_, weights, validation_fraction)
        row_weights = self._row_weights(y_, weights, class_weight)
        if measures and validation is None:
            raise ValueError("metrics are measured on validation data; give validation_data or validation_fraction")
        fit = Fit(
            net=self,
            hooks=hooks,
            progress=self._course(optimizer, learning_rate, plan, resume),
            schedule=plan,
            X=X_,
            y=y_,
            row_weights=row_weights,
            clipping=clipping,
            epochs=epochs,
            batch_size=batch_size,
            shuffle=shuffle,
            validation=validation,
            metrics=measures,
        )
        state = fit.state
        if resume:
            state.history = replace(copy.deepcopy(self.history), interrupted=False)
        fit.run()
        if state.history.interrupted:
            where = f"after epoch {state.epoch} of {epochs}"
            if state.step:
                where = f"in epoch {state.epoch + 1} of {epochs}, after step {state.step} of {state.n_batches}"
            warnings.warn(
                f"Ctrl-C stopped training {where}; the network keeps the parameters of then", UserWarning, stacklevel=2
            )
        return state.history

    def train_batch(
        self,
        X: Any,
        y: npt.ArrayLike,
        learning_rate: float | None = None,
        *,
        optimizer: str | Optimizer | None = None,
        sample_weight: npt.ArrayLike | None = None,
        clip_norm: float | None = None,
        clip_value: float | None = None,
    ) -> float:
        """Take one step on these rows, in their order, and return their mean loss before it.

        The arguments are those of `fit`. An optimizer goes on with the memory of the last step, of `fit` or here, if
        that was of the same kind.

        Raises
        ------
        TypeError, ValueError
            If an argument does not fit; the network is as before.
        FloatingPointError
            If the loss is nan or infinite; the step is not taken.
        RuntimeError
            If the network is being trained already.
        """
        X_, y_ = self._check_data(X, y)
        row_weights = self._row_weights(y_, check_sample_weight(sample_weight, len(y_)), None)
        clipping = _check_clipping(clip_norm, clip_value)
        chosen = get_optimizer(optimizer, learning_rate)
        outcome, order = Outcome.of(1), np.arange(len(y_))[None, :]
        with self._training():
            progress = self._progress
            if progress is None or not progress.fits(chosen):
                progress = Progress.begin(chosen, self._memory(chosen.slots))
            rates = np.array([chosen.learning_rate])
            coefficients = chosen.coefficients(np.array([progress.steps + 1]), rates)
            descent = Descent(chosen, progress.memory, rates, coefficients, row_weights, clipping, self._passes)
            self._train(outcome, self._prepare(X_, "dense", chosen, clipping), y_, order, len(y_), descent)
            if outcome.bad_loss is not None:
                raise FloatingPointError(f"loss is {outcome.bad_loss}; lower learning_rate")
            self._progress = replace(progress, optimizer=chosen, steps=progress.steps + 1)
            self._passes += 1
        return float(outcome.mean_losses(y_, row_weights, 1)[0])

    def gradients(
        self, X: Any, y: npt.ArrayLike, *, sample_weight: npt.ArrayLike | None = None
    ) -> tuple[float, list[Floats], list[Floats]]:
        """Return the mean loss of these rows, with the penalty, and its gradients, dW (I, O) and db (O,) of each layer.

        Nothing is left out or added at random.
        """
        X_, y_ = self._check_data(X, y)
        return self._gradients(X_, y_, self._row_weights(y_, check_sample_weight(sample_weight, len(y_)), None))

    # --- what a fit is given ------------------------------------------------------------------------------------------

    def _course(self, optimizer: object, learning_rate: object, schedule: Schedule, resume: bool) -> Progress:
        """Return the progress that a fit begins with."""
        if not resume:
            chosen = get_optimizer(optimizer, learning_rate)
            return Progress.begin(chosen, self._memory(chosen.slots), type(schedule).__name__)
        if self._progress is None:
            raise ValueError("resume=True needs a fit to go on from, but this network has not been trained")
        return self._progress.go_on(optimizer, learning_rate, schedule)

    def _check_validation(self, validation_data: object) -> tuple[Any, Targets] | None:
        if validation_data is None:
            return None
        if not isinstance(validation_data, (tuple, list)) or len(validation_data) != 2:
            raise TypeError("validation_data must be a pair (X, y)")
        X, y = validation_data
        return self._check_data(X, y, "validation ")

    def _row_weights(self, y: Targets, weights: Floats | None, class_weight: object) -> Floats | None:
        """Return the weight of each row, its own times that of its class, or None where all are 1."""
        classes = self._head.decode(y)
        of_classes = check_class_weight(class_weight, classes, self._head.n_classes)
        if of_classes is not None:
            weights = of_classes[classes] * (1 if weights is None else weights)
        if weights is None:
            return None
        with np.errstate(over="ignore", under="ignore"):
            row_weights = weights.astype(self.dtype)
            total = row_weights.sum(dtype=np.float64)
        if not 0 < total < np.inf:
            advice = "make them smaller" if total else "some must be more than 0"
            raise ValueError(f"the weights of all rows add up to {total}; {advice}")
        return row_weights

    def _set_aside(
        self, X: Any, y: Targets, weights: Floats | None, fraction: object
    ) -> tuple[Any, Targets, Floats | None, tuple[Any, Targets]]:
        """Return X, y and weights of the rows to train on, and the rows set aside."""
        fraction = check_number("validation_fraction", fraction, below=1, zero=False)
        groups = self._head.decode(y) if self._head.n_classes else np.zeros(len(y), np.int32)
        aside = held_out(groups, fraction, self._regularization_seed)
        if not aside.any():
            raise ValueError(f"validation_fraction={fraction} sets no row aside: y has one row of each class")
        kept = ~aside
        return X[kept], y[kept], None if weights is None else weights[kept], (X[aside], y[aside])

    def _measures(self, validated: bool, metrics: Iterable[str]) -> tuple[str, ...]:
        """Return the names in the history of all that a fit measures."""
        names = ["loss", "accuracy"] if self._head.classifies else ["loss"]
        return (*names, *(f"val_{name}" for name in [*names, *metrics] if validated))


def _check_clipping(clip_norm: object, clip_value: object) -> Clipping:
    given = {"clip_norm": clip_norm, "clip_value": clip_value}
    return Clipping(*(None if v is None else check_number(name, v, zero=False) for name, v in given.items()))
