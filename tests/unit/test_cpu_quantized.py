"""The cpu backend's layers of int8 against sums in float64, which are exact here, and the formulas around them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("corelib_cpu.native")

import corelib
from corelib import ops
from corelib_cpu import launch, native, quantized

# x, weight, options: one and several channels, units and images, panels over several images, strides, groups, one axis.
CASES = [
    ((5, 16, 8, 8), (32, 16, 3, 3), {"padding": 1}),
    ((70, 1, 8, 8), (16, 1, 3, 3), {"padding": 1}),
    ((7, 6, 9, 11), (10, 3, 3, 2), {"stride": (2, 3), "padding": (1, 0), "dilation": (1, 2), "groups": 2}),
    ((3, 20, 33), (7, 20, 5), {"padding": 2}),
    ((2, 8, 30, 40), (8, 1, 3, 3), {"padding": 1, "groups": 8}),
    ((2, 67, 13, 17), (40, 67, 1, 1), {"stride": 2}),
    ((1, 64, 20, 20), (130, 64, 3, 3), {"padding": 1}),
]
POOLS = [
    ((360, 16, 8, 8), {"kernel_size": 2}),
    ((3, 4, 9, 7), {"kernel_size": 3, "stride": 2, "padding": 1}),
    ((5, 6, 70), {"kernel_size": 3, "stride": 1, "padding": 1}),
    ((2, 3, 13, 150), {"kernel_size": (2, 3), "stride": (3, 1), "dilation": (2, 2)}),
    ((2, 5, 12, 12), {"kernel_size": 4}),
    ((2, 5, 12, 12), {"kernel_size": 2, "stride": 3}),
    ((2, 3, 8, 64), {"kernel_size": 2, "padding": 1}),
]


def integers(*shape, seed=0):
    return np.random.default_rng(seed).integers(-128, 128, shape).astype(np.int8)


def on_cpu(x):
    return corelib.asarray(x, device="cpu")


def sums(x, weight, options, frame=0):
    """The correlation, in float64: at most 2**14 of at most 2**14."""
    rest = {"stride": 1, "dilation": 1, "groups": 1, **options}
    axes = x.ndim - 2
    padding, stride, dilation = (
        (v,) * axes if isinstance(v, int) else v
        for v in (rest.get("padding", 0), rest["stride"], rest["dilation"])
    )
    x = np.pad(x.astype(float), [(0, 0), (0, 0), *((p, p) for p in padding)], constant_values=frame)
    extents = [(k - 1) * d + 1 for k, d in zip(weight.shape[2:], dilation, strict=True)]
    windows = np.lib.stride_tricks.sliding_window_view(x, extents, tuple(range(2, x.ndim)))
    index = (
        slice(None),
        slice(None),
        *(slice(None, None, s) for s in stride),
        *(slice(None, None, d) for d in dilation),
    )
    windows, groups = windows[index], rest["groups"]
    parts = []
    for w, v in zip(np.split(weight.astype(float), groups), np.split(windows, groups, 1), strict=True):
        behind = tuple(range(2 + axes, 2 + 2 * axes))
        product = np.tensordot(v, w, ((1, *behind), (1, *range(2, 2 + axes))))
        parts.append(np.moveaxis(product, -1, 1))
    return np.concatenate(parts, 1).astype(np.int32)


def assert_layers_are_right(cases):
    for x_shape, shape, options in cases:
        x, weight = integers(*x_shape), integers(*shape, seed=1)
        found = ops.int8_conv(on_cpu(x), on_cpu(weight), **options)
        assert found.dtype is corelib.int32
        np.testing.assert_array_equal(found.numpy(), sums(x, weight, options))
        rng, units = np.random.default_rng(2), shape[0]
        offset = rng.integers(-9999, 9999, units).astype(np.int32)
        scale, bias = rng.random(units).astype("f") / 1000, rng.standard_normal(units).astype("f")
        step, zero = np.float32(0.07), np.float32(-3)
        line = [t.reshape(-1, *(1,) * (x.ndim - 2)) for t in (offset, scale, bias)]
        y = (sums(x, weight, options, frame=-5) - line[0]).astype("f") * line[1] + line[2]
        for relu in (False, True):
            expected = np.maximum(y, 0) if relu else y
            operands = [on_cpu(t) for t in (x, weight, offset, scale, bias)]
            actual = ops.quantized_conv(*operands, **options, frame=-5, relu=relu).numpy()
            np.testing.assert_array_equal(actual, expected)
            following = (on_cpu(step), on_cpu(zero))
            q = np.clip(np.rint(expected / step) + zero, -100, 99).astype(np.int8)
            actual = ops.quantized_conv(
                *operands, *following, **options, frame=-5, relu=relu, low=-100, high=99
            )
            assert actual.dtype is corelib.int8
            np.testing.assert_array_equal(actual.numpy(), q)


def test_layers_of_every_kind():
    assert_layers_are_right(CASES)


FORCED = """
import sys
sys.path.insert(0, {folder!r})
from corelib_cpu import native
native.host = lambda: ({name!r}, {features!r})
import test_cpu_quantized as tests
tests.assert_layers_are_right(tests.CASES[:3])
tests.test_pooling()
"""
AVX2 = "+sse2,+sse3,+ssse3,+sse4.1,+sse4.2,+avx,+avx2,+fma,+f16c,+bmi,+bmi2,+popcnt"


@pytest.mark.parametrize("features", [AVX2, AVX2 + ",+avxvnni"], ids=["avx2", "avx-vnni"])
def test_layers_on_other_machines(features, tmp_path):
    if any(f not in native.host()[1].split(",") for f in ("+avx2", features.split(",")[-1])):
        pytest.skip("this machine does not run such code")
    name = "alderlake" if "vnni" in features else "haswell"
    text = FORCED.format(folder=str(Path(__file__).parent), name=name, features=features)
    environment = {**os.environ, "CORELIB_CACHE_DIR": str(tmp_path), "NUMBA_CPU_NAME": name}
    done = subprocess.run(
        [sys.executable, "-c", text], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr


def test_pooling():
    for shape, options in POOLS:
        x = integers(*shape)
        actual = ops.int8_max_pool(on_cpu(x), **options)
        expected = ops.max_pool(on_cpu(x.astype("f")), **options).numpy()
        assert actual.dtype is corelib.int8
        np.testing.assert_array_equal(actual.numpy(), expected)


def test_views_are_read_where_they_stand():
    x, weight = integers(5, 8, 16, 8), integers(8, 16, 3, 3, seed=1)
    turned, part = np.swapaxes(x, 1, 2), weight[::-1]
    actual = ops.int8_conv(on_cpu(x).swapaxes(1, 2), on_cpu(weight)[::-1], padding=1)
    np.testing.assert_array_equal(actual.numpy(), sums(turned, part, {"padding": 1}))


def test_the_number_of_threads_changes_no_bit():
    operands = on_cpu(integers(9, 40, 12, 12)), on_cpu(integers(50, 40, 3, 3, seed=1))
    before, found = launch.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            launch.set_num_threads(threads)
            found.append(ops.int8_conv(*operands, padding=1).numpy())
    finally:
        launch.set_num_threads(before)
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])


def test_a_weight_that_changes_is_packed_again():
    x, weight = integers(4, 8, 8, 8), integers(16, 8, 3, 3, seed=1)
    conv = quantized.make_conv("int8", lambda *_, **__: pytest.fail("the body"))
    options = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "groups": 1}
    np.testing.assert_array_equal(conv(x, weight, **options), sums(x, weight, {}))
    weight[3, 2, 1, 0] += 1
    np.testing.assert_array_equal(conv(x, weight, **options), sums(x, weight, {}))
    known = len(quantized._packed)
    del weight
    assert len(quantized._packed) == known - 1
