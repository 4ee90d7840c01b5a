"""Padding layers: x has the shape (N, C, *S), or (C, *S) for one example, and S is padded. ``padding`` is one integer, or two
for each axis, before and behind it, the last axis first, as in PyTorch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from ..errors import ArgumentError, ShapeError
from ..ops.movement import pad
from .module import Module
from .spatial import PADDING_MODES

if TYPE_CHECKING:
    from ..tensor import Tensor


class _Pad(Module):
    axes: ClassVar[int]
    mode: ClassVar[str] = "zeros"  # a padding_mode of convolutions
    value = 0.0

    def __init__(self, padding: int | tuple[int, ...]) -> None:
        given = (padding,) * (2 * self.axes) if isinstance(padding, int) else tuple(padding)
        if len(given) != 2 * self.axes or any(n < 0 for n in given):
            raise ArgumentError(
                f"{type(self).__name__}: padding must be one integer or {2 * self.axes}, none negative, got {padding}"
            )
        self.padding = given

    def forward(self, x: Tensor) -> Tensor:
        """A tensor with larger last axes."""
        if x.ndim not in (self.axes + 1, self.axes + 2):
            raise ShapeError(
                f"{type(self).__name__}: x must have {self.axes + 1} or {self.axes + 2} axes, got {x.shape}"
            )
        pairs = [self.padding[2 * i : 2 * i + 2] for i in reversed(range(self.axes))]
        widths = [(0, 0)] * (x.ndim - self.axes) + pairs
        if self.mode == "zeros":
            return pad(x, widths, constant_values=self.value)
        return pad(x, widths, PADDING_MODES[self.mode])

    def extra_repr(self) -> str:
        """The padding, and the value if it is not 0."""
        return f"{self.padding}" + (f", value={self.value}" if self.value else "")


class _ConstantPad(_Pad):
    def __init__(self, padding: int | tuple[int, ...], value: float) -> None:
        super().__init__(padding)
        self.value = value


class ConstantPad1d(_ConstantPad):
    """x (N, C, L) with ``value`` around it.

    Example: ``nn.ConstantPad1d((1, 2), 3.5)(x)`` for x of shape (2, 3, 4) has shape (2, 3, 7).
    """

    axes = 1


class ConstantPad2d(_ConstantPad):
    """x (N, C, H, W) with ``value`` around it."""

    axes = 2


class ConstantPad3d(_ConstantPad):
    """x (N, C, D, H, W) with ``value`` around it."""

    axes = 3


class ZeroPad1d(_Pad):
    """x (N, C, L) with zeros around it."""

    axes = 1


class ZeroPad2d(_Pad):
    """x (N, C, H, W) with zeros around it.

    Example: ``nn.ZeroPad2d((1, 0, 2, 0))(x)`` for x of shape (2, 3, 4, 5) has shape (2, 3, 6, 6).
    """

    axes = 2


class ZeroPad3d(_Pad):
    """x (N, C, D, H, W) with zeros around it."""

    axes = 3


class ReflectionPad1d(_Pad):
    """x (N, C, L) mirrored at its first and last elements."""

    axes, mode = 1, "reflect"


class ReflectionPad2d(_Pad):
    """x (N, C, H, W) mirrored at its borders."""

    axes, mode = 2, "reflect"


class ReflectionPad3d(_Pad):
    """x (N, C, D, H, W) mirrored at its borders."""

    axes, mode = 3, "reflect"


class ReplicationPad1d(_Pad):
    """x (N, C, L) with its first and last elements repeated."""

    axes, mode = 1, "replicate"


class ReplicationPad2d(_Pad):
    """x (N, C, H, W) with its borders repeated."""

    axes, mode = 2, "replicate"


class ReplicationPad3d(_Pad):
    """x (N, C, D, H, W) with its borders repeated."""

    axes, mode = 3, "replicate"


class CircularPad1d(_Pad):
    """x (N, C, L) continued periodically."""

    axes, mode = 1, "circular"


class CircularPad2d(_Pad):
    """x (N, C, H, W) continued periodically."""

    axes, mode = 2, "circular"


class CircularPad3d(_Pad):
    """x (N, C, D, H, W) continued periodically."""

    axes, mode = 3, "circular"
