"""A training step on one thread, on all, and on what ``cpu`` chooses, with and without a busy neighbour.

``python -m benchmarks.neighbour [program]``. A neighbour is a process that does nothing but count, on any core; each
contestant is a process of its own, and they take turns. What counts is the mean, in which every stall has its weight.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time

from . import programs

WAYS = ("one thread", "all threads", "chosen")
SECONDS, ROUNDS = 0.5, 8


def serve(program: str, way: str) -> None:
    """Run the program for as long as standard input asks; a line of JSON each: mean and median in microseconds."""
    from corelib_cpu import program as cpu_program

    class All:
        """No choice."""

        way = 0

        def took(self, seconds: float) -> None:
            """Nothing depends on it."""

    if way == "all threads":
        cpu_program.Choice = All  # type: ignore[assignment, misc]
    call = programs.in_corelib(program, True)
    for _ in range(10):
        call()
    print("ready", flush=True)
    for line in sys.stdin:
        end, times = time.perf_counter() + float(line), []
        while time.perf_counter() < end:
            start = time.perf_counter()
            call()
            times.append(1e6 * (time.perf_counter() - start))
        print(json.dumps([statistics.mean(times), statistics.median(times)]), flush=True)


def main(program: str) -> None:
    """Print a table."""
    contestants = {}
    for way in WAYS:
        env = {**os.environ, **({"CORELIB_NUM_THREADS": "1"} if way == "one thread" else {})}
        contestants[way] = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.neighbour", "--serve", program, way],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=env,
        )  # fmt: skip
    for process in contestants.values():
        assert process.stdout is not None
        process.stdout.readline()
    print(f"{program}: microseconds of a step, mean (median)")
    for count in (0, 1):
        neighbours = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
        found: dict[str, list[list[float]]] = {way: [] for way in WAYS}
        try:
            for _ in range(ROUNDS):
                for way, process in contestants.items():
                    assert process.stdin is not None
                    assert process.stdout is not None
                    process.stdin.write(f"{SECONDS}\n")
                    process.stdin.flush()
                    found[way].append(json.loads(process.stdout.readline()))
        finally:
            for neighbour in neighbours:
                neighbour.kill()
                neighbour.wait()
        cells = [
            f"{way} {statistics.median(r[0] for r in rounds):.0f} ({statistics.median(r[1] for r in rounds):.0f})"
            for way, rounds in found.items()
        ]
        print(f"  {count} busy neighbours: {', '.join(cells)}")
    for process in contestants.values():
        assert process.stdin is not None
        process.stdin.close()
        process.wait()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve(sys.argv[2], sys.argv[3])
    else:
        main(sys.argv[1] if len(sys.argv) > 1 else "mlp")
