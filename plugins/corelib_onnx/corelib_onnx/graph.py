"""A graph of ONNX as a program: its nodes bound to their functions when it is loaded, and how one call runs.

A node runs where its operands are. Small integers (what Shape gives, constants that are shapes or axes, and what is
computed from them alone) live on the backend ``reference``, so that no device is asked for them and a recorder sees
constants; where they meet a tensor of another device, they go to it. What has been computed there is kept: with the same
shapes, a model computes nothing of it again.
"""

from __future__ import annotations

import contextvars
import functools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import onnx
from onnx import AttributeProto

import corelib as cl
from corelib.errors import ArgumentError, CorelibError

from .table import DOMAINS, VALUES, Operator, find
from .values import HOST, SMALL, constant_of, dtype_of, is_program, is_small, read, tensor_of

SIZES = ("Shape", "Size")  # whose results say how large an operand is, not what is in it
NOT_REPEATABLE = (
    "If",
    "Loop",
    "Scan",
    "SequenceMap",
    "Bernoulli",
    "Dropout",
    "RandomNormalLike",
    "RandomUniformLike",
)
KEPT = 64  # results of a node that is computed on the host
OBSOLETE = {"consumed_inputs", "is_test"}  # hints of the first opsets, without effect on a result


def missing(proto: onnx.GraphProto, opsets: Mapping[str, int]) -> Counter[str]:
    """The operators that are not in the table, with how often the graph and those inside it use them."""
    found: Counter[str] = Counter()
    for node in proto.node:
        domain = DOMAINS.get(node.domain, node.domain)
        if find(domain, node.op_type, opsets.get(domain, 0)) is None:
            found[f"{domain}.{node.op_type}" if domain else node.op_type] += 1
        for attribute in node.attribute:
            if attribute.type == AttributeProto.GRAPH:
                found += missing(attribute.g, opsets)
    return found


class Graph:
    """Nodes in the order in which they run, the names that go in and out, and the constants."""

    def __init__(
        self, proto: onnx.GraphProto, opsets: Mapping[str, int], device: str, outer: Mapping[str, cl.Tensor]
    ) -> None:
        if proto.sparse_initializer:
            raise ArgumentError("load: sparse initializers are not supported: store them as dense ones")
        self.initializers = [i.name for i in proto.initializer]
        self.inputs = [i.name for i in proto.input if i.name not in self.initializers]
        self.outputs = [o.name for o in proto.output]
        self.program: dict[str, cl.Tensor] = {}  # constants on the host, which never change
        self.weights: dict[str, cl.Tensor] = {}  # and on the device
        # Caches are functools', into which a test whether a compiled function still holds does not look.
        self.kept = functools.lru_cache(KEPT * KEPT)(_moved_or_read)
        only_read = _only_read(proto, opsets)
        for name, message in _constants(proto):
            if is_program(message) or (name in only_read and is_small(message)):
                self.program[name] = tensor_of(message, HOST)
            else:
                self.weights[name] = tensor_of(message, device)
        known = {**outer, **self.program}
        self.nodes = [Node(n, opsets, device, known) for n in proto.node if n.op_type != "Constant"]
        self.statistics = {
            name for n in self.nodes if n.type == "BatchNormalization" for name in n.inputs[3:]
        }
        self._release()

    def _release(self) -> None:
        """Which values each node is the last to read."""
        kept = {*self.outputs, *self.program, *self.weights}
        for node in reversed(self.nodes):
            last = (node.used | set(node.outputs)) - kept
            node.drops = tuple(last)
            kept |= last

    def run(self, scope: Scope, inputs: Sequence[Any]) -> list[Any]:
        """The outputs. ``scope`` is this call's own: values are added to it and taken out."""
        values = scope.values
        values.update(zip(self.inputs, inputs, strict=True))
        for node in self.nodes:
            node.run(scope)
            for name in node.drops:
                values.pop(name, None)
        return [values[name] for name in self.outputs]


def _constants(proto: onnx.GraphProto) -> Iterator[tuple[str, onnx.TensorProto]]:
    """The initializers, and the Constant nodes as if they were some."""
    yield from ((i.name, i) for i in proto.initializer)
    yield from ((n.output[0], constant_of(n)) for n in proto.node if n.op_type == "Constant")


def _only_read(proto: onnx.GraphProto, opsets: Mapping[str, int]) -> set[str]:
    """Names whose values operators want as Python numbers and nobody as a tensor."""
    wanted, computed = set(), {o.name for o in proto.output}
    for node in proto.node:
        domain = DOMAINS.get(node.domain, node.domain)
        found = find(domain, node.op_type, opsets.get(domain, 0))
        reads = found.reads if found else []
        for i, name in enumerate(node.input):
            (wanted if i < len(reads) and reads[i] else computed).add(name)
    return wanted - computed


class Node:
    """One call of an operator, bound to its function and its attributes."""

    drops: tuple[str, ...] = ()

    def __init__(
        self, proto: onnx.NodeProto, opsets: Mapping[str, int], device: str, known: Mapping[str, cl.Tensor]
    ) -> None:
        domain = DOMAINS.get(proto.domain, proto.domain)
        self.type, self.opset = proto.op_type, opsets.get(domain, 0)
        self.inputs, self.outputs = list(proto.input), list(proto.output)
        while self.inputs and not self.inputs[-1]:
            self.inputs.pop()
        self.name = (
            f"{self.type} node {proto.name or '->'.join((','.join(self.inputs), ','.join(self.outputs)))!r}"
        )
        self.graphs: list[Graph] = []
        self.attributes: dict[str, Any] = {}
        for attribute in proto.attribute:
            if attribute.name not in OBSOLETE:
                self.attributes[attribute.name] = self._attribute(attribute, opsets, device, known)
        for name in ("to", "dtype", "output_dtype"):
            if self.attributes.get(name):
                dtype_of(self.attributes[name], f"load: {self.name}")
        found = find(domain, proto.op_type, self.opset)
        assert found is not None  # missing operators have been refused together
        self.operator: Operator = found
        for name in self.attributes.keys() - found.attributes:
            raise ArgumentError(f"load: {self.name}: the attribute {name!r} is not supported")
        if len(self.inputs) > len(found.reads) and not found.variadic:
            raise ArgumentError(
                f"load: {self.name} has {len(self.inputs)} inputs, of which {len(found.reads)} are supported"
            )
        self.host = functools.lru_cache(KEPT)(self._on_host)
        self.used = {name for name in self.inputs if name}
        for graph in self.graphs:
            self.used |= {*graph.outputs, *(name for node in graph.nodes for name in node.used)}
        # What is only read, and does not change, is read once.
        self.read = {
            i: read(known[name], kind)
            for i, (name, kind) in enumerate(zip(self.inputs, found.reads, strict=False))
            if kind and name in known
        }

    def _attribute(
        self,
        proto: onnx.AttributeProto,
        opsets: Mapping[str, int],
        device: str,
        known: Mapping[str, cl.Tensor],
    ) -> Any:
        """An attribute's value as Python has it; a graph inside sees the constants around it."""
        if proto.type == AttributeProto.GRAPH:
            self.graphs.append(Graph(proto.g, opsets, device, known))
            return self.graphs[-1]
        if proto.type == AttributeProto.TENSOR:
            return tensor_of(proto.t, HOST)
        value = onnx.helper.get_attribute_value(proto)
        if isinstance(value, bytes):
            return value.decode()
        return tuple(value) if isinstance(value, list) else value

    def run(self, scope: Scope) -> None:
        """Compute the outputs from the values in scope."""
        values, reads = scope.values, self.operator.reads
        arguments: list[Any] = []
        device, mixed = None, False
        for i, name in enumerate(self.inputs):
            value = self.read[i] if i in self.read else values[name] if name else None
            if value.__class__ is cl.Tensor or isinstance(value, cl.Tensor):
                if i < len(reads) and reads[i]:
                    value = scope.read(value, reads[i])
                elif value.device != device:
                    mixed = mixed or device is not None
                    device = value.device if device in (None, HOST) else device
            arguments.append(value)
        if mixed:
            arguments = [scope.moved(x, device) for x in arguments]
        if scope.device == HOST or not (device == HOST or self.type in SIZES) or self.type in NOT_REPEATABLE:
            results = self._results(arguments, scope)
        else:
            identity = arguments[0].shape if self.type in SIZES else tuple(map(_identity, arguments))
            results = self.host(_Key(identity, arguments, scope))
        for name, x in zip(self.outputs, results, strict=False):
            if name:
                values[name] = x

    def _on_host(self, key: _Key) -> tuple[Any, ...]:
        """What it comes to on the host, in a context of its own, in which no transformation is active."""
        results = contextvars.Context().run(self._results, key.arguments, key.scope)
        key.scope = None
        if self.type in SIZES:
            key.arguments = []
        return results

    def _results(self, arguments: list[Any], scope: Any) -> tuple[Any, ...]:
        """What the operator's function returns; an error says at which node."""
        extra = {"call": Call(self, scope)} if self.operator.wants_call else {}
        try:
            result = self.operator.fn(*arguments, **self.attributes, **extra)
        except (CorelibError, TypeError) as error:
            error.add_note(f"in the ONNX model: {self.name}")
            raise
        results = result if type(result) is tuple else (result,)
        if any(self.outputs[len(results) :]):
            raise ArgumentError(f"{self.name}: output {len(results)} is not supported")
        return results


def _identity(x: Any) -> Any:
    """What tells an argument on the host from others: a tensor or sequence there never changes."""
    return id(x) if isinstance(x, cl.Tensor | list) else x


class _Key:
    """Arguments as the key of a cache, which keeps them alive, and so their identities apart."""

    __slots__ = ("arguments", "identity", "scope")

    def __init__(self, identity: Any, arguments: list[Any], scope: Any = None) -> None:
        self.identity, self.arguments, self.scope = identity, arguments, scope

    def __hash__(self) -> int:
        return hash(self.identity)

    def __eq__(self, other: Any) -> bool:
        return self.identity == other.identity


def _moved_or_read(key: _Key) -> Any:
    """A tensor of the host as numbers, or on a device."""
    x, how = key.arguments
    return contextvars.Context().run(read, x, how) if how in VALUES else contextvars.Context().run(x.to, how)


class Scope:
    """One call of a model: the values by name, where new tensors go, and whether it trains.

    ``kept`` outlives the call: a cache of the values of tensors of the host, and of their copies on devices.
    """

    def __init__(self, values: dict[str, Any], device: str, training: bool, kept: Any) -> None:
        self.values, self.device, self.training, self.kept = values, device, training, kept

    def read(self, x: Any, kind: str) -> Any:
        """A tensor's values as Python numbers."""
        if x.device != HOST or self.device == HOST:
            return read(x, kind)
        return self.kept(_Key((id(x), kind), [x, kind]))

    def moved(self, x: Any, device: Any) -> Any:
        """A tensor of the host on a device."""
        if not isinstance(x, cl.Tensor) or x.device != HOST:
            return x
        return self.kept(_Key((id(x), device), [x, device]))


class Call:
    """What a function may want to know of its call."""

    def __init__(self, node: Node, scope: Scope) -> None:
        self.node, self.scope, self.opset = node, scope, node.opset
        self.outputs = len(node.outputs)
        self.training = scope.training

    def device(self, size: int) -> str:
        """Where to put ``size`` elements that no operand brings: few may be about shapes."""
        return HOST if size <= SMALL else self.scope.device

    def run(self, graph: Graph, *inputs: Any) -> list[Any]:
        """The outputs of a graph inside, which sees all values around it and leaves none there."""
        scope = self.scope
        if len(inputs) != len(graph.inputs):
            raise ArgumentError(
                f"{self.node.name}: its graph takes {len(graph.inputs)} inputs, got {len(inputs)}"
            )
        weights = {k: x if x.device == scope.device else x.to(scope.device) for k, x in graph.weights.items()}
        inner = Scope({**scope.values, **graph.program, **weights}, scope.device, scope.training, scope.kept)
        return graph.run(inner, inputs)
