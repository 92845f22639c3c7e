"""Vectors of one register: the Numba type, loads and stores, and formulas of whole vectors.

A formula is a plain Python function of `Vector`. It runs while Numba compiles a kernel, and every operator emits one
LLVM instruction. `formula` makes it callable from kernels; the register tile takes formulas as they are.
"""

import inspect

import numpy as np
from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

from .jit import CHECKED

_FEATURES = binding.get_host_cpu_features()
AVX512 = bool(_FEATURES.get("avx512f"))
AVX2 = bool(_FEATURES.get("avx2"))
BMI2 = bool(_FEATURES.get("bmi2"))
VECTOR_BYTES = 64 if AVX512 else 32 if AVX2 else 16
REGISTERS = 32 if AVX512 or _FEATURES.get("neon") else 16

I32, I64 = ir.IntType(32), ir.IntType(64)


def lanes(dtype) -> int:
    """Return how many numbers of a dtype fit in one vector."""
    return VECTOR_BYTES // np.dtype(dtype).itemsize


class VectorType(types.Type):
    """A vector register of float32 or float64 numbers."""

    def __init__(self, dtype):
        self.dtype = dtype
        self.count = VECTOR_BYTES * 8 // dtype.bitwidth
        super().__init__(name=f"vector{self.count}x{dtype}")


@register_model(VectorType)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager, fe_type):
        super().__init__(manager, fe_type, ir.VectorType(manager[fe_type.dtype].get_value_type(), fe_type.count))


# Formulas -------------------------------------------------------------------------------------------------------------


class Vector:
    """A vector in a formula: operators take vectors and plain numbers, and emit code."""

    def __init__(self, builder, value):
        self.builder = builder
        self.value = value

    @property
    def count(self) -> int:
        """Number of lanes."""
        return self.value.type.count

    @property
    def bits(self) -> int:
        """Bits of one lane."""
        return 64 if isinstance(self.value.type.element, ir.DoubleType) else 32

    def of(self, number):
        """Return a vector of the same type with ``number`` in every lane."""
        if isinstance(number, Vector):
            return number
        return Vector(self.builder, ir.Constant(self.value.type, [float(number)] * self.count))

    def _with(self, instruction, other, *, swapped=False):
        left, right = (self.of(other), self) if swapped else (self, self.of(other))
        return Vector(self.builder, getattr(self.builder, instruction)(left.value, right.value))

    def __add__(self, other):
        return self._with("fadd", other)

    def __sub__(self, other):
        return self._with("fsub", other)

    def __rsub__(self, other):
        return self._with("fsub", other, swapped=True)

    def __mul__(self, other):
        return self._with("fmul", other)

    def __truediv__(self, other):
        return self._with("fdiv", other)

    def __rtruediv__(self, other):
        return self._with("fdiv", other, swapped=True)

    def __neg__(self):
        return Vector(self.builder, self.builder.fneg(self.value))

    __radd__, __rmul__ = __add__, __mul__

    def __gt__(self, other):
        return Vector(self.builder, self.builder.fcmp_ordered(">", self.value, self.of(other).value))

    def __eq__(self, other):
        return Vector(self.builder, self.builder.fcmp_ordered("==", self.value, self.of(other).value))

    __hash__ = None  # type: ignore[assignment]


def fma(a, b, c):
    """Return ``a * b + c``, rounded once."""
    kind = a.value.type
    # llvmlite's declare_intrinsic refuses vector types, so the overload is named by hand.
    name = f"llvm.fma.v{kind.count}f{a.bits}"
    function = cgutils.get_or_insert_function(a.builder.module, ir.FunctionType(kind, [kind] * 3), name)
    return Vector(a.builder, a.builder.call(function, [a.of(v).value for v in (a, b, c)]))


def where(mask, a, b):
    """Return ``a`` in the lanes where the mask is set, ``b`` in the others."""
    vector = a if isinstance(a, Vector) else b
    return Vector(mask.builder, mask.builder.select(mask.value, vector.of(a).value, vector.of(b).value))


def sqrt(x):
    """Return the square root, rounded once."""
    kind = x.value.type
    function = cgutils.get_or_insert_function(
        x.builder.module, ir.FunctionType(kind, [kind]), f"llvm.sqrt.v{kind.count}f{x.bits}"
    )
    return Vector(x.builder, x.builder.call(function, [x.value]))


def maximum(bound, v):
    """Return the larger of both; a NaN in ``v`` stays one."""
    vector = bound if isinstance(bound, Vector) else v
    return where(vector.of(bound) > v, bound, v)


def minimum(bound, v):
    """Return the smaller of both; a NaN in ``v`` stays one."""
    vector = bound if isinstance(bound, Vector) else v
    return where(v > bound, vector.of(bound), v)


# What kernels call ----------------------------------------------------------------------------------------------------


def formula(function):
    """Make a formula callable from kernels, with vectors and numbers, which are broadcast to every lane."""
    names = list(inspect.signature(function).parameters)

    def typing(typing_context, *args):
        vector = next((a for a in args if isinstance(a, VectorType)), None)
        if vector is None:
            return None

        def codegen(context, builder, signature, values):
            operands = [
                Vector(builder, v if isinstance(t, VectorType) else _splat(context, builder, vector, t, v))
                for t, v in zip(signature.args, values, strict=True)
            ]
            return function(*operands).value

        return vector(*args), codegen

    parameters = [inspect.Parameter(n, inspect.Parameter.POSITIONAL_ONLY) for n in ["typing_context", *names]]
    typing.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    typing.__name__, typing.__doc__ = function.__name__, function.__doc__
    return intrinsic(typing)


def _splat(context, builder, vector, kind, value):
    return spread(builder, context.get_value_type(vector), context.cast(builder, value, kind, vector.dtype))


class Memory:
    """An array in the code of an intrinsic: its loads and stores, with bounds checks in the checked build."""

    def __init__(self, context, builder, array_type, array):
        self.context, self.builder = context, builder
        self.align = array_type.dtype.bitwidth // 8
        self.dtype = array_type.dtype
        struct = context.make_array(array_type)(context, builder, array)
        self.data, self.size = struct.data, struct.nitems

    @property
    def vector_type(self):
        """LLVM type of a vector of its elements, which must be floats."""
        return self.context.get_value_type(VectorType(self.dtype))

    def address(self, at, length=1):
        """Emit the address of element ``at``, the first of ``length`` that are accessed."""
        if CHECKED:
            length = length if isinstance(length, ir.Value) else I64(length)
            outside = self.builder.or_(
                self.builder.icmp_signed("<", at, I64(0)),
                self.builder.icmp_signed(">", self.builder.add(at, length), self.size),
            )
            with self.builder.if_then(outside, likely=False):
                self.context.call_conv.return_user_exc(self.builder, IndexError, ("a kernel reached beyond an array",))
        return self.builder.gep(self.data, [at])

    def _vector_address(self, at):
        return self.builder.bitcast(self.address(at, self.vector_type.count), self.vector_type.as_pointer())

    def prefetch(self, at, *, near=False, to_write=False):
        """Emit a prefetch of the cache line of element ``at``, which need not exist: `near` is into the L1 cache."""
        address = self.builder.bitcast(self.builder.gep(self.data, [at]), ir.IntType(8).as_pointer())
        kind = ir.FunctionType(ir.VoidType(), [address.type, I32, I32, I32])
        function = cgutils.get_or_insert_function(self.builder.module, kind, "llvm.prefetch.p0")
        level = 3 if near or to_write else 2  # L1 or L2
        self.builder.call(function, [address, I32(int(to_write)), I32(level), I32(1)])

    def number(self, at):
        """Emit the load of one element."""
        return self.builder.load(self.address(at))

    def set(self, at, number):
        """Emit the store of one element."""
        self.builder.store(number, self.address(at))

    def everywhere(self, at):
        """Emit the load of one element, broadcast to every lane."""
        return self.broadcast(self.number(at))

    def broadcast(self, number):
        """Emit a vector of such elements with `number` in every lane."""
        return Vector(self.builder, spread(self.builder, self.vector_type, number))

    def vector(self, at):
        """Emit the load of one vector."""
        return Vector(self.builder, self.builder.load(self._vector_address(at), align=self.align))

    def vector_of_either(self, condition, other, other_at, at):
        """Emit the load of a vector of ``other`` if the condition holds, else of this array."""
        addresses = other._vector_address(other_at), self._vector_address(at)
        return self.builder.load(self.builder.select(condition, *addresses), align=self.align)

    def put(self, at, vector):
        """Emit the store of one vector."""
        self.builder.store(vector.value, self._vector_address(at), align=self.align)


def spread(builder, vector_type, number):
    """Emit a vector with ``number`` in every lane."""
    one = builder.insert_element(ir.Constant(vector_type, ir.Undefined), number, I32(0))
    return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(I32, vector_type.count), [0] * vector_type.count))


def unpack(context, builder, kind, value):
    """Emit the fields of a named tuple: arrays as `Memory`, integers as they are."""
    fields = [builder.extract_value(value, i) for i in range(len(kind.types))]
    return [
        Memory(context, builder, t, v) if isinstance(t, types.Array) else context.cast(builder, v, t, types.int64)
        for t, v in zip(kind.types, fields, strict=True)
    ]


@intrinsic
def lane_count(typing_context, array):
    """Return how many numbers of the array's dtype fit in one vector."""

    def codegen(context, builder, signature, args):
        return I64(VectorType(array.dtype).count)

    return types.int64(array), codegen


@intrinsic
def load(typing_context, array, at):
    """Return the vector at ``array[at:]``."""

    def codegen(context, builder, signature, args):
        return Memory(context, builder, array, args[0]).vector(args[1]).value

    return VectorType(array.dtype)(array, types.int64), codegen


@intrinsic
def load_part(typing_context, array, at, count):
    """Return the vector at ``array[at:]``, of which only the first `count` lanes are read; the others are 0."""
    vector = VectorType(array.dtype)

    def codegen(context, builder, signature, args):
        lanes = I64(vector.count)
        count = builder.select(builder.icmp_signed("<", args[2], lanes), args[2], lanes)
        value_type = context.get_value_type(vector)
        address = Memory(context, builder, array, args[0]).address(args[1], count)
        address = builder.bitcast(address, value_type.as_pointer())
        mask = first_mask(builder, count, vector.count)
        zeros = ir.Constant(value_type, [0.0] * vector.count)
        name = f"llvm.masked.load.v{vector.count}f{array.dtype.bitwidth}.p0"
        kind = ir.FunctionType(value_type, [address.type, I32, mask.type, value_type])
        function = cgutils.get_or_insert_function(builder.module, kind, name)
        return builder.call(function, [address, I32(array.dtype.bitwidth // 8), mask, zeros])

    return vector(array, types.int64, types.int64), codegen


@intrinsic
def first_lanes(typing_context, vector, count, fill):
    """Return a vector with its first `count` lanes, and `fill` in the others."""

    def codegen(context, builder, signature, args):
        inside = first_mask(builder, args[1], vector.count)
        return builder.select(inside, args[0], _splat(context, builder, vector, signature.args[2], args[2]))

    return vector(vector, types.int64, fill), codegen


def first_mask(builder, count, lanes):
    """Emit a mask of the first ``count`` lanes."""
    numbers = ir.VectorType(I64, lanes)
    return builder.icmp_signed("<", ir.Constant(numbers, list(range(lanes))), spread(builder, numbers, count))


@intrinsic
def store(typing_context, array, at, value):
    """Write a vector to ``array[at:]``."""

    def codegen(context, builder, signature, args):
        Memory(context, builder, array, args[0]).put(args[1], Vector(builder, args[2]))
        return context.get_dummy_value()

    return types.void(array, types.int64, value), codegen


@intrinsic
def splat(typing_context, array, number):
    """Return a vector of the array's dtype with `number` in every lane."""
    vector = VectorType(array.dtype)

    def codegen(context, builder, signature, args):
        return _splat(context, builder, vector, signature.args[1], args[1])

    return vector(array, number), codegen


def fold(combine, v):
    """Emit all lanes combined, upper half onto lower half: the order depends on nothing but the vector width."""
    width = v.count
    while width > 1:
        width //= 2
        mask = ir.Constant(ir.VectorType(I32, v.count), [(i + width) % v.count for i in range(v.count)])
        v = combine(v, Vector(v.builder, v.builder.shuffle_vector(v.value, v.value, mask)))
    return v.builder.extract_element(v.value, I32(0))


@intrinsic
def reduce_add(typing_context, vector):
    """Return the sum of all lanes, in the order of `fold`."""

    def codegen(context, builder, signature, args):
        return fold(lambda a, b: a + b, Vector(builder, args[0]))

    return vector.dtype(vector), codegen


@intrinsic
def lane(typing_context, vector, i):
    """Return a lane of a vector."""

    def codegen(context, builder, signature, args):
        return builder.extract_element(*args)

    return vector.dtype(vector, types.int64), codegen


@intrinsic
def set_lane(typing_context, vector, i, number):
    """Return a vector with another number in a lane."""

    def codegen(context, builder, signature, args):
        number = context.cast(builder, args[2], signature.args[2], vector.dtype)
        return builder.insert_element(args[0], number, args[1])

    return vector(vector, types.int64, number), codegen


@intrinsic
def transpose_square(typing_context, out, out_at, out_pitch, source, source_at, source_pitch):
    """Write the transpose of the lanes x lanes square at ``source[source_at:]`` to ``out[out_at:]``."""

    def codegen(context, builder, signature, args):
        source_memory = Memory(context, builder, source, args[3])
        n = source_memory.vector_type.count
        rows = [source_memory.vector(step(builder, args[4], i, args[5])).value for i in range(n)]
        half = n // 2
        while half:  # swap the off-diagonal halves of each square of 2 * half
            low = [c if not c & half else n + c - half for c in range(n)]
            high = [c + half if not c & half else n + c for c in range(n)]
            masks = [ir.Constant(ir.VectorType(I32, n), mask) for mask in (low, high)]
            for i in range(n):
                if not i & half:
                    pair = rows[i], rows[i + half]
                    rows[i], rows[i + half] = (builder.shuffle_vector(*pair, mask) for mask in masks)
            half //= 2
        out_memory = Memory(context, builder, out, args[0])
        for i, row in enumerate(rows):
            out_memory.put(step(builder, args[1], i, args[2]), Vector(builder, row))
        return context.get_dummy_value()

    i64 = types.int64
    return types.void(out, i64, i64, source, i64, i64), codegen


def step(builder, start, i, stride):
    """Emit ``start + i * stride``."""
    return builder.add(start, builder.mul(I64(i), stride))


def _prefetching(**hint):
    @intrinsic
    def prefetch(typing_context, array, at):
        def codegen(context, builder, signature, args):
            Memory(context, builder, array, args[0]).prefetch(args[1], **hint)
            return context.get_dummy_value()

        return types.void(array, types.int64), codegen

    return prefetch


prefetch, prefetch_near, prefetch_to_write = _prefetching(), _prefetching(near=True), _prefetching(to_write=True)
"""Prefetch the cache line of ``array[at]``, which need not exist: into L2, into L1, or to be written."""


@intrinsic
def peek(typing_context, array, at):
    """Return ``array[at]`` by an atomic load: another thread may write it."""

    def codegen(context, builder, signature, args):
        address = Memory(context, builder, array, args[0]).address(args[1])
        return builder.load_atomic(address, "acquire", array.dtype.bitwidth // 8)

    return array.dtype(array, types.int64), codegen
