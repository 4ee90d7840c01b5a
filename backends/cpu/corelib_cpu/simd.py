"""Kernels' inner loops written out in vectors, where the compiler does not find them by itself: tiles of products,
copies and transposes of blocks.

A maker returns an intrinsic for one element type, shape and number of lanes, and the source of a kernel calls it.
Addresses and steps are in bytes. One source serves every instruction set: a target without masks gets scalar code for
the edges, one without fused multiplication multiplies and adds.
"""

from __future__ import annotations

import platform
from typing import Any

from llvmlite import ir

from . import machine, native
from .language import declared, inline, intrinsic, types
from .machine import atomic_load, atomic_store, atomic_swap_if, pause

_WORD, _HALF = ir.IntType(64), ir.IntType(32)
_ELEMENTS = {
    "float32": (ir.FloatType(), 4),
    "float64": (ir.DoubleType(), 8),
    **{f"int{8 * size}": (ir.IntType(8 * size), size) for size in (1, 2, 4, 8, 16)},
}


def has_fma() -> bool:
    """Whether the machine multiplies and adds in one operation; LLVM would call a library for each number."""
    return "+fma" in native.host()[1].split(",") or platform.machine().lower() in ("arm64", "aarch64")


class Emitter:
    """Vector code of one element type and number of lanes, at the builder's place."""

    def __init__(self, builder: Any, element: str, lanes: int) -> None:
        self.builder, self.lanes = builder, lanes
        self.scalar, self.size = _ELEMENTS[element]
        self.vector = ir.VectorType(self.scalar, lanes)
        self.masks = ir.VectorType(ir.IntType(1), lanes)
        self.indices = ir.VectorType(_HALF, lanes)
        self.suffix = f"v{lanes}{'f' if element.startswith('f') else 'i'}{8 * self.size}"
        self.zero = ir.Constant(self.vector, None)

    def word(self, value: int) -> Any:
        return ir.Constant(_WORD, value)

    def place(self, address: Any, offset: int, step: Any = None) -> Any:
        """address + offset * step, or address + offset."""
        if step is not None:
            return self.builder.add(address, self.builder.mul(step, self.word(offset))) if offset else address
        return self.builder.add(address, self.word(offset)) if offset else address

    def pointer(self, address: Any, kind: Any) -> Any:
        return self.builder.inttoptr(address, kind.as_pointer())

    def load(self, address: Any, mask: Any = None) -> Any:
        """A vector; lanes that the mask leaves out are zero and their memory is not read."""
        pointer = self.pointer(address, self.vector)
        if mask is None:
            return self.builder.load(pointer, align=self.size)
        kind = ir.FunctionType(self.vector, [pointer.type, _HALF, self.masks, self.vector])
        function = declared(self.builder.module, kind, f"llvm.masked.load.{self.suffix}.p0")
        return self.builder.call(function, [pointer, ir.Constant(_HALF, self.size), mask, self.zero])

    def store(self, value: Any, address: Any, mask: Any = None) -> None:
        pointer = self.pointer(address, self.vector)
        if mask is None:
            self.builder.store(value, pointer, align=self.size)
            return
        kind = ir.FunctionType(ir.VoidType(), [self.vector, pointer.type, _HALF, self.masks])
        function = declared(self.builder.module, kind, f"llvm.masked.store.{self.suffix}.p0")
        self.builder.call(function, [value, pointer, ir.Constant(_HALF, self.size), mask])

    def everywhere(self, value: Any) -> Any:
        """A vector of one scalar."""
        kind = ir.VectorType(value.type, self.lanes)
        first = self.builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(_HALF, 0))
        return self.builder.shuffle_vector(
            first, ir.Constant(kind, ir.Undefined), ir.Constant(self.indices, None)
        )

    def below(self, count: Any, first: int = 0) -> Any:
        """The mask of the lanes whose number, from `first` on, is below count: a word, or a Python number."""
        if isinstance(count, int):
            return ir.Constant(self.masks, [int(first + lane < count) for lane in range(self.lanes)])
        numbers = ir.Constant(self.indices, list(range(first, first + self.lanes)))
        return self.builder.icmp_signed("<", numbers, self.everywhere(self.builder.trunc(count, _HALF)))

    def multiply_add(self, x: Any, y: Any, total: Any) -> Any:
        if not has_fma():
            return self.builder.fadd(total, self.builder.fmul(x, y))
        kind = ir.FunctionType(self.vector, [self.vector] * 3)
        function = declared(self.builder.module, kind, f"llvm.fma.{self.suffix}")
        return self.builder.call(function, [x, y, total])

    def smaller(self, x: Any, y: Any) -> Any:
        return self.builder.select(self.builder.icmp_signed("<", x, y), x, y)


def matrix_tile(
    element: str, rows: int, vectors: int, lanes: int, packed: bool, edge: bool, scattered: bool = False
) -> Any:
    """The inner loop of a product of matrices: a tile of C, or of C + A B, stays in registers over all k.

    ``tile(a, a_row, a_column, b, b_row, depth, c, c_row, add, height, width)``: a row of B has `vectors` * `lanes`
    elements side by side; the tile replaces C, or is added to it where `add` is not zero. With `packed`, A's `rows`
    elements for one k are side by side and the steps of A are not used. With `edge`, only `height` rows and `width`
    columns exist: no memory outside them is touched. With `scattered`, `b_row` is the address of a table: the row for k
    is that many bytes behind b.
    """

    def emit(builder, arguments):
        a, a_row, a_column, b, b_row, depth, c, c_row, add, height, width = arguments
        code = Emitter(builder, element, lanes)
        size = code.size
        function, before = builder.function, builder.basic_block
        loop, after, end = (function.append_basic_block(f"tile.{name}") for name in ("loop", "after", "end"))
        places = [(i, v) for i in range(rows) for v in range(vectors)]
        mask = [code.below(width, v * lanes) if edge else None for v in range(vectors)]
        last = builder.sub(height, code.word(1))
        # rows that do not exist are computed from the last one that does, and not stored
        numbers = [code.smaller(code.word(i), last) if edge and i else code.word(i) for i in range(rows)]
        row_steps = [code.word(i * size) if packed else builder.mul(a_row, n) for i, n in enumerate(numbers)]
        a_step = code.word(rows * size) if packed else a_column
        builder.branch(loop)

        builder.position_at_end(loop)
        k, at_a, at_b = builder.phi(_WORD), builder.phi(_WORD), builder.phi(_WORD)
        totals = {place: builder.phi(code.vector) for place in places}
        for phi, start in (
            (k, code.word(0)),
            (at_a, a),
            (at_b, b_row if scattered else b),
            *((t, code.zero) for t in totals.values()),
        ):
            phi.add_incoming(start, before)
        row = builder.add(b, builder.load(code.pointer(at_b, _WORD))) if scattered else at_b
        line = [code.load(code.place(row, v * lanes * size), mask[v]) for v in range(vectors)]
        sums = {}
        for i in range(rows):
            x = builder.load(code.pointer(builder.add(at_a, row_steps[i]), code.scalar), align=size)
            x = code.everywhere(x)
            for v in range(vectors):
                sums[i, v] = code.multiply_add(x, line[v], totals[i, v])
        following = builder.add(k, code.word(1))
        for phi, value in (
            (k, following), (at_a, builder.add(at_a, a_step)), (at_b, builder.add(at_b, code.word(8) if scattered else b_row)),
            *((totals[place], sums[place]) for place in places),
        ):  # fmt: skip
            phi.add_incoming(value, loop)
        builder.cbranch(builder.icmp_signed("<", following, depth), loop, after)

        builder.position_at_end(after)
        adding = builder.icmp_signed("!=", add, code.word(0))
        with builder.if_else(adding) as (then, otherwise):
            for block, adds in ((then, True), (otherwise, False)):
                with block:
                    _store_tile(code, sums, rows, vectors, c, c_row, adds, height if edge else None, mask)
        builder.branch(end)
        builder.position_at_end(end)

    @intrinsic
    def tile(a, a_row, a_column, b, b_row, depth, c, c_row, add, height, width):
        return types.void(*(types.int64,) * 11), emit

    return tile


def _store_tile(
    code: Emitter, sums: Any, rows: int, vectors: int, c: Any, c_row: Any, adds: bool, height: Any, mask: Any
) -> None:
    """Stores rows of a tile, up to `height` of them where that is given."""
    builder = code.builder
    done = builder.append_basic_block("tile.stored") if height is not None else None
    for i in range(rows):
        if done is not None and i:
            following = builder.append_basic_block("tile.row")
            builder.cbranch(builder.icmp_signed(">", height, code.word(i)), following, done)
            builder.position_at_end(following)
        row = code.place(c, i, c_row)
        for v in range(vectors):
            address, value = code.place(row, v * code.lanes * code.size), sums[i, v]
            code.store(builder.fadd(code.load(address, mask[v]), value) if adds else value, address, mask[v])
    if done is not None:
        builder.branch(done)
        builder.position_at_end(done)


def copy_line(element: str, vectors: int, lanes: int, edge: bool) -> Any:
    """``copy(source, out, count)``: `vectors` * `lanes` elements; with `edge` only `count` of them exist in the source,
    and zeros follow.
    """

    def emit(builder, arguments):
        source, out, count = arguments
        code = Emitter(builder, element, lanes)
        steps = [v * lanes for v in range(vectors)]
        line = [
            code.load(code.place(source, s * code.size), code.below(count, s) if edge else None)
            for s in steps
        ]
        for s, value in zip(steps, line, strict=True):
            code.store(value, code.place(out, s * code.size))

    @intrinsic
    def copy(source, out, count):
        return types.void(*(types.int64,) * 3), emit

    return copy


def transpose_block(element: str, rows: int, lanes: int, edge: bool) -> Any:
    """``transpose(source, source_row, height, width, out, out_row)``: a block of `rows` times `lanes` elements becomes
    one of `lanes` rows, of which each is stored as a whole vector, also where `rows` is less than `lanes`.

    With `edge` only `height` rows and `width` columns of the source exist; rows beyond are copies of the last, and
    `width` rows are stored.
    """

    def emit(builder, arguments):
        source, source_row, height, width, out, out_row = arguments
        code = Emitter(builder, element, lanes)
        mask = code.below(width) if edge else None
        last = builder.sub(height, code.word(1))
        lines = []
        for i in range(rows):
            number = code.smaller(code.word(i), last) if edge and i else code.word(i)
            lines.append(code.load(builder.add(source, builder.mul(source_row, number)), mask))
        lines += [ir.Constant(code.vector, ir.Undefined)] * (lanes - rows)
        half = 1
        while half < lanes:  # a butterfly: exchange what is `half` off the diagonal
            low = [j if j & half == 0 else lanes + j - half for j in range(lanes)]
            high = [j + half if j & half == 0 else lanes + j for j in range(lanes)]
            for i in range(lanes):
                if i & half == 0:
                    pair = lines[i], lines[i + half]
                    lines[i], lines[i + half] = (
                        builder.shuffle_vector(*pair, ir.Constant(code.indices, order))
                        for order in (low, high)
                    )
            half *= 2
        done = builder.append_basic_block("transpose.end") if edge else None
        for i, line in enumerate(lines):
            if done is not None and i:
                following = builder.append_basic_block("transpose.row")
                builder.cbranch(builder.icmp_signed(">", width, code.word(i)), following, done)
                builder.position_at_end(following)
            code.store(line, code.place(out, i, out_row))
        if done is not None:
            builder.branch(done)
            builder.position_at_end(done)

    @intrinsic
    def transpose(source, source_row, height, width, out, out_row):
        return types.void(*(types.int64,) * 6), emit

    return transpose


def dot_rows(element: str, rows: int, vectors: int, lanes: int) -> Any:
    """``dots(a, a_row, x, depth, out, out_row, height)``: the dot products of `rows` contiguous rows with a contiguous
    vector, of which the first `height` exist; each is a sum of `vectors` * `lanes` running sums.
    """

    def emit(builder, arguments):
        a, a_row, x, depth, out, out_row, height = arguments
        code = Emitter(builder, element, lanes)
        function, before = builder.function, builder.basic_block
        loop, after = (function.append_basic_block(f"dots.{name}") for name in ("loop", "after"))
        step = vectors * lanes
        last = builder.sub(height, code.word(1))
        starts = [
            builder.add(a, builder.mul(a_row, code.smaller(code.word(i), last) if i else code.word(0)))
            for i in range(rows)
        ]
        places = [(i, v) for i in range(rows) for v in range(vectors)]
        whole = builder.sub(depth, builder.urem(depth, code.word(step)))
        head = function.append_basic_block("dots.head")
        builder.branch(head)

        builder.position_at_end(head)
        k = builder.phi(_WORD)
        totals = {place: builder.phi(code.vector) for place in places}
        for phi, start in ((k, code.word(0)), *((t, code.zero) for t in totals.values())):
            phi.add_incoming(start, before)
        builder.cbranch(builder.icmp_signed("<", k, whole), loop, after)

        builder.position_at_end(loop)

        def products(masks: Any) -> dict[Any, Any]:
            offset = builder.mul(k, code.word(code.size))
            line = [
                code.load(code.place(builder.add(x, offset), v * lanes * code.size), masks[v])
                for v in range(vectors)
            ]
            return {
                (i, v): code.multiply_add(
                    code.load(code.place(builder.add(starts[i], offset), v * lanes * code.size), masks[v]), line[v], totals[i, v]
                )
                for i, v in places
            }  # fmt: skip

        sums = products([None] * vectors)
        for phi, value in ((k, builder.add(k, code.word(step))), *((totals[p], sums[p]) for p in places)):
            phi.add_incoming(value, loop)
        builder.branch(head)

        builder.position_at_end(after)
        rest = builder.sub(depth, whole)
        sums = products([code.below(rest, v * lanes) for v in range(vectors)])
        done = builder.append_basic_block("dots.end")
        for i in range(rows):
            total = sums[i, 0]
            for v in range(1, vectors):
                total = builder.fadd(total, sums[i, v])
            half = lanes // 2
            while half:
                order = [(j + half) % lanes for j in range(lanes)]
                total = builder.fadd(
                    total, builder.shuffle_vector(total, total, ir.Constant(code.indices, order))
                )
                half //= 2
            if i:
                following = builder.append_basic_block("dots.row")
                builder.cbranch(builder.icmp_signed(">", height, code.word(i)), following, done)
                builder.position_at_end(following)
            number = builder.extract_element(total, ir.Constant(_HALF, 0))
            builder.store(number, code.pointer(code.place(out, i, out_row), code.scalar), align=code.size)
        builder.branch(done)
        builder.position_at_end(done)

    @intrinsic
    def dots(a, a_row, x, depth, out, out_row, height):
        return types.void(*(types.int64,) * 7), emit

    return dots


# --- made of these --------------------------------------------------------------------------------------------


@inline
def take_slot(flags, count):
    """The number of a part of the scratch memory that no other thread has: it is ours until `free_slot`."""
    while True:
        for slot in range(count):
            if atomic_load(flags + slot * 64) == 0 and atomic_swap_if(flags + slot * 64, 0, 1) != 0:
                return slot
        pause()


@inline
def free_slot(flags, slot):
    atomic_store(flags + slot * 64, 0)


def panel_packer(element: str, width: int, lanes: int) -> Any:
    """``pack(out, source, row_step, column_step, count, depth)``: `width` columns of a matrix, of which `count` exist,
    with each row's elements side by side.

    What then stands in columns that do not exist is never used. `width` is a multiple of `lanes`, or less: then each
    store spills into the next row, which is stored later, and the last one behind the panel.
    """
    size, at = _ELEMENTS[element][1], getattr(machine, f"at_{element}")
    rows, vectors, ragged = min(width, lanes), -(-width // lanes), width % lanes != 0
    line, line_edge = copy_line(element, vectors, lanes, ragged), copy_line(element, vectors, lanes, True)
    block, block_edge = (transpose_block(element, rows, lanes, edge) for edge in (False, True))

    @inline(apart=True)
    def pack(out, source, row_step, column_step, count, depth):
        if column_step == size:
            if count == width:
                for k in range(depth):
                    line(source + k * row_step, out + k * width * size, width)
            else:
                for k in range(depth):
                    line_edge(source + k * row_step, out + k * width * size, count)
        elif row_step == size:
            for j in range(0, count, rows):
                height = min(count - j, rows)
                first = source + j * column_step
                for k in range(0, depth, lanes):
                    place = out + (k * width + j) * size
                    if height == rows and depth - k >= lanes:
                        block(first + k * size, column_step, rows, lanes, place, width * size)
                    else:
                        rest = min(depth - k, lanes)
                        block_edge(first + k * size, column_step, height, rest, place, width * size)
        else:
            for k in range(depth):
                target = at(out + k * width * size)
                for j in range(count):
                    target[j] = at(source + k * row_step + j * column_step)[0]

    return pack


def tile_column(element: str, rows: int, vectors: int, lanes: int) -> Any:
    """``column(a, row_step, column_step, b, b_row, depth, c, c_row, add, first, last, width)``: rows first to last of the
    product of A as it stands and a panel of B of `width` columns.
    """
    full = vectors * lanes
    tile, tile_edge = (matrix_tile(element, rows, vectors, lanes, False, edge) for edge in (False, True))

    @inline(apart=True)
    def column(a, row_step, column_step, b, b_row, depth, c, c_row, add, first, last, width):
        for i in range(first, last, rows):
            height = min(last - i, rows)
            at_a, at_c = a + i * row_step, c + i * c_row
            if height == rows and width == full:
                tile(at_a, row_step, column_step, b, b_row, depth, at_c, c_row, add, rows, full)
            else:
                tile_edge(at_a, row_step, column_step, b, b_row, depth, at_c, c_row, add, height, width)

    return column
