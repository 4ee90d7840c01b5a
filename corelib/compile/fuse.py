"""Grouping: which steps of a graph become one kernel.

A group computes over one domain, the shape of its largest values. Each member is of one of these kinds:

``full``: an element of every place of the domain, by an element-wise step;
``reduced``: a row reduction of full values, over the last ``columns`` axes of the domain;
``row``: an element-wise step on what is the same for a whole row: on reductions and inputs of their shape;
``column``: a reduction over all axes but the last ``columns``; ``total``: a reduction over all axes. These two are results
only, because no element is known before all rows are done.

A step joins the groups of its producers, and of steps that read the same large input, where it fits and where no path
leads from the group out and back into it. Nothing here knows a device: a backend says which single steps it could make
part of a kernel (``Backend.fuses``) and makes the kernel of a group, or declines (``Backend.emit``); a declined group's
steps are run one by one.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Sequence
from typing import Any

from .absorb import absorb, connect, loose
from .graph import Graph, Step, Traced
from .products import produce

MEMBERS = 96  # of one group; longer chains gain nothing more and take LLVM long
SIBLINGS = 6  # groups that are looked at for a common input
PURE = ("elementwise", "reduce", "movement")
REDUCTIONS = ("sum", "max", "min")


class Group:
    """Steps that become one kernel, in order; ``kinds`` by the name of each result of a step.

    ``inputs``: arrays that come from outside; ``results``: members that are read outside. ``shape``: the domain;
    ``columns``: how many of its last axes make a row, None where no member asks for rows. ``copies``: names of members that
    stand in other groups too, or are windows of an input, and are never results; ``views``: steps that make inputs of
    others' arrays. See absorb.py. ``product``: a product of matrices, perhaps reshaped, that comes before the steps; its
    result is then the first of the inputs, and the kernel gets its operands instead. See products.py.
    """

    __slots__ = ("columns", "copies", "inputs", "kinds", "product", "results", "shape", "steps", "views")

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape, self.columns = shape, None
        self.steps: list[Step] = []
        self.kinds: dict[str, str] = {}
        self.inputs: list[Traced] = []
        self.results: list[Traced] = []
        self.copies: set[str] = set()
        self.views: list[Step] = []
        self.product: list[Step] = []

    columns: int | None

    @property
    def all(self) -> list[Step]:
        """The steps with those of the product."""
        return [*self.product, *self.steps]

    @property
    def operands(self) -> list[Traced]:
        """What the kernel is called with."""
        return [*self.product[0].arrays, *self.inputs[1:]] if self.product else self.inputs

    def __repr__(self) -> str:
        members = ", ".join(f"{s.op.name}:{self.kinds[s.outputs[0].name]}" for s in self.steps)
        return f"<group {list(self.shape)} {members}>"


class Fused:
    """What stands for an op in a step that runs a group's kernel."""

    kind, data_dependent = "fused", False

    def __init__(self, group: Group) -> None:
        self.group = group
        self.name = "fused(" + ", ".join(s.op.name for s in group.all) + ")"


def fused(graph: Graph, backend: Any, least: int = 0, *, alone: bool = False) -> Graph:
    """The graph with groups of steps as single steps, for groups whose domain has at least ``least`` elements; with
    ``alone`` also for a step that is in no group with others.
    """
    graph = Graph(graph.inputs, _needed(graph), graph.results, several=graph.several, donated=graph.donated)
    plan = _Grouping(graph, backend, least)
    fewest = 1 if alone else 2
    if not any(len(g.steps) + plan.products >= fewest for g in plan.groups):
        return graph
    steps: list[Step] = []
    order = plan.ordered()
    if plan.segment[-1] == 0:  # nothing is written over: what is read later is what it was
        absorb(order, plan.kept, fewest, backend)
    else:
        connect(order, plan.kept)
    if plan.products:
        order = produce(order, plan.kept, backend)
    viewed: set[str] = set()
    for node in order:
        if isinstance(node, Group):
            views = [v for v in node.views if v.outputs[0].name not in viewed]
            viewed.update(v.outputs[0].name for v in views)
            steps += views
            kernel = plan.emitted(node, backend, fewest)
            if kernel is None and node.product:
                steps += node.product
                node.product = []
                kernel = plan.emitted(node, backend, fewest)
            if kernel is not None:
                op: Any = Fused(node)
                steps.append(Step(op, kernel, node.operands, {}, node.results, len(node.results) > 1))
                continue
        steps += loose(node) if isinstance(node, Group) else [node]
    found = Graph(graph.inputs, steps, graph.results, several=graph.several, donated=graph.donated)
    found.steps = _needed(found)
    return found


def placed(step: Step, shape: tuple[int, ...]) -> tuple[str, int | None] | None:
    """Kind and columns of a reduction of an array of the domain's shape; None where it has neither form."""
    axes = step.params["axis"]
    rank = len(shape)
    if len(axes) == rank:
        return "total", None
    if axes == tuple(range(-len(axes), 0)):
        return "reduced", len(axes)
    if axes == tuple(range(-rank, len(axes) - rank)):
        return "column", rank - len(axes)
    return None


class _Grouping:
    """The steps of a graph in groups; a step that joins none has none."""

    def __init__(self, graph: Graph, backend: Any, least: int) -> None:
        self.steps, self.groups, self.least = graph.steps, list[Group](), least
        self.products = bool(backend.fuses_products) and not any(
            s.params.get("overwrite") for s in graph.steps
        )
        self.of: dict[int, Group] = {}  # number of a step -> its group
        self.made = {x.name: number for number, step in enumerate(graph.steps) for x in step.outputs}
        self.sources = [[self.made[name] for name in _names(s) if name in self.made] for s in graph.steps]
        self.kept = {x.name for x in graph.results if x is not None}
        self.numbers: dict[int, int] = {}
        self.segment: list[int] = []
        self.shared: dict[str, list[Group]] = {}  # by a large array's name, who reads it
        segment = 0
        for number, step in enumerate(graph.steps):
            self.numbers[id(step)] = number
            # what writes over an array is never passed by steps that read it
            writes = bool(step.params.get("overwrite"))
            segment += writes
            self.segment.append(segment)
            segment += writes
            shape = _domain(step)
            if shape is None or 0 in shape:
                continue
            # what is small may still be the row of something large
            if not self._large(step, shape) and not any(p in self.of for p in self._producers(step)):
                continue
            if not backend.fuses(step):
                continue
            self._join(number, step, shape)

    def _join(self, number: int, step: Step, shape: tuple[int, ...]) -> None:
        """Put a step into the group that it fits, or into one of its own."""
        home: Group | None = None
        large = [x.name for x in step.inputs if isinstance(x, Traced) and x.shape == shape]
        producers = [self.of[p] for p in self._producers(step) if p in self.of]
        candidates = dict.fromkeys(producers)
        for name in large:
            for group in self.shared.get(name, [])[-SIBLINGS:]:
                candidates.setdefault(group)
        for group in candidates:
            if home is None:
                kind = self._fits(step, group, number)
                if kind and self._apart([group], self._producers(step)):
                    self._add(number, step, group, *kind)
                    home = group
            elif self._merges(home, group):
                self._merge(home, group)
        if home is None:
            home = Group(shape)
            kind = self._fits(step, home, number) if self._large(step, shape) else None
            if kind is None:
                return
            self.groups.append(home)
            self._add(number, step, home, *kind)
        for name in large:
            groups = self.shared.setdefault(name, [])
            if home not in groups:
                groups.append(home)

    def _large(self, step: Step, shape: tuple[int, ...]) -> bool:
        """Whether a step may begin a group; behind a product of matrices it may be of any size."""
        return math.prod(shape) >= self.least or (
            self.products and any(self.steps[p].op.name == "matmul" for p in self._producers(step))
        )

    def _fits(self, step: Step, group: Group, number: int) -> tuple[str, int | None] | None:
        """The kind that a step would have in a group, and how many columns it asks for; None if it does not fit."""
        if len(group.steps) >= MEMBERS:
            return None
        if group.steps and self.segment[self.numbers[id(group.steps[0])]] != self.segment[number]:
            return None
        shape, kinds = group.shape, group.kinds
        inside = [x for x in step.inputs if isinstance(x, Traced) and x.name in kinds]
        if any(kinds[x.name] in ("column", "total") for x in inside):
            return None
        if step.op.kind == "reduce":
            x = step.inputs[0]
            found = placed(step, shape) if x.shape == shape else None
            if found is None or kinds.get(x.name, "full") != "full":
                return None
            if found[1] is not None and group.columns not in (None, found[1]):
                return None
            return found
        out = step.outputs[0].shape
        rows = _row_shapes(group)
        if out == shape:
            ok = all(kinds[x.name] == "full" or x.shape in rows[:1] for x in inside)
            return ("full", None) if ok else None
        if out in rows and inside and all(kinds[x.name] != "full" and x.shape == out for x in inside):
            return "row", None
        return None

    def _add(self, number: int, step: Step, group: Group, kind: str, columns: int | None) -> None:
        group.steps.append(step)
        group.columns = columns if group.columns is None else group.columns
        group.kinds[step.outputs[0].name] = kind
        self.of[number] = group

    def _merges(self, home: Group, other: Group) -> bool:
        """Whether two groups can be one."""
        if other is home or home.shape != other.shape or len(home.steps) + len(other.steps) > MEMBERS:
            return False
        if home.columns is not None and other.columns is not None and home.columns != other.columns:
            return False
        numbers = [self.numbers[id(s)] for s in (*home.steps, *other.steps)]
        if len({self.segment[n] for n in numbers}) > 1:
            return False
        # what crosses from one to the other must be of a kind that is known there
        crossing = {**home.kinds, **other.kinds}
        for group, source in ((home, other), (other, home)):
            for step in group.steps:
                for x in step.inputs:
                    if isinstance(x, Traced) and x.name in source.kinds:
                        kind, own = crossing[x.name], group.kinds[step.outputs[0].name]
                        columns = home.columns or other.columns
                        if kind in ("column", "total") or (kind == "full" and own == "row"):
                            return False
                        if kind != "full" and own != "row":
                            if own != "full" or columns is None or x.shape != _kept(home.shape, columns):
                                return False
        return self._apart([home, other], [p for n in numbers for p in self._producers(self.steps[n])])

    def _merge(self, home: Group, other: Group) -> None:
        home.steps = sorted([*home.steps, *other.steps], key=lambda s: self.numbers[id(s)])
        home.kinds.update(other.kinds)
        home.columns = other.columns if home.columns is None else home.columns
        for step in other.steps:
            self.of[self.numbers[id(step)]] = home
        for readers in self.shared.values():
            if other in readers:
                readers[:] = [g for g in readers if g not in (home, other)] + [home]
        self.groups.remove(other)

    def _producers(self, step: Step) -> list[int]:
        return self.sources[self.numbers[id(step)]]

    def _apart(self, groups: Sequence[Group], sources: Iterable[int]) -> bool:
        """Whether no path leads from the groups out of them and on to one of the sources, so that the groups (with a
        step that reads the sources) can be one node.
        """
        bound = self._bound(min(self.numbers[id(g.steps[0])] for g in groups if g.steps))
        todo = [n for n in sources if self.of.get(n) not in groups]
        seen: set[Any] = set()
        while todo:
            number = todo.pop()
            group = self.of.get(number)
            if group in groups and group is not None:
                return False
            node: Any = number if group is None else group
            if node in seen:
                continue
            seen.add(node)
            members = [number] if group is None else [self.numbers[id(s)] for s in group.steps]
            if members[-1] >= bound:
                todo += [
                    p
                    for m in members
                    for p in self.sources[m]
                    if self.of.get(p) is not group or group is None
                ]
        return True

    def _bound(self, first: int) -> int:
        """The number of a step such that what lies before it, groups as wholes, cannot depend on step ``first``: no group
        has members on both sides of it.
        """
        spans = [
            (self.numbers[id(g.steps[0])], self.numbers[id(g.steps[-1])]) for g in self.groups if g.steps
        ]
        while True:
            lower = min((start for start, end in spans if start < first <= end), default=first)
            if lower == first:
                return first
            first = lower

    def emitted(self, group: Group, backend: Any, fewest: int) -> Any:
        """A group's kernel, or None."""
        if len(group.all) < fewest or not group.product and math.prod(group.shape) < self.least:
            return None
        return backend.emit(group)

    def ordered(self) -> list[Group | Step]:
        """Groups and the steps of no group, in an order in which they can run, close to the given one."""
        waiting: dict[int, int] = {}
        nodes: dict[int, Group | Step] = {}
        after: dict[int, list[int]] = {}
        node_of = {}
        for number, step in enumerate(self.steps):
            group = self.of.get(number)
            key = number if group is None else self.numbers[id(group.steps[0])]
            node_of[number] = key
            nodes[key] = step if group is None else group
        for number, step in enumerate(self.steps):
            key = node_of[number]
            waiting.setdefault(key, 0)
            for producer in self._producers(step):
                if node_of[producer] != key:
                    after.setdefault(node_of[producer], []).append(key)
                    waiting[key] += 1
        ready = [key for key, count in waiting.items() if not count]
        heapq.heapify(ready)
        order = []
        while ready:
            key = heapq.heappop(ready)
            order.append(nodes[key])
            for consumer in after.get(key, ()):
                waiting[consumer] -= 1
                if not waiting[consumer]:
                    heapq.heappush(ready, consumer)
        assert len(order) == len(nodes), "groups depend on each other"
        return order


def _needed(graph: Graph) -> list[Step]:
    """The steps without those that compute what nobody reads, and can do nothing else, such as refuse an index."""
    read = {x.name for x in graph.results if x is not None}
    steps = []
    for step in reversed(graph.steps):
        if step.op.kind not in PURE or any(x.name in read for x in step.outputs):
            steps.append(step)
            read.update(_names(step))
    return steps[::-1]


def _names(step: Step) -> list[str]:
    return [x.name for x in step.inputs if isinstance(x, Traced)]


def _domain(step: Step) -> tuple[int, ...] | None:
    """The shape over which a step alone would work; None for what no group takes."""
    if step.several or not any(isinstance(x, Traced) for x in step.inputs):
        return None
    if step.op.kind == "elementwise":
        return step.outputs[0].shape
    if step.op.kind == "reduce" and step.op.name in REDUCTIONS and step.params["axis"]:
        return step.inputs[0].shape
    return None


def _kept(shape: tuple[int, ...], columns: int) -> tuple[int, ...]:
    return (*shape[: len(shape) - columns], *(1,) * columns)


def _row_shapes(group: Group) -> tuple[tuple[int, ...], ...]:
    """The shapes of what is one number per row: with the row's axes kept as 1, and without them."""
    if group.columns is None:
        return ()
    return _kept(group.shape, group.columns), group.shape[: len(group.shape) - group.columns]
