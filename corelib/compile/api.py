"""What ``corelib.compile`` returns: a function that records its first call of each kind and repeats it afterwards."""

from __future__ import annotations

import functools
import hashlib
import inspect
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from ..backend import Backend
from ..capture import capturing
from ..capture import tracer as tracing
from ..dtypes import as_dtype
from ..errors import ArgumentError, TraceError
from ..registry import registry
from ..replay import replayer
from ..tape import paused
from ..tensor import Tensor
from ..tree import flatten
from .fuse import Fused, fused
from .graph import Graph, Traced
from .program import MISS, Program
from .simplify import overwriting

LIMIT = 32  # programs of one function
LEAST = 1  # elements from which steps become one generated kernel, whose call costs as much as two others: 1.1 us for six steps, not 2.9
SMALL = 4096  # bytes of a constant that is known by its value, not by its memory
log = logging.getLogger("corelib")
# Recording changes what can be seen of tensors, if only for milliseconds: one at a time, and the same thread may go deeper.
_lock = threading.RLock()


def _in_child() -> None:
    """After a fork nobody else is tracing: what another thread of the parent held is gone with it."""
    global _lock
    _lock = threading.RLock()
    if tracing() is None:
        capturing.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)


class Compiled:
    """The programs of one function; ``call`` is what the user calls."""

    def __init__(self, fn: Callable[..., Any], static: Iterable[int | str] = ()) -> None:
        if not callable(fn):
            raise ArgumentError(f"compile needs a function, got {fn!r}")
        self.fn = fn
        self.name = getattr(fn, "__name__", type(fn).__name__)
        self.static = frozenset((static,) if isinstance(static, int | str) else static)
        self.programs: list[Program] = []
        self.entries: tuple[Any, ...] = ()
        self.callables: dict[Any, tuple[Callable[..., Any], str]] = {}
        self.full = False
        self.seconds: list[float] = []

    # -- calling ---------------------------------------------------------------------------------------------

    def function(self) -> Callable[..., Any]:
        """The function of the user's signature that tries the programs in turn."""
        missed, owner, static = self.missed, self, self.static

        def call(*args: Any, **kwargs: Any) -> Any:
            if static:
                args = tuple([_number(a) if i in static else a for i, a in enumerate(args)])
                kwargs = {k: _number(a) if k in static else a for k, a in kwargs.items()}
            if not capturing:
                for entry in owner.entries:
                    result = entry(args, kwargs)
                    if result is not MISS:
                        return result
            return missed(args, kwargs)

        functools.update_wrapper(call, self.fn, updated=())
        if not hasattr(call, "__name__"):
            call.__name__ = self.name
        for name in ("explain", "save", "graphs", "clear"):
            setattr(call, name, getattr(self, name))
        call.compiled = self  # type: ignore[attr-defined]
        return call

    def missed(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """No program fits, or something is being traced: record one, or run the function as it is."""
        if tracing() is not None or self._inside_a_transformation(args, kwargs):
            return self.fn(*args, **kwargs)
        with _lock:
            for entry in self.entries:  # another thread may have made it, or was tracing what this one needs
                result = entry(args, kwargs)
                if result is not MISS:
                    return result
            if self.full or paused.get() not in (None, False):
                return self.fn(*args, **kwargs)
            if len(self.programs) >= LIMIT:
                self.full = True
                log.warning(
                    "%s was compiled %d times and is run uncompiled from now on for other arguments: what changed last is %s. "
                    "Pass what changes as a tensor",
                    self.name, LIMIT, self.programs[-1].why_not(args, kwargs),
                )  # fmt: skip
                return self.fn(*args, **kwargs)
            return self._add(args, kwargs)(args, kwargs, True)

    def _inside_a_transformation(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        return any(isinstance(x, Tensor) and x._backend.level for x in flatten([args, kwargs])[0])

    def _add(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Callable[..., Any]:
        """Record a program for these arguments, and make it the first to be tried. Nothing is kept if that fails."""
        said = (
            " ".join(f"{i}) {p.why_not(args, kwargs)}" for i, p in enumerate(self.programs))
            if self.programs
            else ""
        )
        start = time.perf_counter()
        program = Program(self.name, self.fn, args, kwargs, self._backend(args, kwargs))
        program.failed = functools.partial(self._failed, program)  # type: ignore[method-assign]
        recorded = time.perf_counter()
        program.run, program.how = self._callable(program.graph, program.backend)
        if program.link is not None:
            program.link.run, program.link.how = self._callable(program.link.graph, program.backend)
            program.link.fn = self.fn
        entry = program.entry()
        end = time.perf_counter()
        self.seconds.append(end - start)
        self.programs.append(program)
        self.entries = (entry, *self.entries)
        log.info(
            "%s: program %d of %d steps, %s, recorded in %.1f ms, made in %.1f ms%s",
            self.name, len(self.programs), len(program.graph.steps), program.how, 1e3 * (recorded - start), 1e3 * (end - recorded),
            f"; what changed against the others: {said}" if said else "",
        )  # fmt: skip
        return entry

    def _backend(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Backend:
        """The device that the program runs on: that of the first tensor."""
        for x in flatten([args, kwargs])[0]:
            if isinstance(x, Tensor):
                return x._backend
            if isinstance(x, Backend):
                return x
            parameters = getattr(x, "parameters", None)
            if callable(parameters):
                first = next(iter(parameters()), None)
                if isinstance(first, Tensor):
                    return first._backend
        return registry.current()

    def _callable(self, graph: Graph, backend: Backend) -> tuple[Callable[..., Any], str]:
        """What runs a graph: the backend's program if it makes one, else a replay. An equal graph is made once."""
        key = fingerprint(graph, backend)
        found = self.callables.get(key)
        if found is None:
            plain = overwriting(graph)
            try:
                run = backend.compile(graph)
                found = (
                    (run, f"compiled by {backend.device!r}") if run is not None else grouped(plain, backend)
                )
            except Exception as error:
                log.warning(
                    "%s: %r could not compile the program, which is replayed kernel by kernel: %s: %s",
                    self.name, backend.device, type(error).__name__, error,
                )  # fmt: skip
                found = (
                    replayer(plain),
                    f"replayed, since {backend.device!r} could not compile it ({type(error).__name__}: {error})",
                )
            self.callables[key] = found
        return found

    def _failed(
        self, program: Program, error: Exception, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """A program raised: the function says it in the right words, unless memory that it needs was written over."""
        if program.graph.donated:
            error.add_note(
                f"in the compiled {self.name}, which may have changed some of the tensors it assigns to"
            )
            raise error
        result = self.fn(*args, **kwargs)
        log.warning(
            "%s: the compiled program raised %s: %s, and the function did not: it was run uncompiled",
            self.name,
            type(error).__name__,
            error,
        )
        return result

    # -- telling ---------------------------------------------------------------------------------------------

    def graphs(self) -> list[Graph]:
        """The recorded programs, in the order in which they were made; ``str`` of one is its text."""
        return [p.graph for p in self.programs]

    def explain(self) -> str:
        """What each program consists of: steps, bytes, arithmetic, memory, and who runs it."""
        from .explain import explained

        return explained(self)

    def save(self, path: Any, index: int = -1) -> None:
        """Write a program to a file, to be run without the function: see ``corelib.compile.load``. ``index``: which one."""
        from .saved import save

        if not self.programs:
            raise ArgumentError(
                f"{self.name} has no program yet: call it once, with arguments of the kind it is to be saved for"
            )
        save(self.programs[index], path)

    def clear(self) -> None:
        """Forget all programs."""
        with _lock:
            self.programs, self.entries, self.full, self.seconds = [], (), False, []
            self.callables.clear()


def _number(value: Any) -> Any:
    return value.tolist() if isinstance(value, Tensor) else value


def grouped(graph: Graph, backend: Backend) -> tuple[Callable[..., Any], str]:
    """A graph replayed with groups of its steps as kernels that the backend generates, as far as it has any."""
    merged = fused(graph, backend, LEAST)
    ops: list[Any] = [step.op for step in merged.steps]
    groups = [op.group.all for op in ops if isinstance(op, Fused)]
    if not groups:
        return replayer(graph), f"replayed, {len(graph.steps)} kernels"
    return replayer(merged), (
        f"replayed, {len(merged.steps)} kernels, of which {len(groups)} are generated from {sum(map(len, groups))} steps"
    )


def fingerprint(graph: Graph, backend: Backend) -> Any:
    """What two graphs have in common if they are the same program, whatever arrays they run on."""

    def known(x: Any) -> Any:
        return x.name if isinstance(x, Traced) else (x.__class__, repr(x))

    def constant(array: Any) -> Any:
        dtype = as_dtype(array.dtype)
        size = dtype.itemsize
        for n in array.shape:
            size *= n
        if size > SMALL:
            return id(array)
        return hashlib.blake2b(bytes(memoryview(dtype.buffer(backend.to_host(array))))).digest()

    return (
        backend,
        tuple((s.op.name, id(s.kernel), tuple(map(known, s.inputs)), repr(s.params), repr(s.outputs)) for s in graph.steps),
        repr(graph.inputs),
        tuple(map(known, graph.results)),
        tuple(x.name for x in graph.donated),
        tuple((name, constant(array)) for name, array in graph.constants.items()),
    )  # fmt: skip


def compiled(fn: Callable[..., Any], static: Iterable[int | str] = ()) -> Callable[..., Any]:
    """See :func:`corelib.compile`."""
    done = getattr(fn, "compiled", None)
    if isinstance(done, Compiled):
        return fn
    if inspect.isgeneratorfunction(fn) or inspect.iscoroutinefunction(fn):
        raise TraceError(
            f"{getattr(fn, '__name__', fn)} is a generator or a coroutine: a compiled function runs from start to end"
        )
    return Compiled(fn, static).function()
