"""array-api-extra and array-api-compat, with which libraries write for any array API namespace, on tensors."""

from __future__ import annotations

import array_api_compat
import array_api_extra as xpx
import numpy as np
import pytest

import corelib as cl

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(4, 3)), RNG.normal(size=(3, 5))
V, W = RNG.normal(size=6), RNG.normal(size=3)
GAPS = np.where(X > 0.5, np.nan, X)
COUNTS = np.arange(12).reshape(4, 3)


def namespace(a):
    return array_api_compat.array_namespace(a(X))


RUNS = {
    "angle": lambda a: xpx.angle(a(X + 1j * X[::-1])),
    "apply_where": lambda a: (
        xpx.apply_where(a(X > 0), a(X), lambda x: x**0.5, fill_value=0.0),
        xpx.apply_where(a(X > 0), (a(X), a(2 * X)), lambda x, y: x + y, lambda x, y: x - y)),
    "argpartition": lambda a: a(V)[xpx.argpartition(a(V), 2)][2],
    "at": lambda a: (xpx.at(a(X))[1].set(5.0), xpx.at(a(X), 1).set(5.0, copy=True), xpx.at(a(X))[a(X > 0)].set(0.0)),
    **{f"at.{name}": (lambda a, name=name: getattr(xpx.at(a(np.abs(X)), slice(0, 2)), name)(2.0))
       for name in ("add", "divide", "max", "min", "multiply", "power", "subtract")},
    "atleast_nd": lambda a: xpx.atleast_nd(a(V), ndim=3),
    "cov": lambda a: xpx.cov(a(X)),
    "create_diagonal": lambda a: (xpx.create_diagonal(a(V), offset=1), xpx.create_diagonal(a(X))),
    "deg2rad": lambda a: (xpx.deg2rad(a(X)), xpx.rad2deg(a(X))),
    "diag_indices": lambda a: (f(4, xp=namespace(a)) for f in (xpx.diag_indices, xpx.tril_indices, xpx.triu_indices)),
    "isclose": lambda a: xpx.isclose(a(X), a(X + 1e-9)),
    "isin": lambda a: xpx.isin(a(COUNTS), a(np.array([1, 2]))),
    "kron": lambda a: xpx.kron(a(X), a(Y)),
    "lazy_apply": lambda a: xpx.lazy_apply(np.sort, a(V), as_numpy=True, shape=(6,)),
    "nan_to_num": lambda a: xpx.nan_to_num(a(GAPS)),
    **{name: (lambda a, name=name: (getattr(xpx, name)(a(GAPS)), getattr(xpx, name)(a(GAPS), axis=0)))
       for name in ("nanmax", "nanmean", "nanmin", "nansum")},
    "nunique": lambda a: xpx.nunique(a(COUNTS % 4)),
    "one_hot": lambda a: xpx.one_hot(a(np.array([0, 2])), 3, dtype=namespace(a).float64),
    "pad": lambda a: (xpx.pad(a(X), 1, constant_values=2.0), xpx.pad(a(X), ((1, 0), (0, 2)))),
    "partition": lambda a: xpx.partition(a(V), 2)[2],
    "searchsorted": lambda a: (xpx.searchsorted(a(np.sort(V)), a(W)), xpx.searchsorted(a(np.sort(V)), a(W), side="right")),
    "setdiff1d": lambda a: (xpx.setdiff1d(a(COUNTS[0]), a(np.array([1]))), xpx.union1d(a(COUNTS[0]), a(COUNTS[1]))),
    "sinc": lambda a: xpx.sinc(a(X)),
    "unravel_index": lambda a: xpx.unravel_index(a(np.array([3, 7])), (4, 3)),
}  # fmt: skip
OLD = {"broadcast_shapes", "expand_dims"}  # deprecated there, since the standard has them


@pytest.mark.parametrize("name", RUNS)
def test_it_agrees_with_numpy(name, agree):
    agree(
        lambda a: RUNS[name](a) if name != "diag_indices" else tuple(RUNS[name](a)), ulp=8
    )  # sums of at most 4 products


def test_every_function_is_tried():
    tried = {name.split(".")[0] for name in RUNS} | {
        "rad2deg",
        "tril_indices",
        "triu_indices",
        "union1d",
        "default_dtype",
        "testing",
    }
    assert {name for name in xpx.__all__ if not name.startswith("__")} - OLD == tried


def test_the_default_dtype(device):
    assert xpx.default_dtype(cl) is cl.float32 and xpx.default_dtype(cl, "integral") is cl.int64


def test_its_assertions_take_tensors(device):
    x = cl.asarray(X)
    xpx.testing.assert_close(x, x + 1e-12)
    xpx.testing.assert_equal(x, x)
    xpx.testing.assert_less(x, x + 1)
    with pytest.raises(AssertionError):
        xpx.testing.assert_equal(x, x + 1)


def test_array_api_compat_knows_a_tensor(device):
    x = cl.asarray(X)
    assert array_api_compat.is_array_api_obj(x) and not array_api_compat.is_lazy_array(x)
    assert array_api_compat.is_writeable_array(x)
    assert array_api_compat.array_namespace(x, 1.0, None) is cl
    assert array_api_compat.array_namespace(x, api_version="2024.12") is cl
    assert array_api_compat.device(x) == device and array_api_compat.size(x) == 12
    assert array_api_compat.to_device(x, "cpu").device == "cpu"


def test_gradients_pass(device):
    y = cl.asarray(Y)
    assert cl.gradcheck(
        lambda x: xpx.cov(x).sum() + xpx.kron(x, y).mean() + xpx.at(x)[0].add(1.0, copy=True).sum(),
        [cl.asarray(X)],
    )
