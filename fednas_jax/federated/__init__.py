"""The round engine, and the parts of algorithms that run on it."""
