"""Convolution by Winograd's minimal filtering along the rows: fewer multiplications, exact algebra.

Four neighbouring outputs of a filter with r taps can be written as a product of polynomials, which
its values at n = 4 + r - 1 points determine: n multiplications instead of 4 r. Hence

    y = A ((G g) * (D d))

for taps g and the n inputs d, with small constant matrices A, G, D (Toom and Cook's construction).
Applied only along the rows of an image, each multiplication becomes a matrix product over channels
and the taps of the other axis. A 5 x 5 convolution then takes 8 products over 5 C channels instead
of one over 25 C with 4 times the outputs: 0.4 of the multiplications, and a fifth of the memory for
patches, since shifts are laid end to end for one axis only. Both gradients save as much.

Cost: rows are padded to a multiple of four, the transforms are sums over up to n arrays, and
float32 loses about one decimal digit. It pays on a CPU with many channels; `convolution.py` decides
when it is used. Tested in float64 against `lax` to 1e-12.

Winograd, Arithmetic Complexity of Computations, 1980; for networks: Lavin and Gray, Fast Algorithms
for Convolutional Neural Networks, CVPR 2016, arXiv:1509.09308.
"""

import functools
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

TILE = 4
"""Number of neighbouring outputs computed together; a kernel has at most one tap more."""

_POINTS = (0, 1, -1, 2, -2, Fraction(1, 2), Fraction(-1, 2))


class Transforms(NamedTuple):
    """The matrices of y = output ((kernel g) * (input d))."""

    output: np.ndarray
    """[TILE, n]"""
    kernel: np.ndarray
    """[n, taps]"""
    input: np.ndarray
    """[n, n]"""


@functools.cache
def transforms(taps: int) -> Transforms:
    """The matrices for a filter with `taps` taps, computed with exact fractions.

    The points are n - 1 small numbers and infinity. Filtering is the transpose of multiplying
    polynomials, which evaluates at these points, multiplies and interpolates.
    """
    count = TILE + taps - 1
    points = [Fraction(p) for p in _POINTS[: count - 1]]

    def powers(columns: int) -> list[list[Fraction]]:
        infinity = [Fraction(int(j == columns - 1)) for j in range(columns)]
        return [[p**j for j in range(columns)] for p in points] + [infinity]

    kernel, output = powers(taps), powers(TILE)
    inverse = [list(row) for row in zip(*_inverse(powers(count)), strict=True)]
    for i, row in enumerate(inverse):
        # Inputs are the largest arrays, so their transform gets whole numbers; G gets the rest.
        scale = np.lcm.reduce([value.denominator for value in row])
        inverse[i] = [value * int(scale) for value in row]
        kernel[i] = [value / int(scale) for value in kernel[i]]
    return Transforms(
        np.array(output, np.float64).T, np.array(kernel, np.float64), np.array(inverse, np.float64)
    )


def _inverse(matrix: list[list[Fraction]]) -> list[list[Fraction]]:
    """The inverse of a matrix, exactly, by Gauss-Jordan elimination."""
    size = len(matrix)
    rows = [[*row, *(Fraction(int(i == j)) for j in range(size))] for i, row in enumerate(matrix)]
    for column in range(size):
        pivot = next(i for i in range(column, size) if rows[i][column])
        rows[column], rows[pivot] = rows[pivot], rows[column]
        rows[column] = [value / rows[column][column] for value in rows[column]]
        for i in range(size):
            if i != column and (factor := rows[i][column]):
                pairs = zip(rows[i], rows[column], strict=True)
                rows[i] = [a - factor * b for a, b in pairs]
    return [row[size:] for row in rows]


def _combine(matrix: np.ndarray, arrays: Sequence[jax.Array]) -> list[jax.Array]:
    """For each row of the matrix, the sum of the arrays weighted by its entries."""
    sums = []
    for row in matrix:
        terms = [
            array if entry == 1 else float(entry) * array
            for entry, array in zip(row, arrays, strict=True)
            if entry
        ]
        # Without a barrier XLA recomputes the sum in each of its consumers.
        sums.append(lax.optimization_barrier(functools.reduce(jnp.add, terms)))
    return sums


class _Shape(NamedTuple):
    """Sizes of a convolution of stride one on maps [C, H, W * B]."""

    channels: int
    height: int
    width: int
    size: int
    padding: int
    batch: int

    @property
    def out_height(self) -> int:
        return self.height + 2 * self.padding - self.size + 1

    @property
    def out_width(self) -> int:
        return self.width + 2 * self.padding - self.size + 1

    @property
    def tiles(self) -> int:
        return -(-self.out_height // TILE)


def _shape(maps: jax.Array, kernel: jax.Array, padding: int, batch: int) -> _Shape:
    channels, height, width = maps.shape
    return _Shape(channels, height, width // batch, kernel.shape[1], padding, batch)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def conv(maps: jax.Array, kernel: jax.Array, padding: int, batch: int) -> jax.Array:
    """A convolution of stride one; arguments and result as for `convolution.conv`."""
    return _forward(maps, kernel, padding, batch)[0]


def _forward(maps: jax.Array, kernel: jax.Array, padding: int, batch: int) -> Any:
    shape = _shape(maps, kernel, padding, batch)
    patches, kernels = _patches(maps, shape), _kernels(kernel)
    products = [k @ p for k, p in zip(kernels, patches, strict=True)]
    # The backward pass recomputes patches from the maps: they take more than four times the memory,
    # and in a loop over blocks, storing them takes longer than recomputing them.
    return _outputs(products, shape), (maps, kernel)


def _backward(padding: int, batch: int, residuals: Any, gradient: jax.Array) -> Any:
    maps, kernel = lax.optimization_barrier(residuals)  # without it XLA keeps the patches
    shape = _shape(maps, kernel, padding, batch)
    patches, kernels = _patches(maps, shape), _kernels(kernel)
    of_products = _outputs_transposed(gradient, shape)
    of_kernels = [_contract(g, p, 1) for g, p in zip(of_products, patches, strict=True)]
    # In a first layer nothing uses this gradient, and the compiler removes it as dead code.
    of_patches = [_contract(k, g, 0) for k, g in zip(kernels, of_products, strict=True)]
    return _patches_transposed(of_patches, shape), _kernels_transposed(of_kernels, kernel.shape)


conv.defvjp(_forward, _backward)


def _contract(a: jax.Array, b: jax.Array, axis: int) -> jax.Array:
    return lax.optimization_barrier(lax.dot_general(a, b, (((axis,), (axis,)), ((), ()))))


def _patches(maps: jax.Array, shape: _Shape) -> list[jax.Array]:
    """The transformed patches, [k * C, tiles * W' * B] for each point."""
    channels, height, _ = maps.shape
    rows, side = (shape.tiles + 1) * TILE, shape.padding * shape.batch
    below = rows - height - shape.padding
    padded = jnp.pad(maps, ((0, 0), (shape.padding, below), (side, side)))
    tiled = lax.optimization_barrier(padded).reshape(channels, shape.tiles + 1, TILE, -1)
    count = TILE + shape.size - 1
    inputs = [tiled[:, s // TILE :][:, : shape.tiles, s % TILE] for s in range(count)]
    length = shape.out_width * shape.batch
    patches = []
    for values in _combine(transforms(shape.size).input, inputs):
        shifts = [values[:, :, j * shape.batch :][:, :, :length] for j in range(shape.size)]
        together = jnp.concatenate(shifts).reshape(shape.size * channels, -1)
        patches.append(lax.optimization_barrier(together))
    return patches


def _patches_transposed(patches: list[jax.Array], shape: _Shape) -> jax.Array:
    """The transpose of `_patches`: adds each value where it was read, [C, H, W * B]."""
    values = []
    for patch in patches:
        shifts = patch.reshape(shape.size, shape.channels, shape.tiles, -1)
        last = shape.size - 1
        sides = [((0, 0), (0, 0), (j * shape.batch, (last - j) * shape.batch)) for j in range(last)]
        sides.append(((0, 0), (0, 0), (last * shape.batch, 0)))
        padded = [jnp.pad(shift, side) for shift, side in zip(shifts, sides, strict=True)]
        values.append(lax.optimization_barrier(functools.reduce(jnp.add, padded)))
    inputs = _combine(transforms(shape.size).input.T, values)
    # Rows that reach into the next tile are added there.
    inputs += [jnp.zeros_like(inputs[0])] * (2 * TILE - len(inputs))
    rows = shape.channels, shape.tiles * TILE, -1
    own, next_tile = (
        jnp.stack(half, axis=2).reshape(rows) for half in (inputs[:TILE], inputs[TILE:])
    )
    total = jnp.pad(own, ((0, 0), (0, TILE), (0, 0))) + jnp.pad(
        next_tile, ((0, 0), (TILE, 0), (0, 0))
    )
    side = shape.padding * shape.batch
    inside = total[:, shape.padding :, side : side + shape.width * shape.batch]
    return lax.optimization_barrier(inside[:, : shape.height])


def _kernels(kernel: jax.Array) -> list[jax.Array]:
    """The transformed kernel, [O, k * C] for each point."""
    rows = [kernel[:, i] for i in range(kernel.shape[1])]
    return [k.reshape(len(k), -1) for k in _combine(transforms(len(rows)).kernel, rows)]


def _kernels_transposed(kernels: list[jax.Array], shape: tuple[int, ...]) -> jax.Array:
    outputs, size, _, channels = shape
    values = [k.reshape(outputs, size, channels) for k in kernels]
    return jnp.stack(_combine(transforms(size).kernel.T, values), axis=1)


def _outputs(products: list[jax.Array], shape: _Shape) -> jax.Array:
    """The outputs [O, H', W' * B] from the products at all points."""
    tiled = [p.reshape(len(p), shape.tiles, -1) for p in products]
    rows = _combine(transforms(shape.size).output, tiled)
    maps = jnp.stack(rows, axis=2).reshape(len(rows[0]), shape.tiles * TILE, -1)
    return maps[:, : shape.out_height]


def _outputs_transposed(gradient: jax.Array, shape: _Shape) -> list[jax.Array]:
    below = shape.tiles * TILE - shape.out_height
    padded = jnp.pad(gradient, ((0, 0), (0, below), (0, 0)))
    tiled = padded.reshape(len(gradient), shape.tiles, TILE, -1)
    values = _combine(transforms(shape.size).output.T, [tiled[:, :, a] for a in range(TILE)])
    return [v.reshape(len(v), -1) for v in values]
