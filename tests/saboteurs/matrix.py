"""Which check kills which saboteur: every test that a planted mistake is found, run once more with all families on.

    python tests/saboteurs/matrix.py          writes docs/conformance/saboteurs.md
    python tests/saboteurs/matrix.py --new    tries only what is not on that page yet

A saboteur is a test whose name says that something "is found" or "are found", and each of its parameters. While such a
test runs, every run of the suite in it is noted, and repeated with all families of profile ``standard`` on the ops that
it asked for; the families of what failed killed the saboteur. Exit status 1 if one survived, or if its test failed.
``tests/saboteurs/test_matrix.py`` holds the page against the tests.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "conformance" / "saboteurs.md"
WHERE = ("tests/saboteurs", "tests/conformance")
PLANTED = r"_(is|are)_found(?!_(again|at_every|and_travels))"  # in the names of tests
LISTED = (
    "mistake",
    "a wrong gradient of one backend",
    "a wrong gradient at a kink",
    "the formulas of textbooks",
)  # tests whose parameters tell all
PATIENCE = 8  # ops: what is asked of more is not asked again of all families


@dataclass
class Saboteur:
    """One planted mistake: where its test is, what it is called, the ops that were tried, how many cases of each family
    failed, and why the first did.
    """

    section: str
    name: str
    kills: Counter[str] = field(default_factory=Counter)
    ops: set[str] = field(default_factory=set)
    reason: str = ""
    passed: bool = False

    @classmethod
    def of(cls, node: str) -> Saboteur:
        """Of a test: its parameter in a table of mistakes, otherwise what the test's own name says."""
        section, _, test = node.partition("::")
        test, _, parameter = test.partition("[")
        said = re.sub(r"^test_|_(is|are)_found.*$", "", test).replace("_", " ")
        name = parameter[:-1] if said in LISTED else f"{said}: {parameter[:-1]}" if parameter else said
        return cls(section, _cell(name))

    @classmethod
    def read(cls, section: str, row: str) -> Saboteur:
        """Of a row of the page."""
        name, ops, verdict, reason = re.split(r"(?<!\\) \| ", row.removeprefix("| ").removesuffix(" |"))
        killed = Counter({what: int(n) for what, n in re.findall(r"(\w+) (\d+)", verdict)})
        return cls(
            section, name, killed, {*filter(None, ops.split(", "))}, reason.strip(" `"), "*" not in verdict
        )

    def row(self, order: Iterable[str]) -> str:
        """As a row of the page."""
        kills = ", ".join(f"{what} {self.kills[what]}" for what in order if self.kills[what])
        verdict = kills if self.passed and kills else f"**survived** {kills}"
        reason = _cell(self.reason.replace(f"{ROOT}/", "")).replace("`", "'")
        reason = reason if len(reason) < 110 else reason[:107] + "..."
        return f"| {self.name} | {', '.join(sorted(self.ops)[:4])} | {verdict} | `{reason}` |"


def _cell(text: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"(?<!\\)\|", r"\|", text))


def read(text: str) -> list[Saboteur]:
    """The saboteurs of a page."""
    found, section = [], ""
    for line in text.splitlines():
        if heading := re.fullmatch(r"## `(.*)`", line):
            section = heading[1]
        elif section and re.match(r"\| (?!saboteur \|)", line):
            found.append(Saboteur.read(section, line))
    return found


class Recorder:
    """A plugin of pytest that notes what the suite finds during each test."""

    def __init__(self, known: list[Saboteur]) -> None:
        self.known = {(s.section, s.name) for s in known}
        self.planted: list[Saboteur] = []
        self.found: dict[str, Saboteur] = {}
        self.now: Saboteur | None = None

    def pytest_collection_modifyitems(self, config: Any, items: list[Any]) -> None:
        wanted = {i: Saboteur.of(i.nodeid) for i in items if re.search(PLANTED, i.originalname)}
        self.planted = list(wanted.values())
        new = [i for i, s in wanted.items() if (s.section, s.name) not in self.known]
        config.hook.pytest_deselected(items=[i for i in items if i not in new])
        items[:] = new

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: Any) -> Iterator[None]:
        self.now = self.found[item.nodeid] = Saboteur.of(item.nodeid)
        print(item.nodeid, file=sys.stderr, flush=True)
        with recorded(self):
            yield
        self.now.passed = True
        return None

    def note(self, outcomes: Sequence[Any]) -> None:
        """Of failures that were found at once: how many of each family, unless more were found before."""
        assert self.now is not None
        failures = [o for o in outcomes if o.status == "fail"]
        failures = failures or [
            o for o in outcomes if o.status == "unsupported"
        ]  # which none of the backends here may be
        self.now.kills |= Counter(o.case.what for o in failures)
        for o in failures:
            self.now.ops |= {o.case.op.name} if o.case.op else set()
            self.now.reason = self.now.reason or o.reason

    def one_more(self, what: str, op: str, reason: str) -> None:
        """Of a failure that was found alone."""
        assert self.now is not None
        self.now.kills[what] += 1
        self.now.ops |= {op} if op else set()
        self.now.reason = self.now.reason or reason


@contextlib.contextmanager
def recorded(recorder: Recorder) -> Iterator[None]:
    """While the block runs, the recorder is told what fails: in runs, which are repeated with all families if they were of
    a few; in single cases; among golden vectors; and in commands.
    """
    from corelib.conformance import golden, runner
    from corelib.conformance.check import Suite
    from corelib.conformance.families import chosen

    run, judge, single, command = runner.run, golden.Vectors.judge, Suite.run, subprocess.run

    def told(device: str, plan: Any, *, what: Any = None, **options: Any) -> Any:
        with pytest.MonkeyPatch.context() as inside:
            inside.setattr(golden.Vectors, "judge", judge)
            inside.setattr(Suite, "run", single)
            report = run(device, plan, what=what, **options)
            recorder.note(report.outcomes)
            if what is not None and report.failures and len(plan.ops) <= PATIENCE:
                every = [f.what for f in chosen(plan, reference=device == "reference")]
                recorder.note(run(device, plan, what=every, **options).outcomes)
        return report

    def judged(vectors: Any, results: Any) -> Any:
        worst, wrong = judge(vectors, results)
        for reason in wrong:
            recorder.one_more("golden", vectors.op.name, str(reason))
        return worst, wrong

    def tried(suite: Any, case: Any) -> Any:
        with pytest.MonkeyPatch.context() as inside:
            inside.setattr(golden.Vectors, "judge", judge)
            outcome = single(suite, case)
        if outcome.status == "fail":
            recorder.one_more(case.what, case.op.name if case.op else "", outcome.reason)
        return outcome

    def commanded(*args: Any, **options: Any) -> Any:
        done = command(*args, **options)
        listed = str(done.stdout).partition("\nfailed:\n")[2]
        for op, what, reason in re.findall(r"^  (\w+)\[\w+-(\w+)-\d+\].*\n +(.*)", listed, re.MULTILINE):
            recorder.one_more(what, op, reason)
        return done

    with pytest.MonkeyPatch.context() as monkey:
        monkey.setattr(runner, "run", told)
        monkey.setattr(golden.Vectors, "judge", judged)
        monkey.setattr(Suite, "run", tried)
        monkey.setattr(subprocess, "run", commanded)
        yield


def page(found: list[Saboteur]) -> str:
    """The matrix as Markdown."""
    from corelib.conformance import FAMILIES

    order = sorted(FAMILIES, key=lambda what: (FAMILIES[what].level, what))
    killers = Counter(what for s in found for what in s.kills)
    alone = Counter(next(iter(s.kills)) for s in found if len(s.kills) == 1)
    survived = [s for s in found if not s.kills or not s.passed]
    lines = [
        "# Saboteurs",
        "",
        "Backends that are wrong in one place, and the families of checks that found it, with the number of cases that failed. Made by",
        "`python tests/saboteurs/matrix.py`: each mistake that the tests of `tests/saboteurs` and `tests/conformance` plant, tried by",
        "all families of profile `standard` on the ops that it touches. What the families try is",
        "told in [README.md](README.md).",
        "",
        f"{len(found)} saboteurs, {len(found) - len(survived)} killed, {len(survived)} survived.",
        "",
        "| family | kills | alone |",
        "|---|---:|---:|",
        *(f"| {what} | {killers[what]} | {alone[what]} |" for what in order if killers[what]),
        "",
    ]
    idle = [what for what in order if not killers[what]]
    if idle:
        lines += [f"Without a kill of their own: {', '.join(idle)}.", ""]
    for section in dict.fromkeys(s.section for s in found):
        lines += [
            f"## `{section}`",
            "",
            "| saboteur | op | killed by (cases) | first words |",
            "|---|---|---|---|",
        ]
        lines += [s.row(order) for s in found if s.section == section]
        lines.append("")
    lines += [f"Survived: {', '.join(s.name for s in survived) or 'none'}.", ""]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("-k", default="", help="only tests that match, as pytest's -k")
    parser.add_argument(
        "--new", action="store_true", help="only what the page has no row of; the others stay"
    )
    parser.add_argument("--list", action="store_true", help="run nothing, print where each saboteur is")
    args = parser.parse_args()
    known = read(PAGE.read_text(encoding="utf-8")) if args.new else []
    recorder = Recorder(known)
    options = ["-q", "-p", "no:cacheprovider", "-n", "0", f"--rootdir={ROOT}"]
    options += ["-k", args.k] if args.k else []
    options += ["--collect-only"] if args.list else []
    with contextlib.redirect_stdout(io.StringIO()) as said:
        status = pytest.main([*options, *(str(ROOT / t) for t in WHERE)], plugins=[recorder])
    if args.list:
        print("\n".join(f"{s.section}: {s.name}" for s in recorder.planted))
        return 0 if recorder.planted else 2
    if status not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED):
        print(said.getvalue(), file=sys.stderr)
        return 2
    tried = {(s.section, s.name): s for s in (*known, *recorder.found.values())}
    found = [tried[key] for s in recorder.planted if (key := (s.section, s.name)) in tried]
    PAGE.write_text(page(found), encoding="utf-8")
    bad = [s for s in found if not s.kills or not s.passed]
    print(f"wrote {PAGE}: {len(recorder.found)} tried, {len(found)} in all, {len(bad)} survived")
    if bad or status == pytest.ExitCode.TESTS_FAILED:
        print(said.getvalue()[-4000:], file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
