"""The training steps of three examples (``examples/``): LSTM, CNN and GPT, op by op and compiled, beside PyTorch's.

``python -m benchmarks --only models``. Each contestant runs in a process of its own, and they take turns
(``benchmarks/compile.py`` has the machinery). The models and the data are those of the examples, the steps of PyTorch
as well; ``torch.compile`` gets the whole step. Memory is told twice: what the process has grown by at its peak since
the model was made, compiled code included, and the bytes of all tensors (parameters, gradients, moments, activations,
temporaries) at the peak of a step.
"""

from __future__ import annotations

import argparse
import sys
import tracemalloc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import compile as whole

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
MODELS = {
    "lstm": "LSTM of 16 units, 12 months, batch 108",
    "cnn": "CNN on digits, batch 32",
    "gpt": "GPT of 2 blocks of width 96, batch 16 of 64",
}
CONTESTANTS = ("corelib", "corelib eager", "torch eager", "torch.compile")
TARGETS = {
    "corelib": {"torch eager": 2.0, "torch.compile": 1.5},
    "corelib eager": {"torch eager": 1.0},
}
MEMORY = 1.2  # ours to PyTorch's, at most
LETTERS, WIDTH, BATCH = 97, 96, 16  # of the GPT


def in_corelib(model: str, compiled: bool) -> Callable[[], Any]:
    """A step of an example in corelib on ``cpu``; it returns the loss as a number."""
    sys.path.insert(0, str(EXAMPLES))
    import corelib as cl
    from corelib import optim

    cl.set_backend("cpu")
    cl.random.seed(0)
    data: list[Any]
    if model == "lstm":
        import airline_lstm

        windows, growth, _ = airline_lstm.samples()
        cut = -airline_lstm.TEST
        net, data = airline_lstm.Forecaster(), [cl.asarray(windows[:cut]), cl.asarray(growth[:cut])]
        optimizer: Any = optim.Adam(net.parameters(), lr=1e-2)
        loss_of = lambda x, y: cl.mse_loss(net(x), y)
    elif model == "cnn":
        import digits_cnn

        net = digits_cnn.network()
        data = [cl.random.uniform((32, 1, 8, 8)), cl.random.integers(10, shape=(32,))]
        optimizer = optim.AdamW(net.parameters(), lr=3e-3)
        loss_of = lambda x, y: cl.cross_entropy(net(x), y)
    else:
        import gpt

        net = gpt.GPT(LETTERS, WIDTH)
        data = [cl.random.integers(LETTERS, shape=(BATCH, gpt.CONTEXT + 1))]
        optimizer = optim.AdamW(net.parameters(), lr=3e-3)
        loss_of = lambda x: cl.cross_entropy(net(x[:, :-1]).reshape((-1, LETTERS)), x[:, 1:].reshape((-1,)))

    def step(*batch: Any) -> Any:
        optimizer.zero_grad()
        loss = loss_of(*batch)
        loss.backward()
        optimizer.step()
        return loss

    run = cl.compile(step) if compiled else step
    return lambda: run(*data).item()


def in_torch(model: str, compiled: bool) -> Callable[[], Any]:
    """The same step in PyTorch, as its example has it."""
    sys.path.insert(0, str(EXAMPLES))
    import torch

    torch.manual_seed(0)
    if model == "lstm":
        from airline_lstm import torch_step as lstm

        step = lstm()
    elif model == "cnn":
        from digits_cnn import torch_step as cnn

        step = cnn()
    else:
        from gpt import torch_step as gpt

        step = gpt(LETTERS, WIDTH, BATCH)
    return torch.compile(step) if compiled else step


def made(model: str, contestant: str) -> Callable[[], Any]:
    """The step of a contestant."""
    return (in_corelib if contestant.startswith("corelib") else in_torch)(
        model, contestant in ("corelib", "torch.compile")
    )


# -- the memory of tensors -----------------------------------------------------------------------------------


def tensors_of_corelib(step: Callable[[], Callable[[], Any]]) -> int:
    """Bytes of tensors at the peak of a step: what NumPy has allocated, buffers kept for reuse included."""
    from corelib.registry import registry

    run = step()
    for _ in range(4):
        run()  # whatever is compiled or loaded once does not count
    del run
    registry.get("cpu").empty_cache()
    tracemalloc.start()
    before = _of_numpy()
    run = step()
    for _ in range(4):
        run()
    # tracemalloc keeps no peak of one domain alone: Python objects of a step are counted with the arrays
    tracemalloc.reset_peak()
    objects = tracemalloc.get_traced_memory()[0] - _of_numpy()
    run()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak - objects - before


def _of_numpy() -> int:
    """Bytes that NumPy has now."""
    domain = 389047  # NumPy's, of tracemalloc
    found = tracemalloc.take_snapshot().filter_traces([tracemalloc.DomainFilter(True, domain)])
    return sum(trace.size for trace in found.traces)


def tensors_of_torch(step: Callable[[], Callable[[], Any]]) -> int:
    """Bytes of the live storages of the results of all ops, at the peak of a step."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

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
        run = step()
        for _ in range(4):
            run()
        counting.peak = counting.live
        run()
    return counting.peak


# -- all of them ---------------------------------------------------------------------------------------------


def serve(model: str, contestant: str) -> None:
    """A contestant in this process, as ``benchmarks/compile.py`` asks; "tensors" in front of its name measures those."""
    kind, _, name = contestant.rpartition(":")
    if not kind:
        whole.serve(lambda: made(model, contestant), losses=True)
        return
    count = tensors_of_corelib if name.startswith("corelib") else tensors_of_torch
    whole.say(bytes=count(lambda: made(model, name)))


def run(only: list[str], rounds: int, seconds: float) -> tuple[str, dict[str, Any]]:
    """Every model, as text and as data."""
    results: dict[str, Any] = {}
    lines = [
        "| training step | | time | torch eager's | ratio | target | torch.compile's | ratio | target |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    memory = [
        "| training step | | tensors | torch eager's | share | process grown by | torch eager's | torch.compile's |",
        "|---|---|---|---|---|---|---|---|",
    ]
    missing = []
    for model in only:
        found = results[model] = whole.measured(
            model, list(CONTESTANTS), rounds, seconds, 300.0, module="benchmarks.models"
        )
        for name in ("corelib", "corelib eager", "torch eager"):
            process = whole.Process(model, f"tensors:{name}", "", module="benchmarks.models")
            found[name]["tensors"] = process.started.get("bytes")
            process.end()
        missing += [f"{MODELS[model]}: {n}: {f['missing']}" for n, f in found.items() if "missing" in f]
        for name, how in (("corelib", "compiled"), ("corelib eager", "op by op")):
            ours, cells, grown = found[name], [], []
            for peer in ("torch eager", "torch.compile"):
                theirs, target = found[peer], TARGETS[name].get(peer, "-")
                time = theirs.get("min")
                cells.append(f"{whole.time_of(time)} | {time / ours['min']:.2f} | {target}" if time else "missing | - | -")  # fmt: skip
                grown.append(whole.size_of(theirs["grown"]) if "grown" in theirs else "missing")
            lines.append(f"| {MODELS[model]} | {how} | {whole.time_of(ours['min'])} | {' | '.join(cells)} |")
            tensors, others = ours["tensors"], found["torch eager"]["tensors"]
            memory.append(
                f"| {MODELS[model]} | {how} | {whole.size_of(tensors)} | {whole.size_of(others)} | {tensors / others:.2f} | "
                f"{whole.size_of(ours['grown'])} | {' | '.join(grown)} |"
            )
        print(f"  {MODELS[model]}", file=sys.stderr)
    text = "\n".join([
        "# Training steps of three examples",
        "",
        "corelib on `cpu`, each contestant in a process of its own, taking turns; minima of one run, ratios above 1: corelib is",
        f"faster. The share of memory is to be at most {MEMORY}. Written by `python -m benchmarks --only models`.",
        "",
        *lines,
        "",
        *memory,
        "",
        *missing,
        "",
    ])  # fmt: skip
    return text, {"models": results, "targets": TARGETS, "memory": MEMORY}


def main() -> int:
    """Run some models and print the tables; or be one contestant."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.models", description=__doc__)
    parser.add_argument("--serve", nargs=2, metavar=("MODEL", "CONTESTANT"), help=argparse.SUPPRESS)
    parser.add_argument("--model", choices=MODELS, action="append")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=0.3, help="of one contestant's turn")
    options = parser.parse_args()
    if options.serve:
        serve(*options.serve)
        return 0
    print(run(options.model or list(MODELS), options.rounds, options.seconds)[0])
    return 0


if __name__ == "__main__":
    sys.exit(main())
