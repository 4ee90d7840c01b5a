"""The language of kernels means what Python means, in the types of the machine."""

from __future__ import annotations

import math

import numpy as np
import pytest

native = pytest.importorskip("corelib_cpu.native")
launch = pytest.importorskip("corelib_cpu.launch")

from corelib_cpu.language import KernelError, types  # noqa: E402
from corelib_cpu.walk import compiled  # noqa: E402

INTEGERS = (0, 1, 2, 3, 7, -1, -2, -3, -8, 100, -101, 1 << 40, -(1 << 40))


def python(body: str, values, result="int64"):
    """The same body run by Python."""
    scope = {"math": math, "abs": abs, "inf": math.inf}
    exec("def function(x, y):\n" + "\n".join(f"    {line}" for line in body.split("\n")), scope)
    return [scope["function"](x, y) for x, y in values]


def machine(body: str, values, operand="int64", result="int64"):
    """A body run as a kernel on pairs of values."""
    function = "@inline\ndef function(x, y):\n" + "\n".join(f"    {line}" for line in body.split("\n"))
    kernel = f"""
def kernel(lo, hi, args):
    words = at_int64(args)
    out, xs, ys = at_{result}(words[0]), at_{operand}(words[1]), at_{operand}(words[2])
    for i in range(lo, hi):
        out[i] = function(xs[i], ys[i])
"""
    out = np.zeros(len(values), result)
    xs, ys = (np.array([v[i] for v in values], operand) for i in (0, 1))
    return launch.launch(native.address(function + kernel), len(values), len(values), out, xs, ys).tolist()


PAIRS = [(x, y) for x in INTEGERS for y in INTEGERS]


@pytest.mark.parametrize(
    "body",
    [
        "return x + y * 3 - (x & y) + (x | y) - (x ^ 5) + ~x - (-y)",
        "return x // y + x % y * 1000 if y != 0 else 0",
        "return x // 7 * 1000 + x % 7 + (y // 16) * 100 + y % 16",
        "return (x << 3) + (y >> 2)",
        "return min(x, y) * 3 + max(x, y, 5) - abs(y)",
        "return (1 if x < y else 0) + (2 if x <= 3 < y else 0) + (4 if x == y or not x > 2 else 0) + (8 if x != y and y else 0)",
        "if x < y:\n    return x\nelif x == y:\n    return 0\nreturn y - x",
        "t = 0\nfor i in range(10):\n    if i == 7:\n        break\n    if (x + i) % 3 == 0:\n        continue\n    t += i * y\nreturn t",
        "t = 0\nfor i in range(20, 3, -4):\n    t = t * 3 + i\nfor i in range(5, 5):\n    t += 1\nreturn t + x",
        "t, n = x & 255, 0\nwhile t != 1 and n < 200:\n    t = t // 2 if t % 2 == 0 else 3 * t + 1\n    n += 1\nreturn n",
        "a, b = x & 1023, y & 1023\nwhile b != 0:\n    a, b = b, a % b\nreturn a",
        "n = 0\nwhile True:\n    n += 1\n    if n * n >= (x & 4095):\n        return n",
        "step = 2 if x > 0 else -2\nt = 0\nfor i in range(0, 3 * step, step):\n    t += i\nreturn t",
    ],
)
def test_integers_are_computed_as_python_does(body):
    assert machine(body, PAIRS) == python(body, PAIRS)


NUMBERS = [(x, y) for x in (0.5, -1.25, 3.0, 1e10, -7.5, 0.0) for y in (2.0, -0.5, 1e-3, 4.0)]


@pytest.mark.parametrize(
    "body",
    [
        "return x * y + x / y - (-x)",
        "return 1.0 if x < y else (2.0 if x == y else 3.0)",
        "return math.sqrt(x * x) + abs(y)",
        "n = 0\nwhile x * x > y * y and n < 50:\n    x = x * 0.5\n    n += 1\nreturn x + n",
        "t = 0\nfor i in range(4):\n    t = t * y + i\nreturn t",
        "r = 0\nif x > 0:\n    r = 1.5\nelif y > 0:\n    r = x\nreturn r + 1",
        "return min(x, y) + 2 * max(x, y)",
        "z = complex(x, y) * complex(y, x) - complex(1.0, 2.0)\nw = -z\nreturn z.real + w.imag if z == z else 0.0",
    ],
)
def test_floats_are_computed_as_python_does(body):
    assert machine(body, NUMBERS, "float64", "float64") == python(body, NUMBERS)


def test_division_by_zero_gives_zero_and_does_not_stop_the_process():
    assert machine("return x // y + x % y", [(5, 0), (-5, 0), (0, 0)]) == [0, 0, 0]


@pytest.mark.parametrize("operand", ["int8", "uint8", "int32", "uint32", "uint64"])
def test_small_and_unsigned_integers_are_computed_in_64_bits(operand):
    rng = np.random.default_rng(0)
    info = np.iinfo(operand)
    values = [(int(x), int(y)) for x, y in rng.integers(max(info.min, 0), info.max, (50, 2), dtype=operand)]
    body = "return x * 3 + y"
    wanted = [(3 * x + y) & ((1 << 64) - 1) for x, y in values]
    assert [r & ((1 << 64) - 1) for r in machine(body, values, operand)] == wanted
    small = [(x % 100, y % 100) for x, y in values]
    assert machine("return x >> 2", small, operand) == [x >> 2 for x, _ in small]
    assert machine("return 1 if x < y else 0", values, operand) == [int(x < y) for x, y in values]


def test_signed_and_unsigned_numbers_are_compared_by_value():
    big = (1 << 63) + 5
    for sign, wanted in (
        ("<", [0, 1]),
        ("<=", [0, 1]),
        (">", [1, 0]),
        (">=", [1, 0]),
        ("==", [0, 0]),
        ("!=", [1, 1]),
    ):
        got = machine(f"return (1 if uint64(x) {sign} y else 0)", [(big, 7), (3, 9)], "uint64")
        assert got == [int(eval(f"{x} {sign} {y}")) for x, y in [(big, 7), (3, 9)]]
        got = machine(
            f"return (1 if x {sign} int64(-1) else 0) + (2 if int64(-1) {sign} x else 0)",
            [(big, 0), (3, 0)],
            "uint64",
        )
        assert got == [int(eval(f"{x} {sign} -1")) + 2 * int(eval(f"-1 {sign} {x}")) for x in (big, 3)], (
            wanted
        )


def test_a_variable_has_the_type_of_what_was_last_assigned_to_it():
    """x * x in float32 is rounded; had x the common type of all that is ever assigned to it, it would be a double."""
    body = "t = float32(x) * float32(x)\nr = float64(t)\nt = r * 2.0\nreturn t"
    values = [(1.1, 0.0), (3.3, 0.0)]
    assert machine(body, values, "float64", "float64") == [
        float(np.float32(x) * np.float32(x)) * 2 for x, _ in values
    ]


def test_what_two_branches_leave_has_their_common_type():
    values = [(1.5, 1.0), (2.5, -1.0)]
    body = "if y > 0:\n    t = 3\nelse:\n    t = x\nreturn t + 0.25"
    assert machine(body, values, "float64", "float64") == [3.25, 2.75]


def test_functions_of_different_types_of_one_source():
    source = """
@inline
def twice(x):
    return x + x, x

def kernel(lo, hi, args):
    words = at_int64(args)
    a, b = twice(3)
    c, d = twice(float32(0.25))
    at_float64(words[0])[0] = a + b + c + d
"""
    out = np.zeros(1)
    assert launch.launch(native.address(source), 1, 1, out).tolist() == [9.75]


def test_flags_hold_for_a_functions_own_arithmetic():
    source = """
@inline
def plain(x):
    return x * x + x

@inline(fastmath={"reassoc"})
def quick(x):
    return x * x - plain(x)

def kernel(lo, hi, args):
    out = at_float64(at_int64(args)[0])
    out[0] = quick(out[0])
"""
    text = compiled(source, "kernel", native._namespace(), types.void(*[types.int64] * 3), "symbol")
    flagged = [line.split("=")[1].split()[0:2] for line in text.split("\n") if "reassoc" in line]
    assert sorted(map(tuple, flagged)) == [("call", "reassoc"), ("fmul", "reassoc"), ("fsub", "reassoc")]
    assert "define void @symbol(" in text and "define internal" in text


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("x = unknown", "unknown is not defined"),
        ("for i in words:\n        pass", r"a loop goes over range"),
        ("x = [1, 2]", "the language has no List"),
        ("with x:\n        pass", "the language has no With"),
        ("x = words + 1.0", "nothing is both pointer to int64 and float64"),
        ("x = 'text' + lo", "is no value of a kernel"),
        ("a, b = 1, 2, 3", "3 values for 2 names"),
        ("x = print(1)", "is no function of the language"),
        ("x = (1, lo)[lo]", "the index of a tuple is a constant"),
        ("x = 1.5 // lo", "the language has no FloorDiv"),
    ],
)
def test_what_is_not_in_the_language_is_refused_with_its_line(line, says):
    source = f"def kernel(lo, hi, args):\n    words = at_int64(args)\n    {line}\n"
    with pytest.raises(KernelError, match=says) as caught:
        native.address(source)
    assert "line 3 of kernel" in str(caught.value)
