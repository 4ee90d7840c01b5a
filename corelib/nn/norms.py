"""Normalization of channels by statistics of a batch, of groups of channels, or of each channel: x has the shape
(N, C, *S).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from ..autograd import no_grad
from ..errors import ArgumentError, ShapeError
from ..op import calls
from ..ops.creation import full
from ..ops.norms import batch_norm, group_norm
from ..ops.reduce import sum
from . import functional
from .layers import new_parameter
from .module import Module, Parameter
from .spatial import batched

if TYPE_CHECKING:
    from ..tensor import Tensor


class _ChannelNorm(Module):
    """Parameters and running statistics of each channel; ``axes``: how many axes x may have, the words for it."""

    shapes: ClassVar[dict[int, str]]
    weight: Parameter | None
    bias: Parameter | None
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

    def _build(
        self, num_features: int, eps: float, momentum: float | None, affine: bool, track_running_stats: bool, device: Any, dtype: Any
    ) -> None:  # fmt: skip
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.affine, self.track_running_stats = affine, track_running_stats
        shape, tracked = (num_features,), track_running_stats
        self.weight = new_parameter(shape, device, dtype, 1.0) if affine else None
        self.bias = new_parameter(shape, device, dtype) if affine else None
        new = lambda value: full(shape, value, dtype=dtype or "float32", device=device) if tracked else None
        self.register_buffer("running_mean", new(0.0))
        self.register_buffer("running_var", new(1.0))
        self.register_buffer("num_batches_tracked", full((), 0, dtype="int64", device=device) if tracked else None)  # fmt: skip

    def _check(self, x: Tensor) -> None:
        channels = x.shape[1] if x.ndim in self.shapes else None
        if channels != self.num_features:
            wanted = " or ".join(words.replace("C", str(self.num_features)) for words in self.shapes.values())
            raise ShapeError(f"{type(self).__name__}: x must have shape {wanted}, got {x.shape}")

    @no_grad()
    def _track(self, mean: Tensor, var: Tensor, count: int) -> None:
        """Move the running statistics towards those of a batch; the variance is the unbiased one, of ``count`` elements."""
        assert self.running_mean is not None
        assert self.running_var is not None
        share = self._share()
        var = calls.multiply(var, count / (count - 1)) if count > 1 else var
        for running, new in ((self.running_mean, mean), (self.running_var, var)):
            step = calls.multiply(calls.subtract(calls.astype(new, running.dtype), running), share)
            running._rebind(calls.add(running, step))

    def _share(self) -> Any:
        """How much of a new batch goes into the running statistics; counts the batch."""
        assert self.num_batches_tracked is not None
        number = calls.add(self.num_batches_tracked, 1)
        self.num_batches_tracked._rebind(number)
        if self.momentum is not None:
            return self.momentum
        return calls.divide(1.0, calls.astype(number, self.running_mean.dtype))  # type: ignore[union-attr]

    def _by_running(self, x: Tensor) -> Tensor:
        assert self.running_mean is not None
        assert self.running_var is not None
        return functional.by_statistics(
            x, self.running_mean, self.running_var, self.weight, self.bias, self.eps
        )

    def extra_repr(self) -> str:
        """The number of channels, and what is not the default."""
        return f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, track_running_stats={self.track_running_stats}"


class _BatchNorm(_ChannelNorm):
    def __init__(
        self, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = True, track_running_stats: bool = True,
        device: Any = None, dtype: Any = None,
    ) -> None:  # fmt: skip
        self._build(num_features, eps, momentum, affine, track_running_stats, device, dtype)

    def forward(self, x: Tensor) -> Tensor:
        """A tensor of x's shape."""
        self._check(x)
        if not self.training and self.track_running_stats:
            return self._by_running(x)
        y, mean, var = batch_norm(x, self.weight, self.bias, eps=self.eps)
        if self.training and self.track_running_stats:
            self._track(mean.detach(), var.detach(), x.size // self.num_features if x.size else 1)
        return y


class BatchNorm1d(_BatchNorm):
    """Normalization of x (N, C) or (N, C, L) by the mean and variance of each channel in the batch, times weight plus bias;
    in evaluation by the running mean and variance of the batches seen in training.

    Running statistics move by ``momentum`` (the share of the new batch) each time, or are the mean over all batches with
    ``momentum=None``.

    Example: ``nn.BatchNorm1d(3)(x)`` for x of shape (4, 3) has shape (4, 3).
    """

    shapes: ClassVar[dict[int, str]] = {2: "(N, C)", 3: "(N, C, L)"}


class BatchNorm2d(_BatchNorm):
    """Normalization of x (N, C, H, W) by the mean and variance of each channel in the batch; see :class:`BatchNorm1d`."""

    shapes: ClassVar[dict[int, str]] = {4: "(N, C, H, W)"}


class BatchNorm3d(_BatchNorm):
    """Normalization of x (N, C, D, H, W) by the mean and variance of each channel in the batch; see :class:`BatchNorm1d`."""

    shapes: ClassVar[dict[int, str]] = {5: "(N, C, D, H, W)"}


class GroupNorm(Module):
    """Normalization of x (N, C, *S) by the mean and variance of each of ``num_groups`` groups of channels of each example.

    Example: ``nn.GroupNorm(2, 6)(x)`` for x of shape (4, 6, 5) has shape (4, 6, 5).
    """

    weight: Parameter | None
    bias: Parameter | None

    def __init__(
        self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True, device: Any = None, dtype: Any = None
    ) -> None:  # fmt: skip
        if num_groups < 1 or num_channels % num_groups:
            raise ArgumentError(f"GroupNorm: num_groups={num_groups} must divide num_channels={num_channels}")
        self.num_groups, self.num_channels, self.eps, self.affine = num_groups, num_channels, eps, affine
        self.weight = new_parameter((num_channels,), device, dtype, 1.0) if affine else None
        self.bias = new_parameter((num_channels,), device, dtype) if affine else None

    def forward(self, x: Tensor) -> Tensor:
        """A tensor of x's shape."""
        if x.ndim < 2 or x.shape[1] != self.num_channels:
            raise ShapeError(f"GroupNorm: x must have shape (N, {self.num_channels}, ...), got {x.shape}")
        return group_norm(x, self.weight, self.bias, num_groups=self.num_groups, eps=self.eps)

    def extra_repr(self) -> str:
        """Groups, channels and eps."""
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}"


class _InstanceNorm(_ChannelNorm):
    axes: ClassVar[int]

    def __init__(
        self, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = False,
        track_running_stats: bool = False, device: Any = None, dtype: Any = None,
    ) -> None:  # fmt: skip
        self._build(num_features, eps, momentum, affine, track_running_stats, device, dtype)

    def forward(self, x: Tensor) -> Tensor:
        """A tensor of x's shape."""
        return batched(type(self).__name__, self.axes, x, self._normalized)

    def _share(self) -> Any:  # PyTorch counts no batches here, and without a momentum keeps the statistics
        return self.momentum or 0.0

    def _normalized(self, x: Tensor) -> Tensor:
        self._check(x)
        if not self.training and self.track_running_stats:
            return self._by_running(x)
        places = x.size // (x.shape[0] * x.shape[1]) if x.size else 0
        if places < 2:
            raise ShapeError(
                f"{type(self).__name__}: each channel needs at least two elements, x of shape {x.shape} has {places}"
            )
        if self.training and self.track_running_stats:
            self._track(*_means_over_examples(x.detach()), places)
        return group_norm(x, self.weight, self.bias, num_groups=self.num_features, eps=self.eps)


def _means_over_examples(x: Tensor) -> tuple[Tensor, Tensor]:
    """The mean and variance of each channel of each example, averaged over the examples."""
    axes = tuple(range(2, x.ndim))
    places = x.size // (x.shape[0] * x.shape[1])
    mean = calls.divide(sum(x, axis=axes, keepdims=True), places)
    centered = calls.subtract(x, mean)
    var = calls.divide(sum(calls.multiply(centered, centered), axis=axes), places)
    over = lambda t: calls.divide(sum(t, axis=0), x.shape[0])
    return over(calls.reshape(mean, x.shape[:2])), over(var)


class InstanceNorm1d(_InstanceNorm):
    """Normalization of x (N, C, L), or (C, L), by the mean and variance of each channel of each example; without weight,
    bias and running statistics unless asked for.
    """

    axes, shapes = 1, {3: "(N, C, L)"}


class InstanceNorm2d(_InstanceNorm):
    """Normalization of x (N, C, H, W), or (C, H, W), by the mean and variance of each channel of each example."""

    axes, shapes = 2, {4: "(N, C, H, W)"}


class InstanceNorm3d(_InstanceNorm):
    """Normalization of x (N, C, D, H, W), or (C, D, H, W), by the mean and variance of each channel of each example."""

    axes, shapes = 3, {5: "(N, C, D, H, W)"}
