"""Tensor: an array of some backend, perhaps with a node on the tape.

A tensor is a value: no two tensors can be seen to share memory, and ``x[i] = v`` or ``x += v`` rebind ``x``
to a new value, differentiably. Its methods are the public ops of the same name, looked up when called
(``op.calls``), so that this module stands below ``ops/``. It knows a backend only as the object that its
array belongs to. ``_read`` is the one place where values leave a tensor.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from . import dtypes
from .capture import captured, capturing
from .dtypes import DType, as_dtype
from .errors import (
    ArgumentError,
    BackendNotFoundError,
    DTypeError,
    GradientError,
    InterchangeError,
    ShapeError,
)
from .op import calls

if TYPE_CHECKING:
    from .backend import Backend

_new = object.__new__
VERSIONS = (
    "2021.12",
    "2022.12",
    "2023.12",
    "2024.12",
    "2025.12",
)  # of the array API standard; the last is ours


class Tensor:
    """A multi-dimensional array with a dtype, on a backend, that can take part in differentiation.

    Made by :func:`corelib.asarray`, by the creation functions and by ops; ``Tensor(data, backend)`` is for
    authors of backends, with an array of that backend.
    """

    __slots__ = ("__weakref__", "_backend", "_data", "_node")
    __array_ufunc__ = None  # NumPy: leave operators to us
    _data: Any
    _backend: Backend
    _node: Any

    def __init__(self, data: Any, backend: Backend, node: Any = None) -> None:
        self._data, self._backend, self._node = data, backend, node

    # -- attributes ------------------------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...]:
        """The size of each axis."""
        return tuple(self._data.shape)  # a backend's arrays may have a subclass, such as torch.Size

    @property
    def dtype(self) -> DType:
        """The element type."""
        return as_dtype(self._data.dtype)

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self._data.shape)

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self._data.shape)

    @property
    def nbytes(self) -> int:
        """The number of elements times the bytes of each."""
        return self.size * self.dtype.itemsize

    @property
    def device(self) -> str:
        """The device string, such as "cpu" or "cuda:1"."""
        return self._backend.device

    @property
    def mT(self) -> Tensor:
        """The last two axes exchanged."""
        return calls.matrix_transpose(self)

    @property
    def T(self) -> Tensor:
        """The transpose of a matrix; more or fewer axes are refused, use ``mT`` or ``permute_dims``."""
        if self.ndim != 2:
            raise ShapeError(f"x.T needs two dimensions, x has shape {self.shape}: use x.mT or permute_dims")
        return calls.matrix_transpose(self)

    @property
    def real(self) -> Tensor:
        """The real part; of a real or bool tensor: itself."""
        return calls.real(self) if self.dtype.kind == "complex" else self.__copy__()

    @property
    def imag(self) -> Tensor:
        """The imaginary part; of a real or bool tensor: zeros."""
        if self.dtype.kind == "complex":
            return calls.imag(self)
        return calls.full(
            self.shape, 0, dtype=self.dtype, device=self._backend
        )  # on backends without complex, too

    # -- gradients -------------------------------------------------------------------------------------------

    @property
    def requires_grad(self) -> bool:
        """Whether ops on this tensor are recorded."""
        return self._node is not None

    @property
    def is_leaf(self) -> bool:
        """Whether this tensor is the end of a graph: it has no history, or collects a gradient itself."""
        return self._node is None or hasattr(self._node, "grad")

    @property
    def grad(self) -> Tensor | None:
        """The gradient that ``backward`` collected, for a tensor on which ``requires_grad_()`` was called."""
        return getattr(self._node, "grad", None)

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        if not hasattr(self._node, "grad"):
            raise GradientError("only a tensor on which requires_grad_() was called has a .grad")
        if value is not None and not isinstance(value, Tensor):
            raise DTypeError(f".grad must be a Tensor or None, got {type(value).__name__}")
        if value is not None and (
            value.shape != self.shape
            or value.dtype is not self.dtype
            or (value._backend is not self._backend and not value._backend.level)
        ):
            raise ShapeError(
                f".grad must match the tensor: {self.dtype.name}{list(self.shape)} on {self.device}, "
                f"got {value.dtype.name}{list(value.shape)} on {value.device}"
            )
        self._node.grad = value

    def requires_grad_(self, flag: bool = True) -> Tensor:
        """Make this tensor a leaf that collects a gradient (or, with False, cut it off); returns itself."""
        return calls.requires_grad_(self, flag)

    def detach(self) -> Tensor:
        """The same value without history."""
        return calls.stop_gradient(self)

    def backward(
        self, g: Tensor | None = None, *, retain_graph: bool = False, create_graph: bool = False
    ) -> None:
        """Add the derivative of this tensor (times the cotangent ``g``) to ``.grad`` of the leaves it depends
        on.

        ``g`` has this tensor's shape and may be left out for a scalar. The graph is freed unless
        ``retain_graph``; ``create_graph`` records the walk, so that the gradients can be differentiated; such
        a gradient holds its graph, which ends in this leaf again, until ``.grad`` is set to None.

        Example::

            w = corelib.ones(3).requires_grad_()
            (w * w).sum().backward()
            w.grad  # 2 * w
        """
        calls.backward(self, g, retain_graph=retain_graph or create_graph, create_graph=create_graph)

    # -- values: the one way out -----------------------------------------------------------------------------

    def _read(self, why: str) -> Any:
        """The elements in C order as a buffer: the only place where values are read."""
        x = captured(self) if capturing else self
        return self.dtype.buffer(x._backend.to_host(x._data))

    def _flat(self, why: str) -> list[Any]:
        return self.dtype.unpack(self._read(why))

    def item(self) -> Any:
        """The value of a tensor with one element, as a Python number."""
        if self.size != 1:
            raise ShapeError(f"item() needs one element, the tensor has shape {self.shape}: use tolist()")
        return self._flat("item")[0]

    def tolist(self) -> Any:
        """The values as nested lists of Python numbers (a number if there is no axis)."""
        flat = self._flat("tolist")

        def nest(shape: tuple[int, ...], values: list[Any]) -> Any:
            if not shape:
                return values[0]
            step = len(values) // shape[0] if shape[0] else 0
            return [nest(shape[1:], values[i * step : (i + 1) * step]) for i in range(shape[0])]

        return nest(self.shape, flat)

    def numpy(self) -> Any:
        """The values as a NumPy array that is the caller's own, in C order."""
        import numpy

        return numpy.array(self._array(), order="C")

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        """For NumPy, which takes the values and would lose the gradient: refused where one is required."""
        if self._node is not None:
            raise GradientError(
                "NumPy would take the values of this tensor and lose its gradient: call x.detach() or x.numpy() "
                "where that is meant, or work on tensors"
            )
        return self._array(dtype, copy)

    def _array(self, dtype: Any = None, copy: bool | None = None) -> Any:
        """What ``numpy.asarray(x)`` is: the values as a read-only NumPy array, on this tensor's memory where NumPy can
        read that; with ``copy=True`` as an array of the caller's own; with ``copy=False`` never as a copy.
        """
        import numpy

        x = captured(self) if capturing else self
        source = x._backend.dlpack(x._data)
        sharing = isinstance(source, numpy.ndarray)
        if sharing:
            array = source.view()
        else:
            array = numpy.frombuffer(self._read("numpy"), self.dtype.numpy).reshape(self.shape)
        if copy is False and (not sharing or dtype is not None and numpy.dtype(dtype) != array.dtype):
            raise InterchangeError(
                f"a {self.dtype.name} tensor on {self.device!r} becomes {numpy.dtype(dtype or array.dtype).name} in NumPy "
                "by a copy only: leave out copy=False"
            )
        if dtype is not None and numpy.dtype(dtype) != array.dtype:
            return array.astype(dtype)
        array.flags.writeable = False
        return array.copy() if copy else array

    def __bool__(self) -> bool:
        return bool(self._scalar("bool"))

    def __int__(self) -> int:
        return int(self._real("int"))

    def __float__(self) -> float:
        return float(self._real("float"))

    def __complex__(self) -> complex:
        value = self._scalar("complex")
        return complex(value, value) if value != value and self.dtype.kind == "float" else complex(value)

    def __index__(self) -> int:
        if self.dtype.kind not in ("int", "uint"):
            raise DTypeError(f"only an integer tensor can be an index, this one is {self.dtype.name}")
        return int(self._scalar("index"))

    def _scalar(self, why: str) -> Any:
        if self.size != 1:
            raise ShapeError(
                f"{why}() of a tensor needs one element, it has shape {self.shape}: use any(), all() or item()"
            )
        return self._flat(why)[0]

    def _real(self, why: str) -> Any:
        if self.dtype.kind == "complex":
            raise DTypeError(
                f"{why}() of a {self.dtype.name} tensor would drop the imaginary part: take its real part or abs()"
            )
        return self._scalar(why)

    def __len__(self) -> int:
        if not self.shape:
            raise DTypeError("len() of a 0-d tensor")
        return self.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        if not self.shape:
            raise DTypeError("iteration over a 0-d tensor")
        return iter([self[i] for i in range(self.shape[0])])

    def __contains__(self, value: Any) -> bool:
        found = self == value
        return bool(calls.any(found)) if isinstance(found, Tensor) else found

    # -- printing --------------------------------------------------------------------------------------------

    def __repr__(self) -> str:
        from .printing import tensor_repr

        return tensor_repr(self)

    def _repr_html_(self) -> str:
        from .printing import tensor_html

        return tensor_html(self)

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec and self.size == 1 else repr(self)

    # -- conversion ------------------------------------------------------------------------------------------

    def to(self, target: Any) -> Tensor:
        """This tensor on another device ("cuda") or in another dtype. Differentiable."""
        return calls.to(self, target)

    def to_device(self, device: str, /, *, stream: None = None) -> Tensor:
        """This tensor on another device; the array API standard's spelling of :meth:`to`.

        ``stream`` must be None: a copy is ordered with the work of the device, on its current stream.
        """
        if stream is not None:
            raise ArgumentError(
                f"to_device: stream must be None, got {stream!r}: the device's current one is taken"
            )
        return calls.to(self, device)

    def astype(self, dtype: Any) -> Tensor:
        """This tensor in another dtype."""
        return calls.astype(self, dtype)

    def __array_namespace__(self, /, *, api_version: str | None = None) -> Any:
        """The module ``corelib``, which follows the array API standard in the version asked for."""
        if api_version is not None and api_version not in VERSIONS:
            raise ArgumentError(
                f"__array_namespace__: no version {api_version!r} of the array API standard (there are {', '.join(VERSIONS)})"
            )
        return sys.modules[__package__]

    def __dlpack__(
        self,
        /,
        *,
        stream: Any = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> Any:
        """A DLPack capsule of this tensor's memory, marked read-only where the consumer's ``max_version`` can say
        so; or of a copy, if the backend's memory cannot be shared or ``dl_device`` is (1, 0), the host, and the
        tensor elsewhere. ``copy=True`` always copies, ``copy=False`` never. ``stream``: the consumer's, on a device
        that has streams.

        Raises InterchangeError, a BufferError, where that cannot be.
        """
        from .dlpack import export

        return export(self, stream, max_version, dl_device, copy)

    def __dlpack_device__(self, /) -> tuple[int, int]:
        """The DLPack device type and index; (1, 0) is the host's memory."""
        source = self._backend.dlpack(self._data)
        return (1, 0) if source is None else source.__dlpack_device__()

    def __reduce__(self) -> Any:
        if not self.is_leaf:
            raise GradientError("a tensor with history cannot be pickled: call x.detach() first")
        return _restore, (
            bytes(memoryview(self._read("pickle"))),
            self.shape,
            self.dtype.name,
            self.device,
            self.requires_grad,
        )

    def __copy__(self) -> Tensor:
        x = captured(self) if capturing else self
        return wrap(x._data, x._backend, x._node)

    def __deepcopy__(self, memo: Any) -> Tensor:
        if self._node is not None and not self.is_leaf:
            raise GradientError("a tensor with history cannot be deep-copied: call x.detach() first")
        copied: Tensor = calls.asarray(self.detach(), copy=True)
        return copied.requires_grad_() if self._node is not None else copied

    # -- rebinding -------------------------------------------------------------------------------------------

    def _rebind(self, value: Tensor) -> Tensor:
        """Make this tensor stand for ``value`` (same shape, dtype and backend): the one way a tensor changes.

        ``+=``, ``x[i] = v``, optimizers and buffers all come through here. A leaf stays a leaf.
        """
        if value._data.shape != self._data.shape or value.dtype is not self.dtype:
            raise ShapeError(
                f"a tensor cannot change its shape or dtype in place: {self.dtype.name}{list(self.shape)} "
                f"would become {value.dtype.name}{list(value.shape)}"
            )
        if hasattr(self._node, "grad") and value._node is not None:
            raise GradientError(
                "a leaf that requires a gradient cannot be changed in place by a recorded op: use no_grad() or detach()"
            )
        if capturing:
            value = captured(value)
        value._backend.rebind(self, value)
        self._data, self._backend = value._data, value._backend
        if not hasattr(self._node, "grad"):
            self._node = value._node
        return self

    def __getitem__(self, key: Any) -> Tensor:
        return calls.getitem(self, key)

    def __setitem__(self, key: Any, value: Any) -> None:
        calls.setitem(self, key, value)

    __hash__ = object.__hash__

    if TYPE_CHECKING:  # what ops/methods.py attaches, for type checkers and editors
        __add__: Callable[..., Tensor]
        __radd__: Callable[..., Tensor]
        __sub__: Callable[..., Tensor]
        __mul__: Callable[..., Tensor]
        __rmul__: Callable[..., Tensor]
        __truediv__: Callable[..., Tensor]
        __floordiv__: Callable[..., Tensor]
        __mod__: Callable[..., Tensor]
        __pow__: Callable[..., Tensor]
        __matmul__: Callable[..., Tensor]
        __neg__: Callable[..., Tensor]
        __pos__: Callable[..., Tensor]
        __abs__: Callable[..., Tensor]
        __invert__: Callable[..., Tensor]
        __and__: Callable[..., Tensor]
        __or__: Callable[..., Tensor]
        __xor__: Callable[..., Tensor]
        __lshift__: Callable[..., Tensor]
        __rshift__: Callable[..., Tensor]
        __lt__: Callable[..., Tensor]
        __le__: Callable[..., Tensor]
        __gt__: Callable[..., Tensor]
        __ge__: Callable[..., Tensor]
        abs: Callable[..., Tensor]
        all: Callable[..., Tensor]
        any: Callable[..., Tensor]
        argmax: Callable[..., Tensor]
        argmin: Callable[..., Tensor]
        argsort: Callable[..., Tensor]
        broadcast_to: Callable[..., Tensor]
        ceil: Callable[..., Tensor]
        clip: Callable[..., Tensor]
        conj: Callable[..., Tensor]
        cos: Callable[..., Tensor]
        count_nonzero: Callable[..., Tensor]
        cumprod: Callable[..., Tensor]
        cumsum: Callable[..., Tensor]
        cumulative_prod: Callable[..., Tensor]
        cumulative_sum: Callable[..., Tensor]
        diagonal: Callable[..., Tensor]
        dot: Callable[..., Tensor]
        exp: Callable[..., Tensor]
        expand_dims: Callable[..., Tensor]
        flatten: Callable[..., Tensor]
        flip: Callable[..., Tensor]
        floor: Callable[..., Tensor]
        log: Callable[..., Tensor]
        logsumexp: Callable[..., Tensor]
        matmul: Callable[..., Tensor]
        max: Callable[..., Tensor]
        mean: Callable[..., Tensor]
        min: Callable[..., Tensor]
        moveaxis: Callable[..., Tensor]
        nonzero: Callable[..., tuple[Tensor, ...]]
        permute_dims: Callable[..., Tensor]
        prod: Callable[..., Tensor]
        ravel: Callable[..., Tensor]
        repeat: Callable[..., Tensor]
        reshape: Callable[..., Tensor]
        roll: Callable[..., Tensor]
        round: Callable[..., Tensor]
        sign: Callable[..., Tensor]
        sin: Callable[..., Tensor]
        sort: Callable[..., Tensor]
        split: Callable[..., list[Tensor]]
        sqrt: Callable[..., Tensor]
        square: Callable[..., Tensor]
        squeeze: Callable[..., Tensor]
        std: Callable[..., Tensor]
        sum: Callable[..., Tensor]
        swapaxes: Callable[..., Tensor]
        take: Callable[..., Tensor]
        tanh: Callable[..., Tensor]
        tile: Callable[..., Tensor]
        trace: Callable[..., Tensor]
        transpose: Callable[..., Tensor]
        tril: Callable[..., Tensor]
        triu: Callable[..., Tensor]
        unstack: Callable[..., tuple[Tensor, ...]]
        var: Callable[..., Tensor]

    # -- operators -------------------------------------------------------------------------------------------

    def __rsub__(self, other: Any) -> Tensor:
        return calls.subtract(other, self)

    def __rtruediv__(self, other: Any) -> Tensor:
        return calls.divide(other, self)

    def __rfloordiv__(self, other: Any) -> Tensor:
        return calls.floor_divide(other, self)

    def __rmod__(self, other: Any) -> Tensor:
        return calls.remainder(other, self)

    def __rpow__(self, other: Any) -> Tensor:
        return calls.pow(other, self)

    def __rmatmul__(self, other: Any) -> Tensor:
        return calls.matmul(other, self)

    def __rand__(self, other: Any) -> Tensor:
        return calls.bitwise_and(other, self)

    def __ror__(self, other: Any) -> Tensor:
        return calls.bitwise_or(other, self)

    def __rxor__(self, other: Any) -> Tensor:
        return calls.bitwise_xor(other, self)

    def __rlshift__(self, other: Any) -> Tensor:
        return calls.bitwise_left_shift(other, self)

    def __rrshift__(self, other: Any) -> Tensor:
        return calls.bitwise_right_shift(other, self)

    def __eq__(self, other: Any) -> Any:
        return (
            calls.equal(self, other)
            if isinstance(other, _OPERAND) or hasattr(other, "__array__")
            else NotImplemented
        )

    def __ne__(self, other: Any) -> Any:
        return (
            calls.not_equal(self, other)
            if isinstance(other, _OPERAND) or hasattr(other, "__array__")
            else NotImplemented
        )


def _in_place(name: str) -> Any:
    def method(self: Tensor, other: Any) -> Tensor:
        value = getattr(calls, name)(self, other)
        if value._data.dtype is not self._data.dtype and dtypes.goes_into(value.dtype, self.dtype):
            value = calls.astype(value, self.dtype)
        return self._rebind(value)

    method.__doc__ = (
        f"Rebind this tensor to ``{name}(self, other)``, in its own dtype, as ``x[...] = value`` does."
    )
    return method


for _dunder, _name in {
    "__iadd__": "add", "__isub__": "subtract", "__imul__": "multiply", "__itruediv__": "divide", "__ifloordiv__": "floor_divide",
    "__imod__": "remainder", "__ipow__": "pow", "__imatmul__": "matmul", "__iand__": "bitwise_and", "__ior__": "bitwise_or",
    "__ixor__": "bitwise_xor", "__ilshift__": "bitwise_left_shift", "__irshift__": "bitwise_right_shift",
}.items():  # fmt: skip
    setattr(Tensor, _dunder, _in_place(_name))

_OPERAND = (Tensor, bool, int, float, complex)


def wrap(data: Any, backend: Any, node: Any = None) -> Tensor:
    """A Tensor of a backend's array, as quickly as Python can make one."""
    t = _new(Tensor)
    t._data = data
    t._backend = backend
    t._node = node
    return t


def _restore(
    buffer: Any, shape: tuple[int, ...], dtype: str, device: str, requires_grad: bool = False
) -> Tensor:
    """Unpickle: on the device it came from if that is usable here, else an error that says what to do."""
    try:
        x: Tensor = calls.from_buffer(buffer, shape, dtypes.as_dtype(dtype), device)
    except BackendNotFoundError as error:
        raise BackendNotFoundError(
            f"this tensor was pickled on device {device!r}, which cannot be used here ({error}): pickle x.to(another device)"
        ) from error
    return x.requires_grad_() if requires_grad else x
