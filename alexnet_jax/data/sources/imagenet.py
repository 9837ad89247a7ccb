"""ImageNet as it is handed out: the official tar files, read where they lie and never unpacked.

A tar file is a row of members, each a header of 512 bytes and the member's bytes, padded to a multiple of 512.
The headers are read once, when a source is opened; from then on an image is one read at a known place. Names
inside the tars are only compared and shown: nothing is ever written by them.

The rules for what a tar may hold, the same for all of them:

* Images are regular files with the official names. Folders, and folders in front of a name, do not matter.
* Anything else is refused: other names, links, devices, sparse files, a name that is absolute or climbs with
  `..`, a name that occurs twice, an image of no bytes. The official files hold none of these, so whoever meets
  one has another file than they think.
* Long names and sizes as GNU tar and POSIX (pax) write them are understood.
* A downloaded tar has to end with a block of zeros, as tar writes it, or else it is cut short. A class's own tar
  may also end without one, right after an image: whether each of the official 1,000 has that block could not
  be checked.
"""

import contextlib
import gzip
import importlib.util
import io
import itertools
import os
import pathlib
import re
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypeVar

import numpy as np
from rich.progress import Progress

from alexnet_jax.data.sources.base import Item
from alexnet_jax.errors import UserError

_BLOCK = 512
_END = bytes(_BLOCK)
_LARGEST_NAME = 1 << 20  # bytes of a long name or of a POSIX header; a longer one is damage
_PROGRESS_AFTER, _PROGRESS_EVERY = 3.0, 0.1  # seconds
_LARGEST_PADDING = 1 << 22  # bytes from the closing zeros to the end; tar itself fills up to 10,240
_IMAGENET_SITE = 'https://image-net.org/download-images'
_SYNSET_TAR = re.compile(r'(n[0-9]{8})\.tar')
_T = TypeVar('_T')


class _Tar(NamedTuple):
    """A tar file, or a tar inside a tar.

    Attributes:
      path: the file on disk.
      title: what to call it in a message.
      remedy: what to do if something is wrong with it, as whole sentences.
      start: where it begins in the file, in bytes.
      end: where it ends.
      closed: whether it must end with a block of zeros.
    """

    path: pathlib.Path
    title: str
    remedy: str
    start: int
    end: int
    closed: bool

    def error(self, what: str) -> UserError:
        return UserError(f'{self.title} {what}. {self.remedy}')

    def cut_short(self, where: str) -> UserError:
        return self.error(f'is cut short: its {self.end - self.start:,} bytes end {where}')


class _Index:
    """Where the images of a split lie, about 40 bytes an image."""

    def __init__(self, parts: Iterable['_Part'], folders: tuple[str, ...] | None = None) -> None:
        """Puts the parts one behind the other.

        Args:
          parts: images of one tar each.
          folders: for each label what to put in front of the file names.
        """
        parts = list(parts)
        self._tars = [part.tar for part in parts]
        self._tar = np.repeat(np.arange(len(parts), dtype=np.int16), [len(part.names) for part in parts])
        self.names = np.concatenate([part.names for part in parts])
        self._offsets = np.concatenate([part.offsets for part in parts])
        self._sizes = np.concatenate([part.sizes for part in parts])
        self.labels = np.concatenate([part.labels for part in parts])
        self._folders = folders

    def __len__(self) -> int:
        return len(self.names)

    def item(self, index: int) -> Item:
        """Opens the file, reads one image, closes the file: nothing is shared between threads or processes."""
        name, label = self.names[index].decode(), int(self.labels[index])
        offset, size, tar = int(self._offsets[index]), int(self._sizes[index]), self._tars[self._tar[index]]
        try:
            file = os.open(tar.path, os.O_RDONLY)
            try:
                image = os.pread(file, size, offset)
            finally:
                os.close(file)
        except OSError as error:
            raise UserError(f'Reading {name} from {tar.path} failed: {error}.') from error
        if len(image) != size:
            raise tar.error(f'has become shorter since it was opened: {name} is no longer whole')
        return Item(f'{self._folders[label]}/{name}' if self._folders else name, image, label)


class _Part(NamedTuple):
    """The images of one tar, by file name: names as bytes, offsets int64, sizes int32, labels int16."""

    tar: _Tar
    names: np.ndarray
    offsets: np.ndarray
    sizes: np.ndarray
    labels: np.ndarray


class ImageNet2012:
    """ILSVRC-2012: 1,281,167 training and 50,000 validation images of 1,000 classes, from its two tar files.

    `ILSVRC2012_img_train.tar` is a tar of 1,000 tars, one a class, named by its WordNet id;
    `ILSVRC2012_img_val.tar` holds the validation images, whose labels come from TensorFlow Datasets' package. The
    order of the classes is TensorFlow Datasets' too (sorted by WordNet id), and so every label is the same as there.

    The classes are those of the training tar. A tar made of fewer than the 1,000 gives a smaller ImageNet, its labels
    counted from 0 over the classes that are present, still in that order. A validation image of a class that is
    not present is then an error; the validation tar may hold any of the 50,000 images.

    Training images come in the order of their classes, then by file name; validation images by file name; whatever
    the order in the tars. Images are handed out as they are: in the official files, 22 are CMYK JPEGs and one is a
    PNG despite its name.
    """

    def __init__(self, directory: str | pathlib.Path) -> None:
        """Reads the headers of both tars, 1.3 million of them for the official ones.

        Args:
          directory: where the two tar files lie.

        Raises:
          UserError: a file is missing, damaged, or not what its name says.
        """
        directory = pathlib.Path(directory)
        train = _downloaded(
            directory / 'ILSVRC2012_img_train.tar',
            'The official file has 147,897,477,120 bytes and the MD5 sum 1d675b47d978889d74fa0da5fadfb00e; get it '
            f'from {_IMAGENET_SITE} (after registering there) and put it, as it is, into {directory}.',
        )
        validation = _downloaded(
            directory / 'ILSVRC2012_img_val.tar',
            'The official file has 6,744,924,160 bytes and the MD5 sum 29b22e2961454d5413ddabcf34fc5622; get it '
            f'from {_IMAGENET_SITE} (after registering there) and put it, as it is, into {directory}.',
        )
        known = _tfds_lines('labels.txt', 1000)
        tars = _synset_tars(train)
        for synset in tars:
            if synset not in known:
                raise train.error(f'holds {synset}.tar, which is not one of the 1,000 classes of ILSVRC-2012')
        self.class_ids = tuple(synset for synset in known if synset in tars)
        names = imagenet_names()
        self.class_names = tuple(names[synset] for synset in self.class_ids)
        labels = {synset: label for label, synset in enumerate(self.class_ids)}
        truth = np.array([labels.get(synset, -1) for synset in _tfds_lines('validation_labels.txt', 50000)], np.int16)
        self._index = {
            'train': _train_index(tars, self.class_ids),
            'validation': _Index([_numbered(validation, 'ILSVRC2012_val_', truth, 'labels in TensorFlow Datasets')]),
        }
        unknown = np.flatnonzero(self._index['validation'].labels < 0)
        if len(unknown):
            name = self._index['validation'].names[unknown[0]].decode()
            raise validation.error(
                f'does not fit {train.path.name}, which has only {len(self.class_ids)} of the 1,000 classes: '
                f'{len(unknown):,} validation images are of other classes, {name} the first'
            )
        self.splits = {split: len(index) for split, index in self._index.items()}

    def item(self, split: str, index: int) -> Item:
        """Reads one image; safe to call from several threads.

        Args:
          split: 'train' or 'validation'.
          index: 0 .. splits[split] - 1.

        Returns:
          The image, named 'n01440764/n01440764_10026.JPEG' or 'ILSVRC2012_val_00000001.JPEG'.

        Raises:
          UserError: the file cannot be read any more.
        """
        return self._index[split].item(index)


class ImageNet2010:
    """ILSVRC-2010: 1,261,406 training, 50,000 validation and 150,000 test images of 1,000 classes, all labelled.

    In the directory are expected, with the names that the challenge gave them:

    * `ILSVRC2010_images_train.tar`, a tar of one tar a class, named by its WordNet id; or, if that is not there,
      those tars in a folder `train`;
    * `ILSVRC2010_images_val.tar` and `ILSVRC2010_images_test.tar`, the images named ILSVRC2010_val_00000001.JPEG
      and so on, in a folder inside the tar or not;
    * `devkit-1.0`, which `ILSVRC2010_devkit-1.0.tar.gz` unpacks to; used are data/meta.mat and
      data/ILSVRC2010_validation_ground_truth.txt;
    * `ILSVRC2010_test_ground_truth.txt`, a download of its own, here or in devkit-1.0/data.

    A class's label is its ILSVRC2010_ID less one; the order within a split is as in `ImageNet2012`. Every class must
    be there, and as many validation and test images as the ground truth has lines. In the official files one training
    image (n02487347_1956.JPEG) is a JPEG inside gzip; such images are unpacked. 18 are CMYK.

    What is known of the layout: the devkit's own readme.txt says how the classes, the images and the ground
    truth are named, numbered and counted, and the devkit's meta.mat and validation ground truth have been read with
    this class. The test ground truth's form is taken from programs that read it; the image tars themselves, their
    sizes and MD5 sums could not be checked. `patch_images.tar`, which the challenge handed out later to replace some
    blank images, is not used.
    """

    def __init__(self, directory: str | pathlib.Path) -> None:
        """Reads the devkit and the headers of all tars.

        Args:
          directory: where the files lie.

        Raises:
          UserError: a file is missing, damaged, or not what its name says.
        """
        directory = pathlib.Path(directory)
        remedy = (
            f'Get ILSVRC-2010 from https://image-net.org/challenges/LSVRC/2010 (after registering there) and put its '
            f'files, the tars as they are and the devkit unpacked, into {directory}.'
        )
        data = directory / 'devkit-1.0' / 'data'
        synsets = _leaves(data / 'meta.mat', remedy)
        self.class_ids = tuple(synset for synset, _ in synsets)
        self.class_names = _distinct(synsets)
        train = directory / 'ILSVRC2010_images_train.tar'
        if train.exists() or not (directory / 'train').is_dir():
            tars = _synset_tars(_downloaded(train, remedy))
        else:
            train = directory / 'train'
            tars = _synset_files(train, remedy)
        if set(tars) != set(self.class_ids):
            missing, extra = sorted(set(self.class_ids) - set(tars)), sorted(set(tars) - set(self.class_ids))
            what = f'lacks {missing[0]}.tar' if missing else f'holds {extra[0]}.tar, which the devkit does not know'
            raise UserError(f'{train} {what}: the devkit has {len(self.class_ids):,} classes. {remedy}')
        self._index = {'train': _train_index(tars, self.class_ids)}
        for split, short in (('validation', 'val'), ('test', 'test')):
            truth_file = data / f'ILSVRC2010_{split}_ground_truth.txt'
            if split == 'test' and not truth_file.exists():
                truth_file = directory / truth_file.name
            truth = _ground_truth(truth_file, len(self.class_ids), remedy)
            tar = _downloaded(directory / f'ILSVRC2010_images_{short}.tar', remedy)
            index = _Index([_numbered(tar, f'ILSVRC2010_{short}_', truth, f'lines in {truth_file}')])
            if len(index) != len(truth):
                raise tar.error(f'holds {len(index):,} images, but {truth_file} has {len(truth):,} lines')
            self._index[split] = index
        self.splits = {split: len(index) for split, index in self._index.items()}

    def item(self, split: str, index: int) -> Item:
        """Reads one image; safe to call from several threads.

        Args:
          split: 'train', 'validation' or 'test'.
          index: 0 .. splits[split] - 1.

        Returns:
          The image, named 'n07711080/n07711080_11.JPEG' or 'ILSVRC2010_val_00000001.JPEG'.

        Raises:
          UserError: the file cannot be read any more.
        """
        item = self._index[split].item(index)
        if item.image.startswith(b'\x1f\x8b'):
            try:
                return item._replace(image=gzip.decompress(item.image))
            except (OSError, EOFError, zlib.error) as error:
                raise UserError(f'The image {item.name} is packed with gzip, and damaged: {error}.') from error
        return item


def imagenet_names() -> dict[str, str]:
    """Readable names of ILSVRC-2012's 1,000 classes by WordNet id, each different, in the order of the labels.

    They are the first words that WordNet has for each; the two cranes and the two maillots are told apart in brackets.
    """
    text = pathlib.Path(__file__).with_name('imagenet_names.txt').read_text(encoding='utf-8')
    return dict(line.split('\t') for line in text.splitlines())


def _tfds_lines(name: str, count: int) -> list[str]:
    """Reads a list of ILSVRC-2012 in TensorFlow Datasets' package, which is slow to import and not needed for it."""
    package = importlib.util.find_spec('tensorflow_datasets')
    if package is None or not package.submodule_search_locations:
        raise UserError('ImageNet needs the package tensorflow-datasets: pip install -r requirements.txt.')
    path = pathlib.Path(package.submodule_search_locations[0], 'datasets', 'imagenet2012', name)
    try:
        lines = path.read_text().split()
    except OSError as error:
        raise UserError(
            f'The installed tensorflow-datasets lacks {path}; pip install -r requirements.txt gives one that has it.'
        ) from error
    if len(lines) != count:
        raise UserError(f'{path} has {len(lines):,} lines instead of {count:,}: install tensorflow-datasets again.')
    return lines


# Tar files.


def _downloaded(path: pathlib.Path, remedy: str) -> _Tar:
    """A tar file on disk, which has to be there and to be complete."""
    try:
        size = path.stat().st_size
    except OSError as error:
        raise UserError(f'{path} cannot be found: {error.strerror}. {remedy}') from error
    if not path.is_file():
        raise UserError(f'{path} is not a file. {remedy}')
    return _Tar(path, str(path), remedy, 0, size, closed=True)


def _synset_tars(tar: _Tar) -> dict[str, _Tar]:
    """The tars inside a tar, by WordNet id."""
    found = {}
    for name, offset, size in _members(tar):
        match = _SYNSET_TAR.fullmatch(name)
        if not match:
            raise tar.error(f'holds {name!r}, which is not named as the tar of a class is (n01440764.tar)')
        if match[1] in found:
            raise tar.error(f'holds {name} twice')
        title = f'{name} in {tar.path}'
        found[match[1]] = _Tar(tar.path, title, tar.remedy, offset, offset + size, closed=False)
    if not found:
        raise tar.error('is an empty tar: it holds no class')
    return found


def _synset_files(directory: pathlib.Path, remedy: str) -> dict[str, _Tar]:
    """The tars in a folder, by WordNet id."""
    found = {}
    for path in sorted(directory.glob('*.tar')):
        match = _SYNSET_TAR.fullmatch(path.name)
        if not match:
            raise UserError(f'{path} is not named as the tar of a class is (n01440764.tar). {remedy}')
        found[match[1]] = _downloaded(path, remedy)._replace(closed=False)
    if not found:
        raise UserError(f'{directory} holds no tar of a class (n01440764.tar). {remedy}')
    return found


def _train_index(tars: dict[str, _Tar], synsets: tuple[str, ...]) -> _Index:
    """The training images: classes in this order, images by name."""
    parts = []
    with contextlib.closing(_with_progress(synsets, len(synsets), 'finding the training images')) as shown:
        for label, synset in enumerate(shown):
            names = re.compile(rf'{synset}_[0-9]{{1,12}}\.JPEG')
            members = _members(tars[synset])
            parts.append(_images(tars[synset], members, names, f'{synset}_10026.JPEG', lambda _, label=label: label))
    return _Index(parts, synsets)


def _numbered(tar: _Tar, prefix: str, truth: np.ndarray, of_what: str) -> _Part:
    """Images that are numbered from 1 in their names, with labels from a list.

    Args:
      tar: where they are.
      prefix: what is in front of the eight digits of the number.
      truth: the label of each number, int16.
      of_what: for the message about a number for which there is no label.
    """
    names = re.compile(rf'{prefix}[0-9]{{8}}\.JPEG')

    def label(name: str) -> int:
        number = int(name.removeprefix(prefix).removesuffix('.JPEG'))
        if not 1 <= number <= len(truth):
            raise tar.error(f'holds {name}, but there are {len(truth):,} {of_what}')
        return truth[number - 1]

    with contextlib.closing(
        _with_progress(_members(tar), len(truth), f'finding the images of {tar.path.name}')
    ) as shown:
        return _images(tar, shown, names, f'{prefix}00000001.JPEG', label)


def _images(
    tar: _Tar,
    members: Iterable[tuple[str, int, int]],
    names: re.Pattern[str],
    example: str,
    label: Callable[[str], int],
) -> _Part:
    """Checks the members of a tar that holds images, labels them and sorts them by name."""
    found = []
    for name, offset, size in members:
        if not names.fullmatch(name):
            raise tar.error(f'holds {name!r}, where only images named like {example} are expected')
        if not 0 < size < 2**31:
            raise tar.error(f'holds {name} with {size:,} bytes, which cannot be an image')
        found.append((name, offset, size))
    if not found:
        raise tar.error('is an empty tar: it holds no image')
    found.sort()
    for (one, _, _), (next_one, _, _) in itertools.pairwise(found):
        if one == next_one:
            raise tar.error(f'holds {one} twice')
    return _Part(
        tar,
        np.array([name for name, _, _ in found], 'S'),
        np.array([offset for _, offset, _ in found], np.int64),
        np.array([size for _, _, size in found], np.int32),
        np.array([label(name) for name, _, _ in found], np.int16),
    )


def _members(tar: _Tar) -> Iterator[tuple[str, int, int]]:
    """The regular files in a tar.

    Args:
      tar: which one.

    Yields:
      Last part of the name, where the bytes begin in the file on disk, how many they are.

    Raises:
      UserError: it is not a tar, is cut short, or holds something that this module's docstring refuses.
    """
    try:
        file = os.open(tar.path, os.O_RDONLY)
    except OSError as error:
        raise UserError(f'{tar.path} cannot be read: {error.strerror}. {tar.remedy}') from error
    try:
        yield from _scan(file, tar)
    except OSError as error:
        raise UserError(f'Reading {tar.path} failed: {error}.') from error
    finally:
        os.close(file)


def _scan(file: int, tar: _Tar) -> Iterator[tuple[str, int, int]]:
    """`_members` of an open file."""
    position, extra = tar.start, {}
    while True:
        header = os.pread(file, _BLOCK, position) if position + _BLOCK <= tar.end else b''
        if len(header) < _BLOCK:
            if position == tar.end > tar.start and not tar.closed and not extra:
                return
            raise tar.cut_short('without the block of zeros that closes a tar')
        if header == _END:
            if extra:
                raise tar.error(f'is damaged: at byte {position:,} it ends between a long name and its file')
            if tar.end - position > _LARGEST_PADDING:
                raise tar.error(f'is damaged or not wholly downloaded: from byte {position:,} on it is empty')
            return
        try:
            field = header[148:156]  # what all bytes sum up to, with blanks in this field
            if int(field.partition(b'\0')[0], 8) != sum(header.rstrip(b'\0')) - sum(field) + 8 * ord(' '):
                raise ValueError('wrong sum')
            size = _number(header[124:136])
        except ValueError as error:
            if position > tar.start:
                raise tar.error(f'is damaged: at byte {position:,} there is no header of a tar') from error
            packed = ' but packed with gzip: gunzip it' if header.startswith(b'\x1f\x8b') else ''
            raise tar.error(f'is not a tar file{packed}') from error
        kind = header[156:157]
        about_next = kind in b'LKxXg'
        name = extra.get(b'path') or _header_name(header)
        if b'size' in extra and not about_next:
            size = int(extra[b'size'])
        after = position + _BLOCK + (-(-size // _BLOCK) * _BLOCK if kind != b'5' else 0)
        if after > tar.end:
            raise tar.cut_short(f'in the middle of {_shown(name)!r}')
        if about_next:  # K is of a link and g of the whole archive: nothing that is needed here
            if size > _LARGEST_NAME:
                raise tar.error(f'is damaged: at byte {position:,} there is a name of {size:,} bytes')
            about = os.pread(file, size, position + _BLOCK)
            if kind == b'L':
                extra[b'path'] = about.partition(b'\0')[0]
            elif kind in b'xX':
                try:
                    extra.update(_pax(about))
                except ValueError as error:
                    raise tar.error(f'is damaged: at byte {position:,} there is a broken POSIX header') from error
        else:
            parts = _shown(name).split('/')
            if parts[0] == '' or '..' in parts:
                raise tar.error(f'holds {_shown(name)!r}, a name that leads out of the tar')
            if kind not in b'0\x007' and kind != b'5':
                raise tar.error(f'holds {_shown(name)!r}, which is a link or something else than a file with an image')
            if kind != b'5' and parts[-1]:  # old tars mark folders with a slash at the end alone
                yield parts[-1], position + _BLOCK, size
            extra = {}
        position = after


def _number(field: bytes) -> int:
    """A number in a header: octal digits, or GNU's binary for what is too large for those."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], 'big')
    return int(field.partition(b'\0')[0], 8)


def _header_name(header: bytes) -> bytes:
    """The name in a header, with the folder that POSIX (not GNU) keeps in another place."""
    name = header[:100].partition(b'\0')[0]
    if header[257:263] == b'ustar\0' and header[345]:
        name = header[345:500].partition(b'\0')[0] + b'/' + name
    return name


def _shown(name: bytes) -> str:
    return name.decode('utf-8', 'replace')


def _pax(text: bytes) -> dict[bytes, bytes]:
    """The records of a POSIX header, of which this module uses path and size.

    Raises:
      ValueError: it is broken, or of a sparse file, whose bytes are not its content.
    """
    records = {}
    while text:
        length = int(text.partition(b' ')[0])
        record = text[:length]
        key, equals, value = record.partition(b' ')[2].partition(b'=')
        if length <= 0 or len(record) != length or not equals or not value.endswith(b'\n'):
            raise ValueError('broken')
        if key.startswith(b'GNU.sparse'):
            raise ValueError('sparse')
        if key == b'size' and not value[:-1].isdigit():
            raise ValueError('size')
        if key in (b'path', b'size'):
            records[key] = value[:-1]
        text = text[length:]
    return records


def _with_progress(items: Iterable[_T], total: int, description: str) -> Iterator[_T]:
    """Goes through items, and shows how far it is once that has taken a few seconds; to be closed."""
    look = time.monotonic() + _PROGRESS_AFTER
    with contextlib.ExitStack() as stack:
        progress = task = None
        for done, item in enumerate(items):
            if time.monotonic() > look:
                look += _PROGRESS_EVERY
                if progress is None:
                    progress = stack.enter_context(Progress(transient=True))
                    task = progress.add_task(description, total=total)
                progress.update(task, completed=done)
            yield item


# The development kit of 2010.


def _leaves(path: pathlib.Path, remedy: str) -> list[tuple[str, str]]:
    """WordNet id and words of the classes in the order of their ILSVRC2010_ID: the synsets without children."""
    from scipy.io import loadmat

    try:
        table = io.BytesIO(path.read_bytes())
    except OSError as error:
        raise UserError(f'{path} cannot be found: {error.strerror}. {remedy}') from error
    try:
        synsets = np.atleast_1d(loadmat(table, squeeze_me=True, variable_names=['synsets'])['synsets'])
        leaves = sorted(
            (int(synset['ILSVRC2010_ID']), str(synset['WNID']), str(synset['words']))
            for synset in synsets
            if int(synset['num_children']) == 0
        )
    except Exception as error:  # scipy raises many kinds, and so does a table that lacks something
        raise UserError(f'{path} cannot be read as the table of the classes: {error!r}. {remedy}') from error
    if not leaves or [number for number, _, _ in leaves] != list(range(1, len(leaves) + 1)):
        raise UserError(f'{path} does not number its classes 1, 2, 3, ... . {remedy}')
    return [(synset, words) for _, synset, words in leaves]


def _distinct(synsets: list[tuple[str, str]]) -> tuple[str, ...]:
    """Each synset's first word, with the WordNet id in brackets where two have the same."""
    first = [words.split(',')[0].strip() for _, words in synsets]
    times = Counter(first)
    return tuple(
        f'{word} ({synset})' if times[word] > 1 else word for word, (synset, _) in zip(first, synsets, strict=True)
    )


def _ground_truth(path: pathlib.Path, classes: int, remedy: str) -> np.ndarray:
    """Labels from a file of one ILSVRC2010_ID a line, int16."""
    try:
        labels = np.array(path.read_text().split(), np.int64) - 1
    except OSError as error:
        raise UserError(f'{path} cannot be found: {error.strerror}. {remedy}') from error
    except ValueError as error:
        raise UserError(f'{path} does not have one whole number a line: {error}. {remedy}') from error
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(wrong):
        raise UserError(
            f'{path} has {labels[wrong[0]] + 1} in line {wrong[0] + 1:,}, where numbers 1..{classes:,} are expected. '
            f'{remedy}'
        )
    return labels.astype(np.int16)
