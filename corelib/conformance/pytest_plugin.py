"""The suite as pytest items, one for each case::

    pytest --pyargs corelib.conformance --corelib-backend=NAME

An item is called like its case, so that ``-k`` chooses among them, and any other plugin (pytest-xdist, JUnit files)
works as for other tests. What a backend declares not to have passes when it is refused as it must be; a known
deviation is an expected failure; a deviation that is declared and not needed is a failing item of its own. Cases
run in the process of pytest: for protection against hangs and crashes use ``corelib conformance``.

pytest imports this module in every run of an environment where corelib is installed: it does nothing unless the
option is given.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .cases import Case
    from .check import Outcome, Suite

PACKAGE = Path(__file__).parent
NAME = "corelib.conformance"


class _Session:
    """What the items of a run share."""

    def __init__(self, config: pytest.Config) -> None:
        from ..op import OPS
        from ..support import find_op
        from .check import Suite
        from .families import Plan, chosen
        from .oracle import REFERENCE
        from .runner import without_fallback

        self.guard = ExitStack()
        self.guard.enter_context(without_fallback())
        self.suite: Suite = Suite(config.getoption("corelib_backend"))
        ops = tuple(find_op(name) for name in config.getoption("corelib_op")) or tuple(OPS)
        profile, seed = config.getoption("corelib_profile"), config.getoption("corelib_seed")
        self.plan = Plan(ops, None, profile, seed, tuple(getattr(self.suite.backend, "tiles", ())))
        self.what = [f.what for f in chosen(self.plan, reference=self.suite.backend.name == REFERENCE)]

    def cases(self) -> Iterator[Case]:
        """All cases of the run."""
        from .families import cases

        return cases(self.plan, self.what)


KEY = pytest.StashKey[_Session]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of the plugin."""
    group = parser.getgroup("corelib", "conformance of corelib backends")
    group.addoption("--corelib-backend", metavar="NAME", help="try this backend: a device such as cpu")
    group.addoption(
        "--corelib-profile", default="standard", choices=["smoke", "standard", "full"], help="how many cases"
    )
    group.addoption("--corelib-op", action="append", default=[], metavar="OP", help="only this op")
    group.addoption("--corelib-seed", type=int, default=0, metavar="N", help="of what is drawn")


def pytest_configure(config: pytest.Config) -> None:
    """Prepare the backend, if one is to be tried."""
    if config.getoption("corelib_backend") is None:
        if config.getoption("pyargs", default=False) and NAME in config.args:
            raise pytest.UsageError(f"say which backend: pytest --pyargs {NAME} --corelib-backend=NAME")
        return
    from ..errors import CorelibError

    try:
        config.stash[KEY] = _Session(config)
    except CorelibError as error:
        raise pytest.UsageError(f"--corelib-backend: {error}") from None


def pytest_unconfigure(config: pytest.Config) -> None:
    """Leave the process as it was."""
    session = config.stash.get(KEY, None)
    if session is not None:
        session.guard.close()


def pytest_report_header(config: pytest.Config) -> list[str]:
    """What is tried, under pytest's own versions."""
    session = config.stash.get(KEY, None)
    if session is None:
        return []
    backend, plan = session.suite.backend, session.plan
    words = backend.describe()
    named = f"{backend.device} ({words})" if words else backend.device
    return [f"corelib: conformance of {named}, profile {plan.profile}, seed {plan.seed}"]


@pytest.hookimpl(optionalhook=True)  # pytest 8 and newer; older ones run everything else undisturbed
def pytest_collect_directory(path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """The package of the suite as a folder of cases."""
    if path != PACKAGE or KEY not in parent.config.stash:
        return None
    return _Cases.from_parent(parent, path=path)


class _Cases(pytest.Directory):
    """All cases of the run, and the deviations that the backend declares."""

    def collect(self) -> Iterator[pytest.Item]:
        session = self.config.stash[KEY]
        covered: dict[str, bool] = dict.fromkeys(session.suite.deviations, False)
        from .check import covered as covers

        for case in session.cases():
            for pattern in covered:
                covered[pattern] = covered[pattern] or covers(case, pattern)
            yield _CaseItem.from_parent(self, name=case.id, case=case)
        for pattern, found in covered.items():
            if found and session.plan.profile != "smoke":  # whose cases may not be those that deviate
                yield _DeviationItem.from_parent(self, name=f"deviation {pattern}", pattern=pattern)


class _Item(pytest.Item):
    """What both kinds of items do."""

    @property
    def suite(self) -> Suite:
        """The backend under test."""
        return self.config.stash[KEY].suite

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Where a report says that the item is."""
        return PACKAGE, None, self.name

    def repr_failure(self, excinfo: Any, style: Any = None) -> Any:
        """A failure as its reason; an error of the suite itself as a traceback."""
        if isinstance(excinfo.value, CaseFailure):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)


class CaseFailure(Exception):  # noqa: N818 - it is shown as a reason, never as an error
    """What a case that failed raises."""


class _CaseItem(_Item):
    def __init__(self, *, case: Case, **given: Any) -> None:
        super().__init__(**given)
        self.case = case

    def runtest(self) -> None:
        """Try the case: pytest's outcomes stand for the suite's."""
        from .check import DEVIATION, FAIL, UNSUPPORTED

        outcome: Outcome = self.suite.run(self.case)
        self.user_properties += [("corelib", outcome.status), ("kernel", outcome.how)]
        if outcome.ulp is not None:
            self.user_properties.append(("ulp", outcome.ulp))
        if outcome.status == UNSUPPORTED:
            self.user_properties.append(("unsupported", outcome.reason))
        elif outcome.status == DEVIATION:
            pytest.xfail(outcome.reason)
        elif outcome.status == FAIL:
            raise CaseFailure(f"{outcome.case.id} {outcome.shown}\n    {outcome.reason}")


class _DeviationItem(_Item):
    def __init__(self, *, pattern: str, **given: Any) -> None:
        super().__init__(**given)
        self.pattern = pattern

    def runtest(self) -> None:
        """At least one of the cases that a declared deviation covers must deviate."""
        from .check import DEVIATION, covered

        session = self.config.stash[KEY]
        if not any(
            self.suite.run(case).status == DEVIATION
            for case in session.cases()
            if covered(case, self.pattern)
        ):
            raise CaseFailure(
                f"the declared deviation {self.pattern!r} is not needed any more: every case that it covers passes; "
                "take it out"
            )
