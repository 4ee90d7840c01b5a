"""Activation functions."""

from __future__ import annotations

import corelib as cl

from ..table import operator


@operator("Relu")
def relu(x):
    return cl.relu(x)


@operator("Sigmoid")
def sigmoid(x):
    return cl.sigmoid(x)


@operator("Softplus")
def softplus(x):
    return cl.softplus(x)


@operator("Gelu")
def gelu(x, *, approximate="none"):
    return cl.gelu(x, approximate=approximate)


@operator("Elu")
def elu(x, *, alpha=1.0):
    return cl.elu(x, alpha)


@operator("LeakyRelu")
def leaky_relu(x, *, alpha=0.01):
    return cl.leaky_relu(x, alpha)


@operator("Celu")
def celu(x, *, alpha=1.0):
    return cl.maximum(x, 0) + cl.minimum(alpha * cl.expm1(x / alpha), 0)


@operator("Selu")
def selu(x, *, alpha=1.67326319217681884765625, gamma=1.05070102214813232421875):
    return gamma * cl.elu(x, alpha)


@operator("Softsign")
def softsign(x):
    return x / (1 + cl.abs(x))


@operator("Mish")
def mish(x):
    return x * cl.tanh(cl.softplus(x))


@operator("Swish")
def swish(x, *, alpha=1.0):
    return x * cl.sigmoid(alpha * x)


@operator("HardSigmoid")
def hard_sigmoid(x, *, alpha=0.2, beta=0.5):
    return cl.clip(alpha * x + beta, 0, 1)


@operator("HardSwish")
def hard_swish(x):
    return x * cl.clip(x / 6 + 0.5, 0, 1)


@operator("ThresholdedRelu")
def thresholded_relu(x, *, alpha=1.0):
    return cl.where(cl.greater(x, alpha), x, 0)


@operator("Shrink")
def shrink(x, *, bias=0.0, lambd=0.5):
    pulled = cl.where(cl.less(x, -lambd), x + bias, cl.where(cl.greater(x, lambd), x - bias, 0))
    return cl.astype(pulled, x.dtype)


@operator("PRelu", since=7)
def prelu(x, slope):
    return cl.where(cl.less(x, 0), slope * x, x)


@operator("PRelu")
def prelu_by_channel(x, slope):
    """Before opset 7 the slope is one number, or one for each channel."""
    return prelu(x, cl.reshape(slope, (-1,) + (1,) * (x.ndim - 2)) if slope.size > 1 else slope)


def _as_matrix(fn):
    """Before opset 13 the axes from ``axis`` on are taken together."""

    def over(x, *, axis=1):
        first = axis % x.ndim if x.ndim else 0
        shape = x.shape
        rows = cl.reshape(x, (*shape[:first], -1)) if x.size else x
        return cl.reshape(fn(rows, axis=-1), shape)

    return over


def _along(fn):
    return lambda x, *, axis=-1: fn(x, axis=axis)


def hardmax(x, *, axis=-1):
    """One at the first of the largest elements along ``axis``, zero elsewhere."""
    steps = cl.arange(x.shape[axis], device=x.device)
    along = [1] * x.ndim
    along[axis] = x.shape[axis]
    return cl.astype(cl.equal(cl.reshape(steps, along), cl.argmax(x, axis=axis, keepdims=True)), x.dtype)


for _name, _fn in {"Softmax": cl.softmax, "LogSoftmax": cl.log_softmax, "Hardmax": hardmax}.items():
    operator(_name)(_as_matrix(_fn))
    operator(_name, since=13)(_along(_fn))
