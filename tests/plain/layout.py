"""Feature maps of the plain supernet, [B, C, H, W], and of the package, [C, H, W * B]."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tests.plain.supernet import Tree


def to_images(maps: Any, batch: int) -> jax.Array:
    """[..., C, H, W * B] -> [B, all channels, H, W]."""
    *_, height, width = maps.shape
    return jnp.moveaxis(maps.reshape(-1, height, width // batch, batch), -1, 0)


def to_maps(images: Any, *lead: int) -> jax.Array:
    """[B, channels, H, W] -> [*lead, H, W * B]; without `lead` the channels alone."""
    batch, channels, height, width = images.shape
    lead = lead or (channels,)
    return jnp.moveaxis(images, 0, -1).reshape(*lead, height, width * batch)


def random_like(shapes: Tree, seed: int, scale: float = 1.0) -> Tree:
    """Normal draws, float64 numpy arrays, in the shapes of a tree of tuples or of arrays."""
    rng = np.random.RandomState(seed)

    def draw(leaf: Any) -> np.ndarray:
        shape = leaf if isinstance(leaf, tuple) else leaf.shape
        return scale * rng.standard_normal(shape)

    return jax.tree.map(draw, shapes, is_leaf=lambda node: isinstance(node, tuple))
