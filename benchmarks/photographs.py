"""Photographs of any size and number, cut from the two that come with scikit-learn: a source to prepare, and files."""

import pathlib

import numpy as np
import simplejpeg
from PIL import Image

from alexnet_jax.data.sources import Item


class Photographs:
    """Random patches of the two photographs; each depends on its index alone."""

    def __init__(self, size: int, train: int, validation: int = 2) -> None:
        """Patches of `size` x `size` pixels, at most 427, and their numbers in each split."""
        from sklearn.datasets import load_sample_images

        self._photographs, self._size = load_sample_images().images, size
        self.class_names = self.class_ids = ('china', 'flower')
        self.splits = {'train': train, 'validation': validation}

    def item(self, split: str, index: int) -> Item:
        """A patch, encoded almost losslessly."""
        random = np.random.default_rng((index, split == 'validation'))
        photograph = self._photographs[index % 2]
        top, left = (random.integers(0, n - self._size + 1) for n in photograph.shape[:2])
        patch = np.ascontiguousarray(photograph[top : top + self._size, left : left + self._size])
        return Item(f'{index}.jpg', simplejpeg.encode_jpeg(patch, 100, colorspace='RGB'), index % 2)


def photographs(where: pathlib.Path, directory: str, count: int) -> list[pathlib.Path]:
    """At most `count` JPEGs below a directory; where none is named, made ones, which are written to `where`."""
    if not directory:
        return write_photographs(where, count)
    found = pathlib.Path(directory).rglob('*')
    return sorted(path for path in found if path.suffix.lower() in ('.jpg', '.jpeg'))[:count]


def write_photographs(directory: pathlib.Path, count: int) -> list[pathlib.Path]:
    """Sixteen different images in turn."""
    from sklearn.datasets import load_sample_images

    random, encoded = np.random.default_rng(0), []
    for photograph in load_sample_images().images:
        large = np.asarray(Image.fromarray(photograph).resize((960, 640), Image.Resampling.BICUBIC))
        for _ in range(8):
            top, left = random.integers(0, 640 - 375), random.integers(0, 960 - 500)
            patch = np.ascontiguousarray(large[top : top + 375, left : left + 500])
            encoded.append(simplejpeg.encode_jpeg(patch, 95, colorspace='RGB', colorsubsampling='420'))
    paths = [directory / f'{number:06d}.jpg' for number in range(count)]
    for number, path in enumerate(paths):
        path.write_bytes(encoded[number % 16])
    return paths
