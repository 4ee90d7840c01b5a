"""Windows that slide over the last axes of a tensor: what convolution and pooling share.

A window has ``kernel`` elements along each axis, ``dilation`` apart; ``stride`` is the distance between windows. Views of
x are taken for each position in the window and never for each window, so that the work in Python does not grow with x.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from ..errors import ArgumentError, ShapeError
from ..op import calls
from ..params import as_integer
from .elementwise import add
from .index import fresh
from .movement import concat, narrow, pad, reshape, strided_slice, strided_update

if TYPE_CHECKING:
    from ..tensor import Tensor

Sizes = tuple[int, ...]
# A parameter for each window axis: one integer for all of them, or a tuple of them; kernels and bodies get the tuple.
PerAxis: TypeAlias = Any


def per_axis(op: Any, name: str, value: Any, count: int, least: int) -> Sizes:
    """A parameter with an integer for each of ``count`` axes, or one for all of them."""
    given = value if isinstance(value, tuple | list) else (value,) * count
    sizes = tuple(as_integer(op, name, v) for v in given)
    if len(sizes) != count:
        raise ArgumentError(
            f"{op.name}: {name} must be one integer or {count}, one for each window axis, got {value}"
        )
    if min(sizes, default=least) < least:
        raise ArgumentError(f"{op.name}: {name} must be at least {least}, got {value}")
    return sizes


def extents(kernel: Sizes, dilation: Sizes) -> Sizes:
    """How far a window reaches along each axis."""
    return tuple((k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True))


def window_counts(
    op: Any, sizes: Sizes, kernel: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes, ceil_mode: bool = False
) -> Sizes:  # fmt: skip
    """How many windows fit along each axis; with ``ceil_mode`` also one that begins in x or the padding before it and
    ends outside. ShapeError if there is none.
    """
    counts = []
    for n, extent, s, p in zip(sizes, extents(kernel, dilation), stride, padding, strict=True):
        room = n + 2 * p - extent
        if room < 0:
            raise ShapeError(
                f"{op.name}: a window of {extent} elements (kernel {kernel}, dilation {dilation}) does not fit an axis of "
                f"{n} with padding {p}: x has the sizes {sizes}"
            )
        count = room // s + 1
        if ceil_mode and room % s and count * s < n + p:
            count += 1
        counts.append(count)
    return tuple(counts)


def framed(x: Tensor, low: Sequence[int], high: Sequence[int], value: float = 0.0) -> Tensor:
    """x with so many more elements before and behind the last axes, or fewer where the number is negative."""
    rest = x.ndim - len(low)
    if min(*low, *high) < 0:
        start = (*(0,) * rest, *(-a if a < 0 else 0 for a in low))
        cut = [min(a, 0) + min(b, 0) for a, b in zip(low, high, strict=True)]
        size = (*x.shape[:rest], *(n + c for n, c in zip(x.shape[rest:], cut, strict=True)))
        x = strided_slice(x, start=start, size=size, step=(1,) * x.ndim)
    widths = [(a if a > 0 else 0, b if b > 0 else 0) for a, b in zip(low, high, strict=True)]
    return pad(x, ((0, 0),) * rest + tuple(widths), constant_values=value)


def windows(x: Tensor, kernel: Sizes, counts: Sizes, stride: Sizes, dilation: Sizes) -> Tensor:
    """The windows over the last axes: x of shape (..., n1, n2) gives (..., kernel1, count1, kernel2, count2)."""
    for i, (k, count, s, d) in enumerate(zip(kernel, counts, stride, dilation, strict=True)):
        axis = i - len(kernel)
        parts = [narrow(x, axis, j * d, count, s) for j in range(k)]
        x = parts[0] if k == 1 else concat(parts, axis=axis)
    shape = x.shape[: x.ndim - len(kernel)]
    return reshape(x, (*shape, *(n for pair in zip(kernel, counts, strict=True) for n in pair)))


def reduced_windows(
    x: Tensor, kernel: Sizes, counts: Sizes, stride: Sizes, dilation: Sizes, combine: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:  # fmt: skip
    """The elements of each window combined by an associative function, axis after axis: (..., count1, count2)."""
    for i, (k, count, s, d) in enumerate(zip(kernel, counts, stride, dilation, strict=True)):
        axis = i - len(kernel)
        total = narrow(x, axis, 0, count, s)
        for j in range(1, k):
            total = combine(total, narrow(x, axis, j * d, count, s))
        x = total
    return x


def stuffed(x: Tensor, axis: int, stride: int) -> Tensor:
    """x with ``stride`` - 1 zeros between its elements along ``axis``."""
    n = x.shape[axis]
    if stride == 1 or n < 2:
        return x
    shape, step = list(x.shape), [1] * x.ndim
    shape[axis], step[axis] = (n - 1) * stride + 1, stride
    zeros = calls.full(tuple(shape), 0, dtype=x.dtype, device=x._backend)
    return strided_update(
        zeros, x, start=(0,) * x.ndim, size=x.shape, step=tuple(step), overwrite=fresh(zeros)
    )


def overlapped(
    parts: Sequence[Tensor], axis: int, size: int, stride: int, padding: int, dilation: int
) -> Tensor:
    """The sum of windows put back where they came from along ``axis``: element i of part j is added at ``i * stride + j *
    dilation - padding``, unless that is outside [0, size). The transpose of taking windows.
    """
    total: Any = None
    rest = (0,) * (-axis - 1)
    for j, part in enumerate(parts):
        part = stuffed(part, axis, stride)
        before = j * dilation - padding
        if before >= size or before + part.shape[axis] <= 0:
            continue  # all of it outside
        part = framed(part, (before, *rest), (size - before - part.shape[axis], *rest))
        total = part if total is None else add(total, part)
    if total is not None:
        return total
    shape = list(parts[0].shape)
    shape[axis] = size
    return calls.full(tuple(shape), 0, dtype=parts[0].dtype, device=parts[0]._backend)
