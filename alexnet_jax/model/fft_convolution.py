"""Section 3.5's convolutions of stride 1 through discrete Fourier transforms: the same values with fewer products.

Each map is cut into tiles that overlap by the kernel's size less one. A tile's transform times the conjugate of the
kernel's is the transform of their correlation. Transforms of real values come in conjugate pairs, of which one is kept,
and a product of two complex numbers takes three real ones:

    (a + ib)(c + id) = (a + b)c - b(c + d) + i((a + b)c + a(d - c))

So all is real: the tiles times one matrix, the kernels times another, the sums over channels as one matrix product for
each of the products, and what comes of them times a third matrix. For 5 x 5 kernels and tiles of 11 x 11, of which
7 x 7 places come, 181 products take the place of 1,225.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from alexnet_jax.model.fusion import computed_once

# Wider tiles take fewer products, and longer transforms. Measured on the paper's layers.
_WIDEST_TILE = 11
# Direct convolution comes nearer to the processor's rate; below this share of its multiplications this is faster.
_WORTH_IT = 2 / 3


class _Matrices(NamedTuple):
    """The three linear maps, as float32 matrices; n, t and s are the widths of tile, of places and of kernels.

    Attributes:
      of_tiles: [products, n * n].
      of_kernels: [products, s * s].
      of_products: [t * t, products].
    """

    of_tiles: np.ndarray
    of_kernels: np.ndarray
    of_products: np.ndarray


class _Cut(NamedTuple):
    """How a map is cut: `count` tiles a side, of which each gives `places` a side."""

    count: int
    places: int


def _cut(outputs: int, size: int) -> _Cut:
    """As few tiles as leave none wider than the widest; at least a place each."""
    count = min(-(-outputs // max(1, _WIDEST_TILE - size + 1)), outputs)
    return _Cut(count, -(-outputs // count))


def saves(shape: tuple[int, ...], kernel: tuple[int, ...], pad: int) -> bool:
    """Whether this takes sufficiently fewer multiplications than the sums that define the convolution.

    Args:
      shape: of the images, [batch, side, side, channels].
      kernel: its shape, [size, size, channels, kernels].
      pad: zeros before each edge, and after it.
    """
    batch, side, other_side, channels = shape
    size, _, _, kernels = kernel
    if side != other_side:
        return False
    outputs = side + 2 * pad - size + 1
    cut = _cut(outputs, size)
    width = cut.places + size - 1
    products = _number_of_products(width)
    an_image = cut.count**2 * products * (width**2 * channels + channels * kernels + cut.places**2 * kernels)
    a_step = products * size**2 * channels * kernels
    return an_image + a_step / batch < _WORTH_IT * outputs**2 * size**2 * channels * kernels


def convolution(xs: list[Array], kernels: Array, biases: Array, *, pad: int = 0) -> list[Array]:
    """As `layers.convolution` with a stride of 1, for all columns here; float32.

    Args:
      xs: a column's [batch, side, side, channels] each; where all are the same array it is transformed once.
      kernels: [columns, size, size, channels, kernels].
      biases: [columns, kernels].
      pad: zeros before each edge, and after it.

    Returns:
      A column's [batch, outputs, outputs, kernels] each.
    """
    if len(xs) > 1 and all(x is xs[0] for x in xs):
        (y,) = convolution(xs[:1], jnp.concatenate(kernels, -1)[None], jnp.concatenate(biases)[None], pad=pad)
        return jnp.split(y, len(xs), axis=-1)
    columns, size, _, channels, count = kernels.shape
    outputs = xs[0].shape[1] + 2 * pad - size + 1
    cut = _cut(outputs, size)
    width, side = cut.places + size - 1, cut.count * cut.places
    of_tiles, of_kernels, of_products = (_linear(matrix) for matrix in _matrices(cut.places, size))

    tiles = jnp.stack([_tiles(computed_once(x), pad, width, cut) for x in xs], axis=2)
    tiles = of_tiles(tiles.reshape(width**2, -1))  # [products, columns * tiles * channels]
    spectra = of_kernels(jnp.moveaxis(kernels, 0, 2).reshape(size**2, -1))  # [products, columns * channels * kernels]
    each = len(tiles) * columns  # of the products, and of the columns: a matrix product of their own over the channels
    sums = tiles.reshape(each, -1, channels) @ spectra.reshape(each, channels, count)
    y = of_products(sums.reshape(len(tiles), -1))
    y = y.reshape(cut.places, cut.places, columns, cut.count, cut.count, -1, count)
    y = y.transpose(2, 5, 3, 0, 4, 1, 6).reshape(columns, -1, side, side, count)
    return [computed_once(one[:, :outputs, :outputs]) + bias for one, bias in zip(y, biases, strict=True)]


def _tiles(x: Array, pad: int, width: int, cut: _Cut) -> Array:
    """x, [batch, side, side, channels], in tiles: [width, width, count * count * batch * channels]."""
    far = cut.count * cut.places + width - cut.places - x.shape[1] - pad
    x = jnp.pad(x.transpose(1, 2, 0, 3), ((pad, far), (pad, far), (0, 0), (0, 0)))
    starts = range(0, cut.count * cut.places, cut.places)
    x = jnp.stack([x[start : start + width] for start in starts], axis=2)
    x = jnp.stack([x[:, start : start + width] for start in starts], axis=3)
    return x.reshape(width, width, -1)


def _linear(matrix: np.ndarray) -> Callable[[Array], Array]:
    """matrix @ x as a function of x, whose gradient multiplies by a transpose that is laid out row by row."""
    transpose = np.ascontiguousarray(matrix.T)

    @jax.custom_vjp
    def product(x: Array) -> Array:
        return matrix @ x

    product.defvjp(lambda x: (product(x), None), lambda _, gradient: (transpose @ gradient,))
    return product


def _number_of_products(width: int) -> int:
    """Of real numbers, for a tile: one for a frequency that is its own conjugate, three for each pair of others."""
    own = 1 if width % 2 else 4
    return own + 3 * (width**2 - own) // 2


@functools.cache
def _matrices(places: int, size: int) -> _Matrices:
    """The matrices for tiles of which `places` places a side come, and kernels of `size` a side."""
    width = places + size - 1
    wave = np.exp(-2j * np.pi * np.outer(np.arange(width), np.arange(width)) / width)
    of_tiles = np.kron(wave, wave)  # [frequencies, positions], row by row both
    of_kernels = np.kron(wave[:, :size], wave[:, :size]).conj()
    of_places = np.kron(wave[:, :places], wave[:, :places]).conj() / width**2
    rows: tuple[list, list, list] = ([], [], [])
    for frequency in range(width**2):
        conjugate = np.ravel_multi_index(tuple(-i % width for i in divmod(frequency, width)), (width, width))
        x, kernel, y = of_tiles[frequency], of_kernels[frequency], of_places[frequency]
        if frequency == conjugate:
            new = [x.real], [kernel.real], [y.real]
        elif frequency < conjugate:
            # (a + b)c, a(d - c) and b(c + d): the real part is the first less the third, the imaginary one the sum of
            # the first and the second; a frequency and its conjugate together give twice the real part of what comes.
            new = (
                [x.real + x.imag, x.real, x.imag],
                [kernel.real, kernel.imag - kernel.real, kernel.real + kernel.imag],
                [2 * (y.real - y.imag), -2 * y.imag, -2 * y.real],
            )
        else:
            continue
        for all_rows, more in zip(rows, new, strict=True):
            all_rows += more
    tiles, kernels, products = (np.array(each, np.float32) for each in rows)
    return _Matrices(tiles, kernels, np.ascontiguousarray(products.T))
