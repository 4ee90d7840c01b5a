"""Muon: momentum, orthogonalised."""

from __future__ import annotations

import math
from typing import Any, ClassVar

from ..errors import ArgumentError, ShapeError
from ..op import calls
from ..ops.creation import zeros_like
from ..tensor import Tensor
from .optimizer import Cohort, Group, Optimizer

COEFFICIENTS = (3.4445, -4.775, 2.0315)  # K. Jordan, "Muon", https://kellerjordan.github.io/posts/muon


class Muon(Optimizer):
    """Muon (K. Jordan et al., 2024, https://kellerjordan.github.io/posts/muon), with the arguments and
    defaults of PyTorch's.

    For the matrices of hidden layers; biases, embeddings and heads go to another optimizer, such as AdamW.
    The step is lr s O, with O the momentum's average of gradients (with ``nesterov``, one gradient ahead)
    made nearly orthogonal by :func:`orthogonalized`, and s = sqrt(max(1, rows / columns)), or with
    ``adjust_lr_fn="match_rms_adamw"`` s = 0.2 sqrt(max(rows, columns)) (arXiv:2502.16982). ``weight_decay``
    is decoupled.

    The iteration runs in the parameter's dtype; PyTorch's runs in bfloat16, so that the two agree to 2 digits
    only.

    Example::

        hidden = [p for name, p in model.named_parameters() if p.ndim == 2 and "embedding" not in name]
        optimizer = optim.Muon(hidden, lr=0.02)
    """

    shared: ClassVar[dict[str, float]] = {}
    recorded = False  # the iteration multiplies matrices, whose bits in a program are others than op by op

    def __init__(
        self, params: Any, lr: float | Tensor = 1e-3, weight_decay: float = 0.1, momentum: float = 0.95, nesterov: bool = True,
        ns_coefficients: tuple[float, float, float] = COEFFICIENTS, eps: float = 1e-7, ns_steps: int = 5,
        adjust_lr_fn: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(
            params,
            {
                "lr": lr, "weight_decay": weight_decay, "momentum": momentum, "nesterov": nesterov,
                "ns_coefficients": tuple(ns_coefficients), "eps": eps, "ns_steps": ns_steps, "adjust_lr_fn": adjust_lr_fn,
            },
        )  # fmt: skip

    def _check(self, options: dict[str, Any]) -> None:
        super()._check(options)
        if options["adjust_lr_fn"] not in (None, "original", "match_rms_adamw"):
            raise ArgumentError(
                f"Muon: adjust_lr_fn must be None, 'original' or 'match_rms_adamw', got {options['adjust_lr_fn']!r}"
            )
        if len(options["ns_coefficients"]) != 3:
            raise ArgumentError(f"Muon: ns_coefficients are three, got {options['ns_coefficients']}")

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add matrices with options of their own; options that are left out take the defaults."""
        super().add_param_group(param_group)
        for i, p in enumerate(self.param_groups[-1]["params"]):
            if p.ndim != 2:
                self.param_groups.pop()
                self._cohorts.pop()
                raise ShapeError(
                    f"Muon: parameter {i} has shape {p.shape}, it needs matrices: give the others to another optimizer, such as AdamW"
                )

    def _start(self, group: dict[str, Any], p: Tensor) -> dict[str, Tensor]:
        return {"momentum_buffer": zeros_like(p)}

    def _update(self, group: Group, cohort: Cohort) -> None:
        (lr,), momentum = cohort.scalars(group["lr"]), group["momentum"]
        shrink = calls.subtract(1, calls.multiply(lr, group["weight_decay"]))
        for p in cohort.params:
            g: Any = p.grad
            buffer = self.state[p]["momentum_buffer"]
            buffer._rebind(calls.ema_update(buffer, g, decay=momentum))
            direction = calls.ema_update(g, buffer, decay=1 - momentum) if group["nesterov"] else buffer
            o = orthogonalized(direction, group["ns_coefficients"], group["ns_steps"], group["eps"])
            rows, columns = p.shape
            if group["adjust_lr_fn"] == "match_rms_adamw":
                scale = 0.2 * math.sqrt(max(rows, columns))
            else:
                scale = math.sqrt(max(1.0, rows / max(columns, 1)))
            step = calls.multiply(o, calls.multiply(lr, scale))
            p._rebind(calls.subtract(calls.multiply(p, shrink), step))


def orthogonalized(
    g: Tensor,
    coefficients: tuple[float, float, float] = COEFFICIENTS,
    steps: int = 5,
    eps: float = 1e-7,
) -> Tensor:
    """U S V^T for g = U diag(s) V^T, with every singular value in S near 1: a matrix close to the nearest
    orthogonal one.

    The iteration of Newton and Schulz with a quintic polynomial: from x = g / max(|g|, eps), ``steps`` times
    ``a x + (b x x^T + c (x x^T)^2) x``. The coefficients of Muon do not converge: they take singular values
    from 0.01 up to between 0.7 and 1.2 in five steps.

    Example: ``optim.muon.orthogonalized(corelib.asarray([[3.0, 0.0], [0.0, 4.0]]))`` is roughly the identity.
    """
    a, b, c = coefficients
    tall = g.shape[0] > g.shape[1]
    x = calls.matrix_transpose(g) if tall else g
    norm = calls.maximum(calls.sqrt(calls.sum(calls.square(x))), eps)
    x = calls.divide(x, norm)
    for _ in range(steps):
        gram = calls.matmul(x, calls.matrix_transpose(x))
        polynomial = calls.add(calls.multiply(gram, b), calls.multiply(calls.matmul(gram, gram), c))
        x = calls.add(calls.multiply(x, a), calls.matmul(polynomial, x))
    return calls.matrix_transpose(x) if tall else x
