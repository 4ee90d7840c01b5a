"""corelib's cpu backend."""
