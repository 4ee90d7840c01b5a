"""The reference backend of corelib: what every op means, in plain Python."""
