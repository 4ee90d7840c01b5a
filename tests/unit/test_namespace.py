"""The public names: complete, typed for editors, and none hidden by another."""

from __future__ import annotations

import importlib
import inspect
import pkgutil

import pytest

import corelib as cl
from corelib import ops
from corelib.op import OPS

EXTENSIONS = ("fft", "linalg")  # namespaces of their own, as the standard has them
INTERNAL = {"adjugate"}  # the derivative of det


def test_every_declared_op_is_exported_from_its_family():
    for op in OPS:
        if "/corelib/ops/" not in op.where or op.name in INTERNAL:
            continue
        family = op.where.split("/corelib/ops/")[-1].split(".py")[0]
        public = getattr(cl, family) if family in EXTENSIONS else ops
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


# The signatures of the array API standard 2025.12 (https://data-apis.org/array-api/2025.12), without annotations; of those whose
# dtypes are here. Where the standard has an optional argument without a default of its own, None stands for it.
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


STANDARD_ARRAY = """
    __abs__ __add__ __and__ __array_namespace__ __bool__ __dlpack__ __dlpack_device__ __eq__ __float__ __floordiv__ __ge__ __getitem__
    __gt__ __index__ __int__ __invert__ __le__ __lshift__ __lt__ __matmul__ __mod__ __mul__ __ne__ __neg__ __or__ __pos__ __pow__
    __rshift__ __setitem__ __sub__ __truediv__ __xor__ __iadd__ __isub__ __imul__ __itruediv__ __ifloordiv__ __ipow__ __imod__
    __imatmul__ __iand__ __ior__ __ixor__ __ilshift__ __irshift__ __radd__ __rsub__ __rmul__ __rtruediv__ __rfloordiv__ __rpow__
    __rmod__ __rmatmul__ __rand__ __ror__ __rxor__ __rlshift__ __rrshift__ to_device T device dtype mT ndim shape size
"""


@pytest.mark.parametrize("name", STANDARD_ARRAY.split())
def test_a_tensor_has_what_the_standard_asks_of_an_array(name):
    assert hasattr(cl.Tensor, name)
