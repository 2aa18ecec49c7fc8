"""Where the time of a local search step goes, by kind of operation.

    python -m benchmarks.profile_step [--only CASE] [--json FILE] [--top N]

Runs steps under JAX's profiler and adds up what the device's operations took, by the part of the
network (the innermost named scope in an operation's metadata) and by what the operation is.
"""

import argparse
import collections
import gzip
import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from benchmarks.local_step import CASES, build
from fednas_jax import compilation

SCOPES = ("depthwise", "pointwise", "batch_norm", "max_pool", "avg_pool", "mixed_sum", "optimizer")
STEPS = 3


def _operations(text: str) -> dict[str, tuple[str, str]]:
    """Of each instruction of a compiled program: its kind, and where in our code it comes from."""
    pattern = re.compile(r"^\s*(?:ROOT )?%?([\w.\-]+) = .*? ([\w\-]+)\(.*$", re.MULTILINE)
    found = {}
    for match in pattern.finditer(text):
        name = re.search(r'op_name="([^"]*)"', match.group(0))
        found[match.group(1)] = (match.group(2), name.group(1) if name else "")
    return found


def _events(folder: str) -> Iterator[tuple[str, float]]:
    """(operation, seconds) of every execution that the profiler saw."""
    for path in Path(folder).rglob("*.trace.json.gz"):
        for event in json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]:
            name = event.get("args", {}).get("hlo_op")
            if name and "dur" in event:
                yield name, event["dur"] / 1e6


def _scope(op_name: str) -> str:
    inside = [(op_name.rfind(scope), scope) for scope in SCOPES if scope in op_name]
    return max(inside)[1] if inside else "other"


def _direction(op_name: str) -> str:
    return "backward" if "transpose(" in op_name else "forward"


def profile(case: Any) -> tuple[dict[str, float], float]:
    """Seconds a step by operation, and the seconds of a step without the profiler."""
    import time

    step, arguments = build(case)
    jitted = jax.jit(step, compiler_options=compilation.compiler_options())
    compiled = jitted.lower(*arguments).compile()
    jax.block_until_ready(compiled(*arguments))
    start = time.perf_counter()
    jax.block_until_ready(compiled(*arguments))
    plain = time.perf_counter() - start
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            for _ in range(STEPS):
                jax.block_until_ready(compiled(*arguments))
        spent: dict[str, float] = collections.Counter()
        operations = _operations(compiled.as_text())
        for name, seconds in _events(folder):
            kind, op_name = operations.get(name, ("?", ""))
            if kind in ("while", "call", "conditional"):
                continue  # what is inside is counted by itself
            spent[f"{kind}|{_direction(op_name)}|{_scope(op_name)}|{name}|{op_name}"] += (
                seconds / STEPS
            )
    return spent, plain


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default="paper")
    parser.add_argument("--top", type=int, default=40)
    a = parser.parse_args()
    case = next(c for c in CASES if c.name == a.only)
    spent, plain = profile(case)
    print("plain", plain, "sum", sum(spent.values()))
    for level in ((0,), (2,), (0, 1, 2)):
        by = collections.Counter()
        for k, v in spent.items():
            parts = k.split("|")
            by[" ".join(parts[i] for i in level)] += v
        print(level)
        for k, v in by.most_common(40):
            print(f"  {v:.4f} {k}")
    for k, v in collections.Counter(spent).most_common(a.top or None):
        print(f"{v:.4f} {k[:230]}")


if __name__ == "__main__":
    main()
