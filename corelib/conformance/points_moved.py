"""Points of ops that move elements, multiply matrices, or read and write at computed places."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from ..dtypes import DType, int64
from ..op import SUM_BOUND, Op
from ..samples import Maker, Sample
from .patterns import (
    PATTERNS,
    SIZES,
    Build,
    Point,
    along,
    high,
    in_turn,
    one,
    ordinary,
    own_samples,
    whole,
    with_tiles,
)

# -- movement ------------------------------------------------------------------------------------------------


def _moved(*cases: tuple[tuple[int, ...], tuple[Any, ...], dict[str, Any]]) -> Iterator[Point]:
    """Calls of one tensor with other arguments."""
    return (Point(one(whole, shape, kwargs, args)) for shape, args, kwargs in cases)


def reshapes(op: Op, tiles: tuple[int, ...]) -> Iterator[Point]:
    """Sizes split and joined across borders."""
    shapes: list[tuple[tuple[int, ...], tuple[int, ...]]] = [((33, 31), (31, 33)), ((2, 3, 65), (65, 6)), ((4097,), (17, 241)), ((3, 5, 7), (-1,)), ((2, 3, 1, 2, 3), (6, 6)), ((64, 2), (2, 64)),
              ((2, 3, 4), (4, 3, 2)), ((3, 0, 2), (0, 5)), ((257, 1), (1, 257))]  # fmt: skip
    return _moved(*((s, (to,), {}) for s, to in shapes))


def permutations(op: Op, tiles: tuple[int, ...]) -> Iterator[Point]:
    """Every order of three axes, some of five, and matrices around tiles."""
    cases: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
        ((3, 5, 7), p) for p in itertools.permutations(range(3))
    ]
    cases += [
        ((2, 3, 1, 2, 3), p) for p in ((4, 3, 2, 1, 0), (1, 0, 2, 4, 3), (0, 3, 1, 4, 2), (2, 4, 0, 1, 3))
    ]
    cases += [((n, m), (1, 0)) for n, m in ((31, 33), (33, 65), (64, 64), (65, 31), (1, 257), (257, 17))]
    cases += [((2, 33, 17), (0, 2, 1)), ((33, 2, 17), (2, 0, 1)), ((3, 0, 2), (2, 0, 1))]
    cases += [((t + 1, t - 1), (1, 0)) for t in tiles if 1 < t <= 128]
    return _moved(*((s, (p,), {}) for s, p in cases))


def broadcasts(op: Op, tiles: tuple[int, ...]) -> Iterator[Point]:
    """Each axis of five, and long rows and columns."""
    full = (2, 3, 2, 3, 2)
    cases: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
        (tuple(1 if a == b else n for b, n in enumerate(full)), full) for a in range(5)
    ]
    cases += [
        ((1,), (4097,)),
        ((1, 33), (31, 33)),
        ((33, 1), (33, 65)),
        ((), (65,)),
        ((7,), (2, 3, 7)),
        ((1, 3), (0, 3)),
    ]
    return _moved(*((s, (to,), {}) for s, to in cases))


def flips(op: Op, tiles: tuple[int, ...]) -> Iterator[Point]:
    """Each size, each axis, and several."""
    cases: list[tuple[tuple[int, ...], Any]] = list(
        along(with_tiles((31, 32, 33, 65, 257, 1025, 4097), tiles))
    )
    return _moved(
        *((s, (), {"axis": a}) for s, a in [*cases, ((33, 17), None), ((2, 3, 1, 2, 3), (0, 4, 1))])
    )


def joins(op: Op, tiles: tuple[int, ...]) -> Iterator[Point]:
    """Parts of sizes around borders along each axis."""

    def joined(widths: tuple[int, ...], axis: int, rank: int) -> Build:
        shapes = [[w if a == axis else 3 for a in range(rank)] for w in widths]
        return lambda make, dtype: Sample(([whole(make, s, dtype) for s in shapes],), {"axis": axis})

    for axis, widths in itertools.product(range(3), ((1, 33, 0, 2), (31, 1), (64, 65, 3), (17,))):
        yield Point(joined(widths, axis, 3))
    yield from (Point(joined((n, 3), 0, 1)) for n in with_tiles((1, 255, 1024, 4097), tiles))


def pads(op: Op, tiles: tuple[int, ...]) -> Iterator[Point]:
    """Each size, and margins of two axes."""
    value = {"constant_values": 1}
    cases: list[Any] = [((n,), ((1, 2),), value) for n in with_tiles((1, 31, 33, 64, 257, 1025, 4097), tiles)]
    cases += [
        ((33, 3), (((1, 0), (0, 2)),), {}),
        ((3, 65), (((0, 2), (3, 1)),), value),
        ((2, 3, 1, 2, 3), (1,), value),
    ]
    cases += [((0, 3), (((1, 1), (0, 1)),), value), ((17, 17), (((0, 0), (1, 0)),), {})]
    return _moved(*((s, args, kwargs) for s, args, kwargs in cases))


def _regions(tiles: tuple[int, ...]) -> list[tuple[tuple[int, ...], ...]]:
    """Shape, start, size and step of slices."""
    found: list[tuple[tuple[int, ...], ...]] = []
    for n in with_tiles((31, 33, 64, 65, 257, 1025, 4097), tiles):
        found += [
            ((n,), (1,), (n - 1,), (1,)),
            ((n,), (n - 1,), (n,), (-1,)),
            ((n,), (0,), ((n + 1) // 2,), (2,)),
        ]
    found += [
        ((3, 33), (0, 1), (3, 16), (1, 2)),
        ((33, 3), (32, 2), (11, 3), (-3, -1)),
        ((5, 65), (1, 0), (2, 65), (2, 1)),
    ]
    found += [
        ((2, 3, 1, 2, 3), (1, 0, 0, 1, 2), (1, 2, 1, 2, 3), (1, 2, 1, -1, -1)),
        ((3, 0, 2), (0, 0, 1), (2, 0, 2), (1, 1, -1)),
    ]
    return found


def slices(op: Op, tiles: tuple[int, ...]) -> Iterator[Point]:
    """The regions."""
    return _moved(*((s, (), {"start": a, "size": n, "step": by}) for s, a, n, by in _regions(tiles)))


def updates(op: Op, tiles: tuple[int, ...]) -> Iterator[Point]:
    """The regions, written."""

    def written(shape: tuple[int, ...], size: tuple[int, ...], kwargs: dict[str, Any]) -> Build:
        return lambda make, dtype: Sample((whole(make, shape, dtype), whole(make, size, dtype)), kwargs)

    for shape, start, size, step in _regions(tiles):
        yield Point(written(shape, size, {"start": start, "size": size, "step": step}))


def triangles(op: Op, tiles: tuple[int, ...]) -> Iterator[Point]:
    """Diagonals below, at and above the main one."""
    name = "offset" if "offset" in op.params else "k"
    sizes = ((31, 33), (33, 31), (65, 17), (2, 3, 5), (1, 257), (2, 0, 3))
    return _moved(*((s, (), {name: k}) for s in sizes for k in (-2, 0, 1)))


# -- contractions --------------------------------------------------------------------------------------------


def products(op: Op, tiles: tuple[int, ...]) -> Iterator[Point]:
    """Small integers, so that a product of matrices is exact in every order; sizes around tiles."""
    shapes: list[tuple[tuple[int, ...], tuple[int, ...]]] = [((m, k), (k, n)) for m, k, n in (
        (1, 1, 1), (1, 33, 1), (31, 33, 7), (33, 1, 65), (5, 65, 33), (33, 31, 2), (17, 16, 15), (2, 257, 3), (65, 3, 17), (129, 3, 2), (0, 3, 2),
        (2, 0, 3), (3, 4, 0))]  # fmt: skip
    shapes += [((n,), (n,)) for n in with_tiles((33, 257, 4097), tiles)]
    shapes += [
        ((65,), (65, 3)),
        ((3, 65), (65,)),
        ((2, 3, 5), (5, 7)),
        ((3, 5), (2, 5, 4)),
        ((2, 1, 3, 5), (3, 5, 2)),
        ((0, 3, 5), (5, 2)),
    ]
    shapes += [((t + 1, 3), (3, t - 1)) for t in tiles if 1 < t <= 128]
    shapes += [((3, t + 1), (t + 1, 2)) for t in tiles if t > 1]
    yield from (_pair(a, b) for a, b in shapes)


def _pair(a: tuple[int, ...], b: tuple[int, ...], kwargs: dict[str, Any] | None = None) -> Point:
    """Two operands of small integers."""
    return Point(lambda m, d: Sample((whole(m, a, d), whole(m, b, d)), kwargs or {}), exact=True)


def dots(op: Op, tiles: tuple[int, ...]) -> Iterator[Point]:
    """Vectors of each size, along other axes, and broadcast."""
    yield from (_pair((n,), (n,)) for n in with_tiles(SIZES, tiles))
    yield from (
        _pair((33, 3), (33, 1), {"axis": -2}),
        _pair((2, 1, 65), (3, 65)),
        _pair((2, 3, 1, 2, 3), (3, 1, 1, 3)),
    )


def linears(op: Op, tiles: tuple[int, ...]) -> Iterator[Point]:
    """Rows, and no row."""
    for lead, n, m in (((33,), 17, 5), ((2, 31), 33, 3), ((), 257, 7), ((65,), 3, 33)):

        def build(make: Maker, dtype: DType, lead: tuple[int, ...] = lead, n: int = n, m: int = m) -> Sample:
            return Sample(
                (whole(make, (*lead, n), dtype), whole(make, (m, n), dtype), whole(make, (m,), dtype))
            )

        yield Point(build, exact=True)


def traces(op: Op, tiles: tuple[int, ...]) -> Iterator[Point]:
    """Matrices that are not square, and other diagonals."""
    for shape, k in (((33, 33), 0), ((65, 31), -3), ((2, 31, 65), 1), ((257, 17), 0), ((64, 64), 5)):
        yield Point(one(whole, shape, {"offset": k}), exact=True)


# -- indices -------------------------------------------------------------------------------------------------

_PLACES = (
    ((33,), 0, (65,), 1), ((4097,), 0, (33,), 1), ((5,), 0, (1025,), 1), ((65, 3), 0, (31,), 1), ((3, 65), 1, (33,), 1), ((2, 33, 3), 1, (5, 7), 1),
    ((17, 33), 0, (64,), 2), ((2, 3, 1, 2, 3), 1, (9,), 3), ((2, 3, 1, 2, 3), 4, (2, 2), 1), ((3, 0, 2), 0, (4,), 1), ((257,), 0, (), 1),
    ((31, 2), 0, (1, 33), 1),
)  # fmt: skip


def indexed(op: Op, tiles: tuple[int, ...]) -> Iterator[Point]:
    """Places drawn with repetition, from either end."""
    more = [((t + 1,), 0, (t - 1,), 1) for t in tiles if t > 1]
    for shape, axis, index, k in (*_PLACES, *more):
        if k > 1 and not op.variadic:
            continue

        def build(
            make: Maker, dtype: DType, shape: Any = shape, axis: int = axis, index: Any = index, k: int = k
        ) -> Sample:
            indices = [make.array(index, int64, -n, n - 1) for n in shape[axis : axis + k]]
            taken = (*shape[:axis], *index, *shape[axis + k :])
            values = [whole(make, taken, dtype)] if "values" in op.operands else []
            return Sample((whole(make, shape, dtype), *values, *indices), {"axis": axis})

        yield Point(build, exact=op.ulp == SUM_BOUND)


def nonzeros(op: Op, tiles: tuple[int, ...]) -> Iterator[Point]:
    """Vectors of each size, and several axes."""
    for number, n in enumerate(with_tiles(SIZES, tiles)):
        yield Point(one(in_turn(PATTERNS, number), (n,), {}))
    for shape in ((33, 3), (3, 65), (2, 3, 1, 2, 3), (17, 31)):
        yield Point(one(whole, shape, {}))


def ranges(op: Op, tiles: tuple[int, ...]) -> Iterator[Point]:
    """Each size, as far as the dtype counts."""

    def counted(n: int) -> Build:
        most = lambda dtype: dtype.max if dtype.kind in ("int", "uint") else n
        return lambda make, dtype: Sample((min(n, most(dtype)),), {"dtype": dtype})

    return (Point(counted(n)) for n in with_tiles(SIZES, tiles))


def filled(op: Op, tiles: tuple[int, ...]) -> Iterator[Point]:
    """Each size, rank five, and nothing."""

    def full(shape: tuple[int, ...]) -> Build:
        return lambda make, dtype: Sample((shape, high(make, (1,), dtype).data[0]), {"dtype": dtype})

    shapes = (*((n,) for n in with_tiles(SIZES, tiles)), (2, 3, 1, 2, 3), (3, 0, 2), (33, 31))
    return (Point(full(shape)) for shape in shapes)


def bits(op: Op, tiles: tuple[int, ...]) -> Iterator[Point]:
    """Each size, in one row and in two, of the keys and counters of the op's samples."""

    def drawn(shape: tuple[int, ...], n: int) -> Build:
        def build(make: Maker, dtype: DType) -> Sample:
            own = own_samples(op, dtype)
            return Sample((*own[n % len(own)].args[:2], shape), own[0].kwargs)

        return build

    sizes = with_tiles(SIZES, tiles)
    return (Point(drawn((n,) if k % 2 else (2, n), k)) for k, n in enumerate(sizes))


def transforms(op: Op, tiles: tuple[int, ...]) -> Iterator[Point]:
    """Lengths that are powers of two, their neighbours, primes, and cut or padded ones."""
    for n in (2, 7, 15, 16, 17, 31, 32, 33, 60, 64, 65, 127):
        yield Point(one(ordinary, (2, n), {"axis": -1}))
    yield from (Point(one(ordinary, (33, 3), {"axis": 0, "n": n})) for n in (31, 64))
