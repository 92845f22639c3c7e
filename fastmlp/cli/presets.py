"""The presets of `fastmlp train --preset`, which are `fastmlp.presets`."""

from fastmlp.presets import PRESETS, Preset

__all__ = ["PRESETS", "Preset"]
