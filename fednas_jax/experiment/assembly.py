"""From a config to the parts of an experiment, each of which can be built and used alone."""

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
    """For each client the indices that it scores on."""
    test: np.ndarray
    """The indices of the test set."""
    remarks: tuple[str, ...] = ()
    """What to tell the user before the first round; see `omissions`."""


def load_dataset(config: Config, cut_by: str = "client") -> Dataset:
    """The data set that `config.dataset` names; `cut_by` as of `datasets.load`."""
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
    """The clients that `config.partition` describes; a line on stderr if it says more than counts.

    Args:
      config: resolved.
      dataset: of the run.
      begun: whether the run goes on, so that its own record says which data the partition is of.

    Raises:
      UserError: it cannot be made; or it is a file that does not say which examples its indices
        count, and these are not the same for every seed.
    """
    options = dict(config["partition"])
    name = options.pop("name")
    if user_code.is_reference(name):
        partition = brought.partition(config, dataset)
    else:
        partition = partitions.make(name, dataset.train, **options)
    if config["partition"]["name"] == "file" and not begun:
        _check_counted(config, dataset, partition)
    asked, made = options["num_clients"], len(partition.clients)
    # Who has left the default alone has asked for nothing.
    if asked not in (made, default().partition.num_clients):
        warn(
            f"config.partition.num_clients: {asked} is not used; "
            f"partition '{config['partition']['name']}' brings {made} clients"
        )
    return partition


def _check_counted(config: Config, dataset: Dataset, partition: partitions.Partition) -> None:
    """Refuses a file of indices that may count other examples than these."""
    path = expand(config["partition"]["path"], "config.partition.path")
    if partition_file.read(path)[1]:
        return  # checked as it was loaded
    # One that a run of an earlier version left: what that run recorded of its data has to do.
    recorded = workdir.recorded_data(path.parent) if path.name == layout.INDICES_FILE else ""
    if recorded == workdir.fingerprint(dataset, partition.clients):
        return
    if datasets.depends_on_seed(dataset, config["dataset"], config["seed"]):
        raise UserError(
            f"config.partition.path: {path} does not say which examples its indices count, and "
            "another config.seed makes others of them; one that says so is needed, as "
            "fednas_jax.data.partition.save(path, partition, examples) writes it, or data with a "
            "test set of their own and no config.dataset.max_train_examples"
        )
    warn(
        f"config.partition.path: {path} does not say which examples its indices count; whether "
        "they are those of this run cannot be checked"
    )


def prepare(
    config: Config, *, begun: bool = False, cut_by: str = "client"
) -> tuple[Population, Algorithm]:
    """All that a run computes with. What cannot be is refused here, before there is a folder.

    Args:
      config: resolved.
      begun: as of `build_algorithm`.
      cut_by: as of `datasets.load`.

    Raises:
      UserError: as `load_dataset`, `make_partition`, `build_algorithm` and `populate`.
    """
    dataset = load_dataset(config, cut_by)
    algorithm = build_algorithm(config, dataset, begun=begun)
    population = populate(config, dataset, make_partition(config, dataset, begun=begun))
    return population, with_transforms(config, algorithm, len(population.partition.clients))


def with_transforms(config: Config, algorithm: Algorithm, num_clients: int) -> Algorithm:
    """The algorithm with what the config says of updates, and with what the run keeps.

    Args:
      config: resolved.
      algorithm: of `build_algorithm`.
      num_clients: K.

    Raises:
      UserError: as `transforms.chained`, or the config names what is no transform or reducer.
    """
    chain = parts.transforms(config)
    if config["faults"]["not_finite"] == "leave_out":
        chain = (*chain, ONLY_FINITE)
    schedule = registry.room(config["algorithm"]).schedule
    kept = {} if schedule.init is None else {SCHEDULE: schedule.init}
    reducer = parts.reducer(config) or algorithm.reducer
    return transforms.chained(algorithm._replace(reducer=reducer), chain, num_clients, kept)


def populate(config: Config, dataset: Dataset, partition: partitions.Partition) -> Population:
    """Divides every client's examples, and puts all of them on the device, once.

    Raises:
      UserError: more clients a round than there are, or needed than drawn, or none with examples.
    """
    num_clients = len(partition.clients)
    if config["clients_per_round"] > num_clients:
        raise UserError(
            f"config.clients_per_round: {config['clients_per_round']}; "
            f"at most {num_clients}, the clients of this partition, is needed"
        )
    size = cohorts.size(num_clients, config["clients_per_round"], config["clients_fraction"])
    if config["faults"]["min_clients"] > size:
        raise UserError(
            f"config.faults.min_clients: {config['faults']['min_clients']} is more than the "
            f"clients of a round; at most {size} is needed"
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
    """[K] int32, which clients may share a chunk; None where all may.

    Raises:
      UserError: the room does not tell the fact by which the algorithm groups.
    """
    name, facts = algorithm.group_by, population.clients.facts
    if not name:
        return None
    if name not in facts or facts[name].ndim != 1:
        raise UserError(
            f"config.algorithm: it groups clients by the fact {name!r}, which its room does not "
            "give; one number for each client is needed"
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
    """The facts of a room, one row a client.

    Raises:
      UserError: they are not.
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


def describe_model(config: Config, dataset: Dataset) -> Description:
    """What the run's checkpoints say of the model in them.

    Raises:
      UserError: as the room's `network`.
    """
    network = registry.room(config["algorithm"]).network(config)
    return model_file.describe(network, config, dataset)


def build_algorithm(config: Config, dataset: Dataset, *, begun: bool = False) -> Algorithm:
    """The algorithm that the config names, ready for the round engine.

    Args:
      config: resolved.
      dataset: what it learns from.
      begun: whether the run has a state of its own to go on from, so that what `config.warm_start`
        names is not needed, and need not be there any more.

    Raises:
      UserError: as the room's `build` and `warm_start.begin_with`.
    """
    algorithm = registry.room(config["algorithm"]).build(config, dataset)
    if begun or not config.get("warm_start"):
        return algorithm
    model = warm_start.source(config["warm_start"])
    described = describe_model(config, dataset)
    return warm_start.begin_with(algorithm, model, described, dataset)
