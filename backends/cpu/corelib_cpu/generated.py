"""Generated kernels as functions on arrays: buffers for the results, the call, the sum of partial results.

The text of a kernel is emit.py's; here is what a call of it costs, about 1.5 us. A function is made for each shape;
the machine code is the same for all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from numpy import ndarray

from corelib.plugin_api import KernelSet, dtypes

from . import contract, emit, native, plan, pool, scalars
from . import launch as team
from .casts import HALF
from .loops import PARALLEL
from .movement import contiguous
from .quiet import named

COMBINE = {"sum": "s + x", "max": "s if s > x else x", "min": "s if s < x else x"}  # of integers
# Words: result, partial results, blocks, columns. A unit is a column; a tile of them is added up on the stack.
_FINISH = """
def kernel(lo, hi, args):
    words = at_int64(args)
    blocks = words[2]
    columns = words[3]
    out = at_{dtype}(words[0])
    total = at_{wide}(stack_words(0))
    while lo < hi:
        width = min(hi - lo, 256)
        part = at_{wide}(words[1] + lo * {size})
        for i in range(width):
            total[i] = part[i]
        for block in range(1, blocks):
            part = at_{wide}(words[1] + (block * columns + lo) * {size})
            for i in range(width):
                s = total[i]
                x = part[i]
                total[i] = {combine}
        for i in range(width):
            out[lo + i] = {dtype}(total[i])
        lo += width
"""
REDUCED = ("float32", "float64", "int32", "int64")


def fuses(kernels: KernelSet, step: Any) -> bool:
    """Whether a step can be part of a generated kernel: its kernel is ours, nobody wraps it, and its op has a form."""
    op, name = step.op, step.op.name
    if name == "pad":
        return _pads(kernels, step)
    arrays = [x for x in step.inputs if hasattr(x, "dtype")]
    dtype = plan.working(step)
    if name == "matmul":
        return _small(step, dtype) and step.kernel is kernels.get(op, dtypes.as_dtype(dtype))
    if any(x is None for x in step.inputs) or step.kernel is not kernels.get(op, dtypes.as_dtype(dtype)):
        return False
    if op.kind == "reduce":
        return dtype in REDUCED and step.params.get("dtype", arrays[0].dtype) is arrays[0].dtype
    if name == "astype":
        return scalars.casts(dtype, step.outputs[0].dtype.name)
    if name == "pow":  # squares, and what is so small that vectors do not matter
        few = math.prod(step.outputs[0].shape) <= scalars.POWERS
        return dtype in ("float32", "float64") and (plan.squares(step) or few)
    if step.params or not scalars.knows(name, dtype):
        return False
    if name == "where":
        return arrays[0] is step.inputs[0] and all(x.dtype.name == dtype for x in arrays[1:])
    return all(x.dtype.name == dtype for x in arrays)


def _pads(kernels: KernelSet, step: Any) -> bool:
    """Whether a padded array can be read as a window of its source."""
    x, fill = step.inputs[0], step.params["constant_value"]
    return (
        step.kernel is kernels.get(step.op, x.dtype)
        and x.dtype.name in scalars.IR
        and x.dtype.name not in HALF
        and fill.__class__ in (bool, int, float)
        and 0 not in x.shape
        and all(width >= 0 for widths in step.params["pad_width"] for width in widths)
    )


def _small(step: Any, dtype: str) -> bool:
    """Whether a product is of two matrices so small that one kernel call does it."""
    first, second = (x.shape for x in step.inputs)
    if len(first) != 2 or len(second) != 2 or not contract.launches(first, second, dtype):
        return False
    return contract.small_enough(*first, second[1])


def make(group: Any) -> Callable[..., Any] | None:
    """The function of a group: its inputs' arrays -> its results' arrays; None where none is made."""
    kernel = _kernel(group, {})
    if kernel is None:
        return None
    return _product(*kernel, ()) if group.product else _function(*kernel, ())


def _kernel(group: Any, strides: dict[str, tuple[int, ...]]) -> tuple[emit.Kernel, int] | None:
    """A group's kernel for inputs of these strides, and the address of its code."""
    kernel = emit.Kernel(group, strides)
    if not kernel.text or len(kernel.names) > emit.WORDS:
        return None
    try:
        return kernel, native.address_of_ir(kernel.text)
    except Exception as error:
        native.log.warning("corelib: cpu: no kernel could be generated for %s: %s", group, error)
        return None


@cache
def finish(name: str, dtype: str) -> int:
    """The kernel that makes one result of partial ones."""
    wide = emit.accumulator(name, dtype)[0]
    combine = COMBINE[name]
    if named(dtype).kind == "f" and name != "sum":
        combine = {"max": "maximum(s, x)", "min": "minimum(s, x)"}[name]
    return native.address(_FINISH.format(dtype=dtype, wide=wide, size=named(wide).itemsize, combine=combine))


def _strided(group: Any, plain: Callable[..., Any], spare: Sequence[int]) -> Callable[..., Any]:
    """The function for inputs some of which are not C-contiguous: a kernel for their strides, if a row is a run of
    elements, or the plain one on copies.
    """
    known: dict[Any, Any] = {}

    def strided(*arrays: ndarray) -> Any:
        key = tuple([a.strides for a in arrays])
        found = known.get(key)
        if found is None:
            others = {
                x.name: a.strides
                for x, a in zip(group.inputs, arrays, strict=True)
                if not a.flags.c_contiguous and a.flags.aligned
            }
            kernel = _kernel(group, others) if others else None
            found = known[key] = _function(*kernel, spare) if kernel else plain
        if found is plain or not all(a.flags.aligned for a in arrays):
            return plain(*[contiguous(a) for a in arrays])
        return found(*arrays)

    return strided


def _function(kernel: emit.Kernel, address: int, spare: Sequence[int]) -> Callable[..., Any]:
    """The source of a call is written out: there is no loop over operands left in it."""
    group = kernel.group
    names = [f"a{i}" for i in range(len(group.inputs))]
    scope: dict[str, Any] = {"empty": pool.empty, "team": team, "address": address}
    lines = [f"def kernel({', '.join(names)}):"]
    if not kernel.strides:
        for name in names:
            lines.append(f"    if not ({name}.flags.c_contiguous and {name}.flags.aligned):")
            lines.append(f"        return strided({', '.join(names)})")
    outs = []
    free = list(spare)
    for i, x in enumerate([*kernel.partial, *kernel.whole]):
        whole = i >= len(kernel.partial)
        if whole:
            shape, dtype = x.shape, named(x.dtype.name)
        else:
            dtype = named(emit.accumulator(kernel.step[x.name].op.name, x.dtype.name)[0])
            shape = (kernel.blocks, kernel.columns) if kernel.kinds[x.name] == "column" else (kernel.blocks,)
        scope |= {f"shape{i}": shape, f"dtype{i}": dtype}
        new = f"empty(shape{i}, dtype{i}, {math.prod(shape) * dtype.itemsize})"
        places = kernel.before[i - len(kernel.partial)] if whole else []
        place = next((n for n in free if n in places), None)
        if place is None:
            lines.append(f"    o{i} = {new}")
        else:
            free.remove(place)
            lines.append(f"    o{i} = a{place} if a{place}.flags.writeable else {new}")
        outs.append(f"o{i}")
    work = kernel.total * max(kernel.cost.values(), default=1)
    if work < PARALLEL or kernel.units == 1:
        lines.append(f"    chunk = {kernel.units}")
    elif kernel.plain:
        each = sum(scalars.COST.get(step.op.name, 1) for step in group.steps)
        least = max(256, min(4096, PARALLEL // (2 * each)))
        lines.append(
            f"    chunk = max(-(-{kernel.units} // (4 * team.get_num_threads())) + 63 & -64, {least})"
        )
    else:
        lines.append(f"    chunk = max({kernel.units} // (8 * team.get_num_threads()), 1)")
    words = [*outs[1:], *names, *map(str, kernel.words)]
    lines.append(f"    team.launch(address, {kernel.units}, chunk, {', '.join([outs[0], *words])})")
    shown = {}
    for i, x in enumerate([*kernel.partial, *kernel.whole]):
        shown[x.name] = f"o{i}"
        if i < len(kernel.partial):
            dtype, columns = named(x.dtype.name), math.prod(x.shape)
            scope |= {
                f"finish{i}": finish(kernel.step[x.name].op.name, dtype.name),
                f"total{i}": x.shape,
                f"kind{i}": dtype,
            }
            lines.append(f"    r{i} = empty(total{i}, kind{i}, {columns * dtype.itemsize})")
            chunk = columns if columns * kernel.blocks < PARALLEL else max(columns // 16, 64)
            lines.append(
                f"    team.launch(finish{i}, {columns}, {chunk}, r{i}, o{i}, {kernel.blocks}, {columns})"
            )
            shown[x.name] = f"r{i}"
    results = [shown[x.name] for x in group.results]
    lines.append(f"    return {results[0] if len(results) == 1 else '(' + ', '.join(results) + ')'}")
    exec(compile("\n".join(lines), "<corelib_cpu generated>", "exec"), scope)
    function = scope["kernel"]
    if not kernel.strides:
        scope["strided"] = _strided(group, function, spare)
    function.ir = kernel.text
    function.sparing = lambda spare: _function(kernel, address, spare)
    return function


def _product(kernel: emit.Kernel, address: int, spare: Sequence[int]) -> Callable[..., Any] | None:
    """The function of an element-wise group after a product of small matrices: its kernel is the product's epilogue."""
    group = kernel.group
    if not kernel.plain or len(kernel.names) > emit.WORDS - 8:
        return None
    x, *others = group.inputs
    a, b = group.product[0].arrays
    names = [f"a{i + 1}" for i in range(len(others))]
    scope: dict[str, Any] = {
        "empty": pool.empty, "team": team, "address": address, "plain": _function(kernel, address, ()), "matmul": group.product[0].kernel,
        "product": contract.product_of(x.dtype.name).small, "matrix": (a.shape[0], b.shape[1]), "shape": x.shape, "kind": named(x.dtype.name),
    }  # fmt: skip
    lines = [f"def kernel({', '.join(['p', 'q', *names])}):"]
    for name in names:
        lines.append(f"    if not ({name}.flags.c_contiguous and {name}.flags.aligned):")
        lines.append(f"        return plain({', '.join(['matmul(p, q).reshape(shape)', *names])})")
    lines.append(f"    c = empty(matrix, kind, {x.nbytes})")
    lines.append(f"    a0 = c{'' if scope['matrix'] == x.shape else '.reshape(shape)'}")
    free = [*(n - 1 for n in spare if n > 1 and group.operands[n] not in (a, b)), 0]
    outs = []
    for i, y in enumerate(kernel.whole):
        scope |= {f"shape{i}": y.shape, f"dtype{i}": named(y.dtype.name)}
        new = f"empty(shape{i}, dtype{i}, {y.nbytes})"
        place = next((n for n in free if n in kernel.before[i]), None)
        if place is not None:
            free.remove(place)
            new = "a0" if place == 0 else f"a{place} if a{place}.flags.writeable else {new}"
        lines.append(f"    o{i} = {new}")
        outs.append(f"o{i}")
    words = ", ".join([*outs, "a0", *names, *map(str, kernel.words)])
    lines.append(f"    team.launch(product, 1, 1, c, p, q, id(p), id(q), address, {words})")
    lines.append(f"    return {outs[0] if len(outs) == 1 else '(' + ', '.join(outs) + ')'}")
    exec(compile("\n".join(lines), "<corelib_cpu generated>", "exec"), scope)
    function = scope["kernel"]
    function.ir = kernel.text
    function.sparing = lambda spare: _product(kernel, address, spare)
    return function
