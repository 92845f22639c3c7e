"""The values that options take: names, numbers, and what was meant by a wrong one."""

from __future__ import annotations

import argparse
import contextlib
import math
from collections.abc import Callable, Sequence

__all__ = [
    "ACTIVATIONS", "INITS", "MOST_THREADS", "NEED_SETTINGS", "OPTIMIZERS", "PRESETS", "SCHEDULES",
    "class_weight", "closest", "fraction", "not_one_of", "number", "schedule", "size", "whole_number",
]  # fmt: skip

# Names that the library has, so that --help imports nothing; a test compares them.
ACTIVATIONS = ("relu", "leaky_relu", "elu", "gelu", "silu", "tanh", "logistic", "identity")
INITS = ("he", "xavier", "normal")
OPTIMIZERS = ("sgd", "momentum", "nesterov", "adam", "adamw", "rmsprop", "adagrad")
PRESETS = ("fast", "accurate")
SCHEDULES = ("constant", "cosine", "one_cycle", "warmup", "inverse_scaling", "adaptive", "reduce_on_plateau")

_ALSO_CALLED = {  # what other libraries call it
    "glorot": "xavier", "invscaling": "inverse_scaling", "kaiming": "he", "onecycle": "one_cycle",
    "plateau": "reduce_on_plateau", "sigmoid": "logistic", "swish": "silu", "lrelu": "leaky_relu", "torch": "pytorch",
    "scikit-learn": "sklearn", "--lr": "--learning-rate", "--solver": "--optimizer", "--scheduler": "--schedule",
    "--lr-schedule": "--schedule", "--hidden-layer-sizes": "--layers", "--hidden": "--layers", "--alpha": "--l2",
    "--weight-decay": "--l2", "--random-state": "--seed", "--n-threads": "--threads", "--n-jobs": "--threads",
    "--jobs": "--threads", "--validation-split": "--validation-fraction", "--max-iter": "--epochs",
    "--n-iter-no-change": "--patience", "--early-stopping": "--patience", "--output": "--save", "--dataset": "--data",
    "--format": "--to", "--form": "--to", "--out": "--output", "--save": "--output", "pytorch": "torch",
}  # fmt: skip
NEED_SETTINGS = {
    "step": "Step(every=10)",
    "multi_step": "MultiStep([10, 20])",
    "exponential": "Exponential(gamma=0.9)",
}
MOST_UNITS, MOST_THREADS = 1_000_000, 1024  # more is probably a typo, and would use up all memory


def not_one_of(value: str, names: Sequence[str]) -> str:
    """Return the words of an error about a name that is none of these."""
    return f"must be one of {', '.join(names)}, not {value!r}{closest(value, names)}"


def closest(value: str, names: Sequence[str]) -> str:
    """Return a hint at the name that may have been meant, or nothing."""
    import difflib  # only errors need it

    meant = _ALSO_CALLED.get(value.lower(), "")
    close = [meant] if meant in names else difflib.get_close_matches(value.lower(), names, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def whole_number(least: int, most: float = math.inf) -> Callable[[str], int]:
    """Return a parser of whole numbers in a range."""

    def parse(text: str) -> int:
        with contextlib.suppress(ValueError):
            if least <= (number := int(text)) <= most:
                return number
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a whole number {f'of {least} or more' if most == math.inf else f'from {least} to {most}'}"
        )

    return parse


def size(text: str) -> int:
    """Parse the size of a layer."""
    try:
        return whole_number(1, MOST_UNITS)(text)
    except argparse.ArgumentTypeError as error:
        several = "".join(c if c.isdecimal() else " " for c in text).split()[1:]
        hint = "; give the sizes of the hidden layers with spaces between, as in --layers 128 64" if several else ""
        raise argparse.ArgumentTypeError(f"{error}{hint}") from None


def number(*, zero: bool) -> Callable[[str], float]:
    """Return a parser of positive numbers, or 0."""

    def parse(text: str) -> float:
        with contextlib.suppress(ValueError):
            if 0 < (number := float(text)) < math.inf or (zero and number == 0):
                return number
        raise argparse.ArgumentTypeError(f"{text!r} is not a {'number of 0 or more' if zero else 'positive number'}")

    return parse


def fraction(*, zero: bool) -> Callable[[str], float]:
    """Return a parser of numbers below 1."""

    def parse(text: str) -> float:
        with contextlib.suppress(ValueError):
            if 0 < (number := float(text)) < 1 or (zero and number == 0):
                return number
        what = "a number of 0 or more, and below 1" if zero else "a number between 0 and 1"
        raise argparse.ArgumentTypeError(f"{text!r} is not {what}")

    return parse


def schedule(text: str) -> str:
    """Parse the name of a schedule."""
    if text in SCHEDULES:
        return text
    if text in NEED_SETTINGS:
        raise argparse.ArgumentTypeError(f"{text!r} needs settings; in Python: fit(schedule={NEED_SETTINGS[text]})")
    raise argparse.ArgumentTypeError(not_one_of(text, SCHEDULES))


def class_weight(text: str) -> str | float | tuple[int | str, float]:
    """Parse balanced, NUMBER or CLASS=NUMBER."""
    if text == "balanced":
        return text
    label, equals, weight = text.rpartition("=")
    with contextlib.suppress(argparse.ArgumentTypeError):
        factor = number(zero=True)(weight)
        if not equals:
            return factor
        if label:
            return (int(label) if label.isdecimal() else label), factor
    raise argparse.ArgumentTypeError(
        f"{text!r} is not balanced, a number of 0 or more, or CLASS=NUMBER, such as 3=0.5{closest(text, ['balanced'])}"
    )
