"""Optimizers and schedules against PyTorch's, by a file of its results, and against published recurrences where
PyTorch has none; their states, and averages of weights.

``tests/unit/optim_expected.json`` is written by ``tools/optim_expected.py``; where PyTorch is installed, a test
holds that it is what PyTorch computes.
"""

from __future__ import annotations

import importlib.util
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import corelib
from corelib import nn, optim
from corelib.errors import ArgumentError, CheckpointError, ShapeError
from corelib.optim.muon import orthogonalized

ROOT = Path(__file__).resolve().parents[2]
_spec = importlib.util.spec_from_file_location("optim_expected", ROOT / "tools" / "optim_expected.py")
assert _spec is not None
assert _spec.loader is not None
tool = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(tool)
EXPECTED = json.loads(tool.OUT.read_text(encoding="utf-8"))

on_each = pytest.mark.parametrize(
    "device", ["reference", pytest.param("cpu", marks=pytest.mark.device("cpu"))]
)


def named(case: dict[str, Any]) -> str:
    return " ".join([case.get("name", ""), *(f"{k}={v}" for k, v in case["options"].items())]).strip()


def parameters(device="reference", dtype="float64"):
    return [
        nn.Parameter(corelib.reshape(corelib.asarray(tool.start(i), dtype=dtype, device=device), shape))
        for i, shape in enumerate(tool.SHAPES)
    ]


def give(params, step):
    for i, p in enumerate(params):
        values = corelib.asarray(tool.gradient(i, step), dtype=p.dtype, device=p.device)
        p.grad = corelib.reshape(values, p.shape)


def close(actual, expected, roundings, scale=1.0):
    """Within ``roundings`` half units in the last place of numbers up to ``scale``."""
    bound = roundings * 2.0**-53 * np.maximum(np.abs(expected), scale)
    np.testing.assert_array_less(np.abs(np.asarray(actual) - np.asarray(expected)), bound)


def test_the_file_is_what_pytorch_computes():
    pytest.importorskip("torch", reason="torch is not installed (extra: bench)")
    found = tool.expected()
    # another build of PyTorch may round otherwise; L-BFGS divides by small differences
    for part in ("optimizers", "schedules", "plateau", "lbfgs"):
        for a, b in zip(found[part], EXPECTED[part], strict=True):
            assert a["options"] == b["options"]
            for key in ("params", "lr", "momentum", "losses"):
                for x, y in zip(a.get(key, []), b.get(key, []), strict=True):
                    np.testing.assert_allclose(x, y, rtol=1e-9 if part == "lbfgs" else 1e-12)


@on_each
@pytest.mark.parametrize("case", EXPECTED["optimizers"], ids=named)
def test_seven_steps_are_those_of_pytorch(case, device):
    params = parameters(device)
    optimizer = getattr(optim, case["name"])(params, **case["options"])
    for t in range(tool.STEPS):
        give(params, t)
        optimizer.step()
    for p, expected in zip(params, case["params"], strict=True):
        # about 20 roundings in a step, of numbers up to 1. The difference v - mean**2 of "centered" magnifies
        # them by v / (v - mean**2), which is below 16 here; RAdam's rho(t) is a difference of numbers near 2000,
        # themselves of relative error 1000 u / t: 3e5 roundings of a step, which is at most 0.1, from t = 6 on
        many = 16 if case["options"].get("centered") else 256 if case["name"] == "RAdam" else 1
        close(p.numpy().ravel(), expected, tool.STEPS * 20 * many)
    for name, value in case["defaults"].items():
        if name in optimizer.defaults:
            own = optimizer.defaults[name]
            assert (list(own) if isinstance(own, tuple) else own) == value, name


@pytest.mark.parametrize("case", EXPECTED["lbfgs"], ids=named)
def test_lbfgs_takes_the_steps_of_pytorch(case):
    x, y = (nn.Parameter(corelib.asarray(tool.numbers(i, 3), dtype="float64")) for i in (1, 2))
    optimizer = optim.LBFGS([x, y], **case["options"])

    def closure():
        optimizer.zero_grad()
        loss = tool.loss(x, y)
        loss.backward()
        return loss

    losses = [optimizer.step(closure).item() for _ in range(4)]
    # every iteration divides by the change of the gradient, which is 1e-3 to 1 here: 24 iterations, some digits
    np.testing.assert_allclose(losses, case["losses"], rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose([x.tolist(), y.tolist()], case["params"], rtol=1e-8)


# -- optimizers that PyTorch has not, or has in bfloat16 ---------------------------------------------------------


@on_each
def test_lion_follows_its_paper(device):
    params = parameters(device)
    values = [p.numpy().copy() for p in params]
    means = [np.zeros_like(v) for v in values]
    optimizer = optim.Lion(params, lr=0.1, betas=(0.8, 0.9), weight_decay=0.2)
    for t in range(5):
        give(params, t)
        optimizer.step()
        for i, v in enumerate(values):
            g = np.asarray(tool.gradient(i, t)).reshape(v.shape)
            values[i] = v - 0.1 * (np.sign(0.8 * means[i] + (1 - 0.8) * g) + 0.2 * v)
            means[i] = 0.9 * means[i] + (1 - 0.9) * g
    for p, expected in zip(params, values, strict=True):
        close(p.numpy(), expected, 5 * 4)


def np_muon(p, g, m, lr, decay=0.1, momentum=0.95, nesterov=True, match=False):
    m = momentum * m + (1 - momentum) * g
    u = (1 - momentum) * g + momentum * m if nesterov else m
    x = u / max(np.linalg.norm(u), 1e-7)
    x = x.T if u.shape[0] > u.shape[1] else x
    for _ in range(5):
        s = x @ x.T
        x = 3.4445 * x + (-4.775 * s + 2.0315 * s @ s) @ x
    x = x.T if u.shape[0] > u.shape[1] else x
    scale = 0.2 * math.sqrt(max(p.shape)) if match else math.sqrt(max(1, p.shape[0] / p.shape[1]))
    return p * (1 - lr * decay) - lr * scale * x, m


@on_each
@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (4, 4)])
@pytest.mark.parametrize("options", [{}, {"nesterov": False, "adjust_lr_fn": "match_rms_adamw"}], ids=["default", "matched"])  # fmt: skip
def test_muon_follows_its_recurrence_and_pytorch_to_bfloat16(shape, options, device):
    rng = np.random.default_rng(3)
    value = rng.standard_normal(shape)
    p, m = nn.Parameter(corelib.asarray(value, device=device)), np.zeros(shape)
    optimizer = optim.Muon([p], lr=0.1, **options)
    grads, first = [rng.standard_normal(shape) for _ in range(4)], value
    for g in grads:
        p.grad = corelib.asarray(g, device=device)
        optimizer.step()
        value, m = np_muon(
            value, g, m, 0.1, nesterov=options.get("nesterov", True), match="adjust_lr_fn" in options
        )
    # five iterations magnify a rounding by at most 3.4445 each, and each has 3 products of rows of length 5
    close(p.numpy(), value, 4 * 3.4445**5 * 30 * 0.1)
    try:
        import torch
    except ImportError:
        return  # the recurrence above is the claim; PyTorch says that it is the right one
    q = torch.nn.Parameter(torch.tensor(first))
    oracle = torch.optim.Muon([q], lr=0.1, **options)
    for g in grads:
        q.grad = torch.tensor(g)
        oracle.step()
    assert {k: v for k, v in oracle.defaults.items() if k not in options and k != "lr"} == {
        k: v for k, v in optimizer.defaults.items() if k not in options and k != "lr"
    }
    # bfloat16 has 8 digits: a step of 0.1 x O(1) differs by up to 2**-8 x 3.4445**5 / 20 of it in the worst of directions
    np.testing.assert_allclose(p.numpy(), q.detach().numpy(), atol=4 * 0.1 * 0.1)


def test_orthogonalized_singular_values_are_near_one():
    g = corelib.asarray(np.random.default_rng(0).standard_normal((6, 4)))
    values = np.linalg.svd(orthogonalized(g).numpy(), compute_uv=False)
    assert values.min() > 0.6
    assert values.max() < 1.25
    assert not np.isnan(orthogonalized(corelib.zeros((2, 3))).numpy()).any()


# -- states ------------------------------------------------------------------------------------------------------

ALL = [
    (optim.SGD, {"momentum": 0.9}),
    (optim.RMSprop, {"momentum": 0.9, "centered": True}),
    (optim.Adagrad, {"lr_decay": 0.1}),
    (optim.Adam, {"amsgrad": True}),
    (optim.AdamW, {}),
    (optim.NAdam, {"decoupled_weight_decay": True, "weight_decay": 0.1}),
    (optim.RAdam, {"betas": (0.9, 0.95)}),
    (optim.Lion, {}),
    (optim.Muon, {}),
]


@pytest.mark.parametrize(("cls", "options"), ALL, ids=[c.__name__ for c, _ in ALL])
@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
def test_a_saved_optimizer_goes_on_bit_for_bit(cls, options, dtype, tmp_path):
    params = parameters(dtype=dtype)[: 1 if cls is optim.Muon else None]
    optimizer = cls(params, lr=0.05, **options)
    for t in range(3):
        give(params, t)
        optimizer.step()
    corelib.save(tmp_path / "state.safetensors", optimizer=optimizer)
    twins = [nn.Parameter(p.detach()) for p in params]
    other = cls(twins, lr=9.0)
    for name in options:
        other.param_groups[0][name] = None  # comes with the state
    corelib.load(tmp_path / "state.safetensors", optimizer=other)
    for t in range(3, 9):
        for one, tensors in ((optimizer, params), (other, twins)):
            give(tensors, t)
            one.step()
    for p, twin in zip(params, twins, strict=True):
        assert p.tolist() == twin.tolist()


@pytest.mark.device("cpu")
@pytest.mark.parametrize(("cls", "options"), ALL, ids=[c.__name__ for c, _ in ALL])
def test_a_step_that_became_a_program_gives_the_bits_of_one_that_did_not(cls, options):
    with corelib.use_backend("cpu"):
        corelib.random.seed(0)
        first = [corelib.random.normal(shape) for shape in ((64, 96), (96, 32))]
        params, twins = ([nn.Parameter(x) for x in first] for _ in range(2))
        optimizer, other = (cls(p, lr=0.01, **options) for p in (params, twins))
        for _ in range(24):
            for p, twin in zip(params, twins, strict=True):
                p.grad = corelib.random.normal(p.shape)
                twin.grad = p.grad
            optimizer.step()
            with corelib.no_grad():
                other._advance()  # op by op, as after a resume
            for p, twin in zip(params, twins, strict=True):
                assert (p.numpy() == twin.numpy()).all()


def test_a_saved_lbfgs_goes_on_bit_for_bit(tmp_path):
    def make(values):
        x, y = (nn.Parameter(corelib.asarray(v, dtype="float64")) for v in values)
        optimizer = optim.LBFGS([x, y], max_iter=3, history_size=4, line_search_fn="strong_wolfe")

        def closure():
            optimizer.zero_grad()
            loss = tool.loss(x, y)
            loss.backward()
            return loss

        return (x, y), optimizer, closure

    params, optimizer, closure = make([tool.numbers(1, 3), tool.numbers(2, 3)])
    for _ in range(3):
        optimizer.step(closure)
    corelib.save(tmp_path / "state.safetensors", optimizer=optimizer)
    twins, other, again = make([p.tolist() for p in params])
    corelib.load(tmp_path / "state.safetensors", optimizer=other)
    for _ in range(3):
        assert optimizer.step(closure).item() == other.step(again).item()
    assert [p.tolist() for p in params] == [p.tolist() for p in twins]
    resting = nn.Parameter(corelib.ones(2, dtype="float64"))  # has no gradient: as if it were zeros
    with_it = optim.LBFGS([params[0], params[1], resting], max_iter=2)

    def once():
        with_it.zero_grad()
        loss = tool.loss(*params)
        loss.backward()
        return loss

    with_it.step(once)
    assert resting.tolist() == [1.0, 1.0]
    small = optim.LBFGS([nn.Parameter(corelib.zeros(2, dtype="float64"))])
    with pytest.raises(CheckpointError, match=r"groups of \[1\] parameters, the state has groups of \[2\]"):
        small.load_state_dict(optimizer.state_dict())
    pair = optim.LBFGS([nn.Parameter(corelib.zeros(n, dtype="float64")) for n in (1, 2)])
    with pytest.raises(CheckpointError, match=r"d of LBFGS must be float64\[3\], got \(6,\)"):
        pair.load_state_dict(optimizer.state_dict())


def test_a_step_of_every_optimizer_reads_no_value(monkeypatch):
    for cls, options in ALL:
        params = parameters()[: 1 if cls is optim.Muon else None]
        optimizer = cls(params, lr=0.05, **options)
        give(params, 0)
        read = []
        with monkeypatch.context() as patch:
            patch.setattr(corelib.Tensor, "_read", lambda self, why, read=read: read.append(why))
            optimizer.step()
            optimizer.step()
        assert not read, cls.__name__


@pytest.mark.parametrize(("cls", "options"), ALL, ids=[c.__name__ for c, _ in ALL])
def test_a_compiled_step_is_never_compiled_again(cls, options):
    """A whole step, with a schedule, clipping and averages of weights: a program without the state and one with it."""
    results = []
    rng = np.random.default_rng(0)
    batches = [corelib.asarray(rng.standard_normal((5, 6)).astype("float32")) for _ in range(8)]
    labels = corelib.asarray([0, 1, 2, 0, 1])
    for compiled in (False, True):
        corelib.random.seed(0)
        bias = cls is not optim.Muon
        net = nn.Sequential(nn.Linear(6, 8, bias=bias), nn.Tanh(), nn.Linear(8, 3, bias=bias))
        optimizer, ema = cls(net.parameters(), lr=0.01, **options), optim.EMA(net.parameters(), 0.9)
        schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, 8)

        def step(x, net=net, optimizer=optimizer, ema=ema):
            optimizer.zero_grad()
            loss = corelib.cross_entropy(net(x), labels)
            loss.backward()
            optim.clip_grad_norm_(net.parameters(), 0.1)
            optimizer.step()
            ema.update()
            return loss

        run = corelib.compile(step) if compiled else step
        losses = []
        for x in batches:
            losses.append(run(x).item())
            schedule.step()
        tensors = [*net.parameters(), *ema.averages]
        results.append((losses, [t.tolist() for t in tensors], [p.grad.tolist() for p in net.parameters()]))
        if compiled:
            assert len(run.graphs()) == 2
    if corelib.asarray(0.0).device == "reference":
        assert results[0] == results[1]
    else:  # a fused kernel keeps what the separate ones round: a few roundings of float32 in each of the 8 steps
        for a, b in zip(results[0][1], results[1][1], strict=True):
            np.testing.assert_allclose(a, b, atol=8 * 64 * 2**-24)


def test_nadam_splits_its_product_of_momenta_with_the_step_count():
    params, alone = parameters(), parameters()[1:2]
    optimizer, other = optim.NAdam(params, lr=0.1), optim.NAdam(alone, lr=0.1)
    for t in range(6):
        give(params, t)
        if t in (2, 3):
            params[1].grad = None
        else:
            alone[0].grad = params[1].grad.detach()
            other.step()
        optimizer.step()
    assert params[1].tolist() == alone[0].tolist()
    products = [optimizer.state[p]["mu_product"].item() for p in params]
    assert products[0] == products[2] < products[1]


@pytest.mark.parametrize(
    ("build", "error", "words"),
    [
        (lambda p: optim.RMSprop([p], alpha=1.5), ArgumentError, r"RMSprop: alpha must be in \[0, 1\], got 1.5"),
        (lambda p: optim.RMSprop([p], momentum=-1), ArgumentError, "RMSprop: momentum must not be negative, got -1"),
        (lambda p: optim.Adagrad([p], lr_decay=-1), ArgumentError, "Adagrad: lr_decay must not be negative, got -1"),
        (lambda p: optim.Adagrad([p], initial_accumulator_value=-1), ArgumentError, "initial_accumulator_value must not be negative"),
        (lambda p: optim.NAdam([p], betas=(1.0, 0.9)), ArgumentError, r"NAdam: betas\[0\] must be in \[0, 1\), got 1.0"),
        (lambda p: optim.Muon([p]), ShapeError, r"Muon: parameter 0 has shape \(2,\), it needs matrices"),
        (lambda p: optim.Muon([corelib.ones((2, 2))], adjust_lr_fn="x"), ArgumentError, "adjust_lr_fn must be None, 'original'"),
        (lambda p: optim.LBFGS([p], line_search_fn="x"), ArgumentError, "line_search_fn must be None or 'strong_wolfe', got 'x'"),
        (lambda p: optim.LBFGS([p]).step(), ArgumentError, "LBFGS.step needs a closure"),
        (lambda p: optim.LBFGS([{"params": [p]}, {"params": []}]), ArgumentError, "LBFGS has one group"),
        (lambda p: optim.LBFGS([p, corelib.ones(2, dtype="float64")]), ArgumentError, "one device and dtype, got float32 on .*, float64 on"),
        (lambda p: optim.EMA([]), ArgumentError, "EMA got no parameters"),
        (lambda p: optim.EMA([p], decay=2), ArgumentError, r"EMA: decay must be in \[0, 1\], got 2"),
    ],
)  # fmt: skip
def test_mistakes_are_named(build, error, words):
    with pytest.raises(error, match=words):
        build(nn.Parameter(corelib.asarray([1.0, 2.0], dtype="float32")))


# -- averages of weights -----------------------------------------------------------------------------------------


@on_each
def test_averages_of_weights(device):
    p = nn.Parameter(corelib.asarray([1.0, 2.0], dtype="float64", device=device))
    ema, expected = optim.EMA([p], decay=0.75), np.array([1.0, 2.0])
    for t in range(3):
        p._rebind(corelib.asarray([t + 2.0, -t], dtype="float64", device=device))
        ema.update()
        expected = 0.75 * expected + 0.25 * np.array([t + 2.0, -t])
    close(ema.averages[0].numpy(), expected, 9, 4.0)
    with ema.applied():
        assert p.tolist() == ema.averages[0].tolist()
        assert p.requires_grad
    assert p.tolist() == [4.0, -2.0]
    other = optim.EMA([nn.Parameter(p.detach())], decay=0.75)
    other.load_state_dict(ema.state_dict())
    assert other.averages[0].tolist() == ema.averages[0].tolist()
    with pytest.raises(CheckpointError, match=r"average 0 must be float64\[3\], got float64\[2\]"):
        optim.EMA([corelib.ones(3, dtype="float64")]).load_state_dict(ema.state_dict())
    with pytest.raises(CheckpointError, match="the state is of 1 parameters, these are 2"):
        optim.EMA([p, p]).load_state_dict(ema.state_dict())


# -- accumulation ------------------------------------------------------------------------------------------------


def test_accumulated_gradients_are_those_of_the_whole_batch():
    x = corelib.asarray(np.random.default_rng(0).integers(-4, 5, (8, 3)), dtype="float64")
    for parts in (1, 4):
        corelib.random.seed(0)
        layer = nn.Linear(3, 2).to(corelib.float64)
        for i in range(parts):
            part = x[8 // parts * i : 8 // parts * (i + 1)]
            (corelib.mean(layer(part) ** 2) / parts).backward()
        if parts == 1:
            whole = layer.weight.grad.numpy()
    close(layer.weight.grad.numpy(), whole, 8 * 4, np.abs(whole).max())
