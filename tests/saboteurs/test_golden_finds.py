"""What the golden vectors are for: an error of one ULP more than the budget at any point, and the formulas of textbooks."""

from __future__ import annotations

import cmath
import math
import re
from collections.abc import Callable
from typing import Any

import pytest

from corelib.conformance.distance import parts, unit
from corelib.conformance.golden import Vectors, check_golden, vectors
from corelib.dtypes import complex64, complex128, float32, float64
from corelib.op import BY_NAME, OPS

WITH_VECTORS = [op for op in OPS if vectors(op)]


def correct(v: Vectors) -> list[Any]:
    """The rounded results."""
    return [complex(*r) if len(r) > 1 else r[0] for r, _ in v.exact]


def over_budget(v: Vectors, i: int) -> Any:
    """The rounded result at point i with an error of at least half a ULP more than the budget; of complex ones in the
    larger part. Nearer to zero, where the sum is exact; at zero, beyond it.
    """
    dtype = v.dtype.real
    found = list(v.exact[i][0])
    at = max(range(len(found)), key=lambda k: abs(found[k]))
    size = max(map(abs, v.operands(i))) if v.unit == "largest" else 0.0
    steps = 1 if v.budget <= 0.5 else math.ceil(v.budget) + 1
    found[at] -= math.copysign(steps * unit(max(abs(found[at]), size), dtype), found[at])
    return complex(*found) if len(found) > 1 else found[0]


@pytest.mark.parametrize("op", WITH_VECTORS, ids=lambda op: op.name)
def test_one_ulp_over_the_budget_is_found_at_every_point(op):
    for v in vectors(op):
        results = correct(v)
        assert v.judge(results)[1] == []
        finite = [i for i in range(len(results)) if all(map(math.isfinite, v.exact[i][0]))]
        assert len(finite) > 0.8 * len(results)
        for i in finite:
            changed = over_budget(v, i)
            _, wrong = v.judge([*results[:i], changed, *results[i + 1 :]])
            assert len(wrong) == 1, f"{op.name}{v.operands(i)}: {changed!r} for {results[i]!r} was not found"


@pytest.mark.parametrize("dtype", [float32, float64, complex64, complex128])
def test_a_planted_kernel_is_found(plant, dtype):
    """3 ULP off where 2 are allowed, 5 where 4 are."""
    steps = 3 if dtype.kind == "float" else 5

    def off(x: Any) -> Any:
        real, *imaginary = parts(x)
        if imaginary and abs(imaginary[0]) > abs(real):
            return complex(real, away(imaginary[0]))
        return complex(away(real), *imaginary) if imaginary else away(real)

    def away(x: float) -> float:
        return dtype.real.round(x - math.copysign(steps * unit(x, dtype.real), x)) if math.isfinite(x) else x

    def change(kernel: Any) -> Any:
        def changed(x: Any) -> Any:
            y = kernel(x)
            return type(y)(y.shape, y.dtype, [off(z) for z in y.data])

        return changed

    device = plant(atan=change)
    worst, wrong = check_golden(BY_NAME["atan"], dtype, device)
    assert (
        steps - 0.5 <= worst <= 2 * steps + 2
    )  # twice so many just below a power of two, where a ULP is half as large
    assert re.search(
        r"atan\(.*\) is .*, expected .*: \d\S* ulp from the exact value; allowed: [24] ulp", str(wrong[0])
    )
    assert check_golden(BY_NAME["tan"], float32, device)[1] == []


def test_where_an_element_stands_may_matter(plant):
    """A kernel that is wrong in one element alone, and only where there are many."""

    def change(kernel: Any) -> Any:
        def changed(x: Any) -> Any:
            y = kernel(x)
            at = y.data.index(1.0)
            data = [*y.data[:at], 2.0, *y.data[at + 1 :]]
            return type(y)(y.shape, y.dtype, data) if len(y.data) > 1000 else y

        return changed

    device = plant(exp=change)
    assert check_golden(BY_NAME["exp"], float32, device)[1] == []
    assert len(check_golden(BY_NAME["exp"], float32, device, size=2000)[1]) == 1


def test_signs_of_zeros_count():
    (v,) = (v for v in vectors(BY_NAME["pow"]) if v.dtype is float64)
    results = correct(v)
    at = next(i for i, y in enumerate(results) if y == 0)
    _, wrong = v.judge([*results[:at], -results[at], *results[at + 1 :]])
    assert [str(w).rpartition(": ")[2] for w in wrong] == ["the sign differs"]


# The formulas of textbooks: each fails somewhere, in float64 and complex128, and the points know where.
MISTAKES: dict[str, dict[str, Callable[..., Any]]] = {
    "subnormal results are 0": {"exp": lambda x: math.exp(x) if x > -708 else 0.0},
    "exp beyond its range": {"sinh": lambda x: (math.exp(x) - math.exp(-x)) / 2, "cosh": lambda x: (math.exp(x) + math.exp(-x)) / 2},
    "difference of near numbers": {
        "expm1": lambda x: math.exp(x) - 1, "log1p": lambda x: math.log(1 + x), "acosh": lambda x: math.log(x + math.sqrt(x * x - 1)),
        "asinh": lambda x: math.log(x + math.sqrt(x * x + 1)), "atanh": lambda x: math.log((1 + x) / (1 - x)) / 2,
        "acos": lambda x: math.pi / 2 - math.asin(x), "erf": lambda x: 1 - math.erfc(x), "tanh": lambda x: 1 - 2 / (math.exp(2 * x) + 1),
    },
    "pi of 53 bits": {
        "sin": lambda x: math.sin(math.fmod(x, 2 * math.pi)), "cos": lambda x: math.cos(math.fmod(x, 2 * math.pi)),
        "tan": lambda x: math.tan(math.fmod(x, math.pi)),
    },
    "squares overflow": {"hypot": lambda x, y: math.sqrt(x * x + y * y)},
    "a logarithm times y": {"pow": lambda x, y: math.exp(y * math.log(x)) if x > 0 else math.pow(x, y)},
    "a quotient before its angle": {"atan2": lambda y, x: math.atan(y / x) + (math.copysign(math.pi, y) if x < 0 else 0)},
    "without a shift": {
        "logaddexp": lambda x, y: math.log(math.exp(x) + math.exp(y)), "sigmoid": lambda x: math.exp(x) / (1 + math.exp(x)),
        "softplus": lambda x: math.log(1 + math.exp(x)), "log_sigmoid": lambda x: math.log(1 / (1 + math.exp(-x))),
    },
    "not rounded correctly": {"sqrt": lambda x: math.exp(math.log(x) / 2), "divide": lambda x, y: x * (1 / y), "rsqrt": lambda x: math.exp(-math.log(x) / 2)},
    "a constant of 53 bits": {"log10": lambda x: math.log(x) / 2.302585092994045},
}  # fmt: skip
COMPLEX_MISTAKES: dict[str, Callable[..., Any]] = {
    "exp": lambda z: math.exp(z.real) * complex(math.cos(z.imag), math.sin(z.imag)),
    "expm1": lambda z: cmath.exp(z) - 1,
    "log": lambda z: complex(math.log(math.hypot(z.real, z.imag)), cmath.phase(z)),
    "log1p": lambda z: cmath.log(1 + z),
    "sqrt": lambda z: cmath.rect(math.sqrt(abs(z)), cmath.phase(z) / 2),
    "sin": lambda z: (cmath.exp(1j * z) - cmath.exp(-1j * z)) / 2j,
    "sinh": lambda z: (cmath.exp(z) - cmath.exp(-z)) / 2,
    "cosh": lambda z: (cmath.exp(z) + cmath.exp(-z)) / 2,
    "tanh": lambda z: cmath.sinh(z) / cmath.cosh(z),
    "asin": lambda z: -1j * cmath.log(1j * z + cmath.sqrt(1 - z * z)),
    "acos": lambda z: math.pi / 2 - cmath.asin(z),
    "asinh": lambda z: cmath.log(z + cmath.sqrt(z * z + 1)),
    "acosh": lambda z: cmath.log(z + cmath.sqrt(z * z - 1)),
    "atan": lambda z: (cmath.log(1 + 1j * z) - cmath.log(1 - 1j * z)) / 2j,
    "atanh": lambda z: (cmath.log(1 + z) - cmath.log(1 - z)) / 2,
    "abs": lambda z: math.sqrt(z.real * z.real + z.imag * z.imag),
    "sign": lambda z: z / math.sqrt(z.real * z.real + z.imag * z.imag),
    "divide": lambda z, w: z * w.conjugate() / (w.real * w.real + w.imag * w.imag),
    "reciprocal": lambda z: z.conjugate() / (z.real * z.real + z.imag * z.imag),
    "pow": lambda z, w: cmath.exp(w * cmath.log(z)),
}


def tried(function: Callable[..., Any], *operands: Any) -> Any:
    """The function's value; what an exception stands for is infinite."""
    try:
        return function(*operands)
    except (OverflowError, ValueError, ZeroDivisionError):
        return complex(math.inf, math.inf) if isinstance(operands[0], complex) else math.inf


@pytest.mark.parametrize(
    ("name", "function", "dtype"),
    [
        *(
            pytest.param(n, f, float64, id=f"{n}: {why}")
            for why, found in MISTAKES.items()
            for n, f in found.items()
        ),
        *(pytest.param(n, f, complex128, id=f"complex {n}") for n, f in COMPLEX_MISTAKES.items()),
    ],
)
def test_the_formulas_of_textbooks_are_found(name, function, dtype):
    v = next(v for v in vectors(BY_NAME[name]) if v.dtype is dtype)
    results = [tried(function, *v.operands(i)) for i in range(len(v.exact))]
    assert v.judge(results)[1] != []
