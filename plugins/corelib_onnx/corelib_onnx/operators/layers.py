"""Normalizations and other layers that corelib has an op for."""

from __future__ import annotations

import corelib as cl

from ..table import operator
from ..values import dtype_of


@operator("LayerNormalization")
def layer_normalization(x, scale, bias=None, *, axis=-1, epsilon=1e-5, stash_type=1, call):
    """Also gives the mean and the reciprocal of the standard deviation, if they are wanted."""
    axes = tuple(range(axis % x.ndim, x.ndim))
    shape = tuple(x.shape[i] for i in axes)
    weights = [None if w is None else cl.broadcast_to(w, shape) for w in (scale, bias)]
    y = cl.layer_norm(x, *weights, axis=axes, eps=epsilon)
    if call.outputs == 1:
        return y
    wide = cl.astype(x, dtype_of(stash_type, "LayerNormalization"))
    spread = cl.rsqrt(cl.var(wide, axis=axes, keepdims=True) + epsilon)
    return y, cl.mean(wide, axis=axes, keepdims=True), spread


@operator("RMSNormalization")
def rms_normalization(x, scale, *, axis=-1, epsilon=1e-5, stash_type=1):
    axes = tuple(range(axis % x.ndim, x.ndim))
    return cl.rms_norm(x, cl.broadcast_to(scale, tuple(x.shape[i] for i in axes)), axis=axes, eps=epsilon)
