"""Every op on every usable backend against the reference; and the reference against the laws of differentiation.

The same cases, run in the same way, as `python -m corelib conformance`: one test for each op and backend.
"""

from __future__ import annotations

import math

import pytest

from corelib.conformance import FAMILIES, Oracle, Plan, Report, cases, check
from corelib.conformance.cases import groups
from corelib.conformance.check import UNSUPPORTED
from corelib.conformance.operands import tensors
from corelib.dtypes import DType, complex128, float64
from corelib.op import OPS
from corelib.registry import backends, registry

BACKENDS = [status.name for status in backends() if status.name != "reference"]


@pytest.fixture(scope="module")
def oracle() -> Oracle:
    return Oracle()


def assert_conforms(report: Report) -> None:
    """No failure, and nothing unsupported but what the backend declares to lack."""
    lacks = set(registry.infos[report.device].lacks)
    missing = [o for o in report.outcomes if o.status == UNSUPPORTED and not groups(o.case) & lacks]
    if missing or not report.ok:
        pytest.fail(report.text(limit=40), pytrace=False)


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_every_dtype_is_tried(op):
    """Values in each dtype that the op accepts, special ones too; gradients and laws of what is differentiated."""
    tried: dict[str, set[DType]] = {what: set() for what in FAMILIES}
    largest = 0
    for case in cases(Plan((op,))):
        tried[case.what].add(case.dtype)
        if case.what == "value":
            largest = max(largest, *(math.prod(v.shape) for v in tensors(case.sample)), 0)
    assert tried["value"] >= {*op.rule.accepts}
    if op.kind == "elementwise" and largest > 1:
        assert tried["special"] >= {*op.rule.accepts}
    if op.derivative.kind != "nondiff":
        assert tried["gradient"] == {d for d in op.rule.accepts if d.kind in ("float", "complex")}
        assert tried["laws"] == {d for d in op.rule.accepts if d in (float64, complex128)}


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_reference_keeps_its_rules_and_the_laws_of_differentiation(op, oracle):
    assert_conforms(check("reference", [op], oracle=oracle))


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
@pytest.mark.parametrize(
    "backend", [pytest.param(name, marks=pytest.mark.device(name), id=name) for name in BACKENDS]
)
def test_backend_agrees_with_the_reference(backend, op, oracle):
    assert_conforms(check(backend, [op], oracle=oracle))
