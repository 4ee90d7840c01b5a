"""``load``: an ONNX model as a module whose weights have their ONNX names."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import onnx
from onnx import inliner

import corelib as cl
from corelib.errors import ArgumentError, BackendError, UnsupportedError

from . import operators  # noqa: F401 - fills the table
from .graph import Graph, Scope, missing
from .table import DOMAINS
from .values import HOST, dtype_of


def load(model: str | os.PathLike[str] | bytes | onnx.ModelProto, device: str | None = None) -> Model:
    """An ONNX model, from a path, from bytes, or as onnx.ModelProto, as a callable module on ``device``.

    Floating initializers become parameters under their ONNX names, except the running statistics of batch
    normalization, which are buffers, as are integers that are data. Small integers (shapes, axes) and what nodes named
    Constant hold belong to the program. The module is in evaluation mode. Functions that the model defines are inlined, and so are operators that
    corelib_onnx has not but that ONNX itself defines by others.

    Raises UnsupportedError with a list of all operators that are missing; DTypeError for elements that corelib has not;
    onnx.checker.ValidationError for what is no ONNX model.

    Example::

        model = corelib_onnx.load("resnet.onnx", device="cpu")
        logits = model(images)
    """
    proto = _proto(model)
    # By path where there is one: a message of more than 2 GB cannot be checked.
    onnx.checker.check_model(os.fspath(model) if isinstance(model, str | os.PathLike) else proto)
    if proto.functions:
        proto = inliner.inline_local_functions(proto)
    opsets = _opsets(proto)
    lacking = missing(proto.graph, opsets)
    if lacking:
        proto = _by_definition(proto, set(lacking))
        opsets = _opsets(proto)
        lacking = missing(proto.graph, opsets)
    if lacking:
        listed = ", ".join(f"{name} ({count})" for name, count in sorted(lacking.items()))
        raise UnsupportedError(
            f"load: the model uses operators that corelib_onnx does not have (how often): {listed}. "
            "What it has: corelib_onnx.supported()"
        )
    return Model(proto, opsets, device or cl.get_backend()).eval()


def _proto(model: Any) -> onnx.ModelProto:
    if isinstance(model, onnx.ModelProto):
        return model
    if isinstance(model, bytes):
        return onnx.load_from_string(model)
    if isinstance(model, str | os.PathLike):
        return onnx.load(os.fspath(model))
    raise ArgumentError(
        f"load: model must be a path, bytes or an onnx.ModelProto, got {type(model).__name__}"
    )


def _opsets(proto: onnx.ModelProto) -> dict[str, int]:
    return {DOMAINS.get(o.domain, o.domain): o.version for o in proto.opset_import}


def _by_definition(proto: onnx.ModelProto, names: set[str]) -> onnx.ModelProto:
    """The model with operators that ONNX defines by others replaced by their definitions; the rest stays."""
    split = [name.rpartition(".")[::2] for name in names]
    opsets = _opsets(proto)
    proto = onnx.ModelProto.FromString(proto.SerializeToString())
    for node in proto.graph.node:  # the inliner does not know the defaults of attributes
        domain = DOMAINS.get(node.domain, node.domain)
        if (domain, node.op_type) in split and onnx.defs.has(node.op_type, domain):
            schema = onnx.defs.get_schema(node.op_type, opsets.get(domain, 1), domain)
            given = {a.name for a in node.attribute}
            known = [a.default_value for name, a in schema.attributes.items() if name not in given]
            node.attribute.extend(a for a in known if a.type)
    try:
        return inliner.inline_selected_functions(proto, split, inline_schema_functions=True)
    except RuntimeError:  # onnx 1.23 cannot inline a node that leaves out an input in the middle
        return proto


class Model(cl.nn.Module):
    """An ONNX graph that is called like a function: ``model(x, y)`` or ``model(x=..., y=...)``, by the graph's names.

    Returns a tensor, or a tuple if the graph has several outputs. Arguments are tensors or what ``corelib.asarray``
    takes. An argument that the graph also has an initializer for may be given by name.
    """

    def __init__(self, proto: onnx.ModelProto, opsets: Mapping[str, int], device: str) -> None:
        self._graph = Graph(proto.graph, opsets, device, {})
        self._device = device
        for i in proto.graph.input:
            if i.type.HasField("tensor_type"):
                dtype_of(i.type.tensor_type.elem_type, f"load: the input {i.name!r}")
        self._sequences = {i.name for i in proto.graph.input if not i.type.HasField("tensor_type")}
        self._attributes: dict[str, str] = {}
        for name, x in self._graph.weights.items():
            attribute = name if not hasattr(self, name) else f"{name}_"  # an attribute that every module has
            self._attributes[name] = attribute
            if name not in self._graph.initializers:
                self.register_buffer(attribute, x, persistent=False)
            elif cl.isdtype(x.dtype, "real floating") and name not in self._graph.statistics:
                setattr(self, attribute, cl.nn.Parameter(x))
            else:
                self.register_buffer(attribute, x)

    @property
    def inputs(self) -> list[str]:
        """The names of the arguments, in their order."""
        return list(self._graph.inputs)

    @property
    def outputs(self) -> list[str]:
        """The names of the results, in their order."""
        return list(self._graph.outputs)

    def forward(self, *args: Any, **named: Any) -> Any:
        """The graph's outputs."""
        graph: Graph = self._graph
        own = vars(self)
        values: dict[str, Any] = {name: own[attribute] for name, attribute in self._attributes.items()}
        device = next((x.device for x in values.values()), self._device)
        values.update(graph.program)
        names = graph.inputs[: len(args)]
        if len(args) > len(graph.inputs):
            raise ArgumentError(
                f"the model takes {len(graph.inputs)} arguments {graph.inputs}, got {len(args)}"
            )
        given = dict(zip(names, args, strict=True))
        for name, x in named.items():
            if name in given or name not in (*graph.inputs, *graph.initializers):
                what = "is given twice" if name in given else "is not an input"
                raise ArgumentError(f"the model's argument {name!r} {what}: its inputs are {graph.inputs}")
            given[name] = x
        values.update(
            {name: _argument(name, x, device, name in self._sequences) for name, x in given.items()}
        )
        lacking = [name for name in graph.inputs if name not in given]
        if lacking:
            raise ArgumentError(f"the model's inputs {lacking} are not given; it takes {graph.inputs}")
        results = graph.run(
            Scope(values, device, self.training, graph.kept), [values[n] for n in graph.inputs]
        )
        results = [x.to(device) if isinstance(x, cl.Tensor) and x.device == HOST else x for x in results]
        return results[0] if len(results) == 1 else tuple(results)

    def extra_repr(self) -> str:
        """What goes in and out."""
        return f"{', '.join(self.inputs)} -> {', '.join(self.outputs)}"


def _argument(name: str, x: Any, device: str, sequence: bool) -> Any:
    """An argument as the graph has it: a sequence is a list, an optional without a value None."""
    if sequence and (x is None or isinstance(x, list | tuple)):
        return x if x is None else [_argument(name, item, device, False) for item in x]
    if isinstance(x, cl.Tensor):
        if x.device == HOST != device:
            raise BackendError(
                f"the model's argument {name!r} is on {HOST!r}, its weights on {device!r}: call x.to({device!r})"
            )
        return x
    return cl.asarray(x, device=device)
