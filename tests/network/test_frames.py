"""Tables of pandas and polars, and classes that have names."""

import copy
import pickle

import numpy as np
import pytest
from support.nets import assert_bits, both_kinds, parameters, refused, snapshot

from fastmlp import MLP, reference
from fastmlp.callbacks import LearningRateFinder

pd = pytest.importorskip("pandas")

N = 60
LABELS = np.array(["cat", "dog", "eel"])


def columns():
    generator = np.random.default_rng(0)
    return {
        "age": generator.normal(size=N).astype(np.float32),
        "smokes": generator.random(N) > 0.5,
        "children": generator.integers(0, 5, N),
        "height": generator.normal(size=N),
        "group": generator.integers(0, 200, N).astype(np.uint8),
    }


def table(kind="numpy"):
    given = columns()
    if kind == "polars":
        return pytest.importorskip("polars").DataFrame(given)
    frame = pd.DataFrame(given)
    if kind == "nullable":
        return frame.convert_dtypes()
    if kind == "arrow":
        pytest.importorskip("pyarrow")
        return frame.convert_dtypes(dtype_backend="pyarrow")
    if kind == "sparse":
        return frame.astype({"smokes": pd.SparseDtype("bool", False)})
    return frame


def plain():
    return np.stack([column.astype(np.float64) for column in columns().values()], axis=1)


def classes():
    return np.random.default_rng(1).integers(0, 3, N)


# --- tables -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["numpy", "nullable", "arrow", "sparse", "polars"])
def test_a_table_trains_as_its_numbers(kind):
    X, y = table(kind), classes()
    net, expected = MLP([5, 8, 3]), MLP([5, 8, 3])
    history = net.fit(X, y, epochs=2, learning_rate=1e-4, validation_data=(X, y))
    expected.fit(plain(), y, epochs=2, learning_rate=1e-4, validation_data=(plain(), y))
    assert_bits(net, parameters(expected))
    assert history.val_loss == expected.history.val_loss
    np.testing.assert_array_equal(net.predict_proba(X), expected.predict_proba(plain()))
    assert net.feature_names == list(columns())
    assert expected.feature_names is None


def test_nullable_columns_as_y():
    pytest.importorskip("polars")
    y, numbers = classes(), plain()[:, 3]
    for given in (pd.Series(y, dtype="Int64"), pd.Series(y, dtype="category"), table("polars").with_columns(y=y)["y"]):
        net, expected = reference.MLP([5, 3]), reference.MLP([5, 3])
        net.fit(plain(), given, epochs=1)
        expected.fit(plain(), y, epochs=1)
        assert_bits(net, parameters(expected))
    net, expected = (reference.MLP([5, 1], output="identity") for _ in range(2))
    net.fit(plain(), pd.Series(numbers, dtype="Float64"), epochs=1, learning_rate=1e-4)
    expected.fit(plain(), numbers, epochs=1, learning_rate=1e-4)
    assert_bits(net, parameters(expected))
    with refused(ValueError, "y has a missing value in row 2; fill it"):
        net.fit(plain(), pd.Series([1.0, 2.0, None, *numbers[3:]], dtype="Float64"))


def polars_null(frame):
    polars = pytest.importorskip("polars")
    return table("polars").with_columns(children=polars.Series([1, None, *range(N - 2)]))


BAD = {
    "text": (lambda X: X.assign(name="x"), TypeError, "X has columns that are not numbers: 'name'"),
    "dates": (
        lambda X: X.assign(day=pd.Timestamp("2020-01-01"), name="x"),
        TypeError,
        "X has columns that are not numbers: 'day' (datetime64",
    ),
    "missing": (lambda X: X.assign(age=np.nan), ValueError, "X has a missing value in row 0, column 'age'; fill it"),
    "missing in a nullable column": (
        lambda X: X.assign(smokes=pd.array([True, None] * (N // 2), dtype="boolean")),
        ValueError,
        "X has a missing value in row 1, column 'smokes'; fill it",
    ),
    "infinite": (lambda X: X.assign(height=np.inf), ValueError, "X has inf in row 0, column 'height'"),
    "missing in polars": (polars_null, ValueError, "X has a missing value in row 1, column 'children'; fill it"),
    "no columns": (lambda X: X[[]], ValueError, "X is empty"),
}


@pytest.mark.parametrize("what", BAD)
@both_kinds
def test_other_columns_and_missing_values_are_named(what, kind):
    change, error, message = BAD[what]
    net = kind([5, 3])
    before = snapshot(net)
    with refused(error, message):
        net.fit(change(table()), classes())
    assert_bits(net, before)
    assert net.feature_names is None


CALLS = {
    "fit": lambda net, X: net.fit(X, classes()),
    "train_batch": lambda net, X: net.train_batch(X, classes()),
    "gradients": lambda net, X: net.gradients(X, classes()),
    "predict": lambda net, X: net.predict(X),
    "predict_proba": lambda net, X: net.predict_proba(X),
    "score": lambda net, X: net.score(X, classes()),
    "evaluate": lambda net, X: net.evaluate(X, classes()),
    "validation data": lambda net, X: net.fit(table(), classes(), validation_data=(X, classes())),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("kind", ["numpy", "polars"])
def test_columns_in_another_order_are_refused_everywhere(call, kind):
    X, net = table(kind), reference.MLP([5, 3])
    net.fit(X, classes(), epochs=1, learning_rate=1e-4)
    before = snapshot(net)
    other = X[["smokes", "age", "children", "height", "group"]]
    with refused(ValueError, "X has its columns in another order than in training; select them: X[net.feature_names]"):
        CALLS[call](net, other)
    CALLS["predict"](net, other[net.feature_names])
    renamed = X.rename({"age": "years"}, **({"axis": 1} if kind == "numpy" else {}))
    with refused(ValueError, "X has the unknown columns 'years' and no columns 'age', but those of training are 'age'"):
        CALLS[call](net, renamed)
    assert_bits(net, before)


def test_validation_data_must_have_the_columns_of_training():
    net, X = reference.MLP([5, 3]), table()
    with refused(ValueError, "validation X has its columns in another order"):
        net.fit(X, classes(), validation_data=(X[X.columns[::-1]], classes()))
    assert net.feature_names is None


def test_numbers_without_names_are_taken_by_position():
    net = reference.MLP([5, 3])
    net.fit(table(), classes(), epochs=1, learning_rate=1e-4)
    np.testing.assert_array_equal(net.predict(plain()), net.predict(table()))
    untold = reference.MLP([5, 3])
    untold.fit(table().set_axis(range(5), axis=1), classes(), epochs=1)
    assert untold.feature_names is None


# --- classes with names -----------------------------------------------------------------------------------------------


FORMS = {
    "strings": lambda labels: labels,
    "list": lambda labels: labels.tolist(),
    "objects": lambda labels: labels.astype(object),
    "column": lambda labels: pd.Series(labels),
    "categories": lambda labels: pd.Series(labels, dtype="category"),
    "polars": lambda labels: pytest.importorskip("polars").Series(labels.tolist()),
    "one-hot table": lambda labels: pd.get_dummies(pd.Series(labels)),
}


@pytest.mark.parametrize("form", FORMS)
@both_kinds
def test_classes_may_have_names(form, kind):
    X, y = plain().astype(np.float32) / 100, classes()
    net, expected = kind([5, 8, 3]), kind([5, 8, 3])
    given = FORMS[form](LABELS[y])
    history = net.fit(X, given, epochs=2, validation_data=(X, given), metrics=["f1"])
    expected.fit(X, y, epochs=2, validation_data=(X, y), metrics=["f1"])
    assert_bits(net, parameters(expected))
    assert history.to_dict() | {"seconds": 0} == expected.history.to_dict() | {"seconds": 0}
    np.testing.assert_array_equal(net.predict(X), LABELS[expected.predict(X)])
    np.testing.assert_array_equal(net.classes, LABELS)
    assert net.score(X, LABELS[y]) == net.score(X, np.eye(3)[y]) == expected.score(X, y)


def test_two_named_classes_in_one_output():
    X, y = plain() / 100, classes() > 0
    net, expected = (reference.MLP([5, 1], output="logistic") for _ in range(2))
    net.fit(X, np.array(["no", "yes"])[y.astype(int)], epochs=2, class_weight={"yes": 3.0})
    expected.fit(X, y, epochs=2, class_weight={1: 3.0})
    assert_bits(net, parameters(expected))
    np.testing.assert_array_equal(net.predict(X) == "yes", expected.predict(X) == 1)


def test_labels_that_are_no_classes_of_training():
    X, labels = plain(), LABELS[classes()]
    net = reference.MLP([5, 3])
    with refused(ValueError, "the network has 3 classes, but y has 2: 'cat', 'dog'; if some classes have no rows, nu"):
        net.fit(X, np.where(labels == "eel", "cat", labels))
    with refused(ValueError, "y has None in row 1, but other labels are strings"):
        net.fit(X, ["cat", None, *labels[2:]])
    assert net.classes is None
    net.fit(X, labels, epochs=1)
    before = snapshot(net)
    for wrong, message in (
        (["cow", *labels[1:]], "y has 'cow' in row 0, but the classes are 'cat', 'dog', 'eel'"),
        (classes(), f"y has {classes()[0]} in row 0, but the classes are 'cat'"),
        (pd.get_dummies(pd.Series(labels))[["dog", "cat", "eel"]], "y has the columns 'dog', 'cat', 'eel', but the"),
    ):
        with refused(ValueError, message):
            net.fit(X, wrong)
        with refused(ValueError, message):
            net.evaluate(X, wrong)
    with refused(ValueError, "class_weight has class 'cow', but the classes are 'cat'"):
        net.fit(X, labels, class_weight={"cow": 2.0})
    assert_bits(net, before)


def test_a_metric_of_a_user_sees_the_names():
    seen = []

    def look(y_true, y_pred):
        seen.append((y_true, y_pred))
        return 0.0

    net, X, labels = reference.MLP([5, 3]), plain(), LABELS[classes()]
    net.fit(X, labels, epochs=1, validation_data=(X, labels), metrics=[look])
    np.testing.assert_array_equal(seen[0][0], labels)
    np.testing.assert_array_equal(seen[0][1], net.predict(X))


def test_tables_and_names_in_a_search_for_the_learning_rate():
    net, plain_net = reference.MLP([5, 3]), reference.MLP([5, 3])
    finders = LearningRateFinder(), LearningRateFinder()
    finders[0].find(net, table("nullable"), LABELS[classes()], batch_size=4)
    finders[1].find(plain_net, plain(), classes(), batch_size=4)
    np.testing.assert_array_equal(finders[0].losses, finders[1].losses)
    assert net.classes is None


# --- copies and files -------------------------------------------------------------------------------------------------


def through_a_file(net, folder):
    net.save(folder / "net.npz")
    return MLP.load(folder / "net.npz")


def through_a_state(net, folder):
    other = reference.MLP(net.layers)
    other.load_state_dict(net.state_dict())
    return other


COPIES = {
    "file": through_a_file,
    "state": through_a_state,
    "copy": lambda net, _: copy.deepcopy(net),
    "pickle": lambda net, _: pickle.loads(pickle.dumps(net)),
}


@pytest.mark.parametrize("way", COPIES)
def test_names_are_part_of_files_and_copies(way, tmp_path):
    net = reference.MLP([5, 3])
    net.fit(table(), LABELS[classes()], epochs=1)
    other = COPIES[way](net, tmp_path)
    assert other.feature_names == net.feature_names
    np.testing.assert_array_equal(other.classes, LABELS)
    np.testing.assert_array_equal(other.predict(table()), net.predict(table()))
    with refused(ValueError, "X has its columns in another order"):
        other.predict(table()[table().columns[::-1]])


@pytest.mark.parametrize(
    "damage",
    [
        {"classes": np.array(["cat", "dog"])},
        {"classes": np.array(["cat", "cat", "eel"])},
        {"classes": np.array([1.0, 2.0, 3.0])},
        {"feature_names": np.array(["a"])},
        {"feature_names": np.arange(5)},
    ],
    ids=str,
)
def test_names_that_do_not_fit_are_refused(damage):
    net = reference.MLP([5, 3])
    with refused(ValueError, "the state is damaged"):
        net.load_state_dict(net.state_dict() | damage)
