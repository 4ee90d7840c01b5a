"""``docs/conformance/saboteurs.md`` is about the saboteurs that there are, and none of them survived."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "conformance" / "saboteurs.md"
LEAST = 60


def rows() -> dict[str, str]:
    """Of each row of the page, the file and the saboteur, and what killed it."""
    found, section = {}, ""
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if heading := re.fullmatch(r"## `(.*)`", line):
            section = heading[1]
        elif section and line.startswith("| ") and not line.startswith("| saboteur |"):
            name, _, killed, *_ = re.split(r"(?<!\\) \| ", line[2:])
            found[f"{section}: {name}"] = killed
    return found


def test_the_page_names_every_saboteur_and_no_other():
    command = [sys.executable, str(Path(__file__).with_name("matrix.py")), "--list"]
    listed = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=True)
    saboteurs = listed.stdout.splitlines()
    assert len(saboteurs) == len(set(saboteurs)) >= LEAST
    assert set(rows()) == set(saboteurs), (
        "write it anew: python tests/saboteurs/matrix.py > docs/conformance/saboteurs.md"
    )


def test_every_saboteur_was_killed_by_a_family():
    from corelib.conformance import FAMILIES

    for saboteur, killed in rows().items():
        families = {what.split()[0] for what in killed.split(", ")}
        assert families <= set(FAMILIES), f"{saboteur}: {killed}"
