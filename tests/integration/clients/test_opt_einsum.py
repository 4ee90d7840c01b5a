"""opt_einsum on tensors: it finds corelib's tensordot, transpose and einsum by the name of the tensor's module."""

from __future__ import annotations

import numpy as np
import opt_einsum
import pytest

import corelib as cl

RNG = np.random.default_rng(0)
X, Y, T = RNG.normal(size=(4, 3)), RNG.normal(size=(3, 5)), RNG.normal(size=(2, 4, 3))
V, W, S = RNG.normal(size=4), RNG.normal(size=3), RNG.normal(size=(3, 3))

CONTRACTIONS = {
    "ij,jk->ik": (X, Y),
    "ij,jk,k->i": (X, Y, Y[0]),
    "ij,jk,lk,l->i": (X, Y, Y, W),
    "i,j->ij": (V, W),
    "ij,ij->j": (X, X),
    "ij,kj->": (X, X),
    "bij,bij,ik->bk": (T, T, X),
    "...ij,jk->...ik": (T, Y),
    "ii->i": (S,),
    "ii": (S,),
    "ij->ji": (X,),
    "ij->": (X,),
}
ULP = 64  # sums of at most 60 products, in another order than NumPy's


@pytest.mark.parametrize("optimize", ["auto", "optimal", "greedy"])
@pytest.mark.parametrize("notation", CONTRACTIONS)
def test_contract_agrees_with_numpy(notation, optimize, agree):
    agree(
        lambda a: opt_einsum.contract(notation, *map(a, CONTRACTIONS[notation]), optimize=optimize), ulp=ULP
    )


def test_other_ways_to_call(agree):
    agree(lambda a: opt_einsum.contract(a(X), ["i", "j"], a(Y), ["j", "k"], ["i", "k"]), ulp=ULP)
    agree(
        lambda a: opt_einsum.contract_expression("ij,jk,lk->il", (4, 3), (3, 5), (2, 5))(
            a(X), a(Y), a(Y[:2])
        ),
        ulp=ULP,
    )
    agree(lambda a: opt_einsum.contract_expression("ij,jk->ik", a(X), (3, 5), constants=[0])(a(Y)), ulp=ULP)


def test_intermediates_are_shared(device):
    x, y = cl.asarray(X), cl.asarray(Y)
    with opt_einsum.shared_intermediates() as cache:
        first = opt_einsum.contract("ij,jk,k->i", x, y, y[0])
        assert cache and opt_einsum.contract("ij,jk,k->i", x, y, y[0]).tolist() == first.tolist()


def test_without_a_path_it_calls_numpy(device):
    assert isinstance(
        opt_einsum.contract("ij,jk->ik", cl.asarray(X), cl.asarray(Y), optimize=False), np.ndarray
    )


def test_gradients_pass(device):
    assert cl.gradcheck(
        lambda x, y: opt_einsum.contract("ij,jk,ik->", x, y, x @ y), [cl.asarray(X), cl.asarray(Y)]
    )
