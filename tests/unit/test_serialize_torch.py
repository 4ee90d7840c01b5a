"""Files that were written from PyTorch are loaded by name: a committed one anywhere, others where PyTorch is installed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import corelib as cl
from corelib import nn, serialize
from corelib.errors import CheckpointError

FILE = Path(__file__).parent / "data" / "pytorch.safetensors"
X = np.linspace(-1, 1, 6).reshape(2, 3)
# What PyTorch 2.13 makes of X with the weights in the file: torch_model() below.
EXPECTED = [[-0.1326146125793457, 0.11211526393890381], [-0.8789025545120239, 0.5132055282592773]]


def own_model():
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.LayerNorm(4), nn.Sequential(nn.Linear(4, 2)))


def torch_model():
    """The same model of PyTorch's, with weights by a formula: the file is torch_model().state_dict(), by save_file."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch")
    model = torch.nn.Sequential(
        torch.nn.Linear(3, 4),
        torch.nn.Tanh(),
        torch.nn.LayerNorm(4),
        torch.nn.Sequential(torch.nn.Linear(4, 2)),
    )
    with torch.no_grad():
        for i, p in enumerate(model.parameters()):
            p.copy_(torch.sin(torch.arange(p.numel()) * (1.0 + i)).reshape(p.shape) + 0.5)
    return model


@pytest.fixture
def save():
    return pytest.importorskip("safetensors.torch", reason="PyTorch is not installed: pip install torch")


@pytest.mark.parametrize("device", ["cpu", "reference"])
def test_a_committed_file_gives_pytorchs_numbers(device):
    model = own_model().to(device)
    found = cl.load(FILE, model=model)
    assert (found["tensors"], found["metadata"]) == ({}, {})
    y = model(cl.asarray(X.astype("float32"), device=device)).detach().numpy()
    # Sums of at most five terms below 2 in size, and a division by the deviation, in float32 on either side.
    np.testing.assert_allclose(y, EXPECTED, rtol=0, atol=20 * 2**-24)


def test_the_committed_file_is_what_pytorch_writes():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch")
    state, kept = torch_model().state_dict(), serialize.load_file(FILE)
    assert list(kept) == sorted(state)
    for name, tensor in state.items():
        # torch's sine may round the last bit otherwise on another machine
        np.testing.assert_allclose(kept[name].numpy(), tensor.numpy(), rtol=2**-22)
    with torch.no_grad():
        y = torch_model()(torch.tensor(X, dtype=torch.float32)).numpy()
    np.testing.assert_allclose(y, EXPECTED, rtol=0, atol=20 * 2**-24)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_every_floating_dtype_is_read(dtype, save, tmp_path):
    import torch

    theirs = torch_model().to(getattr(torch, dtype)).state_dict()
    save.save_file(theirs, tmp_path / "m.safetensors")
    state = serialize.load_file(tmp_path / "m.safetensors")
    for name, tensor in theirs.items():
        assert state[name].dtype.name == dtype
        assert cl.astype(state[name], cl.float64).tolist() == tensor.to(torch.float64).tolist(), name


def test_half_precision_is_loaded_after_a_cast(save, tmp_path):
    import torch

    save.save_file(torch_model().to(torch.bfloat16).state_dict(), tmp_path / "m.safetensors")
    model = own_model()
    with pytest.raises(
        CheckpointError, match=r"cast it before, corelib.astype\(state_dict\['0.weight'\], corelib.float32\)"
    ):
        cl.load(tmp_path / "m.safetensors", model=model)
    state = serialize.load_file(tmp_path / "m.safetensors")
    model.load_state_dict({name: cl.astype(tensor, cl.float32) for name, tensor in state.items()})
    y = model(cl.asarray(X.astype("float32"))).detach().numpy()
    np.testing.assert_allclose(y, EXPECTED, atol=0.1)  # weights of 8 bits, in sums of five


def test_tensors_that_share_memory_are_written_once_and_loaded_under_all_names(save, tmp_path):
    import torch

    class Theirs(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.head = torch.nn.Embedding(5, 3), torch.nn.Linear(3, 5, bias=False)
            self.head.weight = self.table.weight

    class Ours(nn.Module):
        def __init__(self):
            self.table, self.head = nn.Embedding(5, 3), nn.Linear(3, 5, bias=False)
            self.head.weight = self.table.weight

    theirs, ours = Theirs(), Ours()
    save.save_model(theirs, tmp_path / "m.safetensors")
    assert len(serialize.load_file(tmp_path / "m.safetensors")) == 1
    cl.load(tmp_path / "m.safetensors", model=ours)
    assert ours.head.weight is ours.table.weight
    assert ours.head.weight.tolist() == theirs.head.weight.tolist()


LAYERS = {
    "Conv2d": ((3, 4, 3), {"padding": 1}, (2, 3, 5, 5)),
    "ConvTranspose2d": ((3, 4, 2), {"stride": 2}, (2, 3, 4, 4)),
    "BatchNorm2d": ((3,), {}, (2, 3, 4, 4)),
    "GroupNorm": ((2, 4), {}, (2, 4, 3)),
    "LSTM": ((3, 4), {"num_layers": 2, "bidirectional": True, "batch_first": True}, (2, 5, 3)),
    "GRU": ((3, 4), {"batch_first": True}, (2, 5, 3)),
    "TransformerEncoderLayer": ((8, 2, 16), {"batch_first": True}, (2, 5, 8)),
    "Bilinear": ((3, 4, 2), {}, (5, 3)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_same_named_layers_load_by_name(name, save, tmp_path):
    import torch

    args, options, shape = LAYERS[name]
    torch.manual_seed(0)
    theirs, ours = (
        getattr(torch.nn, name)(*args, **options).eval(),
        getattr(nn, name)(*args, **options).eval(),
    )
    with torch.no_grad():
        for tensor in theirs.state_dict().values():
            if tensor.is_floating_point():
                tensor.uniform_(0.1, 0.9)
    save.save_file(theirs.state_dict(), tmp_path / "m.safetensors")
    cl.load(tmp_path / "m.safetensors", model=ours)
    data = [torch.randn(shape)] if name != "Bilinear" else [torch.randn(5, 3), torch.randn(5, 4)]
    with torch.no_grad():
        expected = theirs(*data)
    found = ours(*(cl.asarray(x.numpy()) for x in data))
    expected, found = (y[0] if isinstance(y, tuple) else y for y in (expected, found))
    # Sums of at most a hundred products of size 1 in float32, in a few layers.
    np.testing.assert_allclose(found.detach().numpy(), expected.numpy(), rtol=1e-5, atol=1e-5)


def test_what_we_write_pytorch_reads(save, tmp_path):
    model, theirs = own_model(), torch_model()
    serialize.save_file(model.state_dict(), tmp_path / "m.safetensors")
    theirs.load_state_dict(save.load_file(tmp_path / "m.safetensors"))
    assert [p.tolist() for p in theirs.parameters()] == [p.tolist() for p in model.parameters()]


# -- what is refused -----------------------------------------------------------------------------------------


def test_names_and_shapes_that_do_not_fit_are_listed_and_nothing_is_changed():
    model = nn.Sequential(
        nn.Linear(3, 5),
        nn.Tanh(),
        nn.LayerNorm(4),
        nn.Sequential(nn.Linear(4, 2, bias=False), nn.Linear(2, 2)),
    )
    before = [p.tolist() for p in model.parameters()]
    with pytest.raises(CheckpointError) as caught:
        cl.load(FILE, model=model)
    text = str(caught.value)
    assert text.startswith(str(FILE))
    assert "different: 0.weight is float32[5, 3] here and float32[4, 3] there" in text
    assert "unexpected: 3.0.bias" in text
    assert "missing: 3.1.weight" in text
    assert [p.tolist() for p in model.parameters()] == before


def test_a_dtype_that_differs_is_not_cast_in_silence():
    with pytest.raises(CheckpointError, match=r"call module.to\(corelib.float32\) before"):
        cl.load(FILE, model=own_model().to(cl.float64))


def test_an_optimizer_or_a_random_state_is_not_in_such_a_file():
    model = own_model()
    with pytest.raises(CheckpointError, match="holds no optimizer"):
        cl.load(FILE, model=model, optimizer=cl.optim.SGD(model.parameters(), lr=0.1))
    with pytest.raises(CheckpointError, match="holds no random"):
        cl.load(FILE, model=model, random=True)


def test_elements_of_eight_bits_are_refused_by_name(save, tmp_path):
    import torch

    save.save_file({"w": torch.ones(2, dtype=torch.float8_e5m2)}, tmp_path / "m.safetensors")
    with pytest.raises(
        CheckpointError, match=r"'w' has elements of type F8_E5M2, of which corelib has no dtype$"
    ):
        serialize.load_file(tmp_path / "m.safetensors")


def test_pytorchs_own_format_is_refused(tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch")
    torch.save({"w": torch.ones(2)}, tmp_path / "m.pt")
    with pytest.raises(CheckpointError, match="or in another format"):
        cl.load(tmp_path / "m.pt", model=own_model())
