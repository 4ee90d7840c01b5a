"""What an op should give: the reference backend's answers, how exact they are, and how far others may be from
them.

**Values.** The reference rounds each primitive's result once, so a backend whose error budget is b ULP may
lie fewer than b + 1/2 steps from it. A composite's body rounds many times; in float32 the reference therefore
runs it in float64 and rounds at the end, which is as good as exact. In float64 there is no wider dtype, so
the reference's own error, bounded by the same budget, is allowed on top. The float64 functions of the C
library that the reference uses may be one step off themselves.

A composite that is not element-wise (softmax, a norm) subtracts numbers of the size of its results: its error
is measured in ULP of the largest magnitude in the result, not element by element. Where an element-wise op subtracts
numbers of the size of its operands (``ulp_of="largest"``), it is measured in ULP of the largest of an element's
operands and its result.

**Complex results.** The error of an element is the larger of its parts' errors, in ULP of the larger part, and
at most ``ulp_complex``; a budget of 1/2 or less holds for each part. Of complex128 functions the reference's
own error is bounded by the same budget.

**float16 and bfloat16** are results of float32, rounded once. An op that is correctly rounded in float32 is so
in these as well (24 >= 2 * 11 + 2 bits: rounding twice does no harm to + - * / and sqrt), so there is no step
between; a float32 error may push a result over to the next number, one step, where it is less than half a step.

**Sums** (budget ``SUM_BOUND``): n terms added in any order are off by at most ``n u sum|x|``. Both factors
come from the op itself: ``n`` is its result on ones (of a mean: operand elements per result element),
``sum|x|`` its result on ``|x|``. A product of complex numbers adds four products of their parts, two to each
part: twice as many terms. A sum in float16 or bfloat16 is one in float32, and a ULP for the roundings of both
sides.

**Residuals.** What is judged by backward error has no expected values at all: only shapes and dtypes, by the
rule; see ``residuals.py``.

**Gradients.** A rule is a handful of ops (at most GRADIENT_OPS, each within max(budget, 1) ULP of an
intermediate result), whose terms may cancel: so an error is measured in ULP of the largest magnitude in the
gradient or the cotangent, whichever is larger, not element by element. What is summed, in the op or in its
rule, adds at most one ULP of that magnitude per term. In float16 and bfloat16 each op of a rule rounds its
result to them, which is half a ULP of theirs, whatever its float32 error: their budget is 1.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from .. import dtypes
from ..autograd import vjp
from ..dispatch import spec_of
from ..dtypes import DType, complex64, complex128, float32, float64
from ..op import SUM_BOUND, Op
from ..registry import registry
from ..rules import Spec
from ..samples import Maker, Sample, Values
from ..tensor import Tensor
from ..tree import flatten
from .cases import Case
from .distance import allowed, magnitude, parts, rounded, unit
from .operands import inexact, replaced, spread, tensors
from .place import Result, arguments, call, numbers, repeated, results, tensor

REFERENCE = "reference"
GRADIENT_OPS = 8


class Expected(NamedTuple):
    """One of the reference's results, and how far a backend's elements may be from it.

    ``ulp``: that many, of the element; or, where ``bounds`` are given, absolutely: one bound for each element.
    Distances are reported in ULP of the element, or in ``units`` where given, which are those of ``largest``.
    """

    result: Result
    ulp: float
    bounds: list[float] | None = None
    units: list[float] | None = None
    largest: str = "the largest element"


class Oracle:
    """Answers of the reference backend, each computed once."""

    def __init__(self) -> None:
        self.backend = registry.get(REFERENCE)
        self._values: dict[str, Any] = {}
        self._gradients: dict[str, Any] = {}

    # -- values ----------------------------------------------------------------------------------------------

    def value(self, case: Case) -> list[Expected]:
        """The expected results of a value, special or layout case."""
        found = self._values.get(case.id)
        if found is None:
            found = self._values[case.id] = self._value(case)
        return found

    def _value(self, case: Case) -> list[Expected]:
        op, sample = case.op, as_run(case)
        plain = results(call(op, sample, self.backend))
        predicted = None if op.data_dependent else predictions(op, sample, self.backend)
        if predicted and predicted != [(r.shape, r.dtype) for r in plain]:
            got = ", ".join(f"{r.dtype.name}{list(r.shape)}" for r in plain)
            want = ", ".join(f"{d.name}{list(s)}" for s, d in predicted)
            raise AssertionError(f"the rule of {op.name} predicts {want}, the reference gives {got}")
        if op.ulp == SUM_BOUND:
            return self._sums(op, sample, plain)
        exact = None if op.primitive or case.what == "special" else self._wide(op, sample, plain)
        budget: Any = budget_of(op, sample, plain)
        expected = []
        for result in exact or plain:
            own = 0.0  # the reference's error
            if op.primitive and budget > 0.5:
                own = {float64: 1.0, complex128: budget}.get(result.dtype, 0.0)
            elif not op.primitive and not exact:
                own = budget
            ulp = steps_of(result.dtype, budget, own)
            among = "the largest element" if op.kind != "elementwise" else "the largest operand or result"
            exactly = budget == 0 or not inexact(result.dtype)
            if exactly or (op.ulp_of == "result" and (op.primitive or op.kind == "elementwise")):
                expected.append(Expected(result, ulp))
            else:
                sizes = _sizes(op, sample, result)
                units = [unit(s, computed(result.dtype)) for s in sizes]
                count = steps_of(computed(result.dtype), budget, own)
                reach = [
                    count * u + once_more(e, result.dtype) for u, e in zip(units, result.data, strict=True)
                ]
                expected.append(Expected(result, ulp, reach, units, among))
        return expected

    def _wide(self, op: Op, sample: Sample, plain: list[Result]) -> list[Result] | None:
        """The results of a sample in float64 or complex128, rounded, or None where that would be another
        computation.
        """
        given = [v.dtype for v in tensors(sample) if inexact(v.dtype)]
        named = any(isinstance(a, str | DType) for a in (*sample.args, *sample.kwargs.values()))
        if (
            op.kind in ("random", "creation")
            or named
            or not given
            or not any(inexact(r.dtype) for r in plain)
        ):
            return None
        if any(d.digits == float64.digits for d in given):
            return None
        wide = results(call(op, widened(sample), self.backend))
        return [
            Result(p.shape, p.dtype, tuple(rounded(x, p.dtype) for x in w.data), p.device)
            if inexact(p.dtype)
            else p
            for p, w in zip(plain, wide, strict=True)
        ]

    def _sums(self, op: Op, sample: Sample, plain: list[Result]) -> list[Expected]:
        """n u sum|x| for each element, plus the rounding of the expected result; twice that where the
        reference errs as much.
        """
        magnitudes = results(call(op, widened(replaced(sample, _magnitude)), self.backend))
        terms = results(call(op, widened(replaced(sample, _ones)), self.backend))
        expected = []
        for p, size, count in zip(plain, magnitudes, terms, strict=True):
            times = (1 if op.primitive else 2) * (2 if p.dtype.kind == "complex" else 1)
            fan_in = max(math.prod(v.shape) for v in tensors(sample)) / max(len(p.data), 1)
            u = (computed(p.dtype).eps or 0) / 2
            bounds = [
                times * (max(n.real, fan_in) + 1) * u * abs(m) + once_more(e, p.dtype)
                for e, m, n in zip(p.data, size.data, count.data, strict=True)
            ]
            expected.append(Expected(p, 0, bounds))
        return expected

    # -- gradients -------------------------------------------------------------------------------------------

    def gradient(self, case: Case) -> list[Result]:
        """The gradients of a gradient case, computed in float64."""
        found = self._gradients.get(case.id)
        if found is None:
            found = self._gradients[case.id] = gradients(case, widened(case.sample), self.backend)[1]  # type: ignore[arg-type]
        return found


def _sizes(op: Op, sample: Sample, result: Result) -> list[float]:
    """The magnitude in whose ULP each element of a result is judged: the largest finite one among its operands and
    itself, or, where an op is not element-wise, among all elements.
    """
    own = list(map(magnitude, result.data))
    if op.kind != "elementwise":
        return [max(own, default=0.0)] * len(own)
    columns = [spread(list(map(magnitude, v.data)), v.shape, result.shape) for v in tensors(sample)]
    numbers = [magnitude(a) for a in sample.args if isinstance(a, int | float | complex)]
    return [max([*at, *numbers]) for at in zip(own, *columns, strict=True)]


def predictions(op: Op, sample: Sample, backend: Any) -> list[tuple[tuple[int, ...], DType]]:
    """The shapes and dtypes that the op's rule gives for a call."""
    args, kwargs = arguments(op, sample, backend)
    operands, params = op.bind(*args, **kwargs)
    params = {k: v for k, v in params.items() if k != op.device_param}
    specs = op.rule(op, [spec_of(o) for o in operands], params)
    return [(tuple(s.shape), s.dtype) for s in ((specs,) if isinstance(specs, Spec) else specs)]


def budget_of(op: Op, sample: Sample, found: list[Result]) -> Any:
    """The error budget: that for complex numbers where an operand or a result is complex."""
    kinds = {v.dtype.kind for v in tensors(sample)} | {r.dtype.kind for r in found}
    return op.ulp_complex if "complex" in kinds else op.ulp


def computed(dtype: DType) -> DType:
    """The dtype of the parts of a result while it is computed: float32 for float16 and bfloat16."""
    return float32 if dtype in dtypes.HALF else dtype.real


def steps_of(dtype: DType, budget: float, own: float) -> float:
    """How many ULP a result of ``dtype`` may lie from the reference's, which is off by ``own`` more than a
    rounding: whole steps of a floating dtype, but not of a complex one, whose smaller part has smaller steps.
    """
    if dtype.kind == "complex":
        return budget + own + 0.5 if budget > 0.5 else 0
    if dtype in dtypes.HALF:
        return math.floor(1 + (budget + own) * float32.eps / dtype.eps) if budget > 0.5 else 0
    return allowed(budget + own) if own != 1.0 else allowed(budget) + 1


def once_more(x: Any, dtype: DType) -> float:
    """What rounding to float16 or bfloat16 adds to the difference of two float32 numbers near ``x``: half a
    ULP for each.
    """
    return unit(x, dtype) if dtype in dtypes.HALF and math.isfinite(x) else 0.0


def as_run(case: Case) -> Sample:
    """The sample that is really run: with repeated values where the layout repeats them."""
    assert isinstance(case.sample, Sample)
    return replaced(case.sample, repeated) if case.placement == "repeated" else case.sample


def widened(sample: Sample) -> Sample:
    """The same numbers in float64 and complex128."""
    return replaced(sample, lambda v: Values(v.shape, wide(v.dtype), v.data))


def wide(dtype: DType) -> DType:
    """float64 for a floating dtype, complex128 for a complex one; any other itself."""
    return {"float": float64, "complex": complex128}.get(dtype.kind, dtype)


def _magnitude(v: Values) -> Values:
    """The magnitudes, without parts that are infinite or NaN: of a complex sum, they leave the other part finite."""
    size = lambda x: math.hypot(*filter(math.isfinite, parts(x)))
    return Values(v.shape, v.dtype, tuple(type(x)(size(x)) for x in v.data)) if inexact(v.dtype) else v


def _ones(v: Values) -> Values:
    return Values(v.shape, v.dtype, tuple(type(x)(1) for x in v.data)) if inexact(v.dtype) else v


# -- differentiating a sample --------------------------------------------------------------------------------


def variables(case: Case, sample: Sample, backend: Any) -> tuple[Any, list[Any]]:
    """A function from the sample's floating and complex tensors to the op's floating and complex results, and
    those tensors. Of an op whose results have arbitrary signs or phases, to what does not depend on them.
    """
    args, kwargs = arguments(case.op, sample, backend)
    leaves, build = flatten([args, kwargs])
    places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor) and inexact(leaf.dtype)]
    invariant = case.op.invariant

    def function(*floats: Any) -> list[Any]:
        given = list(leaves)
        for place, x in zip(places, floats, strict=True):
            given[place] = x
        args, kwargs = build(given)
        if case.op.domain is not None:
            args[0] = case.op.domain(args[0])
        result = case.op.fn(*args, **kwargs)
        if invariant is not None:
            params = case.op.bind(*args, **kwargs)[1]
            result = invariant(result, **{k: v for k, v in params.items() if k != case.op.device_param})
        return [y for y in flatten(result)[0] if isinstance(y, Tensor) and inexact(y.dtype)]

    return function, [leaves[i] for i in places]


def cotangents(case: Case, found: list[Any]) -> list[Values]:
    """A random cotangent for each result: the same numbers for every backend, and for the wider dtypes."""
    make = Maker(f"{case.op.name} {case.number}")
    half = case.dtype if case.dtype in dtypes.HALF else None

    def kind(y: Any) -> DType:
        """One whose numbers the result's dtype holds, in the case's dtype and in wider ones."""
        return (
            complex64 if y.dtype.kind == "complex" else y.dtype if y.dtype in dtypes.HALF else half or float32
        )

    return [make.array(tuple(y.shape), kind(y), -2, 2) for y in found]


def gradients(case: Case, sample: Sample, backend: Any) -> tuple[list[Any], list[Result]]:
    """The op's results and the gradients of its operands, in reverse mode."""
    function, floats = variables(case, sample, backend)
    found, pullback = vjp(function, *floats)
    given = [
        tensor(Values(g.shape, y.dtype, g.data), backend)
        for g, y in zip(cotangents(case, found), found, strict=True)
    ]
    grads = pullback(given)
    return found, [Result(tuple(g.shape), g.dtype, numbers(g), g.device) for g in grads]
