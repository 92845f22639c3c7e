"""What optimizers and other options cost compared with plain SGD; the presets, with several seeds.

python -m benchmarks.extras [--runs N] [--only parts fast accurate]

MNIST, 784-128-10, batch 64, all cores. The options take turns. The time of a whole fit is divided by its epochs. The
time of validation is the difference between a fit with validation and one with a callback, which also stops after every
epoch. For the presets it prints the seconds of training until a test accuracy, and the final accuracy, for each seed.
"""

import argparse
import statistics
import time

import numpy as np

from fastmlp import MLP, datasets
from fastmlp.bench.machine import describe
from fastmlp.cli.presets import PRESETS

EPOCHS = 4
LAYERS, BATCH = [784, 128, 10], 64

PARTS = {  # settings of the network, settings of the fit
    "plain SGD": ({}, {}),
    "momentum": ({}, {"optimizer": "momentum", "learning_rate": 0.05}),
    "Nesterov": ({}, {"optimizer": "nesterov", "learning_rate": 0.05}),
    "Adam": ({}, {"optimizer": "adam"}),
    "AdamW": ({}, {"optimizer": "adamw"}),
    "RMSprop": ({}, {"optimizer": "rmsprop"}),
    "Adagrad": ({}, {"optimizer": "adagrad"}),
    "l2": ({"l2": 1e-4}, {}),
    "dropout 0.2 + 0.5": ({"input_dropout": 0.2, "dropout": 0.5}, {}),
    "class weights": ({}, {"class_weight": "balanced"}),
    "GELU": ({"activation": "gelu"}, {}),
}
PRESET_GOALS = {"fast": (0.98, 10), "accurate": (0.987, 5)}


def seconds_of(call):
    """Return the seconds that a call takes, after a pause in which the threads of the last call stop spinning."""
    time.sleep(0.3)
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def in_turns(calls, runs):
    """Make the calls in turn, after one of each that compiles, and return the seconds of each."""
    for call in calls.values():
        call()
    turns = [{name: seconds_of(call) for name, call in calls.items()} for _ in range(runs)]
    return {name: [turn[name] for turn in turns] for name in calls}


def print_ratios(title, seconds, per, base):
    """Print a table with two ratios to a base: that of the best times, and the median of those of each turn."""
    print(f"\n{title:24} ms (best, median)   over {base} (best, median)")
    for name, mine in seconds.items():
        ratio = min(mine) / min(seconds[base]), statistics.median(np.divide(mine, seconds[base]))
        best, median = 1e3 * min(mine) / per, 1e3 * statistics.median(mine) / per
        print(f"{name:24} {best:8.1f} {median:8.1f} {ratio[0]:12.2f} {ratio[1]:8.2f}", flush=True)


def parts(X, y, test, runs):
    """Print what each option costs, and what validation costs."""
    calls = {}
    for name, (settings, options) in PARTS.items():
        net = MLP(LAYERS, **settings)
        calls[name] = lambda net=net, options=options: net.fit(X, y, epochs=EPOCHS, batch_size=BATCH, **options)
    for name, options in {"callback": {"callbacks": [Nothing()]}, "validation": {"validation_data": test}}.items():
        net = MLP(LAYERS)
        calls[name] = lambda net=net, options=options: net.fit(X, y, epochs=EPOCHS, batch_size=BATCH, **options)
    seconds = in_turns(calls, runs)
    print_ratios("epoch", seconds, EPOCHS, "plain SGD")
    longer = np.subtract(seconds["validation"], seconds["callback"]) / EPOCHS
    print(
        f"validation of {len(test[1]):,} rows: {1e3 * statistics.median(longer):.1f} ms an epoch (median of the turns)"
    )


class Nothing:
    """A callback that is called after each epoch."""

    def on_epoch_end(self, net, fit):
        """Do nothing."""


def preset(name, X, y, X_test, y_test):
    """Print the times and accuracies of a preset with several seeds."""
    goal, n_seeds = PRESET_GOALS[name]
    chosen, finals, totals, reached = PRESETS[name], [], [], []
    print(f"\npreset {name}: {n_seeds} seeds")
    for seed in range(n_seeds):
        net = MLP([784, *chosen.hidden, 10], activation=chosen.activation, seed=seed, **chosen.settings)
        fit = {"batch_size": chosen.batch_size, "optimizer": chosen.optimizer, "schedule": chosen.schedule}
        history = net.fit(X, y, epochs=chosen.epochs, validation_data=(X_test, y_test), **fit)
        clock, accuracy = np.cumsum(history.seconds), np.array(history.val_accuracy)
        finals.append(accuracy[-1])
        totals.append(clock[-1])
        reached.append(clock[np.argmax(accuracy >= goal)] if (accuracy >= goal).any() else np.inf)
        print(
            f"seed {seed}: {accuracy[-1]:.4f} after {clock[-1]:.2f} s, {goal:.1%} after {reached[-1]:.2f} s", flush=True
        )
    middle = statistics.median
    print(f"median: {middle(finals):.4f} after {middle(totals):.2f} s, {goal:.1%} after {middle(reached):.2f} s")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5, help="turns (default: %(default)s)")
    choices = ["parts", *PRESET_GOALS]
    parser.add_argument("--only", nargs="+", choices=choices, default=choices)
    options = parser.parse_args()
    data = datasets.load_mnist()
    print(describe())
    if "parts" in options.only:
        parts(*data[:2], data[2:], options.runs)
    for name in PRESET_GOALS:
        if name in options.only:
            preset(name, *data)


if __name__ == "__main__":
    main()
