"""What kernels are made of besides arithmetic: typed pointers, atomics, calls, and operations that a machine
has and Python has not.

The names of this module and of vmath.py are what the source of a kernel sees. Only the compiler of kernels imports
it.
"""

from __future__ import annotations

import platform
from typing import Any

import numpy as np
from llvmlite import ir

from .language import External, declared, intrinsic, types

int8, int16, int32, int64 = np.int8, np.int16, np.int32, np.int64
uint8, uint16, uint32, uint64 = np.uint8, np.uint16, np.uint32, np.uint64
float32, float64 = np.float32, np.float64
complex64, complex128 = np.complex64, np.complex128
inf, nan = np.inf, np.nan

HEADER = object.__basicsize__  # bytes before an array object's data pointer
_WORD = ir.IntType(64)
_BYTES = {
    "int8": ir.IntType(8), "int16": ir.IntType(16), "int32": ir.IntType(32), "int64": _WORD,
    "float32": ir.FloatType(), "float64": ir.DoubleType(),
    "complex64": ir.LiteralStructType([ir.FloatType()] * 2), "complex128": ir.LiteralStructType([ir.DoubleType()] * 2),
}  # fmt: skip


# --- memory -------------------------------------------------------------------------------------------------


def _pointer(name: str) -> Any:
    """A function from an address to a typed pointer, which is indexed like an array."""
    element = getattr(types, name)
    machine = _BYTES[name.removeprefix("u")]

    @intrinsic
    def pointer(address):
        def emit(builder, arguments):
            return builder.inttoptr(arguments[0], machine.as_pointer())

        return types.pointer(element)(types.int64), emit

    return pointer


at_int8, at_int16, at_int32, at_int64 = (_pointer(f"int{b}") for b in (8, 16, 32, 64))
at_uint8, at_uint16, at_uint32, at_uint64 = (_pointer(f"uint{b}") for b in (8, 16, 32, 64))
at_float32, at_float64 = _pointer("float32"), _pointer("float64")
at_complex64, at_complex128 = _pointer("complex64"), _pointer("complex128")
at_bool = at_uint8  # a boolean is a byte, 0 or 1
at_float16 = at_bfloat16 = at_uint16  # stored numbers are their bits


@intrinsic
def stack_words(count):
    """Address of 512 words on the stack of the calling function."""

    def emit(builder, arguments):
        block = builder.alloca(ir.ArrayType(_WORD, 512))
        return builder.ptrtoint(block, _WORD)

    return types.int64(types.int64), emit


@intrinsic
def call_kernel(address, lo, hi, arguments):
    """Calls the kernel at an address on a slice of the work."""

    def emit(builder, values):
        kind = ir.FunctionType(ir.VoidType(), [_WORD, _WORD, _WORD])
        builder.call(builder.inttoptr(values[0], kind.as_pointer()), values[1:])

    word = types.int64
    return types.void(word, word, word, word), emit


@intrinsic
def atomic_load(address):
    def emit(builder, arguments):
        return builder.load_atomic(builder.inttoptr(arguments[0], _WORD.as_pointer()), "seq_cst", 8)

    return types.int64(types.int64), emit


@intrinsic
def atomic_store(address, value):
    def emit(builder, arguments):
        builder.store_atomic(arguments[1], builder.inttoptr(arguments[0], _WORD.as_pointer()), "seq_cst", 8)

    return types.void(types.int64, types.int64), emit


@intrinsic
def atomic_add(address, value):
    """Adds, and returns what was there before."""

    def emit(builder, arguments):
        pointer = builder.inttoptr(arguments[0], _WORD.as_pointer())
        return builder.atomic_rmw("add", pointer, arguments[1], "seq_cst")

    return types.int64(types.int64, types.int64), emit


@intrinsic
def atomic_swap_if(address, expected, value):
    """Stores a value where the expected one stands; 1 if it did."""

    def emit(builder, arguments):
        pointer = builder.inttoptr(arguments[0], _WORD.as_pointer())
        pair = builder.cmpxchg(pointer, arguments[1], arguments[2], "seq_cst", "seq_cst")
        return builder.zext(builder.extract_value(pair, 1), _WORD)

    return types.int64(types.int64, types.int64, types.int64), emit


_X86 = platform.machine().lower() in ("x86_64", "amd64", "i686")


@intrinsic
def pause():
    """Tells the processor that this is a waiting loop."""

    def emit(builder, arguments):
        if _X86:
            kind = ir.FunctionType(ir.VoidType(), [])
            builder.call(declared(builder.module, kind, "llvm.x86.sse2.pause"), [])

    return types.void(), emit


# Functions of the C library and of Python that the launcher calls; the addresses are resolved in the process.
_word = types.int64
yield_processor = External("sched_yield", types.int32())
mutex_lock = External("pthread_mutex_lock", types.int32(_word))
mutex_unlock = External("pthread_mutex_unlock", types.int32(_word))
condition_wait = External("pthread_cond_wait", types.int32(_word, _word))
condition_broadcast = External("pthread_cond_broadcast", types.int32(_word))
integer_value = External("PyLong_AsLongLong", _word(_word))
release_interpreter = External("PyEval_SaveThread", _word())
acquire_interpreter = External("PyEval_RestoreThread", types.void(_word))
add_reference = External("Py_IncRef", types.void(_word))


# --- machine operations -------------------------------------------------------------------------------------


def _operation(name: str, count: int) -> Any:
    """An LLVM intrinsic of `count` operands of one floating type."""

    def emit(builder, arguments):
        kind = arguments[0].type
        declared = builder.module.declare_intrinsic(name, [kind], ir.FunctionType(kind, [kind] * count))
        return builder.call(declared, arguments)

    if count == 1:

        @intrinsic
        def operation(x):
            return x(x), emit
    elif count == 2:

        @intrinsic
        def operation(x, y):
            return x(x, x), emit
    else:

        @intrinsic
        def operation(x, y, z):
            return x(x, x, x), emit

    return operation


floor, ceil, trunc, round_even = (_operation(f"llvm.{n}", 1) for n in ("floor", "ceil", "trunc", "roundeven"))
sqrt, fabs = _operation("llvm.sqrt", 1), _operation("llvm.fabs", 1)
copysign = _operation("llvm.copysign", 2)
maximum, minimum = _operation("llvm.maximum", 2), _operation("llvm.minimum", 2)  # NaN wins, -0 < +0
fma = _operation("llvm.fma", 3)


def _remainder() -> Any:
    """C's fmod: exact, with the sign of x."""

    @intrinsic
    def remainder(x, y):
        def emit(builder, arguments):
            return builder.frem(*arguments)

        return x(x, x), emit

    return remainder


fmod = _remainder()


def _reinterpret(source: str, result: str) -> Any:
    """The same bits as another type."""

    @intrinsic
    def reinterpret(x):
        def emit(builder, arguments):
            return builder.bitcast(arguments[0], _BYTES[result])

        return getattr(types, result)(getattr(types, source)), emit

    return reinterpret


bits_f32, from_bits_f32 = _reinterpret("float32", "int32"), _reinterpret("int32", "float32")
bits_f64, from_bits_f64 = _reinterpret("float64", "int64"), _reinterpret("int64", "float64")


@intrinsic
def from_float16(bits):
    """The float32 of a float16's bits."""

    def emit(builder, arguments):
        return builder.fpext(builder.bitcast(arguments[0], ir.HalfType()), ir.FloatType())

    return types.float32(types.uint16), emit


@intrinsic
def to_float16(x):
    """The bits of the float16 nearest to a float32."""

    def emit(builder, arguments):
        return builder.bitcast(builder.fptrunc(arguments[0], ir.HalfType()), ir.IntType(16))

    return types.uint16(types.float32), emit


def _saturate(result: str) -> Any:
    """Truncation to an integer; what lies outside becomes the nearest end of the range and NaN becomes 0."""

    @intrinsic
    def saturate(x):
        def emit(builder, arguments):
            # not LLVM's saturating cast, which is not vectorised
            (value,), limits = arguments, np.iinfo(result)
            kind, target = value.type, _BYTES[result.removeprefix("u")]
            found = (builder.fptoui if result.startswith("u") else builder.fptosi)(value, target)
            for test, bound, otherwise in (
                (">=", 2.0 * (limits.max // 2 + 1), -1 if result.startswith("u") else limits.max),
                ("<=", float(limits.min), limits.min),
                ("uno", 0.0, 0),
            ):
                outside = (
                    builder.fcmp_ordered(test, value, ir.Constant(kind, bound))
                    if test != "uno"
                    else builder.fcmp_unordered(test, value, value)
                )
                found = builder.select(outside, ir.Constant(target, int(otherwise)), found)
            return found

        return getattr(types, result)(x), emit

    return saturate


to_int8, to_int16, to_int32, to_int64 = (_saturate(f"int{b}") for b in (8, 16, 32, 64))
to_uint8, to_uint16, to_uint32, to_uint64 = (_saturate(f"uint{b}") for b in (8, 16, 32, 64))
