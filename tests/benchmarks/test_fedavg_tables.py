"""What the two FedAvg benchmarks make of their measurements."""

from types import SimpleNamespace

import pytest

from benchmarks import mnist_fedavg, pfl_cifar10
from fednas_jax.runtime.errors import UserError


def test_mnist_ratios_are_of_medians():
    case = mnist_fedavg.CASES[1]
    seconds = {"ours": [1.0, 2.0, 9.0], "torch": [8.0, 7.0, 1.0], "flower": [30.0, 40.0, 50.0]}
    accuracies = {"ours": 0.9, "torch": 0.91, "flower": 0.92}
    rows = {row.name: row for row in mnist_fedavg.table(case, seconds, accuracies, 10)}
    assert rows["2NN, ours"].value == 0.5
    assert rows["2NN, against plain PyTorch loop"].value == 3.5
    assert rows["2NN, against plain PyTorch loop"].met
    assert rows["2NN, against Flower"].value == 20
    assert rows["2NN, against Flower"].met
    assert rows["2NN, Flower: test accuracy after 10 rounds"].value == 0.92


def test_mnist_without_peers_has_only_our_rows():
    rows = mnist_fedavg.table(mnist_fedavg.CASES[0], {"ours": [0.5]}, {"ours": 0.9}, 2)
    assert [row.name for row in rows] == ["CNN, ours", "CNN, ours: test accuracy after 2 rounds"]


def test_a_tenth_of_a_test_counts_in_each_round():
    medians = {"ours, round": 1.0, "ours, test": 2.0, "pfl, round": 2.0, "pfl, test": 4.0}
    rows = pfl_cifar10.table(medians, {"ours": 0.3, "pfl": 0.4}, 4)
    values = {row.name: row.value for row in rows}
    assert values["ours: a round with a tenth of a test"] == pytest.approx(1.2)
    assert values["pfl-research: a round with a tenth of a test"] == pytest.approx(2.4)
    assert values["against pfl-research"] == pytest.approx(2)
    assert values["pfl-research: test accuracy after 4 rounds"] == 0.4


def test_pfl_without_the_peer_has_no_ratio():
    rows = pfl_cifar10.table({"ours, round": 1.0, "ours, test": 2.0}, {"ours": 0.3}, 4)
    assert [row.name for row in rows if row.bar] == []


def test_unlike_networks_are_not_compared():
    theirs = SimpleNamespace(facts={"parameters": 12})
    ours = SimpleNamespace(parameters=lambda: 13)
    with pytest.raises(UserError, match="Flower: 12 weights; ours has 13"):
        mnist_fedavg.check_same_size("Flower", theirs, ours)
