"""The data of ``fastmlp train``: a data set, arrays in a file, or a table."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastmlp.cli.data import count_classes, is_table, load

if TYPE_CHECKING:  # slow to import
    from fastmlp.cli.table_data import Scaling

__all__ = ["TrainData", "load_data"]


@dataclass(frozen=True)
class TrainData:
    """Training and test rows, as they are in the file.

    Attributes
    ----------
    X_train, y_train, X_test, y_test
    n_outputs : int
    classes : (C,) array or None
        In the order of the outputs, if they are not 0, 1, 2, ...
    target : str or None
        Its column in a table.
    scaling : Scaling or None
        Of a table; the network is trained on scaled rows.
    is_regression : bool
    """

    X_train: Any
    y_train: Any
    X_test: Any
    y_test: Any
    n_outputs: int
    classes: Any = None
    target: str | None = None
    scaling: Scaling | None = None
    is_regression: bool = False

    def scaled(self) -> tuple[Any, Any, Any, Any]:
        """Return the rows as the network is trained on them."""
        rows = (self.X_train, self.y_train, self.X_test, self.y_test)
        if self.scaling is None:
            return rows
        X_train, X_test = map(self.scaling.features, (self.X_train, self.X_test))
        if not self.is_regression:
            return X_train, self.y_train, X_test, self.y_test
        return X_train, self.scaling.target(self.y_train), X_test, self.scaling.target(self.y_test)

    def codes(self) -> Any:
        """Return the classes of the training rows as 0, 1, 2, ..."""
        import numpy as np

        return self.y_train if self.classes is None else np.searchsorted(self.classes, self.y_train)

    def name_classes(self, net: Any) -> None:
        """Let the network know the classes, which it then takes and predicts by these names."""
        from fastmlp.names import Names

        if self.classes is not None:
            net._adopt(net.history, None, Names(None, self.classes))


def load_data(arguments: argparse.Namespace) -> TrainData:
    """Return what the arguments say.

    Raises
    ------
    ValueError
        If it cannot be read or trained on.
    """
    if not is_table(arguments.data):
        for option in ("target", "ignore", "task"):
            if getattr(arguments, option):
                raise ValueError(f"--{option} is for tables, such as .csv files, but {arguments.data!r} is not a table")
        rows = load(arguments.data)
        n_outputs, largest = count_classes(rows[1]), int(rows[3].max())
        if largest >= n_outputs:
            raise ValueError(f"y_test has label {largest}, but y_train only labels up to {n_outputs - 1}")
        return TrainData(*rows, n_outputs=n_outputs)
    import numpy as np

    from fastmlp.cli.table_data import Scaling, table_data
    from fastmlp.cli.tables import read_table

    try:
        table = read_table(arguments.data)
    except OSError as error:
        raise ValueError(f"cannot read --data {arguments.data!r}: {error.strerror or error}") from error
    data = table_data(table, arguments.target, arguments.ignore, arguments.task)
    rows = (data.X_train, data.y_train, data.X_test, data.y_test)
    shared: dict[str, Any] = {"target": data.target, "scaling": Scaling.of(data)}
    if data.classes is None:
        return TrainData(*rows, n_outputs=1, is_regression=True, **shared)
    plain = data.classes.dtype.kind == "i" and np.array_equal(data.classes, np.arange(len(data.classes)))
    return TrainData(*rows, n_outputs=len(data.classes), classes=None if plain else data.classes, **shared)
