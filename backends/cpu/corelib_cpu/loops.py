"""Compiled element-wise loops over one expression each, run by the thread team.

An expression computes one element of the result from elements x, y and z of the operands, in the language of vmath.py
and of varithmetic.py, vcomplex.py and vpower.py, which are its part for complex numbers. A loop works on rows: each
operand is a run of elements (v) or one element (s) in a row and has a stride from row to row, which covers scalars,
biases and normalisations; other layouts are cut into such parts along their first axis, or copied.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray

from . import launch as team
from . import native, pool
from .movement import contiguous
from .quiet import named

PARALLEL = 49152  # elements (of cost 1) from which a second thread pays; waking it up costs about 1 us
STAGE = 4096  # bytes on the stack between reading and writing, where a result takes an operand's place
ROW = 8  # shortest row that is worth a loop of its own; shorter ones are copied into longer ones


class Expression(NamedTuple):
    """How one element is computed, in the language of vmath.py. ``T(..)`` stands for a constant of the
    operands' type.
    """

    text: str
    cost: int = 1  # against an addition, for the size of the slices and, unless it is given, the crossover
    crossover: int = 0  # elements, where NumPy's kernel is unusually good or bad
    unless: str = ""  # where this holds, an element is computed by ..
    careful: str = ""  # .. an expression that knows all cases, and no vectors


def source(expression: Expression, dtypes: tuple[str, ...], result: str, kinds: str) -> str:
    """The kernel of one expression; `kinds` says for each operand whether it varies (v) along a row or not
    (s). With a "!" at the end the result may stand where an operand does: a loop that writes where it reads is
    not vectorised, so that it then goes through a stage on the stack (7 us instead of 17 for 200k elements).

    Words: address of the result, elements in a row, then for each operand its address and its stride from row
    to row.
    """
    text, unless, careful = expression.text, expression.unless, expression.careful
    in_place = kinds.endswith("!")
    kinds = kinds.removesuffix("!")
    names = "xyz"[: len(kinds)]
    size = named(result).itemsize
    rows: list[str] = []
    scalars: list[tuple[str, str]] = []
    elements: list[tuple[str, str]] = []
    for i, (name, kind, dtype) in enumerate(zip(names, kinds, dtypes, strict=True)):
        offset = f" + column * {named(dtype).itemsize}" if kind == "v" else ""
        rows.append(f"        p{name} = at_{dtype}(words[{2 + 2 * i}] + row * words[{3 + 2 * i}]{offset})")
        (elements if kind == "v" else scalars).append((name, f"p{name}[{'i' if kind == 'v' else 0}]"))
    loop = [f"        {name} = {value}" for name, value in scalars]
    if in_place or unless:
        reads = [f"                {name} = {value.replace('[i]', '[done + i]')}" for name, value in elements]
        every = "            for i in range(part):"
        correction = [
            "            special = 0",
            every,
            *reads,
            f"                special |= 1 if {unless} else 0",
            "            if special != 0:",
            *[f"    {line}" for line in (every, *reads)],
            f"                    if {unless}:",
            f"                        stage[i] = {careful}",
        ]
        loop += [
            "        done = 0",
            "        while done < count:",
            "            part = count - done",
            f"            if part > {STAGE // max(size, 8)}:",
            f"                part = {STAGE // max(size, 8)}",
            *([] if in_place else [f"            stage = at_{result}(words[0] + (lo + done) * {size})"]),
            every,
            *reads,
            f"                stage[i] = {text}",
            *(correction if unless else []),
            *([every, "                out[done + i] = stage[i]"] if in_place else []),
            "            done += part",
        ]
    else:
        loop += ["        for i in range(count):"]
        loop += [f"            {name} = {value}" for name, value in elements]
        loop += [f"            out[i] = {text}"]
    lines = [
        "def kernel(lo, hi, args):",
        *([f"    stage = at_{result}(stack_words(0))"] if in_place else []),
        "    words = at_int64(args)",
        "    columns = words[1]",
        "    row = lo // columns",
        "    column = lo - row * columns",
        "    while lo < hi:",
        "        count = columns - column",
        "        if count > hi - lo:",
        "            count = hi - lo",
        f"        out = at_{result}(words[0] + lo * {size})",
        *rows,
        *loop,
        "        lo += count",
        "        row += 1",
        "        column = 0",
    ]
    return "\n".join(lines) + "\n"


class Loop:
    """The compiled kernels of one op and dtype: one for each combination of operands that vary or do not."""

    __slots__ = (
        "_address", "_dtypes", "_expression", "_plans", "_result", "dtype", "itemsize", "parallel", "same",
    )  # fmt: skip

    def __init__(self, expression: Expression, dtypes: tuple[str, ...], result: str, move: str = "") -> None:
        self._expression, self._dtypes, self._result = expression, dtypes, result
        self.dtype = named(move or result)  # what is moved and not computed may pass as integers
        self.itemsize = self.dtype.itemsize
        self.same = all(dtype == result for dtype in dtypes)  # of the operands and the result
        self.parallel = PARALLEL // expression.cost
        self._address: dict[str, int] = {}
        self._plans: dict[Any, Any] = {}  # shapes and strides of operands -> how to run; planning costs 8 us

    def address(self, kinds: str) -> int:
        found = self._address.get(kinds)
        if found is None:
            found = native.address(source(self._expression, self._dtypes, self._result, kinds))
            self._address[kinds] = found
        return found

    def chunk(self, count: int) -> int:
        """Elements in one slice of the work: four slices per thread, of whole cache lines."""
        if count < self.parallel:
            return count
        return max(-(-count // (4 * team.get_num_threads())) + 63 & -64, self.parallel >> 2)

    def __call__(self, *operands: ndarray) -> ndarray:
        """The result for arrays of any layout that can be broadcast together."""
        return self.into(None, *operands)

    def into(self, out: ndarray | None, *operands: ndarray) -> ndarray:
        """The result in `out`, which may be one of the operands: each element is read before it is written."""
        first = operands[0]
        shape, count = first.shape, first.size
        words: list[Any] = []
        kinds = ""
        for operand in operands:
            flags = operand.flags
            if operand.shape == shape and flags.c_contiguous and flags.aligned:
                kinds += "v"
            elif not operand.ndim and flags.aligned and first.ndim:
                kinds += "s"
            else:
                return stored(self._general(operands), out)
            words += (operand, 0)
        if out is None:
            out = pool.empty(shape, self.dtype, count * self.itemsize)
        elif out.shape != shape or not out.flags.c_contiguous:
            return stored(self(*operands), out)
        elif any(operand is out for operand in operands):
            kinds += "!"
        if not count:
            return out
        return team.launch(self.address(kinds), count, self.chunk(count), out, count, *words)

    def _general(self, operands: tuple[ndarray, ...]) -> ndarray:
        key = tuple([(operand.shape, operand.strides) for operand in operands])
        plan = self._plans.get(key)
        if plan is None:
            if len(self._plans) >= 1024:
                self._plans.clear()
            shape = np.broadcast_shapes(*[operand.shape for operand in operands])
            count = 1
            for length in shape:
                count *= length
            rows = (
                rows_of(shape, [np.broadcast_to(operand, shape) for operand in operands]) if count else None
            )
            plan = self._plans[key] = (shape, count, rows)
        shape, count, rows = plan
        if rows is not None:
            columns, kinds, strides = rows
            words: list[Any] = []
            for operand, stride in zip(operands, strides, strict=True):
                if not operand.flags.aligned:
                    break
                words += (operand, stride)
            else:
                out = pool.empty(shape, self.dtype, count * self.itemsize)
                return team.launch(self.address(kinds), count, self.chunk(count), out, columns, *words)
        elif all(operand.flags.f_contiguous and operand.shape == shape for operand in operands):
            return self(*[operand.T for operand in operands]).T
        out = pool.empty(shape, self.dtype, count * self.itemsize)
        if count:
            self._fill(out, [operand if operand.flags.aligned else operand.copy() for operand in operands])
        return out

    def _fill(self, out: ndarray, operands: list[ndarray]) -> None:
        """Writes the result into a C-contiguous array of at least one element, in parts or from copies."""
        shape = out.shape
        operands = [np.broadcast_to(operand, shape) for operand in operands]
        rows = rows_of(shape, operands)
        if rows is None and len(shape) > 2 and out[0].size >= 16384:  # a part costs 8 us, and a copy 16
            for i in range(shape[0]):
                self._fill(out[i], [operand[i] for operand in operands])
            return
        if rows is None:
            operands = [contiguous(x) if any(x.strides) else x for x in operands]
            rows = rows_of(shape, operands)
            assert rows is not None
        columns, kinds, strides = rows
        words: list[Any] = []
        for operand, stride in zip(operands, strides, strict=True):
            words += (operand, stride)
        team.launch(self.address(kinds), out.size, self.chunk(out.size), out, columns, *words)


def stored(result: ndarray, out: ndarray | None) -> ndarray:
    """The result, written to `out` if there is one."""
    if out is None:
        return result
    out[...] = result
    return out


def rows_of(shape: tuple[int, ...], operands: list[ndarray]) -> tuple[int, str, list[int]] | None:
    """Length of a row, kind of each operand in it and stride between rows; None where the operands are no
    such rows.

    >>> rows_of((8, 4), [np.zeros((8, 4)), np.broadcast_to(np.zeros(4), (8, 4))])
    (4, 'vv', [32, 0])
    """
    axes = [i for i, length in enumerate(shape) if length != 1]
    kinds, strides = "", []
    split = 0  # axes[split:] make a row
    for operand in operands:
        size = operand.itemsize
        steps = [operand.strides[i] for i in axes]
        kind, expected, start = "", size, len(axes)
        for position in range(len(axes) - 1, -1, -1):
            step = steps[position]
            here = "v" if step == expected and kind != "s" else "s" if step == 0 and kind != "v" else ""
            if not here:
                break
            kind, start = here, position
            expected *= shape[axes[position]]
        if axes and not kind:
            return None
        kinds += kind or "s"
        split = max(split, start)
    columns = 1
    for i in axes[split:]:
        columns *= shape[i]
    outer = axes[:split]
    if outer and columns < ROW:
        return None
    for operand in operands:
        steps = [operand.strides[i] for i in outer]
        for position in range(len(outer) - 1):
            if steps[position] != steps[position + 1] * shape[outer[position + 1]]:
                return None
        strides.append(steps[-1] if outer else 0)
    return columns, kinds, strides
