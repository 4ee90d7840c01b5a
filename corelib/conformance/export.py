"""Writing a report to files, and holding it against an earlier one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from . import document, formats, page, record
from .report import Report


def write(report: Report, asked: Mapping[str, Any], say: Callable[[str], None] = print) -> bool:
    """Write the files that ``asked`` names, ``{"json": path, "junit": ..., "html": ..., "markdown": ...,
    "badge": ..., "update_record": ...}``; ``{backend}`` in a path stands for the backend's name.

    "compare" is the path of an earlier report, or of a record, that this one is compared with. Returns whether the
    comparison, if there is one, is in order.
    """
    found = document.document(report)
    name = found["backend"]["name"]
    where = {k: Path(str(v).replace("{backend}", name)) for k, v in asked.items() if v}
    old = record.load(where.pop("compare")) if "compare" in where else None
    made: dict[str, Callable[[], str]] = {
        "json": lambda: document.text(found),
        "junit": lambda: formats.junit(report),
        "html": lambda: page.html(found, document.tally(found)),
        "markdown": lambda: formats.markdown(found),
        "badge": lambda: formats.badge(found),
        "update_record": lambda: record.text(found),
    }
    for kind, path in where.items():
        save(path, made[kind]())
        say(f"{report.device}: wrote {path}")
    if old is None:
        return True
    comparison = record.compare(old, record.of(found))
    say("\n".join(comparison.lines()))
    return comparison.ok


def save(path: Path, content: str) -> None:
    """Write a file as a whole or not at all: whoever is interrupted leaves the old one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    part.write_text(content, encoding="utf-8")
    part.replace(path)


__all__ = ["save", "write"]
