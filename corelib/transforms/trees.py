"""Axes for the leaves of a tree: an axis or None for a whole branch, or a tree of the same structure."""

from __future__ import annotations

from typing import Any

from ..errors import ArgumentError


def matched(what: str, axes: Any, tree: Any, path: str) -> list[tuple[Any, str]]:
    """For each leaf of ``tree``, in order, its axis and its path, such as ``args[0]['w']``."""
    found: list[tuple[Any, str]] = []
    _matched(what, axes, tree, path, found)
    return found


def _matched(what: str, axes: Any, tree: Any, path: str, found: list[tuple[Any, str]]) -> None:
    branch = isinstance(tree, dict | list | tuple)
    if not isinstance(axes, dict | list | tuple):
        if not branch:
            found.append((axes, path))
            return
        for key, value in _items(tree):
            _matched(what, axes, value, f"{path}[{key!r}]", found)
        return
    if not branch or isinstance(axes, dict) != isinstance(tree, dict):
        raise ArgumentError(
            f"{what} holds {axes!r} for {path}, which is {_kind(tree)}: they must have one structure"
        )
    keys, others = [k for k, _ in _items(tree)], [k for k, _ in _items(axes)]
    if set(keys) != set(others):
        raise ArgumentError(
            f"{what} has entries {', '.join(map(repr, others)) or 'none'} for {path}, which has "
            f"{', '.join(map(repr, keys)) or 'none'}: give one for each"
        )
    for key, value in _items(tree):
        _matched(what, axes[key], value, f"{path}[{key!r}]", found)


def _items(tree: Any) -> Any:
    return tree.items() if isinstance(tree, dict) else enumerate(tree)


def _kind(tree: Any) -> str:
    return f"a {type(tree).__name__}"
