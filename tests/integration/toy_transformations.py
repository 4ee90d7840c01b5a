"""Two toy transformations, written through the public plugin API alone: a recorder and a batcher.

They are what a tracer and a vmap need of the core, no more: each of the seventeen points that make corelib fit for transformations is exercised by one of them.
"""

from __future__ import annotations

from typing import Any

from corelib.plugin_api import Backend, Tensor, activate, attach, decomposed, ops, reissue, rules
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


class Batched:
    """An array of the batcher: a tensor of the wrapped backend whose first axis is the batch (or is not there)."""

    __slots__ = ("batched", "dtype", "shape", "tensor")

    def __init__(self, tensor: Tensor, batched: bool) -> None:
        self.tensor, self.batched, self.dtype = tensor, batched, tensor.dtype
        self.shape = tensor.shape[1:] if batched else tensor.shape


class Batcher(Backend):
    """vmap over axis 0, with a handful of rules by ``Op.kind`` instead of one per op."""

    def __init__(self, base: Backend, size: int) -> None:
        super().__init__("batcher")
        self.base, self.size, self.level = base, size, base.level + 1
        attach(self)

    def lift(self, tensor: Tensor) -> Tensor:
        return Tensor(Batched(tensor, False), self)

    def find(self, op: Any, dtype: Any) -> Any:
        def kernel(*operands: Any, **params: Any) -> Any:
            arrays = [o for o in operands if isinstance(o, Batched)]
            if not any(a.batched for a in arrays):
                return self.out(
                    reissue(op, [getattr(o, "tensor", o) for o in operands], params, self.base), False
                )
            ndim = max(len(a.shape) for a in arrays)
            aligned = [self.align(o, ndim) if isinstance(o, Batched) else o for o in operands]
            plain = [getattr(o, "tensor", o) for o in operands]
            if op.kind == "elementwise" and not op.variadic:
                return self.out(reissue(op, aligned, params), True)
            if op.kind == "contract" and op.primitive and min(len(a.shape) for a in arrays) >= 2:
                return self.out(reissue(op, aligned, params), True)
            if op.leading and all(a.batched for a in arrays):
                return self.out(reissue(op, aligned, params), True)
            if op.name in ("reshape", "broadcast_to"):
                inner = params["shape"]
                x = plain[0] if op.name == "reshape" else self.align(operands[0], len(inner))
                return self.out(reissue(op, [x], {"shape": (self.size, *inner)}), True)
            if op.name == "permute_dims":
                return self.out(
                    reissue(op, plain, {"axes": (-len(params["axes"]) - 1, *params["axes"])}), True
                )
            if op.name == "strided_slice":
                more = {
                    "start": (0, *params["start"]),
                    "size": (self.size, *params["size"]),
                    "step": (1, *params["step"]),
                }
                return self.out(reissue(op, plain, more), True)
            if not op.primitive:
                return decomposed(op, self)(*operands, **params)
            if op.kind == "index" and arrays[0].batched and not any(a.batched for a in arrays[1:]):
                return self.out(reissue(op, plain, params), True)
            raise err.BackendError(f"the batcher has no rule for {op.name} of kind {op.kind}")

        return kernel

    def align(self, array: Batched, ndim: int) -> Tensor:
        """The wrapped tensor with as many axes behind the batch axis as ``ndim``."""
        if not array.batched or len(array.shape) == ndim:
            return array.tensor
        return ops.reshape(array.tensor, (self.size, *(1,) * (ndim - len(array.shape)), *array.shape))

    def out(self, result: Any, batched: bool) -> Any:
        return (
            tuple(Batched(r, batched) for r in result)
            if isinstance(result, tuple)
            else Batched(result, batched)
        )


def vmap(fn: Any) -> Any:
    """``fn`` over axis 0 of every argument that is given as a tensor in a one-element list; the others are shared."""

    def call(*args: Any) -> Any:
        first = next(a[0] for a in args if isinstance(a, list))
        batcher = Batcher(first._backend, first.shape[0])
        inside = [Tensor(Batched(a[0], True), batcher) if isinstance(a, list) else a for a in args]
        with activate(batcher):
            result = fn(*inside)

        def outside(y: Any) -> Any:
            if not isinstance(y._data, Batched):
                return y
            t = y._data.tensor
            return (
                t
                if y._data.batched
                else ops.broadcast_to(ops.reshape(t, (1, *t.shape)), (batcher.size, *t.shape))
            )

        return tuple(map(outside, result)) if isinstance(result, tuple) else outside(result)

    return call
