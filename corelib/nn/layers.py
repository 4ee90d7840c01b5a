"""Layers: modules with parameters and an initialization, and modules around one function."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, overload

from ..errors import ArgumentError
from ..ops.compare import equal
from ..ops.creation import arange, full
from ..ops.elementwise import where
from ..ops.movement import reshape
from ..ops.nn import linear, rms_norm
from . import functional, init
from .module import Module, Parameter

if TYPE_CHECKING:
    from ..tensor import Tensor


def _parameter(shape: tuple[int, ...], device: Any, dtype: Any, value: float = 0.0) -> Parameter:
    return Parameter(full(shape, value, dtype=dtype or "float32", device=device))


# -- containers ----------------------------------------------------------------------------------------------


class Identity(Module):
    """The argument itself."""

    def forward(self, x: Tensor) -> Tensor:
        """x."""
        return x


class Sequential(Module):
    """Modules applied one after the other: ``Sequential(Linear(2, 8), Tanh(), Linear(8, 1))``.

    Example: ``nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))(x)`` for x of shape (2, 3) has shape
    (2, 1).
    """

    def __init__(self, *modules: Module) -> None:
        for i, module in enumerate(modules):
            if not isinstance(module, Module):
                raise ArgumentError(
                    f"Sequential: argument {i} must be a Module, got {module!r}: use nn.ReLU() and the like"
                )
            setattr(self, str(i), module)

    def forward(self, x: Any) -> Any:
        """The last module's result."""
        for module in self:
            x = module(x)
        return x

    def append(self, module: Module) -> Sequential:
        """Add a module at the end; returns this one."""
        setattr(self, str(len(self)), module)
        return self

    def __iter__(self) -> Iterator[Module]:
        return iter([m for m in vars(self).values() if isinstance(m, Module)])

    def __len__(self) -> int:
        return len(list(iter(self)))

    @overload
    def __getitem__(self, index: int) -> Module: ...
    @overload
    def __getitem__(self, index: slice) -> Sequential: ...
    def __getitem__(self, index: int | slice) -> Module:
        found = list(self)[index]
        return Sequential(*found) if isinstance(found, list) else found


class ModuleList(Module):
    """A list of modules. A plain list as an attribute of a module does the same."""

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        for module in modules:
            self.append(module)

    def append(self, module: Module) -> ModuleList:
        """Add a module at the end; returns this list."""
        setattr(self, str(len(self)), module)
        return self

    def __iter__(self) -> Iterator[Module]:
        return iter([m for m in vars(self).values() if isinstance(m, Module)])

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __getitem__(self, index: int) -> Module:
        return list(self)[index]


class Flatten(Module):
    """The axes from ``start_dim`` to ``end_dim`` made one; by default all but the first."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, x: Tensor) -> Tensor:
        """x with fewer axes."""
        first, last = self.start_dim % x.ndim if x.ndim else 0, self.end_dim % x.ndim if x.ndim else 0
        size = math.prod(x.shape[first : last + 1])
        return reshape(x, (*x.shape[:first], size, *x.shape[last + 1 :]))

    def extra_repr(self) -> str:
        """The axes."""
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


# -- layers with parameters ----------------------------------------------------------------------------------


class Linear(Module):
    """x @ weight.mT + bias, for x of shape (..., in_features). Both parameters are uniform in
    +-1/sqrt(in_features) at first.

    Example: ``nn.Linear(3, 4)(x)`` for x of shape (2, 3) has shape (2, 4).
    """

    bias: Parameter | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
        generator: Any = None,
    ) -> None:
        self.in_features, self.out_features = in_features, out_features
        self.weight = _parameter((out_features, in_features), device, dtype)
        self.bias = _parameter((out_features,), device, dtype) if bias else None
        self.reset_parameters(generator)

    def reset_parameters(self, generator: Any = None) -> None:
        """Draw the parameters anew."""
        bound = 1 / math.sqrt(self.in_features) if self.in_features else 0.0
        init.uniform_(self.weight, -bound, bound, generator=generator)
        if self.bias is not None:
            init.uniform_(self.bias, -bound, bound, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        """A tensor of shape (..., out_features)."""
        return linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        """The sizes."""
        return f"in_features={self.in_features}, out_features={self.out_features}"


class Embedding(Module):
    """A row of ``weight`` for each index; row ``padding_idx`` starts as zeros and is not learned."""

    def __init__(
        self, num_embeddings: int, embedding_dim: int, padding_idx: int | None = None, device: Any = None, dtype: Any = None,
        generator: Any = None,
    ) -> None:  # fmt: skip
        if padding_idx is not None and not -num_embeddings <= padding_idx < num_embeddings:
            raise ArgumentError(
                f"Embedding: padding_idx {padding_idx} is out of range for {num_embeddings} rows"
            )
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.padding_idx = None if padding_idx is None else padding_idx % num_embeddings
        self.weight = _parameter((num_embeddings, embedding_dim), device, dtype)
        self.reset_parameters(generator)

    def reset_parameters(self, generator: Any = None) -> None:
        """Draw the rows anew from the standard normal distribution."""
        init.normal_(self.weight, generator=generator)
        if self.padding_idx is not None:
            rows = reshape(arange(self.num_embeddings, device=self.weight._backend), (-1, 1))
            self.weight._rebind(where(equal(rows, self.padding_idx), 0, self.weight.detach()))

    def forward(self, indices: Tensor) -> Tensor:
        """A tensor of shape (..., embedding_dim)."""
        return functional.embedding(indices, self.weight, self.padding_idx)

    def extra_repr(self) -> str:
        """The sizes."""
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}{padding}"


class LayerNorm(Module):
    """(x - mean) / sqrt(var + eps) * weight + bias over the last axes, which have the sizes
    ``normalized_shape``.
    """

    weight: Parameter | None
    bias: Parameter | None

    def __init__(
        self, normalized_shape: int | tuple[int, ...], eps: float = 1e-5, elementwise_affine: bool = True, bias: bool = True,
        device: Any = None, dtype: Any = None,
    ) -> None:  # fmt: skip
        shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        self.normalized_shape, self.eps, self.elementwise_affine = shape, eps, elementwise_affine
        self.weight = _parameter(shape, device, dtype, 1.0) if elementwise_affine else None
        self.bias = _parameter(shape, device, dtype) if elementwise_affine and bias else None

    def forward(self, x: Tensor) -> Tensor:
        """A tensor of x's shape."""
        return functional.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        """Sizes and eps."""
        return f"{self.normalized_shape}, eps={self.eps}"


class RMSNorm(Module):
    """x / sqrt(mean(x**2) + eps) * weight over the last axes; ``eps`` is the dtype's machine epsilon unless
    given.
    """

    weight: Parameter | None

    def __init__(
        self, normalized_shape: int | tuple[int, ...], eps: float | None = None, elementwise_affine: bool = True,
        device: Any = None, dtype: Any = None,
    ) -> None:  # fmt: skip
        shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        self.normalized_shape, self.eps, self.elementwise_affine = shape, eps, elementwise_affine
        self.weight = _parameter(shape, device, dtype, 1.0) if elementwise_affine else None

    def forward(self, x: Tensor) -> Tensor:
        """A tensor of x's shape."""
        return rms_norm(
            x, self.weight, axis=functional.trailing("RMSNorm", x, self.normalized_shape), eps=self.eps
        )

    def extra_repr(self) -> str:
        """Sizes and eps."""
        return f"{self.normalized_shape}, eps={self.eps}"


class Dropout(Module):
    """In training, each element zeroed with probability ``p`` and the others divided by 1 - p; nothing in
    evaluation.
    """

    def __init__(self, p: float = 0.5, generator: Any = None) -> None:
        if not 0 <= p <= 1:
            raise ArgumentError(f"Dropout: p must be in [0, 1], got {p}")
        self.p, self.generator = p, generator

    def forward(self, x: Tensor) -> Tensor:
        """A tensor of x's shape."""
        return functional.dropout(x, self.p, self.training, self.generator)

    def extra_repr(self) -> str:
        """The probability."""
        return f"p={self.p}"
