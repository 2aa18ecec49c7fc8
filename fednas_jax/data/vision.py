"""Images and one class each, as a task."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from fednas_jax.data.augment import Augmentation, augment, normalize
from fednas_jax.data.task import Task, classification, prepared
from fednas_jax.runtime.errors import UserError


def task(image: Any, augmentation: Augmentation) -> Task:
    """Of images that are normalised and, in training, augmented.

    Args:
      image: shape (H, W, C) and type of one raw image: an array, or a `jax.ShapeDtypeStruct`.
      augmentation: of the images that clients learn from; its mean and std normalise all images.
    """
    return Task(
        example=jax.ShapeDtypeStruct(image.shape, image.dtype),
        target=jax.ShapeDtypeStruct((), jnp.int32),
        prepare=functools.partial(_prepare, augmentation),
        augment=functools.partial(_augment, augmentation),
        score=classification,
    )


def image_shape(task: Task, user: str) -> tuple[int, int, int]:
    """(H, W, C) of what a network reads.

    Args:
      task: of the data set.
      user: what needs images, for an error.

    Raises:
      UserError: it reads something else.
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
