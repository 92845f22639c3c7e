"""Names that a network learns from tables and from classes that are not numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from fastmlp.losses import Loss
from fastmlp.validation.frames import column_names, is_frame

__all__ = ["Names", "strings"]

_SHOWN = 10


@dataclass(frozen=True, eq=False)
class Names:
    """Names of the columns of X and of the classes; None as long as there are none.

    Attributes
    ----------
    features : tuple of str or None
    classes : (C,) array or None
        In the order of the outputs; both classes of a single logistic output.
    """

    features: tuple[str, ...] | None = None
    classes: npt.NDArray[Any] | None = None

    def learned(self, X: object, y: object, loss: Loss) -> Self:
        """Return these names and those that X and y add to them.

        Raises
        ------
        ValueError
            If y has more classes than the network, or fewer.
        """
        found = self
        if self.features is None and (features := column_names(X)) is not None:
            found = replace(found, features=features)
        if self.classes is None and (classes := _classes(y, loss)) is not None:
            found = replace(found, classes=classes)
        return found

    def check_features(self, X: object, name: str) -> None:
        """Refuse a table whose columns are not those of training, in the same order."""
        given = column_names(X) if self.features is not None else None
        if given is None or given == self.features:
            return
        word, known = name.split()[-1], self.features or ()
        new, lost = [c for c in given if c not in known], [c for c in known if c not in given]
        if not new and not lost:
            raise ValueError(
                f"{name} has its columns in another order than in training; select them: {word}[net.feature_names]"
            )
        wrong = [f"the unknown columns {_shown(new)}"] if new else []
        wrong += [f"no columns {_shown(lost)}"] if lost else []
        raise ValueError(f"{name} has {' and '.join(wrong)}, but those of training are {_shown(known)}")

    def encoded(self, y: object, name: str) -> object:
        """Return y with numbers in place of the names of classes.

        Raises
        ------
        ValueError
            If it has a class that is not known, or columns that are no classes.
        """
        classes = self.classes
        if classes is None:
            return y
        if is_frame(y):
            columns = _array(list(y.columns))  # type: ignore[attr-defined]
            if columns is not None and len(columns) == len(classes) and not np.array_equal(columns, classes):
                raise ValueError(f"{name} has the columns {_shown(columns)}, but the classes are {_shown(classes)}")
            return y
        labels = strings(y, name) if classes.dtype.kind == "U" else np.asarray(y)
        if labels is None:
            labels = np.asarray(y)
        if labels.ndim != 1 or len(labels) == 0:
            return y
        if (labels.dtype.kind == "U") != (classes.dtype.kind == "U"):
            raise ValueError(f"{name} has {labels.tolist()[0]!r} in row 0, but the classes are {_shown(classes)}")
        order = np.argsort(classes)
        codes = order[np.minimum(np.searchsorted(classes, labels, sorter=order), len(classes) - 1)]
        bad = np.flatnonzero(classes[codes] != labels)
        if len(bad):
            row = bad[0]
            raise ValueError(f"{name} has {labels.tolist()[row]!r} in row {row}, but the classes are {_shown(classes)}")
        return codes

    def class_weight(self, class_weight: object) -> object:
        """Return the weights of the classes with numbers in place of their names."""
        if self.classes is None or not isinstance(class_weight, Mapping):
            return class_weight
        codes = {label: code for code, label in enumerate(self.classes.tolist())}
        unknown = [label for label in class_weight if label not in codes]
        if unknown:
            raise ValueError(f"class_weight has class {unknown[0]!r}, but the classes are {_shown(self.classes)}")
        return {codes[label]: weight for label, weight in class_weight.items()}

    def decoded(self, labels: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the names of predicted classes, if they have names."""
        return labels if self.classes is None else self.classes[labels]

    def to_dict(self) -> dict[str, npt.NDArray[Any]]:
        """Return the names as arrays, for a file."""
        arrays = {"feature_names": self.features, "classes": self.classes}
        return {name: np.array(value) for name, value in arrays.items() if value is not None}

    @classmethod
    def from_dict(cls, state: Mapping[str, Any], n_features: int, loss: Loss) -> Self:
        """Return the names that `to_dict` has written.

        Raises
        ------
        ValueError
            If they do not fit the network.
        """
        features, classes = (np.array(state[key]) if key in state else None for key in ("feature_names", "classes"))
        if features is not None and (features.dtype.kind != "U" or features.shape != (n_features,)):
            raise ValueError("its feature_names do not fit its layers")
        if classes is not None:
            fits = classes.dtype.kind in "Uiub" and classes.shape == (loss.n_classes,)
            if not fits or len(np.unique(classes)) < len(classes):
                raise ValueError("its classes do not fit its outputs")
        return cls(None if features is None else tuple(features.tolist()), classes)


def _classes(y: object, loss: Loss) -> npt.NDArray[Any] | None:
    """Return the classes that have names in y: the strings in it, or the columns of one-hot rows."""
    if not loss.n_classes:
        return None
    if is_frame(y):
        columns = _array(list(y.columns))  # type: ignore[attr-defined]
        if columns is None or len(columns) != loss.n_classes or len(np.unique(columns)) < len(columns):
            return None
        return None if np.array_equal(columns, np.arange(len(columns))) else columns
    labels = strings(y, "y")
    if labels is None:
        return None
    classes = np.unique(labels)
    if len(classes) != loss.n_classes:
        raise ValueError(
            f"the network has {loss.n_classes} classes, but y has {len(classes)}: {_shown(classes)}; "
            "if some classes have no rows, number them: 0, 1, 2, ..."
        )
    return classes


def _array(labels: list[Any]) -> npt.NDArray[Any] | None:
    """Return strings or integers as an array, and None for anything else."""
    if labels and all(isinstance(label, str) for label in labels):
        return np.array(labels, str)
    if labels and all(isinstance(label, (int, np.integer, np.bool_)) for label in labels):
        return np.array(labels)
    return None


def strings(y: object, name: str) -> npt.NDArray[np.str_] | None:
    """Return labels (n,) that are strings as such an array; None if they are no strings."""
    if isinstance(y, np.ndarray) and y.dtype.kind in "fiub":
        return None  # at once: a step on a few rows takes microseconds
    if hasattr(y, "tocsr") or is_frame(y):
        return None
    try:
        labels = np.asarray(y)
    except ValueError:  # rows of different lengths, which the check of y reports
        return None
    if labels.ndim != 1 or labels.dtype.kind not in "UTO":
        return None
    are_strings = [isinstance(label, str) for label in labels.tolist()]
    if not any(are_strings):
        return None
    if not all(are_strings):
        row = are_strings.index(False)
        raise ValueError(f"{name} has {labels.tolist()[row]!r} in row {row}, but other labels are strings")
    return labels.astype(str)


def _shown(names: Any) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(map(repr, np.asarray(names)[:_SHOWN].tolist())) + more
