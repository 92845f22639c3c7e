"""The result of a search: a table of its trials, the best first."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastmlp.history import History
from fastmlp.mlp import MLP

__all__ = ["SearchResult", "Trial"]

_SHOWN = 10  # trials


@dataclass
class Trial:
    """A trial of a search: settings and their scores.

    Attributes
    ----------
    number : int
        Number of the trial, from 0, in the order in which trials were drawn.
    settings : dict
        Settings drawn from the space.
    scores : list of float
        Metric on the validation data of each fold, or of the only split; nan if the trial failed.
    epochs : int
        Number of epochs after which the network was scored: all that it was trained for, or up to the best one if
        `EarlyStopping` restored it. With folds, the rounded mean.
    rung : int
        Number of finished rungs of successive halving.
    histories : list of History
        Measurements of each fold.
    error : str or None
        Reason why the trial failed.
    """

    number: int
    settings: dict[str, Any]
    scores: list[float] = field(default_factory=list)
    epochs: int = 0
    rung: int = 0
    histories: list[History] = field(default_factory=list)
    error: str | None = None

    @property
    def score(self) -> float:
        """Mean of the scores; nan if the trial failed."""
        return math.nan if self.error or not self.scores else float(np.mean(self.scores))

    @property
    def std(self) -> float:
        """Standard deviation of the scores of the folds."""
        return math.nan if self.error or not self.scores else float(np.std(self.scores))

    @property
    def seconds(self) -> float:
        """Training time of all folds together, in seconds."""
        return sum(sum(history.seconds) for history in self.histories)


@dataclass(repr=False)
class SearchResult:
    """The trials of a search, and the best network.

    Attributes
    ----------
    trials : list of Trial
        The best first: those that finished more rungs, then those with the better score, then those drawn earlier.
        Failed trials are last.
    metric : str
        Name of the score in the histories, such as "val_accuracy".
    best_net : MLP or None
        The network with the best settings, see `search`.
    interrupted : bool
        Whether Ctrl-C ended the search.
    """

    trials: list[Trial]
    metric: str
    best_net: MLP | None = None
    interrupted: bool = False

    @property
    def best_settings(self) -> dict[str, Any]:
        """What was drawn for the best trial."""
        return dict(self.trials[0].settings)

    @property
    def best_score(self) -> float:
        """Its score."""
        return self.trials[0].score

    @property
    def table(self) -> list[dict[str, Any]]:
        """One dict for each trial, the best first: score, standard deviation over folds, cost and settings."""
        folds = any(len(trial.scores) > 1 for trial in self.trials)
        names = dict.fromkeys(name for trial in self.trials for name in trial.settings)
        return [
            {
                "rank": rank,
                "trial": trial.number,
                self.metric: trial.score,
                **({"std": trial.std} if folds else {}),
                "epochs": trial.epochs,
                "rung": trial.rung,
                "seconds": trial.seconds,
                **{name: trial.settings.get(name) for name in names},
                "error": trial.error,
            }
            for rank, trial in enumerate(self.trials, 1)
        ]

    def to_pandas(self) -> Any:
        """Return the table as a pandas DataFrame with a row per trial, the best first."""
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError("result.to_pandas() needs pandas: pip install pandas") from error
        return pd.DataFrame(self.table).set_index("rank")

    def __repr__(self) -> str:
        """Return the best trials as a table."""
        failed = sum(trial.error is not None for trial in self.trials)
        what = f"{len(self.trials)} trials{f', {failed} failed' * bool(failed)}{', interrupted' * self.interrupted}"
        rows = self.table[:_SHOWN]
        names = [name for name in rows[0] if name not in ("rung", "error")]
        lines = [names, *([_short(row[name]) for name in names] for row in rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        table = ["  ".join(map(str.rjust, line, widths)).rstrip() for line in lines]
        more = [f"... and {len(self.trials) - _SHOWN} more, see to_pandas()"] if len(self.trials) > _SHOWN else []
        return "\n".join([f"<SearchResult of {what}: best {self.metric} {_short(self.best_score)}>", *table, *more])


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e-3 or abs(value) >= 1e5 else f"{value:.4f}"
    text = " ".join(str(value).split())
    return text if len(text) <= 30 else f"{text[:29]}…"
