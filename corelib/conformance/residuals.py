"""Results that are judged by backward error: a decomposition is right if its factors give the matrix back.

An eigenvector has an arbitrary sign, a solution of an ill-conditioned system many right digits more in its
residual than in itself: so an op may declare ``residual(y, *operands, **params)``, dimensionless numbers that
are 0 for a perfect result. They are computed here from a backend's results by the reference, in float64 or
complex128, and must be at most ``budget n eps / 2``, n the largest of the last two axes: what a backward stable
algorithm guarantees.
"""

from __future__ import annotations

import math
from typing import Any

from ..op import Op
from ..samples import Sample, Values
from ..tensor import Tensor
from ..tree import flatten
from .distance import magnitude
from .operands import inexact, tensors
from .oracle import budget_of, wide, widened
from .place import Result, arguments, numbers, tensor


def residuals(op: Op, sample: Sample, found: list[Result], reference: Any) -> list[float]:
    """The residuals of a call's results."""
    args, kwargs = arguments(op, widened(sample), reference)
    operands, params = op.bind(*args, **kwargs)
    params = {k: v for k, v in params.items() if k != op.device_param}
    given = [tensor(Values(r.shape, wide(r.dtype), r.data), reference) for r in found]
    says = op.residual(given[0] if len(given) == 1 else tuple(given), *op.regroup(operands), **params)  # type: ignore[misc]
    values = [numbers(x) if isinstance(x, Tensor) else (x,) for x in flatten(says)[0]]
    return [_largest(v) for v in values]


def _largest(values: tuple[Any, ...]) -> float:
    """The largest magnitude; inf where there is a NaN."""
    bad = any(x != x or not math.isfinite(abs(x)) for x in values)
    return math.inf if bad else max(map(magnitude, values), default=0.0)


def limit(op: Op, sample: Sample, found: list[Result]) -> float:
    """How large a residual may be. The unit is that of the coarsest result: what is given in float16 and comes out
    in complex64 was computed in it.
    """
    x = next(v for v in tensors(sample) if inexact(v.dtype))
    n = max((*x.shape[-2:], 1))
    eps = max(r.dtype.eps for r in found if inexact(r.dtype))
    return float(budget_of(op, sample, found)) * n * eps / 2
