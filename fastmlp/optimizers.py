"""Optimizers: how a step changes the parameters, with the names and formulas of PyTorch.

``net.fit(X, y, optimizer=Adam(learning_rate=1e-3))``; a name such as ``optimizer="adam"`` uses the defaults. An
optimizer holds settings only. Its state, `slots` arrays in the shape of each parameter, belongs to the training loop.

In the formulas `w` is a parameter, `g` its gradient, and `t` counts steps from 1. `weight_decay` applies to weights and
biases, as in PyTorch; a network's `l2` applies to weights only.

To add an optimizer, write its class here, add it to `OPTIMIZERS`, and write the same formula in
`kernels/optimizers.py`, with the names of the coefficients here as its keyword arguments.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from fastmlp.validation.calls import advised_constructor
from fastmlp.validation.settings import check_bool, check_choice, check_float, check_number, is_list

__all__ = ["OPTIMIZERS", "SGD", "Adagrad", "Adam", "AdamW", "Optimizer", "RMSprop", "at_step", "get_optimizer"]

Floats: TypeAlias = npt.NDArray[Any]  # float32 or float64
Doubles: TypeAlias = npt.NDArray[np.float64]
Coefficients: TypeAlias = dict[str, Doubles]
"""What a formula takes in each of some steps, by name: (n_steps,) arrays."""

_TINY = float(np.finfo(np.float32).tiny)


def _check_eps(value: object) -> float:
    eps = check_float("eps", value, zero=False)
    if eps < _TINY:
        raise ValueError(f"eps must be at least {_TINY:g}, the smallest normal float32 number, not {eps}")
    return eps


def _decayed(gradient: Floats, parameter: Floats, weight_decay: float) -> Floats:
    return gradient + weight_decay * parameter if weight_decay else gradient


def _of_steps(n_steps: int, **coefficients: Doubles | float) -> Coefficients:
    """Return coefficients as arrays; a single number is the same in all steps."""
    arrays = dict(zip(coefficients, np.empty((len(coefficients), n_steps)), strict=True))
    for name, array in arrays.items():
        array[:] = coefficients[name]
    return arrays


def at_step(coefficients: Mapping[str, Doubles] | Doubles, step: int) -> Any:
    """Return the coefficients of one step, as `Optimizer.update` takes them.

    Parameters
    ----------
    coefficients : mapping of str to (n_steps,) arrays
        The result of `Optimizer.coefficients`; for optimizers written for earlier versions, an array with a row for
        each step.
    step : int
        Index of the step, from 0.

    Returns
    -------
    dict of str to float, or a row of the array
        The coefficients.
    """
    if isinstance(coefficients, np.ndarray):
        return coefficients[step]
    return {name: float(values[step]) for name, values in coefficients.items()}


@dataclass(frozen=True, kw_only=True)
class Optimizer(ABC):
    """Base class of optimizers: how a step changes each parameter, given its gradient.

    `fastmlp.reference.MLP` trains with any subclass; `fastmlp.MLP` has kernels only for those of this module.

    Parameters
    ----------
    learning_rate : float
        Learning rate. A schedule multiplies it in each step.

    Attributes
    ----------
    name : str
        Name of the optimizer in `OPTIMIZERS`.
    """

    learning_rate: float
    name: ClassVar[str]
    squares: ClassVar[int | None] = None
    """Which of the state arrays holds sums or means of squares, which are never negative."""

    def __post_init__(self) -> None:
        self._set(learning_rate=check_float("learning_rate", self.learning_rate, zero=False))

    def _set(self, **checked: object) -> None:
        """Replace settings by their checked values."""
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    @property
    def formula(self) -> str:
        """Name of the formula in `fastmlp.kernels.optimizers` that computes what `update` does with these settings."""
        return self.name

    @property
    def is_plain_sgd(self) -> bool:
        """Whether a step is ``w -= rate * g`` and nothing else: SGD without momentum and weight decay."""
        return False

    def rescaled(self, scale: float) -> Self:
        """Return an optimizer for gradients that are divided by a factor.

        Parameters
        ----------
        scale : float
            The factor.

        Returns
        -------
        Optimizer
            It does with a gradient g what this optimizer does with ``scale * g``.
        """
        return self

    @property
    @abstractmethod
    def slots(self) -> int:
        """Number of state arrays of each parameter."""

    @abstractmethod
    def coefficients(self, steps: npt.NDArray[np.int64], rates: Doubles) -> Coefficients:
        """Return the coefficients of the formula in each step.

        Parameters
        ----------
        steps : (n_steps,) int64 array
            Numbers of the steps, from 1.
        rates : (n_steps,) float64 array
            Learning rate of each of these steps.

        Returns
        -------
        dict of str to (n_steps,) float64 arrays
            Coefficients, by the names of the formula's keyword arguments.
        """

    def start(self, state: Sequence[Floats]) -> None:
        """Initialize the state of one parameter before the first step.

        Parameters
        ----------
        state : sequence of arrays
            The `slots` arrays, in the shape of the parameter.
        """
        for slot in state:
            slot[...] = 0

    @abstractmethod
    def update(
        self, parameter: Floats, gradient: Floats, state: Sequence[Floats], coefficients: Mapping[str, float]
    ) -> None:
        """Update one parameter and its state in place, element by element.

        Parameters
        ----------
        parameter : array
            The weights or biases of a layer.
        gradient : array
            Their gradient; it is not changed.
        state : sequence of arrays
            The `slots` arrays of the parameter.
        coefficients : mapping of str to float
            Coefficients of the step, from `at_step`.
        """


@advised_constructor
@dataclass(frozen=True, kw_only=True)
class SGD(Optimizer):
    """Stochastic gradient descent: ``w -= rate * g``; with momentum ``v = momentum * v + g; w -= rate * v``.

    With momentum, the state is as large as the parameters. On CSR rows, the cost of a step of plain SGD depends on
    their nonzeros; with momentum, `weight_decay` or `l2`, each step updates all weights.

    Parameters
    ----------
    learning_rate : float, default=0.1
        Learning rate.
    momentum : float in [0, 1), default=0.0
        Momentum; 0 is plain SGD.
    nesterov : bool, default=False
        Whether to use Nesterov's momentum, ``w -= rate * (g + momentum * v)``. Requires momentum.
    weight_decay : float, default=0.0
        Weight decay: ``g += weight_decay * w`` before the step.
    """

    learning_rate: float = 0.1
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0
    name: ClassVar[str] = "sgd"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._set(
            momentum=check_number("momentum", self.momentum, below=1),
            weight_decay=check_float("weight_decay", self.weight_decay),
            nesterov=check_bool("nesterov", self.nesterov),
        )
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov=True needs momentum, e.g. SGD(momentum=0.9, nesterov=True)")

    @property
    def formula(self) -> str:
        """One of sgd, momentum, nesterov."""
        return "nesterov" if self.nesterov else "momentum" if self.momentum else "sgd"

    @property
    def slots(self) -> int:
        """The velocity v, with momentum."""
        return int(self.momentum > 0)

    @property
    def is_plain_sgd(self) -> bool:
        """Whether a step is ``w -= rate * g`` and nothing else."""
        return type(self) is SGD and not self.momentum and not self.weight_decay

    def rescaled(self, scale: float) -> Self:
        """Return the optimizer that does with a gradient what this one does with `scale` times the gradient."""
        return replace(self, learning_rate=self.learning_rate * scale, weight_decay=self.weight_decay / scale)

    def coefficients(self, steps: npt.NDArray[np.int64], rates: Doubles) -> Coefficients:
        """Return rate and weight_decay, and momentum if there is one."""
        momentum = {"momentum": self.momentum} if self.momentum else {}
        return _of_steps(len(steps), rate=rates, weight_decay=self.weight_decay, **momentum)

    def update(
        self, parameter: Floats, gradient: Floats, state: Sequence[Floats], coefficients: Mapping[str, float]
    ) -> None:
        """Take one step."""
        c, g = coefficients, _decayed(gradient, parameter, coefficients["weight_decay"])
        if self.momentum:
            (v,) = state
            v[...] = c["momentum"] * v + g
            g = g + c["momentum"] * v if self.nesterov else v
        parameter -= c["rate"] * g


@advised_constructor
@dataclass(frozen=True, kw_only=True)
class Adam(Optimizer):
    """Adam (Kingma and Ba, 2015), from running means of g and of its square.

    ``m = beta1 * m + (1 - beta1) * g; v = beta2 * v + (1 - beta2) * g*g``;
    ``w -= rate * m / (1 - beta1**t) / (sqrt(v / (1 - beta2**t)) + eps)``, where the powers of beta1 and beta2 correct
    the bias of means that start from zero.

    The state is twice as large as the parameters. Each step updates all parameters, on CSR rows too.

    Parameters
    ----------
    learning_rate : float, default=0.001
        Learning rate.
    betas : pair of float in [0, 1), default=(0.9, 0.999)
        Decay rates beta1 and beta2 of the two means.
    eps : float, default=1e-8
        Added to the denominator for numerical stability.
    weight_decay : float, default=0.0
        Weight decay: ``g += weight_decay * w`` before the step.
    eps_hat : bool, default=False
        Whether `eps` is the "epsilon hat" of the paper's faster form, as in scikit-learn and TensorFlow:
        ``w -= rate * sqrt(1 - beta2**t) / (1 - beta1**t) * m / (sqrt(v) + eps)``.
    """

    learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    eps_hat: bool = False
    name: ClassVar[str] = "adam"
    squares: ClassVar[int | None] = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not is_list(self.betas) or len(self.betas) != 2:
            raise TypeError(f"betas must be a pair of numbers, e.g. (0.9, 0.999), not {self.betas!r}")
        self._set(
            betas=tuple(check_number(f"betas[{i}]", beta, below=1) for i, beta in enumerate(self.betas)),
            weight_decay=check_float("weight_decay", self.weight_decay),
            eps=_check_eps(self.eps),
            eps_hat=check_bool("eps_hat", self.eps_hat),
        )

    @property
    def slots(self) -> int:
        """The means m and v."""
        return 2

    def rescaled(self, scale: float) -> Self:
        """Return the optimizer that does with a gradient what this one does with `scale` times the gradient."""
        return replace(self, eps=self.eps / scale, weight_decay=self.weight_decay / scale)

    def coefficients(self, steps: npt.NDArray[np.int64], rates: Doubles) -> Coefficients:
        """Return rate, eps, weight_decay, the betas and their complements.

        The bias corrections are part of two of them: with ``rate * sqrt(1 - beta2**t) / (1 - beta1**t)`` and
        ``eps * sqrt(1 - beta2**t)`` the step is ``w -= rate * m / (sqrt(v) + eps)``. With `eps_hat` eps stays itself.
        """
        beta1, beta2 = self.betas
        root = np.sqrt(1 - beta2**steps)
        return _of_steps(
            len(steps),
            rate=rates * root / (1 - beta1**steps),
            eps=self.eps if self.eps_hat else self.eps * root,
            weight_decay=self.weight_decay,
            beta1=beta1,
            one_minus_beta1=1 - beta1,
            beta2=beta2,
            one_minus_beta2=1 - beta2,
        )

    def update(
        self, parameter: Floats, gradient: Floats, state: Sequence[Floats], coefficients: Mapping[str, float]
    ) -> None:
        """Take one step."""
        m, v = state
        c, g = coefficients, _decayed(gradient, parameter, coefficients["weight_decay"])
        m[...] = c["beta1"] * m + c["one_minus_beta1"] * g
        v[...] = c["beta2"] * v + c["one_minus_beta2"] * g * g
        parameter -= c["rate"] * m / (np.sqrt(v) + c["eps"])


@advised_constructor
@dataclass(frozen=True, kw_only=True)
class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019).

    Each step is ``w -= rate * weight_decay * w``, followed by a step of `Adam` without weight decay.

    Parameters
    ----------
    learning_rate : float, default=0.001
        Learning rate.
    betas : pair of float in [0, 1), default=(0.9, 0.999)
        Decay rates of the two means, as for `Adam`.
    eps : float, default=1e-8
        Added to the denominator for numerical stability.
    weight_decay : float, default=0.01
        Decoupled weight decay.
    eps_hat : bool, default=False
        Form of `eps`, as for `Adam`.
    """

    weight_decay: float = 0.01
    name: ClassVar[str] = "adamw"

    def rescaled(self, scale: float) -> Self:
        """Return the optimizer that does with a gradient what this one does with `scale` times the gradient."""
        return replace(self, eps=self.eps / scale)

    def coefficients(self, steps: npt.NDArray[np.int64], rates: Doubles) -> Coefficients:
        """Return those of Adam, with ``decay = rate * weight_decay`` in place of weight_decay."""
        coefficients = super().coefficients(steps, rates)
        coefficients["decay"] = coefficients.pop("weight_decay") * rates
        return coefficients

    def update(
        self, parameter: Floats, gradient: Floats, state: Sequence[Floats], coefficients: Mapping[str, float]
    ) -> None:
        """Take one step."""
        (m, v), c, g = state, coefficients, gradient
        m[...] = c["beta1"] * m + c["one_minus_beta1"] * g
        v[...] = c["beta2"] * v + c["one_minus_beta2"] * g * g
        parameter -= c["decay"] * parameter + c["rate"] * m / (np.sqrt(v) + c["eps"])


@advised_constructor
@dataclass(frozen=True, kw_only=True)
class RMSprop(Optimizer):
    """RMSprop (Hinton's lectures, 2012), from a running mean of g*g.

    ``v = alpha * v + (1 - alpha) * g*g; w -= rate * g / (sqrt(v) + eps)``.

    The state is one to three times as large as the parameters. Each step updates all parameters, on CSR rows too.

    Parameters
    ----------
    learning_rate : float, default=0.01
        Learning rate.
    alpha : float in [0, 1), default=0.99
        Decay rate of the mean.
    eps : float, default=1e-8
        Added to the denominator for numerical stability.
    weight_decay : float, default=0.0
        Weight decay: ``g += weight_decay * w`` before the step.
    momentum : float in [0, 1), default=0.0
        Momentum: ``u = momentum * u + g / (sqrt(v) + eps); w -= rate * u``.
    centered : bool, default=False
        Whether to replace v by ``v - m*m``, an estimate of the variance, with ``m = alpha * m + (1 - alpha) * g``.
    """

    learning_rate: float = 0.01
    alpha: float = 0.99
    eps: float = 1e-8
    weight_decay: float = 0.0
    momentum: float = 0.0
    centered: bool = False
    name: ClassVar[str] = "rmsprop"
    squares: ClassVar[int | None] = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._set(
            alpha=check_number("alpha", self.alpha, below=1),
            momentum=check_number("momentum", self.momentum, below=1),
            weight_decay=check_float("weight_decay", self.weight_decay),
            eps=_check_eps(self.eps),
            centered=check_bool("centered", self.centered),
        )

    @property
    def formula(self) -> str:
        """One of rmsprop, rmsprop_momentum, rmsprop_centered, rmsprop_centered_momentum."""
        return "rmsprop" + "_centered" * self.centered + "_momentum" * (self.momentum > 0)

    @property
    def slots(self) -> int:
        """In this order: the mean v; m if centered; u with momentum."""
        return 1 + self.centered + (self.momentum > 0)

    def rescaled(self, scale: float) -> Self:
        """Return the optimizer that does with a gradient what this one does with `scale` times the gradient."""
        return replace(self, eps=self.eps / scale, weight_decay=self.weight_decay / scale)

    def coefficients(self, steps: npt.NDArray[np.int64], rates: Doubles) -> Coefficients:
        """Return rate, eps, weight_decay, alpha and its complement, and momentum if there is one."""
        return _of_steps(
            len(steps),
            rate=rates,
            eps=self.eps,
            weight_decay=self.weight_decay,
            alpha=self.alpha,
            one_minus_alpha=1 - self.alpha,
            **({"momentum": self.momentum} if self.momentum else {}),
        )

    def update(
        self, parameter: Floats, gradient: Floats, state: Sequence[Floats], coefficients: Mapping[str, float]
    ) -> None:
        """Take one step."""
        v, *others = state
        c, g = coefficients, _decayed(gradient, parameter, coefficients["weight_decay"])
        v[...] = c["alpha"] * v + c["one_minus_alpha"] * g * g
        variance = v
        if self.centered:
            m = others[0]
            m[...] = c["alpha"] * m + c["one_minus_alpha"] * g
            variance = np.maximum(v - m * m, 0)  # rounding errors may make it negative
        step = g / (np.sqrt(variance) + c["eps"])
        if self.momentum:
            u = others[-1]
            u[...] = c["momentum"] * u + step
            step = u
        parameter -= c["rate"] * step


@advised_constructor
@dataclass(frozen=True, kw_only=True)
class Adagrad(Optimizer):
    """Adagrad (Duchi, Hazan and Singer, 2011): ``v += g*g; w -= rate * g / (sqrt(v) + eps)``.

    The state is as large as the parameters. Each step updates all parameters, on CSR rows too.

    Parameters
    ----------
    learning_rate : float, default=0.01
        Learning rate.
    lr_decay : float, default=0.0
        Decay of the learning rate: ``rate = learning_rate / (1 + (t - 1) * lr_decay)``.
    weight_decay : float, default=0.0
        Weight decay: ``g += weight_decay * w`` before the step.
    initial_accumulator_value : float, default=0.0
        Initial value of v.
    eps : float, default=1e-10
        Added to the denominator for numerical stability.
    """

    learning_rate: float = 0.01
    lr_decay: float = 0.0
    weight_decay: float = 0.0
    initial_accumulator_value: float = 0.0
    eps: float = 1e-10
    name: ClassVar[str] = "adagrad"
    squares: ClassVar[int | None] = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._set(
            lr_decay=check_float("lr_decay", self.lr_decay),
            weight_decay=check_float("weight_decay", self.weight_decay),
            initial_accumulator_value=check_float("initial_accumulator_value", self.initial_accumulator_value),
            eps=_check_eps(self.eps),
        )

    @property
    def slots(self) -> int:
        """The sum v."""
        return 1

    def rescaled(self, scale: float) -> Self:
        """Return the optimizer that does with a gradient what this one does with `scale` times the gradient."""
        accumulator = self.initial_accumulator_value / scale**2
        weight_decay = self.weight_decay / scale
        return replace(self, eps=self.eps / scale, weight_decay=weight_decay, initial_accumulator_value=accumulator)

    def coefficients(self, steps: npt.NDArray[np.int64], rates: Doubles) -> Coefficients:
        """Return rate, eps and weight_decay."""
        rate = rates / (1 + (steps - 1) * self.lr_decay)
        return _of_steps(len(steps), rate=rate, eps=self.eps, weight_decay=self.weight_decay)

    def start(self, state: Sequence[Floats]) -> None:
        """Fill v with `initial_accumulator_value`."""
        state[0][...] = self.initial_accumulator_value

    def update(
        self, parameter: Floats, gradient: Floats, state: Sequence[Floats], coefficients: Mapping[str, float]
    ) -> None:
        """Take one step."""
        (v,), c = state, coefficients
        g = _decayed(gradient, parameter, c["weight_decay"])
        v += g * g
        parameter -= c["rate"] * g / (np.sqrt(v) + c["eps"])


OPTIMIZERS: dict[str, Optimizer] = {
    "sgd": SGD(),
    "momentum": SGD(momentum=0.9),
    "nesterov": SGD(momentum=0.9, nesterov=True),
    "adam": Adam(),
    "adamw": AdamW(),
    "rmsprop": RMSprop(),
    "adagrad": Adagrad(),
}
"""The optimizers that have names."""


def get_optimizer(optimizer: object = None, learning_rate: object = None) -> Optimizer:
    """Return an optimizer, given as an object or by name.

    Parameters
    ----------
    optimizer : str, Optimizer or None, default=None
        An optimizer, or a key of `OPTIMIZERS` for one with default settings. None is "sgd".
    learning_rate : float or None, default=None
        Learning rate of an optimizer that is given by name; None is its default.

    Returns
    -------
    Optimizer
        The optimizer.

    Raises
    ------
    TypeError, ValueError
        If there is no such optimizer, or the learning rate is invalid, or given although `optimizer` has one.
    """
    if isinstance(optimizer, Optimizer):
        if learning_rate is not None:
            raise ValueError(
                f"learning_rate={learning_rate} conflicts with the optimizer's learning_rate="
                f"{optimizer.learning_rate}; set it only there: {type(optimizer).__name__}(learning_rate=...)"
            )
        return optimizer
    if isinstance(optimizer, type):
        raise TypeError(f"optimizer {optimizer.__name__} is a class; pass an instance: {optimizer.__name__}()")
    if not (optimizer is None or isinstance(optimizer, str)):
        raise TypeError(f"optimizer must be a name or an object of fastmlp.optimizers, not {optimizer!r}")
    name = "sgd" if optimizer is None else optimizer
    named = OPTIMIZERS[check_choice("optimizer", name, list(OPTIMIZERS), others=["an object of fastmlp.optimizers"])]
    return named if learning_rate is None else replace(named, learning_rate=cast(float, learning_rate))
