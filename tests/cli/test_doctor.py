"""``fastmlp doctor`` and ``--version``: what each check says about conditions that are made up."""

import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
from support.nets import ROOT

import fastmlp
from fastmlp.cli import doctor_checks, doctor_facts, main, version
from fastmlp.cli.doctor_checks import CHECKS, OLDEST, findings
from fastmlp.cli.doctor_facts import Cache, Facts
from fastmlp.engine.containers import cores_granted
from fastmlp.engine.free_memory import memory_limit
from fastmlp.engine.host import processor_model
from fastmlp.engine.kernel_files import are_compiled

GB = 2**30
HOME = Path("/home/me/.cache/fastmlp")
CACHE = Cache(HOME, HOME, (), 9 * GB, 0, 8)
HEALTHY = Facts(
    environ={"PATH": "/bin", "OMP_NUM_THREADS": "8", "NUMBA_CACHE_DIR": "/x", "NUMBA_OPT": "3", "FASTMLP_CHECKED": "0"},
    cores=8, allowed=8, quota=8.0, memory_free=9 * GB, versions={"numba": "0.63.1", "numpy": "2.10.0"},
    machine="x86_64", vector_bits=256, has_fma=True, cache=CACHE, spinning=0.0, others=0.1,
)  # fmt: skip


def found(**changes):
    """The lines about a machine that is healthy but for some facts."""
    return [str(finding) for finding in findings(replace(HEALTHY, **changes))]


def with_variable(name, value):
    return found(environ={name: value})


def test_nothing_is_found_where_nothing_is_wrong():
    assert found() == []


def test_what_is_unknown_says_nothing():
    assert findings(Facts(cores=2, allowed=2)) == []


@pytest.mark.parametrize(
    ("changes", "kind", "words"),
    [
        ({"broken": "no llvm", "environ": {}}, "wrong", "the kernels cannot be imported (no llvm): pip install"),
        ({"versions": {"numba": "0.9.1"}}, "wrong", "numba 0.9.1 is older than 0.63: pip install --upgrade numba"),
        ({"versions": {"numpy": "1.26.4"}}, "wrong", "numpy 1.26.4 is older than 2.0: "),
        ({"cache": replace(CACHE, used=None)}, "slow", "no folder for compiled kernels can be written, so"),
        ({"cache": replace(CACHE, used=Path("/site"))}, "note", f"{HOME} cannot be written, so "),
        ({"cache": replace(CACHE, unsafe=(HOME,))}, "slow", f"other users can write to {HOME}, so compiled kernels"),
        ({"cache": replace(CACHE, free=3 << 20)}, "slow", f"only 3 MB are free in {HOME}"),
        ({"cache": replace(CACHE, missing=5)}, "note", "kernels of 5 of 8 usual kinds of networks are not"),
        ({"allowed": 1}, "slow", "this process may use only 1 of 8 cores (CPU affinity): "),
        ({"allowed": 4, "quota": None}, "note", "this process may use only 4 of 8 cores (CPU affinity): "),
        ({"cores": 1, "allowed": 1}, "note", "this machine has one core: "),
        ({"quota": 1.5}, "slow", "the container may use 1.5 of 8 cores (CPU quota): raise it: docker run --cpus=8"),
        ({"memory_free": GB // 2}, "slow", "only 0.5 GB of memory are free: "),
        ({"memory_free": GB // 2, "memory_limit": 2 * GB}, "slow", "only 0.5 GB of memory are free of the 2.0 GB that"),
        ({"memory_limit": 4 * GB}, "note", "limits allow this process 4.0 GB of memory: "),
        ({"spinning": 0.1}, "note", "threads of NumPy's BLAS keep cores busy for 0.10 s after a product of matrices: "),
        ({"spinning": 1.0, "pools": ("openblas",)}, "slow", "threads of NumPy's BLAS (openblas) keep cores busy"),
        ({"vector_bits": 128}, "slow", "this processor reports no AVX2, so vectors have 128 bits and not 256: "),
        ({"has_fma": False}, "slow", "this processor reports no FMA, "),
        ({"others": 1.5}, "slow", "other programs use 1.5 of 8 cores now: close them, or wait"),
    ],
)  # fmt: skip
def test_one_fact_gives_one_line(changes, kind, words):
    (line,) = found(**changes)
    assert line.startswith(f"{kind:6}{words}")
    assert line.count("\n") == 0


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("NUMBA_DISABLE_JIT", "1", "wrong"),
        ("NUMBA_OPT", "0", "slow"),
        ("NUMBA_DEBUG", "1", "slow"),
        ("NUMBA_DEBUGINFO", "1", "slow"),
        ("NUMBA_BOUNDSCHECK", "1", "slow"),
        ("NUMBA_LOOP_VECTORIZE", "0", "slow"),
        ("NUMBA_ENABLE_AVX", "0", "slow"),
        ("NUMBA_CPU_NAME", "generic", "slow"),
        ("NUMBA_CPU_FEATURES", "-avx2", "slow"),
        ("FASTMLP_CHECKED", "1", "slow"),
        ("FASTMLP_PROFILED", "yes", "slow"),
        ("OMP_NUM_THREADS", "1", "slow"),
        ("OMP_NUM_THREADS", "2,1", "slow"),
        ("OMP_WAIT_POLICY", "ACTIVE", "slow"),
        ("KMP_BLOCKTIME", "infinite", "slow"),
        ("KMP_BLOCKTIME", "200ms", "slow"),
        ("GOMP_SPINCOUNT", "INFINITY", "slow"),
    ],
)
def test_one_variable_gives_one_line(name, value, kind):
    (line,) = with_variable(name, value)
    assert line.startswith(f"{kind:6}{name}")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("NUMBA_DISABLE_JIT", "0"), ("NUMBA_DISABLE_JIT", "abc"), ("NUMBA_OPT", ""), ("NUMBA_OPT", "x"),
        ("NUMBA_OPT", "max"), ("NUMBA_DEBUG", "0"),
        ("NUMBA_ENABLE_AVX", "1"), ("FASTMLP_PROFILED", ""), ("OMP_NUM_THREADS", "16"), ("OMP_NUM_THREADS", "many"),
        ("OMP_WAIT_POLICY", "passive"), ("KMP_BLOCKTIME", "0"), ("GOMP_SPINCOUNT", "0"), ("FASTMLP_QUIET", "1"),
    ],
)  # fmt: skip
def test_variables_that_change_nothing(name, value):
    assert with_variable(name, value) == []


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("opt: '1'", "slow  NUMBA_OPT=1 compiles kernels with less optimization: take it out of .numba"),
        ("disable_jit: true", "wrong NUMBA_DISABLE_JIT switches off the compiler, without which there"),
        ("cpu_name: generic", "slow  NUMBA_CPU_NAME=generic compiles kernels for that, and not for this"),
        ("debug: false", ""),
        ("", ""),
        ("[", ""),
        ("- 1", ""),
    ],
)  # fmt: skip
def test_the_file_of_numba_is_read(text, line, quick, monkeypatch, tmp_path):
    pytest.importorskip("yaml")
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".numba_config.yaml").write_text(text)
    facts = doctor_facts.observe()
    lines = found(environ=facts.environ, in_file=facts.in_file)
    assert [each[: len(line)] for each in lines if "numba_config" in each] == [line] * bool(line)


def test_a_variable_overrides_the_file_of_numba(quick, monkeypatch, tmp_path):
    pytest.importorskip("yaml")
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".numba_config.yaml").write_text("opt: '1'\nboundscheck: 1\n")
    monkeypatch.setenv("NUMBA_OPT", "0")
    facts = doctor_facts.observe()
    assert facts.environ["NUMBA_OPT"] == "0"
    assert facts.in_file == {"NUMBA_BOUNDSCHECK"}


@pytest.mark.parametrize(
    ("broken", "environ", "remedy"),
    [
        ("x", {"NUMBA_CACHE_DIR": "/x"}, "pip install"),
        ("x", {"NUMBA_NUM_THREADS": "0", "NUMBA_OPT": "3"}, "try it without NUMBA_NUM_THREADS, NUMBA_OPT; or pip"),
        ('ParserError: in ".numba_config.yaml"', {}, "mend .numba_config.yaml in this folder, or remove it"),
    ],
)
def test_why_kernels_cannot_be_imported(broken, environ, remedy):
    (line,) = found(broken=broken, environ=environ)
    assert line.startswith(f"wrong the kernels cannot be imported ({broken}): {remedy}")


def test_a_processor_of_another_kind_needs_no_avx2():
    assert found(machine="aarch64", vector_bits=128) == []


def test_what_is_wrong_comes_first():
    lines = found(broken="x", allowed=4, others=9.0, quota=None)
    assert [line.split()[0] for line in lines] == ["wrong", "slow", "note"]


def test_every_check_is_called():
    checks = {value for name, value in vars(doctor_checks).items() if name.startswith("check_")}
    assert checks == set(CHECKS)


def test_the_oldest_versions_are_those_that_are_installed():
    text = (ROOT / "pyproject.toml").read_text()
    assert {name: re.search(rf'"{name}>=([\d.]+)"', text)[1] for name in OLDEST} == OLDEST


# --- what is observed -------------------------------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch):
    """Observation without its pauses, and with kernels that need no minute to compile."""
    monkeypatch.setattr(doctor_facts, "_PAUSE", 0)
    monkeypatch.setattr(doctor_facts, "_kernels", lambda: (8, 8))
    monkeypatch.setattr(doctor_facts, "_spinning", lambda: 0.0)


def test_this_machine_is_observed(quick, monkeypatch, tmp_path):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "new"))
    facts = doctor_facts.observe()
    assert facts.broken is None
    assert facts.cores >= facts.allowed >= 1
    assert facts.vector_bits in (128, 256, 512)
    assert facts.versions.keys() == OLDEST.keys()
    assert (facts.cache.used, facts.cache.unsafe, facts.cache.missing) == (tmp_path / "new", (), 8)
    assert facts.cache.free > 0
    assert facts.environ["NUMBA_CACHE_DIR"] == str(tmp_path / "new")


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs permissions of POSIX")
def test_a_cache_that_others_can_write_to(quick, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    tmp_path.chmod(0o777)
    facts = doctor_facts.observe()
    assert (facts.cache.used, facts.cache.unsafe) == (None, (tmp_path,))
    assert capsys.readouterr() == ("", "")


def test_a_broken_installation_is_a_fact(monkeypatch):
    def fail():
        raise AttributeError("no\ncompiler")

    monkeypatch.setattr(doctor_facts, "_cache", fail)
    monkeypatch.setattr(doctor_facts, "_spinning", lambda: 0.0)
    facts = doctor_facts.observe()
    assert facts.broken == "AttributeError: no compiler"
    assert facts.cache is None


def test_kernels_are_looked_for_and_not_compiled(monkeypatch, tmp_path):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))

    def warm_up():
        fastmlp.warm_up(
            [3, 2], optimizer=fastmlp.optimizers.RMSprop(momentum=0.5, centered=True), output="exp", rows="csr"
        )

    assert not are_compiled(warm_up)
    assert list(tmp_path.iterdir()) == []


def test_threads_that_spin_are_seen(monkeypatch):
    clock = iter(range(100))
    monkeypatch.setattr(doctor_facts.time, "process_time", lambda: next(clock))  # a second at each look
    assert doctor_facts._spinning() == 1.0
    monkeypatch.setattr(doctor_facts.time, "process_time", lambda: 0)
    assert doctor_facts._spinning() == 0.0


def test_quota_and_memory_limit_of_a_container(tmp_path):
    for path, text in {
        "proc/self/cgroup": "0::/\n",
        "proc/self/mountinfo": "1 1 0:2 / /mnt/\xe9 rw - ext4 /dev/x rw\n"
        "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
        "sys/fs/cgroup/cpu.max": "150000 100000\n",
        "sys/fs/cgroup/memory.max": "536870912\n",
        "proc/cpuinfo": "processor\t: 0\nmodel name\t: Some CPU @ 3 GHz\nvendor\t: \xae\n",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(text.encode("latin-1"))
    assert cores_granted(str(tmp_path)) == 1.5
    assert memory_limit(str(tmp_path)) == 512 * 2**20
    assert processor_model(str(tmp_path)) == "Some CPU @ 3 GHz"
    (tmp_path / "sys/fs/cgroup/cpu.max").write_text("max 100000\n")
    assert cores_granted(str(tmp_path)) is None


# --- the commands -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("changes", "status", "last"), [
    ({}, 0, "nothing makes fastmlp slow or wrong here"),
    ({"allowed": 4, "quota": None}, 0, "nothing makes fastmlp slow or wrong here"),
    ({"others": 3.0}, 1, "1 to mend"),
])  # fmt: skip
def test_exit_status(changes, status, last, monkeypatch, capsys):
    monkeypatch.setattr(doctor_facts, "observe", lambda: replace(HEALTHY, **changes))
    assert main(["doctor"]) == status
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"fastmlp {fastmlp.__version__}"
    assert lines[-1] == f"{len(CHECKS)} checks: {last}"


def test_rates_are_measured_only_when_asked_for(monkeypatch, capsys):
    from fastmlp.bench import machine

    monkeypatch.setattr(doctor_facts, "observe", lambda: HEALTHY)
    monkeypatch.setattr(machine, "fma_peak", lambda n_threads: 1e11 * n_threads)
    monkeypatch.setattr(machine, "read_bandwidth", lambda n_threads: 1e10 * n_threads)
    assert main(["doctor"]) == 0
    assert "GFLOP/s" not in capsys.readouterr().out
    assert main(["doctor", "--measure"]) == 0
    assert re.search(
        r"^rates with 1.* thread.*: 100.* GFLOP/s in float32, 10\.0.* GB/s read", capsys.readouterr().out, re.M
    )


def test_version_says_what_issues_need(capsys):
    assert main(["--version"]) == 0
    first, *lines = capsys.readouterr().out.splitlines()
    assert first == f"fastmlp {fastmlp.__version__}"
    facts = dict(line.split(maxsplit=1) for line in lines)
    assert list(facts) == [
        "processor",
        "cores",
        "vectors",
        "Numba",
        "llvmlite",
        "NumPy",
        "scikit-learn",
        "Python",
        "platform",
    ]
    assert re.fullmatch(r"\d+, of which this process may use \d+", facts["cores"])
    assert re.match(r"(128|256|512) bits.*, kernels for \S+$", facts["vectors"])
    assert re.match(r"\d+\.\d+", facts["NumPy"])


def test_a_library_that_is_not_installed(monkeypatch, capsys):
    monkeypatch.setattr(version, "installed", lambda name: None)
    assert re.search(r"^Numba +not installed$", version.version_text(), re.MULTILINE)
