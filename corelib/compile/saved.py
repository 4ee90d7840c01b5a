"""Programs ahead of time: a recorded program in a file, and run again without the function that it was recorded from.

The file is a safetensors file. Its tensors are the constants and the state (parameters, buffers, moments, counters) as
they are when it is saved; its metadata entry ``corelib.program`` holds, as JSON, the steps: ops by name, their canonical
parameters, and which array is read and made. There is no code in it, and the kernels are looked up where it is loaded,
so that it runs on any backend.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..backend import Backend
from ..dtypes import DType, as_dtype
from ..errors import ArgumentError, CheckpointError, CorelibError, ShapeError, nearest
from ..op import BY_NAME
from ..ops.interchange import asarray
from ..registry import registry
from ..replay import replayer
from ..serialize import _read, save_file
from ..tensor import Tensor, wrap
from .graph import Graph, Step, Traced
from .simplify import overwriting

FORMAT = 1
KEY = "corelib.program"


def save(program: Any, path: str | os.PathLike[str]) -> None:
    """Write a program of a compiled function; ArgumentError for one that gives what a file cannot hold."""
    graph: Graph = program.graph
    tensors: dict[str, Tensor] = {}
    states: dict[int, str] = {}

    def state(tensor: Tensor) -> str:
        if id(tensor) not in states:
            states[id(tensor)] = f"state.{len(states)}"
            tensors[states[id(tensor)]] = tensor.detach()
        return states[id(tensor)]

    inputs = []
    for x in graph.inputs:
        entry: dict[str, Any] = {
            "name": x.name,
            "shape": x.shape,
            "dtype": x.dtype.name,
            "label": graph.labels.get(x.name, ""),
        }
        if x.name in graph.constants:
            tensors[f"constant.{x.name}"] = wrap(graph.constants[x.name], program.backend)
        else:
            position, tensor = program.reads[x]
            entry["from"] = position if tensor is None else state(tensor)
        inputs.append(entry)
    outputs = len(program.outputs)
    about = {
        "format": FORMAT, "name": graph.name, "arguments": program.arguments, "inputs": inputs,
        "steps": [_step(s) for s in graph.steps],
        "results": [r.name if r is not None else None for r in graph.results[:outputs]],
        "donated": [x.name for x in graph.donated],
        "writes": [[position if tensor is None else state(tensor), i] for position, tensor, i in program.writes],
        "result": _encoded_result(program.result, state),
    }  # fmt: skip
    save_file(tensors, path, {KEY: json.dumps(about)})


def _step(step: Step) -> dict[str, Any]:
    return {
        "op": step.op.name,
        "dtype": _table(step).name,
        "inputs": [{"array": x.name} if isinstance(x, Traced) else _encoded(x) for x in step.inputs],
        "params": {k: _encoded(v) for k, v in step.params.items()},
        "outputs": [[y.name, y.shape, y.dtype.name] for y in step.outputs],
        "several": step.several,
    }


def _table(step: Step) -> DType:
    """The dtype under which a step's kernel is found: that of the operands that are promoted together."""
    op, arrays = step.op, step.arrays
    for position, x in enumerate(step.inputs):
        if isinstance(x, Traced) and (op.rule.joint is None or op.slot(position) in op.rule.joint):
            return x.dtype
    return step.params["dtype"] if "dtype" in step.params else arrays[0].dtype


def _encoded(value: Any) -> Any:
    """A parameter or a scalar as JSON; what JSON does not know is marked."""
    if isinstance(value, DType):
        return {"dtype": value.name}
    if isinstance(value, complex):
        return {"complex": [value.real, value.imag]}
    if isinstance(value, tuple | list):
        return {"tuple": [_encoded(v) for v in value]}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ArgumentError(f"a program with the parameter {value!r} cannot be saved")


def _decoded(value: Any) -> Any:
    if isinstance(value, dict):
        ((kind, inside),) = value.items()
        if kind == "dtype":
            return as_dtype(inside)
        return complex(*inside) if kind == "complex" else tuple(map(_decoded, inside))
    return value


def _encoded_result(part: Any, state: Callable[[Tensor], str]) -> Any:
    kind = part[0]
    if kind in ("array", "tracked"):
        return {"array": part[1]}
    if kind == "argument":
        return {"argument": part[1]}
    if kind in ("list", "tuple"):
        return {kind: [_encoded_result(p, state) for p in part[1]]}
    if kind == "dict":
        return {"dict": [[_encoded(k), _encoded_result(p, state)] for k, p in part[2]]}
    if kind == "named":
        return {"tuple": [_encoded_result(p, state) for p in part[2]]}
    if isinstance(part[1], Tensor):
        return {"state": state(part[1])}
    return {"value": _encoded(part[1])}


# -- loading -------------------------------------------------------------------------------------------------


class Loaded:
    """A program from a file. Called with the tensors among the arguments of the function that it was recorded from, in
    order; gives what that gave, without derivatives. ``graph``; ``state``: the tensors that it reads and assigns to, by
    name; ``device``.
    """

    def __init__(self, about: dict[str, Any], tensors: dict[str, Tensor], backend: Backend) -> None:
        self.backend, self.device = backend, backend.device
        self.state = {name: tensor for name, tensor in tensors.items() if name.startswith("state.")}
        arrays: dict[str, Traced] = {}
        self.reads: list[tuple[Traced, int | str | None]] = []
        constants, labels = {}, {}
        for entry in about["inputs"]:
            x = arrays[entry["name"]] = Traced(tuple(entry["shape"]), as_dtype(entry["dtype"]), entry["name"])
            self.reads.append((x, entry.get("from")))
            labels[x.name] = entry["label"]
            if "from" not in entry:
                constants[x.name] = tensors[f"constant.{x.name}"]._data
        steps = [_loaded(s, arrays, backend) for s in about["steps"]]
        results = [None if name is None else arrays[name] for name in about["results"]]
        self.graph = Graph(
            [arrays[e["name"]] for e in about["inputs"]], steps, results, several=True,
            constants=constants, labels=labels, name=str(about["name"]),
        )  # fmt: skip
        self.arguments, self.writes, self.result = int(about["arguments"]), about["writes"], about["result"]
        self.run = backend.compile(self.graph) or replayer(overwriting(self.graph))

    def __call__(self, *tensors: Tensor) -> Any:
        """Run the program."""
        if len(tensors) != self.arguments:
            raise ArgumentError(f"{self.graph.name} takes {self.arguments} tensors, got {len(tensors)}")
        given = []
        for x, place in self.reads:
            if place is None:
                given.append(self.graph.constants[x.name])
                continue
            t = self.state[place] if isinstance(place, str) else tensors[place]
            if (
                not isinstance(t, Tensor)
                or t.shape != x.shape
                or t.dtype is not x.dtype
                or t._backend is not self.backend
            ):
                got = f"{t.dtype.name}{list(t.shape)} on {t.device!r}" if isinstance(t, Tensor) else repr(t)
                raise ShapeError(
                    f"{self.graph.name}: tensor {place} must be {x.dtype.name}{list(x.shape)} on {self.device!r}, got {got}"
                )
            given.append(t._data)
        arrays = self.run(*given)
        for place, i in self.writes:
            (self.state[place] if isinstance(place, str) else tensors[place])._rebind(
                wrap(arrays[i], self.backend)
            )
        return self._built(self.result, arrays, tensors)

    def _built(self, part: dict[str, Any], arrays: Any, tensors: Any) -> Any:
        ((kind, inside),) = part.items()
        if kind == "array":
            return wrap(arrays[inside], self.backend)
        if kind == "argument":
            return tensors[inside]
        if kind == "state":
            return self.state[inside]
        if kind in ("list", "tuple"):
            found = [self._built(p, arrays, tensors) for p in inside]
            return found if kind == "list" else tuple(found)
        if kind == "dict":
            return {_decoded(k): self._built(p, arrays, tensors) for k, p in inside}
        return _decoded(inside)


def _loaded(step: dict[str, Any], arrays: dict[str, Traced], backend: Backend) -> Step:
    op = BY_NAME.get(step["op"])
    if op is None:
        raise CheckpointError(
            f"it uses the op {step['op']!r}, which is not declared here{nearest(step['op'], BY_NAME)}: install its plugin"
        )
    inputs = [
        arrays[x["array"]] if isinstance(x, dict) and "array" in x else _decoded(x) for x in step["inputs"]
    ]
    outputs = [Traced(tuple(shape), as_dtype(dtype), str(name)) for name, shape, dtype in step["outputs"]]
    arrays |= {y.name: y for y in outputs}
    params = {k: _decoded(v) for k, v in step["params"].items()}
    return Step(
        op,
        registry.bind(op, as_dtype(step["dtype"]), backend),
        inputs,
        params,
        outputs,
        bool(step["several"]),
    )


def _names(about: dict[str, Any]) -> Iterator[str]:
    for entry in about["inputs"]:
        yield entry["name"]
    for step in about["steps"]:
        yield from (name for name, _, _ in step["outputs"])


def load(path: str | os.PathLike[str], device: str | None = None) -> Loaded:
    """A program that ``save`` of a compiled function wrote, on ``device`` (where tensors are being created unless given).

    Raises CheckpointError for a file that is damaged, from a later version, or no program.
    """
    path = Path(path)
    found, metadata = _read(path)
    if KEY not in metadata:
        raise CheckpointError(f"{path}: a safetensors file, but not a program of corelib.compile")
    registry.discover()
    backend = registry.creation(device)
    try:
        about = json.loads(metadata[KEY])
        if int(about["format"]) > FORMAT:
            raise CheckpointError(
                f"format {about['format']}, written by a later corelib; this one reads up to {FORMAT}: upgrade corelib"
            )
        for name in _names(about):
            if not re.fullmatch(r"[a-z]\d+", name):  # names become Python's in a replay
                raise CheckpointError(f"it is damaged: {name!r} is no name")
        tensors = {name: asarray(array, device=backend) for name, array in found.items()}
        return Loaded(about, tensors, backend)
    except (CheckpointError, LookupError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, CorelibError) and not isinstance(error, CheckpointError):
            raise
        what = (
            str(error)
            if isinstance(error, CheckpointError)
            else f"it is damaged: {type(error).__name__}: {error}"
        )
        raise CheckpointError(f"{path}: {what}") from error
