"""`report`: one HTML page about what a network has learned."""

from __future__ import annotations

import base64
import hashlib
import html
import importlib.resources
import json
import os
from collections.abc import Sequence
from string import Template
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmlp.history import History
from fastmlp.page.content import gather
from fastmlp.page.network import network_in_page
from fastmlp.page.rows import rows_in_page
from fastmlp.plots.subject import Subject
from fastmlp.storage import check_writable, written_whole
from fastmlp.validation.calls import advised
from fastmlp.validation.settings import check_path, is_iterable

__all__ = ["report"]

_SCRIPTS = ("dom", "network", "ink", "answer", "pad", "plane", "form", "charts", "mistakes", "main")
_MOST_BYTES = 2_000_000
_FOR_ROWS = 200_000  # bytes that the network leaves to test rows
_POLICY = (
    "default-src 'none'; script-src '{script}'; style-src '{style}'; base-uri 'none'; form-action 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)


@advised
def report(
    net: Any,
    X_test: Any,
    y_test: npt.ArrayLike,
    path: str | os.PathLike[str],
    history: History | Sequence[History] | None = None,
    *,
    shape: Sequence[int] | None = None,
    display_labels: Sequence[Any] | None = None,
    command: str | None = None,
) -> None:
    """Write an HTML page about what a network has learned, in which the network runs.

    The page shows what was trained and how to repeat it, learning curves, the confusion matrix with the images or rows
    of each cell, the most confident wrong predictions, precision and recall of each class, and the weights of the first
    layer. It opens without a server or a network connection, and is smaller than 2 MB.

    The network runs in the page, in JavaScript. It classifies drawings if X holds grayscale images, and points of the
    plane if X has two features. Otherwise there is a form with a field for each feature. A network that is too large,
    or a pipeline with steps other than scikit-learn's scalers, is left out, and the page says so.

    Parameters
    ----------
    net : MLP, Ensemble, estimator, or pipeline that ends in one
        The trained model.
    X_test, y_test : array_like
        Test rows and their true targets, as for `MLP.score`.
    path : str or path
        Name of the file. An existing file is replaced as a whole or not at all.
    history : History, sequence of History or None, default=None
        Learning curves: one, or those of the members of an ensemble. None takes them from `net`.
    shape : sequence of int or None, default=None
        Shape of the images: (height, width), or with channels. None assumes square images if X looks like images: it
        has no column names, and many equal numbers or none below 0.
    display_labels : sequence of C names or None, default=None
        Class names to show in place of those in y.
    command : str or None, default=None
        Command or program to show that repeats the training. None writes one from the settings of `net`.

    Raises
    ------
    TypeError, ValueError
        If an argument is wrong. No file is written.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import fastmlp
    >>> X_train, y_train, X_test, y_test = fastmlp.datasets.load_mnist()
    >>> net = fastmlp.MLP([784, 128, 10])
    >>> history = net.fit(X_train, y_train)
    >>> fastmlp.report(net, X_test, y_test, "report.html")
    """
    check_writable(check_path(path))
    if command is not None and not isinstance(command, str):
        raise TypeError(f"command must be a string, the command that repeats the training, not {command!r}")
    subject = Subject.of(net)
    predictions = subject.predictions(X_test, y_test, display_labels)
    histories = subject.histories if history is None else _histories(history)
    with np.errstate(over="ignore", invalid="ignore"):  # of a network that has diverged; such numbers are left out
        content, image = gather(subject, X_test, predictions, histories, shape, command)
    content["network"] = {"why": ""}
    shown, content["shown"] = content["shown"], {}
    content["network"] = network_in_page(subject, X_test, predictions, image, _room(content) - _FOR_ROWS)
    content["shown"] = rows_in_page(shown, X_test, image, _room(content))
    with written_whole(path) as file:
        file.write(_assembled(content))


def _histories(history: Any) -> list[History]:
    given = [history] if isinstance(history, History) else list(history) if is_iterable(history) else [history]
    for each in given:
        if not isinstance(each, History):
            raise TypeError(f"history must be a History, which fit returns, or a list of them, not {each!r}")
    return given


def _room(content: dict[str, Any]) -> int:
    """Return how many bytes the page may grow by."""
    return _MOST_BYTES - len(_assembled(content))


def _assembled(content: dict[str, Any]) -> bytes:
    """Return the page. Only the content depends on data, and it is not executable."""
    from fastmlp import __version__  # which imports this module

    script = "\n".join(['"use strict";', "(() => {", *(_read(f"{name}.js") for name in _SCRIPTS), "})();"])
    style = _read("page.css")
    page = Template(_read("page.html")).substitute(
        policy=_POLICY.format(script=_hash(script), style=_hash(style)),
        version=html.escape(__version__),
        title=html.escape(f"{content['title']} – fastmlp report"),
        style=style,
        content=_as_json(content),
        script=script,
    )
    return page.encode()


def _read(name: str) -> str:
    return (importlib.resources.files("fastmlp.page") / "web" / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _as_json(content: Any) -> str:
    """Return JSON without a character that HTML could understand, or that cannot be encoded."""
    text = json.dumps(content, allow_nan=False, separators=(",", ":"))  # ASCII
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
