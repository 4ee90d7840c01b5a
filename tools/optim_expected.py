"""Writes ``tests/unit/optim_expected.json``: parameters after steps of PyTorch's optimizers and the learning
rates of its schedules, so that they can be compared with where PyTorch is not installed.

``python tools/optim_expected.py`` needs torch. Parameters and gradients are multiples of 1/32, exact in every
dtype; the optimizers run in float64.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

OUT = Path(__file__).resolve().parents[1] / "tests" / "unit" / "optim_expected.json"
STEPS, SHAPES = 7, ((3, 2), (4,), ())
OPTIMIZERS: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {"lr": 0.1, "momentum": 0.8, "dampening": 0.3, "weight_decay": 0.1, "maximize": True}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    ("RMSprop", {}),
    ("RMSprop", {"lr": 0.05, "alpha": 0.8, "eps": 0.01, "weight_decay": 0.1, "momentum": 0.9}),
    ("RMSprop", {"lr": 0.05, "centered": True, "maximize": True}),
    ("RMSprop", {"lr": 0.05, "centered": True, "momentum": 0.5}),
    ("Adagrad", {}),
    ("Adagrad", {"lr": 0.2, "lr_decay": 0.1, "weight_decay": 0.1, "initial_accumulator_value": 0.5, "eps": 0.01}),
    ("Adagrad", {"lr": 0.2, "maximize": True}),
    ("Adam", {"lr": 0.1, "amsgrad": True, "weight_decay": 0.1}),
    ("AdamW", {"lr": 0.1, "weight_decay": 0.3}),
    ("NAdam", {}),
    ("NAdam", {"lr": 0.1, "betas": [0.5, 0.7], "eps": 0.01, "weight_decay": 0.1, "momentum_decay": 0.2}),
    ("NAdam", {"lr": 0.1, "weight_decay": 0.1, "decoupled_weight_decay": True, "maximize": True}),
    ("RAdam", {}),
    ("RAdam", {"lr": 0.1, "betas": [0.5, 0.9], "eps": 0.01, "weight_decay": 0.1}),
    ("RAdam", {"lr": 0.1, "weight_decay": 0.1, "decoupled_weight_decay": True, "maximize": True}),
]  # fmt: skip
LBFGS: list[dict[str, Any]] = [
    {"lr": 0.05, "max_iter": 4},
    {"max_iter": 6, "line_search_fn": "strong_wolfe"},
    {"lr": 0.5, "max_iter": 5, "history_size": 2, "line_search_fn": "strong_wolfe"},
]
SCHEDULES: list[tuple[str, dict[str, Any]]] = [
    ("StepLR", {"step_size": 3, "gamma": 0.5}),
    ("MultiStepLR", {"milestones": [3, 7, 7]}),
    ("ExponentialLR", {"gamma": 0.9}),
    ("LinearLR", {"start_factor": 0.1, "total_iters": 7}),
    ("ConstantLR", {"factor": 0.3, "total_iters": 4}),
    ("CosineAnnealingLR", {"T_max": 9, "eta_min": 0.01}),
    ("OneCycleLR", {"max_lr": 0.7, "total_steps": 21}),
    ("OneCycleLR", {"max_lr": 0.7, "epochs": 3, "steps_per_epoch": 7, "anneal_strategy": "linear", "three_phase": True}),
    ("OneCycleLR", {"max_lr": 0.7, "total_steps": 21, "pct_start": 0.5, "cycle_momentum": False}),
]  # fmt: skip
PLATEAU: list[dict[str, Any]] = [
    {"factor": 0.5, "patience": 2},
    {"factor": 0.5, "patience": 1, "mode": "max", "threshold": 0.5, "threshold_mode": "abs", "cooldown": 2},
    {"factor": 0.1, "patience": 0, "threshold": 0.2, "min_lr": 0.02},
]
METRICS = [5, 4, 4.5, 4.2, 4.1, 3.9, 3.9, 3.9, 3.9, 3.0, 3.1, 3.2, 2.9, 2.95, 3.5, 3.5, 3.5, 3.5, 1.0, 1.0]


def size(shape: tuple[int, ...]) -> int:
    """The number of elements."""
    return shape[0] * (shape[1] if len(shape) == 2 else 1) if shape else 1


def numbers(seed: int, count: int) -> list[float]:
    """Multiples of 1/32 in [-1, 1], none of them 0."""
    return [((37 * i + 101 * seed + 13 * i * i) % 64 - 31.5) / 32 for i in range(count)]


def start(i: int) -> list[float]:
    """The first values of parameter i."""
    return numbers(i, size(SHAPES[i]))


def gradient(i: int, step: int) -> list[float]:
    """The gradient of parameter i in a step."""
    return numbers(100 * step + 10 * i + 1, size(SHAPES[i]))


def loss(x: Any, y: Any) -> Any:
    """Rosenbrock's function of (x_i, y_i), a tenth of it, summed: works on tensors of any library."""
    return ((1 - x) * (1 - x) + 10 * (y - x * x) * (y - x * x)).sum() * 0.1


def expected() -> dict[str, Any]:
    """Everything that the file holds."""
    import torch

    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)  # which state such as NAdam's product of momenta takes as well
    try:
        return computed(torch)
    finally:
        torch.set_default_dtype(before)


def computed(torch: Any) -> dict[str, Any]:
    """The same, with numbers of no given dtype in float64."""
    optimizers = []
    for name, options in OPTIMIZERS:
        values = [torch.tensor(start(i), dtype=torch.float64).reshape(s) for i, s in enumerate(SHAPES)]
        params = [torch.nn.Parameter(v) for v in values]
        optimizer = getattr(torch.optim, name)(params, **options)
        for t in range(STEPS):
            for i, p in enumerate(params):
                p.grad = torch.tensor(gradient(i, t), dtype=torch.float64).reshape(p.shape)
            optimizer.step()
        optimizers.append(
            {
                "name": name,
                "options": options,
                "params": [p.detach().reshape(-1).tolist() for p in params],
                "defaults": {k: v for k, v in optimizer.defaults.items() if not options},
            }
        )
    searches = []
    for options in LBFGS:
        x, y = (torch.nn.Parameter(torch.tensor(numbers(i, 3), dtype=torch.float64)) for i in (1, 2))
        search = torch.optim.LBFGS([x, y], **options)
        losses = []

        def closure(x: Any = x, y: Any = y, search: Any = search) -> Any:
            search.zero_grad()
            value = loss(x, y)
            value.backward()
            return value

        losses = [search.step(closure).item() for _ in range(4)]
        searches.append(
            {"options": options, "losses": losses, "params": [x.detach().tolist(), y.detach().tolist()]}
        )
    schedules = []
    for name, options in SCHEDULES:
        sgd = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5, momentum=0.9)
        schedule = getattr(torch.optim.lr_scheduler, name)(sgd, **options)
        rates, momenta = [], []
        for _ in range(20):
            rates.append(sgd.param_groups[0]["lr"])
            momenta.append(sgd.param_groups[0]["momentum"])
            sgd.step()
            schedule.step()
        schedules.append({"name": name, "options": options, "lr": rates, "momentum": momenta})
    plateaus = []
    for options in PLATEAU:
        sgd = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(sgd, **options)
        rates = []
        for metric in METRICS:
            sgd.step()
            plateau.step(metric)
            rates.append(sgd.param_groups[0]["lr"])
        plateaus.append({"options": options, "lr": rates})
    return {"optimizers": optimizers, "lbfgs": searches, "schedules": schedules, "plateau": plateaus}


if __name__ == "__main__":
    OUT.write_text(json.dumps(expected(), indent=1) + "\n", encoding="utf-8")
