"""The ops of neural networks against PyTorch in float64, where it is installed: values and gradients of every operand."""

from __future__ import annotations

import numpy as np
import pytest

import corelib
from corelib import nn, ops
from corelib.autograd import vjp

torch = pytest.importorskip("torch", reason="torch is not installed (extra: bench)")
F = torch.nn.functional


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape) * 3


X, T, LABELS = normal(6, 5), normal(6, 5, seed=1), np.array([0, 4, 2, -100, 1, 3])
IMAGES, MAPS = normal(2, 3, 4), np.array([[0, 2, 1, 1], [2, 2, 0, 1]])
W5, B5, V = normal(5, seed=2), normal(5, seed=3), normal(4, 5, seed=4)
PROBABILITIES = 1 / (1 + np.exp(-T))

# (name, ours, theirs, floating operands)
CASES = [
    ("relu", ops.relu, F.relu, (X,)),
    ("leaky_relu", lambda x: ops.leaky_relu(x, 0.3), lambda x: F.leaky_relu(x, 0.3), (X,)),
    ("elu", lambda x: ops.elu(x, 0.7), lambda x: F.elu(x, 0.7), (X,)),
    ("sigmoid", ops.sigmoid, torch.sigmoid, (X * 9,)),
    ("log_sigmoid", ops.log_sigmoid, F.logsigmoid, (X * 9,)),
    ("silu", ops.silu, F.silu, (X,)),
    ("softplus", lambda x: ops.softplus(x, 2.0), lambda x: F.softplus(x, 2.0, threshold=1e3), (X,)),
    ("gelu", ops.gelu, F.gelu, (X,)),
    ("gelu tanh", lambda x: ops.gelu(x, approximate="tanh"), lambda x: F.gelu(x, approximate="tanh"), (X,)),
    ("softmax", lambda x: ops.softmax(x, axis=0), lambda x: F.softmax(x, 0), (X,)),
    ("log_softmax", lambda x: ops.log_softmax(x, axis=1), lambda x: F.log_softmax(x, 1), (IMAGES,)),
    ("layer_norm", ops.layer_norm, lambda x, w, b: F.layer_norm(x, (5,), w, b), (X, W5, B5)),
    ("layer_norm two axes", lambda x: nn.functional.layer_norm(x, (3, 4)), lambda x: F.layer_norm(x, (3, 4)), (IMAGES,)),
    ("rms_norm", ops.rms_norm, lambda x, w: F.rms_norm(x, (5,), w), (X, W5)),
    ("linear", ops.linear, F.linear, (normal(2, 3, 5), V, normal(4))),
    (
        "embedding",
        lambda w: nn.functional.embedding(corelib.asarray(MAPS, device=w.device), w, padding_idx=2),
        lambda w: F.embedding(torch.tensor(MAPS), w, padding_idx=2),
        (V,),
    ),
    ("mse_loss", ops.mse_loss, F.mse_loss, (X, T)),
    ("l1_loss", lambda x, t: ops.l1_loss(x, t, reduction="sum"), lambda x, t: F.l1_loss(x, t, reduction="sum"), (X, T)),
    ("huber_loss", lambda x, t: ops.huber_loss(x, t, delta=2.0), lambda x, t: F.huber_loss(x, t, delta=2.0), (X, T)),
    ("bce", ops.binary_cross_entropy_with_logits, F.binary_cross_entropy_with_logits, (X * 9, PROBABILITIES)),
    *[
        (
            f"cross_entropy {reduction} {smoothing}",
            lambda x, r=reduction, s=smoothing: nn.functional.cross_entropy(x, corelib.asarray(LABELS, device=x.device), None, -100, r, s),
            lambda x, r=reduction, s=smoothing: F.cross_entropy(x, torch.tensor(LABELS), reduction=r, label_smoothing=s),
            (X,),
        )
        for reduction in ("mean", "sum", "none")
        for smoothing in (0.0, 0.2)
    ],
    (
        "cross_entropy of maps",
        lambda x: nn.CrossEntropyLoss()(x, corelib.asarray(MAPS, device=x.device)),
        lambda x: F.cross_entropy(x, torch.tensor(MAPS)),
        (IMAGES,),
    ),
    (
        "nll_loss",
        lambda x: nn.functional.nll_loss(x, corelib.asarray(LABELS, device=x.device), ignore_index=-100),
        lambda x: F.nll_loss(x, torch.tensor(LABELS)),
        (X,),
    ),
]  # fmt: skip


@pytest.mark.parametrize("device", ["reference", pytest.param("cpu", marks=pytest.mark.device("cpu"))])
@pytest.mark.parametrize(("name", "ours", "theirs", "operands"), CASES, ids=[c[0] for c in CASES])
def test_values_and_gradients_are_pytorchs(name, ours, theirs, operands, device):
    leaves = [torch.tensor(x, requires_grad=True) for x in operands]
    expected = theirs(*leaves)
    g = torch.tensor(normal(*expected.shape, seed=9))
    expected.backward(g)
    y, pullback = vjp(ours, *[corelib.asarray(x, device=device) for x in operands])
    np.testing.assert_allclose(y.numpy(), expected.detach().numpy(), rtol=1e-12, atol=1e-13)
    for found, leaf in zip(pullback(corelib.asarray(g.numpy(), device=device)), leaves, strict=True):
        np.testing.assert_allclose(found.numpy(), leaf.grad.numpy(), rtol=1e-11, atol=1e-12)
