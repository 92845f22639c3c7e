"""Conversion of optimizers and their state to PyTorch, and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any, NamedTuple

import numpy as np

from fastmlp.activations import Floats
from fastmlp.model import Model
from fastmlp.optimizers import SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop
from fastmlp.training import TrainingState

__all__ = ["OptimizerState", "from_optimizer", "to_optimizer", "training_state"]

_KINDS: tuple[type[Optimizer], ...] = (SGD, Adam, AdamW, RMSprop, Adagrad)  # of the same names in torch.optim
_UNLIKE = ("amsgrad", "dampening", "maximize")
"""Settings of PyTorch that must be off."""


def _slots(optimizer: Optimizer) -> list[str]:
    """Return what PyTorch calls the state arrays of an optimizer, in the order of `Optimizer.slots`."""
    if isinstance(optimizer, Adam):
        return ["exp_avg", "exp_avg_sq"]
    if isinstance(optimizer, Adagrad):
        return ["sum"]
    velocity = ["momentum_buffer"] * bool(getattr(optimizer, "momentum", 0))
    if isinstance(optimizer, RMSprop):
        return ["square_avg", *["grad_avg"] * optimizer.centered, *velocity]
    return velocity


# --- to PyTorch -------------------------------------------------------------------------------------------------------


def to_optimizer(torch: Any, net: Model, module: Any) -> Any:
    """Return the optimizer of a module with the parameters of the network, with its state.

    The network's l2 becomes a weight decay of the weights.

    Raises
    ------
    ValueError
        If the network has not been trained, or PyTorch has no such optimizer.
    """
    state = net._training_state
    if state is None:
        raise ValueError(
            "training=True needs an earlier fit, but this network has not been trained, or came without its training "
            "state, as from net.save(path) or est.network_"
        )
    optimizer = state.optimizer
    if type(optimizer) not in _KINDS:
        raise ValueError(f"PyTorch has no optimizer {type(optimizer).__name__}; leave out training=True")
    settings = asdict(optimizer)
    if settings.pop("eps_hat", False):
        raise ValueError("PyTorch's Adam has no eps_hat; leave out training=True")
    settings["lr"] = settings.pop("learning_rate") * state.learning_rate_factor
    if net.l2 and isinstance(optimizer, AdamW):
        raise ValueError("PyTorch has no l2 penalty beside the weight decay of AdamW; leave out training=True")
    linear = [layer for layer in module if hasattr(layer, "weight")]
    weights, biases = [layer.weight for layer in linear], [layer.bias for layer in linear]
    groups = module.parameters()
    if net.l2:
        decay = settings["weight_decay"]
        groups = [{"params": weights, "weight_decay": decay + net.l2}, {"params": biases, "weight_decay": decay}]
    made = getattr(torch.optim, type(optimizer).__name__)(groups, **settings)
    names = _slots(optimizer)
    for parameter, slots in zip([*weights, *biases], state.optimizer_state, strict=True):
        entry = made.state[parameter]
        if not isinstance(optimizer, SGD):
            entry["step"] = torch.tensor(float(state.steps))
        for name, slot in zip(names, slots, strict=True):
            entry[name] = torch.from_numpy(slot.T.copy())
    return made


# --- from PyTorch -----------------------------------------------------------------------------------------------------


class OptimizerState(NamedTuple):
    """Settings and state of an optimizer of PyTorch, in the terms of fastmlp."""

    optimizer: Optimizer
    l2: float
    """By how much the weight decay of weights is above that of biases."""
    slots: list[list[Floats] | None]
    """State arrays of each parameter, weights first, then biases; None before its first step."""
    steps: int


def from_optimizer(torch: Any, optimizer: Any, parameters: Sequence[tuple[Any, Any]]) -> OptimizerState:
    """Return settings and state of an optimizer.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
    parameters : sequence of pairs
        Weight and bias of each layer, tensors; the bias may be None.

    Raises
    ------
    TypeError, ValueError
        If fastmlp has no such optimizer, or it does not train all of the parameters alike.
    """
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise TypeError(
            f"optimizer must be a torch.optim.Optimizer of the module's parameters, not {type(optimizer).__name__}"
        )
    kinds = {getattr(torch.optim, kind.__name__): kind for kind in _KINDS}
    kind = kinds.get(type(optimizer))
    if kind is None:
        known = ", ".join(kind.__name__ for kind in _KINDS)
        raise ValueError(f"fastmlp has no optimizer {type(optimizer).__name__}; it has {known}")
    tensors = [weight for weight, _ in parameters] + [bias for _, bias in parameters]
    if any(tensor is None for tensor in tensors):
        raise ValueError("a layer has no bias, which fastmlp would train; leave out the optimizer")
    if len({id(tensor) for tensor in tensors}) < len(tensors):
        raise ValueError("layers share parameters, which fastmlp would train apart; leave out the optimizer")
    group_of = {id(tensor): group for group in optimizer.param_groups for tensor in group["params"]}
    if any(id(tensor) not in group_of for tensor in tensors):
        raise ValueError("the optimizer does not train all parameters of the module")
    groups = [group_of[id(tensor)] for tensor in tensors]
    if kind is Adam and groups[0].get("decoupled_weight_decay"):
        kind = AdamW
    settings, l2 = _settings(kind, groups)
    ours = kind(**settings)
    names, slots, steps = _slots(ours), list[list[Floats] | None](), set[int]()
    for tensor in tensors:
        entry = optimizer.state.get(tensor, {})
        steps.add(int(entry.get("step", 0)))
        found = [entry.get(name) for name in names]
        slots.append(None if any(array is None for array in found) else [_state(a, tensor) for a in found])
        if ours.squares is not None and slots[-1] and (slots[-1][ours.squares] < 0).any():
            raise ValueError("the state of the optimizer has negative means of squares")
    if len(steps) > 1:
        raise ValueError(
            f"the optimizer has taken {min(steps)} steps with some parameters and {max(steps)} with others"
        )
    return OptimizerState(ours, l2, slots, steps.pop())


def _settings(kind: type[Optimizer], groups: Sequence[Any]) -> tuple[dict[str, Any], float]:
    """Return the arguments of our optimizer, and the l2 penalty, from the group of each weight, then of each bias."""
    for name in _UNLIKE:
        if groups[0].get(name):
            raise ValueError(f"{kind.__name__} in fastmlp has no {name}={groups[0][name]!r}")
    names = {field.name: field.name for field in fields(kind) if field.name != "eps_hat"} | {"learning_rate": "lr"}
    settings: dict[str, Any] = {}
    for ours, theirs in names.items():
        values = [_plain(group[theirs]) for group in groups]
        if ours == "weight_decay":
            n_layers = len(values) // 2
            values, of_biases = values[:n_layers], values[n_layers:]
            l2, differ = values[0] - of_biases[0], len(set(values)) > 1 or len(set(of_biases)) > 1
            if differ or l2 < 0 or (l2 and kind is AdamW):
                raise ValueError(
                    f"fastmlp cannot have these weight decays: {values} of weights and {of_biases} of biases"
                )
            settings[ours] = of_biases[0]
        elif any(value != values[0] for value in values):
            raise ValueError(f"fastmlp has one {ours} for all layers, but the groups of the optimizer have {values}")
        else:
            settings[ours] = values[0]
    return settings, l2


def _plain(value: Any) -> Any:
    """Return a setting, which may be a tensor."""
    if isinstance(value, (tuple, list)):
        return tuple(_plain(each) for each in value)
    return value.item() if hasattr(value, "item") else value


def _state(array: Any, tensor: Any) -> Floats:
    """Return a state array of a parameter in the shape that it has here."""
    if array.shape != tensor.shape:
        raise ValueError(f"the optimizer has state of shape {tuple(array.shape)} for {tuple(tensor.shape)} parameters")
    array = array.detach().cpu()
    numbers: Floats = (array.float() if array.itemsize < 4 else array).numpy().T
    if not np.isfinite(numbers).all():
        raise ValueError("the state of the optimizer is not finite")
    return numbers


def training_state(net: Model, given: OptimizerState) -> TrainingState:
    """Return the state from which the network continues."""
    state = TrainingState.new(given.optimizer, net._engine)
    for own, slots in zip(state.optimizer_state, given.slots, strict=True):
        for slot, values in zip(own, slots or own, strict=True):
            slot[...] = values
    state.steps = given.steps
    return state
