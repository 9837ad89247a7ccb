"""ILSVRC-2012 from its two official tar files, and functions shared with ILSVRC-2010."""

import importlib.util
import pathlib
import re
from collections.abc import Iterable

import numpy as np
import rich
from rich.progress import Progress

from alexnet_jax.data.sources.base import Identity, Item
from alexnet_jax.data.sources.tars import Images, Tar, find_images, find_tar, inner_tars, members
from alexnet_jax.runtime.errors import UserError

_TRAIN = ('ILSVRC2012_img_train.tar', '147,897,477,120', '1d675b47d978889d74fa0da5fadfb00e')
_VALIDATION = ('ILSVRC2012_img_val.tar', '6,744,924,160', '29b22e2961454d5413ddabcf34fc5622')


class ImageNet2012:
    """ILSVRC-2012: 1,281,167 training and 50,000 validation images of 1,000 classes, from its two tar files.

    `ILSVRC2012_img_train.tar` has a tar for each class, named by its WordNet id; `ILSVRC2012_img_val.tar` has the
    validation images. Their labels and the order of the classes (by WordNet id) are those of TensorFlow Datasets.

    A training tar with fewer classes gives a smaller ImageNet, with labels from 0 over its classes in the same order.
    The validation tar may have any of the 50,000 images, but none of a class that training does not have.

    Images are sorted by class (for training) and file name, and are not changed: in the official files, 22 are CMYK
    JPEGs and one is a PNG despite its name. Folders in the tars do not matter; other files are errors.
    """

    def __init__(self, directory: str | pathlib.Path) -> None:
        """Reads the headers of both tars; UserError if one is missing, damaged, or not what its name says."""
        self._directory = str(pathlib.Path(directory))
        train, validation = (
            find_tar(
                pathlib.Path(directory, name),
                f'The official file has {size} bytes and the MD5 sum {md5}; get it from https://image-net.org/'
                f'download-images (after registering there) and put it, as it is, into {directory}.',
            )
            for name, size, md5 in (_TRAIN, _VALIDATION)
        )
        known = _tfds_lines('labels.txt', 1000)
        tars = class_tars(inner_tars(train), train)
        for synset in tars:
            if synset not in known:
                raise train.error(f'holds {synset}.tar, which is not one of the 1,000 classes of ILSVRC-2012')
        self.class_ids = tuple(synset for synset in known if synset in tars)
        self.class_names = tuple(map(imagenet_names().__getitem__, self.class_ids))
        labels = {synset: label for label, synset in enumerate(self.class_ids)}
        truth = np.array([labels.get(synset, -1) for synset in validation_ids()])
        self._images = {'train': class_images(tars, self.class_ids)}
        of_what = 'labels in TensorFlow Datasets'
        self._images['validation'] = numbered_images(validation, 'ILSVRC2012_val_', truth, of_what)
        self.splits = {split: len(images) for split, images in self._images.items()}

    def item(self, split: str, index: int) -> Item:
        """Reads an image, named like 'n01440764/n01440764_10026.JPEG' or 'ILSVRC2012_val_00000001.JPEG'."""
        return self._images[split].item(index)

    def identity(self, split: str, index: int) -> Identity:
        """The tar's path and time, and an image's place in it."""
        return self._images[split].identity(index, self._directory)


def imagenet_names() -> dict[str, str]:
    """Names of ILSVRC-2012's 1,000 classes by WordNet id, in the order of the labels.

    They are WordNet's first words; the two cranes and the two maillots are told apart in brackets.
    """
    text = pathlib.Path(__file__).with_name('imagenet_names.txt').read_text(encoding='utf-8')
    return dict(line.split('\t') for line in text.splitlines())


def validation_ids() -> list[str]:
    """WordNet ids of the 50,000 validation images, by their number; UserError without TensorFlow Datasets."""
    return _tfds_lines('validation_labels.txt', 50000)


def _tfds_lines(name: str, count: int) -> list[str]:
    """Reads a list of ILSVRC-2012 in TensorFlow Datasets' package, without the slow import."""
    package = importlib.util.find_spec('tensorflow_datasets')
    origin = (package and package.origin) or ''
    path = pathlib.Path(origin).parent / 'datasets' / 'imagenet2012' / name
    lines = path.read_text().split() if path.is_file() else []
    if len(lines) != count:
        raise UserError(f'ImageNet needs tensorflow-datasets with all of {path}: pip install -r requirements.txt.')
    return lines


def class_tars(files: Iterable[tuple[str, Tar]], where: Tar) -> dict[str, Tar]:
    """The tars of classes by WordNet id, from tars by file name; `where` is for errors."""
    found: dict[str, Tar] = {}
    for name, tar in files:
        match = re.fullmatch(r'(n[0-9]{8})\.tar', name)
        if not match:
            raise where.error(f'holds {name!r}, which is not named as the tar of a class is (n01440764.tar)')
        if match[1] in found:
            raise where.error(f'holds {name} twice')
        found[match[1]] = tar
    if not found:
        raise where.error('is empty: it holds no tar of a class (n01440764.tar)')
    return found


def class_images(tars: dict[str, Tar], synsets: tuple[str, ...]) -> Images:
    """Training images from a tar for each class, in the order of `synsets` and by name."""
    found = []
    with _progress() as progress:
        for label, synset in enumerate(progress.track(synsets, description='finding the training images')):
            tar = tars[synset]
            images = find_images(tar, members(tar), rf'{synset}_[0-9]{{1,9}}\.JPEG', folder=f'{synset}/')
            images['tar'] = images['label'] = label
            found.append(images)
    return Images([tars[synset] for synset in synsets], np.concatenate(found))


def numbered_images(tar: Tar, prefix: str, truth: np.ndarray, of_what: str) -> Images:
    """Images named by a prefix and a number from 1 of eight digits.

    `truth` has their labels, int64, or -1 for classes without training images; `of_what` names its entries in messages.
    """
    with _progress() as progress:
        files = progress.track(members(tar), total=len(truth), description=f'finding the images of {tar.path.name}')
        images = find_images(tar, files, rf'{prefix}[0-9]{{8}}\.JPEG')
    for image in images:
        name = image['name'].decode()
        number = int(name.removeprefix(prefix).removesuffix('.JPEG'))
        if not 1 <= number <= len(truth):
            raise tar.error(f'holds {name}, but there are {len(truth):,} {of_what}')
        if truth[number - 1] < 0:
            raise tar.error(f'holds {name}, which is of a class that the training images do not have')
        image['label'] = truth[number - 1]
    return Images([tar], images)


def _progress() -> Progress:
    """A transient progress bar; nothing without a terminal."""
    return Progress(transient=True, disable=not rich.get_console().is_terminal)
