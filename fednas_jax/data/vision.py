"""The task of images with one class each."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from fednas_jax.data.augment import Augmentation, augment, normalize
from fednas_jax.data.task import Task, classification, prepared
from fednas_jax.runtime.errors import UserError


def task(image: Any, augmentation: Augmentation) -> Task:
    """The task of images that are normalised and, in training, augmented.

    Args:
      image: one raw image (H, W, C), or its shape and type as a `jax.ShapeDtypeStruct`.
      augmentation: for training images; its mean and std normalise all images.
    """
    return Task(
        example=jax.ShapeDtypeStruct(image.shape, image.dtype),
        target=jax.ShapeDtypeStruct((), jnp.int32),
        prepare=functools.partial(_prepare, augmentation),
        augment=functools.partial(_augment, augmentation),
        score=classification,
    )


def image_shape(task: Task, user: str) -> tuple[int, int, int]:
    """(H, W, C) of the images that a network reads.

    Args:
      task: the data set's task.
      user: begins an error: the config field and value that need images.

    Raises:
      UserError: the task's inputs are not images.
    """
    inputs = prepared(task)
    if getattr(inputs, "ndim", 0) != 4:
        shapes = ", ".join(str(list(leaf.shape[1:])) for leaf in jax.tree.leaves(inputs))
        raise UserError(
            f"{user} is for images [H, W, C], not for inputs of {shapes}; another data set is "
            "needed, or a network of your own (docs/extending.md)"
        )
    _, height, width, channels = inputs.shape
    return height, width, channels


def _prepare(augmentation: Augmentation, images: jax.Array) -> jax.Array:
    return normalize(images, augmentation.mean, augmentation.std)


def _augment(augmentation: Augmentation, key: jax.Array, images: jax.Array) -> jax.Array:
    return augment(key, images, augmentation)
