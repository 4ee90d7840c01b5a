"""The committed records, ``docs/conformance/*.json``. They are held against a run in ``test_conformance.py``."""

from __future__ import annotations

from pathlib import Path

import pytest

from corelib.conformance import FAMILIES, record

RECORDS = Path(__file__).resolve().parents[2] / "docs" / "conformance"


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
