"""What the packaging tests share: the repository's root, a reader of imports, and the wheels, built once."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]


class Import(NamedTuple):
    """One imported module of a file: its dotted name, where, and whether importing the file runs it."""

    module: str
    line: int
    at_import: bool


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def _statements(tree: ast.Module) -> Iterator[tuple[ast.AST, bool]]:
    """Every node, with whether it runs when the module is imported: not inside a function, not for types only."""
    stack: list[tuple[ast.AST, bool]] = [(node, True) for node in tree.body]
    while stack:
        node, runs = stack.pop()
        yield node, runs
        if _is_type_checking(node):
            stack.extend((child, False) for child in node.body)
            stack.extend((child, runs) for child in node.orelse)
            continue
        inner = runs and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        stack.extend((child, inner) for child in ast.iter_child_nodes(node))


def _module_exists(name: str, roots: list[Path]) -> bool:
    path = Path(*name.split("."))
    return any((root / path).is_dir() or (root / path).with_suffix(".py").is_file() for root in roots)


def read_imports(file: Path, package: str = "") -> list[Import]:
    """The modules that a file imports. `package` resolves relative imports; `from p import m` counts as p.m where
    p.m is a module of this repository, and as p otherwise."""
    roots = [ROOT, *sorted((ROOT / "backends").glob("*")), *sorted((ROOT / "plugins").glob("*"))]
    found = []
    for node, runs in _statements(ast.parse(file.read_text(encoding="utf-8"), str(file))):
        if isinstance(node, ast.Import):
            found += [Import(alias.name, node.lineno, runs) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, *filter(None, [node.module])])
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                found.append(Import(inner if _module_exists(inner, roots) else base, node.lineno, runs))
    return found


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def imports() -> Callable[..., list[Import]]:
    return read_imports


def build_wheel(project: Path, target: str, out: Path) -> Path:
    """Build in this environment and without a network, as `pip wheel --no-build-isolation` does."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(out)]
    run = subprocess.run(command, cwd=project, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    (wheel,) = out.glob("*.whl")
    return wheel


@pytest.fixture(scope="session")
def build() -> Callable[[Path, str, Path], Path]:
    return build_wheel


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(ROOT, "wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def editable_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(ROOT, "wheel:editable", tmp_path_factory.mktemp("editable"))


@pytest.fixture(scope="session")
def plugin_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(ROOT / "plugins" / "corelib_numpy", "wheel", tmp_path_factory.mktemp("plugin"))
