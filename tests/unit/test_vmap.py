"""vmap: axes, trees, nesting, mutation, random numbers, and what it refuses; every op is in test_transformed_ops.py."""

from __future__ import annotations

import collections

import pytest

import corelib as cl
from corelib import errors as err
from corelib import nn, ops, random


@pytest.fixture(params=["reference", "cpu"], autouse=True)
def device(request):
    with cl.use_backend(request.param):
        yield request.param


def t(values, dtype=cl.float64):
    return cl.asarray(values, dtype=dtype)


X = [[1.0, 2.0], [3.0, -4.0], [5.0, 0.5]]


def looped(f, *columns):
    return ops.stack([f(*row) for row in zip(*columns, strict=True)])


# -- axes and trees ------------------------------------------------------------------------------------------


def test_one_argument_is_a_loop_over_its_first_axis():
    f = lambda v: ops.softmax(v * 2.0) + v.sum()
    assert cl.vmap(f)(t(X)).tolist() == looped(f, t(X)).tolist()


def test_in_axes_names_an_axis_or_none_for_each_argument():
    f = lambda a, b, c: a * b - c
    a, b, c = t(X), t(X).T, t([10.0, 20.0])
    assert cl.vmap(f, (0, 1, None))(a, b, c).tolist() == (a * a - c).tolist()
    assert cl.vmap(f, (-2, -1, None))(a, b, c).tolist() == (a * a - c).tolist()


def test_in_axes_reaches_into_trees():
    pair = collections.namedtuple("Pair", "left right")
    f = lambda p, q: p["w"] * q.left + q.right[0]
    tree, two = {"w": t(X), "unused": None}, pair(t(X).T, [t([1.0, 2.0])])
    expected = (t(X) * t(X) + t([1.0, 2.0])).tolist()
    assert cl.vmap(f, ({"w": 0, "unused": None}, (1, None)))(tree, two).tolist() == expected
    assert cl.vmap(f, (0, pair(1, [None])))(tree, two).tolist() == expected


def test_keyword_arguments_are_shared():
    assert cl.vmap(lambda v, *, k: v * k)(t(X), k=t([2.0, 3.0])).tolist() == (t(X) * t([2.0, 3.0])).tolist()


def test_results_are_trees_with_an_axis_where_out_axes_says():
    f = lambda v: {"a": ops.concat([v, v]), "b": (v.sum(), None, 7)}
    y = cl.vmap(f, out_axes={"a": 1, "b": 0})(t(X))
    assert y["a"].shape == (4, 3) and y["b"][0].tolist() == [3.0, -1.0, 5.5]
    assert y["b"][1] is None and y["b"][2].tolist() == [7, 7, 7]
    assert cl.vmap(f, out_axes=-1)(t(X))["a"].tolist() == y["a"].tolist()


def test_a_result_that_no_example_changes_is_repeated_or_with_none_given_once():
    w = t([1.0, 2.0])
    assert cl.vmap(lambda v: w * 2)(t(X)).tolist() == [[2.0, 4.0]] * 3
    once, mapped = cl.vmap(lambda v: (w * 2, v), out_axes=(None, 0))(t(X))
    assert once.tolist() == [2.0, 4.0] and mapped.tolist() == X
    with pytest.raises(err.ArgumentError, match=r"result\[1\] is another one for each example"):
        cl.vmap(lambda v: (w, v), out_axes=None)(t(X))


def test_nesting_maps_one_axis_each():
    a, b = t([1.0, 2.0]), t([10.0, 20.0, 30.0])
    outer = cl.vmap(cl.vmap(lambda x, y: x + y, (None, 0)), (0, None))
    assert outer(a, b).tolist() == [[11.0, 21.0, 31.0], [12.0, 22.0, 32.0]]
    captured = cl.vmap(lambda x: cl.vmap(lambda y: x * y)(b))(a)
    assert captured.tolist() == [[10.0, 20.0, 30.0], [20.0, 40.0, 60.0]]
    deep = cl.vmap(cl.vmap(cl.vmap(lambda x: ops.sin(x) ** 2)))(t([[X]]))
    assert deep.shape == (1, 1, 3, 2)


def test_no_examples_give_an_empty_result():
    assert cl.vmap(lambda v: ops.softmax(v @ t(X).T))(t(X)[:0]).shape == (0, 3)
    assert cl.vmap(lambda v: random.normal((4,)))(t(X)[:0]).shape == (0, 4)


def test_zero_dimensional_examples_and_python_numbers():
    f = lambda x: 2 - x / 4 + (x > 1) * 10
    assert cl.vmap(f)(t([1.0, 2.0])).tolist() == [1.75, 11.5]
    assert cl.vmap(lambda x, k: x * k, (0, None))(t([1.0, 2.0]), 3).tolist() == [3.0, 6.0]


@pytest.mark.parametrize(
    "dtype", [cl.float16, cl.bfloat16, cl.float32, cl.complex64, cl.int32, cl.uint8, cl.bool]
)
def test_dtypes_stay(dtype):
    y = cl.vmap(lambda v: ops.concat([v, ops.flip(v)]))(t([[1, 0], [1, 1]], dtype))
    assert y.dtype is dtype and y.tolist() == [[1, 0, 0, 1], [1, 1, 1, 1]]
    assert cl.vmap(lambda v, w: v + w, (0, None))(
        t([1, 2], dtype), t([1.5], cl.float32)
    ).dtype is cl.result_type(dtype, cl.float32)


# -- what a function does inside -----------------------------------------------------------------------------


def test_creation_inside_belongs_to_the_transformation(device):
    def f(v):
        made = cl.zeros(3, dtype=cl.float64) + cl.asarray([1.0, 2.0, 3.0], dtype=cl.float64)
        assert (cl.arange(3, device=v.device).device, v.device) == (device, device)
        w = cl.ones(2, dtype=cl.float64).requires_grad_()
        (w * v).sum().backward()
        return made, w.grad

    made, grads = cl.vmap(f)(t(X))
    assert made.tolist() == [[1.0, 2.0, 3.0]] * 3 and grads.tolist() == X


def test_assignment_and_updates_in_place():
    def f(v, i):
        y = cl.zeros(3, dtype=cl.float64)
        y[0] = v[1]
        y[1:] += v
        y[i] = -1.0
        y[y > 2.5] = 9.0
        v += 1
        return y, v

    (y, v), x = cl.vmap(f)(t(X), t([0, 1, 2], cl.int64)), t(X)
    assert y.tolist() == [[-1.0, 1.0, 2.0], [-4.0, -1.0, -4.0], [0.5, 9.0, -1.0]]
    assert v.tolist() == (x + 1).tolist() and x.tolist() == X


def test_indexing_by_tensors_slices_and_masks():
    x, i = t([X, X, X]), t([2, 0, -1], cl.int64)
    for f in (
        lambda a, k: a[k], lambda a, k: a[:, k - 1], lambda a, k: a[ops.stack([k, k * 0]), 1], lambda a, k: a[..., ::-1],
        lambda a, k: ops.take(a, k, axis=0), lambda a, k: x[k], lambda a, k: ops.where(a > 1, a, 0.0),
    ):  # fmt: skip
        assert cl.vmap(f)(x, i).tolist() == looped(f, x, i).tolist()
    with pytest.raises(err.IndexOutOfBoundsError, match="index 3 is out of bounds"):
        cl.vmap(lambda a, k: a[k])(x, i + 1)


def test_functions_made_of_ops_work_as_they_are():
    for f in (
        lambda v: ops.einsum("i,j->ij", v, v), lambda v: ops.tensordot(v, v, axes=1), lambda v: ops.roll(v, 1), ops.diff,
        lambda v: ops.top_k(v, 1).values, lambda v: ops.repeat(v, 2), lambda v: cl.linalg.cross(ops.concat([v, v[:1]]), t([1.0, 2.0, 3.0])),
        lambda v: cl.fft.fft(v).real, lambda v: ops.meshgrid(v, v)[0], lambda v: cl.linalg.norm(v) if hasattr(cl.linalg, "norm") else v,
    ):  # fmt: skip
        assert ops.all(ops.isclose(cl.vmap(f)(t(X)), looped(f, t(X))))


def test_a_module_is_a_function():
    random.seed(0)
    net = nn.Sequential(nn.Linear(2, 4), nn.LayerNorm(4), nn.GELU(), nn.Linear(4, 3))
    x = t(X, cl.float32)
    assert ops.max(ops.abs(cl.vmap(net)(x) - net(x))).item() < 1e-6


def test_functional_call_makes_a_module_a_function_of_its_parameters():
    class Counting(nn.Module):
        def __init__(self):
            self.inner = nn.Linear(2, 3)
            self.register_buffer("calls", cl.zeros((), dtype=cl.float32))

        def forward(self, v):
            self.calls += 1
            return self.inner(v) + self.calls

    random.seed(0)
    net, x = Counting(), t(X, cl.float32)
    own = {name: p.detach() for name, p in net.named_parameters()}
    f = lambda p, v: nn.utils.functional_call(net, p, (v,)).sum()
    each = cl.vmap(cl.grad(f), (None, 0))(own, x)
    assert each["inner.weight"].tolist() == [[row] * 3 for row in x.tolist()]
    assert net.calls.item() == 0 and net.inner.weight.is_leaf and net.inner.weight.device == x.device
    stacked = {name: ops.stack([p, p * 2]) for name, p in own.items()}
    ensemble = cl.vmap(lambda p: nn.utils.functional_call(net, p, (x,)) - 1)(stacked)
    near = ops.abs(ensemble[1] - 2 * ensemble[0])
    assert ensemble.shape == (2, 3, 3) and ops.max(near).item() < 1e-5
    with pytest.raises(
        err.ArgumentError, match=r"Counting has no 'inner.wight'; did you mean 'inner.weight'"
    ):
        nn.utils.functional_call(net, {"inner.wight": own["inner.bias"]}, (x,))
    with pytest.raises(err.ShapeError, match=r"inner.bias must be float32\[3\], got float32\[3, 2\]"):
        nn.utils.functional_call(net, {"inner.bias": own["inner.weight"]}, (x,))


def test_attributes_of_a_mapped_tensor_are_those_of_one_example(device):
    seen = []
    cl.vmap(
        lambda v: seen.append((v.shape, v.ndim, v.dtype, v.device, len(v), repr(v), v.to(device).shape)) or v
    )(t(X))
    assert seen == [((2,), 1, cl.float64, device, 2, "Tensor(<vmap float64[2]>)", (2,))]


# -- derivatives ---------------------------------------------------------------------------------------------


def loss(w, x, y):
    return ops.cross_entropy(ops.tanh(x @ w["a"]) @ w["b"], y)


def parameters():
    return {"a": t([[0.1, -0.2, 0.3], [0.4, 0.5, -0.6]]), "b": t([[1.0, -1.0], [0.5, 0.25], [-0.75, 0.5]])}


def test_per_sample_gradients_are_the_gradients_of_the_samples():
    w, x, y = parameters(), t(X), t([0, 1, 0], cl.int64)
    each = [cl.grad(loss)(w, x[i], y[i]) for i in range(3)]
    together = cl.vmap(cl.grad(loss), (None, 0, 0))(w, x, y)
    for k in w:
        assert ops.max(ops.abs(together[k] - ops.stack([g[k] for g in each]))).item() < 1e-15
    values, _ = cl.vmap(cl.value_and_grad(loss), (None, 0, 0))(w, x, y)
    assert ops.max(ops.abs(values - looped(lambda a, b: loss(w, a, b), x, y))).item() < 1e-15


def test_the_gradient_of_a_mapped_function_keeps_all_there_is():
    """The flag belongs to a level: what is recorded below a batch is not lost, whatever the batch records."""
    w, x, y = parameters(), t(X), t([0, 1, 0], cl.int64)
    together = cl.grad(lambda w: cl.vmap(loss, (None, 0, 0))(w, x, y).sum())(w)
    for k in w:
        total = sum(cl.grad(loss)(w, x[i], y[i])[k] for i in range(3))
        assert ops.max(ops.abs(together[k] - total)).item() < 1e-14

    def steep(w):
        squares = cl.vmap(lambda a, b: (cl.grad(loss)(w, a, b)["a"] ** 2).sum())(x, y)
        return squares.sum()

    direct = cl.grad(lambda w: sum((cl.grad(loss)(w, x[i], y[i])["a"] ** 2).sum() for i in range(3)))(w)
    assert ops.max(ops.abs(cl.grad(steep)(w)["b"] - direct["b"])).item() < 1e-14


def test_leaves_outside_collect_gradients_through_vmap():
    w = t([1.0, 2.0]).requires_grad_()
    cl.vmap(lambda v: (v * w).sum())(t(X)).sum().backward()
    assert w.grad.tolist() == [9.0, -1.5]
    with cl.no_grad():
        assert not cl.vmap(lambda v: v * w)(t(X)).requires_grad


def test_detach_and_no_grad_inside_hold_outside():
    f = lambda w: cl.vmap(lambda v: (v * w * w.detach()).sum())(t(X)).sum()
    assert cl.grad(f)(t([1.0, 2.0])).tolist() == [9.0, -3.0]

    def g(w):
        def inner(v):
            with cl.no_grad():
                factor = w * 2
            return (factor * w).sum() * v[0]

        return cl.vmap(inner)(t(X)).sum()

    assert cl.grad(g)(t([1.0, 2.0])).tolist() == [18.0, 36.0]


def test_a_rule_of_ones_own_holds_at_every_level():
    @cl.custom_gradient
    def clipped(x):
        return x * 1, lambda g: ops.clip(g, -1, 1)

    x = t(X)
    f = lambda v: (clipped(v) * v.detach() * 2).sum()
    expected = cl.grad(lambda x: f(x))(x).tolist()
    assert cl.vmap(cl.grad(f))(x).tolist() == expected
    assert cl.grad(lambda x: cl.vmap(f)(x).sum())(x).tolist() == expected
    # a share of each example is clipped: 1 + 1 + 1 for the first element, 1 - 1 + 0.5 for the second
    shared = cl.grad(lambda w: cl.vmap(lambda v: (clipped(w + 0 * v) * v).sum())(x).sum())(t([1.0, 1.0]))
    assert shared.tolist() == [3.0, 0.5]


def test_checkpoint_inside_and_outside():
    w, x, y = parameters(), t(X), t([0, 1, 0], cl.int64)
    each = cl.vmap(cl.grad(loss), (None, 0, 0))(w, x, y)
    inside = cl.vmap(cl.grad(cl.checkpoint(loss)), (None, 0, 0))(w, x, y)
    assert all(inside[k].tolist() == each[k].tolist() for k in w)
    total = cl.grad(lambda w: cl.vmap(cl.checkpoint(loss), (None, 0, 0))(w, x, y).sum())(w)
    whole = cl.grad(cl.checkpoint(lambda w: cl.vmap(loss, (None, 0, 0))(w, x, y).sum()))(w)
    for k in w:
        assert ops.max(ops.abs(total[k] - each[k].sum(axis=0))).item() < 1e-14
        assert ops.max(ops.abs(whole[k] - each[k].sum(axis=0))).item() < 1e-14


# -- random numbers ------------------------------------------------------------------------------------------


def test_each_example_draws_its_own_numbers_as_in_a_loop():
    f = lambda v: v[0] + random.uniform((5,), dtype=cl.float64)
    random.seed(3)
    expected = looped(f, t(X))
    random.seed(3)
    assert cl.vmap(f)(t(X)).tolist() == expected.tolist()
    counter = random.get_state()["counter"].item()
    random.seed(3)
    looped(f, t(X))
    assert random.get_state()["counter"].item() == counter


def test_same_and_error_randomness():
    draw = lambda v: random.normal((2,))
    first, second, _ = cl.vmap(draw, randomness="same")(t(X)).tolist()
    assert first == second
    with pytest.raises(err.BackendError, match='draws random numbers, and randomness="error"'):
        cl.vmap(draw, randomness="error")(t(X))
    with pytest.raises(
        err.ArgumentError, match="randomness must be one of 'different', 'same', 'error', got 'fixed'"
    ):
        cl.vmap(draw, randomness="fixed")


def test_nested_draws_are_all_different():
    random.seed(0)
    drawn = cl.vmap(cl.vmap(lambda v: random.bits((3,))))(t(X))
    assert drawn.shape == (3, 2, 3) and len({w for row in drawn.tolist() for r in row for w in r}) == 18
    outer = cl.vmap(lambda v: cl.vmap(lambda u: random.bits((3,)), randomness="same")(v))(t(X)).tolist()
    assert outer[0][0] == outer[0][1] != outer[1][0]


def test_dropout_and_permutations_differ_and_the_derivative_draws_the_same():
    random.seed(0)
    drop = lambda v: nn.functional.dropout(v, 0.5)
    ones = cl.ones((4, 50), dtype=cl.float64)
    y, g = cl.vmap(lambda v: cl.value_and_grad(lambda v: (drop(v), drop(v))[0].sum())(v))(ones)
    assert len(set(y.tolist())) > 1 and g.sum(axis=1).tolist() == y.tolist()
    order = cl.vmap(lambda v: random.permutation(20))(t(X)).tolist()
    assert order[0] != order[1] and sorted(order[0]) == list(range(20))


def test_keys_and_counters_may_be_mapped():
    key, counters = random.Generator(1).key, t([0, 5, 7], cl.uint64)
    f = lambda k, c: ops.random_bits(k, c, (6,))
    expected = ops.stack([f(key, counters[i]) for i in range(3)]).tolist()
    assert cl.vmap(f, (None, 0))(key, counters).tolist() == expected
    keys = ops.stack([key, key + 1, key])
    expected = ops.stack([f(keys[i], counters[i]) for i in range(3)]).tolist()
    assert cl.vmap(f)(keys, counters).tolist() == expected


# -- refusals ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: cl.vmap(lambda a, b: a)(t(X), {"w": t(X)[:2]}), err.ShapeError,
         r"different sizes: args\[0\] of shape \(3, 2\) has 3 along axis 0, args\[1\]\['w'\] of shape \(2, 2\) has 2 along axis 0"),
        (lambda: cl.vmap(lambda a: a, 2)(t(X)), err.AxisError, r"in_axes 2 is out of range for args\[0\] of shape \(3, 2\)"),
        (lambda: cl.vmap(lambda a: a)(t(1.0)), err.AxisError, r"args\[0\] of shape \(\) has no axis 0 to map: give None"),
        (lambda: cl.vmap(lambda a, b: a)(t(X), 2.0), err.DTypeError, r"args\[1\] is 2.0, which has no axis to map"),
        (lambda: cl.vmap(lambda a: a, None)(t(X)), err.ArgumentError, "no argument is mapped"),
        (lambda: cl.vmap(lambda a: a, (0, 0))(t(X)), err.ArgumentError, "in_axes has entries 0, 1 for args, which has 0: give one for each"),
        (lambda: cl.vmap(lambda a: a, ({"v": 0},))({"w": t(X)}), err.ArgumentError, r"in_axes has entries 'v' for args\[0\], which has 'w'"),
        (lambda: cl.vmap(lambda a: a, ([0],))(t(X)), err.ArgumentError, "in_axes holds .* they must have one structure"),
        (lambda: cl.vmap(lambda a: a, 1.5)(t(X)), err.ArgumentError, r"in_axes holds integers and None, got 1.5"),
        (lambda: cl.vmap(lambda a: a, out_axes=3)(t(X)), err.AxisError, r"out_axes 3 is out of range for result"),
        (lambda: cl.vmap(lambda a: {"s": "text"})(t(X)), err.DTypeError, r"result\['s'\] must be a tensor, a number or None, got 'text'"),
        (lambda: cl.vmap(ops.nonzero)(t(X)), err.UnsupportedError, "nonzero: the shape of its result depends on values"),
        (lambda: cl.vmap(lambda v: v[v > 0])(t(X)), err.UnsupportedError, "nonzero: the shape"),
        (lambda: cl.vmap(ops.unique_values)(t(X)), err.UnsupportedError, "nonzero: the shape"),
        (lambda: cl.vmap(lambda v: v if v[0] > 0 else -v)(t(X)), err.BackendError, "a value was read inside vmap"),
        (lambda: cl.vmap(lambda v: v.item())(t([1.0])), err.BackendError, "a value was read inside vmap"),
        (lambda: cl.vmap(lambda v: v @ t([1.0]))(t(X)), err.ShapeError, r"matmul: shapes \(2,\) and \(1,\) do not fit"),
        (lambda: cl.vmap(lambda v: v.to("nowhere"))(t(X)), err.BackendError, "nowhere"),
    ],
)  # fmt: skip
def test_what_cannot_be_mapped_is_refused_in_words(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_tensors_from_outside_may_not_change_from_example_to_example():
    total, count = t([0.0, 0.0]), t(0.0)

    def f(v):
        nonlocal total, count
        count += 1
        total += v
        return v

    with pytest.raises(
        err.BackendError, match=r"vmap: the function changes a tensor from outside \(float64\[2\]\)"
    ):
        cl.vmap(f)(t(X))
    assert total.tolist() == [0.0, 0.0]

    def counted(v):
        nonlocal count
        count += 1
        return v

    count = t(0.0)
    cl.vmap(counted)(t(X))
    assert count.item() == 1.0 and count.device == t(0.0).device


def test_a_tensor_that_outlives_its_call_is_refused():
    kept = []
    cl.vmap(lambda v: kept.append(v) or v)(t(X))
    with pytest.raises(err.BackendError, match="two calls of vmap, one of which has ended"):
        cl.vmap(lambda v: v + kept[0])(t(X))
    with pytest.raises(err.BackendError, match="must not keep tensors"):
        cl.vmap(lambda v: kept[0])(t(X))


def test_an_op_without_a_rule_is_named(monkeypatch, device):
    from corelib.op import BY_NAME
    from corelib.registry import registry

    wrappers = registry.get(device).__dict__
    monkeypatch.setattr(BY_NAME["matmul"], "batch", None)
    monkeypatch.setitem(wrappers, "_wrappers", {})  # kernels are looked up again
    with pytest.raises(
        err.UnsupportedError, match=r"matmul: vmap has no rule for this contract op \(.*contract.py:\d+\)"
    ):
        cl.vmap(lambda v: v @ v)(t(X))


def test_explain_tells_how_an_op_is_mapped():
    from corelib.op import BY_NAME, OPS
    from corelib.support import batching

    assert not [op.name for op in OPS if "neither" in batching(op)]
    assert batching(BY_NAME["exp"]) == "operands broadcast behind the axis of the examples"
    assert batching(BY_NAME["sum"]) == "one more axis in front"
    assert "corelib/ops/batching.py" in batching(BY_NAME["matmul"])
    assert batching(BY_NAME["outer"]) == "its body, op by op"
    assert "depends on values" in batching(BY_NAME["nonzero"])
