"""Dense convolution as matrix products over patches, and the pooling that goes with it.

Feature maps lie as in `window.py`: `[C, H, W * B]`, channels ahead, the batch innermost together
with the width. The patches of a k x k convolution are then k * k shifted slices of contiguous
memory, laid end to end, and all outputs are one product, `[O, k*k*C] x [k*k*C, H*W*B]`, whose shape
suits a CPU's matrix routines. Both gradients are such products too.

Cost: the patches hold the map k * k times (6 MB for the second layer of the CNN of McMahan et al.
at batch 10). In return no `lax` convolution is needed. Inside a loop, XLA's CPU compiler computes
those naively, which makes a round of that CNN 17 times slower. Under `vmap` over clients, whose
weights differ, they become grouped convolutions, which are slower still. A product under `vmap` is
a batched product.

Where the product itself takes most of the time, `winograd.py` makes it smaller.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from fednas_jax.nn.kernels import winograd

WINOGRAD_CHANNELS = 16
"""Input channels from which the saved multiplications outweigh the transforms on a CPU. With 32
channels, forward and backward pass take 0.6 of the time (5 x 5 and 3 x 3 kernels, batch 10)."""


def to_maps(images: jax.Array) -> jax.Array:
    """[B, H, W, C] -> [C, H, W * B]."""
    batch, height, width, channels = images.shape
    return images.transpose(3, 1, 2, 0).reshape(channels, height, width * batch)


def flatten(maps: jax.Array, batch: int) -> jax.Array:
    """[C, H, W * B] -> [B, C * H * W], in the order in which PyTorch flattens."""
    return maps.reshape(-1, batch).T


def conv(maps: jax.Array, kernel: jax.Array, padding: int, batch: int) -> jax.Array:
    """A convolution of stride one, by the method that suits its size and the device.

    Args:
      maps: [C, H, W * B].
      kernel: [O, k, k, C].
      padding: rows and columns of zeros on each side.
      batch: B.

    Returns:
      [O, H', W' * B], where H' = H + 2 * padding - k + 1 and W' = W + 2 * padding - k + 1.
    """
    fits = len(maps) >= WINOGRAD_CHANNELS and 1 < kernel.shape[1] <= winograd.TILE + 1
    # On lower maps, the rows that pad the last tile cost more than is saved.
    if fits and maps.shape[1] >= winograd.TILE and jax.default_backend() == "cpu":
        return winograd.conv(maps, kernel, padding, batch)
    return conv_by_patches(maps, kernel, padding, batch)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def conv_by_patches(maps: jax.Array, kernel: jax.Array, padding: int, batch: int) -> jax.Array:
    """A convolution of stride one as one product; arguments and result as for `conv`."""
    return _forward(maps, kernel, padding, batch)[0]


def _forward(maps: jax.Array, kernel: jax.Array, padding: int, batch: int) -> Any:
    size = kernel.shape[1]
    patches, shape = _patches(maps, size, padding, batch)
    out = kernel.reshape(len(kernel), -1) @ patches
    # Only the shape of the map is used later, so that keeping it costs nothing.
    return out.reshape(-1, *shape), (maps, patches, kernel)


def _backward(padding: int, batch: int, residuals: Any, gradient: jax.Array) -> Any:
    maps, patches, kernel = residuals
    flat = gradient.reshape(len(gradient), -1)
    of_kernel = lax.dot_general(flat, patches, (((1,), (1,)), ((), ())))
    # In a first layer nothing uses this gradient, and the compiler removes it as dead code.
    of_patches = lax.dot_general(
        kernel.reshape(len(kernel), -1), flat, (((0,), (0,)), ((), ()))
    ).reshape(*kernel.shape[1:], *gradient.shape[1:])
    of_maps = _put_back(lax.optimization_barrier(of_patches), maps.shape, padding, batch)
    return of_maps, of_kernel.reshape(kernel.shape)


conv_by_patches.defvjp(_forward, _backward)


def _patches(
    maps: jax.Array, size: int, padding: int, batch: int
) -> tuple[jax.Array, tuple[int, int]]:
    """[k * k * C, H' * W' * B], and (H', W' * B)."""
    sides = (padding, padding), (padding * batch, padding * batch)
    # Without barriers XLA repeats the padding and the shifts inside each consumer.
    padded = lax.optimization_barrier(jnp.pad(maps, ((0, 0), *sides)))
    height = padded.shape[1] - size + 1
    width = padded.shape[2] - (size - 1) * batch
    slices = [
        padded[:, i : i + height, j * batch : j * batch + width]
        for i in range(size)
        for j in range(size)
    ]
    together = jnp.concatenate(slices).reshape(-1, height * width)
    return lax.optimization_barrier(together), (height, width)


def _put_back(patches: jax.Array, shape: tuple[int, ...], padding: int, batch: int) -> jax.Array:
    """The transpose of `_patches`: adds each value where `_patches` has read it."""
    size, height, width = patches.shape[0], patches.shape[3], patches.shape[4]
    total = jnp.zeros(shape, patches.dtype)
    for i in range(size):
        for j in range(size):
            top, left = i - padding, (j - padding) * batch
            sides = (0, 0, 0), (top, shape[1] - height - top, 0), (left, shape[2] - width - left, 0)
            total += lax.pad(patches[i, j], jnp.zeros((), patches.dtype), sides)
    return lax.optimization_barrier(total)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def max_pool_2x2(maps: jax.Array, batch: int) -> jax.Array:
    """The maximum of each 2 x 2 pixels; H and W are even.

    Args:
      maps: [C, H, W * B].
      batch: B.

    Returns:
      [C, H / 2, W / 2 * B].
    """
    corners = quarters(maps, batch)
    out = functools.reduce(jnp.maximum, corners)
    return lax.optimization_barrier(out.reshape(*out.shape[:2], -1))


def quarters(maps: jax.Array, batch: int) -> list[jax.Array]:
    """The four pixels of each 2 x 2 square, row by row; four arrays [C, H / 2, W / 2, B]."""
    channels, height, width = maps.shape
    squares = maps.reshape(channels, height // 2, 2, width // (2 * batch), 2, batch)
    return [squares[:, :, i, :, j] for i in range(2) for j in range(2)]


def _pool_forward(maps: jax.Array, batch: int) -> Any:
    out = max_pool_2x2(maps, batch)
    return out, (maps, out)


def _pool_backward(batch: int, residuals: Any, gradient: jax.Array) -> Any:
    maps, out = residuals
    corners = quarters(maps, batch)
    shape = corners[0].shape
    best, gradient = out.reshape(shape), gradient.reshape(shape)
    taken = jnp.zeros(shape, bool)
    parts = []
    for corner in corners:  # the first of equal maxima takes all of the gradient, as in PyTorch
        wins = (corner == best) & ~taken
        taken |= wins
        parts.append(jnp.where(wins, gradient, jnp.zeros((), gradient.dtype)))
    rows = [jnp.stack(parts[:2], axis=3), jnp.stack(parts[2:], axis=3)]
    return (lax.optimization_barrier(jnp.stack(rows, axis=2).reshape(maps.shape)),)


max_pool_2x2.defvjp(_pool_forward, _pool_backward)
