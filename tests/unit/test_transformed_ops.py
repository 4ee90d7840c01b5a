"""Every declared op under transformations: vmap of it is a loop over examples, whichever operands are mapped; and its forward mode is
the transpose of its reverse mode, alone and under vmap.
"""

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
        bound = [op.bind(*map(value, s.args), **{k: value(v) for k, v in s.kwargs.items()}) for s in samples]
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
    eps = expected.dtype.eps if expected.dtype.kind in INEXACT else 0
    scale = max([1.0, *(abs(w) for w in want if math.isfinite(abs(w)))])
    for g, w in zip(got, want, strict=True):
        same = g == w or (g != g and w != w)
        assert same or abs(g - w) <= 2 * 128 * eps * scale, (g, w)


INEXACT = ("float", "complex")


def variants(chosen=lambda op, dtype: True):
    found = []
    for op in OPS:
        if op.operands and not op.data_dependent:
            for dtype in DTYPES:
                if dtype in op.rule.accepts and chosen(op, dtype):
                    found.append(pytest.param(op, dtype, id=f"{op.name}-{dtype.name}"))
    return found


@pytest.mark.parametrize("device", ["reference", "cpu"])
@pytest.mark.parametrize(("op", "dtype"), variants())
def test_vmap_of_an_op_is_a_loop(op, dtype, device):
    for examples, params in itertools.islice(operands_of(op, dtype, device), 8):
        for mapped in patterns(examples[0]):
            each = [
                [
                    x if i in mapped else shared
                    for i, (x, shared) in enumerate(zip(e, examples[0], strict=True))
                ]
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


def inner(a, b):
    """The real scalar product of two lists of tensors."""
    terms = [ops.sum(ops.real(x * ops.conj(y))) for x, y in zip(a, b, strict=True)]
    return sum(y.item() for y in terms)


def direction(x, shift):
    """Numbers like x, in [-1, 1], of both parts."""
    k = ops.reshape(ops.arange(x.size, dtype=cl.float64, device=x.device), x.shape) + shift
    v = ops.sin(k * 1.7)
    return (v + 1j * ops.cos(k * 2.3) if x.dtype.kind == "complex" else v).astype(x.dtype)


@pytest.mark.parametrize("device", ["reference", "cpu"])
@pytest.mark.parametrize(
    ("op", "dtype"),
    variants(
        lambda op, dtype: op.derivative.kind != "nondiff" and dtype.bits >= 64 and dtype.kind in INEXACT
    ),
)
def test_forward_mode_is_the_transpose_of_reverse_mode(op, dtype, device):
    for examples, params in itertools.islice(operands_of(op, dtype, device), 6):
        at = [i for i, x in enumerate(examples[0]) if isinstance(x, Tensor) and x.dtype.kind == dtype.kind]

        def f(*xs, examples=examples, at=at, params=params):
            given = list(examples[0])
            for i, x in zip(at, xs, strict=True):
                given[i] = x
            y = several(call(op, given, params))
            return [v for v in y if v.dtype.kind in INEXACT]

        xs = tuple(examples[0][i] for i in at)
        if not at or not f(*xs):
            continue
        try:
            y, pullback = cl.vjp(f, *xs)
            v, g = [direction(x, 1) for x in xs], [direction(r, 2) for r in y]
            back = pullback(g)
        except cl.GradientError as error:  # where the result is arbitrary, both modes say so
            with pytest.raises(cl.GradientError, match=str(error)[:40].replace("(", ".").replace(")", ".")):
                cl.jvp(f, xs, tuple(direction(x, 1) for x in xs))
            continue
        _, pushed = cl.jvp(f, xs, tuple(v))
        forward, reverse = inner(g, pushed), inner(back, v)
        # both are sums of the same products, rounded in another order: what is allowed is far above their errors
        size = max([1.0, *(ops.max(ops.abs(b)).item() for b in (*back, *pushed) if b.size)])
        limit = 1e6 * max(r.dtype.eps for r in y)
        if math.isfinite(reverse) or math.isfinite(forward):
            assert forward == pytest.approx(reverse, rel=limit, abs=limit * size)
        # the same at two points at once, under vmap
        twice = cl.vmap(lambda *vs, f=f, xs=xs: cl.jvp(f, xs, vs)[1])(*[ops.stack([u, -2 * u]) for u in v])
        for both, one in zip(twice, pushed, strict=True):
            close(both, ops.stack([one, -2 * one]), dtype)


def test_every_op_can_be_mapped():
    """By its kind, its rule or its body; ops whose result's shape depends on values are refused by name."""
    from corelib.transforms.batching import Batcher, _missing

    batcher = Batcher("vmap", [cl.ones(3)], 3, "different")
    for op in OPS:
        if op.operands:
            kernel = batcher.kernel(op, next(iter(op.rule.accepts)))
            assert getattr(kernel, "func", None) is not _missing, op
    assert [op.name for op in OPS if op.data_dependent] == ["nonzero"]
