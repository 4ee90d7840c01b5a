"""PyTorch's CPU kernels as a backend for corelib."""
