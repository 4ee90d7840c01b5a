"""The `cuda` backend uses a small part of CuPy: what the stand-in of tests/cuda_emulator has, all of that, and nothing else."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "cuda_emulator"))
import emulated_cupy

from corelib_cuda import launch

REASON = emulated_cupy.unusable()
# Asked of CuPy and of nobody else: of a device or of memory that the stand-in does not have.
DEVICE_ONLY = {"RawModule", "from_dlpack"}


def chains(tree):
    """Dotted names that begin at CuPy, as in cupy().cuda.Stream or cp.ndarray."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute):
            continue
        parts, inner = [], node
        while isinstance(inner, ast.Attribute):
            parts.append(inner.attr)
            inner = inner.value
        called = inner.func if isinstance(inner, ast.Call) else None
        by_call = isinstance(called, ast.Name) and called.id == "cupy"
        by_launch = isinstance(called, ast.Attribute) and called.attr == "cupy"
        if by_call or by_launch or (isinstance(inner, ast.Name) and inner.id == "cp"):
            yield ".".join(reversed(parts))


def used():
    found = {}
    for file in sorted(launch.FOLDER.glob("*.py")):
        for chain in chains(ast.parse(file.read_text(encoding="utf-8"))):
            found.setdefault(chain, file.name)
    return found


def resolved(module, chain):
    """Whether a dotted name exists, as far as it consists of modules and their names."""
    for part in chain.split("."):
        if not hasattr(module, part):
            return False
        module = getattr(module, part)
        if isinstance(module, type):
            return True
    return True


@pytest.mark.skipif(REASON is not None, reason=str(REASON))
def test_the_backend_asks_cupy_for_what_the_stand_in_has_and_no_more():
    with emulated_cupy.installed() as cupy:
        missing = {
            c: f for c, f in used().items() if c.split(".")[0] not in DEVICE_ONLY and not resolved(cupy, c)
        }
    assert missing == {}


@pytest.mark.skipif(REASON is not None, reason=str(REASON))
def test_the_stand_in_has_nothing_that_nobody_asks_for():
    names = {c.split(".")[0] for c in used()}
    deeper = {c.split(".")[1] for c in used() if c.startswith("cuda.")}
    with emulated_cupy.installed() as cupy:
        unused = {n for n in vars(cupy) if not n.startswith("__")} - names
        unused |= {n for n in vars(cupy.cuda) if not n.startswith("__")} - deeper
    # an event's times are for benchmarks/gpu.py
    assert unused <= {"get_elapsed_time"}


def test_what_is_asked_for_exists_in_cupy():
    """In the real one, where it is installed: it can be imported without a driver."""
    cupy = pytest.importorskip("cupy")
    assert {c: f for c, f in used().items() if not resolved(cupy, c)} == {}
