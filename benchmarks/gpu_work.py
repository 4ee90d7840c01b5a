"""The workloads that gpu.py times, in corelib, PyTorch, JAX and raw CuPy: the same data, random and larger than a GPU's cache."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

BLOCK = 1 << 24  # random elements, repeated: 64 MB of float32, more than the 50 MB that a cache holds


@dataclass
class Work:
    """``data``: arrays by name. ``bytes`` and ``operations``: what must at least be moved and computed. ``run``: by
    contestant, a function of its module and of its arrays. ``part``: the piece of a result that is compared with
    ``expected``, in float64. ``target``: the table of the goals, in words.
    """

    name: str
    data: dict[str, np.ndarray[Any, Any]]
    run: dict[str, Callable[..., Any]]
    part: Callable[[Any], Any]
    expected: Callable[[], Any]
    bytes: int = 0
    operations: int = 0
    target: str = ""
    half: bool = False  # the arrays are given as bfloat16


def numbers(seed: int, *shape: int) -> np.ndarray[Any, Any]:
    """Standard normal numbers."""
    size = math.prod(shape)
    block = np.random.default_rng(seed).standard_normal(min(size, BLOCK), np.float32)
    return np.resize(block, size).reshape(shape)


def works(dry: bool) -> Iterator[Work]:
    """Every workload, in full size or tiny."""
    yield from _elements(1 << 12 if dry else 1 << 28)
    yield from _rows(*((6, 40) if dry else (8192, 32768)))
    yield _cross_entropy(*((5, 33) if dry else (16384, 50304)))
    yield _adamw(1000 if dry else 124_000_000)
    yield from _products(24 if dry else 8192)
    yield _transpose(40 if dry else 16384)
    yield _sort(500 if dry else 1 << 26)
    yield _convolution(*((2, 3, 6) if dry else (64, 128, 56)))
    yield _attention(*((1, 2, 32) if dry else (4, 16, 4096)))


def _elements(n: int) -> Iterator[Work]:
    x, y = numbers(0, n), numbers(1, n)
    few = slice(0, 4096)
    chain = lambda m, x, y: m.tanh(x * 2.0 + y) * m.exp(y) - x
    yield Work(
        "chain of six ops", {"x": x, "y": y},
        dict.fromkeys(("corelib", "torch", "jax", "cupy"), chain),
        lambda r: r[few], lambda: chain(np, x[few].astype("f8"), y[few].astype("f8")), bytes=12 * n, target=">= 92 % of copy",
    )  # fmt: skip
    yield Work(
        "add", {"x": x, "y": y}, dict.fromkeys(("corelib", "torch", "jax", "cupy"), lambda m, x, y: x + y),
        lambda r: r[few], lambda: x[few].astype("f8") + y[few], bytes=12 * n, target=">= 90 % of copy, >= 1.0 of torch",
    )  # fmt: skip
    yield Work(
        "exp", {"x": x}, dict.fromkeys(("corelib", "torch", "jax", "cupy"), lambda m, x: m.exp(x)),
        lambda r: r[few], lambda: np.exp(x[few].astype("f8")), bytes=8 * n, target=">= 90 % of copy, >= 1.0 of torch",
    )  # fmt: skip


def _rows(rows: int, columns: int) -> Iterator[Work]:
    x, w = numbers(2, rows, columns), numbers(3, columns)
    size, some = x.nbytes, slice(0, 4)

    def softmax() -> Any:
        e = np.exp(x[some].astype("f8") - x[some].max(1, keepdims=True))
        return e / e.sum(1, keepdims=True)

    def cupy_softmax(m: Any, x: Any) -> Any:
        e = m.exp(x - x.max(1, keepdims=True))
        return e / e.sum(1, keepdims=True)

    yield Work(
        "softmax", {"x": x},
        {"corelib": lambda m, x: m.softmax(x, axis=-1), "torch": lambda m, x: m.softmax(x, -1),
         "jax": lambda m, x: __import__("jax").nn.softmax(x, axis=-1), "cupy": cupy_softmax},
        lambda r: r[some], softmax, bytes=2 * size, target=">= 88 % of copy, >= 1.2 of torch",
    )  # fmt: skip

    def normed(d: Any) -> tuple[Any, Any]:
        centred = d - d.mean(1, keepdims=True)
        scale = 1 / np.sqrt((centred**2).mean(1, keepdims=True) + 1e-5)
        return centred * scale, scale

    def jax_norm(m: Any, x: Any, w: Any) -> Any:
        c = x - x.mean(1, keepdims=True)
        return c / m.sqrt((c * c).mean(1, keepdims=True) + 1e-5) * w

    yield Work(
        "layer_norm", {"x": x, "w": w},
        {"corelib": lambda m, x, w: m.layer_norm(x, w, None), "torch": lambda m, x, w: m.nn.functional.layer_norm(x, w.shape, w),
         "jax": jax_norm, "cupy": jax_norm},
        lambda r: r[some], lambda: normed(x[some].astype("f8"))[0] * w, bytes=2 * size, target=">= 88 % of copy, >= 1.2 of torch",
    )  # fmt: skip

    def backward() -> Any:
        h, scale = normed(x[some].astype("f8"))
        g = x[some] * w
        return scale * (g - g.mean(1, keepdims=True) - h * (g * h).mean(1, keepdims=True))

    def torch_backward(m: Any, x: Any, w: Any) -> Any:
        x, w = x.detach().requires_grad_(), w.detach().requires_grad_()
        return m.autograd.grad(m.nn.functional.layer_norm(x, w.shape, w), (x, w), x.detach())[0]

    def jax_backward(m: Any, x: Any, w: Any) -> Any:
        return __import__("jax").vjp(lambda x, w: jax_norm(m, x, w), x, w)[1](x)[0]

    def ours(m: Any, x: Any, w: Any) -> Any:
        _, pullback = m.vjp(lambda x, w: m.layer_norm(x, w, None), x, w)
        return pullback(x)[0]

    yield Work(
        "layer_norm, forward and backward", {"x": x, "w": w}, {"corelib": ours, "torch": torch_backward, "jax": jax_backward},
        lambda r: r[some], backward, bytes=5 * size, target=">= 80 % of copy, >= 1.2 of torch",
    )  # fmt: skip


def _cross_entropy(rows: int, words: int) -> Work:
    x, labels = numbers(4, rows, words), np.random.default_rng(5).integers(0, words, rows)

    def expected() -> Any:
        e = np.exp(x[:4].astype("f8") - x[:4].max(1, keepdims=True))
        p = e / e.sum(1, keepdims=True)
        p[range(4), labels[:4]] -= 1
        return p / rows

    def torch(m: Any, x: Any, labels: Any) -> Any:
        x = x.detach().requires_grad_()
        return m.autograd.grad(m.nn.functional.cross_entropy(x, labels), x)[0]

    def jax(m: Any, x: Any, labels: Any) -> Any:
        import jax

        loss = lambda x: -m.take_along_axis(jax.nn.log_softmax(x), labels[:, None], 1).mean()
        return jax.grad(loss)(x)

    return Work(
        "cross_entropy, forward and backward", {"x": x, "labels": labels},
        {"corelib": lambda m, x, labels: m.grad(lambda x: m.cross_entropy(x, labels))(x), "torch": torch, "jax": jax},
        lambda r: r[:4], expected, bytes=2 * x.nbytes, target=">= 85 % of copy, >= 2.5 of torch",
    )  # fmt: skip


def _adamw(n: int) -> Work:
    data = {"p": numbers(6, n), "g": numbers(7, n), "m": numbers(8, n), "v": np.abs(numbers(9, n))}

    def step(module: Any, p: Any, g: Any, m: Any, v: Any) -> Any:
        m = m * 0.9 + g * 0.1
        v = v * 0.999 + g * g * 0.001
        return p * (1 - 1e-5) - 1e-3 * m / (module.sqrt(v) + 1e-8), m, v

    def fused(module: Any, p: Any, g: Any, m: Any, v: Any) -> Any:
        """PyTorch's own optimizer, which counts its steps: its result is another one."""
        if not hasattr(p, "optimizer"):
            p.grad, p.optimizer = g, module.optim.AdamW([p], fused=True)
        p.optimizer.step()

    return Work(
        "AdamW of 124M parameters", data, {**dict.fromkeys(("corelib", "torch", "jax"), step), "torch fused": fused},
        lambda r: None if r is None else r[0][:4096], lambda: step(np, *[a[:4096].astype("f8") for a in data.values()])[0],
        bytes=28 * n, target="<= 0.92 ms",
    )  # fmt: skip


def _products(n: int) -> Iterator[Work]:
    a, b = numbers(10, n, n), numbers(11, n, n)
    product = dict.fromkeys(("corelib", "torch", "jax", "cupy"), lambda m, a, b: a @ b)
    for half in (False, True):
        rounded = (
            (lambda x: (x.view(np.uint32) + 0x8000 & 0xFFFF0000).view(np.float32)) if half else (lambda x: x)
        )
        yield Work(
            f"matmul {n}, {'bfloat16' if half else 'float32'}", {"a": a, "b": b}, product, lambda r: r[:4],
            lambda rounded=rounded: rounded(a[:4]).astype("f8") @ rounded(b).astype("f8"), operations=2 * n**3, target=">= 0.98 of torch", half=half,
        )  # fmt: skip


def _transpose(n: int) -> Work:
    x = numbers(12, n, n)
    return Work(
        "transposed copy", {"x": x},
        {"corelib": lambda m, x: m.permute_dims(x, (1, 0)) + 0.0, "torch": lambda m, x: x.T.contiguous(), "jax": lambda m, x: x.T + 0.0,
         "cupy": lambda m, x: m.ascontiguousarray(x.T)},
        lambda r: r[:4], lambda: x.T[:4].astype("f8"), bytes=2 * x.nbytes, target=">= 85 % of copy",
    )  # fmt: skip


def _sort(n: int) -> Work:
    x = numbers(13, n)
    return Work(
        "sort", {"x": x}, {"corelib": lambda m, x: m.sort(x), "torch": lambda m, x: m.sort(x)[0], "jax": lambda m, x: m.sort(x), "cupy": lambda m, x: m.sort(x)},
        lambda r: r[:4096], lambda: np.sort(np.partition(x, min(4096, n - 1))[:4096]).astype("f8"),
        bytes=2 * x.nbytes, target=">= 0.8 of CuPy",
    )  # fmt: skip


def _convolution(batch: int, channels: int, side: int) -> Work:
    x, w = numbers(14, batch, channels, side, side), numbers(15, channels, channels, 3, 3) * 0.05

    def expected() -> Any:
        wide = np.pad(x[:1].astype("f8"), ((0, 0), (0, 0), (1, 1), (1, 1)))
        shifted = [wide[:, :, i : i + side, j : j + side] for i in range(3) for j in range(3)]
        return sum(
            np.einsum("nchw,oc->nohw", s, w[:, :, k // 3, k % 3].astype("f8")) for k, s in enumerate(shifted)
        )

    return Work(
        "conv2d 3x3", {"x": x, "w": w},
        {"corelib": lambda m, x, w: m.ops.conv(x, w, padding=1), "torch": lambda m, x, w: m.nn.functional.conv2d(x, w, padding=1),
         "jax": lambda m, x, w: __import__("jax").lax.conv(x, w, (1, 1), "SAME")},
        lambda r: r[:1], expected, operations=2 * batch * channels**2 * side**2 * 9, target=">= 0.6 of cuDNN",
    )  # fmt: skip


def _attention(batch: int, heads: int, length: int) -> Work:
    depth = 128
    data = {name: numbers(seed, batch, heads, length, depth) for seed, name in enumerate("qkv", 16)}

    def expected() -> Any:
        q, k, v = (a[:1, :1].astype("f8") for a in data.values())
        s = np.where(
            np.tril(np.ones((8, length), bool)), q[:, :, :8] @ k.swapaxes(-1, -2) / math.sqrt(depth), -np.inf
        )
        e = np.exp(s - s.max(-1, keepdims=True))
        return e / e.sum(-1, keepdims=True) @ v

    return Work(
        "attention, causal, head size 128", data,
        {"corelib": lambda m, q, k, v: m.ops.scaled_dot_product_attention(q, k, v, causal=True),
         "torch": lambda m, q, k, v: m.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)},
        lambda r: r[:1, :1, :8], expected, operations=2 * batch * heads * length**2 * depth, target=">= 300 TFLOP/s", half=True,
    )  # fmt: skip
