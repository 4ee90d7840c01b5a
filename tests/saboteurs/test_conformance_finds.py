"""What the conformance suite is for: each planted mistake must be found, and named."""

from __future__ import annotations

import functools
import math
import re
from typing import Any

import pytest
from planting import Kernel, away, call, elements, elementwise, only, remade, result, run

from corelib import dtypes
from corelib.conformance import check
from corelib.conformance.distance import ordinal, rounded, steps, unit
from corelib.errors import ShapeError
from corelib.op import BY_NAME, Derivative


def float32_sum(kernel: Kernel, x: Any, **params: Any) -> Any:
    """A sum that loses what float32 cannot hold."""
    found = kernel(x, **params)
    return remade(found, data=[rounded(v, dtypes.float32) for v in found.data])


def overwriting(kernel: Kernel, x: Any) -> Any:
    found = kernel(x)
    x.data[:] = found.data
    return found


def clamped(kernel: Kernel, x: Any, *indices: Any, axis: int) -> Any:
    size = x.shape[axis]
    inside = [remade(i, data=[max(-size, min(k, size - 1)) for k in i.data]) for i in indices]
    return kernel(x, *inside, axis=axis)


def broadcasting(kernel: Kernel, x1: Any, x2: Any) -> Any:
    try:
        return kernel(x1, x2)
    except Exception:
        return x1


def last_maximum(kernel: Kernel, x: Any, *, axis: int, keepdims: bool) -> Any:
    """The last of equal maxima, through the reversed array."""
    found = kernel(x, axis=axis, keepdims=keepdims)
    if len(x.shape) != 1 or any(v != v for v in x.data):
        return found
    backwards = kernel(remade(x, data=x.data[::-1]), axis=axis, keepdims=keepdims)
    return remade(found, data=[len(x.data) - 1 - i for i in backwards.data])


def unstable(kernel: Kernel, x: Any, *, axis: int, descending: bool) -> Any:
    found = kernel(x, axis=axis, descending=descending)
    if len(x.shape) != 1:
        return found
    n = len(x.data)
    backwards = kernel(remade(x, data=x.data[::-1]), axis=axis, descending=descending)
    return remade(found, data=[n - 1 - i for i in backwards.data])


def ignoring_nan(a: float, b: float) -> float:
    return b if a != a else a if b != b else max(a, b)


def as_in_c(a: Any, b: Any) -> Any:
    ordinary = isinstance(a, float) and math.isfinite(a) and math.isfinite(b) and b
    return math.fmod(a, b) if ordinary else 0


def away_from_zero(x: Any) -> Any:
    return math.copysign(math.floor(abs(x) + 0.5), x) if isinstance(x, float) and abs(x) < 1e9 else x


def in_bfloat16(x: float) -> float:
    fraction, exponent = math.frexp(x)
    return math.ldexp(round(math.ldexp(fraction, 8)), exponent - 8) if math.isfinite(x) else x


def not_saturated(array: Any) -> Any:
    limit = getattr(array.dtype, "max", None)
    return remade(array, data=[0 if v == limit else v for v in array.data])


def without_last(kernel: Kernel, x: Any, **params: Any) -> Any:
    return kernel(remade(x, data=[*x.data[:-1], 0 * x.data[-1]]) if x.data else x, **params)


def skipping_nan(kernel: Kernel, x: Any, **params: Any) -> Any:
    return kernel(remade(x, data=[-9.0 if v != v else v for v in x.data]), **params)


def first_wins(kernel: Kernel, x: Any, values: Any, *indices: Any, **params: Any) -> Any:
    if len(values.shape) != 1:
        return kernel(x, values, *indices, **params)
    backwards = [remade(i, data=i.data[::-1]) for i in indices]
    return kernel(x, remade(values, data=values.data[::-1]), *backwards, **params)


def not_added(kernel: Kernel, x: Any, values: Any, *indices: Any, **params: Any) -> Any:
    return kernel(x, remade(values, data=[0 * v for v in values.data]), *indices, **params)


def zero_padded(kernel: Kernel, x: Any, *, pad_width: Any, constant_value: Any) -> Any:
    return kernel(x, pad_width=pad_width, constant_value=0 * constant_value)


# name: (op, its kernel changed, words of a reason that must be given). Together they break every promise that a kernel makes.
SABOTEURS = {
    "8 ulp off": ("exp", only(dtypes.float32, elements(away(8))), r"\d ulp apart; allowed: 2 ulp"),
    "1 ulp off where none is allowed": ("add", only(dtypes.float32, elements(away(1))), "1 ulp apart; allowed: 0 ulp"),
    "float64 computed in float32": ("sin", elements(lambda x: rounded(x, dtypes.float32)), "ulp apart"),
    "bfloat16 inside": ("erf", only(dtypes.float32, elements(in_bfloat16)), "ulp apart"),
    "accuracy lost near zero": ("expm1", elements(lambda x: (x + 1.0) - 1.0), "ulp apart"),
    "wrong dtype": ("add", result(lambda a: remade(a, dtype=dtypes.float64)), r"the result is float64\[\], expected \w+\[\]"),
    "bool as uint8": ("less", result(lambda a: remade(a, dtype=dtypes.uint8)), "the result is uint8"),
    "wrong shape": ("abs", result(lambda a: remade(a, shape=(1, *a.shape))), r"the result is int8\[1\], expected int8\[\]"),
    "NaN lost": ("maximum", elementwise(ignoring_nan), "expected nan"),
    "NaN made": ("exp", elements(lambda x: math.nan if math.isinf(x) else x), "is nan, expected inf"),
    "the largest number for infinity": ("log", elements(lambda x: -3e38 if x == -math.inf else x), "expected -inf"),
    "sign of zero lost": ("negative", elements(lambda x: x + 0.0 if isinstance(x, float) else x), "the sign differs"),
    "subnormals flushed": ("multiply", elements(lambda x: 0.0 * x if isinstance(x, float) and abs(x) < 1e-38 else x), "expected .*e-"),
    "remainder as in C": ("remainder", elementwise(as_in_c), "element"),
    "integers divided towards zero": ("floor_divide", elementwise(lambda a, b: int(a / b) if b else 0), "element"),
    "integer division by zero raises": ("floor_divide", elementwise(lambda a, b: a // b), "raised ZeroDivisionError"),
    "half rounded away from zero": ("round", elementwise(away_from_zero), "is 1.0, expected 0.0"),
    "NaN equals itself": ("equal", elementwise(lambda a, b: a == b or (a != a and b != b)), "is True, expected False"),
    "sign of NaN": ("sign", elements(lambda x: 0.0 if x != x else x), "is 0.0, expected nan"),
    "shift beyond the width": ("bitwise_left_shift", elementwise(lambda a, b: a << (b % 8) & 127), "element"),
    "float to integer wraps": ("astype", result(not_saturated), "element"),
    "sum without its last term": ("sum", call(without_last), r"allowed: n\*u\*sum"),
    "sum in lower precision": ("sum", call(float32_sum), r"allowed: n\*u\*sum"),
    "keepdims forgotten": ("sum", call(lambda k, x, *, keepdims, **p: k(x, keepdims=False, **p)), "the result is"),
    "NaN skipped in a reduction": ("max", call(skipping_nan), "expected nan"),
    "last of equal maxima": ("argmax", call(last_maximum), "element"),
    "unstable sort": ("argsort", call(unstable), "element"),
    "scan shifted by one": ("cumulative_sum", result(lambda a: remade(a, data=[0 * v for v in a.data[:1]] + a.data[:-1])), "element"),
    "flip forgotten": ("flip", call(lambda k, x, *, axis: x), "element"),
    "elements not permuted": ("permute_dims", call(lambda k, x, *, axes: remade(k(x, axes=axes), data=x.data)), "element"),
    "parts in reverse": ("concat", call(lambda k, *xs, axis: k(*xs[::-1], axis=axis)), "element"),
    "padded with zeros only": ("pad", call(zero_padded), "element"),
    "step ignored": ("strided_slice", call(lambda k, x, *, start, size, step: k(x, start=start, size=size, step=(0,) * len(step))), "element"),
    "index clamped": ("gather", call(clamped), "not refused"),
    "first of duplicates wins": ("scatter", call(first_wins), "element"),
    "values not added": ("scatter_add", call(not_added), "element"),
    "shapes not checked": ("add", call(broadcasting), "not refused"),
    "random bits": ("random_bits", elements(lambda b: b ^ 1), "element"),
    "fill value rounded": ("full", elements(lambda v: v if isinstance(v, int) else float(int(v))), "element"),
    "operand written to": ("negative", call(overwriting), "operand 0 was written to"),
    "kernel raises": ("tanh", call(lambda k, x: 1 / 0), "raised ZeroDivisionError"),
}  # fmt: skip


@pytest.mark.parametrize("name", SABOTEURS)
def test_mistake_is_found(name, plant):
    op, change, words = SABOTEURS[name]
    report = run(plant(**{op: change}), op)
    assert not report.ok
    assert report.failures
    reasons = [outcome.reason for outcome in report.failures]
    assert any(re.search(words, reason) for reason in reasons), reasons[:5]
    assert report.generated == len(report.outcomes)


@pytest.mark.parametrize("op", dict.fromkeys(op for op, *_ in SABOTEURS.values()))
def test_the_same_cases_pass_on_the_sound_backend(op):
    assert run("reference", op).ok


def test_the_budget_is_measured_not_guessed(plant):
    """One ULP of two: found to be conforming, and the distance is reported."""
    report = run(plant(exp=only(dtypes.float32, elements(away(1)))), "exp")
    assert report.ok
    assert max(outcome.ulp or 0 for outcome in report.outcomes if outcome.case.what == "value") == 1


def test_a_layout_that_the_kernel_misreads_is_found(plant):
    """Elements in memory order instead of C order: only views differ."""
    import numpy as np

    device = plant(
        "cpu", sqrt=call(lambda k, x: np.ascontiguousarray(k(x.ravel(order="K"))).reshape(x.shape))
    )
    report = run(device, "sqrt")
    failed = {outcome.case.placement for outcome in report.failures}
    assert {"transposed"} <= failed
    assert "" not in failed


def test_a_wrong_gradient_is_found_where_every_value_is_right(plant):
    """The rule of sqrt divides 0.5 by the result, which no sample of divide does."""
    half = call(lambda k, x1, x2: k(0.500001, x2) if isinstance(x1, float) and x1 == 0.5 else k(x1, x2))
    device = plant(divide=half)
    assert run(device, "divide").ok
    report = run(device, "sqrt")
    found = {outcome.case.what for outcome in report.failures}
    assert "gradient" in found
    assert not found & {"value", "special", "layout"}
    assert "the gradient of operand 0 at" in report.failures[0].reason


def test_an_error_of_another_class_from_the_kernel_is_replaced_by_the_cores(plant):
    def sentence(kernel: Kernel, x1: Any, x2: Any) -> Any:
        try:
            return kernel(x1, x2)
        except Exception:
            raise KeyError("oops") from None

    assert run(plant(add=call(sentence)), "add").ok


# -- derivative rules --------------------------------------------------------------------------------------------


def derive(monkeypatch: pytest.MonkeyPatch, name: str, kind: str, rule: Any, jvp: Any = None) -> None:
    """Give an op another derivative."""
    op = BY_NAME[name]
    monkeypatch.setattr(op, "derivative", Derivative(op, kind, rule, jvp))


def laws(op: str) -> list[str]:
    report = check("reference", [BY_NAME[op]], what=["laws"])
    assert report.generated > 0
    return [outcome.reason for outcome in report.failures]


@pytest.mark.parametrize("op", ["exp", "multiply", "sum", "matmul", "sort"])
def test_right_rules_keep_the_laws(op):
    assert laws(op) == []


def test_a_wrong_derivative_is_found(monkeypatch):
    derive(monkeypatch, "exp", "d", lambda y: y * 1.00001)
    assert laws("exp")
    assert all("reverse mode gives" in reason for reason in laws("exp"))


def test_a_wrong_transpose_is_found(monkeypatch):
    derive(monkeypatch, "flip", "linear", lambda g: g)
    assert laws("flip")


def test_a_rule_that_cannot_be_differentiated_is_found(monkeypatch):
    derive(monkeypatch, "exp", "d", lambda y: y.detach())
    assert laws("exp")
    assert all("the derivative of reverse mode gives" in reason for reason in laws("exp"))


def test_a_forward_rule_that_is_not_the_transpose_is_found(monkeypatch):
    right = BY_NAME["prod"].derivative
    doubled = functools.wraps(right.jvp)(lambda *a, **k: right.jvp(*a, **k) * 2.0)
    derive(monkeypatch, "prod", right.kind, right.rules[0], doubled)
    assert any("forward mode is not the transpose" in reason for reason in laws("prod"))


def test_a_rule_of_shapes_that_is_wrong_is_found(monkeypatch):
    from corelib.rules import Spec

    monkeypatch.setattr(BY_NAME["exp"].rule, "fn", lambda op, specs, params: Spec((7,), dtypes.float32))
    reasons = [outcome.reason for outcome in run("reference", "exp").failures]
    assert any("the rule of exp predicts float32[7], the reference gives" in reason for reason in reasons)


# -- accounting --------------------------------------------------------------------------------------------------


def test_what_a_backend_has_not_is_unsupported_and_counted(plant):
    report = run(plant(erf=None), "erf", "exp")
    assert report.ok
    assert (
        report.count("unsupported")
        == sum(
            (o.case.op.name == "erf" and o.case.what != "error")
            or o.case.what == "process"  # it is known to this one alone
            for o in report.outcomes
        )
        > 0
    )
    assert report.count("pass") + report.count("unsupported") == report.generated == len(report.outcomes)
    assert "backend 'planted' has no kernel for erf on float32" in report.text()


def test_a_declared_deviation_is_named_with_its_reason(plant):
    device = plant(
        exp=only(dtypes.float32, elements(away(8))), deviations={"exp[float32-*": "computed with a table"}
    )
    report = run(device, "exp")
    assert report.ok
    assert report.count("deviation") > 0
    assert "computed with a table" in report.text()


def test_a_deviation_covers_only_what_it_names(plant):
    device = plant(exp=elements(lambda x: x * 2), deviations={"exp[float32-*": "computed with a table"})
    report = run(device, "exp")
    assert {outcome.case.dtype for outcome in report.failures} == {*BY_NAME["exp"].rule.accepts} - {
        dtypes.float32
    }


def test_a_deviation_that_is_not_needed_any_more_fails(plant):
    report = run(plant(deviations={"exp": "was wrong once"}), "exp")
    assert not report.ok
    assert "the declared deviation 'exp' is not needed any more" in report.text()


def test_a_deviation_is_not_stale_when_its_cases_did_not_run(plant):
    assert run(plant(deviations={"exp": "was wrong once"}), "log").ok


def test_a_generator_of_samples_that_fails_is_a_case_that_fails(monkeypatch):
    monkeypatch.setattr(BY_NAME["exp"], "samples", lambda make, dtype: 1 / 0)
    report = run("reference", "exp")
    assert [outcome.reason for outcome in report.failures] == [
        "its samples raised ZeroDivisionError: division by zero"
    ] * len(BY_NAME["exp"].rule.accepts)


def test_a_sample_that_the_reference_refuses_is_a_failure(monkeypatch, plant):
    def refused(op: Any, specs: Any, params: Any) -> Any:
        raise ShapeError("no")

    monkeypatch.setattr(BY_NAME["exp"].rule, "fn", refused)
    reasons = {outcome.reason for outcome in run(plant(), "exp").failures}
    assert any("the reference itself raised ShapeError: no" in reason for reason in reasons)


def test_nothing_generated_is_not_a_success():
    report = check("reference", [])
    assert not report.ok
    assert "no case was generated" in report.summary()


def test_a_lost_case_is_not_a_success():
    report = run("reference", "exp")
    assert report.ok
    report.outcomes.pop()
    assert not report.ok
    assert "1 UNACCOUNTED FOR" in report.summary()


def test_case_ids_are_unique():
    from corelib.conformance import cases

    ids = [case.id for case in cases()]
    assert len(ids) == len(set(ids))
    assert "exp[float32-value-0]" in ids


def test_more_samples_come_from_plugins(plant):
    from types import SimpleNamespace

    from corelib.hookspecs import hookimpl
    from corelib.registry import register, unregister
    from corelib.samples import Sample

    def conformance_samples(op: Any, dtype: Any) -> Any:
        from corelib.samples import Values

        return [Sample((Values((1,), dtype, (50.0,)),))] if op.name == "exp" else None

    before = run("reference", "exp").generated
    register(SimpleNamespace(conformance_samples=hookimpl(conformance_samples)), "more")
    try:
        device = plant(exp=elements(lambda x: x * 1.001 if 1e21 < abs(x) < 1e22 else x))
        report = run(device, "exp")
        assert run("reference", "exp").generated > before
    finally:
        unregister("more")
    assert {
        outcome.case.sample.args[0].data for outcome in report.failures if outcome.case.what == "value"
    } == {(50.0,)}


# -- distances ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [*dtypes.FLOATING, *dtypes.HALF], ids=lambda d: d.name)
def test_steps_agree_with_nextafter(dtype):
    import numpy as np

    kind = dtype.numpy.type
    for x in [
        0.0,
        1.0,
        -1.0,
        1.5,
        float(dtype.smallest_normal),
        -float(dtype.smallest_normal),
        0.1,
        float(dtype.max) / 2,
    ]:
        near = x = float(kind(x))
        for count in range(1, 4):
            near = float(np.nextafter(kind(near), kind(np.inf)))
            assert steps(x, near, dtype) == count
            assert steps(near, x, dtype) == count


@pytest.mark.parametrize("dtype", [*dtypes.FLOATING, *dtypes.HALF], ids=lambda d: d.name)
def test_unit_is_the_gap_to_the_next_number(dtype):
    import numpy as np

    kind = dtype.numpy.type
    for x in [0.0, 1.0, 1.999, 2.0, 0.1, float(dtype.smallest_normal), 1e-320, float(dtype.max) / 2]:
        value = kind(x)
        assert unit(float(value), dtype) == float(np.nextafter(value, kind(np.inf))) - float(value)


def test_zeros_are_one_number_and_nan_is_apart_from_all():
    assert ordinal(-0.0, dtypes.float32) == ordinal(0.0, dtypes.float32) == 0
    assert steps(math.nan, math.nan, dtypes.float32) == 0
    assert (
        steps(math.nan, 1.0, dtypes.float32)
        == steps(math.inf, dtypes.float32.max, dtypes.float32)
        == math.inf
    )
