"""The commands that the README and the guides name do exist."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest


def shell_lines(text: str) -> list[str]:
    blocks = re.findall(r"^```(?:sh|bash|console|text)?\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [line.removeprefix("$ ").split("#")[0].strip() for block in blocks for line in block.splitlines()]


@pytest.fixture(scope="module", params=["README.md", "CONTRIBUTING.md"])
def lines(request, root):
    return shell_lines((root / request.param).read_text(encoding="utf-8"))


def test_make_targets_exist(lines, root):
    rules = re.findall(r"^([a-z]+):", (root / "Makefile").read_text(), re.MULTILINE)
    named = [target for line in lines for target in re.findall(r"\bmake ([a-z]+)", line)]
    assert named
    assert [target for target in named if target not in rules] == []


def test_commands_exist(lines):
    usage = subprocess.run([sys.executable, "-m", "corelib", "--help"], capture_output=True, text=True).stdout
    named = [c for line in lines for c in re.findall(r"(?:^|python -m |/)corelib ([a-z]+)", line)]
    assert [command for command in named if not re.search(rf"\b{command}\b", usage)] == []


def test_every_target_is_explained(root):
    makefile = (root / "Makefile").read_text()
    (phony,) = re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    for target in phony.split():
        assert target == "help" or re.search(rf"^#   make {target} ", makefile, re.MULTILINE), target


def test_every_python_example_of_the_readme_runs(root):
    blocks = re.findall(
        r"^```python\n(.*?)^```", (root / "README.md").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    assert len(blocks) >= 5
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})


def test_the_readme_has_no_gaps(root):
    assert not re.search(r"^[A-Z]+_TABLE$", (root / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
