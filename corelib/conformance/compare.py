"""Comparing a result with the expected one, element by element: numbers, infinities, NaN and signs of zero."""

from __future__ import annotations

import cmath
import math
from collections.abc import Sequence
from typing import Any

from ..dtypes import DType
from ..op import SUM_BOUND
from .cases import Case
from .distance import magnitude, parts, steps, unit
from .operands import inexact, tensors
from .oracle import Expected, as_run
from .place import Result
from .unspecified import infinite_or_nan, open_signs, open_values


class Disagreement(Exception):  # noqa: N818 - it is caught and turned into an outcome, never shown as an error
    """A backend gave something else than the contract asks for; the text says what."""


def compare(case: Case, expected: Expected, got: Result) -> float:
    """The largest distance in ULP; Disagreement at the first element that is too far."""
    want, worst = expected.result, 0.0
    points = _points(case, len(want.data))
    for i, (e, a) in enumerate(zip(want.data, got.data, strict=True)):
        if not inexact(want.dtype):
            if e != a:
                raise Disagreement(f"element {place(want.shape, i)} is {a}, expected {e}")
            continue
        operands = points[i] if points else ()
        pairs = _fixed(case, e, a, operands) if want.dtype.kind == "complex" else [(e, a)]
        overflow = operands != () and all(map(cmath.isfinite, operands))  # what an infinite part is then
        size = expected.units[i] if expected.units else 0.0
        distance = _distance(pairs, expected, size, want.dtype, overflow)
        if distance == 0:
            if _signed_zero(case, expected) and any(
                p == 0 and math.copysign(1, p) != math.copysign(1, q) for p, q in pairs
            ):
                raise Disagreement(f"element {place(want.shape, i)} is {a}, expected {e}: the sign differs")
            continue
        bound = expected.bounds[i] if expected.bounds else math.inf
        far = max((abs(p - q) for p, q in pairs if math.isfinite(p)), default=0.0)
        if math.isinf(distance) or not (
            distance <= expected.ulp if expected.bounds is None else far <= bound
        ):
            raise Disagreement(
                f"element {place(want.shape, i)} is {a!r}, expected {e!r}{_apart(distance, expected, size, bound)}"
            )
        worst = max(worst, distance)
    return worst


def _fixed(case: Case, e: complex, a: complex, operands: tuple[Any, ...]) -> list[tuple[float, float]]:
    """The parts of an expected and a found element that must agree: without what no definition fixes."""
    pairs = list(zip(parts(e), parts(a), strict=True))
    if infinite_or_nan(case.op.kind) and not (cmath.isfinite(e) or cmath.isfinite(a)):
        return []
    if not operands:
        return pairs
    assert case.dtype is not None
    signs = open_signs(case.op.name, operands)
    values = open_values(case.op.name, operands, case.dtype.real.max)
    return [
        (abs(p), abs(q)) if sign else (p, q)
        for (p, q), sign, value in zip(pairs, signs, values, strict=True)
        if not value
    ]


def _points(case: Case, count: int) -> list[tuple[Any, ...]]:
    """Of an element-wise op, the operands of each element; empty where they broadcast or are numbers."""
    columns = [v.data for v in tensors(as_run(case))]
    if case.op.kind != "elementwise" or len(columns) != len(case.op.operands):
        return []
    return list(zip(*columns, strict=True)) if all(len(c) == count for c in columns) else []


def _signed_zero(case: Case, expected: Expected) -> bool:
    """Whether the sign of a zero counts.

    Which of two zeros a reduction finds depends on its order, which is the backend's; so does a complex
    product or quotient on the order and the fusing of its products and sums.
    """
    op = case.op
    if not op.primitive or expected.bounds is not None or op.kind in ("reduce", "scan"):
        return False
    return expected.result.dtype.kind != "complex" or len(op.operands) == 1 or expected.ulp == 0


def _distance(
    pairs: Sequence[tuple[float, float]], expected: Expected, size: float, dtype: DType, overflow: bool
) -> float:
    """How far apart the parts of two numbers are in ULP: inf where one alone is NaN or infinite.

    Real numbers are so many steps apart. The parts of complex ones that are finite are measured in ULP of the
    larger of them, unless each must be exact; beside a part that overflowed, in ULP of the largest number.
    """
    apart = max((steps(p, q, dtype.real) for p, q in pairs), default=0)
    if apart == 0 or math.isinf(apart):
        return apart
    finite = [(p, q) for p, q in pairs if math.isfinite(p)]
    if size:
        return max(abs(p - q) for p, q in finite) / size
    if dtype.kind != "complex" or expected.ulp == 0 and expected.bounds is None:
        return apart
    beside = overflow and len(finite) < len(pairs)
    larger = dtype.real.max if beside else max(magnitude(p) for p, _ in finite)
    return max(abs(p - q) for p, q in finite) / unit(larger, dtype.real)


def _apart(distance: float, expected: Expected, size: float, bound: float) -> str:
    """The distance and what is allowed, in words."""
    allowed = f"{SUM_BOUND} = {bound:.3g}" if expected.bounds and not size else f"{expected.ulp:g} ulp"
    if math.isinf(distance):
        return f"; allowed: {allowed}"
    if size:
        return f", {distance:.1f} ulp of {expected.largest} apart; allowed: {allowed}"
    return f", {distance:.{1 if distance % 1 else 0}f} ulp apart; allowed: {allowed}"


def place(shape: tuple[int, ...], index: int) -> str:
    """The position of element ``index`` in C order, as a tuple."""
    position = []
    for size in reversed(shape):
        index, i = divmod(index, size)
        position.append(i)
    return str(tuple(reversed(position)))
