"""The report: a row for each op, the reasons of what did not pass, and totals that account for every case."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from ..dtypes import DType
from ..op import OPS, Op
from .cases import Case
from .check import DEVIATION, FAIL, STATUSES, UNSUPPORTED, Outcome, Suite, stale
from .families import Plan, cases
from .oracle import Oracle

_NUMBER = re.compile(
    r"[(\[]?-?\d[-+\d.,e ]*[)\]]?|[(\[][)\]]"
)  # numbers and shapes do not make a failure another one


@dataclass
class Report:
    """What became of the cases of one backend. ``generated`` counts them before any ran."""

    device: str
    generated: int
    outcomes: list[Outcome]
    stale: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def count(self, status: str) -> int:
        """How many cases ended in a status."""
        return sum(o.status == status for o in self.outcomes)

    @property
    def failures(self) -> list[Outcome]:
        """The cases that failed."""
        return [o for o in self.outcomes if o.status == FAIL]

    @property
    def ok(self) -> bool:
        """Whether there was a case, each is accounted for, none failed, and no declared deviation is out of
        date.
        """
        return 0 < self.generated == len(self.outcomes) and not self.failures and not self.stale

    def text(self, *, limit: int = 20) -> str:
        """The whole report as text, with at most ``limit`` different reasons of failures."""
        return "\n".join(self._lines(limit))

    def _lines(self, limit: int) -> Iterator[str]:
        yield from table(rows(self.outcomes))
        for status, title in ((UNSUPPORTED, "unsupported"), (DEVIATION, "known deviations")):
            listed: dict[str, list[str]] = {}
            for o in self.outcomes:
                if o.status == status:
                    reason = o.reason if status == UNSUPPORTED else o.reason.partition(" (")[0]
                    listed.setdefault(reason, []).append(o.case.subject)
            if listed:
                yield f"\n{title}:"
            for reason, ops in sorted(listed.items(), key=lambda item: item[1][0]):
                names = list(dict.fromkeys(ops))
                more = f" and {len(names) - 4} more" if len(names) > 4 else ""
                yield f"  {', '.join(names[:4])}{more}: {len(ops)} case{'s' * (len(ops) != 1)}: {reason}"
        if self.failures:
            yield "\nfailed:"
            groups: dict[tuple[str, str], list[Outcome]] = {}
            for outcome in self.failures:
                groups.setdefault((outcome.case.subject, _NUMBER.sub("", outcome.reason)), []).append(outcome)
            for found in list(groups.values())[:limit]:
                others = f" and {len(found) - 1} more for the same reason" if len(found) > 1 else ""
                yield f"  {found[0].case.id} {found[0].shown}{others}\n      {found[0].reason}"
            if len(groups) > limit:
                yield f"  ... and {len(groups) - limit} more reasons: --limit {len(groups)} shows them all"
        for pattern in self.stale:
            yield f"\nthe declared deviation {pattern!r} is not needed any more: every case that it covers passes; take it out"
        yield "\n" + self.summary()

    def summary(self) -> str:
        """One sentence with the totals."""
        counts = ", ".join(
            f"{self.count(s)} {word}"
            for s, word in zip(STATUSES, ("passed", "failed", "unsupported", "known deviations"), strict=True)
        )
        if not self.generated:
            return f"{self.device}: no case was generated: nothing has been shown"
        lost = self.generated - len(self.outcomes)
        return f"{self.device}: {self.generated} cases: {counts}{f', {lost} UNACCOUNTED FOR' if lost else ''}, in {self.seconds:.1f} s"


def rows(outcomes: Iterable[Outcome]) -> Iterator[tuple[str, ...]]:
    """The table's rows: for each op how many cases of each kind passed, and the largest distances."""
    by_op: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        by_op.setdefault(outcome.case.subject, []).append(outcome)
    kinds = {
        "half": ("float16", "bfloat16"),
        "f32": ("float32",),
        "f64": ("float64",),
        "c64": ("complex64",),
        "c128": ("complex128",),
    }
    measured = [f"ulp {k}" for k in kinds] + [f"grad {k}" for k in kinds]
    yield ("op", "budget", "values", "gradients", "errors", *measured, "")
    for name, found in sorted(by_op.items()):
        part = lambda *whats, found=found: [o for o in found if o.case.what in whats]
        values, grads = part("value", "special", "layout"), part("gradient", "laws")
        ulp = lambda group, names: _largest(
            o.ulp for o in group if o.ulp is not None and o.case.dtype and o.case.dtype.name in names
        )
        words = Counter(o.status for o in found if o.status != "pass")
        yield (
            name, str(found[0].case.op.ulp) if found[0].case.op else "-", _passed(values), _passed(grads), _passed(part("error")),
            *(ulp(values, names) for names in kinds.values()), *(ulp(grads, names) for names in kinds.values()),
            ", ".join(f"{n} {status.upper() if status == FAIL else status}" for status, n in words.items()),
        )  # fmt: skip


def _passed(outcomes: Sequence[Outcome]) -> str:
    good = sum(o.status == "pass" for o in outcomes)
    return "-" if not outcomes else str(good) if good == len(outcomes) else f"{good}/{len(outcomes)}"


def _largest(ulps: Iterable[float]) -> str:
    found = list(ulps)
    return f"{max(found):.3g}" if found else "-"


def table(lines: Iterable[Sequence[str]]) -> Iterator[str]:
    """Aligned columns: the first to the left, the others to the right, the last one free."""
    listed = list(lines)
    widths = [max(len(row[i]) for row in listed) for i in range(len(listed[0]))]
    for row in listed:
        cells = [
            row[0].ljust(widths[0]),
            *(c.rjust(w) for c, w in zip(row[1:-1], widths[1:-1], strict=True)),
            row[-1],
        ]
        yield "  ".join(cells).rstrip()


def check(
    device: str,
    ops: Iterable[Op] | None = None,
    kinds: Sequence[DType] | None = None,
    *,
    oracle: Oracle | None = None,
    what: Iterable[str] | None = None,
    progress: Callable[[int, int, Case | None], None] | None = None,
) -> Report:
    """Try every case (or those of some ops and dtypes) on a device, and report.

    ``laws`` concern the derivative rules alone and are checked once, on the reference. ``progress(done,
    total, case)`` is called before each case, and with None in place of the case at the end.
    """
    from .oracle import REFERENCE

    suite = Suite(device, oracle)
    plan = Plan(tuple(OPS if ops is None else ops), None if kinds is None else tuple(kinds))
    listed = list(cases(plan, what, reference=what is not None or suite.backend.name == REFERENCE))
    started = time.perf_counter()
    outcomes = []
    for done, case in enumerate(listed):
        if progress is not None:
            progress(done, len(listed), case)
        outcomes.append(suite.run(case))
    if progress is not None:
        progress(len(listed), len(listed), None)
    seconds = time.perf_counter() - started
    return Report(device, len(listed), outcomes, stale(suite.deviations, outcomes), seconds)
