"""Pooling layers: x has the shape (N, C, *S), or (C, *S) for one example."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from . import functional
from .module import Module
from .spatial import Size

if TYPE_CHECKING:
    from ..tensor import Tensor


class _Pool(Module):
    function: ClassVar[Any]
    options: ClassVar[tuple[str, ...]]

    def forward(self, x: Tensor) -> Any:
        """A tensor of shape (N, C, *S'), or (C, *S')."""
        return type(self).function(x, **{name: getattr(self, name) for name in self.options})

    def extra_repr(self) -> str:
        """The parameters."""
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in self.options)


class _MaxPool(_Pool):
    options = ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")

    def __init__(
        self, kernel_size: Size, stride: Size | None = None, padding: Size = 0, dilation: Size = 1, return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:  # fmt: skip
        self.kernel_size, self.stride, self.padding, self.dilation = kernel_size, stride, padding, dilation
        self.return_indices, self.ceil_mode = return_indices, ceil_mode


class MaxPool1d(_MaxPool):
    """The largest element of each window of x (N, C, L)."""

    function = staticmethod(functional.max_pool1d)


class MaxPool2d(_MaxPool):
    """The largest element of each window of x (N, C, H, W); see ``ops.max_pool``.

    Example: ``nn.MaxPool2d(2)(x)`` for x of shape (2, 3, 8, 6) has shape (2, 3, 4, 3).
    """

    function = staticmethod(functional.max_pool2d)


class MaxPool3d(_MaxPool):
    """The largest element of each window of x (N, C, D, H, W)."""

    function = staticmethod(functional.max_pool3d)


class AvgPool1d(_Pool):
    """The mean of each window of x (N, C, L)."""

    function = staticmethod(functional.avg_pool1d)
    options = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad")

    def __init__(
        self, kernel_size: Size, stride: Size | None = None, padding: Size = 0, ceil_mode: bool = False, count_include_pad: bool = True
    ) -> None:  # fmt: skip
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding
        self.ceil_mode, self.count_include_pad = ceil_mode, count_include_pad


class _AvgPool(_Pool):
    options = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")

    def __init__(
        self, kernel_size: Size, stride: Size | None = None, padding: Size = 0, ceil_mode: bool = False,
        count_include_pad: bool = True, divisor_override: int | None = None,
    ) -> None:  # fmt: skip
        self.kernel_size, self.stride, self.padding, self.ceil_mode = kernel_size, stride, padding, ceil_mode
        self.count_include_pad, self.divisor_override = count_include_pad, divisor_override


class AvgPool2d(_AvgPool):
    """The mean of each window of x (N, C, H, W); see ``ops.avg_pool``."""

    function = staticmethod(functional.avg_pool2d)


class AvgPool3d(_AvgPool):
    """The mean of each window of x (N, C, D, H, W)."""

    function = staticmethod(functional.avg_pool3d)


class _AdaptiveAvgPool(_Pool):
    options = ("output_size",)

    def __init__(self, output_size: Any) -> None:
        self.output_size = output_size


class AdaptiveAvgPool1d(_AdaptiveAvgPool):
    """The means of ``output_size`` windows of x (N, C, L)."""

    function = staticmethod(functional.adaptive_avg_pool1d)


class AdaptiveAvgPool2d(_AdaptiveAvgPool):
    """The means of ``output_size`` windows of x (N, C, H, W): an integer, or one for each axis, None to keep it.

    Example: ``nn.AdaptiveAvgPool2d(1)(x)`` for x of shape (2, 3, 8, 6) has shape (2, 3, 1, 1).
    """

    function = staticmethod(functional.adaptive_avg_pool2d)


class AdaptiveAvgPool3d(_AdaptiveAvgPool):
    """The means of ``output_size`` windows of x (N, C, D, H, W)."""

    function = staticmethod(functional.adaptive_avg_pool3d)


class _AdaptiveMaxPool(_Pool):
    options = ("output_size", "return_indices")

    def __init__(self, output_size: Any, return_indices: bool = False) -> None:
        self.output_size, self.return_indices = output_size, return_indices


class AdaptiveMaxPool1d(_AdaptiveMaxPool):
    """The largest elements of ``output_size`` windows of x (N, C, L)."""

    function = staticmethod(functional.adaptive_max_pool1d)


class AdaptiveMaxPool2d(_AdaptiveMaxPool):
    """The largest elements of ``output_size`` windows of x (N, C, H, W): an integer, or one for each axis, None to keep it.

    Example: ``nn.AdaptiveMaxPool2d((2, 1))(x)`` for x of shape (2, 3, 8, 6) has shape (2, 3, 2, 1).
    """

    function = staticmethod(functional.adaptive_max_pool2d)


class AdaptiveMaxPool3d(_AdaptiveMaxPool):
    """The largest elements of ``output_size`` windows of x (N, C, D, H, W)."""

    function = staticmethod(functional.adaptive_max_pool3d)
