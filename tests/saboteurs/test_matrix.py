"""``docs/conformance/saboteurs.md`` is about the saboteurs that there are, and none of them survived."""

from __future__ import annotations

import subprocess
import sys

from matrix import PAGE, ROOT, page, read

from corelib.conformance import FAMILIES

LEAST = 60


def test_the_page_names_every_saboteur_and_no_other():
    command = [sys.executable, str(ROOT / "tests" / "saboteurs" / "matrix.py"), "--list"]
    listed = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=True)
    saboteurs = listed.stdout.splitlines()
    assert len(saboteurs) == len(set(saboteurs)) >= LEAST
    told = {f"{s.section}: {s.name}" for s in read(PAGE.read_text(encoding="utf-8"))}
    assert told - set(saboteurs) == set(), "gone: python tests/saboteurs/matrix.py --new"
    assert set(saboteurs) - told == set(), "new: python tests/saboteurs/matrix.py --new"


def test_every_saboteur_was_killed_by_a_family():
    for saboteur in read(PAGE.read_text(encoding="utf-8")):
        assert saboteur.passed and saboteur.kills, saboteur.name
        assert set(saboteur.kills) <= set(FAMILIES), saboteur.name


def test_a_page_is_read_as_it_is_written():
    saboteurs = read(PAGE.read_text(encoding="utf-8"))
    assert read(page(saboteurs)) == saboteurs
