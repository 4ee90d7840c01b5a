"""Who may know whom: the floors of the framework, and what a backend may touch. All of it read from the source."""

from __future__ import annotations

import ast
import graphlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# The floors, lowest first. A module imports from lower floors only, and never from its neighbours on the same floor;
# inside a package of one floor (ops, nn, ...) modules may import each other, without a circle.
FLOORS: list[set[str]] = [
    {"errors", "layout"},
    {"dtypes"},
    {"params", "rules", "samples"},
    {"op"},
    {"capture"},
    {"printing", "backend", "dlpack", "hookspecs"},
    {"tensor"},
    {"binding", "tree", "compile.graph"},
    {"compile.absorb", "compile.products"},
    {"compile.fuse"},
    {"registry"},
    {"compile.joined"},
    {"replay"},
    {"tape"},
    {"walk"},
    {"dispatch"},
    {"ops"},
    {"watching"},
    {
        "plugin_api",
        "autograd",
        "random",
        "support",
        "drawing",
        "notebook",
        "info",
        "linalg",
        "fft",
        "scaffold",
    },
    {"nn"},
    {"optim", "data", "quantization", "serialize", "transforms", "numerical", "matrix"},
    {"compile"},
    {"conformance", "train"},
    {"__init__"},
    {"cli", "demo", "warmup"},
    {"__main__"},
]
FLOOR = {module: height for height, modules in enumerate(FLOORS) for module in modules}

# What a plugin, anybody's, may import of corelib.
PLUGIN_API = {
    "corelib",
    "corelib.plugin_api",
    "corelib.errors",
    "corelib.dtypes",
    "corelib.backend",
    "corelib.compile.graph",
    "corelib.dlpack",
    "corelib.ops",
    "corelib.params",
    "corelib.rules",
    "corelib.samples",
}

BACKEND_PACKAGES = sorted(p for p in (ROOT / "backends").glob("*/corelib_*") if p.is_dir())
HEAVY = {"numpy", "numba", "llvmlite", "cupy", "torch", "scipy", "array_api_compat", "safetensors"}


def python_files(*folders: str) -> list[Path]:
    return sorted(
        path
        for folder in folders
        for path in (ROOT / folder).rglob("*.py")
        if not {".venv", "build", "dist", "__pycache__"} & set(path.relative_to(ROOT).parts)
    )


def module_name(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts)


def package_of(file: Path, root: Path = ROOT) -> str:
    return ".".join(file.relative_to(root).parent.parts)


def room(module: str) -> str:
    """corelib.ops.linalg -> ops: the unit that has a floor."""
    parts = module.split(".")
    if parts[1:2] == ["compile"] and parts[2:3] in (
        ["absorb"],
        ["products"],
        ["graph"],
        ["fuse"],
        ["joined"],
    ):  # what eager composites need stands low
        return ".".join(parts[1:3])
    return parts[1] if len(parts) > 1 else "__init__"


def relative(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("file", python_files("corelib"), ids=relative)
def test_floor_is_known(file):
    assert room(module_name(file)) in FLOOR, "a new module of corelib needs its floor in FLOORS"


@pytest.mark.parametrize("file", python_files("corelib"), ids=relative)
def test_imports_run_downwards(file, imports):
    own = room(module_name(file))
    upwards = []
    for imported in imports(file, package_of(file)):
        if not imported.at_import or imported.module.split(".")[0] != "corelib":
            continue
        other = room(imported.module)
        if other != own and FLOOR.get(other, len(FLOORS)) >= FLOOR[own]:
            upwards.append(f"{relative(file)}:{imported.line} imports {imported.module}")
    assert upwards == []


def test_there_is_no_circle(imports):
    graph: dict[str, set[str]] = {}
    known = {module_name(file).removesuffix(".__init__") for file in python_files("corelib")}
    for file in python_files("corelib"):
        name = module_name(file).removesuffix(".__init__")
        names = {i.module for i in imports(file, package_of(file)) if i.at_import}
        # A package's __init__ gathers its own modules, which may ask the package for its table of ops later on.
        graph[name] = {n for n in names & known if n != name and not name.startswith(n + ".")}
    tuple(graphlib.TopologicalSorter(graph).static_order())


@pytest.mark.parametrize("file", python_files("corelib"), ids=relative)
def test_the_core_knows_no_backend(file, imports):
    forbidden = {p.name for p in BACKEND_PACKAGES} | {"corelib_numpy", "numba", "llvmlite", "cupy", "torch"}
    assert [f"line {i.line}: {i.module}" for i in imports(file) if i.module.split(".")[0] in forbidden] == []


@pytest.mark.parametrize("file", python_files("corelib"), ids=relative)
def test_the_core_names_no_backend_package(file):
    tree = ast.parse(file.read_text(encoding="utf-8"))
    strings = [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
    packages = {p.name for p in BACKEND_PACKAGES}
    assert [s for s in strings for package in packages if s == package or s.startswith(package + ".")] == []


@pytest.mark.parametrize("file", python_files("corelib"), ids=relative)
def test_the_core_imports_nothing_heavy_at_import(file, imports):
    heavy = [i for i in imports(file) if i.at_import and i.module.split(".")[0] in HEAVY]
    assert [f"line {i.line}: {i.module}" for i in heavy] == []


TOYS = ROOT / "tests" / "integration" / "toy_transformations.py"  # backends too


@pytest.mark.parametrize("file", [*python_files("backends", "plugins"), TOYS], ids=relative)
def test_a_backend_uses_the_public_plugin_api_only(file, imports):
    # backends/cpu/corelib_cpu/x.py: the source root is two levels below the repository's.
    source_root = ROOT.joinpath(*file.relative_to(ROOT).parts[:2])
    outside = []
    for imported in imports(file, package_of(file, source_root)):
        top = imported.module.split(".")[0]
        if (
            top == "corelib"
            and imported.module not in PLUGIN_API
            and not imported.module.startswith("corelib.ops.")
        ):
            outside.append(f"line {imported.line}: {imported.module}")
        if top.startswith("corelib_") and top != file.relative_to(source_root).parts[0]:
            outside.append(f"line {imported.line}: another backend, {imported.module}")
    assert outside == []


@pytest.mark.parametrize(
    "file", [f for f in python_files("backends", "plugins") if f.name == "plugin.py"], ids=relative
)
def test_a_plugin_module_imports_nothing_heavy(file, imports):
    allowed = {"corelib", "__future__", "typing"}
    others = {i.module.split(".")[0] for i in imports(file) if i.at_import} - allowed
    assert others == set()


@pytest.mark.parametrize(
    "file", python_files("corelib", "backends", "plugins", "tests", "benchmarks", "docs"), ids=relative
)
def test_module_says_why_it_exists(file):
    assert ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))), "a module opens with why it exists"


@pytest.mark.parametrize("file", python_files("corelib", "backends", "plugins"), ids=relative)
def test_module_stays_one_idea(file):
    lines = file.read_text(encoding="utf-8").count("\n")
    assert lines <= 600, "over 500 lines is a sign to redraw; over 600 it is time"
