"""The graph of a compiled function: its text, what is simplified and what must not be, what is shared, and its file."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest

import corelib as cl
from corelib import nn, optim
from corelib.errors import ArgumentError, CheckpointError, ShapeError
from corelib.serialize import load_file, save_file


def steps(f, *args):
    """The names of the steps that a function comes to, after which it still gives what it gives."""
    compiled = cl.compile(f)
    expected, found = f(*args), compiled(*args)
    np.testing.assert_array_equal(found.numpy(), expected.numpy())
    np.testing.assert_array_equal(np.signbit(found.numpy()), np.signbit(expected.numpy()))
    return [s.op.name for s in compiled.graphs()[0].steps]


SPECIAL = [0.0, -0.0, 1.5, -2.0, float("inf"), -float("inf"), float("nan"), 1e-45]
X = cl.asarray(SPECIAL)
M = cl.reshape(cl.arange(24, dtype=cl.float32), (2, 3, 4))
I = cl.asarray([1, -2, 2**31 - 1], dtype=cl.int32)


@pytest.mark.parametrize(
    ("f", "x"),
    [
        (lambda x: x * 1, X),
        (lambda x: 1.0 * x, X),
        (lambda x: x / 1.0, X),
        (lambda x: x - 0, X),
        (lambda x: x + -0.0, X),
        (lambda x: x + 0, I),
        (lambda x: cl.negative(-x), X),
        (lambda x: +x, X),
        (lambda x: x.reshape((4, 6)).reshape((2, 3, 4)), M),
        (lambda x: x.mT.mT, M),
        (lambda x: cl.permute_dims(cl.permute_dims(x, (2, 0, 1)), (1, 2, 0)), M),
        (lambda x: x.astype(cl.float64).astype(cl.float32), X),
        (lambda x: x.astype(cl.float64).astype(cl.int32), I),
        (lambda x: cl.broadcast_to(x, x.shape), X),
    ],
)
def test_steps_that_change_nothing_are_taken_out(f, x):
    assert steps(f, x) == []


@pytest.mark.parametrize(
    ("f", "x", "left"),
    [
        (lambda x: x + 0.0, X, ["add"]),  # -0.0 becomes 0.0
        (lambda x: x * 0, X, ["multiply"]),  # infinity becomes NaN
        (lambda x: x - x, X, ["subtract"]),
        (lambda x: 0 - x, X, ["subtract"]),
        (lambda x: 1 / x, X, ["divide"]),
        (lambda x: x.astype(cl.float16).astype(cl.float32), X, ["astype", "astype"]),
        (lambda x: x.astype(cl.float64).astype(cl.int8), I, ["astype", "astype"]),  # a float does not wrap
        (lambda x: x.astype(cl.int64).astype(cl.int8), I, ["astype"]),
        (lambda x: cl.permute_dims(cl.permute_dims(x, (2, 0, 1)), (2, 0, 1)), M, ["permute_dims"]),
        (lambda x: x.reshape((24,)).reshape((4, 6)), M, ["reshape"]),
    ],
)  # fmt: skip
def test_what_changes_a_result_stays(f, x, left):
    assert steps(f, x) == left


def test_equal_steps_are_recorded_once():
    assert steps(lambda x: cl.exp(x * 2) + cl.exp(x * 2), X) == ["multiply", "exp", "add"]
    assert steps(lambda x: cl.maximum(x, 0.0) + cl.maximum(x, -0.0), X) == ["maximum", "maximum", "add"]
    draws = cl.compile(lambda: cl.random.uniform((3,)) + cl.random.uniform((3,)))
    draws()
    assert [s.op.name for s in draws.graphs()[0].steps].count("random_bits") == 2


def test_the_walk_back_through_slices_is_one_concatenation():
    """To the last bit: of -0.0, to which zeros are added, it is 0.0."""
    w = cl.asarray(np.array([[-0.0, 1.0, -2.0, 3.0, 0.5, -0.0]], np.float32), device="reference")

    def f(x):
        a, b, c = cl.split(x, 3, axis=1)
        return cl.vjp(lambda x: (x[:, 4:] * w[:, 4:], x[:, :2] * w[:, :2], x[:, 2:4] * w[:, 2:4]), x)[1](
            (c * 0 + 1, a * 0 + 1, b * 0 + 1)
        )[0]

    x = cl.ones((2, 6), device="reference")
    left = steps(f, x)
    assert "concat" in left and "pad" not in left

    def overlapping(x):
        return cl.grad(lambda x: (x[:4] * 2).sum() + (x[2:] * 3).sum())(x)

    def partly(x):
        return cl.grad(lambda x: (x[:2] * 2).sum() + (x[4:] * 3).sum())(x)

    for g in (overlapping, partly):
        assert "pad" in steps(g, cl.ones(6, device="reference"))


def test_dead_steps_are_dropped_unless_they_may_refuse():
    def f(x, i):
        cl.exp(x)
        cl.take(x, i)
        return x * 2

    compiled = cl.compile(f)
    compiled(cl.ones(3), cl.asarray([0]))
    assert "exp" not in str(compiled.graphs()[0])
    with pytest.raises(cl.IndexOutOfBoundsError):
        compiled(cl.ones(3), cl.asarray([5]))


def test_scalars_are_computed_ahead():
    def f(x):
        half = cl.full((), 3.0) / cl.full((), 6.0)
        return x * cl.sqrt(half)

    assert steps(f, cl.ones(4)) == ["multiply"]


def test_the_text_and_the_picture(tmp_path):
    w = cl.ones((3, 2))

    @cl.compile
    def f(x):
        return cl.tanh(x @ w), x.shape[0]

    f(cl.ones((4, 3)))
    (graph,) = f.graphs()
    assert str(graph) == (
        "program f(\n    x0: float32[4, 3],  # argument 0\n    x1: float32[3, 2],  # w (of the closure of f)\n):\n"
        "    t0: float32[4, 2] = matmul(x0, x1)\n    t1: float32[4, 2] = tanh(t0)\n    return t1"
    )
    picture = cl.draw(graph, tmp_path / "f.dot")
    assert picture.count(" -> ") == 3 and "matmul" in picture and "t1: float32[4, 2]" in picture
    assert cl.draw(graph).startswith("<svg") and "argument 0" in cl.draw(graph)
    with pytest.raises(ArgumentError, match="neither values nor times"):
        cl.draw(graph, values=True)


def test_explain_counts():
    w = cl.ones((8, 2))
    f = cl.compile(lambda x: cl.exp(x @ w))
    assert f.explain().endswith("no program yet, it has not been called")
    f(cl.ones((4, 8)))
    said = f.explain()
    assert "steps: 2 (matmul, exp)" in said
    assert f"products and convolutions: {2 * 4 * 8 * 2}" in said
    assert f"bytes moved, if nothing is fused: {4 * (4 * 8 + 8 * 2 + 3 * 4 * 2)} B" in said
    assert f"at the peak, if nothing is fused: {4 * 2 * 4 * 2} B" in said


# -- files ---------------------------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path):
    """A training step in a file, and what it gives on two batches afterwards."""
    cl.random.seed(0)
    net = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Dropout(0.5), nn.Linear(5, 2))
    made = optim.AdamW(net.parameters(), lr=1e-2)

    @cl.compile
    def step(batch):
        made.zero_grad()
        loss = cl.cross_entropy(net(batch["x"]), batch["y"])
        loss.backward()
        made.step()
        return {"loss": loss, "n": batch["x"].shape[0], "pair": (loss * 2, None)}

    batches = [
        (cl.asarray(np.random.default_rng(i).standard_normal((3, 4)).astype("f4")), cl.asarray([0, 1, 1]))
        for i in range(4)
    ]
    for x, y in batches[:2]:
        step({"x": x, "y": y})
    path = tmp_path / "step.safetensors"
    step.save(path)
    return path, batches[2:], [step({"x": x, "y": y}) for x, y in batches[2:]]


@pytest.mark.parametrize("device", ["cpu", "reference"])
def test_a_saved_program_goes_on_where_it_was_saved(saved, device):
    path, batches, expected = saved
    loaded = cl.compile.load(path, device=device)
    for (x, y), e in zip(batches, expected, strict=True):
        found = loaded(x.to(device), y.to(device))
        assert (found["n"], found["pair"][1], found["loss"].device) == (3, None, device)
        np.testing.assert_allclose(
            found["loss"].item(), e["loss"].item(), rtol=1e-6
        )  # the reference rounds sums once
    assert any(name.startswith("state.") for name in loaded.state)


def test_a_loaded_program_checks_what_it_is_given(saved):
    loaded = cl.compile.load(saved[0])
    with pytest.raises(ArgumentError, match="step takes 2 tensors, got 1"):
        loaded(cl.ones((3, 4)))
    with pytest.raises(ShapeError, match=r"tensor 0 must be float32\[3, 4\] on 'cpu', got float32\[2, 4\]"):
        loaded(cl.ones((2, 4)), cl.asarray([0, 1, 1]))


def test_files_that_are_no_programs(tmp_path, saved):
    other = tmp_path / "other.safetensors"
    save_file({"a": cl.ones(2)}, other)
    with pytest.raises(CheckpointError, match="not a program of corelib"):
        cl.compile.load(other)
    with pytest.raises(CheckpointError, match="there is no such file"):
        cl.compile.load(tmp_path / "none.safetensors")
    whole = saved[0].read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[:100])
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        cl.compile.load(tmp_path / "cut.safetensors")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: a.update(format=99), "written by a later corelib"),
        (
            lambda a: a["steps"][0].update(op="permute_dimz"),
            "uses the op 'permute_dimz'.*did you mean 'permute_dims'",
        ),
        (lambda a: a["steps"][0]["outputs"][0].__setitem__(0, "import os"), "is damaged"),
        (lambda a: a.pop("inputs"), "is damaged"),
        (lambda a: a["steps"][0].update(inputs=[{"array": "t99"}]), "is damaged"),
    ],
)
def test_damaged_programs_are_refused(tmp_path, saved, change, words):
    tensors = load_file(saved[0])
    raw = saved[0].read_bytes()
    (size,) = struct.unpack("<Q", raw[:8])
    about = json.loads(json.loads(raw[8 : 8 + size])["__metadata__"]["corelib.program"])
    change(about)
    path = tmp_path / "changed.safetensors"
    save_file(tensors, path, {"corelib.program": json.dumps(about)})
    with pytest.raises(CheckpointError, match=words):
        cl.compile.load(path)


def test_what_cannot_be_saved():
    f = cl.compile(lambda x: x + 1)
    with pytest.raises(ArgumentError, match="has no program yet"):
        f.save("nowhere.safetensors")
