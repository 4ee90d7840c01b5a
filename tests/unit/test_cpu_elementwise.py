"""Element-wise kernels of the cpu backend: every layout, size and special value, on NumPy's path and on the compiled one."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest

import corelib

casts = pytest.importorskip("corelib_cpu.casts")
elementwise = pytest.importorskip("corelib_cpu.elementwise")

FLOATS = ["float32", "float64"]
INTS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
SIZES = [0, 1, 31, 32, 33, 1023, 1024, 1025, 70_001]


@pytest.fixture(params=["numpy", "compiled"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """NumPy's kernels at every size, or the compiled ones."""
    monkeypatch.setattr(elementwise, "CROSSOVER", 1 << 40 if request.param == "numpy" else 0)
    return request.param


def special(dtype: str) -> np.ndarray:
    kind = np.dtype(dtype)
    if kind.kind == "b":
        return np.array([False, True])
    if kind.kind in "iu":
        limits = np.iinfo(kind)
        return np.array([0, 1, 2, 3, 7, 100, limits.max, limits.max - 1, limits.min, limits.min + 1], kind)
    tiny = np.finfo(kind).smallest_subnormal
    big = np.finfo(kind).max
    values = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        0.5,
        -0.5,
        1.5,
        2.5,
        -2.5,
        3.0,
        np.inf,
        -np.inf,
        np.nan,
        tiny,
        -tiny,
        big,
        -big,
        1e-3,
        77.7,
    ]
    return np.array(values, kind)


def sample(dtype: str, size: int, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    kind = np.dtype(dtype)
    if kind.kind == "b":
        return generator.integers(0, 2, size).astype(bool)
    if kind.kind in "iu":
        limits = np.iinfo(kind)
        return generator.integers(limits.min, limits.max, size, kind, endpoint=True)
    return (generator.standard_normal(size) * 10).astype(kind)


def pairs(dtype: str) -> tuple[np.ndarray, np.ndarray]:
    values = special(dtype)
    a, b = np.meshgrid(values, values)
    return a.ravel().copy(), b.ravel().copy()


def same(result: np.ndarray, expected: np.ndarray) -> None:
    assert type(result) is np.ndarray
    assert result.dtype == expected.dtype
    assert result.shape == expected.shape
    np.testing.assert_array_equal(result, expected)
    if result.dtype.kind == "f":
        numbers = ~np.isnan(expected)
        np.testing.assert_array_equal(np.signbit(result)[numbers], np.signbit(expected)[numbers])


def numpy_result(function: Any, *operands: Any) -> np.ndarray:
    with np.errstate(all="ignore"):
        return np.asarray(function(*operands))


PLAIN_BINARY = {
    "add": np.add, "subtract": np.subtract, "multiply": np.multiply, "divide": np.divide, "copysign": np.copysign,
    "equal": np.equal, "not_equal": np.not_equal, "less": np.less, "less_equal": np.less_equal, "greater": np.greater,
    "greater_equal": np.greater_equal, "bitwise_and": np.bitwise_and, "bitwise_or": np.bitwise_or,
    "bitwise_xor": np.bitwise_xor,
}  # fmt: skip
PLAIN_UNARY = {
    "negative": np.negative, "abs": np.abs, "floor": np.floor, "ceil": np.ceil, "trunc": np.trunc, "round": np.rint,
    "sqrt": np.sqrt, "isnan": np.isnan, "isinf": np.isinf, "isfinite": np.isfinite, "bitwise_invert": np.invert,
}  # fmt: skip


def accepts(name: str, dtype: str) -> bool:
    if name in ("divide", "copysign", "sqrt"):
        return dtype.startswith("float")
    if name.startswith("bitwise"):
        return not dtype.startswith("float")
    return dtype != "bool" or name in ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal")


def cases(names: dict[str, Any]) -> list[tuple[str, str]]:
    """Every op with every dtype that it takes."""
    return [(name, dtype) for name in names for dtype in (*FLOATS, *INTS, "bool") if accepts(name, dtype)]


@pytest.mark.parametrize(("name", "dtype"), cases(PLAIN_BINARY))
def test_binary(name: str, dtype: str, path: str) -> None:
    kernel = elementwise.make(name, dtype)
    a, b = pairs(dtype)
    same(kernel(a, b), numpy_result(PLAIN_BINARY[name], a, b))
    for size in SIZES if dtype in ("float32", "int32") else [33]:
        a, b = sample(dtype, size, 1), sample(dtype, size, 2)
        same(kernel(a, b), numpy_result(PLAIN_BINARY[name], a, b))


@pytest.mark.parametrize(("name", "dtype"), cases(PLAIN_UNARY))
def test_unary(name: str, dtype: str, path: str) -> None:
    kernel = elementwise.make(name, dtype)
    for x in (special(dtype), sample(dtype, 1025)):
        expected = numpy_result(PLAIN_UNARY[name], x)
        if dtype.startswith(("int", "uint")) and name in ("floor", "ceil", "trunc", "round"):
            expected = x
        same(kernel(x), expected)


def layouts(x: np.ndarray) -> dict[str, np.ndarray]:
    """The elements of a (4, 6, 30) array in every layout."""
    wide = np.zeros((4, 6, 60), x.dtype)
    wide[..., ::2] = x
    raw = np.zeros(x.nbytes + 1, np.uint8)
    unaligned = raw[1:].view(x.dtype).reshape(x.shape)
    unaligned[...] = x
    frozen = x.copy()
    frozen.flags.writeable = False
    return {
        "contiguous": x, "fortran": np.asfortranarray(x), "strided": wide[..., ::2],
        "negative": x[::-1, :, ::-1].copy()[::-1, :, ::-1], "permuted": np.ascontiguousarray(x.transpose(2, 0, 1)).transpose(1, 2, 0),
        "unaligned": unaligned, "read-only": frozen, "sliced rows": np.concatenate([x, x], 1)[:, :6],
    }  # fmt: skip


@pytest.mark.parametrize("name", ["subtract", "less", "maximum"])
def test_every_pair_of_layouts(name: str, path: str) -> None:
    a, b = sample("float32", 720, 1).reshape(4, 6, 30), sample("float32", 720, 2).reshape(4, 6, 30)
    function = {"subtract": np.subtract, "less": np.less, "maximum": np.maximum}[name]
    kernel = elementwise.make(name, "float32")
    expected = function(a, b)
    for left in layouts(a).values():
        for right in layouts(b).values():
            same(kernel(left, right), expected)


SHAPES = [
    ((), ()), ((5,), ()), ((), (5,)), ((0,), (1,)), ((0, 3), (3,)), ((7, 40), (40,)), ((40,), (7, 40)), ((7, 40), (7, 1)),
    ((7, 1), (1, 40)), ((1, 1), (7, 40)), ((2, 3, 5, 7), (3, 1, 1)), ((2, 3, 5, 7), (2, 1, 5, 1)), ((1000, 3), (3,)),
    ((3, 4, 400), (4, 1)), ((3, 1, 400), (1, 4, 1)), ((300, 1), (1, 300)), ((2, 1, 3, 1), (1, 4, 1, 5)),
]  # fmt: skip


@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_broadcasting(shapes: tuple[tuple[int, ...], tuple[int, ...]], path: str) -> None:
    a, b = (sample("float32", math.prod(s), i).reshape(s) for i, s in enumerate(shapes))
    same(elementwise.make("subtract", "float32")(a, b), np.asarray(a - b))


def test_stride_zero(path: str) -> None:
    a = np.broadcast_to(np.float32(3), (50, 40))
    b = np.broadcast_to(sample("float32", 40), (50, 40))
    same(elementwise.make("multiply", "float32")(a, b), a * b)
    same(elementwise.make("multiply", "float32")(a, a), a * a)


@pytest.mark.parametrize("shapes", [((3,), (4,)), ((2, 3), (2,))], ids=str)
def test_shapes_that_do_not_fit_are_refused(shapes: Any, path: str) -> None:
    with pytest.raises(ValueError, match="broadcast"):
        elementwise.make("add", "float32")(np.ones(shapes[0], "f"), np.ones(shapes[1], "f"))


def test_large_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="broadcast"):
        elementwise.make("add", "float32")(np.ones(70_000, "f"), np.ones(70_001, "f"))


@pytest.mark.parametrize("dtype", [*FLOATS, "int8", "uint64", "bool"])
def test_scalars_keep_the_dtype(dtype: str, path: str) -> None:
    x = sample(dtype, 100)
    value = {"f": 2.5, "i": -3, "u": 2**64 - 1, "b": True}[x.dtype.kind]
    kernel = elementwise.make("equal" if dtype == "bool" else "multiply", dtype)
    function = np.equal if dtype == "bool" else np.multiply
    same(kernel(x, value), function(x, np.asarray(value, dtype)))
    same(kernel(value, x), function(np.asarray(value, dtype), x))


def test_scalars_that_are_equal_and_differ(path: str) -> None:
    kernel = elementwise.make("copysign", "float32")
    one = np.ones(3, "f")
    for _ in range(2):
        assert kernel(one, 0.0).tolist() == [1, 1, 1]
        assert kernel(one, -0.0).tolist() == [-1, -1, -1]


def test_a_scalar_beyond_float32_is_infinite(path: str) -> None:
    assert np.isposinf(elementwise.make("add", "float32")(np.ones(3, "f"), 1e300)).all()
    assert np.isneginf(elementwise.make("multiply", "float32")(np.ones(3, "f"), -1e39)).all()


@pytest.mark.parametrize("dtype", FLOATS)
def test_nothing_warns_and_settings_stay(dtype: str, path: str) -> None:
    x = special(dtype)
    with np.errstate(all="raise"), warnings.catch_warnings():
        warnings.simplefilter("error")
        before = np.geterr()
        for name in elementwise.NUMPY:
            if name.startswith("bitwise") or (dtype == "float64" and name == "erf" and path == "numpy"):
                continue
            kernel = elementwise.make(name, dtype)
            kernel(x, x) if name in elementwise.TWO_OPERANDS else kernel(x)
        assert np.geterr() == before
        with pytest.raises(FloatingPointError):
            np.divide(x, 0)


@pytest.mark.parametrize("dtype", FLOATS)
def test_extremes_of_signed_zeros_and_nan(dtype: str, path: str) -> None:
    a, b = pairs(dtype)
    largest, smallest = elementwise.make("maximum", dtype)(a, b), elementwise.make("minimum", dtype)(a, b)
    for x, y, high, low in zip(*(v.tolist() for v in (a, b, largest, smallest)), strict=True):
        if math.isnan(x) or math.isnan(y):
            assert math.isnan(high) and math.isnan(low)
        else:
            first, second = sorted([x, y], key=lambda v: (v, math.copysign(1, v)))
            assert (high, math.copysign(1, high)) == (second, math.copysign(1, second))
            assert (low, math.copysign(1, low)) == (first, math.copysign(1, first))
    x = np.array([-0.0, 0.0, -1.0, 1.0, np.nan], dtype)
    same(elementwise.make("maximum", dtype)(x, 0.0), np.array([0.0, 0.0, 0.0, 1.0, np.nan], dtype))
    same(elementwise.make("minimum", dtype)(x, -0.0), np.array([-0.0, -0.0, -1.0, -0.0, np.nan], dtype))


def python_floor_divide(x: float, y: float) -> float:
    if y == 0 or math.isinf(x) or math.isinf(y):
        with np.errstate(all="ignore"):
            return float(np.float64(x) / np.float64(y))
    return x // y


def python_remainder(x: float, y: float) -> float:
    return math.nan if y == 0 or math.isinf(x) else x % y


@pytest.mark.parametrize("dtype", FLOATS)
def test_floor_divide_and_remainder_are_pythons(dtype: str, path: str) -> None:
    a, b = pairs(dtype)
    a, b = np.concatenate([a, sample(dtype, 500, 1)]), np.concatenate([b, sample(dtype, 500, 2)])
    for name, function in (("floor_divide", python_floor_divide), ("remainder", python_remainder)):
        with np.errstate(all="ignore"):
            expected = np.array([function(x, y) for x, y in zip(a.tolist(), b.tolist(), strict=True)]).astype(
                dtype
            )
        same(elementwise.make(name, dtype)(a, b), expected)


@pytest.mark.parametrize("dtype", INTS)
def test_integer_division(dtype: str, path: str) -> None:
    a, b = pairs(dtype)
    quotient, remainder = (
        elementwise.make("floor_divide", dtype)(a, b),
        elementwise.make("remainder", dtype)(a, b),
    )
    for x, y, q, r in zip(*(v.tolist() for v in (a, b, quotient, remainder)), strict=True):
        assert q == (int(np.array(x // y).astype(dtype)) if y and dtype != "uint64" else x // y if y else 0)
        assert r == (x % y if y else 0)


@pytest.mark.parametrize("dtype", INTS)
def test_integer_power(dtype: str, path: str) -> None:
    bits, signed = np.iinfo(dtype).bits, dtype.startswith("i")
    x, n = (
        v.ravel()
        for v in np.meshgrid(special(dtype), np.array([0, 1, 2, 3, 7, 63] + [-1, -2, -3] * signed, dtype))
    )
    result = elementwise.make("pow", dtype)(x, n)
    for base, exponent, value in zip(x.tolist(), n.tolist(), result.tolist(), strict=True):
        if exponent < 0:
            expected = 1 if base == 1 else (-1) ** (exponent % 2) if base == -1 else 0
        else:
            expected = pow(base, exponent, 1 << bits)
            expected -= (expected >> (bits - 1) << bits) if signed else 0
        assert value == expected, (base, exponent)


@pytest.mark.parametrize("dtype", FLOATS)
def test_power_is_ieee(dtype: str, path: str) -> None:
    a, b = pairs(dtype)
    result = elementwise.make("pow", dtype)(a, b)
    for x, y, r in zip(a.tolist(), b.tolist(), result.tolist(), strict=True):
        with np.errstate(all="ignore"):
            expected = float(np.float64(x) ** np.float64(y))
            expected = float(np.dtype(dtype).type(expected))
        assert (math.isnan(r) and math.isnan(expected)) or math.isclose(r, expected, rel_tol=1e-6), (x, y)
        assert math.isnan(r) or math.copysign(1, r) == math.copysign(1, expected), (x, y)
    x = special(dtype)
    with np.errstate(all="ignore"):
        same(elementwise.make("pow", dtype)(x, 2.0), x * x)


@pytest.mark.parametrize("dtype", INTS)
def test_shifts_beyond_the_width(dtype: str, path: str) -> None:
    bits = np.iinfo(dtype).bits
    x, n = (
        v.ravel()
        for v in np.meshgrid(
            special(dtype), np.array([0, 1, bits - 1, bits, bits + 1, 100] + [-1] * (dtype[0] == "i"), dtype)
        )
    )
    left, right = (
        elementwise.make("bitwise_left_shift", dtype)(x, n),
        elementwise.make("bitwise_right_shift", dtype)(x, n),
    )
    for value, by, a, b in zip(*(v.tolist() for v in (x, n, left, right)), strict=True):
        inside = 0 <= by < bits
        shifted = (value << by) % (1 << bits) if inside else 0
        assert a == (shifted - (1 << bits) if dtype[0] == "i" and shifted >> (bits - 1) else shifted)
        assert b == (value >> by if inside else -1 if value < 0 else 0)


@pytest.mark.parametrize("dtype", [*FLOATS, *INTS])
def test_sign(dtype: str, path: str) -> None:
    x = special(dtype)
    expected = np.array([v if v != v else (v > 0) - (v < 0) for v in x.tolist()], dtype)
    same(elementwise.make("sign", dtype)(x), expected)


@pytest.mark.parametrize("dtype", [*FLOATS, "int64", "uint8", "bool"])
def test_where(dtype: str, path: str) -> None:
    kernel = elementwise.make("where", dtype)
    for size in (0, 1, 33, 70_001):
        condition, a, b = sample("bool", size, 3), sample(dtype, size, 1), sample(dtype, size, 2)
        same(kernel(condition, a, b), np.where(condition, a, b))
        zero = 0.0 if a.dtype.kind == "f" else a.dtype.type(0).item()
        same(kernel(condition, a, zero), np.where(condition, a, np.asarray(zero, dtype)))
        same(kernel(condition, zero, b), np.where(condition, np.asarray(zero, dtype), b))
    condition, a, b = (
        sample("bool", 40, 3),
        sample(dtype, 280, 1).reshape(7, 40),
        sample(dtype, 7, 2).reshape(7, 1),
    )
    same(kernel(condition, a, b), np.where(condition, a, b))


ALL = [*FLOATS, *INTS, "bool"]


def exact_cast(value: Any, target: str) -> Any:
    kind = np.dtype(target)
    if kind.kind == "b":
        return value != 0
    if kind.kind == "f":
        with np.errstate(all="ignore"):
            return kind.type(value)
    limits = np.iinfo(kind)
    if isinstance(value, float):
        return (
            0
            if value != value
            else limits.max
            if value >= limits.max
            else limits.min
            if value <= limits.min
            else int(value)
        )
    wrapped = int(value) % (1 << limits.bits)
    return wrapped - (1 << limits.bits) if wrapped > limits.max else wrapped


@pytest.mark.parametrize("target", ALL)
@pytest.mark.parametrize("source", ALL)
def test_astype(source: str, target: str, path: str) -> None:
    class Target:
        name = target

    x = np.concatenate([special(source), sample(source, 40)])
    if x.dtype.kind == "f":
        more = [
            2.0**31,
            -(2.0**31),
            2.0**63,
            -(2.0**63),
            2.0**64,
            -0.9,
            255.5,
            256.0,
            127.9,
            -128.9,
            65535.5,
            4e9,
        ]
        x = np.concatenate([x, np.array(more, source)])
    result = casts.make_astype(source)(x, dtype=Target)
    expected = np.array([exact_cast(v, target) for v in x.tolist()], target)
    same(result, expected)


def test_results_have_no_dimensions_where_operands_have_none(path: str) -> None:
    zero_d = np.ones((), "f")
    for name in elementwise.NUMPY:
        if not name.startswith("bitwise"):
            kernel = elementwise.make(name, "float32")
            result = kernel(zero_d, 2.0) if name in elementwise.TWO_OPERANDS else kernel(zero_d)
            assert type(result) is np.ndarray and result.shape == (), name


def test_operands_are_not_changed(path: str) -> None:
    x = sample("float32", 5000)
    before = x.copy()
    for name in ("negative", "exp", "sqrt", "floor"):
        elementwise.make(name, "float32")(x)
    same(x, before)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_power_of_one_half_is_no_square_root(dtype: str) -> None:
    x = corelib.asarray([-math.inf, -0.0, 4.0], dtype=dtype, device="cpu")
    half = corelib.asarray(0.5, dtype=dtype, device="cpu")
    for exponent in (0.5, half, corelib.reshape(half, (1,)), corelib.broadcast_to(half, (3,))):
        r = x**exponent
        assert (r.tolist(), [math.copysign(1, v) for v in r.tolist()]) == (
            [math.inf, 0.0, 2.0],
            [1.0, 1.0, 1.0],
        )
