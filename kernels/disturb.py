"""Inputs that training disturbs: normal noise is added to them, some are dropped. Each epoch it is done anew.

Rows are brought into the workspace first; packed ones keep the pairs that they have. Every thread does it for itself,
for it needs all rows.
"""

import numpy as np

from .jit import kernel, part
from .random import kept, kept_bits, noisy, random_bits, row_key
from .rows import PAIR, WORD, WORD_BYTES, ZERO, both_of, count_bits, extract_bits, keep_lanes, pack_row, words_of
from .simd import formula, lane_count, load, load_part, store

NOISE_LAYER = 1_000_000

times = formula(lambda vector, factor: vector * factor)


@part
def copy_rows(notes, marks, work, x, starts, index, orders, at, rows, n_in, ends_at, scale):
    """Bring rows of numbers."""
    for row in range(rows):
        for k in range(0, n_in, lane_count(x)):
            store(work, notes[row] + k, load_part(x, orders[at + row] * n_in + k, n_in - k))


@part
def spread_rows(notes, marks, work, x, starts, index, orders, at, rows, n_in, ends_at, scale):
    """Bring CSR rows with their zeros."""
    for row in range(rows):
        for k in range(n_in):
            work[notes[row] + k] = 0.0
        for p in range(starts[orders[at + row]], starts[orders[at + row] + 1]):
            work[notes[row] + index[p]] = x[p]


@part
def take_nothing(notes, marks, work, x, starts, index, orders, at, rows, n_in, ends_at, scale):
    """Leave it to what disturbs the rows to take them."""


@part
def disturb_nothing(
    notes, marks, work, x, starts, index, taken, features, orders, at, rows, n_in, ends_at,
    seed, epoch, noise, threshold, factor,
):  # fmt: skip
    """Leave rows as they are."""


@kernel
def disturb_rows(
    notes, marks, work, x, starts, index, taken, features, orders, at, rows, n_in, ends_at,
    seed, epoch, noise, threshold, factor,
):  # fmt: skip
    """Disturb rows that have been brought; pack them where there is room for marks."""
    lanes = lane_count(work)
    for row in range(rows):
        start = notes[row]
        if noise > 0.0:
            key = row_key(seed, epoch, orders[at + row], NOISE_LAYER)
            for k in range(0, n_in, lanes):
                store(work, start + k, noisy(load(work, start + k), key, k, noise))
        if threshold:
            key = row_key(seed, epoch, orders[at + row], 0)
            for k in range(0, n_in, lanes):
                store(work, start + k, kept(load(work, start + k), key, k, threshold, factor))
        if len(marks) > 0:  # a packed row never reaches the numbers that are still to be read
            pack_row(work, start, marks, row * words_of(n_in), work, start, n_in)


@kernel
def drop_packed(
    notes, marks, work, x, starts, index, taken, features, orders, at, rows, n_in, ends_at,
    seed, epoch, noise, threshold, factor,
):  # fmt: skip
    """Bring packed rows with zeros for the numbers that are dropped."""
    n_words, per_word, lanes = words_of(n_in), WORD_BYTES // x.itemsize, lane_count(x)
    for row in range(rows):
        first_word, out = starts[orders[at + row]], notes[row]
        key, place = row_key(seed, epoch, orders[at + row], 0), (first_word + n_words) * per_word
        for word in range(n_words):
            pairs = marks[row * n_words + word] = index[first_word + word]
            for k in range(word * PAIR * WORD, (word + 1) * PAIR * WORD, WORD):
                bits = both_of(pairs)
                if bits != ZERO:
                    keep, count = extract_bits(kept_bits(key, k, threshold), bits), count_bits(bits)
                    for i in range(0, count, lanes):
                        keep_lanes(work, out + i, x, place + i, keep >> np.uint64(i), factor)
                    out += count
                    place += count
                pairs >>= np.uint64(WORD // PAIR)


@kernel
def drop_csr(
    notes, marks, work, x, starts, index, taken, features, orders, at, rows, n_in, ends_at,
    seed, epoch, noise, threshold, factor,
):  # fmt: skip
    """Bring the numbers of CSR rows that are not dropped, and their features."""
    out, lanes = 0, lane_count(x)
    for row in range(rows):
        key, notes[row] = row_key(seed, epoch, orders[at + row], 0), out
        for p in range(starts[orders[at + row]], starts[orders[at + row] + 1]):
            taken[out], features[out] = x[p], index[p]  # which is overwritten if it is dropped
            out += random_bits(key, index[p]) >= threshold
        notes[ends_at + row] = out
    for k in range(0, out, lanes):
        store(taken, k, times(load(taken, k), factor))
