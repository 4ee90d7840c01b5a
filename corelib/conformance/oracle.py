"""What an op should give: the reference backend's answers, how exact they are, and how far others may be from
them.

**Values.** The reference rounds each primitive's result once, so a backend whose error budget is b ULP may
lie fewer than b + 1/2 steps from it. A composite's body rounds many times; in float32 the reference therefore
runs it in float64 and rounds at the end, which is as good as exact. In float64 there is no wider dtype, so
the reference's own error, bounded by the same budget, is allowed on top. The float64 functions of the C
library that the reference uses may be one step off themselves.

A composite that is not element-wise (softmax, a norm) subtracts numbers of the size of its results: its error
is measured in ULP of the largest magnitude in the result, not element by element.

**Sums** (budget ``SUM_BOUND``): n terms added in any order are off by at most ``n u sum|x|``. Both factors
come from the op itself: ``n`` is its result on ones (of a mean: operand elements per result element),
``sum|x|`` its result on ``|x|``.

**Gradients.** A rule is a handful of ops (at most GRADIENT_OPS, each within max(budget, 1) ULP of an
intermediate result), whose terms may cancel: so an error is measured in ULP of the largest magnitude in the
gradient or the cotangent, whichever is larger, not element by element. What is summed, in the op or in its
rule, adds at most one ULP of that magnitude per term.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from .. import dtypes
from ..autograd import vjp
from ..dispatch import spec_of
from ..dtypes import DType, float32, float64
from ..op import SUM_BOUND, Op
from ..registry import registry
from ..rules import Spec
from ..samples import Maker, Sample, Values
from ..tree import flatten
from .cases import Case, replaced, tensors
from .distance import rounded, unit
from .place import Result, arguments, call, numbers, repeated, results, tensor

REFERENCE = "reference"
GRADIENT_OPS = 8


class Expected(NamedTuple):
    """The reference's results, and how far a backend's elements may be from them.

    ``steps`` between neighbouring numbers; or, where ``bounds`` are given, absolutely: one bound for each
    element of each result. Distances are reported in ULP of the element, or of ``units`` (one for each
    result) where given.
    """

    results: list[Result]
    steps: int
    bounds: list[list[float]] | None = None
    units: list[float] | None = None


class Oracle:
    """Answers of the reference backend, each computed once."""

    def __init__(self) -> None:
        self.backend = registry.get(REFERENCE)
        self._values: dict[str, Any] = {}
        self._gradients: dict[str, Any] = {}

    # -- values ----------------------------------------------------------------------------------------------

    def value(self, case: Case) -> Expected:
        """The expected results of a value, special or layout case."""
        found = self._values.get(case.id)
        if found is None:
            found = self._values[case.id] = self._value(case)
        return found

    def _value(self, case: Case) -> Expected:
        op, sample = case.op, as_run(case)
        plain = results(call(op, sample, self.backend))
        self._check_rule(op, sample, plain)
        if op.ulp == SUM_BOUND:
            return Expected(plain, 0, self._sum_bounds(op, sample, plain))
        budget: Any = op.ulp
        if op.primitive:
            libm = 1 if budget > 0.5 and any(r.dtype is float64 for r in plain) else 0
            return Expected(plain, steps_for(budget) + libm)
        exact = self._in_float64(op, sample, plain) if case.what != "special" else None
        expected = Expected(exact or plain, steps_for(budget if exact else 2 * budget))
        if op.kind == "elementwise" or budget == 0:
            return expected
        units = [_largest_unit(r) for r in expected.results]
        bounds = [[expected.steps * u] * len(r.data) for u, r in zip(units, expected.results, strict=True)]
        return expected._replace(bounds=bounds, units=units)

    def _in_float64(self, op: Op, sample: Sample, plain: list[Result]) -> list[Result] | None:
        """The results of a float32 sample computed in float64 and rounded, or None where that would be
        another computation.
        """
        same = all(v.dtype is float32 or v.dtype not in dtypes.FLOATING for v in tensors(sample))
        named = any(isinstance(a, str | DType) for a in (*sample.args, *sample.kwargs.values()))
        if (
            op.kind in ("random", "creation")
            or not same
            or named
            or all(r.dtype is not float32 for r in plain)
        ):
            return None
        if not any(v.dtype is float32 for v in tensors(sample)):
            return None
        wide = results(call(op, widened(sample), self.backend))
        return [
            Result(p.shape, p.dtype, tuple(rounded(x, float32) for x in w.data), p.device)
            if p.dtype is float32
            else p
            for p, w in zip(plain, wide, strict=True)
        ]

    def _check_rule(self, op: Op, sample: Sample, found: list[Result]) -> None:
        """The rule must predict the reference's shapes and dtypes: AssertionError if it does not."""
        if op.data_dependent:
            return
        args, kwargs = arguments(op, sample, self.backend)
        operands, params = op.bind(*args, **kwargs)
        params = {k: v for k, v in params.items() if k != op.device_param}
        specs = op.rule(op, [spec_of(o) for o in operands], params)
        predicted = [(tuple(s.shape), s.dtype) for s in ((specs,) if isinstance(specs, Spec) else specs)]
        if predicted != [(r.shape, r.dtype) for r in found]:
            got = ", ".join(f"{r.dtype.name}{list(r.shape)}" for r in found)
            want = ", ".join(f"{d.name}{list(s)}" for s, d in predicted)
            raise AssertionError(f"the rule of {op.name} predicts {want}, the reference gives {got}")

    def _sum_bounds(self, op: Op, sample: Sample, plain: list[Result]) -> list[list[float]]:
        """n u sum|x| for each element, plus the rounding of the expected result; twice that where the
        reference errs as much.
        """
        magnitudes = results(call(op, widened(replaced(sample, _magnitude)), self.backend))
        terms = results(call(op, widened(replaced(sample, _ones)), self.backend))
        times = 1 if op.primitive else 2
        bounds = []
        for p, magnitude, count in zip(plain, magnitudes, terms, strict=True):
            fan_in = max(math.prod(v.shape) for v in tensors(sample)) / max(len(p.data), 1)
            u = (p.dtype.eps or 0) / 2
            pairs = zip(magnitude.data, count.data, strict=True)
            bounds.append([times * (max(n, fan_in) + 1) * u * abs(m) for m, n in pairs])
        return bounds

    # -- gradients -------------------------------------------------------------------------------------------

    def gradient(self, case: Case) -> list[Result]:
        """The gradients of a gradient case, computed in float64."""
        found = self._gradients.get(case.id)
        if found is None:
            wide = widened(case.sample)  # type: ignore[arg-type]
            found = self._gradients[case.id] = gradients(case, wide, self.backend)[1]
        return found


def steps_for(budget: float) -> int:
    """Steps from the rounded result that a budget of ULP from the exact one allows."""
    return max(math.ceil(budget + 0.5) - 1, 0)


def _largest_unit(result: Result) -> float:
    """One ULP at the largest finite magnitude of a result; 0 for results that must agree exactly."""
    if result.dtype.kind != "float":
        return 0.0
    return unit(max((abs(x) for x in result.data if math.isfinite(x)), default=0.0), result.dtype)


def as_run(case: Case) -> Sample:
    """The sample that is really run: with repeated values where the layout repeats them."""
    assert isinstance(case.sample, Sample)
    return replaced(case.sample, repeated) if case.placement == "repeated" else case.sample


def widened(sample: Sample) -> Sample:
    """The same numbers in float64."""
    return replaced(sample, lambda v: Values(v.shape, float64, v.data) if v.dtype is float32 else v)


def _magnitude(v: Values) -> Values:
    return v if v.dtype not in dtypes.FLOATING else Values(v.shape, v.dtype, tuple(abs(x) for x in v.data))


def _ones(v: Values) -> Values:
    return v if v.dtype not in dtypes.FLOATING else Values(v.shape, v.dtype, (1.0,) * len(v.data))


# -- differentiating a sample --------------------------------------------------------------------------------


def variables(case: Case, sample: Sample, backend: Any) -> tuple[Any, list[Any]]:
    """A function from the sample's floating tensors to the op's floating results, and those tensors."""
    args, kwargs = arguments(case.op, sample, backend)
    leaves, build = flatten([args, kwargs])
    places = [i for i, leaf in enumerate(leaves) if hasattr(leaf, "_data") and leaf.dtype in dtypes.FLOATING]

    def function(*floats: Any) -> list[Any]:
        given = list(leaves)
        for place, x in zip(places, floats, strict=True):
            given[place] = x
        args, kwargs = build(given)
        return [
            y
            for y in flatten(case.op.fn(*args, **kwargs))[0]
            if hasattr(y, "_data") and y.dtype in dtypes.FLOATING
        ]

    return function, [leaves[i] for i in places]


def cotangents(case: Case, found: list[Any]) -> list[Values]:
    """A random cotangent for each floating result: the same for every backend and dtype."""
    make = Maker(f"{case.op.name} {case.number}")
    return [make.array(tuple(y.shape), float32, -2, 2) for y in found]


def gradients(case: Case, sample: Sample, backend: Any) -> tuple[list[Any], list[Result]]:
    """The op's floating results and the gradients of its floating operands, in reverse mode."""
    function, floats = variables(case, sample, backend)
    found, pullback = vjp(function, *floats)
    given = [
        tensor(Values(g.shape, y.dtype, g.data), backend)
        for g, y in zip(cotangents(case, found), found, strict=True)
    ]
    grads = pullback(given)
    return found, [Result(tuple(g.shape), g.dtype, numbers(g), g.device) for g in grads]
