"""What tells a transformer where a position is: learned or sinusoidal vectors that are added, or a rotation."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ..errors import ArgumentError, ShapeError
from ..op import calls
from ..ops.arrange import stack
from ..ops.creation import arange
from ..ops.elementwise import add, exp, multiply, negative
from ..ops.movement import concat, narrow, reshape
from ..ops.trigonometric import cos, sin
from . import init
from .layers import new_parameter
from .module import Module

if TYPE_CHECKING:
    from ..tensor import Tensor


def _angles(length: int, half: int, base: float, offset: int, like: Tensor) -> Tensor:
    """position base**(-i / half) for each position from ``offset`` on and i < half, (length, half), in float64."""
    device = like._backend
    positions = add(arange(length, dtype="float64", device=device), float(offset))
    powers = exp(multiply(arange(half, dtype="float64", device=device), -math.log(base) / half))
    return multiply(reshape(positions, (length, 1)), powers)


def _check_length(name: str, x: Tensor, features: int) -> int:
    if x.ndim < 2 or x.shape[-1] != features:
        raise ShapeError(f"{name}: x must have shape (..., L, {features}), got {x.shape}")
    return x.shape[-2]


class RotaryEmbedding(Module):
    """Rotation of pairs of features by an angle that grows with the position (Su et al., arXiv:2104.09864), so that
    products of queries and keys see the difference of positions alone. Feature i goes with feature i + dim / 2; their
    angle is position base**(-2 i / dim). No parameters.

    Example: ``nn.RotaryEmbedding(4)(x)`` for x of shape (2, 5, 4) has shape (2, 5, 4).
    """

    def __init__(self, dim: int, base: float = 10000.0) -> None:
        if dim < 2 or dim % 2:
            raise ArgumentError(f"RotaryEmbedding: dim must be even, got {dim}")
        self.dim, self.base = dim, base

    def forward(self, x: Tensor, offset: int = 0) -> Tensor:
        """x of shape (..., L, dim), rotated; position 0 of x is position ``offset``."""
        length, half = _check_length("RotaryEmbedding", x, self.dim), self.dim // 2
        angles = _angles(length, half, self.base, offset, x)
        c, s = (calls.astype(concat([f(angles)] * 2, axis=-1), x.dtype) for f in (cos, sin))
        a, b = narrow(x, -1, 0, half), narrow(x, -1, half, half)
        return add(multiply(x, c), multiply(concat([negative(b), a], axis=-1), s))

    def extra_repr(self) -> str:
        """The size and the base."""
        return f"{self.dim}, base={self.base}"


class SinusoidalPositions(Module):
    """x plus sin and cos of position / 10000**(2 i / dim), on features 2 i and 2 i + 1 (Vaswani et al.). No parameters."""

    def __init__(self, dim: int) -> None:
        if dim < 2 or dim % 2:
            raise ArgumentError(f"SinusoidalPositions: dim must be even, got {dim}")
        self.dim = dim

    def forward(self, x: Tensor, offset: int = 0) -> Tensor:
        """x of shape (..., L, dim) plus the vectors of positions ``offset`` on."""
        length = _check_length("SinusoidalPositions", x, self.dim)
        angles = _angles(length, self.dim // 2, 10000.0, offset, x)
        pairs = stack([sin(angles), cos(angles)], axis=-1)
        return add(x, calls.astype(reshape(pairs, (length, self.dim)), x.dtype))

    def extra_repr(self) -> str:
        """The size."""
        return str(self.dim)


class LearnedPositions(Module):
    """x plus a learned vector for each position, the rows of ``weight`` (max_length, dim), normal with deviation 0.02 at
    first.

    Example: ``nn.LearnedPositions(16, 4)(x)`` for x of shape (2, 5, 4) has shape (2, 5, 4).
    """

    def __init__(
        self, max_length: int, dim: int, device: Any = None, dtype: Any = None, generator: Any = None
    ) -> None:
        self.max_length, self.dim = max_length, dim
        self.weight = new_parameter((max_length, dim), device, dtype)
        init.normal_(self.weight, 0.0, 0.02, generator=generator)

    def forward(self, x: Tensor, offset: int = 0) -> Tensor:
        """x of shape (..., L, dim) plus rows ``offset`` to offset + L."""
        length = _check_length("LearnedPositions", x, self.dim)
        if offset < 0 or offset + length > self.max_length:
            raise ShapeError(
                f"LearnedPositions: positions {offset} to {offset + length - 1} are not among the {self.max_length} learned ones"
            )
        return add(x, narrow(self.weight, -2, offset, length))

    def extra_repr(self) -> str:
        """The sizes."""
        return f"{self.max_length}, {self.dim}"
