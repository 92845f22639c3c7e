"""`LearningRateFinder`, the learning rate range test. It is public in `fastmlp.callbacks`."""

from __future__ import annotations

import copy
import math
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from fastmlp.activations import Floats
from fastmlp.engine.base import Engine
from fastmlp.optimizers import Optimizer, at_step, get_optimizer
from fastmlp.options import OptimizerName
from fastmlp.validation.calls import advised, advised_constructor
from fastmlp.validation.settings import check_int, check_number

__all__ = ["LearningRateFinder"]


class _Net(Protocol):
    """What the test uses of a network."""

    @property
    def seed(self) -> int | None: ...
    @property
    def weights(self) -> list[Floats]: ...
    @property
    def biases(self) -> list[Floats]: ...
    @property
    def _engine(self) -> Engine: ...
    def _check_data(self, X: Any, y: npt.ArrayLike) -> tuple[Any, Any]: ...


@advised_constructor
class LearningRateFinder:
    """Suggest a learning rate by training a copy of a network with growing rates: the learning rate range test [1]_.

    This is not a callback. Use it before `fit`:
    ``net.fit(X, y, learning_rate=LearningRateFinder().find(net, X, y))``.

    Parameters
    ----------
    low, high : float, default=1e-6, 10.0
        First and last learning rate.
    steps : int, default=100
        Number of steps. The rate grows by the same factor from step to step. The test ends early if the loss explodes.

    Attributes
    ----------
    rates, losses, smooth_losses : (k,) float64 arrays
        Learning rate of each step, loss of its batch before the step, and a running mean of the losses.
    suggestion : float
        Learning rate at which the running mean falls fastest.

    References
    ----------
    .. [1] Leslie N. Smith, "Cyclical learning rates for training neural networks", WACV 2017.
    """

    __module__ = "fastmlp.callbacks"  # where users and pickles find it

    def __init__(self, low: float = 1e-6, high: float = 10.0, steps: int = 100) -> None:
        self.low, self.high = check_number("low", low, zero=False), check_number("high", high, zero=False)
        if self.low >= self.high:
            raise ValueError(f"low must be below high, but low is {low} and high is {high}")
        self.steps = check_int("steps", steps, 10)

    @advised
    def find(
        self,
        net: _Net,
        X: Any,
        y: npt.ArrayLike,
        *,
        optimizer: OptimizerName | Optimizer | None = None,
        batch_size: int = 64,
    ) -> float:
        """Run the test and return the suggested learning rate.

        Parameters
        ----------
        net : MLP
            The network; it is not changed. Dropout and noise are not applied.
        X, y : array_like
            Rows and targets, as for `MLP.fit`.
        optimizer : str, Optimizer or None, default=None
            Optimizer, as for `MLP.fit`.
        batch_size : int, default=64
            Rows per step.

        Returns
        -------
        float
            The attribute `suggestion`.

        Raises
        ------
        ValueError
            If the loss does not fall at any of the learning rates.
        """
        if isinstance(net, type) or not hasattr(net, "_check_data"):
            raise TypeError(f"net must be a network, e.g. MLP([784, 128, 10]), not {net!r}")
        X_, y_ = net._check_data(X, y)
        twin, chosen = copy.deepcopy(net), get_optimizer(optimizer)
        parameters = twin.weights + twin.biases
        states = [[np.empty_like(parameter) for _ in range(chosen.slots)] for parameter in parameters]
        for state in states:
            chosen.start(state)
        n_rows = min(check_int("batch_size", batch_size, 1), len(y_))
        order = np.random.default_rng(net.seed).permutation(len(y_))
        batches = np.resize(order, (self.steps, n_rows))
        rates = np.geomspace(self.low, self.high, self.steps)
        coefficients = chosen.coefficients(np.arange(self.steps) + 1, rates)
        losses: list[float] = []
        with np.errstate(over="ignore", invalid="ignore"):  # the last steps are expected to explode
            for step, rows in enumerate(batches):
                loss, dw, db = twin._engine.gradients(X_[rows], y_[rows], None)
                if not loss < 4 * (losses[0] if losses else math.inf):
                    break
                losses.append(loss)
                for parameter, gradient, state in zip(parameters, dw + db, states, strict=True):
                    chosen.update(parameter, gradient, state, at_step(coefficients, step))
        if not losses:
            raise ValueError("the loss is nan or infinite before the first step")
        self.rates, self.losses = rates[: len(losses)], np.array(losses)
        self.smooth_losses = _running_mean(self.losses, self.steps / 40)
        falling = self.smooth_losses[: self.smooth_losses.argmin() + 1]
        noise = np.std((self.losses - self.smooth_losses)[: len(falling)])
        if len(falling) < 2 or falling[0] - falling[-1] < 2 * noise:
            raise ValueError(f"the loss falls at none of the learning rates from {self.low:g} to {self.high:g}")
        self.suggestion = float(self.rates[np.gradient(falling).argmin()])
        return self.suggestion

    def plot(self, ax: Any = None) -> Any:
        """Plot the losses over the learning rates.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Where to plot. None makes a new figure.

        Returns
        -------
        matplotlib Axes
            `ax`, or the new Axes.

        Raises
        ------
        ValueError
            If `find` has not been called yet.
        """
        if not hasattr(self, "suggestion"):
            raise ValueError("nothing has been found yet; call find(net, X, y) first")
        from fastmlp.plots.colors import CURVES
        from fastmlp.plots.display import check_axes, new_axes

        check_axes(ax)
        ax = new_axes(1)[0] if ax is None else ax
        ax.plot(self.rates, self.losses, ".", color=CURVES[0], alpha=0.3)
        ax.plot(self.rates, self.smooth_losses, color=CURVES[0])
        ax.axvline(self.suggestion, color=CURVES[1], label=f"suggestion {self.suggestion:.2g}")
        ax.set(xscale="log", xlabel="learning rate", ylabel="loss")
        ax.grid(alpha=0.3)
        ax.legend(frameon=False)
        return ax


def _running_mean(values: npt.NDArray[np.float64], width: float) -> npt.NDArray[np.float64]:
    """Return averages over neighbours on both sides, with Gaussian weights of this width."""
    positions = np.arange(len(values))
    weights = np.exp(-0.5 * ((positions[:, None] - positions) / width) ** 2)
    means: npt.NDArray[np.float64] = weights @ values / weights.sum(axis=1)
    return means
