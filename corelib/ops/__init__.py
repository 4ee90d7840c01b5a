"""Every op's whole story, by family. Names are the array API standard's where it has one.

``corelib.ops.NAME`` is the public function, and ``corelib.ops.NAME.op`` its declaration.
"""

from __future__ import annotations

from ..op import BY_NAME
from . import compare, creation, elementwise, index, random

__all__ = sorted({n for m in (compare, creation, elementwise, index, random) for n in vars(m) if hasattr(vars(m)[n], "op")} | set(creation.__all__))


def __getattr__(name: str) -> object:
    op = BY_NAME.get(name)
    if op is not None:
        return op.fn
    if name in creation.__all__:
        return getattr(creation, name)
    from ..errors import nearest

    raise AttributeError(f"corelib.ops has no op {name!r}{nearest(name, BY_NAME)}")
