"""Imports point one way: fastmlp -> kernels -> numpy, numba, llvmlite, and nothing imports in a circle. See docs/."""

import ast
import subprocess
import sys
from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

import fastmlp

ROOT = Path(__file__).resolve().parents[1]
PACKAGE, KERNELS = ROOT / "fastmlp", ROOT / "kernels"
KERNELS_LINK = PACKAGE / "kernels"


class Rule(NamedTuple):
    """Packages that a module may import, beside those of the standard library."""

    at_top: set[str]
    inside_functions: set[str]


HEAVY = {"sklearn", "scipy", "tqdm", "matplotlib", "pandas"}
RULES = {  # the longest name that fits a module counts
    "fastmlp": Rule({"numpy", "fastmlp"}, HEAVY),
    "fastmlp.bars": Rule({"numpy", "fastmlp"}, {"IPython", "tqdm"}),
    "fastmlp.bench": Rule({"numpy", "fastmlp"}, HEAVY | {"jax", "threadpoolctl", "torch"}),
    "fastmlp.interchange": Rule(
        {"numpy", "fastmlp"}, HEAVY | {"keras", "onnx", "onnxruntime", "safetensors", "skl2onnx", "skops", "torch"}
    ),
    "fastmlp.cli": Rule({"numpy", "fastmlp"}, HEAVY | {"pyarrow", "threadpoolctl"}),
    "fastmlp.data": Rule({"numpy", "fastmlp"}, HEAVY | {"dask", "h5py", "pyarrow", "zarr"}),
    "fastmlp.dask": Rule({"numpy", "fastmlp", "dask", "distributed"}, HEAVY | {"xgboost"}),
    "fastmlp.dask.estimators": Rule({"numpy", "fastmlp", "dask", "distributed", "sklearn"}, HEAVY),
    "fastmlp.plots": Rule({"numpy", "fastmlp"}, {"matplotlib", "sklearn"}),
    "fastmlp.trackers": Rule({"numpy", "fastmlp"}, {"mlflow", "optuna"}),
    "fastmlp.estimators": Rule({"numpy", "fastmlp", "sklearn"}, HEAVY),
    "fastmlp.kernels": Rule({"numpy", "numba", "llvmlite"}, set()),
}
"""The packages that each part of fastmlp may import. What is heavy is imported where it is needed."""

IMPORT_KERNELS = ("fastmlp.engine", "fastmlp.bench", "fastmlp.kernels")
"""Only these import kernels."""

KERNEL_LAYERS = (
    "simd", "subnormals notices lock", "cache", "jit", "structs", "trace", "vector_ops", "tile bits vmath team",
    "random optimizers softmax roofline", "activations losses matmul", "formats", "layers sgd blockwise", "epoch",
)  # fmt: skip
"""A kernel module imports only from its own layer or from one to the left. A folder counts as one module."""


class Import(NamedTuple):
    """One import: the module and, of `from` imports, the name; `top` if it runs when the file is imported."""

    module: str
    name: str
    top: bool
    typing: bool
    line: int

    @property
    def package(self) -> str:
        return self.module.partition(".")[0]

    def targets(self, modules: Iterable[str]) -> set[str]:
        """Those of the modules that are imported, without the packages around them."""
        whole = f"{self.module}.{self.name}"
        return {whole if whole in modules else self.module} & set(modules)


def imports(path: Path, module: str) -> list[Import]:
    """Every import of a file that is a module of this name."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    return list(_imports_among(ast.parse(path.read_text(encoding="utf-8")).body, package, top=True, typing=False))


def _imports_among(nodes: Iterable[ast.AST], package: str, top: bool, typing: bool) -> Iterator[Import]:
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, "", top, typing, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            around = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            whole = ".".join([*around, *([node.module] if node.module else [])])
            for alias in node.names:
                yield Import(whole, alias.name, top, typing, node.lineno)
        elif isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            yield from _imports_among(node.body, package, top, typing=True)
            yield from _imports_among(node.orelse, package, top, typing)
        else:
            inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            yield from _imports_among(ast.iter_child_nodes(node), package, top and not inside, typing)


def files_below(folder: Path, name: str) -> dict[str, Path]:
    """The file of each module in a folder, which is the package of this name."""
    found = {}
    for path in sorted(path for path in folder.rglob("*.py") if KERNELS_LINK not in path.parents):
        parts = path.relative_to(folder).with_suffix("").parts
        found[".".join([name, *(parts[:-1] if parts[-1] == "__init__" else parts)])] = path
    return found


def imports_of(files: dict[str, Path]) -> dict[str, list[Import]]:
    """The imports of each module."""
    return {module: imports(path, module) for module, path in files.items()}


def is_below(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


FILES = files_below(PACKAGE, "fastmlp") | files_below(KERNELS, "fastmlp.kernels")
each_module = pytest.mark.parametrize("module", FILES)


@pytest.fixture(scope="module")
def modules() -> dict[str, list[Import]]:
    """The imports of all modules. Reading them takes seconds, so the processes that only collect this test do not."""
    return imports_of(FILES)


def layer_of(module: str) -> int:
    """The place of a kernel module in KERNEL_LAYERS; the package itself is the last."""
    if module == "fastmlp.kernels":
        return len(KERNEL_LAYERS)
    name = module.split(".")[2]
    (layer,) = [i for i, names in enumerate(KERNEL_LAYERS) if name in names.split()] or [None]
    assert layer is not None, f"give kernels/{name} a place in KERNEL_LAYERS"
    return layer


def targets(modules: dict[str, list[Import]], module: str) -> set[str]:
    """The modules that a module imports at its top, for type checkers or really."""
    return set().union(*(found.targets(modules) for found in modules[module] if found.top))


def cycle(modules: dict[str, list[Import]]) -> str:
    """Modules that import one another in a circle, or nothing. Imports for type checkers count."""
    try:
        TopologicalSorter({module: targets(modules, module) for module in modules}).prepare()
    except CycleError as error:
        return " <- ".join(error.args[1])
    return ""


# --- what is read -----------------------------------------------------------------------------------------------------


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
    assert imports(source, "x.y.sample") == [
        ("a.b", "", True, False, 1),
        ("c", "", True, False, 1),
        ("x.y.d", "e", True, False, 2),
        ("x.y", "f", True, False, 3),
        ("x.y", "g", True, False, 3),
        ("x.h", "i", True, False, 4),
        ("j", "", True, True, 6),
        ("k", "", True, False, 8),
        ("m", "", True, False, 10),
        ("n", "", True, False, 14),
        ("p", "", False, False, 16),
    ]


def test_a_cycle_is_found(tmp_path):
    for name, text in {
        "__init__": "if TYPE_CHECKING:\n    from package import one\n",
        "one": "from package.folder import two",
        "folder/__init__": "",
        "folder/two": "from .. import three",
        "three": "if TYPE_CHECKING:\n    from .one import name",
        "four": "import package.one, numpy",
    }.items():
        path = tmp_path / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    found = imports_of(files_below(tmp_path, "package"))
    circle = ["package.one", "package.three", "package.folder.two"]
    turns = [circle[i:] + circle[:i] + [circle[i]] for i in range(3)]
    assert cycle(found) in [" <- ".join(turn) for turn in turns]
    found["package.three"] = []
    assert cycle(found) == ""


# --- the rules --------------------------------------------------------------------------------------------------------


def test_all_folders_are_read():
    packages = {"fastmlp", *(f"fastmlp.{name}" for name in ("bench", "cli", "engine", "estimators", "kernels"))}
    assert packages <= FILES.keys()
    assert "fastmlp.kernels.epoch" in FILES


@each_module
def test_a_module_imports_only_the_packages_that_it_may(modules, module):
    rule = RULES[max((name for name in RULES if is_below(module, name)), key=len)]
    wrong = [
        found for found in modules[module]
        if found.package not in sys.stdlib_module_names
        and found.package not in (rule.at_top if found.top else rule.at_top | rule.inside_functions)
        and not (is_below(module, "fastmlp.kernels") and is_below(found.module, "fastmlp.kernels"))
    ]  # fmt: skip
    assert wrong == []


@each_module
def test_only_the_engine_and_the_bench_import_kernels(modules, module):
    if not module.startswith(IMPORT_KERNELS):
        assert [found for found in modules[module] if is_below(found.module, "fastmlp.kernels")] == []


@pytest.mark.parametrize("module", [module for module in FILES if is_below(module, "fastmlp.kernels")])
def test_kernels_import_only_from_earlier_layers(modules, module):
    layer = layer_of(module)
    assert [found for found in targets(modules, module) if layer_of(found) > layer] == []


def test_no_modules_import_one_another_in_a_circle(modules):
    assert cycle(modules) == ""


def test_nothing_else_of_the_package_imports_the_bench_as_it_is_imported(modules):
    others = [module for module in FILES if not is_below(module, "fastmlp.bench")]
    assert [module for module in others if any(is_below(n, "fastmlp.bench") for n in targets(modules, module))] == []


# --- what is loaded ---------------------------------------------------------------------------------------------------


def modules_loaded_by(statement: str, before: str = "pass") -> set[str]:
    """Names of the packages that `statement` loads in a new interpreter where `before` has run."""
    program = (
        f"import sys\n{before}\nbefore = set(sys.modules)\n{statement}\n"
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before})"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(done.stdout.split())


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
