"""docs/nn.md: its program runs, prints what it shows, and its tables hold for every layer that there is."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest

import corelib
from corelib import nn, ops
from corelib.tree import tensors

PAGE = (Path(__file__).parents[2] / "docs" / "nn.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `((\w+)\([^`]*\))` \| `([^`]*)` \| `([^`]*)` \|", PAGE, re.MULTILINE)
CONTAINERS = {"Sequential", "ModuleList", "ModuleDict", "ParameterList", "ParameterDict", "Module"}


def test_the_program_of_the_page_runs_and_prints_what_it_shows(capsys):
    program = "".join(re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))
    with corelib.use_backend("reference"):
        exec(compile(program, "docs/nn.md", "exec"), {"__name__": "page"})
    (shown,) = re.findall(r"^```text\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert capsys.readouterr().out == shown


def test_every_layer_and_loss_has_a_row():
    modules = {
        n for n in nn.__all__ if inspect.isclass(getattr(nn, n)) and issubclass(getattr(nn, n), nn.Module)
    }
    assert {name for _, name, _, _ in ROWS} == modules - CONTAINERS


def operands(text):
    for kind, shape, numbers in re.findall(r"(int )?(\([\d, ]*\))|(\d+(?:,\d+)+)", text):
        if numbers:
            yield [int(n) for n in numbers.split(",")]
        else:
            yield (
                ops.zeros(ast.literal_eval(shape), dtype="int64")
                if kind
                else ops.full(ast.literal_eval(shape), 0.5)
            )


@pytest.mark.parametrize(("build", "name", "given", "result"), ROWS, ids=[row[0] for row in ROWS])
def test_a_row_holds(build, name, given, result):
    with corelib.use_backend("reference"):
        corelib.random.seed(0)
        layer = eval(f"nn.{build}", {"nn": nn})
        found = tensors([layer(*operands(given))])
    assert " ".join(str(y.shape) for y in found) == result
