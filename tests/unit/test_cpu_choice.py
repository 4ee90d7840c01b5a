"""The choice between all threads and one: close to the better of the two, whatever happens to the other core."""

from __future__ import annotations

import random

import numpy as np
import pytest

import corelib
from corelib_cpu import program as cpu_program
from corelib_cpu.choice import LATEST, Choice


def total(times, calls):
    """Seconds of so many calls under a choice; ``times(call, way)`` are those of one call."""
    choice, spent = Choice(), 0.0
    for call in range(calls):
        seconds = times(call, choice.way)
        spent += seconds
        choice.took(seconds)
    return spent


def test_threads_that_help_are_used():
    spent = total(lambda call, way: (0.5, 1.0)[way], 2000)
    assert spent < 1.02 * 0.5 * 2000  # ten trials of two calls, each half a second more than needed


def test_threads_that_hinder_are_not_used():
    spent = total(lambda call, way: (3.0, 1.0)[way], 2000)
    assert spent < 1.05 * 2000  # the first calls, and ten trials of two calls


def test_a_core_that_comes_and_goes():
    def times(call, way):
        taken = 1000 <= call < 3000
        return 1.0 if way else (2.5 if taken else 0.5)

    spent = total(times, 8000)
    best = 6000 * 0.5 + 2000 * 1.0
    assert spent < 1.06 * best  # until it is noticed: about WEIGHT calls at first, at most LATEST at last
    alone = total(lambda call, way: 1.0 if way else times(call + 1000, 0), 2000)
    assert alone < 1.05 * 2000


@pytest.mark.parametrize("often", [0.02, 0.1, 0.3, 0.6])
def test_stalls_of_a_thread_that_is_put_aside(often):
    draw = random.Random(3)
    times = lambda call, way: 1.0 if way else (10.0 if draw.random() < often else 0.5)
    calls = 20 * LATEST
    better = min(1.0, 10.0 * often + 0.5 * (1 - often))
    spent = total(times, calls)
    assert spent < 1.06 * calls  # never slower than one thread, but for the trials
    assert spent < 1.2 * better * calls


def test_both_ways_give_the_same_bits():
    with corelib.use_backend("cpu"):
        x, w = (
            corelib.asarray(np.random.default_rng(i).standard_normal((300, 300), np.float32)) for i in (0, 1)
        )
        found = []

        @corelib.compile
        def fn(x, w):
            return corelib.tanh(x @ w) @ w

        first = fn(x, w).numpy().tobytes()
        fn(x, w)
        program = fn.compiled.programs[-1].run
        assert isinstance(program, cpu_program.Program)
        if program.choice is None:
            pytest.skip("one processor: there is nothing to choose")
        for way in (0, 1):
            program.choice.way = way
            found.append(fn(x, w).numpy().tobytes())
        assert found == [first, first]
