"""Random programs: that they can be drawn again, that their tolerances are neither luck nor empty, and what they find."""

from __future__ import annotations

import collections
import math
import pickle
from fractions import Fraction
from typing import Any

import pytest
from planting import Kernel, call, only, remade

from corelib import dtypes
from corelib.conformance import Oracle, Plan, Suite, find, programs
from corelib.conformance.building import EXACT_BOUND, LARGEST, OPS
from corelib.conformance.programs import _deviations, generate, majorant, run
from corelib.op import BY_NAME
from corelib.op import OPS as ALL
from corelib.registry import registry

PLAN = Plan(tuple(ALL))
LISTED = list(generate(PLAN))


def test_programs_are_drawn_of_every_op_and_of_both_kinds():
    used = collections.Counter(s.op for c in LISTED for s in c.data.steps)
    made = {
        "strided_slice": "getitem",
        "where": "choose",
        "less": "choose",
        "less_equal": "choose",
        "equal": "choose",
    }
    assert {made.get(name, name) for name in OPS} == set(used) and min(used.values()) > 10
    assert {c.placement for c in LISTED} == {"exact", "smooth"} and {c.dtype.name for c in LISTED} == {
        "float32",
        "float64",
        "int32",
        "int64",
    }
    lengths = collections.Counter(len(c.data.steps) for c in LISTED)
    assert set(lengths) <= set(range(1, 30)) and sum(n for k, n in lengths.items() if k >= 3) > 500


def test_a_program_follows_from_its_id():
    assert len({c.id for c in LISTED}) == len(LISTED) == 600
    assert find("program" + LISTED[345].id[len("program") :], PLAN) == LISTED[345]
    assert pickle.loads(pickle.dumps(LISTED[345])).data == LISTED[345].data
    assert all(a.data != b.data for a, b in zip(LISTED, generate(Plan(tuple(ALL), seed=1)), strict=True))


def test_soak_has_no_last_program_and_begins_as_the_others():
    endless = generate(Plan(tuple(ALL), profile="soak"))
    assert [next(endless).data for _ in range(700)][:600] == [c.data for c in LISTED]
    assert list(generate(Plan((BY_NAME["exp"],), profile="soak"))) == [], "a program needs all of its ops"


def test_the_builder_knows_each_shape_and_a_bound_of_each_number():
    for case in LISTED[:200]:
        found = run(case.data, registry.get("reference"))
        for k, r in zip(case.data.ends, found, strict=False):
            assert r.shape == case.data.shapes[k] and math.prod(r.shape) <= LARGEST
            assert all(abs(x) <= case.data.bounds[k] * (1 + 1e-6) for x in r.data)
            if case.data.exact:
                assert all(x == int(x) for x in r.data) and case.data.bounds[k] <= EXACT_BOUND


def test_float32_and_float64_gradients_of_exact_programs_differ_by_less_than_the_majorant():
    reference, seen = registry.get("reference"), 0.0
    for case in LISTED:
        if case.data.exact and case.dtype is dtypes.float32:
            ends = len(case.data.ends)
            narrow, wide = (run(case.data, reference, d)[ends:] for d in (dtypes.float32, dtypes.float64))
            for bound, a, b in zip(majorant(case.data), narrow, wide, strict=True):
                apart = max((abs(x - y) for x, y in zip(a.data, b.data, strict=True)), default=0.0)
                assert apart <= bound
                seen = max(seen, apart / bound if bound else 0.0)
    assert 0 < seen < 0.25


def test_the_measured_tolerance_holds_float32_and_is_no_more_than_a_hundred_thousand_steps():
    reference, tight = registry.get("reference"), 0
    smooth = [c for c in LISTED if not c.data.exact and c.dtype is dtypes.float32][:60]
    for case in smooth:
        wide = run(case.data, reference, dtypes.float64)
        allowed = _deviations(case.data, wide, reference)
        for far, a, b in zip(allowed, run(case.data, reference), wide, strict=True):
            largest = max(map(abs, b.data), default=0.0)
            assert all(abs(x - y) <= far / 4 for x, y in zip(a.data, b.data, strict=True))
            tight += far <= 1e5 * dtypes.float32.eps * largest
        assert len(allowed) == len(wide)
    assert tight > 60


# -- what they find ------------------------------------------------------------------------------------------


def second_reader_gets_another(kernel: Kernel, x: Any) -> Any:
    """A result that is given out twice: the second call overwrites the first's."""
    found = kernel(x)
    key = found.shape, found.dtype
    kept = KEPT.setdefault(key, found)
    kept.data[:] = found.data
    return kept


KEPT: dict[Any, Any] = {}


def slightly(kernel: Kernel, x: Any) -> Any:
    return remade(kernel(x), data=[v * (1 + 2e-3) for v in kernel(x).data])


def one_in_a_row(kernel: Kernel, x: Any, *, axes: Any) -> Any:
    found = kernel(x, axes=axes)
    if len(found.shape) != 3:
        return found
    return remade(found, data=[found.data[-1], *found.data[1:]])


PLANTED = {
    "tanh off by 0.2 %": ("tanh", only(dtypes.float32, call(slightly))),
    "shared results": ("negative", call(second_reader_gets_another)),
    "an element of three axes permuted": ("permute_dims", call(one_in_a_row)),
    "the last factor of a product": ("matmul", call(lambda k, a, b: k(a, remade(b, data=[*b.data[:-1], 0 * b.data[-1]])) if b.data else k(a, b))),
    "keepdims forgotten": ("max", call(lambda k, x, *, axis, keepdims: k(x, axis=axis, keepdims=False))),
}  # fmt: skip


@pytest.mark.parametrize("name", PLANTED)
def test_what_is_wrong_is_found_and_the_program_shown(name, plant):
    op, change = PLANTED[name]
    KEPT.clear()
    suite = Suite(plant(**{op: change}), Oracle())
    failed = [o for o in map(suite.run, LISTED[:150]) if o.status == "fail"]
    assert failed and any(f"{op}(" in o.reason for o in failed)


def test_a_wrong_derivative_is_found(monkeypatch):
    """The derivative of a product of matrices by its second factor, 5 % too large, on the backend under test alone."""
    derivative = BY_NAME["matmul"].derivative
    first, second = derivative.rules
    wrong = lambda *args, **named: second(*args, **named) * 1.05
    real = programs.run

    def run_wrongly(drawn: Any, backend: Any, dtype: Any = None) -> Any:
        with pytest.MonkeyPatch.context() as monkey:
            if backend.name == "cpu":
                monkey.setattr(derivative, "rules", (first, wrong))
            return real(drawn, backend, dtype)

    monkeypatch.setattr(programs, "run", run_wrongly)
    suite = Suite("cpu", Oracle())
    products = [c for c in LISTED if c.dtype.kind == "float" and any(s.op == "matmul" for s in c.data.steps)][
        :30
    ]
    assert sum(suite.run(c).status == "fail" for c in products) > 10


def test_the_majorant_of_a_sum_of_squares_is_the_textbook_one():
    """sum(x * x) with |x| <= 3 and a cotangent of 2: the two terms of the gradient are 6 each."""
    case = next(c for c in LISTED if c.data.exact)
    step = type(case.data.steps[0])
    x = case.data.inputs[0].__class__((4,), dtypes.float64, (1.0, 2.0, 3.0, -1.0))
    drawn = case.data.__class__(
        (x,),
        ("plain",),
        (step("multiply", (0, 0)), step("sum", (1,), params=(("axis", None),))),
        ((4,), (4,), ()),
        (3.0, 9.0, 36.0),
        True,
    )
    (found,) = majorant(drawn)
    assert Fraction(found) == (8 * 2 + 2 * 4) * Fraction(1, 2**53) * 2 * (3 + 3)
