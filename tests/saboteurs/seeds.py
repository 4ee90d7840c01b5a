"""How often the suite accuses an honest backend: every one of ``honest.py``, over many seeds.

    python tests/saboteurs/seeds.py --seeds 20 --profile smoke

The first seed tries every family; the next ones those whose cases depend on the seed, for the others would only be
repeated. Prints a line for each backend and seed, every failure in full, and a table at the end. Exit status 1 if there
was a false alarm.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from honest import HONEST, announce

from corelib.conformance import PROFILES, Oracle, Plan, cases
from corelib.conformance.families import chosen
from corelib.conformance.runner import run
from corelib.op import BY_NAME, OPS


def drawn(plan: Plan, what: list[str] | None) -> list[str]:
    """The families whose cases depend on the seed."""
    other = replace(plan, seed=plan.seed + 1)
    names = [f.what for f in chosen(plan, what, reference=False)]
    # as text: a NaN equals none, and mistakes are made by functions
    call = lambda c: repr((c.id, getattr(c.sample, "args", ""), getattr(c.sample, "kwargs", ""), c.data))
    calls = lambda plan, name: [call(c) for c in cases(plan, [name])]
    return [name for name in names if calls(plan, name) != calls(other, name)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20, metavar="N", help="seeds 0 to N - 1 (default 20)")
    parser.add_argument("--first", type=int, default=0, metavar="N", help="begin with this seed")
    parser.add_argument("--profile", choices=PROFILES[:3], default="smoke")
    parser.add_argument("--backend", action="append", choices=HONEST, help="only this one; may be repeated")
    parser.add_argument("--op", action="append", choices=list(BY_NAME), help="only this op; may be repeated")
    parser.add_argument("--what", action="append", help="only this family; may be repeated")
    args = parser.parse_args()
    ops = tuple(BY_NAME[name] for name in args.op) if args.op else tuple(OPS)
    rows, alarms = [], 0
    seeded = drawn(Plan(ops, None, args.profile, args.first), args.what)
    print(f"depend on the seed: {', '.join(seeded) or 'none'}", flush=True)
    for name in args.backend or HONEST:
        reason = announce(name)
        if reason:
            print(f"{name}: not tried: {reason}")
            return 2
        oracle, began, tried, failures, seeds = Oracle(), time.monotonic(), 0, 0, 0
        for seed in range(args.first, args.first + args.seeds):
            plan = Plan(ops, None, args.profile, seed)
            what = args.what if seed == args.first else seeded
            if what == []:
                break
            report = run(name, plan, what=what, workers=0, oracle=oracle)
            tried, failures, seeds = tried + report.generated, failures + len(report.failures), seeds + 1
            alarms += not report.ok
            print(f"seed {seed}: {report.summary()}", flush=True)
            for outcome in report.failures:
                print(f"    {outcome.case.id}: {outcome.reason}")
            if not report.ok and not report.failures:
                print(f"    {report.text()}")
        rows.append((name, seeds, tried, failures, time.monotonic() - began))
    print("\n| backend | seeds | cases | false alarms | seconds |\n|---|---:|---:|---:|---:|")
    for name, seeds, tried, failures, seconds in rows:
        print(f"| {name} | {seeds} | {tried:,} | {failures} | {seconds:.0f} |")
    return 1 if alarms else 0


if __name__ == "__main__":
    sys.exit(main())
