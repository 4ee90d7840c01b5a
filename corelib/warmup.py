"""``corelib warmup``: have a backend compile ahead what a model or some ops need, so that first calls find it.

A backend compiles what it is first asked for and keeps it, so this only asks: for a model it calls a function of the
user's, for ops it calls each, and its derivative, on arrays that are large enough for compiled kernels.
"""

from __future__ import annotations

import importlib
import runpy
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from . import ops
from .autograd import vjp
from .errors import ArgumentError, CorelibError
from .op import Op
from .registry import registry, use_backend
from .support import find_op
from .tensor import Tensor

CALLS = 3  # of a model: a compiled program is recorded by the first, and made native by the third
USUAL = (
    "add", "subtract", "multiply", "divide", "exp", "log", "sqrt", "tanh", "sigmoid", "relu", "gelu", "silu", "maximum",
    "where", "pow", "softmax", "log_softmax", "layer_norm", "cross_entropy", "sum", "mean", "max", "matmul", "linear", "conv",
    "max_pool", "scaled_dot_product_attention",
)  # fmt: skip


def run(what: Sequence[str], device: str | None, dtype: str, say: Callable[[str], None]) -> int:
    """Warm up models and ops (the usual ones if none is named) on a device; the exit status."""
    backend = registry.get(device) if device else registry.current()
    started = time.perf_counter()
    with use_backend(backend.device):
        for name in what or USUAL:
            before = time.perf_counter()
            model(name) if ":" in name else operation(find_op(name), dtype)
            backend.synchronize()
            say(f"{name}: {time.perf_counter() - before:.2f} s")
    say(f"ready on {backend.device} in {time.perf_counter() - started:.2f} s")
    return 0


def ahead(name: str | None, architectures: Sequence[str], say: Callable[[str], None]) -> int:
    """Have a backend compile for other machines, without a device of its own; the exit status."""
    if name is None:
        raise ArgumentError("--arch needs --backend: which architectures there are is a backend's own")
    started, done = time.perf_counter(), False
    for line in registry.load(name).compile_ahead(architectures):
        done = True
        say(line)
    if not done:
        raise ArgumentError(f"{name!r} compiles nothing for other machines: run warmup there, without --arch")
    say(f"done in {time.perf_counter() - started:.2f} s")
    return 0


def model(name: str) -> None:
    """Call the function of a ``module:name`` or ``file.py:name`` without arguments, some times."""
    place, _, attribute = name.rpartition(":")
    try:
        if place.endswith(".py"):
            sys.path.insert(0, str(Path(place).resolve().parent))
            function = runpy.run_path(place).get(attribute)
        else:
            sys.path.insert(0, "")
            function = getattr(importlib.import_module(place), attribute, None)
    except (ImportError, OSError) as error:
        raise ArgumentError(f"{place!r} cannot be imported: {error}") from error
    finally:
        sys.path.pop(0)
    if not callable(function):
        raise ArgumentError(
            f"{place!r} has no function {attribute!r}: name one that is called without arguments"
        )
    for _ in range(CALLS):
        function()


def operation(op: Op, dtype: str) -> None:
    """Call an op on large arrays of several layouts, and its derivative on the first."""
    known = False
    for args, params in examples(op, dtype):
        try:
            op.fn(*args, **params)
        except (CorelibError, TypeError):  # these are no operands of this op
            continue
        if not known:
            derivative(op, args, params)
        known = True
    if not known:
        raise ArgumentError(
            f"no operands for {op.name} are known here: name a function that calls it, as module:function"
        )


def derivative(op: Op, args: Sequence[Any], params: dict[str, Any]) -> None:
    """Go back through a call, if its op has a derivative."""
    places = [i for i, x in enumerate(args) if isinstance(x, Tensor) and x.dtype.kind == "float"]

    def call(*floats: Tensor) -> Any:
        given = dict(zip(places, floats, strict=True))
        return op.fn(*(given.get(i, x) for i, x in enumerate(args)), **params)

    try:
        result, pullback = vjp(call, *(args[i] for i in places))
        pullback(ops.full(result.shape, 1.0, dtype=result.dtype))
    except CorelibError:
        pass


def examples(op: Op, dtype: str) -> Iterator[tuple[tuple[Any, ...], dict[str, Any]]]:
    """Operands and parameters for an op: its own where it needs special ones, else arrays, rows and numbers."""

    def array(*shape: int) -> Tensor:
        size = 1
        for n in shape:
            size *= n
        values = ops.astype(ops.reshape(ops.arange(size), shape), dtype)
        return ops.divide(ops.add(ops.remainder(values, 97), 1), 100)

    x, row = array(256, 1024), array(1024)
    labels = ops.remainder(ops.arange(256), 7)
    turned = ops.permute_dims(array(1024, 256), (1, 0))
    image, window = array(8, 16, 32, 32), array(32, 16, 3, 3)
    special: dict[str, list[Any]] = {
        "matmul": [((array(n, n), array(n, n)), {}) for n in (32, 128, 512)]
        + [((x, turned), {}), ((x, row), {}), ((row, turned), {})]
        + [((array(8, 64, 64), array(8, 64, 64)), {})],
        "linear": [((x, array(256, 1024), array(256)), {}), ((array(8, 64), array(32, 64), array(32)), {})],
        "conv": [
            ((image, window), {"padding": 1}),
            ((image, array(32, 16, 1, 1)), {}),
            ((image, window), {"stride": 2}),
        ],
        "scaled_dot_product_attention": [
            ((array(2, 4, 64, 32),) * 3, {"causal": causal}) for causal in (False, True)
        ],
        "cross_entropy": [((x, labels), {})],
        "nll_loss": [((x, labels), {})],
        "embedding": [((labels, array(64, 128)), {})],
        "max_pool": [((image,), {"kernel_size": 2})],
        "avg_pool": [((image,), {"kernel_size": 2})],
        "where": [((ops.greater(x, 0.5), x, x), {}), ((ops.greater(x, 0.5), x, 0.0), {})],
        "layer_norm": [((x, row, row), {})],
        "rms_norm": [((x, row), {})],
        **{
            name: [((x,), {"axis": axis}) for axis in (-1, 0, None)]
            for name in ("sum", "mean", "max", "min", "any", "all", "prod", "var", "std")
        },
    }
    if op.name in special:
        yield from special[op.name]
        return
    count = len(op.operands)
    yield (x,) * count, {}
    for args in ((turned,), (x[::2],)) if count == 1 else ((x, row), (x, 0.5), (0.5, x), (x, turned)):
        yield args, {}
