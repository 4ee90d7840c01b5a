"""Element-wise kernels: families generated from one description each.

A description is an expression on operands x, y and z. Below a measured number of elements a kernel is a NumPy
ufunc, or a few of them where NumPy's semantics are not ours; above it, a compiled loop over that expression,
run by the thread team. The loop works on rows: each operand is a run of elements (v) or one element (s) in a
row and has a stride from row to row, which covers scalars, biases and normalisations; other layouts are cut
into such parts along their first axis, or copied.

Fused kernels do not belong here: they are derived from the bodies of composites.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy import asarray, ndarray

from . import launch as team
from . import native, pool
from .movement import contiguous
from .quiet import Scalars, guarded, quiet, run

PARALLEL = 49152  # elements (of cost 1) from which a second thread pays; waking it up costs about 1 us
CROSSOVER = 32768  # elements (of cost 1) below which NumPy is faster
STAGE = 512  # elements on the stack between reading and writing, where a result takes an operand's place
ROW = 8  # shortest row that is worth a loop of its own; shorter ones are copied into longer ones


class Expression(NamedTuple):
    """How one element is computed, in the language of vmath.py. ``T(..)`` stands for a constant of the
    operands' type.
    """

    text: str
    cost: int = 1  # against an addition, for the size of the slices and, unless it is given, the crossover
    crossover: int = 0  # elements, where NumPy's kernel is unusually good or bad


FLOAT = {
    "negative": Expression("-x"),
    "abs": Expression("fabs(x)"),
    "sign": Expression("T(1) if x > T(0) else (T(-1) if x < T(0) else (T(0) if x == T(0) else x))"),
    "floor": Expression("floor(x)"),
    "ceil": Expression("ceil(x)"),
    "trunc": Expression("trunc(x)"),
    "round": Expression("round_even(x)"),
    "sqrt": Expression("sqrt(x)", 4),
    "exp": Expression("exp_T(x)", 4),
    "log": Expression("log_T(x)", 4),
    "erf": Expression("erf_T(x)", 8),
    "isnan": Expression("x != x"),
    "isinf": Expression("fabs(x) == T(inf)"),
    "isfinite": Expression("fabs(x) < T(inf)"),
    "add": Expression("x + y"),
    "subtract": Expression("x - y"),
    "multiply": Expression("x * y"),
    "divide": Expression("x / y"),
    "floor_divide": Expression("floor_divide_T(x, y)", 16),
    "remainder": Expression("remainder_T(x, y)", 16),
    "maximum": Expression("maximum(x, y)", 1, 2048),
    "minimum": Expression("minimum(x, y)", 1, 2048),
    "copysign": Expression("copysign(x, y)"),
}
FLOAT32 = {"tanh": Expression("tanh_T(x)", 6, 65536)}
INTEGER = {
    "negative": Expression("-x"),
    "add": Expression("x + y"),
    "subtract": Expression("x - y"),
    "multiply": Expression("x * y"),
    "maximum": Expression("x if x > y else y"),
    "minimum": Expression("x if x < y else y"),
    "bitwise_and": Expression("x & y"),
    "bitwise_or": Expression("x | y"),
    "bitwise_xor": Expression("x ^ y"),
    "bitwise_invert": Expression("~x"),
}
EVERY = {
    "equal": Expression("x == y"),
    "not_equal": Expression("x != y"),
    "less": Expression("x < y"),
    "less_equal": Expression("x <= y"),
    "greater": Expression("x > y"),
    "greater_equal": Expression("x >= y"),
    "where": Expression("y if x != 0 else z"),
}
BOOLEAN_RESULT = {
    "equal", "not_equal", "less", "less_equal", "greater", "greater_equal", "isnan", "isinf", "isfinite",
}  # fmt: skip


def expression(name: str, dtype: str) -> Expression | None:
    """The description of an op's compiled kernel for a dtype, or None where NumPy's is used at every size."""
    found = EVERY.get(name)
    if found is None and dtype.startswith("float"):
        found = FLOAT.get(name) or (FLOAT32.get(name) if dtype == "float32" else None)
    elif found is None and dtype != "bool":
        found = INTEGER.get(name)
    return found and found._replace(text=found.text.replace("_T(", f"_{dtype}(").replace("T(", f"{dtype}("))


def source(text: str, dtypes: tuple[str, ...], result: str, kinds: str) -> str:
    """The kernel of one expression; `kinds` says for each operand whether it varies (v) along a row or not
    (s). With a "!" at the end the result may stand where an operand does: a loop that writes where it reads is
    not vectorised, so that it then goes through a stage on the stack (7 us instead of 17 for 200k elements).

    Words: address of the result, elements in a row, then for each operand its address and its stride from row
    to row.
    """
    in_place = kinds.endswith("!")
    kinds = kinds.removesuffix("!")
    names = "xyz"[: len(kinds)]
    size = np.dtype(result).itemsize
    rows: list[str] = []
    scalars: list[tuple[str, str]] = []
    elements: list[tuple[str, str]] = []
    for i, (name, kind, dtype) in enumerate(zip(names, kinds, dtypes, strict=True)):
        offset = f" + column * {np.dtype(dtype).itemsize}" if kind == "v" else ""
        rows.append(f"        p{name} = at_{dtype}(words[{2 + 2 * i}] + row * words[{3 + 2 * i}]{offset})")
        (elements if kind == "v" else scalars).append((name, f"p{name}[{'i' if kind == 'v' else 0}]"))
    loop = [f"        {name} = {value}" for name, value in scalars]
    if in_place:
        loop += [
            "        done = 0",
            "        while done < count:",
            "            part = count - done",
            f"            if part > {STAGE}:",
            f"                part = {STAGE}",
            "            for i in range(part):",
            *[f"                {name} = {value.replace('[i]', '[done + i]')}" for name, value in elements],
            f"                stage[i] = {text}",
            "            for i in range(part):",
            "                out[done + i] = stage[i]",
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

    __slots__ = ("_address", "_dtypes", "_plans", "_result", "_text", "dtype", "itemsize", "parallel")

    def __init__(self, text: Expression, dtypes: tuple[str, ...], result: str) -> None:
        self._text, self._dtypes, self._result = text.text, dtypes, result
        self.dtype = np.dtype(result)
        self.itemsize = self.dtype.itemsize
        self.parallel = PARALLEL // text.cost
        self._address: dict[str, int] = {}
        self._plans: dict[Any, Any] = {}  # shapes and strides of operands -> how to run; planning costs 8 us

    def address(self, kinds: str) -> int:
        found = self._address.get(kinds)
        if found is None:
            found = native.address(source(self._text, self._dtypes, self._result, kinds))
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
                return _stored(self._general(operands), out)
            words += (operand, 0)
        if out is None:
            out = pool.empty(shape, self.dtype, count * self.itemsize)
        elif out.shape != shape or not out.flags.c_contiguous:
            return _stored(self(*operands), out)
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
        if rows is None and len(shape) > 2 and out[0].size >= 1024:
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


def _stored(result: ndarray, out: ndarray | None) -> ndarray:
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


# --- kernels ------------------------------------------------------------------------------------------------


def unary(
    small: Callable[[ndarray], Any] | None, loop: Loop | None, crossover: int
) -> Callable[[ndarray], ndarray]:
    """A kernel of one operand: `small` below the crossover, the compiled loop above it."""
    if small is None:
        assert loop is not None
        return lambda x: loop(x)
    large = loop or _numpy_large(small)

    def kernel(x: ndarray) -> ndarray:
        if x.size < crossover:
            try:
                r = run(small, x)
            except RuntimeError:
                r = guarded(small, x)
            return r if r.__class__ is ndarray else asarray(r)
        return large(x)

    def into(out: ndarray, x: ndarray) -> ndarray:
        if x.size < crossover and small in SAME_DTYPE:
            try:
                return run(small, x, out)
            except RuntimeError:
                return guarded(small, x, out)
        return loop.into(out, x) if loop is not None and x.size >= crossover else _stored(kernel(x), out)

    if small in SAME_DTYPE:  # the result has the operand's dtype, and is never a view of it
        kernel.into = into  # type: ignore[attr-defined]
    return kernel


def binary(
    small: Callable[..., Any], loop: Loop | None, scalars: Scalars, crossover: int
) -> Callable[..., ndarray]:
    """A kernel of two operands, one of which may be a Python scalar."""
    large = loop or _numpy_large(small)

    def kernel(x1: Any, x2: Any) -> ndarray:
        if x1.__class__ is not x2.__class__:
            if x1.__class__ is ndarray:
                x2 = scalars(x2)
            else:
                x1 = scalars(x1)
        if x1.size < crossover > x2.size:
            try:
                r = run(small, x1, x2)
            except RuntimeError:
                r = guarded(small, x1, x2)
            return r if r.__class__ is ndarray else asarray(r)
        return large(x1, x2)

    def into(out: ndarray, x1: Any, x2: Any) -> ndarray:
        if x1.__class__ is not x2.__class__:
            if x1.__class__ is ndarray:
                x2 = scalars(x2)
            else:
                x1 = scalars(x1)
        if x1.size < crossover > x2.size and small in SAME_DTYPE:
            try:
                return run(small, x1, x2, out)
            except RuntimeError:
                return guarded(small, x1, x2, out)
        if loop is not None and (x1.size >= crossover or x2.size >= crossover):
            return loop.into(out, x1, x2)
        return _stored(kernel(x1, x2), out)

    kernel.into = into  # type: ignore[attr-defined]
    return kernel


def select(loop: Loop, scalars: Scalars) -> Callable[..., ndarray]:
    """The kernel of ``where``."""

    def where(condition: ndarray, x1: Any, x2: Any) -> ndarray:
        if x1.__class__ is not ndarray:
            x1 = scalars(x1)
        elif x2.__class__ is not ndarray:
            x2 = scalars(x2)
        if condition.size < CROSSOVER and x1.size < CROSSOVER and x2.size < CROSSOVER:
            return np.where(condition, x1, x2)
        return loop(condition, x1, x2)

    return where


def _numpy_large(small: Callable[..., Any]) -> Callable[..., ndarray]:
    """NumPy's own loop, into a reused buffer where the shape and dtype of the result are known."""

    def large(x: ndarray, *others: ndarray) -> ndarray:
        if small in SAME_DTYPE and all(other.shape in (x.shape, ()) for other in others):
            return quiet(small, x, *others, out=pool.empty(x.shape, x.dtype, x.nbytes))
        return quiet(small, x, *others)

    return large


def _identity(x: ndarray) -> ndarray:
    return x.view()


def _false(x: ndarray) -> ndarray:
    return np.zeros(x.shape, bool)


def _true(x: ndarray) -> ndarray:
    return np.ones(x.shape, bool)


# --- where NumPy's semantics are not ours -------------------------------------------------------------------


def _maximum(x1: ndarray, x2: ndarray) -> ndarray:
    """NumPy's maximum of +0 and -0 depends on their order and on the machine; +0 is larger."""
    r = np.maximum(x1, x2)
    if np.count_nonzero(r) != r.size:
        r = np.where(np.equal(x1, x2) & np.equal(r, 0), np.add(x1, x2), r)
    return r


def _minimum(x1: ndarray, x2: ndarray) -> ndarray:
    r = np.minimum(x1, x2)
    if np.count_nonzero(r) != r.size:
        r = np.where(np.equal(x1, x2) & np.equal(r, 0), -np.add(-x1, -x2), r)
    return r


def _floor_divide(x1: ndarray, x2: ndarray) -> ndarray:
    """NumPy's inf // x is NaN; and in float32 its quotient is rounded twice."""
    r = np.floor_divide(x1, x2, dtype=np.float64).astype(x1.dtype)
    infinite = np.isinf(x1)
    return np.where(infinite, np.divide(x1, x2), r) if infinite.any() else r


def _integer_power(x1: ndarray, x2: ndarray) -> ndarray:
    """NumPy refuses negative exponents; the exact result is truncated."""
    below = np.less(x2, 0)
    if not below.any():
        return np.power(x1, x2)
    r = np.power(x1, np.where(below, x2.dtype.type(0), x2))
    inverse = np.where(x1 == 1, x1, np.where(x1 == -1, 1 - 2 * (x2 & 1), 0))
    return np.where(below, inverse, r).astype(x1.dtype)


def _power(x1: ndarray, x2: ndarray) -> ndarray:
    """Squares are exact to the last bit and far cheaper; for one exponent of 1/2 NumPy takes square roots, of
    -0 and -inf as well.
    """
    if not x2.ndim and x2 == 2:
        return np.multiply(x1, x1)
    r = np.power(x1, x2)
    if x2.size and (x2.size == 1 or not any(x2.strides)) and x2.flat[0] == 0.5:
        return np.where(np.equal(x1, -np.inf), r.dtype.type(np.inf), np.add(r, 0))
    return r


# --- the ops ------------------------------------------------------------------------------------------------

NUMPY = {
    "negative": np.negative, "abs": np.absolute, "sign": np.sign, "bitwise_invert": np.invert, "floor": np.floor,
    "ceil": np.ceil, "round": np.rint, "trunc": np.trunc, "sqrt": np.sqrt, "exp": np.exp, "expm1": np.expm1, "log": np.log,
    "log1p": np.log1p, "log2": np.log2, "log10": np.log10, "sin": np.sin, "cos": np.cos, "tan": np.tan, "asin": np.arcsin,
    "acos": np.arccos, "atan": np.arctan, "sinh": np.sinh, "cosh": np.cosh, "tanh": np.tanh, "asinh": np.arcsinh,
    "acosh": np.arccosh, "atanh": np.arctanh, "isnan": np.isnan, "isinf": np.isinf, "isfinite": np.isfinite,
    "add": np.add, "subtract": np.subtract, "multiply": np.multiply, "divide": np.divide, "floor_divide": np.floor_divide,
    "remainder": np.remainder, "pow": np.power, "atan2": np.arctan2, "hypot": np.hypot, "copysign": np.copysign,
    "nextafter": np.nextafter, "maximum": np.maximum, "minimum": np.minimum, "bitwise_and": np.bitwise_and,
    "bitwise_or": np.bitwise_or, "bitwise_xor": np.bitwise_xor, "bitwise_left_shift": np.left_shift,
    "bitwise_right_shift": np.right_shift, "equal": np.equal, "not_equal": np.not_equal, "less": np.less,
    "less_equal": np.less_equal, "greater": np.greater, "greater_equal": np.greater_equal, "erf": None,
}  # fmt: skip
OURS_FLOAT = {"maximum": _maximum, "minimum": _minimum, "floor_divide": _floor_divide, "pow": _power}
OURS_INTEGER: dict[str, Callable[..., Any]] = {
    "pow": _integer_power, "isnan": _false, "isinf": _false, "isfinite": _true,
    **dict.fromkeys(("floor", "ceil", "round", "trunc"), _identity),
}  # fmt: skip
OURS_BOOL = {**OURS_INTEGER, "abs": _identity, "sign": _identity}
SAME_DTYPE = {function for name, function in NUMPY.items() if function and name not in BOOLEAN_RESULT}
TWO_OPERANDS = {name for name, function in NUMPY.items() if function and function.nin == 2}


def make(name: str, dtype: str) -> Callable[..., ndarray]:
    """The kernel of an element-wise op for operands of one dtype."""
    small: Any = NUMPY.get(name)
    ours = OURS_FLOAT if dtype.startswith("float") else OURS_BOOL if dtype == "bool" else OURS_INTEGER
    small = ours.get(name, small)
    found = expression(name, dtype)
    crossover = min(found.crossover or CROSSOVER // found.cost, CROSSOVER * 2) if found else CROSSOVER
    result = "bool" if name in BOOLEAN_RESULT else dtype
    if name == "where":
        assert found is not None
        return select(Loop(found, ("bool", dtype, dtype), dtype), Scalars(np.dtype(dtype)))
    if name in TWO_OPERANDS:
        loop = Loop(found, (dtype, dtype), result) if found else None
        return binary(small, loop, Scalars(np.dtype(dtype)), crossover)
    return unary(small, Loop(found, (dtype,), result) if found else None, crossover)


# --- astype -------------------------------------------------------------------------------------------------


def make_astype(source_name: str) -> Callable[..., ndarray]:
    """The kernel of ``astype`` for operands of one dtype."""
    casts: dict[str, Callable[[ndarray], ndarray]] = {}

    def astype(x: ndarray, /, *, dtype: Any) -> ndarray:
        cast = casts.get(dtype.name)
        if cast is None:
            cast = casts[dtype.name] = _cast(source_name, dtype.name)
        return cast(x)

    return astype


def _cast(source_name: str, target_name: str) -> Callable[[ndarray], ndarray]:
    target = np.dtype(target_name)
    if source_name == target_name:
        return _identity
    if source_name.startswith("float") and target.kind in "iu":
        text, small = f"to_{target_name}(x)", _saturating(target)
    else:
        text = f"x != {source_name}(0)" if target_name == "bool" else f"{target_name}(x)"
        text, small = text.replace("bool(0)", "0"), lambda x: x.astype(target)
    return unary(small, Loop(Expression(text), (source_name,), target_name), CROSSOVER)


def _saturating(target: np.dtype[Any]) -> Callable[[ndarray], ndarray]:
    """NumPy's cast of what is out of range depends on the machine."""
    limits = np.iinfo(target)
    low, above = float(limits.min), float(limits.max) + (0.0 if target.itemsize == 8 else 1.0)

    def cast(x: ndarray) -> ndarray:
        truncated = np.trunc(x)
        inside = (truncated >= low) & (truncated < above)
        r = np.where(inside, truncated, 0).astype(target)
        if not inside.all():
            r = np.where(x >= above, target.type(limits.max), np.where(x < low, target.type(limits.min), r))
        return r

    return cast
