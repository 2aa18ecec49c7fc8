"""Parts that several rooms build from a config in the same way."""

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
    """The task of the data set: its own, or to classify images.

    Raises:
      UserError: augmentation may hide a whole image, or the task is the data set's own and does not
        use `config.augment`.
    """
    if dataset.task is None:
        return vision.task(dataset.train.images[0], _augmentation(config, dataset))
    changed = {name: value for name, value in dict(config["augment"]).items() if value}
    usual = {field.name: field.default for field in COMMON}
    for name, value in changed.items():
        if value != usual[f"augment.{name}"]:
            raise UserError(
                f"config.augment.{name}: {value} is not used, since the task of "
                f"config.dataset.name {dataset.name!r} augments by itself; remove the field"
            )
    return dataset.task


def image_task(config: Config, dataset: Dataset) -> Task:
    """As `task`, for a network that can only read images.

    Raises:
      UserError: as `task`; or the task's inputs are not images.
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
                f"{height} x {width}; at most {most} is needed, or 0 to switch it off"
            )
    return Augmentation(**options, mean=dataset.mean, std=dataset.std)


def server_optimizer(server: Config) -> optax.GradientTransformation | None:
    """The optimiser of `config.server`; None for plain averaging."""
    names = ("momentum", "beta1", "beta2", "epsilon")
    read = {name: server[name] for name in names if name in server}
    return server_optimizers.build(server["optimizer"], server["learning_rate"], **read)


def transforms(config: Config) -> tuple[Transform, ...]:
    """The transforms that `config.transforms` names, in that order.

    Raises:
      UserError: one cannot be made, or is not a `Transform`.
    """
    names = names_in(config["transforms"])
    return tuple(extension.made(n, "config.transforms", _of(Transform), config) for n in names)


def reducer(config: Config) -> Reducer | None:
    """The reducer that `config.reducer` names; None for the algorithm's own.

    Raises:
      UserError: it cannot be made, or is not a `Reducer`.
    """
    name = config["reducer"]
    return None if name == "sum" else extension.made(name, "config.reducer", _of(Reducer), config)


def _of(kind: type) -> extension.Kind:
    name = f"{kind.__module__}.{kind.__qualname__}"
    return extension.Kind(kind, f"a {name}, or a function(config) that returns one,")
