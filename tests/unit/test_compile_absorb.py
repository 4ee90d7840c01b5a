"""Windows and copies: what a group computes for itself is, bit for bit, what was stored and read before."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest

import corelib as cl

pytest.importorskip("corelib_cpu")
TYPES = (np.float32, np.float32, np.float64, np.int32, np.int8, np.int64, np.uint8, np.bool_)
FILLS = {"f": (0.0, -0.0, 1.5, float("nan"), float("inf")), "i": (0, -3), "u": (0, 7), "b": (False, True)}


def stencil(seed: int):
    """A function that pads, slices, and computes on the shifted arrays, several times over, and its operands."""
    draw, rng = random.Random(seed), np.random.default_rng(seed)
    rank = draw.randint(1, 3)
    shape = tuple(draw.choice((1, 2, 5, 9)) for _ in range(rank - 1)) + (
        draw.choice((16, 17, 40, 130, 1000)),
    )
    dtype = np.dtype(draw.choice(TYPES))
    arrays = [(3 * rng.standard_normal(shape)).astype(dtype) for _ in range(draw.randint(1, 3))]
    if draw.random() < 0.3:
        arrays[0] = np.asfortranarray(arrays[0])
    fills = FILLS[dtype.kind]

    def function(*xs):
        pick = random.Random(seed + 1)
        values = list(xs)
        join = cl.bitwise_xor if dtype.kind == "b" else cl.add
        for _ in range(pick.randint(2, 5)):
            x = pick.choice(values)
            widths = [(pick.choice((0, 1, 1, 2)), pick.choice((0, 1, 1, 30))) for _ in range(rank)]
            wide = cl.pad(x, widths, constant_values=pick.choice(fills))
            parts = [x]
            for _ in range(pick.randint(1, 4)):
                at = [pick.randint(0, low + high) for low, high in widths]
                parts.append(wide[tuple(slice(a, a + n) for a, n in zip(at, shape, strict=True))])
            total = parts[0]
            for part in parts[1:]:
                total = join(total, part)
                if pick.random() < 0.3:
                    total = cl.maximum(total, x) if dtype.kind != "b" else cl.bitwise_and(total, x)
            values.append(total)
            if pick.random() < 0.2 and dtype.kind == "f":
                values.append(total - cl.max(total, axis=-1, keepdims=True))
            if pick.random() < 0.2:
                values.append(join(wide, wide)[tuple(slice(0, n) for n in shape)])
        return tuple(values[-3:])

    return function, [cl.asarray(a, device="cpu") for a in arrays]


def same(got, expected) -> None:
    for a, b in zip(got, expected, strict=True):
        a, b = np.asarray(a), np.asarray(b)
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        np.testing.assert_array_equal(a, b)
        if a.dtype.kind == "f":
            np.testing.assert_array_equal(
                np.signbit(a), np.signbit(b), err_msg="a zero or a NaN of another sign"
            )


def close(got, expected) -> None:
    """To the budget of sums of 64 products, whose kernels differ between small eager calls and programs."""
    a, b = np.asarray(got), np.asarray(expected)
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=64 * 2**-23 * np.abs(b).max())


@pytest.mark.parametrize("seed", range(40))
def test_windows_give_the_bits_of_padded_arrays(seed):
    function, operands = stencil(seed)
    expected = function(*operands)
    compiled = cl.compile(function)
    for _ in range(4):  # step by step, captured, compared, native
        same(compiled(*operands), expected)


@pytest.mark.parametrize("seed", range(100, 112))
def test_groups_that_no_kernel_is_made_of_run_their_steps(seed, monkeypatch):
    from corelib_cpu.backend import CpuBackend

    monkeypatch.setattr(CpuBackend, "emit", lambda self, group: None)
    function, operands = stencil(seed)
    same(cl.compile(function)(*operands), function(*operands))


def kernels(compiled) -> Counter[str]:
    """How often each kind of step stands in what the backend made of the only program."""
    lines = compiled.explain().split("run: compiled")[1].splitlines()
    return Counter(line.split()[0].split("(")[0] for line in lines if " -> " in line)


def test_a_stencil_is_one_kernel_and_reads_its_operand_in_place():
    def blur(x):
        wide = cl.pad(x, 1)
        return wide[:-2, 1:-1] + wide[2:, 1:-1] + wide[1:-1, :-2] + wide[1:-1, 2:] - 4.0 * wide[1:-1, 1:-1]

    x = cl.asarray(np.random.default_rng(0).standard_normal((70, 50), np.float32), device="cpu")
    compiled = cl.compile(lambda x: blur(blur(x)))
    same([compiled(x)], [blur(blur(x))])
    found = kernels(compiled)
    assert found["fused"] == 2 and found["pad"] == 0
    assert " t11 = " not in compiled.explain()  # the middle of the padded array is the array


def test_a_padded_array_that_others_read_is_made_once():
    def function(x):
        wide = cl.pad(x, ((0, 0), (1, 1)))
        return wide @ wide.mT, wide[:, 1:-1] + wide[:, :-2]

    x = cl.asarray(np.random.default_rng(1).standard_normal((40, 64), np.float32), device="cpu")
    compiled = cl.compile(function)
    same(compiled(x), function(x))
    assert kernels(compiled)["pad"] == 1


def test_a_cheap_value_is_computed_where_it_is_read():
    def function(x, w):
        y = cl.exp(x) + 1.0
        cheap = y * 2.0 - 1.0
        return (y @ w) * cheap  # another group than the one that makes y, which the product needs

    rng = np.random.default_rng(2)
    x, w = (cl.asarray(rng.standard_normal((64, 64), np.float32), device="cpu") for _ in range(2))
    compiled = cl.compile(function)
    close(compiled(x, w), function(x, w))
    text = compiled.explain()
    assert "fused(multiply, subtract, multiply)" in text and "fused(exp, add)" in text


def test_a_dear_value_is_stored():
    def function(x, w):
        y = cl.exp(x)
        dear = cl.tanh(y)
        return (y @ w) * dear

    rng = np.random.default_rng(3)
    x, w = (cl.asarray(rng.standard_normal((64, 64), np.float32), device="cpu") for _ in range(2))
    compiled = cl.compile(function)
    close(compiled(x, w), function(x, w))
    assert "fused(exp, tanh)" in compiled.explain()


def test_a_window_that_is_only_moved_stays_what_it_is():
    """Its reader is a step of the program, no group."""

    def moved(x):
        wide = cl.pad(x, ((1, 1), (1, 1)))
        return cl.concat([wide[1:-1, :-2], wide[1:-1, 2:]], axis=1), cl.abs(x) + 1

    x = cl.asarray(np.random.default_rng(0).standard_normal((20, 40)).astype("f"), device="cpu")
    compiled = cl.compile(moved)
    for _ in range(4):
        same(compiled(x), moved(x))
    assert "could not" not in compiled.explain()
