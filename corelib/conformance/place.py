"""From a sample to a call: values become tensors on a backend, plainly or as views, and results become plain
numbers again.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from ..backend import Backend
from ..dtypes import DType, as_dtype
from ..op import Op, calls
from ..registry import registry
from ..samples import Sample, Values
from ..tensor import Tensor, wrap
from ..tree import flatten
from .operands import mapped


class Result(NamedTuple):
    """One result of an op as plain data: the elements in C order as Python numbers."""

    shape: tuple[int, ...]
    dtype: DType
    data: tuple[Any, ...]
    device: str


def tensor(values: Values, backend: Backend) -> Tensor:
    """The values as a tensor that owns them, contiguous."""
    dtype = values.dtype
    return wrap(backend.from_host(dtype.pack(values.data), values.shape, dtype), backend)


def placed(values: Values, backend: Backend, layout: str) -> Tensor:
    """The same values as the given kind of view (see ``cases.LAYOUTS``); plain if there is no axis to view
    along.
    """
    shape, data = values.shape, values.data
    if not shape or not layout or layout == "repeated":
        return tensor(values, backend)  # what repeats is decided in `repeated`: the values must repeat, too
    if layout == "reversed":
        return calls.flip(tensor(Values(shape, values.dtype, tuple(reversed(data))), backend))
    if layout == "transposed":
        order = tuple(reversed(range(len(shape))))
        return calls.permute_dims(tensor(transposed(values), backend), order)
    junk = tuple(
        x for x in data for _ in range(3)
    )  # "gaps": every third element of a tensor three times as wide
    wide = tensor(Values((*shape[:-1], 3 * shape[-1]), values.dtype, junk), backend)
    return calls.strided_slice(
        wide, start=(*(0 for _ in shape[:-1]), 1), size=shape, step=(*(1 for _ in shape[:-1]), 3)
    )


def transposed(values: Values) -> Values:
    """The values with all axes in reverse order."""
    shape = values.shape
    strides = [math.prod(shape[i + 1 :]) for i in range(len(shape))]
    offsets = [0]
    for size, stride in zip(reversed(shape), reversed(strides), strict=True):
        offsets = [o + i * stride for o in offsets for i in range(size)]
    return Values(tuple(reversed(shape)), values.dtype, tuple(values.data[o] for o in offsets))


def repeated(values: Values) -> Values:
    """The values with the first row along axis 0 in place of every row."""
    if not values.shape or not values.shape[0]:
        return values
    row = values.data[: len(values.data) // values.shape[0]]
    return Values(values.shape, values.dtype, row * values.shape[0])


def expanded(values: Values, backend: Backend) -> Tensor:
    """Values that repeat along axis 0 as a view with stride 0 there."""
    if not values.shape or not values.shape[0]:
        return tensor(values, backend)
    row = Values((1, *values.shape[1:]), values.dtype, values.data[: len(values.data) // values.shape[0]])
    return calls.broadcast_to(tensor(row, backend), values.shape)


def arguments(op: Op, sample: Sample, backend: Backend, layout: str = "") -> tuple[list[Any], dict[str, Any]]:
    """The arguments of the call on a backend."""
    make = expanded if layout == "repeated" else (lambda v, b: placed(v, b, layout)) if layout else tensor
    args, kwargs = mapped(sample, lambda v: make(v, backend))
    if op.device_param:
        kwargs[op.device_param] = backend
    return args, kwargs


def call(op: Op, sample: Sample, backend: Backend, layout: str = "") -> Any:
    """The op's result on a backend."""
    args, kwargs = arguments(op, sample, backend, layout)
    return op.fn(*args, **kwargs)


def results(result: Any) -> list[Result]:
    """The tensors of a result (one, several, or several in a structure) as plain data; a Python number counts
    as 0-d.
    """
    return [
        Result(tuple(y.shape), y.dtype, numbers(y), y.device)
        if isinstance(y, Tensor)
        else Result((), as_dtype(type(y)), (y,), "")
        for y in flatten(result)[0]
    ]


def numbers(x: Tensor) -> tuple[Any, ...]:
    """The elements of a tensor in C order as Python numbers."""
    values, _ = flatten(x.tolist()) if x.shape else ([x.item()], None)
    return tuple(values) if x.size else ()


def another(backend: Backend) -> Backend:
    """A second device of the same kind, not registered: where an operand is when it is on the wrong device."""
    other = type(backend)("elsewhere", backend.index)
    other.device, other.info = "elsewhere", backend.info
    if hasattr(backend, "base"):
        other.base = backend.base  # type: ignore[attr-defined]
    return registry.attach(other)
