"""Sums, means and extremes over axes."""

from __future__ import annotations

from typing import Any

import corelib as cl

from ..table import Ints, operator


def _sum(x: Any, axis: Any, keepdims: bool) -> Any:
    return cl.sum(x, axis=axis, keepdims=keepdims, dtype=x.dtype)


def _log_sum_exp(x: Any, axis: Any, keepdims: bool) -> Any:
    if cl.isdtype(x.dtype, "real floating"):
        return cl.logsumexp(x, axis=axis, keepdims=keepdims)
    return cl.astype(cl.logsumexp(cl.astype(x, cl.float64), axis=axis, keepdims=keepdims), x.dtype)


def _extreme(fn: Any) -> Any:
    def reduce(x: Any, axis: Any, keepdims: bool) -> Any:
        if x.dtype == cl.bool:  # all and any, under other names
            return cl.astype(reduce(cl.astype(x, cl.uint8), axis, keepdims), cl.bool)
        axes = range(x.ndim) if axis is None else axis
        if 0 in (x.shape[i] for i in axes):  # of nothing: what gives way to every other element
            return _sum(x, axis, keepdims) + _least(x.dtype, fn is cl.max)
        return fn(x, axis=axis, keepdims=keepdims)

    return reduce


def _least(dtype: Any, largest: bool) -> Any:
    """The smallest number of a dtype, or the largest if a minimum is asked for."""
    if cl.isdtype(dtype, "real floating"):
        return -cl.inf if largest else cl.inf
    return cl.iinfo(dtype).min if largest else cl.iinfo(dtype).max


def _by(before: Any, after: Any = None) -> Any:
    """The sum of ``before(x)``, through ``after``."""

    def reduce(x: Any, axis: Any, keepdims: bool) -> Any:
        y = _sum(before(x), axis, keepdims)
        return y if after is None else cl.astype(after(y), x.dtype)

    return reduce


REDUCTIONS = {
    "ReduceL1": _by(cl.abs),
    "ReduceL2": _by(
        cl.square, lambda y: cl.sqrt(y if cl.isdtype(y.dtype, "real floating") else cl.astype(y, cl.float64))
    ),
    "ReduceLogSum": _by(lambda x: x, cl.log),
    "ReduceLogSumExp": _log_sum_exp,
    "ReduceMax": _extreme(cl.max),
    "ReduceMean": lambda x, axis, keepdims: cl.mean(x, axis=axis, keepdims=keepdims),
    "ReduceMin": _extreme(cl.min),
    "ReduceProd": lambda x, axis, keepdims: cl.prod(x, axis=axis, keepdims=keepdims, dtype=x.dtype),
    "ReduceSum": _sum,
    "ReduceSumSquare": _by(cl.square),
}


def _reduction(fn: Any) -> Any:
    def reduction(x, axes: Ints = None, *, keepdims=1, noop_with_empty_axes=0):
        if not axes and noop_with_empty_axes:
            return fn(x, (), True)  # no axis, but what is done to each element
        return fn(x, axes or None, bool(keepdims))

    return reduction


for _name, _fn in REDUCTIONS.items():
    operator(_name)(_reduction(_fn))


def _position(fn: Any) -> Any:
    def position(x, *, axis=0, keepdims=1, select_last_index=0):
        found = fn(cl.flip(x, axis=axis) if select_last_index else x, axis=axis, keepdims=bool(keepdims))
        return x.shape[axis] - 1 - found if select_last_index else found

    return position


operator("ArgMax")(_position(cl.argmax))
operator("ArgMin")(_position(cl.argmin))


def _over_the_rest(fn: Any) -> Any:
    """Over all axes but the first two, which stay."""
    return lambda x: fn(x, axis=tuple(range(2, x.ndim)), keepdims=True)


operator("GlobalAveragePool")(_over_the_rest(cl.mean))
operator("GlobalMaxPool")(_over_the_rest(cl.max))


@operator("LpNormalization")
def lp_normalization(x, *, axis=-1, p=2):
    """x over its p-norm along ``axis``; zero where that is zero."""
    norm = (
        cl.sum(cl.abs(x), axis=axis, keepdims=True)
        if p == 1
        else cl.sqrt(cl.sum(x * x, axis=axis, keepdims=True))
    )
    return cl.where(cl.equal(norm, 0), 0.0, x / cl.where(cl.equal(norm, 0), 1.0, norm))
