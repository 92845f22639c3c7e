"""`fit_many` gives each network the bits of a fit of its own."""

import copy
import warnings

import numpy as np
import pytest
from scipy import sparse
from support.nets import assert_bits, assert_same_training, data, parameters

from fastmlp import MLP, fit_many, reference
from fastmlp.callbacks import EarlyStopping
from fastmlp.diagnosis import ConvergenceWarning
from fastmlp.engine import rows as rows_module
from fastmlp.kernels.formats import FORMATS
from fastmlp.losses import LOSSES
from fastmlp.optimizers import OPTIMIZERS

pytestmark = pytest.mark.loops("many")

N_ROWS, LAYERS = 300, [4, 32, 3]
RARE_FORMATS = sorted(set(FORMATS) - {"dense"})
X, Y = data(N_ROWS)


def alone(net, X, y, **fit):
    """Train a network with a fit of its own, on rows that are copied."""
    rows = fit.pop("rows", None)
    if rows is not None:
        X, y = X[rows], y[rows]
        if fit.get("sample_weight") is not None:
            fit["sample_weight"] = fit["sample_weight"][rows]
    return net.fit(X, y, **fit)


def assert_same_as_alone(nets, X, y, fits=None, n_jobs=2, **fit):
    """Train networks together, and copies of them one after another; compare everything but the seconds."""
    single = copy.deepcopy(nets)
    fits = fits or [{} for _ in nets]
    own = copy.deepcopy(fits)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        histories = fit_many(nets, X, y, fits=fits, n_jobs=n_jobs, **fit)
        expected = [alone(net, X, y, **fit | arguments) for net, arguments in zip(single, own, strict=True)]
    for net, same, history, other in zip(nets, single, histories, expected, strict=True):
        assert_same_training(net, same)
        assert (net.history, same.history) == (history, other)


def rows_of(kind, n_rows=N_ROWS, n_features=40):
    """An X that trains in this format, and the settings that networks need for it."""
    generator = np.random.default_rng(3)
    numbers = generator.integers(0, 256, (n_rows, n_features))
    if "packed" in kind or kind == "csr":
        numbers *= generator.random((n_rows, n_features)) < 0.1
    if "bytes" in kind:
        return numbers.astype(np.uint8), {"input_scale": 1 / 255}
    x = (numbers / 255).astype(np.float32)
    return (sparse.csr_array(x) if kind == "csr" else x), {}


@pytest.mark.parametrize(
    "kind", [kind if kind == "dense" else pytest.param(kind, marks=pytest.mark.slow) for kind in FORMATS]
)
@pytest.mark.parametrize("n_jobs", [1, 2, 5])
def test_each_format_of_rows(kind, n_jobs):
    X, settings = rows_of(kind)
    y = np.arange(N_ROWS) % 3
    bootstrap = np.random.default_rng(1).integers(0, N_ROWS, N_ROWS)
    nets = [MLP([40, width, 3], seed=width, **settings) for width in (8, 32, 100)]
    fits = [{}, {"rows": bootstrap}, {"batch_size": 7, "validation_fraction": 0.2}]
    assert_same_as_alone(nets, X, y, fits, n_jobs, epochs=3, batch_size=50)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_each_optimizer(optimizer):
    nets = [MLP(LAYERS, seed=seed) for seed in range(3)]
    fits = [{}, {"learning_rate": 0.003}, {"rows": np.arange(0, N_ROWS, 2), "clip_norm": 0.1}]
    assert_same_as_alone(nets, X, Y, fits, epochs=3, optimizer=optimizer)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("output", LOSSES)
def test_each_head(output, dtype):
    y = Y if output == "softmax" else (np.eye(3)[Y] if output == "logistic" else np.abs(X[:, :3]))
    nets = [MLP(LAYERS, seed=seed, output=output, dtype=dtype) for seed in range(3)]
    assert_same_as_alone(nets, X, y, [{}, {"batch_size": 5}, {"rows": Y != 0}], epochs=2)


def random_fit(generator):
    """A network and the arguments of its fit, drawn from what needs few compiled loops."""
    depth = generator.integers(0, 3)
    hidden = [int(width) for width in generator.choice([1, 7, 16, 33, 90], depth)]
    dropout = float(generator.choice([0.0, 0.0, 0.0, 0.3])) if depth else 0.0
    net = reference.MLP if generator.random() < 0.2 else MLP
    fit = {
        "epochs": int(generator.integers(1, 4)),
        "batch_size": int(generator.choice([1, 5, 32, 64, 200, 1000])) if depth else 50,
        "optimizer": "sgd" if dropout else str(generator.choice(["sgd", "adam"])),
        "shuffle": bool(generator.random() < 0.8),
    }
    if generator.random() < 0.4:
        fit["rows"] = generator.integers(-N_ROWS, N_ROWS, generator.integers(30, 400))
    if generator.random() < 0.3:
        fit["sample_weight"] = generator.random(N_ROWS) + 0.01
    if generator.random() < 0.3:
        fit["class_weight"] = "balanced"
    if generator.random() < 0.3:
        fit["validation_fraction"] = 0.3
    elif generator.random() < 0.3:
        fit["validation_data"] = X[:50], Y[:50]
    if generator.random() < 0.2:
        fit["schedule"] = "cosine"
    if generator.random() < 0.2:
        fit["callbacks"] = [EarlyStopping("loss", patience=1)]
    settings = {
        "seed": int(generator.integers(99)),
        "dropout": dropout,
        "n_threads": [None, 1, 2][generator.integers(3)],
    }
    return net([4, *hidden, 3], **settings), fit


@pytest.mark.parametrize("part", range(8))
def test_random_mixtures(part):
    """Twenty-five mixtures of one to six networks."""
    generator = np.random.default_rng(part)
    for _ in range(25):
        nets, fits = zip(*(random_fit(generator) for _ in range(generator.integers(1, 7))), strict=True)
        assert_same_as_alone(list(nets), X, Y, list(fits), n_jobs=int(generator.integers(1, 4)))


def test_x_and_y_of_other_kinds():
    names = np.array(["ant", "bee", "cat"])[Y]
    nets = [MLP(LAYERS, seed=seed) for seed in range(2)]
    assert_same_as_alone(nets, X.astype(np.float64), names, epochs=2)
    assert nets[0].classes.tolist() == ["ant", "bee", "cat"]
    assert_same_as_alone([*nets, MLP(LAYERS)], X.tolist(), names, epochs=1)


def test_networks_of_several_outputs_and_dtypes_share_x():
    y = (Y > 0).astype(float)
    nets = [
        reference.MLP([4, 5, 2]),
        reference.MLP([4, 5, 1], output="identity"),
        reference.MLP([4, 5, 1], output="logistic", dtype="float64"),
    ]
    assert_same_as_alone(nets, X, y, epochs=2)


def test_fits_resume():
    nets = [MLP(LAYERS, seed=seed) for seed in range(3)]
    once = copy.deepcopy(nets)
    fit_many(nets, X, Y, epochs=2, optimizer="adam")
    fit_many(nets, X, Y, epochs=5, resume=True)
    fit_many(once, X, Y, epochs=5, optimizer="adam")
    for net, other in zip(nets, once, strict=True):
        assert_bits(net, parameters(other))
        assert net.history.loss == other.history.loss


def test_the_heaviest_rows_of_a_csr_matrix_may_repeat():
    """Buffers are as large as a batch needs that has one row again and again."""
    dense = np.zeros((60, 40), np.float32)
    dense[:, 0], dense[7] = 1, np.linspace(1, 2, 40)
    y, rows = np.arange(60) % 3, np.full(200, 7)
    nets = [reference.MLP([40, 8, 3], dropout=0.1), reference.MLP([40, 8, 3])]
    assert_same_as_alone(nets, sparse.csr_array(dense), y, [{"rows": rows}, {}], epochs=2)
    found = rows_module.rows_in_place(sparse.csr_array(dense), "auto", 1)
    assert found.most_nonzeros(64, rows) == 64 * 40 > found.most_nonzeros(64)
