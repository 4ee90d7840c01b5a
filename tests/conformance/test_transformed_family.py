"""Ops under vmap: that every op is tried in every dtype, and that batching rules which are wrong are found."""

from __future__ import annotations

from itertools import islice
from typing import Any

import pytest

from corelib import ops
from corelib.conformance import Plan, Suite, cases, check, find
from corelib.op import BY_NAME, OPS
from corelib.registry import registry

WHAT = ["mapped"]


def test_every_op_is_tried_in_every_dtype():
    tried: dict[str, set[Any]] = {}
    for case in cases(Plan(tuple(OPS)), WHAT):
        tried.setdefault(case.op.name, set()).add(case.dtype)
        assert repr(case.sample) == repr(case.data)
        if case.op.name == "matmul":
            assert find(case.id) == case
    for op in OPS:
        if op.operands and not op.data_dependent and op.kind != "random" and op.rule.joint != ():
            assert tried[op.name] >= {*op.rule.accepts}, op.name
    assert "nonzero" not in tried


@pytest.fixture
def rules(monkeypatch):
    """Sets what an op declares about batching, and has kernels looked up again."""
    backend = registry.get("reference")

    def fresh() -> None:
        backend.__dict__.pop("_wrappers", None)

    def change(name: str, **pieces: Any) -> None:
        for piece, value in pieces.items():
            monkeypatch.setattr(BY_NAME[name], piece, value)
        fresh()

    yield change
    monkeypatch.undo()
    fresh()


def reversed_rule(right):
    return lambda op, n, operands, mapped, params: ops.flip(right(op, n, operands, mapped, params), axis=0)


def first_for_all(op, n, operands, mapped, params):
    y = op.fn(*[x[0] if m else x for x, m in zip(operands, mapped, strict=True)], **params)
    return ops.broadcast_to(y, (n, *y.shape))


@pytest.mark.parametrize(
    ("name", "pieces"),
    [
        ("matmul", {"batch": reversed_rule(BY_NAME["matmul"].batch)}),
        ("gather", {"batch": reversed_rule(BY_NAME["gather"].batch)}),
        ("matmul", {"batch": first_for_all}),
        ("searchsorted", {"batch": None, "leading": True}),
        ("solve", {"batch": None, "leading": True}),
        ("outer", {"leading": True}),
        ("scatter", {"batch": None}),
    ],
    ids=["reversed", "reversed-gather", "first-for-all", "search-leads", "solve-leads", "outer-leads", "no-rule"],
)  # fmt: skip
def test_a_wrong_batching_rule_is_found(rules, name, pieces):
    assert check("reference", [BY_NAME[name]], what=WHAT).ok
    rules(name, **pieces)
    report = check("reference", [BY_NAME[name]], what=WHAT)
    assert not report.ok or any(o.status == "unsupported" for o in report.outcomes)


def test_programs_are_mapped_whole_and_in_part_and_a_wrong_rule_is_found_in_them(rules):
    plan = Plan(tuple(OPS))
    listed = list(islice(cases(plan, ["mapped_program"]), 40))
    assert len({c.id for c in listed}) == 40 and find(listed[7].id, plan) == listed[7]
    suite = Suite("reference")
    assert {suite.run(case).status for case in listed} == {"pass"}
    rules("permute_dims", batch=reversed_rule(BY_NAME["permute_dims"].batch))
    assert "fail" in {suite.run(case).status for case in listed}
