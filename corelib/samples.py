"""Samples: the inputs an op is tried on, and the mistakes it must refuse, declared beside it and independent
of any backend.

``samples=`` of an op is a function ``(make, dtype) -> iterable of Sample``; the factories below build the
common ones. Tensor operands are :class:`Values`, a flat list with shape and dtype, which a user of the
samples (conformance, gradcheck, tests) turns into tensors on the backend at hand. Values are drawn from a
generator seeded by the op's name: the same everywhere.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from .dtypes import DType


@dataclass(frozen=True)
class Values:
    """A tensor to be: shape, dtype and its elements in C order as Python numbers."""

    shape: tuple[int, ...]
    dtype: DType
    data: tuple[Any, ...]


@dataclass(frozen=True)
class Sample:
    """One call of an op: positional and keyword arguments, with Values (or lists of them) in place of
    tensors.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        def show(a: Any) -> str:
            if isinstance(a, Values):
                return f"{a.dtype.name}{list(a.shape)}"
            return f"[{', '.join(map(show, a))}]" if isinstance(a, list | tuple) else repr(a)

        parts = [show(a) for a in self.args] + [f"{k}={show(v)}" for k, v in self.kwargs.items()]
        return f"({', '.join(parts)})"


@dataclass(frozen=True)
class ErrorSample:
    """A call that must be refused: with which exception class, in which words (a regular expression)."""

    error: type[Exception]
    words: str
    build: Callable[[Maker], Sample]


class Maker:
    """Draws values. ``Maker(name)`` is seeded by ``name``."""

    def __init__(self, seed: str) -> None:
        self.random = random.Random(seed)

    def array(self, shape: Sequence[int], dtype: DType, low: float = -3.0, high: float = 3.0) -> Values:
        """Values in [low, high] (integers for integer dtypes, rounded to the dtype for floats); both parts of complex ones."""
        n = math.prod(shape)
        if dtype.kind == "bool":
            data: list[Any] = [self.random.random() < 0.5 for _ in range(n)]
        elif dtype.kind == "float":
            data = [dtype.round(self.random.uniform(low, high)) for _ in range(n)]
        elif dtype.kind == "complex":
            parts = [dtype.real.round(self.random.uniform(low, high)) for _ in range(2 * n)]
            data = [complex(a, b) for a, b in zip(parts[::2], parts[1::2], strict=True)]
        else:
            bottom = max(math.ceil(low), dtype.min)
            data = [
                self.random.randint(bottom, max(bottom, min(math.floor(high), dtype.max))) for _ in range(n)
            ]
        return Values(tuple(shape), dtype, tuple(data))

    def distinct(self, shape: Sequence[int], dtype: DType) -> Values:
        """Values that differ from each other by at least 1/4 (or 1), in random order: for max, sort and the
        like.
        """
        n = math.prod(shape)
        if dtype.kind == "bool":
            return self.array(shape, dtype)
        data = [i - n // 2 if dtype.kind == "int" else i for i in range(n)]
        self.random.shuffle(data)
        if dtype.kind == "complex":  # the imaginary parts in another order
            return Values(tuple(shape), dtype, tuple(complex(d, data[i - 1]) / 4 for i, d in enumerate(data)))
        return Values(tuple(shape), dtype, tuple(d / 4 if dtype.kind == "float" else d for d in data))

    def full(self, shape: Sequence[int], dtype: DType, value: Any) -> Values:
        """``value`` everywhere."""
        return Values(tuple(shape), dtype, (value,) * math.prod(shape))


Samples = Callable[[Maker, DType], Iterable[Sample]]

UNARY_SHAPES: tuple[tuple[int, ...], ...] = ((), (0,), (1,), (5,), (2, 3), (2, 0, 3), (33,), (2, 1, 4))
BINARY_SHAPES: tuple[tuple[tuple[int, ...], ...], ...] = (
    ((), ()), ((3,), (3,)), ((2, 3), (3,)), ((2, 1), (1, 3)), ((0, 3), (3,)), ((2, 1, 3), (4, 1)), ((4,), ()), ((33,), (33,)),
)  # fmt: skip


def reals(low: float, high: float, *, operands: int = 1, kwargs: Sequence[dict[str, Any]] = ({},)) -> Samples:
    """Element-wise operands with values in [low, high], over shapes that broadcast in every way."""

    def generate(make: Maker, dtype: DType) -> Iterator[Sample]:
        for params in kwargs:
            shapes = [(s,) for s in UNARY_SHAPES] if operands == 1 else BINARY_SHAPES
            for group in shapes:
                group = (*group, *[group[0]] * (operands - len(group)))
                yield Sample(tuple(make.array(s, dtype, low, high) for s in group), dict(params))

    return generate


def pairs(
    low: float, high: float, second: tuple[float, float] | None = None, *, scalars: bool = True
) -> Samples:
    """Two operands that broadcast, the second one from its own range if given, and a Python scalar on either
    side.
    """
    low2, high2 = second or (low, high)

    def generate(make: Maker, dtype: DType) -> Iterator[Sample]:
        for a, b in BINARY_SHAPES:
            yield Sample((make.array(a, dtype, low, high), make.array(b, dtype, low2, high2)))
        if scalars:
            left, right = (
                make.array((1,), dtype, low, high).data[0],
                make.array((1,), dtype, low2, high2).data[0],
            )
            yield Sample((make.array((2, 3), dtype, low, high), right))
            yield Sample((left, make.array((3,), dtype, low2, high2)))

    return generate


def reductions(
    low: float = -3.0, high: float = 3.0, *, distinct: bool = False, empty: bool = True, single: bool = False
) -> Samples:
    """One operand, every kind of ``axis`` and ``keepdims``. ``single``: the op takes one axis or None."""

    def generate(make: Maker, dtype: DType) -> Iterator[Sample]:
        draw = make.distinct if distinct else (lambda s, d: make.array(s, d, low, high))
        cases: list[tuple[tuple[int, ...], Any]] = [
            ((5,), None),
            ((2, 3), 0),
            ((2, 3), -1),
            ((2, 3, 4), 1),
            ((33, 2), 0),
            ((3, 33), 1),
        ]
        if not single:
            cases += [((2, 3, 4), (0, 2)), ((2, 3), None), ((), None)]
        if empty and not single:
            cases += [((0, 3), 0), ((0,), None)]
        cases += [((0, 3), 1)]
        for shape, axis in cases:
            for keepdims in (False, True):
                yield Sample((draw(shape, dtype),), {"axis": axis, "keepdims": keepdims})

    return generate


def along(shapes: Sequence[tuple[int, ...]] = ((5,), (2, 3), (2, 0, 3), (33,)), *, distinct: bool = False, low: float = -3.0,
          high: float = 3.0, kwargs: Sequence[dict[str, Any]] = ({},)) -> Samples:  # fmt: skip
    """One operand and one ``axis``: each axis of each shape."""

    def generate(make: Maker, dtype: DType) -> Iterator[Sample]:
        for params in kwargs:
            for shape in shapes:
                for axis in range(-len(shape), len(shape)):
                    x = make.distinct(shape, dtype) if distinct else make.array(shape, dtype, low, high)
                    yield Sample((x,), {"axis": axis, **params})

    return generate


def calls_(*cases: Callable[[Maker, DType], Sample]) -> Samples:
    """The given calls, each built by a function of ``(make, dtype)``."""
    return lambda make, dtype: (case(make, dtype) for case in cases)


def shapes(*cases: Any, low: float = -3.0, high: float = 3.0) -> Samples:
    """Cases ``(shape, ..., {kwargs})``: a tensor per shape (a tuple of ints), other entries passed as they
    are.
    """

    def generate(make: Maker, dtype: DType) -> Iterator[Sample]:
        for case in cases:
            *args, kwargs = case if isinstance(case[-1], dict) else (*case, {})
            operands = tuple(
                make.array(a, dtype, low, high) if _is_shape(a) else getattr(a, "value", a) for a in args
            )
            yield Sample(operands, dict(kwargs))

    return generate


class Raw:
    """Marks a tuple of integers in :func:`shapes` as a plain argument, not the shape of a tensor."""

    def __init__(self, value: Any) -> None:
        self.value = value


def _is_shape(a: Any) -> bool:
    return isinstance(a, tuple) and all(isinstance(i, int) for i in a)
