"""Mistakes in complex and half-precision arithmetic: each planted one must be found, by the check that is meant to find it."""

from __future__ import annotations

import cmath
import math
import re
from typing import Any

import pytest
from planting import Kernel, call, elements, elementwise, in_half, remade, run

from corelib import dtypes, ops
from corelib.conformance import check
from corelib.dtypes import bfloat16, complex128, float16, float32
from corelib.errors import UnsupportedError
from corelib.op import BY_NAME, Derivative


def is_complex(x: Any) -> bool:
    return x.dtype.kind == "complex"


def complex_only(fn: Any) -> Any:
    """Operands of one shape combined by `fn` where the numbers are complex; others are left to the base."""

    def changed(kernel: Kernel, *operands: Any, **params: Any) -> Any:
        found = kernel(*operands, **params)
        if not all(getattr(o, "shape", None) == found.shape and is_complex(o) for o in operands):
            return found
        return remade(found, data=[fn(*values) for values in zip(*(o.data for o in operands), strict=True)])

    return call(changed)


def product_with_plus(a: complex, b: complex) -> complex:
    return complex(a.real * b.real + a.imag * b.imag, a.real * b.imag + a.imag * b.real)


def naive_quotient(a: complex, b: complex) -> complex:
    """By the textbook, whose squares overflow."""
    norm = b.real * b.real + b.imag * b.imag
    if not norm or not (cmath.isfinite(a) and cmath.isfinite(b)):
        return ieee_quotient(a, b)
    return complex((a.real * b.real + a.imag * b.imag) / norm, (a.imag * b.real - a.real * b.imag) / norm)


def ieee_quotient(a: complex, b: complex) -> complex:
    from corelib_reference import annex_g

    return annex_g.divide(a, b)


def naive_modulus(z: complex, small: bool) -> float:
    """The root of the sum of squares, for numbers below or above 1."""
    squares = z.real * z.real + z.imag * z.imag
    return (
        math.sqrt(squares) if cmath.isfinite(z) and (abs(z.real) < 1) is small else math.hypot(z.real, z.imag)
    )


def naive_exp(z: complex) -> complex:
    """e**a cos b + i e**a sin b, in IEEE 754: 0 times NaN is NaN."""
    wave = lambda f: f(z.imag) if math.isfinite(z.imag) else math.nan
    r = math.exp(z.real) if z.real < 700 else math.inf
    return complex(r * wave(math.cos), r * wave(math.sin))


def without_signed_zero(kernel: Kernel, x: Any) -> Any:
    """A cut approached from below is taken for one approached from above."""
    return kernel(remade(x, data=[complex(z.real, z.imag + 0.0) for z in x.data]) if is_complex(x) else x)


def the_other_root(kernel: Kernel, x: Any) -> Any:
    found = kernel(x)
    if not is_complex(x):
        return found
    return remade(
        found, data=[-w if z.imag < 0 and w.real > 0 else w for z, w in zip(x.data, found.data, strict=True)]
    )


def conjugated_operand(kernel: Kernel, x1: Any, x2: Any) -> Any:
    return kernel(remade(x1, data=[z.conjugate() for z in x1.data]) if is_complex(x1) else x1, x2)


def half_steps(kernel: Kernel, x: Any, *, axis: Any, **params: Any) -> Any:
    """Sums of rows, accumulated in the dtype itself."""
    found = kernel(x, axis=axis, **params)
    if axis != (-1,) or not x.data:
        return found
    n, sums = x.shape[-1], []
    for row in range(len(found.data)):
        total = 0.0
        for v in x.data[row * n : (row + 1) * n]:
            total = x.dtype.round(total + v)
        sums.append(total)
    return remade(found, data=sums)


def cast(change: Any) -> Any:
    """Each number of a cast to float16 or bfloat16 as `change(x, dtype)` gives it."""

    def changed(kernel: Kernel, x: Any, *, dtype: Any) -> Any:
        found = kernel(x, dtype=dtype)
        if dtype not in dtypes.HALF or x.dtype.kind != "float":
            return found
        return remade(
            found,
            data=[
                change(v, dtype) if math.isfinite(v) else f for v, f in zip(x.data, found.data, strict=True)
            ],
        )

    return call(changed)


def truncated(x: float, dtype: Any) -> float:
    near = dtype.round(x)
    if abs(near) <= abs(x):
        return near
    step = math.ldexp(dtype.eps, max(math.frexp(x)[1] - 1, math.frexp(dtype.smallest_normal)[1] - 1))
    return math.copysign(abs(near) - step, x) if math.isfinite(near) else math.copysign(dtype.max, x)


def saturated(x: float, dtype: Any) -> float:
    near = dtype.round(x)
    return near if math.isfinite(near) else math.copysign(dtype.max, x)


def conjugate_forgotten(kernel: Kernel, x: Any) -> Any:
    return x


# name: (op, its kernel changed, the check that finds it, words of its reason)
SABOTEURS = {
    "product with the wrong sign": ("multiply", complex_only(product_with_plus), "value", r"ulp apart; allowed: 2.5 ulp"),
    "conjugate forgotten": ("conj", call(conjugate_forgotten), "value", "ulp apart; allowed: 0 ulp"),
    "one matrix conjugated": ("matmul", call(conjugated_operand), "value", r"allowed: n\*u\*sum"),
    "the imaginary part of what is real": ("imag", call(lambda k, x: k(x) if is_complex(x) else x), "value", "ulp apart"),
    "modulus that overflows": ("abs", complex_only(lambda z: naive_modulus(z, False)), "special", "is inf, expected 1.797"),
    "modulus that underflows": ("abs", complex_only(lambda z: naive_modulus(z, True)), "special", "is 0.0, expected 2.2250738585072014e-308"),
    "quotient that overflows": ("divide", complex_only(naive_quotient), "special", "element"),
    "zero times NaN in exp": ("exp", complex_only(naive_exp), "special", r"is \(inf\+nanj\), expected \(nan\+0j\)"),
    "log blind to the sign of zero": ("log", call(without_signed_zero), "special", "ulp apart|sign differs"),
    "the other square root": ("sqrt", call(the_other_root), "value", "ulp apart; allowed: 2.5 ulp"),
    "negative as zero minus": ("negative", complex_only(lambda z: 0j - z), "special", "the sign differs"),
    "equal in the real parts": ("equal", elementwise(lambda a, b: a.real == b.real), "special", "is True, expected False"),
    "NaN in the real part alone": ("isnan", complex_only(lambda z: z.real != z.real), "special", "is False, expected True"),
    "rounded to whole moduli": ("round", complex_only(lambda z: complex(round(abs(z)))) , "value", "element"),
    "complex to bool by the real part": ("astype", call(lambda k, x, *, dtype: remade(k(x, dtype=dtype), data=[z.real != 0 for z in x.data])
                                         if is_complex(x) and dtype is dtypes.bool else k(x, dtype=dtype)), "special", "is False, expected True"),
    "complex128 computed in complex64": ("sin", elements(lambda z: complex(float32.round(z.real), float32.round(z.imag))
                                         if isinstance(z, complex) else z), "value", "ulp apart"),
    "halves accumulated in halves": ("sum", in_half(call(half_steps)), "special", r"is 2048.0, expected 2080.0, 16 ulp apart; allowed: n\*u\*sum"),
    "halves cut off": ("astype", cast(truncated), "special", "1 ulp apart; allowed: 0 ulp"),
    "rounded to float32 on the way": ("astype", cast(lambda x, dtype: dtype.round(float32.round(x))), "special", "1 ulp apart; allowed: 0 ulp"),
    "saturated at the largest half": ("astype", cast(saturated), "special", "is 65504.0, expected inf"),
    "halves widened and left so": ("exp", in_half(call(lambda k, x: remade(k(x), dtype=float32))), "value", r"the result is float32\[\], expected \w*float16\[\]"),
}  # fmt: skip


@pytest.mark.parametrize("name", SABOTEURS)
def test_mistake_is_found(name, plant):
    op, change, what, words = SABOTEURS[name]
    report = run(plant(**{op: change}), op)
    reasons = [outcome.reason for outcome in report.failures if outcome.case.what == what]
    assert any(re.search(words, reason) for reason in reasons), [
        (o.case.id, o.reason) for o in report.failures
    ][:5]
    assert report.generated == len(report.outcomes)


@pytest.mark.parametrize("op", dict.fromkeys(op for op, *_ in SABOTEURS.values()))
def test_the_same_cases_pass_on_the_sound_backend(op):
    assert run("reference", op).ok


def test_where_the_standard_leaves_a_sign_open_both_are_right(plant):
    """cosh(0 + inf i) is NaN + 0i, "sign of the imaginary component is unspecified"."""
    flip = complex_only(lambda z: complex(math.nan, -0.0) if z == complex(0, math.inf) else ieee_cosh(z))
    assert run(plant(cosh=flip), "cosh").ok


def test_a_sign_that_the_standard_fixes_must_be_right(plant):
    """cosh(0 + 0i) is 1 + 0i."""
    flip = complex_only(lambda z: complex(1.0, -z.imag * z.real) if z == 0 else ieee_cosh(z))
    assert "special" in {outcome.case.what for outcome in run(plant(cosh=flip), "cosh").failures}


def ieee_cosh(z: complex) -> complex:
    from corelib_reference import annex_g

    return annex_g.cosh(z)


# -- derivative rules of complex ops -------------------------------------------------------------------------------


def laws(op: str) -> list[str]:
    report = check("reference", [BY_NAME[op]], [complex128], what=["laws"])
    assert report.generated > 0
    return [outcome.reason for outcome in report.failures]


def test_a_transpose_that_is_not_conjugated_is_found(monkeypatch):
    op = BY_NAME["imag"]
    right = op.derivative.rules[0]
    monkeypatch.setattr(op, "derivative", Derivative(op, "linear", lambda g, x: ops.conj(right(g, x))))
    assert all("reverse mode gives" in reason for reason in laws("imag"))
    assert laws("imag")


def test_an_adjoint_that_is_a_mere_transpose_is_found(monkeypatch):
    op = BY_NAME["outer"]
    assert laws("outer") == []
    rule = lambda g, x1, x2: (ops.sum(g * x2, axis=1), ops.sum(g * ops.reshape(x1, (-1, 1)), axis=0))
    monkeypatch.setattr(op, "derivative", Derivative(op, "vjp", rule))
    assert laws("outer")


def test_a_partial_that_is_holomorphic_in_name_only_is_found(monkeypatch):
    op = BY_NAME["exp"]
    monkeypatch.setattr(op, "derivative", Derivative(op, "d", lambda y: ops.conj(y)))
    assert laws("exp")


# -- groups that a backend lacks ---------------------------------------------------------------------------------------


def refusing(kernel: Kernel) -> Kernel:
    def refuse(*operands: Any, **params: Any) -> Any:
        if any(is_complex(o) for o in operands if hasattr(o, "dtype")):
            raise UnsupportedError("no complex numbers here")
        return kernel(*operands, **params)

    return refuse


def test_what_a_backend_declares_to_lack_it_must_refuse(plant):
    report = run(plant(lacks=("complex",), negative=refusing), "negative")
    assert report.ok
    refused = [o for o in report.outcomes if o.status == "unsupported"]
    assert {o.case.dtype for o in refused if o.case.what != "process"} == {*dtypes.COMPLEX}
    assert "no complex numbers here" in report.text()


@pytest.mark.parametrize(("group", "kinds"), [("complex", dtypes.COMPLEX), ("half", dtypes.HALF)])
def test_a_group_that_a_backend_has_although_it_says_that_it_lacks_it_fails(plant, group, kinds):
    report = run(plant(lacks=(group,)), "exp")
    assert {outcome.case.dtype for outcome in report.failures} == {*kinds}
    assert f"the backend declares that it lacks {group!r}, and gives a result" in report.failures[0].reason


# -- distances -----------------------------------------------------------------------------------------------------------


def test_the_budget_of_a_complex_result_counts_its_larger_part(plant):
    """An error of many ULP of the small part is a fraction of one of the large part."""

    def nudged(z: complex) -> complex:
        tiny = 0 < abs(z.imag) < 1e-12 * abs(z.real) < 1e290
        return complex(z.real, z.imag * (1 + 1e-4)) if tiny and abs(z.imag) > 1e-290 else z

    change = elements(lambda z: nudged(z) if isinstance(z, complex) else z)
    device = plant(sqrt=change, negative=change)
    assert run(device, "sqrt").ok
    report = run(device, "negative")
    assert any(
        "ulp apart; allowed: 0 ulp" in o.reason for o in report.failures
    )  # of which each part is exact


@pytest.mark.parametrize(("dtype", "x"), [(float16, 65504.0), (bfloat16, 3.3895313892515355e38)])
def test_the_largest_half_is_one_step_from_no_other_than_its_neighbour(dtype, x):
    from corelib.conformance.distance import ordinal

    assert dtype.max == x
    assert ordinal(x, dtype) == ordinal(x - math.ldexp(dtype.eps, math.frexp(x)[1] - 1), dtype) + 1
    assert ordinal(-0.0, dtype) == 0
