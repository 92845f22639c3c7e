"""Imports point one way: kernels -> numpy, numba, llvmlite; fastmlp -> kernels. See docs/."""

import ast
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import fastmlp

ROOT = Path(__file__).resolve().parents[1]
KERNEL_FILES = sorted((ROOT / "kernels").glob("*.py"))
PACKAGE_FILES = sorted([*(ROOT / "fastmlp").glob("*.py"), *(ROOT / "fastmlp" / "bench").glob("*.py")])

# A kernel file imports only from files of its own rank or a lower one.
RANKS = {
    "jit": 0,
    "simd": 1,
    "vmath": 2,
    "tile": 2,
    "random": 2,
    "dense": 3,
    "rows": 3,
    "sparse": 3,
    "csr": 3,
    "activations": 3,
    "disturb": 3,
    "losses": 3,
    "softmax": 3,
    "optimizers": 3,
    "roofline": 3,
    "structs": 0,
    "team": 3,
    "descent": 4,
    "tables": 0,
    "first_layer": 5,
    "layers": 5,
    "steps": 5,
    "epoch": 6,
    "__init__": 6,
}

KERNELS_MAY = {"numpy", "numba", "llvmlite"}
PACKAGE_MAY = {"numpy", "numba", "fastmlp"}
PACKAGE_MAY_INSIDE_FUNCTIONS = PACKAGE_MAY | {"sklearn", "scipy", "tqdm", "matplotlib", "pandas"}
BENCH_MAY_INSIDE_FUNCTIONS = PACKAGE_MAY_INSIDE_FUNCTIONS | {"jax", "torch"}
ESTIMATORS_MAY = PACKAGE_MAY | {"sklearn"}  # they build on scikit-learn's base classes


class Import(NamedTuple):
    """One imported module: `level` dots, then `name`; `top` when it runs as the file is imported."""

    level: int
    name: str
    top: bool
    line: int

    @property
    def package(self) -> str:
        return self.name.partition(".")[0]


def imports(path: Path) -> Iterator[Import]:
    """Every import of a file, but for those under `if TYPE_CHECKING:`."""
    return _imports_among(ast.parse(path.read_text(encoding="utf-8")).body, top=True)


def _imports_among(nodes: Iterable[ast.AST], top: bool) -> Iterator[Import]:
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(0, alias.name, top, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            # `from . import a, b` names modules, `from .a import b` names a module's content.
            for name in [node.module] if node.module else [alias.name for alias in node.names]:
                yield Import(node.level, name, top, node.lineno)
        elif isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            yield from _imports_among(node.orelse, top)
        else:
            inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            yield from _imports_among(ast.iter_child_nodes(node), top and not inside)


def foreign(path: Path) -> Iterator[Import]:
    """The imports of a file that are neither relative nor of the standard library."""
    return (found for found in imports(path) if found.level == 0 and found.package not in sys.stdlib_module_names)


def test_imports_are_read_as_they_are_written(tmp_path):
    source = tmp_path / "sample.py"
    source.write_text(
        "import a.b, c\n"
        "from .d import e\n"
        "from . import f, g\n"
        "from ..h import i\n"
        "if TYPE_CHECKING:\n"
        "    import j\n"
        "else:\n"
        "    import k\n"
        "try:\n"
        "    import m\n"
        "except ImportError:\n"
        "    pass\n"
        "class C:\n"
        "    import n\n"
        "    def o(self):\n"
        "        import p\n"
    )
    assert list(imports(source)) == [
        (0, "a.b", True, 1),
        (0, "c", True, 1),
        (1, "d", True, 2),
        (1, "f", True, 3),
        (1, "g", True, 3),
        (2, "h", True, 4),
        (0, "k", True, 8),
        (0, "m", True, 10),
        (0, "n", True, 14),
        (0, "p", False, 16),
    ]


def test_there_are_files_to_hold():
    assert KERNEL_FILES
    assert PACKAGE_FILES


@pytest.mark.parametrize("path", KERNEL_FILES, ids=lambda path: path.name)
def test_kernels_import_only_numpy_numba_and_llvmlite(path):
    strangers = [found for found in foreign(path) if found.package not in KERNELS_MAY]
    leaving = [found for found in imports(path) if found.level > 1]
    assert strangers == []
    assert leaving == [], "a kernel file imports from the package around it"


@pytest.mark.parametrize("path", KERNEL_FILES, ids=lambda path: path.name)
def test_kernels_import_only_from_earlier_files(path):
    assert path.stem in RANKS, f"give kernels/{path.name} a rank in this test"
    later = [
        found for found in imports(path) if found.level == 1 and RANKS.get(found.package, len(RANKS)) > RANKS[path.stem]
    ]
    assert later == []


@pytest.mark.parametrize("path", PACKAGE_FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_package_keeps_heavy_imports_inside_functions(path):
    at_top = ESTIMATORS_MAY if path.parent.name == "estimators" else PACKAGE_MAY
    inside = BENCH_MAY_INSIDE_FUNCTIONS if path.parent.name == "bench" else PACKAGE_MAY_INSIDE_FUNCTIONS
    wrong = [found for found in foreign(path) if found.package not in (at_top if found.top else inside)]
    assert wrong == []


def modules_loaded_by(statement: str, before: str = "pass") -> set[str]:
    """Names of the packages that `statement` loads in a new interpreter where `before` has run."""
    program = (
        f"import sys\n{before}\nbefore = set(sys.modules)\n{statement}\n"
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before})"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(done.stdout.split())


def test_nothing_else_of_the_package_imports_the_bench_as_it_is_imported():
    for path in (ROOT / "fastmlp").glob("*.py"):
        assert not [found for found in imports(path) if found.top and found.name.startswith("fastmlp.bench")], path


def test_import_fastmlp_is_light():
    heavy = {"numba", "sklearn", "matplotlib", "scipy", "pandas", "tqdm"}
    assert modules_loaded_by("import fastmlp") & heavy == set()


def test_import_of_the_network_loads_numba_and_no_more():
    # Numba itself imports SciPy, if it is there, to look at its version.
    heavy = {"sklearn", "matplotlib", "scipy", "pandas", "tqdm"}
    assert modules_loaded_by("from fastmlp import MLP", before="import numba") & heavy == set()


@pytest.mark.parametrize("name", fastmlp.__all__)
def test_public_name_exists(name):
    assert getattr(fastmlp, name) is not None
    assert name in dir(fastmlp)
