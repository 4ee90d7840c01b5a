"""Families of cases: what is tried, how much of it in which profile, and how a case is judged.

A family is a generator of cases and a function that judges one of them on a backend. Families register
themselves when ``corelib.conformance`` is imported, with the decorator :func:`family`:

    @family("value", level=1, profiles=PROFILES, generate=values)
    def check(suite, case):
        ...  # raise Disagreement(reason), or return the largest distance in ULP, or None

Generation follows from the plan alone and knows no backend: the same plan gives the same cases with the same
ids in every process, so that a worker can make again what it is told to run, and a report can account for each.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING

from ..dtypes import DType
from ..errors import ArgumentError, DeclarationError
from ..op import BY_NAME, OPS, Op

if TYPE_CHECKING:
    from .cases import Case
    from .check import Suite

PROFILES = ("smoke", "standard", "full", "soak")
BOUNDED = PROFILES[:3]  # of families with so many cases and no more: soak goes on with new ones
ROUND = 1000  # cases of a family for each seed in profile soak, whose generators may not end
LEVELS = ("dispatches", "forward", "gradients", "second order", "threads and determinism")
Generate = Callable[["Plan"], Iterator["Case"]]
Check = Callable[["Suite", "Case"], "float | None"]


@dataclass(frozen=True)
class Plan:
    """What cases follow from: the ops, the dtypes (None: all), how much of everything, the seed of what is
    drawn, and the tile sizes of the backend's kernels, as it declares them.
    """

    ops: tuple[Op, ...]
    kinds: tuple[DType, ...] | None = None
    profile: str = "standard"
    seed: int = 0
    tiles: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.profile not in PROFILES:
            raise ArgumentError(f"there is no profile {self.profile!r}: choose one of {', '.join(PROFILES)}")


@dataclass(frozen=True)
class Family:
    """One way to try a backend. ``level``: the index in LEVELS that it counts for. ``by_op``: the cases of a
    plan are those of its ops one by one, each the same whatever other ops there are; otherwise they are about
    no op, and are generated once. ``reference_only``: about the declarations and not about a backend.
    """

    what: str
    level: int
    profiles: tuple[str, ...]
    generate: Generate
    check: Check
    by_op: bool = True
    reference_only: bool = False


FAMILIES: dict[str, Family] = {}


def family(
    what: str,
    *,
    level: int,
    profiles: Iterable[str] = PROFILES,
    generate: Generate,
    by_op: bool = True,
    reference_only: bool = False,
) -> Callable[[Check], Check]:
    """Decorator: register a family with the decorated ``check(suite, case)``.

    ``check`` returns the largest distance that it measured in ULP, or None if it measured none; it raises
    Disagreement when the backend does not do what it must. A family whose cases have ``op=None`` says
    ``by_op=False``.
    """
    if what in FAMILIES:
        raise DeclarationError(f"the family {what!r} of conformance cases is declared twice")
    if not what.isidentifier():
        raise DeclarationError(f"the name of a family is one word of letters, digits and _, got {what!r}")
    if level not in range(len(LEVELS)) or not set(profiles) <= set(PROFILES):
        raise DeclarationError(
            f"family {what!r}: level is 0 to {len(LEVELS) - 1}, profiles are among {PROFILES}"
        )

    def register(check: Check) -> Check:
        FAMILIES[what] = Family(what, level, tuple(profiles), generate, check, by_op, reference_only)
        return check

    return register


def chosen(plan: Plan, what: Iterable[str] | None = None, *, reference: bool = True) -> list[Family]:
    """The families of a plan's profile, or the named ones; ``reference``: with those that only it is tried on.

    A plan of a few ops asks for nothing that is about no op, unless that is named.
    """
    if what is None:
        every = set(OPS) <= set(plan.ops)
        found = [f for f in FAMILIES.values() if plan.profile in f.profiles and (f.by_op or every)]
    else:
        unknown = [w for w in what if w not in FAMILIES]
        if unknown:
            raise ArgumentError(f"there is no family {unknown[0]!r}: there are {', '.join(FAMILIES)}")
        found = [f for f in FAMILIES.values() if f.what in what]
    return [f for f in found if reference or not f.reference_only]


def cases(
    plan: Plan | None = None, what: Iterable[str] | None = None, *, reference: bool = True
) -> Iterator[Case]:
    """All cases of a plan (every op by default), op by op, then those that are about no op; or those of the
    named families.
    """
    plan = Plan(tuple(OPS)) if plan is None else plan
    families = chosen(plan, None if what is None else tuple(what), reference=reference)
    for op in plan.ops:
        one = replace(plan, ops=(op,))
        for f in families:
            if f.by_op:
                yield from generated(f, one)
    for f in families:
        if not f.by_op:
            yield from generated(f, plan)


def generated(f: Family, plan: Plan) -> Iterator[Case]:
    """The cases of one family: in profile soak, a round."""
    return islice(f.generate(plan), ROUND if plan.profile == "soak" else None)


def maker(case: Case) -> tuple[bool, str]:
    """What makes a case: (True, its op's name), or (False, its family's) if that is not asked op by op."""
    return (True, case.op.name) if case.op and FAMILIES[case.what].by_op else (False, case.what)


def find(case_id: str, plan: Plan | None = None) -> Case:
    """The case of an id, such as ``exp[float32-value-3]``, made again; ArgumentError if the plan has none."""
    matched = re.fullmatch(r"(\w+)\[(.*)\]", case_id)
    if not matched:
        raise ArgumentError(f"a case's id looks like exp[float32-value-3], got {case_id!r}")
    name, inside = matched.groups()
    plan = Plan(tuple(OPS)) if plan is None else plan
    if name in FAMILIES and not FAMILIES[name].by_op:
        found = (c for c in generated(FAMILIES[name], plan) if c.id == case_id)
    elif name in BY_NAME:
        plan = replace(plan, ops=(BY_NAME[name],))
        named = [part for part in inside.split("-") if part in FAMILIES]
        found = (c for c in cases(plan, named[:1] or None) if c.id == case_id)
    else:
        raise ArgumentError(f"case {case_id!r}: there is no op and no family {name!r}")
    case = next(found, None)
    if case is None:
        raise ArgumentError(f"there is no case {case_id!r} in profile {plan.profile!r} with seed {plan.seed}")
    return case
