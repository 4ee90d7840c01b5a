"""How tensors are shown, and the options that choose it."""

from __future__ import annotations

import math
import threading

import pytest

import corelib as cl
from corelib.errors import ArgumentError


def shown(x):
    return repr(x).removeprefix("Tensor(").partition(", dtype=")[0].partition(", shape=")[0]


@pytest.mark.parametrize(
    ("values", "dtype", "text"),
    [
        ([1.0, 2.5], "float32", "[1. , 2.5]"),
        ([0.1, -0.0, math.nan, -math.inf], "float64", "[ 0.1, -0. ,  nan, -inf]"),
        ([1e10, 1.0], "float64", "[1.0000e+10, 1.0000e+00]"),
        (math.pi, "float64", "3.1416"),
        ([65504.0, 0.1], "float16", "[6.5504e+04, 9.9976e-02]"),
        ([1.0, 0.1], "float16", "[1. , 0.1]"),
        ([3e38, 1.0], "bfloat16", "[3.0041e+38, 1.0000e+00]"),
        ([1 + 2j, -0.5j], "complex64", "[ 1.+2.j , -0.-0.5j]"),
        (complex(1.5, -2), "complex128", "1.5-2.j"),
        ([complex(math.nan, -math.inf), 1j], "complex64", "[nan-infj,  0.+1.j ]"),
        ([complex(0, 1e10), 0j], "complex128", "[0.+1.0000e+10j, 0.+0.0000e+00j]"),
        ([1, -20], "int8", "[  1, -20]"),
        ([True, False], "bool", "[ True, False]"),
    ],
)
def test_values_are_shown_as_what_they_are(anywhere, values, dtype, text):
    assert shown(cl.asarray(values, dtype=dtype)) == text


def test_options_choose_precision_width_and_how_many(anywhere):
    x = cl.asarray([math.pi, math.e], dtype=cl.float64)
    with cl.printoptions(precision=8) as options:
        assert shown(x) == "[3.14159265, 2.71828183]"
        assert options == {"precision": 8, "threshold": 1000, "edgeitems": 3, "linewidth": 88}
        with cl.printoptions(precision=0):
            assert shown(x) == "[3., 3.]"
        assert shown(x) == "[3.14159265, 2.71828183]"
    assert shown(x) == "[3.1416, 2.7183]"
    with cl.printoptions(threshold=3, edgeitems=1):
        assert shown(cl.reshape(cl.arange(20), (4, 5))).split() == [
            "[[",
            "0,",
            "...,",
            "4],",
            "...,",
            "[15,",
            "...,",
            "19]]",
        ]
        assert shown(cl.arange(2)) == "[0, 1]"
    with cl.printoptions(linewidth=20):
        assert shown(cl.arange(10)) == "[0, 1, 2, 3,\n        4, 5, 6, 7,\n        8, 9]"


def test_the_ends_of_a_large_tensor_are_shown(anywhere):
    x = cl.reshape(cl.arange(3000), (60, 50))
    lines = repr(x.mT).splitlines()
    assert lines[0] == "Tensor([[   0,   50,  100, ..., 2850, 2900, 2950],"
    assert lines[-1].endswith(f"2999]], shape=(50, 60), dtype=int64, device='{anywhere}')")
    assert len(lines) == 7
    assert shown(cl.zeros((0, 2))) == "[[]]"


def test_options_last_until_they_are_changed():
    try:
        cl.set_printoptions(precision=2, linewidth=70)
        assert shown(cl.asarray(math.pi)) == "3.14"
        with cl.printoptions(threshold=5) as options:
            assert options == {"precision": 2, "threshold": 5, "edgeitems": 3, "linewidth": 70}
            elsewhere = []
            thread = threading.Thread(target=lambda: elsewhere.append(shown(cl.zeros(6))))
            thread.start()
            thread.join()
            assert "..." not in elsewhere[0]
            assert "..." not in shown(cl.zeros(5))
    finally:
        cl.set_printoptions(precision=4, threshold=1000, edgeitems=3, linewidth=88)
    assert shown(cl.asarray(math.pi)) == "3.1416"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"prec": 1},
            r"no option 'prec'; did you mean 'precision'\? \(there are precision, threshold, edgeitems, linewidth\)",
        ),
        ({"precision": -1}, "precision must be an integer from 0 on, got -1"),
        ({"edgeitems": 0}, "edgeitems must be an integer from 1 on, got 0"),
        ({"linewidth": "wide"}, "linewidth must be an integer from 1 on, got 'wide'"),
        ({"threshold": True}, "threshold must be an integer from 0 on, got True"),
        ({"precision": 2.0}, "precision must be an integer from 0 on, got 2.0"),
    ],
)
def test_wrong_options_are_refused(options, words):
    with pytest.raises(ArgumentError, match=f"^set_printoptions: {words}"):
        cl.set_printoptions(**options)
    with pytest.raises(ArgumentError, match=f"^printoptions: {words}"), cl.printoptions(**options):
        pass


def test_one_number_takes_a_format(anywhere):
    assert f"{cl.asarray(2.0):.3f}" == "2.000"
    assert f"{cl.asarray([1 + 2j]):.1f}" == "1.0+2.0j"
    assert f"{cl.asarray([1, 2])}" == repr(cl.asarray([1, 2]))
