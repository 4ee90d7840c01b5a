"""Processes that make batches ahead of time.

Processes and not threads: what a data set does to a sample is mostly Python, which threads do one at a time.
They are spawned, not forked (a fork copies locks that other threads hold), so the data set is pickled once, a
script needs the ``if __name__ == "__main__"`` guard, and a pool takes half a second to start; it lives as long
as its loader. Batches come back through a pipe. Batch b is made by worker b modulo their number, so the order
is that of the batches, whichever is ready first.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import pickle
import queue
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from ..errors import CorelibError
from ..random import Generator
from .transforms import drawing_from


class WorkerError(CorelibError, RuntimeError):
    """A process that makes batches died, or raised what cannot be sent to another process."""


class Task(NamedTuple):
    """One batch to make: its number in the epoch, the samples in it, and the seed of the epoch's transforms."""

    number: int
    indices: Sequence[int]
    seed: int


def make_batch(
    dataset: Any, collate: Callable[[list[Any]], Any] | None, task: Task, reached: Callable[[int], None]
) -> Any:
    """The batch of a task. ``collate`` None: the data set's own ``batch``. ``reached`` is told of each sample
    before it is read.

    Random transforms draw from a generator whose key is the epoch's and whose counter starts at 2**32 times
    the batch's number: the same numbers, whichever process draws them, and whether or not the batches before
    were made.
    """
    generator = Generator(task.seed)
    counter = generator.counter
    generator.set_state({"key": generator.key, "counter": counter + (task.number << 32)})
    with drawing_from(generator):
        if collate is None:
            reached(task.indices[0])
            return dataset.batch(task.indices)
        samples = []
        for index in task.indices:
            reached(index)
            try:
                samples.append(dataset[index])
            except Exception as error:
                error.add_note(f"while sample {index} of {type(dataset).__name__} was read")
                raise
        return collate(samples)


class Failure(NamedTuple):
    """What went wrong in a worker: the sample that it had reached, the exception, if it can be sent, in one line, and its
    traceback as text.
    """

    sample: int
    error: BaseException | None
    line: str
    text: str


def _work(pipe: Any, reached: Any, dataset: Any, collate: Any, backend: str) -> None:
    """The main function of a worker: tasks in, batches out, until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the loader's process ends the workers
    from ..registry import set_backend

    set_backend(backend)

    def at(index: int) -> None:
        reached.value = index

    tasks: queue.SimpleQueue[Task | None] = queue.SimpleQueue()

    def receive() -> None:
        while True:
            try:
                tasks.put(pipe.recv())
            except (EOFError, OSError):
                tasks.put(None)
                return

    # a thread, so that neither side ever waits to send while the other one does
    threading.Thread(target=receive, daemon=True).start()
    while (task := tasks.get()) is not None:
        try:
            answer = make_batch(dataset, collate, task, at)
        except Exception as error:
            answer = _failure(error, reached.value)
        try:
            pipe.send(answer)
        except (BrokenPipeError, ConnectionResetError):
            return
        except Exception as error:  # a batch that cannot be pickled
            pipe.send(_failure(error, reached.value))


def _failure(error: Exception, index: int) -> Failure:
    """What is sent for an exception: itself, if it survives being pickled."""
    told: Exception | None = error
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        told = None
    return Failure(index, told, f"{type(error).__name__}: {error}", traceback.format_exc())


class Pool:
    """``count`` workers for one data set. ``ahead``: batches that each of them has in hand or done."""

    def __init__(self, dataset: Any, collate: Any, count: int, ahead: int) -> None:
        from ..registry import registry

        context = multiprocessing.get_context("spawn")
        self.ahead = ahead
        self.processes: list[Any] = []
        self.pipes: list[Any] = []
        self.reached: list[Any] = []
        device = registry.creation(None).device
        for number in range(count):
            ours, theirs = context.Pipe()
            reached = context.RawValue("q", -1)
            process = context.Process(
                target=_work,
                args=(theirs, reached, dataset, collate, device),
                name=f"corelib data worker {number}",
                daemon=True,
            )
            self.pipes.append(ours)
            self.reached.append(reached)
            try:
                process.start()
            except BaseException as error:
                error.add_note(
                    "while a DataLoader started a worker: data set and collate_fn have to be pickled for it"
                )
                self.close()
                raise
            self.processes.append(process)
            theirs.close()

    def batches(self, tasks: Iterable[Task]) -> Iterator[Any]:
        """The batches of the tasks, in their order."""
        coming, waiting = iter(tasks), deque[Task]()
        count = len(self.processes)
        turn = 0  # of the next task to hand out

        def hand_out() -> None:
            nonlocal turn
            for task in coming:
                try:
                    self.pipes[turn % count].send(task)
                except OSError:
                    raise self.died(turn % count, task) from None
                waiting.append(task)
                turn += 1
                return

        for _ in range(count * self.ahead):
            hand_out()
        done = 0
        while waiting:
            task, worker = waiting.popleft(), done % count
            done += 1
            try:
                answer = self.pipes[worker].recv()
            except (EOFError, OSError):
                raise self.died(worker, task) from None
            if isinstance(answer, Failure):
                raise self.failed(worker, task, answer)
            hand_out()
            yield answer

    def died(self, worker: int, task: Task) -> WorkerError:
        """The error for a process that is no more."""
        process = self.processes[worker]
        process.join(1)
        code, index = process.exitcode, self.reached[worker].value
        how = f"by signal {signal.Signals(-code).name}" if code is not None and code < 0 else f"with exit status {code}"  # fmt: skip
        where = f"it had reached sample {index}" if index >= 0 else "it had not reached a sample: can the data set be pickled, and is the script guarded by if __name__ == '__main__'?"  # fmt: skip
        return WorkerError(
            f"DataLoader: worker {worker} (process {process.pid}) ended {how} before batch {task.number} was made; {where}"
        )

    def failed(self, worker: int, task: Task, failure: Failure) -> BaseException:
        """The worker's exception, with where and how it came about; WorkerError if it could not be sent."""
        where = f"in worker {worker}, batch {task.number}, sample {failure.sample}"
        error = failure.error or WorkerError(f"DataLoader: {where}: {failure.line}")
        error.add_note(f"{where}\n{failure.text}")
        return error

    def close(self) -> None:
        """End the workers."""
        for pipe in self.pipes:
            with contextlib.suppress(OSError):
                pipe.close()
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.join(5)
            if process.is_alive():  # it ignores SIGTERM
                process.kill()
                process.join()
        self.processes = []
