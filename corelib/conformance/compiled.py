"""What ``corelib.compile`` makes of an op, of its derivative, and of random programs, is what they are uncompiled.

* ``compiled``: samples of an op, called through one compiled function one after the other, so that shapes, layouts and
  parameters change between calls; and its gradients, with the walk back recorded along with it.
* ``compiled_program``: programs of 3 to 30 ops (``building.py``), results and gradients in one recording.

Each is called three times: twice on other values, when it is recorded and again, which must give the same; and then on
those that are judged, so that what a program keeps of its first calls is no part of a later result. Where a backend is handed the kernels that the op itself calls, the
results must be equal to the last bit. Where it compiles programs, or generates kernels for parts of them, it may round
differently: then they are judged as the op is, within its budget, or as programs are.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from itertools import groupby
from typing import Any

from ..autograd import vjp
from ..compile import compile as compile_
from ..errors import TraceError
from ..op import BY_NAME
from ..samples import Values
from .building import OPS, program
from .cases import Case, planned
from .check import Suite
from .compare import Disagreement, compare
from .cotangents import differentiable, some
from .declared import _residual
from .derivatives import agree, gradient_limit, largest, sample_of
from .distance import rounded
from .families import BOUNDED, Plan, family
from .layouts import laid
from .operands import inexact, replaced
from .oracle import as_run, cotangents, variables
from .place import Result, arguments, results, tensor
from .programs import judge, run

SAMPLES = {"smoke": 1, "standard": 4, "full": 1000}
COUNTS = {"smoke": 5, "standard": 100, "full": 1500}
Ways = tuple[str, str]
UNCOMPILED: Ways = ("uncompiled, of the same kernels", "compiled")
AGAIN: Ways = ("at the first call, of the same values", "at the second")
FAILED = "could not compile it"  # and why
REPLAYED = "replayed, "  # of a program that is run kernel by kernel


def values(plan: Plan) -> Iterator[Case]:
    """For each op and dtype one case, with some of its values and layouts in it."""
    calls = [c for c in planned(plan) if c.what in ("value", "layout") and not c.problem]
    for (op, dtype), group in groupby(calls, key=lambda c: (c.op, c.dtype)):
        found = list(group)
        chosen = tuple(found[:: max(len(found) // SAMPLES[plan.profile], 1)])
        yield Case(op, dtype, "compiled", 0, chosen[0].sample, data=chosen)


@family("compiled", level=1, profiles=BOUNDED, generate=values)
def check(suite: Suite, case: Case) -> float:
    """The compiled op gives what the op gives, or refuses it because its result's shape depends on values."""
    worst, op = 0.0, case.op
    compiled = compile_(lambda *args, **kwargs: op.fn(*args, **kwargs))
    for call in case.data:
        sample = as_run(call)
        given = lambda sample=sample, call=call: arguments(op, sample, suite.backend, call.placement)
        args, kwargs = given()
        expected = results(op.fn(*args, **kwargs))
        earlier = replaced(sample, other)
        try:
            first, second = (
                results(compiled(*args, **kwargs))
                for args, kwargs in (arguments(op, earlier, suite.backend, call.placement) for _ in range(2))
            )
            args, kwargs = given()
            found = results(compiled(*args, **kwargs))
        except TraceError as error:
            if "depends on values" not in str(error):
                raise
            return 0.0
        same(call.id, first, second, AGAIN)
        suite.same_kind(expected, found)
        suite.unchanged(sample, (args, kwargs))
        if exact(compiled):
            same(call.id, expected, found)
        elif op.residual is not None:
            worst = max(worst, _residual(suite, call, sample, found))
        else:
            wanted = suite.asked(suite.oracle.value, call)
            worst = max([worst, *(compare(call, e, got) for e, got in zip(wanted, found, strict=True))])
    return worst


def other(values: Values) -> Values:
    """Values of the same dtype and shape for an earlier call: in another order, and floating ones half as large."""
    data = values.data[::-1]
    if inexact(values.dtype):
        data = tuple(rounded(x / 2, values.dtype) for x in data)
    return Values(values.shape, values.dtype, data)


def gradient_cases(plan: Plan) -> Iterator[Case]:
    """A few of the gradient cases of each op and dtype."""
    for group in differentiable(plan):
        for call in some(plan, group, 2):
            yield Case(call.op, call.dtype, "compiled_gradient", call.number, call.sample, call.placement)


@family("compiled_gradient", level=2, profiles=BOUNDED, generate=gradient_cases)
def check_gradient(suite: Suite, case: Case) -> float:
    """The gradients are those of the op, both inside of a compiled function and through one from outside."""
    backend, sample = suite.backend, sample_of(case)
    function, floats = variables(case, sample, backend)
    found, pullback = vjp(function, *floats)
    given = [tensor(g, backend).astype(y.dtype) for g, y in zip(cotangents(case, found), found, strict=True)]
    expected = results(list(pullback(given)))
    scale, limit = largest(cotangents(case, found)), gradient_limit(case)
    inside = compile_(lambda floats, given: list(vjp(function, *floats)[1](given)))
    outside = compile_(function)
    earlier = variables(case, replaced(sample, other), backend)[1]
    worst = 0.0
    for compiled, gradients in (
        (inside, lambda floats: results(inside(floats, given))),
        (outside, lambda floats: results(list(vjp(outside, *floats)[1](given)))),
    ):
        same(case.id, gradients(earlier), gradients(earlier), AGAIN)
        got = gradients(floats)
        suite.same_kind(expected, got)
        # a library may round the product of two complex numbers otherwise than that of arrays of them, as NumPy does,
        # and a program writes over arrays where the op makes new ones
        if exact(compiled) and case.dtype is not None and case.dtype.kind != "complex":
            same(case.id, expected, got)
        else:
            worst = max(worst, agree(expected, got, scale=scale, limit=limit))
    return worst


def programs(plan: Plan) -> Iterator[Case]:
    """The programs of a plan that has all ops that they are made of; without end in profile ``soak``."""
    if not {BY_NAME[name] for name in OPS} <= set(plan.ops):
        return
    number = 0
    while plan.profile == "soak" or number < COUNTS[plan.profile]:
        drawn = program(random.Random(f"compiled {plan.seed} {number}").choice, range(3, 31))
        dtype = drawn.inputs[0].dtype
        if plan.kinds is None or dtype in plan.kinds:
            yield Case(
                None,
                dtype,
                "compiled_program",
                number,
                placement="exact" if drawn.exact else "smooth",
                data=drawn,
            )
        number += 1


@family("compiled_program", level=2, generate=programs, by_op=False)
def check_program(suite: Suite, case: Case) -> None:
    """Results and gradients of a compiled program are those of the program."""
    drawn, made = case.data, list[Callable[..., Any]]()

    def at_last(fn: Callable[..., Any]) -> Callable[..., Any]:
        made.append(compiled := compile_(fn))

        def earlier() -> list[Result]:
            given = zip(drawn.inputs, drawn.layouts, strict=True)
            return results(compiled(*(laid(other(v), suite.backend, name) for v, name in given)))

        def call(*inputs: Any) -> Any:
            same(case.id, earlier(), earlier(), AGAIN)
            return compiled(*inputs)

        return call

    found = run(drawn, suite.backend, through=at_last)
    if exact(made[0]):
        same(case.id, run(drawn, suite.backend), found)
    else:
        judge(suite, case, found)


def exact(compiled: Any) -> bool:
    """Whether all programs of a compiled function call the kernels that the function calls, and no others. A program that
    the backend failed to compile is a Disagreement.
    """
    hows = [p.how for p in compiled.compiled.programs]
    hows += [p.link.how for p in compiled.compiled.programs if p.link is not None]
    for how in hows:
        if FAILED in how:
            raise Disagreement(how)
    return all(how.startswith(REPLAYED) and "generated" not in how for how in hows)


def same(name: str, expected: list[Result], found: list[Result], ways: Ways = UNCOMPILED) -> None:
    """Disagreement unless the results are equal to the last bit; one NaN is another. ``ways``: how the two came about."""
    for n, (want, got) in enumerate(zip(expected, found, strict=True)):
        if want.data != got.data and repr(want.data) != repr(got.data):
            i = next(
                i for i, (e, a) in enumerate(zip(want.data, got.data, strict=True)) if repr(e) != repr(a)
            )
            raise Disagreement(
                f"{name}: element {i} of result {n} is {got.data[i]!r} {ways[1]}, {want.data[i]!r} {ways[0]}"
            )
