"""Complex numbers in the `cuda` kernels: the standard's special values as the reference has them, errors against mpmath,
and sums, moves and products. Executed on the CPU by tests/cuda_emulator."""

from __future__ import annotations

import cmath
import math
import random
import sys
from pathlib import Path

import mpmath
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "cuda_emulator"))
import emulated_cupy
from harness import COMPLEX, run, same, to_device

from corelib import dtypes
from corelib.conformance.unspecified import open_signs, open_values
from corelib.op import BY_NAME
from corelib_cuda import backend as cuda_backend
from corelib_cuda import elementwise, indexing, reduce
from corelib_reference import annex_g

REASON = emulated_cupy.unusable()
pytestmark = [
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
    pytest.mark.xdist_group("cuda_emulated_complex"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),  # NumPy's, of infinities and overflow
]
FUNCTIONS = [
    "sign", "sqrt", "exp", "expm1", "log", "log1p", "log2", "log10", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh",
    "tanh", "asinh", "acosh", "atanh",
]  # fmt: skip


def prepare(dtype):
    """Compile what the tests of a dtype launch in a few large sources: far quicker than one by one."""
    entries = []
    for kernel in elementwise.every_kernel(["bool", "float32", "float64", *COMPLEX]):
        if dtype in kernel.inputs or dtype == kernel.output:
            dense = "v" if kernel.name.startswith("full") else "a" * len(kernel.inputs)
            entries.append(kernel.entry(dense, "dense", 32))
    emulated_cupy.prepare("elementwise.cu", entries)
    walks = [(walk, step) for walk in ("rows", "columns") for step in reduce.STEPS]
    emulated_cupy.prepare("reduce.cu", [r.entry(*w) for r in reduce.every_reduction([dtype]) for w in walks])
    emulated_cupy.prepare("index.cu", [(k.name, k.entry) for k in indexing.every_move([dtype]) if k.entry])


@pytest.fixture(scope="module", autouse=True)
def device():
    with emulated_cupy.installed():
        for dtype in COMPLEX:
            prepare(dtype)
        yield cuda_backend.CudaBackend("cuda")


@pytest.fixture(params=COMPLEX)
def dtype(request):
    return dtypes.as_dtype(request.param)


def rounded(z, dtype):
    return complex(dtype.real.round(z.real), dtype.real.round(z.imag))


def special(dtype):
    """Complex numbers with all pairs of parts at which mistakes are made."""
    tiny, big = dtype.smallest_normal, dtype.real.max
    beyond = (
        math.log(big) + 0.5
    )  # its exponential is infinite, and finite once multiplied by cos(pi/2), which is not 0
    found = [0.0, 0.5, 1.0, math.pi / 2, 22.5, beyond, math.sqrt(big), big, tiny, tiny * dtype.eps, math.inf]
    parts = [dtype.real.round(s * v) for v in found for s in (1, -1)] + [math.nan]
    return [complex(a, b) for a in parts for b in parts]


def points(dtype, low, high, count=60, seed=0):
    rng = random.Random(seed)
    return [rounded(complex(rng.uniform(low, high), rng.uniform(low, high)), dtype) for _ in range(count)]


def numbers(dtype, shape, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(dtype.numpy)


def error(found, exact, dtype):
    """The distance of the worse part in units in the last place of the larger one."""
    larger = max(abs(exact.real), abs(exact.imag), dtype.smallest_normal)
    unit = mpmath.ldexp(dtype.eps, mpmath.frexp(larger)[1] - 1)
    return max(abs(found.real - exact.real), abs(found.imag - exact.imag)) / unit


# ------------------------------------------------------------------------------------------------- element-wise functions


def agree(name, operands, expected, found, dtype):
    """Infinities, NaN and zeros where they are expected, with their signs but for those that the standard leaves open."""
    open_sign = open_signs(name, operands)
    open_part = open_values(name, operands, dtype.real.max)
    pairs = ((expected.real, found.real), (expected.imag, found.imag))
    for (e, f), no_sign, nothing in zip(pairs, open_sign, open_part, strict=True):
        if nothing or (e != e and f != f):
            continue
        exact = e == 0 or not math.isfinite(e) or not math.isfinite(f)
        if exact and abs(e) != abs(f) and max(abs(e), abs(f)) > 2 * dtype.smallest_normal * dtype.eps:
            return False
        signed = (
            not no_sign and len(operands) == 1
        )  # of a product or quotient it depends on the order of its terms
        if exact and signed and math.copysign(1, e) != math.copysign(1, f):
            return False
    return True


@pytest.mark.parametrize("name", FUNCTIONS)
def test_special_values_are_the_references(device, dtype, name):
    z = special(dtype)
    found = run(device, name, np.array(z, dtype.numpy)).tolist()
    expected = [rounded(getattr(annex_g, name)(x), dtype) for x in z]
    assert [
        (x, e, f) for x, e, f in zip(z, expected, found, strict=True) if not agree(name, (x,), e, f, dtype)
    ] == []


@pytest.mark.parametrize("name", ["multiply", "divide", "pow"])
def test_special_pairs_are_the_references(device, dtype, name):
    some = random.Random(1).sample(special(dtype), 60)
    pairs = [(x, y) for x in some for y in some]
    if name == "pow":  # finite ones are powers in decimal arithmetic, which are slow; see below
        pairs = [p for p in pairs if not all(map(cmath.isfinite, p)) or 0 in p]
    x, y = (np.array(column, dtype.numpy) for column in zip(*pairs, strict=True))
    found = run(device, name, x, y).tolist()
    expected = [rounded(getattr(annex_g, name)(*p), dtype) for p in pairs]
    assert [
        (p, e, f) for p, e, f in zip(pairs, expected, found, strict=True) if not agree(name, p, e, f, dtype)
    ] == []


EXACT = {
    "sign": lambda z: z / abs(z),
    "log2": lambda z: mpmath.log(z) / mpmath.log(2),
    "log10": lambda z: mpmath.log(z) / mpmath.log(10),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_within_their_budget(device, dtype, name):
    """Measured: at most 3 units for complex128, half a unit for complex64, which is computed in complex128."""
    exact = EXACT.get(name) or getattr(mpmath, name)
    near_one = [
        rounded(cmath.rect(1, angle), dtype) for angle in (1e-9, 0.3, 1.7, -3)
    ]  # where log |z| cancels
    with mpmath.workprec(200):
        for low, high in ((-3, 3), (-0.1, 0.1), (-15, 15)):
            z = points(dtype, low, high) + near_one
            found = run(device, name, np.array(z, dtype.numpy)).tolist()
            errors = [
                error(f, mpmath.mpc(exact(mpmath.mpc(x))), dtype) for x, f in zip(z, found, strict=True)
            ]
            assert max(errors) <= BY_NAME[name].ulp_complex


@pytest.mark.parametrize("name", ["multiply", "divide", "pow"])
def test_products_quotients_and_powers_are_within_their_budget(device, dtype, name):
    exact = {
        "multiply": lambda x, y: x * y,
        "divide": lambda x, y: x / y,
        "pow": lambda x, y: x**y,
    }[name]
    with mpmath.workprec(200):
        x, y = points(dtype, -3, 3, 150), points(dtype, -3, 3, 150, seed=1)
        if name == "pow":  # integers take another way
            x, y = x * 2, y + [complex(n) for n in (-64, -3, -1, 1, 2, 3, 17, 63, 64, 65) * 15]
        found = run(device, name, np.array(x, dtype.numpy), np.array(y, dtype.numpy)).tolist()
        errors = []
        for a, b, f in zip(x, y, found, strict=True):
            e = exact(mpmath.mpc(a), mpmath.mpc(b))
            # x**64 is a product of six squares, each of which doubles the relative error
            budget = BY_NAME[name].ulp_complex * (8 if b.imag == 0 and abs(b) > 4 else 1)
            if abs(e) < dtype.real.max and abs(e) > dtype.smallest_normal:
                errors.append(error(f, e, dtype) / budget)
        assert len(errors) > 100
        assert max(errors) <= 1


def test_a_product_is_the_plain_formula(device, dtype):
    x, y = numbers(dtype, 100), numbers(dtype, 100, seed=1)
    found = run(device, "multiply", x, y)
    same(x.real * y.real - x.imag * y.imag, np.ascontiguousarray(found.real))
    same(x.real * y.imag + x.imag * y.real, np.ascontiguousarray(found.imag))
    same(found, run(device, "multiply", y, x))
    assert not run(device, "multiply", x, run(device, "conj", x)).imag.any()


def test_quotients_neither_overflow_nor_underflow_on_the_way(device, dtype):
    big, tiny = dtype.real.max / 2, dtype.smallest_normal
    x = np.array([big + big * 1j, tiny + tiny * 1j, big + 0j, 1 + 1j], dtype.numpy)
    y = np.array([big + big * 1j, tiny - tiny * 1j, 2 + 0j, 4j], dtype.numpy)
    same(np.array([1, 1j, big / 2, 0.25 - 0.25j], dtype.numpy), run(device, "divide", x, y))


def test_parts_and_tests(device, dtype):
    z = np.array(special(dtype), dtype.numpy)
    re, im = np.ascontiguousarray(z.real), np.ascontiguousarray(z.imag)
    same(re, run(device, "real", z))
    same(im, run(device, "imag", z))
    same(np.conj(z), run(device, "conj", z))
    same(-z, run(device, "negative", z))
    same(np.rint(z), run(device, "round", z))
    same(np.isnan(re) | np.isnan(im), run(device, "isnan", z))
    same(np.isinf(re) | np.isinf(im), run(device, "isinf", z))
    same(np.isfinite(re) & np.isfinite(im), run(device, "isfinite", z))
    modulus = [dtype.real.round(annex_g.modulus(x)) for x in z.tolist()]
    np.testing.assert_array_max_ulp(
        run(device, "abs", z)[np.isfinite(modulus)],
        np.array(modulus, dtype.real.numpy)[np.isfinite(modulus)],
        1,
    )
    np.testing.assert_array_equal(
        run(device, "abs", z)[~np.isfinite(modulus)],
        np.array(modulus, dtype.real.numpy)[~np.isfinite(modulus)],
    )
    for name in ("equal", "not_equal"):
        same(getattr(np, name)(z, z[::-1]), run(device, name, z, z[::-1].copy()))
        same(getattr(np, name)(z, z), run(device, name, z, z))
    condition = np.arange(z.size) % 3 == 0
    same(np.where(condition, z, z[::-1]), run(device, "where", condition, z, z[::-1].copy()))


def test_casts(device, dtype):
    z = np.array(special(dtype), dtype.numpy)
    same((z.real != 0) | (z.imag != 0), run(device, "astype", z, dtype=dtypes.bool))
    for other in dtypes.COMPLEX:
        same(z.astype(other.numpy), run(device, "astype", z, dtype=other))
    for source in (dtypes.bool, dtypes.int8, dtypes.uint64, dtypes.float32, dtypes.float64):
        x = np.array([0, 1, 100, 3], source.numpy)
        same(x.astype(dtype.numpy), run(device, "astype", x, dtype=dtype))


def test_scalars_and_layouts(device, dtype):
    z = numbers(dtype, (4, 6, 10))
    same(z + dtype.numpy.type(2 - 3j), run(device, "add", z, 2 - 3j))
    same(dtype.numpy.type(1j) - z[:, ::2], run(device, "subtract", 1j, to_device(z)[:, ::2]))
    same(-z.transpose(2, 0, 1), run(device, "negative", to_device(z).transpose((2, 0, 1))))
    same(z[0] + z[:, ::-1], run(device, "add", to_device(z)[0], to_device(z)[:, ::-1]))
    same(
        np.full((3, 2), 1 - 2j, dtype.numpy),
        run(device, "full", found_under=dtype, shape=(3, 2), fill_value=1 - 2j, dtype=dtype),
    )


# --------------------------------------------------------------------------------------------- sums, moves and products


@pytest.mark.parametrize(
    ("shape", "axes"),
    [((70, 5), (-1,)), ((3, 2001), (-1,)), ((1, 40000), (-1,)), ((50, 3), (-2,)), ((1100, 7), (-2,)), ((4, 5, 6), (-3, -1)), ((3, 0), (-1,))],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("order", ["ascending", "shuffled"])
def test_reductions(device, dtype, shape, axes, order, monkeypatch):
    monkeypatch.setattr(emulated_cupy, "order", order)
    z = numbers(dtype, shape)
    wide = z.astype(np.complex128)
    found = run(device, "sum", z, axis=axes, dtype=dtype, keepdims=False)
    # sums are in float64: of n numbers they are off by n eps of it at most, and rounded once
    bound = np.abs(wide).sum(axes) * (dtype.eps + z.size * 2.0**-52)
    assert found.dtype == dtype.numpy
    assert (np.abs(found - wide.sum(axes)) <= bound).all()
    turns = np.array([1, 1j, -1, -1j], dtype.numpy)[np.random.default_rng(1).integers(0, 4, shape)]
    found = run(device, "prod", turns, axis=axes, dtype=dtype, keepdims=False)
    np.testing.assert_array_equal(found, turns.prod(axes))
    assert found.dtype == dtype.numpy
    z = np.where(np.abs(z) > 2.5, z.imag * 1j, 0).astype(dtype.numpy)
    same(z.any(axes), run(device, "any", z, axis=axes, keepdims=False))
    z = z + dtype.numpy.type(1j)
    same(z.all(axes), run(device, "all", z, axis=axes, keepdims=False))


def test_elements_are_moved_whole(device, dtype):
    z = numbers(dtype, (3, 4, 5))
    i = np.array([[0, -1, 2], [1, 1, -3]])
    same(z[:, :, i], run(device, "gather", z, i, axis=-1))
    along = np.array([[[1]], [[-1]]])
    same(np.take_along_axis(z, along, 0), run(device, "take_along_axis", z, along, axis=-3))
    expected = z.copy()
    expected[:, [2, 0, 2]] = z[:, :3]
    same(
        expected,
        run(device, "scatter", z, z[:, :3].copy(), np.array([2, 0, 2]), axis=-2, overwrite=False),
    )
    where = np.nonzero(z.real > 0)
    for e, f in zip(where, run(device, "nonzero", np.where(z.real > 0, z * 1j, 0)), strict=True):
        same(e, f)


def test_scatter_add_sums_each_part_in_order(device, dtype):
    z, values = numbers(dtype, (2, 6)), numbers(dtype, (2, 40), seed=1)
    index = np.random.default_rng(1).integers(-6, 6, 40)
    expected = z.astype(np.complex128)
    for k in range(40):
        expected[:, index[k]] += values[:, k]
    same(
        expected.astype(dtype.numpy),
        run(device, "scatter_add", z, values, index, axis=-1, overwrite=False),
    )


def test_scans_and_products(device, dtype):
    z = numbers(dtype, (3, 50))
    scanned = np.cumsum(z.astype(np.complex128), -1).astype(dtype.numpy)
    found = run(device, "cumulative_sum", z, axis=-1, dtype=dtype)
    bound = 50 * 2.0**-53 * np.abs(z).sum(-1, keepdims=True) * 2  # of sums in any order
    if dtype is dtypes.complex64:  # both are rounded once more
        bound = bound + 2.0**-24 * np.abs(scanned)
    assert (np.abs(found - scanned) <= bound).all()
    np.testing.assert_allclose(run(device, "matmul", z, z.T.copy()), z @ z.T, rtol=1e-5)


def test_memory_that_is_not_aligned_is_not_shared(device, monkeypatch):
    """A view that begins in the middle of what would be a complex128."""

    class Exporter:
        def __init__(self, array):
            self.array = array

        def __dlpack_device__(self):
            return 2, 0

    monkeypatch.setattr(sys.modules["cupy"], "from_dlpack", lambda source: source.array, raising=False)
    x = to_device(np.arange(6.0))
    assert device.from_dlpack(Exporter(x[1:5].view(np.complex128))) is None
    shared = device.from_dlpack(Exporter(x[2:].view(np.complex128)))
    same(np.array([2 + 3j, 4 + 5j]), shared.get())
