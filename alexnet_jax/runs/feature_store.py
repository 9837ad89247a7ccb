"""A directory of features: how it is written, bit by bit, so that it may be stopped at any moment.

DIRECTORY/values.npy      float16 [images, values]; np.load(..., mmap_mode='r') opens it at once
DIRECTORY/labels.npy      int32 [images]; -1 where the class is not known
DIRECTORY/files.txt       what each image is called, a line each
DIRECTORY/broken.txt      pictures that could not be read and were left out, a line each
DIRECTORY/features.json   the layer, the network and the images: two directories that agree in it are the same

Until it is complete it is DIRECTORY.partial. Every few seconds what was written is put on disk, and then features.json
says how many images that are; what stands after them is dropped when an extraction carries on.
"""

import contextlib
import io
import itertools
import os
import pathlib
import shutil
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np

from alexnet_jax.runtime.errors import UserError
from alexnet_jax.runtime.files import json_bytes, locked, read_json, replace_file
from alexnet_jax.runtime.formatting import format_bytes

VALUES, LABELS, NAMES, BROKEN, ABOUT = 'values.npy', 'labels.npy', 'files.txt', 'broken.txt', 'features.json'
LOCK = 'lock'
_SAVE_EVERY = 5.0  # seconds
_HEADER = 128  # bytes of an .npy file before its values; NumPy leaves room for any number of images


def check_same(directory: pathlib.Path, about: dict[str, Any]) -> dict[str, Any]:
    """What a directory's features.json says, if that is of what is wanted.

    Args:
      directory: complete or partial.
      about: what is wanted: fields of features.json.

    Raises:
      UserError: it is of something else, or damaged.
    """
    try:
        found = read_json(directory / ABOUT)
        _ = found['images'] + found['left_out']
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f'{directory / ABOUT} is damaged ({error}); delete {directory}.') from error
    for name, value in about.items():
        if found.get(name) != value:
            values = '' if isinstance(value, list) else f': {found.get(name)!r}, and now it is {value!r}'
            raise UserError(
                f'{directory} was made with another {name}{values}. Delete it, or go back to what it was made with.'
            )
    return found


class FeatureFiles:
    """The files of a directory that is being written; a context that closes them.

    Attributes:
      kept: images written.
      left_out: pictures that could not be read.
    """

    def __init__(self, partial: pathlib.Path, about: dict[str, Any], count: int) -> None:
        """Opens them, and drops what was written after the last `save`.

        Args:
          partial: the directory, which may not exist yet.
          about: what features.json shall say; 'values' is the number of an image's values.
          count: images that there will be, at most.

        Raises:
          UserError: the directory is of something else or cannot be written, or the disk is too small, or another
            process is at it.
        """
        self._partial, self._about, self._saved = partial, about, time.monotonic()
        self._needed = count * (2 * about['values'] + 64) + 2**20  # bytes
        self._open = contextlib.ExitStack()
        try:
            partial.mkdir(parents=True, exist_ok=True)
            self._open.enter_context(
                locked(partial / LOCK, lambda holder: f'{partial} is being written by {holder}; wait for it.')
            )
            self._values, self._labels, self._names, self._broken = self._files = [
                self._open.enter_context(
                    os.fdopen(os.open(partial / name, os.O_RDWR | os.O_CREAT, 0o666), 'r+b', buffering=0)
                )
                for name in (VALUES, LABELS, NAMES, BROKEN)
            ]
            self._resume()
        except OSError as error:
            self._open.close()
            raise self._trouble(error) from error
        except UserError:
            self._open.close()
            raise

    def _resume(self) -> None:
        begun = (self._partial / ABOUT).exists()
        found = check_same(self._partial, self._about) if begun else {'images': 0, 'left_out': 0}
        self.kept, self.left_out = found['images'], found['left_out']
        ends = [
            _HEADER + self.kept * 2 * self._about['values'],
            _HEADER + self.kept * 4,
            _after_lines(self._partial / NAMES, self.kept),
            _after_lines(self._partial / BROKEN, self.left_out),
        ]
        done = sum(os.path.getsize(self._partial / name) for name in (VALUES, LABELS, NAMES, BROKEN))
        free = shutil.disk_usage(self._partial).free
        if self._needed - done > free:
            raise UserError(
                f'{self._partial} needs {format_bytes(self._needed - done)} more, and {format_bytes(free)} are free; '
                'free some, and give the same command again.'
            )
        for file, end in zip(self._files, ends, strict=True):
            if begun and os.fstat(file.fileno()).st_size < end:
                raise UserError(f'{self._partial} is damaged: {file.name} is too short. Delete {self._partial}.')
            file.truncate(end)
            file.seek(end)
        self.save()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    @property
    def read(self) -> int:
        """Images that need not be looked at again."""
        return self.kept + self.left_out

    def add(self, values: np.ndarray, labels: Sequence[int], names: Sequence[str], broken: Sequence[str]) -> None:
        """Appends images, and puts them on disk if the last time is a while ago.

        Args:
          values: float16 [images, values].
          labels, names: of the images.
          broken: a line for each picture that comes with them and could not be read.

        Raises:
          UserError: the disk is full, or the like.
        """
        try:
            _append(self._values, values.astype('<f2', copy=False).tobytes())
            _append(self._labels, np.array(labels, '<i4').tobytes())
            _append(self._names, _lines(names))
            _append(self._broken, _lines(broken))
        except OSError as error:
            raise self._trouble(error) from error
        self.kept, self.left_out = self.kept + len(names), self.left_out + len(broken)
        if time.monotonic() - self._saved >= _SAVE_EVERY:
            self.save()

    def save(self) -> None:
        """Puts everything on disk, and then the number of images.

        Raises:
          UserError: the disk is full, or the like.
        """
        try:
            for file in self._files:
                os.fsync(file.fileno())
            about = {**self._about, 'images': self.kept, 'left_out': self.left_out}
            replace_file(self._partial / ABOUT, json_bytes(about))
        except OSError as error:
            raise self._trouble(error) from error
        self._saved = time.monotonic()

    def finish(self, directory: pathlib.Path) -> None:
        """Writes the arrays' headers, and gives the directory its name.

        Raises:
          UserError: the disk is full, or the like.
        """
        try:
            for file, kind, shape in ((self._values, '<f2', (self._about['values'],)), (self._labels, '<i4', ())):
                header = io.BytesIO()
                fields = {'descr': kind, 'fortran_order': False, 'shape': (self.kept, *shape)}
                np.lib.format.write_array_header_1_0(header, fields)
                file.seek(0)
                _append(file, header.getvalue())
            self.save()
            (self._partial / LOCK).unlink()
            self._partial.rename(directory)
        except OSError as error:
            raise self._trouble(error) from error

    def _trouble(self, error: OSError) -> UserError:
        return UserError(
            f'{self._partial} cannot be written: {error.strerror or error}. {format_bytes(self._needed)} are needed in '
            'all; what is done is kept, and the same command carries on.'
        )


def _append(file: BinaryIO, data: bytes) -> None:
    """Writes all of it: an unbuffered file may take less at a time."""
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]


def _lines(texts: Sequence[str]) -> bytes:
    """A line each, whatever bytes a file's name may hold."""
    return ''.join(' '.join(text.splitlines()) + '\n' for text in texts).encode(errors='backslashreplace')


def _after_lines(path: pathlib.Path, count: int) -> int:
    """Where in a file the first `count` lines end."""
    with path.open('rb') as file:
        return sum(map(len, itertools.islice(file, count)))
