"""How much memory `fit` takes on MNIST besides the data: the peak of the process, as Linux counts it.

python -m benchmarks.memory [--rows "with zeros"|"without zeros"|bytes]
"""

import argparse
import re
from pathlib import Path

import numpy as np

from fastmlp import MLP, datasets

ROWS = ("with zeros", "without zeros", "bytes")


def resident_bytes(which):
    """Return the resident memory of the process: now (VmRSS), or its peak (VmHWM)."""
    kilobytes = re.search(rf"{which}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return 1024 * int(kilobytes[1])


def reset_peak():
    """Reset the peak to the memory that is in use now."""
    Path("/proc/self/clear_refs").write_text("5")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", choices=ROWS, default=ROWS[0])
    parser.add_argument("--bytes", action="store_true", help="print only the bytes that fit takes besides the data")
    options = parser.parse_args()
    X, y, X_test, y_test = datasets.load_mnist()
    if options.rows == "without zeros":
        X += np.float32(1 / 512)
    elif options.rows == "bytes":
        X, X_test = (np.rint(255 * part).astype(np.uint8) for part in (X, X_test))
    scale = 1 / 255 if options.rows == "bytes" else 1.0
    MLP([784, 128, 10], input_scale=scale).fit(X[:64], y[:64], epochs=1)  # compiles
    net = MLP([784, 128, 10], input_scale=scale)
    reset_peak()
    before = resident_bytes("VmRSS")
    net.fit(X, y, epochs=1, validation_data=(X_test, y_test))
    peak = resident_bytes("VmHWM")
    if options.bytes:
        print(peak - before)
    else:
        data, before, peak = (n / 1e6 for n in (X.nbytes, before, peak))
        print(f"X {data:.0f} MB; before fit {before:.0f} MB, peak {peak:.0f} MB: fit takes {peak - before:.0f} MB")


if __name__ == "__main__":
    main()
