"""Outcomes counted: by op, dtype, family and placement, with the largest distance and a histogram of distances; and
the level that a backend has reached.

What is counted here is what reports show and files hold; this module knows nothing of either.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

from .check import DEVIATION, FAIL, PASS, UNSUPPORTED, Outcome
from .families import FAMILIES, LEVELS
from .provenance import CAST, HOWS, WIDENED

Key = tuple[str, str, str, str]  # op or family, dtype or "", family, placement or ""
FINEST = 0.5  # the first bin above 0 of a histogram; each further one is twice as wide


@dataclass
class Cell:
    """The cases of one op, dtype, family and placement, or of several of these."""

    counts: Counter[str] = field(default_factory=Counter)
    histogram: Counter[float] = field(default_factory=Counter)
    hows: Counter[str] = field(default_factory=Counter)
    worst: float | None = None

    def add(self, outcome: Outcome) -> None:
        """Count an outcome."""
        self.counts[outcome.status] += 1
        if outcome.how:
            self.hows[outcome.how] += 1
        if outcome.ulp is not None:
            self.histogram[bin_of(outcome.ulp)] += 1
            self.worst = outcome.ulp if self.worst is None else max(self.worst, outcome.ulp)

    def __iadd__(self, other: Cell) -> Cell:
        self.counts += other.counts
        self.histogram += other.histogram
        self.hows += other.hows
        if other.worst is not None:
            self.worst = other.worst if self.worst is None else max(self.worst, other.worst)
        return self

    @property
    def cases(self) -> int:
        """How many cases."""
        return sum(self.counts.values())

    @property
    def good(self) -> int:
        """How many of them do not stand against a level: passed, or a deviation that is declared."""
        return self.counts[PASS] + self.counts[DEVIATION]

    @property
    def how(self) -> str:
        """Whose kernels ran, in words; casts before them are told only where nothing else is known."""
        own = [h for h in HOWS if self.hows[h] and h not in (WIDENED, CAST)]
        return " + ".join(own or [h for h in HOWS if self.hows[h]])


def bin_of(ulp: float) -> float:
    """The upper edge of the bin of a distance: 0, 0.5, 1, 2, 4, ...; each but 0 holds those above the edge before."""
    if ulp == 0 or not math.isfinite(ulp):
        return ulp
    mantissa, exponent = math.frexp(ulp)
    return max(FINEST, math.ldexp(1.0, exponent - (mantissa == 0.5)))


def cells(outcomes: Iterable[Outcome]) -> dict[Key, Cell]:
    """Every cell in which there is a case, in the order of the cases."""
    found: dict[Key, Cell] = {}
    for o in outcomes:
        case = o.case
        key = (case.subject, case.dtype.name if case.dtype else "", case.what, case.placement)
        found.setdefault(key, Cell()).add(o)
    return found


def together(found: Iterable[tuple[Key, Cell]]) -> Cell:
    """Several cells as one."""
    total = Cell()
    for _, cell in found:
        total += cell
    return total


def level_of(what: str) -> int:
    """The level that the cases of a family count for; the lowest where the family is not known any more."""
    return FAMILIES[what].level if what in FAMILIES else 0


@dataclass(frozen=True)
class Level:
    """The cases of one level, an index in LEVELS."""

    number: int
    cell: Cell

    @property
    def name(self) -> str:
        """Such as ``L2 (gradients)``."""
        return f"L{self.number} ({LEVELS[self.number]})"

    @property
    def passed(self) -> bool:
        """Whether something was tried, and nothing failed. What is declared to be unsupported does not count
        against a level; a level at which nothing is supported is not passed.
        """
        return self.cell.good > 0 and not self.cell.counts[FAIL]

    @property
    def obstacle(self) -> str:
        """Why the level is not passed, in words."""
        if not self.cell.cases:
            return f"{self.name}: no case was tried"
        if self.cell.counts[FAIL]:
            return f"{self.name}: {self.cell.counts[FAIL]} of {self.cell.cases} cases fail"
        return f"{self.name}: each of {self.cell.cases} cases is unsupported"


class Tally:
    """The cells of a report, and what follows from them."""

    def __init__(self, cells: dict[Key, Cell]) -> None:
        self.cells = cells

    @cached_property
    def levels(self) -> list[Level]:
        """The levels, the lowest first."""
        return [
            Level(n, together((k, c) for k, c in self.cells.items() if level_of(k[2]) == n))
            for n in range(len(LEVELS))
        ]

    @cached_property
    def reached(self) -> Level | None:
        """The highest level that is passed, and all below it."""
        found = None
        for level in self.levels:
            if not level.passed:
                break
            found = level
        return found

    @property
    def obstacle(self) -> str:
        """Why the next level is not reached; empty if there is none above."""
        above = 0 if self.reached is None else self.reached.number + 1
        return self.levels[above].obstacle if above < len(self.levels) else ""

    @cached_property
    def supported(self) -> tuple[int, int]:
        """How many ops have a case that is not unsupported, of how many that were tried."""
        ops: dict[str, Cell] = {}
        for (subject, _, what, _), cell in self.cells.items():
            if subject != what and what != "error":  # a refusal of a mistake is no support
                total = ops.setdefault(subject, Cell())
                total += cell
        return sum(c.counts[UNSUPPORTED] < c.cases for c in ops.values()), len(ops)


__all__ = ["Cell", "Key", "Level", "Tally", "bin_of", "cells", "together"]
