"""The names that options may have, for type checkers. `tests/test_package.py` compares them with the tables."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import numpy as np

__all__ = ["Activation", "Dtype", "FirstLayer", "Init", "Mode", "OptimizerName", "Output", "ScheduleName"]

Activation: TypeAlias = Literal["relu", "leaky_relu", "elu", "gelu", "silu", "tanh", "logistic", "identity"]
Output: TypeAlias = Literal["softmax", "logistic", "identity", "exp"]
Init: TypeAlias = Literal["he", "xavier", "normal"]
FirstLayer: TypeAlias = Literal["auto", "dense", "sparse"]
Dtype: TypeAlias = Literal["float32", "float64"] | np.dtype[Any] | type[np.float32] | type[np.float64] | type[float]
OptimizerName: TypeAlias = Literal["sgd", "momentum", "nesterov", "adam", "adamw", "rmsprop", "adagrad"]
ScheduleName: TypeAlias = Literal[
    "constant", "cosine", "one_cycle", "warmup", "inverse_scaling", "adaptive", "reduce_on_plateau"
]
Mode: TypeAlias = Literal["auto", "min", "max"]
