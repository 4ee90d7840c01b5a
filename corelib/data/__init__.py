"""Data sets, loaders and transforms, under PyTorch's names.

A :class:`DataLoader` shuffles by corelib's generator, so the order is the same on every backend, and its
position in an epoch saves into a checkpoint and goes on from there.
"""

from __future__ import annotations

from . import transforms
from .dataset import ConcatDataset, Dataset, Subset, TensorDataset, random_split
from .loader import DataLoader, default_collate
from .workers import WorkerError

__all__ = [
    "ConcatDataset", "DataLoader", "Dataset", "Subset", "TensorDataset", "WorkerError", "default_collate", "random_split",
    "transforms",
]  # fmt: skip
