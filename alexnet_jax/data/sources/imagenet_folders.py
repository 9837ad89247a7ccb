"""ILSVRC-2012 from folders: as Kaggle distributes it, or as the tars are usually unpacked."""

import csv
import io
import pathlib
import re

from alexnet_jax.data.sources.archives import FolderFiles
from alexnet_jax.data.sources.base import Identity, Item, Source
from alexnet_jax.data.sources.imagenet import ImageNet2012, imagenet_names, validation_ids
from alexnet_jax.data.sources.listed import ListedImages, class_folders, image_names, notes_on_tests
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.runtime.files import read_file

_FOLDERS = ('', 'CLS-LOC/', 'Data/CLS-LOC/', 'ILSVRC/Data/CLS-LOC/')  # the last is Kaggle's
_SOLUTION = 'LOC_val_solution.csv'


def open_imagenet2012(directory: str | pathlib.Path) -> Source:
    """Opens ILSVRC-2012 in the first form that is there: the official tars, or folders; UserError if there is none."""
    directory = pathlib.Path(directory)
    there = (directory / 'ILSVRC2012_img_train.tar').exists()
    if not there and _folder_of(directory) is not None:
        return ImageNet2012Folders(directory)
    try:
        return ImageNet2012(directory)
    except UserError as error:
        if there:
            raise
        raise UserError(f'{error} Folders of its images, train/WNID and val, are read as well.') from error


class ImageNet2012Folders:
    """ILSVRC-2012 from folders `train` and `val` (or `validation`).

    These are in the directory or, as Kaggle has them, in ILSVRC/Data/CLS-LOC. `train` has a folder for each class,
    named by its WordNet id. `val` has such folders too, or the validation images without folders. These have their
    labels from LOC_val_solution.csv, if that is in the directory or where Kaggle has it, and otherwise, by the number
    in their official names, from TensorFlow Datasets. The test images have no labels, and are not used.

    As in `ImageNet2012`, labels are in the order of WordNet ids, images in that of class and name (loose validation
    images of name), and fewer classes give a smaller ImageNet.
    """

    def __init__(self, directory: str | pathlib.Path) -> None:
        """Lists the images without reading them; UserError if there are none, or others than ImageNet's."""
        self._directory = pathlib.Path(directory)
        folder = _folder_of(self._directory)
        if folder is None:
            raise UserError(f'{directory} has neither train/WNID/*.JPEG nor ILSVRC/Data/CLS-LOC/train/WNID/*.JPEG.')
        remedy = 'Expected are train/WNID/*.JPEG, and val/WNID/*.JPEG or val/*.JPEG, with the official names.'
        self._folder, self._files = folder, FolderFiles(self._directory, remedy, folder)
        names = imagenet_names()
        train = class_folders(self._files, 'train', tuple(names), 'the 1,000 classes of ILSVRC-2012')
        self.class_ids = tuple(train)
        self.class_names = tuple(names[synset] for synset in train)
        labels = {synset: label for label, synset in enumerate(train)}
        self._images = {'train': ListedImages(self._files), 'validation': ListedImages(self._files)}
        for synset, found in train.items():
            self._images['train'].add(f'train/{synset}', found, labels[synset])
        val = 'val' if self._files.files('val') or self._files.folders('val') else 'validation'
        if self._files.folders(val):
            if loose := self._files.files(val):
                raise self._files.error(f'has {loose[0]!r} beside the class folders in {val}')
            for synset, found in class_folders(self._files, val, self.class_ids, 'those in train').items():
                self._images['validation'].add(f'{val}/{synset}', found, labels[synset])
        else:
            self._add_loose(val, labels)
        self.splits = {split: len(images) for split, images in self._images.items()}
        self.notes = notes_on_tests(len(self._files.files('test')))

    def item(self, split: str, index: int) -> Item:
        """Reads an image, named by its path: 'train/n01440764/n01440764_10026.JPEG'."""
        return self._images[split].item(index)

    def identity(self, split: str, index: int) -> Identity:
        """Path, size and time of an image file."""
        return self._images[split].identity(index)

    def _add_loose(self, val: str, labels: dict[str, int]) -> None:
        """Adds validation images that are in no class folders."""
        found = image_names(self._files, val)
        solution = self._solution()
        truth = _read_solution(solution) if solution else self._known(found)
        for name in found:
            synset = truth.get(name.rpartition('.')[0])
            if synset is None:
                raise self._files.error(f'has {val}/{name}, of which {solution} says nothing')
            if synset not in labels:
                raise self._files.error(f'has {val}/{name}, which is of the class {synset}: that is not in train')
            self._images['validation'].add(val, [name], labels[synset])

    def _solution(self) -> pathlib.Path | None:
        """The file of labels, beside `train` or up to where Kaggle has it."""
        inner = (self._directory / self._folder / 'train').resolve()
        places = (self._directory, *list(inner.parents)[:4])
        return next((place / _SOLUTION for place in places if (place / _SOLUTION).exists()), None)

    def _known(self, found: list[str]) -> dict[str, str]:
        """WordNet ids of validation images by their names without ending."""
        try:
            truth = validation_ids()
        except UserError as error:
            raise self._files.error(
                'has validation images without class folders. Their labels are in TensorFlow Datasets (pip install '
                f'tensorflow-datasets), or in {_SOLUTION} from Kaggle: put it into {self._directory}'
            ) from error
        for name in found:
            number = re.fullmatch(r'ILSVRC2012_val_([0-9]{8})\.JPEG', name)
            if not number or not 1 <= int(number[1]) <= len(truth):
                raise self._files.error(f'has {name}, which is not named like ILSVRC2012_val_00000001.JPEG')
        return {f'ILSVRC2012_val_{number:08d}': synset for number, synset in enumerate(truth, 1)}


def _folder_of(directory: pathlib.Path) -> str | None:
    """The folder in a directory, '' or with a slash at its end, in which `train` has class folders."""
    for folder in _FOLDERS:
        names = FolderFiles(directory, '', folder).folders('train')
        if any(re.fullmatch('n[0-9]{8}', name) for name in names):
            return folder
    return None


def _read_solution(path: pathlib.Path) -> dict[str, str]:
    """WordNet ids by the images' names, from lines like 'ILSVRC2012_val_00000001,n01751748 111 108 230 365 '."""
    try:
        rows = list(csv.reader(io.StringIO(read_file(path).decode('utf-8'))))
        if not rows or rows[0] != ['ImageId', 'PredictionString']:
            raise ValueError('its first line is not ImageId,PredictionString')
        wrong = next((number for number, row in enumerate(rows[1:], 2) if len(row) != 2 or not row[1].split()), 0)
        if wrong:
            raise ValueError(f'line {wrong} is not the name of an image and its class')
        return {image: boxes.split()[0] for image, boxes in rows[1:]}
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f'{path} cannot be read as the labels of the validation images: {error}.') from error
