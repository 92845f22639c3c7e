"""What a fit has measured, epoch by epoch."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["History"]


@dataclass(repr=False)
class History:
    """Measurements of one fit: lists with one entry for each finished epoch.

    Attributes
    ----------
    loss, accuracy : list of float
        Means over the rows of the epoch, each batch measured before its update.
    val_loss, val_accuracy : list of float
        Measured on the validation data at the end of the epoch; empty without validation data.
    seconds : list of float
        Wall time of the epoch's training, without validation and callbacks at its end. Short epochs that nobody looks
        at are run several to a call, and share its time equally.
    interrupted : bool
        True when Ctrl-C ended the fit.
    steps : int
        All finished steps, also those of an epoch that was not finished.
    """

    loss: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    val_accuracy: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    interrupted: bool = False
    steps: int = 0

    def __repr__(self) -> str:
        """Return a line: a cell of a notebook shows it."""
        last = f": {self.last()}" if self.loss else ""
        return f"<History of {len(self.loss)} epochs{', interrupted' * self.interrupted}{last}>"

    def last(self) -> str:
        """Return what the last epoch has measured, in words."""
        names = ("loss", "accuracy", "val_loss", "val_accuracy")
        return ", ".join(f"{name} {values[-1]:.4f}" for name in names if (values := getattr(self, name)))

    def append(self, **measured: float) -> None:
        """Add one epoch: a number for each of the lists that it has."""
        for name, value in measured.items():
            getattr(self, name).append(value)
