"""Optimizers: what a step does with a gradient, with the names and formulas of PyTorch.

``net.fit(X, y, optimizer=Adam(learning_rate=1e-3))``; a name, ``optimizer="adam"``, takes the defaults. An optimizer
itself remembers nothing: who trains keeps its memory, `slots` arrays as large as the parameters.

In the formulas `w` is a parameter, `g` its gradient, and `t` counts steps from 1. `weight_decay` holds for weights and
biases alike, as in PyTorch; a network's `l2` holds for weights alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt

from fastmlp.validation.settings import (
    check_bool,
    check_choice,
    check_float32,
    check_learning_rate,
    check_number,
    is_list,
)

__all__ = ["SGD", "Adagrad", "Adam", "AdamW", "Optimizer", "RMSprop", "get_optimizer"]

Floats: TypeAlias = npt.NDArray[Any]  # float32 or float64
Doubles: TypeAlias = npt.NDArray[np.float64]

_TINY = float(np.finfo(np.float32).tiny)


def _check_eps(value: object) -> float:
    check_number("eps", value, zero=False)
    eps = check_float32("eps", value)
    if eps < _TINY:
        raise ValueError(f"eps must be at least {_TINY:g}, the least that float32 holds, not {eps}")
    return eps


def _decayed(gradient: Floats, parameter: Floats, weight_decay: float) -> Floats:
    return gradient + weight_decay * parameter if weight_decay else gradient


def _table(first: Doubles, *others: Doubles | float) -> Doubles:
    """Return columns (k,) as an array (k, m); a single number is the same in all rows."""
    table = np.empty((len(first), 1 + len(others)))
    for column, numbers in zip(table.T, (first, *others), strict=True):
        column[:] = numbers
    return table


@dataclass(frozen=True, kw_only=True)
class Optimizer(ABC):
    """What a step does with the gradient of each parameter.

    One of one's own trains `fastmlp.reference.MLP`; `fastmlp.MLP` has kernels for those of this module alone.

    Attributes
    ----------
    learning_rate : float
        A schedule multiplies it from step to step.
    name : str
        The name that `get_optimizer` knows.
    """

    learning_rate: float
    name: ClassVar[str]

    def __post_init__(self) -> None:
        self._set(learning_rate=check_learning_rate(self.learning_rate))

    def _set(self, **checked: object) -> None:
        """Put checked values in place of those that were handed in."""
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    def _check(self, *names: str) -> None:
        self._set(**{name: check_float32(name, getattr(self, name)) for name in names})

    def _check_parts(self, *names: str) -> None:
        self._set(**{name: check_number(name, getattr(self, name), below=1) for name in names})

    @property
    def formula(self) -> str:
        """Name of what `update` computes; some settings leave a part of it out."""
        return self.name

    @property
    @abstractmethod
    def slots(self) -> int:
        """Arrays of memory for each parameter."""

    @abstractmethod
    def coefficients(self, steps: npt.NDArray[np.int64], rates: Doubles) -> Doubles:
        """Return the numbers (k, m) that `update` takes in the `steps` (k,), counted from 1, of learning `rates` (k,).

        Its own docstring names the m columns of each optimizer.
        """

    def start(self, memory: Sequence[Floats]) -> None:
        """Fill the memory of one parameter, `slots` arrays, before the first step."""
        for slot in memory:
            slot[...] = 0

    @abstractmethod
    def update(self, parameter: Floats, gradient: Floats, memory: Sequence[Floats], coefficients: Doubles) -> None:
        """Change one parameter and its memory in place, element by element; `coefficients` (m,) are those of the step.

        Nothing is written into `gradient`.
        """


@dataclass(frozen=True, kw_only=True)
class SGD(Optimizer):
    """Stochastic gradient descent: ``w -= rate * g``; with momentum ``v = momentum * v + g; w -= rate * v``.

    With momentum it remembers as much again as the parameters. Plain, without weight decay and `l2`, a step on CSR rows
    costs what their numbers cost; all else passes over all weights, as every other optimizer does.

    Parameters
    ----------
    learning_rate : float
    momentum : float in [0, 1)
    nesterov : bool
        ``w -= rate * (g + momentum * v)``; needs momentum.
    weight_decay : float
        ``g += weight_decay * w`` comes first.
    """

    learning_rate: float = 0.1
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0
    name: ClassVar[str] = "sgd"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_parts("momentum")
        self._check("weight_decay")
        self._set(nesterov=check_bool("nesterov", self.nesterov))
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

    def coefficients(self, steps: npt.NDArray[np.int64], rates: Doubles) -> Doubles:
        """Rate, weight decay, momentum."""
        return _table(rates, self.weight_decay, self.momentum)

    def update(self, parameter: Floats, gradient: Floats, memory: Sequence[Floats], coefficients: Doubles) -> None:
        """Take one step."""
        rate, weight_decay, momentum = coefficients.tolist()
        g = _decayed(gradient, parameter, weight_decay)
        if self.momentum:
            (v,) = memory
            v[...] = momentum * v + g
            g = g + momentum * v if self.nesterov else v
        parameter -= rate * g


@dataclass(frozen=True, kw_only=True)
class Adam(Optimizer):
    """Adam of Kingma and Ba (2015), from running means of g and of its square.

    ``m = beta1 * m + (1 - beta1) * g; v = beta2 * v + (1 - beta2) * g*g``, both corrected for their start from zero;
    ``w -= rate * m / (1 - beta1**t) / (sqrt(v / (1 - beta2**t)) + eps)``.

    It remembers twice as much as the parameters, and each step passes over all of them, also on CSR rows.

    Parameters
    ----------
    learning_rate : float
    betas : pair of float in [0, 1)
    eps : float
    weight_decay : float
        ``g += weight_decay * w`` comes first.
    eps_hat : bool
        Whether eps is the one of the paper's faster form, as in scikit-learn and TensorFlow, where v is corrected
        apart from it: ``w -= rate * sqrt(1 - beta2**t) / (1 - beta1**t) * m / (sqrt(v) + eps)``.
    """

    learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    eps_hat: bool = False
    name: ClassVar[str] = "adam"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not is_list(self.betas) or len(self.betas) != 2:
            raise TypeError(f"betas must be a pair of numbers, e.g. (0.9, 0.999), not {self.betas!r}")
        self._set(betas=tuple(check_number(f"betas[{i}]", beta, below=1) for i, beta in enumerate(self.betas)))
        self._check("weight_decay")
        self._set(eps=_check_eps(self.eps), eps_hat=check_bool("eps_hat", self.eps_hat))

    @property
    def slots(self) -> int:
        """The means m and v."""
        return 2

    def coefficients(self, steps: npt.NDArray[np.int64], rates: Doubles) -> Doubles:
        """Rate and eps with the corrections for the start in them, weight decay, beta1, 1 - beta1, beta2, 1 - beta2.

        ``rate * sqrt(1 - beta2**t) / (1 - beta1**t)`` and ``eps * sqrt(1 - beta2**t)`` leave
        ``w -= rate * m / (sqrt(v) + eps)`` of the step. With `eps_hat` it is eps itself.
        """
        beta1, beta2 = self.betas
        root = np.sqrt(1 - beta2**steps)
        rate = rates * root / (1 - beta1**steps)
        eps = self.eps if self.eps_hat else self.eps * root
        return _table(rate, eps, self.weight_decay, beta1, 1 - beta1, beta2, 1 - beta2)

    def update(self, parameter: Floats, gradient: Floats, memory: Sequence[Floats], coefficients: Doubles) -> None:
        """Take one step."""
        rate, eps, weight_decay, old1, new1, old2, new2 = coefficients.tolist()
        m, v = memory
        g = _decayed(gradient, parameter, weight_decay)
        m[...] = old1 * m + new1 * g
        v[...] = old2 * v + new2 * g * g
        parameter -= rate * m / (np.sqrt(v) + eps)


@dataclass(frozen=True, kw_only=True)
class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019): ``w -= rate * weight_decay * w`` comes first.

    Parameters
    ----------
    learning_rate : float
    betas : pair of float in [0, 1)
    eps : float
    weight_decay : float
    eps_hat : bool
    """

    weight_decay: float = 0.01
    name: ClassVar[str] = "adamw"

    def coefficients(self, steps: npt.NDArray[np.int64], rates: Doubles) -> Doubles:
        """As those of Adam, but in place of the weight decay its product with the learning rate."""
        table = super().coefficients(steps, rates)
        table[:, 2] *= rates
        return table

    def update(self, parameter: Floats, gradient: Floats, memory: Sequence[Floats], coefficients: Doubles) -> None:
        """Take one step."""
        rate, eps, decay, old1, new1, old2, new2 = coefficients.tolist()
        m, v = memory
        m[...] = old1 * m + new1 * gradient
        v[...] = old2 * v + new2 * gradient * gradient
        parameter -= decay * parameter + rate * m / (np.sqrt(v) + eps)


@dataclass(frozen=True, kw_only=True)
class RMSprop(Optimizer):
    """RMSprop of Hinton's lecture (2012), from a running mean of g*g.

    ``v = alpha * v + (1 - alpha) * g*g; w -= rate * g / (sqrt(v) + eps)``.

    It remembers one to three times as much as the parameters, and each step passes over all of them, also on CSR rows.

    Parameters
    ----------
    learning_rate : float
    alpha : float in [0, 1)
    eps : float
    weight_decay : float
        ``g += weight_decay * w`` comes first.
    momentum : float in [0, 1)
        ``u = momentum * u + g / (sqrt(v) + eps); w -= rate * u``.
    centered : bool
        ``v - m*m``, an estimate of the variance, in place of v, where ``m = alpha * m + (1 - alpha) * g``.
    """

    learning_rate: float = 0.01
    alpha: float = 0.99
    eps: float = 1e-8
    weight_decay: float = 0.0
    momentum: float = 0.0
    centered: bool = False
    name: ClassVar[str] = "rmsprop"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_parts("alpha", "momentum")
        self._check("weight_decay")
        self._set(eps=_check_eps(self.eps))
        self._set(centered=check_bool("centered", self.centered))

    @property
    def formula(self) -> str:
        """One of rmsprop, rmsprop_momentum, rmsprop_centered, rmsprop_centered_momentum."""
        return "rmsprop" + "_centered" * self.centered + "_momentum" * (self.momentum > 0)

    @property
    def slots(self) -> int:
        """The mean v; m when centered; u with momentum; in this order."""
        return 1 + self.centered + (self.momentum > 0)

    def coefficients(self, steps: npt.NDArray[np.int64], rates: Doubles) -> Doubles:
        """Rate, eps, weight decay, alpha, 1 - alpha, momentum."""
        return _table(rates, self.eps, self.weight_decay, self.alpha, 1 - self.alpha, self.momentum)

    def update(self, parameter: Floats, gradient: Floats, memory: Sequence[Floats], coefficients: Doubles) -> None:
        """Take one step."""
        rate, eps, weight_decay, old, new, momentum = coefficients.tolist()
        v, *others = memory
        g = _decayed(gradient, parameter, weight_decay)
        v[...] = old * v + new * g * g
        variance = v
        if self.centered:
            m = others[0]
            m[...] = old * m + new * g
            variance = np.maximum(v - m * m, 0)  # rounding may take it below
        step = g / (np.sqrt(variance) + eps)
        if self.momentum:
            u = others[-1]
            u[...] = momentum * u + step
            step = u
        parameter -= rate * step


@dataclass(frozen=True, kw_only=True)
class Adagrad(Optimizer):
    """Adagrad of Duchi, Hazan and Singer (2011): ``v += g*g; w -= rate * g / (sqrt(v) + eps)``.

    It remembers as much again as the parameters, and each step passes over all of them, also on CSR rows.

    Parameters
    ----------
    learning_rate : float
    lr_decay : float
        ``rate = learning_rate / (1 + (t - 1) * lr_decay)``.
    weight_decay : float
        ``g += weight_decay * w`` comes first.
    initial_accumulator_value : float
        What v starts from.
    eps : float
    """

    learning_rate: float = 0.01
    lr_decay: float = 0.0
    weight_decay: float = 0.0
    initial_accumulator_value: float = 0.0
    eps: float = 1e-10
    name: ClassVar[str] = "adagrad"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check("lr_decay", "weight_decay", "initial_accumulator_value")
        self._set(eps=_check_eps(self.eps))

    @property
    def slots(self) -> int:
        """The sum v."""
        return 1

    def coefficients(self, steps: npt.NDArray[np.int64], rates: Doubles) -> Doubles:
        """Rate, eps, weight decay."""
        return _table(rates / (1 + (steps - 1) * self.lr_decay), self.eps, self.weight_decay)

    def start(self, memory: Sequence[Floats]) -> None:
        """Fill v with `initial_accumulator_value`."""
        memory[0][...] = self.initial_accumulator_value

    def update(self, parameter: Floats, gradient: Floats, memory: Sequence[Floats], coefficients: Doubles) -> None:
        """Take one step."""
        rate, eps, weight_decay = coefficients.tolist()
        (v,) = memory
        g = _decayed(gradient, parameter, weight_decay)
        v += g * g
        parameter -= rate * g / (np.sqrt(v) + eps)


_NAMES: dict[str, Optimizer] = {
    "sgd": SGD(),
    "momentum": SGD(momentum=0.9),
    "nesterov": SGD(momentum=0.9, nesterov=True),
    "adam": Adam(),
    "adamw": AdamW(),
    "rmsprop": RMSprop(),
    "adagrad": Adagrad(),
}


def get_optimizer(optimizer: object = None, learning_rate: object = None) -> Optimizer:
    """Return the optimizer that a user means.

    Parameters
    ----------
    optimizer : str, Optimizer or None
        A name stands for the defaults: sgd, momentum (0.9), nesterov (momentum 0.9), adam, adamw, rmsprop, adagrad.
        None is sgd.
    learning_rate : float or None
        In place of the default of a name.

    Raises
    ------
    TypeError, ValueError
        If there is no such optimizer, the learning rate is none, or it is given together with an object that has one.
    """
    if isinstance(optimizer, Optimizer):
        if learning_rate is not None:
            raise ValueError(
                f"learning_rate={learning_rate} is given beside an optimizer that has learning_rate="
                f"{optimizer.learning_rate}; give it there alone: {type(optimizer).__name__}(learning_rate=...)"
            )
        return optimizer
    if isinstance(optimizer, type):
        raise TypeError(f"optimizer {optimizer.__name__} is a class; pass an object of it: {optimizer.__name__}()")
    if not (optimizer is None or isinstance(optimizer, str)):
        raise TypeError(f"optimizer must be a name or an object of fastmlp.optimizers, not {optimizer!r}")
    named = _NAMES[check_choice("optimizer", "sgd" if optimizer is None else optimizer, list(_NAMES))]
    return named if learning_rate is None else replace(named, learning_rate=check_learning_rate(learning_rate))
