"""What families about derivatives share: pulling a cotangent back on a backend, which elements a cotangent may
reach, how far a derivative may be off, and comparing it.

Why the limits are what they are stands in ``oracle.py``, under "Gradients".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from ..autograd import vjp
from ..dtypes import HALF, DType, complex128, float64
from ..op import SUM_BOUND
from ..samples import Maker, Sample, Values
from .cases import Case
from .compare import Disagreement, place
from .distance import magnitude, parts, unit
from .operands import inexact, tensors
from .oracle import GRADIENT_OPS, cotangents, variables
from .place import Result, numbers, tensor

UNHURRIED = ("standard", "full")  # the profiles of families that a run of seconds does without


def gradient_limit(case: Case) -> float:
    """How many ULP of the largest magnitude a gradient may be off (see ``oracle.py``)."""
    sample, op = sample_of(case), case.op
    budget: Any = op.ulp_complex if case.dtype and case.dtype.kind == "complex" else op.ulp
    budget = 1.0 if op.ulp == SUM_BOUND or case.dtype in HALF else max(float(budget), 1.0)
    terms = max(math.prod(v.shape) for v in tensors(sample))
    both = 2 if case.dtype in (float64, complex128) else 1  # in these the reference errs as much
    return (GRADIENT_OPS * budget + terms) * both


def sample_of(case: Case) -> Sample:
    """The call of a case that is one."""
    assert isinstance(case.sample, Sample)
    return case.sample


def operands(case: Case) -> list[Values]:
    """What a case's gradients belong to: its floating and complex operands."""
    return [v for v in tensors(sample_of(case)) if inexact(v.dtype)]


def plain(found: Iterable[Any]) -> list[Result]:
    """Tensors as plain data."""
    return [Result(tuple(t.shape), t.dtype, numbers(t), t.device) for t in found]


def like(values: Sequence[Values], found: Sequence[Any]) -> list[Values]:
    """Values in the dtypes of tensors of the same shapes."""
    return [Values(v.shape, t.dtype, v.data) for v, t in zip(values, found, strict=True)]


def directions(case: Case, found: Sequence[Any], name: str) -> list[Values]:
    """Random values like the given tensors, the same for every backend: few digits, so that every dtype holds
    them and wider dtypes differ by nothing.
    """
    make = Maker(f"{name} {case.op.name} {case.number}")
    return [_coarse(make, tuple(x.shape), x.dtype) for x in found]


def _coarse(make: Maker, shape: tuple[int, ...], dtype: DType) -> Values:
    draw: Callable[[], float] = lambda: make.random.choice((-1, 1)) * make.random.randint(64, 128) / 128
    count = math.prod(shape)
    number = (lambda: complex(draw(), draw())) if dtype.kind == "complex" else draw
    return Values(shape, dtype, tuple(number() for _ in range(count)))


def pulled(
    case: Case,
    sample: Sample,
    backend: Any,
    change: Callable[[int, Values], Values] = lambda n, g: g,
    placed: Callable[[Values, Any], Any] = tensor,
) -> list[Result]:
    """The gradients of a sample's operands, for the case's random cotangents changed by ``change`` and put on
    the backend by ``placed``.
    """
    function, floats = variables(case, sample, backend)
    found, pullback = vjp(function, *floats)
    random = like(cotangents(case, found), found)
    return plain(pullback([placed(change(n, g), backend) for n, g in enumerate(random)]))


def same_kind(case: Case, got: Sequence[Result], device: str) -> None:
    """Disagreement unless each gradient has the shape, dtype and device of its operand."""
    for n, (grad, x) in enumerate(zip(got, operands(case), strict=True)):
        if (grad.shape, grad.dtype, grad.device) != (x.shape, x.dtype, device):
            raise Disagreement(
                f"the gradient of operand {n} is {grad.dtype.name}{list(grad.shape)} on {grad.device!r}, "
                f"the operand is {x.dtype.name}{list(x.shape)} on {device!r}"
            )


def agree(
    expected: Sequence[Result],
    got: Sequence[Result],
    *,
    scale: float,
    limit: float,
    what: str = "the gradient of operand",
) -> float:
    """The largest distance between derivatives in ULP of the largest magnitude in one or ``scale``, whichever is
    larger; Disagreement beyond ``limit``.
    """
    worst = 0.0
    for n, (want, grad) in enumerate(zip(expected, got, strict=True)):
        step = unit(max([*map(magnitude, want.data), scale]), grad.dtype.real)
        for i, (e, a) in enumerate(zip(want.data, grad.data, strict=True)):
            same = e == a or (e != e and a != a)
            distance = (
                0.0 if same else max(abs(p - q) for p, q in zip(parts(e), parts(a), strict=True)) / step
            )
            if not distance <= limit:
                raise Disagreement(
                    f"{what} {n} at {place(grad.shape, i)} is {a!r}, expected {e!r}: {distance:.1f} ulp of the "
                    f"largest magnitude apart, allowed {limit:.0f}"
                )
            worst = max(worst, distance)
    return worst


def largest(*groups: Iterable[Any]) -> float:
    """The largest magnitude in Values or Results; 0 where there is nothing."""
    return max((magnitude(x) for group in groups for v in group for x in v.data), default=0.0)


def total(values: Iterable[Any]) -> float:
    """The sum of the magnitudes of all parts."""
    return math.fsum(abs(p) for v in values for x in v.data for p in parts(x))


def inner(a: Sequence[Any], b: Sequence[Any]) -> float:
    """The inner product: of complex numbers, that of their parts."""

    def products() -> Iterator[float]:
        for x, y in zip(a, b, strict=True):
            for p, q in zip(x.data, y.data, strict=True):
                yield from (s * t for s, t in zip(parts(p), parts(q), strict=True))

    return math.fsum(products())


def reached(result: tuple[int, ...], index: int, operand: tuple[int, ...]) -> int:
    """Of an element-wise op: the element of an operand that element ``index`` of the result is computed from."""
    position, rest = [], index
    for size in reversed(result):
        rest, i = divmod(rest, size)
        position.append(i)
    found, stride = 0, 1
    for i, size in zip(position, reversed(operand), strict=False):
        found += (i if size > 1 else 0) * stride
        stride *= size
    return found
