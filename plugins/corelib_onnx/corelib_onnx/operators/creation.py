"""Tensors from shapes and numbers, casts, and random numbers."""

from __future__ import annotations

import math
import struct

import corelib as cl
from corelib.errors import ArgumentError

from ..table import Ints, Number, operator
from ..values import HOST, NUMBERS, dtype_of


@operator("Identity")
def identity(x):
    return x


@operator("Constant")
def constant(**value):
    raise AssertionError("constants are read when a model is loaded: values.constant_of")


@operator("Shape")
def shape(x, *, start=0, end=None):
    return cl.asarray(list(x.shape[slice(start, end)]), dtype=cl.int64, device=HOST)


@operator("Size")
def size(x):
    return cl.asarray(x.size, dtype=cl.int64, device=HOST)


@operator("ConstantOfShape")
def constant_of_shape(shape: Ints, *, value=None, call):
    dtype, number = (cl.float32, 0) if value is None else (value.dtype, cl.reshape(value, ()).item())
    return cl.full(shape, number, dtype=dtype, device=call.device(math.prod(shape)))


@operator("Range")
def arange(start, limit, delta, *, call):
    """start + i delta for as many i as there are before ``limit``."""
    first, last, step = (cl.reshape(x, ()).item() for x in (start, limit, delta))
    count = max(math.ceil((last - first) / step), 0)
    steps = cl.arange(count, dtype=cl.int64, device=call.device(count))
    return cl.astype(steps * step + first, start.dtype)


@operator("EyeLike")
def eye_like(x, *, dtype=None, k=0):
    kind = x.dtype if dtype is None else dtype_of(dtype, "EyeLike")
    return cl.eye(*x.shape, k=k, dtype=kind, device=x.device)


@operator("Cast", "CastLike")
def cast(x, like=None, *, to=None, saturate=1, round_mode="up"):
    return cl.astype(x, dtype_of(to, "Cast") if like is None else like.dtype)


@operator("Dropout")
def dropout(x, ratio: Number = 0.5, training_mode: Number = None, *, seed=None, call):
    """In training, each element with probability ``ratio`` zero and otherwise larger by 1 / (1 - ratio)."""
    wanted = call.training if training_mode is None and call.opset < 12 else training_mode
    if not wanted or not ratio:
        return x, cl.full(x.shape, True, dtype=cl.bool, device=x.device)
    kept = cl.greater_equal(cl.random.uniform(x.shape, device=x.device, generator=_generator(seed)), ratio)
    return cl.where(kept, x / (1 - ratio), 0), kept


def _generator(seed):
    """corelib's own generator, or for a seed, which ONNX has as a float, one that starts anew each time."""
    return None if seed is None else cl.random.Generator(struct.unpack("<I", struct.pack("<f", seed))[0])


def _kind(x, dtype, name):
    return x.dtype if dtype is None else dtype_of(dtype, name)


@operator("RandomUniform")
def random_uniform(*, shape, dtype=NUMBERS["float32"], low=0.0, high=1.0, seed=None, call):
    kind = dtype_of(dtype, "RandomUniform")
    return cl.random.uniform(shape, low, high, kind, device=call.scope.device, generator=_generator(seed))


@operator("RandomUniformLike")
def random_uniform_like(x, *, dtype=None, low=0.0, high=1.0, seed=None):
    kind = _kind(x, dtype, "RandomUniformLike")
    return cl.random.uniform(x.shape, low, high, kind, device=x.device, generator=_generator(seed))


@operator("RandomNormal")
def random_normal(*, shape, dtype=NUMBERS["float32"], mean=0.0, scale=1.0, seed=None, call):
    kind = dtype_of(dtype, "RandomNormal")
    return cl.random.normal(shape, mean, scale, kind, device=call.scope.device, generator=_generator(seed))


@operator("RandomNormalLike")
def random_normal_like(x, *, dtype=None, mean=0.0, scale=1.0, seed=None):
    kind = _kind(x, dtype, "RandomNormalLike")
    return cl.random.normal(x.shape, mean, scale, kind, device=x.device, generator=_generator(seed))


@operator("Bernoulli")
def bernoulli(x, *, dtype=None, seed=None):
    return cl.astype(cl.random.bernoulli(x, generator=_generator(seed)), _kind(x, dtype, "Bernoulli"))


@operator("BitCast")
def bit_cast(x, *, to):
    """The same bits as elements of another type of the same size."""
    kind = dtype_of(to, "BitCast")
    if kind.itemsize != x.dtype.itemsize:
        raise ArgumentError(
            f"BitCast: {x.dtype.name} has {x.dtype.itemsize} bytes, {kind.name} has {kind.itemsize}"
        )
    return cl.asarray(x.numpy().view(kind.name), device=x.device)
