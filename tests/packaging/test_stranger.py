"""A stranger's backend: built, installed into a fresh environment beside corelib's wheel, and used there."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.xdist_group("wheels")


class Environment:
    """A virtual environment with the two wheels; the dependencies are those of the environment that runs the tests."""

    def __init__(self, folder: Path, wheels: list[Path]) -> None:
        self.folder = folder
        run = [sys.executable, "-m", "venv", "--without-pip", str(folder)]
        subprocess.run(run, check=True, capture_output=True)
        self.python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
        (site,) = [p for p in folder.rglob("site-packages") if p.is_dir()]
        # A folder in a .pth is searched, after the environment's own; .pth files in it (an editable corelib) are not read.
        (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
        self.install(*wheels)

    def install(self, *wheels: Path | str) -> None:
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(self.python)]
        how = ["--no-deps", "--no-index", "--no-build-isolation", "--quiet"]
        install = [*pip, "install", *how, *map(str, wheels)]
        done = subprocess.run(install, cwd=self.folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    def run(self, *arguments: str, status: int = 0) -> str:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "CORELIB_", "PIP_"))}
        command = [str(self.python), *arguments]
        run = subprocess.run(command, cwd=self.folder, env=kept, capture_output=True, text=True)
        assert run.returncode == status, run.stdout + run.stderr
        return run.stdout

    def script(self, code: str) -> str:
        return self.run("-W", "error", "-c", textwrap.dedent(code))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory, wheel, plugin_wheel):
    return Environment(tmp_path_factory.mktemp("stranger") / "venv", [wheel, plugin_wheel])


def test_both_come_from_the_wheels(stranger):
    out = stranger.script("""
        import corelib, corelib_numpy
        print(corelib.__file__)
        print(corelib_numpy.__file__)
    """)
    assert all(str(stranger.folder) in line for line in out.split())


def test_it_is_listed(stranger):
    (line,) = [
        line
        for line in stranger.run("-m", "corelib", "backends").splitlines()
        if re.search(r"^\W*numpy\b", line)
    ]
    assert "yes" in line
    assert "NumPy" in line


def test_ops(stranger):
    stranger.script("""
        import corelib as cl
        cl.set_backend("numpy")
        x = cl.asarray([[3.0, 1.0, 2.0], [-1.0, float("nan"), 0.5]])
        assert x.device == "numpy" and x.dtype == cl.float32
        assert type(x._data).__module__ == "numpy"
        assert x[0, ::-1].tolist() == [2.0, 1.0, 3.0]
        x[1, 1] = 4.0
        assert cl.max(x).item() == 4.0
        assert cl.argsort(x, axis=-1).tolist() == [[1, 2, 0], [0, 2, 1]]
        assert cl.sum(x, axis=0).tolist() == [2.0, 5.0, 2.5]
        assert cl.concat([x, x], axis=0).shape == (4, 3)
        assert (x @ x.mT).shape == (2, 2)
        assert cl.asarray([7, -7, 5], dtype=cl.int8).__floordiv__(0).tolist() == [0, 0, 0]
        assert cl.astype(cl.asarray([1e9, float("nan")]), cl.int8).tolist() == [127, 0]
        assert cl.asarray([1.0, 2.0])[cl.asarray([True, False])].tolist() == [1.0]
    """)


def test_refusals_are_the_cores(stranger):
    stranger.script("""
        import corelib as cl
        words = {}
        for device in ("numpy", "reference"):
            x = cl.ones((2, 3), device=device)
            refusals = []
            for attempt in (lambda: x + cl.ones((4,), device=device), lambda: x @ x, lambda: x[5], lambda: cl.sum(x, axis=7)):
                try:
                    attempt()
                except cl.CorelibError as error:
                    refusals.append((type(error).__name__, str(error)))
            words[device] = refusals
        assert len(words["numpy"]) == 4, words
        assert words["numpy"] == words["reference"], words
    """)


def test_gradients(stranger):
    stranger.script("""
        import corelib as cl
        for device in ("numpy", "reference"):
            with cl.use_backend(device):
                x = cl.asarray([[0.1, 0.2], [0.3, -0.4]], dtype=cl.float64)
                f = lambda x: cl.sum(cl.softmax(cl.tanh(x @ x.mT), axis=-1)[:, 0] ** 2)
                assert cl.gradcheck(f, (x,))
                first, second = cl.grad(f)(x), cl.grad(lambda x: cl.sum(cl.grad(f)(x) ** 2))(x)
                results = [*first.to("reference").tolist(), *second.to("reference").tolist()]
                known = globals().setdefault("known", results)
                for row, other in zip(results, known):
                    assert all(abs(a - b) < 1e-13 for a, b in zip(row, other)), (device, results, known)
    """)


def test_arrays_without_axes_that_are_python_floats_stay_arrays(stranger):
    """numpy.float64, a 0-d result of NumPy, is a subclass of float: it must not be taken for a Python scalar."""
    stranger.script("""
        import corelib as cl
        f = lambda x: cl.gelu(cl.exp(x) * cl.sin(x), approximate="tanh")
        for device in ("numpy", "reference"):
            with cl.use_backend(device):
                x = cl.asarray(0.5, dtype=cl.float64) * 1.5
                results = [f(x).item(), cl.grad(f)(x).item(), cl.grad(cl.grad(f))(x).item()]
                known = globals().setdefault("known", results)
                assert all(abs(a - b) < 1e-13 for a, b in zip(results, known)), (device, results, known)
    """)


def test_random_numbers_are_those_of_the_reference(stranger):
    stranger.script("""
        import corelib as cl
        def draw(device):
            with cl.use_backend(device):
                how = {"generator": cl.random.Generator(7)}
                drawn = [cl.random.uniform((5,), **how), cl.random.integers(0, 100, (5,), **how), cl.random.permutation(9, **how)]
                assert all(x.device == device for x in drawn)
                return [x.tolist() for x in drawn]
        assert draw("numpy") == draw("reference")
    """)


def test_training(stranger):
    out = stranger.script("""
        import corelib as cl
        from corelib import nn, optim
        cl.set_backend("numpy")
        cl.random.seed(0)
        x = cl.asarray([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
        y = cl.asarray([[0.0], [1.0], [1.0], [0.0]])
        model = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 1))
        optimizer = optim.AdamW(model.parameters(), lr=0.05)
        for step in range(200):
            loss = cl.mean((model(x) - y) ** 2)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        assert {p.device for p in model.parameters()} == {"numpy"}
        print(loss.item())
    """)
    assert float(out) < 0.01


def test_the_guides_example_runs(stranger):
    page = (ROOT / "docs" / "writing-a-backend.md").read_text()
    (block,) = re.findall(r"^```python run\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    (promised,) = re.findall(r"print\(.*\)  # (.*)", block)
    assert stranger.script(block).strip() == promised


# -- a stranger who has just begun ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sprout(stranger, build):
    """What `corelib new-backend` writes, from the installed wheel's templates, built and installed beside it."""
    project = stranger.folder / "corelib-sprout"
    out = stranger.run("-m", "corelib", "new-backend", "sprout")
    assert "now: pip install -e corelib-sprout" in out
    stranger.install(build(project, "wheel", project / "dist"))
    shutil.rmtree(project / "corelib_sprout")  # what runs is what was installed
    return stranger


def test_a_new_backend_is_listed_and_shows_what_is_its_own(sprout):
    (line,) = [
        line for line in sprout.run("-m", "corelib", "backends").splitlines() if line.startswith("sprout ")
    ]
    assert re.match(r"sprout +yes +yes +\d+/\d+ +2 ", line)
    rows = [line.split(maxsplit=2) for line in sprout.run("-m", "corelib", "support", "sprout").splitlines()]
    assert any(row[:1] == ["add"] and row[-1].endswith("native") for row in rows)
    assert any(row[:1] == ["sin"] and row[-1].endswith("from reference") for row in rows)


def test_a_new_backend_conforms(sprout):
    """In worker processes, which find it as everybody does: by its entry point."""
    ops = ["--op", "add", "--op", "exp", "--op", "softmax"]
    out = sprout.run("-m", "corelib", "conformance", "sprout", "--profile", "smoke", "-j", "1", *ops)
    assert " 0 failed" in out
    assert re.search(r"^add +native\b", out, re.MULTILINE)


def test_the_tests_of_a_new_backend_pass(sprout):
    tests = str(sprout.folder / "corelib-sprout" / "tests")
    out = sprout.run("-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-k", "exp", tests)
    assert "passed" in out


# -- the guide -----------------------------------------------------------------------------------------------


def carry_out(guide: str, environment: Environment) -> dict[str, str]:
    """Do what the page says, block by block; returns what each command printed."""
    said = {}
    for label, block in re.findall(r"^```(.+)\n((?:.*\n)*?)```", guide, re.MULTILINE):
        if label.startswith("sh"):
            for command in block.splitlines():
                program, *arguments = shlex.split(command)
                if program == "pip":
                    environment.install(*arguments[1:])
                elif program == "pytest":
                    said[command] = environment.run(
                        "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments
                    )
                else:
                    status = int(label == "sh fails")
                    assert program == "corelib", command
                    said[command] = environment.run("-m", "corelib", *arguments, status=status)
        elif label == "python file=backend":
            file = environment.folder / "corelib-sprout" / "corelib_sprout" / "backend.py"
            file.write_text(file.read_text() + "\n\n" + block)
        elif label == "python file=plugin":
            file = environment.folder / "corelib-sprout" / "corelib_sprout" / "plugin.py"
            before = file.read_text()
            empty = "DEVIATIONS: dict[str, str] = {}\n"
            assert before.count(empty) == 1
            file.write_text(before.replace(empty, block))
        else:
            assert label == "python example", label
    return said


@pytest.mark.slow
def test_the_guide_leads_from_nothing_to_a_badge(tmp_path, wheel):
    guide = (ROOT / "docs" / "conformance.md").read_text(encoding="utf-8")
    environment = Environment(tmp_path / "venv", [wheel])
    said = carry_out(guide, environment)
    (example,) = re.findall(r"^```python example\n(.*?)^```", guide, re.MULTILINE | re.DOTALL)
    shown = next(text for command, text in said.items() if "--scripts" in command)
    scripts = [file.read_text() for file in (environment.folder / "scripts").glob("*.py")]
    assert example in scripts
    assert any("ulp apart; allowed: 2 ulp" in script for script in scripts)
    assert all(script in shown for script in scripts)
    assert "as a script:" in next(text for command, text in said.items() if "repro" in command)
    assert " 0 known deviations" not in said["corelib conformance sprout --op tan"].splitlines()[-1]
    assert " passed" in next(text for command, text in said.items() if command.startswith("pytest"))
    badge = next(text for command, text in said.items() if "--badge" in command)
    assert " 0 failed" in badge
    assert "<svg" in (environment.folder / "corelib-sprout" / "badge.svg").read_text()
