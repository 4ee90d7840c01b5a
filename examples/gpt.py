"""A small GPT learns to write, character by character, like Python's own help texts.

The text is what ``help()`` shows of the language (``pydoc_data.topics``, 460,000 characters, with every copy of
Python). Two blocks of causal attention and a perceptron, as in GPT-2 (Radford et al., 2019), with the norm
first; the step is compiled. After 600 steps the loss on text that it has not seen is below 2 nats per character
(guessing by how often a character comes is at 3.1).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pydoc_data.topics import topics
from typing import Any

import numpy as np
from common import compare, options

import corelib as cl
from corelib import nn, optim

CONTEXT, HEADS, BLOCKS = 64, 4, 2


class Block(nn.Module):
    """Attention to what came before, then a perceptron, each added to what it got."""

    def __init__(self, width: int) -> None:
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attend, self.project = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.think = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: cl.Tensor) -> cl.Tensor:
        """x of shape (N, T, width), and the same shape."""
        n, t, width = x.shape
        parts = cl.reshape(self.attend(self.norm1(x)), (n, t, 3, HEADS, width // HEADS))
        q, k, v = (cl.permute_dims(parts[:, :, i], (0, 2, 1, 3)) for i in range(3))
        y = cl.scaled_dot_product_attention(q, k, v, causal=True)
        x = x + self.project(cl.reshape(cl.permute_dims(y, (0, 2, 1, 3)), (n, t, width)))
        return x + self.think(self.norm2(x))


class GPT(nn.Module):
    """Characters to the logits of the next ones."""

    def __init__(self, letters: int, width: int) -> None:
        self.tokens, self.places = nn.Embedding(letters, width), nn.Embedding(CONTEXT, width)
        self.blocks = [Block(width) for _ in range(BLOCKS)]
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, letters)

    def forward(self, x: cl.Tensor) -> cl.Tensor:
        """x of shape (N, T), T up to CONTEXT, to (N, T, letters)."""
        y = self.tokens(x) + self.places(cl.arange(x.shape[1], device=x.device))
        for block in self.blocks:
            y = block(y)
        return self.head(self.norm(y))

    def write(self, start: list[int], count: int, generator: Any, temperature: float = 0.8) -> list[int]:
        """``start`` and ``count`` characters more, drawn from what the model gives (Gumbel's trick)."""
        found = list(start)
        with cl.no_grad():
            for _ in range(count):
                logits = self(cl.asarray([found[-CONTEXT:]]))[0, -1] / temperature
                u = cl.random.uniform(logits.shape, generator=generator, device=logits.device)
                noise = -cl.log(-cl.log(cl.maximum(u, 1e-7)))
                found.append(int(cl.argmax(logits + noise).item()))
        return found


def torch_step(letters: int, width: int, batch: int) -> Callable[[], Any]:
    """A step of the same model in PyTorch."""
    import torch

    layer = torch.nn.TransformerEncoderLayer(width, HEADS, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True)  # fmt: skip
    body = torch.nn.TransformerEncoder(layer, BLOCKS, torch.nn.LayerNorm(width), enable_nested_tensor=False)
    ends = (
        torch.nn.Embedding(letters, width),
        torch.nn.Embedding(CONTEXT, width),
        torch.nn.Linear(width, letters),
    )
    parts = torch.nn.ModuleList([*ends[:2], body, ends[2]])
    optimizer = torch.optim.AdamW(parts.parameters(), lr=3e-3)
    mask = torch.nn.Transformer.generate_square_subsequent_mask(CONTEXT)
    x = torch.randint(letters, (batch, CONTEXT + 1))

    def step() -> float:
        optimizer.zero_grad()
        y = parts[2](parts[0](x[:, :-1]) + parts[1](torch.arange(CONTEXT)), mask, is_causal=True)
        loss = torch.nn.functional.cross_entropy(parts[3](y).reshape(-1, letters), x[:, 1:].reshape(-1))
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Run; the result."""
    given = options(__doc__, argv, steps=600, write=200, width=96, batch=16)
    words = "\n".join(topics[name] for name in sorted(topics))
    letters = sorted(set(words))
    numbers = np.searchsorted(letters, list(words)).astype("int64")
    cut = len(numbers) * 9 // 10
    parts = {"train": cl.asarray(numbers[:cut]), "test": cl.asarray(numbers[cut:])}

    def batch(part: str, generator: Any = None) -> cl.Tensor:
        """Pieces of CONTEXT + 1 characters from random places."""
        room = parts[part].shape[0] - CONTEXT
        first = cl.random.integers(room, shape=(given.batch, 1), generator=generator)
        return parts[part][first + cl.arange(CONTEXT + 1)]

    model = GPT(len(letters), given.width)
    optimizer = optim.AdamW(model.parameters(), lr=3e-3)
    cycle = {"pct_start": 0.1, "cycle_momentum": False}
    schedule = optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, max(given.steps, 2), **cycle)

    def loss_of(x: cl.Tensor) -> cl.Tensor:
        return cl.cross_entropy(model(x[:, :-1]).reshape((-1, len(letters))), x[:, 1:].reshape((-1,)))

    @cl.compile
    def step(x: cl.Tensor) -> cl.Tensor:
        optimizer.zero_grad()
        loss = loss_of(x)
        loss.backward()
        optimizer.step()
        return loss

    started = time.perf_counter()
    for i in range(given.steps):
        loss = step(batch("train"))
        schedule.step()
        if i % 100 == 0:
            print(f"step {i}: loss {loss.item():.3f}")
    seconds = time.perf_counter() - started
    unseen = cl.random.Generator(1)
    with cl.no_grad():
        test = sum(loss_of(batch("test", unseen)).item() for _ in range(given.batch)) / given.batch
    print(f"{given.steps} steps in {seconds:.0f} s on {given.backend}: {test:.3f} nats per unseen character")
    said = model.write(numbers[:20].tolist(), given.write, cl.random.Generator(2))
    print("".join(letters[i] for i in said))
    x = batch("train")
    compare(given, lambda: step(x).item(), lambda: torch_step(len(letters), given.width, given.batch))
    return {"loss": test, "first": float(np.log(len(letters))), "text": "".join(letters[i] for i in said)}


if __name__ == "__main__":
    assert main()["loss"] < 2.0, "the loss on unseen text is not below 2 nats"
