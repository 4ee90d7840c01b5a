"""The public names: complete, typed for editors, and none hidden by another."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import math
import pkgutil
import re

import pytest

import corelib as cl
from corelib import ops
from corelib.op import OPS
from corelib.registry import registry

EXTENSIONS = ("fft", "linalg")  # namespaces of their own, as the standard has them
INTERNAL = {"adjugate"}  # the derivative of det


def test_every_declared_op_is_exported_from_its_family():
    for op in OPS:
        if "/corelib/ops/" not in op.where or op.name in INTERNAL:
            continue
        family = op.where.split("/corelib/ops/")[-1].split(".py")[0]
        extension = family if family in EXTENSIONS else op.group
        public = getattr(cl, extension) if extension else ops
        assert getattr(public, op.fn.__name__) is op.fn, op.name
        assert op.fn.__name__ in public.__all__, op.name


def test_every_plain_function_of_a_family_is_exported():
    for info in pkgutil.iter_modules(ops.__path__):
        family = importlib.import_module(f"corelib.ops.{info.name}")
        public = getattr(cl, info.name) if info.name in EXTENSIONS else ops
        for name in getattr(family, "__all__", ()):
            assert name in public.__all__ and getattr(public, name) is getattr(family, name), (
                info.name,
                name,
            )


def test_all_lists_what_there_is():
    assert len(set(cl.__all__)) == len(cl.__all__)
    for name in cl.__all__:
        assert getattr(cl, name) is not None or name == "newaxis"
    assert callable(cl.gradcheck) and callable(cl.draw) and callable(cl.gradcheck)


# The signatures of the array API standard 2025.12 (https://data-apis.org/array-api/2025.12), without annotations. Where the standard has an optional argument without a default of its own, None stands for it.
STANDARD = """
abs(x, /)
acos(x, /)
acosh(x, /)
add(x1, x2, /)
all(x, /, *, axis=None, keepdims=False)
any(x, /, *, axis=None, keepdims=False)
arange(start, /, stop=None, step=1, *, dtype=None, device=None)
argmax(x, /, *, axis=None, keepdims=False)
argmin(x, /, *, axis=None, keepdims=False)
argsort(x, /, *, axis=-1, descending=False, stable=True)
asarray(obj, /, *, dtype=None, device=None, copy=None)
asin(x, /)
asinh(x, /)
astype(x, dtype, /, *, copy=True, device=None)
atan(x, /)
atan2(x1, x2, /)
atanh(x, /)
bitwise_and(x1, x2, /)
bitwise_invert(x, /)
bitwise_left_shift(x1, x2, /)
bitwise_or(x1, x2, /)
bitwise_right_shift(x1, x2, /)
bitwise_xor(x1, x2, /)
broadcast_arrays(*arrays)
broadcast_shapes(*shapes)
broadcast_to(x, /, shape)
can_cast(from_, to, /)
ceil(x, /)
clip(x, /, min=None, max=None)
conj(x, /)
concat(arrays, /, *, axis=0)
copysign(x1, x2, /)
cos(x, /)
cosh(x, /)
count_nonzero(x, /, *, axis=None, keepdims=False)
cumulative_prod(x, /, *, axis=None, dtype=None, include_initial=False)
cumulative_sum(x, /, *, axis=None, dtype=None, include_initial=False)
diff(x, /, *, axis=-1, n=1, prepend=None, append=None)
divide(x1, x2, /)
empty(shape, *, dtype=None, device=None)
empty_like(x, /, *, dtype=None, device=None)
equal(x1, x2, /)
exp(x, /)
expand_dims(x, /, axis)
expm1(x, /)
eye(n_rows, n_cols=None, /, *, k=0, dtype=None, device=None)
finfo(type, /)
flip(x, /, *, axis=None)
floor(x, /)
floor_divide(x1, x2, /)
from_dlpack(x, /, *, device=None, copy=None)
full(shape, fill_value, *, dtype=None, device=None)
full_like(x, /, fill_value, *, dtype=None, device=None)
greater(x1, x2, /)
greater_equal(x1, x2, /)
hypot(x1, x2, /)
imag(x, /)
iinfo(type, /)
isdtype(dtype, kind)
isfinite(x, /)
isin(x1, x2, /, *, invert=False)
isinf(x, /)
isnan(x, /)
less(x1, x2, /)
less_equal(x1, x2, /)
linspace(start, stop, /, num, *, dtype=None, device=None, endpoint=True)
log(x, /)
log10(x, /)
log1p(x, /)
log2(x, /)
logaddexp(x1, x2, /)
logical_and(x1, x2, /)
logical_not(x, /)
logical_or(x1, x2, /)
logical_xor(x1, x2, /)
matmul(x1, x2, /)
matrix_transpose(x, /)
max(x, /, *, axis=None, keepdims=False)
maximum(x1, x2, /)
mean(x, /, *, axis=None, keepdims=False)
meshgrid(*arrays, indexing='xy')
min(x, /, *, axis=None, keepdims=False)
minimum(x1, x2, /)
moveaxis(x, source, destination, /)
multiply(x1, x2, /)
negative(x, /)
nextafter(x1, x2, /)
nonzero(x, /)
not_equal(x1, x2, /)
ones(shape, *, dtype=None, device=None)
ones_like(x, /, *, dtype=None, device=None)
permute_dims(x, /, axes)
positive(x, /)
pow(x1, x2, /)
prod(x, /, *, axis=None, dtype=None, keepdims=False)
real(x, /)
reciprocal(x, /)
remainder(x1, x2, /)
repeat(x, repeats, /, *, axis=None)
reshape(x, /, shape, *, copy=None)
result_type(*arrays_and_dtypes)
roll(x, /, shift, *, axis=None)
round(x, /)
searchsorted(x1, x2, /, *, side='left', sorter=None)
sign(x, /)
signbit(x, /)
sin(x, /)
sinh(x, /)
sort(x, /, *, axis=-1, descending=False, stable=True)
sqrt(x, /)
square(x, /)
squeeze(x, /, axis)
stack(arrays, /, *, axis=0)
std(x, /, *, axis=None, correction=0.0, keepdims=False)
subtract(x1, x2, /)
sum(x, /, *, axis=None, dtype=None, keepdims=False)
take(x, indices, /, *, axis=None)
take_along_axis(x, indices, /, *, axis=-1)
tan(x, /)
tanh(x, /)
tensordot(x1, x2, /, *, axes=2)
tile(x, repetitions, /)
tril(x, /, *, k=0)
triu(x, /, *, k=0)
trunc(x, /)
unique_all(x, /)
unique_counts(x, /)
unique_inverse(x, /)
unique_values(x, /)
unstack(x, /, *, axis=0)
var(x, /, *, axis=None, correction=0.0, keepdims=False)
vecdot(x1, x2, /, *, axis=-1)
where(condition, x1, x2, /)
zeros(shape, *, dtype=None, device=None)
zeros_like(x, /, *, dtype=None, device=None)
"""

# What is wider here than in the standard: a call that it allows means the same.
WIDER = {
    "expand_dims": "axis=0 until version 2024.12, and still",
    "squeeze": "axis=None removes all axes of size 1, as in NumPy",
}


def parameters(signature):
    return [(p.name, p.kind, p.default) for p in signature.parameters.values()]


@pytest.mark.parametrize("line", STANDARD.split("\n")[1:-1], ids=lambda line: line.split("(")[0])
def test_the_signature_is_the_standards(line):
    scope = {}
    exec(f"def {line}: ...", scope)
    name = line.split("(")[0]
    expected, actual = (
        parameters(inspect.signature(scope[name])),
        parameters(inspect.signature(getattr(cl, name))),
    )
    if name in WIDER:
        assert expected != actual, "no longer wider: take it out of WIDER"
        expected, actual = [p[:2] for p in expected], [p[:2] for p in actual]
    assert expected == actual


EXTENSIONS_SIGNATURES = """
fft.fft(x, /, *, n=None, axis=-1, norm='backward')
fft.fftfreq(n, /, *, d=1.0, dtype=None, device=None)
fft.fftn(x, /, *, s=None, axes=None, norm='backward')
fft.fftshift(x, /, *, axes=None)
fft.hfft(x, /, *, n=None, axis=-1, norm='backward')
fft.ifft(x, /, *, n=None, axis=-1, norm='backward')
fft.ifftn(x, /, *, s=None, axes=None, norm='backward')
fft.ifftshift(x, /, *, axes=None)
fft.ihfft(x, /, *, n=None, axis=-1, norm='backward')
fft.irfft(x, /, *, n=None, axis=-1, norm='backward')
fft.irfftn(x, /, *, s=None, axes=None, norm='backward')
fft.rfft(x, /, *, n=None, axis=-1, norm='backward')
fft.rfftfreq(n, /, *, d=1.0, dtype=None, device=None)
fft.rfftn(x, /, *, s=None, axes=None, norm='backward')
linalg.cholesky(x, /, *, upper=False)
linalg.cross(x1, x2, /, *, axis=-1)
linalg.det(x, /)
linalg.diagonal(x, /, *, offset=0)
linalg.eig(x, /)
linalg.eigh(x, /)
linalg.eigvals(x, /)
linalg.eigvalsh(x, /)
linalg.inv(x, /)
linalg.matmul(x1, x2, /)
linalg.matrix_norm(x, /, *, keepdims=False, ord='fro')
linalg.matrix_power(x, n, /)
linalg.matrix_rank(x, /, *, rtol=None)
linalg.matrix_transpose(x, /)
linalg.outer(x1, x2, /)
linalg.pinv(x, /, *, rtol=None)
linalg.qr(x, /, *, mode='reduced')
linalg.slogdet(x, /)
linalg.solve(x1, x2, /)
linalg.svd(x, /, *, full_matrices=True)
linalg.svdvals(x, /)
linalg.tensordot(x1, x2, /, *, axes=2)
linalg.trace(x, /, *, offset=0, dtype=None)
linalg.vecdot(x1, x2, /, *, axis=-1)
linalg.vector_norm(x, /, *, axis=None, keepdims=False, ord=2)
info.capabilities()
info.default_device()
info.default_dtypes(*, device=None)
info.devices()
info.dtypes(*, device=None, kind=None)
"""


@pytest.mark.parametrize("line", EXTENSIONS_SIGNATURES.split("\n")[1:-1], ids=lambda line: line.split("(")[0])
def test_the_signature_of_an_extension_is_the_standards(line):
    namespace, _, line = line.partition(".")
    scope = {}
    exec(f"def {line}: ...", scope)
    name = line.split("(")[0]
    found = cl.__array_namespace_info__() if namespace == "info" else getattr(cl, namespace)
    assert parameters(inspect.signature(getattr(found, name))) == parameters(inspect.signature(scope[name]))


STANDARD_ARRAY = """
    __abs__(self) __add__(self, other) __and__(self, other) __array_namespace__(self, api_version=None) __bool__(self)
    __complex__(self) __dlpack__(self, stream=None, max_version=None, dl_device=None, copy=None) __dlpack_device__(self)
    __eq__(self, other) __float__(self) __floordiv__(self, other) __ge__(self, other) __getitem__(self, key) __gt__(self, other)
    __index__(self) __int__(self) __invert__(self) __le__(self, other) __lshift__(self, other) __lt__(self, other)
    __matmul__(self, other) __mod__(self, other) __mul__(self, other) __ne__(self, other) __neg__(self) __or__(self, other)
    __pos__(self) __pow__(self, other) __rshift__(self, other) __setitem__(self, key, value) __sub__(self, other)
    __truediv__(self, other) __xor__(self, other) to_device(self, device, stream=None)
    __iadd__(self, other) __isub__(self, other) __imul__(self, other) __itruediv__(self, other) __ifloordiv__(self, other)
    __ipow__(self, other) __imod__(self, other) __imatmul__(self, other) __iand__(self, other) __ior__(self, other)
    __ixor__(self, other) __ilshift__(self, other) __irshift__(self, other)
    __radd__(self, other) __rsub__(self, other) __rmul__(self, other) __rtruediv__(self, other) __rfloordiv__(self, other)
    __rpow__(self, other) __rmod__(self, other) __rmatmul__(self, other) __rand__(self, other) __ror__(self, other)
    __rxor__(self, other) __rlshift__(self, other) __rrshift__(self, other)
"""


@pytest.mark.parametrize(
    "line", re.findall(r"\w+\([^)]*\)", STANDARD_ARRAY), ids=lambda line: line.split("(")[0]
)
def test_a_method_can_be_called_as_the_standard_says(line):
    """Operands by position, options by name and with the standard's defaults."""
    name, given = line.rstrip(")").split("(")
    given = given.split(", ")
    operands, options = [g for g in given if "=" not in g], [g.split("=")[0] for g in given if "=" in g]
    signature = inspect.signature(getattr(cl.Tensor, name))
    signature.bind(*operands)
    signature.bind(*operands, **dict.fromkeys(options))
    assert [signature.parameters[option].default for option in options] == [None] * len(options)


def test_a_tensor_has_the_standards_attributes():
    x = cl.zeros((2, 3), device="reference")
    assert (x.dtype, x.device, x.ndim, x.shape, x.size) == (cl.float32, "reference", 2, (2, 3), 6)
    assert x.T.shape == x.mT.shape == (3, 2)
    for attribute in ("T", "mT", "device", "dtype", "ndim", "shape", "size"):
        assert isinstance(getattr(cl.Tensor, attribute), property)


def test_the_namespace_is_found_by_its_version():
    x = cl.zeros(2, device="reference")
    assert cl.__array_api_version__ == "2025.12"
    for version in (None, "2021.12", "2022.12", "2023.12", "2024.12", "2025.12"):
        assert x.__array_namespace__(api_version=version) is cl
    for version in ("2020.10", "2026.12", 2025):
        with pytest.raises(ValueError, match=r"no version .* \(there are 2021.12, .*, 2025.12\)"):
            x.__array_namespace__(api_version=version)


def test_the_constants_are_the_standards():
    assert (cl.e, cl.pi, cl.inf, cl.newaxis) == (math.e, math.pi, math.inf, None)
    assert math.isnan(cl.nan)


DTYPES = {
    "bool": ["bool"],
    "signed integer": ["int8", "int16", "int32", "int64"],
    "unsigned integer": ["uint8", "uint16", "uint32", "uint64"],
    "real floating": ["float32", "float64"],
    "complex floating": ["complex64", "complex128"],
}
DTYPES["integral"] = DTYPES["signed integer"] + DTYPES["unsigned integer"]
DTYPES["numeric"] = DTYPES["integral"] + DTYPES["real floating"] + DTYPES["complex floating"]


def usable():
    return cl.__array_namespace_info__().devices()


@pytest.mark.parametrize("device", [None, "reference"])
def test_the_dtypes_of_a_device_are_the_standards_alone(device):
    dtypes = cl.__array_namespace_info__().dtypes
    assert list(dtypes(device=device)) == DTYPES["bool"] + DTYPES["numeric"]
    for kind, names in DTYPES.items():
        assert dtypes(device=device, kind=kind) == {name: getattr(cl, name) for name in names}
    assert list(dtypes(device=device, kind=("bool", "real floating"))) == ["bool", "float32", "float64"]
    assert dtypes(device=device, kind=()) == {}
    with pytest.raises(cl.CorelibError, match="unknown kind 'integer'; did you mean"):
        dtypes(device=device, kind="integer")
    with pytest.raises(cl.BackendNotFoundError, match="no backend 'gpu'"):
        dtypes(device="gpu")


def test_a_backend_without_complex_numbers_lists_none(monkeypatch):
    info = cl.__array_namespace_info__()
    backend = registry.get("reference")
    monkeypatch.setattr(backend, "info", dataclasses.replace(backend.info, lacks=("complex", "linalg")))
    assert list(info.dtypes(device="reference")) == ["bool", *DTYPES["integral"], "float32", "float64"]
    assert info.dtypes(device="reference", kind="complex floating") == {}
    assert "complex floating" not in info.default_dtypes(device="reference")


def test_default_dtypes_are_those_of_creation():
    for device in usable():
        defaults = cl.__array_namespace_info__().default_dtypes(device=device)
        assert {kind: dtype.name for kind, dtype in defaults.items()} == {
            "real floating": "float32",
            "complex floating": "complex64",
            "integral": "int64",
            "indexing": "int64",
        }
        assert cl.zeros(1, device=device).dtype is defaults["real floating"]
        assert cl.asarray([1], device=device).dtype is defaults["integral"]
        assert cl.asarray([1j], device=device).dtype is defaults["complex floating"]
        assert cl.argmax(cl.zeros(1, device=device)).dtype is defaults["indexing"]


def test_devices_are_those_that_can_be_used():
    info = cl.__array_namespace_info__()
    assert isinstance(info.devices(), tuple)
    assert {d.split(":")[0] for d in info.devices()} == {s.name for s in cl.backends() if s.usable}
    assert info.default_device() == cl.get_backend() == info.devices()[0]
    with cl.use_backend("reference"):
        assert info.default_device() == info.devices()[0] == "reference"


def test_as_many_dimensions_as_are_promised():
    n = cl.__array_namespace_info__().capabilities()["max dimensions"]
    for device in usable():
        shape = (1,) * (n - 2) + (2, 3)
        x = cl.reshape(cl.arange(6, dtype=cl.float32, device=device), shape)
        assert (x.ndim, x.shape) == (n, shape)
        assert (x + x.mT.mT * 2).tolist() == cl.reshape(cl.arange(0, 18, 3), shape).tolist()
        assert cl.sum(x, axis=tuple(range(0, n, 2))).ndim == n // 2
        assert cl.permute_dims(x, tuple(reversed(range(n)))).shape == shape[::-1]
        assert cl.matmul(x, x.mT).shape == (*shape[:-1], 2)
        assert x[(0,) * (n - 1)].tolist() == x[(0,) * (n - 2)].tolist()[0]
        assert cl.sort(x, axis=0, descending=True).shape == cl.flip(x).shape == shape
        assert cl.max(cl.cumulative_sum(x, axis=-1)).item() == 12
        assert cl.nonzero(x)[-1].tolist() == [1, 2, 0, 1, 2]
