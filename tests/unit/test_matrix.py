"""The support matrix: what it says of each op and backend, and that docs/support.md is the matrix."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from corelib import fft, linalg, matrix, ops
from corelib.__main__ import main
from corelib.backend import Backend, BackendInfo, KernelSet
from corelib.dtypes import bfloat16, complex64, float16, float32, int64
from corelib.hookspecs import hookimpl
from corelib.op import BY_NAME, OPS
from corelib.registry import register, registry, unregister

PAGE = Path(__file__).parents[2] / "docs" / "support.md"
IN_TREE = ["reference", "cpu", "cuda"]


@pytest.fixture
def planted():
    """A backend with a few kernels, which has no complex numbers."""
    kernels = KernelSet()
    kernels.implements(ops.exp, dtypes=(float32, complex64))(lambda x: x)
    kernels.implements(ops.divide)(lambda x1, x2: x1)
    kernels.implements(ops.flip)(lambda x, *, axis: x)
    module = ModuleType("planted_for_matrix")
    module.Planted = type("Planted", (Backend,), {"kernels": kernels})
    info = BackendInfo(
        "planted", load="planted_for_matrix:Planted", requires=("no_such_module",), lacks=("complex",)
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "planted_for_matrix", module)
        register(SimpleNamespace(declare_backend=hookimpl(lambda: info)), "planted")
        yield "planted"
        unregister("planted")


# -- the page ----------------------------------------------------------------------------------------------------


def test_the_page_is_current():
    """Every column can be computed anywhere: backends register their kernels without a driver or a compiler."""
    text = PAGE.read_text(encoding="utf-8").splitlines()
    assert text == list(matrix.lines(IN_TREE, markdown=True)), (
        f"run `python -m corelib support --markdown {' '.join(IN_TREE)} > docs/support.md`"
    )


def test_the_page_has_a_column_for_each_backend_in_the_tree_and_names_the_command_that_writes_it():
    text = PAGE.read_text(encoding="utf-8")
    assert set(re.findall(r"^\| +\|(.*)\|$", text, re.MULTILINE)) == {" dtypes | reference | cpu | cuda "}
    assert f"`python -m corelib support --markdown {' '.join(IN_TREE)} > docs/support.md`" in text
    assert "unknown" not in text


def test_the_page_names_every_public_function():
    text = PAGE.read_text(encoding="utf-8")
    rows = set(re.findall(r"^\| (\w+) \|", text, re.MULTILINE))
    named = set(re.findall(r"`(\w+)`", text))
    assert rows >= {op.name for op in OPS if "/corelib/ops/" in op.where}
    for module in (ops, linalg, fft):
        functions = {name for name in module.__all__ if inspect.isfunction(getattr(module, name))}
        assert functions <= {name for name in functions if name.rstrip("_") in rows | named}


def test_a_backend_is_described_where_what_it_needs_to_run_is_not_installed():
    code = "import sys; sys.modules['cupy'] = None; from corelib.__main__ import main; main(['support', '--markdown', 'cuda'])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines() == list(matrix.lines(["cuda"], markdown=True))


# -- cells -------------------------------------------------------------------------------------------------------


def carried(name: str, *kinds) -> list[str]:
    asked = matrix.Matrix()
    return [asked.carried(BY_NAME[name], dtype, "planted") for dtype in kinds]


def test_a_kernel_serves_its_dtypes_and_half_precision_through_float32(planted):
    assert carried("exp", float32, float16, bfloat16) == ["native"] * 3
    assert carried("flip", float32, float16, int64) == ["native"] * 3


def test_what_a_backend_lacks_it_does_not_do_whatever_its_kernels_say(planted):
    assert carried("exp", complex64) == carried("flip", complex64) == ["no"]


def test_a_composite_is_composed_where_all_that_it_needs_is_there(planted):
    assert carried("reciprocal", float32) == ["composed"]  # of divide
    assert carried("sigmoid", float32) == carried("negative", float32) == ["no"]


def test_a_cell_is_a_word_or_one_for_each_group_of_dtypes(planted):
    asked = matrix.Matrix()
    assert asked.cell(BY_NAME["negative"], "planted") == "no"
    assert asked.cell(BY_NAME["exp"], "planted") == "native: float32 half; no: float64 complex"


def test_an_op_that_works_for_some_parameters_works_in_part(planted, monkeypatch):
    parts = [[(BY_NAME["divide"], float32)], [(BY_NAME["log"], float32)]]
    monkeypatch.setattr(matrix, "runs", lambda op, dtype: parts)
    assert carried("sigmoid", float32) == ["in part"]


def test_dtypes_are_named_by_kind_and_those_that_are_cast_in_parentheses():
    assert matrix.accepted(BY_NAME["divide"]) == "(bool) (int) float half complex"
    assert matrix.accepted(BY_NAME["random_bits"]) == "uint32 uint64"


def test_a_backend_that_does_not_import_is_unknown(planted):
    info = registry.infos["planted"]
    object.__setattr__(info, "load", "no_such_module:Planted")
    assert carried("exp", float32) == ["unknown"]


# -- the command -------------------------------------------------------------------------------------------------


def test_the_command_prints_the_named_backends(capsys):
    assert main(["support", "reference"]) == 0
    text = capsys.readouterr().out.splitlines()
    (row,) = [line for line in text if line.split()[:1] == ["exp"]]
    assert re.split(r" {2,}", row.strip()) == ["exp", "float half complex", "native"]


def test_the_command_refuses_a_backend_that_is_not_there(capsys):
    assert main(["support", "refrence"]) == 2
    assert "no backend 'refrence'; did you mean 'reference'" in capsys.readouterr().err
