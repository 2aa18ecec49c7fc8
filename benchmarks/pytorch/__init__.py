"""The supernet and its local step in PyTorch, the usual eager way: a rival and a reference.

Our own code, never imported by the package. It is run by another interpreter
(`benchmarks/pytorch/serve.py`), which need not have JAX; `weights.py` and `space.py` need NumPy
alone.
"""
