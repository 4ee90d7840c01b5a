"""How a run is going, on standard error: one line that changes on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TextIO

QUIET = 15.0  # seconds between lines where they stay


class Progress:
    """Shows counts, the time that is left, and what is being tried."""

    def __init__(self, device: str, stream: TextIO | None = None) -> None:
        self.device, self.stream = device, sys.stderr if stream is None else stream
        self.live = self.stream.isatty()
        self.began = self.shown = time.monotonic()

    def __call__(self, done: int, total: int, failed: int, subject: str) -> None:
        """``done`` of ``total`` cases are, ``failed`` of them failed, ``subject`` is the latest op or family."""
        now = time.monotonic()
        if now - self.shown < (0.1 if self.live else QUIET):
            return
        self.shown = now
        elapsed = now - self.began
        left = elapsed / done * (total - done) if done else 0.0
        text = (
            f"{self.device}: {done}/{total} cases ({100 * done // max(total, 1)} %), {failed} failed, "
            f"{clock(elapsed)} gone, {clock(left) if done else '?'} left: {subject}"
        )
        self._write(f"\r\033[K{text}" if self.live else f"{text}\n")

    def close(self) -> None:
        """Take the changing line away."""
        if self.live:
            self._write("\r\033[K")

    def _write(self, text: str) -> None:
        self.stream.write(text)
        self.stream.flush()


def clock(seconds: float) -> str:
    """Minutes and seconds."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"
