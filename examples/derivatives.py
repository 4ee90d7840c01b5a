"""Derivatives of derivatives at work: a gradient penalty, Hessian-vector products, a physics-informed network.

1. The distance of two clouds of points, by a critic whose gradient by its *input* is kept near 1 by a penalty in
   the loss (Gulrajani et al., arXiv:1704.00028). One cloud is the other one moved by 2, so the distance is 2.
2. Newton's direction of a loss by conjugate gradients on Hessian-vector products: the Hessian is never there.
3. A network u(t) learns the damped oscillator u'' + 0.4 u' + 4 u = 0, u(0) = 1, u'(0) = 0, from the equation
   alone (Raissi et al., 2019): its derivatives by t are part of the loss.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

from common import compare, options

import corelib as cl
from corelib import nn, optim


def distance(steps: int) -> tuple[float, float, Callable[[], float]]:
    """Train a critic; the Wasserstein distance it finds, the mean size of its gradient, and one more step."""
    a = cl.random.normal((128, 2))
    b = a + cl.asarray([1.2, 1.6])
    critic = nn.Sequential(nn.Linear(2, 64), nn.Tanh(), nn.Linear(64, 1))
    optimizer = optim.Adam(critic.parameters(), lr=0.01)
    by_input = cl.grad(lambda points: cl.sum(critic(points)))  # each value depends on its own point alone

    def slopes(share: cl.Tensor) -> cl.Tensor:
        """The size of the critic's gradient between the clouds."""
        return cl.sqrt(cl.sum(by_input(a + share * (b - a)) ** 2, axis=1))

    @cl.compile
    def step(share: cl.Tensor) -> cl.Tensor:
        optimizer.zero_grad()
        found = cl.mean(critic(b)) - cl.mean(critic(a))
        (50 * cl.mean((slopes(share) - 1) ** 2) - found).backward()  # through the gradient by the input
        optimizer.step()
        return found

    for _ in range(steps):
        found = step(cl.random.uniform((128, 1)))
    share = cl.random.uniform((128, 1))
    return found.item(), cl.mean(slopes(share)).item(), lambda: step(share).item()


def torch_step() -> Callable[[], Any]:
    """A step of the critic in PyTorch."""
    import torch

    a, share = torch.randn(128, 2), torch.rand(128, 1)
    b = a + torch.tensor([1.2, 1.6])
    critic = torch.nn.Sequential(torch.nn.Linear(2, 64), torch.nn.Tanh(), torch.nn.Linear(64, 1))
    optimizer = torch.optim.Adam(critic.parameters(), lr=0.01)

    def step() -> float:
        optimizer.zero_grad()
        found = critic(b).mean() - critic(a).mean()
        points = (a + share * (b - a)).requires_grad_()
        (slope,) = torch.autograd.grad(critic(points).sum(), points, create_graph=True)
        (50 * (((slope**2).sum(1).sqrt() - 1) ** 2).mean() - found).backward()
        optimizer.step()
        return found.item()

    return step


def newton() -> float:
    """One Newton step on a convex loss of 6 parameters; the size of the gradient after it, relative to before."""
    draw = cl.random.Generator(0)
    a, b = (
        cl.random.normal((30, 6), dtype=cl.float64, generator=draw),
        cl.random.normal((30,), dtype=cl.float64, generator=draw),
    )

    def loss(w: cl.Tensor) -> cl.Tensor:
        return cl.mean((a @ w - b) ** 2) + 0.05 * cl.sum(w * w)

    w = cl.ones(6, dtype=cl.float64)
    gradient = cl.grad(loss)
    g = gradient(w)
    x, residual = cl.zeros_like(w), -g  # H x = -g
    direction, square = residual, cl.sum(residual * residual)
    for _ in range(6):  # conjugate gradients end after as many steps as there are parameters
        _, (curved,) = cl.vjp(gradient, w)[0], cl.vjp(gradient, w)[1](direction)
        rate = square / cl.sum(direction * curved)
        x, residual = x + rate * direction, residual - rate * curved
        new = cl.sum(residual * residual)
        direction, square = residual + (new / square) * direction, new
    after = gradient(w + x)
    return (cl.sum(after * after) / cl.sum(g * g)).item() ** 0.5


def oscillator(steps: int) -> float:
    """Train the network on the equation; its largest error against the solution on [0, 3]."""
    cl.random.seed(0)
    model = nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1))
    t = cl.linspace(0, 3, 60)
    optimizer = optim.Adam(model.parameters(), lr=5e-3)
    schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, max(steps, 1))

    def u(t: cl.Tensor) -> cl.Tensor:
        return (
            1 + t * t * model(cl.reshape(t, (-1, 1)))[:, 0]
        )  # u(0) = 1 and u'(0) = 0 whatever the network says

    velocity = cl.grad(lambda t: cl.sum(u(t)))  # each u depends on its own t alone
    acceleration = cl.grad(lambda t: cl.sum(velocity(t)))

    @cl.compile
    def step() -> cl.Tensor:
        optimizer.zero_grad()
        loss = cl.mean((acceleration(t) + 0.4 * velocity(t) + 4 * u(t)) ** 2)
        loss.backward()
        optimizer.step()
        return loss

    for _ in range(steps):
        step()
        schedule.step()
    omega = math.sqrt(4 - 0.04)
    exact = cl.exp(-0.2 * t) * (cl.cos(omega * t) + 0.2 / omega * cl.sin(omega * t))
    return cl.max(cl.abs(u(t) - exact)).item()


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    """Run; the result."""
    given = options(__doc__, argv, steps=1500)
    started = time.perf_counter()
    found, slope, step = distance(given.steps // 3)
    print(f"distance of the clouds {found:.3f} (it is 2), size of the critic's gradient {slope:.3f}")
    left = newton()
    print(f"Newton's step by Hessian-vector products leaves {left:.1e} of the gradient")
    error = oscillator(given.steps)
    print(
        f"oscillator from its equation: largest error {error:.4f}; {time.perf_counter() - started:.1f} s on {given.backend}"
    )
    compare(given, step, torch_step)
    return {"distance": found, "slope": slope, "newton": left, "oscillator": error}


if __name__ == "__main__":
    found = main()
    assert abs(found["distance"] - 2) < 0.2
    assert abs(found["slope"] - 1) < 0.1
    assert found["newton"] < 1e-9
    assert found["oscillator"] < 0.02
