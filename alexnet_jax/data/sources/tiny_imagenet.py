"""Tiny ImageNet as it is distributed: Stanford's tiny-imagenet-200.zip, or the folder that it unpacks to."""

import pathlib

from alexnet_jax.data.sources.archives import open_files
from alexnet_jax.data.sources.base import Identity, Item
from alexnet_jax.data.sources.listed import ListedImages, class_folder_names, image_names, notes_on_tests


class TinyImageNet:
    """Tiny ImageNet: 100,000 training and 10,000 validation images of 64 x 64 pixels, of 200 classes of ImageNet.

    Labels are in the order of the WordNet ids, as in ImageNet, not in that of wnids.txt; images in the order of class
    and name. A class's name is the first of its words in words.txt, with the WordNet id in brackets where two are the
    same. The labels of the validation images are in val/val_annotations.txt; images that were moved into class folders
    are read too. The test images have no labels, and are not used.
    """

    def __init__(self, directory: str | pathlib.Path) -> None:
        """Lists the images without reading them.

        Args:
          directory: which holds the zip or the folder, or is one of them itself.

        Raises:
          MissingFilesError: neither is there.
          UserError: they are damaged, or not what they should be.
        """
        self._files = open_files(
            'tiny_imagenet', directory, ['tiny-imagenet-200.zip'], 'tiny-imagenet-200', sign='wnids.txt'
        )
        self.class_ids = self._read_class_ids()
        self.class_names = self._read_class_names()
        self._images = {'train': ListedImages(self._files), 'validation': ListedImages(self._files)}
        for label, synset in enumerate(self.class_ids):
            folder = f'train/{synset}/images'
            self._images['train'].add(folder, image_names(self._files, folder), label)
        if self._files.files('val/images'):
            self._add_validation()
        else:
            self._add_sorted_validation()
        self.splits = {split: len(images) for split, images in self._images.items()}
        self.notes = notes_on_tests(len(self._files.files('test/images')))

    def item(self, split: str, index: int) -> Item:
        """Reads an image, named by its path: 'train/n01443537/images/n01443537_0.JPEG'."""
        return self._images[split].item(index)

    def identity(self, split: str, index: int) -> Identity:
        """Path, size and time of an image file, or of the zip."""
        return self._images[split].identity(index)

    def _lines(self, path: str) -> list[str]:
        try:
            return self._files.read(path).decode('utf-8').splitlines()
        except UnicodeDecodeError as error:
            raise self._files.error(f'has a damaged {path}: {error}') from error

    def _read_class_ids(self) -> tuple[str, ...]:
        listed = [line.strip() for line in self._lines('wnids.txt') if line.strip()]
        found = self._files.folders('train')
        if sorted(listed) != found or len(found) < 2:
            odd = sorted(set(listed) ^ set(found))
            what = f'{odd[0]!r} is in one of them only' if odd else 'one is listed twice, or there are fewer than two'
            raise self._files.error(f'has other classes in wnids.txt than folders in train: {what}')
        return tuple(found)

    def _read_class_names(self) -> tuple[str, ...]:
        words = dict(line.partition('\t')[::2] for line in self._lines('words.txt'))
        missing = [synset for synset in self.class_ids if not words.get(synset)]
        if missing:
            raise self._files.error(f'has no words for the class {missing[0]} in words.txt')
        return unique_names({synset: words[synset].split(',')[0].strip() for synset in self.class_ids})

    def _add_sorted_validation(self) -> None:
        """Adds validation images that have been moved into class folders, with or without `images` in these."""
        for synset in class_folder_names(self._files, 'val', self.class_ids, 'those in wnids.txt'):
            folder = f'val/{synset}/images' if self._files.files(f'val/{synset}/images') else f'val/{synset}'
            names = image_names(self._files, folder)
            self._images['validation'].add(folder, names, self.class_ids.index(synset))

    def _add_validation(self) -> None:
        labels = {synset: label for label, synset in enumerate(self.class_ids)}
        found = dict.fromkeys(image_names(self._files, 'val/images'), -1)
        for number, line in enumerate(self._lines('val/val_annotations.txt'), 1):
            name, _, rest = line.partition('\t')
            synset = rest.partition('\t')[0].strip()
            where = f'line {number} of val/val_annotations.txt'
            if name not in found:
                raise self._files.error(f'lacks {name[:100]!r} in val/images, which {where} names')
            if synset not in labels:
                raise self._files.error(f'has the class {synset[:100]!r} in {where}, which has no training images')
            found[name] = labels[synset]
        for name, label in sorted(found.items(), key=lambda one: one[1]):
            if label < 0:
                raise self._files.error(f'has no line for {name!r} in val/val_annotations.txt')
            self._images['validation'].add('val/images', [name], label)


def unique_names(names: dict[str, str]) -> tuple[str, ...]:
    """Class names by WordNet id, with the id in brackets where two are the same."""
    several = list(names.values())
    return tuple(f'{name} ({synset})' if several.count(name) > 1 else name for synset, name in names.items())
