"""The cost of a call: small tensors, where only the framework is measured."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import corelib as cl

SIZE = 4


def _graph(x: Any, w: Any, tanh: Callable[[Any], Any]) -> Any:
    """Twenty ops on scalars."""
    for _ in range(5):
        x = tanh(x * w + w) - w
    return x


def workloads() -> dict[str, dict[str, Callable[[], object]]]:
    """``{workload: {contestant: call}}``."""
    import numpy as np
    import torch

    a, b = cl.ones(SIZE), cl.ones(SIZE)
    g = cl.ones(SIZE).requires_grad_()
    ta, tb = torch.ones(SIZE), torch.ones(SIZE)
    tg = torch.ones(SIZE, requires_grad=True)
    na, nb = np.ones(SIZE, np.float32), np.ones(SIZE, np.float32)
    x, w = cl.asarray(0.5).requires_grad_(), cl.asarray(0.25).requires_grad_()
    tx, tw = torch.tensor(0.5, requires_grad=True), torch.tensor(0.25, requires_grad=True)

    def ours() -> None:
        x.grad = w.grad = None
        _graph(x, w, cl.tanh).backward()

    def theirs() -> None:
        tx.grad = tw.grad = None
        _graph(tx, tw, torch.tanh).backward()

    return {
        "a + b": {"corelib": lambda: a + b, "torch": lambda: ta + tb, "numpy": lambda: na + nb},
        "a * 2.0": {"corelib": lambda: a * 2.0, "torch": lambda: ta * 2.0, "numpy": lambda: na * 2.0},
        "a + b, recorded": {"corelib": lambda: g + b, "torch": lambda: tg + tb},
        "a.sum()": {"corelib": lambda: a.sum(), "torch": lambda: ta.sum(), "numpy": lambda: na.sum()},
        "20 ops on scalars, forward": {
            "corelib": lambda: _graph(x, w, cl.tanh),
            "torch": lambda: _graph(tx, tw, torch.tanh),
        },
        "20 ops on scalars, forward and backward": {"corelib": ours, "torch": theirs},
    }
