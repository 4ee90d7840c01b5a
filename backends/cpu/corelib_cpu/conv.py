"""Convolution and its two transposes on the tiles of gemm.py, without a matrix of all windows in memory.

The weights are packed once. A thread takes some panels of windows, as wide as a tile, and gathers what they meet with each
channel and tap, a piece of a row of x at a time with zeros for what is outside: a panel's windows go on from row to row and
from image to image, so that no lane is wasted however small the images are. All tiles of the weights then meet the panels.

The transpose in x is a convolution without stride for each part of its result, with those taps that reach it. The
transpose in weight sums over windows: there a thread keeps an image with zeros around it and its channels side by side, and
a tile takes the places of its windows from a table.

Up to three spatial axes are done here, in float32 and float64; what has as many groups as channels goes to depthwise.py,
and the rest is left to the ops' bodies.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray

from . import depthwise, native, pool
from . import launch as team
from .gemm import PARTS, geometry, scratch

Sizes = tuple[int, ...]
WORTHWHILE = 1 << 20  # multiplications from which a kernel is compiled
DEPTH = 512  # channels and taps that pass at a time
PANELS = 8  # panels of windows that meet a tile's weights one after the other: half of the second cache
NARROW = 8  # columns of a panel below which the transpose in weight is left to its body
WINDOWS = 256  # windows that pass at a time in the transpose in weight

# Words: packed weights, weights, bytes from group to group, from unit to unit, units of a group, taps in all, a table of
# runs (bytes from the start, from tap to tap, taps, taps before), how many, bytes from tile to tile
# and from tap to tap in the packed weights. A unit of work is a tile's rows of a group.
_PACK = """
pack = panel_packer(T, HEIGHT, LANES)

def kernel(lo, hi, args):
    words = at_int64(args)
    tiles = (words[4] + HEIGHT - 1) // HEIGHT
    runs = at_int64(words[6])
    for some in range(lo, hi, 64):  # tiles that a run's weights stand side by side for
        for run in range(words[7]):
            depth, done = runs[4 * run + 2], runs[4 * run + 3]
            for unit in range(some, min(some + 64, hi)):
                group = unit // tiles
                first = (unit - group * tiles) * HEIGHT
                source = words[1] + group * words[2] + first * words[3] + runs[4 * run]
                out = words[0] + unit * words[8] + done * HEIGHT * SIZE
                count = min(words[4] - first, HEIGHT)
                if depth >= LANES and words[9] == HEIGHT * SIZE:
                    pack(out, source, runs[4 * run + 1], words[3], count, depth)
                else:  # 4 times as fast as blocks of registers of which little is filled
                    for k in range(depth):
                        target = at_T(out + k * words[9])
                        for i in range(count):
                            target[i] = at_T(source + k * runs[4 * run + 1] + i * words[3])[0]
"""
# Words: result, x, packed weights, bias, the layout, then the threads' scratch. A unit is a part of the result's units, of
# one group, for a block of windows of one case. Words of the layout: 0 images, groups, channels, units; 4 bytes of x along
# images, channels and three axes; 9 sizes of x, 12 strides; 15 bytes of the result along images and channels; 17 parts, cases,
# channels that pass at a time, bytes of the panels, of a bias or 0; 22 whether a tap's channels stand side by side, or a
# channel's taps; 23 bytes of a tile's weights. A case has its number of taps, where their table is (places along three axes,
# number), 3 windows along three axes; 6 where its first result goes, 7 how far the next is along three axes; 10 blocks, the
# last unit; 12 windows as they stand side by side in the result.
_CONVOLVE = """
tile, narrow = (matrix_tile(T, HEIGHT, vectors, LANES, True, False) for vectors in (VECTORS, 1))
take, take_second, put = take_line(T, LANES, 1), take_line(T, LANES, 2), put_line(T, LANES)
line_copy = copy_line(T, VECTORS, LANES, False)

@inline
def gather(panel, x, q, columns, channels, base, case):
    # the elements that windows q, q + 1, ... meet with each channel and tap: zeros outside of x
    of = at_int64(base)
    taps, c0, c1, c2 = case[0], case[3], case[4], case[5]
    table = at_int64(base + case[1])
    line, across = case[0] * WIDTH * SIZE, WIDTH * SIZE  # from channel to channel and from tap to tap
    if of[22]:
        line, across = WIDTH * SIZE, channels * WIDTH * SIZE
    rest = q // c2
    i2 = q - rest * c2
    q = rest // c1
    i1 = rest - q * c1
    n = q // c0
    i0 = q - n * c0
    column = 0
    while column < columns:
        run = min(columns - column, c2 - i2)
        for tap in range(taps):
            p0, p1, p2 = i0 * of[12] + table[4 * tap], i1 * of[13] + table[4 * tap + 1], i2 * of[14] + table[4 * tap + 2]
            out = panel + tap * across + column * SIZE
            source = x + n * of[4] + p0 * of[6] + p1 * of[7] + p2 * of[8]
            first, last = 0, 0
            if p0 >= 0 and p0 < of[9] and p1 >= 0 and p1 < of[10]:
                if of[14] == 1:  # without a division
                    first, last = max(0, -p2), min(run, of[11] - p2)
                elif of[14] == 2:
                    first, last = max(0, (1 - p2) >> 1), min(run, (of[11] - p2 + 1) >> 1)
                else:
                    first = max(0, (of[14] - 1 - p2) // of[14])
                    last = min(run, (of[11] - p2 + of[14] - 1) // of[14])
            if of[8] == SIZE and of[14] == 1:
                for j in range(0, run, LANES):
                    for c in range(channels):
                        take(source + c * of[5] + j * SIZE, out + c * line + j * SIZE, first - j, last - j, run - j)
            elif of[8] == SIZE and of[14] == 2:
                for j in range(0, run, LANES):
                    for c in range(channels):
                        at_j = source + c * of[5] + 2 * j * SIZE
                        take_second(at_j, out + c * line + j * SIZE, first - j, last - j, run - j)
            else:
                for c in range(channels):
                    target = at_T(out + c * line)
                    for j in range(run):
                        target[j] = T_ZERO
                    for j in range(first, last):
                        target[j] = at_T(source + c * of[5] + j * of[14] * of[8])[0]
        column += run
        i2 += run
        if i2 == c2:
            i2 = 0
            i1 += 1
            if i1 == c1:
                i1 = 0
                i0 += 1
                if i0 == c0:
                    i0 = 0
                    n += 1

@inline
def gather_row(panels, x, left, right, windows, step, channels, base, case):
    # the same for several panels whose windows stand side by side in one row of x: each row is read in long runs
    of = at_int64(base)
    c2 = case[5]
    q = left * WIDTH
    row = q // c2
    i2 = q - row * c2
    if case[0] != 1 or of[14] != 1 or of[8] != SIZE or right * WIDTH > min(windows, (row + 1) * c2):
        return False
    above = row // case[4]
    n = above // case[3]
    table = at_int64(base + case[1])
    p0, p1 = (above - n * case[3]) * of[12] + table[0], (row - above * case[4]) * of[13] + table[1]
    p2 = i2 + table[2]
    if p0 < 0 or p0 >= of[9] or p1 < 0 or p1 >= of[10] or p2 < 0 or p2 + (right - left) * WIDTH > of[11]:
        return False
    source = x + n * of[4] + p0 * of[6] + p1 * of[7] + p2 * SIZE
    for c in range(channels):
        for p in range(right - left):
            line_copy(source + c * of[5] + p * WIDTH * SIZE, panels + p * step + c * WIDTH * SIZE, WIDTH)
    return True

@inline
def place(tile_at, out, q, columns, height, bias, of, case):
    # a tile's sums for windows q, q + 1, ... to the result
    c0, c1, c2 = case[12], case[13], case[14]
    column = 0
    while column < columns:
        rest = (q + column) // c2
        i2 = q + column - rest * c2
        above = rest // c1
        n = above // c0
        run = min(columns - column, c2 - i2)
        target = out + n * of[15] + case[6] + (above - n * c0) * case[7] + (rest - above * c1) * case[8] + i2 * case[9]
        for i in range(height):
            source = tile_at + (i * WIDTH + column) * SIZE
            if case[9] == SIZE:
                for j in range(0, run, LANES):
                    put(source + j * SIZE, target + i * of[16] + j * SIZE, min(run - j, LANES), bias + i * of[21])
            else:
                found, more = at_T(source), at_T(bias + i * of[21])[0]
                for j in range(run):
                    at_T(target + i * of[16] + j * case[9])[0] = found[j] + more
        column += run

def kernel(lo, hi, args):
    words = at_int64(args)
    of = at_int64(words[4])
    channels, units, parts, chunk = of[2], of[3], of[17], of[19]
    tiles = (units + HEIGHT - 1) // HEIGHT
    slot = take_slot(words[5], words[8])
    panels = words[6] + slot * words[7]
    sums = panels + of[20]
    for unit in range(lo, hi):
        at_case = words[4] + 24 * 8
        case = at_int64(at_case)
        while unit >= case[11]:
            at_case += 16 * 8
            case = at_int64(at_case)
        rest = (case[11] - 1 - unit) // parts
        part = case[11] - 1 - unit - rest * parts
        g = rest // case[10]
        block = rest - g * case[10]
        table = at_int64(words[4] + case[1])
        taps, windows = case[0], of[0] * case[3] * case[4] * case[5]
        across = (windows + WIDTH - 1) // WIDTH
        left, right = across * block // case[10], across * (block + 1) // case[10]
        top, bottom = tiles * part // parts, tiles * (part + 1) // parts
        c = 0
        while c < channels:
            count = min(channels - c, chunk)
            x = words[1] + (g * channels + c) * of[5]
            step = chunk * taps * WIDTH * SIZE
            if not gather_row(panels, x, left, right, windows, step, count, words[4], case):
                for p in range(left, right):
                    at_p = panels + (p - left) * step
                    gather(at_p, x, p * WIDTH, min(windows - p * WIDTH, WIDTH), count, words[4], case)
            for t in range(top, bottom):
                a = words[2] + (g * tiles + t) * of[23]
                o = g * units + t * HEIGHT
                for p in range(left, right):
                    total = sums + ((t - top) * (right - left) + p - left) * HEIGHT * WIDTH * SIZE
                    b = panels + (p - left) * step
                    for call in range(taps if of[22] else min(taps, 1)):
                        tap, together = (call, 1) if of[22] else (0, taps)
                        at_a = a + (table[4 * tap + 3] * channels + c * together) * HEIGHT * SIZE
                        depth = count * together
                        at_b = b + tap * depth * WIDTH * SIZE
                        if windows - p * WIDTH <= LANES:
                            narrow(at_a, 0, 0, at_b, WIDTH * SIZE, depth, total, WIDTH * SIZE, c + tap, 0, 0)
                        else:
                            tile(at_a, 0, 0, at_b, WIDTH * SIZE, depth, total, WIDTH * SIZE, c + tap, 0, 0)
                    if taps == 0:
                        for i in range(HEIGHT * WIDTH):
                            at_T(total)[i] = T_ZERO
                    if c + count == channels:
                        place(total, words[0] + o * of[16], p * WIDTH, min(windows - p * WIDTH, WIDTH),
                              min(units - t * HEIGHT, HEIGHT), words[3] + o * of[21], of, case)
            c += count
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


class Case(NamedTuple):
    """A convolution into a part of a result."""

    taps: list[Sizes]  # where the first window meets each tap in x, along each axis, and the tap's number
    counts: Sizes  # of windows along each axis
    first: Sizes  # where the first window's result goes
    apart: Sizes  # how far the next one's goes, along each axis


@cache
def _kernel(name: str, dtype: str, height: int, vectors: int, channels: int = 0, fold: int = 1) -> int:
    shape = geometry(dtype)
    width = vectors * shape.lanes
    head = f"""
T, SIZE, LANES, HEIGHT = {dtype!r}, {np.dtype(dtype).itemsize}, {shape.lanes}, {height}
VECTORS, WIDTH, PASSING, T_ZERO, at_T = {vectors}, {width}, {WINDOWS}, {dtype}(0), at_{dtype}
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
    weight: ndarray, group: int, unit: int, groups: int, units: int, runs: Any, height: int, apart: int
) -> ndarray:
    """The weights of each tile's rows with a tap's side by side: steps in bytes; runs of taps, each with its start, step,
    number and first place, whose taps are `apart` places from each other.
    """
    table = np.array(runs, np.int64)
    taps, line = int(table[:, 2].sum()), height * weight.itemsize
    tiles = groups * -(-units // height)
    step = taps * line + geometry(weight.dtype.name).lanes * weight.itemsize  # a tile's last store spills
    out = pool.empty((tiles, step // weight.itemsize), weight.dtype, tiles * step)
    chunk = max(1, min(tiles // PARTS, max(16, (1 << 16) // max(height * taps, 1))))
    kernel = _kernel("pack", weight.dtype.name, height, 1)
    return team.launch(
        kernel, tiles, chunk, out, weight, group, unit, units, taps, table, len(table), step, apart * line
    )


def _convolved(
    out: ndarray, x: ndarray, weights: ndarray, bias: ndarray | None, groups: int, stride: Sizes,
    cases: list[Case], tile: tuple[int, int], together: bool,
) -> ndarray:  # fmt: skip
    """Convolutions of x with packed weights into parts of `out`; the taps of a channel stand together, or the channels of a
    tap.
    """
    dtype, size = out.dtype.name, out.itemsize
    height, vectors = tile
    width = vectors * geometry(dtype).lanes
    n, channels, units = x.shape[0], x.shape[1] // groups, out.shape[1] // groups
    tiles, workers = -(-units // height), team.get_num_threads()
    most = max(1, *(len(case.taps) for case in cases))
    chunk = max(1, DEPTH // most)
    chunk = -(-channels // -(-channels // chunk))
    several = max(1, min(PANELS, PANELS * DEPTH // (chunk * most)))
    blocks = [-(-n * math.prod(case.counts) // (width * several)) for case in cases]
    count = groups * sum(blocks)
    parts = 1 if count >= PARTS * workers else min(tiles, -(-PARTS * workers // count))
    panels = several * chunk * most * width * size
    layout = [
        n, groups, channels, units, *_steps(x), *_three(x.shape[2:], 1), *stride, *out.strides[:2], parts, len(cases), chunk,
        panels, 0 if bias is None else size, not together, weights.strides[0],
    ]  # fmt: skip
    table, last = [], 0
    start_of_table = 24 + 16 * len(cases)
    steps = _three(out.strides[2:], 0)
    for case, count in zip(cases, blocks, strict=True):
        start = sum(f * s for f, s in zip(case.first, steps, strict=True))
        apart, counts = [a * s for a, s in zip(case.apart, steps, strict=True)], case.counts
        if math.prod(counts) == math.prod(out.shape[2:]):  # all of it, side by side
            apart, counts = [0, 0, size], (1, 1, math.prod(counts))
        last += groups * count * parts
        layout += [
            len(case.taps), 8 * (start_of_table + len(table)), 0, *case.counts, start, *apart, count, last, *counts, 0,
        ]  # fmt: skip
        table += [n for tap in case.taps for n in tap]
    memory = scratch(panels + -(-tiles // parts) * several * height * width * size)
    team.launch(
        _kernel("convolve", dtype, height, vectors), last, max(1, last // (8 * workers)), out, x, weights,
        np.zeros(1, out.dtype) if bias is None else bias, np.array([*layout, *table], np.int64), *memory,
    )  # fmt: skip
    return out


def _fits(x: ndarray, weight: ndarray) -> bool:
    return 3 <= x.ndim <= 5 and x.size > 0 and weight.size > 0


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
        work = x.shape[0] * weight.size * math.prod(counts) if min(counts) > 0 else 0
        if not _fits(x, weight) or work < WORTHWHILE:
            return body(x, weight, bias, stride=stride, padding=padding, dilation=dilation, groups=groups)
        weight = _contiguous(weight)
        bias = None if bias is None else _contiguous(bias)
        size, taps = weight.itemsize, weight[0].size
        shape = (x.shape[0], units, *counts[3 - (x.ndim - 2) :])
        out = pool.empty(shape, x.dtype, math.prod(shape) * size)
        offsets = [[k * e - q for k in range(m)] for m, e, q in zip(kernel, d, p, strict=True)]
        found = [(*place, number) for number, place in enumerate(itertools.product(*offsets))]
        if depthwise.fits(x, units, groups):
            return depthwise.convolved(out, x, weight, bias, s, [Case(found, counts, (0, 0, 0), (1, 1, 1))])
        if taps == x.shape[1] // groups and max(s) == 1 and not any(p) and x[0].flags.c_contiguous:
            x, counts = x.reshape(x.shape[0], x.shape[1], -1), (1, 1, math.prod(counts))  # one long row
        tile = _tile(dtype, units // groups)
        runs = [(0, size, taps, 0)]
        packed = _packed(
            weight, taps * units // groups * size, taps * size, groups, units // groups, runs, tile[0], 1
        )
        case = Case(found, counts, (0, 0, 0), (1, 1, 1))
        return _convolved(out, x, packed, bias, groups, s, [case], tile, True)

    return conv


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
        for t, q, k, e, size in zip(s, p, kernel, d, sizes, strict=True):
            found = []
            for first in range(min(t, size)):
                taps = [i for i in range(k) if (first + q - i * e) % t == 0]
                shifts = [(first + q - i * e) // t for i in taps]
                found.append((first, -(-(size - first) // t), taps, shifts))
            axes.append(found)
        if not _fits(x, weight):
            return otherwise()
        weight = _contiguous(weight)
        bias = None if bias is None else _contiguous(bias)
        size, taps, channels = weight.itemsize, math.prod(kernel), x.shape[1] // groups
        shape = (x.shape[0], units * groups, *sizes[3 - (x.ndim - 2) :])
        out = pool.empty(shape, x.dtype, math.prod(shape) * size)
        cases = []
        for parts in itertools.product(*axes):
            chosen = itertools.product(*(part[2] for part in parts))
            numbers = [(k[0] * kernel[1] + k[1]) * kernel[2] + k[2] for k in chosen]
            places = itertools.product(*(part[3] for part in parts))
            found = [(*place, number) for place, number in zip(places, numbers, strict=True)]
            cases.append(Case(found, tuple(part[1] for part in parts), tuple(part[0] for part in parts), s))
        if depthwise.fits(x, shape[1], groups):
            return depthwise.convolved(out, x, weight, bias, (1, 1, 1), cases)
        together = len(cases) == 1 and len(cases[0].taps) == taps
        tile, step = _tile(dtype, units), units * taps * size
        runs = [(c * step, size, taps, c * taps if together else c) for c in range(channels)]
        apart = 1 if together else channels
        weights = _packed(weight, channels * step, taps * size, groups, units, runs, tile[0], apart)
        return _convolved(out, x, weights, bias, groups, (1, 1, 1), cases, tile, together)

    return conv_transpose


def make_conv_weight_gradient(dtype: str, body: Callable[..., Any]) -> Callable[..., Any]:
    """The kernel of `conv_weight_gradient`, with the op's body for what it does not do."""
    shape = geometry(dtype)

    def conv_weight_gradient(
        x: ndarray, cotangent: ndarray, /, *, kernel_size: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes, groups: int
    ) -> Any:  # fmt: skip
        channels, units = x.shape[1] // groups, cotangent.shape[1] // groups
        work = cotangent.size * channels * math.prod(kernel_size)
        s, p, d, kernel = _three(stride, 1), _three(padding, 0), _three(dilation, 1), _three(kernel_size, 1)
        if depthwise.fits(x, cotangent.shape[1], groups) and x.size and work >= WORTHWHILE:
            out = pool.empty((groups, 1, *kernel_size), x.dtype, groups * math.prod(kernel) * x.itemsize)
            taps = itertools.product(
                *([k * e - q for k in range(m)] for m, e, q in zip(kernel, d, p, strict=True))
            )
            return depthwise.weight_gradient(out, x, _contiguous(cotangent), list(taps), s)
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
