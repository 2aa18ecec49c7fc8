"""FedAvg on MNIST: rounds per second against Flower's simulation and a plain PyTorch loop.

    python -m benchmarks.mnist_fedavg [--quick] [--json FILE] [--repeats N] [--network NAME]

The CNN and the 2NN of McMahan et al. (2017): 100 clients of 600 images each (IID), 10 in each
round, one local epoch in batches of 10, plain SGD with learning rate 0.1. All candidates have the
same images, the same partition, the same number of weights and both cores, and take turns round by
round. A round is training and averaging; the test set is used once, at the end, to check that all
learn equally well. --quick: only the 2NN.
"""

import argparse
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, NamedTuple

from fednas_jax.runtime import environment

if __name__ == "__main__":
    environment.prepare("benchmarks.mnist_fedavg")  # as the command line does

from benchmarks import harness, rounds
from benchmarks.harness import Peer, Row, at_least
from fednas_jax.experiment import assembly
from fednas_jax.runtime.errors import UserError


class Case(NamedTuple):
    """A network, and the bars for it."""

    network: str
    """Its name in requests to peers."""
    variant: str
    """Variant of configs/mnist_fedavg.py."""
    title: str
    rounds: int
    """Rounds in a repeat. Flower polls ten times a second, so that short rounds are timed
    together."""
    bars: dict[str, float]
    """Peer -> factor by which ours must be faster."""


CASES = (
    Case("cnn", "", "CNN", 1, {"torch": 1.5, "flower": 1.6}),
    Case("2nn", "2nn", "2NN", 5, {"torch": 3, "flower": 20}),
)
PEERS = {
    "torch": ("plain PyTorch loop", "benchmarks.peers.plain_torch"),
    "flower": ("Flower", "benchmarks.peers.flower"),
}
FLOWER_WITH_LOADER = "flower, data loader"
"""Flower once more, with a client like those of Flower's examples; without a bar."""

REPEATS = 9
"""With the round that warms up, ten: enough to see whether all learn."""


def main() -> None:
    """Measures both networks, or the 2NN with --quick."""
    parser = harness.parser(__doc__, peers=tuple(PEERS))
    parser.add_argument("--network", choices=[case.network for case in CASES], default="")
    arguments = parser.parse_args()
    wanted = arguments.network or ("2nn" if arguments.quick else "")
    pythons = {name: harness.find_python(arguments, name) for name in PEERS}
    rows: list[Row] = []
    versions: dict[str, str] = {}
    population = rounds.load_population(rounds.load_config("mnist_fedavg"))
    with rounds.examples_file(population) as examples:
        for case in CASES:
            if wanted in ("", case.network):
                rows += measure(case, population, examples, pythons, arguments, versions)
    harness.publish("mnist_fedavg", rows, arguments, versions)


def measure(
    case: Case,
    population: assembly.Population,
    examples: str,
    pythons: dict[str, Any],
    arguments: argparse.Namespace,
    versions: dict[str, str],
) -> list[Row]:
    """All rows of one network; notes the peers' versions."""
    config = rounds.load_config("mnist_fedavg", case.variant)
    ours = rounds.Ours(config, population)
    with ExitStack() as stack:
        peers: dict[str, Peer] = {}
        for name, python in pythons.items():
            if python is not None:
                asked = ["--examples", examples, "--network", case.network]
                peers[name] = stack.enter_context(Peer(python, PEERS[name][1], asked))
                check_same_size(PEERS[name][0], peers[name], ours)
                versions |= peers[name].facts["versions"]
        candidates: dict[str, Callable[[], float]] = {"ours": lambda: ours.rounds(case.rounds)}
        for name, peer in peers.items():
            candidates[name] = _rounds_of(peer, case.rounds)
        if "flower" in peers:
            candidates[FLOWER_WITH_LOADER] = _rounds_of(
                peers["flower"], case.rounds, data_loader=True
            )
        seconds = harness.interleaved(candidates, arguments.repeats or REPEATS)
        accuracies = {"ours": ours.test()["accuracy"]}
        accuracies |= {name: peer.ask({"test": True})["accuracy"] for name, peer in peers.items()}
    return table(case, seconds, accuracies, ours.done)


def check_same_size(name: str, peer: Peer, ours: rounds.Ours) -> None:
    """Refuses to compare different networks.

    Raises:
      UserError: the network of the peer has another number of weights.
    """
    theirs = peer.facts["parameters"]
    if theirs != ours.parameters():
        raise UserError(f"{name}: {theirs} weights; ours has {ours.parameters()}, and so should it")


def _rounds_of(peer: Peer, count: int, **how: bool) -> Callable[[], float]:
    return lambda: float(peer.ask({"rounds": count, **how})["seconds"]) / count


def table(
    case: Case, seconds: dict[str, list[float]], accuracies: dict[str, float], done: int
) -> list[Row]:
    """The rows of a network.

    Args:
      case: which.
      seconds: a round, of each repeat, by who.
      accuracies: by who.
      done: rounds that each has run.
    """
    medians = {name: harness.median(values) for name, values in seconds.items()}
    titles = {"ours": "ours"} | {name: title for name, (title, _) in PEERS.items()}
    titles[FLOWER_WITH_LOADER] = "Flower with a data loader"
    rows = [
        Row(f"{case.title}, {titles[name]}", 1 / value, "rounds/s")
        for name, value in medians.items()
    ]
    rows += [
        Row(f"{case.title}, against {titles[name]}", medians[name] / medians["ours"], "x",
            at_least(case.bars[name]) if name in case.bars else None)
        for name in medians
        if name != "ours"
    ]  # fmt: skip
    rows += [
        Row(f"{case.title}, {titles[name]}: test accuracy after {done} rounds", value, "")
        for name, value in accuracies.items()
    ]
    return rows


if __name__ == "__main__":
    harness.start(main)
