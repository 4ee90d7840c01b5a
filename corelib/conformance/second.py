"""Derivatives of second order, on the backend: the family ``second``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..autograd import vjp
from ..dtypes import HALF
from ..transforms import jvp
from .cases import Case
from .check import Suite
from .compare import Disagreement
from .cotangents import THOROUGH, again, differentiable, some
from .derivatives import (
    UNHURRIED,
    agree,
    directions,
    gradient_limit,
    inner,
    largest,
    like,
    plain,
    sample_of,
    total,
)
from .distance import unit
from .families import Plan, family
from .oracle import GRADIENT_OPS, cotangents, variables, widened
from .place import tensor


def _seconds(plan: Plan) -> Iterator[Case]:
    for group in differentiable(plan):
        if plan.profile in THOROUGH or group[0].dtype not in HALF:
            yield from again(some(plan, group, 2), "second")


@family("second", level=3, profiles=UNHURRIED, generate=_seconds)
def second(suite: Suite, case: Case) -> float:
    """For H, the second derivative of <g, f(x)>: H v by reverse over reverse and by forward over reverse, each
    against the reference's in double precision; and <w, H v> = <v, H w>.

    A rule of at most GRADIENT_OPS ops is differentiated by one of at most so many for each of them.
    """
    (reverse, along), forward, (other, _), v, w, grads = _hessian(case, case.sample, suite.backend)
    expected, *_ = suite.asked(
        lambda case: _hessian(case, widened(sample_of(case)), suite.oracle.backend), case
    )
    limit = GRADIENT_OPS * gradient_limit(case)
    scale = max(largest(grads, v, along), 2.0)
    worst = agree(expected[0], reverse, scale=scale, limit=limit, what="reverse over reverse, operand")
    worst = max(
        worst, agree(expected[0], forward, scale=scale, limit=limit, what="forward over reverse, operand")
    )
    left, right = inner(w, reverse), inner(v, other)
    step = unit(max(largest(reverse, other), scale), case.dtype.real)  # type: ignore[union-attr]
    bound = limit * step * (total(v) + total(w))
    if not (abs(left - right) <= bound or (left != left and right != right)):
        raise Disagreement(
            f"the second derivative is not symmetric: <w, H v> = {left!r}, <v, H w> = {right!r}, allowed {bound:.3g} between them"
        )
    return worst


def _hessian(case: Case, sample: Any, backend: Any) -> Any:
    function, floats = variables(case, sample, backend)
    found = function(*floats)
    g = like(cotangents(case, found), found)
    v, w = (directions(case, floats, name) for name in ("v", "w"))
    put = lambda values: [tensor(x, backend) for x in values]

    def slopes(*xs: Any) -> list[Any]:
        return list(vjp(function, *xs)[1](put(g)))

    grads, back = vjp(slopes, *floats)
    pushed = jvp(slopes, floats, put(v))[1]
    return (plain(back(put(v))), g), plain(pushed), (plain(back(put(w))), g), v, w, plain(grads)
