"""A group of steps as one kernel in LLVM IR, after the plan that plan.py makes of it.

Each element is computed in a plain loop, which LLVM turns into vectors: every memory access of a loop is declared
independent of the other iterations, because it touches nothing but its own column, and so a result may take an
operand's place. Sizes, strides and Python numbers are words of the call, so that a kernel serves every shape of its
kind. Sums accumulate in float64.

Written as IR, because a kernel differs from the next by its steps and not by its constants; LLVM takes 7 to 25 ms for one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import native, scalars
from .plan import squares, working
from .quiet import named
from .reading import Reading, stored
from .scalars import IR

WORDS = 480  # what a call can carry


class Kernel(Reading):
    """The text of a group's kernel, and the words that it is called with after the addresses of ``pointers``."""

    def __init__(self, group: Any, strides: dict[str, tuple[int, ...]]) -> None:
        super().__init__(group, strides)
        # arrays are renamed, so that the same steps of another program have the same text
        found = [*group.inputs, *(s.outputs[0] for s in group.steps)]
        self.id = {x.name: f"{chr(97 + n % 26)}{n}" for n, x in enumerate(found)}
        self.text = ""
        self.loops = 0
        self.edges: set[int] = set()  # loops over the few columns at the borders of windows
        self.widened: set[int] = set()  # loops over float32 that accumulate in float64
        self.vectors = not any((s.op.name, working(s)) in scalars.NO_VECTORS for s in group.steps)
        self.pointers = [*self.partial, *self.whole, *group.inputs]
        if self.pays:
            self.write()

    # -- text --------------------------------------------------------------------------------------------------

    def write(self) -> None:
        """The whole module."""
        body = self.body
        for x in self.pointers:
            self.word(x.name, pointer=True)
        columns = self.word("columns", self.columns)
        if self.plain:
            self._elements(columns)
        else:
            self._rows(columns)
        metadata = []
        for i in range(self.loops):
            hints = "".join(f', !{{!"{name}", {value}}}' for name, value in self.hints(i))
            metadata.append(f"!{2 * i} = distinct !{{}}")
            metadata.append(f"!{2 * i + 1} = distinct !{{!{2 * i + 1}{hints}}}")
        lines: dict[str, None] = {}
        definitions = []
        for text in self.body.declared.values():
            for part in text.split("\n"):
                if part.startswith("declare"):
                    lines.setdefault(part)
                else:
                    definitions.append(part)
        self.text = "\n".join(
            [
                *lines,
                *definitions,
                'define void @KERNEL(i64 %lo, i64 %hi, ptr %words) nounwind "prefer-vector-width"="512" {',
                "entry:",
                *self.entry,
                "  br label %start",
                "start:",
                *body.lines,
                "}",
                *metadata,
                "",
            ]
        )

    def masked(self) -> bool:
        """Whether the end of a row is one vector with a mask, and not done element by element. It pays for functions of float32
        that cost much, where the end is a tenth of the row or more: softmax of 10 columns takes 4.5 us for 128 rows and not 8.0,
        of 63 columns 9.2 and not 17.
        """
        lanes, left = native.vector_bytes() // 4, self.columns % (native.vector_bytes() // 4)
        dear = any(scalars.COST.get(s.op.name, 1) >= scalars.COST["exp"] for s in self.group.steps)
        single = all(working(s) != "float64" for s in self.group.steps)
        return (
            lanes == 16
            and self.vectors
            and not self.plain
            and dear
            and single
            and 10 * left > self.columns > 4
        )

    def hints(self, i: int) -> list[tuple[str, str]]:
        """What LLVM is told about a loop."""
        found = [("llvm.loop.parallel_accesses", f"!{2 * i}")]
        if i in self.edges:
            once = [
                (f"llvm.loop.{what}", "i32 1")
                for what in ("vectorize.width", "interleave.count", "unroll.count")
            ]
            return [*found, *once]
        lanes = native.vector_bytes() // 4
        if self.masked():
            found.append(("llvm.loop.vectorize.predicate.enable", "i1 true"))
            return [
                *found,
                ("llvm.loop.interleave.count", "i32 1"),
                ("llvm.loop.vectorize.width", f"i32 {lanes}"),
            ]
        if self.vectors:  # a row shorter than the vectors of one iteration would be done element by element
            fits = lambda k: self.columns >= 2 * k * lanes or self.columns % (k * lanes) == 0
            many = 4 if self.flat or fits(4) else 2 if fits(2) else 1
            found.append(("llvm.loop.interleave.count", f"i32 {many}"))
        if i in self.widened:  # LLVM would take the widest type's lanes, and half of each vector of float32
            found.append(("llvm.loop.vectorize.width", f"i32 {lanes}"))
        return found

    def _elements(self, columns: str) -> None:
        """Runs of elements of one row each."""
        b = self.body
        if self.flat:
            b.line("%any = icmp slt i64 %lo, %hi")
            b.line("br i1 %any, label %run, label %done")
            b.label("run")
            b.line("%count = sub i64 %hi, %lo")
            self._pass(0, "%count", "%lo", "run")
            b.line("br label %done")
        else:
            b.line("%row0 = sdiv i64 %lo, " + columns)
            b.line(f"%gone = mul i64 %row0, {columns}")
            b.line("%column0 = sub i64 %lo, %gone")
            b.line("br label %next")
            b.label("next")
            b.line("%at = phi i64 [ %lo, %start ], [ %at1, %end ]")
            b.line("%row = phi i64 [ %row0, %start ], [ %row1, %end ]")
            b.line("%column = phi i64 [ %column0, %start ], [ 0, %end ]")
            b.line("%more = icmp slt i64 %at, %hi")
            b.line("br i1 %more, label %run, label %done")
            b.label("run")
            b.line(f"%left = sub i64 {columns}, %column")
            b.line("%rest = sub i64 %hi, %at")
            b.line("%count = call i64 @llvm.smin.i64(i64 %left, i64 %rest)")
            b.declared["@llvm.smin.i64"] = "declare i64 @llvm.smin.i64(i64, i64)"
            self._pass(0, "%count", "%column", "run")
            b.line("br label %end")
            b.label("end")
            b.line("%at1 = add i64 %at, %count")
            b.line("%row1 = add i64 %row, 1")
            b.line("br label %next")
        b.label("done")
        b.line("ret void")

    def _rows(self, columns: str) -> None:
        """Blocks of whole rows."""
        b = self.body
        rows, block = self.word("rows", self.rows), self.word("block", self.block)
        total = self.word("total", self.total)
        b.declared["@llvm.smin.i64"] = "declare i64 @llvm.smin.i64(i64, i64)"
        b.line("br label %units")
        b.label("units")
        b.line("%unit = phi i64 [ %lo, %start ], [ %unit1, %unitend ]")
        b.line("%more = icmp slt i64 %unit, %hi")
        b.line("br i1 %more, label %unitrun, label %done")
        b.label("unitrun")
        b.line(f"%row0 = mul i64 %unit, {block}")
        b.line(f"%stop0 = add i64 %row0, {block}")
        b.line(f"%stop = call i64 @llvm.smin.i64(i64 %stop0, i64 {rows})")
        for x in self.partial:
            if self.kinds[x.name] == "column":
                self._clear(x, columns)
        b.line("br label %before")
        b.label("before")
        b.line("br label %rowloop")
        b.label("rowloop")
        b.line("%row = phi i64 [ %row0, %before ], [ %row1, %rowend ]")
        sums = [x for x in self.partial if self.kinds[x.name] == "total"]
        for x in sums:
            kind, neutral = self._accumulator(x)
            b.line(
                f"%sum.{self.id[x.name]} = phi {IR[kind]} [ {neutral}, %before ], [ %sum1.{self.id[x.name]}, %rowend ]"
            )
        if self.flat:
            b.line(f"%first = mul i64 %row, {columns}")
            b.line(f"%left = sub i64 {total}, %first")
            b.line(f"%count = call i64 @llvm.smin.i64(i64 {columns}, i64 %left)")
            count, first = "%count", "%first"
        else:
            count, first = columns, "0"
        self.values: dict[str, str] = {}
        self.loaded: dict[str, str] = {}
        before = "rowloop"
        for phase in range(max(self.phase.values()) + 1):
            before = self._pass(phase, count, first, before)
        b.line("br label %rowend")
        b.label("rowend")
        for x in sums:
            b.line(
                f"%sum1.{self.id[x.name]} = {self._combined(x, f'%sum.{self.id[x.name]}', self.values[x.name])}"
            )
        b.line("%row1 = add i64 %row, 1")
        b.line("%again = icmp slt i64 %row1, %stop")
        b.line("br i1 %again, label %rowloop, label %unitend")
        b.label("unitend")
        for x in sums:
            place = b.value(
                f"getelementptr {IR[self._accumulator(x)[0]]}, ptr {self.names[x.name]}, i64 %unit"
            )
            b.line(f"store {IR[self._accumulator(x)[0]]} %sum1.{self.id[x.name]}, ptr {place}")
        b.line("%unit1 = add i64 %unit, 1")
        b.line("br label %units")
        b.label("done")
        b.line("ret void")

    def _accumulator(self, x: Any) -> tuple[str, str]:
        """The dtype in which a reduction accumulates, and where it starts."""
        name, dtype = self.step[x.name].op.name, x.dtype.name
        return accumulator(name, dtype)

    def _combined(self, x: Any, a: str, c: str) -> str:
        """The instruction that takes one more value into a reduction."""
        name = self.step[x.name].op.name
        kind = self._accumulator(x)[0]
        if name == "sum":
            return f"{'fadd reassoc' if named(kind).kind == 'f' else 'add'} {IR[kind]} {a}, {c}"
        sign = "u" if named(kind).kind == "u" else "s"
        function = {"max": "maximum", "min": "minimum"}[name] if named(kind).kind == "f" else f"{sign}{name}"
        full, self.body.declared[full] = scalars.intrinsic(function, kind, 2)
        return f"call {IR[kind]} {full}({IR[kind]} {a}, {IR[kind]} {c})"

    def _clear(self, x: Any, columns: str) -> None:
        """Start the partial result of a block."""
        b = self.body
        kind, neutral = self._accumulator(x)
        i = self.loops
        self.loops += 1
        previous = "unitrun" if i == 0 else f"clear{i - 1}end"
        b.line(f"%block.{self.id[x.name]} = mul i64 %unit, {columns}")
        b.line(
            f"%part.{self.id[x.name]} = getelementptr {IR[kind]}, ptr {self.names[x.name]}, i64 %block.{self.id[x.name]}"
        )
        b.line(f"br label %clear{i}")
        b.label(f"clear{i}")
        b.line(f"%c{i} = phi i64 [ 0, %{previous} ], [ %c{i}n, %clear{i} ]")
        b.line(f"%c{i}p = getelementptr {IR[kind]}, ptr %part.{self.id[x.name]}, i64 %c{i}")
        b.line(f"store {IR[kind]} {neutral}, ptr %c{i}p, !llvm.access.group !{2 * i}")
        b.line(f"%c{i}n = add i64 %c{i}, 1")
        b.line(f"%c{i}t = icmp slt i64 %c{i}n, {columns}")
        b.line(f"br i1 %c{i}t, label %clear{i}, label %clear{i}end, !llvm.loop !{2 * i + 1}")
        b.label(f"clear{i}end")

    # -- one pass over a row -----------------------------------------------------------------------------------

    def _at_row(self, x: Any, row_level: bool) -> str:
        """The address of an input's or result's row."""
        key = f"{x.name}.{row_level}"
        if key not in self.places:
            b = self.body
            _, outer = self.outer[x.name, row_level]
            place = self.names[x.name]
            if outer:
                offset = self._offset(outer)
                place = b.value(f"getelementptr i8, ptr {place}, i64 {offset}")
            self.places[key] = place
        return self.places[key]

    def _offset(self, outer: tuple[tuple[int, int], ...]) -> str:
        """Bytes from the first row to this one."""
        b = self.body
        rest, total = "%row", ""
        for position, (length, stride) in reversed(list(enumerate(outer))):
            index = rest
            if position:
                word = self.word(f"length{length}", length)
                index = b.value(f"urem i64 {rest}, {word}")
                rest = b.value(f"udiv i64 {rest}, {word}")
            if not stride:
                continue
            part = b.value(f"mul i64 {index}, {self.word(f'stride{stride}', stride)}")
            total = part if not total else b.value(f"add i64 {total}, {part}")
        return total

    def _pass(self, phase: int, count: str, first: str, before: str) -> str:
        """One loop over the columns, and before it what is known of the row by now; the label that it ends in."""
        b = self.body
        if phase == 0:
            self.places: dict[str, str] = {}
            self.values, self.loaded = {}, {}
            self._window_rows()
            for x in self.group.inputs:
                for row_level in (False, True):
                    if (x.name, row_level) in self.outer:
                        self._at_row(x, row_level)
                        if not self.outer[x.name, row_level][0]:
                            self.loaded[f"{x.name}.{row_level}"] = self._load(x, self._at_row(x, row_level))
        for step in self.group.steps:
            out = step.outputs[0]
            if self.kinds[out.name] == "row" and self.phase[out.name] == phase:
                self.values[out.name] = self._compute(step, self._row_operand)
                self._store_row(out)
        here = [s for s in self.group.steps if self.phase[s.outputs[0].name] == phase]
        folds = [s for s in here if self.kinds[s.outputs[0].name] in ("reduced", "total")]
        columns = [s for s in here if self.kinds[s.outputs[0].name] == "column"]
        written = [
            x
            for x in [s.outputs[0] for s in here]
            if self.kinds[x.name] == "full" and (x.name in self.kept or any(x is w for w in self.whole))
        ]
        if not (folds or columns or written):
            return before
        work = (phase, first, folds, columns, written)
        if not self.border or folds:
            return self._loop("0", count, work)
        self.joins += 1
        k, parts = self.joins, f"parts{self.joins}"
        left, right = self._borders(count, first)
        b.line(f"br label %{parts}pre")
        b.label(f"{parts}pre")
        b.line(f"br label %{parts}")
        b.label(parts)
        b.line(f"%part{k} = phi i1 [ false, %{parts}pre ], [ true, %{parts}next ]")
        start = b.value(f"select i1 %part{k}, i64 {right}, i64 0")
        stop = b.value(f"select i1 %part{k}, i64 {count}, i64 {left}")
        b.line(f"br i1 {b.value(f'icmp slt i64 {start}, {stop}')}, label %{parts}edge, label %{parts}gone")
        b.label(f"{parts}edge")
        self.edges.add(self.loops)
        self._loop(start, stop, work)
        b.line(f"br label %{parts}gone")
        b.label(f"{parts}gone")
        b.line(f"br i1 %part{k}, label %{parts}end, label %{parts}inner")
        b.label(f"{parts}inner")
        b.line(f"br i1 {b.value(f'icmp slt i64 {left}, {right}')}, label %{parts}long, label %{parts}next")
        b.label(f"{parts}long")
        self.inner = True
        self._loop(left, right, work)
        self.inner = False
        b.line(f"br label %{parts}next")
        b.label(f"{parts}next")
        b.line(f"br label %{parts}")
        b.label(f"{parts}end")
        return f"{parts}end"

    def _loop(self, start: str, stop: str, work: tuple[Any, ...]) -> str:
        """One loop over columns start <= i < stop, of which there are some; the label that it ends in."""
        phase, first, folds, columns, written = work
        b, i = self.body, self.loops
        self.loops += 1
        self.group_number = 2 * i
        label = f"loop{i}"
        b.line(f"br label %{label}pre")
        b.label(f"{label}pre")
        b.line(f"br label %{label}")
        b.label(label)
        b.line(f"%i{i} = phi i64 [ {start}, %{label}pre ], [ %i{i}n, %{label}last ]")
        self.label = label
        for s in folds:
            kind, neutral = self._accumulator(s.outputs[0])
            b.line(
                f"%a{i}.{self.id[s.outputs[0].name]} = phi {IR[kind]} [ {neutral}, %{label}pre ], [ %b{i}.{self.id[s.outputs[0].name]}, %{label}last ]"
            )
        sources = {x.inputs[0].dtype.name for x in (*folds, *columns) if x.op.name == "sum"}
        if sources == {"float32"} and self.vectors:
            self.widened.add(i)
        self.index = f"%i{i}" if first == "0" else b.value(f"add i64 %i{i}, {first}")
        memo: dict[str, str] = {}
        stores = []
        for s in folds:
            x = s.outputs[0]
            value = b.cast(
                self._element(s.inputs[0], phase, memo), s.inputs[0].dtype.name, self._accumulator(x)[0]
            )
            b.line(f"%b{i}.{self.id[x.name]} = {self._combined(x, f'%a{i}.{self.id[x.name]}', value)}")
        for s in columns:
            x = s.outputs[0]
            kind = self._accumulator(x)[0]
            value = b.cast(self._element(s.inputs[0], phase, memo), s.inputs[0].dtype.name, kind)
            place = b.value(f"getelementptr {IR[kind]}, ptr %part.{self.id[x.name]}, i64 {self.index}")
            old = b.value(f"load {IR[kind]}, ptr {place}, !llvm.access.group !{2 * i}")
            stores.append((kind, b.value(self._combined(x, old, value).replace(" reassoc", "")), place))
        for x in written:
            value = self._element(x, phase, memo)
            into = [x] if any(x is w for w in self.whole) else [self.kept[x.name]]
            for y in into:
                stores.append((x.dtype.name, value, self._column(y, x.dtype.name)))
        for dtype, value, place in stores:
            if dtype == "bool":
                value = b.value(f"zext i1 {value} to i8")
            b.line(f"store {stored(dtype)} {value}, ptr {place}, !llvm.access.group !{2 * i}")
        b.line(f"br label %{label}last")
        b.label(f"{label}last")
        b.line(f"%i{i}n = add nuw nsw i64 %i{i}, 1")
        b.line(f"%i{i}t = icmp slt i64 %i{i}n, {stop}")
        b.line(f"br i1 %i{i}t, label %{label}, label %{label}end, !llvm.loop !{2 * i + 1}")
        b.label(f"{label}end")
        for s in folds:
            x = s.outputs[0]
            result = f"%b{i}.{self.id[x.name]}"
            if self.kinds[x.name] == "reduced":
                result = b.cast(result, self._accumulator(x)[0], x.dtype.name)
                self.values[x.name] = result
                self._store_row(x)
            else:
                self.values[x.name] = result
        return f"{label}end"

    def _store_row(self, x: Any) -> None:
        if any(x is w for w in self.whole):
            b, value, kind = self.body, self.values[x.name], IR[x.dtype.name]
            if x.dtype.name == "bool":
                value, kind = b.value(f"zext i1 {value} to i8"), "i8"
            place = b.value(f"getelementptr {kind}, ptr {self.names[x.name]}, i64 %row")
            b.line(f"store {kind} {value}, ptr {place}")

    def _column(self, x: Any, dtype: str) -> str:
        """The address of this column in the row of a result of the domain's shape."""
        b, place, kind = self.body, self.names[x.name], stored(dtype)
        if not self.flat:
            offset = b.value(f"mul i64 %row, {self.word('columns', self.columns)}")
            place = b.value(f"getelementptr {kind}, ptr {place}, i64 {offset}")
        return b.value(f"getelementptr {kind}, ptr {place}, i64 {self.index}")

    def _element(self, x: Any, phase: int, memo: dict[str, str]) -> str:
        """The value at this column."""
        if not hasattr(x, "name"):
            raise AssertionError(x)
        if x.name in memo:
            return memo[x.name]
        b = self.body
        kind = self.kinds.get(x.name)
        if kind is None:
            if self.outer[x.name, False][0]:
                place = b.value(
                    f"getelementptr {stored(x.dtype.name)}, ptr {self._at_row(x, False)}, i64 {self.index}"
                )
                found = self._load(x, place, self.group_number)
            else:
                found = self.loaded[f"{x.name}.False"]
        elif kind != "full":
            return self.values[x.name]
        elif self.phase[x.name] < phase and x.name in self.kept:
            found = self._load(x, self._column(self.kept[x.name], x.dtype.name), self.group_number)
        else:
            found = self._compute(self.step[x.name], lambda y: self._element(y, phase, memo))
        memo[x.name] = found
        return found

    def _row_operand(self, x: Any) -> str:
        return self.values[x.name] if x.name in self.kinds else self.loaded[f"{x.name}.True"]

    def _compute(self, step: Any, operand: Any) -> str:
        """One step's result for one element."""
        name, dtype = step.op.name, working(step)
        if name == "pad":
            return self._window(step)
        if name == "astype":
            (x,) = step.inputs
            return self.body.cast(operand(x), x.dtype.name, step.outputs[0].dtype.name)
        if name == "pow" and squares(step):
            x = operand(step.inputs[0])
            return self.body.apply("multiply", dtype, [x, x])
        values = [operand(x) if hasattr(x, "name") else self.number(x, dtype) for x in step.inputs]
        return self.body.apply(name, dtype, values)


def accumulator(name: str, dtype: str) -> tuple[str, str]:
    """The dtype in which a reduction accumulates, and the number that it starts from."""
    kind = named(dtype)
    if name == "sum":
        return ("float64", "0.0") if kind.kind == "f" else (dtype, "0")
    if kind.kind == "f":
        bits = {"max": "0xFFF0000000000000", "min": "0x7FF0000000000000"}[name]
        return dtype, bits
    limits = np.iinfo(kind)
    value = int(limits.min if name == "max" else limits.max)
    return dtype, str(
        value - (1 << 8 * kind.itemsize) if value > np.iinfo(f"i{kind.itemsize}").max else value
    )
