"""Networks from ONNX models."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from fastmlp.activations import Floats
from fastmlp.interchange.layers import Layers
from fastmlp.interchange.onnx.export import FEATURES, PRODUCER
from fastmlp.interchange.onnx.files import Tensors, load
from fastmlp.interchange.onnx.operators import follow
from fastmlp.interchange.onnx.values import FINAL, HIDDEN, Both, Found, Label, Rows, Softmax, Sums, Value, recognized
from fastmlp.losses import LOSSES
from fastmlp.names import Names
from fastmlp.network import Network
from fastmlp.validation.settings import check_output

__all__ = ["read_network"]

_READ = ("layers", "activation", "dtype", "input_scale")


def read_network(cls: type[Network], source: Any, output: str | None, settings: Mapping[str, Any]) -> Network:
    """Return the network of an ONNX file or model; see `NetworkMethods.from_onnx`."""
    if output is not None:
        output = check_output(output, tuple(LOSSES))
    for name in _READ:
        if name in settings:
            raise TypeError(f"{name} is read from the file; leave it out")
    model, tensors, name = load(source)
    try:
        layers, input_scale, classes = _layers(follow(model, tensors), tensors, output)
        state = {} if classes is None else {"classes": classes}
        written = [entry.value for entry in model.metadata_props if entry.key == FEATURES]
        if written and model.producer_name == PRODUCER:
            state["feature_names"] = np.array(json.loads(written[0]))
        names = Names.from_dict(state, len(layers.weights[0]), LOSSES[layers.output](len(layers.biases[-1])))
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"{name} cannot be read as a multilayer perceptron: {error}") from error
    read = layers.settings() | {"input_scale": input_scale}
    net = cls._with_parameters(layers.weights, layers.biases, **read, **settings)
    net._names = names
    return net


def _layers(outputs: dict[str, Value], tensors: Tensors, output: str | None) -> tuple[Layers, float, Any]:
    """Return the layers that lead to these outputs, the factor of the inputs, and the names of the classes."""
    sums, found, classes = _head(outputs)
    if output not in (None, found.function) and found.function != "identity":
        raise ValueError(f"its output is {found.function!r}, not {output!r}")
    weights, biases, activations, input_scale = list[Floats](), list[Floats](), list[str](), 1.0
    final = output or found.function
    while True:
        if sums.weights is None or sums.before is None:
            raise ValueError("it has no layers")
        w, before = sums.weights, sums.before
        b = np.broadcast_to(found.shift, w.shape[1:])
        tensors.count(w.nbytes)
        if before.sums.weights is None:
            inner, (factor, offset) = None, _of_input(before)
            if factor.ndim == 0 and factor > 0 and not offset.any():
                input_scale, factor = float(factor), np.ones(())
        else:
            inner = recognized(before, HIDDEN)
            if inner is None:
                raise ValueError(f"a hidden layer has {before.described()}, which is none of {', '.join(HIDDEN)}")
            factor, offset = inner.factor, inner.offset
        new = w if (found.scale == 1).all() else w * found.scale
        if (factor != 1).any() or offset.any():
            b = b + np.broadcast_to(offset, (len(w),)) @ new
            new = np.broadcast_to(factor, (len(w),))[:, None] * new
        weights.append(new.astype(w.dtype, copy=False))
        biases.append(b)
        if inner is None:
            break
        activations.append(inner.function)
        sums, found = before.sums, inner
    dtype = np.float64 if any(w.dtype == np.float64 for w in weights) else np.float32
    arrays = [[array.astype(dtype, copy=False) for array in reversed(some)] for some in (weights, biases)]
    if not all(np.isfinite(array).all() for some in arrays for array in some):
        raise ValueError("its weights and biases are not all finite numbers")
    return Layers(arrays[0], arrays[1], activations[::-1], final), input_scale, classes


def _of_input(before: Rows) -> tuple[Floats, Floats]:
    """Return factor and offset of the inputs before the first layer."""
    if (before.root or before).function is not None:
        raise ValueError(f"it computes {before.described()} of its inputs, before the first layer")
    return before.scale, before.shift


def _head(outputs: dict[str, Value]) -> tuple[Sums, Found, Any]:
    """Return the sums of the last layer, what the outputs are of them, and the names of the classes."""
    meanings, classes = {}, None
    for name, value in outputs.items():
        if isinstance(value, np.ndarray):
            raise ValueError(f"its output {name!r} is constant")
        meanings[name] = _meaning(name, value)
        if isinstance(value, Label) and value.classes is not None:
            classes = value.classes.astype(str if value.classes.dtype.kind == "O" else np.int64)
    if not meanings:
        raise ValueError("it has no outputs")
    (sums, first), *others = meanings.values()
    for other, found in others:
        same = np.array_equal(first.scale, found.scale) and np.array_equal(first.shift, found.shift)
        if other is not sums or not same:
            raise ValueError(f"its outputs {', '.join(meanings)} come from different layers")
    functions = {found.function for _, found in meanings.values()}
    final = (functions - {"identity"}) or functions
    if len(final) > 1:
        raise ValueError(f"its outputs {', '.join(meanings)} are of different kinds: {', '.join(sorted(final))}")
    if classes is not None and np.array_equal(classes, np.arange(len(classes))):
        classes = None
    return sums, first._replace(function=final.pop()), classes


def _meaning(name: str, value: Rows | Softmax | Both | Label) -> tuple[Sums, Found]:
    """Return the last sums and what an output is of them."""
    source = value.of if isinstance(value, Label) else value
    rows = source if isinstance(source, Rows) else source.rows
    found = recognized(rows, FINAL)
    one = rows.shape in ((), (1,))
    if isinstance(source, Softmax) or (isinstance(value, Label) and source is rows and not one):
        if found is None or found.function != "identity":
            raise ValueError(f"its output {name!r} is not over the sums of the last layer, but {rows.described()}")
        return rows.sums, found._replace(function="softmax")
    if found is None or found.factor != 1 or found.offset != 0:
        raise ValueError(f"its output {name!r} is {rows.described()}, but a network ends in one of {', '.join(LOSSES)}")
    return rows.sums, found._replace(function="logistic" if found.function == "positive" else found.function)
