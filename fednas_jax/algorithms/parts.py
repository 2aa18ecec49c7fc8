"""What several rooms build alike from a config."""

import optax

from fednas_jax.config import Config
from fednas_jax.data.augment import Augmentation
from fednas_jax.data.datasets import Dataset
from fednas_jax.errors import UserError
from fednas_jax.federated import server_optimizer as server_optimizers


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
