"""What a notebook shows: a module as a tree that unfolds, and the curves of a training run.

A tensor's view is in ``printing.py``; a watched run shows its graph (``drawing.py``). Curves are drawn by matplotlib,
which is imported when they are asked for.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from .errors import ArgumentError

STEPS = ("step", "epoch", "iteration")  # keys of a row that say where it is, the first that is there


def module_html(module: Any) -> str:
    """A module as nested lists that unfold: its class and settings, its parameters and buffers with dtype, shape, device
    and size, and the modules below it.
    """
    return f"<div class='corelib-module' style='font-family:monospace'>{_branch('', module, True)}</div>"


def _branch(name: str, module: Any, unfolded: bool) -> str:
    """One module with what is in it; a parameter that is not learned is marked."""
    count = sum(p.size for p in module.parameters())
    note = f" <span style='color:#6b6b6b'>{count:,} parameter{'s' * (count != 1)}</span>" if count else ""
    if not module.training:
        note += " <span style='color:#6b6b6b'>eval</span>"
    title = f"{escape(name)}: " if name else ""
    title += f"<b>{escape(type(module).__name__)}</b>({escape(module.extra_repr())}){note}"
    rows = [
        _row(n, p, "" if p.requires_grad else "frozen") for n, p in module.named_parameters(recurse=False)
    ]
    rows += [_row(n, b, "buffer") for n, b in module.named_buffers(recurse=False)]
    inside = f"<table style='margin:.2em 0 .2em 1.5em'>{''.join(rows)}</table>" if rows else ""
    inside += "".join(_branch(n, child, False) for n, child in module.named_children())
    if not inside:
        return f"<div style='margin-left:1em'>{title}</div>"
    unfold = " open='open'" if unfolded else ""
    return f"<details style='margin-left:1em'{unfold}><summary>{title}</summary>{inside}</details>"


def _row(name: str, x: Any, note: str) -> str:
    facts = [name, f"{x.dtype.name}{list(x.shape)}", x.device, f"{x.size * x.dtype.itemsize:,} B", note]
    return "<tr>" + "".join(f"<td style='text-align:left'>{escape(fact)}</td>" for fact in facts) + "</tr>"


# -- curves --------------------------------------------------------------------------------------------------

History = str | os.PathLike[str] | Mapping[str, Sequence[float]] | Iterable[Mapping[str, Any]]


def curves(history: History, path: str | os.PathLike[str] | None = None) -> Any:
    """The numbers of a training run as curves, by matplotlib; returns the figure, and writes it to ``path`` if given.

    ``history``: a mapping of names to numbers, one per step; or rows, each a mapping of names to numbers, of which
    ``step`` (or ``epoch``, ``iteration``) says where it is; or the path of a file with such a row as JSON in each line.
    Names that end alike (``train_loss``, ``val/loss``) share a panel. Values that are not finite are left out and marked
    at the bottom.

    Raises ArgumentError for a history without numbers, and ImportError, with what to install, without matplotlib.

    Example: ``corelib.notebook.curves({"train_loss": [2.0, 1.0], "val_loss": [2.1, 1.4]})``.
    """
    found = series(history)
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("curves: needs matplotlib: pip install matplotlib") from error
    panels: dict[str, list[str]] = {}
    for name in found:
        panels.setdefault(name.replace("/", "_").rpartition("_")[2], []).append(name)
    figure = Figure(figsize=(5 * len(panels), 3.2), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for ax, (panel, names) in zip(axes, panels.items(), strict=True):
        for name in names:
            steps, values = found[name]
            kept = [(s, v) for s, v in zip(steps, values, strict=True) if math.isfinite(v)]
            (line,) = ax.plot(
                [s for s, _ in kept], [v for _, v in kept], label=name, marker="." if len(kept) < 30 else ""
            )
            lost = [s for s, v in zip(steps, values, strict=True) if not math.isfinite(v)]
            ax.plot(lost, [0.02] * len(lost), "x", color=line.get_color(), transform=ax.get_xaxis_transform())
        ax.set_title(panel)
        ax.set_xlabel("step")
        ax.grid(alpha=0.3)
        ax.legend()
    if path is not None:
        figure.savefig(path)
    return figure


def series(history: History) -> dict[str, tuple[list[float], list[float]]]:
    """A history as steps and values by name. Rows need not all have every name."""
    if isinstance(history, str | os.PathLike):
        history = _rows(Path(history))
    found: dict[str, tuple[list[float], list[float]]] = {}
    if isinstance(history, Mapping):
        for name, values in history.items():
            found[name] = list(map(float, range(len(values)))), [_number(name, v) for v in values]
    else:
        for number, row in enumerate(history):
            if not isinstance(row, Mapping):
                raise ArgumentError(
                    f"curves: row {number} must be a mapping of names to numbers, got {row!r}"
                )
            step = next((row[key] for key in STEPS if key in row), number)
            for name, value in row.items():
                if name not in STEPS and isinstance(value, int | float) and not isinstance(value, bool):
                    steps, values = found.setdefault(name, ([], []))
                    steps.append(_number("step", step))
                    values.append(float(value))
    if not any(values for _, values in found.values()):
        raise ArgumentError("curves: there are no numbers in the history")
    return found


def _rows(path: Path) -> list[Any]:
    """The rows of a file with one JSON object in each line."""
    if not path.is_file():
        raise ArgumentError(f"curves: there is no file {path}")
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            rows += [json.loads(line)] if line.strip() else []
        except ValueError as error:
            raise ArgumentError(f"curves: line {number} of {path} is no JSON: {error}") from error
    return rows


def _number(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"curves: {name} must be numbers, got {value!r}") from error
