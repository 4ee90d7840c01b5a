"""Schedules of the learning rate, under PyTorch's names.

A schedule is a function of the number of its steps, in closed form: after step t the learning rate of each
group is ``rate(base, t)``, with base the learning rate that the group had when its first schedule was made.
So the whole state is t and the base rates, and whatever else changed a learning rate meanwhile is overruled. Only
:class:`ReduceLROnPlateau` goes from the rate there is. The tensor that holds the learning rate stays the same
and gets a new value: a compiled step is not compiled again.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ..errors import ArgumentError, CheckpointError
from .optimizer import Optimizer

__all__ = [
    "ConstantLR", "CosineAnnealingLR", "ExponentialLR", "LRScheduler", "LambdaLR", "LinearLR", "MultiStepLR", "OneCycleLR",
    "ReduceLROnPlateau", "SequentialLR", "StepLR",
]  # fmt: skip


class LRScheduler:
    """Base of the schedules. ``last_epoch`` counts the steps; ``base_lrs`` are the rates at the beginning.

    Subclasses define ``rate``. ``step()`` is called after the optimizer's, once in an epoch or once for each
    batch, as the numbers are meant.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        if not isinstance(optimizer, Optimizer):
            raise ArgumentError(f"{type(self).__name__} needs an Optimizer, got {type(optimizer).__name__}")
        self.optimizer = optimizer
        for group in optimizer.param_groups:
            if group.initial_lr is None:
                group.initial_lr = float(group["lr"])
        self.base_lrs = [float(group.initial_lr) for group in optimizer.param_groups]  # type: ignore[arg-type]
        self.last_epoch = 0
        self._set(0)

    def rate(self, base: float, t: int, group: int) -> float:
        """The learning rate of a group after step t."""
        raise NotImplementedError

    def step(self) -> None:
        """Go on to the next learning rate."""
        self.last_epoch += 1
        self._set(self.last_epoch)

    def _set(self, t: int) -> None:
        groups = zip(self.optimizer.param_groups, self.base_lrs, strict=True)
        for i, (group, base) in enumerate(groups):
            group["lr"] = self.rate(base, t, i)

    def get_last_lr(self) -> list[float]:
        """The learning rates of the groups, as they are now."""
        return [float(group["lr"]) for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """All that changes, as numbers and lists, which JSON can hold."""
        return {"last_epoch": self.last_epoch, "base_lrs": list(self.base_lrs)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a :meth:`state_dict`; CheckpointError if it is not one of such a schedule."""
        own = self.state_dict()
        if set(state_dict) != set(own):
            raise CheckpointError(
                f"load_state_dict: {type(self).__name__} needs {', '.join(own)}, the state has {', '.join(state_dict)}"
            )
        rates = state_dict.get("base_lrs")
        if rates is not None and len(rates) != len(self.optimizer.param_groups):
            raise CheckpointError(
                f"load_state_dict: {type(self).__name__} has {len(self.optimizer.param_groups)} groups, the state has {len(rates)}"
            )
        for key, value in state_dict.items():
            setattr(self, key, list(value) if isinstance(value, list | tuple) else value)
        self._set(self.last_epoch)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(step {self.last_epoch}, lr={self.get_last_lr()})"


class LambdaLR(LRScheduler):
    """The base rate times ``lr_lambda(t)``: a function, or a list of one for each group.

    Example: ``optim.lr_scheduler.LambdaLR(optimizer, lambda t: 0.95**t)``.
    """

    def __init__(
        self, optimizer: Optimizer, lr_lambda: Callable[[int], float] | Sequence[Callable[[int], float]]
    ) -> None:
        count = len(optimizer.param_groups)
        self.lr_lambdas = [lr_lambda] * count if callable(lr_lambda) else list(lr_lambda)
        if len(self.lr_lambdas) != count:
            raise ArgumentError(
                f"LambdaLR: {len(self.lr_lambdas)} functions for {count} groups of parameters"
            )
        super().__init__(optimizer)

    def rate(self, base: float, t: int, group: int) -> float:
        """The base rate times the function's value."""
        return base * self.lr_lambdas[group](t)


class StepLR(LRScheduler):
    """``gamma`` times the rate every ``step_size`` steps.

    Example: ``optim.lr_scheduler.StepLR(optimizer, step_size=30, gamma=0.1)``.
    """

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1) -> None:
        if step_size < 1:
            raise ArgumentError(f"StepLR: step_size must be at least 1, got {step_size}")
        self.step_size, self.gamma = step_size, gamma
        super().__init__(optimizer)

    def rate(self, base: float, t: int, group: int) -> float:
        """``base gamma**(t // step_size)``."""
        return base * self.gamma ** (t // self.step_size)


class MultiStepLR(LRScheduler):
    """``gamma`` times the rate at each of the ``milestones``.

    Example: ``optim.lr_scheduler.MultiStepLR(optimizer, [30, 80])``.
    """

    def __init__(self, optimizer: Optimizer, milestones: Iterable[int], gamma: float = 0.1) -> None:
        self.milestones, self.gamma = sorted(milestones), gamma
        super().__init__(optimizer)

    def rate(self, base: float, t: int, group: int) -> float:
        """``base gamma**n`` after n milestones."""
        return base * self.gamma ** bisect.bisect_right(self.milestones, t)


class ExponentialLR(LRScheduler):
    """``gamma`` times the rate at every step.

    Example: ``optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.99)``.
    """

    def __init__(self, optimizer: Optimizer, gamma: float) -> None:
        self.gamma = gamma
        super().__init__(optimizer)

    def rate(self, base: float, t: int, group: int) -> float:
        """``base gamma**t``."""
        return base * self.gamma**t


class LinearLR(LRScheduler):
    """From ``start_factor`` to ``end_factor`` times the rate in ``total_iters`` equal steps: a warm-up.

    Example: ``optim.lr_scheduler.LinearLR(optimizer, start_factor=0.01, total_iters=100)``.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = 1 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
    ) -> None:
        if not 0 < start_factor <= 1 or not 0 <= end_factor <= 1:
            raise ArgumentError(
                f"LinearLR: start_factor must be in (0, 1] and end_factor in [0, 1], got {start_factor} and {end_factor}"
            )
        self.start_factor, self.end_factor, self.total_iters = start_factor, end_factor, total_iters
        super().__init__(optimizer)

    def rate(self, base: float, t: int, group: int) -> float:
        """The line between the two factors, and the last one from there on."""
        part = min(t, self.total_iters) / self.total_iters if self.total_iters else 1.0
        return base * (self.start_factor + (self.end_factor - self.start_factor) * part)


class ConstantLR(LinearLR):
    """``factor`` times the rate for ``total_iters`` steps, then the rate itself.

    Example: ``optim.lr_scheduler.ConstantLR(optimizer, factor=0.5, total_iters=4)``.
    """

    def __init__(self, optimizer: Optimizer, factor: float = 1 / 3, total_iters: int = 5) -> None:
        super().__init__(optimizer, factor, 1.0, total_iters)

    def rate(self, base: float, t: int, group: int) -> float:
        """One factor, then 1."""
        return base * (self.start_factor if t < self.total_iters else 1.0)


class CosineAnnealingLR(LRScheduler):
    """Half a period of a cosine, in ``T_max`` steps from the rate down to ``eta_min`` (Loshchilov and Hutter,
    arXiv:1608.03983, without restarts); going on, up again.

    Example: ``optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=90)``.
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0) -> None:
        if T_max < 1:
            raise ArgumentError(f"CosineAnnealingLR: T_max must be at least 1, got {T_max}")
        self.T_max, self.eta_min = T_max, eta_min
        super().__init__(optimizer)

    def rate(self, base: float, t: int, group: int) -> float:
        """``eta_min + (base - eta_min) (1 + cos(pi t / T_max)) / 2``."""
        return self.eta_min + (base - self.eta_min) * (1 + math.cos(math.pi * t / self.T_max)) / 2


class OneCycleLR(LRScheduler):
    """Up from ``max_lr / div_factor`` to ``max_lr`` and down to ``max_lr / (div_factor final_div_factor)``, in
    ``total_steps`` (or ``epochs * steps_per_epoch``) steps (Smith and Topin, arXiv:1708.07120).

    ``pct_start`` is the part of the steps that goes up. ``anneal_strategy``: "cos" or "linear". With
    ``three_phase``, down as far as up first. ``cycle_momentum`` moves the momentum (or beta1) the other way,
    between ``base_momentum`` and ``max_momentum``; it is a Python number, part of a compiled program: pass
    ``cycle_momentum=False`` for a step that must not be compiled again.

    Example: ``optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=1000)``, with one step for each batch.
    """

    def __init__(
        self, optimizer: Optimizer, max_lr: float | Sequence[float], total_steps: int | None = None, epochs: int | None = None,
        steps_per_epoch: int | None = None, pct_start: float = 0.3, anneal_strategy: str = "cos", cycle_momentum: bool = True,
        base_momentum: float = 0.85, max_momentum: float = 0.95, div_factor: float = 25.0, final_div_factor: float = 1e4,
        three_phase: bool = False,
    ) -> None:  # fmt: skip
        if total_steps is None:
            if epochs is None or steps_per_epoch is None:
                raise ArgumentError("OneCycleLR needs total_steps, or epochs and steps_per_epoch")
            total_steps = epochs * steps_per_epoch
        if total_steps < 1 or not 0 <= pct_start <= 1:
            raise ArgumentError(
                f"OneCycleLR: total_steps must be positive and pct_start in [0, 1], got {total_steps} and {pct_start}"
            )
        if anneal_strategy not in ("cos", "linear"):
            raise ArgumentError(
                f"OneCycleLR: anneal_strategy must be 'cos' or 'linear', got {anneal_strategy!r}"
            )
        groups = optimizer.param_groups
        rates = list(max_lr) if isinstance(max_lr, Sequence) else [max_lr] * len(groups)
        if len(rates) != len(groups):
            raise ArgumentError(f"OneCycleLR: {len(rates)} max_lr for {len(groups)} groups of parameters")
        if cycle_momentum and not {"momentum", "betas"} & set(optimizer.defaults):
            raise ArgumentError(
                f"OneCycleLR: {type(optimizer).__name__} has no momentum: pass cycle_momentum=False"
            )
        self.total_steps, self.cosine, self.cycle_momentum = (
            total_steps,
            anneal_strategy == "cos",
            cycle_momentum,
        )
        self.max_lrs, self.momenta = rates, (max_momentum, base_momentum)
        self.div_factor, self.final_div_factor = div_factor, final_div_factor
        up = pct_start * total_steps - 1
        low, top = (1 / div_factor, 1.0)
        last = 1 / (div_factor * final_div_factor)
        # where each phase ends, the factors of max_lr between which it goes, and whether momentum falls in it
        self.phases = (
            [(up, low, top, True), (2 * up, top, low, False), (total_steps - 1, low, last, None)]
            if three_phase
            else [(up, low, top, True), (total_steps - 1, top, last, False)]
        )
        super().__init__(optimizer)

    def _phase(self, t: int) -> tuple[float, tuple[float, float, float, bool | None]]:
        start = 0.0
        for phase in self.phases[:-1]:
            if t <= phase[0]:
                break
            start = phase[0]
        else:
            phase = self.phases[-1]
        return min(1.0, (t - start) / (phase[0] - start)) if phase[0] != start else 1.0, phase

    def _between(self, a: float, b: float, part: float) -> float:
        return b + (a - b) * (1 + math.cos(math.pi * part)) / 2 if self.cosine else a + (b - a) * part

    def rate(self, base: float, t: int, group: int) -> float:
        """The rate of the phase in which step t is."""
        part, (_, a, b, _) = self._phase(t)
        return self.max_lrs[group] * self._between(a, b, part)

    def step(self) -> None:
        """Go on to the next learning rate and momentum; ArgumentError after the last one."""
        if self.last_epoch >= self.total_steps:
            raise ArgumentError(f"OneCycleLR: all {self.total_steps} steps are done: the cycle is over")
        super().step()

    def _set(self, t: int) -> None:
        super()._set(t)
        if not self.cycle_momentum:
            return
        part, (_, _, _, falls) = self._phase(t)
        high, low = self.momenta
        momentum = high if falls is None else self._between(*((high, low) if falls else (low, high)), part)
        for group in self.optimizer.param_groups:
            if "betas" in group:
                group["betas"] = (momentum, *group["betas"][1:])
            else:
                group["momentum"] = momentum


class SequentialLR(LRScheduler):
    """One schedule after the other: the next one begins, with its step 0, at each of the ``milestones``.

    Example::

        warm_up = optim.lr_scheduler.LinearLR(optimizer, 0.01, total_iters=10)
        then = optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=90)
        schedule = optim.lr_scheduler.SequentialLR(optimizer, [warm_up, then], milestones=[10])
    """

    def __init__(
        self, optimizer: Optimizer, schedulers: Sequence[LRScheduler], milestones: Sequence[int]
    ) -> None:
        if len(milestones) != len(schedulers) - 1 or list(milestones) != sorted(milestones):
            raise ArgumentError(
                f"SequentialLR needs rising milestones, one fewer than schedulers, got {list(milestones)} for {len(schedulers)}"
            )
        for i, one in enumerate(schedulers):
            if not isinstance(one, LRScheduler) or one.optimizer is not optimizer:
                raise ArgumentError(
                    f"SequentialLR: schedule {i} is {type(one).__name__}, which must be a schedule of this optimizer"
                )
        self.schedulers, self.milestones = list(schedulers), list(milestones)
        super().__init__(optimizer)

    def _set(self, t: int) -> None:
        now = bisect.bisect_right(self.milestones, t)
        one = self.schedulers[now]
        one.last_epoch = t - (self.milestones[now - 1] if now else 0)
        one._set(one.last_epoch)

    def state_dict(self) -> dict[str, Any]:
        """As :meth:`LRScheduler.state_dict`, with that of every schedule."""
        return {**super().state_dict(), "schedulers": [one.state_dict() for one in self.schedulers]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a :meth:`state_dict`."""
        states = state_dict.get("schedulers", ())
        if len(states) != len(self.schedulers):
            raise CheckpointError(
                f"load_state_dict: SequentialLR has {len(self.schedulers)} schedules, the state has {len(states)}"
            )
        for one, state in zip(self.schedulers, states, strict=True):
            one.load_state_dict(state)
        super().load_state_dict({**state_dict, "schedulers": self.schedulers})


class ReduceLROnPlateau(LRScheduler):
    """``factor`` times the rate when a metric has not improved for more than ``patience`` steps.

    ``mode``: "min" (smaller is better) or "max". An improvement is one by more than ``threshold``, relative
    ("rel") or absolute ("abs") as ``threshold_mode`` says. After a reduction come ``cooldown`` steps in which
    nothing counts. The rate does not go below ``min_lr``, and a change of less than ``eps`` is not made.

    Example::

        schedule = optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=3)
        schedule.step(loss)  # after every epoch
    """

    def __init__(
        self, optimizer: Optimizer, mode: str = "min", factor: float = 0.1, patience: int = 10, threshold: float = 1e-4,
        threshold_mode: str = "rel", cooldown: int = 0, min_lr: float = 0.0, eps: float = 1e-8,
    ) -> None:  # fmt: skip
        if not factor < 1:
            raise ArgumentError(f"ReduceLROnPlateau: factor must be below 1, got {factor}")
        if mode not in ("min", "max") or threshold_mode not in ("rel", "abs"):
            raise ArgumentError(
                f"ReduceLROnPlateau: mode must be 'min' or 'max', threshold_mode 'rel' or 'abs', got {mode!r} and {threshold_mode!r}"
            )
        self.mode, self.factor, self.patience = mode, factor, patience
        self.threshold, self.relative = threshold, threshold_mode == "rel"
        self.cooldown, self.min_lr, self.eps = cooldown, min_lr, eps
        self.best = math.inf if mode == "min" else -math.inf
        self.num_bad_epochs = self.cooldown_counter = 0
        super().__init__(optimizer)

    def _set(self, t: int) -> None:
        """Nothing: the rate goes on from what it is."""

    def step(self, metrics: Any = None) -> None:
        """Take in one value of the metric, a number or a 0-d tensor."""
        if metrics is None:
            raise ArgumentError("ReduceLROnPlateau.step needs the metric, such as the validation loss")
        value = float(metrics)
        self.last_epoch += 1
        if self._better(value):
            self.best, self.num_bad_epochs = value, 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0
            for group in self.optimizer.param_groups:
                old = float(group["lr"])
                new = max(old * self.factor, self.min_lr)
                if old - new > self.eps:
                    group["lr"] = new

    def _better(self, value: float) -> bool:
        sign = 1 if self.mode == "min" else -1
        if not self.relative or math.isinf(self.best):
            margin = 0.0 if math.isinf(self.best) else self.threshold
            return sign * value < sign * self.best - margin
        return value < self.best * (1 - self.threshold) if sign == 1 else value > self.best * (1 + self.threshold)  # fmt: skip

    def state_dict(self) -> dict[str, Any]:
        """The counters and the best value; the learning rates are in the optimizer's state."""
        kept = ("best", "num_bad_epochs", "cooldown_counter")
        return {**super().state_dict(), **{name: getattr(self, name) for name in kept}}
