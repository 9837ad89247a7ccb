"""From uint8 pixels to the network's input (sections 2 and 4.1), on the device: mean, mirroring, color noise, views.

Values are float32, in units of 0..255.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from alexnet_jax.config import DataConfig
from alexnet_jax.data.dataset import PreparedDataSet

VIEWS = {'center': 1, 'ten': 10}  # number of patches whose predictions are averaged, mirror images included


class Statistics(NamedTuple):
    """Statistics of the training set.

    Attributes:
      mean_image: float32 [size, size, 3], 0..255. From a patch the mean of its own pixels is subtracted.
      color_components: float32 [3, 3], of `PreparedDataSet.color_components`.
      mean_patch: float32 [crop, crop, 3], subtracted in place of that from every patch, after mirroring; or None.
    """

    mean_image: ArrayLike
    color_components: ArrayLike
    mean_patch: ArrayLike | None = None


def statistics_of(data: PreparedDataSet, config: DataConfig, mean_image: np.ndarray | None = None) -> Statistics:
    """Reads a prepared data set's statistics, as NumPy arrays.

    Args:
      data: the prepared data set.
      config: crop, `color_scale`, and `mean_patch`: the text says that "the mean activity over the training set" is
        subtracted from each pixel; the 2012 code subtracts the mean image's central patch, whatever a patch's offset.
      mean_image: in place of the data set's, float32 [size, size, 3] in 0..255.
    """
    mean_image = data.mean_image() if mean_image is None else mean_image
    near = (data.image_size - config.crop_size) // 2
    center = mean_image[near : near + config.crop_size, near : near + config.crop_size]
    components = data.color_components(config.color_scale)
    return Statistics(mean_image, components, center if config.mean_patch == 'center' else None)


def training_images(batch: dict[str, Array], statistics: Statistics) -> Array:
    """The random patches of section 4.1.

    The mean is subtracted; the patch is mirrored where its draw says so; its color is shifted by [p1, p2, p3] [a1 s1,
    a2 s2, a3 s3]^T, the same at every pixel. As in the 2012 code, where the batch has images to blend with, each image
    is first mixed with its partner by the partner's weight; where it has scales, each image is multiplied by its own
    at the end.

    Args:
      batch: as `pipeline.training_batches` yields it.
      statistics: of the training set.

    Returns:
      float32 [batch, crop, crop, 3].
    """
    x = _centered(batch['image'], batch['top'], batch['left'], batch['mirror'], statistics)
    if 'blend_image' in batch:
        image, mirror = batch['blend_image'], batch['blend_mirror']
        other = _centered(image, batch['blend_top'], batch['blend_left'], mirror, statistics)
        weight = batch['blend_weight'][:, None, None, None]
        x = (1 - weight) * x + weight * other
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
    patches = lax.dynamic_slice(images, (zero, top, left, zero), (images.shape[0], crop, crop, 3))
    return _centered(patches, top, left, jnp.asarray(number) >= 5, statistics)


def _centered(patches: Array, top: Array, left: Array, mirror: Array, statistics: Statistics) -> Array:
    """Patches with the mean subtracted, mirrored where they should be.

    Args:
      patches: uint8 [batch, crop, crop, 3].
      top, left, mirror: of each, [batch], or of all.
      statistics: of the training set.
    """
    x, mirror = patches.astype(jnp.float32), mirror[..., None, None, None]
    if statistics.mean_patch is not None:
        return jnp.where(mirror, x[:, :, ::-1], x) - statistics.mean_patch
    own_mean = functools.partial(_patch, jnp.asarray(statistics.mean_image), crop=patches.shape[1])
    x = x - (jax.vmap(own_mean) if top.ndim else own_mean)(top, left)
    return jnp.where(mirror, x[:, :, ::-1], x)


def _patch(image: Array, top: Array, left: Array, crop: int) -> Array:
    return lax.dynamic_slice(image, (top, left, jnp.zeros_like(top)), (crop, crop, 3))
