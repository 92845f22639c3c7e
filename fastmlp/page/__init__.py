"""`report`, which writes one HTML page about a network; ``web/`` has what the page is made of."""

from fastmlp.page.report import report

__all__ = ["report"]
