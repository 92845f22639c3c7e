"""Trials of a search while they are trained, rung by rung."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import numpy.typing as npt

from fastmlp.callbacks import EarlyStopping
from fastmlp.diagnosis import ConvergenceWarning
from fastmlp.interrupts import finish
from fastmlp.many.fit import train_many
from fastmlp.many.halving import Continued, Pause, Rung
from fastmlp.many.progress import Progress
from fastmlp.many.results import SearchResult, Trial
from fastmlp.many.space import Settings, own_copies
from fastmlp.many.splits import Split
from fastmlp.mlp import MLP
from fastmlp.validation.calls import warn

__all__ = ["Candidate", "Search", "monitors_validation"]

T = TypeVar("T")


class _Run:
    """One network of a trial, that of one split, with the arguments of its fits.

    Attributes
    ----------
    net : MLP
    error : str or None
        Of a fit, or of a callback at its end.
    """

    def __init__(self, net: MLP, split: Split, fit: Settings) -> None:
        self.net = net
        self.error: str | None = None
        self._pause = Pause()
        self._fit = own_copies(fit)
        self._callbacks = [Continued(callback, self._pause) for callback in self._fit.get("callbacks", ())]
        self._fit["callbacks"] = [*self._callbacks, self._pause]
        if split.validation is not None:
            self._fit["validation_data"] = split.validation
        if split.rows is not None:
            self._fit["rows"] = split.rows

    @property
    def is_paused(self) -> bool:
        """Whether the fit may be resumed; it is over if a callback has ended it."""
        return self._pause.paused

    def until(self, epoch: int) -> Settings:
        """Return the arguments of a fit that starts or is resumed, and pauses after this epoch."""
        resume, self._pause.until = self.is_paused, epoch
        return self._fit | {"resume": resume}

    @property
    def epoch(self) -> int:
        """The epoch whose parameters the network has, or will have once its callbacks hear of the end."""
        stops = [c.callback for c in self._callbacks if isinstance(c.callback, EarlyStopping)]
        restored = [stop.best_epoch for stop in stops if stop.restore_best and stop.best_epoch]
        return restored[-1] if restored else len(self.net.history.loss)

    def score(self, metric: str) -> float:
        """Return what was measured in this epoch, nan if nothing was."""
        measured = self.net.history._measured().get(metric, [])
        return float(measured[self.epoch - 1]) if measured else math.nan

    def end(self) -> None:
        """Tell the callbacks that the fit will not be resumed."""
        if self.is_paused:
            self._pause.paused = False
            try:
                for callback in self._callbacks:
                    callback.end(self.net)
            except Exception as error:
                self.error = _text(error)


class Candidate:
    """A trial with its networks, as long as it may win.

    Attributes
    ----------
    trial : Trial
    network, fit : dict
        All arguments of `MLP` and of its fits.
    runs : list of _Run
        One for each split; empty once the trial is dropped.
    """

    def __init__(self, trial: Trial, network: Settings, fit: Settings, net: MLP, splits: Sequence[Split]) -> None:
        self.trial, self.network, self.fit, self._names = trial, network, fit, net._names
        self.runs = [_Run(net, splits[0], fit), *(self.new_run(split) for split in splits[1:])]

    def new_run(self, split: Split, **fit: Any) -> _Run:
        """Return a new network for these rows; `fit` are other arguments of its fits."""
        net = MLP(**self.network)
        net._names = self._names
        return _Run(net, split, self.fit | fit)

    def collect(self, metric: str) -> None:
        """Note what the networks have reached. This may be repeated."""
        if not self.runs:
            return
        trial = self.trial
        trial.histories = [run.net.history for run in self.runs]
        trial.scores = [run.score(metric) for run in self.runs]
        trial.epochs = round(sum(run.epoch for run in self.runs) / len(self.runs))
        trial.error = next((run.error for run in self.runs if run.error is not None), None)
        if trial.error is None and any(map(math.isnan, trial.scores)):
            trial.error = f"{metric} is nan" if trial.epochs else "not trained"

    def drop(self, metric: str) -> None:
        """End the trial, and free its networks."""
        for run in self.runs:
            run.end()
        self.collect(metric)
        self.runs = []


@dataclass
class Search:
    """Trains the candidates, rung by rung.

    Attributes
    ----------
    candidates : list of Candidate
    X, y : rows and targets
    splits : list of Split
        One, or one for each fold.
    rungs : list of Rung
    metric : str
        Its name in the histories.
    sign : int
        1 if it should be large, -1 if it should be small.
    n_jobs : int or None
    progress : Progress or None
    """

    candidates: list[Candidate]
    X: Any
    y: npt.NDArray[Any]
    splits: Sequence[Split]
    rungs: Sequence[Rung]
    metric: str
    sign: int
    n_jobs: int | None
    progress: Progress | None
    _first_error: BaseException | None = field(default=None, init=False)

    def run(self, anew: bool) -> SearchResult:
        """Train all, and the best once more, on all rows, if `anew`.

        Raises
        ------
        Exception
            If all trials fail, that of the first.
        KeyboardInterrupt
            After Ctrl-C, if no trial has finished an epoch.
        """
        net, interrupted = None, False
        try:
            self._climb()
            best = self._ranked()[0]
            if anew:
                net = self._again(best, Split(None, None))
            elif len(self.splits) == 1 and not best.runs:  # all that stayed longer have failed
                net = self._again(best, self.splits[0])
        except KeyboardInterrupt:
            for candidate in self.candidates:
                candidate.collect(self.metric)
            if math.isnan(self._ranked()[0].trial.score):
                raise
            interrupted = True
        best = self._ranked()[0]
        if net is None and best.runs and len(self.splits) == 1:
            net = best.runs[0].net
        for candidate in self.candidates:
            candidate.drop(self.metric)
        result = SearchResult([c.trial for c in self._ranked()], self.metric, net, interrupted)
        if interrupted:
            finished = max(trial.rung for trial in result.trials)
            warn(f"Ctrl-C stopped the search after {finished} of {len(self.rungs)} rungs; the result has what was done")
        return result

    def _climb(self) -> None:
        """Train the candidates of all rungs, and drop those that do not reach the next."""
        for i, rung in enumerate(self.rungs):
            staying = [candidate for candidate in self.candidates if candidate.runs]
            runs = [run for candidate in staying for run in candidate.runs if i == 0 or run.is_paused]
            self._train(runs, rung.epochs)
            for candidate in staying:
                candidate.collect(self.metric)
                candidate.trial.rung = i + 1
            best = self._ranked()[0].trial
            if math.isnan(best.score):
                error = self._first_error or ValueError(f"{self.metric} is nan")
                error.add_note(f"all {len(self.candidates)} trials of the search failed; this is the first error")
                raise error
            n_next = self.rungs[i + 1].n_trials if i + 1 < len(self.rungs) else len(staying)
            if self.progress is not None:
                what = f"{len(staying)} trials until epoch {rung.epochs}, best {self.metric} {best.score:.4f}"
                self.progress.line(f"rung {i + 1}/{len(self.rungs)}: {what} (trial {best.number})")
            for place, candidate in enumerate(self._ranked()):
                if place >= n_next or candidate.trial.error:
                    candidate.drop(self.metric)

    def _ranked(self) -> list[Candidate]:
        """Return the candidates, the best first."""

        def key(candidate: Candidate) -> tuple[bool, int, float, int]:
            trial = candidate.trial
            failed = math.isnan(trial.score)
            return failed, -trial.rung, 0.0 if failed else -self.sign * trial.score, trial.number

        return sorted(self.candidates, key=key)

    def _train(self, runs: Sequence[_Run], until: int) -> None:
        """Train networks up to the end of an epoch.

        Raises
        ------
        KeyboardInterrupt
            After Ctrl-C. Networks and histories are whole.
        """
        nets, fits = [run.net for run in runs], [run.until(until) for run in runs]
        how = partial(train_many, n_jobs=self.n_jobs, progress=self.progress, fits=fits, return_exceptions=True)
        results: list[Any] = _quietly(lambda: how(nets, self.X, self.y))  # histories, or errors in their place
        for run, result in zip(runs, results, strict=True):
            if isinstance(result, BaseException):
                run.error = _text(result)
                self._first_error = self._first_error or result
        if any(run.net.history.interrupted for run in runs):
            raise KeyboardInterrupt

    def _again(self, best: Candidate, split: Split) -> MLP | None:
        """Return a new network with the settings of a trial, trained as long, or None if that fails."""
        arguments = {}
        if split.validation is None:
            callbacks = best.fit.get("callbacks", ())
            arguments = {"metrics": (), "callbacks": [c for c in callbacks if not monitors_validation(c)]}
        run = best.new_run(split, **arguments)
        self._train([run], best.trial.epochs)
        run.end()
        if run.error is None:
            return run.net
        warn(f"best_net was not trained on all rows, because that fit failed: {run.error}")
        return None


def monitors_validation(thing: object) -> bool:
    """Return whether a callback or a schedule needs validation data."""
    return str(getattr(thing, "monitor", None)).startswith("val_")


def _text(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _quietly(work: Callable[[], T]) -> T:
    """Call `work` without warnings of a trial that learns nothing, which is no news, and of Ctrl-C in a fit."""
    silence, is_silent = warnings.catch_warnings(), []

    def begin_and_work() -> T:
        silence.__enter__()
        is_silent.append(True)
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.filterwarnings("ignore", "Ctrl-C stopped")
        return work()

    def restore() -> None:
        if is_silent:
            silence.__exit__(None, None, None)

    return finish(begin_and_work, restore)
