"""The time of a local search step, by kind of operation.

    python -m benchmarks.profile_step [--only CASE] [--json FILE]

Runs a few steps under JAX's profiler and adds up the time of every operation of the compiled
program, by the part of the network that it comes from (the innermost named scope of its metadata).
Operations that run in parallel on several cores all count, so that the sum exceeds the time of the
step.
"""

import collections
import gzip
import json
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fednas_jax.runtime import environment

if __name__ == "__main__":
    environment.prepare("benchmarks.profile_step")  # as the command line does

import jax
import jax.numpy as jnp
from jax import lax

from benchmarks import cases, harness
from benchmarks.local_step import build
from fednas_jax.runtime import compilation
from fednas_jax.runtime.errors import UserError

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
MULTIPLY_ADDS = {"paper": 300e6, "paper64": 300e6}
"""Of the supernet for one image; a backward pass counts as two forward ones."""


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
    one_step, (state, *batches) = build(case, "joint")

    def steps(state: Any, *batches: Any) -> Any:  # in one call, as in a round
        return lax.fori_loop(0, STEPS, lambda _, s: one_step(s, *batches)[0], state)

    jitted = compilation.jit(steps, quick=True, donate_argnums=0)
    compiled = jitted.lower(state, *batches).compile()
    state = jax.block_until_ready(compiled(state, *batches))
    begin = time.perf_counter()
    state = jax.block_until_ready(compiled(state, *batches))
    seconds = (time.perf_counter() - begin) / STEPS
    paths = operations(compiled.as_text() or "")
    spent: dict[str, float] = collections.defaultdict(float)
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            jax.block_until_ready(compiled(state, *batches))
        for name, duration in events(folder):
            # What is inside of these is counted by itself.
            if not name.startswith(("while", "call", "conditional")):
                spent[kind(paths.get(name, name))] += duration / STEPS
    return dict(spent), seconds


def machine() -> dict[str, float]:
    """What the device does at best: a large matrix product, and a copy of a large array."""
    square = jnp.ones((2048, 2048))
    large = jnp.ones(2**26)
    product = jax.jit(lambda x: x @ x)
    copy = jax.jit(lambda x: x + 1)
    return {
        "GFLOP/s": 2 * 2048**3 / _fastest(lambda: product(square)) / 1e9,
        "GB/s": 2 * large.nbytes / _fastest(lambda: copy(large)) / 1e9,
    }


def _fastest(call: Callable[[], Any]) -> float:
    """Seconds of the fastest of several calls, the first of which compiles."""
    seconds = []
    for _ in range(6):
        begin = time.perf_counter()
        jax.block_until_ready(call())
        seconds.append(time.perf_counter() - begin)
    return min(seconds[1:])


def against_peak(case: cases.Case, seconds: float) -> list[harness.Row]:
    """How far a step is from what the device does at best."""
    peak = machine()
    rows = [
        harness.Row("the device: matrix product of 2,048 x 2,048", peak["GFLOP/s"], "GFLOP/s"),
        harness.Row("the device: copy of 256 MB", peak["GB/s"], "GB/s, read and written"),
    ]
    if case.name in MULTIPLY_ADDS:
        # Two batches, forward and backward, two operations a multiply-add.
        work = 2 * case.batch_size * 3 * 2 * MULTIPLY_ADDS[case.name] / 1e9
        rows.append(harness.Row("a step: operations", work / seconds, "GFLOP/s"))
        rows.append(harness.Row("a step: share of the peak", work / seconds / peak["GFLOP/s"], ""))
    return rows


def main() -> int:
    """Profiles one case."""
    parser = harness.parser(__doc__)
    parser.add_argument("--only", default="paper", help="the case: " + ", ".join(cases.CASES))
    arguments = parser.parse_args()
    try:
        case = cases.find("tiny" if arguments.quick else arguments.only)
        spent, seconds = profile(case)
    except UserError as error:
        print(f"benchmarks: error: {error}", file=sys.stderr)
        return 2
    total = sum(spent.values())
    rows = [harness.Row("a step", seconds, "s")]
    for name, value in sorted(spent.items(), key=lambda item: -item[1]):
        rows.append(harness.Row(name, value, "s"))
        rows.append(harness.Row(f"{name}: share", value / total, "of all operations"))
    rows += against_peak(case, seconds)
    harness.publish("profile_step", rows, arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main())
