"""An LSTM forecasts the 144 monthly totals of airline passengers (1949-1960) better than last year's month.

Trained on ten years, tested on the last two, a month ahead. The network sees the last twelve months, as
logarithms relative to the first of them, and says how much the month lies above the one a year before.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from common import compare, options

import corelib as cl
from corelib import nn, optim

WINDOW, HIDDEN, TEST = 12, 16, 24
FILE = Path(__file__).parent / "data" / "airline_passengers.csv"


class Forecaster(nn.Module):
    """One LSTM over the window, and a line from its last state."""

    def __init__(self) -> None:
        self.lstm, self.head = nn.LSTM(1, HIDDEN, batch_first=True), nn.Linear(HIDDEN, 1)

    def forward(self, x: cl.Tensor) -> cl.Tensor:
        """The growth over a year, of shape (N,), for windows x of shape (N, WINDOW)."""
        states, _ = self.lstm(cl.expand_dims(x, axis=-1))
        return self.head(states[:, -1])[:, 0]


def samples() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Windows of relative logarithms, growth over a year, and the passengers themselves."""
    passengers = np.loadtxt(FILE, delimiter=",", skiprows=3, usecols=1)
    logs = np.log(passengers)
    windows = np.stack([logs[i : i + WINDOW] for i in range(len(logs) - WINDOW)])
    growth = logs[WINDOW:] - logs[:-WINDOW]
    return (windows - windows[:, :1]).astype("float32"), growth.astype("float32"), passengers


def torch_step() -> Callable[[], Any]:
    """A step of the same network in PyTorch, with its own LSTM."""
    import torch

    lstm, head = torch.nn.LSTM(1, HIDDEN, batch_first=True), torch.nn.Linear(HIDDEN, 1)
    optimizer = torch.optim.Adam([*lstm.parameters(), *head.parameters()], lr=1e-2)
    windows, growth, _ = samples()
    x, y = torch.tensor(windows[:-TEST, :, None]), torch.tensor(growth[:-TEST])

    def step() -> float:
        optimizer.zero_grad()
        loss = ((head(lstm(x)[0][:, -1])[:, 0] - y) ** 2).mean()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    """Run; the result."""
    given = options(__doc__, argv, steps=300)
    windows, growth, passengers = samples()
    x, y = cl.asarray(windows[:-TEST]), cl.asarray(growth[:-TEST])
    model = Forecaster()
    optimizer = optim.Adam(model.parameters(), lr=1e-2)
    schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, max(given.steps, 1))

    @cl.compile
    def step() -> cl.Tensor:
        optimizer.zero_grad()
        loss = cl.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    started = time.perf_counter()
    for _ in range(given.steps):
        loss = step()
        schedule.step()
    seconds = time.perf_counter() - started
    with cl.no_grad():
        said = model(cl.asarray(windows[-TEST:])).numpy()
    naive, truth = passengers[-TEST - WINDOW : -WINDOW], passengers[-TEST:]
    errors = {
        name: float(np.abs(forecast - truth).mean())
        for name, forecast in (("seasonal naive", naive), ("LSTM", naive * np.exp(said)))
    }
    print(f"{given.steps} steps in {seconds:.1f} s on {given.backend}: loss {loss.item():.6f}")
    print(
        "mean absolute error, thousands of passengers: "
        + ", ".join(f"{n} {e:.1f}" for n, e in errors.items())
    )
    compare(given, lambda: step().item(), torch_step)
    return {"lstm": errors["LSTM"], "naive": errors["seasonal naive"]}


if __name__ == "__main__":
    found = main()
    assert found["lstm"] < 0.5 * found["naive"], (
        "the forecast is not better than half the error of last year's month"
    )
