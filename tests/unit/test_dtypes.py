"""Dtypes, their limits, and promotion."""

from __future__ import annotations

import copy
import itertools
import pickle

import ml_dtypes
import numpy as np
import pytest

import corelib as cl
from corelib import dtypes
from corelib.errors import DTypeError


@pytest.mark.parametrize("dtype", dtypes.ALL, ids=lambda d: d.name)
def test_a_dtype_is_a_singleton_that_numpy_and_strings_name(dtype):
    for other in (dtype.name, np.dtype(dtype.name), np.dtype(dtype.name).type):
        assert dtypes.as_dtype(other) is dtype and dtype == other
    assert pickle.loads(pickle.dumps(dtype)) is dtype and copy.deepcopy(dtype) is dtype
    assert dtype.numpy == np.dtype(dtype.name) and dtype.itemsize == dtype.numpy.itemsize
    assert repr(dtype) == f"corelib.{dtype.name}"


def test_the_dtype_of_a_library_that_names_it_in_its_repr_only_is_understood():
    """Such as repr(torch.float32), which is "torch.float32"."""

    class Foreign:
        __module__ = "library"

        def __repr__(self):
            return "library.float32"

    assert dtypes.as_dtype(Foreign()) is dtypes.float32


def test_limits_are_numpys():
    for d in dtypes.INTEGER:
        assert (cl.iinfo(d).min, cl.iinfo(d).max, cl.iinfo(d).bits) == (
            np.iinfo(d.numpy).min,
            np.iinfo(d.numpy).max,
            d.bits,
        )
    for d in (*dtypes.FLOATING, *dtypes.HALF, *dtypes.COMPLEX):
        ours, theirs = cl.finfo(d), ml_dtypes.finfo(d.numpy) if d is cl.bfloat16 else np.finfo(d.numpy)
        assert (ours.bits, ours.dtype) == (theirs.bits, d.real)
        assert (ours.eps, ours.max, ours.min, ours.smallest_normal) == (
            theirs.eps,
            theirs.max,
            theirs.min,
            theirs.tiny,
        )
    with pytest.raises(DTypeError, match="iinfo needs an integer dtype, got float32"):
        cl.iinfo(cl.float32)
    with pytest.raises(DTypeError, match="finfo needs a floating or complex dtype, got int8"):
        cl.finfo(cl.int8)


def test_an_unknown_dtype_is_answered_with_the_nearest():
    with pytest.raises(DTypeError, match="no dtype 'flaot32'; did you mean 'float32'"):
        dtypes.as_dtype("flaot32")


@pytest.mark.parametrize(
    ("a", "b"), [*itertools.combinations_with_replacement(dtypes.ALL, 2)], ids=lambda d: d.name
)
def test_promotion_is_symmetric_and_numpys_within_a_kind(a, b):
    if {a.name, b.name} & {"uint64"} and "int" in (a.kind, b.kind):
        with pytest.raises(DTypeError, match=r"no dtype holds both .* cast one operand"):
            dtypes.promote(a, b)
        return
    promoted = dtypes.promote(a, b)
    assert promoted is dtypes.promote(b, a)
    inexact = [d for d in (a, b) if d.kind in ("float", "complex")]
    if len(inexact) == 1:
        assert promoted is inexact[0]  # whatever the integer's width
    elif {a, b} == set(dtypes.HALF):
        assert promoted is cl.float32  # neither holds the other
    else:
        assert promoted == np.promote_types(a.numpy, b.numpy)


@pytest.mark.parametrize(("scalar", "dtype", "expected"), [
    (True, cl.int8, cl.int8), (3, cl.int8, cl.int8), (3, cl.float32, cl.float32), (3.5, cl.float32, cl.float32), (3.5, cl.float64, cl.float64),
    (3.5, cl.int8, cl.float32), (3, cl.bool, cl.int64), (2.5, cl.bool, cl.float32), (True, cl.bool, cl.bool),
    (3.5, cl.float16, cl.float16), (3, cl.bfloat16, cl.bfloat16), (3.5, cl.complex64, cl.complex64), (2j, cl.complex128, cl.complex128),
    (2j, cl.float32, cl.complex64), (2j, cl.float64, cl.complex128), (2j, cl.bfloat16, cl.complex64), (2j, cl.int8, cl.complex64), (2j, cl.bool, cl.complex64),
])  # fmt: skip
def test_python_scalars_are_weak(scalar, dtype, expected):
    x = cl.asarray([1, 0], dtype=dtype)
    assert cl.result_type(x, scalar) is expected
    assert cl.where(x != 0, x, scalar).dtype is expected and cl.where(x == 0, scalar, x).dtype is expected


def test_a_scalar_that_does_not_fit_is_refused():
    with pytest.raises(DTypeError, match=r"add: the Python integer 300 does not fit int8 \(-128 to 127\)"):
        cl.asarray([1], dtype=cl.int8) + 300
    with pytest.raises(DTypeError, match="does not fit uint8"):
        cl.asarray([1], dtype=cl.uint8) - (-1)


def test_isdtype_and_can_cast():
    assert cl.isdtype(cl.int8, "signed integer") and not cl.isdtype(cl.uint8, "signed integer")
    assert cl.isdtype(cl.float32, ("integral", "real floating")) and cl.isdtype("bool", cl.bool)
    assert cl.can_cast(cl.int8, cl.int16) and not cl.can_cast(cl.int16, cl.int8)
    with pytest.raises(DTypeError, match="unknown kind 'floating'; did you mean"):
        cl.isdtype(cl.float32, "floating")
