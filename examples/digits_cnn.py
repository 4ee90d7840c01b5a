"""A convolutional network on handwritten digits, in float32 and then in 8-bit integers, within half a point.

Trained with random shifts of the images; then quantized three ways: after training by calibration (PTQ), by training
on through the rounding (QAT), and, for comparison, with 4-bit weights. The integer models compute in int8 and
int32, and give the same bits on every backend.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from common import accuracy, best_times, classifier_step, compare, digits, options, torch_classifier_step

import corelib as cl
from corelib import data, nn, optim, quantization, train

BATCH, GOAL = 32, 0.98


def network() -> nn.Module:
    """Two convolutions and two lines."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(512, 64), nn.ReLU(), nn.Linear(64, 10),
    )  # fmt: skip


def torch_step() -> Callable[[], Any]:
    """A step of the same network in PyTorch."""
    from torch.nn import Conv2d, Flatten, Linear, MaxPool2d, ReLU

    return torch_classifier_step(
        BATCH, Conv2d(1, 16, 3, padding=1), ReLU(), MaxPool2d(2), Conv2d(16, 32, 3, padding=1), ReLU(),
        Flatten(), Linear(512, 64), ReLU(), Linear(64, 10),
    )  # fmt: skip


class Shifted(data.TensorDataset):
    """Images that are moved at random, by up to a pixel, a whole batch at once."""

    shift = data.transforms.RandomShift(1)

    def batch(self, indices: Sequence[int]) -> tuple[cl.Tensor, ...]:
        """The batch."""
        x, y = super().batch(indices)
        return self.shift(x), y


def fit(model: nn.Module, x: cl.Tensor, y: cl.Tensor, epochs: int, lr: float) -> None:
    """Train with AdamW and one cycle of the learning rate."""
    loader = data.DataLoader(Shifted(x, y), BATCH, shuffle=True)
    optimizer = optim.AdamW(model.parameters(), lr=lr)
    schedule = optim.lr_scheduler.OneCycleLR(
        optimizer, lr, epochs=epochs, steps_per_epoch=len(loader), cycle_momentum=False
    )
    trainer = train.Trainer(
        model,
        optimizer,
        cl.cross_entropy,
        schedule=schedule,
        schedule_each="step",
        progress=False,
        compile=True,
        log_every=1000,
    )
    trainer.fit(loader, epochs)
    model.eval()


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    """Run; the result."""
    given = options(__doc__, argv, epochs=20, samples=1437)
    x, y, test_x, test_y = (t[: given.samples] for t in digits())
    model = network()
    started = time.perf_counter()
    fit(model, x, y, given.epochs, 5e-3)
    print(f"{given.epochs} epochs in {time.perf_counter() - started:.1f} s on {given.backend}")
    found = {"float32": accuracy(model, test_x, test_y)}

    prepared = quantization.calibrate(quantization.prepare(model), [x[:256]])
    integers = quantization.convert(prepared)
    found["int8, calibrated"] = accuracy(integers, test_x, test_y)
    print(quantization.report(model, integers, test_x, lambda m: accuracy(m, test_x, test_y)))
    fit(prepared.train(), x, y, max(1, given.epochs // 4), 5e-4)
    found["int8, trained on"] = accuracy(quantization.convert(prepared), test_x, test_y)
    four = quantization.prepare(model, quantization.Config(weight_bits=4, weight_observer="mse"))
    found["int4 weights, calibrated"] = accuracy(
        quantization.convert(quantization.calibrate(four, [x[:256]])), test_x, test_y
    )
    for name, share in found.items():
        print(f"{name:<25} {share:.2%} of the test images")

    with cl.no_grad():
        times = best_times(lambda: model(test_x).numpy(), lambda: integers(test_x).numpy(), repeats=5)
    print(f"{len(test_x)} images: {times[0]:.2f} ms in float32, {times[1]:.2f} ms in integers")
    step = cl.compile(classifier_step(model, optim.AdamW(model.parameters(), lr=3e-3)))
    compare(given, lambda: step(x[:BATCH], y[:BATCH]).item(), torch_step)
    return found


if __name__ == "__main__":
    results = main()
    assert results["float32"] >= GOAL
    assert results["int8, calibrated"] >= results["float32"] - 0.005
    assert results["int8, trained on"] >= results["float32"] - 0.005
