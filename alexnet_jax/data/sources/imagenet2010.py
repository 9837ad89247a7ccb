"""ILSVRC-2010 from its official files: three tar files and a development kit."""

import gzip
import io
import pathlib
import zlib
from collections import Counter

import numpy as np

from alexnet_jax.data.sources.base import Identity, Item
from alexnet_jax.data.sources.imagenet import class_images, class_tars, numbered_images
from alexnet_jax.data.sources.tars import Tar, find_tar, inner_tars
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.runtime.files import LARGEST


class ImageNet2010:
    """ILSVRC-2010: 1,261,406 training, 50,000 validation and 150,000 test images of 1,000 classes, all labeled.

    Files expected in the directory:

    * `ILSVRC2010_images_train.tar`, a tar of tars, one for each class, named by its WordNet id; or those tars in a
      folder `train`;
    * `ILSVRC2010_images_val.tar` and `ILSVRC2010_images_test.tar`, images named ILSVRC2010_val_00000001.JPEG and so on;
    * `devkit-1.0`, unpacked from `ILSVRC2010_devkit-1.0.tar.gz`: data/meta.mat and
      data/ILSVRC2010_validation_ground_truth.txt;
    * `ILSVRC2010_test_ground_truth.txt`, a separate download, here or in devkit-1.0/data.

    A class's label is its ILSVRC2010_ID minus one; the order within a split is as in `ImageNet2012`. Every class must
    be there, and as many validation and test images as the ground truth has lines. One official training image
    (n02487347_1956.JPEG) is a JPEG inside gzip; such images are unpacked. 18 are CMYK.

    The layout is that of the devkit's readme.txt, and the official devkit has been read with this class; the form of
    the test ground truth is taken from programs that read it; the image tars themselves could not be checked.
    `patch_images.tar`, published later to replace some blank images, is not used.
    """

    def __init__(self, directory: str | pathlib.Path) -> None:
        """Reads the devkit and all headers; UserError if a file is missing, damaged, or not what its name says."""
        directory = pathlib.Path(directory)
        self._directory = str(directory)
        remedy = (
            'Get ILSVRC-2010 from https://image-net.org/challenges/LSVRC/2010 (after registering there) and put its '
            f'files, the tars as they are and the devkit unpacked, into {directory}.'
        )
        data = directory / 'devkit-1.0' / 'data'
        self.class_ids, self.class_names = _classes(data / 'meta.mat', remedy)
        self._images = {'train': class_images(_class_tars(directory, self.class_ids, remedy), self.class_ids)}
        for split, short in (('validation', 'val'), ('test', 'test')):
            file = data / f'ILSVRC2010_{split}_ground_truth.txt'
            if split == 'test' and not file.exists():
                file = directory / file.name
            truth = _ground_truth(file, len(self.class_ids), remedy)
            tar = find_tar(directory / f'ILSVRC2010_images_{short}.tar', remedy)
            images = numbered_images(tar, f'ILSVRC2010_{short}_', truth, f'lines in {file}')
            if len(images) != len(truth):
                raise tar.error(f'holds {len(images):,} images, but {file} has {len(truth):,} lines')
            self._images[split] = images
        self.splits = {split: len(images) for split, images in self._images.items()}

    def item(self, split: str, index: int) -> Item:
        """Reads an image, named like 'n07711080/n07711080_11.JPEG' or 'ILSVRC2010_val_00000001.JPEG'."""
        item = self._images[split].item(index)
        if isinstance(item.image, bytes) and item.image.startswith(b'\x1f\x8b'):
            try:
                with gzip.open(io.BytesIO(item.image)) as packed:
                    image = packed.read(LARGEST + 1)
                if len(image) > LARGEST:
                    raise OSError(f'it unpacks to more than {LARGEST:,} bytes')
                return item._replace(image=image)
            except (OSError, EOFError, zlib.error) as error:
                raise UserError(f'The image {item.name} is packed with gzip, and damaged: {error}.') from error
        return item

    def identity(self, split: str, index: int) -> Identity:
        """The tar's path and time, and an image's place in it."""
        return self._images[split].identity(index, self._directory)


def _class_tars(directory: pathlib.Path, synsets: tuple[str, ...], remedy: str) -> dict[str, Tar]:
    """The training tars by WordNet id, from the outer tar or the folder."""
    train, folder = directory / 'ILSVRC2010_images_train.tar', directory / 'train'
    if train.exists() or not folder.is_dir():
        where = find_tar(train, remedy)
        files = inner_tars(where)
    else:
        where = Tar(folder, 0, 0, remedy)  # for its errors
        files = ((path.name, find_tar(path, remedy)) for path in sorted(folder.glob('*.tar')))
    tars = class_tars(files, where)
    for synset in sorted({*synsets, *tars}):
        if synset not in tars:
            raise where.error(f'lacks {synset}.tar: the devkit has {len(synsets):,} classes')
        if synset not in synsets:
            raise where.error(f'holds {synset}.tar, which the devkit does not know')
    return tars


def _classes(path: pathlib.Path, remedy: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """WordNet ids and names of the classes, which are the synsets without children, in the order of ILSVRC2010_ID.

    A name is the synset's first word, with the WordNet id in brackets where two are the same.
    """
    from scipy.io import loadmat

    try:
        leaves = sorted(
            (int(synset['ILSVRC2010_ID']), str(synset['WNID']), str(synset['words']).split(',')[0])
            for synset in loadmat(str(path), squeeze_me=True, variable_names=['synsets'])['synsets']
            if int(synset['num_children']) == 0
        )
    except Exception as error:  # SciPy raises many kinds, as does an incomplete table
        raise UserError(f'{path} cannot be read as the table of the classes: {error!r}. {remedy}') from error
    times = Counter(name for _, _, name in leaves)
    ids = tuple(synset for _, synset, _ in leaves)
    return ids, tuple(f'{name} ({synset})' if times[name] > 1 else name for _, synset, name in leaves)


def _ground_truth(path: pathlib.Path, classes: int, remedy: str) -> np.ndarray:
    """Labels from a file of one ILSVRC2010_ID a line."""
    try:
        labels = np.array(path.read_text().split(), np.int64) - 1
    except (OSError, ValueError, OverflowError) as error:
        raise UserError(f'{path} cannot be read as one whole number a line: {error}. {remedy}') from error
    for line, label in enumerate(labels, 1):
        if not 0 <= label < classes:
            raise UserError(f'{path} has {label + 1} in line {line:,}, where 1..{classes:,} are expected. {remedy}')
    return labels
