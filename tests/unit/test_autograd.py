"""Derivatives: the tape, its walks, and the functions built on them. Run on ``reference``, whose arithmetic is exact enough to compare."""

from __future__ import annotations

import functools
import gc
import threading
import weakref

import pytest

import corelib as cl
from corelib import nn, ops, optim
from corelib.errors import BackendError, DTypeError, GradientError, ShapeError
from corelib.walk import topological


@pytest.fixture(autouse=True)
def on_reference():
    with cl.use_backend("reference"):
        yield


def t(values, dtype=cl.float64):
    return cl.asarray(values, dtype=dtype)


def test_backward_collects_and_accumulates_into_leaves():
    x = t([1.0, 2.0]).requires_grad_()
    (x * x).sum().backward()
    assert x.grad.tolist() == [2.0, 4.0]
    (3 * x).sum().backward()
    assert x.grad.tolist() == [5.0, 7.0]


def test_a_shared_value_receives_the_sum_of_its_uses():
    x = t(3.0).requires_grad_()
    y = x * x
    (y * y + y).backward()  # x**4 + x**2
    assert x.grad.item() == 4 * 27 + 6


def test_broadcast_operands_get_gradients_of_their_own_shape():
    a, b = t([[1.0], [2.0]]).requires_grad_(), t([1.0, 2.0, 3.0]).requires_grad_()
    (a * b).sum().backward()
    assert a.grad.tolist() == [[6.0], [6.0]] and b.grad.tolist() == [3.0, 3.0, 3.0]


def test_mixed_dtypes_give_each_operand_a_gradient_of_its_own_dtype():
    a, b = t([1.0, 2.0], cl.float32).requires_grad_(), t([3.0, 4.0]).requires_grad_()
    (a * b).sum().backward()
    assert a.grad.dtype is cl.float32 and a.grad.tolist() == [3.0, 4.0]
    assert b.grad.dtype is cl.float64 and b.grad.tolist() == [1.0, 2.0]


def test_a_node_keeps_only_what_its_rule_reads():
    x, w = t([1.0, 2.0]).requires_grad_(), t([3.0, 4.0])
    assert (x + w)._node.saved == (None, None) or all(not hasattr(s, "data") for s in (x + w)._node.saved)
    kept = (x * w)._node.saved
    assert kept[0] is None and kept[1] is w._data  # the derivative in x reads w alone
    assert ops.exp(x)._node.saved == (None,) and ops.exp(x)._node.result is not None
    assert ops.sin(x)._node.result is None


def test_a_freed_graph_says_so_and_retain_graph_keeps_it():
    x = t(2.0).requires_grad_()
    y = x * x
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.item() == 8.0
    with pytest.raises(
        GradientError, match="freed by an earlier backward pass: call backward\\(retain_graph=True\\)"
    ):
        y.backward()


def test_backward_refuses_what_it_cannot_do():
    x = t([1.0, 2.0]).requires_grad_()
    with pytest.raises(ShapeError, match=r"shape \(2,\) needs a cotangent"):
        (x * x).backward()
    with pytest.raises(ShapeError, match=r"must be float64\[2\]"):
        (x * x).backward(t([1.0, 2.0, 3.0]))
    with pytest.raises(GradientError, match="without history"):
        t(1.0).backward()
    with pytest.raises(DTypeError, match="floating"):
        cl.asarray([1, 2]).requires_grad_()
    with pytest.raises(GradientError, match="with history"):
        (x * x).requires_grad_()


def test_graphs_have_no_reference_cycles():
    gc.collect()
    gc.disable()
    try:
        x = t([1.0, 2.0]).requires_grad_()
        y = ops.exp(x * x).sum()
        node = weakref.ref(y._node)
        y.backward()
        del y
        assert node() is None
        value, gradient = cl.value_and_grad(lambda v: ops.exp(v * v).sum())(x.detach())
        assert not gradient.requires_grad and not value.requires_grad
        del value, gradient, x
        assert gc.collect() == 0
        z = t([1.0, 2.0]).requires_grad_()
        (z**3).sum().backward(create_graph=True)
        z.grad.sum().backward()
        z.grad = None  # a recorded gradient of a leaf leads back to the leaf: here the circle is cut
        del z
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_training_makes_no_reference_cycles():
    gc.collect()
    net = nn.Sequential(
        nn.Linear(3, 5, device="reference"), nn.LayerNorm(5, device="reference"), nn.GELU(), nn.Dropout(0.2)
    )
    x, labels = t([[1.0, 2.0, 3.0], [0.5, -1.0, 2.0]]), cl.asarray([0, 4], device="reference")
    for optimizer in (optim.SGD(net.parameters(), momentum=0.9), optim.AdamW(net.parameters())):

        def step(optimizer=optimizer):
            optimizer.zero_grad()
            ops.cross_entropy(net(cl.checkpoint(lambda v: ops.tanh(v) * v)(x))[:, ::1], labels).backward()
            optimizer.step()

        step()  # what is made once may be: bound kernels, an optimizer's state
        step()
        gc.collect()
        gc.disable()
        try:
            step()
            assert gc.collect() == 0
        finally:
            gc.enable()


def test_a_deep_graph_needs_no_recursion():
    x = t(1.0).requires_grad_()
    y = x
    for _ in range(20000):
        y = y + x
    y.backward()
    assert x.grad.item() == 20001.0


def test_grad_of_grad_and_every_order():
    cube = lambda x: x**4
    x = t(2.0)
    assert cl.grad(cube)(x).item() == 32.0
    assert cl.grad(cl.grad(cube))(x).item() == 48.0
    assert cl.grad(cl.grad(cl.grad(cube)))(x).item() == 48.0
    assert cl.grad(cl.grad(cl.grad(cl.grad(cube))))(x).item() == 24.0


def test_nested_derivatives_do_not_confuse_their_variables():
    x = t(3.0)
    inner = lambda x: cl.grad(lambda y: x + y)(t(1.0))
    assert cl.grad(lambda x: x * inner(x))(x).item() == 1.0


def test_a_captured_leaf_is_differentiated_through_a_functional_gradient():
    w = t(5.0).requires_grad_()
    g = cl.grad(lambda x: w * x * x)(t(3.0))  # 2 w x
    g.backward()
    assert w.grad.item() == 6.0


def test_create_graph_records_the_backward_pass():
    x = t(2.0).requires_grad_()
    (x**3).backward(create_graph=True)
    first = x.grad
    x.grad = None
    first.backward()
    assert x.grad.item() == 12.0


def test_gradients_of_trees_and_auxiliary_results():
    params = {"w": t([1.0, 2.0]), "b": [t(0.5)]}
    (value, aux), grads = cl.value_and_grad(
        lambda p: ((p["w"] * p["w"]).sum() * p["b"][0], "aux"), has_aux=True
    )(params)
    assert value.item() == 2.5 and aux == "aux"
    assert grads["w"].tolist() == [1.0, 2.0] and grads["b"][0].item() == 5.0


def test_unused_arguments_have_zero_gradients():
    gx, gy = cl.grad(lambda x, y: x * 2, (0, 1))(t(1.0), t([1.0, 2.0]))
    assert gx.item() == 2.0 and gy.tolist() == [0.0, 0.0]


def test_vjp_can_be_called_again_and_jvp_agrees_with_it():
    f = lambda x, y: (ops.sin(x) * y, ops.exp(y))
    x, y = t([0.5, 1.0]), t([2.0, 3.0])
    (a, b), pullback = cl.vjp(f, x, y)
    u, v = t([1.0, -2.0]), t([0.5, 0.25])
    first, second = pullback((u, v)), pullback((u, v))
    assert [g.tolist() for g in first] == [g.tolist() for g in second]
    _, (da, db) = cl.jvp(f, (x, y), (t([1.0, 0.0]), t([0.0, 2.0])))
    forward = (da * u + db * v).sum().item()
    reverse = (first[0] * t([1.0, 0.0]) + first[1] * t([0.0, 2.0])).sum().item()
    assert forward == pytest.approx(reverse, rel=1e-14)
    assert a.shape == b.shape == (2,)


def test_forward_over_reverse_is_the_hessian_vector_product():
    f = lambda x: (x**3).sum()
    x, v = t([1.0, 2.0]), t([1.0, 10.0])
    _, hv = cl.jvp(cl.grad(f), (x,), (v,))
    assert hv.tolist() == [6.0, 120.0]


def test_jacobian_and_hessian():
    x = t([1.0, 2.0])
    j = cl.jacrev(lambda v: ops.concat([v * v, v.sum().reshape(1)]))(x)
    assert j.tolist() == [[2.0, 0.0], [0.0, 4.0], [1.0, 1.0]]
    h = cl.hessian(lambda v: v[0] * v[0] * v[1])(x)
    assert h.tolist() == [[4.0, 2.0], [2.0, 0.0]]


def test_no_grad_is_local_to_its_thread_and_nests():
    x = t(1.0).requires_grad_()
    seen = []
    with cl.no_grad():
        assert not (x * x).requires_grad
        with cl.enable_grad():
            assert (x * x).requires_grad
        worker = threading.Thread(target=lambda: seen.append((x * x).requires_grad))
        worker.start()
        worker.join()
    assert seen == [True] and cl.is_grad_enabled()

    @cl.no_grad()
    def f(v):
        return v * v

    assert not f(x).requires_grad


def test_stop_gradient_and_detach_are_constants():
    x = t(3.0).requires_grad_()
    (x * x.detach() + ops.stop_gradient(x)).backward()
    assert x.grad.item() == 3.0


def test_item_assignment_is_differentiable_and_rebinds():
    x, v = t([1.0, 2.0, 3.0]).requires_grad_(), t(10.0).requires_grad_()
    y = x * 1.0
    before = y
    saved = y * y  # the tape has seen the old value of y
    y[1] = v * 2
    assert saved.tolist() == [1.0, 4.0, 9.0] and before is y
    (y * y).sum().backward()
    assert x.grad.tolist() == [2.0, 0.0, 6.0] and v.grad.item() == 80.0


def test_a_leaf_cannot_be_changed_by_a_recorded_op():
    x = t([1.0, 2.0]).requires_grad_()
    with pytest.raises(GradientError, match="no_grad"):
        x += x
    with cl.no_grad():
        x += x
    assert x.tolist() == [2.0, 4.0] and x.requires_grad


def test_checkpoint_keeps_the_arguments_and_gives_the_same_gradients():
    calls = []

    def block(x, w):
        calls.append(1)
        return ops.sin(x * w) * x

    x, w = t([0.5, 1.5]), t([2.0, 3.0])
    plain = cl.grad(lambda a, b: block(a, b).sum(), (0, 1))(x, w)
    del calls[:]
    again = cl.grad(lambda a, b: cl.checkpoint(block)(a, b).sum(), (0, 1))(x, w)
    assert [g.tolist() for g in plain] == [g.tolist() for g in again] and len(calls) == 2
    y = cl.checkpoint(block)(x.requires_grad_(), w)
    assert len(topological([y._node])) == 2 and y._node.saved == ()  # one node, above the leaf


def test_a_callable_without_a_name_has_its_class_name_in_the_graph():
    class Double:
        def __call__(self, x):
            return x * 2

    x = t(3.0).requires_grad_()
    for y, name in (
        (cl.checkpoint(Double())(x), "Double"),
        (cl.checkpoint(functools.partial(ops.multiply, t(2.0)))(x), "partial"),
    ):
        assert y._node.op.name == name
        y.backward()
    assert x.grad.item() == 4.0
    y = cl.custom_gradient(functools.partial(lambda a, x: (a * x, lambda g: (None, g * a)), t(5.0)))(x)
    assert cl.vjp(lambda v: v * y, x)[0].item() == 45.0


def test_checkpoint_reaches_captured_tensors_and_intermediate_values():
    w = t(2.0).requires_grad_()
    z = w * w  # has history, and is captured
    y = cl.checkpoint(lambda x: ops.exp(x * z) * w)(t(0.5))
    (y + z).backward()
    expected = cl.grad(lambda v: ops.exp(0.5 * v * v) * v + v * v)(t(2.0))
    assert w.grad.item() == pytest.approx(expected.item(), rel=1e-15)


def test_checkpoint_second_order():
    f = lambda x: cl.checkpoint(lambda v: ops.sin(v) * v)(x)
    g = lambda v: ops.sin(v) * v
    x = t(0.7)
    assert cl.grad(cl.grad(f))(x).item() == pytest.approx(cl.grad(cl.grad(g))(x).item(), rel=1e-15)


def test_custom_gradient_replaces_the_rule_and_reaches_second_order():
    @cl.custom_gradient
    def clipped(x):
        return x * x, lambda g: g * x  # half the true derivative, on purpose

    x = t(3.0)
    assert cl.grad(clipped)(x).item() == 3.0
    assert cl.grad(cl.grad(clipped))(x).item() == 1.0
    assert clipped(x).item() == 9.0


def test_custom_gradient_checks_what_its_rule_returns():
    @cl.custom_gradient
    def wrong(x):
        return x * 2, lambda g: cl.asarray([1.0, 2.0, 3.0], dtype=cl.float64)

    with pytest.raises(GradientError, match=r"wrong: vjp returned float64\[3\] for an argument float64\[2\]"):
        cl.grad(lambda x: wrong(x).sum())(t([1.0, 2.0]))


def test_gradcheck_accepts_right_rules_and_refuses_wrong_ones():
    x = t([0.3, -0.7])
    assert cl.gradcheck(lambda v: ops.tanh(v) * v, [x])
    assert cl.gradgradcheck(lambda v: ops.tanh(v) * v, [x])

    @cl.custom_gradient
    def slightly_off(v):
        return ops.sin(v), lambda g: g * ops.cos(v) * 1.0001

    with pytest.raises(GradientError, match="element 0 of argument 0"):
        cl.gradcheck(slightly_off, [x])
    assert not cl.gradcheck(slightly_off, [x], raise_exception=False)


def test_gradients_follow_a_tensor_to_another_device_and_back():
    x = t([1.0, 2.0]).requires_grad_()
    y = x.to("cpu")
    assert y.device == "cpu"
    (y * y).sum().backward()
    assert x.grad.device == "reference" and x.grad.tolist() == [2.0, 4.0]


def test_nan_and_inf_pass_through():
    x = t([0.0, float("inf"), float("nan")]).requires_grad_()
    ops.log(x).sum().backward()
    assert x.grad.tolist()[:2] == [float("inf"), 0.0] and x.grad.tolist()[2] != x.grad.tolist()[2]


def test_where_keeps_an_unselected_nan_out_of_the_gradient():
    x = t([0.0, 4.0]).requires_grad_()
    safe = ops.where(x > 0, x, 1.0)
    ops.where(x > 0, ops.sqrt(safe), 0.0).sum().backward()
    assert x.grad.tolist() == [0.0, 0.25]


def test_power_of_zero():
    x = t([0.0, 2.0]).requires_grad_()
    (x**0).sum().backward()
    assert x.grad.tolist() == [0.0, 0.0]
    assert cl.grad(lambda p: (t([0.0, 2.0]) ** p).sum())(t(0.0)).item() == pytest.approx(0.6931471805599453)


def test_a_cotangent_on_another_device_is_refused():
    x = cl.ones((2,)).requires_grad_()
    y = x * 2
    with pytest.raises(
        BackendError,
        match=r"backward: the cotangent is on 'cpu', the result on 'reference': call g.to\('reference'\)",
    ):
        y.backward(cl.ones((2,), device="cpu"))
    y.backward(cl.ones((2,)))
    assert x.grad.tolist() == [2.0, 2.0] and x.grad.device == "reference"


def test_a_gradient_is_a_tensor():
    x = cl.ones((2,)).requires_grad_()
    with pytest.raises(DTypeError, match=r"\.grad must be a Tensor or None, got int"):
        x.grad = 5


def test_gradients_that_are_one_value_are_several_tensors():
    """The rule of add hands one cotangent to both operands: changing one gradient in place is about that one."""
    a, b = t([1.0, 2.0]).requires_grad_(), t([3.0, 4.0]).requires_grad_()
    g = t([5.0, 6.0])
    (a + b).backward(g)
    a.grad += 1
    assert a.grad.tolist() == [6.0, 7.0]
    assert b.grad.tolist() == g.tolist() == [5.0, 6.0]


def test_a_gradient_that_is_changed_in_place_is_not_the_one_of_the_next_backward():
    x = t(2.0).requires_grad_()
    x.backward()
    x.grad += 41
    y = t(2.0).requires_grad_()
    y.backward()
    assert y.grad.item() == 1.0


def test_cotangents_and_tangents_from_transformations_are_the_callers_own():
    x, y, g = t([1.0]), t([2.0]), t([3.0])
    _, pullback = cl.vjp(lambda a, b: a + b, x, y)
    first, second = pullback(g)
    first += 1
    assert (first.item(), second.item(), g.item()) == (4.0, 3.0, 3.0)
    _, tangent = cl.jvp(lambda a: +a, (x,), (g,))
    tangent += 1
    assert (tangent.item(), g.item()) == (4.0, 3.0)


def test_the_gradient_of_hypot_at_the_origin_is_that_of_a_norm():
    a, b = t([0.0, 3.0]).requires_grad_(), t([0.0, 4.0]).requires_grad_()
    ops.hypot(a, b).backward(t([5.0, 5.0]))
    assert (a.grad.tolist(), b.grad.tolist()) == ([0.0, 3.0], [0.0, 4.0])


@pytest.mark.parametrize("device", ["reference", "cpu"])
def test_forward_mode_where_one_operand_of_a_rule_is_constant(device):
    """solve keeps its first operand, whose tangent is zeros: of its shape and dtype, whatever a backend's array calls them."""
    a = cl.asarray([[2.0, 0.0], [0.0, 4.0]], dtype=cl.float32, device=device)
    b, v = (cl.asarray([x, 4.0], dtype=cl.float32, device=device) for x in (2.0, 6.0))
    y, dy = cl.jvp(lambda b: cl.linalg.solve(a, b), (b,), (v,))
    assert (y.tolist(), dy.tolist()) == ([1.0, 1.0], [3.0, 1.0])
