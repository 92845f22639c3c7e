"""Tables as people have them: from spreadsheets, through pipes, in other encodings, with numbers beyond float32."""

import gzip
import io
import os
import sys
import threading

import numpy as np
import pytest
from support.command_line import posix

import fastmlp
from fastmlp import reference
from fastmlp.cli import main
from fastmlp.cli.output import in_options
from fastmlp.cli.tables import read_table

LINES = [("a", "b", "y"), *((f"{i}.5", str(i * i % 7), "pq"[i % 2]) for i in range(40))]


@pytest.fixture(autouse=True)
def plain(monkeypatch, tmp_path):
    """The network in NumPy, which compiles nothing; files lie in the working directory."""
    monkeypatch.setattr(fastmlp, "MLP", reference.MLP, raising=False)
    monkeypatch.chdir(tmp_path)


def text(separator=",", end="\n", lines=LINES):
    return "".join(separator.join(line) + end for line in lines)


def two_columns(a, y):
    return text(lines=[("a", "y"), *((str(a(i)), str(y(i))) for i in range(40))])


def write(content, name="t.csv"):
    with open(name, "wb") as file:
        file.write(content if isinstance(content, bytes) else content.encode())
    return name


def trained(data, *options):
    return main(["train", "--data", data, "--layers", "3", "--epochs", "2", "--save", "net.npz", *options])


def error(capsys, *line):
    """The message of a command that is refused in one line before anything is printed or written."""
    before = sorted(os.listdir())
    assert main([*map(str, line)]) == 2
    output, message = capsys.readouterr()
    assert (output, message.count("\n")) == ("", 1)
    assert sorted(os.listdir()) == before
    return message


def columns(table):
    return {name: values.tolist() for name, values in table.columns.items()}


# --- what is read -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("spreadsheet.csv", "\ufeff" + text(";", "\r\n")),
        ("mac.csv", text(end="\r")),
        ("ends.csv", text(end=",\n")),
        ("more-ends.csv", text(end=",,,\n")),
        ("empty-rows.csv", text() + ",,\n  ,,\n\n"),
        ("plain.csv.gz", text()),
        ("compressed.csv", gzip.compress(text().encode())),
        ("x.CSV.GZ", gzip.compress(text().encode())),
        ("spaces.txt", text("  ")),
    ],
)
def test_the_same_table_in_other_forms(name, content):
    expected = columns(read_table(write(text())))
    assert columns(read_table(write(content, name))) == expected


def test_empty_columns_at_the_end_of_lines_without_names():
    table = read_table(write("1,2,\n3,4,\n"))
    assert columns(table) == {"0": [1, 3], "1": [2, 4]}


@pytest.mark.parametrize("content", [text().encode(), gzip.compress(text().encode())], ids=["text", "gz"])
def test_standard_input(content, monkeypatch, capsys):
    def given():
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))

    given()
    assert trained("-") == 0
    given()
    capsys.readouterr()
    assert main(["predict", "net.npz", "--data", "-"]) == 0
    from_input = capsys.readouterr().out
    assert main(["predict", "net.npz", "--data", write(text())]) == 0
    assert capsys.readouterr().out == from_input
    monkeypatch.setattr(sys, "stdin", None)
    assert "standard input is closed" in error(capsys, "predict", "net.npz", "--data", "-")
    given()
    assert "standard input has no column 'z'" in error(capsys, "train", "--data", "-", "--target", "z")


@posix
@pytest.mark.parametrize("name", ["pipe.csv", "pipe"])
def test_a_pipe_is_read_once(name, capsys):
    trained(write(text()))
    os.mkfifo(name)
    for line in (["train", "--layers", "3", "--epochs", "1"], ["predict", "net.npz"]):
        writer = threading.Thread(target=write, args=(text(), name))
        writer.start()
        assert main([*line, "--data", name]) == 0
        writer.join()


def test_parquet(capsys):
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    largest = 2**64 - 1
    pq.write_table(
        pa.table({
            "large": pa.array([largest, 1], pa.uint64()), "small": pa.array([1, 2], pa.uint64()),
            "view": pa.array([" p", "q "], pa.string_view()), "nothing": pa.nulls(2),
        }),
        "t.parquet",
    )  # fmt: skip
    table = read_table("t.parquet")
    assert table.columns["large"].tolist() == [float(largest), 1.0]
    assert table.columns["small"].dtype == np.int64
    assert table.columns["view"].tolist() == ["p", "q"]
    assert np.isnan(table.columns["nothing"]).all()


def test_numbers_as_texts_where_training_had_numbers(capsys):
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    trained(write(text()))
    pq.write_table(pa.table({"a": ["1", "2"], "b": [1, 2]}), "t.parquet")
    capsys.readouterr()
    assert "has the text '1' in column 'a', row 0" in error(capsys, "predict", "net.npz", "--data", "t.parquet")


def test_predict_refuses_a_target_that_is_not_there(capsys):
    trained(write(text()))
    capsys.readouterr()
    assert "t.csv has no column 'z'" in error(capsys, "predict", "net.npz", "--data", "t.csv", "--target", "z")


def test_python_reads_underscores_but_tables_do_not():
    assert read_table(write("a,b\n1_0,1\n2_0,2\n")).columns["a"].tolist() == ["1_0", "2_0"]


def test_large_numbers_have_finite_scores(capsys):
    assert trained(write(two_columns(lambda i: i, lambda i: i * 1e25))) == 0
    output, warned = capsys.readouterr()
    assert warned == "saved net.npz\n"
    assert "nan" not in output


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (text().replace("40", "ö").encode("utf-16"), "t.csv is not encoded in UTF-8 (byte 0xff); save it as CSV"),
        (text().encode("utf-16-le"), "it is not UTF-8 text (it has zero bytes)"),
        (text().replace("p", "p\0", 1), "it has zero bytes, in 'p\\x00'"),
        (text("|"), "t.csv has no columns beside the target; columns are separated by commas, semicolons or tabs"),
        (text(";").replace(".5", ",5"), "numbers with a comma in column 'a', such as '"),
        ("title\n\n" + text(), "the first line has 1 column, but line 3 has 3"),
        ("\n\n" + text() + "1,2\n", "the first line has 3 columns, but line 44 has 2"),
        ('\na,y\n1,"x"y\n', "line 3: ',' expected"),
        ('a,y\n1,2\n1,"2\n', "a quote is not closed"),
        ("a,y\n" + "x" * 200_000 + ",1\n", "line 2: a value has more than 131,072 characters"),
        ("a,,,y\n1,2,3,4\n5,6,7,8\n", "t.csv has several columns without a name"),
        (two_columns(lambda i: "x" if i == 7 else i, lambda i: i % 2), "categories (it has numbers, but 'x' in row 7)"),
        (two_columns(lambda i: f"2024-01-{i}", lambda i: i % 2), "40 different texts in column 'a', more than 20"),
        (two_columns(lambda i: i, lambda i: f"name {i}"), "40 different texts in its target 'y', in 40 rows; classes"),
        (two_columns(lambda i: i, lambda i: "x" if i == 7 else i), "in 40 rows (it has numbers, but 'x' in row 7)"),
        (two_columns(lambda i: i, lambda i: "" if i == 7 else i), "1 missing value in its target 'y', the first"),
        (two_columns(lambda i: i, lambda i: "inf" if i == 7 else i), "t.csv has inf in its target 'y', row 7"),
        (two_columns(lambda i: i, lambda i: 1.5), "t.csv has only 1.5 in its target 'y'; there is nothing to learn"),
        ("a,y\n1,1.5\n2,2.5\n3,4.5\n", "t.csv has 3 rows; a regression needs 6 or more"),
        (two_columns(lambda i: f"{i}e300", lambda i: i % 2), "column 'a' has numbers of up to 3.9e+301, too large"),
        (two_columns(lambda i: f"{i}e-300", lambda i: i % 2), "column 'a' varies by no more than 3.9e-299, too little"),
        (two_columns(lambda i: i, lambda i: f"{i}e300"), "column 'y' has numbers of up to 3.9e+301, too large"),
        (two_columns(lambda i: i, lambda i: f"{i}e-300"), "column 'y' varies by no more than 3.9e-299, too little"),
        (two_columns(lambda i: i, lambda i: 1.7e9 + i / 2), "column 'y' varies by 6 around 1.70000001e+09, too little"),
    ],
)  # fmt: skip
def test_refused(content, words, capsys):
    write(content)
    assert words in error(capsys, "train", "--data", "t.csv", "--save", "net.npz")


@pytest.mark.parametrize("number", ["inf", "1e30"])
def test_numbers_that_are_no_classes(number, capsys):
    write(two_columns(lambda i: i, lambda i: number if i == 7 else i % 2))
    message = error(capsys, "train", "--data", "t.csv", "--task", "classification")
    assert "in its target 'y', row 7, but classes are integers" in message


def test_the_last_column_is_ignored_but_no_target_is_named(capsys):
    write(text())
    assert "cannot be ignored; say which column is: --target COLUMN" in error(
        capsys, "train", "--data", "t.csv", "--ignore", "y"
    )


# --- words ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["y.csv", "X.csv", "epochs.csv", "l2.csv", "learning_rate=1.csv", "batch_size.csv"])
def test_names_of_files_stay_as_they_are(name, capsys):
    write("", name)
    assert f"error: {name} has no rows" in error(capsys, "train", "--data", name)


def test_names_of_columns_stay_as_they_are(capsys):
    write(text().replace("a,b,y", "batch_size,b,y").replace("0.5", "", 1))
    assert "in column 'batch_size', the first in row 0" in error(capsys, "train", "--data", "t.csv")


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("X has no rows", "X_train has no rows"),
        ("y_test has no rows", "y_test has no rows"),
        ("loss is nan; lower learning_rate", "loss is nan; lower --learning-rate"),
        ("learning_rate=3 is large", "--learning-rate 3 is large"),
        ("class_weight has class 3", "--class-weight has class 3"),
        ("give validation_fraction, or 'batch_size'", "give --validation-fraction, or 'batch_size'"),
        ("epochs must be 1", "--epochs must be 1"),
    ],
)
def test_messages_of_the_library_have_the_words_of_the_command_line(message, words):
    assert in_options(message) == words
