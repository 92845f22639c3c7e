"""`TrainingState`, from which a later fit resumes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self, cast

from fastmlp.activations import Floats
from fastmlp.engine.base import Engine
from fastmlp.optimizers import Optimizer, get_optimizer
from fastmlp.schedules import Schedule
from fastmlp.validation.settings import check_float, check_int

__all__ = ["TrainingState", "Unfinished"]


@dataclass(frozen=True)
class Unfinished:
    """How far an epoch over blocks has come, and what it has measured.

    Attributes
    ----------
    key : int
        From which the order of its rows follows.
    steps : int
    loss, penalty : float
        Sums over its rows and its steps.
    correct : int
    seconds : float
    n_rows, batch_size : int
        Of the epoch.
    order : int
        Checksum of what else the order of its rows follows from; 0 if that is not known.
    """

    key: int
    steps: int = 0
    loss: float = 0.0
    penalty: float = 0.0
    correct: int = 0
    seconds: float = 0.0
    n_rows: int = 0
    batch_size: int = 0
    order: int = 0


@dataclass
class TrainingState:
    """What training needs to resume, beside the parameters.

    Attributes
    ----------
    optimizer : Optimizer
    optimizer_state : list of lists of arrays
        Slots of each parameter, weights first, then biases.
    steps : int
        Steps that `optimizer_state` has seen.
    epochs : int
        Finished epochs of the schedule.
    schedule : str
        Name of the schedule's class.
    schedule_state : dict
        What the schedule remembered at the end of the last finished epoch.
    learning_rate_factor : float
        Set by callbacks.
    unfinished : Unfinished or None
        An epoch over blocks that has begun.
    batch_size : int
        Of the last fit, for reports; 0 if it is not known.
    """

    optimizer: Optimizer
    optimizer_state: list[list[Floats]]
    steps: int = 0
    epochs: int = 0
    schedule: str = "Constant"
    schedule_state: Mapping[str, Any] = field(default_factory=dict)
    learning_rate_factor: float = 1.0
    unfinished: Unfinished | None = None
    batch_size: int = 0

    @classmethod
    def new(cls, optimizer: Optimizer, engine: Engine, schedule: str = "Constant") -> Self:
        """Return the state before the first step."""
        check_float("learning_rate", optimizer.learning_rate, zero=False)  # a user's class may not have checked it
        engine.check_optimizer(optimizer)
        n_slots = check_int(f"slots of the optimizer {type(optimizer).__name__}", optimizer.slots, 0)
        state = engine.new_state(n_slots)
        if n_slots:
            for slots in state:
                optimizer.start(slots)
        return cls(optimizer, state, schedule=schedule)

    def fits(self, optimizer: Optimizer) -> bool:
        """Return whether `optimizer` can continue with this optimizer state."""
        return type(optimizer) is type(self.optimizer) and optimizer.formula == self.optimizer.formula

    def resumed(self, optimizer: object, learning_rate: object, schedule: Schedule) -> Self:
        """Return the state from which ``fit(..., resume=True)`` with these arguments continues; arrays are shared."""
        chosen = self.optimizer
        if optimizer is not None:
            chosen = get_optimizer(optimizer, learning_rate)
        elif learning_rate is not None:
            chosen = replace(self.optimizer, learning_rate=cast(float, learning_rate))
        if not self.fits(chosen):
            raise ValueError(f"resume=True continues with {self.optimizer!r}, not with {chosen!r}")
        if type(schedule).__name__ != self.schedule:
            before, given = (kind.replace("_Function", "function") for kind in (self.schedule, type(schedule).__name__))
            raise ValueError(f"resume=True continues with the schedule {before}, not {given}; pass it again")
        return replace(self, optimizer=chosen)

    def copied_into(self, engine: Engine) -> Self:
        """Return the same state with the optimizer state in arrays of `engine`."""
        own = engine.new_state(self.optimizer.slots)
        for slots, given in zip(own, self.optimizer_state, strict=True):
            for slot, values in zip(slots, given, strict=True):
                slot[...] = values
        return replace(self, optimizer_state=own)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Unpickle; older pickles call the state `memory`, and the class `Progress`."""
        if "memory" in state:
            state = state | {"optimizer_state": state["memory"]}
            del state["memory"]
        vars(self).update(state)
