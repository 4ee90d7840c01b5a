"""The `cuda` backend passes the conformance suite: whole ops, gradients and refusals through the core, on the emulated device.

Five dtypes stand for all here, which the tests of the kernels cover one by one; on a machine with a GPU the suite runs in
full.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "cuda_emulator"))
import emulated_cupy

import corelib
from corelib import conformance, dtypes, random
from corelib.op import OPS
from corelib.registry import registry
from corelib_cuda import elementwise, reduce

REASON = emulated_cupy.unusable()
pytestmark = [
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
    pytest.mark.xdist_group("cuda_conformance"),
]


# float32 and int32 stand for the dtypes that are computed in, with every op; complex64 with what has kernels of its own, and
# float16 and bfloat16 with what moves them and a few of the ops that the core computes in float32.
COMPUTED = ("add", "divide", "exp", "equal", "sum", "any", "cumulative_sum", "matmul", "softmax", "scatter_add", "argsort")  # fmt: skip
HALF = [op for op in OPS if (op.primitive and op.moves) or op.name in COMPUTED]
# Each way of trying an op that reaches its kernels. The emulated device runs one thread of the host at a time and cannot
# refuse memory, so what concerns threads, memory and other processes is for a machine with a GPU.
TRIED = ("value", "special", "layout", "gradient", "error")
SUBSETS = {
    dtypes.float32: OPS,
    dtypes.int32: OPS,
    dtypes.complex64: [op for op in OPS if op.primitive and dtypes.complex64 in op.rule.accepts],
    dtypes.float16: HALF,
    dtypes.bfloat16: HALF,
}


def prepare(dtype):
    """Compile the kernels of a dtype in two sources: far quicker than one by one."""
    entries = []
    for kernel in elementwise.every_kernel([dtype.name]):
        if "position" not in kernel.inputs and not kernel.name.startswith("full"):
            for forms in {1: ["a"], 2: ["aa", "av", "va"], 3: ["aaa", "aav", "ava"]}[len(kernel.inputs)]:
                entries += [kernel.entry(forms, walk, 32) for walk in ("dense", "strided")]
    if dtype is not dtypes.float32:  # for what is computed there, and for parts of complex numbers
        pairs = [(dtype.name, "float32")] * elementwise.castable(dtype, dtypes.float32) + [
            ("float32", dtype.name)
        ]
        entries += [
            elementwise.cast_kernel(*pair).entry("a", walk, 32)
            for pair in pairs
            for walk in ("dense", "strided")
        ]
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
@pytest.mark.parametrize("dtype", SUBSETS, ids=lambda d: d.name)
def test_ops_conform(device, dtype):
    prepare(dtype)
    report = conformance.check(device, SUBSETS[dtype], kinds=[dtype], what=TRIED)
    assert report.ok, report.text()
    assert report.count("pass") == report.generated


@pytest.mark.parametrize("dtype", dtypes.HALF, ids=lambda d: d.name)
def test_half_tensors_come_and_go(device, dtype):
    x = corelib.asarray([[1.5, -2.0], [0.5, math.inf]], dtype=dtype, device=device)
    assert x.numpy().tolist() == x.to("reference").tolist() == [[1.5, -2.0], [0.5, math.inf]]
    assert x.to("reference").to(device).T[::-1].tolist() == [[-2.0, math.inf], [1.5, 0.5]]
    y = x + 1
    y[0, 0] = 7
    y += x
    assert (y.dtype, y.tolist()) == (dtype, [[8.5, -3.0], [2.0, math.inf]])
    assert x.tolist() == [[1.5, -2.0], [0.5, math.inf]]


# What test_random.py holds on the other backends, on the emulated device.
DRAWS = {
    "bits": lambda **k: random.bits((5, 3), **k),
    "bits64": lambda **k: random.bits((5, 3), "uint64", **k),
    "uniform": lambda **k: random.uniform((33,), -2.5, 7.1, **k),
    "uniform64": lambda **k: random.uniform((33,), dtype="float64", **k),
    "integers": lambda **k: random.integers(-7, 100, (33,), **k),
    "bernoulli": lambda **k: random.bernoulli(0.3, (33,), **k),
    "permutation": lambda **k: random.permutation(33, **k),
}


@pytest.mark.parametrize("name", DRAWS)
def test_the_same_seed_gives_the_references_numbers(device, name):
    drawn = [DRAWS[name](generator=random.Generator(5, device=d), device=d) for d in (device, "reference")]
    assert [x.device for x in drawn] == [device, "reference"]
    assert drawn[0].tolist() == drawn[1].tolist()


def test_the_first_published_answer_of_philox_through_the_public_api(device):
    words = random.Generator(0, device=device).bits((4,), device=device)
    assert words.tolist() == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
