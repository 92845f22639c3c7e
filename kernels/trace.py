"""Intrinsics written as plain Python: :func:`traced` functions run while Numba compiles, and emit code as they go.

Their arguments arrive as traced values: integers as :class:`Int`, arrays as `Memory`, vectors as `Vector`, and named
tuples with such fields. Operators emit one instruction each. Python's own loops unroll; :func:`loop` emits a loop.
"""

import inspect

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .simd import I64, Memory, Vector, VectorType, spread


class Int:
    """An integer of 64 bits, or a condition."""

    def __init__(self, builder, value):
        self.builder, self.value = builder, value

    def of(self, number):
        """Return a number as a traced integer."""
        return number if isinstance(number, Int) else Int(self.builder, I64(number))

    def _with(self, instruction, other, *, swapped=False):
        left, right = (self.of(other), self) if swapped else (self, self.of(other))
        return Int(self.builder, getattr(self.builder, instruction)(left.value, right.value))

    def _compare(self, operator, other):
        return Int(self.builder, self.builder.icmp_signed(operator, self.value, self.of(other).value))

    def __add__(self, other):
        return self._with("add", other)

    def __sub__(self, other):
        return self._with("sub", other)

    def __rsub__(self, other):
        return self._with("sub", other, swapped=True)

    def __mul__(self, other):
        return self._with("mul", other)

    def __and__(self, other):
        return self._with("and_", other)

    def __or__(self, other):
        return self._with("or_", other)

    def __rshift__(self, other):
        return self._with("ashr", other)

    __radd__, __rmul__ = __add__, __mul__

    def __invert__(self):
        return Int(self.builder, self.builder.not_(self.value))

    def __lt__(self, other):
        return self._compare("<", other)

    def __gt__(self, other):
        return self._compare(">", other)

    def __eq__(self, other):
        return self._compare("==", other)

    def __ne__(self, other):
        return self._compare("!=", other)

    __hash__ = None  # type: ignore[assignment]

    def choose(self, a, b):
        """Return ``a`` if this condition holds, else ``b``, both integers."""
        a = a if isinstance(a, Int) else b.of(a)
        return Int(self.builder, self.builder.select(self.value, a.value, a.of(b).value))

    def bit_count(self):
        """Return how many bits are set."""
        return Int(self.builder, self.builder.ctpop(self.value))

    def lowest_bit(self):
        """Return the place of the lowest bit that is set; one must be."""
        return Int(self.builder, self.builder.cttz(self.value, ir.IntType(1)(1)))


class Real:
    """A floating-point number of any type."""

    def __init__(self, context, builder, kind, value):
        self.context, self.builder, self.kind, self.value = context, builder, kind, value

    def vector(self, memory):
        """Return a vector with the number in every lane, of the dtype of an array."""
        number = self.context.cast(self.builder, self.value, self.kind, memory.dtype)
        return Vector(self.builder, spread(self.builder, memory.vector_type, number))


def _trace(context, builder, kind, value):
    """Return an argument as a traced value."""
    if isinstance(kind, types.Array):
        return Memory(context, builder, kind, value)
    if isinstance(kind, VectorType):
        return Vector(builder, value)
    if isinstance(kind, types.Integer):
        return Int(builder, context.cast(builder, value, kind, types.int64))
    if isinstance(kind, types.Boolean):
        return Int(builder, value)
    if isinstance(kind, types.NamedTuple):
        fields = (_trace(context, builder, t, builder.extract_value(value, i)) for i, t in enumerate(kind.types))
        return kind.instance_class(*fields)
    return Real(context, builder, kind, value) if isinstance(kind, types.Float) else value


def traced(function):
    """Make an intrinsic, which returns nothing, of a function of traced values."""

    def typing(typing_context, *args):
        def codegen(context, builder, signature, values):
            function(*(_trace(context, builder, *pair) for pair in zip(signature.args, values, strict=True)))
            return context.get_dummy_value()

        return types.void(*args), codegen

    names = ["typing_context", *inspect.signature(function).parameters]
    parameters = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_ONLY) for name in names]
    typing.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    typing.__name__, typing.__doc__ = function.__name__, function.__doc__
    return intrinsic(typing)


# Control flow --------------------------------------------------------------------------------------------------------


def switch(value, cases):
    """Emit ``cases[value]()``."""
    builder = value.builder
    done = builder.append_basic_block("done")
    choice = builder.switch(value.value, done)
    for number, emit in cases.items():
        block = builder.append_basic_block(f"case.{number}")
        choice.add_case(I64(number), block)
        builder.position_at_end(block)
        emit()
        builder.branch(done)
    builder.position_at_end(done)


def loop(n, state, body):
    """Emit ``for k in range(n): state = body(k, state)``, with the state, traced values, in registers."""
    first = n.of(0)
    _, *state = loop_while([first, *state], lambda state: state[0] < n, lambda s: [s[0] + 1, *body(s[0], s[1:])])
    return state


def loop_while(state, condition, body):
    """Emit ``while condition(state): state = body(state)``, with the state, traced values, in registers."""
    builder = state[0].builder
    before = builder.block
    head, inside, after = (builder.append_basic_block(f"loop.{name}") for name in ("head", "body", "after"))
    builder.branch(head)
    builder.position_at_end(head)
    phis = [type(value)(builder, builder.phi(value.value.type)) for value in state]
    builder.cbranch(condition(phis).value, inside, after)
    builder.position_at_end(inside)
    new = body(phis)
    for phi, start, value in zip(phis, state, new, strict=True):
        phi.value.add_incoming(start.value, before)
        phi.value.add_incoming(value.value, builder.block)
    builder.branch(head)
    builder.position_at_end(after)
    return phis


def if_then(condition, emit):
    """Emit ``if condition: emit()``."""
    with condition.builder.if_then(condition.value):
        emit()


def either(condition, values, emit):
    """Emit ``values if condition else emit()``."""
    builder = condition.builder
    with builder.if_else(condition.value) as (then, otherwise):
        with then:
            before = builder.block
        with otherwise:
            others = emit()
            after = builder.block
    phis = [type(value)(builder, builder.phi(value.value.type)) for value in values]
    for phi, value, other in zip(phis, values, others, strict=True):
        phi.value.add_incoming(value.value, before)
        phi.value.add_incoming(other.value, after)
    return phis
