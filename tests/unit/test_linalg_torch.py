"""Linear algebra and Fourier transforms against PyTorch in double precision, where it is installed: values, and the
gradients of every operand, of real and of complex matrices.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

import corelib as cl
from corelib import fft, linalg
from corelib.autograd import vjp
from corelib.ops import linalg_checks as checks

torch = pytest.importorskip("torch", reason="torch is not installed (extra: bench)")
L, F = torch.linalg, torch.fft
KINDS = ["real", "complex"]


def array(*shape, kind="real", seed=0):
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, shape)
    return x + 1j * rng.uniform(-1, 1, shape) if kind == "complex" else x


def regular(*shape, kind="real"):
    diagonal = [(-1) ** i * (i + 2.0) for i in range(min(shape[-2:]))]
    return array(*shape, kind=kind) / 2 + np.eye(*shape[-2:]) * np.pad(
        diagonal, (0, shape[-1] - len(diagonal))
    )


def positive(x):
    """A Hermitian positive definite matrix made of any, on either side."""
    return x @ adjoint(x) + eye(x)


def symmetric(x):
    return x + adjoint(x)


def adjoint(x):
    return x.mH if isinstance(x, torch.Tensor) else cl.conj(x.mT)


def eye(x):
    n = x.shape[-1]
    return (
        torch.eye(n, dtype=x.dtype)
        if isinstance(x, torch.Tensor)
        else cl.eye(n, dtype=x.dtype, device=x.device)
    )


# PyTorch's results up to what is arbitrary in them: as the invariants that the ops declare.
def weighted(v):
    return (v * torch.arange(1, v.shape[-1] + 1)) @ v.mH


def values_and_vectors(y):
    return y[0], weighted(y[1])


def in_any_order(y):
    w, v = y
    return w.sum(-1), (w * w).sum(-1), (v * w[..., None, :]) @ v.mH, v @ v.mH


def singular(y):
    u, s, vh = y
    return s, (u * torch.arange(1, u.shape[-1] + 1)) @ vh, weighted(u)


def of_values(w):
    return w.sum(-1), (w * w).sum(-1)


# name: (ours, theirs, operands of a kind)
CASES = {
    "solve": (linalg.solve, L.solve, lambda k: (regular(2, 3, 3, kind=k), array(2, 3, 2, kind=k))),
    "solve broadcast": (linalg.solve, L.solve, lambda k: (regular(3, 3, kind=k), array(2, 3, 2, kind=k))),
    "solve vector": (linalg.solve, L.solve, lambda k: (regular(3, 3, kind=k), array(3, kind=k))),
    "inv": (linalg.inv, L.inv, lambda k: (regular(2, 3, 3, kind=k),)),
    "det": (linalg.det, L.det, lambda k: (regular(2, 3, 3, kind=k),)),
    "slogdet": (linalg.slogdet, L.slogdet, lambda k: (regular(2, 3, 3, kind=k),)),
    "cholesky": (
        lambda x: linalg.cholesky(positive(x)),
        lambda x: L.cholesky(positive(x)),
        lambda k: (array(2, 3, 3, kind=k),),
    ),
    "cholesky of a leaf": (linalg.cholesky, L.cholesky, lambda k: (regular(3, 3, kind=k) @ regular(3, 3, kind=k).conj().T,)),
    "cholesky upper": (
        lambda x: linalg.cholesky(positive(x), upper=True),
        lambda x: L.cholesky(positive(x), upper=True),
        lambda k: (array(3, 3, kind=k),),
    ),
    "eigh": (
        lambda x: checks.eigh_invariant(linalg.eigh(symmetric(x))),
        lambda x: values_and_vectors(L.eigh(symmetric(x))),
        lambda k: (regular(2, 3, 3, kind=k),),
    ),
    "eigvalsh": (
        lambda x: linalg.eigvalsh(symmetric(x)),
        lambda x: L.eigvalsh(symmetric(x)),
        lambda k: (regular(3, 3, kind=k),),
    ),
    "eig": (
        lambda x: checks.eig_invariant(linalg.eig(x)),
        lambda x: in_any_order(L.eig(x)),
        lambda k: (array(2, 3, 3, kind=k),),
    ),
    "eigvals": (
        lambda x: checks.eigvals_invariant(linalg.eigvals(x)),
        lambda x: of_values(L.eigvals(x)),
        lambda k: (array(3, 3, kind=k),),
    ),
    **{
        f"qr {m}x{n} {mode}": (
            lambda x, mode=mode: checks.qr_invariant(linalg.qr(x, mode=mode), mode=mode),
            lambda x, mode=mode: (lambda q, r: (weighted(q), weighted(r.mH)))(*L.qr(x, mode=mode)),
            lambda k, m=m, n=n: (regular(2, m, n, kind=k),),
        )
        for m, n, mode in ((3, 3, "reduced"), (4, 2, "reduced"), (2, 4, "reduced"), (3, 3, "complete"), (2, 4, "complete"))
    },
    **{
        f"svd {m}x{n}": (
            lambda x: checks.svd_invariant(linalg.svd(x, full_matrices=False), full_matrices=False),
            lambda x: singular(L.svd(x, full_matrices=False)),
            lambda k, m=m, n=n: (regular(2, m, n, kind=k),),
        )
        for m, n in ((3, 3), (4, 2), (2, 4))
    },
    "svdvals": (linalg.svdvals, L.svdvals, lambda k: (regular(2, 4, 3, kind=k),)),
    "pinv tall": (linalg.pinv, L.pinv, lambda k: (regular(2, 4, 3, kind=k),)),
    "pinv wide": (linalg.pinv, L.pinv, lambda k: (regular(3, 4, kind=k),)),
    **{
        f"matrix_norm {order}": (
            lambda x, order=order: linalg.matrix_norm(x, ord=order),
            lambda x, order=order: L.matrix_norm(x, ord=order),
            lambda k: (regular(2, 3, 4, kind=k),),
        )
        for order in ("fro", "nuc", 1, 2, math.inf, -1, -2, -math.inf)
    },
    **{
        f"vector_norm {order}": (
            lambda x, order=order: linalg.vector_norm(x, ord=order, axis=-1),
            lambda x, order=order: L.vector_norm(x, ord=order, dim=-1),
            lambda k: (array(2, 3, kind=k),),
        )
        for order in (1, 2, 3, 0.5, -1, math.inf, -math.inf)
    },
    **{
        f"matrix_power {n}": (
            lambda x, n=n: linalg.matrix_power(x, n),
            lambda x, n=n: L.matrix_power(x, n),
            lambda k: (regular(2, 3, 3, kind=k),),
        )
        for n in (-2, 1, 5)
    },
    "cross": (linalg.cross, L.cross, lambda k: (array(2, 3, kind=k), array(2, 3, kind=k, seed=1))),
    "vecdot": (linalg.vecdot, L.vecdot, lambda k: (array(2, 3, kind=k), array(2, 3, kind=k, seed=1))),
    "matmul": (linalg.matmul, torch.matmul, lambda k: (array(2, 3, 4, kind=k), array(4, 2, kind=k, seed=1))),
    "outer": (linalg.outer, torch.outer, lambda k: (array(2, kind=k), array(3, kind=k, seed=1))),
    "trace": (linalg.trace, lambda x: x.diagonal(dim1=-2, dim2=-1).sum(-1), lambda k: (array(2, 3, 4, kind=k),)),
    "tensordot": (
        linalg.tensordot,
        lambda x1, x2: torch.tensordot(x1, x2, dims=2),
        lambda k: (array(2, 3, 4, kind=k), array(3, 4, 2, kind=k, seed=1)),
    ),
}  # fmt: skip


def transforms():
    for name in ("fft", "ifft", "rfft", "irfft", "hfft", "ihfft"):
        for n, norm in ((None, "backward"), (3, "ortho"), (6, "forward"), (7, "backward")):
            yield (
                f"{name} {n} {norm}",
                lambda x, name=name, n=n, norm=norm: getattr(fft, name)(x, n=n, axis=0, norm=norm),
                lambda x, name=name, n=n, norm=norm: getattr(F, name)(x, n=n, dim=0, norm=norm),
                lambda k: (array(5, 2, kind=k),),
            )
    for name in ("fftn", "ifftn", "rfftn", "irfftn"):
        yield (
            f"{name}",
            lambda x, name=name: getattr(fft, name)(x, s=(4, 3), axes=(0, 2), norm="ortho"),
            lambda x, name=name: getattr(F, name)(x, s=(4, 3), dim=(0, 2), norm="ortho"),
            lambda k: (array(3, 2, 4, kind=k),),
        )


CASES.update({name: rest for name, *rest in transforms()})
# Transforms of real numbers; and PyTorch passes on what the cotangent of Cholesky's real diagonal has of imaginary parts,
# where ours takes the Hermitian part.
OF_REAL = ("rfft", "ihfft", "cholesky of a leaf")
TRIED = [(name, kind) for name in CASES for kind in KINDS if kind == "real" or not name.startswith(OF_REAL)]


def several(y):
    return tuple(y) if isinstance(y, tuple | list) else (y,)


def close(actual, expected, tolerance=1e-10):
    actual = np.asarray(actual.tolist(), dtype=actual.dtype.numpy).reshape(actual.shape)
    expected = expected.detach().resolve_conj().numpy()
    assert (actual.shape, actual.dtype) == (expected.shape, expected.dtype)
    assert np.max(np.abs(actual - expected), initial=0) <= tolerance * max(
        1, np.max(np.abs(expected), initial=0)
    )


@pytest.mark.parametrize(("name", "kind"), TRIED)
def test_values_and_gradients_are_pytorchs(name, kind):
    """Of sizes up to 4 and condition numbers up to 100, both sides lose no more than six of sixteen digits."""
    ours, theirs, build = CASES[name]
    operands = build(kind)
    leaves = [torch.tensor(x, requires_grad=True) for x in operands]
    expected = several(theirs(*leaves))
    with cl.use_backend("reference"):
        ys, pullback = vjp(lambda *x: several(ours(*x)), *map(cl.asarray, operands))
        assert len(ys) == len(expected)
        for y, e in zip(ys, expected, strict=True):
            close(y, e)
        rng = np.random.default_rng(9)
        draw = lambda e: (
            rng.uniform(-1, 1, e.shape) + (1j * rng.uniform(-1, 1, e.shape) if e.is_complex() else 0)
        )
        weights = [draw(e) for e in expected]
        grads = pullback(tuple(cl.asarray(w) for w in weights))
    used = [(e, torch.tensor(w)) for e, w in zip(expected, weights, strict=True) if e.requires_grad]
    torch.autograd.backward([e for e, _ in used], [w for _, w in used])
    for g, leaf in zip(grads, leaves, strict=True):
        close(g, leaf.grad)
