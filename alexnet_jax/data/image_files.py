"""Image files in folders, found by the same rules in every mode, and read in threads.

* An image is a file with one of `formats.EXTENSIONS`, in upper or lower case.
* Symbolic links are followed; one that leads back to a folder that it is in is not, and one that leads nowhere is an
  error.
* Names that begin with a dot, and folders that systems make for themselves, are not looked into.
* A folder that cannot be read is an error.

What is left out is counted, by kind.
"""

import collections
import concurrent.futures
import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from alexnet_jax.data import formats
from alexnet_jax.data.images import MAX_MEGAPIXELS, normalized
from alexnet_jax.runtime.devices import available_cores
from alexnet_jax.runtime.errors import UserError, shown
from alexnet_jax.runtime.files import read_file

# Of macOS's archiver, Synology's thumbnails, and the roots of disks.
_OF_SYSTEMS = ('__MACOSX', '@eaDir', 'lost+found', '$RECYCLE.BIN', 'System Volume Information')
_SHOWN = 8  # kinds in a message


@dataclasses.dataclass
class LeftOut:
    """What a search for images left out.

    Attributes:
      kinds: files of other kinds, by extension in lower case, '' for none; pipes and the like as 'no file'.
      hidden: paths of folders that are not looked into.
      hidden_files: number of files whose names begin with a dot.
      circular: paths of symbolic links that lead back to a folder that they are in.
    """

    kinds: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    hidden: list[str] = dataclasses.field(default_factory=list)
    hidden_files: int = 0
    circular: list[str] = dataclasses.field(default_factory=list)

    def add(self, other: 'LeftOut') -> None:
        """Adds what another search left out."""
        self.kinds.update(other.kinds)
        self.hidden += other.hidden
        self.hidden_files += other.hidden_files
        self.circular += other.circular

    def counts(self) -> dict[str, int]:
        """Numbers by kind, without paths."""
        others = {
            'hidden folder': len(self.hidden),
            'hidden file': self.hidden_files,
            'circular link': len(self.circular),
        }
        files = {shown(kind) or 'without extension': count for kind, count in self.kinds.most_common()}
        return files | {kind: count for kind, count in others.items() if count}

    def parts(self) -> list[str]:
        """Each kind as a phrase, as in '24 files of other kinds (.heic 24)'."""
        found = []
        if self.kinds:
            most = sorted(self.kinds.items(), key=lambda kind: (-kind[1], kind[0]))[:_SHOWN]
            kinds = [f'{shown(kind) or "without extension"} {count:,}' for kind, count in most]
            more = ', ...' if len(self.kinds) > _SHOWN else ''
            found.append(f'{counted(self.kinds.total(), "file")} of other kinds ({", ".join(kinds)}{more})')
        if self.hidden:
            found.append(f'{counted(len(self.hidden), "hidden folder")} ({_listed(self.hidden)})')
        if self.hidden_files:
            found.append(counted(self.hidden_files, 'hidden file'))
        if self.circular:
            links = counted(len(self.circular), 'symbolic link')
            found.append(f'{links} leading back to a folder around it ({_listed(self.circular)})')
        return found

    def remedies(self) -> list[str]:
        """What to do about images of kinds that are not read here, as in '.heic: convert to JPEG'."""
        return [f'{kind}: {formats.remedy(kind)}' for kind in sorted(self.kinds) if formats.remedy(kind)]

    def lines(self, where: str) -> list[str]:
        """The message about a folder; none if nothing was left out."""
        parts = self.parts()
        return [f'Left out of {shown(where)}: {"; ".join(parts)}.', *self.remedies()] if parts else []


def counted(count: int, noun: str) -> str:
    """A number with its noun, as in '1,000 files'."""
    return f'{count:,} {noun}{"s" * (count != 1)}'


def _listed(paths: Sequence[str]) -> str:
    return ', '.join(map(shown, sorted(paths)[:3])) + ', ...' * (len(paths) > 3)


class Entry(NamedTuple):
    """What is in a folder: a folder, or a file or something else."""

    name: str
    path: str
    is_folder: bool
    is_file: bool

    def kind_left_out(self) -> str | None:
        """The kind of a file that is no image, as in `LeftOut.kinds`; None for an image."""
        if not self.is_file:
            return 'no file'
        name = self.name.lower()
        return None if name.endswith(formats.EXTENSIONS) else os.path.splitext(name)[1]


def entries(folder: str, left_out: LeftOut) -> list[Entry]:
    """The entries of a folder that are not hidden.

    Raises:
      UserError: it cannot be read, or has a symbolic link that leads nowhere.
    """
    kept, path = [], folder
    try:
        with os.scandir(folder) as found:
            for entry in found:
                path = entry.path
                if entry.name in _OF_SYSTEMS or entry.name.startswith('.'):
                    if entry.is_dir():
                        left_out.hidden.append(path)
                    else:
                        left_out.hidden_files += 1
                    continue
                if entry.is_symlink():
                    _check_link(path)
                kept.append(Entry(entry.name, path, entry.is_dir(), entry.is_file()))
    except OSError as error:
        raise UserError(f'{shown(path)} cannot be read: {error.strerror}.') from error
    return kept


def _check_link(path: str) -> None:
    try:
        os.stat(path)
    except OSError as error:
        why = 'which is not there' if isinstance(error, FileNotFoundError) else error.strerror
        target = shown(os.readlink(path))
        raise UserError(f'The symbolic link {shown(path)} leads to {target!r}, {why}. Repair or remove it.') from error


def find_images(directory: str, left_out: LeftOut, folder: str = '') -> Iterator[str]:
    """Finds the images in a folder and in the folders inside it.

    Args:
      directory: the folder, or one above it.
      left_out: is extended.
      folder: path of the folder in `directory`.

    Yields:
      Paths relative to `directory`, in no order.

    Raises:
      UserError: as for `entries`.
    """
    parts = folder.split(os.sep) if folder else []
    above = frozenset(_identity(os.path.join(directory, *parts[:depth])) for depth in range(len(parts)))
    waiting = [(folder, above)]  # with what the folders around it are known by
    while waiting:
        folder, above = waiting.pop()
        where = os.path.join(directory, folder) if folder else directory
        identity = _identity(where)
        if identity in above:
            left_out.circular.append(where)
            continue
        for entry in entries(where, left_out):
            path = os.path.join(folder, entry.name)
            if entry.is_folder:
                waiting.append((path, above | {identity}))
            elif (kind := entry.kind_left_out()) is None:
                yield path
            else:
                left_out.kinds[kind] += 1


def _identity(folder: str) -> tuple[int, int] | str:
    """What tells a folder from others, whatever its path; its path on a file system without inodes."""
    try:
        status = os.stat(folder)
    except OSError as error:
        raise UserError(f'{shown(folder)} cannot be read: {error.strerror}.') from error
    return (status.st_dev, status.st_ino) if status.st_ino else folder


class ImageFile(NamedTuple):
    """An image file, read or not."""

    path: str
    pixels: np.ndarray | None  # uint8 [size, size, 3], RGB; None if it cannot be read
    error: str  # why it cannot be read; otherwise ''


def check_named(paths: Sequence[str]) -> None:
    """Raises UserError where there are no paths, or one does not exist."""
    if not paths:
        raise UserError('--images is missing: image files or folders, as in --images=cat.jpg,holiday/.')
    for path in paths:
        try:
            os.stat(path)
        except (FileNotFoundError, NotADirectoryError, ValueError) as error:
            raise UserError(f'--images: there is no file {shown(path)}.') from error
        except OSError as error:
            raise UserError(f'--images: {shown(path)} cannot be read: {error.strerror}.') from error


def find_image_files(paths: Sequence[str], say: Callable[[str], None]) -> list[str]:
    """Lists the image files that a user named: files with any extension, and folders.

    The images of a folder are in the order of their paths, by code points; what is left out of it is said.

    Raises:
      UserError: there are no paths, one does not exist, or a folder has no image or cannot be read.
    """
    check_named(paths)
    found = []
    for path in paths:
        if os.path.isdir(path):
            left_out = LeftOut()
            inside = sorted((os.path.join(path, name) for name in find_images(path, left_out)), key=os.fsencode)
            if not inside:
                but = ', but '.join(['', *left_out.parts()[:1]])
                remedies = ''.join(f' {remedy}.' for remedy in left_out.remedies())
                known = ' '.join(formats.EXTENSIONS)
                raise UserError(f'--images: the folder {shown(path)} has no image{but}.{remedies} Images are: {known}')
            for line in left_out.lines(path):
                say(line)
            found += inside
            continue
        found.append(path)
    return found


def read_image_files(
    paths: Sequence[str], size: int, threads: int = 0, max_megapixels: float = MAX_MEGAPIXELS
) -> Iterator[ImageFile]:
    """Reads image files in order, in threads (0 for one a core, up to 16), as `size` x `size` pixels.

    Yields:
      One for each path, whether or not it can be read.
    """

    def read(path: str) -> ImageFile:
        try:
            return ImageFile(path, normalized(read_file(path), size, max_megapixels=max_megapixels), '')
        except (OSError, ValueError) as error:
            return ImageFile(path, None, getattr(error, 'strerror', None) or str(error))

    threads = threads or min(16, available_cores())
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        waiting: collections.deque[concurrent.futures.Future[ImageFile]] = collections.deque()
        for path in paths:
            waiting.append(pool.submit(read, path))
            if len(waiting) > 4 * threads:
                yield waiting.popleft().result()
        for future in waiting:
            yield future.result()
