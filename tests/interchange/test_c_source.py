"""The C that a network becomes: it compiles without a warning, is safe to call, and comes with a test program."""

import re
import subprocess
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from support.in_c import STRICT, STRICTER, InC, compile_c, each_bits, each_compiler, net_of, rows_for, runs

from fastmlp.interchange.c_layers import Layer, in_8_bits
from fastmlp.reference import MLP


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Give a folder with a network in both widths and all functions of an activation."""
    folder = tmp_path_factory.mktemp("written")
    for bits in (32, 8):
        net = net_of("softmax", ["gelu", "elu", "silu", "leaky_relu"], hidden=(7, 7, 13, 5))
        net.to_c(folder / f"net{bits}.c", bits=bits, X=rows_for(net))
    return folder


@each_bits
@each_compiler
@pytest.mark.parametrize("flags", [["-O0"], ["-O3", "-ffast-math"], [*STRICTER, "-Os"]])
def test_compiles_without_a_warning(written, bits, compiler, flags):
    compile_c(compiler, *STRICT, *flags, "-c", f"net{bits}.c", "-o", f"{compiler}.o", folder=written)
    source = f"net{bits}_test.c"
    assert compile_c(compiler, *STRICT, *flags, source, "-lm", "-o", compiler, folder=written) == ""
    assert runs(compiler, written)[0] == 0


@each_bits
@pytest.mark.parametrize("standard", ["c++11", "c++20"])
def test_compiles_as_cpp(written, bits, standard):
    strict = [f"-std={standard}", *STRICT[1:]]
    assert compile_c("g++", *strict, "-x", "c++", f"net{bits}_test.c", "-lm", "-o", "cpp", folder=written) == ""
    assert runs("cpp", written)[0] == 0


@each_bits
def test_nothing_is_allocated_or_written_to(written, bits):
    compile_c("gcc", *STRICT, "-O2", "-c", f"net{bits}.c", "-o", "net.o", folder=written)
    lines = subprocess.run(["nm", "net.o"], cwd=written, capture_output=True, text=True, check=True).stdout
    symbols = [line.split()[-2:] for line in lines.splitlines()]
    assert {kind for kind, _ in symbols} <= {"T", "t", "r", "R", "U"}  # no .data, no .bss
    assert {name for kind, name in symbols if kind == "U"} <= {"expf", "tanhf", "memcpy", "__stack_chk_fail"}
    assert {name for kind, name in symbols if kind == "T"} == {"net_predict", "net_predict_proba"}


def test_relu_needs_no_mathematical_library(tmp_path):
    net_of("identity").to_c(tmp_path / "net.c")
    assert "math.h" not in (tmp_path / "net.c").read_text()
    compile_c("gcc", *STRICT, "net_test.c", "-o", "test", folder=tmp_path)


@pytest.mark.parametrize("flags", [[], ["-O3", "-ffast-math"]])
@each_bits
def test_numbers_that_are_not_finite_are_reported(bits, flags, tmp_path):
    net = net_of("softmax")
    in_c = InC.compiled(net, tmp_path, *flags, X=rows_for(net), bits=bits)
    X = rows_for(net, 4)
    X[0, 2], X[1, 0], X[2, 4] = np.nan, np.inf, -np.inf
    assert in_c.outputs(X)[1].tolist() == [-1, -1, -1, 0]
    assert in_c.predict(X)[:3].tolist() == [-1, -1, -1]
    assert in_c.predict(np.full((1, 5), 3e38)) == [-1]  # overflows


@each_bits
def test_no_undefined_behaviour(bits, tmp_path):
    net = net_of("softmax", "identity", hidden=(9,), n_inputs=3)
    X = np.array([[0, 0, 0], [1e-45, 0, 0], [1e-38, -1e-38, 1e-30], [3e38, -3e38, 3e38], [1, -1, 0.5], [1e-29, 0, 0]])
    net.weights[0][:] = np.sign(net.weights[0]) * 0.01
    net.to_c(tmp_path / "net.c", bits=bits, X=X[:3])
    rows = ", ".join(f"{{{', '.join(f'{v}f' for v in x.astype(np.float32))}}}" for x in X)
    main = f'#include "net.c"\nint main(void) {{ static const float x[][3] = {{{rows}}}; float p[3]; int s = 0;\n'
    main += "for (int i = 0; i < 6; i++) s += net_predict_proba(x[i], p) < 0;\nreturn s; }\n"
    (tmp_path / "main.c").write_text(main)
    sanitized = ["-fsanitize=undefined,float-cast-overflow,address", "-fno-sanitize-recover=all", "-g"]
    compile_c("gcc", *STRICT, *sanitized, "main.c", "-lm", "-o", "main", folder=tmp_path)
    assert runs("main", tmp_path) == (0, "")


def test_sums_of_8_bits_cannot_overflow(tmp_path):
    n = 40_000
    layer = in_8_bits(Layer(np.ones((n, 1), np.float32), np.zeros(1, np.float32), "identity"))
    assert layer.weights.min() == 127
    assert 2**31 - 127 * n <= layer.limit * 127 * n < 2**31
    assert in_8_bits(Layer(np.ones((2, 1), np.float32), np.zeros(1, np.float32), "identity")).limit == 32767
    net = MLP([n, 1], output="identity")
    net.weights[0][:] = 1
    X = np.ones((2, n), np.float32)
    X[1] = -7
    np.testing.assert_allclose(InC.compiled(net, tmp_path, bits=8, X=X).predict(X)[:, 0], [n, -7 * n], rtol=1e-6)


def test_threads_may_call_at_the_same_time(tmp_path):
    net = net_of("softmax", hidden=(130, 130))
    in_c = InC.compiled(net, tmp_path, "-O1")
    X = rows_for(net, 200)
    expected = in_c.outputs(X)[0]
    with ThreadPoolExecutor(4) as pool:
        for p, _ in pool.map(in_c.outputs, [X] * 12):
            np.testing.assert_array_equal(p, expected)


@each_bits
def test_buffers_may_be_static(written, bits):
    flags = ["-DNET_BUFFER=static", "-DNET_FLASH="]
    compile_c("gcc", *STRICT, *flags, f"net{bits}_test.c", "-lm", "-o", "static", folder=written)
    assert runs("static", written)[0] == 0


@each_bits
def test_the_test_program_finds_a_wrong_table(bits, tmp_path):
    net = net_of("softmax")
    net.to_c(tmp_path / "net.c", bits=bits, X=rows_for(net))
    code = (tmp_path / "net.c").read_text()
    last = "scale2" if bits == 8 else "w2"
    start = code.index("\n", code.index(f" net_{last}[")) + 1
    (tmp_path / "net.c").write_text(code[:start] + "9" + code[start:].lstrip(" -"))
    compile_c("gcc", *STRICT, "net_test.c", "-lm", "-o", "test", folder=tmp_path)
    status, said = runs("test", tmp_path)
    assert status == 1
    assert re.match(r"[1-9]\d* of 60 rows are wrong", said)


@pytest.mark.parametrize(("bits", "dtype"), [(32, "float64"), (8, "float32")])
def test_the_test_program_allows_what_rounding_does_to_large_sums(bits, dtype, tmp_path):
    net = net_of("softmax", "tanh", hidden=(130,), n_inputs=130, dtype=dtype)
    for weights in net.weights:
        weights *= 300
    net.to_c(tmp_path / "net.c", bits=bits, X=rows_for(net, 100))
    compile_c("gcc", *STRICT, "net_test.c", "-lm", "-o", "test", folder=tmp_path)
    status, said = runs("test", tmp_path)
    assert status == 0, said
    assert float(re.search(r"up to (\S+) is right", said)[1]) < 0.1


def test_the_same_network_gives_the_same_files(tmp_path):
    net = net_of("exp")
    contents = set()
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        net.to_c(tmp_path / folder / "net.c")
        contents.add(tuple((tmp_path / folder / file).read_bytes() for file in ("net.c", "net_test.c")))
    assert len(contents) == 1
    assert str(tmp_path).encode() not in contents.pop()[0]


def test_memory_is_counted(tmp_path):
    net = MLP([20, 30, 10, 4], seed=0)
    net.to_c(tmp_path / "net.c")
    text = (tmp_path / "net.c").read_text()
    tables = sum(map(int, re.findall(r"static const NET_FLASH \w+ \w+\[(\d+)\]", text))) * 4
    assert tables == net.n_parameters * 4
    assert f"Tables have {tables:,} bytes" in text
    assert f"{4 * (30 + 10 + 4)} bytes.\n" in text
