"""How kernels are compiled and cached: one signature per dtype, and no stale or damaged code is ever run."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from fastmlp.kernels import jit

ROOT = Path(__file__).resolve().parents[2]

COMPILING = "fastmlp: compiling kernels for this machine (once, about 8 s) ...\n"
BOTH, FLOAT32 = ["float32", "float64"], ["float32"]
ENTRIES = {
    "infer_dense": BOTH, "infer_packed": BOTH, "pack_rows": FLOAT32, "train_dense": FLOAT32, "train_packed": FLOAT32,
}  # fmt: skip
"""The entries that the program below runs, and the dtypes; other tests compile them too."""

KERNELS = """
from fastmlp.kernels import epoch, matmul
from fastmlp.kernels.formats import FORMATS, packed

def dtype_of(kind):
    return str(getattr(kind, "types", [kind])[0].dtype)  # of an array, or of a matrix by that of its buffer

def signatures_and_hits():
    kernels = {
        "train_dense": epoch.train_loop(FORMATS["dense"].train, "plain", "softmax", None),
        "train_packed": epoch.train_loop(FORMATS["packed"].train, "plain", "softmax", None),
        "infer_dense": epoch.infer_loop(FORMATS["dense"], "plain", "softmax"),
        "infer_packed": epoch.infer_loop(FORMATS["packed"], "plain", "softmax"),
        "pack_rows": packed.pack_rows, "forward": matmul.forward,
    }
    return {
        name: {
            "dtypes": sorted(dtype_of(signature[0]) for signature in kernel.signatures),
            "hits": sum(kernel.stats.cache_hits.values()),
        }
        for name, kernel in kernels.items()
    }
"""

FITS = """
import json, sys, tempfile
import numpy as np
from fastmlp import MLP

def fits(dtype):
    X = np.random.default_rng(0).random((40, 5)).astype(dtype)
    y = np.arange(40) % 3
    read_only = X.copy()
    read_only.flags.writeable = False
    labels = y.astype(np.int32)
    labels.flags.writeable = False
    with tempfile.TemporaryFile() as file:
        mapped = np.memmap(file, dtype, "w+", shape=X.shape)
        mapped[:] = X
        net = MLP([5, 7, 3], dtype=dtype, n_threads=2)
        if dtype == "float32":  # training takes long to compile
            net.fit(X, y, epochs=1, batch_size=8, learning_rate=1)
            net.fit(read_only, labels, epochs=1, learning_rate=np.float32(0.5))
            net.fit(mapped, np.eye(3)[y], epochs=2, batch_size=7, validation_data=(mapped, y), shuffle=False)
            net.fit(X.tolist(), y.tolist(), epochs=1, batch_size=np.int32(8))
            net.fit(np.tile(X, (20, 1)), np.tile(y, 20), epochs=1, batch_size=700)
            net.train_batch(read_only[::-1], y, learning_rate=1)
            net.gradients(np.asfortranarray(X), y)
            MLP([5, 7, 3], dtype=dtype, first_layer="sparse").fit(mapped, y, epochs=1)
        for some in (X, read_only, mapped, X[:1], np.tile(X, (20, 1))):
            net.predict(some), net.predict_proba(some), net.score(some, np.resize(y, len(some)))

for dtype in sys.argv[1:]:
    fits(dtype)
print(json.dumps(signatures_and_hits()))
"""

PREDICTS = """
import json, sys
import numpy as np
from fastmlp import MLP

for dtype in sys.argv[1:]:
    MLP([5, 7, 3], dtype=dtype, n_threads=1).predict(np.ones((40, 5), dtype))
print(json.dumps(signatures_and_hits()))
"""


def in_a_new_process(program, *dtypes, **environment):
    """Return what it prints, and what it says about compiling."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "FASTMLP_QUIET": ""} | environment
    command = [sys.executable, "-c", KERNELS + program, *dtypes]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout), ran.stderr.splitlines(keepends=True)


def test_one_signature_per_dtype():
    said, _ = in_a_new_process(FITS, "float32", "float64")
    for name, dtypes in ENTRIES.items():
        assert said[name]["dtypes"] == dtypes


def test_a_second_process_loads(tmp_path):
    folder = tmp_path / "not" / "yet"
    said, lines = in_a_new_process(PREDICTS, *BOTH, NUMBA_CACHE_DIR=str(folder))
    assert set(lines) == {COMPILING}
    assert len(lines) < 4  # one, unless the machine is so busy that seconds pass between two kernels
    assert said["infer_dense"] == {"dtypes": BOTH, "hits": 0}
    assert said["forward"]["dtypes"] == BOTH
    files = sorted(folder.iterdir())
    assert [file.name.partition("-")[0] for file in files] == ["infer_dense"] * 2
    assert all(file.suffix == ".kernel" for file in files)
    before = [file.stat().st_mtime_ns for file in files]
    said, lines = in_a_new_process(PREDICTS, "float32", NUMBA_CACHE_DIR=str(folder))
    assert lines == []
    assert said["infer_dense"] == {"dtypes": FLOAT32, "hits": 1}
    assert said["forward"]["dtypes"] == []  # nothing was compiled
    assert sorted(folder.iterdir()) == files
    assert [file.stat().st_mtime_ns for file in files] == before


def test_no_two_processes_give_a_kernel_the_same_name(tmp_path):
    """The linker takes two kernels of one name for the same, even from two cache files of two processes."""
    program = """
import numpy as np
from fastmlp.kernels.jit import entry

@entry
def twice(x):
    x[0] *= 2

twice(np.ones(1))
print(*(compiled.fndesc.mangled_name for compiled in twice.overloads.values()))
"""
    names = [
        subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / folder)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for folder in "ab"
    ]
    assert "twice" in names[0]
    assert names[0] != names[1]


def test_the_normal_build_is_unchecked():
    assert (os.environ.get("FASTMLP_CHECKED", "") not in ("", "0")) == jit.CHECKED


# --- the decorators ---------------------------------------------------------------------------------------------------


def test_constants_make_no_new_signature():
    inner = jit.kernel(lambda a, n: a[0] * n)
    outer = jit.kernel(lambda a: inner(a, 1) + inner(a, 2) + inner(a, len(a)))
    assert outer(np.ones(3)) == 6
    assert len(inner.signatures) == 1


def twice(x):
    return 2 * x


def test_kernels_release_the_gil_and_keep_the_order_of_sums():
    options = jit.kernel(twice).targetoptions
    assert options["nogil"] is True
    assert options["fastmath"] is False
    assert options["error_model"] == "numpy"
    assert options["boundscheck"] is jit.CHECKED
