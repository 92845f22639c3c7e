"""Measure the page that `fastmlp.report` writes about MNIST 784-128-10, in headless Chromium.

CHROMIUM=... python -m benchmarks.page [--runs N] [--keep FILE.html]

Prints: bytes; seconds to write it; milliseconds until the page is there, from the start of the navigation, and of its
script alone; milliseconds of one forward pass per stroke; the largest difference of probabilities, and the number of
different labels, on 500 test rows; digits drawn by script that are recognized; requests. Other programs disturb the
times: the best and the median of the runs are printed.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import fastmlp

TESTS = Path(__file__).resolve().parents[1] / "tests"
ROWS = 500
TIMES = """fastmlp.then(({ milliseconds }) => new Promise((done) => requestAnimationFrame(() => setTimeout(() =>
    done([performance.now(), milliseconds])))))"""
FORWARD = """fastmlp.then(({ content, network }) => {
    const rows = Array.from({ length: 200 }, (_, i) => Float64Array.from(content.shown.pixels.subarray(784 * i,
        784 * (i + 1)), (value) => value / 255));
    return rows.map((row) => {
        const start = performance.now();
        for (let i = 0; i < 10; i++) network.answer(row);
        return (performance.now() - start) / 10;
    });
})"""


def answers(browser, X):
    """Return the outputs of the network in the page for some rows, (n, C)."""
    rows = json.dumps(np.asarray(X, float).tolist())
    asked = f"fastmlp.then(({{ network }}) => {rows}.map((row) => [...network.answer(row).outputs]))"
    return np.array(browser.awaited(asked))


def draw(browser, strokes, touch=False):
    """Clear the pad, draw with mouse or finger, and return what the network says."""
    browser.value("[...document.querySelectorAll('#try button')].find((b) => b.textContent == 'Clear').click()")
    left, top = browser.place(".pad", 0, 0)
    right, bottom = browser.place(".pad", 1, 1)
    for stroke in strokes:
        browser.drag([(left + (right - left) * x, top + (bottom - top) * y) for x, y in stroke], touch)
    browser.awaited("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return browser.value("document.querySelector('#try .said strong')?.textContent")


def spread(values):
    return f"best {min(values):.3g}, median {statistics.median(values):.3g}"


def main():
    sys.path.append(str(TESTS))  # only here: asv imports this file without the tests
    from support.browser import CHROMIUM, Browser
    from support.strokes import TWENTY

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--keep", metavar="FILE", help="write the page there")
    arguments = parser.parse_args()
    if CHROMIUM is None:
        parser.error("needs chromium; CHROMIUM may say where it is")
    X_train, y_train, X_test, y_test = fastmlp.datasets.load_mnist()
    net = fastmlp.MLP([784, 128, 10], seed=0)
    net.fit(X_train, y_train, epochs=10, batch_size=64, learning_rate=0.1, validation_data=(X_test, y_test))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(arguments.keep or f"{folder}/page.html").resolve()
        seconds = []
        for _ in range(arguments.runs):
            start = time.perf_counter()
            fastmlp.report(net, X_test, y_test, path)
            seconds.append(time.perf_counter() - start)
        print(f"bytes                       {path.stat().st_size:,}")
        print(f"to write it, s              {spread(seconds)}")
        with Browser(f"{folder}/profile") as browser:
            times = []
            for _ in range(arguments.runs):
                browser.open(path.as_uri())
                browser.wait_for("document.querySelector('footer') && true")
                times.append(browser.awaited(TIMES))
            there, script = zip(*times, strict=True)
            print(f"until it is there, ms       {spread(there)}; its script {spread(script)}")
            print(f"a forward pass, ms          {spread(browser.awaited(FORWARD))}")
            p, expected = answers(browser, X_test[:ROWS]), net.predict_proba(X_test[:ROWS])
            different = (p.argmax(axis=1) != expected.argmax(axis=1)).sum()
            print(f"{ROWS} rows                    {np.abs(p - expected).max():.1e} apart, {different} other labels")
            said = [(digit, draw(browser, strokes)) for digit, strokes in TWENTY]
            wrong = [f"{digit} as {answer}" for digit, answer in said if str(digit) != answer]
            print(f"digits recognized           {len(said) - len(wrong)} of {len(said)} {', '.join(wrong)}")
            print(f"requests beside the page    {len([asked for asked in browser.asked if asked != path.as_uri()])}")
            print(f"errors                      {browser.failed}")


if __name__ == "__main__":
    main()
