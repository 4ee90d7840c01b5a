"""The demo: it trains, compares, draws and says what comes next; and it tells when backends disagree."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from types import ModuleType, SimpleNamespace

import pytest

import corelib
from corelib import demo, ops, support
from corelib.backend import BackendInfo, KernelSet, Overlay
from corelib.errors import ArgumentError, BackendError
from corelib.hookspecs import hookimpl
from corelib.registry import register, registry, unregister

HEAD = ["backend", "usable", "s/epoch", "vs reference", "gradients", "test accuracy"]


def run(folder, **options):
    """The exit status and what was said."""
    said = []
    status = demo.run(output=str(folder), say=said.append, **options)
    return status, "\n".join(said)


def rows(text: str) -> dict[str, list[str]]:
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if re.split(r" {2,}", line) == HEAD)
    cells = [re.split(r" {2,}", line) for line in lines[start + 1 : lines.index("", start)]]
    return {row[0]: dict(zip(HEAD, row, strict=True)) for row in cells}


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """A run of two steps and one epoch."""
    folder = tmp_path_factory.mktemp("demo") / "new" / "folder"
    status, text = run(folder, steps=2, epochs=1)
    return SimpleNamespace(status=status, text=text, folder=folder, rows=rows(text))


def test_it_succeeds(short):
    assert short.status == 0


def test_every_backend_has_a_row(short):
    assert list(short.rows) == sorted((s.name for s in corelib.backends()), key=lambda n: n != "reference")


def test_the_reference_is_what_others_are_compared_with(short):
    row = short.rows["reference"]
    assert row["usable"] == "yes (pure Python, one thread)"
    assert row["vs reference"] == "-"
    assert row["gradients"] == "ok"


def test_every_usable_backend_agrees_with_the_reference_to_a_few_ulp(short):
    for status in corelib.backends():
        if status.usable and status.name != "reference":
            row = short.rows[status.name]
            assert row["gradients"] == "ok"
            assert int(re.fullmatch(r"max (\d+) ulp", row["vs reference"])[1]) <= demo.LIMIT


def test_an_unusable_backend_is_listed_with_its_reason(short):
    for status in corelib.backends():
        if not status.usable:
            row = short.rows[status.name]
            assert row["usable"] == f"no: {demo.clause(support.why(status))}"
            assert [row[column] for column in HEAD[2:]] == ["-"] * 4
            assert f"{status.name} cannot be used here: {support.why(status)}" in short.text


def test_the_fastest_is_trained_and_the_others_are_estimated(short):
    trained = [name for name, row in short.rows.items() if row["test accuracy"].endswith(" %")]
    assert len(trained) == 1
    assert f"1 epoch on the fastest, {trained[0]}:" in short.text
    assert float(short.rows[trained[0]]["s/epoch"]) > 0
    assert float(short.rows[trained[0]]["test accuracy"].removesuffix(" %")) > 60, "after one epoch"
    for name, row in short.rows.items():
        if row["usable"].startswith("yes") and name not in trained:
            assert row["s/epoch"].startswith("~")
            assert row["test accuracy"] == "(2 steps)"


def test_the_losses_of_the_identical_steps_fall_from_that_of_guessing(short):
    first, second = map(float, re.search(r"reference +loss (\S+) (\S+)", short.text).groups())
    assert first == pytest.approx(2.3026, abs=0.1)  # log(10)
    assert second < first


def test_the_loss_curves_are_a_png(short):
    path = short.folder / "loss.png"
    assert str(path) in short.text
    assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_the_graph_shows_the_shapes_of_values_and_gradients(short):
    path = short.folder / "graph.svg"
    assert str(path) in short.text
    texts = [element.text for element in ET.parse(path).iter("{http://www.w3.org/2000/svg}text")]
    assert {
        "0.weight",
        "0.bias",
        "2.weight",
        "2.bias",
        "images",
        "labels",
        "linear",
        "relu",
        "cross_entropy",
    } <= set(texts)
    assert texts.count(f"grad  float32[{demo.HIDDEN}, 64]") == 1
    assert f"value float32[{demo.BATCH}, 64]" in texts


def test_the_next_command_works(short):
    line = next(line for line in short.text.splitlines() if line.startswith("next: "))
    command = line.removeprefix("next: ").split("      ")[0].split()
    assert command[-2] == "conformance"
    found = subprocess.run([*command, "--op", "exp"], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr


# -- what can go wrong -------------------------------------------------------------------------------------------


@pytest.fixture
def plant(monkeypatch):
    """A backend on the reference whose kernel of one op is replaced; other backends than these two are out of sight."""

    def build(name, change):
        class Planted(Overlay):
            kernels = KernelSet()

        op = getattr(ops, name).op
        kernel = registry.get("reference").find(op, corelib.float32)
        Planted.kernels.add(
            op, lambda *operands, **params: change(kernel, *operands, **params), [corelib.float32]
        )
        module = ModuleType("planted_for_demo")
        module.Planted = Planted
        monkeypatch.setitem(sys.modules, "planted_for_demo", module)
        info = BackendInfo("planted", load="planted_for_demo:Planted", base="reference")
        register(SimpleNamespace(declare_backend=hookimpl(lambda: info)), "planted")
        monkeypatch.setattr(
            demo, "backends", lambda: [s for s in corelib.backends() if s.name in ("reference", "planted")]
        )

    yield build
    unregister("planted")


def test_gradients_that_differ_are_told_and_fail(plant, tmp_path):
    plant(
        "matmul",
        lambda kernel, a, b: type(a)((c := kernel(a, b)).shape, c.dtype, [x * 1.0001 for x in c.data]),
    )
    status, text = run(tmp_path, steps=1, epochs=0)
    assert status == 1
    assert rows(text)["planted"]["gradients"] == "DIFFER"
    assert "planted does not agree with the reference" in text


def test_a_backend_that_raises_has_its_row_and_fails(plant, tmp_path):
    plant("matmul", lambda kernel, a, b: 1 / 0)
    status, text = run(tmp_path, steps=1, epochs=0)
    assert status == 1
    assert rows(text)["planted"]["gradients"] == "FAILED"
    assert rows(text)["reference"]["gradients"] == "ok"
    assert "planted failed: ZeroDivisionError: division by zero" in text


def test_equal_numbers_are_called_equal(plant, tmp_path):
    plant("matmul", lambda kernel, a, b: kernel(a, b))
    status, text = run(tmp_path, steps=1, epochs=0)
    assert status == 0
    assert re.search(r"planted +loss .* equal to the last bit", text)
    assert rows(text)["planted"]["vs reference"] == "max 0 ulp"


def test_a_goal_that_is_missed_is_told(short, monkeypatch, tmp_path):
    monkeypatch.setattr(demo, "EPOCHS", 1)
    monkeypatch.setattr(demo, "GOAL", 1.01)
    status, text = run(tmp_path, steps=1)
    assert status == 1
    assert "the goal of 101% test accuracy was missed" in text


@pytest.mark.parametrize("module", demo.NEEDS)
def test_a_missing_package_is_named_with_the_command_that_installs_it(module, monkeypatch, tmp_path):
    find = demo.importlib.util.find_spec
    monkeypatch.setattr(demo.importlib.util, "find_spec", lambda name: None if name == module else find(name))
    with pytest.raises(
        BackendError, match=rf"the demo needs {demo.NEEDS[module]}: pip install 'corelib\[demo\]'"
    ):
        run(tmp_path)


def test_no_step_is_refused(tmp_path):
    with pytest.raises(BackendError, match="at least one step to compare, got --steps 0"):
        run(tmp_path, steps=0)


def test_a_folder_that_cannot_be_made_is_refused_before_anything_is_computed(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ArgumentError, match=r"--output .*file: the folder cannot be made: File exists"):
        demo.run(output=str(tmp_path / "file"), say=pytest.fail)


# -- as a process ------------------------------------------------------------------------------------------------


def interruptible():
    """What a shell starts in the background ignores interrupts, and so does all that it starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_an_interrupt_leaves_a_clean_message(tmp_path):
    command = [
        sys.executable,
        "-m",
        "corelib",
        "demo",
        "--steps",
        "1",
        "--epochs",
        "100000",
        "--output",
        str(tmp_path),
    ]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, preexec_fn=interruptible, **pipes)
    for line in process.stdout:
        if "epochs on the fastest" in line:
            break
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.endswith("interrupted\n")
    assert "Traceback" not in errors


def test_without_a_terminal_there_is_no_progress_bar(tmp_path):
    command = [
        sys.executable,
        "-m",
        "corelib",
        "demo",
        "--steps",
        "1",
        "--epochs",
        "1",
        "--output",
        str(tmp_path),
    ]
    found = subprocess.run(command, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert "\r" not in found.stdout + found.stderr
    assert "step/s" not in found.stderr


def test_on_a_terminal_there_is_one(tmp_path):
    pty, termios = pytest.importorskip("pty"), pytest.importorskip("termios")
    main, other = pty.openpty()
    termios.tcsetwinsize(other, (24, 100))
    command = [
        sys.executable,
        "-m",
        "corelib",
        "demo",
        "--steps",
        "1",
        "--epochs",
        "3",
        "--output",
        str(tmp_path),
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=other)
    os.close(other)
    shown = b""
    while True:
        try:
            part = os.read(main, 4096)
        except OSError:  # the other side was closed
            break
        if not part:
            break
        shown += part
    os.close(main)
    assert process.wait() == 0
    assert b"step/s" in shown
    assert b"accuracy=" in shown


@pytest.mark.slow
def test_the_whole_demo_reaches_its_goal_in_time(tmp_path):
    started = time.perf_counter()
    found = subprocess.run(
        [sys.executable, "-m", "corelib", "demo", "--output", str(tmp_path)], capture_output=True, text=True
    )
    seconds = time.perf_counter() - started
    assert found.returncode == 0, found.stdout + found.stderr
    assert max(float(a) for a in re.findall(r"(\d+\.\d) %$", found.stdout, re.MULTILINE)) >= 97
    assert seconds < 90
