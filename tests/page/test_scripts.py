"""The page's functions in JavaScript, run by Node: they compute what their twins in Python do."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from fastmlp.activations import ACTIVATIONS
from fastmlp.losses import LOSSES
from fastmlp.page.packing import packed, packed_floats, rounded

WEB = Path(__file__).resolve().parents[2] / "fastmlp" / "page" / "web"
SIDE = 100
MNIST = {"height": 28, "width": 28, "fit": 20, "centre": [14, 14]}

pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="needs node")


def run(script, *files):
    """What a script that may await comes to, after the files of the page."""
    sources = "\n".join((WEB / f"{file}.js").read_text() for file in files)
    program = f'"use strict";\n{sources}\n(async () => {{ {script} }})().then((it) => console.log(JSON.stringify(it)));'
    done = subprocess.run(["node", "-"], input=program, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_activations_and_outputs_are_those_of_python():
    z = np.array([-700.0, -30, -5, -1.3, -1e-9, 0, 1e-9, 0.7, 4, 30, 700])
    activations = run(
        f"""const z = {z.tolist()};
        return Object.fromEntries(Object.entries(ACTIVATIONS).map(([name, f]) => [name, z.map(f)]));""",
        "network",
    )
    assert activations.keys() == ACTIVATIONS.keys()
    for name, values in activations.items():
        np.testing.assert_allclose(values, ACTIVATIONS[name].value(z), rtol=1e-12, atol=1e-300, err_msg=name)
    rows = [[1000.0, 999, -1000], [-3, 0.5, 2], [0, 0, 0]]
    outputs = run(
        f"""return Object.fromEntries(Object.entries(OUTPUTS).map(([name, f]) =>
            [name, {rows[1:]}.map((row) => [...f(Float64Array.from(row))])]));""",
        "network",
    )
    assert outputs.keys() == LOSSES.keys()
    for name, values in outputs.items():
        loss, z = LOSSES[name](3), np.array(rows[1:])
        expected = loss.probabilities(z) if loss.classifies else loss.predicted(z)
        np.testing.assert_allclose(values, expected, rtol=1e-12, err_msg=name)
    (both,) = run("return [[...OUTPUTS.logistic(Float64Array.of(2))]];", "network")
    np.testing.assert_allclose(both, LOSSES["logistic"](1).probabilities(np.array([[2.0]]))[0])
    assert run(f"return [...OUTPUTS.softmax(Float64Array.from({rows[0]}))];", "network")[2] == 0


@pytest.mark.parametrize("n_bits", [32, 28, 24])
def test_numbers_are_read_as_they_were_written(n_bits):
    exact = np.random.default_rng(0).standard_normal(1000, dtype=np.float32)
    numbers = rounded(exact, n_bits)
    read = run(f"return [...floats(await inflate('{packed_floats(numbers)}'))];", "network")
    np.testing.assert_array_equal(np.array(read, np.float32), numbers)
    np.testing.assert_allclose(numbers, exact, rtol=0 if n_bits == 32 else 2.0 ** (8 - n_bits))


def test_bytes_are_read_as_they_were_written():
    pixels = np.arange(256, dtype=np.uint8)
    assert run(f"return [...await inflate('{packed(pixels)}')];", "network") == pixels.tolist()


def ink(left, top, width, height):
    """A rectangle of ink, as the script makes it."""
    return f"""const ink = new Uint8Array({SIDE * SIDE});
        for (let y = {top}; y < {top + height}; y++)
            for (let x = {left}; x < {left + width}; x++) ink[y * {SIDE} + x] = 255;"""


def seen(rectangle, image=MNIST):
    script = f"{ink(*rectangle)} const it = normalised(ink, {SIDE}, {json.dumps(image)}); return it && [...it];"
    pixels = run(script, "ink")
    return None if pixels is None else np.array(pixels).reshape(image["height"], image["width"])


@pytest.mark.parametrize("place", [(0, 0, 20, 40), (70, 55, 20, 40), (31, 17, 40, 80), (93, 3, 4, 8)])
def test_drawings_are_fitted_into_20_pixels_and_centred(place):
    pixels = seen(place)
    rows, columns = np.flatnonzero(pixels.sum(axis=1) > 0.1), np.flatnonzero(pixels.sum(axis=0) > 0.1)
    assert rows[-1] - rows[0] + 1 == 20
    assert columns[-1] - columns[0] + 1 == 10  # the aspect ratio is kept
    assert pixels.sum() == pytest.approx(200)  # all of the ink, and no more
    mass = (pixels.sum(axis=1) @ (np.arange(28) + 0.5), pixels.sum(axis=0) @ (np.arange(28) + 0.5))
    np.testing.assert_allclose(np.array(mass) / pixels.sum(), 14, atol=1e-6)
    assert pixels.max() == 1


def test_edges_are_grey_where_ink_covers_part_of_a_pixel():
    pixels = seen((10, 10, 33, 40))  # 16.5 pixels wide
    edges = pixels[14][(pixels[14] > 0.01) & (pixels[14] < 0.99)]
    assert edges.sum() == pytest.approx(0.5)


def test_ink_stays_in_the_image_if_its_box_fills_it():
    image = {"height": 8, "width": 8, "fit": 8, "centre": [3.5, 6]}
    assert seen((20, 30, 20, 40), image).sum() == pytest.approx(8 * 4)


def test_without_ink_there_is_no_image():
    assert seen((5, 5, 0, 0)) is None


def test_numbers_as_text():
    texts = {
        "percent(0)": "0.0%",
        "percent(1)": "100.0%",
        "percent(0.99999)": ">99.9%",
        "percent(0.00001)": "<0.1%",
        "percent(0.257)": "25.7%",
        "short(1234567)": "1.23e+6",
        "short(0.000123)": "1.23e-4",
        "short(3.14159)": "3.142",
        "short(12)": "12",
        "short(NaN)": "–",
        "short(-0.25)": "-0.2500",
        "datum(4.7)": "4.7",
        "datum(1200)": "1,200",
        "datum(0.5004)": "0.5004",
        "plural(1, 'row')": "1 row",
        "plural(2000, 'row')": "2,000 rows",
        "readableOn([115, 115, 115])": "white",
        "readableOn([120, 120, 120])": "black",
    }
    assert run(f"return [{', '.join(texts)}];", "dom") == [*texts.values()]
