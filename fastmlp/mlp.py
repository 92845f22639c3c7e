"""`MLP`: the network that is computed by compiled kernels."""

from __future__ import annotations

from fastmlp.engine.compiled import CompiledEngine
from fastmlp.network import Network
from fastmlp.validation.calls import advised_constructor

__all__ = ["MLP"]


@advised_constructor
class MLP(Network):  # noqa: D101
    __doc__ = Network.__doc__
    _engine_class = CompiledEngine
