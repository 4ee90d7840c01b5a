"""Generated kernels as functions on arrays: which steps can be part of one, which variant a call takes, its launch.

The texts are emit.py's. A function is made for each shape, and the kernels behind it are shared by all shapes.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np

from corelib.plugin_api import dtypes

from . import emit, half, launch, layout
from .copy import contiguous
from .kernels import kernels
from .launch import cupy
from .movement import cast
from .reduce import power_of_two, reduction

FLAGS = ("--fmad=false",)
BLOCKS = 512  # of a kernel whose blocks write partial results each


def fuses(step: Any) -> bool:
    """Whether a step can be part of a generated kernel: its kernel is ours, nobody wraps it, and its op has a form."""
    op, dtype = step.op, emit.working(step)
    inputs = step.inputs
    if any(x is None for x in inputs) or (op.name == "where" and not hasattr(inputs[0], "dtype")):
        return False
    known = kernels.get(op, dtypes.as_dtype(dtype))
    if known is None or step.kernel is not known and getattr(step.kernel, "one_device", None) is not known:
        return False
    if op.kind == "reduce":
        return op.name in emit.TEMPLATE and dtype in emit.REDUCED and step.outputs[0].dtype.name == dtype
    if op.name == "astype":
        return True
    if step.params or dtype in half.NAMES:
        return False
    arrays = [x for x in inputs[op.name == "where" :] if hasattr(x, "dtype")]
    operands = [f"x{n}" for n in range(1, len(inputs) + 1)]
    return all(x.dtype.name == dtype for x in arrays) and emit.formula(step, operands) is not None


def make(group: Any) -> Callable[..., Any] | None:
    """The function of a group: its inputs' arrays -> its results' arrays; None where none is made."""
    plan = emit.Plan(group)
    if not plan.fits or plan.total == 0:
        return None
    if any(plan.state(x.name) not in ("float32", "float64") for x in plan.partial):
        return None  # sums of integers wrap in unsigned words, which have no sum of their own here
    if plan.plain and plan.flat:
        run: Any = _Flat(plan)
    else:
        run = _Rows(plan)
        if not run.possible():
            return None
    several = len(group.results) > 1
    order = [x.name for x in (*plan.whole, *plan.partial)]
    places = [order.index(x.name) for x in group.results]
    named = [x.dtype for x in group.results]

    def kernel(*arrays: Any) -> Any:
        found = run([half.stored(a) for a in arrays])
        results = [half.named(found[place], dtype) for place, dtype in zip(places, named, strict=True)]
        return tuple(results) if several else results[0]

    return kernel


@functools.cache
def _kernel(text: str) -> launch.Kernel:
    name = f"group_{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    return launch.Kernel("group.cu", name, text.replace("NAME", name, 1), FLAGS)


class _Function:
    """What both ways share: numbers as the kernel takes them, arrays for the results."""

    def __init__(self, plan: emit.Plan) -> None:
        self.plan = plan
        self.numbers = tuple(half.storage(dtype).type(value) for dtype, value in plan.numbers)
        self.results = [(x.shape, half.storage(x.dtype.name)) for x in plan.whole]

    def outputs(self) -> list[Any]:
        array = cupy().ndarray
        return [array(shape, dtype) for shape, dtype in self.results]


class _Flat(_Function):
    """Elements in any order: packets where every array is dense, else by strides."""

    def __init__(self, plan: emit.Plan) -> None:
        super().__init__(plan)
        self.packet = plan.packet()
        self.shape = plan.group.shape
        self.unit = [x.name in plan.units for x in plan.group.inputs]

    def __call__(self, arrays: list[Any]) -> list[Any]:
        cp, n, packet = cupy(), self.plan.total, self.packet
        outs = self.outputs()
        dense = all(
            unit
            or (a.shape == self.shape and a.flags.c_contiguous and a.data.ptr % (packet * a.itemsize) == 0)
            for a, unit in zip(arrays, self.unit, strict=True)
        )
        if dense:
            bits, index = (32, np.uint32) if n < layout.INDEX_LIMIT else (64, np.uint64)
            threads = max(n // packet, min(n, packet))
            kernel = _kernel(emit.dense(self.plan, packet, bits))
            kernel(launch.blocks_for(threads), (launch.THREADS,), (*outs, *arrays, *self.numbers, index(n)))
            return outs
        strides = [
            layout.broadcast_strides(a.shape, [s // a.itemsize for s in a.strides], self.shape)
            for a in arrays
        ]
        sizes, merged = layout.merge(self.shape, strides)
        if len(sizes) > layout.MAX_DIMS:
            return self([contiguous(cp.broadcast_to(a, self.shape)) for a in arrays])
        far = max(n, *(layout.reach(sizes, s) for s in merged))
        bits, index = (32, np.uint32) if far < layout.INDEX_LIMIT else (64, np.uint64)
        kernel = _kernel(emit.strided(self.plan, bits))
        walk = layout.packed(sizes, merged, bits)
        kernel(launch.blocks_for(n), (launch.THREADS,), (*outs, *arrays, *self.numbers, index(n), walk))
        return outs


class _Rows(_Function):
    """Rows, each shared by the threads of a block or a warp of it."""

    def __init__(self, plan: emit.Plan) -> None:
        super().__init__(plan)
        size = max(plan.held_bytes(), 1)
        # a thread of a block of 1024 has 64 registers: too few for sums beside the row, or for float64's functions
        most = 512 if plan.partial or plan.wide() else 1024
        self.most = min(32, 1 << (emit.HELD // size).bit_length() - 1) if size <= emit.HELD else 0
        self.columns = plan.columns
        self.elements = 0
        if self.most:
            self.elements = max(self.most // 4, 1) if self.columns <= self.most // 4 * 32 else self.most
        self.threads = min(max(power_of_two(-(-self.columns // max(self.elements, 1))), 32), most)
        if self.elements * self.threads < self.columns:
            self.elements, self.threads = 0, 1024
        self.per_block = max(1, 128 // self.threads)
        self.packet = min(plan.packet(), self.elements)
        if self.packet and (plan.columns % self.packet or plan.flat and plan.total % self.packet):
            self.packet = 1
        blocks = -(-plan.rows // self.per_block)
        self.blocks = min(blocks, BLOCKS if plan.partial else launch.MAX_BLOCKS)
        self.parts = self.blocks * self.per_block
        words = [n for x in plan.group.inputs for pair in plan.walks[x.name].outer for n in pair]
        self.words = tuple(map(np.int64, (*words, plan.rows, plan.columns, plan.total)))
        self.aligned = [plan.walks[x.name].varies for x in plan.group.inputs]

    def possible(self) -> bool:
        """A sum over columns is held in registers: rows that do not fit there have none."""
        columns = any(self.plan.kinds[x.name] == "column" for x in self.plan.partial)
        return self.elements > 0 or not columns

    def __call__(self, arrays: list[Any]) -> list[Any]:
        cp, plan, packet = cupy(), self.plan, self.packet
        arrays = [contiguous(a) for a in arrays]
        if packet > 1 and any(
            a.data.ptr % (packet * a.itemsize) for a, look in zip(arrays, self.aligned, strict=True) if look
        ):
            packet = 1
        outs, parts = self.outputs(), []
        for x in plan.partial:
            shape = (self.parts, self.columns) if plan.kinds[x.name] == "column" else (self.parts,)
            parts.append(cp.ndarray(shape, np.dtype(plan.state(x.name))))
        kernel = _kernel(emit.Rows(plan, self.elements, packet or 1, max(self.threads, 256)).text())
        kernel(
            (self.blocks,),
            (self.threads, self.per_block),
            (*outs, *parts, *arrays, *self.numbers, *self.words),
        )
        for x, part in zip(plan.partial, parts, strict=True):
            state, result = plan.state(x.name), x.dtype.name
            whole = reduction(plan.of[x.name].op.name, state, state)(part, (-part.ndim,), False)
            outs.append((whole if state == result else cast(whole, result)).reshape(x.shape))
        return outs
