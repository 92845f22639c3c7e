"""Conversion of networks to PyTorch modules, and back."""

from __future__ import annotations

import io
import operator
import re
from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from fastmlp.activations import ACTIVATIONS, per_layer
from fastmlp.interchange.chain import Chain
from fastmlp.interchange.torch_training import from_optimizer, to_optimizer, training_state
from fastmlp.model import Model
from fastmlp.storage import written_whole
from fastmlp.validation.calls import warn
from fastmlp.validation.settings import check_activation, check_bool

__all__ = ["Training", "from_torch", "save_state_dict", "to_torch"]

_Net = TypeVar("_Net", bound=Model)


class Training(NamedTuple):
    """What PyTorch needs to continue training."""

    module: Any
    """An nn.Sequential."""
    optimizer: Any
    """A torch.optim.Optimizer of its parameters, with state."""
    loss: Any
    """The module of the network's loss, a function of outputs and targets."""


def _torch() -> Any:
    try:
        import torch
    except ImportError as error:
        raise ImportError("PyTorch modules need torch: pip install torch") from error
    return torch


# --- to PyTorch -------------------------------------------------------------------------------------------------------


def to_torch(net: Model, *, probabilities: bool, scaled_inputs: bool, training: bool) -> Any:
    """Return an nn.Sequential; see `MLP.to_torch`."""
    probabilities, training = check_bool("probabilities", probabilities), check_bool("training", training)
    scale = 1.0 if check_bool("scaled_inputs", scaled_inputs) else net.input_scale
    if training and probabilities:
        raise ValueError("losses of PyTorch take outputs, not probabilities; leave out probabilities=True to train")
    if training and scale != 1:
        raise ValueError(
            f"the state of the optimizer is that of weights for X * input_scale; pass scaled_inputs=True, and multiply "
            f"X by {scale!r} before the module gets it"
        )
    if probabilities and net.output not in ("softmax", "logistic"):
        raise TypeError(f"a network with output={net.output!r} has no probabilities; leave out probabilities=True")
    torch = _torch()
    modules = []
    activations = [_activation(torch, name) for name in net.activations]
    if net.output == "softmax" and probabilities:
        activations.append(torch.nn.Softmax(dim=1))
    elif probabilities:
        activations.append(torch.nn.Sigmoid())
    for i, (w, b, rate) in enumerate(zip(net.weights, net.biases, net.dropout_rates, strict=True)):
        if rate:
            modules.append(torch.nn.Dropout(rate))
        modules += [_linear(torch, w * w.dtype.type(scale) if i == 0 and scale != 1 else w, b), *activations[i : i + 1]]
    module = torch.nn.Sequential(*modules)
    if not training:
        return module.eval()
    if net.input_noise:
        warn(f"PyTorch has no module for input_noise; add noise with a standard deviation of {net.input_noise} to X")
    return Training(module, to_optimizer(torch, net, module), _loss(torch, net))


def save_state_dict(net: Any, path: str) -> None:
    """Write the state_dict of ``net.to_torch()``, a file that ``torch.load(path, weights_only=True)`` reads."""
    content = io.BytesIO()  # torch.save hides the errors of a file
    _torch().save(net.to_torch().state_dict(), content)
    with written_whole(path) as file:
        file.write(content.getbuffer())


def _linear(torch: Any, weights: npt.NDArray[Any], biases: npt.NDArray[Any]) -> Any:
    linear = torch.nn.Linear(*weights.shape, device="meta")  # draws no first weights, which is slow
    linear.weight = torch.nn.Parameter(torch.from_numpy(weights.T.copy()))
    linear.bias = torch.nn.Parameter(torch.from_numpy(biases.copy()))
    return linear


def _activation(torch: Any, name: str) -> Any:
    if name == "gelu":
        return torch.nn.GELU(approximate="tanh")
    kinds = {
        "relu": "ReLU", "leaky_relu": "LeakyReLU", "elu": "ELU", "silu": "SiLU", "tanh": "Tanh", "logistic": "Sigmoid",
        "identity": "Identity",
    }  # fmt: skip
    return getattr(torch.nn, kinds[name])()


def _loss(torch: Any, net: Model) -> Any:
    if net.output == "softmax":
        return torch.nn.CrossEntropyLoss(label_smoothing=net.label_smoothing)
    kinds = {"logistic": "BCEWithLogitsLoss", "identity": "MSELoss", "exp": "PoissonNLLLoss"}
    return getattr(torch.nn, kinds[net.output])()


# --- from PyTorch -----------------------------------------------------------------------------------------------------


def from_torch(
    cls: type[_Net],
    module: Any,
    activation: str | Sequence[str] | None,
    output: str | None,
    optimizer: Any,
    settings: dict[str, Any],
) -> _Net:
    """Return a network with the parameters of a module or a state_dict; see `MLP.from_torch`."""
    for name in {"layers", "dtype"} & settings.keys():
        raise TypeError(f"{name} cannot be given: it is that of the module")
    if any(kind.__module__.partition(".")[0] == "keras" for kind in type(module).__mro__):
        raise TypeError("module is a Keras model; use MLP.from_keras")
    only_state = isinstance(module, Mapping)
    if only_state and optimizer is not None:
        raise TypeError("the state of an optimizer needs the module that it trains, not only its state_dict")
    if not only_state and (isinstance(module, type) or not callable(getattr(module, "named_parameters", None))):
        is_path = isinstance(module, (str, bytes, PathLike))
        hint = "; read a file first: torch.load(path, weights_only=True)" if is_path else ""
        raise TypeError(f"module must be a torch.nn.Module or its state_dict(), not {type(module).__name__}{hint}")
    chain, parameters = Chain(), list[Any]()
    try:
        if only_state:
            _read_state_dict(chain, module, activation)
        else:
            _read_module(_torch(), chain, module, parameters)
        layers, found = chain.network(activation, output, "softmax")
    except ValueError as error:
        what = "state_dict" if only_state else f"module {type(module).__name__}"
        raise ValueError(f"from_torch cannot read the {what}: {error}") from None
    given = found | settings
    if optimizer is None:
        return cls._with_parameters(layers.weights, layers.biases, **given)
    state = from_optimizer(_torch(), optimizer, parameters)
    if state.l2:
        if settings.get("l2"):
            raise ValueError("l2 is given twice: the optimizer has more weight_decay for weights than for biases")
        given["l2"] = state.l2
    net = cls._with_parameters(layers.weights, layers.biases, **given)
    net._adopt(net.history, training_state(net, state), net._names)
    return net


def _array(tensor: Any, where: str) -> npt.NDArray[Any]:
    """Return the numbers of a tensor; float16 and bfloat16 become float32, which has all of their numbers."""
    if isinstance(tensor, np.ndarray):
        return tensor
    if not callable(getattr(tensor, "detach", None)):
        raise ValueError(f"{where} is a {type(tensor).__name__}, not a tensor")
    if type(tensor).__name__.startswith("Uninitialized"):
        raise ValueError(f"{where} has no numbers yet; call the module once")
    if tensor.is_meta:
        raise ValueError(f"{where} is on the device meta and has no numbers")
    if tensor.is_sparse or tensor.is_quantized:
        raise ValueError(f"{where} is {'sparse' if tensor.is_sparse else 'quantized'}")
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():  # a small file can claim terabytes
        raise ValueError(f"{where} is an expanded tensor, which repeats its numbers; pass its contiguous()")
    tensor = tensor.detach().cpu()
    if tensor.is_floating_point() and tensor.itemsize < 4:
        tensor = tensor.float()
    array: npt.NDArray[Any] = tensor.numpy()
    return array


def _read_state_dict(chain: Chain, state_dict: Mapping[Any, Any], activation: str | Sequence[str] | None) -> None:
    """Read weights and biases by their names and their order."""
    layers: dict[str, dict[str, npt.NDArray[Any]]] = {}
    for name, value in state_dict.items():
        prefix, _, kind = str(name).rpartition(".")
        if isinstance(value, Mapping):
            raise ValueError(f"its {name!r} is a {type(value).__name__}; if that is the state_dict, pass it alone")
        if kind not in ("weight", "bias"):
            raise ValueError(f"it has {name!r}, but only weights and biases of Linear layers can be read")
        layers.setdefault(prefix, {})[kind] = _array(value, repr(name))
    for prefix in _ordered(list(layers)):
        where = f"the layer {prefix!r}" if prefix else "its layer"
        if "weight" not in layers[prefix]:
            raise ValueError(f"{where} has a bias, but no weight")
        if layers[prefix]["weight"].ndim != 2:
            shape = layers[prefix]["weight"].shape
            raise ValueError(f"{where} has a weight of shape {shape}, but that of a Linear layer has two dimensions")
        chain.dense(layers[prefix]["weight"].T, layers[prefix].get("bias"), where)
    n_hidden = max(len(layers) - 1, 0)
    if activation is None and n_hidden:
        raise ValueError("it does not say what its activations are; pass activation='relu', or what they are")
    if activation is not None:
        chain.functions[:-1] = per_layer(check_activation(activation, n_hidden, tuple(ACTIVATIONS)), n_hidden)


def _ordered(prefixes: list[str]) -> list[str]:
    """Return the layers in their order: by number, if they are those of an nn.Sequential, for files may sort by name.

    Other names keep their order.
    """
    numbered = [re.fullmatch(r"(.*?)(\d+)", prefix) for prefix in prefixes]
    if all(numbered) and len({match[1] for match in numbered if match}) == 1:
        return sorted(prefixes, key=lambda prefix: int(re.findall(r"\d+", prefix)[-1]))
    return prefixes


_SIZES = ("dim", "getattr", "getitem", "numel", "size")
_SHAPES = ("contiguous", "double", "flatten", "float", "reshape", "squeeze", "to", "view")
"""Methods and functions that change no number."""
_MIX_ROWS = ("flatten", "reshape", "squeeze", "view")  # if they are called between layers


def _read_module(torch: Any, chain: Chain, module: Any, parameters: list[Any]) -> None:
    """Trace the module, and read what it computes step by step.

    `parameters` gets the weight and the bias, or None, of each layer.
    """
    while type(module).__name__ in ("OptimizedModule", "DataParallel", "DistributedDataParallel"):
        module = getattr(module, "_orig_mod", None) or module.module
    if isinstance(module, torch.jit.ScriptModule):
        raise ValueError("scripted modules cannot be traced; pass its state_dict() and name the activations")
    try:
        traced = torch.fx.symbolic_trace(torch.nn.Sequential(module))
    except Exception as error:  # of any kind: it is raised by the user's code
        raise ValueError(
            f"its forward cannot be traced ({error}); pass its state_dict() and name the activations"
        ) from error
    current: Any = None
    for node in traced.graph.nodes:
        if node.op == "placeholder":
            current = node
        elif node.op != "get_attr" and _name(node) not in _SIZES:
            inputs = [n for n in node.all_input_nodes if n.op != "get_attr" and _name(n) not in _SIZES]
            if node.op == "output":
                if node.args[0] is not current:
                    raise ValueError("it returns something else than the outputs of its last layer")
            elif inputs != [current]:
                raise ValueError(f"it has {_where(node, traced)}, which does not compute from the step before alone")
            else:
                _read_step(torch, chain, traced, node, parameters)
                current = node


def _name(node: Any) -> str:
    """Return the name of the function or method that a node calls."""
    return "" if node.op == "call_module" else str(getattr(node.target, "__name__", node.target)).removesuffix("_")


def _where(node: Any, traced: Any) -> str:
    """Return how messages call a node."""
    if node.op != "call_module":
        return f"{_name(node)}()"
    path = repr(node.target.removeprefix("0.")) if node.target != "0" else "itself"
    return f"the module {path} ({type(traced.get_submodule(node.target)).__name__})"


def _read_step(torch: Any, chain: Chain, traced: Any, node: Any, parameters: list[Any]) -> None:
    """Read one node of the traced module."""
    name, where = _name(node), _where(node, traced)
    if node.op == "call_module":
        module = traced.get_submodule(node.target)
        kind = type(module)
        if (module._forward_hooks or module._forward_pre_hooks) and kind is not torch.nn.LazyLinear:
            raise ValueError(f"{where} has hooks, which may change what it computes; remove them first")
        if kind in (torch.nn.Linear, torch.nn.LazyLinear):
            _read_linear(chain, module.weight, module.bias, where, parameters)
        elif kind is torch.nn.Dropout:
            chain.dropout(module.p, where)
        elif kind is not torch.nn.Flatten:
            _read_function(chain, kind.__name__, where, vars(module))
        return
    others = node.args[1:]
    constants = [argument for argument in node.args if isinstance(argument, (int, float))]
    if name == "linear":
        weight, bias = (*others, *(node.kwargs[key] for key in ("weight", "bias") if key in node.kwargs), None)[:2]
        if any(given is not None and getattr(given, "op", "") != "get_attr" for given in (weight, bias)):
            raise ValueError(f"it has {where} with weights that are computed")
        weight, bias = (
            None if given is None else operator.attrgetter(given.target)(traced) for given in (weight, bias)
        )
        _read_linear(chain, weight, bias, where, parameters)
    elif name == "mul" and constants:
        chain.scale(float(constants[0]), where)
    elif name in ("div", "truediv") and constants == list(others) and constants[0]:
        chain.scale(1 / constants[0], where)
    elif name == "dropout":
        chain.dropout(float(node.kwargs.get("p", (*constants, 0.5)[0])), where)
    elif name not in _SHAPES:
        positional = {"softmax": "dim", "log_softmax": "dim", "celu": "alpha"}
        given = {positional[name]: constants[0]} if name in positional and constants else {}
        _read_function(chain, name, where, {**node.kwargs, **given})
    elif name in _MIX_ROWS and chain.weights and chain.weights[-1].shape[1] != 1:
        keeps_rows = name == "flatten" and (*constants, node.kwargs.get("start_dim"))[0] == 1
        if not keeps_rows:
            raise ValueError(f"it has {where} after its first layer, which may mix rows")


def _read_linear(chain: Chain, weight: Any, bias: Any, where: str, parameters: list[Any]) -> None:
    chain.dense(_array(weight, where).T, None if bias is None else _array(bias, where), where)
    parameters.append((weight, bias))


def _read_function(chain: Chain, name: str, where: str, options: Mapping[str, Any]) -> None:
    """Read an activation, as a module or as a function; `options` are its attributes or its arguments."""
    named = {"slope": "negative_slope", "alpha": "alpha", "axis": "dim"}
    given = {ours: options[theirs] for ours, theirs in named.items() if theirs in options}
    if not chain.function(name, where, approximate=options.get("approximate", "none") != "none", **given):
        raise ValueError(f"it has {where}, which fastmlp's networks do not have{_ADVICE.get(name, '')}")


_ADVICE = {
    "BatchNorm1d": "; fuse it first, see torch.nn.utils.fusion.fuse_linear_bn_eval",
    "ParametrizedLinear": "; see torch.nn.utils.parametrize.remove_parametrizations",
}
