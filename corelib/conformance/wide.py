"""Gradients of operands of more than a few elements: the family ``wide``.

A thousand elements ("long": what is wrong beyond a vector register, a block or a chunk is out of sight before); one
operand broadcast along every set of axes of the other ("broadcast"); the same operand twice ("twice": f(x, x)).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

from ..autograd import vjp
from ..dtypes import HALF
from ..op import Op
from ..samples import Sample, Values
from .cases import Case
from .check import Suite
from .compare import Disagreement
from .cotangents import again, differentiable
from .derivatives import (
    UNHURRIED,
    agree,
    gradient_limit,
    like,
    operands,
    plain,
    pulled,
    same_kind,
    sample_of,
)
from .families import Plan, family
from .operands import replaced, representable, size, tensors
from .oracle import cotangents, widened
from .place import Result, tensor

LONG, ROWS = (1100,), (35, 33)
SUBSETS = [axes for r in range(4) for axes in itertools.combinations(range(3), r)]


def refilled(values: Values, shape: tuple[int, ...]) -> Values:
    """The same numbers over and over in another shape."""
    data = values.data
    return Values(shape, values.dtype, tuple(data[i % len(data)] for i in range(math.prod(shape))))


def _wide(plan: Plan) -> Iterator[Case]:
    for group in differentiable(plan):
        op, dtype = group[0].op, group[0].dtype
        few = plan.profile == "smoke" or dtype in HALF
        for placement, samples in (
            ("long", _long(op, group)),
            ("broadcast", _broadcast(op, group)),
            ("twice", _twice(op, group)),
        ):
            chosen = samples[:1] if few else samples
            yield from again([group[0]] * len(chosen), "wide", placement, chosen)


def _long(op: Op, group: Sequence[Case]) -> list[Sample]:
    """Element-wise ops on a thousand elements, for each other argument; reductions and scans on long axes."""
    found: dict[str, Sample] = {}
    for case in group:
        sample = case.sample
        assert isinstance(sample, Sample)
        given = [v for v in tensors(sample) if v.shape]
        if not all(v.data for v in given):
            continue
        others = repr((replaced(sample, lambda v: Values((), v.dtype, ())), len(given)))
        if op.kind == "elementwise" and given:
            found.setdefault(others, replaced(sample, lambda v: refilled(v, LONG) if v.shape else v))
        elif op.kind in ("reduce", "scan") and len(given) == 1 and given[0].shape and len(given[0].shape) < 3:
            shape = LONG if len(given[0].shape) == 1 else ROWS
            found.setdefault(f"{others} {shape}", replaced(sample, lambda v, s=shape: refilled(_tame(v), s)))
    return list(found.values())


def _tame(v: Values) -> Values:
    """Complex numbers of different moduli near 1, of which a thousand can be multiplied."""
    if v.dtype.kind != "complex":
        return v
    n = len(v.data)
    moduli = (1 + (i - n / 2) / (8 * n) for i in range(n))
    return representable(
        Values(v.shape, v.dtype, tuple(z / abs(z) * r for z, r in zip(v.data, moduli, strict=True)))
    )


def _broadcast(op: Op, group: Sequence[Case]) -> list[Sample]:
    """One operand of shape (2, 3, 4), another with 1 along every set of axes, and without the leading ones."""
    sample = _pair(op, group)
    if sample is None:
        return []
    full = (2, 3, 4)
    smaller = [tuple(1 if i in axes else n for i, n in enumerate(full)) for axes in SUBSETS if axes]
    pairs = [(full, s) for s in (*smaller, (3, 4), (4,), ())] + [
        (s, full) for s in (*smaller, (3, 4), (4,), ())
    ]
    pairs += [((2, 1, 4), (1, 3, 1)), ((2, 1, 1), (3, 4))]
    return [Sample((refilled(sample.args[0], a), refilled(sample.args[1], b))) for a, b in pairs]


def _twice(op: Op, group: Sequence[Case]) -> list[Sample]:
    """f(x, x): the second operand's values, which suit both."""
    sample = _pair(op, group)
    return [] if sample is None else [Sample((sample.args[1], sample.args[1]))]


def _pair(op: Op, group: Sequence[Case]) -> Sample | None:
    """The largest sample of an element-wise op of two tensors."""
    if op.kind != "elementwise" or len(op.operands) != 2 or op.rule.joint is not None or op.params:
        return None
    return max(
        (c.sample for c in group if len(tensors(sample_of(c))) == 2),
        key=size,  # type: ignore[arg-type]
        default=None,
    )  # type: ignore[return-value]


@family("wide", level=2, profiles=UNHURRIED, generate=_wide)
def wide_operands(suite: Suite, case: Case) -> float:
    """The gradients are the reference's; of f(x, x) there is one."""
    if case.placement == "twice":
        expected = [
            suite.asked(lambda case: _of_both(case, widened(sample_of(case)), suite.oracle.backend), case)
        ]
        got = [_of_both(case, sample_of(case), suite.backend)]
        x = operands(case)[0]
        if (got[0].shape, got[0].dtype) != (x.shape, x.dtype):
            raise Disagreement(f"the gradient of f(x, x) is {got[0].dtype.name}{list(got[0].shape)}")
    else:
        expected = suite.asked(suite.oracle.gradient, case)
        got = pulled(case, sample_of(case), suite.backend)
        same_kind(case, got, suite.backend.device)
    return agree(expected, got, scale=4.0, limit=gradient_limit(case))  # two cotangents of at most 2


def _of_both(case: Case, sample: Sample, backend: Any) -> Result:
    """The gradient of f(x, x)."""
    x = tensor(sample.args[0], backend)
    y, pullback = vjp(lambda x: case.op.fn(x, x), x)
    (g,) = like(cotangents(case, [y]), [y])
    return plain(pullback(tensor(g, backend)))[0]
