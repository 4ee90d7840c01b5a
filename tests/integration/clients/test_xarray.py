"""xarray's labelled arrays over tensors. docs/clients.md lists what runs, and what does not."""

from __future__ import annotations

import re

import numpy as np
import pytest
import xarray as xr

import corelib as cl
from corelib.errors import DTypeError

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(2, 4, 3))
T = RNG.normal(size=(2, 4, 3))
V, W = RNG.normal(size=4), RNG.normal(size=3)
GAPS = np.where(X > 1, np.nan, X)
COUNTS = np.arange(12).reshape(4, 3)
GROUPS = xr.DataArray(["a", "b", "a", "b"], dims="x", name="group")


def labelled(a, values, dims="xy"):
    return xr.DataArray(a(values), dims=list(dims), coords={"x": [10, 20, 30, 40]} if "x" in dims else None)


def dataset(a):
    return xr.Dataset({"u": labelled(a, X), "v": labelled(a, Y)})


def assigned(a):
    x = labelled(a, X).copy()
    x[0] = 1.0
    x.loc[{"x": 30}] = 2.0
    return x


def of(x):
    """The reduction of tensors or of NumPy's arrays, for ``DataArray.reduce``."""
    return cl if isinstance(x.data, cl.Tensor) else np


REDUCTIONS = {
    f"{name}({axis})": (lambda a, name=name, axis=axis: getattr(labelled(a, X), name)(axis, skipna=False))
    for name in ("sum", "mean", "max", "min", "prod", "argmax", "argmin") for axis in ("x", None) if axis or "arg" not in name
}  # fmt: skip

RUNS = {
    **REDUCTIONS,
    "sum": lambda a: labelled(a, GAPS).sum("x"),
    "sum(int)": lambda a: labelled(a, COUNTS).sum("y"),
    "any": lambda a: (labelled(a, X) > 0).any("x"),
    "all": lambda a: (labelled(a, X) > -1).all(),
    "count": lambda a: labelled(a, GAPS).count("y"),
    "reduce(std)": lambda a: (lambda x: x.reduce(of(x).std, "x"))(labelled(a, X)),
    "reduce(var)": lambda a: (lambda x: x.reduce(of(x).var, ("x", "y")))(labelled(a, X)),
    "reduce(cumulative_sum)": lambda a: (lambda x: x.reduce(of(x).cumulative_sum, "x"))(labelled(a, X)),
    "arithmetic": lambda a: 2 / (1 + (labelled(a, X) + labelled(a, Y) * 3) ** 2) - labelled(a, W, "y"),
    "comparison": lambda a: (labelled(a, X) > 0) & ~(labelled(a, Y) >= 0.5),
    "negation and abs": lambda a: -abs(labelled(a, X)),
    "broadcasting by name": lambda a: labelled(a, V, "x") * labelled(a, W, "y"),
    "alignment by label": lambda a: labelled(a, X) + labelled(a, Y).assign_coords(x=[20, 30, 40, 50]),
    "broadcast": lambda a: xr.broadcast(labelled(a, V, "x"), labelled(a, W, "y")),
    "isel": lambda a: (labelled(a, X).isel(x=1), labelled(a, X).isel(x=slice(0, 2), y=[0, 2]), labelled(a, X)[1:, 0]),
    "sel": lambda a: (labelled(a, X).sel(x=[20, 40]), labelled(a, X).sel(x=21, method="nearest"), labelled(a, X).loc[20:30]),
    "assignment": assigned,
    "where": lambda a: xr.where(labelled(a, X) > 0, labelled(a, X), 0.0),
    "DataArray.where(cond, other)": lambda a: labelled(a, X).where(labelled(a, X) > 0, -1.0),
    "concat": lambda a: (xr.concat([labelled(a, X), labelled(a, Y)], "x"), xr.concat([labelled(a, X), labelled(a, Y)], "new")),
    "dot": lambda a: (xr.dot(labelled(a, X), labelled(a, Y), dim="y"), labelled(a, X) @ labelled(a, W, "y")),
    "dot(three dimensions)": lambda a: xr.dot(labelled(a, T, "txy"), labelled(a, X), dim="y"),
    "transpose": lambda a: (labelled(a, T, "txy").transpose("y", "t", "x"), labelled(a, X).T),
    "stack and unstack": lambda a: (labelled(a, X).stack(z=("x", "y")), labelled(a, X).stack(z=("x", "y")).unstack("z")),
    "expand_dims and squeeze": lambda a: labelled(a, X).expand_dims("t").squeeze("t"),
    "clip and round": lambda a: labelled(a, X).clip(-0.5, 0.5).round(),
    "astype": lambda a: labelled(a, X).astype("float32"),
    "fillna": lambda a: labelled(a, GAPS).fillna(0.0),
    "isnull": lambda a: (labelled(a, GAPS).isnull(), labelled(a, GAPS).notnull()),
    "dropna": lambda a: labelled(a, GAPS).dropna("x"),
    "combine_first": lambda a: labelled(a, GAPS).combine_first(labelled(a, X)),
    "diff, roll, pad": lambda a: labelled(a, X).diff("x").roll(x=1).pad(x=1, constant_values=0.0),
    "sortby": lambda a: labelled(a, X).sortby("x", ascending=False),
    "integrate": lambda a: labelled(a, X).integrate("x"),
    "apply_ufunc": lambda a: xr.apply_ufunc(of(labelled(a, X)).tanh, labelled(a, X)),
    "ufuncs": lambda a: xr.ufuncs.exp(labelled(a, X)),
    "zeros_like": lambda a: (xr.zeros_like(labelled(a, X)), xr.full_like(labelled(a, X), 2.0)),
    "real and imag": lambda a: (labelled(a, X).real, labelled(a, X).imag),
    "groupby": lambda a: (labelled(a, X).groupby(GROUPS).sum(), labelled(a, X).groupby(GROUPS).mean(skipna=False)),
    "groupby.map": lambda a: labelled(a, X).groupby(GROUPS).map(lambda x: x - x.mean("x", skipna=False)),
    "Dataset": lambda a: (dataset(a) + 1, dataset(a).isel(x=0), dataset(a).map(abs), dataset(a).to_dataarray()),
    "Dataset.mean": lambda a: dataset(a).mean("x", skipna=False),
    "Dataset.groupby": lambda a: dataset(a).groupby(GROUPS).sum(),
    "merge": lambda a: xr.merge([dataset(a), xr.Dataset({"w": labelled(a, V, "x")})]),
}  # fmt: skip

# Leaving NaN out is the default for reductions of floating values: all but sum go to NumPy for it.
THROUGH_NUMPY = {
    name: (lambda a, name=name: getattr(labelled(a, GAPS), name)("x"))
    for name in (
        "mean",
        "std",
        "var",
        "max",
        "min",
        "prod",
        "median",
        "argmax",
        "argmin",
        "cumsum",
        "cumprod",
    )
}

REFUSED = {
    "std(skipna=False)": (lambda a: labelled(a, X).std("x", skipna=False), TypeError, "ddof"),
    "cumsum(skipna=False)": (lambda a: labelled(a, X).cumsum("x", skipna=False), AttributeError, "no attribute 'cumsum'"),
    "median(skipna=False)": (lambda a: labelled(a, X).median("x", skipna=False), AttributeError, "no attribute 'median'"),
    "mean(int)": (lambda a: labelled(a, COUNTS).mean("x"), DTypeError, "mean does not accept int64"),
    "where(cond)": (lambda a: labelled(a, X).where(labelled(a, X) > 0), TypeError, "must be one of an extension array"),
    "shift": (lambda a: labelled(a, X).shift(x=1), TypeError, "must be one of an extension array"),
    "reindex": (lambda a: labelled(a, X).reindex(x=[10, 50]), TypeError, "must be one of an extension array"),
    "align(join='outer')": (
        lambda a: xr.align(labelled(a, X), labelled(a, Y).assign_coords(x=[0, 1, 2, 3]), join="outer"),
        TypeError, "must be one of an extension array"),
    "weighted": (lambda a: labelled(a, X).weighted(labelled(a, np.abs(V), "x")).mean("x"), TypeError, "must be one of an extension array"),
    "corr": (lambda a: xr.corr(labelled(a, X), labelled(a, Y), "x"), TypeError, "must be one of an extension array"),
    "rolling": (lambda a: labelled(a, X).rolling(x=2).mean(), AttributeError, "no attribute 'lib'"),
    "differentiate": (lambda a: labelled(a, X).differentiate("x"), AttributeError, "no attribute 'gradient'"),
    "quantile": (lambda a: labelled(a, X).quantile(0.5, "x"), AttributeError, "no attribute 'quantile'"),
    "interp": (lambda a: labelled(a, X).interp(x=15.0), TypeError, "interp only works for a numeric type array"),
    "isin": (lambda a: labelled(a, COUNTS).isin([1, 2]), DTypeError, "isin: x2 must be a Tensor"),
    "isel(vectorized)": (
        lambda a: labelled(a, X).isel(x=xr.DataArray([0, 1], dims="p"), y=xr.DataArray([1, 2], dims="p")),
        TypeError, "Vectorized indexing is not supported"),
    "np.sin": (lambda a: np.sin(labelled(a, X)), TypeError, "does not support ufuncs"),
}  # fmt: skip


def values(result):
    """The arrays of labelled arrays, data sets and tuples of these, which must be labelled alike."""
    if isinstance(result, tuple):
        return tuple(values(part) for part in result)
    if isinstance(result, xr.Dataset):
        return tuple(variable.data for variable in result.data_vars.values())
    return result.data


def labels(result):
    if isinstance(result, tuple):
        return [labels(part) for part in result]
    return dict(result.sizes), {
        name: coordinate.values.tolist() for name, coordinate in result.coords.items()
    }


@pytest.mark.parametrize("name", RUNS)
def test_it_agrees_with_numpy(name, agree):
    agree(lambda a: values(RUNS[name](a)), ulp=8)  # sums of at most 12 elements and a few operations
    np.testing.assert_equal(labels(RUNS[name](cl.asarray)), labels(RUNS[name](np.copy)))


@pytest.mark.parametrize("name", THROUGH_NUMPY)
def test_skipping_nan_returns_numpys_arrays_but_loses_no_gradient(name, device):
    assert isinstance(THROUGH_NUMPY[name](cl.asarray).data, np.ndarray)
    with pytest.raises(cl.GradientError, match="NumPy would take the values"):
        THROUGH_NUMPY[name](lambda a: cl.asarray(a).requires_grad_())


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_run(name, device):
    call, error, words = REFUSED[name]
    with pytest.raises(error, match=words):
        call(cl.asarray)


def test_it_shows_and_compares(device):
    x = labelled(cl.asarray, X.astype(np.float32))
    assert "Tensor" in repr(x) and "xarray.DataArray" in x._repr_html_()
    assert "corelib.float64" in repr(dataset(cl.asarray))
    assert x.nbytes == 48 and abs(float(x.sum()) - X.sum()) <= 12 * 2**-24 * np.abs(X).sum()  # 12 roundings
    assert isinstance(x.values, np.ndarray)
    assert x.identical(x.copy()) and x.equals(labelled(cl.asarray, X.astype(np.float32))) and not x.equals(-x)
    xr.testing.assert_allclose(x, x + 1e-9)


def test_gradients_pass_through_labels(device):
    def loss(x, w):
        x, w = xr.DataArray(x, dims=["sample", "feature"]), xr.DataArray(w, dims=["feature"])
        return ((xr.dot(x, w, dim="feature") - 1) ** 2).mean(skipna=False).data

    assert cl.gradcheck(loss, [cl.asarray(X), cl.asarray(W)])


def test_the_page_lists_what_runs(listed):
    assert listed("xarray", "runs") == {
        word for name in RUNS for word in re.split(", | and ", name.split("(")[0])
    }
    assert listed("xarray", "returns NumPy's arrays") == set(THROUGH_NUMPY)
    assert listed("xarray", "does not run") == set(REFUSED)
