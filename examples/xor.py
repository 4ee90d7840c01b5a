"""XOR twice: with a derivative engine of 30 lines on Python floats, and with corelib.

The first part is what happens inside corelib, for one number at a time: each operation remembers its operands
and its derivatives, and the walk back multiplies and adds them. Both parts learn the same network from the
same numbers, so their losses are the same.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

from common import compare, options

import corelib as cl

TABLE = [((0.0, 0.0), 0.0), ((0.0, 1.0), 1.0), ((1.0, 0.0), 1.0), ((1.0, 1.0), 0.0)]
HIDDEN, RATE = 4, 0.5


class Number:
    """A number that knows how it was computed: operands, and the derivative by each."""

    def __init__(self, value: float, operands: tuple[Number, ...] = (), slopes: tuple[float, ...] = ()):
        self.value, self.operands, self.slopes, self.grad = value, operands, slopes, 0.0

    def __add__(self, other: Number) -> Number:
        return Number(self.value + other.value, (self, other), (1.0, 1.0))

    def __mul__(self, other: Number) -> Number:
        return Number(self.value * other.value, (self, other), (other.value, self.value))

    def tanh(self) -> Number:
        y = math.tanh(self.value)
        return Number(y, (self,), (1 - y * y,))

    def backward(self) -> None:
        """Add the derivative of this number to ``grad`` of every number it was computed from."""
        order: list[Number] = []
        seen: set[int] = set()

        def visit(x: Number) -> None:
            if id(x) not in seen:
                seen.add(id(x))
                for operand in x.operands:
                    visit(operand)
                order.append(x)

        visit(self)
        self.grad = 1.0
        for x in reversed(order):  # a number before those that it was computed from
            for operand, slope in zip(x.operands, x.slopes, strict=True):
                operand.grad += slope * x.grad


def start(seed: int) -> tuple[list[list[float]], list[float]]:
    """First weights: of each hidden unit (two inputs and a bias), and of the output."""
    draw = random.Random(seed)
    return [[draw.uniform(-1, 1) for _ in range(3)] for _ in range(HIDDEN)], [
        draw.uniform(-1, 1) for _ in range(HIDDEN + 1)
    ]


def by_hand(steps: int, seed: int) -> list[float]:
    """The loss after every step, one number at a time."""
    rows, last = start(seed)
    hidden = [[Number(w) for w in row] for row in rows]
    output = [Number(w) for w in last]
    losses = []
    for _ in range(steps):
        loss = Number(0.0)
        for (a, b), target in TABLE:
            y = output[-1]
            for (w1, w2, bias), w in zip(hidden, output, strict=False):
                y = y + w * (w1 * Number(a) + w2 * Number(b) + bias).tanh()
            error = y + Number(-target)
            loss = loss + error * error * Number(0.25)
        loss.backward()
        for w in [*output, *(w for row in hidden for w in row)]:
            w.value, w.grad = w.value - RATE * w.grad, 0.0
        losses.append(loss.value)
    return losses


def corelib_step(rows: list[list[float]], last: list[float]) -> Callable[[], float]:
    """The same with tensors, the four rows of the table at once: a function that makes a step and returns the loss."""
    hidden, output = (cl.asarray(w, dtype=cl.float64).requires_grad_() for w in (rows, last))
    x = cl.asarray([[*pair, 1.0] for pair, _ in TABLE], dtype=cl.float64)
    targets = cl.asarray([t for _, t in TABLE], dtype=cl.float64)

    def step() -> float:
        y = cl.tanh(x @ hidden.T) @ output[:-1] + output[-1]
        loss = cl.mean((y - targets) ** 2)
        loss.backward()
        with cl.no_grad():
            for w in (hidden, output):
                w -= RATE * w.grad
                w.grad = None
        return loss.item()

    return step


def torch_step(rows: list[list[float]], last: list[float]) -> Callable[[], float]:
    """The same step in PyTorch."""
    import torch

    hidden, output = (torch.tensor(w, dtype=torch.float64, requires_grad=True) for w in (rows, last))
    x = torch.tensor([[*pair, 1.0] for pair, _ in TABLE], dtype=torch.float64)
    targets = torch.tensor([t for _, t in TABLE], dtype=torch.float64)

    def step() -> float:
        y = torch.tanh(x @ hidden.T) @ output[:-1] + output[-1]
        loss = ((y - targets) ** 2).mean()
        loss.backward()
        with torch.no_grad():
            for w in (hidden, output):
                w -= RATE * w.grad
                w.grad = None
        return loss.item()

    return step


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    """Run; the result."""
    given = options(__doc__, argv, steps=600)
    begin = start(given.seed)
    step = corelib_step(*begin)
    ours, theirs = by_hand(given.steps, given.seed), [step() for _ in range(given.steps)]
    apart = max(abs(a - b) for a, b in zip(ours, theirs, strict=True))
    print(f"loss by hand {ours[-1]:.6f}, by corelib {theirs[-1]:.6f}, largest difference {apart:.1e}")
    compare(given, step, lambda: torch_step(*begin))
    return {"loss": theirs[-1], "difference": apart}


if __name__ == "__main__":
    found = main()
    assert found["loss"] < 1e-6
    assert found["difference"] < 1e-11
