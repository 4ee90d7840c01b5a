"""Every op on every usable backend, as ``python -m corelib conformance NAME --compare docs/conformance/NAME.json`` does it.

Each backend is tried once, in profile ``standard`` and in processes of its own, and a test for each op reads in the
report what became of its cases. Where only some ops are selected (``-k "cpu and softmax"``), only these are run.
"""

from __future__ import annotations

import functools
import math
import os
from pathlib import Path

import pytest

from corelib.conformance import FAMILIES, Plan, Report, cases, document, find, record
from corelib.conformance.cases import groups
from corelib.conformance.check import UNSUPPORTED
from corelib.conformance.operands import tensors
from corelib.conformance.runner import processors, run
from corelib.dtypes import DType, complex128, float64
from corelib.op import OPS
from corelib.registry import backends, registry

RECORDS = Path(__file__).resolve().parents[2] / "docs" / "conformance"
# Workers of pytest-xdist take one backend each.
BACKENDS = [
    pytest.param(status.name, marks=[pytest.mark.device(status.name), pytest.mark.xdist_group(f"conformance_{status.name}")], id=status.name)
    for status in backends()
]  # fmt: skip


@pytest.fixture(scope="session")
def reports(request):
    """The report of each backend: made when it is first asked for, and on the ops whose tests were selected."""

    @functools.cache
    def report(backend: str) -> Report:
        items = [i for i in request.session.items if i.path == Path(__file__)]
        asked = [i.callspec.params for i in items if hasattr(i, "callspec")]
        selected = {p["op"] for p in asked if p.get("backend") == backend and "op" in p}
        ops = tuple(op for op in OPS if op in selected) or tuple(OPS)
        workers = 1 if "PYTEST_XDIST_WORKER" in os.environ else processors()
        return run(backend, Plan(ops), workers=workers)

    return report


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_an_op_conforms(backend, op, reports):
    """No failure, and nothing unsupported but what the backend declares to lack."""
    report = reports(backend)
    own = [o for o in report.outcomes if o.case.op is op]
    assert own
    lacks = set(registry.infos[backend].lacks)
    unsupported = [o for o in own if o.status == UNSUPPORTED]
    missing = [o for o in unsupported if not lacks or not groups(find(o.case.id, report.plan)) & lacks]
    wrong = [f"{o.case.id}: {o.reason}" for o in (*_failed(own), *missing)]
    if wrong:
        pytest.fail("\n".join(wrong[:40]), pytrace=False)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_backend_conforms(backend, reports):
    """The run is accounted for, and what is about no op passes as well."""
    report = reports(backend)
    told = _failed(o for o in report.outcomes if o.case.op)  # by the tests of their ops
    if not report.accounted or not report.ok and not told:
        pytest.fail(report.text(limit=40), pytrace=False)


@pytest.mark.parametrize("backend", [p for p in BACKENDS if (RECORDS / f"{p.id}.json").exists()])
def test_no_distance_has_grown(backend, reports):
    """No result is farther from the reference's than in the committed record, by more than it may."""
    found = record.of(document.document(reports(backend)))
    comparison = record.compare(record.load(RECORDS / f"{backend}.json"), found)
    assert comparison.ok, (
        "\n".join(comparison.lines())
        + f"\nif that is meant: python -m corelib conformance {backend} --update-record docs/conformance/{backend}.json"
    )


def _failed(outcomes):
    return [o for o in outcomes if o.status == "fail"]


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
