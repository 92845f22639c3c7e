"""What the tests of the kernels share: the two dtypes, and one place for each kernel's order of arguments."""

from dataclasses import dataclass

import numpy as np
import pytest

from fastmlp.kernels import dense, losses, simd
from fastmlp.kernels.structs import Matrix, RowLosses

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
    """The dense kernels and the loss by name: whoever changes a kernel's arguments changes them here."""

    @staticmethod
    def forward(*, out, x, starts, w, b, n_in, pitch, rows, columns, floor=-np.inf, at=0, starts_at=0, w_at=0, b_at=0):
        dense.forward(
            out, at, x, starts, starts_at, w, w_at, pitch, b, b_at, n_in, pitch, *rows, *columns, float(floor),
            x, starts, 0, 1,
        )  # fmt: skip

    @staticmethod
    def update(*, w, x, starts, delta, zeros, n_rows, pitch, inputs, columns, rate, at=0, starts_at=0, delta_at=0):
        dense.update(
            w, at, pitch, x, starts, starts_at, delta, delta_at, zeros, n_rows, pitch, *inputs, *columns, float(rate)
        )  # fmt: skip

    @staticmethod
    def update_bias(*, b, delta, zeros, n_rows, pitch, columns, rate, at=0, delta_at=0):
        dense.update_bias(b, at, delta, delta_at, zeros, n_rows, pitch, *columns, float(rate))

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


@dataclass
class Padded:
    """Rows (n, m) that lie in one flat buffer: `pitch` numbers from row to row, sentinels around and between."""

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
        """Everything but the rows themselves, to see that it is as it was."""
        mask = np.ones(self.flat.size, bool)
        for start in self.starts:
            mask[start : start + self.values.shape[1]] = False
        return self.flat[mask]

    def nothing_else_changed(self):
        return bool(np.all(self.outside() == SENTINEL))


@pytest.fixture(scope="session")
def padded():
    return Padded
