"""Convolution of the `cuda` backend and its gradients on the emulated device, against float64: plain tiles and tensor cores."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "cuda_emulator"))
import emulated_cupy
from harness import on_host, to_device

from corelib import dtypes
from corelib_cuda import conv, launch, reduce
from corelib_cuda.movement import cast

REASON = emulated_cupy.unusable()
pytestmark = [
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
    pytest.mark.xdist_group("cuda_emulated_conv"),
]
# The bound n u sum|x| of a sum of n = 361 products is 361 2**-24 361 / 4 = 2e-3 in float32 at the worst; these are a tenth of
# it and less. Of float16 and bfloat16 the result is rounded once more, by half a unit in its last place.
TOLERANCE = {"float32": 2e-4, "float64": 1e-12, "float16": 2**-7, "bfloat16": 2**-4}


@pytest.fixture(scope="module", autouse=True)
def device():
    with emulated_cupy.installed():
        emulated_cupy.prepare("conv.cu", [(k.name, k.entry) for k in conv.every_kernel()])
        yield


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
    x = cast(x, dtype)
    return x, on_host(cast(x, "float64"))


def parts(x, weight, y, stride, padding, dilation, groups):
    """For each element of the kernel: (index into the padded x, its place in the kernel)."""
    for tap in itertools.product(*map(range, weight[2:])):
        places = [
            slice(t * d, t * d + (n - 1) * s + 1, s)
            for t, d, n, s in zip(tap, dilation, y[2:], stride, strict=True)
        ]
        yield (slice(None), slice(None), slice(None), *places), (slice(None), slice(None), slice(None), *tap)


def padded(x, padding):
    return np.pad(x, [(0, 0), (0, 0), *((p, p) for p in padding)])


def split(x, axis, groups):
    return x.reshape(*x.shape[:axis], groups, x.shape[axis] // groups, *x.shape[axis + 1 :])


def forward(x, w, shape, **how):
    y = np.zeros(split(np.empty(shape), 1, how["groups"]).shape)
    big, kernel = split(padded(x, how["padding"]), 1, how["groups"]), split(w, 0, how["groups"])
    for window, tap in parts(x.shape, w.shape, shape, **how):
        y += np.einsum("goc,ngc...->ngo...", kernel[tap], big[window])
    return y.reshape(shape)


def to_x(g, w, shape, **how):
    big = np.zeros(split(padded(np.empty(shape), how["padding"]), 1, how["groups"]).shape)
    kernel, given = split(w, 0, how["groups"]), split(g, 1, how["groups"])
    for window, tap in parts(shape, w.shape, g.shape, **how):
        big[window] += np.einsum("goc,ngo...->ngc...", kernel[tap], given)
    cut = (
        slice(None),
        slice(None),
        *(slice(p, p + n) for p, n in zip(how["padding"], shape[2:], strict=True)),
    )
    return big.reshape(shape[0], shape[1], *big.shape[3:])[cut]


def to_weight(g, x, shape, **how):
    w = np.zeros(split(np.empty(shape), 0, how["groups"]).shape)
    big, given = split(padded(x, how["padding"]), 1, how["groups"]), split(g, 1, how["groups"])
    for window, tap in parts(x.shape, shape, g.shape, **how):
        w[tap] = np.einsum("ngox,ngcx->goc", *(a.reshape(*a.shape[:3], -1) for a in (given, big[window])))
    return w.reshape(shape)


# x, weight, stride, padding, dilation, groups
CASES = {
    "one axis": ((2, 3, 9), (5, 3, 4), (1,), (0,), (1,), 1),
    "two axes, several tiles": ((2, 5, 9, 10), (70, 5, 3, 3), (1, 1), (1, 1), (1, 1), 1),
    "deep": ((1, 40, 6, 5), (4, 40, 3, 3), (1, 1), (1, 1), (1, 1), 1),
    "strides and dilation": ((2, 4, 11, 13), (6, 4, 3, 2), (2, 3), (2, 1), (1, 2), 1),
    "dilation and stride share a factor": ((1, 2, 14), (3, 2, 3), (4,), (3,), (2,), 1),
    "groups": ((2, 6, 8, 7), (9, 2, 3, 3), (2, 1), (1, 0), (1, 1), 3),
    "each channel by itself": ((2, 4, 6, 6), (4, 1, 3, 3), (1, 1), (1, 1), (1, 1), 4),
    "three axes": ((1, 2, 4, 5, 6), (3, 2, 2, 3, 2), (1, 2, 1), (1, 0, 1), (1, 1, 2), 1),
    "a stride longer than the kernel": ((1, 2, 11), (3, 2, 2), (3,), (0,), (1,), 1),
}
# dtype, order of threads, compute capability: 70 has no tensor cores for these.
RUNS = [(d, order, 80) for d in ("float32", "bfloat16") for order in emulated_cupy.ORDERS]
RUNS += [
    ("float64", "shuffled", 80),
    ("float16", "shuffled", 80),
    ("float16", "shuffled", 70),
    ("bfloat16", "shuffled", 70),
]


def close(expected, actual, dtype):
    assert dtypes.as_dtype(actual.dtype) is dtypes.as_dtype(dtype)
    assert actual.shape == expected.shape
    np.testing.assert_allclose(
        on_host(cast(actual, "float64")),
        expected,
        rtol=2**-7 if dtype == "bfloat16" else 1e-3 if dtype == "float16" else 0,
        atol=TOLERANCE[dtype],
    )


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("dtype", "order", "cores"), RUNS)
def test_convolution_and_its_gradients(monkeypatch, launched, case, dtype, order, cores):
    monkeypatch.setattr(emulated_cupy, "order", order)
    monkeypatch.setattr(launch, "capability", lambda device: cores)
    shape, kernel, stride, padding, dilation, groups = CASES[case]
    how = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    (x, hx), (w, hw), (b, hb) = (
        numbers(dtype, *shape),
        numbers(dtype, *kernel, seed=1),
        numbers(dtype, kernel[0], seed=2),
    )
    found = conv.make_conv(dtype, body)(x, w, b, **how)
    close(forward(hx, hw, found.shape, **how) + hb.reshape(-1, *(1,) * len(stride)), found, dtype)
    g, hg = numbers(dtype, *found.shape, seed=3)
    reached = [
        (n - 1) * s - 2 * p + (k - 1) * d + 1
        for n, s, p, k, d in zip(g.shape[2:], stride, padding, kernel[2:], dilation, strict=True)
    ]
    missed = tuple(n - r for n, r in zip(shape[2:], reached, strict=True))
    found = conv.make_conv_transpose(dtype, body)(g, w, None, output_padding=missed, **how)
    close(to_x(hg, hw, shape, **how), found, dtype)
    found = conv.make_conv_weight_gradient(dtype, body)(x, g, kernel_size=kernel[2:], **how)
    close(to_weight(hg, hx, kernel, **how), found, dtype)
    used = {name for name in launched if "conv" in name or "gradient" in name}
    assert all(("tensor" in name) == (cores == 80 and dtype in ("float16", "bfloat16")) for name in used)


def test_the_weights_gradient_in_parts(launched):
    """Few results and a long sum: it is cut, and the parts are added in float64."""
    emulated_cupy.prepare(
        "reduce.cu",
        [
            r.entry(walk, "")
            for r in [reduce.reduction("sum", "float32", "float32")]
            for walk in ("rows", "columns")
        ],
    )
    (x, hx), (g, hg) = numbers("float32", 2, 1, 40, 40), numbers("float32", 2, 2, 38, 38, seed=1)
    how = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "groups": 1}
    found = conv.make_conv_weight_gradient("float32", body)(x, g, kernel_size=(3, 3), **how)
    close(to_weight(hg, hx, (2, 1, 3, 3), **how), found, "float32")
    assert any("sum" in name for name in launched)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_an_infinite_weight_meets_no_zeros_in_a_transpose(dtype):
    """What is outside of x is no term; inside, zero times infinity is NaN."""
    x = np.ones((1, 1, 4), "f4")
    x[0, 0, 1] = 0
    w = np.array([[[np.inf, 1.0]]], "f4")
    how = {"stride": (1,), "padding": (0,), "dilation": (1,), "groups": 1, "output_padding": (0,)}
    found = conv.make_conv_transpose(dtype, body)(
        cast(to_device(x), dtype), cast(to_device(w), dtype), None, **how
    )
    np.testing.assert_array_equal(
        on_host(cast(found, "float32"))[0, 0], np.array([np.inf, np.nan, np.inf, np.inf, 1], "f4")
    )


def test_an_output_padding_that_no_element_reaches_is_the_bias():
    x, w, b = (numbers("float32", *s)[0] for s in ((1, 2, 3), (2, 2, 1), (2,)))
    how = {"stride": (3,), "padding": (0,), "dilation": (1,), "groups": 1, "output_padding": (2,)}
    found = conv.make_conv_transpose("float32", body)(x, w, b, **how).get()
    assert found.shape == (1, 2, 9)
    for place in (1, 2, 4, 5, 7, 8):
        np.testing.assert_array_equal(found[0, :, place], b.get())


def test_operands_of_any_layout():
    how = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": 1}
    (x, hx), (w, hw) = numbers("float32", 2, 6, 7, 3), numbers("float32", 3, 3, 3, 4, seed=1)
    x, hx, w, hw = (
        x.transpose((0, 3, 1, 2)),
        hx.transpose((0, 3, 1, 2)),
        w.transpose((3, 2, 0, 1)),
        hw.transpose((3, 2, 0, 1)),
    )
    found = conv.make_conv("float32", body)(x, w, None, **how)
    close(forward(hx, hw, found.shape, **how), found, "float32")


def test_what_is_left_to_the_body():
    asked = []
    left = lambda *a, **_: asked.append(len(a))
    x = lambda *shape: numbers("float32", *shape)[0]
    one = {"stride": (1,), "padding": (0,), "dilation": (1,), "groups": 1}
    run, back, weight = (
        make("float32", left)
        for make in (conv.make_conv, conv.make_conv_transpose, conv.make_conv_weight_gradient)
    )
    run(x(2, 3, 5), x(4, 2, 3), None, **one)  # channels that do not fit
    run(x(2, 3, 5), x(4, 3, 6), None, **one)  # a kernel that does not fit
    run(x(2, 3, 5), x(4, 3, 3), x(3), **one)  # a bias that does not fit
    run(x(0, 3, 5), x(4, 3, 3), None, **one)
    run(x(2, 3), x(4, 3), None, stride=(), padding=(), dilation=(), groups=1)
    back(x(2, 3, 5), x(4, 2, 3), None, **one, output_padding=(0,))
    back(x(2, 3, 2), x(3, 2, 2), None, **{**one, "padding": (2,)}, output_padding=(0,))  # nothing is left
    weight(x(2, 3, 5), x(2, 4, 4), kernel_size=(3,), **one)  # more windows than fit
    weight(x(2, 3, 5), x(1, 4, 3), kernel_size=(3,), **one)
    assert asked == [3] * 7 + [2] * 2


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 9, 64, 100, 2**16 + 1, 2**30 - 1, 2**30, 2**31 - 1])
def test_division_by_multiplication_is_exact(size):
    _, multiplier, shift, _ = conv.divider(size)
    assert multiplier < 2**32
    tried = {
        0,
        1,
        size - 1,
        size,
        size + 1,
        2**31 - 1,
        *(k * size + r for k in (1, 2, 3, 2**31 // size - 1) for r in (-1, 0, 1)),
    }
    for n in (n for n in tried if 0 <= n < 2**31):
        assert ((n * multiplier >> 32) + n) >> shift == n // size


def test_the_classes_of_a_transpose_name_every_term_once():
    for size, taps, stride, dilation, padding in itertools.product(
        (1, 5, 8), (1, 2, 5), (1, 2, 3, 4), (1, 2, 3), (0, 1, 3)
    ):
        found = []
        for first, count, tap, number, every, place in conv.classes(size, taps, stride, dilation, padding):
            fall = dilation // np.gcd(dilation, stride)
            for q, m in itertools.product(range(count), range(number)):
                found.append((first + q * stride, tap + m * every, place + q - m * fall))
        expected = [
            (j, k, (j + padding - k * dilation) // stride)
            for j in range(size) for k in range(taps) if (j + padding - k * dilation) % stride == 0
        ]  # fmt: skip
        assert sorted(found) == expected
