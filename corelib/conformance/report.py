"""The report: a row for each op, the reasons of what did not pass, the level that was reached, and totals that
account for every case.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from ..op import BY_NAME, OPS
from .check import DEVIATION, FAIL, PASS, STATUSES, UNSUPPORTED, Outcome
from .families import LEVELS, Plan
from .tally import Cell, Key, Tally, cells, level_of, together

GRADIENTS = LEVELS.index("gradients")
_NUMBER = re.compile(
    r"[(\[]?-?\d[-+\d.,e ]*[)\]]?|[(\[][)\]]"
)  # numbers and shapes do not make a failure another one


@dataclass
class Report:
    """What became of the cases of one backend. ``generated`` counts them before any ran.

    ``partial``: why the run ended early, if it did. ``problems``: why it is void: outcomes that do not belong to
    the cases one by one.
    """

    device: str
    generated: int
    outcomes: list[Outcome]
    stale: list[str] = field(default_factory=list)
    seconds: float = 0.0
    plan: Plan | None = None
    partial: str = ""
    problems: list[str] = field(default_factory=list)
    selected: bool = False  # families or ids were chosen: the run says nothing about the backend as a whole

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
        return self.accounted and self.generated > 0 and not self.failures and not self.stale

    @property
    def accounted(self) -> bool:
        """Whether each case that was generated has one outcome: otherwise the run is void, or partial."""
        return self.generated == len(self.outcomes) and not self.problems and not self.partial

    @property
    def whole(self) -> bool:
        """Whether every op was to be tried, on every dtype and in every way of the profile, and was."""
        plan = self.plan
        everything = plan is not None and plan.kinds is None and {*OPS} <= {*plan.ops} and not self.selected
        return everything and self.accounted

    @property
    def tally(self) -> Tally:
        """The outcomes counted."""
        return Tally(cells(self.outcomes))

    @property
    def level(self) -> int | None:
        """The highest level of which, and of those below it, nothing failed; None if there is none, or the run
        was not about everything.
        """
        reached = self.tally.reached if self.whole else None
        return None if reached is None else reached.number

    def verdict(self) -> str:
        """One sentence: which level was reached, and what stands before the next one."""
        if not self.accounted or not self.generated:
            return "no level: the run is not complete, and shows nothing of what was not tried"
        if not self.whole:
            return "no level: not everything was chosen to be tried"
        tally = self.tally
        reached = tally.reached
        profile = self.plan.profile if self.plan else ""
        level = reached.name if reached else "no level"
        some, every = tally.supported
        ops = f", {some} of {every} ops supported" if some < every else ""
        deviations = f", {self.count(DEVIATION)} known deviations" if self.count(DEVIATION) else ""
        stale = ", declared deviations that are not needed" if self.stale else ""
        next_one = f"; not {tally.obstacle}" if tally.obstacle else ""
        return f"{level}, profile {profile}{ops}{deviations}{stale}{next_one}"

    def text(self, *, limit: int = 20) -> str:
        """The whole report as text, with at most ``limit`` different reasons of failures."""
        return "\n".join(self._lines(limit))

    def _lines(self, limit: int) -> Iterator[str]:
        tally = self.tally
        yield from table(rows(tally))
        spread = distances(tally)
        if len(spread) > 1:
            yield "\nhow many cases were measured at which distance, in ULP:"
            yield from (f"  {line}" for line in table([(*row, "") for row in spread]))
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
        ran = Counter(o.how for o in self.outcomes if o.how)
        if ran:
            words = ", ".join(f"{n} {how}" for how, n in ran.most_common())
            yield f"\nwhose kernel ran, by cases: {words}"
        yield f"\n{self.device}: {self.verdict()}"
        yield self.summary()

    def summary(self) -> str:
        """One sentence with the totals."""
        counts = ", ".join(
            f"{self.count(s)} {word}"
            for s, word in zip(STATUSES, ("passed", "failed", "unsupported", "known deviations"), strict=True)
        )
        if not self.generated:
            return f"{self.device}: no case was generated: nothing has been shown"
        lost = self.generated - len(self.outcomes)
        missing = f", {lost} {'NOT TRIED' if self.partial else 'UNACCOUNTED FOR'}" if lost else ""
        early = f"PARTIAL, {self.partial}: " if self.partial else ""
        void = "".join(f"; VOID: {problem}" for problem in self.problems[:3])
        return (
            f"{self.device}: {early}{self.generated} cases: {counts}{missing}, in {self.seconds:.1f} s{void}"
        )


KINDS = {
    "half": ("float16", "bfloat16"), "f32": ("float32",), "f64": ("float64",), "c64": ("complex64",), "c128": ("complex128",),
}  # fmt: skip


def rows(tally: Tally) -> list[tuple[str, ...]]:
    """The table: for each op whose kernels ran, its budget, how many cases of each level passed, and the largest
    distances in ULP of values and of gradients; what is empty everywhere is left out.
    """
    by_subject: dict[str, list[tuple[Key, Cell]]] = {}
    for key, cell in tally.cells.items():
        by_subject.setdefault(key[0], []).append((key, cell))
    head = [f"L{n}" for n in range(len(LEVELS))]
    head += [f"ulp {k}" for k in KINDS] + [f"grad {k}" for k in KINDS]
    found = [("op", "kernels", "budget", *head, "")]
    for name, own in sorted(by_subject.items(), key=lambda item: (item[0] not in BY_NAME, item[0])):
        total = together(own)
        at = [together((k, c) for k, c in own if level_of(k[2]) == n) for n in range(len(LEVELS))]
        words = [(s.upper() if s == FAIL else s, total.counts[s]) for s in STATUSES if s != PASS]
        found.append((
            name, total.how or "-", budget(name),
            *(_passed(cell) for cell in at),
            *(_worst(own, names, forward) for forward in (True, False) for names in KINDS.values()),
            ", ".join(f"{n} {word}" for word, n in words if n),
        ))  # fmt: skip
    columns = [{row[n] for row in found[1:]} for n in range(len(found[0]))]
    kept = [n for n, column in enumerate(columns) if n in (0, 2) or column != {"-"}]
    return [tuple(row[n] for n in kept) for row in found]


def budget(name: str) -> str:
    """The error budget of an op, and of its complex results where that is another; nothing of a family."""
    if name not in BY_NAME:
        return "-"
    op = BY_NAME[name]
    takes_complex = any(d.kind == "complex" for d in op.rule.accepts)
    return (
        f"{op.ulp}, {op.ulp_complex} complex" if takes_complex and op.ulp_complex != op.ulp else str(op.ulp)
    )


def distances(tally: Tally) -> list[tuple[str, ...]]:
    """The histogram: a row for each level at which something was measured, a column for each power of two."""
    edges = sorted({edge for level in tally.levels for edge in level.cell.histogram})
    head = ("", *(f"{'<= ' if edge else ''}{edge:g}" for edge in edges))
    found = [
        (f"L{level.number}", *(str(level.cell.histogram[edge]) for edge in edges))
        for level in tally.levels
        if level.cell.histogram
    ]
    return [head, *found]


def _passed(cell: Cell) -> str:
    good = cell.counts[PASS]
    return "-" if not cell.cases else str(good) if good == cell.cases else f"{good}/{cell.cases}"


def _worst(own: Iterable[tuple[Key, Cell]], names: Sequence[str], forward: bool) -> str:
    measured = [
        cell.worst
        for (_, dtype, what, _), cell in own
        if cell.worst is not None and dtype in names and (level_of(what) < GRADIENTS) is forward
    ]
    return f"{max(measured):.3g}" if measured else "-"


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
