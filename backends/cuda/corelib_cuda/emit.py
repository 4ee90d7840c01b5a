"""A group of recorded steps as the text of one CUDA kernel.

Two ways through memory. ``flat``: every result has the domain's shape and nothing is reduced; each thread computes
packets of neighbouring elements, or, where operands broadcast or are strided, single ones. ``rows``: the domain is seen
as rows and columns, threads of a block share a row, and go through it once per phase: a phase ends where a reduction
over the row is complete, and what follows may read it. Where a row fits into the registers of a block it is read from
memory once (``held``), and values that cost much are kept there from phase to phase; longer rows are read again in each
phase (``streamed``). Sums over columns and over everything leave one partial result for each row of a block of threads,
which a second launch reduces; how many depends on the shape alone, and so does every rounding.

The text depends on ops, dtypes and structure. Sizes, strides and Python numbers are arguments, so that a kernel is
compiled once for every shape of its kind. It is compiled without contraction of products and sums: a fused group gives
the bits of its steps.
"""

from __future__ import annotations

import re
from math import prod
from typing import Any, NamedTuple

from corelib.plugin_api import dtypes

from . import half
from .elementwise import BINARY, UNARY

REDUCED = ("float32", "float64", "int32", "int64")
TEMPLATE = {"sum": "Sum<{x}, {y}>", "max": "Max<{x}>", "min": "Min<{x}>"}
# Cost from which a value is kept in registers for the next phase, in additions.
COST = {"exp": 10, "log": 12, "tanh": 16, "erf": 16, "pow": 24, "sin": 12, "cos": 12, "divide": 4, "sqrt": 4}
DEAR = 8
HELD = 128  # bytes of a row per thread: half of its 64 registers
FLAT = 4096  # elements of a row where rows are only made for partial results


def working(step: Any) -> str:
    """The name of the dtype in which a step computes: its operands'."""
    arrays = [x for x in step.inputs[step.op.name == "where" :] if hasattr(x, "dtype")]
    return (arrays[0] if arrays else step.outputs[0]).dtype.name


def formula(step: Any, operands: list[str]) -> str | None:
    """One element of a step's result in C++; None where there is no formula."""
    name, dtype = step.op.name, working(step)
    if name == "astype":
        return f"cast<{step.outputs[0].dtype.name}>({operands[0]})"
    if name == "where":
        text: str | None = "x1 ? x2 : x3"
    else:
        table = UNARY if name in UNARY else BINARY
        text = table[name].of(dtypes.as_dtype(dtype).kind) if name in table else None
    if text is None:
        return None
    if text == "x":
        text = "x1"
    text = text.format(
        T=dtype, W=f"Word<{dtype}>", f="f" if dtype == "float32" else "", R=dtypes.as_dtype(dtype).real.name
    )
    return re.sub(r"\bx([123])\b", lambda found: operands[int(found[1]) - 1], text)


class Walk(NamedTuple):
    """Along the axes before the row: (length, stride in elements) of each, innermost first; ``varies``: along the row."""

    varies: bool
    outer: tuple[tuple[int, int], ...]


def _strides(shape: tuple[int, ...], target: tuple[int, ...]) -> list[int]:
    """In elements, of a C-contiguous array of ``shape`` that broadcasts to ``target``."""
    found, step = [], 1
    for length in reversed(shape):
        found.append(0 if length == 1 else step)
        step *= length
    return [*[0] * (len(target) - len(shape)), *reversed(found)]


def _collapsed(shape: tuple[int, ...], strides: list[int]) -> tuple[tuple[int, int], ...]:
    """Axes as few as possible, innermost first; nothing where all strides are 0."""
    found: list[tuple[int, int]] = []
    for length, stride in zip(reversed(shape), reversed(strides), strict=True):
        if length == 1:
            continue
        if found and stride == found[-1][0] * found[-1][1]:
            found[-1] = (found[-1][0] * length, found[-1][1])
        else:
            found.append((length, stride))
    return tuple(found) if any(stride for _, stride in found) else ()


class Plan:
    """What the texts of a group's variants have in common: phases, roles of the inputs, and the arguments.

    ``rows``, ``columns``: the domain. ``flat``: no row matters (results are full, or reductions over everything).
    ``partial``: results that come in parts. ``numbers``: the Python numbers of the steps, (dtype, value), in the order
    of the kernel's parameters.
    """

    def __init__(self, group: Any) -> None:
        self.group, self.kinds, self.steps = group, group.kinds, group.steps
        self.of = {s.outputs[0].name: s for s in group.steps}
        self.id = {s.outputs[0].name: f"t{n}" for n, s in enumerate(group.steps)}
        self.input = {x.name: n for n, x in enumerate(group.inputs)}
        self.numbers: list[tuple[str, Any]] = []
        self.number: dict[tuple[int, int], str] = {}
        for n, step in enumerate(group.steps):
            for position, x in enumerate(step.inputs):
                if not hasattr(x, "name"):
                    self.number[n, position] = f"s{len(self.numbers)}"
                    self.numbers.append((working(step), x))
        kinds = set(self.kinds.values())
        self.plain = kinds == {"full"}
        self.partial = [x for x in group.results if self.kinds[x.name] in ("column", "total")]
        self.whole = [x for x in group.results if self.kinds[x.name] not in ("column", "total")]
        self.total = prod(group.shape)
        self.fits = self._roles() and self._domain(kinds)
        if self.fits:
            self._phases()

    def _roles(self) -> bool:
        """How each input is read: by element, or once per row."""
        self.full, self.row = set[str](), set[str]()
        for step in self.steps:
            into = self.row if self.kinds[step.outputs[0].name] == "row" else self.full
            into.update(x.name for x in step.inputs if getattr(x, "name", None) in self.input)
        return not self.full & self.row

    def _domain(self, kinds: set[str]) -> bool:
        """Settle rows and columns, and how inputs walk; False where they have no such form."""
        domain, count = self.group.shape, self.group.columns
        reads = [x for x in self.group.inputs if x.name in self.full]
        self.units = {x.name for x in reads if prod(x.shape) == 1}
        same = all(x.shape == domain or x.name in self.units for x in reads)
        self.flat = count is None and (same or self.plain)
        self.walks: dict[str, Walk] = {}
        if count is None:
            if self.plain and not same:
                count = self._broadcast_columns(domain, reads)
                self.flat = count is None
            elif not same:
                return False
        if self.flat:
            self.columns = min(FLAT, self.total)
            self.rows = -(-self.total // self.columns)
            self.walks = {x.name: Walk(x.name not in self.units, ((self.rows, self.columns),) * (x.name not in self.units)) for x in reads}  # fmt: skip
            return True
        assert count is not None
        outer = domain[: len(domain) - count]
        self.rows, self.columns = prod(outer), prod(domain[len(outer) :])
        for x in reads:
            tail = (*(1,) * (len(domain) - len(x.shape)), *x.shape)[len(outer) :]
            if tail != domain[len(outer) :] and prod(tail) != 1:
                return False
            strides = _strides(x.shape, domain)[: len(outer)]
            self.walks[x.name] = Walk(prod(tail) != 1, _collapsed(outer, strides))
        for x in self.group.inputs:
            if x.name in self.row:
                shape = x.shape[: len(outer)] if len(x.shape) == len(domain) else x.shape
                self.walks[x.name] = Walk(False, _collapsed(outer, _strides(shape, outer)))
        return self.columns < 2**31

    @staticmethod
    def _broadcast_columns(domain: tuple[int, ...], reads: list[Any]) -> int | None:
        """The last axes that make a row for operands that broadcast along whole rows or columns, where such rows are
        many and long enough; else None.
        """
        for count in range(len(domain) - 1, 0, -1):
            tail = domain[len(domain) - count :]
            tails = [(*(1,) * (len(domain) - len(x.shape)), *x.shape)[len(domain) - count :] for x in reads]
            if all(t == tail or prod(t) == 1 for t in tails):
                return count if prod(tail) >= 32 and prod(domain[: len(domain) - count]) >= 64 else None
        return None

    def _phases(self) -> None:
        """In which pass over the row each value is known, and which values are kept from one to the next."""
        self.phase: dict[str, int] = {}
        cost: dict[str, int] = {}
        last: dict[str, int] = {}
        for step in self.steps:
            name = step.outputs[0].name
            inside = [x.name for x in step.inputs if getattr(x, "name", None) in self.kinds]
            self.phase[name] = max((self.phase[x] + (self.kinds[x] == "reduced") for x in inside), default=0)
            cost[name] = COST.get(step.op.name, 1) + sum(cost[x] for x in inside if self.kinds[x] == "full")
            last[name] = self.phase[name]
            for x in inside:
                last[x] = max(last[x], self.phase[name])
        self.kept = [
            n for n in self.phase if self.kinds[n] == "full" and last[n] > self.phase[n] and cost[n] >= DEAR
        ]
        self.passes = max(self.phase.values()) + 1

    # --------------------------------------------------------------------------------------------------------- names

    def reducer(self, name: str) -> str:
        """The template of reducers.cuh for a reduction."""
        step = self.of[name]
        return TEMPLATE[step.op.name].format(x=step.inputs[0].dtype.name, y=step.outputs[0].dtype.name)

    def state(self, name: str) -> str:
        """The dtype of a reduction's partial results."""
        step = self.of[name]
        result = step.outputs[0].dtype.name
        return "float64" if step.op.name == "sum" and result == "float32" else result

    def held_bytes(self) -> int:
        """Bytes of a row that a thread holds, for each of its elements."""
        inputs = [x for x in self.group.inputs if x.name in self.walks and self.walks[x.name].varies]
        size = sum(half.storage(x.dtype.name).itemsize for x in inputs)
        size += sum(half.storage(self.of[n].outputs[0].dtype.name).itemsize for n in self.kept)
        return size + sum(8 for x in self.partial if self.kinds[x.name] == "column")

    def wide(self) -> bool:
        """Whether a step computes in 64 bits."""
        return any(half.storage(working(s)).itemsize >= 8 for s in self.steps)

    def packet(self) -> int:
        """Elements that move as one access."""
        arrays = [x for x in self.group.inputs if x.name in self.walks and self.walks[x.name].varies]
        arrays += [x for x in self.whole if self.kinds[x.name] == "full"]
        return 16 // max((half.storage(x.dtype.name).itemsize for x in arrays), default=16)

    def signature(self) -> list[str]:
        """The parameters of every variant: results, partial results, inputs, Python numbers."""
        found = [f"{x.dtype.name}* y{n}" for n, x in enumerate(self.whole)]
        found += [f"{self.state(x.name)}* z{n}" for n, x in enumerate(self.partial)]
        found += [f"const {x.dtype.name}* x{n}" for n, x in enumerate(self.group.inputs)]
        return [*found, *(f"{dtype} s{n}" for n, (dtype, _) in enumerate(self.numbers))]

    def operands(self, step: Any, values: dict[str, str]) -> list[str]:
        """C++ for the operands of a step: ``values`` says what stands for an array."""
        n = self.steps.index(step)
        return [
            values[x.name] if hasattr(x, "name") else self.number[n, p] for p, x in enumerate(step.inputs)
        ]


# --------------------------------------------------------------------------------------------------------- flat kernels


def dense(plan: Plan, packet: int, bits: int) -> str:
    """Packets of elements of arrays of one shape; operands of one element are read once."""
    index = f"uint{bits}"
    arrays = [x for x in plan.group.inputs if x.name not in plan.units]
    lines = [
        f"const {index} packets = n / {packet}, threads = {index}(gridDim.x) * blockDim.x;",
        f"const {index} first = {index}(blockIdx.x) * blockDim.x + threadIdx.x;",
        *(f"const {x.dtype.name} u{plan.input[x.name]} = *x{plan.input[x.name]};" for x in plan.group.inputs if x.name in plan.units),
        f"for ({index} i = first; i < packets; i += threads) {{",
        *(f"const Packet<{x.dtype.name}, {packet}> p{n} = reinterpret_cast<const Packet<{x.dtype.name}, {packet}>*>(x{n})[i];"
          for x in arrays for n in [plan.input[x.name]]),
        *(f"Packet<{x.dtype.name}, {packet}> q{n};" for n, x in enumerate(plan.whole)),
        "_Pragma(\"unroll\")",
        f"for (int k = 0; k < {packet}; k++) {{",
        *_elements(plan, {x.name: f"p{plan.input[x.name]}.at[k]" for x in arrays}),
        *(f"q{n}.at[k] = {plan.id[x.name]};" for n, x in enumerate(plan.whole)),
        "}",
        *(f"reinterpret_cast<Packet<{x.dtype.name}, {packet}>*>(y{n})[i] = q{n};" for n, x in enumerate(plan.whole)),
        "}",
        f"const {index} i = packets * {packet} + first;",
        f"if (first < {packet} && i < n) {{",
        *_elements(plan, {x.name: f"x{plan.input[x.name]}[i]" for x in arrays}),
        *(f"y{n}[i] = {plan.id[x.name]};" for n, x in enumerate(plan.whole)),
        "}",
    ]  # fmt: skip
    return _entry([*plan.signature(), f"{index} n"], lines, "256, 4")


def strided(plan: Plan, bits: int) -> str:
    """Single elements of operands of any layout; results are dense."""
    index, offset = f"uint{bits}", f"int{bits}"
    count = len(plan.group.inputs)
    lines = [
        f"const {index} threads = {index}(gridDim.x) * blockDim.x;",
        "const int last = int(layout.ndim) - 1;",
        f"for ({index} i = {index}(blockIdx.x) * blockDim.x + threadIdx.x; i < n; i += threads) {{",
        f"{index} rest = i, at[{count}] = {{}};",
        "for (int d = 0; d <= last; d++) {",
        f"const {index} quotient = d < last ? rest / layout.size[d] : 0, position = rest - quotient * layout.size[d];",
        "rest = quotient;",
        '_Pragma("unroll")',
        f"for (int k = 0; k < {count}; k++) at[k] += position * layout.stride[k][d];",
        "}",
        *_elements(plan, {x.name: f"x{n}[{offset}(at[{n}])]" for n, x in enumerate(plan.group.inputs)}),
        *(f"y{n}[i] = {plan.id[x.name]};" for n, x in enumerate(plan.whole)),
        "}",
    ]
    last = f"const __grid_constant__ Layout<{index}, {count}> layout"
    return _entry([*plan.signature(), f"{index} n", last], lines, "256, 4")


def _elements(plan: Plan, values: dict[str, str]) -> list[str]:
    """One element of every step."""
    values = {**{name: f"u{plan.input[name]}" for name in plan.units}, **values, **plan.id}
    return [
        f"const {s.outputs[0].dtype.name} {plan.id[s.outputs[0].name]} = {formula(s, plan.operands(s, values))};"
        for s in plan.steps
    ]


def _entry(parameters: list[str], lines: list[str], bounds: str) -> str:
    """An entry point; its name is put in later, when the whole text is known."""
    body = "\n".join(lines)
    return (
        f'extern "C" __global__ void __launch_bounds__({bounds}) NAME({", ".join(parameters)}) {{\n{body}\n}}'
    )


# ---------------------------------------------------------------------------------------------------------- row kernels


class Rows:
    """The text of a kernel over rows. ``elements``: of a row per thread, 0 for a streamed kernel; ``packet`` of them
    lie together. ``block``: the most threads that a block has.
    """

    def __init__(self, plan: Plan, elements: int, packet: int, block: int) -> None:
        self.plan, self.elements, self.packet, self.block = plan, elements, packet, block
        self.held, self.has_element = elements > 0, False
        self.varying = [x for x in plan.group.inputs if plan.walks[x.name].varies]
        self.values = {x.name: f"e.x{plan.input[x.name]}" for x in self.varying}
        self.values |= {x.name: f"u{plan.input[x.name]}" for x in plan.group.inputs if x not in self.varying}
        self.values |= plan.id
        self.inside = "row * columns + c < total" if plan.flat else "c < columns"

    def text(self) -> str:
        """The entry point."""
        plan = self.plan
        kept = plan.kept if self.held else []
        members = [f"{x.dtype.name} x{plan.input[x.name]};" for x in self.varying]
        members += [f"{plan.of[n].outputs[0].dtype.name} k{plan.id[n]};" for n in kept]
        self.has_element = bool(members)
        lines = [f"struct Element {{ {' '.join(members)} }};"] if members else []
        if {"reduced", "total"} & set(plan.kinds.values()):
            lines.append("__shared__ float64 scratch[64];")
        if self.held and members:
            lines.append(f"Element element[{self.elements}];")
        for x in plan.partial:
            lines += self._started(x)
        lines += [
            "for (int64 begin = int64(blockIdx.x) * blockDim.y; begin < rows; begin += int64(gridDim.x) * blockDim.y) {",
            "const int64 row = begin + threadIdx.y;",
            "const bool live = row < rows;",
            *self._bases(),
        ]
        if self.held and self.varying:
            lines += self._loop(None)
        for phase in range(plan.passes):
            lines += self._pass(phase)
        lines += ["}", *self._parts()]
        sizes = [f"int64 {name}" for x in plan.group.inputs for name in self._words(x.name)]
        return _entry(
            [*plan.signature(), *sizes, "int64 rows", "int64 columns", "int64 total"], lines, str(self.block)
        )

    def _words(self, name: str) -> list[str]:
        n, outer = self.plan.input[name], self.plan.walks[name].outer
        return [f"{what}{n}_{d}" for d in range(len(outer)) for what in ("length", "stride")]

    def _bases(self) -> list[str]:
        """Where each input's row begins, and the values that it has for the whole row."""
        lines = []
        for x in self.plan.group.inputs:
            n, walk = self.plan.input[x.name], self.plan.walks[x.name]
            lines.append(f"int64 b{n} = 0;")
            if len(walk.outer) == 1:
                lines.append(f"b{n} = row * stride{n}_0;")
            elif walk.outer:
                lines.append("{ int64 rest = row, quotient;")
                for d in range(len(walk.outer) - 1):
                    lines.append(
                        f"quotient = rest / length{n}_{d}; b{n} += (rest - quotient * length{n}_{d}) * stride{n}_{d}; rest = quotient;"
                    )
                lines.append(f"b{n} += rest * stride{n}_{len(walk.outer) - 1}; }}")
            if not walk.varies:
                lines.append(f"const {x.dtype.name} u{n} = live ? x{n}[b{n}] : {x.dtype.name}();")
        return lines

    def _loop(self, phase: int | None) -> list[str]:
        """Once over the elements of the row: what a phase computes, or (None) reading them all into registers."""
        plan, packet = self.plan, self.packet
        stored = [] if phase is None else self._stored(phase)
        outs = [f"Packet<{x.dtype.name}, {packet}> q{n};" for n, x in stored]
        writes = [
            f"*reinterpret_cast<Packet<{x.dtype.name}, {packet}>*>(y{n} + row * columns + c) = q{n};"
            for n, x in stored
        ]
        if not self.held:
            assert phase is not None
            return [
                "if (live) for (int64 c = threadIdx.x; c < columns; c += blockDim.x) {" if not plan.flat
                else "if (live) for (int64 c = threadIdx.x; c < columns && row * columns + c < total; c += blockDim.x) {",
                *["Element e;"] * self.has_element, *outs,
                *(f"e.x{plan.input[x.name]} = x{plan.input[x.name]}[b{plan.input[x.name]} + c];" for x in self._read(phase)),
                *self._body(phase, stored), *writes, "}",
            ]  # fmt: skip
        lines = [
            '_Pragma("unroll")',
            f"for (int k = 0; k < {self.elements // packet}; k++) {{",
            f"const int64 c = (k * int64(blockDim.x) + threadIdx.x) * {packet};",
            f"if (live && c < columns && {self.inside}) {{"
            if plan.flat
            else f"if (live && {self.inside}) {{",
            *outs,
        ]
        if phase is None:
            for x in self.varying:
                n = plan.input[x.name]
                pack = f"Packet<{x.dtype.name}, {packet}>"
                lines.append(f"const {pack} p{n} = *reinterpret_cast<const {pack}*>(x{n} + b{n} + c);")
        lines += [
            '_Pragma("unroll")',
            f"for (int j = 0; j < {packet}; j++) {{",
            *[f"[[maybe_unused]] Element& e = element[k * {packet} + j];"] * self.has_element,
        ]
        if phase is None:
            lines += [f"e.x{plan.input[x.name]} = p{plan.input[x.name]}.at[j];" for x in self.varying]
        else:
            lines += self._body(phase, stored)
        return [*lines, "}", *writes, "}", "}"]

    def _stored(self, phase: int) -> list[tuple[int, Any]]:
        plan = self.plan
        return [
            (n, x)
            for n, x in enumerate(plan.whole)
            if plan.kinds[x.name] == "full" and plan.phase[x.name] == phase
        ]

    def _needed(self, phase: int) -> list[Any]:
        """The element-wise steps whose values a phase uses, in order."""
        plan = self.plan
        results = {x.name for x in plan.whole}
        kept = set(plan.kept) if self.held else set()
        wanted: set[str] = set()
        todo = []
        for name, kind in plan.kinds.items():
            if plan.phase[name] != phase:
                continue
            if kind == "full" and (name in results or name in kept):
                todo.append(name)
            elif kind in ("reduced", "column", "total"):
                todo.append(plan.of[name].inputs[0].name)
        while todo:
            name = todo.pop()
            if (
                plan.kinds.get(name) != "full"
                or name in wanted
                or (name in kept and plan.phase[name] < phase)
            ):
                continue
            wanted.add(name)
            todo += [x.name for x in plan.of[name].inputs if hasattr(x, "name")]
        return [s for s in plan.steps if s.outputs[0].name in wanted]

    def _read(self, phase: int) -> list[Any]:
        """The inputs that a phase reads by element."""
        plan = self.plan
        steps = self._needed(phase)
        steps += [
            plan.of[n]
            for n, k in plan.kinds.items()
            if k in ("reduced", "column", "total") and plan.phase[n] == phase
        ]
        names = {x.name for s in steps for x in s.inputs if hasattr(x, "name")}
        return [x for x in self.varying if x.name in names]

    def _body(self, phase: int, stored: list[tuple[int, Any]]) -> list[str]:
        """One element in one phase."""
        plan = self.plan
        kept = set(plan.kept) if self.held else set()
        values = dict(self.values)
        values |= {n: f"e.k{plan.id[n]}" for n in kept if plan.phase[n] < phase}
        lines = []
        for step in self._needed(phase):
            out = step.outputs[0]
            lines.append(
                f"const {out.dtype.name} {plan.id[out.name]} = {formula(step, plan.operands(step, values))};"
            )
            if out.name in kept:
                lines.append(f"e.k{plan.id[out.name]} = {plan.id[out.name]};")
        for name, kind in plan.kinds.items():
            if kind in ("reduced", "column", "total") and plan.phase[name] == phase:
                into = f"a{plan.id[name]}" + (f"[k * {self.packet} + j]" if kind == "column" else "")
                reducer, value = plan.reducer(name), values[plan.of[name].inputs[0].name]
                lines.append(f"{into} = {reducer}::combine({into}, {reducer}::load({value}, 0));")
        return [*lines, *(f"q{n}.at[{'j' if self.held else 0}] = {values[x.name]};" for n, x in stored)]

    def _pass(self, phase: int) -> list[str]:
        """A phase: what is known of the row, the loop, and the reductions that it completes."""
        plan = self.plan
        lines, after = [], []
        for step in plan.steps:
            out = step.outputs[0]
            name, kind, id = out.name, plan.kinds[out.name], plan.id[out.name]
            if plan.phase[name] != phase:
                continue
            if kind == "row":
                lines.append(
                    f"const {out.dtype.name} {id} = {formula(step, plan.operands(step, self.values))};"
                )
            elif kind == "reduced":
                reducer = plan.reducer(name)
                lines.append(f"{reducer}::State a{id} = {reducer}::start();")
                after.append(
                    f"const {out.dtype.name} {id} = {reducer}::finish(over_row<{reducer}>(a{id}, scratch));"
                )
        single = [
            (n, x)
            for n, x in enumerate(plan.whole)
            if plan.kinds[x.name] != "full" and plan.phase[x.name] == phase
        ]
        write = [f"if (live && threadIdx.x == 0) y{n}[row] = {plan.id[x.name]};" for n, x in single]
        loop = (
            self._loop(phase)
            if self._needed(phase) or after or self._stored(phase) or self._counts(phase)
            else []
        )
        return [*lines, *loop, *after, *write]

    def _counts(self, phase: int) -> bool:
        plan = self.plan
        return any(plan.phase[x.name] == phase for x in plan.partial)

    def _started(self, x: Any) -> list[str]:
        """The accumulators of a reduction over all rows."""
        plan = self.plan
        reducer, into = plan.reducer(x.name), f"a{plan.id[x.name]}"
        if plan.kinds[x.name] == "total":
            return [f"{reducer}::State {into} = {reducer}::start();"]
        return [
            f"{reducer}::State {into}[{self.elements}];",
            '_Pragma("unroll")',
            f"for (int k = 0; k < {self.elements}; k++) {into}[k] = {reducer}::start();",
        ]

    def _parts(self) -> list[str]:
        """Writing the partial results."""
        plan = self.plan
        if not plan.partial:
            return []
        lines = ["const int64 part = int64(blockIdx.x) * blockDim.y + threadIdx.y;"]
        for n, x in enumerate(plan.partial):
            reducer, into = plan.reducer(x.name), f"a{plan.id[x.name]}"
            if plan.kinds[x.name] == "total":
                lines.append(f"{into} = over_row<{reducer}>({into}, scratch);")
                lines.append(f"if (threadIdx.x == 0) z{n}[part] = {into};")
                continue
            lines += [
                '_Pragma("unroll")',
                f"for (int k = 0; k < {self.elements}; k++) {{",
                f"const int64 c = (k / {self.packet} * int64(blockDim.x) + threadIdx.x) * {self.packet} + k % {self.packet};",
                f"if (c < columns) z{n}[part * columns + c] = {into}[k];",
                "}",
            ]
        return lines
