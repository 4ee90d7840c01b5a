"""Composites and their derivatives as generated kernels, beside the same steps kernel by kernel, and PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import corelib as cl

SIZE = 4096  # rows and columns: 64 MB of float32


def _stepwise() -> Any:
    """The cpu backend without generated kernels."""
    from corelib.plugin_api import registry
    from corelib_cpu.backend import CpuBackend

    class Stepwise(CpuBackend):
        fuse_from = 1 << 62

    return registry.attach(Stepwise("stepwise"))


def workloads() -> dict[str, dict[str, Callable[[], object]]]:
    """For each workload its contestants."""
    import numpy as np
    import torch
    from torch.nn import functional

    from corelib.plugin_api import registry
    from corelib.tensor import wrap

    draw = np.random.default_rng(0)
    x, g = (draw.standard_normal((SIZE, SIZE), np.float32) for _ in range(2))
    w, labels = x[0].copy(), draw.integers(0, SIZE, SIZE)
    numbers = [np.float32(v) for v in (1e-3, 1e-8, 0.99)]

    def ours(backend: Any) -> dict[str, Callable[[], object]]:
        put = lambda a: wrap(cl.asarray(a, device="cpu")._data, backend)
        X, G, W, L = map(put, (x, g, w, labels))
        leaf, weight, bias = (put(a).requires_grad_() for a in (x, w, w))
        state = [put(a.copy()) for a in (x, g, x * x)]
        scalars = [put(v) for v in numbers]

        def back(f: Callable[[], Any], *given: Any) -> Callable[[], None]:
            def run() -> None:
                f().backward(*given)
                leaf.grad = weight.grad = bias.grad = None

            return run

        def adamw() -> None:
            p, m, v = state
            state[:] = ()
            state.extend(cl.ops.adamw_update(p, G, m, v, *scalars, beta1=0.9, beta2=0.99, overwrite=True))

        return {
            "gelu": lambda: cl.ops.gelu(X),
            "gelu, tanh": lambda: cl.ops.gelu(X, approximate="tanh"),
            "softmax": lambda: cl.softmax(X),
            "layer_norm": lambda: cl.ops.layer_norm(X, W, W),
            "cross_entropy": lambda: cl.cross_entropy(X, L),
            "gelu, with gradient": back(lambda: cl.ops.gelu(leaf), G),
            "softmax, with gradient": back(lambda: cl.softmax(leaf), G),
            "layer_norm, with gradients": back(lambda: cl.ops.layer_norm(leaf, weight, bias), G),
            "cross_entropy, with gradient": back(lambda: cl.cross_entropy(leaf, L)),
            "adamw_update": adamw,
        }

    tx, tg, tw, tl = map(torch.from_numpy, (x, g, w, labels))
    leaf, weight, bias = (t.clone().requires_grad_() for t in (tx, tw, tw))
    parameter = torch.nn.Parameter(tx.clone())
    parameter.grad = tg
    optimizer = torch.optim.AdamW([parameter], fused=True)

    def back(f: Callable[[], Any], *given: Any) -> Callable[[], None]:
        def run() -> None:
            f().backward(*given)
            leaf.grad = weight.grad = bias.grad = None

        return run

    theirs = {
        "gelu": lambda: functional.gelu(tx),
        "gelu, tanh": lambda: functional.gelu(tx, approximate="tanh"),
        "softmax": lambda: torch.softmax(tx, -1),
        "layer_norm": lambda: functional.layer_norm(tx, (SIZE,), tw, tw),
        "cross_entropy": lambda: functional.cross_entropy(tx, tl),
        "gelu, with gradient": back(lambda: functional.gelu(leaf), tg),
        "softmax, with gradient": back(lambda: torch.softmax(leaf, -1), tg),
        "layer_norm, with gradients": back(lambda: functional.layer_norm(leaf, (SIZE,), weight, bias), tg),
        "cross_entropy, with gradient": back(lambda: functional.cross_entropy(leaf, tl)),
        "adamw_update": optimizer.step,
    }
    fused, stepwise = ours(registry.get("cpu")), ours(_stepwise())
    return {
        name: {"corelib": f, "step by step": stepwise[name], "torch": theirs[name]}
        for name, f in fused.items()
    }
