"""vmap of every declared op is a loop over examples, whichever operands are mapped, in each kind of dtype."""

from __future__ import annotations

import itertools
import math

import pytest

import corelib as cl
from corelib import ops
from corelib.op import OPS
from corelib.plugin_api import Tensor, reissue
from corelib.samples import Maker, Values

DTYPES = (cl.float64, cl.complex128, cl.int64, cl.bool, cl.float16)
N = 3


def operands_of(op, dtype, device):
    """For each sample of an op: N lists of operands that differ in their values alone, and the parameters."""

    def value(a):
        if isinstance(a, Values):
            return cl.asarray(list(a.data), dtype=a.dtype, device=device).reshape(a.shape)
        return type(a)(map(value, a)) if isinstance(a, list | tuple) else a

    several = [list(op.samples(Maker(f"{op.name}{i}"), dtype)) for i in range(N)]
    for samples in zip(*several, strict=True):
        bound = [
            op.bind(*map(value, s.args), **{k: value(v) for k, v in s.kwargs.items()}) for s in samples
        ]
        (_, params), *_ = bound
        yield [list(operands) for operands, _ in bound], params


def call(op, operands, params):
    """An op of parameters in canonical form, which conj and real of real numbers, that are no call of a kernel, do without."""
    return op.fn(*operands) if op.unchanged and not op.params else reissue(op, operands, params)


def patterns(operands):
    """Which operands are mapped: all, and each alone."""
    at = [i for i, x in enumerate(operands) if isinstance(x, Tensor)]
    return list(dict.fromkeys([tuple(at), *((i,) for i in at)]))


def several(y):
    return list(y) if isinstance(y, tuple) else [y]


def close(actual, expected, dtype):
    """Equal within twice the widest budget of any op, relative to the largest element: both are within it of one number."""
    assert actual.shape == expected.shape and actual.dtype is expected.dtype
    if not expected.size:
        return
    got, want = (list(map(complex, ops.reshape(y, (-1,)).tolist())) for y in (actual, expected))
    eps = expected.dtype.eps if expected.dtype.kind in ("float", "complex") else 0
    scale = max([1.0, *(abs(w) for w in want if math.isfinite(abs(w)))])
    for g, w in zip(got, want, strict=True):
        same = g == w or (g != g and w != w)
        assert same or abs(g - w) <= 2 * 128 * eps * scale, (g, w)


def variants():
    found = []
    for op in OPS:
        if op.operands and not op.data_dependent:
            for dtype in DTYPES:
                if dtype in op.rule.accepts:
                    found.append(pytest.param(op, dtype, id=f"{op.name}-{dtype.name}"))
    return found


@pytest.mark.parametrize("device", ["reference", "cpu"])
@pytest.mark.parametrize(("op", "dtype"), variants())
def test_vmap_of_an_op_is_a_loop(op, dtype, device):
    for examples, params in itertools.islice(operands_of(op, dtype, device), 8):
        for mapped in patterns(examples[0]):
            each = [
                [x if i in mapped else shared for i, (x, shared) in enumerate(zip(e, examples[0], strict=True))]
                for e in examples
            ]
            expected = [several(call(op, e, params)) for e in each]
            stacked = [
                ops.stack([e[i] for e in each]) if i in mapped else x for i, x in enumerate(examples[0])
            ]
            axes = tuple(0 if i in mapped else None for i in range(len(stacked)))
            result = several(cl.vmap(lambda *xs, params=params: call(op, xs, params), axes)(*stacked))
            for y, parts in zip(result, zip(*expected, strict=True), strict=True):
                close(y, ops.stack(list(parts)), dtype)
            empty = [x[:0] if i in mapped else x for i, x in enumerate(stacked)]
            none = several(cl.vmap(lambda *xs, params=params: call(op, xs, params), axes)(*empty))
            assert [y.shape for y in none] == [(0, *y.shape[1:]) for y in result]
