"""Generated kernels of cpu: the same numbers as the kernels of the single steps, for programs of every form."""

from __future__ import annotations

import functools
import random

import numpy as np
import pytest

import corelib as cl
from corelib import ops
from corelib.compile.fuse import fused
from corelib.compile.graph import Graph, Traced
from corelib.plugin_api import registry
from corelib.replay import Recorder, Replayed, replayer
from corelib.tensor import wrap

BACKEND = registry.get("cpu")
generated = pytest.importorskip("corelib_cpu.generated")
native = pytest.importorskip("corelib_cpu.native")

EXACT = ("negative", "abs", "sqrt", "floor", "ceil", "round", "trunc", "sign", "square", "reciprocal")
SMOOTH = ("negative", "exp", "log", "tanh", "erf", "sqrt", "square", "reciprocal")
BINARY = (
    "add",
    "subtract",
    "multiply",
    "divide",
    "maximum",
    "minimum",
    "copysign",
    "floor_divide",
    "remainder",
)
INTEGER = ("add", "subtract", "multiply", "maximum", "minimum", "bitwise_and", "bitwise_or", "bitwise_xor")
COMPARE = ("less", "less_equal", "greater", "greater_equal", "equal", "not_equal")
SHAPES = (
    (40,),
    (33, 17),
    (5, 7, 9),
    (64, 64),
    (3, 1, 50),
    (300, 20),
    (2, 3, 4, 8),
    (1, 24),
    (17, 1000),
    (40, 16400),
)


def random_program(seed: int, exact: bool):
    """A function of tensors with 3 to 20 ops; ``exact``: only ops whose results have one possible rounding."""

    def program(tensors, *_):
        draw = random.Random(seed)
        values, ends = list(tensors), []
        of = lambda *dtypes: [v for v in values if v.dtype in dtypes]
        for _ in range(draw.randint(3, 20)):
            kind = draw.random()
            x = draw.choice(of(cl.float32, cl.float64))
            alike = of(x.dtype)
            if kind < 0.3:
                y = getattr(ops, draw.choice(EXACT if exact else SMOOTH))(x)
            elif kind < 0.65:
                other = draw.choice(alike) if draw.random() < 0.8 else draw.choice([0.5, 2.0, -1.5])
                y = getattr(ops, draw.choice(BINARY if exact else BINARY[:6]))(x, other)
            elif kind < 0.75:
                condition = getattr(ops, draw.choice(COMPARE if exact else COMPARE[:2]))(
                    x, draw.choice(alike)
                )
                y = ops.where(condition, draw.choice(alike), draw.choice([draw.choice(alike), 0.25]))
                values.append(ops.bitwise_invert(condition))
            elif kind < 0.8:
                y = ops.astype(
                    x, draw.choice([cl.float32, cl.float64] + ([cl.int32, cl.int64] if exact else []))
                )
            elif kind < 0.87:
                whole = of(cl.int32, cl.int64)
                if not whole:
                    continue
                x = draw.choice(whole)
                y = getattr(ops, draw.choice(INTEGER))(x, draw.choice(of(x.dtype)))
            elif x.ndim:
                rank = x.ndim
                axis = draw.choice([-1, -1, -1, 0, tuple(range(rank)), tuple(range(-min(2, rank), 0))])
                reduce = draw.choice(("max", "min") if exact else ("sum", "mean", "max"))
                if draw.random() < 0.25:  # a shape that broadcasts with no other
                    ends.append(getattr(ops, reduce)(x, axis=axis))
                    continue
                y = getattr(ops, reduce)(x, axis=axis, keepdims=True)
            else:
                continue
            values.append(y)
        results = values[len(tensors) :] + ends
        draw.shuffle(results)
        return tuple(results[: draw.randint(1, 4)]) or (ops.negative(tensors[0]),)

    return program


def operands(seed: int):
    draw, rng = random.Random(seed), np.random.default_rng(seed)
    shape = draw.choice(SHAPES)
    arrays = []
    for _ in range(draw.randint(1, 4)):
        own = tuple(n if draw.random() < 0.8 else 1 for n in shape)[draw.random() < 0.2 :]
        a = rng.standard_normal(own).astype(draw.choice(["f", "f", "d"]))
        arrays.append(draw.choice([a, a, a, a.copy(order="F"), np.repeat(a, 2, 0)[::2] if own else a]))
    return arrays


def run(function, arrays, least, monkeypatch, donates=()):
    monkeypatch.setattr(type(BACKEND), "fuse_from", least)
    program = Replayed(function, BACKEND).record(arrays, (), donates)
    assert program is not None
    return program(*arrays)


@pytest.mark.parametrize("seed", range(60))
def test_random_programs_give_the_bits_of_their_steps(seed, monkeypatch):
    function, arrays = random_program(seed, exact=True), operands(seed)
    expected = run(function, arrays, 1 << 60, monkeypatch)
    before = [a.copy() for a in arrays]
    got = run(function, arrays, 0, monkeypatch)
    for a, b in zip(got, expected, strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(
            np.signbit(a[a == 0]), np.signbit(b[b == 0])
        ) if a.dtype.kind == "f" else None
    for a, b in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("seed", range(1000, 1040))
def test_random_programs_with_functions_and_sums_are_as_exact_as_their_steps(seed, monkeypatch):
    function, arrays = random_program(seed, exact=False), operands(seed)
    expected = run(function, arrays, 1 << 60, monkeypatch)
    got = run(function, arrays, 0, monkeypatch)
    for a, b in zip(got, expected, strict=True):
        if a.dtype.kind != "f":
            assert (a != b).mean() < 0.05  # comparisons of values that differ in their last bits
            continue
        with np.errstate(all="ignore"):
            x, y = a.astype("d"), b.astype("d")
            finite = np.isfinite(y)
            typical = np.median(np.abs(y[finite])) if finite.any() else 1.0
            # 20 steps of 4 ULP each, amplified by the conditioning of exp and division of what has cancelled
            bound = 1e4 * np.finfo(a.dtype).eps * (np.abs(y) + typical)
            same = (x == y) | (np.isnan(x) & np.isnan(y)) | (np.abs(x - y) <= bound)
        assert (~same).mean() < 0.01


def back(fn):
    """A function and its gradients, as arrays."""

    def run(*arrays):
        leaves = [cl.asarray(a).requires_grad_() for a in arrays]
        y = fn(*leaves)
        ops.sum(ops.multiply(y, y)).backward()
        return [y.numpy(), *[leaf.grad.numpy() for leaf in leaves]]

    return run


X = np.random.default_rng(5).standard_normal((70, 260)).astype("f")
LABELS = np.random.default_rng(6).integers(0, 260, 70)
CASES = {
    "softmax": (lambda x: ops.softmax(x), 1),
    "log_softmax": (lambda x: ops.log_softmax(x), 1),
    "layer_norm": (lambda x, w, b: ops.layer_norm(x, w, b), 3),
    "rms_norm": (lambda x, w: ops.rms_norm(x, w), 2),
    "cross_entropy": (lambda x: cl.cross_entropy(x, cl.asarray(LABELS)), 1),
    "gelu": (lambda x: ops.gelu(x), 1),
    "gelu_tanh": (lambda x: ops.gelu(x, approximate="tanh"), 1),
    "silu": (lambda x: ops.silu(x), 1),
    "softmax_of_columns": (lambda x: ops.softmax(x, axis=0), 1),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_composites_and_their_derivatives_agree_with_the_reference_formula_in_float64(
    name, dtype, monkeypatch
):
    fn, count = CASES[name]
    arrays = [X, X[0].copy(), X[1].copy()][:count]
    monkeypatch.setattr(type(BACKEND), "fuse_from", 1 << 60)
    exact = back(fn)(*[a.astype("d") for a in arrays])
    monkeypatch.setattr(type(BACKEND), "fuse_from", 4096)
    made = []
    emit = generated.make
    monkeypatch.setattr(generated, "make", lambda group: made.append(emit(group)) or made[-1])
    BACKEND.tables.replays.clear()
    for _ in range(3):
        got = back(fn)(*[a.astype(dtype) for a in arrays])
    assert any(made), "a kernel was generated"
    # budgets of the ops: layer_norm's derivative by its 128 ULP, over sums of 260 terms of size 1
    scale = np.finfo(dtype).eps * 256
    for a, b in zip(got, exact, strict=True):
        assert a.dtype == dtype
        np.testing.assert_allclose(a, b, rtol=scale, atol=scale * max(np.abs(b).max(), 1e-3))


@pytest.mark.parametrize("name", ["layer_norm", "cross_entropy", "softmax"])
def test_the_number_of_threads_changes_no_bit(name):
    fn, count = CASES[name]
    x = np.random.default_rng(7).standard_normal((700, 300)).astype("f")
    labels = np.random.default_rng(6).integers(0, 300, 700)
    if name == "cross_entropy":
        fn = lambda x: cl.cross_entropy(x, cl.asarray(labels))
    arrays = [x, x[0].copy(), x[1].copy()][:count]
    results = []
    for threads in (1, 2, 3, 5):
        with BACKEND.threads(threads):
            results.append([r.tobytes() for r in back(fn)(*arrays)])
    assert all(r == results[0] for r in results)


def test_a_kernel_serves_every_size_of_its_kind(monkeypatch):
    addresses = []
    assembled = native._assemble
    monkeypatch.setattr(native, "_assemble", lambda *a: addresses.append(a) or assembled(*a))
    for n, m in ((90, 180), (91, 183), (300, 170), (64, 256)):
        x = cl.asarray(np.ones((n, m), np.float32), device="cpu")
        for _ in range(3):
            ops.softmax(x)
    assert len(addresses) <= 1


def test_what_is_read_once_per_row_is_found_whatever_its_rank(monkeypatch):
    x, *others = (np.arange(n, dtype="f") + 1 for n in (2 * 3 * 4 * 8, 3, 6, 1, 3, 6, 2))
    x = x.reshape(2, 3, 4, 8)
    kept = [a.reshape(s) for a, s in zip(others, ((3, 1, 1), (2, 3, 1, 1), (1,)), strict=False)]
    bare = [a.reshape(s) for a, s in zip(others[3:], ((3,), (2, 3), (2, 1)), strict=False)]

    def function(ts):
        most, least = ops.max(ts[0], axis=(-2, -1), keepdims=True), ops.min(ts[0], axis=(-2, -1))
        return (*[ops.add(most, t) for t in ts[1:4]], *[ops.add(least, t) for t in ts[4:]])

    arrays = [x, *kept, *bare]
    for a, b in zip(
        run(function, arrays, 0, monkeypatch), run(function, arrays, 1 << 60, monkeypatch), strict=True
    ):
        np.testing.assert_array_equal(a, b)


def test_inputs_whose_rows_are_runs_are_read_where_they_are_and_others_are_copied(monkeypatch):
    rng = np.random.default_rng(1)
    wide, deep = rng.standard_normal((90, 64)).astype("f"), rng.standard_normal((3, 30, 4, 16)).astype("f")
    function = lambda ts: (ops.multiply(ops.add(ts[0], ts[1]), 2.0), ops.max(ts[0], axis=-1, keepdims=True))
    copies = []
    monkeypatch.setattr(generated, "contiguous", lambda a: copies.append(a) or np.ascontiguousarray(a))
    for a, b, copied in (
        (wide[:, 16:32], wide[:, :16], 0),
        (wide[::2, :16], wide[45:, 16:32], 0),
        (deep.transpose(0, 2, 1, 3), deep.transpose(0, 2, 1, 3), 0),
        (wide[:, ::4], wide[:, 1:17], 2),
        (wide[:16].T, wide[:16].T, 2),
    ):
        copies.clear()
        plain = [np.ascontiguousarray(a), np.ascontiguousarray(b)]
        monkeypatch.setattr(type(BACKEND), "fuse_from", 0)
        program = Replayed(function, BACKEND).record(plain, (), ())
        for x, y in ((a, b), (a, b), plain):
            for got, want in zip(
                program(x, y), ((plain[0] + plain[1]) * 2, plain[0].max(-1, keepdims=True)), strict=True
            ):
                np.testing.assert_array_equal(got, want)
        assert len(copies) == 2 * copied


def test_donated_arrays_are_written_over_and_others_never():
    rng = np.random.default_rng(3)
    p, g, m, v = (rng.uniform(0.5, 1, (200, 300)).astype("f") for _ in range(4))
    step = functools.partial(ops.adamw_update, beta1=0.9, beta2=0.99)
    scalars = [cl.asarray(s) for s in (0.1, 1e-3, 0.9)]
    want = [t.numpy() for t in step(*map(cl.asarray, (p, g, m, v)), *scalars)]
    for _ in range(3):
        tensors = [cl.asarray(a) for a in (p, g, m, v)]
        data = [t._data for t in tensors]
        del tensors[1:]
        new = step(tensors[0], *[cl.asarray(a) for a in (g, m, v)], *scalars, overwrite=False)
        np.testing.assert_array_equal(data[0], p)
        for a, b in zip(new, want, strict=True):
            np.testing.assert_array_equal(a.numpy(), b)
    program = Replayed(lambda ts: step(*ts), BACKEND, (0, 2, 3)).record(
        [p, g, m, v, *[s._data for s in scalars]], (), (0, 2, 3)
    )
    arrays = [a.copy() for a in (p, g, m, v)]
    got = program(*arrays, *[s._data for s in scalars])
    assert got[0] is arrays[0] and got[1] is arrays[2] and got[2] is arrays[3]
    np.testing.assert_array_equal(arrays[1], g)
    for a, b in zip(got, want, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_failure_of_the_compiler_is_said_and_the_steps_run(monkeypatch, caplog):
    def fails(text):
        raise RuntimeError("LLVM IR parsing error")

    monkeypatch.setattr(native, "address_of_ir", fails)
    x = cl.asarray(np.linspace(-1, 1, 131 * 97, dtype="f").reshape(131, 97), device="cpu")
    got = [ops.softmax(x).numpy() for _ in range(3)]
    assert np.array_equal(got[0], got[2])
    assert "no kernel could be generated" in caplog.text and "LLVM IR parsing error" in caplog.text


@pytest.mark.parametrize("damage", [b"", b"garbage", None])
def test_stored_functions_that_are_damaged_or_cannot_be_stored_are_made_again(damage, monkeypatch, tmp_path):
    monkeypatch.setenv("CORELIB_CACHE_DIR", str(tmp_path / "file" if damage is None else tmp_path))
    if damage is None:
        (tmp_path / "file").write_text("not a directory")
    texts = []
    for _ in range(2):
        monkeypatch.setattr(native, "_functions", {})
        texts.append(native.function_ir("def function(x):\n    return x * x\n", "float32", 1))
        for file in tmp_path.glob("cpu/*.o"):
            file.write_bytes(damage or b"")
    assert texts[0] == texts[1] and "define internal float @FUNCTION(float " in texts[0]


def test_nan_infinity_and_signed_zeros_come_out_as_they_do_step_by_step(monkeypatch):
    x = np.array([[np.nan, 1, 2] * 8, [np.inf, -np.inf, 0.0] * 8, [-0.0, 0.0, -1.0] * 8], "f")
    function = lambda ts: (
        ops.max(ts[0], axis=-1), ops.min(ts[0], axis=-1), ops.maximum(ops.negative(ts[0]), ts[0]),
        ops.where(ops.isnan(ts[0]), 0.0, ops.abs(ts[0])), ops.sign(ops.multiply(ts[0], 1.0)),
    )  # fmt: skip
    for a, b in zip(
        run(function, [x], 0, monkeypatch), run(function, [x], 1 << 60, monkeypatch), strict=True
    ):
        np.testing.assert_array_equal(a, b)
        assert np.array_equal(np.signbit(a[a == 0]), np.signbit(b[b == 0]))


@pytest.mark.parametrize("columns", [1, 2, 5, 7, 8, 10, 12, 15, 16, 17, 20, 24, 31, 33, 40, 63, 65, 127])
def test_rows_that_end_within_a_vector(columns):
    """Values, labels in int64, booleans, a row with NaN and one with infinities; nothing is written behind the last row."""

    def step(x, labels, w, places):
        shifted = ops.subtract(x, ops.max(x, axis=-1, keepdims=True))
        e = ops.exp(shifted)
        p = ops.divide(e, ops.sum(e, axis=-1, keepdims=True))
        hit = ops.equal(places, ops.expand_dims(labels, axis=-1))
        g = ops.where(hit, ops.subtract(p, 1.0), p)
        return (
            ops.add(ops.multiply(g, w), x),
            ops.sum(ops.multiply(w, w), axis=0),
            ops.min(x, axis=-1),
            ops.greater(p, 0.1),
        )

    rows, rng = 37, np.random.default_rng(columns)
    values, w = (rng.standard_normal((rows, columns)).astype("f") for _ in range(2))
    values[3, columns // 2], values[5, 0] = np.nan, np.inf
    labels = rng.integers(0, columns, rows)
    buffer = np.full(rows * columns + 64, 7, np.float32)
    x = buffer[: rows * columns].reshape(rows, columns)
    x[...] = values
    recorder = Recorder(BACKEND)
    inputs = [
        Traced(x.shape, cl.float32, "a0"), Traced(labels.shape, cl.int64, "a1"), Traced(x.shape, cl.float32, "a2"), Traced((columns,), cl.int64, "a3"),
    ]  # fmt: skip
    results = [r._data for r in step(*[wrap(i, recorder) for i in inputs])]
    graph = Graph(inputs, recorder.steps, results, several=True, donated=inputs[:1])
    got = replayer(fused(graph, BACKEND, alone=True))(x, labels, w, np.arange(columns))
    assert (buffer[rows * columns :] == 7).all()
    with np.errstate(invalid="ignore"):
        v = values.astype("d")
        e = np.exp(v - v.max(axis=1, keepdims=True))
        p = e / e.sum(axis=1, keepdims=True)
        g = np.where(np.arange(columns) == labels[:, None], p - 1, p)
        want = g * w + v, (w.astype("d") ** 2).sum(axis=0), v.min(axis=1), p > 0.1
    for a, b in zip(got[:3], want[:3], strict=True):  # exp within 2 ULP, a division, a few roundings
        np.testing.assert_allclose(a, b, rtol=2e-6, atol=2e-6)
    clear = np.abs(p - 0.1) > 1e-6
    np.testing.assert_array_equal(got[3][clear], want[3][clear])
