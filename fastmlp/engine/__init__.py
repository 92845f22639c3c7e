"""The engine of the compiled network: rows of X, buffers and threads."""
