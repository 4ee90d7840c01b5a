"""Complex numbers on the cpu backend: special values against the reference, accuracy against mpmath, layouts."""

from __future__ import annotations

import itertools
import math
import warnings
from typing import Any

import mpmath
import numpy as np
import pytest

from corelib import dtypes
from corelib.conformance.unspecified import open_signs

elementwise = pytest.importorskip("corelib_cpu.elementwise")
casts = pytest.importorskip("corelib_cpu.casts")
index = pytest.importorskip("corelib_cpu.index")
movement = pytest.importorskip("corelib_cpu.movement")
reduce = pytest.importorskip("corelib_cpu.reduce")
scan = pytest.importorskip("corelib_cpu.scan")
annex_g = pytest.importorskip("corelib_reference.annex_g")

DTYPES = ["complex64", "complex128"]
FUNCTIONS = [
    "exp", "expm1", "log", "log1p", "log2", "log10", "sqrt", "sign", "sin", "cos", "tan", "sinh", "cosh", "tanh",
    "asin", "acos", "atan", "asinh", "acosh", "atanh",
]  # fmt: skip


@pytest.fixture(params=["numpy", "compiled"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """NumPy's kernels at every size where there are any, or the compiled ones."""
    monkeypatch.setattr(elementwise, "CROSSOVER", 1 << 40 if request.param == "numpy" else 0)
    return request.param


def points(dtype: str, *more: float) -> np.ndarray:
    """All numbers whose parts are special: zeros, infinities, NaN, the smallest and the largest, and ordinary ones."""
    limits = np.finfo(dtype)
    values = [0.0, 1.0, 0.5, 2.0, math.inf, float(limits.smallest_subnormal), float(limits.max), *more]
    parts = [*values, *[-v for v in values], math.nan]
    return np.array([complex(a, b) for a in parts for b in parts], dtype)


def parts(z: Any) -> tuple[float, ...]:
    return (z.real, z.imag) if isinstance(z, complex) else (z,)


def agree(actual: Any, expected: Any, signs: tuple[bool, ...], eps: float, ulps: float) -> bool:
    """Equal infinities, NaN and zeros with their signs, unless these are open; other parts within some units in the
    last place of the larger one.
    """
    size = max([abs(q) for q in parts(expected) if math.isfinite(q)], default=0.0)
    for p, q, anything in zip(parts(actual), parts(expected), signs, strict=False):
        if p != p or q != q:
            near = p != p and q != q
        elif math.isinf(p) or math.isinf(q) or p == q == 0:
            near = abs(p) == abs(q) and (anything or math.copysign(1, p) == math.copysign(1, q))
        else:
            near = abs(p - q) <= ulps * eps * size + 5e-324
        if not near:
            return False
    return True


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_special_values_are_those_of_the_tables(name: str, dtype: str) -> None:
    z = points(dtype, math.pi / 2, 1e-5, 30.0, 800.0)
    result = elementwise.make(name, dtype)(z)
    eps = float(np.finfo(dtype).eps)
    real = np.dtype(dtype).type(0).real.dtype.name
    failed = []
    for argument, value in zip(z.tolist(), result.tolist(), strict=True):
        exact = getattr(annex_g, name)(argument)
        rounded = complex(*[dtypes.as_dtype(real).round(p) for p in parts(exact)])
        # 4 is the budget of either, in units of the last place, which are eps of the larger part at most
        if not agree(value, rounded, open_signs(name, (argument,)), eps, 8):
            failed.append((argument, value, rounded))
    assert failed == []


def test_special_values_of_the_modulus(path: str) -> None:
    for dtype in DTYPES:
        z, eps = points(dtype, 1e-30, 1e30), float(np.finfo(dtype).eps)
        result = elementwise.make("abs", dtype)(z)
        assert result.dtype == z.real.dtype
        real = dtypes.as_dtype(result.dtype)
        for argument, value in zip(z.tolist(), result.tolist(), strict=True):
            assert agree(value, real.round(annex_g.modulus(argument)), (False,), eps, 2), (
                argument
            )  # the budget


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["divide", "pow"])
def test_special_values_of_two_operands(name: str, dtype: str) -> None:
    tiny = float(np.finfo(dtype).smallest_normal)
    values = [
        0.0,
        -0.0,
        1.0,
        -2.0,
        0.5,
        3.0,
        math.inf,
        -math.inf,
        math.nan,
        *([tiny, 1 / tiny] if name == "divide" else []),
    ]
    z = np.array([complex(a, b) for a in values for b in values], dtype)
    pairs = list(itertools.product(z.tolist(), z.tolist()))
    x, y = (np.array(column, dtype) for column in zip(*pairs, strict=True))
    eps, real = float(np.finfo(dtype).eps), dtypes.as_dtype(dtype).real
    failed = []
    for (a, b), value in zip(pairs, elementwise.make(name, dtype)(x, y).tolist(), strict=True):
        rounded = complex(*[real.round(p) for p in parts(getattr(annex_g, name)(a, b))])
        if not agree(value, rounded, (False, False), eps, 8):  # 4 and 8 are the budgets
            failed.append((a, b, value, rounded))
    assert failed == []


EXACT = {
    "expm1": mpmath.expm1, "log1p": mpmath.log1p, "log2": lambda z: mpmath.log(z) / mpmath.log(2),
    "log10": lambda z: mpmath.log(z) / mpmath.log(10), "sign": lambda z: z / abs(z), "divide": lambda a, b: a / b,
    "pow": lambda a, b: mpmath.exp(b * mpmath.log(a)), "abs": abs,
}  # fmt: skip
# The largest errors that between 1000 and 28000 points showed, in ULP of the larger part, and a tenth more (3 where no
# number stands). The budgets are 2 for abs and sqrt, 8 for pow and 4 for the others.
LIMITS = {
    "abs": 1.9, "sqrt": 1.5, "sign": 1.9, "divide": 2.7, "pow": 2.9, "exp": 2.4, "expm1": 2.7, "log": 2.5, "log1p": 2.4,
    "log2": 2.5, "log10": 3.0, "sin": 3.0, "cos": 2.9, "sinh": 3.0, "cosh": 2.9, "tan": 3.9, "tanh": 3.9,
}  # fmt: skip


def samples(dtype: str, count: int, seed: int) -> np.ndarray:
    """Numbers of every size and angle, near 1 and -1, near the unit circle and near the axes."""
    random = np.random.default_rng(seed)

    def polar(low: float, high: float) -> np.ndarray:
        return np.exp(random.uniform(low, high, count) + 1j * random.uniform(-4, 4, count))

    def signed(low: float, high: float) -> np.ndarray:
        return np.exp(random.uniform(low, high, count)) * random.choice([1, -1], count)

    found = [
        polar(-40, 4), polar(-1e-3, 1e-3), 1 + polar(-40, 0), polar(-40, 0) - 1, signed(-3, 2) + 1j * signed(-40, 3),
        signed(-40, 3) + 1j * signed(-3, 2),
    ]  # fmt: skip
    return np.concatenate(found).astype(dtype)


def largest_error(name: str, dtype: str, *operands: np.ndarray) -> float:
    """In units of the last place of the larger part of the exact result."""
    result = elementwise.make(name, dtype)(*operands)
    worst, eps = 0.0, float(np.finfo(dtype).eps)
    with mpmath.workprec(400):
        for value, *arguments in zip(result.tolist(), *[o.tolist() for o in operands], strict=True):
            exact = EXACT.get(name, getattr(mpmath, name, None))(*map(mpmath.mpc, arguments))
            size = max(abs(exact.real), abs(exact.imag))
            if not 1e-30 < size < 1e30:
                continue
            unit = math.ldexp(eps, math.frexp(float(size))[1] - 1)
            error = max(abs(exact.real - parts(value)[0]), abs(exact.imag - (parts(value) + (0.0,))[1]))
            worst = max(worst, float(error) / unit)
    return worst


@pytest.mark.parametrize("name", ["abs", "divide", "pow", *FUNCTIONS])
def test_accuracy(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elementwise, "CROSSOVER", 0)
    wide = [samples("complex128", 25, 0)]
    single = [samples("complex64", 10, 1)]
    if name in ("divide", "pow"):
        wide.append(np.random.default_rng(2).permutation(samples("complex128", 25, 3)))
        single.append(np.random.default_rng(4).permutation(samples("complex64", 10, 5)))
    assert largest_error(name, "complex128", *wide) <= LIMITS.get(name, 3.0)
    # computed in double precision and rounded once; the modulus, in single precision, by three roundings
    assert largest_error(name, "complex64", *single) <= (1.9 if name == "abs" else 0.501)


def test_a_quotient_of_large_or_small_numbers_is_accurate() -> None:
    z = samples("complex128", 20, 6)
    for scale in (1e300, 1e-300):
        error = largest_error(
            "divide", "complex128", z * scale, np.random.default_rng(7).permutation(z) * scale
        )
        assert error <= LIMITS["divide"]


def test_integer_powers_are_exact() -> None:
    gaussian = [complex(a, b) for a in range(-4, 5) for b in range(-4, 5) if a or b]
    for dtype in DTYPES:
        power = elementwise.make("pow", dtype)
        for n in range(1, 8):
            exact = [1 + 0j] * len(gaussian)
            for _ in range(n):
                exact = [
                    complex(z.real * w.real - z.imag * w.imag, z.real * w.imag + z.imag * w.real)
                    for z, w in zip(exact, gaussian, strict=True)
                ]
            z = np.array(gaussian, dtype)
            np.testing.assert_array_equal(power(z, complex(n)), np.array(exact, dtype))
            np.testing.assert_array_equal(power(z, np.full(z.shape, n, dtype)), np.array(exact, dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [*FUNCTIONS, "divide", "pow"])
def test_no_element_depends_on_its_neighbours(name: str, dtype: str) -> None:
    special = points(dtype)
    z = np.empty(2 * special.size, dtype)
    z[::2], z[1::2] = special, samples(dtype, special.size, 8)[: special.size]
    kernel = elementwise.make(name, dtype)
    operands = [z, np.random.default_rng(9).permutation(z)] if name in elementwise.TWO_OPERANDS else [z]
    together = kernel(*operands)
    alone = np.array([kernel(*[o[i : i + 1] for o in operands])[0] for i in range(z.size)])
    assert together.tobytes() == alone.tobytes()


BINARY = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "equal": np.equal,
    "not_equal": np.not_equal,
}
UNARY = {
    "negative": np.negative,
    "conj": np.conjugate,
    "round": np.rint,
    "isnan": np.isnan,
    "isinf": np.isinf,
    "isfinite": np.isfinite,
}


@pytest.mark.parametrize("dtype", DTYPES)
def test_arithmetic_is_plain(dtype: str, path: str) -> None:
    z = points(dtype, 2.5, 3.5)[: 400 if dtype == "complex64" else None]
    with np.errstate(all="ignore"):
        for name, function in UNARY.items():
            same(elementwise.make(name, dtype)(z), function(z))
        values = [
            0.0,
            -0.0,
            1.0,
            -2.5,
            math.inf,
            -math.inf,
            math.nan,
        ]  # NumPy's products are fused on some machines
        few = np.array([complex(a, b) for a in values for b in values], dtype)
        x, y = (v.ravel() for v in np.meshgrid(few, few))
        for name, function in BINARY.items():
            same(elementwise.make(name, dtype)(x, y), function(x, y))


def same(result: np.ndarray, expected: np.ndarray) -> None:
    assert type(result) is np.ndarray and result.dtype == expected.dtype
    np.testing.assert_array_equal(result, expected)
    if result.dtype.kind == "c":
        for part, wanted in ((result.real, expected.real), (result.imag, expected.imag)):
            numbers = ~np.isnan(wanted)
            np.testing.assert_array_equal(np.signbit(part)[numbers], np.signbit(wanted)[numbers])


def ordinary(dtype: str, *shape: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return (random.standard_normal(shape) + 1j * random.standard_normal(shape)).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_layouts_and_broadcasting(dtype: str, path: str) -> None:
    x, y = ordinary(dtype, 6, 40), ordinary(dtype, 40, seed=1)
    raw = np.zeros(x.nbytes + 1, np.uint8)
    unaligned = raw[1:].view(dtype).reshape(x.shape)
    unaligned[...] = x
    for a in (
        x,
        np.asfortranarray(x),
        unaligned,
        np.repeat(x, 2, 1)[:, ::2],
        x[::-1, ::-1].copy()[::-1, ::-1],
    ):
        np.testing.assert_array_equal(elementwise.make("subtract", dtype)(a, y), x - y)
        np.testing.assert_array_equal(elementwise.make("exp", dtype)(a), elementwise.make("exp", dtype)(x))
    np.testing.assert_array_equal(elementwise.make("divide", dtype)(x[:, :1], y), elementwise.make("divide", dtype)(np.repeat(x[:, :1], 40, 1), np.tile(y, (6, 1))))  # fmt: skip
    assert elementwise.make("sqrt", dtype)(np.array(-4, dtype)).shape == ()
    assert elementwise.make("pow", dtype)(np.zeros((0, 3), dtype), 2j).shape == (0, 3)


@pytest.mark.parametrize("dtype", DTYPES)
def test_results_in_the_place_of_operands(dtype: str, path: str) -> None:
    for size in (3, 255, 256, 257, 5000):
        for name in ("multiply", "divide"):
            x, y = ordinary(dtype, size), ordinary(dtype, size, seed=1)
            expected = elementwise.make(name, dtype)(x, y)
            out = elementwise.make(name, dtype).into(x, x, y)
            assert out is x
            np.testing.assert_array_equal(out, expected)
    assert not hasattr(elementwise.make("abs", dtype), "into")  # the result has another dtype


def test_scalars_that_are_equal_and_differ(path: str) -> None:
    multiply, x = elementwise.make("multiply", "complex128"), np.full(3, complex(1, -0.0))
    for _ in range(2):
        assert not np.signbit(multiply(x, complex(1, 0.0)).imag).any()
        assert np.signbit(multiply(x, complex(1, -0.0)).imag).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_where_moves_every_bit(dtype: str, path: str) -> None:
    where, z = elementwise.make("where", dtype), points(dtype)
    condition = np.arange(z.size) % 3 == 0
    same(where(condition, z, z[::-1]), np.where(condition, z, z[::-1]))
    same(where(condition, z, complex(1, -0.0)), np.where(condition, z, np.array(complex(1, -0.0), dtype)))


def test_parts_are_views() -> None:
    z = ordinary("complex64", 5)
    real, imag = elementwise.make("real", "complex64")(z), elementwise.make("imag", "complex64")(z)
    assert real.dtype == imag.dtype == np.float32
    assert np.shares_memory(real, z) and np.shares_memory(imag, z)
    same(elementwise.make("imag", "float64")(np.array([1.0, math.nan])), np.zeros(2))


REALS = ["bool", "int8", "int64", "uint64", "float32", "float64"]


@pytest.mark.parametrize("target", ["bool", *DTYPES])
@pytest.mark.parametrize("source", [*REALS, *DTYPES])
def test_casts(source: str, target: str, path: str) -> None:
    if source.startswith("complex"):
        x = points(source)
    elif source.startswith("float"):
        x = np.array([0.0, -0.0, 1.5, math.inf, math.nan, 1e30], source)
    else:
        x = (
            np.array([0, 1], source)
            if source == "bool"
            else np.array([0, 1, np.iinfo(source).max, np.iinfo(source).min], source)
        )
    with np.errstate(all="ignore"):
        expected = x.astype(target)
    same(casts.make_astype(source)(x, dtype=dtypes.as_dtype(target)), expected)


def test_nothing_warns(path: str) -> None:
    with np.errstate(all="raise"), warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in elementwise.COMPLEX:
            if name not in ("where", "square"):
                kernel, z = elementwise.make(name, "complex64"), points("complex64")
                kernel(z, z) if name in elementwise.TWO_OPERANDS else kernel(z)


def test_single_precision_accumulates_in_double() -> None:
    z, c64 = ordinary("complex64", 4000, 3), dtypes.complex64
    wide = z.astype(complex)
    exact = wide.sum(0)
    total = reduce.make_sum("complex64")(z, axis=(-2,), dtype=c64, keepdims=False)
    running = scan.cumulative_sum(z, axis=-2, dtype=c64)
    product = reduce.prod(z[:50], axis=(-2,), dtype=c64, keepdims=False)
    u = 2.0**-24  # one rounding of each part; what double precision errs is less than a thousandth of that
    assert total.dtype == running.dtype == product.dtype == np.complex64
    assert np.abs(total - exact).max() <= 1.5 * u * np.abs(exact).max()
    assert np.abs(running - wide.cumsum(0)).max() <= 1.5 * u * np.abs(wide.cumsum(0)).max()
    assert (np.abs(product - wide[:50].prod(0)) <= 1.5 * u * np.abs(wide[:50].prod(0))).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_elements_are_moved(dtype: str) -> None:
    z = ordinary(dtype, 300, 400)
    np.testing.assert_array_equal(movement.copy(z.T), z.T)  # the compiled transposition
    padded = movement.pad(z, pad_width=((1, 0), (0, 2)), constant_value=2 - 1j)
    np.testing.assert_array_equal(padded, np.pad(z, ((1, 0), (0, 2)), constant_values=2 - 1j))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [20, 3000])
def test_scatter_add(dtype: str, size: int) -> None:
    z, values = ordinary(dtype, 7, 4), ordinary(dtype, size, 4, seed=1)
    places = np.random.default_rng(2).integers(-7, 7, size)
    expected = z.astype(complex)
    np.add.at(expected, places, values)
    result = index.scatter_add(z, values, places, axis=-2, overwrite=False)
    # n additions of elements of size 3 at most, each part with half an ULP of the sum
    limit = size / 7 * 3 * np.abs(expected).max() * float(np.finfo(dtype).eps)
    assert result.dtype == dtype and np.abs(result - expected).max() <= limit
