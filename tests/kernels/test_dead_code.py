"""Numba's dead code elimination deletes no store of any loop.

It deletes `x[i] = v` if it cannot trace x to an argument of the function. It does not trace an array through a
NamedTuple that the function itself makes, unless `ir_utils.alias_func_extensions` has an entry for the class. Numba
eliminates dead code only after inlining an overload, so a small change may make a loop lose stores without any error.

These tests are stricter than Numba: they trace every store in every loop, and in every kernel that a loop calls,
whether or not code is eliminated there. They run the compiler up to type inference; LLVM has no part in it.
"""

import gc
import itertools
from typing import Any, NamedTuple

import numpy as np
import pytest
from numba.core import compiler, ir, ir_utils
from numba.core.compiler_machinery import AnalysisPass, register_pass
from numba.core.dispatcher import Dispatcher
from numba.core.inline_closurecall import InlineWorker

from fastmlp.kernels.epoch import infer_loop, train_loop
from fastmlp.kernels.formats import FORMATS
from fastmlp.kernels.jit import kernel, part
from fastmlp.kernels.losses import LOSSES

STORES = ir.SetItem | ir.StaticSetItem | ir.SetAttr


class Found(NamedTuple):
    """What is found in a function, with all its parts inlined.

    Attributes
    ----------
    untraced : list of str
        Stores that could be deleted, each with its place.
    callees : list of Dispatcher
        Kernels that it calls.
    """

    untraced: Any
    callees: Any


@register_pass(mutates_CFG=False, analysis_only=True)
class TraceStores(AnalysisPass):
    """Ends compilation with `Found`."""

    _name = "trace_stores"

    def __init__(self):
        AnalysisPass.__init__(self)

    def run_pass(self, state):
        func_ir = state.func_ir
        statements = [stmt for block in func_ir.blocks.values() for stmt in block.body]
        stores = [stmt for stmt in statements if isinstance(stmt, STORES)]
        constants = [stmt.value for stmt in statements if isinstance(stmt, ir.Assign)]
        constants = [constant.value for constant in constants if isinstance(constant, ir.Global | ir.FreeVar)]
        _, safe = ir_utils.find_potential_aliases(func_ir.blocks, func_ir.arg_names, None, func_ir)
        state.cr = Found(
            [f"{store.loc}: {store}" for store in stores if store.target.name not in safe],
            [constant for constant in constants if isinstance(constant, Dispatcher)],
        )
        return False


class FrontEnd(compiler.CompilerBase):
    """Numba's compiler up to type inference; all parts have been inlined then."""

    def define_pipelines(self):
        untyped = compiler.DefaultPassBuilder.define_untyped_pipeline(self.state)
        untyped.add_pass(TraceStores, "trace stores")
        untyped.finalize()
        return [untyped]


def look_into(dispatcher):
    """Return what is found in a kernel or part."""
    flags = compiler.Flags()
    dispatcher._compiler.targetdescr.options.parse_as_flags(flags, dispatcher.targetoptions)
    args = (None,) * dispatcher.py_func.__code__.co_argcount  # in place of their types, which no pass needs
    return compiler.compile_extra(
        dispatcher.typingctx, dispatcher.targetctx, dispatcher.py_func, args, None, flags, {}, pipeline_class=FrontEnd
    )


def untraced_stores(loop, known):
    """Return the untraced stores of a loop and of the kernels that it calls; `known` keeps what is found in each."""
    untraced, waiting, seen = [], [loop], set()
    while waiting:
        dispatcher = waiting.pop()
        if dispatcher not in seen:
            seen.add(dispatcher)
            if dispatcher not in known:
                known[dispatcher] = look_into(dispatcher)
            untraced += known[dispatcher].untraced
            waiting += known[dispatcher].callees
    return untraced


@pytest.fixture(scope="module", autouse=True)
def quick_compiler():
    """Halve the time: prepare each part once instead of once a call, and collect no garbage."""
    prepared, prepare = {}, InlineWorker.run_untyped_passes

    def prepare_once(worker, function, enable_ssa=False):
        if (function, enable_ssa) not in prepared:
            prepared[function, enable_ssa] = prepare(worker, function, enable_ssa)
        return prepared[function, enable_ssa]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(InlineWorker, "run_untyped_passes", prepare_once)
        gc.disable()
        yield
        gc.enable()


# --- what is found ----------------------------------------------------------------------------------------------------


class Pair(NamedTuple):
    one: Any
    other: Any


NOTHING = None  # `bool(None)` is an overload that Numba inlines


@kernel
def store_through_a_tuple(x, y):
    pair = Pair(x, y)
    if NOTHING or len(x) == 0:
        return
    for i in range(len(x)):
        pair.one[i] = 1.0
        y[i] = 2.0


@part
def store(pair, i):
    pair.one[i] = 1.0


@kernel
def store_in_a_part(x, y):
    pair = Pair(x, y)
    for i in range(len(x)):
        store(pair, i)


@kernel
def call_a_kernel(x, y):
    store_through_a_tuple(x, y)


toys = pytest.mark.parametrize("toy", [store_through_a_tuple, store_in_a_part, call_a_kernel], ids=lambda toy: "")


def test_numba_deletes_an_untraced_store():
    x, y = np.zeros(2), np.zeros(2)
    store_through_a_tuple(x, y)
    assert not x.any()
    assert y.all()


@toys
def test_an_untraced_store_is_found(toy):
    (untraced,) = untraced_stores(toy, {})
    assert "test_dead_code.py" in untraced


@toys
def test_a_store_is_traced_through_a_class_that_numba_knows(toy, monkeypatch):
    def alias(made, fields, alias_map, arg_aliases):
        for field in fields:
            ir_utils._add_alias(made, field.name, alias_map, arg_aliases)

    monkeypatch.setitem(ir_utils.alias_func_extensions, ("Pair", Pair.__module__), alias)
    assert untraced_stores(toy, {}) == []


# --- the loops --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def known():
    return {}


ROWS = {rows.name: rows for one in FORMATS.values() for rows in (one.train, one.dropout, one.noise) if rows}


def each(names):
    """Return each name beside a head, so that every head has its loops too."""
    return list(zip(names, itertools.cycle(LOSSES), strict=False))


STEPS = [("plain", None), ("sloped", "adam")]
KINDS = [
    pytest.param(rows, head, *STEPS[(i + turn) % 2], marks=pytest.mark.slow if turn else ())
    for i, (rows, head) in enumerate(each(ROWS))
    for turn in range(2)
]


@pytest.mark.parametrize(("rows", "head", "hidden", "optimizer"), KINDS)
def test_stores_of_training(rows, head, hidden, optimizer, known):
    assert untraced_stores(train_loop(ROWS[rows], hidden, head, optimizer), known) == []


@pytest.mark.parametrize(("row_format", "head"), each(FORMATS))
def test_stores_of_inference(row_format, head, known):
    assert untraced_stores(infer_loop(FORMATS[row_format], "sloped", head), known) == []
