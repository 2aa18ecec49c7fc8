"""One file a paper; each builds an `Algorithm` for the round engine."""
