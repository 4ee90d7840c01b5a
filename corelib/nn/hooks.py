"""What stands behind the hooks of a module: how to take one out, and a call whose backward pass is watched."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..autograd import observed
from ..errors import ArgumentError
from ..tensor import Tensor

if TYPE_CHECKING:
    from .module import Module


class Handle:
    """What registering a hook returns: ``remove()`` takes the hook out again."""

    def __init__(self, hooks: dict[int, Any], hook: Any) -> None:
        self._hooks, self._key = hooks, max(hooks, default=-1) + 1
        hooks[self._key] = hook

    def remove(self) -> None:
        """Take the hook out; a second call does nothing."""
        self._hooks.pop(self._key, None)


class BackwardHooks:
    """One call of a module whose backward pass is watched."""

    def __init__(self, module: Module) -> None:
        self.module = module
        self.after: tuple[Any, ...] = ()  # the gradients of the results
        self.waiting = False  # whether there are gradients of arguments to come

    def entered(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """The arguments, watched."""
        args, at = self._watched(args, self._leaving)
        self.waiting = bool(at)
        return args

    def left(self, result: Any) -> Any:
        """The result, watched."""
        results, _ = self._watched(result if isinstance(result, tuple) else (result,), self._entering)
        return results if isinstance(result, tuple) else results[0]

    def _watched(self, items: tuple[Any, ...], see: Any) -> tuple[tuple[Any, ...], list[int]]:
        at = [i for i, x in enumerate(items) if isinstance(x, Tensor) and x._node is not None]

        def placed(gradients: tuple[Tensor, ...]) -> Sequence[Tensor]:
            given: list[Any] = [None] * len(items)
            for i, g in zip(at, gradients, strict=True):
                given[i] = g
            changed = see(tuple(given))
            return [changed[i] for i in at]

        found = list(items)
        for i, x in zip(
            at, observed([items[i] for i in at], placed, type(self.module).__name__), strict=True
        ):
            found[i] = x
        return tuple(found), at

    def _entering(self, gradients: tuple[Any, ...]) -> tuple[Any, ...]:
        for hook in self.module._called("backward before"):
            gradients = _replaced(hook(self.module, gradients), gradients)
        self.after = gradients
        if not self.waiting:
            for hook in self.module._called("backward"):
                hook(self.module, (), gradients)
        return gradients

    def _leaving(self, gradients: tuple[Any, ...]) -> tuple[Any, ...]:
        for hook in self.module._called("backward"):
            gradients = _replaced(hook(self.module, gradients, self.after), gradients)
        return gradients


def _replaced(changed: Any, gradients: tuple[Any, ...]) -> tuple[Any, ...]:
    if changed is None:
        return gradients
    changed = changed if isinstance(changed, tuple) else (changed,)
    if len(changed) != len(gradients):
        raise ArgumentError(f"a backward hook returned {len(changed)} gradients for {len(gradients)}")
    return changed
