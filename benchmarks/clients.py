"""A round of several clients, compared with as many rounds of one client and with PyTorch.

    python -m benchmarks.clients [--quick] [--json FILE] [--repeats N]

Every client makes the same number of local steps. `vmapped`: all clients side by side; `mapped`:
one after another inside one program. The ratio is the time of K rounds of one client, divided by
that of one round of K clients; with a ratio of 1, a client costs as much as alone. PyTorch makes
the three passes of the authors' code, one client after another; ours makes the joint step.
"""

import functools
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from fednas_jax.runtime import environment

if __name__ == "__main__":
    environment.prepare("benchmarks.clients")  # as the command line does

import jax

from benchmarks import cases, harness
from benchmarks.cases import CASES, Case
from benchmarks.harness import Peer, Row, at_least, at_most
from benchmarks.rounds import Ours

STEPS = {"tiny": 2, "middle": 2, "paper64": 2}
"""Local steps of a client in a round. The size of the paper is for a GPU, or for --only."""
SEARCH_STEPS = 50 * 5 * 384
"""Local steps of the paper's search: 50 rounds, 5 epochs, Table 2's clients at B = 64."""
COHORTS = (1, 4, 16)
AGAINST_TORCH = 8


def federation(case: Case, clients: int, clients_per_chunk: int) -> Ours:
    """Clients that all take part in every round, with averaged BatchNorm statistics as in the
    paper."""
    config = cases.config(
        case,
        server__batch_stats="averaged",
        clients_per_round=clients,
        clients_per_chunk=clients_per_chunk,
    )
    return Ours(config, cases.population(case, config, clients, STEPS[case.name]))


def _rounds(case: Case, chunks: dict[str, tuple[int, int]]) -> dict[str, Callable[[], object]]:
    """Functions that run a round of given (clients, clients in a chunk)."""
    return {
        name: functools.partial(federation(case, *sizes).rounds, 1)
        for name, sizes in chunks.items()
    }


def growth(case: Case, cohorts: tuple[int, ...], repeats: int) -> list[Row]:
    """Compares a round of K clients with K rounds of one client."""
    chunks = {"1 client": (1, 1)}
    for clients in cohorts:
        if clients > 1:
            chunks[f"{clients} clients, mapped"] = (clients, 1)
            chunks[f"{clients} clients, vmapped"] = (clients, clients)
    seconds = harness.interleaved(_rounds(case, chunks), repeats)
    medians = {name: harness.median(values) for name, values in seconds.items()}
    rows = []
    for name, (clients, _) in chunks.items():
        rows.append(Row(f"{case.name}: {name}, round", medians[name], "s"))
        if clients > 1:
            ratio = clients * medians["1 client"] / medians[name]
            rows.append(Row(f"{case.name}: {name}, against {clients} single ones", ratio, "x"))
    if case.name == "paper64":
        rows.append(_whole_search(min(medians[n] / k for n, (k, _) in chunks.items())))
    return rows


def _whole_search(seconds_a_client: float) -> Row:
    """Projects the time of the paper's search from the fastest round, without evaluation or
    padding."""
    minutes = seconds_a_client / STEPS["paper64"] * SEARCH_STEPS / 60
    bar = None if jax.default_backend() == "cpu" else at_most(15)
    return Row("paper64: the paper's whole search, projected", minutes, "min", bar)


def against_torch(case: Case, python: Path, repeats: int) -> tuple[list[Row], str]:
    """Compares a round with one of PyTorch; also returns PyTorch's version."""
    count = AGAINST_TORCH
    chunks = {f"{count} clients, mapped": (count, 1), f"{count} clients, vmapped": (count, count)}
    candidates = _rounds(case, chunks)
    with ExitStack() as stack:
        peer = stack.enter_context(Peer(python, "benchmarks.pytorch.serve", case.peer_arguments()))
        cases.check_parameters(case, peer.facts["parameters"])
        request = {"do": "round", "clients": count, "steps": STEPS[case.name]}
        candidates["PyTorch"] = lambda: float(peer.ask(request)["seconds"])
        seconds = harness.interleaved(candidates, repeats)
    medians = {name: harness.median(values) for name, values in seconds.items()}
    rows = [
        Row(f"{case.name}: {name}, round beside PyTorch's", medians[name], "s") for name in chunks
    ]
    rows.append(Row(f"{case.name}: {count} clients, PyTorch, round", medians["PyTorch"], "s"))
    best = min(medians[name] for name in chunks)
    ratio = medians["PyTorch"] / best
    name = f"{case.name}: {count} clients, the faster way against PyTorch one after another"
    return [*rows, Row(name, ratio, "x", at_least(25))], peer.facts["torch"]


def main() -> None:
    """Measures tiny and middle, on a GPU the paper's size too; --quick: tiny, fewer clients."""
    parser = harness.parser(__doc__, peers=("torch",))
    parser.add_argument("--only", default="", help=f"one of {', '.join(STEPS)}")
    arguments = parser.parse_args()
    repeats = arguments.repeats or 5
    every = [CASES[name] for name in STEPS]
    if jax.default_backend() == "cpu":
        every = every[:2]
    chosen = [cases.find(arguments.only)] if arguments.only else every
    rows, versions = [], {}
    python = harness.find_python(arguments, "torch")
    for case in chosen[:1] if arguments.quick else chosen:
        rows += growth(case, COHORTS[:2] if arguments.quick else COHORTS, repeats)
        if python is not None and case.name == "tiny":
            more, versions["torch"] = against_torch(case, python, repeats)
            rows += more
    harness.publish("clients", rows, arguments, versions)


if __name__ == "__main__":
    harness.start(main)
