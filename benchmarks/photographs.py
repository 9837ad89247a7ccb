"""Photographs of any size and number, cut from the two that come with scikit-learn, as a source to prepare."""

import numpy as np
import simplejpeg

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
