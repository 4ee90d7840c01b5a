"""The reference backend's sums, products and matrix products: exact, rounded once, IEEE 754 at the edges."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from corelib.plugin_api import dtypes, ops
from corelib_reference.array import RefArray
from corelib_reference.backend import ReferenceBackend
from corelib_reference.rounding import exact, from_exact, to_float32

BACKEND = ReferenceBackend("reference")
INF, NAN = math.inf, math.nan
SHAPES = [(), (0,), (1,), (5,), (2, 3), (3, 0), (0, 2), (2, 1, 3), (2, 3, 4)]


def ref(x: np.ndarray) -> RefArray:
    return BACKEND.from_host(x.tobytes(), x.shape, dtypes.as_dtype(x.dtype))


def host(y: RefArray) -> np.ndarray:
    assert len(y.data) == math.prod(y.shape)
    return np.array(y.data, dtype=y.dtype.numpy).reshape(y.shape)


def call(op, *operands, **params):
    arrays = [ref(x) for x in operands]
    return host(BACKEND.find(op.op, arrays[0].dtype)(*arrays, **params))


def assert_same(actual, expected):
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    np.testing.assert_array_equal(actual, expected)


def all_axes(n):
    axes = range(-n, 0)
    return [tuple(a for k, a in enumerate(axes) if mask >> k & 1) for mask in range(2**n)]


def total(values, dtype=dtypes.float64):
    x = np.array(values, dtype.numpy)
    return call(ops.sum, x, axis=(-1,), dtype=dtype, keepdims=False).item()


def product(values, dtype=dtypes.float64):
    x = np.array(values, dtype.numpy)
    return call(ops.prod, x, axis=(-1,), dtype=dtype, keepdims=False).item()


def nearest(exact_value, dtype):
    """The value of dtype nearest to a Fraction, ties to even, found by comparing neighbours."""
    guess = dtype.numpy.type(float(exact_value))
    candidates = [
        guess,
        np.nextafter(guess, dtype.numpy.type(INF)),
        np.nextafter(guess, dtype.numpy.type(-INF)),
    ]
    last_bit = {c: int(c.view(f"u{dtype.itemsize}")) & 1 for c in candidates}
    return float(min(candidates, key=lambda c: (abs(Fraction(float(c)) - exact_value), last_bit[c])))


# ---- rounding


@pytest.mark.parametrize("dtype", dtypes.FLOATING, ids=str)
def test_an_exact_rational_is_rounded_once(dtype):
    digits, lowest = (24, -149) if dtype is dtypes.float32 else (53, -1074)
    for exponent in (0, 60, -60, lowest):
        for odd in (1, 3, 2**digits - 1):
            midpoint, k = 2 * odd + 1, 1 - exponent  # halfway between odd and odd + 1 in units of 2**exponent
            for sign in (1, -1):
                scale = sign * 2.0**exponent
                if odd == 2**digits - 1 or exponent == lowest:  # elsewhere these few bits are exact
                    assert from_exact(sign * midpoint, k, dtype) == (odd + 1) * scale  # odd + 1 is even
                    shift = 100
                    assert from_exact(sign * ((midpoint << shift) - 1), k + shift, dtype) == odd * scale
                    assert from_exact(sign * ((midpoint << shift) + 1), k + shift, dtype) == (odd + 1) * scale
    assert from_exact(-(10**400), 0, dtype) == -INF
    assert from_exact(1, 5000, dtype) == 0.0
    assert math.copysign(1, from_exact(-1, 5000, dtype)) == -1.0
    assert from_exact(0, -5, dtype) == 0.0


def test_exact_is_exact():
    values = [0.1, -3e300, 5e-324, 0.0, 7.0]
    integers, k = exact(values)
    assert [Fraction(n, 2**k) for n in integers] == [Fraction(v) for v in values]
    assert exact([]) == ([], 0)


def test_to_float32_rounds_like_numpy_and_overflows_to_infinity():
    values = [0.1, 1e39, -1e39, 1e-46, 2.0**-150, 3.4028235677973366e38, 3.4028235677973362e38, -0.0]
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(to_float32(values), np.array(values).astype(np.float32))


# ---- sums


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("keepdims", [False, True])
def test_reductions_equal_numpy_over_every_set_of_axes(shape, keepdims):
    x = np.asarray(np.random.default_rng(0).integers(0, 9, shape) * np.float32(0.25), np.float32)
    for axis in all_axes(len(shape)):
        params = {"axis": axis, "keepdims": keepdims}
        assert_same(
            call(ops.sum, x, dtype=dtypes.float32, **params), np.asarray(np.sum(x, **params), np.float32)
        )
        assert_same(
            call(ops.prod, x, dtype=dtypes.float32, **params), np.asarray(np.prod(x, **params), np.float32)
        )
        assert_same(call(ops.any, x, **params), np.asarray(np.any(x, **params)))
        assert_same(call(ops.all, x, **params), np.asarray(np.all(x, **params)))
        if x.size or all(shape[a] for a in axis):
            assert_same(call(ops.max, x, **params), np.asarray(np.max(x, **params)))
            assert_same(call(ops.min, x, **params), np.asarray(np.min(x, **params)))
    for axis in range(-len(shape), 0):
        if x.size or shape[axis]:
            for name in ("argmax", "argmin"):
                assert_same(
                    call(getattr(ops, name), x, axis=axis, keepdims=keepdims),
                    np.asarray(getattr(np, name)(x, axis=axis, keepdims=keepdims)),
                )


@pytest.mark.parametrize("shape", [s for s in SHAPES if s], ids=str)
@pytest.mark.parametrize("dtype", [dtypes.float32, dtypes.float64, dtypes.int64, dtypes.uint64], ids=str)
def test_scans_equal_numpy_along_every_axis(shape, dtype):
    x = np.random.default_rng(0).integers(0, 5, shape).astype(dtype.numpy)
    for axis in range(-len(shape), 0):
        assert_same(call(ops.cumulative_sum, x, axis=axis, dtype=dtype), np.cumsum(x, axis, dtype.numpy))
        assert_same(call(ops.cumulative_prod, x, axis=axis, dtype=dtype), np.cumprod(x, axis, dtype.numpy))


@pytest.mark.parametrize("source", [*dtypes.INTEGER, dtypes.bool], ids=str)
def test_integers_are_summed_in_the_dtype_asked_for_and_wrap(source):
    wide = dtypes.uint64 if source.kind == "uint" else dtypes.int64
    high = True if source is dtypes.bool else source.max
    x = np.array([high, high, 1], source.numpy)
    wrap = (1 << 64) - 1
    for op, expected in ((ops.sum, 2 * int(high) + 1), (ops.prod, int(high) ** 2)):
        y = call(op, x, axis=(-1,), dtype=wide, keepdims=False)
        assert y.dtype == wide.numpy
        assert (int(y) - expected) & wrap == 0


def test_a_sum_in_bool_is_any_and_a_product_all():
    for values in ([True, True], [True, False], [False, False], []):
        x, params = np.array(values, np.bool_), {"axis": (-1,), "dtype": dtypes.bool, "keepdims": False}
        assert call(ops.sum, x, **params).item() is any(values)
        assert call(ops.prod, x, **params).item() is all(values)


@pytest.mark.parametrize("dtype", dtypes.FLOATING, ids=str)
def test_sums_and_products_are_correctly_rounded(dtype):
    rng = np.random.default_rng(0)
    for _ in range(60):
        n = int(rng.integers(1, 40))
        x = (rng.standard_normal(n) * 2.0 ** rng.integers(-30, 30, n)).astype(dtype.numpy)
        exactly = [Fraction(v) for v in x.tolist()]
        assert total(x, dtype) == nearest(sum(exactly), dtype)
        sums = call(ops.cumulative_sum, x, axis=-1, dtype=dtype).tolist()
        assert sums == [nearest(sum(exactly[: i + 1]), dtype) for i in range(n)]
        few = np.exp2(rng.uniform(-2, 2, 8)).astype(dtype.numpy)
        exactly = [Fraction(v) for v in few.tolist()]
        assert product(few, dtype) == nearest(math.prod(exactly), dtype)
        products = call(ops.cumulative_prod, few, axis=-1, dtype=dtype).tolist()
        assert products == [nearest(math.prod(exactly[: i + 1]), dtype) for i in range(8)]


def test_a_float32_sum_is_not_rounded_twice():
    """The double nearest to the sum is a midpoint of two float32; what the double lost decides."""
    terms = [1.0, 2.0**-24]
    assert total(terms, dtypes.float32) == 1.0  # the midpoint itself: to even
    assert total([*terms, 2.0**-100], dtypes.float32) == 1.0 + 2.0**-23
    assert total([*terms, -(2.0**-100)], dtypes.float32) == 1.0
    assert total([1.0 + 2.0**-23, 2.0**-24, -(2.0**-100)], dtypes.float32) == 1.0 + 2.0**-23
    one = np.ones((1, 3), np.float32)
    assert (
        call(ops.matmul, one, np.array([[1.0], [2.0**-24], [2.0**-100]], np.float32)).item() == 1.0 + 2.0**-23
    )
    tiny = np.array([[2.0**-75, 2.0**-75, 2.0**-100]], np.float32)  # 2**-150 is half the smallest float32
    assert call(ops.matmul, tiny, np.array([[2.0**-75], [0.0], [0.0]], np.float32)).item() == 0.0
    assert call(ops.matmul, tiny, np.array([[2.0**-75], [0.0], [2.0**-130]], np.float32)).item() == 2.0**-149


def test_cancellation_and_overflow_on_the_way_do_no_harm():
    assert total([1e100, 1.0, -1e100]) == 1.0
    assert total([1e308, 1e308, -1e308]) == 1e308
    assert total([1e308, 1e308]) == INF
    assert total([3e38, 3e38, -3e38], dtypes.float32) == float(np.float32(3e38))
    assert product([1e300, 1e300, 1e-300, 1e-300]) == pytest.approx(1.0, rel=1e-15)
    assert product([1e300, 1e300, 0.0]) == 0.0
    assert product([1e300, -1e300]) == -INF


@pytest.mark.parametrize("dtype", dtypes.FLOATING, ids=str)
def test_special_values_of_sums_and_products(dtype):
    assert total([], dtype) == 0.0
    assert product([], dtype) == 1.0
    for values, expected in [
        ([INF, 1.0], INF),
        ([-INF, 1.0], -INF),
        ([INF, -INF], NAN),
        ([NAN, 1.0], NAN),
        ([3e38, 3e38, INF], INF),
    ]:
        np.testing.assert_equal(total(values, dtype), expected)
    assert math.copysign(1, total([-0.0, -0.0], dtype)) == -1
    assert math.copysign(1, total([-0.0, 0.0], dtype)) == 1
    for values, expected in [
        ([INF, 0.0], NAN),
        ([-INF, 2.0], -INF),
        ([NAN, 0.0], NAN),
        ([-2.0, 0.0], -0.0),
        ([-INF, -INF], INF),
    ]:
        np.testing.assert_equal(product(values, dtype), expected)
    assert total([1e308, 1e308, -INF]) == -INF
    x = np.array([-0.0, -0.0, 1.0, INF, 2.0, -INF, 1.0], dtype.numpy)
    y = call(ops.cumulative_sum, x, axis=-1, dtype=dtype)
    np.testing.assert_equal(y.tolist(), [-0.0, -0.0, 1.0, INF, INF, NAN, NAN])
    x = np.array([2.0, -3.0, 0.0, -1.0, INF, 1.0], dtype.numpy)
    np.testing.assert_equal(
        call(ops.cumulative_prod, x, axis=-1, dtype=dtype).tolist(), [2.0, -6.0, -0.0, 0.0, NAN, NAN]
    )


def test_extremes_let_nan_win_and_order_zeros():
    x = np.array([[1.0, NAN, NAN, 3.0], [-0.0, 0.0, -0.0, 0.0]])
    np.testing.assert_equal(call(ops.max, x, axis=(-1,), keepdims=False).tolist(), [NAN, 0.0])
    np.testing.assert_equal(call(ops.min, x, axis=(-1,), keepdims=False).tolist(), [NAN, -0.0])
    for op in (ops.argmax, ops.argmin):
        assert call(op, x, axis=-1, keepdims=False).tolist() == [1, 0]
    b = np.array([False, True, True])
    assert call(ops.max, b, axis=(-1,), keepdims=False).item() is True
    assert call(ops.argmax, b, axis=-1, keepdims=False).item() == 1
    assert call(ops.any, np.array([NAN]), axis=(-1,), keepdims=False).item() is True


# ---- matrix products

MATMULS = [
    ((3,), (3,)),
    ((2, 3), (3,)),
    ((3,), (3, 4)),
    ((2, 3), (3, 4)),
    ((5, 2, 3), (3, 4)),
    ((2, 3), (5, 3, 4)),
    ((5, 1, 2, 3), (4, 3, 2)),
    ((1, 2, 3), (7, 3, 1)),
    ((3,), (5, 3, 4)),
    ((5, 2, 3), (3,)),
    ((0,), (0,)),
    ((2, 0), (0, 3)),
    ((0, 3), (3, 2)),
    ((2, 3), (3, 0)),
    ((0, 2, 3), (3, 2)),
]


@pytest.mark.parametrize(("first", "second"), MATMULS, ids=str)
@pytest.mark.parametrize("dtype", [dtypes.float32, dtypes.float64, dtypes.int8, dtypes.uint64], ids=str)
def test_matmul_equals_numpy_on_exact_values(first, second, dtype):
    rng = np.random.default_rng(0)
    x1, x2 = (rng.integers(0, 100, s).astype(dtype.numpy) for s in (first, second))
    assert_same(call(ops.matmul, x1, x2), np.asarray(np.matmul(x1, x2)))


@pytest.mark.parametrize("dtype", dtypes.FLOATING, ids=str)
def test_matmul_is_correctly_rounded(dtype):
    rng = np.random.default_rng(3)
    x1, x2 = (
        (rng.standard_normal(s) * 2.0 ** rng.integers(-40, 40, s)).astype(dtype.numpy)
        for s in ((4, 30), (30, 5))
    )
    actual = call(ops.matmul, x1, x2).tolist()
    for i, row in enumerate(x1.tolist()):
        for j, column in enumerate(x2.T.tolist()):
            assert actual[i][j] == nearest(
                sum(Fraction(a) * Fraction(b) for a, b in zip(row, column, strict=True)), dtype
            )


@pytest.mark.parametrize("dtype", dtypes.FLOATING, ids=str)
def test_special_values_of_matmul(dtype):
    def dot(row, column):
        return call(ops.matmul, np.array(row, dtype.numpy), np.array(column, dtype.numpy)).item()

    big = 3e38 if dtype is dtypes.float32 else 1e308
    np.testing.assert_equal(dot([INF, 1.0], [0.0, 1.0]), NAN)
    np.testing.assert_equal(dot([INF, 1.0], [-2.0, 1.0]), -INF)
    np.testing.assert_equal(dot([INF, 1.0], [1.0, -INF]), NAN)
    np.testing.assert_equal(dot([NAN, 1.0], [0.0, 1.0]), NAN)
    assert dot([big, big], [2.0, -2.0]) == 0.0
    assert dot([big, INF], [-big, 1.0]) == INF
    assert dot([big, 1.0], [big, 1.0]) == INF
    assert math.copysign(1, dot([-0.0, 1.0], [1.0, -0.0])) == -1
    assert math.copysign(1, dot([0.0, 1.0], [1.0, -0.0])) == 1
