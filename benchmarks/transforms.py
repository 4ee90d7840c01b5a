"""Transformations beside torch.func: per-sample gradients, Jacobians, Hessians, and what batching adds to an op."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import corelib as cl

CHAIN = 50  # ops in the workloads that measure the cost of one


def _chain(v: Any) -> Any:
    for _ in range(CHAIN):
        v = v * 1.01
    return v


def _per_sample(sizes: tuple[int, int, int], batch: int) -> dict[str, Callable[[], object]]:
    """The gradient of each example's loss of a multilayer perceptron."""
    import numpy as np
    import torch
    from torch.nn import functional

    draw = np.random.default_rng(0)
    shapes = ((sizes[1], sizes[0]), (sizes[1],), (sizes[2], sizes[1]), (sizes[2],))
    weights = [draw.standard_normal(s, np.float32) / 16 for s in shapes]
    x, y = draw.standard_normal((batch, sizes[0]), np.float32), draw.integers(0, sizes[2], batch)

    def loss(w: Any, x: Any, y: Any) -> Any:
        return cl.cross_entropy(cl.ops.linear(cl.ops.relu(cl.ops.linear(x, w[0], w[1])), w[2], w[3]), y)

    def torch_loss(w: Any, x: Any, y: Any) -> Any:
        h = functional.relu(functional.linear(x, w[0], w[1]))
        return functional.cross_entropy(functional.linear(h, w[2], w[3]), y)

    axes = (None, 0, 0)
    ours, theirs = cl.vmap(cl.grad(loss), axes), torch.func.vmap(torch.func.grad(torch_loss), axes)
    compiled = cl.compile(ours)
    mine = ([cl.asarray(w) for w in weights], cl.asarray(x), cl.asarray(y))
    other = ([torch.from_numpy(w) for w in weights], torch.from_numpy(x), torch.from_numpy(y))
    for a, b in zip(ours(*mine), theirs(*other), strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-3, atol=1e-4)
    return {
        "corelib": lambda: ours(*mine),
        "torch.func": lambda: theirs(*other),
        "corelib, compiled": lambda: compiled(*mine),
    }


def workloads() -> dict[str, dict[str, Callable[[], object]]]:
    """``{workload: {contestant: call}}``."""
    import numpy as np
    import torch

    numbers = np.random.default_rng(0).standard_normal((8, 16), np.float32)
    x, tx = cl.asarray(numbers), torch.from_numpy(numbers)
    mapped, torch_mapped = cl.vmap(_chain), torch.func.vmap(_chain)

    def energy(v: Any) -> Any:
        return (cl.sin(v) * v * v.sum()).sum()

    def torch_energy(v: Any) -> Any:
        return (torch.sin(v) * v * v.sum()).sum()

    row, torch_row = x[0], tx[0]
    rows = {
        f"{CHAIN} products with a number, vmap": {
            "corelib": lambda: mapped(x), "torch.func": lambda: torch_mapped(tx), "corelib without vmap": lambda: _chain(x),
        },
        f"{CHAIN} products with a number, jvp": {
            "corelib": lambda: cl.jvp(_chain, (x,), (x,)), "torch.func": lambda: torch.func.jvp(_chain, (tx,), (tx,)),
        },
        "per-sample gradients, MLP 784-256-10, batch 128": _per_sample((784, 256, 10), 128),
        "per-sample gradients, MLP 16-32-4, batch 64": _per_sample((16, 32, 4), 64),
    }  # fmt: skip
    for name in ("jacrev", "jacfwd"):
        ours, theirs = (
            getattr(cl, name)(cl.softmax),
            getattr(torch.func, name)(lambda v: torch.softmax(v, -1)),
        )
        rows[f"{name} of softmax, 16 elements"] = {
            "corelib": lambda f=ours: f(row), "torch.func": lambda f=theirs: f(torch_row),
        }  # fmt: skip
    hessian, torch_hessian = cl.hessian(energy), torch.func.hessian(torch_energy)
    rows["Hessian, 16 elements"] = {
        "corelib": lambda: hessian(row), "torch.func": lambda: torch_hessian(torch_row)
    }  # fmt: skip
    rows["Hessian-vector product, 16 elements"] = {
        "corelib": lambda: cl.hvp(energy, (row,), (row,)),
        "torch.func": lambda: torch.func.jvp(torch.func.grad(torch_energy), (torch_row,), (torch_row,)),
    }
    return rows
