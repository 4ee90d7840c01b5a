"""Training: a small :class:`Trainer` around the loop that everybody writes.

Nothing else in corelib needs it, and it uses nothing that a loop of your own could not use: losses, optimizers,
loaders and checkpoints work without it, and so does each part here.
"""

from __future__ import annotations

from .callbacks import Callback, EarlyStopping, SaveBest
from .nonfinite import NonFiniteLossError, watch_nonfinite
from .precision import MixedPrecision
from .records import EventWriter
from .trainer import Trainer

__all__ = [
    "Callback", "EarlyStopping", "EventWriter", "MixedPrecision", "NonFiniteLossError", "SaveBest", "Trainer", "watch_nonfinite",
]  # fmt: skip
