"""The trainer: what it records, what a checkpoint brings back (also on another backend), and how it stops."""

from __future__ import annotations

import json
import math
import os
import struct

import numpy as np
import pytest

import corelib
from corelib import data, nn, ops, optim, random, train
from corelib.errors import ArgumentError, CheckpointError
from corelib.optim import lr_scheduler
from corelib.train.records import crc32c

on_each = pytest.mark.parametrize(
    "device", ["reference", pytest.param("cpu", marks=pytest.mark.device("cpu"))]
)
SAMPLES, BATCH, PER_EPOCH = 20, 4, 5


def samples():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((SAMPLES, 4)).astype("float32")
    return data.TensorDataset(corelib.asarray(x), corelib.asarray((x[:, 0] > x[:, 1]).astype("int64")))


class Recorder(train.Callback):
    """The loss of every step, as it is recorded."""

    def __init__(self):
        self.losses = []

    def on_step_end(self, trainer):
        self.losses.append(trainer.record["loss"])


class Until(train.Callback):
    """Stops after a step."""

    def __init__(self, step):
        self.step = step

    def on_step_end(self, trainer):
        if trainer.step == self.step:
            trainer.stop("far enough")


def run(until=math.inf, seed=0, dropout=0.5, hidden=8, **options):
    """A trainer of a small network with everything that has a state, and its loader."""
    random.seed(seed)
    model = nn.Sequential(nn.Linear(4, hidden), nn.Tanh(), nn.Dropout(dropout), nn.Linear(hidden, 2))
    optimizer = optim.AdamW(model.parameters(), lr=0.05)
    schedule = lr_scheduler.OneCycleLR(optimizer, 0.1, 30, cycle_momentum=False)
    given = {
        "metrics": {"accuracy": accuracy}, "schedule": schedule, "schedule_each": "step",
        "ema": optim.EMA(model.parameters(), 0.9), "callbacks": [Recorder(), Until(until)], "progress": False,
    }  # fmt: skip
    trainer = train.Trainer(model, optimizer, ops.cross_entropy, **{**given, **options})
    return trainer, data.DataLoader(samples(), BATCH, shuffle=True)


def accuracy(outputs, targets):
    return ops.mean(ops.astype(ops.equal(ops.argmax(outputs, axis=1), targets), corelib.float32))


def weights(trainer):
    return [p.tolist() for p in [*trainer.model.parameters(), *trainer.ema.averages]]


# -- a run -------------------------------------------------------------------------------------------------------


@on_each
def test_a_run_learns_and_records(device, tmp_path):
    with corelib.use_backend(device):
        trainer, loader = run(
            dropout=0.0, log=tmp_path / "run" / "log.jsonl", tensorboard=tmp_path / "events"
        )
        history = trainer.fit(loader, 6, validation=data.DataLoader(samples(), 7))
    assert [r["epoch"] for r in history] == [1, 2, 3, 4, 5, 6]
    assert history[-1]["train_loss"] < 0.5 * history[0]["train_loss"]
    assert history[-1]["val_accuracy"] == 1
    assert set(history[0]) == {"step", "epoch", "train_loss", "val_loss", "val_accuracy", "seconds"}
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "loss" in line]
    assert [line["step"] for line in steps] == list(range(1, 31))
    assert steps[0]["lr"] == pytest.approx(0.1 / 25)
    assert [line for line in lines if "val_loss" in line] == history
    mean = sum(line["loss"] for line in steps[-PER_EPOCH:]) / PER_EPOCH
    assert history[-1]["train_loss"] == pytest.approx(mean, rel=1e-12)
    found = list(events(next((tmp_path / "events").iterdir())))
    assert (30, {"val_accuracy": 1.0}) in [
        (s, {k: v for k, v in d.items() if k == "val_accuracy"}) for s, d in found
    ]
    assert [d["loss"] for _, d in found if "loss" in d] == pytest.approx([s["loss"] for s in steps], rel=1e-7)


def test_evaluation_weighs_batches_by_their_size_and_does_not_train():
    trainer, _ = run()
    before = weights(trainer)
    one = trainer.evaluate(data.DataLoader(samples(), SAMPLES))
    many = trainer.evaluate(data.DataLoader(samples(), 7))
    assert many == pytest.approx(one, rel=1e-6)
    assert weights(trainer) == before
    assert trainer.model.training


def test_accumulated_batches_are_one_step():
    results = []
    for size, accumulate in ((8, 1), (4, 2)):
        trainer, _ = run(dropout=0.0, accumulate=accumulate, clip_norm=0.5)
        trainer.fit(data.DataLoader(samples(), size, generator=random.Generator(0)), 1)
        results.append((trainer.step, [p.tolist() for p in trainer.model.parameters()]))
    assert results[0][0] == results[1][0] == 3
    for a, b in zip(results[0][1], results[1][1], strict=True):
        # Adam divides by the size of a gradient: its rounding, 2**-24 of the terms, is a part of the step of 0.05
        np.testing.assert_allclose(a, b, atol=0.05 * 3 * 2**-24 * 1000)


def test_any_iterable_will_do_and_other_batches_by_compute():
    class Pairs(train.Trainer):
        def compute(self, batch):
            outputs = self.model(batch["x"])
            return outputs, ops.mse_loss(outputs, batch["y"])

    model = nn.Linear(1, 1)
    trainer = Pairs(model, optim.SGD(model.parameters(), lr=0.1), None, progress=False)
    batch = {"x": corelib.asarray([[1.0], [2.0]]), "y": corelib.asarray([[2.0], [4.0]])}
    history = trainer.fit((batch for _ in range(200)), 1)
    assert history[0]["step"] == 200
    assert trainer.evaluate([batch])["loss"] < 1e-3


# -- checkpoints and resumption ----------------------------------------------------------------------------------


@on_each
@pytest.mark.parametrize("stop", [3, PER_EPOCH, 12])
def test_a_resumed_run_goes_on_bit_for_bit(stop, device, tmp_path):
    with corelib.use_backend(device):
        whole, loader = run()
        whole.fit(loader, 4)
        first, loader = run(until=stop, checkpoint=tmp_path / "last.safetensors")
        first.fit(loader, 4)
        assert (first.step, first.stopped) == (stop, "far enough")
        second, loader = run(seed=77, checkpoint=tmp_path / "last.safetensors")
        second.fit(loader, 4, resume=True)
    assert first.callbacks[0].losses + second.callbacks[0].losses == whole.callbacks[0].losses
    assert weights(second) == weights(whole)
    assert [r["train_loss"] for r in second.history] == [r["train_loss"] for r in whole.history]


@pytest.mark.device("cpu")
def test_stop_on_one_backend_and_resume_on_another(tmp_path):
    path, losses, orders = tmp_path / "last.safetensors", [], []

    class Order(train.Callback):
        def on_step_end(self, trainer):
            orders[-1].append(trainer._loader.generator.counter.item())

    def go(device, until, resume):
        with corelib.use_backend(device):
            trainer, loader = run(until, seed=0 if not resume else 5, checkpoint=path)
            taken = loader.collate_fn, loader.dataset.batch
            loader.dataset.batch = lambda indices: (orders.append(list(indices)), taken[1](indices))[1]
            trainer.fit(loader, 4, resume=resume)
        assert trainer.model[0].weight.device == device
        losses.append(trainer.callbacks[0].losses)
        return trainer

    go("cpu", math.inf, False)
    whole, whole_orders = losses.pop(), list(orders)
    orders.clear()
    path.unlink()
    go("cpu", 7, False)
    go("reference", 13, True)
    last = go("cpu", math.inf, True)
    assert last.step == 20
    pieces = [loss for part in losses for loss in part]
    assert orders == whole_orders  # the data come in the same order
    assert [len(part) for part in losses] == [7, 6, 7]
    assert pieces[:7] == whole[:7]
    # A loss or gradient differs by about 64 roundings of float32 between two backends (sums of up to 8 terms, two
    # transcendental functions). AdamW makes a step of at most lr = 0.1 of it, relative to the gradient's size, and
    # the loss has a slope of about 1: 13 steps behind the first change of backend. A wrong mask of the dropout or a
    # lost moment changes the first digit.
    np.testing.assert_allclose(pieces, whole, atol=13 * 64 * 2**-24 * 10)


def test_an_interrupted_checkpoint_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "last.safetensors"
    trainer, loader = run(until=2, checkpoint=path)
    trainer.fit(loader, 1)
    old = path.read_bytes()
    trainer, loader = run(checkpoint=path, save_every=4)

    def pulled(source, target):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", pulled)
        with pytest.raises(KeyboardInterrupt):
            trainer.fit(loader, 1, resume=True)
    assert path.read_bytes() == old
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    trainer, loader = run(checkpoint=path)
    trainer.fit(loader, 1, resume=True)
    assert trainer.step == PER_EPOCH


def test_the_log_of_a_resumed_run_has_no_line_twice(tmp_path):
    options = {"checkpoint": tmp_path / "last.safetensors", "log": tmp_path / "log.jsonl"}
    trainer, loader = run(until=3, **options)
    trainer.fit(loader, 2)
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 4, "loss": 9.0}\n{"step": 5, "lo')  # made after the checkpoint, and cut off
    trainer, loader = run(**options)
    trainer.fit(loader, 2, resume=True)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == list(range(1, 11))
    assert [line["epoch"] for line in lines if "train_loss" in line] == [1, 2]


def test_a_checkpoint_of_another_run_is_refused_before_anything_changes(tmp_path):
    path = tmp_path / "last.safetensors"
    trainer, loader = run(until=2, checkpoint=path)
    trainer.fit(loader, 1)
    other, loader = run(hidden=6)
    before = weights(other), random.get_state()["counter"].item()
    with pytest.raises(
        CheckpointError, match=r"different: 0.weight is float32\[6, 4\] here and float32\[8, 4\] there"
    ):
        other.fit(loader, 1, resume=path)
    assert (weights(other), random.get_state()["counter"].item()) == before
    deeper, loader = run()
    deeper.model = nn.Sequential(*[nn.Linear(4, 4) for _ in range(2)])
    with pytest.raises(CheckpointError, match=r"missing: 1.weight(.|\n)*unexpected: 3.weight"):
        deeper.fit(loader, 1, resume=path)
    same, _ = run()
    with pytest.raises(CheckpointError, match="has batch_size=5, the state has batch_size=4"):
        same.fit(data.DataLoader(samples(), 5, shuffle=True), 1, resume=path)
    for options, words in (
        ({"schedule": None}, "the run had a schedule, this Trainer has none"),
        ({"ema": None}, "averages of weights are in one of the run and this Trainer only"),
        ({"callbacks": []}, "the run had 2 callbacks, this Trainer has 0"),
        ({"accumulate": 2}, "the run had accumulate=1, this Trainer has 2"),
        ({"precision": "bfloat16"}, "the run had no precision, this Trainer has one"),
    ):
        different, loader = run(**options)
        with pytest.raises(CheckpointError, match=words):
            different.fit(loader, 1, resume=path)
    corelib.save(path, model=trainer.model)
    with pytest.raises(CheckpointError, match="not written by a Trainer"):
        same.fit(loader, 1, resume=path)


def test_a_plain_list_of_batches_goes_on_where_it_was(tmp_path):
    batches = list(data.DataLoader(samples(), BATCH))
    whole, _ = run()
    whole.fit(batches, 2)
    first, _ = run(until=3, checkpoint=tmp_path / "last.safetensors")
    first.fit(batches, 2)
    second, _ = run(seed=3, checkpoint=tmp_path / "last.safetensors")
    second.fit(batches, 2, resume=True)
    assert weights(second) == weights(whole)


# -- ends --------------------------------------------------------------------------------------------------------


def test_early_stopping_and_the_best_model(tmp_path):
    stopping = train.EarlyStopping("val_loss", patience=2)
    best = train.SaveBest(tmp_path / "best.safetensors", "val_loss")
    trainer, _ = run(callbacks=[stopping, best], dropout=0.0)
    values = iter([3.0, 2.0, 2.5, 2.25, 1.0])
    kept = []

    def evaluate(loader):
        kept.append([p.tolist() for p in trainer.model.parameters()])
        return {"loss": next(values)}

    trainer.evaluate = evaluate
    history = trainer.fit(data.DataLoader(samples(), BATCH), 9, validation=[])
    assert [r["val_loss"] for r in history] == [3.0, 2.0, 2.5, 2.25]
    assert trainer.stopped == "val_loss has not improved for 2 epochs"
    corelib.load(tmp_path / "best.safetensors", model=trainer.model)
    assert [p.tolist() for p in trainer.model.parameters()] == kept[1]
    trainer.callbacks = [train.EarlyStopping("val_los")]
    trainer.stopped, values = None, iter([1.0])
    words = "EarlyStopping follows 'val_los', which no record has; did you mean 'val_loss'"
    with pytest.raises(ArgumentError, match=words):
        trainer.fit(data.DataLoader(samples(), BATCH), 9, validation=[])


class Divides(nn.Module):
    """The scale becomes 0 / 0 in one of its layers."""

    def __init__(self):
        self.inner = nn.Linear(4, 2)

    def forward(self, x):
        y = self.inner(x)
        return y / (y - y) * ops.zeros_like(y) + ops.exp(y)


@on_each
def test_a_loss_that_is_nan_stops_before_the_update(device):
    with corelib.use_backend(device):
        model = Divides()
        before = [p.tolist() for p in model.parameters()]
        for find, words in (
            (False, r"the loss is nan in step 1 \(epoch 1\): find_nonfinite=True names the op"),
            (True, r"the loss is nan in step 1 .*: multiply\(float32\[4, 2\], float32\[4, 2\]\) made a NaN"),
        ):
            trainer = train.Trainer(
                model, optim.SGD(model.parameters(), lr=0.1), ops.cross_entropy, find_nonfinite=find, progress=False
            )  # fmt: skip
            with pytest.raises(train.NonFiniteLossError, match=words):
                trainer.fit(data.DataLoader(samples(), BATCH), 1)
            assert [p.tolist() for p in model.parameters()] == before


def test_a_nan_of_the_data_and_one_of_an_earlier_step_are_told_apart():
    x, y = samples().tensors
    spoilt = corelib.asarray(np.where(np.arange(80).reshape(20, 4) == 30, np.nan, x.numpy()))
    trainer, _ = run(find_nonfinite=True)
    with pytest.raises(train.NonFiniteLossError, match=r"in step 2 .*: element 0 of the batch is not finite"):
        trainer.fit(data.DataLoader(data.TensorDataset(spoilt, y), BATCH), 1)
    trainer, _ = run()
    weight = trainer.model[0].weight
    weight._rebind(ops.multiply(weight.detach(), math.inf))
    with pytest.raises(train.NonFiniteLossError, match=r"0\.weight is not finite since an earlier step"):
        trainer.fit(data.DataLoader(samples(), BATCH), 1)


def test_watching_names_infinities_too_and_leaves_no_trace():
    with train.watch_nonfinite() as watch:
        ops.exp(corelib.asarray([1.0, 1000.0], dtype="float32"))
    assert watch.found == "exp(float32[2]) made an infinity"
    with train.watch_nonfinite() as watch:
        ops.exp(corelib.asarray([1.0]))
    assert watch.found is None
    kernel = corelib.ops.exp.op
    backend = corelib.asarray([1.0])._backend
    assert not hasattr(backend.tables[corelib.float32][kernel.index], "__wrapped__")


# -- mixed precision ---------------------------------------------------------------------------------------------


@on_each
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_mixed_precision_trains_float32_parameters(dtype, device, tmp_path):
    with corelib.use_backend(device):
        trainer, loader = run(dropout=0.0, precision=dtype, checkpoint=tmp_path / "last.safetensors")
        seen = []
        trainer.model[0].register_forward_hook(
            lambda m, a, y: seen.append((m.weight.dtype.name, y.dtype.name))
        )
        history = trainer.fit(loader, 6)
        assert set(seen) == {(dtype, dtype)}
        assert {p.dtype.name for p in trainer.model.parameters()} == {"float32"}
        assert history[-1]["train_loss"] < 0.6 * history[0]["train_loss"]
        again, loader = run(dropout=0.0, precision=dtype, checkpoint=tmp_path / "last.safetensors")
        again.fit(loader, 6, resume=True)
        assert again.precision.state_dict() == trainer.precision.state_dict()


def test_a_mixed_gradient_is_the_gradient_and_overflow_halves_the_scale():
    model = nn.Linear(2, 1, bias=False)
    model.weight._rebind(corelib.asarray([[1.0, 2.0]]))
    x = corelib.asarray([[0.5, 0.25]], dtype="float16")
    precision = train.MixedPrecision("float16", scale=2.0**10, growth_interval=2)
    loss = precision.backward(model, lambda: ops.sum(model(x)))
    assert (loss.item(), model.weight.grad.tolist()) == (1.0, [[0.5, 0.25]])
    assert precision.finite(model)
    assert precision.finite(model)
    assert precision.scale == 2.0**11
    precision.scale = 2.0**20  # 0.5 times that is no float16
    precision.backward(model, lambda: ops.sum(model(x)))
    assert not precision.finite(model)
    assert precision.scale == 2.0**19
    assert model.weight.grad is None
    assert (model.weight.dtype, model.weight.tolist()) == (corelib.float32, [[1.0, 2.0]])
    with pytest.raises(ArgumentError, match="dtype must be float16 or bfloat16, got float32"):
        train.MixedPrecision("float32")
    with pytest.raises(CheckpointError, match="MixedPrecision in float16, the state is of bfloat16"):
        precision.load_state_dict(train.MixedPrecision("bfloat16").state_dict())


@on_each
def test_a_compiled_run_is_the_run_and_resumes(device, tmp_path):
    with corelib.use_backend(device):
        plain, loader = run(clip_norm=0.5)
        plain.fit(loader, 3)
        first, loader = run(until=7, clip_norm=0.5, compile=True, checkpoint=tmp_path / "last.safetensors")
        first.fit(loader, 3)
        second, loader = run(seed=4, clip_norm=0.5, compile=True, checkpoint=tmp_path / "last.safetensors")
        second.fit(loader, 3, resume=True)
        assert len(first._compiled.graphs()) == 2  # without the optimizer's state, and with it
    found = first.callbacks[0].losses + second.callbacks[0].losses
    # a fused kernel keeps what the separate ones round: 64 roundings in a step, 15 steps, of losses near 1
    np.testing.assert_allclose(found, plain.callbacks[0].losses, atol=15 * 64 * 2**-24 * 10)
    if device == "reference":
        assert found == plain.callbacks[0].losses


class Scaled(train.Trainer):
    """Computes in a way of its own, by an attribute of its own."""

    def compute(self, batch):
        outputs = self.model(batch[0]) * self.scale
        return outputs, self.loss(outputs, batch[1])


def test_a_compiled_step_of_a_subclass_is_not_compiled_again():
    model = nn.Linear(4, 2)
    trainer = Scaled(model, optim.Adam(model.parameters()), ops.cross_entropy, compile=True, progress=False)
    trainer.scale = 2.0
    trainer.fit(data.DataLoader(samples(), BATCH), 2, validation=data.DataLoader(samples(), BATCH))
    assert len(trainer._compiled.graphs()) == 2


# -- records -----------------------------------------------------------------------------------------------------


def events(path):
    """(step, numbers) of an event file, with its checksums checked: the format read by other code than wrote it."""
    blob, at = path.read_bytes(), 0
    while at < len(blob):
        (length,) = struct.unpack_from("<Q", blob, at)
        for start, size in ((at, 8), (at + 12, length)):
            crc = crc32c(blob[start : start + size])
            masked = ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
            assert struct.unpack_from("<I", blob, start + size) == (masked,)
        event = fields(blob[at + 12 : at + 12 + length])
        at += length + 16
        if 5 in event:
            values = [fields(v) for v in fields(event[5][0])[1]]
            yield event[2][0], {v[1][0].decode(): struct.unpack("<f", v[2][0])[0] for v in values}


def fields(message):
    found, at = {}, 0

    def varint():
        nonlocal at
        n = shift = 0
        while True:
            byte = message[at]
            at += 1
            n |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return n

    while at < len(message):
        key = varint()
        wire = key & 7
        size = {1: 8, 5: 4}.get(wire)
        if wire == 0:
            value = varint()
        else:
            size = varint() if wire == 2 else size
            value, at = message[at : at + size], at + size
        found.setdefault(key >> 3, []).append(value)
    return found


def test_the_checksum_is_crc32c():
    assert crc32c(b"123456789") == 0xE3069283  # the check value of the algorithm
    assert crc32c(bytes(32)) == 0x8A9136AA  # RFC 3720, B.4


def test_progress_goes_to_stderr(capsys):
    trainer, loader = run(progress=True)
    trainer.fit(loader, 2)
    out, err = capsys.readouterr()
    assert out == ""
    assert [line.split("  ")[0] for line in err.splitlines()] == ["epoch 1", "epoch 2"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"schedule_each": "day"}, "schedule_each must be 'epoch' or 'step', got 'day'"),
        ({"accumulate": 0}, "accumulate must be at least 1, got 0"),
        ({"save_every": 3}, "save_every needs a checkpoint to save to"),
        ({"compile": True, "accumulate": 2}, "compile goes without accumulate, precision and find_nonfinite"),
    ],
)
def test_mistakes_are_named(options, words):
    with pytest.raises(ArgumentError, match=words):
        run(**options)


def test_a_batch_that_is_no_pair_and_a_loader_without_batches():
    trainer, _ = run()
    with pytest.raises(ArgumentError, match=r"a batch must be a tuple \(x, ..., y\), got Tensor"):
        trainer.fit([corelib.ones((2, 4))], 1)
    with pytest.raises(ArgumentError, match="the loader gave no batch"):
        run()[0].fit([], 1)
    with pytest.raises(ArgumentError, match="the loader for evaluation gave no batch"):
        trainer.evaluate([])
