"""Cost of one local search step: compile time, time, memory.

    python -m benchmarks.local_step [--quick] [--only CASE] [--json FILE] [--repeats N]

Prints a Markdown table. A step is one joint step of Eq. 4 with both optimisers: forward and
backward pass on a train batch and on a validation batch. The compilation cache is off.
"""

import argparse
import platform
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from fednas_jax import compilation
from fednas_jax.files import write_json
from fednas_jax.nn.supernet import Supernet
from fednas_jax.search import milenas

NUM_CLASSES = 10


class Case(NamedTuple):
    """A size to measure."""

    name: str
    init_channels: int
    layers: int
    batch_size: int
    side: int
    clients: int = 1
    """Vmapped together."""
    options: dict[str, Any] = {}  # noqa: RUF012 (a constant)
    """Of the supernet."""


FAST_COMPILE = {"scan_sources": True}
CASES = (
    Case("tiny", 8, 3, 16, 8),
    Case("tiny, scan_sources", 8, 3, 16, 8, options=FAST_COMPILE),
    Case("tiny, scan_sources, 8 clients", 8, 3, 16, 8, 8, FAST_COMPILE),
    Case("middle", 8, 5, 16, 32),
    Case("paper", 16, 8, 16, 32),
    Case("paper, scan_sources", 16, 8, 16, 32, options=FAST_COMPILE),
    Case("paper, unrolled, scan_sources", 16, 8, 16, 32, options={"scan_cells": False, "scan_sources": True}),
    Case("paper, remat", 16, 8, 16, 32, options={"remat": True}),
    Case("paper, batch 64, remat", 16, 8, 64, 32, options={"remat": True}),
)


def build(case: Case) -> tuple[Any, Any]:
    """The step of a case as a function, and its arguments."""
    supernet = Supernet(NUM_CLASSES, case.init_channels, case.layers, **case.options)
    options = milenas.SearchOptions()

    def loss(params: Any, arch: Any, batch_stats: Any, batch: Any, weight_gradients: Any) -> Any:
        images, labels = batch
        variables = {"params": params, "arch": arch, "batch_stats": batch_stats}
        logits, new = supernet.apply(variables, images, train=True, weight_gradients=weight_gradients, mutable=["batch_stats"])
        value = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
        return value, (new["batch_stats"], value)

    def step(state: milenas.SearchState, train: Any, valid: Any) -> Any:
        return milenas.local_step(loss, options, state, train, valid, 0.025)

    def init(key: jax.Array) -> milenas.SearchState:
        images = jax.ShapeDtypeStruct((1, case.side, case.side, 3), jnp.float32)
        variables = supernet.lazy_init(key, images, train=False)
        return milenas.start(
            variables["params"], variables["arch"], variables["batch_stats"], options
        )

    key = jax.random.key(0)
    shape = (case.batch_size, case.side, case.side, 3)
    images = jax.random.normal(key, (2, *shape))
    labels = jnp.arange(case.batch_size) % NUM_CLASSES
    arguments = (
        compilation.jit_once(init)(key),
        (images[0], labels),
        (images[1], labels),
    )
    if case.clients == 1:
        return step, arguments
    copied = jax.tree.map(lambda x: jnp.broadcast_to(x, (case.clients, *x.shape)), arguments)
    return jax.vmap(step), copied


def measure(case: Case, repeats: int, *, plain_xla: bool) -> dict[str, float]:
    """Trace, compile and run a case; the fastest of `repeats` steps counts."""
    step, arguments = build(case)
    options = None if plain_xla else compilation.compiler_options()
    jitted = jax.jit(step, donate_argnums=0, compiler_options=options)
    start = time.perf_counter()
    lowered = jitted.trace(*arguments).lower()
    traced = time.perf_counter()
    compiled = lowered.compile()
    compile_seconds = time.perf_counter() - traced
    state, *batches = arguments
    seconds = []
    for _ in range(repeats):
        start_step = time.perf_counter()
        state, metrics = compiled(state, *batches)
        jax.block_until_ready((state, metrics))
        seconds.append(time.perf_counter() - start_step)
    return {
        "trace_seconds": traced - start,
        "compile_seconds": compile_seconds,
        "step_seconds": min(seconds),
        "step_seconds_median": sorted(seconds)[len(seconds) // 2],
        "temporary_bytes": compiled.memory_analysis().temp_size_in_bytes,
    }


def main() -> None:
    """Measures all cases, or the small ones with --quick."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="only the tiny sizes")
    parser.add_argument("--json", type=Path, help="write the rows to a file too")
    parser.add_argument("--repeats", type=int, default=0, help="steps; 0: 30 tiny, 5 larger ones")
    parser.add_argument("--only", default="", help="the case of this name")
    parser.add_argument("--plain-xla", action="store_true", help="without our compiler options")
    arguments = parser.parse_args()
    jax.config.update("jax_enable_compilation_cache", False)
    device = jax.devices()[0]
    print(f"{device.device_kind}, {platform.machine()}, jax {jax.__version__}\n")
    print("| case | trace s | compile s | step s (min) | step s (median) | temporary MB |")
    print("| --- | --- | --- | --- | --- | --- |")
    rows = []
    for case in CASES:
        if (arguments.quick and case.side > 8) or arguments.only not in ("", case.name):
            continue
        repeats = arguments.repeats or (30 if case.side == 8 else 5)
        row = measure(case, repeats, plain_xla=arguments.plain_xla)
        rows.append({"case": case.name, **row})
        print(
            f"| {case.name} | {row['trace_seconds']:.1f} | {row['compile_seconds']:.1f} "
            f"| {row['step_seconds']:.4f} | {row['step_seconds_median']:.4f} "
            f"| {row['temporary_bytes'] / 1e6:.0f} |",
            flush=True,
        )
    if arguments.json:
        head = {
            "command": "python -m benchmarks.local_step " + " ".join(sys.argv[1:]),
            "date": datetime.now(UTC).date().isoformat(),
            "device": device.device_kind,
            "jax": jax.__version__,
            "python": platform.python_version(),
        }
        write_json(arguments.json, {**head, "rows": rows})


if __name__ == "__main__":
    main()
