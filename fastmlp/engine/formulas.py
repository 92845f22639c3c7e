"""The parts of an optimizer that kernels read: its formula, coefficients and state, all of them checked here.

Kernels do not check what they read. An optimizer may be of a user's own class, so nothing that it says about itself
reaches a kernel: the number of state arrays and of coefficients are those of the kernel's formula.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmlp.activations import Floats
from fastmlp.engine.base import NO_CLIPPING, Clipping, StepPlan
from fastmlp.kernels.optimizers import FORMULAS, coefficient_names, coefficient_table
from fastmlp.optimizers import SGD, Optimizer

__all__ = ["check_formula", "n_slots", "no_steps", "step_table"]


@cache
def n_slots(formula: str) -> int:
    """Return the number of state arrays that a formula keeps of each parameter."""
    return len(inspect.signature(FORMULAS[formula]).parameters) - len(coefficient_names(FORMULAS[formula])) - 2


def check_formula(optimizer: Optimizer) -> str:
    """Return the name of the formula that computes what `optimizer` does.

    Raises
    ------
    TypeError
        If there is none, or the optimizer does not fit it.
    """
    name, formula = type(optimizer).__name__, optimizer.formula
    known = isinstance(formula, str) and formula in FORMULAS
    if not known or type(optimizer).update.__module__ != SGD.update.__module__:
        raise TypeError(f"fastmlp.MLP has no kernel for the optimizer {name}; fastmlp.reference.MLP takes any")
    slots = optimizer.slots
    if slots != n_slots(formula):
        raise TypeError(
            f"the optimizer {name} has slots={slots!r}, but the formula {formula!r} keeps {n_slots(formula)} arrays of "
            "each parameter; do not override slots and formula"
        )
    if type(optimizer).__module__ != SGD.__module__:  # its own coefficients should fail before training begins
        rates = np.full(2, optimizer.learning_rate)
        step_table(formula, StepPlan(optimizer, [], rates, optimizer.coefficients(np.arange(1, 3), rates)), 2)
    return formula


def no_steps(n_steps: int, formula: str | None = None, state: list[list[Floats]] | None = None) -> StepPlan:
    """Return the plan of steps that change nothing."""
    zeros = np.zeros(n_steps)
    coefficients = dict.fromkeys(coefficient_names(FORMULAS[formula or "sgd"]), zeros)
    return StepPlan(SGD(), state or [], zeros, coefficients)


def step_table(
    formula: str,
    plan: StepPlan,
    n_steps: int,
    l2: float | npt.NDArray[np.float64] = 0.0,
    clipping: Clipping = NO_CLIPPING,
) -> npt.NDArray[np.float64]:
    """Return the table (n_steps, m) from which the kernels read the coefficients of each step.

    Raises
    ------
    TypeError, ValueError
        If the coefficients of the plan are not those of the formula, a number for each step.
    """
    given: Any = plan.coefficients
    names = coefficient_names(FORMULAS[formula])
    if not isinstance(given, Mapping) or not all(name in given for name in names):
        what = f"the keys {list(given)}" if isinstance(given, Mapping) else f"a {type(given).__name__}"
        raise TypeError(f"{_method(plan)} must return a dict with the keys {names}, not {what}")
    for name in names:
        numbers = given[name]
        if not isinstance(numbers, np.ndarray) or numbers.shape != (n_steps,):
            shape = f"an array of shape {numbers.shape}" if isinstance(numbers, np.ndarray) else repr(numbers)
            raise ValueError(f"{_method(plan)}: {name!r} must be a number for each of {n_steps} steps, not {shape}")
    bounds = [math.inf if bound is None else bound for bound in (clipping.value, clipping.norm)]
    table: npt.NDArray[np.float64] = coefficient_table(formula, given, l2, *bounds)
    return table


def _method(plan: StepPlan) -> str:
    return f"coefficients of the optimizer {type(plan.optimizer).__name__}"
