"""How things are timed here: contestants take turns, several rounds; the minimum and the median of the rounds
are kept.

On a shared machine only ratios of one run mean anything, so every table is made of ratios: the peer's time
divided by corelib's, above 1 corelib is faster.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable


def once(fn: Callable[[], object], number: int) -> float:
    """Seconds per call of ``fn``, over ``number`` calls."""
    start = time.perf_counter()
    for _ in range(number):
        fn()
    return (time.perf_counter() - start) / number


def calibrate(fn: Callable[[], object], seconds: float) -> int:
    """How many calls take about ``seconds``."""
    number = 1
    while True:
        took = once(fn, number) * number
        if took > seconds / 4:
            return max(1, int(number * seconds / took))
        number *= 4


def interleaved(
    contestants: dict[str, Callable[[], object]], *, rounds: int = 15, seconds: float = 0.05
) -> dict[str, dict[str, float]]:
    """Minimum and median seconds per call of each contestant, taking turns."""
    for fn in contestants.values():
        fn()
    numbers = {name: calibrate(fn, seconds) for name, fn in contestants.items()}
    times: dict[str, list[float]] = {name: [] for name in contestants}
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            for name, fn in contestants.items():
                times[name].append(once(fn, numbers[name]))
    finally:
        gc.enable()
    return {name: {"min": min(ts), "median": statistics.median(ts)} for name, ts in times.items()}
