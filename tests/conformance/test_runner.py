"""Whatever a backend does, a run says so in one clear line, goes on, and accounts for every case."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from corelib import dtypes
from corelib.conformance import FAMILIES, Plan, cases, check, find, run
from corelib.conformance.families import family
from corelib.conformance.runner import _finished
from corelib.conformance.selection import chooser
from corelib.errors import ArgumentError, BackendNotFoundError, DeclarationError
from corelib.op import BY_NAME, OPS

PLUGIN = """
from corelib.plugin_api import BackendInfo, hookimpl
from corelib.samples import Sample, Values
import sys

KNOWN = {"exp[float32-value-0]": "wrong on purpose", "log": "said to be wrong, and is right"}

@hookimpl
def declare_backend():
    bad = lambda name, cls, **more: BackendInfo(name, f"bad_kernels:{cls}", base="reference", **more)
    return [
        bad("bad", "Bad"), bad("known", "Known", deviations=KNOWN), bad("without", "Without"),
        bad("leaks", "Leaks"), bad("claims", "Claims"), BackendInfo("broken", "bad_import:Broken"),
        BackendInfo("dies", "bad_death:Dies"), bad("other", "Other"),
        bad("once", "Once"),
    ]

@hookimpl
def conformance_samples(op, dtype):
    if op.name == "log" and sys.argv[0] == "-c" and "CORELIB_TEST_VOID" in __import__("os").environ:
        return [Sample((Values((1,), dtype, (2.0,)),))] * 0
    if op.name == "log" and "CORELIB_TEST_VOID" in __import__("os").environ:
        return [Sample((Values((1,), dtype, (2.0,)),))]
"""

KERNELS = """
import os, signal, sys, time
from corelib import ops
from corelib.errors import UnsupportedError
from corelib.op import BY_NAME
from corelib.plugin_api import KernelSet, Overlay
from corelib.registry import registry

def base(name, x):
    return registry.get("reference").find(BY_NAME[name], x.dtype)(x)

class Bad(Overlay):
    kernels = KernelSet()

@Bad.kernels.implements(ops.exp)
def sleeps(x):
    if x.shape == (5,):
        time.sleep(1000)
    return base("exp", x)

@Bad.kernels.implements(ops.sin)
def spins(x):
    while x.shape == (5,):
        pass
    return base("sin", x)

@Bad.kernels.implements(ops.log)
def ends(x):
    if x.shape == (5,):
        os._exit(3)
    if x.shape == (33,):
        os.kill(os.getpid(), signal.SIGSEGV)
    if x.shape == (1,):
        sys.exit("enough")
    print("a plugin may print", flush=True)
    return base("log", x)

@Bad.kernels.implements(ops.sqrt)
def foreign(x):
    return [1.0] if x.shape == (1,) else base("sqrt", x)

@Bad.kernels.implements(ops.cos)
def killed(x):
    if x.shape == (5,):
        os.kill(os.getpid(), signal.SIGKILL)
    if x.shape == (33,) and not os.path.exists(os.environ["CORELIB_TEST_MARK"]):
        open(os.environ["CORELIB_TEST_MARK"], "w").close()
        os.kill(os.getpid(), signal.SIGTERM)
    return base("cos", x)

class Known(Overlay):
    kernels = KernelSet()

@Known.kernels.implements(ops.exp)
def first(x):
    y = base("exp", x)
    return type(y)(y.shape, y.dtype, [2.0 * v for v in y.data]) if x.shape == () else y

class Without(Overlay):
    kernels = KernelSet()

    def find(self, op, dtype):
        return None if op.name == "exp" else super().find(op, dtype)

class Claims(Overlay):
    kernels = KernelSet()

@Claims.kernels.implements(ops.exp)
def claimed(x):
    raise UnsupportedError("no exp here")

class Leaks(Overlay):
    kernels = KernelSet()

KEPT = []

@Leaks.kernels.implements(ops.negative)
def kept(x):
    KEPT.append(base("negative", x))
    return KEPT[-1]

class Once(Overlay):
    kernels = KernelSet()

    def __init__(self, *args):
        super().__init__(*args)
        if os.path.exists(os.environ["CORELIB_TEST_MARK"]):
            os._exit(5)

@Once.kernels.implements(ops.exp)
def forbids(x):
    if x.shape == (5,):
        open(os.environ["CORELIB_TEST_MARK"], "w").close()
        os._exit(4)
    return base("exp", x)

class Other(Overlay):
    kernels = KernelSet()

@Other.kernels.implements(ops.exp)
def marks(x):
    if "CORELIB_TEST_MARK" in os.environ:
        with open(os.environ["CORELIB_TEST_MARK"], "a") as file:
            file.write("x")
            file.flush()
            if file.tell() > 3:
                time.sleep(1000)
    return base("exp", x)
"""


@pytest.fixture(scope="module")
def plugged(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which the plugin is installed."""
    folder = tmp_path_factory.mktemp("bad")
    (folder / "bad-1.0.dist-info").mkdir()
    (folder / "bad-1.0.dist-info" / "entry_points.txt").write_text("[corelib.plugins]\nbad = bad_plugin\n")
    (folder / "bad-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: bad\nVersion: 1.0\n")
    (folder / "bad_plugin.py").write_text(PLUGIN)
    (folder / "bad_kernels.py").write_text(KERNELS)
    (folder / "bad_import.py").write_text("import a_module_that_nobody_has\n")
    (folder / "bad_death.py").write_text("import os\nos._exit(7)\n")
    return {**os.environ, "PYTHONPATH": str(folder)}


def conformance(env: dict[str, str], *args: str, **more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "corelib", "conformance", *args]
    return subprocess.run(command, capture_output=True, text=True, env={**env, **more}, timeout=300)


def only(*ops: str) -> list[str]:
    return [word for op in ops for word in ("--op", op)] + ["--dtype", "float32", "--what", "value"]


def totals(out: str) -> dict[str, int]:
    line = out.strip().splitlines()[-1]
    found = re.search(r"(\d+) cases: (\d+) passed, (\d+) failed, (\d+) unsupported, (\d+) known", line)
    assert found, out
    return dict(
        zip(("cases", "pass", "fail", "unsupported", "deviation"), map(int, found.groups()), strict=True)
    )


def test_a_hang_a_crash_and_an_exit_fail_one_case_each_and_the_run_goes_on(plugged):
    found = conformance(plugged, "bad", *only("exp", "sin", "log", "sqrt"), "--time-limit", "2", "-j", "2")
    assert found.returncode == 1
    out = found.stdout
    assert "it did not end within 2 s, in sleeps (bad_kernels.py:" in out
    assert "it did not end within 2 s, in spins (bad_kernels.py:" in out
    assert "it ended the interpreter with exit status 3" in out
    assert re.search(r"it crashed the interpreter: signal 11 \(SIGSEGV\), in ends \(bad_kernels.py:", out)
    assert "raised SystemExit: enough" in out
    assert re.search(r"sqrt\[float32-value-\d\].*\n +\S.*list", out)
    counted = totals(out)
    assert counted["fail"] == 6
    assert counted["cases"] == counted["pass"] + counted["fail"] == 32
    assert "VOID" not in out


def test_a_process_that_is_killed_from_outside_has_a_second_try(plugged, tmp_path):
    found = conformance(plugged, "bad", *only("cos"), "-j", "1", CORELIB_TEST_MARK=str(tmp_path / "killed"))
    assert totals(found.stdout)["fail"] == 1
    assert "its process was killed twice, by signal 9 (SIGKILL): memory may be short" in found.stdout


def test_a_backend_that_cannot_be_used_any_more_leaves_a_partial_report(plugged, tmp_path):
    found = conformance(plugged, "once", *only("exp"), "-j", "1", CORELIB_TEST_MARK=str(tmp_path / "used"))
    assert found.returncode == 2
    assert "it ended the interpreter with exit status 4" in found.stdout
    assert "once: PARTIAL, backend 'once' cannot be used here: its process did not get ready" in found.stdout
    assert totals(found.stdout) == {"cases": 8, "pass": 3, "fail": 1, "unsupported": 0, "deviation": 0}


def test_a_plugin_that_cannot_be_imported_is_one_line(plugged):
    found = conformance(plugged, "broken")
    assert (found.returncode, found.stdout) == (2, "")
    assert "backend 'broken': importing bad_import:Broken raised ModuleNotFoundError" in found.stderr
    assert found.stderr.count("\n") == 1


def test_a_plugin_that_ends_the_interpreter_while_it_is_imported_is_one_line(plugged):
    found = conformance(plugged, "dies")
    assert (found.returncode, found.stdout) == (2, "")
    assert "backend 'dies' cannot be used here: its process did not get ready" in found.stderr
    assert "exit status 7" in found.stderr
    assert found.stderr.count("\n") == 1


def test_fallback_is_off_and_what_is_missing_is_refused(plugged):
    found = conformance(plugged, "without", *only("exp"), "-j", "1", CORELIB_FALLBACK="reference")
    assert totals(found.stdout)["unsupported"] == 8
    assert "'without' has no kernel for exp on float32" in found.stdout


def test_fallback_is_off_in_this_process_too(monkeypatch):
    monkeypatch.setenv("CORELIB_FALLBACK", "cpu")
    seen = []
    run(
        "reference", Plan((BY_NAME["exp"],), (dtypes.float32,)), workers=0,
        progress=lambda *_: seen.append(os.environ.get("CORELIB_FALLBACK")),
    )  # fmt: skip
    assert set(seen) == {None}
    assert os.environ["CORELIB_FALLBACK"] == "cpu"


def test_a_kernel_that_says_that_it_is_not_supported_is_a_lie(plugged):
    found = conformance(
        plugged, "claims", "--op", "exp", "--dtype", "float32", "--what", "dispatch", "-j", "1"
    )
    assert found.returncode == 1
    assert "the backend has a kernel, and that raises UnsupportedError: no exp here" in found.stdout


def test_a_known_deviation_is_no_failure_and_one_that_passes_is(plugged):
    found = conformance(plugged, "known", "--op", "exp", "-j", "1")
    assert found.returncode == 1  # other cases of exp fail as well
    assert "exp: 1 case: wrong on purpose" in found.stdout
    assert totals(found.stdout)["deviation"] == 1
    stale = conformance(plugged, "known", "--op", "log", "-j", "1")
    assert stale.returncode == 1
    assert "the declared deviation 'log' is not needed any more" in stale.stdout
    assert totals(stale.stdout)["fail"] == 0


def test_memory_that_is_kept_is_found(plugged):
    args = ["--op", "negative", "--dtype", "float32", "--profile", "full", "--what", "memory", "-j", "1"]
    found = conformance(plugged, "leaks", *args)
    assert found.returncode == 1
    assert "memory grows: by" in found.stdout
    assert conformance(plugged, "other", *args).returncode == 0


def test_cases_that_a_worker_does_not_find_again_make_the_run_void(plugged):
    found = conformance(plugged, "other", *only("log"), "-j", "1", CORELIB_TEST_VOID="1")
    assert found.returncode == 2
    assert "VOID: nothing was tried in place of log[float32-value-" in found.stdout


@pytest.mark.skipif(os.name != "posix", reason="an interrupt is sent as a signal")
def test_an_interrupted_run_reports_what_it_has(plugged, tmp_path):
    mark = tmp_path / "running"
    command = [sys.executable, "-m", "corelib", "conformance", "other", *only("exp"), "-j", "1"]
    env = {**plugged, "CORELIB_TEST_MARK": str(mark)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    # What a shell starts in the background ignores interrupts, and so does all that it starts.
    process = subprocess.Popen(
        command,
        env=env,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        **pipes,
    )
    # The fourth case does not end; the three before it have.
    while (not mark.exists() or mark.stat().st_size < 4) and process.poll() is None:
        time.sleep(0.1)
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers as well
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert re.search(r"other: PARTIAL, interrupted: 8 cases: 3 passed, 0 failed, .* 5 NOT TRIED", out)
    assert "Traceback" not in out + err


def test_an_interrupt_in_this_process_leaves_a_partial_report():
    def interrupt(done: int, *_: object) -> None:
        if done == 3:
            raise KeyboardInterrupt

    report = check("reference", [BY_NAME["exp"]], progress=interrupt)
    assert (report.partial, len(report.outcomes), report.ok) == ("interrupted", 3, False)
    assert "PARTIAL, interrupted" in report.summary()


def test_workers_and_this_process_give_the_same_outcomes():
    plan = Plan((BY_NAME["exp"], BY_NAME["add"], BY_NAME["softmax"]), None, "smoke")
    there, here = run("reference", plan, workers=2), run("reference", plan, workers=0)
    assert here.ok
    assert there.ok
    key = lambda report: {(o.case.id, o.status, o.ulp, o.how) for o in report.outcomes}
    assert key(there) == key(here)


def test_soak_goes_from_seed_to_seed_until_its_minutes_are_over(plugged):
    found = conformance(
        plugged, "reference", "--profile", "soak", "--what", "program", "--minutes", "0.05", "-j", "1"
    )
    assert found.returncode == 0, found.stdout
    assert re.search(r"reference: to seed \d+: \d+ cases in 0:\d\d, 0 failed", found.stdout)


def test_an_unknown_backend_is_refused_before_anything_is_started():
    with pytest.raises(BackendNotFoundError, match="no backend 'refrence'"):
        run("refrence", Plan((BY_NAME["exp"],)))


def test_a_case_that_is_lost_or_has_the_id_of_another_makes_a_run_void():
    report = check("reference", [BY_NAME["exp"]])
    ids = [o.case.id for o in report.outcomes]
    assert _finished(report, ids, {}).accounted
    assert not _finished(report, [*ids, "exp[float32-value-99]"], {}).accounted
    twice = check("reference", [BY_NAME["exp"]])
    twice.outcomes[1] = twice.outcomes[0]
    assert not _finished(twice, ids, {}).accounted


# -- choosing cases ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "chosen"),
    [
        ("float32", {"exp[float32-value-0]", "log[float32-special-1]"}),
        ("EXP", {"exp[float32-value-0]", "exp[float64-value-0]"}),
        ("exp and not float64", {"exp[float32-value-0]"}),
        ("special or (exp and float64)", {"exp[float64-value-0]", "log[float32-special-1]"}),
        ("not not exp", {"exp[float32-value-0]", "exp[float64-value-0]"}),
        ("*value*", {"exp[float32-value-0]", "exp[float64-value-0]"}),
        ("exp[float??-value-0]", {"exp[float32-value-0]", "exp[float64-value-0]"}),
        ("exp[float32-value-0]", {"exp[float32-value-0]"}),
    ],
)  # fmt: skip
def test_an_expression_chooses_ids(expression, chosen):
    ids = ["exp[float32-value-0]", "exp[float64-value-0]", "log[float32-special-1]"]
    assert {i for i in ids if chooser(expression)(i)} == chosen


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("", "needs an expression"), ("exp and", "a word is missing at the end"), ("(exp", "is not closed"),
        ("exp log", "no 'and' or 'or' before 'log'"), ("or exp", "a word is missing before 'or'"),
    ],
)  # fmt: skip
def test_an_expression_that_cannot_be_read_is_refused(expression, words):
    with pytest.raises(ArgumentError, match=words):
        chooser(expression)


def test_a_case_is_found_again_by_its_id():
    for case in list(cases(Plan((BY_NAME["exp"],))))[::17]:
        again = find(case.id)
        assert (again.id, again.shown) == (case.id, case.shown)


@pytest.mark.parametrize(
    ("case_id", "words"),
    [
        ("exp", "a case's id looks like"), ("exq[float32-value-0]", "there is no op and no family 'exq'"),
        ("exp[float32-value-999]", "there is no case 'exp.float32-value-999.' in profile 'standard' with seed 0"),
    ],
)  # fmt: skip
def test_an_id_without_a_case_is_refused(case_id, words):
    with pytest.raises(ArgumentError, match=words):
        find(case_id)


@pytest.mark.parametrize("profile", ["smoke", "standard"])
def test_ids_are_unique_and_the_same_each_time(profile):
    ops = tuple(OPS[::9])
    ids = [case.id for case in cases(Plan(ops, None, profile))]
    assert len(ids) == len(set(ids))
    assert ids == [case.id for case in cases(Plan(ops, None, profile))]


def test_a_family_is_declared_once_and_properly():
    nothing = lambda plan: iter(())
    for arguments, words in [
        (("value", 1, ("smoke",)), "declared twice"),
        (("new-one", 1, ("smoke",)), "one word"),
        (("newest", 9, ("smoke",)), "level is 0 to 4"),
        (("newest", 1, ("quick",)), "profiles are among"),
    ]:
        what, level, profiles = arguments
        with pytest.raises(DeclarationError, match=words):
            family(what, level=level, profiles=profiles, generate=nothing)
    assert "newest" not in FAMILIES


# -- pytest ------------------------------------------------------------------------------------------------------


def suite(env: dict[str, str], folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """`pytest --pyargs corelib.conformance`, far from this repository's settings."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--pyargs",
        "corelib.conformance",
        "-p",
        "no:cacheprovider",
        *args,
    ]
    if "corelib.conformance.pytest_plugin" not in str(_installed()):
        command += ["-p", "corelib.conformance.pytest_plugin"]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=env, timeout=300)


def _installed() -> list[str]:
    from importlib.metadata import entry_points

    return [point.value for point in entry_points(group="pytest11")]


def test_pytest_collects_every_case_by_its_id(tmp_path):
    found = suite(dict(os.environ), tmp_path, "--corelib-backend=reference", "--corelib-op=exp", "-q", "--co")
    ids = re.findall(r"::(exp\[.*\])", found.stdout)
    assert ids == [case.id for case in cases(Plan((BY_NAME["exp"],)))]


def test_pytest_shows_failures_deviations_and_what_is_unsupported(plugged, tmp_path):
    found = suite(plugged, tmp_path, "--corelib-backend=known", "--corelib-op=exp", "--corelib-op=log", "-rA")
    assert found.returncode == 1
    assert "corelib: conformance of known (on reference), profile standard, seed 0" in found.stdout
    assert re.search(r"XFAIL .*::exp\[float32-value-0\] - .*wrong on purpose", found.stdout)
    assert re.search(r"FAILED .*::exp\[float64-value-0\]", found.stdout)
    assert re.search(r"FAILED .*::deviation log", found.stdout)
    assert "the declared deviation 'log' is not needed any more" in found.stdout
    assert re.search(r"PASSED .*::deviation exp\[float32-value-0\]", found.stdout)
    without = suite(
        plugged, tmp_path, "--corelib-backend=without", "--corelib-op=exp", "-k", "value and float32", "-q"
    )
    assert without.returncode == 0
    assert "8 passed" in without.stdout


def test_pytest_says_what_is_missing(tmp_path, plugged):
    for args, words in [
        ([], "say which backend: pytest --pyargs corelib.conformance --corelib-backend=NAME"),
        (["--corelib-backend=refrence"], "no backend 'refrence'; did you mean 'reference'"),
        (["--corelib-backend=broken"], "importing bad_import:Broken raised ModuleNotFoundError"),
    ]:
        found = suite(plugged, tmp_path, *args)
        assert found.returncode == 4
        assert words in found.stdout + found.stderr
