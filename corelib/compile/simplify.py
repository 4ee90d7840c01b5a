"""Simplification: steps that compute nothing new are taken out. No result changes by a bit.

What is exact for every value: ``x * 1``, ``x / 1``, ``x - 0``, ``x + -0.0`` (``x + 0.0`` is not: of -0.0 it is 0.0; of
an integer it is), ``--x``, a reshape, permutation, broadcast, cast or region that gives what it got, two of the former in a
row that are one, a region of a padded array that has nothing of the padding, and a cast there and back through a dtype
that holds every value. ``x * 0`` stays: of infinity and NaN it is NaN. A step whose operands are all scalars known now is computed now, by the kernel that would compute it then.
A step that nobody reads is dropped unless its kernel may raise an error, or is the user's own function.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from ..backend import Backend
from ..dtypes import DType
from ..op import BY_NAME
from ..registry import registry
from ..replay import own
from .graph import Graph, Step, Traced

FOLDED = 1  # elements of what is computed ahead; more would be memory instead of time


def simplified(graph: Graph, backend: Backend) -> Graph:
    """An equal graph without the steps that are not needed. The graph's own steps and arrays are taken over."""
    made: dict[Traced, Step] = {}
    instead: dict[Traced, Traced] = {}
    scalars = {
        x: graph.constants[x.name]
        for x in graph.inputs
        if x.name in graph.constants and math.prod(x.shape) <= FOLDED
    }
    steps, inputs, constants = [], list(graph.inputs), dict(graph.constants)
    for step in graph.steps:
        step.inputs = [instead.get(x, x) if isinstance(x, Traced) else x for x in step.inputs]
        _merged(step, made, backend)
        _cropped(step, made)
        same = _itself(step, made)
        if same is not None:
            instead[step.outputs[0]] = same
            continue
        if _known(step, scalars):
            (y,) = step.outputs
            given = [scalars[x] if isinstance(x, Traced) else x for x in step.inputs]
            try:
                scalars[y] = constants[y.name] = step.kernel(*given, **step.params)
                inputs.append(y)
                continue
            except Exception:  # which is raised when the program runs
                pass
        steps.append(step)
        for y in step.outputs:
            made[y] = step
    results = [None if r is None else instead.get(r, r) for r in graph.results]
    steps = _assembled(steps, results, backend)
    needed = alive(steps, [r for r in results if r is not None])
    kept = [s for s in steps if wanted(s, needed)]
    found = Graph(
        [x for x in inputs if x in needed],
        kept,
        results,
        several=graph.several,
        donated=graph.donated,
        name=graph.name,
    )
    _number(found, graph.labels, constants)
    return found


def alive(steps: Sequence[Step], results: Sequence[Traced]) -> set[Traced]:
    """All arrays that the results depend on, and they themselves."""
    needed = set(results)
    for step in reversed(steps):
        if wanted(step, needed):
            needed.update(step.arrays)
    return needed


def exposed(graph: Graph) -> set[Traced]:
    """The inputs of which a result may be a view, or is one of."""
    roots: dict[Traced, set[Traced]] = {x: {x} for x in graph.inputs}
    for step in graph.steps:
        found = set() if fresh(step) else set().union(*(roots.get(x, set()) for x in step.arrays))
        for y in step.outputs:
            roots[y] = found
    return set().union(*(roots.get(r, set()) for r in graph.results if r is not None))


def fresh(step: Step) -> bool:
    """Whether a step's results are certainly memory of their own, whatever its kernel does to save a copy."""
    op = step.op
    if op.donates or op.kind in ("contract", "random", "creation") or own(step.kernel, "into") is not None:
        return True
    return op.kind == "reduce" and all(
        y.shape != x.shape and math.prod(y.shape) < math.prod(x.shape)
        for y in step.outputs
        for x in step.arrays
    )


def overwriting(graph: Graph) -> Graph:
    """The graph with ``overwrite=True`` in each step whose kernel may write over operands that nobody reads any more:
    donated inputs, neither they nor views of them read later.
    """
    views: dict[Traced, set[Traced]] = {x: {x} for x in graph.donated}
    last: dict[Traced, int] = {}
    for number, step in enumerate(graph.steps):
        for x in step.arrays:
            last[x] = number
            if not fresh(step):
                for seen in views.values():
                    if x in seen:
                        seen.update(step.outputs)
    steps = []
    for number, step in enumerate(graph.steps):
        given = [step.inputs[p] for p in step.op.donates if p < len(step.inputs)]
        arrays = [x for x in given if isinstance(x, Traced)]
        alone = all(
            x in views and step.inputs.count(x) == 1 and max(last.get(v, 0) for v in views[x]) <= number
            for x in arrays
        )
        if arrays and alone and "overwrite" in step.params:
            step = Step(
                step.op,
                step.kernel,
                step.inputs,
                {**step.params, "overwrite": True},
                step.outputs,
                step.several,
            )
        steps.append(step)
    return Graph(
        graph.inputs, steps, graph.results, several=graph.several, donated=graph.donated, constants=graph.constants,
        labels=graph.labels, name=graph.name,
    )  # fmt: skip


def wanted(step: Step, needed: set[Traced]) -> bool:
    """Whether a step is run for its results, or because it may refuse an index or a matrix, or is the user's own."""
    op = step.op
    return (
        any(y in needed for y in step.outputs)
        or op.kind == "index"
        or op.group == "linalg"
        or hasattr(op, "impure")
    )


def _number(graph: Graph, labels: Any, constants: dict[str, Any]) -> None:
    """Names in order, so that equal programs read equal."""
    before = {x: x.name for x in graph.inputs}
    for i, x in enumerate(graph.inputs):
        x.name = f"x{i}"
    for i, y in enumerate(y for s in graph.steps for y in s.outputs):
        y.name = f"t{i}"
    graph.labels = {x.name: labels[old] for x, old in before.items() if old in labels}
    graph.constants = {x.name: constants[old] for x, old in before.items() if old in constants}


def _known(step: Step, scalars: dict[Traced, Any]) -> bool:
    """Whether a step's result is one element that can be computed now."""
    return (
        not step.several
        and math.prod(step.outputs[0].shape) <= FOLDED
        and step.op.kind in ("elementwise", "creation", "movement", "reduce")
        and all(x in scalars for x in step.arrays)
    )


# -- pieces that are put together -----------------------------------------------------------------------------


class _Pieces:
    """A sum of arrays that were padded with zeros along one axis, no two at the same place: (start, array) each."""

    def __init__(self, axis: int, parts: list[tuple[int, Traced]]) -> None:
        self.axis, self.parts = axis, sorted(parts, key=lambda part: part[0])

    def disjoint(self) -> bool:
        """Whether no piece reaches into the next."""
        ends = [start + x.shape[self.axis] for start, x in self.parts]
        return all(end <= start for end, (start, _) in zip(ends, self.parts[1:], strict=False))

    def whole(self, size: int) -> bool:
        """Whether they leave nothing out."""
        return self.disjoint() and sum(x.shape[self.axis] for _, x in self.parts) == size


def _assembled(steps: list[Step], results: Sequence[Traced | None], backend: Backend) -> list[Step]:
    """Sums of padded pieces that make a whole, as the walk back through slices gives them, as one concatenation.

    A piece x is in the sum x + 0.0, however many zeros were added to it: that addition stays, for the sake of -0.0.
    """
    readers: dict[Traced, int] = {}
    for x in [*(x for s in steps for x in s.arrays), *(r for r in results if r is not None)]:
        readers[x] = readers.get(x, 0) + 1
    pieces: dict[Traced, _Pieces] = {}
    found = []
    for step in steps:
        y = step.outputs[0]
        if (
            step.op.name == "pad"
            and y.dtype.kind in ("float", "int", "uint")
            and _is(step.params["constant_value"], 0.0)
        ):
            padded = [a for a, widths in enumerate(step.params["pad_width"]) if any(widths)]
            if len(padded) == 1:
                (axis,) = padded
                pieces[y] = _Pieces(
                    axis - len(y.shape), [(step.params["pad_width"][axis][0], step.inputs[0])]
                )
        elif (
            step.op.name == "add"
            and all(x in pieces and readers[x] == 1 for x in step.inputs)
            and len(step.arrays) == 2
        ):
            a, b = (pieces[x] for x in step.inputs)
            both = _Pieces(a.axis, a.parts + b.parts)
            if a.axis == b.axis and both.disjoint():
                pieces[y] = both
                if both.whole(y.shape[both.axis]):
                    found += _joined(step, both, backend)
                    continue
        found.append(step)
    return found


def _joined(step: Step, pieces: _Pieces, backend: Backend) -> list[Step]:
    """The steps that take the place of the last addition."""
    (y,), steps, parts = step.outputs, list[Step](), []
    for _, x in pieces.parts:
        part = x if y.dtype.kind != "float" else Traced(x.shape, x.dtype, y.name)
        if part is not x:
            steps.append(Step(step.op, step.kernel, [x, 0.0], {}, [part], False))
        parts.append(part)
    concat = BY_NAME["concat"]
    kernel = registry.bind(concat, y.dtype, backend)
    return [*steps, Step(concat, kernel, parts, {"axis": pieces.axis}, [y], False)]


# -- identities ----------------------------------------------------------------------------------------------

_ONE: dict[str, tuple[int, ...]] = {"multiply": (0, 1), "divide": (1,)}
_TWICE = ("reshape", "permute_dims", "broadcast_to", "astype")


def _merged(step: Step, made: dict[Traced, Step], backend: Backend) -> None:
    """Let a step read what the step before it of the same op read, where both are one."""
    name = step.op.name
    if name not in _TWICE or not isinstance(step.inputs[0], Traced):
        return
    before = made.get(step.inputs[0])
    if before is None or before.op is not step.op:
        return
    source, middle = before.inputs[0], before.outputs[0]
    if name == "permute_dims":
        first, second, n = before.params["axes"], step.params["axes"], len(source.shape)
        step.params = {**step.params, "axes": tuple(first[a % n] for a in second)}
    elif name == "astype":
        kinds = {source.dtype.kind, middle.dtype.kind}
        back = step.outputs[0].dtype is source.dtype
        # an integer beyond the result's range wraps, a float does not: through another kind only there and back
        if not _holds(middle.dtype, source.dtype) or not (
            back or kinds <= {"int", "uint"} or kinds == {"float"}
        ):
            return
        step.kernel = registry.bind(step.op, source.dtype, backend)
    step.inputs = [source, *step.inputs[1:]]


def _cropped(step: Step, made: dict[Traced, Step]) -> None:
    """Let a region of a padded array that has nothing of the padding be a region of what was padded."""
    before = made.get(step.inputs[0]) if step.op.name == "strided_slice" else None
    if before is None or before.op.name != "pad":
        return
    x, start = before.inputs[0], []
    axes = zip(
        x.shape, before.params["pad_width"], *(step.params[k] for k in ("start", "size", "step")), strict=True
    )
    for length, (low, _), first, size, stride in axes:
        last = first + (size - 1) * stride
        if not (size and low <= min(first, last) and max(first, last) < low + length):
            return
        start.append(first - low)
    step.inputs, step.params = [x], {**step.params, "start": tuple(start)}


def _itself(step: Step, made: dict[Traced, Step]) -> Traced | None:
    """The operand that a step gives back unchanged, or None."""
    if step.several or len(step.inputs) == 0:
        return None
    (y,), x, name = step.outputs, step.inputs[0], step.op.name
    if name == "negative" and isinstance(x, Traced):
        before = made.get(x)
        return (
            before.inputs[0]
            if before is not None and before.op is step.op and isinstance(before.inputs[0], Traced)
            else None
        )
    rule = _RULES.get(name)
    found = rule(step, y) if rule is not None else None
    return found if found is not None and (found.shape, found.dtype) == (y.shape, y.dtype) else None


def _unchanged(step: Step, y: Traced) -> Traced | None:
    x = step.inputs[0]
    return x if isinstance(x, Traced) else None


def _permuted(step: Step, y: Traced) -> Traced | None:
    n = len(y.shape)
    return step.inputs[0] if tuple(a % n for a in step.params["axes"]) == tuple(range(n)) else None


def _region(step: Step, y: Traced) -> Traced | None:
    whole = all(n == 1 for n in step.params["step"]) and not any(step.params["start"])
    return step.inputs[0] if whole else None


def _by_one(step: Step, y: Traced) -> Traced | None:
    for place in _ONE[step.op.name]:
        if _is(step.inputs[place], 1.0) and isinstance(step.inputs[1 - place], Traced):
            return step.inputs[1 - place]
    return None


def _plus_zero(step: Step, y: Traced) -> Traced | None:
    for place in (0, 1):
        zero = -0.0 if y.dtype.kind == "float" else 0
        if (
            y.dtype.kind in ("float", "int", "uint")
            and _is(step.inputs[place], zero)
            and isinstance(step.inputs[1 - place], Traced)
        ):
            return step.inputs[1 - place]
    return None


def _minus_zero(step: Step, y: Traced) -> Traced | None:
    x, zero = step.inputs
    exact = y.dtype.kind in ("float", "int", "uint")
    return x if exact and _is(zero, 0.0) and isinstance(x, Traced) else None


def _is(x: Any, value: float) -> bool:
    """Whether a step's input is this Python number, the sign of zero included."""
    return x.__class__ in (int, float) and x == value and math.copysign(1.0, x) == math.copysign(1.0, value)


def _holds(wide: DType, narrow: DType) -> bool:
    """Whether every value of ``narrow`` is one of ``wide``."""
    if wide is narrow or narrow.kind == "bool" and wide.kind in ("int", "uint", "float"):
        return True
    if narrow.kind in ("int", "uint") and wide.kind in ("int", "uint"):
        return bool(wide.min <= narrow.min and narrow.max <= wide.max)
    if narrow.kind in ("int", "uint") and wide.kind == "float":
        return bool(narrow.max <= 2**wide.digits)
    if narrow.kind == wide.kind == "float":
        return wide.bits > narrow.bits
    return False


_RULES: dict[str, Callable[[Step, Traced], Traced | None]] = {
    "reshape": _unchanged,
    "broadcast_to": _unchanged,
    "astype": _unchanged,
    "positive": _unchanged,
    "permute_dims": _permuted,
    "strided_slice": _region,
    "multiply": _by_one,
    "divide": _by_one,
    "add": _plus_zero,
    "subtract": _minus_zero,
}
