"""Training on more rows than fit in memory: 8.1 million distorted digits, 6.4 GB of bytes on disk.

    python examples/infinite.py [--rows N] [--folder FOLDER] [--seed SEED]

The digits are those of MNIST, each distorted in 134 ways, in the style of infinite MNIST (Loosli, Canu and Bottou:
Training invariant support vector machines using selective sampling, 2007). A smooth random field moves the pixels, a
random rotation, scale, shear and shift are added, and strokes get thicker or thinner. Every row follows from the seed
and its own number: row r is digit r mod 60,000, and the first 60,000 rows are the digits as they are.

Then 784-128-10 trains on them for one epoch, out of core. The strengths below and the settings of the training were
chosen on 10,000 training images, which were not distorted for the others.
"""

import argparse
import errno
import os
import shutil
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numba
import numpy as np

from fastmlp import MLP, datasets, schedules, warm_up
from fastmlp.data import Blocks

ROWS = 8_100_000
PIECE = 1 << 15  # rows that are made and written at once, 26 MB

SIDE = 28
ROTATION, SCALE, SHIFT = 0.1, 0.05, 0.5  # at most, both ways: radians, a part of the size, pixels
FIELD = 0.8  # pixels: standard deviation of the smooth displacements in each direction
THICKNESS = 0.1  # at most, both ways: of the gradient, which is added
FAINT = 32  # gray below which a pixel is white; as far from black, it is black: moving pixels has blurred the edges

KNOTS, SPACING = 7, 7.0  # of the splines that make displacements smooth: in each direction, and pixels between them
N_FIELD = 2 * KNOTS**2
N_DRAWN = N_FIELD + 7
MARGIN, WIDE = 2, SIDE + 4  # an image with white around it

float32 = np.float32


def cubic_splines():
    """Return the value of each cubic B-spline at each pixel (SIDE, KNOTS)."""
    t = np.abs((np.arange(SIDE)[:, None] - (SIDE - 1) / 2) / SPACING - (np.arange(KNOTS) - KNOTS // 2))
    return np.where(t < 1, 2 / 3 - t**2 + t**3 / 2, np.maximum(2 - t, 0) ** 3 / 6).astype(float32)


SPLINES = cubic_splines()
# Numbers drawn evenly from -1 to 1 have a variance of 1/3. Each pixel adds them up, times splines in both directions.
DISPLACEMENT = float32(FIELD / (np.sqrt(1 / 3) * np.mean(np.sum(SPLINES.astype(float) ** 2, axis=1))))

# --- distorted digits -------------------------------------------------------------------------------------------------


@numba.njit(inline="always")
def mixed(h):
    """Return a hash of 64 bits (Steele, Lea and Flood: SplitMix, 2014)."""
    h = (h ^ (h >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    h = (h ^ (h >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return h ^ (h >> np.uint64(31))


@numba.njit(inline="always")
def draw(drawn, seed, row):
    """Draw numbers from -1 to 1 that depend on the seed and the row alone."""
    golden = np.uint64(0x9E3779B97F4A7C15)
    key = mixed(mixed(np.uint64(seed) + golden) + np.uint64(row) * golden)
    for k in range(len(drawn)):
        bits = mixed(key + np.uint64(k + 1) * golden) >> np.uint64(40)
        drawn[k] = float32(np.int64(bits)) * float32(2.0**-23) - float32(1)


@numba.njit(inline="always")
def affine(place, drawn):
    """Write what takes a pixel of the new image, seen from the middle, to where it comes from: yy, yx, y, xy, xx, x."""
    angle = ROTATION * drawn[0]
    cosine, sine = np.cos(angle), np.sin(angle)
    height, width = 1 + SCALE * drawn[1], 1 + SCALE * drawn[2]
    place[0, 0], place[0, 1], place[0, 2] = cosine * height, sine * width, SHIFT * drawn[4]
    place[1, 0], place[1, 1], place[1, 2] = SCALE * drawn[3] - sine * height, cosine * width, SHIFT * drawn[5]


@numba.njit(inline="always")
def smooth_along_rows(along, field, splines):
    """Compute the splines of each row of knots at every column."""
    for knot in range(2 * KNOTS):
        for column in range(SIDE):
            total = float32(0)
            for k in range(KNOTS):
                total += field[knot * KNOTS + k] * splines[column, k]
            along[knot, column] = DISPLACEMENT * total


@numba.njit(inline="always")
def move(out, image, place, along, splines, moved):
    """Write the image with every pixel moved, between four others, into the middle of ``out``."""
    middle, last = float32((SIDE - 1) / 2), float32(WIDE - 2)
    for row in range(SIDE):
        for direction in range(2):
            for column in range(SIDE):
                total = float32(0)
                for k in range(KNOTS):
                    total += splines[row, k] * along[direction * KNOTS + k, column]
                moved[direction, column] = total
        below = float32(row) - middle
        for column in range(SIDE):
            right = float32(column) - middle
            y = place[0, 0] * below + place[0, 1] * right + place[0, 2] + moved[0, column]
            x = place[1, 0] * below + place[1, 1] * right + place[1, 2] + moved[1, column]
            y = min(max(y + middle + float32(MARGIN), float32(0)), last)
            x = min(max(x + middle + float32(MARGIN), float32(0)), last)
            i, j = np.int32(y), np.int32(x)
            part_y, part_x, at = y - float32(i), x - float32(j), i * np.int32(WIDE) + j
            above = image[at] + part_x * (image[at + 1] - image[at])
            under = image[at + WIDE] + part_x * (image[at + WIDE + 1] - image[at + WIDE])
            out[row + 1, column + 1] = above + part_y * (under - above)


@numba.njit(inline="always")
def finish(out, image, thickness):
    """Make strokes thicker or thinner, and their edges sharp, and round to bytes."""
    contrast = float32(255 / (255 - 2 * FAINT))
    for row in range(SIDE):
        for column in range(SIDE):
            x = image[row + 1, column + 2] - image[row + 1, column]
            y = image[row + 2, column + 1] - image[row, column + 1]
            gray = image[row + 1, column + 1] + thickness * np.sqrt(x * x + y * y)
            gray = (gray - float32(FAINT)) * contrast + float32(0.5)
            out[row * SIDE + column] = np.uint8(min(max(gray, float32(0)), float32(255)))


@numba.njit(nogil=True, error_model="numpy")
def distort(out, images, first_row, seed, splines):
    """Write the rows from ``first_row`` on."""
    drawn, place = np.empty(N_DRAWN, float32), np.empty((2, 3), float32)
    along, moved = np.empty((2 * KNOTS, SIDE), float32), np.empty((2, SIDE), float32)
    wide, image = np.zeros(WIDE * WIDE, float32), np.zeros((SIDE + 2, SIDE + 2), float32)
    for i in range(len(out)):
        digit = (first_row + i) % len(images)
        if first_row + i < len(images):
            out[i] = images[digit]
            continue
        for row in range(SIDE):
            for column in range(SIDE):
                wide[(row + MARGIN) * WIDE + column + MARGIN] = images[digit, row * SIDE + column]
        draw(drawn, seed, first_row + i)
        affine(place, drawn[N_FIELD:])
        smooth_along_rows(along, drawn, splines)
        move(image, wide, place, along, splines, moved)
        finish(out[i], image, float32(THICKNESS) * drawn[N_FIELD + 6])


def distorted(images, first_row, n_rows, seed=0):
    """Return rows of the endless data set (n_rows, 784), from any row on."""
    out = np.empty((n_rows, SIDE * SIDE), np.uint8)
    distort(out, images, first_row, seed, SPLINES)
    return out


# --- files ------------------------------------------------------------------------------------------------------------


def header_of(shape):
    """Return the first bytes of a .npy file of bytes."""
    from io import BytesIO

    header = BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return header.getvalue()


def save(path, array):
    """Write a .npy file that is complete or absent."""
    part = path.with_name(path.name + ".part")
    with open(part, "wb") as file:
        np.save(file, array)
    os.replace(part, path)


def holds(file, header, images, n_rows, seed):
    """Return how many of the first rows an open file has, if the last of these are right; else 0."""
    file.seek(0, os.SEEK_END)
    n_there = min((file.tell() - len(header)) // SIDE**2, n_rows)
    if n_there != n_rows:
        n_there -= n_there % PIECE
    file.seek(0)
    if n_there <= 0 or file.read(len(header)) != header:
        return 0
    first = max(0, n_there - PIECE)
    file.seek(len(header) + first * SIDE**2)
    last = distorted(images, first, n_there - first, seed).tobytes()
    return n_there if file.read(len(last)) == last else 0


def in_order(pool, ahead, make, pieces):
    """Yield ``make(piece)`` for each piece in order; the threads of a pool are at most so many pieces ahead."""
    waiting = deque()
    for piece in pieces:
        waiting.append(pool.submit(make, piece))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def generate(path, images, n_rows, seed=0, n_threads=None):
    """Write rows to a file, which is complete or absent; what an interrupted call has written is not made again.

    Raises
    ------
    OSError
        If the disk is full.
    """
    n_threads = n_threads or (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())
    part, header = path.with_name(path.name + ".part"), header_of((n_rows, SIDE * SIDE))
    with open(part, "r+b" if part.exists() else "w+b") as file, ThreadPoolExecutor(n_threads) as pool:
        done = holds(file, header, images, n_rows, seed)
        missing, free = (n_rows - done) * SIDE**2 + len(header), shutil.disk_usage(path.parent).free
        if missing > free:
            what = f"{missing / 1e9:.1f} GB are needed, but {free / 1e9:.1f} GB are free"
            raise OSError(errno.ENOSPC, what, str(path))
        try:
            file.seek(0)
            file.write(header)
            file.truncate(len(header) + done * SIDE**2)
            file.seek(0, os.SEEK_END)
            pieces = range(done, n_rows, PIECE)
            for rows in in_order(
                pool, n_threads, lambda first: distorted(images, first, min(PIECE, n_rows - first), seed), pieces
            ):
                file.write(rows)
                done += len(rows)
            file.flush()
            os.fsync(file.fileno())
        except OSError as error:
            what = f"{error.strerror} after {done:,} of {n_rows:,} rows; the next call continues there"
            raise OSError(error.errno, what, str(part)) from error
    os.replace(part, path)


def write_files(folder, n_rows, seed=0):
    """Write x.npy, y.npy, x_test.npy and y_test.npy, unless they are there."""
    folder.mkdir(parents=True, exist_ok=True)
    X, y, X_test, y_test = datasets.load_mnist()
    images, tests = (np.rint(255 * part).astype(np.uint8) for part in (X, X_test))
    save(folder / "x_test.npy", tests)
    save(folder / "y_test.npy", y_test.astype(np.uint8))
    save(folder / "y.npy", np.resize(y.astype(np.uint8), n_rows))
    path = folder / "x.npy"
    if path.exists():
        with open(path, "rb") as file:
            if holds(file, header_of((n_rows, SIDE**2)), images, n_rows, seed) == n_rows:
                return
    start = time.perf_counter()
    generate(path, images, n_rows, seed)
    print(f"{path}: {n_rows:,} rows, {path.stat().st_size / 1e9:.2f} GB, in {time.perf_counter() - start:.1f} s")


# --- training ---------------------------------------------------------------------------------------------------------


def resident_bytes(which):
    """Return the resident memory of this process, now ("VmRSS") or at its peak ("VmHWM"), as Linux counts it."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(which):
            return 1024 * int(line.split()[1])
    return 0


def train(folder, seed=0):
    """Train for one epoch; return the seconds, the bytes that the fit takes at its peak, and the test accuracy."""
    blocks = Blocks(folder / "x.npy", folder / "y.npy")
    warm_up([784, 128, 10], rows="sparse uint8")
    net = MLP([784, 128, 10], input_scale=1 / 255, seed=seed)
    linux = Path("/proc/self/clear_refs").exists()
    if linux:
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        before = resident_bytes("VmRSS")
    history = net.fit(blocks, epochs=1, batch_size=128, learning_rate=0.5, schedule=schedules.Cosine())
    return {
        "seconds": history.seconds[0],
        "memory": resident_bytes("VmHWM") - before if linux else None,
        "train_accuracy": history.accuracy[0],
        "test_accuracy": net.score(Blocks(folder / "x_test.npy", folder / "y_test.npy")),
    }


def main(rows=ROWS, folder="infinite", seed=0):
    """Write the files, train, and print and return what `train` does."""
    write_files(Path(folder), rows, seed)
    figures = train(Path(folder), seed)
    memory = "" if figures["memory"] is None else f", {figures['memory'] / 1e6:.0f} MB of memory"
    print(f"one epoch of {rows:,} rows: {figures['seconds']:.1f} s{memory}")
    print(f"accuracy {figures['train_accuracy']:.4f} while training, {figures['test_accuracy']:.4f} on the test images")
    return figures


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--folder", default="infinite")
    parser.add_argument("--seed", type=int, default=0)
    main(**vars(parser.parse_args()))
