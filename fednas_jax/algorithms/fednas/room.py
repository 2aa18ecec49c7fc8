"""Builds FedNAS from a config."""

from typing import Any

from fednas_jax.algorithms import parts
from fednas_jax.algorithms.fednas import algorithm as fednas
from fednas_jax.algorithms.fednas import report
from fednas_jax.algorithms.fednas.findings import SearchFindings
from fednas_jax.algorithms.fednas.milenas import SearchOptions
from fednas_jax.algorithms.room import ClientLayout, Room
from fednas_jax.data.datasets import Dataset
from fednas_jax.federated.algorithm import Algorithm
from fednas_jax.fields.field import Config
from fednas_jax.spaces.darts import networks as darts
from fednas_jax.spaces.darts.supernet import Supernet


def layout(config: Config) -> ClientLayout:
    """Clients with a validation part and only full batches, as in the authors' code."""
    return ClientLayout(
        config["client"]["train_fraction"], last_batch=False, validation_teaches="alphas"
    )


def build_supernet(config: Config, num_classes: int) -> Supernet:
    """The network that `config.supernet` describes."""
    return Supernet(num_classes, **dict(config["supernet"]))


def build(config: Config, dataset: Dataset) -> Algorithm:
    """The search that a resolved config describes.

    Raises:
      UserError: as `parts.image_task`.
    """
    optimizer, arch = config["optimizer"], config["arch_optimizer"]
    options = fednas.FedNASOptions(
        local_epochs=config["local_epochs"],
        batch_size=config["batch_size"],
        learning_rate=optimizer["learning_rate"],
        learning_rate_min=optimizer["learning_rate_min"],
        search=SearchOptions(
            **dict(config["search"]),
            momentum=optimizer["momentum"],
            weight_decay=optimizer["weight_decay"],
            clip_norm=optimizer["clip_norm"],
            arch_learning_rate=arch["learning_rate"],
            arch_beta1=arch["beta1"],
            arch_beta2=arch["beta2"],
            arch_weight_decay=arch["weight_decay"],
        ),
        batch_stats=config["server"]["batch_stats"],
        recalibration_fraction=config["server"].get("recalibration_fraction", 1.0),
    )
    supernet = build_supernet(config, dataset.num_classes)
    return fednas.build(supernet, parts.image_task(config, dataset), options)


def _network(config: Config) -> dict[str, Any]:
    return {"name": darts.SUPERNET, **dict(config["supernet"])}


def _inputs(config: Config) -> dict[str, Any]:
    """run.json records that a search begins without a genotype."""
    return {darts.FIELD: None}


ROOM = Room(
    layout,
    build,
    _network,
    findings=SearchFindings,
    sections=report.sections,
    inputs=_inputs,
    tests_at_first=False,
)
