"""Random indexing expressions: that all kinds are drawn, that they can be drawn again, and what they find."""

from __future__ import annotations

import collections
import pickle
import re
from typing import Any

import hypothesis
import hypothesis.strategies as st
import pytest
from planting import Kernel, call, remade

from corelib.conformance import Oracle, Plan, Suite, check, find
from corelib.conformance.cases import Case
from corelib.conformance.indexing import Cut, expression, generate
from corelib.errors import ShapeError
from corelib.op import BY_NAME, OPS
from corelib.samples import Values

PLAN = Plan(tuple(OPS))


def kind(entry: Any) -> str:
    if isinstance(entry, Values):
        return entry.dtype.kind
    return {type(None): "new", int: "integer", tuple: "list", Cut: "slice"}.get(type(entry), "dots")


def test_every_kind_of_index_is_drawn_in_every_layout():
    drawn = [c.data for c in generate(PLAN)]
    kinds = collections.Counter(
        (kind(e), e_layout) for d in drawn for e, e_layout in ((e, d.layout) for e in d.key)
    )
    assert len({k for k, _ in kinds}) == 7 and len(kinds) == 7 * 8 and min(kinds.values()) > 5
    assert {d.value for d in drawn} == {"", "number", "all", "row", "wrong"}
    assert {len(d.x.shape) for d in drawn} == {0, 1, 2, 3, 4} and len({d.x.dtype for d in drawn}) == 15
    assert {e.step for d in drawn for e in d.key if isinstance(e, Cut)} == {None, 0, 1, 2, 3, -1, -2}


def test_an_expression_follows_from_its_id():
    listed = list(generate(PLAN))
    assert len({c.id for c in listed}) == len(listed) == 1500
    assert find("index[" + listed[700].id.partition("[")[2], PLAN) == listed[700]
    assert pickle.loads(pickle.dumps(listed[700])).data == listed[700].data
    others = [c.data for c in generate(Plan(tuple(OPS), seed=1))]
    assert sum(a.data == b for a, b in zip(listed, others, strict=True)) < 50


def test_ops_that_indexing_is_not_made_of_have_none():
    assert list(generate(Plan((BY_NAME["exp"],)))) == []


def clamped(kernel: Kernel, x: Any, *indices: Any, axis: int) -> Any:
    size = x.shape[axis]
    inside = [remade(i, data=[max(-size, min(k, size - 1)) for k in i.data]) for i in indices]
    return kernel(x, *inside, axis=axis)


def from_the_front(kernel: Kernel, x: Any, *indices: Any, axis: int) -> Any:
    """-1 is read as the last but one."""
    if len(indices) != 1 or x.shape[axis] < 2:
        return kernel(x, *indices, axis=axis)
    return kernel(x, *(remade(i, data=[-2 if k == -1 else k for k in i.data]) for i in indices), axis=axis)


def forwards(kernel: Kernel, x: Any, *, start: Any, size: Any, step: Any) -> Any:
    if size[-1:] < (2,) or step[-1] != -2:
        return kernel(x, start=start, size=size, step=step)
    first = start[-1] + (size[-1] - 1) * step[-1]
    return kernel(x, start=(*start[:-1], first), size=size, step=(*step[:-1], 2))


def first_wins(kernel: Kernel, x: Any, values: Any, *indices: Any, **params: Any) -> Any:
    if len(values.shape) != 1:
        return kernel(x, values, *indices, **params)
    backwards = [remade(i, data=i.data[::-1]) for i in indices]
    return kernel(x, remade(values, data=values.data[::-1]), *backwards, **params)


def short_words(kernel: Kernel, x: Any, value: Any, **params: Any) -> Any:
    if 0 in x.shape:
        raise ShapeError("no")
    return kernel(x, value, **params)


PLANTED = {
    "an index clamped": ("gather", clamped, r"raised nothing: ; the reference raises IndexOutOfBoundsError"),
    "-1 misread": ("gather", from_the_front, r"the result is"),
    "a negative step read forwards": ("strided_slice", forwards, r"::?-2.*the result is"),
    "the first of duplicates wins": ("scatter", first_wins, r" = all, \w+: the result is"),
    "a refusal of its own": ("strided_update", short_words, r"raised ShapeError: .*no; the reference raises nothing"),
    "half of a gradient": ("scatter_add", lambda k, x, v, *i, **p: k(x, remade(v, data=[0 * d for d in v.data]), *i, **p), r"the gradient of x is"),
}  # fmt: skip


@pytest.mark.parametrize("name", PLANTED)
def test_what_is_wrong_is_found(name, plant):
    op, change, words = PLANTED[name]
    report = check(plant(**{op: call(change)}), what=["index"])
    assert any(re.search(words, o.reason) for o in report.failures), report.text()


@hypothesis.given(st.data())
@hypothesis.settings(max_examples=200)
@pytest.mark.parametrize("device", ["cpu", "reference"])
def test_any_expression_that_hypothesis_finds(device, data):
    drawn = expression(lambda options: data.draw(st.sampled_from(list(options))))
    outcome = Suite(device, Oracle()).run(Case(None, drawn.x.dtype, "index", 0, data=drawn))
    assert outcome.status == "pass", outcome.reason
