"""The `cuda` backend: CuPy allocates and launches, the kernels are ours.

`plugin.py` declares the backend and imports nothing heavy. Everything else may be imported without CuPy, a
driver or a device: CuPy is reached through `launch.cupy()`, at the first call that needs it.
"""
