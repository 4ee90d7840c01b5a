"""The special cases of the array API standard 2025.12 for real operands: zeros, infinities and NaN, on every backend.

Each table is written as the standard's own lists are: operands, then the result. Those of complex operands are in
``complex_tables.py``.
"""

from __future__ import annotations

import itertools
import math

import pytest
from complex_tables import CLASSES, ROWS, TABLES
from complex_tables import expected as complex_expected

import corelib as cl
from corelib import ops
from corelib.dtypes import FLOATING, HALF

# -- the language of the tables ------------------------------------------------------------------------------
#
# An operand is a number, or a class of numbers, all of which are tried. A result is a number with its sign (of a zero,
# too), the name of an operand, or a multiple of pi, which may err by the budget of the op. `s` in front of it: with the
# sign of the product of the operands. `-nan` is the NaN whose sign bit is set; a result `nan` may have any sign.

POSITIVE = [2.0**-14, 0.5, 1.0, 1.5, 2.0, 3.0, 32768.0]  # in every floating dtype
EVERY = {
    "0": [0.0], "-0": [-0.0], "inf": [math.inf], "-inf": [-math.inf], "nan": [math.nan], "-nan": [-math.nan], "1": [1.0], "-1": [-1.0],
    "zero": [0.0, -0.0], "infinity": [math.inf, -math.inf], "nans": [math.nan, -math.nan],
    "positive": POSITIVE, "negative": [-v for v in POSITIVE],
}  # fmt: skip
EVERY["nonzero"] = EVERY["positive"] + EVERY["negative"]
EVERY["finite"] = EVERY["zero"] + EVERY["nonzero"]
EVERY["number"] = EVERY["finite"] + EVERY["infinity"]
EVERY["any"] = EVERY["number"] + EVERY["nans"]
EVERY |= {
    ">0": [*POSITIVE, math.inf], "<0": [*EVERY["negative"], -math.inf],
    ">1": [1.5, 3.0, 32768.0, math.inf], "<1": [-math.inf, -3.0, -1.0, -0.0, 0.0, 0.5], "<-1": [-1.5, -3.0, -math.inf],
    "integer": [-3.0, -2.0, -1.0, 1.0, 2.0, 32768.0], "fraction": [-2.5, -0.5, 0.5, 1.5], "odd>0": [1.0, 3.0], "odd<0": [-1.0, -3.0],
    "even>0": [0.5, 2.0, 2.5, 32768.0, math.inf], "even<0": [-0.5, -2.0, -2.5, -32768.0, -math.inf],  # not odd integers
    "|x|>1": [1.5, -1.5, 32768.0, -32768.0, math.inf, -math.inf], "|x|=1": [1.0, -1.0], "|x|<1": [0.5, -0.5, 0.0, -0.0],
    "not1": [v for v in EVERY["number"] if v != 1], "not0": [v for v in EVERY["number"] if v != 0],
}  # fmt: skip

UNARY = """
abs             nans nan; infinity inf; zero 0; positive x; -1 1
acos            nans nan; >1 nan; <-1 nan; 1 0
acosh           nans nan; <1 nan; 1 0; inf inf
asin            nans nan; >1 nan; <-1 nan; zero x
asinh           nans nan; zero x; infinity x
atan            nans nan; zero x; inf pi/2; -inf -pi/2
atanh           nans nan; >1 nan; <-1 nan; -1 -inf; 1 inf; zero x
ceil            nans nan; infinity x; zero x; integer x
cos             nans nan; zero 1; infinity nan
cosh            nans nan; zero 1; infinity inf
exp             nans nan; zero 1; inf inf; -inf 0
expm1           nans nan; zero x; inf inf; -inf -1
floor           nans nan; infinity x; zero x; integer x
isfinite        nans false; infinity false; finite true
isinf           nans false; infinity true; finite false
isnan           nans true; number false
log             nans nan; <0 nan; zero -inf; 1 0; inf inf
log10           nans nan; <0 nan; zero -inf; 1 0; inf inf
log1p           nans nan; <-1 nan; -1 -inf; zero x; inf inf
log2            nans nan; <0 nan; zero -inf; 1 0; inf inf
negative        nans nan; 0 -0; -0 0; inf -inf; -inf inf
positive        nans nan; number x
reciprocal      nans nan; 0 inf; -0 -inf; inf 0; -inf -0
round           nans nan; infinity x; zero x; integer x
sign            nans nan; >0 1; <0 -1; 0 0
signbit         nan false; -nan true; 0 false; -0 true; >0 false; <0 true
sin             nans nan; zero x; infinity nan
sinh            nans nan; zero x; infinity x
sqrt            nans nan; <0 nan; zero x; inf inf
square          nans nan; zero 0; infinity inf
tan             nans nan; zero x; infinity nan
tanh            nans nan; zero x; inf 1; -inf -1
trunc           nans nan; infinity x; zero x; integer x
"""

BINARY = """
add             nans any nan; any nans nan; inf -inf nan; -inf inf nan; inf inf inf; -inf -inf -inf; infinity finite x1;
                finite infinity x2; -0 -0 -0; -0 0 0; 0 -0 0; 0 0 0; zero nonzero x2; nonzero zero x1; 1 -1 0; -1 1 0
subtract        nans any nan; any nans nan; inf inf nan; -inf -inf nan; inf -inf inf; -inf inf -inf; infinity finite x1;
                0 0 0; -0 -0 0; 0 -0 0; -0 0 -0; nonzero zero x1; 1 1 0; -1 -1 0
multiply        nans any nan; any nans nan; infinity zero nan; zero infinity nan; infinity infinity s_inf; infinity nonzero s_inf;
                nonzero infinity s_inf; zero finite s_0; finite zero s_0
divide          nans any nan; any nans nan; infinity infinity nan; zero zero nan; zero nonzero s_0; zero infinity s_0;
                nonzero zero s_inf; infinity zero s_inf; infinity nonzero s_inf; nonzero infinity s_0
floor_divide    nans any nan; any nans nan; infinity infinity nan; zero zero nan; zero >0 s_0; zero <0 s_0; >0 zero s_inf;
                <0 zero s_inf; infinity nonzero s_inf; positive inf 0; negative -inf 0; positive -inf -0; negative inf -0; positive 1 floor; negative 1 floor
remainder       nans any nan; any nans nan; infinity infinity nan; zero zero nan; zero >0 0; zero <0 -0; >0 zero nan; <0 zero nan;
                infinity nonzero nan; positive inf x1; positive -inf x2; negative inf x2; negative -inf x1; finite positive python;
                finite negative python
pow             nans not0 nan; not1 nans nan; any zero 1; |x|>1 inf inf; |x|>1 -inf 0; |x|=1 infinity 1; 1 number 1; |x|<1 inf 0;
                |x|<1 -inf inf; inf >0 inf; inf <0 0; -inf odd>0 -inf; -inf even>0 inf; -inf odd<0 -0; -inf even<0 0; 0 >0 0;
                0 <0 inf; -0 odd>0 -0; -0 even>0 0; -0 odd<0 -inf; -0 even<0 inf; negative fraction nan
atan2           nans any nan; any nans nan; >0 zero pi/2; 0 >0 0; 0 0 0; 0 -0 pi; 0 <0 pi; -0 >0 -0; -0 0 -0; -0 -0 -pi; -0 <0 -pi;
                <0 zero -pi/2; positive inf 0; positive -inf pi; negative inf -0; negative -inf -pi; inf finite pi/2;
                -inf finite -pi/2; inf inf pi/4; inf -inf 3pi/4; -inf inf -pi/4; -inf -inf -3pi/4
copysign        number <0 -|x1|; number -0 -|x1|; number 0 |x1|; number >0 |x1|; number -nan -|x1|; number nan |x1|; nans <0 -nan;
                nans -0 -nan; nans 0 +nan; nans >0 +nan; nans -nan -nan; nans nan +nan
equal           nans any false; any nans false; inf inf true; -inf -inf true; inf -inf false; 0 -0 true; infinity finite false
not_equal       nans any true; any nans true; inf inf false; inf -inf true; -inf inf true; 0 -0 false; infinity finite true
less            nans any false; any nans false; -inf finite true; finite inf true; inf inf false; 0 -0 false; -0 0 false
less_equal      nans any false; any nans false; -inf finite true; finite inf true; inf inf true; 0 -0 true; -0 0 true
greater         nans any false; any nans false; inf finite true; finite -inf true; inf inf false; 0 -0 false; -0 0 false
greater_equal   nans any false; any nans false; inf finite true; finite -inf true; inf inf true; 0 -0 true; -0 0 true
hypot           infinity any inf; any infinity inf; finite nans nan; nans finite nan; nans nans nan; zero zero 0; zero positive x2
logaddexp       nans any nan; any nans nan; inf number inf; number inf inf; -inf nonzero x2; nonzero -inf x1; -inf -inf -inf
maximum         nans any nan; any nans nan; inf number inf; -inf number x2; 0 -0 0; -0 0 0
minimum         nans any nan; any nans nan; -inf number -inf; inf number x2; 0 -0 -0; -0 0 -0
nextafter       nans any nan; any nans nan; -0 0 0; 0 -0 -0; infinity infinity nearer; number number nearer
"""


def table(text):
    """{name: [(classes of operands..., result), ...]}"""
    found = {}
    for entry in text.strip().replace(";\n  ", "; ").split("\n"):
        name, _, cases = entry.partition(" ")
        found[name] = [tuple(case.split()) for case in cases.split(";")]
    return found


def signed(magnitude, sign):
    return math.copysign(magnitude, sign)


def nearer(a, b, dtype):
    """The number of a dtype beside a, towards b."""
    if a == b:
        return b
    if math.isinf(a):
        return signed(dtype.max, a)
    digits, least = dtype.digits, math.ldexp(dtype.smallest_normal, 1 - dtype.digits)
    if a == 0:
        return signed(least, b)
    step = max(math.ldexp(1.0, math.frexp(a)[1] - digits), least)
    if abs(math.frexp(a)[0]) == 0.5 and (b < a) == (a > 0) and step > least:
        step /= 2  # below a power of two numbers lie closer
    return dtype.round(a + signed(step, b - a))


def expected(result, operands, dtype):
    """(the number that a result stands for, whether it may err)"""
    a, b = operands[0], operands[-1]
    sign = signed(1, a) * signed(1, b)
    named = {
        "x": a, "x1": a, "x2": b, "|x1|": abs(a), "-|x1|": -abs(a), "true": True, "false": False, "s_inf": signed(math.inf, sign),
        "s_0": signed(0.0, sign), "+nan": math.nan,
    }  # fmt: skip
    if result in named:
        return named[result], False
    if "pi" in result:
        times, _, over = result.partition("pi")
        return float({"": 1, "-": -1}.get(times, times)) * math.pi / float(over[1:] or 1), True
    if result == "nearer":
        return nearer(a, b, dtype), False
    if result == "floor":
        return float(math.floor(a / b)), False
    if result == "python":
        return a % b, True
    return float(result), False


def agrees(got, wanted, result, budget, dtype):
    if wanted is True or wanted is False:
        return got is wanted
    if math.isnan(wanted):
        sign = {"-nan": -1.0, "+nan": 1.0}.get(result)
        return math.isnan(got) and sign in (None, math.copysign(1.0, got))
    if budget and wanted and math.isfinite(wanted):
        return abs(got - wanted) <= budget * math.ulp(1.0) / 2**-52 * dtype.eps * abs(wanted)
    return got == wanted and math.copysign(1.0, got) == math.copysign(1.0, wanted)


@pytest.mark.parametrize("dtype", FLOATING + HALF)
@pytest.mark.parametrize(
    ("name", "cases"),
    [*table(UNARY).items(), *table(BINARY).items()],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_special_cases_are_the_standards(anywhere, name, cases, dtype):
    function = getattr(ops, name)
    budget = max(function.op.ulp, 0.5)
    wrong = []
    if name == "nextafter" and dtype in HALF:  # it would step in float32
        with pytest.raises(cl.DTypeError, match=f"nextafter does not accept {dtype.name}.*float32"):
            function(cl.ones(1, dtype=dtype), cl.ones(1, dtype=dtype))
        return
    for *classes, result in cases:
        operands = list(itertools.product(*(EVERY[c] for c in classes)))
        tensors = [cl.asarray(list(values), dtype=dtype) for values in zip(*operands, strict=True)]
        for values, got in zip(operands, function(*tensors).tolist(), strict=True):
            wanted, errs = expected(result, values, dtype)
            if not agrees(got, wanted, result, budget if errs else 0, dtype):
                wrong.append(f"{name}{values} is {got}, not {wanted} ({' '.join(classes)}: {result})")
    assert wrong == []


# -- reductions ----------------------------------------------------------------------------------------------

REDUCTIONS = """
max     nan nan; 1 nan nan; nan 1 nan; -inf 1 inf inf
min     nan nan; 1 nan nan; nan 1 nan; -inf 1 inf -inf
sum     0; nan 1 nan; inf 1 inf; inf -inf nan; -inf -inf -inf
prod    1; nan 1 nan; inf 0 nan; inf -1 -inf; -inf -inf inf; -0 1 -0
mean    nan; nan 1 nan; inf 1 inf; inf -inf nan
var     nan; nan 1 nan; inf 1 nan; 1 0
std     nan; nan 1 nan; inf 1 nan; 1 0
any     false; nan true; inf true; -inf true; 0 -0 false
all     true; nan true; inf true; nan 0 false; 1 -0 false
"""


@pytest.mark.parametrize("dtype", FLOATING + HALF)
@pytest.mark.parametrize(
    ("name", "cases"), table(REDUCTIONS).items(), ids=lambda v: v if isinstance(v, str) else ""
)
def test_reductions_of_special_values(anywhere, name, cases, dtype):
    function = getattr(ops, name)
    wrong = []
    for *values, result in cases:
        numbers = [float(v) for v in values]
        x = cl.asarray([numbers, numbers], dtype=dtype)
        for got in (function(x[0]).item(), *function(x, axis=1).tolist()):
            wanted = expected(result, (0.0,), dtype)[0]
            if not agrees(got, wanted, result, 0, dtype):
                wrong.append(f"{name} of {numbers} is {got}, not {wanted}")
    assert wrong == []


def test_a_correction_that_leaves_nothing_gives_nan(anywhere):
    x = cl.asarray([1.0, 2.0])
    for correction in (2, 2.5, 3):
        assert math.isnan(cl.var(x, correction=correction).item())
        assert math.isnan(cl.std(x, correction=correction).item())
    assert cl.var(x, correction=1).item() == 0.5


def test_clip_of_nan(anywhere):
    x = cl.asarray([math.nan, 1.0, 1.0, -0.0])
    low, high = cl.asarray([0.0, math.nan, 0.0, -1.0]), cl.asarray([2.0, 2.0, math.nan, 1.0])
    assert [math.isnan(v) for v in cl.clip(x, low, high).tolist()] == [True, True, True, False]
    assert cl.clip(cl.asarray([-math.inf, math.inf]), -1, 1).tolist() == [-1, 1]


def test_halves_are_rounded_to_even(anywhere):
    halves = [-2.5, -1.5, -0.5, 0.5, 1.5, 2.5]
    rounded = cl.round(cl.asarray(halves))
    assert rounded.tolist() == [-2, -2, 0, 0, 2, 2]
    assert cl.signbit(rounded).tolist() == [True, True, True, False, False, False]


def test_numbers_of_special_values(anywhere):
    assert bool(cl.asarray(math.nan)) and bool(cl.asarray(-math.inf)) and not bool(cl.asarray(-0.0))
    for value, number in ((True, 1 + 0j), (False, 0j), (math.inf, complex(math.inf, 0)), (-2.5, -2.5 + 0j)):
        assert repr(complex(cl.asarray(value))) == repr(number)
    assert repr(complex(cl.asarray(math.nan))) == repr(complex(math.nan, math.nan))
    assert int(cl.asarray(-0.0)) == 0


# -- complex operands ----------------------------------------------------------------------------------------

# NumPy's own functions differ here and there, which its plugin declares.
EXACT = pytest.mark.parametrize(
    "anywhere", ["reference", "cpu", pytest.param("cuda", marks=pytest.mark.device("cuda"))], indirect=True
)
SMALL = {
    5e-324: 2.0**-149,
    1e-300: 2.0**-120,
    -1e300: -(2.0**120),
}  # of the tables' numbers those not in float32


def operand(value, dtype):
    return SMALL.get(value, value) if dtype is cl.complex64 else value


def part_agrees(got, wanted, has_sign, error):
    if not has_sign:
        got, wanted = abs(got), abs(wanted)
    if wanted and math.isfinite(wanted):
        return abs(got - wanted) <= error
    return agrees(got, wanted, "", 0, None)


@EXACT
@pytest.mark.parametrize("dtype", [cl.complex64, cl.complex128])
@pytest.mark.parametrize("name", TABLES)
def test_special_cases_of_complex_operands_are_the_standards(anywhere, name, dtype):
    function = getattr(ops, name)
    wrong = []
    for _, a, b, result in (row for row in ROWS if row[0] == name):
        pairs = [(operand(x, dtype), operand(y, dtype)) for x, y in itertools.product(CLASSES[a], CLASSES[b])]
        for (x, y), got in zip(
            pairs, function(cl.asarray([complex(*p) for p in pairs], dtype=dtype)).tolist(), strict=True
        ):
            parts = complex_expected(result, y)
            found = (got.real, got.imag) if isinstance(got, complex) else (got,)
            size = max((abs(w) for w, _ in parts if math.isfinite(w)), default=0.0)
            error = max(function.op.ulp_complex, 0.5) * dtype.eps * size  # normwise: of the larger part
            if not all(part_agrees(g, w, s, error) for g, (w, s) in zip(found, parts, strict=False)):
                wrong.append(f"{name}({x}, {y}) is {got}, not {result}")
    assert wrong == []


@EXACT
@pytest.mark.parametrize("dtype", [cl.complex64, cl.complex128])
@pytest.mark.parametrize("name", [name for name in TABLES if name not in ("abs", "sign")])
def test_conjugates_have_conjugate_results(anywhere, name, dtype):
    """But where the standard leaves the sign of a zero or of an infinity open, which repr keeps apart and == does not."""
    values = [operand(v, dtype) for v in CLASSES["any"] if v == v]
    z = cl.asarray([complex(x, y) for x, y in itertools.product(values, values)], dtype=dtype)
    at, mirrored = getattr(ops, name)(z).tolist(), cl.conj(getattr(ops, name)(cl.conj(z))).tolist()
    for value, x, y in zip(z.tolist(), at, mirrored, strict=True):
        for p, q in ((x.real, y.real), (x.imag, y.imag)):
            assert p == q or (p != p and q != q) or (math.isinf(p) and p == -q), (name, value, x, y)


TURNED = {"sin": "sinh", "tan": "tanh", "asin": "asinh", "atan": "atanh"}


@EXACT
@pytest.mark.parametrize("dtype", [cl.complex64, cl.complex128])
@pytest.mark.parametrize("name", TURNED)
def test_circular_functions_are_hyperbolic_ones_turned_by_a_quarter(anywhere, name, dtype):
    """f(z) = -i fh(iz): as the standard defines their special cases."""
    values = [operand(v, dtype) for v in CLASSES["any"]]
    pairs = list(itertools.product(values, values))
    function = getattr(ops, name)
    at = function(cl.asarray([complex(x, y) for x, y in pairs], dtype=dtype)).tolist()
    turned = getattr(ops, TURNED[name])(cl.asarray([complex(-y, x) for x, y in pairs], dtype=dtype)).tolist()
    for pair, z, w in zip(pairs, at, turned, strict=True):
        size = max((abs(v) for v in (w.real, w.imag) if math.isfinite(v)), default=0.0)
        error = 2 * function.op.ulp_complex * dtype.eps * size
        assert part_agrees(z.real, w.imag, not math.isinf(w.imag), error), (name, pair, z, w)
        assert part_agrees(z.imag, -w.real, not math.isinf(w.real), error), (name, pair, z, w)


PREDICATES = {
    "isfinite": "nan any false; any nan false; ±inf any false; any ±inf false; finite finite true",
    "isinf": "±inf any true; any ±inf true; notinf notinf false",
    "isnan": "nan any true; any nan true; ±inf ±inf false; finite ±inf false; finite finite false",
    "logical": "±0 ±0 false; nan any true; any nan true; nonzero any true; any nonzero true; ±inf any true",
}


@EXACT
@pytest.mark.parametrize("dtype", [cl.complex64, cl.complex128])
@pytest.mark.parametrize("name", PREDICATES)
def test_predicates_of_complex_operands(anywhere, name, dtype):
    function = getattr(ops, name) if name != "logical" else lambda z: cl.astype(z, cl.bool)
    for case in PREDICATES[name].split("; "):
        a, b, result = case.replace("notinf", "not_inf").split()
        parts = itertools.product(CLASSES[a.replace("_", " ")], CLASSES[b.replace("_", " ")])
        z = cl.asarray([complex(operand(x, dtype), operand(y, dtype)) for x, y in parts], dtype=dtype)
        assert set(function(z).tolist()) == {result == "true"}, case


@EXACT
@pytest.mark.parametrize("dtype", [cl.complex64, cl.complex128])
def test_complex_numbers_are_equal_part_by_part(anywhere, dtype):
    values = [
        complex(x, y) for x, y in itertools.product([0.0, -0.0, 1.0, math.inf, -math.inf, math.nan], repeat=2)
    ]
    pairs = list(itertools.product(values, values))
    x, y = (cl.asarray(list(side), dtype=dtype) for side in zip(*pairs, strict=True))
    expected = [a.real == b.real and a.imag == b.imag for a, b in pairs]
    assert cl.equal(x, y).tolist() == expected
    assert cl.not_equal(x, y).tolist() == [not e for e in expected]
    assert cl.any(x[:1]).item() is False
    assert repr(cl.mean(cl.zeros(0, dtype=dtype)).item()) == "(nan+nanj)"
