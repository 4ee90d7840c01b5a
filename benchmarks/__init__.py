"""Benchmarks: corelib beside NumPy and PyTorch, in the same run, as ratios."""
