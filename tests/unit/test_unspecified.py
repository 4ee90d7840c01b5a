"""docs/array-api.md: what the standard leaves open and corelib does. Each row of its tables is a test, on every backend."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest

import corelib as cl

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "array-api.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `([^`]+)` \| (?:`([^`]+)`|(\w+Error): (.+)) \|$", PAGE, re.MULTILINE)
NAMES = {"nan": math.nan, "inf": math.inf}


def plain(result):
    return result.tolist() if isinstance(result, cl.Tensor) else result


def test_every_table_of_results_was_read():
    tables = PAGE.split("| expression | result |\n|---|---|\n")[1:]
    rows = sum(len(re.match(r"(\|.*\n)*", table).group().splitlines()) for table in tables)
    assert rows == len(ROWS) > 120


@pytest.mark.parametrize(("expression", "result", "error", "words"), ROWS, ids=[row[0] for row in ROWS])
def test_a_row_is_true(anywhere, expression, result, error, words):
    namespace = {name: getattr(cl, name) for name in cl.__all__}
    if error:
        with pytest.raises(getattr(cl, error), match=re.escape(words)) as caught:
            eval(expression, namespace)
        assert type(caught.value) is getattr(cl, error)
    else:
        # repr: a NaN is a NaN, and a zero has its sign
        assert repr(plain(eval(expression, namespace))) == repr(eval(result, namespace | NAMES))


def test_the_example_runs():
    (example,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    exec(compile(example, "docs/array-api.md", "exec"), {})


def test_an_assignment_keeps_the_last_of_several_values(anywhere):
    x = cl.zeros(3)
    x[cl.asarray([0, 0, 1])] = cl.asarray([1.0, 2.0, 3.0])
    assert x.tolist() == [2, 3, 0]
    with pytest.raises(cl.DTypeError, match="does not go into a tensor of dtype int64"):
        cl.zeros(3, dtype=cl.int64)[0] = 1.5


def test_one_singular_matrix_spoils_the_stack(anywhere):
    with pytest.raises(cl.LinAlgError, match="singular"):
        cl.linalg.inv(cl.stack([cl.eye(2), cl.zeros((2, 2))]))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_half_dtype_is_rounded_once(anywhere, dtype):
    x = cl.asarray([1.0, 3.0], dtype=dtype)
    third = x / cl.asarray([3.0, 7.0], dtype=dtype)
    exact = (x.astype(cl.float32) / cl.asarray([3.0, 7.0])).astype(dtype)
    assert (third.dtype.name, third.tolist()) == (dtype, exact.tolist())
