"""How time, memory and compile time grow with the population, the cohort and the depth.

    python -m benchmarks.growth [--quick] [--json FILE] [--repeats N]

Federations of 100, 1,000 and 10,000 clients, with cohorts of 10 and 100, run in separate processes,
which take turns. All train the 2NN of McMahan et al. by FedAvg on 60 examples per client, one epoch
in batches of 10. The clients hold indices into the same 2,000 images, so that a population is only
a table of indices. Then supernets with increasing numbers of cells (C = 16, batch 16, 32 x 32) are
compiled without a cache, each in a separate process.
"""

import json
import sys
from contextlib import ExitStack
from typing import Any

from fednas_jax.runtime import environment

if __name__ == "__main__":
    environment.prepare("benchmarks.growth")  # as the command line does

import jax
import numpy as np

from benchmarks import cases, harness
from benchmarks.harness import Peer, Row
from benchmarks.rounds import Ours
from fednas_jax import config as schema
from fednas_jax.data.datasets import Dataset, Split
from fednas_jax.data.partition import Partition
from fednas_jax.experiment import assembly
from fednas_jax.federated.cohort import in_chunks
from fednas_jax.federated.round import RoundEngine
from fednas_jax.runtime import compilation, memory

POPULATIONS = (100, 1_000, 10_000)
COHORTS = (10, 100)
EXAMPLES, IMAGES = 60, 2_000
LAYERS = (3, 8, 14, 20)
FEWEST_SECONDS = 0.3
"""Duration of one measurement, which has as many rounds as fit."""


def federation(population: int, cohort: int) -> Ours:
    """Clients with the 2NN; each holds 60 of the same 2,000 images."""
    texts = {
        "algorithm": "fedavg",
        "network.name": "2nn",
        "batch_size": "10",
        "local_epochs": "1",
        "clients_per_round": str(cohort),
        "client.held_out_fraction": "0.0",
        "optimizer.learning_rate": "0.05",
        "partition.num_clients": str(population),
        "augment.crop_padding": "0",
        "augment.flip": "false",
        "augment.cutout": "0",
    }
    config = schema.resolve(schema.default(), texts)
    rng = np.random.RandomState(0)
    labels = np.arange(IMAGES, dtype=np.int32) % 10
    split = Split(rng.randint(0, 256, (IMAGES, 28, 28, 1), np.uint8), labels, None)
    names = tuple(str(i) for i in range(10))
    dataset = Dataset("random", split, split, 10, names, (0.5,), (0.25,))
    parts = rng.randint(0, IMAGES, (population, EXAMPLES)).astype(np.int32)
    return Ours(config, assembly.populate(config, dataset, Partition(tuple(parts))))


def serve_population(population: int, cohort: int) -> None:
    """Answers each line with {"seconds": of a round, "peak_bytes": of this process}."""
    ours = federation(population, cohort)
    count = max(1, round(FEWEST_SECONDS / min(ours.rounds(1) for _ in range(3))))
    print(json.dumps({"ready": True}), flush=True)
    for _ in sys.stdin:
        seconds = ours.rounds(count)
        print(json.dumps({"seconds": seconds, "peak_bytes": memory.peak_bytes()}), flush=True)


def serve_layers(layers: int, repeats: int) -> None:
    """Prints one line: the time to trace and compile a supernet, and the time of a step."""
    jax.config.update("jax_enable_compilation_cache", False)
    case = cases.Case("deep", 16, layers, 16, 32)
    config = cases.config(case, server__batch_stats="averaged", clients_per_round=1)
    population = cases.population(case, config, clients=1, steps=1)
    algorithm = assembly.build_algorithm(config, population.dataset)
    state = compilation.jit_once(algorithm.init)(jax.random.key(0))
    engine = RoundEngine(algorithm, population.clients, population.examples, 1)
    cohort = in_chunks(np.array([0], np.int32), population.clients.local_steps, 1)
    before = _compile_seconds()
    needed = engine.temporary_bytes(state, cohort)
    after = _compile_seconds()
    seconds = [engine.seconds_of_a_chunk(state, cohort) for _ in range(repeats)]
    answer: dict[str, Any] = {"ready": True, "temporary_bytes": needed}
    answer |= {name: after[name] - before[name] for name in after}
    print(json.dumps({**answer, "step_seconds": harness.median(seconds)}), flush=True)
    sys.stdin.read()


_spent = {"trace_seconds": 0.0, "compile_seconds": 0.0}


def _compile_seconds() -> dict[str, float]:
    return dict(_spent)


def _listen(event: str, duration_secs: float, **_: str | int) -> None:
    if event == "/jax/core/compile/backend_compile_duration":
        _spent["compile_seconds"] += duration_secs
    elif event.startswith("/jax/core/compile/"):
        _spent["trace_seconds"] += duration_secs


def populations(sizes: tuple[int, ...], cohort: int, repeats: int) -> list[Row]:
    """Measures rounds with one size of cohort and several sizes of the population, in turns."""
    with ExitStack() as stack:
        peers = {
            size: stack.enter_context(
                Peer(sys.executable, "benchmarks.growth", [f"--population={size},{cohort}"])
            )
            for size in sizes
        }
        answers: dict[int, list[dict[str, Any]]] = {size: [] for size in sizes}
        for _ in range(repeats):
            for size, peer in peers.items():
                answers[size].append(peer.ask({}))
    seconds = {n: [a["seconds"] for a in given] for n, given in answers.items()}
    peak = {n: given[-1]["peak_bytes"] / 1e6 for n, given in answers.items()}
    rows = []
    for size in sizes:
        what = f"{cohort} of {size:,} clients"
        rows.append(Row(f"{what}: rounds", 1 / harness.median(seconds[size]), "1/s"))
        rows.append(Row(f"{what}: memory of the process", peak[size], "MB"))
    few, many = sizes[0], sizes[-1]
    # Round by round, so that other load on the machine affects both.
    ratios = [m / f for m, f in zip(seconds[many], seconds[few], strict=True)]
    table = (many - few) * 2 * EXAMPLES * 4 / 1e6  # train and valid, int32
    what = f"{cohort} of {many:,} clients against {cohort} of {few:,}"
    rows.append(Row(f"{what}: time a round", harness.median(ratios), "x", harness.at_most(1.05)))
    more = peak[many] - peak[few] - table
    rows.append(Row(f"{what}: memory, index table aside", more, "MB more", harness.at_most(200)))
    return rows


def depths(layers: tuple[int, ...], repeats: int) -> list[Row]:
    """Measures supernets with given numbers of cells."""
    rows, seconds = [], {}
    for count in layers:
        arguments = [f"--layers={count},{repeats}"]
        with Peer(sys.executable, "benchmarks.growth", arguments) as peer:
            facts = peer.facts
        seconds[count] = facts["compile_seconds"]
        rows += [
            Row(f"L={count}: trace and lower", facts["trace_seconds"], "s"),
            Row(f"L={count}: compile", facts["compile_seconds"], "s"),
            Row(f"L={count}: local step", facts["step_seconds"], "s"),
            Row(f"L={count}: temporary memory", facts["temporary_bytes"] / 1e6, "MB"),
        ]
    bar = harness.at_most(1.5)
    rows.append(Row("compile time, L=20 against L=8", seconds[20] / seconds[8], "x", bar))
    return rows


def main() -> None:
    """Runs the benchmark; with --quick only the ends of each range."""
    parser = harness.parser(__doc__)
    parser.add_argument("--population", default="", help="POPULATION,COHORT: of this process")
    parser.add_argument("--layers", default="", help="LAYERS,REPEATS: of this process")
    parser.add_argument("--only", default="", help="'clients' or 'layers'")
    arguments = parser.parse_args()
    if arguments.population:
        serve_population(*map(int, arguments.population.split(",")))
        return
    if arguments.layers:
        jax.monitoring.register_event_duration_secs_listener(_listen)
        serve_layers(*map(int, arguments.layers.split(",")))
        return
    repeats = arguments.repeats or (5 if arguments.quick else 11)
    rows = []
    if arguments.only in ("", "clients"):
        sizes = (POPULATIONS[0], POPULATIONS[-1]) if arguments.quick else POPULATIONS
        for cohort in COHORTS[:1] if arguments.quick else COHORTS:
            rows += populations(sizes, cohort, repeats)
    if arguments.only in ("", "layers"):
        rows += depths((8, 20) if arguments.quick else LAYERS, 1 if arguments.quick else 3)
    harness.publish("growth", rows, arguments)


if __name__ == "__main__":
    harness.start(main)
