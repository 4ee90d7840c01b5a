"""Optimizers against their textbook recurrences in float64, step by step, and against PyTorch where it is installed."""

from __future__ import annotations

import math

import numpy as np
import pytest

import corelib
from corelib import nn, ops, optim
from corelib.errors import ArgumentError, CheckpointError, GradientError, ShapeError

on_each = pytest.mark.parametrize(
    "device", ["reference", pytest.param("cpu", marks=pytest.mark.device("cpu"))]
)
STEPS = 7


def parameters(device="reference", dtype="float64"):
    rng = np.random.default_rng(0)
    values = [rng.standard_normal((3, 2)), rng.standard_normal(4), rng.standard_normal(())]
    return values, [nn.Parameter(corelib.asarray(np.asarray(v, dtype), device=device)) for v in values]


def gradients(step, values):
    rng = np.random.default_rng(100 + step)
    return [rng.standard_normal(v.shape) for v in values]


def give(params, grads):
    for p, g in zip(params, grads, strict=True):
        p.grad = None if g is None else corelib.asarray(np.asarray(g), dtype=p.dtype, device=p.device)


# -- the recurrences ---------------------------------------------------------------------------------------------


def np_sgd(p, g, s, t, lr=1e-3, momentum=0, dampening=0, weight_decay=0, nesterov=False, maximize=False):
    g = (-g if maximize else g) + weight_decay * p
    if momentum:
        s["b"] = momentum * s["b"] + (1 - dampening) * g if "b" in s else g
        g = g + momentum * s["b"] if nesterov else s["b"]
    return p - lr * g


def np_adam(
    p,
    g,
    s,
    t,
    lr=1e-3,
    betas=(0.9, 0.999),
    eps=1e-8,
    weight_decay=0.0,
    amsgrad=False,
    maximize=False,
    decoupled=False,
):
    g = -g if maximize else g
    if decoupled:
        p = p - lr * weight_decay * p
    else:
        g = g + weight_decay * p
    s["m"] = betas[0] * s.get("m", 0) + (1 - betas[0]) * g
    s["v"] = betas[1] * s.get("v", 0) + (1 - betas[1]) * g * g
    v = s["v"]
    if amsgrad:
        v = s["top"] = np.maximum(s.get("top", 0), v)
    m_hat, v_hat = s["m"] / (1 - betas[0] ** t), v / (1 - betas[1] ** t)
    return p - lr * m_hat / (np.sqrt(v_hat) + eps)


def np_adamw(p, g, s, t, weight_decay=0.01, **options):
    return np_adam(p, g, s, t, weight_decay=weight_decay, decoupled=True, **options)


CASES = [
    (optim.SGD, np_sgd, {}),
    (optim.SGD, np_sgd, {"lr": 0.1, "weight_decay": 0.2}),
    (optim.SGD, np_sgd, {"lr": 0.1, "momentum": 0.9}),
    (
        optim.SGD,
        np_sgd,
        {"lr": 0.1, "momentum": 0.8, "dampening": 0.3, "weight_decay": 0.1, "maximize": True},
    ),
    (optim.SGD, np_sgd, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    (optim.Adam, np_adam, {}),
    (optim.Adam, np_adam, {"lr": 0.1, "betas": (0.5, 0.7), "eps": 0.01, "weight_decay": 0.1}),
    (optim.Adam, np_adam, {"lr": 0.1, "amsgrad": True, "maximize": True}),
    (optim.AdamW, np_adamw, {}),
    (optim.AdamW, np_adamw, {"lr": 0.1, "weight_decay": 0.3, "amsgrad": True}),
    (optim.AdamW, np_adamw, {"lr": 0.1, "weight_decay": 0.0, "maximize": True}),
]
IDS = [" ".join([c.__name__, *(f"{k}={v}" for k, v in o.items())]) for c, _, o in CASES]


@on_each
@pytest.mark.parametrize(("cls", "recurrence", "options"), CASES, ids=IDS)
def test_each_step_follows_the_recurrence(cls, recurrence, options, device):
    values, params = parameters(device)
    optimizer, states = cls(params, **options), [{} for _ in params]
    for t in range(1, STEPS + 1):
        grads = gradients(t, values)
        give(params, grads)
        optimizer.step()
        values = [recurrence(p, g, s, t, **options) for p, g, s in zip(values, grads, states, strict=True)]
        for p, expected in zip(params, values, strict=True):
            np.testing.assert_allclose(p.numpy(), expected, rtol=1e-13, atol=1e-14)
    assert all(p.is_leaf and p.requires_grad for p in params)


def test_two_steps_by_hand():
    p = nn.Parameter(corelib.asarray([1.0], dtype="float64", device="reference"))
    optimizer = optim.SGD([p], lr=0.5, momentum=0.5)
    give([p], [[2.0]])
    optimizer.step()  # b = 2, p = 1 - 0.5 * 2
    assert p.tolist() == [0.0]
    optimizer.step()  # b = 0.5 * 2 + 2 = 3, p = 0 - 0.5 * 3
    assert p.tolist() == [-1.5]
    p = nn.Parameter(corelib.asarray([1.0], dtype="float64", device="reference"))
    optimizer = optim.AdamW([p], lr=0.25, weight_decay=0.5, eps=0.0)
    give([p], [[-3.0]])
    optimizer.step()  # the first step of Adam is lr * sign(g): 1 * (1 - 0.125) + 0.25
    assert p.item() == pytest.approx(1.125, abs=1e-15)


@on_each
def test_single_precision_follows_the_recurrence_to_single_precision(device):
    values, params = parameters(device, "float32")
    optimizer, states = optim.AdamW(params, lr=0.01), [{} for _ in params]
    for t in range(1, 200):
        grads = gradients(t, values)
        give(params, grads)
        optimizer.step()
        values = [np_adamw(p, g, s, t, lr=0.01) for p, g, s in zip(values, grads, states, strict=True)]
    for p, expected in zip(params, values, strict=True):
        assert p.dtype is corelib.float32
        np.testing.assert_allclose(p.numpy(), expected, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize(("cls", "recurrence", "options"), CASES, ids=IDS)
def test_pytorch_takes_the_same_steps(cls, recurrence, options):
    torch = pytest.importorskip("torch", reason="torch is not installed (extra: bench)")
    values, params = parameters()
    theirs = [torch.nn.Parameter(torch.tensor(v)) for v in values]
    optimizer, oracle = cls(params, **options), getattr(torch.optim, cls.__name__)(theirs, **options)
    for t in range(1, STEPS + 1):
        grads = gradients(t, values)
        if t == 3:
            grads[1] = None  # a parameter that rests falls behind in its step count
        give(params, grads)
        for p, g in zip(theirs, grads, strict=True):
            p.grad = None if g is None else torch.tensor(g)
        optimizer.step()
        oracle.step()
    for p, expected in zip(params, theirs, strict=True):
        np.testing.assert_allclose(p.numpy(), expected.detach().numpy(), rtol=1e-12, atol=1e-13)
    ours, other = optimizer.state_dict(), oracle.state_dict()
    for number, state in ours["state"].items():
        for name, value in state.items():
            np.testing.assert_allclose(
                value.numpy(), other["state"][number][name].numpy(), rtol=1e-12, atol=1e-13
            )
    assert {k: ours["param_groups"][0][k] for k in options if k != "lr"} == {
        k: v for k, v in options.items() if k != "lr"
    }
    defaults = {k: v for k, v in oracle.defaults.items() if k in optimizer.defaults}
    assert defaults == optimizer.defaults


# -- groups, rest and state --------------------------------------------------------------------------------------


def test_a_parameter_that_rests_keeps_its_own_step_count():
    values, params = parameters()
    optimizer, states, counts = optim.Adam(params, lr=0.1), [{} for _ in params], [0] * 3
    for t in range(1, 8):
        grads = gradients(t, values)
        for i in {2: [0], 4: [0, 1], 5: [2], 6: [0, 1, 2]}.get(t, []):
            grads[i] = None
        give(params, grads)
        optimizer.step()
        for i, g in enumerate(grads):
            if g is not None:
                counts[i] += 1
                values[i] = np_adam(values[i], g, states[i], counts[i], lr=0.1)
        for p, expected in zip(params, values, strict=True):
            np.testing.assert_allclose(p.numpy(), expected, rtol=1e-13, atol=1e-14)
    assert [optimizer.state[p]["step"].item() for p in params] == counts


def test_parameters_updated_together_share_one_step_count():
    values, params = parameters()
    optimizer = optim.AdamW(params)
    give(params, gradients(1, values))
    optimizer.step()
    assert len({id(optimizer.state[p]["step"]) for p in params}) == 1


def test_groups_have_their_own_options_and_the_learning_rate_can_be_changed():
    values, params = parameters()
    optimizer = optim.SGD(
        [{"params": params[:1]}, {"params": params[1:], "lr": 0.5, "momentum": 0.9}], lr=0.1
    )
    optimizer.param_groups[0]["lr"] = 0.2
    optimizer.param_groups[1]["lr"] *= 0.5
    give(params, gradients(1, values))
    optimizer.step()
    rates = (0.2, 0.25, 0.25)
    for p, v, g, lr in zip(params, values, gradients(1, values), rates, strict=True):
        np.testing.assert_allclose(p.numpy(), v - lr * g, rtol=1e-13)
    lr = optimizer.param_groups[0]["lr"]
    assert (lr.shape, lr.dtype, float(lr)) == ((), corelib.float64, 0.2)
    assert repr(optimizer).splitlines()[1].startswith("  1 tensors, 6 parameters: lr=0.2, momentum=0")
    optimizer.zero_grad(set_to_none=False)
    assert not params[0].grad.numpy().any()
    optimizer.zero_grad()
    assert params[0].grad is None
    before = params[0].tolist()
    optimizer.step()
    assert params[0].tolist() == before


def test_a_closure_is_recorded_and_its_loss_returned():
    p = nn.Parameter(corelib.asarray([3.0], device="reference"))
    optimizer = optim.SGD([p], lr=0.1)

    def closure():
        optimizer.zero_grad()
        loss = ops.sum(p * p)
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 9
    assert p.item() == pytest.approx(3 - 0.1 * 6)


@pytest.mark.parametrize(("cls", "recurrence", "options"), CASES, ids=IDS)
def test_training_goes_on_from_a_saved_state(cls, recurrence, options):
    values, params = parameters()
    optimizer = cls(params, **options)
    for t in range(1, 4):
        give(params, [g if i or t > 1 else None for i, g in enumerate(gradients(t, values))])
        optimizer.step()
    state = optimizer.state_dict()
    twins = [nn.Parameter(p.detach()) for p in params]
    other = cls(twins, lr=5.0)
    other.load_state_dict(state)
    for t in range(4, 7):
        for one, tensors in ((optimizer, params), (other, twins)):
            give(tensors, gradients(t, values))
            one.step()
    for p, twin in zip(params, twins, strict=True):
        assert p.tolist() == twin.tolist()
    assert other.param_groups[0]["lr"].item() == optimizer.param_groups[0]["lr"].item()


def test_a_state_that_does_not_fit_is_refused_before_anything_changes():
    values, params = parameters()
    optimizer = optim.Adam(params)
    give(params, gradients(1, values))
    optimizer.step()
    state = optimizer.state_dict()
    other = optim.Adam(params[:2])
    with pytest.raises(
        CheckpointError, match=r"Adam has groups of \[2\] parameters, the state has groups of \[3\]"
    ):
        other.load_state_dict(state)
    with pytest.raises(CheckpointError, match="options that differ: amsgrad, betas"):
        optim.SGD(parameters()[1]).load_state_dict(state)
    fresh = optim.Adam(parameters()[1][::-1])
    with pytest.raises(
        CheckpointError, match=r"exp_avg of parameter 0 must be float64\[\], got float64\[3, 2\]"
    ):
        fresh.load_state_dict(state)
    assert not fresh.state
    del state["state"][2]["exp_avg_sq"]
    fresh = optim.Adam(parameters()[1], lr=7.0)
    with pytest.raises(
        CheckpointError,
        match="parameter 2 needs step, exp_avg, exp_avg_sq for Adam, the state has step, exp_avg",
    ):
        fresh.load_state_dict(state)
    assert (fresh.state, fresh.param_groups[0]["lr"].item()) == ({}, 7.0)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda p: optim.SGD([]), "SGD got no parameters: pass model.parameters"),
        (lambda p: optim.SGD(p), "needs an iterable of parameters, got one tensor"),
        (lambda p: optim.SGD([p, p]), r"parameter 1 of shape \(2,\) is given twice"),
        (lambda p: optim.SGD([p * 2]), r"parameter 0 of shape \(2,\) has a history: only leaves"),
        (lambda p: optim.SGD([3.0]), "parameter 0 must be a Tensor, got float"),
        (lambda p: optim.SGD([p], lr=-1), "SGD: lr must not be negative, got -1"),
        (lambda p: optim.SGD([p], momentum=-1), "momentum must not be negative"),
        (lambda p: optim.SGD([p], nesterov=True), "nesterov=True needs a momentum and no dampening"),
        (lambda p: optim.Adam([p], betas=(0.9, 1.0)), r"Adam: betas\[1\] must be in \[0, 1\), got 1.0"),
        (lambda p: optim.AdamW([p], weight_decay=-0.1), "AdamW: weight_decay must not be negative, got -0.1"),
        (lambda p: optim.Adam([p], eps=math.nan), "Adam: eps must not be negative, got nan"),
        (lambda p: optim.Adam([{"params": [p], "beta": 1}]), "Adam has no option 'beta'; did you mean 'betas'"),
        (lambda p: optim.Adam([p], lr=corelib.asarray([1.0, 2.0])), r"lr must be a number or a 0-d tensor, got shape \(2,\)"),
    ],
)  # fmt: skip
def test_mistakes_are_named(build, words):
    with pytest.raises(ArgumentError, match=words):
        build(nn.Parameter(corelib.asarray([1.0, 2.0], device="reference")))


# -- what one update costs ---------------------------------------------------------------------------------------


def test_updates_are_single_ops_that_read_no_value(monkeypatch):
    values, params = parameters()
    optimizer = optim.AdamW(params)
    give(params, gradients(1, values))
    read = []
    monkeypatch.setattr(corelib.Tensor, "_read", lambda self, why: read.append(why))
    optimizer.step()
    optimizer.step()
    optim.clip_grad_norm_(params, 1.0)
    assert not read
    for op in (ops.sgd_update, ops.momentum_update, ops.adam_update, ops.adamw_update):
        assert op.op.kind == "elementwise"
        assert not op.op.primitive


def test_an_update_refuses_a_gradient_that_would_broadcast():
    p, g, r = (corelib.asarray(np.ones(s), device="reference") for s in ((2, 3), (3,), ()))
    with pytest.raises(ShapeError, match=r"adamw_update: g must have shape \(2, 3\), got \(3,\)"):
        ops.adamw_update(p, g, p, p, r, r, r, beta1=0.9, beta2=0.99)
    with pytest.raises(ShapeError, match=r"adam_update: v_max must have shape \(2, 3\), got \(3,\)"):
        ops.adam_update(p, p, p, p, r, r, g, beta1=0.9, beta2=0.99)
    with pytest.raises(ShapeError, match=r"momentum_update: buffer must have shape \(2, 3\), got \(3,\)"):
        ops.momentum_update(p.requires_grad_(), p, g, r, momentum=0.9)


# -- clipping ----------------------------------------------------------------------------------------------------


@on_each
@pytest.mark.parametrize("norm_type", [2.0, 1.0, 3.0, math.inf])
def test_gradients_are_clipped_to_a_common_norm(norm_type, device):
    values, params = parameters(device)
    grads = gradients(1, values)
    give(params, grads)
    norm = np.linalg.norm(np.concatenate([g.ravel() for g in grads]), norm_type)
    assert optim.clip_grad_norm_(params, norm / 2, norm_type).item() == pytest.approx(norm, rel=1e-12)
    for p, g in zip(params, grads, strict=True):
        np.testing.assert_allclose(p.grad.numpy(), g / 2, rtol=1e-5)
    give(params, grads)
    optim.clip_grad_norm_(params, norm * 2, norm_type)
    for p, g in zip(params, grads, strict=True):
        np.testing.assert_array_equal(p.grad.numpy(), g)
    optim.clip_grad_value_(params, 0.5)
    for p, g in zip(params, grads, strict=True):
        np.testing.assert_array_equal(p.grad.numpy(), np.clip(g, -0.5, 0.5))


def test_clipping_without_gradients_and_with_infinite_ones():
    _, params = parameters()
    assert nn.utils.clip_grad_norm_(params, 1.0).item() == 0
    give(params, [np.full((3, 2), np.inf), None, None])
    with pytest.raises(GradientError, match="the norm of the gradients is inf"):
        optim.clip_grad_norm_(params, 1.0, error_if_nonfinite=True)


# -- training ----------------------------------------------------------------------------------------------------


@on_each
@pytest.mark.parametrize(
    "make",
    [
        lambda p: optim.SGD(p, lr=0.5, momentum=0.9, nesterov=True),
        lambda p: optim.Adam(p, lr=0.05),
        lambda p: optim.AdamW(p, lr=0.05),
    ],
    ids=["SGD", "Adam", "AdamW"],
)
def test_xor_is_learned(make, device):
    corelib.random.seed(1)
    x = corelib.asarray([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], device=device)
    y = corelib.asarray([0, 1, 1, 0], device=device)
    net = nn.Sequential(nn.Linear(2, 8, device=device), nn.Tanh(), nn.Linear(8, 2, device=device))
    optimizer, loss = make(net.parameters()), nn.CrossEntropyLoss()
    for _ in range(120):
        optimizer.zero_grad()
        value = loss(net(x), y)
        value.backward()
        optimizer.step()
    assert value.item() < 0.05
    assert ops.argmax(net(x), axis=-1).tolist() == [0, 1, 1, 0]
