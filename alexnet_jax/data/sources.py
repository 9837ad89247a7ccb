"""Where images come from: each source yields encoded images with their names and labels."""

import io
from collections.abc import Iterator
from typing import NamedTuple, Protocol

import numpy as np
from PIL import Image

from alexnet_jax.errors import UserError


class Item(NamedTuple):
    """One image of a source: a name that a person can find it by, its encoded bytes, its class."""

    name: str
    image: bytes
    label: int


class Source(Protocol):
    """A data set before it is prepared.

    Attributes:
      class_names: readable names; a label is an index into them.
      splits: number of images in each split; 'train' and 'validation' must be there.
    """

    class_names: tuple[str, ...]
    splits: dict[str, int]

    def items(self, split: str) -> Iterator[Item]:
        """Yields the images of a split, in the same order every time."""


class Digits:
    """The 1,797 handwritten digits that come with scikit-learn: real scans of 8 x 8 pixels, 17 grey levels.

    Nothing is downloaded. Every fifth image, from the first on, is held out for validation: 360 of them.
    """

    def __init__(self) -> None:
        from sklearn.datasets import load_digits

        digits = load_digits()
        self._images = np.round(digits.images * (255 / 16)).astype(np.uint8)
        self._labels = digits.target
        self.class_names = tuple(str(name) for name in digits.target_names)
        held_out = len(self._images[::5])
        self.splits = {'train': len(self._images) - held_out, 'validation': held_out}

    def items(self, split: str) -> Iterator[Item]:
        """Yields the digits of a split as PNG, named by their place in scikit-learn's data set."""
        for index, (image, label) in enumerate(zip(self._images, self._labels, strict=True)):
            if (index % 5 == 0) == (split == 'validation'):
                encoded = io.BytesIO()
                Image.fromarray(image).save(encoded, 'PNG')
                yield Item(f'digit-{index:04d}', encoded.getvalue(), int(label))


EMBEDDED = {'digits': Digits}  # sources that need no download; prepared when first asked for


def open_source(name: str) -> Source:
    """The source of that name.

    Raises:
      UserError: there is none.
    """
    if name not in EMBEDDED:
        raise UserError(f'config.data.source={name!r} is not a known source; known are {", ".join(sorted(EMBEDDED))}.')
    return EMBEDDED[name]()
