"""Inner loops of convolutions and pooling, as simd.py has them for products: pieces of rows, and windows with a channel in each lane.

Addresses and steps are in bytes.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from .language import declared, intrinsic, types
from .simd import Emitter

_WORD, _HALF = ir.IntType(64), ir.IntType(32)


def _between(code: Emitter, first: Any, last: Any, places: list[int]) -> Any:
    """The mask of the lanes whose number in `places` is from `first` up to `last`."""
    builder, numbers = code.builder, ir.Constant(code.indices, places)
    low, high = (code.everywhere(builder.trunc(n, _HALF)) for n in (first, last))
    return builder.and_(builder.icmp_signed(">=", numbers, low), builder.icmp_signed("<", numbers, high))


def _taken(code: Emitter, source: Any, first: Any, last: Any, stride: int) -> Any:
    """Elements j * stride of the source for lanes first <= j < last, and zeros."""
    lanes, parts = code.lanes, []
    for part in range(stride):
        places = [part * lanes + lane for lane in range(lanes)]
        mask = _between(code, first, last, [place // stride for place in places])
        if stride > 1:
            chosen = ir.Constant(code.masks, [int(place % stride == 0) for place in places])
            mask = code.builder.and_(mask, chosen)
        parts.append(code.load(code.place(source, part * lanes * code.size), mask))
    if stride == 1:
        return parts[0]
    return code.builder.shuffle_vector(*parts, ir.Constant(code.indices, list(range(0, 2 * lanes, 2))))


def take_line(element: str, lanes: int, stride: int) -> Any:
    """``take(source, out, first, last, count)``: the lanes j, first <= j < last, are elements j * stride of the source, 1
    or 2; the lanes up to `count` are stored, zeros where nothing was taken.
    """

    def emit(builder, arguments):
        source, out, first, last, count = arguments
        code = Emitter(builder, element, lanes)
        code.store(_taken(code, source, first, last, stride), out, code.below(count))

    @intrinsic
    def take(source, out, first, last, count):
        return types.void(*(types.int64,) * 5), emit

    return take


def put_line(element: str, lanes: int) -> Any:
    """``put(source, out, count, more)``: the first `count` of a vector, the element at the address `more` added to each."""

    def emit(builder, arguments):
        source, out, count, more = arguments
        code = Emitter(builder, element, lanes)
        addend = code.everywhere(builder.load(code.pointer(more, code.scalar), align=code.size))
        code.store(builder.fadd(code.load(source), addend), out, code.below(count))

    @intrinsic
    def put(source, out, count, more):
        return types.void(*(types.int64,) * 4), emit

    return put


def fold_taps(element: str, lanes: int, stride: int, kind: str) -> Any:
    """``fold(table, taps, at, values, places, count)``: what `lanes` windows from window `at` on meet, tap by tap: their sum,
    the largest, in which a NaN wins, or with `kind` "place" where the largest is, the first of equal ones or the first NaN.
    Values, or 32-bit places, are stored for `count` windows; there is no place, -1, for a window without taps.

    A tap has four words: the address of what window 0 meets with it, the first window that does and the one behind the
    last, and window 0's place. Neighbouring windows' are `stride` apart, 1 or 2.
    """

    def emit(builder, arguments):
        table, taps, at, values, places, count = arguments
        code, numbers = Emitter(builder, element, lanes), Emitter(builder, "int32", lanes)
        function, before = builder.function, builder.basic_block
        head, loop, after = (
            function.append_basic_block(f"fold.{name}") for name in ("head", "loop", "after")
        )
        begin = ir.Constant(code.scalar, float("-inf") if kind != "sum" else -0.0)
        steps = ir.Constant(numbers.vector, [stride * lane for lane in range(lanes)])
        moved = builder.mul(at, code.word(stride))
        builder.branch(head)

        builder.position_at_end(head)
        k, tap = builder.phi(_WORD), builder.phi(_WORD)
        value, place = builder.phi(code.vector), builder.phi(numbers.vector)
        for phi, start in (
            (k, code.word(0)), (tap, table), (value, ir.Constant(code.vector, [begin] * lanes)),
            (place, ir.Constant(numbers.vector, [-1] * lanes)),
        ):  # fmt: skip
            phi.add_incoming(start, before)
        builder.cbranch(builder.icmp_signed("<", k, taps), loop, after)

        builder.position_at_end(loop)
        source, first, last, number = (
            builder.load(code.pointer(code.place(tap, 8 * i), _WORD)) for i in range(4)
        )
        first, last = builder.sub(first, at), builder.sub(last, at)
        mask = _between(code, first, last, list(range(lanes)))
        address = builder.add(source, builder.mul(moved, code.word(code.size)))
        new, here = _taken(code, address, first, last, stride), place
        if kind == "place":
            better = builder.or_(
                builder.fcmp_ordered(">", new, value),
                builder.and_(
                    builder.fcmp_unordered("uno", new, new), builder.fcmp_ordered("ord", value, value)
                ),
            )
            mask = builder.and_(mask, builder.or_(better, builder.icmp_signed("<", place, numbers.zero)))
            here = numbers.everywhere(builder.trunc(builder.add(number, moved), _HALF))
            here = builder.select(mask, builder.add(here, steps), place)
        elif kind == "largest":
            function_type = ir.FunctionType(code.vector, [code.vector] * 2)
            new = builder.call(
                declared(builder.module, function_type, f"llvm.maximum.{code.suffix}"), [value, new]
            )
        else:
            new = builder.fadd(value, new)
        for phi, made in (
            (k, builder.add(k, code.word(1))), (tap, code.place(tap, 32)), (value, builder.select(mask, new, value)), (place, here),
        ):  # fmt: skip
            phi.add_incoming(made, loop)
        builder.branch(head)

        builder.position_at_end(after)
        if kind == "place":
            numbers.store(place, places, code.below(count))
        else:
            code.store(value, values, code.below(count))

    @intrinsic
    def fold(table, taps, at, values, places, count):
        return types.void(*(types.int64,) * 6), emit

    return fold


def lane_windows(element: str, pixels: int, lanes: int) -> Any:
    """``sums(image, step, table, taps, weights, start, out, out_step, count)``: the products of `pixels` windows with
    weights, of which `count` are stored; a lane is a channel of its own.

    A tap has two words in the table: bytes from the image's address, from which windows are `step` apart, and from that of
    the weights. Every sum begins with the vector at `start`.
    """

    def emit(builder, arguments):
        image, step, table, taps, weights, start, out, out_step, count = arguments
        code = Emitter(builder, element, lanes)
        function, before = builder.function, builder.basic_block
        head, loop, after = (
            function.append_basic_block(f"lanes.{name}") for name in ("head", "loop", "after")
        )
        first = code.load(start)
        steps = [builder.mul(step, code.word(i)) for i in range(pixels)]
        builder.branch(head)

        builder.position_at_end(head)
        k, at = builder.phi(_WORD), builder.phi(_WORD)
        totals = [builder.phi(code.vector) for _ in range(pixels)]
        for phi, value in ((k, code.word(0)), (at, table), *((t, first) for t in totals)):
            phi.add_incoming(value, before)
        builder.cbranch(builder.icmp_signed("<", k, taps), loop, after)

        builder.position_at_end(loop)
        place = builder.add(image, builder.load(code.pointer(at, _WORD)))
        weight = code.load(builder.add(weights, builder.load(code.pointer(code.place(at, 8), _WORD))))
        for i, total in enumerate(totals):
            total.add_incoming(
                code.multiply_add(code.load(builder.add(place, steps[i])), weight, total), loop
            )
        k.add_incoming(builder.add(k, code.word(1)), loop)
        at.add_incoming(code.place(at, 16), loop)
        builder.branch(head)

        builder.position_at_end(after)
        done = function.append_basic_block("lanes.stored")
        for i, total in enumerate(totals):
            following = function.append_basic_block("lanes.pixel")
            builder.cbranch(builder.icmp_signed(">", count, code.word(i)), following, done)
            builder.position_at_end(following)
            code.store(total, code.place(out, i, out_step))
        builder.branch(done)
        builder.position_at_end(done)

    @intrinsic
    def sums(image, step, table, taps, weights, start, out, out_step, count):
        return types.void(*(types.int64,) * 9), emit

    return sums


def lane_taps(element: str, taps: int, lanes: int) -> Any:
    """``sums(image, step, table, cotangent, count, totals)``: to the totals of `taps` taps are added the products of
    `count` windows' elements, `step` bytes apart, and the windows' cotangents; a lane is a channel of its own.

    The table has bytes from the image's address to each tap.
    """

    def emit(builder, arguments):
        image, step, table, cotangent, count, totals = arguments
        code = Emitter(builder, element, lanes)
        size = lanes * code.size
        function, before = builder.function, builder.basic_block
        head, loop, after = (
            function.append_basic_block(f"taps.{name}") for name in ("head", "loop", "after")
        )
        offsets = [builder.load(code.pointer(code.place(table, 8 * t), _WORD)) for t in range(taps)]
        first = [code.load(code.place(totals, t * size)) for t in range(taps)]
        builder.branch(head)

        builder.position_at_end(head)
        k, at, at_g = builder.phi(_WORD), builder.phi(_WORD), builder.phi(_WORD)
        sums = [builder.phi(code.vector) for _ in range(taps)]
        for phi, value in ((k, code.word(0)), (at, image), (at_g, cotangent), *zip(sums, first, strict=True)):
            phi.add_incoming(value, before)
        builder.cbranch(builder.icmp_signed("<", k, count), loop, after)

        builder.position_at_end(loop)
        g = code.load(at_g)
        for offset, total in zip(offsets, sums, strict=True):
            total.add_incoming(code.multiply_add(code.load(builder.add(at, offset)), g, total), loop)
        k.add_incoming(builder.add(k, code.word(1)), loop)
        at.add_incoming(builder.add(at, step), loop)
        at_g.add_incoming(code.place(at_g, size), loop)
        builder.branch(head)

        builder.position_at_end(after)
        for t, total in enumerate(sums):
            code.store(total, code.place(totals, t * size))

    @intrinsic
    def sums(image, step, table, cotangent, count, totals):
        return types.void(*(types.int64,) * 6), emit

    return sums
