"""What the tests of clients share: each client's function is called with NumPy's arrays and with tensors of each
backend, and must give the same twice, the second time as tensors on the same device.

SciPy reads SCIPY_ARRAY_API once, when it is imported; tests/conftest.py sets it before anything can import it.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import corelib as cl

PAGE = Path(__file__).resolve().parents[3] / "docs" / "clients.md"


@pytest.fixture
def listed() -> Callable[[str, str], set[str]]:
    """``listed(client, heading)``: the names that docs/clients.md has in the column ``heading`` of that client's tables.

    A row that begins with a module in backticks gives the names that follow it their prefix.
    """
    sections = re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)

    def names(client: str, heading: str) -> set[str]:
        (section,) = (s for s in sections if s.startswith(f"{client}\n"))
        found, headings = set(), []
        for line in section.splitlines():
            cells = [cell.strip() for cell in line.strip("|").split(" | ")] if line.startswith("|") else []
            if not cells:
                headings = []
            elif not headings:
                headings = cells
            elif heading in headings and not set(line) <= set("|- "):
                column = headings.index(heading)
                module = re.fullmatch(r"`(.+)`", cells[0]) if column else None
                prefix = f"{module[1]}." if module else ""
                found |= {prefix + name for name in re.findall(r"`([^`]+)`", cells[column])}
        return found

    return names


@pytest.fixture(params=["cpu", "reference"])
def device(request: pytest.FixtureRequest) -> Iterator[str]:
    """Clients make constants without naming a device: they are to be made where the operands are."""
    with cl.use_backend(request.param):
        yield request.param


def leaves(result: Any) -> list[Any]:
    """The arrays, numbers and texts of a result: of tuples, lists, and the result objects of SciPy."""
    if isinstance(result, tuple | list):
        return [leaf for part in result for leaf in leaves(part)]
    if dataclasses.is_dataclass(result):
        return [leaf for field in dataclasses.fields(result) for leaf in leaves(getattr(result, field.name))]
    return [result]


@pytest.fixture
def agree(device: str) -> Callable[..., None]:
    """``agree(call, ulp=, narrow=)``: ``call(array)`` gives the same where ``array`` copies NumPy's arrays, and where it
    makes tensors of them.

    ``ulp``: how far an element may be off, in units of the last place of the result's largest element.
    ``narrow``: the client asks the namespace for its default floating dtype, which is float64 in NumPy and float32 here.
    """

    def check(call: Callable[[Callable[[Any], Any]], Any], *, ulp: float, narrow: bool = False) -> None:
        expected, actual = leaves(call(np.copy)), leaves(call(cl.asarray))
        assert len(actual) == len(expected)
        for e, a in zip(expected, actual, strict=True):
            if not isinstance(e, np.ndarray | np.generic):
                assert type(a) is type(e)
                if not isinstance(e, float):
                    assert a == e
                    continue
            else:
                assert isinstance(a, cl.Tensor), type(a)
                assert a.device == device
                assert a.shape == e.shape
                floating = np.issubdtype(e.dtype, np.inexact)
                assert (
                    a.dtype.name == e.dtype.name or narrow and floating and a.dtype.itemsize * 2 == e.itemsize
                )
            close(np.asarray(a), np.asarray(e), ulp, narrow)

    return check


def close(actual: np.ndarray, expected: np.ndarray, ulp: float, narrow: bool) -> None:
    """Equal, or floating and within ``ulp`` of the largest element."""
    if not np.issubdtype(expected.dtype, np.inexact):
        np.testing.assert_array_equal(actual, expected)
        return
    eps = np.finfo(np.float32 if narrow else actual.dtype).eps
    finite = np.isfinite(expected)
    scale = np.max(np.abs(expected[finite]), initial=0)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=ulp * eps * scale)
