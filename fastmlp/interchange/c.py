"""Networks as C: one C99 file with the tables and functions of a network, and a program that tests it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

import fastmlp
from fastmlp.activations import Floats
from fastmlp.interchange import c_source
from fastmlp.interchange.c_layers import SMALLEST, Layer, dense_rows, layers_in_8_bits, layers_of, sums
from fastmlp.metrics import r2
from fastmlp.storage import written_whole
from fastmlp.validation.inputs import check_X
from fastmlp.validation.settings import check_path

if TYPE_CHECKING:
    from fastmlp.network import Network

__all__ = ["test_program", "write"]

_TEST_ROWS = 100
_TOLERANCE = 1e-4  # of the test program, relative to the largest output
_ROUNDING = 1e-6  # relative change of inputs that stands for rounding


def write(net: Network, path: str | os.PathLike[str], name: str, bits: int, X: Any, y: Any) -> dict[str, float]:
    """Write `net` as C to `path`, and a program that tests it beside it; see `Network.to_c`."""
    source = check_path(path)
    _check_arguments(source, name, bits, X, y)
    test = test_program(source)
    _check_test_file(test)
    layers = list(layers_of(net))
    measured: dict[str, float] = {}
    report = ""
    if X is None:
        rows = np.random.default_rng(0).standard_normal((_TEST_ROWS, net.layers[0]), np.float32)
        rows /= np.float32(net.input_scale)
    else:
        rows = check_X(X, net.layers[0], np.float32)  # before input_scale
        if bits == 8:
            layers = layers_in_8_bits(layers, rows)
        measured, report = _measure(net, layers, X, rows, y)
        report = f"{bits}-bit weights: {report}"
        rows = _sample(rows)
    expected = _expected(net, layers, rows)
    with written_whole(source) as file, written_whole(test) as test_file:
        file.writelines(_encoded(_code(net, layers, name, os.path.basename(source), report)))
        test_file.writelines(_encoded(_test(net, *expected, name, os.path.basename(source))))
    if report:
        print(report)
    return measured


# --- checks -----------------------------------------------------------------------------------------------------------


def _check_arguments(source: str, name: object, bits: object, X: object, y: object) -> None:
    if not isinstance(name, str):
        raise TypeError(f"name must be a string, with which the names in C begin, not {name!r}")
    if not re.fullmatch("[A-Za-z][A-Za-z0-9_]*", name):
        raise ValueError(f"name must be a name in C, of letters, digits and underscores, not {name!r}")
    if isinstance(bits, bool) or bits not in (8, 32):
        raise ValueError(f"bits must be 8 or 32, the bits of a weight, not {bits!r}")
    if re.search(r'["\\\n\r]', os.path.basename(source)):
        raise ValueError(f"path must be the name of a file that C can include, without quotes, not {source!r}")
    if X is None and y is not None:
        raise ValueError("y needs X, the rows to which it belongs")
    if X is None and bits == 8:
        raise ValueError(
            "weights of 8 bits cost accuracy, and to_c measures how much: pass X, some rows such as the test data, "
            "and y if you have it"
        )


def test_program(source: str) -> str:
    """Return the name of the test program of a file."""
    return f"{source.removesuffix('.c')}_test.c"


def _check_test_file(test: str) -> None:
    """Refuse to replace a file that the user did not name and that `write` did not write."""
    if os.path.isfile(test):
        with open(test, "rb") as file:
            if _SIGNATURE.encode() not in file.readline(4096):
                raise FileExistsError(f"{test}, the name of the test program, is a file of yours; choose another path")


# --- measurements -----------------------------------------------------------------------------------------------------


def _sample(rows: Any) -> Floats:
    """Return rows from all over `rows`, as many as the test program takes."""
    return dense_rows(rows[np.unique(np.linspace(0, rows.shape[0] - 1, _TEST_ROWS).astype(np.int64))])


def _measure(net: Network, layers: list[Layer], X: Any, rows: Any, y: Any) -> tuple[dict[str, float], str]:
    """Return how predictions of the layers in C differ from those of the network, and the same in words."""
    loss, own = net._loss, net.predict(X)
    z = sums(layers, rows)
    predicted = loss.predicted(z)
    measured: dict[str, float] = {"n_rows": len(z)}
    if loss.classifies:
        equal = (net._names.decoded(predicted) == own).reshape(len(z), -1).all(axis=1)
        measured["equal"] = float(equal.mean())
        report = f"{np.count_nonzero(~equal):,} predictions differ"
    else:
        measured["largest_difference"] = float(np.abs(predicted - own).max())
        report = f"predictions differ by up to {measured['largest_difference']:.3g}"
    if y is not None:
        targets = net._check_data(X, y)[1]
        what = "accuracy" if loss.classifies else "r2"
        before = net.score(X, y)
        after = float(loss.correct(z, targets).mean()) if loss.classifies else r2(loss.decode(targets), predicted)
        measured |= {what: before, f"{what}_in_c": after}
        report = f"{what} {before:.4f} -> {after:.4f} ({after - before:+.4f}), {report}"
    return measured, f"{report} on {len(z):,} rows"


def _outputs(net: Network, layers: list[Layer], rows: Floats) -> Floats:
    """Return the outputs (n, NET_OUTPUTS) that C writes, up to rounding."""
    z = sums(layers, rows)
    with np.errstate(over="ignore", invalid="ignore"):
        outputs = net._loss.probabilities(z) if net._loss.classifies else net._loss.predicted(z)
    return outputs.reshape(len(rows), -1)


def _expected(net: Network, layers: list[Layer], rows: Floats) -> tuple[Floats, Floats, float]:
    """Return rows, the outputs (n, NET_OUTPUTS) that the test program compares with, and how far C may be from these.

    With 8 bits these are the outputs of the layers, otherwise those of the network. Rows with outputs that are not
    finite are left out.
    """
    in_c = _outputs(net, layers, rows)
    outputs = in_c
    if layers[0].scale is None:
        own = net.predict_proba(rows) if net._loss.classifies else net.predict(rows)
        with np.errstate(over="ignore"):
            outputs = own.reshape(len(rows), -1).astype(np.float32)
    signs = np.random.default_rng(1).choice(np.array([1 - _ROUNDING, 1 + _ROUNDING], np.float32), rows.shape)
    moved = _outputs(net, layers, rows * signs)  # as if sums were rounded in another order
    finite = (np.isfinite(outputs) & np.isfinite(in_c) & np.isfinite(moved)).all(axis=1)
    if not finite.any():
        raise ValueError("the network cannot be tested: its outputs are not finite for any of the rows")
    outputs, in_c, moved = outputs[finite], in_c[finite], moved[finite]
    rounding = max(np.abs(in_c - outputs).max(), np.abs(moved - in_c).max())
    return rows[finite], outputs, float(_TOLERANCE * np.abs(outputs).max() + 10 * rounding)


# --- C ----------------------------------------------------------------------------------------------------------------

_SIGNATURE = "written by fastmlp"


def _head(net: Network) -> str:
    return "two classes" if net.output == "logistic" and net.layers[-1] == 1 else net.output


def _n_outputs(net: Network) -> int:
    return 2 if _head(net) == "two classes" else net.layers[-1]


def _code(net: Network, layers: list[Layer], name: str, file: str, report: str) -> Iterator[str]:
    """Yield the text of the file, piece by piece."""
    n_outputs = _n_outputs(net)
    declarations, definitions = c_source.HEADS[_head(net)]
    if net.classes is not None:
        declarations += c_source.CLASSES
    used = dict.fromkeys(net.activations)
    logistic = bool({"logistic", "silu"} & {*used, net.output})
    needs_math = logistic or net.output in ("softmax", "exp") or bool({"elu", "gelu", "tanh"} & {*used})
    yield _comment(net, layers, file, name, report)
    yield c_source.named(c_source.START, name).format(
        n_inputs=net.layers[0],
        n_outputs=n_outputs,
        declarations=c_source.named(declarations, name).replace("{classes}", f"0 to {n_outputs - 1}"),
        includes="#include <math.h>\n" if needs_math else "",
    )
    for i, layer in enumerate(layers):
        for letter, table in layer.tables.items():
            yield from _table(f"{name}_{letter}{i}", table, name)
    dense = c_source.FLOATS
    if layers[0].scale is not None:
        dense = c_source.BYTES.format(width=max(len(layer.biases) for layer in layers), smallest=str(SMALLEST))
    functions = [c_source.FINITE, dense, c_source.LOGISTIC if logistic else ""]
    functions += [c_source.ACTIVATIONS[kind] for kind in used if kind != "identity"]
    yield c_source.named("".join([*functions, _logits(layers), definitions]), name)
    if net.classes is not None:
        names = ",\n".join(f"    {_string(str(label))}" for label in net.classes.tolist())
        yield f"\nconst char *const {name}_classes[{name.upper()}_OUTPUTS] = {{\n{names}\n}};\n"
    yield "\n#endif\n"


def _comment(net: Network, layers: list[Layer], file: str, name: str, report: str) -> str:
    """Return the comment at the beginning of the file."""
    flash = sum(table.nbytes for layer in layers for table in layer.tables.values())
    widths = _buffers(layers)
    stack = 4 * (sum(widths) + _n_outputs(net))
    if layers[0].factor is not None:
        stack += 4 * net.layers[0]
    if layers[0].scale is not None:
        stack += 4 * max(len(layer.biases) for layer in layers)
    shape = "-".join(map(str, net.layers))
    kinds = ", ".join(dict.fromkeys([*net.activations, net.output]))
    lines = [
        f"{file}: a multilayer perceptron, {shape}, {kinds}; {_SIGNATURE} {fastmlp.__version__}",
        "",
        "C99 and nothing but its library. Nothing is allocated, and nothing is kept between calls: threads and",
        f"interrupts may call at the same time. Tables have {flash:,} bytes, which are constant, and buffers on the",
        f"stack {stack:,} bytes.",
        "",
        "Compile this file, and where you call it, include its declarations:",
        "",
        f"    #define {name.upper()}_DECLARATIONS",
        f'    #include "{file}"',
        "",
        "Or include it whole, in one file only.",
    ]
    if report:
        lines += ["", f"{report}."]
    if net.feature_names is not None:
        lines += ["", "Numbers of x:", *(f"    {i} {feature!a}" for i, feature in enumerate(net.feature_names))]
    text = "\n".join(lines).replace("*/", "* /").replace("/*", "/ *")  # neither ends the comment, nor begins another
    return "/*" + "\n".join(f" * {line}".rstrip() for line in text.split("\n"))[2:] + "\n */\n"


def _buffers(layers: list[Layer]) -> list[int]:
    """Return the sizes of the two buffers that hidden layers use in turn; of none or one if that is enough."""
    hidden = [len(layer.biases) for layer in layers[:-1]]
    return [max(hidden[turn::2]) for turn in range(min(2, len(hidden)))]


def _logits(layers: list[Layer]) -> str:
    """Return the function that computes the outputs z of the last layer."""
    lines = [
        "",
        "/* Returns whether all numbers are finite. */",
        "static int net_logits(const float *x, float *z)",
        "{",
        *(f"    NET_BUFFER float {letter}[{size}];" for letter, size in zip("ab", _buffers(layers), strict=False)),
    ]
    if layers[0].factor is not None:
        lines += [
            "    NET_BUFFER float scaled[NET_INPUTS];",
            "    for (size_t i = 0; i < NET_INPUTS; i++)",
            "        scaled[i] = x[i] * net_factor0[i];",
        ]
    source, names = "x" if layers[0].factor is None else "scaled", ["ab"[i % 2] for i in range(len(layers) - 1)] + ["z"]
    for i, (layer, target) in enumerate(zip(layers, names, strict=True)):
        n_in, n_out = layer.weights.shape
        scale = "" if layer.scale is None else f" net_scale{i},"
        limit = "" if layer.scale is None else f" {layer.limit}.0f,"
        call = f"net_dense({source}, {n_in}, net_w{i},{scale} net_b{i},{limit} {target}, {n_out})"
        if target == "z":
            lines.append(f"    return {call} && net_finite(z, {n_out});")
            break
        lines += [f"    if (!{call})", "        return 0;"]
        if layer.activation != "identity":
            lines.append(f"    for (size_t i = 0; i < {n_out}; i++)")
            lines.append(f"        {target}[i] = net_{layer.activation}({target}[i]);")
        source = target
    return "\n".join([*lines, "}", ""])


def _table(table: str, array: npt.NDArray[Any], name: str) -> Iterator[str]:
    """Yield the definition of a table of constants."""
    kind = "int8_t" if array.dtype == np.int8 else "float"
    shape = "x".join(map(str, array.shape))
    yield f"\nstatic const {name.upper()}_FLASH {kind} {table}[{array.size}] = {{ /* {shape} */\n"
    yield from _numbers(array.reshape(-1))
    yield "};\n"


def _numbers(array: npt.NDArray[Any]) -> Iterator[str]:
    """Yield lines of numbers; floats have as many digits as make them exact."""
    separator, end, per_line = (", ", ",\n", 24) if array.dtype == np.int8 else ("f, ", "f,\n", 8)
    for start in range(0, array.size, 1000 * per_line):
        numbers = array[start : start + 1000 * per_line].astype(str).tolist()
        for first in range(0, len(numbers), per_line):
            yield f"    {separator.join(numbers[first : first + per_line])}{end}"


def _string(text: str) -> str:
    """Return a string literal of C in UTF-8."""
    safe = "".join(chr(b) if 32 <= b < 127 and chr(b) not in '"\\?' else f"\\{b:03o}" for b in text.encode())
    return f'"{safe}"'


def _test(net: Network, rows: Floats, outputs: Floats, tolerance: float, name: str, file: str) -> Iterator[str]:
    """Yield the text of the test program, piece by piece."""
    before, after = c_source.named(c_source.TEST, name).split("{tables}")
    written = f"{_SIGNATURE} {fastmlp.__version__}"
    yield before.format(file=file, test=test_program(file), written=written, n_rows=len(rows))
    yield from _table(f"{name}_rows", rows, name)
    yield from _table(f"{name}_expected", outputs, name)
    call = f"{name}_predict_proba" if net._loss.classifies else f"{name}_predict"
    labels = c_source.named(c_source.TEST_LABELS.get(_head(net), ""), name)
    yield after.format(n_rows=len(rows), tolerance=str(np.float32(tolerance)), call=call, labels=labels)


def _encoded(pieces: Iterator[str]) -> Iterator[bytes]:
    return (piece.encode(errors="surrogateescape") for piece in pieces)
