"""`corelib new-backend`: what it writes is a backend that passes, and tells its own kernels from those it inherits."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys

import pytest

from corelib import support
from corelib.__main__ import main
from corelib.conformance import check
from corelib.dtypes import float32
from corelib.errors import ArgumentError
from corelib.op import BY_NAME
from corelib.registry import backends, register, registry, unregister
from corelib.scaffold import new_backend

FILES = ["README.md", "corelib_sprout/__init__.py", "corelib_sprout/backend.py", "corelib_sprout/plugin.py", "pyproject.toml",
         "tests/test_conformance.py"]  # fmt: skip


@pytest.fixture
def sprout(tmp_path, monkeypatch):
    """A new backend, registered without being installed."""
    new_backend("sprout", tmp_path / "sprout")
    monkeypatch.syspath_prepend(str(tmp_path / "sprout"))
    plugin = importlib.import_module("corelib_sprout.plugin")
    register(plugin, "sprout")
    yield tmp_path / "sprout"
    unregister(plugin)
    for name in [m for m in sys.modules if m.partition(".")[0] == "corelib_sprout"]:
        del sys.modules[name]


def test_the_command_says_what_it_wrote_and_what_to_do_next(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["new-backend", "my_gpu"]) == 0
    text = capsys.readouterr().out
    folder = tmp_path / "corelib-my-gpu"
    files = sorted(p.relative_to(tmp_path).as_posix() for p in folder.rglob("*") if p.is_file())
    assert sorted(line.replace("\\", "/") for line in text.splitlines()[: len(FILES)]) == files
    assert [f.removeprefix("corelib-my-gpu/").replace("my_gpu", "sprout") for f in files] == FILES
    assert "pip install -e corelib-my-gpu; corelib support my_gpu; corelib conformance my_gpu" in text
    assert "class MyGpuBackend(Overlay)" in (folder / "corelib_my_gpu" / "backend.py").read_text()
    assert 'my_gpu = "corelib_my_gpu.plugin"' in (folder / "pyproject.toml").read_text()


def test_no_name_is_left_open(sprout):
    for file in FILES:
        assert "$" not in (sprout / file).read_text()


def test_it_passes_from_its_first_minute(sprout):
    ops = [BY_NAME[name] for name in ("add", "exp", "softmax", "sum", "take")]
    report = check("sprout", ops, profile="smoke")
    assert report.ok, report.text()


def test_it_tells_its_own_kernels_from_those_it_inherits(sprout, capsys):
    (status,) = [s for s in backends() if s.name == "sprout"]
    native = [op.name for op in BY_NAME.values() if support.support(op, status).how == support.NATIVE]
    assert native == ["add", "exp"]
    main(["support", "sprout"])
    rows = [re.split(r" {2,}", line.strip()) for line in capsys.readouterr().out.splitlines()]
    table = {row[0]: row[-1] for row in rows if len(row) == 3}
    assert table["add"] == "native"
    assert table["exp"] == "native: float half; from reference: complex"
    assert table["sin"] == "from reference"
    main(["explain", "exp"])
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("sprout"))
    assert re.search(r"sprout +native +float32 float64 +.*corelib_sprout/backend.py:\d+", row)


def test_a_kernel_that_is_wrong_does_not_pass(sprout):
    backend = sys.modules.get("corelib_sprout.backend") or importlib.import_module("corelib_sprout.backend")
    backend.kernels.add(BY_NAME["exp"], lambda x: x, [float32])
    registry._changed()
    assert not check("sprout", [BY_NAME["exp"]], profile="smoke", what=["value"]).ok


def test_the_tests_that_come_with_it_run(sprout):
    """As far as pytest and the names in them go: that the ops are tried is shown above."""
    code = """
import importlib, sys, pytest
from corelib.registry import register
register(importlib.import_module("corelib_sprout.plugin"), "sprout")
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-k", "exp or negative", "tests"]))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=sprout, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout


@pytest.mark.parametrize("name", ["", "my-gpu", "2d", "Gpu", "class", "a b", "../x", "gpu:1", "naïve"])
def test_a_bad_name_is_refused(name, tmp_path):
    with pytest.raises(ArgumentError, match="a backend's name is a Python identifier of small letters"):
        new_backend(name, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_name_that_is_taken_is_refused(tmp_path):
    with pytest.raises(ArgumentError, match=r"'cpu' is a backend already: choose another name \(backends"):
        new_backend("cpu", tmp_path / "new")
    with pytest.raises(ArgumentError, match="'repro' is a word of the command line already"):
        new_backend("repro", tmp_path / "new")


def test_a_package_that_exists_is_not_shadowed(tmp_path, monkeypatch):
    (tmp_path / "corelib_ghost").mkdir()
    (tmp_path / "corelib_ghost" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ArgumentError, match="a package corelib_ghost is installed already"):
        new_backend("ghost", tmp_path / "new")


def test_nothing_is_overwritten(tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("mine")
    assert main(["new-backend", "sprout", "--dir", str(tmp_path)]) == 2
    assert "is not empty: nothing was written" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]
    with pytest.raises(ArgumentError, match="is a file"):
        new_backend("sprout", tmp_path / "notes.txt")


def test_an_empty_folder_will_do(tmp_path):
    assert len(new_backend("sprout", tmp_path)) == len(FILES)
