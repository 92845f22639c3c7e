"""Older pickles look for these classes here; they are in `fastmlp.schedules`."""

from fastmlp.schedules import Adaptive, ReduceOnPlateau

__all__ = ["Adaptive", "ReduceOnPlateau"]
