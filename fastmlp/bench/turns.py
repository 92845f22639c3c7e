"""Train in turns, A B A B, so that a drift of the machine affects all peers, and check that all do the same work.

Before it is timed, each peer trains for one epoch without shuffling, from the same parameters. Its loss over all rows
must be within 2 % of that of fastmlp. After each timed training, its accuracy must be within 0.03 of that of fastmlp. A
peer that differs gets an error instead of times.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from fastmlp import MLP
from fastmlp.bench.machine import fma_peak
from fastmlp.bench.peers import ScikitLearn
from fastmlp.bench.task import Array, Arrays, Peer, Task
from fastmlp.reference import cross_entropy, forward

__all__ = ["Disagreement", "Turns", "check_same", "evaluate", "same_steps", "take_turns", "train"]

LOSS_TOLERANCE, ACCURACY_TOLERANCE = 0.02, 0.03  # another order of the rows changes accuracy by up to 0.018
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
    errors : dict of str to str
        What went wrong, for each of the others.
    peak : float
        FLOP/s of multiply-adds, the best of the measurements before each turn.
    """

    seconds: dict[str, list[float]]
    errors: dict[str, str] = field(default_factory=dict)
    peak: float = 0.0

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


def evaluate(X: Any, y: Array, task: Task, weights: Arrays, biases: Arrays) -> tuple[float, float]:
    """Return the mean loss and the accuracy, computed in the same way for every peer."""
    loss, correct = 0.0, 0
    for start in range(0, len(y), _CHUNK):
        rows = slice(start, start + _CHUNK)
        logits = forward(X[rows], weights, biases, task.activation)[-1]
        loss += float(cross_entropy(logits, y[rows]).sum(dtype=np.float64))
        correct += int((logits.argmax(axis=1) == y[rows]).sum())
    return loss / len(y), correct / len(y)


def check_same(
    found: tuple[float, float], expected: tuple[float, float], same_steps: bool, accuracy_tolerance: float
) -> None:
    """Raise Disagreement unless accuracies agree, and losses too if the steps were the same."""
    (loss, accuracy), (expected_loss, expected_accuracy) = found, expected
    if same_steps and not abs(loss - expected_loss) <= LOSS_TOLERANCE * expected_loss:
        raise Disagreement(f"loss is {loss:.5f}, not {expected_loss:.5f}")
    if not abs(accuracy - expected_accuracy) <= accuracy_tolerance:
        raise Disagreement(f"accuracy is {accuracy:.4f}, not {expected_accuracy:.4f}")


def same_steps(peer: Peer, task: Task) -> bool:
    """Return whether a peer takes the same steps as fastmlp, except for the order of the rows."""
    return not (isinstance(peer, ScikitLearn) and task.layers[-1] == 2)


def train(peer: Peer, X: Any, y: Array, task: Task, start: tuple[Arrays, Arrays]) -> tuple[float, tuple[float, float]]:
    """Return the seconds of one training, and the loss and accuracy after it."""
    run = peer.prepare(X, y, task, *start)
    time.sleep(PAUSE)
    begin = time.perf_counter()
    parameters = run()
    seconds = time.perf_counter() - begin
    return seconds, evaluate(X, y, task, *parameters)


def take_turns(
    peers: Sequence[Peer],
    X: Any,
    y: Array,
    task: Task,
    runs: int,
    *,
    accuracy_tolerance: float = ACCURACY_TOLERANCE,
    n_threads: int = 1,
    say: Callable[[str], object] = lambda line: None,
) -> Turns:
    """Train with each peer in turn, several times. The results of the first peer are what the others must reach.

    Parameters
    ----------
    peers : sequence of Peer
    X, y
        Rows and classes.
    task : Task
    runs : int
        Timed turns, after a first one that is not timed.
    accuracy_tolerance : float
    n_threads : int
        Threads of the peak that is measured before each turn.
    say : callable
        Receives progress messages.
    """
    net = MLP(task.layers, activation=task.activation)
    start = ([w.copy() for w in net.weights], [b.copy() for b in net.biases])
    turns = Turns({peer.name: [] for peer in peers})
    expected: dict[Task, tuple[float, float]] = {}
    first = replace(task, epochs=1, shuffle=False)
    for turn, now in enumerate([first] + [task] * runs):
        turns.peak = max(turns.peak, fma_peak(n_threads=n_threads))
        for peer in peers:
            if peer.name in turns.errors:
                continue
            say(f"turn {turn} of {runs}, {peer.name}" if turn else f"check of {peer.name}")
            try:
                seconds, found = train(peer, X, y, now, start)
                same = same_steps(peer, task) and not now.shuffle
                tolerance = accuracy_tolerance if now.shuffle else ACCURACY_TOLERANCE
                check_same(found, expected.setdefault(now, found), same, tolerance)
            except Exception as error:
                if peer is peers[0]:
                    raise
                kind = "" if isinstance(error, Disagreement) else f"{type(error).__name__}: "
                turns.errors[peer.name] = kind + " ".join(str(error).split())[:200]
                del turns.seconds[peer.name]
                continue
            if turn:
                turns.seconds[peer.name].append(seconds / task.epochs)
    return turns
