"""Layers beyond their numbers: where an error was raised, bad input, initial values, containers, parametrizations, summaries,
lengths and masks, positions, modes.
"""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest

import corelib
from corelib import nn, ops, optim
from corelib.errors import ArgumentError, CheckpointError, DTypeError, IndexOutOfBoundsError, ShapeError


@pytest.fixture(autouse=True)
def _on_reference():
    with corelib.use_backend("reference"):
        corelib.random.seed(0)
        yield


def x_of(*shape, dtype="float32"):
    n = math.prod(shape)
    return ops.reshape(ops.arange(n, dtype=dtype), shape) / max(n, 1) - 0.4


# -- where an error was raised -------------------------------------------------------------------------------------------


class Model(nn.Module):
    def __init__(self):
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 8, batch_first=True), 2)
        self.heads = [nn.Sequential(nn.Flatten(), nn.Linear(12, 3))]

    def forward(self, x):
        return self.heads[0](self.encoder(x))


def test_an_error_names_the_layer_by_its_path_once_and_what_it_expected():
    model = Model()
    model.encoder.layers[1].linear2 = nn.Linear(9, 4)
    with pytest.raises(ShapeError) as caught:
        model(x_of(2, 3, 4))
    assert str(caught.value) == (
        "in encoder.layers.1.linear2, Linear(in_features=9, out_features=4): linear: x of shape (2, 3, 8) has 8 features on its "
        "last axis, weight of shape (4, 9) needs 9"
    )
    model = Model()
    with pytest.raises(
        ShapeError,
        match=r"^in heads\.0\.1, Linear\(in_features=12, out_features=3\): linear: x of shape \(2, 16\)",
    ):
        model(x_of(2, 4, 4))


def test_a_module_that_is_called_alone_adds_nothing_to_its_error():
    with pytest.raises(ShapeError, match=r"^linear: x of shape \(2, 4\) has 4 features"):
        nn.Linear(3, 2)(x_of(2, 4))


def test_an_error_that_is_caught_inside_leaves_no_trace():
    class Careful(nn.Module):
        def __init__(self):
            self.first, self.second = nn.Linear(3, 2), nn.Linear(4, 2)

        def forward(self, x):
            try:
                return self.first(x)
            except ShapeError:
                return self.second(x)

    assert nn.Sequential(Careful())(x_of(2, 4)).shape == (2, 2)


def test_other_exceptions_pass_as_they_are():
    class Broken(nn.Module):
        def forward(self, x):
            raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match=r"^mine$"):
        nn.Sequential(Broken())(x_of(1))


# -- bad input -----------------------------------------------------------------------------------------------------------

BAD_CALLS = {
    "conv of too few axes": (lambda: nn.Conv2d(3, 4, 3)(x_of(3, 5)), ShapeError, r"conv2d: x must have shape \(N, C, H, W\) or \(C, H, W\), got \(3, 5\)"),
    "conv of other channels": (lambda: nn.Conv2d(3, 4, 3)(x_of(1, 2, 5, 5)), ShapeError, r"has 2 channels on axis 1, weight of shape \(4, 3, 3, 3\) with groups=1 needs 3"),
    "conv of a small image": (lambda: nn.Conv2d(3, 4, 3)(x_of(1, 3, 2, 5)), ShapeError, "a window of 3 elements .* does not fit an axis of 2"),
    "transposed conv to a size that is none": (
        lambda: nn.ConvTranspose1d(2, 2, 3, stride=2)(x_of(1, 2, 4), output_size=(12,)), ShapeError, r"output_size must be between \(9,\) and \(10,\).*got \(12,\)"),
    "pool of too few axes": (lambda: nn.MaxPool1d(2)(x_of(4)), ShapeError, r"max_pool1d: x must have shape \(N, C, L\) or \(C, L\)"),
    "norm of other channels": (lambda: nn.BatchNorm2d(3)(x_of(2, 4, 2, 2)), ShapeError, r"BatchNorm2d: x must have shape \(N, 3, H, W\), got \(2, 4, 2, 2\)"),
    "norm of other axes": (lambda: nn.BatchNorm1d(3)(x_of(2, 3, 2, 2)), ShapeError, r"BatchNorm1d: x must have shape \(N, 3\) or \(N, 3, L\)"),
    "norm of one element": (lambda: nn.BatchNorm1d(3)(x_of(1, 3)), ShapeError, r"at least two elements of each channel, .* call module.eval\(\)"),
    "norm of an empty batch": (lambda: nn.BatchNorm1d(3)(x_of(0, 3)), ShapeError, r"at least two elements .* x of shape \(0, 3\) has 0"),
    "group norm of other channels": (lambda: nn.GroupNorm(2, 4)(x_of(2, 6)), ShapeError, r"GroupNorm: x must have shape \(N, 4, ...\)"),
    "instance norm of one place": (lambda: nn.InstanceNorm1d(2)(x_of(3, 2, 1)), ShapeError, "each channel needs at least two elements"),
    "lstm of other features": (lambda: nn.LSTM(3, 2)(x_of(4, 1, 5)), ShapeError, r"LSTM: x must have shape \(T, N, 3\) or \(T, 3\), got \(4, 1, 5\)"),
    "gru of another state": (lambda: nn.GRU(3, 2)(x_of(4, 1, 3), x_of(2, 1, 2)), ShapeError, r"the state must have shape \(1, 1, 2\), got \(2, 1, 2\)"),
    "lstm of no step": (lambda: nn.LSTM(3, 2)(x_of(0, 1, 3)), ShapeError, "has no step"),
    "rnn of too many lengths": (lambda: nn.RNN(3, 2)(x_of(4, 1, 3), lengths=[1, 2]), ShapeError, r"lengths must have shape \(1,\)"),
    "attention of other features": (
        lambda: nn.MultiheadAttention(4, 2)(x_of(3, 1, 4), x_of(3, 1, 5), x_of(3, 1, 4)), ShapeError, "MultiheadAttention: key must have 4 features"),
    "attention of another mask": (
        lambda: nn.MultiheadAttention(4, 2)(*[x_of(3, 1, 4)] * 3, attn_mask=ops.zeros((2, 2))), ShapeError, r"attn_mask must have shape \(3, 3\) or \(2, 3, 3\)"),
    "learned positions beyond the last": (lambda: nn.LearnedPositions(4, 2)(x_of(5, 2)), ShapeError, "positions 0 to 4 are not among the 4 learned ones"),
    "bilinear of other features": (lambda: nn.Bilinear(2, 3, 1)(x_of(4, 2), x_of(4, 2)), ShapeError, r"must have shapes \(..., 2\) and \(..., 3\)"),
    "pixel shuffle of other channels": (lambda: nn.PixelShuffle(2)(x_of(1, 6, 2, 2)), ShapeError, r"must have shape \(..., C 2\^2, H, W\)"),
    "unflatten to another size": (lambda: nn.Unflatten(1, (2, 4))(x_of(2, 6)), ShapeError, r"axis 1 of x of shape \(2, 6\) does not fit \(2, 4\)"),
    "halves of an odd axis": (lambda: nn.GLU()(x_of(2, 3)), ShapeError, r"glu: x of shape \(2, 3\) has no halves"),
    "prelu of other channels": (lambda: nn.PReLU(3)(x_of(2, 4)), ShapeError, r"prelu: weight must have shape \(1,\) or \(4,\)"),
    "a label that is no class": (lambda: nn.CrossEntropyLoss()(x_of(2, 3), ops.asarray([0, 3])), IndexOutOfBoundsError, "label 3 is out of range for 3: valid are 0 to 2"),
    "a label that is no class, weighted": (
        lambda: nn.CrossEntropyLoss(weight=ops.ones((3,)))(x_of(2, 3), ops.asarray([0, -1])), IndexOutOfBoundsError, "label -1 is out of range for 3"),
    "an index that is no row": (lambda: nn.Embedding(3, 2)(ops.asarray([0, 3])), IndexOutOfBoundsError, "index 3 is out of range for 3"),
    "labels that are floats of another shape": (lambda: nn.CrossEntropyLoss()(x_of(2, 3), x_of(2)), ShapeError, r"x of shape \(2, 3\) and target of shape \(2,\) must be equal"),
    "weights of other classes": (
        lambda: nn.CrossEntropyLoss(weight=ops.ones((4,)))(x_of(2, 3), ops.asarray([0, 1])), ShapeError, r"weight must have shape \(3,\)"),
    "targets of another shape": (lambda: nn.HingeEmbeddingLoss()(x_of(3, 1), x_of(3)), ShapeError, r"x of shape \(3, 1\) and target of shape \(3,\)"),
    "ctc beyond the steps": (
        lambda: nn.CTCLoss()(x_of(2, 1, 3), ops.asarray([[1]]), [3], [1]), ArgumentError, r"input_lengths\[0\] is 3, .* has 2 steps"),
    "ctc of fewer labels": (lambda: nn.CTCLoss()(x_of(2, 1, 3), ops.asarray([1, 2]), [2], [1]), ShapeError, "target_lengths add up to 1"),
    "another reduction": (lambda: nn.SoftMarginLoss(reduction="all")(x_of(2), x_of(2)), ArgumentError, "reduction must be 'mean', 'sum' or 'none', got 'all'"),
    "complex numbers": (lambda: nn.Conv1d(1, 1, 1)(ops.asarray([[[1j]]])), DTypeError, "conv does not accept complex"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_CALLS)
def test_bad_input_is_refused_in_words(name):
    call, error, words = BAD_CALLS[name]
    with pytest.raises(error, match=words):
        call()


BAD_LAYERS = {
    "groups": (lambda: nn.Conv2d(4, 6, 3, groups=4), "groups=4 must divide in_channels=4 and out_channels=6"),
    "padding word": (lambda: nn.Conv1d(1, 1, 1, padding="full"), "padding must be 'same', 'valid' or integers, got 'full'"),
    "padding mode": (lambda: nn.Conv1d(1, 1, 1, padding_mode="mirror"), "padding_mode must be one of 'zeros', 'reflect'"),
    "kernel of three": (lambda: nn.Conv2d(1, 1, (1, 2, 3)), "kernel_size must be one integer or 2"),
    "same with a stride": (lambda: nn.Conv1d(1, 1, 3, 2, "same")(x_of(1, 1, 5)), "padding='same' needs stride 1, got"),
    "norm groups": (lambda: nn.GroupNorm(3, 4), "num_groups=3 must divide num_channels=4"),
    "heads": (lambda: nn.MultiheadAttention(6, 4), "num_heads=4 must divide embed_dim=6"),
    "activation": (lambda: nn.TransformerEncoderLayer(4, 2, activation="swish"), "activation must be 'relu', 'gelu' or a function"),
    "layers": (lambda: nn.LSTM(1, 1, 0), "num_layers and hidden_size must be positive"),
    "nonlinearity": (lambda: nn.RNN(1, 1, nonlinearity="sin"), "nonlinearity must be 'tanh' or 'relu', got 'sin'"),
    "dropout": (lambda: nn.GRU(1, 1, dropout=2.0), r"dropout must be in \[0, 1\], got 2.0"),
    "rotation": (lambda: nn.RotaryEmbedding(3), "dim must be even, got 3"),
    "both sizes": (lambda: nn.Upsample(2, 2)(x_of(1, 1, 2)), "give either size or scale_factor"),
    "mode": (lambda: nn.Upsample(2, mode="cubic")(x_of(1, 1, 2)), "mode must be one of 'nearest', 'nearest-exact', 'area', 'linear' for x"),
    "margin power": (lambda: nn.MultiMarginLoss(p=3)(x_of(1, 2), ops.asarray([0])), "p must be 1 or 2, got 3"),
    "dictionary": (lambda: nn.ModuleDict({"forward": nn.Linear(1, 1)}), "'forward' cannot be a name"),
    "pads": (lambda: nn.ZeroPad2d((1, 2)), r"ZeroPad2d: padding must be one integer or 4, none negative, got \(1, 2\)"),
    "projection": (lambda: nn.LSTM(3, 4, proj_size=4), "LSTM: proj_size is for LSTM and must be below hidden_size=4, got 4"),
    "adaptive": (lambda: nn.AdaptiveMaxPool2d((0, 1))(ops.ones((1, 1, 2, 2))),
                 r"adaptive_max_pool2d: output_size must be one positive integer or 2, got \(0, 1\)"),
    "no module": (lambda: nn.ModuleDict({"a": 1}), "'a' must be a Module, got 1"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_LAYERS)
def test_a_bad_parameter_is_refused_in_words(name):
    build, words = BAD_LAYERS[name]
    with pytest.raises(ArgumentError, match=words):
        build()


def test_missing_and_unexpected_keys_are_listed_with_the_nearest_names():
    model = Model()
    state = model.state_dict()
    state["encoder.layers.0.self_attn.out_proj.wait"] = state.pop(
        "encoder.layers.0.self_attn.out_proj.weight"
    )
    with pytest.raises(CheckpointError) as caught:
        model.load_state_dict(state)
    lines = str(caught.value).splitlines()
    assert lines[1].startswith(
        "  missing: encoder.layers.0.self_attn.out_proj.weight; did you mean 'encoder.layers.0.self_attn.out_proj.wait'"
    )
    assert lines[2].startswith("  unexpected: encoder.layers.0.self_attn.out_proj.wait; did you mean")


EMPTY = {
    "Linear": (lambda: nn.Linear(3, 2), (0, 3), (0, 2)),
    "Conv2d": (lambda: nn.Conv2d(2, 3, 3), (0, 2, 4, 4), (0, 3, 2, 2)),
    "ConvTranspose1d": (lambda: nn.ConvTranspose1d(2, 3, 2), (0, 2, 4), (0, 3, 5)),
    "MaxPool2d": (lambda: nn.MaxPool2d(2), (0, 2, 4, 4), (0, 2, 2, 2)),
    "AdaptiveAvgPool1d": (lambda: nn.AdaptiveAvgPool1d(3), (0, 2, 4), (0, 2, 3)),
    "BatchNorm1d": (lambda: nn.BatchNorm1d(3).eval(), (0, 3), (0, 3)),
    "GroupNorm": (lambda: nn.GroupNorm(1, 3), (0, 3, 2), (0, 3, 2)),
    "LSTM": (lambda: nn.Sequential(nn.LSTM(3, 2), First()), (4, 0, 3), (4, 0, 2)),
    "TransformerEncoderLayer": (lambda: nn.TransformerEncoderLayer(4, 2, 5, batch_first=True), (0, 3, 4), (0, 3, 4)),
    "Upsample": (lambda: nn.Upsample(scale_factor=2), (0, 1, 2), (0, 1, 4)),
}  # fmt: skip


class First(nn.Module):
    def forward(self, pair):
        return pair[0]


@pytest.mark.parametrize("device", ["reference", pytest.param("cpu", marks=pytest.mark.device("cpu"))])
@pytest.mark.parametrize("name", EMPTY)
def test_an_empty_batch_goes_through_forward_and_backward(name, device):
    build, shape, wanted = EMPTY[name]
    layer = build().to(device)
    x = ops.zeros(shape, device=device).requires_grad_()
    y = layer(x)
    assert y.shape == wanted
    ops.sum(y).backward()
    assert x.grad.shape == shape
    assert all(p.grad is None or not np.any(p.grad.numpy()) for p in layer.parameters())


# -- initial values ------------------------------------------------------------------------------------------------------

BOUNDS = {
    "Conv2d": (lambda: nn.Conv2d(8, 16, 3, groups=2), {"weight": 1 / 6, "bias": 1 / 6}),
    "ConvTranspose1d": (lambda: nn.ConvTranspose1d(16, 9, 4), {"weight": 1 / 6, "bias": 1 / 6}),
    "Bilinear": (lambda: nn.Bilinear(16, 5, 7), {"weight": 0.25, "bias": 0.25}),
    "LSTM": (lambda: nn.LSTM(5, 16), {"weight_ih_l0": 0.25, "bias_hh_l0": 0.25}),
    "MultiheadAttention": (lambda: nn.MultiheadAttention(16, 2), {"in_proj_weight": math.sqrt(6 / 64), "out_proj.weight": 0.25}),
}  # fmt: skip


@pytest.mark.parametrize("name", BOUNDS)
def test_initial_values_are_uniform_within_pytorchs_bounds(name):
    build, bounds = BOUNDS[name]
    parameters = dict(build().named_parameters())
    for key, bound in bounds.items():
        values = parameters[key].numpy().ravel()
        assert abs(values).max() <= bound
        if values.size > 60:  # of so many, one lies in the outer tenth, but for a chance of 0.002
            assert abs(values).max() > 0.9 * bound
            assert abs(values.mean()) < 4 * bound / math.sqrt(3 * values.size)


def test_what_pytorch_starts_as_constants_is_constant():
    attention = nn.MultiheadAttention(4, 2)
    assert not np.any(attention.in_proj_bias.numpy())
    assert not np.any(attention.out_proj.bias.numpy())
    norm = nn.BatchNorm1d(3)
    assert [t.tolist() for t in (norm.weight, norm.bias, norm.running_mean, norm.running_var)] == [
        [1.0] * 3,
        [0.0] * 3,
        [0.0] * 3,
        [1.0] * 3,
    ]
    assert norm.num_batches_tracked.item() == 0
    assert nn.PReLU().weight.tolist() == [0.25]


# -- modes ---------------------------------------------------------------------------------------------------------------


def test_a_batch_norm_keeps_its_statistics_in_evaluation_and_saves_them():
    norm, x = nn.BatchNorm1d(2, momentum=None), x_of(6, 2)
    norm(x)
    norm(x + 1)
    mean = (x.numpy().mean(0) + (x + 1).numpy().mean(0)) / 2
    np.testing.assert_allclose(norm.running_mean.numpy(), mean, rtol=1e-6)
    before = {k: v.tolist() for k, v in norm.state_dict().items()}
    norm.eval()(x * 5)
    assert {k: v.tolist() for k, v in norm.state_dict().items()} == before
    assert before["num_batches_tracked"] == 2
    other = nn.BatchNorm1d(2)
    other.load_state_dict(norm.state_dict())
    assert other.eval()(x).tolist() == norm(x).tolist()


def test_dropping_channels_drops_all_of_a_channel():
    y = nn.Dropout2d(0.5)(ops.ones((20, 10, 2, 2))).numpy()
    assert set(np.unique(y)) == {0.0, 2.0}
    assert all(len(np.unique(channel)) == 1 for example in y for channel in example)
    assert 60 < (y[:, :, 0, 0] == 0).sum() < 140
    layer = nn.Dropout1d(0.5).eval()
    assert layer(ops.ones((2, 3, 4))).tolist() == ops.ones((2, 3, 4)).tolist()


def test_dropout_between_recurrent_layers_and_in_attention_acts_in_training_only():
    x = x_of(5, 2, 3)
    lstm = nn.LSTM(3, 4, num_layers=2, dropout=0.5)
    assert lstm(x)[0].tolist() != lstm(x)[0].tolist()
    lstm.eval()
    assert lstm(x)[0].tolist() == lstm(x)[0].tolist()
    attention = nn.MultiheadAttention(4, 2, dropout=0.5)
    z = x_of(5, 2, 4)
    assert attention(z, z, z)[0].tolist() != attention(z, z, z)[0].tolist()
    attention.eval()
    with_weights, without = attention(z, z, z)[0], attention(z, z, z, need_weights=False)[0]
    np.testing.assert_allclose(with_weights.numpy(), without.numpy(), rtol=1e-5, atol=1e-7)


# -- attention and positions ---------------------------------------------------------------------------------------------


def test_a_query_that_may_look_nowhere_gives_zeros_and_passes_no_gradient():
    q = x_of(3, 4).requires_grad_()
    k, mask = x_of(2, 4), ops.asarray([[True, False], [False, False], [True, True]])
    y = nn.functional.scaled_dot_product_attention(q, k, k, mask)
    assert y.tolist()[1] == [0.0] * 4
    ops.sum(y * y).backward()
    assert q.grad.tolist()[1] == [0.0] * 4
    weights = nn.functional.attention_weights(q, k, mask)
    np.testing.assert_allclose(ops.sum(weights, axis=-1).numpy(), [1, 0, 1], rtol=1e-6)


def test_a_causal_layer_does_not_see_the_future():
    layer, x = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True).eval(), x_of(1, 5, 4)
    y = layer(x, is_causal=True)
    z = layer(x + ops.reshape(ops.asarray([0.0, 0.0, 0.0, 1.0, 1.0]), (5, 1)), is_causal=True)
    assert y.tolist()[0][:3] == z.tolist()[0][:3]
    assert y.tolist()[0][3:] != z.tolist()[0][3:]


def test_rotated_products_depend_on_the_difference_of_positions_alone():
    rotate = nn.RotaryEmbedding(6)
    q, k = x_of(1, 6, dtype="float64"), x_of(1, 6, dtype="float64") * -2 + 1
    scores = [ops.sum(rotate(q, at + 3) * rotate(k, at)).item() for at in (0, 1, 50)]
    assert scores[1:] == pytest.approx([scores[0]] * 2, rel=1e-12)
    angle, (a, b) = 7 * 10000 ** (-1 / 3), q.numpy()[0, [1, 4]]
    found = rotate(q, 7).numpy()[0, [1, 4]]
    np.testing.assert_allclose(found, [a * math.cos(angle) - b * math.sin(angle), b * math.cos(angle) + a * math.sin(angle)], rtol=1e-12)  # fmt: skip
    np.testing.assert_allclose(ops.sum(rotate(q, 9) ** 2).item(), ops.sum(q**2).item(), rtol=1e-12)


def test_sinusoidal_positions_are_the_papers():
    y = nn.SinusoidalPositions(4)(ops.zeros((3, 4), dtype="float64")).numpy()
    np.testing.assert_allclose(y[2], [math.sin(2), math.cos(2), math.sin(0.02), math.cos(0.02)], rtol=1e-14)


# -- recurrence ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
def test_padding_changes_nothing_when_the_lengths_are_given(kind):
    layer, x = kind(3, 2, bidirectional=True), x_of(5, 2, 3)
    y, _ = layer(x, lengths=[5, 2])
    alone, _ = layer(x[:2, 1:])
    np.testing.assert_allclose(y.numpy()[:2, 1], alone.numpy()[:, 0], rtol=1e-6)
    assert not np.any(y.numpy()[2:, 1])
    changed, _ = layer(ops.concat([x[:2], x[2:] * 9], axis=0), lengths=ops.asarray([2, 2]))
    np.testing.assert_allclose(changed.numpy()[:2], layer(x[:2])[0].numpy(), rtol=1e-6)


def test_an_lstm_goes_on_from_a_state():
    layer, x = nn.LSTM(3, 2, num_layers=2), x_of(6, 2, 3)
    y, (h, c) = layer(x)
    first, state = layer(x[:4])
    rest, (h2, c2) = layer(x[4:], state)
    np.testing.assert_allclose(ops.concat([first, rest], axis=0).numpy(), y.numpy(), rtol=1e-6)
    np.testing.assert_allclose([h2.numpy(), c2.numpy()], [h.numpy(), c.numpy()], rtol=1e-6)


# -- containers, sharing, freezing ---------------------------------------------------------------------------------------


def test_a_module_dictionary_is_a_dictionary_and_a_module():
    modules = nn.ModuleDict({"a": nn.Linear(2, 3), "b": nn.ReLU()})
    assert (list(modules), len(modules), "a" in modules, "c" in modules) == (["a", "b"], 2, True, False)
    assert list(modules.state_dict()) == ["a.weight", "a.bias"]
    modules["c"] = nn.Linear(3, 1, bias=False)
    del modules["b"]
    assert [name for name, _ in modules.items()] == list(modules.keys()) == ["a", "c"]
    assert [type(m) for m in modules.values()] == [nn.Linear, nn.Linear]
    with pytest.raises(KeyError, match="ModuleDict has no 'd'"):
        modules["d"]


def test_lists_and_dictionaries_of_parameters():
    values = nn.ParameterList([ops.ones((2,)), nn.Parameter([3.0])]).append([4.0, 5.0])
    assert ([p.tolist() for p in values], len(values)) == ([[1.0, 1.0], [3.0], [4.0, 5.0]], 3)
    assert list(values.state_dict()) == ["0", "1", "2"]
    named = nn.ParameterDict({"g": [1.0]})
    named["h"] = [2.0]
    assert (list(named), len(named), "g" in named, named["h"].tolist()) == (["g", "h"], 2, True, [2.0])
    with pytest.raises(KeyError, match="ParameterDict has no 'x'"):
        named["x"]


def test_a_shared_weight_learns_once_and_is_saved_under_both_names():
    model = nn.Sequential(nn.Embedding(5, 3), nn.Linear(3, 5, bias=False))
    model[1].weight = model[0].weight
    assert len(list(model.parameters())) == 1
    assert list(model.state_dict()) == ["0.weight", "1.weight"]
    before = model[0].weight.tolist()
    ops.sum(model(ops.asarray([1, 2]))).backward()
    optim.SGD(model.parameters(), lr=0.1).step()
    assert model[0].weight is model[1].weight
    assert model[0].weight.tolist() != before
    assert nn.summary(model, ops.asarray([1, 2])).parameters == 15
    assert (twin := copy.deepcopy(model))[0].weight is twin[1].weight


def test_what_is_frozen_gets_no_gradient():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    assert model[0].freeze() is model[0]
    ops.sum(model(x_of(3, 2))).backward()
    assert model[0].weight.grad is None
    assert model[1].weight.grad is not None
    assert not any(p.requires_grad for p in model[0].parameters())


# -- parametrizations ----------------------------------------------------------------------------------------------------


class Symmetric(nn.Module):
    def forward(self, w):
        return (w + w.mT) / 2


def test_a_parametrized_weight_is_computed_and_its_original_learned():
    layer = nn.Linear(3, 3)
    before = layer.weight.numpy()
    assert nn.utils.register_parametrization(layer, "weight", Symmetric()) is layer
    assert isinstance(layer, nn.Linear)
    assert list(layer.state_dict()) == ["bias", "parametrizations.weight.original"]
    np.testing.assert_allclose(layer.weight.numpy(), (before + before.T) / 2, rtol=1e-6)
    ops.sum(layer(x_of(2, 3)) ** 2).backward()
    optim.SGD(layer.parameters(), lr=0.5).step()
    w = layer.weight.numpy()
    np.testing.assert_allclose(w, w.T)
    assert not np.allclose(w, (before + before.T) / 2)
    twin = copy.deepcopy(layer)
    assert twin.weight.tolist() == layer.weight.tolist()
    nn.utils.remove_parametrizations(layer, "weight")
    assert type(layer) is nn.Linear
    assert isinstance(layer.weight, nn.Parameter)
    np.testing.assert_array_equal(layer.weight.numpy(), w)
    assert list(layer.state_dict()) == ["bias", "weight"]
    nn.utils.remove_parametrizations(twin, "weight", leave_parametrized=False)
    assert twin.weight.tolist() != layer.weight.tolist()


def test_parametrizations_chain_and_several_parameters_have_them():
    class Doubled(nn.Module):
        def forward(self, w):
            return w * 2

    layer = nn.Linear(2, 2)
    w, b = layer.weight.numpy(), layer.bias.numpy()
    for name in ("weight", "weight", "bias"):
        nn.utils.register_parametrization(layer, name, Doubled())
    np.testing.assert_array_equal(layer.weight.numpy(), 4 * w)
    np.testing.assert_array_equal(layer.bias.numpy(), 2 * b)
    nn.utils.remove_parametrizations(layer, "bias")
    np.testing.assert_array_equal(layer.weight.numpy(), 4 * w)
    assert layer(x_of(1, 2)).shape == (1, 2)


def test_weight_norm_starts_where_the_weight_is_and_learns_length_and_direction():
    layer, x = nn.Conv1d(2, 3, 2), x_of(1, 2, 5)
    before = layer(x).numpy()
    nn.utils.weight_norm(layer)
    np.testing.assert_allclose(layer(x).numpy(), before, rtol=1e-5, atol=1e-6)
    names = ["parametrizations.weight.original0", "parametrizations.weight.original1"]
    assert list(layer.state_dict()) == ["bias", *names]
    assert layer.parametrizations["weight"].original0.shape == (3, 1, 1)
    ops.sum(layer(x) ** 2).backward()
    assert all(p.grad is not None for p in layer.parameters())


def test_a_parametrization_that_fits_nothing_is_refused():
    layer = nn.Linear(2, 3)
    with pytest.raises(ArgumentError, match="Linear has no parameter 'wieght'; did you mean 'weight'"):
        nn.utils.register_parametrization(layer, "wieght", Symmetric())
    with pytest.raises(ShapeError, match=r"weight of shape \(3, 2\) would get the shape \(6,\)"):
        nn.utils.register_parametrization(layer, "weight", nn.Flatten(0))
    with pytest.raises(ArgumentError, match="'weight' of Linear is not parametrized"):
        nn.utils.remove_parametrizations(layer, "weight")
    nn.utils.weight_norm(layer)
    with pytest.raises(ArgumentError, match="weight is made of original0, original1: leave it parametrized"):
        nn.utils.remove_parametrizations(layer, "weight", leave_parametrized=False)


# -- summaries -----------------------------------------------------------------------------------------------------------


def test_a_summary_lists_shapes_parameters_operations_and_memory():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))
    found = nn.summary(model, (2, 1, 8, 8))
    conv, linear = found.rows[1], found.rows[4]
    assert (conv.path, conv.kind, conv.shape, conv.parameters) == ("0", "Conv2d", (2, 4, 6, 6), 40)
    assert conv.flops == 2 * 9 * 4 * 36 * 2
    assert (linear.flops, linear.bytes) == (2 * 144 * 10 * 2, 80)
    assert (found.parameters, found.trainable, found.flops) == (1490, 1490, conv.flops + linear.flops)
    assert (found.parameter_bytes, found.activation_bytes) == (5960, 4 * 288 * 3 + 80)
    lines = str(found).splitlines()
    assert lines[0].split() == ["module", "kind", "output", "parameters", "FLOPs", "memory"]
    assert lines[3].split() == ["0", "Conv2d", "[2,", "4,", "6,", "6]", "40", "5.18", "k", "1.15", "kB"]
    assert (
        lines[-1] == "1,490 parameters (1,490 trainable), 10.9 k FLOPs, 5.96 kB of state, 3.54 kB of results"
    )
    assert model.training and not any(any((m._hooks or {}).values()) for m in model.modules())


def test_a_summary_of_recurrence_attention_and_transposed_convolution_counts_their_products():
    assert nn.summary(nn.LSTM(3, 2, 2), (5, 4, 3)).flops == 2 * 20 * 8 * (3 + 2 + 2 + 2)
    assert nn.summary(nn.ConvTranspose1d(2, 3, 4, stride=2), (1, 2, 5)).flops == 2 * 2 * 3 * 4 * 5
    attention = nn.summary(nn.MultiheadAttention(4, 2, batch_first=True), *[(2, 3, 4)] * 3)
    assert attention.flops == 2 * 3 * 2 * 3 * 16 + 4 * 2 * 3 * 3 * 4 + 2 * 2 * 3 * 16


def test_a_summary_leaves_the_model_as_it_was_also_when_it_fails():
    model = nn.Sequential(nn.BatchNorm1d(2), nn.Dropout())
    model[1].eval()
    before = {k: v.tolist() for k, v in model.state_dict().items()}
    nn.summary(model, (4, 2))
    with pytest.raises(ShapeError, match="in 0, BatchNorm1d"):
        nn.summary(model, (4, 3))
    assert [m.training for m in model.modules()] == [True, True, False]
    assert {k: v.tolist() for k, v in model.state_dict().items()} == before
    assert not any(any((m._hooks or {}).values()) for m in model.modules())
