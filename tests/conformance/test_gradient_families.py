"""The families about gradients: honest backends pass, and each kind of wrong gradient is found by the family that is there for it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import pytest
from planting import call, run

from corelib import autograd, dtypes
from corelib.conformance import Plan, cases, check, find
from corelib.conformance.kinks import KINKS
from corelib.op import BY_NAME, OPS, Derivative, calls
from corelib.registry import backends

FAMILIES = ("dot", "dual", "difference", "cotangent", "wide", "leaf", "kink", "second")
USABLE = [status.name for status in backends()]


# -- honest backends -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "op", ["exp", "add", "maximum", "std", "matmul", "sort", "svd", "fft", "softmax", "take"]
)
@pytest.mark.parametrize("backend", [pytest.param(n, marks=pytest.mark.device(n), id=n) for n in USABLE])
def test_gradients_of_honest_backends_pass(backend, op):
    report = run(backend, op, what=FAMILIES)
    assert report.ok, report.text()


def test_every_differentiable_op_is_tried_by_every_family_in_every_dtype():
    tried: dict[str, dict[str, set[Any]]] = {}
    for case in cases(Plan(tuple(OPS)), FAMILIES):
        tried.setdefault(case.what, {}).setdefault(case.op.name, set()).add(case.dtype)
    for op in OPS:
        if op.derivative.kind == "nondiff":
            assert not any(op.name in ops for what, ops in tried.items() if what != "kink"), op.name
            continue
        inexact = {d for d in op.rule.accepts if d.kind in ("float", "complex")}
        for what in ("dot", "cotangent"):
            assert tried[what][op.name] == inexact, (what, op.name)
        for what in ("leaf", "second"):
            assert tried[what][op.name] == inexact - {*dtypes.HALF}, (what, op.name)
        double = inexact & {dtypes.float64, dtypes.complex128}
        assert tried["difference"][op.name] == double, op.name


def test_every_kink_is_tried():
    tried = {case.number for case in cases(Plan(tuple(OPS)), ["kink"])}
    assert tried == set(range(len(KINKS)))


@pytest.mark.parametrize("what", FAMILIES)
def test_a_case_is_found_again_by_its_id(what):
    plan = Plan((BY_NAME["maximum"],))
    for case in cases(plan, [what]):
        assert find(case.id, plan) == case


# -- wrong gradients -----------------------------------------------------------------------------------------


def here(x: Any) -> bool:
    """Whether a rule runs on the backend that is wrong."""
    return x.device == "planted"


def flat(x: Any, change: Callable[[list[Any]], list[Any]]) -> Any:
    """x with its elements in C order changed."""
    array = x._data
    return calls.from_buffer(array.dtype.pack(change(list(array.data))), x.shape, x.dtype, x._backend)


def at(n: int) -> Callable[[Any], Any]:
    """Element n is wrong where there is one."""
    return lambda t: (
        flat(t, lambda data: [*data[:n], data[n] * 1.25 + 1, *data[n + 1 :]]) if t.size > n else t
    )


def beyond(n: int) -> Callable[[Any], Any]:
    return lambda t: flat(t, lambda data: [*data[:n], *(0 * x for x in data[n:])])


WRONG: dict[str, tuple[Callable[[Any], Any], set[str]]] = {
    "0.05 % too large": (lambda t: t * 1.0005, {"dot", "dual", "difference", "cotangent", "wide", "second"}),
    "one element in a thousand": (at(777), {"wide"}),
    "beyond element 32": (beyond(32), {"dot", "cotangent", "wide", "second"}),
    "in float32 alone": (lambda t: t * 1.01 if t.dtype is dtypes.float32 else t, {"dot", "dual", "wide"}),
    "a sign of a complex part": (lambda t: calls.conj(t), {"dot", "dual", "difference", "wide"}),
    "a NaN that spreads": (lambda t: t + 0 * calls.sum(t), {"cotangent"}),
    "in another dtype": (lambda t: calls.astype(t, dtypes.float64) if t.dtype is dtypes.float32 else t, {"dot", "dual", "leaf"}),
    "in another shape": (lambda t: calls.reshape(t, (1, *t.shape)), {"dot", "dual", "leaf"}),
    "without a derivative of its own": (lambda t: t.detach(), {"second"}),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_gradient_of_one_backend_is_found(name, plant, monkeypatch):
    change, expected = WRONG[name]
    changed = lambda g, y: (
        change(calls.multiply(g, calls.conj(y))) if here(g) else calls.multiply(g, calls.conj(y))
    )
    forward = lambda dx, y: calls.multiply(dx, y)
    monkeypatch.setattr(BY_NAME["exp"], "derivative", Derivative(BY_NAME["exp"], "vjp", changed, forward))
    device = plant()
    report = run(device, "exp", what=FAMILIES)
    found = {outcome.case.what for outcome in report.failures}
    assert expected <= found, found
    assert run("reference", "exp", what=FAMILIES).ok


def test_every_wrong_gradient_is_right_where_nothing_is_changed(plant, monkeypatch):
    right = Derivative(
        BY_NAME["exp"],
        "vjp",
        lambda g, y: calls.multiply(g, calls.conj(y)),
        lambda dx, y: calls.multiply(dx, y),
    )
    monkeypatch.setattr(BY_NAME["exp"], "derivative", right)
    assert run(plant(), "exp", what=FAMILIES).ok


def test_a_rule_that_is_wrong_everywhere_is_found_by_differences_of_values(monkeypatch):
    """Forward and reverse mode share a partial, so that they agree in what is wrong."""
    monkeypatch.setattr(BY_NAME["exp"], "derivative", Derivative(BY_NAME["exp"], "d", lambda y: y * 1.0005))
    assert run("reference", "exp", what=["dot", "dual"]).ok
    report = run("reference", "exp", what=["difference"])
    assert len(report.failures) == report.generated
    assert all("differences of values give" in o.reason for o in report.failures)


def test_a_forward_rule_that_is_not_the_transpose_is_found(monkeypatch):
    op = BY_NAME["exp"]
    rule = lambda g, y: calls.multiply(g, calls.conj(y))
    monkeypatch.setattr(
        op, "derivative", Derivative(op, "vjp", rule, lambda dx, y: calls.multiply(dx, y) * 1.0005)
    )
    report = run("reference", "exp", what=["dot"])
    float32 = [o for o in report.failures if o.case.dtype is dtypes.float32]
    assert len(float32) == 3
    assert "forward mode gives" in float32[0].reason


@pytest.mark.parametrize("how", ["repeated", "transposed", "gaps", "reversed"])
def test_a_misread_cotangent_is_found(how, plant, monkeypatch):
    """A kernel that takes the elements of a strided cotangent in the order of memory, wherever its strides lead."""
    import numpy as np

    def misread(g: Any, y: Any) -> Any:
        strides = g._data.strides
        wrong = {
            "repeated": 0 in strides,
            "transposed": sorted(strides, reverse=True) != list(strides),
            "gaps": bool(strides) and strides[-1] > g.dtype.itemsize,
            "reversed": any(s < 0 for s in strides),
        }[how]
        if here(g) and wrong and g.size > 1:
            shuffled = np.roll(np.ascontiguousarray(g._data).reshape(-1), 1).reshape(g.shape)
            g = calls.from_buffer(shuffled, g.shape, g.dtype, g._backend) * 1.5
        return calls.multiply(g, calls.conj(y))

    op = BY_NAME["exp"]
    monkeypatch.setattr(op, "derivative", Derivative(op, "vjp", misread, lambda dx, y: calls.multiply(dx, y)))
    report = run(plant("cpu"), "exp", what=["cotangent"])
    assert how in {outcome.case.placement for outcome in report.failures}


KINKED: dict[str, tuple[str, Any, str]] = {
    "ties counted twice": (
        "maximum",
        (
            lambda y, x1, x2: calls.astype(x1 >= x2, y.dtype),
            lambda y, x1, x2: calls.astype(x2 >= x1, y.dtype),
        ),
        "of equal operands: half each: .* is 2.0, expected 1.0",
    ),
    "NaN at 0": (
        "abs",
        lambda x: calls.divide(x, calls.abs(x)),
        "at either zero: 0: .* is nan, expected 0.0",
    ),
    "0**-1 times 0": (
        "pow",
        (lambda x1, x2: x2 * calls.pow(x1, x2 - 1), lambda y, x1: calls.multiply(y, calls.log(x1))),
        "is nan, expected 0.0",
    ),
}


@pytest.mark.parametrize("name", KINKED)
def test_a_wrong_gradient_at_a_kink_is_found(name, monkeypatch):
    op, rule, words = KINKED[name]
    monkeypatch.setattr(BY_NAME[op], "derivative", Derivative(BY_NAME[op], "d", rule))
    reasons = [o.reason for o in run("reference", op, what=["kink"]).failures]
    assert any(re.search(words, reason) for reason in reasons), reasons


# -- what backward leaves behind -----------------------------------------------------------------------------


def leaves(op: str, device: str = "reference") -> list[str]:
    return [outcome.reason for outcome in run(device, op, what=["leaf"]).failures]


def test_aliased_leaf_gradients_are_found(monkeypatch):
    monkeypatch.setattr(autograd, "_own", lambda g: g)
    assert any(
        "beside the gradient of leaf 0, which was changed in place" in reason for reason in leaves("add")
    )


def test_gradients_that_do_not_add_up_are_found(monkeypatch):
    monkeypatch.setattr(autograd, "_deposit", lambda leaf, g: setattr(leaf, "grad", autograd._own(g)))
    assert all("after a second pass" in reason for reason in leaves("exp"))
    assert leaves("exp")


def test_gradients_that_add_up_in_place_are_found(monkeypatch):
    def deposit(leaf: Any, g: Any) -> None:
        if leaf.grad is None:
            leaf.grad = autograd._own(g)
        else:
            leaf.grad += g  # the tensor that somebody may hold

    monkeypatch.setattr(autograd, "_deposit", deposit)
    assert any("as it was read before the second pass" in reason for reason in leaves("exp"))


def test_a_cotangent_that_is_written_to_is_found(plant):
    def overwriting(kernel: Any, x1: Any, x2: Any) -> Any:
        found = kernel(x1, x2)
        if getattr(x1, "data", None):
            x1.data[0] = x1.data[0] * 0 + 5
        return found

    reasons = leaves("exp", plant(multiply=call(overwriting)))
    assert any("operand or a cotangent" in r or "second pass" in r or "expected" in r for r in reasons), (
        reasons
    )


def test_a_graph_that_is_not_freed_is_found(monkeypatch):
    real = autograd.walk
    monkeypatch.setattr(autograd, "walk", lambda *args, **kwargs: real(*args, **{**kwargs, "free": False}))
    assert "a second pass through a freed graph is not refused" in leaves("exp")


def test_a_cotangent_of_zeros_that_gives_a_gradient_is_found(plant, monkeypatch):
    op = BY_NAME["exp"]
    rule = lambda g, y: calls.multiply(g, calls.conj(y)) + (1e-30 if here(g) else 0)
    monkeypatch.setattr(op, "derivative", Derivative(op, "vjp", rule, lambda dx, y: calls.multiply(dx, y)))
    reasons = [o.reason for o in run(plant(), "exp", what=["cotangent"]).failures]
    assert any("for a cotangent of zeros" in reason for reason in reasons), reasons


def test_infinities_reach_what_they_may(plant, monkeypatch):
    """exp multiplies element by element; a rule that adds over all elements lets NaN out of its place."""
    assert check("reference", [BY_NAME["exp"], BY_NAME["matmul"]], what=["cotangent"]).ok
    assert math.isnan(0 * math.inf)
