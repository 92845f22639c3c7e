"""Where the rows of `fastmlp.data.Blocks` come from: files, collections and iterables, each read block by block."""
