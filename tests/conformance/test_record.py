"""The committed records, ``docs/conformance/*.json``: no result is farther from the reference's than it was.

The part of a run that fits here: float32, and the families that are cheap. The whole is
``python -m corelib conformance cpu --compare docs/conformance/cpu.json``.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from corelib.conformance import FAMILIES, check, document, record
from corelib.dtypes import float32

RECORDS = Path(__file__).resolve().parents[2] / "docs" / "conformance"
WHAT = ["value", "special", "layout", "gradient"]


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_no_distance_has_grown(backend):
    old = record.load(RECORDS / f"{backend}.json")
    report = check(backend, kinds=[float32], what=WHAT)
    comparison = record.compare(old, record.of(document.document(report)))
    assert comparison.ok, (
        "\n".join(comparison.lines())
        + f"\nif that is meant: python -m corelib conformance {backend} --update-record docs/conformance/{backend}.json"
    )
    assert comparison.new == [], "the record knows each of these ops and families"


@pytest.mark.parametrize("path", sorted(RECORDS.glob("*.json")), ids=lambda path: path.stem)
def test_a_committed_record_is_of_a_whole_run_without_failures(path):
    found = record.load(path)
    assert found["backend"] == path.stem
    assert found["run"]["whole"]
    assert found["run"]["profile"] == "standard"
    assert found["failures"] == []
    assert found["level"] is not None
    families = {what for dtypes in found["worst"].values() for whats in dtypes.values() for what in whats}
    assert families <= {*FAMILIES}
