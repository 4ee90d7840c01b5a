"""DataLoader: batches of a data set, in an order that can be saved."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

from ..dtypes import uint64
from ..errors import ArgumentError, CheckpointError
from ..op import calls
from ..ops.interchange import asarray
from ..random import Generator, default_generator, permutation
from ..tensor import Tensor
from .workers import Pool, Task, make_batch


class DataLoader:
    """Batches of ``batch_size`` samples; iterate over it once for each epoch.

    ``shuffle``: in a new random order in each epoch. ``drop_last``: without a last batch that is smaller.
    ``collate_fn`` makes a batch of a list of samples, :func:`default_collate` unless given (a data set with a
    ``batch`` method makes it itself). ``num_workers`` processes make up to ``prefetch_factor`` batches each
    ahead of time (see :mod:`corelib.data.workers`); with 0, each is made when it is asked for. The batches are
    the same ones either way. ``generator``: of the order and of random transforms; unless given, a new one that
    the default generator spawns, so that ``random.seed`` before fixes it.

    :meth:`state_dict` may be taken between any two batches; after :meth:`load_state_dict` the next iteration
    goes on with the batch that would have come, also on another backend and with another ``num_workers``.

    Example::

        loader = data.DataLoader(data.TensorDataset(x, labels), batch_size=2, shuffle=True)
        for epoch in range(3):
            for images, targets in loader:
                loss = corelib.cross_entropy(model(images), targets)
    """

    def __init__(
        self, dataset: Any, batch_size: int = 1, shuffle: bool = False, *, num_workers: int = 0,
        collate_fn: Callable[[list[Any]], Any] | None = None, drop_last: bool = False, generator: Generator | None = None,
        prefetch_factor: int = 2,
    ) -> None:  # fmt: skip
        size = len(dataset)
        for name, value, least in (
            ("batch_size", batch_size, 1), ("num_workers", num_workers, 0), ("prefetch_factor", prefetch_factor, 1),
        ):  # fmt: skip
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ArgumentError(
                    f"DataLoader: {name} must be an integer of at least {least}, got {value!r}"
                )
        if not size:
            raise ArgumentError(f"DataLoader: {type(dataset).__name__} has no samples")
        if drop_last and size < batch_size:
            raise ArgumentError(
                f"DataLoader: {size} samples make no whole batch of {batch_size}: take a smaller batch_size, or drop_last=False"
            )
        self.dataset, self.batch_size, self.shuffle, self.drop_last = dataset, batch_size, shuffle, drop_last
        self.num_workers, self.prefetch_factor = num_workers, prefetch_factor
        own = collate_fn is None and hasattr(dataset, "batch")
        self.collate_fn = None if own else collate_fn or default_collate
        self.generator = generator or default_generator().spawn(1)[0]
        self.epoch = 0
        self._done = 0  # batches of this epoch that have been handed out
        self._start: dict[str, Tensor] | None = None  # the generator's state before this epoch was drawn
        self._resumed = False
        self._pool: Pool | None = None

    def __len__(self) -> int:
        """The number of batches in an epoch."""
        whole = len(self.dataset) / self.batch_size
        return math.floor(whole) if self.drop_last else math.ceil(whole)

    def _tasks(self, first: int) -> Iterator[Task]:
        """The batches of an epoch from one of them on; draws the order from the generator."""
        self._start = self.generator.get_state()
        size = len(self.dataset)
        if self.shuffle:
            order = permutation(size, generator=self.generator).tolist()
        else:
            order = range(size)
        seed = self.generator.bits((), uint64).item()
        numbers = range(first, len(self))
        return (
            Task(n, order[n * self.batch_size : min((n + 1) * self.batch_size, size)], seed) for n in numbers
        )

    def __iter__(self) -> Iterator[Any]:
        if not self._resumed:
            self._done = 0
        self._resumed = False
        tasks = self._tasks(self._done)
        if self.num_workers:
            if self._pool is None:
                self._pool = Pool(self.dataset, self.collate_fn, self.num_workers, self.prefetch_factor)
            batches = self._pool.batches(tasks)
        else:
            batches = (make_batch(self.dataset, self.collate_fn, task, lambda index: None) for task in tasks)
        complete = False
        try:
            for batch in batches:
                self._done += 1
                yield batch
            complete = True
        finally:
            if not complete:  # the workers have batches in hand that nobody wants
                self.close()
        self.epoch += 1
        self._done, self._start = 0, None

    def close(self) -> None:
        """End the worker processes; the next epoch starts new ones."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None

    def __del__(self) -> None:
        if getattr(self, "_pool", None) is not None:
            self.close()

    # -- state -----------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Which batch comes next: numbers that JSON can hold."""
        state = self._start or self.generator.get_state()
        return {
            "epoch": self.epoch,
            "batch": self._done,
            "key": state["key"].tolist(),
            "counter": state["counter"].item(),
            "samples": len(self.dataset),
            "batch_size": self.batch_size,
            "shuffle": self.shuffle,
            "drop_last": self.drop_last,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a :meth:`state_dict`; CheckpointError if it is of other batches."""
        self._checked(state_dict)()

    def _checked(self, state_dict: dict[str, Any]) -> Callable[[], None]:
        """A function that takes the state over; CheckpointError now if it does not fit."""
        own = self.state_dict()
        if set(own) != set(state_dict):
            raise CheckpointError(
                f"load_state_dict: a DataLoader needs {', '.join(own)}, the state has {', '.join(state_dict)}"
            )
        for name in ("samples", "batch_size", "shuffle", "drop_last"):
            if own[name] != state_dict[name]:
                raise CheckpointError(
                    f"load_state_dict: the DataLoader has {name}={own[name]}, the state has {name}={state_dict[name]}: "
                    "the batches would be others"
                )
        generator = {
            "key": asarray(state_dict["key"], dtype="uint32"),
            "counter": asarray(state_dict["counter"], dtype="uint64"),
        }

        def take_over() -> None:
            self.generator.set_state(generator)
            self.epoch, self._done = state_dict["epoch"], state_dict["batch"]
            self._start, self._resumed = None, True
            self.close()

        return take_over


def default_collate(samples: list[Any]) -> Any:
    """A batch of samples: tensors and arrays stacked, numbers as a tensor, tuples, lists and dictionaries of
    these element by element; anything else as a list.

    Example: ``data.default_collate([(x, 3.0), (x, 5.0)])`` is ``(stack([x, x]), asarray([3.0, 5.0]))``.
    """
    first = samples[0]
    if isinstance(first, Tensor):
        return calls.stack(samples)
    if isinstance(first, bool | int | float | complex):
        return asarray(samples)
    if isinstance(first, dict):
        return {key: default_collate([s[key] for s in samples]) for key in first}
    if isinstance(first, tuple | list):
        columns = [default_collate(list(column)) for column in zip(*samples, strict=True)]
        if hasattr(first, "_fields"):
            return type(first)(*columns)
        return tuple(columns) if isinstance(first, tuple) else columns
    if hasattr(first, "__array__"):
        import numpy

        return asarray(numpy.stack(samples))
    return list(samples)
