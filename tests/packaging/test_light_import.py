"""`import corelib` is light, and so is finding the plugins: measured in a fresh interpreter."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import metadata

import pytest

HEAVY = ["numpy", "numba", "llvmlite", "cupy", "torch", "scipy", "array_api_compat", "safetensors"]


def modules_after(statement: str) -> set[str]:
    code = f"import sys; before = set(sys.modules); {statement}; import json; print(json.dumps(sorted(set(sys.modules) - before)))"
    run = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return set(json.loads(run.stdout.splitlines()[-1]))


def heavy(modules: set[str]) -> set[str]:
    return {name for name in modules if name.split(".")[0] in HEAVY}


@pytest.fixture(scope="module")
def after_import() -> set[str]:
    return modules_after("import corelib")


def test_import_loads_nothing_heavy(after_import):
    assert heavy(after_import) == set()


def test_import_loads_no_plugin(after_import):
    assert {name for name in after_import if name.startswith("corelib_")} == set()


def test_import_takes_a_bounded_set_of_modules(after_import):
    own = {name for name in after_import if name.split(".")[0] == "corelib"}
    others = after_import - own
    assert len(own) <= 80, sorted(own)  # each family of ops is a module
    assert len(others) <= 90, sorted(others)


@pytest.mark.parametrize(
    "entry", metadata.entry_points(group="corelib.plugins"), ids=lambda entry: entry.name
)
def test_a_plugin_module_loads_nothing_heavy(entry):
    assert heavy(modules_after(f"import {entry.module}")) == set()


def test_listing_the_backends_does_not_import_those_that_are_not_used():
    modules = modules_after("import corelib; corelib.asarray([1.0], device='reference')")
    assert heavy(modules) <= {"numpy"} | {name for name in modules if name.startswith("numpy.")}


def test_an_optimizing_interpreter_strips_docstrings_and_nothing_else():
    code = "import corelib; print(corelib.exp(corelib.zeros(2, device='reference')).tolist())"
    run = subprocess.run([sys.executable, "-OO", "-c", code], capture_output=True, text=True)
    assert (run.returncode, run.stdout) == (0, "[1.0, 1.0]\n"), run.stderr
