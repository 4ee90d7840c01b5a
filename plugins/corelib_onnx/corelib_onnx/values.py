"""Numbers between ONNX's messages and tensors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

import corelib as cl
from corelib.errors import DTypeError

HOST = "reference"  # where a program's integers about shapes live: reading them waits for no device
SMALL = 64  # elements; more than that is data

DTYPES = {
    TensorProto.FLOAT: cl.float32, TensorProto.DOUBLE: cl.float64, TensorProto.FLOAT16: cl.float16,
    TensorProto.BFLOAT16: cl.bfloat16, TensorProto.INT8: cl.int8, TensorProto.INT16: cl.int16,
    TensorProto.INT32: cl.int32, TensorProto.INT64: cl.int64, TensorProto.UINT8: cl.uint8,
    TensorProto.UINT16: cl.uint16, TensorProto.UINT32: cl.uint32, TensorProto.UINT64: cl.uint64,
    TensorProto.BOOL: cl.bool, TensorProto.COMPLEX64: cl.complex64, TensorProto.COMPLEX128: cl.complex128,
}  # fmt: skip
NUMBERS = {dtype.name: number for number, dtype in DTYPES.items()}


def dtype_of(number: int, where: str) -> Any:
    """The dtype that an element type's number means."""
    if number not in DTYPES:
        known = TensorProto.DataType.Name(number) if number in TensorProto.DataType.values() else number
        raise DTypeError(f"{where}: corelib has no elements of ONNX's type {known}")
    return DTYPES[number]


def tensor_of(proto: onnx.TensorProto, device: Any = None) -> cl.Tensor:
    """The tensor that a message holds."""
    dtype = dtype_of(proto.data_type, f"tensor {proto.name!r}")
    return cl.asarray(numpy_helper.to_array(proto), dtype=dtype, device=device)


def proto_of(x: cl.Tensor, name: str) -> onnx.TensorProto:
    """The message that holds a tensor."""
    return numpy_helper.from_array(np.ascontiguousarray(x.detach().numpy()).reshape(x.shape), name)


def constant_of(node: onnx.NodeProto) -> onnx.TensorProto:
    """The message that a Constant node holds, whichever attribute it is in."""
    (attribute,) = node.attribute
    value = onnx.helper.get_attribute_value(attribute)
    if attribute.name == "value":
        return value
    if attribute.name in ("value_float", "value_floats"):
        return numpy_helper.from_array(np.asarray(value, np.float32))
    if attribute.name in ("value_int", "value_ints"):
        return numpy_helper.from_array(np.asarray(value, np.int64))
    raise DTypeError(
        f"load: Constant {node.output[0]!r}: {attribute.name} is not supported: corelib has no strings and no sparse tensors"
    )


def is_small(proto: onnx.TensorProto) -> bool:
    """Whether a message holds few enough numbers to be about shapes."""
    return math.prod(proto.dims) <= SMALL


def is_program(proto: onnx.TensorProto) -> bool:
    """Whether a constant is more likely a shape, an axis or an index than data: few integers, on at most one axis."""
    integer = proto.data_type in (TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL)
    return integer and len(proto.dims) <= 1 and is_small(proto)


def read(x: Any, kind: str) -> Any:
    """A tensor's values as Python numbers, as an annotation of the table asks; None stays."""
    if not isinstance(x, cl.Tensor):
        return x  # an input that was left out, or an attribute
    if kind in ("Int", "Number"):
        return cl.reshape(x, ()).item()
    return tuple(cl.reshape(x, (-1,)).tolist())
