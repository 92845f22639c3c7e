"""Vectors of one register: the Numba type, and formulas of whole vectors.

A formula is a plain Python function of `Vector`. It runs while Numba compiles a kernel, and every operator emits one
LLVM instruction. `trace.formula` makes it callable from kernels; the register tile takes formulas as they are.
"""

import numpy as np
from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import models, register_model

_FEATURES = binding.get_host_cpu_features()
AVX512 = bool(_FEATURES.get("avx512f"))
AVX2 = bool(_FEATURES.get("avx2"))
BMI2 = bool(_FEATURES.get("bmi2"))
FMA = bool(_FEATURES.get("fma") or _FEATURES.get("neon"))
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


def binary(instruction, *, swapped=False):
    """Return an operator that emits an instruction."""

    def operator(self, other):
        operands = (self.of(other), self) if swapped else (self, self.of(other))
        return type(self)(self.builder, getattr(self.builder, instruction)(*(operand.value for operand in operands)))

    return operator


def comparison(instruction, relation):
    """Return an operator that emits a comparison."""

    def operator(self, other):
        value = getattr(self.builder, instruction)(relation, self.value, self.of(other).value)
        return type(self)(self.builder, value)

    return operator


class Vector:
    """A vector in a formula: operators take vectors and plain numbers, and emit code."""

    def __init__(self, builder, value):
        self.builder, self.value = builder, value

    __add__ = __radd__ = binary("fadd")
    __sub__, __rsub__ = binary("fsub"), binary("fsub", swapped=True)
    __mul__ = __rmul__ = binary("fmul")
    __truediv__, __rtruediv__ = binary("fdiv"), binary("fdiv", swapped=True)
    __gt__, __eq__ = comparison("fcmp_ordered", ">"), comparison("fcmp_ordered", "==")
    __hash__ = None  # type: ignore[assignment]

    def __neg__(self):
        return Vector(self.builder, self.builder.fneg(self.value))

    @property
    def count(self) -> int:
        """Number of lanes."""
        return self.value.type.count

    @property
    def bits(self) -> int:
        """Bits of one lane."""
        return 64 if isinstance(self.value.type.element, ir.DoubleType) else 32

    @property
    def dtype(self):
        """Numba's type of one lane."""
        return types.float64 if self.bits == 64 else types.float32

    @property
    def vector_type(self):
        """LLVM's type of the vector."""
        return self.value.type

    def of(self, number):
        """Return a vector of the same type with ``number`` in every lane."""
        if isinstance(number, Vector):
            return number
        return Vector(self.builder, ir.Constant(self.value.type, [float(number)] * self.count))

    def widened(self):
        """Return a vector of the same numbers in float64."""
        wide = ir.VectorType(ir.DoubleType(), self.count)
        return self if self.bits == 64 else Vector(self.builder, self.builder.fpext(self.value, wide))

    def bits_of_lanes(self):
        """Return a mask of lanes as an integer of 64 bits, the lowest for the first lane."""
        return self.builder.zext(self.builder.bitcast(self.value, ir.IntType(self.count)), I64)


def call_llvm(builder, name, returns, *args):
    """Emit the call of an intrinsic of LLVM, by its full name: llvmlite's declare_intrinsic refuses vector types."""
    function_type = ir.FunctionType(returns, [arg.type for arg in args])
    return builder.call(cgutils.get_or_insert_function(builder.module, function_type, name), args)


def fma(a, b, c):
    """Return ``a * b + c``, rounded once."""
    args = [a.of(v).value for v in (a, b, c)]
    return Vector(a.builder, call_llvm(a.builder, f"llvm.fma.v{a.count}f{a.bits}", a.value.type, *args))


def where(mask, a, b):
    """Return ``a`` in the lanes where the mask is set, ``b`` in the others."""
    vector = a if isinstance(a, Vector) else b
    return Vector(mask.builder, mask.builder.select(mask.value, vector.of(a).value, vector.of(b).value))


def sqrt(x):
    """Return the square root, rounded once."""
    return Vector(x.builder, call_llvm(x.builder, f"llvm.sqrt.v{x.count}f{x.bits}", x.value.type, x.value))


def maximum(bound, v):
    """Return the larger of both; a NaN in ``v`` stays one."""
    vector = bound if isinstance(bound, Vector) else v
    return where(vector.of(bound) > v, bound, v)


def minimum(bound, v):
    """Return the smaller of both; a NaN in ``v`` stays one."""
    vector = bound if isinstance(bound, Vector) else v
    return where(v > bound, vector.of(bound), v)


def spread(builder, vector_type, number):
    """Emit a vector with ``number`` in every lane."""
    one = builder.insert_element(ir.Constant(vector_type, ir.Undefined), number, I32(0))
    return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(I32, vector_type.count), [0] * vector_type.count))


def shuffle(a, b, lanes):
    """Emit a vector of the lanes of ``a`` and ``b``, counted on from the first to the second."""
    mask = ir.Constant(ir.VectorType(I32, len(lanes)), list(lanes))
    return Vector(a.builder, a.builder.shuffle_vector(a.value, b.value, mask))


def first_mask(builder, count, lanes):
    """Emit a mask of the first ``count`` lanes."""
    numbers = ir.VectorType(I64, lanes)
    return builder.icmp_signed("<", ir.Constant(numbers, list(range(lanes))), spread(builder, numbers, count))


def fold(combine, v):
    """Emit all lanes combined, upper half onto lower half: the order depends on nothing but the vector width."""
    width = v.count
    while width > 1:
        width //= 2
        v = combine(v, shuffle(v, v, [(i + width) % v.count for i in range(v.count)]))
    return v.builder.extract_element(v.value, I32(0))
