"""Networks that train on blocks."""

import signal
import subprocess
import sys
import time
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.blocks import FEATURES, FIT, C, N, blocks_of, network, state, trained

from fastmlp import MLP, MLPClassifier, MLPRegressor, reference
from fastmlp.callbacks import EarlyStopping
from fastmlp.data import Blocks
from fastmlp.data.mixing import Mixes

pytestmark = [pytest.mark.loops("blocks"), pytest.mark.filterwarnings("ignore:this fit has learned nothing")]


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
    net, fit = network(), {"shuffle": False, "optimizer": "adam", "learning_rate": 0.01}
    net.fit(*rows, **FIT | fit)
    for size, mix in ((1, 7), (13, 3), (40, 5), (400, 1)):
        assert trained(Blocks(*rows, rows=size, mix=mix), **fit) == (state(net), net.history.loss)


def test_sorted_rows_are_learned_as_well_as_shuffled_ones(rows):
    assert network().fit(blocks_of(rows, mix=12), **FIT).accuracy[-1] > network().fit(*rows, **FIT).accuracy[-1] - 0.03


# --- the same bits ----------------------------------------------------------------------------------------------------


def test_threads_change_no_bit(rows):
    for chosen, fit in (({"dropout": 0.2}, {"optimizer": "sgd"}), ({}, {})):
        expected = trained(blocks_of(rows), network(n_threads=1, **chosen), **fit)
        for n_threads in (2, 3):
            assert trained(blocks_of(rows), network(n_threads=n_threads, **chosen), **fit) == expected


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
    as_bytes = trained(Blocks(few, rows[1], rows=40, mix=5), network(input_scale=1 / 64), optimizer="sgd")
    assert as_bytes[1][-1] < as_bytes[1][0]
    dense = trained(Blocks(few / np.float32(64), rows[1], rows=40, mix=5), optimizer="sgd")
    csr = trained(Blocks(sparse.csr_array(few / np.float32(64)), rows[1], rows=40, mix=5), optimizer="sgd")
    np.testing.assert_allclose(csr[1], dense[1], rtol=1e-3)


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
        numbers = rows[0].astype(np.float64)  # other tests compile this loop
        regressor = MLPRegressor(hidden_layer_sizes=(16,), max_iter=20, learning_rate_init=0.01, random_state=0).fit(
            Blocks(numbers, numbers[:, 0], rows=40, mix=5)
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
