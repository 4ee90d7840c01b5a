"""A plain NumPy backend for corelib."""
