"""The emulator notices bugs in the `cuda` kernels: each one of tests/cuda_emulator/planted.py, by itself, is caught, and those that
cannot be are named with the reason. docs/cuda-planted-bugs.md tells by what.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "cuda_emulator"))
import emulated_cupy
import planted

from corelib_cuda.backend import CudaBackend

REASON = emulated_cupy.unusable()
emulated = pytest.mark.skipif(REASON is not None, reason=str(REASON))
ALL = (*planted.BUGS, *planted.LAUNCHES)


@pytest.fixture(scope="module")
def device():
    with emulated_cupy.installed():
        yield CudaBackend("cuda")


@emulated
@pytest.mark.parametrize("check", dict.fromkeys(b.check for b in planted.BUGS))
def test_without_a_bug_every_result_is_right(device, check, monkeypatch):
    for order in emulated_cupy.ORDERS:
        monkeypatch.setattr(emulated_cupy, "order", order)
        assert check(device)


@emulated
@pytest.mark.parametrize("bug", ALL, ids=lambda b: b.name)
def test_a_bug_is_caught(device, bug):
    assert bool(planted.tried(bug, device)) == (not bug.missed)


def test_the_page_tells_of_each():
    text = planted.PAGE.read_text(encoding="utf-8")
    missed = [bug for bug in ALL if bug.missed]
    assert len(ALL) - len(missed) >= 28
    assert f"{len(ALL)} bugs, " in text
    assert f"{len(ALL) - len(missed)} of {len(ALL)}." in text
    assert [bug.name for bug in ALL if f"| {bug.kind} | {bug.name} | " not in text] == []
    assert [bug.name for bug in missed if f"**missed**: {bug.missed} |" not in text] == []
