"""Modules that hold others: chains, lists and dictionaries of modules and of parameters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, overload

from ..errors import ArgumentError, nearest
from .module import Module, Parameter

if TYPE_CHECKING:
    from ..tensor import Tensor


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


class ModuleDict(Module):
    """A dictionary of modules, in the order of insertion. A plain dictionary as an attribute of a module does the same.

    Example: ``nn.ModuleDict({"first": nn.Linear(3, 2)})["first"](x)`` for x of shape (2, 3) has shape (2, 2).
    """

    def __init__(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]] = ()) -> None:
        self.update(modules)

    def update(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]]) -> None:
        """Add all of a mapping."""
        for name, module in modules.items() if isinstance(modules, Mapping) else modules:
            self[name] = module

    def __setitem__(self, name: str, module: Module) -> None:
        if not isinstance(module, Module):
            raise ArgumentError(f"ModuleDict: {name!r} must be a Module, got {module!r}")
        if not isinstance(name, str) or not name or "." in name or hasattr(type(self), name):
            raise ArgumentError(
                f"ModuleDict: {name!r} cannot be a name: take a word that is none of a module's own"
            )
        setattr(self, name, module)

    def __getitem__(self, name: str) -> Module:
        found = dict(self.named_children())
        if name not in found:
            raise KeyError(f"ModuleDict has no {name!r}{nearest(name, found)}")
        return found[name]

    def __delitem__(self, name: str) -> None:
        self[name]
        delattr(self, name)

    def __contains__(self, name: object) -> bool:
        return name in dict(self.named_children())

    def __iter__(self) -> Iterator[str]:
        return iter(dict(self.named_children()))

    def __len__(self) -> int:
        return len(dict(self.named_children()))

    def keys(self) -> Iterable[str]:
        """The names."""
        return dict(self.named_children()).keys()

    def values(self) -> Iterable[Module]:
        """The modules."""
        return dict(self.named_children()).values()

    def items(self) -> Iterable[tuple[str, Module]]:
        """The names and modules."""
        return dict(self.named_children()).items()


class ParameterList(Module):
    """A list of parameters. A plain list as an attribute of a module does the same."""

    def __init__(self, parameters: Iterable[Any] = ()) -> None:
        for parameter in parameters:
            self.append(parameter)

    def append(self, parameter: Any) -> ParameterList:
        """Add a parameter (of a tensor, it becomes one) at the end; returns this list."""
        setattr(self, str(len(self)), parameter if isinstance(parameter, Parameter) else Parameter(parameter))
        return self

    def __iter__(self) -> Iterator[Parameter]:
        return iter([p for p in vars(self).values() if isinstance(p, Parameter)])

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __getitem__(self, index: int) -> Parameter:
        return list(self)[index]


class ParameterDict(Module):
    """A dictionary of parameters, in the order of insertion."""

    def __init__(self, parameters: Mapping[str, Any] | None = None) -> None:
        for name, parameter in (parameters or {}).items():
            self[name] = parameter

    def __setitem__(self, name: str, parameter: Any) -> None:
        setattr(self, name, parameter if isinstance(parameter, Parameter) else Parameter(parameter))

    def __getitem__(self, name: str) -> Parameter:
        found = dict(self.named_parameters(recurse=False))
        if name not in found:
            raise KeyError(f"ParameterDict has no {name!r}{nearest(name, found)}")
        return found[name]

    def __contains__(self, name: object) -> bool:
        return name in dict(self.named_parameters(recurse=False))

    def __iter__(self) -> Iterator[str]:
        return iter(dict(self.named_parameters(recurse=False)))

    def __len__(self) -> int:
        return len(dict(self.named_parameters(recurse=False)))
