"""Builds the parts of an experiment from a config; each can be built and used alone."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from fednas_jax.algorithms import parts, registry
from fednas_jax.checkpoints import model_file
from fednas_jax.checkpoints.model_file import Description
from fednas_jax.config import default
from fednas_jax.data import brought, datasets, partition_file
from fednas_jax.data import partition as partitions
from fednas_jax.data.datasets import Dataset
from fednas_jax.experiment import omissions, warm_start, workdir
from fednas_jax.federated import clients as client_data
from fednas_jax.federated import cohort as cohorts
from fednas_jax.federated import transforms
from fednas_jax.federated.algorithm import Algorithm
from fednas_jax.federated.clients import Clients, Examples
from fednas_jax.federated.cohort import LOCAL_EPOCHS, STEP_LIMIT
from fednas_jax.federated.only_finite import ONLY_FINITE
from fednas_jax.federated.schedule import SCHEDULE
from fednas_jax.fields.field import Config
from fednas_jax.runtime import layout, user_code
from fednas_jax.runtime.errors import UserError, warn
from fednas_jax.runtime.paths import expand


class Population(NamedTuple):
    """All clients and all examples of an experiment."""

    dataset: Dataset
    partition: partitions.Partition
    clients: Clients
    examples: Examples
    """The train examples, then the test examples."""
    held_out: list[np.ndarray]
    """For each client, the indices of its held-out examples."""
    test: np.ndarray
    """The indices of the test set."""
    remarks: tuple[str, ...] = ()
    """Warnings printed before the first round; see `omissions`."""

    def client_names(self) -> tuple[str, ...]:
        """The name of each client in the data; () where the data do not name them."""
        return client_names(self.dataset, self.partition)


def client_names(dataset: Dataset, partition: partitions.Partition) -> tuple[str, ...]:
    """The name of each client of a partition; () where the data do not name them."""
    names = dataset.client_names
    ids = partitions.ids(partition, dataset.train.client) if names else None
    return tuple(names[one] for one in ids or ())


def load_dataset(config: Config, cut_by: str = "client") -> Dataset:
    """The data set that `config.dataset` names; `cut_by` as for `datasets.load`."""
    if user_code.is_reference(config["dataset"]["name"]):
        return brought.dataset(config, cut_by)
    return datasets.load(
        config["dataset"]["name"],
        data_dir=config["dataset"]["data_dir"] or None,
        test_path=config["dataset"]["test_path"] or None,
        test_fraction=config["dataset"]["test_fraction"],
        max_train_examples=config["dataset"]["max_train_examples"],
        max_test_examples=config["dataset"]["max_test_examples"],
        seed=config["seed"],
        cut_by=cut_by,
    )


def make_partition(
    config: Config, dataset: Dataset, *, begun: bool = False
) -> partitions.Partition:
    """The partition that `config.partition` describes.

    Warns if `num_clients` was set but does not apply.

    Args:
      config: the resolved config.
      dataset: the run's data set.
      begun: whether the run is resumed. If so, its own record of the data is checked instead of
        the partition file's.

    Raises:
      UserError: the partition cannot be made; or it is a file that has no record of the examples
        that its indices count, and these depend on the seed.
    """
    partition = partition_of(config, dataset)
    if config["partition"]["name"] == "file" and not begun:
        _check_counted(config, dataset, partition)
    asked, made = config["partition"]["num_clients"], len(partition.clients)
    # A field that still has its default was not set by the user.
    if asked not in (made, default().partition.num_clients):
        warn(
            f"config.partition.num_clients: {asked} is not used; "
            f"partition '{config['partition']['name']}' has {made} clients"
        )
    return partition


def partition_of(config: Config, dataset: Dataset) -> partitions.Partition:
    """As `make_partition`, without its checks and warnings."""
    options = dict(config["partition"])
    name = options.pop("name")
    if user_code.is_reference(name):
        return brought.partition(config, dataset)
    return partitions.make(name, dataset.train, **options)


def _check_counted(config: Config, dataset: Dataset, partition: partitions.Partition) -> None:
    """Refuses a partition file whose indices may count other examples than those of `dataset`."""
    path = expand(config["partition"]["path"], "config.partition.path")
    if partition_file.read(path)[1]:
        return  # checked when it was loaded
    # For a file of an earlier version, the run.json beside it has the fingerprint of the data.
    recorded = workdir.recorded_data(path.parent) if path.name == layout.INDICES_FILE else ""
    if recorded == workdir.fingerprint(dataset, partition.clients):
        return
    if datasets.depends_on_seed(dataset, config["dataset"], config["seed"]):
        raise UserError(
            f"config.partition.path: {path} has no record of the examples that its indices count, "
            "and another config.seed selects other examples; a file written by "
            "fednas_jax.data.partition.save(path, partition, examples) is needed, or data with "
            "their own test set and no config.dataset.max_train_examples"
        )
    warn(
        f"config.partition.path: {path} has no record of the examples that its indices count; "
        "whether they are those of this run cannot be checked"
    )


def prepare(
    config: Config, *, begun: bool = False, cut_by: str = "client"
) -> tuple[Population, Algorithm]:
    """The population and the algorithm of a run. Refuses bad input before a folder is made.

    Args:
      config: the resolved config.
      begun: as for `build_algorithm`.
      cut_by: as for `datasets.load`.

    Raises:
      UserError: as `load_dataset`, `make_partition`, `build_algorithm` and `populate`.
    """
    dataset = load_dataset(config, cut_by)
    algorithm = build_algorithm(config, dataset, begun=begun)
    population = populate(config, dataset, make_partition(config, dataset, begun=begun))
    return population, with_transforms(config, algorithm, len(population.partition.clients))


def with_transforms(config: Config, algorithm: Algorithm, num_clients: int) -> Algorithm:
    """The algorithm with the config's transforms and reducer, and with the schedule's state.

    Args:
      config: the resolved config.
      algorithm: as `build_algorithm` returns it.
      num_clients: K.

    Raises:
      UserError: as `transforms.chained`; or the config names something that is not a transform or
        reducer.
    """
    chain = parts.transforms(config)
    if config["faults"]["not_finite"] == "leave_out":
        chain = (*chain, ONLY_FINITE)
    schedule = registry.room(config["algorithm"]).schedule
    kept = {} if schedule.init is None else {SCHEDULE: schedule.init}
    reducer = parts.reducer(config) or algorithm.reducer
    return transforms.chained(algorithm._replace(reducer=reducer), chain, num_clients, kept)


def populate(config: Config, dataset: Dataset, partition: partitions.Partition) -> Population:
    """Divides every client's examples, and puts all examples on the device, once.

    Raises:
      UserError: `clients_per_round` is more than the number of clients, `faults.min_clients` is
        more than the clients of a round, or no client has examples.
    """
    num_clients = len(partition.clients)
    if config["clients_per_round"] > num_clients:
        raise UserError(
            f"config.clients_per_round: {config['clients_per_round']}; "
            f"at most {num_clients}, the number of clients of this partition, is needed"
        )
    size = cohorts.size(num_clients, config["clients_per_round"], config["clients_fraction"])
    if config["faults"]["min_clients"] > size:
        raise UserError(
            f"config.faults.min_clients: {config['faults']['min_clients']} is more than the number "
            f"of clients in a round; at most {size} is needed"
        )
    rules = registry.room(config["algorithm"]).layout(config)
    held_out = config["client"]["held_out_fraction"]
    divisions = [
        client_data.divide(indices, held_out, rules.train_fraction) for indices in partition.clients
    ]
    population = client_data.build(divisions, config["batch_size"], last_batch=rules.last_batch)
    if not population.local_steps.any():
        raise UserError("config.partition: no client has an example; at least one is needed")
    facts = registry.room(config["algorithm"]).facts(config, partition)
    population = population._replace(facts=_of_each_client(facts, num_clients))
    num_train, num_test = len(dataset.train.labels), len(dataset.test.labels)
    return Population(
        dataset,
        partition,
        population,
        jax.device_put(_examples(dataset)),
        [division.held_out for division in divisions],
        np.arange(num_train, num_train + num_test),
        omissions.lines(config, dataset, partition, divisions, taught=rules.taught),
    )


def groups(population: Population, algorithm: Algorithm) -> np.ndarray | None:
    """[K] int32 group of every client; None if any clients may share a chunk.

    Raises:
      UserError: the room's facts lack the one by which the algorithm groups clients.
    """
    name, facts = algorithm.group_by, population.clients.facts
    if not name:
        return None
    if name not in facts or facts[name].ndim != 1:
        raise UserError(
            f"config.algorithm: it groups clients by the fact {name!r}, which its room's facts "
            "lack; one number for each client is needed"
        )
    values = np.asarray(facts[name])
    if values.dtype.kind not in "iu" or not np.array_equal(values, values.astype(np.int32)):
        raise UserError(
            f"config.algorithm: it groups clients by the fact {name!r}, which is {values.dtype}; "
            "integers that fit 32 bits are needed"
        )
    return values.astype(np.int32)


def _examples(dataset: Dataset) -> Examples:
    """The train examples, then the test examples."""
    parts = dataset.train, dataset.test
    targets = np.concatenate([part.truth for part in parts])
    whole = targets.dtype.kind in "iu"
    return Examples(
        np.concatenate([part.images for part in parts]),
        targets.astype(np.int32) if whole else targets,
    )


def _of_each_client(facts: Mapping[str, Any], num_clients: int) -> dict[str, np.ndarray]:
    """The facts of a room as arrays [K, ...].

    Raises:
      UserError: one does not have a row for each client.
    """
    found = {name: np.asarray(values) for name, values in facts.items()}
    for name, values in found.items():
        if name in (LOCAL_EPOCHS, STEP_LIMIT):
            raise UserError(
                f"config.algorithm: its room's fact {name!r} has the name of a fact of the round; "
                "another name is needed"
            )
        if values.dtype.kind not in "biuf":
            raise UserError(
                f"config.algorithm: its room's fact {name!r} is of {values.dtype}; numbers are "
                "needed"
            )
        if len(values.shape) < 1 or len(values) != num_clients:
            raise UserError(
                f"config.algorithm: its room's fact {name!r} has shape {list(values.shape)}; "
                f"[{num_clients}, ...], a row for each client, is needed"
            )
    return found


def model_json(config: Config, population: Population) -> dict[str, Any]:
    """The content of `model.json` in the run's checkpoints, with the names of its clients.

    Raises:
      UserError: as the room's `network`.
    """
    described = describe_model(config, population.dataset)
    return model_file.to_json(described._replace(client_names=population.client_names()))


def describe_model(config: Config, dataset: Dataset) -> Description:
    """The description of the model that the run's checkpoints contain, without names of clients.

    Raises:
      UserError: as the room's `network`.
    """
    network = registry.room(config["algorithm"]).network(config)
    return model_file.describe(network, config, dataset)


def build_algorithm(config: Config, dataset: Dataset, *, begun: bool = False) -> Algorithm:
    """The algorithm that the config names, as its room builds it.

    Args:
      config: the resolved config.
      dataset: the run's data set.
      begun: whether the run is resumed from its own checkpoint. If so, the checkpoint that
        `config.warm_start` names is not needed and need not exist any more.

    Raises:
      UserError: as the room's `build` and `warm_start.begin_with`.
    """
    algorithm = registry.room(config["algorithm"]).build(config, dataset)
    if begun or not config.get("warm_start"):
        return algorithm
    model = warm_start.source(config["warm_start"])
    described = describe_model(config, dataset)
    return warm_start.begin_with(algorithm, model, described, dataset)
