"""One run of a function, watched op by op: what went in and out of each, how long it took, and in which module.

The function runs on a backend above the one of its tensors, whose kernels hand each op on and write it down. Below, ops
are recorded on the tape as ever, so that the gradient of every value can be asked for afterwards. Nothing is written
down by the backends themselves, and nothing costs anything while nobody watches.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from .backend import Backend
from .dispatch import reissue
from .dtypes import DType, as_dtype
from .errors import ArgumentError, BackendError, GradientError
from .op import Op, calls
from .registry import active_backends, registry
from .tape import Node, full_like
from .tensor import Tensor, wrap
from .tree import map_tensors
from .walk import walk

INPUT, PARAMETER, CONSTANT, OP = "input", "parameter", "constant", "op"


@dataclass(eq=False)
class Event:
    """One op of a run, or a tensor that came into it.

    ``operands``: the events (or Python numbers) that it read; ``arguments``: the tensors. ``results``: its tensors. ``seconds``: for the op, with
    the wait for its device. ``modules``: the paths of the modules around it, outermost first.
    """

    kind: str
    name: str
    results: tuple[Tensor, ...]
    operands: tuple[Any, ...] = ()
    arguments: tuple[Any, ...] = ()
    params: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    modules: tuple[str, ...] = ()

    @property
    def bytes(self) -> int:
        """Of the results' elements."""
        return sum(t.size * t.dtype.itemsize for t in self.results)


@dataclass
class Watched:
    """What :func:`watch` returns: the ``events`` in their order, and the function's ``result``."""

    events: list[Event]
    result: Any
    results: list[Event]  # the events that the result consists of
    read: list[Event]  # those whose values the function read

    def gradients(self) -> dict[Node, Tensor]:
        """The gradient of the sum of the result with respect to every value that has one, by its node."""
        roots = [(t._node, t) for e in self.results for t in e.results if t._node is not None]
        found: dict[Node, Tensor] = {}
        walk([(n, full_like(n.spec(), n.backend, 1)) for n, _ in roots], visit=found.__setitem__)
        if not found:
            raise GradientError(
                "watch: the result depends on nothing that requires a gradient: see requires_grad_() and no_grad()"
            )
        return found

    def _repr_html_(self) -> str:
        from .drawing import draw

        return draw(self, values=True, seconds=True)

    def seconds(self) -> dict[str, float]:
        """The time of all calls of each op, the longest first."""
        total: dict[str, float] = {}
        for event in self.events:
            if event.kind == OP:
                total[event.name] = total.get(event.name, 0.0) + event.seconds
        return dict(sorted(total.items(), key=lambda item: -item[1]))


def watch(fn: Callable[..., Any], *args: Any, names: Any = None, **kwargs: Any) -> Watched:
    """Run ``fn(*args, **kwargs)`` once and write down every op. ``names`` gives tensors names: a Module (then also its
    modules' calls are seen; ``fn`` itself unless given, if it is one), or a mapping of names to tensors.

    The first call of an op may compile: call ``fn`` before, if times matter. Raises ArgumentError when ``fn`` cannot be
    called or no tensor comes out of it, and BackendError inside a transformation.

    Example::

        seen = corelib.watch(model, x)
        corelib.draw(seen, "model.svg", values=True, seconds=True)
        slowest = next(iter(seen.seconds()))
    """
    if not callable(fn):
        raise ArgumentError(
            f"watch: the first argument must be a function or a Module, got {type(fn).__name__}"
        )
    if active_backends():
        raise BackendError("watch: not inside a transformation: watch the transformed function instead")
    names = fn if names is None and hasattr(fn, "named_modules") else names
    named = _named(names)
    watcher = _Watcher({id(tensor): name for name, tensor in named.items()})
    args, kwargs = map_tensors(watcher.input, (args, kwargs))
    with _calls(watcher, names):
        try:
            watcher.enter(list(named.values()))
            result = fn(*args, **kwargs)
        finally:
            watcher.leave()
    ends: list[Event] = []

    def lowered(x: Tensor) -> Tensor:
        array = (x if x._backend is watcher else watcher.lift(x))._data
        watcher.list(array)
        ends.append(array.event)
        return array.tensor

    result = map_tensors(lowered, result)
    if not ends:
        raise ArgumentError("watch: no tensor came out of the function")
    return Watched(watcher.events, result, ends, watcher.read)


class _Seen:
    """An array of the watcher: a tensor below, and the event that it came from."""

    __slots__ = ("dtype", "event", "shape", "tensor")

    def __init__(self, tensor: Tensor, event: Event) -> None:
        self.tensor, self.event, self.shape, self.dtype = tensor, event, tensor.shape, tensor.dtype


class _Watcher(Backend):
    """Hands each op on to the level of its operands, and writes it down."""

    hooked = False
    level = 1 << 20

    def __init__(self, names: dict[int, str]) -> None:
        super().__init__("watch")
        self.names = names
        self.events: list[Event] = []
        self.read: list[Event] = []
        self.path: tuple[str, ...] = ()  # of the modules that are being called
        self.counts: dict[str, int] = {}  # how often each was
        self.known: dict[
            int, _Seen
        ] = {}  # by the identity of a tensor from outside, which its event keeps alive
        self.entered: dict[int, tuple[Tensor, Tensor]] = {}  # brought to this level, and what they are below
        self.changed: dict[int, Tensor] = {}
        self.listed: set[int] = set()
        self.below: Backend | None = (
            None  # where what has no operands is created: where the first tensor came from
        )
        registry.attach(self)

    def input(self, tensor: Tensor) -> Tensor:
        """A tensor that the function is called with."""
        seen = self._come(tensor, INPUT)
        self.list(seen)
        return wrap(seen, self)

    def lift(self, tensor: Tensor) -> Tensor:
        """A tensor from outside: a parameter, if it collects a gradient, or a constant."""
        leaf = tensor._node is not None and not tensor._node.parents
        return wrap(self._come(tensor, PARAMETER if leaf else CONSTANT), self)

    def _come(self, tensor: Tensor, kind: str) -> _Seen:
        key = id(tensor)
        if self.below is None:
            self.below, self.device = tensor._backend, tensor.device
        if key not in self.known:
            event = Event(kind, self.names.get(key, kind), (tensor,))
            self.known[key] = _Seen(tensor, event)
        return self.known[key]

    def list(self, seen: _Seen) -> None:
        """Write down a tensor from outside, where it is first read."""
        if id(seen.event) not in self.listed:
            self.listed.add(id(seen.event))
            seen.event.modules = self.path if seen.event.kind != INPUT else ()
            self.events.append(seen.event)

    def enter(self, tensors: Sequence[Tensor]) -> None:
        """Bring tensors from outside to this level while the function runs, so that ops on them alone are seen as well."""
        for tensor in tensors:
            if tensor._backend.level == 0 and id(tensor) not in self.entered:
                below = wrap(tensor._data, tensor._backend, tensor._node)
                name = self.names[id(tensor)]
                self.names[id(below)] = name
                seen = self.lift(below)._data
                self.entered[id(tensor)] = tensor, below
                tensor._data, tensor._backend, tensor._node = seen, self, None

    def find(self, op: Op, dtype: DType | None) -> Callable[..., Any]:
        """A kernel that runs the op below."""

        def kernel(*operands: Any, **params: Any) -> Any:
            for o in operands:
                if isinstance(o, _Seen):
                    self.list(o)
            below = [o.tensor if isinstance(o, _Seen) else o for o in operands]
            backends = {t._backend for t in below if isinstance(t, Tensor)}
            start = time.perf_counter()
            if params.get("overwrite"):
                params = {**params, "overwrite": False}  # the operands stay, to be looked at
            result = reissue(op, below, params, self.below)
            for backend in backends:
                backend.synchronize()
            seconds = time.perf_counter() - start
            results = result if isinstance(result, tuple) else (result,)
            sources = tuple(o.event if isinstance(o, _Seen) else o for o in operands)
            event = Event(OP, op.name, tuple(results), sources, tuple(below), params, seconds, self.path)
            self.events.append(event)
            self.listed.add(id(event))
            seen = tuple(_Seen(t, event) for t in results)
            return seen if isinstance(result, tuple) else seen[0]

        return kernel

    def from_host(self, buffer: Any, shape: tuple[int, ...], dtype: DType) -> Any:
        """Values made from numbers inside: on the backend where tensors are created."""
        current = registry.current()
        return self._come(wrap(current.from_host(buffer, shape, dtype), current), CONSTANT)

    def to_host(self, array: _Seen) -> Any:
        """The values, which are known here."""
        self.read.append(array.event)
        return array.tensor._backend.to_host(array.tensor._data)

    def rebind(self, tensor: Tensor, value: Tensor) -> None:
        """A tensor from outside that the function changes gets its new value below in the end."""
        if tensor._backend is not self:
            self.changed[id(tensor)] = tensor

    def leave(self) -> None:
        """Tensors from outside do not stay at this level."""
        for tensor, below in self.entered.values():
            seen = tensor._data
            tensor._data, tensor._backend, tensor._node = below._data, below._backend, below._node
            if seen.tensor is not below:  # the function has changed it
                self._lower(tensor, seen.tensor)
        for tensor in self.changed.values():
            if tensor._backend is self:
                self._lower(tensor, tensor._data.tensor)

    def _lower(self, tensor: Tensor, value: Tensor) -> None:
        tensor._data, tensor._backend = value._data, value._backend
        if not hasattr(tensor._node, "grad"):  # a leaf stays one
            tensor._node = value._node


def _named(names: Any) -> dict[str, Tensor]:
    """The tensors that have a name."""
    if hasattr(names, "named_parameters"):
        names = {**dict(names.named_buffers()), **dict(names.named_parameters())}
    if names is None:
        names = {}
    if not isinstance(names, Mapping):
        raise ArgumentError(
            f"watch: names must be a Module or a mapping of names to tensors, got {type(names).__name__}"
        )
    return dict(names)


@contextmanager
def _calls(watcher: _Watcher, module: Any) -> Iterator[None]:
    """Follow the calls of a module and those below it, each of which is a group of its own."""
    handles = []

    def enter(path: str) -> Callable[..., None]:
        def hook(module: Any, args: Any) -> None:
            count = watcher.counts[path] = watcher.counts.get(path, 0) + 1
            name = f"{path or type(module).__name__}" + (f" ({count})" if count > 1 else "")
            watcher.path = (*watcher.path, f"{name}: {type(module).__name__}" if path else name)

        return hook

    def leave(module: Any, args: Any, result: Any) -> None:
        watcher.path = watcher.path[:-1]

    try:
        for path, inner in module.named_modules() if hasattr(module, "named_modules") else ():
            handles.append(inner.register_forward_pre_hook(enter(path)))
            handles.append(inner.register_forward_hook(leave))
        yield
    finally:
        for handle in handles:
            handle.remove()


# -- statistics ----------------------------------------------------------------------------------------------


def statistics(x: Tensor) -> str:
    """The smallest, mean and largest element in a line, and how many are not finite, if any."""
    x = x.detach()
    if x.size == 0:
        return "no elements"
    if as_dtype(x.dtype).kind == "bool":
        return f"{int(calls.sum(calls.astype(x, 'int64')))} of {x.size} true"
    if as_dtype(x.dtype).kind == "complex":
        return f"|z| up to {_short(float(calls.max(calls.abs(x))))}"
    if x.size == 1:
        return _short(x.item())
    lost = 0
    if as_dtype(x.dtype).kind == "float":
        finite = calls.isfinite(x)
        lost = x.size - int(calls.sum(calls.astype(finite, "int64")))
        if lost == x.size:
            return f"all {lost} not finite"
        x = x if not lost else calls.gather(x, *calls.nonzero(finite), axis=0)
    low, high = calls.min(x).item(), calls.max(x).item()
    middle = calls.mean(calls.astype(x, "float64")).item()
    line = f"{_short(low)} .. {_short(high)}, mean {_short(middle)}"
    return f"{line}, {lost} not finite" if lost else line


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
