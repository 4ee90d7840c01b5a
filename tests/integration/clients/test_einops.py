"""einops on tensors, by its interface to the array API standard, einops.array_api."""

from __future__ import annotations

import numpy as np
import pytest
from einops import EinopsError, array_api

import corelib as cl

RNG = np.random.default_rng(0)
X, T = RNG.normal(size=(4, 3)), RNG.normal(size=(2, 4, 6))

RUNS = {
    "rearrange": lambda a: array_api.rearrange(a(T), "b h (w c) -> (b w) c h", c=2),
    "rearrange(...)": lambda a: array_api.rearrange(a(T), "b ... c -> c ... b"),
    "rearrange(list)": lambda a: array_api.rearrange([a(X), a(-X)], "b x y -> y (b x)"),
    **{f"reduce({kind})": (lambda a, kind=kind: array_api.reduce(a(T), "b (h k) w -> b h w", kind, k=2))
       for kind in ("max", "mean", "min", "prod", "sum")},
    **{f"reduce({kind})": (lambda a, kind=kind: array_api.reduce(a(T > 0), "b h w -> b w", kind)) for kind in ("all", "any")},
    "reduce(function)": lambda a: array_api.reduce(a(T), "b h w -> b w", lambda t, axes: t.std(axis=axes)),
    "repeat": lambda a: array_api.repeat(a(X), "h w -> h (w k) b", k=2, b=3),
    "pack": lambda a: array_api.pack([a(T), a(T[:, 0])], "b * w"),
    "unpack": lambda a: array_api.unpack(a(T), [(1,), (3,)], "b * w"),
}  # fmt: skip


@pytest.mark.parametrize("name", RUNS)
def test_it_agrees_with_numpy(name, agree):
    agree(
        RUNS[name], ulp=4 if "(" in name else 0
    )  # sums of at most four elements; the rest moves elements only


def test_asnumpy(device):
    np.testing.assert_array_equal(array_api.asnumpy(cl.asarray(T)), T)


def test_gradients_pass(device):
    def loss(x, y):
        x = array_api.rearrange(x, "(a b) c -> b (c a)", b=2)
        return array_api.reduce(x * array_api.repeat(y, "c -> b (c a)", a=2, b=2), "b c ->", "sum")

    assert cl.gradcheck(loss, [cl.asarray(X), cl.asarray(X[0])])


def test_a_wrong_pattern_is_refused_in_its_own_words(device):
    with pytest.raises(EinopsError, match="Input tensor shape"):
        array_api.rearrange(cl.asarray(X), "a b c -> c b a")
