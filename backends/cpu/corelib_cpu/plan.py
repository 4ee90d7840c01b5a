"""How a group of steps is worked on: its domain as rows and columns, units of work, passes over a row.

Without reductions the units are elements, in runs that stay in one row; with them they are blocks of rows. A row is
gone through once per phase: a phase ends where a reduction over the row is complete, and what follows may read it. A
value that a later phase needs again is read from its result where it is one, or kept in a row of a result that is
written later, if it costs much; otherwise it is computed again. Sums over columns, or over everything, are made of one
partial result per block of rows, and the blocks depend on the shape alone, never on the number of threads.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from . import scalars
from .quiet import named

ROW = 8  # shortest row that is worth a loop of its own
FEW = 16384  # elements below which any row is worth it
BLOCK = 128  # rows of one partial result
FLAT = 16384  # elements of a row where the rows are only made for partial results
DEAR = 4  # cost from which a value is kept for the next phase


class Window(NamedTuple):
    """Where the elements of a padded array come from. ``axes``: of the rows, as (length, bytes, first, count): the source
    has the places first <= i < first + count. ``first``, ``count``: the same of the columns; ``whole``: all of them.
    """

    axes: tuple[tuple[int, int, int, int], ...]
    first: int
    count: int
    whole: bool


class Layout(NamedTuple):
    """A domain as rows and columns. ``outer``: for each input, by its name and by whether it is read once per row,
    whether it varies along a row, and its strides along the axes of the rows, as (length, bytes). ``windows``: by the names
    of padded arrays.
    """

    rows: int
    columns: int
    outer: dict[tuple[str, bool], tuple[bool, tuple[tuple[int, int], ...]]]
    windows: dict[str, Window]


def steps_of(x: Any, strides: tuple[int, ...] | None, rank: int) -> list[int]:
    """Bytes from place to place along each of `rank` axes, of an array that broadcasts to them; C-contiguous unless its
    strides are given.
    """
    if strides is None:
        found, step = [], named(x.dtype.name).itemsize
        for length in reversed(x.shape):
            found.append(step)
            step *= length
        strides = tuple(reversed(found))
    steps = [0 if length == 1 else stride for length, stride in zip(x.shape, strides, strict=True)]
    return [*[0] * (rank - len(steps)), *steps][-rank:] if rank else []


def collapsed(domain: tuple[int, ...], strides: list[int]) -> tuple[tuple[int, int], ...]:
    """Axes as few as possible; one that is walked in a single stride is one axis."""
    found: list[tuple[int, int]] = []
    for length, stride in zip(domain, strides, strict=True):
        if length == 1:
            continue
        if found and found[-1][1] == length * stride:
            found[-1] = (found[-1][0] * length, stride)
        else:
            found.append((length, stride))
    return tuple(found) if any(stride for _, stride in found) else ()


def layout(group: Any, strides: dict[str, tuple[int, ...]]) -> Layout | None:
    """The domain of a group in rows and columns, for inputs of these strides, or C-contiguous ones; None where the
    inputs have no such form.
    """
    domain, columns = group.shape, group.columns
    rank = len(domain)
    full: set[str] = set()
    row: dict[
        str, int
    ] = {}  # and the rank of what is computed from it: with the row's axes as 1, or without them
    for step in group.steps:
        out = step.outputs[0]
        for x in step.inputs if step.op.name != "pad" else ():
            if hasattr(x, "name") and x.name not in group.kinds:
                if group.kinds[out.name] != "row":
                    full.add(x.name)
                elif row.setdefault(x.name, len(out.shape)) != len(out.shape):
                    return None
    reads = {x.name: x for x in group.inputs if x.name in full}
    steps = {name: steps_of(x, strides.get(name), rank) for name, x in reads.items()}

    def varies(name: str, k: int) -> bool | None:
        """Whether an input is a run of elements along the last k axes; None if it is neither that nor one element."""
        expected, same, along = named(reads[name].dtype.name).itemsize, True, False
        for length, step in zip(reversed(domain[rank - k :]), reversed(steps[name][rank - k :]), strict=True):
            if length > 1:
                same, along = same and step == expected, along or step != 0
                expected *= length
        return (same or None) if along else False

    pads = {s.outputs[0].name: s for s in group.steps if s.op.name == "pad"}

    def reads_rows(k: int) -> bool:
        """Whether all that is read has this form with rows of the last k axes."""
        return not any(varies(name, k) is None for name in reads) and all(
            window(s, domain, strides, k) is not None for s in pads.values()
        )

    if columns is None:
        columns = rank
        while columns > 1 and not reads_rows(columns):
            columns -= 1
    if not reads_rows(columns):
        return None
    before = domain[: rank - columns]
    outer = {
        (name, False): (bool(varies(name, columns)), collapsed(before, steps[name][: rank - columns]))
        for name in reads
    }
    for x in group.inputs:
        if x.name in row:
            of_rows = steps_of(x, strides.get(x.name), row[x.name])
            outer[x.name, True] = (False, collapsed(before, of_rows[: len(before)]))
    windows = {name: window(s, domain, strides, columns) for name, s in pads.items()}
    return Layout(math.prod(before), math.prod(domain[rank - columns :]), outer, windows)


def window(
    pad: Any, domain: tuple[int, ...], strides: dict[str, tuple[int, ...]], columns: int
) -> Window | None:
    """How a padded array is read in rows of the last axes; None where a row of its source is no run of elements."""
    x, widths = pad.inputs[0], pad.params["pad_width"]
    rank, size = len(domain), named(x.dtype.name).itemsize
    steps = steps_of(x, strides.get(x.name), rank)
    expected, inner = size, 1
    for axis in reversed(range(rank - columns, rank)):
        if x.shape[axis] > 1 and steps[axis] != expected or axis > rank - columns and any(widths[axis]):
            return None
        expected *= x.shape[axis]
        inner *= domain[axis] if axis > rank - columns else 1
    axes: list[tuple[int, int, int, int]] = []
    for axis in range(rank - columns):
        length, low, count = domain[axis], widths[axis][0], x.shape[axis]
        if length == 1:
            continue
        if axes and count == length and axes[-1][3] == axes[-1][0] and axes[-1][1] == length * steps[axis]:
            axes[-1] = (axes[-1][0] * length, steps[axis], 0, axes[-1][0] * length)
        else:
            axes.append((length, steps[axis], low, count))
    first, count = (widths[rank - columns][0] * inner, x.shape[rank - columns] * inner)
    return Window(tuple(axes), first, count, count == domain[rank - columns] * inner)


class Plan:
    """What a group's kernel does, before it is written. ``pays`` is False where none is made. ``strides``: of inputs that
    are not C-contiguous, by name.

    ``whole`` are the results that are stored as they are, ``partial`` those that come in parts: one for each of
    ``blocks``. ``phase``, ``cost``: of each step's result, by its name; ``kept``: a value that is kept, and the result
    whose row holds it. ``before``: for each whole result, the inputs, by number, whose place it may take.
    """

    def __init__(self, group: Any, strides: dict[str, tuple[int, ...]]) -> None:
        self.group, self.kinds, self.strides = group, group.kinds, strides
        self.step = {s.outputs[0].name: s for s in group.steps}
        self.partial = [x for x in group.results if self.kinds[x.name] in ("column", "total")]
        self.whole = [x for x in group.results if self.kinds[x.name] not in ("column", "total")]
        self.plain = set(self.kinds.values()) == {"full"}
        place = layout(group, strides)
        self.pays = place is not None and self._shaped(place)
        if self.pays:
            self._phases()

    def _shaped(self, place: Layout) -> bool:
        """Settle rows, columns and units; False where the form does not pay."""
        self.outer, self.rows, self.columns = place.outer, place.rows, place.columns
        self.windows = place.windows
        # from where to where no window has a border along a row, if that is most of it
        bounds = [(w.first, w.first + w.count) for w in self.windows.values() if not w.whole]
        inner = (max([0, *(b for b, _ in bounds)]), min([self.columns, *(e for _, e in bounds)]))
        self.border = inner if bounds and inner[1] - inner[0] >= self.columns * 7 // 8 else None
        self.total = self.rows * self.columns
        reduces = any(kind == "reduced" for kind in self.kinds.values())
        self.flat = self.rows == 1 and not reduces
        if self.plain:
            self.block, self.blocks, self.units = 1, self.total, self.total
            return self.rows == 1 or self.columns >= ROW or self.total < FEW
        if self.flat and not any(kind == "column" for kind in self.kinds.values()):
            self.columns = min(FLAT, self.total)
            self.rows = -(-self.total // self.columns)
            self.block = 1
        else:
            self.flat = False
            if (self.columns < ROW and self.total >= FEW) or (self.rows < 16 and self.total > 65536):
                return False
            if reduces and self.columns > 65536 and any(x.dtype.name == "float64" for x in self.group.inputs):
                return False
            self.block = BLOCK if self.partial else 1
        self.units = self.blocks = -(-self.rows // self.block)
        return True

    def _phases(self) -> None:
        """In which pass over the row each value is known, what it costs, and what is kept from pass to pass."""
        self.phase: dict[str, int] = {}
        self.cost: dict[str, int] = {}
        for step in self.group.steps:
            name = step.outputs[0].name
            inside = [x.name for x in step.inputs if hasattr(x, "name") and x.name in self.kinds]
            at = max((self.phase[x] + (self.kinds[x] == "reduced") for x in inside), default=0)
            self.phase[name] = at
            own = scalars.COST.get(step.op.name, 1)
            self.cost[name] = own + sum(self.cost[x] for x in inside if self.kinds[x] == "full")
        last = dict(self.phase)  # the last pass that needs an element again
        for step in self.group.steps:
            name = step.outputs[0].name
            for x in step.inputs:
                if hasattr(x, "name") and x.name in self.kinds:
                    last[x.name] = max(last[x.name], self.phase[name])
        deep = dict(self.phase)  # the last pass that may need it, to compute again what is made of it
        for step in reversed(self.group.steps):
            name = step.outputs[0].name
            for x in step.inputs:
                if hasattr(x, "name") and x.name in self.kinds:
                    deep[x.name] = max(deep[x.name], deep[name])
        stored = {x.name for x in self.whole}
        self.kept: dict[str, Any] = {}  # a value that is kept -> the result whose row holds it
        taken: set[str] = set()
        for step in self.group.steps:
            out = step.outputs[0]
            if self.kinds[out.name] != "full" or last[out.name] == self.phase[out.name]:
                continue
            if out.name in stored:
                self.kept[out.name] = out
            elif self.cost[out.name] >= DEAR + 2:
                for x in self.whole:
                    if (
                        self.kinds[x.name] == "full"
                        and x.name not in taken
                        and named(x.dtype.name).itemsize == named(out.dtype.name).itemsize
                        and self.phase[x.name] >= deep[out.name]
                    ):
                        self.kept[out.name] = x
                        taken.add(x.name)
                        break
        # the last phase in which a value may be computed again, and what it is computed from read with it
        again = dict(self.phase)
        reads: dict[str, int] = {}  # the same of each input
        for step in reversed(self.group.steps):
            name = step.outputs[0].name
            for x in step.inputs:
                if hasattr(x, "name") and x.name not in self.kinds:
                    reads[x.name] = max(reads.get(x.name, 0), again[name])
                elif hasattr(x, "name") and x.name not in self.kept and self.kinds[x.name] == "full":
                    again[x.name] = max(again[x.name], again[name])
        self.before = [self._places(x, taken, reads) for x in self.whole]

    def _places(self, out: Any, taken: set[str], reads: dict[str, int]) -> list[int]:
        """The inputs, by number, that nothing reads after `out` has been written, and only at its own place."""
        seen = {s.inputs[0].name for s in self.group.steps if s.op.name == "pad"}  # at other places
        if self.kinds[out.name] != "full" or out.name in taken or out.dtype.name == "bool":
            return []
        return [
            number
            for number, x in enumerate(self.group.inputs)
            if (x.shape, x.dtype) == (out.shape, out.dtype)
            and (x.name, True) not in self.outer
            and (x.name, False) in self.outer
            and x.name not in seen
            and x.name not in self.strides
            and reads[x.name] <= self.phase[out.name]
        ]


def working(step: Any) -> str:
    """The dtype that a step computes in."""
    if step.op.name == "where":
        return step.outputs[0].dtype.name
    return next(x.dtype.name for x in step.inputs if hasattr(x, "name"))


def squares(step: Any) -> bool:
    """Whether a power is a square."""
    exponent = step.inputs[1]
    return exponent.__class__ in (int, float) and exponent == 2
