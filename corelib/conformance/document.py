"""The report as a document: what the JSON file holds, and what pages, tables and comparisons are made from, the same
whether it has just been made or was read back.

``schema`` counts up when a reader of older files would be misled by newer ones, or the reverse; keys may be added.
"""

from __future__ import annotations

import json
import math
import os
import platform
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from ..errors import ArgumentError
from ..op import BY_NAME, OPS
from ..registry import registry
from .check import DEVIATION, STATUSES, UNSUPPORTED, Outcome
from .families import LEVELS
from .report import Report
from .tally import Cell, Key, Tally, level_of, together

SCHEMA = 1
WHAT = "corelib conformance report"
PLAIN = "plain"  # in files, the placement that is ""


def document(report: Report) -> dict[str, Any]:
    """The report as what JSON can hold."""
    counted = report.tally
    plan = report.plan
    return {
        "what": WHAT,
        "schema": SCHEMA,
        "corelib": _version("corelib"),
        "backend": _backend(report.device),
        "environment": environment(),
        "run": {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(report.seconds, 1),
            "profile": plan.profile if plan else None,
            "seed": plan.seed if plan else None,
            "tiles": list(plan.tiles) if plan else [],
            "ops": None if plan is None or {*OPS} <= {*plan.ops} else [op.name for op in plan.ops],
            "dtypes": [d.name for d in plan.kinds] if plan and plan.kinds is not None else None,
            "selected": report.selected,
            "whole": report.whole,
            "partial": report.partial,
            "problems": report.problems,
        },
        "ok": report.ok,
        "level": report.level,
        "verdict": report.verdict(),
        "summary": report.summary(),
        "generated": report.generated,
        "unaccounted": report.generated - len(report.outcomes),
        "counts": {s: report.count(s) for s in STATUSES},
        "supported": list(counted.supported),
        "levels": [
            {"level": level.number, "name": LEVELS[level.number], "passed": level.passed, **_cell(level.cell)}
            for level in counted.levels
        ],
        "families": _families(counted),
        "failures": [
            {"id": o.case.id, "level": level_of(o.case.what), "reason": o.reason, "call": o.shown}
            for o in report.failures
        ],
        "deviations": _grouped(report.outcomes, DEVIATION),
        "unsupported": _grouped(report.outcomes, UNSUPPORTED),
        "stale": report.stale,
        "ops": _ops(counted),
    }  # fmt: skip


def environment() -> dict[str, Any]:
    """What a run depends on, beside the code."""
    return {
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "system": platform.system(),
        "release": platform.release(),
        "machine": platform.machine(),
        "processor": _processor(),
        "processors": os.cpu_count(),
        "numpy": _version("numpy"),
    }


def _processor() -> str:
    """The processor's name; where Python does not know it, from Linux's list of them."""
    try:
        listed = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    named = [line.partition(":")[2].strip() for line in listed if line.startswith("model name")]
    return named[0] if named else platform.processor()


def _version(module: str) -> str | None:
    try:
        return metadata.version(module)
    except metadata.PackageNotFoundError:
        return None


def _backend(device: str) -> dict[str, Any]:
    name = device.partition(":")[0]
    info = registry.infos.get(name)
    try:
        says = registry.get(device).describe()
    except Exception as error:  # a backend that is not usable, or too broken to say; the report says more
        says = f"({type(error).__name__}: {error})"
    return {
        "name": name,
        "device": device,
        "description": says,
        "summary": info.summary if info else "",
        "versions": {m: _version(m) for m in info.requires} if info else {},
        "lacks": list(info.lacks) if info else [],
        "deviations": dict(info.deviations) if info else {},
    }


def _families(counted: Tally) -> dict[str, Any]:
    names = dict.fromkeys(key[2] for key in counted.cells)
    return {
        name: {"level": level_of(name), **_cell(together((k, c) for k, c in counted.cells.items() if k[2] == name))}
        for name in names
    }  # fmt: skip


def _grouped(outcomes: Iterable[Outcome], status: str) -> list[dict[str, Any]]:
    found: dict[str, list[str]] = {}
    for o in outcomes:
        if o.status == status:
            found.setdefault(o.reason, []).append(o.case.id)
    return [{"reason": reason, "cases": ids} for reason, ids in found.items()]


def _ops(counted: Tally) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for (subject, dtype, what, placement), cell in counted.cells.items():
        entry = found.setdefault(subject, {**_declared(subject), "cells": {}})
        of_dtype = entry["cells"].setdefault(dtype, {})
        of_dtype.setdefault(what, {})[placement or PLAIN] = _cell(cell)
    return found


def _declared(subject: str) -> dict[str, Any]:
    op = BY_NAME.get(subject)
    if op is None:
        return {}
    return {
        "kind": op.kind,
        "budget": op.ulp,
        "budget complex": op.ulp_complex,
        "derivative": op.derivative.kind,
    }


def _cell(cell: Cell) -> dict[str, Any]:
    found: dict[str, Any] = {s: cell.counts[s] for s in STATUSES if cell.counts[s]}
    if cell.hows:
        found["kernels"] = dict(cell.hows)
    if cell.worst is not None:
        found["worst"] = number(cell.worst)
        found["histogram"] = {str(number(edge)): n for edge, n in sorted(cell.histogram.items())}
    return found


def number(x: float) -> float | str:
    """Six digits; a whole number without a point; "inf" and "nan", which JSON has not, as words."""
    if not math.isfinite(x):
        return str(x)
    return int(x) if x == int(x) else float(f"{x:.6g}")


def text(found: Mapping[str, Any]) -> str:
    """The document as JSON, an op and dtype to a line."""
    lines = []
    for key, value in found.items():
        if key == "ops":
            listed = ",\n".join(_op_lines(value))
            lines.append(f'"ops": {{\n{listed}\n}}')
        elif key in ("failures", "deviations", "unsupported") and value:
            listed = ",\n".join(f"  {_line(v)}" for v in value)
            lines.append(f"{_line(key)}: [\n{listed}\n]")
        else:
            lines.append(f"{_line(key)}: {_line(value)}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _op_lines(ops: Mapping[str, Any]) -> Iterable[str]:
    for name, entry in ops.items():
        opening = "".join(f"{_line(k)}: {_line(v)}, " for k, v in entry.items() if k != "cells")
        cells = ",\n".join(f"    {_line(dtype)}: {_line(of)}" for dtype, of in entry["cells"].items())
        yield f'  {_line(name)}: {{{opening}"cells": {{\n{cells}}}}}'


def _line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def load(path: str | Path) -> dict[str, Any]:
    """The document of a file that was written with ``--json``; ArgumentError if it is something else."""
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ArgumentError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ArgumentError(f"{path} is not JSON: {error}") from error
    if not isinstance(found, dict) or found.get("what") != WHAT:
        raise ArgumentError(f"{path} is not a {WHAT}: write one with corelib conformance NAME --json {path}")
    if found.get("schema") != SCHEMA:
        raise ArgumentError(
            f"{path} has schema {found.get('schema')!r}, this corelib reads {SCHEMA}: write it anew"
        )
    return found


def tally(found: Mapping[str, Any]) -> Tally:
    """The counts of a document, as they were in the report."""
    cells: dict[Key, Cell] = {}
    for subject, entry in found["ops"].items():
        for dtype, families in entry["cells"].items():
            for what, placements in families.items():
                for placement, value in placements.items():
                    key = (subject, dtype, what, "" if placement == PLAIN else placement)
                    cells[key] = Cell(
                        Counter({s: value[s] for s in STATUSES if s in value}),
                        Counter({float(edge): n for edge, n in value.get("histogram", {}).items()}),
                        Counter(value.get("kernels", {})),
                        float(value["worst"]) if "worst" in value else None,
                    )
    return Tally(cells)


__all__ = ["document", "load", "tally", "text"]
