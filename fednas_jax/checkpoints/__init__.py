"""Checkpoints of a run, from which it is resumed, a model is restored, or another run starts."""
