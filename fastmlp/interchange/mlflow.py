"""Lets MLflow log our estimators as it logs scikit-learn's, with its own functions and their defaults.

`mlflow.sklearn` knows classes by name. Its default format, skops, loads only those of scikit-learn, unless others are
named as the model is logged; and `autolog` patches only those of scikit-learn.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence
from functools import wraps
from types import ModuleType
from typing import Any

from fastmlp.interchange.on_import import once_imported

__all__ = ["left_to_autolog", "register"]

_registered: set[type] = set()


def register(estimators: Sequence[type]) -> None:
    """Have `mlflow.sklearn` know these classes, now or as soon as it is imported."""
    _registered.update(estimators)

    def adapt(module: ModuleType) -> None:
        _trust(module, estimators)
        _autolog(module, estimators)

    once_imported("mlflow.sklearn", adapt)


def left_to_autolog() -> set[str]:
    """Return the names of the parameters that `autolog` records for the fit under way; none if it records nothing.

    It writes them in another thread, all or none: MLflow refuses them if the run has another value of one. So a
    callback must not write parameters of these names to the same run.
    """
    safety: Any = sys.modules.get("mlflow.utils.autologging_utils.safety")
    manager = getattr(safety, "_AutologgingSessionManager", None)
    session = getattr(manager, "active_session", lambda: None)()
    if getattr(session, "integration", None) != "sklearn":
        return set()
    return {name for estimator in _registered for name in inspect.signature(estimator).parameters}


def _trust(module: Any, estimators: Sequence[type]) -> None:
    """Have `save_model`, which `log_model` calls, name the classes of ours that skops may load.

    It writes the names to the model, so any process can load it.
    """
    save_model = module.save_model
    if "skops_trusted_types" not in inspect.signature(save_model).parameters:  # before MLflow 3.8
        return

    @wraps(save_model)
    def save(sk_model: Any, *args: Any, skops_trusted_types: Any = None, **kwargs: Any) -> Any:
        if _holds(sk_model, tuple(estimators)):
            skops_trusted_types = [*(skops_trusted_types or ()), *_untrusted(sk_model)]
        return save_model(sk_model, *args, skops_trusted_types=skops_trusted_types, **kwargs)

    module.save_model = save


def _holds(model: Any, kinds: tuple[type, ...]) -> bool:
    """Return whether a model is of these classes, or a pipeline, search or ensemble of such."""
    if isinstance(model, kinds):
        return True
    try:
        return any(isinstance(value, kinds) for value in model.get_params(deep=True).values())
    except (AttributeError, TypeError):
        return False


def _untrusted(model: Any) -> list[str]:
    """Return the names of classes of fastmlp in the model, such as that of its optimizer."""
    try:
        import skops.io

        names = skops.io.get_untrusted_types(data=skops.io.dumps(model))
    except Exception:  # MLflow says what is wrong
        return []
    return [name for name in names if name.startswith("fastmlp.")]


def _autolog(module: Any, estimators: Sequence[type]) -> None:
    """Have `autolog` patch our classes, too; if it has patched the others already, do it now."""
    patched = getattr(module, "_gen_estimators_to_patch", None)
    if patched is None:
        return

    @wraps(patched)
    def with_ours() -> list[type]:
        return [*patched(), *estimators]

    module._gen_estimators_to_patch = with_ours
    given = getattr(sys.modules.get("mlflow.utils.autologging_utils"), "AUTOLOGGING_INTEGRATIONS", {}).get("sklearn")
    if given and not given.get("disable", True):
        accepted = inspect.signature(module.autolog).parameters
        module.autolog(**{name: value for name, value in given.items() if name in accepted})
