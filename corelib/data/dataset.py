"""Data sets: anything with a length and samples by number."""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Any

from ..dtypes import int64
from ..errors import ArgumentError, IndexOutOfBoundsError, ShapeError
from ..op import calls
from ..ops.interchange import asarray
from ..random import Generator, permutation
from ..tensor import Tensor


class Dataset:
    """Base of data sets: ``dataset[i]`` is sample i, ``len(dataset)`` their number.

    A subclass defines both. A data set that can make a whole batch at once defines ``batch(indices)`` as well,
    which a loader without a ``collate_fn`` calls instead. Any object with ``__getitem__`` and ``__len__``, such
    as a list, will do.
    """

    def __getitem__(self, index: int) -> Any:
        raise NotImplementedError(f"{type(self).__name__} does not define __getitem__()")

    def __len__(self) -> int:
        raise NotImplementedError(f"{type(self).__name__} does not define __len__()")

    def __add__(self, other: Any) -> ConcatDataset:
        return ConcatDataset([self, other])


class TensorDataset(Dataset):
    """Tensors of equal first axes: sample i is the tuple of their elements i.

    A batch is taken out of each tensor in one op, on its device.

    Example: ``data.TensorDataset(x, labels)``.
    """

    def __init__(self, *tensors: Tensor) -> None:
        if not tensors:
            raise ArgumentError("TensorDataset got no tensors")
        self.tensors = tuple(t if isinstance(t, Tensor) else asarray(t) for t in tensors)
        for i, tensor in enumerate(self.tensors):
            if not tensor.ndim:
                raise ShapeError(f"TensorDataset: tensor {i} has no axis to take samples from")
        sizes = [tensor.shape[0] for tensor in self.tensors]
        if len(set(sizes)) > 1:
            raise ShapeError(f"TensorDataset: the tensors have {', '.join(map(str, sizes))} samples")

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        return tuple(tensor[index] for tensor in self.tensors)

    def __len__(self) -> int:
        return self.tensors[0].shape[0]

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, ...]:
        """The samples at ``indices``, stacked."""
        found = []
        for tensor in self.tensors:
            at = asarray(list(indices), dtype=int64, device=tensor.device)
            found.append(calls.take(tensor, at, axis=0))
        return tuple(found)


class Subset(Dataset):
    """The samples of another data set at some indices."""

    def __init__(self, dataset: Any, indices: Iterable[int]) -> None:
        self.dataset, self.indices = dataset, [int(i) for i in indices]
        if hasattr(dataset, "batch"):
            self.batch = lambda positions: dataset.batch([self.indices[i] for i in positions])

    def __reduce__(self) -> Any:
        return Subset, (self.dataset, self.indices)

    def __getitem__(self, index: int) -> Any:
        return self.dataset[self.indices[index]]

    def __len__(self) -> int:
        return len(self.indices)


class ConcatDataset(Dataset):
    """Several data sets, one after the other."""

    def __init__(self, datasets: Iterable[Any]) -> None:
        self.datasets = list(datasets)
        self.ends = list(itertools.accumulate(len(d) for d in self.datasets))

    def __getitem__(self, index: int) -> Any:
        if not -len(self) <= index < len(self):
            raise IndexOutOfBoundsError(f"ConcatDataset: there is no sample {index} of {len(self)}")
        index %= len(self)
        which = bisect.bisect_right(self.ends, index)
        return self.datasets[which][index - (self.ends[which - 1] if which else 0)]

    def __len__(self) -> int:
        return self.ends[-1] if self.ends else 0


def random_split(dataset: Any, lengths: Sequence[float], generator: Generator | None = None) -> list[Subset]:
    """Disjoint random parts of a data set: ``lengths`` are numbers of samples, or fractions that sum to 1, of
    which the first parts get what rounding down leaves.

    Example: ``data.random_split(range(10), [0.8, 0.2])`` are 8 numbers and 2.
    """
    size, given = len(dataset), list(lengths)
    counts = given
    if any(isinstance(n, float) for n in given) and math.isclose(sum(given), 1):
        counts = [math.floor(size * fraction) for fraction in given]
        for i in range(size - int(sum(counts))):
            counts[i % len(counts)] += 1
    if any(not isinstance(n, int) or n < 0 for n in counts) or sum(counts) != size:
        raise ArgumentError(
            f"random_split: lengths must be numbers of samples that sum to {size}, or fractions that sum to 1, got {given}"
        )
    order = iter(permutation(size, generator=generator).tolist())
    return [Subset(dataset, itertools.islice(order, int(n))) for n in counts]
