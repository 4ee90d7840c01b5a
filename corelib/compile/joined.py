"""Many small products as one.

A recurrent network multiplies each step's input by one matrix, and adds up one product per step for that matrix's gradient.
Each is too small to keep a machine busy. Products of consecutive rows of an array with one matrix are one product with all
rows; a sum of products is one product of what is strung together. A transposed matrix of many products is turned once. Rows are computed as before; sums are rounded once where
they were rounded at each step, within the bound of sums of products.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ..backend import Backend
from ..dtypes import float32, float64
from ..op import BY_NAME
from ..registry import registry
from .graph import Graph, Step, Traced

FEWEST = 4  # products that are worth it
ROWS = 512  # of one of them: larger ones keep a machine busy alone


class _Rows(NamedTuple):
    """Consecutive rows of an array that is seen as a matrix of as many columns."""

    of: Traced
    first: int


def together(graph: Graph, backend: Backend) -> Graph:
    """An equal graph in which small products are done together."""
    if sum(step.op.name == "matmul" for step in graph.steps) < FEWEST:
        return graph
    found = _Products(graph, backend)
    found.rows()
    found.sums()
    found.turned()
    if not found.instead and not found.new:
        return graph
    steps = list(found.new)
    for number, step in enumerate(graph.steps):
        instead = found.instead.get(number, step)
        if instead is not None:
            steps.append((number, instead))
    steps.sort(key=lambda pair: pair[0])
    return Graph(
        graph.inputs, [s for _, s in steps], graph.results, several=graph.several, donated=graph.donated, constants=graph.constants,
        labels=graph.labels, name=graph.name,
    )  # fmt: skip


class _Products:
    """``new``: steps, each with the number of the step that it stands behind, and a fraction; ``instead``: by the number of
    a step, what takes its place, None for nothing.
    """

    def __init__(self, graph: Graph, backend: Backend) -> None:
        self.graph, self.backend = graph, backend
        self.new: list[tuple[float, Step]] = []
        self.instead: dict[int, Step | None] = {}
        self.made = {y: n for n, s in enumerate(graph.steps) for y in s.outputs}
        self.readers: dict[Traced, list[int]] = {}
        for number, step in enumerate(graph.steps):
            for x in step.arrays:
                self.readers.setdefault(x, []).append(number)
        self.results = set(graph.results)
        self.strung: dict[tuple[Traced, ...], tuple[Traced, float]] = {}
        self.orders: dict[frozenset[Traced], tuple[Traced, ...]] = {}

    def step(self, x: Any) -> Step | None:
        """Who makes an array, None of an input."""
        return self.graph.steps[self.made[x]] if x in self.made else None

    def at(self, x: Traced) -> float:
        """The number of the step that makes an array."""
        return self.made.get(x, -1)

    def add(
        self, at: float, name: str, inputs: Sequence[Traced], params: dict[str, Any], shape: Any
    ) -> Traced:
        """One more step, and its result."""
        op, dtype = BY_NAME[name], inputs[0].dtype
        y = Traced(shape, dtype, f"joined{len(self.new)}")
        self.new.append(
            (at, Step(op, registry.bind(op, dtype, self.backend), list(inputs), params, [y], False))
        )
        return y

    # -- rows ------------------------------------------------------------------------------------------------

    def source(self, x: Any) -> _Rows | None:
        """Of which array the rows of a matrix are consecutive rows."""
        step = self.step(x)
        columns = x.shape[-1] if len(x.shape) == 2 else 0
        if step is not None and step.op.name == "reshape":
            step = self.step(step.inputs[0])
        if (
            not columns
            or step is None
            or step.op.name != "strided_slice"
            or any(n != 1 for n in step.params["step"])
        ):
            return None
        (of,), size, start = step.inputs, step.params["size"], step.params["start"]
        if len(of.shape) < 2 or of.shape[-1] != columns or tuple(size[1:]) != of.shape[1:] or any(start[1:]):
            return None
        return _Rows(of, start[0] * math.prod(of.shape[1:-1]))

    def rows(self) -> None:
        """Products of parts of one array with one matrix."""
        families: dict[tuple[Traced, Traced], list[tuple[int, int]]] = {}
        for number, step in enumerate(self.graph.steps):
            if _product(step) and step.inputs[0].shape[0] <= ROWS:
                found = self.source(step.inputs[0])
                if found is not None:
                    families.setdefault((found.of, step.inputs[1]), []).append((number, found.first))
        for (of, matrix), members in families.items():
            rows, columns = math.prod(of.shape[:-1]), of.shape[-1]
            taken = sum(self.graph.steps[n].inputs[0].shape[0] for n in {f: n for n, f in members}.values())
            if len(members) < FEWEST or taken < rows * 3 // 4:
                continue
            at = max(self.at(of), self.at(matrix))
            wide = self.add(at + 0.1, "reshape", [of], {"shape": (rows, columns)}, (rows, columns))
            shape = (rows, matrix.shape[1])
            product = self.add(at + 0.2, "matmul", [wide, matrix], {}, shape)
            slicing = BY_NAME["strided_slice"]
            kernel = registry.bind(slicing, of.dtype, self.backend)
            for number, first in members:
                (y,) = self.graph.steps[number].outputs
                region = {"start": (first, 0), "size": y.shape, "step": (1, 1)}
                self.instead[number] = Step(slicing, kernel, [product], region, [y], False)

    # -- sums ------------------------------------------------------------------------------------------------

    def sums(self) -> None:
        """Sums of products of transposed matrices, and of sums of the same matrices' rows."""
        chains = []
        for number, step in enumerate(self.graph.steps):
            if step.op.name == "add" and not self._inside(step):
                terms, adds = self._terms(number)
                chains.append((number, terms, adds))
        products = [c for c in chains if self._all(c[1], self._gradient)]
        # an order in which one side is an array already comes first
        for number, terms, adds in sorted(products, key=lambda c: self._ordered(c[1]) is None):
            pairs = [self._gradient(t) for t in terms]
            order = self._ordered(terms)
            lefts = [p[0] for p in pairs if p is not None]
            whole = frozenset(lefts)
            if len(whole) < len(lefts):
                continue
            if order is not None:
                self.orders.setdefault(whole, tuple(lefts[i] for i in order))
            first = self.orders.setdefault(whole, tuple(lefts))
            partner = {p[0]: p[1] for p in pairs if p is not None}
            left, here = self._string(first)
            right, there = self._string(tuple(partner[x] for x in first))
            at = max(here, there)
            turned = self.add(at + 0.01, "permute_dims", [left], {"axes": (-1, -2)}, left.shape[::-1])
            self._replace(number, adds, terms, BY_NAME["matmul"], [turned, right], {})
        for number, terms, adds in chains:
            if self._all(terms, self._column):
                arrays = [self._column(t) for t in terms]
                order_of = self.orders.get(frozenset(a for a in arrays if a is not None))
                if order_of is not None and len(order_of) == len(arrays):
                    first_sum = self.step(terms[0])
                    assert first_sum is not None
                    left, _ = self._string(order_of)
                    self._replace(number, adds, terms, first_sum.op, [left], first_sum.params)

    def turned(self) -> None:
        """Transposed matrices that several products read on the right: turned once, in memory."""
        families: dict[Traced, list[int]] = {}
        for number, step in enumerate(self.graph.steps):
            if _product(step) and number not in self.instead:
                families.setdefault(step.inputs[1], []).append(number)
        for matrix, numbers in families.items():
            made = self.step(matrix)
            small = math.prod(matrix.shape) <= ROWS * ROWS
            if len(numbers) < FEWEST or made is None or not _turns(made) or not small:
                continue
            copy = self.add(self.at(matrix) + 0.5, "concat", [matrix], {"axis": -2}, matrix.shape)
            for n in numbers:
                step = self.graph.steps[n]
                inputs = [step.inputs[0], copy]
                self.instead[n] = Step(step.op, step.kernel, inputs, step.params, step.outputs, False)

    def _replace(
        self,
        number: int,
        adds: list[int],
        terms: list[Traced],
        op: Any,
        inputs: list[Traced],
        params: dict[str, Any],
    ) -> None:
        (y,) = self.graph.steps[number].outputs
        for n in (*adds, *(self.made[t] for t in terms)):
            self.instead[n] = None
            before = self.graph.steps[n]
            if before.op.name == "permute_dims":  # of a product that nobody else reads
                self.instead[self.made[before.inputs[0]]] = None
        self.instead[number] = Step(op, registry.bind(op, y.dtype, self.backend), inputs, params, [y], False)

    def _inside(self, step: Step) -> bool:
        """Whether an addition is only read by another of the same shape."""
        (y,) = step.outputs
        readers = self.readers.get(y, [])
        if len(readers) != 1 or y in self.results:
            return False
        reader = self.graph.steps[readers[0]]
        return reader.op.name == "add" and reader.outputs[0].shape == y.shape and len(reader.arrays) == 2

    def _terms(self, number: int) -> tuple[list[Traced], list[int]]:
        """What a chain of additions adds, and the additions inside of it."""
        terms, adds, todo = list[Traced](), list[int](), [number]
        while todo:
            step = self.graph.steps[todo.pop()]
            if len(step.arrays) != 2:
                return [], []
            for x in reversed(step.arrays):
                made = self.step(x)
                if (
                    made is not None
                    and made.op.name == "add"
                    and self._inside(made)
                    and x.shape == step.outputs[0].shape
                ):
                    adds.append(self.made[x])
                    todo.append(self.made[x])
                else:
                    terms.append(x)
        return terms, adds

    def _all(self, terms: list[Traced], what: Callable[[Traced], Any]) -> bool:
        return len(terms) >= FEWEST and all(
            len(self.readers[t]) == 1
            and t not in self.results
            and t.shape == terms[0].shape
            and what(t) is not None
            for t in terms
        )

    def _gradient(self, term: Traced) -> tuple[Traced, Traced] | None:
        """Of a product A.T @ B of matrices with few rows, or of its transpose B.T @ A: A and B, or B and A."""
        step = self.step(term)
        if step is not None and _turns(step):
            inner = step.inputs[0]
            alone = len(self.readers[inner]) == 1 and inner not in self.results
            made = self.step(inner)
            pair = self._gradient(inner) if alone and made is not None and _product(made) else None
            return pair and pair[::-1]
        if step is None or not _product(step) or self.made[term] in self.instead:
            return None
        turned = self.step(step.inputs[0])
        if turned is None or not _turns(turned) or step.inputs[1].shape[0] > ROWS:
            return None
        return turned.inputs[0], step.inputs[1]

    def _column(self, term: Traced) -> Traced | None:
        """Of a sum of a matrix's rows: the matrix."""
        step = self.step(term)
        if (
            step is None
            or step.op.name != "sum"
            or step.params["axis"] != (-2,)
            or len(step.inputs[0].shape) != 2
        ):
            return None
        same = step.params.get("dtype", term.dtype) is step.inputs[0].dtype
        return step.inputs[0] if same and term.dtype in (float32, float64) else None

    def _ordered(self, terms: list[Traced]) -> list[int] | None:
        """The order of the terms in which their right matrices are an array, if there is one."""
        places = []
        for i, t in enumerate(terms):
            pair = self._gradient(t)
            found = self.source(pair[1]) if pair is not None else None
            if pair is None or found is None:
                return None
            places.append((found.first, pair[1].shape[0], found.of, i))
        places.sort(key=lambda place: place[0])
        return [i for *_, i in places] if _whole([p[:3] for p in places]) else None

    def _string(self, arrays: tuple[Traced, ...]) -> tuple[Traced, float]:
        """Matrices one below the other: the array that they are parts of, or a concatenation."""
        if arrays not in self.strung:
            rows, columns = sum(x.shape[0] for x in arrays), arrays[0].shape[1]
            sources = [self.source(x) for x in arrays]
            at = max(self.at(x) for x in arrays) + 0.001
            places = [
                (s.first, x.shape[0], s.of) for s, x in zip(sources, arrays, strict=True) if s is not None
            ]
            if len(places) == len(arrays) and _whole(places):
                made = self.add(at, "reshape", [places[0][2]], {"shape": (rows, columns)}, (rows, columns))
            else:
                made = self.add(at, "concat", list(arrays), {"axis": -2}, (rows, columns))
            self.strung[arrays] = made, at
        return self.strung[arrays]


def _turns(step: Step) -> bool:
    """Whether a step transposes a matrix."""
    return step.op.name == "permute_dims" and tuple(a % 2 for a in step.params["axes"]) == (1, 0)


def _product(step: Step) -> bool:
    """Whether a step is a product of two matrices."""
    arrays = step.arrays
    return (
        step.op.name == "matmul"
        and not step.params
        and all(len(x.shape) == 2 and 0 not in x.shape for x in arrays)
        and arrays[0].dtype in (float32, float64)
    )


def _whole(places: Sequence[tuple[int, int, Traced]]) -> bool:
    """Whether parts (first row, rows, array), in this order, are all of one array."""
    of, next_row = places[0][2], 0
    for first, count, array in places:
        if array is not of or first != next_row:
            return False
        next_row += count
    return next_row == math.prod(of.shape[:-1])
