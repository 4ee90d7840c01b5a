"""The cpu backend's kernels beside NumPy, PyTorch and JAX, and beside what the machine can do.

What is measured, and the process of one library; contest.py lets the libraries take turns. A peer is called as it
commonly is, and, as another contestant, with an output allocated before where it takes one. Square products of a few rows
are also done by `reference`, in plain Python.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from .timing import calibrate, once

PEERS = ("corelib", "numpy", "torch", "jax")
LARGE = 4096
BURSTS = 12  # short ones, because a busy machine leaves nobody alone for long


@dataclass(frozen=True)
class Workload:
    """Inputs, and how each peer is called with them; what is done at least, to be set beside the limits."""

    inputs: Callable[[Any], tuple[Any, ...]]
    calls: dict[str, Callable[..., object]]
    flops: float = 0.0
    bytes: float = 0.0
    out: dict[str, Callable[..., object]] = field(default_factory=dict)  # called with the output in front
    family: str = ""  # the plot that it is in,
    size: int = 0  # and where


def _normal(*shapes: tuple[int, ...], dtype: str = "float32") -> Callable[[Any], tuple[Any, ...]]:
    return lambda rng: tuple(rng.standard_normal(shape).astype(dtype) for shape in shapes)


def _everywhere(
    call: Callable[..., object], *, but: tuple[str, ...] = ()
) -> dict[str, Callable[..., object]]:
    return {peer: call for peer in PEERS if peer not in but}


def _products() -> Iterator[tuple[str, Workload]]:
    def product(
        *shapes: tuple[int, ...], work: float, dtype: str = "float32", transposed: bool = False
    ) -> Workload:
        if transposed:
            return Workload(
                _normal(*shapes, dtype=dtype), _everywhere(lambda xp, a, b: a @ b.T), 2 * work,
                out={"numpy": lambda xp, out, a, b: xp.matmul(a, b.T, out=out),
                     "torch": lambda xp, out, a, b: xp.matmul(a, b.T, out=out)})  # fmt: skip
        return Workload(
            _normal(*shapes, dtype=dtype), _everywhere(lambda xp, a, b: xp.matmul(a, b)), 2 * work,
            out={"numpy": lambda xp, out, a, b: xp.matmul(a, b, out=out),
                 "torch": lambda xp, out, a, b: xp.matmul(a, b, out=out)})  # fmt: skip

    for n in (4, 5, 8, 16, 32, 64, 100, 128, 256, 512, 1000, 1024, 2048):
        yield f"matmul float32 {n}", replace(product((n, n), (n, n), work=n**3), family="matmul", size=n)
    for n in (64, 256, 1024):
        yield f"matmul float64 {n}", product((n, n), (n, n), work=n**3, dtype="float64")
        yield f"matmul float32 {n}, B transposed", product((n, n), (n, n), work=n**3, transposed=True)
    yield "matmul 96 x (128x64x128)", product((96, 128, 64), (96, 64, 128), work=96 * 128 * 64 * 128)
    yield "matmul 1000 x (8x8x8)", product((1000, 8, 8), (1000, 8, 8), work=1000 * 8**3)
    yield "matrix times vector 1024", product((1024, 1024), (1024,), work=1024**2)
    yield "matrix times vector 4096", product((4096, 4096), (4096,), work=4096**2)
    yield "vector times matrix 4096", product((4096,), (4096, 4096), work=4096**2)
    yield "matmul 4096x1x4096", product((4096, 1), (1, 4096), work=4096**2)
    yield (
        "matmul 4x4096x4096, B transposed",
        product((4, 4096), (4096, 4096), work=4 * 4096**2, transposed=True),
    )
    yield "matmul 65536x64x10", product((65536, 64), (64, 10), work=65536 * 640)
    yield "matmul 64x65536x64", product((64, 65536), (65536, 64), work=64 * 65536 * 64)
    yield "matmul 128x784x256", product((128, 784), (784, 256), work=128 * 784 * 256)
    yield "matmul complex64 256", product((256, 256), (256, 256), work=4 * 256**3, dtype="complex64")


def _elements() -> Iterator[tuple[str, Workload]]:
    n = LARGE * LARGE
    one, two = _normal((n,)), _normal((n,), (n,))
    yield "add 16M", Workload(
        two, _everywhere(lambda xp, x, y: x + y), n, 12.0 * n,
        out={"numpy": lambda xp, out, x, y: xp.add(x, y, out=out), "torch": lambda xp, out, x, y: xp.add(x, y, out=out)})  # fmt: skip
    yield "exp 16M", Workload(
        one, _everywhere(lambda xp, x: xp.exp(x)), 0, 8.0 * n,
        out={"numpy": lambda xp, out, x: xp.exp(x, out=out), "torch": lambda xp, out, x: xp.exp(x, out=out)})  # fmt: skip
    yield (
        "sqrt(x * x + y * y) 16M",
        Workload(two, _everywhere(lambda xp, x, y: xp.sqrt(x * x + y * y)), 0, 12.0 * n),
    )
    matrix = _normal((LARGE, LARGE))
    for axis in (0, 1):
        yield (
            f"sum 4096x4096, axis {axis}",
            Workload(matrix, _everywhere(lambda xp, x, a=axis: x.sum(a)), 0, 4.0 * n),
        )
    yield "argmax 4096x4096, axis 1", Workload(
        matrix, {**_everywhere(lambda xp, x: x.argmax(1)), "corelib": lambda xp, x: xp.argmax(x, axis=1)}, 0, 4.0 * n)  # fmt: skip
    yield "transpose and copy 4096x4096", Workload(
        matrix,
        {"corelib": lambda xp, x: xp.asarray(x.T, copy=True), "numpy": lambda xp, x: xp.ascontiguousarray(x.T),
         "torch": lambda xp, x: x.T.contiguous(), "jax": lambda xp, x: x.T + 0}, 0, 8.0 * n)  # fmt: skip
    rows = {"corelib": lambda xp, x: xp.nn.functional.softmax(x, axis=-1), "torch": lambda xp, x: xp.softmax(x, -1),
            "jax": lambda xp, x: _jax().nn.softmax(x)}  # fmt: skip
    yield "softmax 4096x4096", Workload(matrix, rows, 0, 8.0 * n)
    yield "layer_norm 4096x4096", Workload(
        matrix,
        {"corelib": lambda xp, x: xp.nn.functional.layer_norm(x, (LARGE,)),
         "torch": lambda xp, x: xp.nn.functional.layer_norm(x, (LARGE,))}, 0, 8.0 * n)  # fmt: skip


def _orders() -> Iterator[tuple[str, Workload]]:
    n = 1_000_000
    one = _normal((n,))
    yield "sort 1M", Workload(one, {**_everywhere(lambda xp, x: xp.sort(x))})
    yield "argsort 1M", Workload(one, _everywhere(lambda xp, x: xp.argsort(x)))
    yield "sort 1000x1000, axis 1", Workload(_normal((1000, 1000)), _everywhere(lambda xp, x: xp.sort(x)))
    yield "cumulative sum 4096x4096, axis 1", Workload(
        _normal((LARGE, LARGE)),
        {**_everywhere(lambda xp, x: xp.cumsum(x, 1)), "corelib": lambda xp, x: xp.cumulative_sum(x, axis=1)}, 0,
        8.0 * LARGE * LARGE)  # fmt: skip
    yield "searchsorted 1M in 1M", Workload(
        lambda rng: (sorted_(rng.standard_normal(n)), rng.standard_normal(n).astype("float32")),
        _everywhere(lambda xp, x, y: xp.searchsorted(x, y)))  # fmt: skip
    yield "take 1M of 1M", Workload(
        lambda rng: (rng.standard_normal(n).astype("float32"), rng.integers(0, n, n)), _everywhere(lambda xp, x, i: x[i]))  # fmt: skip


def _sizes() -> Iterator[tuple[str, Workload]]:
    """Some ops from a thousand elements to a million, for the plots; larger ones are above."""
    families: dict[str, tuple[int, float, dict[str, Callable[..., object]]]] = {
        "add": (2, 12.0, _everywhere(lambda xp, x, y: x + y)),
        "exp": (1, 8.0, _everywhere(lambda xp, x: xp.exp(x))),
        "sum": (1, 4.0, _everywhere(lambda xp, x: x.sum())),
        "softmax": (1, 8.0, {
            "corelib": lambda xp, x: xp.nn.functional.softmax(x.reshape(-1, 100), axis=-1),
            "torch": lambda xp, x: xp.softmax(x.reshape(-1, 100), -1), "jax": lambda xp, x: _jax().nn.softmax(x.reshape(-1, 100))}),
        "sort": (1, 0.0, _everywhere(lambda xp, x: xp.sort(x))),
    }  # fmt: skip
    for name, (operands, moved, calls) in families.items():
        for n in (1000, 10_000, 100_000, 1_000_000):
            yield (
                f"{name} {n}",
                Workload(_normal(*[(n,)] * operands), calls, 0, moved * n, family=name, size=n),
            )


CONVOLUTIONS = {
    "32x64x32x32, 3x3": ((32, 64, 32, 32), (64, 64, 3, 3), 1, 1),
    "8x64x56x56, 3x3": ((8, 64, 56, 56), (64, 64, 3, 3), 1, 1),
    "8x128x28x28, 3x3": ((8, 128, 28, 28), (128, 128, 3, 3), 1, 1),
    "8x256x14x14, 3x3": ((8, 256, 14, 14), (256, 256, 3, 3), 1, 1),
    "32x512x7x7, 3x3": ((32, 512, 7, 7), (512, 512, 3, 3), 1, 1),
    "8x64x56x56, 3x3, stride 2": ((8, 64, 56, 56), (128, 64, 3, 3), 2, 1),
    "8x256x56x56, 1x1": ((8, 256, 56, 56), (64, 256, 1, 1), 1, 0),
    "8x3x224x224, 7x7, stride 2": ((8, 3, 224, 224), (64, 3, 7, 7), 2, 3),
}


def _layers() -> Iterator[tuple[str, Workload]]:
    for name, (x, weight, stride, padding) in CONVOLUTIONS.items():
        places = [(n + 2 * padding - k) // stride + 1 for n, k in zip(x[2:], weight[2:], strict=True)]
        y = (x[0], weight[0], *places)
        work = 2.0 * y[0] * places[0] * places[1] * math.prod(weight)
        forward = {
            "corelib": lambda xp, x, w, s=stride, p=padding: _ops().conv(x, w, stride=s, padding=p),
            "torch": lambda xp, x, w, s=stride, p=padding: xp.nn.functional.conv2d(x, w, stride=s, padding=p),
            "jax": lambda xp, x, w, s=stride, p=padding: _jax().lax.conv_general_dilated(x, w, (s, s), [(p, p)] * 2),
        }  # fmt: skip
        yield f"convolution {name}", Workload(_normal(x, weight), forward, work)
        gradient = {
            "corelib": lambda xp, x, w, g, s=stride, p=padding: _conv_gradients(x, w, g, s, p),
            "torch": lambda xp, x, w, g, s=stride, p=padding: xp.ops.aten.convolution_backward(
                g, x, w, None, (s, s), (p, p), (1, 1), False, (0, 0), 1, (True, True, False)),
            "jax": lambda xp, x, w, g, s=stride, p=padding: _jax().vjp(
                lambda x, w: _jax().lax.conv_general_dilated(x, w, (s, s), [(p, p)] * 2), x, w)[1](g),
        }  # fmt: skip
        yield f"gradients of convolution {name}", Workload(_normal(x, weight, y), gradient, 2 * work)
    yield from _depthwise()
    for shape, causal in (((8, 4, 128, 64), True), ((1, 8, 512, 64), False), ((1, 8, 1024, 64), True)):
        work = 4.0 * math.prod(shape) * shape[2] / (2 if causal else 1)
        forward = {
            "corelib": lambda xp, q, k, v, c=causal: _ops().scaled_dot_product_attention(q, k, v, causal=c),
            "torch": lambda xp, q, k, v, c=causal: xp.nn.functional.scaled_dot_product_attention(
                q, k, v, is_causal=c
            ),
            "jax": lambda xp, q, k, v, c=causal: _attention(q, k, v, c),
        }
        label = f"{'x'.join(map(str, shape))}{', causal' if causal else ''}"
        yield f"attention {label}", Workload(_normal(shape, shape, shape), forward, work)
        gradient = {
            "corelib": lambda xp, q, k, v, g, c=causal: _ops().attention_gradient(g, q, k, v, causal=c),
            "torch": lambda xp, q, k, v, g, c=causal: _torch_attention_gradient(xp, q, k, v, g, c),
            "jax": lambda xp, q, k, v, g, c=causal: _jax().vjp(lambda *a: _attention(*a, c), q, k, v)[1](g),
        }
        yield f"gradients of attention {label}", Workload(_normal(*(shape,) * 4), gradient, 2.5 * work)
    pooled = {
        "corelib": lambda xp, x: _ops().max_pool(x, kernel_size=(3, 3), stride=2, padding=1),
        "torch": lambda xp, x: xp.nn.functional.max_pool2d(x, 3, 2, 1),
        "jax": lambda xp, x: _jax().lax.reduce_window(
            x, -xp.inf, _jax().lax.max, (1, 1, 3, 3), (1, 1, 2, 2), [(0, 0), (0, 0), (1, 1), (1, 1)]),
    }  # fmt: skip
    yield "max pooling 8x64x112x112, 3x3, stride 2", Workload(_normal((8, 64, 112, 112)), pooled)
    pooled = {
        "corelib": lambda xp, x: _ops().avg_pool(x, kernel_size=(2, 2)),
        "torch": lambda xp, x: xp.nn.functional.avg_pool2d(x, 2),
        "jax": lambda xp, x: _jax().lax.reduce_window(
            x, xp.float32(0), _jax().lax.add, (1, 1, 2, 2), (1, 1, 2, 2), "VALID") / 4,
    }  # fmt: skip
    yield "mean pooling 8x64x56x56, 2x2", Workload(_normal((8, 64, 56, 56)), pooled)


def _depthwise() -> Iterator[tuple[str, Workload]]:
    for label, (x, stride) in {
        "8x128x56x56": ((8, 128, 56, 56), 1),
        "8x512x14x14": ((8, 512, 14, 14), 1),
    }.items():
        weight = (x[1], 1, 3, 3)
        work = 2.0 * math.prod(x) * 9
        convolved = lambda x, w, g: _jax().lax.conv_general_dilated(
            x, w, (1, 1), [(1, 1)] * 2, feature_group_count=g
        )
        forward = {
            "corelib": lambda xp, x, w, s=stride: _ops().conv(x, w, stride=s, padding=1, groups=x.shape[1]),
            "torch": lambda xp, x, w, s=stride: xp.nn.functional.conv2d(x, w, stride=s, padding=1, groups=x.shape[1]),
            "jax": lambda xp, x, w, f=convolved: f(x, w, x.shape[1]),
        }  # fmt: skip
        yield f"depthwise convolution {label}, 3x3", Workload(_normal(x, weight), forward, work)
        gradient = {
            "corelib": lambda xp, x, w, g: (
                _ops().conv_transpose(g, w, padding=1, groups=x.shape[1]),
                _ops().conv_weight_gradient(x, g, kernel_size=(3, 3), padding=1, groups=x.shape[1])),
            "torch": lambda xp, x, w, g: xp.ops.aten.convolution_backward(
                g, x, w, None, (1, 1), (1, 1), (1, 1), False, (0, 0), x.shape[1], (True, True, False)),
            "jax": lambda xp, x, w, g, f=convolved: _jax().vjp(lambda x, w: f(x, w, x.shape[1]), x, w)[1](g),
        }  # fmt: skip
        yield (
            f"gradients of depthwise convolution {label}, 3x3",
            Workload(_normal(x, weight, x), gradient, 2 * work),
        )


def _ops() -> Any:
    from corelib import ops

    return ops


def _conv_gradients(x: Any, weight: Any, g: Any, stride: int, padding: int) -> Any:
    """What the derivative of `conv` calls."""
    missed = (x.shape[2] + 2 * padding - weight.shape[2]) % stride
    back = _ops().conv_transpose(g, weight, stride=stride, padding=padding, output_padding=missed)
    kernel = tuple(weight.shape[2:])
    return back, _ops().conv_weight_gradient(x, g, kernel_size=kernel, stride=stride, padding=padding)


def _attention(q: Any, k: Any, v: Any, causal: bool) -> Any:
    """JAX's, which has the heads behind the sequence."""
    q, k, v = (x.swapaxes(1, 2) for x in (q, k, v))
    return _jax().nn.dot_product_attention(q, k, v, is_causal=causal).swapaxes(1, 2)


def _torch_attention_gradient(xp: Any, q: Any, k: Any, v: Any, g: Any, causal: bool) -> Any:
    """PyTorch has no public gradient without the forward pass: both."""
    with xp.enable_grad():
        operands = [x.detach().requires_grad_() for x in (q, k, v)]
        y = xp.nn.functional.scaled_dot_product_attention(*operands, is_causal=causal)
    return xp.autograd.grad(y, operands, g)


def sorted_(values: Any) -> Any:
    """float32, in order."""
    import numpy as np

    return np.sort(values.astype("float32"))


def workloads() -> dict[str, Workload]:
    """Every workload by name."""
    return {name: w for group in (_products, _elements, _orders, _sizes, _layers) for name, w in group()}


# --- a peer's process ---------------------------------------------------------------------------------------


def _jax() -> Any:
    import jax

    jax.config.update("jax_enable_x64", True)
    return jax


class Peer:
    """One library: its namespace, its arrays, and how a call of it is timed."""

    def __init__(self, name: str, threads: int) -> None:
        self.name = name
        if name == "corelib":
            import corelib
            import corelib.nn

            corelib.set_backend("cpu")
            self.xp: Any = corelib
            self.array: Callable[[Any], Any] = corelib.asarray
        elif name == "torch":
            import torch

            torch.set_num_threads(threads)
            torch.set_grad_enabled(False)
            self.xp, self.array = torch, torch.from_numpy
        elif name == "jax":
            import jax.numpy

            _jax()
            self.xp, self.array = jax.numpy, jax.numpy.asarray
        else:
            import numpy

            self.xp, self.array = numpy, numpy.asarray
        self.version: str = _jax().__version__ if name == "jax" else self.xp.__version__

    def contestants(self, workload: Workload) -> dict[str, Callable[[], object]]:
        """What this peer has to run, with its inputs bound."""
        import numpy as np

        values = workload.inputs(np.random.default_rng(0))
        arrays = [self.array(v) for v in values]
        found: dict[str, Callable[[], object]] = {}
        call = workload.calls.get(self.name)
        if call is not None:
            if self.name == "jax":
                jitted = _jax().jit(lambda *arrays: call(self.xp, *arrays))
                found["jax jit"] = lambda: _jax().block_until_ready(jitted(*arrays))
            else:
                found[self.name] = lambda: call(self.xp, *arrays)
        preallocated = workload.out.get(self.name)
        if preallocated is not None and call is not None:
            out = call(self.xp, *arrays)
            found[f"{self.name} out="] = lambda: preallocated(self.xp, out, *arrays)
        if self.name == "corelib" and workload.family == "matmul" and workload.size <= 64:
            plain = [self.xp.asarray(v, device="reference") for v in values]
            found["reference"] = lambda: plain[0] @ plain[1]
        return found


def serve(name: str, threads: int) -> None:
    """Answer requests, a line of JSON each: a workload and how long to run it."""
    peer = Peer(name, threads)
    table = workloads()
    print(json.dumps({"version": peer.version}), flush=True)
    current, contestants, numbers = None, {}, {}
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if request["workload"] != current:
                current, contestants = request["workload"], {}
                contestants = peer.contestants(table[current])
                for call in contestants.values():
                    call()
                numbers = {key: calibrate(call, request["seconds"]) for key, call in contestants.items()}
            bursts: dict[str, list[float]] = {key: [] for key in contestants}
            until = time.perf_counter() + BURSTS * request["seconds"] * len(contestants)
            while not all(bursts.values()) or time.perf_counter() < until:
                for key, call in contestants.items():
                    bursts[key].append(once(call, numbers[key]))
            answer: dict[str, Any] = {"bursts": bursts}
        except Exception as error:  # what it is, is said in the table, and the other peers go on
            current, answer = None, {"missing": f"{type(error).__name__}: {error}".splitlines()[0]}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
