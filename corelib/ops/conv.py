"""Convolution over any number of spatial axes, and its two transposes.

The three ops are one trilinear form, sum of ``y[n, o, i] w[o, c, k] x[n, c, i * stride + k * dilation - padding]``, seen
from each of its three sides, so that the derivatives of each are the other two. As in PyTorch it is a correlation: the
kernel is not flipped. Each body is one product of matrices of the windows; a backend may do better natively.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ..dispatch import composite
from ..dtypes import FLOATING, float32
from ..errors import ArgumentError, ShapeError
from ..op import SUM_BOUND
from ..params import Caller, as_integer, checked
from ..rules import Spec, common, custom
from ..samples import ErrorSample, Sample
from . import batching
from .contract import matmul
from .elementwise import add
from .movement import narrow, permute_dims, reshape
from .reduce import sum
from .windows import PerAxis, Sizes, extents, framed, overlapped, per_axis, window_counts, windows

if TYPE_CHECKING:
    from ..tensor import Tensor

_LEAST = {"kernel_size": 1, "stride": 1, "padding": 0, "output_padding": 0, "dilation": 1}


def _canonical(name: str, x: Any, groups: Any, **given: Any) -> dict[str, Any]:
    """The parameters as kernels get them: an integer for each spatial axis."""
    op = Caller(name)
    spatial = len(checked(name, x)) - 2
    if spatial < 1:
        raise ShapeError(f"{name}: x must have shape (N, C, *spatial), with a spatial axis, got {x.shape}")
    sizes = {key: per_axis(op, key, value, spatial, _LEAST[key]) for key, value in given.items()}
    groups = as_integer(op, "groups", groups)
    if groups < 1:
        raise ArgumentError(f"{name}: groups must be at least 1, got {groups}")
    return {**sizes, "groups": groups}


def _check(op: str, x: Any, weight: Any, bias: Any, channels: int, units: int, groups: int) -> None:
    """Refuse shapes that do not fit each other. ``channels``: those that the weight takes; ``units``: those it makes."""
    if len(weight.shape) != len(x.shape):
        raise ShapeError(
            f"{op}: x of shape {x.shape} has {len(x.shape) - 2} spatial axes, weight of shape {weight.shape} "
            f"must have as many"
        )
    if x.shape[1] != channels:
        raise ShapeError(
            f"{op}: x of shape {x.shape} has {x.shape[1]} channels on axis 1, weight of shape {weight.shape} "
            f"with groups={groups} needs {channels}"
        )
    if weight.shape[0] % groups:
        raise ShapeError(
            f"{op}: groups={groups} must divide axis 0 of weight, which has shape {weight.shape}"
        )
    if bias is not None and tuple(bias.shape) != (units,):
        raise ShapeError(
            f"{op}: bias must have shape {(units,)} for weight of shape {weight.shape}, got {bias.shape}"
        )


def _grouped(x: Tensor, groups: int) -> Tensor:
    """x of shape (N, C, *S) as (N, groups, C / groups, |S|)."""
    return reshape(x, (x.shape[0], groups, x.shape[1] // groups, math.prod(x.shape[2:])))


def _columns(
    x: Tensor, kernel: Sizes, counts: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes, groups: int
) -> Tensor:
    """The windows of x as the columns of a matrix for each example and group: (N, groups, C / groups |K|, |counts|)."""
    d = len(kernel)
    parts = windows(framed(x, padding, padding), kernel, counts, stride, dilation)
    if d > 1:
        parts = permute_dims(parts, (0, 1, *range(2, 2 + 2 * d, 2), *range(3, 2 + 2 * d, 2)))
    rows = x.shape[1] // groups * math.prod(kernel)
    return reshape(parts, (x.shape[0], groups, rows, math.prod(counts)))


def _with_bias(y: Tensor, bias: Tensor | None) -> Tensor:
    return y if bias is None else add(y, reshape(bias, (*bias.shape, *(1,) * (y.ndim - 2))))


def _bias_gradient(g: Tensor) -> Tensor:
    return sum(g, axis=(0, *range(2, g.ndim)))


def _cut(x: Tensor, sizes: Sizes) -> Tensor:
    """The first ``sizes`` elements of the spatial axes."""
    for i, n in enumerate(sizes):
        x = x if x.shape[2 + i] == n else narrow(x, i - len(sizes), 0, n)
    return x


# -- convolution ---------------------------------------------------------------------------------------------


def _bind_conv(
    x: Any, weight: Any, bias: Any = None, /, *, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: Any = 1
) -> tuple[tuple[Any, ...], dict[str, Any]]:  # fmt: skip
    params = _canonical("conv", x, groups, stride=stride, padding=padding, dilation=dilation)
    return (x, weight, bias), params


def conv_counts(
    x: Any, weight: Any, bias: Any, stride: Sizes, padding: Sizes, dilation: Sizes, groups: int
) -> Sizes:
    """The spatial sizes of a convolution's result; raises what ``conv`` refuses. Operands need only a ``shape``."""
    units = weight.shape[0]
    _check("conv", x, weight, bias, weight.shape[1] * groups if len(weight.shape) > 1 else 0, units, groups)
    return window_counts(
        Caller("conv"), tuple(x.shape[2:]), tuple(weight.shape[2:]), stride, padding, dilation
    )


@custom(FLOATING)
def _conv_rule(op: Any, specs: Any, params: dict[str, Any]) -> Spec:
    counts = conv_counts(*specs, **params)
    return Spec((specs[0].shape[0], specs[1].shape[0], *counts), common(op, specs))


def _missed(x: Sizes, g: Sizes, kernel: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes) -> Sizes:
    """The elements at the end of each axis of x, padded, that none of ``g`` windows reaches."""
    reached = zip(x, g, extents(kernel, dilation), stride, padding, strict=True)
    return tuple(n + 2 * p - ((count - 1) * s + extent) for n, count, extent, s, p in reached)


def _conv_x(g: Tensor, x: Spec, weight: Tensor, stride: Sizes, padding: Sizes, dilation: Sizes, groups: int) -> Tensor:  # fmt: skip
    missed = _missed(tuple(x.shape[2:]), g.shape[2:], weight.shape[2:], stride, padding, dilation)
    return conv_transpose(
        g, weight, stride=stride, padding=padding, output_padding=missed, dilation=dilation, groups=groups
    )


def _conv_weight(g: Tensor, x: Tensor, weight: Spec, stride: Sizes, padding: Sizes, dilation: Sizes, groups: int) -> Tensor:  # fmt: skip
    return conv_weight_gradient(
        x, g, kernel_size=tuple(weight.shape[2:]), stride=stride, padding=padding, dilation=dilation, groups=groups
    )  # fmt: skip


# (x, weight, result, parameters). The last, the largest, has no padding: there every element counts as often as the
# kernel says, whatever a zero times infinity is.
_CASES: tuple[Any, ...] = (
    ((2, 3, 5), (4, 3, 3), (2, 4, 3), {}),
    ((1, 2, 6), (2, 1, 2), (1, 2, 4), {"stride": 2, "padding": 1, "groups": 2}),
    ((2, 2, 5, 4), (3, 2, 3, 2), (2, 3, 5, 3), {"padding": (1, 0)}),
    (
        (1, 4, 7, 6),
        (6, 2, 3, 2),
        (1, 6, 3, 3),
        {"stride": (2, 3), "padding": 1, "dilation": (2, 1), "groups": 2},
    ),
    ((2, 2, 3, 3), (3, 2, 1, 1), (2, 3, 2, 2), {"stride": 2}),
    ((1, 1, 1, 2, 2), (2, 1, 1, 1, 2), (1, 2, 5, 2, 3), {"padding": (2, 0, 1)}),
    ((0, 2, 4, 4), (3, 2, 3, 3), (0, 3, 2, 2), {}),
    ((1, 2, 3, 4, 3), (2, 2, 2, 2, 2), (1, 2, 2, 1, 2), {"stride": (1, 2, 1), "dilation": (1, 2, 1)}),
    ((2, 3, 6, 7), (4, 3, 3, 3), (2, 4, 4, 3), {"stride": (1, 2)}),
)


def _conv_samples(make: Any, dtype: Any) -> Any:
    for n, (x, weight, _, params) in enumerate(_CASES):
        bias = (make.array(weight[:1], dtype),) if n % 2 == 0 else ()
        yield Sample((make.array(x, dtype), make.array(weight, dtype), *bias), dict(params))


def _refused(error: type[Exception], words: str, x: Sizes, weight: Sizes, *bias: Sizes, **params: Any) -> ErrorSample:  # fmt: skip
    return ErrorSample(
        error, words, lambda m: Sample(tuple(m.array(s, float32) for s in (x, weight, *bias)), params)
    )


@composite(
    kind="contract", rule=_conv_rule, samples=_conv_samples, ulp=SUM_BOUND, bind=_bind_conv, batch=batching.conv,
    bilinear=(_conv_x, _conv_weight, lambda g, bias: _bias_gradient(g)),
    errors=[
        _refused(ShapeError, r"conv: x of shape \(2, 3, 5\) has 3 channels on axis 1, weight of shape \(4, 2, 3\) with groups=1 needs 2",
                 (2, 3, 5), (4, 2, 3)),
        _refused(ShapeError, r"conv: x of shape \(2, 3, 5, 5\) has 2 spatial axes, weight of shape \(4, 3, 3\) must have as many",
                 (2, 3, 5, 5), (4, 3, 3)),
        _refused(ShapeError, "conv: x must have shape .*, with a spatial axis", (2, 3), (4, 3)),
        _refused(ShapeError, r"conv: bias must have shape \(4,\) for weight of shape \(4, 3, 3\), got \(1,\)", (2, 3, 5), (4, 3, 3), (1,)),
        _refused(ShapeError, r"conv: a window of 9 elements \(kernel \(3,\), dilation \(4,\)\) does not fit an axis of 5 with padding 1",
                 (2, 3, 5), (4, 3, 3), dilation=4, padding=1),
        _refused(ShapeError, "conv: groups=2 must divide axis 0 of weight", (2, 4, 5), (3, 2, 3), groups=2),
        _refused(ArgumentError, "conv: stride must be at least 1, got 0", (2, 3, 5), (4, 3, 3), stride=0),
        _refused(ArgumentError, r"conv: padding must be one integer or 1, one for each window axis, got \(1, 1\)",
                 (2, 3, 5), (4, 3, 3), padding=(1, 1)),
    ],
)  # fmt: skip
def conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    /,
    *,
    stride: PerAxis = 1,
    padding: PerAxis = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
) -> Tensor:
    """Correlation with ``weight`` over the spatial axes: x of shape (N, C, *S), weight (O, C / groups, *K) and bias (O,)
    give (N, O, *S').

    ``y[n, o, i] = bias[o] + sum of weight[o, c, k] x[n, c, i * stride + k * dilation - padding]`` over c and k, x being
    surrounded by ``padding`` zeros, and S' = (S + 2 padding - dilation (K - 1) - 1) // stride + 1. A parameter is one
    integer, or one for each spatial axis. ``groups`` splits the channels of both sides into as many separate
    convolutions. Every sum is bounded by n u sum|x| with n = C / groups |K| + 1 terms.

    Example: ``conv(x, weight, padding=1)`` for x of shape (8, 3, 28, 28) and weight of shape (16, 3, 3, 3) has shape
    (8, 16, 28, 28).
    """
    counts = conv_counts(x, weight, bias, stride, padding, dilation, groups)
    kernel, units = weight.shape[2:], weight.shape[0]
    columns = _columns(x, kernel, counts, stride, padding, dilation, groups)
    filters = reshape(weight, (groups, units // groups, columns.shape[2]))
    y = reshape(matmul(filters, columns), (x.shape[0], units, *counts))
    return _with_bias(y, bias)


# -- its transpose in x --------------------------------------------------------------------------------------


def _bind_transpose(
    x: Any, weight: Any, bias: Any = None, /, *, stride: Any = 1, padding: Any = 0, output_padding: Any = 0, dilation: Any = 1,
    groups: Any = 1,
) -> tuple[tuple[Any, ...], dict[str, Any]]:  # fmt: skip
    params = _canonical(
        "conv_transpose", x, groups, stride=stride, padding=padding, output_padding=output_padding, dilation=dilation
    )  # fmt: skip
    return (x, weight, bias), params


def conv_transpose_sizes(
    x: Any, weight: Any, bias: Any, stride: Sizes, padding: Sizes, output_padding: Sizes, dilation: Sizes, groups: int
) -> Sizes:  # fmt: skip
    """The spatial sizes of a transposed convolution's result; raises what ``conv_transpose`` refuses. Operands need only
    a ``shape``.
    """
    units = weight.shape[1] * groups if len(weight.shape) > 1 else 0
    _check("conv_transpose", x, weight, bias, weight.shape[0], units, groups)
    given = zip(
        x.shape[2:], extents(tuple(weight.shape[2:]), dilation), stride, padding, output_padding, strict=True
    )
    sizes = tuple((n - 1) * s - 2 * p + extent + more for n, extent, s, p, more in given)
    if min(sizes) < 1 or 0 in x.shape[2:]:
        raise ShapeError(
            f"conv_transpose: nothing is left of x of shape {x.shape}: weight of shape {weight.shape}, stride {stride}, padding "
            f"{padding}, output_padding {output_padding} and dilation {dilation} give the sizes {sizes}"
        )
    return sizes


@custom(FLOATING)
def _transpose_rule(op: Any, specs: Any, params: dict[str, Any]) -> Spec:
    x, weight, _ = specs
    sizes = conv_transpose_sizes(*specs, **params)
    return Spec((x.shape[0], weight.shape[1] * params["groups"], *sizes), common(op, specs))


def _transpose_x(g: Tensor, x: Spec, weight: Tensor, stride: Sizes, padding: Sizes, dilation: Sizes, groups: int) -> Tensor:  # fmt: skip
    y = conv(g, weight, stride=stride, padding=padding, dilation=dilation, groups=groups)
    return _cut(y, tuple(x.shape[2:]))


def _transpose_weight(g: Tensor, x: Tensor, weight: Spec, stride: Sizes, padding: Sizes, dilation: Sizes, groups: int) -> Tensor:  # fmt: skip
    return conv_weight_gradient(
        g, x, kernel_size=tuple(weight.shape[2:]), stride=stride, padding=padding, dilation=dilation, groups=groups
    )  # fmt: skip


_TRANSPOSED: tuple[Any, ...] = (
    ((2, 3, 4), (3, 4, 3), (4,), {}),
    ((1, 4, 3), (4, 1, 2), None, {"stride": 2, "padding": 1, "groups": 2, "output_padding": 1}),
    ((2, 2, 3, 2), (2, 3, 3, 2), (3,), {"padding": (1, 0), "stride": (2, 3), "output_padding": (1, 2)}),
    ((1, 2, 2, 3), (2, 2, 2, 2), (2,), {"stride": 1, "dilation": (2, 1), "output_padding": (3, 0)}),
    ((1, 1, 2, 1, 2), (1, 2, 1, 2, 2), None, {"stride": (1, 2, 1)}),
    ((1, 2, 1, 1), (2, 1, 2, 2), None, {"stride": 3, "output_padding": 4}),
    ((0, 2, 3, 3), (2, 3, 2, 2), (3,), {}),
    ((2, 3, 4, 5), (3, 2, 3, 3), (2,), {"stride": (1, 2)}),
)


def _transpose_samples(make: Any, dtype: Any) -> Any:
    for x, weight, bias, params in _TRANSPOSED:
        operands = [make.array(shape, dtype) for shape in (x, weight, bias) if shape is not None]
        yield Sample(tuple(operands), dict(params))


@composite(
    kind="contract", rule=_transpose_rule, samples=_transpose_samples, ulp=SUM_BOUND, bind=_bind_transpose, batch=batching.conv,
    bilinear=(_transpose_x, _transpose_weight, lambda g, bias: _bias_gradient(g)),
    errors=[
        _refused(ShapeError, r"conv_transpose: x of shape \(2, 3, 5\) has 3 channels on axis 1, weight of shape \(4, 2, 3\) with groups=1 needs 4",
                 (2, 3, 5), (4, 2, 3)),
        _refused(ShapeError, r"conv_transpose: bias must have shape \(4,\) for weight of shape \(4, 2, 3\), got \(2,\)",
                 (2, 4, 5), (4, 2, 3), (2,), groups=2),
        _refused(ShapeError, r"conv_transpose: nothing is left of x of shape \(2, 3, 2\): .* give the sizes \(-2,\)",
                 (2, 3, 2), (3, 2, 3), padding=3),
        _refused(ArgumentError, "conv_transpose: output_padding must be at least 0, got -1", (2, 3, 5), (3, 2, 3), output_padding=-1),
    ],
)  # fmt: skip
def conv_transpose(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    /,
    *,
    stride: PerAxis = 1,
    padding: PerAxis = 0,
    output_padding: PerAxis = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
) -> Tensor:
    """The transpose of ``conv`` in its first operand, plus a bias: x of shape (N, C, *S), weight (C, O / groups, *K) and
    bias (O,) give (N, O, *S').

    ``y[n, o, j] = bias[o] + sum of weight[c, o, k] x[n, c, i]`` over c and all i and k with ``j = i * stride + k *
    dilation - padding``, and S' = (S - 1) stride - 2 padding + dilation (K - 1) + 1 + output_padding: ``conv`` with the
    same parameters takes several sizes to one, and ``output_padding`` says to which one to return.

    Example: ``conv_transpose(x, weight, stride=2)`` for x of shape (8, 16, 14, 14) and weight of shape (16, 3, 2, 2) has shape
    (8, 3, 28, 28).
    """
    sizes = conv_transpose_sizes(x, weight, bias, stride, padding, output_padding, dilation, groups)
    kernel, units, n = weight.shape[2:], weight.shape[1], x.shape[0]
    filters = reshape(weight, (groups, weight.shape[0] // groups, units * math.prod(kernel)))
    y = matmul(permute_dims(filters, (0, -1, -2)), _grouped(x, groups))
    pairs = [size for pair in zip(kernel, x.shape[2:], strict=True) for size in pair]
    d = len(kernel)
    y = reshape(y, (n, groups * units, *kernel, *x.shape[2:]))
    if d > 1:
        y = permute_dims(y, (0, 1, *(2 + i + d * j for i in range(d) for j in range(2))))
    for i in reversed(range(d)):  # (..., kernel, windows, already put back) -> (..., size, already put back)
        axis = i - d
        lead, behind = (n, groups * units, *pairs[: 2 * i]), sizes[i + 1 :]
        parts = [
            reshape(narrow(y, axis - 1, k, 1), (*lead, x.shape[2 + i], *behind)) for k in range(kernel[i])
        ]
        y = overlapped(parts, axis, sizes[i], stride[i], padding[i], dilation[i])
    return _with_bias(y, bias)


# -- its transpose in weight ---------------------------------------------------------------------------------


def _bind_gradient(
    x: Any, cotangent: Any, /, *, kernel_size: Any, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: Any = 1
) -> tuple[tuple[Any, ...], dict[str, Any]]:  # fmt: skip
    params = _canonical(
        "conv_weight_gradient", x, groups, kernel_size=kernel_size, stride=stride, padding=padding, dilation=dilation
    )  # fmt: skip
    return (x, cotangent), params


def check_weight_gradient(
    x: Any, cotangent: Any, kernel_size: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes, groups: int
) -> None:
    """Raise what ``conv_weight_gradient`` refuses. Operands need only a ``shape``."""
    op = Caller("conv_weight_gradient")
    counts = window_counts(op, tuple(x.shape[2:]), kernel_size, stride, padding, dilation)
    found = cotangent.shape
    if len(found) != len(x.shape) or found[0] != x.shape[0] or any(a > b for a, b in zip(found[2:], counts, strict=True)):  # fmt: skip
        raise ShapeError(
            f"{op.name}: cotangent must have shape ({x.shape[0]}, O, *{counts}) for x of shape {x.shape}, or fewer windows, got {found}"
        )
    if x.shape[1] % groups or found[1] % groups:
        raise ShapeError(
            f"{op.name}: groups={groups} must divide axis 1 of x and cotangent, which have shapes {x.shape} and {found}"
        )


@custom(FLOATING)
def _gradient_rule(op: Any, specs: Any, params: dict[str, Any]) -> Spec:
    x, cotangent = specs
    check_weight_gradient(x, cotangent, **params)
    shape = (cotangent.shape[1], x.shape[1] // params["groups"], *params["kernel_size"])
    return Spec(shape, common(op, specs))


def _gradient_x(
    g: Tensor, x: Spec, cotangent: Tensor, kernel_size: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes, groups: int
) -> Tensor:  # fmt: skip
    missed = _missed(tuple(x.shape[2:]), cotangent.shape[2:], kernel_size, stride, padding, dilation)
    return conv_transpose(
        cotangent, g, stride=stride, padding=padding, output_padding=missed, dilation=dilation, groups=groups
    )


def _gradient_cotangent(
    g: Tensor, x: Tensor, cotangent: Spec, stride: Sizes, padding: Sizes, dilation: Sizes, groups: int
) -> Tensor:
    y = conv(x, g, stride=stride, padding=padding, dilation=dilation, groups=groups)
    return _cut(y, tuple(cotangent.shape[2:]))


def _gradient_samples(make: Any, dtype: Any) -> Any:
    for x, weight, result, params in _CASES:
        operands = (make.array(x, dtype), make.array(result, dtype))
        yield Sample(operands, {"kernel_size": weight[2:], **params})
    yield Sample((make.array((1, 2, 6), dtype), make.array((1, 2, 2), dtype)), {"kernel_size": 2})


@composite(
    kind="contract", rule=_gradient_rule, samples=_gradient_samples, ulp=SUM_BOUND, bind=_bind_gradient, batch=batching.conv_weight_gradient,
    bilinear=(_gradient_x, _gradient_cotangent),
    errors=[
        _refused(ShapeError, r"conv_weight_gradient: cotangent must have shape \(2, O, \*\(3,\)\) for x of shape \(2, 3, 5\), .*, got \(2, 4, 4\)",
                 (2, 3, 5), (2, 4, 4), kernel_size=3),
        _refused(ShapeError, "conv_weight_gradient: groups=2 must divide axis 1 of x and cotangent", (2, 3, 5), (2, 4, 3), kernel_size=3, groups=2),
        _refused(ArgumentError, "conv_weight_gradient: kernel_size must be at least 1, got 0", (2, 3, 5), (2, 4, 3), kernel_size=0),
    ],
)  # fmt: skip
def conv_weight_gradient(
    x: Tensor,
    cotangent: Tensor,
    /,
    *,
    kernel_size: PerAxis,
    stride: PerAxis = 1,
    padding: PerAxis = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
) -> Tensor:
    """The transpose of ``conv`` in its weight: x of shape (N, C, *S) and a cotangent of the result (N, O, *S') give
    (O, C / groups, *K), the sums over the examples and all windows.

    The cotangent may belong to fewer windows than fit, the first ones.
    """
    check_weight_gradient(x, cotangent, kernel_size, stride, padding, dilation, groups)
    columns = _columns(x, kernel_size, cotangent.shape[2:], stride, padding, dilation, groups)
    n, _, rows, count = columns.shape
    units = cotangent.shape[1]
    # (groups, O / groups, N |S'|) @ (groups, N |S'|, C / groups |K|)
    left = reshape(
        permute_dims(_grouped(cotangent, groups), (1, 2, 0, 3)), (groups, units // groups, n * count)
    )
    right = reshape(permute_dims(columns, (1, 0, 3, 2)), (groups, n * count, rows))
    return reshape(matmul(left, right), (units, x.shape[1] // groups, *kernel_size))
