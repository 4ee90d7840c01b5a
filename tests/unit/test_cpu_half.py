"""float16 and bfloat16 on the cpu backend: every cast is rounded once, and what moves elements moves their bits."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import corelib
from corelib import dtypes

casts = pytest.importorskip("corelib_cpu.casts")
creation = pytest.importorskip("corelib_cpu.creation")
elementwise = pytest.importorskip("corelib_cpu.elementwise")
native = pytest.importorskip("corelib_cpu.native")

HALF = ["float16", "bfloat16"]
INTEGERS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]


@pytest.fixture(params=["numpy", "compiled"], autouse=True)
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """NumPy's casts at every size, or the compiled ones."""
    monkeypatch.setattr(elementwise, "CROSSOVER", 1 << 40 if request.param == "numpy" else 0)
    return request.param


def every(half: str) -> np.ndarray:
    """All 65536 numbers of a dtype."""
    return np.arange(1 << 16, dtype=np.uint16).view(dtypes.as_dtype(half).numpy)


def values(x: np.ndarray, half: str) -> list[float]:
    return dtypes.as_dtype(half).unpack(x.view(np.uint16))


def cast(x: np.ndarray, target: str) -> np.ndarray:
    result = casts.make_astype(x.dtype.name)(x, dtype=dtypes.as_dtype(target))
    assert result.dtype == dtypes.as_dtype(target).numpy and result.shape == x.shape
    return result


def same(actual: list[float], expected: list[float]) -> None:
    """Equal numbers, zeros with their signs."""
    for a, b in zip(actual, expected, strict=True):
        assert (a == b and math.copysign(1, a) == math.copysign(1, b)) or (a != a and b != b), (a, b)


def hard(half: str) -> np.ndarray:
    """Doubles at the ends of the range, subnormal ones, ties, and next to ties by less than a float32 can tell."""
    numbers = np.array(values(every(half), half))
    numbers = np.unique(numbers[np.isfinite(numbers)])[:: 7 if half == "float16" else 13]
    largest, eps = dtypes.as_dtype(half).max, dtypes.as_dtype(half).eps
    ends = [
        largest,
        largest * (1 + eps / 4),
        largest * (1 + eps / 3.9),
        1e300,
        math.inf,
        math.nan,
        5e-324,
        0.0,
    ]
    low = [
        dtypes.as_dtype(half).smallest_normal * eps * f for f in (0.5, 0.5000000001, 0.4999999999, 1.5, 0.25)
    ]
    numbers = np.concatenate([numbers, numbers[:-1] + np.diff(numbers) / 2, ends, low])
    with np.errstate(all="ignore"):
        found = [
            numbers,
            np.nextafter(numbers, np.inf),
            np.nextafter(numbers, -np.inf),
            numbers * (1 + 2.0**-30),
        ]
        return np.concatenate([*found, -np.concatenate(found)])


@pytest.mark.parametrize("half", HALF)
def test_every_number_widens_exactly(half: str) -> None:
    x = every(half)
    same(cast(x, "float32").tolist(), values(x, half))
    same(cast(x, "float64").tolist(), values(x, half))
    assert cast(x, "complex64").real.tobytes() == cast(x, "float32").tobytes()


@pytest.mark.parametrize("half", HALF)
@pytest.mark.parametrize("source", ["float32", "float64"])
def test_numbers_are_rounded_once(source: str, half: str) -> None:
    with np.errstate(all="ignore"):
        x = hard(half).astype(source)
    same(values(cast(x, half), half), [dtypes.as_dtype(half).round(v) for v in x.tolist()])


def rounded(n: int, dtype: Any) -> float:
    """The number of a dtype nearest to an integer, ties to even, in integer arithmetic."""
    places = max(abs(n).bit_length() - dtype.digits, 0)
    kept, rest = divmod(abs(n), 1 << places)
    kept += rest > (1 << places) // 2 or (places > 0 and rest == (1 << places) // 2 and kept % 2 == 1)
    result = float(kept << places)
    return math.copysign(result if result <= dtype.max else math.inf, n) if n else 0.0


@pytest.mark.parametrize("half", HALF)
@pytest.mark.parametrize("source", ["bool", *INTEGERS])
def test_integers_are_rounded_once(source: str, half: str) -> None:
    limits = (0, 1) if source == "bool" else (np.iinfo(source).min, np.iinfo(source).max)
    candidates = {
        sign * ((m << shift) + beside)
        for m in (1, 3, 129, 131, 255, 257, 511, 1025, 2047, 2049, 4095)
        for shift in range(64)
        for beside in (-1, 0, 1)
        for sign in (1, -1)
    }
    numbers = [*limits, *sorted(n for n in candidates if limits[0] <= n <= limits[1])]
    expected = [rounded(n, dtypes.as_dtype(half)) for n in numbers]
    same(values(cast(np.array(numbers, source), half), half), expected)


@pytest.mark.parametrize("half", HALF)
@pytest.mark.parametrize("target", INTEGERS)
def test_integers_saturate(target: str, half: str) -> None:
    limits, expected = np.iinfo(target), []
    for v in values(every(half), half):
        expected.append(
            0
            if v != v
            else max(
                limits.min, min(limits.max, int(v) if math.isfinite(v) else int(math.copysign(1 << 70, v)))
            )
        )
    assert cast(every(half), target).tolist() == expected


@pytest.mark.parametrize("half", HALF)
def test_other_casts(half: str) -> None:
    x, other = every(half), HALF[1 - HALF.index(half)]
    assert cast(x, "bool").tolist() == [v != 0 for v in values(x, half)]
    same(values(cast(x, other), other), [dtypes.as_dtype(other).round(v) for v in values(x, half)])
    assert cast(x, half).view(np.uint16).tolist() == x.view(np.uint16).tolist()


def test_a_machine_without_float16_instructions_has_numpys_casts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "has_float16", lambda: False)
    x = every("float16")
    same(cast(x, "float32").tolist(), values(x, "float16"))
    same(values(cast(cast(x, "float32"), "float16"), "float16"), values(x, "float16"))


@pytest.mark.parametrize("half", HALF)
@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (5, 7)], ids=str)
def test_shapes_and_layouts(half: str, shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    narrow = cast(x, half)
    for a in (x, x.T.copy().T, np.broadcast_to(x, (2, *shape))):
        assert cast(np.asarray(a), half).shape == a.shape
    np.testing.assert_array_equal(cast(cast(x.T, half), "float32"), cast(narrow, "float32").T)


DOUBLE_ROUNDING = {"float16": 1 + 2.0**-11 + 2.0**-40, "bfloat16": 1 + 2.0**-8 + 2.0**-40}  # by float32: 1


@pytest.mark.parametrize("half", HALF)
def test_scalars_are_rounded_once(half: str) -> None:
    value, dtype = DOUBLE_ROUNDING[half], dtypes.as_dtype(half)
    above = 1 + dtype.eps
    x = creation.full(shape=(2,), fill_value=value, dtype=dtype)
    assert values(x, half) == [above] * 2
    chosen = elementwise.make("where", half)(np.array([True, False]), x, -value)
    assert values(chosen, half) == [above, -above]
    assert corelib.asarray([value], dtype=half, device="cpu").tolist() == [above]
    assert corelib.pad(
        corelib.zeros(1, dtype=half, device="cpu"), ((1, 0),), constant_values=value
    ).tolist() == [above, 0]
    assert math.isinf(values(creation.full(shape=(), fill_value=1e300, dtype=dtype), half)[0])


@pytest.mark.parametrize("half", HALF)
def test_evenly_spaced_numbers_are_rounded_once(half: str) -> None:
    dtype = dtypes.as_dtype(half)
    start, step = DOUBLE_ROUNDING[half], 0.3
    expected = [dtype.round(start + i * step) for i in range(50)]
    assert values(creation.arange(start=start, step=step, size=50, dtype=dtype), half) == expected


@pytest.mark.parametrize("half", HALF)
def test_what_moves_elements_moves_their_bits(half: str) -> None:
    """Every op that a backend is asked for in half precision, on all bit patterns there are."""
    bits = every(half).reshape(256, 256)
    raw, x = bits.view(np.uint16), corelib.asarray(bits, device="cpu")

    def moved(result: Any, expected: np.ndarray) -> None:
        assert result.dtype.name == half
        np.testing.assert_array_equal(result._data.view(np.uint16), expected)

    places = corelib.asarray(np.random.default_rng(0).integers(0, 256, (4, 5)), device="cpu")
    i = places.numpy()
    moved(x.mT, raw.T)
    moved(corelib.flip(x, axis=0), raw[::-1])
    moved(corelib.concat([x, x], axis=1), np.concatenate([raw, raw], 1))
    moved(x[3:200:7, ::-2], raw[3:200:7, ::-2])
    moved(x[places], raw[i])
    moved(x[places, places], raw[i, i])
    moved(corelib.take(x, places[0], axis=1), raw[:, i[0]])
    moved(corelib.take_along_axis(x, places[:, :1], axis=0), raw[i[:, :1], np.arange(256)])
    moved(
        corelib.where(corelib.asarray(raw % 2 == 0, device="cpu"), x, corelib.flip(x)),
        np.where(raw % 2 == 0, raw, raw[::-1, ::-1]),
    )
    changed = raw.copy()
    changed[2:9] = raw[102:109]
    y = x[...]
    y[2:9] = x[102:109]
    moved(y, changed)
    changed = raw.copy()
    changed[:, i[0]] = raw[:, :5]
    y = x[...]
    y[:, places[0]] = x[:, :5]
    moved(y, changed)
    nonzero = corelib.nonzero(x)
    for found, expected in zip(nonzero, np.nonzero(raw & 0x7FFF), strict=True):
        np.testing.assert_array_equal(found.numpy(), expected)
    host = dtypes.as_dtype(half).buffer(x._backend.to_host(x._data))
    assert bytes(memoryview(host).cast("B")) == raw.tobytes()
