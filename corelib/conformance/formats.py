"""The report in formats that others read: Markdown, a badge as an SVG picture, and JUnit XML."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from .check import DEVIATION, FAIL, PASS, STATUSES, UNSUPPORTED
from .document import tally
from .report import Report, distances, rows

# -- Markdown and the badge ----------------------------------------------------------------------------------


def markdown(found: Mapping[str, Any]) -> str:
    """The matrix as a table in Markdown, under the levels and the environment."""
    backend, env, run = found["backend"], found["environment"], found["run"]
    versions = "".join(f", {k} {v}" for k, v in backend["versions"].items() if v)
    lines = [
        f"# Conformance of `{backend['device']}`",
        "",
        f"**{found['verdict']}.**",
        "",
        f"{found['summary']}. corelib {found['corelib']}, seed {run['seed']}, Python {env['python']}{versions},",
        f"{env['system']} {env['machine']}, {env['processor']}; the backend says: {backend['description'] or 'nothing'}.",
        "",
        "| level | | cases | passed | failed | unsupported | deviations |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for level in found["levels"]:
        counts = [level.get(s, 0) for s in STATUSES]
        reached = "tried" if not level["passed"] else "passed"
        word = reached if sum(counts) else "not tried"
        lines.append(_row([f"L{level['level']} {level['name']}", word, sum(counts), *counts]))
    counted = tally(found)
    spread = [["level", *row[1:]] if not row[0] else row for row in distances(counted)]
    if len(spread) > 1:
        lines += ["", "How many cases were measured at which distance, in ULP:", ""]
        lines += [_row(spread[0]), _row(["---"] * len(spread[0])), *map(_row, spread[1:])]
    table = rows(counted)
    lines += [
        "",
        "Cases passed at each level, and the largest distances in ULP, of results and of gradients. A budget in words",
        "is a bound from the values; what is judged by a residual is measured as a share of its budget.",
        "",
        _row([*table[0][:-1], "not passed"]),
        _row(["---"] * len(table[0])),
        *(_row(row) for row in table[1:]),
    ]
    for title, key in (("Known deviations", "deviations"), ("Unsupported", "unsupported")):
        if found[key]:
            lines += ["", f"## {title}", ""]
            lines += [
                f"* {len(g['cases'])} cases, such as `{g['cases'][0]}`: {g['reason']}" for g in found[key]
            ]
    if found["failures"]:
        lines += ["", "## Failed", ""]
        lines += [f"* `{f['id']}`: {f['reason']}" for f in found["failures"]]
    return "\n".join(lines) + "\n"


def _row(cells: Iterable[Any]) -> str:
    return f"| {' | '.join(str(c).replace('|', chr(92) + '|') for c in cells)} |"


COLOURS = {0: "#a8421a", 1: "#8a6100", 2: "#5d6b00", 3: "#2f7013", 4: "#0f6b34"}
RED, GREY = "#a31515", "#5c5c5c"  # white text on each of these has a contrast of 4.5 : 1 at least
CHARACTER = 6.6  # pixels that a character of the badge takes, on average


def badge(found: Mapping[str, Any]) -> str:
    """An SVG picture with the level and the counts."""
    counts, run = found["counts"], found["run"]
    profile = f" {run['profile']}" if run["profile"] not in (None, "standard") else ""
    left = f"corelib L{found['level']}{profile}" if found["level"] is not None else "corelib"
    said = [f"{counts[PASS]} passed"]
    said += [f"{counts[FAIL]} failed"] if counts[FAIL] else []
    said += [f"{counts[DEVIATION]} deviations"] if counts[DEVIATION] else []
    some, every = found["supported"]
    said += [f"{some} of {every} ops"] if some < every else []
    said += [] if run["whole"] else ["partial run"]
    right = ", ".join(said)
    a, b = (round(CHARACTER * len(part)) + 10 for part in (left, right))
    label = escape(f"{left}: {right}")
    colour = COLOURS.get(found["level"], GREY) if found["ok"] else RED
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{a + b}" height="20" role="img" aria-label={quoteattr(f"{left}: {right}")}>\n'
        f"<title>{label}</title>\n"
        f'<rect width="{a + b}" height="20" rx="3" fill="{colour}"/>\n'
        f'<path d="M3 0h{a - 3}v20H3a3 3 0 0 1-3-3V3a3 3 0 0 1 3-3z" fill="#444"/>\n'
        '<g fill="#fff" text-anchor="middle" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11">\n'
        f'<text x="{a / 2:g}" y="14" textLength="{a - 10}">{escape(left)}</text>\n'
        f'<text x="{a + b / 2:g}" y="14" textLength="{b - 10}">{escape(right)}</text>\n'
        "</g>\n</svg>\n"
    )


# -- JUnit ---------------------------------------------------------------------------------------------------


def junit(report: Report) -> str:
    """JUnit XML with a test for each case, and one for the run as a whole, which fails if that is not in order.

    JUnit knows no other word for what is declared not to be supported, or to deviate, than skipped.
    """
    device = report.device
    void = _void(report)
    lines = [
        f'<testcase classname={_attribute(device)} name="the run as a whole">'
        + (f"<error message={_attribute(void)}/>" if void else "")
        + "</testcase>"
    ]
    for o in report.outcomes:
        opening = (
            f"<testcase classname={_attribute(f'{device}.{o.case.subject}')} name={_attribute(o.case.id)}"
        )
        if o.status == PASS:
            lines.append(opening + "/>")
        elif o.status == FAIL:
            lines.append(
                f"{opening}><failure message={_attribute(o.reason)}>{escape(_legal(o.shown))}</failure></testcase>"
            )
        else:
            lines.append(f"{opening}><skipped message={_attribute(f'{o.status}: {o.reason}')}/></testcase>")
    counts = (
        f'tests="{len(lines)}" failures="{report.count(FAIL)}" errors="{int(bool(void))}" '
        f'skipped="{report.count(UNSUPPORTED) + report.count(DEVIATION)}" time="{report.seconds:.1f}"'
    )
    suite = f"<testsuite name={_attribute(f'corelib conformance {device}')} {counts}>"
    return "\n".join(
        ['<?xml version="1.0" encoding="utf-8"?>', f"<testsuites {counts}>", suite, *lines, "</testsuite>", "</testsuites>", ""]
    )  # fmt: skip


def _void(report: Report) -> str:
    """What is wrong with a run as a whole."""
    lost = report.generated - len(report.outcomes)
    found = [f"partial: {report.partial}"] if report.partial else []
    found += [f"{lost} of {report.generated} cases have no outcome"] if lost else []
    found += [] if report.generated else ["no case was generated"]
    found += [f"the declared deviation {pattern!r} is not needed" for pattern in report.stale]
    return "; ".join([*found, *report.problems])


def _attribute(value: str) -> str:
    return quoteattr(_legal(value), {"\n": "&#10;"})


def _legal(value: str) -> str:
    """Without the control characters that XML cannot hold."""
    return "".join(c if c >= " " or c in "\n\t" else "\ufffd" for c in value)


__all__ = ["badge", "junit", "markdown"]
