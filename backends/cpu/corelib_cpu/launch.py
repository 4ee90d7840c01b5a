"""Starts kernels: a team of threads, and the one launcher that hands it work.

Every kernel is a C function ``kernel(lo, hi, args)``: it does the units of work lo <= i < hi, and `args`
points to 64-bit words: addresses of arrays, strides, sizes. So one launcher serves all kernels, also those
that are generated or written elsewhere. ``launch(kernel, units, chunk, out, *words)`` takes arrays and
integers, lets go of the interpreter lock, cuts the units into chunks, and returns `out`.

The calling thread takes chunks from the low end and the workers take them from the high end, so that in
consecutive kernels each finds its part of the data in its own cache, and nobody waits for a worker that is
slow to wake up: what it has not taken, the caller does. While one Python thread uses the team, others run
their kernels by themselves. A forked child starts a team of its own. Where there are no POSIX threads the
team is the caller alone.

The launcher itself is compiled like a kernel; see native.py.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from . import native

_lock = threading.Lock()
_threads: int | None = None
launch: Callable[..., Any]

# The native part. What is written often stands on cache lines of its own.
_SOURCE = """
STATE, DONE, BUSY, SLEEPERS, STARTED = 0, 64, 128, 192, 200    # what several threads write
KERNEL, UNITS, CHUNK, ARGUMENTS, THREADS, ARRAY = 32, 33, 34, 35, 36, 37  # words: the job, the team
MUTEX, CONDITION = 320, 384
FIELD, LOW = 0xFFFF, 1 << 16  # STATE is generation << 32 | next chunk from below << 16 | end of the chunks

@inline
def slice_of(kernel, index, chunk, units, words):
    lo = index * chunk
    hi = lo + chunk
    call_kernel(kernel, lo, units if hi > units else hi, words)

@inline
def run(control, kernel, units, chunk, words):
    job = at_int64(control)
    if chunk * 60000 < units:
        chunk = (units + 59999) // 60000
    count = (units + chunk - 1) // chunk
    if not POSIX or count < 2 or job[THREADS] < 2 or atomic_swap_if(control + BUSY, 0, 1) == 0:
        call_kernel(kernel, 0, units, words)
        return
    job[KERNEL] = kernel
    job[UNITS] = units
    job[CHUNK] = chunk
    job[ARGUMENTS] = words
    atomic_store(control + DONE, 0)
    generation = ((atomic_load(control + STATE) >> 32) + 1) & 0x7FFFFFFF
    atomic_store(control + STATE, generation << 32 | count)
    if atomic_load(control + SLEEPERS) > 0:
        mutex_lock(control + MUTEX)
        condition_broadcast(control + CONDITION)
        mutex_unlock(control + MUTEX)
    mine = 0
    while True:
        state = atomic_load(control + STATE)
        index = (state >> 16) & FIELD
        if index >= state & FIELD:
            break
        if atomic_swap_if(control + STATE, state, state + LOW) != 0:
            slice_of(kernel, index, chunk, units, words)
            mine += 1
    waited = 0
    while atomic_load(control + DONE) + mine < count:
        waited += 1
        if waited > 4000:
            yield_processor()
        else:
            pause()
    atomic_store(control + BUSY, 0)

def worker(control):
    job = at_int64(control)
    me = atomic_add(control + STARTED, 1) + 1
    idle = 0
    while True:
        state = atomic_load(control + STATE)
        if (state >> 16) & FIELD < state & FIELD and me < job[THREADS]:
            # The job cannot change while one of its chunks is free: if the swap succeeds, what was read is right.
            kernel = job[KERNEL]
            units = job[UNITS]
            chunk = job[CHUNK]
            words = job[ARGUMENTS]
            if atomic_swap_if(control + STATE, state, state - 1) != 0:
                slice_of(kernel, (state & FIELD) - 1, chunk, units, words)
                atomic_add(control + DONE, 1)
            idle = 0
        elif idle < SPINS:
            idle += 1
            pause()
        else:
            mutex_lock(control + MUTEX)
            atomic_add(control + SLEEPERS, 1)
            state = atomic_load(control + STATE)
            if (state >> 16) & FIELD >= state & FIELD or me >= job[THREADS]:
                condition_wait(control + CONDITION, control + MUTEX)
            atomic_add(control + SLEEPERS, -1)
            mutex_unlock(control + MUTEX)
            idle = 0
    return 0

def entry(control_array, arguments, count):
    # A function of Python, launch(kernel, units, chunk, out, *words), whose arguments are objects.
    control = at_int64(control_array + HEADER)[0]
    objects = at_int64(arguments)
    words = stack_words(0)
    block = at_int64(words)
    array = at_int64(control)[ARRAY]
    for i in range(3, count):
        item = objects[i]
        if at_int64(item + HEADER - 8)[0] == array:
            block[i - 3] = at_int64(item + HEADER)[0]
        else:
            block[i - 3] = integer_value(item)
    kernel = integer_value(objects[0])
    units = integer_value(objects[1])
    chunk = integer_value(objects[2])
    if units <= chunk:
        call_kernel(kernel, 0, units, words)
    else:
        held = release_interpreter()
        run(control, kernel, units, chunk, words)
        acquire_interpreter(held)
    add_reference(objects[3])
    return objects[3]
"""
_THREADS, _ARRAY, _MUTEX, _CONDITION = 36, 37, 320, 384
POSIX = sys.platform != "win32"
SPINS = 2000  # waiting steps of a worker before it sleeps: about 20 us, the Python between two kernels

SOURCE = f"SPINS, POSIX = {SPINS}, {POSIX}\n{_SOURCE}"


class _Method(ctypes.Structure):
    """CPython's PyMethodDef."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("function", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    )


class Team:
    """The control block, the workers and the launcher of one process."""

    def __init__(self, threads: int) -> None:
        words = np.zeros(512 // 8 + 8, np.int64)
        start = -words.ctypes.data % 64 // 8
        self.control = words[start : start + 64]
        self.control[_ARRAY] = id(np.ndarray)
        self.worker = native.address(SOURCE, "worker", 1, returns=True) if POSIX else 0
        self.method = _Method(
            b"launch", native.address(SOURCE, "entry", 3, returns=True), 0x80, None
        )  # METH_FASTCALL
        make = ctypes.pythonapi.PyCFunction_NewEx
        make.restype, make.argtypes = ctypes.py_object, (ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p)
        self.launch = make(ctypes.addressof(self.method), self.control, None)
        self.library = ctypes.CDLL(None) if POSIX else None
        self.workers = 0
        if self.library is not None:
            self.library.pthread_mutex_init(ctypes.c_void_p(self.address + _MUTEX), None)
            self.library.pthread_cond_init(ctypes.c_void_p(self.address + _CONDITION), None)
        ctypes.pythonapi.Py_IncRef(
            ctypes.py_object(self)
        )  # workers read the control block until the process ends
        self.resize(threads)

    @property
    def address(self) -> int:
        return self.control.ctypes.data

    def resize(self, threads: int) -> None:
        """Use this many threads from now on, as far as the system grants them."""
        while self.library is not None and self.workers < threads - 1:
            handle = ctypes.c_ulong()
            start, argument = ctypes.c_void_p(self.worker), ctypes.c_void_p(self.address)
            if self.library.pthread_create(ctypes.byref(handle), None, start, argument):
                break
            self.library.pthread_detach(handle)
            self.workers += 1
        self.control[_THREADS] = min(threads, self.workers + 1)


_team: Team | None = None


def started() -> Team:
    """The team, which exists from the first call on."""
    global _team, launch
    with _lock:
        if _team is None:
            _team = Team(get_num_threads())
            launch = _team.launch
        return _team


def _first_launch(*arguments: Any) -> Any:
    """Stands for `launch` until the team exists."""
    return started().launch(*arguments)


launch = _first_launch


def _after_fork() -> None:
    """A child has none of its parent's workers, and the lock may have been held."""
    global _team, _lock, launch
    _team, _lock, launch = None, threading.Lock(), _first_launch


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def get_num_threads() -> int:
    """Threads that a large kernel uses: ``$CORELIB_NUM_THREADS``, else the processors of this process."""
    global _threads
    if _threads is None:
        chosen = os.environ.get("CORELIB_NUM_THREADS", "")
        if chosen.isdigit() and int(chosen) > 0:
            _threads = int(chosen)
        else:
            _threads = (
                len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
            )
            if chosen:
                native.log.warning(
                    "CORELIB_NUM_THREADS is %r, not a positive number: cpu uses %d threads", chosen, _threads
                )
    return _threads


def set_num_threads(threads: int) -> None:
    """Let large kernels use this many threads; results do not depend on it."""
    global _threads
    if threads < 1:
        raise ValueError(f"set_num_threads: at least 1 thread is needed, got {threads}")
    with _lock:
        _threads = threads
        if _team is not None:
            _team.resize(threads)
