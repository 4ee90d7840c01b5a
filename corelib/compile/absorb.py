"""What a group computes for itself instead of reading it from memory.

Two things are cheaper to make again, in the kernel that reads them, than to store and to read:

- a *window*: an array padded with a number, or a region of one, such as the shifted arrays of a stencil. It becomes a
  ``pad`` step of the group that reads it, whose source comes from outside and is read at its place; nothing is copied.
- a *copy*: a value of another group that a few cheap steps make of what is in memory anyway. Its steps become steps of each
  group that reads it, and it is not stored.

Both are done only where everybody who reads the value can do without it. No bit of a result changes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from .graph import Step, Traced

COST = {"divide": 4, "sqrt": 4, "exp": 10, "log": 12, "tanh": 16}  # of an element, where an addition is 1
CHEAP = {
    "add", "subtract", "multiply", "negative", "abs", "square", "maximum", "minimum", "where", "astype", "equal", "not_equal", "less",
    "less_equal", "greater", "greater_equal", "bitwise_and", "bitwise_or", "bitwise_xor", "bitwise_invert", "floor", "ceil", "round",
}  # fmt: skip
OTHER = 20  # of what is in neither
BUDGET = 8  # up to which a value is computed again
MEMBERS = 96  # steps of a group
WINDOWS = 24  # of one group
SHORT = 16  # elements of the last axis from which a window is read at its place


def absorb(order: Sequence[Any], kept: set[str], least: int, backend: Any) -> None:
    """Let groups, among the nodes of a program in ``order``, make windows and copies of values; ``kept``: names of the
    program's results. ``least``: steps that make a group. ``inputs`` and ``results`` of the groups are set.
    """
    found = _Absorbing(order, kept, least, backend)
    for node in order:
        if not _grouped(node) and node.op.name == "pad":
            found.window(node)
    for node in order:
        if _grouped(node) and len(node.steps) >= least:
            for step in list(node.steps):
                found.copy(node, step)
    connect(order, kept)


def loose(group: Any) -> list[Step]:
    """The steps of a group as steps of the program: copies have names of their own, because others have them too."""
    names: dict[str, Traced] = {}
    steps = []
    for step in group.steps:
        inputs = [names.get(x.name, x) if isinstance(x, Traced) else x for x in step.inputs]
        outputs = step.outputs
        if outputs[0].name in group.copies:
            (y,) = outputs
            outputs = [Traced(y.shape, y.dtype, f"{y.name}_for_{group.results[0].name}")]
            names[y.name] = outputs[0]
        steps.append(
            Step(step.op, step.kernel, inputs, step.params, outputs, step.several) if names else step
        )
    return steps


def connect(order: Sequence[Any], kept: set[str]) -> None:
    """Say what each group reads and what is read of it, and drop what nobody reads any more."""
    read = set(kept)
    for node in reversed(order):
        if not _grouped(node):
            read.update(_names(node))
            continue
        needed = {
            y.name for s in node.steps for y in s.outputs if y.name in read and y.name not in node.copies
        }
        alive = set(needed)
        for step in reversed(node.steps):
            if any(y.name in alive for y in step.outputs):
                alive.update(_names(step))
        node.steps = [s for s in node.steps if any(y.name in alive for y in s.outputs)]
        node.kinds = {name: kind for name, kind in node.kinds.items() if name in alive}
        node.copies &= alive
        node.results = [y for s in node.steps for y in s.outputs if y.name in needed]
        reads = {
            x.name: x
            for s in node.steps
            for x in s.inputs
            if isinstance(x, Traced) and x.name not in node.kinds
        }
        node.inputs = list(reads.values())
        node.views = [v for v in node.views if v.outputs[0].name in reads]
        read.update(reads)
        read.update(name for v in node.views for name in _names(v))


class _Absorbing:
    """Who makes and who reads what."""

    def __init__(self, order: Sequence[Any], kept: set[str], least: int, backend: Any) -> None:
        self.kept, self.least, self.backend = kept, least, backend
        self.step: dict[str, Step] = {}
        self.readers: dict[str, dict[Any, None]] = {}  # outside of the group that makes it
        self.stored: set[str] = set()  # read by others, or a result
        for node in order:
            steps = node.steps if _grouped(node) else [node]
            for step in steps:
                for y in step.outputs:
                    self.step[y.name] = step
                for name in _names(step):
                    if not _grouped(node) or name not in node.kinds:
                        self.readers.setdefault(name, {})[node] = None

    # -- windows ---------------------------------------------------------------------------------------------

    def window(self, pad: Step) -> None:
        """Have all who read a padded array, or a region of it, read its source instead."""
        places: list[tuple[Any, Step, Step | None]] = []
        for reader in self.readers.get(pad.outputs[0].name, ()):
            if _grouped(reader):
                places.append((reader, pad, None))
                continue
            made = _slid(reader, pad)
            if made is None or reader.outputs[0].name in self.kept:
                return
            places += [(group, *made) for group in self.readers.get(reader.outputs[0].name, ())]
        if not places or pad.outputs[0].name in self.kept:
            return
        many: dict[Any, int] = {}
        for group, step, _ in places:
            if not self._reads_whole(group, step.outputs[0]) or not self.backend.fuses(step):
                return
            many[group] = many.get(group, 0) + 1
            inside = step.params["pad_width"][len(group.shape) - (group.columns or 1) + 1 :]
            if group.shape[-1:] < (SHORT,) or any(any(widths) for widths in inside):
                return
            if many[group] > WINDOWS or len(group.steps) + many[group] > MEMBERS:
                return
        for group, step, view in places:
            self._give(group, [step])
            if view is not None and all(v.outputs[0].name != view.outputs[0].name for v in group.views):
                group.views.append(view)

    def _reads_whole(self, group: Any, x: Traced) -> bool:
        """Whether a node is a group that reads an array of its domain, element for element."""
        return (
            _grouped(group)
            and len(group.steps) >= self.least
            and group.shape == x.shape
            and all(
                group.kinds[s.outputs[0].name] != "row" and s.op.name != "pad"
                for s in group.steps
                if x.name in _names(s)
            )
        )

    def _give(self, group: Any, steps: list[Step]) -> None:
        """Put steps before those of a group."""
        new = [s for s in steps if s.outputs[0].name not in group.kinds]
        first = len(group.copies)
        group.steps[first:first] = new
        for step in new:
            y = step.outputs[0]
            group.copies.add(y.name)
            group.kinds[y.name] = "full"
            self.readers.get(y.name, {}).pop(group, None)
        for step in new:
            for name in _names(step):
                if name not in group.kinds:
                    self.readers.setdefault(name, {})[group] = None

    # -- copies ----------------------------------------------------------------------------------------------

    def copy(self, home: Any, step: Step) -> None:
        """Have all who read a step's result compute it themselves, if it is cheap."""
        y = step.outputs[0]
        readers = list(self.readers.get(y.name, ()))
        if home.kinds[y.name] != "full" or y.name in home.copies or y.name in self.kept or not readers:
            return
        chain: dict[str, Step] = {}
        leaves: dict[str, Traced] = {}
        if self._chain(home, step, chain, leaves) > BUDGET:
            return
        size = math.prod(y.shape)
        large = {name for name, x in leaves.items() if math.prod(x.shape) == size}
        for group in readers:
            if not self._reads_whole(group, y):
                return
            own = {name for name in large if group in self.readers.get(name, ()) or name in group.kinds}
            if len(large - own) > 1 or len(group.steps) + len(chain) > MEMBERS:
                return
        for group in readers:
            self._give(group, list(chain.values()))

    def _chain(self, home: Any, step: Step, chain: dict[str, Step], leaves: dict[str, Traced]) -> int:
        """The cost of a value, of what is in memory: the steps that make it, in order, and what they read."""
        name = step.op.name
        cost = 1 if name in CHEAP else COST.get(name, OTHER)
        for x in step.inputs:
            if not isinstance(x, Traced) or x.name in chain or cost > BUDGET:
                continue
            if x.name not in home.kinds or self._stored(home, x):
                leaves[x.name] = x
            elif home.kinds[x.name] == "full":
                cost += self._chain(home, self.step[x.name], chain, leaves)
            else:
                return OTHER
        chain[step.outputs[0].name] = step
        return cost

    def _stored(self, home: Any, x: Traced) -> bool:
        return x.name not in home.copies and (x.name in self.kept or bool(self.readers.get(x.name)))


def _slid(step: Any, pad: Step) -> tuple[Step, Step | None] | None:
    """A region of a padded array as an array that is padded: that step, and the one that takes the region of the source;
    None where it is no such region, or reads nothing of the source.
    """
    if _grouped(step) or step.op.name != "strided_slice" or any(n != 1 for n in step.params["step"]):
        return None
    x, y = pad.inputs[0], step.outputs[0]
    starts, sizes, widths = [], [], []
    for length, (low, _), start, size in zip(
        x.shape, pad.params["pad_width"], step.params["start"], step.params["size"], strict=True
    ):
        first, last = max(start - low, 0), min(start - low + size, length)
        if first >= last:
            return None
        starts.append(first)
        sizes.append(last - first)
        widths.append((first - (start - low), start - low + size - last))
    params = {**pad.params, "pad_width": tuple(widths)}
    if tuple(sizes) == x.shape:
        return Step(pad.op, pad.kernel, [x], params, [y], False), None
    region = Traced(tuple(sizes), x.dtype, f"{y.name}_of_{x.name}")
    view = Step(
        step.op,
        step.kernel,
        [x],
        {**step.params, "start": tuple(starts), "size": tuple(sizes)},
        [region],
        False,
    )
    return Step(pad.op, pad.kernel, [region], params, [y], False), view


def _grouped(node: Any) -> bool:
    return not isinstance(node, Step)


def _names(step: Step) -> list[str]:
    return [x.name for x in step.inputs if isinstance(x, Traced)]
