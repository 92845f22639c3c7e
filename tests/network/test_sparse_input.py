"""CSR matrices, other sparse matrices, bytes and the scale of the input: the bits of the same numbers given dense."""

import numpy as np
import pytest
from scipy import sparse
from support.nets import DTYPES, LONG, AtEpochEnd, assert_bits, parameters, refused, snapshot

from fastmlp import MLP, reference
from fastmlp.engine import rows as engine_rows
from fastmlp.engine.rows import rows_to_train
from fastmlp.engine.threads import run_team

LAYERS = ([70, 33, 3], [70, 5, 4, 3], [70, 3], [70, 130, 3])
FORMATS = ("csr", "csc", "coo", "bsr", "lil", "dok")


def numbers(n_rows=90, part=0.2, n_features=70, dtype="float32", seed=0):
    generator = np.random.default_rng(seed)
    X = generator.standard_normal((n_rows, n_features)).astype(dtype)
    X[generator.random(X.shape) >= part] = 0
    X[n_rows // 2] = 0
    return X, generator.integers(0, 3, n_rows)


def pixels(n_rows=90):
    generator = np.random.default_rng(1)
    X = generator.integers(0, 256, (n_rows, 70)).astype(np.uint8)
    X[generator.random(X.shape) < 0.8] = 0
    return X, generator.integers(0, 3, n_rows)


def trained(X, y, layers=(70, 33, 3), batch_size=16, n_threads=1, cls=MLP, **settings):
    net = cls(layers, seed=3, n_threads=n_threads, **settings)
    history = net.fit(X, y, epochs=3, batch_size=batch_size, validation_data=(X, y))
    return net, history


def assert_same(got, expected, X, plain):
    """The same training, to the bit, and the same answers."""
    assert_bits(got[0], snapshot(expected[0]))
    assert got[1].loss == expected[1].loss
    assert got[1].accuracy == expected[1].accuracy
    assert got[1].val_loss == expected[1].val_loss
    np.testing.assert_array_equal(got[0].predict_proba(X), expected[0].predict_proba(plain))
    np.testing.assert_array_equal(got[0].predict(X), expected[0].predict(plain))


@pytest.mark.parametrize("n_threads", [1, 2, 3])
@pytest.mark.parametrize("layers", LAYERS, ids=str)
@pytest.mark.parametrize("batch_size", [1, 16, 90])
def test_csr_has_the_bits_of_dense(layers, batch_size, n_threads):
    X, y = numbers()
    dense = trained(X, y, layers, batch_size, first_layer="dense")
    csr = sparse.csr_array(X)
    assert_same(trained(csr, y, layers, batch_size, n_threads), dense, csr, X)


@pytest.mark.parametrize("n_threads", [1, 2])
def test_csr_without_nonzeros(n_threads):
    X, y = numbers()
    zeros = np.zeros_like(X)
    csr = sparse.csr_array(zeros)
    assert_same(trained(csr, y, n_threads=n_threads), trained(zeros, y, first_layer="dense"), csr, zeros)


@pytest.mark.main_dtype("float32")  # twins train on CSR rows with dropout in float64
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("kind", ["array", "matrix"])
def test_every_sparse_format(form, kind, dtype):
    X, y = numbers(dtype=dtype)
    given = getattr(sparse, f"{form}_{kind}")(X)
    assert_same(trained(given, y, dtype=dtype), trained(X, y, dtype=dtype), given, X)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("kind", ["array", "matrix"])
def test_answers_of_every_sparse_format_in_float64(form, kind):
    X, y = numbers(dtype="float64")
    given, net = getattr(sparse, f"{form}_{kind}")(X), MLP([70, 33, 3], dtype="float64", seed=3)
    np.testing.assert_array_equal(net.predict_proba(given), net.predict_proba(X))
    assert net.evaluate(given, y) == net.evaluate(X, y)


@pytest.mark.parametrize("n_threads", [1, 3])
def test_csr_in_a_batch_of_several_chunks(n_threads):
    X, y = numbers(2 * LONG)
    csr = sparse.csr_array(X)
    assert_same(trained(csr, y, batch_size=LONG, n_threads=n_threads), trained(X, y, batch_size=LONG), csr, X)


@pytest.mark.parametrize(
    ("optimizer", "dtype"),
    [
        ("sgd", "float32"),
        ("sgd", "float64"),
        ("adam", "float32"),
        pytest.param("adam", "float64", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("batch_size", [30, 200, 600])
def test_packed_rows_in_batches_of_any_length(batch_size, optimizer, dtype):
    X, y = numbers(700, n_features=71, dtype=dtype)
    expected = None
    for first_layer, n_threads in (("dense", 1), ("sparse", 1), ("sparse", 2)):
        net = MLP([71, 130, 3], seed=3, dtype=dtype, n_threads=n_threads, first_layer=first_layer)
        history = net.fit(X, y, epochs=2, batch_size=batch_size, optimizer=optimizer, learning_rate=0.01)
        got = snapshot(net), history.loss
        expected = expected or got
        assert_bits(net, expected[0])
        assert got[1] == expected[1]


def test_steps_and_gradients_of_csr_and_bytes():
    X, y = numbers()
    small, labels = pixels()
    scaled = small * np.float32(1 / 255)
    for given, plain, target, scale in ((sparse.csr_array(X), X, y, 1.0), (small, scaled, labels, 1 / 255)):
        nets = MLP([70, 33, 3], input_scale=scale), MLP([70, 33, 3])
        for got, expected in zip(nets[0].gradients(given, target), nets[1].gradients(plain, target), strict=True):
            np.testing.assert_equal(got, expected)
        assert nets[0].train_batch(given, target) == nets[1].train_batch(plain, target)
        assert_bits(nets[0], snapshot(nets[1]))
        assert nets[0].evaluate(given, target) == nets[1].evaluate(plain, target)


def test_csr_indices_are_put_right_on_a_copy():
    X, y = numbers()
    expected = trained(X, y)
    order = np.argsort(np.random.default_rng(0).random(np.count_nonzero(X)))
    rows, columns = (places[order] for places in np.nonzero(X))
    rows, columns, values = (
        np.tile(rows, 2),
        np.tile(columns, 2),
        np.tile(X[X != 0][order] / 2, 2),
    )  # each in two halves
    by_row = np.argsort(rows, kind="stable")
    indptr = np.searchsorted(rows[by_row], np.arange(len(X) + 1))
    given = sparse.csr_array((values[by_row], columns[by_row].astype(np.int32), indptr), shape=X.shape)
    before = given.indices.copy(), given.data.copy()
    assert_same(trained(given, y), expected, given, X)
    np.testing.assert_array_equal(given.indices, before[0])
    np.testing.assert_array_equal(given.data, before[1])
    given.has_canonical_format = True  # what a matrix says of itself is not believed
    assert_same(trained(given, y), expected, given, X)


def test_csr_of_other_numbers():
    X, y = pixels()
    plain = trained(X.astype(np.float32), y)
    for dtype in (np.uint8, np.int32, np.float64):
        given = sparse.csr_array(X.astype(dtype))
        assert_same(trained(given, y), plain, given, X.astype(np.float32))
    wide = sparse.csr_array(X.astype(np.float32))
    wide.indices, wide.indptr = wide.indices.astype(np.int64), wide.indptr.astype(np.int64)
    assert_same(trained(wide, y), plain, wide, X.astype(np.float32))
    with_zeros = sparse.csr_array(X.astype(np.float32))
    with_zeros.data[::3] = 0
    assert_same(trained(with_zeros, y), trained(with_zeros.toarray(), y), with_zeros, with_zeros.toarray())


def break_csr(change):
    X, y = numbers()
    csr = sparse.csr_array(X)
    change(csr)
    return csr, y


def set_item(name, at, value):
    def change(csr):
        getattr(csr, name)[at] = value

    return change


def shorten(name):
    def change(csr):
        setattr(csr, name, getattr(csr, name)[:-1])

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_item("indices", 5, 70), "its indices must be from 0 to 69, but there is 70"),
        (set_item("indices", 5, -1), "its indices must be from 0 to 69, but there is -1"),
        (set_item("indptr", 3, 10**6), "its indptr must start with 0 and never decrease"),
        (set_item("indptr", 0, 1), "its indptr must start with 0 and never decrease"),
        (set_item("indptr", -1, 10**6), "its indptr ends at 1000000, but there are"),
        (shorten("indptr"), "its indptr must have 91 entries, not 90"),
        (shorten("indices"), "indices and"),
        (shorten("data"), "numbers"),
        (set_item("data", 2, np.nan), "nan"),
        (set_item("data", 2, np.inf), "inf"),
    ],
)
def test_a_broken_matrix_is_refused(change, message):
    csr, y = break_csr(change)
    for cls in (MLP, reference.MLP):
        net = cls([70, 5, 3])
        before = snapshot(net)
        for call in (
            lambda net=net: net.fit(csr, y),
            lambda net=net: net.predict(csr),
            lambda net=net: net.train_batch(csr, y),
        ):
            with refused(ValueError, message):
                call()
        assert_bits(net, before)


@pytest.mark.parametrize("form", ["csc", "coo"])
def test_places_out_of_range_are_refused(form):
    X, y = numbers()
    given = getattr(sparse, f"{form}_matrix")(X)
    (given.indices if form == "csc" else given.row)[4] = 90
    with refused(ValueError, "its indices must be from 0 to 89, but there is 90"):
        MLP([70, 5, 3]).fit(given, y)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (sparse.csr_array((0, 70)), ValueError, "X is empty: its shape is (0, 70)"),
        (sparse.csr_array((3, 69)), ValueError, "X has 69 features, but the network has 70 inputs"),
        (sparse.csr_array((3, 70), dtype=complex), TypeError, "X holds complex values"),
    ],
    ids=str,
)
def test_sparse_matrices_that_do_not_fit(given, error, message):
    with refused(error, message):
        MLP([70, 5, 3]).predict(given)


def eye(form):
    return getattr(sparse, f"{form}_matrix")(np.eye(6, dtype=np.float32))


def changed(form, **attributes):
    matrix = eye(form)
    for name, value in attributes.items():
        setattr(matrix, name, value)
    return matrix


def lil(row, place, value):
    matrix = eye("lil")
    getattr(matrix, row)[0] = [value] * place
    return matrix


@pytest.mark.parametrize(
    "given",
    [
        lil("rows", 1, 10**7),
        lil("rows", 1, -1),
        lil("rows", 3, 2),
        changed("dia", offsets=np.zeros(2, np.int32)),
        changed("csr", indptr=np.array([0, 10**6, 2, 3, 4, 5, 6], np.uint32)),
        changed("csr", indptr=np.array([0, 2**31 - 1, -(2**30), 3, 4, 5, 6], np.int32)),
        changed("csr", indptr=np.array([0, 1, 2, 3, 4, 5, 6], np.float64)),
        changed("csc", indptr=np.array([0, 2**63, 2, 3, 4, 5, 6], np.uint64)),
        changed("bsr", indptr=np.array([0, 10**6, 2, 3, 4, 5, 6], np.uint32)),
        changed("bsr", data=np.ones(6, np.float32)),
    ],
    ids=range(10),
)
def test_more_broken_matrices_are_refused(given):
    net = MLP([6, 5, 3])
    before = snapshot(net)
    with pytest.raises(ValueError, match="X is broken"):
        net.fit(given, np.arange(6) % 3)
    assert_bits(net, before)


def test_a_matrix_that_changes_while_it_trains():
    X, y = numbers()
    expected, _ = trained(X, y)
    csr = sparse.csr_array(X)

    def change(*_):
        csr.indices[:] = 10**8
        csr.indptr[:] = 10**8

    net = MLP([70, 33, 3], seed=3)
    net.fit(csr, y, epochs=3, batch_size=16, callbacks=[AtEpochEnd(change)])
    assert_bits(net, snapshot(expected))


def test_rows_that_change_while_they_are_packed():
    X, _ = numbers(3000, part=0.1)
    grown = np.ones_like(X)

    class Changing:  # as another thread might do between the count and the copy
        def __init__(self):
            self.calls = 0

        def __call__(self, n_threads, call):
            run_team(n_threads, call)
            X[:] = grown

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fastmlp.engine.rows.run_team", Changing())
        rows = rows_to_train(X, "sparse", 8, 2)
    counts = np.diff(rows.indptr)
    words = rows.indices.view(np.uint8)
    for row in range(len(X)):
        mask = words[8 * rows.indptr[row] :][:8]  # one word, and so are the two numbers of each pair
        assert np.unpackbits(mask).sum() <= counts[row] - 1


def test_memory_of_packed_rows_is_used_again_when_nobody_has_them():
    X, _ = numbers(2000)
    first, second = (rows_to_train(X, "sparse", 8, 1) for _ in range(2))
    assert not np.shares_memory(first.indices, second.indices)
    expected, place = second.x.copy(), first.indices.ctypes.data
    first.indices[:] = 2**64 - 1
    del first
    third = rows_to_train(X, "sparse", 8, 1)
    assert third.indices.ctypes.data == place
    for row in range(len(X)):
        start, end = third.indptr[row : row + 2]
        np.testing.assert_array_equal(third.indices[start:end], second.indices[start:end])
    np.testing.assert_array_equal(second.x, expected)
    del second, third
    larger = rows_to_train(numbers(4000)[0], "sparse", 8, 1)
    assert larger.indices.size >= larger.indptr[-1]


def test_few_rows_leave_the_memory_of_many_to_the_next_many(monkeypatch):
    """As when a network is trained with validation data again and again."""
    monkeypatch.setattr(engine_rows, "_kept", [])
    X = np.eye(240, 130, dtype=np.float32)
    rows_to_train(X, "sparse", 8, 1)  # its memory is kept
    (kept,) = engine_rows._kept
    few, many = rows_to_train(X[:40], "sparse", 8, 1), rows_to_train(X, "sparse", 8, 1)
    assert many.indices is kept
    assert few.indices is not kept
    del many, few
    assert engine_rows._kept[0] is kept


def test_a_matrix_without_numbers_trains():
    net = MLP([70, 5, 3])
    net.fit(sparse.csr_array((9, 70), dtype=np.float32), np.arange(9) % 3, epochs=2, batch_size=4)
    dense = MLP([70, 5, 3])
    dense.fit(np.zeros((9, 70), np.float32), np.arange(9) % 3, epochs=2, batch_size=4)
    assert_bits(net, snapshot(dense))


# --- bytes and the scale ----------------------------------------------------------------------------------------------


@pytest.mark.main_dtype("float32")
@pytest.mark.parametrize("n_threads", [1, 3])
@pytest.mark.parametrize("first_layer", ["dense", "sparse"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [1.0, 1 / 255])
def test_bytes_have_the_bits_of_numbers(n_threads, first_layer, dtype, scale):
    X, y = pixels()
    plain = X.astype(dtype) * np.dtype(dtype).type(scale)
    settings = {"n_threads": n_threads, "dtype": dtype, "first_layer": first_layer, "input_scale": scale}
    net = trained(X, y, **settings)
    assert_same(net, trained(plain, y, dtype=dtype), X, plain)
    read_only = X.copy()
    read_only.flags.writeable = False
    for other in (read_only, np.asfortranarray(X), np.repeat(X, 2, axis=0)[::2]):
        assert_bits(trained(other, y, **settings)[0], snapshot(net[0]))


def test_every_kind_of_numbers_is_scaled():
    X, y = pixels()
    plain = X * np.float32(0.1)
    expected = trained(plain, y)
    for given in (X.astype(np.float32), X.astype(int), X.tolist(), sparse.csr_array(X)):
        assert_same(trained(given, y, input_scale=0.1), expected, given, plain)


def test_the_reference_takes_the_same_input():
    X, y = pixels()
    expected, _ = trained(X * np.float64(1 / 255), y, cls=reference.MLP, dtype="float64")
    for given in (X, sparse.csr_array(X), X.astype(float)):
        net, _ = trained(given, y, cls=reference.MLP, dtype="float64", input_scale=1 / 255)
        for got, parameter in zip(parameters(net), parameters(expected), strict=True):
            np.testing.assert_allclose(got, parameter, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    ("scale", "error"),
    [
        (0, ValueError),
        (-1.0, ValueError),
        (np.nan, ValueError),
        (1e-60, ValueError),
        ("1", TypeError),
        (True, TypeError),
    ],
)
def test_a_wrong_scale_is_refused(scale, error):
    with pytest.raises(error, match="input_scale (must be|.* is too small)"):
        MLP([4, 3], input_scale=scale)


def test_the_scale_is_saved(tmp_path):
    net = MLP([70, 5, 3], input_scale=1 / 255)
    net.save(tmp_path / "net.npz")
    X, _ = pixels()
    loaded = MLP.load(tmp_path / "net.npz")
    assert loaded.input_scale == net.input_scale
    np.testing.assert_array_equal(loaded.predict_proba(X), net.predict_proba(X))


def test_bytes_that_would_overflow_are_named():
    X, y = pixels()
    with refused(ValueError, "too large for float32"):
        MLP([70, 5, 3], input_scale=1e38).fit(X, y)
