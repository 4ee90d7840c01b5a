"""Numbers in few bits: ``x ~ scale (q - zero_point)`` with an integer q (Jacob et al., arXiv:1712.05877).

Symmetric: zero_point is 0 and q runs over -(2**(bits - 1) - 1) ... 2**(bits - 1) - 1. Asymmetric: q runs over all
2**bits values from -2**(bits - 1) on, and 0.0 is always one of the numbers, exactly. A scale for the whole
tensor, or one for each channel. q is int8 whatever the number of bits; ``pack`` puts several into a byte.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ..autograd import custom_gradient
from ..dtypes import int8, uint8
from ..errors import ArgumentError, DTypeError, ShapeError
from ..op import calls
from ..ops.creation import zeros_like
from ..tensor import Tensor

BITS = (8, 4, 2)


class QuantParams(NamedTuple):
    """How a tensor is quantized: ``scale`` and ``zero_point``, of shape () or with one number for each channel
    along ``axis`` (None: one for all), ``bits``, and whether it is symmetric.
    """

    scale: Tensor
    zero_point: Tensor
    bits: int = 8
    symmetric: bool = True
    axis: int | None = None

    @property
    def low(self) -> int:
        """The smallest q."""
        return -(2 ** (self.bits - 1)) + self.symmetric

    @property
    def high(self) -> int:
        """The largest q."""
        return 2 ** (self.bits - 1) - 1

    def along(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Scale and zero point in a shape that broadcasts with x."""
        if self.axis is None:
            return self.scale, self.zero_point
        shape = [1] * x.ndim
        shape[self.axis] = -1
        return calls.reshape(self.scale, tuple(shape)), calls.reshape(self.zero_point, tuple(shape))


def choose_params(
    low: Tensor, high: Tensor, *, bits: int = 8, symmetric: bool = True, axis: int | None = None
) -> QuantParams:
    """Scale and zero point for numbers between ``low`` and ``high`` (of shape (), or one for each channel).

    Symmetric: scale = max(|low|, |high|) / q_max. Asymmetric: the range is widened to hold 0, scale = (high -
    low) / (2**bits - 1), zero_point = q_min - round(low / scale). A range of nothing gets the scale 1.

    Example: ``quantization.choose_params(asarray(-1.0), asarray(3.0), bits=2, symmetric=False).scale`` is
    ``asarray(4 / 3)``.
    """
    if bits not in BITS:
        raise ArgumentError(f"choose_params: bits must be 8, 4 or 2, got {bits}")
    kind = QuantParams(low, low, bits, symmetric, axis)
    if symmetric:
        span = calls.divide(calls.maximum(calls.abs(low), calls.abs(high)), kind.high)
    else:
        low, high = calls.minimum(low, 0.0), calls.maximum(high, 0.0)
        span = calls.divide(calls.subtract(high, low), kind.high - kind.low)
    scale = calls.where(calls.greater(span, 0), span, 1.0)
    if symmetric:
        return kind._replace(scale=scale, zero_point=zeros_like(scale))
    zero = calls.subtract(float(kind.low), calls.round(calls.divide(low, scale)))
    return kind._replace(scale=scale, zero_point=zero)


def _along(x: Tensor, params: QuantParams) -> tuple[Tensor, Tensor]:
    if params.axis is not None and x.shape[params.axis] != params.scale.size:
        raise ShapeError(
            f"quantize: axis {params.axis} of shape {x.shape} has another length than the {params.scale.size} scales"
        )
    return params.along(x)


def _levels(x: Tensor, params: QuantParams) -> tuple[Tensor, Tensor, Tensor]:
    """q in x's dtype, before and after it is kept within the range, and the scale in x's shape."""
    scale, zero = _along(x, params)
    wide = calls.add(calls.round(calls.divide(x, scale)), zero)
    return wide, calls.minimum(calls.maximum(wide, float(params.low)), float(params.high)), scale


def quantize(x: Tensor, params: QuantParams) -> Tensor:
    """``q = clip(round(x / scale) + zero_point)`` as int8: ties go to the even q, NaN is not allowed.

    The same on every backend to the last bit: a quotient is correctly rounded everywhere.
    """
    if x.dtype.kind != "float":
        raise DTypeError(f"quantize: x must be floating, got {x.dtype.name}")
    scale, zero = _along(x, params)
    return calls.int8_quantize(x, scale, zero, low=params.low, high=params.high)


def dequantize(q: Tensor, params: QuantParams) -> Tensor:
    """``scale (q - zero_point)``, in the scale's dtype."""
    scale, zero = params.along(q)
    return calls.multiply(calls.subtract(calls.astype(q, scale.dtype), zero), scale)


def fake_quantize(x: Tensor, params: QuantParams) -> Tensor:
    """``dequantize(quantize(x))``; the gradient passes through where x is within the range, and is 0 elsewhere
    (the straight-through estimator: Bengio et al., arXiv:1308.3432).

    Example::

        params = quantization.choose_params(corelib.min(x), corelib.max(x), bits=4)
        corelib.grad(lambda t: quantization.fake_quantize(t, params).sum())(x)
    """
    return _straight_through(x, params=_Hidden(params))


class _Hidden:
    """Parameters that custom_gradient does not take for arguments to differentiate."""

    def __init__(self, params: QuantParams) -> None:
        self.params = params


@custom_gradient
def _straight_through(x: Tensor, *, params: _Hidden) -> Any:
    how = params.params
    wide, q, scale = _levels(x, how)
    y = calls.multiply(calls.subtract(q, how.along(x)[1]), scale)
    inside = calls.equal(wide, q)
    return y, lambda g: calls.where(inside, g, zeros_like(g))


# -- packed --------------------------------------------------------------------------------------------------


def pack(q: Tensor, bits: int) -> Tensor:
    """8 / bits values in each byte, along the last axis, which is filled up with zeros: uint8; the first value in
    the lowest bits.

    Example: ``quantization.pack(asarray([[1, -1, 2]], dtype=int8), 4).tolist()`` is ``[[241, 2]]``.
    """
    if bits not in BITS:
        raise ArgumentError(f"pack: bits must be 8, 4 or 2, got {bits}")
    each = 8 // bits
    missing = -q.shape[-1] % each
    if missing:
        q = calls.pad(q, (*[(0, 0)] * (q.ndim - 1), (0, missing)))
    low = calls.bitwise_and(calls.astype(q, uint8), 2**bits - 1)
    parts = calls.reshape(low, (*q.shape[:-1], q.shape[-1] // each, each))
    packed = parts[..., 0]
    for i in range(1, each):
        packed = calls.bitwise_or(packed, calls.bitwise_left_shift(parts[..., i], bits * i))
    return packed


def unpack(packed: Tensor, bits: int, length: int) -> Tensor:
    """The int8 values that were packed; ``length``: of the last axis.

    Example: ``quantization.unpack(asarray([[241, 2]], dtype=uint8), 4, 3).tolist()`` is ``[[1, -1, 2]]``.
    """
    parts = []
    for i in range(8 // bits):
        up = calls.bitwise_left_shift(packed, 8 - bits * (i + 1))  # the value's sign is the byte's
        parts.append(calls.bitwise_right_shift(calls.astype(up, int8), 8 - bits))
    values = calls.stack(parts, axis=-1)
    values = calls.reshape(values, (*packed.shape[:-1], packed.shape[-1] * len(parts)))
    return values if values.shape[-1] == length else values[..., :length]
