"""What the points of the grid are made of: the sizes at which kernels go wrong, and values that make the element at a
border matter.

A kernel reads in vectors, tiles and blocks, and what it gets wrong, it gets wrong at the end of one. Sums of small
integers are exact in whatever order they are added; an extreme, or a single one among zeros, stands in the last place.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..dtypes import DType
from ..op import Op
from ..samples import Maker, Sample, Values
from .operands import replaced, representable

SIZES = (1, 2, 7, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 256, 257, 1023, 1024, 1025, 4097)
EDGES = (31, 33, 64, 65, 255, 257)  # sizes of one axis of several
Build = Callable[[Maker, DType], Sample]


@dataclass(frozen=True)
class Point:
    """One call of an op, to be built in a dtype. ``exact``: every correct way of adding gives the same result."""

    build: Build
    exact: bool = False
    named: Callable[[DType], tuple[DType, ...]] = lambda dtype: ()  # the dtypes among its parameters


def with_tiles(sizes: Sequence[int], tiles: Sequence[int]) -> tuple[int, ...]:
    """Sizes, and those around the tiles of a backend's kernels that are not among them."""
    around = [t + i for t in tiles for i in (-1, 0, 1) if t + i > 0]
    return (*sizes, *(n for n in dict.fromkeys(around) if n not in sizes))


@functools.lru_cache(maxsize=64)
def own_samples(op: Op, dtype: DType) -> list[Sample]:
    """An op's own samples in a dtype, as the dtype holds them."""
    return [replaced(s, representable) for s in op.samples(Maker(op.name), dtype)]


def along(sizes: Sequence[int]) -> Iterator[tuple[tuple[int, ...], int]]:
    """Shapes and an axis: each size alone, and the edges as each axis of several."""
    for n in sizes:
        yield (n,), 0
    for n in EDGES:
        yield (3, n), -1
        yield (n, 3), 0
        yield (2, n, 3), 1
    for axis in range(5):
        yield (2, 3, 1, 2, 3), axis


def one(
    draw: Callable[..., Values], shape: Sequence[int], kwargs: dict[str, Any], args: tuple[Any, ...] = ()
) -> Build:
    """A call of one tensor, with further arguments."""
    return lambda make, dtype: Sample((draw(make, shape, dtype), *args), kwargs)


def whole(make: Maker, shape: Sequence[int], dtype: DType, low: int = -4, high: int = 4) -> Values:
    """Small integers in any dtype: their sums and products are exact, and there are ties."""
    low = 0 if dtype.kind in ("uint", "bool") else low
    numbers = range(low, 2 if dtype.kind == "bool" else high + 1)
    return _cast(make.random.choices(numbers, k=math.prod(shape)), shape, dtype, make)


def _cast(numbers: Sequence[Any], shape: Sequence[int], dtype: DType, make: Maker | None = None) -> Values:
    if dtype.kind == "complex":
        other = make.random.sample(numbers, len(numbers)) if make else [0] * len(numbers)
        data: tuple[Any, ...] = tuple(complex(a, b) for a, b in zip(numbers, other, strict=True))
    else:
        data = tuple(map({"bool": bool, "float": float}.get(dtype.kind, int), numbers))
    return Values(tuple(shape), dtype, data)


def high(make: Maker, shape: Sequence[int], dtype: DType) -> Values:
    """The one largest number in the last place."""
    x = whole(make, shape, dtype)
    return Values(
        x.shape, dtype, (*x.data[:-1], _cast([1 if dtype.kind == "bool" else 9], (1,), dtype).data[0])
    )


def low(make: Maker, shape: Sequence[int], dtype: DType) -> Values:
    """The one smallest number in the last place."""
    x = whole(make, shape, dtype, 1, 4)
    low = -9 if dtype.min is None or dtype.min <= -9 else 0
    low = 0 if dtype.kind == "bool" else low
    data = [max(d, 1) for d in x.data[:-1]] if dtype.kind == "uint" else list(x.data[:-1])
    return Values(x.shape, dtype, (*data, _cast([low], (1,), dtype).data[0]))


def lonely(make: Maker, shape: Sequence[int], dtype: DType) -> Values:
    """Zeros, and a one in the last place."""
    return _cast([0] * (math.prod(shape) - 1) + [1], shape, dtype)


def missing(make: Maker, shape: Sequence[int], dtype: DType) -> Values:
    """Ones, and a zero in the last place."""
    return _cast([1] * (math.prod(shape) - 1) + [0], shape, dtype)


def factors(make: Maker, shape: Sequence[int], dtype: DType) -> Values:
    """Numbers whose products are exact in every order: 1, -1 and, in the second half, a few 2 and 1/2; of a complex
    dtype 1, -1, i and -i; of an integer dtype small integers, which may wrap. The last one is never 1.
    """
    n = math.prod(shape)
    if dtype.kind in ("bool", "uint", "int"):
        x = whole(make, shape, dtype, -3, 3)
        return Values(x.shape, dtype, tuple(d or type(d)(1) for d in x.data))
    if dtype.kind == "complex":
        return Values(tuple(shape), dtype, (*make.random.choices((1 + 0j, -1 + 0j, 1j, -1j), k=n - 1), 1j))
    data = make.random.choices((1.0, -1.0), k=n)
    for i in (n - 1, *make.random.choices(range(n // 2, n), k=4)):
        data[i] = make.random.choice((2.0, 0.5, -2.0))
    return Values(tuple(shape), dtype, tuple(data))


PATTERNS = (whole, high, low, lonely, missing)


def in_turn(patterns: Sequence[Callable[..., Values]], number: int) -> Callable[..., Values]:
    """One of the patterns, another one for each dtype: over the dtypes, each size meets each pattern."""
    return lambda make, shape, dtype: patterns[(number + dtype.index) % len(patterns)](make, shape, dtype)


def ordinary(make: Maker, shape: Sequence[int], dtype: DType) -> Values:
    """Ordinary numbers."""
    return make.array(shape, dtype)


def in_order(make: Maker, shape: Sequence[int], dtype: DType) -> Values:
    """Small integers in order."""
    x = whole(make, shape, dtype)
    return Values(x.shape, dtype, tuple(sorted(x.data)))
