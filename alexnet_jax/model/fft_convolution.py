"""The fastest convolution on CPUs: stride-1 convolutions by discrete Fourier transforms, others in groups of images.

Each map is cut into tiles that overlap by the kernel's size minus one. A tile's transform times the conjugate of the
kernel's transform is the transform of their correlation. Transforms of real values come in conjugate pairs, one of
which suffices, and a product of two complex numbers takes three real products:

    (a + ib)(c + id) = (a + b)c - b(c + d) + i((a + b)c + a(d - c))

So all arithmetic is real: the tiles times one matrix, the kernels times another, a matrix product over the channels for
each real product, and the results times a third matrix. For 5 x 5 kernels and tiles of 11 x 11, which give 7 x 7
outputs, 181 products replace 1,225.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from alexnet_jax.model import layers
from alexnet_jax.model.layer_specs import Rounding
from alexnet_jax.model.layers import computed_once

_MAX_TILE = 11  # Wider tiles take fewer products but longer transforms. Measured on the paper's layers.
_MAX_COST_RATIO = 2 / 3  # Direct convolution runs nearer to the processor's peak rate, so it is faster above this.
# For 128 images at once, XLA's gradient of a kernel takes several times as long an image as for a few.
_IMAGES_PER_GROUP = 8
# XLA takes as long for few kernels as for twice as many; its gradient of 96 takes longer than that of twice 48.
_MOST_JOINED = 64


def cpu_convolution(
    xs: list[Array],
    kernels: Array,
    biases: Array,
    *,
    stride: int = 1,
    pad: int = 0,
    rounding: Rounding = 'up',
    far_pad: int | None = None,
) -> list[Array]:
    """`layers.convolution` of each column's x; kernels and biases have a leading column axis.

    Columns that see the same array, as all do of an image, are computed as one with the kernels of all, where that is
    faster.
    """
    options: dict[str, Any] = {'stride': stride, 'pad': pad, 'rounding': rounding, 'far_pad': far_pad}
    evenly = stride == 1 and far_pad in (None, pad)
    transforms = evenly and xs[0].dtype == jnp.float32 and saves_work(xs[0].shape, kernels.shape[1:], pad)
    few = kernels.shape[0] * kernels.shape[-1] <= _MOST_JOINED
    if (transforms or few) and len(xs) > 1 and all(x is xs[0] for x in xs):
        joined = jnp.concatenate(kernels, -1)[None], jnp.concatenate(biases)[None]
        (y,) = cpu_convolution(xs[:1], *joined, **options)
        return jnp.split(y, len(xs), axis=-1)
    if transforms:
        return fft_convolution(xs, kernels, biases, pad=pad)

    def in_groups(x: Array, kernel: Array, bias: Array) -> Array:
        kernel = kernel.astype(x.dtype)
        groups = jnp.split(x, list(range(_IMAGES_PER_GROUP, len(x), _IMAGES_PER_GROUP)))
        maps = [layers.correlation(group, kernel, **options) for group in groups]
        return jnp.concatenate(maps) + bias.astype(x.dtype)

    return [in_groups(*column) for column in zip(xs, kernels, biases, strict=True)]


@dataclasses.dataclass(frozen=True)
class _Tiling:
    """Along each side of a map, the number of tiles; the outputs and the width in pixels of each."""

    tiles: int
    outputs: int
    width: int


def _tiling(outputs: int, size: int) -> _Tiling:
    """The fewest tiles of at most the maximal width, with at least one output each."""
    tiles = min(-(-outputs // max(1, _MAX_TILE - size + 1)), outputs)
    per_tile = -(-outputs // tiles)
    return _Tiling(tiles, per_tile, per_tile + size - 1)


def saves_work(shape: tuple[int, ...], kernel: tuple[int, ...], pad: int) -> bool:
    """Whether `fft_convolution` takes sufficiently fewer multiplications than the direct sums.

    The shapes are those of the images, [batch, side, side, channels], and of a kernel, [size, size, channels, kernels].
    """
    batch, side, other_side, channels = shape
    size, _, _, kernels = kernel
    if side != other_side:
        return False
    outputs = side + 2 * pad - size + 1
    cut = _tiling(outputs, size)
    products = _number_of_products(cut.width)
    per_tile = products * (cut.width**2 * channels + channels * kernels + cut.outputs**2 * kernels)
    per_step = products * size**2 * channels * kernels
    cost = cut.tiles**2 * per_tile + per_step / batch  # for an image
    return cost < _MAX_COST_RATIO * outputs**2 * size**2 * channels * kernels


def fft_convolution(xs: list[Array], kernels: Array, biases: Array, *, pad: int = 0) -> list[Array]:
    """`layers.convolution` with a stride of 1, for all columns; float32.

    Args:
      xs: each column's [batch, side, side, channels].
      kernels: [columns, size, size, channels, kernels].
      biases: [columns, kernels].
      pad: zeros at each edge.

    Returns:
      Each column's [batch, outputs, outputs, kernels].
    """
    columns, size, _, channels, count = kernels.shape
    outputs = xs[0].shape[1] + 2 * pad - size + 1
    cut = _tiling(outputs, size)
    matrices = _matrices(cut.outputs, size)

    tiles = jnp.stack([_cut_into_tiles(computed_once(x), pad, cut) for x in xs], axis=2)
    tiles = _multiply_by(matrices.tiles)(tiles.reshape(cut.width**2, -1))  # [products, columns * tiles * channels]
    kernels = jnp.moveaxis(kernels, 0, 2).reshape(size**2, -1)
    kernels = _multiply_by(matrices.kernels)(kernels)  # [products, columns * channels * kernels]
    batch = len(tiles) * columns  # of matrix products over the channels
    sums = tiles.reshape(batch, -1, channels) @ kernels.reshape(batch, channels, count)
    y = _multiply_by(matrices.outputs)(sums.reshape(len(tiles), -1))
    y = y.reshape(cut.outputs, cut.outputs, columns, cut.tiles, cut.tiles, -1, count)
    side = cut.tiles * cut.outputs
    y = y.transpose(2, 5, 3, 0, 4, 1, 6).reshape(columns, -1, side, side, count)
    return [computed_once(one[:, :outputs, :outputs]) + bias for one, bias in zip(y, biases, strict=True)]


def _cut_into_tiles(x: Array, pad: int, cut: _Tiling) -> Array:
    """Tiles of x, [batch, side, side, channels]: [width, width, tiles * tiles * batch * channels]."""
    far = cut.tiles * cut.outputs + cut.width - cut.outputs - x.shape[1] - pad
    x = jnp.pad(x.transpose(1, 2, 0, 3), ((pad, far), (pad, far), (0, 0), (0, 0)))
    starts = range(0, cut.tiles * cut.outputs, cut.outputs)
    x = jnp.stack([x[start : start + cut.width] for start in starts], axis=2)
    x = jnp.stack([x[:, start : start + cut.width] for start in starts], axis=3)
    return x.reshape(cut.width, cut.width, -1)


def _multiply_by(matrix: np.ndarray) -> Callable[[Array], Array]:
    """matrix @ x as a function of x, whose gradient multiplies by a transpose stored row by row."""
    transpose = np.ascontiguousarray(matrix.T)

    @jax.custom_vjp
    def product(x: Array) -> Array:
        return jnp.matmul(matrix, x)

    product.defvjp(lambda x: (product(x), None), lambda _, gradient: (jnp.matmul(transpose, gradient),))
    return product


def _number_of_products(width: int) -> int:
    """Real products for a tile: one for a frequency that is its own conjugate, three for each pair of others."""
    own = 1 if width % 2 else 4
    return own + 3 * (width**2 - own) // 2


@dataclasses.dataclass(frozen=True)
class _Matrices:
    """The three linear maps, float32."""

    tiles: np.ndarray  # [products, width * width]
    kernels: np.ndarray  # [products, size * size]
    outputs: np.ndarray  # [outputs * outputs, products]


@functools.cache
def _matrices(outputs: int, size: int) -> _Matrices:
    """The matrices for tiles with `outputs` outputs a side, and kernels of width `size`."""
    width = outputs + size - 1
    wave = np.exp(-2j * np.pi * np.outer(np.arange(width), np.arange(width)) / width)
    tiles = np.kron(wave, wave)  # [frequencies, positions], each row by row
    kernels = np.kron(wave[:, :size], wave[:, :size]).conj()
    results = np.kron(wave[:, :outputs], wave[:, :outputs]).conj() / width**2
    rows: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []  # one a product
    for frequency in range(width**2):
        row, column = divmod(frequency, width)
        conjugate = -row % width * width + -column % width
        x, kernel, y = tiles[frequency], kernels[frequency], results[frequency]
        if frequency == conjugate:
            rows.append((x.real, kernel.real, y.real))
        elif frequency < conjugate:
            # (a + b)c, a(d - c) and b(c + d): the real part is the first minus the third, the imaginary part the sum
            # of the first and the second; a frequency and its conjugate together give twice the real part.
            rows += [
                (x.real + x.imag, kernel.real, 2 * (y.real - y.imag)),
                (x.real, kernel.imag - kernel.real, -2 * y.imag),
                (x.imag, kernel.real + kernel.imag, -2 * y.real),
            ]
    stacked = [np.array(each, np.float32) for each in zip(*rows, strict=True)]
    return _Matrices(stacked[0], stacked[1], np.ascontiguousarray(stacked[2].T))
