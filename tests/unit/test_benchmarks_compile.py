"""The benchmark of whole programs goes on when a contestant fails, is late, or gives other losses."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

compile = pytest.importorskip("benchmarks.compile")

SCRIPT = """
import json, sys, time
say = lambda **what: print(json.dumps(what), flush=True)
how = {how!r}
if how == "ends":
    sys.exit(3)
if how == "late":
    time.sleep(60)
say(first=0.5, losses=[1.0, 2.0])
for line in sys.stdin:
    if how == "hangs":
        time.sleep(60)
    say(grown=1000) if int(line) == 0 else say(min=1e-3, median=2e-3, total=3e-3)
"""


@pytest.fixture
def contestants(monkeypatch):
    """Processes that behave as they are called: the name of a contestant is what it does."""
    real = subprocess.Popen

    def started(command, **options):
        return real([sys.executable, "-c", SCRIPT.format(how=command[-1])], **options)

    monkeypatch.setattr(compile.subprocess, "Popen", started)
    monkeypatch.setattr(compile, "START", 2.0)
    monkeypatch.setattr(compile, "ROUNDS", 1.0)


def test_who_fails_or_is_late_is_named_with_the_reason_and_the_others_are_measured(contestants):
    names = ["corelib", "ends", "late", "hangs", "torch eager"]
    found = compile.measured("lstm", names, rounds=2, seconds=0.001, limit=6)
    assert found["corelib"]["min"] == found["torch eager"]["min"] == 1e-3
    assert found["corelib"]["cold"] == found["corelib"]["cached"] == 0.5
    assert found["torch eager"]["cached"] is None
    assert "ended with status 3" in found["ends"]["missing"]
    assert "first calls took more than 2 s" in found["late"]["missing"]
    assert "3 calls took more than" in found["hangs"]["missing"]
    lines = compile.table({"lstm": found})
    assert any("torch eager | 1 ms | 1.00 | 8.0" in line for line in lines)
    assert sum("is missing" in line for line in lines) == 3


def test_what_is_measured_is_kept_after_each_program(contestants):
    kept = []
    keep = lambda text, data: kept.append((text, json.loads(json.dumps(data))))
    compile.run(["elements", "gray_scott"], ["corelib", "torch eager"], 1, 0.001, 20, keep)
    assert [list(data["programs"]) for _, data in kept] == [["elements"], ["elements", "gray_scott"]]
    assert "six element-wise ops" in kept[0][0] and "Gray-Scott" not in kept[0][0]


def test_other_losses_are_told_and_fail_the_run():
    found = {"corelib eager": {"losses": [1.0, 0.5]}, "jax jit": {"losses": [1.0, 0.51]}}
    assert "losses of jax jit are [1.0, 0.51]" in compile.disagreements("mlp", found)[0]
    assert compile.failed({"programs": {"mlp": found}}) == 1
    found["jax jit"]["losses"] = [1.0, 0.5001]
    assert compile.failed({"programs": {"mlp": found}}) == 0
