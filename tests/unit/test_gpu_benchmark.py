"""benchmarks/gpu.py runs to its end where there is no GPU: every stage, tiny, on the emulator, which it says everywhere."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "cuda_emulator"))
sys.path.insert(0, str(ROOT))
import emulated_cupy  # noqa: E402

from benchmarks import gpu  # noqa: E402

REASON = emulated_cupy.unusable()
pytestmark = [
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
    pytest.mark.xdist_group("gpu_benchmark"),
]


def test_the_dry_run_does_every_stage_and_says_that_it_is_emulated(tmp_path, capsys):
    status = gpu.main(["--dry", "--output", str(tmp_path)])
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert {s["stage"]: s["status"] for s in found["stages"]} == dict.fromkeys(gpu.STAGES, "done"), found[
        "stages"
    ]
    assert status == 0
    assert found["emulated"] is True
    assert found["device"].startswith("emulated device")
    text = (tmp_path / "gpu.md").read_text()
    assert text in capsys.readouterr().out  # the table is what comes last
    assert "**Emulated on the CPU, no GPU" in text
    lines = [line for line in text.splitlines() if line.startswith("| ")][2:]
    assert [line for line in lines if "(emulated)" not in line] == []
    stages = {s["stage"]: s["rows"] for s in found["stages"]}
    assert all(stages.values())
    for entry in stages["timings"]:  # errors against float64, and no times
        assert entry["seconds"] == {}
        # bfloat16 has 8 bits: 2^-8 of the largest number; float32's sums of few numbers are a thousand times closer
        assert entry["errors"]["corelib"] <= (
            2**-8 if "bfloat16" in entry["what"] or "attention" in entry["what"] else 2**-18
        )
    for entry in stages["training"]:
        assert len(entry["losses"]["corelib"]) == 4
        assert entry["seconds"] == {}


def test_stages_can_be_left_out_and_their_names_are_checked(tmp_path, capsys):
    rest = ",".join(name for name in gpu.STAGES if name != "versions")
    assert gpu.main(["--dry", "--skip", rest, "--output", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert [s["stage"] for s in found["stages"] if s["status"] != "skipped"] == ["versions"]
    with pytest.raises(SystemExit):
        gpu.main(["--only", "verssions"])
    assert "no stage verssions: there are versions" in capsys.readouterr().err


def test_all_deadlines_together_are_ten_minutes():
    assert sum(deadline for _, deadline in gpu.STAGES.values()) <= 600


def test_a_stage_that_hangs_is_stopped_and_what_it_said_is_kept(monkeypatch, tmp_path):
    """A process that says one row and sleeps, in the place of a stage."""
    script = tmp_path / "hangs.py"
    script.write_text(
        "import sys, time\n"
        'open(sys.argv[sys.argv.index(\'--out\') + 1], \'w\').write(\'{"what": "a", "result": "b", "note": ""}\\n\')\n'
        "time.sleep(60)\n"
    )
    start = gpu.subprocess.Popen
    monkeypatch.setattr(
        gpu.subprocess, "Popen", lambda command, **k: start([command[0], str(script), *command[3:]], **k)
    )
    found = gpu.staged("versions", True, 2.0)
    assert found["status"] == "stopped after 2 s"
    assert [r["what"] for r in found["rows"]] == ["a"]
