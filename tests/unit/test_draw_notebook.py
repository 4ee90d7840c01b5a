"""What a notebook shows: modules as trees, and training curves; and which histories are refused."""

from __future__ import annotations

import json
import math
import sys
import xml.etree.ElementTree as ET

import pytest

import corelib as cl
from corelib import nn, notebook
from corelib.errors import ArgumentError


@pytest.fixture
def model():
    model = nn.Sequential(
        nn.Linear(3, 4, device="reference"), nn.ReLU(), nn.Sequential(nn.Linear(4, 2, device="reference"))
    )
    model[0].bias.requires_grad_(False)
    model.register_buffer("scale", cl.ones((2,), device="reference"))
    return model


def test_a_module_is_a_tree_with_its_parameters(model):
    root = ET.fromstring(model._repr_html_())
    titles = ["".join(e.itertext()) for e in root.iter("summary")]
    assert titles[0] == "Sequential() 26 parameters"
    assert "0: Linear(in_features=3, out_features=4) 16 parameters" in titles
    assert "2: Sequential() 10 parameters" in titles
    rows = [[cell.text for cell in row] for row in root.iter("tr")]
    assert ["weight", "float32[4, 3]", "reference", "48 B", None] in rows
    assert ["bias", "float32[4]", "reference", "16 B", "frozen"] in rows
    assert ["scale", "float32[2]", "reference", "8 B", "buffer"] in rows


def test_only_the_outermost_is_unfolded(model):
    details = list(ET.fromstring(model._repr_html_()).iter("details"))
    assert [d.get("open") for d in details] == ["open", None, None, None]


def test_names_are_escaped():
    class Odd(nn.Module):
        def extra_repr(self):
            return "<b> & c"

    assert "&lt;b&gt; &amp; c" in Odd()._repr_html_()


def test_evaluation_is_said():
    assert "eval" in nn.ReLU().eval()._repr_html_()
    assert "eval" not in nn.ReLU()._repr_html_()


# -- histories -----------------------------------------------------------------------------------------------

ROWS = [
    {"step": 10, "loss": 2.0},
    {"step": 20, "loss": 1.0, "val_loss": 1.5},
    {"epoch": 3, "loss": 0.5, "note": "x"},
]


def test_rows_need_not_have_every_name():
    assert notebook.series(ROWS) == {"loss": ([10, 20, 3], [2.0, 1.0, 0.5]), "val_loss": ([20], [1.5])}


def test_a_file_of_rows_is_read(tmp_path):
    (tmp_path / "h.jsonl").write_text("\n".join(map(json.dumps, ROWS)) + "\n\n")
    assert notebook.series(tmp_path / "h.jsonl") == notebook.series(ROWS)


def test_a_mapping_has_a_number_per_step():
    found = notebook.series({"loss": [2, math.nan], "lr": cl.asarray([0.1, 0.2], dtype=cl.float64)})
    assert found["lr"] == ([0, 1], [0.1, 0.2])
    assert math.isnan(found["loss"][1][1])


@pytest.mark.parametrize(
    ("history", "words"),
    [
        ({}, "no numbers"),
        ([], "no numbers"),
        ({"loss": []}, "no numbers"),
        ([{"note": "x"}], "no numbers"),
        ([3.0], "row 0 must be a mapping"),
        ({"loss": ["a"]}, "loss must be numbers, got 'a'"),
        ([{"step": "a", "loss": 1.0}], "step must be numbers, got 'a'"),
        ("missing.jsonl", "there is no file missing.jsonl"),
    ],
    ids=["empty", "no-rows", "no-values", "words", "row", "value", "step", "file"],
)
def test_a_history_without_numbers_is_refused(history, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ArgumentError, match=words):
        notebook.series(history)


def test_a_damaged_file_is_refused_with_the_line(tmp_path):
    (tmp_path / "h.jsonl").write_text('{"loss": 1}\n{"loss": ')
    with pytest.raises(ArgumentError, match=r"line 2 of .*h.jsonl is no JSON"):
        notebook.curves(tmp_path / "h.jsonl")


# -- curves --------------------------------------------------------------------------------------------------


def test_names_that_end_alike_share_a_panel(tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install matplotlib")
    history = {"train_loss": [2, 1, math.nan, 0.5], "val/loss": [2, 1.5], "accuracy": [0.5, 0.9]}
    figure = notebook.curves(history, tmp_path / "c.svg")
    assert [ax.get_title() for ax in figure.axes] == ["loss", "accuracy"]
    lines = {line.get_label(): line.get_xydata().tolist() for line in figure.axes[0].lines}
    assert lines["train_loss"] == [[0, 2], [1, 1], [3, 0.5]], "without what is not finite"
    assert lines["val/loss"] == [[0, 2], [1, 1.5]]
    assert (tmp_path / "c.svg").stat().st_size > 1000


def test_without_matplotlib_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match="pip install matplotlib"):
        notebook.curves({"loss": [1.0]})
