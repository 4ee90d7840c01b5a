"""What a worker process does: makes cases again and tries them, one after the other, until it is told no more.

It reads pickled messages on its standard input and writes pickled messages where its standard output was; what
is printed, by a plugin for instance, goes to standard error. A case that hangs or ends the interpreter takes
this process only; ``pool.py`` sees which case it was, because every outcome is written before the next case
begins.
"""

from __future__ import annotations

import os
import pickle
import signal
import time
from typing import IO, Any, NamedTuple


class Job(NamedTuple):
    """A plan in names, which every process knows, and the families to be asked."""

    ops: tuple[str, ...]
    kinds: tuple[str, ...] | None
    profile: str
    seed: int
    tiles: tuple[int, ...]
    what: tuple[str, ...]


class Ready(NamedTuple):
    """The backend can be used. ``tiles``: the tile sizes that it declares."""

    tiles: tuple[int, ...]


class Refused(NamedTuple):
    """The backend cannot be used, or its plugin cannot be imported, and why."""

    reason: str


class Work(NamedTuple):
    """Cases to be tried: of the op or family of a name, those at some places among all of a plan."""

    by_op: bool
    name: str
    places: tuple[int, ...]


class Tried(NamedTuple):
    """What became of a case: its place, its id, and the fields of an Outcome."""

    place: int
    id: str
    status: str
    ulp: float | None
    reason: str
    how: str
    shown: str
    used: float


class Begun(NamedTuple):
    """The cases have been made, and the first one begins. ``used``: processor seconds so far, here and above."""

    used: float


def main(device: str) -> None:
    """Serve one run on a device."""
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # whoever started this process decides what an interrupt means
    out, messages = os.fdopen(os.dup(1), "wb", buffering=0), os.fdopen(os.dup(0), "rb")
    os.dup2(2, 1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    try:
        from ..registry import registry

        backend = registry.get(device)
    except Exception as error:
        send(out, Refused(str(error) or type(error).__name__))
        return
    send(out, Ready(tuple(getattr(backend, "tiles", ()))))
    try:
        serve(messages, out, device)
    except (EOFError, BrokenPipeError):  # nobody is waiting any more
        os._exit(0)


def send(out: IO[bytes], message: Any) -> None:
    """Write one message."""
    data = memoryview(pickle.dumps(message))
    while data:
        data = data[out.write(data) :]


def serve(messages: IO[bytes], out: IO[bytes], device: str) -> None:
    """Try cases, as told, until the messages end."""
    from .check import FAIL, Suite
    from .oracle import Oracle

    suite = Suite(device)
    job: Job = pickle.load(messages)
    latest: Any = None
    listed: list[Any] = []
    while True:
        work: Work = pickle.load(messages)
        if (work.by_op, work.name) != latest:
            latest = work.by_op, work.name
            suite.oracle = Oracle()  # nobody asks for the answers about another op again
            listed = cases_of(job, work)
        send(out, Begun(time.process_time()))
        for place in work.places:
            if place >= len(listed):  # the run is void: its starter sees that this is not the case it meant
                send(out, Tried(place, "nothing", FAIL, None, "it could not be made again", "", "", 0.0))
                continue
            o = suite.run(listed[place])
            send(out, Tried(place, o.case.id, o.status, o.ulp, o.reason, o.how, o.shown, time.process_time()))


def cases_of(job: Job, work: Work) -> list[Any]:
    """All cases of one op or of one family without ops, in the order in which everybody makes them."""
    from ..dtypes import as_dtype
    from ..support import find_op
    from .families import Plan, cases, maker

    names = (work.name,) if work.by_op else job.ops
    what = job.what if work.by_op else (work.name,)
    kinds = None if job.kinds is None else tuple(as_dtype(name) for name in job.kinds)
    plan = Plan(tuple(find_op(name) for name in names), kinds, job.profile, job.seed, job.tiles)
    return [c for c in cases(plan, what) if maker(c) == (work.by_op, work.name)]
