"""What several rooms build alike from a config."""

import optax

from fednas_jax.data import vision
from fednas_jax.data.augment import Augmentation
from fednas_jax.data.datasets import Dataset
from fednas_jax.data.task import Task
from fednas_jax.federated import server_optimizer as server_optimizers
from fednas_jax.federated.reducers import Reducer
from fednas_jax.federated.transforms import Transform
from fednas_jax.fields import extension
from fednas_jax.fields.common import COMMON
from fednas_jax.fields.field import Config, names_in
from fednas_jax.runtime.errors import UserError


def task(config: Config, dataset: Dataset) -> Task:
    """What the data set asks for: images and their classes, or a task of its own.

    Raises:
      UserError: augmentation may hide a whole image, or is asked for of what are no images.
    """
    if dataset.task is None:
        return vision.task(dataset.train.images[0], _augmentation(config, dataset))
    changed = {name: value for name, value in dict(config["augment"]).items() if value}
    usual = {field.name: field.default for field in COMMON}
    for name, value in changed.items():
        if value != usual[f"augment.{name}"]:
            raise UserError(
                f"config.augment.{name}: {value} is not used, as config.dataset.name "
                f"{dataset.name!r} has a task of its own, which augments; nothing is needed there"
            )
    return dataset.task


def image_task(config: Config, dataset: Dataset) -> Task:
    """As `task`, for a network that reads images alone.

    Raises:
      UserError: as `task`; or it reads no images.
    """
    found = task(config, dataset)
    vision.image_shape(found, f"config.algorithm: {config['algorithm']!r}")
    return found


def _augmentation(config: Config, dataset: Dataset) -> Augmentation:
    options = dict(config["augment"])
    height, width = dataset.train.images.shape[1:3]
    most = min(height, width) - 1
    for name in ("crop_padding", "cutout"):
        if options[name] > most:
            raise UserError(
                f"config.augment.{name}: {options[name]} may hide all of an image of "
                f"{height} x {width}; at most {most}, or 0 for none, is needed"
            )
    return Augmentation(**options, mean=dataset.mean, std=dataset.std)


def server_optimizer(server: Config) -> optax.GradientTransformation | None:
    """What `config.server` says of the server's steps; None for plain averaging."""
    names = ("momentum", "beta1", "beta2", "epsilon")
    read = {name: server[name] for name in names if name in server}
    return server_optimizers.build(server["optimizer"], server["learning_rate"], **read)


def transforms(config: Config) -> tuple[Transform, ...]:
    """What `config.transforms` says is done to what clients send, in this order.

    Raises:
      UserError: one cannot be made, or is something else.
    """
    names = names_in(config["transforms"])
    return tuple(extension.made(n, "config.transforms", _of(Transform), config) for n in names)


def reducer(config: Config) -> Reducer | None:
    """What `config.reducer` says puts together what clients send; None for the algorithm's own.

    Raises:
      UserError: it cannot be made, or is something else.
    """
    name = config["reducer"]
    return None if name == "sum" else extension.made(name, "config.reducer", _of(Reducer), config)


def _of(kind: type) -> extension.Kind:
    name = f"{kind.__module__}.{kind.__qualname__}"
    return extension.Kind(kind, f"a {name}, or a function(config) that returns one,")
