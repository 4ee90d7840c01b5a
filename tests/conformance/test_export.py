"""Reports as files: what is written can be read back, by whoever it is for, and a comparison finds what has become worse."""

from __future__ import annotations

import copy
import dataclasses
import json
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from corelib.__main__ import main
from corelib.conformance import Plan, Report, check, document, export, formats, page, record, run
from corelib.conformance.check import DEVIATION, FAIL, PASS, UNSUPPORTED
from corelib.conformance.tally import bin_of
from corelib.errors import ArgumentError
from corelib.op import BY_NAME, OPS
from corelib.registry import backends

NAMES = ("exp", "add", "sum", "inv", "equal")


@pytest.fixture(scope="module")
def passed() -> Report:
    """A run of a few ops, in which everything passes."""
    return check(
        "reference", [BY_NAME[name] for name in NAMES], what=["value", "special", "layout", "gradient"]
    )


@pytest.fixture
def report(passed) -> Report:
    """The same with one case that failed, one that is not supported and one known deviation."""
    outcomes = list(passed.outcomes)
    words = {
        0: (FAIL, 'it\'s <not> "right" & \x00'),
        1: (UNSUPPORTED, "no kernel"),
        2: (DEVIATION, "known | so"),
    }
    for n, (status, reason) in words.items():
        outcomes[n] = dataclasses.replace(
            outcomes[n], status=status, ulp=None, reason=reason, shown="exp(<x>)"
        )
    return dataclasses.replace(passed, outcomes=outcomes, stale=["old*"])


@pytest.fixture
def whole(passed) -> Report:
    """The run as if it had been about every op."""
    return dataclasses.replace(passed, plan=Plan(tuple(OPS)), selected=False)


# -- JSON ----------------------------------------------------------------------------------------------------


def test_json_is_read_back_as_it_was_written(report, tmp_path):
    assert export.write(report, {"json": tmp_path / "{backend}.json"}, lambda text: None)
    assert [p.name for p in tmp_path.iterdir()] == ["reference.json"], "nothing temporary is left"
    found = document.load(tmp_path / "reference.json")
    assert document.text(found) == (tmp_path / "reference.json").read_text(encoding="utf-8")
    written = document.document(report)
    written["run"]["date"] = found["run"]["date"]
    assert found == written
    again, cells = document.tally(found).cells, report.tally.cells
    assert set(again) == set(cells)
    for key, cell in cells.items():
        assert (again[key].counts, again[key].histogram, again[key].hows) == (
            cell.counts,
            cell.histogram,
            cell.hows,
        )
        assert again[key].worst == (cell.worst if cell.worst is None else pytest.approx(cell.worst, rel=1e-5))


def test_json_accounts_for_every_case(report):
    found = json.loads(document.text(document.document(report)))
    assert sum(found["counts"].values()) == found["generated"] == len(report.outcomes)
    assert found["counts"] == {"pass": report.generated - 3, "fail": 1, "unsupported": 1, "deviation": 1}
    for key in ("families", "levels"):
        listed = found[key].values() if isinstance(found[key], dict) else found[key]
        assert sum(sum(cell.get(s, 0) for s in found["counts"]) for cell in listed) == found["generated"]
    assert found["failures"][0]["id"] == report.outcomes[0].case.id
    assert found["unsupported"] == [{"reason": "no kernel", "cases": [report.outcomes[1].case.id]}]
    assert found["deviations"] == [{"reason": "known | so", "cases": [report.outcomes[2].case.id]}]
    assert found["stale"] == ["old*"]


def test_json_names_what_a_run_depends_on(passed):
    found = document.document(passed)
    assert found["schema"] == 1
    assert found["backend"]["name"] == "reference"
    assert set(found["environment"]) >= {"python", "system", "processor", "numpy"}
    assert (
        found["run"] | {"profile": "standard", "seed": 0, "whole": False, "ops": list(NAMES)} == found["run"]
    )


def test_histograms_count_what_was_measured(passed):
    cell = document.document(passed)["ops"]["exp"]["cells"]["float32"]["value"]["plain"]
    measured = [
        o.ulp for o in passed.outcomes
        if o.case.op.name == "exp" and o.case.dtype.name == "float32" and o.case.what == "value"
    ]  # fmt: skip
    assert sum(cell["histogram"].values()) == len(measured) == cell["pass"]
    assert cell["worst"] == max(measured)


@pytest.mark.parametrize(
    ("ulp", "edge"),
    [(0, 0), (0.1, 0.5), (0.5, 0.5), (0.6, 1), (1, 1), (1.5, 2), (2, 2), (3, 4), (1000, 1024)],
)
def test_bins_are_powers_of_two(ulp, edge):
    assert bin_of(ulp) == edge


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "is not JSON"),
        ("[]", "is not a corelib conformance report: write one with"),
        ('{"what": "corelib conformance report", "schema": 999}', "has schema 999, this corelib reads 1"),
        ('{"what": "corelib conformance record", "schema": 999}', "has schema 999"),
    ],
)
def test_a_file_of_something_else_is_refused(content, words, tmp_path):
    path = tmp_path / "old.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ArgumentError, match=words):
        record.load(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ArgumentError, match="cannot be read: No such file"):
        document.load(tmp_path / "none.json")


def test_every_report_shows_the_histogram(passed):
    found = document.document(passed)
    counts = [str(n) for _, n in sorted(passed.tally.levels[1].cell.histogram.items())]
    assert re.search(r"  L1 +" + " +".join(counts), passed.text())
    assert f"| L1 | {' | '.join(counts)} " in formats.markdown(found)
    assert f"<tr><th scope=row>L1{''.join(f'<td>{n}' for n in counts)}" in page.html(found, passed.tally)


# -- what was not whole --------------------------------------------------------------------------------------


def test_an_interrupted_run_is_readable(passed, tmp_path):
    partial = dataclasses.replace(passed, outcomes=passed.outcomes[:100], partial="interrupted")
    paths = {kind: tmp_path / kind for kind in ("json", "junit", "html", "markdown", "badge")}
    export.write(partial, paths, lambda text: None)
    found = document.load(paths["json"])
    assert (found["run"]["partial"], found["ok"], found["level"]) == ("interrupted", False, None)
    assert found["unaccounted"] == passed.generated - 100
    assert "partial: interrupted" in ElementTree.parse(paths["junit"]).find(".//error").get("message")
    assert "partial run" in paths["badge"].read_text()
    for kind in ("html", "markdown"):
        assert "PARTIAL, interrupted" in paths[kind].read_text(encoding="utf-8")


def test_a_real_interrupt_leaves_a_report(tmp_path):
    def stop(done, total, failed, subject):
        if done == 10:
            raise KeyboardInterrupt

    found = run("reference", Plan((BY_NAME["exp"],)), workers=0, progress=stop)
    export.write(found, {"json": tmp_path / "r.json"}, lambda text: None)
    assert document.load(tmp_path / "r.json")["counts"]["pass"] == 10


def test_a_run_of_nothing_is_readable():
    empty = check("reference", [])
    assert "no case was generated" in formats.markdown(document.document(empty))
    assert "no case was generated" in formats.junit(empty)


# -- levels --------------------------------------------------------------------------------------------------


def planted(whole: Report, what: str, status: str) -> Report:
    """The report with the first case of a family in another status."""
    outcomes = list(whole.outcomes)
    n = next(n for n, o in enumerate(outcomes) if o.case.what == what)
    outcomes[n] = dataclasses.replace(outcomes[n], status=status, ulp=None, reason="planted")
    return dataclasses.replace(whole, outcomes=outcomes)


@pytest.fixture
def complete(whole) -> Report:
    """The run as if every level had been tried."""
    first = whole.outcomes[0]
    whats = ("error", "laws")
    more = [dataclasses.replace(first, case=dataclasses.replace(first.case, what=what)) for what in whats]
    return dataclasses.replace(whole, outcomes=[*whole.outcomes, *more], generated=whole.generated + 2)


def test_the_level_is_the_highest_below_which_nothing_fails(complete):
    assert complete.level == 3
    assert (
        complete.verdict()
        == "L3 (second order), profile standard; not L4 (threads and determinism): no case was tried"
    )
    assert planted(complete, "gradient", FAIL).level == 1
    assert "not L2 (gradients): 1 of " in planted(complete, "gradient", FAIL).verdict()
    assert planted(complete, "value", FAIL).level == 0
    assert planted(complete, "error", FAIL).level is None
    assert "no level" in planted(complete, "error", FAIL).verdict()


def test_a_known_deviation_costs_no_level_and_is_told(complete):
    report = planted(complete, "value", DEVIATION)
    assert report.level == 3
    assert "1 known deviations" in report.verdict()


def test_a_level_at_which_all_is_unsupported_is_not_reached(complete):
    assert planted(complete, "laws", UNSUPPORTED).level == 2
    assert (
        "L3 (second order): each of 1 cases is unsupported"
        in planted(complete, "laws", UNSUPPORTED).verdict()
    )


@pytest.mark.parametrize(
    "change",
    [
        {"selected": True},
        {"partial": "interrupted"},
        {"problems": ["a case was tried twice"]},
        {"plan": Plan((BY_NAME["exp"],))},
        {"plan": Plan(tuple(OPS), (BY_NAME["exp"].rule.accepts[0],))},
        {"generated": 10_000_000},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_run_that_is_not_whole_has_no_level(complete, change):
    assert dataclasses.replace(complete, **change).level is None


# -- JUnit, HTML, Markdown, badge ----------------------------------------------------------------------------


def test_junit_has_a_test_for_each_case(report):
    suite = ElementTree.fromstring(formats.junit(report)).find("testsuite")
    tests = suite.findall("testcase")
    assert int(suite.get("tests")) == len(tests) == report.generated + 1
    assert [t.get("name") for t in tests[1:]] == [o.case.id for o in report.outcomes]
    assert int(suite.get("failures")) == len(suite.findall("testcase/failure")) == 1
    assert int(suite.get("skipped")) == len(suite.findall("testcase/skipped")) == 2
    assert suite.find("testcase/failure").get("message") == 'it\'s <not> "right" & \ufffd'
    assert suite.find("testcase/failure").text == "exp(<x>)"
    assert suite.find("testcase/error").get("message") == "the declared deviation 'old*' is not needed"


class Balanced(HTMLParser):
    """Notes the text, the cells of each row, and what refers to something elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.references: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.references += [v for k, v in attrs if k in ("src", "href", "srcset", "data", "action")]
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_data(self, data):
        if self.rows and self.rows[-1]:
            self.rows[-1][-1] += data.strip()


def test_the_page_needs_nothing_else_and_has_each_op(report):
    text = page.html(document.document(report), report.tally)
    assert not re.search(r"https?://|@import|url\(", text)
    parsed = Balanced()
    parsed.feed(text)
    assert parsed.references == []
    rows = {(row[0], row[1]) for row in parsed.rows}
    assert rows >= {(o.case.op.name, o.case.dtype.name) for o in report.outcomes}
    head = next(row for row in parsed.rows if row[:2] == ["op", "dtype"])
    assert {len(row) for row in parsed.rows if row[0] in NAMES} == {len(head)}
    assert {"result: plain", "result: transposed", "gradient: plain"} <= set(head)
    assert "it&#x27;s &lt;not&gt;" in text, "reasons are text"


def test_the_page_shows_the_largest_distance(passed):
    parsed = Balanced()
    parsed.feed(page.html(document.document(passed), passed.tally))
    head = next(row for row in parsed.rows if row[:2] == ["op", "dtype"])
    row = next(row for row in parsed.rows if row[:2] == ["exp", "float32"])
    measured = [
        o.ulp for o in passed.outcomes
        if (o.case.op.name, o.case.dtype.name, o.case.placement) == ("exp", "float32", "") and o.case.what != "gradient"
    ]  # fmt: skip
    assert row[head.index("result: plain")] == f"{max(measured):.3g}"


def luminance(colour: str) -> float:
    """Of a colour such as #0f6b34: https://www.w3.org/TR/WCAG22/#dfn-relative-luminance."""
    digits = colour[1:] if len(colour) == 7 else "".join(2 * c for c in colour[1:])
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: str, b: str) -> float:
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


def test_texts_can_be_told_from_their_background():
    """WCAG 2.2 asks for a contrast of 4.5 to 1."""
    themes = [
        dict(re.findall(r"--(\w):(#\w+)", block)) for block in re.findall(r":root\{[^}]*\}", page.STYLE)
    ]
    assert len(themes) == 2
    for theme in themes:
        for text, ground in ("fb", "mb", "xb", "db", "fh", "fp"):
            assert contrast(theme[text], theme[ground]) >= 4.5, (theme, text, ground)
    for colour in (*formats.COLOURS.values(), formats.RED, formats.GREY):
        assert contrast(colour, "#fff") >= 4.5, colour


def test_markdown_is_a_table_with_each_op(report):
    lines = formats.markdown(document.document(report)).splitlines()
    head = next(line for line in lines if line.startswith("| op |"))
    rows = [line for line in lines if line.split(" | ")[0].removeprefix("| ") in NAMES]
    assert len(rows) == len(NAMES)
    bare = lambda line: line.replace("\\|", "").count("|")
    assert {bare(row) for row in rows} == {bare(head)}
    assert any("1 FAIL" in row for row in rows)
    assert any("known | so" in line for line in lines)


@pytest.mark.parametrize("level", [None, 0, 1, 2, 3, 4])
def test_the_badge_is_a_picture_with_level_and_counts(complete, level):
    found = document.document(complete) | {"level": level}
    picture = ElementTree.fromstring(formats.badge(found))
    said = "".join(picture.itertext())
    assert f"{complete.generated} passed" in said
    assert ("corelib L" in said) == (level is not None)
    assert picture.get("aria-label") in said


def test_the_badge_of_a_failure_says_so(report):
    said = formats.badge(document.document(report))
    assert "1 failed" in said
    assert formats.RED in said


# -- the record, and comparing -------------------------------------------------------------------------------


def test_a_record_says_nothing_is_different_from_itself(whole, tmp_path):
    path = tmp_path / "record.json"
    said: list[str] = []
    export.write(whole, {"update_record": path}, said.append)
    assert export.write(whole, {"compare": path}, said.append)
    assert said[-1].endswith("nothing is different")
    assert path.stat().st_size < 10_000


@pytest.mark.parametrize(
    "change", [{"selected": True}, {"partial": "interrupted"}, {"stale": ["x"]}], ids=str
)
def test_only_a_whole_run_in_order_is_recorded(whole, change, tmp_path):
    with pytest.raises(ArgumentError, match="only a whole run without failures is recorded"):
        export.write(dataclasses.replace(whole, **change), {"update_record": tmp_path / "r"}, print)
    assert not list(tmp_path.iterdir())


def grown(report: Report, op: str, by: float) -> Report:
    """The report with a larger distance at one case of an op."""
    outcomes = list(report.outcomes)
    found = [
        n
        for n, o in enumerate(outcomes)
        if (o.case.subject, o.case.what, o.case.dtype.name) == (op, "value", "float64")
    ]
    n = max(found, key=lambda n: outcomes[n].ulp)
    outcomes[n] = dataclasses.replace(outcomes[n], ulp=outcomes[n].ulp + by)
    return dataclasses.replace(report, outcomes=outcomes)


def compared(old: Report, new: Report) -> record.Comparison:
    return record.compare(record.of(document.document(old)), record.of(document.document(new)))


def test_more_than_one_ulp_more_is_a_regression(whole):
    assert compared(whole, grown(whole, "exp", 1.25)).regressions[0].startswith("exp float64 value: ")
    assert compared(whole, grown(whole, "exp", 1.0)).ok
    assert compared(whole, grown(whole, "exp", 1.0)).worse
    assert compared(grown(whole, "exp", 1.0), whole).better


def test_sums_may_take_another_order_but_not_twice_the_distance(whole):
    old = grown(whole, "sum", 40)
    assert compared(old, grown(whole, "sum", 60)).ok
    assert not compared(old, grown(whole, "sum", 100)).ok


def test_a_case_that_passed_and_fails_is_a_regression(whole):
    assert compared(whole, planted(whole, "value", FAIL)).regressions == [
        f"{next(o.case.id for o in whole.outcomes if o.case.what == 'value')} fails now"
    ]
    assert "is not supported any more" in compared(whole, planted(whole, "value", UNSUPPORTED)).regressions[0]
    assert "is a declared deviation now" in compared(whole, planted(whole, "value", DEVIATION)).worse[0]
    assert "does not fail any more" in compared(planted(whole, "value", FAIL), whole).better[0]


def test_what_only_one_of_two_runs_tried_is_told(whole):
    less = copy.copy(whole)
    less.outcomes = [o for o in whole.outcomes if o.case.subject != "exp"]
    less.generated = len(less.outcomes)
    assert all(line.startswith("exp ") for line in compared(less, whole).new)
    assert all(line.startswith("exp ") for line in compared(whole, less).lost)
    assert compared(whole, less).lost
    less.selected = True
    assert not compared(whole, less).lost, "what was not to be tried is not lost"


def test_a_regression_is_shown_and_makes_the_comparison_fail(whole, tmp_path):
    said: list[str] = []
    export.write(whole, {"json": tmp_path / "old.json"}, said.append)
    assert not export.write(grown(whole, "exp", 3), {"compare": tmp_path / "old.json"}, said.append)
    assert "REGRESSIONS: 1" in said[-1]
    assert "exp float64 value" in said[-1]
    assert all(o.status == PASS for o in whole.outcomes)


def test_a_file_that_cannot_be_right_is_refused_before_the_run(capsys):
    assert main(["conformance", "reference", "--compare", "none.json"]) == 2
    assert "none.json cannot be read" in capsys.readouterr().err
    if len([s for s in backends() if s.usable]) > 1:
        assert main(["conformance", "--op", "exp", "--json", "all.json"]) == 2
        assert "put {backend} into the name" in capsys.readouterr().err
