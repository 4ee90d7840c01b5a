"""Where the grid tries ops that are not element-wise: shapes, axes and parameters at the sizes at which kernels go
wrong (``patterns.py``). An op that has no entry here is tried on its own samples. This module and ``points_moved.py``
know ops by their names and kinds, and no backend.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ..dtypes import DType
from ..op import SUM_BOUND, Op
from ..samples import Maker, Sample, Values
from . import points_moved as moved
from .operands import tensors
from .patterns import (
    PATTERNS,
    SIZES,
    Point,
    along,
    factors,
    in_order,
    in_turn,
    one,
    ordinary,
    own_samples,
    whole,
    with_tiles,
)


def points(op: Op, tiles: tuple[int, ...] = ()) -> list[Point]:
    """All points of an op that is not element-wise: its own samples, and those of its kind."""
    count = max(len(own_samples(op, dtype)) for dtype in op.rule.accepts)
    own = [
        Point(functools.partial(_nth, op, n), named=functools.partial(_named, op, n)) for n in range(count)
    ]
    more = _BY_NAME.get(op.name) or _BY_KIND.get(op.kind)
    return [*own, *(more(op, tiles) if more else ())]


def _nth(op: Op, n: int, make: Maker, dtype: DType) -> Sample:
    own = own_samples(op, dtype)
    return own[n % len(own)]


def _named(op: Op, n: int, dtype: DType) -> tuple[DType, ...]:
    own = own_samples(op, dtype)
    sample = own[n % len(own)]
    return tuple(a for a in (*sample.args, *sample.kwargs.values()) if isinstance(a, DType))


# -- reductions and scans ------------------------------------------------------------------------------------


def _reductions(op: Op, tiles: tuple[int, ...]) -> Iterator[Point]:
    own = own_samples(op, op.rule.accepts[-1])
    several = any(isinstance(s.kwargs.get("axis"), tuple) for s in own)
    empty = any(
        0 in v.shape and 0 not in _kept(v.shape, s.kwargs.get("axis")) for s in own for v in tensors(s)
    )
    variants = list({repr(k): k for s in own if (k := _other(s.kwargs))}.values()) or [{}]
    adds = op.ulp == SUM_BOUND and op.name != "mean"  # a mean is divided, and may be found in many ways
    judged: float = 0 if op.ulp == SUM_BOUND else op.ulp  # type: ignore[assignment]
    patterns = (factors,) if op.name == "prod" else PATTERNS if judged == 0 else (ordinary,)
    found: list[tuple[tuple[int, ...], Any]] = list(along(with_tiles(SIZES, tiles)))
    if several:
        found += [
            ((65, 3), None),
            ((2, 3, 1, 2, 3), (0, 2)),
            ((2, 3, 1, 2, 3), (-1, 1, 2)),
            ((5, 33, 2), (0, 2)),
            ((3, 2), ()),
        ]
    if empty:
        found += [((0,), 0), ((3, 0), 1), ((2, 0, 3), None)]
    found += [((0, 33), 1), ((3, 0, 2), 0)]
    for number, (shape, axis) in enumerate(found):
        draw = in_turn(patterns, number) if math.prod(shape) else ordinary
        other = (
            variants[number % len(variants)] if math.prod(shape) else {}
        )  # not each norm is one of nothing
        kwargs = {**other, "axis": axis, "keepdims": number % 3 == 1}
        exact = (adds or op.name == "prod") and bool(math.prod(shape))
        yield Point(one(draw, shape, kwargs), exact)


def _kept(shape: tuple[int, ...], axis: Any) -> tuple[int, ...]:
    """The sizes of the axes that are not reduced."""
    gone = range(len(shape)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    return tuple(n for a, n in enumerate(shape) if a not in {g % len(shape) for g in gone})


def _other(kwargs: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in kwargs.items() if k not in ("axis", "keepdims")}


def _scans(op: Op, tiles: tuple[int, ...]) -> Iterator[Point]:
    draw = factors if "prod" in op.name else whole
    for shape, axis in along(with_tiles(SIZES, tiles)):
        yield Point(one(draw, shape, {"axis": axis}), exact=True)


def _rows(op: Op, tiles: tuple[int, ...]) -> Iterator[Point]:
    """One operand and one axis, ordinary numbers."""
    for shape, axis in along(with_tiles(SIZES, tiles)):
        yield Point(one(ordinary, shape, {"axis": axis}))


def _norms(op: Op, tiles: tuple[int, ...]) -> Iterator[Point]:
    """Rows of each size with their weights."""
    for n in with_tiles(SIZES[3:-1], tiles):

        def build(make: Maker, dtype: DType, n: int = n) -> Sample:
            weights = [make.array((n,), dtype) for _ in op.operands[1:]]
            return Sample((make.array((2, n), dtype), *weights), {"axis": -1})

        yield Point(build)


# -- order ---------------------------------------------------------------------------------------------------


def _sorts(op: Op, tiles: tuple[int, ...]) -> Iterator[Point]:
    """Ties everywhere, numbers in order and in reverse, and NaN, infinity and both zeros among them."""
    for number, (shape, axis) in enumerate(along(with_tiles(SIZES, tiles))):
        draw = in_turn((whole, _distinct, in_order, _backwards, _unordered), number)
        yield Point(one(draw, shape, {"axis": axis, "descending": number % 2 == 1}))


def _distinct(make: Maker, shape: Sequence[int], dtype: DType) -> Values:
    return whole(make, shape, dtype) if dtype.bits == 8 else make.distinct(shape, dtype)


def _backwards(make: Maker, shape: Sequence[int], dtype: DType) -> Values:
    x = whole(make, shape, dtype)
    return Values(x.shape, dtype, tuple(sorted(x.data, reverse=True)))


def _unordered(make: Maker, shape: Sequence[int], dtype: DType) -> Values:
    x = whole(make, shape, dtype)
    if dtype.kind != "float" or len(x.data) < 5:
        return x
    data = list(x.data)
    for special in (math.nan, math.inf, -math.inf, -0.0, math.nan):
        data[make.random.randrange(len(data))] = special
    return Values(x.shape, dtype, tuple(data))


def _searches(op: Op, tiles: tuple[int, ...]) -> Iterator[Point]:
    for number, n in enumerate(with_tiles(SIZES, tiles)):

        def build(make: Maker, dtype: DType, n: int = n, side: str = ("left", "right")[number % 2]) -> Sample:
            queries = whole(make, (2, 33), dtype, -6, 6)
            return Sample((in_order(make, (n,), dtype), queries), {"side": side})

        yield Point(build)


_BY_KIND: dict[str, Callable[[Op, tuple[int, ...]], Iterator[Point]]] = {
    "reduce": _reductions,
    "scan": _scans,
}
_BY_NAME: dict[str, Callable[[Op, tuple[int, ...]], Iterator[Point]]] = {
    "softmax": _rows, "log_softmax": _rows, "layer_norm": _norms, "rms_norm": _norms, "sort": _sorts, "argsort": _sorts, "searchsorted": _searches,
    "reshape": moved.reshapes, "permute_dims": moved.permutations, "broadcast_to": moved.broadcasts, "flip": moved.flips, "concat": moved.joins, "pad": moved.pads,
    "strided_slice": moved.slices, "strided_update": moved.updates, "tril": moved.triangles, "triu": moved.triangles, "diagonal": moved.triangles, "matmul": moved.products,
    "vecdot": moved.dots, "linear": moved.linears, "trace": moved.traces, "gather": moved.indexed, "scatter": moved.indexed, "scatter_add": moved.indexed, "take": moved.indexed,
    "nonzero": moved.nonzeros, "arange": moved.ranges, "full": moved.filled, "random_bits": moved.bits, "fft": moved.transforms, "ifft": moved.transforms,
    "rfft": moved.transforms, "irfft": moved.transforms,
}  # fmt: skip
