"""Images and sources that the tests of the data room make up."""

import io
import threading

import numpy as np
from PIL import Image
from rich.console import Console

from alexnet_jax.data.dataset import Settings
from alexnet_jax.data.prepare import prepare
from alexnet_jax.data.sources import Item
from alexnet_jax.data.sources.base import Identity


def encoded(pixels, mode=None, kind='PNG', **options):
    """An image file of uint8 pixels, converted to a mode of Pillow's."""
    buffer = io.BytesIO()
    image = Image.fromarray(np.asarray(pixels, np.uint8))
    (image.convert(mode) if mode else image).save(buffer, kind, **options)
    return buffer.getvalue()


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def ramp(height, width):
    """Smooth, and another in each channel: rows in red, columns in green, both in blue."""
    rows, columns = np.mgrid[:height, :width]
    rows, columns = rows * 255 / max(height - 1, 1), columns * 255 / max(width - 1, 1)
    return np.round(np.stack([rows, columns, 255 - (rows + columns) / 2], axis=-1)).astype(np.uint8)


class Images:
    """A source of given images: each a name and encoded bytes, its label its place modulo the classes.

    Attributes:
      asked: (split, index) of every call of `item`, in the order in which they came.
      times: of last modification, by name; 0 for those that are not in it.
    """

    def __init__(self, train, validation, classes=3):
        self._images = {'train': train, 'validation': validation}
        self.class_names = tuple(f'class {i}' for i in range(classes))
        self.class_ids = tuple(f'n{i:08d}' for i in range(classes))
        self.splits = {split: len(images) for split, images in self._images.items()}
        self.asked, self.times, self._lock = [], {}, threading.Lock()

    def item(self, split, index):
        with self._lock:
            self.asked.append((split, index))
        name, image = self._images[split][index]
        return Item(name, image, index % len(self.class_names))

    def identity(self, split, index):
        name, image = self._images[split][index]
        return Identity(f'{split}/{name}', '', len(image), self.times.get(name, 0), index % len(self.class_names))


def tinted(train=11, validation=4):
    """A source whose splits differ a lot, so that statistics over the wrong images show."""
    tints = np.array([[1.0, 0.5, 0.25], [0.75, 0.75, 0.5], [0.2, 0.6, 1.0]])
    images = [(f'train {i}', encoded(noise(30 + i % 9, 40 - i % 7, i) * tints[i % 3])) for i in range(train)]
    return Images(images, [(f'held out {i}', encoded(np.full((9, 9, 3), 250 - i))) for i in range(validation)])


def settings(source='fake', image_size=24, storage='jpeg', quality=90, images_per_shard=8192):
    return Settings(source, image_size, storage, quality, images_per_shard)


def console():
    """One that writes into memory, as into a file; read it with `.file.getvalue()`."""
    return Console(file=io.StringIO(), width=100)


def prepared(source, directory, /, *, skip_broken=False, threads=2, on=None, **fields):
    """Prepares a source with `settings(**fields)`."""
    return prepare(source, settings(**fields), directory, on or console(), skip_broken=skip_broken, threads=threads)


def contents(directory):
    """The bytes of every file of a directory, by name."""
    return {path.name: path.read_bytes() for path in directory.iterdir()}
