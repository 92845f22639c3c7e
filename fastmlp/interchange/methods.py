"""The methods of networks and estimators that exchange them with other programs."""

from __future__ import annotations

import os
from typing import Any, Literal, cast

import numpy.typing as npt

__all__ = ["EstimatorMethods", "NetworkMethods"]


class NetworkMethods:
    """Methods of `MLP`."""

    # --- C ------------------------------------------------------------------------------------------------------------

    def to_c(
        self,
        path: str | os.PathLike[str],
        name: str = "net",
        bits: Literal[8, 32] = 32,
        *,
        X: Any = None,
        y: npt.ArrayLike | None = None,
    ) -> dict[str, float]:
        """Write the network as C to `path`, for a micro-controller or any other program, and a test program beside it.

        The file is C99 and needs nothing but the C library, without allocation. ``net_predict`` and
        ``net_predict_proba`` predict one row as `predict` and `predict_proba` do; the comment at its beginning says how
        to call them, and how much memory they take. ``net_test.c`` beside a ``net.c`` compares up to 100 rows.

        Parameters
        ----------
        path : str or path
            Name of the file, such as "net.c". Older files are replaced.
        name : str
            What the names in C begin with.
        bits : {32, 8}
            Of a weight. 32 is float32. 8 bits need a fourth of the memory, and no floating-point numbers in the inner
            loop, but cost some accuracy, which is measured on `X` and printed. Neither is exact for a network in
            float64.
        X : (n, I) array_like, table of pandas or polars, or sparse matrix of SciPy, or None
            Rows to measure on, as for `predict`; 8 bits need some. The rows of the test program are among them. Without
            X they are normal random numbers.
        y : (n,) or (n, C) array_like or None
            As for `score`.

        Returns
        -------
        dict of str to float
            What was measured on X, otherwise empty: "n_rows", the fraction of "equal" predictions, or for regression
            the "largest_difference", and with y "accuracy" or "r2" of the network, and "accuracy_in_c" or "r2_in_c".
            It is measured in NumPy, with the arithmetic of the C file.

        Raises
        ------
        TypeError, ValueError
            If an argument is wrong, 8 bits have no X, or parameters are not finite in float32. Nothing is written.
        OSError
            If a file cannot be written, or the file of the test program is not one that `to_c` wrote.

        Examples
        --------
        >>> net.to_c("net.c", bits=8, X=X_test, y=y_test)  # doctest: +SKIP
        """
        from fastmlp.interchange import c

        return c.write(cast("Any", self), path, name, bits, X, y)

    # --- Keras --------------------------------------------------------------------------------------------------------

    # --- ONNX ---------------------------------------------------------------------------------------------------------

    # --- PyTorch ------------------------------------------------------------------------------------------------------

    # --- scikit-learn -------------------------------------------------------------------------------------------------


class EstimatorMethods:
    """Methods of `MLPClassifier` and `MLPRegressor`."""

    # --- ONNX ---------------------------------------------------------------------------------------------------------

    # --- scikit-learn -------------------------------------------------------------------------------------------------
