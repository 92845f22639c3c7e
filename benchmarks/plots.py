"""How long each picture of 10,000 MNIST rows takes, from the call to the finished PNG.

python -m benchmarks.plots [--runs N]

The network is 784-128-10 after one epoch. The pictures take turns. "call" is that of the function with ``ax=False``,
which predicts and counts; "PNG" is `Display.save`, which draws at 150 dots per inch. The last line is the import of
matplotlib and `fastmlp.plots`, which a process pays once.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from fastmlp import MLP, Ensemble, datasets
from fastmlp.bench.machine import describe


def now():
    """Return seconds on the clock and of this process on all cores."""
    return time.perf_counter(), time.process_time()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=7)
    runs = parser.parse_args().runs
    X_train, y_train, X, y = datasets.load_mnist()
    net = MLP([784, 128, 10])
    net.fit(X_train, y_train, epochs=1, validation_data=(X, y))
    ensemble = Ensemble(net, n=5)
    ensemble.fit(X_train, y_train, epochs=1)
    start = time.perf_counter()
    import matplotlib.figure

    from fastmlp import plots

    matplotlib.figure.Figure().subplots()
    imports = time.perf_counter() - start
    calls = {
        "samples": lambda: plots.samples(X, y, ax=False),
        "samples, n=100": lambda: plots.samples(X, y, n=100, ax=False),
        "learning_curves": lambda: plots.learning_curves(net, ax=False),
        "confusion_matrix": lambda: plots.confusion_matrix(net, X, y, ax=False),
        "confusion_matrix of 5 networks": lambda: plots.confusion_matrix(ensemble, X, y, ax=False),
        "wrong_guesses": lambda: plots.wrong_guesses(net, X, y, ax=False),
        "weights": lambda: plots.weights(net, ax=False),
        "decision_boundary": lambda: plots.decision_boundary(net, X, y, features=(300, 400), ax=False),
        "calibration": lambda: plots.calibration(net, X, y, ax=False),
    }
    seconds = {name: [] for name in calls}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(runs + 1):
            for name, call in calls.items():
                times = [now()]
                display = call()
                times.append(now())
                display.save(Path(folder) / "picture.png")
                times.append(now())
                seconds[name].append(times)
    print(describe())
    print(f"seconds, best and median of {runs}; CPU is that of drawing, and tells what a quiet machine would take")
    print(f"{'':32}{'call':>16}{'PNG':>16}{'both':>16}{'CPU':>16}")
    for name, measured in seconds.items():
        wall, cpu = np.moveaxis(np.array(measured[1:]), 2, 0)  # the first of all is apart
        parts = np.stack(
            [wall[:, 1] - wall[:, 0], wall[:, 2] - wall[:, 1], wall[:, 2] - wall[:, 0], cpu[:, 2] - cpu[:, 1]]
        )
        print(f"{name:32}" + "".join(f"{part.min():9.3f} {np.median(part):6.3f}" for part in parts))
    print(f"{'imports':32}{imports:16.3f}")


if __name__ == "__main__":
    main()
