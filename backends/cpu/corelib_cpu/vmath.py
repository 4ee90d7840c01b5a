"""Vector mathematics: functions of one element that the compiled loops are built on.

No function has a branch that LLVM could not turn into a selection, so that a plain loop over it becomes
vector code of whatever width the machine has. Constants are literals of the element's type: a double that
slips in would halve the width.

Polynomials are near-minimax fits (float32: weighted least squares iterated after Lawson, see tools/polynomials.py;
float64: interpolation at Chebyshev nodes); ``tests/unit/test_cpu_vmath.py`` measures them.
"""

from __future__ import annotations

import math

import numpy as np

from .language import inline
from .machine import (
    bits_f32,
    bits_f64,
    copysign,
    fabs,
    float32,
    float64,
    floor,
    fma,
    fmod,
    from_bits_f32,
    from_bits_f64,
    inf,
    int32,
    nan,
    sqrt,
    uint16,
)  # fmt: skip

# --- float32 ------------------------------------------------------------------------------------------------

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
LOG10E_HI_F, LOG10E_LO_F = _F(0.4342944920063019), _F(-1.0103049952192578e-08)
LOG10_2_HI_F, LOG10_2_LO_F = _F(0.3010300099849701), _F(-1.432098883924482e-08)
LOG2E_HI_F, LOG2E_LO_F = _F(1.4426950216293335), _F(1.925963033500011e-08)
HALF_PI_HI_F, HALF_PI_LO_F = _F(1.5707963705062866), _F(-4.371138828673793e-08)
HALF_PI_F = tuple(map(_F, (1.5707963705062866, -4.371138828673793e-08, -1.7151245100058819e-15)))
TWO_OVER_PI_F = _F(0.6366197723675814)
SIN_F = tuple(map(_F, (-0.16666653752326965, 0.008332101628184319, -0.00019506842363625765)))
COS_F = tuple(map(_F, (0.04166664555668831, -0.0013887302484363317, 2.4430881239823066e-05)))
ASIN_F = tuple(map(_F, (
    0.1666666567325592, 0.07500094175338745, 0.04459940269589424, 0.031100662425160408, 0.017149237915873528,
    0.03369084745645523)))  # fmt: skip
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


@inline
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


@inline
def log_parts_float32(x):
    """n, f, s = f^2 and p with x = 2^n (1 + f), 2/3 <= 1 + f < 4/3, and log(1 + f) = f - s / 2 + s p."""
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
    return n, f, s, p * f


@inline
def log_ends_float32(x, r):
    """r, or what a logarithm is of 0, infinity, negative numbers and NaN."""
    r = x if x > float32(3.4028234e38) else r
    r = float32(-inf) if x == float32(0.0) else r
    r = float32(nan) if x < float32(0.0) else r
    return r if x == x else x


@inline
def log_float32(x):
    n, f, s, p = log_parts_float32(x)
    r = fma(p, s, fma(float32(-0.5), s, fma(n, LN2_LO_F, f)))
    return log_ends_float32(x, fma(n, LN2_HI_F, r))


@inline
def log10_float32(x):
    """As log_float32, times log10 e; f, the largest part, times log10 e in two parts."""
    n, f, s, p = log_parts_float32(x)
    r = fma(fma(p, s, float32(-0.5) * s), LOG10E_HI_F, fma(f, LOG10E_LO_F, n * LOG10_2_LO_F))
    return log_ends_float32(x, fma(n, LOG10_2_HI_F, fma(f, LOG10E_HI_F, r)))


@inline
def log2_float32(x):
    """As log10_float32; n is a sum's exact part."""
    n, f, s, p = log_parts_float32(x)
    r = fma(fma(p, s, float32(-0.5) * s), LOG2E_HI_F, f * LOG2E_LO_F)
    return log_ends_float32(x, n + fma(f, LOG2E_HI_F, r))


@inline
def cos_sin_float32(x):
    """cos x and sin x of |x| < 8192: polynomials in x - n pi/2, whose first step is exact."""
    z = fma(x, TWO_OVER_PI_F, MAGIC_F)
    n = z - MAGIC_F
    k = bits_f32(z)
    r = fma(-n, HALF_PI_F[2], fma(-n, HALF_PI_F[1], fma(-n, HALF_PI_F[0], x)))
    w = r * r
    s = fma(r * w, fma(fma(SIN_F[2], w, SIN_F[1]), w, SIN_F[0]), r)
    c = fma(w * w, fma(fma(COS_F[2], w, COS_F[1]), w, COS_F[0]), fma(float32(-0.5), w, float32(1.0)))
    s = x if x == float32(0.0) else s
    odd = k & int32(1) != int32(0)
    sine, cosine = c if odd else s, s if odd else c
    return -cosine if (k + int32(1)) & int32(2) != int32(0) else cosine, -sine if k & int32(2) != int32(
        0
    ) else sine


@inline
def sin_float32(x):
    return cos_sin_float32(x)[1]


@inline
def cos_float32(x):
    return cos_sin_float32(x)[0]


@inline
def sin_careful_float32(x):
    return float32(math.sin(float64(x)))


@inline
def cos_careful_float32(x):
    return float32(math.cos(float64(x)))


@inline
def hypot_float32(x, y):
    """In float64, which neither overflows nor loses anything."""
    a, b = float64(x), float64(y)
    r = sqrt(a * a + b * b)
    return float32(inf if (fabs(a) == inf) | (fabs(b) == inf) else r)


@inline
def asin_float32(x):
    """x + x^3 p(x^2) up to 1/2; above, pi/2 - 2 asin(s) with s^2 = (1 - |x|) / 2, and what the root has lost."""
    a = fabs(x)
    large = a > float32(0.5)
    z = float32(0.5) - float32(0.5) * a if large else a * a
    root = sqrt(z)
    s = root if large else a
    p = fma(fma(fma(ASIN_F[5], z, ASIN_F[4]), z, ASIN_F[3]), z, ASIN_F[2])
    p = fma(fma(p, z, ASIN_F[1]), z, ASIN_F[0]) * z
    lost = fma(-s, s, z) / (s + s) if s > float32(0.0) else float32(0.0)
    r = (HALF_PI_HI_F - (s + s)) - fma(float32(2.0), fma(s, p, lost), -HALF_PI_LO_F)
    r = copysign(r if large else fma(s, p, s), x)
    return r if x == x else x


@inline
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


@inline
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


@inline
def floor_divide_float32(x, y):
    return float32(floor_divide_float64(float64(x), float64(y)))


@inline
def remainder_float32(x, y):
    return float32(remainder_float64(float64(x), float64(y)))


# --- float64 ------------------------------------------------------------------------------------------------

LOG2E_D, MAGIC_D, MAGIC_BITS_D = 1.4426950408889634, 6755399441055744.0, 0x4338000000000000
LN2_HI_D, LN2_LO_D = 6.93147180369123816490e-01, 1.90821492927058770002e-10
EXP_D = (
    0.5, 0.1666666666666667, 0.04166666666666667, 0.008333333333326025, 0.001388888888888367, 0.00019841269875205077,
    2.4801587325822283e-05, 2.75572549134867e-06, 2.7557273295539724e-07, 2.5105419192016337e-08,
    2.091483135138041e-09)  # fmt: skip
LOG_D = (
    0.6666666666666672, 0.3999999999997624, 0.28571428575528013, 0.22222221932541267, 0.18181819148447986,
    0.15385598374695844, 0.1327708564738829, 0.13053417640714363)  # fmt: skip


@inline
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


@inline
def log_parts_float64(n, f):
    """n log 2 + log(1 + f) with log(1 + f) = 2 atanh(f / (2 + f)), after fdlibm; sqrt(1/2) <= 1 + f < sqrt(2)."""
    s = f / (2.0 + f)
    z = s * s
    p = fma(fma(fma(LOG_D[7], z, LOG_D[6]), z, LOG_D[5]), z, LOG_D[4])
    p = z * fma(fma(fma(fma(p, z, LOG_D[3]), z, LOG_D[2]), z, LOG_D[1]), z, LOG_D[0])
    h = 0.5 * f * f
    return n * LN2_HI_D - ((h - (s * (h + p) + n * LN2_LO_D)) - f)


@inline
def log_float64(x):
    """n log 2 + log(1 + f), x = 2^n (1 + f)."""
    tiny = x < 2.2250738585072014e-308
    y = x * 4503599627370496.0 if tiny else x
    b = bits_f64(y)
    e = (b - 0x3FE6A09E667F3BCD) >> 52
    m = from_bits_f64(b - (e << 52))
    n = float64(e)
    r = log_parts_float64(n - 52.0 if tiny else n, m - 1.0)
    r = x if x > 1.7976931348623157e308 else r
    r = -inf if x == 0.0 else r
    r = nan if x < 0.0 else r
    return r if x == x else x


# pi/2 in three parts
HALF_PI_D = (1.5707963267948966, 6.123233995736766e-17, -1.4973849048591698e-33)
TWO_OVER_PI_D = 0.6366197723675814
SIN_D = (
    -0.16666666666666663, 0.008333333333330428, -0.00019841269835985584, 2.7557315709635293e-06, -2.505105158684691e-08,
    1.5912461499839467e-10)  # fmt: skip
COS_D = (
    0.041666666666666664, -0.001388888888888707, 2.4801587298282115e-05, -2.755731702592346e-07, 2.0876096058995368e-09,
    -1.1379086634729478e-11)  # fmt: skip


@inline
def cos_sin_float64(x):
    """cos x and sin x of |x| < 2**30: polynomials in x - n pi/2, n = round(2x / pi)."""
    z = fma(x, TWO_OVER_PI_D, MAGIC_D)
    n = z - MAGIC_D
    k = bits_f64(z)
    r = fma(-n, HALF_PI_D[2], fma(-n, HALF_PI_D[1], fma(-n, HALF_PI_D[0], x)))
    w = r * r
    p = fma(fma(fma(fma(fma(SIN_D[5], w, SIN_D[4]), w, SIN_D[3]), w, SIN_D[2]), w, SIN_D[1]), w, SIN_D[0])
    q = fma(fma(fma(fma(fma(COS_D[5], w, COS_D[4]), w, COS_D[3]), w, COS_D[2]), w, COS_D[1]), w, COS_D[0])
    s = fma(r * w, p, r)
    s = x if x == 0.0 else s
    c = fma(w * w, q, fma(-0.5, w, 1.0))
    odd = k & 1 != 0
    sine, cosine = c if odd else s, s if odd else c
    return -cosine if (k + 1) & 2 != 0 else cosine, -sine if k & 2 != 0 else sine


SINH_D = (
    0.16666666666666666, 0.008333333333333299, 0.00019841269841324198, 2.7557319191381816e-06, 2.5052117695907823e-08,
    1.6057679623801638e-10, 7.746178593018827e-13)  # fmt: skip
ATAN_D = (
    -0.3333333333333333, 0.19999999999995438, -0.14285714284649173, 0.11111111013860688, -0.0909090452147169,
    0.07692181876036845, -0.06664492945806264, 0.05857988350245762, -0.05084610357631765, 0.03920743321261196,
    -0.019147248964611764)  # fmt: skip


@inline
def sinh_cosh_float64(x):
    """sinh x and cosh x of |x| < 700: of e**|x| and its inverse; a polynomial for sinh below 1."""
    a = fabs(x)
    e = exp_float64(a)
    r = 1.0 / e
    w = a * a
    p = fma(fma(fma(SINH_D[6], w, SINH_D[5]), w, SINH_D[4]), w, SINH_D[3])
    p = fma(fma(fma(p, w, SINH_D[2]), w, SINH_D[1]), w, SINH_D[0])
    s = fma(a * w, p, a) if a < 1.0 else 0.5 * (e - r)
    return copysign(s, x), 0.5 * (e + r)


@inline
def atan2_float64(y, x):
    """The angle of a point whose larger part is an ordinary number: that of a slope of at most tan(pi/8), to one of the
    axes and diagonals.
    """
    a, b = fabs(x), fabs(y)
    above = b > a
    large, small = b if above else a, a if above else b
    steep = small > 0.41421356237309503 * large
    t = (small - large if steep else small) / (small + large if steep else large)
    z = t * t
    p = fma(fma(fma(fma(ATAN_D[10], z, ATAN_D[9]), z, ATAN_D[8]), z, ATAN_D[7]), z, ATAN_D[6])
    p = fma(fma(fma(fma(p, z, ATAN_D[5]), z, ATAN_D[4]), z, ATAN_D[3]), z, ATAN_D[2])
    r = fma(t * z, fma(fma(p, z, ATAN_D[1]), z, ATAN_D[0]), t)
    r = (r + 3.061616997868383e-17) + 0.7853981633974483 if steep else r
    r = (6.123233995736766e-17 - r) + 1.5707963267948966 if above else r
    r = (1.2246467991473532e-16 - r) + 3.141592653589793 if copysign(1.0, x) < 0.0 else r
    return copysign(r, y)


@inline
def hypot_float64(x, y):
    """The larger one times sqrt(1 + q^2), q the quotient of the two."""
    a, b = fabs(x), fabs(y)
    large, small = b if b > a else a, a if b > a else b
    q = small / large if large > 0.0 else 0.0
    r = large * sqrt(fma(q, q, 1.0))
    r = x + y if (x != x) | (y != y) else r
    return inf if (a == inf) | (b == inf) else r


@inline
def erf_float64(x):
    return math.erf(x)


@inline
def floor_divide_float64(x, y):
    """floor of the exact quotient below 2**53, the IEEE quotient from there on, by 0 and with infinities.

    The rounded quotient's floor is too large by one where the quotient was rounded up to an integer; the sign of
    the exact remainder tells.
    """
    q = x / y
    f = floor(q)
    r = fma(-f, y, x)
    f = f - 1.0 if r != 0.0 and (r < 0.0) != (y < 0.0) else f
    f = copysign(0.0, q) if f == 0.0 else f
    return f if fabs(q) < 9007199254740992.0 and fabs(y) < inf else q


@inline
def remainder_float64(x, y):
    """Python's %: the sign is y's; NaN where y is 0 or x infinite."""
    m = fmod(x, y)
    return copysign(0.0, y) if m == 0.0 else (m + y if (y < 0.0) != (m < 0.0) else m)


# --- half precision, as bits --------------------------------------------------------------------------------


@inline
def from_bfloat16(bits):
    return from_bits_f32(int32(int32(bits) << int32(16)))


@inline
def to_bfloat16(x):
    """The upper half of a float32, rounded to nearest, ties to even."""
    b = bits_f32(x)
    rounded = int32(int32(b + int32(0x7FFF) + int32(int32(b >> int32(16)) & int32(1))) >> int32(16))
    return uint16(rounded if x == x else int32(0x7FC0))


@inline
def odd_float32(x):
    """A double rounded to float32 so that a second rounding is right: to odd, unless it is exact."""
    y = float32(x)
    b = bits_f32(y)
    b = int32(b - int32(1)) if fabs(float64(y)) > fabs(x) else b
    return from_bits_f32(int32(b | int32(1)) if float64(y) != x else b)


@inline
def odd_float64(x, lost, last):
    """A long integer as a double, rounded to odd: `lost` are the bits that a double may not hold, `last` is the one above."""
    low = x & lost
    odd = (x - low) | (last if low != 0 else low)
    y = float64(x)
    return y if fabs(y) < 9007199254740992.0 else float64(odd)


# --- every type ---------------------------------------------------------------------------------------------


@inline
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
