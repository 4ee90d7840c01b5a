"""Parameters that are computed from others: ``register_parametrization`` puts a module in front of a parameter, and
``weight_norm`` is one of these, under PyTorch's names of state.

The class of the module becomes a subclass of it in which the parameter's name is a property; the module's contents are
its attributes, as always, with ``parametrizations`` among them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from ..autograd import no_grad
from ..errors import ArgumentError, ShapeError, nearest
from ..ops.elementwise import divide, multiply, sqrt
from ..ops.reduce import sum
from ..params import checked_axis
from .containers import ModuleDict
from .module import Module, Parameter

if TYPE_CHECKING:
    from ..tensor import Tensor

M = TypeVar("M", bound=Module)


class ParametrizationList(Module):
    """The parametrizations of one parameter, applied one after the other to what is learned instead of it: ``original``, or
    ``original0``, ``original1`` and so on if the first one's ``right_inverse`` gives several.
    """

    def __init__(self, original: Parameter, parametrization: Module) -> None:
        first: Any = original.detach()
        if hasattr(parametrization, "right_inverse"):
            with no_grad():
                first = parametrization.right_inverse(first)
        parts = first if isinstance(first, tuple) else (first,)
        names = [f"original{i}" for i in range(len(parts))] if isinstance(first, tuple) else ["original"]
        self.originals = tuple(names)
        for name, part in zip(names, parts, strict=True):
            setattr(self, name, Parameter(part, original.requires_grad))
        setattr(self, "0", parametrization)

    def append(self, parametrization: Module) -> None:
        """Apply one more, behind the others."""
        setattr(self, str(len(list(self.children()))), parametrization)

    def forward(self) -> Tensor:
        """The parameter's value."""
        values = [getattr(self, name) for name in self.originals]
        for parametrization in self.children():
            values = [parametrization(*values)]
        return values[0]


def _become(module: Any, base: type) -> None:
    """Make ``module`` one of a subclass of ``base`` in which its parametrized names are properties; of ``base`` itself if
    there is none.
    """
    names = list(module.parametrizations)
    if not names:
        del module.parametrizations
        module.__class__ = base
        return
    members: dict[str, Any] = {name: _property(name) for name in names}
    module.__class__ = type(f"Parametrized{base.__name__}", (base,), {**members, "_parametrized": True})


def _property(name: str) -> property:
    return property(lambda module: module.parametrizations[name]())


def register_parametrization(module: M, tensor_name: str, parametrization: Module) -> M:
    """From now on ``module.<tensor_name>`` is ``parametrization`` of what is learned; returns the module, changed in place.

    A ``right_inverse`` of the parametrization says where to start, so that the value is what it was; without one it starts
    at the parameter itself. The state then has ``parametrizations.<tensor_name>.original`` in place of the parameter. A
    module that is changed so can be copied, not pickled: save its ``state_dict``.

    Example::

        class Symmetric(nn.Module):
            def forward(self, w):
                return (w + w.mT) / 2

        layer = nn.utils.register_parametrization(nn.Linear(3, 3), "weight", Symmetric())
        assert (layer.weight == layer.weight.mT).all()
    """
    parametrized = vars(module).get("parametrizations")
    if parametrized is not None and tensor_name in parametrized:
        parametrized[tensor_name].append(parametrization)
        return module
    original = vars(module).get(tensor_name)
    if not isinstance(original, Parameter):
        names = [name for name, _ in module.named_parameters(recurse=False)]
        raise ArgumentError(
            f"register_parametrization: {type(module).__name__} has no parameter {tensor_name!r}{nearest(tensor_name, names)}"
        )
    value = ParametrizationList(original, parametrization)
    found = value()
    if found.shape != original.shape:
        raise ShapeError(
            f"register_parametrization: {tensor_name} of shape {original.shape} would get the shape {found.shape}"
        )
    delattr(module, tensor_name)
    if parametrized is None:
        module.parametrizations = parametrized = ModuleDict()
    parametrized[tensor_name] = value
    _become(module, type(module).__mro__[1] if hasattr(module, "_parametrized") else type(module))
    return module


def remove_parametrizations(module: M, tensor_name: str, leave_parametrized: bool = True) -> M:
    """Make ``module.<tensor_name>`` a parameter again: with the value that it had, or, with ``leave_parametrized=False``,
    what was learned instead (if that is one tensor).
    """
    parametrized = vars(module).get("parametrizations", ())
    if tensor_name not in parametrized:
        raise ArgumentError(
            f"remove_parametrizations: {tensor_name!r} of {type(module).__name__} is not parametrized{nearest(tensor_name, parametrized)}"
        )
    value = parametrized[tensor_name]
    if not leave_parametrized and value.originals != ("original",):
        raise ArgumentError(
            f"remove_parametrizations: {tensor_name} is made of {', '.join(value.originals)}: leave it parametrized"
        )
    with no_grad():
        new = value() if leave_parametrized else value.original
    needs = any(p.requires_grad for p in value.parameters(recurse=False))
    del parametrized[tensor_name]
    _become(module, type(module).__mro__[1])
    setattr(module, tensor_name, Parameter(new.detach(), needs))
    return module


class _WeightNorm(Module):
    def __init__(self, dim: int | None) -> None:
        self.dim = dim

    def _norm(self, v: Tensor) -> Tensor:
        axes: Any = None
        if self.dim is not None:
            kept = checked_axis("weight_norm", v, self.dim)
            axes = tuple(a for a in range(-v.ndim, 0) if a != kept)
        return sqrt(sum(multiply(v, v), axis=axes, keepdims=self.dim is not None))

    def forward(self, g: Tensor, v: Tensor) -> Tensor:
        """g v / |v|."""
        return multiply(v, divide(g, self._norm(v)))

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """(|weight|, weight)."""
        return self._norm(weight), weight


def weight_norm(module: M, name: str = "weight", dim: int | None = 0) -> M:
    """Learn the length and the direction of a weight apart: weight = g v / |v| (Salimans and Kingma, arXiv:1602.07868),
    the norm over all axes but ``dim``, or over all with None. g is ``parametrizations.<name>.original0``, v is
    ``original1``.

    Example: ``nn.utils.weight_norm(nn.Linear(3, 2))(x)`` for x of shape (4, 3) has shape (4, 2).
    """
    return register_parametrization(module, name, _WeightNorm(dim))
