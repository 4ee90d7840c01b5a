"""Normalizations and other layers that corelib has an op for."""

from __future__ import annotations

import corelib as cl
from corelib.errors import ArgumentError

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


@operator("GroupNormalization", since=21)
def group_normalization(x, scale, bias, *, num_groups, epsilon=1e-5, stash_type=1):
    return cl.group_norm(x, scale, bias, num_groups=num_groups, eps=epsilon)


@operator("GroupNormalization", since=18)
def group_normalization_by_group(x, scale, bias, *, num_groups, epsilon=1e-5):
    """Until opset 20 there is one scale and bias for each group."""
    size = x.shape[1] // num_groups
    return cl.group_norm(x, cl.repeat(scale, size), cl.repeat(bias, size), num_groups=num_groups, eps=epsilon)


@operator("InstanceNormalization")
def instance_normalization(x, scale, bias, *, epsilon=1e-5):
    return cl.group_norm(x, scale, bias, num_groups=x.shape[1], eps=epsilon)


@operator("BatchNormalization")
def batch_normalization(x, scale, bias, mean, var, *, epsilon=1e-5, momentum=0.9, spatial=1, training_mode=0):
    """By the running statistics; with ``training_mode`` by those of the batch, and the running ones brought up to date."""
    if not spatial:
        raise ArgumentError("BatchNormalization: spatial=0, which the first opsets have, is not supported")
    if training_mode:
        y, batch_mean, batch_var = cl.batch_norm(x, scale, bias, eps=epsilon)
        return y, mean * momentum + batch_mean * (1 - momentum), var * momentum + batch_var * (1 - momentum)
    channels = (-1, *(1,) * (x.ndim - 2))
    factor = scale * cl.rsqrt(var + epsilon)
    return (x - cl.reshape(mean, channels)) * cl.reshape(factor, channels) + cl.reshape(bias, channels)
