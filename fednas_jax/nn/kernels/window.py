"""Sliding windows over feature maps whose innermost axis is the batch.

Inside the supernet a feature map is `[..., C, H, W * B]`: channels first, width and batch joined in
the last axis, with the batch innermost. A shift by one pixel is then a slice of contiguous memory,
along the width too, so that a stencil (depthwise convolution, pooling) is a sum over slices, which
one fused, vectorised loop computes. On a CPU this is 10 to 100 times faster than grouped `lax`
convolutions.

A stride of two first splits the padded map into its four phase planes; each tap then reads one
plane with stride one.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

Tap = tuple[int, int]
"""Row and column of a window's element."""


class Window(NamedTuple):
    """A square window, centred, padded so that ceil(size / stride) outputs remain.

    Attributes:
      kernel: number of taps on a side (odd).
      stride: 1 or 2.
      dilation: distance between neighbouring taps, in pixels.
      height: H of the input.
      width: W of the input.
      batch: B, images side by side in the last axis.
      margin: pixels padded on each side beyond what this window needs, so that windows of different
        sizes can read the same padded map.
    """

    kernel: int
    stride: int
    dilation: int
    height: int
    width: int
    batch: int
    margin: int = 0

    @property
    def padding(self) -> int:
        """Pixels added on each side: PyTorch's `padding` in DARTS's operations."""
        return self.dilation * (self.kernel // 2)

    @property
    def out_height(self) -> int:
        """H of the output."""
        return -(-self.height // self.stride)

    @property
    def out_width(self) -> int:
        """W of the output."""
        return -(-self.width // self.stride)

    @property
    def taps(self) -> list[Tap]:
        """All taps, row by row; among equal maxima, the first in this order is chosen."""
        return [(i, j) for i in range(self.kernel) for j in range(self.kernel)]

    @jax.named_scope("padding")
    def planes(self, x: jax.Array, fill: float) -> dict[Tap, jax.Array]:
        """Pads `x` and splits it into phase planes.

        Args:
          x: [..., H, W * B].
          fill: value of the padding.

        Returns:
          Phase (row, column) -> plane; with stride 1 only phase (0, 0).
        """
        pad, batch = self.padding + self.margin, self.batch
        rows, columns = self._padded_size()
        config = [(0, 0, 0)] * (x.ndim - 2) + [
            (pad, rows - self.height - pad, 0),
            (pad * batch, (columns - self.width - pad) * batch, 0),
        ]
        padded = lax.optimization_barrier(lax.pad(x, jnp.asarray(fill, x.dtype), config))
        return split_phases(padded, batch) if self.stride == 2 else {(0, 0): padded}

    def view(self, planes: dict[Tap, jax.Array], tap: Tap) -> jax.Array:
        """The input value under the tap for each output, [..., H', W' * B]."""
        (row, column), plane = self._locate(tap, self.margin)
        batch = self.batch
        columns = (column * batch, (column + self.out_width) * batch)
        return slice_maps(planes[plane], (row, row + self.out_height), columns)

    def transpose(self, arrays: tuple[jax.Array, ...], term: Callable[..., jax.Array]) -> jax.Array:
        """Adds up, for each input, the contributions of all outputs that read it.

        Args:
          arrays: arrays [..., H', W' * B] over the outputs, zero beyond the border.
          term: `term(tap, *slices)`, the contribution of a tap; `slices` hold, for each input, the
            values of the output that reads it through this tap.

        Returns:
          The sum over taps, [..., H, W * B].
        """
        row_start, row_stop = self._needed(self.height)
        column_start, column_stop = self._needed(self.width)
        # Taps reach at most this many outputs before the first input that is needed.
        reach = (self.kernel - 1) * self.dilation // self.stride
        before = (reach - row_start, reach - column_start)
        after = (row_stop - self.out_height, column_stop - self.out_width)
        padded = tuple(self._pad_outputs(a, before, after) for a in arrays)

        sums: dict[Tap, jax.Array] = {}
        for tap in self.taps:
            (row, column), plane = self._locate(tap)
            top, left = reach - row, (reach - column) * self.batch
            rows = (top, top + row_stop - row_start)
            columns = (left, left + (column_stop - column_start) * self.batch)
            value = term(tap, *(slice_maps(a, rows, columns) for a in padded))
            sums[plane] = lax.add(sums[plane], value) if plane in sums else value
        sums = {plane: total.astype(arrays[0].dtype) for plane, total in sums.items()}
        if self.stride == 1:
            return lax.optimization_barrier(sums[(0, 0)])
        zero = jnp.zeros_like(sums[(0, 0)])
        whole = join_phases({p: sums.get(p, zero) for p in PHASES}, self.batch)
        pad, batch = self.padding, self.batch
        return lax.optimization_barrier(
            whole[..., pad : pad + self.height, pad * batch : (pad + self.width) * batch]
        )

    def _padded_size(self) -> tuple[int, int]:
        """Rows and columns after padding, a multiple of the stride."""
        around = 2 * (self.padding + self.margin)
        rows, columns = self.height + around, self.width + around
        return rows + rows % self.stride, columns + columns % self.stride

    def _locate(self, tap: Tap, margin: int = 0) -> tuple[Tap, Tap]:
        """The offset of a tap inside its plane, and the phase of the plane."""
        row, column = (margin + self.dilation * i for i in tap)
        stride = self.stride
        return (row // stride, column // stride), (row % stride, column % stride)

    def _needed(self, size: int) -> tuple[int, int]:
        """First and last + 1 position of a plane whose sums are needed."""
        if self.stride == 1:
            return self.padding, self.padding + size
        padded = size + 2 * self.padding
        return 0, (padded + padded % 2) // 2

    @jax.named_scope("padding")
    def _pad_outputs(self, x: jax.Array, before: Tap, after: Tap) -> jax.Array:
        batch = self.batch
        config = [(0, 0, 0)] * (x.ndim - 2) + [
            (before[0], after[0], 0),
            (before[1] * batch, after[1] * batch, 0),
        ]
        return lax.optimization_barrier(lax.pad(x, jnp.zeros((), x.dtype), config))


def slice_maps(x: jax.Array, rows: tuple[int, int], columns: tuple[int, int]) -> jax.Array:
    """A slice of maps [..., H, W]; `rows` and `columns` are (first, last + 1)."""
    lead = x.ndim - 2
    starts = (0,) * lead + (rows[0], columns[0])
    return lax.slice(x, starts, (*x.shape[:lead], rows[1], columns[1]))


PHASES: tuple[Tap, ...] = ((0, 0), (0, 1), (1, 0), (1, 1))


def split_phases(x: jax.Array, batch: int) -> dict[Tap, jax.Array]:
    """The four planes of even and odd rows and columns.

    Args:
      x: [..., H, W * B] with even H and W.
      batch: B.

    Returns:
      (row parity, column parity) -> [..., H / 2, W / 2 * B].
    """
    *lead, height, width = x.shape
    half = (height // 2, width // (2 * batch))
    split = x.reshape(*lead, half[0], 2, half[1], 2, batch)
    return {
        (a, b): split[..., a, :, b, :].reshape(*lead, half[0], half[1] * batch) for a, b in PHASES
    }


def join_phases(planes: dict[Tap, jax.Array], batch: int) -> jax.Array:
    """The inverse of `split_phases`."""
    *lead, rows, columns = planes[(0, 0)].shape
    shape = (*lead, rows, columns // batch, batch)
    pairs = [
        jnp.stack([planes[(a, 0)].reshape(shape), planes[(a, 1)].reshape(shape)], axis=-2)
        for a in (0, 1)
    ]
    return jnp.stack(pairs, axis=-4).reshape(*lead, 2 * rows, 2 * columns)
