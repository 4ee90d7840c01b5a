"""Running a plan on a backend: over worker processes, or in this one, with an outcome for every case.

The cases are generated here first, and counted; a worker makes them again from the plan and says which it tried.
So a case that is lost, tried twice or another one is noticed: then the report says that the run is void. There
is no way to skip a case. While a run lasts, CORELIB_FALLBACK has no effect.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from ..dtypes import DType
from ..errors import BackendNotFoundError
from ..op import OPS, Op
from ..registry import registry
from .cases import Case
from .check import FAIL, Outcome, Suite, declared_or_failed, stale
from .families import Plan, cases, chosen, find, maker
from .oracle import REFERENCE, Oracle
from .pool import Pool
from .report import Report
from .worker import Job, Tried, Work

TIME_LIMIT = 20.0  # seconds for one case
PORTION = 400  # cases that a worker is given at once
Show = Callable[[int, int, int, str], None]
Run = tuple[
    Report, list[str], dict[str, str]
]  # with the ids of the cases, and the deviations that are declared


def check(
    device: str,
    ops: Iterable[Op] | None = None,
    kinds: Sequence[DType] | None = None,
    *,
    oracle: Oracle | None = None,
    what: Iterable[str] | None = None,
    progress: Show | None = None,
    **plan: Any,
) -> Report:
    """Try every case (or those of some ops, dtypes and families) on a device, in this process, and report.

    ``laws`` concern the derivative rules alone and are checked once, on the reference. ``progress(done, total,
    failed, subject)`` is called before each case. ``plan``: more of a Plan, such as ``profile``.
    """
    chosen = Plan(tuple(OPS if ops is None else ops), None if kinds is None else tuple(kinds), **plan)
    return run(device, chosen, oracle=oracle, what=what, progress=progress, workers=0)


def run(
    device: str,
    plan: Plan,
    *,
    what: Iterable[str] | None = None,
    select: Callable[[str], bool] | None = None,
    workers: int | None = None,
    time_limit: float = TIME_LIMIT,
    seconds: float | None = None,
    progress: Show | None = None,
    oracle: Oracle | None = None,
) -> Report:
    """Try the cases of a plan on a device, and report. An interrupt ends the run with a partial report.

    ``what``: only these families; ``select``: only cases with such ids; ``workers``: so many processes (None: as
    many as processors; 0: in this process, without a time limit and without protection against a crash); ``seconds``: end the run after so many, with a partial report.
    """
    started = time.perf_counter()
    reference = device.partition(":")[0] == REFERENCE
    selected = what is not None or select is not None
    progress = _until(None if seconds is None else time.monotonic() + seconds, progress)
    what = [f.what for f in chosen(plan, what, reference=what is not None or reference)]
    if workers == 0:
        report, ids, deviations = _here(device, plan, what, select, progress, oracle)
    else:
        count = workers or processors()
        report, ids, deviations = _there(device, plan, what, select, count, time_limit, progress)
    report.seconds, report.selected = time.perf_counter() - started, selected
    return _finished(report, ids, deviations)


class _TimeIsUp(Exception):  # noqa: N818 - it is how a run ends, not an error
    """The run has had its seconds."""


def _until(deadline: float | None, progress: Show | None) -> Show:
    """What shows progress, and ends the run in time."""

    def show(done: int, total: int, failed: int, subject: str) -> None:
        if deadline is not None and time.monotonic() > deadline:
            raise _TimeIsUp
        if progress is not None:
            progress(done, total, failed, subject)

    return show


def processors() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


# -- in this process -----------------------------------------------------------------------------------------


@contextmanager
def without_fallback() -> Iterator[None]:
    """CORELIB_FALLBACK has no effect here, nor has what it put into the tables before."""
    fallback = os.environ.pop("CORELIB_FALLBACK", None)
    if fallback is None:
        yield
        return
    registry._changed()
    try:
        yield
    finally:
        os.environ["CORELIB_FALLBACK"] = fallback
        registry._changed()


def _here(
    device: str, plan: Plan, what: Sequence[str], select: Any, progress: Show, oracle: Oracle | None
) -> Run:
    with without_fallback():
        suite = Suite(device, oracle)
        plan = replace(plan, tiles=tuple(getattr(suite.backend, "tiles", ())))
        listed = [c for c in cases(plan, what) if select is None or select(c.id)]
        report = Report(device, len(listed), [], plan=plan)
        failed = 0
        try:
            for done, case in enumerate(listed):
                progress(done, len(listed), failed, case.subject)
                outcome = suite.run(case)
                failed += outcome.status == FAIL
                report.outcomes.append(outcome)
        except (KeyboardInterrupt, _TimeIsUp) as end:
            report.partial = "interrupted" if isinstance(end, KeyboardInterrupt) else "out of time"
    return report, [c.id for c in listed], suite.deviations


# -- in worker processes -------------------------------------------------------------------------------------


def _there(
    device: str,
    plan: Plan,
    what: Sequence[str],
    select: Any,
    workers: int,
    limit: float,
    progress: Show,
) -> Run:
    registry.discover()
    name = device.partition(":")[0]
    if name not in registry.infos:
        registry.load(name)  # raises, and says what there is
    deviations = dict(registry.infos[name].deviations)
    pool = Pool(device, workers, limit)
    patience = 0.0
    try:
        plan = replace(plan, tiles=pool.start().tiles)
        light: list[Case] = []
        works: list[Work] = []
        numbers: dict[tuple[bool, str, int], int] = {}
        for (by_op, name), group in _subjects(cases(plan, what)).items():
            places = [place for place, case in enumerate(group) if select is None or select(case.id)]
            for place in places:
                numbers[by_op, name, place] = len(light)
                light.append(group[place])
            works += [
                Work(by_op, name, tuple(places[i : i + PORTION])) for i in range(0, len(places), PORTION)
            ]
        kinds = None if plan.kinds is None else tuple(d.name for d in plan.kinds)
        job = Job(tuple(op.name for op in plan.ops), kinds, plan.profile, plan.seed, plan.tiles, tuple(what))
        found: dict[int, Outcome] = {}
        problems: list[str] = []
        failed = 0
        subject = ""

        def keep(work: Work, place: int, outcome: Outcome) -> None:
            nonlocal failed, subject
            number = numbers[work.by_op, work.name, place]
            if number in found:
                problems.append(f"{outcome.case.id} was tried twice")
            found[number] = outcome
            failed += outcome.status == FAIL
            subject = work.name

        def told(work: Work, tried: Tried) -> None:
            case = light[numbers[work.by_op, work.name, tried.place]]
            if tried.id != case.id:
                problems.append(f"{tried.id} was tried in place of {case.id}")
            keep(
                work,
                tried.place,
                Outcome(case, tried.status, tried.ulp, tried.reason, tried.how, tried.shown),
            )

        def lost(work: Work, place: int, reason: str) -> None:
            case = light[numbers[work.by_op, work.name, place]]
            keep(work, place, declared_or_failed(case, reason, deviations, shown=find(case.id, plan).shown))

        def tick() -> None:
            progress(len(found), len(light), failed, subject)

        report = Report(device, len(light), [], plan=plan)
        try:
            pool.run(job, works, told, lost, tick)
            patience = 5.0
        except (KeyboardInterrupt, _TimeIsUp) as end:
            report.partial = "interrupted" if isinstance(end, KeyboardInterrupt) else "out of time"
        except BackendNotFoundError as error:  # it could be used before
            report.partial = str(error)
    finally:
        pool.close(patience)
    report.outcomes = [found[n] for n in sorted(found)]
    report.problems = problems
    return report, [c.id for c in light], deviations


def _subjects(listed: Iterable[Case]) -> dict[tuple[bool, str], list[Case]]:
    """The cases by what a worker makes at once, without their operands, which the workers have."""
    found: dict[tuple[bool, str], list[Case]] = {}
    for case in listed:
        found.setdefault(maker(case), []).append(replace(case, sample=None, data=None))
    return found


def _finished(report: Report, ids: list[str], deviations: dict[str, str]) -> Report:
    """Hold the outcomes against the cases; and find the deviations that are out of date, if all the cases that
    they may be about were to be tried.
    """
    if len(set(ids)) < len(ids):
        twice = next(i for n, i in enumerate(ids) if i in set(ids[:n]))
        report.problems.append(f"{twice} is the id of several cases")
    if not report.partial:
        if [o.case.id for o in report.outcomes] != ids and not report.problems:
            report.problems.append(f"{len(ids)} cases were generated, {len(report.outcomes)} have an outcome")
        plan = report.plan
        if not report.selected and plan and plan.kinds is None and plan.profile in ("standard", "full"):
            report.stale = stale(deviations, report.outcomes)
    return report
