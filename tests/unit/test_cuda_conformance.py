"""The `cuda` backend passes the conformance suite: whole ops, gradients and refusals through the core, on the emulated device.

Two dtypes stand for all here, which the tests of the kernels cover one by one; on a machine with a GPU the suite runs in full.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "cuda_emulator"))
import emulated_cupy

from corelib import conformance, dtypes
from corelib.registry import registry
from corelib_cuda import elementwise, reduce

REASON = emulated_cupy.unusable()
pytestmark = [
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
    pytest.mark.xdist_group("cuda_conformance"),
]


def prepare(dtype):
    """Compile the kernels of a dtype in two sources: far quicker than one by one."""
    entries = []
    for kernel in elementwise.every_kernel([(dtype.name, dtype.kind)]):
        if "position" not in kernel.inputs and not kernel.name.startswith("full"):
            for forms in {1: ["a"], 2: ["aa", "av", "va"], 3: ["aaa", "aav", "ava"]}[len(kernel.inputs)]:
                entries += [kernel.entry(forms, walk, 32) for walk in ("dense", "strided")]
    emulated_cupy.prepare("elementwise.cu", entries)
    whole = [r.entry(walk, "") for r in reduce.every_reduction([dtype.name]) for walk in ("rows", "columns")]
    emulated_cupy.prepare("reduce.cu", whole)


@pytest.fixture(scope="module")
def device():
    with emulated_cupy.installed():
        assert "cuda" not in registry._instances, (
            "a real device is in use: the emulated one would take its place"
        )
        yield "cuda"
        registry._instances.pop("cuda", None)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's, where it stands for a function of CuPy
@pytest.mark.parametrize("dtype", [dtypes.float32, dtypes.int32], ids=lambda d: d.name)
def test_every_op_conforms(device, dtype):
    prepare(dtype)
    report = conformance.check(device, kinds=[dtype])
    assert report.ok, report.text()
    assert report.count("pass") == report.generated
