"""A toy transformation, written through the public plugin API alone: a recorder.

It is what a tracer needs of the core, no more. With ``vmap`` it exercises each of the seventeen points that make corelib fit for transformations.
"""

from __future__ import annotations

from typing import Any

from corelib.plugin_api import Backend, Tensor, attach, rules
from corelib.plugin_api import errors as err

Spec = rules.Spec
SCALARS = (bool, int, float, complex, type(None))


class Traced:
    """An array of the recorder: nothing but its shape, its dtype and where it comes from."""

    __slots__ = ("dtype", "number", "shape")

    def __init__(self, shape: Any, dtype: Any, number: int) -> None:
        self.shape, self.dtype, self.number = tuple(shape), dtype, number


class Recorder(Backend):
    """A backend whose kernels record. ``program``: ``(op, dtype, inputs, params, outputs)``; ``rebinds``: the log of mutation."""

    level = 10

    def __init__(self, base: Backend) -> None:
        super().__init__("recorder")
        self.base, self.program, self.constants, self.rebinds, self.count = base, [], {}, [], 0
        self.inputs: list[int] = []
        attach(self)

    def new(self, spec: Any) -> Traced:
        self.count += 1
        return Traced(spec.shape, spec.dtype, self.count)

    def input(self, like: Tensor) -> Tensor:
        array = self.new(Spec(like.shape, like.dtype))
        self.inputs.append(array.number)
        return Tensor(array, self)

    def find(self, op: Any, dtype: Any) -> Any:
        def kernel(*operands: Any, **params: Any) -> Any:
            if op.data_dependent:
                raise err.BackendError(
                    f"{op.name}: the shape of its result depends on values, which are not known while tracing"
                )
            specs = [
                o
                if o is None
                else Spec((), type(o), None, True)
                if isinstance(o, SCALARS)
                else Spec(o.shape, o.dtype)
                for o in operands
            ]
            specs = [s if s is None or not s.weak else Spec((), dtype, None, True) for s in specs]
            result = op.rule(op, specs, params)
            outputs = (
                tuple(self.new(s) for s in result)
                if isinstance(result, tuple) and not isinstance(result, Spec)
                else self.new(result)
            )
            inputs = [o if isinstance(o, SCALARS) else o.number for o in operands]
            marks = ["scalar" if isinstance(o, SCALARS) else "array" for o in operands]
            self.program.append((op, dtype, list(zip(marks, inputs, strict=True)), params, outputs))
            return outputs

        return kernel

    def lift(self, tensor: Tensor) -> Tensor:
        array = self.new(Spec(tensor.shape, tensor.dtype))
        self.constants[array.number] = tensor._data
        return Tensor(array, self)

    def from_host(self, buffer: Any, shape: Any, dtype: Any) -> Traced:
        return self.lift(Tensor(self.base.from_host(buffer, shape, dtype), self.base))._data

    def rebind(self, tensor: Tensor, value: Tensor) -> None:
        self.rebinds.append((tensor, value))

    def to_host(self, array: Any) -> Any:
        raise err.BackendError("a value was read while tracing: use where(), or read it outside")

    def replay(self, output: Traced, *inputs: Any) -> Any:
        """The program's value on arrays of the base backend."""
        values = {**self.constants, **dict(zip(self.inputs, inputs, strict=True))}
        for op, dtype, operands, params, outputs in self.program:
            arrays = [v if mark == "scalar" else values[v] for mark, v in operands]
            result = self.base.tables[dtype][op.index](*arrays, **params)
            for o, r in (
                zip(outputs, result, strict=True) if isinstance(outputs, tuple) else [(outputs, result)]
            ):
                values[o.number] = r
        return values[output.number]
