"""configs/mnist_fedavg.py: its variants are the cells of McMahan et al.'s tables."""

from pathlib import Path
from typing import Any

import pytest

from fednas_jax import config as schema
from fednas_jax.fields import config_file

SPEC = str(Path(__file__).resolve().parents[1] / "configs" / "mnist_fedavg.py")


def _config(variant: str) -> Any:
    return schema.resolve(config_file.load(f"{SPEC}:{variant}"))


def test_every_cell_has_a_variant_that_is_usable() -> None:
    table1 = config_file.expand_variants(f"{SPEC}:table1_*")
    table2 = config_file.expand_variants(f"{SPEC}:table2_*")
    assert len(table1) == 2 * 2 * 2 * 5  # networks, splits, B, C
    assert len(table2) == 2 * 9
    for spec in table1 + table2:
        schema.resolve(config_file.load(spec))


@pytest.mark.parametrize(
    ("variant", "local_epochs", "batch_size", "partition", "rounds"),
    [
        ("table2_e1_binf_iid", 1, 0, "homo", 626 + 156),
        ("table2_e20_b50_noniid", 20, 50, "shards", 426 + 106),
        ("table2_e5_b10_iid", 5, 10, "homo", 20 + 10),
        ("table2_e1_b10_iid", 1, 10, "homo", 34 + 10),
    ],
)
def test_cells_of_table_2(
    variant: str, local_epochs: int, batch_size: int, partition: str, rounds: int
) -> None:
    config = _config(variant)
    assert (config.local_epochs, config.batch_size) == (local_epochs, batch_size)
    assert (config.partition.name, config.rounds) == (partition, rounds)
    assert (config.network.name, config.clients_per_round) == ("cnn", 10)


@pytest.mark.parametrize(
    ("variant", "network", "local_epochs", "clients", "rounds"),
    [
        ("table1_2nn_iid_b10_c0.1", "2nn", 1, 10, 87 + 21),
        ("table1_2nn_noniid_binf_c0.5", "2nn", 1, 50, 2000),
        ("table1_cnn_noniid_b10_c0", "cnn", 5, 1, 956 + 239),
        ("table1_cnn_iid_b10_c1", "cnn", 5, 100, 16 + 10),
    ],
)
def test_cells_of_table_1(
    variant: str, network: str, local_epochs: int, clients: int, rounds: int
) -> None:
    config = _config(variant)
    assert (config.network.name, config.local_epochs) == (network, local_epochs)
    assert (config.clients_per_round, config.rounds) == (clients, rounds)
    assert config.partition.name == ("shards" if "noniid" in variant else "homo")


def test_fedprox_can_be_set_otherwise_in_one_field() -> None:
    config = _config("fedprox")
    assert (config.partition.name, config.partition.num_clients) == ("power_law", 1000)
    assert (config.fedprox_mu, config.stragglers_share, config.stragglers) == (1.0, 0.9, "keep")
    base = config_file.load(f"{SPEC}:fedprox")
    for mu, stragglers in (("0", "drop"), ("0", "keep"), ("2", "keep")):
        other = schema.resolve(base, {"fedprox_mu": mu, "stragglers": stragglers})
        assert (other.fedprox_mu, other.stragglers) == (float(mu), stragglers)
