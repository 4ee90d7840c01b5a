"""Observers: what range of numbers a quantization should hold, from the numbers that were seen."""

from __future__ import annotations

from typing import Any

from ..autograd import no_grad
from ..errors import ArgumentError
from ..op import calls
from ..ops.creation import full_like
from ..tensor import Tensor
from .scheme import QuantParams, choose_params, dequantize, quantize


class MinMaxObserver:
    """From the smallest to the largest number seen.

    ``axis``: a range of its own for each channel along it.
    """

    def __init__(self, *, bits: int = 8, symmetric: bool = True, axis: int | None = None) -> None:
        self.bits, self.symmetric, self.axis = bits, symmetric, axis
        self.low: Tensor | None = None
        self.high: Tensor | None = None

    @no_grad()
    def observe(self, x: Tensor) -> None:
        """Take in a tensor."""
        x = x.detach()
        if not x.size:
            return
        axes = None if self.axis is None else tuple(i for i in range(x.ndim) if i != self.axis % x.ndim)
        low, high = calls.min(x, axis=axes), calls.max(x, axis=axes)
        self.low = low if self.low is None else calls.minimum(self.low, low)
        self.high = high if self.high is None else calls.maximum(self.high, high)

    @no_grad()
    def params(self) -> QuantParams:
        """The scale and zero point for what was seen."""
        if self.low is None or self.high is None:
            raise ArgumentError(
                f"{type(self).__name__} has seen nothing: run calibrate() or some batches first"
            )
        return self._chosen(self.low, self.high)

    def _chosen(self, low: Tensor, high: Tensor) -> QuantParams:
        return choose_params(low, high, bits=self.bits, symmetric=self.symmetric, axis=self.axis)


class _Sampling(MinMaxObserver):
    """Keeps some of the numbers of each tensor: at most ``keep``, evenly spaced."""

    keep = 8192

    def __init__(self, *, bits: int = 8, symmetric: bool = True, axis: int | None = None) -> None:
        super().__init__(bits=bits, symmetric=symmetric, axis=axis)
        self.seen: list[Tensor] = []  # of shape (channels, numbers), or (1, numbers)

    @no_grad()
    def observe(self, x: Tensor) -> None:
        """Take in a tensor."""
        super().observe(x)
        if not x.size:
            return
        x = x.detach()
        rows = calls.reshape(x, (1, -1))
        if self.axis is not None:
            rows = calls.reshape(calls.moveaxis(x, self.axis, 0), (x.shape[self.axis], -1))
        step = -(-rows.shape[1] // self.keep)
        self.seen.append(rows[:, ::step] if step > 1 else rows)

    def _rows(self) -> Tensor:
        return self.seen[0] if len(self.seen) == 1 else calls.concat(self.seen, axis=1)

    def _shaped(self, values: Tensor) -> Tensor:
        return values if self.axis is not None else calls.reshape(values, ())


class PercentileObserver(_Sampling):
    """The range that holds all but ``100 - percentile`` per cent of the numbers, half of them on each side: a
    few outliers do not cost everybody else their accuracy.
    """

    def __init__(self, percentile: float = 99.9, **options: Any) -> None:
        super().__init__(**options)
        if not 50 < percentile <= 100:
            raise ArgumentError(f"PercentileObserver: percentile must be in (50, 100], got {percentile}")
        self.percentile = percentile

    @no_grad()
    def params(self) -> QuantParams:
        """The scale and zero point for what was seen."""
        super().params()
        rows = calls.sort(self._rows(), axis=1)
        n = rows.shape[1]
        outside = min(int(n * (1 - self.percentile / 100) / 2), (n - 1) // 2)
        return self._chosen(self._shaped(rows[:, outside]), self._shaped(rows[:, n - 1 - outside]))


class MSEObserver(_Sampling):
    """The part of the range, of ``steps`` that are tried, with the smallest mean square error: clipping large
    numbers against rounding small ones.
    """

    def __init__(self, steps: int = 64, **options: Any) -> None:
        super().__init__(**options)
        self.steps = steps

    @no_grad()
    def params(self) -> QuantParams:
        """The scale and zero point for what was seen."""
        whole = super().params()
        assert self.low is not None
        assert self.high is not None
        rows = self._rows()
        axis = None if self.axis is None else 0
        best_error = best_part = None
        for i in range(self.steps, self.steps // 5, -1):
            part = i / self.steps
            params = self._chosen(calls.multiply(self.low, part), calls.multiply(self.high, part))
            params = params._replace(axis=axis)
            off = calls.subtract(dequantize(quantize(rows, params), params), rows)
            error = self._shaped(calls.mean(calls.square(off), axis=1))
            fractions = full_like(error, part)
            if best_error is None or best_part is None:
                best_error, best_part = error, fractions
            else:
                better = calls.less(error, best_error)
                best_part = calls.where(better, fractions, best_part)
                best_error = calls.minimum(error, best_error)
        if best_part is None:
            return whole
        return self._chosen(calls.multiply(self.low, best_part), calls.multiply(self.high, best_part))


OBSERVERS = {"minmax": MinMaxObserver, "percentile": PercentileObserver, "mse": MSEObserver}
