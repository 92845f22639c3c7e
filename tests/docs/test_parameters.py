"""Docstrings of public functions, classes and methods name parameters in the signature's order, with their defaults."""

import ast
import importlib
import inspect
import re

import pytest

import fastmlp

MODULES = ["callbacks", "data", "datasets", "metrics", "optimizers", "plots", "reference", "schedules"]
ENTRY = re.compile(r"^(\*{0,2}\w+(?:, \w+)*)(?: : (.*))?$", re.MULTILINE)


def public():
    """Yield the name and the object of each public function, class and method that lists its parameters."""
    for module in (fastmlp, *(importlib.import_module(f"fastmlp.{name}") for name in MODULES)):
        for name in module.__all__:
            thing = getattr(module, name)
            if not callable(thing) or not inspect.getdoc(thing):
                continue
            yield f"{module.__name__}.{name}", thing
            if inspect.isclass(thing):
                for method, member in inspect.getmembers(thing, inspect.isroutine):
                    if not method.startswith("_") and member.__module__.startswith("fastmlp"):
                        yield f"{module.__name__}.{name}.{method}", member


def entries(thing):
    """Return the parameters in a docstring, with what is said of their types."""
    found = re.search(
        r"^Parameters\n-+\n(.*?)(?=^[A-Z][^\n]*\n---|\Z)", inspect.getdoc(thing), re.DOTALL | re.MULTILINE
    )
    text = "" if found is None else found[1]
    return [(name, kind) for names, kind in ENTRY.findall(text) for name in names.split(", ")]


CASES = {name: thing for name, thing in public() if entries(thing)}


def test_there_are_many():
    assert len(CASES) > 90
    assert {"fastmlp.MLP", "fastmlp.MLP.fit", "fastmlp.search", "fastmlp.plots.weights"} <= set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_parameters_are_those_of_the_signature(name):
    signature = inspect.signature(CASES[name]).parameters.values()
    stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    own = [stars.get(each.kind, "") + each.name for each in signature if each.name != "self"]
    assert [given for given, _ in entries(CASES[name])] == own


@pytest.mark.parametrize("name", CASES)
def test_defaults_are_those_of_the_signature(name):
    signature = inspect.signature(CASES[name]).parameters
    together = {}  # parameters that share a line share its defaults
    for given, kind in entries(CASES[name]):
        together.setdefault(kind, []).append(given)
    for kind, names in together.items():
        text = kind.rpartition("default=")[2] if "default=" in kind else None
        for place, given in enumerate(names):
            default = signature[given.strip("*")].default
            if text is None:
                assert default is inspect.Parameter.empty or "optional" in kind or default is ..., given
                continue
            try:
                said = ast.literal_eval(text)
            except (SyntaxError, ValueError):
                continue  # an expression, such as Constant()
            assert default in (said, said[place] if isinstance(said, tuple) and len(said) == len(names) else said), (
                given
            )
