"""Convolutions. Weights and biases are uniform in +-1/sqrt(fan_in) at first, as PyTorch's are: fan_in is the number of
products in one sum.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

from ..errors import ArgumentError, ShapeError
from ..ops.movement import pad
from . import functional, init
from .layers import new_parameter
from .module import Module, Parameter
from .spatial import PADDING_MODES, Size, batched, same_padding, sizes

if TYPE_CHECKING:
    from ..tensor import Tensor


class _Convolution(Module):
    axes: ClassVar[int]
    function: ClassVar[Any]
    bias: Parameter | None

    def _build(
        self, in_channels: int, out_channels: int, weight: tuple[int, int], kernel_size: Size, stride: Size, padding: Any,
        dilation: Size, groups: int, bias: bool, device: Any, dtype: Any, generator: Any,
    ) -> None:  # fmt: skip
        name = type(self).__name__
        if groups < 1 or in_channels % groups or out_channels % groups:
            raise ArgumentError(
                f"{name}: groups={groups} must divide in_channels={in_channels} and out_channels={out_channels}"
            )
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size, self.stride = sizes(kernel_size, self.axes), sizes(stride, self.axes)
        self.padding = padding if isinstance(padding, str) else sizes(padding, self.axes)
        self.dilation = sizes(dilation, self.axes)
        for key in ("kernel_size", "stride", "padding", "dilation"):
            value = getattr(self, key)
            if not isinstance(value, str) and len(value) != self.axes:
                raise ArgumentError(f"{name}: {key} must be one integer or {self.axes}, got {value}")
        self.weight = new_parameter((*weight, *self.kernel_size), device, dtype)
        self.bias = new_parameter((out_channels,), device, dtype) if bias else None
        self.reset_parameters(generator)

    def reset_parameters(self, generator: Any = None) -> None:
        """Draw the parameters anew."""
        fan_in = init.fans(self.weight)[0]
        bound = 1 / math.sqrt(fan_in) if fan_in else 0.0
        init.uniform_(self.weight, -bound, bound, generator=generator)
        if self.bias is not None:
            init.uniform_(self.bias, -bound, bound, generator=generator)

    def flops(self, result: Any, *args: Any) -> int:
        """Two for each product in the sums."""
        x = args[0]
        places = (
            x.size // self.in_channels if isinstance(self, _Transposed) else result.size // self.out_channels
        )
        return 2 * self.weight.size * places

    def extra_repr(self) -> str:
        """The sizes, and what is not the default."""
        shown = [
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        ]
        shown += [f"padding={self.padding!r}"] * (self.padding != (0,) * self.axes)
        shown += [f"dilation={self.dilation}"] * (self.dilation != (1,) * self.axes)
        shown += [f"groups={self.groups}"] * (self.groups != 1)
        return ", ".join(shown)


class _Conv(_Convolution):
    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Size, stride: Size = 1, padding: Any = 0, dilation: Size = 1,
        groups: int = 1, bias: bool = True, padding_mode: str = "zeros", device: Any = None, dtype: Any = None, generator: Any = None,
    ) -> None:  # fmt: skip
        name = type(self).__name__
        if padding_mode not in PADDING_MODES:
            raise ArgumentError(
                f"{name}: padding_mode must be one of {', '.join(map(repr, PADDING_MODES))}, got {padding_mode!r}"
            )
        if isinstance(padding, str) and padding not in ("same", "valid"):
            raise ArgumentError(f"{name}: padding must be 'same', 'valid' or integers, got {padding!r}")
        self.padding_mode = padding_mode
        self._build(in_channels, out_channels, (out_channels, in_channels // max(groups, 1)), kernel_size, stride, padding,
                    dilation, groups, bias, device, dtype, generator)  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """A tensor of shape (N, out_channels, *S'), or (out_channels, *S') for one example."""
        padding: Any = self.padding
        if self.padding_mode != "zeros" and padding != "valid":
            widths = [(p, p) for p in padding] if not isinstance(padding, str) else same_padding(
                type(self).__name__, self.kernel_size, self.stride, self.dilation)  # fmt: skip
            mode = PADDING_MODES[self.padding_mode]
            x = batched(type(self).__name__, self.axes, x, lambda z: pad(z, [(0, 0), (0, 0), *widths], mode))
            padding = 0
        return type(self).function(
            x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups
        )

    def extra_repr(self) -> str:
        """The sizes, and what is not the default."""
        mode = f", padding_mode={self.padding_mode!r}" if self.padding_mode != "zeros" else ""
        return super().extra_repr() + mode


class Conv1d(_Conv):
    """Convolution of x (N, in_channels, L), by kernels of ``kernel_size`` elements: see ``ops.conv``.

    Example: ``nn.Conv1d(3, 4, 5, padding=2)(x)`` for x of shape (2, 3, 7) has shape (2, 4, 7).
    """

    axes, function = 1, staticmethod(functional.conv1d)


class Conv2d(_Conv):
    """Convolution of x (N, in_channels, H, W). ``padding`` is a number of elements, "same" or "valid"; ``padding_mode`` is
    "zeros", "reflect", "replicate" or "circular".

    Example: ``nn.Conv2d(3, 8, 3, padding=1)(x)`` for x of shape (2, 3, 5, 5) has shape (2, 8, 5, 5).
    """

    axes, function = 2, staticmethod(functional.conv2d)


class Conv3d(_Conv):
    """Convolution of x (N, in_channels, D, H, W)."""

    axes, function = 3, staticmethod(functional.conv3d)


class _Transposed(_Convolution):
    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Size, stride: Size = 1, padding: Size = 0, output_padding: Size = 0,
        groups: int = 1, bias: bool = True, dilation: Size = 1, padding_mode: str = "zeros", device: Any = None, dtype: Any = None,
        generator: Any = None,
    ) -> None:  # fmt: skip
        if padding_mode != "zeros":
            raise ArgumentError(f"{type(self).__name__}: padding_mode must be 'zeros', got {padding_mode!r}")
        self.output_padding = sizes(output_padding, self.axes)
        self._build(in_channels, out_channels, (in_channels, out_channels // max(groups, 1)), kernel_size, stride, padding,
                    dilation, groups, bias, device, dtype, generator)  # fmt: skip

    def forward(self, x: Tensor, output_size: tuple[int, ...] | None = None) -> Tensor:
        """A tensor of shape (N, out_channels, *S'), or (out_channels, *S') for one example; ``output_size`` says which S'
        of those that a convolution takes to x's sizes.
        """
        more = self.output_padding
        if output_size is not None:
            wanted = tuple(output_size)[-self.axes :]
            given: Any = zip(
                x.shape[-self.axes :], self.stride, self.padding, self.kernel_size, self.dilation, strict=True
            )
            least = tuple((n - 1) * s - 2 * p + d * (k - 1) + 1 for n, s, p, k, d in given)
            more = tuple(w - n for w, n in zip(wanted, least, strict=True))
            if any(not 0 <= m < s for m, s in zip(more, self.stride, strict=True)):
                largest = tuple(n + s - 1 for n, s in zip(least, self.stride, strict=True))
                raise ShapeError(
                    f"{type(self).__name__}: output_size must be between {least} and {largest} for x of shape {x.shape}, got {wanted}"
                )
        return type(self).function(
            x, self.weight, self.bias, self.stride, self.padding, more, self.groups, self.dilation
        )

    def extra_repr(self) -> str:
        """The sizes, and what is not the default."""
        more = f", output_padding={self.output_padding}" if any(self.output_padding) else ""
        return super().extra_repr() + more


class ConvTranspose1d(_Transposed):
    """The transpose of a convolution: x (N, in_channels, L); see ``ops.conv_transpose``.

    Example: ``nn.ConvTranspose1d(3, 4, 2, stride=2)(x)`` for x of shape (2, 3, 7) has shape (2, 4, 14).
    """

    axes, function = 1, staticmethod(functional.conv_transpose1d)


class ConvTranspose2d(_Transposed):
    """The transpose of a convolution: x (N, in_channels, H, W)."""

    axes, function = 2, staticmethod(functional.conv_transpose2d)


class ConvTranspose3d(_Transposed):
    """The transpose of a convolution: x (N, in_channels, D, H, W)."""

    axes, function = 3, staticmethod(functional.conv_transpose3d)
