"""What is installed: exactly four packages with everything they read at run time, and nothing else."""

from __future__ import annotations

import configparser
import zipfile
from pathlib import Path

import pytest

PACKAGES = {"corelib", "corelib_reference", "corelib_cpu", "corelib_cuda"}

pytestmark = pytest.mark.xdist_group("wheels")


def names(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def test_top_level_is_the_four_packages(wheel):
    top = {name.split("/")[0] for name in names(wheel)}
    assert {entry for entry in top if not entry.endswith(".dist-info")} == PACKAGES
    assert len([entry for entry in top if entry.endswith(".dist-info")]) == 1


def test_every_kernel_source_is_inside(wheel, root):
    sources = [
        path for suffix in ("cu", "cuh", "h") for path in (root / "backends" / "cuda").rglob(f"*.{suffix}")
    ]
    expected = {path.relative_to(root / "backends" / "cuda").as_posix() for path in sources}
    assert any(name.endswith(".cu") for name in expected)
    assert expected <= set(names(wheel))


def test_every_module_is_inside(wheel, root):
    expected = set()
    for source_root, package in [(root, "corelib")] + [
        (folder, f"corelib_{folder.name}")
        for folder in sorted((root / "backends").iterdir())
        if folder.is_dir()
    ]:
        expected |= {p.relative_to(source_root).as_posix() for p in (source_root / package).rglob("*.py")}
    assert {name for name in names(wheel) if name.endswith(".py")} == expected


def test_the_templates_of_a_new_backend_are_inside(wheel, root):
    expected = {p.relative_to(root).as_posix() for p in (root / "corelib" / "scaffold").rglob("*.txt")}
    assert len(expected) == 6
    assert expected <= set(names(wheel))


def test_the_golden_vectors_of_the_conformance_suite_are_inside(wheel, root):
    folder = root / "corelib" / "conformance" / "vectors"
    expected = {p.relative_to(root).as_posix() for p in folder.glob("*.json")}
    assert len(expected) > 30
    assert expected <= set(names(wheel))


def test_types_and_licence_are_inside(wheel):
    inside = names(wheel)
    assert "corelib/py.typed" in inside
    assert any(name.endswith("licenses/LICENSE") for name in inside)


def test_entry_points_name_the_three_backends_and_the_script(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("entry_points.txt"))
        parser = configparser.ConfigParser()
        parser.read_string(archive.read(name).decode())
    assert dict(parser["corelib.plugins"]) == {
        "reference": "corelib_reference.plugin",
        "cpu": "corelib_cpu.plugin",
        "cuda": "corelib_cuda.plugin",
    }
    assert dict(parser["console_scripts"]) == {"corelib": "corelib.__main__:main"}


def test_editable_install_is_a_plain_pth(editable_wheel, root):
    inside = [name for name in names(editable_wheel) if ".dist-info/" not in name]
    assert len(inside) == 1
    assert inside[0].endswith(".pth")
    with zipfile.ZipFile(editable_wheel) as archive:
        lines = archive.read(inside[0]).decode().split()
    folders = {str(root), *(str(root / "backends" / name) for name in ("reference", "cpu", "cuda"))}
    assert set(lines) == folders, (
        "only folders: no import hook that an editor or a type checker cannot follow"
    )
