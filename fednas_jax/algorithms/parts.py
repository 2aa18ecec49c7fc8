"""What several rooms build alike from a config."""

from typing import Any

import optax

from fednas_jax import extension
from fednas_jax.config import Config
from fednas_jax.data.augment import Augmentation
from fednas_jax.data.datasets import Dataset
from fednas_jax.errors import UserError
from fednas_jax.federated import server_optimizer as server_optimizers
from fednas_jax.fields import names_in


def augmentation(config: Config, dataset: Dataset) -> Augmentation:
    """What `config.augment` says is done to the images that clients learn from.

    Raises:
      UserError: it may hide a whole image.
    """
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


def transforms(config: Config, kind: type) -> tuple[Any, ...]:
    """What `config.transforms` says is done to what clients send, in this order.

    Args:
      config: resolved.
      kind: what each must be.

    Raises:
      UserError: one cannot be made, or is something else.
    """
    names = names_in(config["transforms"])
    return tuple(extension.made(n, "config.transforms", _of(kind), config) for n in names)


def reducer(config: Config, kind: type) -> Any | None:
    """What `config.reducer` says puts together what clients send; None for the sum.

    Args:
      config: resolved.
      kind: what it must be.

    Raises:
      UserError: it cannot be made, or is something else.
    """
    name = config["reducer"]
    return None if name == "sum" else extension.made(name, "config.reducer", _of(kind), config)


def _of(kind: type) -> extension.Kind:
    name = f"{kind.__module__}.{kind.__qualname__}"
    return extension.Kind(kind, f"a {name}, or a function(config) that returns one,")
