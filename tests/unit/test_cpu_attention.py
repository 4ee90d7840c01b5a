"""The cpu backend's attention against the bodies of its ops, which keep every probability."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest

pytest.importorskip("corelib_cpu.native")

import corelib
from corelib import ops
from corelib.plugin_api import decomposed
from corelib_cpu import attention, launch

LENGTHS = [
    (3, 4, 2, 3),
    (17, 33, 8, 5),
    (40, 40, 16, 16),
    (70, 100, 64, 70),
]  # queries, keys, features of k, of v


def refuse(*operands, **params):
    raise AssertionError("the kernel left this case to the body")


@pytest.fixture(autouse=True)
def _every_size(monkeypatch):
    monkeypatch.setattr(attention, "WORTHWHILE", 0)


def body(op):
    return decomposed(op.op, corelib.ones(1, device="cpu")._backend)


def operands(dtype, lead, queries, keys, features, values):
    rng = np.random.default_rng(0)
    shapes = ((queries, features), (keys, features), (keys, values), (queries, values))
    return [rng.standard_normal((*lead, *shape)).astype(dtype) for shape in shapes]


def masks(dtype, lead, queries, keys):
    rng = np.random.default_rng(1)
    full = rng.random((queries, keys)) < 0.7
    full[1] = False  # a query that may look at no key
    return {
        "none": None,
        "bool": full,
        "by-key": rng.random((*lead, 1, keys)) < 0.5,
        "added": rng.standard_normal((queries, keys)).astype(dtype),
    }


def wide(*arrays):
    return [a if a is None or a.dtype == bool else a.astype(float) for a in arrays]


@pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])
@pytest.mark.parametrize("mask", ["none", "bool", "by-key", "added"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_attention_and_its_gradient_are_their_bodies(dtype, mask, causal):
    forward = attention.make_attention(dtype, refuse)
    backward = attention.make_attention_gradient(dtype, refuse)
    # scores of size 4 are wrong by some units, and so is their exponential; results are of size 1, gradients of size 10
    unit = 64 * np.finfo(dtype).eps
    params = {"causal": causal, "scale": None}
    for lead, lengths in zip([(), (2,), (2, 3), (2, 2)], LENGTHS, strict=True):
        q, k, v, cotangent = operands(dtype, lead, *lengths)
        m = masks(dtype, lead, *lengths[:2])[mask]
        expected = body(ops.scaled_dot_product_attention)(*wide(q, k, v, m), **params)
        np.testing.assert_allclose(forward(q, k, v, m, **params), expected, rtol=0, atol=unit)
        if mask != "added":
            expected = body(ops.attention_gradient)(*wide(cotangent, q, k, v, m), **params)
            for a, b in zip(backward(cotangent, q, k, v, m, **params), expected, strict=True):
                np.testing.assert_allclose(a, b, rtol=0, atol=10 * unit)


def test_leading_axes_broadcast_and_views_are_read_as_they_are():
    rng = np.random.default_rng(0)
    q, k, v = (rng.standard_normal(s).astype("float32") for s in ((4, 6, 20, 8), (6, 30, 8), (4, 1, 30, 9)))
    forward = attention.make_attention("float32", refuse)
    params = {"causal": False, "scale": 0.5}
    expected = body(ops.scaled_dot_product_attention)(*wide(q, k, v), None, **params)
    actual = forward(q, k, v, None, **params)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5)
    heads_last = np.ascontiguousarray(q.transpose(0, 2, 1, 3)).transpose(0, 2, 1, 3)
    np.testing.assert_array_equal(forward(heads_last, k, v, None, **params), actual)
    columns = np.asfortranarray(q)
    np.testing.assert_array_equal(forward(columns, k, v, None, **params), actual)


def test_the_number_of_threads_changes_no_bit():
    q, k, v, cotangent = operands("float32", (3,), 70, 90, 16, 16)
    before, found = launch.get_num_threads(), []
    params = {"causal": True, "scale": None}
    try:
        for threads in (1, 2, 5):
            launch.set_num_threads(threads)
            y = attention.make_attention("float32", refuse)(q, k, v, None, **params)
            found.append(
                (y, *attention.make_attention_gradient("float32", refuse)(cotangent, q, k, v, None, **params))
            )
    finally:
        launch.set_num_threads(before)
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_nan_stays_in_its_row_and_large_scores_do_not_overflow():
    q, k, v, _ = operands("float32", (), 20, 30, 8, 8)
    forward = attention.make_attention("float32", refuse)
    params = {"causal": False, "scale": None}
    spoilt = q.copy()
    spoilt[5, 2] = math.nan
    expected = forward(q, k, v, None, **params)
    expected[5] = math.nan
    np.testing.assert_array_equal(forward(spoilt, k, v, None, **params), expected)
    huge = forward(1e18 * q, 1e18 * k, v, None, **params)  # one probability is 1
    np.testing.assert_allclose(huge, v[np.argmax(q @ k.T, axis=1)], rtol=1e-6)


def test_memory_is_linear_in_the_sequence():
    q, k, v, _ = operands("float32", (1,), 2000, 2000, 16, 16)
    forward = attention.make_attention("float32", refuse)
    tracemalloc.start()
    try:
        forward(q, k, v, None, causal=True, scale=None)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2000 * 2000 * 4 / 8, f"{peak} bytes: the probabilities alone are 16 MB"


def test_a_floating_mask_gets_its_gradient_from_the_body():
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(s).astype("float64") for s in ((6, 4), (7, 4), (7, 3), (6, 7))]
    found = []
    for device in ("cpu", "reference"):
        q, k, v, mask = (corelib.asarray(a, device=device).requires_grad_() for a in arrays)
        corelib.sum(ops.scaled_dot_product_attention(q, k, v, mask) ** 2).backward()
        found.append([t.grad.numpy() for t in (q, k, v, mask)])
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)
