"""What the compiled network computes with: rows of X, buffers, threads."""
