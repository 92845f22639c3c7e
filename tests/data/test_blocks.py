"""Networks that train on blocks."""

import _thread
import signal
import subprocess
import sys
import threading
import time
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastmlp
from fastmlp import MLP, MLPClassifier, MLPRegressor, reference
from fastmlp.callbacks import Checkpoint, EarlyStopping
from fastmlp.data import Blocks
from fastmlp.data.checked import CheckedBlocks
from fastmlp.data.mixing import Mixes
from fastmlp.data.read_ahead import ReadAhead
from fastmlp.engine import free_memory
from fastmlp.names import Names

pytestmark = [pytest.mark.loops("blocks"), pytest.mark.filterwarnings("ignore:this fit has learned nothing")]

N, FEATURES, C = 997, 20, 3
FIT = {"epochs": 3, "batch_size": 16, "learning_rate": 0.1, "optimizer": "momentum"}


@pytest.fixture(scope="module")
def rows():
    """Rows of three classes, sorted by class."""
    random = np.random.default_rng(0)
    y = np.sort(random.integers(C, size=N))
    return (random.standard_normal((N, FEATURES)) + 2 * np.eye(C, FEATURES)[y]).astype(np.float32), y


@pytest.fixture
def files(rows, tmp_path):
    np.save(tmp_path / "x.npy", rows[0])
    np.save(tmp_path / "y.npy", rows[1])
    return tmp_path / "x.npy", tmp_path / "y.npy"


def network(**settings):
    return MLP([FEATURES, 16, C], seed=3, **settings)


def blocks_of(rows, **settings):
    return Blocks(*rows, **{"rows": 40, "mix": 5} | settings)


def state(net):
    return [parameter.tobytes() for parameter in net.weights + net.biases]


def trained(blocks, net=None, **fit):
    net = network() if net is None else net
    history = net.fit(blocks, **FIT | fit)
    return state(net), history.loss


# --- order ------------------------------------------------------------------------------------------------------------


@given(
    st.lists(st.integers(1, 30), min_size=1, max_size=20), st.integers(1, 40), st.integers(1, 100), st.booleans(),
    st.integers(0, 2**63 - 1),
)  # fmt: skip
def test_an_epoch_takes_each_row_once_in_whole_batches(lengths, batch_size, most_rows, any_order, key):
    mixes = Mixes(np.array(lengths), batch_size, most_rows, any_order, True)
    cut = list(mixes.after(0))
    assert [mix.first for mix in cut] + [mixes.n_rows] == [0] + [mix.end for mix in cut]
    assert all(mix.first % batch_size == 0 and mix.first < mix.end for mix in cut)
    assert all(mix.end - mix.first <= max(most_rows, batch_size) for mix in cut)
    assert max(mix.end - mix.first for mix in cut) <= mixes.rows_of_a_mix
    assert sorted(mixes.blocks(key).tolist()) == list(range(len(lengths)))
    assert any_order or mixes.blocks(key).tolist() == list(range(len(lengths)))
    for mix in cut:
        assert sorted(mixes.rows(key, mix).tolist()) == list(range(mix.end - mix.first))
    for step in range(mixes.n_batches):
        assert next(mixes.after(step)).end > step * batch_size
        assert list(mixes.after(step))[-1] == cut[-1]


def test_one_mix_of_all_rows_without_shuffling_is_a_fit_in_memory(rows):
    net, other = network(), network()
    net.fit(Blocks(*rows, rows=N), **FIT, shuffle=False)
    other.fit(*rows, **FIT, shuffle=False)
    assert state(net) == state(other)
    assert net.history.loss == other.history.loss


def test_without_shuffling_blocks_change_nothing(rows):
    net = network()
    net.fit(*rows, **FIT, shuffle=False)
    for size, mix in ((1, 7), (13, 3), (40, 5), (400, 1)):
        assert trained(Blocks(*rows, rows=size, mix=mix), shuffle=False) == (state(net), net.history.loss)


def test_sorted_rows_are_learned_as_well_as_shuffled_ones(rows):
    assert network().fit(blocks_of(rows, mix=12), **FIT).accuracy[-1] > network().fit(*rows, **FIT).accuracy[-1] - 0.03


# --- the same bits ----------------------------------------------------------------------------------------------------


def test_threads_change_no_bit(rows):
    expected = trained(blocks_of(rows), network(dropout=0.2, n_threads=1))
    for n_threads in (2, 3):
        assert trained(blocks_of(rows), network(dropout=0.2, n_threads=n_threads)) == expected


def test_a_slow_disk_changes_no_bit(rows, files):
    class Slow:
        def __len__(self):
            return 25

        def __getitem__(self, block):
            time.sleep(0.002 * (block % 3))
            chosen = slice(40 * block, 40 * (block + 1))
            return rows[0][chosen], rows[1][chosen]

    assert trained(Blocks(Slow(), mix=5)) == trained(Blocks(*files, rows=40, mix=5)) == trained(blocks_of(rows))


def test_the_plain_network_takes_the_same_batches(rows):
    net, plain = network(), reference.MLP([FEATURES, 16, C], seed=3)
    net.fit(blocks_of(rows), **FIT)
    plain.fit(blocks_of(rows), **FIT)
    np.testing.assert_allclose(net.history.loss, plain.history.loss, rtol=1e-4)


def test_bytes_and_sparse_rows(rows):
    from scipy import sparse

    few = (np.abs(rows[0]) * 20).astype(np.uint8) * (rows[0] > 0.5)
    as_bytes = trained(Blocks(few, rows[1], rows=40, mix=5), network(input_scale=1 / 64))
    assert as_bytes[1][-1] < as_bytes[1][0]
    dense = trained(Blocks(few / np.float32(64), rows[1], rows=40, mix=5))
    csr = trained(Blocks(sparse.csr_array(few / np.float32(64)), rows[1], rows=40, mix=5))
    np.testing.assert_allclose(csr[1], dense[1], rtol=1e-3)


# --- resuming ---------------------------------------------------------------------------------------------------------


class StopsAfter:
    """Ctrl-C after so many mixes."""

    def __init__(self, n):
        self.n = n

    def on_mix_end(self, net, fit):
        self.n -= 1
        if self.n == 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize("after", [1, 2, 5, 11])
def test_a_fit_resumes_within_an_epoch(rows, tmp_path, after):
    expected, net = network(), network()
    expected.fit(blocks_of(rows), **FIT)
    with pytest.warns(UserWarning, match="Ctrl-C stopped training in epoch"):
        net.fit(blocks_of(rows), **FIT, callbacks=[StopsAfter(after)])
    assert 0 < net.history.steps < expected.history.steps
    net.save(tmp_path / "net.npz", training=True)
    net = MLP.load(tmp_path / "net.npz")
    history = net.fit(blocks_of(rows), **FIT, resume=True)
    assert state(net) == state(expected)
    assert (history.loss, history.accuracy, history.steps) == (
        expected.history.loss, expected.history.accuracy, expected.history.steps,
    )  # fmt: skip


def test_ctrl_c_at_any_step(rows):
    class Stops:
        def on_step(self, net, fit):
            if fit.step % 7 == 5:
                raise KeyboardInterrupt

    expected, net = network(), network()
    expected.fit(blocks_of(rows), **FIT)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net.fit(blocks_of(rows), **FIT, callbacks=[Stops()])
        for _ in range(100):
            if net.history.steps == expected.history.steps:
                break
            net.fit(blocks_of(rows), **FIT, resume=True, callbacks=[Stops()] if net.history.steps < 100 else [])
    assert state(net) == state(expected)
    assert net.history.loss == expected.history.loss


def test_checkpoints_within_an_epoch(rows, tmp_path):
    expected = network()
    expected.fit(blocks_of(rows), **FIT)
    with pytest.warns(UserWarning, match="Ctrl-C"):
        network().fit(blocks_of(rows), **FIT, callbacks=[Checkpoint(tmp_path / "net.npz", seconds=0), StopsAfter(7)])
    net = MLP.load(tmp_path / "net.npz")
    assert 0 < net.history.steps < expected.history.steps
    net.fit(blocks_of(rows), **FIT, resume=True)
    assert state(net) == state(expected)
    with pytest.raises(ValueError, match="within an epoch"):
        Checkpoint("net.npz", monitor="val_loss", seconds=1)


def test_an_unfinished_epoch_is_of_the_same_blocks(rows):
    net = network()
    with pytest.warns(UserWarning, match="Ctrl-C"):
        net.fit(blocks_of(rows), **FIT, callbacks=[StopsAfter(2)])
    before = state(net)
    with pytest.raises(ValueError, match="an epoch of 997 rows in batches of 16, but there are 960 rows"):
        net.fit(blocks_of((rows[0][:960], rows[1][:960])), **FIT, resume=True)
    assert state(net) == before
    net.fit(*rows, **FIT, resume=True)  # rows in memory begin a new epoch
    assert net._training_state.unfinished is None


@pytest.mark.parametrize(
    ("settings", "fit"),
    [({"rows": 20}, {}), ({"mix": 3}, {}), ({}, {"shuffle": False})],
    ids=["rows", "mix", "shuffle"],
)
def test_an_unfinished_epoch_has_an_order(rows, settings, fit):
    net = network()
    with pytest.warns(UserWarning, match="Ctrl-C"):
        net.fit(blocks_of(rows), **FIT, callbacks=[StopsAfter(2)])
    before = state(net)
    with pytest.raises(ValueError, match="give Blocks with the same rows and mix, and the same shuffle"):
        net.fit(Blocks(*rows, **{"rows": 40, "mix": 5} | settings), **FIT, **fit, resume=True)
    assert state(net) == before
    net.fit(blocks_of(rows), **FIT, resume=True)


def test_a_new_learning_rate_begins_with_an_epoch(rows):
    class Changes:
        def on_mix_end(self, net, fit):
            fit.learning_rate_factor = 0.0 if fit.epoch == 0 else 1.0

    net = network()
    net.fit(blocks_of(rows), **FIT | {"epochs": 1})
    assert trained(blocks_of(rows), epochs=1, callbacks=[Changes()]) == (state(net), net.history.loss)
    changed = network()
    changed.fit(blocks_of(rows), **FIT | {"epochs": 2}, callbacks=[Changes()])
    assert changed.history.learning_rate == [0.1, 0.0]


# --- everything else that a fit has -----------------------------------------------------------------------------------


def test_weights_and_classes(rows):
    X, y = rows
    weight, names = np.random.default_rng(1).random(N), np.array(["one", "two", "three"])[y]
    fit = {**FIT, "shuffle": False, "class_weight": "balanced"}
    net, other = network(), network()
    net.fit(Blocks(X, names, sample_weight=weight, rows=40, mix=5), **fit)
    other.fit(X, names, sample_weight=weight, **fit)
    assert net.classes.tolist() == other.classes.tolist()
    np.testing.assert_allclose(net.history.loss, other.history.loss, rtol=1e-5)
    assert net.predict(Blocks(X, rows=77)).tolist() == net.predict(X).tolist()


def test_validation_and_callbacks(rows):
    net = network()
    stop = EarlyStopping(patience=1)
    history = net.fit(
        blocks_of(rows), **FIT | {"epochs": 20}, validation_data=Blocks(*rows, rows=100), metrics=["f1_macro"],
        callbacks=[stop], schedule="cosine",
    )  # fmt: skip
    assert len(history.val_loss) == len(history.loss) == len(history.metrics["val_f1_macro"])
    other = network()
    other.fit(blocks_of(rows), **FIT | {"epochs": 20}, validation_data=rows, callbacks=[EarlyStopping(patience=1)],
              schedule="cosine")  # fmt: skip
    np.testing.assert_allclose(history.val_loss, other.history.val_loss, rtol=1e-9)


def test_validation_fraction_holds_out_blocks(rows):
    blocks = blocks_of(rows)
    first, second = blocks.split(0.2, seed=5)
    assert (first.n_blocks, second.n_blocks) == (20, 5)
    assert first.n_rows + second.n_rows == N
    assert len(network().fit(blocks, **FIT, validation_fraction=0.2).val_loss) == 3
    with pytest.raises(ValueError, match="only one block"):
        Blocks(*rows, rows=N).split(0.5)


@pytest.mark.parametrize("weighted", [False, True])
def test_evaluate_and_score(rows, weighted):
    net = network()
    net.fit(*rows, **FIT)
    weight = np.random.default_rng(2).random(N) if weighted else None
    blocks = Blocks(*rows, sample_weight=weight, rows=33)
    expected = net.evaluate(*rows, sample_weight=weight, metrics=["f1_macro", "log_loss"])
    measured = net.evaluate(blocks, metrics=["f1_macro", "log_loss"])
    assert list(measured) == list(expected)
    np.testing.assert_allclose(list(measured.values()), list(expected.values()), rtol=1e-9)
    assert net.score(blocks) == pytest.approx(net.score(*rows, sample_weight=weight))


def test_predictions_in_a_file_or_an_array(rows, tmp_path):
    net, path = network(), tmp_path / "p.npy"
    net.fit(*rows, **FIT)
    blocks, expected = Blocks(rows[0], rows=33), net.predict_proba(rows[0])
    written = net.predict_proba(blocks, out=path)
    assert isinstance(written, np.memmap)
    assert written.tobytes() == np.load(path).tobytes() == expected.tobytes()
    out = np.empty((N, C), np.float64)
    assert net.predict_proba(blocks, out=out) is out
    assert (out == expected).all()
    assert net.predict(rows[0], out=tmp_path / "labels.npy").tolist() == net.predict(rows[0]).tolist()
    with pytest.raises(ValueError, match="shape"):
        net.predict(blocks, out=out)
    with pytest.raises(ValueError, match=r"\.npy"):
        net.predict(blocks, out=tmp_path / "p.txt")
    with pytest.raises(FileNotFoundError):
        net.predict(blocks, out=tmp_path / "none" / "p.npy")
    assert not list(tmp_path.glob("*.tmp"))


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="needs a limit for the size of files")
def test_a_full_disk_leaves_no_part_of_the_predictions(rows, tmp_path):
    code = f"""
import os, resource, signal, sys
import numpy as np
from fastmlp.data.predictions import collected
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
try:
    collected((np.zeros(10) for _ in range(100)), 1000, {str(tmp_path / "p.npy")!r})
except OSError as error:
    print(error.filename)
"""
    (tmp_path / "p.npy").write_text("old")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == str(tmp_path / "p.npy"), done.stderr
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("p.npy", "old")]


def test_predictions_do_not_overwrite_their_rows(rows, files, monkeypatch):
    net, X = MLP([FEATURES, FEATURES], output="identity", seed=0), rows[0].copy()
    monkeypatch.chdir(files[0].parent)
    for blocks, out in (
        (Blocks(*files), "x.npy"),
        (Blocks([files[0]] * 2, rows=100).split(0.5)[0], files[0]),
        (Blocks(X), X[::-1]),
    ):
        with pytest.raises(ValueError, match="out has the rows of X"):
            net.predict(blocks, out=out)
    assert np.load(files[0]).tobytes() == rows[0].tobytes() == X.tobytes()


def test_estimators(rows):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of scikit-learn, which expects more epochs
        classifier = MLPClassifier(
            hidden_layer_sizes=(16,), max_iter=5, batch_size=20, learning_rate_init=0.01, random_state=0
        ).fit(blocks_of(rows))
        regressor = MLPRegressor(hidden_layer_sizes=(16,), max_iter=20, learning_rate_init=0.01, random_state=0).fit(
            Blocks(rows[0], rows[0][:, 0], rows=40, mix=5)
        )
    assert classifier.score(*rows) > 0.8
    assert classifier.classes_.tolist() == [0, 1, 2]
    assert len(classifier.loss_curve_) == classifier.n_iter_ == 5
    assert regressor.score(rows[0], rows[0][:, 0]) > 0.3
    for call in (classifier.predict, classifier.predict_proba, regressor.predict):
        np.testing.assert_allclose(call(blocks_of(rows)), call(rows[0]), rtol=1e-5)
    for settings_, match in (({"solver": "lbfgs"}, "lbfgs"), ({"n_networks": 2}, "n_networks")):
        with pytest.raises(ValueError, match=match):
            MLPClassifier(**settings_).fit(blocks_of(rows))
    with pytest.raises(ValueError, match="early_stopping needs validation data"):
        MLPClassifier(early_stopping=True).fit(blocks_of(rows))
    X, y = rows
    for method in ("predict", "predict_proba"):
        expected = getattr(classifier, method)(X)
        np.testing.assert_array_equal(getattr(classifier, method)(blocks_of(rows)), expected)
    np.testing.assert_array_equal(regressor.predict(Blocks(X, rows=40)), regressor.predict(X))
    weights = np.linspace(0, 1, N)
    assert classifier.score(blocks_of(rows)) == classifier.score(X, y)
    weighted = Blocks(X, y, sample_weight=weights, rows=40)
    assert classifier.score(weighted) == classifier.score(X, y, sample_weight=weights)
    assert regressor.score(Blocks(X, X[:, 0], rows=40)) == regressor.score(X, X[:, 0])
    for refused, match in (((X,), "y is missing"), ((blocks_of(rows), y), "do not give y again")):
        with pytest.raises(TypeError, match=match):
            classifier.score(*refused)
    with pytest.raises(ValueError, match="Blocks without y"):
        classifier.score(Blocks(X))


def test_estimators_know_the_columns_of_a_table(rows, tmp_path):
    pd, _ = pytest.importorskip("pandas"), pytest.importorskip("pyarrow")
    table = pd.DataFrame(rows[0], columns=[f"column {i}" for i in range(FEATURES)])
    table.assign(kind=np.array(["a", "b", "c"])[rows[1]]).to_csv(tmp_path / "rows.csv", index=False)
    blocks = Blocks(tmp_path / "rows.csv", target="kind", rows=40)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        classifier = MLPClassifier(hidden_layer_sizes=(16,), max_iter=2, random_state=0).fit(blocks)
    assert classifier.feature_names_in_.tolist() == table.columns.tolist()
    np.testing.assert_array_equal(classifier.predict(blocks), classifier.predict(table.astype(np.float64)))
    with pytest.raises(ValueError, match="feature names should match"):
        classifier.predict(Blocks(tmp_path / "rows.csv", features=table.columns.tolist()[::-1]))


# --- bad input --------------------------------------------------------------------------------------------------------


def test_nan_is_found_before_its_block_is_trained_on(rows):
    X = rows[0].copy()
    X[700, 3] = np.nan
    net = network()
    with pytest.raises(ValueError, match="X has nan in row 700 of X, column 3"):
        net.fit(Blocks(X, rows[1], rows=40, mix=5), **FIT)
    assert np.isfinite(np.concatenate([w.ravel() for w in net.weights])).all()
    net.fit(*rows, **FIT)  # it can still be used


def test_a_fit_that_fails_before_its_first_step_draws_nothing(rows):
    X = rows[0].copy()
    X[:, 3] = np.inf
    net = network()
    with pytest.raises(ValueError, match="X has inf in row"):
        net.fit(Blocks(X, rows[1], rows=40, mix=5), **FIT)
    assert net.history.steps == 0
    assert trained(blocks_of(rows), net) == trained(blocks_of(rows))


@pytest.mark.parametrize("weight", [0, 1e-60, 1e60])
def test_weights_that_are_nothing_or_infinite_as_float32(rows, weight):
    with pytest.raises(ValueError, match="the weights of all rows add up to"):
        network().fit(Blocks(*rows, sample_weight=np.full(N, float(weight)), rows=40), **FIT)


def test_labels_are_checked_before_anything_is_trained(rows):
    y = rows[1].copy()
    y[900] = 7
    net = network()
    before = state(net)
    with pytest.raises(ValueError, match="y has label 7 in row 900|y has label 7"):
        net.fit(Blocks(rows[0], y, rows=40), **FIT)
    assert state(net) == before


def test_a_reader_that_raises_leaves_the_network_after_its_last_step(rows):
    class Broken:
        calls = 0

        def __len__(self):
            return 20

        def __getitem__(self, block):
            Broken.calls += 1
            if Broken.calls > 90:
                raise OSError("the disk is gone")
            chosen = slice(40 * block, 40 * (block + 1))
            return rows[0][chosen], rows[1][chosen]

    net = network()
    with pytest.raises(OSError, match="the disk is gone"):
        net.fit(Blocks(Broken(), mix=5), **FIT)
    steps = net.history.steps
    assert net._training_state.steps == steps > 0


def test_parts_of_blocks_name_rows_of_the_whole(rows):
    X, y = rows[0].copy(), rows[1].astype(float)
    X[700, 3], y[41] = np.nan, 0.5
    messages = []
    for blocks in (Blocks(X, rows[1], rows=40, mix=5), Blocks(rows[0], y, rows=40)):
        for part in blocks.split(0.4):
            try:
                network().fit(part, **FIT)
            except ValueError as error:
                messages.append(str(error))
    assert messages == [
        "X has nan in row 700 of X, column 3",
        "y has 0.5 in row 41 of y, but class labels are integers from 0 on",
    ]


def test_targets_of_a_part_do_not_read_the_rows(rows, files):
    part = Blocks(*files, rows=40).split(0.4)[1]
    assert [block.X for block in part._source.targets()] == [None] * part.n_blocks


def test_ctrl_c_ends_a_fit_whose_reader_hangs(rows, monkeypatch):
    monkeypatch.setattr("fastmlp.data.read_ahead._MOST_PATIENCE", 0.01)
    go_on, calls = threading.Event(), []

    class Hangs:
        def __len__(self):
            return 24

        def __getitem__(self, block):
            calls.append(block)
            reads_ahead = threading.current_thread() is not threading.main_thread()
            if reads_ahead and len(calls) > 80 and not go_on.is_set():
                _thread.interrupt_main()
                go_on.wait(120)
            return rows[0][40 * block : 40 * block + 40], rows[1][40 * block : 40 * block + 40]

    n_threads = threading.active_count()
    with pytest.warns(UserWarning, match="Ctrl-C stopped training in epoch"):
        network().fit(Blocks(Hangs(), mix=5), **FIT)
    go_on.set()
    for thread in threading.enumerate():
        if thread.name == "fastmlp reads ahead":
            thread.join(120)
    assert threading.active_count() == n_threads


def test_a_file_that_changes_is_noticed(rows, files):
    class Rewrites:
        def on_epoch_end(self, net, fit):
            np.save(files[0], rows[0] + 1)

    net = network()
    with pytest.raises(ValueError, match="changed"):
        net.fit(Blocks(*files, rows=40, mix=5), **FIT, callbacks=[Rewrites()])
    assert len(net.history.loss) == 1


def test_what_blocks_are_not_for(rows):
    blocks = blocks_of(rows)
    for call, match in (
        (lambda: network().fit(blocks, rows[1]), "do not give y again"),
        (lambda: network().fit(blocks, sample_weight=np.ones(N)), "do not give sample_weight again"),
        (lambda: network().fit(rows[0]), "fit needs y"),
        (lambda: network().train_batch(blocks, rows[1]), "only fit"),
        (lambda: network().fit(Blocks(rows[0], rows=40)), "without y"),
        (lambda: fastmlp.fit_many([network()], blocks, rows[1]), "X is Blocks, which only fit"),
        (lambda: fastmlp.Ensemble(network()).predict(blocks), "X is Blocks, which only fit"),
        (lambda: network().hidden_activations(blocks), "X is Blocks, which only fit"),
        (lambda: np.asarray(blocks), "X is Blocks, which only fit"),
        (lambda: network().evaluate(Blocks(rows[0], rows=40)), "without y"),
        (lambda: MLP([FEATURES + 1, C]).fit(blocks), "20 features, but the network has 21"),
    ):
        with pytest.raises((TypeError, ValueError), match=match):
            call()


# --- memory and threads -----------------------------------------------------------------------------------------------


def test_memory_does_not_grow_with_the_rows():
    small, large = (np.broadcast_to(np.zeros(100, np.float32), (n, 100)) for n in (2_000_000, 8_000_000))
    assert Blocks(small).memory() == Blocks(large).memory() < 2**27


def test_few_rows_are_kept_and_mixed_by_their_width():
    wide = np.broadcast_to(np.zeros(100_000, np.float32), (600, 100_000))
    net, y = MLP([100_000, 2]), np.arange(600) % 2
    assert CheckedBlocks(net, Blocks(wide, y), Names()).first_rows().X.nbytes < 2**23
    narrow = np.broadcast_to(np.zeros(1, np.uint8), (2**26, 1))
    assert Blocks(narrow).memory() < 2**28


def test_memory_counts_wide_targets_and_numbers():
    X, y = (np.broadcast_to(np.zeros(100, np.float32), (1_000_000, 100)) for _ in range(2))
    one, wide = Blocks(X, y[:, 0]).memory(), Blocks(X, y).memory()
    assert wide > one + 2**25
    assert Blocks(X, y[:, 0]).memory(dtype=np.float64) > 1.5 * one
    items = Blocks([(X[:1000], y[:1000])] * 1000)
    assert items.memory() > Blocks([(X[:1000], y[:1000, 0])] * 1000).memory() + 2**25


def test_a_map_larger_than_memory_warns(files, monkeypatch):
    monkeypatch.setattr("fastmlp.data.maps.free_memory", lambda: 1000)
    with pytest.warns(UserWarning, match=r"fit\(fastmlp.data.Blocks\(X, y\)\)"):
        network().fit(np.load(files[0], mmap_mode="r"), np.load(files[1]), **FIT)


def test_rows_are_packed_only_where_that_fits(rows, monkeypatch):
    X = np.where(rows[0] > 1, rows[0], 0)
    expected = network(first_layer="sparse")
    expected.fit(X, rows[1], **FIT)
    monkeypatch.setattr("fastmlp.engine.rows._ALWAYS_FITS", 0)
    monkeypatch.setattr("fastmlp.engine.rows.free_memory", lambda: 0)
    net = network(first_layer="sparse")
    net.fit(X, rows[1], **FIT)
    assert state(net) == state(expected)
    assert net._engine.prepare(X, fastmlp.optimizers.SGD(), fastmlp.engine.base.NO_CLIPPING).rows.format == "dense"


def test_free_memory_of_groups_and_limits(tmp_path):
    def write(path, text):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)

    write("proc/meminfo", "MemTotal: 9000 kB\nMemAvailable: 5000 kB\n")
    assert free_memory.free_memory(tmp_path) == 5000 * 1024
    write("proc/self/cgroup", "0::/a\n")
    write("proc/self/mountinfo", "1 0 0:1 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n")
    write("sys/fs/cgroup/a/memory.max", "1000000\n")
    write("sys/fs/cgroup/a/memory.current", "700000\n")
    write("sys/fs/cgroup/a/memory.stat", "anon 5\ninactive_file 200000\n")
    assert free_memory.free_memory(tmp_path) == 500_000


@settings(max_examples=20)
@given(st.integers(0, 5), st.integers(0, 6))
def test_reading_ahead(n_items, n_taken):
    def items():
        yield from range(1, n_items + 1)

    before = threading.active_count()
    ahead = ReadAhead(items())
    taken = [ahead.next(lambda: True) for _ in range(n_taken)]
    ahead.close()
    assert taken == [*range(1, n_items + 1), *[None] * n_taken][:n_taken]
    assert threading.active_count() == before
