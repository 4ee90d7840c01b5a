"""Layers under transformations: per-sample results and gradients of each kind of layer, and its forward mode."""

from __future__ import annotations

import pytest

import corelib as cl
from corelib import nn, ops, random
from corelib.errors import BackendError
from corelib.tree import flatten

LAYERS = {
    "Linear": (lambda: nn.Linear(3, 4), (3,)), "LayerNorm": (lambda: nn.LayerNorm(3), (2, 3)), "RMSNorm": (lambda: nn.RMSNorm(3), (2, 3)),
    "PReLU": (nn.PReLU, (3,)), "Conv1d": (lambda: nn.Conv1d(3, 4, 3), (2, 3, 8)), "Conv2d": (lambda: nn.Conv2d(2, 3, 3, padding=1), (2, 2, 5, 5)),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(2, 3, 3, stride=2), (1, 2, 4, 4)), "GroupNorm": (lambda: nn.GroupNorm(2, 4), (2, 4, 3)),
    "BatchNorm1d": (lambda: nn.BatchNorm1d(3).eval(), (4, 3)), "MaxPool2d": (lambda: nn.MaxPool2d(2), (1, 2, 4, 4)),
    "AvgPool1d": (lambda: nn.AvgPool1d(2), (1, 2, 4)), "LSTM": (lambda: nn.LSTM(3, 4), (5, 2, 3)), "GRU": (lambda: nn.GRU(3, 4), (5, 2, 3)),
    "TransformerEncoderLayer": (lambda: nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0), (5, 2, 8)),
}  # fmt: skip


@pytest.fixture(autouse=True)
def on_cpu():
    with cl.use_backend("cpu"):
        random.seed(0)
        yield


def close(actual, expected):
    """In float32, of sums of a few hundred terms in other orders: 1e-4 of the largest element is far above their errors."""
    assert actual.shape == expected.shape
    scale = max(1.0, ops.max(ops.abs(expected)).item())
    assert ops.max(ops.abs(actual - expected)).item() <= 1e-4 * scale


@pytest.mark.device("cpu")
@pytest.mark.parametrize("name", LAYERS)
def test_per_sample_results_and_gradients_of_a_layer(name):
    make, shape = LAYERS[name]
    layer, x = make(), random.normal((3, *shape))
    own = {key: p.detach() for key, p in layer.named_parameters()}

    def energy(p, v):
        return sum((y * y).sum() for y in flatten(nn.utils.functional_call(layer, p, (v,)))[0])

    together = flatten(cl.vmap(layer)(x))[0]
    for k, y in enumerate(together):
        close(y, ops.stack([flatten(layer(x[i]))[0][k] for i in range(3)]))
    if own:
        each = cl.vmap(cl.grad(energy), (None, 0))(own, x)
        for key in own:
            close(each[key], ops.stack([cl.grad(energy)(own, x[i])[key] for i in range(3)]))
        stacked = {key: ops.stack([p, p * 0.5]) for key, p in own.items()}
        ensemble = cl.vmap(cl.grad(energy), (0, None))(stacked, x[0])
        for key in own:
            alone = cl.grad(energy)({k: p * 0.5 for k, p in own.items()}, x[0])[key]
            close(ensemble[key][1], alone)
    slope = cl.jvp(lambda v: energy(own, v), (x[0],), (x[1],))[1]
    close(slope, (cl.grad(lambda v: energy(own, v))(x[0]) * x[1]).sum())


@pytest.mark.device("cpu")
def test_running_statistics_follow_forward_mode_and_refuse_a_batch_of_batches():
    layer, x = nn.BatchNorm1d(3), random.normal((2, 4, 3))
    with pytest.raises(BackendError, match=r"the function changes a tensor from outside \(float32\[3\]\)"):
        cl.vmap(layer)(x)
    assert layer.running_mean.tolist() == [0.0, 0.0, 0.0]
    cl.jvp(layer, (x[0],), (x[1],))
    close(layer.running_mean, x[0].mean(axis=0) * layer.momentum)


@pytest.mark.device("cpu")
def test_dropout_of_what_all_examples_share_differs_from_example_to_example():
    w, x = cl.ones((50,)), cl.zeros((3, 1))
    f = lambda v: nn.functional.dropout(w) + v
    first, second, _ = cl.vmap(f)(x).tolist()
    assert first != second
    first, second, _ = cl.vmap(f, randomness="same")(x).tolist()
    assert first == second
    shuffled = cl.vmap(lambda v: random.permutation(cl.arange(20)) + v.astype(cl.int64))(x).tolist()
    assert shuffled[0] != shuffled[1]
    drawn = cl.vmap(lambda v: random.bernoulli(w * 0.5))(x).tolist()
    assert drawn[0] != drawn[1]
