"""Rows that need not fit in memory."""
