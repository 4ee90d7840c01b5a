"""The programs that ``compile.py`` times, in corelib, PyTorch and JAX: the same arithmetic, the same parameters to start
from, the same data. Each function here returns a function of no arguments that makes one call, and of training steps
returns the loss.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

Call = Callable[[], Any]
LAYERS, WIDTH, HEADS, LENGTH, BATCH, WORDS = 4, 256, 4, 128, 8, 256  # the GPT
STEPS, HIDDEN, SEQUENCES = 12, 32, 32  # the LSTM
SIDE, ROUNDS = 1024, 4  # Gray-Scott
RATE, BETAS, EPS, DECAY = 1e-3, (0.9, 0.999), 1e-8, 1e-2  # AdamW


def parameters(name: str) -> dict[str, Any]:
    """Names (PyTorch's) and first values of the parameters of a model."""
    rng = np.random.default_rng(0)
    normal = lambda *shape: (rng.standard_normal(shape) * 0.05).astype(np.float32)
    zeros, ones = lambda n: np.zeros(n, np.float32), lambda n: np.ones(n, np.float32)
    if name == "mlp":
        return {
            "0.weight": normal(256, 784),
            "0.bias": zeros(256),
            "2.weight": normal(10, 256),
            "2.bias": zeros(10),
        }
    if name == "lstm":
        return {
            "input.weight": normal(4 * HIDDEN, HIDDEN), "input.bias": zeros(4 * HIDDEN), "hidden.weight": normal(4 * HIDDEN, HIDDEN),
            "out.weight": normal(10, HIDDEN), "out.bias": zeros(10),
        }  # fmt: skip
    found = {"words.weight": normal(WORDS, WIDTH), "places.weight": normal(LENGTH, WIDTH)}
    for i in range(LAYERS):
        for part, wide, deep in (("qkv", 3, 1), ("project", 1, 1), ("up", 4, 1), ("down", 1, 4)):
            found[f"blocks.{i}.{part}.weight"] = normal(wide * WIDTH, deep * WIDTH)
            found[f"blocks.{i}.{part}.bias"] = zeros(wide * WIDTH)
        for part in ("before", "between"):
            found |= {f"blocks.{i}.{part}.weight": ones(WIDTH), f"blocks.{i}.{part}.bias": zeros(WIDTH)}
    return found | {
        "last.weight": ones(WIDTH),
        "last.bias": zeros(WIDTH),
        "head.weight": normal(WORDS, WIDTH),
    }


def batch(name: str) -> tuple[Any, ...]:
    """The data of one step."""
    rng = np.random.default_rng(1)
    if name == "mlp":
        return rng.standard_normal((128, 784), np.float32), rng.integers(0, 10, 128)
    if name == "lstm":
        return rng.standard_normal((STEPS, SEQUENCES, HIDDEN), np.float32), rng.integers(0, 10, SEQUENCES)
    if name == "gpt":
        return rng.integers(0, WORDS, (BATCH, LENGTH)), rng.integers(0, WORDS, BATCH * LENGTH)
    if name == "gray_scott":
        u, v = np.ones((SIDE, SIDE), np.float32), np.zeros((SIDE, SIDE), np.float32)
        v[SIDE // 4 : SIDE // 2, SIDE // 4 : SIDE // 2] = 0.5
        return u, v
    return rng.standard_normal(100, np.float32), rng.standard_normal(100, np.float32)


def reaction(u: Any, v: Any, pad: Callable[[Any], Any]) -> Any:
    """Four steps of Gray and Scott's reaction of two substances that diffuse, with nothing beyond the border."""
    for _ in range(ROUNDS):
        wide, high = pad(u), pad(v)
        spread = lambda q: q[:-2, 1:-1] + q[2:, 1:-1] + q[1:-1, :-2] + q[1:-1, 2:] - 4.0 * q[1:-1, 1:-1]
        change = u * v * v
        u, v = u + 0.16 * spread(wide) - change + 0.04 * (1.0 - u), v + 0.08 * spread(high) + change - 0.1 * v
    return u, v


# -- corelib -------------------------------------------------------------------------------------------------


def in_corelib(name: str, compiled: bool) -> Call:
    """A program in corelib on ``cpu``, compiled or run op by op."""
    import corelib as cl
    from corelib import nn, optim

    wrap = cl.compile if compiled else (lambda fn: fn)
    data = [cl.asarray(x) for x in batch(name)]
    if name == "elements":
        fn = wrap(lambda x, y: cl.tanh(x * 2.0 + y) * cl.exp(y) - x)
        return lambda: fn(*data)
    if name == "gray_scott":
        fn = wrap(lambda u, v: reaction(u, v, lambda q: cl.pad(q, ((1, 1), (1, 1)))))
        return lambda: fn(*data)

    class Block(nn.Module):
        def __init__(self) -> None:
            self.before, self.between = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
            self.qkv, self.project = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
            self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

        def forward(self, x: Any) -> Any:
            split = self.qkv(self.before(x)).reshape((BATCH, LENGTH, 3, HEADS, WIDTH // HEADS))
            q, k, v = (cl.permute_dims(split[:, :, i], (0, 2, 1, 3)) for i in range(3))
            a = cl.ops.scaled_dot_product_attention(q, k, v, causal=True)
            x = x + self.project(cl.permute_dims(a, (0, 2, 1, 3)).reshape((BATCH, LENGTH, WIDTH)))
            return x + self.down(cl.gelu(self.up(self.between(x)), approximate="tanh"))

    class GPT(nn.Module):
        def __init__(self) -> None:
            self.words, self.places = nn.Embedding(WORDS, WIDTH), nn.Embedding(LENGTH, WIDTH)
            self.blocks = nn.ModuleList([Block() for _ in range(LAYERS)])
            self.last, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WORDS, bias=False)

        def forward(self, x: Any) -> Any:
            h = self.words(x) + self.places.weight
            for block in self.blocks:
                h = block(h)
            return self.head(self.last(h)).reshape((BATCH * LENGTH, WORDS))

    class LSTM(nn.Module):
        def __init__(self) -> None:
            self.input, self.hidden = nn.Linear(HIDDEN, 4 * HIDDEN), nn.Linear(HIDDEN, 4 * HIDDEN, bias=False)
            self.out = nn.Linear(HIDDEN, 10)

        def forward(self, x: Any) -> Any:
            h = c = cl.zeros((SEQUENCES, HIDDEN))
            for t in range(STEPS):
                i, f, g, o = cl.split(self.input(x[t]) + self.hidden(h), 4, axis=1)
                c = cl.sigmoid(f) * c + cl.sigmoid(i) * cl.tanh(g)
                h = cl.sigmoid(o) * cl.tanh(c)
            return self.out(h)

    model = {
        "mlp": lambda: nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 10)), "gpt": GPT, "lstm": LSTM,
    }[name]()  # fmt: skip
    model.load_state_dict(parameters(name))
    optimizer = optim.AdamW(model.parameters(), lr=RATE, betas=BETAS, eps=EPS, weight_decay=DECAY)

    @wrap
    def step(x: Any, labels: Any) -> Any:
        loss = cl.cross_entropy(model(x), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss

    return lambda: step(*data)


# -- PyTorch -------------------------------------------------------------------------------------------------


def in_torch(name: str, compiled: bool) -> Call:
    """A program in PyTorch, eager, or with ``torch.compile`` for the model's loss and for the optimizer's step."""
    import torch
    from torch import nn
    from torch.nn import functional

    wrap: Any = torch.compile if compiled else (lambda fn: fn)
    data = [torch.from_numpy(x) for x in batch(name)]
    if name in ("elements", "gray_scott"):
        pad = lambda q: functional.pad(q, (1, 1, 1, 1))
        fn = wrap(
            (lambda x, y: torch.tanh(x * 2.0 + y) * torch.exp(y) - x)
            if name == "elements"
            else (lambda u, v: reaction(u, v, pad))
        )

        def call() -> Any:
            with torch.no_grad():
                return fn(*data)

        return call

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.before, self.between = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
            self.qkv, self.project = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
            self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

        def forward(self, x: Any) -> Any:
            split = self.qkv(self.before(x)).reshape(BATCH, LENGTH, 3, HEADS, WIDTH // HEADS)
            q, k, v = (split[:, :, i].permute(0, 2, 1, 3) for i in range(3))
            a = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.project(a.permute(0, 2, 1, 3).reshape(BATCH, LENGTH, WIDTH))
            return x + self.down(functional.gelu(self.up(self.between(x)), approximate="tanh"))

    class GPT(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.places = nn.Embedding(WORDS, WIDTH), nn.Embedding(LENGTH, WIDTH)
            self.blocks = nn.ModuleList([Block() for _ in range(LAYERS)])
            self.last, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WORDS, bias=False)

        def forward(self, x: Any) -> Any:
            h = self.words(x) + self.places.weight
            for block in self.blocks:
                h = block(h)
            return self.head(self.last(h)).reshape(BATCH * LENGTH, WORDS)

    class LSTM(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.input, self.hidden = nn.Linear(HIDDEN, 4 * HIDDEN), nn.Linear(HIDDEN, 4 * HIDDEN, bias=False)
            self.out = nn.Linear(HIDDEN, 10)

        def forward(self, x: Any) -> Any:
            h = c = torch.zeros(SEQUENCES, HIDDEN)
            for t in range(STEPS):
                i, f, g, o = (self.input(x[t]) + self.hidden(h)).chunk(4, 1)
                c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
                h = torch.sigmoid(o) * torch.tanh(c)
            return self.out(h)

    makers: dict[str, Any] = {
        "mlp": lambda: nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 10)), "gpt": GPT, "lstm": LSTM,
    }  # fmt: skip
    model = makers[name]()
    model.load_state_dict({k: torch.from_numpy(v.copy()) for k, v in parameters(name).items()})
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, betas=BETAS, eps=EPS, weight_decay=DECAY)
    loss_of = wrap(lambda x, labels: functional.cross_entropy(model(x), labels))
    update = wrap(lambda: optimizer.step())

    def step() -> Any:
        loss = loss_of(*data)
        loss.backward()
        update()
        optimizer.zero_grad()
        return loss

    return step


# -- JAX -----------------------------------------------------------------------------------------------------


def in_jax(name: str) -> Call:
    """A program in JAX under ``jit``, with the parameters' memory given over to the step."""
    import jax
    from jax import numpy as jnp

    data = [jnp.asarray(x) for x in batch(name)]
    if name in ("elements", "gray_scott"):
        fn = jax.jit(
            (lambda x, y: jnp.tanh(x * 2.0 + y) * jnp.exp(y) - x) if name == "elements"
            else (lambda u, v: reaction(u, v, lambda q: jnp.pad(q, 1)))
        )  # fmt: skip
        return lambda: jax.block_until_ready(fn(*data))

    def linear(p: Any, part: str, x: Any) -> Any:
        y = x @ p[f"{part}.weight"].T
        return y + p[f"{part}.bias"] if f"{part}.bias" in p else y

    def norm(p: Any, part: str, x: Any) -> Any:
        mean = x.mean(-1, keepdims=True)
        spread = ((x - mean) ** 2).mean(-1, keepdims=True)
        return (x - mean) * jax.lax.rsqrt(spread + 1e-5) * p[f"{part}.weight"] + p[f"{part}.bias"]

    def mlp(p: Any, x: Any) -> Any:
        return linear(p, "2", jax.nn.relu(linear(p, "0", x)))

    def gpt(p: Any, x: Any) -> Any:
        h = p["words.weight"][x] + p["places.weight"]
        mask = jnp.tril(jnp.ones((LENGTH, LENGTH), bool))
        for i in range(LAYERS):
            b = f"blocks.{i}"
            split = linear(p, f"{b}.qkv", norm(p, f"{b}.before", h)).reshape(
                BATCH, LENGTH, 3, HEADS, WIDTH // HEADS
            )
            q, k, v = (split[:, :, j].transpose(0, 2, 1, 3) for j in range(3))
            weights = jax.nn.softmax(
                jnp.where(mask, q @ k.swapaxes(-1, -2) / math.sqrt(WIDTH // HEADS), -jnp.inf)
            )
            h = h + linear(
                p, f"{b}.project", (weights @ v).transpose(0, 2, 1, 3).reshape(BATCH, LENGTH, WIDTH)
            )
            h = h + linear(
                p,
                f"{b}.down",
                jax.nn.gelu(linear(p, f"{b}.up", norm(p, f"{b}.between", h)), approximate=True),
            )
        return linear(p, "head", norm(p, "last", h)).reshape(BATCH * LENGTH, WORDS)

    def lstm(p: Any, x: Any) -> Any:
        h = c = jnp.zeros((SEQUENCES, HIDDEN))
        for t in range(STEPS):
            i, f, g, o = jnp.split(linear(p, "input", x[t]) + linear(p, "hidden", h), 4, axis=1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return linear(p, "out", h)

    model = {"mlp": mlp, "gpt": gpt, "lstm": lstm}[name]

    def loss_of(p: Any, x: Any, labels: Any) -> Any:
        logits = jax.nn.log_softmax(model(p, x))
        return -jnp.take_along_axis(logits, labels[:, None], 1).mean()

    def step(p: Any, m: Any, v: Any, t: Any, x: Any, labels: Any) -> Any:
        loss, g = jax.value_and_grad(loss_of)(p, x, labels)
        t = t + 1
        m = jax.tree.map(lambda m, g: BETAS[0] * m + (1 - BETAS[0]) * g, m, g)
        v = jax.tree.map(lambda v, g: BETAS[1] * v + (1 - BETAS[1]) * g * g, v, g)
        one, two = 1 - BETAS[0] ** t, 1 - BETAS[1] ** t
        new = lambda p, m, v: p * (1 - RATE * DECAY) - RATE * (m / one) / (jnp.sqrt(v / two) + EPS)
        return loss, jax.tree.map(new, p, m, v), m, v, t

    jitted = jax.jit(step, donate_argnums=(0, 1, 2, 3))
    p = {k: jnp.asarray(v) for k, v in parameters(name).items()}
    state = [p, jax.tree.map(jnp.zeros_like, p), jax.tree.map(jnp.zeros_like, p), jnp.zeros(())]

    def call() -> Any:
        loss, *state[:] = jitted(*state, *data)
        return jax.block_until_ready(loss)

    return call
