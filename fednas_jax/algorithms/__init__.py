"""The algorithms. Each has a folder with its declaration (`config.py`) and its room (`room.py`).

A room builds the algorithm. `config.py` imports no JAX, since the command line reads it first.
"""
