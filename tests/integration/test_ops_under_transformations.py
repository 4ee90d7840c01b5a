"""What transformations ask of every op: points 4 to 8 and 13 of the seventeen (see ``test_transformations.py``), op by op."""

from __future__ import annotations

import pytest
from toy_transformations import Recorder, Traced

import corelib as cl
from corelib import ops
from corelib.op import BY_NAME, KINDS, OPS
from corelib.plugin_api import Tensor, activate, decomposed, registry, reissue
from corelib.rules import Spec, broadcast_shapes, reduced
from corelib.samples import Maker, Values


@pytest.fixture
def base():
    with cl.use_backend("reference"):
        yield registry.get("reference")


def t(values, dtype=cl.float64):
    return cl.asarray(values, dtype=dtype)


def materialise(sample, backend):
    def value(a):
        if isinstance(a, Values):
            return cl.asarray(list(a.data), dtype=a.dtype, device=backend).reshape(a.shape)
        return type(a)(map(value, a)) if isinstance(a, list | tuple) else a

    return [value(a) for a in sample.args], {k: value(v) for k, v in sample.kwargs.items()}


def samples_of(op, dtype):
    return list(op.samples(Maker(op.name), dtype))


def differentiable():
    return [
        op for op in OPS if op.derivative.kind != "nondiff" and cl.float64 in op.rule.accepts and op.operands
    ]


# 4, 5


def shapes_of(op, dtype):
    """For each sample: the shapes of the operands and of the results, with the parameters as kernels get them."""
    for sample in samples_of(op, dtype):
        args, kwargs = materialise(sample, "reference")
        operands, params = op.bind(*args, **kwargs)
        specs = [
            Spec(x.shape, x.dtype)
            if isinstance(x, Tensor)
            else x
            if x is None
            else Spec((), dtype, None, True)
            for x in operands
        ]
        result = op.rule(op, specs, params)
        several = isinstance(result, tuple) and not isinstance(result, Spec)
        yield (
            [s.shape for s in specs if s is not None],
            [r.shape for r in (result if several else [result])],
            params,
        )


def dtype_of(op):
    return next(d for d in (cl.float64, cl.int64, cl.bool, *op.rule.accepts) if d in op.rule.accepts)


# What a batcher, a fuser or a slicer concludes from a kind, without knowing the op.
MEANING = {
    "elementwise": lambda inputs, outputs, params: all(o == broadcast_shapes(*inputs) for o in outputs),
    "reduce": lambda inputs, outputs, params: outputs == [reduced(inputs[0], params["axis"] if isinstance(params["axis"], tuple) else (params["axis"],), params["keepdims"])],
    "scan": lambda inputs, outputs, params: [outputs[0][a] for a in range(-len(outputs[0]), 0) if a != params["axis"]] == [inputs[0][a] for a in range(-len(inputs[0]), 0) if a != params["axis"]],
    "random": lambda inputs, outputs, params: outputs == [params["shape"]],
    "creation": lambda inputs, outputs, params: inputs == [],
}  # fmt: skip


@pytest.mark.parametrize("op", [op for op in OPS if op.kind in MEANING], ids=lambda op: op.name)
def test_a_kind_says_what_becomes_of_shapes(op):
    found = list(shapes_of(op, dtype_of(op)))
    assert found
    for inputs, outputs, params in found:
        assert MEANING[op.kind](inputs, outputs, params), (inputs, outputs, params)


@pytest.mark.parametrize("op", [op for op in OPS if op.kind == "movement"], ids=lambda op: op.name)
def test_movement_moves(op, base):
    """Each element of the result is one of the operands', or a constant that the parameters give."""
    for sample in samples_of(op, cl.float64):
        args, kwargs = materialise(sample, "reference")
        operands, params = op.bind(*args, **kwargs)
        there = {0.0, params.get("constant_value")}.union(*(flat(x) for x in operands))
        assert there.issuperset(flat(op.fn(*args, **kwargs)))


def flat(x):
    return ops.reshape(x, (-1,)).tolist() if x.size else []


@pytest.mark.parametrize(
    "op", [op for op in OPS if op.leading and op.kind != "elementwise"], ids=lambda op: op.name
)
def test_an_op_that_says_so_takes_any_leading_axes(op, base):
    dtype = dtype_of(op)
    for sample in samples_of(op, dtype):
        args, kwargs = materialise(sample, base)
        operands, params = op.bind(*args, **kwargs)
        ndim = max(x.ndim for x in operands)
        operands = [ops.reshape(x, (1,) * (ndim - x.ndim) + x.shape) for x in operands]
        backwards = [ops.reshape(ops.flip(ops.reshape(x, (-1,))), x.shape) for x in operands]
        each = [reissue(op, x, params) for x in (operands, backwards)]
        both = reissue(op, [ops.stack([a, b]) for a, b in zip(operands, backwards, strict=True)], params)
        several = lambda y: y if isinstance(y, tuple) else (y,)
        for whole, *parts in zip(several(both), *map(several, each), strict=True):
            assert [whole[0].tolist(), whole[1].tolist()] == [y.tolist() for y in parts]


def test_every_op_has_a_kind_and_composites_have_one_too():
    assert {op.kind for op in OPS} == set(KINDS)
    assert {"elementwise", "reduce", "movement", "contract", "index", "scan", "random", "opaque"} <= set(
        KINDS
    )


def canonical(name, value):
    hash(value)
    if name == "axis" and value is not None:
        axes = value if isinstance(value, tuple) else (value,)
        return all(type(a) is int and a < 0 for a in axes)
    if name == "axes":
        return all(a < 0 for a in value)
    if name == "keepdims":
        return type(value) is bool
    if name == "shape":
        return isinstance(value, tuple) and all(n >= 0 for n in value)
    return True


@pytest.mark.parametrize(
    "op", [op for op in OPS if op.operands and not op.data_dependent], ids=lambda op: op.name
)
def test_each_op_is_one_node_with_its_parameters_in_canonical_form(op, base):
    """Composites too: a wrapper that has a rule for one sees it whole."""
    itself = op.unchanged is not None and not op.params  # conj and real of a real tensor
    recorder = Recorder(base)
    for sample in samples_of(op, cl.complex128 if itself else dtype_of(op)):
        args, kwargs = materialise(sample, base)
        args = [
            recorder.lift(a)
            if isinstance(a, Tensor)
            else [recorder.lift(x) for x in a]
            if isinstance(a, list | tuple) and a and isinstance(a[0], Tensor)
            else a
            for a in args
        ]
        op.fn(*args, **kwargs)
    recorded = [entry for entry in recorder.program if entry[0] is op]
    assert recorded, "the op itself must be recorded, as one node"
    for _, _, _, params, _ in recorded:
        assert set(params) == set(op.params)
        assert all(canonical(k, v) for k, v in params.items()), params


# 6


@pytest.mark.parametrize("op", differentiable(), ids=lambda op: op.name)
def test_derivative_rules_never_read_values(op, base):
    """Every rule runs on a backend that has no values."""
    for sample in samples_of(op, cl.float64)[:4]:
        recorder = Recorder(base)
        args, kwargs = materialise(sample, base)
        variables = []

        def traced(a, recorder=recorder, variables=variables):
            if not isinstance(a, Tensor):
                return a
            x = recorder.lift(a)
            if a.dtype is cl.float64:
                variables.append(x.requires_grad_())
            return x

        args = [
            [traced(x) for x in a]
            if isinstance(a, list | tuple) and a and isinstance(a[0], Tensor)
            else traced(a)
            for a in args
        ]
        result = op.fn(*args, **kwargs)
        with activate(recorder):
            for y in result if isinstance(result, tuple | list) else [result]:
                if y.requires_grad:
                    y.backward(ops.full(y.shape, 1.0, dtype=y.dtype), retain_graph=True)
        for x in variables:
            assert x.grad is None or (isinstance(x.grad._data, Traced) and x.grad.shape == x.shape)


@pytest.mark.parametrize("op", differentiable(), ids=lambda op: op.name)
def test_the_rules_serve_forward_mode_too(op, base):
    """<g, J v> = <J^T g, v>, and the tangent needs values no more than the cotangent does."""
    for sample in samples_of(op, cl.float64)[:4]:
        args, kwargs = materialise(sample, base)
        operands, params = op.bind(*args, **kwargs)
        at = [i for i, x in enumerate(operands) if isinstance(x, Tensor) and x.dtype is cl.float64]
        xs = tuple(operands[i] for i in at)
        result = op.fn(*args, **kwargs)
        if not xs or not isinstance(result, Tensor) or result.dtype is not cl.float64:
            continue

        def f(*xs, operands=operands, at=at, params=params):
            here = list(operands)
            for i, x in zip(at, xs, strict=True):
                here[i] = x
            return reissue(op, here, params)

        vs = tuple(ops.flip(ops.reshape(ops.sin(x * 3.0), (-1,))).reshape(x.shape) for x in xs)
        y, forward = cl.jvp(f, xs, vs)
        g = ops.cos(ops.reshape(ops.arange(y.size, dtype=cl.float64), y.shape))
        backward = cl.vjp(f, *xs)[1](g)
        terms = [(c * v).sum() for c, v in zip(backward, vs, strict=True) if c is not None]
        expected = sum(terms, start=t(0.0))
        if ops.isfinite(expected):
            assert (g * forward).sum().item() == pytest.approx(expected.item(), rel=1e-9, abs=1e-9)
        recorder = Recorder(base)
        inside = [recorder.lift(x) for x in (*xs, *vs)]
        with activate(recorder):
            _, traced = cl.jvp(lambda *xs: f(*xs), tuple(inside[: len(xs)]), tuple(inside[len(xs) :]))
        assert isinstance(traced._data, Traced) and traced.shape == forward.shape


def test_partials_are_readable_apart_from_unbroadcasting():
    d = BY_NAME["multiply"].derivative
    assert d.kind == "d" and d.reads == ((("x2", "value", 1),), (("x1", "value", 0),))
    assert BY_NAME["add"].derivative.rules == (1, 1)
    assert BY_NAME["matmul"].derivative.kind == "bilinear" and BY_NAME["sum"].derivative.kind == "linear"


# 7, 8


@pytest.mark.parametrize(
    "op", [op for op in OPS if op.derivative.kind == "nondiff" and op.operands], ids=lambda op: op.name
)
def test_an_op_without_derivative_never_records(op, base):
    dtype = dtype_of(op)
    for sample in samples_of(op, dtype):
        args, kwargs = materialise(sample, base)
        tracked = [a.requires_grad_() if isinstance(a, Tensor) and a.dtype is cl.float64 else a for a in args]
        result = op.fn(*tracked, **kwargs)
        assert not any(y.requires_grad for y in (result if isinstance(result, tuple) else [result]))


def test_a_composite_stays_one_node(base):
    recorder = Recorder(base)
    x = recorder.input(t([[1.0, 2.0]]))
    ops.softmax(x, axis=-1)
    ops.sigmoid(x)
    assert [entry[0].name for entry in recorder.program] == ["softmax", "sigmoid"]


@pytest.mark.parametrize("op", [op for op in OPS if not op.primitive], ids=lambda op: op.name)
def test_a_composites_body_is_there_to_be_inlined(op, base):
    """A wrapper without a rule runs the body; it reads no value, and gives the op's own numbers."""
    dtype = dtype_of(op)
    for sample in samples_of(op, dtype)[:4]:
        args, kwargs = materialise(sample, base)
        operands, params = op.bind(*args, **kwargs)
        recorder = Recorder(base)
        inside = [recorder.input(x)._data if isinstance(x, Tensor) else x for x in operands]
        result = decomposed(op, recorder)(*inside, **params)
        assert op not in [entry[0] for entry in recorder.program]
        expected = op.fn(*args, **kwargs)
        if isinstance(result, Traced):
            replayed = recorder.replay(result, *[x._data for x in operands if isinstance(x, Tensor)])
            assert flat(Tensor(replayed, base)) == pytest.approx(flat(expected), rel=1e-12, nan_ok=True)


# 13


class Size(int):
    """An integer that stays one of its kind under arithmetic: what is left of a size when it is symbolic."""

    def __add__(self, other):
        return Size(int(self) + other)

    def __mul__(self, other):
        return Size(int(self) * other)

    def __floordiv__(self, other):
        return Size(int(self) // other)

    __radd__, __rmul__ = __add__, __mul__

    def __truediv__(self, other):
        raise AssertionError("a rule left integer arithmetic")

    __rtruediv__ = __truediv__


def symbolic(x, dtype):
    return (
        Spec(tuple(map(Size, x.shape)), x.dtype)
        if isinstance(x, Tensor)
        else x
        if x is None
        else Spec((), dtype, None, True)
    )


@pytest.mark.parametrize(
    "op", [op for op in OPS if op.operands and not op.data_dependent], ids=lambda op: op.name
)
def test_rules_use_integer_arithmetic(op, base):
    dtype = dtype_of(op)
    for sample in samples_of(op, dtype):
        args, kwargs = materialise(sample, base)
        operands, params = op.bind(*args, **kwargs)
        with_sizes = {k: tuple(map(Size, v)) if k == "shape" else v for k, v in params.items()}
        result = op.rule(op, [symbolic(x, dtype) for x in operands], with_sizes)
        for spec in result if isinstance(result, tuple) and not isinstance(result, Spec) else [result]:
            assert all(isinstance(n, int) for n in spec.shape)


def test_a_symbolic_size_comes_through():
    n = Size(7)
    spec = BY_NAME["add"].rule(BY_NAME["add"], [Spec((n, 3), cl.float32), Spec((3,), cl.float32)], {})
    assert isinstance(spec.shape[0], Size)
    spec = BY_NAME["matmul"].rule(BY_NAME["matmul"], [Spec((n, 3), cl.float32), Spec((3, 4), cl.float32)], {})
    assert isinstance(spec.shape[0], Size) and spec.shape[1] == 4
    spec = BY_NAME["sum"].rule(
        BY_NAME["sum"], [Spec((n, 3), cl.float32)], {"axis": (-1,), "dtype": cl.float32, "keepdims": False}
    )
    assert isinstance(spec.shape[0], Size)


def test_rules_accept_several_outputs_and_a_spec_says_all_that_is_known():
    vector, number = Spec((3,), cl.float32), Spec((), cl.float32)
    op = BY_NAME["adamw_update"]
    found = op.rule(op, [vector] * 4 + [number] * 3 + [None], {"beta1": 0.9, "beta2": 0.999})
    assert [s.shape for s in found] == [(3,)] * 3
    assert Spec._fields == ("shape", "dtype", "device", "weak")
