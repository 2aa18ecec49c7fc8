"""The round engine and the algorithms that run on it."""
