"""Special cases: the numbers, ties and matrices at which implementations go wrong."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

from .. import dtypes
from ..dtypes import DType
from ..op import SUM_BOUND, Op
from ..samples import Maker, Sample, Values
from .operands import inexact, replaced, representable, tensors
from .unspecified import ORDER_MATTERS


def special_values(dtype: DType) -> list[Any]:
    """The numbers of a dtype at which implementations go wrong."""
    if dtype.kind == "bool":
        return [False, True]
    if dtype.kind == "complex":
        return [complex(a, b) for a in _component_values(dtype.real) for b in _component_values(dtype.real)]
    if dtype.kind != "float":
        ends = {dtype.min, dtype.min + 1, dtype.max - 1, dtype.max}
        # between two numbers of float16 and of bfloat16: halfway, and beyond it by less than float32 holds
        between = {x for x in (2049, (257 << 16) + 1) if x < dtype.max}
        return sorted({*ends, *between, *([-3, -1] if dtype.min else []), 0, 1, 2, 7})
    tiny = dtype.smallest_normal * dtype.eps
    ordinary = [dtype.eps / 2, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 2.0 ** min(dtype.digits, 24) + 2]
    positive = [0.0, tiny, dtype.smallest_normal, *ordinary, *_between(dtype), dtype.max, math.inf]
    return [math.nan, *positive, *[-x for x in positive]]


def _between(dtype: DType) -> list[float]:
    """Numbers halfway between two numbers of a narrower dtype, and just beyond: what is rounded twice or cut
    off differs.
    """
    narrower = [
        d for d in (*dtypes.HALF, dtypes.float32) if d.digits < dtype.digits and dtype not in dtypes.HALF
    ]
    halfway = [1 + d.eps / 2 for d in narrower]
    return [*halfway, *(x + dtype.eps for x in halfway)]


def _component_values(dtype: DType) -> list[float]:
    """The parts of special complex numbers: with all their combinations, every row of the standard's tables."""
    tiny = dtype.smallest_normal * dtype.eps
    positive = [0.0, tiny, dtype.smallest_normal, 0.5, 1.0, 1.5, 2.5, dtype.max, math.inf]
    return [math.nan, *positive, *[-x for x in positive]]


def _complex_pairs(dtype: DType) -> tuple[list[complex], list[complex]]:
    """Two columns: all pairs of some ordinary, extreme and special numbers."""
    ordinary = [0.0, -0.0, 1.0, -1.5, 2.5]
    some = [complex(a, b) for a in ordinary for b in ordinary]
    special = [
        complex(a, b) for a in (1.5, math.inf, -math.inf, math.nan) for b in (0.0, -1.5, math.inf, math.nan)
    ]
    large, tiny = dtype.real.max / 4, dtype.smallest_normal * dtype.eps  # room for the sum of two products
    extreme = [
        complex(large, 0.0),
        complex(-large, large),
        complex(tiny, large),
        complex(tiny, -tiny),
        complex(0.0, tiny),
    ]
    both = [*some, *extreme, *special]
    pairs = list(itertools.product(both, both))
    return [a for a, _ in pairs], [b for _, b in pairs]


def specials(op: Op, dtype: DType, samples: Sequence[Sample]) -> list[Sample]:
    """Calls with special values.

    Element-wise ops of operands alone get all special values, or all pairs of them (of complex numbers, many);
    with other arguments, these as in the samples. Other ops get a sample of theirs with NaN, infinity and -0.0
    among its values, and one with few different values, so that there are ties; functions of matrices get
    matrices that are hard instead.
    """
    if op.kind in ("creation", "random") or op.variadic:
        return []
    if op.group == "linalg" and dtypes.int64 not in op.rule.accepts:  # unlike products of vectors
        return _hard_matrices(op, dtype, samples)
    if op.kind != "elementwise":
        return _disturbed(op, dtype, samples)
    values = special_values(dtype)
    if not op.params and op.rule.joint is None and len(op.operands) <= 2:
        if len(op.operands) == 2 and dtype.kind == "complex":
            columns: Any = _complex_pairs(dtype)
        else:
            columns = list(zip(*itertools.product(values, repeat=len(op.operands)), strict=True))
        return [Sample(tuple(Values((len(c),), dtype, tuple(c)) for c in columns))]
    one = [s for s in samples if isinstance(s.args[0], Values) and len(tensors(s)) == 1]
    if not one:
        return _disturbed(op, dtype, samples)
    others = {repr((s.args[1:], s.kwargs)): s for s in one}
    return [
        Sample((Values((len(values),), dtype, tuple(values)), *s.args[1:]), s.kwargs) for s in others.values()
    ]


def _disturbed(op: Op, dtype: DType, samples: Sequence[Sample]) -> list[Sample]:
    """The largest sample with non-finite values in it, and the same with ties."""
    largest = max(
        samples,
        key=lambda s: max((math.prod(v.shape) for v in tensors(s) if v.dtype is dtype), default=0),
        default=None,
    )
    if largest is None or not any(math.prod(v.shape) > 1 for v in tensors(largest) if v.dtype is dtype):
        return []
    make = Maker(f"{op.name} special")

    def ties(v: Values) -> Values:
        few = v.data[:3]  # its own first values: indices and labels stay in range
        return (
            Values(v.shape, dtype, tuple(make.random.choice(few) for _ in v.data))
            if v.dtype is dtype and few
            else v
        )

    def nonfinite(v: Values) -> Values:
        if v.dtype is not dtype or not v.data:
            return v
        data = list(v.data)
        for special in (math.nan, math.inf, -0.0):
            i = make.random.randrange(len(data))
            data[i] = complex(special, data[i].imag) if dtype.kind == "complex" else special
        return Values(v.shape, dtype, tuple(data))

    def absorbed(v: Values) -> Values:
        """Ones beside a number so large that one of the dtype's own steps is 2: a sum in the dtype loses them."""
        if v.dtype is not dtype or not v.data:
            return v
        return Values(v.shape, dtype, (2.0**dtype.digits, *(1.0 for _ in v.data[1:])))

    if dtype in dtypes.HALF and op.ulp == SUM_BOUND:
        return [replaced(largest, ties), replaced(largest, nonfinite), replaced(largest, absorbed)]
    open_ = not inexact(dtype) or op.group == "fft" or (dtype.kind == "complex" and op.name in ORDER_MATTERS)
    found = [replaced(largest, ties), *([] if open_ else [replaced(largest, nonfinite)])]
    return [*found, *_moments(op, dtype, largest)] if op.name in ("mean", "var", "std") else found


def _moments(op: Op, dtype: DType, largest: Sample) -> list[Sample]:
    """The moments of nothing, which are NaN; and of numbers beside whose squares their variance is lost."""
    nothing = Sample((Values((0, 3), dtype, ()),), {**largest.kwargs, "axis": 0})
    far = 2.0 ** (dtype.digits // 2 - 1)

    def distant(v: Values) -> Values:
        return Values(v.shape, dtype, tuple(type(x)(far + n % 3) for n, x in enumerate(v.data)))

    return [nothing, replaced(largest, distant)]


def _hard_matrices(op: Op, dtype: DType, samples: Sequence[Sample]) -> list[Sample]:
    """The largest sample with other matrices in it (not ties or NaN: those may have no decomposition).

    An op that reads one triangle alone finds other numbers in the other. The others get a matrix with its first
    two rows exchanged, whose elimination needs a pivot and whose eigenvalues are not real; and those that are
    judged by backward error one with nearly dependent columns, of which squares lose the difference (Läuchli,
    1961).
    """
    if op.domain is None and op.residual is None:
        return []
    fits = [s for s in samples if isinstance(s.args[0], Values) and min(s.args[0].shape[-2:], default=0) > 1]
    chosen = max(fits, key=lambda s: len(s.args[0].data), default=None)
    if chosen is None:
        return []
    small = 2.0 ** -(dtype.digits // 2 + 1)  # its square is lost beside 1

    def element(x: Values, k: int, change: str) -> Any:
        *_, m, n = x.shape
        i, j = k // n % m, k % n
        if change == "triangle":
            return x.data[k] + 1.5 * (j > i)
        if change == "rows":
            return x.data[k + {0: n, 1: -n}.get(i, 0)]
        return type(x.data[k])(1.0 if i == 0 else small if i == j + 1 else 0.0)

    def changed(change: str) -> Sample:
        x = chosen.args[0]
        data = tuple(element(x, k, change) for k in range(len(x.data)))
        return Sample((representable(Values(x.shape, dtype, data)), *chosen.args[1:]), chosen.kwargs)

    return [changed(change) for change in (("triangle",) if op.domain else ("rows", "dependent"))]
