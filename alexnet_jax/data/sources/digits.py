"""The embedded source: scikit-learn's handwritten digits."""

import io

import numpy as np
from PIL import Image

from alexnet_jax.data.sources.base import Identity, Item, index_in_whole


class Digits:
    """The 1,797 handwritten digits of scikit-learn: scans of 8 x 8 pixels in 17 gray levels, without a download.

    Every fifth image, from the first on, is held out for validation: 360 of them.
    """

    def __init__(self) -> None:
        from sklearn.datasets import load_digits

        digits = load_digits()
        self._images = np.round(digits.images * (255 / 16)).astype(np.uint8)
        self._labels = digits.target
        self.class_names = self.class_ids = tuple(str(name) for name in digits.target_names)
        held_out = len(self._images[::5])
        self.splits = {'train': len(self._images) - held_out, 'validation': held_out}

    def item(self, split: str, index: int) -> Item:
        """A digit as PNG, named by its index in scikit-learn's data set."""
        number = index_in_whole(split, index, 5)
        encoded = io.BytesIO()
        Image.fromarray(self._images[number]).save(encoded, 'PNG')
        return Item(f'digit-{number:04d}', encoded.getvalue(), int(self._labels[number]))

    def identity(self, split: str, index: int) -> Identity:
        """The index in scikit-learn's data set."""
        number = index_in_whole(split, index, 5)
        return Identity('', str(number), 0, 0, int(self._labels[number]))
