"""Gradients through a compiled function: its results carry a node whose derivative is a program as well.

The walk back over the tape that the trace left is recorded along with it, and the steps divided: those that the
results need make the forward program, the others the backward one, which is given the arrays that it needs of the
first and the cotangents. A derivative that is to be differentiated again is taken of the function itself, run again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..autograd import enable_grad
from ..capture import released
from ..errors import GradientError
from ..registry import deactivated
from ..rules import Spec
from ..tape import Node, _Pseudo, full_like, pick
from ..tensor import Tensor, wrap
from ..tree import flatten
from ..walk import walk
from .graph import Graph, Traced
from .simplify import alive, simplified
from .trace import Slot, Tracer


class Link:
    """The derivative of a program. ``slots``: the inputs that it is taken with respect to; ``outputs``: the results that
    have one; ``cotangents`` and ``grads``: their arrays in the backward graph.
    """

    def __init__(
        self,
        slots: list[Slot],
        outputs: list[Traced],
        cotangents: list[Traced],
        grads: list[Traced | None],
        forward: int,
    ) -> None:
        self.slots, self.outputs, self.cotangents, self.grads, self.forward = (
            slots,
            outputs,
            cotangents,
            grads,
            forward,
        )
        self.graph: Graph
        self.places: list[int] = []
        self.saved: list[int] = []
        self.run: Callable[..., Any]
        self.fn: Callable[..., Any]
        self.pure = True
        self.backend: Any
        self.how = ""
        self.order: list[Traced] = []
        self.op = _Pseudo("compiled", self._pullback)

    def split(self, outputs: list[Traced], tracer: Tracer, name: str) -> None:
        """Divide the steps; the arrays that the backward graph needs are added to the forward graph's outputs."""
        wanted = [g for g in self.grads if g is not None]
        later = tracer.steps[self.forward :]
        backward = alive(later, wanted)
        constants = {x for x in tracer.inputs if x.name in tracer.constants}
        made = {y for s in later for y in s.outputs} | set(self.cotangents)
        crossing = [
            x
            for x in dict.fromkeys([*(y for s in later for y in s.arrays), *wanted])
            if x in backward and x not in made
        ]
        residuals = [x for x in crossing if x not in constants]
        self.places = [outputs.index(y) for y in self.outputs]
        for x in residuals:
            if x not in outputs:
                outputs.append(x)
        self.saved = [outputs.index(x) for x in residuals]
        # the forward graph is simplified on its own, and its arrays renamed: the backward one gets its own copies
        fresh = {x: Traced(x.shape, x.dtype, f"r{i}") for i, x in enumerate(crossing)}
        swap = lambda x: fresh.get(x, x) if isinstance(x, Traced) else x
        for s in later:
            s.inputs = [swap(x) for x in s.inputs]
        held = {fresh[x].name: tracer.constants[x.name] for x in crossing if x in constants}
        inputs = [
            *(fresh[x] for x in residuals),
            *self.cotangents,
            *(fresh[x] for x in crossing if x in constants),
        ]
        self.graph = simplified(
            Graph(
                inputs,
                later,
                [swap(g) for g in self.grads],
                several=True,
                constants=held,
                name=f"{name}_backward",
            ),
            tracer.base,
        )
        self.order = [*(fresh[x] for x in residuals), *self.cotangents]
        tracer.steps = tracer.steps[: self.forward]
        self.pure, self.backend = not tracer.changed, tracer.base

    def attach(
        self, arrays: Sequence[Any], parents: tuple[Any, ...], given: tuple[Any, ...], args: Any, kwargs: Any
    ) -> list[Node]:
        """The nodes of the tracked results of one call."""
        kept = tuple(arrays[i] for i in self.saved)
        results = [arrays[i] for i in self.places]
        node = Node(
            self.op, self.backend, parents, kept, (args, kwargs, given), None,
            tuple(r.shape for r in results), tuple(r.dtype for r in results),
        )  # fmt: skip
        return [pick(node, r, i) for i, r in enumerate(results)]

    def _pullback(self, node: Node, g: Any, record: bool) -> list[Any]:
        backend = node.backend
        gs = list(g) if isinstance(g, tuple) else [g]
        if record or any(c._backend is not backend for c in gs):
            return self._again(node, gs, record)
        arrays = dict(zip(self.order, [*node.saved, *(c._data for c in gs)], strict=True))
        held = self.graph.constants
        found = self.run(*[arrays[x] if x in arrays else held[x.name] for x in self.graph.inputs])
        return [None if f is None else wrap(f, backend) for f in found]

    def _again(self, node: Node, gs: list[Any], record: bool) -> list[Any]:
        """The derivative of the function itself, recorded: for one that is to be differentiated again."""
        args, kwargs, given = node.params
        if not self.pure or any(
            s.position is None and s.tensor._data is not a for s, a in zip(self.slots, given, strict=True)
        ):
            raise GradientError(
                "the second derivative of a compiled function runs it again, and it changes tensors, or its parameters have changed "
                "since: differentiate the function that is not compiled, or compile the derivative"
            )
        with enable_grad():
            result = self.fn(*args, **kwargs)
        leaves = [y for y in flatten(result)[0] if isinstance(y, Tensor) and y._node is not None]
        roots = [(y._node, g) for y, g in zip(leaves, gs, strict=True)]
        return list(walk(roots, targets=list(node.parents), record=record))


def differentiated(tracer: Tracer, tracked: list[tuple[Tensor, int]]) -> Link | None:
    """Record the walk back from the results that have a derivative; None if there are none."""
    slots = [s for s in tracer.slots.values() if s.node is not None]
    if not tracked or not slots:
        return None
    forward = len(tracer.steps)
    outputs = [y._data for y, _ in tracked]
    cotangents = [tracer.new(y.shape, y.dtype, "g") for y in outputs]
    with released(), deactivated():
        tracer.examples = {g: full_like(Spec(g.shape, g.dtype), tracer.base, 1)._data for g in cotangents}
    roots = [(y._node, wrap(g, tracer)) for (y, _), g in zip(tracked, cotangents, strict=True)]
    found = walk(roots, targets=[s.node for s in slots])
    pairs = [(s, None if f is None else _array(f, tracer)) for s, f in zip(slots, found, strict=True)]
    pairs = [(s, f) for s, f in pairs if f is not None]
    if not pairs:
        return None
    return Link([s for s, _ in pairs], outputs, cotangents, [f for _, f in pairs], forward)


def _array(g: Tensor, tracer: Tracer) -> Traced:
    lifted = g if g._backend is tracer else tracer.lift(g)
    found: Traced = lifted._data
    return found


__all__ = ["Link", "differentiated"]
