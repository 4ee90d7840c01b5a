"""Changes to kernels of the reference backend, for planting mistakes: each takes a kernel and returns the changed one."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from corelib import dtypes
from corelib.conformance import check
from corelib.conformance.distance import rounded, unit
from corelib.op import BY_NAME

Kernel = Callable[..., Any]


def run(device: str, *names: str, **options: Any) -> Any:
    return check(device, [BY_NAME[name] for name in names], **options)


def elements(change: Callable[[Any], Any]) -> Callable[[Kernel], Kernel]:
    """Each element of the result changed."""

    def wrap(kernel: Kernel) -> Kernel:
        def changed(*operands: Any, **params: Any) -> Any:
            result = kernel(*operands, **params)
            return type(result)(result.shape, result.dtype, [change(x) for x in result.data])

        return changed

    return wrap


def away(count: int, dtype: dtypes.DType = dtypes.float32) -> Callable[[Any], Any]:
    """`count` representable numbers further from zero, for numbers of a size at which that is safe."""

    def move(x: float) -> float:
        return rounded(x + math.copysign(count * unit(x, dtype), x), dtype) if 1e-30 < abs(x) < 1e30 else x

    return move


def only(dtype: dtypes.DType, change: Callable[[Kernel], Kernel]) -> Callable[[Kernel], Kernel]:
    """The change for results of one dtype."""

    def wrap(kernel: Kernel) -> Kernel:
        changed = change(kernel)

        def choose(*operands: Any, **params: Any) -> Any:
            result = kernel(*operands, **params)
            return changed(*operands, **params) if result.dtype is dtype else result

        return choose

    return wrap


def result(change: Callable[[Any], Any]) -> Callable[[Kernel], Kernel]:
    """The whole result changed: `change(array)`."""
    return lambda kernel: lambda *operands, **params: change(kernel(*operands, **params))


def call(change: Callable[..., Any]) -> Callable[[Kernel], Kernel]:
    """The call changed: `change(kernel, *operands, **params)`."""
    return lambda kernel: lambda *operands, **params: change(kernel, *operands, **params)


def remade(array: Any, *, shape: Any = None, dtype: Any = None, data: Any = None) -> Any:
    """An array of the reference backend with some of its parts replaced."""
    return type(array)(shape or array.shape, dtype or array.dtype, array.data if data is None else data)


def elementwise(fn: Callable[..., Any]) -> Callable[[Kernel], Kernel]:
    """Operands of one shape combined by `fn`; other calls are left to the base."""

    def changed(kernel: Kernel, *operands: Any, **params: Any) -> Any:
        found = kernel(*operands, **params)
        if any(getattr(o, "shape", None) != found.shape for o in operands):
            return found
        return remade(found, data=[fn(*values) for values in zip(*(o.data for o in operands), strict=True)])

    return call(changed)


def in_half(change: Callable[[Kernel], Kernel]) -> Callable[[Kernel], Kernel]:
    """The change as a kernel of float16 and bfloat16 themselves, which otherwise go through float32."""
    change.dtypes = dtypes.HALF  # type: ignore[attr-defined]
    return change
