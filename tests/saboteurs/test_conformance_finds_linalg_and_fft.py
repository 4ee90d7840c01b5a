"""Mistakes in decompositions and transforms: each planted one must be found, by the residual or the check that is meant to find it."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
from planting import Kernel, call, remade, result, run

from corelib import dtypes
from corelib.dtypes import float64
from corelib.op import BY_NAME

Matrix = list[list[Any]]


def matrices(x: Any) -> list[Matrix]:
    """The matrices of a stack, as lists of rows."""
    *_, m, n = x.shape
    rows = [list(x.data[i : i + n]) for i in range(0, len(x.data), n)] if n else []
    return [rows[i : i + m] for i in range(0, len(rows), m)] if m else []


def stacked(like: Any, found: list[Matrix]) -> Any:
    """The array of the shape of ``like`` with these matrices."""
    return remade(like, data=[v for matrix in found for row in matrix for v in row])


def each(change: Any) -> Any:
    """Each matrix of a stack replaced by ``change(matrix)``, of the same shape."""
    return lambda x: stacked(x, [change(a) for a in matrices(x)])


transposed = each(lambda a: [list(row) for row in zip(*a, strict=True)] if len(a) == len(a[0]) else a)
conjugated = lambda x: remade(x, data=[z.conjugate() for z in x.data]) if x.dtype.kind == "complex" else x


def upper_read(x: Any) -> Any:
    """The upper triangle, mirrored."""
    n = x.shape[-1]
    pick = lambda a: [[a[i][j] if i <= j else a[j][i].conjugate() for j in range(n)] for i in range(n)]
    return each(pick)(x)


def mirrored_columns(x: Any) -> Any:
    return each(lambda a: [row[::-1] for row in a])(x)


def unsorted(kernel: Kernel, x: Any, *, full_matrices: bool) -> Any:
    """The singular values in ascending order, with their vectors."""
    u, s, vh = kernel(x, full_matrices=full_matrices)
    k = s.shape[-1]
    if full_matrices or not s.data:
        return u, s, vh
    rows = [s.data[i : i + k][::-1] for i in range(0, len(s.data), k)]
    return mirrored_columns(u), remade(s, data=[v for r in rows for v in r]), each(lambda a: a[::-1])(vh)


def elimination(a: Matrix, sign: bool) -> Any:
    """The determinant by elimination with exchanges of rows, of which each should turn the sign."""
    a, value = [list(row) for row in a], 1.0
    for k in range(len(a)):
        pivot = max(range(k, len(a)), key=lambda i: abs(a[i][k]))
        if pivot != k:
            a[k], a[pivot] = a[pivot], a[k]
            value = -value if sign else value
        if not a[k][k]:
            return 0.0
        value *= a[k][k]
        for i in range(k + 1, len(a)):
            factor = a[i][k] / a[k][k]
            a[i] = [p - factor * q for p, q in zip(a[i], a[k], strict=True)]
    return value


def eliminated(sign: bool) -> Any:
    def changed(kernel: Kernel, x: Any) -> Any:
        found = kernel(x)
        if x.dtype is not float64 or not x.data:
            return found
        return remade(found, data=[elimination(a, sign) for a in matrices(x)])

    return call(changed)


def gram_schmidt(modified: bool) -> Any:
    """Columns of float64 made orthonormal one after the other: the classical way subtracts projections of the column itself, the
    modified one of what is left of it.
    """

    def changed(kernel: Kernel, x: Any, *, mode: str) -> Any:
        q, r = kernel(x, mode=mode)
        if x.dtype is not float64 or not x.data or x.shape[-2] < x.shape[-1]:
            return q, r
        pairs = [orthonormalised(a, modified) for a in matrices(x)]
        return stacked(q, [p for p, _ in pairs]), stacked(r, [p for _, p in pairs])

    return call(changed)


def orthonormalised(a: Matrix, modified: bool) -> tuple[Matrix, Matrix]:
    columns, basis = [list(c) for c in zip(*a, strict=True)], []
    n = len(columns)
    r = [[0.0] * n for _ in range(n)]
    for j, column in enumerate(columns):
        left = column
        for i, b in enumerate(basis):
            r[i][j] = math.fsum(p * q for p, q in zip(b, left if modified else column, strict=True))
            left = [p - r[i][j] * q for p, q in zip(left, b, strict=True)]
        r[j][j] = math.sqrt(math.fsum(p * p for p in left))
        basis.append([p / r[j][j] for p in left])
    return [list(row) for row in zip(*basis, strict=True)], r


def unconjugated(kernel: Kernel, x: Any, *, upper: bool) -> Any:
    return conjugated(kernel(x, upper=True)) if upper else kernel(x, upper=upper)


def twice_the_first(kernel: Kernel, x: Any) -> Any:
    """The first eigenvalue and its vector in the second place as well: each is one, but one is missing."""
    w, v = kernel(x)
    n = x.shape[-1]
    if n < 2:
        return w, v
    values = [w.data[i] if i % n != 1 else w.data[i - 1] for i in range(len(w.data))]
    vectors = each(lambda a: [[row[0], row[0], *row[2:]] for row in a])(v)
    return remade(w, data=values), vectors


def real_values_only(kernel: Kernel, x: Any) -> Any:
    w, v = kernel(x)
    return (remade(w, data=[complex(z.real) for z in w.data]), v) if x.dtype.kind == "float" else (w, v)


def conjugate_transform(kernel: Kernel, x: Any, **params: Any) -> Any:
    """exp(+ 2 pi i j k / n): the conjugate of the transform of the conjugate."""
    return conjugated(kernel(conjugated(x), **params))


def always(norm: str) -> Any:
    return call(lambda kernel, x, **params: kernel(x, **{**params, "norm": norm}))


def last_bin_lost(kernel: Kernel, x: Any, *, n: int, axis: int, norm: str) -> Any:
    """The middle element of an even number, as if it were not there."""
    found = kernel(x, n=n, axis=axis, norm=norm)
    if n % 2 or axis != -1:
        return found
    bins = n // 2 + 1
    return remade(found, data=[0j if i % bins == bins - 1 else z for i, z in enumerate(found.data)])


def one_bin_short(kernel: Kernel, x: Any, *, n: int, axis: int, norm: str) -> Any:
    found = kernel(x, n=n, axis=axis, norm=norm)
    if axis != -1 or n % 2:
        return found
    bins = n // 2 + 1
    data = [z for i, z in enumerate(found.data) if i % bins != bins - 1]
    return remade(found, shape=(*found.shape[:-1], bins - 1), data=data)


def padding_forgotten(kernel: Kernel, x: Any, *, n: int, axis: int, norm: str) -> Any:
    """The length of x for the length asked for, where that is longer: the results are those, repeated."""
    found = kernel(x, n=n, axis=axis, norm=norm)
    size = x.shape[axis]
    if not 0 < size < n or axis != -1:
        return found
    short = kernel(x, n=size, axis=axis, norm=norm)
    return remade(found, data=[short.data[i // n * size + i % n % size] for i in range(len(found.data))])


RESIDUAL = r"residual \d is (\d|inf)\S*, allowed: \d"

# name: (op, its kernel changed, the check that finds it, words of its reason)
SABOTEURS = {
    "transform with the wrong sign": ("fft", call(conjugate_transform), "value", RESIDUAL),
    "transform without its factor": ("ifft", always("forward"), "value", RESIDUAL),
    "norm ignored": ("rfft", always("backward"), "value", RESIDUAL),
    "the last bin is zero": ("rfft", call(last_bin_lost), "value", RESIDUAL),
    "the last bin is dropped": ("rfft", call(one_bin_short), "value", r"the result is complex64\[2, 3, 3\], expected complex64\[2, 3, 4\]"),
    "zeros not appended": ("fft", call(padding_forgotten), "value", RESIDUAL),
    "eigh reads the upper triangle": ("eigh", call(lambda k, x: k(upper_read(x))), "special", RESIDUAL),
    "eigenvectors transposed": ("eigh", result(lambda y: (y[0], transposed(y[1]))), "value", RESIDUAL),
    "eigenvectors not normalised": ("eig", result(lambda y: (y[0], remade(y[1], data=[2 * z for z in y[1].data]))), "value", RESIDUAL),
    "an eigenvalue is missing": ("eig", call(twice_the_first), "value", RESIDUAL),
    "eigenvalues of a rotation taken as real": ("eig", call(real_values_only), "special", RESIDUAL),
    "cholesky reads the upper triangle": ("cholesky", call(lambda k, x, *, upper: k(upper_read(x), upper=upper)), "special", RESIDUAL),
    "the upper factor is not conjugated": ("cholesky", call(unconjugated), "value", RESIDUAL),
    "singular values ascend": ("svd", call(unsorted), "value", "residual 3 is inf"),
    "V for its adjoint": ("svd", result(lambda y: (y[0], y[1], transposed(conjugated(y[2])))), "value", RESIDUAL),
    "the transposed system is solved": ("solve", call(lambda k, x1, x2: k(transposed(x1), x2)), "value", RESIDUAL),
    "the sign of exchanged rows is lost": ("det", eliminated(False), "special", RESIDUAL),
    "classical Gram-Schmidt": ("qr", gram_schmidt(False), "special", r"residual 1 is \d\.\d+, allowed: \d.*e-1\d"),
    "lower triangle not cleared": ("qr", result(lambda y: (y[0], each(lambda a: [[v or 1e-3 for v in r] for r in a])(y[1]))), "value", RESIDUAL),
    "negative determinants have sign 1": ("slogdet", result(lambda y: (remade(y[0], data=[abs(s) if isinstance(s, float) else s for s in y[0].data]), y[1])),
                                          "value", RESIDUAL),
    "a determinant in log base 2": ("slogdet", result(lambda y: (y[0], remade(y[1], data=[v / math.log(2) for v in y[1].data]))), "value", RESIDUAL),
}  # fmt: skip


@pytest.mark.parametrize("name", SABOTEURS)
def test_mistake_is_found(name, plant):
    op, change, what, words = SABOTEURS[name]
    report = run(plant(**{op: change}), op, what=[what])
    reasons = [outcome.reason for outcome in report.failures]
    assert any(re.search(words, reason) for reason in reasons), [
        (o.case.id, o.reason) for o in report.failures
    ][:5]
    assert report.generated == len(report.outcomes)


@pytest.mark.parametrize("op", dict.fromkeys(op for op, *_ in SABOTEURS.values()))
def test_the_same_cases_pass_on_the_sound_backend(op):
    assert run("reference", op, what=["value", "special"]).ok


def test_an_algorithm_that_is_sound_passes_where_its_neighbour_fails(plant):
    """Elimination that counts its exchanges of rows; other signs than the reference's."""
    turned = result(lambda y: tuple(remade(a, data=[-v for v in a.data]) for a in y))
    assert run(plant(det=eliminated(True), qr=turned), "det", "qr", what=["value", "special"]).ok


def test_gradients_do_not_see_the_sign_of_a_vector(plant):
    """-V is as good as V, and what is made of it must have the same gradient."""
    turned = result(lambda y: (y[0], remade(y[1], data=[-v for v in y[1].data])))
    report = run(plant(eigh=turned), "eigh", kinds=[dtypes.float32, dtypes.complex64])
    assert report.ok
    assert any(outcome.case.what == "gradient" for outcome in report.outcomes)


def test_a_gradient_that_forgets_a_phase_is_found(monkeypatch):
    from corelib.conformance import check
    from corelib.op import Derivative

    op = BY_NAME["eigh"]
    right = op.derivative
    assert check("reference", [op], [dtypes.complex128], what=["laws"]).ok

    def wrong(g: Any, x: Any, y: Any) -> Any:
        found = right.rules[0](g=g, x=x, y=y) if "x" in names else right.rules[0](g=g, y=y)
        return (found[0] * 1.001,) if isinstance(found, tuple) else found * 1.001

    names = [name for name, *_ in right.reads[0]]
    monkeypatch.setattr(op, "derivative", Derivative(op, "vjp", wrong, right.jvp))
    assert not check("reference", [op], [dtypes.complex128], what=["laws"]).ok
