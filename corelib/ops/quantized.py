"""Products of 8-bit integers, summed in 32 bits: exact, and so equal to the last bit on every backend. And the
way from numbers to integers and back, one kernel each.

The products' bodies compute with float32 products of at most 1024 terms: each is an integer of magnitude at most 2**14,
every partial sum one of at most 2**24, and float32 holds these exactly, in whatever order they are added. So a
backend without a kernel for int8 runs at the speed of its float32 product.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ..dispatch import composite
from ..dtypes import FLOATING, float32, float64, int8, int32
from ..errors import DTypeError, ShapeError
from ..op import calls
from ..rules import Spec, broadcast_shapes, common, custom
from ..samples import ErrorSample, Sample
from .contract import _matmul_rule, matmul
from .conv import PerAxis, _canonical, conv, conv_counts
from .elementwise import add, astype, divide, maximum, minimum, multiply, round, subtract
from .movement import narrow
from .pool import _CASES, _DILATED, _behind, _bind_max, _pooled, pool_counts
from .pool import _samples as _pool_samples
from .windows import framed, reduced_windows

if TYPE_CHECKING:
    from ..tensor import Tensor

TERMS = 1024  # 2**14 * 1024 = 2**24


@custom((int8,))
def _product_rule(op: Any, specs: Any, params: dict[str, Any]) -> Spec:
    return Spec(_matmul_rule.fn(op, specs, params).shape, int32)


def _product_samples(make: Any, dtype: Any) -> Any:
    for a, b in (
        ((3,), (3,)), ((2, 3), (3, 4)), ((5, 2, 3), (3, 4)), ((5, 2, 3), (5, 3, 4)), ((2, 0), (0, 3)), ((0, 2), (2, 3)), ((9, 33), (33, 5)),
    ):  # fmt: skip
        yield Sample((make.array(a, dtype, -128, 127), make.array(b, dtype, -128, 127)))
    yield Sample(
        (make.full((1, 2050), dtype, -128), make.full((2050, 1), dtype, -128))
    )  # the largest sums there are


@composite(
    kind="contract", rule=_product_rule, samples=_product_samples, ulp=0, nondiff="integers have no derivative",
    errors=[
        ErrorSample(ShapeError, r"int8_matmul: shapes \(2, 3\) and \(4, 5\) do not fit",
                    lambda m: Sample((m.array((2, 3), int8), m.array((4, 5), int8)))),
        ErrorSample(DTypeError, "int8_matmul does not accept float32, it needs one of int8",
                    lambda m: Sample((m.array((2, 3), float32), m.array((3, 2), float32)))),
    ],
)  # fmt: skip
def int8_matmul(x1: Tensor, x2: Tensor, /) -> Tensor:
    """The product of int8 matrices as int32, exactly (up to 131,071 terms, from where on int32 may wrap); shapes as
    in :func:`matmul`.

    Example: ``int8_matmul(asarray([[100, 100]], dtype=int8), asarray([[100], [-50]], dtype=int8)).tolist()`` is
    ``[[5000]]``.
    """
    axis = -2 if x2.ndim > 1 else -1
    terms = x1.shape[-1]

    def part(first: int) -> Tensor:
        count = min(TERMS, terms - first)
        a, b = (x1, x2) if count == terms else (narrow(x1, -1, first, count), narrow(x2, axis, first, count))
        return astype(matmul(astype(a, float32), astype(b, float32)), int32)

    total = part(0)
    for first in range(TERMS, terms, TERMS):
        total = add(total, part(first))
    return total


def _bind(
    x: Any, weight: Any, /, *, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: Any = 1
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    params = _canonical("int8_conv", x, groups, stride=stride, padding=padding, dilation=dilation)
    return (x, weight), params


@custom((int8,))
def _conv_rule(op: Any, specs: Any, params: dict[str, Any]) -> Spec:
    x, weight = specs
    counts = conv_counts(x, weight, None, **params)
    return Spec((specs[0].shape[0], specs[1].shape[0], *counts), int32)


def _conv_samples(make: Any, dtype: Any) -> Any:
    for x, weight, params in (
        ((2, 3, 5), (4, 3, 3), {"padding": 1}),
        ((2, 2, 5, 4), (3, 2, 3, 2), {"stride": (2, 1), "padding": (1, 0)}),
        ((1, 4, 7, 6), (6, 2, 3, 2), {"stride": (2, 3), "padding": 1, "dilation": (2, 1), "groups": 2}),
        ((0, 2, 4, 4), (3, 2, 3, 3), {}),
    ):
        yield Sample((make.array(x, dtype, -128, 127), make.array(weight, dtype, -128, 127)), params)
    yield Sample((make.full((1, 130, 3, 3), dtype, -128), make.full((1, 130, 3, 3), dtype, -128)))
    yield Sample((make.full((1, 1040, 1), dtype, 127), make.full((2, 520, 1), dtype, -127)), {"groups": 2})
    yield Sample((make.full((1, 2100, 1), dtype, 127), make.full((2, 1050, 1), dtype, -127)), {"groups": 2})


@composite(
    kind="contract", rule=_conv_rule, samples=_conv_samples, ulp=0, bind=_bind, nondiff="integers have no derivative",
    errors=[
        ErrorSample(ShapeError, "conv: x of shape .* has 3 channels on axis 1, weight of shape .* needs 2",
                    lambda m: Sample((m.array((2, 3, 5), int8), m.array((4, 2, 3), int8)))),
    ],
)  # fmt: skip
def int8_conv(
    x: Tensor, weight: Tensor, /, *, stride: PerAxis = 1, padding: PerAxis = 0, dilation: PerAxis = 1, groups: int = 1
) -> Tensor:  # fmt: skip
    """The correlation of int8 tensors as int32, exactly; shapes and parameters as in :func:`conv`, without a
    bias.

    Example: ``int8_conv(ones((1, 2, 4, 4), dtype=int8), ones((3, 2, 3, 3), dtype=int8))`` has shape (1, 3, 2, 2).
    """
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    conv_counts(x, weight, None, **options)
    window, channels = math.prod(weight.shape[2:]), weight.shape[1]
    if channels * window <= TERMS:
        step, dtype = channels, float32
    elif groups == 1 and window <= TERMS:
        step, dtype = TERMS // window, float32
    else:
        step, dtype = channels, float64  # whose sums are exact up to 2**39 terms

    def part(first: int) -> Tensor:
        count = min(step, channels - first)
        a, b = x, weight
        if count < channels:
            a, b = (narrow(t, 1 - t.ndim, first, count) for t in (x, weight))
        return astype(conv(astype(a, dtype), astype(b, dtype), **options), int32)

    total = part(0)
    for first in range(step, channels, step):
        total = add(total, part(first))
    return total


# -- to integers and back ------------------------------------------------------------------------------------


@custom(FLOATING)
def _quantize_rule(op: Any, specs: Any, params: dict[str, Any]) -> Spec:
    return Spec(_together(op, specs), int8)


def _together(op: Any, specs: Any) -> tuple[int, ...]:
    try:
        return broadcast_shapes(*(s.shape for s in specs))
    except ShapeError as error:
        raise ShapeError(f"{op.name}: {error}") from None


def _quantize_samples(make: Any, dtype: Any) -> Any:
    for shape, scale in (
        ((), ()),
        ((5,), ()),
        ((2, 3), (2, 1)),
        ((0, 3), ()),
        ((2, 3, 4, 4), (3, 1, 1)),
        ((33,), ()),
    ):
        for low in (-8, -7):
            zero = make.full(scale, dtype, 0.0 if low == -7 else 3.0)
            yield Sample(
                (make.array(shape, dtype, -9, 9), make.array(scale, dtype, 0.5, 2), zero),
                {"low": low, "high": 7},
            )


@composite(
    rule=_quantize_rule, samples=_quantize_samples, ulp=0, nondiff="rounding is piecewise constant",
    errors=[ErrorSample(ShapeError, r"int8_quantize: shapes \(2, 3\) and \(2,\) and \(\) do not broadcast",
                        lambda m: Sample((m.array((2, 3), float32), m.array((2,), float32), m.array((), float32)), {"low": -8, "high": 7}))],
)  # fmt: skip
def int8_quantize(x: Tensor, scale: Tensor, zero: Tensor, /, *, low: int, high: int) -> Tensor:
    """``round(x / scale) + zero``, kept within [low, high], as int8: ties go to the even number. Operands broadcast."""
    q = add(round(divide(x, scale)), zero)
    return astype(minimum(maximum(q, float(low)), float(high)), int8)


@custom(FLOATING, joint=(2, 3), fixed={0: int32, 1: int32})
def _rescale_rule(op: Any, specs: Any, params: dict[str, Any]) -> Spec:
    return Spec(_together(op, specs), common(op, specs, (2, 3)))


def _rescale_samples(make: Any, dtype: Any) -> Any:
    for shape in ((), (5,), (2, 3), (0, 3), (2, 33)):
        for relu in (False, True):
            total, offset = make.array(shape, int32, -999, 999), make.array(shape, int32, -99, 99)
            scale, bias = make.array(shape, dtype, 0.01, 0.1), make.array(shape, dtype, 100, 200)
            yield Sample((total, offset, scale, bias), {"relu": relu})


@composite(
    rule=_rescale_rule, samples=_rescale_samples, ulp=4, nondiff="integers have no derivative",
    errors=[ErrorSample(DTypeError, "int8_rescale: total must have int32, got float32",
                        lambda m: Sample((m.array((2,), float32), m.array((2,), int32), *[m.array((2,), float32)] * 2), {"relu": False}))],
)  # fmt: skip
def int8_rescale(total: Tensor, offset: Tensor, scale: Tensor, bias: Tensor, /, *, relu: bool) -> Tensor:
    """``scale (total - offset) + bias``, or with ``relu`` 0 where that is negative: from a sum of products of
    integers to what it stands for. ``total`` and ``offset`` are int32; operands broadcast.
    """
    y = add(multiply(astype(subtract(total, offset), scale.dtype), scale), bias)
    return maximum(y, 0.0) if relu else y


# -- layers between integers -----------------------------------------------------------------------------------


def _bind_layer(
    x: Any, weight: Any, offset: Any, scale: Any, bias: Any, next_scale: Any = None, next_zero: Any = None, /, *, stride: Any = 1,
    padding: Any = 0, dilation: Any = 1, groups: Any = 1, frame: int = 0, relu: bool = False, low: int = -128, high: int = 127,
) -> tuple[tuple[Any, ...], dict[str, Any]]:  # fmt: skip
    params = _canonical("quantized_conv", x, groups, stride=stride, padding=padding, dilation=dilation)
    params |= {"frame": int(frame), "relu": bool(relu), "low": int(low), "high": int(high)}
    return (x, weight, offset, scale, bias, next_scale, next_zero), params


@custom(FLOATING, joint=(3, 4, 5, 6), fixed={0: int8, 1: int8, 2: int32})
def _layer_rule(op: Any, specs: Any, params: dict[str, Any]) -> Spec:
    x, weight, *units = specs
    options = {name: params[name] for name in ("stride", "padding", "dilation", "groups")}
    counts = conv_counts(x, weight, None, **options)
    for name, spec in zip(("offset", "scale", "bias"), units, strict=False):
        if spec.shape != (weight.shape[0],):
            raise ShapeError(
                f"{op.name}: {name} must have shape {(weight.shape[0],)}, one number for each unit of weight, got {spec.shape}"
            )
    following = [s for s in units[3:] if s]
    if len(following) == 1 or any(s.shape for s in following):
        raise ShapeError(f"{op.name}: next_scale and next_zero must both have shape (), or both be None")
    return Spec((x.shape[0], weight.shape[0], *counts), int8 if following else common(op, specs, (3, 4)))


def _layer_samples(make: Any, dtype: Any) -> Any:
    for x, weight, params in (
        ((2, 3, 5), (4, 3, 3), {"padding": 1, "frame": -3}),
        ((2, 5, 5, 4), (3, 5, 3, 2), {"stride": (2, 1), "padding": (1, 0), "relu": True}),
        (
            (1, 4, 7, 6),
            (6, 2, 3, 2),
            {"stride": (2, 3), "padding": 1, "dilation": (2, 1), "groups": 2, "frame": 100},
        ),
        ((9, 6, 6, 6), (10, 6, 3, 3), {"padding": 1, "relu": True}),
        ((0, 2, 4, 4), (3, 2, 3, 3), {}),
    ):
        units = weight[:1]
        numbers = (
            make.array(x, int8, -128, 127),
            make.array(weight, int8, -128, 127),
            make.array(units, int32, -999, 999),
        )
        # powers of two, so that nothing is rounded before the last step and no last bit decides which integer is next
        line = (make.full(units, dtype, 2.0**-9), make.full(units, dtype, 3.0))
        yield Sample((*numbers, *line), params)
        following = (make.full((), dtype, 0.5), make.full((), dtype, -2.0))
        yield Sample((*numbers, *line, *following), {**params, "low": -100, "high": 99})


@composite(
    kind="contract", rule=_layer_rule, samples=_layer_samples, ulp=4, bind=_bind_layer, nondiff="integers have no derivative",
    errors=[
        ErrorSample(ShapeError, r"quantized_conv: scale must have shape \(4,\), one number for each unit of weight, got \(3,\)",
                    lambda m: Sample((m.array((1, 2, 5), int8), m.array((4, 2, 3), int8), m.array((4,), int32), m.array((3,), float32),
                                      m.array((4,), float32)))),
    ],
)  # fmt: skip
def quantized_conv(
    x: Tensor, weight: Tensor, offset: Tensor, scale: Tensor, bias: Tensor, next_scale: Tensor | None = None,
    next_zero: Tensor | None = None, /, *, stride: PerAxis = 1, padding: PerAxis = 0, dilation: PerAxis = 1, groups: int = 1, frame: int = 0,
    relu: bool = False, low: int = -128, high: int = 127,
) -> Tensor:  # fmt: skip
    """A convolution of int8 as a layer: :func:`int8_conv` of x with ``frame`` around it, then :func:`int8_rescale` by
    ``offset`` (int32), ``scale`` and ``bias``, each of shape (O,), and where ``next_scale`` and ``next_zero`` of shape ()
    are given, :func:`int8_quantize` by them. The result is int8 then, and else has the scale's dtype.

    Example: ``quantized_conv(ones((2, 3, 8, 8), dtype=int8), ones((4, 3, 3, 3), dtype=int8), zeros(4, dtype=int32), ones(4),
    zeros(4), padding=1)`` has shape (2, 4, 8, 8).
    """
    d = x.ndim - 2
    around: Any = (padding,) * d if isinstance(padding, int) else padding
    if any(around):
        x = calls.pad(x, ((0, 0), (0, 0), *((p, p) for p in around)), constant_values=frame)
    total = int8_conv(x, weight, stride=stride, dilation=dilation, groups=groups)
    line = [calls.reshape(t, (-1, *(1,) * d)) for t in (offset, scale, bias)]
    y = int8_rescale(total, *line, relu=relu)
    if next_scale is None or next_zero is None:
        return y
    return int8_quantize(y, next_scale, next_zero, low=low, high=high)


@custom((int8,))
def _pool_rule(op: Any, specs: Any, params: dict[str, Any]) -> Spec:
    return Spec(_pooled(op, specs[0], params), int8)


@composite(
    kind="opaque", rule=_pool_rule, samples=_pool_samples((*_DILATED, *_CASES)), ulp=0, bind=_bind_max("int8_max_pool"),
    nondiff="integers have no derivative", moves=False, leading=True,
    errors=[ErrorSample(ShapeError, "int8_max_pool: a window of 4 elements .* does not fit an axis of 3 with padding 0",
                        lambda m: Sample((m.array((1, 2, 3), int8),), {"kernel_size": 4}))],
)  # fmt: skip
def int8_max_pool(
    x: Tensor, /, *, kernel_size: PerAxis, stride: PerAxis = None, padding: PerAxis = 0, dilation: PerAxis = 1,
    ceil_mode: bool = False,
) -> Tensor:  # fmt: skip
    """The largest element of each window of int8 numbers; shapes and parameters as in :func:`max_pool`.

    Example: ``int8_max_pool(ones((1, 2, 4, 4), dtype=int8), kernel_size=2)`` has shape (1, 2, 2, 2).
    """
    counts = pool_counts("int8_max_pool", x, kernel_size, stride, padding, dilation, ceil_mode)
    behind = _behind(x.shape[x.ndim - len(counts) :], counts, kernel_size, stride, padding, dilation)
    return reduced_windows(framed(x, padding, behind, -128), kernel_size, counts, stride, dilation, maximum)


__all__ = ["int8_conv", "int8_matmul", "int8_max_pool", "int8_quantize", "int8_rescale", "quantized_conv"]
