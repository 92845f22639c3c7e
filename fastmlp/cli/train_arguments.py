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

Train a softmax classifier, with plain SGD unless you say otherwise, and
evaluate it on the test rows. Of tables with numbers to predict, train a
regression.

Prints one line per epoch, then five sample predictions, then the test
accuracy. Loss and train accuracy are means over the epoch while it trains;
test accuracy is measured after the epoch; seconds are training time only.
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

--data FILE.csv is a table, also .tsv, .txt, .parquet, and text with .gz; - is
one in standard input. Its first line may have names. --target says which
column to predict, by its name or number; the last one, if not given. Texts,
and integers of at most 30 values, are classes; other numbers make a
regression, and --task overrides that. A fifth of the rows, always the same, is
for the test. Features are scaled to mean 0 and deviation 1 while training, and
texts among them become one column for each category, such as color=red; the
saved network takes the table as it is. Adam is the optimizer unless you say
otherwise.

--data FOLDER holds idx files, gzipped or not, as MNIST, Fashion-MNIST, KMNIST
and EMNIST are published: train-images-idx3-ubyte, train-labels-idx1-ubyte,
t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte. If it holds several data sets,
say which: --data FOLDER/letters.

--validation-fraction holds out training rows. The table then shows their
accuracy, and the test rows are used only at the end. --patience stops when
the loss on these rows has not improved for so many epochs, and restores the
best parameters.

--save FILE writes the trained network, to a .safetensors file if FILE ends so,
else to a .npz file. `fastmlp predict` and `fastmlp export` use it, or Python:
  net = fastmlp.MLP.load("net.npz")
  net.predict(X)

--plot FOLDER writes pictures, and makes the folder if there is none: learning
curves, the confusion matrix, the calibration and the weights; of images also
samples and wrong guesses; of two inputs the decision boundary. All but the
learning curves are about the test rows. It needs matplotlib.

--report FILE.html writes one page about the network, which runs in it: open it
in a browser and draw a digit.

Ctrl-C stops training early; the network so far is evaluated, and saved with
--save.

exit status: 0 done, 1 the loss became NaN or infinite, 2 wrong usage,
130 stopped by Ctrl-C
"""
TRAIN = ("[OPTION ...]", _TRAIN_DESCRIPTION, _TRAIN_DETAILS)
"""Usage, description and details of the command."""


def add_train(train: Any) -> None:
    """Add the options of training. Those of a preset have no default here: None means that they were not given."""
    data = train.add_argument_group("data and network")
    add_data_options(data)
    data.add_argument("--target", metavar="COLUMN", help="of a table, the column to predict (default: the last)")
    data.add_argument("--ignore", nargs="+", default=[], metavar="COLUMN", help="of a table, columns to leave out")
    data.add_argument(
        "--task",
        choices=("classification", "regression"),
        metavar="classification|regression",
        help="of a table, whether the target is a class or a number (default: by its values)",
    )
    add_layers(data)
    add = data.add_argument
    add(
        "--activation",
        choices=ACTIVATIONS,
        metavar="NAME",
        help=f"of the hidden layers: {', '.join(ACTIVATIONS)} (default: relu)",
    )
    add(
        "--init",
        default="he",
        choices=INITS,
        metavar="NAME",
        help="standard deviation of the normal first weights: he, sqrt(2 / inputs); xavier, sqrt(2 / (inputs + "
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
        help=f"{', '.join(OPTIMIZERS)} ; adam for tables (default: sgd)",
    )
    add(
        "--learning-rate",
        type=number(zero=False),
        metavar="RATE",
        help="of the optimizer (default: 0.1 for sgd, momentum and nesterov, 0.01 for rmsprop and adagrad, 0.001 for "
        "adam and adamw)",
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
        help="passes over the training rows; up to 100 for tables of few rows (default: 10)",
    )
    add("--batch-size", type=whole_number(1), metavar="N", help="rows per step (default: 64)")
    add(
        "--class-weight",
        nargs="+",
        type=class_weight,
        metavar="WEIGHT",
        help="weights of the classes in the loss: balanced, which gives all classes the same total; or one number for "
        "each class; or CLASS=NUMBER for some (default: 1 each)",
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
        help="stop after N epochs without a better loss on the rows held out (default: train for all epochs)",
    )
    add(
        "--seed",
        default=0,
        type=whole_number(0),
        metavar="N",
        help="of everything random: first weights, order of the rows, dropout (default: %(default)s)",
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
        help="their form (default: %(default)s)",
    )
    add("--report", metavar="FILE", help="write a page about the trained network to this .html file")
