"""Every example in a short form on ``cpu`` and a tiny one on ``reference``: it runs, and goes where it should.

The results of the whole runs stand in ``examples/README.md``; each example checks its own when it is run as a
program.
"""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

import corelib

FOLDER = Path(__file__).resolve().parents[2] / "examples"
NAMES = sorted(p.stem for p in FOLDER.glob("*.py") if p.stem != "common")


@pytest.fixture
def run(monkeypatch):
    """The result of an example's main, with the device afterwards as it was before."""
    monkeypatch.syspath_prepend(str(FOLDER))
    before = corelib.get_backend()

    def call(name, *options):
        return importlib.import_module(name).main([*options, "--no-torch"])

    yield call
    corelib.set_backend(before)


SHORT = {
    "airline_lstm": (["--steps", "60"], lambda r: r["lstm"] < 0.8 * r["naive"]),
    "derivatives": (
        ["--steps", "450"], lambda r: abs(r["distance"] - 2) < 0.5 and r["newton"] < 1e-9 and r["oscillator"] < 1,
    ),
    "digits_cnn": (
        ["--epochs", "4", "--samples", "480"],
        lambda r: r["float32"] > 0.5 and abs(r["int8, calibrated"] - r["float32"]) < 0.03,
    ),
    "digits_mlp": (["--epochs", "3"], lambda r: r["accuracy"] > 0.93),
    "gpt": (["--steps", "30", "--write", "5", "--width", "32", "--batch", "8"], lambda r: r["loss"] < 0.8 * r["first"]),
    "signal_fit": (["--steps", "100"], lambda r: r["frequency"] < 0.05 * r["grid"] and r["decibel"] > 15),
    "sklearn_grid": (["--epochs", "8"], lambda r: r["wine"] > 0.9 and r["diabetes"] > 0.35),
    "xor": (["--steps", "200"], lambda r: r["loss"] < 0.1 and r["difference"] < 1e-9),
}  # fmt: skip
TINY = {
    "airline_lstm": ["--steps", "1"],
    "derivatives": ["--steps", "3"],
    "digits_cnn": ["--epochs", "1", "--samples", "2"],
    "digits_mlp": ["--epochs", "1", "--samples", "64"],
    "gpt": ["--steps", "1", "--write", "1", "--width", "8", "--batch", "1"],
    "signal_fit": ["--steps", "2"],
    "sklearn_grid": ["--epochs", "1"],
    "xor": ["--steps", "5"],
}


@pytest.mark.device("cpu")
@pytest.mark.parametrize("name", NAMES)
def test_a_short_form_goes_towards_its_result(name, run):
    options, check = SHORT[name]
    found = run(name, *options)
    assert check(found), found


@pytest.mark.parametrize("name", NAMES)
def test_a_tiny_form_runs_on_the_reference(name, run):
    found = run(name, *TINY[name], "--backend", "reference")
    assert all(v == v for v in found.values())  # nothing is NaN


@pytest.mark.parametrize("name", NAMES)
def test_an_example_is_short_and_named_in_the_readme(name):
    text = (FOLDER / f"{name}.py").read_text(encoding="utf-8")
    assert len(text.splitlines()) < 150
    assert ast.get_docstring(ast.parse(text))
    assert f"`{name}.py`" in (FOLDER / "README.md").read_text(encoding="utf-8")


def test_the_passengers_are_the_series_that_is_named():
    lines = (FOLDER / "data" / "airline_passengers.csv").read_text(encoding="utf-8").splitlines()
    numbers = [int(line.split(",")[1]) for line in lines if line[:2] == "19"]
    assert (len(numbers), numbers[0], numbers[-1], max(numbers), sum(numbers)) == (144, 112, 432, 622, 40363)
    assert "Box and G. M. Jenkins" in lines[1]
