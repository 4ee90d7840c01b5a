"""Nested lists, tuples and dictionaries of tensors: flattened in a fixed order, and put together again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .tensor import Tensor


def flatten(tree: Any) -> tuple[list[Any], Callable[[Any], Any]]:
    """The leaves of a tree (dictionaries in insertion order) and a function that rebuilds it from a list of
    leaves.
    """
    leaves: list[Any] = []
    rebuild = _flatten(tree, leaves)

    def build(values: Any) -> Any:
        return rebuild(iter(values))

    return leaves, build


def _flatten(tree: Any, leaves: list[Any]) -> Callable[[Any], Any]:
    if isinstance(tree, dict):
        parts = {k: _flatten(v, leaves) for k, v in tree.items()}
        return lambda values: type(tree)((k, p(values)) for k, p in parts.items())
    if isinstance(tree, list | tuple):
        items = [_flatten(v, leaves) for v in tree]
        if hasattr(tree, "_fields"):
            return lambda values: type(tree)(*[p(values) for p in items])
        return lambda values: type(tree)([p(values) for p in items])
    leaves.append(tree)
    return next


def tensors(tree: Any) -> list[Tensor]:
    """The tensors among the leaves of a tree."""
    return [leaf for leaf in flatten(tree)[0] if isinstance(leaf, Tensor)]


def map_tensors(fn: Callable[[Tensor], Any], tree: Any) -> Any:
    """The tree with ``fn`` applied to each tensor in it."""
    leaves, build = flatten(tree)
    return build([fn(leaf) if isinstance(leaf, Tensor) else leaf for leaf in leaves])
