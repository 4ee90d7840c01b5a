"""The record: the largest distances in ULP that a backend has been measured at, small enough to commit, and what a
later run is compared with.

A distance that has grown by more than 1 ULP is a regression. Where it depends on the order of a sum, which threads
and vector widths choose, it is one only if it has also doubled: see ``allowance``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..dtypes import HALF, INEXACT
from ..errors import ArgumentError
from ..op import BY_NAME
from . import document

SCHEMA = 1
WHAT = "corelib conformance record"
GROWTH = 1.0  # ULP
ORDERED = ("elementwise", "movement", "index", "creation")  # kinds of ops whose results depend on no order
ROUNDED = {d.name for d in (*HALF, *INEXACT)}

Worst = dict[tuple[str, str, str], float]  # of an op, a dtype and a family


def of(found: Mapping[str, Any]) -> dict[str, Any]:
    """The record of a report's document."""
    backend, run = found["backend"], found["run"]
    return {
        "what": WHAT,
        "schema": SCHEMA,
        "corelib": found["corelib"],
        "backend": backend["name"],
        "description": backend["description"],
        "environment": {k: v for k, v in found["environment"].items() if k != "release"},
        "run": {k: run[k] for k in ("profile", "seed", "tiles", "whole")},
        "level": found["level"],
        "counts": found["counts"],
        "failures": [f["id"] for f in found["failures"]],
        "unsupported": [case for g in found["unsupported"] for case in g["cases"]],
        "deviations": [case for g in found["deviations"] for case in g["cases"]],
        "worst": _worst(found["ops"]),
    }


def _worst(ops: Mapping[str, Any]) -> dict[str, dict[str, dict[str, float]]]:
    """Of each op, dtype and family that is measured, the largest distance over all placements."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for op, entry in sorted(ops.items()):
        for dtype, families in entry["cells"].items():
            if dtype not in ROUNDED:  # integers are equal or not
                continue
            for what, placements in families.items():
                measured = [float(cell["worst"]) for cell in placements.values() if "worst" in cell]
                if measured:
                    largest = max(measured)
                    short = int(largest) if largest == int(largest) else float(f"{largest:.4g}")
                    found.setdefault(op, {}).setdefault(dtype, {})[what] = short
    return found


def text(found: Mapping[str, Any]) -> str:
    """The record of a document as JSON, an op and dtype to a line; ArgumentError if the run is not one to record."""
    if not found["ok"] or not found["run"]["whole"]:
        raise ArgumentError(
            f"only a whole run without failures is recorded: {found['verdict']}; {found['summary']}"
        )
    recorded = of(found)
    worst = recorded.pop("worst")
    dump = lambda value: json.dumps(value, ensure_ascii=False, allow_nan=False)
    head = [f"{dump(key)}: {dump(value)}" for key, value in recorded.items()]
    ops = []
    for op, dtypes in worst.items():
        inside = ",\n".join(f"    {dump(dtype)}: {dump(whats)}" for dtype, whats in dtypes.items())
        ops.append(f"  {dump(op)}: {{\n{inside}}}")
    body = ",\n".join(ops)
    return "{\n" + ",\n".join([*head, f'"worst": {{\n{body}\n}}']) + "\n}\n"


def load(path: str | Path) -> dict[str, Any]:
    """A record, from its file or from a report's; ArgumentError if the file is neither."""
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict) or found.get("what") != WHAT:
        return of(document.load(path))
    if found.get("schema") != SCHEMA:
        raise ArgumentError(
            f"{path} has schema {found.get('schema')!r}, this corelib reads {SCHEMA}: write it anew"
        )
    return found


# -- comparing -----------------------------------------------------------------------------------------------


@dataclass
class Comparison:
    """What is different in a later run. ``regressions``: what must not be; the others are told."""

    old: str
    regressions: list[str] = field(default_factory=list)
    worse: list[str] = field(default_factory=list)
    better: list[str] = field(default_factory=list)
    new: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing has become worse by more than it may."""
        return not self.regressions

    def lines(self, limit: int = 20) -> Iterator[str]:
        """The differences in words: all regressions, and at most ``limit`` of each other kind."""
        yield f"compared with {self.old}:"
        for title in ("regressions", "worse", "better", "new", "lost"):
            listed = getattr(self, title)
            if listed:
                shown = listed if title == "regressions" else listed[:limit]
                yield f"  {title.upper() if title == 'regressions' else title}: {len(listed)}"
                yield from (f"    {line}" for line in shown)
                if len(listed) > len(shown):
                    yield f"    ... and {len(listed) - len(shown)} more"
        if not any((self.regressions, self.worse, self.better, self.new, self.lost)):
            yield "  nothing is different"


def allowance(op: str, old: float) -> float:
    """By how much the largest distance of an op may grow: 1 ULP, or up to twice what it was where sums are taken in
    an order that the machine chooses (as in matmul, and in whatever is composed of it).
    """
    ordered = op in BY_NAME and BY_NAME[op].kind in ORDERED
    return GROWTH if ordered else max(GROWTH, old)


def compare(old: Mapping[str, Any], new: Mapping[str, Any]) -> Comparison:
    """Hold a record against an earlier one.

    A regression is a distance that grew by more than it may, and a case that fails, or is not supported any more,
    and did and was before. What only one of the two tried is new or lost; a run that was not whole loses nothing.
    """
    run = old["run"]
    found = Comparison(
        f"{old['backend']} of corelib {old['corelib']}, profile {run['profile']}, seed {run['seed']}"
    )
    before, now = _flat(old), _flat(new)
    for key, worst in now.items():
        name = " ".join(key)
        if key not in before:
            found.new.append(f"{name}: {worst:g} ulp")
            continue
        was, line = before[key], f"{name}: {worst:g} ulp, was {before[key]:g}"
        if worst > was + allowance(key[0], was) or math.isnan(worst):
            found.regressions.append(line)
        elif worst > was:
            found.worse.append(line)
        elif worst < was:
            found.better.append(line)
    if new["run"]["whole"]:
        found.lost += [f"{' '.join(key)}: was {was:g} ulp" for key, was in before.items() if key not in now]
    found.regressions += [f"{case} fails now" for case in _fresh("failures", old, new)]
    found.regressions += [f"{case} is not supported any more" for case in _fresh("unsupported", old, new)]
    found.worse += [f"{case} is a declared deviation now" for case in _fresh("deviations", old, new)]
    if new["run"]["whole"]:
        found.better += [f"{case} does not fail any more" for case in _fresh("failures", new, old)]
        found.better += [f"{case} is no deviation any more" for case in _fresh("deviations", new, old)]
        found.better += [f"{case} is supported now" for case in _fresh("unsupported", new, old)]
    if old["level"] is not None and new["level"] is not None and old["level"] != new["level"]:
        line = f"level L{new['level']}, was L{old['level']}"
        (found.better if new["level"] > old["level"] else found.regressions).append(line)
    return found


def _flat(found: Mapping[str, Any]) -> Worst:
    return {
        (op, dtype, what): float(worst)
        for op, dtypes in found["worst"].items()
        for dtype, whats in dtypes.items()
        for what, worst in whats.items()
    }


def _fresh(key: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterable[str]:
    """What the new one lists under a key, and the old one does not."""
    before = set(old[key])
    return [case for case in new[key] if case not in before]


__all__ = ["Comparison", "allowance", "compare", "load", "of", "text"]
