"""The channels of images: grey where colour is needed, or first, as PyTorch has them."""

from collections.abc import Sequence

import numpy as np

from fednas_jax.runtime.errors import warn_once

_CHANNELS = (1, 2, 3, 4)
"""Numbers of channels that images usually have, and that no side of an image has."""
_HOW_TO_CHANGE = {
    (1, 3): "; np.repeat(images, 3, axis=-1) makes grey images RGB",
    (3, 1): "; Pillow's Image.convert('L') makes a colour image grey",
}
"""Numbers of channels that are given and needed -> the end of an error."""


def hint(shape: Sequence[int], wanted: Sequence[int] = ()) -> str:
    """The end of an error about the shape of images: how to change their channels, or "".

    Args:
      shape: [N, ...] of the images that were given.
      wanted: (H, W, C) that is needed; () where any may be.
    """
    if len(shape) != 4:
        return ""
    if tuple(shape[1:3]) == tuple(wanted[:2]) and shape[3] != wanted[2]:
        return _HOW_TO_CHANGE.get((shape[3], wanted[2]), "")
    channels, height, width = shape[1:]
    fits = (height, width, channels) == tuple(wanted)
    if not fits and (channels not in _CHANNELS or width in _CHANNELS):
        return ""
    return (
        "; this looks like channels first, [N, C, H, W]: np.moveaxis(images, 1, -1) makes it "
        "[N, H, W, C]"
    )


def grey_as(images: np.ndarray, wanted: Sequence[int], source: str) -> np.ndarray:
    """Grey images as RGB where RGB is needed, which a line says; other images as they are.

    Args:
      images: [N, H, W, C] uint8 or float.
      wanted: (H, W, C) that is needed.
      source: what the line calls the images.
    """
    if tuple(wanted[2:]) != (3,) or images.shape[1:] != (*wanted[:2], 1):
        return images
    warn_once(f"{source}: grey images are read as RGB, as the training images are")
    return np.repeat(images, 3, axis=-1)
