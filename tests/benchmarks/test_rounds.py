"""Rounds as the benchmarks run them."""

import numpy as np
import pytest

from benchmarks import rounds
from fednas_jax import config as schema
from fednas_jax.config import default


def config():
    made = default()
    made.algorithm = "fedavg"
    made.dataset.name = "digits"
    made.network.name = "2nn"
    made.partition.name = "homo"
    made.partition.num_clients = 13
    made.clients_per_round = 4
    made.client.held_out_fraction = 0.0
    made.optimizer.learning_rate = 0.1
    made.batch_size = 10
    made.augment.crop_padding = made.augment.cutout = 0
    made.augment.flip = False
    return schema.resolve(made)


def test_rounds_learn():
    population = rounds.load_population(config())
    ours = rounds.Ours(config(), population)
    assert ours.parameters() == 65 * 200 + 201 * 200 + 201 * 10
    before = ours.test()["accuracy"]
    assert ours.rounds(2) > 0
    assert ours.rounds(4) > 0
    assert ours.done == 6
    assert ours.test()["accuracy"] > max(0.5, before)


def test_examples_for_peers_are_the_population():
    population = rounds.load_population(config())
    parts = population.partition.clients
    smallest = min(map(len, parts))
    even = population._replace(
        partition=population.partition._replace(clients=tuple(part[:smallest] for part in parts))
    )
    with rounds.examples_file(even) as path, np.load(path, allow_pickle=False) as file:
        assert file["clients"].shape == (13, smallest)
        np.testing.assert_array_equal(file["train_labels"], population.dataset.train.labels)


def test_the_benchmarks_configs_are_the_papers():
    cnn, mlp = rounds.load_config("mnist_fedavg"), rounds.load_config("mnist_fedavg", "2nn")
    assert (cnn["network"]["name"], mlp["network"]["name"]) == ("cnn", "2nn")
    for made, cohort, clients in ((cnn, 10, 100), (rounds.load_config("pfl_cifar10"), 50, 1000)):
        assert made["clients_per_round"] == cohort
        assert made["partition"]["num_clients"] == clients
        assert (made["local_epochs"], made["batch_size"]) == (1, 10)
        assert made["optimizer"]["learning_rate"] == 0.1


@pytest.mark.parametrize(
    ("asked", "chosen"), [("3", (3,)), ("99", (4,)), ("auto", (1,)), ("measured", (1, 2, 4))]
)
def test_clients_side_by_side_are_chosen_as_in_an_experiment(asked, chosen):
    made = schema.resolve(config(), {"clients_per_chunk": asked})
    ours = rounds.Ours(made, rounds.load_population(made))
    assert ours._engine.clients_per_chunk in chosen
