"""CUDA graphs: a compiled program whose kernels are recorded once and then launched as one.

``corelib.compile`` makes of a function a program from arrays to arrays; in :func:`graph` that program is captured. A
graph remembers addresses, so what it reads and writes must stay where it is: it has a pool of memory of its own, which
lives as long as the graph. What comes in goes by one of three ways:

- state (an input that is always the result of the call before, such as a parameter) lies in the pool, and is written there;
- what is the same array at each call (weights that do not change) is read where it lies;
- everything else is copied into the pool before each launch.

Results that are not state are copied out, so that the next launch does not change what the caller holds.
"""

from __future__ import annotations

import functools
import threading
import weakref
from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from typing import Any

import numpy as np

from corelib.plugin_api import dtypes, errors, ops

from . import launch
from .copy import contiguous, copied, copy
from .half import Half, named, stored
from .kernels import kernels
from .launch import cupy

# calls that run kernel by kernel at most, while it is not seen yet what is state: a call that is recorded gets copies of it
EARLY = 3

wanted: ContextVar[tuple[str, list[Any]] | None] = ContextVar("corelib_cuda_graphs", default=None)


def graph(fn: Callable[..., Any] | None = None, /, *, static: Iterable[int | str] = ()) -> Any:
    """``fn`` compiled as by ``corelib.compile``, whose program on a CUDA device is launched as one graph.

    A function or a decorator, as ``corelib.compile`` is, with its ``static``. The first calls of each kind run kernel
    by kernel, at most three, then one is captured, and from then on the graph is launched: shapes, parameters, optimizers and random counters are
    treated as ``corelib.compile`` treats them. What reads a value on the way cannot be captured and raises BackendError.
    An index out of range raises IndexOutOfBoundsError, not in the call that has it, which uses the nearest place, but in a
    later one or in ``fn.check()``, which waits for the device. On other devices this is ``corelib.compile``.

    Example::

        @corelib_cuda.graph
        def step(x, labels):
            loss = corelib.cross_entropy(model(x), labels)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            return loss
    """
    if fn is None:
        return lambda given: graph(given, static=static)
    import corelib

    known = getattr(fn, "compiled", None)
    compiled = corelib.compile(fn if known is None else known.fn, static=static)
    made: list[Captured] = []
    name = getattr(fn, "__name__", type(fn).__name__)

    @functools.wraps(fn, updated=())
    def call(*args: Any, **kwargs: Any) -> Any:
        token = wanted.set((name, made))
        try:
            return compiled(*args, **kwargs)
        finally:
            wanted.reset(token)

    def check() -> None:
        """Wait for the device; IndexOutOfBoundsError if an index of a call so far was out of range."""
        for program in made:
            program.check(wait=True)

    def clear() -> None:
        """Forget all programs, and free the memory of their graphs."""
        compiled.clear()
        made.clear()

    call.check, call.clear, call.explain = check, clear, compiled.explain  # type: ignore[attr-defined]
    call.graphs = made  # type: ignore[attr-defined]
    return call


def linked(recorded: Any, replay: Callable[[Any], Callable[..., Any]]) -> Captured | None:
    """The callable of a program inside of :func:`graph`; None elsewhere."""
    asked = wanted.get()
    if asked is None:
        return None
    name, made = asked
    donated = {x.name for x in recorded.donated}
    found = Captured(name, replay(recorded), [x.name in donated for x in recorded.inputs])
    made.append(found)
    return found


class Captured:
    """A program, from arrays to arrays, that is captured after its first calls. ``owned``: which inputs are state."""

    def __init__(self, name: str, run: Callable[..., Any], owned: list[bool]) -> None:
        self.name, self.run, self.owned = name, run, owned
        self.lock = threading.Lock()
        self.graph: Any = None
        self.refused = ""
        self.calls = self.launches = 0
        self.before: list[Any] = []  # weak references to the arrays of the call before, and to its results
        self.results: list[Any] = []
        self.state: dict[int, int] = {}  # result -> the input that it is at the next call
        self.moving: set[int] = set()  # inputs that are other arrays at other calls
        self.flag: Any = None

    def __call__(self, *given: Any) -> Any:
        with self.lock:
            if self.refused:
                raise errors.BackendError(self.refused)
            self.check(wait=False)
            arrays = [stored(x) for x in given]
            if self.graph is not None and self._in_place(arrays):
                return self._launch(arrays)
            if self.graph is not None:
                return self.run(
                    *given
                )  # somebody still looks at the state of a call before: it must not change
            self._pair(arrays)
            if not self.before or self.calls < EARLY and any(self.owned) and not self.state:
                result = self.run(*given)
                self.calls += 1
                self.before = [weakref.ref(a) for a in arrays]
                self.results = [_reference(x) for x in (result if isinstance(result, tuple) else (result,))]
                return result
            self._capture(arrays, given)
            return self._launch(arrays)

    def _pair(self, arrays: Sequence[Any]) -> None:
        """Find the inputs that are results of the call before."""
        produced = {id(r()): j for j, r in enumerate(self.results) if r is not None and r() is not None}
        for i, a in enumerate(arrays):
            if self.owned[i] and id(a) in produced:
                self.state.setdefault(produced[id(a)], i)

    # ----------------------------------------------------------------------------------------------- launching

    def _in_place(self, arrays: Sequence[Any]) -> bool:
        """Whether the graph can run: what it reads where it lies is there, and nobody looks at what it writes."""
        moved = {i for i, a in enumerate(arrays) if self.fixed[i] is not None and self.fixed[i] is not a}
        if moved:
            self.moving |= moved
            self.graph = None  # to be captured again, with places of its own for these inputs
            return False
        return not any(self._visible(i, a) for i, a in enumerate(arrays))

    def _visible(self, i: int, array: Any) -> bool:
        """Whether an array that was handed out as the state in place i lives on elsewhere."""
        handed = self.handed.get(i)
        held = None if handed is None else handed()
        return held is not None and held is not array

    def _launch(self, arrays: Sequence[Any]) -> Any:
        cp = cupy()
        for i, a in enumerate(arrays):
            handed = self.handed.get(i)
            if self.inside[i] is not None and (handed is None or handed() is not a):
                copy(a, self.inside[i])
        self.graph.launch()
        self.launches += 1
        if self.flag is not None:
            self.flag.get(out=self.found, blocking=False)
            self.event.record()
        results = []
        for j, (array, dtype) in enumerate(self.outside):
            if array is None:
                results.append(None)
                continue
            i = self.state.get(j)
            if i is None:
                result = cp.ndarray(array.shape, array.dtype)
                copy(array, result)
            else:
                result = cp.ndarray(array.shape, array.dtype, memptr=self.inside[i].data)
                self.handed[i] = weakref.ref(result)
            results.append(named(result, dtype))
        return tuple(results) if self.several else results[0]

    def check(self, *, wait: bool) -> None:
        """IndexOutOfBoundsError for an index of an earlier call; without ``wait`` only if that is known already."""
        if self.graph is None or self.flag is None or not self.launches:
            return
        if wait:
            self.event.synchronize()
        if self.event.done and self.found[0] < 0:
            self.found[0] = 0
            raise errors.IndexOutOfBoundsError(
                f"graph of {self.name}: in an earlier call an index was out of range, and the nearest place was used instead: "
                "the results since then are wrong. Run the function without corelib_cuda.graph to see which op it is"
            )

    # ----------------------------------------------------------------------------------------------- capturing

    def _capture(self, arrays: Sequence[Any], given: Sequence[Any]) -> None:
        cp = cupy()
        self.results = []
        self.fixed: list[Any] = [None] * len(arrays)
        self.inside: list[Any] = [None] * len(arrays)
        self.handed: dict[int, Any] = {}
        self.pool = cp.cuda.MemoryPool()
        stream = cp.cuda.Stream(non_blocking=True)
        checks = launch.deferred.set([])
        try:
            with stream, cp.cuda.using_allocator(self.pool.malloc):
                for i, a in enumerate(arrays):
                    if self.before[i]() is a and not self.owned[i] and i not in self.moving:
                        self.fixed[i] = a
                    else:
                        self.inside[i] = cp.ndarray(a.shape, a.dtype)
                self._record(stream, given)
        finally:
            launch.deferred.reset(checks)

    def _record(self, stream: Any, given: Sequence[Any]) -> None:
        places = [
            place if whole is None else whole for place, whole in zip(self.inside, self.fixed, strict=True)
        ]
        inputs = [
            Half(place, x.dtype) if isinstance(x, Half) else place
            for place, x in zip(places, given, strict=True)
        ]
        stream.begin_capture()
        try:
            result = self.run(*inputs)
            self._finish(result)
        except BaseException as error:
            self._abandon(stream)
            if not isinstance(error, Exception):  # an interruption: the next call tries again
                raise
            self.refused = (
                f"{self.name} cannot be captured as one CUDA graph: {type(error).__name__}: {error}. What waits for the "
                "device, such as reading a value, is not possible inside: use corelib.compile, or take that part out"
            )
            raise errors.BackendError(self.refused) from error
        self.graph = stream.end_capture()

    def _abandon(self, stream: Any) -> None:
        """End a capture that failed, whose stream would refuse everything, and let go of its memory."""
        try:
            stream.end_capture()
        except Exception:
            launch.log.debug("a capture that failed was ended", exc_info=True)
        self.inside, self.fixed, self.pool, self.graph = [], [], None, None

    def _finish(self, result: Any) -> None:
        """The end of the graph: results where the next call finds them."""
        cp = cupy()
        self.several = isinstance(result, tuple)
        results = result if self.several else (result,)
        memory = {id(x.data.mem) for x in (*self.inside, *self.fixed) if x is not None}
        self.outside: list[Any] = []
        for x in results:
            array = None if x is None else contiguous(stored(x))
            if array is not None and id(array.data.mem) in memory:  # an input that is given back
                array = copied(array)
            self.outside.append((array, None if x is None else dtypes.as_dtype(x.dtype)))
        for j, i in self.state.items():
            copy(self.outside[j][0], self.inside[i])
        found = launch.deferred.get()
        self.flag = None
        if found:
            least = kernels.get(ops.minimum, dtypes.int64)
            assert least is not None
            self.flag = functools.reduce(least, [x.reshape(1) for x in found])
            self.found = np.frombuffer(cp.cuda.alloc_pinned_memory(8), np.int64, 1)
            self.event = cp.cuda.Event()


def _reference(x: Any) -> Any:
    return None if x is None else weakref.ref(stored(x))
