"""Tiles of products of short numbers: 8-bit integers, and floats of 16 bits.

Operands are packed into words of 32 bits, each with two or four neighbours along k, because that is what the machine's
dot products take: a lane of the sum gets the products of all numbers of a word. A panel has its words side by side for one
k, and behind the last k one line more, with what its numbers need.

==================  ============================  ==============================================================
kind                a word holds                  a lane of the sum gets
==================  ============================  ==============================================================
int8                4 int8                        four exact products (AVX-512 VNNI, AVX-VNNI); the right operand's
                                                  bytes are stored plus 128, and sums start at -128 times the left
                                                  operand's, which stand in the line
int16               2 int8, widened               two exact products, everywhere
bfloat16            2 bfloat16                    two products, by AVX512-BF16, which takes subnormal numbers for 0:
                                                  the line has the panel's smallest magnitude
bfloat16 exactly    2 bfloat16                    two fused multiplications of float32
float16             1 float16, as float32         a fused multiplication of float32
==================  ============================  ==============================================================
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from . import native
from .language import declared, inline, intrinsic, types
from .machine import at_int8, at_int16, at_int32, int64
from .simd import _HALF, _WORD, Emitter, panel_packer

SUMS = {
    "int8": "int32",
    "int16": "int32",
    "bfloat16": "float32",
    "bfloat16 exactly": "float32",
    "float16": "float32",
}
WIDENED = ("int16", "float16")  # kinds of which a packed word becomes two
_FLIP = 0x80808080 - (1 << 32)  # 128 in each byte


class _BFloat(ir.Type):
    """LLVM's type of bfloat16, which llvmlite lacks."""

    intrinsic_name = "bf16"

    def _to_string(self) -> str:
        return "bfloat"

    __str__ = _to_string

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _BFloat)

    def __hash__(self) -> int:
        return hash(_BFloat)


def _features() -> set[str]:
    return set(native.host()[1].split(","))


def product_kind(element: str) -> str:
    """The kind of tile that serves a dtype on this machine."""
    features, wide = _features(), native.vector_bytes()
    if element == "int8":
        fits = "+avx512vnni" in features if wide == 64 else wide == 32 and "+avxvnni" in features
        return "int8" if fits else "int16"
    if element == "bfloat16":
        return "bfloat16" if wide == 64 and "+avx512bf16" in features else "bfloat16 exactly"
    return element


def _call(code: Emitter, name: str, result: Any, operands: list[Any]) -> Any:
    kind = ir.FunctionType(result, [x.type for x in operands])
    return code.builder.call(declared(code.builder.module, kind, name), operands)


def _parts(code: Emitter, words: Any, kind: Any) -> Any:
    """A vector of words as one of their parts."""
    size = 8 if isinstance(kind, ir.IntType) and kind.width == 8 else 16
    return code.builder.bitcast(words, ir.VectorType(kind, code.lanes * 32 // size))


def _dot(code: Emitter, kind: str, x: Any, y: Any, total: Any) -> Any:
    """The sums after the products of two vectors of words."""
    builder, bits = code.builder, 32 * code.lanes
    words = ir.VectorType(_HALF, code.lanes)

    def shifted(value: Any, operation: Any, count: int) -> Any:
        return operation(value, ir.Constant(words, [count] * code.lanes))

    if kind == "int8":
        operands = [total, _parts(code, y, ir.IntType(8)), _parts(code, x, ir.IntType(8))]
        return _call(code, f"llvm.x86.avx512.vpdpbusd.{bits}", code.vector, operands)
    if kind == "int16":
        name = {
            512: "llvm.x86.avx512.pmaddw.d.512",
            256: "llvm.x86.avx2.pmadd.wd",
            128: "llvm.x86.sse2.pmadd.wd",
        }[bits]
        needs = {512: "+avx512bw", 256: "+avx2", 128: "+sse2"}[bits]
        if needs in _features():
            parts = [_parts(code, v, ir.IntType(16)) for v in (x, y)]
            return builder.add(total, _call(code, name, code.vector, parts))
        for part in ("low", "high"):
            pair = [shifted(v, builder.shl, 16) if part == "low" else v for v in (x, y)]
            total = builder.add(total, builder.mul(*(shifted(v, builder.ashr, 16) for v in pair)))
        return total
    if kind == "bfloat16":
        operands = [total, _parts(code, x, _BFloat()), _parts(code, y, _BFloat())]
        return _call(code, f"llvm.x86.avx512bf16.dpbf16ps.{bits}", code.vector, operands)
    if kind == "bfloat16 exactly":
        for part in ("low", "high"):
            pair = [
                shifted(v, builder.shl, 16) if part == "low" else shifted(v, builder.and_, -1 << 16)
                for v in (x, y)
            ]
            total = code.multiply_add(*(builder.bitcast(v, code.vector) for v in pair), total)
        return total
    return code.multiply_add(builder.bitcast(x, code.vector), builder.bitcast(y, code.vector), total)


def dot_tile(kind: str, rows: int, vectors: int, lanes: int, edge: bool, scattered: bool = False) -> Any:
    """The inner loop: ``tile(a, b, b_row, depth, c, c_row, starts, add, height, width)``, a tile of C, or of C + A B, from
    packed words.

    A's `rows` words for one k are side by side, and so are B's `vectors` * `lanes`, whose next row is `b_row` bytes away;
    with `scattered`, `b_row` is the address of a table: the row for k is that many bytes behind b. Sums of integers start
    at the `rows` numbers at `starts`. The tile replaces C, or is added to it where `add` is not zero. With `edge`, only
    `height` rows and `width` columns of C exist.
    """

    def emit(builder, arguments):
        a, b, b_row, depth, c, c_row, starts, add, height, width = arguments
        code, words = Emitter(builder, SUMS[kind], lanes), Emitter(builder, "int32", lanes)
        function, before = builder.function, builder.basic_block
        loop, after, end = (function.append_basic_block(f"dots.{name}") for name in ("loop", "after", "end"))
        places = [(i, v) for i in range(rows) for v in range(vectors)]

        def number(address: Any, i: int) -> Any:
            return builder.load(code.pointer(code.place(address, 4 * i), _HALF), align=4)

        first = [code.zero] * rows
        if SUMS[kind] == "int32":
            first = [words.everywhere(number(starts, i)) for i in range(rows)]
        builder.branch(loop)

        builder.position_at_end(loop)
        k, at_a, at_b = builder.phi(_WORD), builder.phi(_WORD), builder.phi(_WORD)
        totals = {place: builder.phi(code.vector) for place in places}
        for phi, start in (
            (k, code.word(0)),
            (at_a, a),
            (at_b, b_row if scattered else b),
            *((totals[i, v], first[i]) for i, v in places),
        ):
            phi.add_incoming(start, before)
        row = builder.add(b, builder.load(code.pointer(at_b, _WORD))) if scattered else at_b
        line = [words.load(code.place(row, 4 * v * lanes)) for v in range(vectors)]
        sums = {}
        for i in range(rows):
            x = words.everywhere(number(at_a, i))
            for v in range(vectors):
                sums[i, v] = _dot(code, kind, x, line[v], totals[i, v])
        following = builder.add(k, code.word(1))
        for phi, value in (
            (k, following),
            (at_a, code.place(at_a, 4 * rows)),
            (at_b, builder.add(at_b, code.word(8) if scattered else b_row)),
            *((totals[place], sums[place]) for place in places),
        ):
            phi.add_incoming(value, loop)
        builder.cbranch(builder.icmp_signed("<", following, depth), loop, after)

        builder.position_at_end(after)
        plus = builder.add if SUMS[kind] == "int32" else builder.fadd
        with builder.if_else(builder.icmp_signed("!=", add, code.word(0))) as branches:
            for block, adds in zip(branches, (True, False), strict=True):
                with block:
                    done = builder.append_basic_block("dots.stored")
                    for i in range(rows):
                        if edge and i:
                            more = builder.append_basic_block("dots.row")
                            builder.cbranch(builder.icmp_signed(">", height, code.word(i)), more, done)
                            builder.position_at_end(more)
                        for v in range(vectors):
                            mask = code.below(width, v * lanes) if edge else None
                            at = code.place(code.place(c, i, c_row), 4 * v * lanes)
                            value = sums[i, v]
                            code.store(plus(code.load(at, mask), value) if adds else value, at, mask)
                    builder.branch(done)
                    builder.position_at_end(done)
        builder.branch(end)
        builder.position_at_end(end)

    @intrinsic
    def tile(a, b, b_row, depth, c, c_row, starts, add, height, width):
        return types.void(*(types.int64,) * 10), emit

    return tile


# --- packing --------------------------------------------------------------------------------------------------


def interleave(size: int, lanes: int, edge: bool, exact: bool = False) -> Any:
    """``line(source, step, out, have, count, flip)``: words of the numbers of `size` bytes that stand side by side in 4 /
    size rows, of which `have` exist, `step` bytes apart; with `edge` there are `count` of them, and zeros follow, or with
    `exact` nothing is stored behind them.
    """
    group = 4 // size

    def emit(builder, arguments):
        source, step, out, have, count, flip = arguments
        code, words = Emitter(builder, f"int{8 * size}", lanes), Emitter(builder, "int32", lanes)
        total, last = None, builder.sub(have, code.word(1))
        for g in range(group):
            at = builder.add(
                source, builder.mul(step, code.smaller(code.word(g), last) if g else code.word(0))
            )
            row = builder.zext(code.load(at, code.below(count) if edge else None), words.vector)
            if g:
                row = builder.shl(row, ir.Constant(words.vector, [8 * size * g] * lanes))
                row = builder.select(builder.icmp_signed(">", have, code.word(g)), row, words.zero)
                row = builder.or_(total, row)
            total = row
        total = builder.xor(total, words.everywhere(builder.trunc(flip, _HALF)))
        words.store(total, out, words.below(count) if exact else None)

    @intrinsic
    def line(source, step, out, have, count, flip):
        return types.void(*(types.int64,) * 6), emit

    return line


def store_line(element: str, vectors: int, lanes: int) -> Any:
    """``store(source, out, count)``: the first `count` of `vectors` * `lanes` elements, all of which exist in the source."""

    def emit(builder, arguments):
        source, out, count = arguments
        code = Emitter(builder, element, lanes)
        for v in range(vectors):
            value = code.load(code.place(source, v * lanes * code.size))
            code.store(value, code.place(out, v * lanes * code.size), code.below(count, v * lanes))

    @intrinsic
    def store(source, out, count):
        return types.void(*(types.int64,) * 3), emit

    return store


def _widen(kind: str, lanes: int) -> Any:
    """``widen(source, low, high)``: a vector of words as two of words of half as many numbers."""

    def emit(builder, arguments):
        code = Emitter(builder, "int32", lanes)
        words = code.load(arguments[0])

        def moved(value: Any, operation: Any, count: int) -> Any:
            return operation(value, ir.Constant(code.vector, [count] * lanes))

        for out, up in zip(arguments[1:], (16, 0), strict=True):
            value = moved(words, builder.shl, up) if up else words  # what is wanted is the upper half
            if kind == "int16":
                low = moved(moved(moved(value, builder.shl, 8), builder.ashr, 24), builder.and_, 0xFFFF)
                value = builder.or_(low, moved(moved(value, builder.ashr, 24), builder.shl, 16))
            else:
                half = builder.trunc(moved(value, builder.lshr, 16), ir.VectorType(ir.IntType(16), lanes))
                half = builder.bitcast(half, ir.VectorType(ir.HalfType(), lanes))
                floats = builder.fpext(half, ir.VectorType(ir.FloatType(), lanes))
                value = builder.bitcast(floats, code.vector)
            code.store(value, out)

    @intrinsic
    def widen(source, low, high):
        return types.void(*(types.int64,) * 3), emit

    return widen


def _over_line(kind: str, lanes: int) -> Any:
    """``found(panel, step, depth, out)``, for `lanes` columns of a panel: of int8, -128 times each column's sum is stored at
    `out`; of bfloat16, `out` has the smallest magnitude's bits less 1, and so 0 as the largest there is, if that is smaller
    than what it had.
    """

    def emit(builder, arguments):
        panel, step, depth, out = arguments
        code = Emitter(builder, "int32", lanes)
        function, before = builder.function, builder.basic_block
        loop, after = (function.append_basic_block(f"line.{name}") for name in ("loop", "after"))
        shorts = ir.VectorType(ir.IntType(16), 2 * lanes)
        builder.branch(loop)
        builder.position_at_end(loop)
        k, at = builder.phi(_WORD), builder.phi(_WORD)
        kept = code.vector if kind == "int8" else shorts
        total = builder.phi(kept)
        start = code.zero if kind == "int8" else ir.Constant(shorts, [0xFFFF] * (2 * lanes))
        for phi, value in ((k, code.word(0)), (at, panel), (total, start)):
            phi.add_incoming(value, before)
        words = code.load(at)
        if kind == "int8":
            found = _dot(code, kind, words, ir.Constant(code.vector, [_FLIP] * lanes), total)
        else:
            size = builder.and_(builder.bitcast(words, shorts), ir.Constant(shorts, [0x7FFF] * (2 * lanes)))
            size = builder.sub(size, ir.Constant(shorts, [1] * (2 * lanes)))
            found = _call(code, f"llvm.umin.v{2 * lanes}i16", shorts, [size, total])
        following = builder.add(k, code.word(1))
        for phi, value in ((k, following), (at, builder.add(at, step)), (total, found)):
            phi.add_incoming(value, loop)
        builder.cbranch(builder.icmp_signed("<", following, depth), loop, after)
        builder.position_at_end(after)
        if kind == "int8":
            code.store(builder.sub(code.zero, found), out)
        else:
            least = _call(code, f"llvm.vector.reduce.umin.v{2 * lanes}i16", ir.IntType(16), [found])
            place = code.pointer(out, _HALF)
            builder.store(
                code.smaller(builder.zext(least, _HALF), builder.load(place, align=4)), place, align=4
            )

    @intrinsic
    def found(panel, step, depth, out):
        return types.void(*(types.int64,) * 4), emit

    return found


def group_packer(kind: str, width: int, lanes: int, left: bool) -> Any:
    """``pack(out, source, k_step, step, count, depth, scratch)``: a panel of `width` rows of the left operand, or columns of
    the right one, of which `count` exist, `step` bytes apart, and the line behind it.

    Columns that do not exist are zeros, or never used. `width` is a multiple of `lanes`, or less: then stores spill over.
    `scratch` is as large as the panel, for kinds that are widened.
    """
    size = 1 if kind.startswith("int") else 2
    group, at_number, bits = 4 // size, at_int8 if size == 1 else at_int16, 8 * size
    mask = (1 << bits) - 1
    flip = _FLIP if kind == "int8" and not left else 0
    line, line_edge = (interleave(size, lanes, edge) for edge in (False, True))
    transpose = panel_packer("int32", width, lanes)

    @inline
    def gather(out, source, k_step, step, count, depth, scratch):
        whole, words = depth // group, (depth + group - 1) // group
        if step == size:
            for k in range(words):
                have, at = min(depth - k * group, group), source + k * group * k_step
                for j in range(0, width, lanes):
                    if count - j >= lanes:
                        line(at + j * size, k_step, out + (k * width + j) * 4, have, lanes, flip)
                    else:
                        line_edge(
                            at + j * size, k_step, out + (k * width + j) * 4, have, max(count - j, 0), flip
                        )
            return words
        panel, first = at_int32(out), 0
        if count < width:
            for i in range(words * width):
                panel[i] = 0
        if k_step == size:
            transpose(out, source, 4, step, count, whole)
            first = whole
        for k in range(first, words):
            for j in range(count):
                word = 0
                for g in range(min(depth - k * group, group)):
                    number = int64(at_number(source + (k * group + g) * k_step + j * step)[0])
                    word |= (number & mask) << (bits * g)
                panel[k * width + j] = word
        if flip:
            for i in range(words * width):
                panel[i] ^= flip
        return words

    if kind in WIDENED:
        widen = _widen(kind, lanes)

        @inline
        def pack(out, source, k_step, step, count, depth, scratch):
            words = gather(scratch, source, k_step, step, count, depth, scratch)
            for k in range(words):
                for j in range(0, width, lanes):
                    place = out + (2 * k * width + j) * 4
                    widen(scratch + (k * width + j) * 4, place, place + width * 4)
            numbers = at_int32(out + 2 * words * width * 4)
            for i in range(width):
                numbers[i] = 0

    elif kind == "bfloat16" or (kind == "int8" and left):
        found, start, apart = _over_line(kind, lanes), 0xFFFF, 4 if kind == "int8" else 0

        @inline
        def pack(out, source, k_step, step, count, depth, scratch):
            words = gather(out, source, k_step, step, count, depth, scratch)
            after = out + words * width * 4
            numbers = at_int32(after)
            for i in range(lanes):  # also what the last row has spilled
                numbers[i] = 0
            numbers[0] = start
            for j in range(0, width, lanes):
                found(out + j * 4, width * 4, words, after + j * apart)

    else:
        pack = gather

    return pack


# --- what follows -----------------------------------------------------------------------------------------------


def finish_line(element: str, vectors: int, lanes: int) -> Any:
    """``finish(sums, out, scale, bias, least, next_scale, next_zero, low, high)``: int32 sums as numbers, each operand but
    the last two the address of one: y = max(scale sum + bias, least) for float32, and for int8 that divided by next_scale,
    rounded, plus next_zero, kept within [low, high].
    """

    def emit(builder, arguments):
        sums, out, *numbers, low, high = arguments
        code, words = Emitter(builder, "float32", lanes), Emitter(builder, "int32", lanes)
        short = Emitter(builder, "int8", lanes)

        def one(address: Any) -> Any:
            return code.everywhere(builder.load(code.pointer(address, code.scalar), align=4))

        scale, bias, least = (one(a) for a in numbers[:3])
        if element == "int8":
            following, zero = (one(a) for a in numbers[3:])
            bounds = [
                builder.sitofp(words.everywhere(builder.trunc(v, _HALF)), code.vector) for v in (low, high)
            ]
        for v in range(vectors):
            total = builder.sitofp(words.load(code.place(sums, 4 * v * lanes)), code.vector)
            y = builder.fadd(builder.fmul(total, scale), bias)
            y = _call(code, f"llvm.maximum.{code.suffix}", code.vector, [y, least])
            if element == "float32":
                code.store(y, code.place(out, 4 * v * lanes))
                continue
            q = _call(code, f"llvm.roundeven.{code.suffix}", code.vector, [builder.fdiv(y, following)])
            q = _call(code, f"llvm.maximum.{code.suffix}", code.vector, [builder.fadd(q, zero), bounds[0]])
            q = _call(code, f"llvm.minimum.{code.suffix}", code.vector, [q, bounds[1]])
            number = builder.fptosi(
                builder.select(builder.fcmp_ordered("ord", q, q), q, code.zero), words.vector
            )
            short.store(builder.trunc(number, short.vector), code.place(out, v * lanes))

    @intrinsic
    def finish(sums, out, scale, bias, least, next_scale, next_zero, low, high):
        return types.void(*(types.int64,) * 9), emit

    return finish


def pooled_line(stride: int, lanes: int, masked: bool) -> Any:
    """``along(source, taps, step, out, count)``: out[j] is the largest of source[stride j + step k] for k below `taps`: a
    vector of int8, of which the first `count` are stored, and `stride` vectors, or with `masked` `count` numbers, are read
    for each k.
    """

    def emit(builder, arguments):
        source, taps, step, out, count = arguments
        code = Emitter(builder, "int8", lanes)
        function, before = builder.function, builder.basic_block
        loop, after = (function.append_basic_block(f"pooled.{name}") for name in ("loop", "after"))
        builder.branch(loop)
        builder.position_at_end(loop)
        k, at, total = builder.phi(_WORD), builder.phi(_WORD), builder.phi(code.vector)
        for phi, value in (
            (k, code.word(0)),
            (at, source),
            (total, ir.Constant(code.vector, [-128] * lanes)),
        ):
            phi.add_incoming(value, before)
        row = Emitter(builder, "int8", lanes * stride).load(at, code.below(count) if masked else None)
        order = ir.Constant(code.indices, [stride * i for i in range(lanes)])
        row = builder.shuffle_vector(row, ir.Constant(row.type, ir.Undefined), order) if stride > 1 else row
        found = _call(code, f"llvm.smax.{code.suffix}", code.vector, [total, row])
        following = builder.add(k, code.word(1))
        for phi, value in ((k, following), (at, builder.add(at, step)), (total, found)):
            phi.add_incoming(value, loop)
        builder.cbranch(builder.icmp_signed("<", following, taps), loop, after)
        builder.position_at_end(after)
        code.store(found, out, code.below(count))

    @intrinsic
    def along(source, taps, step, out, count):
        return types.void(*(types.int64,) * 5), emit

    return along
