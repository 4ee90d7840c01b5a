"""Reductions, scans and statistics against NumPy: every dtype, axis and empty shape; gradients with ties and zeros; refusals."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

import corelib
from corelib import dtypes, grad, jvp, ops, vjp
from corelib.errors import DTypeError, ShapeError
from corelib.numerical import gradcheck, gradgradcheck

on_each = pytest.mark.parametrize(
    "device", ["reference", pytest.param("cpu", marks=pytest.mark.device("cpu"))]
)
of_each_dtype = pytest.mark.parametrize("dtype", dtypes.ALL, ids=lambda d: d.name)
of_each_ordered_dtype = pytest.mark.parametrize(
    "dtype", dtypes.ORDERED + dtypes.HALF, ids=lambda d: d.name
)  # complex numbers have no order
SHAPES = [(), (0,), (1,), (5,), (2, 3), (3, 0), (0, 3), (2, 1, 3), (2, 3, 4), (70,), (3, 40)]
INF, NAN = math.inf, math.nan
# An empty mean or an infinite difference is NaN by contract; NumPy warns about its own.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def numbers(shape, dtype=np.float32, seed=0):
    values = np.random.default_rng(seed).integers(0, 5, shape)
    return (values if np.dtype(dtype).kind in "bu" else values - 2).astype(dtype)


def tensor(values, device="reference"):
    return corelib.asarray(np.asarray(values), device=device)


def axes_of(shape):
    n = len(shape)
    return [
        None,
        (),
        *range(-n, n),
        *(c for k in range(2, n + 1) for c in itertools.combinations(range(-n, 0), k)),
    ]


def assert_same(actual, expected):
    expected = np.asarray(expected)
    assert actual.shape == expected.shape
    assert actual.dtype is dtypes.as_dtype(expected.dtype)
    np.testing.assert_array_equal(actual.numpy(), expected)


def assert_close(actual, expected, rtol=1e-5):
    expected = np.asarray(expected)
    assert actual.shape == expected.shape
    assert actual.dtype is dtypes.as_dtype(expected.dtype)
    np.testing.assert_allclose(actual.numpy(), expected, rtol=rtol, atol=rtol)


# -- reductions --------------------------------------------------------------------------------------------------


@on_each
@of_each_dtype
def test_sums_products_any_and_all_are_numpys(dtype, device):
    for shape in SHAPES:
        x = numbers(shape, dtype.numpy)
        t = tensor(x, device)
        for axis, keepdims in itertools.product(axes_of(shape), (False, True)):
            where = {"axis": axis, "keepdims": keepdims}
            assert_same(ops.sum(t, **where), np.sum(x, **where))
            assert_same(ops.prod(t, **where), np.prod(x, **where))
            assert_same(ops.any(t, **where), np.any(x, **where))
            assert_same(ops.all(t, **where), np.all(x, **where))
            assert_same(ops.count_nonzero(t, **where), np.asarray(np.count_nonzero(x, **where)))


@on_each
@of_each_ordered_dtype
def test_extremes_are_numpys_and_there_is_none_of_nothing(dtype, device):
    for shape in SHAPES:
        x = numbers(shape, dtype.numpy)
        t = tensor(x, device)
        for axis, keepdims in itertools.product(axes_of(shape), (False, True)):
            where = {"axis": axis, "keepdims": keepdims}
            pairs = [(ops.max, np.max), (ops.min, np.min)]
            if not isinstance(axis, tuple):
                pairs += [(ops.argmax, np.argmax), (ops.argmin, np.argmin)]
            for mine, theirs in pairs:
                try:
                    expected = theirs(x, **where)
                except ValueError:
                    with pytest.raises(ShapeError, match="no elements"):
                        mine(t, **where)
                else:
                    assert_same(mine(t, **where), expected)


@on_each
def test_nan_is_the_extreme_and_the_first_of_equals_wins(device):
    x = tensor([[1.0, NAN, 3.0], [2.0, 0.0, 2.0]], device)
    for op in (ops.max, ops.min):
        assert math.isnan(op(x).item())
    assert ops.argmax(x, axis=1).tolist() == [1, 0]
    assert ops.argmin(x, axis=1).tolist() == [1, 1]
    assert math.copysign(1, ops.max(tensor([-0.0, 0.0], device)).item()) == 1
    assert math.copysign(1, ops.min(tensor([0.0, -0.0], device)).item()) == -1


@on_each
def test_integers_are_summed_wide_unless_asked_otherwise(device):
    x = tensor(np.full(300, 100, np.int8), device)
    assert_same(ops.sum(x), np.int64(30000))
    assert_same(ops.sum(x, dtype=dtypes.float64), np.float64(30000))
    assert_same(ops.sum(x, dtype="int16"), np.int16(30000))
    assert_same(ops.sum(tensor(np.full(3, 255, np.uint8), device)), np.uint64(765))
    assert_same(
        ops.sum(tensor(np.float32([2**24, 1, 1]), device), dtype=dtypes.float64), np.float64(2**24 + 2)
    )
    assert_same(ops.prod(tensor(np.full(3, 200, np.uint8), device)), np.uint64(8_000_000))


@on_each
def test_a_long_sum_is_far_better_than_a_running_one(device):
    x = tensor(np.full(100_000, 0.1, np.float32), device)
    assert abs(ops.sum(x).item() / (100_000 * float(np.float32(0.1))) - 1) < 1e-6


# -- scans -------------------------------------------------------------------------------------------------------


@on_each
@of_each_dtype
def test_scans_are_numpys(dtype, device):
    for shape in SHAPES[1:]:
        x = numbers(shape, dtype.numpy)
        t = tensor(x, device)
        for axis in range(-len(shape), len(shape)):
            for mine, theirs, first in (
                (ops.cumulative_sum, np.cumsum, 0),
                (ops.cumulative_prod, np.cumprod, 1),
            ):
                expected = theirs(x, axis=axis)
                assert_same(mine(t, axis=axis), expected)
                initial = np.full_like(np.take(expected, [0] * bool(shape[axis]), axis), first)
                if shape[axis]:
                    expected = np.concatenate([initial, expected], axis)
                    assert_same(mine(t, axis=axis, include_initial=True), expected)
        if len(shape) == 1:
            assert_same(ops.cumulative_sum(t), np.cumsum(x))


def test_an_empty_scan_with_its_initial_is_the_identity():
    assert_same(ops.cumulative_prod(tensor(np.ones((2, 0))), axis=1, include_initial=True), np.ones((2, 1)))


# -- statistics --------------------------------------------------------------------------------------------------


@on_each
@pytest.mark.parametrize("dtype", dtypes.FLOATING, ids=lambda d: d.name)
def test_statistics_are_numpys(dtype, device):
    for shape in SHAPES:
        x = (numbers(shape) * 1.25 + 0.1).astype(dtype.numpy)
        t = tensor(x, device)
        for axis, keepdims in itertools.product(axes_of(shape), (False, True)):
            where = {"axis": axis, "keepdims": keepdims}
            assert_close(ops.mean(t, **where), np.mean(x, **where))
            for correction in (0, 1, 0.5):
                assert_close(
                    ops.var(t, correction=correction, **where),
                    np.var(x, ddof=correction, **where).astype(x.dtype),
                )
                assert_close(
                    ops.std(t, correction=correction, **where),
                    np.std(x, ddof=correction, **where).astype(x.dtype),
                )
            assert_close(ops.logsumexp(t, **where), np.log(np.sum(np.exp(x), **where)).astype(x.dtype))


@on_each
def test_var_loses_no_digits_to_a_large_mean(device):
    x = np.float32(10_000) + np.float32([0, 1, 2, 3])
    assert ops.var(tensor(x, device)).item() == 1.25


@on_each
def test_logsumexp_is_right_at_infinity(device):
    rows = tensor(
        [[-INF, -INF], [INF, 1.0], [INF, INF], [1000.0, 1000.0], [-INF, 2.0], [NAN, 1.0], [INF, -INF]], device
    )
    expected = [-INF, INF, INF, 1000 + math.log(2), 2.0, NAN, INF]
    np.testing.assert_allclose(ops.logsumexp(rows, axis=1).numpy(), expected, rtol=1e-6)
    assert ops.logsumexp(tensor(np.ones((0,)), device)).item() == -INF


def test_logsumexp_has_finite_gradients_where_elements_are_minus_infinity():
    g = grad(lambda x: ops.sum(ops.logsumexp(x, axis=1)))(tensor([[-INF, 0.0, 0.0], [-INF, -INF, -INF]]))
    assert g.tolist()[0] == [0.0, 0.5, 0.5]
    assert np.isfinite(g.numpy()).all()


@on_each
@pytest.mark.parametrize("ord", [0, 1, 2, 3, 0.5, -1, INF, -INF])
def test_vector_norm_is_numpys(ord, device):
    for shape, axis in (((5,), None), ((2, 3), None), ((2, 3), 0), ((2, 3, 4), (0, 2)), ((2, 3, 4), -1)):
        x = np.random.default_rng(0).standard_normal(shape)
        if axis is None:
            expected = np.linalg.norm(x.ravel(), ord)
        elif isinstance(axis, tuple):
            expected = np.linalg.norm(np.moveaxis(x, axis, (-2, -1)).reshape(3, -1), ord, axis=-1)
        else:
            expected = np.linalg.norm(x, ord, axis=axis)
        assert_close(ops.vector_norm(tensor(x, device), axis=axis, ord=ord), expected, rtol=1e-12)


# -- derivatives -------------------------------------------------------------------------------------------------

X = tensor(np.random.default_rng(0).uniform(0.5, 2, (2, 3, 4)))
ZEROS = tensor(np.array([[0.0, 2.0, 3.0, 0.0], [0.0, -1.0, 2.0, 3.0], [1.5, 2.0, 3.0, -2.0]]))
DERIVATIVES = {
    "sum": lambda x: ops.sum(x, axis=(0, 2)),
    "sum keepdims": lambda x: ops.sum(x, axis=1, keepdims=True),
    "prod": lambda x: ops.prod(x, axis=(0, 2)),
    "prod of all": lambda x: ops.prod(x),
    "max": lambda x: ops.max(x, axis=1),
    "min": lambda x: ops.min(x, axis=(0, 1), keepdims=True),
    "cumulative_sum": lambda x: ops.cumulative_sum(x, axis=1, include_initial=True),
    "cumulative_prod": lambda x: ops.cumulative_prod(x, axis=-1),
    "cumulative_prod initial": lambda x: ops.cumulative_prod(x, axis=0, include_initial=True),
    "mean": lambda x: ops.mean(x, axis=(0, 1)),
    "var": lambda x: ops.var(x, axis=1, correction=1),
    "std": lambda x: ops.std(x, axis=(0, 2), keepdims=True),
    "logsumexp": lambda x: ops.logsumexp(x, axis=-1),
    "norm": lambda x: ops.vector_norm(x, axis=1),
    "norm 3": lambda x: ops.vector_norm(x, axis=(0, 2), ord=3),
    "norm inf": lambda x: ops.vector_norm(x, ord=INF),
}  # fmt: skip


@on_each
@pytest.mark.parametrize("name", DERIVATIVES)
def test_gradients_are_right_to_second_order(name, device):
    fn, x = DERIVATIVES[name], X.to(device)
    assert gradcheck(fn, [x])
    assert gradgradcheck(lambda x: fn(x * x), [x], tolerance=1e-7)


@pytest.mark.parametrize("name", DERIVATIVES)
def test_forward_mode_agrees_with_reverse_mode(name):
    fn, dx = DERIVATIVES[name], tensor(np.random.default_rng(1).standard_normal(X.shape))
    y, dy = jvp(fn, [X], [dx])
    g = tensor(np.random.default_rng(2).standard_normal(y.shape))
    (gx,) = vjp(fn, X)[1](g)
    np.testing.assert_allclose((dy * g).sum().item(), (gx * dx).sum().item(), rtol=1e-11)


@on_each
def test_gradients_of_products_are_right_with_zeros(device):
    for x in (ZEROS, ZEROS[0], ZEROS[1]):
        x = x.to(device)
        for fn in (lambda x: ops.prod(x, axis=-1), lambda x: ops.cumulative_prod(x, axis=-1)):
            assert gradcheck(fn, [x])
            assert gradgradcheck(fn, [x])
            y, dy = jvp(fn, [x], [x * 0 + 1])
            g = y * 0 + 2
            np.testing.assert_allclose((dy * g).sum().item(), vjp(fn, x)[1](g)[0].sum().item(), rtol=1e-12)


def test_gradient_of_a_single_zero_is_the_product_of_the_others():
    assert grad(ops.prod)(tensor([2.0, 0.0, 3.0])).tolist() == [0.0, 6.0, 0.0]
    assert grad(ops.prod)(tensor([0.0, 0.0, 3.0])).tolist() == [0.0, 0.0, 0.0]


def test_a_long_cumulative_product_does_not_overflow_on_its_way_back():
    x = tensor(np.float32([2.0] * 64 + [0.5] * 64))
    g = grad(lambda x: ops.cumulative_prod(x, axis=0).sum())(x)
    p = np.cumprod(x.numpy().astype(np.float64))
    np.testing.assert_allclose(g.numpy(), np.cumsum(p[::-1])[::-1] / x.numpy(), rtol=1e-5)


def test_equal_extremes_share_the_cotangent():
    x = tensor([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0]])
    assert_close(
        grad(lambda x: ops.max(x, axis=1).sum())(x), np.array([[0, 0.5, 0.5], [1 / 3] * 3]), rtol=1e-15
    )
    assert_close(grad(lambda x: ops.min(x))(x), np.array([[1.0, 0, 0], [0, 0, 0]]))


def test_gradients_at_a_kink_are_zero():
    assert grad(ops.std)(tensor([2.0, 2.0])).tolist() == [0.0, 0.0]
    assert grad(ops.vector_norm)(tensor([0.0, 0.0])).tolist() == [0.0, 0.0]


def test_a_gradient_has_the_dtype_of_its_operand():
    x = tensor(np.ones(3, np.float32)).requires_grad_()
    for fn in (ops.sum, ops.prod, ops.cumulative_sum, ops.cumulative_prod):
        x.grad = None
        fn(x, dtype=dtypes.float64).sum().backward()
        assert x.grad.dtype is dtypes.float32


def test_what_is_not_differentiable_records_nothing():
    x = tensor(np.ones(3)).requires_grad_()
    for fn in (ops.any, ops.all, ops.argmax, ops.argmin, ops.count_nonzero):
        assert not fn(x).requires_grad


# -- refusals ----------------------------------------------------------------------------------------------------

M = tensor(numbers((2, 3)))


@pytest.mark.parametrize(("call", "error", "words"), [
    (lambda: ops.sum(M, axis=2), ShapeError, "sum: axis 2 is out of range for 2 dimensions"),
    (lambda: ops.sum(M, axis=(0, -2)), ShapeError, "sum: axis .* names an axis twice"),
    (lambda: ops.sum(M, axis="a"), DTypeError, "sum: axis must be an integer"),
    (lambda: ops.sum(M, 0), TypeError, "positional argument"),
    (lambda: ops.sum([1, 2]), DTypeError, r"sum: x must be a Tensor, got builtins.list: call corelib.asarray"),
    (lambda: ops.max(tensor(np.ones((2, 0))), axis=1), ShapeError, r"max: there is no max of no elements: x has shape \(2, 0\)"),
    (lambda: ops.argmax(tensor(np.ones(0))), ShapeError, "argmax: there is no argmax of no elements"),
    (lambda: ops.argmax(M, axis=-3), ShapeError, "argmax: axis -3 is out of range"),
    (lambda: ops.argmax(3.0), DTypeError, "argmax: x must be a Tensor"),
    (lambda: ops.cumulative_sum(M), ShapeError, "cumulative_sum: axis is needed for an x of 2 dimensions"),
    (lambda: ops.cumulative_sum(tensor(3.0)), ShapeError, "cumulative_sum: axis is needed for an x of 0 dimensions"),
    (lambda: ops.cumulative_prod(M, axis=2), ShapeError, "cumulative_prod: axis 2 is out of range"),
    (lambda: ops.mean(M.astype(dtypes.int32)), DTypeError, "mean does not accept int32.*astype"),
    (lambda: ops.var(M.astype(dtypes.bool)), DTypeError, "var does not accept bool"),
    (lambda: ops.vector_norm(tensor(np.ones(0)), ord=INF), ShapeError, "no norm of order inf of no elements"),
], ids=lambda v: v if isinstance(v, str) else "")  # fmt: skip
def test_a_refusal_says_what_was_wrong(call, error, words):
    with pytest.raises(error, match=words):
        call()


# -- methods -----------------------------------------------------------------------------------------------------


def test_methods_take_the_axis_by_name_or_position():
    x = numbers((2, 3))
    t = tensor(x)
    for name in ("sum", "mean", "max", "min", "prod", "std", "var", "any", "all", "argmax", "argmin"):
        method, theirs = getattr(t, name), getattr(np, name)
        for args, kwargs in (((), {}), ((0,), {}), ((), {"axis": 1}), ((-1,), {"keepdims": True})):
            assert_close(method(*args, **kwargs), theirs(x, *args, **kwargs))
    assert_same(t.cumsum(axis=0), np.cumsum(x, 0))
    assert_same(t.cumulative_prod(axis=1), np.cumprod(x, 1))
    assert "largest element" in corelib.Tensor.max.__doc__
