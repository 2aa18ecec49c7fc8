"""A room for each algorithm: what it declares (`config.py`), and what it builds (`room.py`).

`config.py` of a room imports no JAX: the command line reads it first.
"""
