"""Tells skl2onnx about the estimators, so that it converts them, alone and inside pipelines.

skl2onnx looks converters up by class and has no plug-ins. It is not imported here, because it takes half a second: if a
program imports it, before or after the estimators, the converters are registered then.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastmlp.interchange.on_import import once_imported
from fastmlp.interchange.onnx.nodes import Nodes, add_network

__all__ = ["register"]


def register(classifier: type, regressor: type) -> None:
    """Have skl2onnx convert these classes, now or as soon as it is imported."""

    def tell(skl2onnx: Any) -> None:
        options = {"zipmap": [True, False, "columns"], "output_class_labels": [False, True], "nocl": [True, False]}
        for kind, more in ((classifier, {"options": options}), (regressor, {})):
            skl2onnx.update_registered_converter(kind, f"Fastmlp{kind.__name__}", _set_types, _convert, **more)

    once_imported("skl2onnx", tell)


class _Container(Nodes):
    """Nodes of a model that skl2onnx is making."""

    def __init__(self, scope: Any, container: Any, dtype: str) -> None:
        super().__init__(dtype)
        self._scope, self._container = scope, container

    def constant(self, name: str, array: npt.NDArray[Any]) -> str:
        import onnx

        name = self._scope.get_unique_variable_name(name)
        is_text = array.dtype.kind == "O"
        kind = onnx.TensorProto.STRING if is_text else onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
        content = [label.encode() for label in array] if is_text else array.ravel()
        self._container.add_initializer(name, kind, array.shape, content)
        return name

    def add(self, kind: str, inputs: list[str], name: str, **attributes: Any) -> str:
        return self.add_named(kind, inputs, self._scope.get_unique_variable_name(name), **attributes)

    def add_named(self, kind: str, inputs: list[str], name: str, **attributes: Any) -> str:
        self._container.add_node(kind, inputs, [name], name=self._scope.get_unique_operator_name(kind), **attributes)
        return name


def _head_of(operator: Any) -> tuple[Any, Any]:
    """Return the network of an estimator, and what follows it; with skl2onnx's option nocl, classes have no names."""
    from fastmlp.interchange.onnx.export import estimator_head

    estimator = operator.raw_operator
    net = estimator._network()
    head = estimator_head(estimator, net)
    options = operator.scope_inst.get_options(estimator, {"nocl": False}) if head.labels else {}
    return net, head._replace(classes=None) if options.get("nocl") else head


def _set_types(operator: Any) -> None:
    """Set types and shapes of the outputs of an estimator."""
    from skl2onnx.common.data_types import Int64TensorType, StringTensorType
    from skl2onnx.common.utils import check_input_and_output_numbers

    net, head = _head_of(operator)
    check_input_and_output_numbers(operator, input_count_range=1, output_count_range=2 if head.labels else 1)
    n, n_outputs = operator.inputs[0].get_first_dimension(), net.layers[-1]
    if head.labels:
        text = head.classes is not None and head.classes.dtype.kind == "O"
        kind = StringTensorType if text else Int64TensorType
        operator.outputs[0].type = kind([n] if head.single or n_outputs == 1 else [n, n_outputs])
    operator.outputs[-1].type.shape = [n, max(n_outputs, 2) if head.labels else n_outputs]


def _convert(scope: Any, operator: Any, container: Any) -> None:
    """Add the nodes of an estimator. As for scikit-learn's, float64 needs inputs of float64; here also such weights."""
    import onnx
    from skl2onnx.common.data_types import DoubleTensorType

    net, head = _head_of(operator)
    is_double = isinstance(operator.inputs[0].type, DoubleTensorType)
    nodes = _Container(scope, container, "float64" if is_double and net.dtype == "float64" else "float32")
    kinds = {"float32": onnx.TensorProto.FLOAT, "float64": onnx.TensorProto.DOUBLE}
    x = nodes.add("Cast", [operator.inputs[0].full_name], "cast", to=kinds[nodes.dtype])
    *label, numbers = add_network(nodes, x, net, head)
    if label:
        nodes.add_named("Identity", label, operator.outputs[0].full_name)
    else:  # skl2onnx's regressors return columns
        columns = nodes.constant("shape", np.array([-1, net.layers[-1]]))
        numbers = nodes.add("Reshape", [numbers, columns], "columns")
    wanted = "float64" if isinstance(operator.outputs[-1].type, DoubleTensorType) else "float32"
    nodes.add_named("Cast", [numbers], operator.outputs[-1].full_name, to=kinds[wanted])
