"""DLPack, by which array libraries hand each other memory: the array API standard's ``__dlpack__`` and its
arguments, over what a backend and NumPy can do.

NumPy makes and takes the capsules of memory that the host can read. It does not know bfloat16, so that passes it
as uint16, and the type code in the capsule's struct (https://dmlc.github.io/dlpack/latest/c_api.html) is set here.
This module knows tensors and backends only as the objects that it is handed.
"""

from __future__ import annotations

import ctypes
from typing import Any

from .capture import captured, capturing
from .errors import ArgumentError, InterchangeError

CPU, PINNED, MANAGED = 1, (3, 11), {13: 2}  # kDLCPU; host memory of CUDA and ROCm; CUDA's managed memory
UINT, BFLOAT = 1, 4  # type codes
COPIED = 2  # DLPACK_FLAG_BITMASK_IS_COPIED
OLD, VERSIONED = b"dltensor", b"dltensor_versioned"  # names of a capsule; the second since DLPack 1.0


class _Tensor(ctypes.Structure):
    """DLTensor, as far as it is read here."""

    _fields_ = [
        ("data", ctypes.c_void_p), ("device_type", ctypes.c_int32), ("device_id", ctypes.c_int32), ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16),
    ]  # fmt: skip


class _Versioned(ctypes.Structure):
    """DLManagedTensorVersioned; its predecessor begins with the DLTensor."""

    _fields_ = [
        ("major", ctypes.c_uint32), ("minor", ctypes.c_uint32), ("context", ctypes.c_void_p), ("deleter", ctypes.c_void_p),
        ("flags", ctypes.c_uint64), ("tensor", _Tensor),
    ]  # fmt: skip


_name = ctypes.PYFUNCTYPE(ctypes.c_char_p, ctypes.py_object)(("PyCapsule_GetName", ctypes.pythonapi))
_address = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)


def _retyped(capsule: Any, code: int, new: int) -> Any:
    """A capsule of 16-bit elements of type ``code``, as one of type ``new``: the same memory, named otherwise."""
    name = _name(capsule)
    if name not in (OLD, VERSIONED):
        raise InterchangeError(f"an unused DLPack capsule was needed, got {capsule!r}")
    address = _address(capsule, name)
    tensor = _Versioned.from_address(address).tensor if name == VERSIONED else _Tensor.from_address(address)
    if (tensor.code, tensor.bits, tensor.lanes) != (code, 16, 1):
        raise InterchangeError(
            f"elements of DLPack type ({tensor.code}, {tensor.bits} bits) are of no dtype here"
        )
    tensor.code = new
    return capsule


class _AsIntegers:
    """An exporter of bfloat16 as one of uint16."""

    def __init__(self, source: Any) -> None:
        self.source = source

    def __dlpack_device__(self) -> Any:
        return self.source.__dlpack_device__()

    def __dlpack__(self, **options: Any) -> Any:
        return _retyped(self.source.__dlpack__(**options), BFLOAT, UINT)


def place(device: Any) -> tuple[int, int]:
    """A DLPack device as (kind, index), where memory that the host can read is the host's."""
    kind, index = (int(getattr(part, "value", part)) for part in device)
    return (CPU, 0) if kind == CPU or kind in PINNED else (MANAGED.get(kind, kind), index)


def host_array(source: Any) -> Any:
    """The NumPy array on the memory of ``source``, anything with ``__dlpack__``; of a device: of a copy."""
    import numpy

    options: dict[str, Any] = {} if place(source.__dlpack_device__())[0] == CPU else {"device": "cpu"}
    try:
        return numpy.from_dlpack(source, **options)
    except (BufferError, RuntimeError) as error:
        try:
            array = numpy.from_dlpack(_AsIntegers(source), **options)
        except (BufferError, RuntimeError):
            raise error from None
        import ml_dtypes

        return array.view(ml_dtypes.bfloat16)


def shared(backend: Any, source: Any) -> Any:
    """An array of ``backend`` on the memory of ``source``, or None where that cannot be."""
    try:
        return backend.from_dlpack(source)
    except BufferError:
        return None
    except RuntimeError as error:
        if type(error) is RuntimeError:  # NumPy's, for a dtype or device that it does not know
            return None
        raise


def memory(backend: Any) -> tuple[int, int]:
    """The DLPack device on which a backend's arrays are; one that exports nothing keeps them on the host."""
    from .dtypes import uint8

    exported = backend.dlpack(backend.from_host(b"\0", (1,), uint8))
    return (CPU, 0) if exported is None else place(exported.__dlpack_device__())


def export(x: Any, stream: Any, max_version: Any, dl_device: Any, copy: bool | None) -> Any:
    """``x.__dlpack__`` of a tensor."""
    import numpy

    if capturing:
        x = captured(x)
    if x._node is not None:
        raise InterchangeError(
            "another library would take the values of this tensor and lose its gradient: call x.detach() where that is meant"
        )
    source = x._backend.dlpack(x._data)
    own = (CPU, 0) if source is None else place(source.__dlpack_device__())
    asked = own if dl_device is None else place(dl_device)
    if source is not None and asked == own and not isinstance(source, numpy.ndarray):
        options = {"stream": stream, "max_version": max_version, "copy": copy}
        return source.__dlpack__(**{name: value for name, value in options.items() if value is not None})
    if asked != (CPU, 0):
        raise InterchangeError(
            f"a tensor on {x.device!r} cannot be exported to DLPack device {asked}: only to {own}, where it is"
            + " or (1, 0), the host's memory" * (own != (CPU, 0))
        )
    if stream is not None:
        raise ArgumentError(
            f"__dlpack__: the host's memory has no streams: stream must be None, got {stream!r}"
        )
    if isinstance(source, numpy.ndarray):
        return _host_capsule(source, max_version, copy)
    if copy is False:
        raise InterchangeError(
            f"backend {x.device!r} cannot share this tensor's memory: only a copy in the host's memory can be exported"
        )
    capsule = _host_capsule(x.numpy(), max_version, None, frozen=False)
    if _name(capsule) == VERSIONED:
        _Versioned.from_address(_address(capsule, VERSIONED)).flags |= COPIED
    return capsule


def _host_capsule(array: Any, max_version: Any, copy: bool | None, frozen: bool = True) -> Any:
    """A capsule of a NumPy array, marked read-only (``frozen``) where the consumer's DLPack can say so."""
    import numpy

    integers = array.view(numpy.uint16) if array.dtype.name == "bfloat16" else array.view()
    versioned = max_version is not None and max_version[0] >= 1
    if not versioned and not integers.flags.writeable:  # such as a broadcast: nothing would tell the consumer
        if copy is False:
            raise InterchangeError(
                "read-only memory can be shared by DLPack 1.0 or newer: give max_version, or leave out copy=False"
            )
        integers = integers.copy()
    elif versioned and frozen:
        integers.flags.writeable = False
    options = {} if copy is None else {"copy": copy}
    capsule = integers.__dlpack__(max_version=max_version, **options)
    return _retyped(capsule, UINT, BFLOAT) if array.dtype.name == "bfloat16" else capsule
