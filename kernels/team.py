"""Threads that train together: who owns which outputs, and the barrier at which they meet.

A team is ``size`` threads that run the same kernel, each with its own ``rank``. Outputs are divided, sums never: so no
bit depends on the size of the team. ``meetings[0]`` is a counter that only grows; a thread that reaches its ``n``-th
barrier adds one to it and waits until it is ``n * size``. Where ``meetings[1]`` is set nobody waits any more: a thread
of the team has failed. ``meetings[2]`` sums up long waits, in cycles, and ``meetings[3]`` says how many
cycles all took: where they are many, other programs use the cores.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .jit import PROFILED, kernel, part
from .simd import I64, Memory, peek

SPINS = 400
"""Turns of the waiting loop, some 5 microseconds, after which a thread lets others have its core at every turn."""

LONG_WAIT = 200_000
"""Cycles of a wait that tells of other programs that use the cores: some 60 microseconds."""

PHASES = (
    "outside",
    "transpose",
    "take",
    "first forward",
    "forward",
    "loss",
    "backward",
    "first update",
    "update",
    "wait",
)
OUTSIDE, TRANSPOSE, TAKE, FIRST_FORWARD, FORWARD, LOSS, BACKWARD, FIRST_UPDATE, UPDATE, WAIT = range(len(PHASES))
"""What a step consists of. What a thread waits for within a phase counts as a part of it."""

CLOCKS = len(PHASES) + 1
"""Places at the end of ``notes`` where the profiled build counts: the cycles of each phase, and when the last ended."""


@intrinsic
def arrive(typing_context, meetings):
    """Add one to ``meetings[0]``, seen by all threads at once; give what it was before."""

    def codegen(context, builder, signature, args):
        address = Memory(context, builder, meetings, args[0]).address(I64(0))
        return builder.atomic_rmw("add", address, I64(1), "seq_cst")

    return types.int64(meetings), codegen


@intrinsic
def pause(typing_context):
    """Tell the core that it runs a waiting loop."""

    def codegen(context, builder, signature, args):
        if "x86" in builder.module.triple:
            function = ir.FunctionType(ir.VoidType(), [])
            builder.call(cgutils.get_or_insert_function(builder.module, function, "llvm.x86.sse2.pause"), [])
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def cycles(typing_context):
    """Give the count of a clock of the processor; 0 where a program may not read one."""

    def codegen(context, builder, signature, args):
        if "x86" not in builder.module.triple:
            return I64(0)
        function = ir.FunctionType(I64, [])
        return builder.call(cgutils.get_or_insert_function(builder.module, function, "llvm.readcyclecounter"), [])

    return types.int64(), codegen


@intrinsic
def yield_core(typing_context):
    """Let another thread of the system run."""

    def codegen(context, builder, signature, args):
        name = "SwitchToThread" if "windows" in builder.module.triple else "sched_yield"
        function = ir.FunctionType(ir.IntType(32), [])
        builder.call(cgutils.get_or_insert_function(builder.module, function, name), [])
        return context.get_dummy_value()

    return types.void(), codegen


@kernel
def meet(meetings, size):
    """Wait until all threads of the team are here: the barrier."""
    if size == 1:
        return
    goal = arrive(meetings) // size * size + size
    start, spins = cycles(), 0
    while peek(meetings, 0) < goal and not peek(meetings, 1):
        spins += 1
        if spins < SPINS:
            pause()
        else:
            yield_core()
    waited = cycles() - start
    if waited > LONG_WAIT:
        meetings[2] += waited  # only a hint, so one may be missed


@part
def lap(notes, phase):
    """Count, in the profiled build, the cycles since the last lap as those of a phase."""
    if PROFILED:
        now, end = cycles(), len(notes)
        notes[end - CLOCKS + phase] += now - notes[end - 1]
        notes[end - 1] = now
