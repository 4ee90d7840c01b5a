"""What stands around the code: the Makefile's refusals, and that nothing is tied to one machine or package index."""

from __future__ import annotations

import os
import re
import shutil
import subprocess

import pytest

needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def make(root, *arguments, **environment):
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
    command = ["make", "--no-print-directory", *arguments]
    return subprocess.run(command, cwd=root, env={**kept, **environment}, capture_output=True, text=True)


@needs_make
@pytest.mark.parametrize("target", ["demo", "test", "check", "bench"])
def test_an_old_python_is_refused_in_words(root, tmp_path, target):
    python = tmp_path / "python3"
    python.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "Python 3.9.2"\nexit 1\n')
    python.chmod(0o755)
    run = make(root, target, f"PYTHON={python}", f"VENV={tmp_path / 'venv'}")
    assert run.returncode != 0
    assert "corelib needs Python 3.11 or newer" in run.stderr
    assert "Python 3.9.2" in run.stderr
    assert f"make {target} PYTHON=python3.12" in run.stderr
    assert not (tmp_path / "venv").exists()


@needs_make
@pytest.mark.parametrize("target", ["demo", "test", "check", "bench"])
def test_a_prepared_environment_is_not_touched(root, tmp_path, target):
    for stamp in (".created", f".has-{target}"):
        (tmp_path / stamp).touch()
    run = make(root, "--dry-run", target, f"VENV={tmp_path}")
    assert run.returncode == 0, run.stderr
    assert "pip" not in run.stdout


def test_continuous_integration_refuses_in_words(root, tmp_path):
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("bash", "dirname", "env"):
        (tools / tool).symlink_to(shutil.which(tool))
    environment = {"PATH": str(tools), "HOME": str(tmp_path)}
    run = subprocess.run(
        [shutil.which("bash"), str(root / ".ci" / "run")], env=environment, capture_output=True, text=True
    )
    assert run.returncode != 0
    assert "corelib needs Python 3.11 or newer" in run.stderr


def test_no_package_index_is_named(root):
    pattern = re.compile(r"index-url|find-links|--trusted-host|/simple\b|pypi\.org", re.IGNORECASE)
    files = [root / name for name in ("Makefile", "pyproject.toml", ".ci/run")]
    assert [file.name for file in files if pattern.search(file.read_text())] == []
