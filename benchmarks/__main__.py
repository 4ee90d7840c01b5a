"""``make bench``: every workload, corelib beside its peers in the same run; the tables are written to
``benchmarks/results/``.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def machine() -> dict[str, Any]:
    """What a reader needs to judge the numbers."""
    import numpy
    import torch

    import corelib

    facts = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    names = (line.split(":")[1].strip() for line in facts.splitlines() if line.startswith("model name"))
    model = next(names, platform.processor())
    return {
        "date": datetime.date.today().isoformat(),
        "processor": model,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "corelib": corelib.__version__,
        "numpy": numpy.__version__,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }


def scaled(seconds: float) -> str:
    """Seconds for reading."""
    for unit, factor in (("s", 1), ("ms", 1e3), ("us", 1e6)):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e9:.0f} ns"


def main() -> int:
    """Run, print and write the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument(
        "--only",
        choices=[
            "startup",
            "dispatch",
            "training",
            "standard",
            "transforms",
            "cpu",
            "generated",
            "compile",
            "models",
        ],
        help="one group of workloads",
    )
    parser.add_argument("--match", default="", help="with --only cpu: workloads whose name contains this")
    parser.add_argument("--no-write", action="store_true", help="print only")
    options = parser.parse_args()

    if options.only == "standard":
        return standard_functions(write=not options.no_write)
    if options.only == "compile":
        return whole_programs(options.rounds, write=not options.no_write)
    if options.only == "models":
        return training_steps(options.rounds, write=not options.no_write)
    if options.only == "transforms":
        return transformations(write=not options.no_write, rounds=options.rounds)
    if options.only == "generated":
        return generated_kernels(write=not options.no_write, rounds=options.rounds)
    if options.only == "cpu":
        return cpu_kernels(
            write=not options.no_write and not options.match, match=options.match, rounds=options.rounds
        )

    from . import dispatch, training
    from .timing import interleaved

    rows: list[dict[str, Any]] = []
    if options.only in (None, "startup"):
        times = training.import_times()
        rows.append(
            {
                "workload": "import, interpreter's start taken off",
                "times": {k: {"min": v, "median": v} for k, v in times.items()},
            }
        )
    groups = {"dispatch": dispatch, "training": training}
    for name, module in groups.items():
        if options.only in (None, name):
            for workload, contestants in module.workloads().items():
                rows.append({"workload": workload, "times": interleaved(contestants, rounds=options.rounds)})
                print(f"  {workload}", file=sys.stderr)
    memory = training.peak_memory() if options.only in (None, "training") else {}

    lines = [
        "| workload | corelib | peer | peer's time | ratio of minima | ratio of medians |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        ours = row["times"]["corelib"]
        for peer, theirs in row["times"].items():
            if peer != "corelib":
                ratios = theirs["min"] / ours["min"], theirs["median"] / ours["median"]
                lines.append(
                    f"| {row['workload']} | {scaled(ours['median'])} | {peer} | {scaled(theirs['median'])} | {ratios[0]:.2f} | {ratios[1]:.2f} |"
                )
    if memory:
        ours, theirs = memory["corelib"], memory["torch"]
        lines.append("")
        lines.append(
            f"Peak memory of the tensors of that training step: corelib {ours / 1e6:.2f} MB, torch {theirs / 1e6:.2f} MB, "
            f"corelib's share {ours / theirs:.2f}."
        )
    facts = machine()
    text = "\n".join(
        ["# Benchmarks", "", "Ratios above 1: corelib is faster. Written by `make bench`.", "",
         ", ".join(f"{k} {v}" for k, v in facts.items()), "", *lines, ""])  # fmt: skip
    print(text)
    if not options.no_write and options.only is None:
        written("foundation", text, {"machine": facts, "rows": rows, "memory": memory})
        return (
            standard_functions(write=True)
            or transformations(write=True, rounds=options.rounds)
            or cpu_kernels(write=True, match="", rounds=options.rounds)
        )
    return 0


def generated_kernels(*, write: bool, rounds: int) -> int:
    """The table of generated kernels beside the kernels of their steps and PyTorch."""
    from . import generated
    from .timing import interleaved

    rows = []
    lines = ["| 4096 x 4096, float32 | generated | step by step | torch | ratios |", "|---|---|---|---|---|"]
    for name, contestants in generated.workloads().items():
        times = interleaved(contestants, rounds=rounds)
        rows.append({"workload": name, "times": times})
        least = {who: t["min"] for who, t in times.items()}
        ratios = [f"{least[who] / least['corelib']:.2f}" for who in ("step by step", "torch")]
        lines.append(f"| {name} | {' | '.join(map(scaled, least.values()))} | {', '.join(ratios)} |")
        print(f"  {lines[-1]}", file=sys.stderr)
    facts = machine()
    text = "\n".join([
        "# Generated kernels",
        "",
        "Minima of interleaved rounds; ratios above 1: the generated kernel is faster than the kernels of its steps, and than",
        "PyTorch. Written by `python -m benchmarks --only generated`.",
        "",
        ", ".join(f"{k} {v}" for k, v in facts.items()),
        "",
        *lines,
        "",
    ])  # fmt: skip
    print(text)
    if write:
        written("generated", text, {"machine": facts, "rows": rows})
    return 0


def transformations(*, write: bool, rounds: int) -> int:
    """The table of vmap, forward mode and what is made of them, beside torch.func."""
    from . import transforms
    from .timing import interleaved

    rows, lines = [], []
    for name, contestants in transforms.workloads().items():
        times = interleaved(contestants, rounds=rounds)
        rows.append({"workload": name, "times": times})
        ours = times["corelib"]
        for peer, theirs in times.items():
            if peer != "corelib":
                ratio = theirs["min"] / ours["min"]
                lines.append(
                    f"| {name} | {scaled(ours['min'])} | {peer} | {scaled(theirs['min'])} | {ratio:.2f} |"
                )
        print(f"  {name}", file=sys.stderr)
    facts = machine()
    text = "\n".join([
        "# Transformations beside torch.func",
        "",
        "Minima of interleaved rounds; ratios above 1: corelib is faster. Written by `make bench`, or alone by",
        "`python -m benchmarks --only transforms`.",
        "",
        ", ".join(f"{k} {v}" for k, v in facts.items()),
        "",
        "| workload | corelib | peer | peer's time | ratio |",
        "|---|---|---|---|---|",
        *lines,
        "",
    ])  # fmt: skip
    print(text)
    if write:
        written("transforms", text, {"machine": facts, "rows": rows})
    return 0


def cpu_kernels(*, write: bool, match: str, rounds: int) -> int:
    """The table of the cpu backend's kernels, each peer in a process of its own."""
    from . import contest, plots

    found = contest.run(match=match, rounds=rounds)
    facts = {**machine(), **{name: version for name, version in found["versions"].items() if version}}
    text = "\n".join([contest.table(found, scaled), ", ".join(f"{k} {v}" for k, v in facts.items()), ""])
    print(text)
    if write:
        written("cpu", text, {"machine": facts, **found})
        if not plots.draw(found, RESULTS / "cpu.svg"):
            print("no plots: matplotlib is not installed", file=sys.stderr)
    return 0


def standard_functions(*, write: bool) -> int:
    """The table of the array API standard's functions, slowest against NumPy first."""
    from . import standard
    from .timing import interleaved

    rows = []
    for name, contestants in standard.workloads().items():
        times = interleaved(contestants, rounds=5, seconds=0.02)
        rows.append(
            {"workload": name, "times": times, "ratio": times["numpy"]["min"] / times["corelib"]["min"]}
        )
        print(f"  {name}: {rows[-1]['ratio']:.2f}", file=sys.stderr)
    rows.sort(key=lambda row: row["ratio"])
    slower = [f"`{row['workload']}` {row['ratio']:.2f}" for row in rows if row["ratio"] < 0.95]
    facts = machine()
    text = "\n".join([
        "# The array API standard's functions at a million elements",
        "",
        "corelib on `cpu` beside array-api-compat's NumPy, float32 unless said otherwise. Ratios above 1: corelib is faster. Written by",
        "`make bench`, or alone by `python -m benchmarks --only standard`.",
        "",
        ", ".join(f"{k} {v}" for k, v in facts.items()),
        "",
        f"Slower than NumPy by more than 5 %: {len(slower)} of {len(rows)}: {', '.join(slower) or 'none'}.",
        "",
        "| function | corelib | NumPy | ratio of minima |",
        "|---|---|---|---|",
        *[
            f"| {row['workload']} | {scaled(row['times']['corelib']['median'])} | {scaled(row['times']['numpy']['median'])} | {row['ratio']:.2f} |"
            for row in rows
        ],
        "",
    ])  # fmt: skip
    print(text)
    if write:
        written("standard", text, {"machine": facts, "rows": rows})
    return 0


def whole_programs(rounds: int, *, write: bool) -> int:
    """The table of compiled programs beside PyTorch's and JAX's."""
    from . import compile as compiled

    facts = machine()

    def page(text: str) -> str:
        return text.replace("\n\n", "\n\n" + ", ".join(f"{k} {v}" for k, v in facts.items()) + "\n\n", 1)

    def keep(text: str, data: dict[str, Any]) -> None:
        written("compile", page(text), {"machine": facts, **data})

    text, data = compiled.run(
        list(compiled.PROGRAMS), list(compiled.CONTESTANTS), rounds, 0.2, keep=keep if write else None
    )
    print(page(text))
    return compiled.failed(data)


def training_steps(rounds: int, *, write: bool) -> int:
    """The table of the examples' training steps beside PyTorch's, with memory."""
    from . import models

    text, data = models.run(list(models.MODELS), rounds, 0.3)
    facts = machine()
    text = text.replace("\n\n", "\n\n" + ", ".join(f"{k} {v}" for k, v in facts.items()) + "\n\n", 1)
    print(text)
    if write:
        written("models", text, {"machine": facts, **data})
    return 0


def written(name: str, text: str, data: dict[str, Any]) -> None:
    """Keep a table beside the code, for readers and for programs."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.md").write_text(text)
    (RESULTS / f"{name}.json").write_text(json.dumps(data, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
