"""Every op on every usable backend against the reference; and the reference against the laws of differentiation.

The same cases, run in the same way, as `python -m corelib conformance`: one test for each op and backend.
"""

from __future__ import annotations

import pytest

from corelib.conformance import Oracle, Report, check
from corelib.op import OPS
from corelib.registry import backends

BACKENDS = [status.name for status in backends() if status.name != "reference"]


@pytest.fixture(scope="module")
def oracle() -> Oracle:
    return Oracle()


def assert_conforms(report: Report) -> None:
    if not report.ok:
        pytest.fail(report.text(limit=40), pytrace=False)


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_reference_keeps_its_rules_and_the_laws_of_differentiation(op, oracle):
    assert_conforms(check("reference", [op], oracle=oracle))


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
@pytest.mark.parametrize(
    "backend", [pytest.param(name, marks=pytest.mark.device(name), id=name) for name in BACKENDS]
)
def test_backend_agrees_with_the_reference(backend, op, oracle):
    assert_conforms(check(backend, [op], oracle=oracle))
