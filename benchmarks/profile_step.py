"""Where the time of a local search step goes, by kind of operation.

    python -m benchmarks.profile_step [--only CASE] [--json FILE]

Runs a few steps under JAX's profiler and adds up the time of every operation of the compiled
program, by the part of the network that it comes from (the innermost named scope of its metadata).
Operations that run beside each other on several cores all count, so that the sum is above the
step's own time.
"""

import collections
import gzip
import json
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import jax

from benchmarks import cases, harness
from benchmarks.local_step import build
from fednas_jax import compilation
from fednas_jax.errors import UserError

KINDS = {
    "depthwise": "depthwise convolutions",
    "pointwise": "matmuls (pointwise convolutions)",
    "padding": "padding",
    "batch_norm": "BatchNorm",
    "mixed_sum": "mixed sums and the BatchNorms in them",
    "pool": "pools",
    "optimizer": "optimisers",
}
COPIES = ("dynamic_update_slice", "dynamic_slice", "copy", "broadcast")
STEPS = 3


def operations(text: str) -> dict[str, str]:
    """Of each instruction of a compiled program: what it is, and where in our code it comes from.

    Args:
      text: of the program in XLA's notation.
    """
    pattern = re.compile(r"^\s*(?:ROOT )?%?([\w.\-]+) = .*?([\w\-]+)\(.*$", re.MULTILINE)
    found = {}
    for match in pattern.finditer(text):
        name = re.search(r'op_name="([^"]*)"', match.group(0))
        found[match.group(1)] = f"{name.group(1) if name else ''}/{match.group(1)}"
    return found


def kind(path: str) -> str:
    """The kind of operation that a path of scopes stands for."""
    if "optimizer" in path:
        return KINDS["optimizer"]
    inside = [(path.rfind(scope), label) for scope, label in KINDS.items() if scope in path]
    if inside:
        return max(inside)[1]
    if any(name in path.replace("-", "_") for name in COPIES):
        return "copies and zeros of loops"
    return "other"


def events(folder: str) -> Iterator[tuple[str, float]]:
    """(operation, seconds) of every execution that the profiler wrote down."""
    for path in Path(folder).rglob("*.trace.json.gz"):
        for event in json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]:
            name = event.get("args", {}).get("hlo_op")
            if name and "dur" in event:
                yield name, event["dur"] / 1e6


def profile(case: cases.Case) -> tuple[dict[str, float], float]:
    """Seconds a step of each kind, and of the whole step without the profiler."""
    step, arguments = build(case, "joint")
    compiled = compilation.jit(step).lower(*arguments).compile()
    jax.block_until_ready(compiled(*arguments))
    begin = time.perf_counter()
    jax.block_until_ready(compiled(*arguments))
    seconds = time.perf_counter() - begin
    paths = operations(compiled.as_text() or "")
    spent: dict[str, float] = collections.defaultdict(float)
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            for _ in range(STEPS):
                jax.block_until_ready(compiled(*arguments))
        for name, duration in events(folder):
            # What is inside of these is counted by itself.
            if not name.startswith(("while", "call", "conditional")):
                spent[kind(paths.get(name, name))] += duration / STEPS
    return dict(spent), seconds


def main() -> int:
    """Profiles one case."""
    parser = harness.parser(__doc__)
    parser.add_argument("--only", default="paper", help="the case: " + ", ".join(cases.CASES))
    arguments = parser.parse_args()
    try:
        spent, seconds = profile(cases.find("tiny" if arguments.quick else arguments.only))
    except UserError as error:
        print(f"benchmarks: error: {error}", file=sys.stderr)
        return 2
    total = sum(spent.values())
    rows = [harness.Row("a step", seconds, "s")]
    for name, value in sorted(spent.items(), key=lambda item: -item[1]):
        rows.append(harness.Row(name, value, "s"))
        rows.append(harness.Row(f"{name}: share", value / total, "of all operations"))
    harness.publish("profile_step", rows, arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main())
