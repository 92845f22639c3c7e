"""Train in turns, A B A B, so that a drift of the machine affects all peers, and check that all do the same work.

All start from the same parameters and take the rows in the same order, so after each training, and after a first one
that is not timed, the loss of each over all rows must be within 2 % of that of fastmlp. A peer that differs gets an
error instead of times. The accuracy is not compared: early in training it can differ by several percent although the
losses are the same to six digits.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from fastmlp import MLP
from fastmlp.bench.load import Others
from fastmlp.bench.machine import fma_peak
from fastmlp.bench.peers import ScikitLearn
from fastmlp.bench.task import SEED, Array, Arrays, Peer, Task
from fastmlp.reference import cross_entropy, forward

__all__ = ["Disagreement", "Turns", "check_same", "loss_of", "same_steps", "take_turns", "train"]

LOSS_TOLERANCE = 0.02
_ROUNDING = 1e-3  # of a loss near 0, after many epochs
PAUSE = 0.3  # seconds before a measurement, for the threads of the last peer to stop spinning
_CHUNK = 4096  # rows evaluated together


class Disagreement(ArithmeticError):
    """A peer did not do the same work."""


@dataclass
class Turns:
    """The measurements.

    Attributes
    ----------
    seconds : dict of str to list of float
        Time per epoch in each turn, for each peer that did the same work.
    losses : dict of str to float
        Loss over all rows after the last turn, for each of these peers.
    errors : dict of str to str
        What went wrong, for each of the others.
    not_compared : dict of str to str
        Why the losses of a peer are not those of fastmlp, though its work is right.
    others : list of float
        How many cores other programs used in each turn, where that is known.
    peak : float
        FLOP/s of multiply-adds, the best of the measurements before each turn.
    interrupted : bool
        Whether Ctrl-C ended the measurements early. Only turns that finished are here.
    """

    seconds: dict[str, list[float]]
    losses: dict[str, float] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    not_compared: dict[str, str] = field(default_factory=dict)
    others: list[float] = field(default_factory=list)
    peak: float = 0.0
    interrupted: bool = False

    def ratios(self, name: str, base: str = "fastmlp") -> list[float]:
        """Return the time of a peer divided by that of `base`, for each turn."""
        return [mine / other for mine, other in zip(self.seconds[name], self.seconds[base], strict=True)]

    def best(self, name: str) -> float:
        """Return the best time of a peer."""
        return min(self.seconds[name])

    def median(self, name: str) -> float:
        """Return the median time of a peer."""
        return statistics.median(self.seconds[name])

    def spread(self, name: str) -> float:
        """Return the difference between the slowest and the fastest turn of a peer, as a share of its median."""
        return (max(self.seconds[name]) - min(self.seconds[name])) / self.median(name)


def loss_of(X: Any, y: Array, task: Task, weights: Arrays, biases: Arrays) -> float:
    """Return the mean loss, computed in the same way for every peer."""
    loss = 0.0
    for start in range(0, len(y), _CHUNK):
        rows = slice(start, start + _CHUNK)
        logits = forward(X[rows], weights, biases, task.activation)[-1]
        loss += float(cross_entropy(logits, y[rows]).sum(dtype=np.float64))
    return loss / len(y)


def check_same(loss: float, expected: float) -> None:
    """Raise Disagreement unless a loss is that of the same steps."""
    if not abs(loss - expected) <= LOSS_TOLERANCE * expected + _ROUNDING:
        raise Disagreement(f"loss is {loss:.5f}, not {expected:.5f}")


def same_steps(peer: Peer, task: Task) -> bool:
    """Return whether a peer takes the same steps as fastmlp."""
    return not (isinstance(peer, ScikitLearn) and task.layers[-1] == 2)


def train(peer: Peer, X: Any, y: Array, task: Task, start: tuple[Arrays, Arrays]) -> tuple[float, float, float | None]:
    """Return the seconds of one training, the loss after it, and the cores that other programs used meanwhile."""
    run = peer.prepare(X, y, task, *start)
    others = Others()
    time.sleep(PAUSE)
    begin = time.perf_counter()
    parameters = run()
    seconds = time.perf_counter() - begin
    used = others.cores()
    return seconds, loss_of(X, y, task, *parameters), used


def take_turns(
    peers: Sequence[Peer],
    X: Any,
    y: Array,
    task: Task,
    runs: int,
    *,
    n_threads: int = 1,
    say: Callable[[str], object] = lambda line: None,
    finished: Callable[[int, Turns], object] = lambda turn, turns: None,
) -> Turns:
    """Train with each peer in turn, several times. The losses of the first peer are what the others must reach.

    Parameters
    ----------
    peers : sequence of Peer
    X, y
        Rows and classes.
    task : Task
    runs : int
        Timed turns, after a first one that is not timed.
    n_threads : int
        Threads of the peak that is measured before each turn.
    say : callable
        Receives progress messages.
    finished : callable
        Receives the number of each turn that has finished, and the measurements so far. Turn 0 has no times.

    Raises
    ------
    KeyboardInterrupt
        If Ctrl-C comes before a timed turn has finished; later it ends the turns.
    """
    net = MLP(task.layers, activation=task.activation, seed=SEED)
    start = ([w.copy() for w in net.weights], [b.copy() for b in net.biases])
    turns = Turns({peer.name: [] for peer in peers})
    turns.not_compared = {
        peer.name: "it has one output for two classes, so its steps and losses differ"
        for peer in peers
        if not same_steps(peer, task)
    }

    def take(turn: int) -> None:
        """Train with each peer once; add the results when all have finished. Turn 0 is not timed."""
        now = task if turn else replace(task, epochs=1)
        done: dict[str, tuple[float, float]] = {}
        used: list[float] = []
        peak = fma_peak(n_threads=n_threads)
        for peer in peers:
            if peer.name in turns.errors:
                continue
            say(f"turn {turn} of {runs}, {peer.name}" if turn else f"check of {peer.name}")
            try:
                seconds, loss, others = train(peer, X, y, now, start)
                check_same(loss, loss if peer.name in turns.not_compared else done.get(peers[0].name, (0, loss))[1])
            except Exception as error:
                if peer is peers[0]:
                    raise
                kind = "" if isinstance(error, Disagreement) else f"{type(error).__name__}: "
                turns.errors[peer.name] = kind + " ".join(str(error).split())[:200]
                del turns.seconds[peer.name]
                continue
            done[peer.name] = seconds / now.epochs, loss
            used += [] if others is None else [others]
        turns.peak = max(turns.peak, peak)
        turns.losses = {name: loss for name, (_, loss) in done.items()}
        if turn:
            turns.others += [statistics.fmean(used)] if used else []
            turns.seconds = {name: [*turns.seconds[name], seconds] for name, (seconds, _) in done.items()}

    try:
        for turn in range(runs + 1):
            take(turn)
            finished(turn, turns)
    except KeyboardInterrupt:
        if not all(turns.seconds.values()):
            raise
        turns.interrupted = True
    return turns
