"""Rows that need not fit in memory, see `Blocks`. The MNIST data set lies in this folder, too."""

from fastmlp.data.blocks import Blocks

__all__ = ["Blocks"]
