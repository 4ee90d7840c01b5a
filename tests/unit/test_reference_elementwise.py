"""The reference backend's element-wise kernels against NumPy, the mathematics and IEEE 754's tables."""

from __future__ import annotations

import math
import struct
from fractions import Fraction

import mpmath
import numpy as np
import pytest

from corelib.plugin_api import dtypes, ops
from corelib_reference.array import RefArray
from corelib_reference.backend import ReferenceBackend

BACKEND = ReferenceBackend("reference")
INF, NAN = math.inf, math.nan
FLOATS = [dtypes.float32, dtypes.float64]
SPECIAL = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    -0.5,
    2.5,
    -2.5,
    3.0,
    -3.0,
    7.25,
    1e-40,
    -1e-40,
    3e38,
    -3e38,
    100.0,
    -100.0,
    INF,
    -INF,
    NAN,
]


def ref(x: np.ndarray) -> RefArray:
    return BACKEND.from_host(x.tobytes(), x.shape, dtypes.as_dtype(x.dtype))


def host(y: RefArray) -> np.ndarray:
    assert len(y.data) == math.prod(y.shape)
    return np.array(y.data, dtype=y.dtype.numpy).reshape(y.shape)


def call(op, *operands):
    arrays = [ref(x) if isinstance(x, np.ndarray) else x for x in operands]
    dtype = next(x.dtype for x in reversed(arrays) if isinstance(x, RefArray))
    return host(BACKEND.find(op.op, dtype)(*arrays))


def assert_same(actual, expected, signed_zeros=True):
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    np.testing.assert_array_equal(actual, expected)
    if signed_zeros and actual.dtype.kind == "f":
        real = ~np.isnan(expected)
        np.testing.assert_array_equal(np.signbit(actual[real]), np.signbit(expected[real]))


def pairs(values, dtype):
    grid = np.array([(a, b) for a in values for b in values], dtype=dtype.numpy)
    return np.ascontiguousarray(grid[:, 0]), np.ascontiguousarray(grid[:, 1])


def random_floats(dtype, n=300, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(n) * 10.0 ** rng.integers(-6, 6, n)).astype(dtype.numpy)


@pytest.fixture(autouse=True)
def quiet_numpy():
    with np.errstate(all="ignore"):
        yield


UNARY = {
    "exp": np.exp,
    "expm1": np.expm1,
    "log": np.log,
    "log1p": np.log1p,
    "log2": np.log2,
    "log10": np.log10,
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "tanh": np.tanh,
    "asinh": np.arcsinh,
    "acosh": np.arccosh,
    "atanh": np.arctanh,
}


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("name", UNARY)
def test_transcendental_functions_agree_with_numpy_and_never_raise(name, dtype):
    x = np.concatenate(
        [np.array(SPECIAL, dtype.numpy), random_floats(dtype), np.linspace(-1, 1, 41).astype(dtype.numpy)]
    )
    actual = call(getattr(ops, name), x)
    expected = UNARY[name](x.astype(np.float64)).astype(dtype.numpy)
    np.testing.assert_array_equal(np.isfinite(actual), np.isfinite(expected))
    np.testing.assert_array_equal(actual[~np.isfinite(actual)], expected[~np.isfinite(expected)])
    finite = np.isfinite(expected)
    np.testing.assert_array_max_ulp(actual[finite], expected[finite], maxulp=4, dtype=dtype.numpy)


DOMAINS = {
    "asin": (-1, 1), "acos": (-1, 1), "atanh": (-1, 1), "acosh": (1, 20), "log": (1e-3, 9), "log2": (1e-3, 9),
    "log10": (1e-3, 9), "log1p": (-0.99, 9),
}  # fmt: skip
EXACT = {"log2": lambda x: mpmath.log(x, 2), "log10": lambda x: mpmath.log(x, 10)}


@pytest.mark.parametrize("name", [*UNARY, "erf"])
def test_errors_against_mpmath_stay_within_half_an_ulp_in_float32_and_two_in_float64(name):
    exact = EXACT.get(name) or getattr(mpmath, name)
    low, high = DOMAINS.get(name, (-8, 8))
    for dtype, budget in ((dtypes.float32, 0.5 + 2**-20), (dtypes.float64, 2.0)):
        x = np.random.default_rng(0).uniform(low, high, 200).astype(dtype.numpy)
        y = call(getattr(ops, name), x)
        with mpmath.workprec(140):
            for a, b, ulp in zip(x.tolist(), y.tolist(), np.spacing(np.abs(y)).tolist(), strict=True):
                assert abs(exact(mpmath.mpf(a)) - b) <= budget * ulp


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize(
    ("name", "x", "expected"),
    [
        ("log", 0.0, -INF),
        ("log", -0.0, -INF),
        ("log", -1.0, NAN),
        ("log", INF, INF),
        ("log", NAN, NAN),
        ("log2", 0.0, -INF),
        ("log10", -0.0, -INF),
        ("log1p", -1.0, -INF),
        ("log1p", -2.0, NAN),
        ("log1p", -0.0, -0.0),
        ("exp", 1000.0, INF),
        ("exp", -1000.0, 0.0),
        ("exp", -INF, 0.0),
        ("expm1", 1000.0, INF),
        ("expm1", -INF, -1.0),
        ("expm1", -0.0, -0.0),
        ("sinh", -1000.0, -INF),
        ("sinh", 1000.0, INF),
        ("cosh", -1000.0, INF),
        ("sqrt", -0.0, -0.0),
        ("sqrt", -1.0, NAN),
        ("sin", INF, NAN),
        ("cos", -INF, NAN),
        ("tan", INF, NAN),
        ("sin", -0.0, -0.0),
        ("asin", 2.0, NAN),
        ("acos", 2.0, NAN),
        ("acosh", 0.5, NAN),
        ("atanh", 1.0, INF),
        ("atanh", -1.0, -INF),
        ("atanh", 2.0, NAN),
        ("tanh", INF, 1.0),
        ("asinh", -INF, -INF),
        ("erf", INF, 1.0),
        ("erf", -0.0, -0.0),
        ("erf", NAN, NAN),
        ("sign", -0.0, 0.0),
        ("sign", NAN, NAN),
        ("sign", -INF, -1.0),
        ("floor", -0.0, -0.0),
        ("ceil", -0.5, -0.0),
        ("trunc", -0.5, -0.0),
        ("round", -0.5, -0.0),
        ("round", 2.5, 2.0),
        ("round", 3.5, 4.0),
        ("round", INF, INF),
        ("floor", NAN, NAN),
        ("abs", -0.0, 0.0),
        ("negative", 0.0, -0.0),
    ],
)
def test_special_values_of_one_operand(name, x, expected, dtype):
    assert_same(call(getattr(ops, name), np.array(x, dtype.numpy)), np.array(expected, dtype.numpy))


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize(
    "name", ["sqrt", "floor", "ceil", "trunc", "round", "abs", "negative", "isnan", "isinf", "isfinite"]
)
def test_exact_functions_equal_numpy_bit_for_bit(name, dtype):
    x = np.concatenate(
        [
            np.array(SPECIAL, dtype.numpy),
            random_floats(dtype),
            np.array([2.0**52 + 0.5, -(2.0**23) - 0.5], dtype.numpy),
        ]
    )
    expected = getattr(np, name)(x)
    assert_same(call(getattr(ops, name), x), expected)


def test_erf_agrees_with_the_standard_library():
    x = np.linspace(-6, 6, 121).astype(np.float32)
    assert call(ops.erf, x).tolist() == [np.float32(math.erf(v)) for v in x.tolist()]


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("name", ["add", "subtract", "multiply", "divide"])
def test_arithmetic_is_correctly_rounded(name, dtype):
    """Against exact rationals, not another implementation; operands span the range, subnormals included."""
    rng = np.random.default_rng(1)
    low, high = (-149, 127) if dtype is dtypes.float32 else (-1074, 1023)
    x1, x2 = (
        np.ldexp(rng.uniform(1, 2, 400), rng.integers(low, high, 400)).astype(dtype.numpy) for _ in "ab"
    )
    near = x1 * np.ldexp(rng.uniform(1, 2, 400), rng.integers(-30, 30, 400)).astype(dtype.numpy)
    x1, x2 = np.concatenate([x1, x1]), np.concatenate([x2, near])
    usable = np.isfinite(x1) & np.isfinite(x2) & (x2 != 0)
    x1, x2 = x1[usable], x2[usable]
    assert_same(call(getattr(ops, name), x1, x2), getattr(np, name)(x1, x2))
    exactly = {
        "add": Fraction.__add__,
        "subtract": Fraction.__sub__,
        "multiply": Fraction.__mul__,
        "divide": Fraction.__truediv__,
    }
    for a, b, y in zip(x1.tolist(), x2.tolist(), call(getattr(ops, name), x1, x2), strict=True):
        if np.isfinite(y):
            exact = exactly[name](Fraction(a), Fraction(b))
            error = abs(exact - Fraction(float(y)))
            for neighbour in (
                np.nextafter(y, dtype.numpy.type(INF)),
                np.nextafter(y, dtype.numpy.type(-INF)),
            ):
                if np.isfinite(neighbour):
                    assert error <= abs(exact - Fraction(float(neighbour)))


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("name", ["add", "subtract", "multiply", "divide", "copysign", "nextafter", "atan2"])
def test_special_values_of_two_operands_as_numpy(name, dtype):
    x1, x2 = pairs(SPECIAL, dtype)
    if name == "atan2":
        expected = np.arctan2(x1.astype(np.float64), x2.astype(np.float64)).astype(dtype.numpy)
        np.testing.assert_array_max_ulp(call(ops.atan2, x1, x2), expected, maxulp=1)
        return
    assert_same(call(getattr(ops, name), x1, x2), getattr(np, name)(x1, x2))


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_hypot_neither_overflows_nor_loses_infinity_beside_nan(dtype):
    x1, x2 = pairs(SPECIAL, dtype)
    expected = np.hypot(x1.astype(np.float64), x2.astype(np.float64)).astype(dtype.numpy)
    actual = call(ops.hypot, x1, x2)
    np.testing.assert_array_equal(np.isnan(actual), np.isnan(expected))
    np.testing.assert_array_max_ulp(actual[~np.isnan(actual)], expected[~np.isnan(actual)], maxulp=1)
    assert call(ops.hypot, np.array(INF), np.array(NAN)) == INF


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_pow_has_the_corners_of_c99(dtype):
    x1, x2 = pairs(SPECIAL, dtype)
    expected = np.power(x1.astype(np.float64), x2.astype(np.float64)).astype(dtype.numpy)
    actual = call(ops.pow, x1, x2)
    np.testing.assert_array_equal(np.isnan(actual), np.isnan(expected))
    real = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(actual[real]), np.signbit(expected[real]))
    np.testing.assert_array_max_ulp(actual[real], expected[real], maxulp=4)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize(
    ("x1", "x2", "quotient", "rest"),
    [
        (7.0, 2.0, 3.0, 1.0),
        (-7.0, 2.0, -4.0, 1.0),
        (7.0, -2.0, -4.0, -1.0),
        (-7.0, -2.0, 3.0, -1.0),
        (6.0, 3.0, 2.0, 0.0),
        (1.0, 0.0, INF, NAN),
        (-1.0, 0.0, -INF, NAN),
        (1.0, -0.0, -INF, NAN),
        (0.0, 0.0, NAN, NAN),
        (NAN, 0.0, NAN, NAN),
        (INF, 2.0, INF, NAN),
        (-INF, 2.0, -INF, NAN),
        (INF, -2.0, -INF, NAN),
        (INF, INF, NAN, NAN),
        (NAN, 1.0, NAN, NAN),
        (1.0, INF, 0.0, 1.0),
        (-1.0, INF, -0.0, INF),
        (1.0, -INF, -0.0, -INF),
        (0.0, 3.0, 0.0, 0.0),
        (INF, 0.0, INF, NAN),
    ],
)
def test_floor_divide_and_remainder_of_floats(x1, x2, quotient, rest, dtype):
    a, b = np.array(x1, dtype.numpy), np.array(x2, dtype.numpy)
    assert_same(call(ops.floor_divide, a, b), np.array(quotient, dtype.numpy))
    assert_same(call(ops.remainder, a, b), np.array(rest, dtype.numpy))


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_floor_divide_is_the_rounded_floor_of_the_exact_quotient(dtype):
    x1, x2 = random_floats(dtype, 400, 2) * dtype.numpy.type(1e9), random_floats(dtype, 400, 3)
    for a, b, y in zip(x1.tolist(), x2.tolist(), call(ops.floor_divide, x1, x2), strict=True):
        exact = Fraction(a) / Fraction(b)
        assert abs(Fraction(float(y)) - exact // 1) <= abs(exact) * Fraction(dtype.eps) / 2
    assert call(ops.floor_divide, np.array(1e308), np.array(1e-308)) == INF


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize(("name", "chosen"), [("maximum", np.maximum), ("minimum", np.minimum)])
def test_maximum_and_minimum_let_nan_win_and_order_zeros(name, chosen, dtype):
    x1, x2 = pairs(SPECIAL, dtype)
    assert_same(call(getattr(ops, name), x1, x2), chosen(x1, x2), signed_zeros=False)
    positive, negative = np.array(0.0, dtype.numpy), np.array(-0.0, dtype.numpy)
    wanted = positive if name == "maximum" else negative
    assert_same(call(getattr(ops, name), positive, negative), wanted)
    assert_same(call(getattr(ops, name), negative, positive), wanted)


INTEGER_PAIRS = [0, 1, 2, 3, 5, 7, 31, 63, 100]


def edges(dtype):
    values = {*INTEGER_PAIRS, dtype.max, dtype.max - 1, dtype.min, dtype.min + 1}
    return sorted(values | ({-1, -2, -3, -7} if dtype.kind == "int" else set()))


@pytest.mark.parametrize("dtype", dtypes.INTEGER, ids=str)
@pytest.mark.parametrize(
    "name", ["add", "subtract", "multiply", "floor_divide", "remainder", "maximum", "minimum"]
)
def test_integer_arithmetic_wraps_as_numpy(name, dtype):
    x1, x2 = pairs(edges(dtype), dtype)
    assert_same(call(getattr(ops, name), x1, x2), getattr(np, name)(x1, x2))


@pytest.mark.parametrize("dtype", dtypes.INTEGER, ids=str)
def test_integer_functions_of_one_operand(dtype):
    x = np.array(edges(dtype), dtype.numpy)
    for name in ("negative", "abs", "sign", "bitwise_invert", "isnan", "isinf", "isfinite"):
        assert_same(call(getattr(ops, name), x), getattr(np, name)(x))
    for name in ("floor", "ceil", "trunc", "round"):
        assert_same(call(getattr(ops, name), x), x)


@pytest.mark.parametrize("dtype", dtypes.INTEGER, ids=str)
def test_integer_power_wraps_and_truncates_negative_exponents(dtype):
    x1, x2 = pairs(edges(dtype), dtype)
    modulus = 1 << dtype.bits
    for a, b, y in zip(x1.tolist(), x2.tolist(), call(ops.pow, x1, x2).tolist(), strict=True):
        if b >= 0:
            assert (y - pow(a, b, modulus)) % modulus == 0
        else:
            assert y == {1: 1, -1: -1 if b % 2 else 1}.get(a, 0)


@pytest.mark.parametrize("dtype", dtypes.INTEGER, ids=str)
def test_shifts_beyond_the_width_are_zero_or_minus_one(dtype):
    x1, x2 = pairs(edges(dtype), dtype)
    wrap = struct.Struct("=" + dtype.format)
    left, right = (
        call(ops.bitwise_left_shift, x1, x2).tolist(),
        call(ops.bitwise_right_shift, x1, x2).tolist(),
    )
    for a, b, up, down in zip(x1.tolist(), x2.tolist(), left, right, strict=True):
        inside = 0 <= b < dtype.bits
        low_bits = (
            ((a << b) & ((1 << dtype.bits) - 1)).to_bytes(wrap.size, "little") if inside else bytes(wrap.size)
        )
        assert up == struct.Struct("<" + dtype.format).unpack(low_bits)[0]
        assert down == (a >> b if inside else -(a < 0))


@pytest.mark.parametrize("dtype", [*dtypes.INTEGER, dtypes.bool], ids=str)
@pytest.mark.parametrize("name", ["bitwise_and", "bitwise_or", "bitwise_xor"])
def test_bitwise_ops_equal_numpy(name, dtype):
    x1, x2 = pairs([False, True] if dtype is dtypes.bool else edges(dtype), dtype)
    assert_same(call(getattr(ops, name), x1, x2), getattr(np, name)(x1, x2))


def test_booleans_invert_logically_and_compare_false_below_true():
    x1, x2 = pairs([False, True], dtypes.bool)
    assert_same(call(ops.bitwise_invert, x1), ~x1)
    assert_same(call(ops.less, x1, x2), x1 < x2)
    assert_same(call(ops.maximum, x1, x2), x1 | x2)
    assert_same(call(ops.minimum, x1, x2), x1 & x2)


@pytest.mark.parametrize("dtype", [*dtypes.INTEGER, *FLOATS], ids=str)
@pytest.mark.parametrize("name", ["equal", "not_equal", "less", "less_equal", "greater", "greater_equal"])
def test_comparisons_equal_numpy(name, dtype):
    x1, x2 = pairs(SPECIAL if dtype.kind == "float" else edges(dtype), dtype)
    assert_same(call(getattr(ops, name), x1, x2), getattr(np, name)(x1, x2))


SHAPES = [
    ((3,), (3,)),
    ((2, 3), (3,)),
    ((2, 1), (1, 3)),
    ((), (2, 3)),
    ((2, 3), ()),
    ((4, 1, 3), (2, 1)),
    ((0, 3), (3,)),
    ((0,), (1,)),
    ((), ()),
]


@pytest.mark.parametrize(("first", "second"), SHAPES, ids=str)
def test_operands_broadcast(first, second):
    x1, x2 = (np.arange(1, math.prod(s) + 1, dtype=np.float32).reshape(s) for s in (first, second))
    assert_same(call(ops.subtract, x1, x2), np.asarray(x1 - x2))
    assert_same(call(ops.where, np.asarray(x1 > 2), x2, x1), np.where(x1 > 2, x2, x1))


def test_shapes_that_do_not_broadcast_are_refused():
    for first, second in [((3,), (4,)), ((2, 3), (2,)), ((0,), (2,)), ((2, 2), (4,))]:
        with pytest.raises(ValueError, match="broadcast"):
            call(ops.add, np.zeros(first), np.zeros(second))


def test_a_scalar_operand_is_rounded_to_the_dtype_first():
    x = np.array([1.0, 3.0], np.float32)
    assert_same(call(ops.multiply, x, 0.1), x * np.float32(0.1))
    assert_same(call(ops.subtract, 0.1, x), np.float32(0.1) - x)
    assert_same(call(ops.where, np.array([True, False]), x, 0.1), np.array([1.0, 0.1], np.float32))
    assert_same(call(ops.where, np.array([True, False]), 0.1, x), np.array([0.1, 3.0], np.float32))
    assert_same(call(ops.add, np.array([250], np.uint8), 10), np.array([4], np.uint8))
    assert_same(call(ops.add, np.zeros((0, 2), np.float32), 1.0), np.zeros((0, 2), np.float32))


def test_float32_overflow_rounds_to_infinity():
    x = np.array([3e38, -3e38], np.float32)
    assert call(ops.multiply, x, 2.0).tolist() == [INF, -INF]
    assert call(ops.add, x, x).tolist() == [INF, -INF]
