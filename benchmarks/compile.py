"""Whole programs, compiled: corelib beside PyTorch eager, ``torch.compile`` and JAX, each in a process of its own.

``python -m benchmarks --only compile``. A process makes its program, makes its first call, and is then told when to
run: contestants take turns, and what is compared are ratios of the minima and the medians of one run. First calls are
timed twice: in a process whose caches are empty, and in the next one. Memory is what the process has grown by at its
peak since the program was made. The losses of the first steps must agree, or the run fails in the end. A peer that is not
installed, cannot run the program here, or does not answer in time is named as missing, with the reason; a program has
``LIMIT`` seconds in all, and what has been measured by then is what is told.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import programs

PROGRAMS = {
    "mlp": "MLP 784-256-10 b128 AdamW step",
    "gpt": "GPT 4x256, 4 heads, B8 T128 step",
    "lstm": "LSTM 12x32 b32 step",
    "gray_scott": "Gray-Scott 1024x1024, 4 steps",
    "elements": "six element-wise ops on 100 elements, one call",
}
CONTESTANTS = (
    "corelib",
    "corelib eager",
    "torch eager",
    "jax jit",
    "torch.compile",
)  # the slowest to start last
CACHING = ("corelib", "jax jit", "torch.compile")  # whose next process finds what this one compiled
LIMIT = 95.0  # seconds of one program: five take eight minutes
START = 40.0  # seconds for importing, making the program and its first calls
ROUNDS = 12  # seconds that are kept for the rounds, however long the starts take
# the targets: the peer's time to ours
TARGETS = {
    "mlp": {"torch eager": 2.2, "torch.compile": 2.2, "jax jit": 1.3},
    "gpt": {"torch eager": 2.0, "torch.compile": 2.0, "jax jit": 2.0},
    "lstm": {"torch eager": 8.0, "torch.compile": 4.0, "jax jit": 2.2},
    "gray_scott": {"torch eager": 10.0, "torch.compile": 1.3, "jax jit": 4.0},
    "elements": {"torch.compile": 6.0, "jax jit": 2.5},
}
FIRST = {"cold": {"torch.compile": 12.0, "jax jit": 1.5}, "cached": {"torch.compile": 40.0, "jax jit": 5.0}}
MEMORY = {"torch eager": 0.60, "torch.compile": 0.50, "jax jit": 0.35}
CHECKED = 4  # losses
TOLERANCE = 2e-3  # relative; sums in another order, through four steps of AdamW, whose first steps divide by tiny moments


# -- one contestant, in its own process ----------------------------------------------------------------------


def made(program: str, contestant: str) -> programs.Call:
    """The call of a contestant."""
    if contestant.startswith("corelib"):
        return programs.in_corelib(program, contestant == "corelib")
    if contestant.startswith("torch"):
        return programs.in_torch(program, contestant == "torch.compile")
    return programs.in_jax(program)


def resident(which: str) -> int:
    """Bytes of this process's memory now (VmRSS) or at its peak (VmHWM)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(which + ":"):
            return int(line.split()[1]) * 1024
    return 0


def say(**what: Any) -> None:
    """A line of JSON."""
    print(json.dumps(what), flush=True)


def serve(make: Callable[[], programs.Call], *, losses: bool) -> None:
    """Make the program, then time calls as standard input asks: a number of calls, a line of JSON each. ``losses``: whether
    calls return a loss.
    """
    try:
        call = make()
        before = resident("VmRSS")
        start = time.perf_counter()
        result = call()
        first = time.perf_counter() - start
    except Exception as error:  # whatever the peer lacks here is told
        say(missing=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:200])
        return
    start = time.perf_counter()
    found = [float(r) for r in [result, *(call() for _ in range(CHECKED - 1))]] if losses else []
    second = (time.perf_counter() - start) / max(CHECKED - 1, 1) if losses else 0.0
    say(first=first, second=second, losses=found)
    for line in sys.stdin:
        number = int(line)
        if number == 0:
            say(grown=resident("VmHWM") - before)
            continue
        times = []
        for _ in range(number):
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
        say(min=min(times), median=statistics.median(times), total=sum(times))


class Process:
    """A contestant that waits to be asked; ``module`` serves it, and without ``caches`` it has the user's. ``started``: what
    it says of its first calls, or why it is missing.
    """

    def __init__(
        self,
        program: str,
        contestant: str,
        caches: str,
        module: str = "benchmarks.compile",
        seconds: float = 100.0,
    ) -> None:
        folders = {
            "CORELIB_CACHE_DIR": f"{caches}/corelib", "TORCHINDUCTOR_CACHE_DIR": f"{caches}/inductor",
            "JAX_COMPILATION_CACHE_DIR": f"{caches}/jax",
        }  # fmt: skip
        env = {
            **os.environ, **(folders if caches else {}), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "JAX_PLATFORMS": "cpu",
        }  # fmt: skip
        command = [sys.executable, "-m", module, "--serve", program, contestant]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=env,
        )
        self.lines: queue.Queue[str] = queue.Queue()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        self.started = self.heard(seconds, "importing it, making the program and its first calls")

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as output:
            for line in output:
                if line.startswith("{"):
                    self.lines.put(line)
        self.lines.put("")

    def heard(self, seconds: float, doing: str) -> dict[str, Any]:
        """The next line of its output; why there is none, if it takes too long or has ended."""
        try:
            line = self.lines.get(timeout=max(seconds, 0.1))
        except queue.Empty:
            self.process.kill()
            self.process.wait()
            return {"missing": f"{doing} took more than {seconds:.0f} s"}
        found: dict[str, Any] = (
            json.loads(line)
            if line
            else {"missing": f"its process ended with status {self.process.wait()} while {doing}"}
        )
        return found

    def ask(self, number: int, seconds: float) -> dict[str, Any]:
        """Have it make some calls."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(f"{number}\n")
            self.process.stdin.flush()
        except OSError:
            pass  # it has ended, as is heard
        return self.heard(seconds, f"{number} calls" if number else "its end")

    def end(self) -> None:
        """Let it go."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.close()
            self.process.wait(5)
        except (OSError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()
        self.reader.join(5)


# -- all of them ---------------------------------------------------------------------------------------------


def measured(
    program: str, contestants: list[str], rounds: int, seconds: float, limit: float = LIMIT, *, module: str = "benchmarks.compile"
) -> dict[str, Any]:  # fmt: skip
    """All figures of one program: per contestant first calls, minimum and median of a call, memory, or why it is missing."""
    deadline, start = time.monotonic() + limit, max(START, limit / 3)
    left = lambda: deadline - time.monotonic()
    found: dict[str, Any] = {}
    running: dict[str, Process] = {}
    with tempfile.TemporaryDirectory() as caches:
        try:
            for name in contestants:
                process = Process(program, name, caches, module, min(start, left() - ROUNDS))
                found[name] = {"cold": process.started.get("first"), "cached": None, "rounds": []}
                if name in CACHING and "missing" not in process.started:
                    process.end()
                    process = Process(program, name, caches, module, min(start, left() - ROUNDS))
                    found[name]["cached"] = process.started.get("first")
                if "missing" in process.started:
                    found[name]["missing"] = process.started["missing"]
                    process.end()
                    continue
                found[name]["losses"] = process.started["losses"]
                running[name] = process
            numbers = {}
            for name in list(running):
                once = _asked(running, found, name, 3, left())
                if once:
                    numbers[name] = max(1, int(seconds / once["min"]))
            done = 0
            while done < rounds and running and (left() > 0 or not done):
                for name in list(running):
                    answer = _asked(running, found, name, numbers[name], max(left(), 0) + ROUNDS)
                    if answer:
                        found[name]["rounds"].append(answer)
                done += 1
            for name in list(running):
                answer = _asked(running, found, name, 0, ROUNDS)
                if answer:
                    found[name]["grown"] = answer["grown"]
        finally:
            for process in running.values():
                process.end()
    for figures in found.values():
        times = figures.pop("rounds")
        if times and "grown" in figures:
            figures |= {
                "rounds": len(times),
                "min": min(t["min"] for t in times),
                "median": statistics.median(t["median"] for t in times),
            }
        else:
            figures.setdefault("missing", f"there was no time for it in {limit:.0f} s")
    return found


def _asked(
    running: dict[str, Process], found: dict[str, Any], name: str, number: int, seconds: float
) -> dict[str, Any] | None:
    """A contestant's answer; None, and the contestant is out, if it has none."""
    answer = running[name].ask(number, seconds)
    if "missing" not in answer:
        return answer
    found[name]["missing"] = answer["missing"]
    running.pop(name).end()
    return None


def disagreements(program: str, found: dict[str, Any]) -> list[str]:
    """Which losses are not those of corelib run op by op, in words."""
    known = {name: f["losses"] for name, f in found.items() if f.get("losses")}
    if not known:
        return []
    first = "corelib eager" if "corelib eager" in known else next(iter(known))
    return [
        f"{PROGRAMS[program]}: losses of {name} are {losses}, of {first} {known[first]}"
        for name, losses in known.items()
        if any(not abs(a - b) <= TOLERANCE * abs(a) for a, b in zip(known[first], losses, strict=True))
    ]


def table(results: dict[str, Any]) -> list[str]:
    """The figures as Markdown."""
    lines = [
        "| program | corelib | peer | peer's time | ratio of minima | target | ratio of medians | first call, cold / cached | peer's | memory grown by | peer's | share |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    missing = []
    for program, found in results.items():
        ours = found.get("corelib", {"missing": "not asked for"})
        for name, theirs in found.items():
            if "missing" in theirs:
                missing.append(f"{PROGRAMS[program]}: {name} is missing: {theirs['missing']}.")
            elif name != "corelib" and "missing" not in ours:
                target = TARGETS[program].get(name)
                lines.append(
                    f"| {PROGRAMS[program]} | {time_of(ours['min'])} | {name} | {time_of(theirs['min'])} | {theirs['min'] / ours['min']:.2f} | "
                    f"{target or '-'} | {theirs['median'] / ours['median']:.2f} | {time_of(ours['cold'])} / {time_of(ours['cached'])} | "
                    f"{time_of(theirs['cold'])} / {time_of(theirs['cached'])} | {size_of(ours['grown'])} | {size_of(theirs['grown'])} | "
                    f"{ours['grown'] / max(theirs['grown'], 1):.0%} |"
                )
        missing += disagreements(program, found)
    return [*lines, "", *missing]


def time_of(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    for unit, factor in (("s", 1), ("ms", 1e3), ("us", 1e6)):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e9:.0f} ns"


def size_of(count: float) -> str:
    """Bytes for reading."""
    return f"{count / 1e6:.1f} MB"


def run(
    only: list[str],
    contestants: list[str],
    rounds: int,
    seconds: float,
    limit: float = LIMIT,
    keep: Callable[[str, dict[str, Any]], None] | None = None,
) -> tuple[str, dict[str, Any]]:
    """Every program, as text and as data; ``keep`` is given both after each of them."""
    results: dict[str, Any] = {}
    for program in only:
        started = time.monotonic()
        results[program] = measured(program, contestants, rounds, seconds, limit)
        print(f"  {PROGRAMS[program]}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
        found = (
            told(results),
            {
                "programs": results,
                "targets": {"time": TARGETS, "first call": FIRST, "memory": MEMORY},
            },
        )
        if keep is not None:
            keep(*found)
    return found


def told(results: dict[str, Any]) -> str:
    """The page."""
    return "\n".join([
        "# Whole programs, compiled",
        "",
        "corelib on `cpu`, each contestant in a process of its own, taking turns. Ratios above 1: corelib is faster. Minima and medians",
        "of one run. Written by `python -m benchmarks --only compile`.",
        "",
        *table(results),
        "",
        "Targets of first calls, a peer's to ours: " + "; ".join(f"{k} {', '.join(f'{n} {v}' for n, v in t.items())}" for k, t in FIRST.items())
        + ". Of memory, ours to a peer's: " + ", ".join(f"{n} {v}" for n, v in MEMORY.items()) + ".",
        "",
    ])  # fmt: skip


def main() -> int:
    """Run some programs and print the table; or be one contestant."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compile", description=__doc__)
    parser.add_argument("--serve", nargs=2, metavar=("PROGRAM", "CONTESTANT"), help=argparse.SUPPRESS)
    parser.add_argument("--program", choices=PROGRAMS, action="append")
    parser.add_argument("--contestant", choices=CONTESTANTS, action="append")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=0.2, help="of one contestant's turn")
    parser.add_argument("--limit", type=float, default=LIMIT, help="seconds of one program")
    options = parser.parse_args()
    if options.serve:
        program, contestant = options.serve
        serve(lambda: made(program, contestant), losses=program in ("mlp", "gpt", "lstm"))
        return 0
    text, data = run(
        options.program or list(PROGRAMS),
        options.contestant or list(CONTESTANTS),
        options.rounds,
        options.seconds,
        options.limit,
    )
    print(text)
    return failed(data)


def failed(data: dict[str, Any]) -> int:
    """The status to end with: 1 if losses disagree."""
    return int(any(disagreements(program, found) for program, found in data["programs"].items()))


if __name__ == "__main__":
    sys.exit(main())
