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


def best_times(*steps: Callable[[], Any], repeats: int = 30, seconds: float = 3.0) -> list[float]:
    """The shortest time of each step in milliseconds, of turns that fit into some seconds. A step has to end by reading
    a value, which waits for the device.
    """
    times: list[list[float]] = [[] for _ in steps]
    until = time.perf_counter() + seconds
    while not times[0] or (len(times[0]) < repeats and time.perf_counter() < until):
        for step, found in zip(steps, times, strict=True):
            started = time.perf_counter()
            step()
            found.append(time.perf_counter() - started)
    return [min(found) * 1e3 for found in times]


def compare(
    given: argparse.Namespace, ours: Callable[[], Any], theirs: Callable[[], Callable[[], Any]]
) -> None:
    """Print the time of a step, and of PyTorch's where it is installed, in turns; ``theirs()`` builds its step."""
    if given.no_torch or importlib.util.find_spec("torch") is None:
        print(f"one step: {best_times(ours)[0]:.2f} ms on {given.backend}")
        return
    mine, other = best_times(ours, theirs())
    print(f"one step: {mine:.2f} ms on {given.backend}, {other:.2f} ms with PyTorch on its CPU")
