"""How plots are drawn: names of classes, many classes, styles, files; and pyplot stays as it is."""

import io
import itertools
import subprocess
import sys

import numpy as np
import pytest
from support.looks import NAMES, digits, look
from support.nets import ROOT, refused

from fastmlp import History, plots, reference
from fastmlp.plots.text import shown

matplotlib = pytest.importorskip("matplotlib")
pytest.importorskip("matplotlib.figure")
pytest.importorskip("matplotlib.style")
HOSTILE = ["$a", "$x^2$", "\\frac{1}", "_hidden", "a_b^c", "two\nlines", "<script>", "\ud800", "&amp;", "x" * 300]


def every_display(net, X, y, **settings):
    yield plots.confusion_matrix(net, X, y, "true", ax=False, **settings)
    yield plots.wrong_guesses(net, X, y, ax=False, **settings)
    yield plots.weights(net, ax=False)
    yield plots.weights(net, layer=1, ax=False)
    yield plots.decision_boundary(net, X, y, (20, 21), grid_resolution=20, ax=False, **settings)
    yield plots.samples(X, y, ax=False)
    yield plots.calibration(net, X, y, ax=False)
    yield plots.learning_curves(net, ax=False)


def small(n_classes):
    """A network for points in a plane that belong to so many classes."""
    generator = np.random.default_rng(0)
    net = reference.MLP([2, 30, n_classes])
    X, y = generator.standard_normal((1000, 2)), generator.integers(0, n_classes, 1000)
    return net, 3 * X, y


def render(figure):
    figure.savefig(io.BytesIO(), format="png")


@pytest.mark.parametrize(("style", "form"), [("default", "svg"), ("dark_background", "png")])
def test_everything_is_drawn_in_every_style(style, form, tmp_path):
    with matplotlib.style.context(style):
        for i, display in enumerate(every_display(*look("MLP"), display_labels=HOSTILE if form == "png" else NAMES)):
            display.save(tmp_path / f"{i}.{form}", dpi=60)
            assert (tmp_path / f"{i}.{form}").stat().st_size > 1000


def test_axes_of_other_kinds_are_refused():
    for kind in ("3d", "polar"):
        axes = matplotlib.figure.Figure().add_subplot(projection=kind)
        with refused(TypeError, f"ax must be an Axes with x and y, not {kind}"):
            plots.learning_curves(History(loss=[1.0]), ax=axes)


def test_names_are_shown_as_they_are():
    net, X, y = look("MLP")
    with matplotlib.rc_context({"text.usetex": False}):
        figure = matplotlib.figure.Figure(layout="constrained", figsize=(12, 9))
        axes = figure.subplots(2, 2).ravel()
        display = plots.confusion_matrix(net, X, y, display_labels=HOSTILE, ax=axes[0])
        assert [text.get_text() for text in axes[0].get_yticklabels()] == [shown(name) for name in HOSTILE]
        display = plots.decision_boundary(net, X, y, (20, 21), display_labels=HOSTILE, grid_resolution=9, ax=axes[1])
        assert [text.get_text() for text in display.labels_.get_texts()] == [shown(name) for name in HOSTILE]
        plots.learning_curves({name: History(loss=[1.0]) for name in HOSTILE}, ax=axes[2])
        assert [text.get_text() for text in axes[2].get_legend().get_texts()] == [shown(name) for name in HOSTILE]
        display = plots.wrong_guesses(net, X, y, display_labels=HOSTILE, n=3, ax=axes[3])
        assert all(not text.get_parse_math() for text in [*display.text_, *axes[0].get_xticklabels()])
        render(figure)
    with matplotlib.rc_context({"text.usetex": True}):  # where a percent sign begins a comment
        texts = []
        for display in every_display(net, X, y):
            figure = matplotlib.figure.Figure()
            display.plot(figure.subplots())
            texts += [text for text in figure.findobj(matplotlib.text.Text) if set("%$_#&") & set(text.get_text())]
        assert texts
        assert not [text.get_text() for text in texts if text.get_usetex()]
    history = History(loss=[1.0], metrics={"val_$\\bad$\n": [1.0]})
    figure = matplotlib.figure.Figure()
    plots.learning_curves(history, ax=False)._draw_all(figure.subplots(1, 2))
    render(figure)
    assert shown("a\nb\ud800") == "a b "
    assert shown("x" * 30, 5) == "xxxx…"


@pytest.mark.parametrize(("n_classes", "size"), [(2, None), (10, None), (100, None), (10, (3, 3)), (100, (3, 3))])
def test_labels_of_many_classes_do_not_overlap(n_classes, size):
    net, X, y = small(n_classes)
    display = plots.confusion_matrix(net, X, y, display_labels=[f"class {i}" for i in range(n_classes)], ax=False)
    figure = matplotlib.figure.Figure(layout="constrained", figsize=size or display._size)
    display.plot(figure.subplots())
    figure.draw_without_rendering()
    for axis in (display.ax_.xaxis, display.ax_.yaxis):
        boxes = [label.get_window_extent() for label in axis.get_ticklabels()]
        assert len(boxes) >= (2 if size else min(n_classes, 50))
        gaps = [max(b.x0 - a.x1, a.x0 - b.x1, b.y0 - a.y1, a.y0 - b.y1) for a, b in itertools.pairwise(boxes)]
        assert min(gaps) >= -1  # pixel


@pytest.mark.parametrize("n_classes", [10, 11, 100])
def test_names_in_a_plane_do_not_overlap(n_classes, ax):
    net, X, y = small(n_classes)
    display = plots.decision_boundary(net, X, y, grid_resolution=60, ax=ax)
    ax.figure.draw_without_rendering()
    names = display.labels_ if n_classes > 10 else display.labels_.get_texts()
    assert len(names) >= 2
    boxes = [text.get_window_extent().padded(-1) for text in names]
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))


def test_captions_do_not_overlap(ax):
    net, X, y = look("MLP")
    for n, names in ((10, NAMES), (24, None), (60, NAMES)):
        display = plots.wrong_guesses(net, X, y, n=n, display_labels=names, ax=False)
        figure = matplotlib.figure.Figure(layout="constrained", figsize=display._size)
        display.plot(figure.subplots())
        figure.draw_without_rendering()
        boxes = [text.get_window_extent().padded(-1) for text in display.text_]
        assert len(boxes) >= 2 * len(display.mistakes)
        assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))


def test_cells_hold_the_numbers(ax):
    net, X, y = look("MLP")
    display = plots.confusion_matrix(net, X, y, ax=ax)
    for cell, text in zip(display.confusion_matrix.ravel(), display.text_.ravel(), strict=True):
        assert (text is None) if cell == 0 else (text.get_text() == str(cell))
    errors = display.confusion_matrix - np.diag(np.diag(display.confusion_matrix))
    np.testing.assert_array_equal(display.im_.get_array().filled(0), errors)
    assert display.im_.get_clim() == (0, errors.max())


def test_a_matrix_of_weights_names_the_columns_of_a_table(ax):
    X, y = digits()[:2]
    table = pytest.importorskip("pandas").DataFrame(X[:, :6], columns=["$a$", "b_1", "c", "d", "e", "f"])
    net = reference.MLP([6, 4, 10])
    net.fit(table, y, epochs=1)
    plots.weights(net, shape="matrix", ax=ax)
    assert [label.get_text() for label in ax.get_xticklabels()] == list(table.columns)
    render(ax.figure)
    with pytest.raises(ValueError, match="X is a table with the columns"):
        plots.weights(net, ax=False)


def test_nothing_is_wrong(ax):
    net, X, _ = look("MLP")
    display = plots.wrong_guesses(net, X, net.predict(X), ax=ax)
    assert (display.mistakes, display.im_, len(display.images)) == ([], None, 0)
    assert [text.get_text() for text in ax.texts] == ["no wrong guess in 200 rows"]
    display = plots.confusion_matrix(net, X, net.predict(X), ax=ax)
    assert (display.words, display.accuracy) == ([], 1)
    render(ax.figure)


def test_all_rows_are_of_one_kind():
    net, X, y = look("MLP")
    for display in every_display(net, X[:1], y[:1]):
        display.plot(matplotlib.figure.Figure().subplots()).figure_.draw_without_rendering()


def test_plot_into_given_axes_leaves_pyplot_alone(tmp_path):
    program = (
        "import sys, numpy as np\n"
        "from matplotlib.figure import Figure\n"
        "from fastmlp import plots, reference\n"
        "net = reference.MLP([64, 4, 3]); X = np.random.rand(40, 64); y = np.arange(40) % 3\n"
        "net.fit(X, y, epochs=2)\n"
        "for make in (plots.confusion_matrix, plots.calibration, plots.wrong_guesses):\n"
        "    ax = Figure().subplots(); display = make(net, X, y, ax=ax)\n"
        "    assert display.ax_ is ax and display.figure_ is ax.figure\n"
        "plots.learning_curves(net, ax=Figure().subplots()); plots.samples(X, y, ax=Figure().subplots())\n"
        "plots.weights(net, ax=Figure().subplots())\n"
        "plots.decision_boundary(net, X, y, (0, 1), ax=Figure().subplots())\n"
        "plots.weights(net, ax=False).save(sys.argv[1])\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    command = [sys.executable, "-W", "error", "-c", program, tmp_path / "weights.svg"]
    subprocess.run(command, check=True, cwd=ROOT, timeout=120)


@pytest.mark.parametrize(("n_classes", "name"), [(2, "a long name of class {}"), (10, "{}"), (40, "{}")])
def test_words_are_inside_the_figure(n_classes, name):
    net, X, y = small(n_classes)
    names = [name.format(i) for i in range(n_classes)]
    display = plots.confusion_matrix(net, X, y, display_labels=names, ax=False)
    figure = matplotlib.figure.Figure(layout="constrained", figsize=display._size)
    display.plot(figure.subplots())
    figure.draw_without_rendering()
    words = display.ax_.texts[-1]
    assert words.get_text().splitlines() == ["Most common confusions", *display.words]
    box, whole = words.get_window_extent(), figure.bbox
    assert whole.x0 <= box.x0 < box.x1 <= whole.x1
    assert whole.y0 <= box.y0 < box.y1 <= whole.y1


def test_words_are_drawn_where_there_is_room(ax):
    net, X, y = look("MLP")
    display = plots.confusion_matrix(net, X, y, ax=ax)
    assert ax.texts[-1].get_text().splitlines() == ["Most common confusions", *display.words]
    for settings in ({"layout": "constrained", "figsize": (3, 3)}, {"figsize": (4, 4)}):
        ax = matplotlib.figure.Figure(**settings).subplots()
        display.plot(ax)
        assert not any("Most common" in text.get_text() for text in ax.texts)


def test_a_new_figure_of_pyplot():
    matplotlib.use("Agg")
    from matplotlib import pyplot

    net, X, y = look("MLP")
    display = plots.confusion_matrix(net, X, y)
    assert pyplot.gcf() is display.figure_
    again = display.plot(ax=pyplot.subplots()[1])
    assert again is display
    assert len(pyplot.get_fignums()) == 2
    curves = plots.learning_curves(net)
    assert [ax.get_ylabel() for ax in curves.axes_] == ["loss", "accuracy"]
    assert len(pyplot.get_fignums()) == 3
    pyplot.close("all")


@pytest.mark.parametrize("form", ["png", "svg"])
def test_the_same_numbers_give_the_same_bytes(form, tmp_path):
    X, y, _, _ = digits()
    for name in "ab":
        plots.samples(X, y, ax=False).save(tmp_path / f"{name}.{form}")
    assert (tmp_path / f"a.{form}").read_bytes() == (tmp_path / f"b.{form}").read_bytes()


def test_subfigures_and_figures_without_layout():
    X, y, _, _ = digits()
    whole = matplotlib.figure.Figure(layout="constrained")
    for figure in (matplotlib.figure.Figure(), *whole.subfigures(1, 2)):
        display = plots.samples(X, y, ax=figure.subplots())
        assert len(display.text_) == 10
        plots.confusion_matrix(*look("MLP"), ax=figure.subplots())
    render(whole)


def test_save_refuses_what_is_no_picture(tmp_path):
    display = plots.samples(*digits()[:2], ax=False)
    for name in ("picture.xyz", "picture", ".png"):
        with refused(ValueError, "must end in the suffix of a format that matplotlib writes, such as .png or .svg"):
            display.save(tmp_path / name)
    assert list(tmp_path.iterdir()) == []
    with refused(FileNotFoundError, "missing"):
        display.save(tmp_path / "missing" / "picture.png")
    with refused(TypeError, "ax must be an Axes of matplotlib, not ndarray; choose one of them: axes[0]"):
        display.plot(np.array([1, 2]))
    with refused(TypeError, "path"):
        display.save(3)


def test_the_legend_of_a_calibration_hides_no_point():
    true, predicted = np.array([1.0, 0.5, 0.7, 1.0]), np.array([0.26, 0.45, 0.6, 0.97])
    display = plots.CalibrationDisplay(true, predicted, np.array([1, 5, 9, 90]), np.linspace(0, 1, 11), "probability")
    ax = matplotlib.figure.Figure(figsize=(4.6, 4.6)).subplots()
    display.plot(ax=ax)
    ax.figure.canvas.draw()
    box = ax.get_legend().get_window_extent()
    assert not any(box.contains(*point) for point in ax.transData.transform(np.column_stack([predicted, true])))
