"""From recorded programs to kernels. ``corelib.compile`` is the function that users call; the modules here are its
parts.

Nothing is imported here: :mod:`corelib.compile.graph` stands low (backends with an emitter read it), the rest high.
"""
