"""Tells another package about the estimators once it is imported, without importing it."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

from fastmlp.validation.calls import warn

__all__ = ["once_imported"]


def once_imported(name: str, act: Callable[[ModuleType], None]) -> None:
    """Call `act` with the module `name`: now, or as soon as it is imported. Errors become warnings."""

    def guarded(module: ModuleType) -> None:
        try:
            act(module)
        except Exception as error:  # of a version to come; neither package must fail to be imported
            package = name.partition(".")[0]
            warn(f"{package} will not know the estimators of fastmlp: {type(error).__name__}: {error}")

    if name in sys.modules:
        guarded(sys.modules[name])
    else:
        sys.meta_path.insert(0, _Finder(name, guarded))


class _Finder(MetaPathFinder):
    """Finds one module as Python would, and has `act` called after it is imported."""

    def __init__(self, name: str, act: Callable[[ModuleType], None]) -> None:
        self.name, self.act = name, act

    def find_spec(self, name: str, path: object = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Return where the module is; any other is left to the other finders."""
        if name != self.name or self not in sys.meta_path:
            return None
        sys.meta_path.remove(self)
        try:
            spec = importlib.util.find_spec(name)
        finally:
            sys.meta_path.insert(0, self)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def execute_and_act(module: ModuleType) -> None:
            execute(module)
            if self in sys.meta_path:
                sys.meta_path.remove(self)
                self.act(module)

        spec.loader.exec_module = execute_and_act  # type: ignore[method-assign]
        return spec
