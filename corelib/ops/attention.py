"""Scaled dot-product attention, and its gradient as an op, so that a backend may give both as one kernel that keeps no
matrix of probabilities.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from .. import dtypes
from ..dispatch import composite
from ..dtypes import FLOATING, float32, int64
from ..errors import DTypeError, ShapeError
from ..op import calls
from ..params import Caller
from ..rules import Spec, broadcast_shapes, common, custom
from ..samples import ErrorSample, Sample, Values
from ..walk import unbroadcast
from . import batching
from .compare import equal, less_equal, logical_and
from .contract import matmul
from .elementwise import add, divide, exp, multiply, subtract, where
from .movement import permute_dims, reshape
from .reduce import max, sum

if TYPE_CHECKING:
    from ..tensor import Tensor


def attention_shape(op: Any, q: Any, k: Any, v: Any, mask: Any) -> tuple[int, ...]:
    """The shape of the result; raises what the ops refuse. Operands need only ``shape`` and ``dtype``."""
    shapes = {name: tuple(x.shape) for name, x in (("q", q), ("k", k), ("v", v))}
    listed = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
    if min(map(len, shapes.values())) < 2:
        raise ShapeError(f"{op.name}: q, k and v must have at least two axes, (..., length, features), got {listed}")  # fmt: skip
    if q.shape[-1] != k.shape[-1]:
        raise ShapeError(f"{op.name}: q and k must have as many features on the last axis, got {listed}")
    if k.shape[-2] != v.shape[-2]:
        raise ShapeError(f"{op.name}: k and v must have the same length on axis -2, got {listed}")
    try:
        lead = broadcast_shapes(*(shape[:-2] for shape in shapes.values()))
    except ShapeError as error:
        raise ShapeError(f"{op.name}: the leading axes of {listed}: {error}") from None
    scores = (*lead, q.shape[-2], k.shape[-2])
    if mask is not None:
        if dtypes.as_dtype(mask.dtype).kind not in ("bool", "float"):
            raise DTypeError(
                f"{op.name}: mask must be bool (True: take part) or floating (added), got {dtypes.as_dtype(mask.dtype).name}"
            )
        try:
            fits = broadcast_shapes(tuple(mask.shape), scores) == scores
        except ShapeError:
            fits = False
        if not fits:
            raise ShapeError(
                f"{op.name}: mask must broadcast to {scores}, that is (..., length of q, length of k), got {mask.shape}"
            )
    return (*lead, q.shape[-2], v.shape[-1])


@custom(FLOATING, joint=(0, 1, 2))
def _attention_rule(op: Any, specs: Any, params: dict[str, Any]) -> Spec:
    return Spec(attention_shape(op, *specs), common(op, specs, (0, 1, 2)))


def _scale(q: Any, scale: float | None) -> float:
    return 1 / math.sqrt(q.shape[-1]) if scale is None and q.shape[-1] else scale or 1.0


def _swapped(x: Tensor) -> Tensor:
    return permute_dims(x, (*range(-x.ndim, -2), -1, -2))


def exponentials(
    q: Tensor, k: Tensor, mask: Tensor | None, causal: bool, scale: float | None
) -> tuple[Tensor, Tensor]:
    """exp(score - the row's largest) and the sum of each row, 1 where the row is masked altogether."""
    scores = matmul(multiply(q, _scale(q, scale)), _swapped(k))
    allowed = mask if mask is not None and mask.dtype.kind == "bool" else None
    if mask is not None and allowed is None:
        scores = add(scores, calls.astype(mask, scores.dtype))
    if causal:
        rows = reshape(calls.arange(q.shape[-2], device=q._backend), (q.shape[-2], 1))
        past = less_equal(calls.arange(k.shape[-2], device=q._backend), rows)
        allowed = past if allowed is None else logical_and(allowed, past)
    if allowed is not None:
        scores = where(allowed, scores, -math.inf)
    if not k.shape[-2]:
        return scores, calls.full((*scores.shape[:-1], 1), 1, dtype=scores.dtype, device=q._backend)
    largest = max(scores, axis=-1, keepdims=True)
    e = exp(subtract(scores, where(equal(largest, -math.inf), 0, largest)))
    total = sum(e, axis=-1, keepdims=True)
    return e, where(equal(total, 0), 1, total)


def _attention_vjp(
    g: Tensor, q: Tensor, k: Tensor, v: Tensor, mask: Any, causal: bool, scale: float | None
) -> Any:
    found = attention_gradient(g, q, k, v, mask, causal=causal, scale=scale)
    return found if len(found) == 4 else (*found, None)


def _operands(make: Any, dtype: Any) -> Any:
    """Samples of (q, k, v, mask) and parameters: small numbers, since the gradient's terms cancel where a row of
    probabilities is almost 0 and 1.
    """

    def bools(*rows: str) -> Values:
        return Values((len(rows), len(rows[0])), dtypes.bool, tuple(c == "1" for row in rows for c in row))

    for q, k, v, mask, params in (
        ((3, 2), (4, 2), (4, 3), None, {}),
        ((2, 3, 2), (2, 3, 2), (2, 3, 2), None, {"causal": True}),
        ((2, 3), (3, 3), (3, 1), bools("110", "000"), {"scale": 0.5}),
        ((2, 2, 3, 2), (2, 1, 3, 2), (2, 1, 3, 2), bools("111", "011", "101"), {"causal": True}),
        ((2, 1, 3), (2, 4, 3), (2, 4, 2), (1, 4), {}),
        ((0, 2, 3), (0, 2, 3), (0, 2, 3), None, {}),
        ((2, 2), (3, 2), (3, 2), (2, 3), {"causal": True}),
        ((2, 5, 4), (2, 6, 4), (2, 6, 3), None, {}),
    ):  # fmt: skip
        operands = [make.array(s, dtype, -1, 1) for s in (q, k, v)]
        given = [] if mask is None else [mask if isinstance(mask, Values) else make.array(mask, dtype, -1, 1)]
        yield (*operands, *given), params


def _attention_samples(make: Any, dtype: Any) -> Any:
    for operands, params in _operands(make, dtype):
        yield Sample(operands, params)


def _refused(error: type[Exception], words: str, *shapes: Any) -> ErrorSample:
    def build(m: Any) -> Sample:
        return Sample(tuple(s if isinstance(s, Values) else m.array(s, float32) for s in shapes))

    return ErrorSample(error, words, build)


_ERRORS = [
    _refused(ShapeError, r"q and k must have as many features on the last axis, got q \(3, 2\), k \(4, 5\), v \(4, 2\)", (3, 2), (4, 5), (4, 2)),
    _refused(ShapeError, "k and v must have the same length on axis -2", (3, 2), (4, 2), (5, 2)),
    _refused(ShapeError, "must have at least two axes", (2,), (4, 2), (4, 2)),
    _refused(ShapeError, r"the leading axes of .* do not broadcast", (2, 3, 2), (3, 4, 2), (3, 4, 2)),
    _refused(ShapeError, r"mask must broadcast to \(3, 4\), .*, got \(2, 3, 4\)", (3, 2), (4, 2), (4, 2), (2, 3, 4)),
    _refused(DTypeError, r"mask must be bool \(True: take part\) or floating \(added\), got int64", (3, 2), (4, 2), (4, 2),
             Values((3, 4), int64, (1,) * 12)),
]  # fmt: skip


@composite(
    kind="opaque", rule=_attention_rule, vjp=_attention_vjp, samples=_attention_samples, errors=_ERRORS, ulp=32,
    batch=batching.attention,
)  # fmt: skip
def scaled_dot_product_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None = None,
    /,
    *,
    causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    """softmax(scale q @ k.mT + mask) @ v, the softmax along the last axis: q of shape (..., L, E), k (..., S, E) and v
    (..., S, F) give (..., L, F); leading axes broadcast (Vaswani et al., arXiv:1706.03762).

    ``mask`` broadcasts to (..., L, S): a bool one is True where a query may look, a floating one is added. With
    ``causal``, query i looks at keys 0 to i only. ``scale`` is 1 / sqrt(E) unless given. A query that may look at no key
    gives zeros, and passes on no gradient.
    """
    attention_shape(Caller("scaled_dot_product_attention"), q, k, v, mask)
    e, total = exponentials(q, k, mask, causal, scale)
    return divide(matmul(e, v), total)


# -- its gradient --------------------------------------------------------------------------------------------


@custom(FLOATING, joint=(0, 1, 2, 3))
def _gradient_rule(op: Any, specs: Any, params: dict[str, Any]) -> tuple[Spec, ...]:
    cotangent, *operands = specs
    dtype = common(op, specs, (0, 1, 2, 3))
    _fits(op, cotangent, attention_shape(op, *operands))
    mask = operands[3]
    found = [Spec(x.shape, dtype) for x in operands[:3]]
    return (*found, Spec(mask.shape, mask.dtype)) if _adds(mask) else tuple(found)


def _adds(mask: Any) -> bool:
    return mask is not None and mask.dtype.kind == "float"


def _fits(op: Any, cotangent: Any, wanted: tuple[int, ...]) -> None:
    if tuple(cotangent.shape) != wanted:
        raise ShapeError(f"{op.name}: cotangent must have the result's shape {wanted}, got {cotangent.shape}")


def _gradient_samples(make: Any, dtype: Any) -> Any:
    for operands, params in _operands(make, dtype):
        shape = attention_shape(Caller(""), *operands, *([None] if len(operands) == 3 else []))
        yield Sample((make.array(shape, dtype, -1, 1), *operands), params)


@composite(
    kind="opaque", rule=_gradient_rule, samples=_gradient_samples, ulp=64, batch=batching.attention_gradient,
    errors=[_refused(ShapeError, r"attention_gradient: cotangent must have the result's shape \(3, 3\), got \(3, 4\)", (3, 4), (3, 2), (4, 2), (4, 3)),
            _refused(ShapeError, "attention_gradient: q and k must have as many features", (3, 4), (3, 1), (4, 2), (4, 3))],
)  # fmt: skip
def attention_gradient(
    cotangent: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None = None,
    /,
    *,
    causal: bool = False,
    scale: float | None = None,
) -> tuple[Tensor, ...]:
    """The cotangents of q, k and v, and of a floating mask, for one of ``scaled_dot_product_attention``'s result. The
    probabilities p are computed again: with ds = p (cotangent @ v.mT - the sum of each row of it times p), they are scale
    ds @ k, scale ds.mT @ q, p.mT @ cotangent and ds.
    """
    op = Caller("attention_gradient")
    _fits(op, cotangent, attention_shape(op, q, k, v, mask))
    e, total = exponentials(q, k, mask, causal, scale)
    p = divide(e, total)
    dp = matmul(cotangent, _swapped(v))
    weighted = multiply(p, dp)
    ds = subtract(weighted, multiply(p, sum(weighted, axis=-1, keepdims=True)))
    factor = _scale(q, scale)
    found = (
        unbroadcast(multiply(matmul(ds, k), factor), q.shape),
        unbroadcast(matmul(_swapped(ds), multiply(q, factor)), k.shape),
        unbroadcast(matmul(_swapped(p), cotangent), v.shape),
    )
    if mask is None or not _adds(mask):
        return found
    return (*found, calls.astype(unbroadcast(ds, mask.shape), mask.dtype))
