"""Sparse rows like those of text, which several benchmarks train on."""

import numpy as np

N_ROWS, N_FEATURES, N_CLASSES = 20_000, 50_000, 20


def bag_of_words():
    """Return a CSR matrix with 0.1 % nonzeros, and classes that can be learned from it."""
    import scipy.sparse

    generator = np.random.default_rng(0)
    X = scipy.sparse.random(N_ROWS, N_FEATURES, 0.001, format="csr", dtype=np.float32, rng=generator)
    return X, (X @ generator.standard_normal((N_FEATURES, N_CLASSES), dtype=np.float32)).argmax(axis=1)
