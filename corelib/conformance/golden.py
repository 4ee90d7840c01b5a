"""Golden vectors: what the elementary functions are at points where they are hard to compute.

The reference backend takes its float64 functions from the C library, which may be off itself, and samples lie where
functions are easy. Here the expected results come from arbitrary precision, computed beforehand and stored as
hexadecimal floats (``vectors/<op>.json``, written by ``tools/golden.py``). A point is a line of numbers: the operands, the
correctly rounded result, and what rounding left over, (exact - rounded) / ulp to three digits; of complex numbers both
parts of each.

The points of an op and dtype are tried a few at a time, so that a deviation can be declared for those about which it is.
An error is measured against the exact value, in fractions of a ULP: ``|got - exact| / ulp(exact)``, where ``ulp(x)`` is
the distance between the numbers of the dtype around x (J.-M. Muller, "On the definition of ulp(x)", 2005); of a complex
result, the larger of its parts' errors in ULP of the larger part; and where an op promises it (``unit``: "largest"), in
ULP of the largest of operands and result. A budget of 1/2 or less asks for the rounded result itself, part by part.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

from ..backend import Backend
from ..dtypes import DType, as_dtype
from ..op import Op
from ..registry import registry
from ..samples import Sample, Values
from .cases import SMOKE, Case
from .check import Suite
from .compare import Disagreement
from .distance import parts, unit
from .families import BOUNDED, Plan, family
from .place import call

LARGE = 1 << 16  # elements: backends compute so many in other ways than few
SLOW = 1 << 14  # of complex powers, for which a backend in Python takes half a millisecond each
PORTION = 16  # points in a case, neighbours: a deviation that a backend declares should cover little else
FEW = 5 * PORTION  # elements, in which each point comes to stand in the body and in the tail of a vector loop


class Vectors(NamedTuple):
    """Points of one op in one dtype: a call, and for each element of its result the rounded parts and what rounding left
    over of each, in ULP. ``unit``: what the errors' ULP are those of, "result" or "largest" (of operands and result).
    """

    op: Op
    dtype: DType
    sample: Sample
    exact: tuple[tuple[tuple[float, ...], tuple[float, ...]], ...]
    unit: str

    @property
    def budget(self) -> float:
        """How many ULP a result may be off."""
        budget: Any = self.op.ulp_complex if self.dtype.kind == "complex" else self.op.ulp
        return float(budget)

    def operands(self, i: int) -> tuple[Any, ...]:
        """The operands of point i."""
        return tuple(column.data[i] for column in self.sample.args)

    def at(self, places: Sequence[int]) -> Vectors:
        """Some of the points."""
        columns = (
            Values((len(places),), c.dtype, tuple(c.data[i] for i in places)) for c in self.sample.args
        )
        return self._replace(
            sample=Sample(tuple(columns), self.sample.kwargs), exact=tuple(self.exact[i] for i in places)
        )

    def error(self, i: int, got: Any) -> float:
        """How far a result at point i is from the exact one, in ULP; inf where one of the two alone is NaN or infinite."""
        dtype = self.dtype.real
        rounded, left = self.exact[i]
        both = list(zip(rounded, parts(got), strict=True))
        if any(a != b and not (math.isfinite(a) and math.isfinite(b)) for a, b in both):
            return math.inf
        units = [_unit(a, t, dtype) for a, t in zip(rounded, left, strict=True)]
        size = unit(max(map(abs, self.operands(i))), dtype) if self.unit == "largest" else 0.0
        size = max(size, *units)
        off = [abs((b - a) / size - t * (u / size)) for (a, b), t, u in zip(both, left, units, strict=True)]
        return max((e for (a, _), e in zip(both, off, strict=True) if math.isfinite(a)), default=0.0)

    def judge(self, results: Sequence[Any]) -> tuple[float, list[Disagreement]]:
        """The largest error of some results, one for each point, and what is wrong with them."""
        worst, wrong = 0.0, []
        for i, got in enumerate(results):
            error = self.error(i, got)
            worst = max(worst, error)
            rounded = self.exact[i][0]
            close = error <= self.budget if self.budget > 0.5 else parts(got) == rounded
            expected = complex(*rounded) if len(rounded) > 1 else rounded[0]
            words = f"{self.op.name}{self._shown(i)} is {got!r}, expected {expected!r}"
            if not close:
                wrong.append(
                    Disagreement(
                        f"{words}: {error:.3g} ulp from the exact value; allowed: {self.budget:g} ulp"
                    )
                )
            elif self.op.primitive and got == 0 and expected == 0 and _signs(got) != _signs(expected):
                wrong.append(Disagreement(f"{words}: the sign differs"))
        return worst, wrong

    def _shown(self, i: int) -> str:
        return f"({', '.join([*map(repr, self.operands(i)), *(f'{k}={v!r}' for k, v in self.sample.kwargs.items())])})"


def _unit(rounded: float, left: float, dtype: DType) -> float:
    """One ULP of the exact value: half the rounded value's where that is the power of two just above; the largest
    number's where the value overflows.
    """
    if math.isinf(rounded):
        return unit(dtype.max, dtype)
    above = rounded * math.copysign(1.0, left) < 0 and abs(math.frexp(rounded)[0]) == 0.5
    return unit(rounded, dtype) / (2 if above and abs(rounded) > dtype.smallest_normal else 1)


def _signs(x: Any) -> tuple[float, ...]:
    return tuple(math.copysign(1.0, p) for p in parts(x)) if not isinstance(x, complex) else ()


@cache
def vectors(op: Op) -> tuple[Vectors, ...]:
    """The golden vectors of an op; none for most."""
    file = files(__package__) / "vectors" / f"{op.name}.json"
    if not file.is_file():
        return ()
    return tuple(_read(op, group) for group in json.loads(file.read_text(encoding="utf-8"))["vectors"])


def _read(op: Op, group: dict[str, Any]) -> Vectors:
    dtype = as_dtype(group["dtype"])
    width = 2 if dtype.kind == "complex" else 1
    given = width * len(op.operands)
    points, exact = [], []
    for line in group["points"]:
        words = line.split()
        results = (len(words) - given) // 2
        exact.append(
            (
                tuple(map(float.fromhex, words[given : given + results])),
                tuple(map(float, words[given + results :])),
            )
        )
        points.append(list(map(float.fromhex, words[:given])))
    columns = [
        Values(
            (len(points),), dtype, tuple(complex(*p[at : at + 2]) if width == 2 else p[at] for p in points)
        )
        for at in range(0, given, width)
    ]
    found = Vectors(op, dtype, Sample(tuple(columns), group["params"]), tuple(exact), group["unit"])
    return found.at(sorted(range(len(points)), key=lambda i: points[i]))


def golden_cases(plan: Plan) -> Iterator[Case]:
    """The points of each op and dtype in portions; in profile ``full`` all of them at once as well, repeated until
    there are LARGE elements. ``data`` are the Vectors.
    """
    kinds = SMOKE if plan.kinds is None and plan.profile == "smoke" else plan.kinds
    for op in plan.ops:
        counts: dict[tuple[DType, str], int] = {}
        for v in vectors(op):
            if kinds is not None and v.dtype not in kinds:
                continue
            every = range(len(v.exact))
            tried = [(v.at(every[i : i + PORTION]), "") for i in every[::PORTION]]
            for few, placement in [*tried, *([(v, "many")] if plan.profile == "full" else [])]:
                number = counts[v.dtype, placement] = counts.get((v.dtype, placement), -1) + 1
                yield Case(op, v.dtype, "golden", number, few.sample, placement, data=few)


@family("golden", level=1, profiles=BOUNDED, generate=golden_cases)
def golden(suite: Suite, case: Case) -> float:
    """Every result is within the op's budget of the exact value."""
    many = SLOW if case.data.dtype.kind == "complex" and len(case.op.operands) > 1 else LARGE
    worst, wrong = check_vectors(case.data, suite.backend, many if case.placement == "many" else FEW)
    if wrong:
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise Disagreement(f"{wrong[0]}{more}")
    return worst


def check_vectors(v: Vectors, backend: Backend, size: int = 0) -> tuple[float, list[Disagreement]]:
    """One call with all points, repeated until there are ``size`` elements: the largest error, and what is wrong.

    Equal repetitions are judged once: a result may depend on where its element stands, which is then judged, too.
    """
    count = len(v.exact)
    times = max(-(-size // count), 1)
    columns = (Values((count * times,), c.dtype, c.data * times) for c in v.sample.args)
    y = call(v.op, Sample(tuple(columns), v.sample.kwargs), backend)
    dtype = v.dtype if len(v.exact[0][0]) > 1 else v.dtype.real
    if (tuple(y.shape), y.dtype) != ((count * times,), dtype):
        raise Disagreement(
            f"the result is {y.dtype.name}{list(y.shape)}, expected {dtype.name}{[count * times]}"
        )
    found = bytes(memoryview(backend.to_host(y._data)).cast("B"))
    step = len(found) // times
    copies = dict.fromkeys(found[i : i + step] for i in range(0, len(found), step))
    judged = [v.judge(dtype.unpack(copy)) for copy in copies]
    wrong = {str(w): w for _, found in judged for w in found}
    return max(worst for worst, _ in judged), list(wrong.values())


def check_golden(
    op: Op, dtype: DType, device: str | Backend, size: int = 0
) -> tuple[float, list[Disagreement]]:
    """The largest error in ULP of an op in a dtype on a device at its golden vectors, and every result that is out of
    its budget; 0 and nothing where it has no vectors.

    ``size``: the points are repeated until there are as many elements; LARGE reaches the kernels for many.
    """
    backend = registry.get(device) if isinstance(device, str) else device
    judged = [check_vectors(v, backend, size) for v in vectors(op) if v.dtype is dtype]
    return max((worst for worst, _ in judged), default=0.0), [w for _, wrong in judged for w in wrong]
