"""Training steps on a GPU: a small network, and a transformer of GPT-2's shape in bfloat16; each step is one CUDA graph.

PyTorch trains the same parameters on the same batches, and the losses of both stand in the JSON file.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np


class Shape(NamedTuple):
    """Of the transformer."""

    layers: int = 12
    width: int = 768
    heads: int = 12
    length: int = 1024
    batch: int = 16
    words: int = 50304


TINY = Shape(layers=1, width=16, heads=2, length=8, batch=2, words=32)
RATE, BETAS, EPS, DECAY = 3e-4, (0.9, 0.95), 1e-8, 0.1


def rows(
    cl: Any, dry: bool, clock: Any, torch_clock: Callable[[Any], Any], row: Callable[..., Any]
) -> Iterator[Any]:
    """Both trainings, ours beside PyTorch's."""
    shape, steps = (TINY, 4) if dry else (Shape(), 20)
    sizes = (12, 8, 3, 4) if dry else (784, 256, 10, 128)
    trainings = (
        ("MLP", "<= 60 us", sizes[3], mlp_parameters(sizes), lambda: mlp_batches(sizes, steps), lambda m: mlp(m, cl, sizes)),
        (f"transformer, {shape.layers} x {shape.width}, bfloat16", ">= 350k tokens/s", shape.batch * shape.length, gpt_parameters(shape),
         lambda: gpt_batches(shape, steps), lambda m: gpt(m, cl, shape)),
    )  # fmt: skip
    for name, goal, count, parameters, batches, model in trainings:
        half = name != "MLP"
        took, losses, unit = {}, {}, "tokens/s" if half else "examples/s"
        notes = [f"goal {goal}"]
        for who in ("corelib", "torch"):
            try:
                if who == "corelib":
                    step, losses[who] = in_corelib(cl, model("corelib"), parameters, batches())
                    call, used = step, clock
                else:
                    import torch

                    place = "cpu" if dry else "cuda"
                    call, losses[who] = in_torch(torch, model("torch"), parameters, batches(), half, place)
                    used = torch_clock(torch)
                took[who] = used.time(call, 0.0 if dry else 0.5)
            except Exception as error:  # PyTorch is not installed, or there is no memory left
                notes.append(f"{who}: {type(error).__name__}: {str(error)[:200]}")
        ours = took.get("corelib")
        said = []
        if ours and not dry:
            said = [f"{1e6 * ours:.0f} us a step", f"{count / ours:.3g} {unit}"]
        if ours:
            said.append(f"loss {losses['corelib'][0]:.3f} to {losses['corelib'][-1]:.3f}")
        if len(losses) == 2:
            apart = max(abs(a - b) for a, b in zip(*losses.values(), strict=True))
            said.append(f"at most {apart:.1e} from torch's")
        if len(took) == 2 and not dry:
            said.append(f"{took['torch'] / took['corelib']:.2f} of torch eager")
        yield row(
            name,
            ", ".join(said) or "FAILED",
            "; ".join(notes),
            seconds={} if dry else took,
            losses=losses,
            ok=ours is not None,
        )


# ------------------------------------------------------------------------------------------------- parameters, batches


def mlp_parameters(sizes: Any) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    inputs, hidden, classes, _ = sizes
    normal = lambda *shape: (rng.standard_normal(shape) * 0.05).astype(np.float32)
    return {"0.weight": normal(hidden, inputs), "0.bias": np.zeros(hidden, "f4"), "2.weight": normal(classes, hidden), "2.bias": np.zeros(classes, "f4")}  # fmt: skip


def mlp_batches(sizes: Any, steps: int) -> Iterator[tuple[Any, Any]]:
    inputs, _, classes, batch = sizes
    rng = np.random.default_rng(1)
    for _ in range(steps):
        yield rng.standard_normal((batch, inputs), np.float32), rng.integers(0, classes, batch)


def gpt_parameters(s: Shape) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    normal = lambda *shape: (rng.standard_normal(shape) * 0.02).astype(np.float32)
    zeros, ones = (lambda n: np.zeros(n, np.float32)), (lambda n: np.ones(n, np.float32))
    found = {"words.weight": normal(s.words, s.width), "places.weight": normal(s.length, s.width)}
    for i in range(s.layers):
        for part, wide, deep in (("qkv", 3, 1), ("project", 1, 1), ("up", 4, 1), ("down", 1, 4)):
            found[f"blocks.{i}.{part}.weight"] = normal(wide * s.width, deep * s.width)
            found[f"blocks.{i}.{part}.bias"] = zeros(wide * s.width)
        for part in ("before", "between"):
            found |= {f"blocks.{i}.{part}.weight": ones(s.width), f"blocks.{i}.{part}.bias": zeros(s.width)}
    return found | {
        "last.weight": ones(s.width),
        "last.bias": zeros(s.width),
        "head.weight": normal(s.words, s.width),
    }


def gpt_batches(s: Shape, steps: int) -> Iterator[tuple[Any, Any]]:
    """Words that follow one another in a fixed way, so that there is something to learn."""
    rng = np.random.default_rng(1)
    for _ in range(steps):
        first = rng.integers(0, s.words, (s.batch, 1))
        text = (first + 7 * np.arange(s.length + 1)) % s.words
        yield text[:, :-1], text[:, 1:].reshape(-1)


# ----------------------------------------------------------------------------------------------- models, in both libraries


def mlp(which: str, cl: Any, sizes: Any) -> Any:
    nn = cl.nn if which == "corelib" else __import__("torch").nn
    return nn.Sequential(nn.Linear(sizes[0], sizes[1]), nn.ReLU(), nn.Linear(sizes[1], sizes[2]))


def gpt(which: str, cl: Any, s: Shape) -> Any:
    """The same text for both: what differs is who permutes, attends, activates and casts."""
    if which == "corelib":
        nn = cl.nn
        permute = lambda x: cl.permute_dims(x, (0, 2, 1, 3))
        attend = lambda q, k, v: cl.ops.scaled_dot_product_attention(q, k, v, causal=True)
        gelu = lambda x: cl.gelu(x, approximate="tanh")

        def use(layer: Any, x: Any) -> Any:
            """As PyTorch's autocast: products in bfloat16, of parameters that stay float32; normalisation in float32."""
            if isinstance(layer, nn.LayerNorm):
                return layer(x.astype("float32"))
            y = x.astype("bfloat16") @ cl.permute_dims(layer.weight.astype("bfloat16"), (1, 0))
            return y if layer.bias is None else y + layer.bias.astype("bfloat16")
    else:
        torch = __import__("torch")
        nn = torch.nn
        permute = lambda x: x.permute(0, 2, 1, 3)
        attend = lambda q, k, v: nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        gelu = lambda x: nn.functional.gelu(x, approximate="tanh")
        use = lambda layer, x: layer(x)

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.before, self.between = nn.LayerNorm(s.width), nn.LayerNorm(s.width)
            self.qkv, self.project = nn.Linear(s.width, 3 * s.width), nn.Linear(s.width, s.width)
            self.up, self.down = nn.Linear(s.width, 4 * s.width), nn.Linear(4 * s.width, s.width)

        def forward(self, x: Any) -> Any:
            split = use(self.qkv, use(self.before, x)).reshape(
                (s.batch, s.length, 3, s.heads, s.width // s.heads)
            )
            q, k, v = (permute(split[:, :, i]) for i in range(3))
            x = x + use(self.project, permute(attend(q, k, v)).reshape((s.batch, s.length, s.width)))
            return x + use(self.down, gelu(use(self.up, use(self.between, x))))

    class GPT(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.places = nn.Embedding(s.words, s.width), nn.Embedding(s.length, s.width)
            self.blocks = nn.ModuleList([Block() for _ in range(s.layers)])
            self.last, self.head = nn.LayerNorm(s.width), nn.Linear(s.width, s.words, bias=False)

        def forward(self, x: Any) -> Any:
            h = self.words(x) + self.places.weight
            for block in self.blocks:
                h = block(h)
            return use(self.head, use(self.last, h)).reshape((s.batch * s.length, s.words))

    return GPT()


# -------------------------------------------------------------------------------------------------------------- training


def in_corelib(cl: Any, model: Any, parameters: Any, batches: Any) -> tuple[Callable[[], Any], list[float]]:
    """(one more step with the last batch, the losses)."""
    import corelib_cuda

    model.load_state_dict(parameters)
    optimizer = cl.optim.AdamW(model.parameters(), lr=RATE, betas=BETAS, eps=EPS, weight_decay=DECAY)

    @corelib_cuda.graph
    def step(x: Any, labels: Any) -> Any:
        loss = cl.cross_entropy(model(x).astype("float32"), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    losses, given = [], ()
    for batch in batches:
        given = tuple(map(cl.asarray, batch))
        losses.append(step(*given))
    step.check()
    return lambda: step(*given), [float(x.item()) for x in losses]


def in_torch(
    torch: Any, model: Any, parameters: Any, batches: Any, half: bool, place: str
) -> tuple[Callable[[], Any], list[float]]:
    """The same, run eagerly, under autocast for bfloat16."""
    model = model.to(place)
    model.load_state_dict({k: torch.as_tensor(v) for k, v in parameters.items()})
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=RATE, betas=BETAS, eps=EPS, weight_decay=DECAY, fused=place == "cuda"
    )

    def step(x: Any, labels: Any) -> Any:
        with torch.autocast(place, torch.bfloat16, enabled=half):
            loss = torch.nn.functional.cross_entropy(model(x).float(), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    losses, given = [], ()
    for batch in batches:
        given = tuple(torch.as_tensor(a).to(place) for a in batch)
        losses.append(step(*given))
    found = [float(x) for x in losses]
    assert all(map(math.isfinite, found)), "PyTorch's losses are not finite"
    return lambda: step(*given), found
