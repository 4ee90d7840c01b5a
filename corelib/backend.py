"""What the author of a backend implements: BackendInfo, KernelSet and Backend.

A backend owes a kernel for each primitive (``corelib.op.OPS``), and may add kernels for composites. Kernels
are plain functions on the backend's own arrays, which are opaque to the core except for ``.shape`` and
``.dtype``; they never promote, never broadcast dtypes and never write to an operand (``overwrite=True``
excepted). A backend that wraps another (batching, tracing) is a Backend of a higher ``level`` whose arrays
hold tensors of the wrapped one. Nothing here knows tensors, the registry or NumPy.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from .dtypes import HALF, DType, as_dtype
from .errors import PluginError
from .op import BY_NAME, Op

# the version of the contract between the core and a backend; a plugin that needs a newer one is refused
API = 1


@dataclass(frozen=True)
class BackendInfo:
    """What a plugin declares of a backend before anything heavy is imported.

    ``name``: the device string. ``load``: "package.module:Class". ``requires``: importable modules that it
    needs. ``install_hint``: how to install them, a sentence. ``base``: for an overlay, the backend whose
    kernels it inherits. ``deviations``: known deviations from the contract, ``{conformance case: reason}``.
    ``priority``: the usable backend of the highest one is the default. ``lacks``: capability groups that the
    backend does without, of "complex", "half", "linalg" and "fft".
    """

    name: str
    load: str
    api: int = API
    summary: str = ""
    requires: tuple[str, ...] = ()
    install_hint: str = ""
    base: str | None = None
    deviations: Mapping[str, str] = field(default_factory=dict)
    priority: int = 0
    lacks: tuple[str, ...] = ()


class KernelSet:
    """The kernels of a backend, by op and dtype. Registration checks each signature against the op's."""

    def __init__(self) -> None:
        self._kernels: dict[tuple[str, DType | None], Callable[..., Any]] = {}
        self._families: dict[tuple[str, DType | None], Callable[[Op, DType], Callable[..., Any]]] = {}

    def implements(self, op: Any, dtypes: Iterable[DType] | None = None) -> Callable[[Any], Any]:
        """Decorator: this function is the kernel of ``op`` for ``dtypes``, or for every dtype the op accepts.

        float16 and bfloat16 are storage: unless they are named here, they reach kernels that move elements
        only, and the core casts to float32 and back for all others.
        """

        def register(kernel: Any) -> Any:
            self.add(op, kernel, dtypes)
            return kernel

        return register

    def add(self, op: Any, kernel: Callable[..., Any], dtypes: Iterable[DType] | None = None) -> None:
        """Register ``kernel`` for ``op``; a signature that cannot take the op's operands and parameters is a
        PluginError.
        """
        op = _op(op)
        _check_signature(op, kernel)
        for dtype in [None] if dtypes is None else dtypes:
            self._kernels[op.name, dtype] = kernel

    def family(
        self, ops: Any, make: Callable[[Op, DType], Callable[..., Any]], dtypes: Iterable[DType] | None = None
    ) -> None:
        """``make(op, dtype)`` builds the kernel of each of ``ops`` when it is first needed."""
        for op in ops if isinstance(ops, list | tuple) else (ops,):
            for dtype in [None] if dtypes is None else dtypes:
                self._families[_op(op).name, dtype] = make

    def fill_from(self, namespace: Any, *, exclude: Iterable[str] = ()) -> list[str]:
        """Register whatever ``namespace`` has under the standard's names, for ops that have no kernel yet;
        returns the names.

        Only ops whose kernel signature is the standard's own are taken: element-wise, comparison and bitwise
        functions, and matmul.
        """
        taken = []
        for name, op in BY_NAME.items():
            standard = op.kind == "elementwise" and not op.params and name != "where" or name == "matmul"
            kernel = getattr(namespace, name, None)
            if standard and op.primitive and kernel is not None and name not in exclude and not self.has(op):
                self._kernels[name, None] = kernel
                taken.append(name)
        return taken

    def has(self, op: Any) -> bool:
        """Whether any kernel of ``op`` is registered."""
        name = _op(op).name
        return any(key[0] == name for key in (*self._kernels, *self._families))

    def source(self, op: Any, dtype: DType | None) -> Callable[..., Any] | None:
        """What :meth:`get` would give, or the function that would make it: for telling where it stands,
        without building it.
        """
        for key in _keys(_op(op), dtype):
            found = self._kernels.get(key) or self._families.get(key)
            if found is not None:
                return found
        return None

    def get(self, op: Any, dtype: DType | None) -> Callable[..., Any] | None:
        """The kernel of ``op`` for ``dtype``, or None."""
        op = _op(op)
        for key in _keys(op, dtype):
            kernel = self._kernels.get(key)
            if kernel is not None:
                return kernel
            make = self._families.get(key)
            if make is not None:
                assert dtype is not None
                kernel = self._kernels[op.name, dtype] = make(op, dtype)
                return kernel
        return None


def _op(op: Any) -> Op:
    op = getattr(op, "op", op)
    if not isinstance(op, Op):
        raise PluginError(f"an op of corelib.ops was needed, got {op!r}")
    return op


def _keys(op: Op, dtype: DType | None) -> tuple[tuple[str, DType | None], ...]:
    """Under what a kernel for ``dtype`` may be registered."""
    return ((op.name, dtype),) if dtype in HALF and not op.moves else ((op.name, dtype), (op.name, None))


def _check_signature(op: Op, kernel: Callable[..., Any]) -> None:
    try:
        signature = inspect.signature(kernel)
    except (TypeError, ValueError):
        return  # built-in functions need not tell
    args = [None] * (len(op.operands) + (1 if op.variadic else 0))
    try:
        signature.bind(*args, **dict.fromkeys(op.params))
    except TypeError as error:
        operands = [f"*{o}" if op.variadic and o == op.operands[-1] else o for o in op.operands]
        wanted = ", ".join([*operands, *(["*"] if op.params and not op.variadic else []), *op.params])
        name = getattr(kernel, "__qualname__", repr(kernel))
        raise PluginError(f"kernel {name}{signature} does not fit {op.name}({wanted}): {error}") from None


class Backend:
    """A device: kernels, transfers and memory. One instance per device string; ``str(backend)`` is that
    string.

    Subclasses set ``kernels`` and override what differs. ``level`` is 0 for a device, and higher for a
    backend that wraps another.
    """

    kernels: ClassVar[KernelSet]
    level: int = 0
    hooked: ClassVar[bool] = (
        True  # plugins see its kernels; not those that compute nothing, such as a recorder's
    )
    info: BackendInfo | None = None
    # of a wrapping backend: it follows no state, so that a generator's counter is advanced below it; and for how
    # many examples a generator draws at once
    pure: ClassVar[bool] = False
    draws: int = 1

    def __init__(self, name: str, index: int = 0) -> None:
        self.name, self.index = name, index
        self.device = name if index == 0 else f"{name}:{index}"
        # filled by the registry: dtype of the operands -> list of kernels by op.index
        self.tables: Any = None

    def __str__(self) -> str:
        return self.device

    def __repr__(self) -> str:
        return f"<backend {self.device}>"

    @classmethod
    def probe(cls) -> str | None:
        """None when the backend can be used here, otherwise the reason as a sentence."""
        return None

    @classmethod
    def devices(cls) -> list[str] | None:
        """The device strings that exist, or None for just the backend's name."""
        return None

    @classmethod
    def compile_ahead(cls, architectures: Sequence[str]) -> Iterator[str]:  # noqa: ARG003
        """Optional: compile the kernels of the ops for machines of these architectures, in the backend's own words, and keep
        them on disk; a line for each piece that is done. The backend need not be usable here.
        """
        return iter(())

    def describe(self) -> str:
        """A short phrase for tables, such as "2 threads, AVX-512"."""
        return ""

    def find(self, op: Op, dtype: DType | None) -> Callable[..., Any] | None:
        """The kernel of ``op`` for operands of ``dtype``, or None; called once per op and dtype, then
        remembered.
        """
        return self.kernels.get(op, dtype)

    def from_host(self, buffer: Any, shape: tuple[int, ...], dtype: DType) -> Any:
        """A new array from a C-contiguous buffer in native byte order, which is copied."""
        raise NotImplementedError

    def to_host(self, array: Any) -> Any:
        """The elements in C order, as an object with the buffer protocol; may share memory with the array."""
        raise NotImplementedError

    def copy(self, array: Any) -> Any:
        """The same elements in memory that is shared with nothing."""
        dtype = as_dtype(array.dtype)
        return self.from_host(dtype.buffer(self.to_host(array)), array.shape, dtype)

    def owns(self, array: Any) -> bool:
        """Whether nothing but ``array`` itself refers to its buffer, so that ``overwrite=True`` may be
        honoured.
        """
        return False

    def lift(self, tensor: Any) -> Any:
        """For a wrapping backend: a tensor of a lower level as a tensor of this backend."""
        raise NotImplementedError(f"{self.name} wraps no other backend")

    def compile(self, graph: Any) -> Callable[..., Any] | None:
        """Optional: a callable for a whole recorded program (a :class:`corelib.compile.graph.Graph`), from input arrays
        to result arrays; None means that it is replayed through the tables.

        Unless it is overridden, a backend with an emitter has the program's steps grouped, each group emitted, and what
        has come of it linked.
        """
        if self.__class__.emit is Backend.emit:
            return None
        from .replay import linked

        return linked(graph, self)

    def link(self, graph: Any, replay: Callable[[Any], Callable[..., Any]]) -> Callable[..., Any] | None:
        """Optional: a callable for a program whose groups are single steps with emitted kernels; ``replay(graph)`` makes
        one that calls kernel after kernel, which is also what None means.
        """
        return None

    # elements of a domain from which a generated kernel is faster than the kernels of its steps, see replay.py
    fuse_from: ClassVar[int] = 0
    # whether a product of matrices that ``fuses`` may come before the steps of an element-wise group, as ``group.product``
    fuses_products: ClassVar[bool] = False

    def fuses(self, step: Any) -> bool:
        """Optional: whether a recorded step could be part of a kernel that :meth:`emit` generates: an element-wise one, a
        reduction, or a ``pad``, whose source the kernel then reads at other places.
        """
        return False

    def emit(self, group: Any) -> Callable[..., Any] | None:
        """Optional: one kernel for a :class:`corelib.compile.fuse.Group` of steps, each of which :meth:`fuses`; None to
        have them run one by one.

        It gets the arrays of ``group.operands`` and returns those of ``group.results`` (a tuple if there are several),
        which share memory with nothing. An attribute ``sparing(positions)`` is a function that returns a kernel which
        may write its results over the inputs at these positions.
        """
        return None

    def counter(self, counter: Any, blocks: int) -> Any:
        """For a wrapping backend: the counter of a generator, a tensor of a lower level, as its function sees it;
        each example takes ``blocks`` blocks.
        """
        return self.lift(counter)

    def rebind(self, tensor: Any, value: Any) -> None:
        """Called just before ``tensor`` comes to stand for ``value``, a tensor of this backend: a tracer logs
        it.
        """

    def on_device(self, device: str) -> Any:
        """For a wrapping backend: where a creation function that was asked for ``device`` creates while this
        one is active.
        """
        return self

    def dlpack(self, array: Any) -> Any:
        """An object with ``__dlpack__`` that shares the array's memory (a ``numpy.ndarray``, which may be
        read-only, if that is on the host), or None.
        """
        return None

    def from_dlpack(self, source: Any) -> Any:
        """An array that shares ``source``'s memory through DLPack; None, or a BufferError, when that cannot be."""
        return None

    def synchronize(self) -> None:
        """Wait until all kernels that were started have finished."""

    def threads(self, count: int) -> Any:
        """Optional: a context manager inside which kernels run on ``count`` threads of the host, for tests that the
        number changes no result; None where there is no such choice.
        """
        return None

    def memory_stats(self) -> dict[str, int]:
        """Bytes by name; at least "held" (kept for reuse) where the backend pools memory, and "free" where it knows
        how much the device has left.
        """
        return {}

    def empty_cache(self) -> None:
        """Give memory that is kept for reuse back."""


class Overlay(Backend):
    """A backend that replaces some kernels of another and inherits the rest, arrays and all
    (``BackendInfo.base``).
    """

    kernels = KernelSet()
    base: Backend  # set by the registry

    def describe(self) -> str:
        return f"on {self.base.device}"

    def find(self, op: Op, dtype: DType | None) -> Callable[..., Any] | None:
        return self.kernels.get(op, dtype) or self.base.find(op, dtype)

    def from_host(self, buffer: Any, shape: tuple[int, ...], dtype: DType) -> Any:
        return self.base.from_host(buffer, shape, dtype)

    def to_host(self, array: Any) -> Any:
        return self.base.to_host(array)

    def copy(self, array: Any) -> Any:
        return self.base.copy(array)

    def owns(self, array: Any) -> bool:
        return self.base.owns(array)

    def dlpack(self, array: Any) -> Any:
        return self.base.dlpack(array)

    def from_dlpack(self, source: Any) -> Any:
        return self.base.from_dlpack(source)

    def synchronize(self) -> None:
        self.base.synchronize()

    def threads(self, count: int) -> Any:
        return self.base.threads(count)

    def memory_stats(self) -> dict[str, int]:
        return self.base.memory_stats()

    def empty_cache(self) -> None:
        self.base.empty_cache()
