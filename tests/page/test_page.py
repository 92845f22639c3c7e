"""The page in headless Chromium: what people do with it, by mouse, finger and keyboard, and that nothing else runs."""

import json
import warnings

import numpy as np
import pytest
from sklearn.datasets import load_diabetes
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from support.browser import CHROMIUM, Browser
from support.fitted import network  # noqa: F401
from support.nets import filled
from support.strokes import TWENTY, placed

from benchmarks.page import answers, draw
from fastmlp import MLP, MLPClassifier, MLPRegressor, datasets
from fastmlp.page import report

pytestmark = [pytest.mark.loops("plain SGD"), pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")]

HOSTILE = [
    "<script>window.hacked = 1</script>",
    "\"'><img src=x onerror=window.hacked=1>",
    "שלום \u202eabc",
    "${window.hacked = 1}`",
    "javascript:window.hacked=1",
    "x" * 300,
]
# Texts whose contrast with what lies behind them is below 4.5, or 3 if they are large, as WCAG AA asks.
TOO_FAINT = """(() => {
    const triple = (text) => text.match(/[\\d.]+/g).map(Number);
    const light = (rgb) => rgb.slice(0, 3).map((v) => v / 255)
        .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
        .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
    const behind = (element) => {
        for (let at = element; at; at = at.parentElement) {
            const colour = triple(getComputedStyle(at).backgroundColor);
            if (colour.length === 3 || colour[3] === 1) return colour;
        }
        return [255, 255, 255];
    };
    const faint = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    let n = 0;
    while (walker.nextNode()) {
        const element = walker.currentNode.parentElement, style = getComputedStyle(element);
        if (!walker.currentNode.data.trim() || !element.getClientRects().length) continue;
        const colour = triple(element instanceof SVGElement ? style.fill : style.color);
        const [a, b] = [light(colour), light(behind(element))].sort((x, y) => x - y), ratio = (b + 0.05) / (a + 0.05);
        n++;
        if (ratio < (parseFloat(style.fontSize) >= 24 ? 3 : 4.5))
            faint.push(`${element.className} ${walker.currentNode.data} ${ratio}`);
    }
    return [n, faint];
})()"""
# Numbers on axes that lie outside of their chart, and names of facts on several lines.
CUT_OFF = """[...document.querySelectorAll(".chart text")].filter((each) => {
    const text = each.getBoundingClientRect(), chart = each.closest("svg").getBoundingClientRect();
    return text.left < chart.left || text.right > chart.right;
}).concat([...document.querySelectorAll(".facts dt")].filter((each) => {
    const range = document.createRange();
    range.selectNodeContents(each);
    return range.getClientRects().length > 1;
})).map((each) => each.textContent)"""
# What a keyboard or a screen reader needs.
WITHOUT_NAMES = """[...document.querySelectorAll("button, input, canvas, [tabindex], a")].filter((each) =>
    !each.closest("td, [hidden]") && !each.ariaLabel && !each.labels?.length && !each.textContent.trim()
).map((each) => each.outerHTML)"""


@pytest.fixture(scope="module")
def mnist():
    X, y, X_test, y_test = datasets.load_mnist()
    net = MLP([784, 128, 10])
    net.fit(X, y, epochs=3, validation_data=(X_test[:500], y_test[:500]))
    return net, X_test[:2000], y_test[:2000]


@pytest.fixture
def opened(tmp_path):
    """Open a page and return the browser; at the end, nothing must have failed, run or been asked for."""
    browsers = []

    def open_page(*arguments, look=None, **options):
        path = tmp_path / "page.html"
        report(*arguments, path, **options)
        browsers.append(Browser(tmp_path / "profile"))
        (browser,) = browsers
        browser.look(**(look or {}))
        browser.open(path.as_uri())
        browser.wait_for("document.querySelector('footer') && true")
        return browser

    yield open_page
    for browser in browsers:
        with browser:
            assert browser.value("window.hacked") is None
            assert browser.asked == [(tmp_path / "page.html").as_uri()]
            assert browser.failed == []


def text(browser, selector):
    return browser.value(f"document.querySelector({json.dumps(selector)}).textContent")


def texts(browser, selector):
    return browser.value(f"[...document.querySelectorAll({json.dumps(selector)})].map((each) => each.textContent)")


def press(browser, name):
    browser.value(f"[...document.querySelectorAll('#try button')].find((b) => b.textContent === '{name}').click()")


def settled(browser):
    browser.awaited("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def fits(browser, width=360):
    return browser.value("document.documentElement.scrollWidth") <= width


def fitted(model, X, y):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(X, y)


# --- drawing ----------------------------------------------------------------------------------------------------------


def test_the_page_answers_as_python_does_and_recognizes_digits(mnist, opened):
    net, X, y = mnist
    browser = opened(net, X, y)
    p, expected = answers(browser, X[:500]), net.predict_proba(X[:500])
    np.testing.assert_array_equal(p.argmax(axis=1), expected.argmax(axis=1))
    np.testing.assert_allclose(p, expected, rtol=0, atol=1e-5)
    said = [(str(digit), draw(browser, strokes)) for digit, strokes in TWENTY]
    assert sum(digit == answer for digit, answer in said) >= 18, said
    assert browser.value("document.querySelectorAll('#try .bars li').length") == 10
    assert browser.value("document.querySelectorAll('#try .active canvas').length") == 8


def test_touch_on_a_dark_phone(mnist, opened):
    browser = opened(*mnist, look={"width": 360, "height": 740, "dark": True, "mobile": True})
    assert fits(browser)
    assert draw(browser, placed(7, 0.2, 0.15, 0.6), touch=True) == "7"
    assert browser.value("scrollY") == browser.value("(scrollBy(0, 0), scrollY)")
    n, faint = browser.value(TOO_FAINT)
    assert (n > 200, faint) == (True, [])
    assert browser.value("getComputedStyle(document.body).backgroundColor") == "rgb(14, 16, 20)"
    assert (
        browser.value(
            "(({ parentElement: box }) => box.scrollWidth - box.clientWidth)(document.querySelector('.layers'))"
        )
        == 0
    )
    browser.look(width=360, height=740, mobile=True)  # the person switches to light
    assert fits(browser)
    n, faint = browser.value(TOO_FAINT)
    assert (n > 200, faint) == (True, [])


def test_undo_clear_pen_and_keys(mnist, opened):
    browser = opened(*mnist)

    def ink():
        settled(browser)
        return browser.value(
            """(() => {
                const pad = document.querySelector(".pad");
                const { data } = pad.getContext("2d").getImageData(0, 0, pad.width, pad.height);
                return data.reduce((sum, value, i) => sum + (i % 4 === 3 ? value : 0), 0);
            })()"""
        )

    assert ink() == 0
    for x in (0.3, 0.6):
        browser.drag([browser.place(".pad", x, 0.2), browser.place(".pad", x, 0.8)])
    both = ink()
    press(browser, "Undo")
    one = ink()
    assert 0.4 * both < one < 0.6 * both
    press(browser, "Clear")
    assert ink() == 0
    assert text(browser, "#try .said") == "Draw something."
    press(browser, "Undo")  # of Clear
    assert ink() == one
    press(browser, "Clear")
    browser.value("document.querySelector('#pen').value = 40")
    browser.drag([browser.place(".pad", 0.3, 0.2), browser.place(".pad", 0.3, 0.8)])
    assert ink() > 1.3 * one
    press(browser, "Clear")
    browser.value("document.querySelector('.pad').focus()")
    browser.press(" ", " ")
    for _ in range(10):
        browser.press("ArrowDown")
    browser.press(" ", " ")
    browser.press("ArrowLeft")
    settled(browser)
    assert "%" in text(browser, "#try .said")
    browser.press("u", "u")
    settled(browser)
    assert text(browser, "#try .said") == "Draw something."


def test_dots_test_images_and_keys_while_drawing(mnist, opened):
    net, X, _ = mnist
    browser = opened(*mnist)

    def said():
        settled(browser)
        return text(browser, "#try .said")

    browser.drag([browser.place(".pad")])  # a dot
    assert "%" in (dot := said())
    press(browser, "Test image ›")
    at = browser.awaited("fastmlp.then(({ content }) => content.shown.row[0])")
    assert said().split()[0] == str(net.predict(X[at : at + 1])[0])
    assert text(browser, "#try .drawing .told").startswith(f"test row {at:,}, in truth ")
    press(browser, "Undo")
    assert said() == dot
    assert text(browser, "#try .drawing .told") == ""
    held = {"button": "left", "buttons": 1, "clickCount": 1}
    for key in ("Delete", "u", " "):
        for kind, x in (("mousePressed", 0.3), ("mouseMoved", 0.4), (key, 0), ("mouseMoved", 0.6)):
            if x:
                place = dict(zip("xy", browser.place(".pad", x, 0.5), strict=True))
                browser.call("Input.dispatchMouseEvent", type=kind, **place, **held)
            else:
                browser.press(key, key if len(key) == 1 else "")
        browser.call("Input.dispatchMouseEvent", type="mouseReleased", **place, button="left", clickCount=1)
        assert ("%" in said()) == (key == " ")


def test_cells_of_the_matrix_show_their_images(mnist, opened):
    net, X, y = mnist
    browser = opened(net, X, y)
    guess = net.predict(X)
    counts = np.zeros((10, 10), int)
    np.add.at(counts, (y, guess), 1)
    cells = browser.value(
        "[...document.querySelectorAll('.matrix td[data-t]')].map((cell) => Number(cell.textContent))"
    )
    assert cells == counts.ravel().tolist()
    browser.click("td[data-t='3'][data-g='3']")
    assert f"3, recognized: {counts[3, 3]} rows" in text(browser, ".detail h3")
    assert browser.value("document.querySelectorAll('.detail canvas').length") == min(48, counts[3, 3])
    t, g = np.argwhere((counts > 0) & ~np.eye(10, dtype=bool))[0]
    browser.value(f"document.querySelector(\"td[data-t='{t}'][data-g='{g - 1 if g else g + 1}']\").focus()")
    browser.press("ArrowRight" if g else "ArrowLeft")
    browser.press("Enter")
    assert f"{t} taken for {g}: {counts[t, g]} row" in text(browser, ".detail h3")
    assert browser.value("document.querySelectorAll('.detail canvas').length") == counts[t, g]
    assert browser.value("document.querySelectorAll('.matrix td[tabindex=\"0\"]').length") == 1
    n_wrong = int((guess != y).sum())
    assert f"{n_wrong} test rows of 2,000" in text(browser, "#wrong .intro")
    assert browser.value("document.querySelectorAll('#wrong canvas').length") == min(24, n_wrong)
    assert browser.value(WITHOUT_NAMES) == []
    browser.press("Tab")
    assert browser.value("document.activeElement !== document.body")


def test_confusions_of_classes_that_the_matrix_leaves_out(opened):
    n = 130
    net = filled([n, n], activation=[])
    net.weights[0][...], net.biases[0][...] = 20 * np.eye(n), 0
    true = [0] * 3 + [t for t in range(2, n) for _ in range(4)]
    guess = [1] * 3 + [2 + (t - 2 + k) % (n - 2) for t in range(2, n) for k in range(1, 5)]
    browser = opened(net, np.eye(n)[guess], true)
    assert "0 taken for 1: 3 rows" in text(browser, ".detail h3")
    for i, expected in ((1, "2 taken for 3: 1 row"), (0, "0 taken for 1: 3 rows")):
        browser.value(f"document.querySelectorAll('.common button')[{i}].click()")
        assert text(browser, ".detail h3") == expected
    assert browser.value("document.querySelectorAll('.detail tbody tr').length") == 3


# --- points and forms -------------------------------------------------------------------------------------------------


def test_the_plane_answers_clicks_and_keys(opened):
    net = filled([2, 6, 3], activation="tanh")
    X = np.random.default_rng(0).uniform(-1, 1, (200, 2))
    browser = opened(net, X, net.predict(X), display_labels=HOSTILE[:3])
    x, y = (browser.awaited(f"fastmlp.then(({{ content }}) => content.plane.{axis})") for axis in "xy")
    browser.click(".plane", 0.25, 0.4)
    point = [x["low"] + 0.25 * (x["high"] - x["low"]), y["high"] - 0.4 * (y["high"] - y["low"])]
    p = net.predict_proba([point])[0]
    assert text(browser, "#try .said strong") == HOSTILE[p.argmax()]
    shown = browser.value(
        "[...document.querySelectorAll('#try .bars .number')].map((each) => parseFloat(each.textContent))"
    )
    np.testing.assert_allclose(shown, 100 * p, atol=0.6)
    before = text(browser, "#try .told")
    browser.value("document.querySelector('.plane').focus()")
    browser.press("ArrowRight")
    assert text(browser, "#try .told") != before
    browser.wait_for("document.querySelector('.plane').getContext('2d').getImageData(5, 5, 1, 1).data[3] === 255")


def test_each_of_many_classes_has_a_colour_of_its_own(opened):
    net, n = filled([2, 6, 40], activation="tanh"), 40
    X = np.random.default_rng(0).uniform(-1, 1, (200, 2))
    browser = opened(net, X, np.arange(200) % n)
    for dark in (False, True):
        browser.look(dark=dark)
        settled(browser)
        colors = browser.value("[...document.querySelectorAll('.dot')].map((dot) => dot.style.background)")
        assert (len(colors), len(set(colors))) == (30, 30)
    assert texts(browser, "#try .legend li")[30:] == ["and 10 more"]


def test_the_form_answers_and_hostile_names_are_only_text(opened):
    pandas = pytest.importorskip("pandas")
    generator = np.random.default_rng(0)
    names = [*HOSTILE[:4], "x" * 300, *(f"column {i}" for i in range(11))]
    X = pandas.DataFrame(generator.normal(5, 3, (150, 16)), columns=names)
    y = np.array(HOSTILE)[np.r_[np.arange(6), generator.integers(0, 6, 144)]]
    model = fitted(make_pipeline(StandardScaler(), MLPClassifier((8,), max_iter=5, random_state=0)), X, y)
    browser = opened(model, X, y, command="</script><script>window.hacked = 1</script>")
    assert texts(browser, "label bdi") == names
    shown = browser.value("document.body.textContent")
    assert [name for name in HOSTILE if name not in shown] == []
    browser.value(
        """(() => {
            const field = document.querySelector("#field-5");
            field.value = "17.5";
            field.dispatchEvent(new Event("input", { bubbles: true }));
        })()"""
    )
    row = X.median().to_frame().T
    row["column 0"] = 17.5
    p = model.predict_proba(row)[0]
    assert text(browser, "#try .said strong") == model.classes_[p.argmax()]
    shown = browser.value(
        "[...document.querySelectorAll('#try .bars .number')].map((each) => parseFloat(each.textContent))"
    )
    np.testing.assert_allclose(shown, 100 * p, atol=0.06)
    browser.value(
        "[...document.querySelectorAll('button')].find((each) => each.textContent.includes('Test row')).click()"
    )
    at = browser.awaited("fastmlp.then(({ content }) => content.shown.row[0])")
    assert float(browser.value("document.querySelector('#field-3').value")) == pytest.approx(X.iloc[at, 3], rel=1e-6)
    assert text(browser, "#try .tools .told").startswith(f"test row {at:,}, in truth ")
    browser.value("document.querySelector('#field-3').dispatchEvent(new Event('input', { bubbles: true }))")
    assert text(browser, "#try .tools .told") == ""
    browser.look(width=360, height=700, mobile=True)
    assert fits(browser)
    assert browser.value(TOO_FAINT)[1] == []
    assert browser.value(WITHOUT_NAMES) == []


def test_regression(opened):
    X, y = load_diabetes(return_X_y=True)
    model = fitted(MLPRegressor(hidden_layer_sizes=(8,), max_iter=5, n_networks=2, random_state=0), X, y)
    browser = opened(model, X, y)
    np.testing.assert_allclose(answers(browser, X[:100])[:, 0], model.predict(X[:100]), rtol=1e-5)
    assert "R²" in text(browser, "#numbers")
    assert browser.value("document.querySelectorAll('#curves .curve').length") == 3  # two networks and their mean
    assert browser.value(CUT_OFF) == []
    browser.look(width=360, height=700, mobile=True)
    assert browser.value(CUT_OFF) == []


def test_the_policy_forbids_what_the_page_does_not_do(tmp_path):
    net = filled([4, 3, 2])
    path = tmp_path / "page.html"
    report(net, np.ones((3, 4)), [0, 1, 0], path)
    with Browser(tmp_path / "profile") as browser:
        browser.open(path.as_uri())
        browser.wait_for("document.querySelector('footer') && true")
        assert browser.failed == []
        browser.value(
            "violated = []; addEventListener('securitypolicyviolation', (e) => violated.push(e.effectiveDirective))"
        )
        for attempt in (
            "document.body.innerHTML = '<b>'",
            "{ const made = document.createElement('script'); made.append('hacked = 1'); document.body.append(made); }",
            "(new Image()).src = 'https://example.org/x.png'",
            "document.body.setAttribute('style', 'color: red')",
        ):
            browser.value(attempt)
        assert browser.awaited("fetch('https://example.org/').then(() => 'done', () => 'refused')") == "refused"
        assert browser.value("window.hacked") is None
        forbidden = {"require-trusted-types-for", "img-src", "style-src-attr", "connect-src"}
        assert forbidden <= set(browser.wait_for("violated.length > 4 && violated"))
