"""Subnormal numbers count as zero while a kernel runs.

An Intel core takes some 150 cycles to compute with a number below the smallest normal one, 1.2e-38 in float32. Nothing
of use is that small, but an optimizer's state decays into such numbers and stays there. So the entries set
flush-to-zero (results) and denormals-are-zero (operands) in their own thread, and put the caller's setting back.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils, compiler, compiler_machinery, lowering, typed_passes
from numba.extending import intrinsic

from .simd import I32, I64, call_llvm

X86_BITS = 0x8040
"""FTZ and DAZ in MXCSR (Intel 64 manual, volume 1, 10.2.3)."""

ARM_BITS = 1 << 24
"""FZ in FPCR, which does both (Arm Architecture Reference Manual, C5.2.8)."""


def _read(builder, place):
    """Emit the control word, 0 on other processors. ``place`` is one for 32 bits."""
    if "x86" in builder.module.triple:
        call_llvm(builder, "llvm.x86.sse.stmxcsr", ir.VoidType(), builder.bitcast(place, _POINTER))
        return builder.zext(builder.load(place), I64)
    if "aarch64" in builder.module.triple or "arm64" in builder.module.triple:
        return call_llvm(builder, "llvm.aarch64.get.fpcr", I64)
    return I64(0)


def _write(builder, place, word):
    """Emit the change of the control word."""
    if "x86" in builder.module.triple:
        builder.store(builder.trunc(word, I32), place)
        call_llvm(builder, "llvm.x86.sse.ldmxcsr", ir.VoidType(), builder.bitcast(place, _POINTER))
    elif "aarch64" in builder.module.triple or "arm64" in builder.module.triple:
        call_llvm(builder, "llvm.aarch64.set.fpcr", ir.VoidType(), word)


_POINTER = ir.IntType(8).as_pointer()


@intrinsic
def control_word(typing_context):
    """Return the floating-point control word of this thread; 0 on unknown processors."""

    def codegen(context, builder, signature, args):
        return _read(builder, cgutils.alloca_once(builder, I32))

    return types.int64(), codegen


class _FlushingLower(lowering.Lower):
    """Lower a function that flushes subnormals from its first instruction to every return, those of errors too."""

    def post_lower(self):
        super().post_lower()
        builder = self.builder
        with builder.goto_entry_block():
            place = builder.alloca(I32)
            before = _read(builder, place)
            bits = X86_BITS if "x86" in builder.module.triple else ARM_BITS
            _write(builder, place, builder.or_(before, I64(bits)))
        for block in self.function.blocks:
            if isinstance(block.terminator, ir.Ret):
                with builder.goto_block(block):  # before its terminator
                    _write(builder, place, before)


@compiler_machinery.register_pass(mutates_CFG=True, analysis_only=False)
class _FlushingLowering(typed_passes.NativeLowering):
    _name = "flushing_native_lowering"

    @property
    def lowering_class(self):
        return _FlushingLower


class FlushingCompiler(compiler.CompilerBase):
    """Numba's compiler, for a function that flushes subnormals and puts the caller's setting back."""

    def define_pipelines(self):
        """Return the usual passes, with another lowering."""
        passes = compiler.DefaultPassBuilder.define_nopython_pipeline(self.state)
        passes.passes = [
            (_FlushingLowering if kind is typed_passes.NativeLowering else kind, why) for kind, why in passes.passes
        ]
        passes.finalize()
        return [passes]
