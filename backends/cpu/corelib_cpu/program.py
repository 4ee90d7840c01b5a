"""A straight line of kernels as one native call.

Every compiled kernel is started by ``launch(kernel, units, chunk, out, *words)``, and takes its buffers from the pool. So
a program is captured by running it once: its launches are noted, and its buffers come from an arena of its own, where
they are used again as soon as nothing refers to them, as in any run. From then on one native loop starts the same
kernels on the same words, in which only the addresses of inputs and results change: 10 ns per kernel instead of 1.5 us.

What NumPy computes would be missing from such a capture. Steps are taken into one only if their kernels launch
compiled code and nothing else, and the first native run is compared with a run step by step, bit by bit, on other values
than those of the capture and on memory that was filled with garbage: a program that fails this is never run natively.
"""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Callable, Iterable, Sequence
from sys import getrefcount
from time import perf_counter
from typing import Any

import numpy as np
from numpy import ndarray

from corelib.compile.graph import Graph, Step, Traced
from corelib.plugin_api import KernelSet

from . import contract, index, narrow, native, pool
from . import launch as team
from .choice import Choice
from .quiet import quiet

VIEWS = ("reshape", "permute_dims", "broadcast_to", "strided_slice")
SHORTEST = 2  # kernels that are worth a program
LARGEST = 400  # inputs and results of one
GARBAGE = 0xFF  # NaN in every floating dtype
_lock = threading.RLock()  # of captures: there is one at a time

# Words: words of all kernels, the team's control block or 0 for one thread, kernels, places of addresses among the words, then the inputs'
# and results' addresses.
_DRIVER = """
def kernel(lo, hi, args):
    given = at_int64(args)
    words = at_int64(given[0])
    table = at_int64(given[2])
    places = at_int64(given[3])
    for i in range(places[0]):
        words[places[1 + 3 * i]] = given[4 + places[2 + 3 * i]] + places[3 + 3 * i]
    held = release_interpreter()
    for i in range(table[0]):
        block = given[0] + 8 * table[4 + 5 * i]
        if given[1]:
            run(given[1], table[1 + 5 * i], table[2 + 5 * i], table[3 + 5 * i], block)
        else:
            call_kernel(table[1 + 5 * i], 0, table[2 + 5 * i], block)
        if table[5 + 5 * i] != 0 and at_int64(table[5 + 5 * i])[0] != 0:
            break
    acquire_interpreter(held)
"""


class UncapturableError(Exception):
    """What a program does cannot be repeated by starting kernels alone."""


def _count(raws: list[ndarray]) -> int:
    """References to the last array of a list, counted the way an arena counts them."""
    count = 0
    for raw in raws:
        count = getrefcount(raw)
    return count


_FREE = _count([np.empty(0, np.uint8)])


class Capture:
    """Notes launches and serves buffers, for the thread that made it, while it is entered."""

    def __init__(self, arrays: Sequence[ndarray]) -> None:
        self.thread = threading.get_ident()
        self.given = [_extent(a) for a in arrays]  # where the inputs are
        self.others: list[ndarray] = []  # buffers that kernels wrote to and that came from elsewhere
        self.raws: dict[int, list[ndarray]] = {}
        self.spans: list[tuple[int, int]] = []  # where all buffers are
        self.launches: list[tuple[int, int, int, list[int]]] = []
        self.kept: list[Any] = []  # arrays from elsewhere that kernels read
        self.flags: dict[
            int, ndarray
        ] = {}  # number of a launch -> where its kernel says that it refuses something

    def __enter__(self) -> Capture:
        self.real, team.launch, pool.arena = team.launch, self.launch, self
        return self

    def __exit__(self, *_: Any) -> None:
        team.launch, pool.arena = self.real, None

    def empty(self, shape: tuple[int, ...], dtype: Any, size: int) -> ndarray:
        """An array on a buffer that nothing refers to."""
        step = 1 << max(size.bit_length() - 4, 6)
        key = -(-max(size, 1) // step) * step
        raws = self.raws.setdefault(key, [])
        for raw in raws:
            if getrefcount(raw) == _FREE:
                break
        else:
            raw = np.empty(key + pool.ALIGNMENT, np.uint8)
            raws.append(raw)
            self.spans.append(_extent(raw))
        return ndarray(shape, dtype, raw, -raw.ctypes.data % pool.ALIGNMENT)

    def launch(self, kernel: int, units: int, chunk: int, out: ndarray, *words: Any) -> Any:
        """Start a kernel, and note it if it is this thread's."""
        if threading.get_ident() == self.thread:
            arrays = {id(w): w for w in (out, *words) if w.__class__ is ndarray}
            if not self._owns(out) and not _inside(out, self.given):
                self.others.append(out)
                self.spans.append(_extent(out))
            self.launches.append((kernel, units, chunk, [self._word(w, arrays) for w in (out, *words)]))
        return self.real(kernel, units, chunk, out, *words)

    def _word(self, word: Any, arrays: dict[int, ndarray]) -> int:
        if word.__class__ is ndarray:
            if not self._owns(word) and not _inside(word, self.given):
                self.kept.append(word)
            return word.ctypes.data
        if word in arrays:  # an array object, of which the kernel reads shape and strides: one that stays
            x = arrays[word]
            shape = np.lib.stride_tricks.as_strided(np.empty(1, x.dtype), x.shape, x.strides)
            self.kept.append(shape)
            return id(shape)
        return int(word)

    def _owns(self, array: ndarray) -> bool:
        return _inside(array, self.spans)

    def all(self) -> list[ndarray]:
        """All buffers."""
        return [raw for raws in self.raws.values() for raw in raws] + self.others


def _inside(array: ndarray, extents: Iterable[tuple[int, int]]) -> bool:
    """Whether an array begins in one of these pieces of memory."""
    address = array.ctypes.data
    return any(start <= address < stop for start, stop in extents)


def _extent(array: ndarray) -> tuple[int, int]:
    """The first byte of an array's memory, and the one behind the last."""
    return np.lib.array_utils.byte_bounds(array)


class Program:
    """``run(*arrays)``, a function that replays steps, made native from the fourth call on."""

    def __init__(self, run: Callable[..., Any], steps: Sequence[Step]) -> None:
        self.run, self.steps = run, steps
        self.lock = threading.Lock()
        self.state = "new"  # then "seen", "captured", "native" or "replayed"
        self.reason = ""

    def __call__(self, *arrays: ndarray) -> Any:
        if not self.lock.acquire(False):  # the memory is another thread's
            return self.run(*arrays)
        try:
            if self.state == "native" and self.team is team._team and self.threads == team.get_num_threads():
                for a, strides in zip(arrays, self.strides, strict=True):
                    if a.strides != strides or not a.flags.aligned:
                        return self.run(*arrays)
                return self.native(arrays)
            if self.state == "replayed":
                return self.run(*arrays)
            return self._prepared(arrays)
        finally:
            self.lock.release()

    def explain(self) -> str:
        """How it runs, and its steps."""
        says = {"new": "not run yet", "seen": "run once", "captured": "run twice"}.get(
            self.state, f"one by one, since {self.reason}"
        )
        if self.state == "native":
            size = sum(raw.nbytes for raw in self.private)
            threads = "all threads" if self.choice and not self.choice.way else "one thread"
            says = f"{self.table[0]} kernels started by one native call on {threads}, {size} bytes of memory of its own"
        head = f"program of {len(self.steps)} steps: {says}"
        return "\n".join([head, *(f"    {_told(s)}" for s in self.steps)])

    def _prepared(self, arrays: Sequence[ndarray]) -> Any:
        """One of the first calls: capture, then compare."""
        if self.state == "new":
            # much is run once and never again, such as the step that makes an optimizer's state
            self.state = "seen"
            return self.run(*arrays)
        if self.state == "captured" and self.strides == [a.strides for a in arrays]:
            return self._compared(arrays)
        with _lock:
            return self._captured(arrays)

    def _captured(self, arrays: Sequence[ndarray]) -> Any:
        """Run, and note how; the results are copies, because their places are the program's."""
        extents = [_extent(a) for a in arrays]
        order = sorted(e for e in extents if e[0] != e[1])
        if any(before[1] > after[0] for before, after in itertools.pairwise(order)):
            return self.run(*arrays)  # inputs that share memory do not tell apart what belongs to which
        if not all(a.flags.aligned for a in arrays):
            return self.run(*arrays)
        team.started()
        with Capture(arrays) as capture:
            several = self.run(*arrays)
        results = several if isinstance(several, tuple) else (several,)
        self.several = isinstance(several, tuple)
        try:
            self.made = [self._origin(r, arrays, extents, capture) for r in results]
            self._write(arrays, extents, capture)
        except UncapturableError as error:
            self.state, self.reason = "replayed", str(error)
            return several
        self.strides = [a.strides for a in arrays]
        self.team, self.threads, self.state = team._team, team.get_num_threads(), "captured"
        given = [
            r if how[0] == "input" else np.array(r, order="K")
            for r, how in zip(results, self.made, strict=True)
        ]
        return tuple(given) if self.several else given[0]

    def _origin(self, r: Any, arrays: Sequence[ndarray], extents: Any, capture: Capture) -> tuple[Any, ...]:
        """What a result is: one of the inputs, or an array on one of the capture's buffers."""
        for i, a in enumerate(arrays):
            if r is a:
                return ("input", i)
        if r.size and _inside(r, extents):
            raise UncapturableError("a result is a view of an input")
        for raw in capture.all():
            start, stop = _extent(raw)
            if start <= r.ctypes.data < stop:
                low, high = _extent(r)
                return (
                    "new",
                    id(raw),
                    low - start,
                    r.ctypes.data - low,
                    high - low,
                    r.shape,
                    r.dtype,
                    r.strides,
                )
        raise UncapturableError("a result is on memory that the program does not own")

    def _write(self, arrays: Sequence[ndarray], extents: Any, capture: Capture) -> None:
        """The table of kernels, their words, and which of them are addresses of inputs or results."""
        if len(capture.launches) < SHORTEST:
            raise UncapturableError(f"only {len(capture.launches)} of its steps start a kernel")
        new: dict[int, int] = {}  # a buffer of results -> its number behind the inputs
        for how in self.made:
            if how[0] == "new":
                new.setdefault(how[1], len(arrays) + len(new))
        if len(arrays) + len(new) > LARGEST:
            raise UncapturableError(
                f"{len(arrays)} inputs and {len(new)} results are more than one call takes"
            )
        # bytes from .. to, number, and what the number's address is: an array's is that of its first element
        regions = [(*e, i, a.ctypes.data) for i, (e, a) in enumerate(zip(extents, arrays, strict=True))]
        self.buffers = []
        for raw in capture.all():
            if id(raw) in new:
                regions.append((*_extent(raw), new[id(raw)], raw.ctypes.data))
                self.buffers.append((new[id(raw)], raw.nbytes))
        self.buffers.sort()
        self.new = new
        table, words, places = [len(capture.launches)], list[int](), list[int]()
        low, high = min(r[0] for r in regions), max(r[1] for r in regions)
        for number, (kernel, units, chunk, own) in enumerate(capture.launches):
            flag = capture.flags.get(number)
            table += [kernel, units, chunk, len(words), 0 if flag is None else flag.ctypes.data]
            for word in own:
                for start, stop, base, first in regions if low <= word < high else ():
                    if start <= word < stop:
                        places += [len(words), base, word - first]
                words.append(word)
        self.table = np.array(table, np.int64)
        self.words = np.array(words, np.int64)
        self.places = np.array([len(places) // 3, *places], np.int64)
        self.driver = native.address(team.SOURCE + _DRIVER)
        parted = any(units > chunk for _, units, chunk, _ in capture.launches)
        self.choice = Choice() if parted and team.get_num_threads() > 1 else None
        self.capture = capture
        self.private = [raw for raw in capture.all() if id(raw) not in new]
        capture.raws, capture.others = {}, []  # each call's results are on memory of their own

    def native(self, arrays: Sequence[ndarray]) -> Any:
        """Start all kernels."""
        buffers = [pool.empty((size,), np.uint8, size) for _, size in self.buffers]
        choice = self.choice
        if choice is None:
            team.launch(self.driver, 1, 1, self.words, 0, self.table, self.places, *arrays, *buffers)
        else:
            control = 0 if choice.way else self.team.control
            start = perf_counter()
            team.launch(self.driver, 1, 1, self.words, control, self.table, self.places, *arrays, *buffers)
            choice.took(perf_counter() - start)
        for flag in self.capture.flags.values():
            if flag[0]:  # nothing behind that kernel has been run
                flag[0] = 0
                raise IndexError("an index is out of bounds")
        results = []
        for how in self.made:
            if how[0] == "input":
                results.append(arrays[how[1]])
            else:
                _, raw, low, first, _, shape, dtype, strides = how
                buffer = buffers[self.new[raw] - len(arrays)]
                results.append(ndarray(shape, dtype, buffer, low + first, strides))
        return tuple(results) if self.several else results[0]

    def _compared(self, arrays: Sequence[ndarray]) -> Any:
        """The first native runs, on copies and on garbage, beside runs step by step: on the arrays as they are, and on
        other values, which show a result that was taken over from the capture.
        """
        same = self._agrees([_other(a) for a in arrays]) and self._agrees(arrays)
        self.state = "native" if same else "replayed"
        if not same:
            self.reason = "the native run differed from the one step by step"
            native.log.warning("corelib: cpu: a program is run step by step: %s", self.reason)
            del self.capture, self.private
        result = self.run(*arrays)
        pool.release()  # copies and results of the comparison, which a native run does not need
        return result

    def _agrees(self, arrays: Sequence[ndarray]) -> bool:
        """Whether both ways of running leave the same in results and inputs."""
        copies = [[_copied(a) for a in arrays] for _ in range(2)]
        for raw in self.private:
            raw.reshape(-1).view(np.uint8).fill(GARBAGE)
        ways: list[Any] = []
        for run, given in zip((lambda *xs: self.native(xs), self.run), copies, strict=True):
            try:
                found = run(*given)
                ways.append([*(found if self.several else (found,)), *given])
            except IndexError:  # of other values than the caller's, perhaps
                ways.append([])
        return len(ways[0]) == len(ways[1]) and all(
            a.shape == b.shape and a.tobytes() == b.tobytes() for a, b in zip(*ways, strict=True)
        )


def _copied(a: ndarray) -> ndarray:
    """A copy in memory of its own, of the same strides, as writeable as the array."""
    return _like(a, a)


def _like(a: ndarray, values: ndarray) -> ndarray:
    low, high = _extent(a)
    memory = pool.empty((high - low,), np.uint8, high - low)
    made = ndarray(a.shape, a.dtype, memory, a.ctypes.data - low, a.strides)
    made[...] = values
    made.flags.writeable = a.flags.writeable
    return made


def _other(a: ndarray) -> ndarray:
    """An array like this one with other values: its own, which indices may have to be, in another order, and floating
    ones moved besides.
    """
    values = a.reshape(-1)[::-1].reshape(a.shape)
    return _like(a, values if a.dtype.kind in "biu" else quiet(np.add, values, values.dtype.type(0.125)))


class _Native:
    """What stands for an op in a step that runs a program."""

    kind, data_dependent = "program", False

    def __init__(self, steps: Sequence[Step]) -> None:
        self.steps, self.name = list(steps), f"program of {len(steps)} steps"


def link(
    kernels: KernelSet, graph: Graph, replay: Callable[[Graph], Callable[..., Any]]
) -> Callable[..., Any]:
    """A program for a graph whose groups are steps: runs of steps that can be captured become one step each.

    A view of an array is made where it is read, so that it is neither a result of one run nor the end of it.
    """
    views = {s.outputs[0].name: s for s in graph.steps if s.op.name in VIEWS and _own(kernels, s)}
    parts = _parts(kernels, graph, views)
    given = [_with_views(part, views, set()) for _, part in parts]
    results = {x.name for x in graph.results if x is not None}
    uses = [{name for s in part for name in _names(s)} for part in given]
    ends = _with_views([], views, results)
    uses.append(results | {name for s in ends for name in _names(s)})
    steps: list[Step] = []
    programs: list[Program] = []
    for number, ((native_, _), part) in enumerate(zip(parts, given, strict=True)):
        if not native_ or sum(s.op.name not in VIEWS for s in part) < SHORTEST:
            steps += part
            continue
        made = {y.name for s in part for y in s.outputs if y.name not in views}
        own = {y.name for s in part for y in s.outputs}
        inputs = {x.name: x for s in part for x in s.inputs if isinstance(x, Traced) and x.name not in own}
        elsewhere = set().union(*uses[:number], *uses[number + 1 :])
        later = set().union(*uses[number + 1 :])
        outputs = [y for s in part for y in s.outputs if y.name in made and y.name in elsewhere]
        # what was read before, in programs, is not read again
        loose = {name for i, (captured, _) in enumerate(parts[:number]) if not captured for name in uses[i]}
        spare = [x for x in graph.donated if x.name in inputs and x.name not in later | loose]
        if not outputs:
            continue
        several = len(outputs) > 1
        run = replay(Graph(list(inputs.values()), part, outputs, several=several, donated=spare))
        found = Program(run, part)
        programs.append(found)
        op: Any = _Native(part)
        steps.append(Step(op, found, list(inputs.values()), {}, outputs, several))
    steps = _once([*steps, *ends])
    run = replay(Graph(graph.inputs, steps, graph.results, several=graph.several, donated=graph.donated))
    run.explain = lambda: "\n".join(_told(step) for step in steps)  # type: ignore[attr-defined]
    if len(steps) == 1 and programs and [x.name for x in steps[0].inputs] == [x.name for x in graph.inputs]:
        same = [x and x.name for x in graph.results] == [x.name for x in steps[0].outputs]
        run = programs[0] if same and graph.several == steps[0].several else run
    return run


def _parts(kernels: KernelSet, graph: Graph, views: dict[str, Step]) -> list[tuple[bool, list[Step]]]:
    """The steps but the views in runs that can be captured and runs that cannot, few of them: what is ready and of the
    same sort as the last step comes next, unless a step writes over an array that others read.
    """
    steps = [
        s if s.op.name != "arange" else _constant(s) for s in graph.steps if s.outputs[0].name not in views
    ]
    parts: list[tuple[bool, list[Step]]] = []

    def place(step: Step, sort: bool) -> None:
        if not parts or parts[-1][0] is not sort:
            parts.append((sort, []))
        parts[-1][1].append(step)

    sorts = [_captures(kernels, s) for s in steps]
    if any(s.params.get("overwrite") for s in steps):
        for step, sort in zip(steps, sorts, strict=True):
            place(step, sort)
        return parts
    made = {y.name: n for n, s in enumerate(steps) for y in s.outputs}
    waiting: list[set[int]] = []
    after: dict[int, list[int]] = {}
    for n, step in enumerate(steps):
        names = {name for s in _with_views([step], views, set()) for name in _names(s)}
        waiting.append({made[name] for name in names if name in made and made[name] != n})
        for producer in waiting[-1]:
            after.setdefault(producer, []).append(n)
    ready: tuple[list[int], list[int]] = ([], [])  # of what cannot be captured, of what can
    for n, producers in enumerate(waiting):
        if not producers:
            heapq.heappush(ready[sorts[n]], n)
    sort = False
    while ready[0] or ready[1]:
        sort = sort if ready[sort] else not sort
        n = heapq.heappop(ready[sort])
        place(steps[n], sort)
        for consumer in after.get(n, ()):
            waiting[consumer].discard(n)
            if not waiting[consumer]:
                heapq.heappush(ready[sorts[consumer]], consumer)
    return parts


def _constant(step: Step) -> Step:
    """A step without inputs that gives the same array each time."""
    known: list[Any] = []

    def kernel(**params: Any) -> Any:
        if not known:
            known.append(step.kernel(**params))
            known[0].flags.writeable = False
        return known[0]

    return Step(step.op, kernel, step.inputs, step.params, step.outputs, step.several)


def _with_views(part: Sequence[Step], views: dict[str, Step], names: Iterable[str]) -> list[Step]:
    """Steps, each with the views before it that it, or in the end one of `names`, reads."""
    steps: list[Step] = []
    known: set[str] = set()

    def need(name: str) -> None:
        step = views.get(name)
        if step is not None and name not in known:
            known.add(name)
            for source in _names(step):
                need(source)
            steps.append(step)

    for step in part:
        for name in _names(step):
            need(name)
        steps.append(step)
    for name in sorted(names):
        need(name)
    return steps


def _once(steps: Sequence[Step]) -> list[Step]:
    """Steps without those that make what is there already: views that several runs read."""
    made: set[str] = set()
    found = []
    for step in steps:
        if step.outputs[0].name not in made:
            found.append(step)
        made.update(y.name for y in step.outputs)
    return found


def _names(step: Step) -> list[str]:
    return [x.name for x in step.inputs if isinstance(x, Traced)]


def _own(kernels: KernelSet, step: Step) -> bool:
    """Whether a step's kernel is this backend's, and nobody wraps it."""
    first = step.inputs[0] if step.inputs else None
    return isinstance(first, Traced) and step.kernel is kernels.get(step.op, first.dtype)


def _captures(kernels: KernelSet, step: Step) -> bool:
    """Whether all that a step's kernel does is to start compiled kernels."""
    if step.op.kind == "fused":
        return True
    if step.op.name in ("pad", "concat"):
        arrays = [x for x in step.inputs if isinstance(x, Traced)]
        few = all(0 not in x.shape and x.shape and x.dtype.itemsize < 16 for x in arrays)
        return few and len(arrays) == len(step.inputs) and _own(kernels, step)
    if step.op.name == "take_along_axis":
        return _own(kernels, step) and index.picks(step)
    if step.op.name not in ("matmul", "int8_matmul") or not _own(kernels, step):
        return False
    first, second = step.inputs
    if first.dtype.name in narrow.RESULTS:
        return 0 not in first.shape and 0 not in second.shape
    return contract.launches(first.shape, second.shape, first.dtype.name)


def _told(step: Step) -> str:
    """A line on a step, or more on a program."""
    if isinstance(step.kernel, Program):
        return step.kernel.explain()
    return f"{step.op.name} -> {', '.join(map(repr, step.outputs))}"
