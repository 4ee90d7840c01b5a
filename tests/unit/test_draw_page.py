"""docs/seeing.md: its examples run, print what the page shows, and draw the pictures that are beside it."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest

import corelib as cl

DOCS = Path(__file__).resolve().parents[2] / "docs"
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[+-]\d+)?")


def run(folder: Path) -> list[tuple[str, str]]:
    """Each block's output and what the page shows for it; the pictures are written into the folder."""
    page = (DOCS / "seeing.md").read_text(encoding="utf-8")
    blocks = re.findall(r"<!-- runs -->\n```python\n(.*?)```\n(?:\n```text\n(.*?)```)?", page, re.DOTALL)
    scope: dict[str, object] = {}
    outputs = []
    with contextlib.chdir(folder):
        for code, shown in blocks:
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(compile(code, "docs/seeing.md", "exec"), scope)
            outputs.append((printed.getvalue(), shown))
    return outputs


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install matplotlib")
    folder, before = tmp_path_factory.mktemp("seeing"), cl.get_backend()
    try:
        yield folder, run(folder)
    finally:
        cl.set_backend(before)


def test_the_examples_print_what_the_page_shows(page):
    assert len(page[1]) == 5
    for printed, shown in page[1]:
        assert printed == shown


@pytest.mark.parametrize("name", ["seeing-graph.svg", "seeing-watched.svg"])
def test_the_pictures_are_those_that_the_examples_draw(page, name):
    """Up to the last of three digits, which the mathematics library of another machine may round differently."""
    drawn, kept = ((folder / name).read_text(encoding="utf-8") for folder in (page[0], DOCS))
    assert NUMBER.sub("#", drawn) == NUMBER.sub("#", kept)
    pairs = zip(NUMBER.findall(drawn), NUMBER.findall(kept), strict=True)
    assert [(a, b) for a, b in pairs if abs(float(a) - float(b)) > 0.02 * abs(float(b))] == []


def test_the_pictures_are_small():
    assert all((DOCS / name).stat().st_size < 20_000 for name in ("seeing-graph.svg", "seeing-watched.svg"))
