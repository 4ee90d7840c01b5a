"""What a generated kernel reads: the words of its call, numbers, elements of arrays, and windows.

A window is an array padded with a number that nobody made (see corelib/compile/absorb.py). Its elements are those of its
source, at other places. Which row that is, and whether there is one, is settled once per row. Along a row the few
columns at the borders get a loop of their own, in which each element is asked for; elsewhere nothing is asked.
"""

from __future__ import annotations

from typing import Any

from . import scalars
from .plan import Plan
from .quiet import named, scalar
from .scalars import IR, Body


class Reading(Plan):
    """The part of a kernel's text that reads. ``index``: the IR name of the column; ``inner``: whether what is written
    lies inside of all windows' borders; ``label``: that of the block that is written.
    """

    def __init__(self, group: Any, strides: dict[str, tuple[int, ...]]) -> None:
        super().__init__(group, strides)
        self.body, self.entry = Body(), list[str]()
        self.words: list[int] = []
        self.names: dict[str, str] = {}  # a word's key -> its IR name
        self.numbers: dict[str, str] = {}  # Python numbers likewise
        self.index, self.group_number = "", 0
        self.inner, self.label, self.joins = False, "", 0
        self.rows_of: dict[str, tuple[str, str]] = {}
        self.masks: dict[str, tuple[str, str]] = {}

    def word(self, key: str, value: int = 0, *, pointer: bool = False) -> str:
        """The IR name of a word of the call, which is new or known by its key."""
        if key not in self.names:
            place = len(self.names)
            name = f"%w{place}"
            self.entry += [
                f"  %p{place} = getelementptr i64, ptr %words, i64 {place}",
                f"  {name} = load {'ptr' if pointer else 'i64'}, ptr %p{place}",
            ]
            self.names[key] = name
            if not pointer:
                self.words.append(value)
        return self.names[key]

    def number(self, value: Any, dtype: str) -> str:
        """A Python number as an operand, rounded as the kernels of single steps round it."""
        bits = scalars.bits(scalar(value, named(dtype)), dtype)
        key = f"number {dtype} {bits}"
        if key not in self.numbers:
            word = self.word(key, bits)
            size, name = named(dtype).itemsize, f"{word}.{dtype}"
            if dtype == "bool":
                self.entry.append(f"  {name} = icmp ne i64 {word}, 0")
            elif size == 8:
                self.entry.append(f"  {name} = bitcast i64 {word} to {IR[dtype]}")
            else:
                narrow = f"{name}.bits" if named(dtype).kind == "f" else name
                self.entry.append(f"  {narrow} = trunc i64 {word} to i{8 * size}")
                if narrow != name:
                    self.entry.append(f"  {name} = bitcast i{8 * size} {narrow} to {IR[dtype]}")
            self.numbers[key] = name
        return self.numbers[key]

    def _load(self, x: Any, place: str, group: int | None = None) -> str:
        b, dtype = self.body, x.dtype.name
        access = "" if group is None else f", !llvm.access.group !{group}"
        if dtype == "bool":
            return b.value(f"icmp ne i8 {b.value(f'load i8, ptr {place}{access}')}, 0")
        return b.value(f"load {IR[dtype]}, ptr {place}{access}")

    def _window_rows(self) -> None:
        """What is known of all windows once the row is."""
        pads = {s.outputs[0].name: s for s in self.group.steps if s.op.name == "pad"}
        self.rows_of = {name: self._window_row(s) for name, s in pads.items()}
        self.masks = {
            name: self._masks(s)
            for name, s in pads.items()
            if self.rows_of[name][1] and s.inputs[0].dtype.name != "bool"
        }

    def _window_row(self, pad: Any) -> tuple[str, str]:
        """The address of the source's row, which is its first one where it has none here, and whether it has one, or ""."""
        b, place = self.body, self.windows[pad.outputs[0].name]
        rest, total, inside = "%row", "", ""
        for position, (length, stride, first, count) in reversed(list(enumerate(place.axes))):
            index = rest
            if position:
                word = self.word(f"length{length}", length)
                index = b.value(f"urem i64 {rest}, {word}")
                rest = b.value(f"udiv i64 {rest}, {word}")
            if count != length:
                index, here = self._within(index, first, count)
                inside = here if not inside else b.value(f"and i1 {inside}, {here}")
                index = b.value(f"select i1 {here}, i64 {index}, i64 0")
            part = b.value(f"mul i64 {index}, {self.word(f'stride{stride}', stride)}")
            total = part if not total else b.value(f"add i64 {total}, {part}")
        address = self.names[pad.inputs[0].name]
        return (b.value(f"getelementptr i8, ptr {address}, i64 {total}") if total else address), inside

    def _within(self, index: str, first: int, count: int) -> tuple[str, str]:
        """An index counted from the first place, and whether it is one of so many."""
        b = self.body
        if first:
            index = b.value(f"sub i64 {index}, {self.word(f'length{first}', first)}")
        return index, b.value(f"icmp ult i64 {index}, {self.word(f'length{count}', count)}")

    def _masks(self, pad: Any) -> tuple[str, str]:
        """Bits that a row's elements are combined with, by and, then by or: the elements, or the padding's number.

        LLVM must not see that they are one of two: it would put a branch into the loop.
        """
        b, dtype = self.body, pad.inputs[0].dtype.name
        size = f"i{8 * named(dtype).itemsize}"
        inside = self.rows_of[pad.outputs[0].name][1]
        wide = b.value(f"sext i1 {inside} to i64")
        wide = b.value(f'call i64 asm "", "=r,0"(i64 {wide})')
        keep = b.value(f"trunc i64 {wide} to {size}") if size != "i64" else wide
        fill = self.number(pad.params["constant_value"], dtype)
        fill = b.value(f"bitcast {IR[dtype]} {fill} to {size}") if IR[dtype] != size else fill
        return keep, b.value(f"and {size} {fill}, {b.value(f'xor {size} {keep}, -1')}")

    def _window(self, pad: Any) -> str:
        """A padded array's value at this column."""
        b, x, name = self.body, pad.inputs[0], pad.outputs[0].name
        place, (address, inside) = self.windows[name], self.rows_of[name]
        dtype, kind = x.dtype.name, IR[x.dtype.name]
        index = self.index
        if place.first:
            index = b.value(f"sub i64 {index}, {self.word(f'length{place.first}', place.first)}")
        at = f"getelementptr {stored(dtype)}, ptr {address}, i64 {index}"
        if place.whole or self.inner:
            value = self._load(x, b.value(at), self.group_number)
            if not inside:
                return value
            if dtype == "bool":
                fill = self.number(pad.params["constant_value"], dtype)
                return b.value(f"select i1 {inside}, {kind} {value}, {kind} {fill}")
            keep, other = self.masks[name]
            size = f"i{8 * named(dtype).itemsize}"
            if kind != size:
                value = b.value(f"bitcast {kind} {value} to {size}")
            value = b.value(f"or {size} {b.value(f'and {size} {value}, {keep}')}, {other}")
            return b.value(f"bitcast {size} {value} to {kind}") if kind != size else value
        here = b.value(f"icmp ult i64 {index}, {self.word(f'length{place.count}', place.count)}")
        if inside:
            here = b.value(f"and i1 {inside}, {here}")
        fill = self.number(pad.params["constant_value"], dtype)
        self.joins += 1
        load, join = f"load{self.joins}", f"join{self.joins}"
        b.line(f"br i1 {here}, label %{load}, label %{join}")
        b.label(load)
        value = self._load(x, b.value(at), self.group_number)
        b.line(f"br label %{join}")
        b.label(join)
        value = b.value(f"phi {kind} [ {value}, %{load} ], [ {fill}, %{self.label} ]")
        self.label = join
        return value

    def _borders(self, count: str, first: str) -> tuple[str, str]:
        """Where in a run of columns no window has a border any more, and where one has again."""
        b = self.body
        for name in ("smin", "smax"):
            b.declared[f"@llvm.{name}.i64"] = f"declare i64 @llvm.{name}.i64(i64, i64)"
        either = lambda name, x, y: b.value(f"call i64 @llvm.{name}.i64(i64 {x}, i64 {y})")
        begin, end = self.word("inner", self.border[0]), self.word("outer", self.border[1])
        if first != "0":
            begin, end = b.value(f"sub i64 {begin}, {first}"), b.value(f"sub i64 {end}, {first}")
        left = either("smin", either("smax", begin, "0"), count)
        return left, either("smax", either("smin", end, count), left)


def stored(dtype: str) -> str:
    """The IR type of a dtype in memory."""
    return "i8" if dtype == "bool" else IR[dtype]
