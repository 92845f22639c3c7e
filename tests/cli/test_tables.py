"""Tables on the command line: what ``fastmlp train`` makes of CSV and Parquet files, and what it refuses."""

import csv
import gzip
import io

import numpy as np
import pytest
from support.command_line import epoch_lines

import fastmlp
from fastmlp import reference
from fastmlp.cli import main
from fastmlp.cli.tables import read_table

RANDOM = np.random.default_rng(0)
N = 200
SIZE = RANDOM.normal(2020, 5, N)
COLOR = RANDOM.choice(["red", "green", "light blue"], N)
IS_OLD = RANDOM.random(N) < 0.5
PRICE = 1000 + 20 * (SIZE - 2020) + 100 * (COLOR == "red") - 30 * IS_OLD
KIND = np.where(PRICE > 1030, "dear", "cheap")


@pytest.fixture(autouse=True)
def plain(monkeypatch, tmp_path):
    """The network in NumPy, which compiles nothing; files lie in the working directory."""
    monkeypatch.setattr(fastmlp, "MLP", reference.MLP, raising=False)
    monkeypatch.chdir(tmp_path)


def text(columns, separator=",", names=True):
    lines = [separator.join(columns)] if names else []
    lines += [separator.join(map(str, row)) for row in zip(*columns.values(), strict=True)]
    return "\n".join(lines) + "\n"


def write(columns, name="t.csv", **how):
    opened = gzip.open if name.endswith(".gz") else open
    with opened(name, "wt", encoding="utf-8") as file:
        file.write(text(columns, **how))
    return name


HOUSES = {"id": np.arange(N) * 7, "size": SIZE, "color": COLOR, "old": IS_OLD, "price": PRICE, "kind": KIND}
NUMBERS = {"a": SIZE, "b": RANDOM.random(N), "class": (SIZE > 2020).astype(int)}


def train(*line, status=0, layers=8):
    assert (
        main(
            [
                "train",
                "--layers",
                str(layers),
                "--epochs",
                "40",
                "--learning-rate",
                "0.02",
                "--learning-rate",
                "0.02",
                *map(str, line),
            ]
        )
        == status
    )


def predicted(capsys, *line):
    capsys.readouterr()
    assert main(["predict", *line]) == 0
    names, *rows = csv.reader(io.StringIO(capsys.readouterr().out))
    return names, np.array(rows)


def error(capsys, *line):
    assert main([*map(str, line)]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    return message


# --- train and predict ------------------------------------------------------------------------------------------------


def test_regression_with_categories(capsys):
    write(HOUSES)
    train("--data", "t.csv", "--target", "price", "--ignore", "id", "kind", "--save", "net.npz")
    output = capsys.readouterr().out
    assert output.startswith("5-8-1 relu, target 'price' (a number), 160 training and 40 test rows, batch 64, Adam")
    assert "epoch      loss  test loss   test R2   seconds\n" in output
    r2 = float(output.splitlines()[-1].split()[2].rstrip(","))
    net = reference.MLP.load("net.npz")
    assert net.feature_names == ["size", "color=green", "color=light blue", "color=red", "old"]
    names, rows = predicted(capsys, "net.npz", "--data", "t.csv")
    assert names == ["prediction"]
    found = rows[:, 0].astype(float)
    assert np.corrcoef(found, PRICE)[0, 1] > 0.9
    assert r2 > 0.7


def test_the_saved_network_takes_the_table_as_it_is(capsys):
    """What it predicts of the test rows is what was measured on scaled rows in the last epoch."""
    write(HOUSES)
    train("--data", "t.csv", "--target", "price", "--ignore", "id", "kind")
    lines = capsys.readouterr().out.splitlines()
    last_epoch = next(line for line in reversed(lines) if line.split()[:1] == ["40"])
    r2 = float(lines[-1].split()[2].rstrip(","))
    assert r2 == pytest.approx(float(last_epoch.split()[3]), abs=2e-4)


def test_classes_of_texts(capsys):
    write(HOUSES)
    train("--data", "t.csv", "--ignore", "id", "price", "--save", "net.npz", "--class-weight", "dear=2")
    output = capsys.readouterr().out
    assert "target 'kind' (2 classes)" in output
    assert "class weights dear=2" in output
    assert float(output.split()[-1]) > 0.8
    names, rows = predicted(capsys, "net.npz", "--data", "t.csv")
    assert names == ["label", "probability_cheap", "probability_dear"]
    assert (rows[:, 0] == KIND).mean() > 0.8


@pytest.mark.parametrize("labels", [[0, 1], [3, 7], [-1, 1], [False, True]])
def test_classes_keep_their_labels(labels, capsys):
    columns = NUMBERS | {"class": np.array(labels)[NUMBERS["class"]]}
    write(columns)
    train("--data", "t.csv", "--save", "net.npz")
    assert float(capsys.readouterr().out.split()[-1]) > 0.8
    names, rows = predicted(capsys, "net.npz", "--data", "t.csv")
    assert names == ["label", *(f"probability_{label}" for label in labels)]
    assert set(rows[:, 0]) == set(map(str, labels))
    assert (rows[:, 0] == columns["class"].astype(str)).mean() > 0.8


def test_all_forms_of_a_table_give_the_same_network(capsys):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    table = pandas.DataFrame(HOUSES)
    table["color"] = table["color"].astype("category")
    table.set_index("id", drop=False).to_parquet("t.parquet")
    files = [write(HOUSES), write(HOUSES, "t.csv.gz"), write(HOUSES, "t.tsv", separator="\t"), "t.parquet"]
    files += [write(HOUSES, "s.csv", separator=";")]
    states = []
    for file in files:
        train("--data", file, "--target", "price", "--ignore", "id", "kind", "--save", "net.npz")
        states.append(reference.MLP.load("net.npz").weights)
    for state in states[1:]:
        for one, other in zip(states[0], state, strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_table_without_names(capsys):
    write(NUMBERS, names=False)
    train("--data", "t.csv", "--save", "net.npz")
    assert "target '2' (2 classes)" in capsys.readouterr().out
    message = error(capsys, "predict", "net.npz", "--data", "t.csv")
    assert (
        "t.csv has 3 columns, but the network has 2 inputs; if one of them is the target, say which: --target"
        in message
    )
    _, rows = predicted(capsys, "net.npz", "--data", "t.csv", "--target", "2")
    write({"a": NUMBERS["a"], "b": NUMBERS["b"]}, "new.csv", names=False)
    _, others = predicted(capsys, "net.npz", "--data", "new.csv")
    np.testing.assert_array_equal(rows, others)


def test_task_decides(capsys):
    write(NUMBERS)
    train("--data", "t.csv", "--task", "regression")
    assert "target 'class' (a number)" in capsys.readouterr().out
    write(NUMBERS | {"class": NUMBERS["class"] * 1.0})
    train("--data", "t.csv")
    assert "target 'class' (a number)" in capsys.readouterr().out
    train("--data", "t.csv", "--task", "classification")
    assert "target 'class' (2 classes)" in capsys.readouterr().out
    write(NUMBERS | {"class": np.arange(N)})
    train("--data", "t.csv")
    assert "target 'class' (a number)" in capsys.readouterr().out


def test_few_rows_get_more_epochs_by_default(capsys):
    write(NUMBERS)
    assert main(["train", "--data", "t.csv", "--layers", "4"]) == 0
    epochs = [line.split()[0] for line in epoch_lines(capsys.readouterr().out)]
    assert epochs == [str(epoch) for epoch in range(10, 101, 10)]


def test_a_constant_column_changes_nothing(capsys):
    """Neither a large number nor one that is not exact leaves a rest when the scaling is folded into the network."""
    columns = {"a": SIZE, "large": [1_700_000_000] * N, "tenth": [0.1] * N, "price": PRICE}
    train("--data", write(columns), "--save", "net.npz")
    lines = capsys.readouterr().out.splitlines()
    last_epoch = next(line for line in reversed(lines) if line.split()[:1] == ["40"])
    assert float(lines[-1].split()[2].rstrip(",")) == pytest.approx(float(last_epoch.split()[3]), abs=2e-4)
    assert not reference.MLP.load("net.npz").weights[0][1:].any()


def test_a_report_of_a_table(capsys):
    write(HOUSES)
    train("--data", "t.csv", "--ignore", "id", "price", "--save", "net.npz", "--report", "one.html")
    line = ["report", "net.npz", "--data", "t.csv", "--target", "kind", "-o", "two.html"]
    assert main(line) == 0
    assert "saved two.html" in capsys.readouterr().err


# --- what is read -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cells", "dtype", "values"),
    [
        (["1", "2", "-3"], "i8", [1, 2, -3]),
        (["1", "2.5", "1e3"], "f8", [1, 2.5, 1000]),
        (["1", "", "NA"], "f8", [1, np.nan, np.nan]),
        (["true", "False", "TRUE"], "?", [True, False, True]),
        (["1", "x", ""], "O", ["1", "x", ""]),
        (["007", "1_0", "x"], "O", ["007", "1_0", "x"]),
        (["99999999999999999999", "1", "2"], "f8", [1e20, 1, 2]),
    ],
)
@pytest.mark.parametrize("chunk", [1, 2, 4096])
def test_kinds_of_columns(cells, dtype, values, chunk, monkeypatch):
    """Whatever a part of the file looks like, the whole decides."""
    monkeypatch.setattr("fastmlp.cli.tables._CHUNK", chunk)
    write({"a": cells, "b": [1, 2, 3]})
    column = read_table("t.csv").columns["a"]
    assert column.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(column, np.array(values, dtype))


@pytest.mark.parametrize("last", ["7,8", "7.5,8", ",8", '"7","8"', "x,8", "7,8\n\n"])
def test_many_numbers_are_read_as_all_others_are(last, monkeypatch):
    """The fast way gives up at the first line that is not like those before."""
    with open("t.csv", "w") as file:
        file.write("a,b\n" + "".join(f"{i},{i / 4}\n" for i in range(40)) + last)
    tables = []
    for first in (3, 40, 4096):
        monkeypatch.setattr("fastmlp.cli.tables._FIRST_CHUNK", first)
        tables.append(read_table("t.csv").columns)
    assert len(tables[0]["a"]) == 41
    for table in tables:
        for name, column in table.items():
            assert column.dtype == tables[0][name].dtype
            np.testing.assert_array_equal(column, tables[0][name])


def test_quotes_and_empty_lines():
    with open("t.csv", "w", encoding="utf-8-sig", newline="") as file:
        file.write('\r\na,"b, c"\r\n1,"two\nlines"\r\n\r\n2,"say ""x"""\r\n')
    table = read_table("t.csv")
    assert list(table.columns) == ["a", "b, c"]
    assert table.columns["b, c"].tolist() == ["two\nlines", 'say "x"']


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "options", "words"),
    [
        (
            {},
            "--target prize",
            "t.csv has no column 'prize'; its columns are 'id', 'size', 'color', 'old', 'price', 'kind'",
        ),
        ({}, "--target price --ignore price", "column 'price' of t.csv is the target, and cannot be ignored"),
        ({}, "--ignore id size color old price", "t.csv has no columns beside the target"),
        ({}, "--task regression", "in its target 'kind', but regression needs numbers"),
        ({}, "--target price --task classification", "in its target 'price', row 0, but classes are integers"),
        ({}, "--target price --class-weight balanced", "--class-weight is for classes, but the target has numbers"),
        ({}, "--class-weight cheep=2", "--class-weight has class 'cheep', but the classes are 'cheap', 'dear'"),
        ({"kind": ["a"] * N}, "", "t.csv has only a in its target 'kind'; classes must be two or more"),
        ({"kind": ["a"] * (N - 1) + ["b"]}, "", "t.csv has a single row of class b; each class needs two rows"),
        (
            {"color": [f"no {i}" for i in range(N)]},
            "",
            "200 different texts in column 'color', more than 100 categories",
        ),
        ({"size": ["", *SIZE[1:]]}, "", "1 missing value in column 'size', the first in row 0; fill them, drop the"),
        ({"color": [*COLOR[1:], ""]}, "", "1 missing value in column 'color', the first in row 199"),
        ({"size": ["inf", *SIZE[1:]]}, "", "t.csv has inf in column 'size', row 0"),
        ({"size": 1.7e9 + SIZE}, "", "column 'size' varies by 4.9 around 1.70000202e+09, too little for the float32"),
        ({"a=b": COLOR}, "--target kind", "t.csv has a column 'a=b' with = in its name"),
    ],
)
def test_wrong_tables(changes, options, words, capsys):
    write(HOUSES | changes)
    assert words in error(capsys, "train", "--data", "t.csv", *options.split())


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "t.csv has no rows"),
        ("a,b\n", "t.csv has no rows"),
        ("a,b\n1,2\n1\n", "t.csv cannot be read: the first line has 2 columns, but line 3 has 1"),
        ("a,a\n1,2\n3,4\n", "t.csv cannot be read: it has several columns named 'a'"),
        ('a,b\n1,"2\n', "t.csv cannot be read: "),
        ("\xff", "t.csv is not encoded in UTF-8 (byte 0xff); save it"),
        (",a\n0,1\n1,2\n", "column 0 of t.csv has no name (is it the index of a table of pandas?); leave it out"),
        ("1,x,2\n2,y,3\n3,x,4\n", "t.csv has no line of names; categories need a name"),
    ],
)
def test_wrong_files(content, words, capsys):
    with open("t.csv", "wb") as file:
        file.write(content.encode("latin-1"))
    assert words in error(capsys, "train", "--data", "t.csv")


def test_wrong_calls(capsys):
    assert "cannot read --data 'no.csv': No such file" in error(capsys, "train", "--data", "no.csv")
    assert "--target is for tables" in error(capsys, "train", "--data", "xor", "--target", "x")
    write(NUMBERS)
    assert "only fastmlp train, predict and report read" in error(capsys, "bench", "--data", "t.csv")
    assert " would overwrite " in error(capsys, "train", "--data", "t.csv", "--save", "t.csv")


def test_predict_refuses_what_training_did_not_have(capsys):
    write(HOUSES)
    train("--data", "t.csv", "--target", "price", "--ignore", "id", "kind", "--save", "net.npz")
    capsys.readouterr()
    write(HOUSES | {"color": ["pink", *COLOR[1:]]}, "new.csv")
    message = error(capsys, "predict", "net.npz", "--data", "new.csv")
    assert "new.csv has pink in column 'color', row 0, which training did not have; it had 'green'" in message
    write({name: HOUSES[name] for name in ("size", "old")}, "new.csv")
    assert "new.csv has no columns 'color=green', " in error(capsys, "predict", "net.npz", "--data", "new.csv")
    write(HOUSES | {"size": ["big", *SIZE[1:]]}, "new.csv")
    assert "new.csv has the text 'big' in column 'size', row 0" in error(
        capsys, "predict", "net.npz", "--data", "new.csv"
    )
