"""Trainer: epochs, validation, records and checkpoints around forward, backward and step."""

from __future__ import annotations

import copy
import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import random
from ..autograd import no_grad
from ..errors import ArgumentError, CheckpointError
from ..nn.module import Module
from ..nn.utils import clip_grad_norm_
from ..op import calls
from ..optim import EMA, Optimizer
from ..optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from ..serialize import load, save
from ..tensor import Tensor
from .callbacks import Callback
from .nonfinite import NonFiniteLossError, watch_nonfinite
from .precision import MixedPrecision
from .records import EventWriter, JsonLines, Progress


class Trainer:
    """Trains ``model`` with ``optimizer`` on ``loss(model(x), y)`` for batches ``(x, y)``.

    A batch is a tuple whose last element is the target and whose others are the model's arguments; for
    anything else, override :meth:`compute`. Batches are moved to where the model is.

    ``metrics``: functions of (outputs, targets) for validation, by name. ``schedule``: a schedule of the
    learning rate, stepped ``schedule_each`` "epoch" or "step". ``accumulate`` batches make one step, with
    the mean of their losses. ``clip_norm``: of all gradients together. ``precision``: a
    :class:`MixedPrecision` or its dtype. ``ema``: averages of weights to update after each step.

    ``checkpoint``: a file to save to after each epoch, and every ``save_every`` steps. A save that is
    interrupted leaves the old file. ``log``: a file for lines of JSON, ``tensorboard``: a folder for event
    files; a record of every ``log_every`` steps and one of each epoch. Reading the loss waits for the device,
    so a large ``log_every`` is faster.

    A loss that is NaN or infinite raises :class:`NonFiniteLossError` before it gets into the parameters (if
    ``log_every`` is 1); with ``find_nonfinite``, the step is repeated with every op watched, and the error names
    the first that made it. With ``compile``, forward, backward and update are one compiled program
    (:func:`corelib.compile`), and such a loss is found after the update; :meth:`compute` sees the trainer as it was
    when training began.

    Example::

        trainer = train.Trainer(model, optimizer, corelib.cross_entropy, progress=False)
        batches = data.DataLoader(data.TensorDataset(x, labels), batch_size=2)
        history = trainer.fit(batches, epochs=2)
    """

    def __init__(
        self, model: Module, optimizer: Optimizer, loss: Callable[..., Tensor], *,
        metrics: Mapping[str, Callable[..., Any]] | None = None, schedule: LRScheduler | None = None, schedule_each: str = "epoch",
        callbacks: Sequence[Callback] = (), accumulate: int = 1, clip_norm: float | None = None, precision: Any = None,
        ema: EMA | None = None, checkpoint: Any = None, save_every: int | None = None, log: Any = None, tensorboard: Any = None,
        log_every: int = 1, find_nonfinite: bool = False, progress: bool = True, compile: bool = False,
    ) -> None:  # fmt: skip
        if schedule_each not in ("epoch", "step"):
            raise ArgumentError(f"Trainer: schedule_each must be 'epoch' or 'step', got {schedule_each!r}")
        for name, value in (("accumulate", accumulate), ("log_every", log_every), ("save_every", save_every)):
            if value is not None and value < 1:
                raise ArgumentError(f"Trainer: {name} must be at least 1, got {value}")
        if save_every and checkpoint is None:
            raise ArgumentError("Trainer: save_every needs a checkpoint to save to")
        if compile and (accumulate > 1 or precision is not None or find_nonfinite):
            raise ArgumentError("Trainer: compile goes without accumulate, precision and find_nonfinite")
        if precision is not None and not isinstance(precision, MixedPrecision):
            precision = MixedPrecision(precision)
        self.model, self.optimizer, self.loss = model, optimizer, loss
        self.metrics, self.schedule, self.schedule_each = dict(metrics or {}), schedule, schedule_each
        self.callbacks, self.accumulate, self.clip_norm = list(callbacks), accumulate, clip_norm
        self.precision: MixedPrecision | None = precision
        self.ema, self.checkpoint, self.save_every = (
            ema,
            None if checkpoint is None else Path(checkpoint),
            save_every,
        )
        self.log = None if log is None else JsonLines(log)
        self.tensorboard = tensorboard
        self._events: EventWriter | None = None
        self.log_every, self.find_nonfinite, self.progress = log_every, find_nonfinite, Progress(progress)
        self.epoch = self.step = self.batch = 0  # done: epochs, updates, batches of this epoch
        self.history: list[dict[str, Any]] = []  # the records of the epochs
        self.record: dict[str, Any] = {}  # the newest record
        self.stopped: str | None = None
        self.compile = compile
        self._compiled: Callable[[Any], Tensor] | None = None
        self._pending: list[
            tuple[Tensor, int]
        ] = []  # losses of batches that have not been read, with their sizes
        self._sum = self._count = 0.0
        self._loader: Any = None

    # -- what a subclass may define otherwise ----------------------------------------------------------------

    def compute(self, batch: Any) -> tuple[Any, Tensor]:
        """Outputs and loss of a batch."""
        if not isinstance(batch, tuple | list) or len(batch) < 2:
            raise ArgumentError(
                f"Trainer: a batch must be a tuple (x, ..., y), got {type(batch).__name__}: override compute() for others"
            )
        *inputs, target = batch
        if self.precision is not None:
            outputs = self.model(*map(self.precision.cast, inputs))
            outputs = calls.astype(outputs, "float32") if isinstance(outputs, Tensor) else outputs
        else:
            outputs = self.model(*inputs)
        return outputs, self.loss(outputs, target)

    # -- training --------------------------------------------------------------------------------------------

    def fit(
        self, loader: Iterable[Any], epochs: int, *, validation: Iterable[Any] | None = None, resume: Any = None
    ) -> list[dict[str, Any]]:  # fmt: skip
        """Train until ``epochs`` epochs are done, counted from the very first; returns their records.

        ``resume``: a checkpoint of a run of this kind to go on from (also in the middle of an epoch), True for
        :attr:`checkpoint` if there is one. The run then continues as if it had not been interrupted: weights,
        optimizer, schedule, random numbers, order of the data. With the same backend that is bit for bit; with
        another, up to the rounding of its kernels.
        """
        if resume is True:
            resume = self.checkpoint if self.checkpoint is not None and self.checkpoint.exists() else None
        if resume:
            self.resume(resume, loader)
        self._loader, self.stopped = loader, None
        if self.compile and self._compiled is None:
            self._compiled = self._whole_step()
        if self.tensorboard is not None and self._events is None:
            self._events = EventWriter(self.tensorboard)
        self._tell("on_train_begin")
        while self.epoch < epochs and self.stopped is None:
            self._epoch(loader, validation)
        self._tell("on_train_end")
        return self.history

    def stop(self, why: str) -> None:
        """End training after this step, or this epoch, with a checkpoint; ``stopped`` says why."""
        self.stopped = why

    def _epoch(self, loader: Any, validation: Iterable[Any] | None) -> None:
        started = time.perf_counter()
        self.model.train()
        if not self.batch:
            self._sum = self._count = 0.0
        total = len(loader) if hasattr(loader, "__len__") else None
        batches = iter(loader)
        if self.batch and not hasattr(loader, "load_state_dict"):
            batches = itertools.islice(batches, self.batch, None)
        held: list[Any] = []  # batches of one step
        number = self.batch
        for batch in self.progress.steps(batches, total, self.batch, self.epoch + 1):
            number += 1
            held.append(self._moved(batch))
            if len(held) < self.accumulate and number != total:
                continue
            self._update(held)
            self.batch, held = number, []
            if self._paused():
                return
        if held:  # the last ones, of a loader that does not know its length
            self._update(held)
        self._read()
        if not self._count:
            raise ArgumentError("Trainer: the loader gave no batch")
        self.epoch, self.batch = self.epoch + 1, 0
        record = {"step": self.step, "epoch": self.epoch, "train_loss": self._sum / self._count}
        if validation is not None:
            record |= {f"val_{name}": value for name, value in self.evaluate(validation).items()}
        if self.schedule is not None and self.schedule_each == "epoch":
            self._schedule(record)
        record["seconds"] = time.perf_counter() - started
        self.history.append(record)
        self._write(record)
        self.progress.epoch(record)
        self._tell("on_epoch_end")
        if self.checkpoint is not None:
            self.save(self.checkpoint)

    def _paused(self) -> bool:
        """After an update: tell the callbacks, save if it is time, and say whether training ends here."""
        self._tell("on_step_end")
        stopping = self.stopped is not None
        due = self.save_every is not None and self.step % self.save_every == 0
        if self.checkpoint is not None and (due or stopping):
            self.save(self.checkpoint)
        return stopping

    def _update(self, batches: list[Any]) -> None:
        """One step of the optimizer, by the mean loss of the batches."""
        if self._compiled is not None:
            loss = self._compiled(batches[0])
            self._pending.append((loss, _size(batches[0])))
            if (self.step + 1) % self.log_every == 0:
                self._read(batches[0])
            self._stepped()
            return
        self.optimizer.zero_grad()
        for batch in batches:
            before = random.get_state() if self.find_nonfinite else None
            loss = self._backward(batch, len(batches))
            self._pending.append((loss.detach(), _size(batch)))
            if (self.step + 1) % self.log_every == 0:
                self._read(batch, before)
        if self.precision is None or self.precision.finite(self.model):
            if self.clip_norm is not None:
                clip_grad_norm_(self.model.parameters(), self.clip_norm)
            self.optimizer.step()
            if self.ema is not None:
                self.ema.update()
        self._stepped()

    def _whole_step(self) -> Callable[[Any], Tensor]:
        """Forward, backward and update as one compiled function of a batch."""
        from ..compile import compile

        model, optimizer, clip, ema = self.model, self.optimizer, self.clip_norm, self.ema
        snapshot = copy.copy(self)  # counters and records would be tested at each call, and have changed
        snapshot.history, snapshot.callbacks, snapshot._loader = [], [], None
        compute = snapshot.compute

        def step(batch: Any) -> Tensor:
            optimizer.zero_grad()
            _, loss = compute(batch)
            loss.backward()
            if clip is not None:
                clip_grad_norm_(model.parameters(), clip)
            optimizer.step()
            if ema is not None:
                ema.update()
            return loss

        # What functions of corelib's own modules refer to is taken for fixed; this one is the user's loop.
        step.__module__ = "__main__"
        return compile(step)

    def _stepped(self) -> None:
        self.step += 1
        if self.schedule is not None and self.schedule_each == "step":
            self._schedule(self.record)

    def _backward(self, batch: Any, parts: int) -> Tensor:
        if self.precision is not None:
            return self.precision.backward(self.model, lambda: self.compute(batch)[1], parts)
        _, loss = self.compute(batch)
        (loss if parts == 1 else calls.divide(loss, parts)).backward()
        return loss

    def _read(self, batch: Any = None, before: Any = None) -> None:
        """Read the losses since the last time, and write a record."""
        if not self._pending:
            return
        values = [(loss.item(), size) for loss, size in self._pending]
        self._pending.clear()
        for value, size in values:
            if not math.isfinite(value):
                raise self._nonfinite(value, batch, before)
            self._sum += value * size
            self._count += size
        if batch is not None:
            rate = float(self.optimizer.param_groups[0]["lr"])
            self._write({"step": self.step + 1, "epoch": self.epoch + 1, "loss": values[-1][0], "lr": rate})

    def _nonfinite(self, value: float, batch: Any, before: Any) -> NonFiniteLossError:
        where = f"the loss is {value} in step {self.step + 1} (epoch {self.epoch + 1})"
        for name, tensor in self.model.named_parameters():
            if not bool(calls.all(calls.isfinite(tensor))):
                return NonFiniteLossError(
                    f"{where}: {name} is not finite since an earlier step: take a smaller learning rate, or clip_norm"
                )
        if not self.find_nonfinite:
            return NonFiniteLossError(f"{where}: find_nonfinite=True names the op that made it")
        for i, part in enumerate(batch if isinstance(batch, tuple | list) else [batch]):
            if (
                isinstance(part, Tensor)
                and part.dtype.kind == "float"
                and not bool(calls.all(calls.isfinite(part)))
            ):
                return NonFiniteLossError(f"{where}: element {i} of the batch is not finite")
        random.set_state(before)
        with watch_nonfinite() as watch:
            self.compute(batch)
        return NonFiniteLossError(
            f"{where}: {watch.found or 'repeated, no op made it: it is not reproducible'}"
        )

    def _schedule(self, record: dict[str, Any]) -> None:
        schedule = self.schedule
        if not isinstance(schedule, ReduceLROnPlateau):
            assert schedule is not None
            schedule.step()
            return
        value = record.get("val_loss", record.get("train_loss"))
        if value is None:
            raise ArgumentError("Trainer: ReduceLROnPlateau goes with schedule_each='epoch'")
        schedule.step(value)

    # -- validation ------------------------------------------------------------------------------------------

    def evaluate(self, loader: Iterable[Any]) -> dict[str, float]:
        """Loss and metrics over all samples of a loader, in evaluation mode: each batch counts by its size."""
        was = self.model.training
        self.model.eval()
        sums: dict[str, float] = dict.fromkeys(("loss", *self.metrics), 0.0)
        count = 0
        try:
            with no_grad():
                for given in loader:
                    batch = self._moved(given)
                    outputs, loss = self.compute(batch)
                    size = _size(batch)
                    sums["loss"] += float(loss) * size
                    for name, metric in self.metrics.items():
                        sums[name] += float(metric(outputs, batch[-1])) * size
                    count += size
        finally:
            self.model.train(was)
        if not count:
            raise ArgumentError("Trainer: the loader for evaluation gave no batch")
        return {name: total / count for name, total in sums.items()}

    # -- checkpoints -----------------------------------------------------------------------------------------

    def save(self, path: Any) -> None:
        """Save everything that :meth:`resume` needs, atomically."""
        self._read()
        state = {
            "epoch": self.epoch, "step": self.step, "batch": self.batch, "sum": self._sum, "count": self._count,
            "history": self.history, "accumulate": self.accumulate,
            "loader": self._loader.state_dict() if hasattr(self._loader, "state_dict") else None,
            "schedule": None if self.schedule is None else self.schedule.state_dict(),
            "precision": None if self.precision is None else self.precision.state_dict(),
            "callbacks": [c.state_dict() for c in self.callbacks],
        }  # fmt: skip
        averages = {} if self.ema is None else {f"ema.{k}": v for k, v in self.ema.state_dict().items()}
        save(path, model=self.model, optimizer=self.optimizer, tensors=averages, metadata={"trainer": state})

    def resume(self, path: Any, loader: Any = None) -> None:
        """Take over a checkpoint, whichever backend wrote it; CheckpointError if it is not one of such a run:
        another model, optimizer or data set. ``loader`` is what :meth:`fit` will be given.

        ``trainer.fit(loader, 10, resume="last.safetensors")`` calls it.
        """
        found = load(path)
        state = found["metadata"].get("trainer")
        if state is None:
            raise CheckpointError(f"{path}: not written by a Trainer: corelib.load reads its model")
        if state["accumulate"] != self.accumulate:
            raise CheckpointError(
                f"{path}: the run had accumulate={state['accumulate']}, this Trainer has {self.accumulate}"
            )
        for name in ("schedule", "precision"):
            if (state[name] is None) != (getattr(self, name) is None):
                raise CheckpointError(f"{path}: the run had {'no' if state[name] is None else 'a'} {name}, this Trainer has {'one' if state[name] is None else 'none'}")  # fmt: skip
        if len(state["callbacks"]) != len(self.callbacks):
            raise CheckpointError(
                f"{path}: the run had {len(state['callbacks'])} callbacks, this Trainer has {len(self.callbacks)}"
            )
        averages = {k[4:]: v for k, v in found["tensors"].items() if k.startswith("ema.")}
        if bool(averages) != (self.ema is not None):
            raise CheckpointError(f"{path}: averages of weights are in one of the run and this Trainer only")
        order = loader._checked(state["loader"]) if state["loader"] and hasattr(loader, "_checked") else None
        load(path, model=self.model, optimizer=self.optimizer, random=True)
        if self.ema is not None:
            self.ema.load_state_dict(averages)
        if self.schedule is not None:
            self.schedule.load_state_dict(state["schedule"])
        if self.precision is not None:
            self.precision.load_state_dict(state["precision"])
        for callback, its in zip(self.callbacks, state["callbacks"], strict=True):
            callback.load_state_dict(its)
        if order is not None:
            order()
        self.epoch, self.step, self.batch = state["epoch"], state["step"], state["batch"]
        self._sum, self._count, self.history = state["sum"], state["count"], state["history"]
        self._pending.clear()
        if self.log is not None:
            self.log.forget_after(self.step)

    # -- helpers ---------------------------------------------------------------------------------------------

    def _tell(self, when: str) -> None:
        for callback in self.callbacks:
            getattr(callback, when)(self)

    def _write(self, record: dict[str, Any]) -> None:
        self.record = record
        if self.log is not None:
            self.log.write(record)
        if self._events is not None:
            numbers = {k: float(v) for k, v in record.items() if k not in ("step", "epoch")}
            self._events.scalars(numbers, record["step"])

    def _moved(self, batch: Any) -> Any:
        """The batch where the model is."""
        device = next(iter(self.model.parameters())).device
        return _mapped(lambda x: x if x.device == device else calls.to(x, device), batch)


def _mapped(fn: Callable[[Tensor], Tensor], batch: Any) -> Any:
    if isinstance(batch, Tensor):
        return fn(batch)
    if isinstance(batch, dict):
        return {key: _mapped(fn, value) for key, value in batch.items()}
    if isinstance(batch, tuple | list):
        values = [_mapped(fn, value) for value in batch]
        return type(batch)(*values) if hasattr(batch, "_fields") else type(batch)(values)
    return batch


def _tensors(batch: Any) -> Iterator[Tensor]:
    if isinstance(batch, Tensor):
        yield batch
    elif isinstance(batch, dict | tuple | list):
        for value in batch.values() if isinstance(batch, dict) else batch:
            yield from _tensors(value)


def _size(batch: Any) -> int:
    """The number of samples: the length of the first tensor."""
    return next((x.shape[0] for x in _tensors(batch) if x.ndim), 1)
