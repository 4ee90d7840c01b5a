"""Checkpoints: round trips, going on as if nothing had happened, files that are damaged or foreign, and saves that are interrupted."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import textwrap

import numpy as np
import pytest

import corelib
from corelib import dtypes, nn, ops, optim, serialize
from corelib.errors import ArgumentError, CheckpointError

on_each = pytest.mark.parametrize(
    "device", ["reference", pytest.param("cpu", marks=pytest.mark.device("cpu"))]
)


def network(device="reference", seed=0):
    corelib.random.seed(seed)
    return nn.Sequential(nn.Linear(3, 4, device=device), nn.Dropout(0.3), nn.Linear(4, 2, device=device))


def train(net, optimizer, steps):
    losses = []
    for _ in range(steps):
        x = corelib.random.normal((5, 3), device=net[0].weight.device)
        optimizer.zero_grad()
        loss = ops.mse_loss(net(x), x[:, :2])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


# -- round trips -------------------------------------------------------------------------------------------------


@on_each
@pytest.mark.parametrize("dtype", dtypes.ALL, ids=lambda d: d.name)
def test_tensors_of_every_dtype_shape_and_layout_come_back(dtype, device, path):
    base = corelib.asarray((np.arange(24) % 5).astype(dtype.numpy).reshape(2, 3, 4), device=device)
    tensors = {
        "plain": base, "transposed": ops.permute_dims(base, (2, 0, 1)), "reversed": ops.flip(base), "gaps": base[:, ::2, 1:],
        "scalar": base[0, 0, 1], "empty": base[:0], "wide": ops.broadcast_to(base[0, 0, :1], (3, 3)),
    }  # fmt: skip
    serialize.save_file(tensors, path)
    loaded = serialize.load_file(path, device=device)
    assert loaded.keys() == tensors.keys()
    for name, x in tensors.items():
        y = loaded[name]
        assert (y.shape, y.dtype, y.device, y.tolist()) == (x.shape, x.dtype, device, x.tolist())


def test_special_values_keep_their_bits(path):
    bits = np.array([0x7FF8000000000001, 0x8000000000000000, 1, 0x7FF0000000000000], "u8")
    serialize.save_file({"x": corelib.asarray(bits.view("f8"), device="reference")}, path)
    np.testing.assert_array_equal(serialize.load_file(path, "reference")["x"].numpy().view("u8"), bits)


@on_each
@pytest.mark.parametrize(
    "make",
    [
        lambda p: optim.AdamW(p, lr=0.05, betas=(0.8, 0.9), amsgrad=True),
        lambda p: optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True),
        lambda p: optim.SGD(p, lr=0.05),
    ],
    ids=["AdamW", "momentum", "SGD"],
)
def test_training_goes_on_as_if_nothing_had_happened(make, device, path):
    net = network(device)
    optimizer = make(net.parameters())
    train(net, optimizer, 3)
    optimizer.param_groups[0]["lr"] = 0.02
    corelib.save(path, model=net, optimizer=optimizer, metadata={"epoch": 3, "names": ["a"]})
    expected = train(net, optimizer, 3)

    other = network(device, seed=9)
    second = type(optimizer)(other.parameters())
    found = corelib.load(path, model=other, optimizer=second, random=True)
    assert found["metadata"] == {"epoch": 3, "names": ["a"]}
    assert found["version"] == corelib.__version__
    assert second.param_groups[0]["lr"].item() == 0.02
    assert train(other, second, 3) == expected
    for p, q in zip(net.parameters(), other.parameters(), strict=True):
        assert p.tolist() == q.tolist()


@pytest.mark.device("cpu")
def test_a_checkpoint_moves_between_backends(path):
    net = network("cpu")
    optimizer = optim.AdamW(net.parameters())
    train(net, optimizer, 2)
    corelib.save(path, model=net, optimizer=optimizer)
    other = network("reference", seed=9)
    second = optim.AdamW(other.parameters())
    corelib.load(path, model=other, optimizer=second)
    for p, q in zip(net.parameters(), other.parameters(), strict=True):
        assert q.device == "reference"
        assert p.tolist() == q.tolist()
        assert second.state[q]["exp_avg"].device == "reference"
    train(other, second, 1)


def test_a_generator_and_tensors_of_ones_own(path):
    generator = corelib.random.Generator(5, device="reference")
    corelib.random.normal((3,), generator=generator, device="reference")
    corelib.save(path, random=generator, tensors={"loss": corelib.asarray([1.0, 2.0])})
    expected = corelib.random.uniform((4,), generator=generator, device="reference").tolist()
    other = corelib.random.Generator(6, device="reference")
    assert corelib.load(path, random=other)["tensors"]["loss"].tolist() == [1.0, 2.0]
    assert corelib.random.uniform((4,), generator=other, device="reference").tolist() == expected


def test_the_file_is_plain_safetensors_with_names_that_speak(path):
    from safetensors import safe_open

    net = network()
    corelib.save(path, model=net, optimizer=optim.Adam(net.parameters()))
    with safe_open(path, framework="numpy") as file:
        assert sorted(file.keys()) == [
            "model.0.bias", "model.0.weight", "model.2.bias", "model.2.weight", "optimizer.group.0.lr", "random.counter", "random.key",
        ]  # fmt: skip
        about = json.loads(file.metadata()["corelib"])
    assert (about["format"], about["version"], about["model"]) == (1, corelib.__version__, "Sequential")
    assert about["optimizer"]["class"] == "Adam"
    assert [p.name for p in path.parent.iterdir()] == [path.name]


# -- files that do not fit ---------------------------------------------------------------------------------------


def saved(path):
    net = network()
    optimizer = optim.Adam(net.parameters())
    train(net, optimizer, 1)
    corelib.save(path, model=net, optimizer=optimizer)
    return net, optimizer


def test_a_truncated_file_is_refused_at_every_length(path):
    net, _ = saved(path)
    whole = path.read_bytes()
    before = [p.tolist() for p in net.parameters()]
    for length in [*range(40), *range(40, len(whole), 97), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(
            CheckpointError, match=rf"model.safetensors: not a whole safetensors file \({length} bytes\)"
        ):
            corelib.load(path, model=net)
    path.write_bytes(whole + b"x")
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        corelib.load(path, model=net)
    assert [p.tolist() for p in net.parameters()] == before


def test_foreign_files_are_refused_in_words(path, tmp_path):
    from safetensors.numpy import save_file

    net = network()
    for content in (b"PK\x03\x04" + b"\0" * 200, b"\x80\x02}q\0." * 30, b"not a checkpoint at all" * 9):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match="truncated, damaged, or in another format"):
            corelib.load(path, model=net)
    save_file({"weight": np.zeros(3, "f4")}, path)
    with pytest.raises(
        CheckpointError, match=r"not a corelib checkpoint: load\(path, model=...\) reads a model"
    ):
        corelib.load(path)
    assert serialize.load_file(path, "reference")["weight"].tolist() == [0.0] * 3
    save_file({"weight": np.zeros(3, "f4")}, path, metadata={"corelib": "{"})
    with pytest.raises(CheckpointError, match="its metadata entry 'corelib' cannot be read"):
        corelib.load(path, model=net)
    newer = json.dumps({"format": 2, "version": "9.1", "metadata": {}})
    save_file({"weight": np.zeros(3, "f4")}, path, metadata={"corelib": newer})
    with pytest.raises(
        CheckpointError, match=r"format 2, written by corelib 9.1; this one reads up to 1: upgrade corelib"
    ):
        corelib.load(path, model=net)
    with pytest.raises(
        CheckpointError, match=r"modle.safetensors: there is no such file; did you mean 'model.safetensors'"
    ):
        corelib.load(tmp_path / "modle.safetensors")
    with pytest.raises(CheckpointError, match="is a directory"):
        corelib.load(tmp_path)


def test_a_dtype_that_corelib_lacks_is_named(path):
    header = json.dumps({"x": {"dtype": "F8_E5M2", "shape": [4], "data_offsets": [0, 4]}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 4)
    with pytest.raises(CheckpointError, match=r"not a whole safetensors file|float8_e5m2|F8_E5M2"):
        serialize.load_file(path)


def test_a_checkpoint_of_something_else_changes_nothing(path):
    net, _ = saved(path)
    other = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.3), nn.Linear(4, 3))
    before = [p.tolist() for p in other.parameters()]
    with pytest.raises(CheckpointError) as caught:
        corelib.load(path, model=other)
    assert str(caught.value).startswith(f"{path}: load_state_dict: the state does not fit Sequential")
    assert "different: 2.weight is float32[3, 4] here and float32[2, 4] there" in str(caught.value)
    assert [p.tolist() for p in other.parameters()] == before

    twin = network(seed=9)
    before, counter = [p.tolist() for p in twin.parameters()], corelib.random.get_state()["counter"].item()
    with pytest.raises(CheckpointError, match="holds the state of Adam, not of SGD"):
        corelib.load(path, model=twin, optimizer=optim.SGD(twin.parameters()), random=True)
    assert [p.tolist() for p in twin.parameters()] == before  # the model fits, but the rest does not
    assert corelib.random.get_state()["counter"].item() == counter

    corelib.save(path, model=net, random=False)
    with pytest.raises(CheckpointError, match=r"holds no optimizer \(for SGD\), only model"):
        corelib.load(path, optimizer=optim.SGD(twin.parameters()))
    with pytest.raises(CheckpointError, match=r"holds no random \(for the random state\), only model"):
        corelib.load(path, random=True)


def test_what_cannot_be_saved_is_refused_before_the_file_is_touched(path):
    net, _ = saved(path)
    whole = path.read_bytes()
    with pytest.raises(ArgumentError, match="metadata must be what JSON can hold"):
        corelib.save(path, model=net, metadata={"x": object()})
    with pytest.raises(ArgumentError, match="'x' must be a Tensor, got ndarray"):
        serialize.save_file({"x": np.zeros(3)}, path)
    assert path.read_bytes() == whole
    with pytest.raises(CheckpointError, match="there is no directory"):
        corelib.save(path.parent / "nowhere" / "x.safetensors", model=net)


# -- interruptions -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_save_that_fails_leaves_the_old_file_whole_and_nothing_else(failing, path, monkeypatch):
    net, _ = saved(path)
    whole = path.read_bytes()

    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, failing, fail)
    with pytest.raises(OSError, match="No space left"):
        corelib.save(path, model=net)
    monkeypatch.undo()
    assert path.read_bytes() == whole
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.skipif(os.name != "posix", reason="limits the size of files by a POSIX call")
def test_a_disk_that_is_full_is_told_and_leaves_the_old_file_whole(path):
    import resource

    saved(path)
    whole, limits = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, limits[1]))
    try:
        with pytest.raises(
            CheckpointError, match=r"model.safetensors: could not be written: .*File too large"
        ):
            serialize.save_file({"x": corelib.zeros((1 << 15,), device="reference")}, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == whole
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
def test_permissions_are_those_of_the_file_that_is_replaced_else_those_of_any_new_file(path):
    saved(path)
    other = path.with_name("other")
    other.touch()
    assert path.stat().st_mode == other.stat().st_mode
    path.chmod(0o640)
    saved(path)
    assert path.stat().st_mode & 0o777 == 0o640


def test_the_file_is_flushed_before_it_takes_the_name(path, monkeypatch):
    log, fsync, replace = [], os.fsync, os.replace
    monkeypatch.setattr(
        os, "fsync", lambda fd: (log.append(os.path.basename(os.readlink(f"/proc/self/fd/{fd}"))), fsync(fd))
    )
    monkeypatch.setattr(os, "replace", lambda a, b: (log.append("rename"), replace(a, b)))
    saved(path)
    assert log[0].startswith(".model.safetensors.")
    assert log[1:] == ["rename", path.parent.name]


test_the_file_is_flushed_before_it_takes_the_name = pytest.mark.skipif(
    not os.path.isdir("/proc/self/fd"), reason="reads /proc/self/fd, which this system has not"
)(test_the_file_is_flushed_before_it_takes_the_name)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no SIGKILL on this system")
def test_a_process_that_is_killed_while_saving_leaves_a_whole_file(path):
    script = textwrap.dedent("""
        import sys, corelib
        x = corelib.full((1 << 20,), 1.0, device="cpu" if "cpu" in sys.argv else "reference")
        value = 0
        print("ready", flush=True)
        while True:
            corelib.save(sys.argv[1], random=False, tensors={"x": x}, metadata={"value": value})
            value += 1
            print(value, flush=True)
    """)
    device = "cpu" if any(s.name == "cpu" and s.usable for s in corelib.backends()) else "reference"
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(path), device], stdout=subprocess.PIPE, text=True
    )
    for line in process.stdout:
        if line.strip() == "2":
            break
    process.send_signal(signal.SIGKILL)
    process.communicate()
    found = corelib.load(path, device=device)
    assert found["metadata"]["value"] >= 1
    assert found["tensors"]["x"].shape == (1 << 20,)
    assert float(ops.min(found["tensors"]["x"])) == 1.0


def test_metadata_that_no_save_writes_is_damage(tmp_path):
    net = network()
    optimizer = optim.AdamW(net.parameters())
    train(net, optimizer, 1)
    path = tmp_path / "whole.st"
    corelib.save(path, model=net, optimizer=optimizer)
    whole = path.read_bytes()
    before = {name: x.tolist() for name, x in net.state_dict().items()}
    for right, wrong in (
        (b"params", b"parans"),
        (b"optimizer.state.0.", b"optimizer.state.x."),
        (b"optimizer.state.0.", b"optimizer.state_0_"),
    ):
        assert right in whole
        path.write_bytes(whole.replace(right, wrong))
        with pytest.raises(CheckpointError, match=r"whole.st: .*(damaged|differ|load_state_dict)"):
            corelib.load(path, model=net, optimizer=optimizer)
    assert before == {name: x.tolist() for name, x in net.state_dict().items()}


def test_nothing_is_changed_unless_all_fits(tmp_path):
    path = tmp_path / "net.st"
    corelib.save(path, model=network(seed=1), tensors={"mine": corelib.ones(2, device="reference")})
    net = network(seed=2)
    before = {name: x.tolist() for name, x in net.state_dict().items()}
    with pytest.raises(corelib.BackendNotFoundError):
        corelib.load(path, model=net, device="nowhere")
    with pytest.raises(
        ArgumentError, match="random must be a Generator, True for the default one, or False for none, got 5"
    ):
        corelib.load(path, model=net, random=5)
    path.write_bytes(
        path.read_bytes().replace(b'"random.counter":{"dtype":"U64"', b'"random.counter":{"dtype":"F64"')
    )
    with pytest.raises(CheckpointError, match="counter"):
        corelib.load(path, model=net, random=corelib.random.Generator(0))
    assert before == {name: x.tolist() for name, x in net.state_dict().items()}


def test_a_place_that_cannot_be_written_to_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="is a directory: name a file in it"):
        corelib.save(tmp_path, model=network())
    with pytest.raises(CheckpointError, match="xx: could not be written: File name too long"):
        corelib.save(tmp_path / ("x" * 300), model=network())
    assert list(tmp_path.iterdir()) == []
