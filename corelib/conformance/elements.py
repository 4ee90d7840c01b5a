"""Gradients element by element, against derivatives that reverse mode has no part in.

* ``dual``: each element of a gradient against forward mode along one unit vector, in double precision.
* ``difference``: the same against differences of the op's values, whose rules nobody wrote.

Of complex operands both parts are tried: a gradient is ``dL/dRe(x) + i dL/dIm(x)``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

from ..autograd import vjp
from ..dtypes import float64
from ..samples import Maker, Values
from ..transforms import jvp
from .cases import Case
from .check import Suite
from .compare import Disagreement, place
from .cotangents import again, differentiable, some
from .derivatives import (
    UNHURRIED,
    agree,
    gradient_limit,
    inner,
    largest,
    like,
    operands,
    plain,
    pulled,
    same_kind,
    sample_of,
    total,
)
from .distance import unit
from .families import Plan, family
from .laws import moved
from .oracle import cotangents, variables, widened
from .place import Result, tensor

COMPONENTS = 40  # unit vectors of one case; and of finite differences:
FEW = 6


def _fits(case: Case) -> bool:
    components = sum(len(v.data) * (2 if v.dtype.kind == "complex" else 1) for v in operands(case))
    return 0 < components <= COMPONENTS


def _duals(plan: Plan) -> Iterator[Case]:
    for group in differentiable(plan):
        fitting = [c for c in group if _fits(c)]
        if fitting:
            yield from again(some(plan, fitting, 2), "dual")


@family("dual", level=2, profiles=UNHURRIED, generate=_duals)
def dual(suite: Suite, case: Case) -> float:
    """Each element of the gradient is ``<g, df/dx_i>``, and df/dx_i is forward mode along a unit vector."""
    got = pulled(case, sample_of(case), suite.backend)
    same_kind(case, got, suite.backend.device)
    expected, g = suite.asked(lambda case: _by_duals(case, suite.oracle.backend), case)
    return agree(expected, got, scale=largest(g), limit=gradient_limit(case))


def _by_duals(case: Case, reference: Any) -> tuple[list[Result], list[Values]]:
    """The gradients in double precision by forward mode, and the cotangents."""
    function, floats = variables(case, widened(sample_of(case)), reference)
    g = like(cotangents(case, found := function(*floats)), found)

    def along(n: int, i: int, step: Any) -> float:
        unit_vectors = [_unit(x, step if k == n else 0, i) for k, x in enumerate(floats)]
        return inner(g, plain(jvp(function, floats, [tensor(u, reference) for u in unit_vectors])[1]))

    return [_gathered(x, functools.partial(along, n)) for n, x in enumerate(floats)], g


def _unit(x: Any, step: Any, index: int) -> Values:
    """``step`` at one element, 0 elsewhere."""
    zero = 0j if x.dtype.kind == "complex" else 0.0
    return Values(tuple(x.shape), x.dtype, tuple(zero + step if i == index else zero for i in range(x.size)))


def _gathered(x: Any, along: Callable[[int, Any], float]) -> Result:
    """dL/dRe + i dL/dIm of each element."""
    both = x.dtype.kind == "complex"
    data = tuple(complex(along(i, 1.0), along(i, 1j)) if both else along(i, 1.0) for i in range(x.size))
    return Result(tuple(x.shape), x.dtype, data, "")


def _differences(plan: Plan) -> Iterator[Case]:
    for group in differentiable(plan, "laws"):  # in float64 and complex128, and not rounded to fewer digits
        yield from again(some(plan, group, 2), "difference")


@family("difference", level=2, profiles=UNHURRIED, generate=_differences)
def difference(suite: Suite, case: Case) -> None:
    """Central differences with Richardson's extrapolation, with the step u**(1/3) max(1, |x|), on the backend.

    A difference quotient of values that are off by e is off by at most 2 e / h times 3 (4/3 at the half step's
    double weight, and 1/3); what is left of the truncation is less than what the extrapolation changed.
    """
    function, floats = variables(case, sample_of(case), suite.backend)
    found, pullback = vjp(function, *floats)
    g = like(cotangents(case, found), found)
    grads = plain(pullback([tensor(values, suite.backend) for values in g]))
    values = plain(found)
    off = gradient_limit(case) * unit(largest(values, g), float64) * max(total(g), 1.0)
    make = Maker(f"difference {case.op.name} {case.number}")
    every = [
        (n, i, step)
        for n, x in enumerate(floats)
        for i in range(x.size)
        for step in ((1.0, 1j) if x.dtype.kind == "complex" else (1.0,))
    ]
    for n, i, step in make.random.sample(every, min(FEW, len(every))):
        x = operands(case)[n].data[i]
        h = (float64.eps / 2) ** (1 / 3) * max(1.0, abs(x))
        direction = [_unit(t, step if k == n else 0, i) for k, t in enumerate(floats)]

        def slope(h: float, direction: list[Values] = direction) -> float:
            up, down = (plain(function(*moved(floats, direction, t, suite.backend))) for t in (h, -h))
            return (inner(g, up) - inner(g, down)) / (2 * h)

        coarse, fine = slope(h), slope(h / 2)
        expected = (4 * fine - coarse) / 3
        a = grads[n].data[i]
        got = a.imag if step == 1j else a.real
        bound = abs(fine - coarse) + 6 * off / h
        if not abs(got - expected) <= bound:
            raise Disagreement(
                f"the gradient of operand {n} at {place(grads[n].shape, i)} is {got!r}, differences of values give "
                f"{expected!r}, allowed {bound:.3g} between them"
            )
