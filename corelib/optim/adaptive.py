"""Optimizers that divide by the size of past gradients and keep no bias correction: RMSprop and Adagrad."""

from __future__ import annotations

from typing import Any, ClassVar

from ..errors import ArgumentError
from ..op import calls
from ..ops.creation import full_like, zeros_like
from ..ops.updates import adagrad_update, rmsprop_update
from ..tensor import Tensor
from .optimizer import Cohort, Group, Optimizer


class RMSprop(Optimizer):
    """RMSprop (Hinton, Coursera lecture 6e, 2012), with PyTorch's arguments and defaults.

    A step is lr g / (sqrt(v) + eps), with v = alpha v + (1 - alpha) g**2; with ``momentum`` it is that of a
    buffer to which these steps are added. ``centered`` takes the square of the mean gradient off v (Graves,
    arXiv:1308.0850). ``weight_decay`` p is added to the gradient. ``maximize`` ascends.

    Example: ``optim.RMSprop(model.parameters(), lr=1e-3, momentum=0.9)``.
    """

    recorded = True
    shared: ClassVar[dict[str, float]] = {}

    def __init__(
        self, params: Any, lr: float | Tensor = 1e-2, alpha: float = 0.99, eps: float = 1e-8, weight_decay: float = 0,
        momentum: float = 0, centered: bool = False, *, maximize: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(
            params,
            {
                "lr": lr, "alpha": alpha, "eps": eps, "weight_decay": weight_decay, "momentum": momentum, "centered": centered,
                "maximize": maximize,
            },
        )  # fmt: skip

    def _check(self, options: dict[str, Any]) -> None:
        super()._check(options)
        if not 0 <= options["alpha"] <= 1:
            raise ArgumentError(f"RMSprop: alpha must be in [0, 1], got {options['alpha']}")

    def _start(self, group: dict[str, Any], p: Tensor) -> dict[str, Tensor]:
        state = {"square_avg": zeros_like(p)}
        if group["momentum"]:
            state["momentum_buffer"] = zeros_like(p)
        if group["centered"]:
            state["grad_avg"] = zeros_like(p)
        return state

    def _update(self, group: Group, cohort: Cohort) -> None:
        scalars = cohort.scalars(group["lr"])
        options = {k: group[k] for k in ("alpha", "eps", "momentum", "weight_decay", "maximize")}
        for p in cohort.params:
            self._apply(
                rmsprop_update, p, ("square_avg",), scalars, ("momentum_buffer", "grad_avg"), **options
            )


class Adagrad(Optimizer):
    """Adagrad (Duchi et al., JMLR 12, 2011), with PyTorch's arguments and defaults.

    A step is rate g / (sqrt(s) + eps), with s the sum of all g**2, which starts at
    ``initial_accumulator_value``, and rate = lr / (1 + (step - 1) ``lr_decay``). ``weight_decay`` p is added
    to the gradient. ``maximize`` ascends.

    Example: ``optim.Adagrad(model.parameters(), lr=0.1)``.
    """

    recorded = True

    def __init__(
        self, params: Any, lr: float | Tensor = 1e-2, lr_decay: float = 0, weight_decay: float = 0,
        initial_accumulator_value: float = 0, eps: float = 1e-10, *, maximize: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(
            params,
            {
                "lr": lr, "lr_decay": lr_decay, "eps": eps, "weight_decay": weight_decay,
                "initial_accumulator_value": initial_accumulator_value, "maximize": maximize,
            },
        )  # fmt: skip

    def _check(self, options: dict[str, Any]) -> None:
        super()._check(options)
        if not options["initial_accumulator_value"] >= 0:
            raise ArgumentError(
                f"Adagrad: initial_accumulator_value must not be negative, got {options['initial_accumulator_value']}"
            )

    def _start(self, group: dict[str, Any], p: Tensor) -> dict[str, Tensor]:
        return {"sum": full_like(p, float(group["initial_accumulator_value"]))}

    def _update(self, group: Group, cohort: Cohort) -> None:
        step = cohort.count()
        rate = calls.to(group["lr"], step._backend)
        if group["lr_decay"]:
            rate = calls.divide(
                rate, calls.add(calls.multiply(calls.subtract(step, 1), group["lr_decay"]), 1)
            )
        scalars = cohort.scalars(rate)
        options = {k: group[k] for k in ("eps", "weight_decay", "maximize")}
        for p in cohort.params:
            self._apply(adagrad_update, p, ("sum",), scalars, **options)
