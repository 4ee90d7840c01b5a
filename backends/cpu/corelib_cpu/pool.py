"""Output buffers that are used again.

A fresh large array costs a page fault per 4 KB, more than most kernels cost: 16M additions take 3.6 ms into a
used buffer and 6.8 ms into a fresh one. A raw byte array is free when nothing but the pool refers to it: the
array made on it, and every view of that array, holds a reference to the raw array, not to each other (NumPy
collapses chains of bases).
"""

from __future__ import annotations

import os
import threading
from sys import getrefcount
from typing import Any

import numpy as np
from numpy import ndarray

SMALLEST = 1 << 18  # bytes; below this numpy.empty is faster, because malloc keeps such blocks itself
LIMIT = 4 << 30  # bytes held at most; larger buffers are allocated and freed as usual
ALIGNMENT = 64
FAR = 16  # when the first free buffer stands behind so many used ones, the search starts there from now on

_lock = threading.RLock()  # a finalizer may allocate while we do
_classes: dict[int, list[ndarray]] = {}  # bytes -> raw arrays
_offsets: dict[int, int] = {}  # id of a raw array -> its first aligned byte
_held = 0
_limit: int | None = None
arena: Any = None  # of a program that is being captured, see program.py


def _references(raws: list[ndarray]) -> int:
    """References to the last raw array of a list, counted the way `empty` and `_release` count them."""
    count = 0
    for raw in raws:
        count = getrefcount(raw)
    return count


# the list, the loop's name, the argument: as this Python counts them
_FREE = _references([np.empty(0, np.uint8)])


def limit() -> int:
    """Bytes held at most: half of the machine's memory, and no more than LIMIT."""
    global _limit
    if _limit is None:
        try:
            _limit = min(LIMIT, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2)
        except (AttributeError, ValueError, OSError):
            _limit = LIMIT // 4
    return _limit


def empty(shape: tuple[int, ...], dtype: Any, size: int) -> ndarray:
    """An uninitialised C-contiguous array of `size` bytes, on a reused buffer where there is one.

    No lock is needed here: whoever looks at a raw array holds a reference to it, so two who look at the same
    one both see that it is taken.
    """
    if arena is not None and arena.thread == threading.get_ident():
        return arena.empty(shape, dtype, size)
    if size < SMALLEST:
        return np.empty(shape, dtype)
    step = 1 << (size.bit_length() - 4)  # an eighth of the power of two: similar sizes share buffers
    key = -(-size // step) * step
    raws = _classes.get(key)
    if raws is not None:
        passed = 0
        for raw in raws:
            if getrefcount(raw) == _FREE:
                if passed > FAR:
                    with _lock:
                        raws[:] = raws[passed:] + raws[:passed]
                return ndarray(shape, dtype, raw, _offsets[id(raw)])
            passed += 1  # noqa: SIM113 - enumerate would hold a reference of its own
    with _lock:
        return _fresh(shape, dtype, key)


def _fresh(shape: tuple[int, ...], dtype: Any, key: int) -> ndarray:
    global _held
    raw = np.empty(key + ALIGNMENT, np.uint8)
    offset = -raw.ctypes.data % ALIGNMENT
    if _held + key > limit():
        _release()
    if _held + key <= limit():
        _classes.setdefault(key, []).append(raw)
        _offsets[id(raw)] = offset
        _held += key
    return ndarray(shape, dtype, raw, offset)


def _release() -> None:
    global _held
    for key, raws in list(_classes.items()):
        used = []
        for raw in raws:
            if getrefcount(raw) == _FREE:
                del _offsets[id(raw)]
                _held -= key
            else:
                used.append(raw)
        del raws
        if used:
            _classes[key] = used
        else:
            del _classes[key]


def release() -> None:
    """Give the buffers that nobody uses back to the system."""
    with _lock:
        _release()


def _base_references(array: ndarray) -> int:
    base = array.base
    return getrefcount(base)


_sample = [np.empty(64, np.uint8)]
# the pool's list, and one array on the raw array
_OWNED = _base_references(ndarray(64, np.uint8, _sample[0]))


def owns(array: ndarray) -> bool:
    """Whether no other array shares this one's buffer.

    Views of an array that has a buffer of its own refer to that array: whoever asks counts references to it.
    """
    if not array.flags.writeable:
        return False
    if array.base is None:
        return True
    # A raw array is known by its id as long as the pool holds it.
    return id(array.base) in _offsets and _base_references(array) == _OWNED


def statistics() -> dict[str, int]:
    """Bytes of the pool: held in all, and the part in use."""
    with _lock:
        used = 0
        for key, raws in _classes.items():
            for raw in raws:
                if getrefcount(raw) > _FREE:
                    used += key
        return {"held": _held, "in_use": used, "buffers": len(_offsets)}
