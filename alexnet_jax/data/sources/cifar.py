"""CIFAR-10 and CIFAR-100 from their archives.

Krizhevsky, "Learning Multiple Layers of Features from Tiny Images" (2009). Each comes as a binary and as a
Python version, with the same images in the same order.
"""

import mmap
import pathlib
from typing import NamedTuple

import numpy as np

from alexnet_jax.data.sources.archives import Files, open_files
from alexnet_jax.data.sources.base import Identity, Item
from alexnet_jax.data.sources.published import missing
from alexnet_jax.runtime.plain_pickle import read_pickle

_SIDE = 32  # pixels
_CIFAR10 = ('airplane', 'automobile', 'bird', 'cat', 'deer', 'dog', 'frog', 'horse', 'ship', 'truck')


class _Version(NamedTuple):
    """One of the two forms of a data set."""

    archive: str
    folder: str  # that it unpacks to
    train: tuple[str, ...]  # files
    test: tuple[str, ...]


class _Part(NamedTuple):
    """A file of images."""

    name: str
    images: np.ndarray  # uint8 [n, 3 * 32 * 32]: all of red, of green, of blue
    labels: np.ndarray  # uint8 [n]
    identity: Identity


class _Cifar:
    """What the two data sets have in common; the test images are for validation."""

    name: str
    versions: tuple[_Version, ...]
    label_bytes: int  # before each image of the binary version; the last one counts
    label_key: str  # in the pickles of the Python version
    class_names: tuple[str, ...]

    def __init__(self, directory: str | pathlib.Path) -> None:
        """Reads all images into memory, 184 MB.

        Args:
          directory: of one of the archives or the folders to which they unpack, or one of these itself.

        Raises:
          MissingFilesError: it has none of them.
          UserError: its files are damaged or not what they should be.
        """
        version, files = self._open(pathlib.Path(directory))
        self.class_ids = self.class_names
        names = {'train': version.train, 'validation': version.test}
        self._parts = {split: [self._read(files, name) for name in names[split]] for split in names}
        self.splits = {split: sum(len(part.images) for part in parts) for split, parts in self._parts.items()}

    def item(self, split: str, index: int) -> Item:
        """Pixels of an image, named by its file and its number there from 0 on: 'data_batch_1/42'."""
        part, number = self._locate(split, index)
        pixels = np.ascontiguousarray(part.images[number].reshape(3, _SIDE, _SIDE).transpose(1, 2, 0))
        return Item(f'{part.name}/{number}', pixels, int(part.labels[number]))

    def identity(self, split: str, index: int) -> Identity:
        """The archive's path and time as it was read, and an image's place in it."""
        part, number = self._locate(split, index)
        return part.identity._replace(member=f'{part.name}/{number}', label=int(part.labels[number]))

    def _locate(self, split: str, index: int) -> tuple[_Part, int]:
        for part in self._parts[split]:
            if index < len(part.images):
                return part, index
            index -= len(part.images)
        raise IndexError(index)

    def _open(self, directory: pathlib.Path) -> tuple[_Version, Files]:
        """The first version that is there."""
        for version in self.versions:
            signs = (version.archive, version.folder, version.train[0])
            if directory.name in version or any((directory / sign).exists() for sign in signs):
                return version, open_files(self.name, directory, [version.archive], version.folder, version.train[0])
        raise missing(self.name, directory)

    def _read(self, files: Files, name: str) -> _Part:
        identity = files.identity(name, -1)
        content = files.read(name)
        try:
            images, labels = (self._from_binary if name.endswith('.bin') else self._from_pickle)(content)
        except ValueError as error:
            raise files.error(f'has a damaged or unknown {name}: {error}') from error
        if labels.max() >= len(self.class_names):
            raise files.error(f'has the label {labels.max()} in {name}; there are {len(self.class_names)} classes')
        return _Part(name.removesuffix('.bin'), _moved(images), labels.copy(), identity)

    def _from_binary(self, content: bytes) -> tuple[np.ndarray, np.ndarray]:
        size = self.label_bytes + 3 * _SIDE**2
        if not content or len(content) % size:
            raise ValueError(f'its {len(content):,} bytes are not whole images of {size:,}')
        records = np.frombuffer(content, np.uint8).reshape(-1, size)
        return records[:, self.label_bytes :], records[:, self.label_bytes - 1]

    def _from_pickle(self, content: bytes) -> tuple[np.ndarray, np.ndarray]:
        batch = read_pickle(content)
        images = batch.get('data') if isinstance(batch, dict) else None
        if not isinstance(images, np.ndarray) or images.shape[1:] != (3 * _SIDE**2,) or not len(images):
            raise ValueError('it has no images of 32 x 32 pixels')
        labels = batch.get(self.label_key)
        if not isinstance(labels, list) or {type(label) for label in labels} != {int} or len(labels) != len(images):
            raise ValueError(f'it has no {self.label_key}, one for each of its {len(images):,} images')
        if not all(0 <= label < 256 for label in labels):
            raise ValueError(f'its {self.label_key} are not all from 0 to 255')
        return images, np.array(labels, np.uint8)


def _moved(values: np.ndarray) -> np.ndarray:
    """A copy in memory of its own: among what is freed while files are read, large arrays would leave gaps."""
    copy = np.frombuffer(mmap.mmap(-1, values.nbytes), np.uint8).reshape(values.shape)
    copy[:] = values
    return copy


class Cifar10(_Cifar):
    """CIFAR-10: 50,000 training images of 32 x 32 pixels and 10,000 test images, for validation, of 10 classes."""

    versions = (
        _Version(
            'cifar-10-binary.tar.gz',
            'cifar-10-batches-bin',
            tuple(f'data_batch_{number}.bin' for number in range(1, 6)),
            ('test_batch.bin',),
        ),
        _Version(
            'cifar-10-python.tar.gz',
            'cifar-10-batches-py',
            tuple(f'data_batch_{number}' for number in range(1, 6)),
            ('test_batch',),
        ),
    )
    name, label_bytes, label_key = 'cifar10', 1, 'labels'
    class_names: tuple[str, ...] = _CIFAR10


class Cifar100(_Cifar):
    """CIFAR-100: as CIFAR-10, but of 100 classes, by their fine labels; the coarse ones are not used."""

    versions = (
        _Version('cifar-100-binary.tar.gz', 'cifar-100-binary', ('train.bin',), ('test.bin',)),
        _Version('cifar-100-python.tar.gz', 'cifar-100-python', ('train',), ('test',)),
    )
    name, label_bytes, label_key = 'cifar100', 2, 'fine_labels'
    class_names = tuple(pathlib.Path(__file__).with_name('cifar100_names.txt').read_text().split())
