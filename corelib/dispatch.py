"""The hot path: from a call of a public op to a kernel, and onto the tape. ``@primitive`` and ``@composite``
build the callables here.

A call costs: the operands' backends compared by identity, their dtypes compared by identity,
``tables[dtype][op.index](a, b)``, one slotted Tensor, and one test whether an operand has a node. No hook,
lock, context variable or keyword merging (``capturing`` is an empty list unless a program is being traced). Whatever does not fit the quick path (scalars of another kind,
promotion, mixed levels, an exception) goes to :func:`execute`, which does it right, or says what is wrong.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from . import dtypes
from .capture import captured, capturing
from .dtypes import DType, as_dtype
from .errors import (
    BackendError,
    CorelibError,
    DeclarationError,
    DTypeError,
    OutOfMemoryError,
    UnsupportedError,
)
from .op import Op, calls
from .params import not_a_tensor
from .registry import registry
from .rules import Spec
from .tape import Node, full_like, note, paused, record, same
from .tensor import Tensor, wrap

F = TypeVar("F", bound=Callable[..., Any])
_new = object.__new__
ADDRESSABLE = 2**48  # bytes: a kernel that fails on a larger result fails for its size, whatever it says


def primitive(**declaration: Any) -> Callable[[F], F]:
    """Declare a primitive: an op without a body, for which every backend owes a kernel. See :mod:`corelib.op`
    for the pieces.
    """

    def declare(fn: F) -> F:
        return _public(Op(fn, primitive=True, **_with_kind(fn, declaration)), fn)

    return declare


def composite(**declaration: Any) -> Callable[[F], F]:
    """Declare a composite: its body is its definition on every backend, and its derivative unless ``vjp`` is
    given.
    """

    def declare(fn: F) -> F:
        return _public(Op(fn, primitive=False, **_with_kind(fn, declaration)), fn)

    return declare


def _with_kind(fn: Callable[..., Any], declaration: dict[str, Any]) -> dict[str, Any]:
    missing = [f"{piece}=" for piece in ("rule", "samples", "ulp") if piece not in declaration]
    if missing:
        raise DeclarationError(f"{fn.__name__}: an op needs {', '.join(missing)}")
    return {"kind": "elementwise", **declaration}


def _public(op: Op, fn: F) -> F:
    quick = op.rule.joint is None and not op.variadic and op.device_param is None
    if (
        quick
        and op.kind in ("elementwise", "contract")
        and not op.params
        and len(op.operands) <= 2
        and op.derivative.kind != "vjp"
    ):
        call = _unary(op) if len(op.operands) == 1 else _binary(op)
    elif quick and len(op.operands) == 1:
        call = _with_params(op)
    else:
        call = _general(op)
    functools.update_wrapper(call, fn)
    call.op = op  # type: ignore[attr-defined]
    op.fn = call
    setattr(calls, fn.__name__, call)
    registry.op_added()
    return call  # type: ignore[return-value]


# -- the quick paths -----------------------------------------------------------------------------------------


def _unary(op: Op) -> Callable[..., Any]:
    index, unchanged = op.index, op.unchanged
    records = op.derivative.kind not in ("nondiff", "body")
    (keep_x,), keep_y = op.derivative.keep(op, (True,)) if records else ((False,), False)
    body = op.derivative.kind == "body"

    def call(x: Any, /) -> Any:
        if capturing:
            x = captured(x)
        try:
            backend, data, node = x._backend, x._data, x._node
            if body and node is not None:
                return execute(op, (x,), {})
            if unchanged is not None and unchanged(x):
                return same(x)
            result = backend.tables[data.dtype][index](data)
        except Exception:
            return execute(op, (x,), {})
        y = _new(Tensor)
        y._data = result
        y._backend = backend
        if node is None or not records:
            y._node = None
        elif (mode := paused.get()) is None:
            y._node = n = _new(Node)  # Node.__init__ costs 80 ns more
            n.op, n.backend, n.parents, n.params = op, backend, (node,), None
            n.saved, n.result = (data if keep_x else None,), result if keep_y else None
            n.shape, n.dtype = result.shape, result.dtype
        else:
            y._node = None
            note(mode, node)
        return y

    return call


def _with_params(op: Op) -> Callable[..., Any]:
    """One operand and parameters: reductions, movement, activations along an axis."""
    index, bind, unchanged = op.index, op.bind, op.unchanged
    records = op.derivative.kind not in ("nondiff", "body")
    body = op.derivative.kind == "body"

    def call(*args: Any, **kwargs: Any) -> Any:
        operands, params = bind(*args, **kwargs)
        if capturing:
            operands = (captured(operands[0]),)
        (x,) = operands
        try:
            backend, data, node = x._backend, x._data, x._node
            if unchanged is not None and unchanged(x, **params):
                return x if kwargs.get("copy") is False else same(x)
            if body and node is not None:
                return execute(op, operands, params)
            result = backend.tables[data.dtype][index](data, **params)
        except Exception:
            return execute(op, operands, params)
        if result.__class__ is tuple:
            return execute(op, operands, params)
        y = _new(Tensor)
        y._data = result
        y._backend = backend
        y._node = None if node is None or not records else record(op, backend, operands, params, result)
        return y

    return call


def _binary(op: Op) -> Callable[..., Any]:
    numbers = all(str(op.signature.parameters[name].annotation).startswith("Array") for name in op.operands)
    index = op.index
    records = op.derivative.kind not in ("nondiff", "body")
    body = op.derivative.kind == "body"
    combinations = [(False, False), (True, False), (False, True), (True, True)]
    keeps = (
        [(*k[0], k[1]) for k in (op.derivative.keep(op, c) for c in combinations)]
        if records
        else [(False, False, False)] * 4
    )

    def call(x1: Any, x2: Any, /) -> Any:
        if capturing:
            x1, x2 = captured(x1), captured(x2)
        if x2.__class__ is not Tensor or x1.__class__ is not Tensor:
            return other(x1, x2)
        try:
            backend, a, b = x1._backend, x1._data, x2._data
            dtype = a.dtype
            if x2._backend is not backend or b.dtype is not dtype:
                return execute(op, (x1, x2), {})
            result = backend.tables[dtype][index](a, b)
        except Exception:
            return execute(op, (x1, x2), {})
        node1, node2 = x1._node, x2._node
        if node1 is None and node2 is None:
            y = _new(Tensor)
            y._data = result
            y._backend = backend
            y._node = None
            return y
        return recorded(x1, x2, backend, a, b, result, node1, node2)

    def other(x1: Any, x2: Any) -> Any:
        """A Python number that the tensor's dtype holds as one operand, or a subclass of Tensor."""
        try:
            if numbers and (x2.__class__ is float or x2.__class__ is int):
                backend, a, b, node1, node2 = x1._backend, x1._data, x2, x1._node, None
                table = backend.tables[a.dtype]
                if table.floating:
                    b, plain = float(b), True
                else:
                    plain = b.__class__ is int and table.low <= b <= table.high
            elif numbers and (x1.__class__ is float or x1.__class__ is int):
                backend, a, b, node1, node2 = x2._backend, x1, x2._data, None, x2._node
                table = backend.tables[b.dtype]
                if table.floating:
                    a, plain = float(a), True
                else:
                    plain = a.__class__ is int and table.low <= a <= table.high
            else:
                backend, a, b, node1, node2 = x1._backend, x1._data, x2._data, x1._node, x2._node
                table = backend.tables[a.dtype]
                plain = x2._backend is backend and b.dtype is a.dtype
            if not plain:
                return execute(op, (x1, x2), {})
            result = table[index](a, b)
        except Exception:
            return execute(op, (x1, x2), {})
        return recorded(x1, x2, backend, a, b, result, node1, node2)

    def recorded(x1: Any, x2: Any, backend: Any, a: Any, b: Any, result: Any, node1: Any, node2: Any) -> Any:
        if body and (node1 is not None or node2 is not None):
            return execute(op, (x1, x2), {})
        y = _new(Tensor)
        y._data = result
        y._backend = backend
        if not records or node1 is None and node2 is None:
            y._node = None
        elif (mode := paused.get()) is None:
            keep1, keep2, keep_y = keeps[(node1 is not None) + 2 * (node2 is not None)]
            y._node = n = _new(Node)
            n.op, n.backend, n.parents, n.params = op, backend, (node1, node2), None
            n.saved, n.result = (a if keep1 else None, b if keep2 else None), result if keep_y else None
            n.shape, n.dtype = result.shape, result.dtype
        else:
            y._node = None
            note(mode, node1, node2)
        return y

    return call


def _general(op: Op) -> Callable[..., Any]:
    bind = op.bind
    unchanged = op.unchanged
    if unchanged is not None:

        def call(*args: Any, **kwargs: Any) -> Any:
            operands, params = bind(*args, **kwargs)
            x = operands[0]
            if isinstance(x, Tensor) and unchanged(x, **params):
                return x if kwargs.get("copy") is False else same(x)
            return execute(op, operands, params)

        return call
    if op.device_param is not None or not op.operands:
        return lambda *args, **kwargs: create(op, *bind(*args, **kwargs))
    return lambda *args, **kwargs: execute(op, *bind(*args, **kwargs))


def create(op: Op, operands: tuple[Any, ...], params: dict[str, Any]) -> Tensor:
    """Run an op without operands: on the device it was asked for, else where tensors are being created."""
    backend = registry.creation(params.pop(op.device_param, None) if op.device_param else None)
    try:
        data = backend.tables[params["dtype"]][op.index](**params)
    except Exception as error:
        raise explained(op, (), params, error, backend) from _cause(error)
    return wrap(data, backend)


def reissue(op: Op, operands: Sequence[Any], params: dict[str, Any], backend: Any = None) -> Any:
    """Run an op with parameters as kernels get them: how a wrapping backend hands an op on. ``backend``:
    where an op without operands runs.
    """
    if op.operands:
        return execute(op, operands, params)
    return wrap(backend.tables[params["dtype"]][op.index](**params), backend)


# -- the general path ----------------------------------------------------------------------------------------


def execute(op: Op, operands: Sequence[Any], params: dict[str, Any]) -> Any:
    """Run an op on operands of any kind: lift levels, promote dtypes, call the kernel, record."""
    if capturing:
        operands = [captured(x) for x in operands]
    tensors, backend, native, tracked = _uniform(op, operands)
    if backend is None:
        backend, tensors, tracked = _one_backend(op, operands)
        native = _promote(op, tensors, params)
    kind = op.derivative.kind
    if tracked and kind == "body":
        if not op.moves and as_dtype(native) in dtypes.HALF:
            return _in_float32(op, tensors, params, as_dtype(native))
        mode = paused.get()
        if mode is None:
            try:
                return op.body(*op.regroup(tensors), **params)  # type: ignore[misc]
            except Exception as error:  # in the words of this op, as when nothing is recorded
                raise explained(op, tensors, params, error, backend) from _cause(error)
        note(mode, *[t._node for t in tensors if isinstance(t, Tensor)])
    try:
        result = backend.tables[native][op.index](
            *[t._data if isinstance(t, Tensor) else t for t in tensors], **params
        )
    except Exception as error:
        raise explained(op, tensors, params, error, backend) from _cause(error)
    if not tracked or kind == "nondiff" or kind == "body":
        return (
            tuple([wrap(r, backend) for r in result]) if result.__class__ is tuple else wrap(result, backend)
        )
    node = record(op, backend, tensors, params, result)
    if result.__class__ is tuple:
        return tuple([wrap(r, backend, n) for r, n in zip(result, node or [None] * len(result), strict=True)])
    return wrap(result, backend, node)


def _in_float32(op: Op, tensors: Sequence[Any], params: dict[str, Any], dtype: DType) -> Any:
    """A composite on float16 or bfloat16 that is differentiated through its body: the same as its kernel does."""
    wide = [
        calls.astype(t, dtypes.float32) if isinstance(t, Tensor) and t.dtype is dtype else t for t in tensors
    ]
    given = {name: dtypes.float32 if value is dtype else value for name, value in params.items()}
    result = execute(op, wide, given)

    def narrow(y: Tensor) -> Tensor:
        return (
            calls.astype(y, dtype) if y.dtype is dtypes.float32 and params.get("dtype", dtype) is dtype else y
        )

    return tuple([narrow(y) for y in result]) if isinstance(result, tuple) else narrow(result)


def _uniform(op: Op, operands: Sequence[Any]) -> tuple[Sequence[Any], Any, Any, bool]:
    """Operands that need neither lifting nor casting, their backend and promoted dtype, and whether one is
    tracked; else no backend.
    """
    backend, native, tracked, number, alike = None, None, False, -1, op.alike
    last = len(alike) - 1
    for position, x in enumerate(operands):
        if isinstance(x, Tensor):
            dtype = x._data.dtype
            wanted = alike[position if position < last else last]
            if wanted is True:
                if native is None:
                    native = dtype
                elif dtype is not native:
                    return operands, None, None, False
            elif wanted is not None and dtype is not wanted and as_dtype(dtype) is not wanted:
                return operands, None, None, False
            if backend is None:
                backend = x._backend
            elif x._backend is not backend:
                return operands, None, None, False
            if x._node is not None:
                tracked = True
        elif (
            number < 0
            and (x.__class__ is float or x.__class__ is int)
            and position in op.numbers
            and alike[position] is True
        ):
            number = position
        elif x is not None or position not in op.optional:
            return operands, None, None, False
    if native is None or backend is None:
        return operands, None, None, False
    if number >= 0:
        x, table = operands[number], backend.tables[native]
        if table.floating:
            operands = [*operands[:number], float(x), *operands[number + 1 :]]
        elif x.__class__ is float or not table.low <= x <= table.high:
            return operands, None, None, False
    return operands, backend, native, tracked


def _one_backend(op: Op, operands: Sequence[Any]) -> tuple[Any, list[Any], bool]:
    """The backend that all operands are on, the operands (lifted to it, NumPy scalars as Python's), and
    whether one is tracked.
    """
    backend, mixed, tracked = None, False, False
    tensors = list(operands)
    for position, operand in enumerate(tensors):
        if isinstance(operand, Tensor):
            tracked = tracked or operand._node is not None
            if backend is None:
                backend = operand._backend
            elif operand._backend is not backend:
                mixed = True
                if operand._backend.level > backend.level:
                    backend = operand._backend
        elif operand is None or isinstance(operand, bool | int | float | complex):
            parameter = op.signature.parameters[op.operands[op.slot(position)]]
            if (
                parameter.default is not None
                if operand is None
                else not str(parameter.annotation).startswith("Array")
            ):
                raise DTypeError(not_a_tensor(op, op.operand_name(position), operand))
            if isinstance(operand, float) and type(operand) is not float:
                tensors[position] = float(operand)
        elif (
            getattr(operand, "shape", None) == ()
            and hasattr(operand, "item")
            and type(operand).__module__ == "numpy"
        ):
            tensors[position] = operand.item()
        else:
            raise DTypeError(not_a_tensor(op, op.operand_name(position), operand))
    if backend is None:
        raise DTypeError(
            f"{op.name} needs a Tensor among its operands, got {', '.join(repr(o) for o in operands) or 'none'}"
        )
    if mixed:
        for position, operand in enumerate(tensors):
            if isinstance(operand, Tensor) and operand._backend is not backend:
                if backend.level == operand._backend.level > 0:
                    raise BackendError(
                        f"{op.name}: operands of two calls of {operand._backend.name}, one of which has ended: a function must "
                        "not keep tensors beyond its return"
                    )
                if backend.level == operand._backend.level:
                    devices = list(dict.fromkeys(o._backend.device for o in tensors if isinstance(o, Tensor)))
                    raise BackendError(
                        f"{op.name}: operands on {' and '.join(map(repr, devices))}: call x.to({devices[-1]!r})"
                    )
                tensors[position] = backend.lift(operand)
    return backend, tensors, tracked


def _promote(op: Op, tensors: list[Any], params: dict[str, Any]) -> DType:
    """Bring the jointly promoted operands to one dtype, in place; returns the dtype under which the kernel is
    found.
    """
    rule = op.rule
    joint = [p for p in range(len(tensors)) if rule.joint is None or op.slot(p) in rule.joint]
    dtype: DType | None = None
    scalars = []
    for p in joint:
        operand = tensors[p]
        if isinstance(operand, Tensor):
            found = operand.dtype
            dtype = found if dtype is None or dtype is found else dtypes.promote(dtype, found)
        elif operand is not None:
            scalars.append(p)
    if (
        dtype is None and scalars
    ):  # numbers only, such as where(condition, 1.0, 0.0): they become tensors of their default dtype
        number = next(t for t in tensors if isinstance(t, Tensor))
        dtype = dtypes.result_type(*[tensors[p] for p in scalars])
        for p in scalars:
            tensors[p] = full_like(Spec((), dtype), number._backend, as_scalar(op, tensors[p], dtype))
    elif dtype is None:
        if "dtype" in params:
            dtype = params["dtype"]
        else:
            dtype = next(t.dtype for t in tensors if isinstance(t, Tensor))
    else:
        for p in scalars:
            dtype = dtypes.weak_dtype(tensors[p], dtype)
        for p in joint:
            operand = tensors[p]
            if isinstance(operand, Tensor):
                if operand.dtype is not dtype:
                    tensors[p] = calls.astype(operand, dtype)
            elif operand is not None:
                tensors[p] = as_scalar(op, operand, dtype)
    for p, operand in enumerate(tensors):
        if p not in joint and isinstance(operand, Tensor) and rule.fixed:
            rule.check_fixed(op, p, operand.dtype)
            wanted = rule.fixed.get(op.slot(p), rule.fixed.get(-1))
            if wanted is not None and operand.dtype is not wanted:
                if (
                    operand.dtype is dtypes.uint64
                ):  # what int64 cannot hold stays out of bounds, instead of wrapping to a negative index
                    operand = calls.minimum(operand, wanted.max)
                tensors[p] = calls.astype(operand, wanted)
    return dtype


def as_scalar(op: Op, value: Any, dtype: DType) -> bool | int | float | complex:
    """A Python scalar in the kind of ``dtype``, or DTypeError when it does not fit."""
    if dtype.kind == "complex":
        return complex(value)
    if dtype.kind == "float":
        return float(value)
    if dtype.kind == "bool":
        return bool(value)
    if not dtype.min <= value <= dtype.max:
        raise DTypeError(
            f"{op.name}: the Python integer {value} does not fit {dtype.name} ({dtype.min} to {dtype.max})"
        )
    return int(value)


def spec_of(operand: Any) -> Spec | None:
    """Shape and dtype of an operand; a Python scalar is weak."""
    if isinstance(operand, Tensor):
        return Spec(operand.shape, operand.dtype, operand._backend.device)
    return None if operand is None else Spec((), as_dtype(type(operand)), None, True)


def explained(
    op: Op, operands: Sequence[Any], params: dict[str, Any], error: Exception, backend: Any
) -> Exception:
    """The error to raise for a kernel that failed: the rule's words if the rule refuses, the same on every
    backend.
    """
    try:
        found = op.rule(op, [spec_of(o) for o in operands], params)
        if (
            backend.level == 0
            and not isinstance(error, CorelibError)
            and (isinstance(error, MemoryError) or _bytes(found) > ADDRESSABLE)
        ):
            raise OutOfMemoryError(_too_large(op, found, backend))
        if op.diagnose is not None and backend.level == 0 and not isinstance(error, UnsupportedError):
            op.diagnose(op, operands, params)
    except CorelibError as refusal:
        return refusal
    if not isinstance(error, CorelibError):
        error.add_note(f"in the kernel of {op.name} on {backend.device!r}, with parameters {params}")
    return error


def _bytes(result: Any) -> int:
    specs = result if result.__class__ is tuple else (result,)
    return sum(math.prod(s.shape) * s.dtype.itemsize for s in specs if None not in s.shape)


def _too_large(op: Op, result: Any, backend: Any) -> str:
    specs = result if result.__class__ is tuple else (result,)
    shapes = ", ".join(f"{s.dtype.name}{list(s.shape)}" for s in specs)
    text = f"{op.name}: the result {shapes} takes {_readable(_bytes(result))}, more than {backend.device!r} can allocate"
    found = backend.memory_stats()
    if "free" not in found or _bytes(result) > ADDRESSABLE:
        return text
    here = ", ".join(f"{_readable(found[name])} {name}" for name in ("used", "held", "free") if name in found)
    return (
        f"{text} ({here}): let go of tensors that are not needed any more, work in smaller batches or in float16 or bfloat16, "
        "use corelib.checkpoint in training; corelib.empty_cache() gives back what is held without being used"
    )


def _readable(size: float) -> str:
    unit = 0
    while size >= 1000 and unit < 8:
        size, unit = size / 1000, unit + 1
    return f"{size:.3g} {('bytes', *'kMGTPEZY')[unit]}{'B' * (unit > 0)}"


def _cause(error: Exception) -> BaseException | None:
    return error.__cause__
