"""Every op's whole story, by family. Names are the array API standard's where it has one.

``corelib.ops.NAME`` is the public function, and ``corelib.ops.NAME.op`` its declaration.
"""

from __future__ import annotations

import importlib
from types import ModuleType

from ..op import BY_NAME, Op

FAMILIES = ("compare", "elementwise", "creation", "movement", "arrange", "reduce", "statistics", "index", "subscript", "sort", "sets", "contract", "einsum", "random", "nn", "losses", "updates")


def _public(module: ModuleType) -> list[str]:
    """The ops a family declares, and the plain functions in its ``__all__``."""
    declared = [n for n, v in vars(module).items() if isinstance(getattr(v, "op", None), Op) and v.__module__ == module.__name__]
    return [n for n in dict.fromkeys([*declared, *getattr(module, "__all__", ())]) if not n.startswith("_")]


__all__: list[str] = []
for _name in FAMILIES:
    try:
        _family = importlib.import_module(f".{_name}", __name__)
    except ModuleNotFoundError:
        continue
    for _function in _public(_family):
        globals()[_function] = getattr(_family, _function)
        __all__.append(_function)

importlib.import_module(".methods", __name__)  # last: it makes methods of what the families declare


def __getattr__(name: str) -> object:
    if name in BY_NAME:
        return BY_NAME[name].fn
    from ..errors import nearest

    raise AttributeError(f"corelib.ops has no op {name!r}{nearest(name, BY_NAME)}")
