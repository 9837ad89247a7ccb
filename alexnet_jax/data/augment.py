"""From uint8 pixels to the network's input (sections 2 and 4.1), on the device: mean, mirroring, color noise, views.

Values are float32, in units of 0..255.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from alexnet_jax.data.dataset import PreparedDataSet

VIEWS = {'center': 1, 'ten': 10}  # number of patches whose predictions are averaged, mirror images included


class Statistics(NamedTuple):
    """Statistics of the training set."""

    mean_image: ArrayLike  # float32 [size, size, 3], 0..255
    color_components: ArrayLike  # float32 [3, 3], of `PreparedDataSet.color_components`


def statistics_of(data: PreparedDataSet, color_scale: str = 'deviation') -> Statistics:
    """Reads a prepared data set's statistics, as NumPy arrays; `color_scale` as for `color_components`."""
    return Statistics(data.mean_image(), data.color_components(color_scale))


def training_images(batch: dict[str, Array], statistics: Statistics) -> Array:
    """The random patches of section 4.1.

    The mean of the pixels in the patch is subtracted; the patch is mirrored where its draw says so; its color is
    shifted by [p1, p2, p3] [a1 s1, a2 s2, a3 s3]^T, the same at every pixel. Where the batch has scales, as in the
    2012 code, each image is multiplied by its own.

    Args:
      batch: as `pipeline.training_batches` yields it.
      statistics: of the training set.

    Returns:
      float32 [batch, crop, crop, 3].
    """
    crop = batch['image'].shape[1]
    mean_image = jnp.asarray(statistics.mean_image)
    mean = jax.vmap(lambda top, left: _patch(mean_image, top, left, crop))(batch['top'], batch['left'])
    x = batch['image'].astype(jnp.float32) - mean
    x = jnp.where(batch['mirror'][:, None, None, None], x[:, :, ::-1], x)
    shift = jnp.sum(batch['color'][:, None, :] * statistics.color_components, axis=-1)  # exact float32 products
    x = x + shift[:, None, None, :]
    return x * batch['scale'][:, None, None, None] if 'scale' in batch else x


def patches_of(views: str, mirror: bool) -> int:
    """The number of patches whose predictions are averaged: 1 of 'center'; of 'ten' 10, or 5 without mirror images.

    Where training images are not mirrored the network has never seen a mirror image, which may be of no class at all,
    as that of a digit.
    """
    return VIEWS[views] if mirror else min(VIEWS[views], VIEWS['ten'] // 2)


def view(images: Array, statistics: Statistics, number: Array | int, crop: int) -> Array:
    """One of the ten patches of section 4.1: the center, the four corners, and their mirror images.

    Args:
      images: uint8 [batch, size, size, 3].
      statistics: of the training set.
      number: 0 the center; 1 to 4 the corners, row by row; 5 to 9 the same mirrored.
      crop: height and width of the patch, in pixels.

    Returns:
      float32 [batch, crop, crop, 3].
    """
    far = images.shape[1] - crop
    offsets = np.array([[far // 2, far // 2], [0, 0], [0, far], [far, 0], [far, far]])
    top, left = jnp.asarray(offsets)[number % 5]
    zero = jnp.zeros_like(top)
    x = lax.dynamic_slice(images, (zero, top, left, zero), (images.shape[0], crop, crop, 3)).astype(jnp.float32)
    x = x - _patch(jnp.asarray(statistics.mean_image), top, left, crop)
    return jnp.where(number >= 5, x[:, :, ::-1], x)


def _patch(image: Array, top: Array, left: Array, crop: int) -> Array:
    return lax.dynamic_slice(image, (top, left, jnp.zeros_like(top)), (crop, crop, 3))
