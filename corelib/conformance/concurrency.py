"""The same call gives the same bits: again, in another process, with another number of threads, and while other
threads are computing. Level 4 of the suite.

* ``repeat``: each op and dtype three times in a row, values and gradients.
* ``process``: all calls of an op in a second process, which hashes differently and has its own memory.
* ``parts``: large operands, on each number of threads that the backend's kernels can be told to use.
* ``threads``: one op in eight threads at a time, each on its own data.
* ``crowd``: eight ops in eight threads.
"""

from __future__ import annotations

import atexit
import functools
import hashlib
import json
import math
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from .. import dtypes
from ..backend import Backend
from ..dtypes import DType
from ..errors import UnsupportedError
from ..op import OPS, Op, calls
from ..registry import registry
from ..samples import Maker, Sample, Values
from .behaviour import largest_samples, shortened
from .cases import Case, sampled_dtypes
from .check import Suite
from .compare import Disagreement
from .derivatives import UNHURRIED, like, sample_of
from .families import Plan, family
from .operands import inexact, replaced, tensors
from .oracle import cotangents, variables
from .place import Result, call, results, tensor
from .wide import refilled

THREADS, ROUNDS = 8, 3
BUSY = (300,)  # elements: enough to be interrupted in
LINES = 300  # at most so many between two interruptions
TIMES = 3


def computed(case: Case, backend: Backend, sample: Sample | None = None) -> list[Result]:
    """The results of a call and, where the op is differentiated, the gradients."""
    sample = sample or sample_of(case)
    found = results(call(case.op, sample, backend))
    if max((len(v.data) for v in tensors(sample)), default=0) >= BUSY[0]:
        return found  # enough to do
    if case.op.derivative.kind == "nondiff" or not any(inexact(v.dtype) for v in tensors(sample)):
        return found
    from ..autograd import vjp

    function, floats = variables(case, sample, backend)
    ys, pullback = vjp(function, *floats)
    given = [tensor(g, backend) for g in like(cotangents(case, ys), ys)]
    return [*found, *results(pullback(given))]


def _identical(got: Sequence[Result], expected: Sequence[Result], when: str) -> None:
    for n, (a, e) in enumerate(zip(got, expected, strict=True)):
        if (a.shape, a.dtype) != (e.shape, e.dtype) or repr(a.data) != repr(e.data):
            where = [k for k, (p, q) in enumerate(zip(a.data, e.data, strict=False)) if repr(p) != repr(q)][
                :1
            ]
            start = where[0] if where else 0
            raise Disagreement(
                f"result {n} (then gradients) {when} is {shortened(a.data[start:])} from element {start} on, it was {shortened(e.data[start:])}"
            )


# -- again -----------------------------------------------------------------------------------------------------


def _repeats(plan: Plan) -> Iterator[Case]:
    for case in largest_samples(plan):
        yield Case(case.op, case.dtype, "repeat", 0, case.sample)


@family("repeat", level=4, profiles=UNHURRIED, generate=_repeats)
def repeat(suite: Suite, case: Case) -> None:
    """Three times the same bits."""
    first = computed(case, suite.backend)
    for n in range(2, TIMES + 1):
        _identical(computed(case, suite.backend), first, f"at call {n}")


# -- in another process ----------------------------------------------------------------------------------------


UNSUPPORTED = "unsupported"


def digest(op: Op, backend: Backend) -> dict[str, str]:
    """A hash of the bits of an op's first and largest sample in each dtype, and of their gradients."""
    found = {}
    for case in largest_samples(Plan((op,))):
        name = case.dtype.name if case.dtype else ""
        try:
            said = repr([(r.shape, r.dtype.name, r.data) for r in computed(case, backend)])
        except UnsupportedError:
            found[name] = UNSUPPORTED
        else:
            found[name] = hashlib.sha256(said.encode()).hexdigest()
    return found


class Other:
    """A second process that computes digests: started at the first question, ended with this one."""

    def __init__(self, device: str) -> None:
        code = f"from {__name__} import serve; serve()"
        environment = {
            **os.environ,
            "PYTHONHASHSEED": "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2",
        }
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, device],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )
        atexit.register(self.end)
        self.trouble = self._answer()

    def end(self) -> None:
        """Let it go: it stops when there are no more questions."""
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
        self.process.wait(10)

    def digest(self, op: Op) -> dict[str, str]:
        """What ``digest`` gives there."""
        if self.trouble:
            raise UnsupportedError(self.trouble)
        assert self.process.stdin is not None
        self.process.stdin.write(f"{op.name}\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith(ANSWER):
                return json.loads(line.removeprefix(ANSWER))
        raise Disagreement(f"the second process ended with status {self.process.wait()}")


def serve() -> None:
    """The second process: reads names of ops, writes digests."""
    device = sys.argv[1]
    try:
        backend = registry.get(device)
    except Exception as error:
        _say(f"a second process cannot use {device!r}, which is registered in this one alone: {error}")
        return
    _say("")
    by_name = {op.name: op for op in OPS}
    for line in sys.stdin:
        _say(digest(by_name[line.strip()], backend))


ANSWER = "corelib: "  # in front of an answer: a backend may print whatever it likes


def _say(answer: Any) -> None:
    sys.stdout.write(f"\n{ANSWER}{json.dumps(answer)}\n")
    sys.stdout.flush()


_others: dict[str, Other] = {}  # by device: one for all suites of this process


def _processes(plan: Plan) -> Iterator[Case]:
    for op in plan.ops:
        if plan.kinds is None:
            yield Case(op, None, "process", 0)


@family("process", level=4, profiles=UNHURRIED, generate=_processes)
def process(suite: Suite, case: Case) -> None:
    """The same bits in a second process of the same machine."""
    device = suite.backend.device
    other = _others.get(device)
    if other is None:
        other = _others[device] = Other(device)
    there, here = other.digest(case.op), digest(case.op, suite.backend)
    if set(here.values()) == {UNSUPPORTED}:
        raise UnsupportedError(f"no dtype of {case.op.name} is supported")
    differ = [name for name in here if there.get(name) != here[name]]
    if differ:
        raise Disagreement(f"a second process gives other bits in {', '.join(differ)}")


# -- on more threads -------------------------------------------------------------------------------------------

BIG = (1 << 17) + 3  # elements: more than any backend computes on one thread
FEW = 101  # elements where there is no choice of threads


@functools.lru_cache(maxsize=4)
def _numbers(count: int, dtype: DType) -> Values:
    """Numbers in [0.5, 1.5], whose order of addition shows in the last bits."""
    make = Maker("parts")
    return Values((count,), dtype, tuple(dtype.round(make.random.uniform(0.5, 1.5)) for _ in range(count)))


def _square(x: Any) -> Any:
    """The leading elements as a matrix that is nearly square, its sides odd."""
    side = math.isqrt(x.size - 1) - 1 | 1
    return calls.reshape(x[: side * side], (side, side))


def _blocks(x: Any) -> Any:
    side = min(math.isqrt(x.size - 1), 161) | 1
    while side * side > x.size:
        side -= 2
    return calls.reshape(x[: side * side], (side, side))


def _indices(x: Any) -> Any:
    return calls.remainder(calls.multiply(calls.arange(x.size, device=x._backend), 7919), 97)


PARTS: tuple[tuple[str, Callable[[Any], Any]], ...] = (
    ("add", lambda x: calls.add(x, x)),
    ("exp", lambda x: calls.exp(x)),
    ("pow", lambda x: calls.pow(x, 1.7)),
    ("gelu", lambda x: calls.gelu(x)),
    ("sum", lambda x: calls.sum(x)),
    ("mean", lambda x: calls.mean(_square(x), axis=0)),
    ("var", lambda x: calls.var(_square(x), axis=1)),
    ("prod", lambda x: calls.prod(_square(x), axis=1)),
    ("logsumexp", lambda x: calls.logsumexp(_square(x), axis=0)),
    ("vector_norm", lambda x: calls.vector_norm(x)),
    ("max", lambda x: calls.max(x)),
    ("cumulative_sum", lambda x: calls.cumulative_sum(x, axis=0)),
    ("matmul", lambda x: calls.matmul(_square(x), _square(x))),
    ("transposed matmul", lambda x: calls.matmul(_square(x).mT, _square(x))),
    ("sort", lambda x: calls.sort(x)),
    ("argsort", lambda x: calls.argsort(_square(x), axis=0)),
    ("softmax", lambda x: calls.softmax(_square(x), axis=-1)),
    ("layer_norm", lambda x: calls.layer_norm(_square(x))),
    ("take", lambda x: calls.take(x, _indices(x), axis=0)),
    ("scatter_add", lambda x: calls.scatter_add(x[:97], x, _indices(x))),
    ("concat", lambda x: calls.concat([x, x], axis=0)),
    ("transpose", lambda x: calls.add(_square(x).mT, 0)),
    ("where", lambda x: calls.where(x > 1, x, -x)),
    ("astype", lambda x: calls.astype(x, dtypes.float16)),
    ("solve", lambda x: calls.solve(_blocks(x), _blocks(x)[0])),
    ("fft", lambda x: calls.rfft(x)),
)  # fmt: skip


def _parts(plan: Plan) -> Iterator[Case]:
    for number, (words, _) in enumerate(PARTS):
        for dtype in dtypes.FLOATING:
            if plan.kinds is None or dtype in plan.kinds:
                yield Case(None, dtype, "parts", number, data=words)


@family("parts", level=4, profiles=UNHURRIED, generate=_parts, by_op=False)
def parts(suite: Suite, case: Case) -> None:
    """A number of threads changes no bit of values or gradients. Where the backend leaves no choice, there is one
    number, on which the call is repeated.
    """
    assert case.dtype is not None
    choice = suite.backend.threads(1) is not None
    values, function = _numbers(BIG if choice else FEW, case.dtype), PARTS[case.number][1]
    first: list[bytes] | None = None
    for count in (1, 2, 3, THREADS) if choice else (1, 1):
        with ExitStack() as stack:
            if choice:
                stack.enter_context(suite.backend.threads(count))
            x = tensor(values, suite.backend)
            if function(x).dtype.kind == "float":
                x.requires_grad_()
            y = function(x)
            if y.requires_grad:
                y.backward(calls.add(calls.multiply(y.detach(), 0.5), 0.25))
            found = [bytes(memoryview(t._read("conformance"))) for t in (y, x.grad) if t is not None]
        if first is None:
            first = found
        elif found != first:
            which = "the result" if found[0] != first[0] else "the gradient"
            raise Disagreement(f"{case.data}: {which} on {count} threads has other bits than on 1")


# -- in many threads at a time ---------------------------------------------------------------------------------


def _restless(seed: int) -> Callable[..., Any]:
    """A trace function that lets other threads go on after every few lines of Python: a kernel written in it is
    interrupted anywhere. What releases Python's lock runs at the same time anyway.
    """
    draw = random.Random(seed)
    left = draw.randint(1, LINES)

    def trace(frame: Any, event: str, arg: Any) -> Any:
        nonlocal left
        left -= 1
        if not left:
            left = draw.randint(1, LINES)
            time.sleep(1e-6)
        return trace

    return trace


def _together(work: Sequence[tuple[str, Callable[[], list[Result]], list[Result]]]) -> None:
    """Each piece of work in a thread of its own, all at the same time, again and again: each must give what it gave
    alone.
    """
    barrier = threading.Barrier(len(work))
    reasons: list[str] = []

    def run(number: int, name: str, act: Callable[[], list[Result]], alone: list[Result]) -> None:
        try:
            barrier.wait(60)
            sys.settrace(_restless(number))
            for _ in range(ROUNDS):
                _identical(act(), alone, f"of {name} among {len(work)} threads")
        except Disagreement as error:
            reasons.append(str(error))
        except Exception as error:
            reasons.append(f"{name} among {len(work)} threads raised {type(error).__name__}: {error}")

    threads = [threading.Thread(target=run, args=(n, *piece)) for n, piece in enumerate(work)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if reasons:
        raise Disagreement(reasons[0])


def _busy(case: Case) -> Case:
    """An element-wise case on some hundred elements, so that there is something to be interrupted in."""
    sample = sample_of(case)
    if case.op.kind != "elementwise" or not all(v.data for v in tensors(sample)):
        return case
    return replace(case, sample=replaced(sample, lambda v: refilled(v, BUSY) if v.shape else v))


def _turned(sample: Sample, by: int) -> Sample:
    """The sample's floating and complex numbers in another order; backwards, if ``by`` is odd, of a matrix that
    may have to stay what it is.
    """
    return replaced(sample, lambda v: Values(v.shape, v.dtype, v.data[::-1]) if by % 2 else v)


def _threads(plan: Plan) -> Iterator[Case]:
    for case in largest_samples(plan):
        if case.dtype is _widest(case.op):
            yield Case(case.op, case.dtype, "threads", 0, _busy(case).sample)


def _widest(op: Op) -> DType:
    """float32 where an op accepts it, else the first dtype it is tried on."""
    found = sampled_dtypes(op)
    return dtypes.float32 if dtypes.float32 in found else found[0]


@family("threads", level=4, profiles=UNHURRIED, generate=_threads)
def threads(suite: Suite, case: Case) -> None:
    """Eight threads of one op, every other one on other data."""
    assert isinstance(case.sample, Sample)
    work = []
    for n in range(THREADS):
        act = functools.partial(computed, case, suite.backend, _turned(case.sample, n))
        try:
            alone = act()
        except UnsupportedError:
            raise
        except Exception:  # the other data may be refused: an index out of bounds, a singular matrix
            act = functools.partial(computed, case, suite.backend)
            alone = act()
        work.append((case.op.name, act, alone))
    _together(work)


def _crowds(plan: Plan) -> Iterator[Case]:
    usual = [op for op in plan.ops if plan.kinds is None or _widest(op) in plan.kinds]
    for number in range(0, len(usual), THREADS):
        ops = usual[number : number + THREADS]
        yield Case(None, None, "crowd", number // THREADS, data=tuple(op.name for op in ops))


@family("crowd", level=4, profiles=UNHURRIED, generate=_crowds, by_op=False)
def crowd(suite: Suite, case: Case) -> None:
    """Eight threads of eight ops."""
    work = []
    for op in OPS:
        if op.name not in case.data:
            continue
        for one in largest_samples(Plan((op,), (_widest(op),))):
            act = functools.partial(computed, _busy(one), suite.backend)
            try:
                work.append((op.name, act, act()))
            except UnsupportedError:
                continue  # its own cases say so
            break
    if work:
        _together(work)
