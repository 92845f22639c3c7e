"""What a tracker costs per epoch, with its defaults: ``python -m benchmarks.trackers``.

Fits of digits, 2,000 epochs of less than a millisecond each, with and without the tracker, in turns. `fit` waits only
in the callback; the thread that writes takes time of the cores beside it, and that is in the time of the whole fit.
"""

import os
import sys
import tempfile
import time
import warnings

from fastmlp import MLP, callbacks, datasets

EPOCHS, TURNS = 2000, 3


class Timed:
    """Measures what `fit` waits for a tracker."""

    def __init__(self, tracker):
        self.tracker, self.seconds, self.most = tracker, 0.0, 0.0

    def _time(self, hook, net, fit):
        start = time.perf_counter()
        getattr(self.tracker, hook)(net, fit)
        return time.perf_counter() - start

    def on_fit_begin(self, net, fit):
        self._time("on_fit_begin", net, fit)

    def on_epoch_end(self, net, fit):
        seconds = self._time("on_epoch_end", net, fit)
        self.seconds, self.most = self.seconds + seconds, max(self.most, seconds)

    def on_fit_end(self, net, fit):
        self.at_end = self._time("on_fit_end", net, fit)


class Nothing:
    """A callback, since a fit without one does not stop after each epoch."""

    def on_epoch_end(self, net, fit):
        pass


def mlflow():
    import mlflow

    mlflow.set_tracking_uri("sqlite:///runs.db")
    mlflow.search_experiments()  # makes the tables
    return callbacks.MLflow


def tensorboard():
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter("logs")
    return lambda: callbacks.TensorBoard(writer)


def wandb():
    import wandb

    os.environ["WANDB_SILENT"] = "true"
    run = wandb.init(mode="offline", project="benchmark")
    return lambda: callbacks.WandB(run)


def optuna():
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study()
    return lambda: callbacks.OptunaPruning(study.ask())


def fit(X, y, validation, callback):
    """Return the seconds that a fit takes."""
    net = MLP([64, 32, 10], seed=0)
    start = time.perf_counter()
    net.fit(X, y, epochs=EPOCHS, validation_data=validation, callbacks=[callback])
    return time.perf_counter() - start


def measure(make):
    """Return seconds: an epoch without the tracker; in the callback, mean and most; at the end; more per epoch."""
    X, y, *validation = datasets.load_digits()
    fit(X, y, validation, Nothing())
    plain, tracked = [], []
    for _ in range(TURNS):
        timed = Timed(make())
        plain.append(fit(X, y, validation, Nothing()))
        tracked.append((fit(X, y, validation, timed), timed))
    whole, timed = min(tracked, key=lambda turn: turn[0])
    more = (whole - min(plain)) / EPOCHS
    return min(plain) / EPOCHS, timed.seconds / EPOCHS, timed.most, timed.at_end, more


def main():
    warnings.simplefilter("ignore")  # of the trackers' own libraries
    print("milliseconds    epoch  callback, mean    most  at the end  per epoch of the fit")
    for tracker in (mlflow, tensorboard, wandb, optuna):
        try:
            make = tracker()
        except ImportError as error:
            print(f"{tracker.__name__} is left out: {error}", file=sys.stderr)
            continue
        epoch, mean, most, end, more = (1e3 * seconds for seconds in measure(make))
        print(f"{tracker.__name__:12}{epoch:9.2f}{mean:16.4f}{most:8.2f}{end:12.1f}{more:+22.2f}", flush=True)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        main()
