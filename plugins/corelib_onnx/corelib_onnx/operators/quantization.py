"""Integers that stand for real numbers: x is about scale (q - zero point)."""

from __future__ import annotations

from typing import Any

import corelib as cl
from corelib.errors import ArgumentError, DTypeError

from ..table import operator
from ..values import dtype_of


def _spread(scale: Any, x: Any, axis: int, block_size: int) -> Any:
    """A scale or zero point, one for all, for each index along ``axis``, or for each block of it, so that it broadcasts with x."""
    if scale.ndim == 0 or scale.size == 1:
        return cl.reshape(scale, ())
    if block_size:
        blocks = cl.repeat(scale, block_size, axis=axis)
        return cl.take(blocks, cl.arange(x.shape[axis], device=x.device), axis=axis)
    if scale.ndim != 1:
        raise ArgumentError(f"a scale of shape {scale.shape} needs a block_size")
    along = [1] * x.ndim
    along[axis] = -1
    return cl.reshape(scale, along)


def _limits(dtype: Any) -> tuple[int, int]:
    if not cl.isdtype(dtype, "integral"):
        raise DTypeError(f"quantization is to integers, got {dtype.name}")
    info = cl.iinfo(dtype)
    return int(info.min), int(info.max)


def _quantized(x: Any, scale: Any, zero: Any, dtype: Any) -> Any:
    """round(x / scale) + zero, saturated."""
    wide = cl.float32 if x.dtype in (cl.float16, cl.bfloat16) else x.dtype
    levels = cl.round(cl.divide(cl.astype(x, wide), cl.astype(scale, wide)))
    low, high = _limits(dtype)
    # Clipped before the zero point is added as well, so that an infinity or a huge number is an integer then.
    levels = cl.astype(cl.clip(levels, 2.0 * low - high, 2.0 * high - low), cl.int64)
    levels = levels if zero is None else levels + cl.astype(zero, cl.int64)
    return cl.astype(cl.clip(levels, low, high), dtype)


@operator("QuantizeLinear")
def quantize(x, scale, zero=None, *, axis=1, block_size=0, output_dtype=0, precision=0, saturate=1):
    dtype = (
        zero.dtype
        if zero is not None
        else dtype_of(output_dtype, "QuantizeLinear")
        if output_dtype
        else cl.uint8
    )
    zero = None if zero is None else _spread(zero, x, axis, block_size)
    x = cl.astype(x, cl.float32) if cl.isdtype(x.dtype, "integral") else x
    return _quantized(x, _spread(scale, x, axis, block_size), zero, dtype)


@operator("DequantizeLinear")
def dequantize(x, scale, zero=None, *, axis=1, block_size=0, output_dtype=0):
    dtype = dtype_of(output_dtype, "DequantizeLinear") if output_dtype else scale.dtype
    levels = cl.astype(x, cl.int32)
    if zero is not None:
        levels = levels - cl.astype(_spread(zero, x, axis, block_size), cl.int32)
    wide = cl.float32 if dtype in (cl.float16, cl.bfloat16) else dtype
    return cl.astype(cl.astype(levels, wide) * cl.astype(_spread(scale, x, axis, block_size), wide), dtype)


@operator("DynamicQuantizeLinear")
def dynamic_quantize(x):
    """To uint8 with the scale and zero point of x's range, which includes zero: the three of them."""
    low, high = cl.minimum(cl.min(x), 0), cl.maximum(cl.max(x), 0)
    scale = (high - low) / 255
    safe = cl.where(cl.equal(scale, 0), 1.0, scale)
    zero = cl.astype(cl.clip(cl.round(-low / safe), 0, 255), cl.uint8)
    return _quantized(x, safe, zero, cl.uint8), scale, zero


def _zero(zero: Any, x: Any, axis: int) -> Any:
    """A zero point of a matrix: one for all, or one for each row (axis -2) or column (axis -1)."""
    if zero.ndim == 0 or zero.size == 1:
        return cl.astype(cl.reshape(zero, ()), cl.int32)
    zero = cl.astype(zero, cl.int32)
    return zero if zero.ndim > 1 or axis == -1 else cl.expand_dims(zero, -1)


@operator("MatMulInteger")
def matmul_integer(a, b, a_zero=None, b_zero=None):
    """The product of matrices of 8 bit integers without their zero points, in int32."""
    x, y = cl.astype(a, cl.int32), cl.astype(b, cl.int32)
    x = x if a_zero is None else x - _zero(a_zero, a, -2)
    y = y if b_zero is None else y - _zero(b_zero, b, -1)
    return cl.matmul(x, y)


@operator("QLinearMatMul")
def quantized_matmul(a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero):
    exact = matmul_integer(a, b, a_zero, b_zero)
    real = cl.astype(exact, cl.float32)
    for scale, axis in ((a_scale, -2), (b_scale, -1)):
        scale = cl.astype(scale, cl.float32)
        row = scale.ndim == 1 and scale.size > 1 and axis == -2
        real = real * (
            cl.expand_dims(scale, -1) if row else scale if scale.size > 1 else cl.reshape(scale, ())
        )
    return _quantized(real, cl.reshape(y_scale, ()), cl.reshape(y_zero, ()), y_zero.dtype)
