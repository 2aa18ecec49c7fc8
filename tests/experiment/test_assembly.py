"""From a config to its parts: what each part gets, and what does not fit together."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fednas_jax import config as schema
from fednas_jax.algorithms import parts, registry
from fednas_jax.algorithms.fedavg import room as fedavg_room
from fednas_jax.algorithms.fednas import room
from fednas_jax.data import partition as partitions
from fednas_jax.data.datasets import Dataset, Split
from fednas_jax.data.partition import Partition
from fednas_jax.experiment import assembly, workdir
from fednas_jax.federated.algorithm import Algorithm
from fednas_jax.runtime.errors import UserError
from fednas_jax.runtime.files import write_json

TRAIN, TEST, CLIENTS = 40, 10, 4


def small(**fields: Any) -> Any:
    """The default config for 8 x 8 images and 4 clients, with fields set by their dotted name."""
    config = schema.default()
    config.update_from_flattened_dict(
        {
            "dataset.name": "small",
            "partition.name": "homo",
            "partition.num_clients": CLIENTS,
            "augment.cutout": 0,
        }
        | fields
    )
    return schema.resolve(config)


def dataset(height: int = 8, width: int = 8) -> Dataset:
    """A first pixel that counts the images, train and test; two classes; a client for each four."""

    def split(start: int, count: int) -> Split:
        images = np.zeros((count, height, width, 1), np.uint8)
        images[:, 0, 0, 0] = start + np.arange(count)
        labels = (np.arange(count) % 2).astype(np.int32)
        return Split(images, labels, np.arange(count, dtype=np.int32) // 4)

    return Dataset(
        "small", split(0, TRAIN), split(TRAIN, TEST), 2, ("even", "odd"), (0.5,), (0.25,)
    )


def test_the_data_set_is_loaded_as_the_config_says() -> None:
    config = schema.default()
    config.dataset.name = "digits"
    config.dataset.max_train_examples = 50
    config.dataset.max_test_examples = 20
    config.seed = 3
    data = assembly.load_dataset(config)
    assert (len(data.train.labels), len(data.test.labels)) == (50, 20)
    again = assembly.load_dataset(config)
    config.seed = 4
    other = assembly.load_dataset(config)
    np.testing.assert_array_equal(again.train.images, data.train.images)
    assert (other.train.images != data.train.images).any()


def test_every_example_is_dealt_and_lies_where_its_index_says() -> None:
    config = small(**{"client.held_out_fraction": 0.2, "batch_size": 3})
    data = dataset()
    population = assembly.populate(config, data, assembly.make_partition(config, data))
    clients = population.clients
    # Of 10 examples each, 2 are held out, 4 train weights and 4 alphas: one step of 3.
    np.testing.assert_array_equal(clients.num_train, [4] * CLIENTS)
    np.testing.assert_array_equal(clients.num_valid, [4] * CLIENTS)
    np.testing.assert_array_equal(clients.local_steps, [1] * CLIENTS)
    assert [len(held_out) for held_out in population.held_out] == [2] * CLIENTS
    learned = np.concatenate([clients.train, clients.valid], axis=1)
    used = np.concatenate([learned.ravel(), *population.held_out, population.test])
    np.testing.assert_array_equal(np.sort(used), np.arange(TRAIN + TEST))
    images = np.asarray(population.examples.inputs)
    np.testing.assert_array_equal(images[:, 0, 0, 0], np.arange(TRAIN + TEST))
    np.testing.assert_array_equal(population.test, np.arange(TRAIN, TRAIN + TEST))
    assert np.asarray(population.examples.targets).dtype == np.int32


def test_fedavg_trains_on_all_that_a_client_does_not_hold_out() -> None:
    config = small(**{"algorithm": "fedavg", "client.held_out_fraction": 0.2, "batch_size": 3})
    data = dataset()
    population = assembly.populate(config, data, assembly.make_partition(config, data))
    clients = population.clients
    # Of 10 examples each, 2 are held out; the others make batches of 3, 3 and 2.
    np.testing.assert_array_equal(clients.num_train, [8] * CLIENTS)
    np.testing.assert_array_equal(clients.num_examples, [8] * CLIENTS)
    np.testing.assert_array_equal(clients.local_steps, [3] * CLIENTS)
    assert [len(held_out) for held_out in population.held_out] == [2] * CLIENTS
    used = np.concatenate([clients.train.ravel(), *population.held_out])
    np.testing.assert_array_equal(np.sort(used), np.arange(TRAIN))


def test_more_clients_a_round_than_the_partition_brings() -> None:
    config = small(**{"partition.name": "natural", "clients_per_round": 11})
    data = dataset()
    partition = assembly.make_partition(config, data)
    with pytest.raises(UserError, match=r"^config\.clients_per_round: 11; at most 10, "):
        assembly.populate(config, data, partition)


def test_clients_without_any_example() -> None:
    empty = Partition((np.zeros(0, np.int32),) * 2)
    with pytest.raises(UserError, match=r"^config\.partition: no client has an example"):
        assembly.populate(small(), dataset(), empty)


@pytest.mark.parametrize(
    ("name", "asked", "warns"),
    [
        ("natural", 5, True),
        ("natural", 10, False),  # as many as there are
        ("natural", 16, False),  # the default: nobody asked for it
        ("homo", 5, False),
    ],
)
def test_a_number_of_clients_that_is_not_used(
    capsys: pytest.CaptureFixture[str], name: str, asked: int, warns: bool
) -> None:
    config = small(**{"partition.name": name, "partition.num_clients": asked})
    assembly.make_partition(config, dataset())
    warning = (
        "fednas_jax: warning: config.partition.num_clients: 5 is not used; "
        "partition 'natural' has 10 clients\n"
    )
    assert capsys.readouterr().err == (warning if warns else "")


def saved_by_hand(folder: Path, name: str, count: int) -> Any:
    """A config for a file of indices without a record of the examples that they count."""
    np.savez(folder / "p.npz", indices=np.arange(count), counts=[count])
    fields = {"dataset.name": name, "partition.name": "file", "partition.num_clients": 1}
    return small(**fields, **{"partition.path": str(folder / "p.npz")})


def test_indices_by_hand_are_refused_where_the_seed_says_what_they_count(tmp_path: Path) -> None:
    """A cut by another seed leaves others, and no line of warning would be read in a sweep."""
    data, right = dataset(), r"^config\.partition\.path: .*p\.npz has no record of the examples"
    config = saved_by_hand(tmp_path, "digits", TRAIN)
    with pytest.raises(UserError, match=right + ".*another config.seed selects other") as error:
        assembly.make_partition(config, data)
    assert "\n" not in str(error.value)
    limited = schema.resolve(config, {"dataset.name": "mnist", "dataset.max_train_examples": "40"})
    with pytest.raises(UserError, match=right):
        assembly.make_partition(limited, data)
    # A run that goes on has a record of its own.
    assert len(assembly.make_partition(config, data, begun=True).clients) == 1
    partition = Partition((np.arange(TRAIN, dtype=np.int32),))
    partitions.save(tmp_path / "p.npz", partition, data.train)
    assert len(assembly.make_partition(config, data).clients) == 1
    with pytest.raises(UserError, match=r"p\.npz is for other training examples than"):
        assembly.make_partition(config, data._replace(train=data.test))


def test_indices_by_hand_of_data_that_no_seed_cuts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = saved_by_hand(tmp_path, "mnist", TRAIN)
    assert len(assembly.make_partition(config, dataset()).clients) == 1
    assert "whether they are those of this run cannot be checked" in capsys.readouterr().err


def test_indices_that_a_run_of_an_earlier_version_left(tmp_path: Path) -> None:
    data = dataset()
    config = saved_by_hand(tmp_path, "digits", TRAIN)
    path = (tmp_path / "p.npz").rename(tmp_path / "partition.npz")
    config = schema.resolve(config, {"partition.path": str(path)})
    dealt = (np.arange(TRAIN, dtype=np.int32),)
    write_json(tmp_path / "run.json", {"data_sha256": workdir.fingerprint(data, dealt)})
    assert len(assembly.make_partition(config, data).clients) == 1
    other = data._replace(test=data.test._replace(labels=1 - data.test.labels))
    with pytest.raises(UserError, match="has no record of the examples"):
        assembly.make_partition(config, other)


@pytest.mark.parametrize("name", ["crop_padding", "cutout"])
@pytest.mark.parametrize("shape", [(8, 8), (8, 12), (12, 8)])
def test_an_augmentation_that_may_hide_all_of_an_image(
    monkeypatch: pytest.MonkeyPatch, name: str, shape: tuple[int, int]
) -> None:
    data = dataset(*shape)
    config = small(**{f"augment.{name}": 8})
    message = rf"^config\.augment\.{name}: 8 may hide all of .* {shape[0]} x {shape[1]}; at most 7"
    with pytest.raises(UserError, match=message):
        assembly.build_algorithm(config, data)
    # Before a run has made its folder.
    monkeypatch.setattr(assembly, "load_dataset", lambda config, cut_by: data)
    with pytest.raises(UserError, match=message):
        assembly.prepare(config)


def test_augmentation_has_the_moments_of_the_data() -> None:
    config = small(**{"augment.cutout": 7, "augment.crop_padding": 7, "augment.flip": False})
    (augmentation,) = parts.task(config, dataset()).augment.args
    assert augmentation == (7, False, 7, (0.5,), (0.25,))


def test_the_supernet_has_the_size_that_the_config_says() -> None:
    config = small(**{"supernet.init_channels": 4, "supernet.layers": 5, "supernet.remat": True})
    supernet = room.build_supernet(config, 7)
    assert (supernet.num_classes, supernet.init_channels, supernet.layers) == (7, 4, 5)
    assert (supernet.remat, supernet.scan_cells) == (True, True)


def test_every_algorithm_that_the_schema_knows_is_built() -> None:
    (field,) = [field for field in schema.FIELDS if field.name == "algorithm"]
    names = [declared.name for declared in registry.ALGORITHMS]
    for name in names:
        assert field.check(name) == ""
    assert field.check("") == f"one of {', '.join(names)} is needed"
    assert {fields["algorithm"] for fields, _ in BUILT} == set(names)


BUILT: list[tuple[dict[str, str], int]] = [
    ({"algorithm": "fednas", "search.order": "joint"}, 2),
    ({"algorithm": "fednas", "search.order": "alpha_first", "server.batch_stats": "averaged"}, 1),
    ({"algorithm": "fedavg", "network.name": "2nn"}, 1),
    ({"algorithm": "fedavg", "network.name": "resnet20"}, 2),
    ({"algorithm": "fedavg", "network.name": "resnet20", "server.batch_stats": "averaged"}, 1),
    ({"algorithm": "fedavg", "network.name": "resnet20", "network.normalization": "group"}, 1),
]
"""Fields, and how many phases a round has: one more where statistics are taken anew."""


@pytest.mark.parametrize(("fields", "phases"), BUILT)
def test_an_algorithm_has_as_many_phases_as_its_statistics_need(
    fields: dict[str, str], phases: int
) -> None:
    algorithm = assembly.build_algorithm(small(**fields), dataset())
    assert len(algorithm.phases) == phases


def test_the_train_stage_gets_what_the_config_says(monkeypatch: pytest.MonkeyPatch) -> None:
    built: dict[str, Any] = {}

    def build(network: Any, task: Any, options: Any) -> Algorithm:
        built.update(network=network, options=options)
        return Algorithm(*[None] * 3)  # type: ignore[arg-type]

    monkeypatch.setattr(fedavg_room.fedavg, "build", build)
    config = small(
        **{
            "algorithm": "fedavg",
            "rounds": 500,
            "local_epochs": 15,
            "network.name": "genotype",
            "network.auxiliary": True,
            "optimizer.drop_path_rate": 0.2,
            "optimizer.schedule": "both",
            "fedprox_mu": 0.3,
            "server.optimizer": "adam",
            "server.learning_rate": 0.01,
        }
    )
    assembly.build_algorithm(config, dataset())
    assert built["network"].auxiliary is True
    options = built["options"]
    assert options.learning_rate == (0.025, 0.001, "both", 15, 500)
    assert options.drop_path == (0.2, 500)
    assert (options.momentum, options.weight_decay, options.clip_norm) == (0.9, 3e-4, 5.0)
    assert (options.auxiliary_weight, options.fedprox_mu) == (0.4, 0.3)
    assert options.server is not None
    plain = {"optimizer.schedule": "constant", "optimizer.momentum": 0.0, "batch_size": 0}
    assembly.build_algorithm(small(algorithm="fedavg", **plain), dataset())
    options = built["options"]
    assert options.learning_rate(3, 7) == 0.025
    assert options.drop_path is None
    assert options.server is None
    assert options.momentum == options.batch_size == 0


def test_the_search_stage_gets_what_the_config_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every field a number of its own, so that none can stand for another."""
    built: list[Any] = []
    monkeypatch.setattr(room.fednas, "build", lambda *arguments: built.extend(arguments))
    config = small(
        **{
            "local_epochs": 7,
            "batch_size": 11,
            "optimizer.learning_rate": 0.2,
            "optimizer.learning_rate_min": 0.02,
            "optimizer.momentum": 0.8,
            "optimizer.weight_decay": 0.003,
            "optimizer.clip_norm": 4.0,
            "arch_optimizer.learning_rate": 0.05,
            "arch_optimizer.beta1": 0.6,
            "arch_optimizer.beta2": 0.95,
            "arch_optimizer.weight_decay": 0.007,
            "search.order": "alpha_first",
            "search.lambda_train": 0.4,
            "search.lambda_valid": 0.9,
            "server.recalibration_fraction": 0.3,
        }
    )
    assembly.build_algorithm(config, dataset())
    _, task, options = built
    assert task.example.shape == (8, 8, 1)
    search = ("alpha_first", 0.4, 0.9, 0.8, 0.003, 4.0, 0.05, 0.6, 0.95, 0.007)
    assert options == (7, 11, 0.2, 0.02, search, "recalibrated", 0.3)


@pytest.mark.parametrize(
    ("name", "numbers"),
    [("momentum", {"momentum": 0.7}), ("yogi", {"beta1": 0.6, "beta2": 0.7, "epsilon": 0.1})],
)
def test_the_servers_optimiser_gets_what_the_config_says(
    monkeypatch: pytest.MonkeyPatch, name: str, numbers: dict[str, float]
) -> None:
    built: dict[str, Any] = {}

    def build(name: str, learning_rate: float, **options: float) -> None:
        built.update(options, name=name, learning_rate=learning_rate)

    monkeypatch.setattr(parts.server_optimizers, "build", build)
    fields = {"server.optimizer": name, "server.learning_rate": 0.3}
    fields |= {f"server.{number}": value for number, value in numbers.items()}
    assembly.build_algorithm(small(algorithm="fedavg", **fields), dataset())
    assert built.items() >= {"name": name, "learning_rate": 0.3, **numbers}.items()


def test_large_networks_are_compiled_with_quick_options() -> None:
    for name, large in (("2nn", False), ("genotype", True)):
        config = small(**{"algorithm": "fedavg", "network.name": name})
        assert assembly.build_algorithm(config, dataset()).large == large
