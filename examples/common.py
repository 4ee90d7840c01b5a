"""What the examples share: their options, and their time beside PyTorch's."""

from __future__ import annotations

import argparse
import importlib.util
import time
from collections.abc import Callable, Sequence
from typing import Any

import corelib as cl


def options(description: str | None, argv: Sequence[str] | None, **defaults: Any) -> argparse.Namespace:
    """The options of an example: ``--backend``, ``--seed``, ``--no-torch``, and one for each default."""
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    parser.add_argument("--backend", default="cpu", help="where to compute: cpu, reference, cuda, ...")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-torch", action="store_true", help="do not time PyTorch beside it")
    for name, value in defaults.items():
        parser.add_argument(f"--{name}", type=type(value), default=value, help=f"{value} unless given")
    found = parser.parse_args(argv)
    cl.set_backend(found.backend)
    cl.random.seed(found.seed)
    return found


def digits() -> tuple[cl.Tensor, cl.Tensor, cl.Tensor, cl.Tensor]:
    """scikit-learn's handwritten digits: 1437 images of shape (1, 8, 8) in [0, 1] and labels, then 360 to test."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order = cl.random.permutation(len(labels), generator=cl.random.Generator(0))
    x = cl.reshape(cl.asarray((images / 16).astype("float32")), (-1, 1, 8, 8))[order]
    y = cl.asarray(labels.astype("int64"))[order]
    return x[:1437], y[:1437], x[1437:], y[1437:]


def accuracy(model: Callable[..., cl.Tensor], x: cl.Tensor, y: cl.Tensor) -> float:
    """The share of samples whose largest output is at their label."""
    with cl.no_grad():
        right = cl.equal(cl.argmax(model(x), axis=1), y)
        return cl.mean(cl.astype(right, cl.float32)).item()


def classifier_step(model: Callable[..., cl.Tensor], optimizer: Any) -> Callable[..., cl.Tensor]:
    """A step on images and labels; it returns the loss."""

    def step(x: cl.Tensor, y: cl.Tensor) -> cl.Tensor:
        optimizer.zero_grad()
        loss = cl.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return step


def torch_classifier_step(batch: int, *layers: Any) -> Callable[[], Any]:
    """The same step of a chain of PyTorch's layers, on random images of shape (1, 8, 8)."""
    import torch

    net = torch.nn.Sequential(*layers)
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    x, y = torch.rand(batch, 1, 8, 8), torch.randint(10, (batch,))

    def step() -> float:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def best_times(*steps: Callable[[], Any], repeats: int = 30, seconds: float = 3.0) -> list[float]:
    """The shortest time of each step in milliseconds, of turns that fit into some seconds. A step has to end by reading
    a value, which waits for the device.
    """
    times: list[list[float]] = [[] for _ in steps]
    for step in steps:
        step()  # whatever is compiled or loaded once
    until = time.perf_counter() + seconds
    while not times[0] or (len(times[0]) < repeats and time.perf_counter() < until):
        for step, found in zip(steps, times, strict=True):
            started = time.perf_counter()
            step()
            found.append(time.perf_counter() - started)
    return [min(found) * 1e3 for found in times]


def compare(
    given: argparse.Namespace, ours: Callable[[], Any], theirs: Callable[[], Callable[[], Any]], what: str = "step"
) -> None:  # fmt: skip
    """Print the time of a step (or of ``what``), and of PyTorch's where it is installed, in turns; ``theirs()`` builds its step."""
    if given.no_torch or importlib.util.find_spec("torch") is None:
        print(f"one {what}: {best_times(ours)[0]:.2f} ms on {given.backend}")
        return
    mine, other = best_times(ours, theirs())
    print(f"one {what}: {mine:.2f} ms on {given.backend}, {other:.2f} ms with PyTorch on its CPU")
