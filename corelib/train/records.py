"""Where the numbers of a run go: lines of JSON, TensorBoard's event files, and the terminal."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import socket
import struct
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


class JsonLines:
    """A file with one JSON object per line, each written at once."""

    def __init__(self, path: Any) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)

    def write(self, record: Mapping[str, Any]) -> None:
        """Append a line."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def forget_after(self, step: int) -> None:
        """Drop the lines of later steps, which a resumed run makes again, and a last line that is cut off."""
        if not self.path.exists():
            return
        kept = []
        for line in self.path.read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(ValueError):
                if json.loads(line).get("step", 0) <= step:
                    kept.append(line + "\n")
        aside = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")
        aside.write_text("".join(kept), encoding="utf-8")
        aside.replace(self.path)


# -- TensorBoard ---------------------------------------------------------------------------------------------


class EventWriter:
    """Numbers for TensorBoard, which reads ``events.out.tfevents.*`` in a folder; nothing has to be installed
    to write them.

    The format: TFRecord (length, its masked CRC-32C, data, their masked CRC-32C; all little-endian) of the
    protocol buffer ``Event`` with ``wall_time`` = 1, ``step`` = 2, ``file_version`` = 3 and ``summary`` = 5, whose
    values have ``tag`` = 1 and ``simple_value`` = 2 (tensorflow/core/util/event.proto and lib/io/record_writer).

    Example::

        writer = train.EventWriter("runs/first")
        writer.scalars({"loss": 0.5}, step=1)
    """

    def __init__(self, folder: Any) -> None:
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}.{os.getpid()}"
        self.path = folder / name
        self._append(_double(1, time.time()) + _bytes(3, b"brain.Event:2"))

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Write some numbers of one step."""
        summary = b"".join(
            _bytes(1, _bytes(1, tag.encode()) + _key(2, 5) + struct.pack("<f", value))
            for tag, value in values.items()
        )
        self._append(_double(1, time.time()) + _key(2, 0) + _varint(step) + _bytes(5, summary))

    def _append(self, event: bytes) -> None:
        length = struct.pack("<Q", len(event))
        with self.path.open("ab") as file:
            file.write(length + _masked(length) + event + _masked(event))


def _varint(n: int) -> bytes:
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    out.append(n)
    return bytes(out)


def _key(field: int, wire: int) -> bytes:
    return _varint(field << 3 | wire)


def _double(field: int, value: float) -> bytes:
    return _key(field, 1) + struct.pack("<d", value)


def _bytes(field: int, value: bytes) -> bytes:
    return _key(field, 2) + _varint(len(value)) + value


_TABLE: list[int] = []


def crc32c(data: bytes) -> int:
    """The checksum CRC-32C (Castagnoli, polynomial 0x1EDC6F41, reflected; RFC 3720, B.4)."""
    if not _TABLE:
        for i in range(256):
            for _ in range(8):
                i = i >> 1 ^ (0x82F63B78 if i & 1 else 0)
            _TABLE.append(i)
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 255]
    return crc ^ 0xFFFFFFFF


def _masked(data: bytes) -> bytes:
    crc = crc32c(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


# -- the terminal --------------------------------------------------------------------------------------------


class Progress:
    """A bar of tqdm's for each epoch where that is installed and somebody is looking, and a line of text for
    each epoch otherwise. Both go to stderr.
    """

    def __init__(self, shown: bool) -> None:
        self.shown = shown
        self.bar = shown and importlib.util.find_spec("tqdm") is not None and sys.stderr.isatty()

    def steps(self, batches: Iterator[Any], total: int | None, first: int, epoch: int) -> Any:
        """The batches, counted by the bar."""
        if not self.bar:
            return batches
        from tqdm import tqdm

        return tqdm(batches, total=total, initial=first, desc=f"epoch {epoch}", leave=False)

    def epoch(self, record: Mapping[str, Any]) -> None:
        """Show an epoch's record."""
        if self.shown:
            numbers = [f"{k} {_shown(v)}" for k, v in record.items() if k != "step"]
            sys.stderr.write("  ".join(numbers) + "\n")


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
