"""The table of parity with PyTorch: a layer or loss, its inputs, and a protocol that both libraries run.

The protocol: the module is built (``nn`` is ``corelib.nn`` or ``torch.nn``: the names are the same), every parameter
and buffer gets numbers that follow from its name, the state goes in by ``load_state_dict``, and three steps of gradient
descent are made on a loss of all results. Recorded are the results, the gradients of floating inputs and of parameters,
the three losses, and the state afterwards. What has no parameters descends in its first input.

Numbers come from a congruential generator, so that they are equal everywhere. The expected ones were computed by PyTorch
in float64 (``tools/nn_parity.py``), so that a machine without PyTorch checks them as well.
"""

from __future__ import annotations

import dataclasses
import math
import zlib
from typing import Any

import numpy as np

STEPS, RATE, LOSS_RATE = 3, 0.1, 0.002


@dataclasses.dataclass(frozen=True)
class Case:
    """``inputs``: (kind, shape, ...) each; ``call``: how the module is called; ``theirs``: what differs in PyTorch,
    (constructor, call).
    """

    name: str
    build: str
    inputs: tuple[Any, ...]
    call: str = "m(*x)"
    theirs: tuple[str, str] = ("", "")
    eval: bool = False


def numbers(name: str, shape: tuple[int, ...], low: float = -1.0, high: float = 1.0) -> np.ndarray:
    state, found = zlib.crc32(name.encode()), []
    for _ in range(math.prod(shape)):
        state = (6364136223846793005 * state + 1442695040888963407) % 2**64
        found.append(low + (high - low) * (state >> 40) / 2**24)
    return np.array(found, "float64").reshape(shape)


def value(name: str, spec: Any) -> np.ndarray:
    """An input: "n" in [-1, 1], "p" a probability, "q" probabilities along axis 1, "l" logarithms of probabilities along
    the last axis, "i" integers below a bound, "s" signs, "b" booleans, "c" given (it gets no gradient).
    """
    kind, what, *more = spec
    if kind == "c":
        return np.array(what)
    x = numbers(name, what)
    if kind == "p":
        return 0.5 + 0.45 * x
    if kind == "q":
        e = np.exp(x)
        return e / e.sum(1, keepdims=True)
    if kind == "l":
        return x - np.log(np.exp(x).sum(-1, keepdims=True))
    if kind == "i":
        return np.floor((x + 1) / 2 * more[0]).astype("int64")
    if kind == "s":
        return np.where(x < 0, -1.0, 1.0)
    if kind == "b":
        return x < 0
    return x


def initial(name: str, shape: tuple[int, ...], integer: bool) -> np.ndarray:
    """The first value of a parameter or buffer: variances positive, weights of norms near 1."""
    if integer:
        return np.zeros(shape, "int64")
    low, high = (0.5, 1.5) if name.endswith(("running_var", "original0")) else (-0.5, 0.5)
    return numbers("state " + name, shape, low, high)


def flat(results: Any) -> list[Any]:
    if isinstance(results, tuple | list):
        return [r for item in results for r in flat(item)]
    return [] if results is None else [results]


# -- the cases ---------------------------------------------------------------------------------------------------------


def of(name: str, build: str, *inputs: Any, **more: Any) -> Case:
    specs = tuple(("n", i) if all(isinstance(n, int) for n in i) else i for i in inputs)
    return Case(name, build, specs, **more)


X4, X3 = (2, 4, 4, 4), (2, 4, 6)
ACTIVATIONS = [
    of(a.split("(")[0] + a[a.index("(") :].replace("()", ""), f"nn.{a}", (3, 5))
    for a in (
        "ReLU()", "ReLU6()", "ELU(0.7)", "SELU()", "CELU(0.7)", "GELU()", "GELU('tanh')", "Hardtanh(-0.5, 0.7)", "Hardswish()",
        "Hardsigmoid()", "LeakyReLU(0.2)", "PReLU()", "PReLU(5)", "SiLU()", "Mish()", "Softplus()", "Softplus(2.0)", "Softsign()",
        "Softshrink(0.3)", "Hardshrink(0.3)", "Tanhshrink()", "LogSigmoid()", "Softmax(1)", "LogSoftmax(0)",
        "Softmin(1)", "Threshold(0.1, 0.4)", "Sigmoid()", "Tanh()",
    )
] + [of("GLU", "nn.GLU(1)", (3, 6))]  # fmt: skip

LAYERS = [
    of("Linear", "nn.Linear(5, 4)", (3, 5)),
    of("Bilinear", "nn.Bilinear(3, 4, 2)", (2, 5, 3), (2, 5, 4)),
    of("Embedding", "nn.Embedding(6, 3, padding_idx=2)", ("i", (2, 4), 6)),
    of("Conv1d", "nn.Conv1d(4, 6, 3)", X3),
    of("Conv1d same", "nn.Conv1d(4, 3, 4, padding='same', dilation=2)", X3),
    of("Conv1d one example", "nn.Conv1d(4, 3, 3, stride=2, padding=1)", (4, 7)),
    of("Conv2d", "nn.Conv2d(4, 3, 3, padding=1)", X4),
    of("Conv2d stride groups", "nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2), groups=2)", X4),
    of("Conv2d depthwise", "nn.Conv2d(4, 4, 3, groups=4, bias=False)", X4),
    of("Conv2d reflect", "nn.Conv2d(4, 2, 3, padding=(1, 2), padding_mode='reflect')", X4),
    of("Conv2d replicate", "nn.Conv2d(4, 2, 3, padding=1, padding_mode='replicate')", X4),
    of("Conv2d circular", "nn.Conv2d(4, 2, 3, padding='same', padding_mode='circular')", X4),
    of("Conv3d", "nn.Conv3d(2, 3, 2, stride=(1, 2, 1), padding=1)", (1, 2, 3, 4, 3)),
    of("ConvTranspose1d", "nn.ConvTranspose1d(4, 3, 3, stride=2, padding=1, output_padding=1)", X3),
    of("ConvTranspose2d", "nn.ConvTranspose2d(4, 6, (3, 2), stride=(2, 3), padding=(1, 0), groups=2, dilation=(2, 1))", (2, 4, 3, 2)),
    of("ConvTranspose2d size", "nn.ConvTranspose2d(4, 2, 3, stride=2)", (2, 4, 3, 2), call="m(x[0], output_size=[8, 5])"),
    of("ConvTranspose3d", "nn.ConvTranspose3d(2, 4, (2, 3, 2), stride=(2, 1, 2), padding=(1, 0, 0), output_padding=(1, 0, 0), groups=2)",
       (1, 2, 3, 2, 2)),
    of("MaxPool1d", "nn.MaxPool1d(3, 2, 1)", X3),
    of("MaxPool1d indices", "nn.MaxPool1d(2, return_indices=True)", X3, call="m(*x)[0]"),
    of("MaxPool2d", "nn.MaxPool2d(2)", X4),
    of("MaxPool2d ceil", "nn.MaxPool2d((3, 2), (2, 3), (1, 0), (1, 2), ceil_mode=True)", X4),
    of("MaxPool3d", "nn.MaxPool3d((2, 3, 2), (1, 2, 2), (1, 0, 1))", (1, 2, 3, 5, 4)),
    of("AvgPool1d", "nn.AvgPool1d(3, 2, 1, count_include_pad=False)", X3),
    of("AvgPool2d", "nn.AvgPool2d(2)", X4),
    of("AvgPool2d ceil", "nn.AvgPool2d((3, 2), (2, 3), (1, 1), ceil_mode=True)", X4),
    of("AvgPool3d", "nn.AvgPool3d((2, 3, 2), (1, 2, 2), (1, 0, 1), count_include_pad=False)", (1, 2, 3, 5, 4)),
    of("AdaptiveAvgPool1d", "nn.AdaptiveAvgPool1d(3)", X3),
    of("AdaptiveAvgPool2d", "nn.AdaptiveAvgPool2d((None, 3))", X4),
    of("AdaptiveAvgPool2d 1", "nn.AdaptiveAvgPool2d(1)", X4),
    of("AdaptiveAvgPool3d", "nn.AdaptiveAvgPool3d((2, None, 3))", (1, 2, 3, 2, 4)),
    of("AdaptiveMaxPool1d", "nn.AdaptiveMaxPool1d(4)", X3),
    of("AdaptiveMaxPool2d", "nn.AdaptiveMaxPool2d((None, 3), return_indices=True)", X4, call="m(*x)[0]"),
    of("AdaptiveMaxPool2d one example", "nn.AdaptiveMaxPool2d(2)", (3, 5, 4)),
    of("AdaptiveMaxPool3d", "nn.AdaptiveMaxPool3d((2, 1, 3))", (1, 2, 3, 2, 4)),
    of("BatchNorm1d", "nn.BatchNorm1d(4)", (5, 4)),
    of("BatchNorm1d of sequences", "nn.BatchNorm1d(4, momentum=None)", X3),
    of("BatchNorm2d", "nn.BatchNorm2d(4, eps=1e-3, momentum=0.3)", X4),
    of("BatchNorm2d eval", "nn.BatchNorm2d(4)", X4, eval=True),
    of("BatchNorm2d plain", "nn.BatchNorm2d(4, affine=False, track_running_stats=False)", X4),
    of("BatchNorm3d", "nn.BatchNorm3d(2)", (2, 2, 3, 2, 2)),
    of("LayerNorm", "nn.LayerNorm((4, 3))", (2, 4, 3)),
    of("LayerNorm without bias", "nn.LayerNorm(3, bias=False)", (2, 4, 3)),
    of("RMSNorm", "nn.RMSNorm(5, eps=1e-3)", (3, 5)),
    of("GroupNorm", "nn.GroupNorm(2, 4)", X3),
    of("GroupNorm plain", "nn.GroupNorm(4, 4, affine=False)", X4),
    of("InstanceNorm1d", "nn.InstanceNorm1d(4, affine=True)", X3),
    of("InstanceNorm2d", "nn.InstanceNorm2d(4, affine=True, track_running_stats=True)", X4),
    of("InstanceNorm2d eval", "nn.InstanceNorm2d(4, track_running_stats=True)", X4, eval=True),
    of("InstanceNorm3d", "nn.InstanceNorm3d(2, affine=True, track_running_stats=True)", (2, 2, 3, 2, 2)),
    of("Flatten", "nn.Flatten(1, 2)", (2, 3, 4, 2)),
    of("Unflatten", "nn.Unflatten(1, (2, -1))", (2, 6, 3)),
    of("ConstantPad1d", "nn.ConstantPad1d((1, 2), 0.5)", X3),
    of("ZeroPad2d", "nn.ZeroPad2d((1, 0, 2, 3))", X4),
    of("ZeroPad3d", "nn.ZeroPad3d(1)", (1, 2, 2, 3, 2)),
    of("ReflectionPad2d", "nn.ReflectionPad2d((1, 2, 3, 0))", X4),
    of("ReplicationPad3d", "nn.ReplicationPad3d((1, 0, 2, 1, 0, 3))", (1, 2, 2, 3, 2)),
    of("CircularPad1d", "nn.CircularPad1d((3, 1))", (4, 6)),
    of("CosineSimilarity", "nn.CosineSimilarity(1)", (3, 4, 2), (3, 4, 2)),
    of("PairwiseDistance", "nn.PairwiseDistance(3.0, keepdim=True)", (3, 4), (3, 4)),
    of("Upsample nearest", "nn.Upsample(scale_factor=1.7)", (1, 2, 3, 4)),
    of("Upsample size", "nn.Upsample(size=(2, 5))", (1, 2, 3, 4)),
    of("Upsample bilinear", "nn.Upsample(scale_factor=2.5, mode='bilinear')", (1, 2, 3, 4)),
    of("Upsample corners", "nn.Upsample(size=(5, 3), mode='bilinear', align_corners=True)", (1, 2, 3, 4)),
    of("Upsample linear", "nn.Upsample(size=3, mode='linear')", (1, 2, 5)),
    of("Upsample bicubic", "nn.Upsample(scale_factor=1.7, mode='bicubic')", (1, 2, 3, 4)),
    of("Upsample bicubic corners", "nn.Upsample(size=(7, 2), mode='bicubic', align_corners=True)", (1, 2, 3, 4)),
    of("Upsample trilinear", "nn.Upsample(size=(2, 5, 3), mode='trilinear')", (1, 2, 3, 2, 4)),
    of("Upsample nearest-exact", "nn.Upsample(size=(7, 2), mode='nearest-exact')", (1, 2, 3, 4)),
    of("Upsample area", "nn.Upsample(size=(2, 3), mode='area')", (1, 2, 3, 4)),
    of("PixelShuffle", "nn.PixelShuffle(2)", (1, 8, 2, 3)),
    of("PixelUnshuffle", "nn.PixelUnshuffle(2)", (1, 2, 4, 6)),
    of("Dropout in evaluation", "nn.Sequential(nn.Conv2d(4, 2, 1), nn.Dropout(0.5), nn.Dropout2d())", X4, eval=True),
]  # fmt: skip

_S = (4, 2, 3)  # T, N, features
_LENGTHS = "lengths=[3, 1, 4]"
_THEIR_LENGTHS = "packed(m, x[0], [3, 1, 4])"
RECURRENT = [
    of("RNN", "nn.RNN(3, 2)", _S),
    of("RNN relu", "nn.RNN(3, 2, 2, nonlinearity='relu', bias=False)", _S),
    of("RNN both", "nn.RNN(3, 2, bidirectional=True)", _S),
    of("LSTM", "nn.LSTM(3, 2)", _S),
    of("LSTM state", "nn.LSTM(3, 2, batch_first=True)", (2, 4, 3), (1, 2, 2), (1, 2, 2), call="m(x[0], (x[1], x[2]))"),
    of("LSTM deep", "nn.LSTM(3, 2, 2, bidirectional=True)", _S),
    of("LSTM lengths", "nn.LSTM(3, 2, bidirectional=True)", (4, 3, 3), call=f"m(x[0], {_LENGTHS})", theirs=("", _THEIR_LENGTHS)),
    of("LSTM one example", "nn.LSTM(3, 2, bias=False)", (4, 3)),
    of("LSTM projected", "nn.LSTM(3, 4, 2, proj_size=2, bidirectional=True)", _S),
    of("LSTM projected state", "nn.LSTM(3, 4, batch_first=True, bias=False, proj_size=2)", (2, 4, 3), (1, 2, 2), (1, 2, 4),
       call="m(x[0], (x[1], x[2]))"),
    of("LSTM projected lengths", "nn.LSTM(3, 4, bidirectional=True, proj_size=2)", (4, 3, 3), call=f"m(x[0], {_LENGTHS})",
       theirs=("", _THEIR_LENGTHS)),
    of("GRU", "nn.GRU(3, 2)", _S),
    of("GRU deep", "nn.GRU(3, 2, 2, bidirectional=True, batch_first=True)", (2, 4, 3)),
    of("GRU lengths", "nn.GRU(3, 2, 2)", (4, 3, 3), call=f"m(x[0], {_LENGTHS})", theirs=("", _THEIR_LENGTHS)),
    of("GRU without bias", "nn.GRU(3, 2, bias=False)", _S, (1, 2, 2)),
    of("RNNCell", "nn.RNNCell(3, 2)", (4, 3), (4, 2)),
    of("LSTMCell", "nn.LSTMCell(3, 2)", (4, 3), (4, 2), (4, 2), call="m(x[0], (x[1], x[2]))"),
    of("GRUCell", "nn.GRUCell(3, 2, bias=False)", (4, 3)),
]  # fmt: skip

_CAUSAL = ("c", np.triu(np.ones((3, 3), bool), 1).tolist())
_PADDED = ("c", [[False, False, True], [False, False, False]])
_LAYER = "4, 2, 6, dropout=0.0, batch_first=True"
ATTENTION = [
    of("MultiheadAttention", "nn.MultiheadAttention(4, 2)", (3, 2, 4), call="m(x[0], x[0], x[0])"),
    of("MultiheadAttention sizes", "nn.MultiheadAttention(4, 2, kdim=3, vdim=5, batch_first=True)", (2, 3, 4), (2, 2, 3), (2, 2, 5)),
    of("MultiheadAttention masks", "nn.MultiheadAttention(4, 2, batch_first=True)", (2, 3, 4), (2, 3, 4), _PADDED, _CAUSAL,
       call="m(x[0], x[1], x[1], key_padding_mask=x[2], attn_mask=x[3], average_attn_weights=False)"),
    of("MultiheadAttention added mask", "nn.MultiheadAttention(4, 1, bias=False)", (3, 4), (2, 4), ("n", (3, 2)),
       call="m(x[0], x[1], x[1], need_weights=False, attn_mask=x[2])"),
    of("TransformerEncoderLayer", f"nn.TransformerEncoderLayer({_LAYER})", (2, 3, 4)),
    of("TransformerEncoderLayer masks", f"nn.TransformerEncoderLayer({_LAYER}, activation='gelu', norm_first=True)", (2, 3, 4),
       _CAUSAL, _PADDED, call="m(x[0], src_mask=x[1], src_key_padding_mask=x[2])"),
    of("TransformerDecoderLayer", f"nn.TransformerDecoderLayer({_LAYER}, norm_first=False)", (2, 3, 4), (2, 2, 4), _CAUSAL,
       call="m(x[0], x[1], tgt_mask=x[2])"),
    of("TransformerDecoderLayer first", f"nn.TransformerDecoderLayer({_LAYER}, norm_first=True, bias=False)", (2, 3, 4), (2, 2, 4)),
    of("TransformerEncoder", f"nn.TransformerEncoder(nn.TransformerEncoderLayer({_LAYER}), 2, nn.LayerNorm(4))", (2, 3, 4)),
    of("TransformerDecoder", f"nn.TransformerDecoder(nn.TransformerDecoderLayer({_LAYER}), 1, nn.LayerNorm(4))", (2, 3, 4), (2, 2, 4)),
    of("weight_norm", "nn.utils.weight_norm(nn.Linear(3, 4))", (2, 3), theirs=("nn.utils.parametrizations.weight_norm(nn.Linear(3, 4))", "")),
]  # fmt: skip

_PAIR = ((3, 4), ("n", (3, 4)))
_LABELS = ("i", (4,), 5)
_IGNORED = ("c", [0, -100, 4, 2])
_W = ("p", (5,))
_CTC = "m(nn.LogSoftmax(-1)(x[0]), *x[1:])"  # PyTorch's gradient is right behind it alone


def _loss(
    name: str, options: str, *inputs: Any, ours: str = "", weight: str = "", call: str = "m(*x)"
) -> list[Case]:
    """A loss with each reduction; ``ours``: options that are ours; ``weight``: one that comes from the last input."""
    found = []
    for reduction in ("mean", "sum", "none"):
        given = f"{options}, " if options else ""
        extra = f"{weight}=x[-1], " if weight else ""
        build = f"nn.{name}({given}{ours}{extra}reduction='{reduction}')"
        theirs = f"nn.{name}({given}{extra}reduction='{reduction}')"
        call = "m(*x[:-1])" if weight else call
        words = (name, options, weight, reduction, "of maps" * (len(inputs[0]) == 3))
        found.append(of(" ".join(filter(None, words)), build, *inputs, call=call, theirs=(theirs, "")))
    return found


LOSSES = [
    *_loss("MSELoss", "", *_PAIR),
    *_loss("L1Loss", "", *_PAIR),
    *_loss("SmoothL1Loss", "beta=0.6", *_PAIR),
    *_loss("HuberLoss", "delta=0.6", *_PAIR),
    *_loss("CrossEntropyLoss", "", (4, 5), _LABELS),
    *_loss("CrossEntropyLoss", "label_smoothing=0.2", (4, 5), _IGNORED, ours="ignore_index=-100, "),
    *_loss("CrossEntropyLoss", "label_smoothing=0.2", (4, 5), _IGNORED, _W, ours="ignore_index=-100, ", weight="weight"),
    *_loss("CrossEntropyLoss", "label_smoothing=0.1", (4, 5), ("q", (4, 5)), _W, weight="weight"),
    *_loss("CrossEntropyLoss", "", (2, 5, 3), ("i", (2, 3), 5)),
    *_loss("NLLLoss", "", (4, 5), _LABELS),
    *_loss("NLLLoss", "", (4, 5), _IGNORED, _W, ours="ignore_index=-100, ", weight="weight"),
    *_loss("BCELoss", "", ("p", (3, 4)), ("p", (3, 4))),
    *_loss("BCELoss", "", ("p", (3, 4)), ("p", (3, 4)), ("p", (4,)), weight="weight"),
    *_loss("BCEWithLogitsLoss", "", (3, 4), ("p", (3, 4))),
    *_loss("BCEWithLogitsLoss", "", (3, 4), ("p", (3, 4)), ("p", (4,)), weight="weight"),
    *_loss("BCEWithLogitsLoss", "", (3, 4), ("p", (3, 4)), ("p", (4,)), weight="pos_weight"),
    *_loss("KLDivLoss", "", ("l", (3, 4)), ("q", (3, 4))),
    *_loss("KLDivLoss", "log_target=True", ("l", (3, 4)), ("l", (3, 4))),
    of("KLDivLoss batchmean", "nn.KLDivLoss(reduction='batchmean')", ("l", (3, 4)), ("q", (3, 4))),
    *_loss("CosineEmbeddingLoss", "margin=0.1", (4, 3), (4, 3), ("c", [1, -1, -1, 1])),
    *_loss("TripletMarginLoss", "", (4, 3), (4, 3), (4, 3)),
    *_loss("TripletMarginLoss", "p=1, swap=True, margin=0.5", (4, 3), (4, 3), (4, 3)),
    *_loss("MarginRankingLoss", "margin=0.1", (5,), (5,), ("c", [1, -1, -1, 1, 1])),
    *_loss("HingeEmbeddingLoss", "margin=0.8", (5,), ("c", [1, -1, -1, 1, 1])),
    *_loss("SoftMarginLoss", "", (5,), ("c", [1, -1, -1, 1, 1])),
    *_loss("MultiMarginLoss", "margin=0.5", (4, 5), _LABELS),
    *_loss("MultiMarginLoss", "p=2", (4, 5), _LABELS, _W, weight="weight"),
    *_loss("CTCLoss", "", (6, 2, 4), ("c", [[1, 2, 2], [3, 1, 0]]), ("c", [6, 5]), ("c", [3, 2]), call=_CTC),
    *_loss("CTCLoss", "blank=3, zero_infinity=True", (4, 2, 4), ("c", [1, 1, 2, 0, 1]), ("c", [4, 4]), ("c", [3, 2]), call=_CTC),
    *_loss("GaussianNLLLoss", "full=True", (3, 4), (3, 4), ("p", (3, 4))),
    *_loss("PoissonNLLLoss", "", (3, 4), ("p", (3, 4))),
    *_loss("PoissonNLLLoss", "log_input=False, full=True", ("p", (3, 4)), ("c", [[0.0, 1.0, 2.0, 3.0]] * 3)),
]  # fmt: skip

CASES = {case.name: case for case in (*ACTIVATIONS, *LAYERS, *RECURRENT, *ATTENTION, *LOSSES)}
assert len(CASES) == sum(map(len, (ACTIVATIONS, LAYERS, RECURRENT, ATTENTION, LOSSES))), (
    "two cases of one name"
)


def inputs(case: Case) -> list[np.ndarray]:
    return [value(f"{case.name} {i}", spec) for i, spec in enumerate(case.inputs)]


# -- the protocol, in either library -----------------------------------------------------------------------------------


class Ours:
    """corelib, on a device and in a dtype."""

    def __init__(self, device: str, dtype: str) -> None:
        import corelib

        self.device, self.dtype, self.corelib = device, dtype, corelib

    def tensor(self, x: np.ndarray, leaf: bool = False) -> Any:
        y = self.corelib.asarray(x.astype(self.dtype) if x.dtype.kind == "f" else x, device=self.device)
        return y.requires_grad_() if leaf else y

    def build(self, case: Case, x: list[Any]) -> Any:
        with self.corelib.use_backend(self.device):
            m = eval(case.build, {"nn": self.corelib.nn, "x": x})
        return m.to(self.device, getattr(self.corelib, self.dtype))

    def call(self, case: Case, m: Any, x: list[Any]) -> Any:
        return eval(case.call, {"m": m, "x": x, "nn": self.corelib.nn})

    def load(self, m: Any, state: dict[str, np.ndarray]) -> None:
        m.load_state_dict({name: self.tensor(v) for name, v in state.items()})

    def shapes(self, m: Any) -> dict[str, tuple[tuple[int, ...], bool]]:
        return {name: (t.shape, t.dtype.kind == "int") for name, t in m.state_dict().items()}

    def step(self, leaf: Any, rate: float) -> None:
        with self.corelib.no_grad():
            leaf -= rate * leaf.grad
        leaf.grad = None

    array = staticmethod(lambda t: t.detach().numpy())


class Theirs:
    """PyTorch, in float64."""

    def __init__(self) -> None:
        import torch

        self.torch = torch

    def tensor(self, x: np.ndarray, leaf: bool = False) -> Any:
        return self.torch.tensor(x, requires_grad=leaf)

    def build(self, case: Case, x: list[Any]) -> Any:
        return eval(case.theirs[0] or case.build, {"nn": self.torch.nn, "x": x}).double()

    def call(self, case: Case, m: Any, x: list[Any]) -> Any:
        rnn = self.torch.nn.utils.rnn

        def packed(m: Any, x: Any, lengths: list[int]) -> Any:
            y, state = m(rnn.pack_padded_sequence(x, lengths, enforce_sorted=False))
            return rnn.pad_packed_sequence(y)[0], state

        return eval(case.theirs[1] or case.call, {"m": m, "x": x, "packed": packed, "nn": self.torch.nn})

    def load(self, m: Any, state: dict[str, np.ndarray]) -> None:
        m.load_state_dict({name: self.tensor(v) for name, v in state.items()})

    def shapes(self, m: Any) -> dict[str, tuple[tuple[int, ...], bool]]:
        return {name: (tuple(t.shape), not t.is_floating_point()) for name, t in m.state_dict().items()}

    def step(self, leaf: Any, rate: float) -> None:
        with self.torch.no_grad():
            leaf -= rate * leaf.grad
        leaf.grad = None

    array = staticmethod(lambda t: t.detach().numpy().copy())


def run(case: Case, library: Any) -> dict[str, np.ndarray]:
    """What a library computes: results, gradients, losses, and state after three steps, by name."""
    arrays = inputs(case)
    learned = [a.dtype.kind == "f" and spec[0] != "c" for a, spec in zip(arrays, case.inputs, strict=True)]
    x = [library.tensor(a, leaf=leaf) for a, leaf in zip(arrays, learned, strict=True)]
    build = [t.detach() if leaf else t for t, leaf in zip(x, learned, strict=True)]
    m = library.build(case, build)
    m.train(not case.eval)
    first = {name: initial(name, *spec) for name, spec in library.shapes(m).items()}
    if not case.build.startswith("nn.") or "Loss" not in case.build:
        library.load(m, first)
    floating = [t for t, leaf in zip(x, learned, strict=True) if leaf]
    parameters = dict(m.named_parameters())
    found: dict[str, np.ndarray] = {}
    for step in range(STEPS):
        loss: Any = None
        for i, y in enumerate(flat(library.call(case, m, x))):
            if step == 0:
                found[f"y{i}"] = library.array(y)
            goal = library.tensor(numbers(f"goal {i}", tuple(y.shape)))
            term = y.sum() if y.ndim == 0 else ((y - goal) * (y - goal)).mean()
            loss = term if loss is None else loss + term
        loss.backward()
        found[f"loss{step}"] = library.array(loss)
        if step == 0:
            for i, t in enumerate(floating):
                if t.grad is not None:
                    found[f"gradient of input {i}"] = library.array(t.grad)
            for name, p in parameters.items():
                if p.grad is not None:
                    found[f"gradient of {name}"] = library.array(p.grad)
        for leaf in list(parameters.values()) or floating[:1]:
            if leaf.grad is not None:
                library.step(leaf, LOSS_RATE if "Loss" in case.build else RATE)
        for t in floating:
            t.grad = None
    if parameters or first:
        for name, t in m.state_dict().items():
            found[f"{name} after"] = library.array(t)
    else:
        found["input after"] = library.array(floating[0])
    return found


def packed(found: dict[str, np.ndarray]) -> np.ndarray:
    """All of what was found in one array, in the order of the names."""
    return np.concatenate([np.asarray(found[name], "float64").ravel() for name in sorted(found)])
