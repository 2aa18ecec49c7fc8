"""pfl-research's CIFAR-10 recipe: seconds a round against pfl-research itself.

    python -m benchmarks.pfl_cifar10 [--quick] [--json FILE] [--repeats N]

1,000 users of 50 images each (IID), a cohort of 50, one local epoch in batches of 10, plain SGD at
0.1, its small CNN with dropout, and the test set every 10 rounds, whose time counts by a tenth a
round. Both have the same images, the same partition, the same number of weights and all cores, and
take turns. --quick: three repeats.
"""

from collections.abc import Callable, Mapping
from contextlib import ExitStack

from fednas_jax.runtime import environment

if __name__ == "__main__":
    environment.prepare("benchmarks.pfl_cifar10")  # as the command line does

import jax

from benchmarks import harness, rounds
from benchmarks.harness import Peer, Row, at_least
from benchmarks.mnist_fedavg import check_same_size

TEST_EVERY = 10
TITLES = {"ours": "ours", "pfl": "pfl-research"}
REPEATS, QUICK_REPEATS = 9, 3


def main() -> None:
    """Measures a round and a test, ours and theirs."""
    arguments = harness.parser(__doc__, peers=("pfl",)).parse_args()
    python = harness.find_python(arguments, "pfl")
    config = rounds.load_config("pfl_cifar10")
    population = rounds.load_population(config)
    ours = rounds.Ours(config, population)
    candidates: dict[str, Callable[[], float]] = {
        "ours, round": lambda: ours.rounds(1),
        "ours, test": lambda: ours.test()["seconds"],
    }
    versions: dict[str, str] = {}
    with ExitStack() as stack:
        testers = {"ours": ours.test}
        if python is not None:
            examples = stack.enter_context(rounds.examples_file(population))
            asked = ["--examples", examples]
            peer = stack.enter_context(Peer(python, "benchmarks.peers.pfl_research", asked))
            check_same_size(TITLES["pfl"], peer, ours)
            versions = peer.facts["versions"]
            testers["pfl"] = lambda: peer.ask({"test": True})
            candidates["pfl, round"] = lambda: float(peer.ask({"rounds": 1})["seconds"])
            candidates["pfl, test"] = lambda: float(testers["pfl"]()["seconds"])
        repeats = arguments.repeats or (QUICK_REPEATS if arguments.quick else REPEATS)
        seconds = harness.interleaved(candidates, repeats)
        accuracies = {name: test()["accuracy"] for name, test in testers.items()}
    medians = {name: harness.median(values) for name, values in seconds.items()}
    rows = table(medians, accuracies, ours.done)
    harness.publish("pfl_cifar10", rows, arguments, versions)


def table(medians: Mapping[str, float], accuracies: Mapping[str, float], done: int) -> list[Row]:
    """The rows.

    Args:
      medians: seconds by "who, round" and "who, test".
      accuracies: by who.
      done: rounds that each has run.
    """
    rows, share = [], {}
    for who, title in TITLES.items():
        if who in accuracies:
            one_round, test = medians[f"{who}, round"], medians[f"{who}, test"]
            share[who] = one_round + test / TEST_EVERY
            rows += [
                Row(f"{title}: a round's training", one_round, "s"),
                Row(f"{title}: the test set", test, "s"),
                Row(f"{title}: a round with a tenth of a test", share[who], "s"),
            ]
    if "pfl" in share:
        bar = at_least(1.5 if jax.default_backend() == "cpu" else 5)
        rows.append(Row(f"against {TITLES['pfl']}", share["pfl"] / share["ours"], "x", bar))
    for who, accuracy in accuracies.items():
        rows.append(Row(f"{TITLES[who]}: test accuracy after {done} rounds", accuracy, ""))
    return rows


if __name__ == "__main__":
    harness.start(main)
