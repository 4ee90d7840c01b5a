"""A training step of the `cuda` backend as one CUDA graph: the losses and parameters of the step run op by op, the memory that
it keeps, and what cannot be captured. On the emulated device, which is as strict about captures as CUDA is.
"""

from __future__ import annotations

import gc
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "cuda_emulator"))
import emulated_cupy
import emulated_streams

import corelib as cl
import corelib_cuda
from corelib import nn, optim
from corelib.compile import eager
from corelib.registry import registry

REASON = emulated_cupy.unusable()
pytestmark = [
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
    pytest.mark.xdist_group("cuda_graphs"),
]


@pytest.fixture(scope="module")
def cuda():
    with emulated_cupy.installed():
        assert "cuda" not in registry._instances
        with cl.use_backend("cuda"):
            yield "cuda"
        registry._instances.pop("cuda", None)


def batches(count):
    rng = np.random.default_rng(0)
    for _ in range(count):
        yield rng.standard_normal((6, 5), np.float32), rng.integers(0, 3, 6)


def trained(wrap, device, steps=5):
    """Losses and parameters of a small network, after some steps."""
    cl.random.seed(0)
    with cl.use_backend(device):
        rng = np.random.default_rng(1)
        model = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3))
        model.load_state_dict(
            {k: rng.standard_normal(v.shape).astype("f4") for k, v in model.state_dict().items()}
        )
        optimizer = optim.AdamW(model.parameters(), lr=0.1)

        @wrap
        def step(x, labels):
            loss = cl.cross_entropy(model(x), labels)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            return loss

        losses = [step(cl.asarray(x), cl.asarray(y)) for x, y in batches(steps)]
        return step, [x.item() for x in losses], {k: v.numpy() for k, v in model.state_dict().items()}, model


def test_a_training_step_replays_with_the_losses_and_parameters_of_its_ops(cuda):
    step, losses, parameters, _ = trained(corelib_cuda.graph, cuda)
    _, plain, expected, _ = trained(cl.compile, cuda)
    assert losses == plain
    assert losses[-1] != losses[0]
    for name, value in expected.items():
        np.testing.assert_array_equal(parameters[name], value)
    (program,) = step.graphs
    assert program.launches == 3  # the first two calls ran kernel by kernel


def test_the_numbers_are_those_of_another_backend(cuda):
    _, losses, _, _ = trained(corelib_cuda.graph, cuda)
    _, expected, _, _ = trained(lambda fn: fn, "cpu")
    # five steps of float32 arithmetic in another order of sums: 2^-23 each, times what AdamW's division makes of it
    assert losses == pytest.approx(expected, rel=1e-4)


def test_state_lies_in_the_graph_and_is_not_copied_at_each_call(cuda, monkeypatch):
    step, _, _, _ = trained(corelib_cuda.graph, cuda)
    (program,) = step.graphs
    assert len(program.state) == sum(program.owned) > 4
    copies = []
    monkeypatch.setattr(corelib_cuda.graphs, "copy", lambda source, target: copies.append(target.shape))
    x, y = next(batches(1))
    step(cl.asarray(x), cl.asarray(y))
    assert sorted(copies) == [(), (6,), (6, 5)]  # the batch, and the loss


def test_results_are_not_changed_by_the_next_launch(cuda):
    double = corelib_cuda.graph(lambda x: x * 2.0)
    results = [double(cl.full((4,), float(i))) for i in range(4)]
    assert [r[0].item() for r in results] == [0.0, 2.0, 4.0, 6.0]


def test_state_that_somebody_still_sees_is_not_written_over(cuda):
    total = cl.zeros((3,))

    @corelib_cuda.graph
    def add(x):
        nonlocal total
        total += x
        return total.sum()

    one, seen = cl.ones((3,)), []
    for _ in range(6):
        add(one)
        seen.append(total.reshape((3, 1)))
    assert [s[0, 0].item() for s in seen] == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]


def test_weights_that_stay_are_read_where_they_lie_and_others_are_captured_again(cuda):
    weight, calls = cl.ones((4, 4)), []
    apply = corelib_cuda.graph(lambda x, w: x @ w)
    for i in range(4):
        calls.append(apply(cl.full((2, 4), float(i)), weight)[0, 0].item())
    (program,) = apply.graphs
    assert program.fixed[1] is not None
    calls.append(apply(cl.ones((2, 4)), weight * 3.0)[0, 0].item())
    assert program.fixed[1] is None
    calls.append(apply(cl.ones((2, 4)), weight)[0, 0].item())
    assert calls == [0.0, 4.0, 8.0, 12.0, 12.0, 4.0]


def test_random_numbers_go_on_in_every_launch(cuda):
    def drawn(wrap):
        generator = cl.random.Generator(3)
        draw = wrap(lambda x: x + cl.random.uniform((4,), generator=generator))
        return [draw(cl.zeros((4,))).tolist() for _ in range(4)]

    found = drawn(corelib_cuda.graph)
    assert found == drawn(lambda fn: fn)
    assert found[2] != found[3]


def test_the_memory_of_a_graph_lives_as_long_as_it_and_no_longer(cuda):
    gc.collect()
    before = cl.memory_stats("cuda")["used"]
    square = corelib_cuda.graph(lambda x: (x * x + 1.0).sum())
    for i in range(3):
        assert square(cl.full((1000,), float(i))).item() == 1000 * (i * i + 1)
    gc.collect()
    assert cl.memory_stats("cuda")["used"] >= before + 4000
    square.clear()
    gc.collect()
    assert cl.memory_stats("cuda")["used"] <= before + 1000


def test_without_a_pool_of_its_own_a_graph_would_read_memory_that_is_gone(cuda, monkeypatch, caplog):
    """The emulator would notice: memory of the default pool goes back to the system at once."""
    monkeypatch.setattr(
        emulated_cupy.MemoryPool,
        "malloc",
        lambda self, size: emulated_cupy.MemoryPointer(emulated_cupy.PooledMemory(size)),
    )
    fn = corelib_cuda.graph(lambda x, y: cl.cumulative_sum(cl.cumulative_sum(x + y, axis=0), axis=1))
    for _ in range(2):
        fn(cl.ones((4, 4)), cl.ones((4, 4)))
    assert "illegal address" in caplog.text


def test_an_index_out_of_range_is_reported_by_a_later_call(cuda):
    table = cl.arange(5, dtype="float32")
    pick = corelib_cuda.graph(lambda i: cl.take(table, i, axis=0) * 1.0)
    good, bad = cl.asarray([1, 4, -5]), cl.asarray([1, 7, 2])
    for _ in range(3):
        assert pick(good).tolist() == [1.0, 4.0, 0.0]
    pick.check()
    pick(bad)
    with pytest.raises(IndexError, match="graph of <lambda>: in an earlier call an index was out of range"):
        pick.check()
    assert pick(good).tolist() == [1.0, 4.0, 0.0]
    pick.check()


def test_what_reads_a_value_is_refused_in_a_sentence(cuda):
    """``compile.eager`` gives a compiled function values, which a graph cannot have."""
    scaled = eager(lambda x: x * (2.0 if x.sum().item() > 0 else 1.0))

    @corelib_cuda.graph
    def step(x):
        nonlocal total
        total *= 2.0
        total += scaled(x)

    total = cl.zeros((2,))
    step(cl.ones((2,)))
    for _ in range(2):
        with pytest.raises(
            cl.BackendError,
            match=r"step cannot be captured as one CUDA graph.*not permitted when stream is capturing",
        ):
            step(cl.ones((2,)))
    assert total.tolist() == [2.0, 2.0]
    assert (total + 1.0).tolist() == [3.0, 3.0]  # the device goes on
    assert not emulated_streams.current().is_capturing()


def test_an_interrupted_capture_leaves_everything_as_it_was(cuda, monkeypatch):
    total = cl.zeros((2,))

    @corelib_cuda.graph
    def step(x):
        nonlocal total
        total += x

    step(cl.ones((2,)))

    def interrupted(self, result):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(corelib_cuda.graphs.Captured, "_finish", interrupted)
        with pytest.raises(KeyboardInterrupt):
            step(cl.ones((2,)))
    assert total.tolist() == [1.0, 1.0]
    for _ in range(3):
        step(cl.ones((2,)))
    assert total.tolist() == [4.0, 4.0]
    (program,) = step.graphs
    assert program.launches == 3


def test_half_precision_state_and_results(cuda):
    weight = cl.ones((3,), dtype="bfloat16")

    @corelib_cuda.graph
    def step(x):
        nonlocal weight
        weight += x
        return weight * 2

    found = [step(cl.full((3,), 0.5, dtype="bfloat16")).tolist()[0] for _ in range(6)]
    assert found == [3.0, 4.0, 5.0, 6.0, 7.0, 8.0]
    assert weight.tolist() == [4.0, 4.0, 4.0]


def test_on_another_device_it_is_a_compiled_function():
    double = corelib_cuda.graph(lambda x: x * 2.0)
    assert [double(cl.full((2,), float(i), device="cpu")).tolist() for i in range(3)] == [
        [0.0, 0.0],
        [2.0, 2.0],
        [4.0, 4.0],
    ]
    assert double.graphs == []
