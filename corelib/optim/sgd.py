"""Stochastic gradient descent, with momentum."""

from __future__ import annotations

from typing import Any

from ..errors import ArgumentError
from ..op import calls
from ..ops.creation import zeros_like
from ..ops.subscript import sole
from ..ops.updates import momentum_update, sgd_update
from ..tensor import Tensor
from .optimizer import Cohort, Group, Optimizer


class SGD(Optimizer):
    """p - lr (g + weight_decay p), with optional momentum (arguments, defaults and conventions are
    PyTorch's).

    With ``momentum``, the step is along a buffer b = momentum b + (1 - dampening) g, or with ``nesterov``
    along g + momentum b; the first gradient enters b undampened. ``maximize`` ascends.

    Example: ``optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True)``.
    """

    counts_steps = False

    def __init__(
        self, params: Any, lr: float | Tensor = 1e-3, momentum: float = 0, dampening: float = 0, weight_decay: float = 0,
        nesterov: bool = False, *, maximize: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(
            params,
            {
                "lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay, "nesterov": nesterov,
                "maximize": maximize,
            },
        )  # fmt: skip

    def _check(self, options: dict[str, Any]) -> None:
        super()._check(options)
        if not options["momentum"] >= 0:
            raise ArgumentError(f"SGD: momentum must not be negative, got {options['momentum']}")
        if options["nesterov"] and (options["momentum"] <= 0 or options["dampening"] != 0):
            raise ArgumentError("SGD: nesterov=True needs a momentum and no dampening")

    def _start(self, group: dict[str, Any], p: Tensor) -> dict[str, Tensor]:
        return {"momentum_buffer": zeros_like(p)} if group["momentum"] else {}

    def _update(self, group: Group, cohort: Cohort) -> None:
        lr = calls.astype(calls.to(group["lr"], cohort.params[0]._backend), cohort.params[0].dtype)
        dampening = (
            group["dampening"] if cohort.begun else 0.0
        )  # the first gradient enters the zero buffer as it is
        cohort.begun = True
        maximize, weight_decay, momentum = group["maximize"], group["weight_decay"], group["momentum"]
        for p in cohort.params:
            if not momentum:
                g = _gradient(p, maximize)
                p._rebind(sgd_update(p, g, lr, weight_decay=weight_decay, overwrite=sole(p, g)))
                continue
            g, buffer = _gradient(p, maximize), self.state[p]["momentum_buffer"]
            new, changed = momentum_update(
                p, g, buffer, lr, momentum=momentum, dampening=dampening, nesterov=group["nesterov"],
                weight_decay=weight_decay, overwrite=sole(p, g) and sole(buffer, p, g),
            )  # fmt: skip
            p._rebind(new)
            buffer._rebind(changed)


def _gradient(p: Tensor, maximize: bool) -> Tensor:
    g: Any = p.grad
    return calls.negative(g) if maximize else g
