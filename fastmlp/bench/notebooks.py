"""The same network in NumPy: as teaching notebooks write it, and a faster version of that."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastmlp.bench.task import Array, Arrays, Predict, Task, Train

__all__ = ["NotebookNumPy", "NumPy"]


class NumPy:
    """The faster version: float32, rows gathered once an epoch, arrays changed in place."""

    name = "NumPy"
    version = np.__version__

    def __init__(self, n_threads: int | None = None) -> None:
        """Take any number of threads: `fastmlp.bench.peers.bound_blas` sets those of NumPy."""

    def prepare(self, X: Any, y: Array, task: Task, weights: Arrays, biases: Arrays) -> Train:
        """Return a function that trains."""
        weights, biases = [w.copy() for w in weights], [b.copy() for b in biases]

        def train() -> tuple[Arrays, Arrays]:
            dw, db = [np.empty_like(w) for w in weights], [np.empty_like(b) for b in biases]
            X_epoch, y_epoch = (np.empty_like(X), np.empty_like(y)) if task.shuffle else (X, y)
            for order in task.orders(len(X)):
                if task.shuffle:
                    np.take(X, order, axis=0, out=X_epoch, mode="clip")  # "clip" avoids a temporary copy
                    np.take(y, order, out=y_epoch, mode="clip")
                for start in range(0, len(X), task.batch_size):
                    batch = slice(start, start + task.batch_size)
                    self._step(X_epoch[batch], y_epoch[batch], task, weights, biases, dw, db)
            return weights, biases

        return train

    def prepare_inference(self, X: Any, task: Task, weights: Arrays, biases: Arrays) -> Predict:
        """Return a function that predicts."""
        return lambda: self._forward(X, task, weights, biases)[-1]

    def _step(self, x: Array, y: Array, task: Task, weights: Arrays, biases: Arrays, dw: Arrays, db: Arrays) -> None:
        outputs = self._forward(x, task, weights, biases)
        delta = outputs[-1]
        delta[np.arange(len(y)), y] -= 1
        delta *= np.float32(task.rate / len(y))  # so the gradients are already scaled
        for layer in reversed(range(len(weights))):
            np.matmul(outputs[layer].T, delta, out=dw[layer])
            delta.sum(axis=0, out=db[layer])
            if layer > 0:
                a = outputs[layer]
                delta = delta @ weights[layer].T
                delta *= a > 0 if task.activation == "relu" else a * (1 - a)
            weights[layer] -= dw[layer]
            biases[layer] -= db[layer]

    def _forward(self, x: Array, task: Task, weights: Arrays, biases: Arrays) -> list[Array]:
        """Return the input, the activations of each hidden layer, and the probabilities."""
        outputs = [x]
        for w, b in zip(weights, biases, strict=True):
            z = outputs[-1] @ w
            z += b
            outputs.append(z)
            if len(outputs) > len(weights):
                self._softmax(z)
            elif task.activation == "relu":
                np.maximum(z, 0, out=z)
            else:
                self._logistic(z)
        return outputs

    @staticmethod
    def _logistic(z: Array) -> None:
        np.negative(z, out=z)
        np.exp(z, out=z)
        z += 1
        np.reciprocal(z, out=z)

    @staticmethod
    def _softmax(z: Array) -> None:
        z -= z.max(axis=1, keepdims=True)
        np.exp(z, out=z)
        z /= z.sum(axis=1, keepdims=True)


class NotebookNumPy:
    """The network as teaching notebooks write it: float64, one line for each formula, new arrays in every step."""

    name = "NumPy float64"
    version = np.__version__

    def __init__(self, n_threads: int | None = None) -> None:
        """Take any number of threads: `fastmlp.bench.peers.bound_blas` sets those of NumPy."""

    def prepare(self, X: Any, y: Array, task: Task, weights: Arrays, biases: Arrays) -> Train:
        """Return a function that trains."""
        X, one_hot = X.astype(np.float64), np.eye(task.layers[-1])[y]
        weights, biases = [w.astype(np.float64) for w in weights], [b.astype(np.float64) for b in biases]

        def train() -> tuple[Arrays, Arrays]:
            for order in task.orders(len(X)):
                X_epoch, y_epoch = X[order], one_hot[order]
                for start in range(0, len(X), task.batch_size):
                    batch = slice(start, start + task.batch_size)
                    self._step(X_epoch[batch], y_epoch[batch], task, weights, biases)
            return weights, biases

        return train

    def prepare_inference(self, X: Any, task: Task, weights: Arrays, biases: Arrays) -> Predict:
        """Return a function that predicts."""
        X = X.astype(np.float64)
        weights, biases = [w.astype(np.float64) for w in weights], [b.astype(np.float64) for b in biases]
        return lambda: self._forward(X, task, weights, biases)[-1]

    def _step(self, x: Array, y: Array, task: Task, weights: list[Array], biases: list[Array]) -> None:
        outputs = self._forward(x, task, weights, biases)
        dz = (outputs[-1] - y) / len(y)
        for layer in reversed(range(len(weights))):
            a = outputs[layer]
            dw, db = a.T @ dz, dz.sum(axis=0)
            if layer > 0:
                dz = (dz @ weights[layer].T) * ((a > 0) if task.activation == "relu" else a * (1 - a))
            weights[layer] -= task.rate * dw
            biases[layer] -= task.rate * db

    def _forward(self, x: Array, task: Task, weights: Arrays, biases: Arrays) -> list[Array]:
        """Return the input, the activations of each hidden layer, and the probabilities."""
        outputs = [x]
        for w, b in zip(weights[:-1], biases[:-1], strict=True):
            z = outputs[-1] @ w + b
            outputs.append(np.maximum(z, 0) if task.activation == "relu" else 1 / (1 + np.exp(-z)))
        z = outputs[-1] @ weights[-1] + biases[-1]
        exp = np.exp(z - z.max(axis=1, keepdims=True))
        return [*outputs, exp / exp.sum(axis=1, keepdims=True)]
