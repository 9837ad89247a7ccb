"""Images in tar files, read where they lie: a tar, or a tar in a tar, is indexed once and never unpacked.

The index is made with Python's tarfile; from then on an image is one read at a known place. Names in a tar are only
compared and shown: nothing is ever written by them.
"""

import contextlib
import os
import pathlib
import re
import tarfile
from collections.abc import Iterable, Iterator
from typing import BinaryIO, NamedTuple

import numpy as np

from alexnet_jax.data.sources.base import Item
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.runtime.files import LARGEST

# What is kept of an image: 50 bytes. The names of ImageNet's have up to 34 characters.
_IMAGE = np.dtype([('name', 'S34'), ('offset', np.int64), ('size', np.int32), ('tar', np.int16), ('label', np.int16)])
_BLOCK = 512  # bytes; a tar is made of these, and a block of zeros closes it
_LONGEST_HEADER = 1 << 20  # bytes
_LARGEST_PADDING = 1 << 22  # bytes from the closing zeros to the end; tar itself fills up to 10,240


class Tar(NamedTuple):
    """A tar file, or a tar in a tar.

    Attributes:
      path: the file on disk.
      start: where the tar begins in the file, in bytes.
      end: where it ends.
      remedy: what to do if something is wrong with it, as whole sentences.
      inner: its name, if it is a tar in a tar.
    """

    path: pathlib.Path
    start: int
    end: int
    remedy: str
    inner: str = ''

    def error(self, what: str) -> UserError:
        """The error that something is wrong with this tar."""
        return UserError(f'{self.inner and f"{self.inner} in "}{self.path} {what}. {self.remedy}')


def find_tar(path: pathlib.Path, remedy: str) -> Tar:
    """A tar file on disk, all of it; UserError if there is none."""
    if not path.is_file():
        raise UserError(f'{path} cannot be found. {remedy}')
    return Tar(path, 0, path.stat().st_size, remedy)


def members(tar: Tar) -> Iterator[tuple[str, int, int]]:
    """The files in a tar, without the folders that they are in.

    Yields:
      Last part of the name, where the bytes begin in the file on disk, how many they are.

    Raises:
      UserError: it is no tar, is damaged or cut short, or holds a link, a device, a sparse file, or a name that is
        absolute or climbs with `..`.
    """
    try:
        with open(tar.path, 'rb', buffering=2 * _BLOCK) as file:  # some file systems would have megabytes
            file.seek(tar.start)
            position = tar.start  # of the next header
            wrong = (tarfile.TarError, ValueError, RecursionError)  # what it is, `_check_end` says
            with contextlib.suppress(*wrong), tarfile.open(fileobj=_Bounded(file), mode='r:') as archive:
                while position < tar.end and (member := archive.next()):
                    archive.members.clear()  # else they would all be kept
                    position = archive.offset
                    _check_member(tar, member, position)
                    if not member.isdir():
                        yield member.name.rpartition('/')[2], member.offset_data, member.size
            _check_end(tar, file, position)
    except OSError as error:
        raise UserError(f'{tar.path} cannot be read: {error}. {tar.remedy}') from error


class _Bounded:
    """A file of which tarfile may not read much at a time, as it would for a name that claims to be gigabytes long."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.seek, self.tell = file, file.seek, file.tell

    def read(self, size: int) -> bytes:
        """Reads up to `size` bytes; `tarfile.ReadError` if they are more than any name or header has."""
        if not 0 <= size <= _LONGEST_HEADER:
            raise tarfile.ReadError(f'a header of {size:,} bytes')
        return self._file.read(size)


def inner_tars(tar: Tar) -> Iterator[tuple[str, Tar]]:
    """The files in a tar, by last part of the name, as tars."""
    for name, offset, size in members(tar):
        yield name, Tar(tar.path, offset, offset + size, tar.remedy, name)


def _check_member(tar: Tar, member: tarfile.TarInfo, end: int) -> None:
    if end > tar.end:
        raise tar.error(f'is cut short: its {tar.end - tar.start:,} bytes end in the middle of {member.name!r}')
    if member.name.startswith('/') or '..' in member.name.split('/'):
        raise tar.error(f'holds {member.name!r}, a name that leads out of the tar')
    if member.issparse() or not (member.isreg() or member.isdir()):
        raise tar.error(f'holds {member.name!r}, which is a link or something else than a plain file')


def _check_end(tar: Tar, file: BinaryIO, position: int) -> None:
    """Raises UserError unless the tar ends here with a block of zeros: tarfile takes other things for an end too."""
    file.seek(position)
    block = file.read(min(_BLOCK, tar.end - position))
    if tar.inner and position == tar.end > tar.start:
        return  # the tar around it says that this is all
    if len(block) < _BLOCK:
        raise tar.error(f'is cut short: its {tar.end - tar.start:,} bytes end without the block of zeros of a tar')
    if any(block):
        damaged = f'is damaged: at byte {position:,} there is no header that makes sense'
        raise tar.error(damaged if position > tar.start else 'is not a tar file')
    if tar.end - position > _LARGEST_PADDING:
        raise tar.error(f'is damaged or not wholly downloaded: from byte {position:,} on it is empty')


def find_images(tar: Tar, files: Iterable[tuple[str, int, int]], names: str, folder: str = '') -> np.ndarray:
    """Where the images of a tar are, sorted by name.

    Args:
      tar: which one.
      files: its members.
      names: a regular expression, which they all must match.
      folder: to put in front of the names.

    Returns:
      Array of `_IMAGE`; tar and label are 0.

    Raises:
      UserError: there are none, or two of a name, or other files.
    """
    pattern, found = re.compile(names), {}
    for name, offset, size in files:
        if not pattern.fullmatch(name):
            raise tar.error(f'holds {name!r}, where only images named like {names} are expected')
        if name in found:
            raise tar.error(f'holds {name} twice')
        if not 0 < size <= LARGEST:
            raise tar.error(f'holds {name} with {size:,} bytes, which cannot be an image')
        found[name] = (folder + name, offset, size, 0, 0)
    if not found:
        raise tar.error('is empty: it holds no image')
    return np.array(sorted(found.values()), _IMAGE)


class Images:
    """The images of a split."""

    def __init__(self, tars: list[Tar], images: np.ndarray) -> None:
        """Takes what `find_images` found, with the labels and, for each image, which of the tars it is in."""
        self._tars, self._images = tars, images

    def __len__(self) -> int:
        return len(self._images)

    def item(self, index: int) -> Item:
        """Opens the file, reads one image, closes the file: nothing is shared between threads or processes."""
        name, offset, size, tar, label = self._images[index].item()
        name, tar = name.decode(), self._tars[tar]
        try:
            with open(tar.path, 'rb', buffering=0) as file:
                image = os.pread(file.fileno(), size, offset)
        except OSError as error:
            raise UserError(f'Reading {name} from {tar.path} failed: {error}.') from error
        if len(image) != size:
            raise tar.error(f'has become shorter since it was opened: {name} is no longer whole')
        return Item(name, image, label)
