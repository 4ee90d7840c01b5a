"""An optimizer's step becomes a program by itself, and nobody can tell but by the clock."""

from __future__ import annotations

import copy
import pickle

import pytest

import corelib
from corelib import optim
from corelib.compile.repeated import FIRST, Repeated

pytestmark = pytest.mark.filterwarnings("error")
SHAPES = ((3, 5), (7,), (), (80, 70), (2, 3, 4))  # one of them of more elements than a generated kernel needs
MAKERS = {
    "sgd": lambda ps: optim.SGD(ps, lr=0.1),
    "momentum": lambda ps: optim.SGD(ps, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "adam": lambda ps: optim.Adam(ps, lr=0.01, weight_decay=0.1),
    "adamw": lambda ps: optim.AdamW(ps, lr=0.01),
    "amsgrad": lambda ps: optim.AdamW(ps, lr=0.01, amsgrad=True),
    "nadam": lambda ps: optim.NAdam(ps, lr=0.01),
    "radam": lambda ps: optim.RAdam(ps, lr=0.01),
    "lion": lambda ps: optim.Lion(ps, lr=0.01),
    "rmsprop": lambda ps: optim.RMSprop(ps, lr=0.01, momentum=0.9, centered=True),
    "adagrad": lambda ps: optim.Adagrad(ps, lr=0.01),
}


def parameters(dtype=corelib.float32):
    g = corelib.random.Generator(7)
    return [
        corelib.asarray(corelib.random.normal(shape, dtype=dtype, generator=g), device="cpu").requires_grad_()
        for shape in SHAPES
    ]


def gradients(params, step):
    g = corelib.random.Generator(100 + step)
    for p in params:
        p.grad = corelib.random.normal(p.shape, dtype=p.dtype, generator=g)


def values(params, optimizer):
    state = [optimizer.state[p][k] for p in params for k in sorted(optimizer.state.get(p, ()))]
    return [t.numpy().tobytes() for t in (*params, *state)]


def entries(optimizer):
    return len(optimizer._repeated.entries) if optimizer._repeated else 0


@pytest.fixture
def on_cpu():
    with corelib.use_backend("cpu"):
        yield


@pytest.mark.parametrize("dtype", [corelib.float32, corelib.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("name", MAKERS)
def test_a_program_gives_the_bits_of_single_steps(on_cpu, name, dtype):
    ways = []
    for recorded in (True, False):
        params = parameters(dtype)
        optimizer = MAKERS[name](params)
        optimizer.recorded = recorded
        found = []
        for step in range(FIRST + 6):
            gradients(params, step)
            optimizer.step()
            found.append(values(params, optimizer))
        assert entries(optimizer) == recorded
        ways.append(found)
    for step, (one, other) in enumerate(zip(*ways, strict=True)):
        assert one == other, f"step {step}"


def test_options_that_change_are_never_stale(on_cpu):
    ways = []
    for recorded in (True, False):
        params = parameters()
        optimizer = optim.AdamW(params, lr=0.01)
        optimizer.recorded = recorded
        found = []
        for step in range(FIRST + 12):
            gradients(params, step)
            group = optimizer.param_groups[0]
            group["lr"] = 0.01 / (step + 1)  # a tensor's value
            if step > FIRST + 3:
                group["betas"] = (0.9 - 0.01 * step, 0.999)  # Python numbers
            if step == FIRST + 5:
                params[1].grad = None
            if step == FIRST + 8:
                params[2]._rebind(params[2].detach() * 2)
            optimizer.step()
            found.append(values(params, optimizer))
        ways.append(found)
    assert ways[0] == ways[1]


def test_values_that_were_taken_before_stay(on_cpu):
    params = parameters()
    optimizer = optim.AdamW(params, lr=0.01)
    for step in range(FIRST + 4):
        gradients(params, step)
        before, state = [p.detach() for p in params], optimizer.state_dict()
        kept = [p.numpy().copy() for p in before]
        moments = [s["exp_avg"].numpy().copy() for s in state["state"].values()]
        optimizer.step()
        assert all((p.numpy() == k).all() for p, k in zip(before, kept, strict=True))
        assert all(
            (s["exp_avg"].numpy() == m).all() for s, m in zip(state["state"].values(), moments, strict=True)
        )
    assert entries(optimizer) == 1


def test_what_differs_at_each_step_is_recorded_ever_more_seldom(on_cpu):
    params = parameters()
    optimizer = optim.SGD(params, lr=0.1, momentum=0.9)
    for step in range(5 * FIRST):
        gradients(params, step)
        optimizer.param_groups[0]["momentum"] = 0.5 + 0.001 * step
        optimizer.step()
    assert entries(optimizer) == 1


def test_copies_and_pickles_start_anew(on_cpu):
    params = parameters()
    optimizer = optim.SGD(params, lr=0.1)
    for step in range(FIRST + 2):
        gradients(params, step)
        optimizer.step()
    repeated = optimizer._repeated
    assert repeated.entries
    for other in (copy.deepcopy(repeated), pickle.loads(pickle.dumps(repeated))):
        assert isinstance(other, Repeated)
        assert not other.entries


def test_a_class_of_somebody_else_is_not_recorded(on_cpu):
    calls = []

    class Counting(optim.SGD):
        def _update(self, group, cohort):
            calls.append(1)
            super()._update(group, cohort)

    params = parameters()
    optimizer = Counting(params, lr=0.1)
    for step in range(FIRST + 4):
        gradients(params, step)
        optimizer.step()
    assert len(calls) == FIRST + 4


def test_a_wrong_gradient_is_refused_in_the_same_words(on_cpu):
    params = parameters()
    optimizer = optim.SGD(params, lr=0.1, momentum=0.9)
    messages = []
    for step in range(FIRST + 3):
        gradients(params, step)
        if step in (0, FIRST + 2):
            params[0]._node.grad = corelib.ones((9, 9))
            with pytest.raises(corelib.errors.ShapeError) as caught:
                optimizer.step()
            messages.append(str(caught.value))
        else:
            optimizer.step()
    assert messages[0] == messages[1]


def test_parameters_of_another_device_are_updated_as_well(on_cpu):
    with corelib.use_backend("reference"):
        params = [corelib.ones((2, 3)).requires_grad_()]
    optimizer = optim.SGD(params, lr=0.5)
    for _ in range(FIRST + 2):
        params[0].grad = corelib.ones((2, 3), device="reference")
        optimizer.step()
    assert params[0].numpy()[0][0] == 1 - 0.5 * (FIRST + 2)
    assert entries(optimizer) == 0
