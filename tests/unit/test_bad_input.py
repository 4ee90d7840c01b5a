"""A wrong argument of any public function is refused in corelib's own words, which name the function; on every backend in the same ones."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

import corelib
from corelib import ops
from corelib.errors import CorelibError, DTypeError
from corelib.op import OPS

NAMES = sorted(
    set(ops.__all__) - {"asarray", "from_dlpack"}
)  # which take anything, and have tests of their own
NO_TENSORS = {"list": [1.0, 2.0], "str": "text", "None": None, "array": np.ones(2), "object": object()}
NO_VALUES = {"object": object(), "str": "nonsense", "list": [1.5]}
OPERANDS = ("Tensor", "Array", "Sequence[Tensor")
ALWAYS_RIGHT = ("bool", "Copy", "Stable")  # truth is asked of anything, and copying is up to the backend


def parameters(name):
    return list(inspect.signature(getattr(ops, name)).parameters.values())


def right(p):
    """A value that the parameter ``p`` may have."""
    annotation = str(p.annotation)
    if p.name in ("shape", "dtype"):
        return {"shape": (2,), "dtype": corelib.float32}[p.name]
    if annotation.startswith("Sequence[Tensor"):
        return [corelib.ones(2, device="reference")]
    if annotation.startswith(OPERANDS):
        return corelib.ones(2, device="reference")
    return 0 if annotation.startswith(("int", "Axis")) else (1,) if annotation.startswith("tuple") else 1.0


def call(name, position, value):
    """Call a function with ``value`` at a position, and what is right elsewhere where something is required."""
    args, kwargs = [], {}
    for i, p in enumerate(parameters(name)):
        required = p.default is p.empty and p.kind is not p.VAR_POSITIONAL
        if p.kind in (p.POSITIONAL_ONLY, p.VAR_POSITIONAL) and (required or i <= position):
            args.append(value if i == position else right(p) if required else p.default)
        elif i == position or required:
            kwargs[p.name] = value if i == position else right(p)
    return getattr(ops, name)(*args, **kwargs)


def refusal(name, position, value):
    with pytest.raises(CorelibError) as caught:
        call(name, position, value)
    return str(caught.value)


@pytest.mark.parametrize("value", NO_TENSORS.values(), ids=NO_TENSORS)
@pytest.mark.parametrize("name", [n for n in NAMES if parameters(n)])
def test_what_is_no_tensor_is_refused(name, value):
    if str(parameters(name)[0].annotation).startswith(OPERANDS):
        assert name in refusal(name, 0, value)


def wrong_parameters():
    for name in NAMES:
        for position, p in enumerate(parameters(name)):
            if (
                not str(p.annotation).startswith((*OPERANDS, *ALWAYS_RIGHT))
                and p.kind is not p.VAR_POSITIONAL
            ):
                yield pytest.param(name, position, id=f"{name}-{p.name}")


@pytest.mark.parametrize(("name", "position"), list(wrong_parameters()))
def test_a_wrong_parameter_is_refused(name, position):
    p = parameters(name)[position]
    for value in NO_VALUES.values():
        words = refusal(name, position, value)
        if p.name not in ("device", "dtype"):
            assert name in words, words


@pytest.mark.parametrize("op", [op for op in OPS if op.errors], ids=lambda op: op.name)
def test_a_declared_refusal_names_the_op(op):
    for error in op.errors:
        assert issubclass(error.error, CorelibError)


def test_a_refusal_names_the_function_that_was_called():
    x = corelib.ones((3, 2), device="reference")
    with pytest.raises(CorelibError, match=r"^take: index 3 is out of bounds for axis 0 of size 3"):
        corelib.take(x, corelib.asarray([0, 3], device="reference"), axis=0)
    with pytest.raises(CorelibError, match=r"^zeros: shape \(-1,\) has a negative size"):
        corelib.zeros((-1,), device="reference")


@pytest.mark.parametrize("device", ["reference", pytest.param("cpu", marks=pytest.mark.device("cpu"))])
@pytest.mark.parametrize("name", ["add", "multiply", "maximum", "equal", "atan2"])
def test_none_is_no_operand(name, device):
    x = corelib.ones(2, device=device)
    with pytest.raises(CorelibError, match=f"^{name}: x2 must be a Tensor, got builtins.NoneType"):
        getattr(ops, name)(x, None)
    assert ops.clip(x, None, None).tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    "call",
    [
        lambda x: ops.one_hot(ops.astype(x, corelib.int64), 2, dtype=None),
        lambda x: ops.softmax(x, axis=None),
        lambda x: ops.triu(x, k=None),
        lambda x: ops.elu(x, None),
    ],
    ids=["dtype", "axis", "int", "float"],
)
def test_none_is_no_parameter_where_nothing_says_so(call):
    with pytest.raises(
        DTypeError, match=r"^(one_hot: dtype|softmax: axis|triu: k|elu: alpha) must not be None"
    ):
        call(corelib.ones((2, 2), device="reference"))


@pytest.mark.parametrize("name", ["sum", "prod", "cumulative_sum", "cumulative_prod", "trace"])
def test_an_integer_cannot_accumulate_floating_numbers(name):
    x = corelib.ones((2, 2), device="reference")
    kwargs = {"axis": 0} if name.startswith("cumulative") else {}
    with pytest.raises(
        DTypeError, match=rf"^{name}: dtype int32 cannot accumulate float32: call x.astype\(corelib.int32\)"
    ):
        getattr(ops, name)(x, dtype=corelib.int32, **kwargs)
    assert getattr(ops, name)(x, dtype=corelib.float64, **kwargs).dtype is corelib.float64


@pytest.mark.parametrize("device", ["reference", pytest.param("cpu", marks=pytest.mark.device("cpu"))])
def test_two_numbers_have_the_default_dtype_of_their_kinds(device):
    condition = corelib.asarray([True, False], device=device)
    for first, second, dtype in (
        (1.5, 0, corelib.float32),
        (1, True, corelib.int64),
        (True, False, corelib.bool),
    ):
        chosen = ops.where(condition, first, second)
        assert (chosen.tolist(), chosen.dtype, chosen.device) == ([first, second], dtype, device)
    with pytest.raises(
        DTypeError, match="where: the Python integer 100000000000000000000 does not fit int64"
    ):
        ops.where(condition, 10**20, 0)


TOO_LARGE = {
    "full": lambda device: corelib.zeros((2**40,), device=device),
    "beyond-addresses": lambda device: corelib.zeros((2**40, 2**40), device=device),
    "arange": lambda device: corelib.arange(2**45, device=device),
    "linspace": lambda device: corelib.linspace(0, 1, 2**60, device=device),
    "pad": lambda device: ops.pad(corelib.ones(3, device=device), 2**60),
    "tile": lambda device: ops.tile(corelib.ones(3, device=device), 2**50),
    "random": lambda device: corelib.random.normal((2**50,), device=device),
    "matmul": lambda device: ops.matmul(
        corelib.ones((2**20, 1), device=device), corelib.ones((1, 2**20), device=device)
    ),
}


@pytest.mark.parametrize("device", ["reference", pytest.param("cpu", marks=pytest.mark.device("cpu"))])
@pytest.mark.parametrize("make", TOO_LARGE.values(), ids=TOO_LARGE)
def test_what_no_memory_holds_is_refused_at_once(make, device):
    with pytest.raises(
        corelib.OutOfMemoryError,
        match=rf"the result .* takes [\d.]+ [TPEZY]B, more than '{device}' can allocate",
    ) as caught:
        make(device)
    assert isinstance(caught.value, MemoryError)


def test_no_element_repeated_without_end_is_no_element():
    x = corelib.ones((2, 0), device="reference")
    assert ops.repeat(x, 2**40, axis=0).shape == (2**41, 0)


def test_more_differences_than_there_are_elements_leave_none():
    x = corelib.ones((2, 3), device="reference")
    assert ops.diff(x, n=2**60).shape == (2, 0)


def test_ranges_of_what_is_no_number_are_refused():
    with pytest.raises(DTypeError, match=r"^arange does not accept bool"):
        corelib.arange(3, dtype=corelib.bool, device="reference")
    with pytest.raises(DTypeError, match=r"^linspace: values from inf to 0 do not fit int32"):
        corelib.linspace(float("inf"), 0, 3, dtype=corelib.int32, device="reference")
