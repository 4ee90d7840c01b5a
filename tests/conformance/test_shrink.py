"""A failure becomes a call of a few numbers, and a script that shows it."""

from __future__ import annotations

import contextlib
import io
import math
import re
import time
from typing import Any

import pytest

import corelib as cl
from corelib import dtypes
from corelib.__main__ import main
from corelib.conformance import check
from corelib.conformance.layouts import LAYOUTS
from corelib.conformance.repro import script, scripts
from corelib.conformance.script import LINES, _operand, number
from corelib.conformance.shrink import SECONDS, TRIES, shrink
from corelib.op import BY_NAME
from corelib.registry import get_backend
from corelib.samples import Maker, Values


def remade(x: Any, data: Any) -> Any:
    return type(x)(x.shape, x.dtype, list(data))


def elements(change: Any) -> Any:
    """Each floating element of the result changed."""

    def wrap(kernel: Any) -> Any:
        def changed(*operands: Any, **params: Any) -> Any:
            y = kernel(*operands, **params)
            return remade(y, [change(v) if isinstance(v, float) else v for v in y.data])

        return changed

    return wrap


def tail(kernel: Any) -> Any:
    """Wrong behind the 32nd element."""
    return lambda x: (lambda y: remade(y, [v if i < 32 else 7.0 for i, v in enumerate(y.data)]))(kernel(x))


def swapped(kernel: Any) -> Any:
    return lambda c, a, b: kernel(c, b, a)


def failing(kernel: Any) -> Any:
    def run(x: Any, **params: Any) -> Any:
        if len(x.shape) == 3:
            raise RuntimeError("no three axes")
        return kernel(x, **params)

    return run


def writing(kernel: Any) -> Any:
    def run(x: Any) -> Any:
        y = kernel(x)
        if x.data:
            x.data[0] = type(x.data[0])(7)
        return y

    return run


def wider(kernel: Any) -> Any:
    def run(x: Any) -> Any:
        y = kernel(x)
        return type(y)(y.shape, dtypes.float64 if y.dtype is dtypes.float32 else y.dtype, y.data)

    return run


def deep(kernel: Any) -> Any:
    """Wrong for an inner length of 3 or more."""

    def run(a: Any, b: Any) -> Any:
        y = kernel(a, b)
        wrong = a.shape[-1] >= 3 and y.data and isinstance(y.data[0], float)
        return remade(y, [y.data[0] * 1.01, *y.data[1:]]) if wrong else y

    return run


# A mistake, the op it is in, the case's family, and the call that is to be left.
MISTAKES = {
    "nan": ({"exp": elements(lambda v: math.nan)}, "value", "x = cl.asarray(0.0, dtype=cl.float32"),
    "sign of zero": ({"round": elements(lambda v: v + 0.0)}, "value", "x = cl.asarray(-0.5, dtype=cl.float32"),
    "tail": ({"sin": tail}, "value", "x = cl.full((33,), 0.0, dtype=cl.float32"),
    "operands swapped": ({"where": swapped}, "value", "x1 = cl.asarray(False, dtype=cl.bool"),
    "raises": ({"sum": failing}, "value", "x = cl.asarray([[[False]]], dtype=cl.bool"),
    "writes": ({"negative": writing}, "value", "x = cl.asarray(0, dtype=cl.int32"),
    "dtype": ({"sqrt": wider}, "value", "x = cl.asarray(0.0, dtype=cl.float32"),
    "matmul": ({"matmul": deep}, "gradient", "x1 = cl.asarray([0.0, 0.0, 1.0], dtype=cl.float32"),
    "view": ({"cos": elements(lambda v: 2.0)}, "layout", "x = cl.asarray(0.0, dtype=cl.float32"),
}  # fmt: skip


def first_failure(plant: Any, changes: Any, what: str) -> tuple[Any, Any]:
    name = plant(**changes)
    report = check(name, [BY_NAME[next(iter(changes))]], what=[what])
    assert report.failures
    return report.failures[0], report


def output(text: str) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(compile(text, "<script>", "exec"), {})
    return out.getvalue()


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_failure_becomes_a_short_script_that_shows_it(plant, mistake):
    changes, what, operand = MISTAKES[mistake]
    failure, report = first_failure(plant, changes, what)
    began = time.monotonic()
    text = script(failure.case, report.device, report.plan, failure.reason)
    assert time.monotonic() - began < 2
    assert len(text.splitlines()) <= LINES == 5
    assert "import corelib as cl" in text
    assert operand in text
    assert f"device={report.device!r}" in text
    if mistake == "raises":
        assert "# raised RuntimeError: no three axes" in text
        with pytest.raises(RuntimeError, match="no three axes"):
            output(text)
        return
    shown, note = output(text), text.partition("  # ")[2]
    assert shown != output(text.replace("planted", "reference"))  # there it is right
    for said in re.findall(r"is (-?[\d.]+|nan|False|True)\b", note)[:1]:
        assert said in shown


def test_it_is_the_same_in_every_run(plant):
    failure, report = first_failure(plant, {"sin": tail}, "value")
    first, second = (shrink(failure.case, report.device) for _ in range(2))
    assert first == second
    assert first.tries < TRIES


def test_it_ends_in_time(plant):
    """A call that takes long is not tried for ever."""
    failure, report = first_failure(plant, {"sin": tail}, "value")
    ticks = iter(range(10**6))
    found = shrink(failure.case, report.device, clock=lambda: next(ticks) * SECONDS / 10)
    assert found.tries < 10
    assert found.reason


def test_a_gradient_is_pulled_back_in_the_script(plant):
    """The kernel that is wrong is one of the derivative's: the op's own result is right."""
    name = plant(sign=elements(lambda v: 3.0 * v))
    report = check(name, [BY_NAME["abs"]], what=["gradient"])
    failure = next(o for o in report.failures if o.case.dtype is dtypes.float64)
    text = script(failure.case, name, report.plan, failure.reason)
    lines = text.splitlines()
    assert len(lines) == 4
    assert lines[1] == "x = cl.asarray(1.0, dtype=cl.float32, device='planted')"
    assert lines[2] == "y, pullback = cl.vjp(lambda x: cl.abs(x), x)"
    assert lines[3].startswith(
        "print([g.tolist() for g in pullback(cl.ones_like(y))])  # the gradient of operand 0"
    )
    assert output(text) == "[3.0]\n"


def test_what_is_no_single_call_is_given_by_its_id(plant):
    failure, report = first_failure(plant, {"sum": failing}, "dispatch")
    text = script(failure.case, report.device, report.plan, failure.reason)
    assert failure.case.id in text
    assert len(text.splitlines()) <= LINES
    assert output(text) == "raised RuntimeError: no three axes\n"


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(), (5,), (2, 3), (2, 1, 3, 2)], ids=str)
@pytest.mark.parametrize("device", ["reference", "cpu"])
def test_an_operand_is_written_out_in_its_layout(device, shape, layout):
    if device not in [b.name for b in cl.backends() if b.usable]:
        pytest.skip(f"backend {device!r} cannot be used here")
    for dtype in (cl.float32, cl.int16, cl.complex128):
        values = Maker("operand").array(shape, dtype)
        if layout == "repeated" and shape:
            values = Values(shape, dtype, values.data[:1] * len(values.data))
        x = eval(_operand(values, layout, device), {"cl": cl, "np": __import__("numpy")})
        expected = eval(_operand(values, "plain", device), {"cl": cl})
        assert (x.dtype, x.shape, x.device) == (dtype, shape, device)
        assert x.tolist() == expected.tolist()


@pytest.mark.parametrize(
    "x", [0.1, -0.0, math.pi, 1e-45, 3.4028234663852886e38, math.inf, -math.inf, math.nan, 1e22, -3.0]
)
def test_a_number_is_written_so_that_it_is_read_back(x):
    for dtype in (dtypes.float32, dtypes.float64):
        rounded = dtype.round(x)
        assert repr(dtype.round(float(eval(number(rounded, dtype), {"cl": cl})))) == repr(rounded)
    assert len(number(dtypes.float32.round(0.1), dtypes.float32)) == 3


def test_the_command_tries_a_case_again(plant, capsys):
    failure, _ = first_failure(plant, {"sin": tail}, "value")
    assert main(["conformance", "repro", failure.case.id, "planted"]) == 1
    out = capsys.readouterr().out
    assert f"{failure.case.id} (float32[33]) on planted: fail: element (32,) is 7.0" in out
    assert "as a script:\n\nimport corelib as cl\n" in out
    assert main(["conformance", "repro", failure.case.id, "reference"]) == 0
    assert capsys.readouterr().out == f"{failure.case.id} (float32[33]) on reference: pass\n"
    assert main(["conformance", "repro", "sin[float32-value-999]", "planted"]) == 2
    assert "there is no case 'sin[float32-value-999]'" in capsys.readouterr().err


def test_scripts_are_saved_one_for_each_sort_of_failure(plant, tmp_path, capsys):
    plant(sin=tail, exp=elements(lambda v: math.nan))
    command = ["conformance", "planted", "-j", "0", "--op", "sin", "--op", "exp", "--what", "value"]
    assert main([*command, "--scripts", str(tmp_path / "scripts")]) == 1
    files = sorted((tmp_path / "scripts").iterdir())
    assert [f.name.split("-")[0] for f in files] == ["exp", "sin"]
    out = capsys.readouterr().out
    for file in files:
        assert file.read_text() in out
        assert output(file.read_text())


def test_a_run_without_failures_writes_no_script(tmp_path):
    report = check("reference", [BY_NAME["exp"]], what=["value"])
    assert scripts(report, tmp_path / "scripts", print, limit=5, apart=False) == []
    assert not (tmp_path / "scripts").exists()


def test_the_reference_is_its_own_oracle():
    """No call of an honest backend fails: there is nothing to shrink."""
    case = check("reference", [BY_NAME["exp"]], what=["value"]).outcomes[0].case
    assert shrink(case, get_backend()) is None
