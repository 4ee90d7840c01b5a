"""Worker processes that try cases (``worker.py``), watched: one that dies or hangs costs one case, never the
run.

A worker is an interpreter of its own, not a fork: a backend's threads and devices do not survive one. It
announces every outcome before it begins the next case, so that the case at which it died, or over which it has
been for too long, is known. This module knows nothing of backends, ops or reports.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ..errors import BackendNotFoundError
from .worker import Begun, Job, Ready, Refused, Tried, Work

START_LIMIT = 300.0  # seconds: a plugin's imports, on a busy machine
STARTS = 3  # processes of a run that may die before they are ready, the first one not counted
PATIENCE = 10  # a case may take this many times its limit where it has had no processor
# SIGTERM, SIGKILL, SIGHUP: from the user, or from a system whose memory is short. The case is tried once more.
OUTSIDE = {-15, -9, -1}
_FRAME = re.compile(r'File "(.*)", line (\d+) in (.*)')


class Worker:
    """One process, and what it is doing. Messages come into ``inbox`` as (worker, message), None at the end."""

    def __init__(self, device: str, inbox: queue.Queue[Any]) -> None:
        # What the process says when it dies is read from here; unbuffered, for it may die at any time.
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the worker
        code = f"import sys; sys.path[:] = {sys.path!r}; from corelib.conformance.worker import main; main({device!r})"
        env = {k: v for k, v in os.environ.items() if k != "CORELIB_FALLBACK"}
        command = [sys.executable, "-X", "faulthandler", "-u", "-c", code]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, env=env
        )
        self.ready = False
        self.work: Work | None = None
        self.done = 0  # of the places of the work
        self.begun = False  # whether the cases have been made
        self.killed, self.killed_at = "", 0  # why, and at how many done
        self.since, self.used = (
            time.monotonic(),
            0.0,
        )  # when the present case began, by the clock and the processor
        self.listener = threading.Thread(target=self._listen, args=(inbox,), daemon=True)
        self.listener.start()

    def _listen(self, inbox: queue.Queue[Any]) -> None:
        assert self.process.stdout is not None
        try:
            while True:
                inbox.put((self, pickle.load(self.process.stdout)))
        except (EOFError, OSError, ValueError, pickle.UnpicklingError):
            inbox.put((self, None))

    def tell(self, message: Job | Work) -> None:
        """Send a message; a worker that is dead will be noticed by its silence."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.write(pickle.dumps(message))
            self.process.stdin.flush()

    def give(self, work: Work) -> None:
        """Let it try some cases."""
        self.work, self.done, self.begun, self.since = work, 0, False, time.monotonic()
        self.tell(work)

    def overdue(self, limit: float) -> bool:
        """Whether the present case has taken too long.

        On a busy machine a case gets little of the processor, and is given its limit in processor time; one
        that uses almost none waits for something that does not come.
        """
        elapsed = time.monotonic() - self.since
        if elapsed <= limit:
            return False
        now = processor_seconds(self.process.pid)
        if now is None or elapsed > PATIENCE * limit:
            return True
        return now - self.used > limit or now - self.used < elapsed / 50

    def end(self, reason: str) -> None:
        """Kill it, asking first where it is: faulthandler answers on SIGABRT."""
        self.killed, self.killed_at = reason, self.done
        if os.name == "posix":
            self.process.send_signal(signal.SIGABRT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(1)
        self.process.kill()

    def close(self, patience: float = 0.0) -> None:
        """Let it end by itself, or else end it."""
        with contextlib.suppress(OSError):
            self.process.stdin.close()  # type: ignore[union-attr]
        try:
            self.process.wait(patience)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        # It reads to the end, unless a process of the process keeps that open.
        self.listener.join(patience + 1.0)
        if not self.listener.is_alive():
            self.process.stdout.close()  # type: ignore[union-attr]
        self.errors.close()

    def epitaph(self) -> str:
        """How it died, and in which line, in one sentence."""
        code = self.process.wait()
        self.errors.seek(0)
        said = self.errors.read().decode("utf-8", "replace")
        frames = _FRAME.findall(said.rpartition("Current thread")[2]) if "Current thread" in said else []
        where = f", in {frames[0][2]} ({os.path.basename(frames[0][0])}:{frames[0][1]})" if frames else ""
        if self.killed:
            return f"{self.killed}{where}"
        if code in OUTSIDE:
            return f"its process was killed twice, by signal {-code} ({signal.Signals(-code).name}): memory may be short"
        if code < 0:
            name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
            return f"it crashed the interpreter: signal {-code} ({name}){where}"
        words = said.strip().splitlines()[-1:] if not frames else []
        return f"it ended the interpreter with exit status {code}{where}{''.join(f': {w}' for w in words)}"


def processor_seconds(pid: int) -> float | None:
    """The processor time that a process has used, where the system tells."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, AttributeError):
        return None


class Pool:
    """``count`` workers for a device."""

    def __init__(self, device: str, count: int, limit: float) -> None:
        self.device, self.limit = device, limit
        self.inbox: queue.Queue[Any] = queue.Queue()
        self.job: Job | None = None
        self.stillborn = 0  # replacements that never got ready
        self.again: set[tuple[bool, str, int]] = set()  # the cases that are being tried a second time
        self.workers = [Worker(device, self.inbox) for _ in range(count)]

    def start(self) -> Ready:
        """Wait for the first worker to have the backend; BackendNotFoundError if it cannot."""
        for worker, message in self._messages():
            if isinstance(message, Ready):
                worker.ready = True
                return message
            if worker is not None:
                self._refused(worker, message)
        raise AssertionError("the messages do not end")

    def _refused(self, worker: Worker, message: Any) -> None:
        reason = message.reason if isinstance(message, Refused) else ""
        if not reason:
            reason = f"backend {self.device!r} cannot be used here: its process did not get ready: {worker.epitaph()}"
        raise BackendNotFoundError(reason)

    def _messages(self) -> Iterator[tuple[Any, Any]]:
        """What the workers say, and now and then (None, None); those that take too long are ended meanwhile."""
        looked = time.monotonic()
        while True:
            with contextlib.suppress(queue.Empty):
                yield self.inbox.get(timeout=0.1)
            if time.monotonic() - looked < 0.1:
                continue
            looked = time.monotonic()
            for worker in self.workers:
                self._hurry(worker)
            yield None, None

    def _hurry(self, worker: Worker) -> None:
        if worker.killed:
            return
        if not worker.ready:
            if time.monotonic() - worker.since > START_LIMIT:
                worker.end(f"it was not ready within {START_LIMIT:g} s")
        elif worker.work is not None:
            if worker.overdue(self.limit if worker.begun else START_LIMIT):
                worker.end(f"it did not end within {self.limit:g} s")

    def run(
        self, job: Job, works: Sequence[Work], told: Callable[[Work, Tried], None],
        lost: Callable[[Work, int, str], None], tick: Callable[[], None],
    ) -> None:  # fmt: skip
        """Have everything tried. ``told(work, outcome)`` for each case that came to an end, ``lost(work, place,
        reason)`` for one that took its worker with it.
        """
        self.job = job
        waiting = list(reversed(works))
        for worker in self.workers:
            if worker.ready:
                self._next(worker, waiting, first=True)
        if not works:
            return
        for worker, message in self._messages():
            if worker is None:
                tick()
            elif isinstance(message, Ready):
                worker.ready = True
                self._next(worker, waiting, first=True)
            elif isinstance(message, Begun):
                worker.begun, worker.since, worker.used = True, time.monotonic(), message.used
            elif isinstance(message, Tried):
                worker.done += 1
                worker.since, worker.used = time.monotonic(), message.used
                told(worker.work, message)
                if worker.done == len(worker.work.places):
                    self._next(worker, waiting)
            else:
                self._replace(worker, message, waiting, lost)
            if not waiting and all(w.work is None for w in self.workers):
                return

    def _next(self, worker: Worker, waiting: list[Work], *, first: bool = False) -> None:
        """Give a worker more of what it has been trying, or else something new."""
        assert self.job is not None
        if first:
            worker.tell(self.job)
        previous, worker.work = worker.work, None
        if waiting:
            same = previous and next(
                (i for i in range(len(waiting) - 1, -1, -1) if waiting[i][:2] == previous[:2]), None
            )
            worker.give(waiting.pop(-1 if same is None else same))

    def _replace(
        self, worker: Worker, message: Any, waiting: list[Work], lost: Callable[[Work, int, str], None]
    ) -> None:
        if not worker.ready:
            self.stillborn += 1
            if isinstance(message, Refused) or self.stillborn > STARTS:
                self._refused(worker, message)
        work = worker.work
        self.workers.remove(worker)
        if work is not None:
            rest = work.places[worker.done :]
            case = (*work[:2], rest[0])
            ended = worker.killed and worker.killed_at < worker.done  # the case came to an end meanwhile
            if not worker.killed and worker.process.wait() in OUTSIDE and case not in self.again:
                self.again.add(case)
            elif not ended:
                lost(work, rest[0], worker.epitaph())
                rest = rest[1:]
            if rest:
                waiting.append(work._replace(places=rest))
        worker.close()
        if waiting:
            self.workers.append(Worker(self.device, self.inbox))

    def close(self, patience: float = 0.0) -> None:
        """End all workers."""
        for worker in self.workers:
            worker.close(patience)
