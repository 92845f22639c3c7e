"""The file that `fastmlp.report` writes: safe whatever names hold, smaller than 2 MB, and whole or not at all."""

import base64
import hashlib
import html
import re
from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics
from sklearn.exceptions import NotFittedError
from support.nets import filled
from support.pages import bits_of, noisy, page

import fastmlp.page
from fastmlp import History, MLPClassifier
from fastmlp.page import report
from fastmlp.plots.colors import luminance

HOSTILE = [
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(1)>",
    "\"'`${x}&amp;\u202e\u2028",
    "שלום ✓\ud800",
]


def test_names_are_data_whatever_they_hold(tmp_path):
    net, rows, y = noisy(4)
    content = page(tmp_path, net, rows, y, display_labels=HOSTILE, command="</script><!--")
    assert content["classes"] == HOSTILE
    text = (tmp_path / "page.html").read_text()
    assert text.count("<script") == text.count("</script>") == 2
    assert "onerror=alert(1)>" not in text
    assert "<!--" not in text


def test_only_the_code_of_the_page_may_run(tmp_path):
    net, rows, y = noisy(3)
    page(tmp_path, net, rows, y)
    text = (tmp_path / "page.html").read_text()
    policy = html.unescape(re.search(r'Content-Security-Policy" content="([^"]+)"', text)[1])
    for tag, directive in (("script", "script-src"), ("style", "style-src")):
        (code,) = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert (
        re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?(?!#)""", re.sub(r"<script.*?</script>", "", text, flags=re.S))
        == []
    )
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", text)


@pytest.mark.parametrize(("units", "what"), [(120, 32), (500, 28), (600, 24), (700, "")])
def test_a_page_is_smaller_than_2_megabytes(units, what, tmp_path):
    generator = np.random.default_rng(0)
    net = filled([784, units, 10])
    rows = generator.integers(0, 256, (3000, 784)).astype(np.float32) / 255  # nothing to compress
    rows[:, :200] = 0
    content = page(tmp_path, net, rows, generator.integers(0, 10, 3000))
    assert (tmp_path / "page.html").stat().st_size < 2_000_000
    if isinstance(what, int):
        assert bits_of(content["network"]) == what
    else:
        assert "its 556,510 parameters take 2." in content["network"]["why"]
    assert len(content["shown"]["row"]) >= 100


CURVES = [
    History(loss=[1 / (i + j + 3) for i in range(1000)], metrics={f"val_{k}": [0.123456] * 1000 for k in range(9)})
    for j in range(20)
]
LARGE = {  # layers, output, rows, and options
    "long names of classes": (
        [4, 3, 1000],
        "softmax",
        3000,
        {"display_labels": ["é" * 300 + str(i) for i in range(1000)]},
    ),
    "many classes": ([4, 3, 2500], "softmax", 3000, {}),
    "labels": ([4, 3, 1000], "logistic", 800, {}),
    "outputs": ([4, 3, 2000], "identity", 300, {}),
    "features": ([200_000, 2], "softmax", 20, {}),
    "curves": ([4, 3, 3], "softmax", 200, {"history": CURVES}),
}


@pytest.mark.parametrize("kind", LARGE)
def test_whatever_is_large_leaves_the_page_small(kind, tmp_path):
    layers, output, n, options = LARGE[kind]
    generator, net = np.random.default_rng(0), filled(layers, output=output)
    rows = generator.standard_normal((n, layers[0]), dtype=np.float32)
    y = generator.integers(0, 2, (n, layers[-1])) if output != "softmax" else generator.integers(0, layers[-1], n)
    content = page(tmp_path, net, rows, y, **options)
    assert (tmp_path / "page.html").stat().st_size < 2_000_000
    assert len(content["shown"]["row"]) > 10
    if kind != "features":
        assert "parameters" in content["network"]
    if kind == "many classes":
        listed = content["per_class"]
        assert len(listed) == 1000
        guess = net.predict(rows)
        _, recall, _, n_true = metrics.precision_recall_fscore_support(
            y, guess, labels=np.arange(2500), zero_division=0
        )
        assert [of["n_true"] for of in listed] == n_true[[of["class"] for of in listed]].tolist()
        assert [of["recall"] for of in listed] == recall[[of["class"] for of in listed]].tolist()


def test_bad_arguments_are_refused_and_the_old_page_is_kept(tmp_path):
    net, rows, y = noisy(3)
    path = tmp_path / "page.html"
    path.write_text("old")
    for error, message, arguments, options in (
        (TypeError, "net must be an MLP", (3, rows, y), {}),
        (TypeError, "history must be a History", (net, rows, y), {"history": [1.0]}),
        (TypeError, "history must be a History", (net, rows, y), {"history": 3}),
        (TypeError, "command must be a string", (net, rows, y), {"command": 3}),
        (ValueError, "X has 5 features", (net, np.ones((3, 5)), y[:3]), {}),
        (ValueError, "y has label 7", (net, rows, np.full(200, 7)), {}),
        (ValueError, "display_labels must be a list of 3 names", (net, rows, y), {"display_labels": ["a"]}),
        (ValueError, "shape (2, 3) has 6 numbers", (net, rows, y), {"shape": (2, 3)}),
    ):
        with pytest.raises(error, match=re.escape(message)):
            report(*arguments, path, **options)
        assert path.read_text() == "old"
    with pytest.raises(NotFittedError):
        report(MLPClassifier(), rows, y, path)
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        report(net, rows, y, tmp_path / "none" / "page.html")
    with pytest.raises(IsADirectoryError):
        report(net, rows, y, tmp_path)
    assert [each.name for each in tmp_path.iterdir()] == ["page.html"]


def test_text_has_the_contrast_that_wcag_asks_for():
    style = (Path(fastmlp.page.__file__).parent / "web" / "page.css").read_text()
    light, dark = (
        dict(re.findall(r"--([\w-]+): (\d+ \d+ \d+)", root)) for root in re.findall(r":root \{(.*?)\}", style, re.S)
    )
    for colors in (light, light | dark):
        shades = {name: luminance([int(c) / 255 for c in rgb.split()]) for name, rgb in colors.items()}

        def contrast(one, other, shades=shades):
            low, high = sorted((shades[one], shades[other]))
            return (high + 0.05) / (low + 0.05)

        for text in ("ink", "muted", "accent", "warm"):
            assert min(contrast(text, behind) for behind in ("page", "card", "paper")) >= 4.5, text
        assert contrast("accent", "accent-soft") >= 4.5  # what the mouse is on
        shapes = ["edge", *(f"class-{i}" for i in range(8))]
        assert min(contrast(shape, behind) for shape in shapes for behind in ("card", "paper")) >= 3
