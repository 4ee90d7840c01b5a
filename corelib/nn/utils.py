"""Clipping of gradients, modules as functions of their parameters, and parameters that are computed from others, under
PyTorch's names.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..autograd import no_grad
from ..errors import ArgumentError, GradientError, ShapeError, nearest
from ..op import calls
from ..tensor import Tensor, wrap
from ..tree import map_tensors
from .module import Module
from .parametrize import register_parametrization, remove_parametrizations, weight_norm

__all__ = [
    "clip_grad_norm_", "clip_grad_value_", "functional_call", "register_parametrization", "remove_parametrizations", "weight_norm",
]  # fmt: skip


def _with_gradients(parameters: Tensor | Iterable[Tensor]) -> list[Tensor]:
    return [p for p in ([parameters] if isinstance(parameters, Tensor) else parameters) if p.grad is not None]


def _grad(p: Tensor) -> Tensor:
    assert p.grad is not None
    return p.grad


@no_grad()
def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
) -> Tensor:
    """Scale the gradients of ``parameters`` so that their norm, taken together, is at most ``max_norm``;
    returns the norm before.

    ``norm_type`` is the p of the p-norm, inf for the largest magnitude. No value is read unless
    ``error_if_nonfinite``, which raises GradientError for a norm that is infinite or NaN. Without any
    gradient the norm is 0.
    """
    if not norm_type > 0:
        raise ArgumentError(f"clip_grad_norm_: norm_type must be positive, got {norm_type}")
    params = _with_gradients(parameters)
    if not params:
        return calls.full((), 0.0, dtype="float32")
    device, dtype = params[0]._backend, params[0].dtype
    total: Any = None
    for p in params:
        part = calls.astype(calls.to(_power(_grad(p), norm_type), device), dtype)
        total = (
            part if total is None else (calls.maximum if norm_type == math.inf else calls.add)(total, part)
        )
    if norm_type == 2:
        total = calls.sqrt(total)
    elif norm_type not in (1, math.inf):
        total = calls.pow(total, 1 / norm_type)
    if error_if_nonfinite and not math.isfinite(total.item()):
        raise GradientError(f"clip_grad_norm_: the norm of the gradients is {total.item()}")
    factor = calls.minimum(calls.divide(max_norm, calls.add(total, 1e-6)), 1.0)
    for p in params:
        p.grad = calls.multiply(_grad(p), calls.astype(calls.to(factor, p._backend), p.dtype))
    return total


def _power(g: Tensor, norm_type: float) -> Tensor:
    """What a gradient adds to the sum under the root (or its largest magnitude)."""
    if norm_type == 2:
        return calls.sum(calls.multiply(g, g))
    magnitude = calls.abs(g)
    if norm_type == math.inf:
        return calls.max(magnitude) if g.size else calls.full((), 0, dtype=g.dtype, device=g._backend)
    return calls.sum(magnitude if norm_type == 1 else calls.pow(magnitude, norm_type))


@no_grad()
def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float) -> None:
    """Clip each element of the gradients to [-clip_value, clip_value]."""
    for p in _with_gradients(parameters):
        p.grad = calls.maximum(calls.minimum(_grad(p), float(clip_value)), -float(clip_value))


def functional_call(
    module: Module,
    parameters: Mapping[str, Tensor],
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
) -> Any:
    """``module(*args, **kwargs)`` with other tensors in place of the parameters and buffers named in ``parameters``, as
    by ``named_parameters`` and ``named_buffers``.

    What makes a module a function of its parameters, for ``grad``, ``vmap`` and ``jvp``. Afterwards the module has its
    own values again, buffers that the call changed as well. One thread at a time. Raises ArgumentError for a name
    that is not there, ShapeError for a tensor of another shape or dtype.

    Example: ``nn.utils.functional_call(model, dict(model.named_parameters()), (x,))`` is ``model(x)``.
    """
    named: dict[str, Tensor] = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    before = [(t, t._data, t._backend, t._node) for t in named.values()]
    for name, value in parameters.items():
        own = named.get(name)
        if own is None:
            raise ArgumentError(
                f"functional_call: {type(module).__name__} has no {name!r}{nearest(name, named)}"
            )
        if value.shape != own.shape or value.dtype is not own.dtype:
            raise ShapeError(
                f"functional_call: {name} must be {own.dtype.name}{list(own.shape)}, got {value.dtype.name}{list(value.shape)}"
            )
    try:
        for name, value in parameters.items():
            own = named[name]
            own._data, own._backend, own._node = value._data, value._backend, value._node
        result = module(*args, **(kwargs or {}))
        return map_tensors(lambda t: wrap(t._data, t._backend, t._node), result)
    finally:
        for t, data, backend, node in before:
            t._data, t._backend, t._node = data, backend, node
