"""Intrinsics written as plain Python: `traced` functions run while Numba compiles, and emit code as they go.

Their arguments arrive as traced values: integers as `Int`, arrays as `Memory`, vectors as `Vector`, floats as `Real`,
and named tuples with such fields. Each operator emits one instruction. Python's own loops are unrolled; `loop` emits a
loop.
"""

import inspect

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .jit import CHECKED
from .simd import I32, I64, Vector, VectorType, binary, call_llvm, comparison, spread


class Int:
    """An integer of 64 bits, or a condition."""

    def __init__(self, builder, value):
        self.builder, self.value = builder, value

    __add__ = __radd__ = binary("add")
    __sub__, __floordiv__ = binary("sub"), binary("sdiv")
    __mul__ = __rmul__ = binary("mul")
    __and__, __or__, __rshift__ = binary("and_"), binary("or_"), binary("ashr")
    __lt__, __gt__ = comparison("icmp_signed", "<"), comparison("icmp_signed", ">")
    __eq__, __ne__ = comparison("icmp_signed", "=="), comparison("icmp_signed", "!=")
    __hash__ = None  # type: ignore[assignment]

    def __invert__(self):
        return Int(self.builder, self.builder.not_(self.value))

    def of(self, number):
        """Return a number as a traced integer."""
        return number if isinstance(number, Int) else Int(self.builder, I64(number))

    def choose(self, a, b):
        """Return ``a`` if this condition holds, else ``b``, one of them a traced integer."""
        a = a if isinstance(a, Int) else b.of(a)
        return Int(self.builder, self.builder.select(self.value, a.value, a.of(b).value))

    def bit_count(self):
        """Return how many bits are set."""
        return Int(self.builder, self.builder.ctpop(self.value))

    def lowest_bit(self, *, is_set=True):
        """Return the place of the lowest bit that is set; 64 if none is, and if this is allowed."""
        return Int(self.builder, self.builder.cttz(self.value, ir.IntType(1)(int(is_set))))


class Real:
    """A floating-point number."""

    def __init__(self, context, builder, kind, value):
        self.context, self.builder, self.kind, self.value = context, builder, kind, value

    def cast(self, dtype):
        """Return the number in another type."""
        return self.context.cast(self.builder, self.value, self.kind, dtype)

    def vector(self, like):
        """Return a vector with the number in every lane, of the dtype of an array or vector."""
        return Vector(self.builder, spread(self.builder, like.vector_type, self.cast(like.dtype)))


class Memory:
    """An array: its loads and stores, with bounds checks in the checked build."""

    def __init__(self, context, builder, array_type, array):
        self.context, self.builder, self.dtype = context, builder, array_type.dtype
        struct = context.make_array(array_type)(context, builder, array)
        self.data, self.size = struct.data, struct.nitems
        self.align = self.dtype.bitwidth // 8

    @property
    def count(self):
        """Elements in a vector."""
        return VectorType(self.dtype).count

    @property
    def vector_type(self):
        """LLVM's type of a vector of its elements, which must be floats."""
        return self.context.get_value_type(VectorType(self.dtype))

    def constant(self, number):
        """Return a vector with a Python number in every lane."""
        return Vector(self.builder, ir.Constant(self.vector_type, [float(number)] * self.count))

    def address(self, at, length=1):
        """Emit the address of element ``at``, the first of ``length`` that are accessed."""
        at, length = (i.value if isinstance(i, Int) else I64(i) for i in (at, length))
        if CHECKED:
            b = self.builder
            outside = b.or_(b.icmp_signed("<", at, I64(0)), b.icmp_signed(">", b.add(at, length), self.size))
            with b.if_then(outside, likely=False):
                self.context.call_conv.return_user_exc(b, IndexError, ("a kernel reached beyond an array",))
        return self.builder.gep(self.data, [at])

    def _vector_address(self, at):
        return self.builder.bitcast(self.address(at, self.count), self.vector_type.as_pointer())

    def prefetch(self, at, *, near=False, to_write=False):
        """Prefetch the cache line of element ``at``, which need not exist, into the L2 cache; `near` is into L1."""
        address = self.builder.bitcast(self.builder.gep(self.data, [at.value]), ir.IntType(8).as_pointer())
        hint = I32(int(to_write)), I32(3 if near or to_write else 2), I32(1)
        call_llvm(self.builder, "llvm.prefetch.p0", ir.VoidType(), address, *hint)

    def number(self, at):
        """Load one element."""
        return Real(self.context, self.builder, self.dtype, self.builder.load(self.address(at)))

    def index(self, at):
        """Load one element, an integer."""
        return Int(self.builder, self.builder.zext(self.builder.load(self.address(at)), I64))

    def set(self, at, number):
        """Store one element."""
        self.builder.store(number.value, self.address(at))

    def broadcast(self, at):
        """Load one element into every lane of a vector."""
        return self.number(at).vector(self)

    def vector(self, at):
        """Load one vector."""
        return Vector(self.builder, self.builder.load(self._vector_address(at), align=self.align))

    def vector_of_either(self, condition, other, other_at, at):
        """Load a vector of ``other`` if the condition holds, else of this array."""
        address = self.builder.select(condition.value, other._vector_address(other_at), self._vector_address(at))
        return Vector(self.builder, self.builder.load(address, align=self.align))

    def put(self, at, vector):
        """Store one vector."""
        self.builder.store(vector.value, self._vector_address(at), align=self.align)


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
    if isinstance(kind, types.BaseNamedTuple):
        fields = (_trace(context, builder, t, builder.extract_value(value, i)) for i, t in enumerate(kind.types))
        return kind.instance_class(*fields)
    return Real(context, builder, kind, value) if isinstance(kind, types.Float) else value


def traced(function=None, *, returns=None):
    """Make an intrinsic of a function of traced values; ``returns(*types of the arguments)`` is the type of its result.

    Without it, the intrinsic returns nothing.
    """
    if function is None:
        return lambda function: traced(function, returns=returns)

    def typing(typing_context, *kinds):
        def codegen(context, builder, signature, values):
            args = (_trace(context, builder, kind, value) for kind, value in zip(kinds, values, strict=True))
            result = function(*args)
            return context.get_dummy_value() if returns is None else getattr(result, "value", result)

        return (types.void if returns is None else returns(*kinds))(*kinds), codegen

    return _intrinsic(typing, function)


def formula(function):
    """Make a formula callable from kernels, with vectors and numbers, which are broadcast to every lane."""

    def typing(typing_context, *kinds):
        vector = next((kind for kind in kinds if isinstance(kind, VectorType)), None)

        def codegen(context, builder, signature, values):
            like = next(Vector(builder, v) for kind, v in zip(kinds, values, strict=True) if kind is vector)
            pairs = zip(kinds, values, strict=True)
            args = (Vector(builder, v) if k is vector else Real(context, builder, k, v).vector(like) for k, v in pairs)
            return function(*args).value

        return None if vector is None else (vector(*kinds), codegen)

    return _intrinsic(typing, function)


def _intrinsic(typing, function):
    names = ["typing_context", *inspect.signature(function).parameters]
    parameters = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_ONLY) for name in names]
    typing.__signature__ = inspect.Signature(parameters)
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
