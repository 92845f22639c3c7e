"""Checks of arguments, before anything changes: settings, X, y and weights of the rows."""
