"""The embedded source: scikit-learn's handwritten digits."""

import io

import numpy as np
from PIL import Image

from alexnet_jax.data.sources.base import Item


class Digits:
    """The 1,797 handwritten digits that come with scikit-learn: real scans of 8 x 8 pixels, 17 gray levels.

    Nothing is downloaded. Every fifth image, from the first on, is held out for validation: 360 of them.
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
        """A digit of a split as PNG, named by its place in scikit-learn's data set."""
        place = 5 * index if split == 'validation' else index + index // 4 + 1
        encoded = io.BytesIO()
        Image.fromarray(self._images[place]).save(encoded, 'PNG')
        return Item(f'digit-{place:04d}', encoded.getvalue(), int(self._labels[place]))
