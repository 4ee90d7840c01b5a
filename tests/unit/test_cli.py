"""The command line: what each command prints, where its errors go, and its exit status."""

from __future__ import annotations

import contextlib
import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from corelib import __version__, support
from corelib.__main__ import main
from corelib.op import BY_NAME, OPS, Derivative


def lines(capsys) -> list[str]:
    return capsys.readouterr().out.splitlines()


def columns(text: list[str], first: str) -> dict[str, list[str]]:
    """The rows of the table whose first cell is `first` (its head), by their first cell."""
    start = next(i for i, line in enumerate(text) if line.split()[:1] == [first])
    rows = [re.split(r" {2,}", line) for line in text[start:]]
    end = rows.index([""]) if [""] in rows else len(rows)
    return {row[0]: row for row in rows[:end]}


# -- backends ----------------------------------------------------------------------------------------------------


def test_backends_tells_importable_usable_and_supported_apart(capsys):
    assert main(["backends"]) == 0
    text = lines(capsys)
    rows = columns(text, "backend")
    assert rows["backend"][1:5] == ["importable", "usable", "ops", "native"]
    assert rows["reference"][1:4] == ["yes", "yes", f"{len(OPS)}/{len(OPS)}"]
    assert rows["reference"][5] == "reference (pure Python, one thread)"
    assert "corelib" in rows["reference"][6]
    assert f"numpy {__import__('numpy').__version__}" in rows["cpu"][6]


def test_backends_gives_the_reason_as_a_sentence(capsys, monkeypatch):
    from corelib.registry import registry
    from corelib_reference.backend import ReferenceBackend

    monkeypatch.setattr(ReferenceBackend, "probe", classmethod(lambda cls: "the moon is not full"))
    monkeypatch.setattr(registry, "_instances", {})
    main(["backends"])
    text = lines(capsys)
    assert columns(text, "backend")["reference"][1:3] == ["yes", "no"]
    assert "reference: the moon is not full" in text


def test_a_reason_that_stands_behind_the_backends_name_does_not_repeat_it():
    from corelib.demo import clause
    from corelib.registry import BackendStatus

    reason = "backend 'cuda' needs cupy, which is not installed. `pip install corelib[cuda12]`"
    status = BackendStatus("cuda", reason=reason)
    assert support.why(status) == "needs cupy, which is not installed. `pip install corelib[cuda12]`"
    assert clause(support.why(status)) == "needs cupy"


# -- explain -----------------------------------------------------------------------------------------------------


def test_explain_a_primitive(capsys):
    assert main(["explain", "multiply"]) == 0
    text = lines(capsys)
    assert text[0] == "multiply(x1: Array, x2: Array, /) -> Tensor"
    assert text[1] == "    x1 * x2. Integers wrap."
    facts = dict(re.split(r" {2,}", line, maxsplit=1) for line in text[3 : text.index("", 3)])
    assert re.fullmatch(r"(.*/)?corelib/ops/elementwise.py:\d+", facts["declared"].replace(os.sep, "/"))
    assert facts["is"] == "a primitive, elementwise"
    assert facts["derivative"] == "partials (d): for x1 reads the values of x2, for x2 reads the values of x1"
    assert facts["error budget"] == "0.5 ULP"
    assert "composes to" not in facts
    where = columns(text, "backend")["reference"]
    assert where[1:3] == ["native", "all"]
    path, _, line = where[3].rpartition(":")
    assert 0 < int(line) <= Path(path).read_text(encoding="utf-8").count("\n")


def test_explain_a_composite_shows_the_primitives_that_run(capsys):
    main(["explain", "logaddexp"])
    text = lines(capsys)
    assert "is            a composite, elementwise" in text
    (composes,) = [line for line in text if line.startswith("composes to")]
    assert composes.split(None, 2)[2].split(", ") == [
        "minimum", "maximum", "equal", "subtract", "where", "exp", "log1p", "add",
    ]  # fmt: skip
    assert columns(text, "backend")["reference"][1] == "composed"


@pytest.mark.parametrize(
    ("op", "sentence"),
    [
        ("exp", "partials (d): for x reads the result"),
        ("negative", "partials (d): for x is -1"),
        ("flip", "transposes (linear): for x reads the cotangent, the shape of x, axis"),
        ("matmul", "a pair of transposes (bilinear): for x1 reads the cotangent,"),
        ("softmax", "a vjp and a jvp, reads the cotangent, the result, axis"),
        ("square", "through the body: each op in it has its own"),
        ("floor", "none: floor is piecewise constant"),
        ("copysign", "for x2 has none"),
    ],
)
def test_explain_says_the_kind_of_derivative_and_what_it_reads(op, sentence):
    assert sentence in support.derivative(BY_NAME[op])


def test_explain_points_at_the_code_that_makes_a_familys_kernel(capsys):
    for op, file in (("exp", "elementwise.py"), ("sum", "reduce.py"), ("max", "reduce.py")):
        main(["explain", op])
        assert file in columns(lines(capsys), "backend")["cpu"][3]


def test_explain_a_function_that_is_no_op_itself(capsys):
    assert main(["explain", "corelib.einsum"]) == 0
    text = lines(capsys)
    assert text[0] == "einsum(subscripts: str, /, *operands: Tensor) -> Tensor"
    facts = dict(re.split(r" {2,}", line, maxsplit=1) for line in text[-2:])
    assert re.fullmatch(r"(.*/)?corelib/ops/einsum.py:\d+", facts["declared"].replace(os.sep, "/"))
    assert facts["is"] == "a function of ops: it runs wherever they run, and is differentiated through them"


def test_explain_the_op_of_a_plugin(tmp_path):
    """The guide's example, found through its entry point with nothing imported before, and tried by the conformance suite."""
    (tmp_path / "planted-1.0.dist-info").mkdir()
    (tmp_path / "planted-1.0.dist-info" / "entry_points.txt").write_text(
        "[corelib.plugins]\nplanted = planted\n"
    )
    (tmp_path / "planted-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: planted\nVersion: 1.0\n"
    )
    guide = (Path(__file__).parents[2] / "docs" / "plugins.md").read_text(encoding="utf-8")
    (example,) = re.findall(
        r"^```python\n((?:(?!^```).)*?def declare_ops.*?)^```", guide, re.MULTILINE | re.DOTALL
    )
    (tmp_path / "planted.py").write_text(example)
    found = run(sys.executable, "-m", "corelib", "explain", "lisht", PYTHONPATH=str(tmp_path))
    assert found.returncode == 0, found.stderr
    text = found.stdout.splitlines()
    assert text[:2] == ["lisht(x: Tensor, /) -> Tensor", "    x tanh(x) (Roy et al., arXiv:1901.05894)."]
    facts = dict(re.split(r" {2,}", line, maxsplit=1) for line in text[3 : text.index("", 3)])
    assert facts["declared"] == f"{tmp_path / 'planted.py'}:8"
    assert facts["derivative"] == "through the body: each op in it has its own"
    assert facts["composes to"] == "tanh, multiply"
    assert columns(text, "backend")["reference"][1] == "composed"
    tried = run(
        sys.executable, "-m", "corelib", "conformance", "reference", "--op", "lisht", PYTHONPATH=str(tmp_path)
    )
    assert tried.returncode == 0
    assert re.search(r": (\d+) cases: \1 passed, 0 failed", tried.stdout)


def test_explain_works_for_every_op():
    for op in OPS:
        text = support.explain(op.name)
        assert text.startswith(f"{op.name}(")
        assert op.doc.splitlines()[0] in text


def test_explain_an_overlay_shows_what_it_inherits(capsys):
    from types import ModuleType, SimpleNamespace

    from corelib import ops
    from corelib.backend import BackendInfo, KernelSet, Overlay
    from corelib.hookspecs import hookimpl
    from corelib.registry import register, unregister

    class Planted(Overlay):
        kernels = KernelSet()

    @Planted.kernels.implements(ops.exp)
    def exp(x): ...

    module = ModuleType("planted_for_cli")
    module.Planted = Planted
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "planted_for_cli", module)
        info = BackendInfo("planted", load="planted_for_cli:Planted", base="reference")
        register(SimpleNamespace(declare_backend=hookimpl(lambda: info)), "planted")
        try:
            main(["explain", "exp"])
            own = columns(lines(capsys), "backend")["planted"]
            main(["explain", "log"])
            inherited = columns(lines(capsys), "backend")["planted"]
        finally:
            unregister("planted")
    assert own[1] == "native"
    assert "test_cli.py:" in own[3]
    assert inherited[1:] == ["inherited", "from reference"]


def test_explain_compiles_nothing(monkeypatch, capsys):
    """Kernels of a family are made when first used, and asking about them is no use."""
    from corelib import ops
    from corelib.backend import KernelSet

    made = []
    kernels = KernelSet()
    kernels.family(ops.exp, lambda op, dtype: made.append(op))
    assert "test_cli.py" in support.location(kernels.source(ops.exp, BY_NAME["exp"].rule.accepts[0]))
    assert made == []


# -- conformance -------------------------------------------------------------------------------------------------


def test_conformance_reports_and_succeeds(capsys):
    assert main(["conformance", "reference", "--op", "exp", "--op", "add", "--dtype", "float32"]) == 0
    text = lines(capsys)
    assert text[0] == "reference against reference"
    assert set(columns(text, "op")) == {"op", "add", "exp"}
    assert re.fullmatch(
        r"reference: (\d+) cases: \1 passed, 0 failed, 0 unsupported, 0 known deviations, in \d+\.\d s",
        text[-2],
    )


def test_conformance_fails_with_status_1_and_the_reason(capsys, monkeypatch):
    op = BY_NAME["exp"]
    monkeypatch.setattr(op, "derivative", Derivative(op, "d", lambda y: y * 2.0))
    assert main(["conformance", "reference", "--op", "exp", "-j", "0"]) == 1
    out = capsys.readouterr().out
    assert "FAIL" in out
    assert "finite differences give" in out


def test_conformance_limits_the_reasons_and_says_so(capsys, monkeypatch):
    for name in ("exp", "log"):
        monkeypatch.setattr(BY_NAME[name], "samples", lambda make, dtype: 1 / 0)
    main(["conformance", "reference", "--op", "exp", "--op", "log", "--limit", "1", "-j", "0"])
    assert re.search(r"\.\.\. and (\d+) more reasons: --limit \d+ shows them all", capsys.readouterr().out)


def test_conformance_without_a_name_tries_every_usable_backend_and_names_the_others(capsys):
    from corelib import backends

    assert main(["conformance", "--op", "negative"]) == 0
    out = capsys.readouterr().out
    for status in backends():
        assert (
            f"{status.name} against reference" in out
            or f"{status.name}: not tried: {support.why(status)}" in out
        )


# -- mistakes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["explain", "sofmax"], "there is no op 'sofmax'; did you mean 'softmax'"),
        (["conformance", "refrence"], "no backend 'refrence'; did you mean 'reference'"),
        (["conformance", "reference", "--op", "exq"], "there is no op 'exq'; did you mean 'exp'"),
        (["conformance", "reference", "--dtype", "flot32"], "no dtype 'flot32'; did you mean 'float32'"),
        (["conformance", "reference:7"], "no device 'reference:7'"),
        (["explain", "eisnum"], "there is no op 'eisnum'; did you mean 'einsum'"),
        (["conformance", "reference", "--op", "einsum"], "einsum is a function that calls ops, not an op"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(argv, words, capsys):
    assert main(argv) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("corelib: ")
    assert words in captured.err
    assert captured.err.count("\n") == 1


def test_a_mistake_in_the_program_itself_is_not_taken_for_the_users(monkeypatch):
    def broken(name, width):
        return {}["key"]

    monkeypatch.setattr("corelib.__main__.explain", broken)
    with pytest.raises(KeyError):
        main(["explain", "exp"])


def test_an_unknown_command_is_refused(capsys):
    with pytest.raises(SystemExit) as exit:
        main(["explian", "exp"])
    assert exit.value.code == 2
    assert "explain" in capsys.readouterr().err


def test_no_command_shows_the_commands(capsys):
    assert main([]) == 0
    out = capsys.readouterr().out
    assert all(command in out for command in ("backends", "explain", "conformance", "demo"))


def test_version(capsys):
    with pytest.raises(SystemExit) as exit:
        main(["--version"])
    assert exit.value.code == 0
    assert capsys.readouterr().out == f"corelib {__version__}\n"


def test_an_interrupt_is_one_line(capsys, monkeypatch):
    def interrupted(name, width):
        raise KeyboardInterrupt

    monkeypatch.setattr("corelib.__main__.explain", interrupted)
    assert main(["explain", "exp"]) == 130
    assert capsys.readouterr().err == "\ninterrupted\n"


# -- as a process ------------------------------------------------------------------------------------------------


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment})


def on_a_terminal(columns: int, *command: str) -> list[str]:
    """What a command prints on a terminal of that many columns."""
    fcntl, pty, termios = (pytest.importorskip(name) for name in ("fcntl", "pty", "termios"))
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
    without = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")}
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, env=without) as process:
        os.close(theirs)
        written = b""
        with contextlib.suppress(OSError):  # how the end of a terminal reads
            while more := os.read(ours, 65536):
                written += more
    os.close(ours)
    assert process.returncode == 0, written
    return written.decode().replace("\r\n", "\n").splitlines()


def test_the_module_and_the_script_are_the_same_command():
    module = run(sys.executable, "-m", "corelib", "explain", "exp")
    script = run(os.path.join(os.path.dirname(sys.executable), "corelib"), "explain", "exp")
    assert module.returncode == script.returncode == 0
    assert module.stdout == script.stdout != ""


def test_a_reader_that_leaves_early_is_no_error():
    code = f"{sys.executable} -m corelib conformance reference --op exp | head -1"
    found = subprocess.run(["bash", "-c", f"set -o pipefail; {code}"], capture_output=True, text=True)
    assert found.stdout == "reference against reference\n"
    assert "Traceback" not in found.stderr
    assert "BrokenPipe" not in found.stderr


def test_output_that_is_piped_has_no_control_characters():
    found = run(sys.executable, "-m", "corelib", "conformance", "reference", "--op", "exp")
    assert found.returncode == 0
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", found.stdout + found.stderr)


@pytest.mark.parametrize(
    "command", [["backends"], ["explain", "matmul"], ["explain", "einsum"]], ids=" ".join
)
def test_on_a_narrow_terminal_lines_are_folded_between_words(command):
    narrow = on_a_terminal(80, sys.executable, "-m", "corelib", *command)
    assert max(map(len, narrow)) <= 80
    wide = run(sys.executable, "-m", "corelib", *command).stdout
    assert max(map(len, wide.splitlines())) > 80
    assert sorted(" ".join(narrow).split()) == sorted(wide.split())  # nothing is lost


def test_a_table_is_folded_only_as_far_as_words_allow():
    rows = [("name", "what it is"), ("first", "a long description of it"), ("second", "short")]
    assert support.table(rows) == [
        "name    what it is", "first   a long description of it", "second  short",
    ]  # fmt: skip
    assert support.table(rows, 22) == [
        "name    what it is", "first   a long", "        description of", "        it", "second  short",
    ]  # fmt: skip
    assert max(map(len, support.table(rows, 3))) == len("second  description")


def test_explaining_a_primitive_imports_no_compiler():
    code = "import sys; from corelib.__main__ import main; main(['explain', 'exp']); print('numba' in sys.modules)"
    assert run(sys.executable, "-c", code).stdout.splitlines()[-1] == "False"


# -- warmup ------------------------------------------------------------------------------------------------------


def test_warmup_calls_ops_and_models(capsys, tmp_path):
    model = tmp_path / "my_model.py"
    model.write_text(
        "import corelib as cl\ncalls = []\n"
        "def step():\n    calls.append(cl.ones(3).device)\n    print('call', len(calls), calls[-1])\n"
    )
    assert main(["warmup", "--backend", "reference", f"{model}:step"]) == 0
    text = lines(capsys)
    assert text[:3] == ["call 1 reference", "call 2 reference", "call 3 reference"]
    assert re.fullmatch(r".*my_model\.py:step: \d+\.\d\d s", text[3])
    assert re.fullmatch(r"ready on reference in \d+\.\d\d s", text[4])


def test_what_was_warmed_up_is_not_compiled_again(tmp_path):
    pytest.importorskip("corelib_cpu.native")
    code = (
        "import sys; from corelib.__main__ import main\n"
        "from corelib_cpu import native\n"
        "status = main(['warmup', '--backend', 'cpu', 'exp', 'where', 'sum'])\n"
        "print(status, len(native._addresses) > 8, 'corelib_cpu.walk' in sys.modules)"
    )
    environment = {**os.environ, "CORELIB_CACHE_DIR": str(tmp_path)}
    said = [
        subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
        ).stdout
        for _ in range(2)
    ]
    assert [s.split("\n")[-2] for s in said] == ["0 True True", "0 True False"]


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("nothing_of_the_kind:step", "'nothing_of_the_kind' cannot be imported"),
        ("missing.py:step", "'missing.py' cannot be imported"),
        ("math:step", "'math' has no function 'step'"),
        ("expp", "there is no op 'expp'"),
        ("nonzero_of", "there is no op"),
        ("searchsorted", "no operands for searchsorted are known here"),
    ],
)
def test_warmup_says_what_it_cannot_do(what, says, capsys):
    assert main(["warmup", "--backend", "reference", what]) == 2
    assert says in capsys.readouterr().err
