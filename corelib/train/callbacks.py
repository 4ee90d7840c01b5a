"""What is done during training beside training: an interface, and the two that most runs need."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ArgumentError, nearest

if TYPE_CHECKING:
    from .trainer import Trainer


class Callback:
    """Base of callbacks: each method is called with the trainer at its time, and does nothing here.

    ``trainer.record`` is the newest line of the log; ``trainer.stop("why")`` ends training. A callback with a
    state defines ``state_dict`` and ``load_state_dict``, of what JSON can hold; it then goes into checkpoints.
    """

    def on_train_begin(self, trainer: Trainer) -> None:
        """Before the first epoch, also after a resume."""

    def on_step_end(self, trainer: Trainer) -> None:
        """After each update of the parameters."""

    def on_epoch_end(self, trainer: Trainer) -> None:
        """After an epoch and its validation, before its checkpoint."""

    def on_train_end(self, trainer: Trainer) -> None:
        """After the last epoch, whatever ended training but an exception."""

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint has to hold."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a :meth:`state_dict`."""


class _Monitor(Callback):
    """Follows one number of the epochs' records."""

    def __init__(self, monitor: str, mode: str, min_delta: float = 0.0) -> None:
        if mode not in ("min", "max"):
            raise ArgumentError(f"{type(self).__name__}: mode must be 'min' or 'max', got {mode!r}")
        self.monitor, self.sign, self.min_delta = monitor, 1 if mode == "min" else -1, min_delta
        self.best = math.inf

    def _improved(self, trainer: Trainer) -> bool:
        record = trainer.record
        if self.monitor not in record:
            raise ArgumentError(
                f"{type(self).__name__} follows {self.monitor!r}, which no record has{nearest(self.monitor, record)}: the records have {', '.join(record)}"
            )
        value = self.sign * record[self.monitor]
        if value < self.best - self.min_delta:
            self.best = value
            return True
        return False

    def state_dict(self) -> dict[str, Any]:
        """The best value so far."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a :meth:`state_dict`."""
        for name, value in state_dict.items():
            setattr(self, name, value)


class EarlyStopping(_Monitor):
    """Stop when ``monitor`` has not improved by more than ``min_delta`` for ``patience`` epochs.

    Example: ``train.EarlyStopping("val_loss", patience=5)``.
    """

    def __init__(
        self, monitor: str = "val_loss", patience: int = 3, mode: str = "min", min_delta: float = 0.0
    ) -> None:
        super().__init__(monitor, mode, min_delta)
        self.patience, self.waited = patience, 0

    def on_epoch_end(self, trainer: Trainer) -> None:
        """Count, or stop."""
        self.waited = 0 if self._improved(trainer) else self.waited + 1
        if self.waited >= self.patience:
            trainer.stop(f"{self.monitor} has not improved for {self.waited} epochs")

    def state_dict(self) -> dict[str, Any]:
        """The best value so far, and for how many epochs it has been."""
        return {**super().state_dict(), "waited": self.waited}


class SaveBest(_Monitor):
    """Save the model's parameters to ``path`` whenever ``monitor`` has improved; ``corelib.load(path,
    model=model)`` gets them.

    Example: ``train.SaveBest("best.safetensors", "val_accuracy", mode="max")``.
    """

    def __init__(self, path: Any, monitor: str = "val_loss", mode: str = "min") -> None:
        super().__init__(monitor, mode)
        self.path = Path(path)

    def on_epoch_end(self, trainer: Trainer) -> None:
        """Save, if it is the best so far."""
        if self._improved(trainer):
            from ..serialize import save

            save(self.path, model=trainer.model, random=False, metadata={"record": trainer.record})
