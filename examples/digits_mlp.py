"""A network of two layers learns handwritten digits: at least 97.5 % of 360 test images.

Data, trainer, checkpoint and log in a few lines; with ``--backend`` it runs on any of them, and
``--resume`` goes on with a run that was interrupted, also on another backend.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from common import accuracy, classifier_step, compare, digits, options, torch_classifier_step

import corelib as cl
from corelib import data, nn, optim, train

GOAL, BATCH = 0.975, 32


def network() -> nn.Module:
    """64-128-10, with dropout."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Dropout(0.2), nn.Linear(128, 10))


def torch_step() -> Callable[[], Any]:
    """A step of the same network in PyTorch."""
    from torch.nn import Dropout, Flatten, Linear, ReLU

    return torch_classifier_step(BATCH, Flatten(), Linear(64, 128), ReLU(), Dropout(0.2), Linear(128, 10))


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    """Run; the result."""
    given = options(__doc__, argv, epochs=30, samples=1437, folder="", resume=0)
    folder = Path(given.folder or tempfile.mkdtemp())
    x, y, test_x, test_y = (t[: given.samples] for t in digits())
    model = network()
    optimizer = optim.AdamW(model.parameters(), lr=3e-3)
    loader = data.DataLoader(data.TensorDataset(x, y), BATCH, shuffle=True)
    schedule = optim.lr_scheduler.OneCycleLR(
        optimizer, 6e-3, epochs=given.epochs, steps_per_epoch=len(loader), cycle_momentum=False
    )
    trainer = train.Trainer(
        model, optimizer, cl.cross_entropy, schedule=schedule, schedule_each="step", log=folder / "log.jsonl",
        checkpoint=folder / "last.safetensors", progress=False, compile=True,
    )  # fmt: skip
    started = time.perf_counter()
    history = trainer.fit(loader, given.epochs, resume=bool(given.resume))
    seconds = time.perf_counter() - started
    model.eval()
    reached = accuracy(model, test_x, test_y)
    print(
        f"{given.epochs} epochs in {seconds:.1f} s on {given.backend}: loss {history[-1]['train_loss']:.4f}, {reached:.2%} of the test images"
    )

    model.train()
    step = classifier_step(model, optimizer)
    compare(given, lambda: step(x[:BATCH], y[:BATCH]).item(), torch_step)
    return {"accuracy": reached, "loss": history[-1]["train_loss"]}


if __name__ == "__main__":
    assert main()["accuracy"] >= GOAL, f"the goal of {GOAL:.1%} was missed"
