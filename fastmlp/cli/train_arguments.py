"""The arguments of ``fastmlp train``."""

from __future__ import annotations

from typing import Any

from fastmlp.cli.shared_arguments import add_data_options, add_layers, add_threads
from fastmlp.cli.values import (
    ACTIVATIONS,
    INITS,
    OPTIMIZERS,
    PRESETS,
    SCHEDULES,
    class_weight,
    fraction,
    number,
    schedule,
    whole_number,
)

__all__ = ["TRAIN", "add_train"]

_TRAIN_DESCRIPTION = """\
examples:
  fastmlp train
  fastmlp train --preset fast
  fastmlp train --layers 256 128 --epochs 20 --batch-size 128 --save net.npz
  fastmlp train --optimizer adam --schedule cosine --dropout 0.2
  fastmlp train --epochs 100 --validation-fraction 0.1 --patience 5
  fastmlp train --data digits --activation logistic --init xavier
  fastmlp train --data xor --layers 8 --epochs 500
  fastmlp train --data mine.npz --class-weight balanced
  fastmlp train --data houses.csv --target price --ignore id --save net.npz
  fastmlp train --plot pictures --plot-format svg

Train a softmax classifier, with plain SGD by default, and evaluate it on the
test rows. If the target of a table is a number, train a regression.

Prints a line per epoch, then five sample predictions, then the test accuracy.
Loss and train accuracy are means over the epoch, measured before each step;
test accuracy is measured after the epoch. Seconds are training time only.
"""

_TRAIN_DETAILS = """\
--data FILE.npz is a NumPy archive, as numpy.savez("mine.npz",
X_train=X_train, ...) writes it, of
  X_train, X_test   numbers (rows, inputs), or images (rows, height, width);
                    uint8 is divided by 255, floating point is used as it is
                    and should be scaled to 0..1
  y_train, y_test   class labels (rows,): the integers 0, 1, 2, ...; or
                    one-hot rows (rows, classes)
The network has one input per column of X_train and one output per class in
y_train.

--data FILE.csv is a table; .tsv, .txt and .parquet work too, gzipped text, and
- for text on standard input. The first line may hold column names. --target
names the column to predict, or gives its number; the default is the last. A
target of strings, or of integers with at most 30 values, is a class; otherwise
it is a number, for a regression. --task overrides that. A fifth of the rows,
always the same, is the test set. Training scales features to mean 0 and
standard deviation 1, and turns strings into a column for each category, such
as color=red; the saved network takes the table as it is. The default optimizer
is Adam.

--data FOLDER holds idx files, gzipped or not, as MNIST, Fashion-MNIST, KMNIST
and EMNIST are published: train-images-idx3-ubyte, train-labels-idx1-ubyte,
t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte. If it holds several data sets,
say which: --data FOLDER/letters.

--validation-fraction holds out training rows. The table then shows their
accuracy, and the test rows are used only at the end. --patience N stops when
the loss on these rows has not improved for N epochs, and restores the best
parameters.

--save FILE writes the trained network to a .npz file, or to a .safetensors
file if FILE ends in it. `fastmlp predict` and `fastmlp export` read it, and
Python:
  net = fastmlp.MLP.load("net.npz")
  net.predict(X)

--plot FOLDER writes pictures into the folder, which is created if necessary:
learning curves, confusion matrix, calibration curve and weights; for images
also samples and wrong predictions, and for two inputs the decision boundary.
All but the learning curves show the test rows. It needs matplotlib.

--report FILE.html writes a page about the network, in which the network runs:
open it in a browser and draw a digit.

Ctrl-C stops training early. The network is then evaluated, and saved if --save
is given.

exit status: 0 done, 1 the loss became NaN or infinite, 2 wrong usage,
130 stopped by Ctrl-C
"""
TRAIN = ("[OPTION ...]", _TRAIN_DESCRIPTION, _TRAIN_DETAILS)
"""Usage, description and details of the command."""


def add_train(train: Any) -> None:
    """Add the options of training. Those of a preset have no default here: None means that they were not given."""
    data = train.add_argument_group("data and network")
    add_data_options(data)
    data.add_argument("--target", metavar="COLUMN", help="column of a table to predict (default: the last)")
    data.add_argument("--ignore", nargs="+", default=[], metavar="COLUMN", help="columns of a table to leave out")
    data.add_argument(
        "--task",
        choices=("classification", "regression"),
        metavar="classification|regression",
        help="whether the target of a table is a class or a number (default: by its values)",
    )
    add_layers(data)
    add = data.add_argument
    add(
        "--activation",
        choices=ACTIVATIONS,
        metavar="NAME",
        help=f"activation of the hidden layers: {', '.join(ACTIVATIONS)} (default: relu)",
    )
    add(
        "--init",
        default="he",
        choices=INITS,
        metavar="NAME",
        help="standard deviation of the normal initial weights: he, sqrt(2 / inputs); xavier, sqrt(2 / (inputs + "
        "outputs)); normal, 0.01 (default: %(default)s)",
    )
    add(
        "--dropout",
        nargs="+",
        type=fraction(zero=True),
        metavar="RATE",
        help="fraction of the hidden units to drop in each step, one rate or one for each hidden layer (default: 0)",
    )
    add("--l2", type=number(zero=True), metavar="X", help="add X / 2 * sum(W**2) to the loss (default: 0)")
    training = train.add_argument_group("training")
    add = training.add_argument
    add(
        "--preset",
        choices=PRESETS,
        metavar="NAME",
        help="named settings: on MNIST fast reaches 98 %% in a second, accurate 98.8 %% in a minute; other options "
        "override them",
    )
    add(
        "--optimizer",
        choices=OPTIMIZERS,
        metavar="NAME",
        help=f"optimizer: {', '.join(OPTIMIZERS)}; tables use adam unless told otherwise (default: sgd)",
    )
    add(
        "--learning-rate",
        type=number(zero=False),
        metavar="RATE",
        help="learning rate of the optimizer (default: 0.1 for sgd, momentum and nesterov, 0.01 for rmsprop and "
        "adagrad, 0.001 for adam and adamw)",
    )
    add(
        "--schedule",
        type=schedule,
        metavar="NAME",
        help=f"how the learning rate changes: {', '.join(SCHEDULES)} (default: constant)",
    )
    add(
        "--epochs",
        type=whole_number(1),
        metavar="N",
        help="number of passes over the training rows; small tables get up to 100 (default: 10)",
    )
    add("--batch-size", type=whole_number(1), metavar="N", help="rows per step (default: 64)")
    add(
        "--class-weight",
        nargs="+",
        type=class_weight,
        metavar="WEIGHT",
        help="weights of the classes in the loss: balanced, which gives all classes the same total weight; or a number "
        "for each class; or CLASS=NUMBER for some (default: 1 each)",
    )
    add(
        "--validation-fraction",
        type=fraction(zero=False),
        metavar="X",
        help="hold out this fraction of the training rows of each class (default: 0.1 with --patience, else none)",
    )
    add(
        "--patience",
        type=whole_number(1),
        metavar="N",
        help="stop after N epochs without a better loss on the held-out rows (default: train for all epochs)",
    )
    add(
        "--seed",
        default=0,
        type=whole_number(0),
        metavar="N",
        help="seed of everything random: initial weights, order of the rows, dropout (default: %(default)s)",
    )
    add_threads(
        training, "number of threads; does not change the result (default: one per core, or one if steps are small)"
    )
    result = train.add_argument_group("result")
    add = result.add_argument
    add("--save", metavar="FILE", help="write the trained network to this .npz or .safetensors file")
    add("--plot", metavar="FOLDER", help="write pictures of what the network has learned into this folder")
    add(
        "--plot-format",
        choices=("png", "svg"),
        default="png",
        metavar="png|svg",
        help="format of these pictures (default: %(default)s)",
    )
    add("--report", metavar="FILE", help="write a page about the trained network to this .html file")
