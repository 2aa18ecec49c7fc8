"""Builds FedAvg from a config."""

from fednas_jax.algorithms import parts
from fednas_jax.algorithms.fedavg import algorithm as fedavg
from fednas_jax.algorithms.fedavg import report
from fednas_jax.algorithms.room import ClientLayout, Room
from fednas_jax.data.datasets import Dataset
from fednas_jax.federated.algorithm import Algorithm
from fednas_jax.federated.rate_schedules import LearningRate, Ramp
from fednas_jax.fields.field import Config
from fednas_jax.networks import registry as networks


def layout(config: Config) -> ClientLayout:
    """Clients without a validation part; an epoch includes a last, smaller batch."""
    return ClientLayout()


def build(config: Config, dataset: Dataset) -> Algorithm:
    """The training that a resolved config describes.

    Raises:
      UserError: as `parts.task` and `networks.from_config`.
    """
    optimizer, server, rounds = config["optimizer"], config["server"], config["rounds"]
    drop_path = optimizer.get("drop_path_rate", 0.0)
    options = fedavg.FedAvgOptions(
        local_epochs=config["local_epochs"],
        batch_size=config["batch_size"],
        learning_rate=LearningRate(
            optimizer["learning_rate"],
            optimizer.get("learning_rate_min", 0.0),
            optimizer["schedule"],
            config["local_epochs"],
            rounds,
        ),
        momentum=optimizer["momentum"],
        weight_decay=optimizer["weight_decay"],
        clip_norm=optimizer["clip_norm"],
        auxiliary_weight=optimizer.get("auxiliary_weight", 0.0),
        drop_path=Ramp(drop_path, rounds) if drop_path else None,
        batch_stats=server.get("batch_stats", "recalibrated"),
        recalibration_fraction=server.get("recalibration_fraction", 1.0),
        fedprox_mu=config["fedprox_mu"],
        server=parts.server_optimizer(server),
    )
    task = parts.task(config, dataset)
    network = networks.from_config(config, task, dataset.num_classes)
    algorithm = fedavg.build(network, task, options)
    return algorithm._replace(large=networks.is_large(config["network"]["name"]))


ROOM = Room(
    layout,
    build,
    networks.fields_of,
    sections=report.sections,
    inputs=networks.inputs,
    origins=networks.origins,
)
