"""Whole programs, compiled: corelib beside PyTorch eager, ``torch.compile`` and JAX, each in a process of its own.

``python -m benchmarks --only compile``. A process makes its program, makes its first call, and is then told when to
run: contestants take turns, and what is compared are ratios of the minima and the medians of one run. First calls are
timed twice: in a process whose caches are empty, and in the next one. Memory is what the process has grown by at its
peak since the program was made. The losses of the first steps must agree, or the run fails. A peer that is not
installed, or cannot run the program here, is named as missing, with the reason.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
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
CONTESTANTS = ("corelib", "corelib eager", "torch eager", "torch.compile", "jax jit")
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
    """A contestant that waits to be asked; ``module`` serves it, and without ``caches`` it has the user's."""

    def __init__(
        self, program: str, contestant: str, caches: str, module: str = "benchmarks.compile"
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
        self.started = self.heard()

    def heard(self) -> dict[str, Any]:
        """The next line of its output."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        while line and not line.startswith("{"):
            line = self.process.stdout.readline()
        found: dict[str, Any] = (
            json.loads(line) if line else {"missing": f"its process ended with status {self.process.wait()}"}
        )
        return found

    def ask(self, number: int) -> dict[str, Any]:
        """Have it make some calls."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{number}\n")
        self.process.stdin.flush()
        return self.heard()

    def end(self) -> None:
        """Let it go."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


# -- all of them ---------------------------------------------------------------------------------------------


def measured(
    program: str, contestants: list[str], rounds: int, seconds: float, *, module: str = "benchmarks.compile", agree: bool = True
) -> dict[str, Any]:  # fmt: skip
    """All figures of one program: per contestant first calls, minimum and median of a call, memory, or why it is missing."""
    found: dict[str, Any] = {}
    running: dict[str, Process] = {}
    with tempfile.TemporaryDirectory() as caches:
        for name in contestants:
            cold = Process(program, name, caches, module)
            if "missing" in cold.started:
                found[name] = cold.started
                continue
            cold.end()
            running[name] = warm = Process(program, name, caches, module)
            found[name] = {
                "cold": cold.started["first"],
                "cached": warm.started["first"],
                "losses": warm.started["losses"],
                "rounds": [],
            }
        numbers = {}
        for name, process in running.items():
            process.ask(2)
            one = process.ask(3)["min"]
            numbers[name] = max(1, int(seconds / one))
        for _ in range(rounds):
            for name, process in running.items():
                found[name]["rounds"].append(process.ask(numbers[name]))
        for name, process in running.items():
            found[name]["grown"] = process.ask(0)["grown"]
            process.end()
            times = found[name].pop("rounds")
            found[name] |= {
                "min": min(t["min"] for t in times),
                "median": statistics.median(t["median"] for t in times),
            }
    if agree:
        agreed(program, found)
    return found


def agreed(program: str, found: dict[str, Any]) -> None:
    """Raise unless all losses are those of corelib run op by op."""
    known = {name: f["losses"] for name, f in found.items() if f.get("losses")}
    for name, losses in known.items():
        for ours, theirs in zip(known.get("corelib eager", losses), losses, strict=True):
            if not abs(ours - theirs) <= TOLERANCE * abs(ours):
                raise AssertionError(
                    f"{program}: losses of {name} are {losses}, of corelib run op by op {known['corelib eager']}"
                )


def table(results: dict[str, Any]) -> list[str]:
    """The figures as Markdown."""
    lines = [
        "| program | corelib | peer | peer's time | ratio of minima | target | ratio of medians | first call cold / cached | peer's | memory grown by | peer's |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    missing = []
    for program, found in results.items():
        ours = found["corelib"]
        if "missing" in ours:
            missing.append(f"{PROGRAMS[program]}: corelib: {ours['missing']}")
            continue
        for name, theirs in found.items():
            if name == "corelib":
                continue
            if "missing" in theirs:
                missing.append(f"{PROGRAMS[program]}: {name} is missing: {theirs['missing']}")
                continue
            target = TARGETS[program].get(name)
            lines.append(
                f"| {PROGRAMS[program]} | {time_of(ours['min'])} | {name} | {time_of(theirs['min'])} | {theirs['min'] / ours['min']:.2f} | "
                f"{target or '-'} | {theirs['median'] / ours['median']:.2f} | {time_of(ours['cold'])} / {time_of(ours['cached'])} | "
                f"{time_of(theirs['cold'])} / {time_of(theirs['cached'])} | {size_of(ours['grown'])} | {size_of(theirs['grown'])} |"
            )
    return [*lines, "", *missing]


def time_of(seconds: float) -> str:
    """Seconds for reading."""
    for unit, factor in (("s", 1), ("ms", 1e3), ("us", 1e6)):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e9:.0f} ns"


def size_of(count: float) -> str:
    """Bytes for reading."""
    return f"{count / 1e6:.1f} MB"


def run(only: list[str], contestants: list[str], rounds: int, seconds: float) -> tuple[str, dict[str, Any]]:
    """Every program, as text and as data."""
    results: dict[str, Any] = {}
    for program in only:
        results[program] = measured(program, contestants, rounds, seconds)
        print(f"  {PROGRAMS[program]}", file=sys.stderr)
    targets = {"time": TARGETS, "first call": FIRST, "memory": MEMORY}
    text = "\n".join([
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
    return text, {"programs": results, "targets": targets}


def main() -> int:
    """Run some programs and print the table; or be one contestant."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compile", description=__doc__)
    parser.add_argument("--serve", nargs=2, metavar=("PROGRAM", "CONTESTANT"), help=argparse.SUPPRESS)
    parser.add_argument("--program", choices=PROGRAMS, action="append")
    parser.add_argument("--contestant", choices=CONTESTANTS, action="append")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=0.3, help="of one contestant's turn")
    options = parser.parse_args()
    if options.serve:
        program, contestant = options.serve
        serve(lambda: made(program, contestant), losses=program in ("mlp", "gpt", "lstm"))
        return 0
    text, _ = run(
        options.program or list(PROGRAMS),
        options.contestant or list(CONTESTANTS),
        options.rounds,
        options.seconds,
    )
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
