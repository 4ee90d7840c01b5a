"""What kernels are written with: typed pointers, machine operations, and vector mathematics.

Every function works on one element and has no branch that LLVM could not turn into a selection, so that a plain loop
over it becomes vector code of whatever width the machine has. Constants are literals of the element's type: a double
that slips in would halve the width. Importing this module imports numba, so only the compiler of kernels does it.

Polynomials are near-minimax fits (float32: weighted least squares iterated after Lawson; float64: interpolation at Chebyshev
nodes); ``tests/unit/test_cpu_vmath.py`` measures them.
"""

from __future__ import annotations

import math
import platform
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, register_jitable

int8, int16, int32, int64 = np.int8, np.int16, np.int32, np.int64
uint8, uint16, uint32, uint64 = np.uint8, np.uint16, np.uint32, np.uint64
float32, float64 = np.float32, np.float64
inf, nan = np.inf, np.nan

HEADER = object.__basicsize__  # bytes before an array object's data pointer
_WORD = ir.IntType(64)
_BYTES = {
    "int8": ir.IntType(8), "int16": ir.IntType(16), "int32": ir.IntType(32), "int64": _WORD,
    "float32": ir.FloatType(), "float64": ir.DoubleType(),
}  # fmt: skip


# --- memory -----------------------------------------------------------------------------------------------------------


def _pointer(name: str) -> Any:
    """A function from an address to a typed pointer, which is indexed like an array."""
    element = getattr(types, name)
    machine = _BYTES[name.removeprefix("u")]

    @intrinsic
    def pointer(typing, address):
        def emit(context, builder, signature, arguments):
            return builder.inttoptr(arguments[0], machine.as_pointer())

        return types.CPointer(element)(types.int64), emit

    return pointer


at_int8, at_int16, at_int32, at_int64 = (_pointer(f"int{b}") for b in (8, 16, 32, 64))
at_uint8, at_uint16, at_uint32, at_uint64 = (_pointer(f"uint{b}") for b in (8, 16, 32, 64))
at_float32, at_float64 = _pointer("float32"), _pointer("float64")
at_bool = at_uint8  # a boolean is a byte, 0 or 1


@intrinsic
def stack_words(typing, count):
    """Address of 512 words on the stack of the calling function."""

    def emit(context, builder, signature, arguments):
        block = cgutils.alloca_once(builder, ir.ArrayType(_WORD, 512))
        return builder.ptrtoint(block, _WORD)

    return types.int64(types.int64), emit


@intrinsic
def call_kernel(typing, address, lo, hi, arguments):
    """Calls the kernel at an address on a slice of the work."""

    def emit(context, builder, signature, values):
        kind = ir.FunctionType(ir.VoidType(), [_WORD, _WORD, _WORD])
        builder.call(builder.inttoptr(values[0], kind.as_pointer()), values[1:])
        return context.get_dummy_value()

    word = types.int64
    return types.void(word, word, word, word), emit


@intrinsic
def atomic_load(typing, address):
    def emit(context, builder, signature, arguments):
        return builder.load_atomic(builder.inttoptr(arguments[0], _WORD.as_pointer()), "seq_cst", 8)

    return types.int64(types.int64), emit


@intrinsic
def atomic_store(typing, address, value):
    def emit(context, builder, signature, arguments):
        builder.store_atomic(arguments[1], builder.inttoptr(arguments[0], _WORD.as_pointer()), "seq_cst", 8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), emit


@intrinsic
def atomic_add(typing, address, value):
    """Adds, and returns what was there before."""

    def emit(context, builder, signature, arguments):
        pointer = builder.inttoptr(arguments[0], _WORD.as_pointer())
        return builder.atomic_rmw("add", pointer, arguments[1], "seq_cst")

    return types.int64(types.int64, types.int64), emit


@intrinsic
def atomic_swap_if(typing, address, expected, value):
    """Stores a value where the expected one stands; 1 if it did."""

    def emit(context, builder, signature, arguments):
        pointer = builder.inttoptr(arguments[0], _WORD.as_pointer())
        pair = builder.cmpxchg(pointer, arguments[1], arguments[2], "seq_cst", "seq_cst")
        return builder.zext(builder.extract_value(pair, 1), _WORD)

    return types.int64(types.int64, types.int64, types.int64), emit


_X86 = platform.machine().lower() in ("x86_64", "amd64", "i686")


@intrinsic
def pause(typing):
    """Tells the processor that this is a waiting loop."""

    def emit(context, builder, signature, arguments):
        if _X86:
            kind = ir.FunctionType(ir.VoidType(), [])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse2.pause"), [])
        return context.get_dummy_value()

    return types.void(), emit


# Functions of the C library and of Python that the launcher calls; the addresses are resolved in the process.
_word = types.int64
yield_processor = types.ExternalFunction("sched_yield", types.int32())
mutex_lock = types.ExternalFunction("pthread_mutex_lock", types.int32(_word))
mutex_unlock = types.ExternalFunction("pthread_mutex_unlock", types.int32(_word))
condition_wait = types.ExternalFunction("pthread_cond_wait", types.int32(_word, _word))
condition_broadcast = types.ExternalFunction("pthread_cond_broadcast", types.int32(_word))
integer_value = types.ExternalFunction("PyLong_AsLongLong", _word(_word))
release_interpreter = types.ExternalFunction("PyEval_SaveThread", _word())
acquire_interpreter = types.ExternalFunction("PyEval_RestoreThread", types.void(_word))
add_reference = types.ExternalFunction("Py_IncRef", types.void(_word))


# --- machine operations -----------------------------------------------------------------------------------------------


def _operation(name: str, count: int) -> Any:
    """An LLVM intrinsic of `count` operands of one floating type."""

    def emit(context, builder, signature, arguments):
        kind = arguments[0].type
        declared = builder.module.declare_intrinsic(name, [kind], ir.FunctionType(kind, [kind] * count))
        return builder.call(declared, arguments)

    if count == 1:

        @intrinsic
        def operation(typing, x):
            return x(x), emit
    elif count == 2:

        @intrinsic
        def operation(typing, x, y):
            return x(x, x), emit
    else:

        @intrinsic
        def operation(typing, x, y, z):
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
    def remainder(typing, x, y):
        def emit(context, builder, signature, arguments):
            return builder.frem(*arguments)

        return x(x, x), emit

    return remainder


fmod = _remainder()


def _reinterpret(source: str, result: str) -> Any:
    """The same bits as another type."""

    @intrinsic
    def reinterpret(typing, x):
        def emit(context, builder, signature, arguments):
            return builder.bitcast(arguments[0], _BYTES[result])

        return getattr(types, result)(getattr(types, source)), emit

    return reinterpret


bits_f32, from_bits_f32 = _reinterpret("float32", "int32"), _reinterpret("int32", "float32")
bits_f64, from_bits_f64 = _reinterpret("float64", "int64"), _reinterpret("int64", "float64")


def _saturate(result: str) -> Any:
    """Truncation to an integer; what lies outside becomes the nearest end of the range and NaN becomes 0."""

    @intrinsic
    def saturate(typing, x):
        def emit(context, builder, signature, arguments):
            source, target = arguments[0].type, _BYTES[result.removeprefix("u")]
            name = "llvm.fptoui.sat" if result.startswith("u") else "llvm.fptosi.sat"
            declared = builder.module.declare_intrinsic(
                name, [target, source], ir.FunctionType(target, [source])
            )
            return builder.call(declared, arguments)

        return getattr(types, result)(x), emit

    return saturate


to_int8, to_int16, to_int32, to_int64 = (_saturate(f"int{b}") for b in (8, 16, 32, 64))
to_uint8, to_uint16, to_uint32, to_uint64 = (_saturate(f"uint{b}") for b in (8, 16, 32, 64))


def matrix_tile(element: str, rows: int, vectors: int, lanes: int) -> Any:
    """The inner loop of a product of matrices, explicitly in vectors: a tile of C += A B stays in registers over all k.

    ``tile(a, a_row, a_column, b, depth, c, c_row, add)``: addresses and steps in bytes; b is packed, `vectors` * `lanes`
    elements for each k; the tile is added to C or replaces it.
    """
    scalar = _BYTES[element]
    size = 4 if element == "float32" else 8
    vector = ir.VectorType(scalar, lanes)
    word, half = ir.IntType(64), ir.IntType(32)

    def emit(context, builder, signature, arguments):
        a, a_row, a_column, b, depth, c, c_row, add = arguments

        def constant(value):
            return ir.Constant(word, value)

        def vector_at(address, place):
            return builder.inttoptr(builder.add(address, constant(place * lanes * size)), vector.as_pointer())

        name = f"llvm.fma.v{lanes}f{8 * size}"
        fused = cgutils.get_or_insert_function(builder.module, ir.FunctionType(vector, [vector] * 3), name)
        function, before = builder.function, builder.basic_block
        loop, after, store = (
            function.append_basic_block(f"tile.{name}") for name in ("loop", "after", "store")
        )
        adding, end = (function.append_basic_block(f"tile.{name}") for name in ("add", "end"))
        zero = ir.Constant(vector, [0.0] * lanes)
        places = [(i, v) for i in range(rows) for v in range(vectors)]
        row_steps = [builder.mul(a_row, constant(i)) for i in range(rows)]
        out_rows = [builder.add(c, builder.mul(c_row, constant(i))) for i in range(rows)]
        builder.branch(loop)

        builder.position_at_end(loop)
        k, at_a, at_b = builder.phi(word), builder.phi(word), builder.phi(word)
        for phi, start in ((k, constant(0)), (at_a, a), (at_b, b)):
            phi.add_incoming(start, before)
        totals = {place: builder.phi(vector) for place in places}
        for total in totals.values():
            total.add_incoming(zero, before)
        line = [builder.load(vector_at(at_b, v), align=size) for v in range(vectors)]
        sums = {}
        for i in range(rows):
            x = builder.load(
                builder.inttoptr(builder.add(at_a, row_steps[i]), scalar.as_pointer()), align=size
            )
            x = builder.insert_element(ir.Constant(vector, ir.Undefined), x, ir.Constant(half, 0))
            mask = ir.Constant(ir.VectorType(half, lanes), [0] * lanes)
            x = builder.shuffle_vector(x, ir.Constant(vector, ir.Undefined), mask)
            for v in range(vectors):
                sums[i, v] = builder.call(fused, [x, line[v], totals[i, v]])
        following = builder.add(k, constant(1))
        for phi, value in (
            (k, following),
            (at_a, builder.add(at_a, a_column)),
            (at_b, builder.add(at_b, constant(vectors * lanes * size))),
        ):
            phi.add_incoming(value, loop)
        for place in places:
            totals[place].add_incoming(sums[place], loop)
        builder.cbranch(builder.icmp_signed("<", following, depth), loop, after)

        builder.position_at_end(after)
        builder.cbranch(builder.icmp_signed("!=", add, constant(0)), adding, store)
        builder.position_at_end(store)
        for i, v in places:
            builder.store(sums[i, v], vector_at(out_rows[i], v), align=size)
        builder.branch(end)
        builder.position_at_end(adding)
        for i, v in places:
            address = vector_at(out_rows[i], v)
            builder.store(builder.fadd(builder.load(address, align=size), sums[i, v]), address, align=size)
        builder.branch(end)
        builder.position_at_end(end)
        return context.get_dummy_value()

    @intrinsic
    def tile(typing, a, a_row, a_column, b, depth, c, c_row, add):
        return types.void(*(types.int64,) * 8), emit

    return tile


# --- float32 ----------------------------------------------------------------------------------------------------------

_F = np.float32
LOG2E_F, MAGIC_F, LN2_HI_F, LN2_LO_F = (
    _F(1.44269504088896341),
    _F(12582912.0),
    _F(0.693145751953125),
    _F(1.428606765330187e-06),
)
MAGIC_BITS_F = np.int32(0x4B400000)
EXP_F = tuple(
    map(_F, (0.5, 0.16666573286056519, 0.041666362434625626, 0.008363775908946991, 0.0013942149234935641))
)
LOG_F = tuple(map(_F, (
    0.33333319425582886, -0.24999895691871643, 0.2000383585691452, -0.16676762700080872,
    0.14116965234279633, -0.12226682901382446, 0.13433851301670074, -0.12741291522979736)))  # fmt: skip
TANH_F = tuple(map(_F, (
    -0.3333333432674408, 0.13333305716514587, -0.053959548473358154, 0.021770993247628212,
    -0.008350001648068428, 0.002298935316503048)))  # fmt: skip

ERF_F = tuple(map(_F, (
    1.128379225730896, -0.37612637877464294, 0.11283782869577408, -0.02686544507741928, 0.005221074912697077,
    -0.0008484710706397891, 0.00011270541290286928, -9.680126822786406e-06)))  # fmt: skip
ERFC_F = tuple(map(_F, (
    0.00032066399580799043, -1.1302515268325806, -0.631760835647583, -0.11018344014883041, 0.02651255391538143,
    -0.004808728117495775, 0.0006132349371910095, -4.940045619150624e-05, 2.0160498479526723e-06,
    -1.8357836140125983e-08)))  # fmt: skip


@register_jitable
def exp_float32(x):
    """2^n (1 + r + r^2 q(r)), n = round(x / ln 2); 2^n in two factors, so that subnormal results are right."""
    x = float32(89.0) if x > float32(89.0) else x
    x = float32(-104.0) if x < float32(-104.0) else x
    z = fma(x, LOG2E_F, MAGIC_F)
    n = z - MAGIC_F
    r = fma(n, -LN2_LO_F, fma(n, -LN2_HI_F, x))
    q = fma(fma(fma(fma(EXP_F[4], r, EXP_F[3]), r, EXP_F[2]), r, EXP_F[1]), r, EXP_F[0])
    p = fma(q * r, r, r) + float32(1.0)
    i = int32(bits_f32(z) - MAGIC_BITS_F)
    h = int32(i >> int32(1))
    g = int32(i - h)
    return (
        p
        * from_bits_f32(int32((h + int32(127)) << int32(23)))
        * from_bits_f32(int32((g + int32(127)) << int32(23)))
    )


@register_jitable
def log_float32(x):
    """n ln 2 + log(1 + f), x = 2^n (1 + f), 2/3 <= 1 + f < 4/3."""
    tiny = x < float32(1.17549435e-38)
    y = x * float32(8388608.0) if tiny else x
    b = bits_f32(y)
    e = int32(int32(b - int32(0x3F2AAAAB)) >> int32(23))
    m = from_bits_f32(int32(b - int32(e << int32(23))))
    n = float32(e)
    n = n - float32(23.0) if tiny else n
    f = m - float32(1.0)
    s = f * f
    p = fma(fma(fma(LOG_F[7], f, LOG_F[6]), f, LOG_F[5]), f, LOG_F[4])
    p = fma(fma(fma(fma(p, f, LOG_F[3]), f, LOG_F[2]), f, LOG_F[1]), f, LOG_F[0])
    r = fma(p * f, s, fma(float32(-0.5), s, fma(n, LN2_LO_F, f)))
    r = fma(n, LN2_HI_F, r)
    r = x if x > float32(3.4028234e38) else r
    r = float32(-inf) if x == float32(0.0) else r
    r = float32(nan) if x < float32(0.0) else r
    return r if x == x else x


@register_jitable
def tanh_float32(x):
    """An odd polynomial near 0, 1 - 2 / (exp(2|x|) + 1) elsewhere."""
    a = fabs(x)
    z = x * x
    p = fma(fma(fma(TANH_F[5], z, TANH_F[4]), z, TANH_F[3]), z, TANH_F[2])
    p = fma(fma(p, z, TANH_F[1]), z, TANH_F[0])
    p = fma(p * z, x, x)
    y = float32(10.0) if a > float32(10.0) else a
    t = float32(1.0) - float32(2.0) / (exp_float32(y + y) + float32(1.0))
    t = copysign(fabs(p) if a < float32(0.625) else t, x)
    return t if x == x else x


@register_jitable
def erf_float32(x):
    """An odd polynomial below 1, 1 - exp(log erfc(|x|)) above."""
    a = fabs(x)
    z = x * x
    p = fma(fma(fma(ERF_F[7], z, ERF_F[6]), z, ERF_F[5]), z, ERF_F[4])
    p = x * fma(fma(fma(fma(p, z, ERF_F[3]), z, ERF_F[2]), z, ERF_F[1]), z, ERF_F[0])
    y = float32(4.0) if a > float32(4.0) else a
    q = fma(fma(fma(fma(ERFC_F[9], y, ERFC_F[8]), y, ERFC_F[7]), y, ERFC_F[6]), y, ERFC_F[5])
    q = fma(fma(fma(fma(fma(q, y, ERFC_F[4]), y, ERFC_F[3]), y, ERFC_F[2]), y, ERFC_F[1]), y, ERFC_F[0])
    t = copysign(float32(1.0) - exp_float32(q), x)
    t = p if a < float32(1.0) else t
    return t if x == x else x


@register_jitable
def floor_divide_float32(x, y):
    return float32(floor_divide_float64(float64(x), float64(y)))


@register_jitable
def remainder_float32(x, y):
    return float32(remainder_float64(float64(x), float64(y)))


# --- float64 ----------------------------------------------------------------------------------------------------------

LOG2E_D, MAGIC_D, MAGIC_BITS_D = 1.4426950408889634, 6755399441055744.0, 0x4338000000000000
LN2_HI_D, LN2_LO_D = 6.93147180369123816490e-01, 1.90821492927058770002e-10
EXP_D = (
    0.5, 0.1666666666666667, 0.04166666666666667, 0.008333333333326025, 0.001388888888888367, 0.00019841269875205077,
    2.4801587325822283e-05, 2.75572549134867e-06, 2.7557273295539724e-07, 2.5105419192016337e-08,
    2.091483135138041e-09)  # fmt: skip
LOG_D = (
    0.6666666666666672, 0.3999999999997624, 0.28571428575528013, 0.22222221932541267, 0.18181819148447986,
    0.15385598374695844, 0.1327708564738829, 0.13053417640714363)  # fmt: skip


@register_jitable
def exp_float64(x):
    """As exp_float32."""
    x = 710.0 if x > 710.0 else x
    x = -746.0 if x < -746.0 else x
    z = fma(x, LOG2E_D, MAGIC_D)
    n = z - MAGIC_D
    r = fma(n, -LN2_LO_D, fma(n, -LN2_HI_D, x))
    q = fma(fma(fma(fma(EXP_D[10], r, EXP_D[9]), r, EXP_D[8]), r, EXP_D[7]), r, EXP_D[6])
    q = fma(fma(fma(q, r, EXP_D[5]), r, EXP_D[4]), r, EXP_D[3])
    q = fma(fma(fma(q, r, EXP_D[2]), r, EXP_D[1]), r, EXP_D[0])
    p = fma(q * r, r, r) + 1.0
    i = bits_f64(z) - MAGIC_BITS_D
    h = i >> 1
    g = i - h
    return p * from_bits_f64((h + 1023) << 52) * from_bits_f64((g + 1023) << 52)


@register_jitable
def log_float64(x):
    """n ln 2 + log(1 + f) with log(1 + f) = 2 atanh(f / (2 + f)), after fdlibm."""
    tiny = x < 2.2250738585072014e-308
    y = x * 4503599627370496.0 if tiny else x
    b = bits_f64(y)
    e = (b - 0x3FE6A09E667F3BCD) >> 52
    m = from_bits_f64(b - (e << 52))
    n = float64(e)
    n = n - 52.0 if tiny else n
    f = m - 1.0
    s = f / (2.0 + f)
    z = s * s
    p = fma(fma(fma(LOG_D[7], z, LOG_D[6]), z, LOG_D[5]), z, LOG_D[4])
    p = z * fma(fma(fma(fma(p, z, LOG_D[3]), z, LOG_D[2]), z, LOG_D[1]), z, LOG_D[0])
    h = 0.5 * f * f
    r = n * LN2_HI_D - ((h - (s * (h + p) + n * LN2_LO_D)) - f)
    r = x if x > 1.7976931348623157e308 else r
    r = -inf if x == 0.0 else r
    r = nan if x < 0.0 else r
    return r if x == x else x


@register_jitable
def erf_float64(x):
    return math.erf(x)


@register_jitable
def floor_divide_float64(x, y):
    """Python's //, with the IEEE quotient where y is 0 or x infinite."""
    m = fmod(x, y)
    d = (x - m) / y
    d = d - 1.0 if m != 0.0 and (y < 0.0) != (m < 0.0) else d
    f = floor(d)
    f = f + 1.0 if d - f > 0.5 else f
    f = copysign(0.0, x / y) if d == 0.0 else f
    return x / y if y == 0.0 or fabs(x) == inf else f


@register_jitable
def remainder_float64(x, y):
    """Python's %: the sign is y's; NaN where y is 0 or x infinite."""
    m = fmod(x, y)
    return copysign(0.0, y) if m == 0.0 else (m + y if (y < 0.0) != (m < 0.0) else m)


# --- every type -------------------------------------------------------------------------------------------------------


@register_jitable
def power_of_integer(x, n):
    """x^n modulo 2^bits by squaring; the truncated exact result where n is negative."""
    one = x * 0 + 1
    if n < 0:
        if x == 1 or (x == -1 and n % 2 == 0):
            return one
        return -one if x == -1 else x * 0
    result = one
    while n > 0:
        if n & 1:
            result *= x
        x *= x
        n >>= 1
    return result
