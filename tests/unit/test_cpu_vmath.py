"""Accuracy of the cpu backend's own mathematics, against mpmath: the errors stand in the assertions, in ULP."""

from __future__ import annotations

from typing import Any

import mpmath
import numpy as np
import pytest

elementwise = pytest.importorskip("corelib_cpu.elementwise")

LIMITS = {
    "exp": 1.1,
    "log": 1.25,
    "log2": 1.6,
    "log10": 1.6,
    "sin": 1.6,
    "cos": 1.6,
    "asin": 1.6,
    "tanh": 1.35,
    "erf": 2.5,
    "sqrt": 0.5,
}
LIMITS64 = {"exp": 1.0, "log": 0.9, "erf": 1.0, "sqrt": 0.5}


@pytest.fixture(autouse=True)
def compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """The compiled kernels at every size."""
    monkeypatch.setattr(elementwise, "CROSSOVER", 0)


def points(name: str, dtype: str) -> np.ndarray:
    generator = np.random.default_rng(0)
    kind = np.dtype(dtype)
    ends = {"float32": (-104.5, 89.5), "float64": (-746.0, 710.5)}[dtype]
    integers = np.dtype(f"uint{kind.itemsize * 8}")
    parts = [
        generator.integers(0, np.iinfo(integers).max, 600, integers).view(kind),
        generator.standard_normal(600) * 2,
        1 + generator.standard_normal(400) * 0.05,
        generator.uniform(*ends, 500) if name == "exp" else generator.uniform(-5, 5, 300),
        np.array(
            [
                0.625,
                0.62499,
                1.0,
                0.99999,
                4.0,
                np.finfo(kind).max,
                np.finfo(kind).tiny,
                np.finfo(kind).smallest_subnormal,
            ]
        ),
    ]
    with np.errstate(all="ignore"):
        x = np.concatenate([np.asarray(part, kind) for part in parts])
    x = x[np.isfinite(x)]
    if name == "asin":
        return x[np.abs(x) <= 1]
    return np.abs(x) if name in ("log", "log2", "log10", "sqrt") else x


def largest_error(result: np.ndarray, x: np.ndarray, function: Any) -> float:
    """In units of the last place of the exact result."""
    worst = 0.0
    kind = result.dtype
    digits, lowest = {4: (24, -149), 8: (53, -1074)}[kind.itemsize]
    with mpmath.workprec(200):
        for value, argument in zip(result.tolist(), x.tolist(), strict=True):
            exact = function(mpmath.mpf(argument))
            if not mpmath.isfinite(exact) or abs(exact) >= mpmath.mpf(2) ** (
                128 if kind.itemsize == 4 else 1024
            ):
                assert (
                    value == (mpmath.inf if exact > 0 else -mpmath.inf) or abs(value) >= np.finfo(kind).max
                ), argument
                continue
            exponent = max(mpmath.frexp(exact)[1] - digits, lowest) if exact else lowest
            worst = max(worst, float(abs(mpmath.mpf(value) - exact) / mpmath.mpf(2) ** exponent))
    return worst


EXACT: dict[str, Any] = {"log2": lambda x: mpmath.log(x, 2)}
CASES = [*((n, "float32", e) for n, e in LIMITS.items()), *((n, "float64", e) for n, e in LIMITS64.items())]


@pytest.mark.parametrize(("name", "dtype", "limit"), CASES)
def test_error(name: str, dtype: str, limit: float) -> None:
    x = points(name, dtype)
    result = elementwise.make(name, dtype)(x)
    assert largest_error(result, x, EXACT.get(name) or getattr(mpmath, name)) <= limit


INF, NAN = np.inf, np.nan
SPECIAL = {
    "exp": ([0.0, -0.0, INF, -INF, 800.0, -800.0, NAN], [1.0, 1.0, INF, 0.0, INF, 0.0, NAN]),
    "log": ([0.0, -0.0, 1.0, INF, -1.0, -INF, NAN], [-INF, -INF, 0.0, INF, NAN, NAN, NAN]),
    "log2": ([0.0, -0.0, 1.0, 0.125, INF, -1.0, NAN], [-INF, -INF, 0.0, -3.0, INF, NAN, NAN]),
    "sin": ([0.0, -0.0, 1e-30, -1e-42, INF, -INF, NAN], [0.0, -0.0, 1e-30, -1e-42, NAN, NAN, NAN]),
    "cos": ([0.0, -0.0, 1e-30, INF, -INF, NAN], [1.0, 1.0, 1.0, NAN, NAN, NAN]),
    "log10": ([0.0, -0.0, 1.0, 1000.0, INF, -1.0, NAN], [-INF, -INF, 0.0, 3.0, INF, NAN, NAN]),
    "asin": ([0.0, -0.0, 1e-30, 1.5, INF, NAN], [0.0, -0.0, 1e-30, NAN, NAN, NAN]),
    "tanh": ([0.0, -0.0, INF, -INF, 30.0, 1e-30, NAN], [0.0, -0.0, 1.0, -1.0, 1.0, 1e-30, NAN]),
    "erf": ([0.0, -0.0, INF, -INF, 30.0, NAN], [0.0, -0.0, 1.0, -1.0, 1.0, NAN]),
    "sqrt": ([0.0, -0.0, INF, -1.0, NAN], [0.0, -0.0, INF, NAN, NAN]),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", SPECIAL)
def test_special_values(name: str, dtype: str) -> None:
    x, expected = (np.array(values, dtype) for values in SPECIAL[name])
    result = elementwise.make(name, dtype)(x)
    np.testing.assert_array_equal(result, expected)
    numbers = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(result)[numbers], np.signbit(expected)[numbers])


@pytest.mark.parametrize("name", ["exp", "log", "tanh"])
def test_tails_are_computed_as_the_middle(name: str) -> None:
    x = np.abs(np.random.default_rng(0).standard_normal(200).astype("f"))
    kernel = elementwise.make(name, "float32")
    whole = kernel(x)
    for size in (1, 15, 16, 17, 31, 33, 127, 129):
        np.testing.assert_array_equal(kernel(x[:size].copy()), whole[:size])


@pytest.mark.parametrize("name", ["sin", "cos", "tan"])
def test_large_angles_are_reduced_exactly(name: str) -> None:
    """Beside multiples of pi/2, alone, among others, and where the result takes the operand's place."""
    hard = [9.81743167266577e76, 1.8625853228459943e205, 3.3662298459631356e50, 2.7866687805662905e179, 5.3e8]
    x = np.array([*hard, *(-h for h in hard), 0.5, NAN, INF] * 100)
    kernel = elementwise.make(name, "float64")
    some = x[: 2 * len(hard) + 1]
    result = kernel(some)
    assert largest_error(result, some, getattr(mpmath, name)) <= 1.6
    np.testing.assert_array_equal(kernel(x)[: some.size], result)
    np.testing.assert_array_equal(kernel(x.reshape(100, -1)[::-1, ::2])[0], kernel(x)[: x.size // 100 : 2])
    kernel.into(some, some)
    np.testing.assert_array_equal(some, result)


def test_sines_near_multiples_of_a_right_angle_in_float32() -> None:
    """The float32 next to n pi/2, on both sides of where the reduction changes."""
    n = np.arange(1, 9000)
    x = (n * (np.pi / 2)).astype(np.float32)
    x = np.concatenate([x, -x])
    for name in ("sin", "cos"):
        result = elementwise.make(name, "float32")(x)
        assert largest_error(result, x, getattr(mpmath, name)) <= 1.6


@pytest.mark.parametrize(("dtype", "limit"), [("float32", 0.501), ("float64", 1.6)])
def test_hypot(dtype: str, limit: float) -> None:
    draw = np.random.default_rng(0)
    kind, integers = np.dtype(dtype), np.dtype(f"uint{8 * np.dtype(dtype).itemsize}")
    bits = draw.integers(0, np.iinfo(integers).max, (2, 600), integers).view(kind)
    bits = bits[:, np.isfinite(bits).all(0)]
    near = draw.standard_normal((2, 600)).astype(kind)
    tiny = (draw.integers(0, 9, (2, 50)) * np.finfo(kind).smallest_subnormal).astype(kind)
    x, y = np.concatenate([bits, near, tiny], 1)
    kernel = elementwise.make("hypot", dtype)
    with np.errstate(over="ignore"):
        result = kernel(x, y)
    pairs = dict(enumerate(zip(x.tolist(), y.tolist(), strict=True)))
    number = np.arange(x.size).astype(kind)
    assert largest_error(result, number, lambda i: mpmath.hypot(*map(mpmath.mpf, pairs[int(i)]))) <= limit
    x = np.array([0, -0.0, INF, -INF, NAN, NAN, 3, INF], kind)
    y = np.array([-0.0, 0, NAN, 1, INF, 1, -4, -INF], kind)
    np.testing.assert_array_equal(kernel(x, y), np.array([0, 0, INF, INF, INF, NAN, 5, INF], kind))
