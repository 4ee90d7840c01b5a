"""corelib: one tensor library, interchangeable backends, and proof that they agree."""

from . import dtypes, errors
from .ops.creation import asarray
from .registry import backends, get_backend, set_backend, use_backend
from .tensor import Tensor
