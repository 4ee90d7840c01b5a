"""A training step of the MLP 784-256-10 at batch 128 with AdamW: time, and the peak of the tensors' memory."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

BATCH, SIZES = 128, (784, 256, 10)


def corelib_step() -> Callable[[], object]:
    """One step in corelib on ``cpu``."""
    import numpy as np

    import corelib as cl
    from corelib import nn, optim

    cl.random.seed(0)
    net = nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 10))
    optimizer = optim.AdamW(net.parameters(), lr=1e-3)
    draw = np.random.default_rng(0)
    x = cl.asarray(draw.standard_normal((BATCH, 784), np.float32))
    y = cl.asarray(draw.integers(0, 10, BATCH))

    def step() -> None:
        optimizer.zero_grad()
        cl.cross_entropy(net(x), y).backward()
        optimizer.step()

    return step


def torch_step() -> Callable[[], object]:
    """The same step in PyTorch, eager, with its default AdamW."""
    import numpy as np
    import torch

    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(784, 256), torch.nn.ReLU(), torch.nn.Linear(256, 10))
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
    draw = np.random.default_rng(0)
    x = torch.from_numpy(draw.standard_normal((BATCH, 784), np.float32))
    y = torch.from_numpy(draw.integers(0, 10, BATCH))

    def step() -> None:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()

    return step


def workloads() -> dict[str, dict[str, Callable[[], object]]]:
    """``{workload: {contestant: call}}``."""
    return {"MLP 784-256-10, batch 128, AdamW step": {"corelib": corelib_step(), "torch": torch_step()}}


def peak_memory() -> dict[str, int]:
    """Bytes of all tensors (parameters, gradients, moments, activations, temporaries) at the peak of a
    training step.

    corelib: what NumPy has allocated, buffers kept for reuse included, by tracemalloc. torch: live storages
    of the results of all ops.
    """
    import tracemalloc
    import weakref

    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    from corelib.registry import registry

    corelib_step()()  # whatever is loaded once does not count
    registry.get("cpu").empty_cache()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    step = corelib_step()
    for _ in range(4):
        step()
    tracemalloc.reset_peak()
    step()
    ours = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()

    class Counting(TorchDispatchMode):
        """Live bytes of the storages that ops return, and their peak."""

        def __init__(self) -> None:
            super().__init__()
            self.live, self.peak, self.known = 0, 0, {}

        def gone(self, key: int) -> None:
            self.live -= self.known.pop(key, 0)

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            out = func(*args, **(kwargs or {}))
            for t in out if isinstance(out, tuple | list) else [out]:
                storage = t.untyped_storage() if isinstance(t, torch.Tensor) else None
                if storage is not None and storage.data_ptr() and storage.data_ptr() not in self.known:
                    key = storage.data_ptr()
                    self.known[key] = storage.nbytes()
                    self.live += storage.nbytes()
                    self.peak = max(self.peak, self.live)
                    weakref.finalize(storage, self.gone, key)
            return out

    with Counting() as counting:
        step = torch_step()
        for _ in range(4):
            step()
        counting.peak = counting.live
        step()
    return {"corelib": ours, "torch": counting.peak}


def import_times(repeats: int = 9) -> dict[str, float]:
    """Median wall seconds of ``import corelib`` and ``import numpy`` in fresh processes, taking turns, the
    bare interpreter's taken off.
    """
    import statistics
    import time

    # NumPy came compiled; a checkout is compiled once, unless that is switched off.
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    times: dict[str, list[float]] = {"pass": [], "import corelib": [], "import numpy": []}
    for _ in range(repeats):
        for code, found in times.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True, env=env)
            found.append(time.perf_counter() - start)
    bare = statistics.median(times.pop("pass"))
    return {code.split()[-1]: statistics.median(found) - bare for code, found in times.items()}
