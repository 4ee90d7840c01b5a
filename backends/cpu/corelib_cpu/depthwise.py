"""Convolutions in which every channel has one unit of its own, with as many channels at a time as a vector has lanes.

A thread turns a band of an image over, so that the channels of a place stand side by side, and puts zeros around it. A
window's sum is then one fused multiplication of whole vectors for each tap, whatever the sizes, strides and dilations, and
the results are turned back. The transpose in x is a convolution without stride for each part of its result, as in conv.py;
the transpose in weight keeps the sums of its taps in registers.

One or two spatial axes are done here, in float32 and float64.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy import ndarray

from . import launch as team
from . import native
from .gemm import geometry, scratch

PIXELS = 8  # windows whose sums are computed together: as many as hide a multiplication's latency
TAPS = 12  # taps whose sums are kept in registers at most
BAND = 3 << 17  # bytes of a band in scratch memory, which stays in the second cache

# Words of the layout: 0 channels, blocks of channels, bands, rows of windows of a band; 4 bytes of x from image to image,
# channel to channel, row to row; 7 rows and columns of x, 9 strides of windows; 11 row and column of x that the first
# window begins with; 13 rows and columns of the band's image; 15 bytes from the image to what is turned over.
_BAND = """
turn, turn_edge = transpose_block(T, LANES, LANES, False), transpose_block(T, LANES, LANES, True)
pack = panel_packer(T, LANES, LANES)
LINE = LANES * SIZE

@inline
def fill(image, x, first, count, of):
    # rows of the image for the windows from row `first` on: zeros outside of x
    zeros = at_T(image)
    for i in range(of[13] * of[14] * LANES):
        zeros[i] = 0
    above = first * of[9] + of[11]
    low, high = max(0, above), min(of[7], above + of[13])
    left, right = max(0, of[12]), min(of[8], of[12] + of[14])
    if high <= low or right <= left:
        return
    turned = image + of[15]
    if of[6] == of[8] * SIZE:
        pack(turned, x + low * of[6], SIZE, of[5], count, (high - low) * of[8])
    else:
        for row in range(low, high):
            pack(turned + (row - low) * of[8] * LINE, x + row * of[6], SIZE, of[5], count, of[8])
    for row in range(low, high):
        out = at_T(image + ((row - above) * of[14] + left - of[12]) * LINE)
        source = at_T(turned + ((row - low) * of[8] + left) * LINE)
        for i in range((right - left) * LANES):
            out[i] = source[i]
"""
# Words: result, x, weights, bias or 0, the layout, a table of taps, then the threads' scratch. More of the layout: 16 bytes
# from the image to the results, 17 bytes of the result from image to image and channel to channel; 19 rows and columns
# of the result, 21 how far the windows' results are apart along both; 23 cases, 24 taps in all. A case has the first of its
# taps, their number, rows and columns of windows, and where the first result goes.
_CONVOLVE = """
sums = lane_windows(T, PIXELS, LANES)
put = take_line(T, LANES, 1)

def kernel(lo, hi, args):
    words = at_int64(args)
    of = at_int64(words[4])
    slot = take_slot(words[6], words[9])
    weights = words[7] + slot * words[8]
    start = weights + of[24] * LINE
    block = start + LINE
    image = block + LANES * LINE
    results = image + of[16]
    packed = -1
    for unit in range(lo, hi):
        rest = unit // of[2]
        band = unit - rest * of[2]
        n = rest // of[1]
        c = (rest - n * of[1]) * LANES
        count = min(of[0] - c, LANES)
        if packed != c:
            packed = c
            pack(weights, words[2] + c * of[24] * SIZE, SIZE, of[24] * SIZE, count, of[24])
            first = at_T(start)
            for i in range(LANES):
                first[i] = T_ZERO
            if words[3]:
                for i in range(count):
                    first[i] = at_T(words[3])[c + i]
        top = band * of[3]
        fill(image, words[1] + n * of[4] + c * of[5], top, count, of)
        for s in range(of[23]):
            case = at_int64(words[4] + (32 + 8 * s) * 8)
            table, step = words[5] + case[0] * 16, of[10] * LINE
            for row in range(top, min(top + of[3], case[2])):
                line = image + (row - top) * of[9] * of[14] * LINE
                out = results + (((row - top) * of[21] + case[4]) * of[20] + case[5]) * LINE
                for i in range(0, case[3], PIXELS):
                    sums(line + i * step, step, table, case[1], weights, start, out + i * of[22] * LINE, of[22] * LINE,
                         case[3] - i)
        rows = min(of[3] * of[21], of[19] - top * of[21])
        out = words[0] + n * of[17] + c * of[18] + top * of[21] * of[20] * SIZE
        for i in range(0, rows * of[20], LANES):
            more = min(rows * of[20] - i, LANES)
            if more == LANES and count == LANES:
                turn(results + i * LINE, LINE, LANES, LANES, out + i * SIZE, of[18])
            else:
                turn(results + i * LINE, LINE, LANES, LANES, block, LINE)
                for k in range(count):
                    put(block + k * LINE, out + k * of[18] + i * SIZE, 0, more, more)
    free_slot(words[6], slot)
"""
# Words: result, x, cotangent, the layout, a table of taps, then the threads' scratch. More of the layout: 16 bytes from the
# image to the cotangents, 17 bytes of the cotangent from image to image and channel to channel, 19 rows and columns of
# windows, 21 images, 22 taps, 23 groups of COUNT taps. A unit is a block of channels.
_WEIGHT = """
sums = lane_taps(T, COUNT, LANES)

def kernel(lo, hi, args):
    words = at_int64(args)
    of = at_int64(words[3])
    slot = take_slot(words[5], words[8])
    totals = words[6] + slot * words[7]
    image = totals + of[23] * COUNT * LINE
    turned = image + of[16]
    for unit in range(lo, hi):
        c = unit * LANES
        count = min(of[0] - c, LANES)
        values = at_T(totals)
        for i in range(of[23] * COUNT * LANES):
            values[i] = 0
        for n in range(of[21]):
            for band in range(of[2]):
                top = band * of[3]
                rows = min(of[3], of[19] - top)
                fill(image, words[1] + n * of[4] + c * of[5], top, count, of)
                g = words[2] + n * of[17] + c * of[18] + top * of[20] * SIZE
                pack(turned, g, SIZE, of[18], count, rows * of[20])
                for row in range(rows):
                    line = image + row * of[9] * of[14] * LINE
                    for s in range(of[23]):
                        sums(line, of[10] * LINE, words[4] + s * COUNT * 8, turned + row * of[20] * LINE, of[20],
                             totals + s * COUNT * LINE)
        for k in range(count):
            out = at_T(words[0] + (c + k) * of[22] * SIZE)
            for tap in range(of[22]):
                out[tap] = values[tap * LANES + k]
    free_slot(words[5], slot)
"""


@cache
def _kernel(name: str, dtype: str, count: int = 0) -> int:
    head = f"""
T, SIZE, LANES, PIXELS, COUNT = {dtype!r}, {np.dtype(dtype).itemsize}, {geometry(dtype).lanes}, {PIXELS}, {count}
T_ZERO, at_T = {dtype}(0), at_{dtype}
"""
    return native.address(head + _BAND + (_WEIGHT if name == "weight" else _CONVOLVE))


def _band(
    x: ndarray, lines: int, columns: int, stride: Any, first: Any, last: Any, results: int
) -> tuple[Any, ...]:
    """The layout's first words, and the bytes of an image.

    `lines` rows of `columns` windows begin `stride` apart and reach from `first` to `last`; `results` vectors go with a row.
    """
    lanes = geometry(x.dtype.name).lanes
    size = lanes * x.itemsize
    across = (columns - 1) * stride[1] + last[1] - first[1] + 1
    extent = last[0] - first[0] + 1
    row = stride[0] * (across + x.shape[3]) + results
    band = max(1, min(lines, (BAND // size - extent * (across + x.shape[3])) // row))
    bands = -(-lines // band)
    band = -(-lines // bands)
    down = (band - 1) * stride[0] + extent
    image = (down * across + PIXELS * stride[1]) * size
    turned = (min(down, x.shape[2]) * x.shape[3] + lanes) * size
    layout = [
        x.shape[1], -(-x.shape[1] // lanes), bands, band, *x.strides[:3], *x.shape[2:], *stride, *first, down, across, image,
        image + turned,
    ]  # fmt: skip
    return layout, band, size, image + turned


def _flat(x: ndarray) -> ndarray:
    """Two spatial axes, the last one's elements side by side."""
    x = x if x.ndim == 4 else x[:, :, None]
    return x if x.strides[3] == x.itemsize else np.ascontiguousarray(x)


def convolved(
    out: ndarray, x: ndarray, weight: ndarray, bias: ndarray | None, stride: Any, cases: Any
) -> ndarray:
    """Convolutions of x with a weight (C, 1, *K) into parts of `out`, which is contiguous; see Case in conv.py."""
    dtype = out.dtype.name
    x, stride = _flat(x), stride[1:]
    taps = [tap for case in cases for tap in case.taps]
    first, last = ([end(tap[i] for tap in taps) for i in (1, 2)] for end in (min, max))
    lines, columns = (max(case.counts[i] for case in cases) for i in (1, 2))
    rows, across = (1, *out.shape[2:])[-2:]
    apart = cases[0].apart[1:]
    layout, band, size, image = _band(x, lines, columns, stride, first, last, apart[0] * across)
    count = weight[0].size
    layout += [*out.strides[:2], rows, across, *apart, len(cases), count, *[0] * 7]
    table: list[int] = []
    for case in cases:
        layout += [len(table) // 2, len(case.taps), *case.counts[1:], *case.first[1:], 0, 0]
        for _, i, j, number in case.taps:
            table += [((i - first[0]) * layout[14] + j - first[1]) * size, number * size]
    lanes = geometry(dtype).lanes
    memory = scratch((count + 1 + lanes) * size + image + (band * apart[0] * across + lanes) * size)
    units = x.shape[0] * layout[1] * layout[2]
    return team.launch(
        _kernel("convolve", dtype), units, max(1, units // (8 * team.get_num_threads())), out, x, weight,
        0 if bias is None else bias, np.array(layout, np.int64), np.array(table, np.int64), *memory,
    )  # fmt: skip


def weight_gradient(out: ndarray, x: ndarray, cotangent: ndarray, taps: Any, stride: Any) -> ndarray:
    """The transpose in weight: `taps` are where the first window meets each tap in x, `out` has shape (C, 1, *K)."""
    dtype = out.dtype.name
    x, g, stride = _flat(x), cotangent if cotangent.ndim == 4 else cotangent[:, :, None], stride[1:]
    first, last = ([end(tap[i] for tap in taps) for i in (1, 2)] for end in (min, max))
    layout, band, size, image = _band(x, *g.shape[2:], stride, first, last, g.shape[3])
    groups = -(-len(taps) // TAPS)
    count = -(-len(taps) // groups)
    layout += [*g.strides[:2], *g.shape[2:], x.shape[0], len(taps), groups]
    table = [((i - first[0]) * layout[14] + j - first[1]) * size for _, i, j in taps]
    table += [0] * (groups * count - len(taps))
    lanes = geometry(dtype).lanes
    memory = scratch(groups * count * size + image + (band * g.shape[3] + lanes) * size)
    return team.launch(
        _kernel("weight", dtype, count), layout[1], 1, out, x, g, np.array(layout, np.int64), np.array(table, np.int64), *memory
    )  # fmt: skip


def fits(x: ndarray, units: int, groups: int) -> bool:
    """Whether every channel has one unit, and there are one or two spatial axes with elements."""
    return groups > 1 and x.shape[1] == groups == units and x.ndim < 5
