"""Recognises images whose channels stand before their rows and columns, as PyTorch has them."""

from collections.abc import Sequence

_CHANNELS = (1, 2, 3, 4)
"""Numbers of channels that images usually have, and that no side of an image has."""


def hint(shape: Sequence[int], wanted: Sequence[int] = ()) -> str:
    """The end of an error about the shape of images: "" unless channels seem to come first.

    Args:
      shape: [N, ...] of the images that were given.
      wanted: (H, W, C) that is needed; () where any may be.
    """
    if len(shape) != 4:
        return ""
    channels, height, width = shape[1:]
    fits = (height, width, channels) == tuple(wanted)
    if not fits and (channels not in _CHANNELS or width in _CHANNELS):
        return ""
    return (
        "; this looks like channels first, [N, C, H, W]: np.moveaxis(images, 1, -1) makes it "
        "[N, H, W, C]"
    )
