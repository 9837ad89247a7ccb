"""A user's own image files, with the pixels that a prepared data set would hold of them."""

from collections.abc import Iterator, Sequence

import numpy as np

from alexnet_jax.data.dataset import PreparedDataSet
from alexnet_jax.data.image_files import ImageFile, read_image_files
from alexnet_jax.data.images import MAX_MEGAPIXELS
from alexnet_jax.data.records import payload


def read_as_prepared(
    paths: Sequence[str], data: PreparedDataSet, threads: int = 0, max_megapixels: float = MAX_MEGAPIXELS
) -> Iterator[ImageFile]:
    """Reads image files in order, as they would be read from a data set prepared with the same settings.

    Storage as JPEG changes pixels a little. A network was trained and evaluated on these.

    Args:
      paths: of the files.
      data: the data set whose settings count; its images are not needed.
      threads: that read; 0 for one a core, up to 16.
      max_megapixels: of a file, as for `normalized`.

    Yields:
      One for each path, whether or not it can be read.
    """
    for file in read_image_files(paths, data.image_size, threads, max_megapixels):
        yield file if file.pixels is None else file._replace(pixels=as_stored(file.pixels, data))


def as_stored(pixels: np.ndarray, data: PreparedDataSet) -> np.ndarray:
    """The pixels that a data set gives back of an image, uint8 [size, size, 3] in RGB, stored in it."""
    _, stored = payload(data.settings.storage, '', 0, pixels, data.settings.quality)
    return stored
