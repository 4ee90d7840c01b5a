"""Tracing: a function runs once on tensors without values, and what it did is written down as a graph.

The :class:`Tracer` is a backend above all others. Ops on tensors of a device are lifted to it while it captures
(``capture.py``), so that nothing is computed during a trace, and no result of an op becomes a constant. A tensor that
the function reaches in any way but through its arguments is an input too, read again at each call from the tensor it
was; assignments to tensors (``x[i] = v``, ``+=``, optimizers, buffers, random counters) are logged and undone, and made
by the program when it runs. Equal steps are recorded once: kernels are pure functions, and a random op's counter is
one of its operands.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ..backend import Backend
from ..binding import SCALARS, widened
from ..dtypes import DType, as_dtype
from ..errors import TraceError
from ..op import Op
from ..registry import registry
from ..replay import own
from ..rules import Spec
from ..tape import FREED, Leaf, Node, _Pseudo
from ..tensor import Tensor, wrap
from ..walk import topological
from .graph import Step, Traced

LIMIT = 50_000  # steps of one program
_HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
WAYS_OUT = (
    "A compiled function runs once on shapes, without values, and is then repeated: choose with corelib.where(condition, x, y) "
    "instead of a branch, make what must be known a static argument (corelib.compile(fn, static=...)), or leave this part "
    "uncompiled in a function of its own under @corelib.compile.eager"
)


def place() -> str:
    """File and line of the user's code that is running now: the innermost frame outside this package."""
    frame = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if not os.path.abspath(code.co_filename).startswith(_HERE) and code.co_filename[0] != "<":
            return f"{code.co_filename}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return "?"


def _asked() -> str:
    """What the user called that needs a value: the outermost frame of this package's innermost run of frames."""
    frame, name = sys._getframe(1), ""
    while frame is not None and os.path.abspath(frame.f_code.co_filename).startswith(_HERE):
        name = frame.f_code.co_name
        frame = frame.f_back  # type: ignore[assignment]
    plain = name.strip("_")
    return {"bool": "bool(x), as in `if x:`", "getitem": "indexing with x", "setitem": "indexing with x"}.get(
        plain, f"{plain}(x)" if name.startswith("__") else plain
    )


def _outside(node: Any, g: Any, record: bool) -> Any:
    raise TraceError(
        "backward() inside a compiled function reaches an argument's history outside of it: call backward() outside, or "
        "pass x.detach()"
    )


ARGUMENT = _Pseudo("argument", _outside)


class Slot:
    """One input of a program: ``tensor`` is read again at each call; ``node`` is what gradients with respect to it flow
    to; ``position`` is that of the argument which the tensor is, or None; ``leaf`` the tensor whose ``.grad`` it is.
    """

    __slots__ = ("array", "leaf", "node", "position", "tensor", "traced")

    def __init__(self, tensor: Tensor, traced: Traced, node: Any, position: int | None, leaf: Any) -> None:
        self.tensor, self.traced, self.node, self.position, self.leaf = tensor, traced, node, position, leaf
        self.array = tensor._data


class Tracer(Backend):
    """Records the steps of one function on one device, ``base``."""

    level = (
        1 << 20
    )  # above what is active outside, below bodies of transformations inside (BODY in transforms/wrapper.py)
    hooked = False

    def __init__(self, base: Backend, name: str, arguments: Sequence[Tensor] = ()) -> None:
        super().__init__(base.name, base.index)
        self.base, self.function, self.open = base, name, True
        self.thread = threading.get_ident()
        self.positions = {id(t): i for i, t in reversed(list(enumerate(arguments)))}
        self.slots: dict[int, Slot] = {}
        self.constants: dict[str, Any] = {}
        self.examples: dict[
            Traced, Any
        ] = {}  # arrays that will be given later, and something of their shapes
        self.inputs: list[Traced] = []
        self.steps: list[Step] = []
        self.count = 0
        self.changed: dict[int, tuple[Tensor, Any, Any, Any]] = {}  # what a tensor was before
        self.grads: dict[int, tuple[Tensor, Any]] = {}  # leaves, and their .grad before
        self.leaves: dict[int, Tensor] = {}  # id of a .grad -> whose it is
        self._known: dict[Any, Any] = {}
        registry.attach(self)
        for tensor in arguments:
            self.follow(tensor)

    # -- recording -------------------------------------------------------------------------------------------

    def find(self, op: Op, dtype: DType | None) -> Callable[..., Any]:
        """A kernel that records one step; a composite without a kernel on the device records its body's."""
        assert dtype is not None
        if op.data_dependent:
            return lambda *operands, **params: self._refuse(
                f"the shape of {op.name}'s result depends on values"
            )
        kernel = registry.bind(op, dtype, self.base)
        if own(kernel, "composed"):
            return self._inline(op)
        if getattr(kernel, "how", None) == "widened":
            return widened(op, self, dtype)

        def record(*operands: Any, **params: Any) -> Any:
            if "overwrite" in params:
                params["overwrite"] = False  # whether anybody else sees the array is known at each call
            return self.record(op, dtype, kernel, operands, params)

        return record

    def _inline(self, op: Op) -> Callable[..., Any]:
        body, regroup = op.body, op.regroup
        assert body is not None

        def inline(*operands: Any, **params: Any) -> Any:
            result = body(
                *regroup([o if o.__class__ in SCALARS else wrap(o, self) for o in operands]), **params
            )
            return tuple(r._data for r in result) if isinstance(result, tuple | list) else result._data

        return inline

    def record(
        self, op: Op, dtype: DType, kernel: Any, operands: Sequence[Any], params: dict[str, Any]
    ) -> Any:
        """Write down one step, or find the equal one that was written before; its outputs."""
        if not self.open or self.thread != threading.get_ident():
            raise TraceError(
                f"{op.name}: this tensor belongs to {self.function}, "
                + ("which was compiled and has left it behind without a value: return it, or do not keep it"
                   if not self.open else "which another thread is compiling just now: wait for its first call")
            )  # fmt: skip
        key = (
            op.index,
            dtype,
            *[(o.__class__, repr(o)) if o.__class__ in SCALARS else o for o in operands],
            repr(params),
        )
        found = self._known.get(key)
        if found is not None:
            return found
        specs = [
            None if o is None else Spec((), dtype, None, True) if o.__class__ in SCALARS else Spec(o.shape, o.dtype)
            for o in operands
        ]  # fmt: skip
        result = op.rule(op, specs, params)
        several = isinstance(result, tuple) and not isinstance(result, Spec)
        outputs = [self.new(s.shape, s.dtype) for s in (result if several else (result,))]
        if len(self.steps) >= LIMIT:
            raise TraceError(
                f"{self.function} has more than {LIMIT} steps, at {place()}: a loop that runs this often is unrolled. "
                "Compile the function that is its body, and loop over calls of that"
            )
        self.steps.append(Step(op, kernel, list(operands), params, outputs, several))
        found = self._known[key] = tuple(outputs) if several else outputs[0]
        return found

    def new(self, shape: Iterable[int], dtype: Any, letter: str = "t") -> Traced:
        """An array that the program will have a name for."""
        self.count += 1
        return Traced(tuple(shape), as_dtype(dtype), f"{letter}{self.count}")

    # -- inputs ----------------------------------------------------------------------------------------------

    def follow(self, tensor: Tensor) -> None:
        """Note the gradient that a leaf has before the function runs."""
        if hasattr(tensor._node, "grad") and id(tensor) not in self.grads:
            grad = tensor._node.grad
            self.grads[id(tensor)] = tensor, grad
            if grad is not None:
                self.leaves.setdefault(id(grad), tensor)

    def lift(self, tensor: Tensor) -> Tensor:
        """A tensor of the device as an input of the program."""
        slot = self.slots.get(id(tensor))
        if slot is None:
            backend = tensor._backend
            if backend is not self.base:
                raise TraceError(
                    f"{place()}: {self.function} runs on {self.base.device!r} and uses a tensor on {backend.device!r}: "
                    f"call x.to({self.base.device!r}) before"
                )
            node, position = tensor._node, self.positions.get(id(tensor))
            if node is not None and not hasattr(node, "grad"):
                if position is None:
                    raise TraceError(
                        f"{place()}: {self.function} uses a tensor from outside that has a history: pass it as an argument, "
                        "or use x.detach()"
                    )
                node = Node(ARGUMENT, self, (), (), {}, None, tensor._data.shape, tensor._data.dtype)
            self.follow(tensor)
            traced = self.new(tensor._data.shape, tensor._data.dtype, "a" if position is not None else "s")
            slot = self.slots[id(tensor)] = Slot(tensor, traced, node, position, self.leaves.get(id(tensor)))
            self.inputs.append(traced)
        return wrap(slot.traced, self, slot.node)

    def constant(self, array: Any) -> Traced:
        """An array of the device that every call is given."""
        traced = self.new(array.shape, array.dtype, "c")
        self.constants[traced.name] = array
        self.inputs.append(traced)
        return traced

    def from_host(self, buffer: Any, shape: tuple[int, ...], dtype: DType) -> Any:
        """Numbers that the function gives itself."""
        return self.constant(self.base.from_host(buffer, shape, dtype))

    def from_dlpack(self, source: Any) -> Any:
        """Memory of somebody else, which may change unseen."""
        if not getattr(source, "shape", None):
            return None  # a number
        raise TraceError(
            f"{place()}: {self.function} makes a tensor of another library's array ({type(source).__name__}), whose later "
            "values a compiled function would not see: call corelib.asarray outside, and pass the tensor"
        )

    def on_device(self, device: str) -> Any:
        """Creation inside happens in the program."""
        if registry.get(device) is not self.base:
            raise TraceError(
                f"{place()}: {self.function} runs on {self.base.device!r} and is to make a tensor on {device!r}: do so outside"
            )
        return self

    # -- what only values can tell ---------------------------------------------------------------------------

    def to_host(self, array: Any) -> Any:
        """The values of a constant; nobody knows those of another array."""
        if array.name in self.constants:
            return self.base.to_host(self.constants[array.name])
        return self._refuse(f"{_asked()} needs the values of a {array.dtype.name}{list(array.shape)} tensor")

    def dlpack(self, array: Any) -> Any:
        """As ``to_host``."""
        return self._refuse(f"{_asked()} needs the values of a {array.dtype.name}{list(array.shape)} tensor")

    def _refuse(self, what: str) -> Any:
        raise TraceError(
            f"{place()}: {what}, which are not known while {self.function} is compiled. {WAYS_OUT}"
        )

    # -- assignments -----------------------------------------------------------------------------------------

    def rebind(self, tensor: Tensor, value: Tensor) -> None:
        """Log what a tensor of the device was before it came to stand for a traced value."""
        if tensor._backend.level == 0:
            if tensor._backend is not self.base:
                raise TraceError(
                    f"{place()}: {self.function} moves a tensor from {tensor._backend.device!r}: do so outside"
                )
            self.changed.setdefault(id(tensor), (tensor, tensor._data, tensor._backend, tensor._node))

    def reached(self) -> list[Tensor]:
        """The tensors of the device that the function has met so far."""
        return [s.tensor for s in self.slots.values()]

    def close(self) -> None:
        """Make every tensor that was assigned to what it was before; the trace is over."""
        self.open = False
        for tensor, data, backend, node in self.changed.values():
            tensor._data, tensor._backend, tensor._node = data, backend, node
        for tensor, grad in self.grads.values():
            if hasattr(tensor._node, "grad"):
                tensor._node.grad = grad


def live(node: Any) -> bool:
    """Whether a derivative can still be asked for through a node: nothing behind it was freed by a walk back."""
    if node is None:
        return False
    behind = topological([node])
    return all(n.saved is not FREED for n in behind) and any(
        isinstance(n, Leaf) or n.op is ARGUMENT for n in behind
    )
