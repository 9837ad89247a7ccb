"""Random access to images in tar files, and in tars inside tars, without unpacking them.

Python's tarfile makes an index once; then an image is one read at a known offset. Names in a tar are only compared and
printed, and never used to write.
"""

import contextlib
import os
import pathlib
import re
import tarfile
from collections.abc import Iterable, Iterator
from typing import IO, Any, BinaryIO, NamedTuple, cast

import numpy as np

from alexnet_jax.data.sources.base import Identity, Item, identity_of_file
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.runtime.files import LARGEST

# The index of an image: 50 bytes. ImageNet's names have up to 34 characters.
_IMAGE = np.dtype([('name', 'S34'), ('offset', np.int64), ('size', np.int32), ('tar', np.int16), ('label', np.int16)])
_BLOCK = 512  # bytes; a tar consists of blocks and ends with one of zeros
_MAX_HEADER = 1 << 20  # bytes
_MAX_PADDING = 1 << 22  # bytes of zeros at the end; tar itself pads to 10,240


class Tar(NamedTuple):
    """A tar file, or a tar in a tar."""

    path: pathlib.Path  # of the file on disk
    start: int  # offset of the tar in the file, in bytes
    end: int
    remedy: str  # for error messages, as whole sentences
    inner: str = ''  # name of a tar inside a tar

    def error(self, what: str) -> UserError:
        """An error message about this tar; `what` follows its name."""
        return UserError(f'{self.inner and f"{self.inner} in "}{self.path} {what}. {self.remedy}')


def find_tar(path: pathlib.Path, remedy: str) -> Tar:
    """A whole tar file; UserError if there is none."""
    if not path.is_file():
        raise UserError(f'{path} cannot be found. {remedy}')
    return Tar(path, 0, path.stat().st_size, remedy)


def members(tar: Tar) -> Iterator[tuple[str, int, int]]:
    """The files in a tar.

    Yields:
      File name without folders, offset in the file on disk, size in bytes.

    Raises:
      UserError: it is not a tar, is damaged or cut short, or has a link, a device, a sparse file, or a name that is
        absolute or contains `..`.
    """
    try:
        with open(tar.path, 'rb', buffering=2 * _BLOCK) as file:  # some file systems' default is megabytes
            for path, offset, size in entries(tar, file):
                yield path.rpartition('/')[2], offset, size
    except OSError as error:
        raise UserError(f'{tar.path} cannot be read: {error}. {tar.remedy}') from error


def entries(tar: Tar, file: BinaryIO) -> Iterator[tuple[str, int, int]]:
    """As `members`, from an opened file, and with whole paths; OSError if it cannot be read."""
    file.seek(tar.start)
    position = tar.start  # of the next header
    errors = (tarfile.TarError, ValueError, RecursionError)  # `_check_end` explains them
    bounded = cast(IO[bytes], _Bounded(file))
    with contextlib.suppress(*errors), tarfile.open(fileobj=bounded, mode='r:') as archive:
        while position < tar.end and (member := archive.next()):
            archive.members.clear()  # type: ignore[attr-defined]  # CPython's; it would keep them all
            position = archive.offset
            _check_member(tar, member, position)
            if not member.isdir():
                yield member.name, member.offset_data, member.size
    _check_end(tar, file, position)


class _Bounded:
    """A file that refuses large reads, as tarfile makes them for a name that claims to be gigabytes long."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.seek, self.tell = file, file.seek, file.tell

    def read(self, size: int) -> bytes:
        """Reads up to `size` bytes; `tarfile.ReadError` if that is more than a header has."""
        if not 0 <= size <= _MAX_HEADER:
            raise tarfile.ReadError(f'a header of {size:,} bytes')
        return self._file.read(size)


def inner_tars(tar: Tar) -> Iterator[tuple[str, Tar]]:
    """The files in a tar as tars, with their names without folders."""
    for name, offset, size in members(tar):
        yield name, Tar(tar.path, offset, offset + size, tar.remedy, name)


def _check_member(tar: Tar, member: tarfile.TarInfo, end: int) -> None:
    if end > tar.end:
        raise tar.error(f'is cut short: its {tar.end - tar.start:,} bytes end in the middle of {member.name!r}')
    if member.name.startswith('/') or '..' in member.name.split('/'):
        raise tar.error(f'holds {member.name!r}, a name that leads out of the tar')
    if member.issparse() or not (member.isreg() or member.isdir()):
        raise tar.error(f'holds {member.name!r}, which is a link or another special file')


def _check_end(tar: Tar, file: BinaryIO, position: int) -> None:
    """Raises UserError unless the tar ends here with a block of zeros; tarfile accepts other ends too."""
    tar = tar._replace(end=min(tar.end, file.seek(0, os.SEEK_END)))
    file.seek(position)
    block = file.read(max(0, min(_BLOCK, tar.end - position)))
    if tar.inner and position == tar.end > tar.start:
        return  # by the size in the outer tar
    if len(block) < _BLOCK:
        raise tar.error(f'is cut short: its {tar.end - tar.start:,} bytes end without the block of zeros of a tar')
    if any(block):
        damaged = f'is damaged: there is no valid header at byte {position:,}'
        raise tar.error(damaged if position > tar.start else 'is not a tar file')
    if tar.end - position > _MAX_PADDING:
        raise tar.error(f'is damaged or not completely downloaded: it is empty from byte {position:,} on')


def find_images(tar: Tar, files: Iterable[tuple[str, int, int]], names: str, folder: str = '') -> np.ndarray:
    """The index of a tar's images, sorted by name: an array of `_IMAGE`, in which tar and label are 0.

    Args:
      tar, files: the tar and its members.
      names: regular expression that all names must match.
      folder: prefix of the names in the index.

    Raises:
      UserError: there are no images, two of a name, or other files.
    """
    pattern = re.compile(names)
    found: dict[str, tuple[Any, ...]] = {}
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
        """Takes the index of `find_images`, in which label and number of the tar are set."""
        self._tars, self._images = tars, images

    def __len__(self) -> int:
        return len(self._images)

    def item(self, index: int) -> Item:
        """Reads an image, opening the file for it: nothing is shared between threads or processes."""
        encoded_name, offset, size, number, label = self._images[index].item()
        name, tar = encoded_name.decode(), self._tars[number]
        try:
            with open(tar.path, 'rb', buffering=0) as file:
                image = os.pread(file.fileno(), size, offset)
        except OSError as error:
            raise UserError(f'Reading {name} from {tar.path} failed: {error}.') from error
        if len(image) != size:
            raise tar.error(f'has become shorter since it was opened: {name} is no longer whole')
        return Item(name, image, label)

    def identity(self, index: int, directory: str) -> Identity:
        """The tar's path in the source's directory and its time, and an image's offset and size in it."""
        name, offset, size, number, label = self._images[index].item()
        path = str(self._tars[number].path).removeprefix(directory + '/')
        return identity_of_file(directory, path, label, f'{name.decode()} at {offset}', size)
