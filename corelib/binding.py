"""Binding: the tables that the hot path indexes, and the kernels that stand in for one a backend has not.

Each backend has a table of kernels for each dtype. A slot starts as a binder, which asks the registry for the
kernel once, puts it into the slot, and calls it. This module knows the registry only as the object that it is
handed. What stands in for a kernel says so in its attribute ``how``.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

from .backend import Backend
from .dtypes import DType, as_dtype, float32
from .op import OPS, Op, calls
from .tensor import wrap

# by exact class: a backend's 0-d array may be a numpy.float64, which is a float
SCALARS = (bool, int, float, complex, type(None))


class Table(list[Any]):
    """The kernels of one backend for one dtype, by ``op.index``; an unbound slot holds a binder.

    Python integers from ``low`` to ``high`` are values of an integer dtype; of another one, none are.
    """

    __slots__ = ("dtype", "floating", "high", "low")

    def __init__(self, dtype: DType) -> None:
        self.dtype, self.floating = dtype, dtype.kind == "float"
        self.low: Any
        self.high: Any
        self.low, self.high = (dtype.min, dtype.max) if dtype.kind in ("int", "uint") else (1, 0)


class Tables(dict[Any, Table]):
    """Tables by the dtype objects that a backend's arrays carry (and by the DType they stand for)."""

    __slots__ = ("backend", "registry", "replays")

    def __init__(self, backend: Backend, registry: Any) -> None:
        self.backend, self.registry = weakref.proxy(backend), registry
        self.replays: dict[Any, Any] = {}  # recorded derivative rules, see replay.py

    def __missing__(self, native: Any) -> Table:
        dtype = as_dtype(native)
        with self.registry.lock:
            table: Table | None = dict.get(self, dtype)
            if table is None:
                table = Table(dtype)
                self.fill(table)
                dict.__setitem__(self, dtype, table)
            dict.__setitem__(self, native, table)
        return table

    def distinct(self) -> list[Table]:
        """Each table once, however many dtype objects name it."""
        return list({id(t): t for t in self.values()}.values())

    def fill(self, table: Table) -> None:
        """Put a binder into every slot."""
        table[:] = [partial(bind_and_call, self, table, op) for op in OPS]


def bind_and_call(tables: Tables, table: Table, op: Op, *operands: Any, **params: Any) -> Any:
    """What stands in an unbound slot: find the kernel, put it there, call it."""
    with tables.registry.lock:
        kernel = tables.registry.bind(op, table.dtype, tables.backend)
        table[op.index] = kernel
    return kernel(*operands, **params)


def decomposed(op: Op, backend: Backend) -> Callable[..., Any] | None:
    """A kernel that runs a composite's body on ``backend``'s arrays; None for a primitive."""
    if op.body is None:
        return None
    body, regroup, device = op.body, op.regroup, weakref.proxy(backend) if backend.level else backend

    def compose(*operands: Any, **params: Any) -> Any:
        tensors = [o if o.__class__ in SCALARS else wrap(o, device) for o in operands]
        result = body(*regroup(tensors), **params)
        return tuple(r._data for r in result) if isinstance(result, tuple | list) else result._data

    compose.__name__ = compose.__qualname__ = f"{op.name}.body"
    compose.composed = True  # type: ignore[attr-defined]
    return compose


def elsewhere(
    op: Op, dtype: DType, here: Backend, there: Backend, move: Callable[..., Any]
) -> Callable[..., Any]:
    """A kernel that runs on another backend, with copies both ways: asked for by CORELIB_FALLBACK, and
    logged.
    """

    def copy_and_call(*operands: Any, **params: Any) -> Any:
        arrays = [o if isinstance(o, SCALARS) else move(array=o, source=here, target=there) for o in operands]
        result = there.tables[dtype][op.index](*arrays, **params)
        if isinstance(result, tuple):
            return tuple(move(array=r, source=there, target=here) for r in result)
        return move(array=result, source=there, target=here)

    copy_and_call.how = "elsewhere"  # type: ignore[attr-defined]
    return copy_and_call


def widened(op: Op, backend: Backend, dtype: DType) -> Callable[..., Any]:
    """A kernel for float16 or bfloat16 of an op that computes: the op on float32, its result rounded once."""
    tables, cast = backend.tables, calls.astype.op.index

    def widen_and_call(*operands: Any, **params: Any) -> Any:
        wide = [
            o
            if o.__class__ in SCALARS or as_dtype(o.dtype) is not dtype
            else tables[o.dtype][cast](o, dtype=float32)
            for o in operands
        ]
        given = {name: float32 if value is dtype else value for name, value in params.items()}
        result = tables[float32][op.index](*wide, **given)
        if params.get("dtype", dtype) is not dtype:
            return result
        if isinstance(result, tuple):
            return tuple([narrow(r) for r in result])
        return narrow(result)

    def narrow(result: Any) -> Any:
        if as_dtype(result.dtype) is not float32:
            return result
        return tables[result.dtype][cast](result, dtype=dtype)

    widen_and_call.how = "widened"  # type: ignore[attr-defined]
    return widen_and_call


def casting(op: Op, backend: Backend, dtype: DType) -> Callable[..., Any]:
    """A kernel for integers and booleans of an op that computes in a floating dtype."""
    tables = backend.tables

    def cast_and_call(*operands: Any, **params: Any) -> Any:
        cast = calls.astype.op.index
        arrays: list[Any] = [
            float(o) if o.__class__ in (bool, int, float) else tables[o.dtype][cast](o, dtype=dtype)
            for o in operands
        ]
        return tables[dtype][op.index](*arrays, **params)

    cast_and_call.how = "cast"  # type: ignore[attr-defined]
    return cast_and_call
