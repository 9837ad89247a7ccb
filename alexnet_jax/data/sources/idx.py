"""MNIST and Fashion-MNIST from their idx files, gzipped or not."""

import pathlib
import struct
from typing import NamedTuple

import numpy as np

from alexnet_jax.data.sources.base import Identity, Item, identity_of_file
from alexnet_jax.data.sources.gunzipped import Gunzipped
from alexnet_jax.data.sources.published import how_to_get, missing
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.runtime.files import LARGEST, read_file

_SPLITS = {'train': 'train', 'validation': 't10k'}  # beginnings of the files' names
# The files have the same names and sizes in both data sets; the first training labels tell them apart.
_FIRST_LABELS = {'mnist': (5, 0, 4, 1, 9, 2, 1, 3, 1, 4), 'fashion_mnist': (9, 0, 0, 3, 0, 2, 7, 2, 5, 5)}


class _Part(NamedTuple):
    """A split."""

    images: np.ndarray  # uint8 [n, height, width]
    labels: np.ndarray  # uint8 [n]
    identity: Identity


class _Idx:
    """What the two data sets have in common; the test images are for validation."""

    name: str
    folder: str  # where torchvision keeps the files
    class_names: tuple[str, ...]

    def __init__(self, directory: str | pathlib.Path) -> None:
        """Reads all images into memory, 55 MB.

        Args:
          directory: of the four files, train-images-idx3-ubyte.gz and so on, or of a folder with them: mnist or
            fashion_mnist, or torchvision's MNIST/raw or FashionMNIST/raw.

        Raises:
          MissingFilesError: they are not all there.
          UserError: a file is damaged, or of the other data set.
        """
        self.class_ids = self.class_names
        self._directory = pathlib.Path(directory)
        self._remedy = f'If files are damaged, delete them and {how_to_get(self.name, directory)}.'
        places = (self._directory, self._directory / self.name, self._directory / self.folder / 'raw')
        place = next((place for place in places if all(_find(place, name) for name in _names())), None)
        if place is None:
            raise missing(self.name, directory)
        self._parts = {split: self._read(place, start) for split, start in _SPLITS.items()}
        self.splits = {split: len(part.images) for split, part in self._parts.items()}
        first = tuple(self._parts['train'].labels[:10].tolist())
        for other, labels in _FIRST_LABELS.items():
            if other != self.name and first == labels:
                raise UserError(
                    f'{place} has the files of {other}, not of {self.name}. Name the directory of the others '
                    f'(config.data.source_directory), or set config.data.source={other!r}.'
                )

    def item(self, split: str, index: int) -> Item:
        """Pixels of an image, named by split and its number in the file from 0 on: 'train/42'."""
        part = self._parts[split]
        pixels = np.repeat(part.images[index][..., None], 3, axis=2)
        return Item(f'{_SPLITS[split]}/{index}', pixels, int(part.labels[index]))

    def identity(self, split: str, index: int) -> Identity:
        """Path, size and time of the images' file as it was read, and an image's number in it."""
        part = self._parts[split]
        return part.identity._replace(member=str(index), label=int(part.labels[index]))

    def _read(self, place: pathlib.Path, start: str) -> _Part:
        paths = [_find(place, name) or place / name for name in _names(start)]
        identity = identity_of_file(str(self._directory), str(paths[0].relative_to(self._directory)), -1)
        images, labels = (self._array(path, axes) for path, axes in zip(paths, (3, 1), strict=True))
        if len(images) != len(labels) or not images.size:
            raise UserError(
                f'{paths[0]} has {len(images):,} images of {" x ".join(map(str, images.shape[1:]))} pixels, {paths[1]} '
                f'has {len(labels):,} labels. {self._remedy}'
            )
        if labels.max() >= len(self.class_names):
            raise UserError(
                f'{paths[1]} has the label {labels.max()}; {self.name} has {len(self.class_names)} classes. '
                f'{self._remedy}'
            )
        return _Part(images, labels, identity)

    def _array(self, path: pathlib.Path, axes: int) -> np.ndarray:
        """Reads an array of uint8: two zeros, 8 for the type, the number of axes, their lengths, the values."""
        try:
            if path.suffix == '.gz':
                with Gunzipped(path) as file:
                    content = file.pread(LARGEST, 0)
            else:
                content = read_file(path)
            header = struct.Struct(f'>4B{axes}I')
            if len(content) < header.size or content[:4] != bytes([0, 0, 8, axes]):
                raise ValueError(f'it is not an idx file of {axes} axes')
            shape = header.unpack_from(content)[4:]
            values = np.frombuffer(content, np.uint8, offset=header.size)
            if values.size != int(np.prod(shape, dtype=object)):
                raise ValueError(f'it has {values.size:,} bytes for {" x ".join(map(str, shape))} values')
        except (OSError, ValueError) as error:
            raise UserError(f'{path} cannot be read: {error}. {self._remedy}') from error
        return values.reshape(shape)


def _names(*starts: str) -> list[str]:
    """Official names of the files of some splits, or of all, without .gz."""
    return [f'{one}-{what}-ubyte' for one in starts or _SPLITS.values() for what in ('images-idx3', 'labels-idx1')]


def _find(place: pathlib.Path, name: str) -> pathlib.Path | None:
    """A file by its official name or with a dot in it, gzipped or not."""
    names = (name, name.replace('-idx', '.idx'))
    return next((place / (one + end) for end in ('.gz', '') for one in names if (place / (one + end)).is_file()), None)


class Mnist(_Idx):
    """MNIST (LeCun, Cortes and Burges): 60,000 handwritten digits and 10,000 for validation, 28 x 28 pixels, gray."""

    name, folder = 'mnist', 'MNIST'
    class_names = tuple('0123456789')


class FashionMnist(_Idx):
    """Fashion-MNIST (Xiao, Rasul and Vollgraf 2017): as MNIST, but articles of Zalando.

    Debian's package dataset-fashion-mnist has the files in /usr/share/datasets/fashion-mnist.
    """

    name, folder = 'fashion_mnist', 'FashionMNIST'
    class_names: tuple[str, ...] = (
        *('T-shirt/top', 'Trouser', 'Pullover', 'Dress', 'Coat'),
        *('Sandal', 'Shirt', 'Sneaker', 'Bag', 'Ankle boot'),
    )
