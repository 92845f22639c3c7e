"""Older pickles look for `Course` here; it is in `fastmlp.schedules`."""

from fastmlp.schedules import Course

__all__ = ["Course"]
