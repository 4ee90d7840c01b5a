"""``export``: a module as an ONNX model. The module runs once, watched; every op that it calls becomes nodes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

import corelib as cl
from corelib.errors import ArgumentError, ShapeError, UnsupportedError

from .rules import FLEXIBLE, RULES
from .values import HOST, NUMBERS, proto_of

OPSET = 20


def export(
    module: Any,
    example: Any,
    path: str | os.PathLike[str] | None = None,
    *,
    inputs: Sequence[str] | None = None,
    outputs: Sequence[str] | None = None,
    batch: str | None = None,
) -> onnx.ModelProto:
    """A module (or function) as an ONNX model of opset 20, written to ``path`` if given.

    ``example``: a tensor, or a tuple of the arguments, whose shapes and dtypes the model gets. ``batch``: a name for
    axis 0 of all inputs, which may then have any length: the module is run a second time with twice the length to see
    that nothing else depends on it. ``inputs`` and ``outputs``: names; ``x0``, ``x1``, ... and ``y0``, ... unless given.
    Parameters and buffers are initializers under their names in ``state_dict``. The module is run in evaluation mode and
    is left as it was.

    Raises UnsupportedError with the names of all ops that have no ONNX form, ArgumentError when the module reads values
    or draws random numbers, of which a model would hold those of the example, and ShapeError when ``batch`` is asked for
    and something depends on its length in a way that cannot be written.

    Example::

        model = corelib_onnx.export(module, corelib.ones((1, 3, 32, 32)), "model.onnx", batch="n")
    """
    args = example if isinstance(example, tuple) else (example,)
    if not args or not all(isinstance(x, cl.Tensor) for x in args):
        raise ArgumentError("export: example must be a tensor or a tuple of tensors, the module's arguments")
    if batch is not None and any(x.ndim == 0 for x in args):
        raise ShapeError("export: with batch, every input needs an axis 0")
    args = tuple(cl.asarray(x.detach(), copy=True) for x in args)  # two arguments may be one tensor
    with _evaluating(module), cl.no_grad():
        seen = _watched(module, args)
        twin = None if batch is None else _watched(module, tuple(cl.concat([x, x], axis=0) for x in args))
        writer = Writer()
        starts = writer.inputs(seen, inputs, batch)
        names = writer.named("outputs", outputs, "y", len(_tensors(seen.result)))
        writer.write(seen, twin)
        ends = writer.outputs(seen, twin, names, batch)
    if writer.lacking:
        raise UnsupportedError(
            f"export: these ops have no ONNX form here: {', '.join(sorted(writer.lacking))}"
        )
    title = type(module).__name__
    graph = helper.make_graph(writer.nodes, title, starts, ends, list(writer.initializers.values()))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="corelib")
    model.ir_version = helper.find_min_ir_version_for(list(model.opset_import))
    onnx.checker.check_model(model, full_check=True)
    if path is not None:
        onnx.save(model, os.fspath(path))
    return model


def _watched(module: Any, args: tuple[Any, ...]) -> Any:
    """A run of the module; ArgumentError if its program depends on values."""
    before = _random_state()
    seen = cl.watch(module, *args)
    if _random_state() != before:
        raise ArgumentError("export: the module draws random numbers: the model would always have these")
    varying = {id(e) for e in seen.events if e.kind == "input"}
    for event in seen.events:
        if any(id(o) in varying for o in event.operands):
            varying.add(id(event))
    for event in seen.read:
        if id(event) in varying:
            raise ArgumentError(
                f"export: the module reads the values of {event.name}, of which the model would hold those of the "
                "example: compute with where() instead"
            )
    return seen


def _random_state() -> list[Any]:
    return [x.tolist() for x in cl.random.get_state().values()]


@contextmanager
def _evaluating(module: Any) -> Iterator[None]:
    """In evaluation mode, and afterwards each module in its own again."""
    modes = [(m, m.training) for m in module.modules()] if hasattr(module, "modules") else []
    try:
        for m, _ in modes:
            object.__setattr__(m, "training", False)
        yield
    finally:
        for m, mode in modes:
            object.__setattr__(m, "training", mode)


class Writer:
    """Makes nodes of the ops of a run; ``twin`` is the same run with a batch of twice the length, or None."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, onnx.TensorProto] = {}
        self.lacking: set[str] = set()
        self.taken: set[str] = set()
        self.names: dict[int, str] = {}  # by the identity of a tensor, which its run keeps alive
        self.runs: list[Any] = []

    def inputs(self, seen: Any, names: Any, batch: str | None) -> list[onnx.ValueInfoProto]:
        """What the graph is called with."""
        given = [e.results[0] for e in seen.events if e.kind == "input"]
        names = self.named("inputs", names, "x", len(given))
        self.names.update(zip(map(id, given), names, strict=True))
        self.batch, self.length = names[0], given[0].shape[0] if given[0].ndim else 1
        return [_info(name, x, batch) for name, x in zip(names, given, strict=True)]

    def outputs(self, seen: Any, twin: Any, names: list[str], batch: str | None) -> list[onnx.ValueInfoProto]:
        """What the graph returns: a node each, since an input or a parameter may be a result."""
        found, longer = _tensors(seen.result), None if twin is None else _tensors(twin.result)
        infos = []
        for i, (name, x) in enumerate(zip(names, found, strict=True)):
            self.nodes.append(helper.make_node("Identity", [self.name(x)], [name]))
            infos.append(_info(name, x, batch if longer is not None and longer[i].shape != x.shape else None))
        return infos

    def named(self, what: str, names: Any, letter: str, count: int) -> list[str]:
        names = [f"{letter}{i}" for i in range(count)] if names is None else list(names)
        if len(names) != count or len({*names, *self.taken}) != count + len(self.taken):
            raise ArgumentError(f"export: {what} must be {count} new names, each another, got {names}")
        self.taken.update(names)
        return names

    def write(self, seen: Any, twin: Any) -> None:
        """The nodes of a run: of each op by its rule, or if it is a composite without one, of its body's."""
        self.runs.append(seen)  # keeps its tensors alive, and so their identities apart
        pairs = (
            [(e, None) for e in seen.events]
            if twin is None
            else list(zip(seen.events, twin.events, strict=False))
        )
        if twin is not None and [e.name for e in seen.events] != [e.name for e in twin.events]:
            raise ShapeError("export: the module calls other ops when axis 0 of its inputs is twice as long")
        for event, other in pairs:
            if event.kind != "input" and not any(isinstance(x, cl.Tensor) for x in event.arguments):
                self._constant_of(event, other)
            elif event.kind == "op":
                self._write_op(event, other)

    def _constant_of(self, event: Any, other: Any) -> None:
        (x,) = event.results
        if id(x) in self.names:
            return
        if other is not None and not _equal(x, other.results[0]):
            filled = self._filled(x, other.results[0])
            if filled is not None:
                self.names[id(x)] = filled
                return
            raise ShapeError(
                f"export: a constant of shape {x.shape} depends on the length of axis 0 of the inputs: take it from the data"
            )
        if event.kind == "op" or event.name == "constant":  # of the program, not of the module
            self.names[id(x)] = self._stored(x)
            return
        name = self.names[id(x)] = self._fresh(event.name)
        self.initializers[name] = proto_of(x, name)

    def _filled(self, x: Any, y: Any) -> str | None:
        """A constant of one value, such as a first state, whose axes are as long as the batch; None if it is no such one."""
        values, n = np.unique(np.concatenate([t.detach().numpy().reshape(-1) for t in (x, y)])), self.length
        alike = x.ndim == y.ndim and all(
            a == b or (a, b) == (n, 2 * n) for a, b in zip(x.shape, y.shape, strict=True)
        )
        if not alike or values.size != 1:
            return None
        batch = self.node("Shape", [self.batch], start=0, end=1)
        parts = [
            batch if a != b else self.constant([a], "int64") for a, b in zip(x.shape, y.shape, strict=True)
        ]
        value = numpy_helper.from_array(values.astype(x.dtype.name))
        return self.node("ConstantOfShape", [self.node("Concat", parts, axis=0)], value=value)

    def _stored(self, x: Any) -> str:
        """A node that gives a constant."""
        name = self._fresh("constant")
        self.nodes.append(helper.make_node("Constant", [], [name], value=proto_of(x, name)))
        return name

    def _write_op(self, event: Any, other: Any) -> None:
        if other is not None and event.name not in FLEXIBLE:
            numbers = [[a for a in e.arguments if not isinstance(a, cl.Tensor)] for e in (event, other)]
            if event.params != other.params or numbers[0] != numbers[1]:
                raise ShapeError(
                    f"export: {event.name} depends on the length of axis 0 of the inputs: {event.params}"
                )
        rule = RULES.get(event.name)
        if rule is not None:
            found = rule(self, event, other)
            for x, name in zip(event.results, [found] if isinstance(found, str) else found, strict=True):
                self.names[id(x)] = name
            return
        op = getattr(cl.ops, event.name).op
        if op.body is None:
            self.lacking.add(event.name)
            self.names.update((id(x), "") for x in event.results)
            return
        inner, longer = (None if e is None else _body(op, e) for e in (event, other))
        self.write(inner, longer)
        for x, y in zip(event.results, _tensors(inner.result), strict=True):
            self.names[id(x)] = self.name(y)

    # -- what rules use --------------------------------------------------------------------------------------

    def name(self, x: Any, like: Any = None) -> str:
        """The name of an operand; a Python number is a constant of the dtype of ``like``, None is left out."""
        if x is None:
            return ""
        return self.names[id(x)] if isinstance(x, cl.Tensor) else self.constant(x, like.dtype.name)

    def constant(self, value: Any, dtype: str) -> str:
        """The name of a constant."""
        return self._stored(cl.asarray(value, dtype=dtype, device=HOST))

    def node(self, kind: str, inputs: Sequence[str], outputs: int = 1, **attributes: Any) -> Any:
        """A node; returns the name of its output, or of each if there are several."""
        names = [self._fresh(kind.lower()) for _ in range(outputs)]
        inputs = list(inputs)
        while inputs and not inputs[-1]:
            inputs.pop()
        self.nodes.append(helper.make_node(kind, inputs, names, **attributes))
        return names[0] if outputs == 1 else names

    def _fresh(self, name: str) -> str:
        """The name, with a number behind it if it is taken."""
        found, number = name, 0
        while found in self.taken or found in self.initializers:
            number += 1
            found = f"{name}_{number}"
        self.taken.add(found)
        return found


def _body(op: Any, event: Any) -> Any:
    """The run of a composite's body on the operands that it had."""
    watched = [x for x in event.arguments if isinstance(x, cl.Tensor)]

    def run(*tensors: Any) -> Any:
        given = iter(tensors)
        operands = [next(given) if isinstance(x, cl.Tensor) else x for x in event.arguments]
        return op.body(*op.regroup(operands), **event.params)

    return cl.watch(run, *watched)


def _tensors(tree: Any) -> list[Any]:
    """The tensors in a result, in order."""
    if isinstance(tree, dict):
        tree = list(tree.values())
    if isinstance(tree, list | tuple):
        return [x for item in tree for x in _tensors(item)]
    return [tree] if isinstance(tree, cl.Tensor) else []


def _info(name: str, x: Any, batch: str | None) -> onnx.ValueInfoProto:
    shape = list(x.shape) if batch is None else [batch, *x.shape[1:]]
    return helper.make_tensor_value_info(name, NUMBERS[x.dtype.name], shape)


def _equal(x: Any, y: Any) -> bool:
    return x is y or (
        x.shape == y.shape and np.array_equal(x.detach().numpy(), y.detach().numpy(), equal_nan=True)
    )
