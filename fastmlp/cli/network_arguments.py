"""The arguments of the commands that use a saved network: ``fastmlp predict``, ``report`` and ``export``."""

from __future__ import annotations

from typing import Any

__all__ = ["EXPORT", "FORMS", "PREDICT", "REPORT", "add_export", "add_predict", "add_report"]

FORMS = {  # name on the command line -> suffixes of its files
    "onnx": (".onnx",),
    "safetensors": (".safetensors",),
    "npz": (".npz",),
    "c": (".c",),
    "torch": (".pt", ".pth"),
    "keras": (".keras",),
}

_EXPORT_TEXT = """\
examples:
  fastmlp train --save net.npz
  fastmlp export net.npz --to onnx -o net.onnx
  fastmlp export net.npz -o net.c

Write a saved network in the form of another program.
"""

_EXPORT_DETAILS = """\
NETWORK is a .npz or .safetensors file that `fastmlp train --save` or
`net.save` has written.

  onnx          for ONNX Runtime and others; needs onnx
  safetensors   settings and parameters; needs safetensors
  npz           the same as a NumPy archive
  c             one C99 file without dependencies, and a test program
  torch         the state_dict of net.to_torch(), for torch.load; needs PyTorch
  keras         a .keras file, for keras.saving.load_model; needs Keras

Without --to, the suffix of FILE says which: .onnx, .safetensors, .npz, .c,
.pt or .pth, .keras. In Python, net.to_onnx, net.to_c, net.to_torch and
net.to_keras have more options.

exit status: 0 done, 2 wrong usage, 130 stopped by Ctrl-C
"""

_PREDICT_TEXT = """\
examples:
  fastmlp predict net.npz --data rows.csv
  fastmlp predict net.npz --data images.npy -o predictions.csv
  fastmlp predict net.npz --data mnist -o predictions.npz

Predict the rows of a file with a saved network.

Prints a table, comma-separated, with a line for each row: the label and the
probability of each class, or the numbers of a regression.
"""

_PREDICT_DETAILS = """\
NETWORK is a .npz or .safetensors file that `fastmlp train --save` or
`net.save` has written.

--data is one of
  FILE.csv, .tsv    a table, as `fastmlp train` reads it; also .parquet. A
                    network that knows the names of its columns finds them in
                    any order, among others
  -                 a table of text from standard input, compressed or not
  FILE.npy          an array (rows, inputs), or images (rows, height, width)
  FILE.npz          the array X; else X_test, x_test, or the only one
  idx file          images, as MNIST is published, gzipped or not
  FOLDER, mnist, digits, xor
                    the test rows that `fastmlp train` uses
uint8 is divided by 255, as in training, unless the network scales its input
itself; other numbers are used as they are.

-o FILE.csv writes the table to a file. -o FILE.npz writes the arrays label
and probability, or prediction.

exit status: 0 done, 2 wrong usage, 130 stopped by Ctrl-C
"""

_REPORT_TEXT = """\
examples:
  fastmlp report net.npz --data mnist -o report.html
  fastmlp report net.npz --data mine.npz -o report.html

Write one HTML page about a saved network: mistakes, weights, and the network
itself, which runs in the page.
"""

_REPORT_DETAILS = """\
NETWORK is a .npz or .safetensors file that `fastmlp train --save`, `net.save`
or `ensemble.save` has written. Learning curves need net.save(...,
training=True), or `fastmlp train --report`.

--data is as for `fastmlp train`, and so is --target of tables; the test rows
are used.

The page is smaller than 2 MB, opens from disk and loads nothing else.

exit status: 0 done, 2 wrong usage, 130 stopped by Ctrl-C
"""

EXPORT = ("NETWORK [--to FORM] -o FILE", _EXPORT_TEXT, _EXPORT_DETAILS)
PREDICT = ("NETWORK --data FILE [OPTION ...]", _PREDICT_TEXT, _PREDICT_DETAILS)
REPORT = ("NETWORK [--data DATA] -o FILE.html", _REPORT_TEXT, _REPORT_DETAILS)
"""Usage, description and details of each command."""


def add_export(parser: Any) -> None:
    """Add the options of ``fastmlp export``."""
    _add_network(parser)
    parser.add_argument("--to", choices=list(FORMS), metavar="FORM", help=f"{', '.join(FORMS)} (default: by FILE)")
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="the file to write")


def add_predict(parser: Any) -> None:
    """Add the options of ``fastmlp predict``."""
    _add_network(parser)
    parser.add_argument("--data", required=True, metavar="FILE", help="the rows to predict")
    target = "number, from 0, of a column to leave out of a table without names (default: none)"
    parser.add_argument("--target", metavar="COLUMN", help=target)
    parser.add_argument("-o", "--output", metavar="FILE", help="write to this .csv or .npz file (default: print)")


def add_report(parser: Any) -> None:
    """Add the options of ``fastmlp report``, but for the data."""
    _add_network(parser)
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="the .html file to write")
    parser.add_argument("--target", metavar="COLUMN", help="column of a table with the true values (default: the last)")


def _add_network(parser: Any) -> None:
    parser.add_argument("network", metavar="NETWORK", help="the saved network")
