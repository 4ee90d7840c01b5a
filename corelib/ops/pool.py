"""Pooling: the largest element or the mean of each window over the last axes.

``kernel_size`` has an integer for each axis that is pooled, or is one integer for all but the first two axes of x. The
values come axis after axis, since a maximum or a sum over a window is one over its rows and then over their results. A
maximum's derivative knows where it came from: that is an op of its own, an index of an element for each window.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ..dispatch import composite
from ..dtypes import FLOATING, float32, int64
from ..errors import ArgumentError, ShapeError
from ..op import SUM_BOUND, calls
from ..params import Caller, as_integer, checked
from ..rules import Spec, common, custom
from ..samples import ErrorSample, Sample, shapes
from .compare import equal, isnan, less, logical_or
from .elementwise import add, divide, floor_divide, maximum, multiply, negative, subtract, where
from .index import fresh, gather, scatter_add, take_along_axis
from .movement import reshape
from .reduce import max, min, sum
from .windows import (
    PerAxis,
    Sizes,
    extents,
    framed,
    per_axis,
    reduced_windows,
    stuffed,
    window_counts,
    windows,
)

if TYPE_CHECKING:
    from ..tensor import Tensor

# -- what the ops of this module share -----------------------------------------------------------------------


def _canonical(
    name: str, x: Any, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: Any
) -> dict[str, Any]:
    """The parameters as kernels get them; the number of pooled axes is that of ``kernel_size``."""
    op, ndim = Caller(name), len(checked(name, x))
    pooled = len(kernel_size) if isinstance(kernel_size, tuple | list) else ndim - 2
    if not 1 <= pooled <= ndim:
        raise ShapeError(
            f"{name}: kernel_size {kernel_size} does not say which axes of x of shape {x.shape} are pooled: give an integer for each"
        )
    kernel = per_axis(op, "kernel_size", kernel_size, pooled, 1)
    params = {
        "kernel_size": kernel,
        "stride": per_axis(op, "stride", kernel if stride is None else stride, pooled, 1),
        "padding": per_axis(op, "padding", padding, pooled, 0),
    }
    if dilation is not None:
        params["dilation"] = per_axis(op, "dilation", dilation, pooled, 1)
    for k, p in zip(kernel, params["padding"], strict=True):
        if 2 * p > k:
            raise ArgumentError(
                f"{name}: padding may be at most half of kernel_size, got padding {padding} for {kernel_size}"
            )
    return {**params, "ceil_mode": bool(ceil_mode)}


def pool_counts(
    name: str, x: Any, kernel_size: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes, ceil_mode: bool
) -> Sizes:
    """How many windows there are along each pooled axis; raises what the op refuses. ``x`` needs only a ``shape``."""
    sizes = tuple(x.shape[len(x.shape) - len(kernel_size) :])
    return window_counts(Caller(name), sizes, kernel_size, stride, padding, dilation, ceil_mode)


def _pooled(op: Any, x: Spec, params: dict[str, Any]) -> Sizes:
    dilation = params.get("dilation", (1,) * len(params["kernel_size"]))
    counts = pool_counts(
        op.name, x, params["kernel_size"], params["stride"], params["padding"], dilation, params["ceil_mode"]
    )
    return (*x.shape[: x.ndim - len(counts)], *counts)


def _behind(sizes: Sizes, counts: Sizes, kernel: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes) -> Sizes:  # fmt: skip
    """How many elements the last window needs behind x; negative where none of the last elements is needed."""
    given = zip(sizes, counts, extents(kernel, dilation), stride, padding, strict=True)
    return tuple((count - 1) * s + extent - n - p for n, count, extent, s, p in given)


def _frame(
    name: str, x: Any, kernel: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes, ceil_mode: bool
) -> tuple[Sizes, Sizes, Sizes]:
    """The sizes of the pooled axes, how many windows there are along each, and what the last one needs behind x."""
    counts = pool_counts(name, x, kernel, stride, padding, dilation, ceil_mode)
    sizes = x.shape[x.ndim - len(counts) :]
    return sizes, counts, _behind(sizes, counts, kernel, stride, padding, dilation)


# (shape of x, of the result, parameters)
_CASES: tuple[Any, ...] = (
    ((2, 3, 5), (2, 3, 2), {"kernel_size": 2}),
    ((1, 2, 6), (1, 2, 4), {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True}),
    ((2, 2, 4, 5), (2, 2, 3, 3), {"kernel_size": (2, 3), "stride": (1, 2), "padding": (0, 1)}),
    ((1, 2, 2, 3, 2), (1, 2, 1, 1, 2), {"kernel_size": (2, 2, 1)}),
    ((5,), (3,), {"kernel_size": (2,), "ceil_mode": True}),
    ((0, 2, 4), (0, 2, 2), {"kernel_size": 2}),
    ((2, 2, 7, 6), (2, 2, 4, 3), {"kernel_size": 3, "stride": 2, "padding": 1}),
)
_DILATED: tuple[Any, ...] = (
    ((2, 1, 6), (2, 1, 4), {"kernel_size": 2, "stride": 1, "dilation": 2}),
    (
        (1, 1, 6, 5),
        (1, 1, 2, 3),
        {"kernel_size": (3, 2), "stride": (2, 1), "padding": (1, 0), "dilation": (2, 2)},
    ),
)


def _samples(cases: Any, gradient: bool = False) -> Any:
    def generate(make: Any, dtype: Any) -> Any:
        for shape, result, params in cases:
            cotangent = (make.array(result, dtype),) if gradient else ()
            yield Sample((*cotangent, make.distinct(shape, dtype)), params)

    return generate


def _errors(name: str) -> list[ErrorSample]:
    def refused(error: type[Exception], words: str, shape: Sizes, **params: Any) -> ErrorSample:
        return ErrorSample(error, f"{name}: {words}", lambda m: Sample((m.array(shape, float32),), params))

    return [
        refused(ShapeError, "a window of 4 elements .* does not fit an axis of 3 with padding 0", (1, 2, 3), kernel_size=4),
        refused(ShapeError, r"kernel_size 2 does not say which axes of x of shape \(3, 4\)", (3, 4), kernel_size=2),
        refused(ArgumentError, "padding may be at most half of kernel_size, got padding 2 for 3", (1, 2, 6), kernel_size=3, padding=2),
        refused(ArgumentError, "stride must be at least 1, got 0", (1, 2, 6), kernel_size=3, stride=0),
        refused(ArgumentError, r"padding must be one integer or 2, one for each window axis, got \(1,\)", (1, 2, 6, 6), kernel_size=3,
                padding=(1,)),
    ]  # fmt: skip


# -- the largest element -------------------------------------------------------------------------------------


def _bind_max(name: str) -> Any:
    def bind(
        x: Any, /, *, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: Any = False
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:  # fmt: skip
        return (x,), _canonical(name, x, kernel_size, stride, padding, dilation, ceil_mode)

    return bind


@custom(FLOATING)
def _max_rule(op: Any, specs: Any, params: dict[str, Any]) -> Spec:
    dtype = int64 if op.name == "max_pool_indices" else common(op, specs)
    return Spec(_pooled(op, specs[0], params), dtype)


@composite(
    kind="opaque", rule=_max_rule, samples=_samples((*_DILATED, *_CASES)), ulp=0, bind=_bind_max("max_pool"), errors=_errors("max_pool"),
    vjp=lambda g, x, kernel_size, stride, padding, dilation, ceil_mode: max_pool_gradient(
        g, x, kernel_size=kernel_size, stride=stride, padding=padding, dilation=dilation, ceil_mode=ceil_mode),
    moves=False, leading=True,
)  # fmt: skip
def max_pool(
    x: Tensor,
    /,
    *,
    kernel_size: PerAxis,
    stride: PerAxis = None,
    padding: PerAxis = 0,
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
) -> Tensor:
    """The largest element of each window over the last axes: (..., *S) gives (..., *S') with S' = (S + 2 padding -
    dilation (kernel_size - 1) - 1) // stride + 1.

    ``stride`` is kernel_size unless given; ``padding`` is never the largest; with ``ceil_mode`` a last window may end
    outside. A window with a NaN gives NaN. The gradient goes to the first largest element of a window in C order, or to
    its first NaN.

    Example: ``max_pool(x, kernel_size=2)`` for x of shape (8, 3, 28, 28) has shape (8, 3, 14, 14).
    """
    _, counts, behind = _frame("max_pool", x, kernel_size, stride, padding, dilation, ceil_mode)
    x = framed(x, padding, behind, -math.inf)
    return reduced_windows(x, kernel_size, counts, stride, dilation, maximum)


@composite(
    kind="opaque", rule=_max_rule, samples=_samples((*_DILATED, *_CASES)), ulp=0, bind=_bind_max("max_pool_indices"),
    errors=_errors("max_pool_indices"), nondiff="a position is an integer", moves=False, leading=True,
)  # fmt: skip
def max_pool_indices(
    x: Tensor,
    /,
    *,
    kernel_size: PerAxis,
    stride: PerAxis = None,
    padding: PerAxis = 0,
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
) -> Tensor:
    """Where the results of :func:`max_pool` are in x: for each window, the position of its first largest element (its
    first NaN, if any) among the elements of the pooled axes in C order, int64.
    """
    sizes, counts, behind = _frame("max_pool_indices", x, kernel_size, stride, padding, dilation, ceil_mode)
    outside, across = math.prod(sizes), tuple(range(-2 * len(counts), 0, 2))
    taken = lambda z, value: windows(framed(z, padding, behind, value), kernel_size, counts, stride, dilation)
    values = taken(x, -math.inf)
    positions = taken(reshape(calls.arange(outside, device=x._backend), sizes), outside)
    largest = max(values, axis=across, keepdims=True)
    return min(where(logical_or(equal(values, largest), isnan(values)), positions, outside), axis=across)


def _flat(x: Tensor, axes: int) -> Tensor:
    """The last ``axes`` axes made one."""
    return reshape(x, (*x.shape[: x.ndim - axes], math.prod(x.shape[x.ndim - axes :])))


def _bind_max_gradient(
    cotangent: Any, x: Any, /, *, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: Any = False
) -> tuple[tuple[Any, ...], dict[str, Any]]:  # fmt: skip
    return (cotangent, x), _canonical(
        "max_pool_gradient", x, kernel_size, stride, padding, dilation, ceil_mode
    )


@custom(FLOATING)
def _max_gradient_rule(op: Any, specs: Any, params: dict[str, Any]) -> Spec:
    cotangent, x = specs
    _fits(op.name, cotangent, _pooled(op, x, params))
    return Spec(x.shape, common(op, specs))


def _fits(name: str, cotangent: Any, wanted: Sizes) -> None:
    if tuple(cotangent.shape) != wanted:
        raise ShapeError(
            f"{name}: cotangent must have shape {wanted}, that of the pooled x, got {cotangent.shape}"
        )


def _max_gradient_transpose(
    g: Tensor, x: Tensor, kernel_size: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes, ceil_mode: bool
) -> Tensor:
    index = max_pool_indices(
        x, kernel_size=kernel_size, stride=stride, padding=padding, dilation=dilation, ceil_mode=ceil_mode
    )
    pooled = len(kernel_size)
    return reshape(take_along_axis(_flat(g, pooled), _flat(index, pooled), axis=-1), index.shape)


@composite(
    kind="opaque", rule=_max_gradient_rule, samples=_samples((*_DILATED, *_CASES), gradient=True), ulp=SUM_BOUND, bind=_bind_max_gradient,
    linear=(_max_gradient_transpose, None), leading=True,
    errors=[ErrorSample(ShapeError, r"max_pool_gradient: cotangent must have shape \(1, 2, 3\), that of the pooled x, got \(1, 2, 4\)",
                        lambda m: Sample((m.array((1, 2, 4), float32), m.array((1, 2, 6), float32)), {"kernel_size": 2}))],
)  # fmt: skip
def max_pool_gradient(
    cotangent: Tensor,
    x: Tensor,
    /,
    *,
    kernel_size: PerAxis,
    stride: PerAxis = None,
    padding: PerAxis = 0,
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
) -> Tensor:
    """The transpose of taking the largest elements of ``x``: each element of a cotangent of the result added, in C order,
    where :func:`max_pool_indices` says.
    """
    index = max_pool_indices(
        x, kernel_size=kernel_size, stride=stride, padding=padding, dilation=dilation, ceil_mode=ceil_mode
    )
    _fits("max_pool_gradient", cotangent, index.shape)
    area = math.prod(x.shape[x.ndim - len(kernel_size) :])
    lead = index.shape[: x.ndim - len(kernel_size)]
    first = reshape(calls.arange(math.prod(lead), device=x._backend), (*lead, *(1,) * (x.ndim - len(lead))))
    index = add(index, multiply(first, area))
    zeros = calls.full((x.size,), 0, dtype=x.dtype, device=x._backend)
    flat = scatter_add(
        zeros, reshape(cotangent, (index.size,)), reshape(index, (index.size,)), overwrite=fresh(zeros)
    )
    return reshape(flat, x.shape)


# -- the mean ------------------------------------------------------------------------------------------------


def _bind_avg(
    x: Any, /, *, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: Any = False, count_include_pad: Any = True,
    divisor_override: Any = None,
) -> tuple[tuple[Any, ...], dict[str, Any]]:  # fmt: skip
    params = _canonical("avg_pool", x, kernel_size, stride, padding, None, ceil_mode)
    return (x,), {**params, **_divisor("avg_pool", count_include_pad, divisor_override)}


def _divisor(name: str, count_include_pad: Any, divisor_override: Any) -> dict[str, Any]:
    if divisor_override is not None:
        divisor_override = as_integer(Caller(name), "divisor_override", divisor_override)
        if not divisor_override:
            raise ArgumentError(f"{name}: divisor_override must not be 0")
    return {"count_include_pad": bool(count_include_pad), "divisor_override": divisor_override}


def _divisors(
    like: Tensor, sizes: Sizes, counts: Sizes, kernel: Sizes, stride: Sizes, padding: Sizes, include: bool, override: int | None
) -> Any:  # fmt: skip
    """What the sum of each window is divided by: a number, or a tensor of the windows' numbers of elements."""
    ones = (1,) * len(kernel)
    behind = _behind(sizes, counts, kernel, stride, padding, ones)
    if override is not None:
        return override
    if all(b <= (p if include else 0) for b, p in zip(behind, padding, strict=True)) and (include or not any(padding)):  # fmt: skip
        return math.prod(kernel)
    inside = tuple(b if b < p else p for b, p in zip(behind, padding, strict=True))
    counted = calls.full(sizes, 1, dtype=like.dtype, device=like._backend)
    counted = framed(counted, padding, inside, float(include))
    counted = framed(counted, (0,) * len(kernel), tuple(b - i for b, i in zip(behind, inside, strict=True)))
    return reduced_windows(counted, kernel, counts, stride, ones, add)


@custom(FLOATING)
def _avg_rule(op: Any, specs: Any, params: dict[str, Any]) -> Spec:
    return Spec(_pooled(op, specs[0], params), common(op, specs))


def _avg_transpose(
    g: Tensor, x: Spec, kernel_size: Sizes, stride: Sizes, padding: Sizes, ceil_mode: bool, count_include_pad: bool,
    divisor_override: int | None,
) -> Tensor:  # fmt: skip
    return avg_pool_gradient(
        g, sizes=tuple(x.shape[x.ndim - len(kernel_size) :]), kernel_size=kernel_size, stride=stride, padding=padding,
        ceil_mode=ceil_mode, count_include_pad=count_include_pad, divisor_override=divisor_override,
    )  # fmt: skip


_UNPADDED: tuple[Any, ...] = (
    (
        (1, 2, 6),
        (1, 2, 4),
        {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True, "count_include_pad": False},
    ),
    ((1, 1, 4, 5), (1, 1, 5, 3), {"kernel_size": 2, "stride": (1, 2), "padding": 1, "divisor_override": 3}),
)


@composite(
    kind="opaque", rule=_avg_rule, samples=_samples((*_UNPADDED, *_CASES)), ulp=16, bind=_bind_avg, errors=_errors("avg_pool"),
    linear=_avg_transpose, leading=True,
)  # fmt: skip
def avg_pool(
    x: Tensor,
    /,
    *,
    kernel_size: PerAxis,
    stride: PerAxis = None,
    padding: PerAxis = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """The mean of each window over the last axes: (..., *S) gives (..., *S'), as for :func:`max_pool`.

    ``padding`` is zeros, which count as elements unless ``count_include_pad=False``; what a last window has outside the
    padding (``ceil_mode``) never does. ``divisor_override`` is what each sum is divided by instead.
    """
    counts = pool_counts("avg_pool", x, kernel_size, stride, padding, (1,) * len(kernel_size), ceil_mode)
    sizes, ones = x.shape[x.ndim - len(counts) :], (1,) * len(counts)
    divisors = _divisors(x, sizes, counts, kernel_size, stride, padding, count_include_pad, divisor_override)
    x = framed(x, padding, _behind(sizes, counts, kernel_size, stride, padding, ones))
    return divide(reduced_windows(x, kernel_size, counts, stride, ones, add), divisors)


def _bind_avg_gradient(
    cotangent: Any, /, *, sizes: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: Any = False,
    count_include_pad: Any = True, divisor_override: Any = None,
) -> tuple[tuple[Any, ...], dict[str, Any]]:  # fmt: skip
    params = _canonical("avg_pool_gradient", cotangent, kernel_size, stride, padding, None, ceil_mode)
    params["sizes"] = per_axis(Caller("avg_pool_gradient"), "sizes", sizes, len(params["kernel_size"]), 1)
    return (cotangent,), {**params, **_divisor("avg_pool_gradient", count_include_pad, divisor_override)}


def check_avg_gradient(
    cotangent: Any, sizes: Sizes, kernel_size: Sizes, stride: Sizes, padding: Sizes, ceil_mode: bool
) -> Sizes:
    """The numbers of windows; raises what ``avg_pool_gradient`` refuses. ``cotangent`` needs only a ``shape``."""
    name, ones = "avg_pool_gradient", (1,) * len(kernel_size)
    counts = window_counts(Caller(name), sizes, kernel_size, stride, padding, ones, ceil_mode)
    _fits(name, cotangent, (*cotangent.shape[: len(cotangent.shape) - len(counts)], *counts))
    return counts


@custom(FLOATING)
def _avg_gradient_rule(op: Any, specs: Any, params: dict[str, Any]) -> Spec:
    geometry = {key: params[key] for key in ("sizes", "kernel_size", "stride", "padding", "ceil_mode")}
    counts = check_avg_gradient(specs[0], **geometry)
    return Spec((*specs[0].shape[: specs[0].ndim - len(counts)], *params["sizes"]), common(op, specs))


def _avg_gradient_samples(make: Any, dtype: Any) -> Any:
    for shape, result, params in (*_UNPADDED, *_CASES):
        pooled = len(params["kernel_size"]) if isinstance(params["kernel_size"], tuple) else len(shape) - 2
        yield Sample((make.array(result, dtype),), {"sizes": shape[len(shape) - pooled :], **params})


@composite(
    kind="opaque", rule=_avg_gradient_rule, samples=_avg_gradient_samples, ulp=16, bind=_bind_avg_gradient,
    linear=lambda g, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override: avg_pool(
        g, kernel_size=kernel_size, stride=stride, padding=padding, ceil_mode=ceil_mode, count_include_pad=count_include_pad,
        divisor_override=divisor_override),
    leading=True,
    errors=[ErrorSample(ShapeError, r"avg_pool_gradient: cotangent must have shape \(1, 2, 3\), that of the pooled x, got \(1, 2, 4\)",
                        lambda m: Sample((m.array((1, 2, 4), float32),), {"sizes": 6, "kernel_size": 2}))],
)  # fmt: skip
def avg_pool_gradient(
    cotangent: Tensor,
    /,
    *,
    sizes: PerAxis,
    kernel_size: PerAxis,
    stride: PerAxis = None,
    padding: PerAxis = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """The transpose of :func:`avg_pool` of a tensor whose pooled axes have the ``sizes``: (..., *S') gives (..., *sizes)."""
    counts = check_avg_gradient(cotangent, sizes, kernel_size, stride, padding, ceil_mode)
    divisors = _divisors(
        cotangent, sizes, counts, kernel_size, stride, padding, count_include_pad, divisor_override
    )
    y = divide(cotangent, divisors)
    pooled = len(counts)
    for i in range(pooled):
        y = stuffed(y, i - pooled, stride[i])
    # one window of ones for each element of x: over the windows that contain it
    before = tuple(k - 1 - p for k, p in zip(kernel_size, padding, strict=True))
    found = y.shape[y.ndim - pooled :]
    after = tuple(n + k - 1 - b - m for n, k, b, m in zip(sizes, kernel_size, before, found, strict=True))
    ones = (1,) * pooled
    return reduced_windows(framed(y, before, after), kernel_size, sizes, ones, ones, add)


# -- the mean of windows that share the axis -----------------------------------------------------------------


def _bind_adaptive(x: Any, /, *, output_size: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    name = "adaptive_avg_pool"
    ndim = len(checked(name, x))
    count = len(output_size) if isinstance(output_size, tuple | list) else ndim - 2
    if not 1 <= count <= ndim:
        raise ShapeError(
            f"{name}: output_size {output_size} does not say which axes of x of shape {x.shape} are pooled: give one for each"
        )
    given = output_size if isinstance(output_size, tuple | list) else (output_size,) * count
    kept = [n if o is None else o for n, o in zip(x.shape[ndim - count :], given, strict=True)]
    return (x,), {"output_size": per_axis(Caller(name), "output_size", tuple(kept), count, 1)}


@custom(FLOATING)
def _adaptive_rule(op: Any, specs: Any, params: dict[str, Any]) -> Spec:
    (x,), size = specs, params["output_size"]
    rest = x.ndim - len(size)
    if 0 in x.shape[rest:]:
        raise ShapeError(f"{op.name}: there is nothing to pool in x of shape {x.shape}")
    return Spec((*x.shape[:rest], *size), common(op, specs))


def _shared(x: Tensor, axis: int, count: int) -> Tensor:
    """The mean of ``count`` windows that share an axis: window i is [i n // count, ceil((i + 1) n / count))."""
    n = x.shape[axis]
    numbers = reshape(calls.arange(count, device=x._backend), (count, 1))
    start = floor_divide(multiply(numbers, n), count)
    stop = negative(floor_divide(multiply(add(numbers, 1), -n), count))
    longest = -(-n // count) + (n % count != 0)
    places = add(start, calls.arange(longest, device=x._backend))
    inside = tuple([count, longest] + [1] * (-axis - 1))
    taken = gather(x, calls.minimum(places, n - 1), axis=axis)
    total = sum(where(reshape(less(places, stop), inside), taken, 0), axis=axis)
    return divide(total, reshape(calls.astype(subtract(stop, start), x.dtype), (count, *inside[2:])))


@composite(
    kind="opaque", rule=_adaptive_rule, ulp=16, bind=_bind_adaptive, leading=True,
    samples=shapes(
        ((2, 3, 5), {"output_size": 2}), ((1, 2, 4, 6), {"output_size": (2, 3)}), ((2, 5, 4), {"output_size": (None, 3)}),
        ((1, 1, 2, 3), {"output_size": (3, 7)}), ((2, 2, 1, 2, 2), {"output_size": 1}), ((0, 2, 3), {"output_size": 2}),
        ((2, 3, 7, 5), {"output_size": (4, 3)}),
    ),
    errors=[
        ErrorSample(ShapeError, "adaptive_avg_pool: there is nothing to pool in x of shape", lambda m: Sample((m.array((1, 2, 0), float32),), {"output_size": 2})),
        ErrorSample(ArgumentError, "adaptive_avg_pool: output_size must be at least 1, got", lambda m: Sample((m.array((1, 2, 3), float32),), {"output_size": 0})),
        ErrorSample(ShapeError, r"output_size 2 does not say which axes of x of shape \(3, 4\)", lambda m: Sample((m.array((3, 4), float32),), {"output_size": 2})),
    ],
)  # fmt: skip
def adaptive_avg_pool(x: Tensor, /, *, output_size: PerAxis) -> Tensor:
    """The means of ``output_size`` windows, as equal as possible, along each of the last axes: (..., *S) gives
    (..., *output_size). Window i of an axis of n elements is [floor(i n / size), ceil((i + 1) n / size)), so that
    neighbours overlap where size does not divide n.

    ``output_size`` is one integer for all but the first two axes, or one for each axis, None to keep it as it is.

    Example: ``adaptive_avg_pool(x, output_size=1)`` for x of shape (8, 64, 7, 7) has shape (8, 64, 1, 1).
    """
    sizes = x.shape[x.ndim - len(output_size) :]
    if 0 in sizes:
        raise ShapeError(f"adaptive_avg_pool: there is nothing to pool in x of shape {x.shape}")
    if not any(n % o for n, o in zip(sizes, output_size, strict=True)):
        return avg_pool(x, kernel_size=tuple(n // o for n, o in zip(sizes, output_size, strict=True)))
    for i, o in enumerate(output_size):
        if sizes[i] != o:
            x = _shared(x, i - len(output_size), o)
    return x
