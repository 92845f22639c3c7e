"""Data that need not fit in memory: `Blocks`. The MNIST data set is in this folder too."""

from fastmlp.data.blocks import Blocks

__all__ = ["Blocks"]
