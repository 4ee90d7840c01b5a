"""Convolution and its gradients by the kernels of conv.cu: which launches make them up, and the numbers that these get.

A transposed convolution is a convolution of stride 1 for each class of results that share a rest modulo the stride: only
the kernel's elements that meet it take part. The weight's gradient is one sum over all windows, formed in parts where it
would keep too few blocks busy.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from math import gcd, prod
from typing import Any

import numpy as np

from corelib.plugin_api import dtypes

from . import launch
from .attention import computed_in
from .copy import contiguous
from .half import NAMES as HALF
from .half import named, storage, stored
from .launch import cupy
from .movement import cast
from .reduce import WANTED_BLOCKS, reduction

Sizes = tuple[int, ...]
TILE = 64  # rows and columns of results of a block, as in conv.cu
THREADS = 256
PART = 1024  # least terms of a sum that are worth a part of their own
LIMIT = 2**31  # columns and terms are counted in 32 bits
TENSOR_CORES = 80  # the compute capability from which the tensor cores take both 16-bit dtypes

DIVIDER = np.dtype([(name, np.uint32) for name in ("size", "multiplier", "shift", "unused")])
CASE = np.dtype([
    ("count", DIVIDER, 3), ("tap", DIVIDER, 3),
    *((name, np.int64, 3) for name in ("size", "step", "reach", "offset")),
    *((name, np.int64) for name in ("groups", "rows", "channels", "examples", "columns", "depth", "parts", "part")),
    ("weight", np.int64, 6), ("weight_first", np.int64), ("out", np.int64, 4), ("out_first", np.int64), ("out_size", np.int64),
])  # fmt: skip
ENTRIES = {  # kernel: template and parameters before the case, T being the arrays' type and A that of the sums
    "convolve": (
        "convolve<TYPES, false>",
        "const T* weight, const T* x, const T* bias, T* y, int32 has_bias",
    ),
    "convolve_transposed": (
        "convolve<TYPES, true>",
        "const T* weight, const T* x, const T* bias, T* y, int32 has_bias",
    ),
    "weight_gradient": ("weight_gradient<TYPES>", "const T* x, const T* g, A* y"),
}


@functools.cache
def kernel(name: str, dtype: str, tensor: bool) -> launch.Kernel:
    template, parameters = ENTRIES[name]
    parameters = parameters.replace("T*", f"{dtype}*").replace("A*", f"{computed_in(dtype)}*")
    names = ", ".join(p.split()[-1] for p in parameters.split(","))
    entry_name = f"{name}_{dtype}{'_tensor' if tensor else ''}"
    types = f"{dtype}, {computed_in(dtype)}, {'true' if tensor else 'false'}"
    entry = (
        f'extern "C" __global__ void __launch_bounds__({THREADS}, 1) {entry_name}({parameters}, '
        f"const __grid_constant__ Case c) {{ {template.replace('TYPES', types)}({names}, c); }}"
    )
    return launch.Kernel("conv.cu", entry_name, entry)


def every_kernel() -> Iterator[launch.Kernel]:
    """Each kernel of conv.cu: what the tests compile."""
    for dtype in (*dtypes.FLOATING, *dtypes.HALF):
        for name in ENTRIES:
            yield kernel(name, dtype.name, False)
            if dtype in dtypes.HALF:
                yield kernel(name, dtype.name, True)


def divider(size: int) -> tuple[int, int, int, int]:
    """What `Divider` of conv.cu multiplies with and shifts by: n // size for n below 2**31."""
    shift = (size - 1).bit_length()
    return size, (2**32 * (2**shift - size)) // size + 1, shift, 0


def three(sizes: Sizes, value: int) -> Sizes:
    """One to three numbers for the spatial axes as three, ``value`` for the axes that are not there."""
    return (value,) * (3 - len(sizes)) + tuple(sizes)


def steps(sizes: Sizes) -> Sizes:
    """Strides of a dense array of three axes."""
    return (sizes[1] * sizes[2], sizes[2], 1)


def _case(count: Sizes, tap: Sizes, size: Sizes, **numbers: Any) -> Any:
    struct = np.zeros(1, CASE)
    one = struct[0]
    one["count"], one["tap"] = [divider(n) for n in count], [divider(n) for n in tap]
    one["size"] = size
    for name, value in numbers.items():
        one[name] = value
    return struct


def _launch(name: str, dtype: str, case: Any, *arguments: Any) -> None:
    one = case[0]
    tiles = -(-int(one["rows"]) // TILE) * -(-int(one["columns"]) // TILE)
    blocks = tiles * int(one["groups"]) * int(one["parts"])
    if blocks > launch.MAX_BLOCKS:
        raise ValueError(f"{name}: {blocks} blocks are more than CUDA can launch")
    tensor = dtype in HALF and launch.capability(launch.current_device()) >= TENSOR_CORES
    kernel(name, dtype, tensor)((blocks,), (THREADS,), (*arguments, case))


def _spatial(x: Any, weight_ndim: int) -> bool:
    return x.ndim == weight_ndim and 3 <= x.ndim <= 5 and 0 not in x.shape


def _array(x: Any) -> Any:
    return contiguous(stored(x))


def make_conv(dtype: str, body: Callable[..., Any]) -> Callable[..., Any]:
    """The kernel of `conv`, with the op's body for what it refuses and for sizes beyond 32 bits."""

    def conv(
        x: Any,
        weight: Any,
        bias: Any = None,
        /,
        *,
        stride: Sizes,
        padding: Sizes,
        dilation: Sizes,
        groups: int,
    ) -> Any:
        otherwise = functools.partial(
            body, x, weight, bias, stride=stride, padding=padding, dilation=dilation, groups=groups
        )
        given, w = stored(x), stored(weight)
        if (
            not _spatial(given, w.ndim)
            or 0 in w.shape
            or given.shape[1] != w.shape[1] * groups
            or w.shape[0] % groups
        ):
            return otherwise()
        size, tap = three(x.shape[2:], 1), three(weight.shape[2:], 1)
        step, reach, before = three(stride, 1), three(dilation, 1), three(padding, 0)
        count = tuple(
            (n + 2 * p - (k - 1) * d - 1) // s + 1
            for n, k, s, d, p in zip(size, tap, step, reach, before, strict=True)
        )
        examples, units, channels = x.shape[0], weight.shape[0], weight.shape[1]
        if min(count) < 1 or (bias is not None and bias.shape != (units,)):
            return otherwise()
        columns, depth = examples * prod(count), channels * prod(tap)
        if max(columns, depth) >= LIMIT:
            return otherwise()
        out = cupy().ndarray((examples, units, *count[5 - given.ndim :]), storage(dtype))
        a, b, c = steps(tap)
        case = _case(
            count, tap, size, step=step, reach=reach, offset=[-p for p in before], groups=groups, rows=units // groups,
            channels=channels, examples=examples, columns=columns, depth=depth, parts=1, part=-(-depth // 32) * 32,
            weight=(units // groups * depth, depth, prod(tap), a, b, c), out=(prod(count), *steps(count)), out_size=prod(count),
        )  # fmt: skip
        arguments = (
            _array(weight),
            _array(x),
            out if bias is None else _array(bias),
            out,
            np.int32(bias is not None),
        )
        _launch("convolve", dtype, case, *arguments)
        return named(out, dtypes.as_dtype(dtype))

    return conv


def classes(
    size: int, taps: int, stride: int, dilation: int, padding: int
) -> Iterator[tuple[int, int, int, int, int, int]]:
    """The results of a transposed convolution along an axis, by their rest modulo the stride: (first result, how many, first
    tap, taps, the tap's step, place in the source of the first result's first tap). From tap to tap the place falls by
    ``dilation // gcd(dilation, stride)``.
    """
    common = gcd(dilation, stride)
    for rest in range(min(stride, size)):
        found = [
            k for k in range(min(taps, stride // common)) if (rest + padding - k * dilation) % stride == 0
        ]
        count, every = -(-(size - rest) // stride), stride // common
        if found:
            first = found[0]
            yield (
                rest,
                count,
                first,
                -(-(taps - first) // every),
                every,
                (rest + padding - first * dilation) // stride,
            )
        else:
            yield rest, count, 0, 0, every, 0


def make_conv_transpose(dtype: str, body: Callable[..., Any]) -> Callable[..., Any]:
    """The kernel of `conv_transpose`, with the op's body for what it refuses and for sizes beyond 32 bits."""

    def conv_transpose(
        x: Any, weight: Any, bias: Any = None, /, *, stride: Sizes, padding: Sizes, output_padding: Sizes,
        dilation: Sizes, groups: int,
    ) -> Any:  # fmt: skip
        otherwise = functools.partial(
            body, x, weight, bias, stride=stride, padding=padding, output_padding=output_padding, dilation=dilation, groups=groups
        )  # fmt: skip
        given, w = stored(x), stored(weight)
        if (
            not _spatial(given, w.ndim)
            or 0 in w.shape
            or given.shape[1] != w.shape[0]
            or given.shape[1] % groups
        ):
            return otherwise()
        size, tap = three(x.shape[2:], 1), three(weight.shape[2:], 1)
        s, d, p = three(stride, 1), three(dilation, 1), three(padding, 0)
        result = tuple(
            (n - 1) * a - 2 * b + (k - 1) * c + 1 + more
            for n, a, b, k, c, more in zip(size, s, p, tap, d, three(output_padding, 0), strict=True)
        )
        examples, channels, units = x.shape[0], x.shape[1] // groups, weight.shape[1]
        if min(result) < 1 or (bias is not None and bias.shape != (units * groups,)):
            return otherwise()
        if max(examples * prod(result), channels * prod(tap)) >= LIMIT:
            return otherwise()
        out = cupy().ndarray((examples, units * groups, *result[5 - given.ndim :]), storage(dtype))
        arrays = (
            _array(weight),
            _array(x),
            out if bias is None else _array(bias),
            out,
            np.int32(bias is not None),
        )
        reach = [-(c // gcd(c, a)) for c, a in zip(d, s, strict=True)]
        taps = prod(tap)
        for axes in itertools.product(*itertools.starmap(classes, zip(result, tap, s, d, p, strict=True))):
            first, count, k, number, every, offset = zip(*axes, strict=True)
            a, b, c = steps(tap)
            q, r, t = steps(result)
            case = _case(
                count, [max(n, 1) for n in number], size, step=(1, 1, 1), reach=reach, offset=offset, groups=groups, rows=units,
                channels=channels, examples=examples, columns=examples * prod(count), depth=channels * prod(number), parts=1,
                part=-(-channels * prod(number) // 32) * 32, weight_first=k[0] * a + k[1] * b + k[2] * c,
                weight=(channels * units * taps, taps, units * taps, a * every[0], b * every[1], c * every[2]),
                out=(prod(result), q * s[0], r * s[1], t * s[2]), out_first=first[0] * q + first[1] * r + first[2] * t,
                out_size=prod(result),
            )  # fmt: skip
            _launch("convolve_transposed", dtype, case, *arrays)
        return named(out, dtypes.as_dtype(dtype))

    return conv_transpose


def make_conv_weight_gradient(dtype: str, body: Callable[..., Any]) -> Callable[..., Any]:
    """The kernel of `conv_weight_gradient`, with the op's body for what it refuses and for sizes beyond 32 bits."""

    def conv_weight_gradient(
        x: Any,
        cotangent: Any,
        /,
        *,
        kernel_size: Sizes,
        stride: Sizes,
        padding: Sizes,
        dilation: Sizes,
        groups: int,
    ) -> Any:
        otherwise = functools.partial(
            body, x, cotangent, kernel_size=kernel_size, stride=stride, padding=padding, dilation=dilation, groups=groups
        )  # fmt: skip
        given, g = stored(x), stored(cotangent)
        if not _spatial(given, g.ndim) or 0 in g.shape or len(kernel_size) != given.ndim - 2:
            return otherwise()
        if given.shape[0] != g.shape[0] or given.shape[1] % groups or g.shape[1] % groups:
            return otherwise()
        size, tap, count = three(x.shape[2:], 1), three(kernel_size, 1), three(cotangent.shape[2:], 1)
        step, reach, before = three(stride, 1), three(dilation, 1), three(padding, 0)
        most = [
            (n + 2 * p - (k - 1) * d - 1) // s + 1
            for n, k, s, d, p in zip(size, tap, step, reach, before, strict=True)
        ]
        if any(a > b for a, b in zip(count, most, strict=True)):
            return otherwise()
        channels, rows = x.shape[1] // groups, cotangent.shape[1] // groups
        columns, depth = channels * prod(tap), x.shape[0] * prod(count)
        if max(columns, depth) >= LIMIT:
            return otherwise()
        tiles = groups * -(-rows // TILE) * -(-columns // TILE)
        parts = max(1, min(WANTED_BLOCKS // tiles, depth // PART))
        part = -(-depth // parts // 32) * 32 + 32 if parts > 1 else -(-depth // 32) * 32
        parts = -(-depth // part)
        case = _case(
            count, tap, size, step=step, reach=reach, offset=[-p for p in before], groups=groups, rows=rows, channels=channels,
            examples=x.shape[0], columns=columns, depth=depth, parts=parts, part=part, out_size=prod(count),
        )  # fmt: skip
        sums = cupy().ndarray((parts, groups * rows, channels, *kernel_size), np.dtype(computed_in(dtype)))
        _launch("weight_gradient", dtype, case, _array(x), _array(cotangent), sums)
        name = sums.dtype.name
        whole = (
            sums.reshape(sums.shape[1:])
            if parts == 1
            else reduction("sum", name, name)(sums, (-sums.ndim,), False)
        )
        return cast(whole, dtype)

    return conv_weight_gradient
