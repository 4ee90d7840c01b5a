"""Stochastic gradient descent, with momentum."""

from __future__ import annotations

from typing import Any, ClassVar

from ..errors import ArgumentError
from ..ops.creation import zeros_like
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

    recorded = True
    shared: ClassVar[dict[str, float]] = {}

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
        if options["nesterov"] and (options["momentum"] <= 0 or options["dampening"] != 0):
            raise ArgumentError("SGD: nesterov=True needs a momentum and no dampening")

    def _start(self, group: dict[str, Any], p: Tensor) -> dict[str, Tensor]:
        return {"momentum_buffer": zeros_like(p)} if group["momentum"] else {}

    def _update(self, group: Group, cohort: Cohort) -> None:
        scalars = cohort.scalars(group["lr"])
        momentum = group["momentum"]
        # the first gradient enters the zero buffer as it is
        dampening = group["dampening"] if cohort.begun else 0.0
        cohort.begun = True
        common = {"weight_decay": group["weight_decay"], "maximize": group["maximize"]}
        for p in cohort.params:
            if not momentum:
                self._apply(sgd_update, p, (), scalars, **common)
            else:
                self._apply(
                    momentum_update, p, ("momentum_buffer",), scalars, momentum=momentum, dampening=dampening,
                    nesterov=group["nesterov"], **common,
                )  # fmt: skip
