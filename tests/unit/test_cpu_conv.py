"""The cpu backend's convolutions against the bodies of the ops, which are products of matrices of windows."""

from __future__ import annotations

import math

import numpy as np
import pytest

pytest.importorskip("corelib_cpu.native")

import corelib
from corelib import ops
from corelib.plugin_api import decomposed
from corelib_cpu import conv, depthwise, launch

# images, channels, units, sizes, kernel, stride, padding, dilation, groups
CASES = {
    "1d": (2, 3, 5, (37,), (3,), (1,), (0,), (1,), 1),
    "padded": (2, 16, 17, (9, 11), (3, 3), (1, 1), (1, 1), (1, 1), 1),
    "stride-dilation-groups": (2, 8, 12, (9, 11), (3, 2), (2, 3), (1, 0), (2, 1), 2),
    "depthwise": (1, 12, 12, (8, 40), (3, 3), (1, 1), (1, 1), (1, 1), 12),
    "depthwise-stride": (2, 20, 20, (23, 9), (5, 3), (2, 2), (2, 1), (1, 2), 20),
    "depthwise-1d": (2, 17, 17, (37,), (3,), (1,), (1,), (1,), 17),
    "depthwise-3d": (1, 3, 3, (4, 5, 6), (2, 2, 2), (1, 2, 1), (0, 0, 0), (1, 1, 1), 3),
    "first-layer": (2, 3, 40, (30, 41), (7, 7), (2, 2), (3, 3), (1, 1), 1),
    "3d": (1, 4, 6, (5, 6, 7), (3, 2, 3), (1, 2, 1), (1, 1, 0), (1, 1, 2), 2),
    "images-together": (5, 40, 9, (7, 7), (3, 3), (1, 1), (1, 1), (1, 1), 1),
    "long-rows": (1, 2, 3, (3, 700), (3, 3), (1, 1), (1, 1), (1, 1), 1),
    "pointwise-stride": (3, 16, 8, (14, 14), (1, 1), (2, 2), (0, 0), (1, 1), 1),
    "windows-apart": (1, 2, 3, (4, 4), (2, 2), (3, 3), (1, 1), (1, 1), 1),
    "strides-of-3": (2, 2, 9, (17, 40), (3, 5), (3, 3), (1, 2), (1, 1), 1),
    "many-windows": (2, 8, 8, (40, 41), (2, 2), (1, 1), (1, 1), (1, 1), 1),
}


def refuse(*operands, **params):
    raise AssertionError("the kernel left this case to the body")


@pytest.fixture(autouse=True)
def _every_size(monkeypatch):
    monkeypatch.setattr(conv, "WORTHWHILE", 0)
    monkeypatch.setattr(conv, "NARROW", 1)


def case(name, dtype):
    """Operands, parameters and the shape of the result."""
    n, channels, units, sizes, kernel, stride, padding, dilation, groups = CASES[name]
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, channels, *sizes)).astype(dtype)
    weight = rng.standard_normal((units, channels // groups, *kernel)).astype(dtype)
    params = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    places = zip(sizes, kernel, stride, padding, dilation, strict=True)
    counts = tuple((s + 2 * p - (k - 1) * d - 1) // t + 1 for s, k, t, p, d in places)
    places = zip(sizes, counts, kernel, stride, padding, dilation, strict=True)
    missed = tuple(s + 2 * p - ((c - 1) * t + (k - 1) * d + 1) for s, c, k, t, p, d in places)
    cotangent = rng.standard_normal((n, units, *counts)).astype(dtype)
    return x, weight, cotangent, params, missed


def assert_is_the_body(op, make, dtype, operands, params, terms):
    """Within the bound of any order of summation of so many terms, the body computed in float64."""
    body = decomposed(op.op, corelib.ones(1, device="cpu")._backend)
    exact = body(*(None if o is None else o.astype(float) for o in operands), **params)
    size = body(*(None if o is None else abs(o).astype(float) for o in operands), **params)
    actual = make(dtype, refuse)(*operands, **params)
    assert actual.shape == exact.shape and actual.dtype == dtype
    worst = np.max(abs(actual - exact) - (terms + 2) * np.finfo(dtype).eps * size)
    assert worst <= 0, worst
    return actual


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_convolution_and_its_transposes_are_their_bodies(name, dtype):
    x, weight, cotangent, params, missed = case(name, dtype)
    taps, windows = weight[0].size, cotangent[:, 0].size
    bias = np.random.default_rng(1).standard_normal(len(weight)).astype(dtype)
    assert_is_the_body(ops.conv, conv.make_conv, dtype, (x, weight, bias), params, taps)
    assert_is_the_body(ops.conv, conv.make_conv, dtype, (x, weight, None), params, taps)
    back = {**params, "output_padding": missed}
    more = np.random.default_rng(1).standard_normal(x.shape[1]).astype(dtype)
    terms = weight.size // x.shape[1] * params["groups"]
    for operands in ((cotangent, weight, None), (cotangent, weight, more)):
        assert_is_the_body(ops.conv_transpose, conv.make_conv_transpose, dtype, operands, back, terms)
    kernel = {**params, "kernel_size": weight.shape[2:]}
    assert_is_the_body(
        ops.conv_weight_gradient, conv.make_conv_weight_gradient, dtype, (x, cotangent), kernel, windows
    )


def test_views_are_convolved_as_they_are():
    x, weight, cotangent, params, _ = case("padded", "float32")
    forward, gradient = conv.make_conv("float32", refuse), conv.make_conv_weight_gradient("float32", refuse)
    channels_last = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    lanes, each, _, alone, _ = case("depthwise-stride", "float32")
    np.testing.assert_array_equal(
        forward(np.asfortranarray(lanes), each, None, **alone), forward(lanes, each, None, **alone)
    )
    np.testing.assert_array_equal(
        forward(channels_last, weight, None, **params), forward(x, weight, None, **params)
    )
    backwards = x[..., ::-1]
    expected = forward(backwards.copy(), weight, None, **params)
    np.testing.assert_array_equal(forward(backwards, weight, None, **params), expected)
    kernel = {**params, "kernel_size": (3, 3)}
    np.testing.assert_array_equal(
        gradient(channels_last, cotangent, **kernel), gradient(x, cotangent, **kernel)
    )


def test_bands_of_rows_and_passes_of_channels_change_no_sum_beyond_rounding(monkeypatch):
    expected = {}
    for _ in range(2):
        for name in ("depthwise", "depthwise-stride", "images-together", "pointwise-stride"):
            x, weight, cotangent, params, missed = case(name, "float32")
            found = (
                conv.make_conv("float32", refuse)(x, weight, None, **params),
                conv.make_conv_transpose("float32", refuse)(cotangent, weight, None, output_padding=missed, **params),
                conv.make_conv_weight_gradient("float32", refuse)(x, cotangent, kernel_size=weight.shape[2:], **params),
            )  # fmt: skip
            for a, b in zip(expected.setdefault(name, found), found, strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)  # sums of at most 360 terms of size 1
        monkeypatch.setattr(depthwise, "BAND", 1)
        monkeypatch.setattr(conv, "DEPTH", 64)
        monkeypatch.setattr(conv, "PANELS", 2)


@pytest.mark.parametrize("name", ["padded", "stride-dilation-groups", "images-together", "depthwise-stride"])
def test_the_number_of_threads_changes_no_bit(name):
    x, weight, cotangent, params, missed = case(name, "float32")
    before = launch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 5):
            launch.set_num_threads(threads)
            found.append((
                conv.make_conv("float32", refuse)(x, weight, None, **params),
                conv.make_conv_transpose("float32", refuse)(cotangent, weight, None, output_padding=missed, **params),
                conv.make_conv_weight_gradient("float32", refuse)(x, cotangent, kernel_size=weight.shape[2:], **params),
            ))  # fmt: skip
    finally:
        launch.set_num_threads(before)
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("special", [math.inf, math.nan])
def test_what_is_not_finite_reaches_its_windows_only(special):
    x = np.ones((1, 2, 6, 9), np.float32)
    x[0, 1, 5, 8] = special
    weight = np.ones((3, 2, 3, 3), np.float32)
    params = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "groups": 1}
    expected = np.full((1, 3, 4, 7), 18, np.float32)
    expected[..., 3, 6] = special
    np.testing.assert_array_equal(conv.make_conv("float32", refuse)(x, weight, None, **params), expected)
    cotangent = np.ones((1, 3, 4, 7), np.float32)
    expected = np.full((3, 2, 3, 3), 28, np.float32)
    expected[:, 1, 2, 2] = special
    gradient = conv.make_conv_weight_gradient("float32", refuse)(x, cotangent, kernel_size=(3, 3), **params)
    np.testing.assert_array_equal(gradient, expected)


def test_a_training_step_uses_the_kernels_and_agrees_with_the_reference():
    rng = np.random.default_rng(0)
    values = (
        rng.integers(-3, 4, (1, 2, 5, 5)).astype("float64"),
        rng.integers(-3, 4, (3, 2, 3, 3)).astype("float64"),
    )
    found = []
    for device in ("cpu", "reference"):
        x, weight = (corelib.asarray(v, device=device).requires_grad_() for v in values)
        y = ops.conv(x, weight, stride=2, padding=1)
        corelib.sum(y * y).backward()
        found.append([t.numpy() for t in (y, x.grad, weight.grad)])
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)
