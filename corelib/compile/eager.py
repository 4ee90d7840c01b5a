"""Functions that a compiled one calls as they are: ``@corelib.compile.eager``.

In a trace such a call is one step, whose kernel is the function itself. Its results' shapes cannot be known without
running it, so it runs once while the program is recorded, on values that the steps before it give for the arguments of
that call; the first run of the program then takes what it gave. It divides a program in two segments.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from ..autograd import no_grad, vjp
from ..capture import captured, released, tracer
from ..dtypes import as_dtype
from ..errors import ShapeError, TraceError
from ..registry import deactivated
from ..replay import replayer
from ..tape import Node, _Pseudo, paused, pick
from ..tensor import Tensor, wrap
from ..tree import flatten
from .graph import Graph, Step, Traced
from .trace import Tracer, place


class Uncompiled:
    """Stands for an op in a step that is a call of a function: what a graph's readers ask of one."""

    kind, primitive, donates, group, impure, data_dependent = "opaque", True, (), "", True, False

    def __init__(self, name: str) -> None:
        self.name = name


def eager(fn: Callable[..., Any]) -> Callable[..., Any]:
    """See :func:`corelib.compile.eager`."""

    @functools.wraps(fn)
    def call(*args: Any, **kwargs: Any) -> Any:
        found = tracer()
        return fn(*args, **kwargs) if found is None else _recorded(found, fn, args, kwargs)

    return call


def _recorded(found: Tracer, fn: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """The call as one step of the program that is being recorded."""
    name = getattr(fn, "__name__", "function")
    leaves, build = flatten((args, kwargs))
    places = [i for i, x in enumerate(leaves) if isinstance(x, Tensor)]
    operands = [captured(leaves[i]) for i in places]

    def on(tensors: Sequence[Tensor]) -> Any:
        filled = list(leaves)
        for i, t in zip(places, tensors, strict=True):
            filled[i] = t
        given, named = build(filled)
        return fn(*given, **named)

    arrays = [x._data for x in operands]
    base = found.base
    state = [(t, t._data) for t in found.reached()]
    with released(), deactivated(), no_grad():
        result = on([wrap(a, base) for a in evaluated(found, arrays)])
    results, rebuild = flatten(result)
    for x in results:
        if not isinstance(x, Tensor) or x._backend is not base:
            raise TraceError(
                f"{place()}: {name} is called uncompiled and gives {x!r}: it must give tensors on {base.device!r}, since its result "
                "differs from call to call"
            )
    for t, before in state:
        if t._data is not before:
            raise TraceError(
                f"{place()}: {name} is called uncompiled and assigns to a tensor: return the new value instead"
            )
    outputs = [found.new(x._data.shape, x._data.dtype) for x in results]
    results_of = [x._data for x in results]
    first, exact = [True], not found.examples  # what was computed from examples is of no use

    def kernel(*given: Any) -> tuple[Any, ...]:
        if found.open:  # a later uncompiled call is being recorded
            return tuple(results_of)
        if first and first.pop() and exact:
            kept = tuple(results_of)
            results_of.clear()
            return kept
        with no_grad():
            made = flatten(on([wrap(a, base) for a in given]))[0]
        kinds = [(tuple(x._data.shape), as_dtype(x._data.dtype)) for x in made]
        if kinds != [(y.shape, y.dtype) for y in outputs]:
            raise ShapeError(
                f"{name} gave {kinds} in a compiled program, and {outputs} when that was recorded"
            )
        return tuple(x._data for x in made)

    found.steps.append(Step(Uncompiled(name), kernel, arrays, {}, outputs, True))  # type: ignore[arg-type]
    made = [wrap(y, found) for y in outputs]
    if paused.get() is None and any(x._node is not None for x in operands):
        _differentiable(on, operands, made)
    return rebuild(made)


def _differentiable(on: Callable[..., Any], operands: list[Tensor], made: list[Tensor]) -> None:
    """Put the call onto the tape: its derivative is a call that is not compiled either."""
    wanted = [i for i, x in enumerate(operands) if x._node is not None]
    floating = [i for i, y in enumerate(made) if y.dtype.kind in ("float", "complex")]
    if not floating:
        return

    def derivative(inputs: list[Tensor], gs: list[Tensor]) -> Any:
        def of(*some: Tensor) -> list[Tensor]:
            filled = list(inputs)
            for i, t in zip(wanted, some, strict=True):
                filled[i] = t
            results = flatten(on(filled))[0]
            return [results[i] for i in floating]

        return vjp(of, *[inputs[i] for i in wanted])[1](gs)

    again = eager(derivative)

    def pullback(node: Node, g: Any, record: bool) -> list[Any]:
        inputs = operands if record else [wrap(x._data, x._backend) for x in operands]
        found: list[Any] = [None] * len(operands)
        for i, d in zip(wanted, again(inputs, list(g)), strict=True):
            found[i] = d
        return found

    node = Node(
        _Pseudo("eager", pullback), operands[0]._backend, tuple(x._node for x in operands), (), {}, None,
        tuple(made[i]._data.shape for i in floating), tuple(made[i]._data.dtype for i in floating),
    )  # fmt: skip
    for k, i in enumerate(floating):
        made[i]._node = pick(node, made[i]._data, k)


def evaluated(found: Tracer, arrays: Sequence[Traced]) -> Sequence[Any]:
    """What arrays of a program that is being recorded are in the call that it is recorded from."""
    values = {s.traced: s.array for s in found.slots.values()} | found.examples
    values |= {x: found.constants[x.name] for x in found.inputs if x.name in found.constants}
    graph = Graph(list(values), found.steps, arrays, several=True)
    result: Sequence[Any] = replayer(graph)(*values.values())
    return result


__all__ = ["Uncompiled", "eager"]
