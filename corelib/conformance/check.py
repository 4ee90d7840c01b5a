"""Trying a case on a backend: one outcome for every case, whatever happens."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from ..backend import Backend
from ..dtypes import HALF, complex128, float64
from ..errors import UnsupportedError
from ..op import SUM_BOUND
from ..registry import registry
from ..samples import ErrorSample, Maker, Sample, Values
from ..tensor import Tensor
from ..tree import flatten
from .cases import Case, groups
from .compare import Disagreement, compare, place
from .distance import magnitude, parts, unit
from .laws import check_laws
from .operands import inexact, tensors
from .oracle import GRADIENT_OPS, Oracle, as_run, cotangents, gradients, predictions
from .place import Result, another, arguments, numbers, results, tensor
from .residuals import limit, residuals

PASS, FAIL, UNSUPPORTED, DEVIATION = "pass", "fail", "unsupported", "deviation"
STATUSES = (PASS, FAIL, UNSUPPORTED, DEVIATION)


@dataclass(frozen=True)
class Outcome:
    """What became of a case. ``ulp``: the largest distance seen (None where nothing was measured).
    ``reason``: why it did not pass.
    """

    case: Case
    status: str
    ulp: float | None = None
    reason: str = ""


class Suite:
    """One backend under test. ``deviations``: what is known of it, ``{pattern of case ids, or an op's name:
    reason}``.
    """

    def __init__(self, device: str, oracle: Oracle | None = None) -> None:
        self.backend = registry.get(device)
        self.oracle = oracle or Oracle()
        info = self.backend.info
        self.deviations = dict(info.deviations) if info else {}
        self.lacks = set(info.lacks) if info else set()
        self._elsewhere: Backend | None = None
        self._checks: dict[str, Callable[[Case], float | None]] = {
            "value": self._value, "special": self._value, "layout": self._value, "gradient": self._gradient,
            "laws": self._laws, "error": self._error,
        }  # fmt: skip

    def run(self, case: Case) -> Outcome:
        """Try one case; nothing that it raises gets out."""
        try:
            if case.problem:
                raise Disagreement(case.problem)
            ulp = self._checks[case.what](case)
            self._lacking(case)
        except UnsupportedError as error:
            return Outcome(case, UNSUPPORTED, None, str(error))
        except (Disagreement, AssertionError) as error:
            return self._failed(case, str(error))
        except Exception as error:
            return self._failed(case, f"raised {type(error).__name__}: {error}")
        return Outcome(case, PASS, ulp)

    def _lacking(self, case: Case) -> None:
        """A backend that declares that it lacks a group must refuse its cases: Disagreement if one passed.

        Composites of linear algebra and Fourier transforms may do without the group's primitives.
        """
        if case.what in ("error", "laws") or not self.lacks:
            return
        needed = groups(case) - ({case.op.group} if not case.op.primitive else set())
        for group in sorted(needed & self.lacks):
            raise Disagreement(
                f"the backend declares that it lacks {group!r}, and gives a result: take it out of lacks="
            )

    def _failed(self, case: Case, reason: str) -> Outcome:
        for pattern, why in self.deviations.items():
            if covered(case, pattern):
                return Outcome(case, DEVIATION, None, f"{why} ({reason})")
        return Outcome(case, FAIL, None, reason)

    # -- values ----------------------------------------------------------------------------------------------

    def _value(self, case: Case) -> float:
        judged = case.op.residual is not None
        expected = [] if judged else self._asked(self.oracle.value, case)
        sample = as_run(case)
        args, kwargs = arguments(case.op, sample, self.backend, case.placement)
        found = results(case.op.fn(*args, **kwargs))
        if judged:
            device = self.oracle.backend.device
            specs = predictions(case.op, sample, self.oracle.backend)
            self._same_kind([Result(shape, dtype, (), device) for shape, dtype in specs], found)
        else:
            self._same_kind([e.result for e in expected], found)
        self._unchanged(sample, (args, kwargs))
        if judged:
            return self._residual(case, sample, found)
        return max((compare(case, e, got) for e, got in zip(expected, found, strict=True)), default=0.0)

    def _residual(self, case: Case, sample: Sample, found: list[Result]) -> float:
        """The largest residual as a share of the budget, in ULP."""
        allowed = limit(case.op, sample, found)
        sizes = self._asked(lambda case: residuals(case.op, sample, found, self.oracle.backend), case)
        for n, size in enumerate(sizes):
            if not size <= allowed:
                raise Disagreement(f"residual {n} is {size:.3g}, allowed: {allowed:.3g}")
        return max(sizes, default=0.0) / allowed * float(case.op.ulp) if allowed else 0.0

    def _asked(self, question: Callable[[Case], Any], case: Case) -> Any:
        """The oracle's answer; a case that the reference itself refuses is a failure, not something
        unsupported.
        """
        try:
            return question(case)
        except AssertionError:
            raise
        except Exception as error:
            raise Disagreement(f"the reference itself raised {type(error).__name__}: {error}") from error

    def _same_kind(self, expected: list[Result], found: list[Result]) -> None:
        if len(expected) != len(found):
            raise Disagreement(f"{len(found)} results, expected {len(expected)}")
        for want, got in zip(expected, found, strict=True):
            if (want.shape, want.dtype) != (got.shape, got.dtype):
                raise Disagreement(
                    f"the result is {got.dtype.name}{list(got.shape)}, expected {want.dtype.name}{list(want.shape)}"
                )
            if want.device and got.device != self.backend.device:
                raise Disagreement(
                    f"the result is on {got.device!r}, its operands are on {self.backend.device!r}"
                )

    def _unchanged(self, sample: Sample, given: Any) -> None:
        """No kernel may write to an operand: the operands must still have the sample's values."""
        operands = [x for x in flatten(given)[0] if isinstance(x, Tensor)]
        for n, (x, values) in enumerate(zip(operands, tensors(sample), strict=True)):
            now = numbers(x)
            if now != values.data and repr(now) != repr(values.data):  # equal NaNs differ, but look the same
                raise Disagreement(f"operand {n} was written to: it is {now}, it was {values.data}")

    # -- gradients -------------------------------------------------------------------------------------------

    def _gradient(self, case: Case) -> float:
        assert isinstance(case.sample, Sample) and case.dtype is not None
        expected = self._asked(self.oracle.gradient, case)
        found, got = gradients(case, case.sample, self.backend)
        operands = [v for v in tensors(case.sample) if inexact(v.dtype)]
        scale = max((magnitude(x) for g in cotangents(case, found) for x in g.data), default=0.0)
        limit = self._gradient_limit(case)
        worst = 0.0
        for n, (want, grad, x) in enumerate(zip(expected, got, operands, strict=True)):
            if (grad.shape, grad.dtype, grad.device) != (x.shape, x.dtype, self.backend.device):
                raise Disagreement(
                    f"the gradient of operand {n} is {grad.dtype.name}{list(grad.shape)} on {grad.device!r}, "
                    f"the operand is {x.dtype.name}{list(x.shape)} on {self.backend.device!r}"
                )
            step = unit(max([*map(magnitude, want.data), scale]), x.dtype.real)
            for i, (e, a) in enumerate(zip(want.data, grad.data, strict=True)):
                distance = (
                    0.0
                    if e == a or (e != e and a != a)
                    else max(abs(p - q) for p, q in zip(parts(e), parts(a), strict=True)) / step
                )
                if not distance <= limit:
                    raise Disagreement(
                        f"the gradient of operand {n} at {place(x.shape, i)} is {a!r}, expected {e!r}: {distance:.1f} ulp of the "
                        f"largest magnitude apart, allowed {limit:.0f}"
                    )
                worst = max(worst, distance)
        return worst

    def _gradient_limit(self, case: Case) -> float:
        """How many ULP of the largest magnitude a gradient may be off (see ``oracle.py``)."""
        sample, op = case.sample, case.op
        assert isinstance(sample, Sample)
        budget: Any = op.ulp_complex if case.dtype and case.dtype.kind == "complex" else op.ulp
        budget = 1.0 if op.ulp == SUM_BOUND or case.dtype in HALF else max(float(budget), 1.0)
        terms = max(math.prod(v.shape) for v in tensors(sample))
        both = 2 if case.dtype in (float64, complex128) else 1  # in these the reference errs as much
        return (GRADIENT_OPS * budget + terms) * both

    def _laws(self, case: Case) -> None:
        # Rules call public ops, the same on every backend: the laws are checked where arithmetic is most
        # exact.
        problem = check_laws(case, self.oracle.backend)
        if problem:
            raise Disagreement(problem)

    # -- mistakes --------------------------------------------------------------------------------------------

    def _error(self, case: Case) -> None:
        assert isinstance(case.sample, ErrorSample)
        wanted = self._refusal(case, case.sample, self.oracle.backend)
        if not isinstance(wanted, Exception):
            raise Disagreement(f"the reference does not refuse {wanted}")
        got = self._refusal(case, case.sample, self.backend)
        if not isinstance(got, Exception):
            raise Disagreement(f"not refused: {got}; expected {case.sample.error.__name__}")
        for error in (wanted, got):
            if not isinstance(error, case.sample.error) or not re.search(case.sample.words, str(error)):
                raise Disagreement(
                    f"raised {type(error).__name__}: {error}; expected {case.sample.error.__name__} with the words {case.sample.words!r}"
                )
        here, there = f"'{self.backend.device}'", f"'{self.oracle.backend.device}'"
        if (type(got), str(got).replace(here, there)) != (type(wanted), str(wanted).replace(here, there)):
            raise Disagreement(
                f"{type(got).__name__}: {got}; the reference says {type(wanted).__name__}: {wanted}"
            )

    def _refusal(self, case: Case, mistake: ErrorSample, backend: Backend) -> Any:
        """The exception that the mistake raises on a backend, or a description of the call if it raises none."""
        sample = mistake.build(Maker(case.op.name))
        args, kwargs = arguments(case.op, sample, backend)
        if case.placement == "elsewhere":
            second = [i for i, a in enumerate(sample.args) if isinstance(a, Values)][1]
            args[second] = tensor(sample.args[second], another(backend))
        try:
            case.op.fn(*args, **kwargs)
        except UnsupportedError:
            raise
        except Exception as error:
            return error
        return repr(sample)


def covered(case: Case, pattern: str) -> bool:
    """Whether a declared deviation is about a case: by its op's name, or by a pattern of ids with ``*`` and
    ``?``.
    """
    return case.op.name == pattern or fnmatchcase(case.id.replace("[", "("), pattern.replace("[", "("))


def stale(deviations: dict[str, str], outcomes: list[Outcome]) -> list[str]:
    """The declared deviations that cover cases which ran and none of which failed: they are not needed any
    more.
    """
    unneeded = []
    for pattern in deviations:
        ran = [o for o in outcomes if covered(o.case, pattern)]
        if ran and not any(o.status == DEVIATION for o in ran):
            unneeded.append(pattern)
    return unneeded
