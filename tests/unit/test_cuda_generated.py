"""Generated kernels of the `cuda` backend: a group of steps gives the bits of its steps one by one, by every way through
memory and in every order of threads (tests/cuda_emulator), and every text compiles for real devices without spills.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "cuda_emulator"))
import emulated_cupy
from harness import on_host, same

import corelib as cl
from corelib import ops
from corelib.compile.fuse import fused
from corelib.compile.graph import Graph
from corelib.plugin_api import registry
from corelib.replay import Recorder, Traced, replayer
from corelib.tensor import wrap
from corelib_cuda import generated, launch, nvrtc

REASON = emulated_cupy.unusable()
pytestmark = [
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
    pytest.mark.xdist_group("cuda_generated"),
]


def softmax(x):
    e = ops.exp(ops.subtract(x, ops.max(x, axis=-1, keepdims=True)))
    return ops.divide(e, ops.sum(e, axis=-1, keepdims=True))


def standardized(x):
    n = x.shape[-1]
    centered = ops.subtract(x, ops.divide(ops.sum(x, axis=-1, keepdims=True), n))
    var = ops.divide(ops.sum(ops.multiply(centered, centered), axis=-1, keepdims=True), n)
    scale = ops.divide(1, ops.sqrt(ops.add(var, 1e-5)))
    return ops.multiply(centered, scale), scale


def layer_norm_backward(x, w, g):
    """Three results, two of them sums over the rows."""
    h, scale = standardized(x)
    gw = ops.multiply(g, w)
    mean = lambda v: ops.divide(ops.sum(v, axis=-1, keepdims=True), x.shape[-1])
    dx = ops.multiply(
        ops.subtract(ops.subtract(gw, mean(gw)), ops.multiply(h, mean(ops.multiply(gw, h)))), scale
    )
    return dx, ops.sum(ops.multiply(g, h), axis=0), ops.sum(g, axis=0)


def adam(p, g, m, v, lr):
    m = ops.add(ops.multiply(m, 0.9), ops.multiply(g, 0.1))
    v = ops.add(ops.multiply(v, 0.999), ops.multiply(ops.multiply(g, g), 0.001))
    return ops.subtract(p, ops.multiply(lr, ops.divide(m, ops.add(ops.sqrt(v), 1e-8)))), m, v


def chain(x, y):
    return ops.multiply(ops.exp(ops.add(ops.multiply(x, 2.0), y)), ops.subtract(x, y))


def hinge(x, y):
    return ops.maximum(ops.add(x, y), 0.0)


def squared_error(x, y):
    return ops.sum(ops.square(ops.subtract(x, y)))


def chosen(x, y):
    return ops.where(ops.less(x, y), ops.floor_divide(x, 3), ops.bitwise_xor(x, y))


# (function, shapes or arrays, dtype, steps that are left)
CASES = {
    "dense": (chain, [(7, 33)] * 2, "float32", 1),
    "dense, float64": (chain, [(4, 5)] * 2, "float64", 1),
    "several results, one-element operands": (adam, [(9, 5)] * 4 + [()], "float32", 1),
    "rows of a broadcast": (hinge, [(70, 33), (33,)], "float32", 1),
    "columns of a broadcast": (hinge, [(70, 33), (70, 1)], "float32", 1),
    "strides": (hinge, [(5, 4, 3), (5, 1, 3)], "float32", 1),
    "a warp per row, packets": (softmax, [(9, 40)], "float32", 1),
    "a warp per row": (softmax, [(9, 37)], "float32", 1),
    "a block per row": (softmax, [(3, 2001)], "float32", 1),
    "a streamed row": (softmax, [(2, 40001)], "float32", 1),
    "float64 rows": (softmax, [(3, 100)], "float64", 1),
    "float64 rows of a block": (softmax, [(2, 4001)], "float64", 1),
    "float64 rows and columns": (layer_norm_backward, [(3, 600), (600,), (3, 600)], "float64", 1),
    "a large block per row": (softmax, [(2, 12000)], "float32", 1),
    "two results of a row": (standardized, [(5, 12)], "float32", 1),
    "rows and columns": (layer_norm_backward, [(33, 64), (64,), (33, 64)], "float32", 1),
    "rows of a block and columns": (layer_norm_backward, [(6, 1030), (1030,), (6, 1030)], "float32", 1),
    "everything": (squared_error, [(33, 641)] * 2, "float32", 1),
    "everything, in packets": (squared_error, [(16, 1024)] * 2, "float32", 1),
    "integers": (chosen, [(4, 50)] * 2, "int64", 1),
    "one row": (softmax, [(1, 40)], "float32", 1),
    "one column": (softmax, [(40, 1)], "float32", 1),
}  # fmt: skip


def values(shapes, dtype, seed=0):
    draw = np.random.default_rng(seed)
    if dtype == "int64":
        return [draw.integers(-9, 9, shape) for shape in shapes]
    return [np.asarray(draw.standard_normal(shape)).astype(dtype) for shape in shapes]


def recorded(device, function, arrays):
    recorder = Recorder(device)
    inputs = [Traced(a.shape, cl.dtypes.as_dtype(a.dtype), f"a{i}") for i, a in enumerate(arrays)]
    result = function(*[wrap(x, recorder) for x in inputs])
    several = isinstance(result, tuple)
    return Graph(
        inputs, recorder.steps, [y._data for y in (result if several else [result])], several=several
    )


def both(device, name):
    """The programs of a case, step by step and generated, and its arrays."""
    function, shapes, dtype, _ = CASES[name]
    arrays = [cl.asarray(x, device="cuda")._data for x in values(shapes, dtype)]
    graph = recorded(device, function, arrays)
    return replayer(graph), fused(graph, device), arrays


@pytest.fixture(scope="module")
def device():
    with emulated_cupy.installed():
        assert "cuda" not in registry._instances, (
            "a real device is in use: the emulated one would take its place"
        )
        yield registry.get("cuda")
        registry._instances.pop("cuda", None)


@pytest.fixture(scope="module")
def kernels(device):
    """Every generated kernel of the cases, compiled for the emulator at once."""
    found: dict[str, launch.Kernel] = {}
    called, launch.Kernel.__call__ = (
        launch.Kernel.__call__,
        lambda self, *_: found.setdefault(self.name, self),
    )
    try:
        for name in CASES:
            _, graph, arrays = both(device, name)
            replayer(graph)(*arrays)
    finally:
        launch.Kernel.__call__ = called
    entries = [(k.name, k.entry) for k in found.values() if k.file == "group.cu"]
    emulated_cupy.prepare("group.cu", entries)
    return entries


def agrees(expected, actual):
    """float64 alone is summed in another order: a sum of a few dozen per thread and ten levels of threads, each of
    which rounds by 2**-53 of what it has.
    """
    if expected.dtype == np.float64 and expected.ndim:
        assert actual.shape == expected.shape
        np.testing.assert_allclose(actual, expected, rtol=50 * 2**-53 * 10, atol=50 * 2**-53 * 10)
    else:
        same(expected, actual)


def results(y):
    return [on_host(r) for r in (y if isinstance(y, tuple) else (y,))]


@pytest.mark.parametrize("name", CASES)
def test_a_group_gives_the_bits_of_its_steps(device, kernels, name, monkeypatch):
    steps, graph, arrays = both(device, name)
    assert len(graph.steps) == CASES[name][3]
    together = replayer(graph)
    expected = results(steps(*arrays))
    for order in emulated_cupy.ORDERS:
        monkeypatch.setattr(emulated_cupy, "order", order)
        for one, other in zip(expected, results(together(*arrays)), strict=True):
            agrees(one, other)


def test_arrays_of_any_layout(device, kernels):
    _, graph, (x, y) = both(device, "dense")
    run = replayer(graph)
    expected = results(run(x, y))[0]
    same(expected[::-1], results(run(x[::-1], y[::-1]))[0])
    cut = cl.asarray(np.pad(on_host(x), 1), device="cuda")._data[1:-1, 1:-1]  # neither dense nor aligned
    same(expected, results(run(cut, y))[0])
    _, graph, (x,) = both(device, "a warp per row, packets")
    run = replayer(graph)
    expected = results(run(x))[0]
    same(expected[::-1], results(run(x[::-1]))[0])


def test_special_values_travel(device, kernels):
    _, graph, (x,) = both(device, "a warp per row, packets")
    special = on_host(x)
    special[0, 3], special[1, 5], special[2] = np.nan, np.inf, -np.inf
    x = cl.asarray(special, device="cuda")._data
    steps, graph, _ = both(device, "a warp per row, packets")
    same(results(steps(x))[0], results(replayer(graph)(x))[0])


def test_what_no_kernel_is_generated_for_runs_step_by_step(device):
    """Rows too long for registers, summed over the rows; integers summed over everything."""
    wide = [cl.asarray(np.ones((2, 40000), "f4"), device="cuda")._data] * 2
    graph = recorded(device, lambda x, y: ops.sum(ops.multiply(x, y), axis=0), wide)
    assert len(fused(graph, device).steps) == 2
    whole = [cl.asarray(np.ones((3, 4), "i8"), device="cuda")._data] * 2
    graph = recorded(device, lambda x, y: ops.sum(ops.multiply(x, y)), whole)
    assert len(fused(graph, device).steps) == 2


def test_a_kernel_serves_every_shape_of_its_kind(device, kernels):
    before = generated._kernel.cache_info().currsize
    _, _, dtype, _ = CASES["dense"]
    arrays = [cl.asarray(x, device="cuda")._data for x in values([(11, 5)] * 2, dtype)]
    graph = recorded(
        device,
        lambda x, y: ops.multiply(ops.exp(ops.add(ops.multiply(x, 5.0), y)), ops.subtract(x, y)),
        arrays,
    )
    replayer(fused(graph, device))(*arrays)
    assert generated._kernel.cache_info().currsize == before


@pytest.mark.skipif(
    nvrtc.find_library() is None,
    reason="NVRTC, the CUDA compiler, is not installed: `pip install corelib[cuda-dev]`",
)
@pytest.mark.parametrize("capability", [80, 90])
def test_generated_kernels_compile_without_spills(kernels, capability):
    flags = [*generated.FLAGS, "--ptxas-options=-v"]
    image, log = nvrtc.compiler().compile(
        launch.source("group.cu", [entry for _, entry in kernels]), capability, "group.cu", flags
    )
    assert image[:4] == b"\x7fELF"
    assert "warning" not in log
    report = re.findall(
        r"Function properties for (\w+)\n.*?(\d+) bytes spill stores, (\d+) bytes spill loads", log
    )
    assert {name for name, _ in kernels} <= {name for name, _, _ in report}
    assert [name for name, *spilled in report if spilled != ["0", "0"]] == []
