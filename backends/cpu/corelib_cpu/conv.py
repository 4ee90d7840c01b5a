"""Convolution and its two transposes on the tiles of gemm.py, without a matrix of windows in memory.

A thread copies one image into scratch memory with zeros around it. There the row of the matrix of windows that belongs
to a channel and a tap is the image itself, moved by the tap's place: a tile takes it from a table of offsets. With a
stride s the image is kept as s parts along that axis, part r with the elements r, r + s, ..., so that the elements that
neighbouring windows meet with a tap still stand side by side. Windows are counted along the rows of the image with zeros,
so a tile goes on from one row to the next, and what lies between the last window of a row and the first of the next is
computed and left out.

The transpose in x is a convolution without stride for each part of its result, with those taps that reach it. The
transpose in weight sums over windows: there the image has its channels side by side, and the table has the windows.

Up to three spatial axes are done here, in float32 and float64; the rest is left to the ops' bodies.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy import ndarray

from . import launch as team
from . import native, pool
from .gemm import PARTS, geometry, scratch

Sizes = tuple[int, ...]
WORTHWHILE = 1 << 20  # multiplications from which a kernel is compiled
COLUMNS = 1024  # columns of a block of windows, whose results wait in the first two caches
NARROW = 8  # columns of a panel below which the transpose in weight is left to its body
TOGETHER = 512  # windows that a tile's weights meet at least, if there are as many in the images
WINDOWS = 256  # windows that pass at a time in the transpose in weight

# Words: packed weights, weights, bytes from group to group, from unit to unit, units of a group, taps in all, a table of
# runs (bytes from the start, from tap to tap, taps), how many. A unit of work is a tile's rows of a group.
_PACK = """
pack = panel_packer(T, HEIGHT, LANES)

def kernel(lo, hi, args):
    words = at_int64(args)
    tiles = (words[4] + HEIGHT - 1) // HEIGHT
    runs = at_int64(words[6])
    for unit in range(lo, hi):
        group = unit // tiles
        first = (unit - group * tiles) * HEIGHT
        source = words[1] + group * words[2] + first * words[3]
        out = words[0] + unit * HEIGHT * words[5] * SIZE
        for run in range(words[7]):
            depth = runs[3 * run + 2]
            pack(out, source + runs[3 * run], runs[3 * run + 1], words[3], min(words[4] - first, HEIGHT), depth)
            out += depth * HEIGHT * SIZE
"""
# Words: result, x, packed weights, bias or 0, the layout, then the threads' scratch. A unit is a part of the result's
# units of one group of some images. See _layout for the layout's words.
_CONVOLVE = """
tile = matrix_tile(T, HEIGHT, VECTORS, LANES, True, False, True)

@inline
def fill(image, x, of):
    # the image of a group with zeros around it, in parts by the remainder of each place
    plane = of[18] * of[19] * of[20]
    zeros = at_T(image)
    if of[21]:
        for i in range(of[2] * of[15] * of[16] * of[17] * plane):
            zeros[i] = 0
    for c in range(of[2]):
        for i0 in range(of[9]):
            p0 = i0 + of[12]
            if p0 < 0 or p0 >= of[18] * of[15]:
                continue
            for i1 in range(of[10]):
                p1 = i1 + of[13]
                if p1 < 0 or p1 >= of[19] * of[16]:
                    continue
                part = ((c * of[15] + p0 % of[15]) * of[16] + p1 % of[16]) * of[17] * plane
                place = part + ((p0 // of[15]) * of[19] + p1 // of[16]) * of[20]
                source = x + c * of[5] + i0 * of[6] + i1 * of[7]
                if of[17] == 1 and of[8] == SIZE:
                    out, row = at_T(image + (place + of[14]) * SIZE), at_T(source)
                    for i in range(max(0, -of[14]), min(of[11], of[20] - of[14])):
                        out[i] = row[i]
                else:
                    for remainder in range(of[17]):
                        i = remainder - of[14]
                        while i < 0:
                            i += of[17]
                        q = (i + of[14]) // of[17]
                        out = at_T(image + (place + remainder * plane + q) * SIZE)
                        last = min((of[11] - i + of[17] - 1) // of[17], of[20] - q)
                        for j in range(last):
                            out[j] = at_T(source + (i + j * of[17]) * of[8])[0]

@inline
def block(a, start, case, buffer, rows, length, out, apart, bias, o, height):
    # some rows of windows and a tile's rows of units, from there to the result
    line, taps = at_T(buffer), case[0]
    for j in range(0, (rows - 1) * length + case[5], WIDTH):
        if taps:
            tile(a, 0, 0, start + j * SIZE, case[1], taps, buffer + j * SIZE, ROW * SIZE, 0, 0, 0)
        else:
            for i in range(HEIGHT * WIDTH):
                line[i // WIDTH * ROW + j + i % WIDTH] = 0
    for i in range(height):
        more = at_T(bias + (o + i) * SIZE)[0] if bias else T_ZERO
        for r in range(rows):
            found = at_T(buffer + (i * ROW + r * length) * SIZE)
            place = out + i * apart + r * case[8]
            if case[9] == SIZE:
                target = at_T(place)
                for q in range(case[5]):
                    target[q] = found[q] + more
            else:
                for q in range(case[5]):
                    at_T(place + q * case[9])[0] = found[q] + more

def kernel(lo, hi, args):
    words = at_int64(args)
    of = at_int64(words[4])
    groups, channels, units, parts = of[1], of[2], of[3], of[24]
    tiles = (units + HEIGHT - 1) // HEIGHT
    slot = take_slot(words[5], words[8])
    image = words[6] + slot * words[7]
    buffer = image + of[25] * of[27]
    filled = -1
    for unit in range(lo, hi):
        which = unit // parts
        part = unit - which * parts
        first = which // groups
        g = which - first * groups
        first *= of[27]
        images = min(of[0] - first, of[27])
        if filled != which:
            filled = which
            for n in range(images):
                fill(image + n * of[25], words[1] + (first + n) * of[4] + g * channels * of[5], of)
        for s in range(of[26]):
            case = at_int64(words[4] + (32 + 12 * s) * 8)
            taps, weights = case[0], words[2] + case[2]
            for i0 in range(case[3]):
                row = 0
                while row < case[4]:
                    rows = min(case[4] - row, case[10])
                    for t in range(tiles * part // parts, tiles * (part + 1) // parts):
                        a = weights + (g * tiles + t) * taps * HEIGHT * SIZE
                        o = g * units + t * HEIGHT
                        for n in range(images):
                            start = image + n * of[25] + (i0 * of[19] + row) * of[20] * SIZE
                            out = words[0] + (first + n) * of[22] + o * of[23] + case[6] + i0 * case[7] + row * case[8]
                            block(a, start, case, buffer, rows, of[20], out, of[23], words[3], o, min(units - t * HEIGHT, HEIGHT))
                    row += rows
    free_slot(words[5], slot)
"""
# Words: result, x, cotangent, the layout, a table of windows, a table of taps, then the threads' scratch. A unit is a
# part of a group's units and a panel of its channels. Of few channels the panel has those of FOLD neighbouring elements,
# which are taps of the last axis.
_WEIGHT = """
pack_units, pack_channels = panel_packer(T, HEIGHT, LANES), panel_packer(T, CHANNELS, LANES)
tile = matrix_tile(T, HEIGHT, VECTORS, LANES, True, False, True)

def kernel(lo, hi, args):
    words = at_int64(args)
    of = at_int64(words[3])
    images, groups, channels, units, windows, taps, parts = of[0], of[1], of[2], of[3], of[16], of[17], of[18]
    tiles, panels = (units + HEIGHT - 1) // HEIGHT, (channels + WIDTH - 1) // WIDTH
    slot = take_slot(words[6], words[9])
    image = words[7] + slot * words[8]
    a, sums = image + of[19], image + of[20]
    tap_places = at_int64(words[5])
    for unit in range(lo, hi):
        rest = unit // parts
        part = unit - rest * parts
        g = rest // panels
        panel = rest - g * panels
        first, last = tiles * part // parts, tiles * (part + 1) // parts
        width = min(channels - panel * WIDTH, WIDTH)
        zeros, values = at_T(image), at_T(sums)
        for i in range((of[19]) // SIZE):
            zeros[i] = 0
        for i in range((last - first) * taps * HEIGHT * WIDTH):
            values[i] = 0
        for n in range(images):
            source = words[1] + n * of[4] + (g * channels + panel * WIDTH) * of[5]
            for i0 in range(of[9]):
                for i1 in range(of[10]):
                    place = image + (((i0 + of[12]) * of[21] + i1 + of[13]) * of[22] + of[14]) * CHANNELS * SIZE
                    pack_channels(place, source + i0 * of[6] + i1 * of[7], of[8], of[5], width, of[11])
                    if CHANNELS < LANES:  # stores have spilled over the row's end
                        zeros = at_T(place + of[11] * CHANNELS * SIZE)
                        for i in range(LANES):
                            zeros[i] = 0
            for t in range(first, last):
                at_g = words[2] + n * of[23] + (g * units + t * HEIGHT) * of[24]
                pack_units(a + (t - first) * windows * HEIGHT * SIZE, at_g, SIZE, of[24], min(units - t * HEIGHT, HEIGHT), windows)
            for w in range(0, windows, PASSING):
                count = min(windows - w, PASSING)
                for tap in range(taps):
                    b = image + tap_places[tap]
                    for t in range(last - first):
                        c = sums + (tap * (last - first) + t) * HEIGHT * WIDTH * SIZE
                        tile(a + (t * windows + w) * HEIGHT * SIZE, 0, 0, b, words[4] + w * 8, count, c, WIDTH * SIZE, 1, 0, 0)
        for tap in range(taps):
            for t in range(last - first):
                for i in range(min(units - (first + t) * HEIGHT, HEIGHT)):
                    o = g * units + (first + t) * HEIGHT + i
                    for k in range(FOLD):
                        for c in range(width):
                            out = words[0] + (((o * channels + panel * WIDTH + c) * taps + tap) * FOLD + k) * SIZE
                            at_T(out)[0] = values[((tap * (last - first) + t) * HEIGHT + i) * WIDTH + k * CHANNELS + c]
    free_slot(words[6], slot)
"""
_SOURCES = {"pack": _PACK, "convolve": _CONVOLVE, "weight": _WEIGHT}


@cache
def _kernel(name: str, dtype: str, height: int, vectors: int, channels: int = 0, fold: int = 1) -> int:
    shape = geometry(dtype)
    width = vectors * shape.lanes
    head = f"""
T, SIZE, LANES, HEIGHT = {dtype!r}, {np.dtype(dtype).itemsize}, {shape.lanes}, {height}
VECTORS, WIDTH, ROW, PASSING, T_ZERO, at_T = {vectors}, {width}, {COLUMNS + width}, {WINDOWS}, {dtype}(0), at_{dtype}
CHANNELS, FOLD = {channels or width}, {fold}
"""
    return native.address(head + _SOURCES[name])


def _tile(dtype: str, units: int) -> tuple[int, int]:
    """Rows and vectors of a tile; few units, as in a depthwise convolution, get a wide and low one."""
    shape = geometry(dtype)
    if units < 5:
        height = 1 << (units - 1).bit_length()
        return height, min(shape.registers // (2 * height), 8)
    return shape.direct_height, shape.vectors


def _three(sizes: Sizes, value: int) -> Sizes:
    return (value,) * (3 - len(sizes)) + tuple(sizes)


def _steps(x: ndarray) -> Sizes:
    """Bytes along the images, the channels and three spatial axes."""
    return (*x.strides[:2], *_three(x.strides[2:], 0))


def _packed(
    weight: ndarray, group: int, unit: int, groups: int, units: int, runs: list[Sizes], height: int
) -> ndarray:
    """The weights of each tile's rows with a tap's side by side: steps in bytes, runs of taps in their order."""
    taps = sum(run[2] for run in runs)
    tiles = groups * -(-units // height)
    size = (tiles * height * taps + 64) * weight.itemsize
    out = pool.empty((size // weight.itemsize,), weight.dtype, size)
    table = np.array(runs, np.int64)
    chunk = max(1, min(tiles, (1 << 16) // max(height * taps, 1)))
    kernel = _kernel("pack", weight.dtype.name, height, 1)
    return team.launch(kernel, tiles, chunk, out, weight, group, unit, units, taps, table, len(runs))


def _convolved(
    out: ndarray, x: ndarray, weights: list[ndarray], bias: ndarray | None, groups: int, stride: Sizes, pad: Sizes,
    length: Sizes, cases: list[tuple[Any, ...]], tile: tuple[int, int],
) -> ndarray:  # fmt: skip
    """Convolutions of x with sets of weights into parts of `out`.

    `length` is that of a part of x along each axis. A case has its taps' places in the parts of a channel, the numbers of
    windows, and where in `out` the first goes and how far the next is, in elements of each axis.
    """
    dtype, size = out.dtype.name, out.itemsize
    height, vectors = tile
    width = vectors * geometry(dtype).lanes
    n, channels, units = x.shape[0], x.shape[1] // groups, out.shape[1] // groups
    plane = math.prod(length)
    channel = plane * math.prod(stride)
    room = (channels * channel + 2 * width) * size // 64 * 64 + 64
    tiles, workers = -(-units // height), team.get_num_threads()
    windows = min(length[0] * length[1] * length[2], COLUMNS)
    together = max(
        1, min(n, TOGETHER // windows, (2 << 20) // room)
    )  # images that meet the weights one after the other
    count = -(-n // together) * groups
    parts = 1 if count >= PARTS * workers else min(tiles, -(-PARTS * workers // count))
    exact = tuple(s * k for s, k in zip(length, stride, strict=True)) == _three(x.shape[2:], 1) and not any(
        pad
    )
    layout = [
        n, groups, channels, units, *_steps(x), *_three(x.shape[2:], 1), *pad, *stride, *length, not exact,
        *out.strides[:2], parts, room, len(cases), together, 0, 0, 0, 0,
    ]  # fmt: skip
    tables = []
    steps = _three(out.strides[2:], 0)
    for packed, (places, counts, first, apart) in zip(weights, cases, strict=True):
        tables.append(((np.arange(channels) * channel)[:, None] + places).reshape(-1) * size)
        start = sum(f * s for f, s in zip(first, steps, strict=True))
        block = max(1, min(counts[1], COLUMNS // length[2]))
        best = min(
            range(1, block + 1), key=lambda m: (-(-((m - 1) * length[2] + counts[2]) // width) / m, -m)
        )
        layout += [
            tables[-1].size, tables[-1].ctypes.data, packed.ctypes.data - weights[0].ctypes.data, *counts, start,
            *(a * s for a, s in zip(apart, steps, strict=True)), best, 0,
        ]  # fmt: skip
    memory = scratch(together * room + height * (COLUMNS + width) * size)
    count *= parts
    chunk = max(1, count // (8 * workers)) if parts == 1 else 1
    team.launch(
        _kernel("convolve", dtype, height, vectors), count, chunk, out, x, weights[0], 0 if bias is None else bias,
        np.array(layout, np.int64), *memory,
    )  # fmt: skip
    del tables
    return out


def _fits(x: ndarray, weight: ndarray, length: Sizes) -> bool:
    return 3 <= x.ndim <= 5 and x.size > 0 and weight.size > 0 and length[2] <= COLUMNS


def _contiguous(x: ndarray) -> ndarray:
    return x if x.flags.c_contiguous else np.ascontiguousarray(x)


def make_conv(dtype: str, body: Callable[..., Any]) -> Callable[..., Any]:
    """The kernel of `conv`, with the op's body for what it does not do."""

    def conv(
        x: ndarray, weight: ndarray, bias: Any = None, /, *, stride: Sizes, padding: Sizes, dilation: Sizes, groups: int
    ) -> Any:  # fmt: skip
        kernel, units = _three(weight.shape[2:], 1), weight.shape[0]
        s, p, d = _three(stride, 1), _three(padding, 0), _three(dilation, 1)
        if x.ndim != weight.ndim or x.ndim < 3 or x.shape[1] != weight.shape[1] * groups or units % groups:
            return body(x, weight, bias, stride=stride, padding=padding, dilation=dilation, groups=groups)
        counts = tuple(
            (n + 2 * q - (k - 1) * e - 1) // t + 1
            for n, q, k, e, t in zip(_three(x.shape[2:], 1), p, kernel, d, s, strict=True)
        )
        length = tuple(
            -(-((c - 1) * t + (k - 1) * e + 1) // t) for c, t, k, e in zip(counts, s, kernel, d, strict=True)
        )
        work = x.shape[0] * weight.size * math.prod(counts) if min(counts) > 0 else 0
        if not _fits(x, weight, length) or work < WORTHWHILE:
            return body(x, weight, bias, stride=stride, padding=padding, dilation=dilation, groups=groups)
        weight = _contiguous(weight)
        tile = _tile(dtype, units // groups)
        size, taps = weight.itemsize, weight[0].size
        packed = _packed(
            weight,
            taps * units // groups * size,
            taps * size,
            groups,
            units // groups,
            [(0, size, taps)],
            tile[0],
        )
        shape = (x.shape[0], units, *counts[3 - (x.ndim - 2) :])
        out = pool.empty(shape, x.dtype, math.prod(shape) * size)
        places = _places([[k * e for k in range(m)] for m, e in zip(kernel, d, strict=True)], s, length)
        bias = None if bias is None else _contiguous(bias)
        case = (places, counts, (0, 0, 0), (1, 1, 1))
        return _convolved(out, x, [packed], bias, groups, s, p, length, [case], tile)

    return conv


def _places(taps: list[list[int]], stride: Sizes, length: Sizes) -> ndarray:
    """Where in the parts of a channel the first window meets each tap."""
    plane = math.prod(length)
    found = []
    for place in itertools.product(*taps):
        part = inside = 0
        for t, s, n in zip(place, stride, length, strict=True):
            part, inside = part * s + t % s, inside * n + t // s
        found.append(part * plane + inside)
    return np.array(found, np.int64)


def make_conv_transpose(dtype: str, body: Callable[..., Any]) -> Callable[..., Any]:
    """The kernel of `conv_transpose`, with the op's body for what it does not do."""

    def conv_transpose(
        x: ndarray, weight: ndarray, bias: Any = None, /, *, stride: Sizes, padding: Sizes, output_padding: Sizes,
        dilation: Sizes, groups: int,
    ) -> Any:  # fmt: skip
        def otherwise() -> Any:
            return body(
                x, weight, bias, stride=stride, padding=padding, output_padding=output_padding, dilation=dilation, groups=groups
            )  # fmt: skip

        if (
            x.ndim != weight.ndim
            or not 3 <= x.ndim <= 5
            or x.shape[1] != weight.shape[0]
            or x.shape[1] % groups
        ):
            return otherwise()
        kernel, units = _three(weight.shape[2:], 1), weight.shape[1]
        s, p, more, d = _three(stride, 1), _three(padding, 0), _three(output_padding, 0), _three(dilation, 1)
        inside = _three(x.shape[2:], 1)
        sizes = tuple(
            (n - 1) * t - 2 * q + (k - 1) * e + 1 + m
            for n, t, q, k, e, m in zip(inside, s, p, kernel, d, more, strict=True)
        )
        if min(sizes) < 1 or not x.size or not weight.size or x.size * weight[0].size < WORTHWHILE:
            return otherwise()
        # place j of the result, r = (j + padding) mod stride, meets tap k where (k dilation) mod stride is r, with the
        # element (j + padding - k dilation) / stride of x
        axes = []
        for n, t, q, k, e, size in zip(inside, s, p, kernel, d, sizes, strict=True):
            found = []
            for first in range(min(t, size)):
                taps = [i for i in range(k) if (first + q - i * e) % t == 0]
                shifts = [(first + q - i * e) // t for i in taps]
                found.append((first, -(-(size - first) // t), taps, shifts))
            axes.append((found, n))
        before = tuple(max([0, *(-h for f in found for h in f[3])]) for found, _ in axes)
        length = tuple(
            max([n + b, *(f[1] + b + h for f in found for h in f[3])])
            for (found, n), b in zip(axes, before, strict=True)
        )
        if not _fits(x, weight, length):
            return otherwise()
        weight = _contiguous(weight)
        tile = _tile(dtype, units)
        size, taps, channels = weight.itemsize, math.prod(kernel), x.shape[1] // groups
        step = units * taps * size
        shape = (x.shape[0], units * groups, *sizes[3 - (x.ndim - 2) :])
        out = pool.empty(shape, x.dtype, math.prod(shape) * size)
        weights, cases = [], []
        for parts in itertools.product(*(found for found, _ in axes)):
            chosen = list(itertools.product(*(part[2] for part in parts)))
            flat = [(k[0] * kernel[1] + k[1]) * kernel[2] + k[2] for k in chosen]
            if len(flat) == taps:
                runs = [(c * step, size, taps) for c in range(channels)]
            else:
                runs = [(c * step + k * size, size, 1) for c in range(channels) for k in flat]
            weights.append(_packed(weight, channels * step, taps * size, groups, units, runs, tile[0]))
            shifts = [[h + b for h in part[3]] for part, b in zip(parts, before, strict=True)]
            places = _places(shifts, (1, 1, 1), length)
            cases.append((places, tuple(part[1] for part in parts), tuple(part[0] for part in parts), s))
        bias = None if bias is None else _contiguous(bias)
        return _convolved(out, x, weights, bias, groups, (1, 1, 1), before, length, cases, tile)

    return conv_transpose


def make_conv_weight_gradient(dtype: str, body: Callable[..., Any]) -> Callable[..., Any]:
    """The kernel of `conv_weight_gradient`, with the op's body for what it does not do."""
    shape = geometry(dtype)

    def conv_weight_gradient(
        x: ndarray, cotangent: ndarray, /, *, kernel_size: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes, groups: int
    ) -> Any:  # fmt: skip
        channels, units = x.shape[1] // groups, cotangent.shape[1] // groups
        work = cotangent.size * channels * math.prod(kernel_size)
        # few channels: those of neighbouring elements fill a panel together
        fold = kernel_size[-1] if channels < shape.lanes and dilation[-1] == 1 else 1
        fold = fold if channels * fold <= shape.width else 1
        if (
            not 3 <= x.ndim <= 5
            or channels * fold < NARROW
            or units < NARROW
            or work < WORTHWHILE
            or not x.size
        ):
            return body(
                x, cotangent, kernel_size=kernel_size, stride=stride, padding=padding, dilation=dilation, groups=groups
            )  # fmt: skip
        s, p, d, kernel = _three(stride, 1), _three(padding, 0), _three(dilation, 1), _three(kernel_size, 1)
        cotangent = _contiguous(cotangent)
        counts, inside = _three(cotangent.shape[2:], 1), _three(x.shape[2:], 1)
        padded = tuple(n + 2 * q for n, q in zip(inside, p, strict=True))
        height, vectors = shape.direct_height, shape.vectors
        width = vectors * shape.lanes
        size, windows, taps = x.itemsize, math.prod(counts), math.prod(kernel) // fold
        across = channels if fold > 1 else width  # elements of a place in the image
        line = across * size
        kernel = (*kernel[:2], kernel[2] // fold)

        def places(axes: list[Any]) -> ndarray:
            found = [(a * padded[1] + b) * padded[2] + c for a, b, c in itertools.product(*axes)]
            return np.array(found, np.int64) * line

        starts = [np.arange(c) * t for c, t in zip(counts, s, strict=True)]
        window_places = (
            (starts[0][:, None, None] * padded[1] + starts[1][:, None]) * padded[2] + starts[2]
        ).reshape(-1) * line
        tap_places = places([[k * e for k in range(m)] for m, e in zip(kernel, d, strict=True)])
        image = (math.prod(padded) * across + 64) * size // 64 * 64 + 64
        tiles, panels = -(-units // height), -(-channels // width)
        workers = team.get_num_threads()
        parts = min(tiles, max(1, -(-2 * workers // (groups * panels))))
        most = -(-tiles // parts)
        sums = image + (most * windows * height * size + 64) // 64 * 64 + 64
        layout = [
            x.shape[0], groups, channels, units, *_steps(x), *inside, *p, 0, windows, taps, parts, image, sums, *padded[1:],
            *cotangent.strides[:2],
        ]  # fmt: skip
        out = pool.empty(
            (groups * units, channels, *kernel_size), x.dtype, groups * units * channels * taps * fold * size
        )
        memory = scratch(sums + most * taps * height * width * size)
        return team.launch(
            _kernel("weight", dtype, height, vectors, across, fold), groups * panels * parts, 1, out, x, cotangent, np.array(layout, np.int64),
            window_places, tap_places, *memory,
        )  # fmt: skip

    return conv_weight_gradient
