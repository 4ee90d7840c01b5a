"""``corelib conformance repro CASE NAME``, and ``--scripts``: a failing case as a script for whoever is to mend it.

The case is made again by its id, tried, and shrunk; the script is run once before it is shown, so that one that does
not run is never handed out. In a run over worker processes each failure is shrunk in a process of its own: what
crashes there is no loss.
"""

from __future__ import annotations

import contextlib
import io
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ..registry import registry
from .attempts import kind
from .cases import Case
from .check import FAIL, PASS, Outcome, Suite
from .families import Plan, find
from .report import Report
from .script import by_id, written
from .shrink import shrink

Say = Callable[[str], None]
PATIENCE = 60.0  # seconds for shrinking one failure in a process of its own
MARK = "as a script:"


def repro(case_id: str, device: str, plan: Plan, say: Say) -> int:
    """Try one case of a plan on a device, and say what became of it, with a script if it failed; 0 if it did not."""
    plan = replace(plan, tiles=tuple(getattr(registry.get(device), "tiles", ())))
    case = find(case_id, plan)
    outcome = Suite(device).run(case)
    say(
        f"{case.id} {case.shown} on {device}: {outcome.status}{f': {outcome.reason}' if outcome.reason else ''}"
    )
    if outcome.status == PASS or not outcome.reason:
        return 0
    if outcome.status == FAIL:
        say(f"\n{MARK}\n\n{script(case, device, plan, outcome.reason)}")
    return int(outcome.status == FAIL)


def script(case: Case, device: str, plan: Plan, reason: str) -> str:
    """The script of a failing case: the smallest failing call, or the case by its id where it is no single call."""
    shrunk = shrink(case, device)
    text = written(shrunk.attempt, shrunk.reason, device) if shrunk else None
    if text is None or shrunk is None or not runs(text, shrunk.reason):
        return by_id(case, plan, reason, device)
    return text


def runs(text: str, reason: str) -> bool:
    """Whether a script runs to its end, or raises what it is to raise."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            exec(compile(text, "<script>", "exec"), {"__name__": "script"})
    except Exception as error:
        return reason.startswith(f"raised {type(error).__name__}")
    return not reason.startswith("raised ")


def scripts(report: Report, folder: str | Path, say: Say, *, limit: int, apart: bool) -> list[Path]:
    """Write a script for one failure of each sort of each op into a folder, at most ``limit``, and show them.

    ``apart``: each in a process of its own, as its case was tried.
    """
    groups: dict[tuple[str, str], Outcome] = {}
    for outcome in report.failures:
        groups.setdefault((outcome.case.subject, kind(outcome.reason)), outcome)
    plan = report.plan
    if plan is None or not groups:
        return []
    Path(folder).mkdir(parents=True, exist_ok=True)
    files = []
    for outcome in list(groups.values())[:limit]:
        case = outcome.case
        if outcome.reason.startswith("it "):  # crashed the interpreter, did not end
            text = by_id(case, plan, outcome.reason, report.device)
        elif apart:
            text = _apart(case, report.device, plan) or by_id(case, plan, outcome.reason, report.device)
        else:
            text = script(find(case.id, plan), report.device, plan, outcome.reason)
        file = Path(folder) / f"{re.sub(r'[^A-Za-z0-9_-]+', '-', case.id).strip('-')}.py"
        file.write_text(text, encoding="utf-8", newline="\n")
        say(f"{file}:\n\n{text}")
        files.append(file)
    return files


def _apart(case: Case, device: str, plan: Plan) -> str:
    """What ``repro`` says in another process; empty if that came to a bad end."""
    command = [sys.executable, "-m", "corelib", "conformance", "repro", case.id, device]
    command += ["--profile", plan.profile, "--seed", str(plan.seed)]
    with contextlib.suppress(subprocess.TimeoutExpired):
        done = subprocess.run(
            command, capture_output=True, text=True, encoding="utf-8", timeout=PATIENCE, check=False
        )
        if done.returncode == 1:
            return done.stdout.partition(f"{MARK}\n\n")[2].strip("\n") + "\n"
    return ""


__all__ = ["repro", "runs", "script", "scripts"]
