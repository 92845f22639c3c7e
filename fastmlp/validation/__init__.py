"""Checks of everything that a user passes in."""
