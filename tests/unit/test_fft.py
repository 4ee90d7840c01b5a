"""Fourier transforms: values against NumPy for every length, axis and norm, adjoints, gradients, and what is refused."""

from __future__ import annotations

import inspect
import itertools
import math

import numpy as np
import pytest

import corelib as cl
from corelib import fft
from corelib.autograd import vjp
from corelib.errors import ArgumentError, DTypeError, ShapeError

# The signatures of the array API standard 2025.12, without annotations.
STANDARD = """
fft(x, /, *, n=None, axis=-1, norm='backward')
fftfreq(n, /, *, d=1.0, dtype=None, device=None)
fftn(x, /, *, s=None, axes=None, norm='backward')
fftshift(x, /, *, axes=None)
hfft(x, /, *, n=None, axis=-1, norm='backward')
ifft(x, /, *, n=None, axis=-1, norm='backward')
ifftn(x, /, *, s=None, axes=None, norm='backward')
ifftshift(x, /, *, axes=None)
ihfft(x, /, *, n=None, axis=-1, norm='backward')
irfft(x, /, *, n=None, axis=-1, norm='backward')
irfftn(x, /, *, s=None, axes=None, norm='backward')
rfft(x, /, *, n=None, axis=-1, norm='backward')
rfftfreq(n, /, *, d=1.0, dtype=None, device=None)
rfftn(x, /, *, s=None, axes=None, norm='backward')
"""
LINES = STANDARD.split("\n")[1:-1]
NORMS = ["backward", "ortho", "forward"]
LENGTHS = [None, 1, 2, 3, 5, 6, 8, 11]
OF_COMPLEX, OF_REAL = ["fft", "ifft", "hfft", "irfft"], ["rfft", "ihfft"]
SEVERAL = ["fftn", "ifftn", "irfftn", "rfftn"]


@pytest.fixture(autouse=True)
def reference():
    with cl.use_backend("reference"):
        yield


def parameters(function):
    return [(p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values()]


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.split("(")[0])
def test_the_signature_is_the_standards(line):
    scope = {}
    exec(f"def {line}: ...", scope)
    name = line.split("(")[0]
    assert parameters(getattr(fft, name)) == parameters(scope[name])


def test_the_namespace_is_the_standards():
    assert sorted(fft.__all__) == [line.split("(")[0] for line in LINES]
    assert cl.fft is fft


def array(*shape, name="fft", seed=0):
    """Complex numbers, or real ones for the transforms of these."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, shape)
    return x if name in ("rfft", "ihfft", "rfftn") else x + 1j * rng.uniform(-1, 1, shape)


def numbers(x):
    return np.asarray(x.tolist(), dtype=x.dtype.numpy).reshape(x.shape)


def close(actual, expected):
    """Both are off by less than log2(n) 2^-52 of the whole; here n is at most 40."""
    assert (actual.shape, actual.dtype.numpy) == (expected.shape, expected.dtype)
    error = np.linalg.norm((numbers(actual) - expected).ravel())
    assert error <= 2 * math.log2(40) * 2**-52 * np.linalg.norm(expected.ravel())


# -- values --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("name", OF_COMPLEX + OF_REAL)
def test_values_are_numpys(name, n):
    for norm, axis in itertools.product(NORMS, (0, -1)):
        x = array(5, 6, name=name)
        actual = getattr(fft, name)(cl.asarray(x), n=n, axis=axis, norm=norm)
        close(actual, getattr(np.fft, name)(x, n=n, axis=axis, norm=norm))


@pytest.mark.parametrize(
    ("s", "axes"),
    [
        (None, None),
        (None, (0,)),
        (None, (-1, 0)),
        ((4,), (1,)),
        ((5, 2), (0, 2)),
        ((-1, 3), (2, 1)),
        ((2, 3, 4), (2, 0, 1)),
    ],
)
@pytest.mark.parametrize("name", SEVERAL)
def test_values_of_several_axes_are_numpys(name, s, axes):
    for norm in NORMS:
        x = array(3, 4, 3, name=name)
        sizes = s
        if s is not None and -1 in s and name == "irfftn":
            sizes = (3, 3)  # NumPy takes -1 for the size of x where it is that of the result: 3 along axis 2
        actual = getattr(fft, name)(cl.asarray(x), s=sizes, axes=axes, norm=norm)
        close(actual, getattr(np.fft, name)(x, s=sizes, axes=axes, norm=norm))


def test_minus_one_takes_all_elements_also_of_half_a_spectrum():
    x = cl.asarray(array(3, 4))
    assert fft.irfftn(x, s=(-1, -1), axes=(0, 1)).shape == fft.irfftn(x).shape == (3, 6)
    assert fft.fftn(x, s=(-1, 2), axes=(0, 1)).shape == (3, 2)


def test_a_transform_of_no_axes_changes_nothing():
    for x in (array(), array(2)):
        assert fft.fftn(cl.asarray(x), axes=()).tolist() == x.tolist()


@pytest.mark.parametrize(
    ("there", "back"),
    [("fft", "ifft"), ("fftn", "ifftn"), ("rfft", "irfft"), ("rfftn", "irfftn"), ("ihfft", "hfft")],
)
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("n", [6, 7])
def test_inverses(there, back, norm, n):
    x = array(2, n, name=there)
    size = {"s": (2, n), "axes": (0, 1)} if there.endswith("n") else {"n": n}
    close(getattr(fft, back)(getattr(fft, there)(cl.asarray(x), norm=norm), norm=norm, **size), x)


def test_dtypes_follow_x():
    for real, complex_ in (
        (cl.float32, cl.complex64),
        (cl.float64, cl.complex128),
        (cl.float16, cl.complex64),
    ):
        x = cl.ones((4,), dtype=real)
        assert fft.rfft(x).dtype is fft.fft(x).dtype is fft.ihfft(x).dtype is fft.rfftn(x).dtype is complex_
        assert fft.irfft(fft.rfft(x)).dtype is fft.hfft(x).dtype is fft.irfftn(x).dtype is complex_.real


def test_real_numbers_are_taken_as_complex():
    x = array(5, name="rfft")
    for name in (*OF_COMPLEX, "fftn", "ifftn", "irfftn"):
        transform = getattr(fft, name)
        assert transform(cl.asarray(x)).tolist() == transform(cl.asarray(x + 0j)).tolist()
        (g,) = vjp(transform, cl.asarray(x))[1](transform(cl.asarray(x)))
        assert g.dtype is cl.float64


def test_an_empty_axis_is_continued_by_zeros():
    for name in OF_COMPLEX + OF_REAL:
        assert not cl.any(getattr(fft, name)(cl.asarray(array(2, 0, name=name)), n=4)).item()


@pytest.mark.parametrize("n", [1, 2, 7, 8])
@pytest.mark.parametrize("d", [1.0, 0.25, 3])
def test_frequencies_are_numpys(n, d):
    assert fft.fftfreq(n, d=d, dtype=cl.float64).tolist() == pytest.approx(
        np.fft.fftfreq(n, d).tolist(), rel=2**-52
    )
    assert fft.rfftfreq(n, d=d, dtype=cl.float64).tolist() == pytest.approx(
        np.fft.rfftfreq(n, d).tolist(), rel=2**-52
    )
    assert fft.fftfreq(n, d=d).dtype is fft.rfftfreq(n, d=d).dtype is cl.float32
    assert fft.fftfreq(n, device="reference").device == "reference"


@pytest.mark.parametrize("axes", [None, 0, -1, (0, 2), ()])
def test_shifts_are_numpys(axes):
    x = np.arange(60).reshape(3, 4, 5)
    for name in ("fftshift", "ifftshift"):
        assert (
            getattr(fft, name)(cl.asarray(x), axes=axes).tolist()
            == getattr(np.fft, name)(x, axes=axes).tolist()
        )
    assert fft.ifftshift(fft.fftshift(cl.asarray(x), axes=axes), axes=axes).tolist() == x.tolist()
    assert fft.fftshift(cl.asarray(1.0)).item() == 1.0


# -- gradients -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("name", OF_COMPLEX + OF_REAL)
def test_the_gradient_is_the_adjoint(name, n):
    """<g, F x> = <F^H g, x>, of the parts of complex numbers, for any x and g."""
    for norm, axis in itertools.product(NORMS, (0, -1)):
        x = cl.asarray(array(5, 4, name=name))
        y, pullback = vjp(lambda x, axis=axis, norm=norm: getattr(fft, name)(x, n=n, axis=axis, norm=norm), x)
        g = cl.asarray(
            array(*y.shape, seed=1) if y.dtype.kind == "complex" else array(*y.shape, name="rfft", seed=1)
        )
        (pulled,) = pullback(g)
        inner = lambda a, b: np.vdot(numbers(a), numbers(b)).real
        assert (pulled.shape, pulled.dtype) == (x.shape, x.dtype)
        assert inner(pulled, x) == pytest.approx(inner(g, y), rel=1e-12, abs=1e-13)


@pytest.mark.parametrize("name", OF_COMPLEX + OF_REAL + SEVERAL)
def test_derivatives_of_second_order_are_those_of_finite_differences(name):
    size = {"s": (3, 2), "axes": (0, 1)} if name.endswith("n") else {"n": 5}
    squares = lambda x: cl.abs(getattr(fft, name)(x, **size)) ** 2
    x = cl.asarray(array(2, 3, name=name))
    assert cl.gradcheck(squares, (x,))
    assert cl.gradgradcheck(squares, (x,), tolerance=1e-6)  # differences of gradients: half the digits


# -- mistakes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OF_COMPLEX + OF_REAL)
def test_what_one_axis_refuses(name):
    transform, x = getattr(fft, name), cl.ones((2, 0))
    with pytest.raises(
        ArgumentError, match=f"{name}: norm must be 'backward', 'ortho' or 'forward', got 'none'"
    ):
        transform(x, norm="none")
    with pytest.raises(ShapeError, match=f"{name}: n must be at least 1, got 0"):
        transform(x, n=0)
    with pytest.raises(ShapeError, match=rf"{name}: axis -1 of x of shape \(2, 0\) is too short: give n"):
        transform(x)
    with pytest.raises(ShapeError, match=f"{name}: axis 2 is out of range"):
        transform(x, axis=2)
    with pytest.raises(
        DTypeError, match=rf"{name} does not accept int64, .*: call x.astype\(corelib.float32\)"
    ):
        transform(cl.ones((3,), dtype=cl.int64))
    with pytest.raises(
        DTypeError, match=rf"{name}: x must be a Tensor, got builtins.list: call corelib.asarray"
    ):
        transform([1.0, 2.0])


def test_one_element_is_no_half_of_a_spectrum():
    with pytest.raises(ShapeError, match=r"irfft: axis -1 .* is too short: give n"):
        fft.irfft(cl.ones((1,)))
    assert fft.irfft(cl.ones((1,)), n=1).tolist() == [1]


@pytest.mark.parametrize("name", SEVERAL)
def test_what_several_axes_refuse(name):
    transform, x = getattr(fft, name), cl.ones((3, 4))
    with pytest.raises(ArgumentError, match=f"{name}: s= is for axes that are named: give axes= as well"):
        transform(x, s=(3, 4))
    with pytest.raises(ShapeError, match=rf"{name}: axes \(0, -2\) must differ"):
        transform(x, axes=(0, -2))
    with pytest.raises(
        ShapeError, match=rf"{name}: axes \(0, 1\) must differ, and s \(3,\) have a length for each of them"
    ):
        transform(x, s=(3,), axes=(0, 1))
    with pytest.raises(ShapeError, match=f"{name}: s must be at least 1, got -2"):
        transform(x, s=(-2,), axes=(0,))


def test_transforms_of_real_numbers_need_real_numbers_and_an_axis():
    for name in (*OF_REAL, "rfftn"):
        with pytest.raises(
            DTypeError, match=rf"{name} does not accept complex64, .*: take corelib.real\(x\)"
        ):
            getattr(fft, name)(cl.ones((3,), dtype=cl.complex64))
    for name in ("rfftn", "irfftn"):
        with pytest.raises(ShapeError, match=f"{name}: at least one axis is needed"):
            getattr(fft, name)(cl.ones((3,)), axes=())


def test_frequencies_are_real_and_counted():
    for function in (fft.fftfreq, fft.rfftfreq):
        with pytest.raises(DTypeError, match="freq: dtype must be a real floating dtype, got complex64"):
            function(3, dtype=cl.complex64)
        with pytest.raises(ShapeError, match="freq: n must be at least 1, got 0"):
            function(0)
