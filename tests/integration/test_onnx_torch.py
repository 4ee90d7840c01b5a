"""Models that PyTorch exports, loaded: its numbers and its gradients, for any batch."""

from __future__ import annotations

import io
import logging
import warnings

import numpy as np
import pytest
from onnx_cases import REASON

pytest.importorskip("onnx", reason=REASON)
torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch")

import corelib as cl  # noqa: E402
import corelib_onnx  # noqa: E402


class Net(torch.nn.Module):
    """What image classifiers are made of."""

    def __init__(self):
        super().__init__()
        self.body = torch.nn.Sequential(
            torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.BatchNorm2d(8), torch.nn.ReLU(), torch.nn.MaxPool2d(2),
            torch.nn.Conv2d(8, 8, 3, stride=2, groups=2), torch.nn.GroupNorm(2, 8), torch.nn.SiLU(),
            torch.nn.ConvTranspose2d(8, 4, 2, stride=2), torch.nn.InstanceNorm2d(4, affine=True), torch.nn.AvgPool2d(2),
        )  # fmt: skip
        self.head = torch.nn.Linear(4, 5)
        for buffer in (self.body[1].running_mean, self.body[1].running_var):
            buffer.uniform_(0.5, 1.5)

    def forward(self, x):
        y = torch.nn.functional.interpolate(
            self.body(x), scale_factor=2, mode="bilinear", align_corners=False
        )
        return torch.log_softmax(self.head(y.mean(dim=(2, 3))), -1)


class Language(torch.nn.Module):
    """A small language model."""

    def __init__(self):
        super().__init__()
        self.table = torch.nn.Embedding(20, 16)
        self.layer = torch.nn.TransformerEncoderLayer(
            16, 4, 32, batch_first=True, activation="gelu", norm_first=True
        )
        self.head = torch.nn.Linear(16, 20)

    def forward(self, words):
        n = words.shape[1]
        mask = torch.full((n, n), float("-inf")).triu(1)
        return self.head(self.layer(self.table(words), src_mask=mask))


class Recurrent(torch.nn.Module):
    """Two layers in both directions."""

    def __init__(self, kind):
        super().__init__()
        self.net = kind(3, 5, num_layers=2, bidirectional=True, batch_first=True)

    def forward(self, x):
        return self.net(x)[0]


MODELS = {
    "images": (Net, lambda n: torch.randn(n, 3, 16, 16)),
    "language": (Language, lambda n: torch.randint(0, 20, (n, 7))),
    "lstm": (lambda: Recurrent(torch.nn.LSTM), lambda n: torch.randn(n, 6, 3)),
    "gru": (lambda: Recurrent(torch.nn.GRU), lambda n: torch.randn(n, 6, 3)),
    "rnn": (lambda: Recurrent(torch.nn.RNN), lambda n: torch.randn(n, 6, 3)),
}


@pytest.fixture(scope="module", params=MODELS)
def pair(request):
    """PyTorch's model, the same one loaded, and a maker of data."""
    torch.manual_seed(0)
    make, data = MODELS[request.param]
    theirs, file = make().eval(), io.BytesIO()
    with torch.no_grad():
        for p in theirs.parameters():  # the exporter makes one of parameters with equal values
            p += 0.01 * torch.randn_like(p)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of PyTorch, about its exporter
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        axes = {"x": {0: "n"}}
        torch.onnx.export(
            theirs, (data(3),), file, dynamo=False, opset_version=17, input_names=["x"], dynamic_axes=axes
        )
    return theirs, corelib_onnx.load(file.getvalue(), device="cpu"), data


@pytest.mark.parametrize("n", [3, 1, 4])
def test_the_numbers_are_pytorchs(pair, n):
    theirs, model, data = pair
    x = data(n)
    with torch.no_grad():
        expected = theirs(x).numpy()
    # Sums of at most a few dozen products of size 1 in float32, through ten layers.
    np.testing.assert_allclose(model(x.numpy()).detach().numpy(), expected, rtol=1e-5, atol=1e-5)


def test_the_gradients_are_pytorchs(pair):
    theirs, model, data = pair
    x = data(2)
    theirs.zero_grad()
    theirs(x).square().sum().backward()
    cl.sum(cl.square(model(x.numpy()))).backward()
    own = {name: p.grad.numpy() for name, p in model.named_parameters() if p.grad is not None}
    compared = 0
    for name, p in theirs.named_parameters():
        if name in own and own[name].shape == tuple(p.shape):
            np.testing.assert_allclose(own[name], p.grad.numpy(), rtol=2e-4, atol=2e-4, err_msg=name)
            compared += 1
    # The exporter transposes and joins some weights, under new names: of a recurrent network, all.
    assert compared >= 4 or isinstance(theirs, Recurrent)
    assert len(own) == len(list(model.parameters()))


# -- what PyTorch does not export ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_the_fused_op_is_the_loop(kind, direction):
    """With lengths, which end the examples at different steps; a huge ``clip`` changes nothing but the way."""
    from corelib_onnx.operators import recurrent

    rng = np.random.default_rng(0)
    gates, count = {"LSTM": 4, "GRU": 3, "RNN": 1}[kind], 2 if direction == "bidirectional" else 1
    normal = lambda *shape: cl.asarray(rng.normal(size=shape).astype("float32"))
    x, w, r = normal(5, 3, 2), normal(count, gates * 4, 2), normal(count, gates * 4, 4)
    b, h, c = normal(count, 2 * gates * 4), normal(count, 3, 4), normal(count, 3, 4)
    lengths = cl.asarray([5, 2, 3], dtype=cl.int32)
    states = (h, c) if kind == "LSTM" else (h,)
    options = {"direction": direction, **({"linear_before_reset": 1} if kind == "GRU" else {})}
    fn = getattr(recurrent, kind.lower())
    for fused, looped in zip(
        fn(x, w, r, b, lengths, *states, **options),
        fn(x, w, r, b, lengths, *states, clip=1e9, **options),
        strict=True,
    ):
        np.testing.assert_allclose(fused.numpy(), looped.numpy(), rtol=1e-5, atol=1e-5)
    outs = fn(x, w, r, b, lengths, *states, **options)[0].numpy()
    assert not outs[2:, :, 1].any() and outs[1, :, 1].any(), "nothing behind an example's length"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"activations": ("Affine",)}, "activations .*Affine.* are not supported"),
        ({"direction": "both"}, "got 'both'"),
    ],
)
def test_what_a_recurrent_network_is_refused(options, words):
    from corelib_onnx.operators import recurrent

    x, w = cl.ones((2, 1, 3)), cl.ones((1, 4, 3))
    with pytest.raises(cl.ArgumentError, match=words):
        recurrent.rnn(x, w, cl.ones((1, 4, 4)), **options)
