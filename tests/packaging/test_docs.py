"""The guides say what the code says: hooks under their exact signatures, the walk-through equal to the plugin."""

from __future__ import annotations

import dataclasses
import inspect
import re
import types
from pathlib import Path

import pytest

from corelib import hookspecs
from corelib.backend import BackendInfo

ROOT = Path(__file__).resolve().parents[2]
PLUGIN = ROOT / "plugins" / "corelib_numpy"
HOOKS = {name: f for name, f in vars(hookspecs).items() if hasattr(f, "corelib_spec")}


def blocks(page: str, label: str) -> list[str]:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{re.escape(label)}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def lines(text: str) -> list[str]:
    """Without blank lines: a page may separate two parts differently."""
    return [line for line in text.splitlines() if line.strip()]


@pytest.mark.parametrize(
    ("label", "file"),
    [
        ("toml", "pyproject.toml"),
        ("python file=plugin", "corelib_numpy/plugin.py"),
        ("python file=backend", "corelib_numpy/backend.py"),
    ],
)
def test_the_walk_through_is_the_plugin(label, file):
    assert lines("".join(blocks("writing-a-backend.md", label))) == lines((PLUGIN / file).read_text())


def test_the_plugin_stays_small():
    counts = {
        file.name: len(file.read_text().splitlines()) for file in (PLUGIN / "corelib_numpy").glob("*.py")
    }
    assert sum(counts.values()) < 230, counts


def signature(hook) -> str:
    return hook.__name__ + str(inspect.signature(hook)).replace("'", "")


def test_every_hook_is_documented_under_its_signature():
    headings = re.findall(r"^### `(.*)`$", (ROOT / "docs" / "plugins.md").read_text(), re.MULTILINE)
    assert headings == [signature(hook) for hook in HOOKS.values()]


@pytest.mark.parametrize("name", HOOKS)
def test_a_hook_that_stops_at_the_first_result_says_so(name):
    stops = HOOKS[name].corelib_spec["firstresult"]
    page = (ROOT / "docs" / "plugins.md").read_text()
    (section,) = re.findall(rf"^### `{name}\(.*?(?=^##|\Z)", page, re.MULTILINE | re.DOTALL)
    assert ("Stops at first" in HOOKS[name].__doc__) is stops
    assert ("Stops at the\nfirst" in section or "Stops at the first" in section) is stops


def test_every_field_of_the_declaration_is_documented():
    page = (ROOT / "docs" / "plugins.md").read_text()
    documented = re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)
    assert set(documented) == {field.name for field in dataclasses.fields(BackendInfo)}


@pytest.mark.parametrize(
    "block", blocks("plugins.md", "python"), ids=["declaration", "operation", "profiler"]
)
def test_examples_run(block):
    module = types.ModuleType("example")
    exec(compile(block, "docs/plugins.md", "exec"), vars(module))
    assert any(hasattr(value, "corelib_impl") for value in vars(module).values())


def test_the_page_on_transformations_runs():
    """Its blocks are one program, from top to bottom."""
    program = "\n".join(blocks("transforms.md", "python"))
    exec(compile(program, "docs/transforms.md", "exec"), {"__name__": "transforms"})


@pytest.mark.device("cpu")
def test_the_page_on_training_runs():
    """Its blocks are one program, from top to bottom."""
    import corelib

    before = corelib.get_backend()
    try:
        program = "\n".join(blocks("training.md", "python"))
        exec(compile(program, "docs/training.md", "exec"), {"__name__": "training"})
    finally:
        corelib.set_backend(before)


def test_the_page_on_generated_kernels_prints_what_it_shows(capsys):
    """Its blocks are one program; each is followed by what it prints."""
    pytest.importorskip("corelib_cpu.program")
    page = (ROOT / "docs" / "kernels-generated.md").read_text(encoding="utf-8")
    scope: dict[str, object] = {"__name__": "page"}
    pairs = re.findall(r"^```python\n(.*?)^```\n\n```\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert len(pairs) == page.count("```python\n")
    for code, shown in pairs:
        exec(compile(code, "docs/kernels-generated.md", "exec"), scope)
        assert capsys.readouterr().out.rstrip("\n") == shown.rstrip("\n")


def test_the_kernel_page_lists_every_primitive_under_its_signature(root):
    """docs/kernels.md: each primitive once, with the operands and parameters that its kernels get."""
    from corelib.op import OPS

    page = (root / "docs" / "kernels.md").read_text(encoding="utf-8")
    listed = re.findall(
        r"`(\w+\([^`]*\))`",
        "".join(line.split("|")[1] for line in page.splitlines() if line.startswith("| `")),
    )
    expected = []
    for op in (op for op in OPS if op.primitive and "/corelib/ops/" in op.where):
        operands = [f"*{o}" if op.variadic and o == op.operands[-1] else o for o in op.operands]
        star = ["*"] if op.params and not op.variadic else []
        expected.append(f"{op.name}({', '.join([*operands, *star, *op.params])})")
    assert sorted(listed) == sorted(expected)


def test_the_page_of_the_conformance_suite_tells_of_every_family_and_its_level():
    from corelib.conformance import FAMILIES

    page = (ROOT / "docs" / "conformance" / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ((?:`\w+` ?)+)\| L(\d) \|", page, re.MULTILINE)
    told = {name: int(level) for names, level in rows for name in re.findall(r"`(\w+)`", names)}
    assert told == {name: family.level for name, family in FAMILIES.items()}
