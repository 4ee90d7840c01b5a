"""Gradients beyond a random cotangent on plain operands: forward mode against reverse mode, and every kind of
cotangent.

* ``dot``: ``<g, jvp(v)> = <vjp(g), v>``, in each dtype, with nothing but the backend under test.
* ``cotangent``: zero, infinite, NaN; repeated by a stride of 0, transposed, with gaps, reversed; absent.

Elements are compared, or random directions used: a sum alone would hide errors that cancel. The families of other
modules about derivatives choose their samples by what stands here first.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ..autograd import vjp
from ..dtypes import HALF, DType
from ..samples import Sample, Values
from ..transforms import jvp
from .cases import LAYOUTS, Case
from .check import Suite
from .compare import Disagreement, place
from .derivatives import (
    UNHURRIED,
    agree,
    directions,
    gradient_limit,
    inner,
    largest,
    like,
    operands,
    plain,
    pulled,
    reached,
    same_kind,
    sample_of,
    total,
)
from .distance import parts, unit
from .families import BOUNDED, FAMILIES, Plan, family
from .operands import size, tensors
from .oracle import cotangents, variables, widened
from .place import Result, placed, repeated, tensor

THOROUGH = ("full",)  # the profiles in which every sample is tried


def differentiable(plan: Plan, what: str = "gradient") -> Iterator[list[Case]]:
    """The gradient cases (or the laws) of a plan that have elements, by op and dtype."""
    found = (c for c in FAMILIES[what].generate(plan) if c.sample is not None and size(sample_of(c)))
    for _, group in itertools.groupby(found, key=lambda c: (c.op.name, c.dtype)):
        yield list(group)


def some(plan: Plan, group: Sequence[Case], count: int) -> list[Case]:
    """The largest case of a group and others spread over it, ``count`` in all; every one in thorough profiles.
    Of float16 and bfloat16, whose rules are those of float32 between casts, the largest.
    """
    if plan.profile in THOROUGH:
        return list(group)
    first = max(group, key=lambda c: size(sample_of(c)))
    if group[0].dtype in HALF or plan.profile == "smoke":
        return [first]
    rest = [c for c in group if c is not first]
    return [first, *rest[:: max(len(rest) // max(count - 1, 1), 1)][: count - 1]]


def again(
    cases: Sequence[Case], what: str, placement: str = "", samples: Sequence[Sample] | None = None
) -> Iterator[Case]:
    """The samples of other cases, or the given ones, as cases of a family."""
    for number, case in enumerate(cases):
        sample = samples[number] if samples else case.sample
        yield Case(case.op, case.dtype, what, number, sample, placement)


# -- forward against reverse -----------------------------------------------------------------------------------


def _dots(plan: Plan) -> Iterator[Case]:
    for group in differentiable(plan):
        yield from again(some(plan, group, 3), "dot")


@family("dot", level=2, profiles=BOUNDED, generate=_dots)
def dot(suite: Suite, case: Case) -> None:
    """Each element of either derivative is within the gradient's limit, so the two inner products may differ by
    that times the other factor's elements.
    """
    function, floats = variables(case, sample_of(case), suite.backend)
    found, pullback = vjp(function, *floats)
    g = like(cotangents(case, found), found)
    v = directions(case, floats, "dot")
    grads = plain(pullback([tensor(values, suite.backend) for values in g]))
    same_kind(case, grads, suite.backend.device)
    values, tangents = jvp(function, floats, [tensor(values, suite.backend) for values in v])
    pushed = plain(tangents)
    for n, (y, t) in enumerate(zip(values, pushed, strict=True)):
        if (tuple(y.shape), y.dtype) != (t.shape, t.dtype):
            raise Disagreement(
                f"the tangent of result {n} is {t.dtype.name}{list(t.shape)}, the result is {y.dtype.name}{list(y.shape)}"
            )
    left, right = inner(g, pushed), inner(grads, v)
    real = case.dtype.real  # type: ignore[union-attr]
    off = gradient_limit(case)
    bound = off * (
        unit(largest(grads, g), real) * total(v) + unit(largest(pushed, v), _coarsest(found, real)) * total(g)
    )
    if not (abs(left - right) <= bound or (left != left and right != right)):
        raise Disagreement(
            f"forward mode gives <g, jvp(v)> = {left!r}, reverse mode <vjp(g), v> = {right!r}: allowed {bound:.3g} between them"
        )


def _coarsest(found: Sequence[Any], dtype: DType) -> DType:
    """The dtype with the fewest digits among results and operands: a cast may have rounded."""
    return min((dtype, *(y.dtype.real for y in found)), key=lambda d: d.digits)


# -- every kind of cotangent -----------------------------------------------------------------------------------

KINDS = ("zero", "infinite", "nan", *LAYOUTS)


def _cotangents(plan: Plan) -> Iterator[Case]:
    for group in differentiable(plan):
        largest_one = some(plan, group, 1)[:1]
        layered = max(group, key=lambda c: (max(len(v.shape) for v in operands(c)), size(sample_of(c))))
        for kind in KINDS:
            yield from again([layered] if kind in LAYOUTS else largest_one, "cotangent", kind)
        yield from again(largest_one, "cotangent", "absent")


@family("cotangent", level=2, profiles=UNHURRIED, generate=_cotangents)
def cotangent(suite: Suite, case: Case) -> float:
    """Pulling a special or an unusually laid out cotangent back gives what the reference gives for its values."""
    if case.placement == "absent":
        return _absent(suite, case)
    change, put = _changed(case)
    reference = functools.partial(_wide_pulled, backend=suite.oracle.backend, change=change)
    expected = suite.asked(reference, case)
    got = pulled(case, case.sample, suite.backend, change, put)  # type: ignore[arg-type]
    same_kind(case, got, suite.backend.device)
    if case.placement == "zero":
        _nothing(expected, "the reference's")
        _nothing(got, "the")
    if case.placement in ("infinite", "nan"):
        _stays(case, expected, got)
    return agree(expected, got, scale=2.0, limit=gradient_limit(case))  # cotangents are at most 2


def _wide_pulled(case: Case, backend: Any, change: Callable[[int, Values], Values]) -> list[Result]:
    return pulled(case, widened(sample_of(case)), backend, change)


def _changed(case: Case) -> tuple[Callable[[int, Values], Values], Callable[[Values, Any], Any]]:
    """How a case's cotangents differ from random ones, and how they are put on the backend."""
    kind = case.placement
    if kind in LAYOUTS:
        change = (lambda n, g: repeated(g)) if kind == "repeated" else (lambda n, g: g)
        return change, lambda g, backend: placed_cotangent(g, backend, kind)
    if kind == "zero":
        return lambda n, g: Values(g.shape, g.dtype, tuple(0 * x for x in g.data)), tensor
    value = math.inf if kind == "infinite" else math.nan

    def special(n: int, g: Values) -> Values:
        data = list(g.data)
        if data and n == 0:
            data[len(data) // 2] = complex(value, 0.0) if g.dtype.kind == "complex" else value
        return Values(g.shape, g.dtype, tuple(data))

    return special, tensor


def placed_cotangent(g: Values, backend: Any, layout: str) -> Any:
    """The cotangent as a view."""
    from .place import expanded

    return expanded(g, backend) if layout == "repeated" else placed(g, backend, layout)


def _nothing(grads: Sequence[Result], whose: str) -> None:
    for n, grad in enumerate(grads):
        for i, x in enumerate(grad.data):
            if x != 0 and x == x:
                raise Disagreement(
                    f"{whose} gradient of operand {n} at {place(grad.shape, i)} is {x!r} for a cotangent of zeros"
                )


def _stays(case: Case, expected: list[Result], got: list[Result]) -> None:
    """An infinity or NaN in the cotangent is where the reference has one and nowhere else; of an element-wise op,
    at the elements that the result's element was computed from. Where both are not finite they count as equal
    from here on.
    """
    shape = tuple(len(r.data) for r in got)
    assert shape
    for n, (want, grad) in enumerate(zip(expected, got, strict=True)):
        allowed = _reach(case, grad.shape)
        lost = [
            i for i, (e, a) in enumerate(zip(want.data, grad.data, strict=True)) if finite(e) != finite(a)
        ]
        leaked = [
            i for i, a in enumerate(grad.data) if allowed is not None and not finite(a) and i != allowed
        ]
        for i in (*lost, *leaked):
            raise Disagreement(
                f"the gradient of operand {n} at {place(grad.shape, i)} is {grad.data[i]!r}, expected {want.data[i]!r}: one "
                f"element of the cotangent is {'NaN' if case.placement == 'nan' else 'infinite'}"
            )
        data = tuple(e if not finite(e) else a for e, a in zip(want.data, grad.data, strict=True))
        got[n] = Result(grad.shape, grad.dtype, data, grad.device)


def _reach(case: Case, operand: tuple[int, ...]) -> int | None:
    """The one element of an operand that the changed element of the cotangent may reach; None: not known."""
    if case.op.kind != "elementwise":
        return None
    from ..rules import broadcast_shapes

    result = broadcast_shapes(*(v.shape for v in tensors(sample_of(case))))
    return reached(result, math.prod(result) // 2, operand)


def finite(x: Any) -> bool:
    """Whether all parts are."""
    return all(map(math.isfinite, parts(x)))


def _absent(suite: Suite, case: Case) -> float:
    """One result's cotangent at a time, the others' absent: what cotangents of zeros give."""
    function, floats = variables(case, sample_of(case), suite.backend)
    count, worst = len(function(*floats)), 0.0
    for k in range(count):
        only = lambda n, g, k=k: g if n == k else Values(g.shape, g.dtype, tuple(0 * x for x in g.data))
        reference = functools.partial(_wide_pulled, backend=suite.oracle.backend, change=only)
        expected = suite.asked(reference, case)
        function, leaves = variables(case, sample_of(case), suite.backend)
        for leaf in leaves:
            leaf.requires_grad_()
        found = function(*leaves)
        g = like(cotangents(case, found), found)
        if found[k].requires_grad:
            found[k].backward(tensor(g[k], suite.backend))
        zero = [0.0 * x for x in leaves]
        got = plain(z.detach() if x.grad is None else x.grad for x, z in zip(leaves, zero, strict=True))
        same_kind(case, got, suite.backend.device)
        worst = max(worst, agree(expected, got, scale=2.0, limit=gradient_limit(case)))
    return worst
