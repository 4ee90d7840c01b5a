"""What batching and forward mode share: a backend of a higher level, whose arrays hold tensors of the levels below.

A call of a transformation makes one wrapper, whose level is above all that is active. Its kernels know nothing of
that call: what they need is in the arrays. So the tables of kernels are shared by all calls on one device.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ..backend import Backend
from ..binding import decomposed, widened
from ..dispatch import reissue
from ..dtypes import HALF, DType
from ..errors import BackendError
from ..op import Op
from ..registry import activate, active_backends, registry
from ..tensor import Tensor, wrap

BODY = 1 << 29  # the level at which bodies of composites run: above every call


class Wrapper(Backend):
    """A backend for one call of a transformation. ``base``: what it is made on; ``root``: the first below it that is
    no wrapper of this kind, where constants are created.
    """

    hooked = False
    pure = True
    base: Backend
    root: Backend

    def __init__(self, name: str, tensors: Sequence[Tensor]) -> None:
        below = [*active_backends(), *(t._backend for t in tensors)]
        self.base = max(below, key=lambda b: b.level)
        self.root = self.base.root if isinstance(self.base, Wrapper) else self.base
        super().__init__(name)
        self.device, self.level = self.base.device, self.base.level + 1
        self.tables = _prototype(type(self), self.root).tables
        self._changed: list[tuple[Any, ...]] = []

    def constant(self, tensor: Tensor) -> Any:
        """An array of a tensor of a lower level, which the transformation does not vary."""
        raise NotImplementedError

    def below(self, array: Any) -> Tensor | None:
        """The tensor of a lower level that an array stands for, or None if there is not one."""
        raise NotImplementedError

    def lift(self, tensor: Tensor) -> Tensor:
        """A tensor of a lower level at this one."""
        return wrap(self.constant(tensor), self)

    def find(self, op: Op, dtype: DType | None) -> Callable[..., Any]:
        """The kernel of an op: ``created`` for one without operands, else as the transformation says."""
        if op.operands:
            return self.kernel(op, dtype)
        root, constant = self.root, self.constant

        def created(**params: Any) -> Any:
            return constant(reissue(op, (), params, root))

        return created

    def kernel(self, op: Op, dtype: DType | None) -> Callable[..., Any]:
        """The kernel of an op with operands."""
        raise NotImplementedError

    def body(self, op: Op, dtype: DType | None) -> Callable[..., Any] | None:
        """A kernel that runs a composite's body at this level, in float32 where half precision computes; None for a
        primitive.
        """
        if op.body is not None and dtype in HALF and not op.moves:
            return widened(op, self, dtype)
        return decomposed(op, self)

    def from_host(self, buffer: Any, shape: tuple[int, ...], dtype: DType) -> Any:
        """New values are constants."""
        return self.constant(wrap(self.root.from_host(buffer, shape, dtype), self.root))

    def to_host(self, array: Any) -> Any:
        """The values of what is one tensor below."""
        tensor = self.below(array)
        if tensor is None:
            raise BackendError(
                f"a value was read inside {self.name}, where it is another one for each example: compute with where(), "
                "or read it outside"
            )
        return tensor._backend.to_host(tensor._data)

    def on_device(self, device: str) -> Any:
        """On its own device it creates itself; elsewhere the level below does."""
        if device == self.device:
            return self
        return self.base.on_device(device) if self.base.level else registry.get(device)

    # -- tensors from outside that the function changes -------------------------------------------------------

    def rebind(self, tensor: Tensor, value: Tensor) -> None:
        """Note the old value of a tensor of a lower level, which perhaps outlives this call."""
        if tensor._backend is not self:
            self._changed.append((weakref.ref(tensor), tensor._data, tensor._backend, tensor._node))

    @contextmanager
    def entered(self) -> Iterator[Wrapper]:
        """Where the function runs: creation functions create at this level."""
        try:
            with activate(self):
                yield self
        except BaseException:
            self._restored()
            raise

    def leave(self, results: Sequence[Any]) -> None:
        """Give each tensor from outside that was changed the value that it has below; BackendError, with the old
        values back, if it has not one.
        """
        kept = {id(t) for t in results}
        for tensor, value in [(t, self.below(v)) for t, v in self._restored() if id(t) not in kept]:
            if value is None:
                raise BackendError(
                    f"{self.name}: the function changes a tensor from outside ({tensor.dtype.name}{list(tensor.shape)}), to "
                    "another value for each example: return the value instead"
                )
            tensor._rebind(value)

    def _restored(self) -> list[tuple[Tensor, Any]]:
        """Undo what was noted; the tensors that are still there, with the arrays that they had come to stand for."""
        found: dict[int, tuple[Tensor, Any]] = {}
        while self._changed:
            reference, data, backend, node = self._changed.pop()
            tensor = reference()
            if tensor is not None:
                if tensor._backend is self:
                    found.setdefault(id(tensor), (tensor, tensor._data))
                tensor._data, tensor._backend, tensor._node = data, backend, node
        return list(found.values())


def _prototype(cls: type[Wrapper], root: Backend) -> Wrapper:
    """The wrapper whose tables all calls on ``root`` use, and at whose level bodies run."""
    known = root.__dict__.setdefault("_wrappers", {})
    found = known.get(cls)
    if found is None:
        found = object.__new__(cls)
        Backend.__init__(found, cls.__name__)
        found.base = found.root = root
        found.device, found.level = root.device, BODY
        known[cls] = registry.attach(found)
    return found


def plain(params: dict[str, Any]) -> dict[str, Any]:
    """Parameters as a level below gets them, where others may see the operands."""
    return {**params, "overwrite": False} if params.get("overwrite") else params


def escaped(name: str, tensor: Tensor) -> BackendError:
    """The error for a tensor of a call that has ended."""
    return BackendError(
        f"{name}: a tensor of another call of {tensor._backend.name} came in, which has ended: a function must not keep tensors "
        "beyond its return"
    )
