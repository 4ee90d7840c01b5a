"""Walking through the operands of a sample: its tensors-to-be, wherever they stand among its arguments."""

from __future__ import annotations

import math
from typing import Any

from ..dtypes import DType
from ..samples import Sample, Values
from .distance import rounded


def tensors(sample: Sample) -> list[Values]:
    """The tensor operands of a sample, in order."""
    found: list[Values] = []
    mapped(sample, lambda v: found.append(v))
    return found


def mapped(sample: Sample, fn: Any) -> tuple[list[Any], dict[str, Any]]:
    """The arguments of a sample with ``fn(values)`` in place of each tensor-to-be."""

    def convert(a: Any) -> Any:
        if isinstance(a, Values):
            return fn(a)
        return type(a)([convert(x) for x in a]) if isinstance(a, list | tuple) else a

    return [convert(a) for a in sample.args], {k: convert(v) for k, v in sample.kwargs.items()}


def replaced(sample: Sample, fn: Any) -> Sample:
    """The sample with ``fn(values)``, again Values, in place of each of its tensors."""
    args, kwargs = mapped(sample, fn)
    return Sample(tuple(args), kwargs)


def size(sample: Sample) -> int:
    """How many elements a sample's tensors have together."""
    return sum(math.prod(v.shape) for v in tensors(sample))


def inexact(dtype: DType) -> bool:
    """Whether numbers of a dtype are rounded, and differentiated: floating or complex."""
    return dtype.kind in ("float", "complex")


def representable(v: Values) -> Values:
    """Values as their dtype holds them: samples may give 0.1 in float16."""
    return Values(v.shape, v.dtype, tuple(rounded(x, v.dtype) for x in v.data)) if inexact(v.dtype) else v


def spread(data: list[Any], shape: tuple[int, ...], to: tuple[int, ...]) -> list[Any]:
    """The elements of a shape broadcast to another one."""
    if shape == to:
        return data
    if len(data) == 1:
        return data * math.prod(to)
    shape = (1,) * (len(to) - len(shape)) + shape
    for axis in range(len(to) - 1, -1, -1):  # from the last axis on, which leaves earlier blocks whole
        if shape[axis] == to[axis]:
            continue
        inner = math.prod(to[axis + 1 :])
        data = (
            [x for start in range(0, len(data), inner) for x in data[start : start + inner] * to[axis]]
            if inner
            else []
        )
    return data
