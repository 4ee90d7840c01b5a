"""Gradients where a function has none in the ordinary sense, or where a formula divides 0 by 0: what corelib
declares there, as a table of exact numbers.

``kink`` tries every row on every floating dtype (rows with complex numbers on every complex one). The numbers are
few binary digits wide, so that every dtype holds them and each step of a rule is exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ..autograd import vjp
from ..dtypes import HALF, DType
from ..op import calls
from ..samples import Sample, Values
from .cases import Case
from .check import Suite
from .compare import Disagreement, place
from .derivatives import plain, same_kind
from .families import BOUNDED, Plan, family
from .operands import inexact
from .place import tensor

INF, NAN = math.inf, math.nan
Row = tuple[float | complex, ...]


@dataclass(frozen=True)
class Kink:
    """``gradients``: one row for each of the ``operands``, for ``cotangent`` as the result's."""

    op: str
    where: str
    call: Callable[..., Any]
    operands: tuple[Row, ...]
    cotangent: Row
    gradients: tuple[Row, ...]


def _guarded(of: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A function kept away from where it is not finite, twice: its operand, and its result."""
    return lambda x: calls.where(x > 0, of(calls.where(x > 0, x, 1.0)), 0.0)


TIES: tuple[Row, ...] = ((1.0, 0.0, 3.0, 2.0), (1.0, -0.0, 2.0, 3.0))
THREES = (3.0, 1.0, 3.0, 3.0)

KINKS = (
    Kink("abs", "at either zero: 0", lambda x: calls.abs(x), ((0.0, -0.0, 2.0, -2.0),), (3.0,) * 4, ((0.0, 0.0, 3.0, -3.0),)),
    Kink("abs", "at 0 + 0i: 0", lambda x: calls.abs(x), ((0j, 3 + 4j, -4j),), (1.0, 0.0, 2.0), ((0j, 0j, -2j),)),
    Kink("sign", "constant, at 0 as well", lambda x: calls.sign(x), ((0.0, -0.0, 2.0),), (3.0,) * 3, ((0.0,) * 3,)),
    Kink("sign", "at 0 + 0i: 0", lambda x: calls.sign(x), ((0j, 2 + 0j),), (1 + 1j, 2 + 2j), ((0j, 1j),)),
    Kink("relu", "at either zero: 0", lambda x: calls.relu(x), ((0.0, -0.0, 2.0, -2.0),), (3.0,) * 4, ((0.0, 0.0, 3.0, 0.0),)),
    Kink("leaky_relu", "at either zero: the slope below", lambda x: calls.leaky_relu(x, negative_slope=0.5),
         ((0.0, -0.0, 2.0),), (3.0,) * 3, ((1.5, 1.5, 3.0),)),
    Kink("elu", "at 0: the slope below", lambda x: calls.elu(x, alpha=0.5), ((0.0, -0.0, 2.0),), (2.0,) * 3, ((1.0, 1.0, 2.0),)),
    Kink("maximum", "of equal operands: half each", lambda a, b: calls.maximum(a, b), TIES, (2.0,) * 4,
         ((1.0, 1.0, 2.0, 0.0), (1.0, 1.0, 0.0, 2.0))),
    Kink("minimum", "of equal operands: half each", lambda a, b: calls.minimum(a, b), TIES, (2.0,) * 4,
         ((1.0, 1.0, 0.0, 2.0), (1.0, 1.0, 2.0, 0.0))),
    Kink("maximum", "of x and itself: all of it", lambda x: calls.maximum(x, x), ((1.0, 0.0, -2.0),), (3.0,) * 3, ((3.0,) * 3,)),
    Kink("max", "of k equal elements: a k-th each", lambda x: calls.max(x), (THREES,), (3.0,), ((1.0, 0.0, 1.0, 1.0),)),
    Kink("min", "of k equal elements: a k-th each", lambda x: calls.min(x), ((1.0, 1.0, 3.0, 1.0),), (3.0,), ((1.0, 1.0, 0.0, 1.0),)),
    Kink("max", "of two equal elements: half each", lambda x: calls.max(x, axis=0), ((2.0, 1.0, 2.0),), (3.0,), ((1.5, 0.0, 1.5),)),
    Kink("clip", "at a limit: half, as of maximum", lambda x: calls.clip(x, -1.0, 1.0), ((-2.0, -1.0, 0.0, 1.0, 2.0),), (4.0,) * 5,
         ((0.0, 2.0, 4.0, 2.0, 0.0),)),
    Kink("clip", "a limit that binds gets the gradient", lambda x, low, high: calls.clip(x, low, high),
         ((-2.0, 0.0, 2.0), (-1.0,) * 3, (1.0,) * 3), (3.0,) * 3, ((0.0, 3.0, 0.0), (3.0, 0.0, 0.0), (0.0, 0.0, 3.0))),
    Kink("pow", "x**0 is constant, at 0 as well", lambda x: calls.pow(x, 0), ((0.0, 2.0, -2.0),), (3.0,) * 3, ((0.0,) * 3,)),
    Kink("pow", "x**1 at 0: 1", lambda x: calls.pow(x, 1), ((0.0, 2.0, -2.0),), (3.0,) * 3, ((3.0,) * 3,)),
    Kink("pow", "x**2 at 0: 0", lambda x: calls.pow(x, 2), ((0.0, 2.0, -2.0),), (3.0,) * 3, ((0.0, 12.0, -12.0),)),
    Kink("pow", "0**y: 0 along y", lambda x, y: calls.pow(x, y), ((0.0, 0.0, 0.0, 1.0),  (0.0, 1.0, 2.0, 2.0)), (3.0,) * 4,
         ((0.0, 3.0, 0.0, 6.0), (0.0, 0.0, 0.0, 0.0))),
    Kink("pow", "the number 0 to the y: 0", lambda y: calls.pow(0.0, y), ((1.0, 2.0),), (3.0,) * 2, ((0.0,) * 2,)),
    Kink("sqrt", "at 0: infinite", lambda x: calls.sqrt(x), ((0.0, 4.0),), (1.0,) * 2, ((INF, 0.25),)),
    Kink("square", "at 0: 0", lambda x: calls.square(x), ((0.0, 2.0),), (3.0,) * 2, ((0.0, 12.0),)),
    Kink("hypot", "at the origin: 0, as of a norm", lambda a, b: calls.hypot(a, b), ((0.0, 2.0, 0.0), (0.0, 0.0, -2.0)), (3.0,) * 3,
         ((0.0, 3.0, 0.0), (0.0, 0.0, -3.0))),
    Kink("vector_norm", "of zeros: 0", lambda x: calls.vector_norm(x), ((0.0, -0.0, 0.0),), (3.0,), ((0.0,) * 3,)),
    Kink("vector_norm", "of zeros, of order 3: 0", lambda x: calls.vector_norm(x, ord=3.0), ((0.0, 0.0),), (3.0,), ((0.0,) * 2,)),
    Kink("vector_norm", "of order 1 at 0: 0", lambda x: calls.vector_norm(x, ord=1), ((0.0, -2.0),), (3.0,), ((0.0, -3.0),)),
    Kink("vector_norm", "of infinite order, of equal magnitudes: half each", lambda x: calls.vector_norm(x, ord=INF),
         ((2.0, -2.0, 1.0),), (3.0,), ((1.5, -1.5, 0.0),)),
    Kink("vector_norm", "of complex zeros: 0", lambda x: calls.vector_norm(x), ((0j, 0j),), (3.0,), ((0j, 0j),)),
    Kink("matrix_norm", "of zeros: 0", lambda x: calls.matrix_norm(calls.reshape(x, (2, 2))), ((0.0,) * 4,), (3.0,), ((0.0,) * 4,)),
    Kink("std", "of equal elements: 0", lambda x: calls.std(x), ((2.0,) * 4,), (3.0,), ((0.0,) * 4,)),
    Kink("var", "of equal elements: 0", lambda x: calls.var(x), ((2.0,) * 4,), (3.0,), ((0.0,) * 4,)),
    Kink("prod", "with one zero: the product of the others", lambda x: calls.prod(x), ((2.0, 0.0, 3.0),), (2.0,), ((0.0, 12.0, 0.0),)),
    Kink("prod", "with two zeros: 0", lambda x: calls.prod(x), ((0.0, 3.0, 0.0),), (2.0,), ((0.0,) * 3,)),
    Kink("cumulative_prod", "with a zero", lambda x: calls.cumulative_prod(x, axis=0), ((2.0, 0.0, 3.0),), (1.0,) * 3, ((1.0, 8.0, 0.0),)),
    Kink("sort", "equal elements keep their order, and their cotangents", lambda x: calls.sort(x), ((2.0, 1.0, 2.0, 1.0),),
         (1.0, 2.0, 3.0, 4.0), ((3.0, 1.0, 4.0, 2.0),)),
    Kink("where", "what is not selected gets 0, NaN or not", lambda x, y: calls.where(x > 0, x, y), ((1.0, -1.0), (NAN, INF)), (3.0,) * 2,
         ((3.0, 0.0), (0.0, 3.0))),
    Kink("where", "a NaN of a number that is not selected", lambda x: calls.where(x > 0, x, NAN), ((1.0, -1.0),), (3.0,) * 2, ((3.0, 0.0),)),
    Kink("log", "guarded by where, at 0: 0", _guarded(lambda x: calls.log(x)), ((0.0, 2.0),), (2.0,) * 2, ((0.0, 1.0),)),
    Kink("sqrt", "guarded by where, at 0: 0", _guarded(lambda x: calls.sqrt(x)), ((0.0, 4.0),), (2.0,) * 2, ((0.0, 0.5),)),
    Kink("divide", "guarded by where, at 0: 0", _guarded(lambda x: calls.divide(1.0, x)), ((0.0, 2.0),), (2.0,) * 2, ((0.0, -0.5),)),
    Kink("logaddexp", "of equal operands, infinite ones too: half each", lambda a, b: calls.logaddexp(a, b),
         ((0.0, INF, -INF), (0.0, INF, -INF)), (2.0,) * 3, ((1.0,) * 3, (1.0,) * 3)),
    Kink("logsumexp", "an element of -inf: 0", lambda x: calls.logsumexp(x), ((-INF, 0.0),), (3.0,), ((0.0, 3.0),)),
    Kink("softmax", "an element of -inf: 0", lambda x: calls.softmax(x, axis=-1), ((-INF, 0.0, 0.0),), (1.0, 2.0, 4.0), ((0.0, -0.5, 0.5),)),
    Kink("l1_loss", "at no difference: 0", lambda a, b: calls.l1_loss(a, b, reduction="sum"), ((1.0, 2.0), (1.0, 3.0)), (2.0,),
         ((0.0, -2.0), (0.0, 2.0))),
    Kink("huber_loss", "at no difference: 0", lambda a, b: calls.huber_loss(a, b, reduction="sum"), ((1.0, 2.0, 4.0), (1.0, 1.5, 0.0)), (2.0,),
         ((0.0, 1.0, 2.0), (0.0, -1.0, -2.0))),
    Kink("remainder", "at a multiple: 1, and minus the quotient", lambda a, b: calls.remainder(a, b), ((4.0, -3.0), (2.0, 2.0)), (3.0,) * 2,
         ((3.0, 3.0), (-6.0, 6.0))),
)  # fmt: skip


def _kinks(plan: Plan) -> Iterator[Case]:
    for op in plan.ops:
        for number, row in enumerate(KINKS):
            if row.op != op.name:
                continue
            kind = "complex" if any(isinstance(x, complex) for x in row.operands[0]) else "float"
            for dtype in op.rule.accepts:
                if dtype.kind == kind and (plan.kinds is None or dtype in plan.kinds):
                    values = tuple(Values((len(x),), dtype, x) for x in row.operands)
                    yield Case(op, dtype, "kink", number, Sample(values))


@family("kink", level=2, profiles=BOUNDED, generate=_kinks)
def kink(suite: Suite, case: Case) -> None:
    """The gradients are the numbers of the row."""
    row = KINKS[case.number]
    assert isinstance(case.sample, Sample)
    y, pullback = vjp(row.call, *(tensor(v, suite.backend) for v in case.sample.args))
    got = plain(pullback(tensor(_like(row.cotangent, y), suite.backend)))
    same_kind(case, got, suite.backend.device)
    for n, (want, grad) in enumerate(zip(row.gradients, got, strict=True)):
        for i, (e, a) in enumerate(zip(want, grad.data, strict=True)):
            if not (e == a or (e != e and a != a)):
                raise Disagreement(
                    f"{row.op} {row.where}: the gradient of operand {n} at {place(grad.shape, i)} is {a!r}, expected {e!r}"
                )


def _like(row: Row, y: Any) -> Values:
    """The cotangent in the result's shape and dtype."""
    dtype: DType = y.dtype
    assert inexact(dtype) and len(row) == y.size and (dtype in HALF or dtype.digits)
    return Values(tuple(y.shape), dtype, tuple(complex(g) if dtype.kind == "complex" else g for g in row))
