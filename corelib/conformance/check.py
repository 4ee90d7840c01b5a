"""Trying a case on a backend: one outcome for every case, whatever happens."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from ..backend import Backend
from ..dtypes import float64
from ..errors import UnsupportedError
from ..op import SUM_BOUND
from ..registry import registry
from ..samples import ErrorSample, Maker, Sample, Values
from ..tensor import Tensor
from ..tree import flatten
from .cases import Case, tensors
from .distance import steps, unit
from .laws import check_laws
from .oracle import GRADIENT_OPS, Expected, Oracle, as_run, cotangents, gradients
from .place import Result, another, arguments, numbers, results, tensor

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


class Disagreement(Exception):  # noqa: N818 - it is caught and turned into an outcome, never shown as an error
    """A backend gave something else than the contract asks for; the text says what."""


class Suite:
    """One backend under test. ``deviations``: what is known of it, ``{pattern of case ids, or an op's name:
    reason}``.
    """

    def __init__(self, device: str, oracle: Oracle | None = None) -> None:
        self.backend = registry.get(device)
        self.oracle = oracle or Oracle()
        info = self.backend.info
        self.deviations = dict(info.deviations) if info else {}
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
        except UnsupportedError as error:
            return Outcome(case, UNSUPPORTED, None, str(error))
        except (Disagreement, AssertionError) as error:
            return self._failed(case, str(error))
        except Exception as error:
            return self._failed(case, f"raised {type(error).__name__}: {error}")
        return Outcome(case, PASS, ulp)

    def _failed(self, case: Case, reason: str) -> Outcome:
        for pattern, why in self.deviations.items():
            if covered(case, pattern):
                return Outcome(case, DEVIATION, None, f"{why} ({reason})")
        return Outcome(case, FAIL, None, reason)

    # -- values ----------------------------------------------------------------------------------------------

    def _value(self, case: Case) -> float:
        expected = self._asked(self.oracle.value, case)
        sample = as_run(case)
        args, kwargs = arguments(case.op, sample, self.backend, case.placement)
        found = results(case.op.fn(*args, **kwargs))
        self._same_kind(expected.results, found)
        self._unchanged(sample, (args, kwargs))
        return max((self._compare(case, expected, n, got) for n, got in enumerate(found)), default=0.0)

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

    def _compare(self, case: Case, expected: Expected, number: int, got: Result) -> float:
        """The largest distance in ULP; Disagreement at the first element that is too far."""
        want, worst = expected.results[number], 0.0
        bounds = expected.bounds[number] if expected.bounds else None
        # Which of two zeros a reduction finds depends on its order, which is the backend's.
        signed_zero = case.op.primitive and bounds is None and case.op.kind not in ("reduce", "scan")
        for i, (e, a) in enumerate(zip(want.data, got.data, strict=True)):
            if want.dtype.kind != "float":
                if e != a:
                    raise Disagreement(f"element {place(want.shape, i)} is {a}, expected {e}")
                continue
            distance = steps(e, a, want.dtype)
            if distance == 0:
                if e == 0 and signed_zero and math.copysign(1, e) != math.copysign(1, a):
                    raise Disagreement(
                        f"element {place(want.shape, i)} is {a}, expected {e}: the sign differs"
                    )
                continue
            apart = "" if math.isinf(distance) else f", {distance:.0f} ulp apart"
            if expected.units and not math.isinf(distance):
                distance = abs(e - a) / expected.units[number]
                apart = f", {distance:.1f} ulp of the largest element apart"
            if not apart or (distance > expected.steps if bounds is None else not abs(e - a) <= bounds[i]):
                limit = (
                    SUM_BOUND + f" = {bounds[i]:.3g}"
                    if bounds and not expected.units
                    else f"{expected.steps} ulp"
                )
                raise Disagreement(
                    f"element {place(want.shape, i)} is {a!r}, expected {e!r}{apart}; allowed: {limit}"
                )
            worst = max(worst, distance)
        return worst

    # -- gradients -------------------------------------------------------------------------------------------

    def _gradient(self, case: Case) -> float:
        assert isinstance(case.sample, Sample) and case.dtype is not None
        expected = self._asked(self.oracle.gradient, case)
        found, got = gradients(case, case.sample, self.backend)
        operands = [v for v in tensors(case.sample) if v.dtype.kind == "float"]
        scale = max((abs(x) for g in cotangents(case, found) for x in g.data), default=0.0)
        budget = 1.0 if case.op.ulp == SUM_BOUND else max(float(case.op.ulp), 1.0)
        terms = max(math.prod(v.shape) for v in tensors(case.sample))
        limit = (GRADIENT_OPS * budget + terms) * (
            2 if case.dtype is float64 else 1
        )  # float64: the reference errs as much
        worst = 0.0
        for n, (want, grad, x) in enumerate(zip(expected, got, operands, strict=True)):
            if (grad.shape, grad.dtype, grad.device) != (x.shape, x.dtype, self.backend.device):
                raise Disagreement(
                    f"the gradient of operand {n} is {grad.dtype.name}{list(grad.shape)} on {grad.device!r}, "
                    f"the operand is {x.dtype.name}{list(x.shape)} on {self.backend.device!r}"
                )
            finite = [abs(e) for e in want.data if math.isfinite(e)]
            step = unit(max([*finite, scale]), x.dtype)
            for i, (e, a) in enumerate(zip(want.data, grad.data, strict=True)):
                distance = 0.0 if e == a or (e != e and a != a) else abs(e - a) / step
                if not distance <= limit:
                    raise Disagreement(
                        f"the gradient of operand {n} at {place(x.shape, i)} is {a!r}, expected {e!r}: {distance:.1f} ulp of the "
                        f"largest magnitude apart, allowed {limit:.0f}"
                    )
                worst = max(worst, distance)
        return worst

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


def place(shape: tuple[int, ...], index: int) -> str:
    """The position of element ``index`` in C order, as a tuple."""
    position = []
    for size in reversed(shape):
        index, i = divmod(index, size)
        position.append(i)
    return str(tuple(reversed(position)))


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
