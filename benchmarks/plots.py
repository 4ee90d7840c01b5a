"""The table of cpu.py as one page of small multiples: each family of ops, its speed against its size.

matplotlib is needed; without it there is the table and no page.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

SHOWN = {
    "corelib": "#d62728", "numpy": "#1f77b4", "torch": "#ff7f0e", "jax jit": "#2ca02c", "reference": "#7f7f7f",
}  # fmt: skip


def draw(found: dict[str, Any], path: Path) -> bool:
    """Write the page; False where matplotlib is missing."""
    try:
        import matplotlib
    except ImportError:
        return False
    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "corelib"  # equal pages from equal measurements
    from matplotlib import pyplot

    families: dict[str, list[dict[str, Any]]] = {}
    for row in found["rows"]:
        if row["family"] and row["times"]:
            families.setdefault(row["family"], []).append(row)
    if not families:
        return False
    columns = 3
    lines = -(-len(families) // columns)
    page, axes = pyplot.subplots(lines, columns, figsize=(4 * columns, 3 * lines), squeeze=False)
    for axis in axes.flat[len(families) :]:
        axis.remove()
    for axis, (family, rows) in zip(axes.flat, families.items(), strict=False):
        rows = sorted(rows, key=lambda row: row["size"])
        for contestant, colour in SHOWN.items():
            points = [
                (row["size"], _speed(family, row["size"], row["times"][contestant]["min"]))
                for row in rows
                if contestant in row["times"]
            ]
            if points:
                axis.plot(
                    *zip(*points, strict=True), color=colour, label=contestant, marker=".", linewidth=1.5
                )
        axis.set(xscale="log", yscale="log", title=family)
        axis.set_xlabel("rows and columns" if family == "matmul" else "elements")
        axis.set_ylabel("GFLOP/s" if family == "matmul" else "elements per ns")
        axis.grid(True, which="major", linewidth=0.3)
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
    axes.flat[0].legend(frameon=False, fontsize=8)
    page.tight_layout()
    page.savefig(path, metadata={"Date": None})
    pyplot.close(page)
    return True


def _speed(family: str, size: int, seconds: float) -> float:
    return (2.0 * size**3 if family == "matmul" else float(size)) / seconds / 1e9
