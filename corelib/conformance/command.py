"""The command ``corelib conformance``: its options, and what it prints.

Exit status: 0 everything is as it must be; 1 something is not; 2 the command could not be carried out, or the run
is void, for not every case has an outcome; 130 interrupted, after a report on what had been tried.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace

from ..dtypes import as_dtype
from ..errors import ArgumentError
from ..op import OPS
from ..registry import backends
from ..support import find_op, why
from . import record
from .check import FAIL
from .export import write
from .families import FAMILIES, PROFILES, Plan, chosen
from .oracle import REFERENCE, Oracle
from .progress import Progress, clock
from .report import Report
from .repro import repro, scripts
from .runner import TIME_LIMIT, run
from .selection import chooser

Say = Callable[[str], None]
FILES = {
    "json": "everything, for programs: see docs/conformance.md",
    "junit": "as JUnit XML, for CI",
    "html": "as a page that can be searched",
    "markdown": "as a table",
    "badge": "level and counts, as an SVG picture",
    "update_record": "as a record: the largest distances in ULP, for --compare",
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument(
        "backend", metavar="NAME", nargs="?", help="a device such as cpu or cuda:1 (default: all)"
    )
    parser.add_argument(
        "more", metavar="CASE NAME", nargs="*", help="after 'repro': a case's id, and a device"
    )
    parser.add_argument(
        "--profile", choices=PROFILES, default="standard",
        help="smoke: 20 s; standard: minutes (default); full: half an hour; soak: random programs until stopped",
    )  # fmt: skip
    parser.add_argument(
        "-k", metavar="EXPR", help="only cases whose ids match, such as 'exp and not float64'"
    )
    parser.add_argument(
        "--op", action="append", metavar="OP", help="only this op; may be given several times"
    )
    parser.add_argument("--dtype", action="append", metavar="DTYPE", help="only this dtype; may be repeated")
    parser.add_argument("--what", action="append", metavar="FAMILY", help="only this family; may be repeated")
    parser.add_argument(
        "-j",
        type=int,
        metavar="N",
        help="worker processes (default: as many as processors; 0: in this process)",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of what is drawn (default 0)")
    parser.add_argument(
        "--time-limit",
        type=float,
        default=TIME_LIMIT,
        metavar="S",
        help="seconds for a case (default %(default)g)",
    )
    parser.add_argument("--minutes", type=float, metavar="M", help="profile soak: stop after M minutes")
    parser.add_argument(
        "--limit", type=int, default=20, metavar="N", help="show N different reasons (default 20)"
    )
    parser.add_argument(
        "--scripts",
        metavar="DIR",
        help="shrink a failure of each sort to a script of five lines, and save it",
    )
    for name, text in FILES.items():
        parser.add_argument(f"--{name.replace('_', '-')}", metavar="FILE", help=f"write the report {text}")
    parser.add_argument(
        "--compare", metavar="OLD.json", help="fail if something is worse than in an earlier report or record"
    )


def main(args: argparse.Namespace, say: Say = print) -> int:
    """Carry out the command."""
    if args.backend == "repro":
        return reproduce(args, say)
    if args.more:
        raise ArgumentError(f"one device is tried at a time, got {args.backend!r} and {args.more[0]!r}")
    ops = tuple(find_op(name) for name in args.op) if args.op else tuple(OPS)
    kinds = tuple(as_dtype(name) for name in args.dtype) if args.dtype else None
    plan = Plan(ops, kinds, args.profile, args.seed)
    if not chosen(plan, args.what):
        raise ArgumentError(
            f"no family of cases belongs to profile {args.profile!r}: there are {', '.join(FAMILIES)}"
        )
    if args.j is not None and args.j < 0 or args.time_limit <= 0:
        raise ArgumentError("-j is 0 or a number of processes, --time-limit a number of seconds above 0")
    if args.backend:
        devices, unusable = [args.backend], []
    else:
        statuses = backends()
        devices = [s.name for s in statuses if s.usable]
        unusable = [s for s in statuses if not s.usable]
    _check_files(devices, args)
    reports = []
    for device in devices:
        if plan.profile == "soak":
            reports.append(soak(device, plan, args, say))
        else:
            reports.append(one(device, plan, args, Oracle() if args.j == 0 else None))
            say(f"{device} against {REFERENCE}\n\n{reports[-1].text(limit=args.limit)}\n")
        if reports[-1].partial:
            break
    if len(reports) > 1:
        say("\n".join(r.summary() for r in reports))
    for status in unusable:
        say(f"{status.name}: not tried: {why(status)}")
    good = [export(report, args, say) for report in reports]
    if args.scripts:
        for report in reports:
            scripts(report, args.scripts, say, limit=args.limit, apart=args.j != 0)
    if any(r.partial == "interrupted" for r in reports):
        return 130
    if any(not r.accounted and r.partial != "out of time" for r in reports):
        return 2
    return 0 if all(good) and all(r.ok or r.partial and not r.failures for r in reports) else 1


def one(
    device: str, plan: Plan, args: argparse.Namespace, oracle: Oracle | None, seconds: float | None = None
) -> Report:
    """One run, with its progress shown."""
    progress = Progress(device)
    try:
        return run(
            device, plan, what=args.what, select=chooser(args.k) if args.k is not None else None,
            workers=args.j, time_limit=args.time_limit, seconds=seconds, progress=progress, oracle=oracle,
        )  # fmt: skip
    finally:
        progress.close()


def soak(device: str, plan: Plan, args: argparse.Namespace, say: Say) -> Report:
    """Run after run, each with the next seed, until interrupted, out of time, or something fails; the report is of
    the last.
    """
    began, tried = time.monotonic(), 0
    end = None if args.minutes is None else began + 60 * args.minutes
    while True:
        report = one(device, plan, args, None, None if end is None else end - time.monotonic())
        tried += len(report.outcomes)
        gone = clock(time.monotonic() - began)
        say(f"{device}: to seed {plan.seed}: {tried} cases in {gone}, {report.count(FAIL)} failed")
        if report.partial or not report.ok:
            if report.failures or not report.partial:
                say(f"\n{report.text(limit=args.limit)}")
            return report
        plan = replace(plan, seed=plan.seed + 1)


def reproduce(args: argparse.Namespace, say: Say) -> int:
    """``conformance repro CASE NAME``: try a case again, and show it as a script if it fails."""
    if len(args.more) != 2:
        raise ArgumentError("say which case and where: corelib conformance repro 'exp[float32-value-3]' cpu")
    case_id, device = args.more
    return int(repro(case_id, device, Plan(tuple(OPS), None, args.profile, args.seed), say))


def _check_files(devices: list[str], args: argparse.Namespace) -> None:
    """What is wrong with the files that are asked for is said before a run of minutes, not after it."""
    paths = {name: getattr(args, name) for name in (*FILES, "compare") if getattr(args, name)}
    for name, path in paths.items():
        if len(devices) > 1 and name != "compare" and "{backend}" not in path:
            option = name.replace("_", "-")
            raise ArgumentError(
                f"--{option} {path}: {len(devices)} backends are tried, name one or put {{backend}} into the name"
            )
    for device in devices if "compare" in paths else ():
        record.load(paths["compare"].replace("{backend}", device.partition(":")[0]))


def export(report: Report, args: argparse.Namespace, say: Say) -> bool:
    """Write the files that were asked for; whether the comparison, if there was one, is in order."""
    asked = {name: getattr(args, name) for name in (*FILES, "compare") if getattr(args, name)}
    if not asked:
        return True
    return bool(write(report, asked, say))


__all__ = ["add_options", "main"]
