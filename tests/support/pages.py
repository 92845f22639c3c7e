"""Pages for tests: what they hold, and networks to write them about."""

import base64
import json
import re
import zlib

import numpy as np
from support.nets import filled

from fastmlp import MLPClassifier
from fastmlp.page import report


def read(path):
    """The content of a page."""
    return json.loads(re.search(r'<script type="application/json" id="content">(.*?)</script>', path.read_text())[1])


def page(tmp_path, *arguments, **options):
    path = tmp_path / "page.html"
    report(*arguments, path, **options)
    return read(path)


def noisy(n_classes, n_features=4, n=200, **settings):
    """A network, which is mostly wrong, rows and labels."""
    generator = np.random.default_rng(0)
    rows = generator.standard_normal((n, n_features))
    return filled([n_features, 9, n_classes], **settings), rows, generator.integers(0, n_classes, n)


def classifier(**settings):
    return MLPClassifier(**{"hidden_layer_sizes": (5,), "max_iter": 3, "random_state": 0} | settings)


def bits_of(held):
    """How many bits a parameter of the page has, counted from the top."""
    planes = np.frombuffer(zlib.decompress(base64.b64decode(held["parameters"])), np.uint8).reshape(4, -1)
    used = np.bitwise_or.reduce(planes, axis=1) @ 256 ** np.arange(4)
    return next(32 - low for low in range(32) if used >> low & 1)
