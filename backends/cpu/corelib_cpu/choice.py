"""Which of two ways of doing the same takes less time, found out while doing it.

A program on all threads waits for the slowest of them in every kernel. Where a neighbour has taken a core away, a thread
that was put aside in the middle of its part holds up the others for milliseconds, and one thread alone is faster. That
changes from second to second, so it is measured and never settled: the better way is taken, the other is tried again
now and then, the more seldom the longer nothing has changed.
"""

from __future__ import annotations

WEIGHT = 32  # calls over which the time of a way is averaged
TRIES = 2  # calls of a trial
SOONEST, LATEST = 16, 256  # calls between two trials; each trial doubles what comes before the next


class Choice:
    """``way`` is what the next call is to do, 0 or 1; ``took(seconds)`` says how long it took."""

    __slots__ = ("_best", "_left", "_pause", "_seconds", "_trial", "way")

    def __init__(self) -> None:
        self.way = self._best = 0
        self._seconds = [0.0, 0.0]  # smoothed; 0 is not known
        self._pause, self._left, self._trial = SOONEST, TRIES, list[float]()

    def took(self, seconds: float) -> None:
        """The last call's time, which decides about the next one."""
        way, best = self.way, self._best
        if way == best:
            known = self._seconds[best]
            self._seconds[best] = known + (seconds - known) / WEIGHT if known else seconds
            self._left -= 1
        else:
            self._trial.append(seconds)
            if len(self._trial) < TRIES:
                return
            self._seconds[way] = sum(self._trial) / TRIES
            self._pause, self._left = min(2 * self._pause, LATEST), self._pause
        other = 1 - best
        if 0 < self._seconds[other] < self._seconds[best]:
            self._best = self.way = other
            self._left = self._pause
        elif self._left <= 0:
            self.way, self._trial = other, []
        else:
            self.way = best
