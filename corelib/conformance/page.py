"""The report as one HTML page that needs nothing else: op x dtype x layout, of results and of gradients, with ULP.

The table is plain HTML, readable without a script; a few lines of one filter its rows. A state is told by words and
signs, colours only repeat it; light and dark follow the reader's settings.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from html import escape
from typing import Any

from ..op import BY_NAME
from .check import DEVIATION, FAIL, UNSUPPORTED
from .families import LEVELS
from .report import distances
from .tally import Cell, Key, Tally, level_of, together

MOST = 14  # columns of layouts in a group; the rarest share one beyond that
OTHERS = "others"
FORWARD, GRADIENTS = 1, 2  # the levels that are shown by layout

STYLE = """
:root{color-scheme:light dark;--b:#fff;--f:#1a1a1a;--m:#595959;--l:#d0d0d0;--h:#f0f0f0;--p:#e3f3e3;--x:#b00020;--d:#7a4b00}
@media(prefers-color-scheme:dark){:root{--b:#151515;--f:#eee;--m:#b0b0b0;--l:#444;--h:#242424;--p:#17301a;--x:#ff8a8a;--d:#f0b860}}
body{background:var(--b);color:var(--f);font:14px/1.4 system-ui,sans-serif;margin:1.5rem}
h1{font-size:1.4rem}h2{font-size:1.1rem}dl{display:grid;grid-template-columns:max-content 1fr;gap:0 1rem}dt{color:var(--m)}dd{margin:0}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}caption{text-align:left;color:var(--m);padding:.4rem 0}
th,td{border:1px solid var(--l);padding:.1rem .4rem;text-align:right;white-space:nowrap}
thead th{background:var(--h);position:sticky;top:0}tbody th,td:nth-child(2),td:nth-child(3){text-align:left}
.x{color:var(--x);font-weight:bold}.d{color:var(--d)}.n{color:var(--m)}.p{background:var(--p)}
form[hidden]{display:none}form{display:flex;flex-wrap:wrap;gap:1rem;align-items:center;margin:.6rem 0}input,select{font:inherit;color:inherit;background:var(--b);border:1px solid var(--m);padding:.2rem .4rem}
.s{overflow:auto;max-height:85vh}li{overflow-wrap:anywhere}
"""

SCRIPT = """
const f=document.forms[0],rows=[...document.querySelectorAll('#m tbody tr')],n=document.querySelector('output');
const text=rows.map(r=>r.textContent.toLowerCase()+' '+(r.dataset.s||''));
function show(){const w=f.q.value.toLowerCase().split(/\\s+/),t=f.t.value,u=parseFloat(f.u.value);let c=0;
rows.forEach((r,i)=>{const s=text[i],k=w.every(x=>s.includes(x))&&(!t||s.includes('is:'+t))&&!(u>+(r.dataset.u||0));r.hidden=!k;c+=k});
n.textContent=c+' of '+rows.length+' rows'}
f.addEventListener('input',show);f.addEventListener('submit',e=>e.preventDefault());f.hidden=false;show();
"""


def html(found: Mapping[str, Any], tally: Tally) -> str:
    """The page of a report's document; ``tally``: its counts."""
    title = f"Conformance of {found['backend']['device']}"
    return "\n".join([
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">',
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body><main>",
        f"<h1>{escape(title)}</h1>",
        f"<p><strong>{escape(found['verdict'])}</strong><p>{escape(found['summary'])}",
        *_about(found),
        *_levels(tally),
        *_reasons(found),
        *_matrix(tally),
        f"</main><script>{SCRIPT}</script></body></html>",
        "",
    ])  # fmt: skip


def _about(found: Mapping[str, Any]) -> Iterator[str]:
    backend, env, run = found["backend"], found["environment"], found["run"]
    versions = ", ".join(f"{k} {v}" for k, v in backend["versions"].items() if v)
    facts = {
        "backend": f"{backend['device']}: {backend['description']}",
        "versions": f"corelib {found['corelib']}, Python {env['python']}{', ' + versions if versions else ''}",
        "machine": f"{env['system']} {env['machine']}, {env['processor']}, {env['processors']} processors",
        "run": f"{run['date']}, profile {run['profile']}, seed {run['seed']}, {run['seconds']} s",
        "lacks": ", ".join(backend["lacks"]),
    }
    yield "<dl>"
    yield from (f"<dt>{escape(k)}<dd>{escape(v)}" for k, v in facts.items() if v)
    yield "</dl>"


def _levels(tally: Tally) -> Iterator[str]:
    yield "<h2>Levels</h2><table><thead><tr><th scope=col>level<th scope=col>cases<th scope=col>passed"
    yield "<th scope=col>failed<th scope=col>unsupported<th scope=col>deviations<th scope=col>verdict<tbody>"
    for level in tally.levels:
        counts = level.cell.counts
        verdict = "passed" if level.passed else "not passed" if level.cell.cases else "not tried"
        numbers = (level.cell.cases, counts["pass"], counts[FAIL], counts[UNSUPPORTED], counts[DEVIATION])
        yield f"<tr><th scope=row>{escape(level.name)}{''.join(f'<td>{n}' for n in numbers)}<td>{verdict}"
    yield "</table>"
    head, *spread = distances(tally)
    if spread:
        yield "<h2>Distances</h2><table><caption>How many cases were measured at which distance, in ULP.</caption>"
        yield f"<thead><tr>{''.join(f'<th scope=col>{escape(cell)}' for cell in ('level', *head[1:]))}<tbody>"
        yield from (f"<tr><th scope=row>{row[0]}{''.join(f'<td>{n}' for n in row[1:])}" for row in spread)
        yield "</table>"


def _reasons(found: Mapping[str, Any]) -> Iterator[str]:
    if found["failures"]:
        yield f"<h2>Failed: {len(found['failures'])}</h2><ul>"
        for failure in found["failures"]:
            call = f"<br><code>{escape(failure['call'])}</code>" if failure["call"] else ""
            yield f"<li><code>{escape(failure['id'])}</code>: {escape(failure['reason'])}{call}"
        yield "</ul>"
    for title, key in (("Known deviations", "deviations"), ("Unsupported", "unsupported")):
        if found[key]:
            count = sum(len(group["cases"]) for group in found[key])
            yield f"<details><summary>{title}: {count} cases</summary><ul>"
            for group in found[key]:
                more = f" and {len(group['cases']) - 1} more" if len(group["cases"]) > 1 else ""
                yield f"<li><code>{escape(group['cases'][0])}</code>{more}: {escape(group['reason'])}"
            yield "</ul></details>"


# -- the matrix ----------------------------------------------------------------------------------------------


def _matrix(tally: Tally) -> Iterator[str]:
    by_row: dict[tuple[str, str], list[tuple[Key, Cell]]] = {}
    for key, cell in tally.cells.items():
        by_row.setdefault(key[:2], []).append((key, cell))
    columns = {level: _columns(tally, level) for level in (FORWARD, GRADIENTS)}
    rest = [n for n in range(len(LEVELS)) if n not in columns]
    yield "<h2>Ops</h2><form hidden>"
    yield '<label>find <input name=q type=search placeholder="exp float32"></label>'
    yield "<label>state <select name=t><option value=''>all<option value=fail>failed"
    yield f"<option value={DEVIATION}>deviation<option value={UNSUPPORTED}>unsupported</select></label>"
    yield "<label>at least <input name=u type=number min=0 step=any size=5> ULP</label><output></output></form>"
    yield "<div class=s tabindex=0><table id=m><caption>The largest distance in ULP; ✓: passed, nothing to measure;"
    yield "✗ n: n cases fail; u n: n unsupported; d n: n known deviations; empty: no such case.</caption><thead><tr>"
    heads = ["op", "dtype", "kernels", "budget", "cases", *(f"L{n} {LEVELS[n]}" for n in rest)]
    heads += [
        f"{'result' if level == FORWARD else 'gradient'}: {c}" for level in columns for c in columns[level]
    ]
    yield "".join(f"<th scope=col>{escape(h)}" for h in heads) + "<tbody>"
    for (subject, dtype), own in sorted(
        by_row.items(), key=lambda item: (item[0][0] not in BY_NAME, item[0][0])
    ):
        total = together(own)
        cells = [together((k, c) for k, c in own if level_of(k[2]) == n) for n in rest]
        for level, names in columns.items():
            cells += _by_column([(k, c) for k, c in own if level_of(k[2]) == level], names)
        states = " ".join(f"is:{s}" for s in (FAIL, DEVIATION, UNSUPPORTED) if total.counts[s])
        marks = f" data-s='{states}'" if states else ""
        worst = f" data-u={total.worst:g}" if total.worst else ""
        yield (
            f"<tr{marks}{worst}><th scope=row>{escape(subject)}<td>{dtype or '-'}<td>{total.how or '-'}"
            f"<td>{escape(_budget(subject, dtype))}<td>{total.cases}{''.join(map(_shown, cells))}"
        )
    yield "</table></div>"


def _budget(subject: str, dtype: str) -> str:
    if subject not in BY_NAME:
        return "-"
    op = BY_NAME[subject]
    return str(op.ulp_complex if dtype.startswith("complex") else op.ulp)


def _columns(tally: Tally, level: int) -> list[str]:
    """The layouts, or whatever the families of a level call their variants, the commonest first."""
    found: Counter[str] = Counter()
    for key, cell in tally.cells.items():
        if level_of(key[2]) == level:
            found[_column(key)] += cell.cases
    names = [name for name, _ in found.most_common()]
    return names if len(names) <= MOST else [*names[: MOST - 1], OTHERS]


def _column(key: Key) -> str:
    return key[3] or "plain"


def _by_column(own: Iterable[tuple[Key, Cell]], names: list[str]) -> list[Cell]:
    found = {name: Cell() for name in names}
    for key, cell in own:
        into = found[_column(key)] if _column(key) in found else found[OTHERS]
        into += cell
    return [*found.values()]


def _shown(cell: Cell) -> str:
    """A cell of the table: the largest distance, and what did not pass in letters and signs."""
    counts = cell.counts
    if not cell.cases:
        return "<td>"
    if counts[FAIL]:
        return f"<td class=x>✗ {counts[FAIL]}"
    marks = " ".join(
        f"{letter} {counts[s]}" for letter, s in (("d", DEVIATION), ("u", UNSUPPORTED)) if counts[s]
    )
    state = "d" if counts[DEVIATION] else "n" if counts[UNSUPPORTED] else "p"
    measured = f"{cell.worst:.3g}" if cell.worst is not None else "✓" if counts["pass"] else ""
    return f"<td class={state}>{' '.join(part for part in (measured, marks) if part)}"


__all__ = ["html"]
