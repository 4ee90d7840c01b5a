"""The grid: that it covers what it says, that its cases can be made again, and that it finds what is wrong at a border."""

from __future__ import annotations

import itertools
import math
import pickle
import re
from typing import Any

import numpy as np
import pytest
from planting import Kernel, call, elements, remade

from corelib import dtypes
from corelib.conformance import Plan, check, find
from corelib.conformance.cases import sampled_dtypes
from corelib.conformance.grid import calls, cells
from corelib.conformance.layouts import LAYOUTS, laid, repeat
from corelib.conformance.operands import tensors
from corelib.conformance.patterns import SIZES
from corelib.conformance.place import numbers
from corelib.errors import UnsupportedError
from corelib.op import BY_NAME, OPS
from corelib.registry import registry
from corelib.samples import Maker, Values

# -- coverage ------------------------------------------------------------------------------------------------


def triples(op: Any, profile: str) -> list[tuple[str, str, int]]:
    return [
        (c.dtype.name, c.placement, point)
        for c in cells(Plan((op,), profile=profile))
        for point in c.data.points
    ]


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_every_pair_of_dtype_layout_and_point_occurs(op):
    whole, chosen = triples(op, "full"), triples(op, "standard")
    axes = [{t[k] for t in whole} for k in range(3)]
    assert sorted(whole) == sorted(itertools.product(*axes)), "profile full is the whole product, each once"
    assert axes[0] == {d.name for d in sampled_dtypes(op)}
    assert set(chosen) <= set(whole) and len(set(chosen)) == len(chosen)
    for a, b in itertools.combinations(range(3), 2):
        assert {(t[a], t[b]) for t in chosen} == set(itertools.product(axes[a], axes[b]))


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_a_case_is_known_by_its_id_in_every_profile(op):
    full = {c.id: c for c in cells(Plan((op,), profile="full"))}
    assert len(full) == sum(1 for _ in cells(Plan((op,), profile="full")))
    for profile in ("standard", "smoke"):
        for case in cells(Plan((op,), profile=profile)):
            assert full[case.id] == case


def test_a_case_is_found_and_travels():
    plan = Plan((BY_NAME["exp"],))
    case = next(iter(cells(plan)))
    assert find(case.id, plan) == case
    assert pickle.loads(pickle.dumps(case.data)) == case.data
    assert [repr(sample) for sample, _ in calls(case)] == [repr(sample) for sample, _ in calls(find(case.id))]


def shapes(name: str, **plan: Any) -> set[tuple[Any, ...]]:
    """The shapes of the operands of all calls of float32 in profile full."""
    found = set()
    for case in cells(Plan((BY_NAME[name],), (dtypes.float32,), profile="full", **plan)):
        for sample, _ in calls(case):
            found.add(tuple(v.shape for v in tensors(sample)))
    return found


@pytest.mark.parametrize(
    "name", ["exp", "add", "where", "sum", "sort", "softmax", "cumulative_sum", "flip", "vecdot"]
)
def test_sizes_at_borders_and_around_tiles_are_tried(name):
    lengths = {max(map(math.prod, s)) for s in shapes(name)}
    assert lengths >= {31, 32, 33, 65, 257, 1025, 4097} and (name == "flip" or lengths >= set(SIZES))
    with_tiles = {max(map(math.prod, s)) for s in shapes(name, tiles=(48, 192))}
    assert with_tiles >= {47, 48, 49, 191, 192, 193} and not lengths & {48, 191}


def test_each_class_of_shapes_is_tried():
    one = {s for (s,) in shapes("exp")}
    assert {(), (0,), (1,), (3, 0, 2)} <= one and {len(s) for s in one} >= {0, 1, 2, 3, 5}
    two = {s for s in shapes("add") if len(s) == 2}
    for axis in range(5):  # along each axis of five, on either side
        assert any(
            len(a) == len(b) == 5 and (a[axis] == 1) != (b[axis] == 1) and max(a[axis], b[axis]) > 1
            for a, b in two
        )
    assert {((33,),), ((65,),)} <= {s for s in shapes("add") if len(s) == 1}, "with a Python number"


def test_each_layout_meets_each_other_one():
    met = set()
    for case in cells(Plan((BY_NAME["add"],))):
        met |= {names for _, names in calls(case) if len(names) == 2}
    assert met == set(itertools.product(LAYOUTS, LAYOUTS))


def test_the_values_are_those_at_which_kernels_go_wrong():
    seen = set()
    for case in cells(Plan((BY_NAME["sin"],), (dtypes.float64,), profile="full")):
        seen |= {repr(x) for sample, _ in calls(case) for v in tensors(sample) for x in v.data}
    d = dtypes.float64
    wanted = [
        0.0,
        -0.0,
        math.inf,
        -math.inf,
        math.nan,
        d.smallest_normal * d.eps,
        d.smallest_normal,
        d.max,
        d.eps / 2,
        0.5,
        1.5,
        2.5,
        1e22,
        -1e300,
    ]
    assert {repr(x) for x in wanted} <= seen
    integers = set()
    for case in cells(Plan((BY_NAME["abs"],), (dtypes.int64,), profile="full")):
        integers |= {x for sample, _ in calls(case) for v in tensors(sample) for x in v.data}
    assert {-(2**63), 2**63 - 1, 2**53 + 1, 0, -1} <= integers


# -- layouts -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", ["reference", "cpu"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_does_not_change_the_values(layout, device):
    for shape in ((), (0,), (1,), (5,), (3, 4), (2, 0, 3), (2, 1, 3, 2, 2)):
        for dtype in dtypes.ALL:
            for axis in range(max(len(shape), 1)):
                v = Maker("layouts").array(shape, dtype)
                v = repeat(v, axis) if layout == "repeated" else v
                x = laid(v, registry.get(device), layout, axis)
                assert (x.shape, x.dtype, numbers(x), x.device) == (shape, dtype, v.data, device)


def test_a_layout_is_what_it_says():
    v = Maker("layouts").array((3, 4), dtypes.float32)
    backend = registry.get("cpu")
    strides = {layout: laid(repeat(v, 0), backend, layout)._data.strides for layout in LAYOUTS}
    assert strides["plain"] == (16, 4) and strides["transposed"] == (4, 12) and strides["gaps"] == (48, 12)
    assert strides["reversed"] == (-16, -4) and strides["offset"] == (24, 4) and strides["repeated"] == (0, 4)
    seen = []
    with pytest.MonkeyPatch.context() as monkey:
        monkey.setattr(backend, "from_dlpack", lambda source: seen.append(source.flags), raising=False)
        for layout in ("readonly", "unaligned"):
            laid(v, backend, layout)
    assert [f.writeable for f in seen] == [False, True] and [f.aligned for f in seen] == [True, False]


def test_memory_that_numpy_has_not_is_unsupported_and_says_so(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "numpy", None)
    with pytest.raises(UnsupportedError, match="no memory of another library to import"):
        laid(Values((1,), dtypes.float32, (1.0,)), registry.get("reference"), "readonly")


# -- what it finds -------------------------------------------------------------------------------------------


def at(index: int, size: int, change: Any) -> Any:
    """One element changed where the result has just so many."""

    def changed(kernel: Kernel, *operands: Any, **params: Any) -> Any:
        found = kernel(*operands, **params)
        if len(found.data) != size:
            return found
        data = list(found.data)
        data[index] = change(data[index])
        return remade(found, data=data)

    return call(changed)


def other(x: Any) -> Any:
    return not x if isinstance(x, bool) else 7 if x != 7 else 5


def untold_end(n: int) -> Any:
    """A reduction that does not read the last element of n."""

    def changed(kernel: Kernel, x: Any, **params: Any) -> Any:
        if x.shape != (n,):
            return kernel(x, **params)
        return kernel(remade(x, data=[*x.data[:-1], x.data[0]]), **params)

    return call(changed)


def blind_to_strides(kernel: Kernel, x: Any, *, shape: Any) -> Any:
    return x.ravel(order="K").reshape(shape)


def blind_to_sign(kernel: Kernel, x: Any) -> Any:
    found = kernel(x)
    return np.flip(found, 0) if x.ndim and x.strides[0] < 0 else found


def blind_to_zero_strides(kernel: Kernel, x1: Any, x2: Any) -> Any:
    found = kernel(x1, x2)
    return (
        found + found.dtype.type(1)
        if isinstance(x2, np.ndarray) and 0 in x2.strides and x2.size > 1
        else found
    )


def last_row_lost(kernel: Kernel, x1: Any, x2: Any) -> Any:
    found = kernel(x1, x2)
    rows = found.shape[-2] if len(found.shape) > 1 else 0
    if rows != 65:
        return found
    n = found.shape[-1]
    return remade(found, data=[*found.data[:-n], *found.data[-2 * n : -n]])


def unstable_at_a_border(kernel: Kernel, x: Any, *, axis: int, descending: bool) -> Any:
    found = kernel(x, axis=axis, descending=descending)
    if x.shape != (64,):
        return found
    data = list(found.data)
    if x.data[data[31]] == x.data[data[32]]:
        data[31], data[32] = data[32], data[31]
    return remade(found, data=data)


def number_wrong(kernel: Kernel, x1: Any, x2: Any) -> Any:
    found = kernel(x1, x2)
    alone = not hasattr(x2, "shape")
    return (
        remade(found, data=[*found.data[:-1], other(found.data[-1])])
        if alone and len(found.data) == 33
        else found
    )


def inner_axis_misread(kernel: Kernel, x1: Any, x2: Any) -> Any:
    found = kernel(x1, x2)
    shape = getattr(x2, "shape", ())
    return remade(found, data=found.data[::-1]) if len(shape) == 5 and shape[3] == 1 else found


PLANTED = {
    "element 32 of 33": ("exp", "reference", at(32, 33, other), r"exp\(float32\[33\]\), \w+: element \(32,\) is 7"),
    "the 4097th element": ("add", "reference", at(4096, 4097, other), r"4097\].*: element \(4096,\) is"),
    "the last but one of 257": ("less", "reference", at(255, 257, other), r"element \(255,\)"),
    "the end of 1025 in a sum": ("sum", "reference", untold_end(1025), r"sum\(\w+\[1025\], axis=0"),
    "the end of 63 in a maximum": ("max", "reference", untold_end(63), r"max\(\w+\[63\], axis=0"),
    "the end of 17 in any": ("any", "reference", untold_end(17), r"any\(\w+\[17\]"),
    "the end of 4097 in argmin": ("argmin", "reference", untold_end(4097), r"argmin\(\w+\[4097\]"),
    "the last row of 65": ("matmul", "reference", call(last_row_lost), r"matmul\(\w+\[65, 3\]"),
    "a tie across a border": ("argsort", "reference", call(unstable_at_a_border), r"argsort\(\w+\[64\]"),
    "a Python number": ("multiply", "reference", call(number_wrong), r"multiply\(\w+\[33\], "),
    "the fourth of five axes broadcast": ("subtract", "reference", call(inner_axis_misread), r"\[2, 3, 2, 1, 2\]"),
    "int16 alone": ("bitwise_and", "reference", call(lambda k, a, b: remade(k(a, b), data=[other(x) for x in k(a, b).data]) if k(a, b).dtype is dtypes.int16 else k(a, b)), "int16"),
    "2**53 + 1 through a double": ("negative", "reference", elements(lambda x: int(float(x)) if isinstance(x, int) and abs(x) < 2**60 else x), r"9007199254740993"),
    "strides not looked at": ("reshape", "cpu", call(blind_to_strides), r"reshape\(.*\), (transposed|reversed|offset|gaps)"),
    "negative strides": ("negative", "cpu", call(blind_to_sign), "reversed"),
    "strides of 0": ("add", "cpu", call(blind_to_zero_strides), "repeated"),
}  # fmt: skip


@pytest.mark.parametrize("name", PLANTED)
def test_what_is_wrong_at_one_border_is_found(name, plant):
    op, base, change, words = PLANTED[name]
    report = check(plant(base, **{op: change}), [BY_NAME[op]], what=["grid"])
    assert any(re.search(words, o.reason) for o in report.failures), report.text()


def test_a_tile_that_a_backend_declares_is_tried(plant, monkeypatch):
    device = plant(sqrt=at(48, 49, other))
    assert check(device, [BY_NAME["sqrt"]], what=["grid"]).ok
    monkeypatch.setattr(registry.get(device), "tiles", (48,), raising=False)
    report = check(device, [BY_NAME["sqrt"]], what=["grid"])
    assert re.search(r"sqrt\(\w+\[49\]\), \w+: element \(48,\)", report.failures[0].reason)


def careless(kernel: Kernel, x: Any) -> Any:
    """A sine of an angle that was reduced by a float64 of 2 pi."""
    data = [
        math.sin(math.fmod(v, 2 * math.pi)) if math.isfinite(v) and abs(v) > 1e6 else w
        for v, w in zip(x.data, kernel(x).data, strict=True)
    ]
    return remade(kernel(x), data=data)


def test_a_careless_range_reduction_is_found(plant):
    report = check(plant(sin=call(careless)), [BY_NAME["sin"]], [dtypes.float64], what=["grid"])
    assert any(
        "its operands: 1e+22" in o.reason or "1e+15" in o.reason or "1e+300" in o.reason
        for o in report.failures
    )


def test_memory_that_is_not_aligned_and_read_as_if_it_were(plant, monkeypatch):
    backend = registry.get(plant("cpu"))
    base = registry.get("cpu")

    def careless_import(source: Any) -> Any:
        if not source.flags.aligned:
            source = np.roll(source.reshape(-1), 1).reshape(source.shape)
        return base.from_dlpack(np.ascontiguousarray(source))

    monkeypatch.setattr(backend, "from_dlpack", careless_import, raising=False)
    report = check("planted", [BY_NAME["abs"]], [dtypes.float32], what=["grid"])
    assert {o.case.placement for o in report.failures} == {"unaligned"}


def test_an_operand_that_is_written_to_is_named(plant):
    def into(kernel: Kernel, x: Any) -> Any:
        found = kernel(x)
        if len(x.data) == 31:
            x.data[:] = found.data
        return found

    report = check(plant(floor=call(into)), [BY_NAME["floor"]], [dtypes.float32], what=["grid"])
    assert any(
        re.search(r"floor\(float32\[31\]\), \w+: operand 0 was written to", o.reason) for o in report.failures
    )


def test_a_point_that_raises_is_named(plant):
    def refusing(kernel: Kernel, x: Any, **params: Any) -> Any:
        if x.shape == (129,):
            raise ValueError("too long")
        return kernel(x, **params)

    report = check(plant(min=call(refusing)), [BY_NAME["min"]], [dtypes.int8], what=["grid"])
    assert any(re.search(r"min\(int8\[129\].*raised \w+: .*too long", o.reason) for o in report.failures)
