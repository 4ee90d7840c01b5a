"""Scaled dot-product attention and its gradient, in memory linear in the lengths: which kernel, its arguments, its launches.
The kernels are in attention.cu, and in attention_mma.cu those that use tensor cores: for float16 and bfloat16 of up to 128
features, where rows are made of whole packets of 16 bytes.

What they do not do is left to the ops' bodies: results of more than 128 features, a floating mask that needs a gradient,
and, where a gradient is asked for, operands whose leading axes broadcast.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from corelib.plugin_api import dtypes

from . import launch, layout
from .copy import contiguous
from .half import NAMES as HALF
from .half import named, storage, stored
from .launch import cupy
from .movement import cast

SIDE = 16  # threads along a side of a block, as in attention.cu
BATCH_AXES = 6
OPERANDS = ("q", "k", "v", "g", "mask")
MOST = 128  # features of a result
PROBLEM = np.dtype([
    *((name, np.int64) for name in ("queries", "keys", "features", "values")),
    ("row", np.int64, len(OPERANDS)), ("mask_column", np.int64), ("batch_axes", np.int64),
    ("size", np.int64, BATCH_AXES), ("stride", np.int64, (len(OPERANDS), BATCH_AXES)),
    ("causal", np.int64), ("mask_kind", np.int64), ("scale", np.float64),
])  # fmt: skip
READ = "const T* q, const T* k, const T* v, const T* mask, const T* g"
ENTRIES = {  # kernel: template and parameters before the problem, T being the arrays' type and A that of the arithmetic
    "attention": ("attention<T, A, R, C, false>", f"{READ}, T* out, A* log_sum, A* mean"),
    "attention_sums": ("attention<T, A, R, C, true>", f"{READ}, T* out, A* log_sum, A* mean"),
    "query_gradient": ("query_gradient<T, A, R, C>", f"{READ}, const A* log_sum, const A* mean, T* q_out"),
    "key_gradient": (
        "key_gradient<T, A, R, C>",
        f"{READ}, const A* log_sum, const A* mean, T* k_out, T* v_out",
    ),
}
BY_TENSOR_CORES = {  # the same kernel's template in attention_mma.cu
    "attention": "attention_mma<T, D, false>",
    "attention_sums": "attention_mma<T, D, true>",
    "query_gradient": "query_gradient_mma<T, D>",
    "key_gradient": "key_gradient_mma<T, D>",
}
TENSOR_CORES = 80  # the compute capability from which the tensor cores take both 16-bit dtypes
ROWS, THREADS = 64, 128  # of a block of attention_mma.cu


def computed_in(dtype: str) -> str:
    return "float32" if dtype in HALF else dtype


def tile_rows(dtype: str) -> int:
    """Rows of queries, or of keys, that a block takes."""
    return SIDE * (2 if dtype == "float64" else 4)


@functools.cache
def kernel(name: str, dtype: str, columns: int, tensor: bool) -> launch.Kernel:
    """The entry point for results of up to ``columns`` features, 64 or 128."""
    template, parameters = ENTRIES[name]
    for short, long in {"T*": f"{dtype}*", "A*": f"{computed_in(dtype)}*"}.items():
        parameters = parameters.replace(short, long)
    if tensor:
        file, template = "attention_mma.cu", BY_TENSOR_CORES[name].replace("T, D", f"{dtype}, {columns}")
    else:
        types = f"{dtype}, {computed_in(dtype)}, {tile_rows(dtype) // SIDE}, {columns // SIDE}"
        file, template = "attention.cu", template.replace("T, A, R, C", types)
    names = ", ".join(p.split()[-1] for p in parameters.split(","))
    entry_name = f"{name}_{dtype}_{columns}{'_tensor' if tensor else ''}"
    entry = (
        f'extern "C" __global__ void __launch_bounds__({THREADS if tensor else SIDE * SIDE}, 1) {entry_name}({parameters}, '
        f"const __grid_constant__ Problem problem) {{ {template}({names}, problem); }}"
    )
    return launch.Kernel(file, entry_name, entry)


def every_kernel(tensor: bool) -> Iterator[launch.Kernel]:
    """Each kernel of attention.cu, or of attention_mma.cu: what the tests compile."""
    for dtype in dtypes.HALF if tensor else (*dtypes.FLOATING, *dtypes.HALF):
        for columns in (64, 128):
            for name in ENTRIES:
                yield kernel(name, dtype.name, columns, tensor)


class _Job:
    """What the kernels of one call share: dense rows, the struct `Problem`, and the operands in its order."""

    def __init__(self, q: Any, k: Any, v: Any, mask: Any, g: Any, causal: bool, scale: float | None) -> None:
        self.dtype = dtypes.as_dtype(q.dtype)
        kind = 0 if mask is None else 1 if mask.dtype.kind == "b" else 2
        if kind == 2:
            mask = cast(mask, self.dtype.name)
        given = [None if x is None else _dense_rows(stored(x)) for x in (q, k, v, g, mask)]
        self.batch = np.broadcast_shapes(*(x.shape[:-2] for x in given[:3] if x is not None))
        (self.queries, self.features), (self.keys, self.values) = q.shape[-2:], v.shape[-2:]
        if kind:
            given[4] = cupy().broadcast_to(stored(mask), (*mask.shape[:-2], self.queries, self.keys))
        strides = [
            [0] * len(self.batch)
            if x is None
            else layout.broadcast_strides(x.shape[:-2], _steps(x)[:-2], self.batch)
            for x in given
        ]
        sizes, merged = layout.merge(self.batch, strides)
        self.possible = len(sizes) <= BATCH_AXES
        self.operands = [given[0] if x is None else x for x in (*given[:3], given[4], given[3])]
        self.matrices = math.prod(self.batch)
        if not self.possible:
            return
        self.problem = np.zeros(1, PROBLEM)
        one = self.problem[0]
        one["queries"], one["keys"], one["features"], one["values"] = (
            self.queries,
            self.keys,
            self.features,
            self.values,
        )
        one["row"] = [0 if x is None else _steps(x)[-2] for x in given]
        one["mask_column"] = _steps(given[4])[-1] if kind else 0
        one["batch_axes"], one["size"][: len(sizes)] = len(sizes), sizes
        for place, own in enumerate(merged):
            one["stride"][place, : len(sizes)] = own
        one["causal"], one["mask_kind"] = causal, kind
        one["scale"] = 1 / math.sqrt(self.features) if scale is None else scale
        capable = self.dtype in dtypes.HALF and launch.capability(launch.current_device()) >= TENSOR_CORES
        self.tensor = capable and self.packets()

    def empty(self, *shape: int, dtype: str | None = None) -> Any:
        return cupy().ndarray((*self.batch, *shape), storage(dtype or self.dtype.name))

    def packets(self) -> bool:
        """Whether all rows of q, k, v and the cotangent are made of whole packets of 16 bytes."""
        numbers = [self.features, self.values, *self.problem[0]["row"][:4].tolist()]
        numbers += self.problem[0]["stride"][:4].reshape(-1).tolist()
        pointers = [self.operands[place].data.ptr for place in (0, 1, 2, 4)]
        return not any(n % 8 for n in numbers) and not any(pointer % 16 for pointer in pointers)

    def launch(self, name: str, rows: int, columns: int, *results: Any) -> None:
        """A block for each tile of so many rows of each matrix."""
        dtype = self.dtype.name
        tensor = self.tensor and max(self.features, self.values) <= MOST
        if tensor:
            columns = max(self.features, self.values)
        blocks = self.matrices * -(-rows // (ROWS if tensor else tile_rows(dtype)))
        if blocks > launch.MAX_BLOCKS:
            raise ValueError(
                f"{name}: {self.matrices} matrices of {rows} rows take more blocks than CUDA can launch"
            )
        run = kernel(name, dtype, 64 if columns <= 64 else MOST, tensor)
        block = (THREADS,) if tensor else (SIDE, SIDE)
        run((blocks,), block, (*self.operands, *results, self.problem))


def _steps(x: Any) -> list[int]:
    return [s // x.itemsize for s in x.strides]


def _dense_rows(x: Any) -> Any:
    return x if x.shape[-1] == 1 or x.strides[-1] == x.itemsize else contiguous(x)


def _fits(q: Any, k: Any, v: Any, mask: Any) -> bool:
    """Whether the operands are for these kernels; what is wrong with them, a body says."""
    shapes = q.shape, k.shape, v.shape
    if min(map(len, shapes)) < 2 or any(0 in shape for shape in shapes):
        return False
    if q.shape[-1] != k.shape[-1] or k.shape[-2] != v.shape[-2] or v.shape[-1] > MOST:
        return False
    if mask is None:
        return True
    half = dtypes.as_dtype(q.dtype) in dtypes.HALF  # a wider mask would be rounded to it
    return mask.dtype.kind == "b" or mask.dtype == q.dtype or not half


def make_attention(dtype: str, body: Callable[..., Any]) -> Callable[..., Any]:
    """The kernel of `scaled_dot_product_attention`, with the op's body for what it does not do."""

    def attention(q: Any, k: Any, v: Any, mask: Any = None, /, *, causal: bool, scale: float | None) -> Any:
        otherwise = functools.partial(body, q, k, v, mask, causal=causal, scale=scale)
        if not _fits(q, k, v, mask):
            return otherwise()
        job = _Job(q, k, v, mask, None, causal, scale)
        if not job.possible:
            return otherwise()
        out = job.empty(job.queries, job.values)
        job.launch("attention", job.queries, job.values, out, out, out)
        return named(out, job.dtype)

    return attention


def make_attention_gradient(dtype: str, body: Callable[..., Any]) -> Callable[..., Any]:
    """The kernel of `attention_gradient`, with the op's body for what it does not do."""

    def attention_gradient(
        cotangent: Any, q: Any, k: Any, v: Any, mask: Any = None, /, *, causal: bool, scale: float | None
    ) -> tuple[Any, ...]:
        otherwise = functools.partial(body, cotangent, q, k, v, mask, causal=causal, scale=scale)
        same = q.shape[:-2] == k.shape[:-2] == v.shape[:-2] == cotangent.shape[:-2]
        if (
            not same
            or not _fits(q, k, v, mask)
            or q.shape[-1] > MOST
            or (mask is not None and mask.dtype.kind != "b")
        ):
            return otherwise()
        job = _Job(q, k, v, mask, cotangent, causal, scale)
        if not job.possible or cotangent.shape != (*q.shape[:-1], v.shape[-1]):
            return otherwise()
        q_out, k_out, v_out = (job.empty(*x.shape[-2:]) for x in (q, k, v))
        sums = [job.empty(job.queries, dtype=computed_in(job.dtype.name)) for _ in range(2)]
        columns = max(job.features, job.values)
        job.launch("attention_sums", job.queries, job.values, q_out, *sums)
        job.launch("query_gradient", job.queries, columns, *sums, q_out)
        job.launch("key_gradient", job.keys, columns, *sums, k_out, v_out)
        return tuple(named(x, job.dtype) for x in (q_out, k_out, v_out))

    return attention_gradient
