"""Where the rows of `fastmlp.data.Blocks` come from: files, collections and iterables, each read block by block."""

from fastmlp.data.sources.base import Block, Source
from fastmlp.data.sources.opening import open_source

__all__ = ["Block", "Source", "open_source"]
