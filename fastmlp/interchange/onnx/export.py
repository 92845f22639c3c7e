"""Networks and estimators as ONNX models."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

import fastmlp
from fastmlp import checkpoint, storage
from fastmlp.interchange.onnx.nodes import OPSET, Head, Nodes, add_network
from fastmlp.network import Network
from fastmlp.validation.settings import check_path

__all__ = [
    "CHECKSUM",
    "FEATURES",
    "PRODUCER",
    "checksum",
    "estimator_head",
    "estimator_to_onnx",
    "import_onnx",
    "network_to_onnx",
]

CHECKSUM, FEATURES = "fastmlp_sha256", "feature_names"
"""Keys of the metadata."""

PRODUCER = "fastmlp"

_IR_VERSION = 7  # that of onnx 1.8, the first with this opset
_LARGEST = 2**31 - 2**20  # bytes; a message of Protocol Buffers holds less than 2 GiB


def import_onnx(what: str) -> Any:
    """Return the package onnx."""
    try:
        import onnx
    except ImportError as error:
        raise ImportError(f"{what} needs onnx: pip install 'fastmlp[onnx]'") from error
    return onnx


def network_to_onnx(net: Network, path: str | os.PathLike[str] | None) -> Any:
    """Return a network as a ModelProto; see `NetworkMethods.to_onnx`."""
    head = Head(net.output, net._loss.classifies, bool(net._loss.n_classes), _labels(net.classes))
    return _model(net, head, net.feature_names, path)


def estimator_to_onnx(estimator: Any, path: str | os.PathLike[str] | None) -> Any:
    """Return a fitted estimator as a ModelProto; see `EstimatorMethods.to_onnx`."""
    from sklearn.utils.validation import check_is_fitted

    check_is_fitted(estimator)
    net = estimator._network()
    return _model(net, estimator_head(estimator, net), getattr(estimator, "feature_names_in_", None), path)


def estimator_head(estimator: Any, net: Network) -> Head:
    """Return what an estimator makes of the sums of its network."""
    if not hasattr(estimator, "classes_"):
        return Head(estimator.out_activation_, labels=False, single=False)
    single = not estimator._label_binarizer.y_type_.startswith("multilabel")
    n_classes = max(net.layers[-1], 2)
    classes = estimator.classes_.take(np.arange(n_classes), mode="clip") if single else None
    return Head(estimator.out_activation_, True, single, _labels(classes))


def _labels(classes: npt.NDArray[Any] | None) -> npt.NDArray[Any] | None:
    """Return the names of classes as int64 or strings, or None if they are 0, 1, 2, ..."""
    if classes is None or np.array_equal(classes, np.arange(len(classes))):
        return None
    if classes.dtype.kind in "fiub" and np.array_equal(classes.astype(np.int64), classes):
        return classes.astype(np.int64)
    other = [label for label in classes.tolist() if not isinstance(label, str)]
    if other:
        raise TypeError(f"the class {other[0]!r} is neither an integer nor a string, as labels in ONNX are")
    return classes.astype(object)


class _Graph(Nodes):
    """Nodes of a new model."""

    def __init__(self, onnx: Any, dtype: str) -> None:
        super().__init__(dtype)
        self._onnx, self.nodes, self.constants = onnx, [], []  # type: ignore[var-annotated]
        self._used: dict[str, int] = {}

    def constant(self, name: str, array: npt.NDArray[Any]) -> str:
        name = self._unique(name)
        self.constants.append(self._onnx.numpy_helper.from_array(array, name))
        return name

    def add(self, kind: str, inputs: list[str], name: str, **attributes: Any) -> str:
        name = self._unique(name)
        self.nodes.append(self._onnx.helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def _unique(self, name: str) -> str:
        self._used[name] = self._used.get(name, -1) + 1
        return f"{name}.{self._used[name]}" if self._used[name] else name

    def rename(self, given: str, name: str) -> None:
        """Give a value the name of an output."""
        for node in self.nodes:
            node.input[:] = [name if value == given else value for value in node.input]
            node.output[:] = [name if value == given else value for value in node.output]


def _model(net: Network, head: Head, feature_names: Sequence[str] | None, path: str | os.PathLike[str] | None) -> Any:
    onnx = import_onnx("to_onnx")
    if path is not None:
        check_path(path)
    n_bytes = net.n_parameters * np.dtype(net.dtype).itemsize
    if n_bytes > _LARGEST:
        raise ValueError(f"an ONNX file holds less than 2 GiB, but the network has {n_bytes / 2**30:.1f} GiB")
    checkpoint.check_savable(net._parameters_dict())
    graph, make = _Graph(onnx, net.dtype), onnx.helper
    names = ["label", "probabilities"] if head.labels else ["variable"]
    for given, name in zip(add_network(graph, "X", net, head), names, strict=True):
        graph.rename(given, name)
    n_outputs = net.layers[-1]
    number = onnx.TensorProto.FLOAT if net.dtype == "float32" else onnx.TensorProto.DOUBLE
    label = (
        onnx.TensorProto.INT64 if head.classes is None or head.classes.dtype.kind == "i" else onnx.TensorProto.STRING
    )
    one_column = ["n"] if head.single or n_outputs == 1 else ["n", n_outputs]
    shapes = [one_column, ["n", max(n_outputs, 2)]] if head.labels else [one_column]
    types = [label, number] if head.labels else [number]
    model = make.make_model(
        make.make_graph(
            graph.nodes,
            "fastmlp",
            [make.make_tensor_value_info("X", number, ["n", net.layers[0]])],
            list(map(make.make_tensor_value_info, names, types, shapes)),
            graph.constants,
        ),
        opset_imports=[make.make_opsetid("", OPSET)],
        ir_version=_IR_VERSION,
        producer_name=PRODUCER,
        producer_version=fastmlp.__version__,
    )
    metadata = {} if feature_names is None else {FEATURES: json.dumps(list(map(str, feature_names)))}
    make.set_model_props(model, metadata)
    make.set_model_props(model, metadata | {CHECKSUM: checksum(model, onnx.numpy_helper.to_array)})
    if path is not None:
        content = model.SerializeToString()
        with storage.written_whole(path) as file:
            file.write(content)
    return model


def checksum(model: Any, array: Callable[[Any], npt.NDArray[Any]]) -> str:
    """Return the SHA-256 of all that `MLP.from_onnx` reads of a model that `to_onnx` has made.

    It stays the same where `onnx.save` moves weights to a second file, and `onnx.shape_inference` adds shapes. `array`
    reads a tensor.
    """
    digest, graph, onnx = hashlib.sha256(), model.graph, import_onnx("from_onnx")
    tensors = (onnx.numpy_helper.from_array(array(tensor), tensor.name) for tensor in graph.initializer)
    for part in (*model.opset_import, *graph.node, *graph.input, *graph.output, *tensors):
        digest.update(part.SerializeToString(deterministic=True))
    digest.update("".join(entry.value for entry in model.metadata_props if entry.key == FEATURES).encode())
    return digest.hexdigest()
