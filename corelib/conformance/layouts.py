"""The same values in memory of every kind: the layouts in which the grid hands operands to a backend.

Views are made by public ops alone, so that each backend makes what it has (one without strides copies, and that
is right too); memory that is read-only or not aligned is somebody else's, and comes in through ``asarray``. This
module knows tensors and a backend, and no op under test.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..backend import Backend
from ..errors import UnsupportedError
from ..op import Op, calls
from ..samples import Sample, Values
from ..tensor import Tensor
from ..tree import flatten
from .operands import mapped, tensors
from .place import placed, tensor

# plain: C order. transposed: F order. gaps: every third element. reversed: negative strides. offset: the inside of a
# larger tensor, with rows further apart than they are long. repeated: stride 0 along one axis. readonly, unaligned:
# memory of NumPy's that must not be written to, or that starts at an odd address.
LAYOUTS = ("plain", "transposed", "gaps", "reversed", "offset", "repeated", "readonly", "unaligned")
FOREIGN = ("readonly", "unaligned")


def laid(values: Values, backend: Backend, layout: str, axis: int = 0) -> Tensor:
    """The values as a tensor in a layout; plainly where there is no axis to have it along.

    ``repeated`` values repeat along ``axis`` (see :func:`repeat`). Raises UnsupportedError where NumPy is not
    installed, or knows no such dtype, and memory of its was asked for.
    """
    if layout in FOREIGN:
        return _foreign(values, backend, layout)
    if layout == "offset":
        return _inside(values, backend)
    if layout == "repeated":
        return _stretched(values, backend, axis)
    return placed(values, backend, "" if layout == "plain" else layout)


def repeat(values: Values, axis: int) -> Values:
    """The values with the first slice along ``axis`` in place of every slice."""
    shape = values.shape
    if not shape or not math.prod(shape):
        return values
    axis %= len(shape)
    inner = math.prod(shape[axis + 1 :])
    block = inner * shape[axis]
    data: list[object] = []
    for start in range(0, len(values.data), block):
        data += values.data[start : start + inner] * shape[axis]
    return Values(shape, values.dtype, tuple(data))


def _stretched(values: Values, backend: Backend, axis: int) -> Tensor:
    shape = values.shape
    if not shape or not math.prod(shape):
        return tensor(values, backend)
    axis %= len(shape)
    inner = math.prod(shape[axis + 1 :])
    block = inner * shape[axis]
    once: list[object] = []
    for start in range(0, len(values.data), block):
        once += values.data[start : start + inner]
    thin = Values((*shape[:axis], 1, *shape[axis + 1 :]), values.dtype, tuple(once))
    return calls.broadcast_to(tensor(thin, backend), shape)


def _inside(values: Values, backend: Backend) -> Tensor:
    """A slice of a tensor that is wider by one element at both ends of each axis; of a 0-d tensor, of a vector."""
    shape = values.shape or (1,)
    if not math.prod(shape):
        return tensor(values, backend)
    data = list(values.data)
    for axis in range(len(shape)):
        inner = math.prod(shape[axis + 1 :])
        block = inner * shape[axis]
        wider: list[object] = []
        for start in range(0, len(data), block):
            row = data[start : start + block]
            wider += row[-inner:]  # the margins hold numbers of the same row: an index there is in range, too
            wider += row
            wider += row[:inner]
        data = wider
    wide = tensor(Values(tuple(n + 2 for n in shape), values.dtype, tuple(data)), backend)
    part = calls.strided_slice(wide, start=(1,) * len(shape), size=shape, step=(1,) * len(shape))
    return part if values.shape else calls.reshape(part, ())


def _foreign(values: Values, backend: Backend, layout: str) -> Tensor:
    """A tensor of an array of NumPy's, on its memory where the backend shares it."""
    try:
        import numpy

        dtype = values.dtype.numpy
    except ImportError as error:
        raise UnsupportedError(f"there is no memory of another library to import: {error}") from None
    packed = bytes(memoryview(values.dtype.pack(values.data)).cast("B"))
    offset = int(layout == "unaligned")
    memory = bytearray(offset + len(packed))
    memory[offset:] = packed
    array = numpy.frombuffer(memory, dtype, math.prod(values.shape), offset).reshape(values.shape)
    if layout == "readonly":
        array.flags.writeable = False
    return calls.asarray(array, device=backend)


# -- the operands of a call ----------------------------------------------------------------------------------


def layout_of(first: str, point: int, operand: int) -> str:
    """The layout of an operand of point ``point``: the first one's is given; those behind it have, over all points,
    each other one as well.
    """
    return LAYOUTS[(LAYOUTS.index(first) + operand * (point + 1)) % len(LAYOUTS)]


def axis_of(shape: tuple[int, ...], point: int, spared: frozenset[int] = frozenset()) -> int | None:
    """The axis, not one of ``spared`` (counted from the end), along which a point repeats an operand."""
    free = [a for a in range(len(shape)) if a - len(shape) not in spared]
    return free[point % len(free)] if free else None


def placed_each(
    op: Op, sample: Sample, names: Sequence[str], axes: Sequence[int | None], backend: Backend
) -> tuple[list[Any], dict[str, Any]]:
    """The arguments of a call on a backend, each tensor in its layout, and repeated along its axis."""
    each = iter(zip(names, axes, strict=True))

    def place(v: Values) -> Tensor:
        name, axis = next(each)
        return laid(v, backend, "plain" if name == "repeated" and axis is None else name, axis or 0)

    args, kwargs = mapped(sample, place)
    if op.device_param:
        kwargs[op.device_param] = backend
    return args, kwargs


def written_to(sample: Sample, given: Any) -> str:
    """Which operand no longer has the sample's values, bit for bit, as a sentence; empty if all have them."""
    operands = [x for x in flatten(given)[0] if isinstance(x, Tensor)]
    for n, (x, v) in enumerate(zip(operands, tensors(sample), strict=True)):
        if raw(x) != bytes(memoryview(v.dtype.pack(v.data)).cast("B") if v.data else b""):
            now = v.dtype.unpack(raw(x))
            if repr(tuple(now)) != repr(v.data):  # a NaN may have other bits
                return f"operand {n} was written to: it is {now}, it was {list(v.data)}"
    return ""


def raw(x: Tensor) -> bytes:
    """The elements of a tensor in C order, as bytes."""
    if not x.size:
        return b""
    buffer = x._read("conformance")
    if x.dtype.name == "bfloat16" and hasattr(buffer, "view"):
        buffer = buffer.view("uint16")  # a NumPy array of ml_dtypes' type is no buffer
    return bytes(memoryview(buffer).cast("B"))
