"""Cost of one local search step, compared with eager PyTorch: compile time, time, memory.

    python -m benchmarks.local_step [--quick] [--only CASE] [--json FILE] [--repeats N]

Our step is the joint step of Eq. 4 with both optimisers: forward and backward pass on a train batch
and on a validation batch. PyTorch makes the three passes of the authors' code; `three passes` are
the same on both sides. The two take turns. Cold compiling is without, warm compiling with the
compilation cache. A search round is timed in a new process, from its start to its first step.
"""

import functools
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from fednas_jax.runtime import environment

if __name__ == "__main__":
    environment.prepare("benchmarks.local_step")  # as the command line does

import jax
import jax.numpy as jnp
from jax import lax

from benchmarks import cases, harness
from benchmarks.cases import CASES, NUM_CLASSES, Case
from benchmarks.harness import Bar, Peer, Row, at_least, at_most
from benchmarks.reference import loss_function
from fednas_jax.algorithms.fednas import milenas
from fednas_jax.runtime import compilation
from fednas_jax.spaces.darts.supernet import Supernet

LEARNING_RATE = 0.025
BARS: dict[str, dict[str, Bar]] = {
    "tiny": {
        "joint against PyTorch's three passes": at_least(20),
        "search round, cold compile": at_most(12),
        "warm start to the first finished step": at_most(8),
    },
    "paper": {
        "joint against PyTorch's three passes": at_least(5),
        "three passes against PyTorch's": at_least(3.5),
        "search round, cold compile": at_most(30),
        "warm start to the first finished step": at_most(20),
        "joint, temporary memory": at_most(700),
    },
    "paper64": {
        "joint against PyTorch's three passes": at_least(4),
        "joint, temporary memory": at_most(2800),
    },
}
GPU_BARS: dict[str, dict[str, Bar]] = {
    "paper": {"joint against PyTorch's three passes": at_least(5)},
    "paper64": {"joint against PyTorch's three passes": at_least(5)},
}
THREE_PASSES = ("paper",)
"""Cases in which the order of the authors' code is measured on both sides."""
STEPS = {"tiny": 50, "middle": 10, "paper": 8, "paper64": 5}
"""Local steps in one call; a round has 50 to 175 (Table 2, batch 64), and allocates memory once."""
TORCH_STEPS = {"tiny": 10, "middle": 3, "paper": 2, "paper64": 1}
"""Number of PyTorch's steps that are timed together."""
ROUNDS = ("tiny", "paper")
"""Cases whose first round is timed."""


class Step:
    """Our local steps of a case, several in one call as in a round, and their compilation."""

    def __init__(self, case: Case, order: str, options: dict[str, Any] | None):
        one_step, arguments = build(case, order)
        self._count = STEPS[case.name]

        def step(state: milenas.SearchState, *batches: Any) -> milenas.SearchState:
            return lax.fori_loop(0, self._count, lambda _, s: one_step(s, *batches)[0], state)

        jitted = functools.partial(jax.jit, donate_argnums=0, compiler_options=options)
        begin = time.perf_counter()
        lowered = jitted(step).lower(*arguments)
        self.trace_seconds = time.perf_counter() - begin
        begin = time.perf_counter()
        self._compiled = lowered.compile()
        self.cold_seconds = time.perf_counter() - begin
        jax.clear_caches()
        lowered = jitted(step).lower(*arguments)
        begin = time.perf_counter()
        lowered.compile()
        self.warm_seconds = time.perf_counter() - begin
        self._state, *self._batches = arguments

    def temporary_bytes(self) -> int:
        """Memory in addition to inputs and outputs."""
        analysis: Any = self._compiled.memory_analysis()
        return int(analysis.temp_size_in_bytes)

    def run(self) -> float:
        """Runs the steps; returns the seconds of one step."""
        begin = time.perf_counter()
        self._state = self._compiled(self._state, *self._batches)
        jax.block_until_ready(self._state)
        return (time.perf_counter() - begin) / self._count


def build(case: Case, order: str) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """The step of a case as a function, and its arguments."""
    supernet = Supernet(NUM_CLASSES, case.init_channels, case.layers)
    options = milenas.SearchOptions(order=order)
    loss = loss_function(supernet)

    def step(state: milenas.SearchState, train: Any, valid: Any) -> Any:
        return milenas.local_step(loss, options, state, train, valid, LEARNING_RATE)

    def init(key: jax.Array) -> milenas.SearchState:
        images = jax.ShapeDtypeStruct((1, case.side, case.side, 3), jnp.float32)
        trees = supernet.lazy_init(key, images, train=False)
        return milenas.start(trees["params"], trees["arch"], trees["batch_stats"], options)

    key = jax.random.key(0)
    state = compilation.jit_once(init)(key)
    cases.check_parameters(case, sum(x.size for x in jax.tree.leaves(state.params)))
    images = jax.random.normal(key, (2, case.batch_size, case.side, case.side, 3))
    labels = jnp.arange(case.batch_size) % NUM_CLASSES
    return step, (state, (images[0], labels), (images[1], labels))


def measure(case: Case, python: Path | None, repeats: int, *, plain_xla: bool) -> list[Row]:
    """Compiles a case and measures it in turns with PyTorch."""
    options = None if plain_xla else compilation.compiler_options(quick=True)
    orders = {"joint": "joint"}
    if case.name in THREE_PASSES:
        orders["three passes"] = "alpha_first"
    steps = {name: Step(case, order, options) for name, order in orders.items()}
    candidates: dict[str, Callable[[], object]] = {name: step.run for name, step in steps.items()}
    with ExitStack() as stack:
        if python is not None:
            peer = stack.enter_context(
                Peer(python, "benchmarks.pytorch.serve", case.peer_arguments())
            )
            cases.check_parameters(case, peer.facts["parameters"])
            candidates["PyTorch, three passes"] = functools.partial(
                _ask, peer, TORCH_STEPS[case.name]
            )
        seconds = harness.interleaved(candidates, repeats)
    rows = []
    for name, step in steps.items():
        rows += [
            _row(case, f"{name}, trace", step.trace_seconds, "s"),
            _row(case, f"{name}, cold compile", step.cold_seconds, "s"),
            _row(case, f"{name}, warm compile", step.warm_seconds, "s"),
            _row(case, f"{name}, temporary memory", step.temporary_bytes() / 1e6, "MB"),
        ]
    for name, values in seconds.items():
        rows.append(_row(case, f"{name}, step (median)", harness.median(values), "s"))
        rows.append(_row(case, f"{name}, step (min)", min(values), "s"))
    return rows + _ratios(case, seconds)


def _ask(peer: Peer, count: int) -> float:
    return float(peer.ask({"do": "steps", "steps": count})["seconds"]) / count


def _ratios(case: Case, seconds: dict[str, list[float]]) -> list[Row]:
    medians = {name: harness.median(values) for name, values in seconds.items()}
    theirs = medians.pop("PyTorch, three passes", None)
    if theirs is None:
        return []
    names = {
        "joint": "joint against PyTorch's three passes",
        "three passes": "three passes against PyTorch's",
    }
    return [_row(case, names[name], theirs / ours, "x") for name, ours in medians.items()]


def first_rounds(case: Case) -> list[Row]:
    """Compile time of a search round, and its start with a filled cache, in new processes."""
    rows = []
    with tempfile.TemporaryDirectory() as cache:
        for warm in (False, True):
            begin = time.time()
            arguments = ["--case", case.name, "--cache", cache]
            with Peer(sys.executable, "benchmarks.first_step", arguments) as process:
                start = process.facts["done"] - begin
                compiling = process.facts["compile_seconds"]
            state = "warm" if warm else "cold"
            rows.append(_row(case, f"search round, {state} compile", compiling, "s"))
            rows.append(_row(case, f"{state} start to the first finished step", start, "s"))
    return rows


def _row(case: Case, name: str, value: float, unit: str) -> Row:
    bars = BARS if jax.default_backend() == "cpu" else GPU_BARS
    return Row(f"{case.name}: {name}", value, unit, bars.get(case.name, {}).get(name))


def main() -> None:
    """Measures all cases; the tiny one with --quick."""
    parser = harness.parser(__doc__, peers=("torch",))
    parser.add_argument("--only", default="", help=f"one of {', '.join(CASES)}")
    parser.add_argument("--plain-xla", action="store_true", help="without our compiler options")
    arguments = parser.parse_args()
    if arguments.only:
        chosen = [cases.find(arguments.only)]
    else:
        chosen = [CASES["tiny"]] if arguments.quick else list(CASES.values())
    python = harness.find_python(arguments, "torch")
    versions: dict[str, str] = {}
    if python is not None:
        with Peer(python, "benchmarks.pytorch.serve") as peer:
            versions["torch"] = peer.facts["torch"]
    rows = []
    with tempfile.TemporaryDirectory() as cache:
        jax.config.update("jax_compilation_cache_dir", cache)
        for case in chosen:
            repeats = arguments.repeats or (10 if case.side == 8 else 5)
            rows += measure(case, python, repeats, plain_xla=arguments.plain_xla)
            if case.name in ROUNDS and not arguments.plain_xla:
                rows += first_rounds(case)
    harness.publish("local_step", rows, arguments, versions)


if __name__ == "__main__":
    harness.start(main)
