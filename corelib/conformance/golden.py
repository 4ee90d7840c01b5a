"""Golden vectors: what the elementary functions are at points where they are hard to compute.

The reference backend takes its float64 functions from the C library, which may be off itself, and samples lie where
functions are easy. Here the expected results come from arbitrary precision, computed beforehand and stored as
hexadecimal floats (``vectors/<op>.json``, written by ``tools/golden.py``). A point is a line of numbers: the operands, the
correctly rounded result, and what rounding left over, (exact - rounded) / ulp to three digits; of complex numbers both
parts of each.

So an error is measured against the exact value, in fractions of a ULP: ``|got - exact| / ulp(exact)``, where ``ulp(x)`` is
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
from .cases import Case
from .compare import Disagreement
from .distance import parts, unit
from .place import call, numbers

LARGE = 1 << 17  # elements: more than any backend computes in the way in which it computes few


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
    return Vectors(op, dtype, Sample(tuple(columns), group["params"]), tuple(exact), group["unit"])


def golden_cases(op: Op, kinds: Sequence[DType] | None = None) -> Iterator[Case]:
    """A case for each group of an op's vectors, in all dtypes or some; ``data`` are the Vectors."""
    for number, v in enumerate(vectors(op)):
        if kinds is None or v.dtype in kinds:
            yield Case(op, v.dtype, "golden", number, v.sample, data=v)


def check_vectors(v: Vectors, backend: Backend, size: int = 0) -> tuple[float, list[Disagreement]]:
    """One call with all points, repeated until there are ``size`` elements: the largest error, and what is wrong.

    Equal repetitions are judged once: a result may depend on where its element stands, which is then judged, too.
    """
    count = len(v.exact)
    times = max(-(-size // count), 1)
    columns = (Values((count * times,), c.dtype, c.data * times) for c in v.sample.args)
    found = numbers(call(v.op, Sample(tuple(columns), v.sample.kwargs), backend))
    copies = {repr(c): c for c in (found[i : i + count] for i in range(0, len(found), count))}
    judged = [v.judge(c) for c in copies.values()]
    return max(worst for worst, _ in judged), [w for _, wrong in judged for w in wrong]


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
