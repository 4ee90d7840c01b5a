"""Losses against closed formulas: values, gradients, curvature, extreme logits, reductions and refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest

import corelib
from corelib import hessian, nn, ops, vjp
from corelib.errors import ArgumentError, DTypeError, IndexOutOfBoundsError, ShapeError
from corelib.nn import functional

on_each = pytest.mark.parametrize(
    "device", ["reference", pytest.param("cpu", marks=pytest.mark.device("cpu"))]
)
REDUCTIONS = {"mean": np.mean, "sum": np.sum, "none": lambda v: v}


def tensor(values, device="reference", dtype=None):
    return corelib.asarray(np.asarray(values, dtype=dtype), device=device)


def close(actual, expected, rtol=1e-12, atol=1e-13):
    np.testing.assert_allclose(actual.numpy(), expected, rtol=rtol, atol=atol)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def s(x):
    return 1 / (1 + np.exp(-x))


# (name, options, loss per element, derivative in x, derivative in target)
PAIRS = [
    ("mse_loss", {}, lambda x, t: (x - t) ** 2, lambda x, t: 2 * (x - t), lambda x, t: 2 * (t - x)),
    ("l1_loss", {}, lambda x, t: np.abs(x - t), lambda x, t: np.sign(x - t), lambda x, t: np.sign(t - x)),
    (
        "huber_loss",
        {"delta": 0.5},
        lambda x, t: np.where(np.abs(x - t) <= 0.5, (x - t) ** 2 / 2, 0.5 * (np.abs(x - t) - 0.25)),
        lambda x, t: np.clip(x - t, -0.5, 0.5),
        lambda x, t: np.clip(t - x, -0.5, 0.5),
    ),
    (
        "binary_cross_entropy_with_logits",
        {},
        lambda x, t: -t * np.log(s(x)) - (1 - t) * np.log(1 - s(x)),
        lambda x, t: s(x) - t,
        lambda x, t: -x,
    ),
]


def spread(reduction, shape):
    size = max(math.prod(shape), 1)
    return {"mean": np.full(shape, 0.7 / size), "sum": np.full(shape, 0.7), "none": normal(*shape, seed=9)}[
        reduction
    ]


@on_each
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(("name", "options", "loss", "dx", "dt"), PAIRS, ids=[p[0] for p in PAIRS])
def test_losses_of_pairs(name, options, loss, dx, dt, reduction, device):
    x, t = normal(4, 3), s(normal(4, 3, seed=1))
    op = getattr(ops, name)
    y, pullback = vjp(
        lambda a, b: op(a, b, reduction=reduction, **options), tensor(x, device), tensor(t, device)
    )
    close(y, REDUCTIONS[reduction](loss(x, t)))
    each = spread(reduction, x.shape)
    gx, gt = pullback(tensor(each if reduction == "none" else 0.7, device))
    close(gx, each * dx(x, t))
    close(gt, each * dt(x, t))


@pytest.mark.parametrize("name", [p[0] for p in PAIRS])
def test_shapes_that_would_broadcast_are_refused(name):
    x, t = tensor(normal(3, 1)), tensor(normal(3))
    with pytest.raises(
        ShapeError, match=rf"{name}: x of shape \(3, 1\) and target of shape \(3,\) must be equal"
    ):
        getattr(ops, name)(x, t)
    with pytest.raises(ShapeError, match=f"{name}: x of shape"):  # the same when it is recorded
        getattr(ops, name)(x.requires_grad_(), t)
    with pytest.raises(ArgumentError, match="reduction must be 'mean', 'sum' or 'none', got 'avg'"):
        getattr(ops, name)(t, t, reduction="avg")


@on_each
def test_binary_cross_entropy_of_extreme_logits(device):
    x, t = tensor([200.0, -200.0, 200.0, -200.0], device, "f4"), tensor([1.0, 0.0, 0.0, 1.0], device, "f4")
    y = ops.binary_cross_entropy_with_logits(x, t, reduction="none")
    assert y.tolist() == [0.0, 0.0, 200.0, 200.0]


# -- cross-entropy -----------------------------------------------------------------------------------------------


def np_cross_entropy(x, labels, smoothing=0.0, ignored=None):
    """Loss of each label and its derivative: x of shape (N, C)."""
    logp = x - x.max(1, keepdims=True)
    logp = logp - np.log(np.exp(logp).sum(1, keepdims=True))
    counted = labels != ignored
    one = np.eye(x.shape[1])[np.where(counted, labels, 0)]
    target = (1 - smoothing) * one + smoothing / x.shape[1]
    return counted, np.where(counted, -(target * logp).sum(1), 0), counted[:, None] * (np.exp(logp) - target)


@on_each
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(("smoothing", "ignored"), [(0.0, None), (0.1, None), (0.0, -100), (0.3, 2)])
def test_cross_entropy_and_its_gradient(smoothing, ignored, reduction, device):
    x, labels = normal(6, 5) * 3, np.array([0, 4, 2, 2, 1, 3])
    if ignored == -100:
        labels[1] = -100
    counted, loss, slope = np_cross_entropy(x, labels, smoothing, ignored)
    y, pullback = vjp(
        lambda t: ops.cross_entropy(
            t, tensor(labels, device), reduction=reduction, label_smoothing=smoothing, ignore_index=ignored
        ),
        tensor(x, device),
    )
    close(y, {"mean": loss.sum() / counted.sum(), "sum": loss.sum(), "none": loss}[reduction])
    g = {"mean": 0.7 / counted.sum(), "sum": 0.7, "none": normal(6)[:, None]}[reduction]
    close(pullback(tensor(normal(6) if reduction == "none" else 0.7, device))[0], g * slope)


def test_cross_entropy_stored_value():
    # -log softmax by hand: log(e + e^2 + e^3) - 2 = 1.40760596...; log(3) for equal logits
    y = ops.cross_entropy(tensor([[1.0, 2.0, 3.0], [5.0, 5.0, 5.0]]), tensor([1, 0]), reduction="none")
    close(y, [1.4076059644443804, 1.0986122886681098], rtol=1e-15)


def test_curvature_of_cross_entropy():
    x = normal(5)
    p = np.exp(x) / np.exp(x).sum()
    close(hessian(lambda t: ops.cross_entropy(t, tensor(2)))(tensor(x)), np.diag(p) - np.outer(p, p))


@on_each
def test_cross_entropy_of_extreme_logits_is_finite(device):
    x = tensor([[1e4, 0.0, -1e4], [0.0, 88.0, 89.0]], device, "f4")
    y = ops.cross_entropy(x, tensor([2, 0], device), reduction="none")
    np.testing.assert_allclose(y.numpy(), [2e4, 89.31326], rtol=1e-6)


@on_each
@pytest.mark.parametrize("bad", [-1, 5, 255, -(2**63)])
@pytest.mark.parametrize("op", [ops.cross_entropy, ops.nll_loss], ids=["cross_entropy", "nll_loss"])
def test_a_label_that_is_no_class_is_an_error_with_the_label(op, bad, device):
    x = tensor(normal(3, 5), device).requires_grad_()
    with pytest.raises(
        IndexOutOfBoundsError,
        match=f"{op.op.name}: label {bad} is out of range for 5: valid are 0 to 4; ignore_index=",
    ):
        op(x, tensor([0, bad, 1], device))
    with pytest.raises(IndexOutOfBoundsError, match=f"label {bad} is out of range"):
        op(x, tensor([0, bad, -100], device), ignore_index=-100)


def test_wrong_labels_are_refused_in_words():
    x = tensor(normal(3, 5))
    with pytest.raises(
        ShapeError,
        match=r"labels must have shape \(3,\), that of x \(3, 5\) without its class axis -1, got \(3, 5\)",
    ):
        ops.cross_entropy(x, ops.one_hot(tensor([1, 2, 3]), 5))
    with pytest.raises(DTypeError, match="cross_entropy: labels must have an integer dtype, got float64"):
        ops.cross_entropy(x, tensor([0.0, 1.0, 2.0]))
    with pytest.raises(ArgumentError, match=r"label_smoothing must be in \[0, 1\], got 2.0"):
        ops.cross_entropy(x, tensor([0, 1, 2]), label_smoothing=2.0)
    with pytest.raises(ShapeError, match="cross_entropy: axis -1 is out of range for 0 dimensions"):
        ops.cross_entropy(tensor(1.0), tensor(0))


@on_each
def test_classes_may_be_on_any_axis_and_modules_take_pytorchs(device):
    x, labels = normal(2, 5, 3), np.array([[0, 4, 1], [2, 2, 3]])
    flat = np.moveaxis(x, 1, 2).reshape(6, 5)
    _, loss, _ = np_cross_entropy(flat, labels.ravel())
    close(
        ops.cross_entropy(tensor(x, device), tensor(labels, device), axis=1, reduction="none"),
        loss.reshape(2, 3),
    )
    close(nn.CrossEntropyLoss()(tensor(x, device), tensor(labels, device)), loss.mean())
    close(functional.cross_entropy(tensor(flat[0], device), tensor(0, device)), loss[0])
    logp = functional.log_softmax(tensor(x, device), axis=1)
    close(nn.NLLLoss()(logp, tensor(labels, device)), loss.mean())


@on_each
def test_nll_loss_is_cross_entropy_of_log_softmax(device):
    x, labels = tensor(normal(6, 5), device), tensor([0, 4, -7, 2, 1, 3], device)
    for reduction in REDUCTIONS:
        options = {"reduction": reduction, "ignore_index": -7}
        both = [
            vjp(lambda t, o=options: ops.cross_entropy(t, labels, **o), x),
            vjp(lambda t, o=options: ops.nll_loss(ops.log_softmax(t), labels, **o), x),
        ]
        (a, pull_a), (b, pull_b) = both
        close(a, b.numpy())
        close(pull_a(ops.ones_like(a))[0], pull_b(ops.ones_like(b))[0].numpy())


def test_empty_batches():
    x, labels = tensor(np.zeros((0, 3))), tensor(np.zeros(0, int))
    assert ops.cross_entropy(x, labels, reduction="sum").item() == 0
    assert ops.cross_entropy(x, labels, reduction="none").shape == (0,)
    assert math.isnan(ops.cross_entropy(x, labels).item())
    assert math.isnan(ops.mse_loss(x, x).item())
