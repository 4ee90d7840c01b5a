"""Layers of int8: convolution with what follows it, pooling, and the ways from numbers to integers and back.

A thread copies some images into scratch memory, as words of neighbouring channels (vdots.py says how many) with the frame
around them. From there each panel of windows gets its words side by side, in the first cache, meets the weights of every
tile of units, and the sums become numbers, and those the next layer's integers, before they leave that cache. Windows
are counted over all images of a unit of work, so that small images share panels. With a stride s the image is kept as s
parts along that axis, as in conv.py, so that a run of windows is a run of words.

Packed weights are kept beside the weights that they were made of, which are compared each time.

One and two spatial axes are done here; the rest is left to the ops' bodies.
"""

from __future__ import annotations

import itertools
import math
import weakref
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy import ndarray

from . import launch as team
from . import native, pool
from .conv import _tile
from .gemm import PARTS, scratch
from .movement import contiguous
from .narrow import shape_of

Sizes = tuple[int, ...]
IMAGES = 1 << 17  # bytes of images that a unit of work has at least, if there are as many
WORTHWHILE = 1 << 14  # multiplications from which a kernel is compiled

# The layout: images, groups, channels of a group, units of a group, rows and columns of x, padding before them, strides,
# rows and columns of a part, rows and columns of windows, taps, images of a unit of work, parts of the units, words of an
# image, a word of the frame, blocks of channels, lowest number of a result, and highest.
_NAMES = (
    "IMAGES GROUPS CHANNELS UNITS ROWS COLUMNS TOP LEFT DOWN ALONG PART_ROWS PART_COLUMNS OUT_ROWS OUT_COLUMNS TAPS TOGETHER PARTS WORDS FRAME BLOCKS LOW HIGH"
)  # fmt: skip
# Words: result, x, packed weights, where sums start, scale, bias, the next layer's scale and zero point, the lowest y (0 or
# minus infinity), the layout, a table of taps (bytes), then the threads' scratch.
_CONVOLVE = """
tile = dot_tile(KIND, HEIGHT, VECTORS, LANES, False)
channels_of, copy, store = interleave(1, LANES, True, True), store_line("int32", 1, LANES), store_line(NUMBER, VECTORS, LANES)
FLIP = -2139062144 if GROUP == 4 else 0

@inline
def fill(image, x, of):
    # x: (channels, rows, columns) of int8
    words = at_int32(image)
    frame = int32(of[FRAME])
    for i in range(of[WORDS]):
        words[i] = frame
    plane = of[PART_ROWS] * of[PART_COLUMNS]
    step = of[ROWS] * of[COLUMNS]
    for block in range(of[BLOCKS]):
        have = min(of[CHANNELS] - block * GROUP, GROUP)
        for i in range(of[ROWS]):
            row = i + of[TOP]
            if row // of[DOWN] >= of[PART_ROWS]:
                continue
            at = ((block * of[DOWN] + row % of[DOWN]) * of[ALONG] * of[PART_ROWS] + row // of[DOWN]) * of[PART_COLUMNS]
            source = x + block * GROUP * step + i * of[COLUMNS]
            count = min(of[COLUMNS], of[PART_COLUMNS] * of[ALONG] - of[LEFT])
            if GROUP == 4 and of[ALONG] == 1:
                for j in range(0, count, LANES):
                    channels_of(source + j, step, image + (at + of[LEFT] + j) * 4, have, count - j, FLIP)
            else:
                for j in range(count):
                    word = 0
                    for g in range(have):
                        word |= (int64(at_int8(source + g * step + j)[0]) & MASK) << (BITS * g)
                    column = j + of[LEFT]
                    words[at + column % of[ALONG] * plane + column // of[ALONG]] = word ^ FLIP

@inline
def gather(panel, image, n, row, column, windows, of, taps):
    # the words of windows (n, row, column) and following for each tap, side by side; where the next panel begins
    rows, across, whole, line = of[OUT_ROWS], of[OUT_COLUMNS], of[WORDS] * 4, of[PART_COLUMNS] * 4
    count = of[TAPS]
    done = 0
    while done < windows:
        run = min(min(across - column, windows - done), LANES)
        source, out = image + n * whole + row * line + column * 4, panel + done * 4
        for tap in range(count):
            copy(source + taps[tap], out + tap * WIDTH * 4, run)
        done += run
        column += run
        if column == across:
            column = 0
            row += 1
            if row == rows:
                row = 0
                n += 1
    return n, row, column

def kernel(lo, hi, args):
    words = at_int64(args)
    of = at_int64(words[9])
    taps = at_int64(words[10])
    groups, units, parts, count = of[GROUPS], of[UNITS], of[PARTS], of[OUT_ROWS] * of[OUT_COLUMNS]
    tiles = (units + HEIGHT - 1) // HEIGHT
    slot = take_slot(words[11], words[14])
    panel = words[12] + slot * words[13]
    sums = panel + (of[TAPS] * WIDTH + LANES) * 4
    found = sums + HEIGHT * WIDTH * 4
    image = found + HEIGHT * WIDTH * 4
    filled = -1
    for unit in range(lo, hi):
        which = unit // parts
        part = unit - which * parts
        chunk = which // groups
        g = which - chunk * groups
        first = chunk * of[TOGETHER]
        images = min(of[IMAGES] - first, of[TOGETHER])
        if filled != which:
            filled = which
            for n in range(images):
                place = (first + n) * groups + g
                fill(image + n * of[WORDS] * 4, words[1] + place * of[CHANNELS] * of[ROWS] * of[COLUMNS], of)
        n, row, column, at_n, at_window = 0, 0, 0, 0, 0
        for p in range(0, images * count, WIDTH):
            windows = min(images * count - p, WIDTH)
            n, row, column = gather(panel, image, n, row, column, windows, of, taps)
            next_n, next_window = at_n, at_window
            for t in range(tiles * part // parts, tiles * (part + 1) // parts):
                o = g * units + t * HEIGHT
                place = g * tiles + t
                height = min(units - t * HEIGHT, HEIGHT)
                tile(words[2] + place * of[TAPS] * HEIGHT * 4, panel, WIDTH * 4, of[TAPS], sums, WIDTH * 4,
                     words[3] + place * HEIGHT * 4, 0, HEIGHT, WIDTH)
                for i in range(height):
                    FINISH
                done, next_n, next_window = 0, at_n, at_window
                while done < windows:
                    run = min(windows - done, count - next_window)
                    out = words[0] + (((first + next_n) * groups * units + o) * count + next_window) * SIZE
                    for i in range(height):
                        store(STORED + (i * WIDTH + done) * SIZE, out + i * count * SIZE, run)
                    done += run
                    next_window += run
                    if next_window == count:
                        next_window = 0
                        next_n += 1
            at_n, at_window = next_n, next_window
    free_slot(words[11], slot)
"""
_FINISH = """finish(sums + i * WIDTH * 4, found + i * WIDTH * SIZE, words[4] + (o + i) * 4, words[5] + (o + i) * 4, words[8],
                           words[6], words[7], of[LOW], of[HIGH])"""
# Words: result, x, then of each of two axes its size, windows, elements of a window, stride, padding, dilation, and bytes of a
# line, then the threads' scratch. A unit is a plane. The largest of each window's rows stand in a line with the frame around
# them, which for a window of two with stride 2 are lines without gaps.
_POOL = """
largest, along = pooled_line(1, LANES, True), pooled_line(STRIDE, LANES, False)

def kernel(lo, hi, args):
    words = at_int64(args)
    n0, n1, c0, c1, line = words[2], words[8], words[3], words[9], words[14]
    slot = take_slot(words[15], words[18])
    lines = words[16] + slot * words[17]
    for unit in range(lo, hi):
        out, x = words[0] + unit * c0 * c1, words[1] + unit * n0 * n1
        for w0 in range(c0):
            place = lines + w0 * line + words[12]
            i0, rows = w0 * words[5] - words[6], words[4]
            while i0 < 0:
                i0 += words[7]
                rows -= 1
            while i0 + (rows - 1) * words[7] >= n0:
                rows -= 1
            for j in range(0, n1, LANES):
                largest(x + i0 * n1 + j, rows, words[7] * n1, place + j, n1 - j)
        if line == STRIDE * c1:
            for j in range(0, c0 * c1, LANES):
                along(lines + j * STRIDE, words[10], words[13], out + j, c0 * c1 - j)
        else:
            for w0 in range(c0):
                for j in range(0, c1, LANES):
                    along(lines + w0 * line + j * STRIDE, words[10], words[13], out + w0 * c1 + j, c1 - j)
    free_slot(words[15], slot)
"""


@cache
def _kernel(number: str, height: int, vectors: int) -> int:
    s = shape_of("int8")
    group, size = s.group // s.spread, {"int8": 1}.get(number, 4)
    head = f"KIND, GROUP, MASK, BITS = {s.kind!r}, {group}, {0xFF if group == 4 else 0xFFFF}, {32 // group}\n"
    head += f"HEIGHT, VECTORS, LANES, WIDTH, NUMBER, SIZE = {height}, {vectors}, {s.lanes}, {vectors * s.lanes}, {number!r}, {size}\n"
    head += "\n".join(f"{name} = {i}" for i, name in enumerate(_NAMES.split())) + "\n"
    stored = "sums" if number == "int32" else "found"
    text = _CONVOLVE.replace("STORED", stored)
    if number == "int32":
        return native.address(head + text.replace("FINISH", "pass"))
    head += "finish = finish_line(NUMBER, VECTORS, LANES)\n"
    return native.address(head + text.replace("FINISH", _FINISH))


@cache
def _pooling(stride: int) -> int:
    return native.address(f"LANES, STRIDE = {native.vector_bytes()}, {stride}\n" + _POOL)


class _Packed:
    """Weights in words, the tiles' rows side by side, and where the sums of each unit start."""

    def __init__(self, weight: ndarray, groups: int, height: int) -> None:
        s = shape_of("int8")
        group = s.group // s.spread
        units, channels, taps = weight.shape[0] // groups, weight.shape[1], math.prod(weight.shape[2:])
        tiles, blocks = -(-units // height), -(-channels // group)
        wide = np.zeros((groups, tiles * height, blocks * group, taps), np.int8 if group == 4 else np.int16)
        wide[:, :units, :channels] = weight.reshape(groups, units, channels, taps)
        parts = wide.reshape(groups, tiles, height, blocks, group, taps).transpose(0, 1, 3, 5, 2, 4)
        self.words = np.ascontiguousarray(parts).view(np.int32)
        factor = np.int32(-128 if group == 4 else 0)  # x is stored plus 128
        self.starts = factor * wide.sum((2, 3), dtype=np.int32).reshape(groups, tiles * height)
        self.weight, self.units = weight.copy(), units

    def starting(self, offset: ndarray | None) -> ndarray:
        """Where sums start that are to end without an offset."""
        if offset is None:
            return self.starts
        starts = self.starts.copy()
        starts[:, : self.units] -= offset.reshape(-1, self.units)
        return starts


_packed: dict[tuple[int, int, int], tuple[Any, _Packed]] = {}


def _packed_weight(weight: ndarray, groups: int, height: int) -> _Packed:
    """The packed form of a weight, made once: the comparison costs a hundredth of the packing."""
    key = (id(weight), groups, height)
    found = _packed.get(key)
    if found is None or found[0]() is not weight or not np.array_equal(found[1].weight, weight):
        reference = weakref.ref(weight, lambda _: _packed.pop(key, None))
        found = _packed[key] = (reference, _Packed(weight, groups, height))
    return found[1]


def _places(taps: list[list[int]], stride: Sizes, length: Sizes) -> ndarray:
    """Where in the parts of a channel the first window meets each tap."""
    plane, found = math.prod(length), []
    for place in itertools.product(*taps):
        part = inside = 0
        for t, s, n in zip(place, stride, length, strict=True):
            part, inside = part * s + t % s, inside * n + t // s
        found.append(part * plane + inside)
    return np.array(found, np.int64)


_plans: dict[Any, Any] = {}


def _plan(x: Sizes, weight: Sizes, options: tuple[Any, ...], threads: int) -> tuple[Any, ...]:
    """The layout and the table of taps of a convolution, its tile, and the numbers of a launch; the result's shape."""
    stride, padding, dilation, groups, frame, low, high = options
    n, channels, units = x[0], weight[1], weight[0] // groups
    two = [(1,) * (2 - len(t)) + tuple(t) for t in (x[2:], weight[2:], stride, dilation)]
    (rows, columns), kernel, s, d = two
    top, left = (0,) * (2 - len(padding)) + tuple(padding)
    counts = tuple(
        (m + 2 * p - (k - 1) * e - 1) // t + 1
        for m, p, k, e, t in zip((rows, columns), (top, left), kernel, d, s, strict=True)
    )
    length = tuple(
        -(-((c - 1) * t + (k - 1) * e + 1) // t) for c, t, k, e in zip(counts, s, kernel, d, strict=True)
    )
    shape = shape_of("int8")
    group = shape.group // shape.spread
    height, vectors = _tile("float32", units)
    blocks, tiles = -(-channels // group), -(-units // height)
    plane = math.prod(length) * math.prod(s)
    words = blocks * plane
    together = max(1, min(n, -(-IMAGES // (4 * words)), -(-n // (2 * threads))))
    count = -(-n // together) * groups
    parts = 1 if count >= threads else min(tiles, -(-PARTS * threads // count))
    places = _places([[k * e for k in range(m)] for m, e in zip(kernel, d, strict=True)], s, length)
    taps = ((np.arange(blocks) * plane)[:, None] + places).reshape(-1) * 4
    word = frame + 128 if group == 4 else frame & 0xFFFF
    repeated = sum(word << (32 // group * i) for i in range(group))
    layout = np.array(
        [n, groups, channels, units, rows, columns, top, left, *s, *length, *counts, taps.size, together, parts, words,
         repeated - (1 << 32) if repeated >> 31 else repeated, blocks, low, high], np.int64)  # fmt: skip
    width = vectors * shape.lanes
    room = (taps.size * width + 2 * height * width + together * words + 4 * width) * 4
    work = n * math.prod(weight) * math.prod(counts)
    chunk = count * parts if work < 1 << 19 else 1
    result = (n, weight[0], *counts[2 - len(x[2:]) :])
    return layout, taps, height, vectors, count * parts, chunk, room, result


def _convolved(
    number: str, x: ndarray, weight: ndarray, offset: Any, scale: Any, bias: Any, following: tuple[Any, Any], least: Any, options: tuple[Any, ...]
) -> ndarray:  # fmt: skip
    key = (x.shape, weight.shape, options, team.get_num_threads())
    plan = _plans.get(key)
    if plan is None:
        if len(_plans) > 1000:
            _plans.clear()
        plan = _plans[key] = _plan(x.shape, weight.shape, options, key[-1])
    layout, taps, height, vectors, units, chunk, room, shape = plan
    packed = _packed_weight(weight, options[3], height)
    out = pool.empty(shape, np.dtype(number), math.prod(shape) * np.dtype(number).itemsize)
    return team.launch(
        _kernel(number, height, vectors), units, chunk, out, contiguous(x), packed.words, packed.starting(offset),
        scale, bias, *following, least, layout, taps, *scratch(room),
    )  # fmt: skip


def _does(x: ndarray, weight: ndarray, groups: int, padding: Sizes, dilation: Sizes) -> bool:
    """Whether these operands are this module's work, and not the body's, which also says what is wrong with them."""
    if x.ndim != weight.ndim or not 3 <= x.ndim <= 4 or not x.size or not weight.size:
        return False
    if x.shape[1] != weight.shape[1] * groups or weight.shape[0] % groups:
        return False
    inside = zip(x.shape[2:], weight.shape[2:], padding, dilation, strict=True)
    return all(n + 2 * p > (k - 1) * e for n, k, p, e in inside) and x.size * weight[:, 0].size >= WORTHWHILE


def make_conv(dtype: str, body: Callable[..., Any]) -> Callable[..., Any]:
    """The kernel of `int8_conv`, with the op's body for what it does not do."""

    def int8_conv(
        x: ndarray, weight: ndarray, /, *, stride: Sizes, padding: Sizes, dilation: Sizes, groups: int
    ) -> Any:
        if not _does(x, weight, groups, padding, dilation):
            return body(x, weight, stride=stride, padding=padding, dilation=dilation, groups=groups)
        options = (stride, padding, dilation, groups, 0, 0, 0)
        return _convolved("int32", x, weight, None, 0, 0, (0, 0), 0, options)

    return int8_conv


_LEAST = {relu: np.array(0.0 if relu else -np.inf, np.float32) for relu in (False, True)}


def make_layer(dtype: str, body: Callable[..., Any]) -> Callable[..., Any]:
    """The kernel of `quantized_conv`, with the op's body for what it does not do."""

    def quantized_conv(
        x: ndarray, weight: ndarray, offset: ndarray, scale: ndarray, bias: ndarray, next_scale: Any = None, next_zero: Any = None, /, *,
        stride: Sizes, padding: Sizes, dilation: Sizes, groups: int, frame: int, relu: bool, low: int, high: int,
    ) -> Any:  # fmt: skip
        units = weight.shape[:1]
        if not _does(x, weight, groups, padding, dilation) or not (
            offset.shape == scale.shape == bias.shape == units
        ):
            return body(
                x, weight, offset, scale, bias, next_scale, next_zero, stride=stride, padding=padding, dilation=dilation, groups=groups,
                frame=frame, relu=relu, low=low, high=high,
            )  # fmt: skip
        options = (stride, padding, dilation, groups, frame, low, high)
        number = "float32" if next_scale is None else "int8"
        following = (0, 0) if next_scale is None else (next_scale, next_zero)
        line = (contiguous(offset), contiguous(scale), contiguous(bias))
        return _convolved(number, x, weight, *line, following, _LEAST[relu], options)

    return quantized_conv


def make_pool(dtype: str, body: Callable[..., Any]) -> Callable[..., Any]:
    """The kernel of `int8_max_pool` over one or two axes."""

    def int8_max_pool(
        x: ndarray, /, *, kernel_size: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes, ceil_mode: bool
    ) -> Any:
        axes = len(kernel_size)
        sizes = x.shape[x.ndim - axes :]
        extents = [(k - 1) * d + 1 for k, d in zip(kernel_size, dilation, strict=True)]
        inside = all(n + 2 * p >= e for n, p, e in zip(sizes, padding, extents, strict=True))
        if ceil_mode or axes > 2 or stride[-1] > 4 or not x.size or not inside:
            return body(
                x,
                kernel_size=kernel_size,
                stride=stride,
                padding=padding,
                dilation=dilation,
                ceil_mode=ceil_mode,
            )
        counts = [
            (n + 2 * p - e) // s + 1 for n, p, e, s in zip(sizes, padding, extents, stride, strict=True)
        ]
        given = [(1, 1, 1, 1, 0, 1)] * (2 - axes)
        given += list(zip(sizes, counts, kernel_size, stride, padding, dilation, strict=True))
        shape = (*x.shape[: x.ndim - axes], *counts)
        size = math.prod(shape)
        planes = size // math.prod(counts)
        _, windows, k, s, p, d = given[1]
        line = max((windows - 1) * s + (k - 1) * d + 1, sizes[-1] + p)
        line = s * windows if line <= s * windows else line
        lines = given[0][1] * line + 8 * native.vector_bytes()
        flags, memory, each, slots = scratch(lines)
        if p or line > sizes[-1]:
            memory.view(np.int8).fill(-128)
        chunk = max(1, (1 << 13) // (given[0][1] * given[0][2]))
        out = pool.empty(shape, x.dtype, size)
        return team.launch(
            _pooling(s),
            planes,
            chunk,
            out,
            contiguous(x),
            *itertools.chain(*given),
            line,
            flags,
            memory,
            each,
            slots,
        )

    return int8_max_pool
