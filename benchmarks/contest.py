"""The workloads of cpu.py, library beside library, and their table.

Each peer runs in a process of its own with the same number of threads, and the processes take turns, workload by workload
and round by round; minimum and median of short bursts are kept. A workload has so many seconds: what is left of the whole
budget, shared by the workloads that are left. A peer that fails, ends or takes longer than that is missing from the row,
which says why, and is there again in the next. The two limits are measured in the same run: the bandwidth of a copy of
64 MB, and the fused multiplications of vectors held in registers and the first cache.
"""

from __future__ import annotations

import json
import os
import queue
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from .cpu import PEERS, workloads
from .timing import once

BUDGET = 480.0  # seconds for everything
START = 60.0  # seconds for a library's import
PATIENCE = 20.0  # seconds for one answer at least: JAX compiles, and inputs are made


def limits(threads: int) -> dict[str, float]:
    """Bytes a second of a copy (read and written), and float32 operations a second of fused multiplications."""
    import numpy as np

    from corelib_cpu import launch, native
    from corelib_cpu.gemm import geometry

    shape = geometry("float32")
    source = f"""
tile = matrix_tile("float32", {shape.height}, {shape.vectors}, {shape.lanes}, True, False)

def kernel(lo, hi, args):
    words = at_int64(args)
    for i in range(lo, hi):
        tile(words[1], 0, 0, words[2], {4 * shape.width}, 256, words[0] + i * {4 * shape.height * shape.width}, {4 * shape.width}, 0, 0, 0)
"""
    multiply = native.address(source)
    copy = native.address("""
def kernel(lo, hi, args):
    words = at_int64(args)
    x, out = at_int64(words[1]), at_int64(words[0])
    for i in range(lo, hi):
        out[i] = x[i]
""")  # fmt: skip
    a, b = np.ones(256 * shape.height, np.float32), np.ones(256 * shape.width, np.float32)
    out, words = np.zeros(threads * shape.height * shape.width, np.float32), 8 << 20
    x, y = np.ones(words), np.ones(words)
    repeats = [once(lambda: launch.launch(multiply, threads, 1, out, a, b), 100) for _ in range(500)]
    copies = [once(lambda: launch.launch(copy, words, words // (4 * threads), y, x), 1) for _ in range(50)]
    operations = 2.0 * 256 * shape.height * shape.width * threads
    return {"bytes a second": 16.0 * words / min(copies), "operations a second": operations / min(repeats)}


class Server:
    """A peer's process; ``version`` is None where it does not start."""

    def __init__(self, name: str, threads: int) -> None:
        limit = {f"{library}_NUM_THREADS": str(threads) for library in ("OMP", "OPENBLAS", "MKL", "CORELIB")}
        self.name, self.threads = name, threads
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.cpu", name, str(threads)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True, env={**os.environ, **limit, "JAX_PLATFORMS": "cpu"},
        )  # fmt: skip
        self.lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        self.version = self.heard(START).get("version")

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{"):
                self.lines.put(line)
        self.lines.put("")

    def heard(self, seconds: float) -> dict[str, Any]:
        """Its next answer, or why there is none."""
        try:
            line = self.lines.get(timeout=seconds)
        except queue.Empty:
            return {"missing": f"no answer in {seconds:.0f} s", "gone": True}
        found: dict[str, Any] = json.loads(line) if line else {"missing": "its process ended", "gone": True}
        return found

    def ask(self, workload: str, burst: float, seconds: float) -> dict[str, Any]:
        """Bursts of each of its contestants."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps({"workload": workload, "seconds": burst}) + "\n")
            self.process.stdin.flush()
        except OSError:
            pass  # it has ended, as is heard
        return self.heard(seconds)

    def end(self) -> None:
        """Let it go."""
        self.process.kill()
        self.process.wait()


def _row(
    name: str, workload: Any, servers: dict[str, Server], rounds: int, burst: float, until: float
) -> dict[str, Any]:
    """One workload: times of each contestant, and why peers are missing."""
    times: dict[str, list[float]] = {}
    missing: dict[str, str] = {}
    done = 0
    while done < rounds and (not done or time.monotonic() < until):
        for peer, server in servers.items():
            if peer in missing or peer not in workload.calls:
                continue
            answer = server.ask(name, burst, max(PATIENCE, until - time.monotonic()))
            for contestant, bursts in answer.get("bursts", {}).items():
                times.setdefault(contestant, []).extend(bursts)
            if "missing" in answer:
                missing[peer] = answer["missing"]
                if answer.get("gone"):  # a fresh one for the next workload
                    server.end()
                    servers[peer] = Server(peer, server.threads)
        done += 1
    found = {k: {"min": min(v), "median": statistics.median(v)} for k, v in times.items()}
    return {
        "workload": name,
        "family": workload.family,
        "size": workload.size,
        "rounds": done,
        "times": found,
        "missing": missing,
    }


def run(
    *,
    match: str = "",
    rounds: int = 7,
    burst: float = 0.004,
    threads: int | None = None,
    budget: float = BUDGET,
) -> dict[str, Any]:
    """Measure the workloads whose name contains `match`: limits, versions, and a row for each."""
    count = threads or len(os.sched_getaffinity(0))
    end = time.monotonic() + budget
    bounds = limits(count)
    chosen = {name: workload for name, workload in workloads().items() if match in name}
    servers = {name: Server(name, count) for name in PEERS}
    versions = {name: server.version for name, server in servers.items()}
    rows = []
    try:
        for number, (name, workload) in enumerate(chosen.items()):
            share = (end - time.monotonic()) / (len(chosen) - number)
            row = _row(name, workload, servers, rounds, burst, time.monotonic() + share)
            ours = row["times"].get("corelib", {}).get("min")
            if ours:
                row["limit"] = max(
                    workload.flops / bounds["operations a second"] / ours,
                    workload.bytes / bounds["bytes a second"] / ours,
                )
                row["ratios"] = {k: t["min"] / ours for k, t in row["times"].items() if k != "corelib"}
            rows.append(row)
            told = ", ".join(f"{peer} {ratio:.2f}" for peer, ratio in row.get("ratios", {}).items())
            print(f"  {name}: {told}{_told(row)}", file=sys.stderr, flush=True)
    finally:
        for server in servers.values():
            server.end()
    return {"threads": count, "versions": versions, "limits": bounds, "rows": rows}


def _told(row: dict[str, Any]) -> str:
    return "".join(f"; {peer} is missing: {why}" for peer, why in row["missing"].items())


def table(found: dict[str, Any], scaled: Callable[[float], str]) -> str:
    """The measurements as Markdown."""
    columns = ("numpy", "numpy out=", "torch", "torch out=", "jax jit", "reference")
    head = [
        "| workload | corelib | of the limit | " + " | ".join(columns) + " |",
        "|" + "---|" * (3 + len(columns)),
    ]
    lines, behind, missing = [], [], []
    measured = [row for row in found["rows"] if "ratios" in row]
    for row in measured:
        ratios = row["ratios"]
        cells = [f"{ratios[peer]:.3g}" if peer in ratios else "" for peer in columns]
        share = f"{100 * row['limit']:.0f} %" if row["limit"] else ""
        lines.append(
            f"| {row['workload']} | {scaled(row['times']['corelib']['min'])} | {share} | {' | '.join(cells)} |"
        )
        best = min(((ratio, peer) for peer, ratio in ratios.items()), default=None)
        if best is not None and best[0] < 1:
            behind.append(f"{row['workload']} ({best[1]} {best[0]:.2f})")
    for row in found["rows"]:
        if row["missing"]:
            missing.append(f"{row['workload']}{_told(row)}")
    means = []
    for peer in columns:
        values = [row["ratios"][peer] for row in measured if peer in row["ratios"]]
        means.append(f"{statistics.geometric_mean(values):.2f}" if values else "")
    lines.append("| geometric mean | | | " + " | ".join(means) + " |")
    bounds = found["limits"]
    return "\n".join([
        "# The cpu backend beside its peers",
        "",
        "The peer's shortest time divided by ours: above 1 corelib is faster. `out=`: into an output that was there before. Written by",
        "`python -m benchmarks --only cpu`; plots: [cpu.svg](cpu.svg).",
        "",
        f"Limits, measured in the same run with {found['threads']} threads: a copy moves {bounds['bytes a second'] / 1e9:.0f} GB/s, fused",
        f"multiplications of float32 make {bounds['operations a second'] / 1e9:.0f} GFLOP/s. More than all of a limit is a value that stays in a",
        "cache, or a limit that a busy machine has kept from being reached.",
        "",
        *head,
        *lines,
        "",
        f"Behind the best peer, {len(behind)} of {len(measured)}: {'; '.join(behind) or 'none'}.",
        "",
        f"Missing: {'; '.join(missing) or 'none'}.",
        "",
    ])  # fmt: skip
