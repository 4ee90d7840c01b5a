"""Schedules of the learning rate: PyTorch's numbers, saved and restored, and mistakes."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

import corelib
from corelib import nn, optim
from corelib.errors import ArgumentError, CheckpointError
from corelib.optim import lr_scheduler

EXPECTED = json.loads(Path(__file__).with_name("optim_expected.json").read_text(encoding="utf-8"))
METRICS = [5, 4, 4.5, 4.2, 4.1, 3.9, 3.9, 3.9, 3.9, 3.0, 3.1, 3.2, 2.9, 2.95, 3.5, 3.5, 3.5, 3.5, 1.0, 1.0]


def sgd(lr=0.5, momentum=0.9, groups=1):
    params = [nn.Parameter(corelib.zeros(2, device="reference")) for _ in range(groups)]
    return optim.SGD([{"params": [p]} for p in params], lr=lr, momentum=momentum)


def rates(optimizer, schedule, count=20):
    found = []
    for _ in range(count):
        found.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    return found


@pytest.mark.parametrize("case", EXPECTED["schedules"], ids=lambda c: f"{c['name']} {c['options']}")
def test_twenty_rates_are_those_of_pytorch(case):
    optimizer = sgd()
    schedule = getattr(lr_scheduler, case["name"])(optimizer, **case["options"])
    tensor = optimizer.param_groups[0]["lr"]
    for rate, momentum in zip(case["lr"], case["momentum"], strict=True):
        # PyTorch multiplies step by step, here is a formula: a rounding for each of its steps, of rates up to 0.7
        assert schedule.get_last_lr()[0] == pytest.approx(rate, rel=20 * 2**-52, abs=20 * 2**-53)
        assert optimizer.param_groups[0]["momentum"] == pytest.approx(momentum, rel=20 * 2**-52)
        optimizer.step()
        schedule.step()
    assert optimizer.param_groups[0]["lr"] is tensor


@pytest.mark.parametrize("case", EXPECTED["plateau"], ids=lambda c: str(c["options"]))
def test_plateaus_are_those_of_pytorch(case):
    optimizer = sgd()
    schedule = lr_scheduler.ReduceLROnPlateau(optimizer, **case["options"])
    found = []
    for metric in METRICS:
        schedule.step(corelib.asarray(metric, dtype="float64", device="reference"))
        found.append(schedule.get_last_lr()[0])
    assert found == pytest.approx(case["lr"], rel=4 * 2**-53)


def test_warm_up_then_cosine():
    optimizer = sgd(lr=1.0)
    warm_up = lr_scheduler.LinearLR(optimizer, start_factor=0.25, total_iters=3)
    cosine = lr_scheduler.CosineAnnealingLR(optimizer, T_max=4)
    schedule = lr_scheduler.SequentialLR(optimizer, [warm_up, cosine], milestones=[3])
    expected = [0.25, 0.5, 0.75, 1.0, *[(1 + math.cos(math.pi * t / 4)) / 2 for t in (1, 2, 3, 4)]]
    assert rates(optimizer, schedule, 8) == pytest.approx(expected, abs=1e-15)


def test_groups_keep_their_own_rates():
    optimizer = sgd(groups=2)
    optimizer.param_groups[1]["lr"] = 0.25
    schedule = lr_scheduler.LambdaLR(optimizer, [lambda t: 1.0, lambda t: 0.5**t])
    schedule.step()
    schedule.step()
    assert schedule.get_last_lr() == [0.5, 0.0625]
    assert schedule.base_lrs == [0.5, 0.25]


def sequence(optimizer):
    one = lr_scheduler.LinearLR(optimizer, 0.1, total_iters=4)
    return lr_scheduler.SequentialLR(optimizer, [one, lr_scheduler.ExponentialLR(optimizer, 0.9)], [4])


@pytest.mark.parametrize(
    "make",
    [
        lambda o: lr_scheduler.StepLR(o, 3),
        lambda o: lr_scheduler.OneCycleLR(o, 0.7, 20),
        lambda o: lr_scheduler.CosineAnnealingLR(o, 9),
        sequence,
    ],
    ids=["StepLR", "OneCycleLR", "CosineAnnealingLR", "SequentialLR"],
)
def test_a_saved_schedule_goes_on(make):
    optimizer = sgd()
    schedule = make(optimizer)
    rates(optimizer, schedule, 5)
    state, options = json.loads(json.dumps(schedule.state_dict())), optimizer.state_dict()
    other = sgd(lr=3.0)
    resumed = make(other)
    other.load_state_dict(options)
    resumed.load_state_dict(state)
    assert rates(other, resumed, 10) == rates(optimizer, schedule, 10)
    assert other.param_groups[0]["momentum"] == optimizer.param_groups[0]["momentum"]


def test_a_saved_plateau_goes_on():
    optimizer = sgd()
    schedule = lr_scheduler.ReduceLROnPlateau(optimizer, patience=1, factor=0.5)
    for metric in METRICS[:8]:
        schedule.step(metric)
    state, options = json.loads(json.dumps(schedule.state_dict())), optimizer.state_dict()
    other = sgd(lr=3.0)
    resumed = lr_scheduler.ReduceLROnPlateau(other, patience=1, factor=0.5)
    other.load_state_dict(options)
    resumed.load_state_dict(state)
    for metric in METRICS[8:]:
        schedule.step(metric)
        resumed.step(metric)
        assert resumed.get_last_lr() == schedule.get_last_lr()


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda o: lr_scheduler.StepLR([], 3), "StepLR needs an Optimizer, got list"),
        (lambda o: lr_scheduler.StepLR(o, 0), "step_size must be at least 1, got 0"),
        (lambda o: lr_scheduler.LinearLR(o, 0.0), r"start_factor must be in \(0, 1\] .*, got 0.0 and 1.0"),
        (lambda o: lr_scheduler.CosineAnnealingLR(o, 0), "T_max must be at least 1, got 0"),
        (lambda o: lr_scheduler.LambdaLR(o, [float, float]), "2 functions for 1 groups"),
        (lambda o: lr_scheduler.OneCycleLR(o, 0.1), "needs total_steps, or epochs and steps_per_epoch"),
        (lambda o: lr_scheduler.OneCycleLR(o, 0.1, 5, anneal_strategy="x"), "must be 'cos' or 'linear', got 'x'"),
        (lambda o: lr_scheduler.OneCycleLR(o, [0.1, 0.2], 5), "2 max_lr for 1 groups"),
        (lambda o: lr_scheduler.SequentialLR(o, [], [3]), "rising milestones, one fewer than schedulers, got"),
        (lambda o: lr_scheduler.SequentialLR(o, [lr_scheduler.StepLR(sgd(), 3)], []), "must be a schedule of this optimizer"),
        (lambda o: lr_scheduler.ReduceLROnPlateau(o, factor=1.0), "factor must be below 1, got 1.0"),
        (lambda o: lr_scheduler.ReduceLROnPlateau(o, mode="least"), "mode must be 'min' or 'max'"),
        (lambda o: lr_scheduler.ReduceLROnPlateau(o).step(), "needs the metric"),
    ],
)  # fmt: skip
def test_mistakes_are_named(build, words):
    with pytest.raises(ArgumentError, match=words):
        build(sgd())


def test_a_cycle_ends_and_needs_a_momentum():
    schedule = lr_scheduler.OneCycleLR(sgd(), 0.1, 3)
    for _ in range(3):
        schedule.step()
    with pytest.raises(ArgumentError, match="all 3 steps are done: the cycle is over"):
        schedule.step()
    p = nn.Parameter(corelib.zeros(2, device="reference"))
    with pytest.raises(ArgumentError, match="Adagrad has no momentum: pass cycle_momentum=False"):
        lr_scheduler.OneCycleLR(optim.Adagrad([p]), 0.1, 3)


def test_a_state_of_another_schedule_is_refused():
    with pytest.raises(CheckpointError, match="StepLR needs last_epoch, base_lrs, the state has"):
        lr_scheduler.StepLR(sgd(), 3).load_state_dict(lr_scheduler.ReduceLROnPlateau(sgd()).state_dict())
    with pytest.raises(CheckpointError, match="StepLR has 1 groups, the state has 2"):
        lr_scheduler.StepLR(sgd(), 3).load_state_dict(lr_scheduler.StepLR(sgd(groups=2), 3).state_dict())
