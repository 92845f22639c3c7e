"""Networks as C: what their tests compile and call."""

import ctypes
import shutil
import subprocess

import numpy as np
import pytest

from fastmlp.reference import MLP

STRICT = ["-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror"]
STRICTER = ["-Wconversion", "-Wdouble-promotion", "-Wmissing-prototypes", "-Wshadow", "-Wstrict-prototypes", "-Wundef"]
COMPILERS = ("gcc", "clang")
HEADS = {"softmax": 3, "logistic": 4, "identity": 2, "exp": 2, "two classes": 1}

each_compiler = pytest.mark.parametrize("compiler", COMPILERS)
each_bits = pytest.mark.parametrize("bits", [32, 8])


def compile_c(compiler, *arguments, folder):
    """Compile in a folder, and return what the compiler says; it must succeed."""
    if shutil.which(compiler) is None:
        pytest.skip(f"needs {compiler}")
    done = subprocess.run([compiler, *arguments], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stderr


def runs(program, folder):
    """Run a test program, and return its exit status and what it prints."""
    done = subprocess.run([f"./{program}"], cwd=folder, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def net_of(head, activation="relu", hidden=(7, 13), n_inputs=5, **settings):
    n_outputs = HEADS[head]
    output = "logistic" if head == "two classes" else head
    return MLP([n_inputs, *hidden, n_outputs], activation=activation, output=output, seed=1, **settings)


def rows_for(net, n=60, seed=2):
    return np.random.default_rng(seed).standard_normal((n, net.layers[0])).astype(np.float32) / net.input_scale


class InC:
    """The functions of a compiled network, one call for each row."""

    def __init__(self, library, name, net):
        self.n_inputs, self.classifies = net.layers[0], net.output in ("softmax", "logistic")
        self.one_class = net.output == "softmax" or net.layers[-1] == 1
        self.n_outputs = 2 if net.output == "logistic" and self.one_class else net.layers[-1]
        self.call = getattr(library, f"{name}_predict")
        self.call_proba = getattr(library, f"{name}_predict_proba") if self.classifies else self.call

    @classmethod
    def compiled(cls, net, folder, *flags, compiler="gcc", name="net", **arguments):
        net.to_c(folder / "lib.c", name, **arguments)
        library = f"lib{len(list(folder.iterdir()))}.so"  # a library of a name is loaded once
        compile_c(compiler, *STRICT, *flags, "-fPIC", "-c", "lib.c", "-o", "lib.o", folder=folder)
        # Linked without -ffast-math: it would have this whole process take subnormal numbers as zero.
        compile_c(compiler, "-shared", "lib.o", "-lm", "-o", library, folder=folder)
        return cls(ctypes.CDLL(str(folder / library)), name, net)

    def outputs(self, X):
        """Return probabilities or numbers (n, NET_OUTPUTS), and the statuses (n,)."""
        out = np.full((len(X), self.n_outputs), np.nan, np.float32)
        X = np.ascontiguousarray(X, np.float32)
        status = [self.call_proba(_pointer(x), _pointer(p)) for x, p in zip(X, out, strict=True)]
        return out, np.array(status)

    def predict(self, X):
        X = np.ascontiguousarray(X, np.float32)
        if self.one_class and self.classifies:
            return np.array([self.call(_pointer(x)) for x in X])
        out = np.zeros((len(X), self.n_outputs), np.int32 if self.classifies else np.float32)
        for x, labels in zip(X, out, strict=True):
            assert self.call(_pointer(x), _pointer(labels)) == 0
        return out


def _pointer(array):
    return array.ctypes.data_as(ctypes.c_void_p)
