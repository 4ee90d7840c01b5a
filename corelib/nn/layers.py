"""Layers that are no convolution, recurrence or attention, and have no statistics: linear maps, embeddings,
normalization over the last axes, dropout, and changes of shape.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ..errors import ArgumentError, ShapeError
from ..ops.compare import equal
from ..ops.contract import matmul
from ..ops.creation import arange, full
from ..ops.elementwise import add, multiply, where
from ..ops.movement import reshape
from ..ops.nn import linear, rms_norm
from ..params import checked_axis
from . import functional, init
from .module import Module, Parameter

if TYPE_CHECKING:
    from ..tensor import Tensor


def new_parameter(shape: tuple[int, ...], device: Any, dtype: Any, value: float = 0.0) -> Parameter:
    """A parameter of a shape, float32 unless another dtype is given, with ``value`` everywhere."""
    return Parameter(full(shape, value, dtype=dtype or "float32", device=device))


# -- shapes --------------------------------------------------------------------------------------------------


class Flatten(Module):
    """The axes from ``start_dim`` to ``end_dim`` made one; by default all but the first."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, x: Tensor) -> Tensor:
        """x with fewer axes."""
        if not (-x.ndim <= self.start_dim < x.ndim and -x.ndim <= self.end_dim < x.ndim):
            raise ShapeError(f"Flatten: x of shape {x.shape} has no axes {self.start_dim} to {self.end_dim}")
        first, last = self.start_dim % x.ndim, self.end_dim % x.ndim
        size = math.prod(x.shape[first : last + 1])
        return reshape(x, (*x.shape[:first], size, *x.shape[last + 1 :]))

    def extra_repr(self) -> str:
        """The axes."""
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Unflatten(Module):
    """Axis ``dim`` made several, of the sizes ``unflattened_size``, one of which may be -1.

    Example: ``nn.Unflatten(1, (3, 2))(x)`` for x of shape (4, 6) has shape (4, 3, 2).
    """

    def __init__(self, dim: int, unflattened_size: tuple[int, ...]) -> None:
        self.dim, self.unflattened_size = dim, tuple(unflattened_size)

    def forward(self, x: Tensor) -> Tensor:
        """x with more axes."""
        at = checked_axis("Unflatten", x, self.dim) + x.ndim
        wanted = self.unflattened_size
        known = math.prod(n for n in wanted if n != -1)
        if wanted.count(-1) == 1 and known and x.shape[at] % known == 0:
            wanted = tuple(x.shape[at] // known if n == -1 else n for n in wanted)
        if -1 in wanted or math.prod(wanted) != x.shape[at]:
            raise ShapeError(
                f"Unflatten: axis {self.dim} of x of shape {x.shape} does not fit {self.unflattened_size}"
            )
        return reshape(x, (*x.shape[:at], *wanted, *x.shape[at + 1 :]))

    def extra_repr(self) -> str:
        """The axis and its sizes."""
        return f"dim={self.dim}, unflattened_size={self.unflattened_size}"


class Upsample(Module):
    """Other spatial sizes, by ``nn.functional.interpolate``: ``mode`` is "nearest", "linear", "bilinear", "bicubic",
    "trilinear", "nearest-exact" or "area".

    Example: ``nn.Upsample(scale_factor=2)(x)`` for x of shape (1, 3, 4, 5) has shape (1, 3, 8, 10).
    """

    def __init__(
        self, size: Any = None, scale_factor: Any = None, mode: str = "nearest", align_corners: bool | None = None
    ) -> None:  # fmt: skip
        self.size, self.scale_factor, self.mode, self.align_corners = size, scale_factor, mode, align_corners

    def forward(self, x: Tensor) -> Tensor:
        """x of shape (N, C, *S) with other S."""
        return functional.interpolate(x, self.size, self.scale_factor, self.mode, self.align_corners)

    def extra_repr(self) -> str:
        """The sizes."""
        given = f"scale_factor={self.scale_factor}" if self.size is None else f"size={self.size}"
        return f"{given}, mode={self.mode!r}"


class PixelShuffle(Module):
    """(N, C r^2, H, W) as (N, C, H r, W r)."""

    def __init__(self, upscale_factor: int) -> None:
        self.upscale_factor = upscale_factor

    def forward(self, x: Tensor) -> Tensor:
        """x with fewer channels and more positions."""
        return functional.pixel_shuffle(x, self.upscale_factor)

    def extra_repr(self) -> str:
        """The factor."""
        return f"upscale_factor={self.upscale_factor}"


class PixelUnshuffle(Module):
    """(N, C, H r, W r) as (N, C r^2, H, W)."""

    def __init__(self, downscale_factor: int) -> None:
        self.downscale_factor = downscale_factor

    def forward(self, x: Tensor) -> Tensor:
        """x with more channels and fewer positions."""
        return functional.pixel_unshuffle(x, self.downscale_factor)

    def extra_repr(self) -> str:
        """The factor."""
        return f"downscale_factor={self.downscale_factor}"


# -- layers with parameters ----------------------------------------------------------------------------------


class Linear(Module):
    """x @ weight.mT + bias, for x of shape (..., in_features). Both parameters are uniform in
    +-1/sqrt(in_features) at first.

    Example: ``nn.Linear(3, 4)(x)`` for x of shape (2, 3) has shape (2, 4).
    """

    bias: Parameter | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
        generator: Any = None,
    ) -> None:
        self.in_features, self.out_features = in_features, out_features
        self.weight = new_parameter((out_features, in_features), device, dtype)
        self.bias = new_parameter((out_features,), device, dtype) if bias else None
        self.reset_parameters(generator)

    def reset_parameters(self, generator: Any = None) -> None:
        """Draw the parameters anew."""
        bound = 1 / math.sqrt(self.in_features) if self.in_features else 0.0
        init.uniform_(self.weight, -bound, bound, generator=generator)
        if self.bias is not None:
            init.uniform_(self.bias, -bound, bound, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        """A tensor of shape (..., out_features)."""
        return linear(x, self.weight, self.bias)

    def flops(self, result: Any, *args: Any) -> int:
        """Two for each product."""
        return 2 * self.in_features * result.size

    def extra_repr(self) -> str:
        """The sizes."""
        return f"in_features={self.in_features}, out_features={self.out_features}"


class Bilinear(Module):
    """x1 @ weight[o] @ x2 + bias for each output o: x1 of shape (..., in1_features) and x2 (..., in2_features) give
    (..., out_features). Both parameters are uniform in +-1/sqrt(in1_features) at first.

    Example: ``nn.Bilinear(3, 4, 2)(x1, x2)`` for x1 of shape (5, 3) and x2 of shape (5, 4) has shape (5, 2).
    """

    bias: Parameter | None

    def __init__(
        self, in1_features: int, in2_features: int, out_features: int, bias: bool = True, device: Any = None, dtype: Any = None,
        generator: Any = None,
    ) -> None:  # fmt: skip
        self.in1_features, self.in2_features, self.out_features = in1_features, in2_features, out_features
        self.weight = new_parameter((out_features, in1_features, in2_features), device, dtype)
        self.bias = new_parameter((out_features,), device, dtype) if bias else None
        self.reset_parameters(generator)

    def reset_parameters(self, generator: Any = None) -> None:
        """Draw the parameters anew."""
        bound = 1 / math.sqrt(self.in1_features) if self.in1_features else 0.0
        init.uniform_(self.weight, -bound, bound, generator=generator)
        if self.bias is not None:
            init.uniform_(self.bias, -bound, bound, generator=generator)

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        """A tensor of shape (..., out_features)."""
        wanted = (self.in1_features, self.in2_features)
        if (
            not x1.ndim
            or not x2.ndim
            or x1.shape[:-1] != x2.shape[:-1]
            or (x1.shape[-1], x2.shape[-1]) != wanted
        ):
            raise ShapeError(
                f"Bilinear: x1 and x2 must have shapes (..., {wanted[0]}) and (..., {wanted[1]}), got {x1.shape} and {x2.shape}"
            )
        rows = math.prod(x1.shape[:-1])
        left, right = reshape(x1, (rows, 1, 1, wanted[0])), reshape(x2, (rows, 1, wanted[1], 1))
        y = reshape(matmul(matmul(left, self.weight), right), (*x1.shape[:-1], self.out_features))
        return y if self.bias is None else add(y, self.bias)

    def flops(self, result: Any, *args: Any) -> int:
        """Two for each product with the weight, and with what that gives."""
        return 2 * (self.in1_features + 1) * self.in2_features * result.size

    def extra_repr(self) -> str:
        """The sizes."""
        return f"in1_features={self.in1_features}, in2_features={self.in2_features}, out_features={self.out_features}"


class Embedding(Module):
    """A row of ``weight`` for each index; row ``padding_idx`` starts as zeros and is not learned."""

    def __init__(
        self, num_embeddings: int, embedding_dim: int, padding_idx: int | None = None, device: Any = None, dtype: Any = None,
        generator: Any = None,
    ) -> None:  # fmt: skip
        if padding_idx is not None and not -num_embeddings <= padding_idx < num_embeddings:
            raise ArgumentError(
                f"Embedding: padding_idx {padding_idx} is out of range for {num_embeddings} rows"
            )
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.padding_idx = None if padding_idx is None else padding_idx % num_embeddings
        self.weight = new_parameter((num_embeddings, embedding_dim), device, dtype)
        self.reset_parameters(generator)

    def reset_parameters(self, generator: Any = None) -> None:
        """Draw the rows anew from the standard normal distribution."""
        init.normal_(self.weight, generator=generator)
        if self.padding_idx is not None:
            rows = reshape(arange(self.num_embeddings, device=self.weight._backend), (-1, 1))
            self.weight._rebind(where(equal(rows, self.padding_idx), 0, self.weight.detach()))

    def forward(self, indices: Tensor) -> Tensor:
        """A tensor of shape (..., embedding_dim)."""
        return functional.embedding(indices, self.weight, self.padding_idx)

    def extra_repr(self) -> str:
        """The sizes."""
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}{padding}"


class LayerNorm(Module):
    """(x - mean) / sqrt(var + eps) * weight + bias over the last axes, which have the sizes
    ``normalized_shape``.
    """

    weight: Parameter | None
    bias: Parameter | None

    def __init__(
        self, normalized_shape: int | tuple[int, ...], eps: float = 1e-5, elementwise_affine: bool = True, bias: bool = True,
        device: Any = None, dtype: Any = None,
    ) -> None:  # fmt: skip
        shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        self.normalized_shape, self.eps, self.elementwise_affine = shape, eps, elementwise_affine
        self.weight = new_parameter(shape, device, dtype, 1.0) if elementwise_affine else None
        self.bias = new_parameter(shape, device, dtype) if elementwise_affine and bias else None

    def forward(self, x: Tensor) -> Tensor:
        """A tensor of x's shape."""
        return functional.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        """Sizes and eps."""
        return f"{self.normalized_shape}, eps={self.eps}"


class RMSNorm(Module):
    """x / sqrt(mean(x**2) + eps) * weight over the last axes; ``eps`` is the dtype's machine epsilon unless
    given.
    """

    weight: Parameter | None

    def __init__(
        self, normalized_shape: int | tuple[int, ...], eps: float | None = None, elementwise_affine: bool = True,
        device: Any = None, dtype: Any = None,
    ) -> None:  # fmt: skip
        shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        self.normalized_shape, self.eps, self.elementwise_affine = shape, eps, elementwise_affine
        self.weight = new_parameter(shape, device, dtype, 1.0) if elementwise_affine else None

    def forward(self, x: Tensor) -> Tensor:
        """A tensor of x's shape."""
        return rms_norm(
            x, self.weight, axis=functional.trailing("RMSNorm", x, self.normalized_shape), eps=self.eps
        )

    def extra_repr(self) -> str:
        """Sizes and eps."""
        return f"{self.normalized_shape}, eps={self.eps}"


class Dropout(Module):
    """In training, each element zeroed with probability ``p`` and the others divided by 1 - p; nothing in
    evaluation.
    """

    def __init__(self, p: float = 0.5, generator: Any = None) -> None:
        if not 0 <= p <= 1:
            raise ArgumentError(f"Dropout: p must be in [0, 1], got {p}")
        self.p, self.generator = p, generator

    def forward(self, x: Tensor) -> Tensor:
        """A tensor of x's shape."""
        return functional.dropout(x, self.p, self.training, self.generator)

    def extra_repr(self) -> str:
        """The probability."""
        return f"p={self.p}"


class ChannelDropout(Module):
    """In training, each channel of x (N, C, *S), or (C, *S), zeroed as a whole with probability ``p`` and the others
    divided by 1 - p: Dropout1d, Dropout2d and Dropout3d, by the number of axes of S.
    """

    axes = 0

    def __init__(self, p: float = 0.5, generator: Any = None) -> None:
        if not 0 <= p <= 1:
            raise ArgumentError(f"{type(self).__name__}: p must be in [0, 1], got {p}")
        self.p, self.generator = p, generator

    def forward(self, x: Tensor) -> Tensor:
        """A tensor of x's shape."""
        if x.ndim not in (self.axes + 1, self.axes + 2):
            raise ShapeError(
                f"{type(self).__name__}: x must have {self.axes + 1} or {self.axes + 2} axes, got {x.shape}"
            )
        if not self.training or not self.p:
            return x
        lead = x.shape[: x.ndim - self.axes]
        ones = full((*lead, *(1,) * self.axes), 1, dtype=x.dtype, device=x._backend)
        return multiply(x, functional.dropout(ones, self.p, True, self.generator))

    def extra_repr(self) -> str:
        """The probability."""
        return f"p={self.p}"


class Dropout1d(ChannelDropout):
    """Whole channels of (N, C, L) dropped."""

    axes = 1


class Dropout2d(ChannelDropout):
    """Whole channels of (N, C, H, W) dropped."""

    axes = 2


class Dropout3d(ChannelDropout):
    """Whole channels of (N, C, D, H, W) dropped."""

    axes = 3
