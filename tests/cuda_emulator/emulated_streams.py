"""Streams, events and graphs, as the emulated CuPy has them: work is done when it is given, or recorded.

A capture is as strict as CUDA's: what asks the device for a value, or copies from pageable memory, is refused and spoils
it. A graph holds addresses, not arrays: memory that has gone back to the system meanwhile is unreadable.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

_current: list[Stream] = []


class CudaError(RuntimeError):
    """What a device would have reported, or should have."""


class Stream:
    """One queue of work; in this stand-in everything that was given is done."""

    def __init__(self, null: bool = False, non_blocking: bool = False) -> None:
        self.legacy = null
        self._actions: list[Callable[[], Any]] | None = None
        self._spoilt = False

    def __enter__(self) -> Stream:
        _current.append(self)
        return self

    def __exit__(self, *error: Any) -> None:
        _current.pop()

    def begin_capture(self, mode: int | None = None) -> None:
        if self.legacy:
            raise CudaError("cudaErrorStreamCaptureUnsupported: the legacy stream cannot be captured")
        if self._actions is not None:
            raise CudaError("cudaErrorIllegalState: the stream is capturing already")
        self._actions, self._spoilt = [], False

    def end_capture(self) -> Graph:
        actions, self._actions = self._actions, None
        if actions is None:
            raise CudaError("cudaErrorIllegalState: the stream is not capturing")
        if self._spoilt:
            raise CudaError("cudaErrorStreamCaptureInvalidated: operation failed due to a previous error")
        return Graph(actions)

    def is_capturing(self) -> bool:
        return self._actions is not None

    def synchronize(self) -> None:
        waiting(self)

    def record(self, event: Event | None = None) -> Event:
        event = event or Event()
        event.record(self)
        return event


default = Stream(null=True)


def current() -> Stream:
    return _current[-1] if _current else default


def submit(action: Callable[[], Any]) -> None:
    """Do something on the current stream: now, or in every launch of the graph that is being captured."""
    stream = current()
    if stream._actions is None:
        action()
    else:
        stream._actions.append(action)


failure: str | None = None  # what a kernel did, not yet reported: set by whoever emulates asynchronous errors


def reported() -> None:
    """Raise what a kernel did, which CUDA reports at any later call, and at every one from then on."""
    if failure is not None:
        raise CudaError(failure)


def waiting(stream: Stream | None = None) -> None:
    """What waits for the device cannot be captured."""
    stream = stream or current()
    if stream._actions is not None:
        stream._spoilt = True
        raise CudaError("cudaErrorStreamCaptureUnsupported: operation not permitted when stream is capturing")
    reported()


class Event:
    """A point in a stream."""

    def __init__(self) -> None:
        self.time = 0.0

    def record(self, stream: Stream | None = None) -> None:
        self.time = time.perf_counter()

    def synchronize(self) -> None:
        reported()

    done = True


def get_elapsed_time(start: Event, end: Event) -> float:
    """Milliseconds."""
    return 1e3 * (end.time - start.time)


class Graph:
    """What was recorded, to be done again."""

    def __init__(self, actions: list[Callable[[], Any]]) -> None:
        self._actions = actions

    def launch(self, stream: Stream | None = None) -> None:
        waiting(stream)
        for action in self._actions:
            action()
