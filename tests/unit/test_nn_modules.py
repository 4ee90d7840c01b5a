"""Modules: what belongs to them and in which order, state, hooks, modes, devices, printing; layers and initial values."""

from __future__ import annotations

import copy
import math
import pickle
import statistics

import numpy as np
import pytest

import corelib
from corelib import nn, ops, optim
from corelib.errors import ArgumentError, CheckpointError, DTypeError, ShapeError
from corelib.nn import init

on_each = pytest.mark.parametrize(
    "device", ["reference", pytest.param("cpu", marks=pytest.mark.device("cpu"))]
)


@pytest.fixture(autouse=True)
def _on_reference():
    with corelib.use_backend("reference"):
        corelib.random.seed(0)
        yield


class Net(nn.Module):
    def __init__(self):
        self.scale = nn.Parameter(ops.ones((2,)))
        self.body = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2, bias=False))
        self.blocks = [nn.Linear(2, 2), {"norm": nn.LayerNorm(2)}]
        self.register_buffer("seen", ops.zeros((), dtype="int64"))
        self.register_buffer("cache", ops.zeros((2,)), persistent=False)
        self.mask = ops.ones((2,))

    def forward(self, x):
        self.seen += 1
        return self.blocks[1]["norm"](self.blocks[0](self.body(x))) * self.scale


NAMES = [
    "scale", "body.0.weight", "body.0.bias", "body.2.weight", "blocks.0.weight", "blocks.0.bias", "blocks.1.norm.weight",
    "blocks.1.norm.bias",
]  # fmt: skip


# -- contents ----------------------------------------------------------------------------------------------------


def test_parameters_come_in_the_order_of_assignment_also_out_of_lists_and_dictionaries():
    net = Net()
    assert [n for n, _ in net.named_parameters()] == NAMES
    assert [n for n, _ in net.named_buffers()] == ["seen", "cache"]
    assert [n for n, _ in net.named_children()] == ["body", "blocks.0", "blocks.1.norm"]
    assert [n for n, _ in net.named_modules()] == [
        "",
        "body",
        "body.0",
        "body.1",
        "body.2",
        "blocks.0",
        "blocks.1.norm",
    ]
    assert [n for n, _ in net.named_parameters(recurse=False)] == ["scale"]
    assert [n for n, _ in net.body.named_parameters("x")] == ["x.0.weight", "x.0.bias", "x.2.weight"]
    net.scale = nn.Parameter(ops.zeros((2,)))  # a new parameter keeps the place
    assert [n for n, _ in net.named_parameters()] == NAMES


def test_shared_modules_and_parameters_count_once_and_cycles_end():
    net = nn.Module()
    net.a, net.b = (nn.Linear(2, 2),) * 2
    net.c = nn.Linear(2, 2)
    net.c.weight = net.a.weight
    net.c.parent = net
    assert [n for n, _ in net.named_parameters()] == ["a.weight", "a.bias", "c.bias"]
    assert list(net.state_dict()) == ["a.weight", "a.bias", "b.weight", "b.bias", "c.weight", "c.bias"]
    net.load_state_dict(net.state_dict())


def test_a_parameter_is_a_leaf_that_survives_copying_and_pickling():
    p = nn.Parameter([1.0, 2.0])
    assert p.requires_grad
    assert not nn.Parameter([1.0], requires_grad=False).requires_grad
    for q in (copy.deepcopy(p), copy.copy(p), pickle.loads(pickle.dumps(p))):
        assert type(q) is nn.Parameter
        assert q.requires_grad
        assert q.tolist() == [1.0, 2.0]
    with corelib.no_grad():
        q += 1
    assert (p.tolist(), q.tolist()) == ([1.0, 2.0], [2.0, 3.0])
    net = Net()
    twin = copy.deepcopy(net)
    assert all(a is not b for a, b in zip(net.parameters(), twin.parameters(), strict=True))
    x = ops.ones((1, 3))
    assert twin(x).tolist() == net(x).tolist()
    with pytest.raises(DTypeError, match="needs a floating or complex dtype"):
        nn.Parameter([1, 2])


def test_a_parameter_is_not_silently_replaced_by_a_plain_tensor():
    layer = nn.Linear(2, 2)
    with pytest.raises(
        ArgumentError,
        match=r"Linear.weight is a parameter and cannot become a plain tensor: assign nn.Parameter",
    ):
        layer.weight = layer.weight * 2
    layer.bias = None
    assert layer(ops.ones((1, 2))).shape == (1, 2)


def test_what_has_no_forward_says_so():
    with pytest.raises(NotImplementedError, match=r"Module does not define forward\(\)"):
        nn.Module()(1)
    with pytest.raises(ArgumentError, match=r"element 1 must be a Module, got .*relu.*: use nn.ReLU\(\)"):
        nn.Sequential(nn.Identity(), ops.relu)


# -- modes, hooks, apply -----------------------------------------------------------------------------------------


def test_modes_reach_everything_below():
    net = Net()
    assert net.eval() is net
    assert not any(m.training for m in net.modules())
    net.train()
    assert all(m.training for m in net.modules())
    net.requires_grad_(False)
    assert not any(p.requires_grad for p in net.parameters())


def test_apply_visits_children_first():
    seen = []
    nn.Sequential(nn.Linear(1, 1), nn.Sequential(nn.Tanh())).apply(lambda m: seen.append(type(m).__name__))
    assert seen == ["Linear", "Tanh", "Sequential", "Sequential"]


def test_hooks_see_and_replace_arguments_and_results_until_removed():
    layer, log = nn.Identity(), []
    before = layer.register_forward_pre_hook(lambda m, args: (args[0] + 1,))
    after = layer.register_forward_hook(lambda m, args, y: y * 10)
    watch = layer.register_forward_hook(lambda m, args, y: log.append((args[0].item(), y.item())))
    assert layer(ops.ones(())).item() == 20
    assert log == [(2.0, 20.0)]
    before.remove()
    watch.remove()
    watch.remove()
    assert layer(ops.ones(())).item() == 10
    after.remove()
    assert layer(ops.ones(())).item() == 1
    assert len(log) == 1


def test_backward_hooks_see_and_replace_gradients_until_removed():
    layer, log = nn.Linear(2, 1, bias=False), []
    layer.load_state_dict({"weight": ops.asarray([[2.0, 3.0]])})
    x = ops.asarray([[1.0, 4.0]]).requires_grad_()
    before = layer.register_full_backward_pre_hook(lambda m, after: (after[0] * 10,))
    seen = layer.register_full_backward_hook(
        lambda m, grads, after: log.append((m is layer, grads[0].tolist(), after[0].tolist()))
    )
    halved = layer.register_full_backward_hook(lambda m, grads, after: (grads[0] * 0.5,))
    layer(x).sum().backward()
    assert log == [(True, [[20.0, 30.0]], [[10.0]])]
    assert x.grad.tolist() == [[10.0, 15.0]] and layer.weight.grad.tolist() == [[10.0, 40.0]]
    for handle in (before, seen, halved):
        handle.remove()
    x.grad = layer.weight.grad = None
    layer(x).sum().backward()
    assert len(log) == 1 and x.grad.tolist() == [[2.0, 3.0]] and layer.weight.grad.tolist() == [[1.0, 4.0]]


def test_backward_hooks_get_none_for_what_needs_no_gradient_and_run_without_any():
    class Pair(nn.Module):
        def __init__(self):
            self.w = nn.Parameter(ops.asarray([2.0]))

        def forward(self, x, factor, y):
            return x * self.w * factor, y * 1

    pair, log = Pair(), []
    pair.register_full_backward_hook(
        lambda m, grads, after: log.append([None if g is None else g.tolist() for g in (*grads, *after)])
    )
    x = ops.asarray([5.0]).requires_grad_()
    sum(pair(x, 3, ops.ones((1,)))).sum().backward()
    assert log == [[[6.0], None, None, [1.0], None]]
    log.clear()
    pair(ops.ones((1,)), 3, ops.ones((1,)))[0].sum().backward()  # only the weight needs one
    assert log == [[[1.0], None]]
    with corelib.no_grad():
        pair(x, 3, x)
    assert len(log) == 1


def test_a_backward_hook_is_recorded_where_derivatives_are_and_compiled():
    layer = nn.Linear(1, 1, bias=False)
    layer.load_state_dict({"weight": ops.asarray([[3.0]])})
    layer.register_full_backward_hook(lambda m, grads, after: (grads[0] * grads[0],))  # 3 becomes 9
    x = ops.asarray([[2.0]]).requires_grad_()
    slope = corelib.grad(lambda x: layer(x).sum())
    assert slope(x).tolist() == [[9.0]]
    slope(x).sum().backward()
    assert layer.weight.grad.tolist() == [[6.0]]  # of the square of the weight
    assert corelib.compile(lambda x: slope(x))(x.detach()).tolist() == [[9.0]]


def test_a_backward_hook_that_returns_something_else_is_refused():
    layer = nn.Linear(2, 2)
    x = ops.ones((1, 2)).requires_grad_()
    layer.register_full_backward_hook(lambda m, grads, after: (grads[0], grads[0]))
    with pytest.raises(ArgumentError, match="a backward hook returned 2 gradients for 1"):
        layer(x).sum().backward()
    layer = nn.Linear(2, 2)
    layer.register_full_backward_hook(lambda m, grads, after: (grads[0][0],))
    with pytest.raises(
        corelib.GradientError, match=r"Linear: a hook must return float32\[1, 2\] for each gradient"
    ):
        layer(x).sum().backward()


@pytest.mark.parametrize("hook", ["register_full_backward_hook", "register_full_backward_pre_hook"])
def test_backward_hooks_see_what_pytorchs_see(hook):
    torch = pytest.importorskip("torch", reason="torch is not installed (extra: bench)")
    x = np.linspace(-1, 1, 6, dtype="float32").reshape(3, 2)

    def run(nn, tensor):
        model, log = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1)), []
        with torch.no_grad(), corelib.no_grad():
            for p in model.parameters():
                p *= 0
                p += 0.3
        for child in (*model, model):
            getattr(child, hook)(
                lambda m, *grads: log.append(
                    [[None if g is None else g.tolist() for g in each] for each in grads]
                )
            )
        given = tensor(x).requires_grad_()
        (model(given) ** 2).sum().backward()
        return log

    ours, theirs = run(nn, ops.asarray), run(torch.nn, torch.tensor)
    assert len(ours) == len(theirs) == 4
    for a, b in zip(ours, theirs, strict=True):
        for mine, other in zip(a, b, strict=True):
            np.testing.assert_allclose(np.array(mine), np.array(other), rtol=1e-6)


@on_each
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_module_can_be_stored_in_half_precision(device, dtype):
    with corelib.use_backend(device):
        model = nn.Sequential(
            nn.Conv1d(2, 4, 3), nn.BatchNorm1d(4), nn.GELU(), nn.Flatten(), nn.LayerNorm(12), nn.Linear(12, 3)
        )
        x = corelib.random.normal((4, 2, 5))
        whole = model.eval()(x)
        state = model.to(getattr(corelib, dtype)).state_dict()
        assert {t.dtype.name for t in state.values()} == {dtype, "int64"}
        y = model(x.astype(dtype))
        assert y.dtype.name == dtype
        # each of six layers rounds values below 4 once, and the last ones gain at most a factor of 2 for each
        unit = corelib.finfo(getattr(corelib, dtype)).eps
        assert ops.max(abs(y.astype("float32") - whole)).item() < 24 * 4 * unit
        nn.functional.cross_entropy(y, corelib.arange(4) % 3).backward()
        optim.AdamW(model.parameters(), lr=1e-2).step()
        assert all(p.dtype.name == dtype and p.grad.dtype.name == dtype for p in model.parameters())
        model.to(corelib.float32).load_state_dict(
            {k: v.astype("float32") if v.dtype.kind == "float" else v for k, v in state.items()}
        )


# -- state -------------------------------------------------------------------------------------------------------


def test_state_is_a_snapshot_and_loads_back():
    net, x = Net(), ops.ones((2, 3))
    y = net(x)
    state = net.state_dict()
    assert list(state) == ["scale", "seen", *NAMES[1:]]  # the buffer that is not persistent is not in it
    before = {k: v.tolist() for k, v in state.items()}
    optimizer = optim.SGD(net.parameters(), lr=1.0)
    ops.sum(y).backward()
    optimizer.step()
    assert net.scale.tolist() != before["scale"]
    assert {k: v.tolist() for k, v in state.items()} == before
    other = Net()
    assert other.load_state_dict(state) == ([], [])
    assert other(x).tolist() == y.tolist()
    assert other.seen.item() == 2
    assert all(p.requires_grad and p.is_leaf for p in other.parameters())
    other.load_state_dict({k: v.numpy() for k, v in state.items()})  # arrays will do


def test_a_state_that_does_not_fit_is_refused_as_a_whole_with_nearest_names():
    net = Net()
    before = {k: v.tolist() for k, v in net.state_dict().items()}
    state = {k: v + 1 for k, v in net.state_dict().items()}
    state["body.0.wieght"] = state.pop("body.0.weight")
    state["body.0.bias"] = ops.zeros((5,))
    state["scale"] = ops.zeros((2,), dtype="float64")
    with pytest.raises(CheckpointError) as caught:
        net.load_state_dict(state)
    assert str(caught.value).splitlines() == [
        "load_state_dict: the state does not fit Net",
        "  missing: body.0.weight; did you mean 'body.0.wieght'?",
        "  unexpected: body.0.wieght; did you mean 'body.0.weight' or 'body.2.weight'?",
        "  different: scale is float32[2] here and float64[2] there: call module.to(corelib.float64) before",
        "  different: body.0.bias is float32[4] here and float32[5] there",
    ]
    with pytest.raises(CheckpointError, match="different"):
        net.load_state_dict(state, strict=False)
    assert {k: v.tolist() for k, v in net.state_dict().items()} == before
    del state["scale"], state["body.0.bias"]
    keys = net.load_state_dict(state, strict=False)
    assert keys.missing_keys == ["scale", "body.0.weight", "body.0.bias"]
    assert keys.unexpected_keys == ["body.0.wieght"]
    assert net.seen.item() == 1


def test_a_module_moves_to_another_dtype_in_place():
    net = nn.Linear(2, 2)
    weight = net.weight
    ops.sum(net(ops.ones((1, 2)))).backward()
    assert net.to(corelib.float64) is net
    assert net.weight is weight
    assert (weight.dtype, weight.grad.dtype, weight.is_leaf) == (corelib.float64, corelib.float64, True)
    assert net(ops.ones((1, 2), dtype="float64")).dtype is corelib.float64
    with pytest.raises(DTypeError, match="parameters need a floating dtype, got int64"):
        net.to(corelib.int64)


@pytest.mark.device("cpu")
def test_a_module_moves_to_another_device_in_place_and_trains_there():
    net = Net()
    x = ops.ones((2, 3))
    y = net(x)
    net.mask = None
    optimizer = optim.AdamW(net.parameters())
    net.to("cpu")
    assert {t.device for t in [*net.parameters(), *net.buffers()]} == {"cpu"}
    z = net(x.to("cpu"))
    np.testing.assert_allclose(z.numpy(), y.numpy(), rtol=1e-5)
    ops.sum(z * z).backward()
    optimizer.step()
    assert {t.device for t in optimizer.state[net.scale].values()} == {"cpu"}


# -- printing ----------------------------------------------------------------------------------------------------


def test_repr_shows_shapes_and_counts():
    assert repr(
        nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 10, dtype="float64"))
    ).splitlines() == [
        "Sequential(  # 203,530 parameters",
        "  (0): Linear(in_features=784, out_features=256)  # weight [256, 784], bias [256]: 200,960 parameters",
        "  (1): ReLU()",
        "  (2): Linear(in_features=256, out_features=10)  # weight float64[10, 256], bias float64[10]: 2,570 parameters",
        ")",
    ]
    assert repr(Net()).splitlines()[:2] == [
        "Net(  # scale [2]: 36 parameters",
        "  (body): Sequential(  # 24 parameters",
    ]
    assert repr(nn.GELU("tanh")) == "GELU(approximate='tanh')"
    assert (
        repr(nn.Embedding(5, 2, padding_idx=-1))
        == "Embedding(5, 2, padding_idx=4)  # weight [5, 2]: 10 parameters"
    )


# -- layers ------------------------------------------------------------------------------------------------------


def test_layers_are_their_functions():
    x = ops.asarray(np.linspace(-2, 2, 12, dtype="f4").reshape(2, 6))
    pairs = [
        (nn.ReLU(), ops.relu(x)), (nn.Sigmoid(), ops.sigmoid(x)), (nn.Tanh(), ops.tanh(x)), (nn.SiLU(), ops.silu(x)),
        (nn.GELU(), ops.gelu(x)), (nn.GELU("tanh"), ops.gelu(x, approximate="tanh")), (nn.Softplus(2.0), ops.softplus(x, 2.0)),
        (nn.LeakyReLU(0.2), ops.leaky_relu(x, 0.2)), (nn.ELU(0.5), ops.elu(x, 0.5)), (nn.Softmax(0), ops.softmax(x, axis=0)),
        (nn.LogSoftmax(), ops.log_softmax(x)), (nn.LogSigmoid(), ops.log_sigmoid(x)), (nn.Identity(), x),
        (nn.LayerNorm(6), ops.layer_norm(x)), (nn.RMSNorm((2, 6), 1e-3), ops.rms_norm(x, axis=(0, 1), eps=1e-3)),
    ]  # fmt: skip
    for layer, expected in pairs:
        np.testing.assert_array_equal(layer(x).numpy(), expected.numpy())
    losses = [
        (nn.MSELoss("sum"), ops.mse_loss(x, x * 2, reduction="sum")), (nn.L1Loss(), ops.l1_loss(x, x * 2)),
        (nn.HuberLoss(delta=0.5), ops.huber_loss(x, x * 2, delta=0.5)),
        (nn.BCEWithLogitsLoss(), ops.binary_cross_entropy_with_logits(x, x * 2)),
    ]  # fmt: skip
    for loss, expected in losses:
        assert loss(x, x * 2).item() == expected.item()


def test_flatten_and_sequential():
    x = ops.zeros((2, 3, 4, 5))
    assert nn.Flatten()(x).shape == (2, 60)
    assert nn.Flatten(0, 1)(x).shape == (6, 4, 5)
    assert nn.Flatten(1, -2)(x).shape == (2, 12, 5)
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU()).append(nn.Linear(3, 1))
    assert (len(net), type(net[1]), len(net[1:]), net[-1] is net[2]) == (3, nn.ReLU, 2, True)
    layers = nn.ModuleList([nn.Linear(1, 1) for _ in range(12)])
    assert [n for n, _ in layers.named_children()] == [str(i) for i in range(12)]
    assert len(layers) == 12


def test_layer_norm_refuses_other_sizes():
    with pytest.raises(
        ShapeError, match=r"layer_norm: the last axes must have shape \(4,\), x has shape \(2, 3\)"
    ):
        nn.LayerNorm(4)(ops.zeros((2, 3)))
    with pytest.raises(ShapeError, match=r"RMSNorm: the last axes must have shape \(2, 3, 4\)"):
        nn.RMSNorm((2, 3, 4))(ops.zeros((3, 4)))
    plain = nn.LayerNorm(3, elementwise_affine=False)
    assert list(plain.parameters()) == []
    assert [n for n, _ in nn.LayerNorm(3, bias=False).named_parameters()] == ["weight"]


def test_embedding_layer_starts_normal_and_does_not_learn_its_padding():
    layer = nn.Embedding(50, 20, padding_idx=-1)
    w = layer.weight.numpy()
    assert not w[49].any()
    assert abs(w[:49].std() - 1) < 0.1
    assert layer.weight.is_leaf
    ops.sum(layer(ops.asarray([49, 3]))).backward()
    assert layer.weight.grad.numpy().sum(1).nonzero()[0].tolist() == [3]
    with pytest.raises(ArgumentError, match="padding_idx 50 is out of range for 50 rows"):
        nn.Embedding(50, 2, padding_idx=50)


# -- initial values ----------------------------------------------------------------------------------------------


@on_each
def test_the_same_seed_gives_the_same_uniform_parameters_on_every_backend(device):
    expected = nn.Linear(30, 20, generator=corelib.random.Generator(3))
    found = nn.Linear(30, 20, device=device, generator=corelib.random.Generator(3))
    assert found.weight.device == device
    np.testing.assert_array_equal(found.weight.numpy(), expected.weight.numpy())
    bound = 1 / math.sqrt(30)
    for p in found.parameters():
        assert abs(p.numpy()).max() <= bound
        assert p.is_leaf
        assert p.requires_grad
    assert abs(found.weight.numpy().std() - bound / math.sqrt(3)) < 0.01


@pytest.mark.parametrize(
    ("fill", "std", "uniform"),
    [
        (lambda t: init.xavier_uniform_(t, gain=2.0), 2 * math.sqrt(2 / (60 * 4 + 80 * 4)), True),
        (lambda t: init.xavier_normal_(t), math.sqrt(2 / (60 * 4 + 80 * 4)), False),
        (lambda t: init.kaiming_uniform_(t, nonlinearity="relu"), math.sqrt(2 / (60 * 4)), True),
        (
            lambda t: init.kaiming_normal_(t, mode="fan_out", nonlinearity="relu"),
            math.sqrt(2 / (80 * 4)),
            False,
        ),
        (lambda t: init.kaiming_normal_(t, a=math.sqrt(5)), math.sqrt(1 / 3 / (60 * 4)), False),
    ],
    ids=["xavier_uniform", "xavier_normal", "kaiming_uniform", "kaiming_normal", "kaiming_leaky"],
)
def test_variance_follows_fan_and_gain(fill, std, uniform):
    t = nn.Parameter(ops.zeros((80, 60, 2, 2)))  # (out, in, *kernel): fan_in 240, fan_out 320
    assert fill(t) is t
    x = t.numpy().astype("f8")
    assert abs(x.std() / std - 1) < 0.02
    assert abs(x.mean()) < 5 * std / math.sqrt(x.size)
    assert (abs(x).max() <= std * math.sqrt(3) * (1 + 1e-6)) == uniform
    assert t.is_leaf


def test_gains_and_fans():
    assert init.calculate_gain("relu") == math.sqrt(2)
    assert init.calculate_gain("tanh") == 5 / 3
    assert init.calculate_gain("leaky_relu", 0.2) == pytest.approx(math.sqrt(2 / 1.04))
    with pytest.raises(ArgumentError, match="no gain for 'rellu'; did you mean 'relu'"):
        init.calculate_gain("rellu")
    with pytest.raises(ShapeError, match=r"a fan needs at least two axes .*\(3,\)"):
        init.xavier_uniform_(ops.zeros((3,)))
    with pytest.raises(ArgumentError, match="mode must be 'fan_in' or 'fan_out'"):
        init.kaiming_normal_(ops.zeros((3, 3)), mode="fan_avg")


@pytest.mark.parametrize("shape", [(8, 5), (5, 8), (6, 2, 3), (4, 2, 3)])
def test_orthogonal(shape):
    x = init.orthogonal_(ops.zeros(shape, dtype="float64"), gain=2.0).numpy().reshape(shape[0], -1)
    product = x.T @ x if x.shape[0] >= x.shape[1] else x @ x.T
    np.testing.assert_allclose(product, 4 * np.eye(len(product)), atol=1e-12)


def test_quantiles_of_the_normal_distribution():
    exact = statistics.NormalDist().inv_cdf
    p = [1e-300, 1e-20, 1e-5, 0.02, 0.0749, 0.0751, 0.3, 0.5, 0.9, 0.925, 0.93, 1 - 1e-10]
    found = init.normal_quantile(ops.asarray(p, dtype="float64")).numpy()
    np.testing.assert_allclose(found, [exact(v) for v in p], rtol=1e-13, atol=1e-15)


def test_truncated_normal_has_its_distribution():
    t = init.trunc_normal_(ops.zeros((20_000,)), mean=1.0, std=2.0, a=0.0, b=2.0)
    x = np.sort(t.numpy().astype("f8"))
    assert (x[0] >= 0, x[-1] <= 2) == (True, True)
    phi = statistics.NormalDist(1.0, 2.0).cdf
    expected = (np.vectorize(phi)(x) - phi(0)) / (phi(2) - phi(0))
    assert abs(expected - np.arange(1, x.size + 1) / x.size).max() < 1.63 / math.sqrt(
        x.size
    )  # Kolmogorov-Smirnov, 1 %
    with pytest.raises(ArgumentError, match="has no probability"):
        init.trunc_normal_(ops.zeros((3,)), a=50.0, b=60.0)
    with pytest.raises(ArgumentError, match="std > 0 and a < b"):
        init.trunc_normal_(ops.zeros((3,)), a=2.0, b=1.0)


def test_constants():
    t = nn.Parameter(ops.full((2,), 3.0))
    assert init.zeros_(t).tolist() == [0.0, 0.0]
    assert init.ones_(t).tolist() == [1.0, 1.0]
    assert init.constant_(t, 2.5).tolist() == [2.5, 2.5]
    assert t.requires_grad
