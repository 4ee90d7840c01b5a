"""The examples of docs/clients.md run, on every backend."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[3] / "docs" / "clients.md"
EXAMPLES = {
    f"{section.splitlines()[0]} {number}": block
    for section in PAGE.read_text(encoding="utf-8").split("\n## ")
    for number, block in enumerate(re.findall(r"^```python\n(.*?)^```", section, re.MULTILINE | re.DOTALL), 1)
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_runs(name, device, capsys):
    exec(compile(EXAMPLES[name], f"docs/clients.md, {name}", "exec"), {})
