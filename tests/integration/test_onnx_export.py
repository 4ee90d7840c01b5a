"""Exported modules: checked by onnx, run by onnx's own evaluator with the same numbers, loaded again; and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from onnx_cases import REASON

onnx = pytest.importorskip("onnx", reason=REASON)

from onnx.reference import ReferenceEvaluator  # noqa: E402

import corelib as cl  # noqa: E402
import corelib_onnx  # noqa: E402
from corelib import nn  # noqa: E402
from corelib.errors import ArgumentError, ShapeError, UnsupportedError  # noqa: E402
from corelib_onnx.rules import RULES  # noqa: E402

RNG = np.random.default_rng(0)


def normal(*shape):
    return cl.asarray(RNG.normal(size=shape).astype("float32"))


def arrays(results):
    results = results if isinstance(results, tuple | list) else [results]
    return [np.asarray(r.detach().numpy() if isinstance(r, cl.Tensor) else r) for r in results]


def check(fn, *args, rtol=2e-6, atol=2e-6, **options):
    """The model's numbers, by onnx's evaluator and loaded again, are the function's. Both sum at most a few hundred terms
    of the size of 1 in float32: ten roundings of 2**-24 at that size, and a little more behind an exp.
    """
    model = corelib_onnx.export(fn, args, **options)
    expected = arrays(fn(*args))
    names = [i.name for i in model.graph.input]
    found = ReferenceEvaluator(model).run(None, dict(zip(names, arrays(args), strict=True)))
    back = arrays(corelib_onnx.load(model)(*args))
    for e, f, b in zip(expected, found, back, strict=True):
        assert e.shape == f.shape == b.shape and e.dtype == f.dtype == b.dtype
        np.testing.assert_allclose(f, e, rtol=rtol, atol=atol)
        np.testing.assert_allclose(b, e, rtol=rtol, atol=atol)
    return model


def ops(model):
    return {node.op_type for node in model.graph.node}


# -- op by op ------------------------------------------------------------------------------------------------

X, M = normal(2, 3, 4, 4), normal(4, 5)
POSITIVE = cl.abs(M) + 0.5
INSIDE = cl.tanh(M)
INTEGERS = cl.asarray([[3, -2, 7], [1, 5, -4]])
UNARY_ON = {
    **dict.fromkeys(["acosh"], POSITIVE + 1),
    **dict.fromkeys(["log", "log2", "log10", "log1p", "sqrt", "rsqrt", "reciprocal"], POSITIVE),
    **dict.fromkeys(["acos", "asin", "atanh"], INSIDE),
}
UNARY = [
    "abs", "acos", "acosh", "asin", "asinh", "atan", "atanh", "ceil", "cos", "cosh", "elu", "erf", "exp", "expm1", "floor",
    "gelu", "isfinite", "isinf", "isnan", "leaky_relu", "log", "log10", "log1p", "log2", "log_sigmoid", "negative", "positive",
    "reciprocal", "relu", "round", "rsqrt", "sigmoid", "sign", "silu", "sin", "sinh", "softplus", "sqrt", "square",
    "stop_gradient", "tan", "tanh",
]  # fmt: skip


@pytest.mark.parametrize("name", UNARY)
def test_element_by_element(name):
    check(lambda x: getattr(cl, name)(x), UNARY_ON.get(name, M))


BINARY = [
    "add", "divide", "equal", "greater", "greater_equal", "less", "less_equal", "matmul", "maximum", "minimum", "multiply",
    "not_equal", "subtract", "floor_divide", "remainder",
]  # fmt: skip


@pytest.mark.parametrize("name", BINARY)
def test_two_operands(name):
    b = normal(5, 4) if name == "matmul" else POSITIVE
    check(lambda x, y: getattr(cl, name)(x, y), M, b)


FUNCTIONS = {
    "pow": lambda x: cl.abs(x) ** 1.5 + x**2,
    "number-left": lambda x: 2 - x,
    "clip": lambda x: cl.clip(x, -0.5, 0.5),
    "clip-one": lambda x: cl.clip(x, max=0.5),
    "where": lambda x: cl.where(x > 0, x, 0.0),
    "astype": lambda x: cl.astype(x, cl.int32),
    "logic": lambda x: cl.logical_or(cl.logical_and(x > 0, x < 1), cl.logical_xor(x > 1, cl.logical_not(x < 2))),
    "sum": lambda x: cl.sum(x, axis=1),
    "sum-all": lambda x: cl.sum(x),
    "mean": lambda x: cl.mean(x, axis=0, keepdims=True),
    "max-min": lambda x: cl.max(x, axis=-1) - cl.min(x, axis=-1),
    "prod": lambda x: cl.prod(x, axis=1),
    "var": lambda x: cl.var(x, axis=0, correction=1),
    "std": lambda x: cl.std(x),
    "logsumexp": lambda x: cl.logsumexp(x, axis=-1),
    "any-all": lambda x: (cl.any(x > 1, axis=0), cl.all(x > -1, axis=1)),
    "argmax": lambda x: (cl.argmax(x, axis=1), cl.argmin(x)),
    "cumulative_sum": lambda x: cl.cumulative_sum(x, axis=0),
    "reshape": lambda x: cl.reshape(x, (2, -1)),
    "transpose": lambda x: x.T,
    "concat": lambda x: cl.concat([x, x * 2], axis=1),
    "stack": lambda x: cl.stack([x, x]),
    "split": lambda x: tuple(cl.split(x, 2)),
    "slice": lambda x: x[1:3, ::2],
    "slice-back": lambda x: x[::-1, 3:0:-2],
    "index": lambda x: x[1],
    "new-axis": lambda x: x[:, None],
    "flip": lambda x: cl.flip(x, axis=0),
    "roll": lambda x: cl.roll(x, 1, axis=0),
    "tile": lambda x: cl.tile(x, (2, 1)),
    "repeat": lambda x: cl.repeat(x, 2, axis=0),
    "pad": lambda x: cl.pad(x, ((1, 0), (0, 2)), constant_values=3.0),
    "take": lambda x: cl.take(x, cl.asarray([0, 3]), axis=1),
    "take_along_axis": lambda x: cl.take_along_axis(x, cl.asarray([[4], [0], [1], [2]]), axis=1),
    "take_along_axis-broadcast": lambda x: cl.take_along_axis(x, cl.asarray([[4, 1]]), axis=1),
    "broadcast": lambda x: cl.broadcast_to(x, (2, 4, 5)),
    "triangles": lambda x: cl.tril(x, k=1) + cl.triu(x),
    "softmax": lambda x: cl.softmax(x, axis=0) + cl.log_softmax(x),
    "softplus-beta": lambda x: cl.softplus(x, 2.0),
    "gelu-tanh": lambda x: cl.gelu(x, approximate="tanh"),
    "layer_norm": lambda x: cl.layer_norm(x),
    "rms_norm": lambda x: cl.rms_norm(x),
    "vector_norm": lambda x: cl.linalg.vector_norm(x, axis=1),
    "tensordot": lambda x: cl.tensordot(x, x, axes=2),
    "einsum": lambda x: cl.einsum("ij,kj->ik", x, x),
    "attention": lambda x: cl.scaled_dot_product_attention(x, x, x, causal=True),
    "cross_entropy": lambda x: cl.cross_entropy(x, cl.asarray([0, 1, 2, 3])),
    "several": lambda x: (x, x + 1, {"a": x * 2}["a"]),
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name):
    check(FUNCTIONS[name], M, rtol=1e-5)


IMAGES = {
    "conv": lambda x: cl.conv(x, normal_weight(2, 3, 3, 3), cl.ones((2,)), stride=2, padding=1),
    "conv-groups": lambda x: cl.conv(x, normal_weight(3, 1, 2, 2), groups=3, dilation=2),
    "conv_transpose": lambda x: cl.conv_transpose(x, normal_weight(3, 2, 2, 2), stride=2, output_padding=1),
    "max_pool": lambda x: cl.max_pool(x, kernel_size=3, stride=2, padding=1),
    "avg_pool": lambda x: cl.avg_pool(x, kernel_size=3, stride=1, padding=1),
    "avg_pool-inside": lambda x: cl.avg_pool(x, kernel_size=2, padding=1, count_include_pad=False),
    "adaptive": lambda x: cl.adaptive_avg_pool(x, output_size=(1, 2)),
}


def normal_weight(*shape):
    return cl.asarray(np.random.default_rng(1).normal(size=shape).astype("float32"))


@pytest.mark.parametrize("name", IMAGES)
def test_images(name):
    check(IMAGES[name], X, rtol=1e-5, atol=1e-5)


def test_integers():
    check(lambda x: (x % 3, x + 1, cl.bitwise_and(x, 6), cl.sum(x), cl.maximum(x, 2)), INTEGERS)


def test_half_precision():
    check(lambda x: cl.exp(x) * 2, cl.astype(INSIDE, cl.float16), rtol=2e-3)  # two roundings to 11 bits


def test_every_rule_is_tried():
    """No rule that the tests above do not run."""
    used = set()
    for fn, x in [*((f, M) for f in FUNCTIONS.values()), *((f, X) for f in IMAGES.values())]:
        used |= {e.name for e in cl.watch(fn, x).events}
    used |= {*UNARY, *BINARY, "bitwise_and", "embedding", "linear"}
    rest = {"bitwise_or", "bitwise_xor", "bitwise_invert"}  # written as bitwise_and is
    assert set(RULES) - used - rest == set()


# -- modules -------------------------------------------------------------------------------------------------


class Block(nn.Module):
    """A transformer block without a layer of its own for attention."""

    def __init__(self, width, heads):
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.RMSNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width), nn.Dropout(0.5)
        )

    def forward(self, x):
        n, t, width = x.shape
        parts = cl.reshape(self.qkv(self.norm1(x)), (n, t, 3, self.heads, width // self.heads))
        q, k, v = (cl.permute_dims(parts[:, :, i], (0, 2, 1, 3)) for i in range(3))
        a = cl.scaled_dot_product_attention(q, k, v, causal=True)
        x = x + self.out(cl.reshape(cl.permute_dims(a, (0, 2, 1, 3)), (n, t, width)))
        return x + self.mlp(self.norm2(x))


class Network(nn.Module):
    """Convolution, pooling and a classifier."""

    def __init__(self):
        cl.random.seed(0)
        self.weight = nn.Parameter(normal_weight(4, 3, 3, 3))
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(16, 10), nn.LogSoftmax(-1))

    def forward(self, x):
        return self.head(cl.max_pool(cl.relu(cl.conv(x, self.weight, padding=1)), kernel_size=2))


class Words(nn.Module):
    """An embedding, and a mean over the words."""

    def __init__(self):
        self.table, self.out = nn.Embedding(11, 6), nn.Linear(6, 2, bias=False)

    def forward(self, words):
        return self.out(cl.mean(self.table(words), axis=1))


class Steps(nn.Module):
    """A recurrent network, whose first states are zeros as long as the batch."""

    def __init__(self):
        self.net, self.head = nn.LSTM(3, 4, batch_first=True), nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.net(x)[0])


def layers():
    cl.random.seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.GroupNorm(2, 4),
        nn.Conv2d(4, 4, 1), nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2),
    )  # fmt: skip


MODULES = {
    "layers": (layers, lambda n: normal(n, 3, 4, 4)),
    "encoder": (lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), lambda n: normal(n, 5, 8)),
    "lstm": (Steps, lambda n: normal(n, 5, 3)),
    "mlp": (
        lambda: nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3), nn.Softmax(-1)),
        lambda n: normal(n, 5),
    ),
    "cnn": (Network, lambda n: normal(n, 3, 4, 4)),
    "transformer": (lambda: Block(8, 2), lambda n: normal(n, 6, 8)),
    "words": (Words, lambda n: cl.asarray(RNG.integers(0, 11, (n, 4)))),
}


@pytest.mark.parametrize("name", MODULES)
def test_modules_of_any_batch(name):
    make, data = MODULES[name]
    module = make().eval()
    model = check(module, data(3), batch="n", rtol=1e-5, atol=1e-5)
    assert [i.type.tensor_type.shape.dim[0].dim_param for i in model.graph.input] == ["n"]
    assert [o.type.tensor_type.shape.dim[0].dim_param for o in model.graph.output] == ["n"]
    back = corelib_onnx.load(model)
    assert module.state_dict().keys() - back.state_dict().keys() <= {"1.num_batches_tracked"}, (
        "which nothing reads"
    )
    assert back.state_dict().keys() <= module.state_dict().keys()
    for n in (1, 5):
        x = data(n)
        expected = module(x).detach().numpy()
        found = ReferenceEvaluator(model).run(None, {"x0": x.numpy()})[0]
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(back(x).detach().numpy(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("device", ["cpu", "reference"])
def test_a_module_on_any_device(device, tmp_path):
    module = nn.Linear(3, 2, device=device)
    corelib_onnx.export(module, cl.ones((1, 3), device=device), tmp_path / "m.onnx")
    x = cl.ones((1, 3), device=device)
    assert corelib_onnx.load(tmp_path / "m.onnx", device=device)(x).tolist() == module(x).tolist()


def test_training_mode_is_given_back():
    module = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5))
    module[0].eval()
    corelib_onnx.export(module, cl.ones((1, 3)))
    assert (module.training, module[0].training, module[1].training) == (True, False, True)


def test_a_parameter_that_is_shared_is_one_initializer():
    layer = nn.Linear(3, 3)
    model = check(nn.Sequential(layer, nn.Tanh(), layer).eval(), normal(2, 3))
    assert len(model.graph.initializer) == 2


def test_names_are_chosen():
    model = corelib_onnx.export(
        lambda a, b: (a + b, a * b), (M, M), inputs=["left", "right"], outputs=["sum", "product"]
    )
    assert [i.name for i in model.graph.input] == ["left", "right"]
    assert [o.name for o in model.graph.output] == ["sum", "product"]


# -- what is refused -----------------------------------------------------------------------------------------


class Noisy(nn.Module):
    def forward(self, x):
        return x + cl.random.normal(x.shape)


def by_length(x):
    return x / x.shape[0]


REFUSED = {
    "list": (cl.exp, [1.0], {}, ArgumentError, "must be a tensor or a tuple of tensors"),
    "values": (lambda x: x if float(cl.sum(x)) > 0 else -x, M, {}, ArgumentError, "reads the values of sum"),
    "random": (Noisy(), M, {}, ArgumentError, "draws random numbers"),
    "ops": (lambda x: cl.sort(x) + cl.linalg.inv(x[:, :4]), M[:, :4], {}, UnsupportedError, "solve, sort"),
    "divisor": (by_length, M, {"batch": "n"}, ShapeError, "divide depends on the length of axis 0"),
    "constant": (lambda x: x + cl.reshape(cl.arange(x.shape[0]), (-1, 1)), M, {"batch": "n"}, ShapeError, "constant of shape"),
    "reshape": (lambda x: cl.reshape(x, (2, x.shape[0] // 2, x.shape[1] * x.shape[0] // x.shape[0])) @ cl.ones((5, 1)), M, {"batch": "n"}, None, ""),
    "expand": (lambda x: cl.broadcast_to(cl.sum(x), x.shape), M, {"batch": "n"}, ShapeError, "broadcast_to depends"),
    "slice": (lambda x: x[: x.shape[0] // 2], M, {"batch": "n"}, ShapeError, "strided_slice depends"),
    "loop": (lambda x: sum(x[i] for i in range(x.shape[0])), M, {"batch": "n"}, ShapeError, "calls other ops"),
    "scalar": (cl.exp, cl.ones(()), {"batch": "n"}, ShapeError, "needs an axis 0"),
    "inputs": (cl.exp, M, {"inputs": ["a", "b"]}, ArgumentError, "inputs must be 1 new names"),
    "outputs": (cl.exp, M, {"outputs": ["x0"]}, ArgumentError, "outputs must be 1 new names"),
    "pool": (lambda x: cl.adaptive_avg_pool(x, output_size=3), X, {}, UnsupportedError, "do not divide"),
}  # fmt: skip


@pytest.mark.parametrize("name", [n for n, r in REFUSED.items() if r[3] is not None])
def test_what_cannot_be_written_is_refused(name):
    fn, example, options, error, words = REFUSED[name]
    with pytest.raises(error, match=words):
        corelib_onnx.export(fn, example, **options)


def test_a_half_of_the_batch_on_an_axis_of_its_own_is_written():
    model = check(REFUSED["reshape"][0], M, batch="n")
    x = normal(6, 5)
    found = ReferenceEvaluator(model).run(None, {"x0": x.numpy()})[0]
    np.testing.assert_allclose(found, REFUSED["reshape"][0](x).numpy(), rtol=1e-5, atol=1e-5)


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        corelib_onnx.export(cl.exp, M, tmp_path / "no" / "m.onnx")
