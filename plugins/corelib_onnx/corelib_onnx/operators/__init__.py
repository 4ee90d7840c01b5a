"""The operators by family; importing this fills the table."""

from . import (  # noqa: F401 - each adds its operators
    activations,
    arithmetic,
    attention,
    control,
    creation,
    detection,
    indexing,
    layers,
    losses,
    quantization,
    recurrent,
    reductions,
    resizing,
    sampling,
    shapes,
    signals,
    windows,
)
