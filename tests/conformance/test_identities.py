"""Laws without a reference: which op is held to which, and that each finds what breaks it."""

from __future__ import annotations

import re
from typing import Any

import pytest
from planting import Kernel, away, call, only, remade

from corelib import dtypes
from corelib.conformance import Plan, check
from corelib.conformance.distance import rounded
from corelib.conformance.identities import generate, laws
from corelib.op import BY_NAME, OPS


def test_every_op_that_takes_tensors_is_held_to_some_law():
    free = {op.name for op in OPS if not any(laws(op, d) for d in op.rule.accepts)}
    judged = {op.name for op in OPS if op.residual is not None}
    assert free - judged == {
        "full",
        "arange",
        "random_bits",
        "adam_scalars",
        "nadam_scalars",
        "radam_scalars",
    }


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("add", ["elements", "layouts", "broadcast", "commuted"]),
        ("subtract", ["elements", "layouts", "broadcast"]),
        ("sin", ["elements", "layouts", "odd"]),
        ("cosh", ["elements", "layouts", "even"]),
        ("sort", ["stack", "layouts"]),
        ("gather", ["layouts"]),
        ("solve", []),
    ],
)
def test_the_laws_of_an_op(name, found):
    assert laws(BY_NAME[name], dtypes.float32) == found


def test_ids_are_unique_and_smoke_and_standard_are_part_of_full():
    ids = {
        profile: [c.id for c in generate(Plan(tuple(OPS), profile=profile))]
        for profile in ("smoke", "standard", "full")
    }
    assert all(len(set(found)) == len(found) for found in ids.values())
    assert set(ids["smoke"]) < set(ids["standard"]) < set(ids["full"])


def alone(kernel: Kernel, x: Any) -> Any:
    """Another polynomial for a tensor of one element, which is 30 ULP off."""
    found = kernel(x)
    move = away(30, found.dtype)
    return remade(found, data=list(map(move, found.data))) if len(found.data) == 1 else found


def by_rows(kernel: Kernel, x: Any, **params: Any) -> Any:
    """The second of several rows is that of the first."""
    found = kernel(x, **params)
    if len(found.shape) < 2 or found.shape[0] != 3 or not found.data:
        return found
    n = len(found.data) // 3
    return remade(found, data=found.data[:n] + found.data[:n] + found.data[2 * n :])


def broadcast_in_float32(kernel: Kernel, x1: Any, x2: Any) -> Any:
    found = kernel(x1, x2)
    return (
        found
        if x1.shape == getattr(x2, "shape", None)
        else remade(found, data=[rounded(v, dtypes.float32) for v in found.data])
    )


def left_first(kernel: Kernel, x1: Any, x2: Any) -> Any:
    """Of two zeros, the left one."""
    found = kernel(x1, x2)
    same = x1.shape == getattr(x2, "shape", None)
    return (
        remade(found, data=[a if a == b else c for a, b, c in zip(x1.data, x2.data, found.data, strict=True)])
        if same
        else found
    )


def shifted(kernel: Kernel, x: Any) -> Any:
    """Off for negative numbers."""
    found = kernel(x)
    return remade(found, data=[away(40)(y) if v < 0 else y for v, y in zip(x.data, found.data, strict=True)])


PLANTED = {
    "elements": ("exp", call(alone), r"elements 0 to 0 of 131, alone.*ulp apart"),
    "stack": ("sort", call(by_rows), r"number 1 of a stack of 3, and \(expected\) alone"),
    "broadcast": ("divide", only(dtypes.float64, call(broadcast_in_float32)), r"as they are, and \(expected\) broadcast first"),
    "commuted": ("maximum", call(left_first), r"operands exchanged.*the sign differs"),
    "odd": ("tanh", only(dtypes.float32, call(shifted)), r"f\(-x\), and \(expected\) -f\(x\)"),
    "even": ("cos", only(dtypes.float32, call(shifted)), r"f\(-x\), and \(expected\) f\(x\)"),
}  # fmt: skip


@pytest.mark.parametrize("law", PLANTED)
def test_what_breaks_a_law_is_found_by_it(law, plant):
    name, change, words = PLANTED[law]
    report = check(plant(**{name: change}), [BY_NAME[name]], what=["identity"])
    found = [o for o in report.failures if o.case.placement == law]
    assert any(re.search(words, o.reason) for o in found), report.text()


def test_a_layout_that_is_misread_is_named(plant):
    def blind(kernel: Kernel, x: Any, *, axis: Any) -> Any:
        return kernel(x, axis=axis) if x.flags.c_contiguous else kernel(x[::-1], axis=axis)

    report = check(plant("cpu", flip=call(blind)), [BY_NAME["flip"]], [dtypes.int32], what=["identity"])
    assert any(
        re.search(r"flip\(.*the layout \w+, and \(expected\) plain", o.reason) for o in report.failures
    )
