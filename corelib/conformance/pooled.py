"""Element-wise ops in the grid: operands of every shape from the pools, and each element judged by where its operands
stand in them.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, Literal

from .. import dtypes
from ..dtypes import DType
from ..op import Op
from ..samples import Sample, Values
from ..tensor import Tensor
from ..tree import flatten
from .cases import Case, sampled_dtypes
from .check import Suite
from .compare import Disagreement
from .layouts import axis_of, layout_of, placed_each, raw, repeat, written_to
from .operands import spread, tensors
from .patterns import SIZES, with_tiles
from .place import Result
from .pools import Form, form, table

Shape = tuple[int, ...]
_CODES: dict[int, Literal["B", "H", "I", "Q"]] = {1: "B", 2: "H", 4: "I", 8: "Q"}

# One shape for an operand; for two operands a pair, None for a Python number. Each class of shapes is here: 0-d, empty,
# one element, odd, 2**k and its neighbours, a zero inside, rank 5, and broadcasting along each axis, on either side.
ONE: tuple[Shape, ...] = (
    (), (0,), (3,), (5,), (3, 0, 2), (2, 0), (3, 5), (1, 7), (7, 1), (33, 3), (3, 33), (17, 65), (2, 3, 4), (3, 1, 5), (2, 1, 3, 2, 5),
)  # fmt: skip
TWO: tuple[tuple[Shape | None, Shape | None], ...] = (
    ((5, 7), (5, 1)), ((5, 7), (1, 7)), ((5, 7), (7,)), ((7,), (5, 7)), ((5, 1), (1, 7)), ((), (33,)), ((33,), ()), ((257,), (1,)),
    ((1,), (1025,)), ((4097,), ()), ((33, 1), (1, 65)), ((2, 3, 4), (3, 1)), ((2, 1, 4), (1, 3, 1)), ((0, 3), (3,)), ((2, 1), (1, 0)),
    ((3, 65), (65,)), ((65, 3), (65, 1)), ((1, 3, 2, 3, 2), (2, 3, 2, 3, 2)), ((2, 3, 2, 3, 2), (2, 1, 2, 3, 2)),
    ((2, 3, 1, 3, 2), (2, 3, 2, 3, 2)), ((2, 3, 2, 3, 2), (2, 3, 2, 1, 2)), ((2, 3, 2, 3, 1), (2, 3, 2, 3, 2)), ((33,), None),
    (None, (65,)), ((1025,), None), (None, (5, 7)),
)  # fmt: skip


@functools.lru_cache(maxsize=16)
def shape_points(op: Op, tiles: tuple[int, ...]) -> list[tuple[Shape | None, ...]]:
    """The points of an element-wise op: shapes of its operands in turn."""
    forms = [form(op, d) for d in sampled_dtypes(op)]
    if all(len(v.single) == len(v.slots) for f in forms for v in f.variants):
        return [((),)]
    one: list[tuple[Shape | None, ...]] = [(s,) for s in ONE]
    one[3:3] = [((n,),) for n in with_tiles(SIZES, tiles)]
    two = TWO if any(f.broadcasts and len(v.slots) > 1 for f in forms for v in f.variants) else ()
    numbers = len(op.numbers) > 1
    return [*one, *(pair for pair in two if numbers or None not in pair)]


def pooled(case: Case, s: int) -> tuple[Sample, tuple[str, ...], list[list[int]], int]:
    """A call of an element-wise op: its sample, layouts, the place in its pool of each element of each operand, and
    the variant.
    """
    op, dtype = case.op, case.dtype
    assert dtype is not None
    f: Form = form(op, dtype)
    number = (s + sampled_dtypes(op).index(dtype)) % len(f.variants)
    v = f.variants[number]
    shapes = shape_points(op, case.data.tiles)[s]
    if not f.broadcasts or len(v.slots) == 1:
        shapes = tuple(
            max((x for x in shapes if x is not None), key=lambda x: (len(x), math.prod(x))) for _ in range(1)
        )
    operands: list[Any] = []
    places, names = [], []
    turn = 0
    for slot, kind, pool in zip(v.slots, v.dtypes, v.pools, strict=True):
        if slot in v.single:
            operands.append(Values((), kind, (pool[0],)))
            names.append("plain")
            continue
        shape = shapes[turn % len(shapes)]
        start = (7 * s + (3 * turn if f.broadcasts else 0)) % len(pool)
        n = 1 if shape is None else math.prod(shape)
        index = list(range(len(pool)))
        chosen = (index * (n // len(pool) + 2))[start : start + n]
        if shape is None and slot in op.numbers:
            operands.append(pool[chosen[0]])
        else:
            shape = shape or ()
            name = layout_of(case.placement, s, len(names))
            axis = axis_of(shape, s)
            if name == "repeated" and axis is not None:
                chosen = list(repeat(Values(shape, dtypes.int64, tuple(chosen)), axis).data)
            operands.append(Values(shape, kind, tuple(map(pool.__getitem__, chosen))))
            names.append(name)
        places.append(chosen)
        turn += 1
    return v.sample(op, operands), tuple(names), places, number


def try_pooled(suite: Suite, case: Case, s: int) -> float:
    """A call on the backend under test, judged: the largest distance in ULP."""
    sample, names, places, number = pooled(case, s)
    op = case.op
    shapes = [v.shape for v in tensors(sample)] or [()]
    shape = _broadcast(shapes)
    axes = [axis_of(v.shape, s) for v in tensors(sample)]
    args, kwargs = placed_each(case.op, sample, names, axes, suite.backend)
    found = [y for y in flatten(op.fn(*args, **kwargs))[0] if isinstance(y, Tensor)]
    known = table(suite.oracle, op, case.dtype, number)
    given = iter(
        [
            v.shape
            for i, v in zip(known.variant.slots, _slots(op, sample, known.variant.slots), strict=True)
            if i not in known.variant.single
        ]
    )
    keys = list(zip(*(spread(p, next(given), shape) for p in places), strict=True)) if places else [()]
    suite.asked(lambda _: known.ask(keys), case)
    device = suite.oracle.backend.device
    suite.same_kind(
        [Result(shape, k.result.dtype, (), device) for k in known.kinds],
        [Result(tuple(y.shape), y.dtype, (), y.device) for y in found],
    )
    if problem := written_to(sample, (args, kwargs)):
        raise Disagreement(problem)
    worst = 0.0
    for output, y in enumerate(found):
        given_bytes = raw(y)
        if len(given_bytes) != len(keys) * y.dtype.itemsize:
            raise Disagreement(f"the result of shape {shape} has {len(given_bytes)} bytes of {y.dtype.name}")
        if given_bytes:
            worst = max(
                worst,
                known.judge(output, shape, keys, _bits(given_bytes, y.dtype), y.dtype.unpack(given_bytes)),
            )
    return worst


def _slots(op: Op, sample: Sample, slots: Sequence[int]) -> list[Values]:
    """The operands in the slots; a Python number as 0-d."""
    return [a if isinstance(a := sample.args[i], Values) else Values((), dtypes.bool, (a,)) for i in slots]


def _bits(raw: bytes, dtype: DType) -> Sequence[Any]:
    """Each element's bits as an integer; of a complex number, two."""
    whole = memoryview(raw).cast(_CODES[dtype.real.itemsize])
    return (
        list(zip(whole[::2].tolist(), whole[1::2].tolist(), strict=True))
        if dtype.kind == "complex"
        else whole.tolist()
    )


def _broadcast(shapes: Sequence[Shape]) -> Shape:
    """The shape to which shapes broadcast: 0 where one has 0."""
    rank = max(map(len, shapes))
    full = [(1,) * (rank - len(s)) + s for s in shapes]
    return tuple(next((n for n in sizes if n != 1), 1) for sizes in zip(*full, strict=True))
