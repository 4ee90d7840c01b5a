"""Interchange: tensors from Python and NumPy data and from other libraries' arrays, and on other devices.

Whoever hands memory over keeps it: a tensor on it is a value only as long as nobody else writes there. corelib
itself never does (a backend owns no foreign array, see ``Backend.owns``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from .. import dtypes
from ..capture import captured, capturing
from ..dtypes import DType, as_dtype
from ..errors import BackendError, DTypeError, InterchangeError, ShapeError
from ..op import calls
from ..registry import registry
from ..tape import Node, _Pseudo, same
from ..tensor import Tensor, wrap

# -- from data -----------------------------------------------------------------------------------------------

_NUMBERS = (bool, int, float, complex)


def asarray(obj: Any, /, *, dtype: Any = None, device: Any = None, copy: bool | None = None) -> Tensor:
    """A tensor of ``obj``: a number, nested sequences of numbers, a tensor, a NumPy array, an array that speaks
    DLPack, or anything with the buffer protocol.

    dtype: the data's own unless given; for Python numbers bool, int64, float32 or complex64. device: a tensor's
    own, that of an array in a device's memory, else where tensors are being created. ``copy=None`` shares the
    memory where it can: a later write to a NumPy array is seen in the tensor. ``copy=True`` never shares;
    ``copy=False`` shares, and returns a tensor itself, or raises InterchangeError, a ValueError. Tensors in a
    list are stacked, and keep their gradients.

    Example: ``asarray([[1, 2], [3, 4.5]])``.
    """
    wanted = None if dtype is None else as_dtype(dtype)
    if isinstance(obj, Tensor):
        if wanted is None or wanted is obj.dtype:
            return _of_tensor("asarray", obj, device, copy)
        x, sharing = _of_tensor("asarray", obj, device, None), False
    elif isinstance(obj, bool | int | float | complex | list | tuple | range) and not hasattr(obj, "dtype"):
        # numpy.float64 is a float, but has a dtype
        if copy is False:
            raise InterchangeError("asarray: Python numbers have no memory to share: leave out copy=False")
        kinds: set[Any] = set()
        try:
            shape, values = _flatten(obj, kinds)
        except _TensorWithinError:
            return _stacked(obj, wanted, device)
        wanted = wanted or _common(kinds)
        return from_buffer(_pack(values, wanted), shape, wanted, registry.creation(device))
    elif hasattr(obj, "__dlpack__") and not hasattr(obj, "__array_interface__"):
        from ..dlpack import CPU, place

        if device is None and place(obj.__dlpack_device__())[0] == CPU:
            device = registry.creation(None)
        x, sharing = _of_exporter("asarray", obj, device, copy)
    else:
        x, sharing = _of_array(obj, registry.creation(device), copy)
    if wanted is not None and wanted is not x.dtype:
        if copy is False:
            raise InterchangeError(
                f"asarray: {x.dtype.name} becomes {wanted.name} by a copy only: leave out copy=False"
            )
        return calls.astype(x, wanted)
    return _own(x) if copy and sharing else x


class _TensorWithinError(DTypeError):
    """A nested sequence holds a tensor, which is not to be read but stacked."""


def _common(kinds: set[Any]) -> DType:
    """The dtype of numbers of these types and dtypes together; float32 of none."""
    return dtypes.result_type(*[k if isinstance(k, DType) else k() for k in kinds or {float}])


def _stacked(obj: Any, dtype: DType | None, device: Any) -> Tensor:
    """Nested sequences with tensors among the elements, stacked: gradients and devices stay."""
    kinds: set[Any] = set()
    tensors: list[Tensor] = []

    def look(part: Any) -> None:
        if isinstance(part, Tensor):
            kinds.add(part.dtype)
            tensors.append(part)
        elif isinstance(part, list | tuple | range):
            for element in part:
                look(element)
        else:
            _flatten(part, kinds)

    def build(part: Any) -> Tensor:
        if isinstance(part, Tensor):
            return asarray(part, dtype=dtype, device=device)
        if isinstance(part, list | tuple | range) and part:
            return calls.stack([build(element) for element in part])
        return asarray(part, dtype=dtype, device=tensors[0]._backend if device is None else device)

    look(obj)
    dtype = dtype or _common(kinds)
    return build(obj)


def _flatten(obj: Any, kinds: set[Any] | None = None) -> tuple[tuple[int, ...], list[Any]]:
    """Shape and elements of nested sequences of numbers, or ShapeError if they are ragged. ``kinds`` gathers
    the types of the Python numbers and the dtypes of NumPy's.
    """
    kinds = set() if kinds is None else kinds
    if isinstance(obj, list | tuple | range):
        types = set(map(type, obj))
        if types.issubset(_NUMBERS):
            kinds |= types
            return (len(obj),), list(obj)
        parts = [_flatten(o, kinds) for o in obj]
        shapes = {shape for shape, _ in parts}
        if len(shapes) > 1:
            raise ShapeError(
                f"asarray: the nested sequences are ragged: parts have shapes {', '.join(map(str, sorted(shapes)))}"
            )
        return (len(parts), *shapes.pop()), [v for _, values in parts for v in values]
    if isinstance(obj, Tensor):
        raise _TensorWithinError("asarray: a tensor among numbers: call corelib.stack")
    if hasattr(obj, "__array__"):
        array = _numeric(obj)
        kinds.add(as_dtype(array.dtype))
        return array.shape, array.reshape(-1).tolist()
    for kind in _NUMBERS:
        if isinstance(obj, kind):
            kinds.add(kind)
            return (), [obj]
    raise DTypeError(f"asarray: elements must be bool, int, float or complex, got {type(obj).__name__}")


def _pack(values: list[Any], dtype: DType) -> Any:
    """Python numbers as a buffer of a dtype, or DTypeError for one that it does not hold."""
    kind = dtype.kind
    if kind == "bool":
        return bytes(map(bool, values))
    try:
        return dtype.pack(values)
    except (OverflowError, TypeError):
        pass  # some number is not of the dtype: it is rounded to it, or named
    if kind == "complex":
        return dtype.pack(
            [complex(_rounded(v.real, dtype.real), _rounded(v.imag, dtype.real)) for v in values]
        )
    for v in values:
        if isinstance(v, complex):
            raise DTypeError(f"asarray: {v!r} does not fit {dtype.name}: take its real or its imaginary part")
    if kind == "float":
        return dtype.pack([_rounded(v, dtype) for v in values])
    for v in values:
        if not dtype.min <= v <= dtype.max or v != int(v):
            raise DTypeError(f"asarray: {v!r} does not fit {dtype.name} ({dtype.min} to {dtype.max})")
    return dtype.pack([int(v) for v in values])


def _rounded(v: Any, dtype: DType) -> float:
    """A Python number as the nearest value of a floating dtype, or infinity beyond its range."""
    try:
        return dtype.round(float(v))
    except OverflowError:
        return math.copysign(math.inf, v)


_REFUSED = {
    "O": "an array of objects cannot be a tensor: convert it with .astype(float) first",
    "S": "strings cannot be elements of a tensor: convert them with .astype(float) first",
    "V": "records cannot be elements of a tensor: pick a field, array['name']",
    "M": "dates cannot be elements of a tensor: take their integers, array.astype('int64')",
}
_REFUSED |= {"U": _REFUSED["S"], "T": _REFUSED["S"], "m": _REFUSED["M"]}


def _numeric(obj: Any) -> Any:
    """Anything that NumPy can read, as a NumPy array of numbers."""
    import numpy

    if not hasattr(obj, "__array_interface__") and not hasattr(obj, "__array__"):
        try:
            obj = memoryview(obj)
        except TypeError:
            raise DTypeError(
                f"asarray cannot make a tensor of {type(obj).__name__}: give numbers, nested lists, or an array"
            ) from None
    elif hasattr(obj, "mask") and hasattr(obj, "filled"):
        raise DTypeError("asarray: a masked array cannot be a tensor: call .filled(value) first")
    array = numpy.asarray(obj)
    if array.dtype.kind in _REFUSED and array.dtype.name != "bfloat16":
        raise DTypeError(f"asarray: {_REFUSED[array.dtype.kind]}")
    as_dtype(array.dtype)
    return array


def _of_array(obj: Any, backend: Any, copy: bool | None) -> tuple[Tensor, bool]:
    """A tensor of what NumPy can read, and whether it shares the memory."""
    import numpy

    from ..dlpack import shared

    array = _numeric(obj)
    data = shared(backend, array)
    if data is not None:
        return wrap(data, backend), True
    if copy is False:
        raise _cannot_share("asarray", obj, backend)
    dense = numpy.ascontiguousarray(array, array.dtype.newbyteorder("=")).reshape(-1).view(numpy.uint8)
    return from_buffer(dense, array.shape, as_dtype(array.dtype), backend), False


def from_buffer(buffer: Any, shape: tuple[int, ...], dtype: DType, device: Any) -> Tensor:
    """A tensor from a C-contiguous buffer in native byte order, which is copied."""
    backend = registry.creation(device)
    return wrap(backend.from_host(buffer, tuple(shape), dtype), backend)


# -- from other libraries ------------------------------------------------------------------------------------


def from_dlpack(x: Any, /, *, device: Any = None, copy: bool | None = None) -> Tensor:
    """A tensor of ``x``, anything with ``__dlpack__`` and ``__dlpack_device__``.

    It shares x's memory where a backend can, and copies otherwise; ``copy=True`` never shares, ``copy=False``
    shares or raises InterchangeError, a BufferError. device: a tensor's own; that of x's memory, where the
    selected device comes first and then the one of the highest priority.
    """
    if isinstance(x, Tensor):
        return _of_tensor("from_dlpack", x, device, copy)
    if not hasattr(x, "__dlpack__") or not hasattr(x, "__dlpack_device__"):
        raise AttributeError(
            f"from_dlpack needs an object with __dlpack__ and __dlpack_device__, got {type(x).__name__}: call asarray"
        )
    y, sharing = _of_exporter("from_dlpack", x, device, copy)
    return _own(y) if copy and sharing else y


def _of_exporter(name: str, x: Any, device: Any, copy: bool | None) -> tuple[Tensor, bool]:
    """A tensor of an object that speaks DLPack, and whether it shares the memory."""
    from ..dlpack import host_array, shared

    backend = registry.creation(device)
    data = shared(backend, x)
    if data is None and device is None and backend.level == 0:
        beside = _beside(name, x, backend)
        if beside is not backend:
            backend = beside
            data = shared(backend, x)
    if data is not None:
        return wrap(data, backend), True
    if copy is False:
        raise _cannot_share(name, x, backend)
    try:
        array = host_array(x)
    except (BufferError, RuntimeError) as error:
        raise InterchangeError(f"{name}: this {type(x).__name__} cannot be read: {error}") from error
    return _of_array(array, backend, copy=True)


def _beside(name: str, x: Any, selected: Any) -> Any:
    """The backend whose arrays are where those of ``x`` are: the selected one if it is, else of the highest
    priority.
    """
    from ..dlpack import memory, place

    where = place(x.__dlpack_device__())
    if memory(selected) == where:
        return selected
    usable = [status for status in registry.status() if status.usable]
    for status in sorted(usable, key=lambda s: -registry.infos[s.name].priority):
        for device in status.devices:
            backend = registry.get(device)
            if memory(backend) == where:
                return backend
    raise InterchangeError(
        f"{name}: this {type(x).__name__} is in the memory of DLPack device {where}, on which no usable backend "
        "works: give device= to copy it"
    )


def _of_tensor(name: str, x: Tensor, device: Any, copy: bool | None) -> Tensor:
    """A tensor as itself (``copy=False``), as a tensor of its own, or on another device."""
    backend = x._backend if device is None else registry.get(device)
    if backend is x._backend:
        return x if copy is False else _own(x) if copy else same(x)
    if copy is not False:
        y = to(x, backend)
        return _own(y) if copy else y
    from ..dlpack import shared

    exported = x._backend.dlpack(x._data)
    data = None if exported is None else shared(backend, exported)
    if data is None:
        raise _cannot_share(name, x, backend)
    return _arrived(x, data, backend)


def _own(x: Tensor) -> Tensor:
    """x in memory that is shared with nobody. Inside a transformation there is no foreign memory."""
    y = same(x)
    if x._backend.level == 0:
        y._data = x._backend.copy(x._data)
    return y


def _cannot_share(name: str, x: Any, backend: Any) -> InterchangeError:
    return InterchangeError(
        f"{name}: device {backend.device!r} cannot share the memory of this {type(x).__name__}: leave out copy=False"
    )


# -- between devices and dtypes ------------------------------------------------------------------------------

_TRANSFER = _Pseudo("to", lambda node, g, record: (to(g, node.params),))


def to(x: Tensor, target: Any) -> Tensor:
    """``x`` on another device ("cuda:1") or in another dtype. Differentiable."""
    try:
        backend = registry.get(target) if not isinstance(target, DType) else None
    except BackendError:
        try:
            as_dtype(target)
        except DTypeError:
            backend = None
        else:
            return calls.astype(x, target)
        raise
    if backend is None:
        return calls.astype(x, target)
    if capturing:
        x = captured(x)
    source = x._backend
    if source is backend:
        return same(x)
    if backend.level > source.level:
        return backend.lift(x)
    if source.level:
        if source.on_device(backend.device) is source:
            return same(x)
        raise BackendError(
            f"x.to({backend.device!r}): x is inside a transformation ({source.name}); move it before"
        )
    return _arrived(x, registry.manager.hook.transfer(array=x._data, source=source, target=backend), backend)


def _arrived(x: Tensor, data: Any, backend: Any) -> Tensor:
    """The tensor of ``data``, which is x's on another backend."""
    node = None
    if x._node is not None:
        from ..tape import note, paused

        mode = paused.get()
        if mode is not None:
            note(mode, x._node)
        else:
            node = Node(_TRANSFER, backend, (x._node,), (), x._backend, None, data.shape, data.dtype)
    return wrap(data, backend, node)


calls.to, calls.from_buffer, calls.asarray = to, from_buffer, asarray

__all__: Sequence[str] = ("asarray", "from_dlpack")
