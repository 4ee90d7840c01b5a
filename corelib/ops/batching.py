"""Batching rules: ops on n examples at once, where the kind of the op does not say how (``batch=`` of an op).

A rule is called as ``rule(op, n, operands, mapped, params)``. The operands that are ``mapped`` have the examples along a
new first axis, the others are shared by all, and the results have the examples along their first axis. A rule that
returns NotImplemented leaves the op to its body. Nothing here knows transformations: rules are public ops on tensors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..dispatch import execute
from ..op import Op, calls

if TYPE_CHECKING:
    from ..tensor import Tensor

Rule = Callable[[Op, int, Sequence[Any], Sequence[bool], dict[str, Any]], Any]


def spread(x: Tensor, n: int, mapped: bool) -> Tensor:
    """x with an axis of n examples in front, all the same if it is not mapped."""
    return x if mapped else calls.broadcast_to(x, (n, *x.shape))


def aligned(x: Tensor, mapped: bool, ndim: int) -> Tensor:
    """A mapped x with axes of size 1 behind the examples, so that each has ``ndim`` axes; another one as it is."""
    missing = ndim + 1 - x.ndim
    if not mapped or missing <= 0:
        return x
    return calls.reshape(x, (x.shape[0], *(1,) * missing, *x.shape[1:]))


def front(x: Tensor, axis: int) -> Tensor:
    """x with an axis (counted from the front) as its first."""
    if axis == 0:
        return x
    return calls.permute_dims(x, (axis, *range(axis), *range(axis + 1, x.ndim)))


def _behind(x: Tensor, axis: int) -> Tensor:
    """x with its first axis at ``axis``."""
    if axis == 0:
        return x
    return calls.permute_dims(x, (*range(1, axis + 1), 0, *range(axis + 1, x.ndim)))


def first_alone(
    op: Op, n: int, operands: Sequence[Any], mapped: Sequence[bool], params: dict[str, Any]
) -> Any:
    """An op whose first operand takes any leading axes, where the other ones are shared."""
    return NotImplemented if any(mapped[1:]) or not mapped[0] else op.fn(*operands, **params)


# -- movement ------------------------------------------------------------------------------------------------


def reshape(op: Op, n: int, operands: Any, mapped: Any, params: dict[str, Any]) -> Tensor:
    """The examples stay in front."""
    return execute(op, operands, {"shape": (n, *params["shape"])})


def permute_dims(op: Op, n: int, operands: Any, mapped: Any, params: dict[str, Any]) -> Tensor:
    """The examples stay in front."""
    axes = params["axes"]
    return execute(op, operands, {"axes": (-len(axes) - 1, *axes)})


def broadcast_to(op: Op, n: int, operands: Any, mapped: Any, params: dict[str, Any]) -> Tensor:
    """New axes come behind the examples."""
    shape = params["shape"]
    return execute(op, (aligned(operands[0], True, len(shape)),), {"shape": (n, *shape)})


def pad(op: Op, n: int, operands: Any, mapped: Any, params: dict[str, Any]) -> Tensor:
    """Nothing is added to the examples."""
    return execute(op, operands, {**params, "pad_width": ((0, 0), *params["pad_width"])})


def strided(op: Op, n: int, operands: Any, mapped: Any, params: dict[str, Any]) -> Tensor:
    """The region (of strided_slice, strided_update) in every example."""
    return execute(
        op,
        [spread(x, n, m) for x, m in zip(operands, mapped, strict=True)],
        {
            **params,
            "start": (0, *params["start"]),
            "size": (n, *params["size"]),
            "step": (1, *params["step"]),
        },
    )


# -- products ------------------------------------------------------------------------------------------------


def matmul(op: Op, n: int, operands: Any, mapped: Any, params: dict[str, Any]) -> Tensor:
    """One product of matrices where all examples share an operand; else a stack of products."""
    (x1, x2), (first, second) = operands, mapped
    a, b = x1.ndim - first, x2.ndim - second
    if first and not second and (b == 1 or b == 2 or a > 1 and a >= b):
        return calls.matmul(x1, x2)
    if second and not first:
        if a == 1 and b > 1:
            return calls.matmul(x1, x2)
        if b == 1 and a < 3:  # x1 @ x2[i] for all i is x2 @ x1.mT
            return calls.matmul(x2, x1 if a == 1 else x1.mT)
        if b == 2 and a == 2 and x2.shape[-1] == 1:
            product = calls.matmul(calls.reshape(x2, x2.shape[:-1]), x1.mT)
            return calls.reshape(product, (*product.shape, 1))
    if a == 1:
        x1 = calls.reshape(x1, (*x1.shape[:-1], 1, x1.shape[-1]))
    if b == 1:
        x2 = calls.reshape(x2, (*x2.shape, 1))
    ndim = max(a, b, 2)
    x1, x2 = aligned(x1, first, ndim), aligned(x2, second, ndim)
    # a product with one term is that term: no stack of products is needed for it
    y = calls.multiply(x1, x2) if x1.shape[-1] == 1 else calls.matmul(x1, x2)
    gone = ([-2] if a == 1 else []) + ([-1] if b == 1 else [])
    return calls.reshape(y, _without(y.shape, gone)) if gone else y


def _without(shape: tuple[int, ...], axes: list[int]) -> tuple[int, ...]:
    return tuple(size for i, size in enumerate(shape) if i - len(shape) not in axes)


def solve(op: Op, n: int, operands: Any, mapped: Any, params: dict[str, Any]) -> Tensor:
    """Stacks of systems; one right-hand side for all matrices is a column in each."""
    (x1, x2), (first, second) = operands, mapped
    vector = x2.ndim - second == 1
    if vector and not second:
        return calls.solve(x1, x2)
    if vector:
        x2 = calls.reshape(x2, (*x2.shape, 1))
    ndim = max(x1.ndim - first, x2.ndim - second)
    y = calls.solve(aligned(x1, first, ndim), aligned(x2, second, ndim))
    return calls.reshape(y, y.shape[:-1]) if vector else y


# -- indices -------------------------------------------------------------------------------------------------


def _addressed(n: int, indices: Any, mapped: Any, first: int) -> tuple[list[Tensor], int]:
    """Indices that name the example as well, for axes that begin with the examples' (at ``first``)."""
    indices = [spread(i, n, m) for i, m in zip(indices, mapped, strict=True)]
    number = calls.arange(n, device=indices[0]._backend)
    number = calls.reshape(number, (n, *(1,) * (indices[0].ndim - 1)))
    return [number, *indices], first


def gather(op: Op, n: int, operands: Any, mapped: Any, params: dict[str, Any]) -> Tensor:
    """Shared places in mapped x, or mapped places, of which the examples' number is one coordinate more."""
    (x, *indices), (own, *others) = operands, mapped
    axis = params["axis"]
    first = x.ndim - own + axis
    if own and not any(others):
        return calls.gather(x, *indices, axis=axis)
    if not own:
        y = calls.gather(x, *[spread(i, n, m) for i, m in zip(indices, others, strict=True)], axis=axis)
        return front(y, first)
    places, _ = _addressed(n, indices, others, first)
    return front(calls.gather(_behind(x, first), *places, axis=axis - 1), first)


def scatter(op: Op, n: int, operands: Any, mapped: Any, params: dict[str, Any]) -> Tensor:
    """As :func:`gather`, for scatter and scatter_add."""
    (x, values, *indices), (own, given, *others) = operands, mapped
    axis = params["axis"]
    first = x.ndim - own + axis
    x, values = spread(x, n, own), spread(values, n, given)
    if not any(others):
        return op.fn(x, values, *indices, axis=axis)
    places, _ = _addressed(n, indices, others, first)
    return front(op.fn(_behind(x, first), _behind(values, first), *places, axis=axis - 1), first)


def searchsorted(op: Op, n: int, operands: Any, mapped: Any, params: dict[str, Any]) -> Tensor:
    """How many elements of x1 come before one of x2: its place among both, less its place among those of x2."""
    (x1, x2), (first, second) = operands, mapped
    side = params["side"]
    if not first:
        return calls.searchsorted(x1, x2, side=side)
    shape = (n, *x2.shape[1:]) if second else (n, *x2.shape)
    x2 = calls.reshape(spread(x2, n, second), (n, math.prod(shape[1:])))
    count = x2.shape[1]
    # a stable sort puts the elements of x2 before equal ones of x1, or behind them
    both = calls.concat([x2, x1] if side == "left" else [x1, x2], axis=-1)
    start = 0 if side == "left" else x1.shape[1]
    place = _places(both)[:, start : start + count]
    return calls.reshape(calls.subtract(place, _places(x2)), shape)


def _places(x: Tensor) -> Tensor:
    """Where a stable sort along the last axis puts each element."""
    return calls.argsort(calls.argsort(x))


# -- layers --------------------------------------------------------------------------------------------------


def attention(op: Op, n: int, operands: Any, mapped: Any, params: dict[str, Any]) -> Any:
    """The leading axes of the operands broadcast; a mask broadcasts to what the others have."""
    q, *others = operands
    operands, mapped = [spread(q, n, mapped[0]), *others], [True, *mapped[1:]]
    ndim = max(x.ndim - m for x, m in zip(operands, mapped, strict=True) if x is not None)
    given = [x if x is None else aligned(x, m, ndim) for x, m in zip(operands, mapped, strict=True)]
    return op.fn(*given, **params)


def attention_gradient(op: Op, n: int, operands: Any, mapped: Any, params: dict[str, Any]) -> Any:
    """Each example has a gradient of its own, also of what all share; the results have the operands' shapes."""
    given: list[Any] = [x if x is None else spread(x, n, m) for x, m in zip(operands, mapped, strict=True)]
    *others, mask = given
    ndim = others[0].ndim
    if any(x.ndim != ndim for x in others):
        return NotImplemented
    if mask is not None and mask.ndim != ndim:
        if mask.dtype.kind != "bool":  # it has a gradient
            return NotImplemented
        mask = aligned(mask, True, ndim - 1)
    return op.fn(*others, mask, **params)


def _channels(x: Tensor) -> Tensor:
    """(n, N, C, ...) as (N, n C, ...)."""
    x = front(x, 1)
    return calls.reshape(x, (x.shape[0], x.shape[1] * x.shape[2], *x.shape[3:]))


def _merged(x: Tensor) -> Tensor:
    """The first two axes as one."""
    return calls.reshape(x, (x.shape[0] * x.shape[1], *x.shape[2:]))


def conv(op: Op, n: int, operands: Any, mapped: Any, params: dict[str, Any]) -> Any:
    """Examples that share the weight are more of its examples; those that do not are more groups of channels. As well
    for the transpose.
    """
    (x, weight, bias), (own, given, biased) = operands, mapped
    if not n or biased and not given:
        return NotImplemented
    if not given:
        y = op.fn(_merged(x), weight, bias, **params)
        return calls.reshape(y, (n, y.shape[0] // n, *y.shape[1:]))
    bias = None if bias is None else _merged(spread(bias, n, biased))
    groups = {**params, "groups": n * params["groups"]}
    y = op.fn(_channels(spread(x, n, own)), _merged(weight), bias, **groups)
    return front(calls.reshape(y, (y.shape[0], n, y.shape[1] // n, *y.shape[2:])), 1)


def conv_weight_gradient(op: Op, n: int, operands: Any, mapped: Any, params: dict[str, Any]) -> Any:
    """Examples are more groups of channels."""
    if not n:
        return NotImplemented
    x, cotangent = [_channels(spread(x, n, m)) for x, m in zip(operands, mapped, strict=True)]
    y = op.fn(x, cotangent, **{**params, "groups": n * params["groups"]})
    return calls.reshape(y, (n, y.shape[0] // n, *y.shape[1:]))


def loss(op: Op, n: int, operands: Any, mapped: Any, params: dict[str, Any]) -> Any:
    """Each element's loss, reduced over the elements of each example; a mean over those that count is the body's."""
    reduction = params["reduction"]
    if reduction == "mean" and params.get("ignore_index") is not None:
        return NotImplemented
    given = [spread(x, n, m) for x, m in zip(operands, mapped, strict=True)]
    y = execute(op, given, {**params, "reduction": "none"})
    if reduction == "none" or y.ndim == 1:
        return y
    total = calls.sum(y, axis=tuple(range(1, y.ndim)))
    return total if reduction == "sum" else calls.divide(total, math.prod(y.shape[1:]))
