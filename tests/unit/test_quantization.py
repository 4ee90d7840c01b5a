"""Quantization: scales against the formulas, gradients of the straight-through estimator, integer layers that are
equal on every backend, and what a report says.
"""

from __future__ import annotations

import numpy as np
import pytest

import corelib
from corelib import nn, ops, optim, quantization, random, train
from corelib.errors import ArgumentError, DTypeError, ShapeError
from corelib.quantization import Config, QuantParams

on_each = pytest.mark.parametrize(
    "device", ["reference", pytest.param("cpu", marks=pytest.mark.device("cpu"))]
)


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype("float32")


# -- the scheme --------------------------------------------------------------------------------------------------


@on_each
@pytest.mark.parametrize("bits", [8, 4, 2])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("axis", [None, 0])
def test_rounding_is_that_of_the_formula(bits, symmetric, axis, device):
    x = numbers(3, 50) + np.float32(0.25)
    t = corelib.asarray(x, device=device)
    observer = quantization.MinMaxObserver(bits=bits, symmetric=symmetric, axis=axis)
    observer.observe(t)
    params = observer.params()
    low, high = (
        (x.min(axis=1, keepdims=True), x.max(axis=1, keepdims=True)) if axis == 0 else (x.min(), x.max())
    )
    top = 2 ** (bits - 1) - 1
    if symmetric:
        scale, zero, least = np.maximum(np.abs(low), np.abs(high)) / np.float32(top), np.float32(0), -top
    else:
        low, high, least = np.minimum(low, 0), np.maximum(high, 0), -top - 1
        scale = (high - low) / np.float32(2**bits - 1)
        zero = least - np.rint(low / scale)
    q = np.clip(np.rint(x / scale) + zero, least, top)
    found = quantization.quantize(t, params)
    assert found.dtype is corelib.int8
    np.testing.assert_array_equal(found.numpy(), q.astype("int8"))
    np.testing.assert_array_equal(
        quantization.dequantize(found, params).numpy(), (q - zero).astype("float32") * scale
    )
    # half a step is the error inside the range; at its ends, symmetric ranges of an odd number of steps included
    assert np.all(np.abs(quantization.dequantize(found, params).numpy() - x) <= scale * 0.5001)
    zeros = quantization.quantize(corelib.zeros_like(t), params)
    assert not quantization.dequantize(zeros, params).numpy().any()  # 0 stays 0


@on_each
@pytest.mark.parametrize("bits", [8, 4, 2])
@pytest.mark.parametrize("length", [1, 4, 7])
def test_packed_values_come_back(bits, length, device):
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1)
    q = np.random.default_rng(0).integers(low, high, (3, length)).astype("int8")
    packed = quantization.pack(corelib.asarray(q, device=device), bits)
    assert (packed.dtype, packed.shape) == (corelib.uint8, (3, -(-length * bits // 8)))
    np.testing.assert_array_equal(quantization.unpack(packed, bits, length).numpy(), q)


@on_each
def test_the_gradient_goes_straight_through_within_the_range(device):
    params = QuantParams(corelib.asarray(0.5, device=device), corelib.asarray(0.0, device=device), 4)
    x = corelib.asarray([-9.0, -3.5, 0.2, 0.3, 3.5, 3.74, 3.76], device=device).requires_grad_()
    y = quantization.fake_quantize(x, params)
    assert y.tolist() == [-3.5, -3.5, 0.0, 0.5, 3.5, 3.5, 3.5]
    (y * corelib.asarray([1.0, 2, 3, 4, 5, 6, 7], device=device)).sum().backward()
    assert x.grad.tolist() == [0, 2, 3, 4, 5, 6, 0]


def test_observers_clip_outliers():
    x = corelib.asarray(np.append(numbers(4000), 20).astype("float32"))
    spans = {}
    for name, cls in (("minmax", quantization.MinMaxObserver), ("percentile", quantization.PercentileObserver), ("mse", quantization.MSEObserver)):  # fmt: skip
        observer = cls(bits=4)
        observer.observe(x[:2000])
        observer.observe(x[2000:])
        spans[name] = observer.params().scale.item() * 7
    assert spans["minmax"] == pytest.approx(20)
    ordered = np.sort(x.numpy())
    assert spans["percentile"] == pytest.approx(max(-ordered[2], ordered[-3]))
    # clipped at 5, the outlier costs 15**2 and the others a step of 5/7 (0.04 each); unclipped, a step of 20/7 (0.6)
    assert 3.9 < spans["mse"] < 8


def test_the_mean_square_error_is_the_smallest_of_those_tried():
    x = corelib.asarray(numbers(3, 400) ** 3)
    observer = quantization.MSEObserver(bits=4, axis=0)
    observer.observe(x)
    params = observer.params()

    def error(p):
        off = quantization.dequantize(quantization.quantize(x, p), p) - x
        return ops.mean(off * off, axis=1).numpy()

    best, whole = error(params), np.abs(x.numpy()).max(axis=1)
    for i in range(13, 65):
        scale = corelib.asarray((whole * i / 64 / 7).astype("float32"))
        # a grid from the largest magnitude, where the observer scales both ends: the same numbers up to rounding
        assert np.all(best <= error(params._replace(scale=scale)) * (1 + 1e-4))


# -- layers ------------------------------------------------------------------------------------------------------


def network():
    random.seed(3)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2), nn.Flatten(), nn.Linear(54, 16), nn.ReLU(),
        nn.Linear(16, 3),
    )  # fmt: skip


IMAGES = numbers(8, 2, 6, 6, seed=9)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("per_channel", [True, False])
def test_integer_layers_compute_what_rounded_floats_do(symmetric, per_channel):
    model = network()
    config = Config(symmetric_inputs=symmetric, per_channel=per_channel)
    prepared = quantization.prepare(model, config)
    x = corelib.asarray(IMAGES)
    quantization.calibrate(prepared, [x])
    converted = quantization.convert(prepared)
    kinds = [type(m).__name__ for m in converted]
    assert kinds == ["QuantizedConv2d", "Identity", "QuantizedConv2d", "Flatten", "QuantizedLinear", "Identity", "QuantizedLinear"]  # fmt: skip
    fake, real = prepared.eval()(x).numpy(), converted(x).numpy()
    # the same integers: what differs is the rounding of the float sums of at most 54 terms, up to a few units, which may
    # move an input of the next layer to its neighbour now and then (1/255 of its range)
    assert np.abs(fake - real).max() <= 0.01 * np.abs(fake).max()
    np.testing.assert_array_equal(model(x).numpy(), network()(x).numpy())  # the model itself is as it was
    exact = model(x).numpy()
    assert np.linalg.norm(real - exact) / np.linalg.norm(exact) < 0.03


@pytest.mark.device("cpu")
def test_an_integer_model_gives_the_same_bits_on_every_backend(tmp_path):
    prepared = quantization.calibrate(quantization.prepare(network()), [corelib.asarray(IMAGES)])
    converted = quantization.convert(prepared)
    here = converted(corelib.asarray(IMAGES, device="cpu")).numpy()
    there = converted.to("reference")(corelib.asarray(IMAGES, device="reference")).numpy()
    np.testing.assert_array_equal(here, there)
    assert here.any()


def test_norms_become_part_of_the_layers_before_them():
    random.seed(2)
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3), nn.BatchNorm1d(3, affine=False)
    )  # fmt: skip
    x = corelib.asarray(IMAGES)
    for _ in range(3):
        model(x * 2 + 1)  # statistics that are not 0 and 1
    nn.init.uniform_(model[1].weight, 0.5, 2)
    model.eval()
    folded = quantization.fold_norms(model)
    assert [type(m).__name__ for m in folded] == [
        "Conv2d",
        "Identity",
        "ReLU",
        "Flatten",
        "Linear",
        "Identity",
    ]
    expected = model(x).numpy()
    # sums of up to 64 terms, rounded otherwise
    np.testing.assert_allclose(folded(x).numpy(), expected, atol=64 * 2**-23 * np.abs(expected).max())
    converted = quantization.convert(quantization.calibrate(quantization.prepare(folded), [x]))
    assert [type(m).__name__ for m in converted][:3] == ["QuantizedConv2d", "Identity", "Identity"]
    assert np.linalg.norm(converted(x).numpy() - expected) < 0.03 * np.linalg.norm(expected)
    assert isinstance(model[1], nn.BatchNorm2d)
    with pytest.raises(ArgumentError, match="the norm behind 0 keeps no running statistics"):
        quantization.fold_norms(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2, track_running_stats=False)))


def test_an_integer_model_saves_and_loads(tmp_path):
    def make(seed):
        x = corelib.asarray(numbers(8, 2, 6, 6, seed=seed))
        return quantization.convert(quantization.calibrate(quantization.prepare(network()), [x]))

    one, other = make(1), make(2)
    corelib.save(tmp_path / "int8.safetensors", model=one)
    corelib.load(tmp_path / "int8.safetensors", model=other)
    x = corelib.asarray(IMAGES)
    assert other(x).tolist() == one(x).tolist() != make(2)(x).tolist()


def test_training_on_through_the_rounding_repairs_two_bits():
    random.seed(0)
    x = corelib.asarray(numbers(64, 4))
    y = ops.astype(ops.greater(x[:, 0] * x[:, 1], 0), "int64")
    model = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 2))

    def fit(m, steps):
        optimizer = optim.Adam(m.parameters(), lr=0.03)
        for _ in range(steps):
            optimizer.zero_grad()
            ops.cross_entropy(m(x), y).backward()
            optimizer.step()

    def accuracy(m):
        return ops.mean(ops.astype(ops.equal(ops.argmax(m(x), axis=1), y), "float32")).item()

    fit(model, 150)
    assert accuracy(model) > 0.95
    prepared = quantization.prepare(model, Config(weight_bits=2, input_bits=4))
    after = accuracy(quantization.convert(quantization.calibrate(prepared, [x])))
    fit(prepared.train(), 150)
    trained = accuracy(quantization.convert(prepared))
    assert trained > after + 0.05


def test_a_compiled_step_of_a_prepared_model_observes_as_well():
    found = []
    x = corelib.asarray(numbers(20, 4))
    batches = [(x[i : i + 4], corelib.asarray([0, 1, 1, 0])) for i in range(0, 20, 4)]
    for compiled in (False, True):
        random.seed(0)
        prepared = quantization.prepare(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))).train()
        optimizer = optim.SGD(prepared.parameters(), lr=0.1)
        trainer = train.Trainer(prepared, optimizer, ops.cross_entropy, compile=compiled, progress=False)
        losses = [r["train_loss"] for r in trainer.fit(batches, 3)]
        found.append((losses, [f.observer.low.item() for f in prepared.modules() if hasattr(f, "observer")]))
    # the same steps, up to the rounding of fused kernels: 15 of them, 64 roundings each
    np.testing.assert_allclose(found[1][0], found[0][0], rtol=15 * 64 * 2**-24)
    np.testing.assert_allclose(found[1][1], found[0][1], rtol=15 * 64 * 2**-24)


@on_each
@pytest.mark.parametrize("bits", [8, 4, 2])
def test_weights_of_few_bits(bits, device):
    with corelib.use_backend(device):
        random.seed(1)
        model = nn.Sequential(nn.Linear(24, 10), nn.ReLU(), nn.Linear(10, 3, bias=False))
        small = quantization.weight_only(model, bits, group=8, skip=["2"])
        assert isinstance(small[2], nn.Linear)
        layer = small[0]
        assert layer.packed.shape == (30, bits)
        weight = model[0].weight.numpy().reshape(30, 8)
        step = np.abs(weight).max(axis=1, keepdims=True) / np.float32(2 ** (bits - 1) - 1)
        expected = (np.rint(weight / step) * step).reshape(10, 24)
        np.testing.assert_array_equal(layer.weight().numpy(), expected.astype("float32"))
        x = corelib.asarray(numbers(5, 24))
        expected = ops.linear(x, layer.weight(), model[0].bias)
        assert layer(x).tolist() == expected.tolist()


def test_a_report_of_size_errors_and_the_metric():
    model, x = network(), corelib.asarray(IMAGES)
    converted = quantization.convert(quantization.calibrate(quantization.prepare(model), [x]))
    found = quantization.report(model, converted, x, metric=lambda m: m(x).numpy().mean())
    assert [layer.name for layer in found.layers] == ["0", "2", "4", "6"]
    assert [layer.kind for layer in found.layers] == ["QuantizedConv2d"] * 2 + ["QuantizedLinear"] * 2
    first = found.layers[0]
    # weight and bias in float32; the weight in bytes, 4 scales, offsets and biases, two numbers of the input and two of the
    # next layer's
    assert (first.bytes_before, first.bytes_after) == (4 * (72 + 4), 72 + 4 * (4 + 4 + 4) + 16)
    assert found.bytes_before == sum(layer.bytes_before for layer in found.layers)
    assert all(0 < layer.error < 0.05 for layer in found.layers)
    assert found.after == pytest.approx(found.before, abs=0.05)
    text = str(found)
    assert text.splitlines()[0].startswith("layer")
    assert f"{found.before:.4f} before, {found.after:.4f} after" in text
    four = quantization.weight_only(model, 4)
    assert quantization.report(model, four, x).layers[0].bytes_after < model[4].weight.size * 4 / 6


@on_each
def test_integers_go_from_layer_to_layer_and_change_no_result(device):
    random.seed(4)
    model = nn.Sequential(
        nn.Conv2d(2, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 6, 3), nn.Flatten(), nn.Linear(24, 5), nn.ReLU(), nn.Tanh(),
        nn.Linear(5, 3),
    ).to(device)  # fmt: skip
    x = corelib.asarray(numbers(20, 2, 8, 8), device=device)
    prepared = quantization.calibrate(quantization.prepare(model), [x])
    converted = quantization.convert(prepared)
    kinds = [type(m).__name__ for m in converted]
    assert kinds[2] == "QuantizedMaxPool2d"
    y, seen = x, []
    for module in converted:
        y = module(y)
        seen.append(y.dtype is corelib.int8)
    # the first two layers hand integers on; tanh takes numbers
    assert seen == [True, True, True, True, True, False, False, False, False]
    alone = quantization.convert(nn.Sequential(*[nn.Sequential(m) for m in prepared]))
    assert not any(layer.next_scale is not None for layer in alone.modules() if hasattr(layer, "next_scale"))
    assert alone(x).tolist() == converted(x).tolist() == y.tolist()


def test_a_pool_in_two_places_stays_one_of_numbers():
    pool = nn.MaxPool2d(2)
    model = nn.Sequential(nn.Conv2d(2, 2, 3, padding=1), pool, nn.Conv2d(2, 2, 1), nn.Tanh(), pool)
    x = corelib.asarray(numbers(3, 2, 8, 8))
    converted = quantization.convert(quantization.calibrate(quantization.prepare(model), [x]))
    assert converted[0](x).dtype is converted(x).dtype is corelib.float32
    assert converted[1] is converted[4]


# -- exact products ----------------------------------------------------------------------------------------------


@on_each
def test_products_of_integers_are_exact_where_float32_sums_are_not(device):
    rng = np.random.default_rng(0)
    a, b = (rng.integers(-128, 128, s).astype("int8") for s in ((3, 5000), (5000, 2)))
    a[0], b[:, 0] = -128, -128
    expected = a.astype("int64") @ b.astype("int64")
    assert np.abs(expected).max() > 2**24
    found = ops.int8_matmul(corelib.asarray(a, device=device), corelib.asarray(b, device=device))
    assert found.dtype is corelib.int32
    np.testing.assert_array_equal(found.numpy(), expected)


# -- mistakes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "error", "words"),
    [
        (lambda m, x: quantization.prepare(m, Config(weight_bits=5)).train()(x), ArgumentError, "bits must be 8, 4 or 2, got 5"),
        (lambda m, x: quantization.prepare(m, Config(input_observer="mean")), ArgumentError, "there is no observer 'mean'"),
        (lambda m, x: quantization.prepare(m, skip=["7"]), ArgumentError, "there is no layer '7'"),
        (lambda m, x: quantization.calibrate(m, [x]), ArgumentError, r"not prepared: call prepare\(\) first"),
        (lambda m, x: quantization.calibrate(quantization.prepare(m), []), ArgumentError, "there was no batch"),
        (lambda m, x: quantization.convert(m), ArgumentError, "the model is not prepared"),
        (lambda m, x: quantization.convert(quantization.prepare(m)), ArgumentError, r"MinMaxObserver has seen nothing: run calibrate\(\)"),
        (lambda m, x: quantization.quantize(x.astype("int32"), QuantParams(x, x)), DTypeError, "x must be floating, got int32"),
        (lambda m, x: quantization.quantize(x, QuantParams(corelib.ones(9), corelib.zeros(9), axis=0)), ShapeError, "than the 9 scales"),
        (lambda m, x: quantization.PercentileObserver(30), ArgumentError, r"percentile must be in \(50, 100\], got 30"),
        (lambda m, x: quantization.WeightOnlyLinear(m[4], 4, group=5), ArgumentError, "group=5 must divide the 54 inputs"),
        (lambda m, x: quantization.pack(x.astype("int8"), 3), ArgumentError, "pack: bits must be 8, 4 or 2, got 3"),
    ],
)  # fmt: skip
def test_mistakes_are_named(build, error, words):
    with pytest.raises(error, match=words):
        build(network(), corelib.asarray(IMAGES))
