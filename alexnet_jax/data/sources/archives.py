"""The files of a data set, read where they are: in a zip, a gzipped tar, or the folder that these unpack to."""

import errno
import os
import pathlib
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from typing import BinaryIO, Protocol, cast

from alexnet_jax.data.sources.base import Identity, identity_of_file
from alexnet_jax.data.sources.gunzipped import Gunzipped
from alexnet_jax.data.sources.published import how_to_get, missing
from alexnet_jax.data.sources.tars import Tar, entries
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.runtime.files import LARGEST, read_file, read_through

_MOST_FILES = 1_000_000  # of the data sets that come so, the largest has 120,203
_UNPACKED = 1 << 63  # for the end of a tar, which is known only when it has been reached


class Files(Protocol):
    """Files in folders, by paths with slashes; names that begin with a dot are left out, as macOS adds some."""

    def folders(self, folder: str = '') -> list[str]:
        """Sorted names of the folders in a folder; none if there is no such folder."""

    def files(self, folder: str = '') -> list[str]:
        """Sorted names of the files in a folder; none if there is no such folder."""

    def read(self, path: str) -> bytes:
        """The content of a file; thread-safe; UserError if it cannot be read."""

    def identity(self, path: str, label: int) -> Identity:
        """What tells whether a file has changed; thread-safe; OSError if it, or the archive, is gone."""

    def error(self, what: str) -> UserError:
        """An error message; `what` follows the name of the archive or the folder."""


def open_files(name: str, directory: str | pathlib.Path, archives: Sequence[str], folder: str, sign: str) -> Files:
    """Opens a published data set in the first form that is there.

    Args:
      name: of the data set, one of `published.PUBLISHED`.
      directory: which holds one of the archives or the folder, or is itself the one or the other.
      archives: file names, which end with .zip, .tgz or .tar.gz.
      folder: to which they unpack; what is beside it is left out.
      sign: a file in that folder, by which it is known under another name.

    Raises:
      MissingFilesError: there is none.
      UserError: it is damaged.
    """
    directory = pathlib.Path(directory)
    remedy = f'If it is damaged, delete it and {how_to_get(name, directory)}.'
    for archive in (directory, *(directory / name for name in archives)):
        if archive.is_file():
            return (ZipFiles if archive.suffix == '.zip' else TarFiles)(archive, folder, remedy)
    if (directory / folder).is_dir():
        return FolderFiles(directory, remedy, folder + '/')
    if (directory / sign).exists() or (directory.name == folder and directory.is_dir()):
        return FolderFiles(directory, remedy)
    raise missing(name, directory)


class FolderFiles:
    """Files on disk."""

    def __init__(self, directory: pathlib.Path, remedy: str, start: str = '') -> None:
        """Takes an existing directory; paths begin at `start` in it."""
        self._directory, self._remedy, self._start = str(directory), remedy, start

    def folders(self, folder: str = '') -> list[str]:
        """As in `Files`."""
        return sorted(entry.name for entry in self._entries(folder) if entry.is_dir())

    def files(self, folder: str = '') -> list[str]:
        """As in `Files`."""
        return sorted(entry.name for entry in self._entries(folder) if not entry.is_dir())

    def read(self, path: str) -> bytes:
        """As in `Files`."""
        try:
            return read_file(self._path(path))
        except (OSError, ValueError) as error:
            reason = getattr(error, 'strerror', None) or error
            raise UserError(f'{self._path(path)} cannot be read: {reason}.') from error

    def identity(self, path: str, label: int) -> Identity:
        """As in `Files`."""
        return identity_of_file(self._directory, self._start + path, label)

    def error(self, what: str) -> UserError:
        """As in `Files`."""
        return UserError(f'{self._path("").rstrip("/")} {what}. {self._remedy}')

    def _path(self, path: str) -> str:
        return os.path.join(self._directory, self._start + path)

    def _entries(self, folder: str) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(self._path(folder)) as entries:
                return [entry for entry in entries if not entry.name.startswith('.')]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise UserError(f'{self._path(folder)} cannot be read: {error.strerror}.') from error


class _Archive:
    """What zips and tars have in common: an index of the files in one of the top folders."""

    def __init__(self, path: pathlib.Path, remedy: str) -> None:
        self._path, self._remedy = path, remedy
        self._places: dict[str, tuple[int, int]] = {}  # where, and size in bytes, by path in the top folder
        self._names: dict[str, list[str]] = {}  # of the files, by folder

    def folders(self, folder: str = '') -> list[str]:
        """As in `Files`."""
        start = folder + '/' if folder else ''
        inside = (name[len(start) :] for name in self._names if name.startswith(start) and name != folder)
        return sorted({name.split('/')[0] for name in inside if name})

    def files(self, folder: str = '') -> list[str]:
        """As in `Files`."""
        return sorted(self._names.get(folder, []))

    def identity(self, path: str, label: int) -> Identity:
        """As in `Files`."""
        _, size = self._place(path)
        return identity_of_file(str(self._path.parent), self._path.name, label, path, size)

    def error(self, what: str) -> UserError:
        """As in `Files`."""
        return UserError(f'{self._path} {what}. {self._remedy}')

    def _add(self, folder: str, files: Iterable[tuple[str, int, int]]) -> None:
        """Makes the index, from paths, places and sizes."""
        for path, place, size in files:
            top, _, path = path.removeprefix('./').partition('/')
            parent, _, name = path.rpartition('/')
            if top != folder or not name or any(part.startswith('.') for part in path.split('/')):
                continue
            if path in self._places:
                raise self.error(f'holds {path!r} twice')
            if len(self._places) == _MOST_FILES:
                raise self.error(f'holds more than {_MOST_FILES:,} files')
            self._places[path] = place, size
            self._names.setdefault(parent, []).append(name)
        if not self._places:
            raise self.error(f'does not hold the folder {folder!r} with files in it')

    def _place(self, path: str) -> tuple[int, int]:
        if path not in self._places:
            raise self.error(f'does not hold {path}')
        return self._places[path]


class ZipFiles(_Archive):
    """Files in a zip."""

    def __init__(self, path: pathlib.Path, folder: str, remedy: str) -> None:
        """Reads the table of contents; UserError if the file is not a whole zip."""
        super().__init__(path, remedy)
        try:
            self._zip = zipfile.ZipFile(path)
        except (OSError, zipfile.BadZipFile, NotImplementedError, ValueError) as error:
            raise self._refused(error, f'is damaged, not completely downloaded, or not a zip ({error})') from error
        infos = self._zip.infolist()
        self._add(folder, ((info.filename, n, info.file_size) for n, info in enumerate(infos)))

    def read(self, path: str) -> bytes:
        """As in `Files`."""
        number, size = self._place(path)
        if size > LARGEST:
            raise self.error(f'holds {path} with {size:,} bytes, more than {LARGEST:,}')
        info = self._zip.infolist()[number]
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise self.error(f'holds {path} compressed in another way than these archives have it')
        try:
            return self._zip.read(info)
        except (OSError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
            raise self._refused(error, f'is damaged: {path} cannot be read ({error})') from error

    def _refused(self, error: Exception, damaged: str) -> UserError:
        """The error to raise: the system's, if it refuses to read the archive, which `zipfile` may call damage."""
        try:
            if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):  # EINVAL: a wrong position
                raise error
            read_through(self._path)
        except OSError as reason:
            return self.error(f'cannot be read: {reason.strerror}')
        return self.error(damaged)


class TarFiles(_Archive):
    """Files in a gzipped tar."""

    def __init__(self, path: pathlib.Path, folder: str, remedy: str) -> None:
        """Reads all of the file, with a check of its checksum; UserError if it is damaged or not such a file."""
        super().__init__(path, remedy)
        try:
            self._content = Gunzipped(path)
            self._add(folder, entries(Tar(path, 0, _UNPACKED, remedy), cast(BinaryIO, self._content)))
        except OSError as error:
            raise self.error(f'cannot be read: {error}') from error

    def read(self, path: str) -> bytes:
        """As in `Files`."""
        offset, size = self._place(path)
        try:
            content = self._content.pread(min(size, LARGEST), offset)
        except OSError as error:
            raise self.error(f'cannot be read: {error}') from error
        if len(content) != size:
            raise self.error(f'does not hold all of {path}')
        return content
