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

FAILED, TAKEN, PATIENCE = range(3)
"""Places in the first line of ``sync``. If FAILED is set, nobody waits any more: a thread of the team has failed. TAKEN
counts the chunks that threads have taken to predict. PATIENCE is for how many cycles a thread spins before it yields
its core at every turn: SPIN_CYCLES, or 0 if there are more threads than cores."""

LINE = 8
"""Elements of ``sync`` in a cache line."""

SPIN_CYCLES = 20_000
"""Some 8 microseconds. Cycles, since a pause takes 65 of them on one processor and 140 on another."""

SPINS = 400
"""Turns after which it does so where a program cannot read the clock."""

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


@traced
def publish(array, at, number):
    """Store an element after all that this thread has stored before, for threads that `peek` at it."""
    array.builder.store_atomic(number.value, array.address(at), "release", array.align)


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


@part
def rounds_of(size):
    """Return in how many rounds the threads of a team meet: the logarithm of their number."""
    rounds = 0
    while 1 << rounds < size:
        rounds += 1
    return rounds


def sync_size(size):
    """Return how many elements ``sync`` has: a line for `FAILED` and so on, and a line for each flag and counter."""
    return LINE * (1 + size * (1 + (size - 1).bit_length()))


@kernel
def barrier(team):
    """Wait until all threads of the team are here.

    In round k, thread i tells thread i + 2**k that it is here, and with it all those that it has heard of. Every flag
    has one writer, one reader, and a cache line of its own. It holds the number of the barrier, which only grows.
    (Hensgen, Finkel, Manber 1988, Two algorithms for barrier synchronization)
    """
    if team.size == 1:
        return
    sync, rounds = team.sync, rounds_of(team.size)
    own = LINE * (1 + team.rank * (1 + rounds))
    number = sync[own] + 1
    sync[own] = number
    for k in range(rounds):
        other = (team.rank + (1 << k)) % team.size
        publish(sync, LINE * (2 + other * (1 + rounds) + k), number)
        wait_for(sync, own + LINE * (1 + k), number)


@kernel
def wait_for(sync, flag, number):
    """Wait until a flag has reached a number, or a thread has failed."""
    start, spins, patience = cycles(), 0, sync[PATIENCE]
    while peek(sync, flag) < number and not peek(sync, FAILED):
        spins += 1
        if spins < SPINS and cycles() - start < patience:
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
