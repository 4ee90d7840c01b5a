"""The family ``memory``: a call that is repeated leaves nothing behind.

Before and after a round of calls two things are read: how many blocks Python's allocator has handed out, and the
resident memory of the process. The first calls fill caches and pools; what grows after that, in nearly every one
of several rounds, is a leak. A block for every second call is one, whatever it is; of memory that Python does not
know, a round must grow by BOUND to count, for allocators return memory when they please: an array of 100 bytes kept
by each of 2000 calls is 200 kB.
"""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Iterator

from .cases import Case, planned
from .check import Suite
from .compare import Disagreement
from .families import Plan, family
from .operands import size
from .oracle import as_run
from .place import arguments

ROUNDS, BOUND = 6, 32 * 1024
SECONDS, FEWEST, MOST = 0.1, 40, 2000  # a round: as many calls as there is time for, within these bounds
OPERANDS = 16  # new ones for so many calls, whose making takes longer than most calls


def _repeated(plan: Plan) -> Iterator[Case]:
    """For each op and dtype its largest sample."""
    best: dict[tuple[object, object], Case] = {}
    for case in planned(plan):
        key = case.op, case.dtype
        if case.what == "value" and not case.problem:
            largest = best.setdefault(key, case)
            if size(case.sample) > size(largest.sample):  # type: ignore[arg-type]
                best[key] = case
    for case in best.values():
        yield Case(case.op, case.dtype, "memory", 0, case.sample)


@family("memory", level=4, profiles=("full",), generate=_repeated)
def memory(suite: Suite, case: Case) -> None:
    """Blocks and resident memory do not grow round after round of calls."""
    backend, fn = suite.backend, case.op.fn

    def calls(count: int) -> float:
        began = time.perf_counter()
        for n in range(count):
            if n % OPERANDS == 0:
                args, kwargs = arguments(case.op, sample, backend)
            fn(*args, **kwargs)
        backend.synchronize()
        elapsed = time.perf_counter() - began
        del args, kwargs
        gc.collect()
        return elapsed

    sample = as_run(case)
    calls(1)
    count = min(max(FEWEST, int(SECONDS * FEWEST / calls(FEWEST))), MOST)
    blocks, grown, flat = [], [], 0
    for _ in range(ROUNDS):
        held, handed = resident(), sys.getallocatedblocks()
        calls(count)
        blocks.append(sys.getallocatedblocks() - handed)
        grown.append(resident() - held)
        flat += blocks[-1] < count / 2 and grown[-1] < BOUND
        if flat == 2:  # one may have lived on what was free
            return
    raise Disagreement(
        f"memory grows: by {', '.join(f'{g >> 10} kB' for g in grown)} and {', '.join(map(str, blocks))} blocks of "
        f"Python's in {ROUNDS} rounds of {count} calls each; allowed: two rounds with less than {BOUND >> 10} kB and "
        f"{count // 2} blocks"
    )


def resident() -> int:
    """Bytes of memory that this process holds; 0 where the system does not tell: then blocks must do."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, AttributeError, ValueError):
        return 0
