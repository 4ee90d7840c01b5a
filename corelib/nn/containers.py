"""Modules that hold others: chains, lists and dictionaries of modules and of parameters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import ArgumentError, nearest
from .module import Module, Parameter

if TYPE_CHECKING:
    from ..tensor import Tensor

N = TypeVar("N", bound="_Numbered")


class Identity(Module):
    """The argument itself."""

    def forward(self, x: Tensor) -> Tensor:
        """x."""
        return x


class _Numbered(Module):
    """Modules or parameters in an order, each named by its number."""

    def _element(self, item: Any) -> Any:
        """What becomes an element; ArgumentError for what cannot."""
        if not isinstance(item, Module):
            name = type(self).__name__
            raise ArgumentError(f"{name}: element {len(self)} must be a Module, got {item!r}: use nn.ReLU() and the like")  # fmt: skip
        return item

    def append(self: N, item: Any) -> N:
        """Add an element at the end; returns this one."""
        setattr(self, str(len(self)), self._element(item))
        return self

    def extend(self: N, items: Iterable[Any]) -> N:
        """Add elements at the end; returns this one."""
        for item in items:
            self.append(item)
        return self

    def __iter__(self) -> Iterator[Any]:
        return iter([x for name, x in vars(self).items() if name.isdecimal()])

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __getitem__(self, index: Any) -> Any:
        found = list(self)[index]
        if not isinstance(index, slice):
            return found
        part = type(self)()
        return part.extend(found)

    def __setitem__(self, index: int, item: Any) -> None:
        setattr(self, str(range(len(self))[index]), self._element(item))


class Sequential(_Numbered):
    """Modules applied one after the other: ``Sequential(Linear(2, 8), Tanh(), Linear(8, 1))``.

    Example: ``nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))(x)`` for x of shape (2, 3) has shape
    (2, 1).
    """

    def __init__(self, *modules: Module) -> None:
        self.extend(modules)

    def forward(self, x: Any) -> Any:
        """The last module's result."""
        for module in self:
            x = module(x)
        return x


class ModuleList(_Numbered):
    """A list of modules. A plain list as an attribute of a module does the same."""

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        self.extend(modules)


class ParameterList(_Numbered):
    """A list of parameters; a tensor becomes one. A plain list as an attribute of a module does the same."""

    def __init__(self, parameters: Iterable[Any] = ()) -> None:
        self.extend(parameters)

    def _element(self, item: Any) -> Parameter:
        return _parameter(item)


class _Named(Module):
    """Modules or parameters by name, in the order of insertion."""

    def __init__(self, items: Mapping[str, Any] | Iterable[tuple[str, Any]] = ()) -> None:
        self.update(items)

    def _element(self, name: str, item: Any) -> Any:
        """What becomes an element; ArgumentError for what cannot."""
        if not isinstance(item, Module):
            raise ArgumentError(f"{type(self).__name__}: {name!r} must be a Module, got {item!r}")
        return item

    def update(self, items: Mapping[str, Any] | Iterable[tuple[str, Any]]) -> None:
        """Add all of a mapping."""
        for name, item in items.items() if isinstance(items, Mapping) else items:
            self[name] = item

    def _held(self) -> dict[str, Any]:
        return {name: x for name, x in self._entries() if isinstance(x, Module | Parameter)}

    def __setitem__(self, name: str, item: Any) -> None:
        item = self._element(name, item)
        if not isinstance(name, str) or not name or "." in name or hasattr(type(self), name):
            raise ArgumentError(
                f"{type(self).__name__}: {name!r} cannot be a name: take a word that is none of a module's own"
            )
        setattr(self, name, item)

    def __getitem__(self, name: str) -> Any:
        found = self._held()
        if name not in found:
            raise KeyError(f"{type(self).__name__} has no {name!r}{nearest(name, found)}")
        return found[name]

    def __delitem__(self, name: str) -> None:
        self[name]
        delattr(self, name)

    def __contains__(self, name: object) -> bool:
        return name in self._held()

    def __iter__(self) -> Iterator[str]:
        return iter(self._held())

    def __len__(self) -> int:
        return len(self._held())

    def keys(self) -> Iterable[str]:
        """The names."""
        return self._held().keys()

    def values(self) -> Iterable[Any]:
        """The elements."""
        return self._held().values()

    def items(self) -> Iterable[tuple[str, Any]]:
        """The names and elements."""
        return self._held().items()


class ModuleDict(_Named):
    """A dictionary of modules, in the order of insertion. A plain dictionary as an attribute of a module does the same.

    Example: ``nn.ModuleDict({"first": nn.Linear(3, 2)})["first"](x)`` for x of shape (2, 3) has shape (2, 2).
    """


class ParameterDict(_Named):
    """A dictionary of parameters, in the order of insertion; a tensor becomes one."""

    def _element(self, name: str, item: Any) -> Parameter:
        return _parameter(item)


def _parameter(x: Any) -> Parameter:
    return x if isinstance(x, Parameter) else Parameter(x)
