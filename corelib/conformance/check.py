"""Trying a case on a backend: one outcome for every case, whatever happens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from ..errors import UnsupportedError
from ..registry import registry
from ..samples import Sample
from ..tensor import Tensor
from ..tree import flatten
from .cases import Case, groups
from .compare import Disagreement
from .families import FAMILIES
from .operands import tensors
from .oracle import Oracle
from .place import Result, numbers
from .provenance import how

PASS, FAIL, UNSUPPORTED, DEVIATION = "pass", "fail", "unsupported", "deviation"
STATUSES = (PASS, FAIL, UNSUPPORTED, DEVIATION)


@dataclass(frozen=True)
class Outcome:
    """What became of a case. ``ulp``: the largest distance seen (None where nothing was measured).
    ``reason``: why it did not pass. ``how``: whose kernel ran (``provenance.HOWS``). ``shown``: the call, where it
    did not pass: a case that ran in another process has no sample here.
    """

    case: Case
    status: str
    ulp: float | None = None
    reason: str = ""
    how: str = ""
    shown: str = ""


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

    def run(self, case: Case) -> Outcome:
        """Try one case; nothing that it raises gets out."""
        try:
            if case.problem:
                raise Disagreement(case.problem)
            ulp = FAMILIES[case.what].check(self, case)
            self._lacking(case)
        except UnsupportedError as error:
            return Outcome(case, UNSUPPORTED, None, str(error), shown=_shown(case))
        except (Disagreement, AssertionError) as error:
            return self.failed(case, str(error))
        except (Exception, SystemExit) as error:
            return self.failed(case, f"raised {type(error).__name__}: {error}")
        return Outcome(case, PASS, ulp, how=how(case.op, case.dtype, self.backend))

    def _lacking(self, case: Case) -> None:
        """A backend that declares that it lacks a group must refuse its cases: Disagreement if one passed.

        Composites of linear algebra and Fourier transforms may do without the group's primitives.
        """
        if case.what in ("error", "laws") or not self.lacks:
            return
        composed = case.op is None or not case.op.primitive
        needed = groups(case) - ({case.op.group} if case.op and composed else set())
        for group in sorted(needed & self.lacks):
            raise Disagreement(
                f"the backend declares that it lacks {group!r}, and gives a result: take it out of lacks="
            )

    def failed(self, case: Case, reason: str) -> Outcome:
        """A failure, or a deviation if the backend has declared one that covers the case."""
        ran = how(case.op, case.dtype, self.backend)
        return declared_or_failed(case, reason, self.deviations, how=ran, shown=_shown(case))

    # -- what families ask -----------------------------------------------------------------------------------

    def asked(self, question: Callable[[Case], Any], case: Case) -> Any:
        """The oracle's answer; a case that the reference itself refuses is a failure, not something
        unsupported.
        """
        try:
            return question(case)
        except AssertionError:
            raise
        except Exception as error:
            raise Disagreement(f"the reference itself raised {type(error).__name__}: {error}") from error

    def same_kind(self, expected: list[Result], found: list[Result]) -> None:
        """Results must be as many as expected, of the same shapes and dtypes, and on the backend under test."""
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

    def unchanged(self, sample: Sample, given: Any) -> None:
        """No kernel may write to an operand: the operands must still have the sample's values."""
        operands = [x for x in flatten(given)[0] if isinstance(x, Tensor)]
        for n, (x, values) in enumerate(zip(operands, tensors(sample), strict=True)):
            now = numbers(x)
            if now != values.data and repr(now) != repr(values.data):  # equal NaNs differ, but look the same
                raise Disagreement(f"operand {n} was written to: it is {now}, it was {values.data}")


def declared_or_failed(
    case: Case, reason: str, deviations: Mapping[str, str], *, how: str = "", shown: str = ""
) -> Outcome:
    """A failure, or a known deviation if one that is declared covers the case."""
    for pattern, why in deviations.items():
        if covered(case, pattern):
            return Outcome(case, DEVIATION, None, f"{why} ({reason})", how, shown)
    return Outcome(case, FAIL, None, reason, how, shown)


def _shown(case: Case) -> str:
    """The call of a case, or why it cannot be shown: a mistake in a sample is a reason of its own."""
    try:
        return case.shown
    except Exception as error:
        return f"({type(error).__name__}: {error})"


def covered(case: Case, pattern: str) -> bool:
    """Whether a declared deviation is about a case: by its op's name, or by a pattern of ids with ``*`` and
    ``?``.
    """
    return case.subject == pattern or fnmatchcase(case.id.replace("[", "("), pattern.replace("[", "("))


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
