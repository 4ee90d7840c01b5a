"""What a derivative must satisfy, whatever backend computes it: checked on the reference, in float64 and
complex128.

For an op y = f(x), a cotangent g and directions v and w:

1. reverse mode agrees with the function: ``<vjp(g), v>`` is the slope of ``<g, f(x + t v)>`` at t = 0;
2. forward mode is the transpose of reverse mode: ``<g, jvp(v)> = <vjp(g), v>``;
3. the rule can itself be differentiated: ``d/dx <vjp(g), v>`` along w is the slope of ``<vjp(g)(x + t w),
   v>``.

The inner product is ``<a, b> = sum Re(conj(a) b)``, of complex numbers that of their parts: a gradient is
``dL/dRe(x) + i dL/dIm(x)``, and directions are complex.

A slope is a central difference of fourth order, exact to about 1e-11 at the step used; a sample beside a kink
may need a smaller step, so two are tried. A wrong derivative agrees at neither: v and w are random, so no
component is out of sight.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ..autograd import vjp
from ..samples import Maker, Values
from ..transforms import jvp
from .cases import Case
from .distance import parts
from .oracle import cotangents, variables, wide
from .place import numbers, tensor

# Step and the relative error that a difference may have there: truncation (f5 h^4 / 30) dominates at the
# first step, rounding (2^-53 / h) at the second.
STEPS = ((1e-3, 1e-7), (1e-6, 1e-6))


def check_laws(case: Case, backend: Any) -> str:
    """What is violated, as a sentence; empty if nothing is."""
    function, floats = variables(case, case.sample, backend)  # type: ignore[arg-type]
    found, pullback = vjp(function, *floats)
    if not found:
        return ""
    make = Maker(f"laws {case.op.name} {case.number}")
    given = [Values(g.shape, wide(g.dtype), g.data) for g in cotangents(case, found)]
    g = [tensor(values, backend) for values in given]
    v, w = ([make.array(tuple(x.shape), wide(x.dtype), -1, 1) for x in floats] for _ in range(2))
    directions = [tensor(values, backend) for values in v]

    grads = pullback(g)
    reverse = inner(grads, v)
    values = lambda t: inner(function(*moved(floats, v, t, backend)), given)
    problem = differs(reverse, values, terms(grads, v))
    if problem:
        return f"reverse mode gives {problem}"

    _, pushed = jvp(function, floats, directions)
    forward = inner(pushed, given)
    if not math.isclose(
        forward, reverse, rel_tol=1e-9, abs_tol=1e-10 * max(terms(grads, v), terms(pushed, given), 1e-300)
    ):
        return f"forward mode is not the transpose of reverse mode: <g, jvp(v)> = {forward!r}, <vjp(g), v> = {reverse!r}"

    def slopes(*xs: Any) -> list[Any]:
        return list(vjp(function, *xs)[1](g))

    along, second = vjp(slopes, *floats)
    grads2 = second([tensor(values, backend) for values in v])
    values2 = lambda t: inner(slopes(*moved(floats, w, t, backend)), v)
    problem = differs(inner(grads2, w), values2, terms(grads2, w) + terms(along, v))
    return f"the derivative of reverse mode gives {problem}" if problem else ""


def inner(tensors: Sequence[Any], values: Sequence[Values]) -> float:
    """The sum of the products of all parts of all elements."""
    return math.fsum(_products(tensors, values))


def terms(tensors: Sequence[Any], values: Sequence[Values]) -> float:
    """The sum of the products' magnitudes: what rounding errors are relative to."""
    return math.fsum(map(abs, _products(tensors, values)))


def _products(tensors: Sequence[Any], values: Sequence[Values]) -> Iterator[float]:
    for x, y in zip(tensors, values, strict=True):
        for a, b in zip(numbers(x), y.data, strict=True):
            yield from (p * q for p, q in zip(parts(a), parts(b), strict=True))


def moved(floats: Sequence[Any], direction: Sequence[Values], t: float, backend: Any) -> list[Any]:
    """The point ``x + t v``."""
    return [
        tensor(
            Values(
                tuple(x.shape),
                wide(x.dtype),
                tuple(a + t * b for a, b in zip(numbers(x), v.data, strict=True)),
            ),
            backend,
        )
        for x, v in zip(floats, direction, strict=True)
    ]


def differs(slope: float, values: Callable[[float], float], scale: float) -> str:
    """How a derivative and the difference quotients of ``values`` differ; empty if it agrees with one of
    them.
    """
    tried = []
    for h, tolerance in STEPS:
        difference = (8 * (values(h) - values(-h)) - (values(2 * h) - values(-2 * h))) / (12 * h)
        if abs(slope - difference) <= tolerance * max(scale, abs(slope), abs(difference), 1.0):
            return ""
        tried.append(f"{difference!r} with step {h:g}")
    return f"{slope!r}, finite differences give {' and '.join(tried)}"
