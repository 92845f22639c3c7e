"""What the tests of the kernels share: the two dtypes, and one place for each kernel's order of arguments."""

from dataclasses import dataclass

import numpy as np
import pytest

from fastmlp.kernels import losses, matmul, simd
from fastmlp.kernels.structs import LAYER, Block, Gathered, Matrix, Prefetch, RowLosses

SENTINEL = -12345.0


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    return np.dtype(request.param)


@pytest.fixture
def lanes(dtype):
    return simd.lanes(dtype)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


class Call:
    """The matrix products and the losses with arguments by name: a kernel's new order of arguments goes here alone."""

    @staticmethod
    def forward(
        *, out, x, starts, w, b, n_in, pitch, rows, columns, floor=-np.inf, at=0, starts_at=0, w_at=0, b_at=0,
        prefetched=None,
    ):  # fmt: skip
        arguments = (
            Matrix(out, at, pitch), Gathered(x, starts, starts_at), Matrix(w, w_at, pitch), Matrix(b, b_at, 0), n_in,
            Block(*rows, *columns), float(floor),
        )  # fmt: skip
        if prefetched is None:
            matmul.forward(*arguments, 0)
        else:
            matmul.forward_and_prefetch(*arguments, Prefetch(x, prefetched, 0, min(len(prefetched), 4)))

    @staticmethod
    def update(*, w, x, starts, delta, zeros, n_rows, pitch, inputs, columns, rate, at=0, starts_at=0, delta_at=0):
        matmul.update(
            Matrix(w, at, pitch), Gathered(x, starts, starts_at), Matrix(delta, delta_at, pitch), zeros, n_rows,
            Block(*inputs, *columns), float(rate),
        )  # fmt: skip

    @staticmethod
    def update_bias(*, b, delta, zeros, n_rows, pitch, columns, rate, at=0, delta_at=0):
        block = Block(0, 1, *columns)
        matmul.update_bias(Matrix(b, at, 0), Matrix(delta, delta_at, pitch), zeros, n_rows, block, float(rate))

    @staticmethod
    def loss(
        *, row_loss, correct, z, pitch, targets, n_out, rows, weight=1.0, at=0, loss="softmax", smoothing=0.0,
        row_weights=(),
    ):  # fmt: skip
        sources, weights = np.arange(len(row_loss)), np.asarray(row_weights, z.dtype)
        losses.LOSSES[loss].losses(
            RowLosses(row_loss, correct), 0, Matrix(z, at, pitch), n_out, targets, weights, sources, *rows,
            float(weight), float(smoothing),
        )  # fmt: skip


@pytest.fixture(scope="session")
def call():
    return Call


@pytest.fixture(scope="session")
def new_layer():
    """Return a function that makes a record of a layer from some of its fields; the others are 0."""

    def new_layer(**fields):
        layer = np.zeros(1, LAYER)
        for name, value in fields.items():
            layer[name] = value
        return layer[0]

    return new_layer


@dataclass
class Padded:
    """Rows (n, m) in one flat buffer, `pitch` numbers apart, with sentinels around and between them."""

    values: np.ndarray
    pitch: int
    at: int

    def __post_init__(self):
        n_rows, n_columns = self.values.shape
        self.flat = np.full(self.at + n_rows * self.pitch + self.at, SENTINEL, self.values.dtype)
        self.view = self.flat[self.at : self.at + n_rows * self.pitch].reshape(n_rows, self.pitch)[:, :n_columns]
        self.view[:] = self.values
        self.starts = self.at + np.arange(n_rows) * self.pitch

    def outside(self):
        """Return all numbers that belong to no row."""
        mask = np.ones(self.flat.size, bool)
        for start in self.starts:
            mask[start : start + self.values.shape[1]] = False
        return self.flat[mask]

    def nothing_else_changed(self):
        return bool(np.all(self.outside() == SENTINEL))


@pytest.fixture(scope="session")
def padded():
    return Padded
