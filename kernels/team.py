"""Threads that train together: the barrier at which they wait for each other, and a profile of where time goes.

A team is ``size`` threads that run the same kernel, each with its own ``rank``. Outputs are divided between them, sums
never: so no bit depends on the size of the team.
"""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .jit import PROFILED, kernel, part
from .simd import I32, I64, call_llvm
from .trace import traced
from .vector_ops import peek

ARRIVED, FAILED, TAKEN = range(3)
"""Places in ``sync``. ARRIVED only grows: a thread that reaches its n-th barrier adds 1 and waits for n * size. If
FAILED is set, nobody waits any more, because a thread of the team has failed. TAKEN counts the chunks that threads have
taken to predict."""

SPINS = 400
"""Turns of the waiting loop, about 5 microseconds, after which a thread yields its core at every turn."""

PHASES = (
    "outside",
    "transpose",
    "load",
    "first forward",
    "forward",
    "loss",
    "backward",
    "first update",
    "update",
    "wait",
)
OUTSIDE, TRANSPOSE, LOAD, FIRST_FORWARD, FORWARD, LOSS, BACKWARD, FIRST_UPDATE, UPDATE, WAIT = range(len(PHASES))
"""Phases of a step. Waiting within a phase counts as part of it."""

CLOCKS = len(PHASES) + 1
"""Places in ``clocks``: the cycles of each phase, and when the last one ended."""


@traced(returns=lambda array, at: types.int64)
def add_one(array, at):
    """Add one to an element, visible to all threads at once; return what it was before."""
    return array.builder.atomic_rmw("add", array.address(at), I64(1), "seq_cst")


@intrinsic
def pause(typing_context):
    """Tell the core that this is a waiting loop."""

    def codegen(context, builder, signature, args):
        if "x86" in builder.module.triple:
            call_llvm(builder, "llvm.x86.sse2.pause", ir.VoidType())
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def cycles(typing_context):
    """Return the processor's time stamp counter; 0 where a program may not read one."""

    def codegen(context, builder, signature, args):
        if "x86" not in builder.module.triple:
            return I64(0)
        return call_llvm(builder, "llvm.readcyclecounter", I64)

    return types.int64(), codegen


@intrinsic
def yield_core(typing_context):
    """Let another thread of the system run on this core."""

    def codegen(context, builder, signature, args):
        name = "SwitchToThread" if "windows" in builder.module.triple else "sched_yield"
        call_llvm(builder, name, I32)
        return context.get_dummy_value()

    return types.void(), codegen


@kernel
def barrier(sync, size):
    """Wait until all threads of the team are here."""
    if size == 1:
        return
    goal = add_one(sync, ARRIVED) // size * size + size
    spins = 0
    while peek(sync, ARRIVED) < goal and not peek(sync, FAILED):
        spins += 1
        if spins < SPINS:
            pause()
        else:
            yield_core()


@part
def profile(clocks, phase):
    """Add, in the profiled build, the cycles since the last call to those of a phase."""
    if PROFILED:
        now, last = cycles(), CLOCKS - 1
        clocks[phase] += now - clocks[last]
        clocks[last] = now
