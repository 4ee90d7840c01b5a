"""The grid: op x dtype x shape x layout x values.

Most wrong kernels are wrong somewhere only: in the last elements of 33, on a reversed operand, for int16, at a NaN in
the tail. The points of an op are its shapes and parameters (of element-wise ops in ``pooled.py``, of others in
``points.py``), each with values that matter; each is tried in each dtype and each layout (``layouts.py``).

In profile ``full`` that is the whole product. In ``standard`` it is a Latin square: with G the least of the numbers of
dtypes, layouts and points, the cell of the d-th dtype and the l-th layout has the points s with ``s + d + l = 0``
modulo G, so that of point, dtype and layout each pair occurs, for each op. In ``smoke`` one cell of each of a few
dtypes is left. A case is one cell: it says which calls it makes (:func:`calls`), and its number means the same points
in every profile.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from .. import dtypes
from ..dtypes import DType
from ..errors import UnsupportedError
from ..op import SUM_BOUND, Op
from ..samples import Maker, Sample, Values
from .cases import SMOKE, Case, sampled_dtypes
from .check import Suite
from .compare import Disagreement, compare
from .declared import _residual
from .families import BOUNDED, Plan, family
from .layouts import LAYOUTS, axis_of, layout_of, placed_each, repeat, written_to
from .operands import replaced, tensors
from .oracle import Expected, Oracle, predictions
from .place import Result, call, results
from .points import Point, points
from .pooled import pooled, shape_points, try_pooled
from .pools import form

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Cell:
    """What a case of the grid tries: the points of an op by their numbers. ``dtypes``: those that its calls name
    beside the case's own. ``tiles``: the sizes for which there are points of their own.
    """

    points: tuple[int, ...]
    dtypes: tuple[DType, ...] = ()
    tiles: tuple[int, ...] = ()

    def __repr__(self) -> str:
        return f"points {', '.join(map(str, self.points))}"


# -- which cells there are -----------------------------------------------------------------------------------


def cells(plan: Plan) -> Iterator[Case]:
    """The cases of the grid."""
    for op in plan.ops:
        yield from _cells(op, plan)


def _cells(op: Op, plan: Plan) -> Iterator[Case]:
    kinds = sampled_dtypes(op)
    layouts = (
        LAYOUTS
        if any(a == "Tensor" or a.startswith(("Array", "Tensor", "Sequence")) for a in _annotations(op))
        else LAYOUTS[:1]
    )
    for d, dtype in enumerate(kinds):
        if dtype not in (plan.kinds or (SMOKE if plan.profile == "smoke" else kinds)):
            continue
        try:
            total = len(shape_points(op, plan.tiles) if op.kind == "elementwise" else _points(op, plan.tiles))
            needs = [_named(op, s, d, dtype, plan.tiles) for s in range(total)]
            count = min(len(kinds), len(layouts), total)
        except Exception as error:  # samples that fail are a case that fails
            yield Case(op, dtype, "grid", 0, problem=f"its points raised {type(error).__name__}: {error}")
            continue
        for k, layout in enumerate(layouts):
            if plan.profile == "smoke" and k != d % len(layouts):
                continue
            for group in range(count):
                if plan.profile != "full" and (group + d + k) % count:
                    continue
                yield from _cell(op, dtype, layout, group, count, needs, plan.tiles)


def _cell(
    op: Op, dtype: DType, layout: str, group: int, count: int, needs: Sequence[Any], tiles: tuple[int, ...]
) -> Iterator[Case]:
    """The cases of one cell: points that need float16, bfloat16 or complex numbers as a parameter are cases of their
    own, since a backend may lack these.
    """
    parts: dict[str, list[int]] = {}
    for s in range(group, len(needs), count):
        parts.setdefault(_lackable(needs[s]), []).append(s)
    for part, chosen in parts.items():
        named = tuple(dict.fromkeys(d for s in chosen for d in needs[s]))
        number = group + count * ("", "half", "complex").index(part)
        yield Case(op, dtype, "grid", number, placement=layout, data=Cell(tuple(chosen), named, tiles))


def _lackable(named: Sequence[DType]) -> str:
    return (
        "half"
        if any(d in dtypes.HALF for d in named)
        else "complex"
        if any(d.kind == "complex" for d in named)
        else ""
    )


def _annotations(op: Op) -> list[str]:
    return [str(op.signature.parameters[name].annotation) for name in op.operands]


@functools.lru_cache(maxsize=16)
def _points(op: Op, tiles: tuple[int, ...]) -> list[Point]:
    return points(op, tiles)


def _named(op: Op, s: int, d: int, dtype: DType, tiles: tuple[int, ...]) -> tuple[DType, ...]:
    """The dtypes that a point names as parameters."""
    if op.kind == "elementwise":
        variants = form(op, dtype).variants
        return variants[(s + d) % len(variants)].named
    return _points(op, tiles)[s].named(dtype)


# -- the calls of a case -------------------------------------------------------------------------------------


def calls(case: Case) -> Iterator[tuple[Sample, tuple[str, ...]]]:
    """Each call of a case, with the layout of each of its tensors."""
    for s in case.data.points:
        yield pooled(case, s)[:2] if case.op.kind == "elementwise" else _call(case, s)[:2]


def _spared(op: Op, sample: Sample) -> frozenset[int]:
    """The axes along which equal numbers would make a result worthless: a matrix with equal rows is singular, and the
    variance of equal numbers is all rounding error.
    """
    if op.group == "linalg":
        return frozenset((-1, -2))
    if op.primitive or op.ulp == SUM_BOUND or op.ulp <= 0.5 or op.kind == "elementwise":  # type: ignore[operator]
        return frozenset()
    axis = sample.kwargs.get("axis")
    if axis is None:
        return frozenset(range(-9, 0))
    axes = axis if isinstance(axis, tuple) else (axis,)
    rank = max((len(v.shape) for v in tensors(sample)), default=0)
    return frozenset(a - rank if a >= 0 else a for a in axes)


def _call(case: Case, s: int) -> tuple[Sample, tuple[str, ...], tuple[int | None, ...]]:
    """A call of an op that is not element-wise, its layouts, and along which axis each tensor repeats."""
    plain = _sample(case.op, case.dtype, s, case.data.tiles)
    given = tensors(plain)
    names = tuple(layout_of(case.placement, s, k) for k in range(len(given)))
    spared = _spared(case.op, plain)
    axes = tuple(
        axis_of(v.shape, s, spared) if n == "repeated" else None for v, n in zip(given, names, strict=True)
    )
    return _sample(case.op, case.dtype, s, case.data.tiles, axes), names, axes


@functools.lru_cache(maxsize=16)
def _sample(
    op: Op, dtype: DType, s: int, tiles: tuple[int, ...], axes: tuple[int | None, ...] = ()
) -> Sample:
    """The sample of a point, its tensors repeated along axes."""
    sample = _points(op, tiles)[s].build(Maker(f"grid {op.name} {dtype.name} {s}"), dtype)
    along = iter(axes)

    def repeated(v: Values) -> Values:
        axis = next(along, None)
        return v if axis is None else repeat(v, axis)

    return replaced(sample, repeated) if any(a is not None for a in axes) else sample


# -- trying them ---------------------------------------------------------------------------------------------


@family("grid", level=1, profiles=BOUNDED, generate=cells)
def check(suite: Suite, case: Case) -> float:
    """Every call of the cell gives what the reference gives, and leaves its operands alone."""
    one = try_pooled if case.op.kind == "elementwise" else _other
    worst = 0.0
    for s in case.data.points:
        try:
            worst = max(worst, one(suite, case, s))
        except UnsupportedError:
            raise
        except Exception as error:
            sample, names = next(
                calls(
                    Case(
                        case.op,
                        case.dtype,
                        "grid",
                        0,
                        placement=case.placement,
                        data=Cell((s,), (), case.data.tiles),
                    )
                )
            )
            problem = (
                str(error)
                if isinstance(error, Disagreement | AssertionError)
                else f"raised {type(error).__name__}: {error}"
            )
            raise Disagreement(f"{case.op.name}{sample!r}, {' and '.join(names)}: {problem}") from error
    return worst


def _other(suite: Suite, case: Case, s: int) -> float:
    sample, names, axes = _call(case, s)
    args, kwargs = placed_each(case.op, sample, names, axes, suite.backend)
    named = Case(case.op, case.dtype, "value", s, sample)
    device = suite.oracle.backend.device
    if case.op.residual is not None:
        specs = predictions(case.op, sample, suite.oracle.backend)
        wanted = [Expected(Result(shape, dtype, (), device), 0) for shape, dtype in specs]
    else:
        wanted = suite.asked(lambda c: _answers(suite.oracle, c.op, c.dtype, s, case.data.tiles, axes), named)
    found = results(case.op.fn(*args, **kwargs))
    suite.same_kind([w.result for w in wanted], found)
    if problem := written_to(sample, (args, kwargs)):
        raise Disagreement(problem)
    if case.op.residual is not None:
        return _residual(suite, named, sample, found)
    return max((compare(named, w, got) for w, got in zip(wanted, found, strict=True)), default=0.0)


@functools.lru_cache(maxsize=256)
def _answers(
    oracle: Oracle, op: Op, dtype: DType, s: int, tiles: tuple[int, ...], axes: tuple[int | None, ...]
) -> list[Expected]:
    """The reference's results of a point: layouts differ in nothing but what repeats."""
    sample = _sample(op, dtype, s, tiles, axes)
    if not _points(op, tiles)[s].exact:
        return oracle._value(Case(op, dtype, "value", s, sample))
    return [Expected(r, 0, [0.0] * len(r.data)) for r in results(call(op, sample, oracle.backend))]
