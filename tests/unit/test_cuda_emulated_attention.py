"""Attention of the `cuda` backend and its gradient, on the emulated device in three orders of threads, against float64."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "cuda_emulator"))
import emulated_cupy
from harness import on_host, to_device

from corelib import dtypes
from corelib_cuda import attention, half, launch
from corelib_cuda.movement import cast

REASON = emulated_cupy.unusable()
pytestmark = [
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
    pytest.mark.xdist_group("cuda_emulated_attention"),
]
# What is rounded: each score, at most `features` terms of size 1, moves its exponential by as much in proportion; results
# and gradients are means of numbers of size 1 with such weights, and of float16 and bfloat16 are rounded once more.
TOLERANCE = {"float32": 2e-5, "float64": 1e-13, "float16": 2e-3, "bfloat16": 2e-2}


@pytest.fixture(scope="module", autouse=True)
def device():
    with emulated_cupy.installed():
        for dtype in TOLERANCE:
            names = list(attention.ENTRIES)
            kernels = [attention.kernel(n, dtype, c, False) for n in names for c in (64, 128)]
            emulated_cupy.prepare("attention.cu", [(k.name, k.entry) for k in kernels])
        emulated_cupy.prepare("attention_mma.cu", [(k.name, k.entry) for k in attention.every_kernel(True)])
        yield


# dtype, order of threads, compute capability: from 80 on tensor cores serve the 16-bit dtypes. Barriers are the same in every
# dtype: one of them runs in every order of threads.
RUNS = [("float32", order, 90) for order in emulated_cupy.ORDERS]
RUNS += [("bfloat16", order, 80) for order in emulated_cupy.ORDERS]
RUNS += [
    ("float64", "shuffled", 90),
    ("float16", "shuffled", 80),
    ("float16", "shuffled", 70),
    ("bfloat16", "shuffled", 70),
]


@pytest.fixture
def launched(monkeypatch):
    names = []
    call = launch.Kernel.__call__
    monkeypatch.setattr(launch.Kernel, "__call__", lambda k, *a: (names.append(k.name), call(k, *a))[1])
    return names


def body(*_, **__):
    pytest.fail("left to the op's body")


def numbers(dtype, *shape, seed=0):
    """(on the device in ``dtype``, on the host in float64), equal."""
    x = to_device(np.random.default_rng(seed).uniform(-1, 1, shape).astype("f4"))
    x = cast(x, dtype) if dtype != "float32" else x
    wide = on_host(cast(x, "float64"))
    return x, wide


def expected(q, k, v, mask, g, causal, scale):
    """(result, gradients of q, k, v), in float64."""
    scale = 1 / np.sqrt(q.shape[-1]) if scale is None else scale
    s = scale * q @ k.swapaxes(-1, -2)
    if causal:
        s = np.where(np.tril(np.ones(s.shape[-2:], bool)), s, -np.inf)
    if mask is not None:
        s = np.where(mask, s, -np.inf) if mask.dtype == bool else s + mask
    top = s.max(-1, keepdims=True)
    e = np.exp(s - np.where(top == -np.inf, 0, top))
    total = e.sum(-1, keepdims=True)
    p = e / np.where(total == 0, 1, total)
    dp = g @ v.swapaxes(-1, -2)
    ds = p * (dp - (p * dp).sum(-1, keepdims=True))
    t = lambda x: x.swapaxes(-1, -2)
    return p @ v, scale * ds @ k, scale * t(ds) @ q, t(p) @ g


def close(expected, actual, dtype):
    assert dtypes.as_dtype(actual.dtype) is dtypes.as_dtype(dtype)
    assert actual.shape == expected.shape
    np.testing.assert_allclose(on_host(cast(actual, "float64")), expected, rtol=0, atol=TOLERANCE[dtype])


# lead, queries, keys, features, values, causal, shape of a bool mask
CASES = {
    "one tile": ((2,), 5, 7, 4, 3, False, None),
    "tiles and rests": ((), 70, 131, 40, 33, False, None),
    "causal": ((1, 2), 130, 130, 16, 16, True, None),
    "causal, more keys": ((), 9, 75, 8, 8, True, None),
    "causal, more queries": ((), 75, 9, 8, 8, True, None),
    "wide heads": ((), 66, 65, 128, 128, False, None),
    "heads of 72 and 40": ((2,), 70, 131, 72, 40, False, None),
    "heads of 128, causal": ((), 100, 100, 128, 120, True, None),
    "bool mask": ((2, 2), 40, 35, 8, 8, False, (2, 1, 40, 35)),
    "bool mask of keys, causal": ((2,), 20, 20, 8, 8, True, (1, 20)),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("dtype", "order", "capability"), RUNS)
def test_attention_and_its_gradient(monkeypatch, launched, case, dtype, order, capability):
    monkeypatch.setattr(emulated_cupy, "order", order)
    monkeypatch.setattr(launch, "capability", lambda device: capability)
    lead, queries, keys, features, values, causal, shape = CASES[case]
    (q, hq), (k, hk) = numbers(dtype, *lead, queries, features), numbers(dtype, *lead, keys, features, seed=1)
    (v, hv), (g, hg) = (
        numbers(dtype, *lead, keys, values, seed=2),
        numbers(dtype, *lead, queries, values, seed=3),
    )
    mask = None if shape is None else np.random.default_rng(4).random(shape) < 0.6
    if mask is not None and shape[-2] > 1:
        mask[..., 3, :] = False  # a query that may look at no key
    result, *gradients = expected(hq, hk, hv, mask, hg, causal, None)
    given = (q, k, v) if mask is None else (q, k, v, to_device(mask))
    close(result, attention.make_attention(dtype, body)(*given, causal=causal, scale=None), dtype)
    found = attention.make_attention_gradient(dtype, body)(g, *given, causal=causal, scale=None)
    for want, have in zip(gradients, found, strict=True):
        close(want, have, dtype)
    tensor = capability == 80 and features % 8 == values % 8 == 0
    used = [n for n in launched if "attention" in n or "gradient" in n]
    assert [("tensor" in n) for n in used] == [tensor] * 4


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_an_added_mask_a_scale_and_leading_axes_that_broadcast(dtype):
    (q, hq), (k, hk) = numbers(dtype, 2, 1, 9, 4), numbers(dtype, 3, 11, 4, seed=1)
    (v, hv), (m, hm) = numbers(dtype, 1, 11, 5, seed=2), numbers(dtype, 2, 1, 1, 11, seed=3)
    result = expected(hq, hk, hv, hm, np.ones((9, 5)), True, 0.3)[0]
    close(result, attention.make_attention(dtype, body)(q, k, v, m, causal=True, scale=0.3), dtype)


def test_operands_of_any_layout():
    q, k, v, g = (numbers("float32", 2, 8, 3, 6, seed=n) for n in range(4))
    turn = lambda x: x.transpose((0, 2, 1, 3))  # as a model splits its heads
    result, *gradients = expected(*(turn(x[1]) for x in (q, k, v)), None, turn(g[1]), False, None)
    given = [turn(x[0]) for x in (q, k, v)]
    close(result, attention.make_attention("float32", body)(*given, causal=False, scale=None), "float32")
    found = attention.make_attention_gradient("float32", body)(turn(g[0]), *given, causal=False, scale=None)
    for want, have in zip(gradients, found, strict=True):
        close(want, have, "float32")
    turned = [x[0].transpose((0, 2, 3, 1)) for x in (q, k, v)]  # features are not neighbours
    result = expected(*(x[1].transpose((0, 2, 3, 1)) for x in (q, k, v)), None, np.ones((6, 8)), False, None)[
        0
    ]
    close(result, attention.make_attention("float32", body)(*turned, causal=False, scale=None), "float32")


def test_nan_infinities_and_large_scores():
    q = np.array([[100.0, 0], [np.nan, 0], [np.inf, 0], [1e4, 1e4], [-1e4, 0]], "f4")
    k = np.array([[100.0, 0], [-100, 0], [0, 1]], "f4")
    v = np.array([[1.0], [2], [4]], "f4")
    found = attention.make_attention("float32", body)(
        *map(to_device, (q, k, v)), causal=False, scale=1.0
    ).get()
    np.testing.assert_array_equal(found[:, 0], np.array([1, np.nan, np.nan, 1, 2], "f4"))


def test_what_is_left_to_the_body():
    asked = []
    run = attention.make_attention("float32", lambda *a, **_: asked.append(len(a)))
    back = attention.make_attention_gradient("float32", lambda *a, **_: asked.append(len(a)))
    x = lambda *shape: numbers("float32", *shape)[0]
    more = {"causal": False, "scale": None}
    run(x(3, 4), x(5, 4), x(5, 129), **more)  # too wide
    run(x(3, 4), x(5, 3), x(5, 2), **more)  # which the body refuses
    run(x(0, 4), x(5, 4), x(5, 2), **more)
    back(x(3, 2), x(3, 4), x(5, 4), x(5, 2), x(3, 5), **more)  # the mask needs a gradient
    back(x(2, 3, 2), x(2, 3, 4), x(5, 4), x(5, 2), **more)
    back(x(3, 2), x(3, 129), x(5, 129), x(5, 2), **more)
    wide = attention.make_attention("float16", lambda *a, **_: asked.append(len(a)))
    wide(*(numbers("float16", *s)[0] for s in ((3, 4), (5, 4), (5, 2))), x(3, 5), **more)
    assert asked == [4, 4, 4, 5, 5, 5, 4]


def test_tensor_cores_take_masks_scales_and_heads_that_a_model_splits(launched):
    """An added mask, rows that a query may not look at, leading axes that broadcast, and rows that are not neighbours."""
    (q, hq), (k, hk) = numbers("bfloat16", 2, 70, 3, 16), numbers("bfloat16", 1, 75, 3, 16, seed=1)
    (v, hv), (m, hm) = numbers("bfloat16", 1, 75, 3, 24, seed=2), numbers("bfloat16", 3, 1, 75, seed=3)
    turn = lambda x: x.transpose((0, 2, 1, 3))
    given = [half.Half(turn(x.words), x.dtype) for x in (q, k, v)]
    expect = expected(turn(hq), turn(hk), turn(hv), hm, np.ones((2, 3, 70, 24)), True, 0.3)[0]
    found = attention.make_attention("bfloat16", body)(*given, m, causal=True, scale=0.3)
    close(expect, found, "bfloat16")
    assert "attention_bfloat16_64_tensor" in launched


def test_rows_without_whole_packets_take_the_portable_kernel(launched):
    x, _ = numbers("float16", 20, 41)
    given = half.Half(x.words[:, 1:9], x.dtype)
    attention.make_attention("float16", body)(given, given, given, causal=False, scale=None)
    assert launched[-1] == "attention_float16_64"


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_tensor_cores_keep_nan_infinities_and_large_scores(dtype):
    q, k, v = np.zeros((5, 8), "f4"), np.zeros((3, 8), "f4"), np.zeros((3, 8), "f4")
    q[:, :2] = [[100, 0], [np.nan, 0], [np.inf, 0], [1e4, 1e4], [-1e4, 0]]
    k[:, :2], v[:, 0] = [[100, 0], [-100, 0], [0, 1]], [1, 2, 4]
    given = [cast(to_device(x), dtype) for x in (q, k, v)]
    found = on_host(cast(attention.make_attention(dtype, body)(*given, causal=False, scale=1.0), "float32"))
    np.testing.assert_array_equal(found[:, 0], np.array([1, np.nan, np.nan, 1, 2], "f4"))


def test_half_results_are_arrays_of_their_dtype():
    x = numbers("bfloat16", 3, 4)[0]
    found = attention.make_attention("bfloat16", body)(x, x, x, causal=True, scale=None)
    assert isinstance(found, half.Half)
