"""Imagenette and Imagewoof, ten classes of ImageNet each, as fast.ai distributes them."""

import pathlib

from alexnet_jax.data.sources.archives import open_files
from alexnet_jax.data.sources.base import Identity, Item
from alexnet_jax.data.sources.imagenet import imagenet_names
from alexnet_jax.data.sources.listed import ListedImages, class_folders


class Imagenette:
    """imagenette2, imagenette2-320, imagenette2-160 and imagewoof2 likewise: NAME.tgz, or the folder NAME.

    Imagenette has 9,469 training and 3,925 validation images, Imagewoof 9,025 and 3,929. Their shorter sides are as in
    ImageNet, 320 or 160 pixels. Classes are in the order of their WordNet ids and have ImageNet's names; images are in
    the order of class and name.
    """

    def __init__(self, name: str, directory: str | pathlib.Path) -> None:
        """Lists the images without reading them; a .tgz is unpacked once in memory, piece by piece, to find them.

        Args:
          name: as above.
          directory: which holds the archive or the folder, or is one of them itself.

        Raises:
          MissingFilesError: neither is there.
          UserError: they are damaged, or not what they should be.
        """
        files = open_files(name, directory, [f'{name}.tgz'], name, sign=f'noisy_{name.split("2")[0]}.csv')
        names = imagenet_names()
        train = class_folders(files, 'train', tuple(names), "ImageNet's classes")
        validation = class_folders(files, 'val', tuple(train), 'those in train')
        self.class_ids = tuple(train)
        self.class_names = tuple(names[synset] for synset in train)
        self._images = {'train': ListedImages(files), 'validation': ListedImages(files)}
        for label, synset in enumerate(train):
            self._images['train'].add(f'train/{synset}', train[synset], label)
            self._images['validation'].add(f'val/{synset}', validation.get(synset, []), label)
        self.splits = {split: len(images) for split, images in self._images.items()}

    def item(self, split: str, index: int) -> Item:
        """Reads an image, named by its path: 'train/n01440764/n01440764_10026.JPEG'."""
        return self._images[split].item(index)

    def identity(self, split: str, index: int) -> Identity:
        """Path, size and time of an image file, or of the archive."""
        return self._images[split].identity(index)
