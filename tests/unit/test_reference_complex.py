"""The reference backend's complex numbers against the standard's tables, mpmath and exact rationals."""

from __future__ import annotations

import cmath
import itertools
import math
from fractions import Fraction

import mpmath
import numpy as np
import pytest
from complex_tables import CLASSES, INF, NAN, ROWS, TABLES, check, expected, same

from corelib.plugin_api import dtypes, ops
from corelib_reference import annex_g
from corelib_reference.array import RefArray
from corelib_reference.backend import ReferenceBackend

BACKEND = ReferenceBackend("reference")


def array(values, dtype, shape=None):
    return RefArray((len(values),) if shape is None else shape, dtype, list(values))


def call(op, *operands, **params):
    dtype = next(x.dtype for x in operands if isinstance(x, RefArray))
    return BACKEND.find(op.op, dtype)(*operands, **params)


def alike(z, w):
    return same(z.real, w.real) and same(z.imag, w.imag)


# ---- the standard's tables

FUNCTION = {"abs": lambda z: complex(annex_g.modulus(z), 0)}


def function(name):
    return FUNCTION.get(name) or getattr(annex_g, name)


@pytest.mark.parametrize(("name", "a", "b", "result"), ROWS, ids=[f"{n}[{a}, {b}]" for n, a, b, _ in ROWS])
def test_every_row_of_the_standards_tables(name, a, b, result):
    for x, y in itertools.product(CLASSES[a], CLASSES[b]):
        want = expected(result, y)
        z = function(name)(complex(x, y))
        parts = zip((z.real, z.imag), want, strict=False)
        assert all(check(actual, *wanted) for actual, wanted in parts), (complex(x, y), z)


def test_the_tables_have_as_many_rows_as_the_standard():
    counts = {name: sum(row[0] == name for row in ROWS) for name in TABLES}
    assert counts == {
        "exp": 12, "expm1": 12, "log": 12, "log1p": 11, "sqrt": 9, "sinh": 12, "cosh": 12, "tanh": 11,
        "asinh": 9, "acosh": 12, "atanh": 11, "acos": 12, "abs": 4, "sign": 3,
    }  # fmt: skip


EVERYWHERE = [complex(a, b) for a in CLASSES["any"] for b in CLASSES["any"]]
SYMMETRIC = [name for name in TABLES if name not in ("abs", "sign")]


@pytest.mark.parametrize("name", SYMMETRIC)
def test_conjugates_have_conjugate_results(name):
    for z in EVERYWHERE:
        at, mirrored = function(name)(z), function(name)(z.conjugate()).conjugate()
        if z.real == -INF and not math.isfinite(z.imag) and name in ("exp", "expm1"):
            assert at == mirrored  # the sign of a zero that the standard leaves open
        elif name == "cosh" and z.real == 0 and math.isinf(z.imag):
            assert (at.imag, mirrored.imag) == (0, 0)  # likewise
        elif z.imag == z.imag:
            assert alike(at, mirrored), z


@pytest.mark.parametrize("name", ["sinh", "tanh", "asinh", "atanh"])
def test_odd_functions_are_odd(name):
    for z in EVERYWHERE:
        at, mirrored = function(name)(z), -function(name)(-z)
        if cmath.isfinite(z):
            assert alike(at, mirrored), z


@pytest.mark.parametrize(
    ("name", "turned"), [("sin", "sinh"), ("tan", "tanh"), ("asin", "asinh"), ("atan", "atanh")]
)
def test_circular_functions_are_hyperbolic_ones_turned_by_a_quarter(name, turned):
    for z in EVERYWHERE:
        w = function(turned)(complex(-z.imag, z.real))
        assert alike(function(name)(z), complex(w.imag, -w.real))
        assert alike(annex_g.cos(z), annex_g.cosh(complex(-z.imag, z.real)))


@pytest.mark.parametrize(("name", "base"), [("log2", 2), ("log10", 10)])
def test_other_logarithms_have_the_special_values_of_log(name, base):
    for z in EVERYWHERE:
        at, natural = function(name)(z), annex_g.log(z)
        for actual, e in ((at.real, natural.real), (at.imag, natural.imag)):
            assert same(actual, e) or math.isclose(actual, e / math.log(base), rel_tol=1e-15)


def test_powers_of_two_have_exact_logarithms():
    exponents = [-1074, -1000, -30, -1, 0, 1, 2, 29, 1023]
    assert [annex_g.log2(complex(2.0**n)) for n in exponents] == exponents


# ---- accuracy

ULP_OF_DOUBLE = (
    4  # the budget of every complex function: a few library calls of one ULP each, and their product
)


def points():
    rng = np.random.default_rng(7)
    signs = lambda n: rng.choice([-1, 1], (n, 2))
    near = 10.0 ** rng.uniform(-17, -1, (20, 2)) * signs(20)  # how far from a point of interest
    turns = rng.uniform(-4, 4, 20)
    found = [
        *rng.uniform(-3, 3, (20, 2)),
        *(10.0 ** rng.uniform(-25, 2, (20, 2)) * signs(20)),
        *np.stack([np.cos(turns), np.sin(turns)], 1) * (1 + near[:, :1]),
        *([1, 0] + near), *([-1, 0] + near), *([0, 1] + near), *([0, -1] + near), *near,
    ]  # fmt: skip
    return [
        *(complex(a, b) for a, b in found),
        complex(0.3505860799117026, -0.936530510356861),
    ]  # cmath: 4.5 ULP


POINTS = points()
EXACT = {
    **{name: getattr(mpmath, name) for name in (*SYMMETRIC, "sin", "cos", "tan", "asin", "atan")},
    "log2": lambda z: mpmath.log(z) / mpmath.log(2), "log10": lambda z: mpmath.log(z) / mpmath.log(10),
    "log1p": lambda z: mpmath.log(1 + z), "expm1": lambda z: mpmath.exp(z) - 1, "sign": lambda z: z / abs(z),
}  # fmt: skip


def distance(z, exact, dtype):
    """How far z is from ``exact``, in units in the last place of its larger part."""
    _, exponent = mpmath.frexp(max(abs(exact.real), abs(exact.imag)))
    place = max(int(exponent), math.frexp(dtype.smallest_normal)[1]) - dtype.real.digits
    error = max(abs(exact.real - z.real), abs(exact.imag - z.imag))
    return float(mpmath.ldexp(error, -place))


@pytest.mark.parametrize("name", EXACT)
def test_errors_stay_within_the_budget(name):
    """In complex64 one rounding is left, beside 4 ULP of double, 2**-27 of an ULP of float32."""
    with mpmath.workprec(600):  # arguments down to 1e-25, whose squares must not be lost beside 1
        for z in POINTS:
            if abs(z.real) < 700 and abs(z.imag) < 700:
                exact = mpmath.mpc(EXACT[name](mpmath.mpc(z)))
                assert distance(function(name)(z), exact, dtypes.complex128) <= ULP_OF_DOUBLE, z
        narrow = [complex(np.complex64(z)) for z in POINTS]
        results = call(getattr(ops, name), array(narrow, dtypes.complex64)).data
        for z, w in zip(narrow, results, strict=True):
            exact = mpmath.mpc(EXACT[name](mpmath.mpc(z)))
            assert distance(w, exact, dtypes.complex64) <= 0.5 + 2.0**-26, z


@pytest.mark.parametrize("name", ["log", "log1p"])
def test_a_logarithm_near_the_unit_circle_keeps_its_real_part(name):
    """Each part by itself: |z|**2 - 1 is exact, so that log1p and the halving err by 2 ULP."""
    with mpmath.workprec(600):
        for z in POINTS:
            exact = mpmath.mpf(EXACT[name](mpmath.mpc(z)).real)
            real = function(name)(z).real
            assert abs(real - exact) <= 2 * math.ulp(float(exact)), z


@pytest.mark.parametrize("name", ["exp", "expm1", "sinh", "cosh"])
def test_a_part_is_finite_as_long_as_its_value_is(name):
    """e**1400 overflows, times 1e-300 it does not. 3 ULP: e**709 twice, e**x and the products."""
    z = complex(1400, 1e-300)
    imaginary = {"exp": 1, "expm1": 1, "sinh": mpmath.mpf(1) / 2, "cosh": mpmath.mpf(1) / 2}[name]
    with mpmath.workprec(200):
        exact = mpmath.exp(1400) * mpmath.mpf(1e-300) * imaginary
        w = function(name)(z)
        assert (w.real, abs(w.imag - exact) <= 4 * math.ulp(float(exact))) == (INF, True)
        wide = function(name)(complex(709.9, 1.5))
        exact = imaginary * mpmath.exp(mpmath.mpc(709.9, 1.5))
        assert abs(wide.imag - exact.imag) <= 4 * math.ulp(float(exact.imag))


def test_logarithms_near_their_poles_and_of_the_largest_numbers():
    """Where |1 + z| underflows or |z| overflows: 1 ULP of a moderate number's logarithm, 1 of the sum."""
    cases = [
        (annex_g.log, 3e-320 + 4e-320j),
        (annex_g.log, 1.7e308 - 1.7e308j),
        (annex_g.log1p, -1 + 5e-310j),
    ]
    with mpmath.workprec(200):
        for logarithm, z in cases:
            exact = mpmath.log(mpmath.mpc(z) + (logarithm is annex_g.log1p))
            assert distance(logarithm(z), exact, dtypes.complex128) <= 2, z


def test_the_modulus_neither_overflows_nor_underflows():
    assert annex_g.modulus(complex(3e300, 4e300)) == 5e300
    assert annex_g.modulus(complex(3e-320, 4e-320)) == 5e-320
    assert annex_g.sign(complex(1.5e308, -1.5e308)) == annex_g.sign(1 - 1j)
    assert annex_g.sign(complex(5e-324, 5e-324)) == annex_g.sign(1 + 1j)


# ---- arithmetic


def random_numbers(n, seed, spread=30):
    rng = np.random.default_rng(seed)
    parts = rng.standard_normal((n, 2)) * 10.0 ** rng.integers(-spread, spread, (n, 1))
    return [complex(a, b) for a, b in parts]


def quotient(x, y):
    """The exact quotient, each part rounded once."""
    a, b, c, d = map(Fraction, (x.real, x.imag, y.real, y.imag))
    norm = c * c + d * d
    return complex(float((a * c + b * d) / norm), float((b * c - a * d) / norm))


def test_quotients_are_correctly_rounded():
    for x, y in zip(random_numbers(200, 1), random_numbers(200, 2), strict=True):
        assert annex_g.divide(x, y) == quotient(x, y)
    assert annex_g.divide(1e308 + 1e308j, 1e308 - 1e308j) == 1j
    assert annex_g.divide(5e-324 + 5e-324j, 5e-324 + 5e-324j) == 1
    assert annex_g.divide(1e300 + 0j, 1e-300 + 0j) == complex(INF, 0)


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        (complex(1, -2), 0j, complex(INF, -INF)),
        (complex(1, -2), complex(-0.0, 0.0), complex(-INF, INF)),
        (complex(1, 0), 0j, complex(INF, NAN)),
        (0j, 0j, complex(NAN, NAN)),
        (complex(INF, 1), 1 + 1j, complex(INF, -INF)),
        (complex(INF, NAN), 2 + 0j, complex(INF, NAN)),
        (1 + 1j, complex(INF, NAN), complex(0, 0)),
        (1 - 1j, complex(-INF, INF), complex(-0.0, 0.0)),
        (complex(INF, INF), complex(INF, 1), complex(NAN, NAN)),
        (complex(NAN, 1), 1 + 0j, complex(NAN, NAN)),
        (complex(-0.0, -0.0), 1 + 0j, complex(-0.0, 0.0)),
        (complex(-1, 0), complex(2, 0), complex(-0.5, 0.0)),
        (complex(-1e-200, 1e-200), complex(1e200, 0), complex(-0.0, 0.0)),
    ],
)
def test_quotients_with_zeros_and_infinities(x, y, expected):
    assert alike(annex_g.divide(x, y), expected)


def test_products_are_the_formula_as_written():
    for x, y in zip(random_numbers(100, 3), random_numbers(100, 4), strict=True):
        a, b, c, d = x.real, x.imag, y.real, y.imag
        assert annex_g.multiply(x, y) == complex(a * c - b * d, a * d + b * c)
    assert alike(annex_g.multiply(complex(INF, 0), 1 + 0j), complex(INF, NAN))
    assert alike(annex_g.multiply(complex(INF, INF), 1 + 1j), complex(NAN, INF))


def test_sums_add_parts_with_the_signs_of_their_zeros():
    x, y = (array([z], dtypes.complex128) for z in (complex(-0.0, 0.0), complex(-0.0, -0.0)))
    assert alike(call(ops.add, x, y).data[0], complex(-0.0, 0.0))
    assert alike(call(ops.subtract, y, x).data[0], complex(0.0, -0.0))
    assert alike(call(ops.negative, x).data[0], complex(0.0, -0.0))
    assert alike(call(ops.add, x, 1j).data[0], complex(0.0, 1.0))


@pytest.mark.parametrize("dtype", dtypes.COMPLEX, ids=str)
def test_parts_and_predicates(dtype):
    x = array([complex(1.5, -2.5), complex(INF, NAN), complex(NAN, 0), complex(0, -0.0)], dtype)
    assert str(call(ops.conj, x).data) == "[(1.5+2.5j), (inf+nanj), (nan-0j), 0j]"
    for op, result in ((ops.real, [1.5, INF, NAN, 0.0]), (ops.imag, [-2.5, NAN, 0.0, -0.0])):
        y = call(op, x)
        assert y.dtype is dtype.real
        assert all(map(same, y.data, result))
    assert call(ops.abs, x).dtype is dtype.real
    assert call(ops.isnan, x).data == [False, True, True, False]
    assert call(ops.isinf, x).data == [False, True, False, False]
    assert call(ops.isfinite, x).data == [True, False, False, True]
    assert call(ops.equal, x, x).data == [True, False, False, True]
    assert call(ops.not_equal, x, x).data == [False, True, True, False]
    assert call(ops.round, x).data[0] == 2 - 2j
    assert call(ops.round, array([complex(0.5, -0.5)], dtype)).data == [0]


def test_real_numbers_have_no_imaginary_part():
    for dtype in (*dtypes.INTEGER, *dtypes.FLOATING):
        x = array([dtype.min, 1], dtype)
        assert call(ops.conj, x).data == call(ops.real, x).data == x.data
        assert call(ops.imag, x).data == [0, 0]


# ---- powers


def test_small_integer_powers_are_exact():
    assert annex_g.pow(1 + 1j, 2 + 0j) == 2j
    assert annex_g.pow(1j, 3 + 0j) == -1j
    assert annex_g.pow(2 + 1j, -1 + 0j) == annex_g.divide(1 + 0j, 2 + 1j)
    for z in random_numbers(30, 5, spread=3):
        a, b = Fraction(z.real), Fraction(z.imag)
        assert annex_g.pow(z, 2 + 0j) == complex(float(a * a - b * b), float(2 * a * b))
        assert annex_g.pow(z, 1 + 0j) == z
    assert annex_g.pow(complex(1e200, 1e200), 2 + 0j) == complex(0, INF)


def test_powers_are_correctly_rounded():
    """Half an ULP and what 60 decimal digits leave of it, whether y log x is small or in the millions."""
    exponents = [*random_numbers(20, 6, spread=2), 0.5 + 0j, -1.5 + 0j, 1j, 65 + 0j, 1e7j, 1e-20 + 1e5j]
    with mpmath.workprec(600):
        for x, y in itertools.product(POINTS[::9], exponents):
            exact = mpmath.exp(mpmath.mpc(y) * mpmath.log(mpmath.mpc(x)))
            if mpmath.mpf("1e-300") < abs(exact) < mpmath.mpf("1e300"):
                assert distance(annex_g.pow(x, y), exact, dtypes.complex128) <= 0.5 + 1e-9, (x, y)


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        (0j, 0j, 1), (complex(NAN, 1), 0j, 1), (complex(INF, INF), 0j, 1), (0j, 2 + 1j, 0), (0j, 0.5 + 0j, 0),
        (0j, -1 + 0j, complex(INF, NAN)), (0j, -1 + 2j, complex(INF, NAN)), (0j, 1j, complex(NAN, NAN)),
        (complex(NAN, 0), 1 + 0j, complex(NAN, NAN)), (2 + 0j, complex(-INF, 0), 0),
        (2 + 0j, complex(2000, 0), complex(INF, 0)), (2 + 0j, complex(-2000, 0), 0),
    ],
)  # fmt: skip
def test_special_values_of_pow(x, y, expected):
    z, w = annex_g.pow(x, y), complex(expected)
    assert (z == w) or alike(z, w)


# ---- sums and products


def total(values, dtype=dtypes.complex128):
    return call(ops.sum, array(values, dtype), axis=(-1,), dtype=dtype, keepdims=False).data[0]


def product(values, dtype=dtypes.complex128):
    return call(ops.prod, array(values, dtype), axis=(-1,), dtype=dtype, keepdims=False).data[0]


def gaussian(values):
    """The exact product, as a pair of Fractions."""
    a, b = Fraction(1), Fraction(0)
    for z in values:
        c, d = Fraction(z.real), Fraction(z.imag)
        a, b = a * c - b * d, a * d + b * c
    return a, b


def test_sums_and_products_are_rounded_once_in_each_part():
    for seed in range(5):
        values = random_numbers(40, seed, spread=9)
        parts = [sum(map(Fraction, part)) for part in ([z.real for z in values], [z.imag for z in values])]
        assert total(values) == complex(*map(float, parts))
        assert product(values) == complex(*map(float, gaussian(values)))
    assert total([1e308, 1e308j, 1e308, -1e308]) == complex(1e308, 1e308)
    assert product([1e200 + 1e200j, 1e-200 + 0j, 1 - 1j]) == 2
    assert (total([]), product([])) == (0, 1)


def test_infinities_and_nan_in_sums_and_products():
    assert alike(total([complex(INF, 1), complex(1, NAN)]), complex(INF, NAN))
    assert alike(total([complex(INF, 0), complex(-INF, 0)]), complex(NAN, 0))
    assert alike(product([complex(INF, 0), 2 + 0j]), complex(INF, NAN))


@pytest.mark.parametrize("dtype", dtypes.COMPLEX, ids=str)
def test_scans_end_with_the_sum_and_the_product(dtype):
    values = [complex(dtype.numpy.type(z)) for z in random_numbers(12, 8, spread=1)]
    values += [complex(INF, 1), 2 + 0j]
    for op, whole in ((ops.cumulative_sum, total), (ops.cumulative_prod, product)):
        prefixes = call(op, array(values, dtype), axis=-1, dtype=dtype).data
        wanted = [whole(values[: i + 1], dtype) for i in range(len(values))]
        assert prefixes[:12] == wanted[:12]
        assert all(same(abs(z), abs(w)) for z, w in zip(prefixes[12:], wanted[12:], strict=True))


@pytest.mark.parametrize("dtype", dtypes.COMPLEX, ids=str)
def test_matrix_products_are_rounded_once_in_each_part(dtype):
    cast = dtype.numpy.type
    a, b = ([complex(cast(z)) for z in random_numbers(12, seed, spread=4)] for seed in (9, 10))
    y = call(ops.matmul, array(a, dtype, (3, 4)), array(b, dtype, (4, 3)))
    assert (y.shape, y.dtype) == ((3, 3), dtype)
    for i, j in itertools.product(range(3), repeat=2):
        terms = [gaussian((a[4 * i + k], b[3 * k + j])) for k in range(4)]
        real, imag = (sum(part) for part in zip(*terms, strict=True))
        assert y.data[3 * i + j] == complex(cast(complex(float(real), float(imag))))
    wide = call(ops.matmul, array([complex(INF, 0), 1j], dtype), array([1j, 1 + 0j], dtype))
    assert (wide.shape, math.isnan(wide.data[0].real), wide.data[0].imag) == ((), True, INF)


def test_scattered_terms_are_added_exactly():
    x, values = array([1j, 0j], dtypes.complex128), array([1e16 + 0j, 1 + 1j, -1e16 + 0j], dtypes.complex128)
    places = array([0, 0, 0], dtypes.int64)
    assert call(ops.scatter_add, x, values, places, axis=-1, overwrite=False).data == [1 + 2j, 0j]


@pytest.mark.parametrize("dtype", dtypes.COMPLEX, ids=str)
def test_truth_is_being_different_from_zero(dtype):
    x = array([0j, complex(0, -0.0), 1j, complex(NAN, 0)], dtype)
    assert call(ops.astype, x, dtype=dtypes.bool).data == [False, False, True, True]
    assert [index.data for index in call(ops.nonzero, x)] == [[2, 3]]
    assert call(ops.any, x, axis=(-1,), keepdims=False).data == [True]
    assert call(ops.all, x, axis=(-1,), keepdims=False).data == [False]


def test_complex_numbers_are_filled_padded_and_selected():
    x = array([1j, 2 + 0j], dtypes.complex64)
    assert (
        BACKEND.find(ops.full.op, x.dtype)(shape=(2,), fill_value=0.1j, dtype=x.dtype).data
        == [complex(np.complex64(0.1j))] * 2
    )
    assert call(ops.pad, x, pad_width=((1, 0),), constant_value=3j).data == [3j, 1j, 2]
    chosen = BACKEND.find(ops.where.op, x.dtype)(array([True, False], dtypes.bool), x, 5j)
    assert chosen.data == [1j, 5j]


# ---- float16 and bfloat16: storage


def neighbours(dtype):
    """Values of a half-precision dtype of every order of magnitude, each with the next larger one."""
    for exponent in range(math.frexp(dtype.smallest_normal)[1] - dtype.digits, math.frexp(dtype.max)[1]):
        place = max(exponent - dtype.digits, math.frexp(dtype.smallest_normal)[1] - dtype.digits)
        low = max(1, 2 ** (exponent - 1 - place))
        for n in {low, low + 1, max(low, 2 ** (exponent - place) - 2)}:
            yield Fraction(n) * Fraction(2) ** place, Fraction(n + 1) * Fraction(2) ** place, n


@pytest.mark.parametrize("dtype", dtypes.HALF, ids=str)
def test_doubles_round_to_half_precision_once_ties_to_even(dtype):
    doubles, expected = [], []
    for below, above, n in neighbours(dtype):
        middle = (below + above) / 2
        nudge = below / 2**40  # would be lost in a float32 on the way
        even = below if n % 2 == 0 else above
        doubles += map(float, (below, middle - nudge, middle, middle + nudge))
        expected += map(float, (below, below, even, above))
    doubles += [-d for d in doubles]
    expected += [-d for d in expected]
    cast = call(ops.astype, array(doubles, dtypes.float64), dtype=dtype)
    assert cast.data == expected
    assert call(ops.astype, cast, dtype=dtypes.float64).data == expected
    assert BACKEND.from_host(BACKEND.to_host(cast), cast.shape, dtype).data == expected


@pytest.mark.parametrize("dtype", dtypes.HALF, ids=str)
def test_half_precision_overflows_to_infinity_and_keeps_special_values(dtype):
    digits, exponent = dtype.digits, math.frexp(dtype.max)[1]
    limit = dtype.max + 2.0 ** (
        exponent - digits - 1
    )  # the midpoint to what would be the next value, an even one
    values = [math.nextafter(limit, 0), limit, 1e308, 1.7976931348623157e308, -INF, -0.0, 5e-324]
    cast = call(ops.astype, array(values, dtypes.float64), dtype=dtype).data
    assert cast == [dtype.max, INF, INF, INF, -INF, 0, 0]
    assert math.copysign(1, cast[5]) == -1
    (nan,) = call(ops.astype, array([NAN], dtypes.float64), dtype=dtype).data
    assert nan != nan


@pytest.mark.parametrize("dtype", dtypes.HALF, ids=str)
def test_64_bit_integers_round_to_half_precision_once(dtype):
    """A midpoint and one: a double in between would round it to the midpoint, and that to even."""
    top = 2 ** (62 if dtype is dtypes.bfloat16 else 15)
    place = top >> dtype.digits - 1
    values = [top + place // 2, top + place // 2 + 1, top + place + place // 2, -(top + place // 2 + 1)]
    rounded = call(ops.astype, array(values, dtypes.int64), dtype=dtype).data
    assert rounded == [top, top + place, top + 2 * place, -(top + place)]


@pytest.mark.parametrize("dtype", dtypes.HALF, ids=str)
def test_half_precision_converts_to_every_dtype(dtype):
    x = array([0.0, 1.5, -3.0], dtype)
    assert call(ops.astype, x, dtype=dtypes.int8).data == [0, 1, -3]
    assert call(ops.astype, x, dtype=dtypes.bool).data == [False, True, True]
    assert call(ops.astype, x, dtype=dtypes.complex64).data == [0, 1.5, -3]
    other = dtypes.bfloat16 if dtype is dtypes.float16 else dtypes.float16
    assert call(ops.astype, x, dtype=other).data == x.data
    assert BACKEND.find(ops.arange.op, dtype)(start=0.1, step=0.2, size=3, dtype=dtype).data == [
        dtype.round(v) for v in (0.1, 0.1 + 0.2, 0.1 + 2 * 0.2)
    ]
